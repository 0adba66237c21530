//! One job from its claim to its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::Level;
use tokio::sync::watch;

use crate::config::file::{Daemon, Watch};
use crate::daemon::DaemonError;
use crate::daemon::durable;
use crate::daemon::errands::Errands;
use crate::daemon::filesystem;
use crate::daemon::journal::{Again, Claim, Count, End, Journal, JournalError, Original};
use crate::daemon::moves::Moves;
use crate::daemon::names;
use crate::daemon::output_lock::{OutputLock, OutputLocks};
use crate::daemon::protocol::{Failure, News, Request, WireTask};
use crate::daemon::publish;
use crate::daemon::refusal;
use crate::daemon::said::Said;
use crate::daemon::service;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::surroundings::{Lacks, WaitedFor};
use crate::daemon::trouble::Trouble;
use crate::daemon::verdict::{self, Verdict};
use crate::daemon::worker::{self, Ended, Limits, WorkerCommand};
use crate::pipeline::Task;
use crate::pipeline::room;
use crate::pipeline::segments::Rule;
use crate::report::Status;

/// How often progress is written to the journal.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long, in milliseconds, a claim holds without news: what other machines could go by, as none does yet.
pub const LEASE_MS: i64 = 60_000;
/// Why a job waits whose folder is not there, as the journal keeps it.
pub const OFFLINE: &str = "offline";

/// What jobs need of the daemon.
#[derive(Debug)]
pub struct Shop {
    /// The journal; locked for single statements only.
    pub journal: Mutex<Journal>,
    /// How workers are started.
    pub command: WorkerCommand,
    /// Which output folders are this daemon's.
    pub locks: OutputLocks,
    /// What file systems are being asked.
    pub errands: Errands,
    /// Which originals could not be moved lately.
    pub moves: Moves,
    /// Which clips were found to lack their end.
    pub lacks: Lacks,
    /// What was said of leftovers and publications.
    pub said: Said,
    rules: Mutex<Rules>,
}

/// What a reload may change for the jobs that begin after it.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long workers may take.
    pub limits: Limits,
    /// Bytes that stay free.
    pub reserve_bytes: u64,
    /// How long a clip without its end is waited for.
    pub grace: Duration,
}

impl Rules {
    /// As configured.
    #[must_use]
    pub fn of(daemon: &Daemon) -> Self {
        let limits = Limits { stall: daemon.stall_timeout, stop: daemon.stop_timeout };
        Self { limits, reserve_bytes: daemon.reserve_bytes, grace: daemon.grace }
    }
}

impl Shop {
    /// A shop without locks yet.
    #[must_use]
    pub fn new(journal: Journal, command: WorkerCommand, rules: Rules) -> Self {
        let (journal, rules) = (Mutex::new(journal), Mutex::new(rules));
        let (locks, errands) = (OutputLocks::default(), Errands::default());
        let (moves, lacks) = (Moves::default(), Lacks::default());
        Self { journal, command, locks, errands, moves, lacks, said: Said::default(), rules }
    }

    /// The rules as they are now.
    pub fn rules(&self) -> Rules {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that begin from now on go by these rules.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// The journal. A thread that panicked while holding it left whole statements behind.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies in place of the output folder in which `path` is, as far as the journal knows these.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn replaced(&self, path: &Path) -> Result<Option<String>, JournalError> {
        let output = self.output_around(path)?;
        Ok(output.and_then(|(folder, root)| filesystem::replaced(&folder, &root)))
    }

    /// The output folder in which `path` is, and what it was when its lock was taken. What was an output in an earlier
    /// configuration may have been anything, so it says nothing where one of the configured is around.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn output_around(&self, path: &Path) -> Result<Option<(PathBuf, String)>, JournalError> {
        let around = self.journal().outputs()?.into_iter().filter(|it| path.starts_with(&it.0));
        let rank = |it: &(PathBuf, String)| (self.locks.knows(&it.0), it.0.components().count());
        Ok(around.max_by_key(rank))
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
    on_news: &mut (dyn FnMut(News) + Send),
) -> Result<Aftermath, DaemonError> {
    let lock = shop.locks.of(&watch.output);
    let mut job = Job { shop, watch, claim, lock };
    match job.attempt(stop, on_news).await {
        // The folder's fault, or the system's: it may pass.
        Err(Trouble::Passing(message)) => {
            job.delay("io", &message, Aftermath::Pause(message.clone()))
        }
        Err(Trouble::Fatal(error)) => Err(error),
        Ok(aftermath) => Ok(aftermath),
    }
}

pub(super) type Attempt = Result<Aftermath, Trouble>;

pub(super) struct Job {
    pub(super) shop: Arc<Shop>,
    pub(super) watch: Watch,
    pub(super) claim: Claim,
    /// Of the output folder, as it was when the job began.
    pub(super) lock: Option<Arc<OutputLock>>,
}

