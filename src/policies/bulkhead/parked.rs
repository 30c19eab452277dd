//! Free slots that threads keep for their next call.

use crate::vocabulary::{
    stripes::{STRIPES, Striped},
    sync::{AtomicU64, Ordering},
};

/// Slots that are free and still taken from the word that all share, so that a thread whose calls come one after the
/// other need not fetch that from another processor twice for each of them.
///
/// Each thread has a cell. A cell that is open is a permission to park slots in it. It is opened and closed under the lock of
/// the queue alone, and closing it takes what it holds, so that who holds that lock and has closed them all knows of
/// every free slot: a call is refused only at a moment when none is free, and while somebody waits each slot that comes
/// free goes to the word, and so to the first in the queue.
///
/// There are none until two threads meet at the word. Cells are opened only where all of them together would leave room,
/// and so never in a bulkhead with few slots; what they hold when it fills up is taken back by who finds no other.
#[derive(Debug)]
pub(super) struct Parked {
    /// Odd while a cell may be open. It becomes even again once what the cells held is given back: who reads the same even
    /// number before and after a look at the word knows that nothing was parked meanwhile. Written under the lock.
    version: AtomicU64,
    cells: Striped,
}

/// An open cell has this bit. Below it, how many slots it may hold; lowest, how many it does. A closed cell is zero.
const OPEN: u64 = 1 << 63;
const ROOM_SHIFT: u32 = 32;
const COUNT_MASK: u64 = 0xFFFF_FFFF;

/// No cell holds more: what one thread parks, others have to come for when there is none left.
const MOST: u32 = 16;

impl Parked {
    pub(super) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            cells: Striped::new(),
        }
    }

    /// Takes a slot that this thread has parked.
    #[inline]
    pub(super) fn take(&self) -> bool {
        let Some(cell) = self.cells.cell() else {
            return false;
        };
        let seen = cell.load(Ordering::Relaxed);
        // Acquire: it goes on after the call that parked it.
        seen & COUNT_MASK != 0
            && cell
                .compare_exchange(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Parks a slot of a call that has ended, where this thread may.
    #[inline]
    pub(super) fn park(&self) -> bool {
        let Some(cell) = self.cells.cell() else {
            return false;
        };
        let seen = cell.load(Ordering::Relaxed);
        (seen & COUNT_MASK) < (seen & !OPEN) >> ROOM_SHIFT
            && cell
                // Acquire: who hears of this slot is to hear that the cell was opened, by whatever thread.
                .compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// How many slots a cell may hold, where all of them together leave room in a bulkhead with that many slots taken.
    fn room(limit: u32, taken: u32) -> u32 {
        let cells = u32::try_from(STRIPES).unwrap_or(u32::MAX);
        let room = (limit / (2 * cells)).clamp(1, MOST);
        if room.saturating_mul(cells) <= limit.saturating_sub(taken) {
            room
        } else {
            0
        }
    }

    /// Whether this thread's cell is closed, and may be opened in such a bulkhead.
    pub(super) fn is_wanted(&self, limit: u32, taken: u32) -> bool {
        let cell = self.cells.cell();
        cell.is_none_or(|cell| cell.load(Ordering::Relaxed) == 0) && Self::room(limit, taken) > 0
    }

    /// Opens this thread's cell, where it may be. Only under the lock of the queue, and while nobody waits.
    pub(super) fn open(&self, limit: u32, taken: u32) {
        self.cells.open();
        if let Some(cell) = self.cells.cell()
            && self.is_wanted(limit, taken)
        {
            let version = self.version.load(Ordering::Relaxed);
            self.version.store(version | 1, Ordering::Relaxed);
            let room = u64::from(Self::room(limit, taken));
            cell.store(OPEN | room << ROOM_SHIFT, Ordering::Release);
        }
    }

    /// The number of the time for which nothing has been parked so far; `None` where something may be.
    #[inline]
    pub(super) fn closed(&self) -> Option<u64> {
        let version = self.version.load(Ordering::Acquire);
        version.is_multiple_of(2).then_some(version)
    }

    /// Closes all cells, and tells how many slots they held. Only under the lock of the queue; they are closed for others
    /// when [`settle`](Self::settle) says so.
    #[allow(clippy::cast_possible_truncation, reason = "a cell holds few")]
    pub(super) fn close(&self) -> u32 {
        let held = self.cells.cells().map(|cell| {
            // Who opens cells holds the lock, so one that is closed stays so.
            if cell.load(Ordering::Relaxed) == 0 {
                return 0;
            }
            (cell.swap(0, Ordering::Acquire) & COUNT_MASK) as u32
        });
        held.sum()
    }

    /// What the cells held is given back. Only under the same lock.
    pub(super) fn settle(&self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store((version | 1) + 1, Ordering::Release);
    }

    /// How many slots are parked, more or less: calls go on meanwhile.
    #[allow(clippy::cast_possible_truncation, reason = "a cell holds few")]
    pub(super) fn count(&self) -> u32 {
        let cells = self.cells.cells();
        cells
            .map(|cell| (cell.load(Ordering::Relaxed) & COUNT_MASK) as u32)
            .sum()
    }
}
