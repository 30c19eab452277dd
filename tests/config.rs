//! Settings from files: good ones as their effective configuration, bad ones as their errors.
//!
//! Beside each file in `config/good` and `config/bad` lies what comes of it. After a change that is meant,
//! `BUTTRESS_BLESS=1 cargo test --all-features --test config` writes these anew; read the difference.

#![cfg(feature = "config")]

use std::{fs, path::Path};

use buttress::{
    ConfigErrors, Predicate, Predicates, Settings,
    config::{Effective, Source},
};

fn predicates() -> Predicates {
    Predicates::default().with("quota", Predicate::any_error())
}

fn load(source: Source) -> Result<Settings, ConfigErrors> {
    source.load(&predicates())
}

/// The files of a folder that can be read, by their names.
fn files(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .filter(|name| {
            !Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "txt")
        })
        .filter(|name| cfg!(feature = "yaml") || !name.ends_with(".yaml"))
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
    let schema = serde_json::to_string_pretty(&buttress::config::schema()).unwrap();
    expect("schema/buttress.schema.json", &format!("{schema}\n"));
}

/// A file as the schema sees it.
#[cfg(feature = "schema")]
fn as_json(file: &str) -> Option<serde_json::Value> {
    let text = fs::read_to_string(file).ok()?;
    if file.ends_with(".json") {
        serde_json::from_str(&text).ok()
    } else if file.ends_with(".toml") {
        let value: toml::Value = toml::from_str(text.trim_start_matches('\u{feff}')).ok()?;
        serde_json::to_value(value).ok()
    } else {
        None
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
