//! One pass of the script: upstream, gateway and load, watched once a second.

use std::{sync::Arc, time::Duration};

use tokio::{join, net::TcpListener};
use tower::BoxError;

use crate::{
    cli::Compare,
    guard::{Guard, Readings},
    load::{Load, item},
    proxy::Gateway,
    report::{Second, Seconds, say},
    script::Script,
    stats::{Call, Meter, now},
    upstream,
};

/// What a pass came to.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) calls: Vec<Call>,
    /// Requests that the gateway sent to the upstream.
    pub(crate) sent: u64,
    /// Calls that arrived at the embedded upstream, and those of them that arrived while it was sick.
    pub(crate) arrived: Option<(u64, u64)>,
    pub(crate) most_in_flight: usize,
    pub(crate) readings: Readings,
}

/// How long the clients of the load wait. Shorter in a short pass, whose phases they could else sit out.
pub(crate) fn patience(length: Duration) -> Duration {
    (length / 15).clamp(Duration::from_secs(1), Duration::from_secs(2))
}

/// Runs the script once through a gateway on `listener` with `guard`, and prints a line each second.
pub(crate) async fn run(
    options: &Compare,
    script: Option<&Script>,
    listener: TcpListener,
    guard: &Guard,
) -> Result<Pass, BoxError> {
    // New in each pass: what one pass leaves behind must not weigh on the other.
    let (upstream, embedded) = upstream::at(options.upstream.as_ref()).await?;
    let gateway = Gateway::start(listener, upstream.clone(), &[], guard, |router| router)?;
    let load = Load {
        target: format!("http://{}", gateway.address()),
        per_second: options.per_second,
        patience: patience(options.length),
        path: item,
    };
    say(format_args!(
        "  gateway {} -> upstream http://{upstream}",
        load.target
    ));
    say(Second::HEADER);

    let (meter, length) = (Arc::new(Meter::default()), options.length);
    let begun = now();
    let playing = async {
        if let (Some(upstream), Some(script)) = (&embedded, script) {
            upstream.play(script).await;
        }
    };
    let watching = async {
        let mut seconds = Seconds::new(begun, &gateway, guard);
        let mut calls = Vec::new();
        loop {
            let at = seconds.next().await;
            let ended = meter.take();
            let middle = at.saturating_sub(Duration::from_millis(500));
            let phase = script.map_or("-", |script| script.at(middle).name);
            say(seconds.read(at, phase, &ended));
            calls.extend(ended);
            if at + Duration::from_secs(1) > length {
                return calls;
            }
        }
    };
    let (loaded, (), mut calls) = join!(load.run(begun, Some(length), Some(&meter)), playing, watching);
    loaded?;
    calls.extend(meter.take());
    Ok(Pass {
        calls,
        sent: gateway.traffic().sent(),
        arrived: embedded.map(|upstream| (upstream.arrived(), upstream.arrived_while_sick())),
        most_in_flight: gateway.traffic().most_in_flight(),
        readings: guard.readings(),
    })
}
