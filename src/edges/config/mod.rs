//! Settings from files.
//!
//! | file or folder | subject |
//! |---|---|
//! | `tree/` | what any format says, as one tree with the place of every key and value |

mod de;
mod environment;
mod kind;
mod merge;
mod reading;
mod report;
mod source;
mod stack;
mod stacks;
mod tree;

pub use self::source::Source;
