//! The documents of a file, and which of them count.

use std::sync::Arc;

use super::{
    names::{find, undotted},
    properties::properties,
    report::Report,
};
use crate::{
    composition::settings::{Issue, Place},
    edges::config::tree::{Node, Table, Value, yaml},
};

/// In which format a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Properties,
}

/// The most documents that a text may have.
const MOST: usize = 64;

/// The documents that count, in order, without dots in their keys. What there is to say goes to the report.
pub(super) fn documents(
    format: Format,
    source: &Arc<str>,
    text: &str,
    profiles: &[String],
    report: &mut Report,
) -> Vec<Table> {
    let starts = starts(format, text);
    if starts.len() > MOST {
        let place = Place {
            source: Arc::clone(source),
            line_column: None,
        };
        let message = format!("{} documents; accepted: at most {MOST}", starts.len());
        report.say(Issue::error("", message).at(Some(place)));
        return Vec::new();
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let parts = starts.iter().zip(ends);
    parts
        .filter_map(|((start, line), end)| {
            let part = &text[*start..end];
            let read = match format {
                // Its places count from the beginning of the text.
                Format::Yaml => {
                    let before = usize::try_from(*line).unwrap_or(1).saturating_sub(1);
                    yaml(source, &format!("{}{part}", "\n".repeat(before)))
                }
                Format::Properties => properties(source, part, *line),
            };
            match read {
                Ok(root) => counting(&root, profiles, report),
                Err(issues) => {
                    report.say_all(issues);
                    None
                }
            }
        })
        .collect()
}

/// The document, if it counts.
fn counting(root: &Node, profiles: &[String], report: &mut Report) -> Option<Table> {
    let mut problems = Vec::new();
    let document = undotted(root.table()?, &mut problems);
    if let Some((path, node)) = activation(&document) {
        match is_active(node, profiles) {
            Ok(true) => {}
            Ok(false) => {
                let message = "this document does not count: its profile is not active";
                let note = Issue::note(path, message).with_value(node.shown());
                report.say(note.at(Some(node.place.clone())));
                return None;
            }
            Err(message) => {
                report.say(node.error(path, message));
                return None;
            }
        }
    }
    report.say_all(problems);
    Some(document)
}

/// Where documents begin: offset and number of the line.
fn starts(format: Format, text: &str) -> Vec<(usize, u32)> {
    let mut starts = vec![(0, 1)];
    let mut offset = 0;
    // Before its `---` a document of YAML may have comments and directives.
    let mut has_content = false;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let content = line.trim_end();
        match format {
            // At the beginning of a line it is a mark wherever it stands (YAML 1.2.2, section 9.1.2).
            Format::Yaml if content == "---" || line.starts_with("--- ") || line.starts_with("---\t") => {
                if has_content {
                    starts.push((offset, number));
                }
                has_content = true;
            }
            Format::Yaml => has_content |= !content.is_empty() && !content.starts_with(['#', '%']),
            Format::Properties if matches!(content, "#---" | "!---") => starts.push((offset, number)),
            Format::Properties => {}
        }
        offset += line.len();
    }
    starts
}

/// What a document says of the profiles that it is for.
fn activation(document: &Table) -> Option<(&'static str, &Node)> {
    let spring = find(document, "spring")?.2.table()?;
    let within = |path: &[&str]| {
        path.iter().try_fold(None::<&Node>, |node, name| {
            let table = match node {
                None => spring,
                Some(node) => node.table()?,
            };
            Some(Some(find(table, name)?.2))
        })?
    };
    [
        (
            "spring.config.activate.on-profile",
            within(&["config", "activate", "on-profile"]),
        ),
        ("spring.profiles", within(&["profiles"])),
    ]
    .into_iter()
    .find_map(|(path, node)| Some((path, node.filter(|node| node.table().is_none())?)))
}

/// Whether a document for these profiles counts.
fn is_active(node: &Node, profiles: &[String]) -> Result<bool, String> {
    let accepted = || {
        Err(
            "accepted: names of profiles with commas between them, `!` before a name for any other"
                .to_owned(),
        )
    };
    let wanted: Vec<&str> = match &node.value {
        Value::String(text) => text.split(',').map(str::trim).collect(),
        Value::List(list) => match list.iter().map(Node::text).collect() {
            Some(wanted) => wanted,
            None => return accepted(),
        },
        _ => return accepted(),
    };
    if wanted
        .iter()
        .any(|name| name.is_empty() || name.contains(['&', '|', '(', ')']))
    {
        return accepted();
    }
    Ok(wanted.iter().any(|name| match name.strip_prefix('!') {
        Some(name) => !profiles.iter().any(|profile| profile == name.trim()),
        None => profiles.iter().any(|profile| profile == name),
    }))
}
