//! Reloading when files change (feature `watch`).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let load = |_: &buttress::Predicates| Ok(buttress::Settings::new());
//! let registry = buttress::Registry::builder().watched("stacks.toml").build_from(load)?;
//! // For as long as it is kept.
//! let watch = registry.watch()?;
//! # drop(watch);
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::composition::registry::Registry;

/// Reloads a [`Registry`] when its files change, until it is dropped.
///
/// What is watched are the folders of the files, and of what they are links to: so it sees editors that write another
/// file and rename it, and Kubernetes, which swaps a link to a whole folder. Every few seconds it looks at the files
/// themselves too, for file systems that tell nothing.
///
/// Changes that come shortly after one another are one, and files that have the contents of before are not loaded again.
/// An empty file is one that is being written: it is waited for. A file that is gone makes the reload fail, and the
/// stacks go on as they are; so do settings that are wrong. Both are told as
/// [`What::ReloadFailed`](crate::What::ReloadFailed), and counted; with feature `tracing` they are logged where the registry
/// has no observer.
#[must_use = "dropping it ends the watching; see `detach`"]
pub struct Watch {
    signals: Sender<Signal>,
    // None once it is detached.
    thread: Option<thread::JoinHandle<()>>,
}

/// How long nothing may change before it is looked at, and how often it is anyway.
#[derive(Clone, Copy, Debug)]
struct Pace {
    settle: Duration,
    look: Duration,
}

const PACE: Pace = Pace {
    settle: Duration::from_millis(100),
    look: Duration::from_secs(5),
};

/// Changes that do not end are looked at after so many times of settling.
const LONGEST: u32 = 10;

/// Links that lead to links end somewhere.
const MOST_LINKS: usize = 40;

/// Files cannot be watched: there are none, or the system does not let them be.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The registry was not told which files it is loaded from.
    #[error(
        "this registry has no file to watch: name it by `RegistryBuilder::watched`, or build it from a path"
    )]
    NoFiles,
    /// The system does not let files be watched.
    #[error("files cannot be watched: {0}")]
    System(#[from] notify::Error),
    /// No thread can be had for it.
    #[error("files cannot be watched: {0}")]
    Thread(#[from] io::Error),
}

enum Signal {
    Changed,
    Stop,
}

impl Registry {
    /// Watches the files that its settings come from, on a thread of its own, and reloads when they change.
    ///
    /// # Errors
    ///
    /// There is no file that it was told of, or files cannot be watched.
    pub fn watch(&self) -> Result<Watch, WatchError> {
        let files = self.watched().to_vec();
        if files.is_empty() {
            return Err(WatchError::NoFiles);
        }
        let (signals, received) = channel();
        let told = signals.clone();
        let watcher = notify::recommended_watcher(move |_| {
            // When nobody listens any more, it is over.
            let _ = told.send(Signal::Changed);
        })?;
        let mut watching = Watching {
            registry: self.clone(),
            seen: read(&files),
            files,
            watcher,
            folders: BTreeSet::new(),
        };
        watching.follow();
        let thread = thread::Builder::new()
            .name("buttress-watch".to_owned())
            .spawn(move || watching.run(&received, PACE))?;
        Ok(Watch {
            signals,
            thread: Some(thread),
        })
    }
}

impl Watch {
    /// Watches for as long as the program runs.
    pub fn detach(mut self) {
        self.thread = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.signals.send(Signal::Stop);
            // It may be reloading, and then the caller would see changes after the end of the watching. Its own thread,
            // as that of an observer that it runs, cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

struct Watching {
    registry: Registry,
    files: Vec<PathBuf>,
    /// What the files held when they were last looked at.
    seen: Vec<Option<Vec<u8>>>,
    watcher: RecommendedWatcher,
    /// The folders that are watched.
    folders: BTreeSet<PathBuf>,
}

impl Watching {
    fn run(mut self, signals: &Receiver<Signal>, pace: Pace) {
        loop {
            match signals.recv_timeout(pace.look) {
                Ok(Signal::Changed) if settled(signals, pace) => {}
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let now = read(&self.files);
        let written = now
            .iter()
            .all(|file| file.as_ref().is_none_or(|contents| !contents.is_empty()));
        if !written || now == self.seen {
            self.follow();
            return;
        }
        self.seen = now;
        // What came of it is told to the registry's observers, and counted. Where nobody observes, it is logged here:
        // nobody else would learn of it.
        let reloaded = self.registry.reload();
        #[cfg(feature = "tracing")]
        if let Err(errors) = &reloaded
            && !self.registry.is_observed()
        {
            tracing::error!(target: "buttress", %errors, "settings are wrong and not taken");
        }
        drop(reloaded);
        self.follow();
    }

    /// Watches the folders that the files lie in now.
    fn follow(&mut self) {
        let folders: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| folders_of(file)).collect();
        for gone in self.folders.difference(&folders) {
            let _ = self.watcher.unwatch(gone);
        }
        // A folder that is not there cannot be watched; its file is looked at every few seconds all the same. One that
        // was made anew must be watched anew.
        self.folders = folders
            .into_iter()
            .filter(|folder| self.watcher.watch(folder, RecursiveMode::NonRecursive).is_ok())
            .collect();
    }
}

/// Waits until nothing more changes for a while. False: it is over.
fn settled(signals: &Receiver<Signal>, pace: Pace) -> bool {
    for _ in 0..LONGEST {
        match signals.recv_timeout(pace.settle) {
            Ok(Signal::Changed) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
    true
}

fn read(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|file| fs::read(file).ok()).collect()
}

/// The folder of a file, and those of the links that lead to it.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut file = file.to_path_buf();
    for _ in 0..MOST_LINKS {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        // The folder may be a link itself, as Kubernetes' `..data` is: then that lies in a folder, too.
        if let Some(outer) = folder.parent()
            && fs::symlink_metadata(&folder).is_ok_and(|about| about.is_symlink())
        {
            folders.push(outer.to_path_buf());
        }
        let link = fs::read_link(&file);
        folders.push(folder.clone());
        match link {
            Ok(target) => file = folder.join(target),
            Err(_) => break,
        }
    }
    folders
}
