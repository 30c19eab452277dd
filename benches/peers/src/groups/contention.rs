//! Group 5: tasks on two workers share one instance.

use std::{
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use allocation_counter::{measure as count, opt_out};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::{
    runtime::{Handle, Runtime},
    task::{JoinHandle, yield_now},
};

use crate::{
    effort::Effort,
    guards::{WINDOW, buttress, failsafe, recloser, seatbelt, tower, tower_resilience},
    meter,
    report::{Line, Spread},
    services::{Echo, Flaky, Guarded, poll_ready},
};

pub(crate) const NAME: &str = "contention";

const WORKERS: usize = 2;
const TASKS: [usize; 4] = [1, 2, 4, 8];

/// Calls between two looks at the executor.
const CALLS_PER_TURN: u64 = 256;

type Spawn = Box<dyn Fn(usize, u64) -> Vec<JoinHandle<Span>>>;

/// When a task began and ended.
struct Span {
    began: Moment,
    ended: Moment,
}

/// A time of day, and how much processor time this process had taken by then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at: Instant,
    taken: Duration,
}

impl Moment {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            taken: meter::processor_time_of_all(),
        }
    }
}

/// One instance that tasks share.
struct Shared {
    name: &'static str,
    base: &'static str,
    spawn: Spawn,
    /// Allocations and bytes of one call.
    heap: (f64, f64),
}

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .on_thread_start(onto_a_processor)
        .enable_all()
        .build()
        .unwrap();
    let all = {
        let _entered = runtime.enter();
        instances(&runtime)
    };
    let took = Duration::from_micros(if effort.quick { 500 } else { 1_000 });
    let mut rows: Vec<_> = all
        .iter()
        .flat_map(|shared| TASKS.map(|tasks| (shared, tasks)))
        .map(|(shared, tasks)| {
            (
                shared,
                tasks,
                calibrate(&runtime, shared, tasks, took),
                Rounds::default(),
            )
        })
        .collect();
    let wanted = effort.rounds(101);
    let until = Instant::now() + Duration::from_secs(if effort.quick { 15 } else { 150 });
    loop {
        let mut missing = rows
            .iter_mut()
            .filter(|row| row.3.undisturbed.len() < wanted)
            .peekable();
        if missing.peek().is_none() || Instant::now() > until {
            break;
        }
        for (shared, tasks, calls, rounds) in missing {
            rounds.add(&round(&runtime, shared, *tasks, *calls));
        }
    }
    rows.into_iter()
        .map(|(shared, tasks, _, rounds)| {
            let line = Line::new(
                NAME,
                format!("{}@{tasks}", shared.name),
                format!("{}@{tasks}", shared.base),
            );
            rounds.into_line(line).heap(shared.heap.0, shared.heap.1)
        })
        .collect()
}

fn instances(runtime: &Runtime) -> Vec<Shared> {
    let flaky = Flaky::default;
    let count = || buttress::count_config();
    let time = || buttress::time_config();
    vec![
        shared(runtime, "bare", Echo),
        shared(
            runtime,
            "buttress/breaker-count",
            buttress::breaker(count(), Echo),
        ),
        shared(
            runtime,
            "buttress/breaker-slow",
            buttress::breaker(buttress::slow_config(), Echo),
        ),
        shared(runtime, "buttress/breaker-time", buttress::breaker(time(), Echo)),
        shared(runtime, "buttress/bulkhead", buttress::bulkhead(Echo)),
        // Its budget is what is shared.
        shared(runtime, "buttress/retry", buttress::retry(Echo)),
        shared(runtime, "buttress/stack-static", buttress::stack_static(Echo)),
        shared(runtime, "buttress/stack-runtime", buttress::stack_runtime(Echo)),
        shared(runtime, "bare-failing", flaky()),
        shared(
            runtime,
            "buttress/breaker-count-failing",
            buttress::breaker(count(), flaky()),
        )
        .failing(),
        shared(
            runtime,
            "buttress/breaker-time-failing",
            buttress::breaker(time(), flaky()),
        )
        .failing(),
        shared(
            runtime,
            "buttress/stack-static-failing",
            buttress::stack_static_giving_up(flaky()),
        )
        .failing(),
        shared(
            runtime,
            "buttress/stack-runtime-failing",
            buttress::stack_runtime_giving_up(flaky()),
        )
        .failing(),
        shared(runtime, "tower/concurrency-limit", tower::concurrency_limit(Echo)),
        shared(runtime, "tower/retry-budget", tower::retry_budget(Echo)),
        shared(runtime, "tower/stack-of-three", tower::stack_of_three(Echo)),
        shared(
            runtime,
            "tower-resilience/breaker-count",
            tower_resilience::breaker_count(Echo),
        ),
        shared(
            runtime,
            "tower-resilience/stack-of-four",
            tower_resilience::stack_of_four(Echo),
        ),
        shared(runtime, "seatbelt/breaker-time", seatbelt::breaker(WINDOW, Echo)),
        shared(runtime, "seatbelt/stack-of-three", seatbelt::stack_of_three(Echo)),
        shared(runtime, "recloser/breaker-count", recloser::breaker(Echo)),
        shared(runtime, "failsafe/breaker-time", failsafe::breaker(Echo)),
    ]
}

