//! The reqwest client over TLS, against real servers on loopback, with a certificate made for the test.
//!
//! What the policies do is tested in `tests/reqwest.rs`; here it is that they do so over TLS too.

#![cfg(test)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::Request};
use buttress::{
    Backoff, BulkheadConfig, CircuitBreakerConfig, KeyedConfig, RejectedKind, RetryConfig, Stack,
    http::AttemptsMade, reqwest::Client,
};
use bytes::Bytes;
use http::{StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, channel::Channel};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// No test takes longer, and nothing sleeps for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What runs inside of TLS; both sides agree on the better one that both know (ALPN).
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// A server that speaks both schemes on one port.
struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// What it saw of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    secure: bool,
    version: Version,
    /// Of the body.
    length: usize,
}

impl Server {
    /// The n-th request, counted from 0, is answered with that status.
    async fn answering(status: impl Fn(usize, bool) -> u16 + Clone + Send + Sync + 'static) -> Self {
        let _ = ring::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = own.cert.der().clone();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let app = move |secure| {
            let (seen, status) = (Arc::clone(&seen), status.clone());
            Router::new().fallback(async move |request: Request| {
                let version = request.version();
                let length = request.into_body().collect().await.unwrap().to_bytes().len();
                let mut seen = seen.lock().unwrap();
                let status = status(seen.len(), secure);
                seen.push(Call {
                    secure,
                    version,
                    length,
                });
                (StatusCode::from_u16(status).unwrap(), "answer")
            })
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, app) = (tls.clone(), app.clone());
                tokio::spawn(async move {
                    // The first byte of a TLS connection says that it is one: a handshake.
                    let mut first = [0];
                    let _ = stream.peek(&mut first).await;
                    if first == [22] {
                        let Ok(stream) = tls.accept(stream).await else {
                            return;
                        };
                        serve(stream, app(true)).await;
                    } else {
                        serve::<TcpStream>(stream, app(false)).await;
                    }
                });
            }
        });
        Self {
            address,
            certificate,
            calls,
        }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.address)
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// A client of reqwest's that trusts this server, and knows no later version.
    fn trusted(&self, version: Version) -> reqwest::Client {
        let certificate = reqwest::Certificate::from_der(&self.certificate).unwrap();
        let builder = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate]);
        let builder = match version {
            Version::HTTP_2 => builder,
            _ => builder.http1_only(),
        };
        builder.build().unwrap()
    }
}

async fn serve<S>(stream: S, app: Router)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // A client that goes away is no fault of the server.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
}

fn retrying(inner: reqwest::Client) -> Client {
    let retry = RetryConfig::new()
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .no_budget()
        .build("web")
        .unwrap();
    Client::new(inner, Stack::builder().retry(retry).build().unwrap())
}

/// A body that streams, in frames of 1 KiB.
fn stream(length: usize) -> reqwest::Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
    tokio::spawn(async move {
        for at in (0..length).step_by(1024) {
            let frame = vec![b'x'; 1024.min(length - at)];
            if sender.send_data(frame.into()).await.is_err() {
                return;
            }
        }
    });
    reqwest::Body::wrap(SyncBody(Mutex::new(body)))
}

/// reqwest wants bodies to be `Sync`.
struct SyncBody<B>(Mutex<B>);

impl<B: Body + Unpin> Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(self.0.get_mut().unwrap()).poll_frame(cx)
    }
}

#[tokio::test]
async fn a_request_is_answered_and_its_slot_free_once_the_body_was_read() {
    for version in VERSIONS {
        let server = Server::answering(|_, _| 200).await;
        let bulkhead = BulkheadConfig::new(1).build("web").unwrap();
        let stack = Stack::builder().bulkhead(bulkhead.clone()).build().unwrap();
        let client = Client::new(server.trusted(version), stack);
        for _ in 0..3 {
            let sent = client.get(server.url("https")).send();
            let response = timeout(PATIENCE, sent).await.unwrap().unwrap();
            assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
            assert_eq!(bulkhead.snapshot().in_flight, 1, "{version:?}");
            let text = timeout(PATIENCE, response.text()).await.unwrap();
            assert_eq!(text.unwrap(), "answer");
            assert_eq!(bulkhead.snapshot().in_flight, 0, "{version:?}");
        }
        let call = Call {
            secure: true,
            version,
            length: 0,
        };
        assert_eq!(server.calls(), [call.clone(), call.clone(), call]);
    }
}