impl Job {
    async fn attempt(
        &mut self,
        stop: watch::Receiver<bool>,
        on_news: &mut (dyn FnMut(News) + Send),
    ) -> Attempt {
        // The content is hashed before and after the work.
        if let Some(aftermath) = self.source_trouble(Snapshot::same_size_and_time)? {
            return Ok(aftermath);
        }
        self.note_list()?;
        let task = self.task();
        // Before anything else gets a temporary name: the journal keeps one.
        if let Some(message) = self.remove_earlier(&task)? {
            return Ok(self.delay("not_tidied", &message, Aftermath::Next)?);
        }
        if let Some(aftermath) = self.end_if_known(&task).await? {
            return Ok(aftermath);
        }
        let folder = task.output.parent().unwrap_or(Path::new("/"));
        if let Some(why) = self.shop.replaced(folder)? {
            return Err(Trouble::Passing(not_there(folder, &why)));
        }
        durable::create_folders(folder).map_err(|error| {
            Trouble::Passing(format!("{}: cannot be created: {error}", folder.display()))
        })?;
        // Whether the output fits, the worker sees, which opens the clip.
        let reserve_bytes = self.shop.rules().reserve_bytes;
        if let Some(message) = room::trouble(folder, reserve_bytes, reserve_bytes) {
            return Ok(self.delay("no_space", &message, Aftermath::Pause(message.clone()))?);
        }
        self.shop.journal().writing(&self.claim, &task.temporary)?;
        service::log_job(Level::Info, &self.claim, "running", "");
        let ended = self.run_worker(&task, stop, on_news).await?;
        let aftermath = self.conclude(&task, ended).await?;
        Ok(aftermath)
    }

    pub(super) fn source(&self) -> PathBuf {
        self.watch.path.join(&self.claim.relative)
    }

    pub(super) fn task(&self) -> Task {
        let claim = &self.claim;
        let below = claim.relative.parent().unwrap_or(Path::new(""));
        let settings = self.watch.settings();
        let name = names::output_name(&claim.relative, &settings);
        let output = self.watch.output.join(below).join(name);
        let tag = self.shop.journal().tag();
        let temporary = names::temporary_of(&output, &tag, claim.job, claim.attempt);
        let parts = names::parts_of_temporary(&temporary);
        let segments = Rule::default();
        let settings_sha256 = Some(claim.deciding_sha256());
        let source = self.source();
        Task { source, temporary, parts, segments, output, settings, settings_sha256 }
    }

    /// What an earlier attempt left: its unfinished output, and segments that were kept under another name or in another
    /// folder, before the configuration changed. They are known by the journal's note of that name alone, so the job waits
    /// where they cannot be removed: a sentence.
    fn remove_earlier(&self, task: &Task) -> Result<Option<String>, DaemonError> {
        let earlier = self.shop.journal().temporary(&self.claim)?;
        // Whatever became of the journal, nothing but temporary files is removed.
        let is_left = |it: &PathBuf| it.file_name().is_some_and(names::is_temporary);
        let Some(temporary) = earlier.filter(is_left) else { return Ok(None) };
        if names::parts_of_temporary(&temporary) == task.parts {
            // Its segments are for this attempt.
            return Ok(publish::remove_temporary(&temporary).err().map(|it| it.to_string()));
        }
        let folder = temporary.parent().unwrap_or(Path::new("/"));
        let is_known = self.shop.journal().outputs()?.iter().any(|it| folder.starts_with(&it.0));
        if let Some(why) = self.shop.replaced(folder)? {
            let message = format!("{}: segments lie there, but {why}: mount it", folder.display());
            return Ok(Some(message));
        }
        if !is_known && !folder.is_dir() {
            let message = format!("{}: segments lie there: mount it or make it", folder.display());
            return Ok(Some(message));
        }
        Ok(publish::remove_attempts(&temporary).err().map(|error| error.to_string()))
    }

    async fn run_worker(
        &self,
        task: &Task,
        stop: watch::Receiver<bool>,
        on_news: &mut (dyn FnMut(News) + Send),
    ) -> Result<Ended, DaemonError> {
        let (mut written, mut problem) = (Instant::now(), None);
        let mut note = |news: News| {
            if let News::Progress(progress) = &news
                && written.elapsed() >= PROGRESS_EVERY
            {
                let result =
                    self.shop.journal().progress(&self.claim, progress, now_ms(), LEASE_MS);
                problem = problem.take().or(result.err());
                written = Instant::now();
            }
            on_news(news);
        };
        let Rules { limits, reserve_bytes, .. } = self.shop.rules();
        let request = Request::Convert(Box::new(WireTask::new(task, reserve_bytes)));
        let command = &self.shop.command;
        let ended = worker::run(command, &request, limits, stop, &mut note).await;
        match problem {
            Some(error) => Err(error.into()),
            None => Ok(ended),
        }
    }

