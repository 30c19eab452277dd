//! A hash table whose buckets are lines of memory.

use std::{array, mem};

/// A hash table of entries that know their own hash.
///
/// An entry is found in the line that its hash says, or, where that was full when it came, in one of those after it. A
/// line of memory holds the tags of seven entries and, where an entry is a pointer, the seven entries: a lookup
/// among a million waits for one such line and for what the entry points to. `hashbrown` keeps tags and entries apart, so
/// that it waits once more.
pub(super) struct Lines<T> {
    /// None where there is no entry.
    lines: Box<[Line<T>]>,
    len: usize,
}

/// Entries in a line.
const WIDTH: usize = 7;

/// Where the head counts those that stand behind.
const PASSED: usize = WIDTH;

/// Entries per line from which on there are more lines.
const FULL: usize = 6;

#[repr(C, align(64))]
struct Line<T> {
    /// Eight bits of each entry's hash, 0 where there is no entry, and at the end how many entries that belong here or
    /// before stand behind this line. Where that is the highest number, nobody knows.
    head: [u8; WIDTH + 1],
    entries: [Option<T>; WIDTH],
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            head: [0; WIDTH + 1],
            entries: array::from_fn(|_| None),
        }
    }
}

impl<T> Line<T> {
    /// The places whose tags match. A place may be among them whose tag differs by one from that of the place before.
    #[inline]
    fn matching(&self, tag: u8) -> impl Iterator<Item = usize> {
        const ONES: u64 = 0x0001_0101_0101_0101;
        const HIGHS: u64 = ONES << 7;
        // A byte becomes 0 where it matches, and a byte that is 0 gets its high bit set.
        let differences = u64::from_le_bytes(self.head) ^ (ONES * u64::from(tag));
        let mut found = differences.wrapping_sub(ONES) & !differences & HIGHS;
        std::iter::from_fn(move || {
            let place = found.trailing_zeros() as usize / 8;
            found &= found.wrapping_sub(1);
            (place < WIDTH).then_some(place)
        })
    }

    fn free_place(&self) -> Option<usize> {
        self.head[..WIDTH].iter().position(|tag| *tag == 0)
    }

    fn put(&mut self, place: usize, tag: u8, entry: T) {
        self.head[place] = tag;
        self.entries[place] = Some(entry);
    }
}

/// Never 0.
#[inline]
fn tag_of(hash: u64) -> u8 {
    let [.., tag] = hash.to_le_bytes();
    tag.max(1)
}

