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

    /// Probes that have no result yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
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

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Admit,
        /// The result of a probe that was admitted some time, whatever became of it.
        Finish(prop::sample::Index),
        GiveBack(prop::sample::Index),
        /// Gives up what is older than this.
        GiveUp(u64),
        On(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Admit),
            2 => any::<prop::sample::Index>().prop_map(Op::Finish),
            2 => any::<prop::sample::Index>().prop_map(Op::GiveBack),
            1 => (0..20_u64).prop_map(Op::GiveUp),
            2 => (0..10_u64).prop_map(Op::On),
        ]
    }

    /// What became of a probe.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        UnderWay { since: u64 },
        Used,
        Returned,
    }

    proptest! {
        #[test]
        fn permits_are_used_by_results_and_return_from_all_else(
            permits in 1..6_u32,
            ops in vec(op(), 0..60),
        ) {
            let mut probes = Probes::new(permits);
            // By serial number, from 1.
            let mut fates: Vec<Fate> = Vec::new();
            let mut now = 100;
            for op in ops {
                let returned = |fate: &Fate| *fate == Fate::Returned;
                let left = permits as usize - fates.iter().filter(|fate| !returned(fate)).count();
                prop_assert_eq!(probes.any_left(), left > 0);
                match op {
                    Op::Admit => {
                        let admitted = probes.admit(Timestamp::from_nanos(now));
                        prop_assert_eq!(admitted.is_some(), left > 0);
                        if let Some(serial) = admitted {
                            fates.push(Fate::UnderWay { since: now });
                            prop_assert_eq!(serial as usize, fates.len(), "none is given twice");
                        }
                    }
                    Op::Finish(which) | Op::GiveBack(which) if !fates.is_empty() => {
                        let at = which.index(fates.len());
                        let serial = u32::try_from(at + 1).unwrap();
                        let under_way = matches!(fates[at], Fate::UnderWay { .. });
                        if matches!(op, Op::Finish(_)) {
                            prop_assert_eq!(probes.finish(serial), under_way, "it has a say once");
                        } else {
                            probes.give_back(serial);
                        }
                        if under_way {
                            fates[at] = if matches!(op, Op::Finish(_)) { Fate::Used } else { Fate::Returned };
                        }
                    }
                    Op::Finish(_) | Op::GiveBack(_) => {
                        prop_assert!(!probes.finish(0), "0 is no probe");
                        probes.give_back(0);
                    }
                    Op::GiveUp(age) => {
                        let earliest = now.saturating_sub(age);
                        probes.give_up(Timestamp::from_nanos(earliest));
                        for fate in &mut fates {
                            if matches!(fate, Fate::UnderWay { since } if *since < earliest) {
                                *fate = Fate::Returned;
                            }
                        }
                    }
                    Op::On(by) => now += by,
                }
            }
        }
    }
}
