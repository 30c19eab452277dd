//! Keyed breakers: bytes of each, and how long it takes to find one.

use std::hint::black_box;

use ::buttress::{CircuitBreaker, KeyedCircuitBreaker, KeyedConfig};
use allocation_counter::measure as count;

use super::growth::NAME;
use crate::{
    effort::Effort,
    guards::buttress,
    report::Line,
    rounds::{self, Row},
};

/// The text of a key, as long as that of a host.
type Key = [u8; 19];

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let mut sizes = Vec::new();
    let mut rows = vec![looked_up("bare-lookup", keys(1_000_000), |key| {
        black_box(key);
    })];
    let mut add = |name: String, size: u32, config: KeyedConfig| {
        let (keyed, bytes) = filled(size, config);
        sizes.push((name.clone(), bytes));
        rows.push(looked_up(name, keys(size), move |key| {
            black_box(keyed.get(key));
        }));
    };
    let config = || KeyedConfig::new().max_keys(1_000_000);
    for size in (0..=6).map(|power| 10_u32.pow(power)) {
        add(format!("buttress/keyed-breaker-{size}"), size, config());
    }
    add(
        "buttress/keyed-breaker-no-idle-1000000".to_owned(),
        1_000_000,
        config().no_idle(),
    );
    rounds::measure(NAME, rows, effort.rounds(301))
        .into_iter()
        .map(|line| match sizes.iter().find(|(name, _)| *name == line.name) {
            Some((_, bytes)) => line.bytes(*bytes),
            None => line,
        })
        .collect()
}

/// A breaker with a time window of ten buckets for each key, and how many bytes each takes.
fn filled(size: u32, config: KeyedConfig) -> (KeyedCircuitBreaker, f64) {
    let keys = keys(size);
    let each: CircuitBreaker = buttress::time_config().build("bench").unwrap();
    let keyed = config.build(each).unwrap();
    let heap = count(|| {
        for key in &keys {
            black_box(keyed.get(text(key)));
        }
    });
    assert_eq!(keyed.snapshot().keys, size, "each key has its own");
    (keyed, heap.bytes_current as f64 / f64::from(size))
}

/// Looks up one key after the other: in memory they lie in the order of lookups, but their breakers do not.
fn looked_up(name: impl Into<String>, keys: Vec<Key>, mut look: impl FnMut(&str) + 'static) -> Row {
    let mut next = 0;
    Row::new(name, move |calls, meter| {
        meter.of(|| {
            for _ in 0..calls {
                look(text(&keys[next]));
                next = if next + 1 == keys.len() { 0 } else { next + 1 };
            }
        });
    })
    .over("bare-lookup")
    .calls(4_000)
}

/// So many keys, each once, in an order that is always the same and that nobody foresees.
fn keys(size: u32) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..size)
        .map(|number| {
            let mut key = *b"https://h.test:0000";
            let digits = format!("{number:07}");
            key[8..15].copy_from_slice(digits.as_bytes());
            key
        })
        .collect();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for at in (1..keys.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        keys.swap(at, usize::try_from(random % (at as u64 + 1)).unwrap());
    }
    keys
}

fn text(key: &Key) -> &str {
    std::str::from_utf8(key).unwrap()
}
