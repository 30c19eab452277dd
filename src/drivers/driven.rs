//! The driver: one future that walks a call through the steps of its policy.

use std::{
    fmt,
    future::Future,
    mem::{self, ManuallyDrop},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    drivers::{
        aside::{Aside, Between, Wait},
        attempts::{Attempts, Guarded, ask},
        dropping,
        held::Held,
        in_force,
        reading::{self, Mark},
        timer::{NoTimer, Timed, Timer},
    },
    policies::step::{Expired, Next, Policy, Step},
    vocabulary::{
        clock::Now,
        outcome::{Abandoned, Advice, Outcome},
        rejected::{Reason, Rejected},
    },
};

type ResultOf<A> = Result<<A as Attempts>::Response, <A as Attempts>::Error>;
type PassOf<A> = <<A as Guarded>::Policy as Policy>::Pass;
type CallingTimer<A> = <<A as Guarded>::Policy as Timed>::Calling;
type AsideOf<A> = Aside<<A as Attempts>::Answering, <A as Attempts>::Next, BetweenTimer<A>>;
type BetweenTimer<A> = <<A as Guarded>::Policy as Timed>::Between;
type ProjectionOf<'a, A> =
    DrivenProjection<'a, A, <A as Attempts>::Future, <A as Attempts>::Answering, <A as Attempts>::Next>;

/// The call that makes these attempts.
pub type DrivenBy<A> = Driven<A, <A as Attempts>::Future, <A as Attempts>::Answering, <A as Attempts>::Next>;

pin_project! {
    /// A guarded call: `A` makes its attempts, each an `F`; `G` is the answer of a fallback, and `N` an attempt that waits.
    ///
    /// These are parameters, and not types that belong to `A`, because a call is held across an `.await`: whether that is
    /// `Send` must be seen without the bound on the service's error, which for a `BoxError` would fail there
    /// (rust-lang/rust#110338).
    ///
    /// # Panics
    ///
    /// When it is pending and its policy has a deadline, it needs a Tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops what is pending and returns everything that the call holds, at once.
    #[project = DrivenProjection]
    #[must_use = "futures do nothing unless polled"]
    pub struct Driven<A: Guarded, F, G, N> {
        // Fields are dropped in this order: what ends with a call to code of others comes last, so that nothing need be
        // remembered beyond that call.
        attempts: A,
        // What the call does where no attempt is under way. It and the timer are ended by `clear_up`, and not by the
        // compiler: most calls have neither when they end, and ask for that in one place.
        aside: ManuallyDrop<Aside<G, N, BetweenTimer<A>>>,
        timer: ManuallyDrop<CallingTimer<A>>,
        pass: PassOf<A>,
        progress: Progress,
        // The attempt that is under way.
        #[pin]
        attempt: Option<F>,
    }

    impl<A: Guarded, F, G, N> PinnedDrop for Driven<A, F, G, N> {
        // What is not asked for here costs each call: the parts are read one by one, since a projection would be built in
        // memory to be handed on.
        fn drop(this: Pin<&mut Self>) {
            let is_over = this.progress == Progress::Over || this.attempts.policy().is_out(&this.pass);
            if !is_over || !matches!(*this.aside, Aside::Nothing) {
                clear_up(this);
            } else if this.timer.is_made() {
                drop(mem::take(&mut **this.project().timer));
            }
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// A whole word: a call is moved before it is first polled, and padding would be copied byte by byte.
#[repr(u64)]
enum Progress {
    /// Its policy does not know that what is under way is pending.
    Fresh,
    /// The policy knows that, and the timer is armed accordingly.
    Pended,
    /// Code of the service has panicked. `thread::panicking` would not know, once that was caught further out.
    Panicked,
    /// The caller has the result. What is left of the attempt goes with the future. A policy that [tells surely that the
    /// call is out](Policy::TELLS_OUT) spares this note.
    Over,
}

impl Progress {
    /// Runs code of the service, and notes when it panics: nothing is written where it does not.
    #[inline(always)]
    fn watch<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let unwinding = Unwinding(self);
        let ran = run();
        mem::forget(unwinding);
        ran
    }
}

struct Unwinding<'a>(&'a mut Progress);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        *self.0 = Progress::Panicked;
    }
}

