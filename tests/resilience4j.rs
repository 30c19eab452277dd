//! What resilience4j is set up with, read as it is. The documents and what comes of them are in `tests/resilience4j/`.

#![cfg(feature = "yaml")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use buttress::{
    Backoff, BudgetChoice, BulkheadConfig, CircuitBreakerConfig, ConfigErrors, Jitter, LintReport, Outcome,
    PolicyConfig, Predicate, Predicates, Rate, RetryConfig, Settings, Severity, SlowCallConfig, StackConfig,
    TimeoutConfig, Verdict,
    config::{Effective, Resilience4j, Source},
};
use proptest::prelude::*;
use tower::BoxError;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[derive(Debug)]
struct Business;

impl std::fmt::Display for Business {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no such order")
    }
}

impl std::error::Error for Business {}

/// What the program of the documents has mapped.
fn predicates() -> Predicates {
    [
        "com.example.RecordFailure",
        "com.example.IgnoreFailure",
        "com.example.RetryResult",
    ]
    .into_iter()
    .fold(Predicates::new(), |predicates, class| {
        predicates.with(class, Predicate::any_error())
    })
    .with("com.example.BusinessException", Predicate::error::<Business>())
}

fn document(path: &str) -> Resilience4j {
    let folder = Path::new("tests/resilience4j");
    assert!(folder.exists(), "tests run in the package's folder");
    Resilience4j::path(folder.join(path)).env([("ORDERS_TIMEOUT", "2500ms")])
}

fn yaml(text: &str) -> Result<Settings, ConfigErrors> {
    Resilience4j::yaml(text).named("a.yml").load(&predicates())
}

#[track_caller]
fn policy(settings: &Settings, stack: &str, stage: &str) -> PolicyConfig {
    let stack = &settings.stacks[stack];
    let found = stack.stages.iter().find(|known| known.name == stage);
    found.unwrap().policy.clone()
}

// ---- Snapshots.

/// What comes of a document, in a form that is quickly read and compared.
fn summary(loaded: &Result<Settings, ConfigErrors>) -> String {
    let mut text = String::new();
    match loaded {
        Err(errors) => writeln!(text, "{errors}").unwrap(),
        Ok(settings) => {
            for (name, stack) in &settings.stacks {
                writeln!(text, "{name}").unwrap();
                for stage in &stack.stages {
                    writeln!(text, "    {}: {}", stage.name, told(&stage.policy)).unwrap();
                }
            }
            for note in &settings.notes {
                writeln!(text, "{note}").unwrap();
            }
        }
    }
    text
}

fn told(policy: &PolicyConfig) -> String {
    match policy {
        PolicyConfig::Retry(retry) => {
            let BudgetChoice::Unlimited = retry.budget else {
                panic!("resilience4j has no budget");
            };
            let lists = told_lists([("on", &retry.on), ("never on", &retry.never_on)]);
            format!(
                "{} attempts, {:?}, jitter {:?}{lists}",
                retry.max_attempts, retry.backoff, retry.jitter
            )
        }
        PolicyConfig::CircuitBreaker(breaker) => {
            let slow = breaker.slow_call.unwrap();
            let open = &breaker.open;
            let half_open = &breaker.half_open;
            let stay = half_open.max_stay.map_or_else(String::new, |stay| {
                format!(" for {stay:?} then {:?}", half_open.stay_end)
            });
            let lists = told_lists([("record", &breaker.record), ("ignore", &breaker.ignore)]);
            format!(
                "{:?} from {}, {}, slower than {:?} {}, open {:?} x {} up to {:?} jitter {}{}, {} probes up to {:?}{stay}, \
                 {:?}{lists}",
                breaker.window,
                breaker.minimum_calls,
                breaker.failure_rate.unwrap(),
                slow.longer_than,
                slow.rate,
                open.wait,
                open.factor,
                open.max,
                open.jitter,
                if open.automatic_half_open {
                    " automatic"
                } else {
                    ""
                },
                half_open.probes,
                half_open.max_probe_age,
                breaker.initial_state,
            )
        }
        PolicyConfig::Timeout(timeout) => format!("{:?}", timeout.limit),
        PolicyConfig::Bulkhead(bulkhead) => format!(
            "{} calls, wait {:?}, queue {}",
            bulkhead.max_concurrent, bulkhead.max_wait, bulkhead.max_queue
        ),
        other => panic!("{other:?}"),
    }
}

