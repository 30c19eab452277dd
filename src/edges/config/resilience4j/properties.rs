//! Java's `.properties` as a tree, whose keys are still dotted.

use std::sync::Arc;

use crate::{
    composition::settings::{Issue, Place},
    edges::config::tree::{MAX_NODES, MAX_TEXT, Node, Table, Value},
};

/// Reads a text as [`java.util.Properties`](https://docs.oracle.com/javase/8/docs/api/java/util/Properties.html#load-java.io.Reader-)
/// does. Only a key that stands twice is an error, where Java takes the last.
///
/// `first` is the number of the text's first line.
pub(super) fn properties(source: &Arc<str>, text: &str, first: u32) -> Result<Node, Vec<Issue>> {
    let place = |line, column| Place {
        source: Arc::clone(source),
        line_column: Some((line, column)),
    };
    let complain = |message: &str, at| Issue::error("", message).at(Some(at));
    if text.len() > MAX_TEXT {
        return Err(vec![complain(
            "the text is too long; accepted: at most 4 MiB",
            place(1, 1),
        )]);
    }
    let mut table = Table::default();
    let mut problems = Vec::new();
    let mut letters = Letters {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable(),
        line: first,
        column: 1,
    };
    while letters.skip_to_key() {
        if table.len() >= MAX_NODES {
            problems.push(complain(
                "too many properties",
                place(letters.line, letters.column),
            ));
            break;
        }
        let key_place = place(letters.line, letters.column);
        let key = letters.word(|letter| matches!(letter, '=' | ':') || is_blank(letter));
        letters.skip_separator();
        let value_place = place(letters.line, letters.column);
        let value = letters.word(|_| false);
        let (Some(key), Some(value)) = (key, value) else {
            problems.push(complain(r"accepted after \u: four hexadecimal digits", key_place));
            continue;
        };
        if let Some(before) = table.key_place(&key) {
            let message = format!("this key stands here for the second time, first at {before}");
            problems.push(Issue::error(key, message).at(Some(key_place)));
        } else {
            table.insert(key, key_place, Node::new(Value::String(value), value_place));
        }
    }
    if problems.is_empty() {
        Ok(Node::new(Value::Table(table), place(first, 1)))
    } else {
        Err(problems)
    }
}

const fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\u{c}')
}

const fn is_end(letter: char) -> bool {
    matches!(letter, '\n' | '\r')
}

struct Letters<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: u32,
    column: u32,
}

