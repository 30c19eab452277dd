//! What is noted of a key: its text, and when it was last asked for.

use std::fmt;

use crate::vocabulary::{
    clock::Timestamp,
    sync::{AtomicU64, Ordering},
};

/// A key's text and when it was last asked for.
///
/// Both are looked at by each lookup, so they stand together, and, where the policy of the key keeps them, beside the
/// count of its handles: a lookup among a million keys waits for one line of memory there, not for three.
#[repr(C)]
pub struct KeyTag {
    /// In nanoseconds. Before the text, whose end may stand in another line of memory.
    asked: AtomicU64,
    text: Text,
}

/// The longest text that needs no allocation. Long enough for most hosts with their scheme and port, and for an UUID.
const SHORT: usize = 38;

enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

impl KeyTag {
    pub(crate) fn of(key: &str) -> Self {
        let mut bytes = [0; SHORT];
        let text = match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(key.as_bytes());
                Text::Short { len, bytes }
            }
            _ => Text::Long(key.into()),
        };
        Self {
            asked: AtomicU64::new(0),
            text,
        }
    }

    #[inline]
    pub(crate) fn is(&self, key: &str) -> bool {
        self.bytes() == key.as_bytes()
    }

    pub(crate) fn text(&self) -> &str {
        // It was text when it was put in.
        str::from_utf8(self.bytes()).unwrap_or_default()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.text {
            Text::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Text::Long(text) => text.as_bytes(),
        }
    }

    #[inline]
    pub(crate) fn asked(&self) -> Timestamp {
        Timestamp::from_nanos(self.asked.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn note_asked(&self, at: Timestamp) {
        self.asked.store(at.as_nanos(), Ordering::Relaxed);
    }
}

impl fmt::Debug for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyTag").field(&self.text()).finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_gives_back_texts_of_any_length_and_is_no_other_text() {
        for len in (0..=SHORT + 3).chain([255, 256, 257, 1024]) {
            // Letters of two bytes, so that the bound falls into one of them too.
            let text: String = "xé".chars().cycle().take(len).collect();
            let tag = KeyTag::of(&text);
            assert_eq!(tag.text(), text);
            assert!(tag.is(&text));
            assert!(!tag.is(&format!("{text}x")) && !tag.is(&format!("{text}\0")));
            if let Some((at, _)) = text.char_indices().next_back() {
                assert!(!tag.is(&text[..at]));
            }
        }
    }

    #[test]
    fn a_short_text_takes_no_more_than_its_place_in_a_line_of_memory() {
        assert_eq!(size_of::<KeyTag>(), 48, "64 with the two counts of an `Arc`");
    }
}
