//! From the tree of a file to settings: defaults, what extends what, and each stack.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    de::unknown_key,
    kind::Kind,
    merge::merged,
    report::{Report, Spot},
    stack::{Defaults, KEYS, read_stack, read_stage},
    tree::{MAX_NODES, Node, Table, Via},
};
use crate::{
    composition::settings::{ConfigErrors, Issue, Predicates, Settings, path, refuse_name},
    vocabulary::nearest::suggestion,
};

/// The keys of a file. Editors look for `$schema`.
const TOP: [&str; 3] = ["defaults", "stacks", "$schema"];

/// What a file says.
///
/// # Errors
///
/// Everything that is wrong with it, what `report` has included.
pub(crate) fn read_file(
    root: &Node,
    predicates: &Predicates,
    mut report: Report,
) -> Result<Settings, ConfigErrors> {
    let mut settings = Settings::default();
    if let Some(table) = root.table() {
        for key in table.keys().filter(|key| !TOP.contains(key)) {
            let message = unknown_key(key, &["defaults", "stacks"]);
            report.add(table.key_error(key, path([key]), message));
        }
        let defaults = read_defaults(table.get("defaults"), predicates, &mut report);
        let stacks = named_stacks(table.get("stacks"), &mut report);
        for (name, stack) in extended(&stacks, &mut report) {
            if report.is_full() {
                break;
            }
            read_stack(name, &stack, &defaults, predicates, &mut settings, &mut report);
        }
    }
    if report.is_empty() {
        Ok(settings)
    } else {
        Err(report.into_errors())
    }
}

/// The defaults of each kind, each of which must hold by itself.
fn read_defaults(node: Option<&Node>, predicates: &Predicates, report: &mut Report) -> Defaults {
    let mut defaults = Defaults::default();
    let Some(node) = node else {
        return defaults;
    };
    let Some(table) = node.table() else {
        let message = format!("accepted: a table of {}", Kind::NAMES.join(", "));
        report.add(node.error("defaults", message));
        return defaults;
    };
    for (key, _, node) in table.entries() {
        let Some(kind) = Kind::named(key) else {
            let message = unknown_key(key, &Kind::NAMES);
            report.add(table.key_error(key, path(["defaults", key]), message));
            continue;
        };
        let mut node = node.clone();
        kind.lengthen(&mut node);
        read_stage(Spot::defaults(kind), kind, &node, predicates, report);
        if node.table().is_some() {
            node.came(&Via::Defaults);
            defaults.insert(kind, node);
        }
    }
    defaults
}

/// The stacks of the file, in its order.
fn named_stacks<'n>(node: Option<&'n Node>, report: &mut Report) -> Vec<(&'n str, &'n Table)> {
    let mut stacks = Vec::new();
    let Some(node) = node else {
        return stacks;
    };
    let Some(table) = node.table() else {
        report.add(node.error("stacks", "accepted: a table of stacks by name"));
        return stacks;
    };
    for (name, place, node) in table.entries() {
        let at = path(["stacks", name]);
        if let Some(message) = refuse_name(name) {
            report.add(Issue::error(at, message).at(Some(place.clone())));
        } else if let Some(stack) = node.table() {
            stacks.push((name, stack));
        } else {
            report.add(node.error(at, "accepted: a table of stages by name"));
        }
    }
    stacks
}

