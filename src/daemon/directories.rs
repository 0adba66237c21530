//! Which directories of the watched folders are watched, and how.

use std::collections::BTreeMap;
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

/// The directories by path.
#[derive(Debug, Default)]
pub struct Directories {
    by_path: BTreeMap<Arc<Path>, Directory>,
    /// Those on a network's file system: its name.
    networks: BTreeMap<PathBuf, &'static str>,
    generation: u64,
}

#[derive(Debug)]
struct Directory {
    way: Result<(), Why>,
    /// The watched folder that it belongs to: one may lie in another.
    root: Arc<Path>,
    /// The generation in which a scan entered it last.
    entered: u64,
}

impl Directories {
    /// A scan of the watched folder `root` entered `directory`, which has a watch, or is polled for a reason. Returns
    /// whether it had a watch before.
    pub fn put(&mut self, root: &Path, directory: &Path, way: Result<(), Why>) -> bool {
        let (root, entered) = (root.into(), self.generation);
        let earlier = self.by_path.insert(directory.into(), Directory { way, root, entered });
        earlier.is_some_and(|it| it.way.is_ok())
    }

    /// `directory` is on the file system of a network, or on a local one.
    pub fn is_on(&mut self, directory: &Path, network: Option<&'static str>) {
        match network {
            Some(name) => self.networks.insert(directory.to_owned(), name),
            None => self.networks.remove(directory),
        };
    }

    /// Whether `directory` is on the file system of a network; `None` where it was not entered.
    #[must_use]
    pub fn is_on_network(&self, directory: &Path) -> Option<bool> {
        self.holds(directory).then(|| self.networks.contains_key(directory))
    }

    /// Whether `directory` was entered and has not gone since.
    #[must_use]
    pub fn holds(&self, directory: &Path) -> bool {
        self.by_path.contains_key(directory)
    }

    /// Forgets `directory` and everything below it; returns those that had a watch.
    #[must_use]
    pub fn forget(&mut self, directory: &Path) -> Vec<PathBuf> {
        let paths = self.below(directory).map(|(path, _)| Arc::clone(path)).collect();
        self.remove_all(paths)
    }

    /// Forgets the directories of the watched folder `root`; returns those that had a watch.
    #[must_use]
    pub fn forget_root(&mut self, root: &Path) -> Vec<PathBuf> {
        let paths = self.of(root).map(|(path, _)| Arc::clone(path)).collect();
        self.remove_all(paths)
    }

    fn remove_all(&mut self, paths: Vec<Arc<Path>>) -> Vec<PathBuf> {
        let watched = paths.iter().filter(|path| self.remove(path));
        watched.map(|path| path.to_path_buf()).collect()
    }

    /// Forgets `directory` alone; returns whether it had a watch.
    pub fn remove(&mut self, directory: &Path) -> bool {
        self.networks.remove(directory);
        self.by_path.remove(directory).is_some_and(|it| it.way.is_ok())
    }

    /// A new generation begins; directories entered from now on belong to it.
    pub fn begin_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// The directories of the watched folder `root` that no scan entered since `generation` began.
    #[must_use]
    pub fn unmet(&self, root: &Path, generation: u64) -> Vec<Arc<Path>> {
        let unmet = |(_, directory): &(&Arc<Path>, &Directory)| directory.entered < generation;
        self.of(root).filter(unmet).map(|(path, _)| Arc::clone(path)).collect()
    }

    /// Forgets `directory` if no scan entered it since `generation` began; returns whether a watch is left over.
    pub fn remove_unmet(&mut self, directory: &Path, generation: u64) -> bool {
        let is_unmet = self.by_path.get(directory).is_some_and(|it| it.entered < generation);
        is_unmet && self.remove(directory)
    }

    /// The polled directories of the watched folder `root` that do not lie in another polled one.
    #[must_use]
    pub fn polled(&self, root: &Path) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for (path, _) in self.of(root).filter(|(_, directory)| directory.way.is_err()) {
            // Directories come before what lies in them.
            if found.last().is_none_or(|last| !path.starts_with(last)) {
                found.push(path.to_path_buf());
            }
        }
        found
    }

    /// How the directories of the watched folder `root` are watched.
    #[must_use]
    pub fn ways(&self, root: &Path) -> Ways {
        let mut ways = Ways::default();
        for (_, directory) in self.of(root) {
            match &directory.way {
                Ok(_) => ways.events += 1,
                Err(why) => *ways.polled.entry(why.clone()).or_default() += 1,
            }
        }
        ways
    }

    fn of<'a>(
        &'a self,
        root: &'a Path,
    ) -> impl Iterator<Item = (&'a Arc<Path>, &'a Directory)> + 'a {
        self.below(root).filter(move |(_, directory)| *directory.root == *root)
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

    /// W13, at the seam: a share below a local folder.
    #[test]
    fn a_directory_is_watched_or_polled_by_itself_and_what_lies_beside_it_is_not_touched() {
        let mut map = Directories::default();
        let [old, new] = [Path::new("/in/old"), Path::new("/in/new")];
        assert!(!map.put(Path::new("/in"), old, Ok(())));
        assert!(!map.put(Path::new("/in"), new, Ok(())));
        assert!(
            map.put(Path::new("/in"), new, Err(Why::Network("NFS"))),
            "a share was mounted over it"
        );
        assert_eq!(map.polled(Path::new("/in")), [new]);
        assert_eq!(map.ways(Path::new("/in")).events, 1);
        assert!(!map.put(Path::new("/in"), new, Ok(())), "and taken away again");
        assert_eq!(map.ways(Path::new("/in")).events, 2);
    }

    #[test]
    fn a_directory_is_on_a_network_until_it_is_entered_on_something_else() {
        let mut map = Directories::default();
        let folder = Path::new("/in");
        assert_eq!(map.is_on_network(folder), None);
        map.put(folder, folder, Ok(()));
        assert_eq!(map.is_on_network(folder), Some(false));
        map.is_on(folder, Some("NFS"));
        assert_eq!(map.is_on_network(folder), Some(true));
        map.is_on(folder, None);
        assert_eq!(map.is_on_network(folder), Some(false));
        map.is_on(folder, Some("NFS"));
        map.remove(folder);
        map.put(folder, folder, Ok(()));
        assert_eq!(map.is_on_network(folder), Some(false), "nothing is left of it");
    }

    #[test]
    fn names_that_begin_alike_are_not_below_each_other() {
        let mut map = Directories::default();
        for path in ["/in", "/in/a", "/in/a/b", "/in/a-b", "/in2"] {
            assert!(!map.put(Path::new("/in"), Path::new(path), Ok(())));
        }
        assert_eq!(map.forget(Path::new("/in/a")), [Path::new("/in/a"), Path::new("/in/a/b")]);
        assert_eq!(map.ways(Path::new("/in")).events, 2);
        assert!(map.holds(Path::new("/in/a-b")) && !map.holds(Path::new("/in/a/b")));
    }

    #[test]
    fn a_watched_folder_within_another_is_its_own() {
        let mut map = Directories::default();
        let [outer, inner] = [Path::new("/in"), Path::new("/in/nas")];
        map.put(outer, outer, Ok(()));
        map.put(inner, inner, Err(Why::Configured));
        assert_eq!(map.polled(outer), Vec::<PathBuf>::new());
        assert_eq!(map.polled(inner), [inner]);
        assert_eq!((map.ways(outer).events, map.ways(outer).polled.len()), (1, 0));
        let generation = map.begin_generation();
        assert_eq!(map.unmet(outer, generation).len(), 1);
        assert_eq!(map.forget_root(outer), [outer]);
        assert!(map.holds(inner));
    }
}
