//! The permits of the half-open state.

use crate::vocabulary::clock::Timestamp;

/// Permits for a fixed number of probes. One comes back when its probe is ignored, dropped or given up; a
/// probe with a result has used it.
#[derive(Debug)]
pub(super) struct Probes {
    left: u32,
    /// Under way: serial number and when it began. A probe that is not in here any more has no say.
    under_way: Vec<(u32, Timestamp)>,
    next_serial: u32,
}

impl Probes {
    pub(super) fn new(permits: u32) -> Self {
        Self {
            left: permits,
            under_way: Vec::new(),
            next_serial: 1,
        }
    }

    /// Admits a probe; its serial number is never 0.
    pub(super) fn admit(&mut self, now: Timestamp) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let serial = self.next_serial;
        self.next_serial = serial.checked_add(1).unwrap_or(1);
        self.under_way.push((serial, now));
        Some(serial)
    }

    /// Whether a probe would be admitted.
    pub(super) const fn any_left(&self) -> bool {
        self.left > 0
    }

    /// Takes the probe out as having a result; false when it was given up before.
    pub(super) fn finish(&mut self, serial: u32) -> bool {
        let Some(at) = self
            .under_way
            .iter()
            .position(|(under_way, _)| *under_way == serial)
        else {
            return false;
        };
        self.under_way.swap_remove(at);
        true
    }

    /// Takes the probe out as if it had never been; its permit returns.
    pub(super) fn give_back(&mut self, serial: u32) {
        if self.finish(serial) {
            self.left += 1;
        }
    }

    /// Gives up the probes that began before `earliest`; their permits return.
    pub(super) fn give_up(&mut self, earliest: Timestamp) {
        let before = self.under_way.len();
        self.under_way.retain(|(_, began)| *began >= earliest);
        self.left += u32::try_from(before - self.under_way.len()).unwrap_or(0);
    }
}
