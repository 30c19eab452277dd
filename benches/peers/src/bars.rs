//! The bars that the crate is held to, each with what this run measured.

use crate::report::Line;

/// The lines of all groups.
struct Measured<'a>(&'a [Line]);

/// One bar: what is compared, what it must be, and what it is.
struct Bar {
    what: &'static str,
    demand: &'static str,
    measured: f64,
    limit: f64,
    /// Whether more is better.
    at_least: bool,
}

impl Measured<'_> {
    fn line(&self, name: &str) -> Option<&Line> {
        self.0.iter().find(|line| line.name == name)
    }

    /// Nanoseconds over the bare service.
    fn over(&self, name: &str) -> f64 {
        self.line(name)
            .and_then(|line| line.over_bare)
            .unwrap_or(f64::NAN)
    }

    /// How many times as much as the peer, over the bare service.
    fn ratio(&self, ours: &str, theirs: &str) -> f64 {
        self.over(ours) / self.over(theirs)
    }

    fn mcalls(&self, name: &str) -> f64 {
        self.line(name).and_then(Line::mcalls).unwrap_or(f64::NAN)
    }

    /// How many times as many calls per second as the peer.
    fn faster(&self, ours: &str, theirs: &str) -> f64 {
        self.mcalls(ours) / self.mcalls(theirs)
    }

    fn allocs(&self, name: &str) -> f64 {
        self.line(name).and_then(|line| line.allocs).unwrap_or(f64::NAN)
    }

    fn bytes(&self, name: &str) -> f64 {
        self.line(name).and_then(|line| line.bytes).unwrap_or(f64::NAN)
    }

    /// How far apart the fastest and the slowest of these are, as a share of the fastest.
    fn range(&self, names: impl Iterator<Item = String>) -> f64 {
        let (least, most) = names
            .map(|name| self.over(&name))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), over| {
                (least.min(over), most.max(over))
            });
        most / least - 1.0
    }
}

fn at_most(what: &'static str, demand: &'static str, measured: f64, limit: f64) -> Bar {
    Bar {
        what,
        demand,
        measured,
        limit,
        at_least: false,
    }
}

fn at_least(what: &'static str, demand: &'static str, measured: f64, limit: f64) -> Bar {
    Bar {
        what,
        demand,
        measured,
        limit,
        at_least: true,
    }
}

fn alone(run: &Measured<'_>) -> Vec<Bar> {
    let count = "buttress/breaker-count";
    let window = (2..=7).map(|power| format!("buttress/breaker-time-{}", 10_u64.pow(power)));
    vec![
        at_most(
            "breaker, count window",
            "<= recloser",
            run.ratio(count, "recloser/breaker-count"),
            1.0,
        ),
        at_most(
            "breaker, count window",
            "<= 1/25 of tower-resilience",
            run.ratio(count, "tower-resilience/breaker-count"),
            1.0 / 25.0,
        ),
        at_most(
            "breaker, count window",
            "<= 1/12 of seatbelt",
            run.ratio(count, "seatbelt/breaker-time"),
            1.0 / 12.0,
        ),
        at_most("breaker, count window", "no allocation", run.allocs(count), 0.0),
        at_most(
            "breaker, count window, 1 % failing",
            "<= 1.5 x recloser, the same failing",
            run.ratio("buttress/breaker-count-failing", "recloser/breaker-count-failing"),
            1.5,
        ),
        at_most(
            "breaker, slow calls on",
            "<= 1/3 of seatbelt",
            run.ratio("buttress/breaker-slow", "seatbelt/breaker-time"),
            1.0 / 3.0,
        ),
        at_most(
            "breaker, time window",
            "<= 1/3 of seatbelt",
            run.ratio("buttress/breaker-time", "seatbelt/breaker-time"),
            1.0 / 3.0,
        ),
        at_most(
            "breaker, time window, 10^2..10^7 calls",
            "within 10 %",
            run.range(window),
            0.1,
        ),
        at_most(
            "timeout, ready",
            "<= 1/8 of tower's",
            run.ratio("buttress/timeout", "tower/timeout"),
            1.0 / 8.0,
        ),
        at_most(
            "timeout, pending once",
            "<= 1.3 x tower's",
            run.ratio("buttress/timeout-pending", "tower/timeout-pending"),
            1.3,
        ),
        at_most(
            "bulkhead",
            "<= 0.85 x tower's limit",
            run.ratio("buttress/bulkhead", "tower/concurrency-limit"),
            0.85,
        ),
        at_most(
            "retry with budget",
            "<= 1/4 of tower's with budget",
            run.ratio("buttress/retry", "tower/retry-budget"),
            0.25,
        ),
        at_most(
            "rejection by an open breaker",
            "<= 1/2 of seatbelt",
            run.ratio("buttress/reject-open", "seatbelt/reject-open"),
            0.5,
        ),
        at_most(
            "rejection by an open breaker, boxed error",
            "<= 1/2 of seatbelt",
            run.ratio("buttress/reject-open-boxed", "seatbelt/reject-open-boxed"),
            0.5,
        ),
    ]
}

