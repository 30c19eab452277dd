//! A retry takes a fresh clone of the service for each further attempt.

use std::task::{Context, Poll};

use buttress::{Retry, RetryLayer, ServiceBuilderExt};
use tower::{BoxError, Service, ServiceBuilder};

struct Connection;

impl Service<String> for Connection {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: String) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

fn main() {
    let retry = Retry::with_defaults("queries").unwrap();
    let _service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .guarded_service(Connection);
}
