//! A layer right on a router: axum's routes never fail, and their error can hold nothing.

use axum::{Router, routing::get};
use buttress::{Timeout, TimeoutLayer};

fn main() {
    let timeout = Timeout::with_defaults("shop").unwrap();
    let _router: Router = Router::new()
        .route("/", get(async || "hello"))
        .layer(TimeoutLayer::new(timeout));
}
