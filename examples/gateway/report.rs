//! What is printed while the program runs: a line a second.

use std::{
    fmt::{self, Display},
    io::Write as _,
    time::Duration,
};

use tokio::time::{Instant, Interval, interval_at};

use crate::{
    guard::{Guard, Readings},
    proxy::Gateway,
    stats::{Call, Outcome, count, percentile},
};

/// Prints a line. When nobody reads any more (`| head`), the program has nothing left to do.
pub(crate) fn say(line: impl Display) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

pub(crate) fn say_policies(guard: &Guard, images: bool) {
    say(format_args!(
        "The stacks, outermost policy first, from {} (an edit is taken while this runs):",
        guard.settings()
    ));
    for (place, policies) in guard.describe(images) {
        say(format_args!("  {place}"));
        for policy in policies {
            say(format_args!("    - {policy}"));
        }
    }
}

/// What the columns of the lines mean.
pub(crate) const LEGEND: &str = "\
Each line is one second. Calls that ended in it, by what became of them:
  ok       answered by the upstream               5xx      the upstream's own error, passed on
  refused  503 of the gateway: the circuit is     cut-off  504 of the gateway: its timeout ran out
           open, or the bulkhead is full          lost     connection refused or broken
  hung-up  the client's patience came to an end
Then how long they took, whatever became of them, in ms; the circuit breaker's state when the second
ended; retries asked for (an open circuit refuses them, too); requests that the gateway sent to the
upstream; calls in flight when the second ended.";

/// One second of a pass.
pub(crate) struct Second<'a> {
    at: Duration,
    phase: &'a str,
    calls: &'a [Call],
    breaker: &'static str,
    retries: u64,
    sent: u64,
    pub(crate) in_flight: usize,
}

impl Second<'_> {
    pub(crate) const HEADER: &'static str = "   s  phase         calls   ok  5xx refused cut-off hung-up lost   p50   p99  \
                                             breaker   retries sent in-flight";
}

impl Display for Second<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |outcome| count(self.calls, outcome);
        write!(
            f,
            "{:>4}  {:<13} {:>5} {:>4} {:>4} {:>7} {:>7} {:>7} {:>4} {:>5} {:>5}  {:<9} {:>7} {:>4} {:>9}",
            self.at.as_secs(),
            self.phase,
            self.calls.len(),
            n(Outcome::Answered),
            n(Outcome::UpstreamError),
            n(Outcome::CircuitOpen) + n(Outcome::BulkheadFull),
            n(Outcome::TimedOut),
            n(Outcome::HungUp),
            n(Outcome::Lost),
            millis(percentile(self.calls, 50)),
            millis(percentile(self.calls, 99)),
            self.breaker,
            self.retries,
            self.sent,
            self.in_flight,
        )
    }
}

/// Reads the gauges once a second.
pub(crate) struct Seconds<'a> {
    begun: Instant,
    ticks: Interval,
    gateway: &'a Gateway,
    guard: &'a Guard,
    /// What the counters said a second ago.
    sent: u64,
    readings: Readings,
}

impl<'a> Seconds<'a> {
    pub(crate) fn new(begun: Instant, gateway: &'a Gateway, guard: &'a Guard) -> Self {
        let second = Duration::from_secs(1);
        let ticks = interval_at(begun + second, second);
        Self {
            begun,
            ticks,
            gateway,
            guard,
            sent: 0,
            readings: Readings::default(),
        }
    }

    /// Waits for the end of the next second; answers how long it is after the beginning.
    pub(crate) async fn next(&mut self) -> Duration {
        self.ticks.tick().await - self.begun
    }

    /// The second that ends `at`.
    pub(crate) fn read<'b>(&mut self, at: Duration, phase: &'b str, calls: &'b [Call]) -> Second<'b> {
        let (sent, readings) = (self.gateway.traffic().sent(), self.guard.readings());
        let line = Second {
            at,
            phase,
            calls,
            breaker: self.guard.breaker(),
            retries: readings.retries - self.readings.retries,
            sent: sent - self.sent,
            in_flight: self.gateway.traffic().in_flight(),
        };
        (self.sent, self.readings) = (sent, readings);
        line
    }
}

/// Whole milliseconds; a dash where there is no time.
pub(crate) fn millis(time: Option<Duration>) -> String {
    match time.map(|time| time.as_millis()) {
        None => "-".to_owned(),
        Some(0) => "<1".to_owned(),
        Some(millis) => millis.to_string(),
    }
}
