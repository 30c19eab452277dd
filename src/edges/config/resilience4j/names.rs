//! Spring's names of properties: dotted, with brackets, in any spelling.

use crate::{
    composition::settings::{Issue, Place},
    edges::config::tree::{MAX_DEPTH, Node, Table, Value},
};

/// What all of resilience4j's names begin with.
pub(super) const ROOT: &str = "resilience4j";

/// How deep the names of instances and configs lie: `resilience4j.retry.instances.NAME`.
const NAMES: usize = 3;

/// A name in the one form in which Spring compares names: `failure-rate-threshold`, `failureRateThreshold` and
/// `FAILURE_RATE_THRESHOLD` are one.
pub(super) fn uniform(name: &str) -> String {
    name.chars()
        .filter(|letter| !matches!(letter, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// The value under a name in any spelling, with the name as it was spelled.
pub(super) fn find<'t>(table: &'t Table, name: &str) -> Option<(&'t str, &'t Place, &'t Node)> {
    let name = uniform(name);
    table.entries().find(|(key, _, _)| uniform(key) == name)
}

/// The parts of a dotted name: `a.b-c[0]` is `a`, `b-c` and `[0]`; `a.[b.c]` is `a` and `b.c`. `None` where it is no name.
pub(super) fn parts(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        if let Some(inside) = rest.strip_prefix('[') {
            let (key, behind) = inside.split_once(']')?;
            if key.is_empty() {
                return None;
            }
            let is_index = key.bytes().all(|byte| byte.is_ascii_digit());
            parts.push(if is_index {
                format!("[{key}]")
            } else {
                key.to_owned()
            });
            rest = behind;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            parts.push(rest[..end].trim().to_owned());
            rest = &rest[end..];
        }
        rest = match rest.strip_prefix('.') {
            Some(behind) => behind,
            None if rest.is_empty() => return (parts.len() <= MAX_DEPTH).then_some(parts),
            None if rest.starts_with('[') => rest,
            None => return None,
        };
    }
}

/// A whole document as one tree without dots in its keys.
///
/// Of resilience4j's keys one that stands twice, in whatever spelling, is complained of. Other keys are Spring's or the
/// program's own business: the first one counts.
pub(super) fn undotted(table: &Table, problems: &mut Vec<Issue>) -> Table {
    let mut whole = Table::default();
    let mut spreading = Spreading {
        path: Vec::new(),
        problems,
    };
    spreading.table(table, &mut whole);
    whole
}

struct Spreading<'p> {
    /// Down to the value at hand.
    path: Vec<String>,
    problems: &'p mut Vec<Issue>,
}

impl Spreading<'_> {
    fn table(&mut self, from: &Table, into: &mut Table) {
        for (key, place, node) in from.entries() {
            let Some(parts) = parts(key).filter(|parts| self.path.len() + parts.len() <= MAX_DEPTH) else {
                let root = self.path.first().map_or(key, String::as_str);
                if is_ours(root.split(['.', '[']).next().unwrap_or(root)) {
                    let message = "accepted as a key: names between dots, with anything else in brackets, `[like this]`";
                    let path: Vec<&str> = self.path.iter().map(String::as_str).chain([key]).collect();
                    let path = path.join(".");
                    self.problems
                        .push(Issue::error(path, message).at(Some(place.clone())));
                }
                continue;
            };
            let length = self.path.len();
            self.path.extend(parts.iter().cloned());
            self.put(into, &parts, place, node);
            self.path.truncate(length);
        }
    }

    /// Puts a value under a path, the last of which are `parts`.
    fn put(&mut self, into: &mut Table, parts: &[String], place: &Place, node: &Node) {
        let [part, deeper @ ..] = parts else {
            return;
        };
        let key = self.known(into, part, self.path.len() - parts.len());
        let before = into
            .get(&key)
            .filter(|before| !matches!(before.value, Value::Null))
            .map(|before| before.table().is_some());
        let is_table = !deeper.is_empty() || node.table().is_some();
        match before {
            None if is_table => {
                let empty = Node::new(Value::Table(Table::default()), node.place.clone());
                into.insert(key.clone(), place.clone(), empty);
            }
            None => {
                into.insert(key, place.clone(), node.clone());
                return;
            }
            Some(was_table) if was_table == is_table && is_table => {}
            Some(_) => {
                if self.is_ours() && !matches!(node.value, Value::Null) {
                    let first = into
                        .key_place(&key)
                        .map_or_else(String::new, |first| format!(", first at {first}"));
                    let message = format!("this key stands here for the second time{first}");
                    self.problems
                        .push(Issue::error(self.path.join("."), message).at(Some(place.clone())));
                }
                return;
            }
        }
        let Some(table) = into.get_mut(&key).and_then(Node::table_mut) else {
            return;
        };
        match node.table() {
            Some(inner) if deeper.is_empty() => self.table(inner, table),
            _ => self.put(table, deeper, place, node),
        }
    }

    /// The name as it was spelled before, or as it is. Names of instances and configs are taken letter by letter.
    fn known(&self, table: &Table, part: &str, depth: usize) -> String {
        // Who writes so many keys where a few dozen are known has other errors.
        let is_small = table.len() <= 256;
        if is_small && (depth == 0 || (self.is_ours() && depth != NAMES)) {
            find(table, part).map_or(part, |(key, ..)| key).to_owned()
        } else {
            part.to_owned()
        }
    }

    fn is_ours(&self) -> bool {
        self.path.first().is_some_and(|root| is_ours(root))
    }
}

fn is_ours(root: &str) -> bool {
    uniform(root) == ROOT
}

/// The elements of a list that was written as `name[0]`, `name[1]`, …, in that order. `None` where it is none.
pub(super) fn indexed(table: &Table) -> Option<Vec<&Node>> {
    let mut elements = Vec::new();
    for at in 0..table.len() {
        elements.push(table.get(&format!("[{at}]"))?);
    }
    (!elements.is_empty()).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_dashes() {
        for name in [
            "failureRateThreshold",
            "failure-rate-threshold",
            "FAILURE_RATE_THRESHOLD",
        ] {
            assert_eq!(uniform(name), "failureratethreshold");
        }
    }

    #[test]
    fn names_are_split_at_dots_and_not_within_brackets() {
        let split = |name| parts(name).map(|parts| parts.join("|"));
        assert_eq!(split("a").as_deref(), Some("a"));
        assert_eq!(split("a.b-c[0]").as_deref(), Some("a|b-c|[0]"));
        assert_eq!(split("a.[b.c].d").as_deref(), Some("a|b.c|d"));
        assert_eq!(split("a[b.c][1]").as_deref(), Some("a|b.c|[1]"));
        for bad in ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a]b[", "[a]b", "a.b."] {
            assert_eq!(split(bad), None, "{bad}");
        }
        assert_eq!(split(&"a.".repeat(100)), None);
    }
}
