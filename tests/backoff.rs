//! The waits before retries: bounds, means, and spread, measured from outside by the events that tell them.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    Advice, Backoff, BoxError, Clock, Jitter, Outcome, RejectedKind, RetryConfig, RetryLayer, TimeoutConfig,
    TimeoutLayer, Verdict, What,
};
use lab::{Call, Events, Failed, Lab, Order, ms, paused};
use tower::{Layer, ServiceBuilder, service_fn};

/// So many clients are looked at; each has its own seed.
const CLIENTS: u64 = 2_000;

fn exponential() -> Backoff {
    Backoff::exponential(ms(100), 2.0, ms(5_000))
}

fn config(backoff: Backoff, jitter: Jitter, retries: u32) -> RetryConfig {
    RetryConfig::new()
        .backoff(backoff)
        .jitter(jitter)
        .max_attempts(retries + 1)
        .no_budget()
}

/// The waits of one call that fails each time.
async fn waits(config: RetryConfig) -> Vec<Duration> {
    let events = Events::new();
    let retry = config.build("again").unwrap();
    retry.observe(events.observer());
    let failing = service_fn(|_: u32| ready(Err::<u32, BoxError>(Failed.into())));
    RetryLayer::new(retry)
        .layer(failing)
        .oneshot(1)
        .await
        .unwrap_err();
    told(&events)
}

fn told(events: &Events) -> Vec<Duration> {
    events.pick(|what| match what {
        What::Retrying { after, .. } => Some(*after),
        _ => None,
    })
}

/// The waits of all clients: a list for each, as long as there are retries.
fn clients(backoff: &Backoff, jitter: Jitter, retries: u32) -> Vec<Vec<Duration>> {
    paused(async {
        let mut all = Vec::new();
        for seed in 0..CLIENTS {
            all.push(waits(config(backoff.clone(), jitter, retries).seed(seed)).await);
        }
        all
    })
}

/// Whether numbers between 0 and 1 are evenly spread, as far as so many can show: each tenth holds a tenth of
/// them, give or take five standard deviations.
#[track_caller]
fn evenly_spread(what: &str, shares: &[f64]) {
    let mut tenths = [0_u32; 10];
    for share in shares {
        assert!((0.0..=1.0).contains(share), "{what}: {share}");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
        let tenth = ((share * 10.0) as usize).min(9);
        tenths[tenth] += 1;
    }
    let expected = shares.len() as f64 / 10.0;
    let tolerance = 5.0 * (expected * 0.9).sqrt();
    for tenth in tenths {
        assert!(
            (f64::from(tenth) - expected).abs() < tolerance,
            "{what}: {tenths:?}"
        );
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let tolerance = 5.0 * (1.0 / 12.0 / shares.len() as f64).sqrt();
    assert!((mean - 0.5).abs() < tolerance, "{what}: mean {mean}");
}

/// Where `wait` lies between `from` and `to`.
fn share(wait: Duration, from: Duration, to: Duration) -> f64 {
    assert!(from <= wait && wait <= to, "{wait:?} is not in {from:?}..={to:?}");
    (wait.as_secs_f64() - from.as_secs_f64()) / (to.as_secs_f64() - from.as_secs_f64())
}

/// The waits that the exponential backoff has before any jitter.
const CAPPED: [u64; 8] = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000];

// ---- Distributions.

#[test]
fn without_jitter_waits_grow_by_the_factor_up_to_the_cap() {
    let grown = paused(waits(config(exponential(), Jitter::None, 8)));
    assert_eq!(grown, CAPPED.map(ms));
    let slowly = Backoff::exponential(ms(1_000), 1.5, ms(3_000));
    let grown = paused(waits(config(slowly, Jitter::None, 4)));
    assert_eq!(grown, [1_000, 1_500, 2_250, 3_000].map(ms));
    let level = Backoff::exponential(ms(70), 1.0, ms(3_000));
    assert_eq!(paused(waits(config(level, Jitter::None, 3))), [ms(70); 3]);
}

