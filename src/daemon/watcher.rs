//! The kernel's change events (inotify). Any thread adds and ends watches, and none waits for another: to add one a path is
//! looked up, which a share whose server is gone does not answer, and meanwhile events of all others come as ever.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use rustix::event::{PollFd, PollFlags, poll};

/// Room for the events of one reading: hundreds of them, each with a name.
const BUFFER_BYTES: usize = 64 << 10;
/// Pause after a reading that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written, or closed by somebody who could write.
    Written,
    /// It was made or linked.
    Made,
    /// It was moved to this name.
    MovedIn,
    /// It was moved away from this name.
    MovedAway,
    /// It was removed.
    Removed,
    /// Its rights, times or links are others.
    Attributes,
    /// The watched directory itself was moved away or removed.
    DirectoryGone,
    /// What was mounted at the watched directory, or above it, was taken away.
    Unmounted,
}

/// An event of a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it happened to: the watched directory, or something in it.
    pub path: PathBuf,
    /// What happened.
    pub change: Change,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// What a watcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something happened.
    Happened(Event),
    /// Events were lost.
    Lost,
}

/// The watches of directories; clones are the same watcher.
#[derive(Clone, Debug)]
pub struct Watcher {
    watches: Watches,
    names: Arc<Mutex<Names>>,
}

/// The thread that brings events lives as long as this.
#[derive(Debug)]
pub struct Life {
    /// The thread sees at its other end that this one is gone.
    _end: UnixStream,
}

/// Directories by watch and watches by directory: what is in one is in the other.
#[derive(Debug, Default)]
struct Names {
    paths: HashMap<WatchDescriptor, Arc<Path>>,
    watches: HashMap<Arc<Path>, WatchDescriptor>,
}

impl Watcher {
    /// Starts the thread that hands events, and the watcher itself, to `handler`, which must not wait for file systems.
    ///
    /// # Errors
    /// The system's, such as at the limit of instances (`fs.inotify.max_user_instances`).
    pub fn start(
        mut handler: impl FnMut(&Self, Said) + Send + 'static,
    ) -> io::Result<(Self, Life)> {
        let mut inotify = Inotify::init()?;
        let (end, ended) = UnixStream::pair()?;
        let watcher = Self { watches: inotify.watches(), names: Arc::default() };
        let own = watcher.clone();
        thread::Builder::new().name("change events".into()).spawn(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            while is_readable(&inotify, &ended) {
                match inotify.read_events(&mut buffer) {
                    Ok(events) => events.for_each(|event| {
                        if let Some(said) = translate(&event, &own.names) {
                            handler(&own, said);
                        }
                    }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => {
                        handler(&own, Said::Lost);
                        thread::sleep(PAUSE);
                    }
                }
            }
        })?;
        Ok((watcher, Life { _end: end }))
    }

    /// From now on what happens in `directory` gives events. May wait for its file system.
    ///
    /// # Errors
    /// The system's: `StorageFull` at the limit of watches.
    pub fn add(&self, directory: &Path) -> io::Result<()> {
        let mask = WatchMask::ATTRIB
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut watches = self.watches.clone();
        let watch = watches.add(directory, mask)?;
        if let Some(other) = locked(&self.names).put(watch, directory.into()) {
            // The directory that had this name before. It may have gone, and its watch with it.
            let _ = watches.remove(other);
        }
        Ok(())
    }

    /// What happens in `directory` gives no more events. Does not wait for file systems.
    pub fn remove(&self, directory: &Path) {
        if let Some(watch) = locked(&self.names).take(directory) {
            // The kernel may have ended it already.
            let _ = self.watches.clone().remove(watch);
        }
    }
}

impl Names {
    /// `watch` is that of `path`. Returns the one that `path` had before, where that is another.
    fn put(&mut self, watch: WatchDescriptor, path: Arc<Path>) -> Option<WatchDescriptor> {
        // A directory that was moved has the watch it had.
        if let Some(earlier) = self.paths.insert(watch.clone(), Arc::clone(&path))
            && earlier != path
        {
            self.watches.remove(&earlier);
        }
        let other = self.watches.insert(path, watch.clone()).filter(|it| *it != watch)?;
        self.paths.remove(&other);
        Some(other)
    }

