//! Which names are no clips: hidden files, unfinished transfers, and what NAS systems leave about.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Endings that programs give to files they have not finished, in lower case.
const PARTIAL_ENDINGS: [&str; 12] = [
    ".part",
    ".partial",
    ".crdownload",
    ".tmp",
    ".temp",
    ".filepart",
    ".!sync",
    ".!qb",
    ".aria2",
    ".download",
    ".opdownload",
    ".unfinished",
];

/// Folders and files that NAS and sync systems make, in lower case.
const SYSTEM_NAMES: [&str; 7] = [
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "lost+found",
    "$recycle.bin",
    "system volume information",
];

/// Beginnings of names that mark temporary files, in lower case.
const TEMPORARY_BEGINNINGS: [&str; 3] = ["~", "._", ".nfs"];

/// Why a path below a watched folder is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A part of the path begins with a dot: hidden, or some program's temporary name (rsync, Syncthing, slomod).
    Hidden,
    /// The name marks an unfinished transfer or an editor's copy.
    Partial,
    /// A NAS or sync system's own folder.
    System,
    /// The extension is not among those taken.
    Extension,
}

/// Why `relative` (a path below the watched folder) is no candidate; `None` where it is one. `extensions` are in lower
/// case without dot; an empty list takes every extension.
#[must_use]
pub fn reason(relative: &Path, extensions: &[String]) -> Option<Reason> {
    let parts: Vec<String> = relative
        .iter()
        .map(|part| String::from_utf8_lossy(part.as_bytes()).to_lowercase())
        .collect();
    if parts.iter().any(|part| part.starts_with('.')) {
        return Some(Reason::Hidden);
    }
    if parts.iter().any(|part| SYSTEM_NAMES.contains(&part.as_str())) {
        return Some(Reason::System);
    }
    let name = parts.last().map_or("", String::as_str);
    let partial = PARTIAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || TEMPORARY_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || name.ends_with('~')
        || name.contains(".octransferid");
    if partial {
        return Some(Reason::Partial);
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let taken = extensions.is_empty() || extensions.iter().any(|it| it == extension);
    (!taken).then_some(Reason::Extension)
}

/// Whether a folder below the watched one is entered.
#[must_use]
pub fn enters(relative: &Path) -> bool {
    reason(relative, &[]).is_none()
}

/// Ending of the empty file that says, in a folder with `ready = "sentinel"`, that the clip beside it is complete.
const SENTINEL_ENDING: &str = ".done";

/// Whether `name` is that of a sentinel.
#[must_use]
pub fn is_sentinel(name: &Path) -> bool {
    name.as_os_str().as_bytes().ends_with(SENTINEL_ENDING.as_bytes()) && enters(name)
}

/// The names of which either says that the clip `relative` is complete: `clip.mp4.done` and `clip.done` beside it.
#[must_use]
pub fn sentinels(relative: &Path) -> [PathBuf; 2] {
    let with_ending = |name: &OsStr| {
        let mut name = name.to_owned();
        name.push(SENTINEL_ENDING);
        relative.with_file_name(name)
    };
    let whole = relative.file_name().unwrap_or_default();
    [with_ending(whole), with_ending(relative.file_stem().unwrap_or_default())]
}

/// Whether news of a file called `name` is worth a look: it may be a clip or a sentinel.
#[must_use]
pub fn gives_hints(name: &Path, extensions: &[String]) -> bool {
    reason(name, extensions).is_none() || is_sentinel(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(path: &str) -> Option<Reason> {
        reason(Path::new(path), &["mp4".into(), "mov".into()])
    }

    #[test]
    fn clips_are_taken_whatever_the_case_or_script_of_their_names() {
        for taken in
            ["a.mp4", "A.MP4", "sub/b.MoV", "한글 이름.mp4", "-rf.mp4", "a b'$(x).mp4", "a.tmp.mp4"]
        {
            assert_eq!(reason_of(taken), None, "{taken}");
        }
        assert_eq!(reason(Path::new("notes"), &[]), None, "an empty list takes every file");
    }

    /// W10.
    #[test]
    fn temporary_names_of_known_programs_are_left_alone() {
        for (name, why) in [
            (".hidden.mp4", Reason::Hidden),
            (".x.mp4.AbC123", Reason::Hidden),
            (".syncthing.x.mp4.tmp", Reason::Hidden),
            (".clip.7.1.slomod-tmp.mp4", Reason::Hidden),
            (".stversions/x.mp4", Reason::Hidden),
            ("x.mp4.part", Reason::Partial),
            ("x.MP4.PART", Reason::Partial),
            ("x.mp4.crdownload", Reason::Partial),
            ("x.mp4.filepart", Reason::Partial),
            ("x.mp4.!sync", Reason::Partial),
            ("x.mp4.aria2", Reason::Partial),
            ("~syncthing~x.mp4", Reason::Partial),
            ("~x.mp4", Reason::Partial),
            ("x.mp4~", Reason::Partial),
            ("x.mp4.ocTransferId1234.part", Reason::Partial),
            ("@eaDir/x.mp4", Reason::System),
            ("sub/#recycle/x.mp4", Reason::System),
            ("lost+found/x.mp4", Reason::System),
            ("x.txt", Reason::Extension),
            ("mp4", Reason::Extension),
        ] {
            assert_eq!(reason_of(name), Some(why), "{name}");
        }
    }

    #[test]
    fn a_sentinel_belongs_to_the_clip_beside_it() {
        let expected = ["a/clip.mp4.done", "a/clip.done"].map(PathBuf::from);
        assert_eq!(sentinels(Path::new("a/clip.mp4")), expected);
        assert!(is_sentinel(Path::new("clip.done")) && !is_sentinel(Path::new(".clip.done")));
        assert!(gives_hints(Path::new("clip.mp4.done"), &["mp4".into()]));
        assert!(!gives_hints(Path::new("clip.txt"), &["mp4".into()]));
    }

    #[test]
    fn folders_are_entered_unless_hidden_or_a_systems_own() {
        assert!(enters(Path::new("2026/trip")));
        assert!(!enters(Path::new(".Trash-1000")));
        assert!(!enters(Path::new("a/@eaDir")));
    }
}