#[tokio::test]
async fn a_get_is_sent_again_after_a_503_and_a_post_once() {
    for version in VERSIONS {
        let server = Server::answering(|call, _| if call < 2 { 503 } else { 200 }).await;
        let client = retrying(server.trusted(version));
        let sent = client.get(server.url("https")).send();
        let response = timeout(PATIENCE, sent).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.extensions().get(), Some(&AttemptsMade(3)), "{version:?}");

        let server = Server::answering(|_, _| 503).await;
        let client = retrying(server.trusted(version));
        let sent = client.post(server.url("https")).body("7").send();
        assert_eq!(timeout(PATIENCE, sent).await.unwrap().unwrap().status(), 503);
        assert_eq!(server.calls().len(), 1, "{version:?}");
    }
}

#[tokio::test]
async fn a_small_upload_is_sent_again_and_one_of_ten_megabytes_goes_out_once_and_whole() {
    for version in VERSIONS {
        let server = Server::answering(|call, _| if call == 1 { 200 } else { 503 }).await;
        let client = retrying(server.trusted(version));
        for (length, status) in [(1024, 200), (10 << 20, 503)] {
            let sent = client.put(server.url("https")).body(stream(length)).send();
            let response = timeout(PATIENCE, sent).await.unwrap().unwrap();
            assert_eq!(response.status(), status, "{version:?}");
        }
        let lengths: Vec<_> = server.calls().iter().map(|call| call.length).collect();
        assert_eq!(lengths, [1024, 1024, 10 << 20], "{version:?}");
    }
}

#[tokio::test]
async fn one_port_by_two_schemes_has_a_breaker_for_each() {
    let server = Server::answering(|_, secure| if secure { 500 } else { 200 }).await;
    let breaker = CircuitBreakerConfig::new()
        .consecutive_failures(1)
        .build("web")
        .unwrap();
    let each = Stack::builder().circuit_breaker(breaker).build().unwrap();
    let client = Client::builder(server.trusted(Version::HTTP_11))
        .stack_per_authority(each, KeyedConfig::new())
        .build()
        .unwrap();
    let get = async |scheme| {
        let sent = client.get(server.url(scheme)).send();
        timeout(PATIENCE, sent).await.unwrap()
    };
    // The verdict on a response comes with the end of its body.
    let failed = get("https").await.unwrap();
    assert_eq!(failed.status(), 500);
    failed.bytes().await.unwrap();
    let refused = get("https").await.unwrap_err();
    let rejected = refused.as_rejected().unwrap();
    assert_eq!(rejected.kind(), RejectedKind::CircuitOpen);
    assert_eq!(rejected.policy(), format!("web[https://{}]", server.address));
    assert_eq!(get("http").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_handshake_that_fails_never_made_a_connection_and_is_tried_again_even_for_a_post() {
    let own = Server::answering(|_, _| 200).await;
    let other = Server::answering(|_, _| 200).await;
    let handshakes = Arc::new(AtomicU32::new(0));
    let retry = RetryConfig::new()
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .no_budget()
        .build("web")
        .unwrap();
    let counted = Arc::clone(&handshakes);
    retry.observe(Arc::new(move |event: &buttress::Event| {
        if matches!(event.what, buttress::What::Retrying { .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let client = Client::new(
        own.trusted(Version::HTTP_11),
        Stack::builder().retry(retry).build().unwrap(),
    );
    // Its certificate is another's.
    let sent = client.post(other.url("https")).body("7").send();
    let error = timeout(PATIENCE, sent).await.unwrap().unwrap_err();
    assert!(error.as_reqwest().unwrap().is_connect(), "{error:?}");
    assert_eq!(handshakes.load(Ordering::Relaxed), 2);
    assert_eq!(other.calls(), []);
}
