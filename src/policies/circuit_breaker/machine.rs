//! The state machine, under the breaker's lock: pure, `now` goes in and a decision comes out.

use std::sync::Arc;

use super::{
    config::{Settings, StayEnd, WindowShape},
    gate::{Gate, Glance},
    probes::Probes,
    window::{CountWindow, Record, Tag, TimeWindow, Totals, Window},
};
use crate::vocabulary::{
    clock::{Now, Timestamp},
    outcome::Verdict,
    rate::Rate,
    rejected::{OpenCause, Reason},
    state::State,
};

/// Everything that changes, but for what the [`Gate`] counts without the lock.
#[derive(Debug)]
pub(super) struct Machine {
    settings: Arc<Settings>,
    state: State,
    /// Counts states: whoever was admitted in an earlier one has no say in this one.
    generation: u32,
    /// Counts states and buckets: gives the tally its tags.
    epoch: u32,
    /// The calls of this state. Open keeps the window of the state that it came from.
    window: Window,
    /// Those of half-open.
    probes: Option<Box<Probes>>,
    /// Failures in a row, in this state.
    consecutive: u32,
    /// Openings since the breaker was last closed, disabled or metrics only.
    openings: u32,
    since: Timestamp,
    /// When open ends its wait, or half-open its longest stay.
    until: Timestamp,
    cause: Option<Box<OpenCause>>,
    /// Judged within the newest bucket, with enough calls: a plain success cannot reach a threshold.
    judged: bool,
    /// Whether calls are counted by how long they take.
    counts: bool,
}

/// A change of state, to be told once the lock is released.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transition {
    pub(super) from: State,
    pub(super) to: State,
    pub(super) cause: Option<OpenCause>,
}

/// The changes of one step: at most two, as an overstayed half-open that ends and then opens.
#[derive(Debug, Default)]
pub(super) struct Changes(pub(super) [Option<Transition>; 2]);

impl Changes {
    fn push(&mut self, transition: Transition) {
        let free = usize::from(self.0[0].is_some());
        self.0[free] = Some(transition);
    }

    pub(super) const fn any(&self) -> bool {
        self.0[0].is_some()
    }
}

/// An admission: the generation that it belongs to, and the probe's serial number (0 when it is none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) generation: u32,
    pub(super) probe: u32,
}

impl Admitted {
    /// That of a call in a state that just admits.
    #[inline(always)]
    pub(super) const fn of(glance: Glance) -> Self {
        Self {
            generation: glance.generation(),
            probe: 0,
        }
    }
}

/// A view for snapshots.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) state: State,
    pub(super) generation: u32,
    pub(super) totals: Totals,
    /// Calls from which on rates exist.
    pub(super) minimum: u64,
    pub(super) since: Timestamp,
    pub(super) until: Option<Timestamp>,
    pub(super) cause: Option<OpenCause>,
    pub(super) openings: u32,
}

impl Machine {
    pub(super) fn new(settings: Arc<Settings>, counts: bool, gate: &Gate, now: Timestamp) -> Self {
        let initial = settings.initial_state;
        let mut machine = Self {
            settings,
            state: State::Closed,
            generation: 0,
            epoch: 0,
            window: Window::None,
            probes: None,
            consecutive: 0,
            openings: 0,
            since: now,
            until: Timestamp::MAX,
            cause: None,
            judged: false,
            counts,
        };
        machine.settings.show(gate);
        machine.enter(initial, Some(OpenCause::Command), gate, now);
        machine.publish(gate);
        machine
    }

    /// Lets calls be timed from the next on, so that they can be counted by how long they take.
    pub(super) fn begin_counting(&mut self, gate: &Gate) {
        if !self.counts {
            self.counts = true;
            self.publish(gate);
        }
    }

