//! Any bytes as what resilience4j is set up with: nothing panics, and what is accepted reads back from its effective
//! configuration, and can be linted.
//!
//! The first byte chooses the format.

#![no_main]

use buttress::{
    Predicate, Predicates,
    config::{Effective, Resilience4j, Source},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((format, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let file = match format % 2 {
        0 => Resilience4j::yaml(text),
        _ => Resilience4j::properties(text),
    };
    let file = if format & 2 == 0 { file } else { file.lenient() };
    let predicates = Predicates::default().with("com.example.A", Predicate::any_error());
    if let Ok(settings) = file.env([("VALUE", "1s"), ("NUMBER", "3")]).load(&predicates) {
        assert_eq!(settings.check(&predicates), Ok(()));
        settings.lint();
        let written = Effective::of(&settings).expect("a file can hold what came from one");
        let again = Source::toml(written.to_string()).env([("", ""); 0]).load(&predicates);
        assert_eq!(again.as_ref(), Ok(&settings), "{written}");
    }
});
