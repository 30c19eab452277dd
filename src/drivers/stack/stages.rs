//! A list of policies as one policy: the walker.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use super::{
    stage::{AnyPass, AnyPolicy, Entry, Stage},
    succession::{Succeeds, Succession},
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
        rejected::Rejected,
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
    /// Which stages limit what they guard, as bits counted from the outermost.
    limiting: u32,
    /// Whether another list may take the place of this one.
    reloads: bool,
    succession: Succession<List>,
}

impl Succeeds for List {
    fn succession(&self) -> &Succession<Self> {
        &self.succession
    }
}

/// Stages that a call passes without an allocation.
const INLINE: usize = 6;

/// What a call holds of a stack.
#[derive(Debug)]
pub struct StackPass {
    /// So many stages are entered, counted from the outside.
    depth: u16,
    /// So many were entered when a deadline cut the call off; those beyond `depth` are abandoned once what they guard
    /// is dropped. Zero otherwise.
    cut: u16,
    /// So many were entered when one of them answered in place of the result.
    hidden: u16,
    /// Makes a whole word of these, because padding would be copied byte by byte.
    _whole: u16,
    inline: [AnyPass; INLINE],
    /// Those of a longer stack.
    more: Option<Box<[AnyPass]>>,
}

impl Default for StackPass {
    fn default() -> Self {
        const OUT: AnyPass = AnyPass::Out;
        Self {
            depth: 0,
            cut: 0,
            hidden: 0,
            _whole: 0,
            inline: [OUT; INLINE],
            more: None,
        }
    }
}

impl StackPass {
    #[inline]
    fn at(&mut self, stage: usize) -> &mut AnyPass {
        match self.inline.get_mut(stage) {
            Some(_) => &mut self.inline[stage],
            None => &mut self.more.get_or_insert_default()[stage - INLINE],
        }
    }

    #[inline]
    fn get(&self, stage: usize) -> Option<&AnyPass> {
        match stage.checked_sub(INLINE) {
            None => self.inline.get(stage),
            Some(stage) => self.more.as_ref()?.get(stage),
        }
    }
}

impl StackPass {
    /// A stage did not let the call in.
    #[cold]
    fn stop_entering(&mut self, entered: u16, entry: Entry, refused: Option<Rejected>) -> Step {
        if let (Entry::Refused, Some(rejected)) = (entry, refused) {
            self.depth = entered;
            return Step::Refused(rejected);
        }
        // It is inside as long as it waits; `poll_queue` and `expire` find it there.
        self.depth = entered + 1;
        Step::Queue
    }

