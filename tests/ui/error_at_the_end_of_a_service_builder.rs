//! `guarded_service` ends the chain: a service whose error cannot hold a rejection is refused there.

use std::io;

use buttress::{ServiceBuilderExt, Timeout, TimeoutLayer};
use tower::{ServiceBuilder, service_fn};

async fn read(path: String) -> Result<String, io::Error> {
    Ok(path)
}

fn main() {
    let timeout = Timeout::with_defaults("files").unwrap();
    let _service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout))
        .guarded_service(service_fn(read));
}