impl<A: Attempts> DrivenBy<A> {
    /// A call that has entered its policy: its first attempt was made, or `aside` says what it does instead.
    #[inline(always)]
    pub(crate) fn new(attempts: A, pass: PassOf<A>, attempt: Option<A::Future>, aside: AsideOf<A>) -> Self {
        let timer = CallingTimer::<A>::default();
        Self {
            attempt,
            aside: ManuallyDrop::new(aside),
            timer: ManuallyDrop::new(timer),
            pass,
            attempts,
            progress: Progress::Fresh,
        }
    }

    /// A call of which nothing has begun: its policy is entered at the first poll.
    pub(crate) fn unentered(attempts: A, next: A::Next) -> Self {
        let aside = Aside::between(next, Wait::ReadyToEnter);
        Self::new(attempts, PassOf::<A>::default(), None, aside)
    }
}

impl<A: Attempts> Future for DrivenBy<A> {
    type Output = Result<A::Given, A::Error>;

    /// Policies further in need not know the limits of a call that was not pending so far: telling them would cost as
    /// much as a timeout does.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if A::Policy::LIMITS && self.progress == Progress::Pended {
            self.poll_limited(cx)
        } else {
            self.poll_attempt::<false>(cx)
        }
    }
}

impl<A: Attempts> DrivenBy<A> {
    #[inline(never)]
    fn poll_limited(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<A::Given, A::Error>> {
        self.poll_attempt::<true>(cx)
    }

    /// An attempt that succeeds at once is settled right here, and its response goes from the service into the
    /// caller's hands without a stop in memory; everything else goes on in `poll_on`.
    #[inline(always)]
    fn poll_attempt<const LIMITED: bool>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<A::Given, A::Error>> {
        let this = self.as_mut().project();
        let Some(attempt) = this.attempt.as_pin_mut() else {
            if let Some(rejected) = self.as_mut().take_refused() {
                return Poll::Ready(Err(self.attempts.reject(rejected)));
            }
            return self.poll_on(cx, Polled::Aside);
        };
        let began = reading::mark();
        let polled =
            poll_running::<LIMITED, _, _>(this.attempts.policy(), this.pass, this.progress, attempt, cx);
        let judges = A::Policy::JUDGES || A::DEFERS;
        let policy = this.attempts.policy();
        match polled {
            Poll::Ready(Ok(response))
                if !judges || policy.is_plain() && this.attempts.is_plain_success(&response) =>
            {
                let next = policy.succeed(this.pass);
                if next == Next::Done {
                    if !A::Policy::TELLS_OUT {
                        *this.progress = Progress::Over;
                    }
                    return Poll::Ready(Ok(this.attempts.give(response)));
                }
                self.poll_on(cx, Polled::Left(Ok(response), next))
            }
            Poll::Ready(result) => self.poll_on(cx, Polled::Ready(result)),
            Poll::Pending if !CallingTimer::<A>::RUNS && !policy.watches(this.pass) => Poll::Pending,
            Poll::Pending => self.poll_pending(began, cx),
        }
    }

    /// The attempt is pending: so is the call, as long as its deadline has not come.
    #[inline(never)]
    fn poll_pending(
        mut self: Pin<&mut Self>,
        began: Mark,
        cx: &mut Context<'_>,
    ) -> Poll<Result<A::Given, A::Error>> {
        let this = self.as_mut().project();
        let (policy, pass, progress) = (this.attempts.policy(), this.pass, this.progress);
        ready!(if CallingTimer::<A>::RUNS {
            poll_timer(policy, pass, progress, &mut **this.timer, began, cx)
        } else {
            poll_timer(policy, pass, progress, &mut NoTimer, began, cx)
        });
        self.poll_on(cx, Polled::Pending(began))
    }
}

/// What a look at the attempt has found.
enum Polled<R> {
    /// Nothing yet: none is under way.
    Aside,
    /// It is pending. Readings of the clock since then are of this poll.
    Pending(Mark),
    /// A result is there.
    Ready(R),
    /// A result is there, and the policy was left with it.
    Left(R, Next),
}

impl<A: Attempts> DrivenBy<A> {
    /// The end of a call that was refused before anything of it began. The error is made where the caller gets it: one that
    /// comes from here would be copied by loads that wait for its parts.
    #[cold]
    #[inline(never)]
    fn take_refused(self: Pin<&mut Self>) -> Option<Rejected> {
        let this = self.project();
        // Who is not inside need not be told what became of the call.
        if !this.attempts.policy().is_out(this.pass) {
            return None;
        }
        let rejected = this.aside.take_rejected()?;
        *this.progress = Progress::Over;
        Some(rejected)
    }

