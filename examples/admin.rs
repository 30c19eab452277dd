//! The admin page over stacks with a simulated load: services that fall ill and get well again.
//!
//! ```text
//! cargo run --example admin --features admin -- [--port 8090] [--for 60s] [--token TOKEN] [--odd-names]
//! ```
//!
//! With `--odd-names` there is a stack with markup in its name. `GET /sick?SECONDS` makes the service behind `payments` fail for that long, and `GET /well` ends that.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::RawQuery, routing::get};
use buttress::{
    BulkheadConfig, CircuitBreakerConfig, KeyedConfig, KeyedStack, Registry, RetryConfig, Settings, Stack,
    StackConfig, TimeoutConfig,
    admin::{Admin, Health},
};
use tokio::{net::TcpListener, time::sleep};

const TOKEN: &str = "let-me-steer-it-please";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let odd_names = arguments.odd_names;
    let registry = Registry::builder()
        .key("host")
        .build_from(move |_| Ok(settings(odd_names)))?;
    let services = Services::default();
    services.load(&registry)?;

    let admin = Admin::builder(registry)
        .title("shop")
        .token("on call", arguments.token.as_str())
        .health(Health::of(["payments"]))
        .build()?;
    let (sick, well) = (services.clone(), services);
    let app = Router::new()
        .nest_service("/ops/buttress", admin.router())
        .route(
            "/sick",
            get(async move |RawQuery(seconds): RawQuery| {
                let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
                sick.payments.fall_ill(Duration::from_secs(seconds));
                "payments is sick"
            }),
        )
        .route(
            "/well",
            get(async move || {
                well.payments.get_well();
                "payments is well"
            }),
        );
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    println!("page: http://{}/ops/buttress", listener.local_addr()?);
    println!("token for commands: {}", arguments.token);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            match arguments.lasts {
                Some(lasts) => sleep(lasts).await,
                None => std::future::pending().await,
            }
            // Pages that are open would hold the server up.
            admin.close();
        })
        .await?;
    Ok(())
}

struct Arguments {
    port: u16,
    lasts: Option<Duration>,
    token: String,
    odd_names: bool,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        use lexopt::prelude::{Long, ValueExt};

        let mut arguments = Self {
            port: 0,
            lasts: None,
            token: TOKEN.to_owned(),
            odd_names: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("port") => arguments.port = parser.value()?.parse()?,
                Long("token") => arguments.token = parser.value()?.string()?,
                Long("odd-names") => arguments.odd_names = true,
                Long("for") => {
                    let value = parser.value()?.string()?;
                    let seconds = value
                        .strip_suffix('s')
                        .ok_or("--for wants seconds, such as 60s")?;
                    arguments.lasts = Some(Duration::from_secs(seconds.parse()?));
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(arguments)
    }
}

fn settings(odd_names: bool) -> Settings {
    let payments = StackConfig::new()
        .stage("total", TimeoutConfig::new(Duration::from_secs(2)))
        .stage("retry", RetryConfig::new())
        .stage(
            "circuit_breaker",
            CircuitBreakerConfig::new()
                .count_window(100)
                .minimum_calls(20)
                .slow_calls(Duration::from_millis(300), 0.8)
                .open_wait(Duration::from_secs(4)),
        )
        .stage("bulkhead", BulkheadConfig::new(32));
    let search = StackConfig::new()
        .stage(
            "circuit_breaker",
            CircuitBreakerConfig::new()
                .time_window(Duration::from_secs(30))
                .minimum_calls(50),
        )
        .stage("timeout", TimeoutConfig::new(Duration::from_millis(250)))
        .stage(
            "bulkhead",
            BulkheadConfig::new(8)
                .max_wait(Duration::from_millis(50))
                .max_queue(64),
        );
    let images = StackConfig::new()
        .stage("retry", RetryConfig::new())
        .stage(
            "circuit_breaker",
            CircuitBreakerConfig::new().consecutive_failures(5),
        )
        .stage("bulkhead", BulkheadConfig::new(4))
        .keyed("host", KeyedConfig::new());
    let settings = Settings::new()
        .stack("payments", payments)
        .stack("search", search)
        .stack("images", images);
    if !odd_names {
        return settings;
    }
    let quiet = StackConfig::new().stage("<b>slots</b>", BulkheadConfig::new(4));
    settings.stack("<img src=x onerror=alert(1)>", quiet)
}

/// What stands behind the stacks.
#[derive(Clone, Default)]
struct Services {
    payments: Arc<Service>,
    search: Arc<Service>,
    hosts: [Arc<Service>; 4],
}

/// A service that answers in its time, and fails while it is ill.
#[derive(Default)]
struct Service {
    calls: AtomicU64,
    /// In ten milliseconds: ill until then.
    ill_until: AtomicU64,
    illness: AtomicU32,
}

fn ticks() -> u64 {
    static ORIGIN: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "the simulation has a time of its own")]
    let now = tokio::time::Instant::now();
    let since = now.saturating_duration_since(*ORIGIN.get_or_init(|| now));
    u64::try_from(since.as_millis() / 10).unwrap_or(u64::MAX)
}

