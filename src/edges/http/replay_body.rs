//! A request's body that can be sent again without having been collected first.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::http::{HeaderMap, Request, request::Parts};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::facts::Resend;
use crate::{
    drivers::replay::Replay,
    vocabulary::{
        settings::ConfigError,
        sync::{Mutex, lock},
    },
};

/// How many bytes of a body are kept by default.
const DEFAULT_BOUND: usize = 64 * 1024;

/// Frames below this size are copied together when they are kept: neither a frame of one byte nor the large buffer
/// that it may be a slice of should cost more than what it counts for.
const SMALL: usize = 1024;

/// How a retry sends HTTP requests again: it keeps what the first attempt streams, up to a bound.
///
/// The first attempt is not held up: its body streams as it comes, and what was sent is kept. Another attempt sends
/// what was kept and goes on with the rest. A body that grows over the bound is not kept any longer, and once some of
/// it was consumed then the request is not sent again: the caller gets the result of the one attempt. It is never an
/// error to be large. A body of which nothing was consumed (the connection was never made) can be sent again
/// whatever its size, and so can an empty one.
///
/// Give it to [`Stack::prepare`](crate::Stack::prepare) or [`RetryLayer::prepare`](crate::RetryLayer::prepare). The
/// service below is sent `Request<ReplayBody<B>>`; where it wants a type of its own, see
/// [`wrapped`](ReplayBodies::wrapped).
#[derive(Clone, Copy, Debug)]
pub struct ReplayBodies<W = AsItIs> {
    bound: usize,
    wrap: W,
}

/// The service is sent the [`ReplayBody`] itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsItIs;

/// A closure makes the body that the service is sent.
#[derive(Clone, Copy)]
pub struct WrapBy<F>(F);

/// What makes the body that a service is sent.
pub trait WrapBody<B>: Send + Sync + 'static {
    /// The body that the service is sent.
    type Sent;

    /// Makes it.
    fn wrap(&self, body: ReplayBody<B>) -> Self::Sent;
}

impl<B> WrapBody<B> for AsItIs {
    type Sent = ReplayBody<B>;

    fn wrap(&self, body: ReplayBody<B>) -> ReplayBody<B> {
        body
    }
}

impl<B, C, F> WrapBody<B> for WrapBy<F>
where
    F: Fn(ReplayBody<B>) -> C + Send + Sync + 'static,
{
    type Sent = C;

    fn wrap(&self, body: ReplayBody<B>) -> C {
        (self.0)(body)
    }
}

impl<F> fmt::Debug for WrapBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrapBy(..)")
    }
}

impl ReplayBodies {
    /// Keeps up to 64 KiB of each body.
    pub const fn new() -> Self {
        Self {
            bound: DEFAULT_BOUND,
            wrap: AsItIs,
        }
    }

    /// Keeps up to `bound` bytes of each body, from 1.
    ///
    /// # Errors
    ///
    /// A bound of zero; the field is `replay_bound`.
    pub fn up_to(bound: usize) -> Result<Self, ConfigError> {
        if bound == 0 {
            let accepted = "accepted: from 1 byte; to send each request once, leave the hook out (`once`)";
            return Err(ConfigError::new("replay_bound", bound, accepted));
        }
        Ok(Self { bound, wrap: AsItIs })
    }
}

impl<W> ReplayBodies<W> {
    /// Sends the service what `wrap` makes of each body: `Fn(ReplayBody<B>) -> Body`.
    ///
    /// A tonic channel, for one, takes `tonic::body::Body`: `ReplayBodies::new().wrapped(tonic::body::Body::new)`.
    pub fn wrapped<B, C, F>(self, wrap: F) -> ReplayBodies<WrapBy<F>>
    where
        F: Fn(ReplayBody<B>) -> C,
    {
        ReplayBodies {
            bound: self.bound,
            wrap: WrapBy(wrap),
        }
    }

