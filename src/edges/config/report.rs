//! What is wrong with a file, each fault told once.

use std::collections::HashSet;

use super::{
    kind::Kind,
    tree::{Node, Table, Via},
};
use crate::composition::settings::{ConfigErrors, Issue, Place, path};

/// What is told at most of one file: nobody reads more, and looking for suggestions takes time.
const MOST: usize = 1000;

/// The faults that were found so far.
#[derive(Default)]
pub(crate) struct Report {
    issues: Vec<Issue>,
    /// A fault is the same when it is said of the same place: what stacks take from one another, or from the defaults,
    /// is looked at once for each of them.
    seen: HashSet<(Option<Place>, String)>,
    /// Values that are not what was meant, so that nothing else is said of them.
    broken: HashSet<Place>,
}

impl Report {
    /// Tells a fault, unless it was told already.
    pub(crate) fn add(&mut self, issue: Issue) {
        let is_known = |place: &Place| self.broken.contains(place);
        if self.is_full() || issue.place.as_ref().is_some_and(is_known) {
            return;
        }
        let key = (issue.place.clone(), issue.message.clone());
        // Without a place the path says which one it is.
        if issue.place.is_none() || self.seen.insert(key) {
            self.issues.push(issue);
        }
        if self.is_full() {
            let message = format!("more than {MOST} things are wrong; what follows is not told");
            self.issues.push(Issue::error("", message));
        }
    }

    /// Tells a fault that was found while a stack was read. Where the value stands elsewhere, and holds there, it says
    /// in which stack it does not.
    pub(crate) fn add_in(&mut self, spot: &Spot<'_>, issue: Issue) {
        let key = (issue.place.clone(), issue.message.clone());
        let home = spot.home();
        let mut issue = issue;
        if !issue.path.starts_with(&home) && !self.seen.contains(&key) {
            let suffix = format!(" (in `{home}`)");
            issue.message.push_str(&suffix);
            self.seen.insert(key);
        }
        self.add(issue);
    }

    /// Tells a fault of a value of which nothing else shall be said.
    pub(crate) fn add_broken(&mut self, issue: Issue) {
        let place = issue.place.clone();
        self.add(issue);
        self.broken.extend(place);
    }

    /// Whether nothing more is told.
    pub(crate) fn is_full(&self) -> bool {
        self.issues.len() >= MOST
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    /// The faults in the order of the source.
    pub(crate) fn into_errors(mut self) -> ConfigErrors {
        let rank = |issue: &Issue| match &issue.place {
            // What stands nowhere (an environment variable, the whole) comes behind the lines, the closing remark last.
            Some(place) => (
                place.line_column.is_none(),
                place.line_column,
                place.source.to_string(),
            ),
            None => (true, Some((u32::MAX, u32::MAX)), String::new()),
        };
        self.issues.sort_by_cached_key(rank);
        ConfigErrors::new(self.issues)
    }
}

/// A part of the tree that is looked at, and where it stands in the file.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'s> {
    /// The stack's name; `None` for the defaults.
    stack: Option<&'s str>,
    /// The stage's name, and that of its kind, under which its defaults stand. `None`: the stack itself.
    stage: Option<(&'s str, &'s str)>,
}

impl<'s> Spot<'s> {
    /// A stack itself.
    pub(crate) const fn stack(stack: &'s str) -> Self {
        Self {
            stack: Some(stack),
            stage: None,
        }
    }

    /// A stage of a stack.
    pub(crate) const fn stage(stack: &'s str, stage: &'s str, kind: Kind) -> Self {
        Self {
            stack: Some(stack),
            stage: Some((stage, kind.name())),
        }
    }

    /// The defaults of a kind.
    pub(crate) const fn defaults(kind: Kind) -> Self {
        Self {
            stack: None,
            stage: Some((kind.name(), kind.name())),
        }
    }

    /// The path of all that was written here itself.
    fn home(&self) -> String {
        self.path(&Via::Here, &[])
    }

    /// The path under which `keys` was written, by how the value came here.
    pub(crate) fn path(&self, via: &Via, keys: &[String]) -> String {
        let stage = self.stage.map(|(stage, _)| stage);
        let (root, stack, stage) = match via {
            Via::Defaults => ("defaults", None, self.stage.map(|(_, kind)| kind)),
            Via::Extends(parent) => ("stacks", Some(&**parent), stage),
            Via::Here if self.stack.is_some() => ("stacks", self.stack, stage),
            Via::Here => ("defaults", None, stage),
        };
        let above = std::iter::once(root).chain(stack).chain(stage);
        path(above.chain(keys.iter().map(String::as_str)))
    }

    /// An error about the value at `keys` below `root`, or about what lies nearest above it.
    pub(crate) fn issue(&self, root: &Node, keys: &[String], message: String) -> Issue {
        let mut keys = keys;
        loop {
            if let Some(node) = root.at(keys.iter().map(String::as_str)) {
                let shown = if node.short {
                    keys.split_last().map_or(keys, |(_, above)| above)
                } else {
                    keys
                };
                return node.error(self.path(&node.via, shown), message);
            }
            match keys.split_last() {
                Some((_, above)) => keys = above,
                None => return Issue::error(self.path(&Via::Here, keys), message),
            }
        }
    }

    /// An error about the key at the end of `keys`.
    pub(crate) fn key_issue(&self, root: &Node, keys: &[String], message: String) -> Issue {
        let found = keys.split_last().and_then(|(last, above)| {
            let table: &Table = root.at(above.iter().map(String::as_str))?.table()?;
            Some((table, last, table.get(last)?))
        });
        match found {
            Some((table, last, node)) => table.key_error(last, self.path(&node.via, keys), message),
            None => self.issue(root, keys, message),
        }
    }
}
