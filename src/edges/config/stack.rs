//! One stack: its stages, their order, and its keys.

use std::collections::HashMap;

use super::{
    de::{is_off, read},
    kind::Kind,
    merge::merged,
    reading::{Reading, read_all},
    report::{Report, Spot},
    tree::{Node, Table, Value, Via},
};
use crate::{
    composition::{
        keyed::KeyedConfig,
        settings::{
            Issue, KeyedBy, Origin, PolicyConfig, Predicates, Settings, StackConfig, StageConfig, path,
            refuse_name,
        },
    },
    drivers::stack::LONGEST,
    vocabulary::nearest::{nearest, suggestion},
};

/// The keys of a stack that are no stages.
pub(crate) const KEYS: [&str; 5] = ["extends", "order", "per", "max_keys", "idle"];

/// What lies below every stage of a kind.
#[derive(Default)]
pub(crate) struct Defaults(HashMap<&'static str, Node>);

impl Defaults {
    pub(crate) fn insert(&mut self, kind: Kind, node: Node) {
        self.0.insert(kind.name(), node);
    }

    /// A stage with its defaults below it.
    fn below(&self, kind: Kind, stage: &Node) -> Node {
        match self.0.get(kind.name()) {
            Some(defaults) => merged(defaults, stage),
            None => stage.clone(),
        }
    }
}

/// Reads a stack, and puts it into `settings`.
pub(crate) fn read_stack(
    name: &str,
    table: &Table,
    defaults: &Defaults,
    predicates: &Predicates,
    settings: &mut Settings,
    report: &mut Report,
) {
    let mut stack = StackConfig::new();
    let mut stages = HashMap::new();
    let mut origins = Vec::new();
    let mut names = Vec::new();
    for (stage, _, node) in table.entries().filter(|(key, ..)| !KEYS.contains(key)) {
        names.push(stage);
        let Some(kind) = stage_kind(name, table, stage, node, report) else {
            continue;
        };
        let node = defaults.below(kind, node);
        let spot = Spot::stage(name, stage, kind);
        if let Some(policy) = read_stage(spot, kind, &node, predicates, report) {
            stages.insert(stage, policy);
        }
        leaves(
            &node,
            &mut vec!["stacks".to_owned(), name.to_owned(), stage.to_owned()],
            &mut origins,
        );
    }
    for stage in read_order(name, table, &names, report) {
        if let Some(policy) = stages.remove(stage) {
            stack.stages.push(StageConfig::new(stage, policy));
        }
    }
    if names.len() > LONGEST {
        let message = format!("{} stages; accepted: at most {LONGEST}", names.len());
        let place = names.get(LONGEST).and_then(|stage| table.key_place(stage));
        report.add(Issue::error(path(["stacks", name]), message).at(place.cloned()));
    }
    stack.keyed = read_keyed(name, table, report);
    for key in KEYS.into_iter().filter(|key| *key != "extends") {
        if let Some(node) = table.get(key) {
            origins.push((path(["stacks", name, key]), origin(node)));
        }
    }
    if stack.stages.is_empty() {
        settings.notes.push(Issue::note(
            path(["stacks", name]),
            "it has no stage, and does nothing",
        ));
    }
    settings.origins.extend(origins);
    settings.stacks.insert(name.to_owned(), stack);
}

/// What kind of stage it is.
fn stage_kind(stack: &str, table: &Table, stage: &str, node: &Node, report: &mut Report) -> Option<Kind> {
    let spot = Spot::stack(stack);
    let at = spot.path(&node.via, &[stage.to_owned()]);
    let said = node.table().and_then(|table| table.get("kind"));
    let known = Kind::named(stage);
    if let Some(message) = refuse_name(stage) {
        report.add(Issue::error(at, message).at(table.key_place(stage).cloned()));
        return None;
    }
    match (said, known) {
        (None, Some(kind)) => Some(kind),
        (Some(said), _) => {
            let kind = said.text().and_then(Kind::named);
            let at = format!("{at}.kind");
            match (kind, known) {
                (Some(kind), Some(known)) if kind != known => {
                    let message = format!("a stage called `{stage}` is of that kind; give it another name");
                    report.add(said.error(at, message));
                    None
                }
                (Some(kind), _) => Some(kind),
                (None, _) => {
                    let suggestion = suggestion(said.text().unwrap_or_default(), Kind::NAMES);
                    let message = format!("{suggestion}accepted: {}", Kind::NAMES.join(", "));
                    report.add(said.error(at, message));
                    None
                }
            }
        }
        (None, None) => {
            let suggestion = suggestion(stage, KEYS.into_iter().chain(Kind::NAMES));
            let message = format!(
                "neither a key of a stack ({}) nor a kind of stage ({}); {suggestion}a stage with a name of its own is a \
                 table that says its `kind`",
                KEYS.join(", "),
                Kind::NAMES.join(", "),
            );
            report.add(table.key_error(stage, at, message));
            None
        }
    }
}

/// The stages from the outermost to the innermost.
fn read_order<'n>(stack: &str, table: &'n Table, names: &[&'n str], report: &mut Report) -> Vec<&'n str> {
    let Some(node) = table.get("order") else {
        return default_order(stack, table, names, report);
    };
    let spot = Spot::stack(stack);
    let at = spot.path(&node.via, &["order".to_owned()]);
    // An order that another stack has is right there; it is this one that lacks its own.
    let whose = match &node.via {
        Via::Extends(parent) => {
            format!(
                "the order is the one of `{parent}`, which `{stack}` extends ({}); write one for `{stack}`",
                node.place
            )
        }
        _ => String::new(),
    };
    let Value::List(list) = &node.value else {
        report.add(node.error(at, "accepted: a list of the stages, the outermost first"));
        return Vec::new();
    };
    // What is wrong with an order, or with a stage under an order, is told of the stack that has both.
    let is_own = |node: &Node| node.via == Via::Here;
    let mut tell = |element: &Node, issue: Issue| {
        if is_own(element) {
            report.add(issue);
        }
    };
    let mut order = Vec::new();
    let mut meant = Vec::new();
    for (index, element) in list.iter().enumerate() {
        let at = format!("{at}.{index}");
        let Some(name) = element.text() else {
            tell(element, element.error(at, "accepted: the name of a stage"));
            continue;
        };
        match names.iter().find(|known| **known == name) {
            Some(known) if order.contains(known) => {
                tell(
                    element,
                    element.error(at, "it stands in the order for the second time"),
                );
            }
            Some(known) => order.push(*known),
            None => {
                let suggestion = suggestion(name, names.iter().copied());
                meant.extend(nearest(name, names.iter().copied()).first().copied());
                let message = if names.is_empty() {
                    "the stack has no stage of this name, nor any other".to_owned()
                } else {
                    format!(
                        "the stack has no stage of this name; {suggestion}its stages are {}",
                        names.join(", ")
                    )
                };
                tell(element, element.error(at, message));
            }
        }
    }
    // Who misspelled a stage did not leave it out.
    for left_out in names
        .iter()
        .filter(|name| !order.contains(name) && !meant.contains(name))
        .filter(|name| is_own(node) || table.get(name).is_some_and(is_own))
    {
        let message = if whose.is_empty() {
            format!("the stage is not in the stack's order ({})", node.place)
        } else {
            format!("the stage is not in the stack's order; {whose}")
        };
        let issue = Issue::error(path(["stacks", stack, left_out]), message);
        report.add(issue.at(table.key_place(left_out).cloned()));
    }
    order
}

/// The order of a stack without a word on it.
fn default_order<'n>(stack: &str, table: &'n Table, names: &[&'n str], report: &mut Report) -> Vec<&'n str> {
    for name in names.iter().filter(|name| Kind::named(name).is_none()) {
        let has_kind = table
            .get(name)
            .is_some_and(|node| Kind::of_stage(name, node).is_some());
        if has_kind {
            let message = format!(
                "a stage with a name of its own has no place in the default order ({}); write an `order`",
                Kind::NAMES.join(", "),
            );
            let issue = Issue::error(path(["stacks", stack, name]), message);
            report.add(issue.at(table.key_place(name).cloned()));
        }
    }
    let kinds = Kind::NAMES.into_iter();
    kinds
        .filter_map(|kind| names.iter().copied().find(|name| *name == kind))
        .collect()
}

/// By what the policies of a stack are keyed.
fn read_keyed(stack: &str, table: &Table, report: &mut Report) -> Option<KeyedBy> {
    let spot = Spot::stack(stack);
    let mut limits = Table::default();
    for key in ["max_keys", "idle"] {
        if let (Some(node), Some(place)) = (table.get(key), table.key_place(key)) {
            limits.insert(key, place.clone(), node.clone());
        }
    }
    let per = match table.get("per") {
        Some(node) if is_off(node) => return None,
        Some(node) => {
            let text = node.text().filter(|text| !text.is_empty());
            if text.is_none() {
                let at = spot.path(&node.via, &["per".to_owned()]);
                let accepted =
                    "accepted: what a key is: \"authority\", or a name that the program gives a meaning to";
                report.add(node.error(at, accepted));
            }
            text.map(str::to_owned)
        }
        None => {
            for (key, _, node) in limits.entries() {
                let at = spot.path(&node.via, &[key.to_owned()]);
                let message = "it says something only together with `per`, such as per = \"authority\"";
                report.add(limits.key_error(key, at, message));
            }
            return None;
        }
    };
    let place = table.key_place("per").cloned()?;
    let node = Node::new(Value::Table(limits), place);
    let check = |config: &KeyedConfig| config.checked();
    #[allow(clippy::redundant_closure, reason = "its lifetime is not general enough")]
    let config = read_all(spot, &node, report, |node| read::<KeyedConfig>(node), check).config?;
    Some(KeyedBy { per: per?, config })
}

/// Reads the settings of one stage, and checks them.
pub(crate) fn read_stage(
    spot: Spot<'_>,
    kind: Kind,
    node: &Node,
    predicates: &Predicates,
    report: &mut Report,
) -> Option<PolicyConfig> {
    if node.table().is_none() {
        report.add_in(&spot, spot.issue(node, &[], kind.accepted().to_owned()));
        return None;
    }
    let mut node = node.clone();
    if let Some(table) = node.table_mut() {
        table.remove("kind");
    }
    let read = |node: &Node| kind.read(node);
    let Reading { config, taken_out } = read_all(spot, &node, report, read, PolicyConfig::check);
    let policy = config?;
    for (list, names) in policy.names() {
        for (index, name) in names.iter().enumerate() {
            let keys = [list.to_owned(), index.to_string()];
            if taken_out.iter().any(|taken| *taken == keys) || report.is_full() {
                continue;
            }
            if let Err(unknown) = predicates.resolve(name) {
                report.add_in(&spot, spot.issue(&node, &keys, unknown.accepted));
            }
        }
    }
    Some(policy)
}

/// The values below `node` that are no tables, by their paths, and where they came from.
fn leaves(node: &Node, keys: &mut Vec<String>, origins: &mut Vec<(String, Origin)>) {
    let Some(table) = node.table() else {
        origins.push((path(keys.iter().map(String::as_str)), origin(node)));
        return;
    };
    for (key, _, node) in table.entries().filter(|(key, ..)| *key != "kind") {
        let is_second_name = key == "max" && keys.last().is_some_and(|above| above == "half_open");
        keys.push(if is_second_name { "max_stay" } else { key }.to_owned());
        leaves(node, keys, origins);
        keys.pop();
    }
}

/// Where a value came from.
fn origin(node: &Node) -> Origin {
    let place = node.place.clone();
    match &node.via {
        Via::Here => Origin::Written(place),
        Via::Defaults => Origin::Defaults(place),
        Via::Extends(stack) => Origin::Extends {
            stack: stack.clone(),
            place,
        },
    }
}
