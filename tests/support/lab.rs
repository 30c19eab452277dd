//! A service whose calls do what a test orders, and that counts who is really inside.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{BoxError, Event, Observer, Rejected, What, find_rejected};
use tower::{Service, util::BoxCloneService};

/// What comes of a call.
pub(crate) type Reply = Result<u32, BoxError>;

/// A guarded service whose type does not tell by what.
pub(crate) type Boxed = BoxCloneService<u32, u32, BoxError>;

/// What an attempt is to do when it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Wait,
    Succeed,
    Fail,
    Panic,
}

/// A service that is always ready. Its attempts wait until they are ordered otherwise, and are inside from the
/// `call` until they are dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    shared: Arc<Mutex<Shared>>,
    polled_ready: bool,
}

#[derive(Default)]
struct Shared {
    inside: BTreeMap<u64, Inside>,
    made: u64,
    first_order: Option<Order>,
    panics_in_call: bool,
    at_drop: Option<Box<dyn Fn() + Send>>,
    mark: Option<Box<dyn Fn() -> u32 + Send>>,
}

#[derive(Debug)]
struct Inside {
    call: u32,
    order: Order,
    mark: u32,
    waker: Option<Waker>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inside.fmt(f)
    }
}

impl Clone for Lab {
    fn clone(&self) -> Self {
        // The clone of a ready service is not ready.
        Self {
            shared: Arc::clone(&self.shared),
            polled_ready: false,
        }
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
            polled_ready: false,
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attempts that are inside now.
    pub(crate) fn inside(&self) -> usize {
        self.shared().inside.len()
    }

    /// Attempts that are inside now and were marked so when they began.
    pub(crate) fn inside_marked(&self, mark: u32) -> usize {
        let shared = self.shared();
        shared
            .inside
            .values()
            .filter(|inside| inside.mark == mark)
            .count()
    }

    /// Attempts made so far.
    pub(crate) fn made(&self) -> u64 {
        self.shared().made
    }

    /// Orders all attempts of `call` that are inside, and wakes them.
    pub(crate) fn order(&self, call: u32, order: Order) {
        let mut shared = self.shared();
        for inside in shared.inside.values_mut().filter(|inside| inside.call == call) {
            inside.order = order;
            if let Some(waker) = inside.waker.take() {
                waker.wake();
            }
        }
    }

    /// Orders what attempts do that begin from now on.
    pub(crate) fn order_next(&self, order: Order) {
        self.shared().first_order = Some(order);
    }

    /// Lets `call` itself panic from now on, or not.
    pub(crate) fn panic_in_call(&self, panics: bool) {
        self.shared().panics_in_call = panics;
    }

    /// Runs this whenever an attempt is dropped, just before it stops being inside.
    pub(crate) fn at_drop(&self, run: impl Fn() + Send + 'static) {
        self.shared().at_drop = Some(Box::new(run));
    }

    /// Marks attempts that begin from now on with what `mark` answers then.
    pub(crate) fn mark_by(&self, mark: impl Fn() -> u32 + Send + 'static) {
        self.shared().mark = Some(Box::new(mark));
    }
}

impl Service<u32> for Lab {
    type Response = u32;
    type Error = BoxError;
    type Future = Attempt;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.polled_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: u32) -> Attempt {
        assert!(
            std::mem::take(&mut self.polled_ready),
            "called without having been polled ready"
        );
        let mut shared = self.shared();
        if shared.panics_in_call {
            drop(shared);
            panic_quietly();
        }
        let number = shared.made;
        shared.made += 1;
        let order = shared.first_order.unwrap_or(Order::Wait);
        let mark = shared.mark.as_ref().map_or(0, |mark| mark());
        let waker = None;
        shared.inside.insert(
            number,
            Inside {
                call,
                order,
                mark,
                waker,
            },
        );
        Attempt {
            lab: self.clone(),
            number,
        }
    }
}

/// Panics without the noise of the panic hook.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("as ordered"))
}

/// An attempt inside of the [`Lab`].
#[derive(Debug)]
pub(crate) struct Attempt {
    lab: Lab,
    number: u64,
}

/// The error of an attempt that was ordered to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed as ordered")
    }
}

impl std::error::Error for Failed {}

