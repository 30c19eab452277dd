//! Metrics for Prometheus: a client in trouble, and what its policies publish.
//!
//! ```text
//! cargo run --example metrics -- --port 9464
//! curl http://127.0.0.1:9464/metrics
//! ```
//!
//! `--for 20s` ends it after that time. The rules and the dashboard under `ops/` read what it publishes; the page
//! `docs/metrics.md` says what it means.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{
    error::Error,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress::{
    BulkheadConfig, CircuitBreakerConfig, Clock, KeyedConfig, Metrics, Registry, RetryConfig, Settings,
    StackConfig, TimeoutConfig,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// What histograms of durations are cut at. Without this the exporter makes summaries, which cannot be added up.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

fn payments(limit: u32) -> Settings {
    let payments = StackConfig::new()
        .stage("retry", RetryConfig::new().max_attempts(3))
        .stage(
            "circuit_breaker",
            CircuitBreakerConfig::new()
                .count_window(50)
                .open_wait(Duration::from_secs(1)),
        )
        .stage("timeout", TimeoutConfig::new(Duration::from_millis(80)))
        .stage(
            "bulkhead",
            BulkheadConfig::new(limit)
                .max_wait(Duration::from_millis(20))
                .max_queue(4),
        );
    let tenants = StackConfig::new()
        .stage("bulkhead", BulkheadConfig::new(2))
        .keyed("authority", KeyedConfig::new().max_keys(8));
    Settings::new()
        .stack("payments", payments)
        .stack("tenants", tenants)
}

/// Fails most calls for two seconds out of four, and is slow with some.
async fn sick(call: u64, millis: u64) -> Result<(), io::Error> {
    let slow = call.is_multiple_of(50);
    tokio::time::sleep(Duration::from_millis(if slow { 200 } else { 2 + call % 7 })).await;
    if millis / 2000 % 2 == 1 && !call.is_multiple_of(4) {
        return Err(io::Error::other("sick"));
    }
    Ok(())
}

async fn load(registry: Registry) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (payments, tenants) = (registry.stack("payments")?, registry.keyed_stack("tenants")?);
    let calls = Arc::new(AtomicU64::new(0));
    let began = Clock::tokio().now();
    for round in 0.. {
        for _ in 0..20 {
            let (payments, calls) = (payments.clone(), Arc::clone(&calls));
            tokio::spawn(async move {
                let millis = u64::try_from(Clock::tokio().now().since(began).as_millis()).unwrap_or(0);
                let call = || sick(calls.fetch_add(1, Ordering::Relaxed), millis);
                // What became of it is in the metrics.
                let _ = payments.run(call).await;
            });
        }
        let tenant = tenants.get(&format!("tenant-{}", round % 10));
        let _ = tenant.run(|| async { Ok::<_, io::Error>(()) }).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn arguments() -> Result<(u16, Option<Duration>), lexopt::Error> {
    use lexopt::{Arg::Long, ValueExt};
    let (mut port, mut length) = (9464, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => port = parser.value()?.parse()?,
            Long("for") => {
                let seconds = |text: &str| text.trim_end_matches('s').parse().map(Duration::from_secs);
                length = Some(parser.value()?.parse_with(seconds)?);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((port, length))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let (port, length) = arguments()?;
    let registry = Registry::builder().build(payments(8))?;
    let publishing = Metrics::new().registry(&registry).spawn()?;

    // The recorder may come after the stacks.
    PrometheusBuilder::new()
        .with_http_listener((Ipv4Addr::LOCALHOST, port))
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(
            Matcher::Suffix("retry_attempts".to_owned()),
            &[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0],
        )?
        .install()?;
    println!("metrics: http://127.0.0.1:{port}/metrics");

    // Settings that are wrong are not taken.
    if let Err(errors) = registry.apply(payments(0)) {
        println!("{errors}");
    }
    let load = tokio::spawn(load(registry));
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => tokio::signal::ctrl_c().await?,
    }
    load.abort();
    drop(publishing);
    Ok(())
}
