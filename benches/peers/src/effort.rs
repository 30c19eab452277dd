//! How long to measure.

/// How many rounds there are, and how far sizes go.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
}

impl Effort {
    /// So many rounds, of which a quick run makes a fraction.
    pub(crate) const fn rounds(self, full: usize) -> usize {
        if self.quick { full / 15 + 3 } else { full }
    }
}
