//! The keys and their policies.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use super::{config::KeyedConfig, lines::Lines};
use crate::{
    policies::per_key::{Beside, KeyTag, PerKey},
    vocabulary::{
        clock::{Timestamp, nanos},
        event::{Observer, What},
        events::{Events, Subscribe},
        settings::ConfigError,
        sync::{AtomicU32, AtomicU64, Ordering},
    },
};

/// A policy of its own for each key: a cheap handle on shared state.
///
/// A key is any text: a host, a tenant, an authority (scheme, host, port). Its policy is made when the key is first asked
/// for, with the settings of the one that this was built from, and the name `payments[KEY]` in rejections and events.
/// Built by [`KeyedConfig::build`]; put around services by a [`KeyedLayer`](crate::KeyedLayer).
///
/// # Lookup
///
/// A key that is known costs its hash, a shared lock on one of many parts of the table, a clone of the handle, and a
/// reading of the clock where keys can be forgotten. No lookup of a known key waits for another one.
///
/// Among so many keys that no cache holds them, a lookup of a circuit breaker waits for memory twice, once for the place in
/// the table and once for the breaker, which the call needs anyway; for other policies three times.
///
/// # Bound
///
/// At most [`max_keys`](KeyedConfig::max_keys) keys have a policy of their own. Past that, and for keys of more than 1024
/// bytes, calls share the policy `payments[*]`, and [`What::KeysFull`] is told; a snapshot counts them. A key that finds
/// no place gets its own policy as soon as another one is forgotten.
///
/// # Forgetting
///
/// A key that was not asked for during [`idle`](KeyedConfig::idle) is forgotten when others come (or by
/// [`sweep`](Self::sweep)), at the latest a 30th of `idle` later where its place is needed. It is not while anybody has
/// a handle on its policy, as each call in flight has; so a bulkhead with calls in flight stays. A circuit breaker that
/// is open stays until its wait is over, half-open until its longest stay is (where it has one), and one that was
/// commanded into another state stays.
///
/// # Memory
///
/// For each key: its text, the policy and its place in the table. A circuit breaker with a time window of ten buckets takes
/// 490 to 510 bytes all told, as measured with 10 000 keys and more (what the allocator rounds up came to 30 on top of
/// that). Keys of up to 38 bytes are in it, a longer one takes its length more. So does each further bucket 16, and one that
/// has opened 130 from then on, with another name of its own once that is told. With a count window of 100 calls it is 365.
/// Settings are shared.
///
/// ```
/// use buttress::{BulkheadConfig, KeyedConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenants = KeyedConfig::new().build(BulkheadConfig::new(8).build("reports")?)?;
/// let answer = tenants.get("acme").run(|| async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(answer, 42);
/// # Ok(())
/// # }
/// ```
pub struct Keyed<P: PerKey>(Arc<Shared<P>>);

struct Shared<P: PerKey> {
    each: P,
    overflow: P,
    shards: Box<[Shard<P>]>,
    hasher: RandomState,
    max_keys: AtomicU32,
    /// Nanoseconds; `u64::MAX` where no key is forgotten.
    idle: AtomicU64,
    /// Keys with a policy of their own.
    keys: AtomicU32,
    /// Before this no key can be forgotten, in nanoseconds.
    earliest: AtomicU64,
    /// 1 while a new key found no place.
    full: AtomicU32,
    forgotten: AtomicU64,
    overflowed: AtomicU64,
}

/// A part of the table. Alone on its cache lines: who looks up in one does not disturb the others.
#[repr(align(128))]
struct Shard<P: PerKey>(RwLock<Part<P>>);

struct Part<P: PerKey> {
    entries: Lines<Entry<P>>,
    /// Before this no key of this part can be forgotten.
    earliest: Timestamp,
}

/// The key's tag stands in one of the two.
struct Entry<P: PerKey> {
    policy: P,
    beside: P::Beside,
}

/// Keyed policies at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyedSnapshot {
    /// Keys with a policy of their own.
    pub keys: u32,
    /// How many there may be.
    pub max_keys: u32,
    /// Keys forgotten so far.
    pub forgotten: u64,
    /// Lookups so far that found no place for their key and got the shared policy.
    pub overflowed: u64,
}

/// Longer keys share the policy of those that find no place.
const LONGEST_KEY: usize = 1024;

/// The key of the policy that is shared by those that find no place.
const OVERFLOW: &str = "*";

/// Times of use are told in steps of a 64th of `idle`, so that a busy key is seldom written to.
const GRAINS: u64 = 64;

