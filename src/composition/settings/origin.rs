//! Where a value of settings came from.

use std::{fmt, sync::Arc};

use super::Place;

/// Where a value of settings came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was written for the stage or stack itself.
    Written(Place),
    /// It was written as a default for the stage's kind.
    Defaults(Place),
    /// It was written for another stack, which this one extends.
    Extends {
        /// The other stack.
        stack: Arc<str>,
        /// Where.
        place: Place,
    },
    /// Nobody wrote it.
    BuiltIn,
}

impl fmt::Display for Origin {
    /// `stacks.toml:4`, `defaults, stacks.toml:2`, `extends payments, stacks.toml:9`, `built in`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self {
            Self::Written(place) => place,
            Self::Defaults(place) => {
                f.write_str("defaults, ")?;
                place
            }
            Self::Extends { stack, place } => {
                write!(f, "extends {stack}, ")?;
                place
            }
            Self::BuiltIn => return f.write_str("built in"),
        };
        match place.line_column {
            Some((line, _)) => write!(f, "{}:{line}", place.source),
            None => f.write_str(&place.source),
        }
    }
}
