//! Change events: one inotify watch for each directory, added as a scan enters it, and a list of what gets none.
//!
//! A scan calls [`Watches::enter`] before it reads a directory, so that nothing falls between. A directory is polled
//! instead where its file system gives no events of other machines' changes, where the configuration says so, or where
//! the system has no watch left; each scan tries again. Events are hints only: what they say is looked at anew.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::mem::{MaybeUninit, take};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

use crate::config::file::WatchBy;
use crate::daemon::directories::{Directories, Ways, Why};
use crate::daemon::filesystem;
use crate::daemon::ignore;

/// Paths that wait to be looked at; more than these, and everything is scanned.
const HINTS: usize = 65_536;
/// Bytes of events read at a time; an event takes 16 to 272.
const BUFFER_BYTES: usize = 64 << 10;

/// What is news in a directory. Reading is none.
const NEWS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// Something happened to a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    /// The path; a watched directory itself where it went away.
    pub path: PathBuf,
    /// Whether it was moved to this name, rather than written under it.
    pub moved_in: bool,
}

/// Source of hints.
#[derive(Debug)]
pub struct Hints {
    watches: Watches,
    /// Its end ends the reading thread.
    wake: Option<UnixStream>,
}

/// The watches, for scans on other threads.
#[derive(Clone, Debug)]
pub struct Watches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inotify: Result<OwnedFd, String>,
    extensions: Vec<String>,
    map: Mutex<Directories>,
    inbox: Mutex<Inbox>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    hints: BTreeSet<Hint>,
    overflows: u64,
}

impl Hints {
    /// Starts listening. Names that `extensions` and [`ignore`] rule out give no hints.
    #[must_use]
    pub fn start(extensions: &[String]) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| format!("no change events ({error}; fs.inotify.max_user_instances)"));
        let shared = Arc::new(Shared {
            inotify,
            extensions: extensions.to_owned(),
            map: Mutex::default(),
            inbox: Mutex::default(),
            news: Notify::new(),
        });
        let wake = UnixStream::pair().and_then(|(wake, woken)| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("inotify".into());
            thread.spawn(move || shared.listen(&woken)).map(|_| wake)
        });
        let watches = Watches(shared);
        match wake {
            Ok(wake) => Self { watches, wake: Some(wake) },
            Err(error) => Self { watches: watches.without_events(&error), wake: None },
        }
    }

    /// Waits until there are hints or some were lost.
    pub async fn news(&self) {
        self.watches.0.news.notified().await;
    }

    /// What happened since the last call, each path once.
    #[must_use]
    pub fn take(&self) -> BTreeSet<Hint> {
        take(&mut self.watches.0.inbox().hints)
    }

    /// How often hints were lost since the last call: if at all, everything is to be scanned.
    #[must_use]
    pub fn take_overflows(&self) -> u64 {
        take(&mut self.watches.0.inbox().overflows)
    }

    /// The watches, for scans.
    #[must_use]
    pub fn watches(&self) -> &Watches {
        &self.watches
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        if let Some(wake) = &mut self.wake {
            // Where it does not listen any more it has ended already.
            let _ = wake.write_all(&[1]);
        }
    }
}

impl Watches {
    fn without_events(self, error: &io::Error) -> Self {
        Self(Arc::new(Shared {
            inotify: Err(format!("no change events ({error})")),
            extensions: self.0.extensions.clone(),
            map: Mutex::default(),
            inbox: Mutex::default(),
            news: Notify::new(),
        }))
    }

    /// A scan is about to read `directory`: from now on its changes give hints, or it is listed as polled. `root` is the
    /// watched folder that it lies in, or is.
    pub fn enter(&self, root: &Path, directory: &Path, by: WatchBy) {
        // Outside the lock: a share may take its time.
        let network = filesystem::network_name(directory);
        let polled = match (by, network) {
            (WatchBy::Polling, _) => Some(Why::Configured),
            (WatchBy::Auto, Some(name)) => Some(Why::Network(name)),
            _ => None,
        };
        let mut map = self.0.map();
        let way = match (polled, &self.0.inotify) {
            (Some(why), _) => Err(why),
            (None, Err(problem)) => Err(Why::Failed(problem.clone())),
            (None, Ok(inotify)) => {
                let links =
                    if root == directory { WatchFlags::empty() } else { WatchFlags::DONT_FOLLOW };
                match inotify::add_watch(inotify, directory, NEWS | links) {
                    Ok(watch) => Ok(watch),
                    // It is gone, and the scan will meet that.
                    Err(Errno::NOENT | Errno::NOTDIR) => return,
                    Err(Errno::NOSPC) => Err(Why::NoWatchLeft),
                    Err(error) => Err(Why::Failed(error.to_string())),
                }
            }
        };
        let unused = map.put(directory, way);
        self.0.end_watches(unused);
    }

    /// Nothing below `directory` is watched any more, nor it itself.
    pub fn forget(&self, directory: &Path) {
        let unused = self.0.map().forget(directory);
        self.0.end_watches(unused);
    }

