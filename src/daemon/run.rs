//! The daemon's one loop: hints and scans in, jobs out, until a signal.
//!
//! Everything that takes time runs beside it (scans and hashes on threads, probes and conversions in processes) and
//! reports back as an [`Event`]. One clip is converted at a time; it has all processors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::file::{Config, Ready};
use crate::daemon::DaemonError;
use crate::daemon::after::EndedJob;
use crate::daemon::asked::Control;
use crate::daemon::control::{Answer, server};
use crate::daemon::engines;
use crate::daemon::events::Kind;
use crate::daemon::folders::{Extent, Folders};
use crate::daemon::hints::Hints;
use crate::daemon::hooks::Hooks;
use crate::daemon::intake::{Checked, Identities};
use crate::daemon::job::{Aftermath, OFFLINE, Rules, Shop, now_ms};
use crate::daemon::journal::Journal;
use crate::daemon::known_files::KnownFiles;
use crate::daemon::metrics::Tally;
use crate::daemon::order::{Checks, FirstReads, Turns};
use crate::daemon::original;
use crate::daemon::pause;
use crate::daemon::protocol::News;
use crate::daemon::pulse::Pulse;
use crate::daemon::recover;
use crate::daemon::reload::{Prepared, Reload};
use crate::daemon::service::{self, Notifier};
use crate::daemon::settle::Settler;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::verdict;
use crate::daemon::watch::{Found, ScanProblems};
use crate::daemon::worker::WorkerCommand;
use crate::engine::EngineDescription;
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
    Found { folder: (usize, u64), files: Vec<Found> },
    Scanned { folder: (usize, u64), extent: Extent, result: std::io::Result<ScanProblems> },
    Checked { number: u64, finding: Finding },
    News(News),
    HouseKept { result: Result<(), DaemonError>, interrupted: Vec<i64> },
    Ended(Option<Box<EndedJob>>),
    Reloaded(Box<Result<Prepared, String>>),
    Probed(Result<Vec<EngineDescription>, DaemonError>),
    JobEnded(Result<Aftermath, DaemonError>),
}

/// The running job.
pub(super) struct Running {
    pub(super) job: i64,
    pub(super) key: FileKey,
    pub(super) name: String,
    pub(super) progress: Progress,
    /// Whether its work advances.
    pub(super) pulse: Pulse,
    /// Asks its worker to stop.
    pub(super) stop: watch::Sender<bool>,
    /// Who wants it cancelled.
    pub(super) cancelled_for: Vec<oneshot::Sender<Answer>>,
    /// How many reloads there had been when it began.
    pub(super) reloads: u64,
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
    /// What the network runs on, as far as is known.
    pub(super) device: Option<EngineDescription>,
    /// Its free memory when the last clip began, where it has memory of its own.
    pub(super) device_free_bytes: Option<u64>,
    pub(super) next_probe: Instant,
    pub(super) probing: bool,
    pub(super) control: Control,
    pub(super) reload: Reload,
    /// Since when no clip is begun.
    pub(super) paused: Option<String>,
    /// Waiting jobs by folders that are not configured.
    pub(super) orphans: Vec<(String, u64)>,
    pub(super) tally: Tally,
    pub(super) hooks: Hooks,
    /// Ended jobs whose reports are being read.
    pub(super) looking_after: usize,
    pub(super) started_ms: i64,
    /// The same instant by the monotonic clock and by the system's.
    pub(super) clock: (Instant, i64),
    /// The last line, and when it was written.
    pub(super) described: (String, Option<Instant>),
    pub(super) next_description: Instant,
    pub(super) next_housekeeping: Instant,
    pub(super) housekeeping: bool,
}

