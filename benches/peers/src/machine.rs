//! What is compared, and on which machine.

use std::{fs, thread::available_parallelism};

const LOCK: &str = include_str!("../Cargo.lock");

const PEERS: [&str; 10] = [
    "buttress",
    "tower",
    "tower-resilience",
    "seatbelt",
    "recloser",
    "failsafe",
    "axum",
    "reqwest",
    "reqwest-middleware",
    "reqwest-retry",
];

pub(crate) fn print() {
    let of = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = of("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("processor unknown", |line| {
        line.trim_start_matches(['\t', ' ', ':'])
    });
    let load = of("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let cores = available_parallelism().map_or(0, usize::from);
    println!("{model}, {cores} cores, load {}", load.join(" "));
    let versions = PEERS.map(|peer| format!("{peer} {}", version(peer).unwrap_or("?")));
    println!("{}", versions.join(", "));
}

/// The version that the lock file has.
fn version(name: &str) -> Option<&'static str> {
    let at = LOCK.find(&format!("name = \"{name}\"\nversion = \""))?;
    LOCK[at..].split('"').nth(3)
}
