//! The kernel's change events. Each watched folder has a watcher and a thread of its own, which adds and ends its watches:
//! to add one a path is looked up, which a share whose server is gone does not answer, and then its folder alone waits.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use notify::event::{AccessKind, AccessMode, CreateKind, MetadataKind, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written, made or linked, or has other rights.
    Changed,
    /// It was moved to this name.
    MovedIn,
    /// It was moved away from this name, removed, or what is mounted there was taken away.
    Gone,
}

/// An event of a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it happened to: the watched directory, or something in it.
    pub path: PathBuf,
    /// What happened.
    pub change: Change,
    /// Whether it may be a directory: of what was made the event says so; of what was moved, and of other rights, whoever
    /// looks at the path finds out.
    pub may_be_directory: bool,
}

/// What a watcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something happened.
    Happened(Event),
    /// Events were lost.
    Lost,
}

/// Called by the threads that bring events; it must wait for no file system.
type Handler = dyn Fn(&Watcher, Said) + Send + Sync;

/// The watches of directories; clones are the same watcher.
#[derive(Clone)]
pub struct Watcher {
    handler: Arc<Handler>,
    roots: Arc<Mutex<Roots>>,
}

#[derive(Default)]
struct Roots {
    /// Of each watched folder, its thread.
    threads: HashMap<PathBuf, Sender<Order>>,
    /// Of each watched directory, the folder whose thread has its watch.
    held: HashMap<PathBuf, Arc<Path>>,
}

impl Roots {
    /// Asks the thread that has the watch of `directory` to end it, if that is another than that of `but`.
    fn remove(&mut self, directory: &Path, but: Option<&Path>) {
        if let Some(root) = self.held.get(directory).filter(|root| Some(&***root) != but) {
            if let Some(thread) = self.threads.get(&**root) {
                // A thread that has ended watches nothing.
                let _ = thread.send(Order::Remove(directory.to_owned()));
            }
            self.held.remove(directory);
        }
    }
}

/// What a folder's thread is asked for.
enum Order {
    Add(PathBuf, Sender<notify::Result<()>>),
    Remove(PathBuf),
}

impl Watcher {
    /// Events go to `handler`, with the watcher itself.
    pub fn new(handler: impl Fn(&Self, Said) + Send + Sync + 'static) -> Self {
        Self { handler: Arc::new(handler), roots: Arc::default() }
    }

    /// From now on what happens in `directory` of the watched folder `root` gives events. May wait for its file system, and
    /// for others of that folder.
    ///
    /// # Errors
    /// The system's: at the limit of watches [`ErrorKind::MaxFilesWatch`], at that of instances
    /// (`fs.inotify.max_user_instances`) one of input and output.
    pub fn add(&self, root: &Path, directory: &Path) -> notify::Result<()> {
        let (answer, answered) = mpsc::channel();
        let mut roots = self.roots();
        let thread = match roots.threads.get(root) {
            Some(thread) => thread.clone(),
            None => {
                let thread = self.start()?;
                roots.threads.insert(root.to_owned(), thread.clone());
                thread
            }
        };
        // It may have been another folder's, as folders may lie in each other.
        roots.remove(directory, Some(root));
        roots.held.insert(directory.to_owned(), root.into());
        let sent = thread.send(Order::Add(directory.to_owned(), answer));
        drop(roots);
        let ended = || notify::Error::io(io::Error::other("the thread of the watches has ended"));
        sent.map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())?
    }

    /// What happens in `directory` gives no more events. Does not wait.
    pub fn remove(&self, directory: &Path) {
        self.roots().remove(directory, None);
    }

    /// Nothing of the watched folder `root` gives events any more. Does not wait.
    pub fn remove_root(&self, root: &Path) {
        let mut roots = self.roots();
        // The thread ends with the last of its senders.
        roots.threads.remove(root);
        roots.held.retain(|_, holder| **holder != *root);
    }

    /// A thread for the watches of a folder.
    fn start(&self) -> notify::Result<Sender<Order>> {
        let (orders, received) = mpsc::channel();
        let (handler, roots) = (Arc::clone(&self.handler), Arc::downgrade(&self.roots));
        let watcher = notify::recommended_watcher(move |event| {
            let Some(roots) = roots.upgrade() else { return };
            let own = Self { handler: Arc::clone(&handler), roots };
            translate(event, |said| (own.handler)(&own, said));
        })?;
        thread::Builder::new()
            .name("change events".into())
            .spawn(move || serve(watcher, &received))
            .map_err(notify::Error::io)?;
        Ok(orders)
    }

    // A thread that panicked while it held this left whole entries behind.
    fn roots(&self) -> MutexGuard<'_, Roots> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

