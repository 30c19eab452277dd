//! Many readers of the admin interface's streams, in a process of their own: its memory is looked at.

#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]

#[path = "support/admin.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod support;

use std::time::{Duration, Instant};

use buttress::admin::Admin;
use support::{reader, registry, serve, toggle};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_readers_of_which_half_never_read_hold_nobody_up() {
    rlimit::increase_nofile_limit(4_096).unwrap();
    let registry = registry();
    let admin = Admin::builder(registry.clone()).readers(500).build().unwrap();
    let address = serve(admin.router()).await;
    let path = "/ops/buttress/api/live";
    let mut asleep = Vec::new();
    let mut awake = Vec::new();
    for _ in 0..250 {
        asleep.push(reader(address, path, &[]).await);
        let mut reader = reader(address, path, &[]).await;
        assert_eq!(reader.status().await, 200);
        // It reads all, until the last state that the test brings about, and counts events.
        awake.push(tokio::spawn(async move {
            let mut events = 0;
            loop {
                events += reader.buffer.matches("event: event\n").count();
                if reader.buffer.contains(r#""state":"disabled""#) {
                    return (events, reader);
                }
                // What was begun and not ended is looked at again.
                let ended = reader.buffer.rfind("\n\n").map_or(0, |at| at + 2);
                reader.buffer.drain(..ended);
                events -= reader.buffer.matches("event: event\n").count();
                let more = timeout(Duration::from_secs(10), reader.more()).await;
                assert!(more.expect("in time"), "more of it");
            }
        }));
    }
    let mut too_many = reader(address, path, &[]).await;
    assert_eq!(too_many.status().await, 503);

    // 250 do not read one byte, while events of 250 bytes and states of 5000 are told: more than their sockets hold. Once
    // these are full, memory does not grow any more.
    let mut slowest = Duration::ZERO;
    let mut much = async |rounds: u32| {
        let before = resident();
        for _ in 0..rounds {
            let begun = Instant::now();
            toggle(&registry, 100);
            slowest = slowest.max(begun.elapsed());
            sleep(Duration::from_millis(40)).await;
        }
        resident().saturating_sub(before)
    };
    let filled = much(20).await;
    let grown = much(80).await;
    assert!(
        grown < 8_000_000,
        "{grown} bytes more after {filled} to fill the sockets"
    );
    assert!(
        slowest < Duration::from_millis(500),
        "100 commands took {slowest:?}"
    );
    registry.circuit_breaker("payments").unwrap().disable();
    let mut kept = Vec::new();
    for reader in awake {
        let (events, reader) = timeout(Duration::from_secs(20), reader).await.unwrap().unwrap();
        assert!(events > 0);
        kept.push(reader);
    }
    let lost: u64 = asleep[0].frame("lost").await.data.parse().unwrap();
    assert!(lost > 0, "what was not read was not kept");

    // Places are free again when readers go.
    drop(asleep);
    let begun = Instant::now();
    loop {
        let mut next = reader(address, path, &[]).await;
        if next.status().await == 200 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no place came free");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}
