//! The breaker under loom: every interleaving of two or three threads, with C11's weak memory.
//!
//! ```text
//! RUSTFLAGS="--cfg buttress_loom" cargo test --profile loom --lib loom
//! ```
//!
//! The manual clock is not loom's: an order of threads that only the clock tells apart would not be looked at.
//! So whoever moves the clock here, or records while another thread may move it, first touches [`Rig::tick`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32 as PlainU32, Ordering::SeqCst},
    },
    time::Duration,
};

use ::loom::thread;

use super::{
    CircuitBreaker, CircuitBreakerConfig, Permit,
    window::{Tag, Tally},
};
use crate::vocabulary::{
    clock::{Clock, ClockHand},
    event::{Event, What},
    outcome::Verdict,
    rate::Rate,
    rejected::{OpenCause, Reason},
    state::State,
    sync::{AtomicU32, Mutex, Ordering, lock, model},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A breaker, its clock, and what its events say.
#[derive(Clone)]
struct Rig {
    breaker: CircuitBreaker,
    hand: ClockHand,
    tick: Arc<AtomicU32>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    recorded: PlainU32,
    transitions: PlainU32,
}

impl Rig {
    fn new(config: CircuitBreakerConfig) -> Self {
        let (clock, hand) = Clock::manual();
        let breaker = config.clock(clock).build("loom").unwrap();
        let heard = Arc::<Heard>::default();
        let ear = Arc::clone(&heard);
        breaker.observe(Arc::new(move |event: &Event| {
            match event.what {
                What::Recorded { .. } => ear.recorded.fetch_add(1, SeqCst),
                What::Transition { .. } => ear.transitions.fetch_add(1, SeqCst),
                _ => 0,
            };
        }));
        Self {
            breaker,
            hand,
            tick: Arc::new(AtomicU32::new(0)),
            heard,
        }
    }

    fn permit(&self) -> Permit {
        self.breaker.try_acquire().unwrap()
    }

    fn succeed(&self, times: u32) {
        for _ in 0..times {
            self.permit().success();
        }
    }

    /// What this thread does next comes before or after another's `advance`, and loom tries both.
    fn glance_at_the_clock(&self) {
        self.tick.load(Ordering::Relaxed);
    }

    fn advance(&self, by: Duration) {
        self.tick.fetch_add(1, Ordering::Relaxed);
        self.hand.advance(by);
    }

    fn recorded(&self) -> u64 {
        u64::from(self.heard.recorded.load(SeqCst))
    }

    fn transitions(&self) -> u32 {
        self.heard.transitions.load(SeqCst)
    }

    /// Calls, and failed ones of them.
    fn counts(&self) -> (u64, u64) {
        let snapshot = self.breaker.snapshot();
        (snapshot.calls, snapshot.failed)
    }
}

fn count_window(size: u32, minimum: u32, rate: f64) -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .count_window(size)
        .minimum_calls(minimum)
        .failure_rate(rate)
}

fn time_window(seconds: u32, minimum: u32, rate: f64) -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .time_window(seconds * SECOND)
        .minimum_calls(minimum)
        .failure_rate(rate)
}

/// Runs `job` on a thread of its own while the caller goes on.
fn beside(rig: &Rig, job: impl FnOnce(&Rig) + Send + 'static) -> thread::JoinHandle<()> {
    let rig = rig.clone();
    thread::spawn(move || job(&rig))
}

// --- the count window -------------------------------------------------------------------------------------

#[test]
fn two_threads_that_record_lose_nothing_and_open_it_once() {
    model(|| {
        let rig = Rig::new(count_window(4, 4, 0.5));
        let permits: [Permit; 4] = std::array::from_fn(|_| rig.permit());
        let [first, second, third, fourth] = permits;
        let other = beside(&rig, |_| {
            first.failure();
            second.success();
        });
        third.success();
        fourth.failure();
        other.join().unwrap();
        assert_eq!(rig.breaker.state(), State::Open);
        assert_eq!(rig.counts(), (4, 2));
        assert_eq!(rig.recorded(), 4);
        assert_eq!(rig.transitions(), 1);
    });
}

