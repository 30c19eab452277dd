//! A circuit breaker of resilience4j as one of these.

use std::time::Duration;

use super::{
    chain::Chain,
    classes::Classes,
    keys::Setting,
    report::Report,
    sections::{Entry, Section},
    values::{WindowType, times},
};
use crate::{
    policies::circuit_breaker::{CircuitBreakerConfig, SlowCallConfig, StayEnd, WindowConfig},
    vocabulary::rate::Rate,
};

/// How far an exponential wait in the open state grows that nobody limits.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

const DEFAULT_MULTIPLIER: f64 = 1.5;
const DEFAULT_RANDOMIZED: f64 = 0.5;

pub(super) fn circuit_breaker(
    chain: &Chain<'_>,
    classes: &mut Classes<'_>,
    report: &mut Report,
) -> CircuitBreakerConfig {
    let percent = |key, default| Rate::percent(chain.number(key).unwrap_or(default));
    let mut config = CircuitBreakerConfig::new()
        .failure_rate(percent("failureRateThreshold", 50.0))
        .probes(chain.count("permittedNumberOfCallsInHalfOpenState").unwrap_or(10))
        .automatic_half_open(chain.is_true("automaticTransitionFromOpenToHalfOpenEnabled"));
    config.slow_call = Some(SlowCallConfig {
        longer_than: chain
            .time("slowCallDurationThreshold")
            .unwrap_or(Duration::from_secs(60)),
        rate: percent("slowCallRateThreshold", 100.0),
    });
    window(chain, &mut config, report);
    open(chain, &mut config, report);
    half_open(chain, &mut config, report);
    if let Some(Setting::State(state)) = chain.entry("initialState").map(|entry| &entry.setting) {
        config.initial_state = *state;
    }
    let (record, ignore) = (
        listed(
            chain,
            "recordExceptions",
            "recordFailurePredicate",
            classes,
            report,
        ),
        listed(
            chain,
            "ignoreExceptions",
            "ignoreExceptionPredicate",
            classes,
            report,
        ),
    );
    config.record = classes.with_results(record, chain.entry("recordResultPredicate"), report);
    config.ignore = ignore;
    config
}

fn window(chain: &Chain<'_>, config: &mut CircuitBreakerConfig, report: &mut Report) {
    let size = chain.entry("slidingWindowSize");
    let length = size.and_then(Entry::count).unwrap_or(100);
    let minimum = chain.entry("minimumNumberOfCalls");
    let least = minimum.and_then(Entry::count).unwrap_or(100);
    let is_time = chain
        .entry("slidingWindowType")
        .is_some_and(|entry| entry.setting == Setting::Window(WindowType::Time));
    if is_time {
        if let Some(size) = size.filter(|_| length > 10_000) {
            report.say(size.error("accepted for TIME_BASED: from 1 to 10000, in seconds"));
            return;
        }
        config.window = WindowConfig::Time {
            duration: Duration::from_secs(u64::from(length)),
            bucket: Duration::from_secs(1),
        };
        config.minimum_calls = least;
        return;
    }
    config.window = WindowConfig::Calls(length);
    config.minimum_calls = least.min(length);
    if let Some(minimum) = minimum.filter(|_| least > length) {
        report.say(minimum.warning(format!(
            "resilience4j takes {length} without a word, the size of the window; so does this"
        )));
    }
}

fn half_open(chain: &Chain<'_>, config: &mut CircuitBreakerConfig, report: &mut Report) {
    let end = chain.entry("transitionToStateAfterWaitDuration");
    match chain.time("maxWaitDurationInHalfOpenState") {
        Some(stay) if stay >= Duration::from_millis(1) => {
            config.half_open.max_stay = Some(stay);
            config.half_open.stay_end = match end.map(|entry| &entry.setting) {
                Some(Setting::StayEnd(end)) => *end,
                _ => StayEnd::Open,
            };
        }
        _ => {
            if let Some(end) = end {
                report.say(end.warning(
                    "it has no effect, as in resilience4j, without a `maxWaitDurationInHalfOpenState` above 0",
                ));
            }
        }
    }
}

