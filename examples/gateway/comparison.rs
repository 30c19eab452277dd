//! What is printed at the end: both passes beside each other, and what follows from the numbers.

use std::{
    fmt::{Display, Write as _},
    time::Duration,
};

use crate::{
    guard::Readings,
    pass::Pass,
    report::millis,
    script::Script,
    stats::{self, Outcome, count, percentile, recovery},
};

/// Two passes beside each other.
pub(crate) struct Comparison<'a> {
    pub(crate) without: &'a Pass,
    pub(crate) with: &'a Pass,
    pub(crate) patience: Duration,
    /// The script that the embedded upstream went through, if it was that one.
    pub(crate) script: Option<&'a Script>,
}

/// Something that was measured without and with the stack.
struct Pair<T> {
    without: T,
    with: T,
}

impl<T> Pair<T> {
    fn map<U>(self, f: impl Fn(T) -> U) -> Pair<U> {
        Pair {
            without: f(self.without),
            with: f(self.with),
        }
    }
}

impl<T> Pair<Option<T>> {
    fn zip(self) -> Option<Pair<T>> {
        Some(Pair {
            without: self.without?,
            with: self.with?,
        })
    }
}

impl Comparison<'_> {
    fn both<T>(&self, read: impl Fn(&Pass) -> T) -> Pair<T> {
        Pair {
            without: read(self.without),
            with: read(self.with),
        }
    }

    /// A percentile over the calls that began while the upstream was sick.
    fn sick(&self, percent: usize) -> Option<Pair<Option<Duration>>> {
        let script = self.script?;
        Some(self.both(|pass| {
            percentile(
                pass.calls.iter().filter(|call| script.is_sick(call.began)),
                percent,
            )
        }))
    }

    fn recovery(&self) -> Option<Pair<Option<Duration>>> {
        let script = self.script?;
        Some(self.both(|pass| recovery(&pass.calls, script.recovers())))
    }

    /// The comparison as a table.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.row("calls by the clients", self.both(|pass| pass.calls.len()));
        let patience = format!("error: client hung up, after {} ms", self.patience.as_millis());
        for outcome in Outcome::ALL {
            let what = match outcome {
                Outcome::Answered => "answered",
                Outcome::UpstreamError => "error: the upstream's own 5xx",
                Outcome::CircuitOpen => "error: 503, refused by the circuit breaker",
                Outcome::BulkheadFull => "error: 503, refused by the bulkhead",
                Outcome::TimedOut => "error: 504, cut off by the timeout",
                Outcome::Lost => "error: connection refused or broken",
                Outcome::HungUp => &patience,
            };
            table.row(
                &format!("  {what}"),
                self.both(|pass| count(&pass.calls, outcome)),
            );
        }
        match self.both(|pass| pass.arrived).zip() {
            Some(Pair { without, with }) => {
                table.row(
                    "calls that reached the upstream",
                    Pair {
                        without: without.0,
                        with: with.0,
                    },
                );
                table.row(
                    "  while it was sick",
                    Pair {
                        without: without.1,
                        with: with.1,
                    },
                );
            }
            None => table.row("requests sent to the upstream", self.both(|pass| pass.sent)),
        }
        for (what, read) in [
            ("retries asked for", (|seen| seen.retries) as fn(&Readings) -> u64),
            ("  calls that a retry saved", |seen| seen.saved),
            ("attempts cut off by the timeout", |seen| seen.cut_off),
            ("times that the circuit breaker opened, or stayed open", |seen| {
                seen.openings
            }),
        ] {
            table.row(what, self.both(|pass| read(&pass.readings)));
        }
        table.row(
            "most calls in flight at once",
            self.both(|pass| pass.most_in_flight),
        );
        for percent in [50, 99] {
            let answered = |pass: &Pass| {
                let calls = pass.calls.iter();
                percentile(calls.filter(|call| call.outcome == Outcome::Answered), percent)
            };
            table.row(
                &format!("p{percent} of the calls that were answered, ms"),
                self.both(answered).map(millis),
            );
        }
        let all = self.both(|pass| millis(percentile(&pass.calls, 99)));
        table.row("p99 of all calls, however they ended, ms", all);
        if let Some(times) = self.sick(99) {
            table.row("  begun while the upstream was sick, ms", times.map(millis));
        }
        let longest = self.both(|pass| millis(percentile(&pass.calls, 100)));
        table.row("longest of all calls, ms", longest);
        if let Some(times) = self.recovery() {
            table.row("back to normal after the upstream was, s (*)", times.map(seconds));
            let _ = write!(
                table.0,
                "(*) until the first {} ms in which at least {} % of the calls were answered within {} ms",
                stats::SPAN.as_millis(),
                stats::SHARE,
                stats::PROMPT.as_millis()
            );
        }
        table.0.trim_end().to_owned()
    }

    /// What follows from the numbers: what the stack won, what it did not win, and what it cost.
    pub(crate) fn conclusion(&self) -> String {
        let mut findings = Vec::new();
        if let Some(Pair { without, with }) = self.both(|pass| pass.arrived).zip() {
            let (without, with) = (without.1, with.1);
            findings.push(Finding {
                effect: Effect::of(without.into(), with.into()),
                subject: "the load on the sick upstream",
                numbers: format!("{with} calls reached the sick upstream, instead of {without}"),
            });
        }
        let during = if self.script.is_some() {
            " while the upstream was sick"
        } else {
            ""
        };
        let p99 = self
            .sick(99)
            .unwrap_or_else(|| self.both(|pass| percentile(&pass.calls, 99)));
        if let Some(Pair { without, with }) = p99.zip().map(|pair| pair.map(|time| time.as_millis())) {
            findings.push(Finding {
                effect: Effect::of_times(without, with),
                subject: "the longest waits",
                numbers: format!("p99{during} was {with} ms, instead of {without} ms"),
            });
        }
        if let Some(Pair { without, with }) = self.recovery() {
            // Not seen before the end: later than anything that was.
            let millis = |time: Option<Duration>| time.map_or(u128::MAX / 1000, |time| time.as_millis());
            let tell = |time: Option<Duration>| match time {
                None => "not before the end".to_owned(),
                Some(time) => format!("after {:.1} s", time.as_secs_f64()),
            };
            findings.push(Finding {
                effect: Effect::of_times(millis(without), millis(with)),
                subject: "the recovery",
                numbers: format!(
                    "calls were back to normal {}, instead of {}",
                    tell(with),
                    tell(without)
                ),
            });
        }
        let Pair { without, with } = self.both(|pass| count(&pass.calls, Outcome::Answered));
        // The other way round: of answers more are better.
        let effect = Effect::of(
            u128::try_from(with).unwrap_or(0),
            u128::try_from(without).unwrap_or(0),
        );
        let why = if effect == Effect::Worse {
            " (it refuses what a patient client could wait for)"
        } else {
            ""
        };
        findings.push(Finding {
            effect,
            subject: "the number of answers",
            numbers: format!("{with} calls were answered, instead of {without}{why}"),
        });

        let mut text = "With the stack\n".to_owned();
        for Finding { effect, numbers, .. } in &findings {
            let _ = writeln!(text, "  {:<8} {numbers}", format!("{}:", effect.word()));
        }
        let subjects = |effect| {
            let found = findings.iter().filter(|finding| finding.effect == effect);
            listed(&found.map(|finding| finding.subject).collect::<Vec<_>>())
        };
        let even = format!(
            "made no difference (of more than {} % or {} ms) to",
            Effect::NOISE,
            Effect::NOISE_MS
        );
        let said: Vec<_> = [
            (Effect::Better, "did better on"),
            (Effect::Worse, "did worse on"),
            (Effect::Even, &even),
        ]
        .into_iter()
        .filter_map(|(effect, verb)| Some(format!("{verb} {}", subjects(effect)?)))
        .collect();
        let _ = write!(text, "Conclusion: the stack {}.", said.join(", "));
        text
    }
}