    async fn conclude(&self, task: &Task, ended: Ended) -> Attempt {
        let waited_for = self.waited_for(&ended).await?;
        let verdict = match ended {
            Ended::Report(report) => return self.publish(task, *report).await,
            Ended::Failed(failure) => {
                let usual = || verdict::on_failure(&failure, &self.claim);
                let verdict = self.lost_end(&failure.code).unwrap_or_else(usual);
                return self.pass(task, verdict, *failure).await;
            }
            Ended::Stopped => {
                let (code, why) = match waited_for == WaitedFor::Folder {
                    true => ("no_answer", "it was set aside: its folder does not answer"),
                    false => ("stopped", "it was asked to stop"),
                };
                return Ok(self.again(Count::Nothing, 0, code, why, Aftermath::Next)?);
            }
            Ended::Crashed(why) => (verdict::on_crash(&self.claim), "worker_crashed", why),
            Ended::Killed(why) => (verdict::on_kill(&self.claim), "worker_killed", why),
            Ended::Hung(after) => {
                let why = format!("no progress for {} s", after.as_secs_f64());
                let claim = &self.claim;
                match waited_for {
                    WaitedFor::Folder => {
                        let why = format!("{why}: its folder does not answer");
                        (verdict::on_delay(claim), "no_answer", why)
                    }
                    WaitedFor::Device(fault) => {
                        let pause_ms = verdict::pause_ms(claim.delays);
                        let why = format!("{why}, and its device does not open: {fault}");
                        (Verdict::PauseFolder { pause_ms }, "device_hung", why)
                    }
                    WaitedFor::Nobody => (verdict::on_crash(claim), "worker_hung", why),
                }
            }
            Ended::NotStarted(error) => (
                verdict::on_delay(&self.claim),
                "worker_not_started",
                format!("the worker cannot be started: {error}"),
            ),
            Ended::Probed(_) | Ended::Opened(_) => {
                let why = "the worker answered something else".to_owned();
                (verdict::on_crash(&self.claim), "worker_crashed", why)
            }
        };
        let (verdict, code, message) = verdict;
        // A worker that died could not tidy up.
        let tidied = match code {
            // Taking up the segments may have been what it crashed at.
            "worker_crashed" => publish::remove_attempts(&task.temporary),
            _ => publish::remove_temporary(&task.temporary),
        };
        if let Err(error) = tidied {
            // It is tried again with the leftovers, and before the next attempt; the verdict holds.
            service::log_job(Level::Warn, &self.claim, "not tidied", &error.to_string());
        }
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
                let stall = self.shop.rules().limits.stall;
                let ground = refusal::ground(&code, &self.claim, stall);
                let mut report = match failure.report {
                    Some(report) => *report,
                    None => self.failure_report(task, &code, &message).await?,
                };
                report.status = status;
                let path = self.publish_report(task, report, state).await?;
                let end = End {
                    state,
                    code: &code,
                    message: &message,
                    report_path: Some(&path),
                    duplicate_of: None,
                    original: Original::Kept,
                    ground: ground.as_deref(),
                };
                let level = if state == "failed" { Level::Error } else { Level::Warn };
                self.end(&end, level)?;
                Ok(Aftermath::Next)
            }
        }
    }

    pub(super) fn again(
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

    pub(super) fn delay(
        &self,
        code: &str,
        message: &str,
        aftermath: Aftermath,
    ) -> Result<Aftermath, DaemonError> {
        let pause_ms = verdict::pause_ms(self.claim.delays);
        self.again(Count::Delay, pause_ms, code, message, aftermath)
    }

    pub(super) fn cancel(&self, code: &str, message: &str) -> Result<Aftermath, DaemonError> {
        let end = End {
            state: "cancelled",
            code,
            message,
            report_path: None,
            duplicate_of: None,
            original: Original::Kept,
            ground: None,
        };
        self.end(&end, Level::Warn)?;
        Ok(Aftermath::LookAgain)
    }

    pub(super) fn end(&self, end: &End<'_>, level: Level) -> Result<(), DaemonError> {
        let _ = publish::remove_attempts(&self.task().temporary);
        self.shop.journal().end(&self.claim, end, now_ms())?;
        service::log_job(level, &self.claim, end.state, end.message);
        Ok(())
    }
}

/// What is said where something else lies in place of the output folder.
pub(super) fn not_there(folder: &Path, why: &str) -> String {
    format!("{}: the output folder is not there: {why}", folder.display())
}

/// Runs what waits for disks off the daemon's one thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Trouble::Passing(format!("a task of the daemon's own failed: {error}")))
}
