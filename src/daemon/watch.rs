//! Says which paths to look at. Change events are only hints: what was missed, a scan finds.
//!
//! A local folder gets events, and a scan at the start and at an interval. A folder on a network file system, or one
//! that gets no events (limits of the system), is scanned at a shorter interval instead. A folder that is not there is
//! looked for.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::config::file::Depth;
use crate::daemon::ignore;
use crate::daemon::snapshot::Snapshot;

/// Hints that wait to be looked at; more than these, and everything is scanned.
const HINTS: usize = 4096;
/// Files found that travel together.
const PAGE: usize = 1000;
/// Folders within folders that are entered.
const DEEPEST: usize = 64;

/// What a path below a watched folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A file, perhaps through a link that stays in the watched folder.
    File(Snapshot),
    /// A folder to enter.
    Folder,
    /// Gone, or nothing to work with.
    Nothing,
    /// A link that leads out of the watched folder.
    Outside,
}

/// A file found by a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Below the watched folder.
    pub relative: PathBuf,
    /// The file.
    pub snapshot: Snapshot,
}

/// How a folder is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watching {
    /// By events.
    Events,
    /// By scans only, and why.
    Scans(String),
}

/// Source of hints.
#[derive(Debug)]
pub struct Hints {
    notify: Option<RecommendedWatcher>,
    problem: Option<String>,
    overflow: Arc<AtomicBool>,
}

impl Hints {
    /// Starts listening. Paths that something happened to arrive at the receiver.
    #[must_use]
    pub fn start() -> (Self, mpsc::Receiver<PathBuf>) {
        let (sender, receiver) = mpsc::channel(HINTS);
        let overflow = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&overflow);
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => flag.store(true, Ordering::Relaxed),
            Ok(event) if is_news(event.kind) => {
                for path in event.paths {
                    if sender.try_send(path).is_err() {
                        flag.store(true, Ordering::Relaxed);
                    }
                }
            }
            Ok(_) => {}
            Err(_) => flag.store(true, Ordering::Relaxed),
        };
        let (notify, problem) = match notify::recommended_watcher(handler) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        (Self { notify, problem, overflow }, receiver)
    }

    /// Whether hints were lost since the last call: then everything is to be scanned.
    pub fn take_overflow(&self) -> bool {
        self.overflow.swap(false, Ordering::Relaxed)
    }

    /// Watches `root`, which is a folder. Scan it afterwards, so that nothing falls between.
    pub fn add(&mut self, root: &Path, depth: Depth) -> Watching {
        if let Some(name) = network_file_system(root) {
            return Watching::Scans(format!("{name} gives no change events"));
        }
        let Some(notify) = &mut self.notify else {
            return Watching::Scans(self.problem.clone().unwrap_or_default());
        };
        let mode = match depth {
            Depth::Flat => RecursiveMode::NonRecursive,
            Depth::Recursive => RecursiveMode::Recursive,
        };
        // After a remount there may be an old watch on the place; it is no error if there is none.
        let _ = notify.unwatch(root);
        match notify.watch(root, mode) {
            Ok(()) => Watching::Events,
            Err(error) => Watching::Scans(error.to_string()),
        }
    }
}

/// Whether an event may mean that a file has changed. Reading one is no news.
fn is_news(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Name of the file system, where it is one whose changes by other machines give no events here.
#[must_use]
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    const NETWORK: [(u32, &str); 11] = [
        (0x6969, "NFS"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x517B, "SMB"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9p"),
        (0x00C3_6400, "Ceph"),
        (0x5346_414F, "AFS"),
        (0x7375_7245, "Coda"),
        (0x0187, "autofs"),
        (0x6A65_6A63, "virtiofs"),
    ];
    let kind = rustix::fs::statfs(path).ok()?.f_type as u32;
    NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// Device and inode of a folder: both stay the same as long as the same thing is mounted there.
///
/// # Errors
/// The system's; `NotADirectory` where it is none, `PermissionDenied` where it may not be read.
pub fn root_identity(root: &Path) -> io::Result<(u64, u64)> {
    // A folder that may not be read is as good as none.
    fs::read_dir(root)?;
    let meta = fs::metadata(root)?;
    Ok((meta.dev(), meta.ino()))
}

/// Looks at `root/relative`. Links to files are followed within the watched folder, links to folders never (loops).
///
/// # Errors
/// The system's, other than that nothing is there.
pub fn look(root: &Path, relative: &Path) -> io::Result<Look> {
    let path = root.join(relative);
    let meta = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Nothing),
        other => other?,
    };
    if meta.is_file() {
        return Ok(Look::File(Snapshot::of(&meta)));
    }
    if meta.is_dir() {
        return Ok(Look::Folder);
    }
    if !meta.is_symlink() {
        return Ok(Look::Nothing);
    }
    let target = match fs::canonicalize(&path) {
        Err(_) => return Ok(Look::Nothing),
        Ok(target) => target,
    };
    if !target.starts_with(fs::canonicalize(root)?) {
        return Ok(Look::Outside);
    }
    match fs::metadata(&target) {
        Ok(meta) if meta.is_file() => Ok(Look::File(Snapshot::of(&meta))),
        _ => Ok(Look::Nothing),
    }
}

/// What a scan could not look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanProblems {
    /// How many folders or files.
    pub count: u64,
    /// The first of them, and why.
    pub first: Option<String>,
}

