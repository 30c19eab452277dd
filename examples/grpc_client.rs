//! A gRPC client whose calls are retried behind a circuit breaker. The server is its own: it says that it is
//! unavailable at first, and when to come back.
//!
//! ```text
//! cargo run --example grpc_client --features grpc
//! ```
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::{
    error::Error,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use buttress::{
    AdaptLayer, CircuitBreaker, Retry, Stack, Timeout,
    http::{AttemptsMade, HttpExchange, ReplayBodies},
};
use tonic::{
    Status,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer},
    server::HealthService,
};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    let (reporter, _) = tonic_health::server::health_reporter();
    let health = HealthServer::with_interceptor(HealthService::from_health_reporter(reporter), busy_at_first);
    tokio::spawn(
        Server::builder()
            .add_service(health)
            .serve_with_incoming(incoming),
    );

    let stack = Stack::builder()
        .retry(Retry::with_defaults("health")?)
        .circuit_breaker(CircuitBreaker::with_defaults("health")?)
        .timeout(Timeout::with_defaults("health")?)
        .build()?;
    // Every gRPC call is a POST: say which ones may be sent twice.
    let exchange = HttpExchange::grpc_client().resend_if(|request| request.path.ends_with("/Check"));
    let channel = ServiceBuilder::new()
        .layer(
            stack
                .prepare(ReplayBodies::new().wrapped(tonic::body::Body::new))
                .exchange(exchange),
        )
        .layer(AdaptLayer::new())
        .service(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());

    let began = Instant::now();
    let response = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    let attempts = response
        .extensions()
        .get()
        .map_or(1, |AttemptsMade(attempts)| *attempts);
    let status = response.get_ref().status().as_str_name();
    println!("{status} after {attempts} attempts and {:?}", began.elapsed());
    Ok(())
}

/// Pushes the first call back.
fn busy_at_first(request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    if CALLS.fetch_add(1, Ordering::Relaxed) > 0 {
        return Ok(request);
    }
    let mut status = Status::unavailable("starting");
    let pushback = Duration::from_millis(250).as_millis().to_string();
    let pushback = pushback.parse().map_err(|_| Status::internal("no number"))?;
    status.metadata_mut().insert("grpc-retry-pushback-ms", pushback);
    Err(status)
}
