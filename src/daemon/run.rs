//! The daemon's one loop: hints and scans in, jobs out, until a signal.
//!
//! Everything that takes time or touches a watched folder or an output runs beside it (on threads, probes and conversions
//! in processes) and reports back as an [`Event`]. One clip is converted at a time; it has all processors.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::file::Config;
use crate::daemon::DaemonError;
use crate::daemon::after::EndedJob;
use crate::daemon::asked::Control;
use crate::daemon::clock::set_back_by;
use crate::daemon::control::{Answer, server};
use crate::daemon::ending::{self, EndOnPanic, Left};
use crate::daemon::engines;
use crate::daemon::events::Kind;
use crate::daemon::filesystem::RootIdentity;
use crate::daemon::folder::Extent;
use crate::daemon::folders::Folders;
use crate::daemon::hints::Hints;
use crate::daemon::hooks::Hooks;
use crate::daemon::intake::{Checked, Identities};
use crate::daemon::job::{Aftermath, OFFLINE, Rules, Shop, now_ms};
use crate::daemon::journal::{Journal, JournalError};
use crate::daemon::known_files::KnownFiles;
use crate::daemon::late::LateDriver;
use crate::daemon::looks::Sight;
use crate::daemon::metrics::Tally;
use crate::daemon::notifier::{self, Notifier};
use crate::daemon::order::{Checks, FirstReads, Turns};
use crate::daemon::pause;
use crate::daemon::protocol::News;
use crate::daemon::pulse::Pulse;
use crate::daemon::recover;
use crate::daemon::reload::{Prepared, Reload};
use crate::daemon::settle::Settler;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::verdict;
use crate::daemon::watch::{Found, ScanProblems};
use crate::daemon::weights::{Identity, Known};
use crate::daemon::worker::WorkerCommand;
use crate::engine::{DeviceMemory, EngineDescription};
use crate::pipeline::Progress;

/// Events that wait; each may be a page of files.
const EVENTS: usize = 32;
/// Threads that wait for disks, and for each folder as many more as may hang in it.
const MOST_THREADS: usize = 64;
const THREADS_A_FOLDER: usize = 16;
/// The loop turns at least this often.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// And at the most this often.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// How long the start waits for the first word of folders and outputs.
const FIRST_LOOKS: Duration = Duration::from_secs(5);
/// How often it sees whether that came.
const FIRST_LOOKS_PAUSE: Duration = Duration::from_millis(20);

/// A file: the number of its folder, and its path below it.
pub(super) type FileKey = (usize, PathBuf);

/// What a look into a file found.
pub(super) type Finding = (FileKey, Snapshot, Checked);

/// What reports back to the loop.
pub(super) enum Event {
    Found { folder: (usize, u64), files: Vec<Found> },
    WeightsRead { folder: (usize, u64), result: io::Result<Identity> },
    Scanned { folder: (usize, u64), extent: Extent, result: io::Result<ScanProblems> },
    LookedFor { folder: (usize, u64), result: io::Result<RootIdentity> },
    Sighted { folder: (usize, u64), result: io::Result<Vec<Sight>> },
    LockLookedAt { output: PathBuf, is_first: bool, result: io::Result<Result<(), JournalError>> },
    Checked { number: u64, finding: Finding },
    News { job: i64, news: News },
    HouseKept { place: PathBuf, result: Result<bool, DaemonError>, interrupted: Vec<i64> },
    Ended(Option<Box<EndedJob>>),
    Reloaded(Box<Result<Prepared, String>>),
    Probed(Result<Vec<EngineDescription>, DaemonError>),
    JobEnded { job: i64, result: Result<Aftermath, DaemonError> },
}

/// The running job.
pub(super) struct Running {
    pub(super) job: i64,
    pub(super) key: FileKey,
    pub(super) name: String,
    pub(super) progress: Progress,
    /// The memory of its device, where that has memory of its own.
    pub(super) device_memory: Option<DeviceMemory>,
    /// Whether its work advances.
    pub(super) pulse: Pulse,
    /// Asks its worker to stop.
    pub(super) stop: watch::Sender<bool>,
    /// Whether it is cancelled once it has stopped.
    pub(super) cancel: bool,
    /// Who waits for that.
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
    pub(super) identities: Arc<Identities>,
    /// Turns of jobs; files have turns of their own.
    pub(super) turns: Turns,
    pub(super) next_locks: Instant,
    /// Output folders whose locks are being looked after.
    pub(super) locks_looked_at: BTreeSet<PathBuf>,
    pub(super) running: Option<Running>,
    /// Jobs that were told to stop and wait for a file system that does not answer; at the most one a folder.
    pub(super) set_aside: Vec<Running>,
    /// When the loop turned last.
    pub(super) last_turn: Instant,
    /// Whether jobs may be waiting: an idle daemon does not ask the journal for them again and again.
    pub(super) may_start: bool,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) notifier: Notifier,
    /// What the network runs on, as far as is known.
    pub(super) device: Option<EngineDescription>,
    pub(super) next_probe: Instant,
    pub(super) probing: bool,
    pub(super) late: LateDriver,
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
    /// Places that are being tidied.
    pub(super) housekeeping: BTreeSet<PathBuf>,
}

