//! The example that replays scenarios, as a program: what it prints, and how it fails.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/example.rs"]
mod example;

use std::{
    fs::File,
    io::{Read, Write},
    process::{Output, Stdio},
    thread,
};

use example::example;
use flate2::read::GzDecoder;
use serde_json::Value;

const GOOD: &str = r#"{"name":"one","config":{"window":"count","size":2,"minimum_calls":1,"failure_rate_threshold":50,"slow_call_rate_threshold":100,"slow_call_duration_ms":1000,"permitted_half_open":1,"wait_open_ms":1000,"wait_open_multiplier":null,"wait_open_max_ms":null},"steps":[{"op":"call","outcome":"error","ms":1},{"op":"acquire"}]}"#;

fn replay(input: &[u8]) -> Output {
    let mut child = example("replay")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // Beside the reading, or both would wait for each other. It may stop reading early, at a fault.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

fn recorded() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/breaker.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn each_recorded_scenario_gets_one_line_with_one_answer_per_step() {
    let recorded = recorded();
    let ran = replay(recorded.as_bytes());
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
    assert!(ran.status.success());
    let answers = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(answers.lines().count(), 300);
    for (scenario, answer) in recorded.lines().zip(answers.lines()) {
        let scenario: Value = serde_json::from_str(scenario).unwrap();
        let answer: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(answer["name"], scenario["name"]);
        let (steps, got) = (
            scenario["steps"].as_array().unwrap(),
            answer["got"].as_array().unwrap(),
        );
        assert_eq!(got.len(), steps.len(), "{}", scenario["name"]);
    }
}

#[test]
fn an_answer_says_what_the_breaker_did_in_the_terms_of_the_file() {
    let ran = replay(format!("{GOOD}\n").as_bytes());
    let answer: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(answer["name"], "one");
    let first = &answer["got"][0];
    assert_eq!(first["permitted"], true);
    assert_eq!(first["state"], "open");
    assert_eq!(first["failure_rate"], 100.0);
    let second = &answer["got"][1];
    assert_eq!(second["permitted"], false);
    assert_eq!(second["not_permitted"], 1);
}

#[track_caller]
fn fails_at(line: usize, input: &[u8]) {
    let ran = replay(input);
    let complaint = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(
        complaint.contains(&format!("line {line}:")),
        "line {line} in: {complaint}"
    );
}

#[test]
fn malformed_input_gets_one_line_that_names_the_line() {
    fails_at(1, b"not json\n");
    fails_at(1, b"{}\n");
    fails_at(3, format!("{GOOD}\n\n{{\"name\":\n").as_bytes());
    fails_at(
        2,
        format!("{GOOD}\n{}\n", GOOD.replace("acquire", "borrow")).as_bytes(),
    );
    fails_at(
        2,
        format!("{GOOD}\n{}\n", GOOD.replace("\"size\":2,", "")).as_bytes(),
    );
    fails_at(2, &[GOOD.as_bytes(), b"\n\xff\xfe\n"].concat());
}

#[test]
fn a_setting_that_the_breaker_refuses_gets_one_line_that_names_the_line() {
    fails_at(
        2,
        format!("{GOOD}\n{}\n", GOOD.replace("\"size\":2", "\"size\":0")).as_bytes(),
    );
}

#[test]
fn no_input_is_no_answer_and_no_fault() {
    let ran = replay(b"");
    assert!(ran.status.success());
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (0, 0));
}
