//! Settings from files, of any shape: round trips, merging against a naive model, faults that are each told once, and
//! texts that no one would write.

#![cfg(feature = "schema")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use buttress::{
    Backoff, BulkheadConfig, CircuitBreakerConfig, ConfigErrors, Jitter, KeyedConfig, PolicyConfig,
    Predicate, Predicates, Rate, RetryBudgetConfig, RetryConfig, Settings, SlowCallConfig, StackConfig,
    State, StayEnd, TimeoutConfig, WindowConfig,
    config::{Effective, Source},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

const ODD_NAMES: [&str; 5] = ["quota", "my predicate", "a \"quoted\" one", "${x}", "$${é}\\"];

fn predicates() -> Predicates {
    let odd = ODD_NAMES.into_iter();
    odd.fold(Predicates::default(), |known, name| {
        known.with(name, Predicate::any_error())
    })
}

fn load(source: Source) -> Result<Settings, ConfigErrors> {
    source.env([("VALUE", "1s"), ("NUMBER", "3")]).load(&predicates())
}

// ---- Random settings.

fn duration(from: Duration) -> impl Strategy<Value = Duration> {
    let any = prop_oneof![
        3 => (1..10_000_u64).prop_map(Duration::from_millis),
        1 => (1..10_000_000_000_000_u64).prop_map(Duration::from_nanos),
        1 => (0..1_000_000_u64, 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
    ];
    any.prop_map(move |duration| duration.max(from))
}

const TINY: Duration = Duration::from_nanos(1);

fn rate() -> impl Strategy<Value = Rate> {
    prop_oneof![
        (1..=100_u32).prop_map(|percent| Rate::percent(percent.into())),
        (1..=10_000_u32).prop_map(|part| Rate::fraction(f64::from(part) / 10_000.0)),
        (f64::MIN_POSITIVE..1.0).prop_map(Rate::fraction),
    ]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    let known = [
        "error",
        "io",
        "timeout",
        "connect",
        "5xx",
        "502..504",
        "429",
        "!501, 5xx",
    ];
    let name = select([known.as_slice(), ODD_NAMES.as_slice()].concat());
    vec(name.prop_map(str::to_owned), 0..4)
}

fn backoff() -> impl Strategy<Value = (Backoff, Jitter)> {
    let jitter = select(vec![Jitter::None, Jitter::Full, Jitter::Equal]);
    let waits = (duration(Duration::ZERO), duration(TINY), 1.0..5.0_f64);
    (waits, jitter, 0..3).prop_map(|((one, other, factor), jitter, shape)| match shape {
        0 => (Backoff::fixed(one), jitter),
        1 => (
            Backoff::exponential(one.min(other), factor, one.max(other)),
            jitter,
        ),
        // What is random by itself has the jitter that nobody sets.
        _ => (Backoff::decorrelated(other, one.max(other)), Jitter::Full),
    })
}

fn retry() -> impl Strategy<Value = PolicyConfig> {
    let budget = prop_oneof![
        Just(None),
        (
            rate(),
            0..100_u32,
            duration(Duration::from_millis(100)).prop_map(|window| window.min(Duration::from_secs(86_400)))
        )
            .prop_map(Some)
    ];
    let limits = (
        1..=1000_u32,
        prop::option::of(duration(TINY)),
        duration(Duration::ZERO),
    );
    (limits, backoff(), budget, names(), names()).prop_map(
        |(limits, (backoff, jitter), budget, on, never_on)| {
            let mut retry = RetryConfig::new().backoff(backoff).jitter(jitter).no_budget();
            (retry.max_attempts, retry.max_elapsed, retry.max_hint) = limits;
            if let Some((ratio, free, window)) = budget {
                retry = retry.budget(
                    RetryBudgetConfig::new()
                        .ratio(ratio)
                        .min_per_second(free)
                        .window(window),
                );
            }
            (retry.on, retry.never_on) = (on, never_on);
            retry.into()
        },
    )
}

fn breaker() -> impl Strategy<Value = PolicyConfig> {
    let window = prop_oneof![
        (1..=1_000_000_u32).prop_map(WindowConfig::Calls),
        (duration(Duration::from_millis(1)), 1..=10_000_u32).prop_map(|(bucket, buckets)| {
            WindowConfig::Time {
                duration: bucket * buckets,
                bucket,
            }
        }),
    ];
    let slow = (duration(TINY), rate()).prop_map(|(longer_than, rate)| SlowCallConfig { longer_than, rate });
    let opens = (
        prop::option::of(rate()),
        prop::option::of(slow),
        prop::option::of(1..100_u32),
    );
    let open = (
        duration(TINY),
        duration(TINY),
        1.0..9.0_f64,
        0.0..=1.0_f64,
        any::<bool>(),
    );
    let end = select(vec![StayEnd::Open, StayEnd::Close]);
    let half_open = (
        1..=10_000_u32,
        duration(TINY),
        prop::option::of(duration(TINY)),
        end,
    );
    let states = [
        State::Closed,
        State::Open,
        State::HalfOpen,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
    ];
    let rest = (
        1..1000_u32,
        duration(Duration::ZERO),
        select(states.to_vec()),
        names(),
        names(),
    );
    (window, opens, open, half_open, rest).prop_map(|(window, opens, open, half_open, rest)| {
        let mut breaker = CircuitBreakerConfig::new();
        breaker.window = window;
        (
            breaker.failure_rate,
            breaker.slow_call,
            breaker.consecutive_failures,
        ) = opens;
        if (None, None, None) == opens {
            breaker = breaker.failure_rate(0.5);
        }
        breaker = breaker
            .open_growth(open.2, open.0.max(open.1))
            .open_jitter(open.3)
            .automatic_half_open(open.4);
        breaker.open.wait = open.0.min(open.1);
        let probing = &mut breaker.half_open;
        (
            probing.probes,
            probing.max_probe_age,
            probing.max_stay,
            probing.stay_end,
        ) = half_open;
        (
            breaker.minimum_calls,
            breaker.dropped_after,
            breaker.initial_state,
            breaker.record,
            breaker.ignore,
        ) = rest;
        breaker.into()
    })
}

fn policy() -> impl Strategy<Value = PolicyConfig> {
    let bulkhead = (1..=1_000_000_u32, duration(Duration::ZERO), any::<u32>())
        .prop_map(|(calls, wait, queue)| BulkheadConfig::new(calls).max_wait(wait).max_queue(queue).into());
    prop_oneof![
        retry(),
        breaker(),
        duration(TINY).prop_map(|limit| TimeoutConfig::new(limit).into()),
        bulkhead,
    ]
}

/// Names of stacks and stages: plain ones, and any that are accepted.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9_-]{0,10}",
        "[^/\\p{C}\\p{Z}]([^/\\p{C}]{0,8}[^/\\p{C}\\p{Z}])?",
        select(vec!["${x}", "a.b", "\"", "'", "#", "404", "true", "\u{200b}"]).prop_map(str::to_owned),
    ]
}

