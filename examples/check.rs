//! Checks a file of stacks: what is wrong with it, what each stack costs at worst, and which orders and values defeat
//! themselves.
//!
//! `cargo run --features config --example check -- FILE`

#[path = "shared/told.rs"]
mod told;

use std::{collections::BTreeSet, fmt, io, io::Write, path::PathBuf, process::ExitCode, time::Duration};

use buttress::{
    ConfigErrors, Issue, LintReport, Predicate, Predicates, Settings, Severity, StackConfig,
    config::{Effective, Source},
};
use lexopt::{
    Arg::{Long, Short, Value},
    ValueExt,
};
use told::told;

const HELP: &str = "\
Checks a file of stacks: what is wrong with it, what each stack costs at worst, and which orders and
values defeat themselves.

Usage: cargo run --features config --example check -- [OPTIONS] FILE

  FILE              In TOML or JSON; with feature `yaml` also in YAML.
  --known NAME      A predicate that the program registers; may be given many times.
  --deny-warnings   Exit with status 1 on warnings too.
  --effective       Print every value of every stack and where it came from, in TOML.
  --resilience4j    FILE is what Spring Boot's resilience4j is set up with, in YAML or .properties
                    (feature `yaml`). With --effective: the same as a file of this crate.
  --lenient         Of what resilience4j has and this crate has not: warn, and go on.
  --profile NAME    A profile of Spring's that is active; may be given many times.
  --help            Print this.

Exits with status 1 when something is wrong with the file, and with 2 when something is wrong with
these options.
";

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Options {
    file: PathBuf,
    known: BTreeSet<String>,
    deny_warnings: bool,
    effective: bool,
    resilience4j: Option<Foreign>,
}

/// How a file of resilience4j is read.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "yaml"), allow(dead_code, reason = "it needs the feature"))]
struct Foreign {
    lenient: bool,
    profiles: Vec<String>,
}

fn main() -> ExitCode {
    let ran = match options(lexopt::Parser::from_env()) {
        Ok(Some(options)) => run(&options, &mut io::stdout().lock()),
        Ok(None) => write!(io::stdout(), "{HELP}").map(|()| true),
        Err(error) => {
            eprintln!("error: {error}\nSee --help.");
            return ExitCode::from(2);
        }
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Who reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line. `None`: it asks for help.
fn options(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options::default();
    let (mut file, mut resilience4j, mut foreign) = (None, false, Foreign::default());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("known") => {
                options.known.insert(parser.value()?.string()?);
            }
            Long("deny-warnings") => options.deny_warnings = true,
            Long("effective") => options.effective = true,
            Long("resilience4j") => resilience4j = true,
            Long("lenient") => foreign.lenient = true,
            Long("profile") => foreign.profiles.push(parser.value()?.string()?),
            Value(path) if file.is_none() => file = Some(PathBuf::from(path)),
            _ => return Err(arg.unexpected()),
        }
    }
    if resilience4j {
        options.resilience4j = Some(foreign);
    } else if foreign.lenient || !foreign.profiles.is_empty() {
        return Err("--lenient and --profile need --resilience4j".into());
    }
    options.file = file.ok_or("which file?")?;
    Ok(Some(options))
}

/// Whether the file is fine.
fn run(options: &Options, out: &mut impl Write) -> io::Result<bool> {
    let settings = match load(options) {
        Ok(settings) => settings,
        Err(errors) => {
            writeln!(out, "{errors}\n\n{}", Count::of(errors.issues()))?;
            return Ok(false);
        }
    };
    if options.effective {
        match Effective::of(&settings) {
            Ok(effective) => write!(out, "{effective}")?,
            Err(errors) => writeln!(out, "{errors}")?,
        }
        return Ok(true);
    }
    let mut said = settings.notes.clone();
    for (name, report) in settings.lint() {
        show(&name, &settings.stacks[&name], &report, out)?;
        said.extend(report.issues);
    }
    for note in &settings.notes {
        writeln!(out, "{note}")?;
    }
    if !settings.notes.is_empty() {
        writeln!(out)?;
    }
    let count = Count::of(&said);
    let stacks = match settings.stacks.len() {
        1 => "1 stack".to_owned(),
        stacks => format!("{stacks} stacks"),
    };
    writeln!(out, "{stacks}: {count}")?;
    Ok(!(options.deny_warnings && count.warnings > 0))
}

