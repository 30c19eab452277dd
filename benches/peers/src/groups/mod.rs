//! What is measured: one file for each group.

pub(crate) mod contention;
pub(crate) mod flight;
pub(crate) mod growth;
pub(crate) mod keyed;
pub(crate) mod outage;
pub(crate) mod pending;
pub(crate) mod policies;
pub(crate) mod rejection;
pub(crate) mod stacks;
pub(crate) mod web;

use crate::{effort::Effort, report::Line};

/// A group: its name, what it is about, and what measures it.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) measure: fn(Effort) -> Vec<Line>,
}

/// In the order of their numbers, from 1.
pub(crate) const GROUPS: [Group; 7] = [
    Group {
        name: policies::NAME,
        about: "each policy alone, inner service ready at once",
        measure: policies::measure,
    },
    Group {
        name: stacks::NAME,
        about: "several policies; through axum and reqwest too (their rows are over axum/plain and reqwest/plain)",
        measure: stacks::measure,
    },
    Group {
        name: rejection::NAME,
        about: "a call that is refused; with a typed error, and -boxed with a boxed one",
        measure: rejection::measure,
    },
    Group {
        name: pending::NAME,
        about: "inner future pending: yields once, or (-sleeping) sleeps 1 ms among 199 others",
        measure: pending::measure,
    },
    Group {
        name: contention::NAME,
        about: "@N tasks on 2 workers sharing one instance; ns: time passed per call of all tasks together",
        measure: contention::measure,
    },
    Group {
        name: growth::NAME,
        about: "with size: calls in a time window, keyed breakers (bytes each, lookup), calls in flight (bytes each)",
        measure: growth::measure,
    },
    Group {
        name: outage::NAME,
        about: "a million calls from closed to open, half-open and closed again, with a manual clock",
        measure: outage::measure,
    },
];