/// A name that is neither a key of a stack nor that of another kind.
fn stage_name(stage: (String, PolicyConfig), taken: &[String]) -> Option<(String, PolicyConfig)> {
    let (name, policy) = stage;
    let kind = match &policy {
        PolicyConfig::Retry(_) => "retry",
        PolicyConfig::CircuitBreaker(_) => "circuit_breaker",
        PolicyConfig::Timeout(_) => "timeout",
        _ => "bulkhead",
    };
    let plain = ["retry", "circuit_breaker", "timeout", "bulkhead"].contains(&name.as_str());
    let reserved = ["extends", "order", "per", "max_keys", "idle"].contains(&name.as_str());
    let name = if reserved || plain && name != kind {
        kind.to_owned()
    } else {
        name
    };
    (!taken.contains(&name)).then_some((name, policy))
}

fn settings() -> impl Strategy<Value = Settings> {
    let keyed = (
        name(),
        1..=10_000_000_u32,
        prop::option::of(duration(Duration::from_millis(1))),
    );
    let stage = (
        prop_oneof![
            name(),
            select(vec!["retry", "timeout", "bulkhead", "circuit_breaker"]).prop_map(str::to_owned)
        ],
        policy(),
    );
    let stack = (vec(stage, 0..5), prop::option::of(keyed));
    vec((name(), stack), 0..4).prop_map(|stacks| {
        let mut settings = Settings::default();
        for (name, (stages, keyed)) in stacks {
            let mut stack = StackConfig::new();
            let mut taken = Vec::new();
            for stage in stages {
                if let Some((name, policy)) = stage_name(stage, &taken) {
                    stack = stack.stage(&name, policy);
                    taken.push(name);
                }
            }
            // These say that it is not keyed.
            if let Some((per, keys, idle)) = keyed.filter(|(per, ..)| per != "off" && per != "none") {
                let mut config = KeyedConfig::new().max_keys(keys);
                config.idle = idle;
                stack = stack.keyed(&per, config);
            }
            settings.stacks.insert(name, stack);
        }
        settings
    })
}