#[test]
fn full_jitter_is_evenly_spread_from_zero_to_the_capped_wait() {
    let all = clients(&exponential(), Jitter::Full, 8);
    for (retry, capped) in CAPPED.map(ms).into_iter().enumerate() {
        let shares: Vec<_> = all
            .iter()
            .map(|waits| share(waits[retry], Duration::ZERO, capped))
            .collect();
        evenly_spread(&format!("retry {}", retry + 1), &shares);
    }
}

#[test]
fn equal_jitter_is_evenly_spread_over_the_upper_half_of_the_capped_wait() {
    let all = clients(&exponential(), Jitter::Equal, 8);
    for (retry, capped) in CAPPED.map(ms).into_iter().enumerate() {
        let shares: Vec<_> = all
            .iter()
            .map(|waits| share(waits[retry], capped / 2, capped))
            .collect();
        evenly_spread(&format!("retry {}", retry + 1), &shares);
    }
}

#[test]
fn decorrelated_waits_are_evenly_spread_from_the_base_to_thrice_the_wait_before_inside_the_cap() {
    let (base, max) = (ms(100), ms(5_000));
    // No other jitter is added to it.
    for jitter in [Jitter::None, Jitter::Full] {
        let all = clients(&Backoff::decorrelated(base, max), jitter, 8);
        for retry in 0..8 {
            let shares: Vec<_> = all
                .iter()
                .map(|waits| {
                    let previous = if retry == 0 { base } else { waits[retry - 1] };
                    share(waits[retry], base, (previous * 3).min(max))
                })
                .collect();
            evenly_spread(&format!("retry {}", retry + 1), &shares);
        }
    }
}

#[test]
fn decorrelated_waits_grow_until_the_cap_holds_them() {
    let all = clients(&Backoff::decorrelated(ms(100), ms(2_000)), Jitter::None, 40);
    let mean = |retry: usize| {
        let sum: Duration = all.iter().map(|waits| waits[retry]).sum();
        sum.as_secs_f64() / all.len() as f64
    };
    assert!((mean(0) - 0.2).abs() < 0.01, "{}", mean(0));
    assert!(mean(1) > mean(0) && mean(2) > mean(1) && mean(3) > mean(2));
    // Far from the start it stays where it is, about the middle between base and cap.
    let settled = (20..40).map(mean).sum::<f64>() / 20.0;
    assert!((0.7..1.05).contains(&settled), "{settled}");
}

#[test]
fn a_fixed_wait_is_spread_as_any_other() {
    let backoff = Backoff::fixed(ms(300));
    assert_eq!(
        paused(waits(config(backoff.clone(), Jitter::None, 5))),
        [ms(300); 5]
    );
    for (jitter, from) in [(Jitter::Full, 0), (Jitter::Equal, 150)] {
        let all = clients(&backoff, jitter, 1);
        let shares: Vec<_> = all
            .iter()
            .map(|waits| share(waits[0], ms(from), ms(300)))
            .collect();
        evenly_spread(&format!("{jitter:?}"), &shares);
    }
}

#[test]
fn the_defaults_wait_fifty_and_a_hundred_milliseconds_on_average() {
    let mut means = [0.0; 2];
    paused(async {
        for seed in 0..CLIENTS {
            let waits = waits(RetryConfig::new().seed(seed)).await;
            assert_eq!(waits.len(), 2);
            for (mean, wait) in means.iter_mut().zip(waits) {
                *mean += wait.as_secs_f64() / CLIENTS as f64;
            }
        }
    });
    assert!((means[0] - 0.05).abs() < 0.003, "{means:?}");
    assert!((means[1] - 0.1).abs() < 0.006, "{means:?}");
}

// ---- Clients do not march in step.

