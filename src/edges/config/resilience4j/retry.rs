//! A retry of resilience4j as one of these.

use std::time::Duration;

use super::{
    chain::Chain,
    classes::Classes,
    report::Report,
    sections::{Entry, Section},
    values::times,
};
use crate::policies::{
    backoff::{Backoff, Jitter, growth},
    retry::RetryConfig,
};

const DEFAULT_WAIT: Duration = Duration::from_millis(500);
const DEFAULT_MULTIPLIER: f64 = 1.5;
const DEFAULT_RANDOMIZED: f64 = 0.5;

pub(super) fn retry(chain: &Chain<'_>, classes: &mut Classes<'_>, report: &mut Report) -> RetryConfig {
    let attempts = chain.count("maxAttempts").unwrap_or(3);
    let (backoff, jitter) = waits(chain, attempts, report);
    let mut config = RetryConfig::new()
        .max_attempts(attempts)
        .backoff(backoff)
        .jitter(jitter)
        .no_budget();
    let on = classes.of(
        chain.entry("retryExceptions"),
        chain.entry("retryExceptionPredicate"),
        report,
    );
    config.on = classes.with_results(on, chain.entry("resultPredicate"), report);
    config.never_on = classes.of(chain.entry("ignoreExceptions"), None, report);
    config
}

/// The waits between attempts.
///
/// A section inherits the switches, the multiplier and the longest wait of the configs below it, but not their factor of
/// randomness; and it says anything of waits at all only where it has a `waitDuration`.
fn waits(chain: &Chain<'_>, attempts: u32, report: &mut Report) -> (Backoff, Jitter) {
    let mut waits = (Backoff::fixed(DEFAULT_WAIT), Jitter::None);
    let mut inherited = Growth::default();
    let last_wait = chain
        .sections()
        .rposition(|section| section.entry("waitDuration").is_some());
    for (at, section) in chain.sections().enumerate() {
        let own = Growth::of(section);
        inherited = own.over(inherited);
        let Some((wait, time)) = section
            .entry("waitDuration")
            .and_then(|entry| Some((entry, entry.time()?)))
        else {
            // What is inherited may count further on.
            let lost = if last_wait.is_some_and(|last| last > at) {
                Growth {
                    factor: own.factor,
                    ..Growth::default()
                }
            } else {
                own
            };
            for entry in lost.all() {
                report.say(entry.warning(format!(
                    "it has no effect{}, as in resilience4j, without `waitDuration` in the same section",
                    chain.for_whom(section)
                )));
            }
            continue;
        };
        let growth = Growth {
            factor: own.factor,
            ..inherited
        };
        growth.say_what_is_off(&chain.for_whom(section), report);
        let (grows, spreads) = (growth.grows(), growth.spreads());
        if (grows || spreads) && time.is_zero() {
            report.say(wait.error("accepted beside exponential backoff or a randomized wait: 1ms or longer"));
            continue;
        }
        waits = match (grows, spreads) {
            (false, false) => (Backoff::fixed(time), Jitter::None),
            (true, false) => (growth.exponential(time, 1.0, attempts, report), Jitter::None),
            (false, true) => {
                let (scale, jitter) = spread(growth.randomized(), wait, report);
                (Backoff::fixed(times(time, scale)), jitter)
            }
            (true, true) => {
                let (scale, jitter) = spread(growth.randomized(), wait, report);
                (growth.exponential(time, scale, attempts, report), jitter)
            }
        };
    }
    waits
}

/// What is written of how waits grow and spread.
#[derive(Clone, Copy, Default)]
struct Growth<'s> {
    exponential: Option<&'s Entry>,
    randomized: Option<&'s Entry>,
    multiplier: Option<&'s Entry>,
    longest: Option<&'s Entry>,
    factor: Option<&'s Entry>,
}

impl<'s> Growth<'s> {
    fn of(section: &'s Section) -> Self {
        Self {
            exponential: section.entry("enableExponentialBackoff"),
            randomized: section.entry("enableRandomizedWait"),
            multiplier: section.entry("exponentialBackoffMultiplier"),
            longest: section.entry("exponentialMaxWaitDuration"),
            factor: section.entry("randomizedWaitFactor"),
        }
    }

