//! A response's body that carries what the call holds to its end.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::BoxError;

#[cfg(feature = "grpc")]
use super::grpc::{self, GrpcCode, GrpcCodes};
use crate::{
    drivers::{dropping, held::Held},
    policies::step::Policy,
    vocabulary::{
        clock::Clock,
        outcome::{Abandoned, Outcome, Verdict},
        rejected::{Reason, Rejected},
    },
};

/// What holds for the body of each response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BodyRules {
    pub(super) idle_limit: Option<Duration>,
    #[cfg(feature = "grpc")]
    pub(super) grpc: Option<GrpcCodes>,
}

pin_project! {
    /// A response's body. It carries the permits of its call and the open verdict to its end, where the exchange says
    /// so, and keeps its limits.
    ///
    /// The call ends, and what it holds returns, as soon as the last frame was given, or an error. An error is a
    /// failure of the call.
    ///
    /// # Panics
    ///
    /// When it is pending and has a limit, it needs a Tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it half-way ends the call at once. While it stood still, and the caller waited for it, that is judged
    /// as any other dropped call; otherwise the verdict is that of the head: a caller that does not care for the rest
    /// says nothing against the service.
    pub struct ResponseBody<P: Policy, B> {
        // `None` once it was cut off.
        #[pin]
        body: Option<B>,
        call: Call<P>,
        rules: BodyRules,
        // Boxed, so that the body can be moved where the inner one can. It is made when it is first needed.
        timer: Option<Pin<Box<Sleep>>>,
        // The point until which the next frame has to come, while it is awaited.
        idle_until: Option<Instant>,
        // The point until which the body has to end, once it was pending.
        deadline: Option<Instant>,
        awaited: bool,
    }

    impl<P: Policy, B> PinnedDrop for ResponseBody<P, B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.call.held.is_some() {
                // What is left of the call goes before its slot does.
                this.body.set(None);
                this.call.dropped(*this.awaited);
            }
        }
    }
}

/// What the call still holds.
struct Call<P: Policy> {
    held: Option<Held<P>>,
    head: Head,
    /// Whether the inner body runs: when this is dropped meanwhile, it panicked.
    running: bool,
    #[cfg(feature = "grpc")]
    code: Option<GrpcCode>,
}

/// What the head of the response said. (An `Outcome` cannot be sent to another thread.)
#[derive(Clone, Copy)]
struct Head {
    verdict: Verdict,
    status: Option<u16>,
}

impl Head {
    fn of(outcome: &Outcome<'_>) -> Self {
        Self {
            verdict: outcome.verdict(),
            status: outcome.status(),
        }
    }

    /// As an outcome with that verdict. It is too late for another attempt.
    fn outcome(self, verdict: Verdict) -> Outcome<'static> {
        let outcome = Outcome::success().with_verdict(verdict);
        match self.status {
            Some(status) => outcome.with_status(status),
            None => outcome,
        }
    }
}

impl<P: Policy> Call<P> {
    /// The body ended as it should.
    fn ended(&mut self, rules: BodyRules) {
        let Some(held) = self.held.take() else { return };
        held.settle(&self.head.outcome(self.verdict(rules)));
    }

    /// The verdict of the head, refined by the trailers.
    #[cfg(feature = "grpc")]
    fn verdict(&self, rules: BodyRules) -> Verdict {
        match rules.grpc {
            Some(codes) if self.head.verdict == Verdict::Success && self.head.status == Some(200) => {
                // A stream that ends without a status is broken off: `UNKNOWN`.
                codes.verdict(self.code.unwrap_or(GrpcCode::Unknown))
            }
            _ => self.head.verdict,
        }
    }

    #[cfg(not(feature = "grpc"))]
    fn verdict(&self, _rules: BodyRules) -> Verdict {
        self.head.verdict
    }

    /// The body ended in an error.
    fn failed(&mut self, error: &BoxError) {
        let Some(held) = self.held.take() else { return };
        let outcome = Outcome::of_error(error);
        held.settle(&match self.head.status {
            Some(status) => outcome.with_status(status),
            None => outcome,
        });
    }

    /// The body was dropped before its end.
    #[cold]
    fn dropped(&mut self, awaited: bool) {
        let Some(held) = self.held.take() else { return };
        let why = dropping::cause(self.running || std::thread::panicking());
        let failed = self.head.verdict == Verdict::Failure;
        if why == Abandoned::Dropped && (failed || !awaited) {
            held.settle(&self.head.outcome(self.head.verdict));
        } else {
            held.abandon(why);
        }
    }
}