    /// How many bytes it keeps of each body.
    pub const fn bound(&self) -> usize {
        self.bound
    }
}

impl Default for ReplayBodies {
    fn default() -> Self {
        Self::new()
    }
}

/// What is kept of a request.
#[derive(Debug)]
pub struct KeptRequest<B> {
    /// `None` where the caller wants it to be sent once.
    parts: Option<Parts>,
    body: KeptBody<B>,
}

impl<B, W> Replay<Request<B>> for ReplayBodies<W>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
    W: WrapBody<B>,
{
    type Sent = Request<W::Sent>;
    type Kept = KeptRequest<B>;

    fn first(&self, request: Request<B>) -> (Self::Sent, KeptRequest<B>) {
        let (parts, body) = request.into_parts();
        let once = parts.extensions.get() == Some(&Resend::Never);
        let kept = (!once).then(|| parts.clone());
        let (body, kept_body) = ReplayBody::new(body, if once { 0 } else { self.bound });
        let kept = KeptRequest {
            parts: kept,
            body: kept_body,
        };
        (Request::from_parts(parts, self.wrap.wrap(body)), kept)
    }

    fn can_repeat(&self, kept: &KeptRequest<B>) -> bool {
        kept.parts.is_some() && kept.body.can_repeat()
    }

    fn again(&self, kept: &mut KeptRequest<B>) -> Option<Self::Sent> {
        let parts = kept.parts.clone()?;
        let body = kept.body.again()?;
        Some(Request::from_parts(parts, self.wrap.wrap(body)))
    }
}

/// A body that is kept while it is sent, so that it can be sent again. Made by [`ReplayBody::new`].
///
/// The bytes are those of the inner body, and so are its trailers. Its frames are too where it is sent for the first
/// time; another attempt may get some that are joined.
///
/// # Cancel safety
///
/// Dropping it loses nothing: what was read is kept, and the rest is still there for another attempt.
pub struct ReplayBody<B> {
    /// `None`: it is empty.
    shared: Option<Arc<Mutex<Shared<B>>>>,
    /// Which attempt this is.
    turn: u32,
    /// The kept chunk that comes next.
    next: usize,
    gave_trailers: bool,
}

/// What another attempt's [`ReplayBody`] is made from.
pub struct KeptBody<B> {
    shared: Option<Arc<Mutex<Shared<B>>>>,
}

struct Shared<B> {
    body: Pin<Box<B>>,
    /// What was read so far, all of it while `keeps`.
    chunks: Vec<Bytes>,
    length: usize,
    bound: usize,
    keeps: bool,
    trailers: Option<HeaderMap>,
    progress: Progress,
    /// The attempt that may read.
    turn: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Untouched,
    Reading,
    Ended,
    Failed,
}