    /// The stage `at` asked for something that comes before the stages outside of it are left.
    #[cold]
    fn stop_at(&mut self, at: usize, next: Next) -> Next {
        // Who asked for another attempt stays entered; who answers has left.
        let depth = if next == Next::Again { at + 1 } else { at };
        self.hidden = self.depth;
        self.depth = u16::try_from(depth).unwrap_or(u16::MAX);
        next
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
        let limiting = stages
            .iter()
            .rev()
            .fold(0, |bits, stage| bits << 1 | u32::from(stage.policy.limits()));
        Self(Arc::new(List {
            stages: stages.into(),
            name,
            clock,
            is_plain,
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

    /// Enters the stages from `pass.depth` inward.
    #[inline]
    fn descend(&self, pass: &mut StackPass, ask: &impl Ask) -> Step {
        self.descend_to(self.0.stages.len(), pass, ask)
    }

    #[inline(always)]
    fn descend_to(&self, target: usize, pass: &mut StackPass, ask: &impl Ask) -> Step {
        let from = usize::from(pass.depth);
        let (stages, longer) = self.0.stages[..target].split_at(target.min(INLINE));
        // Counted in a register: each stage would wait for the count of the one before.
        let mut entered = pass.depth;
        for (stage, pass_of) in stages.iter().zip(&mut pass.inline).skip(from) {
            let mut refused = None;
            match stage.policy.enter(pass_of, ask, &mut refused) {
                Entry::Inside => entered += 1,
                entry => return pass.stop_entering(entered, entry, refused),
            }
        }
        pass.depth = entered;
        if longer.is_empty() {
            return Step::Call;
        }
        self.descend_further(target, pass, ask)
    }

    /// Past the stages whose passes stand in the call's own.
    #[cold]
    #[inline(never)]
    fn descend_further(&self, target: usize, pass: &mut StackPass, ask: &impl Ask) -> Step {
        if pass.more.is_none() {
            let more = self.0.stages.len() - INLINE;
            pass.more = Some((0..more).map(|_| AnyPass::Out).collect());
        }
        while let Some(stage) = self.0.stages[..target].get(usize::from(pass.depth)) {
            let mut refused = None;
            match stage
                .policy
                .enter(pass.at(usize::from(pass.depth)), ask, &mut refused)
            {
                Entry::Inside => pass.depth += 1,
                entry => return pass.stop_entering(pass.depth, entry, refused),
            }
        }
        Step::Call
    }

    /// Enters the stages inward from `pass.depth` up to the one that refuses, and refuses there, even where it
    /// would not any more.
    fn refuse_at(&self, by: Refuser, pass: &mut StackPass, ask: &impl Ask) -> Step {
        match self.descend_to(usize::from(by.place), pass, ask) {
            Step::Call => self.0.stages[usize::from(by.place)].policy.refuse(ask),
            step => step,
        }
    }

    /// The first stage from there inward that would refuse.
    fn first_refuser(&self, from: usize, may_wait: bool) -> Option<Refuser> {
        let stages = self.0.stages.iter().enumerate().skip(from);
        let at = stages
            .filter(|(_, stage)| stage.policy.would_refuse(may_wait))
            .map(|(at, _)| at)
            .next()?;
        u8::try_from(at).ok().map(Refuser::at)
    }

    /// Abandons the stages that a deadline cut off.
    #[cold]
    fn abandon_cut(&self, pass: &mut StackPass, why: Abandoned) {
        for at in (usize::from(pass.depth)..usize::from(pass.cut)).rev() {
            self.0.stages[at].policy.abandon(pass.at(at), why);
        }
        pass.cut = 0;
    }

    /// How long the timeouts around the stage `at` leave it.
    #[cold]
    fn time_left(&self, pass: &mut StackPass, at: usize) -> Option<Duration> {
        let outer = self.0.stages.iter().enumerate().take(at);
        outer
            .filter_map(|(at, stage)| match (&stage.policy, pass.at(at)) {
                (AnyPolicy::Timeout(timeout), AnyPass::Timeout(pass)) => timeout.time_left(pass),
                _ => None,
            })
            .min()
    }

    /// Attempts of the outermost retry among these stages.
    fn attempts_of(&self, from: u16, to: u16, pass: &StackPass) -> u32 {
        let passes = pass.inline.iter().chain(pass.more.iter().flatten());
        let stages = self.0.stages.iter().zip(passes).take(usize::from(to));
        let mut attempts = stages
            .skip(usize::from(from))
            .map(|(stage, pass)| stage.policy.attempts(pass));
        attempts.find(|attempts| *attempts > 0).unwrap_or(0)
    }

    fn innermost(&self, pass: &StackPass) -> Option<(usize, &Stage)> {
        let at = usize::from(pass.depth).checked_sub(1)?;
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

    #[inline]
    fn would_refuse(&self, may_wait: bool) -> Option<Refuser> {
        self.first_refuser(0, may_wait)
    }

    fn refuse(&self, by: Refuser, pass: &mut StackPass, ask: &impl Ask) -> Step {
        self.refuse_at(by, pass, ask)
    }

    #[inline]
    fn enter(&self, pass: &mut StackPass, ask: &impl Ask) -> Step {
        self.descend(pass, ask)
    }

    fn poll_queue(&self, pass: &mut StackPass, cx: &mut Context<'_>) -> Poll<()> {
        match self.innermost(pass) {
            Some((at, stage)) => stage.policy.poll_queue(pass.at(at), cx),
            None => Poll::Ready(()),
        }
    }

    fn resume(&self, pass: &mut StackPass, ask: &impl Ask) -> Step {
        let Some((at, stage)) = self.innermost(pass) else {
            return Step::Call;
        };
        match stage.policy.resume(pass.at(at), ask) {
            Step::Call => self.descend(pass, ask),
            step => step,
        }
    }

    fn would_refuse_resumed(&self, pass: &StackPass, may_wait: bool) -> Option<Refuser> {
        self.first_refuser(usize::from(pass.depth), may_wait)
    }

    fn refuse_resumed(&self, by: Refuser, pass: &mut StackPass, ask: &impl Ask) -> Step {
        if let Some((at, stage)) = self.innermost(pass) {
            // The attempt has begun, and is what the refusal ends.
            stage.policy.resume(pass.at(at), ask);
        }
        self.refuse_at(by, pass, ask)
    }

    fn pended(&self, pass: &mut StackPass, now: &mut Now<'_>) -> Option<Timestamp> {
        let entered = self.0.stages.iter().enumerate().take(usize::from(pass.depth));
        entered
            .filter_map(|(at, stage)| stage.policy.pended(pass.at(at), now))
            .min()
    }

    #[inline]
    fn in_force(&self, pass: &StackPass) -> InForce {
        let (mut limits, mut limiting) = (InForce::NONE, self.0.limiting);
        while limiting != 0 {
            let at = limiting.trailing_zeros() as usize;
            limiting &= limiting - 1;
            if let (Some(stage), Some(pass)) = (self.0.stages.get(at), pass.get(at)) {
                limits = limits.and(stage.policy.in_force(pass));
            }
        }
        limits
    }

    /// The innermost first, as nested futures would: what it makes of its deadline may yet meet the outer one.
    fn expire(&self, pass: &mut StackPass, now: Timestamp) -> Expired {
        for at in (0..usize::from(pass.depth)).rev() {
            match self.0.stages[at].policy.expire(pass.at(at), now) {
                Expired::NotYet => {}
                Expired::Resume => return Expired::Resume,
                Expired::Refused(rejected) => {
                    pass.cut = pass.depth;
                    pass.depth = u16::try_from(at).unwrap_or(u16::MAX);
                    return Expired::Refused(rejected);
                }
            }
        }
        Expired::NotYet
    }

    #[inline]
    fn leave(&self, pass: &mut StackPass, outcome: &Outcome<'_>) -> Next {
        if pass.cut > 0 {
            self.abandon_cut(pass, Abandoned::TimedOut);
        }
        let mut holds = false;
        let entered = usize::from(pass.depth);
        let mut at = entered;
        while at > 0 {
            at -= 1;
            let next = match outcome.advice() {
                Advice::RetryAfter(_) => {
                    let left = outcome.time_left().into_iter().chain(self.time_left(pass, at));
                    let timely = outcome.with_time_left(left.min());
                    self.0.stages[at].leave(pass.at(at), &timely)
                }
                Advice::Stop | Advice::Retry => self.0.stages[at].leave(pass.at(at), outcome),
            };
            match next {
                Next::Done => {}
                Next::Hold => holds = true,
                next @ (Next::Again | Next::Answer) => {
                    if holds {
                        // This response goes nowhere, so there is no body to wait for.
                        let now = outcome.with_deferred(false);
                        for inner in (at + 1..entered).rev() {
                            self.0.stages[inner].leave(pass.at(inner), &now);
                        }
                    }
                    return pass.stop_at(at, next);
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

    #[inline]
    fn succeed(&self, pass: &mut StackPass) -> Next {
        let depth = usize::from(pass.depth);
        let (stages, longer) = self.0.stages[..depth].split_at(depth.min(INLINE));
        for at in (INLINE..INLINE + longer.len()).rev() {
            let next = self.0.stages[at].policy.succeed(pass.at(at));
            if next != Next::Done {
                return pass.stop_at(at, next);
            }
        }
        for (at, (stage, inside)) in stages.iter().zip(&mut pass.inline).enumerate().rev() {
            let next = stage.policy.succeed(inside);
            if next != Next::Done {
                return pass.stop_at(at, next);
            }
        }
        Next::Done
    }

    fn abandon(&self, pass: &mut StackPass, why: Abandoned) {
        self.abandon_cut(pass, Abandoned::TimedOut);
        for at in (0..usize::from(pass.depth)).rev() {
            self.0.stages[at].policy.abandon(pass.at(at), why);
        }
        pass.depth = 0;
    }

    fn attempts(&self, pass: &StackPass) -> u32 {
        self.attempts_of(0, pass.depth, pass)
    }

    fn hidden_attempts(&self, pass: &StackPass) -> u32 {
        self.attempts_of(pass.depth, pass.hidden, pass)
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
