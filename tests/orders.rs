//! The four policies compose in any order, over any kind of error, and a rejection is found flat in each.

#[macro_use]
#[path = "support/orders.rs"]
mod orders;

use std::{error::Error as _, fmt, future::pending, io, time::Duration};

use buttress::{
    AdaptLayer, Backoff, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Error, HoldsRejected, Jitter, Rejected, RejectedKind, Retry, RetryConfig,
    RetryLayer, Timeout, TimeoutConfig, TimeoutLayer,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

/// Fresh handles.
#[derive(Clone)]
struct Policies {
    breaker: CircuitBreaker,
    retry: Retry,
    timeout: Timeout,
    bulkhead: Bulkhead,
}

impl Policies {
    fn new() -> Self {
        let second = Duration::from_secs(1);
        Self {
            breaker: CircuitBreakerConfig::new().build("the breaker").unwrap(),
            retry: RetryConfig::new()
                .backoff(Backoff::fixed(second))
                .jitter(Jitter::None)
                .no_budget()
                .build("the retry")
                .unwrap(),
            timeout: TimeoutConfig::new(100 * second).build("the timeout").unwrap(),
            bulkhead: BulkheadConfig::new(1).build("the bulkhead").unwrap(),
        }
    }
}

/// What a service is asked to do.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Answer,
    Fail,
    Hang,
}

/// An error that knows nothing of this crate, with a cause.
#[derive(Debug)]
struct Foreign(io::Error);

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("foreign")
    }
}

impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<io::Error> for Foreign {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

async fn serve<E: From<io::Error>>(ask: Ask) -> Result<&'static str, E> {
    match ask {
        Ask::Answer => Ok("answer"),
        Ask::Fail => Err(io::Error::other("disk on fire").into()),
        Ask::Hang => pending().await,
    }
}

/// How a test looks into the error type of a stack.
trait Flat: HoldsRejected {
    /// The rejection, where the error is one itself and not around one.
    fn itself_rejected(&self) -> Option<&Rejected>;

    /// The service's own error, where it is that error itself.
    fn itself_service(&self) -> bool;
}

impl Flat for BoxError {
    fn itself_rejected(&self) -> Option<&Rejected> {
        self.downcast_ref()
    }

    fn itself_service(&self) -> bool {
        self.is::<io::Error>()
    }
}

impl Flat for Error<io::Error> {
    fn itself_rejected(&self) -> Option<&Rejected> {
        self.as_rejected()
    }

    fn itself_service(&self) -> bool {
        matches!(self, Self::Service(error) if error.to_string() == "disk on fire")
    }
}

impl Flat for Error<Foreign> {
    fn itself_rejected(&self) -> Option<&Rejected> {
        self.as_rejected()
    }

    /// Its chain is whole: this type, the foreign error, its cause.
    fn itself_service(&self) -> bool {
        let foreign = self.source().filter(|source| source.is::<Foreign>());
        foreign
            .and_then(std::error::Error::source)
            .is_some_and(<dyn std::error::Error>::is::<io::Error>)
    }
}

async fn rejects_flat<S>(service: &S, kind: RejectedKind, policy: &str, ask: Ask)
where
    S: Service<Ask, Response = &'static str, Error: Flat + fmt::Debug> + Clone,
{
    let error = service.clone().oneshot(ask).await.unwrap_err();
    let rejected = error
        .itself_rejected()
        .unwrap_or_else(|| panic!("not a rejection itself: {error:?}"));
    assert_eq!((rejected.kind(), rejected.policy()), (kind, policy));
    assert!(rejected.source().is_none(), "nothing is nested in it");
    assert_eq!(error.rejected(), Some(rejected));
}

async fn errors_are_flat<S>(policies: Policies, service: S)
where
    S: Service<Ask, Response = &'static str, Error: Flat + fmt::Debug> + Clone,
{
    assert_eq!(service.clone().oneshot(Ask::Answer).await.unwrap(), "answer");

    let error = service.clone().oneshot(Ask::Fail).await.unwrap_err();
    assert!(error.itself_service(), "unchanged after all attempts: {error:?}");
    assert_eq!(error.rejected(), None);

    rejects_flat(&service, RejectedKind::TimedOut, "the timeout", Ask::Hang).await;

    let slot = policies.bulkhead.try_acquire().unwrap();
    rejects_flat(&service, RejectedKind::BulkheadFull, "the bulkhead", Ask::Answer).await;
    drop(slot);

    policies.breaker.force_open();
    rejects_flat(&service, RejectedKind::CircuitOpen, "the breaker", Ask::Answer).await;
    policies.breaker.close();

    assert_eq!(service.oneshot(Ask::Answer).await.unwrap(), "answer");
    assert_eq!(policies.bulkhead.snapshot().in_flight, 0);
}

macro_rules! layer {
    (breaker, $policies:ident) => {
        CircuitBreakerLayer::new($policies.breaker.clone())
    };
    (retry, $policies:ident) => {
        RetryLayer::new($policies.retry.clone())
    };
    (timeout, $policies:ident) => {
        TimeoutLayer::new($policies.timeout.clone())
    };
    (bulkhead, $policies:ident) => {
        BulkheadLayer::new($policies.bulkhead.clone())
    };
}

macro_rules! over_every_error {
    ($($name:ident: $($policy:ident)*,)*) => { $(
        mod $name {
            use super::*;

            #[tokio::test(start_paused = true)]
            async fn over_a_boxed_error() {
                let policies = Policies::new();
                let layers = ServiceBuilder::new()$(.layer(layer!($policy, policies)))*;
                errors_are_flat(policies, layers.service(service_fn(serve::<BoxError>))).await;
            }

            #[tokio::test(start_paused = true)]
            async fn over_an_error_of_this_crate() {
                async fn serve_typed(ask: Ask) -> Result<&'static str, Error<io::Error>> {
                    serve::<io::Error>(ask).await.map_err(Error::Service)
                }

                let policies = Policies::new();
                let layers = ServiceBuilder::new()$(.layer(layer!($policy, policies)))*;
                errors_are_flat(policies, layers.service(service_fn(serve_typed))).await;
            }

            #[tokio::test(start_paused = true)]
            async fn over_the_adapter() {
                let policies = Policies::new();
                let layers = ServiceBuilder::new()$(.layer(layer!($policy, policies)))*
                    .layer(AdaptLayer::new());
                errors_are_flat(policies, layers.service(service_fn(serve::<io::Error>))).await;
            }

            #[tokio::test(start_paused = true)]
            async fn over_the_adapter_of_a_foreign_error() {
                let policies = Policies::new();
                let layers = ServiceBuilder::new()$(.layer(layer!($policy, policies)))*
                    .layer(AdaptLayer::new());
                errors_are_flat(policies, layers.service(service_fn(serve::<Foreign>))).await;
            }
        }
    )* };
}

with_every_order!(over_every_error);
