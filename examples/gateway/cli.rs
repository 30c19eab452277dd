//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::http::uri::Authority;
use lexopt::{
    Arg::{Long, Short},
    Parser, ValueExt,
};

use crate::message::origin;

pub(crate) const HELP: &str = "\
A reverse proxy that a stack of resilience policies holds up, in front of an upstream that falls ill.

Without options: starts a flaky upstream and a gateway on loopback ports, puts a load on the gateway,
takes the upstream through a script (healthy, slow, failing, hanging, healthy again), first without
the stack and then with it, and compares. Takes about a minute.

Usage: cargo run --release --example gateway -- [OPTIONS]

  --upstream URL    Forward to this server (http://HOST:PORT) and not to the embedded one.
                    Its health is its own: the load and the comparison stay, the phases go.
  --listen ADDR     The gateway's own address [default: 127.0.0.1:0, any free port]
  --for DURATION    Length of one pass; there are two [default: 30s; with --upstream: 10s]
                    With --serve: stop after this time. Such as 500ms, 6s, 2m; at least 3s for a pass.
  --config FILE     The file that the stacks are set up from [default: examples/gateway.toml]
                    An edit is taken while the gateway runs.
  --admin ADDR      Where the admin page and the metrics are [default: 127.0.0.1:0, any free port]
  --token TOKEN     Lets the admin page give commands: sixteen characters or more.
  --rate N          Calls per second of the load, 1 to 1000 [default: 200; with --upstream: 20; with --serve: none]
  --serve           No script: serve with the stacks until Ctrl-C. Without --upstream there are three image
                    servers besides, for what is below /images/.
  --help            Print this.
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Serve(Serve),
    Compare(Compare),
}

/// What is there for operators.
#[derive(Debug)]
pub(crate) struct Ops {
    pub(crate) listen: SocketAddr,
    pub(crate) token: Option<String>,
}

/// Serving, without a script.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: Option<Authority>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) ops: Ops,
    /// Until Ctrl-C if `None`.
    pub(crate) length: Option<Duration>,
    /// The load; none if `None`.
    pub(crate) per_second: Option<u32>,
}

/// The comparison of two passes.
#[derive(Debug)]
pub(crate) struct Compare {
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: Option<Authority>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) ops: Ops,
    /// Of one pass.
    pub(crate) length: Duration,
    pub(crate) per_second: u32,
}

/// A shorter pass has phases too short to see anything in.
const SHORTEST_PASS: Duration = Duration::from_secs(3);

/// Reads the command line.
pub(crate) fn parse(mut parser: Parser) -> Result<Command, lexopt::Error> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut ops = Ops { listen, token: None };
    let (mut upstream, mut config, mut length, mut rate, mut serve) = (None, None, None, None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("serve") => serve = true,
            Long("listen") => {
                listen = told("--listen", &parser.value()?.string()?, address)?;
            }
            Long("upstream") => {
                upstream = Some(told("--upstream", &parser.value()?.string()?, origin)?);
            }
            Long("admin") => ops.listen = told("--admin", &parser.value()?.string()?, address)?,
            Long("token") => ops.token = Some(parser.value()?.string()?),
            Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("for") => length = Some(told("--for", &parser.value()?.string()?, duration)?),
            Long("rate") => rate = Some(told("--rate", &parser.value()?.string()?, per_second)?),
            other => return Err(other.unexpected()),
        }
    }
    if serve {
        return Ok(Command::Serve(Serve {
            listen,
            upstream,
            config,
            ops,
            length,
            per_second: rate,
        }));
    }
    // A server that is not this program's own is treated with more care.
    let (usual_length, usual_rate) = if upstream.is_some() { (10, 20) } else { (30, 200) };
    let length = length.unwrap_or(Duration::from_secs(usual_length));
    if length < SHORTEST_PASS {
        return Err(format!("--for: a pass takes at least {SHORTEST_PASS:?}").into());
    }
    Ok(Command::Compare(Compare {
        listen,
        upstream,
        config,
        ops,
        length,
        per_second: rate.unwrap_or(usual_rate),
    }))
}

fn told<T>(
    option: &str,
    value: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, lexopt::Error> {
    read(value).map_err(|why| format!("{option}: {why}").into())
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is not of the form IP:PORT"))
}

fn per_second(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(rate @ 1..=1000) => Ok(rate),
        _ => Err(format!("`{value}` is not a number from 1 to 1000")),
    }
}

/// `500ms`, `6s`, `2m`; at most an hour.
fn duration(value: &str) -> Result<Duration, String> {
    let bad = || format!("`{value}` is not a duration such as 500ms, 6s or 2m, up to 60m");
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    match millis {
        Some(millis @ 1..=3_600_000) => Ok(Duration::from_millis(millis)),
        _ => Err(bad()),
    }
}