/// Runs until SIGTERM or SIGINT, with `config`, which was read from `path` and is read again at SIGHUP.
///
/// # Errors
/// [`DaemonError`] where it cannot begin or go on.
pub fn run(path: &Path, config: Config, command: WorkerCommand) -> Result<(), DaemonError> {
    // One thread runs the loop and starts all workers: they are told to die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| io_error("the daemon cannot start", source))?;
    let result = runtime.block_on(serve(path, config, command));
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

async fn serve(path: &Path, config: Config, command: WorkerCommand) -> Result<(), DaemonError> {
    let catch = |kind| signal(kind).map_err(|source| io_error("signals cannot be caught", source));
    let mut signals = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let mut hangup = catch(SignalKind::hangup())?;
    let state_dir = config.daemon.state_dir.clone();
    let _lock = recover::lock(&state_dir)?;
    let journal = Journal::open(&state_dir)?;
    let rules = Rules::of(&config.daemon);
    let shop = Shop::new(journal, command, rules);
    let (stop, stopped) = watch::channel(false);
    service::starting("opening device and weights");
    let opened = tokio::select! {
        result = engines::open(&config, &[], &shop.command, rules.limits, stopped) => result?,
        () = first(&mut signals) => return Ok(()),
    };
    let hints = Hints::start(&config.daemon.extensions);
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let mut asked = server::Inbox::default();
    let outside = (Control::new(asked.sender()), Reload::of(path.to_owned()));
    let mut daemon = Daemon::begin(config, shop, hints, outside, (events, stop))?;
    if let Some(device) = engines::foremost(opened) {
        daemon.device_is(device);
    }
    daemon.turn()?;
    daemon.notifier.ready();
    log::info!(MESSAGE_ID = Kind::Ready.id(); "slomod {} is ready", env!("CARGO_PKG_VERSION"));
    loop {
        let pause = daemon.pause();
        tokio::select! {
            () = first(&mut signals) => break,
            () = daemon.hints.news() => {}
            Some(event) = inbox.recv() => daemon.event(event)?,
            Some(asked) = asked.next() => daemon.asked(asked)?,
            _ = hangup.recv() => daemon.reload_asked(None),
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

impl Daemon {
    /// Brings the journal in order.
    fn begin(
        config: Config,
        shop: Shop,
        hints: Hints,
        (control, reload): (Control, Reload),
        (events, stop): (mpsc::Sender<Event>, watch::Sender<bool>),
    ) -> Result<Self, DaemonError> {
        let (now, started_ms) = (Instant::now(), now_ms());
        let owner = format!("{}-{started_ms}", std::process::id());
        let mut journal = shop.journal();
        recover::recover(&mut journal, &config, &owner, started_ms)?;
        journal.limit_waiting(verdict::LONGEST_PAUSE_MS, started_ms)?;
        drop(journal);
        let paused = pause::read(&config.daemon.state_dir)?;
        let mut daemon = Self {
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
            device: None,
            device_free_bytes: None,
            next_probe: now,
            probing: false,
            control,
            reload,
            paused,
            orphans: Vec::new(),
            tally: Tally::new(),
            hooks: Hooks::start(),
            looking_after: 0,
            started_ms,
            clock: (now, started_ms),
            described: (String::new(), None),
            next_description: now,
            next_housekeeping: now,
            housekeeping: false,
            config,
        };
        daemon.find_orphans()?;
        Ok(daemon)
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
            log::warn!(MESSAGE_ID = Kind::ClockSetBack.id(); "the clock was set back by {} s", step_ms / 1000);
            self.shop.journal().clock_set_back(step_ms)?;
            self.clock = (now, now_ms());
        }
        let overflows = self.hints.take_overflows();
        if overflows > 0 {
            self.overflows += overflows;
            let total = self.overflows;
            log::warn!(
                MESSAGE_ID = Kind::EventsLost.id();
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
            self.control.look(&self.config.daemon);
        }
        if now >= self.next_housekeeping && !self.housekeeping {
            self.next_housekeeping = now + self.config.daemon.poll_interval;
            self.keep_house()?;
        }
        if self.running.is_none() && self.paused.is_none() {
            self.start_job(now)?;
        }
        self.look_for_device(now);
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
        let jobs = interrupted.iter().map(|(claim, _)| claim.job).collect();
        tokio::task::spawn_blocking(move || {
            let result = recover::remove_leftovers(&shop, leftovers)
                .and_then(|()| recover::finish_publications(&shop, &watches, interrupted))
                .and_then(|()| Ok(original::move_pending(&shop, &watches)?));
            // The receiver is gone only where the daemon ends.
            let _ = events.blocking_send(Event::HouseKept { result, interrupted: jobs });
        });
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), DaemonError> {
        match event {
            Event::Found { folder, files } if self.is_current(folder) => {
                for file in files {
                    self.seen((folder.0, file.relative), file.snapshot)?;
                }
            }
            Event::Scanned { folder, extent, result } if self.is_current(folder) => {
                self.scanned(folder.0, &extent, result);
            }
            // The folder was configured otherwise meanwhile.
            Event::Found { .. } => {}
            Event::Scanned { folder, .. } => self.left_by_scan(folder.0),
            Event::Checked { number, finding } => self.checks.finish(number, finding),
            Event::News(News::Engine(engine)) => {
                self.device_free_bytes = engine.free_bytes;
                self.device_is(engine.description);
            }
            Event::News(News::Progress(progress)) => {
                if let Some(running) = &mut self.running {
                    running.pulse.note(&running.progress, &progress, Instant::now());
                    running.progress = progress;
                }
            }
            Event::HouseKept { result, interrupted } => {
                self.housekeeping = false;
                result?;
                for job in interrupted {
                    self.look_after(job);
                }
            }
            Event::Ended(job) => self.ended(job),
            Event::JobEnded(result) => self.job_ended(result)?,
            Event::Reloaded(result) => self.reloaded(*result)?,
            Event::Probed(result) => self.probed(result),
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
        self.control.close();
        self.stop.send_replace(true);
        if let Some(running) = &self.running {
            running.stop.send_replace(true);
        }
        let deadline = tokio::time::Instant::now() + self.config.daemon.stop_timeout + END_TIME;
        while self.running.is_some() {
            match tokio::time::timeout_at(deadline, inbox.recv()).await {
                Ok(Some(Event::JobEnded(result))) => {
                    let ended = self.running.take();
                    result?;
                    // It may have come to its end just now.
                    ended.iter().for_each(|it| self.look_after(it.job));
                }
                Ok(Some(Event::Ended(ended))) => self.ended(ended),
                Ok(Some(_)) => {}
                // What is left is found by the next start.
                Ok(None) | Err(_) => break,
            }
        }
        self.look_after_last(inbox).await;
        self.shop.journal().forget_daemon()?;
        self.shop.locks.release();
        log::info!(MESSAGE_ID = Kind::Stopped.id(); "stopped");
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