/// Something that follows from the numbers.
struct Finding {
    effect: Effect,
    subject: &'static str,
    numbers: String,
}

/// What the stack did to a number of which less is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Better,
    Even,
    Worse,
}

impl Effect {
    /// A smaller difference, in percent, may be chance.
    const NOISE: u128 = 5;

    /// So may one of so many milliseconds.
    const NOISE_MS: u128 = 20;

    const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Even => "even",
            Self::Worse => "worse",
        }
    }

    /// The effect on a time in milliseconds.
    const fn of_times(without: u128, with: u128) -> Self {
        if without.abs_diff(with) <= Self::NOISE_MS {
            Self::Even
        } else {
            Self::of(without, with)
        }
    }

    const fn of(without: u128, with: u128) -> Self {
        if with * 100 < without * (100 - Self::NOISE) {
            Self::Better
        } else if with * (100 - Self::NOISE) > without * 100 {
            Self::Worse
        } else {
            Self::Even
        }
    }
}

fn listed(parts: &[&str]) -> Option<String> {
    match parts {
        [] => None,
        [only] => Some((*only).to_owned()),
        [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
    }
}

struct Table(String);

impl Table {
    fn new() -> Self {
        let mut table = Self(String::new());
        table.row(
            "",
            Pair {
                without: "without",
                with: "with the stack",
            },
        );
        table.0.push_str(&"-".repeat(80));
        table.0.push('\n');
        table
    }

    fn row<T: Display>(&mut self, what: &str, Pair { without, with }: Pair<T>) {
        // Writing to a `String` does not fail.
        let _ = writeln!(self.0, "{what:<54} {without:>9} {with:>15}");
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
}
