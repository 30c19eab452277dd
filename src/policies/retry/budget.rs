//! The retry budget: how many retries the calls of the last while pay for.

use std::{fmt, sync::Arc, time::Duration};

use super::fresh::{Fresh, Last};
use crate::vocabulary::{
    clock::{Clock, Timestamp, nanos},
    rate::{Millionths, Rate},
    settings::ConfigError,
    sync::{Mutex, lock},
};

/// Settings of a [`RetryBudget`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RetryBudgetConfig {
    /// Retries that each call pays for: 0.2 is one retry for five calls. From 0 to 1. Default: 0.2.
    pub ratio: Rate,
    /// Retries per second that are free, so that a service with little traffic can retry at all. Zero: none.
    /// Default: 3.
    pub min_per_second: u32,
    /// How far back calls and retries are counted, from 100 ms. Default: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub window: Duration,
    /// Where the time is read. Default: Tokio's clock.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub clock: Clock,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self {
            ratio: Rate::fraction(0.2),
            min_per_second: 3,
            window: Duration::from_secs(10),
            clock: Clock::tokio(),
        }
    }
}

impl RetryBudgetConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`ratio`](Self::ratio).
    pub fn ratio(mut self, ratio: impl Into<Rate>) -> Self {
        self.ratio = ratio.into();
        self
    }

    /// Sets [`min_per_second`](Self::min_per_second).
    pub fn min_per_second(mut self, retries: u32) -> Self {
        self.min_per_second = retries;
        self
    }

    /// Sets [`window`](Self::window).
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets [`clock`](Self::clock).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the budget.
    ///
    /// # Errors
    ///
    /// A setting out of its range: the error names it, its value and what is accepted.
    pub fn build(self) -> Result<RetryBudget, ConfigError> {
        let terms = self.check().map_err(about_budget)?;
        let ledger = Mutex::new(Ledger::new(terms, self.clock.now()));
        Ok(RetryBudget(Arc::new(Shared {
            fresh: Fresh::new(),
            ledger,
            clock: self.clock,
        })))
    }

    pub(crate) fn check(&self) -> Result<Terms, ConfigError> {
        let ratio = self.ratio.as_fraction();
        if !(0.0..=1.0).contains(&ratio) {
            let accepted = "accepted: from 0 to 1 (a fraction of the calls)";
            return Err(ConfigError::new("budget.ratio", ratio, accepted));
        }
        if self.window < Duration::from_millis(100) || self.window > Duration::from_secs(86_400) {
            let value = format!("{:?}", self.window);
            return Err(ConfigError::new(
                "budget.window",
                value,
                "accepted: from 100ms to one day",
            ));
        }
        if ratio == 0.0 && self.min_per_second == 0 {
            return Err(ConfigError::new(
                "budget.min_per_second",
                0,
                "with a ratio of 0 no retry could ever be made; raise one of them",
            ));
        }
        Ok(Terms {
            ratio: (ratio > 0.0).then(|| Millionths::of(self.ratio)),
            min_per_second: self.min_per_second,
            bucket: (nanos(self.window) / STEPS as u64).max(1),
        })
    }
}

fn about_budget(error: ConfigError) -> ConfigError {
    error.about("retry budget")
}

/// A budget for retries: a cheap handle on shared state, which many retries can share.
///
/// Over its window, retries are at most `ratio * calls + min_per_second * window`. So a failing service sees
/// its load grow by that share, not by the number of attempts.
///
/// A call is counted with one atomic addition. Calls enter the window in batches of 16, of 64 while more than 16 000
/// calls come per second, and of 64 for each thread where threads get into each other's way.
/// Those not entered yet count for the time of the batch before: the budget is never larger than its settings say.
#[derive(Clone)]
pub struct RetryBudget(Arc<Shared>);

struct Shared {
    fresh: Fresh,
    ledger: Mutex<Ledger>,
    clock: Clock,
}

/// Steps in which old calls leave the window.
const STEPS: usize = 10;

