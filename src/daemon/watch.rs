//! Reads watched folders: which files lie there, and which directories to enter.
//!
//! A scan is the truth; change events ([`crate::daemon::hints`]) only say where to look again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::file::{Depth, Ready};
use crate::daemon::ignore;
use crate::daemon::snapshot::Snapshot;

/// Files found that travel together.
const PAGE: usize = 200;
/// Folders within folders that are entered.
const DEEPEST: usize = 64;
/// What is said of a folder that is not: the next after [`DEEPEST`].
const TOO_DEEP: &str = "lies more than 64 folders below the watched one: clips in it are not seen";
/// What is said of a link that [`look`] finds to be [`Look::Outside`].
pub const LEADS_OUT: &str = "a link that leads out is not followed: `links_to` names the folders that links to files may lead into";
/// What is said of a folder that became a link: none of those are followed.
const LINKED_FOLDER: &str = "a link to a folder is not followed";

/// What of a file system belongs to a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The watched folder.
    pub root: PathBuf,
    /// Whether the folders below count.
    pub depth: Depth,
    /// Extensions that are taken, in lower case; empty takes every file.
    pub extensions: Vec<String>,
    /// Links may lead to files in these folders, besides the watched one.
    pub links_to: Vec<PathBuf>,
    /// Whether a file counts only beside a sentinel.
    pub ready: Ready,
}

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

/// Whether a folder on the way from `root` to `relative` is a link: whatever lies there lies elsewhere. What cannot be
/// looked at is none; whoever goes on to it finds out.
#[must_use]
pub fn leads_out(root: &Path, relative: &Path) -> bool {
    let is_link = |below: &Path| {
        fs::symlink_metadata(root.join(below)).is_ok_and(|it| it.file_type().is_symlink())
    };
    let above = relative.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
    above.into_iter().any(is_link)
}

/// Looks at `relative` below the area's root. Links to files are followed within the area, links to folders never
/// (loops, and folders that were swapped for a link since they were entered).
///
/// # Errors
/// The system's, other than that nothing is there.
pub fn look(area: &Area, relative: &Path) -> io::Result<Look> {
    match leads_out(&area.root, relative) {
        true => Ok(Look::Outside),
        false => look_here(area, relative),
    }
}

/// The same for what lies in a folder that is known to be no link.
fn look_here(area: &Area, relative: &Path) -> io::Result<Look> {
    let path = area.root.join(relative);
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
    let allowed =
        |folder: &PathBuf| fs::canonicalize(folder).is_ok_and(|it| target.starts_with(it));
    if !target.starts_with(fs::canonicalize(&area.root)?) && !area.links_to.iter().any(allowed) {
        return Ok(Look::Outside);
    }
    match fs::metadata(&target) {
        Ok(meta) if meta.is_file() => Ok(Look::File(Snapshot::of(&meta))),
        _ => Ok(Look::Nothing),
    }
}

/// Whether a file of the area may count: where sentinels say so, one of its own has to lie beside it.
#[must_use]
pub fn has_its_sentinel(area: &Area, relative: &Path) -> bool {
    let is_there = |it: &PathBuf| area.root.join(it).symlink_metadata().is_ok();
    area.ready != Ready::Sentinel
        || (!ignore::is_sentinel(relative) && ignore::sentinels(relative).iter().any(is_there))
}

/// The files below `root` that `sentinel` speaks of: those beside it that have its name.
#[must_use]
pub fn spoken_of(root: &Path, sentinel: &Path) -> Vec<PathBuf> {
    let below = sentinel.parent().unwrap_or(Path::new(""));
    // What cannot be read now is met by the next scan.
    let Ok(entries) = fs::read_dir(root.join(below)) else { return Vec::new() };
    let names = entries.flatten().map(|entry| below.join(entry.file_name()));
    let belongs = |clip: &PathBuf| {
        clip != sentinel && ignore::sentinels(clip).iter().any(|it| it == sentinel)
    };
    names.filter(belongs).collect()
}

/// The same as [`look`], but a file that lacks its sentinel is [`Look::Nothing`].
///
/// # Errors
/// As there.
pub fn look_for_ready(area: &Area, relative: &Path) -> io::Result<Look> {
    match look(area, relative)? {
        Look::File(_) if !has_its_sentinel(area, relative) => Ok(Look::Nothing),
        found => Ok(found),
    }
}

/// What a scan could not look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanProblems {
    /// How many folders or files.
    pub count: u64,
    /// The first of them below the watched folder, and a sentence.
    pub first: Option<(PathBuf, String)>,
}

