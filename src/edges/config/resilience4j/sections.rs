//! The instances and configs of each module, as they were written.

use indexmap::IndexMap;

use super::{
    keys::{Module, OTHER_MODULES, OTHER_SECTIONS, RENAMED, Setting, Takes},
    names::{ROOT, uniform},
    placeholders::Lookup,
    report::Report,
    values,
};
use crate::{
    composition::settings::{Issue, Place},
    edges::config::tree::{Node, Table, Value},
    vocabulary::nearest::suggestion,
};

/// All that is set up.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// By module.
    modules: [ModuleSections; 4],
    /// Whether there was anything of resilience4j.
    pub(super) any: bool,
}

/// What is set up of one module.
#[derive(Debug, Default)]
pub(super) struct ModuleSections {
    pub(super) order: Option<(i32, Issue)>,
    pub(super) configs: IndexMap<String, Section>,
    pub(super) instances: IndexMap<String, Section>,
}

/// An instance or a config.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    /// `resilience4j.retry.instances.payments`.
    pub(super) path: String,
    pub(super) place: Place,
    entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    key: &'static str,
    path: String,
    shown: String,
    place: Place,
    pub(super) setting: Setting,
    document: usize,
}

impl Entry {
    /// Where its value stands.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn about(&self, issue: Issue) -> Issue {
        issue.with_value(self.shown.clone()).at(Some(self.place.clone()))
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Issue {
        self.about(Issue::error(self.path.clone(), message))
    }

    pub(super) fn warning(&self, message: impl Into<String>) -> Issue {
        self.about(Issue::warning(self.path.clone(), message))
    }

    pub(super) fn note(&self, message: impl Into<String>) -> Issue {
        self.about(Issue::note(self.path.clone(), message))
    }
}

impl Section {
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Later documents win over earlier ones.
    fn put(&mut self, entry: Entry, report: &mut Report) {
        match self.entries.iter_mut().find(|before| before.key == entry.key) {
            Some(before) if before.document == entry.document => {
                let first = before.place.clone();
                report.say(entry.error(format!(
                    "this key stands here for the second time, first at {first}"
                )));
            }
            Some(before) => *before = entry,
            None => self.entries.push(entry),
        }
    }
}

impl Sections {
    pub(super) fn module(&self, module: Module) -> &ModuleSections {
        &self.modules[module as usize]
    }

    /// Takes in what a document says.
    pub(super) fn take(&mut self, document: &Table, number: usize, lookup: Lookup<'_>, report: &mut Report) {
        for (key, place, node) in document.entries() {
            if uniform(key) != ROOT {
                // What is no key of resilience4j is Spring's or the program's, unless it was meant as one.
                if !suggestion(key, [ROOT]).is_empty() && node.table().is_some() {
                    let message = format!("did you mean `{ROOT}`?");
                    report.say(Issue::error(key, message).at(Some(place.clone())));
                }
                continue;
            }
            self.any = true;
            let mut reader = Reader {
                number,
                lookup,
                report,
            };
            reader.root(key, node, self);
        }
    }
}

struct Reader<'r> {
    number: usize,
    lookup: Lookup<'r>,
    report: &'r mut Report,
}

