//! `ready` and `oneshot` of a guarded service are its own, so that they can say what is wrong.

use std::io;

use buttress::{Timeout, TimeoutLayer};
use tower::{ServiceBuilder, service_fn};

async fn read(path: String) -> Result<String, io::Error> {
    Ok(path)
}

async fn call() {
    let timeout = Timeout::with_defaults("files").unwrap();
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout))
        .service(service_fn(read));
    let _ = service.ready::<String>().await;
    let _ = service.oneshot(String::new()).await;
}

fn main() {
    let _ = call();
}
