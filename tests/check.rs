//! The example that checks files. What it says of files in `tests/check/` lies beside them; after a change that is
//! meant, `BUTTRESS_BLESS=1 cargo test --all-features --test check` writes it anew.

#![cfg(feature = "yaml")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/example.rs"]
mod example;

use std::fs;

use buttress::{
    Predicate, Predicates,
    config::{Resilience4j, Source},
};
use example::example;

/// What it prints, and its exit status.
fn check(args: &[&str]) -> (String, i32) {
    let ran = example("check").args(args).output().unwrap();
    let said = [ran.stdout, ran.stderr]
        .map(|said| String::from_utf8(said).unwrap())
        .concat();
    (said, ran.status.code().unwrap())
}

#[track_caller]
fn says(path: &str, said: &str) {
    if std::env::var_os("BUTTRESS_BLESS").is_some() {
        fs::write(path, said).unwrap();
    }
    assert_eq!(
        said,
        fs::read_to_string(path).unwrap_or_default(),
        "{path} says something else"
    );
}

#[test]
fn a_sound_file_is_told_by_its_worst_cases() {
    let (said, status) = check(&["--known", "quota", "--deny-warnings", "tests/check/sound.toml"]);
    assert_eq!(status, 0, "{said}");
    says("tests/check/sound.toml.txt", &said);
}

#[test]
fn a_file_that_defeats_itself_is_warned_of_and_refused_only_where_that_is_asked_for() {
    let (said, status) = check(&["tests/check/defeats-itself.toml"]);
    assert_eq!(status, 0, "{said}");
    says("tests/check/defeats-itself.toml.txt", &said);
    assert_eq!(
        check(&["--deny-warnings", "tests/check/defeats-itself.toml"]),
        (said, 1)
    );
}

#[test]
fn a_broken_file_is_refused_with_all_that_is_wrong() {
    let (said, status) = check(&["tests/check/broken.toml"]);
    assert_eq!(status, 1, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("tests/check/broken.toml:2:11: stacks.search.timeout = 5: "),
        "{said}"
    );
    assert!(lines[1].starts_with("tests/check/broken.toml:5:"), "{said}");
    assert!(lines[1].contains("did you mean `max_attempts`?"), "{said}");
    assert_eq!(lines[2..], ["", "2 errors"]);
    let (said, status) = check(&["tests/check/none.toml"]);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.starts_with("tests/check/none.toml: the file cannot be read: "),
        "{said}"
    );
}

#[test]
fn a_name_that_the_program_registers_is_known_where_it_is_told() {
    let (said, status) = check(&["tests/check/sound.toml"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("quota"), "{said}");
}

#[test]
fn a_file_of_resilience4j_is_checked_and_can_be_printed_as_one_of_this_crate() {
    let file = "tests/resilience4j/good/shop.yml";
    let known = "com.example.BusinessException";
    let (said, status) = check(&["--resilience4j", "--known", known, "--deny-warnings", file]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("Worst case: a caller waits 47.5s and makes 5 calls upstream; "),
        "{said}"
    );

    let (toml, status) = check(&["--resilience4j", "--known", known, "--effective", file]);
    assert_eq!(status, 0, "{toml}");
    let predicates = Predicates::new().with(known, Predicate::any_error());
    let again = Source::toml(toml).env([("", ""); 0]).load(&predicates).unwrap();
    assert_eq!(again, Resilience4j::path(file).load(&predicates).unwrap());

    let file = "tests/resilience4j/bad/counterparts.yml";
    assert_eq!(check(&["--resilience4j", file]).1, 1);
    assert_eq!(check(&["--resilience4j", "--lenient", file]).1, 0);
    assert_eq!(
        check(&["--resilience4j", "--lenient", "--deny-warnings", file]).1,
        1
    );
}

#[test]
fn options_that_make_no_sense_have_a_status_of_their_own() {
    for args in [
        &[][..],
        &["--lenient", "a.toml"],
        &["a.toml", "b.toml"],
        &["--colour", "a.toml"],
    ] {
        let (said, status) = check(args);
        assert_eq!(status, 2, "{args:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.ends_with("See --help.\n"),
            "{said}"
        );
    }
    let (help, status) = check(&["--help"]);
    assert!(status == 0 && help.contains("--deny-warnings"), "{help}");
}
