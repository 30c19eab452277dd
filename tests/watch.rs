//! A registry follows its files: real ones, in all the ways in which they are written.

#![cfg(feature = "watch")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use buttress::{
    BulkheadConfig, ConfigErrors, Event, Issue, Observer, PolicyKind, Registry, Settings, StackConfig, What,
};

/// Long enough for a busy machine; what is waited for comes much earlier.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("buttress-watch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The file holds a bulkhead's limit.
fn load(file: &Path) -> Result<Settings, ConfigErrors> {
    let wrong = |error: String| ConfigErrors::from(Issue::error("stacks", error));
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let limit = text
        .trim()
        .parse()
        .map_err(|_| wrong(format!("{text:?} is no limit")))?;
    Ok(Settings::new().stack(
        "payments",
        StackConfig::new().stage("bulkhead", BulkheadConfig::new(limit)),
    ))
}

fn watched(file: &Path) -> (Registry, buttress::Watch, Receiver<What>) {
    let (told, seen) = channel();
    let told = Mutex::new(told);
    let observer: Arc<dyn Observer> = Arc::new(move |event: &Event| {
        if event.policy == PolicyKind::Registry {
            let _ = told.lock().unwrap().send(event.what.clone());
        }
    });
    let from = file.to_path_buf();
    let registry = Registry::builder()
        .watched(file)
        .observe(observer)
        .build_from(move |_| load(&from))
        .unwrap();
    assert_eq!(next(&seen), What::Reloaded { generation: 1 });
    let watch = registry.watch().unwrap();
    (registry, watch, seen)
}

fn next(seen: &Receiver<What>) -> What {
    seen.recv_timeout(PATIENCE).expect("it sees the change")
}

fn limit(registry: &Registry) -> u32 {
    registry.bulkhead("payments").unwrap().snapshot().limit
}

#[test]
fn a_file_that_is_written_in_place_is_taken() {
    let folder = Folder::new("in-place");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (registry, _watch, seen) = watched(&file);
    fs::write(&file, "2").unwrap();
    assert_eq!(next(&seen), What::Reloaded { generation: 2 });
    assert_eq!(limit(&registry), 2);
}

#[test]
fn a_file_that_is_truncated_first_is_taken_once_it_is_written() {
    let folder = Folder::new("truncated");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (registry, _watch, seen) = watched(&file);
    fs::File::create(&file).unwrap();
    // Longer than it settles: the empty file is looked at, and waited for.
    assert!(seen.recv_timeout(Duration::from_millis(500)).is_err());
    fs::write(&file, "7").unwrap();
    assert_eq!(next(&seen), What::Reloaded { generation: 2 });
    assert_eq!(limit(&registry), 7);
}

#[test]
fn a_file_that_another_is_renamed_over_is_taken_each_time() {
    let folder = Folder::new("renamed");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (registry, _watch, seen) = watched(&file);
    for round in 2..5 {
        let written = folder.0.join("stacks.tmp");
        fs::write(&written, round.to_string()).unwrap();
        fs::rename(&written, &file).unwrap();
        assert_eq!(
            next(&seen),
            What::Reloaded {
                generation: u64::from(round)
            }
        );
        assert_eq!(limit(&registry), round);
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_is_swapped_as_kubernetes_does_is_followed() -> io::Result<()> {
    use std::os::unix::fs::symlink;

    let folder = Folder::new("swapped");
    let volume = |version: u32| {
        let path = folder.0.join(format!("..version_{version}"));
        fs::create_dir(&path)?;
        fs::write(path.join("stacks"), version.to_string())?;
        io::Result::Ok(path)
    };
    let data = folder.0.join("..data");
    symlink(volume(1)?, &data)?;
    let file = folder.0.join("stacks");
    symlink("..data/stacks", &file)?;
    let (registry, _watch, seen) = watched(&file);
    for version in 2..4 {
        let next_data = folder.0.join("..data_tmp");
        symlink(volume(version)?, &next_data)?;
        fs::rename(&next_data, &data)?;
        fs::remove_dir_all(folder.0.join(format!("..version_{}", version - 1)))?;
        assert_eq!(
            next(&seen),
            What::Reloaded {
                generation: u64::from(version)
            }
        );
        assert_eq!(limit(&registry), version);
    }
    Ok(())
}

#[test]
fn a_file_that_is_gone_changes_nothing_until_it_is_back() {
    let folder = Folder::new("gone");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (registry, _watch, seen) = watched(&file);
    fs::remove_file(&file).unwrap();
    assert!(matches!(next(&seen), What::ReloadFailed { .. }));
    assert_eq!((limit(&registry), registry.failed_reloads()), (1, 1));
    fs::write(&file, "4").unwrap();
    assert_eq!(next(&seen), What::Reloaded { generation: 2 });
    assert_eq!(limit(&registry), 4);
}

#[test]
fn settings_that_are_wrong_change_nothing_and_the_next_good_ones_are_taken() {
    let folder = Folder::new("wrong");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (registry, _watch, seen) = watched(&file);
    fs::write(&file, "many").unwrap();
    let What::ReloadFailed { errors } = next(&seen) else {
        panic!("it is wrong");
    };
    assert_eq!(&*errors, "stacks: \"many\" is no limit");
    assert_eq!(limit(&registry), 1);
    fs::write(&file, "3").unwrap();
    assert_eq!(next(&seen), What::Reloaded { generation: 2 });
    assert_eq!(limit(&registry), 3);
}

#[test]
fn contents_that_stay_the_same_are_not_loaded_again() {
    let folder = Folder::new("same");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (_registry, _watch, seen) = watched(&file);
    fs::write(&file, "1").unwrap();
    assert!(seen.recv_timeout(Duration::from_millis(500)).is_err());
}

#[test]
fn nothing_is_taken_any_more_once_the_watch_is_dropped() {
    let folder = Folder::new("dropped");
    let file = folder.0.join("stacks");
    fs::write(&file, "1").unwrap();
    let (registry, watch, seen) = watched(&file);
    drop(watch);
    fs::write(&file, "2").unwrap();
    assert!(seen.recv_timeout(Duration::from_millis(500)).is_err());
    assert_eq!(limit(&registry), 1);
}

#[test]
fn a_registry_without_files_says_how_to_name_one() {
    let registry = Registry::builder().build(Settings::new()).unwrap();
    let error = registry.watch().unwrap_err();
    assert!(error.to_string().contains("RegistryBuilder::watched"), "{error}");
}
