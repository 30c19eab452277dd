//! A time limiter and a bulkhead of resilience4j as a timeout and a bulkhead.

use std::time::Duration;

use super::chain::Chain;
use crate::policies::{bulkhead::BulkheadConfig, timeout::TimeoutConfig};

pub(super) fn time_limiter(chain: &Chain<'_>) -> TimeoutConfig {
    TimeoutConfig::new(chain.time("timeoutDuration").unwrap_or(Duration::from_secs(1)))
}

/// Any number of calls may wait, as there.
pub(super) fn bulkhead(chain: &Chain<'_>) -> BulkheadConfig {
    BulkheadConfig::new(chain.count("maxConcurrentCalls").unwrap_or(25))
        .max_wait(chain.time("maxWaitDuration").unwrap_or_default())
        .max_queue(u32::MAX)
}
