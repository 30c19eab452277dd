//! The reverse proxy: an axum server that sends each request on to the upstream through the guard.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER},
};
use reqwest::Client;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{BoxError, ServiceExt, service_fn};

use crate::{
    guard::{Forward, Guard, Refusal, refusal},
    message::{Outgoing, clean},
    stats::ANSWERED_BY_GATEWAY,
};

/// A running gateway; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Gateway {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    server: JoinHandle<()>,
}

/// What passes through the gateway.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    sent: AtomicU64,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Traffic {
    /// Requests sent to the upstream, retries counted.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Calls that wait for an answer now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most calls that ever waited at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> InFlight {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// A call in the gateway. A guard, because a client that hangs up drops its call.
struct InFlight(Arc<Traffic>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Route {
    /// `http://host:port` of the upstream.
    upstream: Arc<str>,
    forward: Forward,
    traffic: Arc<Traffic>,
}

impl Gateway {
    /// Serves on `listener` what the upstream at `http://host:port` answers. `dress` may add layers around the
    /// whole server.
    pub(crate) fn start(
        listener: TcpListener,
        upstream: &str,
        guard: &Guard,
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, BoxError> {
        let address = listener.local_addr()?;
        let traffic = Arc::new(Traffic::default());
        // No timeout here: a guard stands in its place, or, to show what that means, nothing does.
        // Redirects are the caller's business, and the environment's proxy is none of the gateway's.
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let counted = Arc::clone(&traffic);
        let send = service_fn(move |outgoing: Outgoing| {
            counted.sent.fetch_add(1, Ordering::Relaxed);
            let request = outgoing.into_request(&client);
            async move { Ok::<_, BoxError>(request.send().await?.into()) }
        });
        let route = Route {
            upstream: upstream.into(),
            forward: guard.wrap(send),
            traffic: Arc::clone(&traffic),
        };
        let router = dress(Router::new().fallback(pass_on).with_state(route));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            // Ends only with its task: accepting does not fail for good.
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self {
            address,
            traffic,
            server,
        })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Handles one call.
async fn pass_on(
    State(route): State<Route>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    incoming: Request,
) -> Response<Body> {
    let _in_flight = route.traffic.enter();
    let Ok(outgoing) = Outgoing::from_incoming(incoming, client, &route.upstream).await else {
        return own_answer(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "the body is too large",
        );
    };
    match route.forward.oneshot(outgoing).await {
        Ok(answer) => clean(answer).map(Body::new),
        Err(error) => match refusal(&error) {
            Some(Refusal {
                status,
                kind,
                retry_after,
            }) => {
                let mut answer = own_answer(status, kind, &error.to_string());
                if let Some(after) = retry_after {
                    // Whole seconds, as the header wants them; rounded up, or a client would come too early.
                    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                    answer.headers_mut().insert(RETRY_AFTER, seconds.into());
                }
                answer
            }
            None => own_answer(
                StatusCode::BAD_GATEWAY,
                "upstream-unreachable",
                &error.to_string(),
            ),
        },
    }
}

/// An answer that does not come from the upstream.
fn own_answer(status: StatusCode, kind: &'static str, why: &str) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{why}\n")));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(ANSWERED_BY_GATEWAY, HeaderValue::from_static(kind));
    answer
}
