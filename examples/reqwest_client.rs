//! A reqwest client with policies for each host: `cargo run --example reqwest_client --features reqwest`.
//!
//! It brings its own servers: one is well and slow to begin with, the other is down.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    Backoff, BulkheadConfig, CircuitBreakerConfig, KeyedConfig, RetryConfig, Stack, TimeoutConfig,
    reqwest::Client,
};
use http::StatusCode;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let each_host = Stack::builder()
        .retry(
            RetryConfig::new()
                .backoff(Backoff::fixed(Duration::from_millis(20)))
                .build("web")?,
        )
        .circuit_breaker(
            CircuitBreakerConfig::new()
                .count_window(10)
                .minimum_calls(5)
                .build("web")?,
        )
        .timeout(TimeoutConfig::new(Duration::from_secs(1)).build("web")?)
        .bulkhead(BulkheadConfig::new(32).build("web")?)
        .build()?;
    let client = Client::builder(reqwest::Client::new())
        .stack_per_authority(each_host, KeyedConfig::new().max_keys(500))
        .build()?;

    // Its first two answers are 503: a GET is sent again.
    let well = serve(2).await?;
    let answer = client.get(&well).send().await?.error_for_status()?.text().await?;
    show(format_args!("GET {well}: {answer}"));

    // The other host is down. Its breaker opens, and nobody waits for it any more.
    let down = serve(u32::MAX).await?;
    for _ in 0..3 {
        match client.get(&down).send().await {
            Ok(response) => show(format_args!("GET {down}: {}", response.status())),
            Err(error) => show(format_args!("GET {down}: {error}")),
        }
    }

    // The first host has a breaker of its own. A POST is sent once, unless it says that it may be sent again.
    let response = client.post(&well).body("7").idempotent().send().await?;
    show(format_args!("POST {well}: {}", response.status()));
    Ok(())
}

/// Serves on loopback; the first `failures` answers are 503.
async fn serve(failures: u32) -> Result<String, Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let calls = Arc::new(AtomicU32::new(0));
    let app = axum::Router::new().fallback(move || {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if call <= failures {
                (StatusCode::SERVICE_UNAVAILABLE, "not now".to_owned())
            } else {
                (StatusCode::OK, format!("well, at attempt {call}"))
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

#[allow(clippy::print_stdout)]
fn show(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}
