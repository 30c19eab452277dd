//! The embedded upstream: an HTTP server of its own with a small pool of workers, whose health can be set.
//!
//! It works as many real services do. A fixed number of workers take calls in the order of their arrival, and a
//! worker does not notice that the caller has hung up: an abandoned call costs as much as any other. So a
//! caller that goes on sending to a sick upstream leaves a queue behind, which delays its recovery.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, uri::Authority},
    routing::post,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::BoxError;

use crate::script::{Health, Script};

/// Calls that are worked on at the same time. At 20 ms each that is 600 calls a second, three times the load.
pub(crate) const WORKERS: usize = 12;

/// While slow, a call takes this long: the workers then do 60 calls a second, far less than the load.
const SLOW: Duration = Duration::from_millis(200);

/// While failing, an error takes this long.
const FAILING: Duration = Duration::from_millis(5);

/// How many image servers there are.
const IMAGE_SERVERS: usize = 3;

/// How long to try to reach a server that is not embedded.
const REACH: Duration = Duration::from_secs(3);

/// A running upstream; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    shop: Arc<Shop>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shop {
    health: watch::Sender<Health>,
    workers: Semaphore,
    arrived: AtomicU64,
    arrived_while_sick: AtomicU64,
}

impl Upstream {
    /// Starts one on a free loopback port, healthy.
    async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shop = Arc::new(Shop {
            health: watch::Sender::new(Health::Healthy),
            workers: Semaphore::new(WORKERS),
            arrived: AtomicU64::new(0),
            arrived_while_sick: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/-/{health}", post(set_health))
            .fallback(arrive)
            .with_state(Arc::clone(&shop));
        let server = tokio::spawn(async move {
            // Ends only with its task: accepting does not fail for good.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            shop,
            server,
        })
    }

    pub(crate) fn health(&self) -> Health {
        *self.shop.health.borrow()
    }

    /// Goes through the script, to its end.
    pub(crate) async fn play(&self, script: &Script) {
        for phase in script.phases() {
            self.shop.health.send_replace(phase.health);
            sleep(phase.lasts()).await;
        }
    }

    /// Calls that arrived, in all.
    pub(crate) fn arrived(&self) -> u64 {
        self.shop.arrived.load(Ordering::Relaxed)
    }

    /// Calls that arrived while it was not healthy.
    pub(crate) fn arrived_while_sick(&self) -> u64 {
        self.shop.arrived_while_sick.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Where to forward to: the server that was named, or else an embedded one, started here.
pub(crate) async fn at(named: Option<&Authority>) -> Result<(Authority, Option<Upstream>), BoxError> {
    if let Some(named) = named {
        return Ok((named.clone(), None));
    }
    let embedded = Upstream::start().await?;
    Ok((embedded.address.to_string().parse()?, Some(embedded)))
}

/// The image servers that stand beside the embedded upstream.
pub(crate) async fn image_servers() -> Result<Vec<(Authority, Upstream)>, BoxError> {
    let mut servers = Vec::new();
    for _ in 0..IMAGE_SERVERS {
        let server = Upstream::start().await?;
        servers.push((server.address.to_string().parse()?, server));
    }
    Ok(servers)
}

/// Whether a server that is not embedded takes a connection.
pub(crate) async fn reach(upstream: &Authority) -> Result<(), BoxError> {
    let (host, port) = (upstream.host(), upstream.port_u16().unwrap_or(80));
    // A URL writes an IPv6 address in brackets, a socket does not.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(REACH, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot reach the upstream http://{upstream}: {error}").into()),
        Err(_) => {
            Err(format!("cannot reach the upstream http://{upstream}: no answer within {REACH:?}").into())
        }
    }
}

async fn set_health(State(shop): State<Arc<Shop>>, Path(name): Path<String>) -> (StatusCode, String) {
    let Some(health) = Health::named(&name) else {
        let names = Health::ALL.map(Health::name).join(", ");
        return (
            StatusCode::NOT_FOUND,
            format!("no health `{name}`; there are: {names}\n"),
        );
    };
    shop.health.send_replace(health);
    (StatusCode::OK, format!("the upstream is {name} now\n"))
}

async fn arrive(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    let number = shop.arrived.fetch_add(1, Ordering::Relaxed);
    if *shop.health.borrow() != Health::Healthy {
        shop.arrived_while_sick.fetch_add(1, Ordering::Relaxed);
    }
    // A task of its own, so that the work is done although the caller hangs up.
    let work = tokio::spawn(async move { shop.work(number).await });
    work.await
        .unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, "the worker died\n"))
}

impl Shop {
    /// Waits for a worker, first come, first served, and has it do the call.
    async fn work(&self, number: u64) -> (StatusCode, &'static str) {
        // The semaphore is never closed; were it, a call without a worker would be the lesser evil.
        let _worker = self.workers.acquire().await;
        let mut health = self.health.subscribe();
        loop {
            let now = *health.borrow_and_update();
            match now {
                Health::Healthy => {
                    let dice = scatter(number);
                    sleep(Duration::from_millis(10 + dice % 20)).await;
                    return if dice % 100 == 99 {
                        (StatusCode::SERVICE_UNAVAILABLE, "a hiccup; try again\n")
                    } else {
                        (StatusCode::OK, "in stock\n")
                    };
                }
                Health::Slow => {
                    sleep(SLOW).await;
                    return (StatusCode::OK, "in stock\n");
                }
                Health::Failing => {
                    sleep(FAILING).await;
                    return (StatusCode::INTERNAL_SERVER_ERROR, "the database is gone\n");
                }
                // The sender lives as long as `self`: this waits for another health.
                Health::Hanging => drop(health.changed().await),
            }
        }
    }
}

/// A number that looks random and is the same in every run (the finalizer of `SplitMix64`).
const fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
