//! A list of policies as one policy: the walker.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use super::{
    pass::{Frame, StackPass},
    stage::{AnyPass, AnyPolicy, Stage},
    succession::{Succeeds, Succession},
    which::Which,
};
use crate::{
    drivers::timer::{NoTimer, OneTimer, Timed},
    policies::{
        in_force::InForce,
        per_key::{KeyTag, PerKey, is_only_handle, keyed_name},
        step::{Ask, Expired, Next, Policy, Refuser, Step},
    },
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        event::{Observer, PolicyKind, What},
        outcome::{Abandoned, Advice, Outcome},
    },
};

/// The policies of a [`Stack`](super::Stack), outermost first.
///
/// It is itself a policy: a call enters the stages from the outside in and leaves them from the inside out, and
/// where a stage asks for another attempt or answer, those outside of it stay entered meanwhile.
#[derive(Clone)]
pub struct Stages(Arc<List>);

struct List {
    stages: Box<[Stage]>,
    name: Arc<str>,
    clock: Clock,
    /// Whether no stage sees outcomes by rules of its own.
    is_plain: bool,
    /// The places of the stages that may refuse a call that comes. Not bits: every call begins with a look at them.
    refusers: Box<[u8]>,
    /// Which count attempts.
    counting: Which,
    /// Which limit what they guard.
    limiting: Which,
    /// Whether another list may take the place of this one.
    reloads: bool,
    succession: Succession<List>,
}

impl Succeeds for List {
    fn succession(&self) -> &Succession<Self> {
        &self.succession
    }
}

impl Stages {
    pub(super) fn new(stages: Vec<Stage>) -> Self {
        let name = stages
            .first()
            .map_or_else(|| Arc::from("empty"), |stage| Arc::clone(stage.policy.name()));
        Self::of(name, stages, false)
    }

    /// A list that others take the place of, and that can take the place of others.
    pub(crate) fn reloadable(name: Arc<str>, stages: Vec<Stage>) -> Self {
        Self::of(name, stages, true)
    }

    fn of(name: Arc<str>, stages: Vec<Stage>, reloads: bool) -> Self {
        // The builder saw to it that the others have the same.
        let clock = stages
            .iter()
            .find(|stage| stage.looks_at_the_time())
            .map_or_else(Clock::tokio, |stage| stage.policy.clock().clone());
        let is_plain = stages.iter().all(|stage| stage.rules.is_none());
        let places = (0..).zip(&stages).filter(|(_, stage)| stage.policy.refuses());
        let refusers = places.map(|(at, _)| at).collect();
        let counting = Which::of(&stages, |stage| stage.policy.kind() == PolicyKind::Retry);
        let limiting = Which::of(&stages, |stage| stage.policy.limits());
        Self(Arc::new(List {
            stages: stages.into(),
            name,
            clock,
            is_plain,
            refusers,
            counting,
            limiting,
            reloads,
            succession: Succession::default(),
        }))
    }

    /// Lets `new` take the place of this list, wherever that is used: calls under way end with this one.
    pub(crate) fn supersede(&self, new: &Self) {
        Succession::supersede(&self.0, &new.0);
    }

    /// The list that has taken the place of this one, or this one.
    #[inline]
    pub(crate) fn newest(&self) -> Self {
        if self.is_superseded() {
            return self.successor().unwrap_or_else(|| self.clone());
        }
        self.clone()
    }

    /// The stages themselves, outermost first.
    pub(crate) fn list(&self) -> &[Stage] {
        &self.0.stages
    }

    /// Whether there is a retry among them, or may be one after a reload.
    pub fn may_retry(&self) -> bool {
        self.0.reloads || self.iter().any(|(kind, _)| kind == PolicyKind::Retry)
    }

    /// Kind and name of each policy, outermost first.
    pub fn iter(&self) -> impl Iterator<Item = (PolicyKind, &str)> {
        self.0
            .stages
            .iter()
            .map(|stage| (stage.policy.kind(), &**stage.policy.name()))
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.0.stages.len()
    }

    /// Whether there are none, so that it guards nothing.
    pub fn is_empty(&self) -> bool {
        self.0.stages.is_empty()
    }

