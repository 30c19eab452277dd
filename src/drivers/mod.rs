//! Floor 2: what runs policies around a Tower service or an async function.
//!
//! There is one driver, the future in `driven.rs`: it walks a call through the steps of a policy. A policy known
//! at compile time is run as it is; [`Stages`](stack::Stages), a list in an order known at run time, is itself a
//! policy, made of others, and run by the same driver. No policy has a future of its own.

pub(crate) mod adapt;
pub(crate) mod answer;
pub(crate) mod aside;
pub(crate) mod attempts;
pub(crate) mod builder_ext;
pub(crate) mod driven;
pub(crate) mod dropping;
pub(crate) mod exchange;
pub(crate) mod function;
pub(crate) mod held;
pub(crate) mod in_force;
pub(crate) mod layers;
pub(crate) mod pool;
pub(crate) mod reading;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod stack;
pub(crate) mod timer;
