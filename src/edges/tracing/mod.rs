//! Log lines and spans by the crate `tracing` (feature `tracing`, on by default).
//!
//! | file | subject |
//! |---|---|
//! | `log.rs` | [`TracingObserver`]: what policies do, as log lines |
//! | `span.rs` | [`CallSpanLayer`] and [`AttemptSpanLayer`]: a span for each call, and for each attempt |

mod log;
mod span;

pub use self::{
    log::TracingObserver,
    span::{AttemptSpanLayer, CallSpanLayer, SpanFuture, SpanService},
};