proptest! {
    #[test]
    fn what_the_effective_configuration_says_reads_back_as_the_same_settings(settings in settings()) {
        prop_assert_eq!(settings.check(&predicates()), Ok(()));
        let effective = Effective::of(&settings).unwrap();
        let toml = effective.to_string();
        let again = load(Source::toml(&toml)).map_err(|errors| TestCaseError::fail(format!("{errors}\n{toml}")))?;
        prop_assert_eq!(&again, &settings, "{}", toml);
        // What is written with its origins says the same the second time.
        let settled = Effective::of(&again).unwrap();
        let values = |effective: &Effective| -> Vec<_> {
            effective.entries().into_iter().map(|entry| (entry.path, entry.value)).collect()
        };
        prop_assert_eq!(values(&settled), values(&effective));
        let json = serde_json::to_string(&effective).unwrap();
        prop_assert_eq!(&load(Source::json(&json)).unwrap(), &settings, "{}", json);
        #[cfg(feature = "yaml")]
        prop_assert_eq!(&load(Source::yaml(&json)).unwrap(), &settings, "{}", json);
    }

    #[test]
    fn the_schema_accepts_every_effective_configuration(settings in settings()) {
        thread_local! {
            static VALIDATOR: jsonschema::Validator =
                jsonschema::draft202012::new(&serde_json::to_value(buttress::config::schema()).unwrap()).unwrap();
        }
        let instance = serde_json::to_value(&settings).unwrap();
        let errors = VALIDATOR.with(|validator| {
            validator.iter_errors(&instance).map(|error| format!("{}: {error}", error.instance_path())).collect::<Vec<_>>()
        });
        prop_assert!(errors.is_empty(), "{:?}", errors);
    }
}

// ---- Merging.

