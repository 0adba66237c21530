//! Which folders may not lie in each other: no folder is watched twice, and nothing that slomod writes lies where it would be
//! taken for a clip.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::file::{Config, Depth, OnSuccess, Watch};

/// Where the folders of a watch lie.
#[derive(Clone, Debug)]
pub struct Places {
    path: PathBuf,
    depth: Depth,
    output: PathBuf,
    originals: Option<PathBuf>,
}

/// The key whose folder lies where it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Path,
    Output,
    Originals,
}

impl Places {
    /// As they are configured.
    #[must_use]
    pub fn of(watch: &Watch) -> Self {
        let originals = match &watch.on_success {
            OnSuccess::Move(folder) => Some(folder.clone()),
            OnSuccess::Keep | OnSuccess::Trash => None,
        };
        let (path, output) = (watch.path.clone(), watch.output.clone());
        Self { path, depth: watch.depth, output, originals }
    }

    /// Where they lie when links are followed, as far as there are folders. May wait for their file systems.
    #[must_use]
    pub fn resolved(self) -> Self {
        Self {
            path: resolved(&self.path),
            output: resolved(&self.output),
            originals: self.originals.as_deref().map(resolved),
            depth: self.depth,
        }
    }

    /// Whether what slomod moves to `folder` would be taken for a clip of these.
    #[must_use]
    pub fn feeds(&self, folder: &Path) -> bool {
        // Also of a flat watch, which would see it as soon as somebody sets `recursive`.
        folder.starts_with(&self.path)
    }
}

/// A path when links are followed, as far as it is there.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let real =
        |above: &Path| Some(fs::canonicalize(above).ok()?.join(path.strip_prefix(above).ok()?));
    path.ancestors().find_map(real).unwrap_or_else(|| path.to_owned())
}

/// What of the watches, followed through links, lies where it must not: a sentence each. May wait for file systems.
#[must_use]
pub fn overlaps(config: &Config) -> Vec<String> {
    let places: Vec<_> = config.watches.iter().map(|it| Places::of(it).resolved()).collect();
    let found = (0..places.len()).filter_map(|index| overlap(&places, index));
    found.map(|(_, message)| message).collect()
}

/// What of a watch lies where it must not, and a sentence.
pub(super) fn overlap(all: &[Places], index: usize) -> Option<(Key, String)> {
    let this = &all[index];
    for (other_index, other) in all.iter().enumerate() {
        if other_index < index && other.path == this.path {
            return Some((Key::Path, format!("{} is watched twice", this.path.display())));
        }
        let nested = other_index != index
            && other.depth == Depth::Recursive
            && this.path.starts_with(&other.path);
        if nested {
            let message = format!(
                "{} lies in {}, which is watched with the folders below it",
                this.path.display(),
                other.path.display()
            );
            return Some((Key::Path, message));
        }
        let message = |key: &str| {
            format!("`{key}` lies in the watched folder {}: choose another", other.path.display())
        };
        if other.feeds(&this.output) {
            return Some((Key::Output, message("output")));
        }
        if this.originals.as_ref().is_some_and(|it| other.feeds(it)) {
            return Some((Key::Originals, message("originals")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn places(root: &Path, [path, output, originals]: [&str; 3], depth: Depth) -> Places {
        let originals = (!originals.is_empty()).then(|| root.join(originals));
        Places { path: root.join(path), depth, output: root.join(output), originals }
    }

    #[test]
    fn links_are_followed_as_far_as_there_are_folders() {
        let root = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(root.path()).unwrap();
        fs::create_dir_all(real.join("a/b")).unwrap();
        symlink(real.join("a"), real.join("link")).unwrap();
        assert_eq!(resolved(&real.join("link/b")), real.join("a/b"));
        assert_eq!(resolved(&real.join("link/c/d")), real.join("a/c/d"));
        assert_eq!(resolved(&real.join("none/d")), real.join("none/d"));
    }

    #[test]
    fn what_lies_in_a_watched_folder_by_a_link_is_found() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for folder in ["in", "in2", "out"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        symlink(root.join("in"), root.join("link")).unwrap();
        let first = places(root, ["in", "out", ""], Depth::Flat);
        let found = |second: [&str; 3], depth| {
            let both = [first.clone(), places(root, second, depth)];
            assert!((0..2).all(|it| overlap(&both, it).is_none()), "by its spelling it is fine");
            let both = both.map(Places::resolved);
            (0..2).find_map(|it| overlap(&both, it)).map(|it| it.0)
        };
        assert_eq!(found(["in2", "out", "originals"], Depth::Recursive), None);
        assert_eq!(found(["link", "out", ""], Depth::Flat), Some(Key::Path));
        assert_eq!(found(["in2", "link/sub", ""], Depth::Flat), Some(Key::Output));
        assert_eq!(found(["in2", "out", "link/sub/deeper"], Depth::Flat), Some(Key::Originals));
    }
}
