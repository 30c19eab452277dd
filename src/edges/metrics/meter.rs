//! The counts that handles keep, and how they are published.

use super::{
    catalog,
    sink::{Sink, Word},
};
use crate::{
    composition::counting::{AnyMeter, Role},
    drivers::stack::AnyPolicy,
    policies::retry::meter::MOST_ATTEMPTS,
    vocabulary::{
        event::PolicyKind,
        meter::{BUCKETS, Counter, middle_of},
        state::State,
    },
};

/// All that it has counted, in the order in which [`Counts`] are taken apart.
fn read(meter: &AnyMeter) -> Vec<u64> {
    let read = |counters: &[&Counter]| counters.iter().map(|counter| counter.read()).collect::<Vec<_>>();
    match meter {
        AnyMeter::CircuitBreaker(meter) => {
            let refused = &meter.refused;
            let refused = [
                &refused.open,
                &refused.forced_open,
                &refused.probes_taken,
                &refused.was_open,
            ];
            let transitions = State::ALL.map(|state| meter.transitions(state));
            [
                meter.succeeded.read(),
                meter.failed.read(),
                meter.ignored.read(),
                read(&refused),
                transitions.to_vec(),
            ]
            .concat()
        }
        AnyMeter::Retry(meter) => {
            let by_attempts = [&meter.succeeded, &meter.failed, &meter.ignored, &meter.dropped];
            let by_attempts = by_attempts.into_iter().flatten().map(Counter::read);
            let gave_up = &meter.gave_up;
            let others = read(&[
                &meter.retries,
                &gave_up.attempts,
                &gave_up.elapsed,
                &gave_up.budget,
                &gave_up.not_repeatable,
                &gave_up.not_advised,
                &gave_up.not_ready,
            ]);
            by_attempts.chain(others).collect()
        }
        AnyMeter::Timeout(meter) => read(&[&meter.completed, &meter.timed_out, &meter.dropped]),
        AnyMeter::Bulkhead(meter) => {
            let counters = [
                &meter.admitted,
                &meter.dropped,
                &meter.full,
                &meter.queue_full,
                &meter.waited_too_long,
            ];
            [read(&counters), meter.waits.read()].concat()
        }
        AnyMeter::Fallback(meter) => read(&[&meter.passed, &meter.answered, &meter.dropped]),
    }
}

/// What policies of one kind and name have counted, all together.
#[derive(Debug)]
pub(super) struct Counted {
    kind: PolicyKind,
    /// The meters, and what was read from them last. One goes when its last policy does; what it counted stays.
    meters: Vec<(AnyMeter, Vec<u64>)>,
    totals: Vec<u64>,
    /// Of these, what came since the last time.
    fresh: Vec<u64>,
}

impl Counted {
    pub(super) const fn new(kind: PolicyKind) -> Self {
        Self {
            kind,
            meters: Vec::new(),
            totals: Vec::new(),
            fresh: Vec::new(),
        }
    }

    pub(super) const fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// Lets a policy count from now on, that of a key by the meter of what it was made from.
    pub(super) fn begin(&mut self, policy: &AnyPolicy, role: Role<'_>) {
        let meter = AnyMeter::begin(policy, role);
        if !self.meters.iter().any(|(known, _)| known.is(&meter)) {
            self.meters.push((meter, Vec::new()));
        }
    }

    fn read(&mut self) {
        self.fresh.fill(0);
        // Seen before it is read: what nobody counts by any more is read to the end.
        self.meters.retain_mut(|(meter, last)| {
            let is_in_use = meter.is_in_use();
            let now = read(meter);
            last.resize(now.len(), 0);
            self.fresh.resize(now.len(), 0);
            self.totals.resize(now.len(), 0);
            for (at, now) in now.iter().enumerate() {
                let fresh = now.wrapping_sub(last[at]);
                self.fresh[at] += fresh;
                self.totals[at] += fresh;
            }
            *last = now;
            is_in_use
        });
    }

    pub(super) fn publish(&mut self, sink: &Sink<'_>) {
        self.read();
        let mut counts = Counts {
            totals: &self.totals,
            fresh: &self.fresh,
        };
        match self.kind {
            PolicyKind::CircuitBreaker => publish_circuit_breaker(sink, &mut counts),
            PolicyKind::Retry => publish_retry(sink, &mut counts),
            PolicyKind::Timeout => publish_timeout(sink, &mut counts),
            PolicyKind::Bulkhead => publish_bulkhead(sink, &mut counts),
            PolicyKind::Fallback => publish_fallback(sink, &mut counts),
            PolicyKind::Registry => {}
        }
    }
}

