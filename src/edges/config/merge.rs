//! One value over another: tables merge key by key, everything else replaces.

use super::tree::{Node, Table, Value};

/// Keys whose tables are one value: a window of calls does not mix with one of time.
const WHOLE: [&str; 1] = ["window"];

/// `over` on top of `base`.
pub(crate) fn merged(base: &Node, over: &Node) -> Node {
    let (Value::Table(under), Value::Table(table)) = (&base.value, &over.value) else {
        return over.clone();
    };
    let mut under = under.clone();
    put_over(&mut under, table);
    let mut node = Node::new(Value::Table(under), over.place.clone());
    node.via = over.via.clone();
    node
}

/// Puts the values of `over` into `base`.
pub(crate) fn put_over(base: &mut Table, over: &Table) {
    for (key, place, node) in over.entries() {
        let known = base.get(key);
        let node = match known {
            Some(known) if key == "backoff" => merged(&without_other_shape(known, node), node),
            Some(known) if !WHOLE.contains(&key) => merged(known, node),
            _ => node.clone(),
        };
        for (first, second) in SECOND_NAMES {
            if key == first {
                base.remove(second);
            } else if key == second {
                base.remove(first);
            }
        }
        base.insert(key, place.clone(), node);
    }
}

/// Keys that mean the same: one replaces the other. (`max` stands in other tables too, but not beside `max_stay`.)
const SECOND_NAMES: [(&str, &str); 1] = [("max_stay", "max")];

/// The shapes of a backoff, by the keys that only they have.
const SHAPES: [&[&str]; 3] = [&["fixed"], &["initial", "factor"], &["base"]];

/// A backoff that lies below another one, without what only fits another shape than that one's: a fixed wait that
/// replaces a growing one does not take its `max`.
fn without_other_shape(known: &Node, over: &Node) -> Node {
    let shape_of = |node: &Node| {
        let table = node.table()?;
        SHAPES
            .iter()
            .position(|keys| keys.iter().any(|key| table.contains(key)))
    };
    let mut known = known.clone();
    // Without a word on it, it grows.
    let below = shape_of(&known).unwrap_or(1);
    if let Some(above) = shape_of(over)
        && above != below
        && let Some(table) = known.table_mut()
    {
        for key in SHAPES.iter().copied().flatten().chain(&["max"]) {
            table.remove(key);
        }
        // What is random by itself has no jitter.
        if above == 2 {
            table.remove("jitter");
        }
    }
    known
}