    /// When to look for due changes without being asked, where the settings want that.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        (self.settings.is_automatic() && self.until != Timestamp::MAX).then_some(self.until)
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Whether its time is over, or its state is that of a new one.
    pub(super) fn is_forgettable(&self, now: Timestamp) -> bool {
        match self.state {
            State::Closed => true,
            State::Open => now > self.until,
            State::HalfOpen => self.until == Timestamp::MAX || now > self.until,
            State::ForcedOpen | State::Disabled | State::MetricsOnly => {
                self.state == self.settings.initial_state
            }
        }
    }

    /// Probes that half-open admits.
    pub(super) fn probes(&self) -> u32 {
        self.settings.probes
    }

    /// Whether an admission would be refused.
    pub(super) fn would_refuse(&mut self, gate: &Gate, now: &mut Now<'_>, changes: &mut Changes) -> bool {
        self.make_due_changes(gate, now, changes, false);
        match self.state {
            State::Closed | State::Disabled | State::MetricsOnly => false,
            State::Open => now.get() <= self.until,
            State::ForcedOpen => true,
            State::HalfOpen => !self.probes.as_ref().is_some_and(|probes| probes.any_left()),
        }
    }

    /// Takes new settings. True when the window's shape changed, which empties it.
    pub(super) fn reconfigure(&mut self, settings: Arc<Settings>, gate: &Gate, now: Timestamp) -> bool {
        let reshaped = self.settings.window != settings.window
            && matches!(self.state, State::Closed | State::MetricsOnly);
        if self.settings.consecutive_failures.is_none() {
            // It was not kept up to date while nobody asked for it.
            self.consecutive = 0;
        }
        self.settings = settings;
        self.settings.show(gate);
        // Other thresholds may hold from the next record on: nothing counts as judged before.
        self.judged = false;
        let counted = gate.tally.close();
        if reshaped {
            self.next_epoch();
            self.window = self.fresh_window(gate, now);
        } else {
            self.window.add_plain_successes(counted.successes);
            if self.is_steady() {
                gate.tally.reopen(self.tag(), counted);
            }
        }
        self.publish(gate);
        reshaped
    }

    /// Asks for admission in a state that does not just admit.
    pub(super) fn admit(
        &mut self,
        gate: &Gate,
        now: &mut Now<'_>,
        changes: &mut Changes,
    ) -> Result<Admitted, Reason> {
        self.make_due_changes(gate, now, changes, true);
        let decision = match self.state {
            State::Closed | State::Disabled | State::MetricsOnly => Ok(Admitted {
                generation: self.generation,
                probe: 0,
            }),
            State::Open => Err(Reason::Open(gate.cause())),
            State::ForcedOpen => Err(Reason::ForcedOpen),
            State::HalfOpen => match self.probes.as_mut().and_then(|probes| probes.admit(now.get())) {
                Some(probe) => Ok(Admitted {
                    generation: self.generation,
                    probe,
                }),
                None => Err(Reason::ProbesTaken {
                    probes: self.settings.probes,
                }),
            },
        };
        self.publish(gate);
        decision
    }

    /// Makes the changes of state that time has made due. An open state goes half-open only when `asked`:
    /// for an admission, or when the settings say that it does by itself.
    pub(super) fn make_due_changes(
        &mut self,
        gate: &Gate,
        now: &mut Now<'_>,
        changes: &mut Changes,
        asked: bool,
    ) {
        match self.state {
            // `until` itself still belongs to the wait.
            State::Open if asked && now.get() > self.until => {
                self.change(State::HalfOpen, None, gate, now, changes);
            }
            State::HalfOpen => {
                if now.get() > self.until {
                    match self.settings.stay_end {
                        StayEnd::Open => {
                            self.change(
                                State::Open,
                                Some(OpenCause::HalfOpenOverstayed),
                                gate,
                                now,
                                changes,
                            );
                        }
                        StayEnd::Close => self.change(State::Closed, None, gate, now, changes),
                    }
                } else {
                    self.give_up_probes(now.get());
                }
            }
            _ => {}
        }
        self.publish(gate);
    }

