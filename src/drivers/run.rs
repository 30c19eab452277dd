//! Guarding an async function, without a service.

use std::future::Future;

use crate::{
    drivers::{
        answer::NoAnswer,
        attempts::{Adapting, AsItIs, Attempts, FunctionAttempts, IntoError},
        driven::Driven,
    },
    policies::{
        bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, retry::Retry, step::Policy, timeout::Timeout,
    },
    vocabulary::error::{Error, HoldsRejected},
};

pub(crate) async fn run<P, F, Fut, T, E>(policy: P, function: F) -> Result<T, Error<E>>
where
    P: Policy,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: std::error::Error + 'static,
{
    drive::<_, _, _, IntoError, _>(FunctionAttempts::new(policy, NoAnswer, function)).await
}

pub(crate) async fn run_flat<P, F, Fut, T, E>(policy: P, function: F) -> Result<T, E>
where
    P: Policy,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: HoldsRejected,
{
    drive::<_, _, _, AsItIs, _>(FunctionAttempts::new(policy, NoAnswer, function)).await
}

pub(crate) fn drive<P, F, Fut, D, A>(
    attempts: FunctionAttempts<P, F, Fut, D, A>,
) -> Driven<FunctionAttempts<P, F, Fut, D, A>>
where
    Fut: Future,
    D: Adapting<Fut>,
    FunctionAttempts<P, F, Fut, D, A>: Attempts<Next = ()>,
{
    Driven::unentered(attempts, ())
}

macro_rules! runs {
    ($($policy:ty),*) => {$(
        impl $policy {
            /// Guards one call of an async function, which is called anew for each attempt. Its error comes
            /// back beside rejections, as [`Error::Service`].
            ///
            /// # Errors
            ///
            /// The function's own error, or the rejection.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future drops the function's and returns what the call holds.
            pub fn run<F, Fut, T, E>(&self, function: F) -> impl Future<Output = Result<T, Error<E>>>
            where
                F: FnMut() -> Fut,
                Fut: Future<Output = Result<T, E>>,
                E: std::error::Error + 'static,
            {
                run(self.clone(), function)
            }

            /// As [`run`](Self::run), for a function whose error holds rejections itself: `tower::BoxError`,
            /// [`Error`], or one of your own.
            ///
            /// # Errors
            ///
            /// The function's own error, which may hold a rejection.
            pub fn run_flat<F, Fut, T, E>(&self, function: F) -> impl Future<Output = Result<T, E>>
            where
                F: FnMut() -> Fut,
                Fut: Future<Output = Result<T, E>>,
                E: HoldsRejected,
            {
                run_flat(self.clone(), function)
            }
        }
    )*};
}

runs!(CircuitBreaker, Retry, Timeout, Bulkhead);