impl Future for Attempt {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let mut shared = self.lab.shared();
        let inside = shared.inside.get_mut(&self.number).expect("it is inside");
        match inside.order {
            Order::Wait => {
                inside.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Order::Succeed => Poll::Ready(Ok(inside.call)),
            Order::Fail => Poll::Ready(Err(Failed.into())),
            Order::Panic => {
                drop(shared);
                panic_quietly()
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let at_drop = self.lab.shared().at_drop.take();
        if let Some(run) = at_drop {
            run();
            self.lab.shared().at_drop = Some(run);
        }
        self.lab.shared().inside.remove(&self.number);
    }
}

/// A call that a test polls by hand.
pub(crate) struct Call(Option<Pin<Box<dyn Future<Output = Reply> + Send>>>);

/// What a poll by hand gave.
#[derive(Debug)]
pub(crate) enum Polled {
    Pending,
    Ready(Reply),
    Panicked,
}

impl Polled {
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }

    /// The rejection that it is.
    #[track_caller]
    pub(crate) fn rejected(self) -> Rejected {
        match self {
            Self::Ready(Err(error)) => find_rejected(&*error).expect("it is a rejection").clone(),
            other => panic!("{other:?} is no rejection"),
        }
    }

    #[track_caller]
    pub(crate) fn succeeded(self) {
        assert!(matches!(self, Self::Ready(Ok(_))), "{self:?} is no success");
    }

    #[track_caller]
    pub(crate) fn failed(self) {
        match self {
            Self::Ready(Err(error)) if error.is::<Failed>() => {}
            other => panic!("{other:?} is not the service's failure"),
        }
    }

    #[track_caller]
    pub(crate) fn panicked(self) {
        assert!(matches!(self, Self::Panicked), "{self:?} is no panic");
    }
}

impl Call {
    pub(crate) fn of(future: impl Future<Output = Reply> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }

    /// Drives the service ready and calls it, but does not poll the call.
    #[track_caller]
    pub(crate) fn begin<S>(service: &mut S, call: u32) -> Self
    where
        S: Service<u32, Response = u32, Error = BoxError>,
        S::Future: Send + 'static,
    {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            service.poll_ready(&mut cx).is_ready(),
            "all services here are ready at once"
        );
        Self::of(service.call(call))
    }

    /// The same, and polls it once: it is pending then.
    #[track_caller]
    pub(crate) fn pending<S>(service: &mut S, call: u32) -> Self
    where
        S: Service<u32, Response = u32, Error = BoxError>,
        S::Future: Send + 'static,
    {
        let mut begun = Self::begin(service, call);
        let polled = begun.poll();
        assert!(polled.is_pending(), "{polled:?}");
        begun
    }

    /// Drives the service ready and calls it while its `call` panics. `None` when it did; a call that was refused
    /// before comes back.
    pub(crate) fn begin_panicking<S>(service: &mut S, lab: &Lab, call: u32) -> Option<Self>
    where
        S: Service<u32, Response = u32, Error = BoxError>,
        S::Future: Send + 'static,
    {
        lab.panic_in_call(true);
        let begun = catch_unwind(AssertUnwindSafe(|| Self::begin(service, call)));
        lab.panic_in_call(false);
        begun.ok()
    }

    /// Polls it, catching a panic. A call that panicked is gone.
    pub(crate) fn poll(&mut self) -> Polled {
        let future = self.0.as_mut().expect("it is not over");
        let mut cx = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => Polled::Pending,
            Ok(Poll::Ready(reply)) => {
                self.0 = None;
                Polled::Ready(reply)
            }
            Err(_) => {
                self.0 = None;
                Polled::Panicked
            }
        }
    }
}

impl Future for Call {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        self.0.as_mut().expect("it is not over").as_mut().poll(cx)
    }
}

/// Moves Tokio's paused clock on, and lets what is due happen.
pub(crate) async fn advance(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a future on a runtime of its own, with Tokio's clock paused.
pub(crate) fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        // Hundreds of polls by hand would use up the budget that Tokio gives a task between two waits.
        .block_on(tokio::task::unconstrained(future))
}

/// Remembers the events of whatever it observes.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    /// What happened so far, in order.
    pub(crate) fn all(&self) -> Vec<What> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().map(|event| event.what.clone()).collect()
    }

    /// What happened so far, and forgets it.
    pub(crate) fn take(&self) -> Vec<What> {
        let all = self.all();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        all
    }

    /// What `pick` makes of the events, in order.
    pub(crate) fn pick<T>(&self, pick: impl FnMut(&What) -> Option<T>) -> Vec<T> {
        self.all().iter().filter_map(pick).collect()
    }

    /// The events themselves.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Events {
    fn on_event(&self, event: &Event) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event.clone());
    }
}
