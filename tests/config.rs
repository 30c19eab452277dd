//! Settings from files: good ones as their effective configuration, bad ones as their errors.
//!
//! Beside each file in `config/good` and `config/bad` lies what comes of it. After a change that is meant,
//! `BUTTRESS_BLESS=1 cargo test --all-features --test config` writes these anew; read the difference.

#![cfg(feature = "config")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "sources are made where they are loaded"
)]

use std::{fs, path::Path, time::Duration};

use buttress::{
    Backoff, BulkheadConfig, CircuitBreakerConfig, ConfigErrors, KeyedConfig, Predicate, Predicates, Rate,
    RetryBudgetConfig, RetryConfig, Settings, StackConfig, StayEnd, TimeoutConfig,
    config::{Effective, Source},
};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn predicates() -> Predicates {
    Predicates::default().with("quota", Predicate::any_error())
}

fn load(source: Source) -> Result<Settings, ConfigErrors> {
    source.load(&predicates())
}

fn extension(file: &str) -> &str {
    Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
}

/// The files of a folder that can be read, by their names.
fn files(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .filter(|name| match extension(name) {
            "txt" => false,
            // What is said of an unknown extension lists the known ones.
            "yaml" | "ini" => cfg!(feature = "yaml"),
            _ => true,
        })
        .collect();
    names.sort();
    names
}

/// Compares a text with the one in a file, or writes it there.
fn expect(path: &str, text: &str) {
    if std::env::var_os("BUTTRESS_BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        text, expected,
        "{path} says something else; see the head of tests/config.rs"
    );
}

#[test]
fn every_fault_of_a_bad_file_is_told_with_its_place() {
    let files = files("tests/config/bad");
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        match load(Source::path(&file).env(VARIABLES)) {
            Ok(settings) => panic!("{file} is accepted: {settings:?}"),
            Err(errors) => expect(&format!("{file}.txt"), &format!("{errors}\n")),
        }
    }
}

/// The environment of the files.
const VARIABLES: [(&str, &str); 4] = [
    ("WAIT", "5s"),
    ("TRIES", "4"),
    ("EMPTY", ""),
    ("PARENT", "payments"),
];

