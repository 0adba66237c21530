//! The daemon's one loop: hints and scans in, jobs out, until a signal.
//!
//! Everything that takes time runs beside it (scans and hashes on threads, probes and conversions in processes) and
//! reports back as an [`Event`]. One clip is converted at a time; it has all processors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::file::{Config, Ready};
use crate::daemon::DaemonError;
use crate::daemon::folders::{Extent, Folders};
use crate::daemon::hints::Hints;
use crate::daemon::intake::{Checked, Identities};
use crate::daemon::job::{Aftermath, OFFLINE, Shop, now_ms};
use crate::daemon::journal::Journal;
use crate::daemon::known_files::KnownFiles;
use crate::daemon::order::{Checks, FirstReads, Turns};
use crate::daemon::original;
use crate::daemon::output_lock::OutputLocks;
use crate::daemon::protocol::Request;
use crate::daemon::recover;
use crate::daemon::service::Notifier;
use crate::daemon::settle::Settler;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::verdict;
use crate::daemon::watch::{Found, ScanProblems};
use crate::daemon::worker::{self, Ended, Limits, WorkerCommand};
use crate::error::{Consequence, ExitCode};
use crate::pipeline::Progress;

/// Events that wait; each may be a page of files.
const EVENTS: usize = 32;
/// Files that are looked into at a time.
const MOST_CHECKS: usize = 2;
/// The same while a clip is worked.
const MOST_CHECKS_BESIDE_A_JOB: usize = 1;
/// A clock that went back by less is let be.
const CLOCK_STEP_MS: i64 = 5_000;
/// The loop turns at least this often.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// And at the most this often.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// What the end may take beyond the worker's own time to stop.
const END_TIME: Duration = Duration::from_secs(10);

/// A file: the number of its folder, and its path below it.
pub(super) type FileKey = (usize, PathBuf);

/// What a look into a file found.
pub(super) type Finding = (FileKey, Snapshot, Checked);

/// What reports back to the loop.
pub(super) enum Event {
    Found(usize, Vec<Found>),
    Scanned { folder: usize, extent: Extent, result: std::io::Result<ScanProblems> },
    Checked { number: u64, finding: Finding },
    Progress(Progress),
    HouseKept(Result<(), DaemonError>),
    JobEnded(Result<Aftermath, DaemonError>),
}

/// The running job.
pub(super) struct Running {
    pub(super) job: i64,
    pub(super) key: FileKey,
    pub(super) name: String,
    pub(super) progress: Progress,
    pub(super) advanced: Instant,
}

