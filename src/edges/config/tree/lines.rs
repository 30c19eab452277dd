//! From an offset in a text to line and column.

use std::sync::Arc;

use crate::composition::settings::Place;

/// Where the lines of a text begin. A lookup takes the same time however long lines are.
pub(crate) struct Lines<'t> {
    source: Arc<str>,
    text: &'t str,
    /// Offsets in bytes.
    starts: Vec<usize>,
    /// How many characters begin before each multiple of [`STEP`] bytes.
    characters: Vec<usize>,
}

const STEP: usize = 256;

impl<'t> Lines<'t> {
    pub(crate) fn new(source: &Arc<str>, text: &'t str) -> Self {
        let mut starts = vec![0];
        let mut characters = Vec::with_capacity(text.len() / STEP + 1);
        let mut seen = 0;
        for (at, byte) in text.bytes().enumerate() {
            if at % STEP == 0 {
                characters.push(seen);
            }
            if byte == b'\n' {
                starts.push(at + 1);
            }
            seen += usize::from(begins_character(byte));
        }
        if text.len().is_multiple_of(STEP) {
            characters.push(seen);
        }
        Self {
            source: Arc::clone(source),
            text,
            starts,
            characters,
        }
    }

    /// Line and column of that byte, from 1, the column in characters; a tab is one. Behind the text: its end.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.before(offset) - self.before(start) + 1;
        // Texts are far shorter than this type reaches.
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.at(narrow(line), narrow(column))
    }

    pub(crate) fn at(&self, line: u32, column: u32) -> Place {
        Place {
            source: Arc::clone(&self.source),
            line_column: Some((line, column)),
        }
    }

    /// How many characters begin before that byte.
    fn before(&self, offset: usize) -> usize {
        let step = offset / STEP;
        let rest = self.text.as_bytes().get(step * STEP..offset).unwrap_or_default();
        let known = self.characters.get(step).copied().unwrap_or_default();
        known + rest.iter().filter(|byte| begins_character(**byte)).count()
    }
}

/// Whether it is not one of the bytes that continue a character.
const fn begins_character(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

/// A text without the byte order mark that some editors put before it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_columns_count_characters() {
        let text = "é\tb\r\nc\n\n€x";
        let lines = Lines::new(&"x".into(), text);
        let place = |of: &str| lines.place(text.find(of).unwrap()).line_column.unwrap();
        assert_eq!(place("é"), (1, 1));
        assert_eq!(place("b"), (1, 3));
        assert_eq!(place("c"), (2, 1));
        assert_eq!(place("x"), (4, 2));
        assert_eq!(lines.place(text.len()).line_column, Some((4, 3)));
        assert_eq!(lines.place(usize::MAX).line_column, Some((4, 3)));
    }

    #[test]
    fn columns_are_right_at_and_behind_every_step() {
        for length in [STEP - 1, STEP, STEP + 1, 3 * STEP + 7] {
            let text: String = std::iter::once('\n')
                .chain("aß€".chars().cycle().take(length))
                .collect();
            let lines = Lines::new(&"x".into(), &text);
            for (count, (at, _)) in text.char_indices().skip(1).enumerate() {
                assert_eq!(
                    lines.place(at).line_column,
                    Some((2, u32::try_from(count).unwrap() + 1))
                );
            }
            let end = u32::try_from(length).unwrap() + 1;
            assert_eq!(lines.place(text.len()).line_column, Some((2, end)));
        }
    }
}
