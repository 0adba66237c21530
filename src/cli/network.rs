//! Arguments about the network: its weights, how it works, and where.

use std::path::PathBuf;

use clap::Args;

use crate::cli::say;
use crate::config::settings::{Device, Sampling, Scale, Settings, parse_passes, parse_threads};
use crate::engine::{self, EngineError, Interpolator};

/// What makes new frames.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Weights (safetensors). [default: the built-in starter weights]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Flow scale: auto, 0.25, 0.5, 1 or 2. auto is 1 up to 2560x1440, 0.5 up to 3840x2160, 0.25 above.
    #[arg(long, value_name = "S", default_value = "auto", value_parser = parse_scale)]
    pub scale: Scale,
    /// How new pictures read the frames between their pixels: bilinear as in RIFE's program, or bicubic, which is sharper.
    #[arg(long, default_value = "bicubic")]
    pub sampling: Sampling,
    /// Whether the network's flows are refined where both moved frames still differ by a shift, which RIFE's program does not do.
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub refine: bool,
    /// Passes that make each picture, which is their mean: 1, 2 or 4. More come nearer to the truth, are softer where they disagree, and take as many times longer.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_passes)]
    pub passes: u32,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Device,
    /// Threads on a CPU; 0 is all cores.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_threads)]
    pub threads: usize,
}

fn parse_scale(text: &str) -> Result<Scale, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Scale::Auto),
        (_, Ok(scale)) if [0.25, 0.5, 1.0, 2.0].contains(&scale) => Ok(Scale::Fixed(scale)),
        _ => Err("use auto, 0.25, 0.5, 1 or 2".into()),
    }
}

impl NetworkArgs {
    /// These, and the defaults of everything else.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            model: self.model.clone(),
            scale: self.scale,
            sampling: self.sampling,
            refine: self.refine,
            passes: self.passes,
            device: self.device,
            threads: self.threads,
            ..Settings::default()
        }
    }
}

/// Opens the engine that `settings` ask for, and says on standard error why it is not on a GPU that was looked for.
///
/// # Errors
/// As [`engine::open`].
pub(super) fn open(settings: &Settings) -> Result<Box<dyn Interpolator>, EngineError> {
    let engine = engine::open(settings)?;
    if let Some(reason) = engine.description().fallback_reason {
        say::note(format_args!("slomod: {reason}"));
    }
    Ok(engine)
}