/// Each stack with what it takes from the one that it extends, that one before it. A stack that extends what is not
/// there, or itself, is left out.
fn extended<'n>(stacks: &[(&'n str, &'n Table)], report: &mut Report) -> Vec<(&'n str, Table)> {
    let by_name: HashMap<&str, &'n Table> = stacks.iter().copied().collect();
    let mut done: HashMap<&str, Base> = HashMap::new();
    let mut results: Vec<(&'n str, Table)> = Vec::new();
    let mut nodes = 0;
    for (first, _) in stacks {
        let (chain, base) = lineage(first, &by_name, &done, report);
        let mut base = base;
        for (name, table) in chain.into_iter().rev() {
            let result = match base {
                Base::Nothing => Some(over_nothing(table)),
                Base::Stack(at) => results
                    .get(at)
                    .map(|(parent, below)| over_parent(parent, below, table)),
                Base::Wrong => None,
            };
            nodes += result
                .iter()
                .flat_map(Table::values)
                .map(Node::size)
                .sum::<usize>();
            base = match result {
                Some(result) if nodes <= MAX_NODES => {
                    results.push((name, result));
                    Base::Stack(results.len() - 1)
                }
                _ => Base::Wrong,
            };
            done.insert(name, base);
        }
    }
    if nodes > MAX_NODES {
        report.add(Issue::error(
            "stacks",
            format!("too much is taken from stacks that are extended; accepted: {MAX_NODES} values in all"),
        ));
    }
    results
}

/// What a stack stands on.
#[derive(Clone, Copy)]
enum Base {
    /// It extends none.
    Nothing,
    /// The stack at this place among those that are done.
    Stack(usize),
    /// Something is wrong with the chain: it is left out.
    Wrong,
}

/// A stack and those that it extends, up to one that is done or extends none; and what the last of them stands on.
fn lineage<'n>(
    first: &'n str,
    stacks: &HashMap<&'n str, &'n Table>,
    done: &HashMap<&str, Base>,
    report: &mut Report,
) -> (Vec<(&'n str, &'n Table)>, Base) {
    let mut chain: Vec<(&'n str, &'n Table)> = Vec::new();
    let mut seen = HashSet::new();
    let mut name = first;
    loop {
        if let Some(known) = done.get(name) {
            return (chain, *known);
        }
        let Some(table) = stacks.get(name).copied() else {
            return (chain, Base::Wrong);
        };
        chain.push((name, table));
        seen.insert(name);
        let Some(node) = table.get("extends") else {
            return (chain, Base::Nothing);
        };
        let shown = |last: &str| {
            let names = chain.iter().map(|(name, _)| *name).chain([last]);
            names.collect::<Vec<_>>().join(" -> ")
        };
        let at = path(["stacks", name, "extends"]);
        let Some(parent) = node.text() else {
            report.add(node.error(at, "accepted: the name of another stack"));
            return (chain, Base::Wrong);
        };
        if seen.contains(parent) {
            let begin = chain.iter().position(|(name, _)| *name == parent).unwrap_or(0);
            let names = chain[begin..].iter().map(|(name, _)| *name).chain([parent]);
            let circle = names.collect::<Vec<_>>().join(" -> ");
            report.add(node.error(at, format!("a stack cannot extend itself: {circle}")));
            return (chain, Base::Wrong);
        }
        let Some((parent, _)) = stacks.get_key_value(parent) else {
            let suggestion = suggestion(parent, stacks.keys().copied());
            let message = format!(
                "there is no stack of this name; {suggestion}the chain is {}",
                shown(parent)
            );
            report.add(node.error(at, message));
            return (chain, Base::Wrong);
        };
        name = parent;
    }
}

/// A stack that extends none.
fn over_nothing(table: &Table) -> Table {
    let mut table = table.clone();
    for (key, node) in table.entries_mut().filter(|(key, _)| !KEYS.contains(key)) {
        if let Some(kind) = Kind::of_stage(key, node) {
            kind.lengthen(node);
        }
    }
    table
}

/// A stack over the one that it extends.
fn over_parent(parent: &str, below: &Table, table: &Table) -> Table {
    let mut result = below.clone();
    result.remove("extends");
    let via = Via::Extends(Arc::from(parent));
    result.values_mut().for_each(|node| node.came(&via));
    for (key, place, node) in table.entries() {
        let mut node = node.clone();
        if !KEYS.contains(&key) {
            let known = result.get(key);
            let below = known.and_then(|known| Kind::of_stage(key, known));
            let own = Kind::of_stage(key, &node);
            if let Some(kind) = own.or(below) {
                kind.lengthen(&mut node);
            }
            // A stage of another kind has nothing in common but the name.
            let says_kind = node.table().is_some_and(|table| table.contains("kind"));
            if let Some(known) = known.filter(|_| own == below || !says_kind) {
                node = merged(known, &node);
            }
        }
        result.insert(key, place.clone(), node);
    }
    result
}
