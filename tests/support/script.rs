//! Random scripts of calls, and the world that plays one: settings, calls that begin, end and are dropped at told
//! milliseconds, and commands in between.

#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    collections::BTreeMap,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use buttress::{
    Backoff, Bulkhead, BulkheadConfig, BulkheadSnapshot, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerSnapshot, Clock, Event, Fallback, Jitter, Rejected, Retry, RetryBudgetConfig,
    RetryBudgetSnapshot, RetryConfig, State, StayEnd, Timeout, TimeoutConfig, What,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use tokio::time::{Sleep, sleep};
use tower::{BoxError, Service, util::BoxCloneService};

const MS: Duration = Duration::from_millis(1);

/// Settings of all policies. Twice, because the same kind may stand twice.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    breaker: Breaker,
    outer_breaker: Breaker,
    retry: Retrying,
    outer_retry: Retrying,
    timeout: u32,
    outer_timeout: u32,
    bulkhead: Slots,
    outer_bulkhead: Slots,
}

#[derive(Clone, Debug)]
struct Breaker {
    /// Calls, or buckets of 10 ms.
    window: Result<u32, u32>,
    minimum: u32,
    failure_rate: Option<f64>,
    slow_calls: Option<(u32, f64)>,
    consecutive: Option<u32>,
    open_wait: u32,
    open_factor: f64,
    open_jitter: f64,
    automatic: bool,
    probes: u32,
    max_probe_age: u32,
    max_stay: Option<(u32, bool)>,
    dropped_after: u32,
}

#[derive(Clone, Debug)]
struct Retrying {
    attempts: u32,
    max_elapsed: Option<u32>,
    backoff: Waits,
    jitter: Jitter,
    /// Free retries a second, over 100 ms.
    budget: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Waits {
    Fixed(u32),
    Exponential(u32),
    Decorrelated(u32),
}

#[derive(Clone, Copy, Debug)]
struct Slots {
    limit: u32,
    max_wait: u32,
    max_queue: u32,
}

/// What the service does with an attempt. Milliseconds.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Ok(u32),
    Err(u32),
    Never,
}

#[derive(Clone, Debug)]
struct Call {
    at: u32,
    /// How long it was ready before it was called.
    idle: u32,
    /// When its future is dropped, counted from `at`.
    dropped_after: Option<u32>,
    /// One for each attempt; the last one goes on.
    replies: Vec<Reply>,
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Breaker(State),
    Resize(u32),
    OuterBreaker(State),
    OuterResize(u32),
}

/// All that happens in one run.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    settings: Settings,
    calls: Vec<Call>,
    commands: Vec<(u32, Command)>,
    /// How long the service takes to become ready.
    ready_after: u32,
    /// Whether who was not woken is polled too.
    polls_all: bool,
}

impl Settings {
    fn looks_at_slow_calls(&self) -> bool {
        self.breaker.slow_calls.is_some() || self.outer_breaker.slow_calls.is_some()
    }
}

fn breakers() -> impl Strategy<Value = Breaker> {
    let window = prop_oneof![(1_u32..6).prop_map(Ok), (1_u32..6).prop_map(Err)];
    let trips = (
        option::of(select(vec![0.3, 0.5, 1.0])),
        option::of((1_u32..20, select(vec![0.5, 1.0]))),
        option::of(1_u32..4),
    );
    let open = (
        1_u32..30,
        select(vec![1.0, 2.0]),
        select(vec![0.0, 0.0, 0.5]),
        prop::bool::weighted(0.2),
    );
    let half_open = (
        1_u32..4,
        prop_oneof![1 => 1_u32..30, 2 => Just(1000)],
        option::weighted(0.2, (1_u32..40, any::<bool>())),
    );
    let rest = (1_u32..5, prop_oneof![0_u32..20, Just(10_000)]);
    (window, trips, open, half_open, rest).prop_map(
        |(window, (failure_rate, slow_calls, consecutive), open, half_open, (minimum, dropped_after))| {
            let judges = failure_rate.is_some() || slow_calls.is_some() || consecutive.is_some();
            Breaker {
                window,
                minimum,
                failure_rate: if judges { failure_rate } else { Some(0.5) },
                slow_calls,
                consecutive,
                open_wait: open.0,
                open_factor: open.1,
                open_jitter: open.2,
                automatic: open.3,
                probes: half_open.0,
                max_probe_age: half_open.1,
                max_stay: half_open.2,
                dropped_after,
            }
        },
    )
}

