//! The slots under loom: every interleaving of two or three threads, with C11's weak memory.
//!
//! ```text
//! RUSTFLAGS="--cfg buttress_loom" cargo test --profile loom --lib loom
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32 as PlainU32, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use ::loom::thread;

use super::slots::{Arrival, Slots};
use crate::vocabulary::sync::{AtomicU32, Ordering, model, model_within};

/// A waker that remembers.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// A call in the queue, or past it.
struct Waiting<'a> {
    slots: &'a Slots,
    ticket: u32,
    flag: Arc<Flag>,
    granted: bool,
    polled: bool,
}

impl<'a> Waiting<'a> {
    fn new(slots: &'a Slots, ticket: u32) -> Self {
        Self {
            slots,
            ticket,
            flag: Arc::default(),
            granted: false,
            polled: false,
        }
    }

    fn poll(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.flag));
        self.polled = true;
        self.granted = self.granted
            || self
                .slots
                .poll(self.ticket, &Context::from_waker(&waker))
                .is_ready();
        self.granted
    }

    /// All other threads are done: it has its slot, and knew when to look.
    fn must_be_granted(&mut self) {
        assert!(
            self.granted || !self.polled || self.flag.0.load(SeqCst),
            "a slot came free and nobody woke the waiter"
        );
        assert!(self.poll(), "a slot came free and the waiter did not get it");
    }
}

fn full(limit: u32) -> Arc<Slots> {
    let slots = Slots::new(limit);
    for _ in 0..limit {
        assert!(slots.try_acquire());
    }
    Arc::new(slots)
}