#[test]
fn a_good_file_says_what_stands_beside_it() {
    let files = files("tests/config/good");
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let settings = load(Source::path(&file).env(VARIABLES)).unwrap_or_else(|errors| panic!("{errors}"));
        let effective = Effective::of(&settings).unwrap();
        expect(&format!("{file}.txt"), &effective.to_string());
    }
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_in_the_repository_is_the_current_one() {
    const PATH: &str = "schema/buttress.schema.json";

    let schema = buttress::config::schema();
    if std::env::var_os("BUTTRESS_BLESS").is_some() {
        fs::write(PATH, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
    }
    // As values: the order of keys depends on a feature of serde_json.
    let known: serde_json::Value = serde_json::from_str(&fs::read_to_string(PATH).unwrap()).unwrap();
    let is_current = known == serde_json::to_value(&schema).unwrap();
    assert!(
        is_current,
        "{PATH} is not current; see the head of tests/config.rs"
    );
}

/// A file as the schema sees it.
#[cfg(feature = "schema")]
fn as_json(file: &str) -> Option<serde_json::Value> {
    let text = fs::read_to_string(file).ok()?;
    match extension(file) {
        "json" => serde_json::from_str(&text).ok(),
        "toml" => {
            let value: toml::Value = toml::from_str(text.trim_start_matches('\u{feff}')).ok()?;
            serde_json::to_value(value).ok()
        }
        _ => None,
    }
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_accepts_good_files_and_refuses_what_it_can_see_to_be_bad() {
    let schema = serde_json::to_value(buttress::config::schema()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut seen = 0;
    for file in files("tests/config/good") {
        let Some(instance) = as_json(&file) else { continue };
        let errors: Vec<String> = validator
            .iter_errors(&instance)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{file}: {errors:#?}");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
    for file in [
        "durations.toml",
        "rates.toml",
        "top_level.toml",
        "unknown_keys.toml",
        "wrong_kinds.json",
        "kinds.toml",
    ] {
        let instance = as_json(&format!("tests/config/bad/{file}")).unwrap();
        assert!(!validator.is_valid(&instance), "{file}");
    }
}

fn toml(text: &str) -> Source {
    Source::toml(text).env([("", ""); 0])
}

fn told(source: Source) -> Vec<String> {
    match load(source) {
        Ok(settings) => panic!("accepted: {settings:#?}"),
        Err(errors) => errors.issues().iter().map(ToString::to_string).collect(),
    }
}

fn entries(source: Source) -> Vec<String> {
    let settings = load(source).unwrap_or_else(|errors| panic!("{errors}"));
    let entries = Effective::of(&settings).unwrap().entries();
    entries
        .iter()
        .filter(|entry| entry.origin.to_string() != "built in")
        .map(|entry| format!("{} = {} ({})", entry.path, entry.value, entry.origin))
        .collect()
}

#[test]
fn the_example_means_what_it_says() {
    let settings = load(Source::path("tests/config/good/issue.toml")).unwrap();
    let retry = RetryConfig::new()
        .backoff(Backoff::exponential(ms(100), 2.0, secs(2)))
        .budget(
            RetryBudgetConfig::new()
                .ratio(0.2)
                .min_per_second(3)
                .window(secs(10)),
        )
        .on("502..504")
        .on("connect")
        .on("timeout");
    let breaker = CircuitBreakerConfig::new()
        .count_window(100)
        .minimum_calls(20)
        .failure_rate(0.5)
        .slow_calls(ms(1500), Rate::percent(80.0))
        .open_wait(secs(5))
        .open_growth(2.0, secs(60))
        .probes(3)
        .max_half_open_stay(secs(30), StayEnd::Open)
        .record("io")
        .record("timeout")
        .record("5xx")
        .ignore("404");
    let stack = |timeout| {
        StackConfig::new()
            .stage("total", TimeoutConfig::new(secs(8)))
            .stage("retry", retry.clone())
            .stage("circuit_breaker", breaker.clone())
            .stage("timeout", TimeoutConfig::new(timeout))
            .stage("bulkhead", BulkheadConfig::new(64).max_wait(ms(50)))
    };
    assert_eq!(settings.stacks["payments"], stack(secs(2)));
    assert_eq!(settings.stacks["search"], stack(ms(500)));
    assert_eq!(settings.check(&predicates()), Ok(()));
    for other in ["tests/config/good/issue.json", "tests/config/good/issue.yaml"] {
        if cfg!(feature = "yaml") || extension(other) == "json" {
            assert_eq!(load(Source::path(other)).unwrap(), settings, "{other}");
        }
    }
}

// ---- The environment.

const PAYMENTS: &str = "
[stacks.payments]
timeout = \"2s\"
bulkhead = { max_concurrent = 5, max_wait = \"1s\" }
retry = { backoff = { initial = \"1s\" } }

[stacks.my-api]
order = [\"total-limit\"]
total-limit = { kind = \"timeout\", limit = \"9s\" }

[stacks.a__b]
";

#[test]
fn a_variable_overrides_the_key_that_it_names() {
    let cases = [
        (
            "STACKS__PAYMENTS__TIMEOUT",
            "1s",
            "payments.timeout.limit = \"1s\"",
        ),
        (
            "STACKS__PAYMENTS__TIMEOUT__LIMIT",
            "1s",
            "payments.timeout.limit = \"1s\"",
        ),
        (
            "stacks__payments__timeout",
            "1s",
            "payments.timeout.limit = \"1s\"",
        ),
        (
            "STACKS__PAYMENTS__TIMEOUT",
            "{ limit = \"3s\" }",
            "payments.timeout.limit = \"3s\"",
        ),
        (
            "STACKS__PAYMENTS__BULKHEAD",
            "7",
            "payments.bulkhead.max_concurrent = 7",
        ),
        (
            "STACKS__PAYMENTS__BULKHEAD__MAX_QUEUE",
            "7",
            "payments.bulkhead.max_queue = 7",
        ),
        (
            "STACKS__PAYMENTS__RETRY__ON",
            "[\"io\", 503]",
            "payments.retry.on = [\"io\", \"503\"]",
        ),
        (
            "STACKS__PAYMENTS__RETRY__BACKOFF__FACTOR",
            "1.5",
            "payments.retry.backoff.factor = 1.5",
        ),
        (
            "STACKS__PAYMENTS__CIRCUIT_BREAKER__FAILURE_RATE",
            "20%",
            "payments.circuit_breaker.failure_rate = \"20%\"",
        ),
        (
            "STACKS__PAYMENTS__CIRCUIT_BREAKER__OPEN__AUTOMATIC_HALF_OPEN",
            "true",
            "payments.circuit_breaker.open.automatic_half_open = true",
        ),
        (
            "STACKS__MY_API__TOTAL_LIMIT",
            "4s",
            "my-api.total-limit.limit = \"4s\"",
        ),
        ("STACKS__A__B__TIMEOUT", "4s", "a__b.timeout.limit = \"4s\""),
        (
            "DEFAULTS__RETRY__MAX_ATTEMPTS",
            "9",
            "payments.retry.max_attempts = 9",
        ),
    ];
    for (name, value, expected) in cases {
        let name = format!("BUTTRESS__{name}");
        let found = entries(Source::toml(PAYMENTS).env([(&*name, value)]));
        let origin = if name.contains("DEFAULTS") {
            "defaults, "
        } else {
            ""
        };
        let expected = format!("stacks.{expected} ({origin}environment variable {name})");
        assert!(found.contains(&expected), "{expected} is not among {found:#?}");
    }
    // What stood beside the key stays.
    let found = entries(Source::toml(PAYMENTS).env([("BUTTRESS__STACKS__PAYMENTS__BULKHEAD", "7")]));
    assert!(
        found.contains(&"stacks.payments.bulkhead.max_wait = \"1s\" (TOML:4)".to_owned()),
        "{found:#?}"
    );
    let found = entries(
        Source::toml(PAYMENTS)
            .env([("MY__STACKS__PAYMENTS__TIMEOUT", "1s")])
            .env_prefix("MY"),
    );
    let by_prefix = |entry: &String| entry.ends_with("(environment variable MY__STACKS__PAYMENTS__TIMEOUT)");
    assert!(found.iter().any(by_prefix), "{found:#?}");
    // Other prefixes are nobody's.
    for name in [
        "BUTTRESS_STACKS__PAYMENTS__TIMEOUT",
        "XBUTTRESS__STACKS__PAYMENTS__TIMEOUT",
        "BUTTRESS",
    ] {
        let plain = entries(toml(PAYMENTS));
        assert_eq!(
            entries(Source::toml(PAYMENTS).env([(name, "1s")])),
            plain,
            "{name}"
        );
    }
}

#[test]
fn a_variable_that_names_nothing_is_an_error_that_names_it() {
    let cases = [
        (
            "STACKS__PAYMENT__TIMEOUT",
            "stacks.payment.timeout = \"1s\": it names no stack; did you mean `payments`? accepted: payments, my-api, a__b",
        ),
        (
            "STACKS__NEW__TIMEOUT",
            "stacks.new.timeout = \"1s\": it names no stack; accepted: payments, my-api, a__b",
        ),
        ("STACKS", "stacks = \"1s\": accepted: with a key below it"),
        (
            "TIMEOUT",
            "timeout = \"1s\": accepted behind the prefix: STACKS or DEFAULTS",
        ),
        (
            "",
            "\"\" = \"1s\": accepted: names of keys with two underscores between them",
        ),
        (
            "STACKS____TIMEOUT",
            "stacks.\"\".timeout = \"1s\": accepted: names of keys with two underscores between them",
        ),
        (
            "STACKS__PAYMENTS__RETRY__BACKOFF__INITIAL__X",
            "stacks.payments.retry.backoff.initial.x = \"1s\": `initial` is no table, and has no keys below it",
        ),
    ];
    for (name, message) in cases {
        let name = format!("BUTTRESS__{name}");
        let expected = format!("environment variable {name}: {message}");
        assert_eq!(told(Source::toml(PAYMENTS).env([(&*name, "1s")])), [expected]);
    }
    let none = told(Source::toml("").env([("BUTTRESS__STACKS__A__TIMEOUT", "1s")]));
    assert!(
        none[0].ends_with("it names no stack; the file has none"),
        "{none:?}"
    );
    let twins = Source::toml("[stacks.a-b]\n[stacks.a_b]").env([("BUTTRESS__STACKS__A_B__TIMEOUT", "1s")]);
    let twins = told(twins);
    assert!(twins[0].ends_with("it may mean `a-b` or `a_b`"), "{twins:?}");
}

#[test]
fn a_value_from_a_variable_is_refused_as_one_from_the_file() {
    let cases = [
        (
            "STACKS__PAYMENTS__TIMEOUT",
            "5",
            "stacks.payments.timeout = 5: a bare number is no duration; for seconds write \"5s\", for milliseconds \"5ms\"",
        ),
        (
            "STACKS__PAYMENTS__RETRY__MAX_ATEMPTS",
            "5",
            "stacks.payments.retry.max_atempts = 5: unknown key; did you mean `max_attempts`? accepted: max_attempts, \
             max_elapsed, backoff, max_hint, budget, on, never_on",
        ),
        (
            "STACKS__PAYMENTS__RETRY__ON",
            "io",
            "stacks.payments.retry.on = \"io\": accepted: a list; write [\"io\"]",
        ),
        (
            "STACKS__PAYMENTS",
            "io",
            "stacks.payments = \"io\": accepted: a table of stages by name",
        ),
    ];
    for (name, value, message) in cases {
        let name = format!("BUTTRESS__{name}");
        let expected = format!("environment variable {name}: {message}");
        assert_eq!(told(Source::toml(PAYMENTS).env([(&*name, value)])), [expected]);
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_unicode_is_an_error_only_where_it_is_asked_for() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    let broken = || OsString::from_vec(vec![0xff]);
    assert!(load(Source::toml(PAYMENTS).env([("PATH".into(), broken()), (broken(), broken())])).is_ok());
    assert_eq!(
        told(Source::toml(PAYMENTS).env([("BUTTRESS__STACKS__PAYMENTS__TIMEOUT", broken())])),
        [
            "environment variable BUTTRESS__STACKS__PAYMENTS__TIMEOUT: stacks.payments.timeout: the value is not valid Unicode"
        ]
    );
    assert_eq!(
        told(Source::toml("[stacks.a]\ntimeout = \"${X:-1s}\"").env([("X", broken())])),
        ["TOML:2:11: stacks.a.timeout = \"${X:-1s}\": the environment variable X is not valid Unicode"]
    );
}

#[test]
fn two_dollars_are_one_and_variables_may_stand_anywhere_in_a_string() {
    let cases = [
        ("${A}", "1s"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $", "$A $"),
        ("{${A}}", "{1s}"),
        ("${A}${A}", "1s1s"),
        ("${B:-x:-y}", "x:-y"),
        ("${B:-}", ""),
        ("${E}", ""),
        ("${E:-d}", "d"),
        ("${_a1:-é}", "é"),
        ("a${A}$${A}$", "a1s${A}$"),
    ];
    for (text, expected) in cases {
        // What keys mean is for the program, so that any text is accepted there; but none at all is not.
        let text = format!("[stacks.a]\nper = \"x{text}\"");
        let settings = load(Source::toml(text.clone()).env([("A", "1s"), ("E", "")])).unwrap();
        assert_eq!(
            settings.stacks["a"].keyed.as_ref().unwrap().per,
            format!("x{expected}"),
            "{text}"
        );
    }
    for text in [
        "${", "${}", "${1a}", "${a b}", "${a", "${:-x}", "${é}", "${A", "${B}", "x$${${",
    ] {
        let told = told(Source::toml(format!("[stacks.a]\nper = \"{text}\"")).env([("A", "1s")]));
        assert_eq!(told.len(), 1, "{text}: {told:?}");
    }
}

// ---- Sources.

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let told_of = |path: &str| told(Source::path(path)).join("\n");
    let missing = told_of("tests/config/none.toml");
    assert!(
        missing.starts_with("tests/config/none.toml: the file cannot be read: "),
        "{missing}"
    );
    assert!(told_of("tests/config/good/.toml").contains("the extension does not tell the format"));
    assert!(told_of("tests/config").contains("the extension does not tell the format"));
    // Where there is no end, reading stops.
    if Path::new("/dev/zero").exists() {
        let folder = std::env::temp_dir().join(format!("buttress-config-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let endless = folder.join("endless.toml");
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
        let told = told_of(endless.to_str().unwrap());
        assert!(
            told.contains("the text has 4194305 bytes; accepted: at most 4194304"),
            "{told}"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_file_is_read_at_every_load() {
    let path = std::env::temp_dir().join(format!("buttress-config-{}.toml", std::process::id()));
    let source = Source::path(&path).env([("", ""); 0]);
    for limit in [1, 2] {
        fs::write(&path, format!("[stacks.a]\ntimeout = \"{limit}s\"")).unwrap();
        let stack = StackConfig::new().stage("timeout", TimeoutConfig::new(secs(limit)));
        assert_eq!(load(source.clone()).unwrap().stacks["a"], stack);
    }
    assert_eq!(source.file(), Some(&*path));
    fs::remove_file(&path).unwrap();
    assert!(load(source).is_err());
}

#[test]
fn a_source_shows_neither_its_text_nor_the_environment() {
    let source = Source::toml("secret")
        .env([("secret", "secret")])
        .named("stacks.toml");
    assert_eq!(format!("{source:?}"), "Source(\"stacks.toml\")");
    assert_eq!(told(source)[0].split(": ").next(), Some("stacks.toml:1:7"));
}

// ---- Bounds.

fn lines(numbers: std::ops::Range<u32>, line: impl Fn(u32) -> String) -> String {
    numbers.map(line).collect::<Vec<_>>().concat()
}

#[test]
fn a_file_with_very_many_faults_is_told_in_part() {
    let text = lines(0..5000, |at| format!("[stacks.s{at}]\ntimeout = {at}\n"));
    let told = told(toml(&text));
    assert_eq!(told.len(), 1001);
    assert_eq!(
        told[1000],
        "more than 1000 things are wrong; what follows is not told"
    );
}

#[test]
fn what_stacks_take_from_others_is_bounded() {
    let stages = lines(0..1000, |at| format!("t{at} = {{ kind = \"timeout\" }}\n"));
    let children = lines(0..1000, |at| format!("[stacks.c{at}]\nextends = \"base\"\n"));
    let told = told(toml(&format!("[stacks.base]\n{stages}{children}")));
    let bounded = |line: &String| {
        line == "stacks: too much is taken from stacks that are extended; accepted: 500000 values in all"
    };
    assert!(told.iter().any(bounded), "{}", told.last().unwrap());
    // A long chain is no recursion.
    let chain = lines(0..20_000, |at| {
        format!("[stacks.s{at}]\nextends = \"s{}\"\n", at + 1)
    });
    let settings = load(toml(&format!("{chain}[stacks.s20000]\ntimeout = \"1s\""))).unwrap();
    assert_eq!(settings.stacks["s0"], settings.stacks["s20000"]);
    assert_eq!(settings.stacks.len(), 20_001);
}

// ---- The effective configuration.

#[test]
fn the_effective_configuration_is_json_too_in_the_shape_of_a_file() {
    let settings = load(toml(
        "[stacks.a]\nper = \"authority\"\nx = { kind = \"timeout\", limit = \"1s\" }\norder = [\"x\"]",
    ))
    .unwrap();
    let json = serde_json::to_string(&Effective::of(&settings).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"stacks":{"a":{"order":["x"],"per":"authority","max_keys":1024,"idle":"10m","x":{"kind":"timeout","limit":"1s"}}}}"#
    );
    assert_eq!(serde_json::to_string(&settings).unwrap(), json);
    assert_eq!(load(Source::json(json).env([("", ""); 0])).unwrap(), settings);
}

#[test]
fn what_no_file_can_hold_is_not_written() {
    let shared = RetryBudgetConfig::new().build().unwrap();
    let cases = [
        (
            StackConfig::new().stage(
                "retry",
                RetryConfig::new().backoff(Backoff::function(|_, _| secs(1))),
            ),
            "stacks.a.retry: a backoff that is a closure cannot be written",
        ),
        (
            StackConfig::new().stage("retry", RetryConfig::new().shared_budget(&shared)),
            "stacks.a.retry: a budget that others share cannot be written",
        ),
        (
            StackConfig::new()
                .stage("x", TimeoutConfig::default())
                .stage("x", TimeoutConfig::default()),
            "stacks.a.x: two stages of one name cannot be written",
        ),
    ];
    for (stack, message) in cases {
        let mut settings = Settings::default();
        settings.stacks.insert("a".to_owned(), stack);
        assert_eq!(Effective::of(&settings).unwrap_err().to_string(), message);
    }
}

#[test]
fn settings_by_hand_are_checked_as_those_of_a_file() {
    let mut settings = Settings::default();
    let stack = StackConfig::new()
        .stage("x", TimeoutConfig::new(Duration::ZERO))
        .stage("x", RetryConfig::new().on("conect").never_on("io"))
        .stage("a/b", CircuitBreakerConfig::new().record("5xx").ignore("9xx"))
        .keyed("", KeyedConfig::new().max_keys(0));
    settings.stacks.insert("my stack".to_owned(), stack);
    settings.stacks.insert(String::new(), StackConfig::new());
    let many = (0..33).fold(StackConfig::new(), |stack, at| {
        stack.stage(&format!("t{at}"), TimeoutConfig::default())
    });
    settings.stacks.insert("many".to_owned(), many);
    let known = "body, bulkhead_full, circuit_open, connect, dns, error, failure, io, quota, reset, timeout, or statuses such as 5xx, 502..504";
    let names =
        "accepted as a name: 1 to 100 characters without `/`, blanks at an end and control characters";
    assert_eq!(
        settings
            .check(&predicates())
            .unwrap_err()
            .to_string()
            .split('\n')
            .collect::<Vec<_>>(),
        [
            &format!("stacks.\"\": {names}"),
            "stacks.many: 33 stages; accepted: at most 32",
            "stacks.\"my stack\".x.limit = 0ns: accepted: above zero",
            "stacks.\"my stack\".x: another stage has this name",
            &format!(
                "stacks.\"my stack\".x.on = \"conect\": unknown name; did you mean `connect`? accepted: {known}"
            ),
            &format!("stacks.\"my stack\".\"a/b\": {names}"),
            &format!("stacks.\"my stack\".\"a/b\".ignore = \"9xx\": unknown name; accepted: {known}"),
            "stacks.\"my stack\".per: accepted: what a key is, such as \"authority\"",
            "stacks.\"my stack\".max_keys = 0: accepted: from 1 to 10000000",
        ]
    );
}

/// What stands between two lines of a document, code without its fences.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0
}

#[test]
fn the_reference_shows_files_that_are_accepted_and_lists_every_key() {
    let reference = include_str!("../docs/config.md");
    load(toml(between(reference, "```toml\n", "```"))).unwrap();
    let all = load(Source::path("tests/config/good/off.toml").env(VARIABLES)).unwrap();
    let every = load(toml(
        "[stacks.a]\nper = \"x\"\nretry = {}\ncircuit_breaker = {}\ntimeout = {}\nbulkhead = {}",
    ))
    .unwrap();
    for settings in [all, every] {
        for entry in Effective::of(&settings).unwrap().entries() {
            let key = entry.path.rsplit('.').next().unwrap();
            let listed = [format!("`{key}`"), format!("`.{key}`"), format!(".{key}`")];
            assert!(
                listed.iter().any(|key| reference.contains(key)),
                "{} is not listed",
                entry.path
            );
        }
    }
    for name in predicates().names().filter(|name| *name != "quota") {
        assert!(reference.contains(&format!("`{name}`")), "{name} is not listed");
    }
}
