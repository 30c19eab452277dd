//! Shares between 0 and 1, compared exactly.

use std::fmt;

/// A share of calls, between 0 and 1.
///
/// Settings take it as a fraction (`0.5`) or by [`Rate::percent`]. It is kept as written and checked when a
/// policy is built, where the error can name the field; a NaN, a negative share or one above 1 is refused
/// there.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// A share in percent: `Rate::percent(50.0)` is one half.
    pub const fn percent(percent: f64) -> Self {
        Self(percent / 100.0)
    }

    /// A share as a fraction: `Rate::fraction(0.5)` is one half.
    pub const fn fraction(fraction: f64) -> Self {
        Self(fraction)
    }

    /// The share as a fraction.
    pub const fn as_fraction(self) -> f64 {
        self.0
    }

    /// The share in percent.
    pub const fn as_percent(self) -> f64 {
        self.0 * 100.0
    }
}

impl From<f64> for Rate {
    fn from(fraction: f64) -> Self {
        Self(fraction)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two decimals at most, and none that say nothing: `50 %`, `33.33 %`.
        write!(f, "{} %", (self.0 * 10_000.0).round() / 100.0)
    }
}

/// A checked rate in millionths: comparing it with a count of calls is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millionths(u32);

impl Millionths {
    /// `rate` rounded to the nearest millionth, at least one. The caller has checked 0 < rate <= 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn of(rate: Rate) -> Self {
        Self(((rate.0 * 1e6).round() as u32).clamp(1, 1_000_000))
    }

    /// Whether `part` of `whole` is this rate **or more**. Nothing of nothing is not.
    pub(crate) fn reached_by(self, part: u64, whole: u64) -> bool {
        whole > 0 && u128::from(part) * 1_000_000 >= u128::from(whole) * u128::from(self.0)
    }

    /// The same as a share.
    pub(crate) fn rate(self) -> Rate {
        Rate::fraction(f64::from(self.0) / 1e6)
    }

    /// This share of `whole`, rounded down.
    pub(crate) fn part_of(self, whole: u64) -> u64 {
        // A share of at most one is at most the whole.
        u64::try_from(u128::from(whole) * u128::from(self.0) / 1_000_000).unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_reached_when_the_share_equals_it() {
        let half = Millionths::of(Rate::percent(50.0));
        assert!(half.reached_by(1, 2));
        assert!(half.reached_by(50, 100));
        assert!(!half.reached_by(49, 100));
        assert!(!half.reached_by(0, 0));
        let third = Millionths::of(Rate::percent(33.0));
        assert!(third.reached_by(33, 100));
        assert!(!third.reached_by(32, 100));
    }

    #[test]
    fn a_tiny_rate_does_not_become_zero() {
        assert!(!Millionths::of(Rate::fraction(1e-12)).reached_by(0, 10));
    }

    #[test]
    fn a_rate_reads_as_percent() {
        assert_eq!(Rate::fraction(0.5).to_string(), "50 %");
        assert_eq!(Rate::fraction(1.0 / 3.0).to_string(), "33.33 %");
    }
}
