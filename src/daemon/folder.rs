//! One watched folder: whether it is there, how it is watched, what is under way in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::Level;

use crate::config::file::{Config, Watch};
use crate::daemon::directories::{Ways, Why};
use crate::daemon::errands::Hung;
use crate::daemon::events::Kind;
use crate::daemon::filesystem::RootIdentity;
use crate::daemon::service::log_watch;
use crate::daemon::watch::Area;
use crate::daemon::weights::{self, Weights};

/// Files that are said by their names where many have the same trouble.
const MOST_NAMED: usize = 3;

/// One watched folder.
#[derive(Debug)]
pub struct Folder {
    /// As configured.
    pub watch: Watch,
    /// What belongs to it.
    pub area: Area,
    /// What is mounted there; `None` where nothing is.
    pub(super) root: Option<RootIdentity>,
    /// How its directories are watched, as far as they were read.
    pub(super) ways: Ways,
    /// Why it is not there.
    pub(super) offline: Option<String>,
    /// What could not be read of it, as it was logged.
    pub(super) problem: Option<(PathBuf, String)>,
    /// Files that cannot be read, and why.
    unread: BTreeMap<PathBuf, String>,
    pub(super) pause: Option<Pause>,
    pub(super) next_look: Instant,
    pub(super) next_scan: Instant,
    pub(super) next_poll: Instant,
    /// Directories that something happened to.
    pub(super) parts: BTreeSet<PathBuf>,
    /// Whether a scan of the whole folder, or of what is polled in it, is under way.
    pub(super) scanning: bool,
    /// Whether a scan of parts is.
    pub(super) scanning_parts: bool,
    /// Whether it is being looked for.
    pub(super) looking: bool,
    /// Paths that something happened to, and whether they were moved there.
    pub(super) hinted: BTreeMap<PathBuf, bool>,
    /// Whether such paths are being looked at.
    pub(super) looking_at_hints: bool,
    /// How the weights stand that it needs.
    pub(super) weights: Weights,
    /// Why they cannot be read.
    lack: Option<String>,
    /// Since when it does not answer, and what is waited for.
    pub(super) hung: Option<String>,
    /// Changes when the configuration of the folder does: what an earlier scan found means nothing then.
    pub generation: u64,
    /// It is not configured any more. Its number stays its own, for what is still under way.
    pub retired: bool,
}

/// A folder whose jobs are left alone for a while.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) until: Instant,
    pub(super) reason: String,
    pub(super) count: i64,
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

impl Folder {
    pub(super) fn new(watch: &Watch, config: &Config, generation: u64, now: Instant) -> Self {
        Self {
            watch: watch.clone(),
            area: Area {
                root: watch.path.clone(),
                depth: watch.depth,
                extensions: config.daemon.extensions.clone(),
                links_to: watch.links_to.clone(),
                ready: watch.ready,
            },
            root: None,
            ways: Ways::default(),
            offline: None,
            problem: None,
            unread: BTreeMap::new(),
            pause: None,
            next_look: now,
            next_scan: now,
            next_poll: now,
            parts: BTreeSet::new(),
            scanning: false,
            scanning_parts: false,
            looking: false,
            hinted: BTreeMap::new(),
            looking_at_hints: false,
            weights: Weights::Read,
            lack: None,
            hung: None,
            generation,
            retired: false,
        }
    }

    /// `looking` (for the first time), `events`, `polling`, `offline`, `paused` or `hung`, and why it is not worked where it is not.
    #[must_use]
    pub fn standing(&self) -> (&'static str, Option<String>) {
        let problem = || {
            let said = self.problem.as_ref().map(|it| it.1.clone());
            let all: Vec<String> = said.into_iter().chain(self.unread_files()).collect();
            (!all.is_empty()).then(|| all.join("; "))
        };
        match (&self.root, &self.pause) {
            _ if self.hung.is_some() => ("hung", self.hung.clone()),
            (None, _) if self.offline.is_none() => ("looking", None),
            (None, _) => ("offline", self.offline.clone()),
            (_, Some(pause)) => ("paused", Some(pause.reason.clone())),
            _ if self.weights != Weights::Read => ("paused", Some(self.unread_weights())),
            _ if !self.ways.polled.is_empty() => ("polling", problem()),
            _ => ("events", problem()),
        }
    }

