//! Where the daemon is that a command is about: its socket, its state folder and its journal.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::CliError;
use crate::config::file::{self, Daemon};
use crate::daemon::control::client::{self, ClientError};
use crate::daemon::control::{self, Answer, Ask};
use crate::daemon::journal::Journal;
use crate::error::ExitCode;

/// How long a daemon may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to do what was asked: a clip stops before it is cancelled, a reload opens weights.
const LONG_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Which daemon is meant.
#[derive(Clone, Debug, Args)]
pub struct DaemonPlace {
    /// The daemon's configuration, which names the state folder and the control socket.
    #[arg(short, long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
    /// The state folder itself, instead of a configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state_dir: Option<PathBuf>,
}

impl DaemonPlace {
    /// The settings that say where things are. A configuration that is wrong is no obstacle to `state_dir`.
    ///
    /// # Errors
    /// Where the configuration cannot be used.
    pub fn daemon(&self) -> Result<Daemon, CliError> {
        match &self.state_dir {
            Some(folder) => Ok(Daemon { state_dir: folder.clone(), ..Daemon::default() }),
            None => Ok(file::load(&self.config).map_err(|error| CliError::of(&error))?.daemon),
        }
    }

    /// The journal, whether or not a daemon runs.
    ///
    /// # Errors
    /// Where there is none, or it cannot be opened.
    pub fn journal(&self) -> Result<Journal, CliError> {
        let state_dir = self.daemon()?.state_dir;
        Journal::open_existing(&state_dir).map_err(|error| CliError::of(&error))
    }

    /// Asks the running daemon; `None` where none runs.
    ///
    /// # Errors
    /// Where it runs and cannot be asked, or refuses.
    pub fn ask_if_there(&self, ask: &Ask) -> Result<Option<Answer>, CliError> {
        // A daemon runs on though its file was spoiled since.
        let read = self.daemon();
        let daemon = match (&read, file::place(&self.config)) {
            (Ok(daemon), _) => daemon.clone(),
            (Err(_), Some(daemon)) => daemon,
            (Err(_), None) => Daemon::default(),
        };
        let patience = match ask {
            Ask::Cancel(_) | Ask::Reload => LONG_PATIENCE,
            _ => PATIENCE,
        };
        match client::ask(&control::sockets_of(&daemon), &daemon.state_dir, ask, patience) {
            Ok(Answer::Refused(it)) => Err(CliError::new(it.exit_code, it.message)),
            Ok(answer) => Ok(Some(answer)),
            Err(ClientError::NoDaemon(_)) => read.map(|_| None),
            Err(error) => Err(CliError::new(ExitCode::Unavailable, error.to_string())),
        }
    }

    /// Asks the running daemon.
    ///
    /// # Errors
    /// Where none runs, it cannot be asked, or it refuses.
    pub fn ask(&self, ask: &Ask) -> Result<Answer, CliError> {
        self.ask_if_there(ask)?.ok_or_else(|| {
            let message = "no daemon is running (or its `control` socket is elsewhere): `systemctl status slomod`";
            CliError::new(ExitCode::Unavailable, message)
        })
    }
}
