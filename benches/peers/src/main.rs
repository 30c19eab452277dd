//! What a guarded call costs, beside other libraries, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! | option | what it does |
//! |---|---|
//! | `--json` | one object per line in place of the table |
//! | `--group NAME` | only that group, by name or number; more than once: those groups |
//! | `--quick` | fewer rounds, smaller peers: less than a minute |
//! | `--bars` | after the groups, what the crate is held to, and whether it is so |
//!
//! Every row of a group is timed in turn, round after round; the median, the fastest round and the quartiles are
//! shown. Time is that of the thread on its processor, except where tasks contend. "Over bare" is what a row costs
//! more than the same service without a guard. Compare rows of one run with each other, never with another machine's.
//!
//! | file | subject |
//! |---|---|
//! | `services.rs` | the services that are guarded |
//! | `guards/` | the guards, a file for each library |
//! | `groups/` | what is measured, a file for each group or part of one |
//! | `rounds.rs`, `meter.rs` | how it is measured |
//! | `report.rs`, `bars.rs`, `machine.rs` | how it is shown |

mod bars;
mod effort;
mod groups;
mod guards;
mod machine;
mod meter;
mod report;
mod rounds;
mod services;

use std::{process::ExitCode, time::Duration};

use lexopt::{Arg, Parser, ValueExt};

use crate::{
    effort::Effort,
    groups::{GROUPS, Group, flight},
    report::Line,
};

struct Options {
    json: bool,
    bars: bool,
    effort: Effort,
    groups: Vec<&'static Group>,
    /// A process that was started for the calls in flight of one subject.
    in_flight: Option<String>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        json: false,
        bars: false,
        effort: Effort { quick: false },
        groups: Vec::new(),
        in_flight: None,
    };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => options.json = true,
            Arg::Long("bars") => options.bars = true,
            Arg::Long("quick") => options.effort.quick = true,
            Arg::Long("group") => options.groups.push(group(&parser.value()?.string()?)?),
            Arg::Long("in-flight") => options.in_flight = Some(parser.value()?.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    if options.groups.is_empty() {
        options.groups = GROUPS.iter().collect();
    }
    Ok(options)
}

fn group(wanted: &str) -> Result<&'static Group, lexopt::Error> {
    let found = GROUPS
        .iter()
        .zip(1..)
        .find(|(group, number)| group.name == wanted || *wanted == format!("{number}"));
    found.map(|(group, _)| group).ok_or_else(|| {
        let names = GROUPS.map(|group| group.name);
        format!("no group `{wanted}`: there are {}", names.join(", ")).into()
    })
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("peers: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Timers are armed in this one. It has one that is due sooner than those of the calls, as any application has: a
    // timer that becomes the next one wakes the thread that waits for it, and costs ten times as much.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let entered = runtime.enter();
    if let Some(subject) = &options.in_flight {
        return match flight::answer(subject) {
            Some(answer) => {
                println!("{answer}");
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        };
    }
    if !options.json {
        machine::print();
    }
    let mut all = Vec::new();
    for group in &options.groups {
        let mut lines = (group.measure)(options.effort);
        report::compare(&mut lines);
        show(group, &lines, options.json);
        all.append(&mut lines);
    }
    if options.bars {
        bars::print(&all);
    }
    drop(entered);
    ExitCode::SUCCESS
}

fn show(group: &Group, lines: &[Line], json: bool) {
    if json {
        for line in lines {
            println!("{}", line.json());
        }
        return;
    }
    println!("\n== {}: {}", group.name, group.about);
    report::print_head();
    report::print(lines);
}
