//! Series on their way to the recorder.

use metrics::{Key, Label, Level, Metadata, Recorder, SharedString};

use super::catalog::{self, Kind};

static METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some("buttress"));

/// The recorder of this moment. Nothing that it hands out is kept: one that is installed later must not be missed.
#[derive(Clone, Copy)]
pub(super) struct Sink<'a> {
    recorder: &'a dyn Recorder,
    prefix: &'a str,
    /// The labels that all series have.
    of: Option<(&'static str, &'a str)>,
}

/// A label with a word from a list.
pub(super) type Word = (&'static str, &'static str);

impl<'a> Sink<'a> {
    pub(super) fn new(recorder: &'a dyn Recorder, prefix: &'a str) -> Self {
        Self {
            recorder,
            prefix,
            of: None,
        }
    }

    /// For the series of one policy.
    pub(super) fn of<'b>(&'b self, policy: &'static str, name: &'b str) -> Sink<'b> {
        Sink {
            recorder: self.recorder,
            prefix: self.prefix,
            of: Some((policy, name)),
        }
    }

    /// Says what the metrics are. It is done each time: a recorder that came meanwhile has not heard it.
    pub(super) fn describe(&self) {
        for metric in catalog::ALL {
            let name = format!("{}{}", self.prefix, metric.name).into();
            let (unit, meaning) = (Some(metric.unit), SharedString::const_str(metric.meaning));
            match metric.kind {
                Kind::Counter => self.recorder.describe_counter(name, unit, meaning),
                Kind::Gauge => self.recorder.describe_gauge(name, unit, meaning),
                Kind::Histogram => self.recorder.describe_histogram(name, unit, meaning),
            }
        }
    }

    pub(super) fn counter(&self, name: &str, words: &[Word], total: u64) {
        let key = self.key(name, words);
        self.recorder.register_counter(&key, &METADATA).absolute(total);
    }

    pub(super) fn gauge(&self, name: &str, words: &[Word], value: f64) {
        let key = self.key(name, words);
        self.recorder.register_gauge(&key, &METADATA).set(value);
    }

    /// Adds so many of each value.
    pub(super) fn histogram(&self, name: &str, words: &[Word], values: impl Iterator<Item = (f64, u64)>) {
        let key = self.key(name, words);
        let histogram = self.recorder.register_histogram(&key, &METADATA);
        for (value, count) in values.filter(|(_, count)| *count > 0) {
            histogram.record_many(value, usize::try_from(count).unwrap_or(usize::MAX));
        }
    }

    fn key(&self, name: &str, words: &[Word]) -> Key {
        let mut labels = Vec::with_capacity(words.len() + 2);
        if let Some((policy, name)) = self.of {
            labels.push(Label::from_static_parts("policy", policy));
            labels.push(Label::new("name", name.to_owned()));
        }
        let words = words
            .iter()
            .map(|(label, word)| Label::from_static_parts(label, word));
        labels.extend(words);
        Key::from_parts(format!("{}{name}", self.prefix), labels)
    }
}