    /// A scan of a whole watched folder begins; for [`Self::end_scan`].
    #[must_use]
    pub fn begin_scan(&self) -> u64 {
        self.0.map().begin_generation()
    }

    /// The scan read all of `root`: directories that no scan entered since `begun`, and that are not there any more, are
    /// forgotten. Where events were lost nothing else says that they went.
    pub fn end_scan(&self, root: &Path, begun: u64) {
        let mut gone = self.0.map().unmet(root, begun);
        gone.retain(|path| match std::fs::symlink_metadata(path) {
            Ok(meta) => !meta.is_dir() && **path != *root,
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
        });
        let mut map = self.0.map();
        for path in gone {
            let unused = map.remove_unmet(&path, begun);
            self.0.end_watches(unused);
        }
    }

    /// The polled directories below `root`, or it itself, that do not lie in another polled one.
    #[must_use]
    pub fn polled(&self, root: &Path) -> Vec<PathBuf> {
        self.0.map().polled(root)
    }

    /// How the directories of `root` are watched.
    #[must_use]
    pub fn ways(&self, root: &Path) -> Ways {
        self.0.map().ways(root)
    }
}

impl Shared {
    // A thread that panicked meanwhile left whole entries behind.
    fn map(&self) -> MutexGuard<'_, Directories> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_watches(&self, watches: impl IntoIterator<Item = i32>) {
        let Ok(inotify) = &self.inotify else { return };
        for watch in watches {
            // The system drops the watch of a removed directory itself.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Reads events until `woken` ends.
    fn listen(&self, mut woken: &UnixStream) {
        let Ok(inotify) = &self.inotify else { return };
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        loop {
            let mut waited =
                [PollFd::new(inotify, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
            match poll(&mut waited, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return self.lose(),
            }
            if !waited[1].revents().is_empty() {
                // Read, so that it counts as used; the thread ends either way.
                let _ = woken.read(&mut [0]);
                return;
            }
            self.read(inotify, &mut buffer);
        }
    }

    fn read(&self, inotify: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) {
        let mut reader = Reader::new(inotify, buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.lose(),
            };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            self.take_in(event.wd(), event.events(), name);
        }
    }

    fn take_in(&self, watch: i32, what: ReadFlags, name: Option<&OsStr>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.lose();
        }
        let mut map = self.map();
        // Events of a watch that was given up meanwhile mean nothing.
        let Some(directory) = map.of_watch(watch) else { return };
        let Some(name) = name else {
            return self.directory_itself(&mut map, what, &directory);
        };
        let path = directory.join(name);
        if what.contains(ReadFlags::ISDIR) {
            if what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) {
                self.end_watches(map.forget(&path));
            }
            // Its own changes come by its own watch.
            let is_new = what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if !(is_new || what.contains(ReadFlags::ATTRIB)) || !ignore::enters(Path::new(name)) {
                return;
            }
        } else if !ignore::gives_hints(Path::new(name), &self.extensions) {
            return;
        }
        drop(map);
        self.tell(Hint { path, moved_in: what.contains(ReadFlags::MOVED_TO) });
    }

    fn directory_itself(&self, map: &mut Directories, what: ReadFlags, directory: &Arc<Path>) {
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if what.contains(ReadFlags::IGNORED) {
            // The system ended this watch, and its number means nothing any more.
            let _ = map.remove(directory);
        } else if what.intersects(gone) {
            if what.contains(ReadFlags::MOVE_SELF) && std::fs::symlink_metadata(directory).is_err()
            {
                self.end_watches(map.forget(directory));
            }
            self.tell(Hint { path: directory.to_path_buf(), moved_in: false });
        } else if what.contains(ReadFlags::ATTRIB) {
            // Its rights may have changed.
            self.tell(Hint { path: directory.to_path_buf(), moved_in: false });
        }
    }

    fn tell(&self, hint: Hint) {
        let mut inbox = self.inbox();
        inbox.hints.insert(hint);
        if inbox.hints.len() > HINTS {
            inbox.hints.clear();
            inbox.overflows += 1;
        }
        drop(inbox);
        self.news.notify_one();
    }

    fn lose(&self) {
        self.inbox().overflows += 1;
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::{Duration, Instant};

    /// How long an event may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Place {
        folder: tempfile::TempDir,
        hints: Hints,
        seen: BTreeSet<PathBuf>,
    }

