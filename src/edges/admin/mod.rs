//! A page, and an interface for programs, to see a registry and to steer it (feature `admin`).
//!
//! ```
//! use axum::Router;
//! use buttress::{CircuitBreakerConfig, Registry, Settings, StackConfig, admin};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let payments = StackConfig::new().stage("circuit_breaker", CircuitBreakerConfig::new());
//! let registry = Registry::builder().build(Settings::new().stack("payments", payments))?;
//!
//! // To see: no command is obeyed.
//! let app: Router = Router::new().nest_service("/ops/buttress", admin::router(registry.clone()));
//!
//! // To steer, too: whoever has a token of sixteen characters or more, in the name that stands with it.
//! # let secret = "a-secret-that-is-kept-elsewhere";
//! let admin = admin::Admin::builder(registry).token("on call", secret).build()?;
//! let app: Router = Router::new().nest_service("/ops/buttress", admin.router());
//! # Ok(())
//! # }
//! ```
//!
//! # What there is
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /api/stacks`, `/api/stacks/NAME` | all stacks, or one: its stages in their order, its policies, what a caller sees now |
//! | `GET /api/policies/NAME` | one policy: `payments/circuit_breaker`, or of a key `web/circuit_breaker[KEY]` |
//! | `GET /api/config` | the settings in effect, in the shape of a file, and where each value came from |
//! | `GET /api/events` | events as they happen, as `text/event-stream` |
//! | `GET /api/events?after=SEQ` | those after that number, as far as they are kept, with `limit=N` of them (100); where `text/event-stream` is asked for, followed by what happens next |
//! | `GET /api/live` | what the page lives on: `state` once a second and after each event, `event`, and at first `series`, the last minute |
//! | `GET /health` | 200, or 503 while a circuit breaker that [counts](AdminBuilder::health) refuses calls |
//! | `POST /api/commands` | carries out a command |
//!
//! Each stage says how many [calls](crate::CallCounts) it has counted, of a keyed stack those of all keys together; the page
//! makes calls per second of them. Policies count from when the page is built, as [`Metrics`](crate::Metrics) has them count:
//! a call then pays a few nanoseconds for each policy.
//!
//! All URLs of the page are relative: it can be nested anywhere, also behind a proxy that takes a prefix away.
//!
//! # Commands
//!
//! ```sh
//! curl -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \
//!   -d '{"name": "payments", "command": "force_open", "ttl": "15m", "reason": "upstream is being moved"}' \
//!   http://localhost:8080/ops/buttress/api/commands
//! ```
//!
//! `command` is `force_open`, `open`, `half_open`, `close`, `disable`, `metrics_only`, `reset`, `resize` (with
//! `max_concurrent`) or `reload` (whose `name` is `registry`); see [`Registry::command`]. `ttl` may be left out.
//!
//! | status | why |
//! |---|---|
//! | 200 | it is done |
//! | 401 | no token, or none of those that are set |
//! | 403 | no token is set, so that nothing is obeyed; or a browser says that another site sent it |
//! | 404 | no policy has that name |
//! | 409 | the settings that were to be loaded are wrong: `issues` says all of it |
//! | 413 | more than 16 KiB |
//! | 415 | not `application/json` |
//! | 422 | `field` says what is wrong with which member |
//!
//! # Who may see and do what
//!
//! - Whoever reaches the router may look; names of stacks and hosts, and the settings, are to be seen. Where that is too
//!   much, put it behind a layer that asks who it is, or on a listener of its own.
//! - A command needs a token, in a header that no browser adds by itself: there is no cookie, so no other site can have one
//!   sent. Tokens are compared in a time that does not depend on them.
//! - The page asks no other host for anything, and its content security policy lets it do nothing else. What it shows is
//!   text, whatever stands in it.
//! - Streams are limited in number ([`readers`](AdminBuilder::readers)), and a reader that does not read makes nobody wait
//!   and holds a few frames at most. Connections that stand still forever are for the server to end.

mod auth;
mod builder;
mod caller;
mod commands;
mod config;
mod headers;
mod health;
mod live;
mod page;
mod reply;
mod series;
mod stream;
mod views;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ::axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use tokio::runtime::Handle;

pub use self::{builder::AdminBuilder, health::Health};
use self::{builder::Options, live::Live};
use crate::composition::registry::Registry;

/// The page and the interface with the defaults, for `Router::nest`: to see, not to steer.
///
/// For anything else see [`Admin::builder`].
pub fn router(registry: Registry) -> Router {
    Admin::of(registry, Options::default()).router()
}

/// The page and the interface of a registry: a cheap handle.
///
/// It keeps the last minute and the last events by a task of its own, which also does the registry's
/// [housekeeping](Registry::housekeeping). The task runs on the Tokio runtime in which this is built, or else from the
/// first request on, and ends with the last handle and router.
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

struct Shared {
    registry: Registry,
    options: Options,
    live: Arc<Live>,
    runs: AtomicBool,
}

impl Admin {
    /// To set it up.
    pub fn builder(registry: Registry) -> AdminBuilder {
        AdminBuilder::new(registry)
    }

    fn of(registry: Registry, options: Options) -> Self {
        let live = Arc::new(Live::new(&registry, &options));
        let admin = Self(Arc::new(Shared {
            registry,
            options,
            live,
            runs: AtomicBool::new(false),
        }));
        admin.run();
        admin
    }

    /// The router, for `Router::nest`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(page::page))
            .route("/health", get(health::health))
            .route("/api/stacks", get(views::stacks))
            .route("/api/stacks/{*name}", get(views::stack))
            .route("/api/policies/{*name}", get(views::policy))
            .route("/api/config", get(config::config))
            .route("/api/events", get(stream::events))
            .route("/api/live", get(stream::live))
            .route("/api/commands", post(commands::command))
            .fallback(async || reply::error(StatusCode::NOT_FOUND, "there is nothing here"))
            .method_not_allowed_fallback(async || {
                reply::error(StatusCode::METHOD_NOT_ALLOWED, "not by this method")
            })
            .layer(middleware::from_fn_with_state(self.clone(), each))
            .with_state(self.clone())
    }

    /// Ends all streams that are being read, and lets no other begin: for a server that is to come to its end gracefully,
    /// and would wait for them forever.
    pub fn close(&self) {
        self.0.live.close();
    }

    /// Begins the task, once, where there is a runtime for it.
    fn run(&self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !self.0.runs.swap(true, Ordering::Relaxed) {
            let events = Live::subscribe(&self.0.registry);
            runtime.spawn(live::run(Arc::downgrade(&self.0), events));
        }
    }
}

/// What is so for each request and its response.
async fn each(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    admin.run();
    let mut response = next.run(request).await;
    headers::secure(response.headers_mut());
    response
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("registry", &self.0.registry)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// A handle that keeps nothing alive.
type WeakShared = Weak<Shared>;
