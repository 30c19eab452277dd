//! The policies that hold the gateway up, at both of its ends.
//!
//! Before the router stands one layer with a stack of its own, which answers its rejections as responses; around the
//! HTTP client stand two others, of which the handler in `proxy.rs` gets rejections as errors: one for the upstream, and
//! one for the image servers, which has policies of its own for each of them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use buttress::{
    CircuitBreaker, Event, KeyedLayer, KeyedStack, Observer, PolicyConfig, PolicyKind, Predicate, Registry,
    Stack, State, Watch, What,
    axum::PolicyLayer,
    config::Source,
    http::{HttpExchange, PerAuthority, ReplayBodies},
};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};

use crate::{report::say, told::told};

/// A service that forwards a request to the upstream, guarded or not.
pub(crate) type Forward = BoxCloneSyncService<Request, Response, BoxError>;

/// An HTTP client as a service.
pub(crate) trait Client:
    Service<Request, Response = Response<Incoming>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Client for S where
    S: Service<Request, Response = Response<Incoming>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The stack around the client.
const UPSTREAM: &str = "upstream";

/// The stack around the client for each image server.
const IMAGES: &str = "images";

/// The stack before the router.
const GATEWAY: &str = "gateway";

/// A body that stands still for so long is cut off. Unlike a limit for the whole of it that lets large ones pass.
const BODY_IDLE: Duration = Duration::from_secs(5);

/// Where the settings of both stand, unless the command line says otherwise.
const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway.toml");

/// What stands between the gateway and its upstream.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Option<Policies>);

#[derive(Clone, Debug)]
struct Policies {
    registry: Registry,
    layer: PolicyLayer,
    stack: Stack,
    images: KeyedStack,
    exchange: HttpExchange,
    breaker: CircuitBreaker,
    counts: Arc<Counts>,
    // Ends the watching of the file with the last clone.
    _watch: Arc<Watch>,
}

/// What events add up to. What is the case now, snapshots tell.
#[derive(Debug, Default)]
struct Counts {
    retries: AtomicU64,
    saved: AtomicU64,
    cut_off: AtomicU64,
    openings: AtomicU64,
}

impl Counts {
    fn count(&self, event: &Event) {
        let counter = match (event.policy, &event.what) {
            (_, What::Retrying { .. }) => &self.retries,
            (_, What::Recovered { .. }) => &self.saved,
            (PolicyKind::Timeout, What::Rejected(_)) => &self.cut_off,
            (_, What::Transition { to: State::Open, .. }) => &self.openings,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the stack reports of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    /// Retries decided on; the circuit breaker may still refuse one.
    pub(crate) retries: u64,
    /// Calls that failed at first and succeeded when they were retried.
    pub(crate) saved: u64,
    /// Attempts that the timeout cut off.
    pub(crate) cut_off: u64,
    /// How often the circuit breaker opened, also after probes that failed.
    pub(crate) openings: u64,
}

/// Says what becomes of an edit of the file.
fn tell_reloads(event: &Event) {
    match &event.what {
        What::Reloaded { generation } => say(format_args!("      settings: number {generation} taken")),
        What::ReloadFailed { errors } => say(format_args!(
            "      settings: not taken, those before go on:\n        {}",
            errors.replace('\n', "\n        ")
        )),
        What::Restacked => say(format_args!("      settings: `{}` has other stages", event.name)),
        What::Reconfigured => say(format_args!("      settings: `{}` changed", event.name)),
        What::WindowEmptied => say(format_args!(
            "      settings: `{}` begins with an empty window",
            event.name
        )),
        What::Orphaned => say(format_args!(
            "      settings: `{}` is gone, and goes on under its last settings",
            event.name
        )),
        _ => {}
    }
}

/// `client` without any policy.
fn plain<S>(client: S) -> Forward
where
    S: Service<Request, Response = Response<Incoming>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let answers = ServiceBuilder::new().map_response(|answer: Response<_>| answer.map(Body::new));
    BoxCloneSyncService::new(answers.service(client))
}

impl Guard {
    /// Nothing: calls pass as they are.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// All stacks, as the file describes them, which is watched from now on.
    pub(crate) fn stack(settings: Option<&Path>) -> Result<Self, BoxError> {
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let source = Source::path(settings.unwrap_or_else(|| Path::new(SETTINGS)));
        let registry = Registry::builder()
            .observe(Arc::new(move |event: &Event| counting.count(event)))
            .build_from_source(source)?;
        let stack = registry.stack(UPSTREAM)?;
        let images = registry.keyed_stack(IMAGES)?;
        let before = registry.stack(GATEWAY)?;
        let breaker = registry.circuit_breaker(UPSTREAM)?;
        // After the first settings: of these nobody need be told.
        registry.observe(&(Arc::new(tell_reloads) as Arc<dyn Observer>));
        let watch = Arc::new(registry.watch()?);
        let exchange = HttpExchange::client()
            // A plain 500 is not retried by default, as it often follows from the request. Here it tells the health.
            .retry_statuses("408, 425, 429, 500, 502..504".parse()?)
            .never_connected(Predicate::error_if(Error::is_connect))
            .idle_limit(BODY_IDLE)?;
        Ok(Self(Some(Policies {
            registry,
            layer: PolicyLayer::new(before),
            stack,
            images,
            exchange,
            breaker,
            counts,
            _watch: watch,
        })))
    }

