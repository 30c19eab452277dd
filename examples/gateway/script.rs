//! What the embedded upstream goes through, and when.

use std::time::Duration;

/// How the embedded upstream behaves; [`Health::meaning`] tells it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Slow,
    Failing,
    Hanging,
}

impl Health {
    pub(crate) const ALL: [Self; 4] = [Self::Healthy, Self::Slow, Self::Failing, Self::Hanging];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Hanging => "hanging",
        }
    }

    /// What it means for a call.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Healthy => "answers in 10 to 30 ms; one answer in a hundred is a 503",
            Self::Slow => "a call takes a worker 200 ms: too few workers for the load, so calls queue",
            Self::Failing => "every answer is a 500, at once",
            Self::Hanging => "no answer at all",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.name() == name)
    }
}

/// A part of the script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) health: Health,
    /// From here, after the start of the pass.
    pub(crate) begins: Duration,
    /// To here.
    pub(crate) ends: Duration,
}

impl Phase {
    pub(crate) const fn lasts(&self) -> Duration {
        self.ends.saturating_sub(self.begins)
    }
}

/// Name, health, and share of the whole. The last phase is the longest: a recovery has to fit into it.
const PARTS: [(&str, Health, u32); 5] = [
    ("healthy", Health::Healthy, 4),
    ("slow", Health::Slow, 5),
    ("failing", Health::Failing, 5),
    ("hanging", Health::Hanging, 6),
    ("healthy again", Health::Healthy, 10),
];

/// Healthy, slow, failing, hanging, healthy again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    phases: [Phase; PARTS.len()],
}

impl Script {
    /// The script stretched over `total`.
    pub(crate) fn lasting(total: Duration) -> Self {
        let whole: u32 = PARTS.iter().map(|(_, _, share)| share).sum();
        let mut done = 0;
        let phases = PARTS.map(|(name, health, share)| {
            let begins = total * done / whole;
            done += share;
            Phase {
                name,
                health,
                begins,
                ends: total * done / whole,
            }
        });
        Self { phases }
    }

    pub(crate) const fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// How long its shortest phase is.
    pub(crate) fn shortest(&self) -> Duration {
        self.phases.iter().map(Phase::lasts).min().unwrap_or_default()
    }

    /// The phase at `elapsed` after the start; the last one for ever.
    pub(crate) fn at(&self, elapsed: Duration) -> &Phase {
        let [.., last] = &self.phases;
        self.phases
            .iter()
            .find(|phase| elapsed < phase.ends)
            .unwrap_or(last)
    }

    /// Whether the upstream is anything but healthy at `elapsed`.
    pub(crate) fn is_sick(&self, elapsed: Duration) -> bool {
        self.at(elapsed).health != Health::Healthy
    }

    /// When the upstream turns healthy again.
    pub(crate) const fn recovers(&self) -> Duration {
        let [.., last] = &self.phases;
        last.begins
    }
}
