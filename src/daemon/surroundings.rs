//! What a job finds around it: whether its source is the file that was queued, whether its folders are there and answer,
//! and how long its clip has lacked its end.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::settings::Device;
use crate::daemon::DaemonError;
use crate::daemon::filesystem;
use crate::daemon::job::{Aftermath, Job, OFFLINE, blocking, now_ms};
use crate::daemon::journal::Claim;
use crate::daemon::protocol::Request;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::trouble::Trouble;
use crate::daemon::verdict::{self, Verdict};
use crate::daemon::watch::leads_out;
use crate::daemon::weights;
use crate::daemon::worker::{self, Ended};
use crate::error::ExitCode;

/// Codes of clips that lack their end.
const LOST_END: [&str; 4] = ["truncated", "truncated_mdat", "zero_tail", "moov_missing"];

/// When jobs first found that their clip lacks its end, by the clock that nobody sets. A restart begins anew.
#[derive(Debug, Default)]
pub struct Lacks(Mutex<BTreeMap<i64, Instant>>);

impl Lacks {
    /// How long it is known at `now` that the clip of `job` lacks its end.
    fn known_for(&self, job: i64, now: Instant) -> Duration {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(*first.entry(job).or_insert(now))
    }
}

/// What held a worker up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitedFor {
    /// Nothing that is known: it may be the clip's doing.
    Nobody,
    /// Its watched folder, its output or its weights.
    Folder,
    /// The GPU: why it cannot be opened.
    Device(String),
}

impl Job {
    /// Where the source is not the file any more that was queued, by its looks now and then.
    pub(super) fn source_trouble(
        &self,
        is_queued: impl Fn(&Snapshot, &Snapshot) -> bool,
    ) -> Result<Option<Aftermath>, DaemonError> {
        let source = self.source();
        if leads_out(&self.watch.path, &self.claim.relative) {
            let message = "a folder on the way to the file is a link now";
            return self.cancel("source_vanished", message).map(Some);
        }
        match Snapshot::take(&source) {
            Ok(snapshot) if is_queued(&snapshot, &self.queued()) => Ok(None),
            Ok(_) => match self.is_elsewhere()? {
                Some(aftermath) => Ok(Some(aftermath)),
                None => self.cancel("source_changed", "the file was replaced or changed").map(Some),
            },
            Err(error) => self.missing(&error).map(Some),
        }
    }

    /// The source cannot be looked at.
    fn missing(&self, error: &io::Error) -> Result<Aftermath, DaemonError> {
        if let Some(aftermath) = self.is_elsewhere()? {
            return Ok(aftermath);
        }
        match error.kind() {
            io::ErrorKind::NotFound => self.cancel("source_vanished", "the file was removed"),
            _ => self.delay("source_unreadable", &error.to_string(), Aftermath::Next),
        }
    }

    /// Where the clip's folder is not there, or is another than that in which it was queued (the empty place below a share
    /// that is not mounted, another card), nothing is concluded from a file that is not there or is another one.
    fn is_elsewhere(&self) -> Result<Option<Aftermath>, DaemonError> {
        let identity = match filesystem::identify(&self.watch) {
            Ok(identity) => identity.lasting,
            Err(error) => {
                let message = format!("the folder is offline: {error}");
                let aftermath = Aftermath::Pause(message.clone());
                return self.delay(OFFLINE, &message, aftermath).map(Some);
            }
        };
        let queued_in = self.shop.journal().root_of(self.claim.job)?;
        let is_other = |it: &String| !it.is_empty() && !filesystem::is_same_folder(it, &identity);
        let Some(root) = queued_in.filter(is_other) else { return Ok(None) };
        let message = "the folder is not the one in which this clip was queued; is it mounted?";
        let until_ms = now_ms() + verdict::pause_ms(self.claim.delays);
        let watch = &self.claim.watch;
        self.shop.journal().postpone_root(watch, &root, until_ms, (OFFLINE, message))?;
        // Clips of the folder that is there now are worked meanwhile.
        self.delay(OFFLINE, message, Aftermath::Next).map(Some)
    }

    fn queued(&self) -> Snapshot {
        let Claim { size_bytes, mtime_ns, inode, .. } = self.claim;
        Snapshot { size_bytes, mtime_ns, ctime_ns: 0, inode }
    }

    /// Whose doing it is that the worker hung, or was stopped. Where that is not known yet, folders and device are asked: the
    /// daemon looks at them now and then only, and may have stood still itself.
    pub(super) async fn waited_for(&self, ended: &Ended) -> Result<WaitedFor, Trouble> {
        if !matches!(ended, Ended::Stopped | Ended::Hung(_)) {
            return Ok(WaitedFor::Nobody);
        }
        let now = Instant::now();
        let hangs = |folder| self.shop.errands.hangs_in(folder, now);
        let weights = weights::file_of(&self.watch).map(PathBuf::from);
        if hangs(&self.watch.path)
            || hangs(&self.watch.output)
            || weights.as_deref().is_some_and(hangs)
        {
            return Ok(WaitedFor::Folder);
        }
        if matches!(ended, Ended::Stopped) {
            return Ok(WaitedFor::Nobody);
        }
        let (source, output) = (self.source(), self.task().temporary);
        let answers = blocking(move || {
            // Errors are answers, too.
            let _ = std::fs::File::open(source);
            let _ = std::fs::metadata(output);
            let _ = weights.map(std::fs::File::open);
        });
        match tokio::time::timeout(self.shop.errands.limit(), answers).await {
            Ok(answered) => answered?,
            Err(_) => return Ok(WaitedFor::Folder),
        }
        Ok(self.fault_of_device().await.map_or(WaitedFor::Nobody, WaitedFor::Device))
    }

    /// Why another worker cannot open the GPU either that the job asks for; `None` where it can, or where no GPU is asked
    /// for.
    async fn fault_of_device(&self) -> Option<String> {
        let settings = self.task().settings;
        if settings.device == Device::Cpu {
            return None;
        }
        let limits = self.shop.rules().limits;
        let request = Request::Open(Box::new(settings));
        let (_asks, stop) = watch::channel(false);
        match worker::run(&self.shop.command, &request, limits, stop, &mut |_| {}).await {
            Ended::Hung(after) => Some(format!("no answer for {} s", after.as_secs_f64())),
            Ended::Failed(failure) if failure.exit_code == ExitCode::Unavailable => {
                Some(failure.message)
            }
            _ => None,
        }
    }

    /// What follows where the clip lacks its end, by the code of its failure: `None` where it is refused like any other.
    /// It may be a copy that stalled, so it is waited for until the grace time is over; if it is written to meanwhile, it
    /// is another file.
    pub(super) fn lost_end(&self, code: &str) -> Option<Verdict> {
        if !LOST_END.contains(&code) {
            return None;
        }
        let known = self.shop.lacks.known_for(self.claim.job, Instant::now());
        verdict::on_lost_end(self.shop.rules().grace.saturating_sub(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_clip_lacks_its_end_is_counted_from_the_first_time() {
        let (lacks, start) = (Lacks::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(lacks.known_for(1, at(5)), Duration::ZERO);
        assert_eq!(lacks.known_for(2, at(8)), Duration::ZERO);
        assert_eq!(lacks.known_for(1, at(9)), Duration::from_secs(4));
        assert_eq!(lacks.known_for(1, at(65)), Duration::from_secs(60));
    }
}
