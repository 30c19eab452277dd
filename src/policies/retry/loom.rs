//! The budget and the settings under loom: every interleaving of two threads, with C11's weak memory.
//!
//! ```text
//! RUSTFLAGS="--cfg buttress_loom" cargo test --profile loom --lib loom
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU32 as PlainU32, Ordering::SeqCst},
};

use ::loom::thread;

use super::{Retry, RetryBudget, RetryBudgetConfig, RetryConfig, newest_word, settings_number};
use crate::vocabulary::{
    clock::Clock,
    sync::{Ordering, lock, model},
};

/// Sixteen calls pay for one retry, and none is free.
fn budget() -> RetryBudget {
    let budget = RetryBudgetConfig::new()
        .ratio(1.0 / 16.0)
        .min_per_second(0)
        .clock(Clock::manual().0);
    budget.build().unwrap()
}

fn deposit(budget: &RetryBudget, calls: u32) {
    for _ in 0..calls {
        budget.deposit();
    }
}

fn beside<T: Clone + Send + 'static>(
    with: &T,
    job: impl FnOnce(&T) + Send + 'static,
) -> thread::JoinHandle<()> {
    let with = with.clone();
    thread::spawn(move || job(&with))
}

#[test]
fn a_budget_that_is_paid_while_it_is_drawn_on_gives_what_was_paid_and_no_more() {
    model(|| {
        let budget = budget();
        deposit(&budget, 15);
        let granted = Arc::new(PlainU32::new(0));
        let draw = |budget: &RetryBudget, granted: &PlainU32| {
            if budget.withdraw() {
                granted.fetch_add(1, SeqCst);
            }
        };
        let other = beside(&budget, RetryBudget::deposit);
        let another = {
            let granted = Arc::clone(&granted);
            beside(&budget, move |budget| draw(budget, &granted))
        };
        draw(&budget, &granted);
        other.join().unwrap();
        another.join().unwrap();
        draw(&budget, &granted);
        assert_eq!(granted.load(SeqCst), 1);
        let snapshot = budget.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries, snapshot.left), (16, 1, 0));
    });
}

#[test]
fn calls_of_two_threads_are_counted_once_each_around_the_end_of_a_batch() {
    model(|| {
        let budget = budget();
        deposit(&budget, 14);
        let other = beside(&budget, |budget| deposit(budget, 2));
        deposit(&budget, 2);
        other.join().unwrap();
        assert_eq!(budget.snapshot().calls, 18);
    });
}

#[test]
fn calls_beside_the_parting_of_threads_are_counted_once_each() {
    model(|| {
        let budget = budget();
        deposit(&budget, 14);
        let other = beside(&budget, |budget| deposit(budget, 2));
        budget.part();
        deposit(&budget, 1);
        let during = budget.snapshot().calls;
        assert!((15..=17).contains(&during), "{during}");
        other.join().unwrap();
        assert_eq!(budget.snapshot().calls, 17);
    });
}

#[test]
fn calls_in_stripes_are_counted_once_each_around_the_end_of_a_batch() {
    model(|| {
        let budget = budget();
        budget.part();
        deposit(&budget, 62);
        let other = beside(&budget, |budget| deposit(budget, 2));
        deposit(&budget, 2);
        other.join().unwrap();
        assert_eq!(budget.snapshot().calls, 66);
    });
}

#[test]
fn a_snapshot_beside_a_call_takes_it_in_once() {
    model(|| {
        let budget = budget();
        deposit(&budget, 15);
        let other = beside(&budget, RetryBudget::deposit);
        let during = budget.snapshot().calls;
        assert!((15..=16).contains(&during), "{during}");
        other.join().unwrap();
        assert_eq!(budget.snapshot().calls, 16);
    });
}

#[test]
fn of_two_new_settings_the_last_hold_whole() {
    model(|| {
        let clock = Clock::manual().0;
        let config = RetryConfig::new().clock(clock.clone());
        let budgeted = config.clone().budget(RetryBudgetConfig::new().clock(clock));
        let unlimited = config.no_budget();
        let retry = budgeted.clone().build("loom").unwrap();
        let other = beside(&retry, move |retry: &Retry| {
            retry.reconfigure(&unlimited).unwrap();
        });
        retry.reconfigure(&budgeted).unwrap();
        other.join().unwrap();
        let newest = retry.0.newest.load(Ordering::Acquire);
        let all = lock(&retry.0.settings);
        assert_eq!(all.len(), 3, "one took the place of the other");
        let number = settings_number(newest);
        assert_eq!(number, 2, "settings that were replaced hold");
        assert_eq!(newest, newest_word(number, &all[2]));
    });
}