fn told_lists(lists: [(&str, &Vec<String>); 2]) -> String {
    lists
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .fold(String::new(), |told, (list, names)| {
            format!("{told}, {list} {}", names.join(" "))
        })
}

/// Compares what comes of each document in a folder with the text beside it; with `BUTTRESS_BLESS=1` writes it there.
#[track_caller]
fn compare(folder: &str, load: impl Fn(Resilience4j) -> Resilience4j) -> usize {
    let mut documents: Vec<PathBuf> = fs::read_dir(Path::new("tests/resilience4j").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() != "txt")
        .collect();
    documents.sort();
    for path in &documents {
        let name = path.strip_prefix("tests/resilience4j").unwrap().to_str().unwrap();
        let loaded = load(document(name)).load(&predicates());
        assert_eq!(loaded.is_ok(), folder == "good", "{name}: {}", summary(&loaded));
        let expected = PathBuf::from(format!("{}.txt", path.display()));
        let text = summary(&loaded);
        if std::env::var_os("BUTTRESS_BLESS").is_some() {
            fs::write(expected, text).unwrap();
        } else {
            let expected = fs::read_to_string(&expected).unwrap_or_default();
            assert_eq!(text, expected, "{name}; BUTTRESS_BLESS=1 writes what comes of it");
        }
    }
    documents.len()
}

#[test]
fn good_documents_become_what_is_written_beside_them() {
    assert!(compare("good", |document| document) >= 10);
}

#[test]
fn bad_documents_get_the_messages_that_are_written_beside_them() {
    assert!(compare("bad", |document| document) >= 9);
}

#[test]
fn where_the_caller_asks_what_has_no_counterpart_is_only_warned_of() {
    let loaded = document("bad/counterparts.yml").lenient().load(&predicates());
    let settings = loaded.unwrap();
    let warnings: Vec<String> = settings
        .notes
        .iter()
        .filter(|note| note.severity == Severity::Warning)
        .map(ToString::to_string)
        .collect();
    let errors = document("bad/counterparts.yml").load(&predicates()).unwrap_err();
    let errors: Vec<String> = errors
        .issues()
        .iter()
        .map(|error| {
            assert!(error.message.starts_with("this has no counterpart: "), "{error}");
            error
                .to_string()
                .replacen(": resilience4j", ": warning: resilience4j", 1)
        })
        .collect();
    assert_eq!(warnings, errors);
    assert_eq!(settings.stacks["a"].stages.len(), 3);
    // What is wrong stays wrong.
    let wrong = "resilience4j: { ratelimiter: {}, retry.instances.a.maxAttempts: 0 }";
    let errors = Resilience4j::yaml(wrong)
        .lenient()
        .load(&predicates())
        .unwrap_err();
    assert_eq!(errors.issues().len(), 1, "{errors}");
}

// ---- The defaults, and what a document says instead.

#[test]
fn the_documented_example_loads_as_it_is() {
    let settings = document("good/issue.yml").load(&predicates()).unwrap();
    assert_eq!(settings.notes, []);
    let mut expected = CircuitBreakerConfig::new()
        .count_window(100)
        .minimum_calls(100)
        .failure_rate(0.5)
        .slow_calls(secs(60), 1.0)
        .open_wait(secs(60))
        .open_growth(1.0, secs(60))
        .open_jitter(0.0)
        .probes(10)
        .max_probe_age(secs(60))
        .ignore("com.example.BusinessException");
    expected.record = ["io", "connect", "reset", "dns", "body"]
        .map(str::to_owned)
        .to_vec();
    let stack = StackConfig::new().stage("circuit_breaker", expected);
    assert_eq!(settings.stacks["myService"], stack);
    assert_eq!(settings.stacks.len(), 1);
    let origin = &settings.origins["stacks.myService.circuit_breaker.failure_rate"];
    assert_eq!(origin.to_string(), "tests/resilience4j/good/issue.yml:4");

    // Its lists judge as those of resilience4j do.
    let names = |list: &[String]| list.to_vec();
    let PolicyConfig::CircuitBreaker(breaker) = policy(&settings, "myService", "circuit_breaker") else {
        panic!();
    };
    let rules = predicates()
        .rules(&names(&breaker.record), &names(&breaker.ignore), &[], &[])
        .unwrap()
        .unwrap();
    let judged = |error: BoxError| rules.refine(&Outcome::of_error(&error)).verdict();
    assert_eq!(judged(io::Error::other("disk on fire").into()), Verdict::Failure);
    assert_eq!(judged(Business.into()), Verdict::Ignored);
    assert_eq!(judged(std::fmt::Error.into()), Verdict::Success);
}