fn retries() -> impl Strategy<Value = Retrying> {
    let waits = prop_oneof![
        (0_u32..10).prop_map(Waits::Fixed),
        (1_u32..6).prop_map(Waits::Exponential),
        (1_u32..6).prop_map(Waits::Decorrelated),
    ];
    (
        1_u32..5,
        option::weighted(0.3, 1_u32..60),
        waits,
        select(vec![Jitter::None, Jitter::Full, Jitter::Equal]),
        option::weighted(0.3, select(vec![10_u32, 20, 50])),
    )
        .prop_map(|(attempts, max_elapsed, backoff, jitter, budget)| Retrying {
            attempts,
            max_elapsed,
            backoff,
            jitter,
            budget,
        })
}

fn slots() -> impl Strategy<Value = Slots> {
    (1_u32..4, prop_oneof![Just(0), 1_u32..30], 0_u32..4).prop_map(|(limit, max_wait, max_queue)| Slots {
        limit,
        max_wait,
        max_queue,
    })
}

fn calls() -> impl Strategy<Value = Call> {
    let reply = prop_oneof![
        2 => Just(Reply::Ok(0)),
        2 => Just(Reply::Err(0)),
        3 => (1_u32..25).prop_map(Reply::Ok),
        3 => (1_u32..25).prop_map(Reply::Err),
        1 => Just(Reply::Never),
    ];
    (
        0_u32..60,
        prop_oneof![4 => Just(0), 1 => 1_u32..10],
        option::weighted(0.25, 0_u32..50),
        vec(reply, 1..4),
    )
        .prop_map(|(at, idle, dropped_after, replies)| Call {
            at,
            idle,
            dropped_after,
            replies,
        })
}

fn commands() -> impl Strategy<Value = Command> {
    let states = vec![
        State::Closed,
        State::Open,
        State::HalfOpen,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
    ];
    prop_oneof![
        select(states.clone()).prop_map(Command::Breaker),
        select(states).prop_map(Command::OuterBreaker),
        (1_u32..4).prop_map(Command::Resize),
        (1_u32..4).prop_map(Command::OuterResize),
    ]
}

/// Scripts over a service that is always ready.
pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    let settings = (
        [breakers().boxed(), breakers().boxed()],
        [retries().boxed(), retries().boxed()],
        [1_u32..40, 1_u32..80],
        [slots().boxed(), slots().boxed()],
    )
        .prop_map(
            |(
                [breaker, outer_breaker],
                [retry, outer_retry],
                [timeout, outer_timeout],
                [bulkhead, outer_bulkhead],
            )| Settings {
                breaker,
                outer_breaker,
                retry,
                outer_retry,
                timeout,
                outer_timeout,
                bulkhead,
                outer_bulkhead,
            },
        );
    let commands = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec((0_u32..100, commands()), 1..4),
    ];
    (settings, vec(calls(), 1..9), commands).prop_map(|(settings, calls, commands)| Script {
        settings,
        calls,
        commands,
        ready_after: 0,
        polls_all: false,
    })
}

/// Scripts over a service that takes a while to become ready.
///
/// Who waits for readiness sees that a breaker opened meanwhile when it is polled, and nobody wakes it for that. So that
/// it does not matter who is woken how often, everybody is polled all the time.
pub(crate) fn late_scripts() -> impl Strategy<Value = Script> {
    (scripts(), 1_u32..15).prop_map(|(script, ready_after)| Script {
        ready_after,
        polls_all: true,
        ..script
    })
}

/// Fresh handles for one run.
pub(crate) struct Policies {
    pub(crate) breaker: CircuitBreaker,
    pub(crate) outer_breaker: CircuitBreaker,
    pub(crate) retry: Retry,
    pub(crate) outer_retry: Retry,
    pub(crate) timeout: Timeout,
    pub(crate) outer_timeout: Timeout,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) outer_bulkhead: Bulkhead,
    pub(crate) fallback: Fallback,
    events: Events,
}

type Events = Arc<Mutex<BTreeMap<String, Vec<What>>>>;