fn stacked(run: &Measured<'_>) -> Vec<Bar> {
    let (nested, listed, three) = (
        "buttress/stack-static",
        "buttress/stack-runtime",
        "tower/stack-of-three",
    );
    let pending = "tower/stack-of-three-pending";
    vec![
        at_most(
            "static stack of four",
            "<= 0.5 x tower's three",
            run.ratio(nested, three),
            0.5,
        ),
        at_most(
            "static stack of four",
            "<= 1/15 of tower-resilience's",
            run.ratio(nested, "tower-resilience/stack-of-four"),
            1.0 / 15.0,
        ),
        at_most("static stack of four", "no allocation", run.allocs(nested), 0.0),
        at_most(
            "run-time stack of four",
            "<= 1.1 x static",
            run.ratio(listed, nested),
            1.1,
        ),
        at_most("run-time stack of four", "no allocation", run.allocs(listed), 0.0),
        at_most(
            "static stack, pending once",
            "<= 1.25 x tower's three",
            run.ratio("buttress/stack-static-pending", pending),
            1.25,
        ),
        at_most(
            "run-time stack, pending once",
            "<= 1.25 x tower's three",
            run.ratio("buttress/stack-runtime-pending", pending),
            1.25,
        ),
    ]
}

fn shared(run: &Measured<'_>) -> Vec<Bar> {
    let three = "tower/stack-of-three@2";
    vec![
        at_least(
            "2 tasks on one breaker",
            ">= 2.7 x tower's limit",
            run.faster("buttress/breaker-count@2", "tower/concurrency-limit@2"),
            2.7,
        ),
        at_least(
            "2 tasks on one time window",
            ">= 1.5 x 1 task",
            run.faster("buttress/breaker-time@2", "buttress/breaker-time@1"),
            1.5,
        ),
        at_least(
            "2 tasks on one static stack",
            ">= 2.5 x tower's three",
            run.faster("buttress/stack-static@2", three),
            2.5,
        ),
        at_least(
            "2 tasks on one run-time stack",
            ">= 2.5 x tower's three",
            run.faster("buttress/stack-runtime@2", three),
            2.5,
        ),
        at_least(
            "2 tasks, static stack, 1 % failing",
            ">= 1.2 x tower's healthy three",
            run.faster("buttress/stack-static-failing@2", three),
            1.2,
        ),
        at_least(
            "2 tasks, run-time stack, 1 % failing",
            ">= 1.2 x tower's healthy three",
            run.faster("buttress/stack-runtime-failing@2", three),
            1.2,
        ),
    ]
}

fn sized(run: &Measured<'_>) -> Vec<Bar> {
    let keyed = "buttress/keyed-breaker-1000000";
    let over_inner = |name: &str| run.bytes(name) - run.bytes("bare-future-100000");
    vec![
        at_most(
            "keyed breakers, 10^6",
            "<= 512 bytes each",
            run.bytes(keyed),
            512.0,
        ),
        at_most("keyed breakers, 10^6", "lookup <= 100 ns", run.over(keyed), 100.0),
        at_most(
            "future of the run-time stack",
            "<= 256 bytes over the inner one",
            over_inner("buttress/future-runtime-100000"),
            256.0,
        ),
        at_most(
            "future of the static stack",
            "<= 320 bytes over the inner one",
            over_inner("buttress/future-static-100000"),
            320.0,
        ),
    ]
}

/// Prints each bar. A bar whose rows were not measured fails.
pub(crate) fn print(lines: &[Line]) {
    let run = Measured(lines);
    println!("\n{:<42} {:<38} {:>9} {:>9}", "what", "bar", "measured", "limit");
    for bar in [alone(&run), stacked(&run), shared(&run), sized(&run)]
        .into_iter()
        .flatten()
    {
        let passes = if bar.at_least {
            bar.measured >= bar.limit
        } else {
            bar.measured <= bar.limit
        };
        println!(
            "{:<42} {:<38} {:>9.3} {:>9.3}  {}",
            bar.what,
            bar.demand,
            bar.measured,
            bar.limit,
            if passes { "PASS" } else { "FAIL" }
        );
    }
}
