//! What was measured, as a table and as JSON.

use serde_json::{Value, json};

/// Several measurements of the same thing.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    /// The quartiles.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) rounds: usize,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values.get(values.len() * share / 4).copied().unwrap_or(f64::NAN);
        Self {
            median: at(2),
            min: at(0),
            low: at(1),
            high: at(3),
            rounds: values.len(),
        }
    }
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    base: String,
    pub(crate) times: Option<Spread>,
    pub(crate) over_bare: Option<f64>,
    over_bare_min: Option<f64>,
    pub(crate) allocs: Option<f64>,
    pub(crate) bytes: Option<f64>,
    note: String,
}

impl Line {
    pub(crate) fn new(group: &'static str, name: impl Into<String>, base: impl Into<String>) -> Self {
        Self {
            group,
            name: name.into(),
            base: base.into(),
            times: None,
            over_bare: None,
            over_bare_min: None,
            allocs: None,
            bytes: None,
            note: String::new(),
        }
    }

    /// Nanoseconds of one call.
    pub(crate) fn times(mut self, times: Spread) -> Self {
        self.times = Some(times);
        self
    }

    pub(crate) fn heap(mut self, allocs: f64, bytes: f64) -> Self {
        self.allocs = Some(allocs);
        self.bytes = Some(bytes);
        self
    }

    pub(crate) fn bytes(mut self, bytes: f64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn ns(&self) -> Option<f64> {
        self.times.map(|times| times.median)
    }

    /// Millions of calls per second.
    pub(crate) fn mcalls(&self) -> Option<f64> {
        self.ns().map(|ns| 1e3 / ns)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "group": self.group,
            "name": self.name,
            "ns": round(self.ns(), 3),
            "over_bare_ns": round(self.over_bare, 3),
            "allocs": round(self.allocs, 3),
            "bytes": round(self.bytes, 1),
            "mcalls_s": round(self.mcalls(), 3),
        })
    }
}

/// JSON knows neither NaN nor infinity; they become null.
fn round(value: Option<f64>, digits: i32) -> Option<f64> {
    let unit = 10_f64.powi(digits);
    value
        .map(|value| (value * unit).round() / unit)
        .filter(|value| value.is_finite())
}

/// Fills in what each line costs over the one that it is compared with.
pub(crate) fn compare(lines: &mut [Line]) {
    let of = |name: &str| lines.iter().find(|line| line.name == name)?.times;
    let bases: Vec<_> = lines.iter().map(|line| of(&line.base)).collect();
    for (line, base) in lines.iter_mut().zip(bases) {
        if let (Some(times), Some(base)) = (line.times, base) {
            line.over_bare = Some(times.median - base.median);
            line.over_bare_min = Some(times.min - base.min);
        }
    }
}

pub(crate) fn print_head() {
    println!(
        "{:<36} {:>10} {:>10} {:>17} {:>10} {:>10} {:>7} {:>8} {:>9} {:>6}",
        "name",
        "median ns",
        "min ns",
        "quartiles",
        "over bare",
        "(of mins)",
        "allocs",
        "bytes",
        "M calls/s",
        "rounds"
    );
}

pub(crate) fn print(lines: &[Line]) {
    let show = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for line in lines {
        let times = line.times;
        let quartiles = times.map_or_else(
            || "-".to_owned(),
            |times| format!("{:.1}..{:.1}", times.low, times.high),
        );
        println!(
            "{:<36} {:>10} {:>10} {:>17} {:>10} {:>10} {:>7} {:>8} {:>9} {:>6}  {}",
            line.name,
            show(line.ns(), 1),
            show(times.map(|times| times.min), 1),
            quartiles,
            show(line.over_bare, 1),
            show(line.over_bare_min, 1),
            show(line.allocs, 2),
            show(line.bytes, 0),
            show(line.mcalls(), 2),
            times.map_or_else(|| "-".to_owned(), |times| times.rounds.to_string()),
            line.note,
        );
    }
}
