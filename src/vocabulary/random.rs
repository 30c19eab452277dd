//! Randomness that a test can seed.

use std::sync::Arc;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::vocabulary::sync::{Mutex, lock};

/// Where jitter comes from: the thread's generator, or a seeded one that repeats itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Random(Option<Arc<Mutex<StdRng>>>);

impl Random {
    /// Seeded where a seed is given.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(seed.map(|seed| Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// A number from 0 inclusive to 1 exclusive, evenly spread.
    pub(crate) fn unit(&self) -> f64 {
        fn draw(mut rng: impl Rng) -> f64 {
            rng.random()
        }
        match &self.0 {
            None => draw(rand::rng()),
            Some(seeded) => draw(&mut *lock(seeded)),
        }
    }
}
