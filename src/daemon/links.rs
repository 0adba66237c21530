//! Where symbolic links lead, seen from another folder.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What a link in `folder` has to say to lead where the relative link `from` leads; `None` where that is no link, or says the
/// same everywhere. It is relative as well, so that a tree that holds both can be mounted elsewhere.
///
/// # Errors
/// The system's, as where the link leads nowhere.
pub fn led_from(from: &Path, folder: &Path) -> io::Result<Option<PathBuf>> {
    let target = match fs::read_link(from) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        other => other?,
    };
    if target.is_absolute() {
        return Ok(None);
    }
    let target = from.parent().unwrap_or(Path::new("/")).join(target);
    // What is in its place later is what it leads to, if that is a link itself; folders on the way are not links to be kept.
    let file = match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => fs::canonicalize(parent)?.join(name),
        _ => fs::canonicalize(&target)?,
    };
    Ok(Some(relative(&file, &fs::canonicalize(folder)?)))
}

/// The way from the folder `from` to `to`; both are absolute, and no folder on either is a link.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let common = to.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_relative_link_is_said_as_another_folder_has_to_say_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("drop/deep")).unwrap();
        fs::create_dir_all(path("to/a/b")).unwrap();
        fs::write(path("drop/real.mp4"), "x").unwrap();
        symlink("deep", path("drop/linked")).unwrap();
        for (link, target, led) in [
            ("drop/deep/a.mp4", "../real.mp4", Some("../../../drop/real.mp4")),
            ("drop/b.mp4", "real.mp4", Some("../../../drop/real.mp4")),
            // A folder on the way is a link, behind which `..` is not what it looks like.
            ("drop/c.mp4", "linked/../real.mp4", Some("../../../drop/real.mp4")),
            ("drop/d.mp4", "/dev/null", None),
        ] {
            symlink(target, path(link)).unwrap();
            let found = led_from(&path(link), &path("to/a/b")).unwrap();
            assert_eq!(found.as_deref(), led.map(Path::new), "{link}");
        }
        assert_eq!(led_from(&path("drop/real.mp4"), &path("to")).unwrap(), None);
        symlink("nowhere/x.mp4", path("drop/e.mp4")).unwrap();
        assert!(led_from(&path("drop/e.mp4"), &path("to")).is_err());
    }
}