#[test]
fn absent_keys_take_the_defaults_of_resilience4j() {
    let settings = document("good/defaults.yml").load(&predicates()).unwrap();
    let breaker = CircuitBreakerConfig::new()
        .count_window(100)
        .minimum_calls(100)
        .failure_rate(Rate::percent(50.0))
        .slow_calls(secs(60), 1.0)
        .open_wait(secs(60))
        .open_growth(1.0, secs(60))
        .open_jitter(0.0)
        .probes(10)
        .max_probe_age(secs(60));
    let retry = RetryConfig::new()
        .max_attempts(3)
        .backoff(Backoff::fixed(ms(500)))
        .jitter(Jitter::None)
        .no_budget();
    let expected = StackConfig::new()
        .stage("retry", retry)
        .stage("circuit_breaker", breaker)
        .stage("timeout", TimeoutConfig::new(secs(1)))
        .stage("bulkhead", BulkheadConfig::new(25).max_queue(u32::MAX));
    assert_eq!(settings.stacks["all"], expected);
    assert_eq!(settings.notes, []);
}

#[test]
fn every_key_has_an_effect_or_is_told_of() {
    // What one key changes, of an instance that has no other.
    let of = |module: &str, key: &str, value: &str| {
        let text = format!("resilience4j.{module}.instances.a:\n  {key}: {value}\n");
        let settings = yaml(&text).unwrap_or_else(|errors| panic!("{text}{errors}"));
        (settings.stacks["a"].clone(), settings.notes)
    };
    for (module, key, value) in [
        ("circuitbreaker", "failureRateThreshold", "60"),
        ("circuitbreaker", "slowCallRateThreshold", "60"),
        ("circuitbreaker", "slowCallDurationThreshold", "2s"),
        ("circuitbreaker", "slidingWindowType", "TIME_BASED"),
        ("circuitbreaker", "slidingWindowSize", "50"),
        ("circuitbreaker", "minimumNumberOfCalls", "50"),
        ("circuitbreaker", "permittedNumberOfCallsInHalfOpenState", "5"),
        ("circuitbreaker", "maxWaitDurationInHalfOpenState", "5s"),
        ("circuitbreaker", "waitDurationInOpenState", "5s"),
        (
            "circuitbreaker",
            "automaticTransitionFromOpenToHalfOpenEnabled",
            "true",
        ),
        ("circuitbreaker", "initialState", "DISABLED"),
        ("circuitbreaker", "recordExceptions", "java.io.IOException"),
        ("circuitbreaker", "ignoreExceptions", "java.io.IOException"),
        (
            "circuitbreaker",
            "recordFailurePredicate",
            "com.example.RecordFailure",
        ),
        (
            "circuitbreaker",
            "recordResultPredicate",
            "com.example.RetryResult",
        ),
        (
            "circuitbreaker",
            "ignoreExceptionPredicate",
            "com.example.IgnoreFailure",
        ),
        ("retry", "maxAttempts", "4"),
        ("retry", "waitDuration", "1s"),
        ("retry", "retryExceptions", "java.io.IOException"),
        ("retry", "ignoreExceptions", "java.io.IOException"),
        ("retry", "retryExceptionPredicate", "com.example.RecordFailure"),
        ("retry", "resultPredicate", "com.example.RetryResult"),
        ("timelimiter", "timeoutDuration", "2s"),
        ("bulkhead", "maxConcurrentCalls", "5"),
        ("bulkhead", "maxWaitDuration", "5ms"),
    ] {
        let default = yaml(&format!("resilience4j.{module}.instances.a: {{}}")).unwrap();
        let (stack, notes) = of(module, key, value);
        assert_ne!(stack, default.stacks["a"], "{module}.{key}");
        assert_eq!(notes, [], "{module}.{key}");
    }
    for (module, key, value) in [
        ("circuitbreaker", "transitionToStateAfterWaitDuration", "CLOSED"),
        ("circuitbreaker", "enableExponentialBackoff", "true"),
        ("circuitbreaker", "exponentialBackoffMultiplier", "2"),
        ("circuitbreaker", "exponentialMaxWaitDurationInOpenState", "2m"),
        ("circuitbreaker", "enableRandomizedWait", "true"),
        ("circuitbreaker", "randomizedWaitFactor", "0.2"),
        ("circuitbreaker", "ignoreClassBindingExceptions", "false"),
        ("circuitbreaker", "writableStackTraceEnabled", "true"),
        ("circuitbreaker", "registerHealthIndicator", "true"),
        ("circuitbreaker", "allowHealthIndicatorToFail", "true"),
        ("circuitbreaker", "eventConsumerBufferSize", "10"),
        ("retry", "enableExponentialBackoff", "true"),
        ("retry", "exponentialBackoffMultiplier", "2"),
        ("retry", "exponentialMaxWaitDuration", "2s"),
        ("retry", "enableRandomizedWait", "true"),
        ("retry", "randomizedWaitFactor", "0.2"),
        ("retry", "failAfterMaxAttempts", "false"),
        ("retry", "eventConsumerBufferSize", "10"),
        ("timelimiter", "cancelRunningFuture", "true"),
        ("timelimiter", "eventConsumerBufferSize", "10"),
        ("bulkhead", "writableStackTraceEnabled", "true"),
        ("bulkhead", "eventConsumerBufferSize", "10"),
    ] {
        let default = yaml(&format!("resilience4j.{module}.instances.a: {{}}")).unwrap();
        let (stack, notes) = of(module, key, value);
        assert_eq!(stack, default.stacks["a"], "{module}.{key}");
        assert_eq!(notes.len(), 1, "{module}.{key}: {notes:?}");
        assert!(notes[0].path.ends_with(&format!("{module}.instances.a.{key}")));
        assert_eq!(
            notes[0].place.as_ref().unwrap().line_column.map(|(line, _)| line),
            Some(2)
        );
    }
}