impl Breaker {
    fn build(&self, name: &str, clock: &Clock) -> CircuitBreaker {
        let mut config = CircuitBreakerConfig::new()
            .minimum_calls(self.minimum)
            .open_wait(self.open_wait * MS)
            .open_growth(self.open_factor, 100 * MS)
            .open_jitter(self.open_jitter)
            .automatic_half_open(self.automatic)
            .probes(self.probes)
            .max_probe_age(self.max_probe_age * MS)
            .dropped_after(self.dropped_after * MS)
            .seed(7)
            .clock(clock.clone())
            .no_failure_rate();
        config = match self.window {
            Ok(calls) => config.count_window(calls),
            Err(buckets) => config.time_window_in(buckets * 10 * MS, 10 * MS),
        };
        if let Some(rate) = self.failure_rate {
            config = config.failure_rate(rate);
        }
        if let Some((longer_than, rate)) = self.slow_calls {
            config = config.slow_calls(longer_than * MS, rate);
        }
        if let Some(failures) = self.consecutive {
            config = config.consecutive_failures(failures);
        }
        if let Some((stay, opens)) = self.max_stay {
            let end = if opens { StayEnd::Open } else { StayEnd::Close };
            config = config.max_half_open_stay(stay * MS, end);
        }
        config.build(name).unwrap()
    }
}

impl Retrying {
    fn build(&self, name: &str, clock: &Clock) -> Retry {
        let mut config = RetryConfig::new()
            .max_attempts(self.attempts)
            .jitter(self.jitter)
            .seed(11)
            .backoff(match self.backoff {
                Waits::Fixed(wait) => Backoff::fixed(wait * MS),
                Waits::Exponential(initial) => Backoff::exponential(initial * MS, 2.0, 20 * MS),
                Waits::Decorrelated(base) => Backoff::decorrelated(base * MS, 20 * MS),
            });
        if let Some(elapsed) = self.max_elapsed {
            config = config.max_elapsed(elapsed * MS);
        }
        config = match self.budget {
            None => config.no_budget(),
            Some(free) => config.budget(
                RetryBudgetConfig::new()
                    .ratio(0.1)
                    .min_per_second(free)
                    .window(100 * MS),
            ),
        };
        config.clock(clock.clone()).build(name).unwrap()
    }
}

impl Slots {
    fn build(self, name: &str, clock: &Clock) -> Bulkhead {
        BulkheadConfig::new(self.limit)
            .max_wait(self.max_wait * MS)
            .max_queue(self.max_queue)
            .clock(clock.clone())
            .build(name)
            .unwrap()
    }
}

impl Policies {
    fn new(settings: &Settings, clock: &Clock) -> Self {
        let timeout = |limit: u32, name| {
            let config = TimeoutConfig::new(limit * MS).clock(clock.clone());
            config.build(name).unwrap()
        };
        let events = Events::default();
        let watch = {
            let events = Arc::clone(&events);
            Arc::new(move |event: &Event| {
                let what = match event.what.clone() {
                    // How many attempts led to it is noted later; see what a fallback at once answers.
                    What::Answered {
                        hidden,
                        rejected: Some(rejected),
                    } => {
                        let (policy, reason) = (rejected.policy().to_owned(), *rejected.reason());
                        let rejected = Rejected::new(policy, reason).with_retry_after(rejected.retry_after());
                        What::Answered {
                            hidden,
                            rejected: Some(rejected),
                        }
                    }
                    what => what,
                };
                let name = event.name.to_string();
                events.lock().unwrap().entry(name).or_default().push(what);
            })
        };
        let policies = Self {
            breaker: settings.breaker.build("breaker", clock),
            outer_breaker: settings.outer_breaker.build("outer breaker", clock),
            retry: settings.retry.build("retry", clock),
            outer_retry: settings.outer_retry.build("outer retry", clock),
            timeout: timeout(settings.timeout, "timeout"),
            outer_timeout: timeout(settings.outer_timeout, "outer timeout"),
            bulkhead: settings.bulkhead.build("bulkhead", clock),
            outer_bulkhead: settings.outer_bulkhead.build("outer bulkhead", clock),
            fallback: Fallback::new("fallback"),
            events,
        };
        policies.breaker.observe(watch.clone());
        policies.outer_breaker.observe(watch.clone());
        policies.retry.observe(watch.clone());
        policies.outer_retry.observe(watch.clone());
        policies.timeout.observe(watch.clone());
        policies.outer_timeout.observe(watch.clone());
        policies.bulkhead.observe(watch.clone());
        policies.outer_bulkhead.observe(watch.clone());
        policies.fallback.observe(watch);
        policies
    }

