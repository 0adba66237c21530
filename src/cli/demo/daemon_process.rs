//! The daemon of the demo: our own program with a configuration of its own, stopped when the demo ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::CliError;
use crate::daemon::journal::Journal;
use crate::error::ExitCode;

/// How long the daemon may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines of its log shown where it fails.
const LOG_LINES: usize = 15;

/// A running daemon. Dropped, it is asked to end, and killed if it does not.
pub struct DaemonProcess {
    child: Child,
    log: PathBuf,
}

impl DaemonProcess {
    /// Starts the daemon with `config` and waits until it is ready; what it says goes to `log`.
    ///
    /// # Errors
    /// Exit code 70 where it cannot be started, ends, or is not ready in time; its last words are in the message.
    pub fn start(config: &Path, state_dir: &Path, log: &Path) -> Result<(Self, Journal), CliError> {
        let failed = |what: String| CliError::new(ExitCode::Software, what);
        let program = std::env::current_exe()
            .map_err(|error| failed(format!("our own program cannot be found: {error}")))?;
        let file = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
        let (output, errors) = file.map_err(|error| {
            CliError::new(ExitCode::CannotCreate, format!("{}: {error}", log.display()))
        })?;
        let child = Command::new(&program)
            .arg("daemon")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| failed(format!("{}: cannot be run: {error}", program.display())))?;
        let mut daemon = Self { child, log: log.to_owned() };
        let journal = daemon.wait_until_ready(state_dir)?;
        Ok((daemon, journal))
    }

    /// It is ready once it has described itself in the journal.
    fn wait_until_ready(&mut self, state_dir: &Path) -> Result<Journal, CliError> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            self.check_alive()?;
            // Until the daemon has made its journal, there is none, or an unfinished one.
            if let Ok(journal) = Journal::open_existing(state_dir)
                && let Ok(Some(view)) = journal.daemon()
                && view.pid == self.child.id()
            {
                return Ok(journal);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let message = format!("the daemon is not ready after {} s", READY_WITHIN.as_secs());
        Err(self.error(&message))
    }

    /// That it has not ended.
    ///
    /// # Errors
    /// Exit code 70 with its last words.
    pub fn check_alive(&mut self) -> Result<(), CliError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.error(&format!("the daemon ended early ({status})"))),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// Exit code 70 where it ends with an error or not at all.
    pub fn stop(mut self) -> Result<(), CliError> {
        match self.end() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.error(&format!("the daemon ended with {status}"))),
            None => Err(self.error("the daemon did not end and was killed")),
        }
    }

    /// `None` where it had to be killed.
    fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        // The child was not waited for, so the number is still its own.
        if let Err(error) = kill_process(Pid::from_child(&self.child), Signal::TERM) {
            log::warn!("the daemon cannot be asked to end: {error}");
        }
        let asked = Instant::now();
        while asked.elapsed() < END_WITHIN {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            log::warn!("the daemon cannot be killed: {error}");
        }
        None
    }

    fn error(&self, what: &str) -> CliError {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let message = format!("{what}; its last words ({}):\n{last}", self.log.display());
        CliError::new(ExitCode::Software, message)
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        self.end();
    }
}
