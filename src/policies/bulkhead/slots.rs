//! The slots of a bulkhead, and the queue for them.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::parked::Parked;
use crate::vocabulary::{
    clock::Timestamp,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// Counts calls in flight against a limit that can change, and hands freed slots to waiters in the order in
/// which they came.
///
/// Without waiters a slot is taken by one atomic exchange and given back by one subtraction. Whoever finds waiters goes
/// through the queue's lock, so that nobody overtakes them. Threads that meet at the word [park](Parked) free slots for
/// themselves; who finds none takes that lock to fetch them.
///
/// In this order: between the word, which calls write to, and the hint, which they hardly ever do, there are 64 bytes and
/// so the end of a cache line.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Slots {
    /// Calls in flight in the lower half, the limit in the upper, so that who takes a slot sees both at once; and
    /// [`WAITERS`] while the queue is not empty: then only who holds the queue's lock takes a slot. Whoever gives one
    /// back while that mark is set takes the lock after that, and hands it on.
    word: AtomicU64,
    queue: Mutex<Queue>,
    hint: Hint,
    parked: Parked,
}

const _: () = assert!(std::mem::offset_of!(Slots, hint) >= std::mem::offset_of!(Slots, word) + 64);

/// Whether all slots may be taken. A service that is asked whether it is ready looks here first: the word may have to be
/// fetched from another processor, and once more when the call takes its slot.
///
/// It may say so for a while after that is over, and never says otherwise while it is so.
#[derive(Debug)]
struct Hint {
    /// How often the last slot was taken.
    fills: AtomicU64,
    /// How often it had been taken, when somebody last saw that slots were free after that.
    freed: AtomicU64,
}

const WAITERS: u64 = 1 << 63;
const COUNT_MASK: u64 = 0xFFFF_FFFF;
const LIMIT_SHIFT: u32 = 32;
const LIMIT_MASK: u64 = 0x7FFF_FFFF << LIMIT_SHIFT;

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they came.
    waiting: VecDeque<Waiter>,
    /// Those that were given a slot and do not know it yet.
    granted: Vec<Place>,
    next_ticket: u32,
}

#[derive(Debug)]
struct Waiter {
    place: Place,
    /// `None` until it is first polled.
    waker: Option<Waker>,
}

