//! Tower's own layers.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use ::tower::{
    ServiceBuilder,
    limit::ConcurrencyLimitLayer,
    retry::{
        Policy,
        budget::{Budget, TpsBudget},
    },
};
use buttress::BoxError;

use super::{CONCURRENT, LIMIT, MANY};
use crate::services::{Guarded, Inner};

/// Retries every error, at once.
#[derive(Clone)]
pub(crate) struct Unbudgeted;

impl<Res> Policy<u64, Res, BoxError> for Unbudgeted {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<Res, BoxError>) -> Option<Ready<()>> {
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

/// The same, as far as the budget goes.
#[derive(Clone, Default)]
pub(crate) struct Budgeted(Arc<TpsBudget>);

impl<Res> Policy<u64, Res, BoxError> for Budgeted {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<Res, BoxError>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

pub(crate) fn timeout<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new().timeout(LIMIT).service(inner)
}

pub(crate) fn concurrency_limit<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new().concurrency_limit(CONCURRENT).service(inner)
}

pub(crate) fn retry<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new().retry(Unbudgeted).service(inner)
}

pub(crate) fn retry_budget<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new().retry(Budgeted::default()).service(inner)
}

/// retry(timeout(limit)): Tower has no breaker.
pub(crate) fn stack_of_three<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new()
        .retry(Unbudgeted)
        .timeout(LIMIT)
        .layer(ConcurrencyLimitLayer::new(CONCURRENT))
        .service(inner)
}

/// The same with room for more calls.
pub(crate) fn stack_of_three_wide<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new()
        .retry(Unbudgeted)
        .timeout(LIMIT)
        .layer(ConcurrencyLimitLayer::new(MANY))
        .service(inner)
}

pub(crate) fn stack_of_three_budget<S: Inner>(inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new()
        .retry(Budgeted::default())
        .timeout(LIMIT)
        .layer(ConcurrencyLimitLayer::new(CONCURRENT))
        .service(inner)
}
