//! Replays circuit breaker scenarios: reads them on standard input, a JSON object a line, and prints for each the
//! breaker's answers, one per step.
//!
//! ```text
//! gunzip -c tests/data/breaker.jsonl.gz | cargo run --release --example replay > answers.jsonl
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use support::{replay::play, scenario};

fn main() -> ExitCode {
    match replay() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn replay() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = BufWriter::new(io::stdout().lock());
    for scenario in scenario::read(io::stdin().lock()) {
        let (line, scenario) = scenario?;
        let answers = play(&scenario.name, &scenario.config, &scenario.steps)
            .map_err(|error| format!("line {line}: {error}"))?;
        match writeln!(out, "{}", scenario::answers_to_line(&scenario.name, &answers)) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(out.flush()?)
}