fn shared<S: Guarded>(runtime: &Runtime, name: &'static str, service: S) -> Shared {
    const SAMPLE: u64 = 1_000;
    let sample = |service: S| runtime.block_on(calls(service, SAMPLE, Arc::new(Gate::of(1))));
    sample(service.clone());
    let heap = count(|| {
        sample(service.clone());
    });
    let handle = runtime.handle().clone();
    Shared {
        name,
        base: "bare",
        spawn: Box::new(move |tasks, calls| spawn(&handle, &service, tasks, calls)),
        heap: (
            heap.count_total as f64 / SAMPLE as f64,
            heap.bytes_total as f64 / SAMPLE as f64,
        ),
    }
}

impl Shared {
    fn failing(mut self) -> Self {
        self.base = "bare-failing";
        self
    }
}

fn spawn<S: Guarded>(handle: &Handle, service: &S, tasks: usize, each: u64) -> Vec<JoinHandle<Span>> {
    let gate = Arc::new(Gate::of(tasks));
    (0..tasks)
        .map(|_| {
            let work = Uncounted(Box::pin(calls(service.clone(), each, Arc::clone(&gate))));
            handle.spawn(work)
        })
        .collect()
}

async fn calls<S: Guarded>(mut service: S, calls: u64, gate: Arc<Gate>) -> Span {
    gate.pass().await;
    let began = Moment::now();
    for request in 0..calls {
        black_box(match poll_ready(&mut service).await {
            Ok(()) => service.call(request).await.is_ok(),
            Err(_) => false,
        });
        if request % CALLS_PER_TURN == CALLS_PER_TURN - 1 {
            yield_now().await;
        }
    }
    Span {
        began,
        ended: Moment::now(),
    }
}

/// Opens when all are there.
struct Gate {
    missing: AtomicUsize,
}

impl Gate {
    const fn of(tasks: usize) -> Self {
        Self {
            missing: AtomicUsize::new(tasks),
        }
    }

    async fn pass(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
        while self.missing.load(Ordering::Acquire) > 0 {
            yield_now().await;
        }
    }
}

/// Runs where the counting allocator looks away.
struct Uncounted<F>(Pin<Box<F>>);

impl<F: Future> Future for Uncounted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut polled = Poll::Pending;
        opt_out(|| polled = self.0.as_mut().poll(cx));
        polled
    }
}

// --- rounds -----------------------------------------------------------------------------------------------------

/// One round: what it took per call, and whether the machine let it be.
struct Round {
    ns: f64,
    took: Duration,
    is_undisturbed: bool,
}

fn round(runtime: &Runtime, shared: &Shared, tasks: usize, calls: u64) -> Round {
    let handles = (shared.spawn)(tasks, calls);
    let spans: Vec<Span> = runtime.block_on(async {
        let mut spans = Vec::with_capacity(tasks);
        for handle in handles {
            spans.push(handle.await.unwrap());
        }
        spans
    });
    let began =
        |pick: fn(Moment, Moment) -> Moment| spans.iter().map(|span| span.began).reduce(pick).unwrap();
    let ended =
        |pick: fn(Moment, Moment) -> Moment| spans.iter().map(|span| span.ended).reduce(pick).unwrap();
    let (first, last) = (began(Ord::min), ended(Ord::max));
    let took = last.at - first.at;
    let together = ended(Ord::min).at.saturating_duration_since(began(Ord::max).at);
    // Tasks that do not run at the same time do not contend: as many processors as there are workers or tasks must
    // have been at work all the time.
    let processors = tasks.min(WORKERS) as f64;
    let taken = last.taken.saturating_sub(first.taken);
    Round {
        ns: took.as_nanos() as f64 / (calls * tasks as u64) as f64,
        took,
        is_undisturbed: together >= took.mul_f64(0.8) && taken >= took.mul_f64(0.95 * processors),
    }
}

/// Each worker has a processor of its own: left to the system, both may sit on one for longer than a round.
fn onto_a_processor() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let mine = STARTED.fetch_add(1, Ordering::Relaxed) % allowed.len().max(1);
    let mut only = CpuSet::new();
    allowed.get(mine).iter().for_each(|cpu| only.set(**cpu));
    if let Err(error) = sched_setaffinity(None, &only) {
        eprintln!("peers: a worker stays where it is: {error}");
    }
}

/// How many calls of each task make a round that long.
fn calibrate(runtime: &Runtime, shared: &Shared, tasks: usize, long: Duration) -> u64 {
    let mut calls = CALLS_PER_TURN;
    while round(runtime, shared, tasks, calls).took < long {
        calls *= 2;
    }
    calls
}

#[derive(Default)]
struct Rounds {
    undisturbed: Vec<f64>,
    all: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, round: &Round) {
        self.all.push(round.ns);
        if round.is_undisturbed {
            self.undisturbed.push(round.ns);
        }
    }

    /// Where that was hardly ever so, all rounds count, and the line says it.
    fn into_line(self, line: Line) -> Line {
        if self.undisturbed.len() >= 3 {
            line.times(Spread::of(self.undisturbed))
        } else {
            line.times(Spread::of(self.all))
                .note("the workers were not at work all the time: they waited for a lock, or the machine had other work")
        }
    }
}
