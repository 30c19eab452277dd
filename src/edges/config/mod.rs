//! Settings from files.
//!
//! | file or folder | subject |
//! |---|---|
//! | `tree/` | what any format says, as one tree with the place of every key and value |

mod de;
mod effective;
mod environment;
mod kind;
mod merge;
mod reading;
mod report;
#[cfg(feature = "schema")]
mod schema;
mod ser;
mod source;
mod stack;
mod stacks;
mod tree;

#[cfg(feature = "schema")]
pub use self::schema::schema;
pub use self::{
    effective::{Effective, Entry},
    source::Source,
};