    /// What the stacks are in, if there are any.
    pub(crate) fn registry(&self) -> Option<&Registry> {
        self.0.as_ref().map(|policies| &policies.registry)
    }

    /// The policies in words, stack by stack, outermost first. Those of image servers only where there are some.
    pub(crate) fn describe(&self, images: bool) -> Vec<(&'static str, Vec<String>)> {
        let Some(Policies { registry, .. }) = &self.0 else {
            return Vec::new();
        };
        let settings = registry.settings();
        let stages = |name: &str| {
            let stages = settings
                .stacks
                .get(name)
                .into_iter()
                .flat_map(|stack| &stack.stages);
            stages
                .map(|stage| format!("{}: {}", stage.name.replace('_', " "), told(&stage.policy)))
                .collect()
        };
        let mut all = vec![
            ("before the gateway's routes", stages(GATEWAY)),
            ("around its HTTP client", stages(UPSTREAM)),
        ];
        if images {
            all.push(("around its HTTP client, for each image server", stages(IMAGES)));
        }
        all
    }

    /// The file that the policies are set up from.
    pub(crate) fn settings(&self) -> String {
        let files = self
            .0
            .as_ref()
            .map_or(&[][..], |policies| policies.registry.watched());
        files.iter().map(|file| file.display().to_string()).collect()
    }

    /// The longest that the circuit breaker stays open.
    pub(crate) fn longest_open(&self) -> Duration {
        let settings = self.0.as_ref().map(|policies| policies.registry.settings());
        let stages = settings
            .iter()
            .filter_map(|settings| settings.stacks.get(UPSTREAM));
        stages
            .flat_map(|stack| &stack.stages)
            .filter_map(|stage| match &stage.policy {
                PolicyConfig::CircuitBreaker(breaker) => Some(breaker.open.max),
                _ => None,
            })
            .max()
            .unwrap_or_default()
    }

    /// `router` behind the gateway's own policies, if it has any.
    pub(crate) fn before(&self, router: Router) -> Router {
        match &self.0 {
            None => router,
            Some(policies) => router.layer(policies.layer.clone()),
        }
    }

    /// `client` behind the policies for the upstream, if there are any.
    pub(crate) fn around<S: Client>(&self, client: S) -> Forward {
        let client = ServiceBuilder::new().map_err(S::Error::into).service(client);
        let answers = ServiceBuilder::new().map_response(|answer: Response<_>| answer.map(Body::new));
        match &self.0 {
            None => plain(client),
            Some(Policies { stack, exchange, .. }) => {
                let layer = stack
                    .clone()
                    .prepare(ReplayBodies::new().wrapped(Body::new))
                    .exchange(exchange.clone());
                BoxCloneSyncService::new(answers.layer(layer).service(client))
            }
        }
    }

    /// `client` behind the policies that each image server has of its own, if there are any.
    pub(crate) fn around_each<S: Client>(&self, client: S) -> Forward {
        let client = ServiceBuilder::new().map_err(S::Error::into).service(client);
        let answers = ServiceBuilder::new().map_response(|answer: Response<_>| answer.map(Body::new));
        match &self.0 {
            None => plain(client),
            Some(Policies { images, exchange, .. }) => {
                let layer = KeyedLayer::stack_by(images.clone(), PerAuthority)
                    .once()
                    .exchange(exchange.clone());
                BoxCloneSyncService::new(answers.layer(layer).service(client))
            }
        }
    }

    /// The circuit breaker's state, in a word.
    pub(crate) fn breaker(&self) -> &'static str {
        match self.0.as_ref().map(|policies| policies.breaker.snapshot().state) {
            None => "-",
            Some(State::Closed) => "closed",
            Some(State::Open) => "open",
            Some(State::HalfOpen) => "half-open",
            // Only a command leads there, and this program gives none.
            Some(_) => "commanded",
        }
    }

    /// Why the circuit breaker is open, if it is.
    pub(crate) fn why_open(&self) -> Option<String> {
        let shown = self.0.as_ref()?.breaker.snapshot();
        let (cause, until) = (shown.cause?, shown.until?);
        let then = if until.is_zero() {
            "the next calls are probes".to_owned()
        } else {
            format!("probes again in {} ms", until.as_millis())
        };
        Some(format!("{cause}; {then}"))
    }

    pub(crate) fn readings(&self) -> Readings {
        let Some(Policies { counts, .. }) = &self.0 else {
            return Readings::default();
        };
        Readings {
            retries: counts.retries.load(Ordering::Relaxed),
            saved: counts.saved.load(Ordering::Relaxed),
            cut_off: counts.cut_off.load(Ordering::Relaxed),
            openings: counts.openings.load(Ordering::Relaxed),
        }
    }
}
