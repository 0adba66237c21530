//! Which directories of the watched folders are watched, and how.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Included, Unbounded};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a directory is polled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The configuration says so.
    Configured,
    /// Changes by other machines give no events on this file system.
    Network(&'static str),
    /// The system's limit of watches is reached.
    NoWatchLeft,
    /// The system's reason.
    Failed(String),
}

/// How often each way of watching is met below a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Directories with events.
    pub events: usize,
    /// Directories without, by reason.
    pub polled: BTreeMap<Why, usize>,
}

/// The directories by path, and the paths of their inotify watches. A watch belongs to one path: the one under which a
/// scan met its directory last. Whoever changes the map ends the watches that it hands back.
#[derive(Debug, Default)]
pub struct Directories {
    paths: HashMap<i32, Arc<Path>>,
    by_path: BTreeMap<Arc<Path>, Directory>,
    generation: u64,
}

#[derive(Debug)]
struct Directory {
    way: Result<i32, Why>,
    /// The generation in which a scan entered it last.
    entered: u64,
}

impl Directories {
    /// A scan entered `directory`, which has a watch, or is polled for a reason. Returns a watch that is of no use any
    /// more: that of another directory which had this name.
    #[must_use]
    pub fn put(&mut self, directory: &Path, way: Result<i32, Why>) -> Option<i32> {
        let path: Arc<Path> = directory.into();
        if let Ok(watch) = way {
            // The same directory under an earlier name: it was moved, and that name is not its own any more.
            let earlier = self.paths.insert(watch, Arc::clone(&path));
            if let Some(earlier) = earlier.filter(|it| *it != path) {
                self.by_path.remove(&earlier);
            }
        }
        let entered = self.generation;
        let earlier = self.by_path.insert(path, Directory { way: way.clone(), entered })?.way;
        let unused = earlier.ok().filter(|it| way != Ok(*it))?;
        self.paths.remove(&unused);
        Some(unused)
    }

    /// The directory that has `watch`.
    #[must_use]
    pub fn of_watch(&self, watch: i32) -> Option<Arc<Path>> {
        self.paths.get(&watch).map(Arc::clone)
    }

    /// Forgets `directory` and everything below it; returns their watches.
    #[must_use]
    pub fn forget(&mut self, directory: &Path) -> Vec<i32> {
        let paths: Vec<Arc<Path>> =
            self.below(directory).map(|(path, _)| Arc::clone(path)).collect();
        paths.iter().filter_map(|path| self.remove(path)).collect()
    }

    /// Forgets `directory` alone; returns its watch.
    #[must_use]
    pub fn remove(&mut self, directory: &Path) -> Option<i32> {
        let watch = self.by_path.remove(directory)?.way.ok()?;
        self.paths.remove(&watch);
        Some(watch)
    }

    /// A new generation begins; directories entered from now on belong to it.
    pub fn begin_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// The directories below `root`, or it itself, that no scan entered since `generation` began.
    #[must_use]
    pub fn unmet(&self, root: &Path, generation: u64) -> Vec<Arc<Path>> {
        let unmet = |(_, directory): &(&Arc<Path>, &Directory)| directory.entered < generation;
        self.below(root).filter(unmet).map(|(path, _)| Arc::clone(path)).collect()
    }

    /// Forgets `directory` if no scan entered it since `generation` began; returns its watch.
    #[must_use]
    pub fn remove_unmet(&mut self, directory: &Path, generation: u64) -> Option<i32> {
        self.by_path.get(directory).filter(|it| it.entered < generation)?;
        self.remove(directory)
    }

    /// The polled directories below `root`, or it itself, that do not lie in another polled one.
    #[must_use]
    pub fn polled(&self, root: &Path) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for (path, _) in self.below(root).filter(|(_, directory)| directory.way.is_err()) {
            // Directories come before what lies in them.
            if found.last().is_none_or(|last| !path.starts_with(last)) {
                found.push(path.to_path_buf());
            }
        }
        found
    }

    /// How the directories of `root` are watched.
    #[must_use]
    pub fn ways(&self, root: &Path) -> Ways {
        let mut ways = Ways::default();
        for (_, directory) in self.below(root) {
            match &directory.way {
                Ok(_) => ways.events += 1,
                Err(why) => *ways.polled.entry(why.clone()).or_default() += 1,
            }
        }
        ways
    }

    fn below<'a>(
        &'a self,
        root: &'a Path,
    ) -> impl Iterator<Item = (&'a Arc<Path>, &'a Directory)> + 'a {
        self.by_path
            .range::<Path, _>((Included(root), Unbounded))
            .take_while(move |(path, _)| path.starts_with(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_belongs_to_the_last_name_and_a_name_to_the_last_watch() {
        let mut map = Directories::default();
        let [old, new] = [Path::new("/in/old"), Path::new("/in/new")];
        assert_eq!(map.put(old, Ok(1)), None);
        assert_eq!(map.put(new, Ok(1)), None, "moved: its watch is in use");
        assert_eq!(map.of_watch(1).as_deref(), Some(new));
        assert_eq!(map.ways(Path::new("/in")).events, 1);
        assert_eq!(map.put(new, Ok(2)), Some(1), "another directory took the name");
        assert_eq!(map.put(new, Err(Why::Network("NFS"))), Some(2), "a share was mounted over it");
        assert_eq!(map.of_watch(2), None);
        assert_eq!(map.polled(Path::new("/in")), [new]);
    }

    #[test]
    fn names_that_begin_alike_are_not_below_each_other() {
        let mut map = Directories::default();
        for (watch, path) in ["/in", "/in/a", "/in/a/b", "/in/a-b", "/in2"].iter().enumerate() {
            assert_eq!(map.put(Path::new(path), Ok(watch as i32)), None);
        }
        let mut freed = map.forget(Path::new("/in/a"));
        freed.sort_unstable();
        assert_eq!(freed, [1, 2]);
        assert_eq!(map.ways(Path::new("/in")).events, 2);
    }
}