/// Reads `below` in the area (all of it where `below` is empty) and hands the candidates out in pages, so that the
/// loop goes on between them. `enter` is called with each directory before it is read, and `visit` with each path before
/// the file system is asked for it.
///
/// # Errors
/// Only where `below` itself cannot be read; anything deeper is counted.
pub fn scan(
    area: &Area,
    below: &Path,
    enter: &mut dyn FnMut(&Path),
    visit: &dyn Fn(&Path),
    sink: &mut dyn FnMut(Vec<Found>),
) -> io::Result<ScanProblems> {
    let mut problems = ScanProblems::default();
    let mut page = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        // It may have become a link since it was found.
        if leads_out(&area.root, &folder.join("any")) {
            problems.add(&folder, &LINKED_FOLDER);
            continue;
        }
        // Joined with nothing, the root would end in a slash.
        let directory = match folder.as_os_str().is_empty() {
            true => area.root.clone(),
            false => area.root.join(&folder),
        };
        visit(&directory);
        enter(&directory);
        let entries = match fs::read_dir(&directory) {
            Err(error) if folder == below => return Err(error),
            Err(error) => {
                problems.add_unread(&folder, &error);
                continue;
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    problems.add(&folder, &error);
                    break;
                }
            };
            let name = entry.file_name();
            let is_candidate = ignore::reason(Path::new(&name), &area.extensions).is_none();
            let is_file = entry.file_type().is_ok_and(|it| it.is_file());
            if !is_candidate && (is_file || !ignore::enters(Path::new(&name))) {
                continue;
            }
            let relative = folder.join(name);
            visit(&relative);
            match look_here(area, &relative) {
                Ok(Look::File(snapshot)) if is_candidate => page.push(Found { relative, snapshot }),
                Ok(Look::Folder) if area.depth == Depth::Recursive => {
                    match relative.components().count() <= DEEPEST {
                        true => folders.push(relative),
                        false => problems.add(&relative, &TOO_DEEP),
                    }
                }
                Ok(Look::Outside) if is_candidate => problems.add(&relative, &LEADS_OUT),
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
    /// Counts something that could not be looked at.
    pub fn add(&mut self, relative: &Path, error: &dyn std::fmt::Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| {
            (relative.to_owned(), format!("{}: {error}", relative.display()))
        });
    }

    /// Counts a folder that could not be read. One that went away since it was found is none.
    fn add_unread(&mut self, folder: &Path, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.add(folder, error);
        }
    }

    /// The first of them, and how many more there are.
    #[must_use]
    pub fn said(self) -> Option<(PathBuf, String)> {
        let (at, said) = self.first?;
        match self.count.saturating_sub(1) {
            0 => Some((at, said)),
            more => Some((at, format!("{said}; and {more} more"))),
        }
    }

    /// Adds those of another scan.
    pub fn join(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn area(root: &Path, depth: Depth) -> Area {
        let extensions = vec!["mp4".to_owned()];
        let ready = Ready::Settle;
        Area { root: root.to_owned(), depth, extensions, links_to: Vec::new(), ready }
    }

    fn scan_all(area: &Area, sink: &mut dyn FnMut(Vec<Found>)) -> io::Result<ScanProblems> {
        scan(area, Path::new(""), &mut |_| {}, &|_| {}, sink)
    }

    fn names(area: &Area) -> Vec<String> {
        let mut names = Vec::new();
        scan_all(area, &mut |page| {
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
        assert_eq!(names(&area(root.path(), Depth::Flat)), ["a.mp4"]);
        assert_eq!(
            names(&area(root.path(), Depth::Recursive)),
            ["a.mp4", "sub/d.mp4", "sub/deep/e.mp4"]
        );
    }

    /// W08.
    #[test]
    fn folders_that_are_too_deep_are_said_and_not_entered() {
        let root = tempfile::tempdir().unwrap();
        let deepest: PathBuf = std::iter::repeat_n("d", DEEPEST).collect();
        let (deepest, deeper) = (deepest.join("a.mp4"), deepest.join("e/f/b.mp4"));
        fs::create_dir_all(root.path().join(&deeper).parent().unwrap()).unwrap();
        for clip in [&deepest, &deeper] {
            fs::write(root.path().join(clip), "x").unwrap();
        }
        let area = area(root.path(), Depth::Recursive);
        assert_eq!(names(&area), [deepest.to_str().unwrap()]);
        let problems = scan_all(&area, &mut |_| {}).unwrap();
        let (folder, why) = problems.first.unwrap();
        assert_eq!(
            (problems.count, folder.as_path()),
            (1, deeper.parent().unwrap().parent().unwrap())
        );
        assert!(
            why.ends_with("64 folders below the watched one: clips in it are not seen"),
            "{why}"
        );
        assert!(
            scan_all(&self::area(root.path(), Depth::Flat), &mut |_| {}).unwrap().first.is_none()
        );
    }

    /// W09.
    #[test]
    fn links_are_followed_to_files_inside_and_in_allowed_folders_and_nowhere_else() {
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
        let mut area = area(root.path(), Depth::Recursive);
        assert_eq!(names(&area), ["hard.mp4", "in.mp4", "sub/real.mp4"]);
        let problems = scan_all(&area, &mut |_| {}).unwrap();
        assert_eq!(problems.count, 1);
        assert_eq!(problems.first.unwrap().1, format!("out.mp4: {LEADS_OUT}"));
        let seen = |name| look(&area, Path::new(name)).unwrap();
        assert_eq!(seen("out.mp4"), Look::Outside);
        assert_eq!(seen("dangling.mp4"), Look::Nothing);
        assert_eq!(seen("loop.mp4"), Look::Nothing);
        area.links_to.push(outside.path().to_owned());
        assert_eq!(names(&area), ["hard.mp4", "in.mp4", "out.mp4", "sub/real.mp4"]);
    }

    /// W09. A folder that is swapped for a link after it was entered.
    #[test]
    fn what_lies_below_a_link_to_a_folder_is_outside() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("d/e")).unwrap();
        fs::create_dir(elsewhere.path().join("e")).unwrap();
        for path in [root.path().join("d/e/x.mp4"), elsewhere.path().join("e/x.mp4")] {
            fs::write(path, "x").unwrap();
        }
        let area = area(root.path(), Depth::Recursive);
        let file = Path::new("d/e/x.mp4");
        assert!(matches!(look(&area, file).unwrap(), Look::File(_)));
        assert!(!leads_out(root.path(), file));
        fs::rename(root.path().join("d"), root.path().join("away")).unwrap();
        symlink(elsewhere.path(), root.path().join("d")).unwrap();
        assert_eq!(look(&area, file).unwrap(), Look::Outside);
        assert!(leads_out(root.path(), file));
        // The folder was found before it became a link.
        let mut sink = |page: Vec<Found>| panic!("{page:?}");
        let mut below = |it| scan(&area, Path::new(it), &mut |_| {}, &|_| {}, &mut sink).unwrap();
        assert_eq!(below("d/e").first.unwrap().1, format!("d/e: {LINKED_FOLDER}"));
        // A link that is the file itself is looked at by its target.
        assert!(!leads_out(root.path(), Path::new("d")));
    }

    #[test]
    fn large_folders_come_in_pages() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..=2 * PAGE {
            fs::write(root.path().join(format!("{number}.mp4")), "").unwrap();
        }
        let mut pages = Vec::new();
        scan_all(&area(root.path(), Depth::Flat), &mut |page| pages.push(page.len())).unwrap();
        assert_eq!(pages, [PAGE, PAGE, 1]);
    }

    #[test]
    fn a_folder_that_goes_before_it_is_read_is_no_problem() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        let mut enter = |directory: &Path| {
            if directory != root.path() {
                fs::remove_dir(directory).unwrap();
            }
        };
        let area = area(root.path(), Depth::Recursive);
        let problems = scan(&area, Path::new(""), &mut enter, &|_| {}, &mut |_| {}).unwrap();
        assert_eq!(problems, ScanProblems::default());
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let gone = area(Path::new("/nonexistent/in"), Depth::Flat);
        assert!(scan_all(&gone, &mut |_| {}).is_err());
    }

    #[test]
    fn directories_are_entered_before_they_are_read() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        let mut entered = Vec::new();
        let mut found = Vec::new();
        let mut enter = |directory: &Path| {
            // Whatever comes between the two is found by the reading.
            fs::write(directory.join("new.mp4"), "x").unwrap();
            entered.push(directory.to_owned());
        };
        let area = area(root.path(), Depth::Recursive);
        let mut sink = |page| found.extend(page);
        scan(&area, Path::new(""), &mut enter, &|_| {}, &mut sink).unwrap();
        assert_eq!(entered, [root.path().to_owned(), root.path().join("sub")]);
        assert_eq!(found.len(), 2);
    }
}
