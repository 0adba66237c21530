//! Which of the watched folders are there, how they are watched, and which are left alone for a while.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::Level;

use crate::config::file::{Config, Watch};
use crate::daemon::directories::{Ways, Why};
use crate::daemon::events::Kind;
use crate::daemon::filesystem::{self, RootIdentity};
use crate::daemon::hints::Watches;
use crate::daemon::service::log_watch;
use crate::daemon::settle::Times;
use crate::daemon::verdict;
use crate::daemon::watch::Area;

/// Directories that wait to be read because something happened to them; more, and the whole folder is read.
const MOST_PARTS: usize = 10_000;

/// One watched folder.
#[derive(Debug)]
pub struct Folder {
    /// As configured.
    pub watch: Watch,
    /// What belongs to it.
    pub area: Area,
    /// What is mounted there; `None` where nothing is.
    root: Option<RootIdentity>,
    /// How its directories are watched, as far as they were read.
    ways: Ways,
    /// Why it is not there.
    offline: Option<String>,
    /// What could not be read of it, as it was logged.
    problem: Option<String>,
    pause: Option<Pause>,
    next_look: Instant,
    next_scan: Instant,
    next_poll: Instant,
    /// Directories that something happened to.
    parts: BTreeSet<PathBuf>,
    /// Whether a scan of the whole folder, or of what is polled in it, is under way.
    scanning: bool,
    /// Whether a scan of parts is.
    scanning_parts: bool,
    /// Changes when the configuration of the folder does: what an earlier scan found means nothing then.
    pub generation: u64,
    /// It is not configured any more. Its number stays its own, for what is still under way.
    pub retired: bool,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    reason: String,
    count: i64,
}

/// What a scan reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole folder.
    Whole,
    /// The directories that are polled, below the folder.
    Polled(Vec<PathBuf>),
    /// Directories that something happened to.
    Parts(Vec<PathBuf>),
}

