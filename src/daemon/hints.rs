//! Change events: a watch for each directory, added as a scan enters it, and a list of what gets none.
//!
//! A scan calls [`Watches::enter`] before it reads a directory, so that nothing falls between. A directory is polled
//! instead where its file system gives no events of other machines' changes, where the configuration says so, or where
//! the system has no watch left; each scan tries again. Events are hints only: what they say is looked at anew.
//!
//! Watches are ended by path where directories go. Where a directory of the same name was entered just before such an
//! event, its watch ends with the old one's; but the event of its coming follows, and the scan that this leads to enters it
//! again. What [`Directories`] holds and what is watched change together under its lock, but for the adding of a watch: a
//! share may never answer that, and it comes after the entry.

use std::collections::BTreeSet;
use std::io;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::config::file::WatchBy;
use crate::daemon::directories::{Directories, Ways, Why};
use crate::daemon::filesystem;
use crate::daemon::ignore;
use crate::daemon::watcher::{self, Change, Event, Said, Watcher};

/// Paths that wait to be looked at; more than these, and everything is scanned.
const HINTS: usize = 65_536;

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
}

/// The watches, for scans on other threads.
#[derive(Clone, Debug)]
pub struct Watches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    watcher: Watcher,
    state: Arc<State>,
}

/// What the thread that brings the events works with.
#[derive(Debug, Default)]
struct State {
    extensions: Mutex<Vec<String>>,
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
        let state =
            Arc::new(State { extensions: Mutex::new(extensions.to_owned()), ..State::default() });
        let handler = Arc::clone(&state);
        let watcher = Watcher::new(move |watcher, said| handler.take_in(watcher, said));
        Self { watches: Watches(Arc::new(Shared { watcher, state })) }
    }

    /// From now on names that these `extensions` and [`ignore`] rule out give no hints.
    pub fn set_extensions(&self, extensions: &[String]) {
        extensions.clone_into(&mut locked(&self.state().extensions));
    }

    /// Waits until there are hints or some were lost.
    pub async fn news(&self) {
        self.state().news.notified().await;
    }

    /// What happened since the last call, each path once.
    #[must_use]
    pub fn take(&self) -> BTreeSet<Hint> {
        take(&mut self.state().inbox().hints)
    }

    /// How often hints were lost since the last call: if at all, everything is to be scanned.
    #[must_use]
    pub fn take_overflows(&self) -> u64 {
        take(&mut self.state().inbox().overflows)
    }

    /// The watches, for scans.
    #[must_use]
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    fn state(&self) -> &State {
        &self.watches.0.state
    }
}

impl Watches {
    /// A scan of the watched folder `root` is about to read `directory`: from now on its changes give hints, or it is
    /// listed as polled. It waits for no scan of another folder.
    pub fn enter(&self, root: &Path, directory: &Path, by: WatchBy) {
        let network = filesystem::network_name(directory);
        let polled = match (by, network) {
            (WatchBy::Polling, _) => Some(Why::Configured),
            (WatchBy::Auto, Some(name)) => Some(Why::Network(name)),
            _ => None,
        };
        let Shared { watcher, state } = &*self.0;
        state.map().is_on(directory, network);
        let problem = if let Some(why) = polled {
            Some(why)
        } else {
            // First, so that an event that comes at once finds it.
            state.map().put(root, directory, Ok(()));
            let added = watcher.add(root, directory);
            let map = state.map();
            match added {
                Ok(()) if map.holds(directory) => return,
                // It was forgotten meanwhile.
                Ok(()) => return watcher.remove(directory),
                Err(error) if watcher::is_no_watch_left(&error) => Some(Why::NoWatchLeft),
                // The scan will meet that.
                Err(error) if watcher::is_no_directory(&error) => None,
                Err(error) => {
                    let limit = match watcher::is_no_instance_left(&error) {
                        true => "; fs.inotify.max_user_instances",
                        false => "",
                    };
                    Some(Why::Failed(format!("no change events ({error}{limit})")))
                }
            }
        };
        let mut map = state.map();
        let was_watched = match problem {
            Some(why) => map.put(root, directory, Err(why)),
            None => map.remove(directory),
        };
        if was_watched {
            // There is none where it could not be added.
            watcher.remove(directory);
        }
    }

