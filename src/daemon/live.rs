//! How a running daemon is, in full: what the journal does not know.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::daemon::job::now_ms;
use crate::daemon::journal::JournalError;
use crate::daemon::journal::view::{Counts, DaemonView, JobView};
use crate::daemon::run::Daemon;
use crate::daemon::service;
use crate::engine::{DeviceMemory, EngineDescription};
use crate::pipeline::Progress;

/// How a running daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The process.
    pub daemon: DaemonView,
    /// Jobs by state.
    pub counts: Counts,
    /// The running job, waiting ones and ended ones.
    pub jobs: Vec<JobView>,
    /// The rest.
    pub details: Details,
}

/// What only the daemon itself knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Version of the running program.
    pub version: String,
    /// When this was said, in milliseconds since 1970.
    pub now_ms: i64,
    /// What does not work as it should, a sentence each.
    pub degraded: Vec<String>,
    /// Since when no clip is begun, RFC 3339; absent where clips are.
    pub paused_since: Option<String>,
    /// What the network runs on; absent where a device is not opened yet.
    pub device: Option<EngineDescription>,
    /// The memory of that device while a clip is worked there; absent on a processor.
    #[serde(default)]
    pub device_memory: Option<DeviceMemory>,
    /// The folders.
    pub watches: Vec<WatchView>,
    /// Files that settle.
    pub settling: usize,
    /// Since when the oldest waiting job waits, in milliseconds since 1970.
    pub oldest_queued_ms: Option<i64>,
}

/// A watched folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchView {
    /// Its path, with what is not UTF-8 replaced.
    pub path: String,
    /// Its output folder.
    pub output: String,
    /// `looking` (for the first time), `events`, `polling` (some of it or all), `offline`, `paused`, `hung` (it or its output does not answer), or
    /// `locked` (another daemon has the output folder).
    pub state: String,
    /// Why it is not worked, where it is not.
    pub reason: Option<String>,
    /// Jobs that wait.
    pub queued: u64,
}

impl Daemon {
    /// Everything about this daemon, with the first `queued` waiting jobs and the last `ended` of those that are over.
    pub(super) fn live(&self, queued: u32, ended: u32) -> Result<Live, JournalError> {
        let journal = self.shop.journal();
        let waiting = journal.queued_by_watch()?;
        let mut jobs = journal.list(queued, ended)?;
        let counts = journal.counts()?;
        let oldest_queued_ms = journal.oldest_queued_ms()?;
        drop(journal);
        if let Some(running) = &self.running
            && let Some(job) = jobs.iter_mut().find(|it| it.job == running.job)
            && running.progress != Progress::default()
        {
            // The journal is told once a second only.
            job.progress = Some(running.progress.clone());
        }
        let watches = self.folders.list.iter().filter(|it| !it.retired).map(|folder| {
            let path = folder.watch.path.to_string_lossy().into_owned();
            let locked = self.shop.locks.refusal(&folder.watch.output);
            let (state, reason) = match (folder.standing(), locked) {
                (("events" | "polling", _), why @ Some(_))
                    if self.shop.locks.is_hung(&folder.watch.output) =>
                {
                    ("hung", why)
                }
                (("events" | "polling", _), Some(why)) => ("locked", Some(why)),
                ((state, reason), _) => (state, reason),
            };
            WatchView {
                queued: waiting.iter().find(|it| it.0 == path).map_or(0, |it| it.1),
                output: folder.watch.output.to_string_lossy().into_owned(),
                state: state.to_owned(),
                reason,
                path,
            }
        });
        let details = Details {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: now_ms(),
            degraded: self.degraded(),
            paused_since: self.paused.clone(),
            device: self.device.clone(),
            device_memory: self.running.as_ref().and_then(|it| it.device_memory),
            watches: watches.collect(),
            settling: self.settler.len(),
            oldest_queued_ms,
        };
        let daemon = DaemonView {
            pid: std::process::id(),
            started_ms: self.started_ms,
            seen_ms: now_ms(),
            status: self.described.0.clone(),
        };
        Ok(Live { daemon, counts, jobs, details })
    }

    /// What does not work as it should, a sentence each.
    pub(super) fn degraded(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(why) = self.device.as_ref().and_then(|it| it.fallback_reason.as_ref()) {
            sentences.push(format!("running on the CPU: {}", service::why_on_cpu(why)));
        }
        if let Some(why) = &self.reload.failure {
            sentences.push(format!("the configuration was not reloaded: {why}"));
        }
        sentences.extend(self.control.problems().map(str::to_owned));
        sentences.extend(self.folders.degraded());
        sentences.extend(self.shop.locks.refusals());
        sentences.extend(self.shop.moves.sentences());
        sentences.extend(self.set_aside.iter().map(|it| {
            let then = if it.cancel { ", and cancelled then" } else { "" };
            format!("job {} ({}) is set aside until its folder answers{then}", it.job, it.name)
        }));
        sentences.extend(self.orphans.iter().map(|(watch, count)| {
            format!(
                "{watch} is not configured any more, and {count} of its jobs wait for it: configure it again, or `slomod \
                 cancel` them"
            )
        }));
        sentences
    }

    /// The waiting jobs of folders that are not configured, which nobody works, and those whose publication was interrupted,
    /// which nobody completes.
    pub(super) fn find_orphans(&mut self) -> Result<(), JournalError> {
        let journal = self.shop.journal();
        let mut waiting: BTreeMap<String, u64> = journal.queued_by_watch()?.into_iter().collect();
        let publishing = journal.publishing_jobs()?;
        drop(journal);
        for (_, watch) in publishing.into_iter().filter(|it| !self.is_at_work(it.0)) {
            *waiting.entry(watch).or_default() += 1;
        }
        let is_orphan =
            |watch: &str| !self.config.watches.iter().any(|it| it.path == Path::new(watch));
        self.orphans = waiting.into_iter().filter(|it| is_orphan(&it.0)).collect();
        Ok(())
    }
}
