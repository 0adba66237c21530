//! `slomod check`: what works, what does not, and what to do about it, before a clip is at stake.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::Access;
use serde::Serialize;

use crate::backend::cuda::images;
use crate::backend::cuda::nvidia::find;
use crate::cli::{CliError, check_control, check_journal, say};
use crate::config::apart;
use crate::config::file::{self, Config, Depth, HookTarget, OnSuccess};
use crate::config::settings::{Device, Settings};
use crate::daemon::filesystem;
use crate::engine::open;
use crate::error::{Classify, ExitCode, read_only_hint};
use crate::media;

/// Free space beside the reserve below which a folder is warned about.
const LITTLE_SPACE_BYTES: u64 = 1 << 30;
/// How long all folders together have to answer: the start of the service waits for this.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Arguments of `slomod check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration of the daemon. Without it, only weights, devices and encoders are checked.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    /// What was looked at: `config`, `folder`, `hook`, `journal`, `control`, `metrics`, `gpu`, `model`, `device`, `encoder`.
    subject: &'static str,
    /// What was found and, where it is not well, what to do.
    message: String,
}

/// Everything found, and the exit code of the first failure.
#[derive(Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    exit: Option<ExitCode>,
}

impl Findings {
    pub(super) fn ok(&mut self, subject: &'static str, message: String) {
        self.list.push(Finding { verdict: Verdict::Ok, subject, message });
    }

    pub(super) fn warn(&mut self, subject: &'static str, message: String) {
        self.list.push(Finding { verdict: Verdict::Warn, subject, message });
    }

    pub(super) fn fail(&mut self, subject: &'static str, message: String, exit: ExitCode) {
        self.list.push(Finding { verdict: Verdict::Fail, subject, message });
        self.exit.get_or_insert(exit);
    }
}

/// Checks and prints.
///
/// # Errors
/// The exit code of the first failure; its message was printed with the others.
pub fn run(args: &CheckArgs) -> Result<(), CliError> {
    let mut findings = Findings::default();
    let config = args.config.as_deref().and_then(|path| check_config(path, &mut findings));
    if let Some(config) = &config {
        check_journal::check(&config.daemon.state_dir, &mut findings);
        check_control::check(&config.daemon, &mut findings);
    }
    check_devices(&mut findings);
    check_models(config.as_ref(), &mut findings);
    check_encoders(config.as_ref(), &mut findings);
    if args.json {
        let json = serde_json::to_string_pretty(&findings.list)
            .map_err(|error| CliError::new(ExitCode::Software, error.to_string()))?;
        say::line(json)?;
    } else {
        for finding in &findings.list {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            say::line(format_args!("{verdict}  {:8} {}", finding.subject, finding.message))?;
        }
    }
    findings.exit.map_or(Ok(()), |exit| Err(CliError::new(exit, "")))
}

fn check_config(path: &Path, findings: &mut Findings) -> Option<Config> {
    let config = match file::load(path) {
        Ok(config) => config,
        Err(error) => {
            findings.fail("config", error.to_string(), error.exit_code());
            return None;
        }
    };
    let folders = match config.watches.len() {
        1 => "1 folder".to_owned(),
        count => format!("{count} folders"),
    };
    findings.ok("config", format!("{}: {folders}", path.display()));
    let reserve_bytes = config.daemon.reserve_bytes;
    let (write, make) = (Need::Write { reserve_bytes }, Need::Make { reserve_bytes });
    let mut looks = vec![Look::start(&config.daemon.state_dir, make, "state")];
    for watch in &config.watches {
        let need = if watch.on_success == OnSuccess::Keep { Need::Read } else { write };
        looks.push(Look::start(&watch.path, need, "watched"));
        looks.push(Look::start(&watch.output, make, "output"));
        if let OnSuccess::Move(folder) = &watch.on_success {
            looks.push(Look::start(folder, make, "originals"));
        }
    }
    for hook in &config.hooks {
        if let HookTarget::Command(words) = &hook.target {
            looks.extend(words.first().map(|it| Look::at_program(Path::new(it))));
        }
    }
    let deadline = Instant::now() + ANSWER_TIME;
    let overlaps = overlaps(&config);
    for look in looks {
        look.end(deadline, findings);
    }
    // Where a folder does not answer, that was said.
    let left = deadline.saturating_duration_since(Instant::now());
    for message in overlaps.recv_timeout(left).unwrap_or_default() {
        findings.fail("folder", format!("{message} (links were followed)"), ExitCode::Config);
    }
    for watch in config.watches.iter().filter(|it| it.depth == Depth::Recursive) {
        findings.ok("folder", format!("{}: watched with all folders below", watch.path.display()));
    }
    Some(config)
}