/// Some keys of a stage, whose values are accepted wherever they stand.
fn some_keys(keys: Vec<(&'static str, Vec<Value>)>) -> impl Strategy<Value = Value> {
    let mut strategy = Just(Map::new()).boxed();
    for (key, values) in keys {
        strategy = (strategy, prop::option::of(select(values)))
            .prop_map(move |(mut map, value)| {
                map.extend(value.map(|value| (key.to_owned(), value)));
                map
            })
            .boxed();
    }
    strategy.prop_map(Value::Object)
}

fn with_tables(
    base: impl Strategy<Value = Value> + 'static,
    tables: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let mut strategy = base.boxed();
    for (key, table) in tables {
        strategy = (strategy, prop::option::of(table))
            .prop_map(move |(mut map, table)| {
                if let (Some(map), Some(table)) = (map.as_object_mut(), table) {
                    map.insert(key.to_owned(), table);
                }
                map
            })
            .boxed();
    }
    strategy
}

fn part_of_retry() -> BoxedStrategy<Value> {
    let base = some_keys(vec![
        ("max_attempts", vec![json!(1), json!(7)]),
        ("max_elapsed", vec![json!("9s"), json!("off")]),
        ("on", vec![json!(["io"]), json!([]), json!([503, "5xx"])]),
    ]);
    let grows = some_keys(vec![
        ("initial", vec![json!("1ms"), json!("2ms")]),
        ("factor", vec![json!(3)]),
        ("max", vec![json!("6s")]),
        ("jitter", vec![json!("none"), json!("equal")]),
    ]);
    let fixed =
        (select(vec!["1s", "2s"]), prop::option::of(Just("none"))).prop_map(|(fixed, jitter)| match jitter {
            Some(jitter) => json!({ "fixed": fixed, "jitter": jitter }),
            None => json!({ "fixed": fixed }),
        });
    let backoff = prop_oneof![
        grows,
        fixed,
        Just(json!({ "base": "3ms" })),
        Just(json!({ "base": "4ms", "max": "7s" }))
    ];
    let budget = prop_oneof![
        some_keys(vec![
            ("ratio", vec![json!("10%"), json!(0.3)]),
            ("min_per_second", vec![json!(5)]),
            ("window", vec![json!("2s")])
        ]),
        Just(json!("off")),
    ];
    with_tables(
        base,
        vec![("backoff", backoff.boxed()), ("budget", budget.boxed())],
    )
}

fn part_of_breaker() -> BoxedStrategy<Value> {
    let base = some_keys(vec![
        ("minimum_calls", vec![json!(1), json!(7)]),
        ("failure_rate", vec![json!("9%"), json!(0.2)]),
        (
            "window",
            vec![
                json!({ "calls": 7 }),
                json!({ "time": "9s" }),
                json!({ "time": "8s", "bucket": "2s" }),
            ],
        ),
        ("record", vec![json!(["io"]), json!([])]),
        (
            "slow_call",
            vec![json!({ "longer_than": "1s", "rate": "70%" }), json!("off")],
        ),
    ]);
    let open = some_keys(vec![
        ("wait", vec![json!("1s"), json!("2s")]),
        ("factor", vec![json!(1)]),
        ("max", vec![json!("3s")]),
    ]);
    let half_open = prop_oneof![
        some_keys(vec![("probes", vec![json!(1)]), ("max", vec![json!("3s")])]),
        some_keys(vec![
            ("probes", vec![json!(2)]),
            ("max_stay", vec![json!("4s"), json!("off")]),
            ("stay_end", vec![json!("close")])
        ]),
    ];
    with_tables(
        base,
        vec![("open", open.boxed()), ("half_open", half_open.boxed())],
    )
}

/// What lies over what, as the documentation says it.
fn naive_merge(base: &Value, over: &Value) -> Value {
    let (Value::Object(base), Value::Object(over)) = (base, over) else {
        return over.clone();
    };
    let mut result = base.clone();
    for (key, value) in over {
        let value = match (key.as_str(), result.get(key)) {
            (_, None) | ("window", _) => value.clone(),
            ("backoff", Some(below)) => naive_backoff(below, value),
            (_, Some(below)) => naive_merge(below, value),
        };
        // Two names of one key.
        let same = [("max", "max_stay"), ("max_stay", "max")];
        for (_, other) in same.iter().filter(|(one, _)| key == one) {
            result.remove(*other);
        }
        result.insert(key.clone(), value);
    }
    Value::Object(result)
}

fn naive_backoff(below: &Value, over: &Value) -> Value {
    let shape = |value: &Value| {
        let has = |key| value.get(key).is_some();
        if has("fixed") {
            Some("fixed")
        } else if has("base") {
            Some("random")
        } else if has("initial") || has("factor") {
            Some("grows")
        } else {
            None
        }
    };
    match shape(over) {
        Some(above) if above != shape(below).unwrap_or("grows") => {
            let mut result = over.clone();
            if let (Some(jitter), "fixed" | "grows", None) = (below.get("jitter"), above, over.get("jitter"))
            {
                result["jitter"] = jitter.clone();
            }
            result
        }
        _ => naive_merge(below, over),
    }
}

proptest! {
    #[test]
    fn merging_does_what_the_documentation_says(
        retries in vec(part_of_retry(), 4),
        breakers in vec(part_of_breaker(), 4),
    ) {
        let level = |at: usize| json!({ "retry": retries[at], "circuit_breaker": breakers[at] });
        let extending = |at: usize, parent: &str| {
            let mut stack = level(at);
            stack["extends"] = json!(parent);
            stack
        };
        let file = json!({
            "defaults": level(0),
            "stacks": { "c": extending(3, "b"), "b": extending(2, "a"), "a": level(1) },
        });
        let chain = [2, 3].iter().fold(level(1), |below, at| naive_merge(&below, &level(*at)));
        let merged = naive_merge(&level(0), &chain);
        let naive = json!({ "stacks": { "c": merged } });
        let told = load(Source::json(file.to_string()));
        match load(Source::json(naive.to_string())) {
            Ok(naive) => {
                let settings = told.map_err(|errors| TestCaseError::fail(format!("{errors}\n{file}")));
                // The stacks below may be wrong by themselves; that is told of them.
                match settings {
                    Ok(settings) => prop_assert_eq!(&settings.stacks["c"], &naive.stacks["c"], "{}", file),
                    Err(error) if error.to_string().contains("stacks.c") => return Err(error),
                    Err(_) => {}
                }
            }
            Err(errors) => prop_assert!(told.is_err(), "{}\n{}", errors, file),
        }
    }
}

// ---- Faults.

/// Lines of a file: as they are right, as they are wrong, and what is said of them then.
const LINES: [(&str, &str, &str); 14] = [
    (
        "timeout = \"2s\"",
        "timeout = 2",
        "stacks.a.timeout = 2: a bare number",
    ),
    (
        "bulkhead.max_concurrent = 5",
        "bulkhead.max_concurrent = 0",
        "stacks.a.bulkhead.max_concurrent = 0: accepted",
    ),
    (
        "bulkhead.max_wait = \"1s\"",
        "bulkhead.max_wait = \"1x\"",
        "stacks.a.bulkhead.max_wait = \"1x\": accepted",
    ),
    (
        "bulkhead.max_queue = 5",
        "bulkhead.max_queu = 5",
        "stacks.a.bulkhead.max_queu = 5: unknown key",
    ),
    (
        "retry.max_attempts = 5",
        "retry.max_attempts = -5",
        "stacks.a.retry.max_attempts = -5: accepted",
    ),
    (
        "retry.backoff.max = \"8s\"",
        "retry.backoff.max = \"8\"",
        "stacks.a.retry.backoff.max = \"8\": a bare number",
    ),
    (
        "retry.backoff.jitter = \"full\"",
        "retry.backoff.jitter = 1",
        "stacks.a.retry.backoff.jitter = 1: accepted",
    ),
    (
        "retry.on = [\"io\", \"5xx\"]",
        "retry.on = [\"io\", \"6xx\"]",
        "stacks.a.retry.on.1 = \"6xx\": unknown name",
    ),
    (
        "retry.never_on = [404]",
        "retry.never_on = 404",
        "stacks.a.retry.never_on = 404: accepted",
    ),
    (
        "circuit_breaker.failure_rate = \"5%\"",
        "circuit_breaker.failure_rate = 5",
        "stacks.a.circuit_breaker.failure_rate = 5: accepted",
    ),
    (
        "circuit_breaker.slow_call.rate = 0.5",
        "circuit_breaker.slow_call.rate = 0",
        "stacks.a.circuit_breaker.slow_call.rate = 0: accepted",
    ),
    (
        "circuit_breaker.slow_call.longer_than = \"1s\"",
        "circuit_breaker.slow_call.longer_than = 1",
        "stacks.a.circuit_breaker.slow_call.longer_than = 1: a bare",
    ),
    (
        "circuit_breaker.open.wait = \"1s\"",
        "circuit_breaker.open.wait = \"0s\"",
        "stacks.a.circuit_breaker.open.wait = \"0s\": accepted",
    ),
    (
        "circuit_breaker.window.calls = 7",
        "circuit_breaker.window.calls = 0",
        "stacks.a.circuit_breaker.window.calls = 0: accepted",
    ),
];

proptest! {
    #[test]
    fn each_fault_is_told_once_whatever_others_there_are(wrong in vec(any::<bool>(), LINES.len()), children in 0..3_usize) {
        let mut text = "[stacks.a]\n".to_owned();
        let mut expected = Vec::new();
        for (at, ((right, faulty, message), wrong)) in LINES.iter().zip(&wrong).enumerate() {
            text += if *wrong { faulty } else { right };
            text.push('\n');
            if *wrong {
                expected.push((at + 2, *message));
            }
        }
        for child in 0..children {
            text = format!("{text}[stacks.c{child}]\nextends = \"a\"\n");
        }
        let told: Vec<String> = match load(Source::toml(&text)) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.issues().iter().map(ToString::to_string).collect(),
        };
        prop_assert_eq!(told.len(), expected.len(), "{:#?}", told);
        for (told, (line, message)) in told.iter().zip(expected) {
            let place = format!("TOML:{line}:");
            prop_assert!(told.starts_with(&place) && told.contains(message), "{} is not {}", told, message);
        }
    }
}