/// Runs until SIGTERM or SIGINT, with `config`, which was read from `path` and is read again at SIGHUP.
///
/// # Errors
/// [`DaemonError`] where it cannot begin or go on, or is to be started anew (`late`).
pub fn run(
    path: &Path,
    config: Config,
    command: WorkerCommand,
    late: LateDriver,
) -> Result<(), DaemonError> {
    // One thread runs the loop and starts all workers: they are told to die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_THREADS + THREADS_A_FOLDER * config.watches.len())
        .build()
        .map_err(|source| io_error("the daemon cannot start", source))?;
    ending::drive(runtime, serve(path, config, command, late)).map(|_| ())
}

pub(super) fn io_error(action: &'static str, source: io::Error) -> DaemonError {
    DaemonError::Io { path: PathBuf::from("slomod"), action, source }
}

async fn serve(
    path: &Path,
    config: Config,
    command: WorkerCommand,
    late: LateDriver,
) -> Result<Left, DaemonError> {
    let catch = |kind| signal(kind).map_err(|source| io_error("signals cannot be caught", source));
    let mut signals = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let mut hangup = catch(SignalKind::hangup())?;
    let state_dir = config.daemon.state_dir.clone();
    let _lock = recover::lock(&state_dir)?;
    notifier::starting("checking the journal");
    let journal = notifier::patiently(|| Journal::open(&state_dir))?;
    let rules = Rules::of(&config.daemon);
    let shop = Shop::new(journal, command, rules);
    let (stop, stopped) = watch::channel(false);
    notifier::starting("opening device and weights");
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let open = async {
        let mut known = Known::ask(&config, &shop, (&events, &mut inbox), FIRST_LOOKS).await;
        let (lacking, limits, command) = (known.lacking(&config), rules.limits, &shop.command);
        let opened = engines::open(&config, &lacking, command, limits, stopped, false).await?;
        known.lose(&config, opened.lost);
        Ok::<_, DaemonError>((known, opened.descriptions))
    };
    let (known, opened) = tokio::select! {
        result = open => result?,
        () = first(&mut signals) => return Ok(Left::Nothing),
    };
    let hints = Hints::start(&config.daemon.extensions);
    let mut asked = server::Inbox::default();
    let outside = (Control::new(asked.sender()), Reload::of(path.to_owned()), late);
    let daemon = Daemon::begin(config, (shop, hints, known), outside, (events, stop))?;
    let shop = Arc::clone(&daemon.shop);
    let result = daemon.run(opened, (&mut inbox, &mut asked), &mut signals, &mut hangup).await;
    if result.is_err() {
        // What is left of the daemon must not wait for a lock's file system.
        let _ = ending::give_locks_back(&shop).await;
    }
    result
}

async fn first(signals: &mut (Signal, Signal)) {
    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
    }
}

impl Daemon {
    /// The loop.
    async fn run(
        mut self,
        opened: Vec<EngineDescription>,
        (inbox, asked): (&mut mpsc::Receiver<Event>, &mut server::Inbox),
        signals: &mut (Signal, Signal),
        hangup: &mut Signal,
    ) -> Result<Left, DaemonError> {
        let _end = EndOnPanic;
        if let Some(device) = engines::foremost(opened) {
            self.device_is(device);
        }
        self.turn()?;
        let deadline = Instant::now() + FIRST_LOOKS;
        while self.awaits_first_looks() && Instant::now() < deadline {
            tokio::select! {
                () = first(signals) => return self.finish(inbox).await,
                Some(event) = inbox.recv() => self.event(event)?,
                () = tokio::time::sleep(FIRST_LOOKS_PAUSE) => {}
            }
            self.turn()?;
        }
        self.notifier.ready();
        log::info!(MESSAGE_ID = Kind::Ready.id(); "slomod {} is ready", env!("CARGO_PKG_VERSION"));
        while !self.late.is_over() {
            let pause = self.pause();
            tokio::select! {
                () = first(signals) => break,
                () = self.hints.news() => {}
                Some(event) = inbox.recv() => self.event(event)?,
                Some(asked) = asked.next() => self.asked(asked)?,
                _ = hangup.recv() => self.reload_asked(None),
                () = tokio::time::sleep(pause) => {}
            }
            for hint in self.hints.take() {
                self.hint(&hint);
            }
            self.turn()?;
        }
        let late = self.late.end();
        let left = self.finish(inbox).await?;
        late.map(|()| left)
    }

