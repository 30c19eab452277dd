//! A retry clones requests unless it is told otherwise.

use buttress::{Retry, RetryLayer, ServiceBuilderExt};
use tower::{BoxError, Service, ServiceBuilder, service_fn};

struct Upload;

async fn store(_upload: Upload) -> Result<(), BoxError> {
    Ok(())
}

fn serve<S: Service<Upload>>(_service: S) {}

async fn call() {
    let retry = Retry::with_defaults("uploads").unwrap();
    let _at_the_end = ServiceBuilder::new()
        .layer(RetryLayer::new(retry.clone()))
        .guarded_service(service_fn(store));

    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .service(service_fn(store));
    serve(service.clone());
    let _ = service.oneshot(Upload).await;
}

fn main() {
    let _ = call();
}