#[test]
fn of_failures_that_race_to_open_it_one_does_and_the_late_one_changes_nothing() {
    model(|| {
        let rig = Rig::new(count_window(2, 2, 1.0));
        let permits: [Permit; 3] = std::array::from_fn(|_| rig.permit());
        let [first, second, third] = permits;
        let other = beside(&rig, |_| first.failure());
        let another = beside(&rig, |_| second.failure());
        third.failure();
        other.join().unwrap();
        another.join().unwrap();
        let snapshot = rig.breaker.snapshot();
        assert_eq!(snapshot.state, State::Open);
        assert_eq!(snapshot.openings, 1);
        assert_eq!((snapshot.calls, snapshot.failed), (2, 2));
        assert_eq!(rig.recorded(), 2);
        assert_eq!(rig.transitions(), 1);
    });
}

#[test]
fn failures_in_a_row_are_counted_over_threads() {
    model(|| {
        let config = count_window(10, 10, 1.0).consecutive_failures(2);
        let rig = Rig::new(config);
        let (first, second) = (rig.permit(), rig.permit());
        let other = beside(&rig, |_| first.failure());
        second.failure();
        other.join().unwrap();
        let cause = rig.breaker.snapshot().cause;
        assert_eq!(cause, Some(OpenCause::ConsecutiveFailures { failures: 2 }));
        assert_eq!(rig.transitions(), 1);
    });
}

#[test]
fn a_success_beside_a_failure_in_a_window_of_successes_loses_neither() {
    model(|| {
        let rig = Rig::new(count_window(3, 3, 1.0));
        rig.succeed(3);
        let success = rig.permit();
        let other = beside(&rig, |_| success.success());
        rig.permit().failure();
        rig.permit().success();
        other.join().unwrap();
        // At most two successes came after the failure: it is in the window of three still.
        assert_eq!(rig.counts(), (3, 1));
        // And the next one is not taken for one that changes nothing.
        rig.succeed(3);
        assert_eq!(rig.counts(), (3, 0));
    });
}

#[test]
fn a_late_result_changes_nothing_in_the_state_that_a_command_began() {
    for (before, late) in [
        (0, Verdict::Success),
        (0, Verdict::Failure),
        (2, Verdict::Success),
    ] {
        model(move || {
            let rig = Rig::new(count_window(2, 2, 1.0));
            rig.succeed(before);
            let permit = rig.permit();
            let other = beside(&rig, move |_| permit.settle(late));
            rig.breaker.close();
            rig.permit().failure();
            other.join().unwrap();
            assert_eq!(rig.breaker.state(), State::Closed);
            assert_eq!(rig.counts(), (1, 1));
        });
    }
}

#[test]
fn a_late_result_changes_nothing_once_a_failure_opened_it() {
    for late in [Verdict::Success, Verdict::Failure] {
        model(move || {
            let rig = Rig::new(count_window(2, 2, 0.5).probes(2));
            rig.succeed(2);
            let (permit, failing) = (rig.permit(), rig.permit());
            let other = beside(&rig, move |_| permit.settle(late));
            failing.failure();
            rig.breaker.half_open();
            let probe = rig.permit();
            other.join().unwrap();
            assert_eq!(rig.breaker.state(), State::HalfOpen);
            assert_eq!(rig.counts(), (0, 0));
            probe.success();
            assert_eq!(rig.counts(), (1, 0));
        });
    }
}

/// Both kinds of window, with room for ten calls or more.
fn both(minimum: u32, rate: f64) -> [CircuitBreakerConfig; 2] {
    [count_window(10, minimum, rate), time_window(10, minimum, rate)]
}