    fn over(self, below: Self) -> Self {
        Self {
            exponential: self.exponential.or(below.exponential),
            randomized: self.randomized.or(below.randomized),
            multiplier: self.multiplier.or(below.multiplier),
            longest: self.longest.or(below.longest),
            factor: self.factor.or(below.factor),
        }
    }

    fn all(self) -> impl Iterator<Item = &'s Entry> {
        let all = [
            self.exponential,
            self.randomized,
            self.multiplier,
            self.longest,
            self.factor,
        ];
        all.into_iter().flatten()
    }

    fn grows(self) -> bool {
        self.exponential.is_some_and(Entry::is_true)
    }

    fn spreads(self) -> bool {
        self.randomized.is_some_and(Entry::is_true)
    }

    /// The factor of randomness. Beside exponential backoff it counts only with a multiplier.
    fn randomized(self) -> f64 {
        self.factor
            .filter(|_| !self.grows() || self.multiplier.is_some())
            .and_then(Entry::number)
            .unwrap_or(DEFAULT_RANDOMIZED)
    }

    /// The longest wait. It counts only with a multiplier, and beside a randomized wait only with its factor.
    fn longest(self) -> Option<Duration> {
        self.longest
            .filter(|_| self.multiplier.is_some() && (!self.spreads() || self.factor.is_some()))
            .and_then(Entry::time)
    }

    /// Says which keys have no effect where they stand.
    fn say_what_is_off(self, for_whom: &str, report: &mut Report) {
        let mut say = |entry: Option<&Entry>, missing: &str| {
            if let Some(entry) = entry {
                report.say(entry.warning(format!(
                    "it has no effect{for_whom}, as in resilience4j, without {missing} in the same section"
                )));
            }
        };
        if !self.grows() {
            say(self.multiplier, "`enableExponentialBackoff: true`");
            say(self.longest, "`enableExponentialBackoff: true`");
        } else if self.multiplier.is_none() {
            say(self.longest, "`exponentialBackoffMultiplier`");
        } else if self.spreads() && self.factor.is_none() {
            say(self.longest, "`randomizedWaitFactor`");
        }
        if !self.spreads() {
            say(self.factor, "`enableRandomizedWait: true`");
        } else if self.grows() && self.multiplier.is_none() {
            say(self.factor, "`exponentialBackoffMultiplier`");
        }
    }

    /// A wait that grows, from `scale` times what is written.
    fn exponential(self, initial: Duration, scale: f64, attempts: u32, report: &mut Report) -> Backoff {
        let factor = self
            .multiplier
            .and_then(Entry::number)
            .unwrap_or(DEFAULT_MULTIPLIER);
        let scaled = times(initial, scale);
        let max = match (self.longest(), self.longest) {
            (Some(longest), Some(entry)) => {
                if longest < initial {
                    report.say(entry.warning(format!(
                        "it is shorter than `waitDuration`, so that no wait is longer than {longest:?}, as in resilience4j"
                    )));
                }
                if scale > 1.0 {
                    report.say(entry.note(format!(
                        "resilience4j cuts waits to it after they were spread, so that clients gather at {longest:?}; here \
                         they are cut first and spread then"
                    )));
                }
                longest
            }
            // Where nobody limits it, it is as long as it becomes before the last attempt.
            _ => times(
                growth(scaled, factor, Duration::MAX, attempts.saturating_sub(2)),
                1.0,
            ),
        };
        Backoff::exponential(scaled.min(max), factor, max)
    }
}

/// By what to scale a wait, and the jitter, so that it spreads nearly as a randomized wait of that factor does, with the
/// same mean.
fn spread(factor: f64, wait: &Entry, report: &mut Report) -> (f64, Jitter) {
    // Each has the mean 1: exactly 1, from 2/3 to 4/3, from 0 to 2.
    let (scale, jitter, reach) = if factor < 1.0 / 6.0 {
        (1.0, Jitter::None, 0.0)
    } else if factor < 2.0 / 3.0 {
        (4.0 / 3.0, Jitter::Equal, 1.0 / 3.0)
    } else {
        (2.0, Jitter::Full, 1.0)
    };
    let differs: f64 = factor - reach;
    if differs.abs() > 1e-3 {
        let percent = |share: f64| (share * 1000.0).round() / 10.0;
        report.say(wait.note(format!(
            "resilience4j spreads each wait by {} % up and down; here it is {} %, which is the nearest, with the same mean",
            percent(factor),
            percent(reach)
        )));
    }
    (scale, jitter)
}
