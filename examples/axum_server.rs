//! An axum server behind a circuit breaker, a timeout and a bulkhead. It asks itself a few times what it does, and ends.
//!
//! ```text
//! cargo run --example axum_server --features axum
//! ```
#![allow(clippy::print_stdout)]

use std::{error::Error, future::pending, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use buttress::{BulkheadConfig, CircuitBreakerConfig, Stack, TimeoutConfig, axum::PolicyLayer};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stack = Stack::builder()
        .circuit_breaker(
            CircuitBreakerConfig::new()
                .consecutive_failures(3)
                .build("shop")?,
        )
        .timeout(TimeoutConfig::new(Duration::from_millis(200)).build("shop")?)
        .bulkhead(BulkheadConfig::new(64).build("shop")?)
        .build()?;
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/slow", get(pending::<()>))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        // One line: the state is one over all routes and connections.
        .layer(PolicyLayer::new(stack));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });

    let client: Client<_, Empty<&[u8]>> = Client::builder(TokioExecutor::new()).build_http();
    for path in ["/", "/slow", "/broken", "/broken", "/"] {
        let response = client.get(format!("http://{address}{path}").parse()?).await?;
        let (status, after) = (response.status(), response.headers().get("retry-after").cloned());
        let body = response.into_body().collect().await?.to_bytes();
        println!("{path:8} {status} {}", String::from_utf8_lossy(&body));
        if let Some(after) = after {
            println!("         come back in {} s", after.to_str()?);
        }
    }
    Ok(())
}