    #[inline(never)]
    fn poll_on(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut polled: Polled<ResultOf<A>>,
    ) -> Poll<Result<A::Given, A::Error>> {
        loop {
            let given = match polled {
                Polled::Aside => None,
                Polled::Pending(began) => match ready!(self.as_mut().poll_deadline(began, cx)) {
                    Some(result) => leave(self.as_mut().project(), result, true),
                    None => None,
                },
                Polled::Ready(result) => leave(self.as_mut().project(), result, true),
                Polled::Left(result, next) => follow(self.as_mut().project(), result, next),
            };
            if let Some(given) = given {
                return Poll::Ready(given);
            }
            polled = self.as_mut().poll_again(cx);
        }
    }

    fn poll_again(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<ResultOf<A>> {
        let began = reading::mark();
        let this = self.as_mut().project();
        let polled = match this.attempt.as_pin_mut() {
            Some(attempt) => {
                let policy = this.attempts.policy();
                poll_running::<true, _, _>(policy, this.pass, this.progress, attempt, cx).map(Some)
            }
            None => self.poll_aside(cx),
        };
        match polled {
            Poll::Pending => Polled::Pending(began),
            Poll::Ready(None) => Polled::Aside,
            Poll::Ready(Some(result)) => Polled::Ready(result),
        }
    }

    /// Everything that a call does but for the attempt itself. `Ready(None)` asks for another look.
    fn poll_aside(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ResultOf<A>>> {
        let this = self.as_mut().project();
        let attempts = this.attempts;
        let step = match &mut **this.aside {
            Aside::Answering(answer) => {
                let policy = attempts.policy();
                return poll_running::<true, _, _>(policy, this.pass, this.progress, answer.as_mut(), cx)
                    .map(Some);
            }
            Aside::Refused(_) => match this.aside.take_rejected() {
                Some(rejected) => Step::Refused(rejected),
                None => return Poll::Pending,
            },
            Aside::Between(between) => {
                let Between { next, wait, .. } = &mut **between;
                match wait {
                    Wait::Slot => {
                        ready!(attempts.policy().poll_queue(this.pass, cx));
                        // It gave its readiness up when it began to wait.
                        *wait = Wait::ReadyToResume;
                        *this.progress = Progress::Fresh;
                        return Poll::Ready(None);
                    }
                    // `poll_deadline` ends it.
                    Wait::Time => return Poll::Pending,
                    Wait::ReadyToEnter | Wait::ReadyToResume => {
                        let policy = attempts.policy();
                        if *wait == Wait::ReadyToResume
                            && let Some(by) = policy.would_refuse_resumed(this.pass, A::MAY_WAIT)
                        {
                            policy.refuse_resumed(by, this.pass, &ask(&*attempts))
                        } else {
                            let polled = this.progress.watch(|| attempts.poll_ready(next, cx));
                            if let Err(error) = ready!(polled) {
                                return Poll::Ready(Some(Err(error)));
                            }
                            match wait {
                                Wait::ReadyToEnter => attempts.policy().enter(this.pass, &ask(&*attempts)),
                                Wait::ReadyToResume => attempts.policy().resume(this.pass, &ask(&*attempts)),
                                _ => Step::Call,
                            }
                        }
                    }
                }
            }
            Aside::Nothing => return Poll::Pending,
        };
        let rejected = match step {
            Step::Refused(rejected) => Some(rejected),
            Step::Queue => {
                self.as_mut().queue();
                None
            }
            Step::Call => self.as_mut().make(),
        };
        let attempts = self.project().attempts;
        Poll::Ready(rejected.map(|rejected| Err(attempts.reject(rejected))))
    }

    /// The next attempt is admitted: makes it, or drives its service ready first.
    fn make(self: Pin<&mut Self>) -> Option<Rejected> {
        let mut this = self.project();
        *this.progress = Progress::Fresh;
        if let Aside::Between(between) = &mut **this.aside {
            let made = this.progress.watch(|| this.attempts.make(&mut between.next));
            match made {
                Some(attempt) => {
                    **this.aside = Aside::Nothing;
                    this.attempt.set(Some(attempt));
                }
                None => return Some(not_ready(&*this.attempts)),
            }
        }
        None
    }

    /// The next attempt is to wait in a queue: gives up the readiness that it may have.
    fn queue(self: Pin<&mut Self>) {
        let this = self.project();
        *this.progress = Progress::Fresh;
        if let Aside::Between(between) = &mut **this.aside {
            let Between { next, wait, .. } = &mut **between;
            if *wait != Wait::Slot {
                this.attempts.unready(next);
                *wait = Wait::Slot;
            }
        }
    }

    /// Something is pending: waits for the policy's next deadline, and acts on it. `Ready(None)` asks for
    /// another look.
    fn poll_deadline(self: Pin<&mut Self>, began: Mark, cx: &mut Context<'_>) -> Poll<Option<ResultOf<A>>> {
        let mut this = self.project();
        let (policy, pass, progress) = (this.attempts.policy(), this.pass, this.progress);
        let expired = if CallingTimer::<A>::RUNS {
            ready!(poll_expired(policy, pass, progress, &mut **this.timer, began, cx))
        } else if let Aside::Between(between) = &mut **this.aside {
            ready!(poll_expired(
                policy,
                pass,
                progress,
                &mut between.timer,
                began,
                cx
            ))
        } else {
            ready!(poll_expired(policy, pass, progress, &mut NoTimer, began, cx))
        };
        Poll::Ready(match expired {
            Expired::Refused(rejected) => {
                dropping::by_timeout(|| end(this.attempt.as_mut(), this.aside));
                Some(Err(this.attempts.reject(rejected)))
            }
            Expired::Resume | Expired::NotYet => {
                if let Aside::Between(between) = &mut **this.aside {
                    between.wait = Wait::ReadyToResume;
                }
                None
            }
        })
    }
}

/// Polls code of the service, with the limits of the policy in force where `LIMITED`. It watches for a panic by itself: the
/// compiler would keep a closure apart, and with it what nested layers do in one piece.
#[inline(always)]
fn poll_running<const LIMITED: bool, P: Policy, F: Future>(
    policy: &P,
    pass: &P::Pass,
    progress: &mut Progress,
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let unwinding = Unwinding(progress);
    let limited = LIMITED.then(|| in_force::under(policy, pass));
    let polled = future.poll(cx);
    drop(limited);
    mem::forget(unwinding);
    polled
}

/// Drops what is pending.
fn end<F, G, N, T>(mut attempt: Pin<&mut Option<F>>, aside: &mut Aside<G, N, T>) {
    attempt.set(None);
    *aside = Aside::Nothing;
}

/// Ends what a call still does when it is dropped, and the call itself where its caller has no result.
#[cold]
#[inline(never)]
fn clear_up<A: Guarded, F, G, N>(this: Pin<&mut Driven<A, F, G, N>>) {
    let mut this = this.project();
    let _timer = mem::take(&mut **this.timer);
    let aside = mem::replace(&mut **this.aside, Aside::Nothing);
    if *this.progress != Progress::Over {
        // The attempt goes before its slot does, or for a moment there would be more than the bulkhead admits; and its
        // slot goes even if it panics then.
        let mut last = Abandon {
            policy: this.attempts.policy(),
            pass: this.pass,
            why: Abandoned::Panicked,
        };
        this.attempt.set(None);
        drop(aside);
        last.why = dropping::cause(*this.progress == Progress::Panicked);
    }
}

/// Abandons the call when it goes.
struct Abandon<'a, P: Policy> {
    policy: &'a P,
    pass: &'a mut P::Pass,
    why: Abandoned,
}

impl<P: Policy> Drop for Abandon<'_, P> {
    fn drop(&mut self) {
        self.policy.abandon(self.pass, self.why);
    }
}

/// Ready when the deadline of the policy has come that it told when it first heard of something pending.
#[inline(always)]
fn poll_timer<P: Policy, T: Timer>(
    policy: &P,
    pass: &mut P::Pass,
    progress: &mut Progress,
    timer: &mut T,
    began: Mark,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if *progress != Progress::Pended {
        *progress = Progress::Pended;
        let mut now = reading::now_since(policy.clock(), began);
        let deadline = policy.pended(pass, &mut now);
        reading::leave(&now, policy.clock(), began);
        timer.arm(deadline.map(|deadline| now.timer(deadline)));
    }
    timer.poll(cx)
}

/// Ready when a deadline of the policy has come that means something.
fn poll_expired<P: Policy, T: Timer>(
    policy: &P,
    pass: &mut P::Pass,
    progress: &mut Progress,
    timer: &mut T,
    began: Mark,
    cx: &mut Context<'_>,
) -> Poll<Expired> {
    loop {
        ready!(poll_timer(policy, pass, progress, timer, began, cx));
        *progress = Progress::Fresh;
        match policy.expire(pass, policy.clock().now()) {
            Expired::NotYet => {}
            expired => return Poll::Ready(expired),
        }
    }
}

/// Lets the policy leave with a result, and does what follows. `may_repeat`: whether another attempt is possible.
fn leave<A: Attempts>(
    this: ProjectionOf<'_, A>,
    result: ResultOf<A>,
    may_repeat: bool,
) -> Option<Result<A::Given, A::Error>> {
    let next = {
        // Who does not judge need not pay for it.
        let outcome = if A::Policy::JUDGES || A::DEFERS {
            this.attempts.judge(result.as_ref())
        } else {
            Outcome::success()
        };
        let repeatable = may_repeat && outcome.is_repeatable() && this.attempts.can_repeat();
        let outcome = match outcome.advice() {
            Advice::RetryAfter(_) => {
                let left = outcome.time_left().into_iter().chain(in_force::time_left());
                outcome.with_time_left(left.min())
            }
            Advice::Stop | Advice::Retry => outcome,
        };
        this.attempts
            .policy()
            .leave(this.pass, &outcome.with_repeatable(repeatable))
    };
    follow(this, result, next)
}

/// Does what follows a result: gives it to the caller, or makes another attempt or answer (`None`).
fn follow<A: Attempts>(
    mut this: ProjectionOf<'_, A>,
    mut result: ResultOf<A>,
    next: Next,
) -> Option<Result<A::Given, A::Error>> {
    let policy = this.attempts.policy();
    *this.progress = Progress::Fresh;
    // It is asked before a pass that is held is taken away.
    let attempts = policy.attempts(this.pass);
    let held = match next {
        Next::Done | Next::DoneAfterRetries => None,
        Next::Hold => {
            // The body may take its time, or be dropped late, though the head was there at the first poll: whoever is
            // held begins to measure now. What it answers is asked again when the body is pending.
            policy.pended(this.pass, &mut Now::of(policy.clock()));
            Some(Held::new(policy.clone(), mem::take(this.pass)))
        }
        Next::Again => {
            if let Some(next) = this.attempts.prepare() {
                this.attempt.set(None);
                **this.aside = Aside::between(next, Wait::Time);
                return None;
            }
            // It said that it could make another attempt, and cannot: what lies outside of the retry is left by the
            // result that there is.
            return leave(this, result, false);
        }
        Next::Answer => {
            let hidden = policy.hidden_attempts(this.pass);
            note_attempts(this.attempts, &mut result, hidden);
            let answer = this.progress.watch(|| this.attempts.answer(result));
            this.attempt.set(None);
            **this.aside = Aside::Answering(Box::pin(answer));
            return None;
        }
    };
    *this.progress = Progress::Over;
    note_attempts(this.attempts, &mut result, attempts);
    Some(match (result, held) {
        (Ok(response), None) => Ok(this.attempts.give(response)),
        (Ok(response), Some(held)) => Ok(this.attempts.carry(response, held)),
        (Err(error), _) => Err(error),
    })
}

/// A response says so only when there was more than one.
fn note_attempts<A: Attempts>(made: &A, result: &mut ResultOf<A>, attempts: u32) {
    match result {
        Ok(response) if attempts > 1 => made.note_attempts(Ok(response), attempts),
        Err(error) if attempts > 0 => made.note_attempts(Err(error), attempts),
        _ => {}
    }
}

#[cold]
fn not_ready<A: Attempts>(attempts: &A) -> Rejected {
    Rejected::new(
        std::sync::Arc::clone(attempts.policy().name()),
        Reason::NotPolledReady,
    )
}

impl<A, F, G, N> fmt::Debug for Driven<A, F, G, N>
where
    A: Guarded + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven")
            .field("attempts", &self.attempts)
            .field("pass", &self.pass)
            .finish_non_exhaustive()
    }
}
