//! `slomod import`: official PyTorch weights → checked safetensors.

use std::path::PathBuf;

use clap::Args;

use crate::cli::CliError;
use crate::models::import;

/// Arguments of `slomod import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// State dict as PyTorch writes it (.pkl, .pth; zip format), or safetensors.
    pub input: PathBuf,
    /// Checked safetensors that `--model` takes.
    pub output: PathBuf,
}

/// Imports.
///
/// # Errors
/// The exit code and a message that names the tensor at fault.
pub fn run(args: &ImportArgs) -> Result<(), CliError> {
    let summary = import::import(&args.input, &args.output).map_err(|error| CliError::of(&error))?;
    println!("{}: {summary}", args.output.display());
    Ok(())
}