impl Service {
    fn fall_ill(&self, lasts: Duration) {
        let lasts = u64::try_from(lasts.as_millis() / 10).unwrap_or(u64::MAX);
        self.ill_until
            .store(ticks().saturating_add(lasts), Ordering::Relaxed);
        self.illness.fetch_add(1, Ordering::Relaxed);
    }

    fn get_well(&self) {
        self.ill_until.store(0, Ordering::Relaxed);
    }

    /// One call: every so many is slow, and every so many of an ill service fails.
    async fn call(&self, usual: u64, slow_each: u64) -> io::Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let spread = number.wrapping_mul(2_654_435_761) % 20;
        let ill = ticks() < self.ill_until.load(Ordering::Relaxed);
        let time = if number % slow_each == 7 {
            usual * 8
        } else {
            usual + spread
        };
        sleep(Duration::from_millis(time)).await;
        // A well one fails now and then.
        if ill && number % 10 < 7 || number % 97 == 5 {
            return Err(io::Error::other("the service is ill"));
        }
        Ok(())
    }
}

impl Services {
    fn load(&self, registry: &Registry) -> Result<(), Box<dyn Error>> {
        let payments = Arc::clone(&self.payments);
        every(25, registry.stack("payments")?, move || {
            let payments = Arc::clone(&payments);
            async move { payments.call(30, 50).await }
        });
        let search = Arc::clone(&self.search);
        every(12, registry.stack("search")?, move || {
            let search = Arc::clone(&search);
            async move { search.call(40, 30).await }
        });
        let images = registry.keyed_stack("images")?;
        for (at, host) in self.hosts.iter().enumerate() {
            of_key(&images, format!("https://img{at}.example:443"), Arc::clone(host));
        }
        // The last host is down for longer and longer.
        let last = Arc::clone(&self.hosts[3]);
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(8)).await;
                last.fall_ill(Duration::from_secs(15));
                sleep(Duration::from_secs(40)).await;
            }
        });
        Ok(())
    }
}

/// Calls it again and again.
fn every<F>(millis: u64, stack: Stack, call: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let call = Arc::new(call);
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(millis)).await;
            let (stack, call) = (stack.clone(), Arc::clone(&call));
            // What comes of it is to be seen on the page.
            tokio::spawn(async move { stack.run(|| call()).await.is_ok() });
        }
    });
}

fn of_key(stacks: &KeyedStack, key: String, service: Arc<Service>) {
    let stacks = stacks.clone();
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(60)).await;
            let (stack, service) = (stacks.get(&key), Arc::clone(&service));
            tokio::spawn(async move { stack.run(|| service.call(50, 40)).await.is_ok() });
        }
    });
}