/// What [`apart::overlaps`] finds, on a thread of its own, as in [`Look`].
fn overlaps(config: &Config) -> Receiver<Vec<String>> {
    let (sender, answer) = mpsc::channel();
    let config = config.clone();
    std::thread::spawn(move || {
        // Nobody listens where it took too long.
        let _ = sender.send(apart::overlaps(&config));
    });
    answer
}

/// What slomod does in a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    /// It writes there, and waits where less than this is free.
    Write {
        reserve_bytes: u64,
    },
    /// The same, and it makes the folder itself where it is not there.
    Make {
        reserve_bytes: u64,
    },
}

impl Need {
    fn reserve_bytes(self) -> Option<u64> {
        match self {
            Self::Read => None,
            Self::Write { reserve_bytes } | Self::Make { reserve_bytes } => Some(reserve_bytes),
        }
    }
}

/// A folder or a program that is looked at on a thread of its own, as a share whose server is gone may answer never.
struct Look {
    subject: &'static str,
    place: String,
    answer: Receiver<(Verdict, String, ExitCode)>,
}

impl Look {
    fn start(path: &Path, need: Need, role: &str) -> Self {
        let place = format!("{} ({role})", path.display());
        let (folder, name) = (path.to_owned(), place.clone());
        Self::begin("folder", place, move || look(&folder, need, &name))
    }

    /// Whether a hook's program can be run.
    fn at_program(path: &Path) -> Self {
        let (place, program) = (format!("{} (command)", path.display()), path.to_owned());
        let name = place.clone();
        Self::begin("hook", place, move || match runs(&program) {
            Ok(()) => (Verdict::Ok, name, ExitCode::Ok),
            Err(why) => {
                let advice = "no end of a job will be told to it; install it, or correct `command`";
                (Verdict::Warn, format!("{name}: {why}: {advice}"), ExitCode::Ok)
            }
        })
    }

    fn begin(
        subject: &'static str,
        place: String,
        look: impl FnOnce() -> (Verdict, String, ExitCode) + Send + 'static,
    ) -> Self {
        let (sender, answer) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody listens where it took too long.
            let _ = sender.send(look());
        });
        Self { subject, place, answer }
    }

    /// Waits for the answer until `deadline`.
    fn end(self, deadline: Instant, findings: &mut Findings) {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answer.recv_timeout(left) {
            Ok((Verdict::Ok, message, _)) => findings.ok(self.subject, message),
            Ok((Verdict::Warn, message, _)) => findings.warn(self.subject, message),
            Ok((Verdict::Fail, message, exit)) => findings.fail(self.subject, message, exit),
            Err(_) => {
                let message = format!(
                    "{}: does not answer within {} s; see to the server of the share it is on",
                    self.place,
                    ANSWER_TIME.as_secs()
                );
                findings.fail(self.subject, message, ExitCode::TempFail);
            }
        }
    }
}

/// Why a program cannot be run, where that is so.
fn runs(program: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(program).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is no file".into());
    }
    rustix::fs::access(program, Access::EXEC_OK)
        .map_err(|error| format!("it may not be executed ({})", std::io::Error::from(error)))
}