/// One more than the window has steps: retries are counted over all of them and calls over the newest ten, so that no
/// span as long as the window sees more retries than it pays for.
const BUCKETS: usize = STEPS + 1;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    ratio: Option<Millionths>,
    min_per_second: u32,
    /// Nanoseconds.
    bucket: u64,
}

struct Ledger {
    terms: Terms,
    buckets: [Bucket; BUCKETS],
    /// The number of the newest bucket: its start divided by its length.
    newest: u64,
    last_batch: Option<Last>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    calls: u64,
    retries: u64,
}

/// A retry budget at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RetryBudgetSnapshot {
    /// Calls in the window.
    pub calls: u64,
    /// Retries in the window.
    pub retries: u64,
    /// Retries that may still be made now.
    pub left: u64,
}

impl RetryBudget {
    /// The default settings.
    ///
    /// # Errors
    ///
    /// Never with the default settings.
    pub fn with_defaults() -> Result<Self, ConfigError> {
        RetryBudgetConfig::new().build()
    }

    /// Counts a call, which pays for its share of a retry.
    #[inline]
    pub fn deposit(&self) {
        if self.0.fresh.add() {
            self.enter();
        }
    }

    /// Enters a batch of calls. Those of other batches stay where they are until the newest bucket is another: they were
    /// counted since it is the newest.
    #[cold]
    #[inline(never)]
    fn enter(&self) {
        let now = self.0.clock.now();
        let mut ledger = lock(&self.0.ledger);
        ledger.current().calls += if ledger.is_past(now) {
            self.0.fresh.take_all()
        } else {
            self.0.fresh.take()
        };
        ledger.advance(now);
        self.0.fresh.pace(now, &mut ledger.last_batch);
    }

    /// Takes one retry out of the budget; false when it is spent.
    pub fn withdraw(&self) -> bool {
        self.look(|ledger| {
            let granted = ledger.left() > 0;
            if granted {
                ledger.current().retries += 1;
            }
            granted
        })
    }

    /// Puts one retry back that was withdrawn and not made.
    pub fn give_back(&self) {
        self.look(Ledger::give_back);
    }

    /// Counts of one moment.
    pub fn snapshot(&self) -> RetryBudgetSnapshot {
        self.look(|ledger| {
            let Bucket { calls, retries } = ledger.totals();
            RetryBudgetSnapshot {
                calls,
                retries,
                left: ledger.left(),
            }
        })
    }

    /// Takes new settings in place. Only another window empties the counts.
    ///
    /// # Errors
    ///
    /// A setting out of its range; the budget then goes on as it was.
    pub fn reconfigure(&self, config: &RetryBudgetConfig) -> Result<(), ConfigError> {
        let terms = config.check().map_err(about_budget)?;
        self.look(|ledger| ledger.take_terms(terms, self.0.clock.now()));
        Ok(())
    }

    /// Another one with these settings, in which nothing is counted so far.
    pub(super) fn empty(&self) -> Self {
        let terms = lock(&self.0.ledger).terms;
        Self(Arc::new(Shared {
            fresh: Fresh::new(),
            ledger: Mutex::new(Ledger::new(terms, self.0.clock.now())),
            clock: self.0.clock.clone(),
        }))
    }

    /// Whether both are handles on the same budget.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Counts as where threads have met.
    #[cfg(all(test, buttress_loom))]
    pub(super) fn part(&self) {
        self.0.fresh.part();
    }