/// How long it stays open. resilience4j looks for what a wait grows by only beside the wait, in the same section.
fn open(chain: &Chain<'_>, config: &mut CircuitBreakerConfig, report: &mut Report) {
    let fixed = |config: &mut CircuitBreakerConfig, wait| {
        config.open.wait = wait;
        config.open.factor = 1.0;
        config.open.max = wait;
        config.open.jitter = 0.0;
    };
    fixed(config, Duration::from_secs(60));
    for section in chain.sections() {
        let exponential = section.entry("enableExponentialBackoff");
        let randomized = section.entry("enableRandomizedWait");
        let grows = exponential.is_some_and(Entry::is_true);
        let spreads = randomized.is_some_and(Entry::is_true);
        if let (Some(randomized), true, true) = (randomized, grows, spreads) {
            report.say(randomized.error(
                "resilience4j does not start with this and `enableExponentialBackoff: true` in one section; accepted: one of \
                 the two",
            ));
            continue;
        }
        say_what_is_off(section, grows, spreads, report);
        let Some(wait) = section.entry("waitDurationInOpenState") else {
            for entry in [exponential, randomized]
                .into_iter()
                .flatten()
                .filter(|entry| entry.is_true())
            {
                report.say(entry.warning(
                    "it has no effect, as in resilience4j, without `waitDurationInOpenState` in the same section",
                ));
            }
            continue;
        };
        let Some(time) = wait.time() else {
            continue;
        };
        if (config.open.factor > 1.0 || config.open.jitter > 0.0) && !grows && !spreads {
            report.say(wait.warning(
                "the wait is a fixed one now, as in resilience4j: what a config below it says of backoff or randomness counts \
                 only beside its own wait",
            ));
        }
        fixed(config, time);
        if grows {
            exponential_wait(section, wait, time, config, report);
        } else if spreads {
            let share = section
                .entry("randomizedWaitFactor")
                .and_then(Entry::number)
                .unwrap_or(DEFAULT_RANDOMIZED);
            config.open.jitter = share;
            report.say(wait.note(format!(
                "resilience4j spreads each wait evenly from {:?} to {:?}; here the first one is {time:?}, and the next ones \
                 spread from {:?} to {time:?}",
                times(time, 1.0 - share),
                times(time, 1.0 + share),
                times(time, 1.0 - share),
            )));
        }
    }
}

fn exponential_wait(
    section: &Section,
    wait: &Entry,
    time: Duration,
    config: &mut CircuitBreakerConfig,
    report: &mut Report,
) {
    let multiplier = section
        .entry("exponentialBackoffMultiplier")
        .and_then(Entry::number);
    config.open.factor = multiplier.unwrap_or(DEFAULT_MULTIPLIER);
    let longest = section.entry("exponentialMaxWaitDurationInOpenState");
    if let Some(longest) = longest.filter(|_| multiplier.is_none()) {
        report.say(longest.warning(
            "it has no effect, as in resilience4j, without `exponentialBackoffMultiplier` in the same section",
        ));
    }
    let counting = longest.filter(|_| multiplier.is_some());
    if let Some((entry, max)) = counting.and_then(|entry| Some((entry, entry.time()?))) {
        if max < time {
            report.say(entry.warning(format!(
                "it is shorter than `waitDurationInOpenState`, so that every wait is {max:?}, as in resilience4j"
            )));
        }
        config.open.wait = time.min(max);
        config.open.max = max;
    } else {
        config.open.max = time.max(LONGEST_WAIT);
        report.say(wait.note(format!(
            "resilience4j lets this wait grow without a limit; here it grows up to {:?}",
            config.open.max
        )));
    }
}

/// Says what is written of a growth or a spread that is not switched on.
fn say_what_is_off(section: &Section, grows: bool, spreads: bool, report: &mut Report) {
    for (is_on, switch, keys) in [
        (
            grows,
            "enableExponentialBackoff",
            [
                "exponentialBackoffMultiplier",
                "exponentialMaxWaitDurationInOpenState",
            ]
            .as_slice(),
        ),
        (
            spreads,
            "enableRandomizedWait",
            ["randomizedWaitFactor"].as_slice(),
        ),
    ] {
        for entry in keys
            .iter()
            .filter_map(|key| section.entry(key))
            .filter(|_| !is_on)
        {
            report.say(entry.warning(format!(
                "it has no effect, as in resilience4j, without `{switch}: true` in the same section"
            )));
        }
    }
}

/// The predicates of a list of exceptions and of a predicate's class.
///
/// A list drops the predicate of a config below it: so resilience4j does for circuit breakers.
fn listed(
    chain: &Chain<'_>,
    list: &'static str,
    predicate: &'static str,
    classes: &mut Classes<'_>,
    report: &mut Report,
) -> Vec<String> {
    let mut exceptions = None;
    let mut class = None;
    for section in chain.sections() {
        if let Some(entry) = section.entry(list) {
            if let Some(dropped) = class {
                let dropped: &Entry = dropped;
                report.say(dropped.warning(format!(
                    "resilience4j drops it without a word where `{}` has {list}; so does this",
                    chain.instance()
                )));
            }
            (exceptions, class) = (Some(entry), None);
        }
        class = section.entry(predicate).or(class);
    }
    classes.of(exceptions, class, report)
}
