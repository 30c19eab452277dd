//! A file uses only what lies on lower floors, or on its own.

use std::{fs, path::Path};

/// The floors, from the lowest to the highest.
const FLOORS: [&str; 5] = ["vocabulary", "policies", "drivers", "composition", "edges"];

fn floor_of(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

fn visit(folder: &Path, floor: usize, found: &mut Vec<String>, files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, floor, found, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *files += 1;
            check(&path, floor, found);
        }
    }
}

fn check(path: &Path, floor: usize, found: &mut Vec<String>) {
    let source = fs::read_to_string(path).unwrap();
    // What follows `crate::`, in grouped imports too: each name at the start of a group's line or of the path. Links in
    // documentation name the public API and may point upwards.
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>();
    let mut within_group = false;
    for (number, line) in code.iter().enumerate() {
        let names: Vec<&str> = if within_group {
            let name = line.strip_prefix("    ").filter(|rest| !rest.starts_with(' '));
            name.into_iter().collect()
        } else {
            line.match_indices("crate::")
                .map(|(at, _)| &line[at + "crate::".len()..])
                .collect()
        };
        for name in names {
            let word: String = name
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if floor_of(&word).is_some_and(|used| used > floor) {
                found.push(format!(
                    "{}: `{}` (line {} of code)",
                    path.display(),
                    line.trim(),
                    number + 1
                ));
            }
        }
        if line.starts_with("use crate::{") && !line.contains("};") {
            within_group = true;
        } else if line.starts_with("};") {
            within_group = false;
        }
    }
}

#[test]
fn a_file_uses_only_lower_floors() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut files) = (Vec::new(), 0);
    for (floor, name) in FLOORS.iter().enumerate() {
        let folder = source.join(name);
        if folder.exists() {
            visit(&folder, floor, &mut found, &mut files);
        }
    }
    assert!(files > 30, "only {files} files were read");
    assert!(found.is_empty(), "these look upwards:\n{}", found.join("\n"));
}

#[test]
fn the_check_itself_finds_what_looks_upwards() {
    let folder = std::env::temp_dir().join("buttress-floors");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("upward.rs");
    fs::write(
        &path,
        "use crate::{\n    drivers::held::Held,\n    vocabulary::rate::Rate,\n};\nuse crate::edges::x;\n",
    )
    .unwrap();
    let mut found = Vec::new();
    check(&path, 1, &mut found);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn policies_know_no_tower_and_no_timer() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policies");
    let mut folders = vec![policies];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for line in fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| line.starts_with("use "))
            {
                let forbidden = ["use tower", "use tokio", "use metrics", "use tracing"];
                assert!(
                    !forbidden.iter().any(|name| line.starts_with(name)),
                    "{}: {line}",
                    path.display()
                );
            }
        }
    }
}
