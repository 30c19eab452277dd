//! How many results per second one breaker records, from one thread and from two at once: with its lock, beside
//! the lock-free window that would take the lock's place.
//!
//! ```text
//! cargo bench --bench recording
//! ```
//!
//! Each row is timed in turn, round after round; the median round and the fastest are shown, and how many rounds
//! there were: one in which the threads did not run at the same time says nothing and is left out. Compare rows
//! of one run with each other, never with another machine's. The rows of the breaker are whole calls (admission and
//! result); the bare rows are only the window.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench reads the clock and prints"
)]

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use buttress::{Ask, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerPass, Outcome, Policy};

const SIZE: u32 = 100;

/// What one thread does in one round: so many results, each `failing`-th of them a failure.
type Record = Arc<dyn Fn(u64, u64) + Send + Sync>;

// --- the breaker ----------------------------------------------------------------------------------------------

struct Plain;

impl Ask for Plain {
    fn limit(&self, _timeout: &str) -> Option<Duration> {
        None
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// One admission and its result, as a driver makes them.
fn breaker(config: CircuitBreakerConfig) -> Record {
    let breaker: CircuitBreaker = config
        .minimum_calls(SIZE)
        .failure_rate(1.0)
        .build("bench")
        .unwrap();
    Arc::new(move |calls, failing| {
        let breaker = breaker.clone();
        let failure = Outcome::failure();
        let mut pass = CircuitBreakerPass::default();
        for call in 1..=calls {
            black_box(breaker.enter(&mut pass, &Plain));
            black_box(if call.is_multiple_of(failing) {
                breaker.leave(&mut pass, &failure)
            } else {
                breaker.succeed(&mut pass)
            });
        }
    })
}

// --- the window alone, without a lock ---------------------------------------------------------------------------

/// Calls, failed, slow, slow and failed: 16 bits each.
const CALL: u64 = 1;
const FAILED: u64 = 1 << 16;
const LANE: u64 = 0xFFFF;
const EMPTY: u8 = 0xFF;

/// The obvious lock-free ring: a position, a slot and the packed totals, one locked instruction each.
struct Ring {
    next: Line<AtomicU64>,
    totals: Line<AtomicU64>,
    slots: Box<[AtomicU8]>,
}

/// Alone on its cache line.
#[repr(align(128))]
struct Line<T>(T);

impl Ring {
    fn new() -> Self {
        Self {
            next: Line(AtomicU64::new(0)),
            totals: Line(AtomicU64::new(0)),
            slots: (0..SIZE).map(|_| AtomicU8::new(EMPTY)).collect(),
        }
    }

    /// Records, and judges as the breaker does.
    fn record(&self, failed: bool) -> bool {
        let position = self.next.0.fetch_add(1, Ordering::Relaxed) % u64::from(SIZE);
        let old = self.slots[usize::try_from(position).unwrap_or(0)].swap(u8::from(failed), Ordering::AcqRel);
        let change = counts(u8::from(failed)).wrapping_sub(counts(old));
        let totals = self
            .totals
            .0
            .fetch_add(change, Ordering::AcqRel)
            .wrapping_add(change);
        opens(totals & LANE, totals >> 16 & LANE)
    }
}

/// What a slot adds to the totals.
fn counts(slot: u8) -> u64 {
    match slot {
        EMPTY => 0,
        0 => CALL,
        _ => CALL + FAILED,
    }
}

/// Whether the rate, in millionths, is reached.
fn opens(calls: u64, failed: u64) -> bool {
    calls >= u64::from(SIZE) && failed * 1_000_000 >= calls * black_box(1_000_000)
}

// --- the window alone, behind a lock ----------------------------------------------------------------------------

/// The same ring behind a mutex.
struct Unshared {
    next: usize,
    calls: u64,
    failed: u64,
    slots: [u8; SIZE as usize],
}

impl Unshared {
    fn new() -> Self {
        Self {
            next: 0,
            calls: 0,
            failed: 0,
            slots: [EMPTY; SIZE as usize],
        }
    }

    fn record(&mut self, failed: bool) -> bool {
        match std::mem::replace(&mut self.slots[self.next], u8::from(failed)) {
            EMPTY => self.calls += 1,
            old => self.failed -= u64::from(old),
        }
        self.failed += u64::from(failed);
        self.next = if self.next + 1 == SIZE as usize {
            0
        } else {
            self.next + 1
        };
        opens(self.calls, self.failed)
    }
}

fn bare(record: impl Fn(bool) -> bool + Send + Sync + 'static) -> Record {
    Arc::new(move |calls, failing| {
        for call in 1..=calls {
            black_box(record(call.is_multiple_of(failing)));
        }
    })
}

// --- measuring --------------------------------------------------------------------------------------------------

struct Row {
    load: &'static str,
    what: &'static str,
    threads: u64,
    failing: u64,
    record: Record,
    rounds: Vec<f64>,
}

impl Row {
    /// Millions of records per second, of all threads together; `None` when the threads did not run at the same
    /// time, because the machine had other work.
    fn round(&self, calls: u64) -> Option<f64> {
        let there = AtomicU64::new(0);
        let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|_| {
                    scope.spawn(|| {
                        there.fetch_add(1, Ordering::AcqRel);
                        while there.load(Ordering::Acquire) < self.threads {
                            std::hint::spin_loop();
                        }
                        let began = Instant::now();
                        (self.record)(calls, self.failing);
                        (began, Instant::now())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (first, all_began) = bounds(spans.iter().map(|(began, _)| *began))?;
        let (any_ended, last) = bounds(spans.iter().map(|(_, ended)| *ended))?;
        let took = last.duration_since(first);
        let together = any_ended.saturating_duration_since(all_began);
        (together >= took.mul_f64(0.8)).then(|| (calls * self.threads) as f64 / took.as_secs_f64() / 1e6)
    }
}

/// The earliest and the latest.
fn bounds(points: impl Iterator<Item = Instant> + Clone) -> Option<(Instant, Instant)> {
    Some((points.clone().min()?, points.max()?))
}

fn main() {
    let mut rows = Vec::new();
    for (failing, load) in [(u64::MAX, "healthy"), (10, "1 in 10 fails")] {
        for threads in [1, 2] {
            let ring = Ring::new();
            let locked = Mutex::new(Unshared::new());
            let config = CircuitBreakerConfig::new;
            let records = [
                ("breaker, count window", breaker(config().count_window(SIZE))),
                (
                    "breaker, time window",
                    breaker(config().time_window(Duration::from_secs(10))),
                ),
                ("bare ring of atomics", bare(move |failed| ring.record(failed))),
                (
                    "bare ring behind a mutex",
                    bare(move |failed| locked.lock().unwrap().record(failed)),
                ),
            ];
            rows.extend(records.map(|(what, record)| Row {
                load,
                what,
                threads,
                failing,
                record,
                rounds: Vec::new(),
            }));
        }
    }
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let (rounds, calls) = if quick { (3, 10_000) } else { (101, 100_000) };
    for round in 0..=rounds {
        for row in &mut rows {
            let rate = row.round(calls);
            // The first round warms up, and fills the windows.
            if round > 0 {
                row.rounds.extend(rate);
            }
        }
    }
    println!(
        "{:<14} {:<26} {:>7} {:>16} {:>8} {:>7}",
        "load", "what", "threads", "median M rec/s", "max", "rounds"
    );
    for row in &mut rows {
        row.rounds.sort_by(f64::total_cmp);
        let rounds = &row.rounds;
        println!(
            "{:<14} {:<26} {:>7} {:>16.1} {:>8.1} {:>7}",
            row.load,
            row.what,
            row.threads,
            rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN),
            rounds.last().copied().unwrap_or(f64::NAN),
            rounds.len()
        );
    }
}
