//! Keyed breakers: bytes of each, and how long it takes to find one.
//!
//! Keys are looked up in another order than they came in: neighbours among the lookups are no neighbours in memory. Between
//! two slices of a row the other rows push what it had out of the caches, as an application does between its lookups. So
//! a lookup among a million waits for memory that no cache has, and what one such wait takes on the machine is shown beside
//! it, with a plain `HashMap` that holds nothing but numbers.

use std::{collections::HashMap, hint::black_box};

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

/// The order in which keys came first, and that in which they are looked up.
const CAME: u64 = 0x9E37_79B9_7F4A_7C15;
const LOOKED_UP: u64 = 0x2545_F491_4F6C_DD1D;

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let mut sizes = Vec::new();
    let mut rows = vec![looked_up("bare-lookup", keys(1_000_000, LOOKED_UP), |key| {
        black_box(key);
    })];
    let mut add = |name: String, size: u32, config: KeyedConfig| {
        let (keyed, bytes) = filled(size, config);
        sizes.push((name.clone(), bytes));
        rows.push(looked_up(name, keys(size, LOOKED_UP), move |key| {
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
    add_asked_unevenly(&mut rows);
    rows.push(plain_map(1_000_000));
    rows.push(one_miss(1_000_000));
    rounds::measure(NAME, rows, effort.rounds(301))
        .into_iter()
        .map(|line| match sizes.iter().find(|(name, _)| *name == line.name) {
            Some((_, bytes)) => line.bytes(*bytes),
            None => line,
        })
        .collect()
}

/// What the machine takes for one read that no cache has, from as much memory as so many breakers may have. Each read says
/// where the next one is, as the table says where a breaker is: the processor cannot begin it before.
fn one_miss(size: usize) -> Row {
    let mut order: Vec<usize> = (0..size).collect();
    shuffle(&mut order, LOOKED_UP);
    let mut blocks = vec![[0_usize; 512 / 8]; size];
    for (at, next) in order.iter().zip(order.iter().cycle().skip(1)) {
        blocks[*at][0] = *next;
    }
    let mut at = 0;
    Row::new(format!("memory/one-miss-{size}"), move |calls, meter| {
        meter.of(|| {
            for _ in 0..calls {
                at = blocks[at][0];
            }
            black_box(at);
        });
    })
    .over("bare-lookup")
    .calls(4_000)
}

/// A number for each key, and nothing else: no handle that is counted, no lock, no time of use.
fn plain_map(size: u32) -> Row {
    let map: HashMap<Box<str>, u32> = keys(size, CAME)
        .iter()
        .map(|key| text(key).into())
        .zip(0..)
        .collect();
    looked_up(
        format!("std/hash-map-{size}"),
        keys(size, LOOKED_UP),
        move |key| {
            black_box(map.get(key).copied());
        },
    )
}

/// The keys of traffic: one is asked for often, the next half as often, the third a third as often.
fn add_asked_unevenly(rows: &mut Vec<Row>) {
    const SIZE: u32 = 1_000_000;
    let (keyed, _) = filled(SIZE, KeyedConfig::new().max_keys(SIZE));
    let shares: Vec<f64> = (1..=SIZE)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    let ranked = keys(SIZE, LOOKED_UP);
    let mut random = CAME;
    let asked = (0..SIZE).map(|_| {
        let point = (next_random(&mut random) >> 11) as f64 / (1_u64 << 53) as f64 * shares[shares.len() - 1];
        ranked[shares.partition_point(|share| *share < point)]
    });
    rows.push(looked_up(
        format!("buttress/keyed-breaker-uneven-{SIZE}"),
        asked.collect(),
        move |key| {
            black_box(keyed.get(key));
        },
    ));
}

/// A breaker with a time window of ten buckets for each key, and how many bytes each takes.
fn filled(size: u32, config: KeyedConfig) -> (KeyedCircuitBreaker, f64) {
    let keys = keys(size, CAME);
    let each: CircuitBreaker = buttress::time_config().build("bench").unwrap();
    let keyed = config.build(each).unwrap();
    let heap = count(|| {
        for key in &keys {
            // One that was never called might hold less.
            keyed.get(text(key)).try_acquire().unwrap().success();
        }
    });
    assert_eq!(keyed.snapshot().keys, size, "each key has its own");
    (keyed, heap.bytes_current as f64 / f64::from(size))
}

/// Looks up one key after the other. The keys that are asked for lie in the order of lookups, but what is found does not.
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

/// So many keys, each once, in an order that nobody foresees, and that is always the same for the same seed.
fn keys(size: u32, seed: u64) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..size)
        .map(|number| {
            let mut key = *b"https://h.test:0000";
            let digits = format!("{number:07}");
            key[8..15].copy_from_slice(digits.as_bytes());
            key
        })
        .collect();
    shuffle(&mut keys, seed);
    keys
}

fn shuffle<T>(all: &mut [T], seed: u64) {
    let mut random = seed;
    for at in (1..all.len()).rev() {
        let place = next_random(&mut random) % (at as u64 + 1);
        all.swap(at, usize::try_from(place).unwrap());
    }
}

fn next_random(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn text(key: &Key) -> &str {
    std::str::from_utf8(key).unwrap()
}
