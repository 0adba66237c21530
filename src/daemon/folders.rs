//! Which of the watched folders are there, how they are watched, and which are left alone for a while.

use std::path::Path;
use std::time::{Duration, Instant};

use log::Level;

use crate::config::file::{Config, Watch};
use crate::daemon::service::log_watch;
use crate::daemon::settle::Times;
use crate::daemon::verdict;
use crate::daemon::watch::{self, Hints, Watching};

/// One watched folder.
#[derive(Debug)]
pub struct Folder {
    /// As configured.
    pub watch: Watch,
    /// What is mounted there; `None` where nothing is.
    root: Option<(u64, u64)>,
    watching: Option<Watching>,
    /// Why it is not there.
    offline: Option<String>,
    pause: Option<Pause>,
    next_look: Instant,
    next_scan: Instant,
    /// Whether a scan is under way.
    pub scanning: bool,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    reason: String,
    count: i64,
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
        let folder = |watch: &Watch| Folder {
            watch: watch.clone(),
            root: None,
            watching: None,
            offline: None,
            pause: None,
            next_look: now,
            next_scan: now,
            scanning: false,
        };
        Self {
            list: config.watches.iter().map(folder).collect(),
            poll_interval: config.daemon.poll_interval,
            scan_interval: config.daemon.scan_interval,
            settle: config.daemon.settle,
            network_settle: config.daemon.network_settle,
            grace: config.daemon.grace,
        }
    }

    /// Looks which folders are there, and watches those that came (or came back, or have something else mounted).
    pub fn look(&mut self, hints: &mut Hints, now: Instant) {
        for folder in &mut self.list {
            if now < folder.next_look {
                continue;
            }
            folder.next_look = now + self.poll_interval;
            let name = folder.watch.path.to_string_lossy().into_owned();
            match watch::root_identity(&folder.watch.path) {
                Ok(root) if folder.root == Some(root) => {}
                Ok(root) => {
                    let watching = hints.add(&folder.watch.path, folder.watch.depth);
                    match &watching {
                        Watching::Events => log_watch(Level::Info, &name, "watched"),
                        Watching::Scans(why) => {
                            let every = humantime::format_duration(self.poll_interval);
                            log_watch(Level::Warn, &name, &format!("read every {every}: {why}"));
                        }
                    }
                    folder.root = Some(root);
                    folder.watching = Some(watching);
                    folder.offline = None;
                    folder.next_scan = now;
                }
                Err(error) => folder.lose(&error.to_string()),
            }
        }
    }

    /// The folders whose scan is due; they count as being scanned from here on.
    pub fn take_scans(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, folder) in self.list.iter_mut().enumerate() {
            if folder.root.is_some() && !folder.scanning && now >= folder.next_scan {
                folder.scanning = true;
                folder.next_scan = now
                    + match folder.watching {
                        Some(Watching::Events) => self.scan_interval,
                        _ => self.poll_interval,
                    };
                due.push(index);
            }
        }
        due
    }

    /// Something was missed: every folder is scanned at once.
    pub fn scan_all(&mut self, now: Instant) {
        for folder in &mut self.list {
            folder.next_scan = now;
        }
    }

    /// Something in the folder could not be looked at: it is scanned before long.
    pub fn scan_soon(&mut self, index: usize, now: Instant) {
        let folder = &mut self.list[index];
        folder.next_scan = folder.next_scan.min(now + self.poll_interval);
    }

    /// Settle and grace times of a folder.
    #[must_use]
    pub fn times(&self, index: usize) -> Times {
        let folder = &self.list[index];
        let network = watch::network_file_system(&folder.watch.path).is_some();
        let default = if network { self.network_settle } else { self.settle };
        Times { settle: folder.watch.settle.unwrap_or(default), grace: self.grace }
    }

    /// The folder that `path` lies in, by its number.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<usize> {
        self.list.iter().position(|folder| path.starts_with(&folder.watch.path))
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
        log_watch(Level::Warn, &name, &format!("paused for {length_text}: {reason}"));
        folder.pause = Some(Pause { until: now + length, reason, count });
    }

    /// A job of the folder got through.
    pub fn works(&mut self, index: usize) {
        self.list[index].pause = None;
    }

    /// Watches without events, and watches that are not there.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let polling = |folder: &&Folder| matches!(folder.watching, Some(Watching::Scans(_)));
        let offline = |folder: &&Folder| folder.root.is_none();
        (
            self.list.iter().filter(polling).filter(|it| !offline(it)).count(),
            self.list.iter().filter(offline).count(),
        )
    }

    /// What does not work as it should, a sentence each.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for folder in &self.list {
            let name = folder.watch.path.display();
            if let Some(why) = &folder.offline {
                sentences.push(format!("{name} is offline: {why}"));
            } else if let Some(pause) = &folder.pause {
                sentences.push(format!("{name} paused: {}", pause.reason));
            }
        }
        sentences
    }
}

impl Folder {
    /// The folder is not there. Nothing is concluded about its files.
    pub fn lose(&mut self, why: &str) {
        if self.offline.as_deref() != Some(why) {
            let name = self.watch.path.to_string_lossy();
            log_watch(Level::Warn, &name, &format!("offline: {why}"));
            self.offline = Some(why.to_owned());
        }
        self.root = None;
        self.watching = None;
    }
}