#[test]
fn what_stands_in_a_file_in_any_spelling_is_the_same() {
    let nested = "
resilience4j:
  circuitbreaker:
    circuitBreakerAspectOrder: 1
    configs:
      shared:
        slidingWindowType: TIME_BASED
        recordExceptions: [java.io.IOException, java.net.ConnectException]
    instances:
      myService:
        baseConfig: shared
        waitDurationInOpenState: 10s
  retry:
    retryAspectOrder: 2
    instances:
      myService:
        maxAttempts: 4
        waitDuration: 500
  timelimiter:
    instances:
      myService:
        timeoutDuration: PT1M
";
    let others = [
        // Dotted, in kebab case.
        "
resilience4j.circuitbreaker.circuit-breaker-aspect-order: 1
resilience4j.circuitbreaker.configs.shared.sliding-window-type: time-based
resilience4j.circuitbreaker:
  configs.shared:
    record-exceptions: java.io.IOException,java.net.ConnectException
  instances.myService.base-config: shared
  instances.myService:
    wait-duration-in-open-state: 10000ms
resilience4j:
  retry.retry-aspect-order: '2'
  retry:
    instances:
      myService: { max-attempts: '4', wait-duration: 500ms }
  time-limiter.instances:
    myService.timeout-duration: 60s
",
        // With underscores, and `backends` for `instances`.
        "
RESILIENCE4J:
  circuit_breaker:
    circuit_breaker_aspect_order: 1
    configs:
      shared:
        sliding_window_type: timeBased
        record_exceptions[0]: java.io.IOException
        record_exceptions[1]: java.net.ConnectException
    backends:
      myService:
        base_config: shared
        WAIT_DURATION_IN_OPEN_STATE: PT10S
  Retry:
    retry_aspect_order: 2
    backends[myService]:
      max_attempts: 4
      wait_duration: PT0.5S
  timeLimiter.instances.[myService].timeoutDuration: 1m
",
    ];
    let properties = "
resilience4j.circuitbreaker.circuitBreakerAspectOrder = 1
resilience4j.circuitbreaker.configs.shared.slidingWindowType = TIME_BASED
resilience4j.circuitbreaker.configs.shared.recordExceptions = java.io.IOException, java.net.ConnectException
resilience4j.circuitbreaker.instances.myService.baseConfig = shared
resilience4j.circuitbreaker.instances.myService.waitDurationInOpenState = 10s
resilience4j.retry.retryAspectOrder = 2
resilience4j.retry.instances.myService.maxAttempts = 4
resilience4j.retry.instances.myService.waitDuration = 500
resilience4j.timelimiter.instances.myService.timeoutDuration = PT1M
";
    let nested = yaml(nested).unwrap();
    let order: Vec<&str> = nested.stacks["myService"]
        .stages
        .iter()
        .map(|stage| &*stage.name)
        .collect();
    assert_eq!(order, ["circuit_breaker", "retry", "timeout"]);
    for other in others {
        assert_eq!(yaml(other).unwrap(), nested, "{other}");
    }
    assert_eq!(
        Resilience4j::properties(properties).load(&predicates()).unwrap(),
        nested
    );
}

