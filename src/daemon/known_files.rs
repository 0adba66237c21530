//! Remembers which files the journal knows as they are, so that a scan that finds them unchanged asks nobody.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use crate::daemon::snapshot::Snapshot;

/// Files remembered; beyond, the ones not met for the longest are forgotten and asked for again.
const MOST: usize = 1 << 20;

/// A bounded set of files and what they looked like, 16 to 32 bytes each.
///
/// It keeps hashes of 128 bits with keys of this process: that two among a million files agree by chance is less likely
/// than 1e-26, and a restart would tell them apart.
#[derive(Debug, Default)]
pub struct KnownFiles {
    keys: [RandomState; 2],
    recent: HashSet<[u64; 2]>,
    older: HashSet<[u64; 2]>,
}

impl KnownFiles {
    /// The journal knows this file of folder number `folder` as it is.
    pub fn insert(&mut self, folder: usize, relative: &Path, snapshot: &Snapshot) {
        let hash = self.hash(folder, relative, snapshot);
        self.put(hash);
    }

    /// Whether it was found to know it.
    pub fn contains(&mut self, folder: usize, relative: &Path, snapshot: &Snapshot) -> bool {
        let hash = self.hash(folder, relative, snapshot);
        if self.recent.contains(&hash) {
            return true;
        }
        let is_older = self.older.remove(&hash);
        if is_older {
            self.put(hash);
        }
        is_older
    }

    /// What the journal knows has changed.
    pub fn clear(&mut self) {
        self.recent.clear();
        self.older.clear();
    }

    fn put(&mut self, hash: [u64; 2]) {
        if self.recent.len() >= MOST / 2 {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(hash);
    }

    fn hash(&self, folder: usize, relative: &Path, snapshot: &Snapshot) -> [u64; 2] {
        let of = |key: &RandomState| {
            key.hash_one((
                folder,
                relative,
                snapshot.size_bytes,
                snapshot.mtime_ns,
                snapshot.ctime_ns,
                snapshot.inode,
            ))
        };
        [of(&self.keys[0]), of(&self.keys[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(size_bytes: u64) -> Snapshot {
        Snapshot { size_bytes, mtime_ns: 1, ctime_ns: 1, inode: 1 }
    }

    #[test]
    fn only_the_very_same_file_is_known() {
        let mut known = KnownFiles::default();
        known.insert(0, Path::new("a.mp4"), &size(1));
        assert!(known.contains(0, Path::new("a.mp4"), &size(1)));
        assert!(!known.contains(0, Path::new("a.mp4"), &size(2)));
        assert!(!known.contains(0, Path::new("b.mp4"), &size(1)));
        assert!(!known.contains(1, Path::new("a.mp4"), &size(1)));
        let touched = Snapshot { ctime_ns: 2, ..size(1) };
        assert!(!known.contains(0, Path::new("a.mp4"), &touched));
        known.clear();
        assert!(!known.contains(0, Path::new("a.mp4"), &size(1)));
    }

    #[test]
    fn memory_is_bounded_and_what_is_met_again_stays() {
        let mut known = KnownFiles::default();
        for number in 0..MOST as u64 + 10 {
            known.insert(0, Path::new("a.mp4"), &size(number));
            if number % 1000 == 0 {
                assert!(known.contains(0, Path::new("a.mp4"), &size(0)));
            }
        }
        assert!(known.recent.len() + known.older.len() <= MOST);
        assert!(!known.contains(0, Path::new("a.mp4"), &size(1)), "not met for the longest");
    }
}
