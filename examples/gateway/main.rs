//! A real reverse proxy, held up by stacks of policies at both of its ends, in front of an upstream that falls ill.
//!
//! ```text
//! cargo run --release --example gateway             # both passes, compared: about a minute
//! cargo run --release --example gateway -- --help
//! ```
//!
//! - `guard.rs`: the policies, a layer for axum and one for the HTTP client, set up from `../gateway.toml`. **What to read
//!   for the library.**
//! - `proxy.rs`, `message.rs`: the gateway, an axum server that forwards with a hyper-util client.
//! - `upstream.rs`, `script.rs`: the embedded upstream, and what it goes through.
//! - `ops.rs`: the admin page and the metrics.
//! - `load.rs`, `stats.rs`: the clients, and what they saw.
//! - `pass.rs`, `serve.rs`, `cli.rs`: the program around them; `report.rs`, `comparison.rs`: what it prints.

mod cli;
mod comparison;
mod guard;
mod load;
mod message;
mod ops;
mod pass;
mod proxy;
mod report;
mod script;
mod serve;
mod stats;
#[path = "../shared/told.rs"]
mod told;
mod upstream;

use std::{io::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use axum::http::uri::Authority;
use tokio::net::TcpListener;
use tower::BoxError;

use crate::{
    cli::{Command, Compare},
    comparison::Comparison,
    guard::Guard,
    ops::Ops,
    report::{LEGEND, say, say_policies},
    script::Script,
};

#[tokio::main]
async fn main() -> ExitCode {
    let command = match cli::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => return fail(2, &format!("{error} (see --help)")),
    };
    let done = match command {
        Command::Help => {
            say(cli::HELP.trim_end());
            Ok(())
        }
        Command::Serve(options) => match prepare(options.listen, options.upstream.as_ref()).await {
            Ok(listener) => serve::run(&options, listener).await,
            Err(error) => Err(error),
        },
        Command::Compare(options) => match prepare(options.listen, options.upstream.as_ref()).await {
            Ok(listener) => compare(&options, listener).await,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &whole(&*error)),
    }
}

/// Finds out what can go wrong before anything is printed.
async fn prepare(listen: SocketAddr, upstream: Option<&Authority>) -> Result<TcpListener, BoxError> {
    if let Some(upstream) = upstream {
        upstream::reach(upstream).await?;
    }
    let listener = TcpListener::bind(listen).await;
    listener.map_err(|error| format!("cannot listen on {listen}: {error}").into())
}

/// Both passes, and what they say beside each other.
async fn compare(options: &Compare, listener: TcpListener) -> Result<(), BoxError> {
    let script = options
        .upstream
        .is_none()
        .then(|| Script::lasting(options.length));
    let guard = Guard::stack(options.config.as_deref())?;
    let ops = ops(&guard, &options.ops).await?;
    let patience = pass::patience(options.length);
    warn_of_few_files(options.per_second, patience);

    say(format_args!(
        "{} calls a second go through a reverse proxy to an upstream{}.\n\
         In the first pass the proxy just forwards them, without a timeout or anything else; in the second a\n\
         stack of policies guards each call. A pass takes {} s. A client hangs up when it has no answer\n\
         after {} ms.",
        options.per_second,
        if script.is_some() {
            " that falls ill and recovers"
        } else {
            ""
        },
        options.length.as_secs_f64(),
        patience.as_millis(),
    ));
    if let Some(script) = &script {
        say(format_args!(
            "\nThe upstream is a server with {} workers, which also do the work that nobody waits for any more.\n\
             It goes through these phases:",
            upstream::WORKERS
        ));
        for phase in script.phases() {
            say(format_args!(
                "  {:>5.1} s  {:<14} {}",
                phase.begins.as_secs_f64(),
                phase.name,
                phase.health.meaning()
            ));
        }
        if script.shortest() < guard.longest_open() * 5 {
            say(format_args!(
                "In so short a script the phases are not much longer than the {} ms for which the circuit\n\
                 breaker stays open: the stack wins less than in the usual 30 s.",
                guard.longest_open().as_millis()
            ));
        }
    }
    say("");
    if let Some(ops) = &ops {
        ops.say();
    }
    say_policies(&guard, false);
    say(format_args!("\n{LEGEND}"));

    say("\nPass 1 of 2: without the stack");
    // Both passes use the same socket, one after the other.
    let listener = listener.into_std()?;
    let accept = || TcpListener::from_std(listener.try_clone()?);
    let without = pass::run(options, script.as_ref(), accept()?, &Guard::none()).await?;
    say("\nPass 2 of 2: with the stack");
    let with = pass::run(options, script.as_ref(), accept()?, &guard).await?;

    let comparison = Comparison {
        without: &without,
        with: &with,
        patience,
        script: script.as_ref(),
    };
    say(format_args!(
        "\n{}\n\n{}",
        comparison.table(),
        comparison.conclusion()
    ));
    Ok(())
}

/// The page and the metrics of the guard's stacks.
async fn ops(guard: &Guard, options: &cli::Ops) -> Result<Option<Ops>, BoxError> {
    match guard.registry() {
        Some(registry) => Ops::start(registry, options.listen, options.token.as_deref())
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// Each call may hold four sockets of this process: both ends of two connections. The usual limit of 256 or
/// 1024 open files is too low for a hanging upstream without a timeout, and it can mostly be raised.
fn warn_of_few_files(per_second: u32, patience: Duration) {
    let calls = u64::from(per_second) * patience.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    let wanted = calls * 4 + 200;
    let got = rlimit::increase_nofile_limit(wanted).unwrap_or(0);
    if got < wanted {
        complain(&format!(
            "this process may open only {got} files and wants {wanted}: expect broken connections (see `ulimit -n`)"
        ));
    }
}

/// An error with all its causes, in one line.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn fail(code: u8, message: &str) -> ExitCode {
    complain(message);
    ExitCode::from(code)
}

fn complain(message: &str) {
    // With a closed standard error nobody can be told.
    let _ = writeln!(std::io::stderr(), "gateway: {message}");
}