#[test]
fn at_the_seventh_retry_hardly_two_clients_wait_the_same() {
    for (backoff, jitter) in [
        (exponential(), Jitter::Full),
        (exponential(), Jitter::Equal),
        (Backoff::decorrelated(ms(100), ms(5_000)), Jitter::None),
        (Backoff::fixed(ms(5_000)), Jitter::Full),
    ] {
        let all = clients(&backoff, jitter, 7);
        let seventh = || all.iter().map(|waits| waits[6]);
        let distinct = seventh().collect::<BTreeSet<_>>().len();
        assert!(
            distinct as f64 >= 0.95 * CLIENTS as f64,
            "{backoff:?} {jitter:?}: {distinct}"
        );
        // Nor do they come within the same few milliseconds.
        let mut crowds = vec![0; 501];
        for wait in seventh() {
            crowds[usize::try_from(wait.as_millis() / 10).unwrap()] += 1;
        }
        let largest = crowds.into_iter().max().unwrap();
        assert!(largest <= 40, "{backoff:?} {jitter:?}: {largest} within 10 ms");
    }
}

#[test]
fn clients_without_a_seed_differ() {
    paused(async {
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            seen.insert(waits(config(exponential(), Jitter::Full, 7)).await[6]);
        }
        assert!(seen.len() >= 190, "{}", seen.len());
    });
}

#[test]
fn calls_of_one_seeded_retry_differ_from_each_other() {
    paused(async {
        let events = Events::new();
        let retry = config(exponential(), Jitter::Full, 1)
            .seed(7)
            .build("again")
            .unwrap();
        retry.observe(events.observer());
        let failing = service_fn(|_: u32| ready(Err::<u32, BoxError>(Failed.into())));
        let layer = RetryLayer::new(retry);
        for _ in 0..200 {
            layer.layer(failing).oneshot(1).await.unwrap_err();
        }
        let distinct: BTreeSet<_> = told(&events).into_iter().collect();
        assert!(distinct.len() >= 190, "{}", distinct.len());
    });
}

// ---- A function of attempt and outcome.

#[tokio::test(start_paused = true)]
async fn a_function_is_given_the_attempt_that_failed_and_its_outcome() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let backoff = {
        let seen = Arc::clone(&seen);
        Backoff::function(move |attempt, outcome: &Outcome<'_>| {
            let timed_out = outcome
                .rejected()
                .is_some_and(|rejected| rejected.kind() == RejectedKind::TimedOut);
            let failed = outcome.error().is_some_and(<dyn std::error::Error>::is::<Failed>);
            let said = (outcome.verdict(), outcome.advice());
            assert_eq!(said, (Verdict::Failure, Advice::Retry));
            seen.lock().unwrap().push((attempt, timed_out, failed));
            ms(u64::from(attempt) * 10)
        })
    };
    let events = Events::new();
    let retry = config(backoff, Jitter::None, 2).build("again").unwrap();
    retry.observe(events.observer());
    let lab = Lab::new();
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .layer(TimeoutLayer::new(
            TimeoutConfig::new(ms(100)).build("attempt").unwrap(),
        ))
        .service(lab.clone());
    let mut call = Call::pending(&mut service, 1);
    lab.order(1, Order::Fail);
    assert!(call.poll().is_pending());
    lab::advance(10).await;
    assert!(call.poll().is_pending());
    lab::advance(100).await;
    assert!(call.poll().is_pending());
    assert_eq!(told(&events), [ms(10), ms(20)]);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [(1, false, true), (2, true, false)]);
}

#[test]
fn what_a_function_says_is_spread_by_the_jitter() {
    let backoff = Backoff::function(|attempt, _| ms(1_000) * attempt);
    let all = clients(&backoff, Jitter::Equal, 2);
    for (retry, wait) in [1_000, 2_000].map(ms).into_iter().enumerate() {
        let shares: Vec<_> = all
            .iter()
            .map(|waits| share(waits[retry], wait / 2, wait))
            .collect();
        evenly_spread("by a function", &shares);
    }
}

