//! Any bytes as a file of settings: nothing panics, and what is accepted reads back from its effective configuration.
//!
//! The first byte chooses the format, so that one corpus serves all three.

#![no_main]

use buttress::{
    Predicates,
    config::{Effective, Source},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((format, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let source = match format % 3 {
        0 => Source::toml(text),
        1 => Source::json(text),
        _ => Source::yaml(text),
    };
    let predicates = Predicates::default();
    let mut variables = vec![("VALUE", "1s"), ("NUMBER", "3")];
    if text.contains("override") {
        variables.push(("BUTTRESS__STACKS__A__TIMEOUT", "2s"));
    }
    let source = source.env(variables);
    if let Ok(settings) = source.load(&predicates) {
        assert_eq!(settings.check(&predicates), Ok(()));
        let written = Effective::of(&settings).expect("a file can hold what came from one");
        let again = Source::toml(written.to_string()).env([("", ""); 0]).load(&predicates);
        assert_eq!(again.as_ref(), Ok(&settings), "{written}");
    }
});
