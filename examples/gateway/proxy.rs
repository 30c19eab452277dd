//! The reverse proxy: an axum server that sends each request on to the upstream through the guard.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header::CONTENT_TYPE, uri::Authority},
    response::{IntoResponse, Response},
};
use buttress::{axum::problem, find_rejected};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::{
    guard::{Forward, Guard},
    message::{clean, redirect},
    stats::PROBLEM,
    whole,
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
    upstream: Authority,
    forward: Forward,
    /// Where images are asked for; without any the upstream has them, too.
    images: Arc<[Authority]>,
    forward_image: Forward,
    traffic: Arc<Traffic>,
}

impl Route {
    /// Who is asked for that path, and through which policies. An image is always asked of the same server.
    fn of(&self, path: &str) -> (&Authority, &Forward) {
        if self.images.is_empty() || !path.starts_with("/images/") {
            return (&self.upstream, &self.forward);
        }
        // Keyed by nothing, so that it is the same in every run.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(path);
        let servers = self.images.len();
        let place = usize::try_from(hash % servers as u64).unwrap_or(0);
        (&self.images[place], &self.forward_image)
    }
}

impl Gateway {
    /// Serves on `listener` what the upstream answers, and below `/images/` what the image servers do, if there are any.
    /// `dress` may add layers around the whole server.
    pub(crate) fn start(
        listener: TcpListener,
        upstream: Authority,
        images: &[Authority],
        guard: &Guard,
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, BoxError> {
        let address = listener.local_addr()?;
        let traffic = Arc::new(Traffic::default());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let counted = Arc::clone(&traffic);
        let count = move |request: Request| {
            counted.sent.fetch_add(1, Ordering::Relaxed);
            request
        };
        let client = ServiceBuilder::new().map_request(count).service(client);
        let route = Route {
            upstream,
            forward: guard.around(client.clone()),
            images: images.into(),
            forward_image: guard.around_each(client),
            traffic: Arc::clone(&traffic),
        };
        let router = guard.before(Router::new().fallback(pass_on).with_state(route));
        let service = dress(router).into_make_service_with_connect_info::<SocketAddr>();
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
    mut request: Request,
) -> Response {
    let _in_flight = route.traffic.enter();
    let (upstream, forward) = route.of(request.uri().path());
    if let Err(error) = redirect(&mut request, client, upstream) {
        return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
    }
    match forward.clone().oneshot(request).await {
        Ok(answer) => clean(answer),
        Err(error) => match find_rejected(&*error) {
            Some(rejected) => problem(rejected),
            None => bad_gateway(&error),
        },
    }
}

/// The upstream could not be talked with.
fn bad_gateway(error: &BoxError) -> Response {
    let status = StatusCode::BAD_GATEWAY;
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": whole(&**error),
    });
    (status, [(CONTENT_TYPE, PROBLEM)], problem.to_string()).into_response()
}
