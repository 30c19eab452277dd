//! The orders in which the four policies can stand, outermost first.

/// Calls a macro with all 24: a name, and the policies.
macro_rules! with_every_order {
    ($macro:ident) => {
        $macro! {
            breaker_retry_timeout_bulkhead: breaker retry timeout bulkhead,
            breaker_retry_bulkhead_timeout: breaker retry bulkhead timeout,
            breaker_timeout_retry_bulkhead: breaker timeout retry bulkhead,
            breaker_timeout_bulkhead_retry: breaker timeout bulkhead retry,
            breaker_bulkhead_retry_timeout: breaker bulkhead retry timeout,
            breaker_bulkhead_timeout_retry: breaker bulkhead timeout retry,
            retry_breaker_timeout_bulkhead: retry breaker timeout bulkhead,
            retry_breaker_bulkhead_timeout: retry breaker bulkhead timeout,
            retry_timeout_breaker_bulkhead: retry timeout breaker bulkhead,
            retry_timeout_bulkhead_breaker: retry timeout bulkhead breaker,
            retry_bulkhead_breaker_timeout: retry bulkhead breaker timeout,
            retry_bulkhead_timeout_breaker: retry bulkhead timeout breaker,
            timeout_breaker_retry_bulkhead: timeout breaker retry bulkhead,
            timeout_breaker_bulkhead_retry: timeout breaker bulkhead retry,
            timeout_retry_breaker_bulkhead: timeout retry breaker bulkhead,
            timeout_retry_bulkhead_breaker: timeout retry bulkhead breaker,
            timeout_bulkhead_breaker_retry: timeout bulkhead breaker retry,
            timeout_bulkhead_retry_breaker: timeout bulkhead retry breaker,
            bulkhead_breaker_retry_timeout: bulkhead breaker retry timeout,
            bulkhead_breaker_timeout_retry: bulkhead breaker timeout retry,
            bulkhead_retry_breaker_timeout: bulkhead retry breaker timeout,
            bulkhead_retry_timeout_breaker: bulkhead retry timeout breaker,
            bulkhead_timeout_breaker_retry: bulkhead timeout breaker retry,
            bulkhead_timeout_retry_breaker: bulkhead timeout retry breaker,
        }
    };
}