impl<P: Policy, B> ResponseBody<P, B> {
    pub(super) fn free(body: B, rules: BodyRules) -> Self {
        Self::new(body, None, Head::of(&Outcome::success()), rules)
    }

    pub(super) fn carrying(body: B, held: Held<P>, judged: &Outcome<'_>, rules: BodyRules) -> Self {
        Self::new(body, Some(held), Head::of(judged), rules)
    }

    fn new(body: B, held: Option<Held<P>>, judged: Head, rules: BodyRules) -> Self {
        Self {
            body: Some(body),
            call: Call {
                held,
                head: judged,
                running: false,
                #[cfg(feature = "grpc")]
                code: None,
            },
            rules,
            timer: None,
            idle_until: None,
            deadline: None,
            awaited: false,
        }
    }

    /// The same, when the head had gRPC's code already.
    #[cfg(feature = "grpc")]
    pub(super) fn with_code(mut self, code: Option<GrpcCode>) -> Self {
        self.call.code = code;
        self
    }

    /// The inner body, when this one carries nothing of the call and has no limit.
    #[cfg(feature = "axum")]
    pub(crate) fn into_free(mut self) -> Result<B, Self> {
        if self.call.held.is_some() || self.rules.idle_limit.is_some() {
            return Err(self);
        }
        self.body.take().ok_or(self)
    }

    /// Whether it still carries something of the call.
    pub const fn holds(&self) -> bool {
        self.call.held.is_some()
    }
}

impl<P, B> ResponseBody<P, B>
where
    P: Policy,
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The body was pending: waits for its limits.
    #[cold]
    fn poll_limits(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Rejected> {
        let mut this = self.project();
        if !*this.awaited {
            *this.awaited = true;
            let clock = Clock::tokio();
            // A policy is told once. Its deadline does not move.
            if this.deadline.is_none() {
                *this.deadline = this.call.held.as_mut().and_then(Held::pended);
            }
            *this.idle_until = this
                .rules
                .idle_limit
                .map(|limit| clock.timer(clock.now().after(limit)));
        }
        loop {
            let Some(until) = this.deadline.iter().chain(this.idle_until.iter()).min() else {
                return Poll::Pending;
            };
            let until = *until;
            let timer = this
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let idle = *this.idle_until == Some(until);
            let rejected = if idle {
                let name = this.call.held.as_ref().map_or_else(
                    || std::sync::Arc::from("body"),
                    |held| std::sync::Arc::clone(held.policy().name()),
                );
                let limit = this.rules.idle_limit.unwrap_or_default();
                Some(Rejected::new(name, Reason::BodyIdle { limit }))
            } else {
                *this.deadline = None;
                this.call.held.as_mut().and_then(Held::expire)
            };
            if let Some(rejected) = rejected {
                dropping::by_timeout(|| this.body.set(None));
                if let Some(held) = this.call.held.take() {
                    if idle {
                        held.abandon(Abandoned::TimedOut);
                    } else {
                        held.settle(&Outcome::of_error(&rejected));
                    }
                }
                return Poll::Ready(rejected);
            }
            *this.deadline = this.call.held.as_mut().and_then(Held::pended);
        }
    }
}

impl<P, B> Body for ResponseBody<P, B>
where
    P: Policy,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.as_mut().project();
        let Some(mut body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        this.call.running = true;
        let polled = body.as_mut().poll_frame(cx);
        this.call.running = false;
        let Poll::Ready(polled) = polled else {
            if this.call.held.is_none() && this.rules.idle_limit.is_none() {
                return Poll::Pending;
            }
            return self
                .poll_limits(cx)
                .map(|rejected| Some(Err(BoxError::from(rejected))));
        };
        *this.awaited = false;
        match polled {
            Some(Ok(frame)) => {
                #[cfg(feature = "grpc")]
                if this.rules.grpc.is_some()
                    && let Some(trailers) = frame.trailers_ref()
                {
                    this.call.code = grpc::code_of(trailers).or(this.call.code);
                }
                // Whoever is told that this was the last frame need not ask for another.
                if this.call.held.is_some() && (frame.is_trailers() || body.is_end_stream()) {
                    this.call.ended(*this.rules);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let error = error.into();
                this.call.failed(&error);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.call.ended(*this.rules);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<P: Policy, B> fmt::Debug for ResponseBody<P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("holds", &self.holds())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