impl<P: PerKey> Clone for Keyed<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: PerKey> Keyed<P> {
    pub(super) fn new(each: P, config: KeyedConfig) -> Self {
        // One for 256 keys, so that a part is swept in a fraction of a millisecond; enough of them that callers on many
        // cores seldom meet.
        let shards = (config.max_keys / 256).next_power_of_two().clamp(16, 256);
        let part = || Part {
            entries: Lines::default(),
            earliest: Timestamp::MAX,
        };
        Self(Arc::new(Shared {
            overflow: each.for_key(OVERFLOW),
            each,
            shards: (0..shards).map(|_| Shard(RwLock::new(part()))).collect(),
            hasher: RandomState::new(),
            max_keys: AtomicU32::new(config.max_keys),
            idle: AtomicU64::new(config.idle.map_or(u64::MAX, nanos)),
            keys: AtomicU32::new(0),
            earliest: AtomicU64::new(u64::MAX),
            full: AtomicU32::new(0),
            forgotten: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }))
    }

    /// The policy for `key`, made now where there is none. While the caller has it, the key is not forgotten.
    ///
    /// Where there is no place for the key, the policy that such keys share.
    #[inline]
    pub fn get(&self, key: &str) -> P {
        let shared = &*self.0;
        let hash = shared.hasher.hash_one(key);
        let part = shared.shard(hash).read();
        if let Some(entry) = part.entries.find(hash, |entry| entry.is(key)) {
            shared.touch(entry);
            return entry.policy.clone();
        }
        drop(part);
        self.make(key, hash)
    }

    /// The policy for `key` where there is one. It does not count as being asked for.
    pub fn peek(&self, key: &str) -> Option<P> {
        let shared = &*self.0;
        let hash = shared.hasher.hash_one(key);
        let part = shared.shard(hash).read();
        let entry = part.entries.find(hash, |entry| entry.is(key))?;
        Some(entry.policy.clone())
    }

    /// All keys and their policies, in no order. While the caller has them, they are not forgotten.
    pub fn entries(&self) -> Vec<(Box<str>, P)> {
        let mut all = Vec::new();
        for shard in &self.0.shards {
            let part = shard.read();
            all.extend(
                part.entries
                    .iter()
                    .map(|entry| (entry.key().into(), entry.policy.clone())),
            );
        }
        all
    }