/// All watched folders, in the order of the configuration.
#[derive(Debug)]
pub struct Folders {
    /// The folders.
    pub list: Vec<Folder>,
    poll_interval: Duration,
    scan_interval: Duration,
    settle: Duration,
    network_settle: Duration,
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
            grace: config.daemon.grace,
        }
    }

    /// The folders are those of `config` from now on. Those that are configured as before are not touched, and every folder
    /// keeps its number.
    pub fn reload(&mut self, config: &Config, watches: &Watches, now: Instant) -> Changes {
        let Self { poll_interval, scan_interval, settle, network_settle, grace, .. } =
            Self::new(config, now);
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
        *self = Self { list, poll_interval, scan_interval, settle, network_settle, grace };
        changes
    }

    /// The folders that are configured.
    pub fn watched(&self) -> impl Iterator<Item = &Folder> {
        self.list.iter().filter(|it| !it.retired)
    }

    /// Looks which folders are there. Those that came (or came back, or have something else mounted) are to be scanned,
    /// which watches them; their numbers are returned.
    pub fn look(&mut self, watches: &Watches, now: Instant) -> Vec<usize> {
        let mut came = Vec::new();
        for (index, folder) in self.list.iter_mut().enumerate() {
            if folder.retired || now < folder.next_look {
                continue;
            }
            folder.next_look = now + self.poll_interval;
            match filesystem::identify(&folder.watch) {
                Ok(root) if folder.root.as_ref() == Some(&root) => {}
                Ok(root) => {
                    watches.forget_root(&folder.watch.path);
                    folder.root = Some(root);
                    folder.offline = None;
                    folder.pause = None;
                    folder.ways = Ways::default();
                    folder.next_scan = now;
                    came.push(index);
                }
                Err(error) => folder.lose(&error.to_string()),
            }
        }
        came
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
        for (index, folder) in self.list.iter_mut().enumerate().filter(|it| it.1.root.is_some()) {
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

    /// A scan is over, and watched what it read. `problem` is what it could not read.
    pub fn scanned(
        &mut self,
        index: usize,
        extent: &Extent,
        watches: &Watches,
        problem: Option<String>,
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
            if let Some(problem) = problem.as_ref().filter(|_| problem != folder.problem) {
                log_watch(
                    Level::Warn,
                    Kind::FolderNote,
                    &name,
                    &format!("some of it cannot be read: {problem}"),
                );
            }
            folder.problem = problem;
        }
        let ways = watches.ways(&folder.watch.path);
        let poll_interval = humantime::format_duration(self.poll_interval).to_string();
        for (level, message) in changes(&folder.ways, &ways, &poll_interval) {
            log_watch(level, Kind::FolderNote, &name, &message);
        }
        folder.ways = ways;
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

    /// Settle and grace times of the file `relative` in a folder, by the file system of its directory.
    #[must_use]
    pub fn times(&self, index: usize, relative: &Path) -> Times {
        let watch = &self.list[index].watch;
        let default = || {
            let directory = relative.parent().unwrap_or(Path::new(""));
            match filesystem::network_name(&watch.path.join(directory)) {
                Some(_) => self.network_settle,
                None => self.settle,
            }
        };
        Times { settle: watch.settle.unwrap_or_else(default), grace: self.grace }
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
            .filter(|folder| folder.root.is_some() && !paused(folder))
            .map(|folder| folder.watch.path.to_string_lossy().into_owned())
            .collect()
    }

    /// Leaves the jobs of a folder alone, each time longer, until one works.
    pub fn pause(&mut self, index: usize, reason: String, now: Instant) {
        let folder = &mut self.list[index];
        let count = folder.pause.as_ref().map_or(0, |pause| pause.count + 1);
        let length = Duration::from_millis(verdict::pause_ms(count).unsigned_abs());
        let name = folder.watch.path.to_string_lossy();
        let length_text = humantime::format_duration(length);
        log_watch(
            Level::Warn,
            Kind::FolderPaused,
            &name,
            &format!("paused for {length_text}: {reason}"),
        );
        folder.pause = Some(Pause { until: now + length, reason, count });
    }

    /// A job of the folder got through.
    pub fn works(&mut self, index: usize) {
        self.list[index].pause = None;
    }

    /// Folders with polled directories, and folders that are not there.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let polling = |folder: &&Folder| folder.root.is_some() && !folder.ways.polled.is_empty();
        let offline = |folder: &&Folder| folder.root.is_none();
        (self.watched().filter(polling).count(), self.watched().filter(offline).count())
    }

    /// What does not work as it should, a sentence each.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for folder in self.watched() {
            let name = folder.watch.path.display();
            if let Some(why) = &folder.offline {
                sentences.push(format!("{name} is offline: {why}"));
            } else if let Some(pause) = &folder.pause {
                sentences.push(format!("{name} paused: {}", pause.reason));
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

impl Folder {
    fn new(watch: &Watch, config: &Config, generation: u64, now: Instant) -> Self {
        Self {
            watch: watch.clone(),
            area: Area {
                root: watch.path.clone(),
                depth: watch.depth,
                extensions: config.daemon.extensions.clone(),
                links_to: watch.links_to.clone(),
            },
            root: None,
            ways: Ways::default(),
            offline: None,
            problem: None,
            pause: None,
            next_look: now,
            next_scan: now,
            next_poll: now,
            parts: BTreeSet::new(),
            scanning: false,
            scanning_parts: false,
            generation,
            retired: false,
        }
    }

    /// `events`, `polling`, `offline` or `paused`, and why it is not worked where it is not.
    #[must_use]
    pub fn standing(&self) -> (&'static str, Option<String>) {
        match (&self.root, &self.pause) {
            (None, _) => ("offline", self.offline.clone()),
            (_, Some(pause)) => ("paused", Some(pause.reason.clone())),
            _ if !self.ways.polled.is_empty() => ("polling", self.problem.clone()),
            _ => ("events", self.problem.clone()),
        }
    }

    /// The folder is not there. Nothing is concluded about its files.
    pub fn lose(&mut self, why: &str) {
        if self.offline.as_deref() != Some(why) {
            let name = self.watch.path.to_string_lossy();
            log_watch(Level::Warn, Kind::FolderOffline, &name, &format!("offline: {why}"));
            self.offline = Some(why.to_owned());
        }
        self.lose_silently();
    }

    fn lose_silently(&mut self) {
        self.root = None;
        self.ways = Ways::default();
    }
}

/// What is to be said of a folder that was watched one way and is watched another.
fn changes(before: &Ways, now: &Ways, poll_interval: &str) -> Vec<(Level, String)> {
    let mut said = Vec::new();
    let count = |ways: &Ways, why| ways.polled.get(why).copied().unwrap_or_default();
    if before.events == 0 && now.events > 0 {
        said.push((Level::Info, "watched by change events".to_owned()));
    }
    for (why, polled) in now.polled.iter().filter(|(why, _)| count(before, why) == 0) {
        let every = format!("{polled} directories are read every {poll_interval}");
        said.push(match why {
            Why::Configured => (Level::Info, format!("{every}, as configured")),
            Why::Network(name) => (Level::Info, format!("{every}: {name} gives no change events")),
            Why::NoWatchLeft => (
                Level::Warn,
                format!(
                    "{every}: the limit of inotify watches is reached; raise it with `sysctl \
                     fs.inotify.max_user_watches=N` (1 KiB of memory a directory)"
                ),
            ),
            Why::Failed(why) => (Level::Warn, format!("{every}: {why}")),
        });
    }
    if count(before, &Why::NoWatchLeft) > 0 && count(now, &Why::NoWatchLeft) == 0 {
        said.push((Level::Info, "inotify watches suffice again".to_owned()));
    }
    said
}