#[test]
fn names_of_instances_and_configs_are_taken_letter_by_letter() {
    let settings = yaml("resilience4j.retry.instances: { my-service: {}, myService: {} }").unwrap();
    assert_eq!(settings.stacks.len(), 2);
    assert_eq!(
        settings.notes[0].to_string(),
        "a.yml:1:49: warning: resilience4j.retry.instances.myService: there is `my-service` too: names are taken letter by \
         letter, so these are two stacks"
    );
    let errors =
        yaml("resilience4j.retry: { configs.Shared: {}, instances.a.baseConfig: shared }").unwrap_err();
    assert!(errors.to_string().contains("did you mean `Shared`?"), "{errors}");
}

#[test]
fn later_documents_win_where_their_profile_is_active() {
    let load = |profiles: &[&str]| {
        let with = |document: Resilience4j, profile: &&str| document.profile(*profile);
        let document = profiles.iter().fold(document("good/profiles.yml"), with);
        let settings = document.load(&predicates()).unwrap();
        let PolicyConfig::CircuitBreaker(breaker) = policy(&settings, "search", "circuit_breaker") else {
            panic!();
        };
        (format!("{:?}", breaker.window), breaker.minimum_calls)
    };
    assert_eq!(load(&[]), ("Calls(2)".to_owned(), 2));
    assert_eq!(load(&["production"]), ("Calls(20)".to_owned(), 15));
    assert_eq!(load(&["production", "test"]), ("Calls(2)".to_owned(), 2));
}

#[test]
fn placeholders_stand_for_properties_variables_and_defaults() {
    let text = |value: &str| {
        format!(
            "shop: {{ wait-time: 2s, again: '${{shop.wait-time}}' }}\nresilience4j.timelimiter.instances.a.timeoutDuration: '{value}'\n"
        )
    };
    let load = |value: &str| {
        let document = Resilience4j::yaml(text(value)).named("a.yml");
        document
            .env([("WAIT", "3s"), ("SHOP_LONGEST", "4s"), ("own_name", "6s")])
            .load(&predicates())
    };
    for (value, limit) in [
        ("${shop.wait-time}", 2),
        ("${shop.waitTime}", 2),
        ("${shop.again}", 2),
        ("${shop.none:5s}", 5),
        ("${shop.none:${WAIT}}", 3),
        ("${WAIT}", 3),
        ("${shop.longest}", 4),
        ("${own_name}", 6),
        ("${none:1}${shop.none:0}s", 10),
    ] {
        let settings = load(value).unwrap();
        let PolicyConfig::Timeout(timeout) = policy(&settings, "a", "timeout") else {
            panic!();
        };
        assert_eq!(timeout.limit, secs(limit), "{value}");
    }
    let error = load("${waits}").unwrap_err().to_string();
    assert!(
        error.starts_with("a.yml:2:55: resilience4j.timelimiter.instances.a.timeoutDuration = "),
        "{error}"
    );
    assert!(
        error.contains("`waits` is neither a property of this file nor in the environment"),
        "{error}"
    );
    let circle = "a: ${b}\nb: ${a}\nresilience4j.timelimiter.instances.a.timeoutDuration: ${a}\n";
    let error = yaml(circle).unwrap_err().to_string();
    assert!(
        error.contains("too many placeholders, or they refer to themselves"),
        "{error}"
    );
}