/// How a folder stands, in words, and the exit code of a failure.
fn look(path: &Path, need: Need, place: &str) -> (Verdict, String, ExitCode) {
    let parent = match need {
        Need::Make { .. } => to_be_made_in(path),
        Need::Read | Need::Write { .. } => None,
    };
    let at = parent.unwrap_or(path);
    if let Err(error) = std::fs::read_dir(at) {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => "create it, or mount the share it is on",
            std::io::ErrorKind::NotADirectory => {
                "it is a file, or lies below one: name a folder in the configuration"
            }
            _ => "give the user that runs slomod the right to read it",
        };
        return (Verdict::Fail, format!("{place}: {error}; {advice}"), ExitCode::Config);
    }
    if need != Need::Read
        && let Err(error) = tempfile::tempfile_in(at)
    {
        let hint = read_only_hint(&error);
        let (what, advice, exit) = match parent {
            None => (
                "cannot be written",
                "give the user that runs slomod the right to write there",
                ExitCode::CannotCreate,
            ),
            Some(_) => (
                "is not there and cannot be made",
                "create it for the user that runs slomod",
                ExitCode::Config,
            ),
        };
        let advice = if hint.is_empty() { format!("; {advice}") } else { hint.to_owned() };
        return (Verdict::Fail, format!("{place}: {what}: {error}{advice}"), exit);
    }
    let system = file_system(at);
    let mut verdict = Verdict::Ok;
    let mut message = format!("{place}: {}, {} free", system.name, gigabytes(system.free_bytes));
    if let Some(reserve_bytes) = need.reserve_bytes()
        && system.free_bytes < reserve_bytes.saturating_add(LITTLE_SPACE_BYTES)
    {
        verdict = Verdict::Warn;
        let reserve = gigabytes(reserve_bytes);
        message += &format!(
            ", of which `reserve` keeps {reserve}: make room, or clips wait before they begin"
        );
    }
    if let Some(parent) = parent {
        verdict = Verdict::Warn;
        message += &format!(
            "; it is not there, and the daemon makes it in {}: if it belongs on a share, mount that first",
            parent.display()
        );
    }
    (verdict, message, ExitCode::Ok)
}

/// The folder that there is of those above `path`, which is not there itself, not even as a link that leads nowhere.
fn to_be_made_in(path: &Path) -> Option<&Path> {
    let is_missing = |it: &Path| {
        let found = std::fs::symlink_metadata(it);
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    is_missing(path).then(|| path.ancestors().find(|it| !is_missing(it)))?
}

struct FileSystem {
    name: String,
    free_bytes: u64,
}

/// Type and free space, by `statfs`.
fn file_system(path: &Path) -> FileSystem {
    let Ok(stat) = rustix::fs::statfs(path) else {
        return FileSystem { name: "unknown file system".into(), free_bytes: 0 };
    };
    let free_bytes = stat.f_bavail * stat.f_bsize as u64;
    if let Some(name) = filesystem::network_name(path) {
        let name = format!("{name} (polled: no change events from other machines)");
        return FileSystem { name, free_bytes };
    }
    // Numbers from Linux's include/uapi/linux/magic.h.
    let name = match stat.f_type as u32 {
        0xEF53 => "ext4",
        0x9123_683E => "btrfs",
        0x5846_5342 => "xfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x2FC1_2FC1 => "zfs",
        0x4D44 | 0x2011_BAB0 => "FAT/exFAT",
        _ => "other file system",
    };
    FileSystem { name: name.into(), free_bytes }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Lists GPUs and the driver; where there are none, why.
fn check_devices(findings: &mut Findings) {
    let minimum = images::MINIMUM_DRIVER;
    match find::devices() {
        Err(error) => findings.warn("gpu", error.to_string()),
        Ok(find::Listing { devices, silent, driver_version: version }) => {
            let (major, minor) = (version / 1000, version % 1000 / 10);
            findings
                .ok("gpu", format!("driver for CUDA {major}.{minor} (minimum: driver {minimum})"));
            for it in devices {
                let (major, minor) = it.capability;
                let memory = gigabytes(it.memory_bytes);
                let message =
                    format!("cuda:{} {} (sm_{major}{minor}, {memory})", it.index, it.name);
                if it.capability < find::MINIMUM_CAPABILITY {
                    findings.warn("gpu", format!("{message}: older than the kernels need"));
                } else {
                    findings.ok("gpu", message);
                }
            }
            silent.iter().for_each(|error| findings.warn("gpu", error.to_string()));
        }
    }
    match images::built() {
        Err(reason) => findings.warn("gpu", format!("this slomod has no GPU kernels: {reason}")),
        Ok(()) => {
            let targets: Vec<_> = images::targets().iter().map(ToString::to_string).collect();
            findings.ok("gpu", format!("kernels for {}", targets.join(" ")));
        }
    }
}

/// Whether a file can be opened in time, or cannot be at all: on a share whose server is gone it may be waited for without end.
fn answers(path: &Path) -> bool {
    let (sender, answer) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        let is_file = std::fs::metadata(&path).is_ok_and(|it| it.is_file());
        let opened = is_file.then(|| std::fs::File::open(&path));
        // Nobody listens where it took too long.
        let _ = sender.send(opened.is_some());
    });
    answer.recv_timeout(ANSWER_TIME).is_ok()
}

