//! The driver: one future that walks a call through the steps of its policy.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{
    drivers::{
        attempts::{AskAttempts, Attempts},
        dropping,
        held::Held,
    },
    policies::step::{Expired, Next, Policy, Step},
    vocabulary::{
        error::HoldsRejected,
        outcome::Outcome,
        rejected::{Reason, Rejected},
    },
};

type ResultOf<A> = Result<<A as Attempts>::Response, <A as Attempts>::Error>;

pin_project! {
    /// A guarded call.
    ///
    /// # Panics
    ///
    /// When it is pending and its policy has a deadline, it needs a Tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops what is pending and returns everything that the call holds, at once.
    #[must_use = "futures do nothing unless polled"]
    pub struct Driven<A: Attempts> {
        #[pin]
        stage: Stage<A::Future, A::Answering, A::Next>,
        // Armed when something is pending and the policy has a deadline; one timer for the next of them.
        #[pin]
        timer: Option<Sleep>,
        pass: <A::Policy as Policy>::Pass,
        attempts: A,
        // Whether the policy knows that the present stage is pending.
        pended: bool,
        // Whether code of the service runs. It panicked when it still does while this is dropped:
        // `thread::panicking` would not know, once the panic was caught further out.
        running: bool,
    }

    impl<A: Attempts> PinnedDrop for Driven<A> {
        fn drop(this: Pin<&mut Self>) {
            if !matches!(this.stage, Stage::Over) {
                let this = this.project();
                let why = dropping::cause(*this.running);
                this.attempts.policy().abandon(this.pass, why);
            }
        }
    }
}

pin_project! {
    #[project = StageProjection]
    #[project_replace = StageTaken]
    enum Stage<F, G, N> {
        // The attempt is under way.
        Calling { #[pin] future: F },
        // A fallback makes its answer.
        Answering { #[pin] future: G },
        // The next attempt waits in a queue.
        Queued { next: N },
        // The next attempt waits for its time.
        Waiting { next: N },
        // The service is driven ready for the next attempt.
        Readying { next: N, then: Then },
        // The call was refused before anything of it began.
        Refused { rejected: Option<Rejected> },
        // The caller has the result.
        Over,
    }
}

/// What follows once the service of the next attempt is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The policy is entered: nothing of the call has begun.
    Enter,
    /// What lies below the policy that waited is entered.
    Resume,
    /// The attempt is made: it waited in a queue and is admitted.
    Make,
}

impl<A: Attempts> Driven<A> {
    fn new(
        attempts: A,
        pass: <A::Policy as Policy>::Pass,
        stage: Stage<A::Future, A::Answering, A::Next>,
    ) -> Self {
        Self {
            stage,
            timer: None,
            pass,
            attempts,
            pended: false,
            running: false,
        }
    }

    /// A call whose first attempt was made.
    #[inline]
    pub(crate) fn calling(attempts: A, pass: <A::Policy as Policy>::Pass, future: A::Future) -> Self {
        Self::new(attempts, pass, Stage::Calling { future })
    }

    /// A call that waits in a queue for its first attempt.
    pub(crate) fn queued(attempts: A, pass: <A::Policy as Policy>::Pass, next: A::Next) -> Self {
        Self::new(attempts, pass, Stage::Queued { next })
    }

    /// A call that was refused.
    pub(crate) fn refused(attempts: A, pass: <A::Policy as Policy>::Pass, rejected: Rejected) -> Self {
        Self::new(
            attempts,
            pass,
            Stage::Refused {
                rejected: Some(rejected),
            },
        )
    }

    /// A call of which nothing has begun: its policy is entered at the first poll.
    pub(crate) fn unentered(attempts: A, next: A::Next) -> Self {
        Self::new(
            attempts,
            Default::default(),
            Stage::Readying {
                next,
                then: Then::Enter,
            },
        )
    }
}

impl<A: Attempts> Future for Driven<A> {
    type Output = Result<A::Given, A::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let this = self.as_mut().project();
            let polled = match this.stage.project() {
                StageProjection::Calling { future } => {
                    *this.running = true;
                    let polled = future.poll(cx);
                    *this.running = false;
                    polled.map(Some)
                }
                _ => self.as_mut().poll_between(cx),
            };
            let polled = match polled {
                Poll::Pending => ready!(self.as_mut().poll_deadline(cx)),
                Poll::Ready(polled) => polled,
            };
            if let Some(result) = polled
                && let Some(given) = self.as_mut().finish(result)
            {
                return Poll::Ready(given);
            }
        }
    }
}

