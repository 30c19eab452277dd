//! Settings from files.
//!
//! | file or folder | subject |
//! |---|---|
//! | `resilience4j/` | what Spring Boot's resilience4j is set up with |
//! | `tree/` | what any format says, as one tree with the place of every key and value |

mod de;
mod effective;
mod environment;
mod kind;
mod merge;
mod reading;
mod report;
#[cfg(feature = "yaml")]
mod resilience4j;
#[cfg(feature = "schema")]
mod schema;
mod ser;
mod source;
mod stack;
mod stacks;
mod tree;

#[cfg(feature = "yaml")]
pub use self::resilience4j::Resilience4j;
#[cfg(feature = "schema")]
pub use self::schema::schema;
pub use self::{
    effective::{Effective, Entry},
    source::Source,
};
