//! Serving with the stacks, without a script: for trying things out by hand.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use buttress::Rejected;
use tokio::{
    net::TcpListener,
    select,
    time::{Instant, sleep},
};
use tower::BoxError;

use crate::{
    cli::Serve,
    guard::Guard,
    load::{Load, item_or_image},
    proxy::Gateway,
    report::{Second, Seconds, say, say_policies},
    stats::{Call, Meter, Outcome, now},
    upstream::{self, Upstream},
};

/// How long the clients of the load wait.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Watch {
    begun: Instant,
    meter: Arc<Meter>,
}

/// Serves until Ctrl-C, or for the length asked for.
pub(crate) async fn run(options: &Serve, listener: TcpListener) -> Result<(), BoxError> {
    let guard = Guard::stack(options.config.as_deref())?;
    let ops = crate::ops(&guard, &options.ops).await?;
    let (upstream, embedded) = upstream::at(options.upstream.as_ref()).await?;
    let watch = Watch {
        begun: now(),
        meter: Arc::new(Meter::default()),
    };
    let layer = from_fn_with_state(watch.clone(), measure);
    let images = if embedded.is_some() {
        upstream::image_servers().await?
    } else {
        Vec::new()
    };
    let (image_addresses, _image_servers): (Vec<_>, Vec<_>) = images.into_iter().unzip();
    let dress = |router: Router| router.layer(layer);
    let gateway = Gateway::start(listener, upstream.clone(), &image_addresses, &guard, dress)?;

    say(format_args!(
        "Serving http://{} -> upstream http://{upstream}",
        gateway.address()
    ));
    if let Some(ops) = &ops {
        ops.say();
    }
    say_policies(&guard, !image_addresses.is_empty());
    if embedded.is_some() {
        let servers: Vec<_> = image_addresses
            .iter()
            .map(|server| format!("http://{server}"))
            .collect();
        say(format_args!(
            "Image servers, for /images/...: {}",
            servers.join(" ")
        ));
        say(format_args!(
            "The upstream is the embedded one. Make it sick, or an image server, and watch what the gateway does:\n  \
             curl -X POST http://{upstream}/-/slow      (or failing, hanging, healthy)\n  \
             curl -i http://{}/items/1",
            gateway.address()
        ));
    }
    match options.length {
        Some(length) => say(format_args!("Ends after {length:?}, or with Ctrl-C.")),
        None => say("Ends with Ctrl-C."),
    }
    say("A line is printed for each second with calls in it.\n");
    say(Second::HEADER);

    let load = async {
        let Some(per_second) = options.per_second else {
            return pending().await;
        };
        let load = Load {
            target: format!("http://{}", gateway.address()),
            per_second,
            patience: PATIENCE,
            path: item_or_image,
        };
        load.run(watch.begun, None, None).await
    };
    let end = async {
        match options.length {
            Some(length) => sleep(length).await,
            None => pending().await,
        }
    };
    select! {
        () = lines(&watch, &gateway, &guard, embedded.as_ref()) => {}
        ended = load => ended?,
        () = end => {}
        interrupt = tokio::signal::ctrl_c() => interrupt?,
    }
    say(format_args!(
        "\nStopped. The gateway sent {} requests to the upstream.",
        gateway.traffic().sent()
    ));
    Ok(())
}

/// Prints a line for each second in which something happened, without end.
async fn lines(watch: &Watch, gateway: &Gateway, guard: &Guard, embedded: Option<&Upstream>) {
    let mut seconds = Seconds::new(watch.begun, gateway, guard);
    loop {
        let at = seconds.next().await;
        let calls = watch.meter.take();
        let phase = embedded.map_or("-", |upstream| upstream.health().name());
        let line = seconds.read(at, phase, &calls);
        if !calls.is_empty() || line.in_flight > 0 {
            say(line);
            if let Some(why) = guard.why_open() {
                say(format_args!("      circuit open: {why}"));
            }
        }
    }
}

/// Records a call when it ends, also when its client hangs up and it is dropped.
async fn measure(State(watch): State<Watch>, request: Request, next: Next) -> Response {
    let mut ended = Ended {
        began: now(),
        outcome: Outcome::HungUp,
        watch,
    };
    let answer = next.run(request).await;
    ended.outcome = match answer.extensions().get::<Rejected>() {
        Some(rejected) => Outcome::of_rejection(rejected.kind()),
        None => Outcome::of_answer(answer.status(), answer.headers(), &[]),
    };
    answer
}

struct Ended {
    began: Instant,
    outcome: Outcome,
    watch: Watch,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let Self {
            began,
            outcome,
            ref watch,
        } = *self;
        watch.meter.record(Call {
            began: began - watch.begun,
            took: now() - began,
            outcome,
        });
    }
}
