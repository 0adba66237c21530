//! `slomod import`: official PyTorch weights → checked safetensors.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{CliError, paths, say};
use crate::error::ExitCode;
use crate::models::{ModelError, import, versions};

/// Arguments of `slomod import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// State dict as PyTorch writes it (.pkl, .pth; zip format), or safetensors.
    pub input: PathBuf,
    /// Checked safetensors that `--model` takes.
    pub output: PathBuf,
    /// The network's version, such as 4.25.lite, where names and shapes alone do not tell.
    #[arg(long, value_name = "V", value_parser = parse_version)]
    pub version: Option<String>,
    /// Replace the output if it is there.
    #[arg(long)]
    pub overwrite: bool,
}

fn parse_version(text: &str) -> Result<String, String> {
    match versions::is_published(text) {
        true => Ok(text.to_owned()),
        false => Err("use a published one, 4.0 to 4.26, also as 4.25.lite or 4.26.heavy".into()),
    }
}

/// Imports.
///
/// # Errors
/// The exit code and a message that names the tensor at fault; 64 where the output is the input, 73 where it is there
/// already.
pub fn run(args: &ImportArgs) -> Result<(), CliError> {
    paths::check_readable(&args.input)?;
    let output = args.output.display();
    if paths::is_same(&args.input, &args.output) {
        let message = format!("{output}: is the input too; name another output");
        return Err(CliError::new(ExitCode::Usage, message));
    }
    if paths::is_there(&args.output) && !args.overwrite {
        let message = format!("{output}: is there already; use --overwrite to replace it");
        return Err(CliError::new(ExitCode::CannotCreate, message));
    }
    let version = args.version.as_deref();
    let summary = import::import_as(&args.input, &args.output, version).map_err(|error| {
        // A model of a configuration is its fault; what is imported is the input.
        let exit = match &error {
            ModelError::Read { .. } => ExitCode::IoError,
            ModelError::Invalid { .. } => ExitCode::DataError,
            ModelError::Write { .. } => ExitCode::CannotCreate,
        };
        CliError::new(exit, error.to_string())
    })?;
    say::line(format_args!(
        "{}: {}, {} tensors, {} numbers, SHA-256 {}",
        summary.output.display(),
        summary.model_name,
        summary.tensors,
        summary.parameters,
        summary.sha256
    ))?;
    for note in &summary.notes {
        say::line(format_args!("note: {note}"))?;
    }
    Ok(())
}