    /// The weights that it needs cannot be read (a sentence): it waits for them, and they are asked for again.
    pub(super) fn lacks_weights(&mut self, why: String) {
        if self.lack.as_ref() != Some(&why) {
            let name = self.watch.path.to_string_lossy();
            log_watch(Level::Warn, Kind::FolderPaused, &name, &format!("paused: {why}"));
        }
        (self.weights, self.lack) = (Weights::Unread, Some(why));
    }

    /// The weights that it needs were read.
    pub(super) fn has_weights(&mut self) {
        self.weights = Weights::Read;
        if self.lack.take().is_some() {
            let name = self.watch.path.to_string_lossy();
            log_watch(Level::Info, Kind::FolderNote, &name, "its weights were read");
        }
    }

    /// What is said where its weights were not read yet.
    pub(super) fn unread_weights(&self) -> String {
        if let Some(why) = &self.lack {
            return why.clone();
        }
        let path = weights::file_of(&self.watch).unwrap_or(&self.watch.path);
        format!("its weights, {}, were not read yet", path.display())
    }

    /// The file `relative` cannot be read just now. Returns whether that is to be said of it: it is news, and not one of many.
    pub(super) fn cannot_read(&mut self, relative: &Path, why: &str) -> bool {
        let before = self.unread.insert(relative.to_owned(), why.to_owned());
        let count = self.unread.len();
        if before.is_none() && count == MOST_NAMED + 1 {
            let name = self.watch.path.to_string_lossy();
            let message = "more files cannot be read now: `slomod status` counts them";
            log_watch(Level::Warn, Kind::FileWaits, &name, message);
        }
        before.as_deref() != Some(why) && count <= MOST_NAMED
    }

    /// The file `relative` can be read, or is no business of ours any more.
    pub(super) fn can_read(&mut self, relative: &Path) {
        self.unread.remove(relative);
    }

    /// Some of the files that cannot be read, why, and how many more there are.
    fn unread_files(&self) -> Option<String> {
        let (_, first) = self.unread.first_key_value()?;
        let named = || self.unread.iter().take(MOST_NAMED);
        let more = match self.unread.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if named().all(|(_, why)| why == first) {
            let names: Vec<String> = named().map(|(at, _)| at.display().to_string()).collect();
            return Some(format!("{}{more}: cannot be read: {first}", names.join(", ")));
        }
        let each =
            |(at, why): (&PathBuf, &String)| format!("{}: cannot be read: {why}", at.display());
        Some(named().map(each).collect::<Vec<_>>().join("; ") + &more)
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

    pub(super) fn lose_silently(&mut self) {
        self.root = None;
        self.ways = Ways::default();
    }

    /// The folder does not answer, or does so again (`None`). Nothing else is concluded, whatever was known of it.
    /// Returns whether that is news.
    pub fn hangs(&mut self, hung: Option<&Hung>, now: Instant) -> bool {
        if self.hung.is_some() == hung.is_some() {
            return false;
        }
        self.hung = hung.map(|it| it.text(now));
        let name = self.watch.path.to_string_lossy();
        match &self.hung {
            Some(text) => log_watch(Level::Warn, Kind::FolderHung, &name, text),
            None => log_watch(Level::Info, Kind::FolderHung, &name, "answers again"),
        }
        true
    }
}

/// What is to be said of a folder that was watched one way and is watched another.
pub(super) fn changes(before: &Ways, now: &Ways, poll_interval: &str) -> Vec<(Level, String)> {
    let mut said = Vec::new();
    let count = |ways: &Ways, why| ways.polled.get(why).copied().unwrap_or_default();
    if before.events == 0 && now.events > 0 {
        said.push((Level::Info, "watched by change events".to_owned()));
    }
    for (why, polled) in now.polled.iter().filter(|(why, _)| count(before, why) == 0) {
        let directories = if *polled == 1 { "directory is" } else { "directories are" };
        let every = format!("{polled} {directories} read every {poll_interval}");
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