#[test]
fn every_class_that_has_a_meaning_stands_for_names_that_are_known() {
    for class in [
        "java.lang.Throwable",
        "java.io.IOException",
        "java.util.concurrent.TimeoutException",
        "java.net.ConnectException",
        "java.net.SocketTimeoutException",
        "java.net.UnknownHostException",
        "org.springframework.web.client.HttpServerErrorException",
        "org.springframework.web.client.HttpServerErrorException$BadGateway",
        "org.springframework.web.reactive.function.client.WebClientResponseException",
        "org.springframework.web.reactive.function.client.WebClientResponseException.NotFound",
        "feign.FeignException",
        "io.github.resilience4j.circuitbreaker.CallNotPermittedException",
    ] {
        let text = format!("resilience4j.retry.instances.a.retryExceptions: {class}");
        let settings = yaml(&text).unwrap();
        let PolicyConfig::Retry(retry) = policy(&settings, "a", "retry") else {
            panic!();
        };
        assert!(
            !retry.on.is_empty() && !retry.on.contains(&class.to_owned()),
            "{class}: {:?}",
            retry.on
        );
        settings.check(&predicates()).unwrap();
    }
}

#[test]
fn the_meaning_that_the_program_gives_a_class_comes_first() {
    let predicates = Predicates::new().with("java.io.IOException", Predicate::error::<Business>());
    let text = "resilience4j.retry.instances.a.retryExceptions: java.io.IOException";
    let settings = Resilience4j::yaml(text).load(&predicates).unwrap();
    let PolicyConfig::Retry(retry) = policy(&settings, "a", "retry") else {
        panic!();
    };
    assert_eq!(retry.on, ["java.io.IOException"]);
}

#[test]
fn it_is_a_source_like_any_other() {
    let source = Source::from(document("good/shop.properties"));
    assert!(source.file().unwrap().ends_with("good/shop.properties"));
    let settings = source.load(&predicates()).unwrap();
    assert_eq!(
        settings,
        document("good/shop.properties").load(&predicates()).unwrap()
    );
    let settings = source
        .env([("ORDERS_TIMEOUT", "9s")])
        .load(&predicates())
        .unwrap();
    let PolicyConfig::Timeout(timeout) = policy(&settings, "orders", "timeout") else {
        panic!();
    };
    assert_eq!(timeout.limit, secs(9));
    let source = Source::from(Resilience4j::yaml("a: 1")).named("b.yml");
    assert_eq!(
        source.load(&predicates()).unwrap_err().to_string(),
        "b.yml: there is no `resilience4j` in it"
    );
}

#[test]
fn a_list_of_any_exception_also_takes_responses_that_are_failures() {
    let settings = document("good/results.yml").load(&predicates()).unwrap();
    let PolicyConfig::CircuitBreaker(breaker) = policy(&settings, "any", "circuit_breaker") else {
        panic!();
    };
    let rules = predicates()
        .rules(&breaker.record, &breaker.ignore, &[], &[])
        .unwrap()
        .unwrap();
    let unavailable = Outcome::failure().with_status(503);
    assert_eq!(rules.refine(&unavailable).verdict(), Verdict::Failure);
    assert_eq!(rules.refine(&Outcome::success()).verdict(), Verdict::Success);
}

// ---- What is said of the stacks that come of it.

#[test]
fn what_is_loaded_can_be_linted() {
    let settings = document("good/shop.yml").load(&predicates()).unwrap();
    let LintReport {
        worst_calls,
        worst_wait,
        ..
    } = settings.stacks["payments"].lint();
    // Five attempts of 1.5 s, and four waits for hints of up to 10 s.
    assert_eq!((worst_calls, worst_wait), (5, Some(ms(5 * 1_500 + 4 * 10_000))));
    let warnings: Vec<String> = settings
        .stacks
        .values()
        .flat_map(|stack| stack.lint().issues)
        .filter(|issue| issue.severity >= Severity::Warning)
        .map(|issue| issue.to_string())
        .collect();
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_probe_may_take_as_long_as_a_call_can() {
    let text = "
resilience4j:
  circuitbreaker.instances.a.slowCallDurationThreshold: 5s
  timelimiter.instances.a.timeoutDuration: 2m
";
    let settings = yaml(text).unwrap();
    let PolicyConfig::CircuitBreaker(breaker) = policy(&settings, "a", "circuit_breaker") else {
        panic!();
    };
    assert_eq!(breaker.half_open.max_probe_age, secs(120));
    let slow = SlowCallConfig {
        longer_than: secs(5),
        rate: Rate::percent(100.0),
    };
    assert_eq!(breaker.slow_call, Some(slow));
}

#[test]
fn what_is_loaded_can_be_printed_as_a_file_of_this_crate() {
    for entry in fs::read_dir("tests/resilience4j/good").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().unwrap() == "txt" {
            continue;
        }
        let name = path.strip_prefix("tests/resilience4j").unwrap().to_str().unwrap();
        let settings = document(name).load(&predicates()).unwrap();
        let effective = Effective::of(&settings).unwrap();
        let again = Source::toml(effective.to_string()).env([("", ""); 0]);
        assert_eq!(again.load(&predicates()).unwrap(), settings, "{effective}");
        // Each place is told of a value that there is.
        let entries = effective.entries();
        for path in settings.origins.keys() {
            assert!(
                entries.iter().any(|entry| entry.path == *path),
                "{path}: {effective}"
            );
        }
    }
}

