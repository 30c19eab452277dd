//! Why a future is being dropped.

use std::cell::Cell;

use crate::vocabulary::outcome::Abandoned;

thread_local! {
    static BY_TIMEOUT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `drop`, telling every guarded call that it drops that a timeout did it.
pub(crate) fn by_timeout(drop: impl FnOnce()) {
    struct Restore(bool);

    impl Drop for Restore {
        fn drop(&mut self) {
            BY_TIMEOUT.set(self.0);
        }
    }

    let _restore = Restore(BY_TIMEOUT.replace(true));
    drop();
}

/// Why the call that is being dropped now ends.
pub(crate) fn cause(panicked: bool) -> Abandoned {
    if panicked {
        Abandoned::Panicked
    } else if BY_TIMEOUT.get() {
        Abandoned::TimedOut
    } else {
        Abandoned::Dropped
    }
}
