//! What goes on, for who looks: the last events, the last minute, and the state of now.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::{Semaphore, broadcast, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    Admin, Shared, WeakShared,
    builder::Options,
    series::{Sample, Series},
    views::StackView,
};
use crate::{
    composition::registry::{Registry, RegistrySnapshot},
    vocabulary::{
        clock::Clock,
        events::{Events, Subscribe, Told},
        json::At,
    },
};

/// How often the state is told.
const EVERY: Duration = Duration::from_secs(1);

/// How soon after an event the state is told: several that come together tell it once.
const SOON: Duration = Duration::from_millis(100);

/// Events that wait for the task before some are lost.
const BURST: usize = 4_096;

/// Events that wait for a reader before it loses some.
const WAITING: usize = 256;

/// What all who look share.
pub(super) struct Live {
    /// Tells this process from another one before or after it: their numbers of events are not the same.
    instance: String,
    title: String,
    commands: bool,
    journal: Mutex<Journal>,
    series: Mutex<Series>,
    events: broadcast::Sender<Arc<Entry>>,
    /// The newest frame of the state.
    state: watch::Sender<Bytes>,
    closed: watch::Sender<bool>,
    /// Places for who reads a stream.
    readers: Arc<Semaphore>,
}

/// The last events.
struct Journal {
    kept: VecDeque<Arc<Entry>>,
    most: usize,
    /// The number of the newest one.
    newest: u64,
}

/// An event, written once for all who read it.
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) json: String,
    /// The same as a frame of a stream.
    pub(super) frame: Bytes,
}

/// The state, as the page wants it.
#[derive(Serialize)]
struct State<'a> {
    instance: &'a str,
    title: &'a str,
    /// Whether commands are obeyed, of whom has a token.
    commands: bool,
    /// Counts the seconds; the samples are those of this one.
    ticks: u64,
    samples: BTreeMap<Arc<str>, Sample>,
    at: At,
    generation: u64,
    failed_reloads: u64,
    stacks: Vec<StackView<'a>>,
}

impl Live {
    pub(super) fn new(registry: &Registry, options: &Options) -> Self {
        registry.count_calls();
        let mut series = Series::default();
        series.sample(&registry.snapshot());
        Self {
            instance: format!("{:016x}", rand::random::<u64>()),
            title: options.title.clone(),
            commands: options.tokens.any(),
            journal: Mutex::new(Journal {
                kept: VecDeque::new(),
                most: options.history,
                newest: 0,
            }),
            series: Mutex::new(series),
            events: broadcast::Sender::new(WAITING),
            state: watch::Sender::new(Bytes::new()),
            closed: watch::Sender::new(false),
            readers: Arc::new(Semaphore::new(options.readers)),
        }
    }

    /// What the task reads.
    pub(super) fn subscribe(registry: &Registry) -> Events {
        registry.subscribe(Subscribe::new().capacity(BURST))
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn readers(&self) -> &Arc<Semaphore> {
        &self.readers
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    pub(super) fn states(&self) -> watch::Receiver<Bytes> {
        self.state.subscribe()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.events.subscribe()
    }

    /// The events after that number, the oldest first, and the numbers of the oldest and the newest that are kept.
    pub(super) fn after(&self, seq: u64) -> (Vec<Arc<Entry>>, u64, u64) {
        let journal = self.journal();
        let entries = journal.kept.iter().filter(|entry| entry.seq > seq);
        let oldest = journal.kept.front().map_or(journal.newest, |entry| entry.seq);
        (entries.cloned().collect(), oldest, journal.newest)
    }

    /// The last so many events, the oldest first.
    pub(super) fn last(&self, count: usize) -> Vec<Arc<Entry>> {
        let journal = self.journal();
        let skipped = journal.kept.len().saturating_sub(count);
        journal.kept.iter().skip(skipped).cloned().collect()
    }

    /// The last minute, as a frame.
    pub(super) fn series_frame(&self) -> Bytes {
        frame("series", &*self.series())
    }

    /// The state of now, as a frame.
    pub(super) fn state_frame(&self, registry: &Registry) -> Bytes {
        self.frame_of(&registry.snapshot())
    }

    fn frame_of(&self, snapshot: &RegistrySnapshot) -> Bytes {
        let (ticks, samples) = {
            let series = self.series();
            (series.ticks(), series.newest())
        };
        let state = State {
            instance: &self.instance,
            title: &self.title,
            commands: self.commands,
            ticks,
            samples,
            at: At(snapshot.at),
            generation: snapshot.generation,
            failed_reloads: snapshot.failed_reloads,
            stacks: StackView::of(snapshot),
        };
        frame("state", &state)
    }

    /// Tells the state to those who look, if there are any.
    fn tell_state(&self, snapshot: &RegistrySnapshot) {
        if self.state.receiver_count() > 0 {
            self.state.send_replace(self.frame_of(snapshot));
        }
    }

    pub(super) fn note(&self, told: &Told) {
        // An event has no key that is no text, which alone could fail.
        let json = serde_json::to_string(told).unwrap_or_default();
        let id = format!("{}.{}", self.instance, told.seq);
        let entry = Arc::new(Entry {
            seq: told.seq,
            frame: written_frame("event", Some(&id), &json),
            json,
        });
        {
            let mut journal = self.journal();
            while journal.kept.len() >= journal.most {
                journal.kept.pop_front();
            }
            journal.newest = entry.seq;
            journal.kept.push_back(Arc::clone(&entry));
        }
        // Nobody needs to be reading.
        let _ = self.events.send(entry);
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A frame of a stream of server-sent events.
fn frame(event: &str, data: &impl Serialize) -> Bytes {
    match serde_json::to_string(data) {
        Ok(json) => written_frame(event, None, &json),
        // Nothing that is told has a key that is no text.
        Err(_) => Bytes::new(),
    }
}

/// The same of JSON that is written already. It has no line break: in JSON these are escaped.
pub(super) fn written_frame(event: &str, id: Option<&str>, json: &str) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("event: {event}\n{id}data: {json}\n\n").into()
}

/// Keeps events and samples and tells the state, until all handles are gone.
pub(super) async fn run(shared: WeakShared, mut events: Events) {
    let clock = Clock::tokio();
    // The first samples are of now: it may have been built long before.
    {
        let Some(shared) = Weak::upgrade(&shared) else {
            return;
        };
        let mut series = Series::default();
        series.sample(&shared.registry.snapshot());
        *shared.live.series() = series;
    }
    let mut ticks = interval_at(clock.timer(clock.now().after(EVERY)), EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When to tell the state because of an event.
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let Some(shared) = Weak::upgrade(&shared) else { return };
                shared.registry.tick();
                // Stages may have come.
                shared.registry.count_calls();
                while let Some(told) = events.try_recv() {
                    shared.live.note(&told);
                }
                let snapshot = shared.registry.snapshot();
                shared.live.series().sample(&snapshot);
                shared.live.tell_state(&snapshot);
                due = None;
            }
            told = events.recv() => {
                let (Some(shared), Some(told)) = (Weak::upgrade(&shared), told) else { return };
                shared.live.note(&told);
                due = due.or_else(|| Some(clock.timer(clock.now().after(SOON))));
            }
            () = until(due) => {
                let Some(shared) = Weak::upgrade(&shared) else { return };
                shared.live.tell_state(&shared.registry.snapshot());
                due = None;
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Who still reads would wait for a task that is gone.
        self.live.close();
    }
}

impl Admin {
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.0.live
    }
}
