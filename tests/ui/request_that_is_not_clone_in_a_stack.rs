//! A stack with a retry clones requests unless it is told otherwise.

use buttress::{Retry, ServiceBuilderExt, Stack};
use tower::{BoxError, ServiceBuilder, service_fn};

struct Upload;

async fn store(_upload: Upload) -> Result<(), BoxError> {
    Ok(())
}

fn main() {
    let retry = Retry::with_defaults("uploads").unwrap();
    let stack = Stack::builder().retry(retry).build().unwrap();
    let _service = ServiceBuilder::new()
        .layer(stack)
        .guarded_service(service_fn(store));
}
