//! Sets of HTTP statuses, as settings write them.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::vocabulary::settings::ConfigError;

/// A set of HTTP statuses from 100 to 599.
///
/// It is written as a list of parts, separated by commas or blanks: a status (`429`), a class (`5xx`), or a range
/// with both ends in it (`502..504`). A part with `!` before it is taken out of what stands before it:
/// `5xx, !501, 429`.
///
/// ```
/// use buttress::{Predicate, StatusSet};
///
/// let failures: StatusSet = "5xx, !501, 429".parse()?;
/// assert!(failures.contains(503) && failures.contains(429) && !failures.contains(501));
///
/// let error = "9xx".parse::<StatusSet>().unwrap_err();
/// assert_eq!((error.field(), error.value()), ("status", "9xx"));
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StatusSet([u64; 8]);

const FIRST: u16 = 100;
const LAST: u16 = 599;
const ACCEPTED: &str = "accepted: statuses (`429`), classes from `1xx` to `5xx`, and ranges (`502..504`), from 100 to 599, \
                        in a list such as `5xx, !501, 429`";

impl StatusSet {
    /// No status.
    pub const fn none() -> Self {
        Self([0; 8])
    }

    /// This set and `status`. A status outside of 100 to 599 changes nothing.
    #[must_use]
    pub const fn with(mut self, status: u16) -> Self {
        if FIRST <= status && status <= LAST {
            let bit = status - FIRST;
            self.0[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        self
    }

    /// This set without `status`.
    #[must_use]
    pub const fn without(mut self, status: u16) -> Self {
        if FIRST <= status && status <= LAST {
            let bit = status - FIRST;
            self.0[(bit / 64) as usize] &= !(1 << (bit % 64));
        }
        self
    }

    /// This set and the statuses from the first to the last one, both included.
    #[must_use]
    pub const fn with_range(mut self, first: u16, last: u16) -> Self {
        let mut status = if first < FIRST { FIRST } else { first };
        while status <= last && status <= LAST {
            self = self.with(status);
            status += 1;
        }
        self
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(mut self, other: Self) -> Self {
        let mut word = 0;
        while word < self.0.len() {
            self.0[word] |= other.0[word];
            word += 1;
        }
        self
    }

    /// Whether `status` is in it.
    #[inline]
    pub const fn contains(&self, status: u16) -> bool {
        if status < FIRST || status > LAST {
            return false;
        }
        let bit = status - FIRST;
        self.0[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    /// Whether it has no status at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::none()
    }

    /// Its statuses, from the lowest.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let set = *self;
        (FIRST..=LAST).filter(move |&status| set.contains(status))
    }
}

/// The statuses that one part names.
fn parse_part(part: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let status: u16 = digits.then(|| text.parse().ok())??;
        (FIRST..=LAST).contains(&status).then_some(status)
    };
    if let Some(class) = part.strip_suffix("xx").or_else(|| part.strip_suffix("XX")) {
        let first = status(&format!("{class}00"))?;
        return Some(first..=first + 99);
    }
    if let Some((first, last)) = part.split_once("..") {
        let (first, last) = (status(first)?, status(last.strip_prefix('=').unwrap_or(last))?);
        return (first <= last).then_some(first..=last);
    }
    let status = status(part)?;
    Some(status..=status)
}

impl FromStr for StatusSet {
    type Err = ConfigError;

    /// # Errors
    ///
    /// A part that is none of the above, such as `9xx`, or no part at all. The error's field is `status`, its value
    /// the part.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut set = Self::none();
        let mut parts = 0;
        for part in text
            .split(|separator: char| separator == ',' || separator.is_whitespace())
            .filter(|part| !part.is_empty())
        {
            parts += 1;
            let (negated, name) = part.strip_prefix('!').map_or((false, part), |name| (true, name));
            let range = parse_part(name).ok_or_else(|| ConfigError::new("status", part, ACCEPTED))?;
            for status in range {
                set = if negated {
                    set.without(status)
                } else {
                    set.with(status)
                };
            }
        }
        if parts == 0 {
            return Err(ConfigError::new("status", format!("{text:?}"), ACCEPTED));
        }
        Ok(set)
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut status = FIRST;
        while status <= LAST {
            if !self.contains(status) {
                status += 1;
                continue;
            }
            let mut last = status;
            while self.contains(last + 1) {
                last += 1;
            }
            // Whole classes are written as such.
            let end = if status.is_multiple_of(100) && last >= status + 99 {
                status + 99
            } else {
                last.min(status - status % 100 + 99)
            };
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            match end - status {
                0 => write!(f, "{status}")?,
                99 => write!(f, "{}xx", status / 100)?,
                _ => write!(f, "{status}..{end}")?,
            }
            status = end + 1;
        }
        Ok(())
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<u16> {
        text.parse::<StatusSet>().unwrap().iter().collect()
    }

    #[test]
    fn a_status_a_class_and_a_range_with_both_its_ends_are_understood() {
        assert_eq!(set("429"), [429]);
        assert_eq!(set("5xx"), (500..=599).collect::<Vec<_>>());
        assert_eq!(set("502..504"), [502, 503, 504]);
        assert_eq!(set("502..=504"), [502, 503, 504]);
        assert_eq!(set("408, 425 429"), [408, 425, 429]);
        assert_eq!(set("500..502, !501"), [500, 502]);
    }

    #[test]
    fn what_is_no_status_is_refused_and_named() {
        for bad in [
            "9xx", "6xx", "0xx", "xx", "5x", "5xxx", "99", "600", "1000", "504..502", "..504", "502..", "-1",
            "five", "+50", "5xx;429", "!9xx", "٤٢٩",
        ] {
            let error = bad.parse::<StatusSet>().unwrap_err();
            assert_eq!((error.field(), error.value()), ("status", bad));
            assert!(error.accepted().contains("5xx"), "{error}");
        }
        assert_eq!("".parse::<StatusSet>().unwrap_err().field(), "status");
        assert_eq!(" , ".parse::<StatusSet>().unwrap_err().field(), "status");
    }

    #[test]
    fn the_borders_of_the_words_are_in() {
        for status in FIRST..=LAST {
            let one = StatusSet::none().with(status);
            assert_eq!(one.iter().collect::<Vec<_>>(), [status]);
            assert!(one.without(status).is_empty());
        }
        assert!(!StatusSet::none().with_range(0, u16::MAX - 1).contains(99));
        assert!(!StatusSet::none().with(600).contains(600));
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_set() {
        for text in ["5xx, !501, 429", "1xx, 2xx", "199..201", "599", "4xx, 500..502"] {
            let set: StatusSet = text.parse().unwrap();
            assert_eq!(set.to_string().parse::<StatusSet>().unwrap(), set, "{set}");
        }
        assert_eq!(
            "429 5xx !501".parse::<StatusSet>().unwrap().to_string(),
            "429, 500, 502..599"
        );
    }
}