    fn give_up_probes(&mut self, now: Timestamp) {
        let earliest = now.as_nanos().checked_sub(self.settings.max_probe_age);
        if let (Some(probes), Some(earliest)) = (&mut self.probes, earliest) {
            probes.give_up(Timestamp::from_nanos(earliest));
        }
    }

    /// Records a result. One that was admitted in an earlier state changes nothing.
    pub(super) fn record(
        &mut self,
        admitted: Admitted,
        verdict: Verdict,
        slow: bool,
        gate: &Gate,
        now: &mut Now<'_>,
        changes: &mut Changes,
    ) -> bool {
        if self.state == State::HalfOpen {
            // A stay that is over, or a probe that is too old, decides nothing any more.
            self.make_due_changes(gate, now, changes, false);
        }
        if admitted.generation != self.generation {
            return false;
        }
        if verdict == Verdict::Ignored {
            if let Some(probes) = &mut self.probes {
                probes.give_back(admitted.probe);
            }
            return true;
        }
        let record = Record {
            failed: verdict == Verdict::Failure,
            slow,
        };
        match self.state {
            State::Closed | State::MetricsOnly => {
                self.rotate(gate, now);
                if !(record.is_plain_success() && self.count_in_tally(gate)) {
                    self.record_in_window(record, gate, now, changes);
                }
            }
            State::HalfOpen => {
                // A probe that was given up has no say any more.
                let mut probes = self.probes.as_mut();
                if !probes
                    .as_mut()
                    .is_some_and(|probes| probes.finish(admitted.probe))
                {
                    return false;
                }
                self.window.record(record);
                self.consecutive = if record.failed {
                    self.consecutive.saturating_add(1)
                } else {
                    0
                };
                let totals = self.window.totals();
                if totals.calls >= self.minimum() {
                    match self.judge(totals, self.minimum()) {
                        Some(cause) => self.change(State::Open, Some(cause), gate, now, changes),
                        None => self.change(State::Closed, None, gate, now, changes),
                    }
                }
            }
            // Open and forced open admit nobody, and disabled records nothing.
            State::Open | State::ForcedOpen | State::Disabled => return false,
        }
        self.publish(gate);
        true
    }

    /// An operator's command: begins the state afresh, also when it is the one that the breaker is in.
    pub(super) fn command(&mut self, to: State, gate: &Gate, now: &mut Now<'_>, changes: &mut Changes) {
        let cause = (to == State::Open).then_some(OpenCause::Command);
        self.change(to, cause, gate, now, changes);
        self.publish(gate);
    }

    pub(super) fn view(&mut self, gate: &Gate, now: &mut Now<'_>) -> View {
        self.rotate(gate, now);
        self.take_successes(gate);
        self.publish(gate);
        View {
            state: self.state,
            generation: self.generation,
            totals: self.window.totals(),
            minimum: self.minimum(),
            since: self.since,
            until: (self.until != Timestamp::MAX).then_some(self.until),
            cause: self.cause(),
            openings: self.openings,
        }
    }

    /// The window, as the last view of it was.
    pub(super) const fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn probes_under_way(&self) -> usize {
        self.probes.as_ref().map_or(0, |probes| probes.under_way())
    }

    fn cause(&self) -> Option<OpenCause> {
        self.cause.as_deref().copied()
    }

    pub(super) const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    fn change(
        &mut self,
        to: State,
        cause: Option<OpenCause>,
        gate: &Gate,
        now: &mut Now<'_>,
        changes: &mut Changes,
    ) {
        let from = self.state;
        // Its window stays on show in open, with what the tally holds.
        self.rotate(gate, now);
        self.enter(to, cause, gate, now.get());
        changes.push(Transition {
            from,
            to,
            cause: self.cause(),
        });
    }

