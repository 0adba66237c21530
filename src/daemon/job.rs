//! One job from its claim to its end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::Level;
use tokio::sync::watch;

use crate::config::file::Watch;
use crate::daemon::DaemonError;
use crate::daemon::journal::{Again, Claim, Count, End, Journal, JournalError, Original, Twin};
use crate::daemon::names;
use crate::daemon::original;
use crate::daemon::protocol::{Failure, Request, WireTask};
use crate::daemon::publish::{self, Publication, PublishError, Step};
use crate::daemon::service;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::verdict::{self, Verdict};
use crate::daemon::watch::root_identity;
use crate::daemon::worker::{self, Ended, Limits, WorkerCommand};
use crate::media::MediaError;
use crate::pipeline::convert::failure_report;
use crate::pipeline::{ConvertError, Progress, Task};
use crate::report::{Notice, Report, Status};

/// How often progress is written to the journal.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long a claim holds without news; for other machines, one day.
pub const LEASE_MS: i64 = 60_000;
/// An output is expected to be at the most this many times `factor` the size of its source.
const GROWTH: f64 = 1.3;

/// What jobs need of the daemon.
#[derive(Debug)]
pub struct Shop {
    /// The journal; locked for single statements only.
    pub journal: Mutex<Journal>,
    /// How workers are started.
    pub command: WorkerCommand,
    /// How long they may take.
    pub limits: Limits,
    /// Bytes that stay free.
    pub reserve_bytes: u64,
}

impl Shop {
    /// The journal. A thread that panicked while holding it left whole statements behind.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the daemon does after a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// The next job.
    Next,
    /// Look at the source again: it is another file now.
    LookAgain,
    /// Leave the folder alone for a while: why.
    Pause(String),
}

/// Now, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Works `claim`, a file of `watch`, to its end or back into the queue.
///
/// # Errors
/// [`DaemonError`] only where the daemon cannot go on.
pub async fn work(
    shop: Arc<Shop>,
    watch: Watch,
    claim: Claim,
    stop: watch::Receiver<bool>,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Aftermath, DaemonError> {
    let job = Job { shop, watch, claim };
    match job.attempt(stop, on_progress).await {
        // The folder's fault, or the system's: it may pass.
        Err(Trouble::Passing(message)) => {
            job.delay("io", &message, Aftermath::Pause(message.clone()))
        }
        Err(Trouble::Fatal(error)) => Err(error),
        Ok(aftermath) => Ok(aftermath),
    }
}

/// Why an attempt broke off.
enum Trouble {
    Passing(String),
    Fatal(DaemonError),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<DaemonError> for Trouble {
    fn from(error: DaemonError) -> Self {
        Self::Fatal(error)
    }
}

impl From<PublishError> for Trouble {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Record(error) => Self::Fatal(error.into()),
            error => Self::Passing(error.to_string()),
        }
    }
}

type Attempt = Result<Aftermath, Trouble>;

struct Job {
    shop: Arc<Shop>,
    watch: Watch,
    claim: Claim,
}