    fn command(&self, command: Command) {
        match command {
            Command::Breaker(state) => self.breaker.transition_to(state),
            Command::OuterBreaker(state) => self.outer_breaker.transition_to(state),
            Command::Resize(limit) => self.bulkhead.resize(limit).unwrap(),
            Command::OuterResize(limit) => self.outer_bulkhead.resize(limit).unwrap(),
        }
    }
}

/// The service below: it does what the script says about the call whose number is the request.
pub(crate) struct Scripted {
    script: Arc<Script>,
    attempts: Arc<Mutex<Attempts>>,
    /// When it becomes ready.
    waiting: Option<Pin<Box<Sleep>>>,
    ready: bool,
}

#[derive(Debug, Default)]
struct Attempts {
    now: u32,
    /// Of each call: when the attempt began, and when it was over.
    made: BTreeMap<u32, Vec<(u32, Option<u32>)>>,
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        Self {
            script: Arc::clone(&self.script),
            attempts: Arc::clone(&self.attempts),
            waiting: None,
            ready: false,
        }
    }
}

struct UnderWay {
    attempts: Arc<Mutex<Attempts>>,
    call: u32,
    attempt: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut attempts = self.attempts.lock().unwrap();
        let now = attempts.now;
        attempts.made.get_mut(&self.call).unwrap()[self.attempt].1 = Some(now);
    }
}

impl Service<u32> for Scripted {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let late = self.script.ready_after;
        if late > 0 {
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(late * MS)));
            ready!(waiting.as_mut().poll(cx));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: u32) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been polled ready"
        );
        self.waiting = None;
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            let now = attempts.now;
            let made = attempts.made.entry(call).or_default();
            made.push((now, None));
            made.len() - 1
        };
        let replies = &self.script.calls[call as usize].replies;
        let reply = replies[attempt.min(replies.len() - 1)];
        let under_way = UnderWay {
            attempts: Arc::clone(&self.attempts),
            call,
            attempt,
        };
        Box::pin(async move {
            let _under_way = under_way;
            let (delay, result) = match reply {
                Reply::Ok(delay) => (delay, Ok(call)),
                Reply::Err(delay) => (delay, Err(format!("call {call} broke").into())),
                Reply::Never => pending().await,
            };
            if delay > 0 {
                sleep(delay * MS).await;
            }
            result
        })
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Answered(u32),
    Rejected(Rejected),
    Broke(String),
    Dropped,
}

/// What can be seen of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// Of each call: when it ended, and how.
    pub(crate) ends: Vec<Option<(u32, End)>>,
    /// Of each call, its attempts: when they began, and when they were over.
    pub(crate) attempts: BTreeMap<u32, Vec<(u32, Option<u32>)>>,
    pub(crate) breakers: [CircuitBreakerSnapshot; 2],
    pub(crate) bulkheads: [BulkheadSnapshot; 2],
    pub(crate) budgets: [Option<RetryBudgetSnapshot>; 2],
    /// Of each policy, by name.
    pub(crate) events: BTreeMap<String, Vec<What>>,
}

pub(crate) type Guarded = BoxCloneService<u32, u32, BoxError>;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// A call under way, polled when it was woken and not otherwise.
struct Running {
    future: Pin<Box<dyn Future<Output = Result<u32, BoxError>>>>,
    woken: Arc<Flag>,
    waker: Waker,
}

/// One set of handles, the service that they guard, and the calls to it.
struct World {
    script: Arc<Script>,
    policies: Policies,
    service: Guarded,
    attempts: Arc<Mutex<Attempts>>,
    running: Vec<Option<Running>>,
    ends: Vec<Option<(u32, End)>>,
}

impl World {
    fn new(script: &Arc<Script>, clock: &Clock, guard: fn(&Policies, Scripted) -> Guarded) -> Self {
        let attempts = Arc::default();
        let policies = Policies::new(&script.settings, clock);
        let scripted = Scripted {
            script: Arc::clone(script),
            attempts: Arc::clone(&attempts),
            waiting: None,
            ready: false,
        };
        let service = guard(&policies, scripted);
        Self {
            script: Arc::clone(script),
            policies,
            service,
            attempts,
            running: script.calls.iter().map(|_| None).collect(),
            ends: vec![None; script.calls.len()],
        }
    }