    fn enter(&mut self, to: State, cause: Option<OpenCause>, gate: &Gate, now: Timestamp) {
        self.window.add_plain_successes(gate.tally.close().successes);
        self.generation = self.generation.wrapping_add(1);
        self.next_epoch();
        self.state = to;
        self.since = now;
        self.until = Timestamp::MAX;
        self.cause = None;
        self.probes = None;
        self.consecutive = 0;
        self.judged = false;
        if to != State::Open {
            gate.forget_refusals();
        }
        match to {
            State::Closed | State::MetricsOnly => {
                self.openings = 0;
                self.window = self.fresh_window(gate, now);
            }
            State::Disabled => {
                self.openings = 0;
                self.window = Window::None;
            }
            State::Open => {
                self.openings = self.openings.saturating_add(1);
                self.cause = cause.map(Box::new);
                self.until = now.after(self.settings.open_wait(self.openings));
            }
            State::ForcedOpen => {
                self.openings = self.openings.saturating_add(1);
                self.window = Window::None;
            }
            State::HalfOpen => {
                self.probes = Some(Box::new(Probes::new(self.settings.probes)));
                self.window = Window::Count(CountWindow::new(self.settings.probes));
                if let Some(stay) = self.settings.max_stay {
                    self.until = now.after(stay);
                }
            }
        }
    }

    fn fresh_window(&self, gate: &Gate, now: Timestamp) -> Window {
        match self.settings.window {
            WindowShape::Calls(size) => {
                // So many successes fill the window. Whoever finds that takes them in, and from then on successes write
                // nothing.
                gate.tally.set_limit(size.into());
                Window::Count(CountWindow::new(size))
            }
            WindowShape::Time { buckets, width } => {
                gate.tally.set_limit(u64::MAX);
                Window::Time(TimeWindow::new(buckets, width, now))
            }
        }
    }

    /// Counts a plain success where others count theirs without the lock, if that is allowed now. The first one of this
    /// thread opens its cell of the tally.
    fn count_in_tally(&self, gate: &Gate) -> bool {
        let tag = self.tag();
        self.is_steady() && self.is_tallied() && (gate.tally.add(tag) || gate.tally.begin(tag))
    }

    /// Records a call and judges the window.
    fn record_in_window(&mut self, record: Record, gate: &Gate, now: &mut Now<'_>, changes: &mut Changes) {
        self.take_successes(gate);
        if self.is_steady() && self.stays_steady_with(record) {
            // Successes go on meanwhile: those that were taken came before this call, and the others come after it.
            self.window.record(record);
            self.judged = true;
            return;
        }
        // Nobody counts in the tally meanwhile: each success there comes before this call or after the judgement.
        let counted = gate.tally.close();
        self.window.add_plain_successes(counted.successes);
        self.window.record(record);
        if self.state == State::Closed {
            self.consecutive = if record.failed {
                self.consecutive.saturating_add(1)
            } else {
                0
            };
            let (totals, minimum) = (self.window.totals(), self.minimum());
            match self.judge(totals, minimum) {
                Some(cause) => self.change(State::Open, Some(cause), gate, now, changes),
                None => self.judged = totals.calls >= minimum,
            }
        }
        if self.is_steady() {
            gate.tally.reopen(self.tag(), counted);
        }
    }

    /// Takes into the window what the tally counts.
    fn take_successes(&mut self, gate: &Gate) {
        let successes = gate.tally.take(self.tag());
        self.window.add_plain_successes(successes);
    }

    /// Whether a call that is recorded now opens nothing, and plain successes go on to change nothing but counts.
    fn stays_steady_with(&self, record: Record) -> bool {
        if self.state == State::MetricsOnly {
            return true;
        }
        let (totals, minimum) = (self.window.totals_with(record), self.minimum());
        let begins_a_row = record.failed && self.settings.consecutive_failures.is_some();
        !begins_a_row && totals.calls >= minimum && self.judge(totals, minimum).is_none()
    }