impl Letters<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        let ends_line = match letter {
            '\n' => true,
            // Before a line feed it belongs to that.
            '\r' => self.rest.peek() != Some(&'\n'),
            _ => false,
        };
        if ends_line {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(letter)
    }

    fn skip_while(&mut self, skips: impl Fn(char) -> bool) {
        while self.rest.peek().is_some_and(|letter| skips(*letter)) {
            self.next();
        }
    }

    /// Goes on to the next property, over blank lines and comments. False at the end.
    fn skip_to_key(&mut self) -> bool {
        loop {
            self.skip_while(|letter| is_blank(letter) || is_end(letter));
            match self.rest.peek() {
                None => return false,
                Some('#' | '!') => self.skip_while(|letter| !is_end(letter)),
                Some(_) => return true,
            }
        }
    }

    fn skip_separator(&mut self) {
        self.skip_while(is_blank);
        if matches!(self.rest.peek(), Some('=' | ':')) {
            self.next();
            self.skip_while(is_blank);
        }
    }

    /// What stands there up to the end of the line or of the word. `None` for an escape that is none.
    fn word(&mut self, ends: impl Fn(char) -> bool) -> Option<String> {
        let mut word = String::new();
        let mut is_sound = true;
        while let Some(&letter) = self.rest.peek() {
            if is_end(letter) || ends(letter) {
                break;
            }
            self.next();
            if letter != '\\' {
                word.push(letter);
                continue;
            }
            match self.next() {
                // The line goes on in the next one.
                Some(end) if is_end(end) => {
                    if end == '\r' && self.rest.peek() == Some(&'\n') {
                        self.next();
                    }
                    self.skip_while(is_blank);
                }
                Some('t') => word.push('\t'),
                Some('n') => word.push('\n'),
                Some('r') => word.push('\r'),
                Some('f') => word.push('\u{c}'),
                Some('u') => match self.unicode() {
                    Some(letter) => word.push(letter),
                    None => is_sound = false,
                },
                Some(other) => word.push(other),
                None => {}
            }
        }
        is_sound.then_some(word)
    }

    /// The letter of `\uXXXX`, or of two of them that make one.
    fn unicode(&mut self) -> Option<char> {
        let unit = self.unit()?;
        if !(0xD800..0xDC00).contains(&unit) {
            return char::from_u32(unit);
        }
        if self.next()? != '\\' || self.next()? != 'u' {
            return None;
        }
        let low = self.unit()?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + low)
    }

    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| {
            let digit = self.rest.peek()?.to_digit(16)?;
            self.next();
            Some(unit << 4 | digit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, (u32, u32), (u32, u32))> {
        let root = properties(&"a.properties".into(), text, 1).unwrap();
        root.table()
            .unwrap()
            .entries()
            .map(|(key, place, node)| {
                (
                    key.to_owned(),
                    node.text().unwrap().to_owned(),
                    place.line_column.unwrap(),
                    node.place.line_column.unwrap(),
                )
            })
            .collect()
    }

    fn pair(text: &str) -> (String, String) {
        let mut read = read(text);
        assert_eq!(read.len(), 1, "{text:?}: {read:?}");
        let (key, value, ..) = read.remove(0);
        (key, value)
    }

    #[test]
    fn keys_end_at_equals_colon_or_blank() {
        for text in [
            "a=b",
            "a = b",
            "a:b",
            "a : b",
            "a b",
            "  a\t=\tb",
            "a=b\n",
            "\u{feff}a=b\r\n",
        ] {
            assert_eq!(pair(text), ("a".into(), "b".into()), "{text:?}");
        }
        assert_eq!(pair("a==b"), ("a".into(), "=b".into()));
        assert_eq!(pair("a="), ("a".into(), String::new()));
        assert_eq!(pair("a"), ("a".into(), String::new()));
        // Blanks behind a value belong to it.
        assert_eq!(pair("a=b "), ("a".into(), "b ".into()));
    }

    #[test]
    fn escapes_and_lines_that_go_on_are_understood() {
        assert_eq!(pair(r"a\ b\=c=d"), ("a b=c".into(), "d".into()));
        assert_eq!(pair(r"a=\t\n\r\f\\\q"), ("a".into(), "\t\n\r\u{c}\\q".into()));
        assert_eq!(pair(r"a=\u00e9\uD83D\uDE00"), ("a".into(), "é😀".into()));
        assert_eq!(pair("a=b,\\\n   c,\\\r\n\td"), ("a".into(), "b,c,d".into()));
        // A comment is one only where a line begins.
        assert_eq!(pair("a=b\\\n#c"), ("a".into(), "b#c".into()));
        assert_eq!(pair("# x\n! y\\\na=b"), ("a".into(), "b".into()));
        assert_eq!(pair("a=b\\"), ("a".into(), "b".into()));
    }

    #[test]
    fn keys_and_values_have_their_places() {
        let read = read("# a\r\n  one = é\n\ntwo=a\\\n  b\nthree:c\rfour d");
        let places: Vec<_> = read
            .iter()
            .map(|(key, _, at, value)| (key.as_str(), *at, *value))
            .collect();
        assert_eq!(
            places,
            [
                ("one", (2, 3), (2, 9)),
                ("two", (4, 1), (4, 5)),
                ("three", (6, 1), (6, 7)),
                ("four", (7, 1), (7, 6)),
            ]
        );
    }

    #[test]
    fn what_java_refuses_or_hides_is_an_error() {
        let errors = |text| {
            let issues = properties(&"a.properties".into(), text, 1).unwrap_err();
            issues.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let message = r"a.properties:1:1: accepted after \u: four hexadecimal digits";
        for text in [
            r"a=\u12",
            r"a=\u12x4",
            r"a\uD83D=b",
            r"a=\uD83D\u0041",
            r"a=\uDC00",
        ] {
            assert_eq!(errors(text), [message], "{text}");
        }
        assert_eq!(
            errors("a=b\nb=c\na=d"),
            ["a.properties:3:1: a: this key stands here for the second time, first at a.properties:1:1"]
        );
    }
}