    /// All that happens at this millisecond, in an order that is always the same.
    fn step(&mut self, now: u32) {
        self.attempts.lock().unwrap().now = now;
        let script = Arc::clone(&self.script);
        for (_, command) in script.commands.iter().filter(|(at, _)| *at == now) {
            self.policies.command(*command);
        }
        for (number, call) in script.calls.iter().enumerate() {
            if call.at == now {
                self.running[number] = Some(Running::new(self.service.clone(), number, call.idle));
            }
            if call.dropped_after.is_some_and(|after| call.at + after == now)
                && self.running[number].take().is_some()
            {
                self.ends[number] = Some((now, End::Dropped));
            }
        }
        while self.poll(now) {}
    }

    /// Polls who was woken. False when nobody was.
    fn poll(&mut self, now: u32) -> bool {
        let all = self.script.polls_all;
        let mut polled = false;
        for (running, end) in self.running.iter_mut().zip(&mut self.ends) {
            let Some(call) = running else { continue };
            let woken = call.woken.0.swap(false, SeqCst);
            if !woken && !all {
                continue;
            }
            polled |= woken;
            if let Poll::Ready(result) = call.future.as_mut().poll(&mut Context::from_waker(&call.waker)) {
                *end = Some((now, End::of(result)));
                *running = None;
                polled = true;
            }
        }
        polled
    }

    fn seen(self) -> Seen {
        let policies = &self.policies;
        // Those that never end are dropped here, and are seen as such.
        drop(self.running);
        Seen {
            ends: self.ends,
            attempts: std::mem::take(&mut self.attempts.lock().unwrap().made),
            breakers: [policies.breaker.snapshot(), policies.outer_breaker.snapshot()],
            bulkheads: [policies.bulkhead.snapshot(), policies.outer_bulkhead.snapshot()],
            budgets: [&policies.retry, &policies.outer_retry]
                .map(|retry| retry.budget().map(buttress::RetryBudget::snapshot)),
            events: std::mem::take(&mut policies.events.lock().unwrap()),
        }
    }
}

impl Running {
    fn new(mut service: Guarded, number: usize, idle: u32) -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let future = async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            if idle > 0 {
                sleep(idle * MS).await;
            }
            service.call(u32::try_from(number).unwrap()).await
        };
        Self {
            future: Box::pin(future),
            waker: Arc::clone(&woken).into(),
            woken,
        }
    }
}

impl End {
    fn of(result: Result<u32, BoxError>) -> Self {
        match result {
            Ok(answer) => Self::Answered(answer),
            Err(error) => match error.downcast::<Rejected>() {
                Ok(rejected) => Self::Rejected(*rejected),
                Err(error) => Self::Broke(error.to_string()),
            },
        }
    }
}

/// Longer than anything in a script goes on, unless it goes on for ever.
const HORIZON: u32 = 600;

/// Plays the script to all these guards side by side, on one clock.
pub(crate) fn play<const N: usize>(
    script: Script,
    guards: [fn(&Policies, Scripted) -> Guarded; N],
) -> [Seen; N] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let script = Arc::new(script);
    // Without Tokio's budget, which only a return to the runtime renews.
    runtime.block_on(tokio::task::unconstrained(async {
        // The length of a call that is ready at once is measured by a hardware counter. Where slow calls are looked at,
        // that would be left to chance: there all handles have a clock that moves in step with Tokio's.
        let (manual, hand) = Clock::manual();
        let clock = if script.settings.looks_at_slow_calls() {
            manual
        } else {
            Clock::tokio()
        };
        let mut worlds = guards.map(|guard| World::new(&script, &clock, guard));
        let last = script.calls.iter().map(|call| call.at).max().unwrap_or(0);
        for now in 0..HORIZON {
            for world in &mut worlds {
                world.step(now);
            }
            let over = |world: &World| world.running.iter().all(Option::is_none);
            if now > last.max(100) && worlds.iter().all(over) {
                break;
            }
            hand.advance(MS);
            tokio::time::advance(MS).await;
        }
        worlds.map(World::seen)
    }))
}