// ---- Whatever is read.

#[test]
fn an_extension_tells_the_format_and_an_unreadable_file_is_an_error() {
    let error = |path: &str| {
        Resilience4j::path(path)
            .load(&predicates())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("tests/a.toml"),
        "tests/a.toml: the extension does not tell the format; accepted: .yml, .yaml and .properties"
    );
    assert!(error("tests/none.yml").starts_with("tests/none.yml: the file cannot be read: "));
}

#[test]
fn large_and_odd_texts_are_read_or_refused_in_no_time() {
    let deep = format!("resilience4j{}: 1", ".a".repeat(100_000));
    let many: String = (0..20_000).fold(
        String::from("resilience4j.retry.instances.a:\n"),
        |mut text, key| {
            writeln!(text, "  key{key}: 1").unwrap();
            text
        },
    );
    let documents = "---\na: 1\n".repeat(1_000);
    let longest = "resilience4j.retry.instances.a: { waitDuration: 18446744073709551615s, enableExponentialBackoff: true, \
                   exponentialBackoffMultiplier: 1e300, enableRandomizedWait: true, maxAttempts: 1000 }\n\
                   resilience4j.circuitbreaker.instances.a: { waitDurationInOpenState: 18446744073709551615s, \
                   enableRandomizedWait: true, slowCallDurationThreshold: 106751991167300d }";
    let doubling: String = (0..30).fold(String::from("a0: x\n"), |mut text, key| {
        writeln!(text, "a{}: ${{a{key}}}${{a{key}}}", key + 1).unwrap();
        text
    });
    let doubling = format!("{doubling}resilience4j.retry.instances.a.waitDuration: ${{a30}}\n");
    for text in [&deep, &many, &documents, longest, &doubling] {
        let _ = yaml(text);
        let _ = Resilience4j::properties(text).load(&predicates());
    }
    yaml(longest).unwrap();
}

fn documents() -> Vec<String> {
    let folders = ["tests/resilience4j/good", "tests/resilience4j/bad"];
    let paths = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = paths.map(|entry| entry.unwrap().path());
    let mut documents: Vec<_> = paths.filter(|path| path.extension().unwrap() != "txt").collect();
    documents.sort();
    documents
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = yaml(&text);
        let _ = Resilience4j::properties(text).load(&predicates());
    }

    #[test]
    fn no_document_with_something_else_in_it_panics(
        which in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        length in 0_usize..40,
        other in prop_oneof![
            "\\PC{0,12}",
            "[\\[\\].:${}#&*!|>'\"\\\\, \n-]{0,12}",
            Just("99999999999999999999".to_owned()),
            Just("1e999".to_owned()),
            Just("\n---\n".to_owned()),
            Just("${a:${b}}".to_owned()),
        ],
    ) {
        let documents = documents();
        let document = which.get(&documents);
        let letters: Vec<char> = document.chars().collect();
        let start = cut.index(letters.len() + 1);
        let end = (start + length).min(letters.len());
        let text: String = letters[..start].iter().copied().chain(other.chars()).chain(letters[end..].iter().copied()).collect();
        for loaded in [yaml(&text), Resilience4j::properties(text.as_str()).lenient().load(&predicates())] {
            match loaded {
                Ok(settings) => for stack in settings.stacks.values() {
                    stack.lint();
                },
                Err(errors) => prop_assert!(!errors.issues().is_empty()),
            }
        }
    }
}