#[test]
fn a_success_beside_a_failure_comes_before_it_or_after_it() {
    model(|| {
        let rig = Rig::new(count_window(3, 3, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| rig.succeed(1));
        rig.permit().failure();
        other.join().unwrap();
        assert_eq!(rig.counts(), (3, 1));
        rig.succeed(2);
        // It was the second of the first three, or the third.
        let (calls, failed) = rig.counts();
        assert_eq!(calls, 3);
        assert!(failed <= 1, "{failed}");
        rig.succeed(1);
        assert_eq!(rig.counts(), (3, 0));
    });
}

#[test]
fn a_success_beside_the_failure_that_may_open_it_counts_for_that_judgement_or_not_at_all() {
    for config in both(2, 0.5) {
        model(move || {
            let rig = Rig::new(config.clone());
            rig.succeed(1);
            let (success, failing) = (rig.permit(), rig.permit());
            let other = beside(&rig, |_| success.success());
            failing.failure();
            other.join().unwrap();
            // One of two is enough to open it, one of three is not.
            match rig.breaker.state() {
                State::Open => assert_eq!(rig.counts(), (2, 1)),
                _ => assert_eq!(rig.counts(), (3, 1)),
            }
            assert_eq!(rig.recorded(), rig.counts().0);
        });
    }
}

#[test]
fn a_success_that_makes_the_minimum_beside_a_failure_is_judged() {
    for config in both(3, 0.3) {
        model(move || {
            let rig = Rig::new(config.clone());
            rig.succeed(1);
            let other = beside(&rig, |rig| rig.succeed(1));
            rig.permit().failure();
            other.join().unwrap();
            // Whichever of the two came last made three calls with a failure among them.
            assert_eq!(rig.breaker.state(), State::Open);
            assert_eq!(rig.counts(), (3, 1));
        });
    }
}

#[test]
fn a_success_beside_failures_in_a_row_ends_the_row_or_is_outside_of_it() {
    for config in both(10, 1.0) {
        model(move || {
            let rig = Rig::new(config.clone().consecutive_failures(2));
            rig.succeed(1);
            let permits: [Permit; 3] = std::array::from_fn(|_| rig.permit());
            let [success, first, second] = permits;
            let other = beside(&rig, |_| success.success());
            first.failure();
            second.failure();
            other.join().unwrap();
            assert_eq!(rig.recorded(), rig.counts().0);
            if rig.breaker.state() == State::Closed {
                assert_eq!(rig.counts(), (4, 2));
                rig.permit().failure();
            }
            let cause = rig.breaker.snapshot().cause;
            assert_eq!(cause, Some(OpenCause::ConsecutiveFailures { failures: 2 }));
        });
    }
}

#[test]
fn successes_that_fill_the_window_beside_a_failure_lose_neither() {
    model(|| {
        let rig = Rig::new(count_window(2, 2, 1.0));
        rig.permit().failure();
        rig.succeed(1);
        let other = beside(&rig, |rig| rig.succeed(2));
        rig.permit().failure();
        other.join().unwrap();
        // At most two successes came after the failure.
        let (calls, failed) = rig.counts();
        assert_eq!(calls, 2);
        assert!(failed <= 1, "{failed}");
        rig.succeed(2);
        assert_eq!(rig.counts(), (2, 0));
        assert_eq!(rig.breaker.state(), State::Closed);
    });
}

#[test]
fn a_success_beside_a_snapshot_is_neither_lost_nor_counted_twice() {
    for config in both(10, 1.0) {
        model(move || {
            let rig = Rig::new(config.clone());
            rig.succeed(1);
            let other = beside(&rig, |rig| rig.succeed(2));
            let (during, _) = rig.counts();
            assert!((1..=3).contains(&during), "{during}");
            other.join().unwrap();
            assert_eq!(rig.counts(), (3, 0));
        });
    }
}

#[test]
fn a_success_beside_other_thresholds_is_judged_by_the_old_ones_or_by_the_new() {
    for (before, after) in both(2, 1.0).into_iter().zip(both(2, 0.2)) {
        model(move || {
            let rig = Rig::new(before.clone());
            rig.succeed(1);
            rig.permit().failure();
            rig.succeed(1);
            let other = beside(&rig, |rig| rig.succeed(1));
            rig.breaker.reconfigure(&after).unwrap();
            other.join().unwrap();
            assert_eq!(rig.counts(), (4, 1));
            if rig.breaker.state() == State::Closed {
                // Its success came first: the next record is judged by the new ones.
                rig.succeed(1);
                assert_eq!(rig.counts(), (5, 1));
            }
            assert_eq!(rig.breaker.state(), State::Open);
        });
    }
}

#[test]
fn a_success_beside_another_size_of_the_window_is_counted_once_or_emptied() {
    model(|| {
        let rig = Rig::new(count_window(3, 3, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| rig.succeed(1));
        rig.breaker.reconfigure(&count_window(4, 4, 1.0)).unwrap();
        other.join().unwrap();
        let (calls, _) = rig.counts();
        assert!(calls <= 1, "{calls}");
        rig.succeed(1);
        assert_eq!(rig.counts(), (calls + 1, 0));
    });
}

// --- the time window ----------------------------------------------------------------------------------------

#[test]
fn successes_of_two_threads_in_one_bucket_all_count() {
    model(|| {
        let rig = Rig::new(time_window(2, 100, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| rig.succeed(2));
        rig.succeed(2);
        other.join().unwrap();
        assert_eq!(rig.counts(), (5, 0));
    });
}

#[test]
fn a_success_beside_the_end_of_the_bucket_is_neither_lost_nor_counted_twice() {
    model(|| {
        let rig = Rig::new(time_window(2, 100, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| {
            rig.glance_at_the_clock();
            rig.succeed(1);
        });
        rig.advance(SECOND);
        rig.succeed(1);
        other.join().unwrap();
        assert_eq!(rig.counts(), (3, 0));
        // The first bucket leaves: the success after the end of it stays, the one before leaves with it.
        rig.advance(SECOND);
        let (calls, _) = rig.counts();
        assert!((1..=2).contains(&calls), "{calls}");
        rig.advance(SECOND);
        assert_eq!(rig.counts(), (0, 0));
    });
}

#[test]
fn a_success_beside_a_bucket_that_a_failure_ends_is_neither_lost_nor_counted_twice() {
    model(|| {
        let rig = Rig::new(time_window(2, 2, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| {
            rig.glance_at_the_clock();
            rig.succeed(2);
        });
        rig.advance(SECOND);
        rig.permit().failure();
        other.join().unwrap();
        assert_eq!(rig.counts(), (4, 1));
    });
}

#[test]
fn a_success_beside_a_snapshot_that_ends_the_bucket_is_neither_lost_nor_counted_twice() {
    model(|| {
        let rig = Rig::new(time_window(3, 100, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| {
            rig.glance_at_the_clock();
            rig.succeed(1);
        });
        rig.advance(SECOND);
        let (during, _) = rig.counts();
        assert!((1..=2).contains(&during), "{during}");
        other.join().unwrap();
        assert_eq!(rig.counts(), (2, 0));
    });
}

#[test]
fn a_success_beside_a_command_counts_in_the_state_that_admitted_it_or_nowhere() {
    model(|| {
        let rig = Rig::new(time_window(2, 100, 1.0));
        rig.succeed(1);
        let late = rig.permit();
        let other = beside(&rig, |_| late.success());
        rig.breaker.close();
        rig.succeed(1);
        other.join().unwrap();
        assert_eq!(rig.counts(), (1, 0));
    });
}

#[test]
fn a_success_beside_the_opening_is_in_the_window_that_opened_it_or_nowhere() {
    model(|| {
        let rig = Rig::new(time_window(2, 2, 0.3));
        rig.succeed(1);
        let (success, failing) = (rig.permit(), rig.permit());
        let other = beside(&rig, |_| success.success());
        failing.failure();
        other.join().unwrap();
        assert_eq!(rig.breaker.state(), State::Open);
        assert_eq!(rig.transitions(), 1);
        // It is told as recorded exactly when the window has it.
        assert_eq!(rig.counts(), (rig.recorded(), 1));
    });
}

#[test]
fn a_success_beside_settings_that_empty_the_window_is_counted_once_or_emptied() {
    model(|| {
        let rig = Rig::new(time_window(2, 100, 1.0));
        rig.succeed(1);
        let other = beside(&rig, |rig| rig.succeed(1));
        rig.breaker.reconfigure(&time_window(3, 100, 1.0)).unwrap();
        let (after, _) = rig.counts();
        assert!(after <= 1, "{after}");
        other.join().unwrap();
        let (calls, _) = rig.counts();
        assert!(calls <= 1, "{calls}");
        rig.succeed(1);
        assert_eq!(rig.counts(), (calls + 1, 0));
    });
}

/// The tally as the machine uses it, with the lock and nothing else around it.
struct Book {
    tally: Tally,
    locked: Mutex<Locked>,
}

#[derive(Default)]
struct Locked {
    epoch: u32,
    /// Counted under the lock in this epoch.
    besides: u64,
}

impl Book {
    /// Counts a success and tells for which epoch it counts.
    fn count(&self, epoch: u32) -> u32 {
        if self.tally.add(Tag::of_epoch(epoch)) {
            return epoch;
        }
        let mut locked = lock(&self.locked);
        let tag = Tag::of_epoch(locked.epoch);
        if !self.tally.add(tag) && !self.tally.begin(tag) {
            locked.besides += 1;
        }
        locked.epoch
    }

    /// Takes what is counted while others go on, as most failures do.
    fn take(&self) {
        let mut locked = lock(&self.locked);
        locked.besides += self.tally.take(Tag::of_epoch(locked.epoch));
    }

    /// Looks at what is counted while nobody counts, as a failure does that may open the breaker.
    fn look(&self) {
        let mut locked = lock(&self.locked);
        let counted = self.tally.close();
        locked.besides += counted.successes;
        self.tally.reopen(Tag::of_epoch(locked.epoch), counted);
    }

    /// Ends the epoch, and tells what was counted in it.
    fn end(&self) -> u64 {
        let mut locked = lock(&self.locked);
        locked.epoch += 1;
        std::mem::take(&mut locked.besides) + self.tally.close().successes
    }
}

/// So many other threads count one success each beside `look` and the end of the epoch.
fn count_beside(look: impl Fn(&Book) + Send + Sync + 'static, threads: usize) {
    model(move || {
        let book = Arc::new(Book {
            tally: Tally::new(),
            locked: Mutex::default(),
        });
        let counted = Arc::new([PlainU32::new(0), PlainU32::new(0)]);
        let count = |book: &Book, counted: &[PlainU32; 2]| {
            let epoch = book.count(0);
            counted[epoch as usize].fetch_add(1, SeqCst);
        };
        count(&book, &counted);
        let others: Vec<_> = (0..threads)
            .map(|_| {
                let (book, counted) = (Arc::clone(&book), Arc::clone(&counted));
                thread::spawn(move || count(&book, &counted))
            })
            .collect();
        look(&book);
        let first = book.end();
        for other in others {
            other.join().unwrap();
        }
        let second = book.end();
        let counted = [0, 1].map(|epoch| u64::from(counted[epoch].load(SeqCst)));
        assert_eq!([first, second], counted);
        assert_eq!(first + second, 1 + threads as u64);
    });
}

#[test]
fn each_success_counts_once_and_for_one_epoch() {
    count_beside(|_| (), 2);
}

#[test]
fn each_success_counts_once_beside_who_looks_at_the_counts() {
    count_beside(Book::take, 1);
    count_beside(Book::look, 1);
}

// --- half-open ------------------------------------------------------------------------------------------------

#[test]
fn three_threads_never_get_more_than_two_probes() {
    model(|| {
        let rig = Rig::new(count_window(10, 10, 0.5).probes(2).initial_state(State::HalfOpen));
        let held = Arc::new(PlainU32::new(0));
        let acquire = |held: &PlainU32, rig: &Rig| {
            let permit = rig.breaker.try_acquire();
            if permit.is_ok() {
                held.fetch_add(1, SeqCst);
            }
            permit
        };
        let others: [_; 2] = std::array::from_fn(|_| {
            let (rig, held) = (rig.clone(), Arc::clone(&held));
            thread::spawn(move || std::mem::forget(acquire(&held, &rig)))
        });
        let own = acquire(&held, &rig);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(held.load(SeqCst), 2);
        drop(own);
    });
}

#[test]
fn a_probe_that_is_ignored_gives_its_permit_to_another() {
    model(|| {
        let rig = Rig::new(count_window(10, 10, 0.5).probes(1).initial_state(State::HalfOpen));
        let probe = rig.permit();
        let other = beside(&rig, |_| probe.ignore());
        let own = rig.breaker.try_acquire();
        other.join().unwrap();
        let second = rig.breaker.try_acquire();
        assert_ne!(own.is_ok(), second.is_ok(), "one permit came back");
        drop((own, second));
        assert_eq!(rig.breaker.state(), State::HalfOpen);
        assert_eq!(rig.counts(), (0, 0));
    });
}

#[test]
fn a_permit_that_came_back_is_never_there_twice() {
    model(|| {
        let rig = Rig::new(count_window(10, 10, 0.5).probes(1).initial_state(State::HalfOpen));
        let held = Arc::new(PlainU32::new(0));
        let probe = |rig: &Rig, held: &PlainU32| {
            if let Ok(permit) = rig.breaker.try_acquire() {
                assert_eq!(held.fetch_add(1, SeqCst), 0, "two probes at once");
                // Another thread may run here.
                rig.glance_at_the_clock();
                held.fetch_sub(1, SeqCst);
                permit.ignore();
            }
        };
        let other = {
            let held = Arc::clone(&held);
            beside(&rig, move |rig| {
                probe(rig, &held);
                probe(rig, &held);
            })
        };
        probe(&rig, &held);
        other.join().unwrap();
        rig.permit().ignore();
    });
}

#[test]
fn probes_that_end_together_are_judged_once() {
    for (succeeds, judged) in [(true, State::Closed), (false, State::Open)] {
        model(move || {
            let rig = Rig::new(count_window(10, 10, 0.5).probes(2).initial_state(State::HalfOpen));
            let (first, second) = (rig.permit(), rig.permit());
            let other = beside(&rig, |_| first.success());
            second.settle(if succeeds {
                Verdict::Success
            } else {
                Verdict::Failure
            });
            other.join().unwrap();
            assert_eq!(rig.breaker.state(), judged);
            assert_eq!(rig.transitions(), 1);
            assert_eq!(rig.recorded(), 2);
        });
    }
}

#[test]
fn a_hung_probe_of_the_stay_before_changes_nothing() {
    model(|| {
        let rig = Rig::new(count_window(10, 10, 0.5).probes(1).initial_state(State::HalfOpen));
        let hung = rig.permit();
        let other = beside(&rig, |_| hung.success());
        rig.breaker.half_open();
        let probe = rig.permit();
        other.join().unwrap();
        assert_eq!(rig.breaker.state(), State::HalfOpen);
        assert_eq!(rig.counts(), (0, 0));
        probe.failure();
        assert_eq!(rig.breaker.state(), State::Open);
    });
}

#[test]
fn a_probe_that_is_given_up_while_it_ends_has_its_permit_once() {
    model(|| {
        let config = count_window(10, 10, 0.5).probes(1).max_probe_age(SECOND);
        let rig = Rig::new(config.initial_state(State::HalfOpen));
        let hung = rig.permit();
        rig.hand.advance(2 * SECOND);
        let other = beside(&rig, |_| hung.failure());
        let own = rig.breaker.try_acquire();
        other.join().unwrap();
        match own {
            // It was given up first, so that its result is not looked at.
            Ok(probe) => {
                assert_eq!(rig.breaker.state(), State::HalfOpen);
                probe.success();
                assert_eq!(rig.breaker.state(), State::Closed);
            }
            // Its result came first.
            Err(_) => assert_eq!(rig.breaker.state(), State::Open),
        }
        assert_eq!(rig.transitions(), 1);
    });
}

#[test]
fn a_probe_that_is_given_up_while_it_is_ignored_gives_its_permit_back_once() {
    model(|| {
        let config = count_window(10, 10, 0.5).probes(1).max_probe_age(SECOND);
        let rig = Rig::new(config.initial_state(State::HalfOpen));
        let hung = rig.permit();
        rig.hand.advance(2 * SECOND);
        let other = beside(&rig, |_| hung.ignore());
        let own = rig.permit();
        other.join().unwrap();
        assert!(rig.breaker.try_acquire().is_err(), "a permit was invented");
        own.ignore();
        rig.permit().ignore();
    });
}

// --- open -----------------------------------------------------------------------------------------------------

fn at_the_end_of_the_wait(probes: u32) -> Rig {
    let rig = Rig::new(count_window(10, 10, 0.5).probes(probes).open_wait(SECOND));
    rig.breaker.open();
    rig.hand.advance(SECOND + Duration::from_nanos(1));
    rig
}

#[test]
fn calls_that_race_at_the_end_of_the_wait_make_one_transition() {
    model(|| {
        let rig = at_the_end_of_the_wait(1);
        let admitted = Arc::new(PlainU32::new(0));
        let ask = |rig: &Rig, admitted: &PlainU32| {
            if let Ok(probe) = rig.breaker.try_acquire() {
                admitted.fetch_add(1, SeqCst);
                std::mem::forget(probe);
            }
        };
        let other = {
            let admitted = Arc::clone(&admitted);
            beside(&rig, move |rig| {
                ask(rig, &admitted);
                ask(rig, &admitted);
            })
        };
        ask(&rig, &admitted);
        other.join().unwrap();
        // One to open, one to half-open.
        assert_eq!(rig.transitions(), 2);
        assert_eq!(admitted.load(SeqCst), 1);
        assert_eq!(rig.breaker.state(), State::HalfOpen);
    });
}

#[test]
fn a_refusal_beside_the_opening_tells_its_wait_and_cause() {
    model(|| {
        let rig = Rig::new(count_window(2, 2, 1.0).open_wait(SECOND));
        rig.permit().failure();
        let failing = rig.permit();
        let other = beside(&rig, |_| failing.failure());
        match rig.breaker.try_acquire() {
            Ok(permit) => permit.ignore(),
            Err(rejected) => {
                let cause = OpenCause::FailureRate {
                    rate: Rate::fraction(1.0),
                    calls: 2,
                };
                assert_eq!(rejected.reason(), &Reason::Open(cause));
                let after = rejected.retry_after().unwrap();
                assert!((SECOND..SECOND + MILLISECOND).contains(&after), "{after:?}");
            }
        }
        other.join().unwrap();
        assert_eq!(rig.breaker.state(), State::Open);
    });
}

#[test]
fn a_refusal_tells_nothing_of_another_state() {
    model(|| {
        let rig = at_the_end_of_the_wait(1);
        let other = beside(&rig, |rig| std::mem::forget(rig.breaker.try_acquire()));
        if let Err(rejected) = rig.breaker.try_acquire() {
            // The wait was over before anybody asked, so that the other has the only probe.
            assert_eq!(rejected.reason(), &Reason::ProbesTaken { probes: 1 });
            assert_eq!(rejected.retry_after(), None);
        }
        other.join().unwrap();
    });
}

#[test]
fn readiness_that_is_asked_at_the_end_of_the_wait_is_not_refused_while_probes_are_left() {
    model(|| {
        let rig = at_the_end_of_the_wait(2);
        let other = beside(&rig, |rig| std::mem::forget(rig.breaker.try_acquire()));
        assert_eq!(rig.breaker.would_refuse_now(), None);
        other.join().unwrap();
    });
}

// --- what observers hear ----------------------------------------------------------------------------------------

/// Every transition in the order in which it was told.
fn listen(rig: &Rig) -> Arc<std::sync::Mutex<Vec<(State, State)>>> {
    let told = Arc::<std::sync::Mutex<Vec<_>>>::default();
    let (ear, tick) = (Arc::clone(&told), Arc::clone(&rig.tick));
    rig.breaker.observe(Arc::new(move |event: &Event| {
        if let What::Transition { from, to, .. } = event.what {
            // An observer takes its time: others run here.
            tick.fetch_add(1, Ordering::Relaxed);
            ear.lock().unwrap().push((from, to));
        }
    }));
    told
}

/// Each was told once, and each follows from the one before.
fn assert_in_order(rig: &Rig, told: &std::sync::Mutex<Vec<(State, State)>>, transitions: usize) {
    let told = told.lock().unwrap();
    assert_eq!(told.len(), transitions, "{told:?}");
    let mut state = State::Closed;
    for (from, to) in &*told {
        assert_eq!(*from, state, "{told:?}");
        state = *to;
    }
    assert_eq!(state, rig.breaker.state());
}

#[test]
fn transitions_of_several_threads_are_told_once_each_and_in_order() {
    model(|| {
        let rig = Rig::new(count_window(2, 2, 1.0));
        let told = listen(&rig);
        let other = beside(&rig, |rig| rig.breaker.force_open());
        let another = beside(&rig, |rig| rig.breaker.disable());
        rig.breaker.metrics_only();
        other.join().unwrap();
        another.join().unwrap();
        assert_in_order(&rig, &told, 3);
    });
}
