//! One request on its way through the policies, and how it is sent again.

use ::http::Extensions;
use ::reqwest::{Body, Request};

use super::authority_of;
use crate::{
    composition::keyed::KeyOf,
    drivers::replay::Replay,
    edges::http::{KeptBody, PerAuthority, ReplayBody, Resend},
};

/// A request, what its caller says about it, and how often it was sent before.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) says: Extensions,
    #[cfg(feature = "tracing")]
    pub(super) resend_count: u32,
    /// The caller's own key, for a client whose stack is one for each key.
    pub(super) key: Option<Box<str>>,
}

/// Takes the key that the caller chose, or the authority.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyOfCall;

impl KeyOf<Call> for KeyOfCall {
    fn with_key<T>(&self, call: &Call, take: impl FnOnce(&str) -> T) -> T {
        match &call.key {
            Some(key) => take(key),
            None => PerAuthority.with_key(&call.request, take),
        }
    }
}

impl KeyOf<Request> for PerAuthority {
    fn with_key<T>(&self, request: &Request, take: impl FnOnce(&str) -> T) -> T {
        take(&authority_of(request.url()))
    }
}

/// Sends requests again: bodies that are in memory as they are, others as far as they are kept while they stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayCalls {
    pub(super) bound: usize,
}

/// What is kept of a call for another attempt.
pub(super) struct KeptCall {
    /// `None` where it is sent once.
    request: Option<Request>,
    stream: Option<KeptBody<Body>>,
    #[cfg(feature = "tracing")]
    resend_count: u32,
}

impl Replay<Call> for ReplayCalls {
    type Sent = Call;
    type Kept = KeptCall;

    fn first(&self, mut call: Call) -> (Call, KeptCall) {
        let mut kept = KeptCall {
            request: None,
            stream: None,
            #[cfg(feature = "tracing")]
            resend_count: 0,
        };
        if call.says.get() == Some(&Resend::Never) {
            return (call, kept);
        }
        kept.request = call.request.try_clone();
        if kept.request.is_none()
            && let Some(body) = call.request.body_mut().take()
        {
            // What is left of the request is in memory.
            kept.request = call.request.try_clone();
            let (body, kept_body) = ReplayBody::new(body, self.bound);
            *call.request.body_mut() = Some(Body::wrap(body));
            kept.stream = Some(kept_body);
        }
        (call, kept)
    }

    fn can_repeat(&self, kept: &KeptCall) -> bool {
        kept.request.is_some() && kept.stream.as_ref().is_none_or(KeptBody::can_repeat)
    }

    fn again(&self, kept: &mut KeptCall) -> Option<Call> {
        let mut request = kept.request.as_ref()?.try_clone()?;
        if let Some(stream) = &mut kept.stream {
            *request.body_mut() = Some(Body::wrap(stream.again()?));
        }
        #[cfg(feature = "tracing")]
        {
            kept.resend_count = kept.resend_count.saturating_add(1);
        }
        Some(Call {
            request,
            says: Extensions::new(),
            #[cfg(feature = "tracing")]
            resend_count: kept.resend_count,
            key: None,
        })
    }
}