    /// Nothing below `directory` is watched any more, nor it itself.
    pub fn forget(&self, directory: &Path) {
        self.end(|map| map.forget(directory));
    }

    /// Nothing of the watched folder `root` is watched any more. Does not wait for file systems.
    pub fn forget_root(&self, root: &Path) {
        self.end(|map| map.forget_root(root));
        self.0.watcher.remove_root(root);
    }

    /// Ends the watches of the directories that `forget` takes out.
    fn end(&self, forget: impl FnOnce(&mut Directories) -> Vec<PathBuf>) {
        let Shared { watcher, state } = &*self.0;
        let mut map = state.map();
        let ended = forget(&mut map);
        ended.iter().for_each(|path| watcher.remove(path));
    }

    /// Whether `directory` is on the file system of a network; `None` where no scan entered it.
    #[must_use]
    pub fn is_on_network(&self, directory: &Path) -> Option<bool> {
        self.0.state.map().is_on_network(directory)
    }

    /// A scan of a whole watched folder begins; for [`Self::end_scan`].
    #[must_use]
    pub fn begin_scan(&self) -> u64 {
        self.0.state.map().begin_generation()
    }

    /// The scan read all of `root`: directories that no scan entered since `begun`, and that are not there any more, are
    /// forgotten. Where events were lost nothing else says that they went.
    pub fn end_scan(&self, root: &Path, begun: u64) {
        let state = &self.0.state;
        let mut gone = state.map().unmet(root, begun);
        gone.retain(|path| match std::fs::symlink_metadata(path) {
            Ok(meta) => !meta.is_dir() && **path != *root,
            Err(error) => is_gone(&error),
        });
        for path in gone {
            self.end(|map| match map.remove_unmet(&path, begun) {
                true => vec![path.to_path_buf()],
                false => Vec::new(),
            });
        }
    }

    /// The polled directories below `root`, or it itself, that do not lie in another polled one.
    #[must_use]
    pub fn polled(&self, root: &Path) -> Vec<PathBuf> {
        self.0.state.map().polled(root)
    }

    /// How the directories of `root` are watched.
    #[must_use]
    pub fn ways(&self, root: &Path) -> Ways {
        self.0.state.map().ways(root)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

// A thread that panicked while it held one of these left whole entries behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn map(&self) -> MutexGuard<'_, Directories> {
        locked(&self.map)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        locked(&self.inbox)
    }

    fn take_in(&self, watcher: &Watcher, said: Said) {
        match said {
            Said::Lost => self.lose(),
            Said::Happened(event) => self.happened(watcher, &event),
        }
    }

    fn happened(&self, watcher: &Watcher, event: &Event) {
        let Event { path, change, may_be_directory } = event;
        let mut map = self.map();
        let is_gone = *change == Change::Gone;
        let was_held = map.holds(path);
        if was_held && is_gone {
            map.forget(path).iter().for_each(|ended| watcher.remove(ended));
        }
        drop(map);
        let name = Path::new(path.file_name().unwrap_or_default());
        let may_hold_clips = *may_be_directory && ignore::enters(name);
        if was_held || may_hold_clips || ignore::gives_hints(name, &locked(&self.extensions)) {
            self.tell(Hint { path: path.clone(), moved_in: *change == Change::MovedIn });
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
            assert!(!shared.state.map().put(
                place.folder.path(),
                &place.path(name),
                Err(Why::NoWatchLeft)
            ));
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
        let state = place.hints.state();
        for number in 0..=HINTS {
            state.tell(Hint { path: number.to_string().into(), moved_in: false });
        }
        assert_eq!(place.hints.take_overflows(), 1);
        state.take_in(&place.hints.watches().0.watcher, Said::Lost);
        assert_eq!(place.hints.take_overflows(), 1);
        assert_eq!(place.hints.take_overflows(), 0);
    }
}
