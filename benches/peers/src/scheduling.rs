//! Whether the machine had other work.

use std::{fs, time::Duration};

/// How long all threads of this process together have waited for a processor so far. Zero where the system does not
/// tell.
pub(crate) fn waited_for_processors() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let nanos = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