    /// What gives it back for as long as somebody else has it.
    #[cfg(feature = "metrics")]
    pub(crate) fn weakly(&self) -> impl Fn() -> Option<Self> + Clone + Send + Sync + use<P> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// Goes through the policies of all keys, and that of those which find no place. No lock is held meanwhile, and few
    /// keys are kept from being forgotten at a time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(P)) {
        for shard in &self.0.shards {
            let policies: Vec<P> = {
                let part = shard.read();
                part.entries.iter().map(|entry| entry.policy.clone()).collect()
            };
            policies.into_iter().for_each(&mut visit);
        }
        visit(self.newest_overflow());
    }

    /// The policy that keys share for which there is no place.
    pub fn overflow(&self) -> &P {
        &self.0.overflow
    }

    /// What the policies of new keys are made from. New settings that it is given are those of keys that come from then
    /// on; give them to [`entries`](Self::entries) and [`overflow`](Self::overflow) too.
    pub fn each(&self) -> &P {
        &self.0.each
    }

    /// Counts of one moment.
    pub fn snapshot(&self) -> KeyedSnapshot {
        let shared = &*self.0;
        KeyedSnapshot {
            keys: shared.keys.load(Ordering::Relaxed),
            max_keys: shared.max_keys.load(Ordering::Relaxed),
            forgotten: shared.forgotten.load(Ordering::Relaxed),
            overflowed: shared.overflowed.load(Ordering::Relaxed),
        }
    }

    /// Takes another bound and another time to forget in place. Keys over a lower bound stay until they are forgotten.
    ///
    /// # Errors
    ///
    /// A setting out of its range; then everything stays as it was.
    pub fn reconfigure(&self, config: &KeyedConfig) -> Result<(), ConfigError> {
        let shared = &*self.0;
        config.check(shared.each.name())?;
        shared.max_keys.store(config.max_keys, Ordering::Relaxed);
        shared
            .idle
            .store(config.idle.map_or(u64::MAX, nanos), Ordering::Relaxed);
        // What was found out about when to look again was so for the time before.
        for shard in &shared.shards {
            shard.write().earliest = Timestamp::default();
        }
        shared.earliest.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Adds an observer of the events of all these policies, of those that are made later too.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        self.visit(|policy| policy.add_observer(Arc::clone(observer)));
    }

    /// Subscribes to the events of all these policies, of those that are made later too, as a stream that never makes a
    /// call wait.
    pub fn subscribe(&self, to: impl Into<Subscribe>) -> Events {
        let (events, observer) = Events::new(to.into(), None);
        let weak = Arc::downgrade(&observer);
        self.observe(&observer);
        let shared = Arc::downgrade(&self.0);
        events.ended_by(move || {
            if let Some(shared) = shared.upgrade() {
                Self(shared).visit(|policy| policy.remove_observer(&weak));
            }
        })
    }

    /// Lets `visit` see all policies, those that are made meanwhile, and what later ones are made from.
    pub(crate) fn visit(&self, visit: impl Fn(&P)) {
        let shared = &*self.0;
        // The one that others are made from comes first: a policy that is made meanwhile is either made from what was
        // visited or found below. Making one holds the lock of its part.
        for policy in [&shared.each, &shared.overflow] {
            visit(policy);
            if let Some(successor) = policy.successor() {
                visit(&successor);
            }
        }
        for shard in &shared.shards {
            // Nobody makes one in this part meanwhile.
            let part = shard.write();
            for entry in part.entries.iter() {
                visit(&entry.policy);
            }
        }
    }

    /// Puts what has taken the place of the keys' policies into the table.
    ///
    /// Whoever exchanges policies supersedes what others are made from first, then those of [`entries`](Self::entries),
    /// and calls this: a key that comes meanwhile is made of the new one or is among the entries.
    pub(crate) fn renew(&self) {
        for shard in &self.0.shards {
            let mut part = shard.write();
            for entry in part.entries.iter_mut() {
                if let Some(successor) = entry.policy.successor() {
                    entry.policy = successor;
                }
            }
        }
    }

    /// All keys and their policies, with that of the keys which find no place.
    pub(crate) fn all_entries(&self) -> Vec<(Box<str>, P)> {
        let mut all = self.entries();
        all.push((OVERFLOW.into(), self.newest_overflow()));
        all
    }

    fn newest_overflow(&self) -> P {
        let overflow = &self.0.overflow;
        overflow.successor().unwrap_or_else(|| overflow.clone())
    }

    /// Forgets the keys that may be forgotten now, and says how many.
    pub fn sweep(&self) -> usize {
        self.sweep_due(self.0.each.clock().now(), true)
    }

    /// Makes the policy for a key that has none.
    #[cold]
    fn make(&self, key: &str, hash: u64) -> P {
        let shared = &*self.0;
        let now = shared.each.clock().now();
        if key.len() > LONGEST_KEY {
            return self.share(false);
        }
        if shared.is_full() && now.as_nanos() >= shared.earliest.load(Ordering::Relaxed) {
            self.sweep_due(now, false);
        }
        let mut forgotten = Vec::new();
        let made = {
            let mut part = shared.shard(hash).write();
            if now >= part.earliest {
                forgotten = shared.sweep(&mut part, now);
            }
            if let Some(entry) = part.entries.find(hash, |entry| entry.is(key)) {
                // Another caller made it meanwhile.
                shared.touch(entry);
                Some(entry.policy.clone())
            } else if shared.take_place() {
                shared.full.store(0, Ordering::Relaxed);
                // Under the lock: whoever exchanges the one that others are made from looks through the parts after it.
                let newest = shared.each.successor();
                let policy = newest.as_ref().unwrap_or(&shared.each).for_key(key);
                let entry = Entry::new(key, policy.clone(), now);
                part.entries.insert(hash, entry, |entry| shared.hash_of(entry));
                let expires = shared.expiry(now);
                part.earliest = part.earliest.min(expires);
                shared.earliest.fetch_min(expires.as_nanos(), Ordering::Relaxed);
                Some(policy)
            } else {
                None
            }
        };
        tell_forgotten(forgotten);
        match made {
            Some(policy) => policy,
            None => self.share(true),
        }
    }

    /// The shared policy, for a key without a place.
    fn share(&self, full: bool) -> P {
        let shared = &*self.0;
        shared.overflowed.fetch_add(1, Ordering::Relaxed);
        if full && shared.full.swap(1, Ordering::Relaxed) == 0 {
            let max_keys = shared.max_keys.load(Ordering::Relaxed);
            shared.overflow.tell_observers(What::KeysFull { max_keys });
        }
        self.newest_overflow()
    }

    /// Sweeps the parts where a key may be due, or all.
    fn sweep_due(&self, now: Timestamp, all: bool) -> usize {
        let shared = &*self.0;
        // Whoever comes meanwhile need not do the same.
        shared.earliest.store(u64::MAX, Ordering::Relaxed);
        let (mut count, mut earliest) = (0, Timestamp::MAX);
        for shard in &shared.shards {
            let mut part = shard.write();
            let mut forgotten = Vec::new();
            if all || now >= part.earliest {
                forgotten = shared.sweep(&mut part, now);
            }
            earliest = earliest.min(part.earliest);
            drop(part);
            count += forgotten.len();
            tell_forgotten(forgotten);
        }
        shared.earliest.fetch_min(earliest.as_nanos(), Ordering::Relaxed);
        count
    }
}

