//! The circuit breaker answers as resilience4j 2.4 does: the recorded scenarios, and random ones of the same kind.

mod support;

use std::{
    fs::File,
    io::{BufReader, Read},
};

use flate2::read::GzDecoder;
use proptest::prelude::*;
use support::{
    generate::{beyond_the_recorded, like_the_recorded},
    reference::{self, Answer},
    replay::play,
    scenario::{self, Scenario},
};

fn recorded() -> Vec<Scenario> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/breaker.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let scenarios = scenario::read(BufReader::new(text.as_bytes()));
    scenarios.map(|scenario| scenario.unwrap().1).collect()
}

fn first_difference(scenario: &Scenario, expected: &[Answer], got: &[Answer]) -> Option<String> {
    assert_eq!(
        expected.len(),
        got.len(),
        "{}: one answer per step",
        scenario.name
    );
    let at = expected
        .iter()
        .zip(got)
        .position(|(expected, got)| !expected.agrees_with(got))?;
    Some(format!(
        "{} step {at} {:?}: expected {:?}, got {:?}; config {:?}",
        scenario.name, scenario.steps[at], expected[at], got[at], scenario.config
    ))
}

#[test]
fn the_breaker_agrees_with_all_recorded_scenarios() {
    let scenarios = recorded();
    assert_eq!(scenarios.len(), 300);
    let differences: Vec<_> = scenarios
        .iter()
        .filter_map(|scenario| {
            let expected = scenario.expect.as_ref().expect("the file says what is expected");
            let got = play(&scenario.name, &scenario.config, &scenario.steps).unwrap();
            first_difference(scenario, expected, &got)
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} differ, e.g. {}",
        differences.len(),
        differences[0]
    );
}

#[test]
fn the_reference_model_agrees_with_all_recorded_scenarios() {
    for scenario in recorded() {
        let got = reference::run(&scenario.config, &scenario.steps);
        let difference = first_difference(&scenario, scenario.expect.as_ref().unwrap(), &got);
        assert_eq!(difference, None);
    }
}

fn agrees_with_the_reference(scenario: &Scenario) -> Result<(), TestCaseError> {
    let expected = reference::run(&scenario.config, &scenario.steps);
    let got = play(&scenario.name, &scenario.config, &scenario.steps)
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(first_difference(scenario, &expected, &got), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_agrees_with_the_reference_on_scenarios_like_the_recorded(scenario in like_the_recorded()) {
        agrees_with_the_reference(&scenario)?;
    }

    #[test]
    fn the_breaker_agrees_with_the_reference_beyond_the_recorded(scenario in beyond_the_recorded()) {
        agrees_with_the_reference(&scenario)?;
    }
}