impl Job {
    async fn attempt(
        &self,
        stop: watch::Receiver<bool>,
        on_progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Attempt {
        if let Some(aftermath) = self.source_trouble()? {
            return Ok(aftermath);
        }
        if let Some(twin) = self.twin()? {
            return self.end_as_duplicate(&twin).await;
        }
        let task = self.task();
        let folder = task.output.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(|error| {
            Trouble::Passing(format!("{}: cannot be created: {error}", folder.display()))
        })?;
        if let Some(message) = self.space_trouble(folder) {
            return Ok(self.delay("no_space", &message, Aftermath::Pause(message.clone()))?);
        }
        self.shop.journal().writing(&self.claim, &task.temporary)?;
        service::log_job(Level::Info, &self.claim, "running", "");
        let ended = self.run_worker(&task, stop, on_progress).await?;
        let aftermath = self.conclude(&task, ended).await?;
        Ok(aftermath)
    }

    fn source(&self) -> PathBuf {
        self.watch.path.join(&self.claim.relative)
    }

    fn task(&self) -> Task {
        let claim = &self.claim;
        let below = claim.relative.parent().unwrap_or(Path::new(""));
        let settings = self.watch.settings();
        let name = names::output_name(&claim.relative, &settings);
        let output = self.watch.output.join(below).join(name);
        let temporary = names::temporary(&output, claim.job, claim.attempt);
        Task { source: self.source(), temporary, output, settings }
    }

    /// Where the source is not the file any more that was queued.
    fn source_trouble(&self) -> Result<Option<Aftermath>, DaemonError> {
        let source = self.source();
        match Snapshot::take(&source) {
            Ok(snapshot) if snapshot.same_content(&self.worked()) => Ok(None),
            Ok(_) => self.cancel("source_changed", "the file was replaced or changed").map(Some),
            Err(_) if root_identity(&self.watch.path).is_err() => {
                let message = "the folder is offline";
                self.delay("offline", message, Aftermath::Pause(message.into())).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.cancel("source_vanished", "the file was removed").map(Some)
            }
            Err(error) => {
                self.delay("source_unreadable", &error.to_string(), Aftermath::Next).map(Some)
            }
        }
    }

    fn worked(&self) -> Snapshot {
        let Claim { size_bytes, mtime_ns, inode, .. } = self.claim;
        Snapshot { size_bytes, mtime_ns, ctime_ns: 0, inode }
    }

    /// A done job with the same result whose report is still there.
    fn twin(&self) -> Result<Option<Twin>, Trouble> {
        for twin in self.shop.journal().twin(&self.claim)? {
            if publish::is_report_of(&twin.report_path, &self.claim.sha256)? {
                return Ok(Some(twin));
            }
        }
        Ok(None)
    }

    fn space_trouble(&self, folder: &Path) -> Option<String> {
        let factor = f64::from(self.watch.settings.factor.unwrap_or(2));
        let needed = self.claim.size_bytes as f64 * factor * GROWTH;
        let needed = (needed as u64).saturating_add(self.shop.reserve_bytes);
        let space = rustix::fs::statvfs(folder).ok()?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        (free < needed).then(|| {
            let mib = |bytes: u64| bytes >> 20;
            let folder = folder.display();
            format!("{folder}: {} MiB free, {} MiB needed with the reserve", mib(free), mib(needed))
        })
    }

    async fn run_worker(
        &self,
        task: &Task,
        stop: watch::Receiver<bool>,
        on_progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Ended, DaemonError> {
        let (mut written, mut problem) = (Instant::now(), None);
        let mut note = |progress: Progress| {
            if written.elapsed() >= PROGRESS_EVERY {
                let result =
                    self.shop.journal().progress(&self.claim, &progress, now_ms(), LEASE_MS);
                problem = problem.take().or(result.err());
                written = Instant::now();
            }
            on_progress(progress);
        };
        let request = Request::Convert(Box::new(WireTask::from(task)));
        let (command, limits) = (&self.shop.command, self.shop.limits);
        let ended = worker::run(command, &request, limits, stop, &mut note).await;
        match problem {
            Some(error) => Err(error.into()),
            None => Ok(ended),
        }
    }

    async fn conclude(&self, task: &Task, ended: Ended) -> Attempt {
        let verdict = match ended {
            Ended::Report(report) => return self.publish(task, *report).await,
            Ended::Failed(failure) => {
                let verdict = verdict::on_failure(&failure, &self.claim);
                return self.pass(task, verdict, *failure).await;
            }
            Ended::Stopped => {
                let why = "the daemon was stopped";
                return Ok(self.again(Count::Nothing, 0, "stopped", why, Aftermath::Next)?);
            }
            Ended::Crashed(why) => (verdict::on_crash(&self.claim), "worker_crashed", why),
            Ended::Killed(why) => (verdict::on_kill(&self.claim), "worker_killed", why),
            Ended::Hung(after) => {
                let why = format!("no progress for {} s", after.as_secs_f64());
                (verdict::on_crash(&self.claim), "worker_hung", why)
            }
            Ended::NotStarted(error) => (
                verdict::on_delay(&self.claim),
                "worker_not_started",
                format!("the worker cannot be started: {error}"),
            ),
            Ended::Probed | Ended::Opened(_) => {
                let why = "the worker answered something else".to_owned();
                (verdict::on_crash(&self.claim), "worker_crashed", why)
            }
        };
        // A worker that died could not tidy up.
        publish::remove_temporary(&task.temporary)?;
        let (verdict, code, message) = verdict;
        let failure = Failure {
            consequence: crate::error::Consequence::Retry,
            exit_code: crate::error::ExitCode::Software,
            code: code.into(),
            message,
            report: None,
        };
        self.pass(task, verdict, failure).await
    }

    /// Does what the verdict says.
    async fn pass(&self, task: &Task, verdict: Verdict, failure: Failure) -> Attempt {
        let (code, message) = (failure.code.clone(), failure.message.clone());
        match verdict {
            Verdict::Again { count, pause_ms } => {
                Ok(self.again(count, pause_ms, &code, &message, Aftermath::Next)?)
            }
            Verdict::PauseFolder { pause_ms } => {
                let aftermath = Aftermath::Pause(message.clone());
                Ok(self.again(Count::Delay, pause_ms, &code, &message, aftermath)?)
            }
            Verdict::Changed => Ok(self.cancel(&code, &message)?),
            Verdict::Refuse | Verdict::Fail => {
                let (state, status) = match verdict {
                    Verdict::Refuse => ("refused", Status::Refused),
                    _ => ("failed", Status::Failed),
                };
                let mut report = match failure.report {
                    Some(report) => *report,
                    None => self.failure_report(task, &code, &message).await?,
                };
                report.status = status;
                let path = self.publish_report(report, state).await?;
                let end = End {
                    state,
                    code: &code,
                    message: &message,
                    report_path: Some(&path),
                    duplicate_of: None,
                    original: Original::Kept,
                };
                let level = if state == "failed" { Level::Error } else { Level::Warn };
                self.end(&end, level)?;
                Ok(Aftermath::Next)
            }
        }
    }

    async fn publish(&self, task: &Task, report: Report) -> Attempt {
        let same_hash = |hash: &Option<String>| hash.as_deref() == Some(&self.claim.sha256);
        let still = match Snapshot::take(&self.source()) {
            Ok(now) => now.same_content(&self.worked()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                publish::remove_temporary(&task.temporary)?;
                return Ok(self.delay("source_unreadable", &error.to_string(), Aftermath::Next)?);
            }
        };
        if !still || !same_hash(&report.source.sha256) || !same_hash(&report.source.sha256_after) {
            publish::remove_temporary(&task.temporary)?;
            let (queued, now) =
                (&self.claim.sha256, report.source.sha256_after.unwrap_or_default());
            let message =
                format!("the file changed from SHA-256 {queued} to {now}: result discarded");
            return Ok(self.cancel("source_changed", &message)?);
        }
        let publication = Publication {
            temporary: task.temporary.clone(),
            output: task.output.clone(),
            report_path: None,
            collision: self.watch.collision,
            report,
        };
        let (shop, claim) = (Arc::clone(&self.shop), self.claim.clone());
        let (published, recorded) = blocking(move || {
            let mut recorded = false;
            let published = publish::publish(&publication, &mut |step| {
                if let Step::Planned(planned) = step {
                    shop.journal().publishing(&claim, planned)?;
                    recorded = true;
                }
                Ok(())
            });
            (published, recorded)
        })
        .await?;
        let published = match published {
            Ok(published) => published,
            Err(PublishError::Record(error)) => return Err(error.into()),
            // Nobody would complete what the journal does not know of.
            Err(error) if !recorded => {
                publish::remove_temporary(&task.temporary)?;
                return Err(error.into());
            }
            // The verified output is there and the journal knows: completed as soon as the folder allows.
            Err(error) => {
                service::log_job(Level::Warn, &self.claim, "publication waits", &error.to_string());
                return Ok(Aftermath::Pause(error.to_string()));
            }
        };
        self.shop.journal().done(&self.claim, original::intent(&self.watch), now_ms())?;
        let output = published.output.display().to_string();
        service::log_job(Level::Info, &self.claim, "done", &output);
        if let Some(earlier) = &self.claim.report_path
            // It said that an earlier attempt failed.
            && let Err(error) = publish::remove_temporary(earlier)
        {
            service::log_job(Level::Warn, &self.claim, "report not removed", &error.to_string());
        }
        Ok(Aftermath::Next)
    }

    async fn end_as_duplicate(&self, twin: &Twin) -> Attempt {
        let there = twin.report_path.display();
        let message = format!("the same content was worked with the same settings before: {there}");
        let mut report = self.failure_report(&self.task(), "duplicate", &message).await?;
        report.status = Status::Duplicate;
        report.warnings = std::mem::take(&mut report.errors);
        let path = self.publish_report(report, "duplicate").await?;
        let end = End {
            state: "duplicate",
            code: "duplicate",
            message: &message,
            report_path: Some(&path),
            duplicate_of: Some(twin.job),
            original: original::intent(&self.watch),
        };
        self.end(&end, Level::Info)?;
        Ok(Aftermath::Next)
    }

    /// A report made here, where no worker made one.
    async fn failure_report(
        &self,
        task: &Task,
        code: &str,
        message: &str,
    ) -> Result<Report, Trouble> {
        let (task, sha256) = (task.clone(), self.claim.sha256.clone());
        let notice = Notice { code: code.to_owned(), message: message.to_owned() };
        let report = blocking(move || {
            let error = ConvertError::Media(MediaError::Unusable {
                path: task.source.clone(),
                code: "not_converted",
                reason: notice.message.clone(),
            });
            let mut report = failure_report(&task, &error);
            report.source.sha256.get_or_insert(sha256);
            report.errors = vec![notice];
            report
        })
        .await?;
        Ok(report)
    }

    async fn publish_report(&self, mut report: Report, word: &str) -> Result<PathBuf, Trouble> {
        report.source.sha256.get_or_insert_with(|| self.claim.sha256.clone());
        let below = self.claim.relative.parent().unwrap_or(Path::new(""));
        let folder = self.watch.output.join(below);
        let path = folder.join(names::report_name_without_output(&self.claim.relative, word));
        let published = blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|source| PublishError::Io {
                path: folder,
                action: "cannot be created",
                source,
            })?;
            publish::publish_report(&path, &report)
        });
        Ok(published.await??)
    }

    fn again(
        &self,
        count: Count,
        pause_ms: i64,
        code: &str,
        message: &str,
        aftermath: Aftermath,
    ) -> Result<Aftermath, DaemonError> {
        let again = Again { count, next_try_ms: now_ms() + pause_ms, code, message };
        self.shop.journal().again(&self.claim, &again)?;
        let level = if count == Count::Nothing { Level::Info } else { Level::Warn };
        let after =
            if pause_ms > 0 { format!("; again in {} s", pause_ms / 1000) } else { String::new() };
        let message = format!("{message}{after}");
        service::log_job(level, &self.claim, "queued", &message);
        Ok(aftermath)
    }

    fn delay(
        &self,
        code: &str,
        message: &str,
        aftermath: Aftermath,
    ) -> Result<Aftermath, DaemonError> {
        let pause_ms = verdict::pause_ms(self.claim.delays);
        self.again(Count::Delay, pause_ms, code, message, aftermath)
    }

    fn cancel(&self, code: &str, message: &str) -> Result<Aftermath, DaemonError> {
        let end = End {
            state: "cancelled",
            code,
            message,
            report_path: None,
            duplicate_of: None,
            original: Original::Kept,
        };
        self.end(&end, Level::Warn)?;
        Ok(Aftermath::LookAgain)
    }

    fn end(&self, end: &End<'_>, level: Level) -> Result<(), DaemonError> {
        self.shop.journal().end(&self.claim, end, now_ms())?;
        service::log_job(level, &self.claim, end.state, end.message);
        Ok(())
    }
}

/// Runs what waits for disks off the daemon's one thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Trouble::Passing(format!("a task of the daemon's own failed: {error}")))
}
