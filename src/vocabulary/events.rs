//! Events as a stream: a subscription that is read at leisure and never makes a call wait.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::SystemTime,
};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::vocabulary::{
    clock::time_of_day,
    event::{Event, Observer, Observers},
    event_kind::{EventKind, EventKinds},
};

/// What to subscribe to. Made from [`EventKinds`] or an [`EventKind`] where the rest is as by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscribe {
    /// The kinds of events. Default: [`EventKinds::per_change`], which stay few however many calls there are.
    pub kinds: EventKinds,
    /// How many events wait for the reader before the oldest is lost, from 1 to 65 536 (what is beyond counts as that),
    /// rounded up to a power of two. Each takes some 200 bytes from the beginning. Default: 256.
    pub capacity: usize,
}

impl Default for Subscribe {
    fn default() -> Self {
        Self {
            kinds: EventKinds::default(),
            capacity: 256,
        }
    }
}

impl Subscribe {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`kinds`](Self::kinds).
    #[must_use]
    pub fn kinds(mut self, kinds: impl Into<EventKinds>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// Sets [`capacity`](Self::capacity).
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }
}

impl From<EventKinds> for Subscribe {
    fn from(kinds: EventKinds) -> Self {
        Self::new().kinds(kinds)
    }
}

impl From<EventKind> for Subscribe {
    fn from(kind: EventKind) -> Self {
        Self::new().kinds(kind)
    }
}

/// A subscription to events, by [`CircuitBreaker::subscribe`](crate::CircuitBreaker::subscribe) and its siblings, or
/// [`Registry::subscribe`](crate::Registry::subscribe).
///
/// It holds so many events as it was told to. A reader that is too slow loses the oldest and learns how many; no call
/// ever waits for a reader. Dropping it ends the subscription, and what nobody else wants is not built any more.
///
/// ```
/// use buttress::{CircuitBreaker, EventKinds};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::with_defaults("payments")?;
/// let mut events = breaker.subscribe(EventKinds::per_change());
/// breaker.force_open();
/// let told = events.recv().await.expect("the breaker lives");
/// assert_eq!((told.seq, told.lost), (1, 0));
/// assert_eq!(told.event.to_string(), "circuit breaker `payments`: closed to forced_open");
/// # Ok(())
/// # }
/// ```
pub struct Events {
    receiver: broadcast::Receiver<Stamped>,
    /// Events told to this subscription so far, the lost ones counted.
    seq: u64,
    lost: u64,
    end: Option<Box<End>>,
}

/// Ends the subscription where events come from.
type End = dyn FnOnce() + Send + Sync;

/// An event of a subscription.
///
/// # As JSON
///
/// With the feature `serde` it is written as one object, flat, whose words are kept: later versions add members and words,
/// and change none. Durations are in seconds, rates are fractions.
///
/// ```json
/// {"seq": 7, "lost": 0, "at": "2026-03-01T12:30:00.250Z",
///  "policy": "circuit_breaker", "name": "payments/circuit_breaker",
///  "what": "transition", "from": "closed", "to": "open",
///  "cause": {"code": "failure_rate", "rate": 0.61, "calls": 20, "text": "failure rate 61 % of 20 calls"},
///  "text": "closed to open: failure rate 61 % of 20 calls"}
/// ```
///
/// `text` says all of it to who reads. What else there is goes by `what`:
///
/// | `what` | members |
/// |---|---|
/// | `transition` | `from`, `to`, `cause` (of an opening) |
/// | `rejected` | `rejected`: `policy`, `kind`, `reason`, `retry_after_seconds`, `may_have_reached_service`, `attempts` |
/// | `rejections` | `count`, `over_seconds`, `reason` |
/// | `recorded` | `verdict`, `duration_seconds` |
/// | `abandoned` | `why` |
/// | `retrying` | `attempt`, `after_seconds`, `failure` |
/// | `recovered` | `attempts` |
/// | `gave_up` | `attempts`, `why` |
/// | `answered` | `hidden` (a verdict), `rejected` |
/// | `keys_full` | `max_keys` |
/// | `reloaded` | `generation` |
/// | `reload_failed` | `errors` |
/// | `commanded` | `command`, `max_concurrent` (of `resize`), `by` (`label` and `reason`), `ttl_seconds` |
/// | `override_ended` | the same but `ttl_seconds`; `end`: `expired`, `replaced` or `left` |
/// | `queued`, `reconfigured`, `window_emptied`, `key_forgotten`, `restacked`, `orphaned` | none |
///
/// A `reason` and a `cause` have a `code`, the numbers that belong to it, and a `text`. What there may be nothing of is
/// null.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Told {
    /// Counts the events of the subscription, the lost ones too; the first is 1.
    pub seq: u64,
    /// So many were lost just before this one, because the reader was too slow.
    pub lost: u64,
    /// When it happened, by the system's clock.
    pub at: SystemTime,
    /// The event.
    pub event: Event,
}

