//! Settings from files (features `config`, and `yaml` for YAML).
//!
//! | file or folder | subject |
//! |---|---|
//! | `tree/` | what any format says, as one tree with the place of every key and value |

#[allow(dead_code, unused_imports, reason = "the reader that uses it comes next")]
mod tree;
