//! The names, units and meanings of all metrics.

use metrics::Unit;

/// What a metric is, and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric, without the prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) meaning: &'static str,
}

macro_rules! catalog {
    ($($constant:ident = $name:literal, $kind:ident in $unit:ident: $meaning:literal;)*) => {
        $(pub(super) const $constant: &str = $name;)*

        pub(super) const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            meaning: $meaning,
        },)*];
    };
}

catalog! {
    CALLS = "calls_total", Counter in Count:
        "Calls that ended or were refused, by what the policy made of them.";
    REJECTIONS = "rejections_total", Counter in Count:
        "Calls that the policy refused or cut off, by kind and reason.";
    CALL_DURATION = "call_duration_seconds", Histogram in Seconds:
        "How long admitted calls took that a circuit breaker saw, by outcome.";
    STATE = "circuit_breaker_state", Gauge in Count:
        "1 for the state that the circuit breaker is in, 0 for the others; keyed: breakers in that state.";
    TRANSITIONS = "circuit_breaker_transitions_total", Counter in Count:
        "Changes of state, by the new state.";
    FAILURE_RATIO = "circuit_breaker_failure_ratio", Gauge in Count:
        "Share of failures in the window, 0 below its minimum of calls; keyed: the highest.";
    SLOW_RATIO = "circuit_breaker_slow_call_ratio", Gauge in Count:
        "Share of slow calls in the window, 0 below its minimum of calls; keyed: the highest.";
    WINDOW_CALLS = "circuit_breaker_window_calls", Gauge in Count:
        "Calls in the window; keyed: in all.";
    WINDOW_FAILURES = "circuit_breaker_window_failures", Gauge in Count:
        "Failures in the window; keyed: in all.";
    WINDOW_SLOW = "circuit_breaker_window_slow_calls", Gauge in Count:
        "Slow calls in the window; keyed: in all.";
    ATTEMPTS = "retry_attempts", Histogram in Count:
        "Attempts per call, the first counted; more than 16 count as 16.";
    RETRIES = "retry_retries_total", Counter in Count:
        "Attempts beyond the first.";
    RECOVERED = "retry_recovered_total", Counter in Count:
        "Calls that a retry saved.";
    GAVE_UP = "retry_gave_up_total", Counter in Count:
        "Failed calls that got no other attempt, by why.";
    BUDGET_LEFT = "retry_budget_left", Gauge in Count:
        "Retries that the budget would pay for now; keyed: the lowest.";
    IN_FLIGHT = "bulkhead_in_flight", Gauge in Count:
        "Calls in flight; keyed: of all.";
    QUEUED = "bulkhead_queued", Gauge in Count:
        "Calls that wait for a slot; keyed: of all.";
    LIMIT = "bulkhead_limit", Gauge in Count:
        "Calls that may be in flight at once; keyed: of all.";
    OCCUPANCY = "bulkhead_occupancy_ratio", Gauge in Count:
        "Share of slots in use, above 1 for a while after the limit was lowered; keyed: the highest.";
    WAIT_DURATION = "bulkhead_wait_duration_seconds", Histogram in Seconds:
        "How long calls waited in the queue that got a slot after waiting.";
    KEYS = "keys", Gauge in Count:
        "Keys with policies of their own.";
    KEYS_LIMIT = "keys_limit", Gauge in Count:
        "Keys that may have policies of their own.";
    KEYS_FORGOTTEN = "keys_forgotten_total", Counter in Count:
        "Keys that were forgotten because nobody asked for them.";
    KEYS_OVERFLOWED = "keys_overflowed_total", Counter in Count:
        "Lookups that found no place for their key and got the shared policy.";
    GENERATION = "config_generation", Gauge in Count:
        "The number of the settings in force.";
    RELOADS = "config_reloads_total", Counter in Count:
        "Settings that were taken, the first counted.";
    RELOAD_FAILURES = "config_reload_failures_total", Counter in Count:
        "Settings that were wrong, and not taken.";
    RELOAD_FAILING = "config_reload_failing", Gauge in Count:
        "1 while the last settings were wrong, so that those in force are older; else 0.";
    ORPHANED = "config_orphaned_stacks", Gauge in Count:
        "Stacks that are gone from the settings and go on under the last that they had.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_its_metric_is() {
        for metric in ALL {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{metric:?}");
            let is_time = metric.name.ends_with("_seconds");
            assert_eq!(is_time, metric.unit == Unit::Seconds, "{metric:?}");
        }
    }

    #[test]
    fn the_page_for_operators_has_each_metric_under_its_kind() {
        let page = include_str!("../../../docs/metrics.md");
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let row = format!("| `buttress_{}` | {kind} |", metric.name);
            assert!(page.contains(&row), "it lacks {row}");
        }
    }
}
