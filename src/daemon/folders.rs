//! Which of the watched folders are there, how they are watched, and which are left alone for a while.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::Level;

use crate::config::file::{Config, Ready};
use crate::daemon::directories::{Ways, Why};
use crate::daemon::events::Kind;
use crate::daemon::filesystem::RootIdentity;
use crate::daemon::folder::{Extent, Folder, Pause, changes};
use crate::daemon::hints::Watches;
use crate::daemon::output_lock::OutputLocks;
use crate::daemon::service::log_watch;
use crate::daemon::settle::Times;
use crate::daemon::verdict;
use crate::daemon::weights::Weights;

/// Directories that wait to be read because something happened to them; more, and the whole folder is read.
const MOST_PARTS: usize = 10_000;

/// All watched folders, in the order of the configuration.
#[derive(Debug)]
pub struct Folders {
    /// The folders.
    pub list: Vec<Folder>,
    poll_interval: Duration,
    scan_interval: Duration,
    settle: Duration,
    network_settle: Duration,
    unsized_settle: Duration,
    grace: Duration,
}

impl Folders {
    /// All folders of `config`, none looked at yet.
    #[must_use]
    pub fn new(config: &Config, now: Instant) -> Self {
        Self {
            list: config.watches.iter().map(|watch| Folder::new(watch, config, 0, now)).collect(),
            poll_interval: config.daemon.poll_interval,
            scan_interval: config.daemon.scan_interval,
            settle: config.daemon.settle,
            network_settle: config.daemon.network_settle,
            unsized_settle: config.daemon.unsized_settle,
            grace: config.daemon.grace,
        }
    }

    /// The folders are those of `config` from now on. Those that are configured as before are not touched, and every folder
    /// keeps its number.
    pub fn reload(&mut self, config: &Config, watches: &Watches, now: Instant) -> Changes {
        let mut changes = Changes::default();
        for (index, folder) in self.list.iter_mut().enumerate() {
            let watch = config.watches.iter().find(|it| it.path == folder.watch.path);
            let Some(watch) = watch else {
                if !folder.retired {
                    watches.forget_root(&folder.watch.path);
                    log_watch(
                        Level::Info,
                        Kind::FolderNote,
                        &folder.watch.path.to_string_lossy(),
                        "not watched any more",
                    );
                    folder.retired = true;
                    folder.generation += 1;
                    folder.lose_silently();
                    changes.removed.push(index);
                }
                continue;
            };
            let fresh = Folder::new(watch, config, folder.generation + 1, now);
            if folder.retired {
                *folder = fresh;
                changes.added.push(index);
            } else if folder.watch != fresh.watch || folder.area != fresh.area {
                watches.forget_root(&folder.watch.path);
                *folder = fresh;
                changes.changed.push(index);
            }
            folder.next_look = now;
        }
        for watch in &config.watches {
            if !self.list.iter().any(|it| it.watch.path == watch.path) {
                changes.added.push(self.list.len());
                self.list.push(Folder::new(watch, config, 0, now));
            }
        }
        let list = std::mem::take(&mut self.list);
        *self = Self { list, ..Self::new(config, now) };
        changes
    }

    /// The folders that are configured.
    pub fn watched(&self) -> impl Iterator<Item = &Folder> {
        self.list.iter().filter(|it| !it.retired)
    }

