//! The slots of a bulkhead, and the queue for them.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use crate::vocabulary::sync::{AtomicU64, Mutex, Ordering, lock};

/// Counts calls in flight against a limit that can change, and hands freed slots to waiters in the order in
/// which they came.
///
/// Without waiters a slot is taken and given back by one atomic exchange each. Whoever finds waiters goes
/// through the queue's lock, so that nobody overtakes them.
#[derive(Debug)]
pub(super) struct Slots {
    /// Calls in flight in the lower half, the limit in the upper, so that who takes a slot sees both at once; and
    /// [`WAITERS`] while the queue is not empty: then only who holds the queue's lock changes this word.
    word: AtomicU64,
    queue: Mutex<Queue>,
}

const WAITERS: u64 = 1 << 63;
const COUNT_MASK: u64 = 0xFFFF_FFFF;
const LIMIT_SHIFT: u32 = 32;
const LIMIT_MASK: u64 = 0x7FFF_FFFF << LIMIT_SHIFT;

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they came.
    waiting: VecDeque<Waiter>,
    /// Tickets that were given a slot and do not know it yet.
    granted: Vec<u32>,
    next_ticket: u32,
}

#[derive(Debug)]
struct Waiter {
    ticket: u32,
    /// `None` until it is first polled.
    waker: Option<Waker>,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has a slot.
    Admitted,
    /// It waits, under this ticket.
    Queued(u32),
    /// No slot is free, and as many wait as may.
    Refused,
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(u64::from(limit) << LIMIT_SHIFT),
            queue: Mutex::new(Queue::default()),
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn limit(&self) -> u32 {
        ((self.word.load(Ordering::Relaxed) & LIMIT_MASK) >> LIMIT_SHIFT) as u32
    }

    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn in_flight(&self) -> u32 {
        (self.word.load(Ordering::Relaxed) & COUNT_MASK) as u32
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }

    /// Whether a call that came now would have to wait.
    pub(super) fn is_full(&self) -> bool {
        !has_room(self.word.load(Ordering::Relaxed))
    }

    /// Takes a slot when one is free and nobody waits for it.
    #[inline]
    pub(super) fn try_acquire(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while has_room(word) {
            match self
                .word
                .compare_exchange(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
        false
    }

    /// Takes a slot, or a place in the queue when fewer than `longest` wait.
    pub(super) fn arrive(&self, longest: u32) -> Arrival {
        if self.try_acquire() {
            return Arrival::Admitted;
        }
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= longest as usize {
            // A slot may have come free meanwhile.
            return if self.try_acquire() {
                Arrival::Admitted
            } else {
                Arrival::Refused
            };
        }
        // Either a slot is free, or the mark is set while none is: a slot that is given back in between changes
        // the word, and this looks again.
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if has_room(word) {
                if self.try_acquire() {
                    return Arrival::Admitted;
                }
            } else if self
                .word
                .compare_exchange(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                let ticket = queue.next_ticket;
                queue.next_ticket = ticket.wrapping_add(1);
                queue.waiting.push_back(Waiter { ticket, waker: None });
                return Arrival::Queued(ticket);
            }
        }
    }

    /// Ready once the ticket has its slot.
    pub(super) fn poll(&self, ticket: u32, cx: &Context<'_>) -> Poll<()> {
        // A waker that goes can take a task with it, and that a slot of this bulkhead: it goes after the lock.
        let replaced;
        {
            let mut queue = lock(&self.queue);
            if queue.take_granted(ticket) {
                return Poll::Ready(());
            }
            let waiter = queue.waiting.iter_mut().find(|waiter| waiter.ticket == ticket);
            replaced = match waiter {
                Some(waiter)
                    if !waiter
                        .waker
                        .as_ref()
                        .is_some_and(|waker| waker.will_wake(cx.waker())) =>
                {
                    waiter.waker.replace(cx.waker().clone())
                }
                _ => None,
            };
        }
        drop(replaced);
        Poll::Pending
    }

    /// Leaves the queue, giving a slot that it was just given to the next. True when it had been given one.
    pub(super) fn cancel(&self, ticket: u32) -> bool {
        // Its waker goes after the lock, as in `poll`.
        let mut left = None;
        let granted = {
            let mut queue = lock(&self.queue);
            let granted = queue.take_granted(ticket);
            if !granted {
                let at = queue.waiting.iter().position(|waiter| waiter.ticket == ticket);
                left = at.and_then(|at| queue.waiting.remove(at));
                if queue.waiting.is_empty() {
                    self.word.fetch_and(!WAITERS, Ordering::Relaxed);
                }
            }
            granted
        };
        drop(left);
        if granted {
            self.release();
        }
        granted
    }

    /// Gives a slot back, to the first who waits if anybody does.
    #[inline]
    pub(super) fn release(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITERS == 0 {
            match self
                .word
                .compare_exchange(word, word - 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(changed) => word = changed,
            }
        }
        self.release_to_waiters();
    }

    #[cold]
    fn release_to_waiters(&self) {
        let mut queue = lock(&self.queue);
        self.word.fetch_sub(1, Ordering::AcqRel);
        let wakers = self.grant(&mut queue);
        drop(queue);
        wake(wakers);
    }

    /// Sets the limit. A lower one admits nobody until enough calls in flight have ended; a higher one admits
    /// waiters at once.
    pub(super) fn resize(&self, limit: u32) {
        let mut queue = lock(&self.queue);
        // Without waiters others change the word meanwhile.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let resized = word & !LIMIT_MASK | u64::from(limit) << LIMIT_SHIFT;
            match self
                .word
                .compare_exchange(word, resized, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(changed) => word = changed,
            }
        }
        let wakers = self.grant(&mut queue);
        drop(queue);
        wake(wakers);
    }

    /// Gives free slots to those who wait, and hands back whom to wake once the lock is released. With the
    /// lock held: while anybody waits, nobody else changes the word.
    fn grant(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while !queue.waiting.is_empty() && self.in_flight() < self.limit() {
            if let Some(waiter) = queue.waiting.pop_front() {
                self.word.fetch_add(1, Ordering::AcqRel);
                queue.granted.push(waiter.ticket);
                wakers.extend(waiter.waker);
            }
        }
        if queue.waiting.is_empty() {
            self.word.fetch_and(!WAITERS, Ordering::Relaxed);
        }
        wakers
    }
}

/// Whether a slot is free and nobody waits for it.
#[inline]
const fn has_room(word: u64) -> bool {
    word & WAITERS == 0 && word & COUNT_MASK < (word & LIMIT_MASK) >> LIMIT_SHIFT
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl Queue {
    fn take_granted(&mut self, ticket: u32) -> bool {
        let at = self.granted.iter().position(|granted| *granted == ticket);
        at.map(|at| self.granted.swap_remove(at)).is_some()
    }
}
