//! A function that takes any service.

use std::io;

use buttress::{Timeout, TimeoutLayer};
use tower::{Service, ServiceBuilder, service_fn};

async fn read(path: String) -> Result<String, io::Error> {
    Ok(path)
}

fn serve<S: Service<String>>(_service: S) {}

fn main() {
    let timeout = Timeout::with_defaults("files").unwrap();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout))
        .service(service_fn(read));
    serve(service);
}