    fn look<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        let now = self.0.clock.now();
        let mut ledger = lock(&self.0.ledger);
        ledger.current().calls += self.0.fresh.take_all();
        ledger.advance(now);
        look(&mut ledger)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Ledger {
    fn new(terms: Terms, now: Timestamp) -> Self {
        let newest = now.as_nanos() / terms.bucket;
        Self {
            terms,
            buckets: [Bucket::default(); BUCKETS],
            newest,
            last_batch: None,
        }
    }

    fn take_terms(&mut self, terms: Terms, now: Timestamp) {
        if terms.bucket == self.terms.bucket {
            self.terms = terms;
        } else {
            *self = Self::new(terms, now);
        }
    }

    /// Whether `now` has left the newest bucket behind.
    fn is_past(&self, now: Timestamp) -> bool {
        now.as_nanos() / self.terms.bucket > self.newest
    }

    /// Empties the buckets that `now` has left behind. A clock that stepped back changes nothing.
    fn advance(&mut self, now: Timestamp) {
        let bucket = now.as_nanos() / self.terms.bucket;
        let passed = bucket.saturating_sub(self.newest);
        for step in 1..=passed.min(BUCKETS as u64) {
            *self.at(self.newest + step) = Bucket::default();
        }
        self.newest = self.newest.max(bucket);
    }

    fn current(&mut self) -> &mut Bucket {
        self.at(self.newest)
    }

    fn at(&mut self, number: u64) -> &mut Bucket {
        // The remainder of a division by 11 fits.
        &mut self.buckets[usize::try_from(number % BUCKETS as u64).unwrap_or(0)]
    }

    /// Takes back the newest retry. It may be another than the one that was not made: they count alike.
    fn give_back(&mut self) {
        for age in 0..BUCKETS as u64 {
            let bucket = self.at(self.newest.wrapping_sub(age));
            if bucket.retries > 0 {
                bucket.retries -= 1;
                return;
            }
        }
    }

    fn totals(&self) -> Bucket {
        let all = self.buckets.iter().fold(Bucket::default(), |sum, bucket| Bucket {
            calls: sum.calls + bucket.calls,
            retries: sum.retries + bucket.retries,
        });
        // The one after the newest in the ring is the oldest.
        let oldest = usize::try_from((self.newest + 1) % BUCKETS as u64).unwrap_or(0);
        Bucket {
            calls: all.calls - self.buckets[oldest].calls,
            ..all
        }
    }

    fn left(&self) -> u64 {
        let Bucket { calls, retries } = self.totals();
        let paid = self.terms.ratio.map_or(0, |ratio| ratio.part_of(calls));
        let window = self.terms.bucket.saturating_mul(STEPS as u64);
        // Rounded up: a floor that is not zero lets at least one through.
        let free = (u128::from(self.terms.min_per_second) * u128::from(window)).div_ceil(1_000_000_000);
        (paid + u64::try_from(free).unwrap_or(u64::MAX - paid)).saturating_sub(retries)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::fresh::{BATCH, LARGE_BATCH},
        *,
    };
    use crate::vocabulary::clock::ClockHand;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(config: RetryBudgetConfig) -> (RetryBudget, ClockHand) {
        let (clock, hand) = Clock::manual();
        (config.clock(clock).build().unwrap(), hand)
    }

    fn deposit(budget: &RetryBudget, calls: u64) {
        for _ in 0..calls {
            budget.deposit();
        }
    }

    /// Takes what it can, and tells how much that was.
    fn drain(budget: &RetryBudget) -> u64 {
        let mut retries = 0;
        while budget.withdraw() {
            retries += 1;
        }
        retries
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Deposit(u64),
        Withdraw,
        Drain,
        Snapshot,
        On(u64),
        Back(u64),
    }

    /// Milliseconds, in a window of ten times a hundred of them.
    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (1..40_u64).prop_map(Op::Deposit),
            4 => Just(Op::Withdraw),
            1 => Just(Op::Drain),
            2 => Just(Op::Snapshot),
            4 => (0..250_u64).prop_map(Op::On),
            1 => (900..2_500_u64).prop_map(Op::On),
            1 => (1..300_u64).prop_map(Op::Back),
        ]
    }

    /// The documented budget, as lists: of each call and each retry the bucket that it is counted in.
    struct Naive {
        percent: u64,
        free: u64,
        /// Calls in a batch: 16, or 64 after one that was fast; always 64 in stripes.
        batch: u64,
        in_stripes: bool,
        last_batch: Option<u64>,
        /// The newest bucket that anybody looked at.
        newest: u64,
        fresh: u64,
        calls: Vec<u64>,
        retries: Vec<u64>,
    }

    impl Naive {
        fn deposit(&mut self, now: u64) {
            self.fresh += 1;
            if self.fresh.is_multiple_of(self.batch) {
                self.look(now);
                let last = self.last_batch.replace(now);
                let is_fast = last.is_some_and(|last| now <= last);
                self.batch = if self.in_stripes || is_fast { 64 } else { 16 };
            }
        }

        fn withdraw(&mut self, now: u64) -> bool {
            self.look(now);
            let granted = self.left() > 0;
            if granted {
                self.retries.push(self.newest);
            }
            granted
        }

        /// Takes in the calls that came since, for the time of the look before, and moves on.
        fn look(&mut self, now: u64) {
            let fresh = std::mem::take(&mut self.fresh);
            self.calls.extend((0..fresh).map(|_| self.newest));
            self.newest = self.newest.max(now / 100);
        }

        fn counted(&self, in_buckets: &[u64], buckets: u64) -> u64 {
            let recent = |bucket: &&u64| self.newest - **bucket < buckets;
            in_buckets.iter().filter(recent).count() as u64
        }

        fn left(&self) -> u64 {
            let paid = self.counted(&self.calls, 10) * self.percent / 100;
            (paid + self.free).saturating_sub(self.counted(&self.retries, 11))
        }
    }

    proptest! {
        #[test]
        fn it_grants_what_lists_of_all_calls_and_retries_grant(
            percent in prop_oneof![Just(0_u64), 1..=100_u64, Just(20_u64)],
            min_per_second in 1..=5_u32,
            start in 0..2_000_u64,
            in_stripes in any::<bool>(),
            ops in vec(op(), 0..80),
        ) {
            let (clock, hand) = Clock::manual();
            let millis = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
            hand.set(millis(start));
            let config = RetryBudgetConfig::new()
                .ratio(percent as f64 / 100.0)
                .min_per_second(min_per_second)
                .window(SECOND)
                .clock(clock);
            let budget = config.build().unwrap();
            if in_stripes {
                budget.0.fresh.part();
            }
            let mut naive = Naive {
                batch: if in_stripes { 64 } else { 16 },
                in_stripes,
                last_batch: None,
                percent,
                free: min_per_second.into(),
                newest: start / 100,
                fresh: 0,
                calls: Vec::new(),
                retries: Vec::new(),
            };
            let mut now = start;
            // The time of each call, as long as the clock did not step back.
            let (mut steady, mut came) = (true, Vec::new());
            for op in ops {
                match op {
                    Op::Deposit(calls) => {
                        for _ in 0..calls {
                            budget.deposit();
                            naive.deposit(now);
                            came.push(now / 100);
                        }
                    }
                    Op::Withdraw => prop_assert_eq!(budget.withdraw(), naive.withdraw(now)),
                    Op::Drain => {
                        let left = budget.snapshot().left;
                        naive.look(now);
                        prop_assert_eq!(drain(&budget), left);
                        while naive.withdraw(now) {}
                    }
                    Op::Snapshot => {
                        let snapshot = budget.snapshot();
                        naive.look(now);
                        prop_assert_eq!(snapshot.left, naive.left());
                        // Never more calls than came in the window, and a batch fewer at most.
                        let real = came.iter().filter(|bucket| naive.newest.saturating_sub(**bucket) < 10);
                        let real = real.count() as u64;
                        if steady {
                            prop_assert!(snapshot.calls <= real, "{} of {real}", snapshot.calls);
                            prop_assert!(snapshot.calls + LARGE_BATCH >= real, "{} of {real}", snapshot.calls);
                        }
                    }
                    Op::On(by) => now += by,
                    Op::Back(by) => {
                        now = now.saturating_sub(by);
                        steady = false;
                    }
                }
                hand.set(millis(now));
                // Looked at without taking in what is fresh.
                prop_assert_eq!(budget.0.fresh.read(), naive.fresh);
                let totals = lock(&budget.0.ledger).totals();
                prop_assert_eq!(totals.calls, naive.counted(&naive.calls, 10));
                prop_assert_eq!(totals.retries, naive.counted(&naive.retries, 11));
            }
        }
    }

    /// Where a manual clock stands still, all threads come at the same moment.
    #[test]
    fn calls_of_many_threads_are_counted_once_each_in_stripes_where_they_meet() {
        let (budget, hand) = budget(RetryBudgetConfig::new());
        let in_turn = |calls: u64| {
            for _ in 0..4 {
                std::thread::scope(|scope| {
                    scope.spawn(|| deposit(&budget, calls));
                });
                hand.advance(Duration::from_millis(1));
            }
        };
        in_turn(2 * BATCH);
        assert!(!budget.0.fresh.is_parted(), "nobody was in anybody's way");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| deposit(&budget, 10_000));
            }
        });
        assert!(budget.0.fresh.is_parted());
        in_turn(100);
        assert_eq!(budget.snapshot().calls, 4 * (2 * BATCH + 10_000 + 100));
    }

    #[test]
    fn calls_of_a_thread_that_is_idle_count_for_the_time_when_they_came() {
        let (budget, hand) = budget(RetryBudgetConfig::new().window(SECOND));
        budget.0.fresh.part();
        std::thread::scope(|scope| {
            scope.spawn(|| deposit(&budget, 10));
        });
        hand.advance(SECOND / 2);
        // The first batch that is full now ends the bucket in which they came.
        deposit(&budget, 2 * LARGE_BATCH);
        hand.advance(SECOND / 2);
        assert_eq!(budget.snapshot().calls, LARGE_BATCH);
    }

    #[test]
    fn calls_pay_their_share_and_the_floor_is_free() {
        let (budget, _) = budget(RetryBudgetConfig::new().ratio(0.2).min_per_second(3));
        assert_eq!(drain(&budget), 30);
        deposit(&budget, 4);
        assert_eq!(drain(&budget), 0);
        deposit(&budget, 1);
        assert_eq!(drain(&budget), 1);
        deposit(&budget, 100);
        assert_eq!(drain(&budget), 20);
    }

    #[test]
    fn what_was_paid_leaves_with_the_window() {
        let (budget, hand) = budget(RetryBudgetConfig::new().ratio(0.5).min_per_second(0));
        deposit(&budget, 100);
        hand.advance(9 * SECOND);
        assert_eq!(budget.snapshot().left, 50);
        hand.advance(SECOND);
        assert_eq!(budget.snapshot().left, 0);
    }

    #[test]
    fn no_span_as_long_as_the_window_sees_more_retries_than_it_pays_for() {
        let (budget, hand) = budget(RetryBudgetConfig::new().ratio(0.0).min_per_second(3));
        let tenth = SECOND / 10;
        // Retries made in each tenth of a second, by a service that asks for as many as it can get.
        let retries: Vec<u64> = (0..400)
            .map(|step| {
                hand.advance(tenth);
                // Asks late in the first second, and then all the time.
                if step < 8 { 0 } else { drain(&budget) }
            })
            .collect();
        for (at, span) in retries.windows(100).enumerate() {
            let made: u64 = span.iter().sum();
            assert!(
                made <= 30,
                "{made} retries in the ten seconds from {:?}",
                tenth * u32::try_from(at).unwrap()
            );
        }
    }

    #[test]
    fn a_floor_that_is_accepted_lets_retries_through() {
        for window in [100, 200, 300, 999, 1_000] {
            let config = RetryBudgetConfig::new().ratio(0.0).min_per_second(1);
            let Ok(budget) = config.window(Duration::from_millis(window)).build() else {
                continue;
            };
            let left = budget.snapshot().left;
            assert!(
                left > 0,
                "one retry per second is free, and a window of {window} ms never gives one"
            );
        }
    }

    #[test]
    fn new_terms_keep_the_counts_and_another_window_empties_them() {
        let config = RetryBudgetConfig::new().ratio(0.5).min_per_second(0);
        let (budget, _) = budget(config.clone());
        deposit(&budget, 100);
        assert!(budget.withdraw());
        budget.reconfigure(&config.clone().ratio(0.1)).unwrap();
        let snapshot = budget.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries, snapshot.left), (100, 1, 9));
        budget.reconfigure(&config.window(5 * SECOND)).unwrap();
        let snapshot = budget.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries, snapshot.left), (0, 0, 0));
    }
}