/// All that the loop keeps.
pub(super) struct Daemon {
    pub(super) config: Config,
    pub(super) shop: Arc<Shop>,
    pub(super) owner: String,
    pub(super) folders: Folders,
    pub(super) hints: Hints,
    /// How often change events were lost.
    pub(super) overflows: u64,
    /// Files that scans need not ask the journal for; shared with their threads.
    pub(super) known_files: Arc<Mutex<KnownFiles>>,
    pub(super) settler: Settler<FileKey>,
    /// Files whose grace time is over: they become jobs without being probed.
    pub(super) overdue: HashMap<FileKey, Snapshot>,
    pub(super) checks: Checks<Finding>,
    pub(super) first_reads: FirstReads,
    pub(super) identities: Identities,
    /// Turns of jobs; files have turns of their own.
    pub(super) turns: Turns,
    pub(super) next_locks: Instant,
    pub(super) running: Option<Running>,
    /// Whether jobs may be waiting: an idle daemon does not ask the journal for them again and again.
    pub(super) may_start: bool,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) notifier: Notifier,
    pub(super) fallback: Option<String>,
    pub(super) started_ms: i64,
    /// The same instant by the monotonic clock and by the system's.
    pub(super) clock: (Instant, i64),
    /// The last line, and when it was written.
    pub(super) described: (String, Option<Instant>),
    pub(super) next_description: Instant,
    pub(super) next_housekeeping: Instant,
    pub(super) housekeeping: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`] where it cannot begin or go on.
pub fn run(config: Config, command: WorkerCommand) -> Result<(), DaemonError> {
    // One thread runs the loop and starts all workers: they are told to die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| io_error("the daemon cannot start", source))?;
    let result = runtime.block_on(serve(config, command));
    // A hash of a large file or a scan of a share that hangs does not hold the end up.
    runtime.shutdown_background();
    result
}

/// How many milliseconds the system's clock went back against the monotonic one between two instants; `None` where it
/// did not, or by a little only. (Forward is no harm: jobs are due early.)
fn set_back_by(before: (Instant, i64), now: (Instant, i64)) -> Option<i64> {
    let elapsed = i64::try_from(now.0.duration_since(before.0).as_millis()).unwrap_or(i64::MAX);
    let step_ms = before.1.saturating_add(elapsed).saturating_sub(now.1);
    (step_ms >= CLOCK_STEP_MS).then_some(step_ms)
}

fn io_error(action: &'static str, source: std::io::Error) -> DaemonError {
    DaemonError::Io { path: PathBuf::from("slomod"), action, source }
}

async fn serve(config: Config, command: WorkerCommand) -> Result<(), DaemonError> {
    let catch = |kind| signal(kind).map_err(|source| io_error("signals cannot be caught", source));
    let mut signals = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let state_dir = config.daemon.state_dir.clone();
    let _lock = recover::lock(&state_dir)?;
    let journal = Journal::open(&state_dir)?;
    let limits = Limits { stall: config.daemon.stall_timeout, stop: config.daemon.stop_timeout };
    let reserve_bytes = config.daemon.reserve_bytes;
    let locks = OutputLocks::default();
    let shop = Shop { journal: Mutex::new(journal), command, limits, reserve_bytes, locks };
    let (stop, stopped) = watch::channel(false);
    let fallback = tokio::select! {
        result = open_engines(&config, &shop, stopped) => result?,
        () = first(&mut signals) => return Ok(()),
    };
    let hints = Hints::start(&config.daemon.extensions);
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let mut daemon = Daemon::begin(config, shop, hints, events, stop)?;
    daemon.fallback = fallback;
    daemon.turn()?;
    daemon.notifier.ready();
    log::info!("slomod {} is ready", env!("CARGO_PKG_VERSION"));
    loop {
        let pause = daemon.pause();
        tokio::select! {
            () = first(&mut signals) => break,
            () = daemon.hints.news() => {}
            Some(event) = inbox.recv() => daemon.event(event)?,
            () = tokio::time::sleep(pause) => {}
        }
        for hint in daemon.hints.take() {
            daemon.hint(&hint)?;
        }
        daemon.turn()?;
    }
    daemon.finish(&mut inbox).await
}

async fn first(signals: &mut (Signal, Signal)) {
    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
    }
}

/// Opens device and weights of every folder once, so that what is wrong with them shows at the start. Returns why a GPU
/// is not used where it might have been.
async fn open_engines(
    config: &Config,
    shop: &Shop,
    stop: watch::Receiver<bool>,
) -> Result<Option<String>, DaemonError> {
    let (mut opened, mut fallback) = (Vec::new(), None);
    for watch in &config.watches {
        let settings = watch.settings();
        let engine = (settings.model.clone(), settings.device, settings.scale);
        if opened.contains(&engine) {
            continue;
        }
        opened.push(engine);
        let request = Request::Open(Box::new(settings));
        let unfit = |reason, consequence, exit_code| {
            Err(DaemonError::Engine { reason, consequence, exit_code })
        };
        let (command, limits) = (&shop.command, shop.limits);
        match worker::run(command, &request, limits, stop.clone(), &mut |_| {}).await {
            Ended::Opened(description) => fallback = fallback.or(description.fallback_reason),
            Ended::Failed(failure) => {
                return unfit(failure.message, failure.consequence, failure.exit_code);
            }
            other => {
                let reason = format!("the network cannot be opened: {other:?}");
                return unfit(reason, Consequence::Retry, ExitCode::Software);
            }
        }
    }
    Ok(fallback)
}

impl Daemon {
    /// Brings the journal in order.
    fn begin(
        config: Config,
        shop: Shop,
        hints: Hints,
        events: mpsc::Sender<Event>,
        stop: watch::Sender<bool>,
    ) -> Result<Self, DaemonError> {
        let (now, started_ms) = (Instant::now(), now_ms());
        let owner = format!("{}-{started_ms}", std::process::id());
        let mut journal = shop.journal();
        recover::recover(&mut journal, &config, &owner, started_ms)?;
        journal.limit_waiting(verdict::LONGEST_PAUSE_MS, started_ms)?;
        drop(journal);
        Ok(Self {
            folders: Folders::new(&config, now),
            shop: Arc::new(shop),
            owner,
            hints,
            overflows: 0,
            known_files: Arc::default(),
            settler: Settler::grouped(|key: &FileKey| key.0),
            overdue: HashMap::new(),
            checks: Checks::default(),
            first_reads: FirstReads::default(),
            identities: Identities::default(),
            turns: Turns::default(),
            next_locks: now,
            running: None,
            may_start: true,
            events,
            stop,
            notifier: Notifier::new(now),
            fallback: None,
            started_ms,
            clock: (now, started_ms),
            described: (String::new(), None),
            next_description: now,
            next_housekeeping: now,
            housekeeping: false,
            config,
        })
    }

    /// How long the loop may sleep.
    fn pause(&self) -> Duration {
        let due = self.settler.next_due().filter(|_| self.checks.open() < self.most_checks());
        let until = due.map_or(TICK, |due| due.saturating_duration_since(Instant::now()));
        until.clamp(SHORTEST_TICK, TICK)
    }

    /// Everything that has become due.
    fn turn(&mut self) -> Result<(), DaemonError> {
        let now = Instant::now();
        if let Some(step_ms) = set_back_by(self.clock, (now, now_ms())) {
            log::warn!("the clock was set back by {} s", step_ms / 1000);
            self.shop.journal().clock_set_back(step_ms)?;
            self.clock = (now, now_ms());
        }
        let overflows = self.hints.take_overflows();
        if overflows > 0 {
            self.overflows += overflows;
            let total = self.overflows;
            log::warn!(
                "change events were lost ({total} times since the start): all folders are read"
            );
            self.folders.scan_all(now);
        }
        for folder in self.folders.look(self.hints.watches(), now) {
            self.folder_came(folder)?;
        }
        for (folder, extent) in self.folders.take_scans(self.hints.watches(), now) {
            self.start_scan(folder, extent);
        }
        self.check_what_is_due(now)?;
        if now >= self.next_locks {
            self.next_locks = now + self.config.daemon.poll_interval;
            let outputs = self.config.watches.iter().map(|it| it.output.as_path());
            self.shop.locks.look(outputs, &self.shop.journal)?;
        }
        if now >= self.next_housekeeping && !self.housekeeping {
            self.next_housekeeping = now + self.config.daemon.poll_interval;
            self.keep_house()?;
        }
        if self.running.is_none() {
            self.start_job(now)?;
        }
        self.describe(now)
    }

    fn most_checks(&self) -> usize {
        if self.running.is_some() { MOST_CHECKS_BESIDE_A_JOB } else { MOST_CHECKS }
    }

    /// Looks into files whose turn it is, and passes on what earlier looks found.
    fn check_what_is_due(&mut self, now: Instant) -> Result<(), DaemonError> {
        while let Some((key, snapshot, checked)) = self.checks.pass_on(now) {
            self.checked(key, snapshot, checked)?;
        }
        while self.checks.open() < self.most_checks() {
            let (folders, reads) = (&self.folders, &self.first_reads);
            let priority = |folder: usize| {
                let watch = &folders.list[folder].watch;
                let settle = folders.times(folder, Path::new("")).settle;
                // Where a rename says that a clip is complete, nothing waits for the others.
                let allowed = watch.ready == Ready::Rename || reads.allow(folder, settle, now);
                allowed.then_some(watch.priority)
            };
            let Some((key, snapshot)) = self.settler.take_due_of(now, priority) else { break };
            self.start_check(key, snapshot, now)?;
        }
        Ok(())
    }

    /// Completes publications and moves originals, now or where a folder was not there earlier. Beside the loop: both
    /// may read a large file.
    fn keep_house(&mut self) -> Result<(), DaemonError> {
        self.housekeeping = true;
        let running = self.running.as_ref().map(|it| it.job);
        // Listed here, so that no job that starts from now on is among them.
        let journal = self.shop.journal();
        let (leftovers, mut interrupted) = (journal.leftovers()?, journal.unpublished()?);
        drop(journal);
        interrupted.retain(|(claim, _)| running != Some(claim.job));
        let (shop, events) = (Arc::clone(&self.shop), self.events.clone());
        let watches = self.config.watches.clone();
        tokio::task::spawn_blocking(move || {
            let result = recover::remove_leftovers(&shop, leftovers)
                .and_then(|()| recover::finish_publications(&shop, &watches, interrupted))
                .and_then(|()| Ok(original::move_pending(&shop, &watches)?));
            // The receiver is gone only where the daemon ends.
            let _ = events.blocking_send(Event::HouseKept(result));
        });
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), DaemonError> {
        match event {
            Event::Found(folder, files) => {
                for file in files {
                    self.seen((folder, file.relative), file.snapshot)?;
                }
            }
            Event::Scanned { folder, extent, result } => self.scanned(folder, &extent, result),
            Event::Checked { number, finding } => self.checks.finish(number, finding),
            Event::Progress(progress) => {
                if let Some(running) = &mut self.running {
                    if running.progress != progress {
                        running.advanced = Instant::now();
                    }
                    running.progress = progress;
                }
            }
            Event::HouseKept(result) => {
                self.housekeeping = false;
                result?;
            }
            Event::JobEnded(result) => self.job_ended(result)?,
        }
        Ok(())
    }

    /// A folder is there (again): its jobs that waited for it are due.
    fn folder_came(&mut self, folder: usize) -> Result<(), DaemonError> {
        // Something else may be mounted there, with files of the same names.
        self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let path = self.folders.list[folder].watch.path.to_string_lossy();
        Ok(self.shop.journal().wake(&path, OFFLINE, now_ms())?)
    }

    /// Stops the worker, puts its job back into the queue, and ends.
    async fn finish(mut self, inbox: &mut mpsc::Receiver<Event>) -> Result<(), DaemonError> {
        log::info!("stopping");
        self.notifier.stopping();
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + self.config.daemon.stop_timeout + END_TIME;
        while self.running.is_some() {
            match tokio::time::timeout_at(deadline, inbox.recv()).await {
                Ok(Some(Event::JobEnded(result))) => {
                    self.running = None;
                    result?;
                }
                Ok(Some(_)) => {}
                // What is left is found by the next start.
                Ok(None) | Err(_) => break,
            }
        }
        self.shop.journal().forget_daemon()?;
        self.shop.locks.release();
        log::info!("stopped");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W12.
    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_one_that_goes_or_jumps_ahead_is_let_be() {
        let begin = Instant::now();
        let later = |seconds| begin + Duration::from_secs(seconds);
        let hour_ms = 3_600_000;
        assert_eq!(set_back_by((begin, 0), (later(10), 10_000)), None);
        assert_eq!(set_back_by((begin, 0), (later(10), 10_000 + hour_ms)), None);
        assert_eq!(set_back_by((begin, 0), (later(10), 10_000 - hour_ms)), Some(hour_ms));
        assert_eq!(set_back_by((begin, 0), (later(10), 9_000)), None, "slewing");
    }
}