fn serve(mut watcher: RecommendedWatcher, orders: &Receiver<Order>) {
    for order in orders {
        match order {
            Order::Add(path, answer) => {
                // Nobody waits for it any more where the daemon ends.
                let _ = answer.send(watcher.watch(&path, RecursiveMode::NonRecursive));
            }
            Order::Remove(path) => {
                // The watcher ends the watches of directories that go by itself.
                let _ = watcher.unwatch(&path);
            }
        }
    }
}

/// Whether `error` means that the system has no watch left.
pub fn is_no_watch_left(error: &notify::Error) -> bool {
    matches!(error.kind, ErrorKind::MaxFilesWatch)
}

/// Whether `error` means that the user has no inotify instance left, or the process no file.
pub fn is_no_instance_left(error: &notify::Error) -> bool {
    let no_file = [Errno::MFILE, Errno::NFILE].map(|it| Some(it.raw_os_error()));
    matches!(&error.kind, ErrorKind::Io(error) if no_file.contains(&error.raw_os_error()))
}

/// Whether `error` means that there is no such directory.
pub fn is_no_directory(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
        _ => false,
    }
}

fn translate(event: notify::Result<notify::Event>, mut say: impl FnMut(Said)) {
    let Ok(event) = event else { return say(Said::Lost) };
    if event.need_rescan() {
        return say(Said::Lost);
    }
    let (change, may_be_directory) = match event.kind {
        // Reading is no news, nor is the time of the last reading.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Change::Changed, false),
        EventKind::Access(_) => return,
        EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)) => return,
        EventKind::Modify(ModifyKind::Metadata(_)) => (Change::Changed, true),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Change::MovedIn, true),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => (Change::Gone, false),
        // A rename within what is watched comes a third time as both in one.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
        EventKind::Create(kind) => (Change::Changed, kind == CreateKind::Folder),
        EventKind::Remove(_) => (Change::Gone, false),
        _ => (Change::Changed, false),
    };
    for path in event.paths {
        say(Said::Happened(Event { path, change, may_be_directory }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Mutex;
    use std::time::Duration;

    /// How long an event may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn folders_have_watches_of_their_own_and_end_alone() {
        let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (sender, said) = mpsc::channel();
        let sender = Mutex::new(sender);
        let watcher = Watcher::new(move |_, it| {
            sender.lock().unwrap().send(it).unwrap_or_default();
        });
        let [a, b] = [0, 1].map(|i| places[i].path().to_owned());
        watcher.add(&a, &a).unwrap();
        watcher.add(&b, &b).unwrap();
        fs::create_dir(b.join("sub")).unwrap();
        watcher.add(&b, &b.join("sub")).unwrap();
        let missing = watcher.add(&a, &a.join("missing")).unwrap_err();
        assert!(is_no_directory(&missing), "{missing}");
        let expect = |path: PathBuf, change: Change| {
            let is_it = |it: &Said| matches!(it, Said::Happened(it) if it.path == path && it.change == change);
            while !is_it(&said.recv_timeout(PATIENCE).unwrap()) {}
        };
        fs::write(a.join("x"), "x").unwrap();
        expect(a.join("x"), Change::Changed);
        fs::rename(a.join("x"), b.join("x")).unwrap();
        expect(b.join("x"), Change::MovedIn);
        watcher.remove(&a);
        watcher.remove_root(&a);
        fs::write(a.join("y"), "y").unwrap();
        fs::write(b.join("sub/z"), "z").unwrap();
        expect(b.join("sub/z"), Change::Changed);
        // A folder that was given up may come again.
        watcher.add(&a, &a).unwrap();
        fs::write(a.join("again"), "x").unwrap();
        expect(a.join("again"), Change::Changed);
        fs::remove_dir_all(b.join("sub")).unwrap();
        expect(b.join("sub"), Change::Gone);
        drop(watcher);
        // The threads end, and drop the sender.
        while said.recv_timeout(PATIENCE) != Err(mpsc::RecvTimeoutError::Disconnected) {}
    }
}