    /// The folders that are to be looked for; they count as being looked for from here on, until [`Self::looked`].
    pub fn take_looks(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, folder) in self.list.iter_mut().enumerate() {
            if folder.retired || folder.looking || now < folder.next_look {
                continue;
            }
            folder.next_look = now + self.poll_interval;
            folder.looking = true;
            due.push(index);
        }
        due
    }

    /// A folder was looked for. Returns whether it came (or came back, or has something else mounted): then it is to be
    /// scanned, which watches it.
    pub fn looked(
        &mut self,
        index: usize,
        found: io::Result<RootIdentity>,
        watches: &Watches,
        now: Instant,
    ) -> bool {
        let folder = &mut self.list[index];
        folder.looking = false;
        match found {
            Ok(root) if folder.root.as_ref() == Some(&root) => false,
            Ok(root) => {
                watches.forget_root(&folder.watch.path);
                folder.root = Some(root);
                folder.offline = None;
                folder.pause = None;
                folder.ways = Ways::default();
                folder.next_scan = now;
                true
            }
            Err(error) => {
                folder.lose(&error.to_string());
                false
            }
        }
    }

    /// Whether there is a folder that was never looked for to the end.
    #[must_use]
    pub fn are_looked_for(&self) -> bool {
        self.watched().any(|it| it.looking && it.root.is_none() && it.offline.is_none())
    }

    /// Something happened to the path `relative` in a folder: it is to be looked at.
    pub fn hinted(&mut self, index: usize, relative: PathBuf, moved_in: bool, now: Instant) {
        let folder = &mut self.list[index];
        *folder.hinted.entry(relative).or_default() |= moved_in;
        if folder.hinted.len() > MOST_PARTS {
            folder.hinted.clear();
            folder.next_scan = now;
        }
    }

    /// The paths that are to be looked at, by folder; they count as being looked at from here on, until
    /// [`Self::hints_looked_at`].
    pub fn take_hinted(&mut self) -> Vec<(usize, Vec<(PathBuf, bool)>)> {
        let mut taken = Vec::new();
        for (index, folder) in self.list.iter_mut().enumerate() {
            let is_free = !folder.looking_at_hints && folder.hung.is_none();
            if is_free && !folder.hinted.is_empty() {
                folder.looking_at_hints = true;
                taken.push((index, std::mem::take(&mut folder.hinted).into_iter().collect()));
            }
        }
        taken
    }

    /// Those of a folder were looked at.
    pub fn hints_looked_at(&mut self, index: usize) {
        self.list[index].looking_at_hints = false;
    }

    /// Whether a folder or its output does not answer.
    #[must_use]
    pub fn hangs(&self, locks: &OutputLocks, index: usize) -> bool {
        let folder = &self.list[index];
        folder.hung.is_some() || locks.is_hung(&folder.watch.output)
    }

    /// Something happened to the folder itself: it is looked at and read at once.
    pub fn look_soon(&mut self, index: usize, now: Instant) {
        let folder = &mut self.list[index];
        folder.next_look = now;
        folder.next_scan = now;
    }

    /// Something happened to the directory `below` in a folder: it is to be read.
    pub fn read_soon(&mut self, index: usize, below: PathBuf, now: Instant) {
        let folder = &mut self.list[index];
        folder.parts.insert(below);
        if folder.parts.len() > MOST_PARTS {
            folder.parts.clear();
            folder.next_scan = now;
        }
    }

    /// The scans that are due; they count as under way from here on.
    pub fn take_scans(&mut self, watches: &Watches, now: Instant) -> Vec<(usize, Extent)> {
        let mut due = Vec::new();
        let is_there = |it: &Folder| it.root.is_some() && it.hung.is_none();
        for (index, folder) in self.list.iter_mut().enumerate().filter(|it| is_there(it.1)) {
            if !folder.scanning && now >= folder.next_scan {
                folder.next_scan = now + self.scan_interval;
                folder.next_poll = now + self.poll_interval;
                folder.scanning = true;
                due.push((index, Extent::Whole));
            } else if !folder.scanning && now >= folder.next_poll {
                folder.next_poll = now + self.poll_interval;
                let polled = watches.polled(&folder.watch.path);
                let below = |it: PathBuf| {
                    it.strip_prefix(&folder.watch.path).map_or_else(|_| it.clone(), Path::to_owned)
                };
                let polled: Vec<PathBuf> = polled.into_iter().map(below).collect();
                if let Some(first) = polled.first() {
                    folder.scanning = true;
                    // Of the whole folder, nothing that is not there any more stays listed.
                    let is_whole = first.as_os_str().is_empty();
                    let extent = if is_whole { Extent::Whole } else { Extent::Polled(polled) };
                    due.push((index, extent));
                }
            }
            if !folder.scanning_parts && !folder.parts.is_empty() {
                folder.scanning_parts = true;
                let mut parts: Vec<PathBuf> = Vec::new();
                for part in std::mem::take(&mut folder.parts) {
                    // Directories come before what lies in them.
                    if parts.last().is_none_or(|last| !part.starts_with(last)) {
                        parts.push(part);
                    }
                }
                due.push((index, Extent::Parts(parts)));
            }
        }
        due
    }

    /// A scan is over, and watched what it read. `problem` is what it could not read, and a sentence.
    pub fn scanned(
        &mut self,
        index: usize,
        extent: &Extent,
        watches: &Watches,
        problem: Option<(PathBuf, String)>,
    ) {
        let folder = &mut self.list[index];
        match extent {
            Extent::Whole | Extent::Polled(_) => folder.scanning = false,
            Extent::Parts(_) => folder.scanning_parts = false,
        }
        if folder.root.is_none() {
            return;
        }
        let name = folder.watch.path.to_string_lossy().into_owned();
        if problem.is_some() || *extent == Extent::Whole {
            if let Some((_, said)) = problem.as_ref().filter(|_| problem != folder.problem) {
                log_watch(
                    Level::Warn,
                    Kind::FolderNote,
                    &name,
                    &format!("some of it cannot be read: {said}"),
                );
            }
            folder.problem = problem;
        } else if let (Some((at, _)), Extent::Parts(read) | Extent::Polled(read)) =
            (&folder.problem, extent)
            && read.iter().any(|it| at.starts_with(it))
        {
            // That can be read now; whether all else can, the scan of the whole folder tells.
            folder.next_scan = Instant::now();
        }
        let ways = watches.ways(&folder.watch.path);
        let poll_interval = humantime::format_duration(self.poll_interval).to_string();
        for (level, message) in changes(&folder.ways, &ways, &poll_interval) {
            log_watch(level, Kind::FolderNote, &name, &message);
        }
        folder.ways = ways;
    }

    /// A scan could not be made: the folder counts as not there, and is looked for and scanned again.
    pub fn broke_off(&mut self, index: usize, extent: &Extent, watches: &Watches, why: &io::Error) {
        self.list[index].lose(&why.to_string());
        self.scanned(index, extent, watches, None);
    }

    /// Something was missed: every folder is scanned at once.
    pub fn scan_all(&mut self, now: Instant) {
        for folder in &mut self.list {
            folder.next_scan = now;
        }
    }

    /// Every folder is looked for and read at once.
    pub fn look_all_soon(&mut self, now: Instant) {
        for folder in &mut self.list {
            folder.next_look = now;
            folder.next_scan = now;
        }
    }

    /// Settle and grace times of the file `relative` in a folder, by the file system of its directory as it was when a scan
    /// entered it; before, by that of the folder.
    #[must_use]
    pub fn times(&self, watches: &Watches, index: usize, relative: &Path) -> Times {
        let Folder { watch, root, .. } = &self.list[index];
        let default = || {
            let directory = match relative.parent() {
                None => watch.path.clone(),
                Some(below) if below.as_os_str().is_empty() => watch.path.clone(),
                Some(below) => watch.path.join(below),
            };
            let of_root = || root.as_ref().is_some_and(|it| it.network.is_some());
            match watches.is_on_network(&directory).unwrap_or_else(of_root) {
                true => self.network_settle,
                false => self.settle,
            }
        };
        let settle = watch.settle.unwrap_or_else(default);
        let unsaid = match watch.ready {
            // Somebody said that it is complete.
            Ready::Sentinel => settle,
            Ready::Settle | Ready::Rename => settle.max(self.unsized_settle),
        };
        Times { settle, unsaid, grace: self.grace }
    }

    /// The folder that `path` lies in, or is, by its number: the innermost where one lies in another.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<usize> {
        let lies_in = |(_, folder): &(usize, &Folder)| {
            !folder.retired && path.starts_with(&folder.watch.path)
        };
        let depth = |(_, folder): &(usize, &Folder)| folder.watch.path.components().count();
        self.list.iter().enumerate().filter(lies_in).max_by_key(depth).map(|(index, _)| index)
    }

    /// What a folder is now, for comparison after a restart; `None` where it is not there.
    #[must_use]
    pub fn lasting_identity(&self, index: usize) -> Option<&str> {
        self.list[index].root.as_ref().map(|root| root.lasting.as_str())
    }

    /// The folder that is configured as `path`.
    #[must_use]
    pub fn named(&self, path: &str) -> Option<usize> {
        self.list.iter().position(|folder| folder.watch.path == Path::new(path))
    }

    /// Paths of the folders whose jobs can be worked now.
    #[must_use]
    pub fn workable(&self, now: Instant) -> Vec<String> {
        let paused = |folder: &Folder| folder.pause.as_ref().is_some_and(|it| now < it.until);
        self.list
            .iter()
            .filter(|folder| folder.root.is_some() && folder.hung.is_none() && !paused(folder))
            .filter(|folder| folder.weights == Weights::Read)
            .map(|folder| folder.watch.path.to_string_lossy().into_owned())
            .collect()
    }

    /// Leaves the jobs of a folder alone, each time longer, until one works. Returns for how many milliseconds.
    pub fn pause(&mut self, index: usize, reason: String, now: Instant) -> i64 {
        let folder = &mut self.list[index];
        let count = folder.pause.as_ref().map_or(0, |pause| pause.count + 1);
        let length_ms = verdict::folder_pause_ms(count);
        let length = Duration::from_millis(length_ms.unsigned_abs());
        let name = folder.watch.path.to_string_lossy();
        let length_text = humantime::format_duration(length);
        log_watch(
            Level::Warn,
            Kind::FolderPaused,
            &name,
            &format!("paused for {length_text}: {reason}"),
        );
        folder.pause = Some(Pause { until: now + length, reason, count });
        length_ms
    }

    /// A job of the folder got through.
    pub fn works(&mut self, index: usize) {
        self.list[index].pause = None;
    }

    /// Folders with polled directories, folders that are not there, and folders that do not answer.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        let count = |is: fn(&Folder) -> bool| self.watched().filter(|it| is(it)).count();
        let polling =
            |it: &Folder| it.root.is_some() && it.hung.is_none() && !it.ways.polled.is_empty();
        // Not before its first look.
        let offline = |it: &Folder| it.root.is_none() && it.offline.is_some() && it.hung.is_none();
        [count(polling), count(offline), count(|it| it.hung.is_some())]
    }

    /// What does not work as it should, a sentence each.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for folder in self.watched() {
            let name = folder.watch.path.display();
            if let Some(since) = &folder.hung {
                sentences.push(format!("{name} {since}"));
            } else if let Some(why) = &folder.offline {
                sentences.push(format!("{name} is offline: {why}"));
            } else if let Some(pause) = &folder.pause {
                sentences.push(format!("{name} paused: {}", pause.reason));
            } else if folder.weights != Weights::Read {
                sentences.push(format!("{name} paused: {}", folder.unread_weights()));
            }
            if let Some(count) = folder.ways.polled.get(&Why::NoWatchLeft) {
                sentences.push(format!("{name}: no inotify watches left for {count} directories"));
            }
        }
        sentences
    }
}

/// Numbers of folders that a reload touched.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New, or configured again.
    pub added: Vec<usize>,
    /// Configured otherwise.
    pub changed: Vec<usize>,
    /// Not configured any more.
    pub removed: Vec<usize>,
}

#[cfg(test)]
mod tests;