    impl Place {
        fn new() -> Self {
            let hints = Hints::start(&["mp4".to_owned()]);
            Self { folder: tempfile::tempdir().unwrap(), hints, seen: BTreeSet::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            match name {
                "" => self.folder.path().to_owned(),
                name => self.folder.path().join(name),
            }
        }

        fn enter(&self, name: &str) {
            self.hints.watches().enter(self.folder.path(), &self.path(name), WatchBy::Auto);
        }

        fn ways(&self) -> Ways {
            self.hints.watches().ways(self.folder.path())
        }

        /// Waits for a hint at `name`.
        fn expect(&mut self, name: &str) {
            let (path, begin) = (self.path(name), Instant::now());
            while !self.seen.contains(&path) {
                self.seen.extend(self.hints.take().into_iter().map(|hint| hint.path));
                assert!(begin.elapsed() < PATIENCE, "no hint for {name}: {:?}", self.seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        }

        fn write(&self, name: &str) {
            fs::write(self.path(name), "x").unwrap();
        }
    }

    #[test]
    fn writing_moving_and_linking_give_hints_and_reading_and_other_names_give_none() {
        let mut place = Place::new();
        place.write("kept.mp4");
        place.enter("");
        fs::read(place.path("kept.mp4")).unwrap();
        place.write("notes.txt");
        place.write("new.mp4");
        place.expect("new.mp4");
        assert_eq!(place.seen.len(), 1, "{:?}", place.seen);
        fs::hard_link(place.path("kept.mp4"), place.path("link.mp4")).unwrap();
        place.expect("link.mp4");
        fs::rename(place.path("kept.mp4"), place.path("moved.mp4")).unwrap();
        place.expect("moved.mp4");
        place.expect("kept.mp4");
        fs::create_dir(place.path("sub")).unwrap();
        place.expect("sub");
    }

    #[test]
    fn a_moved_directory_keeps_its_watch_under_its_new_name() {
        let mut place = Place::new();
        fs::create_dir_all(place.path("a/deep")).unwrap();
        for name in ["", "a", "a/deep"] {
            place.enter(name);
        }
        assert_eq!(place.ways().events, 3);
        fs::rename(place.path("a"), place.path("b")).unwrap();
        place.expect("b");
        // As the scan does that follows.
        place.enter("b");
        place.enter("b/deep");
        place.write("b/deep/new.mp4");
        place.expect("b/deep/new.mp4");
        assert_eq!(place.ways().events, 3, "nothing is left of the old names");
    }

    #[test]
    fn removed_directories_forget_their_watch_and_a_new_one_of_the_name_gets_its_own() {
        let mut place = Place::new();
        fs::create_dir(place.path("a")).unwrap();
        place.enter("");
        place.enter("a");
        fs::remove_dir(place.path("a")).unwrap();
        place.expect("a");
        let begin = Instant::now();
        while place.ways().events > 1 {
            assert!(begin.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::create_dir(place.path("a")).unwrap();
        place.enter("a");
        place.write("a/new.mp4");
        place.expect("a/new.mp4");
        place.hints.watches().forget(place.folder.path());
        assert_eq!(place.ways(), Ways::default());
    }

    #[test]
    fn what_a_whole_scan_did_not_meet_any_more_is_forgotten() {
        let place = Place::new();
        let watches = place.hints.watches();
        fs::create_dir(place.path("a")).unwrap();
        fs::create_dir(place.path("kept")).unwrap();
        let poll = |name: &str| {
            watches.enter(place.folder.path(), &place.path(name), WatchBy::Polling);
        };
        ["", "a", "kept"].into_iter().for_each(poll);
        assert_eq!(watches.polled(place.folder.path()), [place.path("")]);
        fs::remove_dir(place.path("a")).unwrap();
        let begun = watches.begin_scan();
        poll("");
        watches.end_scan(place.folder.path(), begun);
        let expected = BTreeMap::from([(Why::Configured, 2)]);
        assert_eq!(place.ways(), Ways { events: 0, polled: expected }, "`kept` is there still");
    }

    /// W15, at the seam: the real limit is in tests/daemon/watching.rs.
    #[test]
    fn a_polled_directory_gets_events_as_soon_as_it_can() {
        let mut place = Place::new();
        fs::create_dir_all(place.path("a/b")).unwrap();
        place.enter("");
        let shared = Arc::clone(&place.hints.watches().0);
        for name in ["a", "a/b"] {
            assert_eq!(shared.map().put(&place.path(name), Err(Why::NoWatchLeft)), None);
        }
        assert_eq!(place.hints.watches().polled(place.folder.path()), [place.path("a")]);
        assert_eq!(place.ways().polled, BTreeMap::from([(Why::NoWatchLeft, 2)]));
        place.enter("a");
        assert_eq!(place.hints.watches().polled(place.folder.path()), [place.path("a/b")]);
        place.enter("a/b");
        assert_eq!(place.ways(), Ways { events: 3, polled: BTreeMap::new() });
        place.write("a/b/new.mp4");
        place.expect("a/b/new.mp4");
    }

    /// W14, at the seam: the real queue is in tests/daemon/watching.rs.
    #[test]
    fn more_hints_than_fit_are_counted_as_an_overflow() {
        let place = Place::new();
        let shared = &place.hints.watches().0;
        for number in 0..=HINTS {
            shared.tell(Hint { path: number.to_string().into(), moved_in: false });
        }
        assert_eq!(place.hints.take_overflows(), 1);
        shared.take_in(-1, ReadFlags::QUEUE_OVERFLOW, None);
        assert_eq!(place.hints.take_overflows(), 1);
        assert_eq!(place.hints.take_overflows(), 0);
    }
}
