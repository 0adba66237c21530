//! The command line: one file a subcommand. Exit codes are those of sysexits.h ([`ExitCode`]).

pub mod check;
mod check_control;
mod check_journal;
mod content;
pub mod control;
pub mod convert;
pub mod daemon;
pub mod demo;
pub mod evaluate;
pub mod import;
pub mod init;
mod init_folders;
pub mod interpolate;
mod manual;
mod network;
pub mod package_files;
mod paths;
mod picture_file;
mod pictures;
pub mod place;
mod progress;
mod say;
mod signals;
pub mod status;
pub mod systemd_dropin;
pub mod verify;
pub mod work;

use std::io::{self, Write as _};

use clap::{Parser, Subcommand};

use crate::daemon::control::Ask;
use crate::error::{Classify, ExitCode};
use crate::media;

/// Turns videos into slow motion (or a higher frame rate) with RIFE, and says how well that went.
///
/// Exit codes: 0 done, 64 wrong arguments, 65 the clip cannot be used or a file is not what its report says, 69 no device, or no daemon that can be asked, 70 a fault of slomod's own,
/// 73 cannot write, 74 read error or standard output that cannot be written, 75 try again later, 78 configuration or weights.
#[derive(Debug, Parser)]
#[command(name = "slomod", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch folders and work what is dropped there, until stopped.
    Daemon(daemon::DaemonArgs),
    /// Convert one clip.
    Convert(Box<convert::ConvertArgs>),
    /// Make one frame between two pictures.
    Interpolate(interpolate::InterpolateArgs),
    /// Measure PSNR and SSIM over folders of two frames and the true frame between them.
    Evaluate(evaluate::EvaluateArgs),
    /// Draw a short clip (or take yours), drop it into a folder that a daemon watches, and show what comes out.
    Demo(demo::run::DemoArgs),
    /// Hold an output, what lies beside it and the source to the hashes of their report.
    Verify(verify::VerifyArgs),
    /// Write a configuration by asking a few questions, and make its folders.
    Init(init::InitArgs),
    /// Check configuration, folders, weights, devices and encoders, and say what to do about each problem.
    Check(check::CheckArgs),
    /// Show how the daemon is, its jobs and their states; without a daemon, what its journal says.
    Status(status::StatusArgs),
    /// Begin no other clip until `resume`, also after a restart; the running one goes on.
    Pause(control::PlainArgs),
    /// Begin clips again.
    Resume(control::PlainArgs),
    /// Take a job out of the queue, or stop the running one. Its file stays, and is not worked until `retry`.
    Cancel(control::CancelArgs),
    /// Try a failed, refused, skipped or cancelled job again.
    Retry(control::RetryArgs),
    /// Read all folders now.
    Rescan(control::PlainArgs),
    /// Read the configuration again and say what came of it; running clips are not disturbed.
    Reload(control::PlainArgs),
    /// Print the daemon's figures as OpenMetrics text.
    Metrics(control::PlainArgs),
    /// What the daemon starts for each clip.
    #[command(hide = true)]
    Work(work::WorkArgs),
    /// Print what the systemd unit must be told about the folders of a configuration.
    SystemdDropin(systemd_dropin::SystemdDropinArgs),
    /// Write manual pages and completions, for whoever makes a package.
    #[command(hide = true)]
    PackageFiles(package_files::PackageFilesArgs),
    /// Turn an official PyTorch state dict into checked safetensors.
    Import(import::ImportArgs),
}

/// Why a subcommand ends without success.
#[derive(Debug)]
pub struct CliError {
    /// The process ends with it.
    pub exit: ExitCode,
    /// One or a few sentences: which file, what was wrong, what to do. Empty where all was said.
    pub message: String,
}

impl CliError {
    /// An error with a message of its own.
    #[must_use]
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A library error.
    #[must_use]
    pub fn of(error: &dyn Classify) -> Self {
        Self { exit: error.exit_code(), message: error.to_string() }
    }
}

/// Parses the arguments, runs the subcommand, prints its error. Returns the process's exit code.
#[must_use]
pub fn run() -> std::process::ExitCode {
    // Before any thread starts: it sets an environment variable that quiets an encoder.
    media::init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit(print(&error)),
    };
    let result = match &cli.command {
        Command::Daemon(args) => daemon::run(args),
        Command::Status(args) => status::run(args),
        Command::Pause(args) => control::run(&args.place, &Ask::Pause),
        Command::Resume(args) => control::run(&args.place, &Ask::Resume),
        Command::Cancel(args) => control::cancel(args),
        Command::Retry(args) => control::retry(args),
        Command::Rescan(args) => control::run(&args.place, &Ask::Rescan),
        Command::Reload(args) => control::run(&args.place, &Ask::Reload),
        Command::Metrics(args) => control::run(&args.place, &Ask::Metrics),
        Command::Work(args) => work::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Interpolate(args) => interpolate::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Demo(args) => demo::run::run(args),
        Command::Init(args) => init::run(args),
        Command::Check(args) => check::run(args),
        Command::SystemdDropin(args) => systemd_dropin::run(args),
        Command::PackageFiles(args) => package_files::run(args),
        Command::Import(args) => import::run(args),
    };
    match result {
        Ok(()) => exit(ExitCode::Ok),
        Err(error) => {
            if !error.message.is_empty() {
                say::note(format_args!("slomod: {}", error.message));
            }
            exit(error.exit)
        }
    }
}

/// Prints help that was asked for, or what is wrong with the arguments.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed.map_err(say::unwritable) {
        _ if error.use_stderr() => ExitCode::Usage,
        Ok(()) | Err(None) => ExitCode::Ok,
        Err(Some(error)) => {
            say::note(format_args!("slomod: {}", error.message));
            error.exit
        }
    }
}

fn exit(code: ExitCode) -> std::process::ExitCode {
    std::process::ExitCode::from(code as u8)
}
