//! Finds the built examples, for the tests that run them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// A command that runs an example of this package, with the profile of the test that asks.
///
/// `cargo test` builds the examples before it runs tests; `cargo test --test NAME` does not, and may find none or
/// an old one. It is built then.
pub(crate) fn example(name: &str) -> Command {
    // target/PROFILE/deps/TEST-HASH
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile
        .join("examples")
        .join(format!("{name}{}", env::consts::EXE_SUFFIX));
    if modified(&program).is_none_or(|built| built < newest_source()) {
        build(name, profile);
    }
    assert!(program.exists(), "{} was built", program.display());
    Command::new(program)
}

fn build(name: &str, profile: &Path) {
    let profile_name = match profile.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--all-features",
            "--example",
            name,
            "--profile",
            profile_name,
        ])
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "cargo built the example {name}");
}

fn newest_source() -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = ["src", "examples", "tests/support"]
        .iter()
        .map(|folder| root.join(folder))
        .collect();
    let mut newest = modified(&root.join("Cargo.toml")).unwrap();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                newest = newest.max(modified(&path).unwrap());
            }
        }
    }
    newest
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
