//! How a request is sent more than once, and where another service to send it comes from.

use crate::vocabulary::sync::{Mutex, lock};

/// How a policy sends a request, once or several times.
///
/// A request need not be `Clone`. A hook of this kind splits it into what is sent now and what is kept for
/// another attempt; it may send another type than it was given (a body that can be replayed), and it may decline,
/// in which case the request is sent once.
///
/// - [`Cloned`] clones requests.
/// - [`CopyBy`] asks a closure for a copy.
/// - [`Once`] and [`Queued`] send once.
#[diagnostic::on_unimplemented(
    message = "a retry cannot send a request of type `{Req}` more than once",
    label = "nothing says how a request of type `{Req}` is sent again",
    note = "a retry clones requests; where they are not `Clone` write `.once()` to send each of them once: `RetryLayer::new(retry).once()`, or `stack.once()`",
    note = "or write `.copy_by(|request| ..)` in the same place, to say which requests are sent again and how one is copied; or derive `Clone` for `{Req}`"
)]
pub trait Replay<Req>: Send + Sync + 'static {
    /// What the service is called with.
    type Sent;

    /// What is kept for another attempt.
    type Kept;

    /// Prepares the first attempt.
    fn first(&self, request: Req) -> (Self::Sent, Self::Kept);

    /// Whether another attempt can be made. While this answers true, [`again`](Replay::again) has one.
    fn can_repeat(&self, kept: &Self::Kept) -> bool;

    /// Prepares another attempt.
    fn again(&self, kept: &mut Self::Kept) -> Option<Self::Sent>;
}

/// Where a call that waited or repeats gets another service from.
///
/// A ready service is not held through a wait: it may occupy a permit that others need. So whoever waits takes a
/// fresh clone afterwards.
#[diagnostic::on_unimplemented(
    message = "a call that waits or repeats cannot get another service of type `{S}`",
    label = "this service is not `Clone + Send + 'static`",
    note = "write `.once()`, so that no call waits in a queue and none is repeated: `RetryLayer::new(retry).once()`, `BulkheadLayer::new(bulkhead).once()`, or `stack.once()`",
    note = "or derive `Clone` for `{S}`, or add `.layer(tower::buffer::BufferLayer::new(bound))` right above it"
)]
pub trait Renew<S>: Send + Sync + 'static {
    /// What is kept to make others from.
    type Spare;

    /// Whether there ever is another service; where not, nothing waits in a queue.
    const RENEWS: bool;

    /// Keeps what others are made from.
    fn spare(service: &S) -> Self::Spare;

    /// The same once more, for settings that take the place of those before.
    fn respare(spare: &Self::Spare) -> Self::Spare;

    /// Another service, not polled ready.
    fn renew(spare: &Self::Spare) -> Option<S>;

    /// Takes a service for a call that waits, and gives up the readiness of the one in hand.
    fn release(service: &mut S) -> Option<S>;
}

/// Each request is sent once and nothing waits in a queue: neither request nor service needs to be `Clone`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Once;

/// Each request is sent once, and may wait in a queue before: the service is `Clone`, the request need not be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued;

/// Requests and service are cloned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

/// Requests are copied by a closure that may decline: `Fn(&Req) -> Option<Req>`.
#[derive(Clone, Copy, Debug)]
pub struct CopyBy<F>(pub(crate) F);

/// A hook of the user's own.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<H>(pub(crate) H);

macro_rules! sends_once {
    ($kind:ty) => {
        impl<Req> Replay<Req> for $kind {
            type Sent = Req;
            type Kept = ();

            #[inline]
            fn first(&self, request: Req) -> (Req, ()) {
                (request, ())
            }

            #[inline]
            fn can_repeat(&self, (): &()) -> bool {
                false
            }

            fn again(&self, (): &mut ()) -> Option<Req> {
                None
            }
        }
    };
}

sends_once!(Once);
sends_once!(Queued);

// Without it the compiler only asks for `Clone`, and does not say that there is another way.
#[diagnostic::do_not_recommend]
impl<Req: Clone> Replay<Req> for Cloned {
    type Sent = Req;
    type Kept = Req;

    #[inline]
    fn first(&self, request: Req) -> (Req, Req) {
        (request.clone(), request)
    }

    #[inline]
    fn can_repeat(&self, _kept: &Req) -> bool {
        true
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}

impl<Req, F> Replay<Req> for CopyBy<F>
where
    F: Fn(&Req) -> Option<Req> + Send + Sync + 'static,
{
    type Sent = Req;
    /// The next attempt's request, made before it is known to be needed: the one before may be gone by then.
    type Kept = Option<Req>;

    fn first(&self, request: Req) -> (Req, Option<Req>) {
        let kept = (self.0)(&request);
        (request, kept)
    }

    fn can_repeat(&self, kept: &Option<Req>) -> bool {
        kept.is_some()
    }

    fn again(&self, kept: &mut Option<Req>) -> Option<Req> {
        let request = kept.take()?;
        *kept = (self.0)(&request);
        Some(request)
    }
}

impl<Req, H: Replay<Req>> Replay<Req> for Prepared<H> {
    type Sent = H::Sent;
    type Kept = H::Kept;

    fn first(&self, request: Req) -> (H::Sent, H::Kept) {
        self.0.first(request)
    }

    fn can_repeat(&self, kept: &H::Kept) -> bool {
        self.0.can_repeat(kept)
    }

    fn again(&self, kept: &mut H::Kept) -> Option<H::Sent> {
        self.0.again(kept)
    }
}

impl<S> Renew<S> for Once {
    type Spare = ();

    const RENEWS: bool = false;

    fn spare(_service: &S) {}

    fn respare((): &()) {}

    fn renew((): &()) -> Option<S> {
        None
    }

    fn release(_service: &mut S) -> Option<S> {
        None
    }
}

macro_rules! renews {
    ($kind:ty $(, $generic:ident)?) => {
        #[diagnostic::do_not_recommend]
        impl<S: Clone + Send + 'static $(, $generic: Send + Sync + 'static)?> Renew<S> for $kind {
            /// Behind a lock, because a service need not be `Sync`. It is taken only to clone it.
            type Spare = Mutex<S>;

            const RENEWS: bool = true;

            fn spare(service: &S) -> Mutex<S> {
                Mutex::new(service.clone())
            }

            fn respare(spare: &Mutex<S>) -> Mutex<S> {
                Mutex::new(lock(spare).clone())
            }

            fn renew(spare: &Mutex<S>) -> Option<S> {
                Some(lock(spare).clone())
            }

            fn release(service: &mut S) -> Option<S> {
                let fresh = service.clone();
                // The one that was ready is dropped, and what its readiness held with it.
                *service = fresh.clone();
                Some(fresh)
            }
        }
    };
}

renews!(Queued);
renews!(Cloned);
renews!(CopyBy<F>, F);
renews!(Prepared<H>, H);
