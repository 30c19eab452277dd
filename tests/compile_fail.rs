//! What the compiler says where a stack cannot work: which line to add, and not a puzzle of bounds.
//!
//! `tests/ui/*.stderr` are the words of one compiler, [`WROTE`], with all features on; another says the same in other
//! words, and then there is nothing to compare. After a change of a message, or of the compiler:
//!
//! ```text
//! TRYBUILD=overwrite cargo test --all-features --test compile_fail
//! ```
//!
//! and read what it wrote as a user would: does it name the line to add?

use std::{io, process::Command};

use axum::{Router, routing::get};
use buttress::{
    AdaptLayer, BulkheadConfig, BulkheadLayer, Error, Retry, RetryLayer, ServiceBuilderExt, Stack, Timeout,
    TimeoutLayer, axum::PolicyLayer,
};
use tower::{BoxError, Service, ServiceBuilder, service_fn, util::BoxCloneService};

/// The compiler that the messages are pinned to.
const WROTE: &str = "rustc 1.95.";

#[test]
fn the_compiler_says_which_line_to_add() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    if !version.starts_with(WROTE) {
        println!("not compared: the messages are those of {WROTE}x, and this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}

async fn read(path: String) -> Result<String, io::Error> {
    Ok(path)
}

struct Upload;

async fn store(_upload: Upload) -> Result<(), BoxError> {
    Ok(())
}

fn takes<Req>(_service: impl Service<Req>) {}

/// It does so by being compiled.
#[tokio::test]
async fn what_the_messages_advise_compiles() {
    let timeout = Timeout::with_defaults("files").unwrap();
    let adapted = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout.clone()))
        .layer(AdaptLayer::new())
        .guarded_service(service_fn(read));
    let _boxed: BoxCloneService<String, String, Error<io::Error>> = BoxCloneService::new(adapted.clone());
    takes::<String>(adapted.clone());
    let mut called = adapted.clone();
    called.ready::<String>().await.unwrap();
    adapted.oneshot("file".to_owned()).await.unwrap();

    let stack = Stack::builder().timeout(timeout).build().unwrap();
    let _router: Router = Router::new()
        .route("/", get(async || "hello"))
        .layer(PolicyLayer::new(stack));

    let retry = Retry::with_defaults("uploads").unwrap();
    takes::<Upload>(
        ServiceBuilder::new()
            .layer(RetryLayer::new(retry.clone()).once())
            .guarded_service(service_fn(store)),
    );
    takes::<Upload>(
        ServiceBuilder::new()
            .layer(RetryLayer::new(retry.clone()).copy_by(|_: &Upload| Some(Upload)))
            .guarded_service(service_fn(store)),
    );
    let stack = Stack::builder().retry(retry.clone()).build().unwrap();
    takes::<Upload>(
        ServiceBuilder::new()
            .layer(stack.once())
            .guarded_service(service_fn(store)),
    );

    let not_clone = || tower::util::BoxService::new(service_fn(store));
    let bulkhead = BulkheadConfig::new(1).build("uploads").unwrap();
    takes::<Upload>(
        ServiceBuilder::new()
            .layer(BulkheadLayer::new(bulkhead.clone()).once())
            .guarded_service(not_clone()),
    );
    takes::<Upload>(
        ServiceBuilder::new()
            .layer(BulkheadLayer::new(bulkhead))
            .layer(tower::buffer::BufferLayer::new(8))
            .guarded_service(not_clone()),
    );
}