impl<T> Lines<T> {
    /// Where an entry of this hash belongs.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // The lower half of the hash as a fraction of the lines: there may be any number of them.
        let (hash, lines) = (hash & u64::from(u32::MAX), self.lines.len() as u64);
        usize::try_from((hash * lines) >> 32).unwrap_or(0)
    }

    #[inline]
    fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let (tag, mut at) = (tag_of(hash), self.home(hash));
        // Once around, and no further where no line is sure that none has passed.
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            for place in line.matching(tag) {
                if let Some(entry) = &line.entries[place]
                    && is(entry)
                {
                    return Some(entry);
                }
            }
            if line.head[PASSED] == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Puts in an entry that is not there. `hash_of` tells the hashes of those that are.
    pub(super) fn insert(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        let lines = self.lines.len();
        if self.len >= lines * FULL {
            self.resize(lines + lines / 2 + 1, hash_of);
        }
        self.place(hash, entry);
    }

    fn place(&mut self, hash: u64, entry: T) {
        let mut at = self.home(hash);
        // There is a free place: no line is full on average.
        loop {
            let line = &mut self.lines[at];
            if let Some(place) = line.free_place() {
                line.put(place, tag_of(hash), entry);
                self.len += 1;
                return;
            }
            line.head[PASSED] = line.head[PASSED].saturating_add(1);
            at = self.after(at);
        }
    }

    fn resize(&mut self, lines: usize, hash_of: impl Fn(&T) -> u64) {
        let fresh = (0..lines).map(|_| Line::default()).collect();
        let old = mem::replace(&mut self.lines, fresh);
        self.len = 0;
        for entry in old.into_iter().flat_map(|line| line.entries).flatten() {
            self.place(hash_of(&entry), entry);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lines.iter().flat_map(|line| &line.entries).flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.lines.iter_mut().flat_map(|line| &mut line.entries).flatten()
    }

    /// Takes out the entries that `goes` says.
    pub(super) fn take_out(
        &mut self,
        mut goes: impl FnMut(&T) -> bool,
        hash_of: impl Fn(&T) -> u64,
    ) -> Vec<T> {
        let mut taken = Vec::new();
        for at in 0..self.lines.len() {
            for place in 0..WIDTH {
                let line = &mut self.lines[at];
                if let Some(entry) = line.entries[place].take_if(|entry| goes(entry)) {
                    line.head[place] = 0;
                    self.len -= 1;
                    self.forget_passing(self.home(hash_of(&entry)), at);
                    taken.push(entry);
                }
            }
        }
        // With a quarter of the places in use, half of them are given back.
        if self.lines.len() > 16 && self.len * 4 < self.lines.len() * WIDTH {
            self.resize(self.len / (WIDTH / 2) + 1, hash_of);
        }
        taken
    }

    /// An entry that belonged into the line `home` does not stand in the line `at` any more.
    fn forget_passing(&mut self, home: usize, at: usize) {
        let mut passed = home;
        while passed != at {
            let count = &mut self.lines[passed].head[PASSED];
            if *count != u8::MAX {
                *count -= 1;
            }
            passed = self.after(passed);
        }
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            lines: Box::default(),
            len: 0,
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u16),
        Find(u16),
        /// Takes out those whose number leaves this rest when divided by that.
        TakeOut(u16, u16),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (0..400_u16).prop_map(Op::Insert),
            4 => (0..400_u16).prop_map(Op::Find),
            1 => (1..6_u16).prop_flat_map(|by| (0..by).prop_map(move |rest| Op::TakeOut(rest, by))),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(
            // Hashes that spread, that all belong into few lines, and of which all tags are alike.
            mask in prop_oneof![Just(u64::MAX), Just(0xFF00_0000_0000_0003), Just(0xFFFF_FFFF), Just(0)],
            ops in vec(op(), 0..1500),
        ) {
            let hash = |number: u16| u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask;
            let hash_of = |entry: &u16| hash(*entry);
            let mut lines = Lines::default();
            let mut set = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Insert(number) => {
                        if set.insert(number) {
                            lines.insert(hash(number), number, hash_of);
                        }
                    }
                    Op::Find(number) => {
                        let found = lines.find(hash(number), |entry| *entry == number);
                        prop_assert_eq!(found, set.get(&number));
                    }
                    Op::TakeOut(rest, by) => {
                        let goes = |number: u16| number % by == rest;
                        let mut taken = lines.take_out(|entry| goes(*entry), hash_of);
                        taken.sort_unstable();
                        let (gone, left): (Vec<_>, Vec<_>) = set.into_iter().partition(|number| goes(*number));
                        prop_assert_eq!(taken, gone);
                        set = left.into_iter().collect();
                        let most = (set.len() * 4 / WIDTH).max(16);
                        prop_assert!(lines.lines.len() <= most, "{} lines", lines.lines.len());
                    }
                }
                prop_assert_eq!(lines.len, set.len());
            }
            let mut all: Vec<u16> = lines.iter().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
            for number in &set {
                prop_assert!(lines.find(hash(*number), |entry| entry == number).is_some());
            }
            let gone = lines.take_out(|_| true, hash_of);
            prop_assert_eq!(gone.len(), set.len());
            let passed = lines.lines.iter().filter(|line| !matches!(line.head[PASSED], 0 | u8::MAX)).count();
            prop_assert_eq!(passed, 0, "nobody is behind any line");
        }
    }

    #[test]
    fn a_line_of_pointers_is_a_line_of_memory() {
        assert_eq!(size_of::<Line<Box<u8>>>(), 64);
    }
}