impl Reader<'_> {
    fn root(&mut self, root: &str, node: &Node, sections: &mut Sections) {
        let Some(table) = self.table(root, node) else {
            return;
        };
        for (key, place, node) in table.entries() {
            let path = format!("{root}.{key}");
            let name = uniform(key);
            if let Some(module) = Module::ALL
                .into_iter()
                .find(|module| uniform(module.name()) == name)
            {
                self.module(module, &path, node, &mut sections.modules[module as usize]);
                continue;
            }
            match OTHER_MODULES.iter().find(|(known, _)| uniform(known) == name) {
                Some((_, Some(why))) => {
                    let issue = Issue::error(path, format!("this has no counterpart: {why}"));
                    self.report.no_counterpart(issue.at(Some(place.clone())));
                }
                Some((_, None)) => self.report.say(noted(path).at(Some(place.clone()))),
                None => {
                    let known = Module::ALL.map(Module::name);
                    let known = known.into_iter().chain(OTHER_MODULES.map(|(known, _)| known));
                    self.unknown(path, (key, place, node), known, "module");
                }
            }
        }
    }

    fn module(&mut self, module: Module, path: &str, node: &Node, sections: &mut ModuleSections) {
        let Some(table) = self.table(path, node) else {
            return;
        };
        for (key, place, node) in table.entries() {
            let path = format!("{path}.{key}");
            let name = uniform(key);
            let is = |known: &str| uniform(known) == name;
            if is("configs") {
                self.sections(module, &path, node, &mut sections.configs);
            } else if is("instances") || is("backends") {
                self.sections(module, &path, node, &mut sections.instances);
            } else if is(module.order_key()) {
                match self.lookup.filled(node).and_then(|node| values::order(&node)) {
                    Ok(order) => {
                        let issue = Issue::warning(path, "")
                            .with_value(node.shown())
                            .at(Some(node.place.clone()));
                        sections.order = Some((order, issue));
                    }
                    Err(accepted) => self.report.say(node.error(path, accepted)),
                }
            } else if OTHER_SECTIONS.iter().any(|known| is(known)) {
                self.report.say(noted(path).at(Some(place.clone())));
            } else {
                let known = ["instances", "configs", "backends", module.order_key()];
                self.unknown(
                    path,
                    (key, place, node),
                    known.into_iter().chain(OTHER_SECTIONS),
                    "key",
                );
            }
        }
    }

    fn sections(
        &mut self,
        module: Module,
        path: &str,
        node: &Node,
        sections: &mut IndexMap<String, Section>,
    ) {
        let Some(table) = self.table(path, node) else {
            return;
        };
        for (name, place, node) in table.entries() {
            let path = format!("{path}.{name}");
            let section = sections.entry(name.to_owned()).or_insert_with(|| Section {
                name: name.to_owned(),
                path: path.clone(),
                place: place.clone(),
                entries: Vec::new(),
            });
            self.section(module, &path, node, section);
        }
    }

    fn section(&mut self, module: Module, path: &str, node: &Node, section: &mut Section) {
        let Some(table) = self.table(path, node) else {
            return;
        };
        for (key, place, node) in table.entries() {
            let path = format!("{path}.{key}");
            let name = uniform(key);
            let Some(known) = module.keys().iter().find(|known| uniform(known.name) == name) else {
                let renamed = RENAMED
                    .iter()
                    .find(|(of, old, _)| *of == module && uniform(old) == name);
                if let Some((_, _, now)) = renamed {
                    let message =
                        format!("resilience4j 2 ignores this key without a word: it is called `{now}` now");
                    self.report.say(node.error(path, message));
                } else {
                    let known = module.keys().iter().map(|key| key.name);
                    self.unknown(path, (key, place, node), known, "key");
                }
                continue;
            };
            match self
                .filled(node)
                .and_then(|node| Ok((known.takes.read(&node)?, node)))
            {
                Ok((setting, filled)) => {
                    let entry = Entry {
                        key: known.name,
                        path,
                        shown: filled.shown(),
                        place: filled.place,
                        setting,
                        document: self.number,
                    };
                    self.look_at(known.takes, &entry);
                    section.put(entry, self.report);
                }
                Err(accepted) => self.report.say(node.error(path, accepted)),
            }
        }
    }

    /// Says what there is to say about a key for itself.
    fn look_at(&mut self, takes: Takes, entry: &Entry) {
        match (takes, &entry.setting) {
            (Takes::Noted, _) => self.report.say(entry.note(NOTED)),
            (Takes::Only(done, _), Setting::Truth(truth)) if *truth == done => {
                self.report
                    .say(entry.note("accepted without effect: it is always so here"));
            }
            (Takes::Time(_), Setting::Time(time))
                if time.subsec_nanos() % 1_000_000 != 0 && entry.key != "slowCallDurationThreshold" =>
            {
                self.report.say(entry.warning(
                    "resilience4j drops without a word what is below a millisecond; here it counts",
                ));
            }
            (Takes::Only(_, why) | Takes::Nothing(why), _) => self
                .report
                .no_counterpart(entry.error(format!("this has no counterpart: {why}"))),
            _ => {}
        }
    }

    /// A value without placeholders; in a list each element.
    fn filled(&self, node: &Node) -> Result<Node, String> {
        match &node.value {
            Value::List(list) => {
                let list: Result<Vec<Node>, String> =
                    list.iter().map(|node| self.lookup.filled(node)).collect();
                Ok(Node::new(Value::List(list?), node.place.clone()))
            }
            Value::Table(table) => {
                let mut filled = Table::default();
                for (key, place, node) in table.entries() {
                    filled.insert(key, place.clone(), self.lookup.filled(node)?);
                }
                Ok(Node::new(Value::Table(filled), node.place.clone()))
            }
            _ => self.lookup.filled(node),
        }
    }

    /// A table; nothing at all is an empty one.
    fn table<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n Table> {
        let table = node.table();
        if table.is_none() && !matches!(node.value, Value::Null) {
            self.report
                .say(node.error(path, "accepted: keys with values below this one"));
        }
        table
    }

    fn unknown<'k>(
        &mut self,
        path: String,
        (key, place, node): (&str, &Place, &Node),
        known: impl IntoIterator<Item = &'k str> + Clone,
        what: &str,
    ) {
        if self.report.is_full() {
            return;
        }
        let suggestion = suggestion(key, known.clone());
        let accepted = if suggestion.is_empty() {
            let known: Vec<&str> = known.into_iter().collect();
            format!("accepted: {}", known.join(", "))
        } else {
            suggestion.trim_end().to_owned()
        };
        let mut issue = Issue::error(path, format!("resilience4j knows no such {what}; {accepted}"));
        if node.table().is_none() {
            issue = issue.with_value(node.shown());
        }
        self.report.say(issue.at(Some(place.clone())));
    }
}

const NOTED: &str = "accepted without effect: it is about Spring or Java alone";

fn noted(path: String) -> Issue {
    Issue::note(path, NOTED)
}
