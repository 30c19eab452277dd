//! The stack of four through axum's layer and through reqwest's client.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use ::buttress::{axum::PolicyLayer, reqwest::Client};
use axum::{Router, body::Body, error_handling::HandleErrorLayer, extract::Request, routing::get};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use reqwest_middleware::ClientBuilder;
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tokio::{net::TcpListener, runtime::Runtime};
use tower::ServiceBuilder;

use crate::{
    guards::{CONCURRENT, LIMIT, buttress},
    rounds::{Row, task},
};

// --- axum -------------------------------------------------------------------------------------------------------

/// A router, called by hand: no socket is measured.
pub(super) fn through_axum() -> Vec<Row> {
    let plain = || Router::new().route("/", get(async || "hello"));
    // A request cannot be cloned, so that Tower's own retry has no place here.
    let of_two = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(async |_| {
            axum::http::StatusCode::SERVICE_UNAVAILABLE
        }))
        .timeout(LIMIT)
        .concurrency_limit(CONCURRENT);
    vec![
        routed("axum/plain", plain()),
        routed(
            "buttress/stack-axum",
            plain().layer(PolicyLayer::new(buttress::stack())),
        ),
        routed("tower/stack-of-two-axum", plain().layer(of_two)),
    ]
}

fn routed(name: &str, mut router: Router) -> Row {
    Row::new(name, move |calls, meter| {
        let request = |_| Request::builder().uri("/").body(Body::empty()).unwrap();
        let mut task = task(&mut router, calls, request);
        meter.of(|| assert_eq!(task.run(), calls, "a router does not fail"));
    })
    .over("axum/plain")
}

// --- reqwest ----------------------------------------------------------------------------------------------------

/// Clients of a server on this machine, each with one connection that stays open. What is timed is the client's
/// thread.
pub(super) fn through_reqwest() -> Vec<Row> {
    let runtime = Arc::new(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
    );
    let url = format!("http://{}/", serve());
    let retry = ExponentialBackoff::builder().build_with_max_retries(2);
    let plain = reqwest::Client::new;
    let middleware = ClientBuilder::new(plain())
        .with(RetryTransientMiddleware::new_with_policy(retry))
        .build();
    let guarded = Client::new(plain(), buttress::stack());
    let (plain, its_url) = (plain(), url.clone());
    vec![
        fetched("reqwest/plain", &runtime, async move || {
            plain.get(&its_url).send().await.unwrap().bytes().await.unwrap()
        }),
        {
            let url = url.clone();
            fetched("buttress/stack-reqwest", &runtime, async move || {
                guarded.get(&url).send().await.unwrap().bytes().await.unwrap()
            })
        },
        fetched("reqwest-middleware/retry", &runtime, async move || {
            middleware.get(&url).send().await.unwrap().bytes().await.unwrap()
        }),
    ]
}

fn fetched(name: &str, runtime: &Arc<Runtime>, fetch: impl AsyncFn() -> Bytes + 'static) -> Row {
    let runtime = Arc::clone(runtime);
    Row::new(name, move |calls, meter| {
        meter.of(|| {
            runtime.block_on(async {
                for _ in 0..calls {
                    assert_eq!(fetch().await, "hello");
                }
            });
        });
    })
    .over("reqwest/plain")
    .calls(20)
}

/// A server on a thread of its own.
fn serve() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let hello = service_fn(async |_: hyper::Request<Incoming>| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), hello));
            }
        });
    });
    told.recv_timeout(Duration::from_secs(10)).unwrap()
}