/// What is known of a call that waits. It is kept here and not by the call: most calls never wait, and what a call keeps
/// is moved with it.
#[derive(Debug)]
struct Place {
    ticket: u32,
    /// How long it may wait.
    wait: Duration,
    /// When it was first pending.
    since: Option<Timestamp>,
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
            hint: Hint {
                fills: AtomicU64::new(0),
                freed: AtomicU64::new(0),
            },
            parked: Parked::new(),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        limit_of(self.word.load(Ordering::Relaxed))
    }

    /// Calls inside, but for those that come or go meanwhile.
    pub(super) fn in_flight(&self) -> u32 {
        // So that nobody gives back what was parked between the two looks.
        let _queue = lock(&self.queue);
        let parked = self.parked.count();
        count_of(self.word.load(Ordering::Relaxed)).saturating_sub(parked)
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }

    /// Whether a call that came now would have to wait.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.may_be_full() && self.is_surely_full()
    }

    /// By the hint alone.
    #[inline(always)]
    pub(super) fn may_be_full(&self) -> bool {
        let Hint { fills, freed } = &self.hint;
        fills.load(Ordering::Relaxed) != freed.load(Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn is_surely_full(&self) -> bool {
        // Before the word: whoever takes the last slot after this look at it makes this number another one.
        let fills = self.hint.fills.load(Ordering::Acquire);
        let mut word = self.word.load(Ordering::Relaxed);
        if !has_room(word) {
            word = self.look();
        }
        // Not while it may be full again soon: to write this costs others more than to look at the word.
        if has_room(word) && count_of(word) < limit_of(word) / 2 {
            self.hint.freed.store(fills, Ordering::Relaxed);
        }
        !has_room(word)
    }

    /// The word has become `word`: notes it when no slot is free any more.
    #[inline]
    fn note_if_full(&self, word: u64) {
        if !has_room(word) {
            self.hint.fills.fetch_add(1, Ordering::Release);
        }
    }

    /// Takes a slot when one is free and nobody waits for it.
    #[inline]
    pub(super) fn try_acquire(&self) -> bool {
        self.parked.take() || self.try_acquire_shared() || self.try_acquire_parked()
    }

    /// The same, where those that are parked are not free.
    #[inline]
    fn try_acquire_shared(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while has_room(word) {
            match self
                .word
                .compare_exchange(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    self.note_if_full(word + 1);
                    return true;
                }
                Err(changed) => {
                    word = changed;
                    self.met(word);
                }
            }
        }
        false
    }

    /// The same, where what is parked is given back first. It is refused only by a look that has found nothing.
    #[cold]
    #[inline(never)]
    fn try_acquire_parked(&self) -> bool {
        while has_room(self.look()) {
            if self.try_acquire_shared() {
                return true;
            }
        }
        false
    }

    /// The word at a moment when nothing is parked.
    fn look(&self) -> u64 {
        if let Some(closed) = self.parked.closed() {
            // Acquire, so that the version is read after it.
            let word = self.word.load(Ordering::Acquire);
            if self.parked.closed() == Some(closed) {
                return word;
            }
        }
        self.reclaim(&lock(&self.queue))
    }

    /// Gives back what threads have parked, and lets them park nothing more. Tells what the word is after that.
    fn reclaim(&self, _queue: &Queue) -> u64 {
        if self.parked.closed().is_some() {
            return self.word.load(Ordering::Relaxed);
        }
        let parked = u64::from(self.parked.close());
        let word = self.word.fetch_sub(parked, Ordering::Release) - parked;
        self.parked.settle();
        word
    }

    /// Another thread has changed the word at the same time, to this: lets this one park slots.
    #[cold]
    fn met(&self, word: u64) {
        if has_room(word) && self.parked.is_wanted(limit_of(word), count_of(word)) {
            self.let_park();
        }
    }

    /// Lets this thread park slots, where there are enough and nobody waits.
    pub(super) fn let_park(&self) {
        // It is not worth waiting for.
        if let Ok(_queue) = self.queue.try_lock() {
            let word = self.word.load(Ordering::Relaxed);
            if has_room(word) {
                self.parked.open(limit_of(word), count_of(word));
            }
        }
    }

    #[cfg(all(test, buttress_loom))]
    pub(super) fn has_parked(&self) -> bool {
        self.parked.count() > 0
    }

    /// Takes a slot, or a place in the queue, for as long as `wait`, when fewer than `longest` have one.
    pub(super) fn arrive(&self, longest: u32, wait: Duration) -> Arrival {
        if self.parked.take() || self.try_acquire_shared() {
            return Arrival::Admitted;
        }
        let mut queue = lock(&self.queue);
        // From here on each slot that is given back changes the word.
        self.reclaim(&queue);
        if queue.waiting.len() >= longest as usize {
            // A slot may have come free meanwhile.
            return if self.try_acquire_shared() {
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
                if self.try_acquire_shared() {
                    return Arrival::Admitted;
                }
            } else if self
                .word
                .compare_exchange(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                let ticket = queue.next_ticket;
                queue.next_ticket = ticket.wrapping_add(1);
                let place = Place {
                    ticket,
                    wait,
                    since: None,
                };
                queue.waiting.push_back(Waiter { place, waker: None });
                return Arrival::Queued(ticket);
            }
        }
    }

    /// Ready once the ticket has its slot, with when it was first pending, if it was.
    pub(super) fn poll(&self, ticket: u32, cx: &Context<'_>) -> Poll<Option<Timestamp>> {
        // A waker that goes can take a task with it, and that a slot of this bulkhead: it goes after the lock.
        let replaced;
        {
            let mut queue = lock(&self.queue);
            if let Some(place) = queue.take_granted(ticket) {
                return Poll::Ready(place.since);
            }
            let at = queue.position(ticket);
            replaced = match at.and_then(|at| queue.waiting.get_mut(at)) {
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

    /// The ticket is pending at `now`: until when may it be? `None` when it has its slot and only has to look.
    pub(super) fn pended(&self, ticket: u32, now: Timestamp) -> Option<Timestamp> {
        let mut queue = lock(&self.queue);
        let at = queue.position(ticket)?;
        let place = &mut queue.waiting.get_mut(at)?.place;
        Some(place.since.get_or_insert(now).after(place.wait))
    }

    /// Leaves the queue when the ticket has waited for as long as it may by `now`, which is how long.
    pub(super) fn expire(&self, ticket: u32, now: Timestamp) -> Option<Duration> {
        let wait = {
            let queue = lock(&self.queue);
            let mut places = queue
                .waiting
                .iter()
                .map(|waiter| &waiter.place)
                .chain(&queue.granted);
            let place = places.find(|place| place.ticket == ticket)?;
            (now >= place.since?.after(place.wait)).then_some(place.wait)?
        };
        self.cancel(ticket);
        Some(wait)
    }

    /// Leaves the queue, giving a slot that it was just given to the next. True when it had been given one.
    pub(super) fn cancel(&self, ticket: u32) -> bool {
        // Its waker goes after the lock, as in `poll`.
        let mut left = None;
        let granted = {
            let mut queue = lock(&self.queue);
            let granted = queue.take_granted(ticket).is_some();
            if !granted {
                let at = queue.position(ticket);
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
    ///
    /// Who comes to the word takes it from the processor that had it last, and a load before would take it twice: so this
    /// subtracts there first and looks at what it had been.
    #[inline]
    pub(super) fn release(&self) {
        if self.parked.park() {
            return;
        }
        if self.word.fetch_sub(1, Ordering::Release) & WAITERS != 0 {
            self.serve();
        }
    }

    /// A slot came free while somebody waited: hands on what is free.
    #[cold]
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        let wakers = self.grant(&mut queue);
        drop(queue);
        wake(wakers);
    }

    /// Sets the limit. A lower one admits nobody until enough calls in flight have ended; a higher one admits
    /// waiters at once.
    pub(super) fn resize(&self, limit: u32) {
        let mut queue = lock(&self.queue);
        self.reclaim(&queue);
        // Without waiters others change the word meanwhile.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let resized = word & !LIMIT_MASK | u64::from(limit) << LIMIT_SHIFT;
            match self
                .word
                .compare_exchange(word, resized, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    self.note_if_full(resized);
                    break;
                }
                Err(changed) => word = changed,
            }
        }
        let wakers = self.grant(&mut queue);
        drop(queue);
        wake(wakers);
    }

    /// Whether the word has a slot, whoever waits.
    fn has_slot(&self) -> bool {
        has_room(self.word.load(Ordering::Relaxed) & !WAITERS)
    }

    /// Gives free slots to those who wait, and hands back whom to wake once the lock is released. With the
    /// lock held: while anybody waits, nobody else takes a slot or changes the limit. One that comes free after the look
    /// at the word is handed on by whoever gave it back.
    fn grant(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while !queue.waiting.is_empty() && self.has_slot() {
            if let Some(Waiter { place, waker }) = queue.waiting.pop_front() {
                self.word.fetch_add(1, Ordering::AcqRel);
                queue.granted.push(place);
                wakers.extend(waker);
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
    word & WAITERS == 0 && count_of(word) < limit_of(word)
}

#[allow(clippy::cast_possible_truncation)]
const fn limit_of(word: u64) -> u32 {
    ((word & LIMIT_MASK) >> LIMIT_SHIFT) as u32
}

#[allow(clippy::cast_possible_truncation)]
const fn count_of(word: u64) -> u32 {
    (word & COUNT_MASK) as u32
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl Queue {
    fn position(&self, ticket: u32) -> Option<usize> {
        self.waiting
            .iter()
            .position(|waiter| waiter.place.ticket == ticket)
    }

    fn take_granted(&mut self, ticket: u32) -> Option<Place> {
        let at = self.granted.iter().position(|granted| granted.ticket == ticket)?;
        Some(self.granted.swap_remove(at))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicU32 as PlainU32, Ordering::SeqCst},
        },
        task::Wake,
    };

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// How long calls may wait, where nothing else is said.
    const WAIT: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Count(PlainU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        TryAcquire,
        Arrive {
            longest: u32,
        },
        /// One that is inside leaves.
        Release,
        /// One that waited, or was given a slot meanwhile, looks.
        Poll(prop::sample::Index),
        /// It asks until when it may wait.
        Pend(prop::sample::Index),
        /// It asks whether that is over.
        Expire(prop::sample::Index),
        /// Milliseconds pass.
        On(u64),
        Cancel(prop::sample::Index),
        Resize(u32),
        /// Its thread may park slots from now on, where there are many.
        Spread,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            2 => Just(Op::TryAcquire),
            4 => (0..6_u32).prop_map(|longest| Op::Arrive { longest }),
            4 => Just(Op::Release),
            3 => any::<prop::sample::Index>().prop_map(Op::Poll),
            2 => any::<prop::sample::Index>().prop_map(Op::Pend),
            2 => any::<prop::sample::Index>().prop_map(Op::Expire),
            2 => (1..700_u64).prop_map(Op::On),
            2 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            1 => prop_oneof![1..5_u32, 17..40_u32].prop_map(Op::Resize),
            1 => Just(Op::Spread),
        ]
    }

    /// A call in the queue, or given a slot and not looking yet.
    struct Queued {
        ticket: u32,
        polled: bool,
        waker: Arc<Count>,
        /// When it was first pending.
        since: Option<Timestamp>,
    }

    /// The bulkhead as lists.
    struct Naive {
        limit: u32,
        /// Calls inside.
        inside: u32,
        /// In the order in which they came.
        waiting: Vec<Queued>,
        granted: Vec<Queued>,
        now: Timestamp,
    }

    impl Naive {
        fn in_flight(&self) -> u32 {
            self.inside + u32::try_from(self.granted.len()).unwrap()
        }

        fn has_room(&self) -> bool {
            self.waiting.is_empty() && self.in_flight() < self.limit
        }

        /// Which of those that are in the queue, or were given a slot and did not look.
        fn pick(&self, which: prop::sample::Index) -> Option<usize> {
            let all = self.waiting.len() + self.granted.len();
            (all > 0).then(|| which.index(all))
        }

        /// It, and whether it was given a slot.
        fn queued(&mut self, at: usize) -> (&mut Queued, bool) {
            let waiting = self.waiting.len();
            match at.checked_sub(waiting) {
                Some(at) => (&mut self.granted[at], true),
                None => (&mut self.waiting[at], false),
            }
        }

        fn remove(&mut self, at: usize) -> Queued {
            match at.checked_sub(self.waiting.len()) {
                Some(at) => self.granted.remove(at),
                None => self.waiting.remove(at),
            }
        }

        /// First come, first served.
        fn serve(&mut self) {
            while !self.waiting.is_empty() && self.in_flight() < self.limit {
                self.granted.push(self.waiting.remove(0));
            }
        }
    }

    proptest! {
        #[test]
        fn it_admits_whom_a_list_of_who_came_admits(
            limit in prop_oneof![1..4_u32, 17..24_u32],
            ops in vec(op(), 0..80),
        ) {
            let slots = Slots::new(limit);
            let (waiting, granted, now) = (vec![], vec![], Timestamp::default());
            let mut naive = Naive { limit, inside: 0, waiting, granted, now };
            for op in ops {
                match op {
                    Op::TryAcquire => {
                        let admitted = slots.try_acquire();
                        prop_assert_eq!(admitted, naive.has_room());
                        naive.inside += u32::from(admitted);
                    }
                    Op::Arrive { longest } => {
                        let room = naive.has_room();
                        match slots.arrive(longest, WAIT) {
                            Arrival::Admitted => {
                                prop_assert!(room);
                                naive.inside += 1;
                            }
                            Arrival::Queued(ticket) => {
                                prop_assert!(!room && naive.waiting.len() < longest as usize);
                                let waker = Arc::default();
                                naive.waiting.push(Queued { ticket, polled: false, waker, since: None });
                            }
                            Arrival::Refused => {
                                prop_assert!(!room && naive.waiting.len() >= longest as usize);
                            }
                        }
                    }
                    Op::Release => {
                        if naive.inside > 0 {
                            slots.release();
                            naive.inside -= 1;
                            naive.serve();
                        }
                    }
                    Op::Poll(which) => {
                        let Some(at) = naive.pick(which) else { continue };
                        let (queued, is_granted) = naive.queued(at);
                        queued.polled = true;
                        let (since, ticket) = (queued.since, queued.ticket);
                        let waker = Waker::from(Arc::clone(&queued.waker));
                        let polled = slots.poll(ticket, &Context::from_waker(&waker));
                        prop_assert_eq!(polled, if is_granted { Poll::Ready(since) } else { Poll::Pending });
                        if is_granted {
                            naive.remove(at);
                            naive.inside += 1;
                        }
                    }
                    Op::Pend(which) => {
                        let (Some(at), now) = (naive.pick(which), naive.now) else { continue };
                        let (queued, is_granted) = naive.queued(at);
                        let deadline = (!is_granted).then(|| queued.since.get_or_insert(now).after(WAIT));
                        prop_assert_eq!(slots.pended(queued.ticket, now), deadline);
                    }
                    Op::Expire(which) => {
                        let (Some(at), now) = (naive.pick(which), naive.now) else { continue };
                        let (queued, _) = naive.queued(at);
                        let is_over = queued.since.is_some_and(|since| now.since(since) >= WAIT);
                        prop_assert_eq!(slots.expire(queued.ticket, now), is_over.then_some(WAIT));
                        if is_over {
                            naive.remove(at);
                            naive.serve();
                        }
                    }
                    Op::On(millis) => naive.now = naive.now.after(Duration::from_millis(millis)),
                    Op::Cancel(which) => {
                        let Some(at) = naive.pick(which) else { continue };
                        let (queued, is_granted) = naive.queued(at);
                        prop_assert_eq!(slots.cancel(queued.ticket), is_granted);
                        naive.remove(at);
                        naive.serve();
                    }
                    Op::Spread => slots.let_park(),
                    Op::Resize(limit) => {
                        slots.resize(limit);
                        naive.limit = limit;
                        naive.serve();
                    }
                }
                prop_assert_eq!(slots.limit(), naive.limit);
                prop_assert_eq!(slots.in_flight(), naive.in_flight());
                prop_assert_eq!(slots.waiting(), naive.waiting.len());
                prop_assert_eq!(slots.is_full(), !naive.has_room());
                for queued in &naive.waiting {
                    prop_assert_eq!(queued.waker.0.load(SeqCst), 0, "woken for nothing");
                }
                for queued in naive.granted.iter().filter(|queued| queued.polled) {
                    prop_assert!(queued.waker.0.load(SeqCst) >= 1, "given a slot and not woken");
                }
            }
        }
    }

    #[test]
    fn a_thread_parks_free_slots_and_another_gets_them_when_there_is_none_left() {
        let slots = Slots::new(20);
        slots.let_park();
        let taken = || count_of(slots.word.load(Ordering::Relaxed));
        for _ in 0..3 {
            assert!(slots.try_acquire());
            assert_eq!((taken(), slots.in_flight()), (1, 1), "the slot that was parked");
            slots.release();
            assert_eq!((taken(), slots.in_flight()), (1, 0));
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for call in 1..=20 {
                    assert!(!slots.is_full(), "before call {call}");
                    assert!(slots.try_acquire(), "call {call}");
                }
                assert!(!slots.try_acquire() && slots.is_full());
            });
        });
        // Nearly full, it lets nobody park.
        slots.release();
        slots.let_park();
        slots.release();
        assert_eq!(taken(), 18);
    }

    #[test]
    fn who_waits_gets_a_slot_that_was_parked() {
        let slots = Slots::new(20);
        slots.let_park();
        assert!(slots.try_acquire());
        slots.release();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(slots.arrive(8, WAIT), Arrival::Admitted);
                }
                assert!(matches!(slots.arrive(8, WAIT), Arrival::Queued(_)));
            });
        });
        slots.release();
        assert_eq!((slots.in_flight(), slots.waiting()), (20, 0), "handed on");
    }

    #[test]
    fn threads_that_meet_never_hold_more_slots_than_there_are_and_lose_none() {
        for limit in [1, 3, 17, 24, 64] {
            let slots = Slots::new(limit);
            let inside = PlainU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut held = 0;
                        for step in 0..20_000_u32 {
                            // Runs of calls at once, of changing length.
                            if step.wrapping_mul(2_654_435_761) >> 28 < 8 && slots.try_acquire() {
                                held += 1;
                                assert!(inside.fetch_add(1, SeqCst) < limit, "more than {limit}");
                            } else if held > 0 {
                                held -= 1;
                                inside.fetch_sub(1, SeqCst);
                                slots.release();
                            }
                        }
                        (0..held).for_each(|_| {
                            inside.fetch_sub(1, SeqCst);
                            slots.release();
                        });
                    });
                }
            });
            assert_eq!(slots.in_flight(), 0);
            assert!((0..limit).all(|_| slots.try_acquire()), "a slot was lost");
            assert!(!slots.try_acquire(), "a slot was invented");
        }
    }

    #[test]
    fn a_slot_that_comes_too_late_goes_to_the_next() {
        let slots = Slots::new(1);
        let cx = Context::from_waker(Waker::noop());
        let queued = || match slots.arrive(8, WAIT) {
            Arrival::Queued(ticket) => ticket,
            other => panic!("{other:?}"),
        };
        assert!(slots.try_acquire());
        let (late, next) = (queued(), queued());
        let began = Timestamp::default();
        assert_eq!(slots.pended(late, began), Some(began.after(WAIT)));
        slots.release();
        assert_eq!(slots.expire(late, began.after(WAIT / 2)), None);
        assert_eq!(slots.expire(late, began.after(WAIT)), Some(WAIT));
        assert!(slots.poll(next, &cx).is_ready());
    }

    /// A waker whose end runs code of its user, as the end of a task does.
    struct Ends {
        slots: Arc<Slots>,
        free: Arc<AtomicBool>,
    }

    impl Wake for Ends {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Ends {
        fn drop(&mut self) {
            self.free.store(self.slots.queue.try_lock().is_ok(), SeqCst);
        }
    }

    /// Queues a call, polls it with a waker, does `then`, and tells whether the lock was free when the waker's
    /// end came.
    fn lock_is_free_when_a_waker_ends(then: impl FnOnce(&Slots, u32)) -> bool {
        let slots = Arc::new(Slots::new(1));
        assert!(slots.try_acquire());
        let Arrival::Queued(ticket) = slots.arrive(8, WAIT) else {
            panic!("it is full");
        };
        let free = Arc::new(AtomicBool::new(false));
        let waker = Waker::from(Arc::new(Ends {
            slots: Arc::clone(&slots),
            free: Arc::clone(&free),
        }));
        assert!(slots.poll(ticket, &Context::from_waker(&waker)).is_pending());
        drop(waker);
        then(&slots, ticket);
        free.load(SeqCst)
    }

    #[test]
    fn no_lock_is_held_while_a_waker_is_dropped() {
        // A waker's end may be the end of a task, which may hold a slot of this bulkhead and give it back.
        assert!(
            lock_is_free_when_a_waker_ends(|slots, ticket| {
                let again = slots.poll(ticket, &Context::from_waker(Waker::noop()));
                assert!(again.is_pending());
            }),
            "when another takes its place"
        );
        assert!(
            lock_is_free_when_a_waker_ends(|slots, ticket| {
                slots.cancel(ticket);
            }),
            "when the waiter leaves"
        );
        assert!(
            lock_is_free_when_a_waker_ends(|slots, _| slots.release()),
            "when the waiter is woken"
        );
    }
}
