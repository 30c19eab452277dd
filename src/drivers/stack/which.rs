//! Which stages of a stack do a thing, so that nobody else is asked.

use std::ops::Range;

use super::{builder::LONGEST, stage::Stage};

/// Some stages of a stack, as bits counted from the outermost.
#[derive(Clone, Copy)]
pub(super) struct Which(u32);

const _: () = assert!(LONGEST <= u32::BITS as usize);

impl Which {
    /// Those of which it is true.
    pub(super) fn of(stages: &[Stage], is_one: impl Fn(&Stage) -> bool) -> Self {
        let bits = stages
            .iter()
            .rev()
            .fold(0, |bits, stage| bits << 1 | u32::from(is_one(stage)));
        Self(bits)
    }

    /// Their places that lie there, from the outside in.
    #[inline(always)]
    pub(super) fn within(self, places: Range<usize>) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let at = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (at < places.end).then_some(at)
        })
        .filter(move |at| *at >= places.start)
    }
}

#[cfg(test)]
mod tests {
    use super::Which;

    #[test]
    fn the_places_that_lie_within_a_range_come_from_the_outside_in() {
        let places = |bits, range| Which(bits).within(range).collect::<Vec<_>>();
        assert_eq!(places(0b1011, 0..32), [0, 1, 3]);
        assert_eq!(places(0b1011, 1..3), [1]);
        assert_eq!(places(0b1011, 2..32), [3]);
        assert_eq!(places(0b1011, 3..3), [0_usize; 0]);
        assert_eq!(places(u32::MAX, 30..32), [30, 31]);
        assert_eq!(places(0, 0..32), [0_usize; 0]);
    }
}
