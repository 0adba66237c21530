//! `slomod work`: the process that the daemon starts for each clip. Not for people.
//!
//! It reads one [`Request`] line from standard input and answers with [`Message`] lines. The end of standard input asks
//! it to stop; the death of the daemon kills it.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;

use crate::cli::CliError;
use crate::config::settings::Settings;
use crate::daemon::protocol::{DEVICE_BUSY, EngineNow, Failure, Message, Request, WEIGHTS_UNREAD};
use crate::engine::{EngineDescription, EngineError, MemoryGauge, open};
use crate::error::{Classify, ExitCode};
use crate::media;
use crate::models::ModelError;
use crate::pipeline::convert::convert_knowing;
use crate::pipeline::known::Known;
use crate::pipeline::{ConvertError, Progress, Task, room};

/// Progress is told at the most this often, and at each change of phase.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How full the memory of a device is, is told at the most this often.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `slomod work`: none.
#[derive(Debug, Args)]
pub struct WorkArgs {}

/// Does what the request says, and answers.
///
/// # Errors
/// The exit code of a failed request; its message went to the daemon.
pub fn run(_args: &WorkArgs) -> Result<(), CliError> {
    let software = |message: String| CliError::new(ExitCode::Software, message);
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| software(format!("cannot be tied to the daemon: {error}")))?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| software(format!("no request: {error}")))?;
    let request: Request = serde_json::from_str(&line)
        .map_err(|error| CliError::new(ExitCode::Usage, format!("no request: {error}")))?;
    let stop = stop_at_end_of_input();
    let answer = match request {
        Request::Convert(task) => {
            let reserve_bytes = task.reserve_bytes;
            convert_clip(&(*task).into(), reserve_bytes, &stop)
        }
        Request::Probe(path) => probe(&PathBuf::from(path)),
        Request::Open(settings) => open_engine(&settings),
    };
    let exit = match &answer {
        Message::Failed(failure) => failure.exit_code,
        _ => ExitCode::Ok,
    };
    say(&answer).map_err(|error| software(format!("the daemon does not listen: {error}")))?;
    match exit {
        ExitCode::Ok => Ok(()),
        exit => Err(CliError::new(exit, "")),
    }
}

fn stop_at_end_of_input() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        // Nothing more is expected; whatever comes is read away until the end, or an error, which is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        flag.store(true, Ordering::Relaxed);
    });
    stop
}

fn convert_clip(task: &Task, reserve_bytes: u64, stop: &Arc<AtomicBool>) -> Message {
    let mut said: Option<(Instant, String)> = None;
    // Of the device that the network runs on; none once it runs on the processor.
    let gauge = Arc::new(Mutex::new(None::<MemoryGauge>));
    let memory = |gauge: &Mutex<Option<MemoryGauge>>| {
        gauge.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|gauge| gauge())
    };
    let mut measured = Instant::now();
    let mut progress = |progress: &Progress| {
        if measured.elapsed() >= MEMORY_EVERY
            && let Some(memory) = memory(&gauge)
        {
            measured = Instant::now();
            // As below: a daemon that does not listen is dead.
            let _ = say(&Message::Memory(memory));
        }
        let is_due = said
            .as_ref()
            .is_none_or(|(at, phase)| at.elapsed() >= PROGRESS_EVERY || *phase != progress.phase);
        // A daemon that does not listen is dead, and so is this process in a moment.
        if is_due && say(&Message::Progress(progress.clone())).is_ok() {
            said = Some((Instant::now(), progress.phase.clone()));
        }
    };
    let mut known = Known::start();
    let mut work = || -> Result<_, ConvertError> {
        // Before a device is taken, and while memory can still be bounded.
        media::complete::check_end(&task.source)?;
        room::check(task, task.output.parent().unwrap_or(Path::new("/")), reserve_bytes)?;
        let mut engine = open::open(&task.settings)?;
        *gauge.lock().unwrap_or_else(PoisonError::into_inner) = engine.memory_gauge();
        let gauge = Arc::clone(&gauge);
        let tell = move |description: EngineDescription| {
            if description.fallback_reason.is_some() {
                gauge.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            let engine = EngineNow { description, memory: memory(&gauge) };
            // As above: a daemon that does not listen is dead.
            let _ = say(&Message::Engine(Box::new(engine)));
        };
        tell(engine.description());
        engine.tell_changes(Box::new(tell));
        convert_knowing(task, &mut *engine, stop, &mut progress, &mut known)
    };
    match work() {
        Ok(report) => Message::Report(Box::new(report)),
        Err(error) => {
            let report = known.failure_report(task, &error);
            let mut failure = failure(&error, error.code());
            failure.report = Some(Box::new(report));
            Message::Failed(Box::new(failure))
        }
    }
}

fn probe(path: &Path) -> Message {
    match media::complete::check(path) {
        Ok(extent) => Message::Probed(extent),
        Err(error) => Message::Failed(Box::new(failure(&error, error.code()))),
    }
}

fn open_engine(settings: &Settings) -> Message {
    match open::open(settings) {
        Ok(engine) => Message::Opened(Box::new(engine.description())),
        Err(error) => {
            let code = match &error {
                EngineError::Model(ModelError::Read { .. }) => WEIGHTS_UNREAD,
                error if error.is_busy() => DEVICE_BUSY,
                _ => "engine",
            };
            Message::Failed(Box::new(failure(&error, code)))
        }
    }
}

fn failure(error: &dyn Classify, code: &str) -> Failure {
    Failure {
        consequence: error.consequence(),
        exit_code: error.exit_code(),
        code: code.to_owned(),
        message: error.to_string(),
        report: None,
    }
}

fn say(message: &Message) -> std::io::Result<()> {
    let line = serde_json::to_string(message)? + "\n";
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}