    fn take(&mut self, path: &Path) -> Option<WatchDescriptor> {
        let watch = self.watches.remove(path)?;
        self.paths.remove(&watch);
        Some(watch)
    }
}

/// Waits for events. Returns whether there are some, rather than the end.
fn is_readable(inotify: &Inotify, ended: &UnixStream) -> bool {
    let mut sources =
        [PollFd::new(inotify, PollFlags::IN), PollFd::new(ended, PollFlags::IN | PollFlags::HUP)];
    // Where it is interrupted, nothing is ready, and the reading says so.
    let _ = poll(&mut sources, None);
    sources[1].revents().is_empty()
}

fn translate(event: &inotify::Event<&std::ffi::OsStr>, names: &Mutex<Names>) -> Option<Said> {
    let mask = event.mask;
    if mask.contains(EventMask::Q_OVERFLOW) {
        return Some(Said::Lost);
    }
    let mut names = locked(names);
    let directory = Arc::clone(names.paths.get(&event.wd)?);
    if mask.contains(EventMask::IGNORED) {
        names.take(&directory);
        return None;
    }
    drop(names);
    let change = if mask.intersects(EventMask::MODIFY | EventMask::CLOSE_WRITE) {
        Change::Written
    } else if mask.contains(EventMask::CREATE) {
        Change::Made
    } else if mask.contains(EventMask::MOVED_TO) {
        Change::MovedIn
    } else if mask.contains(EventMask::MOVED_FROM) {
        Change::MovedAway
    } else if mask.contains(EventMask::DELETE) {
        Change::Removed
    } else if mask.contains(EventMask::ATTRIB) {
        Change::Attributes
    } else if mask.contains(EventMask::UNMOUNT) {
        Change::Unmounted
    } else {
        Change::DirectoryGone
    };
    let path = event.name.map_or_else(|| directory.to_path_buf(), |name| directory.join(name));
    let is_directory = event.name.is_none() || mask.contains(EventMask::ISDIR);
    Some(Said::Happened(Event { path, change, is_directory }))
}

// A thread that panicked while it held this left whole entries behind.
fn locked(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc;

    /// How long an event may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_moved_directory_has_one_name_and_a_new_one_of_the_old_name_its_own_watch() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (sender, said) = mpsc::channel();
        let (watcher, life) =
            Watcher::start(move |_, it| sender.send(it).unwrap_or_default()).unwrap();
        fs::create_dir(path("a")).unwrap();
        watcher.add(&path("a")).unwrap();
        fs::rename(path("a"), path("b")).unwrap();
        watcher.add(&path("b")).unwrap();
        fs::create_dir(path("a")).unwrap();
        watcher.add(&path("a")).unwrap();
        watcher.remove(&path("c"));
        let expect = |name: &str, change: Change| {
            let is_it = |it: &Said| matches!(it, Said::Happened(it) if it.path == path(name) && it.change == change);
            while !is_it(&said.recv_timeout(PATIENCE).unwrap()) {}
        };
        fs::write(path("b/x"), "x").unwrap();
        expect("b/x", Change::Made);
        fs::write(path("a/y"), "y").unwrap();
        expect("a/y", Change::Made);
        watcher.remove(&path("a"));
        fs::write(path("a/z"), "z").unwrap();
        fs::remove_dir_all(path("b")).unwrap();
        expect("b/x", Change::Removed);
        expect("b", Change::DirectoryGone);
        assert!(watcher.add(&path("a/y")).is_err(), "no directory");
        drop(life);
        // The thread ends, and drops the sender.
        while said.recv_timeout(PATIENCE) != Err(mpsc::RecvTimeoutError::Disconnected) {}
    }
}