/// Counts that are taken apart from the front.
struct Counts<'a> {
    totals: &'a [u64],
    fresh: &'a [u64],
}

impl<'a> Counts<'a> {
    fn take(&mut self, many: usize) -> Counts<'a> {
        let (totals, rest) = self.totals.split_at(many.min(self.totals.len()));
        self.totals = rest;
        let (fresh, rest) = self.fresh.split_at(many.min(self.fresh.len()));
        self.fresh = rest;
        Counts { totals, fresh }
    }

    fn next(&mut self) -> u64 {
        self.take(1).sum()
    }

    fn sum(&self) -> u64 {
        self.totals.iter().sum()
    }

    /// What came since the last time, by the middle of its bucket.
    fn fresh_durations(&self) -> impl Iterator<Item = (f64, u64)> {
        let fresh = self.fresh.iter().enumerate();
        fresh.map(|(bucket, count)| (middle_of(bucket), *count))
    }
}

fn calls(sink: &Sink<'_>, outcome: &'static str, total: u64) {
    sink.counter(catalog::CALLS, &[("outcome", outcome)], total);
}

/// Rejections of one kind. Their sum.
fn rejections(sink: &Sink<'_>, kind: &'static str, reasons: &[&'static str], counts: &mut Counts<'_>) -> u64 {
    let mut sum = 0;
    for reason in reasons {
        let total = counts.next();
        let words: [Word; 2] = [("kind", kind), ("reason", reason)];
        sink.counter(catalog::REJECTIONS, &words, total);
        sum += total;
    }
    sum
}

fn publish_circuit_breaker(sink: &Sink<'_>, counts: &mut Counts<'_>) {
    for outcome in ["success", "failure", "ignored"] {
        let durations = counts.take(BUCKETS);
        calls(sink, outcome, durations.sum());
        let words = [("outcome", outcome)];
        sink.histogram(catalog::CALL_DURATION, &words, durations.fresh_durations());
    }
    let reasons = ["open", "forced_open", "probes_taken", "was_open"];
    let rejected = rejections(sink, "circuit_open", &reasons, counts);
    calls(sink, "rejected", rejected);
    for state in State::ALL {
        sink.counter(catalog::TRANSITIONS, &[("to", state.word())], counts.next());
    }
}

fn publish_retry(sink: &Sink<'_>, counts: &mut Counts<'_>) {
    let mut recovered = 0;
    for outcome in ["success", "failure", "ignored", "dropped"] {
        let by_attempts = counts.take(MOST_ATTEMPTS);
        calls(sink, outcome, by_attempts.sum());
        if outcome == "success" {
            recovered = by_attempts.totals.iter().skip(1).sum();
        }
        let attempts = by_attempts.fresh.iter().enumerate();
        let attempts = attempts.map(|(place, count)| ((place + 1) as f64, *count));
        sink.histogram(catalog::ATTEMPTS, &[("outcome", outcome)], attempts);
    }
    sink.counter(catalog::RECOVERED, &[], recovered);
    sink.counter(catalog::RETRIES, &[], counts.next());
    for reason in [
        "attempts",
        "elapsed",
        "budget",
        "not_repeatable",
        "not_advised",
        "not_ready",
    ] {
        sink.counter(catalog::GAVE_UP, &[("reason", reason)], counts.next());
    }
}

fn publish_timeout(sink: &Sink<'_>, counts: &mut Counts<'_>) {
    calls(sink, "completed", counts.next());
    let timed_out = rejections(sink, "timed_out", &["timed_out"], counts);
    calls(sink, "rejected", timed_out);
    calls(sink, "dropped", counts.next());
}

fn publish_bulkhead(sink: &Sink<'_>, counts: &mut Counts<'_>) {
    calls(sink, "admitted", counts.next());
    calls(sink, "dropped", counts.next());
    let reasons = ["full", "queue_full", "waited_too_long"];
    let rejected = rejections(sink, "bulkhead_full", &reasons, counts);
    calls(sink, "rejected", rejected);
    let waits = counts.take(BUCKETS);
    sink.histogram(catalog::WAIT_DURATION, &[], waits.fresh_durations());
}

fn publish_fallback(sink: &Sink<'_>, counts: &mut Counts<'_>) {
    for outcome in ["passed", "answered", "dropped"] {
        calls(sink, outcome, counts.next());
    }
}