impl<A: Attempts> Driven<A> {
    /// Everything that a call does but for the attempt itself. `Ready(None)` asks for another look at the stage.
    fn poll_between(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ResultOf<A>>> {
        let this = self.as_mut().project();
        let attempts = this.attempts;
        let step = match this.stage.project() {
            StageProjection::Answering { future } => {
                *this.running = true;
                let polled = future.poll(cx);
                *this.running = false;
                return polled.map(Some);
            }
            StageProjection::Queued { .. } => {
                ready!(
                    attempts
                        .policy()
                        .poll_queue(this.pass, &AskAttempts(&*attempts), cx)
                )
            }
            StageProjection::Readying {
                then: Then::Resume, ..
            } if attempts.policy().would_refuse_resumed(this.pass) => Step::Refused(
                attempts
                    .policy()
                    .refuse_resumed(this.pass, &AskAttempts(&*attempts)),
            ),
            StageProjection::Readying { next, then } => {
                *this.running = true;
                let polled = attempts.poll_ready(next, cx);
                *this.running = false;
                if let Err(error) = ready!(polled) {
                    return Poll::Ready(Some(Err(error)));
                }
                match then {
                    Then::Enter => attempts.policy().enter(this.pass, &AskAttempts(&*attempts)),
                    Then::Resume => attempts.policy().resume(this.pass, &AskAttempts(&*attempts)),
                    Then::Make => Step::Call,
                }
            }
            StageProjection::Refused { rejected } => {
                Step::Refused(rejected.take().unwrap_or_else(|| not_ready(attempts)))
            }
            // Only time ends it.
            StageProjection::Waiting { .. } => return Poll::Pending,
            StageProjection::Calling { .. } | StageProjection::Over => {
                panic!("a guarded call was polled after it was over")
            }
        };
        let rejected = match step {
            Step::Refused(rejected) => Some(rejected),
            Step::Queue => {
                self.queue();
                None
            }
            Step::Call => self.make(),
        };
        Poll::Ready(rejected.map(|rejected| Err(A::Error::from_rejected(rejected))))
    }

    /// The next attempt is admitted: makes it, or drives its service ready first.
    fn make(self: Pin<&mut Self>) -> Option<Rejected> {
        let mut this = self.project();
        *this.pended = false;
        match this.stage.as_mut().project() {
            // It gave its readiness up when it began to wait.
            StageProjection::Queued { .. } => {
                replace_next(this.stage, |next| Stage::Readying {
                    next,
                    then: Then::Make,
                });
            }
            StageProjection::Readying { next, .. } => {
                *this.running = true;
                let made = this.attempts.make(next);
                *this.running = false;
                match made {
                    Some(future) => this.stage.set(Stage::Calling { future }),
                    None => return Some(not_ready(&*this.attempts)),
                }
            }
            _ => {}
        }
        None
    }

    /// The next attempt is to wait in a queue: gives up the readiness that it may have.
    fn queue(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.pended = false;
        if let StageProjection::Readying { next, .. } = this.stage.as_mut().project() {
            this.attempts.unready(next);
            replace_next(this.stage, |next| Stage::Queued { next });
        }
    }

    /// Something is pending: arms the timer for the policy's next deadline, or acts on it. `Ready(None)` asks
    /// for another look at the stage.
    fn poll_deadline(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ResultOf<A>>> {
        loop {
            let mut this = self.as_mut().project();
            let policy = this.attempts.policy();
            if !*this.pended {
                *this.pended = true;
                match policy.pended(this.pass, policy.clock().now()) {
                    Some(deadline) => {
                        let deadline = policy.clock().timer(deadline);
                        match this.timer.as_mut().as_pin_mut() {
                            Some(timer) => timer.reset(deadline),
                            None => this.timer.set(Some(tokio::time::sleep_until(deadline))),
                        }
                    }
                    None => this.timer.set(None),
                }
            }
            let Some(timer) = this.timer.as_pin_mut() else {
                return Poll::Pending;
            };
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            *this.pended = false;
            match policy.expire(this.pass, policy.clock().now()) {
                Expired::NotYet => {}
                Expired::Resume => {
                    replace_next(this.stage, |next| Stage::Readying {
                        next,
                        then: Then::Resume,
                    });
                    return Poll::Ready(None);
                }
                Expired::Refused(rejected) => {
                    let stage = this.stage;
                    dropping::by_timeout(|| {
                        let mut stage = stage;
                        stage.set(Stage::Refused { rejected: None });
                    });
                    return Poll::Ready(Some(Err(A::Error::from_rejected(rejected))));
                }
            }
        }
    }

    /// A result is there: lets the policy leave, and gives it to the caller unless something else follows.
    #[inline]
    fn finish(self: Pin<&mut Self>, result: ResultOf<A>) -> Option<Result<A::Given, A::Error>> {
        let mut this = self.project();
        let next = {
            let outcome = if A::Policy::JUDGES || A::DEFERS {
                this.attempts.judge(result.as_ref())
            } else {
                Outcome::success()
            };
            let repeatable = outcome.is_repeatable() && this.attempts.can_repeat();
            this.attempts
                .policy()
                .leave(this.pass, &outcome.with_repeatable(repeatable))
        };
        *this.pended = false;
        let held = match next {
            Next::Done => None,
            Next::Hold => Some(Held::new(
                this.attempts.policy().clone(),
                std::mem::take(this.pass),
            )),
            Next::Again => match this.attempts.prepare() {
                Some(next) => {
                    this.stage.set(Stage::Waiting { next });
                    return None;
                }
                // It said that it could, and cannot: the caller gets the result that there is.
                None => None,
            },
            Next::Answer => {
                *this.running = true;
                let future = this.attempts.answer(result);
                *this.running = false;
                this.stage.set(Stage::Answering { future });
                return None;
            }
        };
        // What is left inside, such as a wait that cannot be used, is nobody's any more.
        if next == Next::Again {
            this.attempts.policy().abandon(this.pass, dropping::cause(false));
        }
        let attempts = this.attempts.policy().attempts(this.pass);
        this.stage.set(Stage::Over);
        Some(match result {
            Ok(mut response) => {
                if attempts > 1 {
                    this.attempts.note_attempts(&mut response, attempts);
                }
                Ok(this.attempts.give(response, held))
            }
            Err(mut error) => {
                if attempts > 0 {
                    error.note_attempts(attempts);
                }
                Err(error)
            }
        })
    }
}

/// Takes the next attempt out of a stage that has one and puts it into another.
fn replace_next<F, G, N>(mut stage: Pin<&mut Stage<F, G, N>>, into: impl FnOnce(N) -> Stage<F, G, N>) {
    match stage.as_mut().project_replace(Stage::Over) {
        StageTaken::Queued { next } | StageTaken::Waiting { next } | StageTaken::Readying { next, .. } => {
            stage.set(into(next))
        }
        StageTaken::Calling { .. }
        | StageTaken::Answering { .. }
        | StageTaken::Refused { .. }
        | StageTaken::Over => {}
    }
}

fn not_ready<A: Attempts>(attempts: &A) -> Rejected {
    Rejected::new(
        std::sync::Arc::clone(attempts.policy().name()),
        Reason::NotPolledReady,
    )
}

impl<A> fmt::Debug for Driven<A>
where
    A: Attempts + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven")
            .field("attempts", &self.attempts)
            .field("pass", &self.pass)
            .finish_non_exhaustive()
    }
}