fn queued(slots: &Slots) -> u32 {
    match slots.arrive(8, Duration::MAX) {
        Arrival::Queued(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn beside(slots: &Arc<Slots>, job: impl FnOnce(&Slots) + Send + 'static) -> thread::JoinHandle<()> {
    let slots = Arc::clone(slots);
    thread::spawn(move || job(&slots))
}

/// Nobody is inside and nobody waits: the slots are as good as new.
fn assert_idle(slots: &Slots, limit: u32) {
    assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
    for _ in 0..limit {
        assert!(
            slots.try_acquire(),
            "a slot was lost, or the mark of a waiter stayed"
        );
    }
    assert!(!slots.try_acquire(), "a slot was invented");
}

#[test]
fn an_arrival_and_a_release_do_not_miss_each_other() {
    model(|| {
        let slots = full(1);
        let other = beside(&slots, Slots::release);
        match slots.arrive(8, Duration::MAX) {
            Arrival::Admitted => other.join().unwrap(),
            Arrival::Queued(ticket) => {
                let mut waiting = Waiting::new(&slots, ticket);
                waiting.poll();
                other.join().unwrap();
                waiting.must_be_granted();
            }
            Arrival::Refused => panic!("the queue has room"),
        }
        assert_eq!(slots.in_flight(), 1);
        slots.release();
        assert_idle(&slots, 1);
    });
}

/// What calls do inside a bulkhead of one slot.
#[derive(Default)]
struct Work {
    inside: PlainU32,
    done: PlainU32,
    /// Equals `done` for whoever is ordered after the call before.
    ordered: AtomicU32,
}

impl Work {
    fn alone(&self) {
        assert_eq!(self.inside.fetch_add(1, SeqCst), 0, "two at once");
        let done = self.done.fetch_add(1, SeqCst);
        assert_eq!(
            self.ordered.load(Ordering::Relaxed),
            done,
            "it does not see what the call before did"
        );
        self.ordered.store(done + 1, Ordering::Relaxed);
        self.inside.fetch_sub(1, SeqCst);
    }
}

#[test]
fn of_calls_that_compete_for_one_slot_each_gets_it_alone_and_none_is_forgotten() {
    // Three threads with two steps each at the queue: with three preemptions this one alone takes as long as all others.
    model_within(2, || {
        let slots = Arc::new(Slots::new(1));
        let work = Arc::new(Work::default());
        let call = |slots: &Slots, work: &Work| {
            let ticket = match slots.arrive(8, Duration::MAX) {
                Arrival::Admitted => None,
                Arrival::Queued(ticket) => Some(ticket),
                Arrival::Refused => panic!("the queue has room"),
            };
            if let Some(ticket) = ticket {
                let mut waiting = Waiting::new(slots, ticket);
                if !waiting.poll() {
                    // It gives up rather than wait, whether it was given a slot by now or not.
                    slots.cancel(ticket);
                    return;
                }
            }
            work.alone();
            slots.release();
        };
        let others: [_; 2] = std::array::from_fn(|_| {
            let work = Arc::clone(&work);
            beside(&slots, move |slots| call(slots, &work))
        });
        call(&slots, &work);
        for other in others {
            other.join().unwrap();
        }
        assert_idle(&slots, 1);
    });
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    model(|| {
        let slots = full(1);
        let first = queued(&slots);
        let other = beside(&slots, Slots::release);
        let another = beside(&slots, |slots| {
            assert!(!slots.try_acquire(), "it overtook the waiter");
        });
        let mut first = Waiting::new(&slots, first);
        let second = match slots.arrive(8, Duration::MAX) {
            Arrival::Queued(ticket) => ticket,
            other => panic!("the slot is the first one's: {other:?}"),
        };
        first.poll();
        other.join().unwrap();
        another.join().unwrap();
        first.must_be_granted();
        let mut second = Waiting::new(&slots, second);
        assert!(!second.poll());
        slots.release();
        second.must_be_granted();
        slots.release();
        assert_idle(&slots, 1);
    });
}

#[test]
fn a_waiter_that_leaves_while_it_is_given_a_slot_passes_it_on() {
    model(|| {
        let slots = full(1);
        let first = queued(&slots);
        let mut second = Waiting::new(&slots, queued(&slots));
        let other = beside(&slots, Slots::release);
        let another = beside(&slots, move |slots| {
            slots.cancel(first);
        });
        second.poll();
        other.join().unwrap();
        another.join().unwrap();
        second.must_be_granted();
        assert_eq!((slots.in_flight(), slots.waiting()), (1, 0));
        slots.release();
        assert_idle(&slots, 1);
    });
}

#[test]
fn the_last_waiter_that_leaves_leaves_no_mark() {
    model(|| {
        let slots = full(1);
        let only = queued(&slots);
        let other = beside(&slots, Slots::release);
        let another = beside(&slots, |slots| {
            if slots.try_acquire() {
                slots.release();
            }
        });
        slots.cancel(only);
        other.join().unwrap();
        another.join().unwrap();
        assert_idle(&slots, 1);
    });
}

#[test]
fn a_higher_limit_and_an_arrival_do_not_miss_each_other() {
    model(|| {
        let slots = full(1);
        let other = beside(&slots, |slots| slots.resize(2));
        match slots.arrive(8, Duration::MAX) {
            Arrival::Admitted => other.join().unwrap(),
            Arrival::Queued(ticket) => {
                let mut waiting = Waiting::new(&slots, ticket);
                waiting.poll();
                other.join().unwrap();
                waiting.must_be_granted();
            }
            Arrival::Refused => panic!("the queue has room"),
        }
        assert_eq!(slots.in_flight(), 2);
        slots.release();
        slots.release();
        assert_idle(&slots, 2);
    });
}

#[test]
fn a_lower_limit_beside_a_release_loses_and_invents_no_slot() {
    model(|| {
        let slots = full(2);
        let mut waiting = Waiting::new(&slots, queued(&slots));
        let other = beside(&slots, |slots| slots.resize(1));
        let another = beside(&slots, Slots::release);
        waiting.poll();
        other.join().unwrap();
        another.join().unwrap();
        // Given the slot before the limit came down, or not at all so far.
        if waiting.poll() {
            assert_eq!(slots.in_flight(), 2);
            slots.release();
        } else {
            assert_eq!(slots.in_flight(), 1);
            slots.release();
            waiting.must_be_granted();
        }
        assert_eq!(slots.in_flight(), 1);
        assert!(!slots.try_acquire());
        slots.release();
        assert_idle(&slots, 1);
    });
}

#[test]
fn once_a_lower_limit_is_set_nobody_is_admitted_above_it() {
    model(|| {
        let slots = Arc::new(Slots::new(2));
        assert!(slots.try_acquire());
        let other = beside(&slots, |slots| {
            slots.try_acquire();
        });
        slots.resize(1);
        let then = slots.in_flight();
        other.join().unwrap();
        let later = slots.in_flight();
        assert!(
            later <= then.max(1),
            "{then} were in flight when the limit came down to 1, then {later}"
        );
    });
}

#[test]
fn a_full_queue_refuses_and_no_slot_is_lost() {
    model(|| {
        let slots = full(1);
        let other = beside(&slots, Slots::release);
        match slots.arrive(0, Duration::MAX) {
            Arrival::Admitted => slots.release(),
            Arrival::Refused => {}
            Arrival::Queued(_) => panic!("nobody may wait"),
        }
        other.join().unwrap();
        assert_idle(&slots, 1);
    });
}

#[test]
fn who_asks_after_the_last_slot_was_taken_hears_that_none_is_free() {
    model(|| {
        let slots = Arc::new(Slots::new(3));
        // It was full, so that who asks looks at the word; and is empty, so that they note that.
        for _ in 0..3 {
            assert!(slots.try_acquire());
        }
        for _ in 0..3 {
            slots.release();
        }
        let other = beside(&slots, |slots| {
            slots.is_full();
        });
        for _ in 0..3 {
            assert!(slots.try_acquire());
        }
        assert!(slots.is_full());
        other.join().unwrap();
        assert!(slots.is_full());
        slots.release();
        assert!(!slots.is_full());
        slots.release();
        slots.release();
        assert!(!slots.is_full());
        assert_idle(&slots, 3);
    });
}

/// Three slots, of which this thread has parked one.
fn parked() -> Arc<Slots> {
    let slots = Slots::new(3);
    slots.let_park();
    assert!(slots.try_acquire());
    slots.release();
    assert!(slots.has_parked(), "nothing was parked");
    Arc::new(slots)
}

#[test]
fn a_slot_that_one_thread_parks_another_gets_when_there_is_none_left() {
    model(|| {
        let slots = parked();
        let done = Arc::new(AtomicU32::new(0));
        let other = {
            let done = Arc::clone(&done);
            beside(&slots, move |slots| {
                for _ in 0..2 {
                    assert!(slots.try_acquire(), "two were free all the time");
                }
                let third = slots.try_acquire();
                while done.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                assert!(third || slots.try_acquire(), "it stayed with who had parked it");
            })
        };
        if slots.try_acquire() {
            slots.release();
        }
        done.store(1, Ordering::Release);
        other.join().unwrap();
        assert!(!slots.try_acquire(), "a slot was invented");
        (0..3).for_each(|_| slots.release());
        assert_idle(&slots, 3);
    });
}

#[test]
fn who_comes_while_another_takes_back_what_is_parked_is_not_refused() {
    model(|| {
        let slots = parked();
        // So that the word is full, and of three slots one is free.
        let held = beside(&slots, |slots| {
            assert!(slots.try_acquire() && slots.try_acquire());
        });
        held.join().unwrap();
        let other = beside(&slots, |slots| {
            assert!(!slots.is_full() || slots.in_flight() == 3, "a slot was free");
        });
        assert!(slots.try_acquire(), "a slot was free all the time");
        other.join().unwrap();
        assert!(slots.is_full() && !slots.try_acquire());
        (0..3).for_each(|_| slots.release());
        assert_idle(&slots, 3);
    });
}

#[test]
fn calls_of_threads_that_park_have_their_slots_to_themselves() {
    model_within(2, || {
        let slots = parked();
        let work = Arc::new(Work::default());
        // Two of three are taken, so that the calls compete for one.
        let held = beside(&slots, |slots| {
            assert!(slots.try_acquire() && slots.try_acquire());
        });
        held.join().unwrap();
        let call = |slots: &Slots, work: &Work| {
            if slots.try_acquire() {
                work.alone();
                slots.release();
            }
        };
        let other = {
            let work = Arc::clone(&work);
            beside(&slots, move |slots| {
                slots.let_park();
                call(slots, &work);
            })
        };
        call(&slots, &work);
        call(&slots, &work);
        other.join().unwrap();
        slots.release();
        slots.release();
        assert_idle(&slots, 3);
    });
}

#[test]
fn a_slot_that_is_parked_and_an_arrival_do_not_miss_each_other() {
    model(|| {
        let slots = parked();
        assert!((0..3).all(|_| slots.try_acquire()));
        let other = beside(&slots, |slots| match slots.arrive(8, Duration::MAX) {
            Arrival::Admitted => {}
            Arrival::Queued(ticket) => {
                let mut waiting = Waiting::new(slots, ticket);
                waiting.poll();
                // The others are given back too: by then at the latest it has its slot.
                while !waiting.granted {
                    thread::yield_now();
                    waiting.poll();
                }
            }
            Arrival::Refused => panic!("the queue has room"),
        });
        slots.release();
        other.join().unwrap();
        assert_eq!((slots.in_flight(), slots.waiting()), (3, 0));
        (0..3).for_each(|_| slots.release());
        assert_idle(&slots, 3);
    });
}

#[test]
fn a_lower_limit_takes_back_what_is_parked() {
    model(|| {
        let slots = parked();
        let other = beside(&slots, |slots| slots.resize(1));
        let inside = slots.try_acquire();
        let another = slots.try_acquire();
        other.join().unwrap();
        assert!(inside, "one slot was free all the time");
        if another {
            slots.release();
        }
        assert!(!slots.try_acquire());
        slots.release();
        assert_idle(&slots, 1);
    });
}