    /// Brings the journal in order.
    fn begin(
        config: Config,
        (shop, hints, known): (Shop, Hints, Known),
        (control, mut reload, late): (Control, Reload, LateDriver),
        (events, stop): (mpsc::Sender<Event>, watch::Sender<bool>),
    ) -> Result<Self, DaemonError> {
        let (now, started_ms) = (Instant::now(), now_ms());
        let owner = format!("{}-{started_ms}", std::process::id());
        let mut journal = shop.journal();
        let mut folders = Folders::new(&config, now);
        for (index, folder) in folders.list.iter_mut().enumerate() {
            known.tell(index, folder);
        }
        let settings = known.settings(&config);
        recover::recover(&mut journal, &settings, &owner, started_ms)?;
        reload.begin_with(settings);
        journal.limit_waiting(verdict::LONGEST_PAUSE_MS, started_ms)?;
        drop(journal);
        let paused = pause::read(&config.daemon.state_dir)?;
        shop.errands.set_limit(config.daemon.poll_interval);
        let mut daemon = Self {
            folders,
            shop: Arc::new(shop),
            owner,
            hints,
            overflows: 0,
            known_files: Arc::default(),
            settler: Settler::grouped(|key: &FileKey| key.0),
            overdue: HashMap::new(),
            checks: Checks::default(),
            first_reads: FirstReads::default(),
            identities: Arc::default(),
            turns: Turns::default(),
            next_locks: now,
            locks_looked_at: BTreeSet::new(),
            running: None,
            set_aside: Vec::new(),
            last_turn: now,
            may_start: true,
            events,
            stop,
            notifier: Notifier::new(now),
            device: None,
            next_probe: now,
            probing: false,
            late,
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
            housekeeping: BTreeSet::new(),
            config,
        };
        daemon.find_orphans()?;
        Ok(daemon)
    }

    /// How long the loop may sleep.
    fn pause(&self) -> Duration {
        let hangs = |folder| self.folders.hangs(&self.shop.locks, folder);
        let due = self.settler.next_due(hangs);
        let due = due.filter(|_| self.open_checks() < self.most_checks());
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
        self.look_for_answers(now);
        self.look_for_folders(now);
        for (folder, extent) in self.folders.take_scans(self.hints.watches(), now) {
            self.start_scan(folder, extent);
        }
        self.check_what_is_due(now)?;
        if now >= self.next_locks {
            self.next_locks = now + self.config.daemon.poll_interval;
            self.look_for_outputs();
            self.control.look(&self.config.daemon);
        }
        if now >= self.next_housekeeping {
            self.next_housekeeping = now + self.config.daemon.poll_interval;
            self.keep_house()?;
        }
        if self.running.is_none() && self.paused.is_none() {
            self.start_job(now)?;
        }
        self.look_for_device(now);
        self.describe(now)
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
            Event::LookedFor { folder, result } if self.is_current(folder) => {
                self.looked_for(folder.0, result)?;
            }
            Event::Sighted { folder, result } if self.is_current(folder) => {
                self.all_sighted(folder.0, result)?;
            }
            Event::WeightsRead { folder, result } if self.is_current(folder) => {
                self.weights_read(folder.0, result)?;
            }
            // The folder was configured otherwise meanwhile.
            Event::Found { .. }
            | Event::WeightsRead { .. }
            | Event::LookedFor { .. }
            | Event::Sighted { .. } => {}
            Event::Scanned { folder, .. } => self.left_by_scan(folder.0),
            Event::LockLookedAt { output, is_first, result } => {
                self.lock_looked_at(&output, result)?;
                if is_first {
                    // What was left to do there waited for this.
                    self.next_housekeeping = Instant::now();
                }
            }
            Event::Checked { number, finding } => self.checks.finish(number, finding),
            Event::News { job, news: News::Engine(engine) } => {
                if let Some(running) = self.at_work(job) {
                    running.device_memory = engine.memory;
                }
                self.device_is(engine.description);
            }
            Event::News { job, news: News::Memory(memory) } => {
                if let Some(running) = self.at_work(job) {
                    running.device_memory = Some(memory);
                }
            }
            Event::News { job, news: News::Progress(progress) } => {
                if let Some(running) = self.at_work(job) {
                    running.pulse.note(&running.progress, &progress, Instant::now());
                    running.progress = progress;
                }
            }
            Event::HouseKept { place, result, interrupted } => {
                self.housekeeping.remove(&place);
                if result? {
                    // An original that was moved frees its place.
                    self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                for job in interrupted {
                    self.look_after(job);
                }
            }
            Event::Ended(job) => self.ended(job),
            Event::JobEnded { job, result } => self.job_ended(job, result)?,
            Event::Reloaded(result) => self.reloaded(*result)?,
            Event::Probed(result) => self.probed(result),
        }
        Ok(())
    }

    /// A folder is there (again): its jobs that waited for it are due.
    pub(super) fn folder_came(&mut self, folder: usize) -> Result<(), DaemonError> {
        // Something else may be mounted there, with files of the same names.
        self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let path = self.folders.list[folder].watch.path.to_string_lossy();
        Ok(self.shop.journal().wake(&path, OFFLINE, now_ms())?)
    }
}