impl<P: PerKey> Shared<P> {
    #[inline]
    fn shard(&self, hash: u64) -> &Shard<P> {
        // A part goes by the lower half and the highest bits.
        let at = (hash >> 32) as usize & (self.shards.len() - 1);
        &self.shards[at]
    }

    fn hash_of(&self, entry: &Entry<P>) -> u64 {
        self.hasher.hash_one(entry.key())
    }

    /// Notes that the key was asked for.
    #[inline]
    fn touch(&self, entry: &Entry<P>) {
        let idle = self.idle.load(Ordering::Relaxed);
        if idle != u64::MAX
            && let Some(tag) = entry.tag()
        {
            let due = tag.asked().after(Duration::from_nanos(idle / GRAINS));
            let now = self.each.clock().now_towards(due);
            if now > due {
                tag.note_asked(now);
            }
        }
    }

    /// When a key that is noted as asked for at `asked` may be forgotten: it may have been asked for a grain later.
    fn expiry(&self, asked: Timestamp) -> Timestamp {
        match self.idle.load(Ordering::Relaxed) {
            u64::MAX => Timestamp::MAX,
            idle => asked.after(Duration::from_nanos(idle.saturating_add(idle / GRAINS))),
        }
    }

    fn is_full(&self) -> bool {
        self.keys.load(Ordering::Relaxed) >= self.max_keys.load(Ordering::Relaxed)
    }

    fn take_place(&self) -> bool {
        let max_keys = self.max_keys.load(Ordering::Relaxed);
        let taken = |keys: u32| (keys < max_keys).then_some(keys + 1);
        self.keys
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    /// Takes out what may be forgotten now. With the lock held nobody else can get a handle from here.
    fn sweep(&self, part: &mut Part<P>, now: Timestamp) -> Vec<P> {
        let mut earliest = Timestamp::MAX;
        let goes = |entry: &Entry<P>| {
            let asked = entry.tag().map(KeyTag::asked).unwrap_or_default();
            let expires = self.expiry(asked);
            if now < expires {
                earliest = earliest.min(expires);
                return false;
            }
            if entry.policy.is_forgettable(now) {
                return true;
            }
            // It is in use, or its time is not over: look again a little later.
            let idle = self.idle.load(Ordering::Relaxed);
            earliest = earliest.min(now.after(Duration::from_nanos(idle / GRAINS)));
            false
        };
        let forgotten = part.entries.take_out(goes, |entry| self.hash_of(entry));
        part.earliest = earliest;
        let gone = u32::try_from(forgotten.len()).unwrap_or(u32::MAX);
        self.keys.fetch_sub(gone, Ordering::Relaxed);
        self.forgotten.fetch_add(u64::from(gone), Ordering::Relaxed);
        forgotten.into_iter().map(|entry| entry.policy).collect()
    }
}

impl<P: PerKey> Entry<P> {
    fn new(key: &str, policy: P, asked: Timestamp) -> Self {
        let entry = Self {
            policy,
            beside: P::Beside::of(key),
        };
        if let Some(tag) = entry.tag() {
            tag.note_asked(asked);
        }
        entry
    }

    /// Always there.
    #[inline(always)]
    fn tag(&self) -> Option<&KeyTag> {
        self.beside.tag().or_else(|| self.policy.own_tag())
    }

    #[inline]
    fn is(&self, key: &str) -> bool {
        self.tag().is_some_and(|tag| tag.is(key))
    }

    fn key(&self) -> &str {
        self.tag().map(KeyTag::text).unwrap_or_default()
    }
}

impl<P: PerKey> Shard<P> {
    #[inline]
    fn read(&self) -> RwLockReadGuard<'_, Part<P>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Part<P>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With no lock held: observers run.
fn tell_forgotten<P: PerKey>(forgotten: Vec<P>) {
    for policy in forgotten {
        policy.tell_observers(What::KeyForgotten);
    }
}

impl<P: PerKey> fmt::Debug for Keyed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("each", &self.0.each.name())
            .field("snapshot", &self.snapshot())
            .finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::policies::circuit_breaker::CircuitBreakerConfig;

    #[test]
    fn a_lookup_of_a_known_key_waits_for_no_other_lookup() {
        let each = CircuitBreakerConfig::new().build("jobs").expect("it is valid");
        let keyed = KeyedConfig::new().build(each).expect("it is valid");
        keyed.get("acme");
        // As if a lookup in each part were under way.
        let parts: Vec<_> = keyed.0.shards.iter().map(Shard::read).collect();
        let (done, is_done) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| done.send(keyed.get("acme")));
            let found = is_done.recv_timeout(Duration::from_secs(20));
            drop(parts);
            assert!(found.is_ok(), "it waited");
        });
    }
}
