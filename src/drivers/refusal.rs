//! The rejection of a call that was refused when it was made, until it is polled.

use std::fmt;

use crate::{
    drivers::pool::{self, Pool},
    vocabulary::rejected::Rejected,
};

/// A rejection, or none any more.
///
/// Few calls have one, and each would have room for it, so it stands elsewhere.
#[derive(Default)]
pub(crate) struct Refusal(Option<Place>);

type Place = Box<Option<Rejected>>;

thread_local! {
    static PLACES: Pool<Place> = const { Pool::new() };
}

impl Refusal {
    pub(crate) fn of(rejected: Rejected) -> Self {
        let mut place = pool::take(&PLACES).unwrap_or_default();
        *place = Some(rejected);
        Self(Some(place))
    }

    /// The rejection, the first time.
    pub(crate) fn take(&mut self) -> Option<Rejected> {
        let mut place = self.0.take()?;
        let rejected = place.take();
        pool::give_back(&PLACES, place);
        rejected
    }
}

impl Drop for Refusal {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.take();
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
