//! Guarding an async function, without a service.

use std::future::Future;

use crate::{
    drivers::{
        answer::NoAnswer,
        attempts::Attempts,
        driven::DrivenBy,
        function::{AsyncFunction, FunctionAttempts, Holding},
    },
    policies::{bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, retry::Retry, timeout::Timeout},
    vocabulary::error::{Error, HoldsRejected},
};

/// Drives a call of a function; nothing of it begins before the first poll.
pub(crate) fn drive<A: Attempts<Next = ()>>(attempts: A) -> DrivenBy<A> {
    DrivenBy::unentered(attempts, ())
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
            pub fn run<F>(&self, function: F) -> impl Future<Output = Result<F::Response, Error<F::Error>>> + use<F>
            where
                F: AsyncFunction,
        F::Error: std::error::Error + 'static,
            {
                drive(FunctionAttempts {
 policy: self.clone(),
 answer: NoAnswer,
 function,
 into: Error::Service,
 holding: Holding::new(),
 })
            }

            /// As [`run`](Self::run), for a function whose error holds rejections itself: `tower::BoxError`,
            /// [`Error`], or one of your own.
            ///
            /// # Errors
            ///
            /// The function's own error, which may hold a rejection.
            pub fn run_flat<F>(&self, function: F) -> impl Future<Output = Result<F::Response, F::Error>> + use<F>
            where
                F: AsyncFunction,
        F::Error: HoldsRejected,
            {
                drive(FunctionAttempts {
 policy: self.clone(),
 answer: NoAnswer,
 function,
 into: |error| error,
 holding: Holding::new(),
 })
            }
        }
    )*};
}

runs!(CircuitBreaker, Retry, Timeout, Bulkhead);
