//! `slomod interpolate`: one frame between two pictures.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::network::{self, NetworkArgs};
use crate::cli::picture_file::{self, Existing};
use crate::cli::{CliError, paths, say};
use crate::error::ExitCode;
use crate::frame::{Frame, Picture, Seconds};
use crate::ops::color;

/// Arguments of `slomod interpolate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slomod interpolate a.png b.png --output between.png
  slomod interpolate a.jpg b.jpg --timestep 0.25 --output quarter.jpg --model rife.safetensors")]
pub struct InterpolateArgs {
    /// The earlier picture (PNG, JPEG, turned as its EXIF says; 16-bit PNG is read as 8 bit).
    pub img0: PathBuf,
    /// The later picture, of the same size.
    pub img1: PathBuf,
    /// Where between them: 0 is the earlier, 1 the later.
    #[arg(short, long, value_name = "T", default_value_t = 0.5, value_parser = parse_timestep)]
    pub timestep: f32,
    /// The picture to write; its extension (png, jpg, jpeg) picks the format. JPEG is of quality 95: PNG loses nothing.
    #[arg(short, long, value_name = "IMG")]
    pub output: PathBuf,
    /// Replace the output if it is there.
    #[arg(long)]
    pub overwrite: bool,
    /// What makes new frames.
    #[command(flatten)]
    pub network: NetworkArgs,
}

fn parse_timestep(text: &str) -> Result<f32, String> {
    let timestep: Option<f32> = text.parse().ok().filter(|t| (0.0..=1.0).contains(t));
    timestep.ok_or_else(|| format!("`{text}` is no time step: write a number from 0 to 1"))
}

/// Makes and writes the frame.
///
/// # Errors
/// Exit code 64 for a wrong output name or one of an input, 65 for pictures that do not fit, 73 where the output cannot be
/// written or is there already, 74 where an input cannot be read; those of the engine.
pub fn run(args: &InterpolateArgs) -> Result<(), CliError> {
    picture_file::format_of(&args.output)?;
    let read = [Some(&args.img0), Some(&args.img1), args.network.model.as_ref()];
    paths::check_apart(&args.output, read.into_iter().flatten().map(PathBuf::as_path))?;
    paths::check_folder(&args.output)?;
    let existing = if args.overwrite { Existing::Replace } else { Existing::Keep };
    if existing == Existing::Keep && args.output.symlink_metadata().is_ok() {
        let message =
            format!("{}: is there already; use --overwrite to replace it", args.output.display());
        return Err(CliError::new(ExitCode::CannotCreate, message));
    }
    let read = |path| {
        let (picture, notes) = picture_file::read(path)?;
        notes.iter().for_each(|note| say::note(format_args!("slomod: {note}")));
        Ok::<Picture, CliError>(picture)
    };
    let (img0, img1) = (read(&args.img0)?, read(&args.img1)?);
    if img0.format != img1.format {
        let size =
            |picture: &Picture| format!("{}x{}", picture.format.width_px, picture.format.height_px);
        let message = format!(
            "{} is {}, {} is {}: both must have one size",
            args.img0.display(),
            size(&img0),
            args.img1.display(),
            size(&img1)
        );
        return Err(CliError::new(ExitCode::DataError, message));
    }
    let between = between(args, img0, img1)?;
    let format = between.format;
    let rgb = color::rgb8(&color::picture_to_rgb(&between));
    picture_file::write_rgb8(&args.output, &rgb, (format.width_px, format.height_px), existing)
}

fn between(args: &InterpolateArgs, img0: Picture, img1: Picture) -> Result<Picture, CliError> {
    if args.timestep <= 0.0 {
        return Ok(img0);
    }
    if args.timestep >= 1.0 {
        return Ok(img1);
    }
    let mut engine =
        network::open(&args.network.settings()).map_err(|error| CliError::of(&error))?;
    let frame = |index: u64, picture| Frame {
        index,
        pts: Seconds::from_integer(i128::from(index)),
        duration: None,
        picture: Arc::new(picture),
        alpha: None,
    };
    let made = engine
        .interpolate(&frame(0, img0), &frame(1, img1), &[args.timestep])
        .map_err(|error| CliError::of(&error))?;
    made.into_iter()
        .next()
        .ok_or_else(|| CliError::new(ExitCode::Software, "the engine made no frame"))
}
