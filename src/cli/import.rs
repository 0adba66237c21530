//! `slomod import`: official PyTorch weights → checked safetensors.

use std::path::PathBuf;

use clap::Args;

use crate::cli::CliError;
use crate::error::ExitCode;
use crate::models::{ModelError, import};

/// Arguments of `slomod import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// State dict as PyTorch writes it (.pkl, .pth; zip format), or safetensors.
    pub input: PathBuf,
    /// Checked safetensors that `--model` takes.
    pub output: PathBuf,
    /// The network's version, such as 4.25.lite, where names and shapes alone do not tell.
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
}

/// Imports.
///
/// # Errors
/// The exit code and a message that names the tensor at fault.
pub fn run(args: &ImportArgs) -> Result<(), CliError> {
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
    println!(
        "{}: {}, {} tensors, {} numbers, SHA-256 {}",
        summary.output.display(),
        summary.model_name,
        summary.tensors,
        summary.parameters,
        summary.sha256
    );
    for note in &summary.notes {
        println!("note: {note}");
    }
    Ok(())
}
