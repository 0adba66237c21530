//! `slomod package-files`: what a package carries besides the program. The program makes it, so it is never stale.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::aot::{Shell, generate_to};

use crate::cli::{Cli, CliError, manual};
use crate::error::ExitCode;

/// Notes about the unit.
const SERVICE_PAGE: &str = include_str!("../../systemd/slomod.service.8");
/// For which shells words are completed.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Arguments of `slomod package-files`.
#[derive(Debug, Args)]
pub struct PackageFilesArgs {
    /// Folder for the manual pages (`man`) and the completions (`completions`); it is made if need be.
    pub folder: PathBuf,
}

/// Writes manual pages and completions.
///
/// # Errors
/// Exit code 73 where they cannot be written.
pub fn run(args: &PackageFilesArgs) -> Result<(), CliError> {
    let write = || {
        let pages = args.folder.join("man");
        std::fs::create_dir_all(&pages)?;
        clap_mangen::generate_to(command(), &pages)?;
        see_also(&pages)?;
        std::fs::write(pages.join("slomod.toml.5"), manual::page())?;
        std::fs::write(pages.join("slomod.service.8"), SERVICE_PAGE)?;
        let completions = args.folder.join("completions");
        std::fs::create_dir_all(&completions)?;
        SHELLS.iter().try_for_each(|shell| completion(*shell, &completions))
    };
    write().map_err(|error: std::io::Error| {
        let message = format!("{}: cannot be written: {error}", args.folder.display());
        CliError::new(ExitCode::CannotCreate, message)
    })
}

/// The pages of the program and its commands name the others.
fn see_also(pages: &Path) -> std::io::Result<()> {
    const OTHERS: &str =
        ".SH \"SEE ALSO\"\n.BR slomod (1),\n.BR slomod.toml (5),\n.BR slomod.service (8)\n";
    for entry in std::fs::read_dir(pages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "1") {
            std::fs::OpenOptions::new().append(true).open(path)?.write_all(OTHERS.as_bytes())?;
        }
    }
    Ok(())
}

fn completion(shell: Shell, folder: &Path) -> std::io::Result<()> {
    generate_to(shell, &mut command(), "slomod", folder).map(drop)
}

/// The command line without what is not for people.
fn command() -> Command {
    let whole = Cli::command();
    let shown: Vec<_> = whole.get_subcommands().filter(|it| !it.is_hide_set()).cloned().collect();
    let mut command = Command::new("slomod").subcommand_required(true).subcommands(shown);
    if let Some(about) = whole.get_about() {
        command = command.about(about.clone());
    }
    if let Some(about) = whole.get_long_about() {
        command = command.long_about(about.clone());
    }
    command.version(env!("CARGO_PKG_VERSION"))
}
