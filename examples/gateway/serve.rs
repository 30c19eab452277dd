//! Serving with the stack, without a script: for trying things out by hand.

use std::{future::pending, sync::Arc};

use axum::{
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
    proxy::Gateway,
    report::{Second, Seconds, say, say_policies},
    stats::{Call, Meter, Outcome, now},
    upstream::{self, Upstream},
};

#[derive(Clone)]
struct Watch {
    begun: Instant,
    meter: Arc<Meter>,
}

/// Serves until Ctrl-C, or for the length asked for.
pub(crate) async fn run(options: &Serve, listener: TcpListener) -> Result<(), BoxError> {
    let guard = Guard::stack()?;
    let (upstream, embedded) = upstream::at(options.upstream.as_ref()).await?;
    let watch = Watch {
        begun: now(),
        meter: Arc::new(Meter::default()),
    };
    let layer = from_fn_with_state(watch.clone(), measure);
    let gateway = Gateway::start(listener, upstream.clone(), &guard, |router| router.layer(layer))?;

    say(format_args!(
        "Serving http://{} -> upstream http://{upstream}",
        gateway.address()
    ));
    say_policies(&guard);
    if embedded.is_some() {
        say(format_args!(
            "The upstream is the embedded one. Make it sick, and watch what the gateway does:\n  \
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

    let end = async {
        match options.length {
            Some(length) => sleep(length).await,
            None => pending().await,
        }
    };
    select! {
        () = lines(&watch, &gateway, &guard, embedded.as_ref()) => {}
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