#[derive(Clone)]
struct Stamped {
    at: SystemTime,
    event: Event,
}

impl Events {
    /// The next event, once there is one. `None`: what the events were of is gone, and all of them were read.
    ///
    /// # Cancel safety
    ///
    /// No event is lost when it is dropped.
    pub async fn recv(&mut self) -> Option<Told> {
        loop {
            match self.receiver.recv().await {
                Ok(stamped) => return Some(self.told(stamped)),
                Err(RecvError::Lagged(lost)) => self.lost += lost,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, if there is one already.
    pub fn try_recv(&mut self) -> Option<Told> {
        loop {
            match self.receiver.try_recv() {
                Ok(stamped) => return Some(self.told(stamped)),
                Err(TryRecvError::Lagged(lost)) => self.lost += lost,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    fn told(&mut self, Stamped { at, event }: Stamped) -> Told {
        let lost = std::mem::take(&mut self.lost);
        self.seq += lost + 1;
        Told {
            seq: self.seq,
            lost,
            at,
            event,
        }
    }

    /// A subscription, and the observer that feeds it. The events end when that is dropped.
    /// `only`: nothing but what happens to that stack, or to that policy or one of its keys.
    pub(crate) fn new(to: Subscribe, only: Option<&str>) -> (Self, Arc<dyn Observer>) {
        let (sender, receiver) = broadcast::channel(to.capacity.clamp(1, 65_536));
        let events = Self {
            receiver,
            seq: 0,
            lost: 0,
            end: None,
        };
        let feed = Feed {
            kinds: to.kinds,
            only: only.map(Box::from),
            sender,
        };
        (events, Arc::new(feed))
    }

    /// A subscription to what the observers in `owner` are told.
    pub(crate) fn of<T: Send + Sync + 'static>(
        owner: &Arc<T>,
        observers: fn(&T) -> &Observers,
        to: Subscribe,
    ) -> Self {
        let (events, observer) = Self::new(to, None);
        let weak = Arc::downgrade(&observer);
        observers(owner).add(observer);
        let owner = Arc::downgrade(owner);
        events.ended_by(move || {
            if let Some(owner) = owner.upgrade() {
                observers(&owner).remove(&weak);
            }
        })
    }

    /// Says what takes the observer out again.
    pub(crate) fn ended_by(mut self, end: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.end = Some(Box::new(end));
        self
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("seq", &self.seq)
            .field("waiting", &self.receiver.len())
            .finish_non_exhaustive()
    }
}

/// Puts events into a subscription.
struct Feed {
    kinds: EventKinds,
    only: Option<Box<str>>,
    sender: broadcast::Sender<Stamped>,
}

impl Observer for Feed {
    fn on_event(&self, event: &Event) {
        if self.only.as_ref().is_some_and(|only| !is_of(&event.name, only)) {
            return;
        }
        // Without a reader it goes nowhere, and that is no fault.
        let _ = self.sender.send(Stamped {
            at: time_of_day(),
            event: event.clone(),
        });
    }

    fn kinds(&self) -> EventKinds {
        self.kinds
    }
}

/// Whether it is the name of that stack or policy, or of one within it.
fn is_of(name: &str, only: &str) -> bool {
    name.strip_prefix(only)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
}

/// How whoever feeds a subscription is called without keeping it.
pub(crate) type WeakObserver = Weak<dyn Observer>;