    /// Enters the stages from `frame.depth` inward.
    #[inline(always)]
    fn descend(&self, frame: &mut Frame, ask: &impl Ask) -> Step {
        self.descend_to(self.0.stages.len(), frame, ask)
    }

    #[inline(always)]
    fn descend_to(&self, target: usize, frame: &mut Frame, ask: &impl Ask) -> Step {
        // Counted in a register: each stage would wait for the count of the one before.
        let mut entered = frame.depth;
        let inward = frame.depth..target;
        for (stage, inside) in self.0.stages[inward.clone()]
            .iter()
            .zip(&mut frame.stages[inward])
        {
            match stage.policy.enter(inside, ask) {
                Step::Call => entered += 1,
                step => return frame.stop_entering(entered, step),
            }
        }
        frame.depth = entered;
        Step::Call
    }

    /// Enters the stages inward from `frame.depth` up to the one that refuses, and refuses there, even where it
    /// would not any more.
    fn refuse_at(&self, by: Refuser, frame: &mut Frame, ask: &impl Ask) -> Step {
        match self.descend_to(by.place(), frame, ask) {
            Step::Call => self.0.stages[by.place()].policy.refuse(by, ask),
            step => step,
        }
    }

    /// The first stage from there inward that would refuse.
    #[cold]
    #[inline(never)]
    fn first_refuser(&self, from: usize, may_wait: bool) -> Option<Refuser> {
        let mut refusers = self.0.refusers.iter().filter(|at| usize::from(**at) >= from);
        refusers.find_map(|at| {
            let by = self.0.stages[usize::from(*at)].policy.would_refuse(may_wait)?;
            Some(by.at(*at))
        })
    }

    /// The stages within `depth` leave with a success, from the inside out, up to one that has more to say than that.
    #[inline(always)]
    fn succeed_within(&self, frame: &mut Frame, depth: usize) -> (usize, Next) {
        let entered = self.0.stages[..depth].iter().zip(&mut frame.stages[..depth]);
        for (at, (stage, inside)) in entered.enumerate().rev() {
            let next = stage.policy.succeed(inside);
            if next != Next::Done {
                return (at, next);
            }
        }
        (0, Next::Done)
    }

    /// Goes on after the stage `at` has said what follows.
    #[cold]
    #[inline(never)]
    fn succeed_further(&self, frame: &mut Frame, at: usize, next: Next) -> Next {
        if next != Next::DoneAfterRetries {
            return frame.stop_at(at, next);
        }
        match self.succeed_within(frame, at) {
            (_, Next::Done) => next,
            (at, next) => self.succeed_further(frame, at, next),
        }
    }

    /// Abandons the stages that a deadline cut off.
    #[cold]
    fn abandon_cut(&self, frame: &mut Frame, why: Abandoned) {
        for at in (frame.depth..frame.cut).rev() {
            self.0.stages[at].policy.abandon(&mut frame.stages[at], why);
        }
        frame.cut = 0;
    }

    /// How long the timeouts around the stage `at` leave it.
    #[cold]
    fn time_left(&self, frame: &mut Frame, at: usize) -> Option<Duration> {
        let outer = self.0.stages.iter().enumerate().take(at);
        outer
            .filter_map(|(at, stage)| match (&stage.policy, &mut frame.stages[at]) {
                (AnyPolicy::Timeout(timeout), AnyPass::Timeout(pass)) => timeout.time_left(pass),
                _ => None,
            })
            .min()
    }

    /// Attempts of the outermost retry among these stages.
    #[inline]
    fn attempts_of(&self, from: usize, to: usize, frame: &Frame) -> u32 {
        let counting = self.0.counting.within(from..to);
        let mut attempts = counting.map(|at| self.0.stages[at].policy.attempts(&frame.stages[at]));
        attempts.find(|attempts| *attempts > 0).unwrap_or(0)
    }

    fn innermost(&self, frame: &Frame) -> Option<(usize, &Stage)> {
        let at = frame.depth.checked_sub(1)?;
        Some((at, self.0.stages.get(at)?))
    }
}

/// One timer for whichever deadline is next.
impl Timed for Stages {
    type Calling = OneTimer;
    type Between = NoTimer;
}