fn load(options: &Options) -> Result<Settings, ConfigErrors> {
    // What a name means does not matter here.
    let predicates = options
        .known
        .iter()
        .fold(Predicates::default(), |predicates, name| {
            predicates.with(name, Predicate::any_error())
        });
    source(options)?.load(&predicates)
}

#[cfg(feature = "yaml")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature there is an error")]
fn source(options: &Options) -> Result<Source, ConfigErrors> {
    use buttress::config::Resilience4j;

    let Some(foreign) = &options.resilience4j else {
        return Ok(Source::path(&options.file));
    };
    let mut file = Resilience4j::path(&options.file);
    if foreign.lenient {
        file = file.lenient();
    }
    Ok(foreign.profiles.iter().fold(file, Resilience4j::profile).into())
}

#[cfg(not(feature = "yaml"))]
fn source(options: &Options) -> Result<Source, ConfigErrors> {
    if options.resilience4j.is_some() {
        let message = "this was built without the feature `yaml`, which --resilience4j needs";
        return Err(Issue::error("", message).into());
    }
    Ok(Source::path(&options.file))
}

/// A stack in its order, with what it costs from each stage on, and what there is to say.
fn show(name: &str, stack: &StackConfig, report: &LintReport, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<(String, String, String, String)> = stack
        .stages
        .iter()
        .zip(&report.stages)
        .enumerate()
        .map(|(depth, (stage, worst))| {
            let calls = match worst.calls {
                1 => "1 call".to_owned(),
                calls => format!("{calls} calls"),
            };
            (
                format!("{}{}", "  ".repeat(depth + 1), stage.name),
                told(&stage.policy),
                wait(worst.wait),
                calls,
            )
        })
        .collect();
    let width = |of: fn(&(String, String, String, String)) -> &str| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
    };
    let (stages, policies) = (width(|row| &row.0), width(|row| &row.1));
    let waits = width(|row| &row.2);
    if rows.is_empty() {
        writeln!(out, "{name}")?;
    } else {
        let head = stages + 2 + policies + 2;
        writeln!(out, "{name:head$}at worst, from here inward")?;
    }
    for (stage, policy, wait, calls) in &rows {
        writeln!(
            out,
            "{stage:stages$}  {policy:policies$}  {wait:>waits$}, {calls}"
        )?;
    }
    let calls = match report.worst_calls {
        1 => "makes one call".to_owned(),
        calls => format!("makes {calls} calls"),
    };
    let wait = match report.worst_wait {
        Some(longest) => format!("waits {longest:?}"),
        None => "waits for ever".to_owned(),
    };
    writeln!(
        out,
        "  Worst case: a caller {wait} and {calls} upstream; {}.",
        report.why
    )?;
    for issue in &report.issues {
        writeln!(out, "  {issue}")?;
    }
    writeln!(out)
}

fn wait(wait: Option<Duration>) -> String {
    wait.map_or_else(|| "no limit".to_owned(), |wait| format!("{wait:?}"))
}

/// How much was said.
struct Count {
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl Count {
    fn of(issues: &[Issue]) -> Self {
        let count = |severity| issues.iter().filter(|issue| issue.severity == severity).count();
        Self {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notes: count(Severity::Note),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.errors, "error"),
            (self.warnings, "warning"),
            (self.notes, "note"),
        ];
        let mut said = counts.into_iter().filter(|(count, _)| *count > 0).peekable();
        if said.peek().is_none() {
            return f.write_str("nothing to say");
        }
        for (at, (count, what)) in said.enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{comma}{count} {what}{plural}")?;
        }
        Ok(())
    }
}