// ---- What is told is what is waited.

#[test]
fn a_call_takes_as_long_as_its_waits_were_told() {
    paused(async {
        for seed in 0..50 {
            let began = Clock::tokio().now();
            let waits = waits(config(exponential(), Jitter::Full, 5).seed(seed)).await;
            let took = Clock::tokio().now().since(began);
            let told: Duration = waits.iter().sum();
            // Tokio's timers end at the next millisecond.
            assert!(
                took >= told && took <= told + ms(5),
                "told {told:?}, took {took:?}"
            );
        }
    });
}

// ---- The ends of the scale.

#[test]
fn extreme_values_neither_panic_nor_leave_their_bounds() {
    let (nanosecond, longest) = (Duration::from_nanos(1), Duration::MAX);
    for backoff in [
        Backoff::fixed(Duration::ZERO),
        Backoff::fixed(longest),
        Backoff::exponential(Duration::ZERO, 1e308, longest),
        Backoff::exponential(nanosecond, 1e308, longest),
        Backoff::exponential(nanosecond, 1.0, nanosecond),
        Backoff::exponential(longest, f64::MAX, longest),
        Backoff::exponential(longest, 1.0, longest),
        Backoff::decorrelated(nanosecond, nanosecond),
        Backoff::decorrelated(nanosecond, longest),
        Backoff::decorrelated(longest, longest),
        Backoff::function(|_, _| Duration::MAX),
        Backoff::function(|_, _| Duration::ZERO),
    ] {
        for jitter in [Jitter::None, Jitter::Full, Jitter::Equal] {
            for elapsed in [None, Some(longest)] {
                paused(async {
                    let events = Events::new();
                    let mut config = config(backoff.clone(), jitter, 999).seed(3);
                    config.max_elapsed = elapsed;
                    let retry = config.build("again").unwrap();
                    retry.observe(events.observer());
                    let lab = Lab::new();
                    lab.order_next(Order::Fail);
                    let mut service = RetryLayer::new(retry).layer(lab.clone());
                    let mut call = Call::begin(&mut service, 1);
                    // Until it waits too long, or all attempts are made.
                    for _ in 0..1_000 {
                        if !call.poll().is_pending() {
                            assert_eq!(lab.made(), 1_000);
                            break;
                        }
                        if told(&events).last().is_some_and(|wait| *wait > ms(60_000)) {
                            break;
                        }
                        lab::advance(60_000).await;
                    }
                    assert!(lab.made() > 0);
                });
            }
        }
    }
}

#[test]
fn the_thousandth_wait_is_still_the_cap() {
    let backoff = Backoff::exponential(ms(1), 10.0, ms(2_000));
    let waits = paused(waits(config(backoff, Jitter::None, 999)));
    assert_eq!(waits.len(), 999);
    assert_eq!(waits[..4], [1, 10, 100, 1_000].map(ms));
    assert!(waits[4..].iter().all(|wait| *wait == ms(2_000)));
}

#[test]
fn no_rounding_leads_above_the_cap_or_below_the_base() {
    let odd = Duration::from_nanos(999_999_999);
    let tiny = Duration::from_nanos(3);
    for jitter in [Jitter::None, Jitter::Full, Jitter::Equal] {
        for (backoff, lowest, highest) in [
            (
                Backoff::exponential(Duration::from_nanos(333_333_333), 3.1, odd),
                Duration::ZERO,
                odd,
            ),
            (Backoff::decorrelated(tiny, odd), tiny, odd),
            (Backoff::fixed(tiny), Duration::ZERO, tiny),
        ] {
            for waits in clients(&backoff, jitter, 6).into_iter().take(500) {
                for wait in waits {
                    assert!(lowest <= wait && wait <= highest, "{backoff:?}: {wait:?}");
                }
            }
        }
    }
}
