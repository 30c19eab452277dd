//! A boxed service names its error, which must be able to hold a rejection.

use std::io;

use buttress::{Timeout, TimeoutLayer};
use tower::{ServiceBuilder, service_fn, util::BoxCloneService};

async fn read(path: String) -> Result<String, io::Error> {
    Ok(path)
}

fn main() {
    let timeout = Timeout::with_defaults("files").unwrap();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout))
        .service(service_fn(read));
    let _boxed: BoxCloneService<String, String, io::Error> = BoxCloneService::new(service);
}