// ---- Texts that no one would write.

fn any_format(text: &str) -> Vec<Result<Settings, ConfigErrors>> {
    let mut results = vec![load(Source::toml(text)), load(Source::json(text))];
    #[cfg(feature = "yaml")]
    results.push(load(Source::yaml(text)));
    results
}

/// What holds of every answer: an accepted file can be written and read again, an error stands within the text.
fn sound(text: &str) -> Result<(), TestCaseError> {
    for result in any_format(text) {
        match result {
            Ok(settings) => {
                prop_assert_eq!(settings.check(&predicates()), Ok(()), "{}", text);
                let written = Effective::of(&settings).unwrap().to_string();
                let again =
                    load(Source::toml(&written)).map_err(|errors| TestCaseError::fail(errors.to_string()))?;
                prop_assert_eq!(again, settings, "{}", written);
            }
            Err(errors) => {
                prop_assert!(!errors.issues().is_empty());
                let lines = text.split('\n').count();
                for issue in errors.issues() {
                    prop_assert!(!issue.message.is_empty());
                    if let Some((line, column)) = issue.place.as_ref().and_then(|place| place.line_column) {
                        prop_assert!(line >= 1 && column >= 1, "{}", issue);
                        // YAML ends lines at other characters too.
                        if !text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
                            let line = usize::try_from(line).unwrap();
                            prop_assert!(line <= lines + 1, "{}: {:?}", issue, text);
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn good_files() -> Vec<String> {
    let files = std::fs::read_dir("tests/config/good").unwrap();
    let names = files.map(|file| file.unwrap().path());
    names
        .filter(|path| path.extension().is_some_and(|extension| extension != "txt"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

const WORDS: [&str; 60] = [
    "defaults",
    "stacks",
    "retry",
    "circuit_breaker",
    "timeout",
    "bulkhead",
    "extends",
    "order",
    "kind",
    "per",
    "max_keys",
    "idle",
    "window",
    "calls",
    "time",
    "bucket",
    "open",
    "wait",
    "max",
    "factor",
    "half_open",
    "probes",
    "backoff",
    "fixed",
    "base",
    "initial",
    "jitter",
    "budget",
    "ratio",
    "on",
    "record",
    "slow_call",
    "longer_than",
    "rate",
    "a",
    "b",
    "\"5s\"",
    "\"50%\"",
    "\"off\"",
    "\"a\"",
    "\"${VALUE}\"",
    "\"${NUMBER}\"",
    "5",
    "0",
    "-1",
    "0.5",
    "1e999",
    "nan",
    "true",
    "null",
    "=",
    ".",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    " ",
];

/// A tree of plausible keys and any values, as JSON.
fn plausible() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        select(vec![
            json!("5s"),
            json!("0s"),
            json!("50%"),
            json!("off"),
            json!("a"),
            json!("b"),
            json!("io"),
            json!("full"),
            json!("timeout"),
            json!("${VALUE}"),
            json!("${NUMBER}"),
            json!("${NONE}"),
            json!(5),
            json!(0),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!(true),
            json!(false),
            json!(null),
            json!([]),
            json!({}),
        ]),
        ".{0,6}".prop_map(Value::String),
    ];
    let tree = leaf.prop_recursive(5, 60, 8, |inner| {
        let words = WORDS[..36].to_vec();
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Value::Array),
            5 => vec((select(words), inner), 0..8).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    });
    let stack = prop::collection::btree_map(select(WORDS[2..12].to_vec()), tree.clone(), 0..6);
    let stacks = prop::collection::btree_map(select(vec!["a", "b", "c"]), stack, 0..4);
    (prop::option::of(tree), stacks).prop_map(|(defaults, stacks)| match defaults {
        Some(defaults) => json!({ "defaults": defaults, "stacks": stacks }),
        None => json!({ "stacks": stacks }),
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}|.{0,60}|[\\[\\]{}=:,#&*!|>'\"\\-\\s.a-c0-9]{0,60}") {
        sound(&text)?;
    }

    #[test]
    fn no_heap_of_words_makes_it_panic(words in vec(select(WORDS.to_vec()), 0..60)) {
        sound(&words.concat())?;
        sound(&words.join(" "))?;
    }

    #[test]
    fn no_tree_of_plausible_keys_makes_it_panic(tree in plausible()) {
        sound(&tree.to_string())?;
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        file in select(good_files()),
        changes in vec((any::<prop::sample::Index>(), 0..12_usize, select(WORDS.to_vec()), any::<char>()), 1..4),
    ) {
        let mut text: Vec<char> = file.chars().collect();
        for (at, length, word, character) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            let put = if length % 3 == 0 { vec![character] } else { word.chars().collect() };
            text.splice(at..end, put);
        }
        sound(&text.into_iter().collect::<String>())?;
    }
}