    /// Moves a time window on to now, taking in what the tally counted for the bucket that ends.
    fn rotate(&mut self, gate: &Gate, now: &mut Now<'_>) {
        if let Window::Time(window) = &mut self.window
            && now.get() >= window.bucket_end()
        {
            window.add_plain_successes(gate.tally.close().successes);
            window.advance(now.get());
            self.judged = false;
            self.next_epoch();
        }
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn tag(&self) -> Tag {
        Tag::of_epoch(self.epoch)
    }

    /// Calls from which on rates exist. The size of a count window caps it, in half-open too, where the
    /// number of probes does as well.
    fn minimum(&self) -> u64 {
        let mut minimum = self.settings.minimum_calls;
        if let WindowShape::Calls(size) = self.settings.window {
            minimum = minimum.min(size);
        }
        if let Window::Count(window) = &self.window {
            minimum = minimum.min(window.size());
        }
        u64::from(minimum)
    }

    /// Why to open, if there is a reason to.
    fn judge(&self, totals: Totals, minimum: u64) -> Option<OpenCause> {
        let settings = &self.settings;
        if totals.calls >= minimum {
            let rate = |part: u64| Rate::fraction(part as f64 / totals.calls as f64);
            if settings
                .failure_rate
                .is_some_and(|rate| rate.reached_by(totals.failed, totals.calls))
            {
                return Some(OpenCause::FailureRate {
                    rate: rate(totals.failed),
                    calls: totals.calls,
                });
            }
            if settings
                .slow_rate()
                .is_some_and(|rate| rate.reached_by(totals.slow, totals.calls))
            {
                return Some(OpenCause::SlowCallRate {
                    rate: rate(totals.slow),
                    calls: totals.calls,
                });
            }
        }
        // Half-open sees no more calls in a row than it judges, so its probes are enough there.
        let in_a_row = settings.consecutive_failures.map(|failures| match self.state {
            State::HalfOpen => failures.min(u32::try_from(minimum).unwrap_or(u32::MAX)),
            _ => failures,
        });
        in_a_row
            .is_some_and(|failures| self.consecutive >= failures)
            .then_some(OpenCause::ConsecutiveFailures {
                failures: self.consecutive,
            })
    }

    /// Whether a plain success would change nothing but the counts of the window.
    ///
    /// It raises no rate. So it can open the breaker only where the calls before it were too few to be judged, and then
    /// only with failures or slow calls among them; or, in a time window, where older calls have left since.
    fn is_steady(&self) -> bool {
        match self.state {
            // Disabled records nothing, and metrics only judges nothing.
            State::Disabled | State::MetricsOnly => true,
            State::Closed => {
                let totals = self.window.totals();
                let spotless = totals.failed == 0 && totals.slow == 0;
                let counts_in_a_row = self.consecutive > 0 && self.settings.consecutive_failures.is_some();
                (spotless || self.judged) && !counts_in_a_row
            }
            State::Open | State::HalfOpen | State::ForcedOpen => false,
        }
    }

    /// Whether plain successes change the counts of the window, so that the tally is to count them.
    fn is_tallied(&self) -> bool {
        matches!(self.state, State::Closed | State::MetricsOnly)
            && match &self.window {
                Window::None => false,
                Window::Count(window) => !window.is_full_of_plain_successes(),
                Window::Time(_) => true,
            }
    }

    fn publish(&mut self, gate: &Gate) {
        let mut glance = Glance::new(self.state, self.generation, self.tag());
        if self.is_steady() {
            glance = glance.steady();
        }
        if self.is_tallied() {
            glance = glance.tallied();
        }
        if self.counts || gate.slow_after() != u64::MAX {
            glance = glance.timed();
        }
        let end = match &self.window {
            Window::Time(window) if self.is_tallied() => {
                glance = glance.bucketed();
                window.bucket_end()
            }
            _ => Timestamp::MAX,
        };
        let opening = (self.state == State::Open).then_some((self.until, self.cause()));
        gate.publish(glance, opening, end);
    }
}