/// Reads `root/below` (all of `root` where `below` is empty) and hands the candidates out in pages, so that a million
/// names do not sit in memory.
///
/// # Errors
/// Only where `root/below` itself cannot be read; anything deeper is counted.
pub fn scan(
    root: &Path,
    below: &Path,
    depth: Depth,
    extensions: &[String],
    sink: &mut dyn FnMut(Vec<Found>),
) -> io::Result<ScanProblems> {
    let mut problems = ScanProblems::default();
    let mut page = Vec::new();
    let mut folders = vec![(below.to_owned(), 0)];
    while let Some((folder, level)) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Err(error) if level == 0 => return Err(error),
            Err(error) => {
                problems.add(&folder, &error);
                continue;
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            let relative = match entry {
                Ok(entry) => folder.join(entry.file_name()),
                Err(error) => {
                    problems.add(&folder, &error);
                    break;
                }
            };
            match look(root, &relative) {
                Ok(Look::File(snapshot)) if ignore::reason(&relative, extensions).is_none() => {
                    page.push(Found { relative, snapshot });
                }
                Ok(Look::Folder)
                    if depth == Depth::Recursive
                        && level < DEEPEST
                        && ignore::enters(&relative) =>
                {
                    folders.push((relative, level + 1));
                }
                Ok(_) => {}
                Err(error) => problems.add(&relative, &error),
            }
            if page.len() >= PAGE {
                sink(std::mem::take(&mut page));
            }
        }
    }
    if !page.is_empty() {
        sink(page);
    }
    Ok(problems)
}

impl ScanProblems {
    fn add(&mut self, relative: &Path, error: &io::Error) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{}: {error}", relative.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn names(root: &Path, depth: Depth) -> Vec<String> {
        let mut names = Vec::new();
        let extensions = ["mp4".to_owned()];
        scan(root, Path::new(""), depth, &extensions, &mut |page| {
            names.extend(page.into_iter().map(|it| it.relative.to_str().unwrap().to_owned()));
        })
        .unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_scan_finds_candidates_and_enters_folders_only_where_asked() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a.mp4", ".b.mp4", "c.txt", "sub/d.mp4", "sub/deep/e.mp4", "@eaDir/f.mp4"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        assert_eq!(names(root.path(), Depth::Flat), ["a.mp4"]);
        assert_eq!(names(root.path(), Depth::Recursive), ["a.mp4", "sub/d.mp4", "sub/deep/e.mp4"]);
    }

    #[test]
    fn links_are_followed_to_files_inside_and_nowhere_else() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(root.path().join("sub")).unwrap();
        fs::write(root.path().join("sub/real.mp4"), "x").unwrap();
        fs::write(outside.path().join("secret.mp4"), "x").unwrap();
        let link = |target: &Path, name: &str| symlink(target, root.path().join(name)).unwrap();
        link(Path::new("sub/real.mp4"), "in.mp4");
        link(&outside.path().join("secret.mp4"), "out.mp4");
        link(Path::new("nowhere.mp4"), "dangling.mp4");
        link(Path::new("loop.mp4"), "loop.mp4");
        link(root.path(), "again");
        fs::hard_link(root.path().join("sub/real.mp4"), root.path().join("hard.mp4")).unwrap();
        let found = names(root.path(), Depth::Recursive);
        assert_eq!(found, ["hard.mp4", "in.mp4", "sub/real.mp4"]);
        let seen = |name| look(root.path(), Path::new(name)).unwrap();
        assert_eq!(seen("out.mp4"), Look::Outside);
        assert_eq!(seen("dangling.mp4"), Look::Nothing);
        assert_eq!(seen("loop.mp4"), Look::Nothing);
    }

    #[test]
    fn large_folders_come_in_pages() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..=2 * PAGE {
            fs::write(root.path().join(format!("{number}.mp4")), "").unwrap();
        }
        let mut pages = Vec::new();
        scan(root.path(), Path::new(""), Depth::Flat, &[], &mut |page| pages.push(page.len()))
            .unwrap();
        assert_eq!(pages, [PAGE, PAGE, 1]);
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let nothing = |_: Vec<Found>| {};
        let gone = Path::new("/nonexistent/in");
        assert!(scan(gone, Path::new(""), Depth::Flat, &[], &mut { nothing }).is_err());
        assert!(root_identity(gone).is_err());
        assert!(root_identity(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn writing_moving_and_linking_give_hints_and_reading_gives_none() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept.mp4");
        fs::write(&kept, "x").unwrap();
        let (mut hints, mut receiver) = Hints::start();
        if hints.add(root.path(), Depth::Recursive) != Watching::Events {
            println!("skipped: no change events here");
            return;
        }
        fs::read(&kept).unwrap();
        fs::write(root.path().join("new.mp4"), "x").unwrap();
        fs::hard_link(&kept, root.path().join("link.mp4")).unwrap();
        fs::rename(&kept, root.path().join("moved.mp4")).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let all = ["link.mp4", "moved.mp4", "new.mp4"];
        let mut first = None;
        while !all.iter().all(|name| seen.contains(*name)) {
            let next =
                async { tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await };
            let path = runtime.block_on(next).expect("hints for all").unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            first.get_or_insert_with(|| name.clone());
            seen.insert(name);
        }
        assert_eq!(
            first.as_deref(),
            Some("new.mp4"),
            "reading kept.mp4 came before and is no news"
        );
    }
}