impl Policy for Stages {
    type Pass = StackPass;

    const JUDGES: bool = true;

    const LIMITS: bool = true;

    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline(always)]
    fn is_superseded(&self) -> bool {
        self.0.succession.is_superseded()
    }

    fn successor(&self) -> Option<Self> {
        self.0.succession.newest().map(Self)
    }

    #[inline(always)]
    fn would_refuse(&self, may_wait: bool) -> Option<Refuser> {
        if !self.may_refuse() {
            return None;
        }
        self.first_refuser(0, may_wait)
    }

    #[inline]
    fn may_refuse(&self) -> bool {
        let stages = &self.0.stages;
        let mut refusers = self.0.refusers.iter();
        refusers.any(|at| {
            stages
                .get(usize::from(*at))
                .is_some_and(|stage| stage.policy.may_refuse())
        })
    }

    fn refuse(&self, by: Refuser, pass: &mut StackPass, ask: &impl Ask) -> Step {
        self.refuse_at(by, pass.frame_for(self.0.stages.len()), ask)
    }

    #[inline(always)]
    fn enter(&self, pass: &mut StackPass, ask: &impl Ask) -> Step {
        self.descend(pass.begin(self.0.stages.len()), ask)
    }

    fn poll_queue(&self, pass: &mut StackPass, cx: &mut Context<'_>) -> Poll<()> {
        let Some(frame) = pass.frame_mut() else {
            return Poll::Ready(());
        };
        match self.innermost(frame) {
            Some((at, stage)) => stage.policy.poll_queue(&mut frame.stages[at], cx),
            None => Poll::Ready(()),
        }
    }

    fn resume(&self, pass: &mut StackPass, ask: &impl Ask) -> Step {
        let Some(frame) = pass.frame_mut() else {
            return Step::Call;
        };
        let Some((at, stage)) = self.innermost(frame) else {
            return Step::Call;
        };
        match stage.policy.resume(&mut frame.stages[at], ask) {
            Step::Call => self.descend(frame, ask),
            step => step,
        }
    }

    fn would_refuse_resumed(&self, pass: &StackPass, may_wait: bool) -> Option<Refuser> {
        self.first_refuser(pass.frame().map_or(0, |frame| frame.depth), may_wait)
    }

    fn refuse_resumed(&self, by: Refuser, pass: &mut StackPass, ask: &impl Ask) -> Step {
        let frame = pass.frame_for(self.0.stages.len());
        if let Some((at, stage)) = self.innermost(frame) {
            // The attempt has begun, and is what the refusal ends.
            stage.policy.resume(&mut frame.stages[at], ask);
        }
        self.refuse_at(by, frame, ask)
    }

    fn pended(&self, pass: &mut StackPass, now: &mut Now<'_>) -> Option<Timestamp> {
        let frame = pass.frame_mut()?;
        let (stages, insides) = (&self.0.stages[..frame.depth], &mut frame.stages[..frame.depth]);
        let mut earliest = None;
        for (stage, inside) in stages.iter().zip(insides) {
            let deadline = stage.policy.pended(inside, now);
            earliest = earliest.into_iter().chain(deadline).min();
        }
        earliest
    }

    #[inline]
    fn in_force(&self, pass: &StackPass) -> InForce {
        let Some(frame) = pass.frame() else {
            return InForce::NONE;
        };
        let limiting = self.0.limiting.within(0..frame.depth);
        limiting.fold(InForce::NONE, |limits, at| {
            limits.and(self.0.stages[at].policy.in_force(&frame.stages[at]))
        })
    }

    /// The innermost first, as nested futures would: what it makes of its deadline may yet meet the outer one.
    fn expire(&self, pass: &mut StackPass, now: Timestamp) -> Expired {
        let Some(frame) = pass.frame_mut() else {
            return Expired::NotYet;
        };
        for at in (0..frame.depth).rev() {
            match self.0.stages[at].policy.expire(&mut frame.stages[at], now) {
                Expired::NotYet => {}
                Expired::Resume => return Expired::Resume,
                Expired::Refused(rejected) => {
                    frame.cut_at(at);
                    return Expired::Refused(rejected);
                }
            }
        }
        Expired::NotYet
    }

    #[inline]
    fn leave(&self, pass: &mut StackPass, outcome: &Outcome<'_>) -> Next {
        let Some(frame) = pass.frame_mut() else {
            return Next::Done;
        };
        if frame.cut > 0 {
            self.abandon_cut(frame, Abandoned::TimedOut);
        }
        let mut holds = false;
        let entered = frame.depth;
        let mut at = entered;
        while at > 0 {
            at -= 1;
            let next = match outcome.advice() {
                Advice::RetryAfter(_) => {
                    let left = outcome.time_left().into_iter().chain(self.time_left(frame, at));
                    let timely = outcome.with_time_left(left.min());
                    self.0.stages[at].leave(&mut frame.stages[at], &timely)
                }
                Advice::Stop | Advice::Retry => self.0.stages[at].leave(&mut frame.stages[at], outcome),
            };
            match next {
                Next::Done | Next::DoneAfterRetries => {}
                Next::Hold => holds = true,
                next @ (Next::Again | Next::Answer) => {
                    if holds {
                        // This response goes nowhere, so there is no body to wait for.
                        let now = outcome.with_deferred(false);
                        for inner in (at + 1..entered).rev() {
                            self.0.stages[inner].leave(&mut frame.stages[inner], &now);
                        }
                    }
                    return frame.stop_at(at, next);
                }
            }
        }
        if holds {
            return Next::Hold;
        }
        Next::Done
    }

    fn is_plain(&self) -> bool {
        self.0.is_plain
    }

    #[inline(always)]
    fn succeed(&self, pass: &mut StackPass) -> Next {
        let Some(frame) = pass.frame_mut() else {
            return Next::Done;
        };
        let depth = frame.depth;
        match self.succeed_within(frame, depth) {
            (_, Next::Done) => Next::Done,
            (at, next) => self.succeed_further(frame, at, next),
        }
    }

    #[inline]
    fn is_out(&self, pass: &StackPass) -> bool {
        pass.frame()
            .is_none_or(|frame| frame.depth == 0 && frame.cut == 0)
    }

    fn abandon(&self, pass: &mut StackPass, why: Abandoned) {
        let Some(frame) = pass.frame_mut() else {
            return;
        };
        self.abandon_cut(frame, Abandoned::TimedOut);
        for at in (0..frame.depth).rev() {
            self.0.stages[at].policy.abandon(&mut frame.stages[at], why);
        }
        frame.depth = 0;
    }

    fn attempts(&self, pass: &StackPass) -> u32 {
        pass.frame()
            .map_or(0, |frame| self.attempts_of(0, frame.depth, frame))
    }

    fn hidden_attempts(&self, pass: &StackPass) -> u32 {
        pass.frame()
            .map_or(0, |frame| self.attempts_of(frame.depth, frame.hidden, frame))
    }
}

impl PerKey for Stages {
    type Beside = Box<KeyTag>;

    fn for_key(&self, key: &str) -> Self {
        let stages = self.0.stages.iter().map(|stage| Stage {
            policy: stage.policy.for_key(key),
            rules: stage.rules.clone(),
        });
        let stages: Vec<Stage> = stages.collect();
        if self.0.reloads {
            return Self::reloadable(keyed_name(&self.0.name, key), stages);
        }
        Self::new(stages)
    }

    fn is_forgettable(&self, now: Timestamp) -> bool {
        is_only_handle(&self.0) && self.0.stages.iter().all(|stage| stage.policy.is_forgettable(now))
    }

    fn add_observer(&self, observer: Arc<dyn Observer>) {
        for stage in &self.0.stages {
            stage.policy.add_observer(Arc::clone(&observer));
        }
    }

    fn remove_observer(&self, observer: &Weak<dyn Observer>) {
        for stage in &self.0.stages {
            stage.policy.remove_observer(observer);
        }
    }

    /// By its outermost policy.
    fn tell_observers(&self, what: What) {
        if let Some(stage) = self.0.stages.first() {
            stage.policy.tell_observers(what);
        }
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.stages).finish()
    }
}
