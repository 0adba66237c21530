//! Chooses device and weights: settings in, a ready [`Interpolator`] out.

use std::borrow::Cow;
use std::path::Path;

use crate::backend::cpu::Cpu;
use crate::backend::cpu::instructions::{INSTRUCTIONS_VARIABLE, Instructions};
use crate::config::settings::{Device, Settings};
use crate::engine::blend::Blend;
use crate::engine::rife::{Origin, Rife};
use crate::engine::{EngineError, Interpolator};
use crate::models::ModelError;
use crate::models::rife_v4::Network;
use crate::models::weights::Weights;

/// The starter weights: a narrow v4.26 trained by this project; see `models/README.md` in the repository.
static STARTER: &[u8] = include_bytes!("../../models/starter.safetensors");

/// Name of the starter weights in messages.
pub const STARTER_NAME: &str = "built-in starter weights";

/// Model name that asks for the trivial engine.
pub const BLEND: &str = "blend";

/// The engine that `settings` ask for.
///
/// # Errors
/// [`EngineError::NoDevice`], [`EngineError::Model`], [`EngineError::Scale`].
pub fn open(settings: &Settings) -> Result<Box<dyn Interpolator>, EngineError> {
    if settings.model.as_deref() == Some(Path::new(BLEND)) {
        return Ok(Box::new(Blend));
    }
    let fallback_reason = match settings.device {
        Device::Cpu => None,
        Device::Auto => {
            Some("this version of slomod has no GPU engine; the network runs on the CPU".to_owned())
        }
        Device::Cuda(_) => {
            return Err(EngineError::NoDevice {
                device: settings.device.to_string(),
                reason: "this version of slomod has no CUDA engine; use `auto` or `cpu`".to_owned(),
            });
        }
    };
    let weights = open_weights(settings.model.as_deref())?;
    let network = Network::read(&weights)?;
    for note in &network.notes {
        log::info!("{}: {note}", settings.model.as_deref().unwrap_or(Path::new("")).display());
    }
    let origin = Origin {
        model_sha256: Some(weights.sha256()),
        device_name: processor_name(),
        fallback_reason,
    };
    Ok(Box::new(Rife::new(processor(settings.threads)?, &network, settings.scale, origin)?))
}

/// `threads` threads (0: one for each core), with the best instruction set or the one that [`INSTRUCTIONS_VARIABLE`] names.
fn processor(threads: usize) -> Result<Cpu, EngineError> {
    let no_device = |reason| EngineError::NoDevice { device: "cpu".to_owned(), reason };
    let wished = std::env::var(INSTRUCTIONS_VARIABLE).ok();
    let instructions = Instructions::choose(wished.as_deref()).map_err(no_device)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores() } else { threads };
    Cpu::new(instructions, threads).map_err(no_device)
}

/// A weights file, or the starter weights.
///
/// # Errors
/// [`ModelError`].
pub fn open_weights(path: Option<&Path>) -> Result<Weights, ModelError> {
    match path {
        Some(path) => Weights::open(path),
        None => Weights::from_bytes(Path::new(STARTER_NAME), Cow::Borrowed(STARTER)),
    }
}

/// What the kernel calls the processor, or its architecture.
#[must_use]
pub fn processor_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