/// Opens every distinct pair of weights and device, as a job would.
fn check_models(config: Option<&Config>, findings: &mut Findings) {
    let mut tried: Vec<(Option<PathBuf>, Device)> = Vec::new();
    let settings = config.map_or_else(
        || vec![Settings::default()],
        |config| config.watches.iter().map(|watch| watch.settings()).collect(),
    );
    for settings in settings {
        let pair = (settings.model.clone(), settings.device);
        if tried.contains(&pair) {
            continue;
        }
        tried.push(pair);
        let name = settings
            .model
            .as_ref()
            .map_or("built-in weights".into(), |it| it.display().to_string());
        if !settings.model.as_deref().is_none_or(answers) {
            let limit_s = ANSWER_TIME.as_secs();
            let message = format!(
                "{name}: does not answer within {limit_s} s; see to the server of the share it is on"
            );
            findings.fail("model", message, ExitCode::TempFail);
            continue;
        }
        match open::open(&settings) {
            Err(error) => findings.fail("model", format!("{name}: {error}"), error.exit_code()),
            Ok(engine) => {
                let it = engine.description();
                findings.ok("model", format!("{name}: {}", it.model_name));
                let threads = match it.threads {
                    0 => String::new(),
                    threads => format!(", {threads} threads"),
                };
                let tried = it.psnr_from_cpu_db.map_or_else(String::new, |psnr_db| {
                    format!("; {psnr_db:.1} dB from the processor's pictures on a drawn pair")
                });
                let device = format!(
                    "{} {} ({}, {}{threads}){tried}",
                    it.device_kind, it.device_name, it.precision, it.instructions
                );
                match it.fallback_reason {
                    Some(reason) => findings.warn("device", format!("{device}: {reason}")),
                    None => findings.ok("device", device),
                }
            }
        }
    }
}

fn check_encoders(config: Option<&Config>, findings: &mut Findings) {
    let used: Vec<&str> = config.map_or_else(
        || vec!["libx264"],
        |config| config.watches.iter().map(|it| it.settings.encoding.encoder()).collect(),
    );
    for encoder in media::encoders() {
        match encoder.problem {
            None => findings.ok("encoder", encoder.name.to_owned()),
            Some(problem) if used.contains(&encoder.name) => findings.fail(
                "encoder",
                format!(
                    "{}: {problem}; install an FFmpeg that has it, or choose another codec",
                    encoder.name
                ),
                ExitCode::Config,
            ),
            // Most machines have none, and who does not ask for one need not know why.
            Some(_) if encoder.on_gpu => {}
            Some(problem) => findings.warn("encoder", format!("{}: {problem}", encoder.name)),
        }
    }
}