impl<B: Body> Shared<B> {
    fn can_repeat(&self) -> bool {
        match self.progress {
            Progress::Untouched => true,
            Progress::Reading | Progress::Ended => self.keeps,
            Progress::Failed => false,
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if !self.keeps {
            return;
        }
        self.length = self.length.saturating_add(data.len());
        if self.length > self.bound {
            self.keeps = false;
            self.chunks = Vec::new();
            return;
        }
        if data.len() >= SMALL {
            self.chunks.push(data.clone());
            return;
        }
        let small = self.chunks.pop_if(|last| last.len() < SMALL);
        let chunk = match small.map(Bytes::try_into_mut) {
            Some(Ok(mut joined)) => {
                joined.extend_from_slice(data);
                joined.freeze()
            }
            Some(Err(shared)) => {
                self.chunks.push(shared);
                Bytes::copy_from_slice(data)
            }
            None => Bytes::copy_from_slice(data),
        };
        self.chunks.push(chunk);
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // What panics is not to be read again.
        let before = std::mem::replace(&mut self.progress, Progress::Failed);
        let polled = self.body.as_mut().poll_frame(cx);
        self.progress = match &polled {
            Poll::Pending => before,
            Poll::Ready(Some(Ok(_))) => Progress::Reading,
            Poll::Ready(Some(Err(_))) => Progress::Failed,
            Poll::Ready(None) => Progress::Ended,
        };
        let polled = ready!(polled);
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref()
                    && self.keeps
                {
                    self.trailers = Some(trailers.clone());
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }
}

impl<B> ReplayBody<B> {
    /// Prepares `body` for being sent, and for being sent again while no more than `bound` bytes of it were read.
    pub fn new(body: B, bound: usize) -> (Self, KeptBody<B>)
    where
        B: Body,
    {
        let shared = (!body.is_end_stream()).then(|| {
            // What says beforehand that it is too large is not kept in vain.
            let keeps = usize::try_from(body.size_hint().lower()).is_ok_and(|least| least <= bound);
            Arc::new(Mutex::new(Shared {
                body: Box::pin(body),
                chunks: Vec::new(),
                length: 0,
                bound,
                keeps,
                trailers: None,
                progress: Progress::Untouched,
                turn: 0,
            }))
        });
        let kept = KeptBody {
            shared: shared.clone(),
        };
        (Self::of(shared, 0), kept)
    }

    const fn of(shared: Option<Arc<Mutex<Shared<B>>>>, turn: u32) -> Self {
        Self {
            shared,
            turn,
            next: 0,
            gave_trailers: false,
        }
    }
}

impl<B: Body> KeptBody<B> {
    /// Whether all that was read of the body is kept, so that it can be sent again.
    pub fn can_repeat(&self) -> bool {
        self.shared
            .as_ref()
            .is_none_or(|shared| lock(shared).can_repeat())
    }

    /// The body for another attempt, from its beginning. What an earlier attempt still has of it ends in an error.
    pub fn again(&mut self) -> Option<ReplayBody<B>> {
        let Some(shared) = &self.shared else {
            return Some(ReplayBody::of(None, 0));
        };
        let turn = {
            let mut shared = lock(shared);
            if !shared.can_repeat() {
                return None;
            }
            shared.turn = shared.turn.wrapping_add(1);
            shared.turn
        };
        Some(ReplayBody::of(Some(Arc::clone(shared)), turn))
    }
}

impl<B> Drop for KeptBody<B> {
    /// There will be no other attempt: what is still to come need not be kept.
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            lock(shared).keeps = false;
        }
    }
}

/// Another attempt has taken the body over.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another attempt sends this body now")]
pub struct Superseded;

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(shared) = &this.shared else {
            return Poll::Ready(None);
        };
        let mut shared = lock(shared);
        if shared.turn != this.turn {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(chunk) = shared.chunks.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if !this.gave_trailers
            && let Some(trailers) = shared.trailers.clone()
        {
            this.gave_trailers = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match shared.progress {
            Progress::Ended | Progress::Failed => return Poll::Ready(None),
            Progress::Untouched | Progress::Reading => {}
        }
        let polled = ready!(shared.poll_rest(cx));
        this.next = shared.chunks.len();
        if let Some(Ok(frame)) = &polled
            && frame.is_trailers()
        {
            this.gave_trailers = true;
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        let shared = lock(shared);
        let ended = shared.progress == Progress::Ended || shared.body.is_end_stream();
        shared.turn == self.turn
            && self.next >= shared.chunks.len()
            && (self.gave_trailers || shared.trailers.is_none())
            && ended
    }

    fn size_hint(&self) -> SizeHint {
        let Some(shared) = &self.shared else {
            return SizeHint::with_exact(0);
        };
        let shared = lock(shared);
        let kept: usize = shared.chunks.iter().skip(self.next).map(Bytes::len).sum();
        let kept = kept as u64;
        let rest = match shared.progress {
            Progress::Ended => SizeHint::with_exact(0),
            _ => shared.body.size_hint(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for KeptBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptBody(..)")
    }
}
