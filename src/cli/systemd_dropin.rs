//! `slomod systemd-dropin`: what the unit must be told about the folders and addresses of a configuration.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{CliError, say};
use crate::config::file;
use crate::daemon::dropin::{self, Mounts};
use crate::error::ExitCode;

/// Arguments of `slomod systemd-dropin`.
#[derive(Debug, Args)]
#[command(after_help = "\
slomod.service may write to /srv/slomod and its own state only, and has no network. For other folders, a control socket \
elsewhere, metrics on a port and hooks by HTTP, as root:
  mkdir -p /etc/systemd/system/slomod.service.d
  slomod systemd-dropin > /etc/systemd/system/slomod.service.d/folders.conf
  systemctl daemon-reload && systemctl restart slomod

Run it while shares are mounted: it opens a share by its mount point, so that the service also sees it when it was mounted \
anew, and does not make the service wait for a share that is away.")]
pub struct SystemdDropinArgs {
    /// The daemon's configuration.
    #[arg(short, long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Prints the drop-in.
///
/// # Errors
/// Those of loading the configuration; exit code 78 for a path that a unit file cannot hold.
pub fn run(args: &SystemdDropinArgs) -> Result<(), CliError> {
    let config = file::load(&args.config).map_err(|error| CliError::of(&error))?;
    let text = dropin::text(&config, &args.config, &Mounts::of_this_process())
        .map_err(|error| CliError::new(ExitCode::Config, error.to_string()))?;
    say::print(text)
}
