//! For operators: the admin page and the metrics, on a listener of their own.

use std::{future::ready, net::SocketAddr, time::Duration};

use axum::{Router, routing::get, serve};
use buttress::{Metrics, Publishing, Registry, admin::Admin};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, select, task::JoinHandle, time::sleep};
use tower::BoxError;

use crate::report::say;

/// What histograms of durations are cut at. Without this the exporter makes summaries, which cannot be added up.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How often the exporter is looked after.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Ops {
    address: SocketAddr,
    /// Whether the page obeys any.
    commands: bool,
    server: JoinHandle<()>,
    // Does the registry's housekeeping, too.
    _publishing: Publishing,
}

impl Ops {
    /// Serves both. Commands need the token; without one the page only shows.
    pub(crate) async fn start(
        registry: &Registry,
        listen: SocketAddr,
        token: Option<&str>,
    ) -> Result<Self, BoxError> {
        let prometheus = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .install_recorder()?;
        let render = prometheus.clone();
        let publishing = Metrics::new().registry(registry).spawn()?;
        let mut admin = Admin::builder(registry.clone()).title("gateway");
        if let Some(token) = token {
            admin = admin.token("operator", token);
        }
        let router = Router::new()
            .route("/metrics", get(move || ready(render.render())))
            .merge(admin.build()?.router());
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            select! {
                // Ends only with its task: accepting does not fail for good.
                _ = serve(listener, router) => {}
                () = upkeep(prometheus) => {}
            }
        });
        Ok(Self {
            address,
            commands: token.is_some(),
            server,
            _publishing: publishing,
        })
    }

    /// Prints where they are.
    pub(crate) fn say(&self) {
        let (address, commands) = (self.address, self.commands);
        say(format_args!(
            "Admin page http://{address}/ and metrics http://{address}/metrics{}",
            if commands {
                ""
            } else {
                " (commands need a --token)"
            }
        ));
    }
}

/// Takes in what histograms were given, so that it does not pile up while nobody scrapes.
async fn upkeep(prometheus: PrometheusHandle) {
    loop {
        sleep(UPKEEP).await;
        prometheus.run_upkeep();
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.server.abort();
    }
}
