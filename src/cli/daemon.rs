//! `slomod daemon`: watches and works until it is stopped.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::CliError;
use crate::config::file;
use crate::daemon::events::Kind;
use crate::daemon::late::{KERNEL_DEVICES, LateDriver};
use crate::daemon::notifier;
use crate::daemon::run;
use crate::daemon::service;
use crate::daemon::worker::WorkerCommand;
use crate::error::Classify;

/// Arguments of `slomod daemon`.
#[derive(Debug, Args)]
#[command(after_help = "\
SIGTERM or Ctrl-C stops it: the running clip goes back into the queue and is worked at the next start. SIGHUP, or \
`slomod reload`, reads the configuration again.

Under systemd it says when it is ready, what it does, and that it lives. Its log goes to the journal, with fields \
(`journalctl -u slomod SLOMOD_JOB=7`), or to the terminal; SLOMOD_LOG=debug makes it say more.")]
pub struct DaemonArgs {
    /// The configuration; `slomod check --config FILE` says what is wrong with one.
    #[arg(short, long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Runs the daemon.
///
/// # Errors
/// Where it cannot begin or go on; a stop by signal is none.
pub fn run(args: &DaemonArgs) -> Result<(), CliError> {
    service::start_log();
    let logged = |error: &dyn Classify| {
        // In the system's journal with its level, not as a plain line of standard error.
        log::error!(MESSAGE_ID = Kind::Fatal.id(); "{}", service::plain(&error.to_string()));
        CliError::new(error.exit_code(), "")
    };
    let config = file::load(&args.config).map_err(|error| logged(&error))?;
    let late = match notifier::is_heard() {
        true => LateDriver::watched_in(Path::new(KERNEL_DEVICES)),
        false => LateDriver::unwatched(),
    };
    run::run(&args.config, config, WorkerCommand::own(), late).map_err(|error| logged(&error))
}
