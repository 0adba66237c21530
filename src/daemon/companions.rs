//! What leaves with an original, so that it says nothing of the next file of its name: the sentinels that spoke of it, and the
//! list of cuts that it was worked with.

use std::path::{Path, PathBuf};

use crate::config::file::{Ready, Watch};
use crate::daemon::ignore;
use crate::daemon::journal::Claim;
use crate::daemon::known::list_sha256;
use crate::daemon::moving;
use crate::daemon::publish::{PublishError, io_error};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::spoken_of;

/// The sentinels that speak of the clip `relative` and of no other that is there: of `clip.done`, all clips of that stem.
fn own_sentinels(watch: &Watch, relative: &Path, extensions: &[String]) -> Vec<PathBuf> {
    if watch.ready != Ready::Sentinel {
        return Vec::new();
    }
    let is_other = |it: &PathBuf| it != relative && ignore::reason(it, extensions).is_none();
    let is_own = |it: &PathBuf| !spoken_of(&watch.path, it).iter().any(is_other);
    ignore::sentinels(relative).into_iter().filter(is_own).collect()
}

/// Takes the sentinels of a clip away that is about to leave, so that they say nothing of the next file of its name. Empty
/// ones are removed, and others are moved to `folder` like the clip.
pub(super) fn take_sentinels(
    watch: &Watch,
    claim: &Claim,
    (folder, extensions): (&Path, &[String]),
    tag: &str,
) -> Result<(), PublishError> {
    for sentinel in own_sentinels(watch, &claim.relative, extensions) {
        let path = watch.path.join(sentinel);
        moving::restore(&path, (tag, claim.job))?;
        let Ok(before) = std::fs::symlink_metadata(&path) else { continue };
        if before.is_file() && before.len() > 0 {
            let before = Snapshot::of(&before);
            let is_meant =
                |path: &Path| Snapshot::take(path).is_ok_and(|it| it.same_content(&before));
            moving::move_to_free(&path, folder, (tag, claim.job), &is_meant)?;
        } else if !before.is_dir() {
            std::fs::remove_file(&path).map_err(io_error(&path, "cannot be removed"))?;
        }
    }
    Ok(())
}

/// What became of the list of cuts beside a clip that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// There is none of its own.
    None,
    /// It is another than the one that the clip was worked with: the next clip's, perhaps.
    Kept(PathBuf),
    /// It lies here now.
    Moved(PathBuf),
}

/// Takes the list of cuts of a clip away that has left: to what the list of `to` would be called, under a numbered name where
/// that is taken. A list that is given by its path is that of all clips.
pub(super) fn take_list(
    watch: &Watch,
    claim: &Claim,
    (to, extensions): (&Path, &[String]),
    tag: &str,
) -> Result<List, PublishError> {
    let settings = watch.settings();
    let content = &settings.content;
    let own = |clip: &Path| content.cut_list_of(clip).filter(|_| content.list_may_be_missing());
    let (Some(list), Some(wanted)) = (own(&claim.relative), own(to)) else { return Ok(List::None) };
    let source = watch.path.join(&claim.relative);
    let path = watch.path.join(&list);
    moving::restore(&path, (tag, claim.job))?;
    // What is a clip by its name is moved as such. Of a name that leaves no room for the ending there is no list.
    let Ok(before) = Snapshot::take(&path) else { return Ok(List::None) };
    if ignore::reason(&list, extensions).is_none() {
        return Ok(List::None);
    }
    if list_sha256(&settings, &source) != claim.list_sha256 {
        return Ok(List::Kept(path));
    }
    let is_meant = |path: &Path| Snapshot::take(path).is_ok_and(|it| it.same_content(&before));
    moving::move_as(&path, &wanted, (tag, claim.job), &is_meant).map(List::Moved)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::file::parse;

    /// W17. `clip.done` stays as long as another clip of that stem is there.
    #[test]
    fn only_sentinels_of_no_other_clip_leave_with_a_clip() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let text = format!(
            "[[watch]]\npath = \"{root}\"\noutput = \"/out\"\nfactor = 2\nready = \"sentinel\"\n"
        );
        let mut watch = parse(Path::new("a.toml"), &text).unwrap().watches.remove(0);
        let extensions = ["mp4".to_owned(), "mov".to_owned()];
        for name in ["a.mp4", "a.srt", "a.mp4.done", "a.done", "b.mp4", "b.mov", "b.done"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let own = |watch: &Watch, clip| {
            let own = own_sentinels(watch, Path::new(clip), &extensions).into_iter();
            own.map(|it| it.into_os_string().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(own(&watch, "a.mp4"), ["a.mp4.done", "a.done"]);
        assert_eq!(own(&watch, "b.mp4"), ["b.mp4.done"]);
        fs::remove_file(folder.path().join("b.mov")).unwrap();
        assert_eq!(own(&watch, "b.mp4"), ["b.mp4.done", "b.done"]);
        watch.ready = Ready::Settle;
        assert!(own(&watch, "a.mp4").is_empty(), "they mean nothing there");
    }
}
