//! `slomod evaluate`: PSNR and SSIM over folders of two frames and the true frame between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::cli::network::{self, NetworkArgs};
use crate::cli::{CliError, picture_file, say};
use crate::engine::blend::blend;
use crate::engine::{EngineDescription, Interpolator};
use crate::error::ExitCode;
use crate::frame::{Frame, Picture, Seconds};
use crate::pipeline::holdout::scores_report;
use crate::quality::holdout::pool;
use crate::quality::{FrameScores, Samples, compare};
use crate::report::measured::Scores;

/// Earlier frame, later frame, and the truth half way between them.
const NAMES: [&str; 3] = ["frame10.png", "frame11.png", "gt.png"];
/// Where the truth lies.
const TIMESTEP: f32 = 0.5;

/// Arguments of `slomod evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "\
PSNR is over 8-bit RGB as in RIFE's benchmarks, SSIM is RIFE's 3-D Gaussian SSIM; --json adds those of luma. \
The mean is that of the folders' figures.")]
pub struct EvaluateArgs {
    /// A folder with frame10.png, frame11.png and gt.png, or a folder of such folders.
    pub dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// What makes new frames.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Evaluation {
    timestep: f32,
    engine: EngineDescription,
    triplets: Vec<Triplet>,
    mean: Ways<Scores>,
}

#[derive(Debug, Serialize)]
struct Triplet {
    name: String,
    width_px: usize,
    height_px: usize,
    #[serde(flatten)]
    scores: Ways<Scores>,
    #[serde(skip)]
    measured: Ways<FrameScores>,
}

/// Something for each way of making the frame.
#[derive(Clone, Copy, Debug, Serialize)]
struct Ways<T> {
    network: T,
    repeat: T,
    blend: T,
}

impl<T> Ways<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Ways<U> {
        Ways {
            network: change(self.network),
            repeat: change(self.repeat),
            blend: change(self.blend),
        }
    }
}

/// Measures and prints.
///
/// # Errors
/// Exit code 65 where pictures are missing or do not fit each other, 74 where something cannot be read; those of the
/// engine.
pub fn run(args: &EvaluateArgs) -> Result<(), CliError> {
    let folders = folders(&args.dir)?;
    let mut engine =
        network::open(&args.network.settings()).map_err(|error| CliError::of(&error))?;
    let mut triplets = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        triplets.push(measure(folder, 2 * number as u64, engine.as_mut())?);
    }
    let pooled = |way: fn(&Ways<FrameScores>) -> FrameScores| {
        scores_report(&pool(triplets.iter().map(|triplet| way(&triplet.measured))))
    };
    let mean = Ways {
        network: pooled(|it| it.network),
        repeat: pooled(|it| it.repeat),
        blend: pooled(|it| it.blend),
    };
    let engine = engine.description();
    let evaluation = Evaluation { timestep: TIMESTEP, engine, triplets, mean };
    if args.json {
        let text = serde_json::to_string_pretty(&evaluation)
            .map_err(|error| CliError::new(ExitCode::Software, error.to_string()))?;
        say::line(text)
    } else {
        say::print(table(&evaluation))
    }
}

/// `dir` itself, or its folders that hold any of the three pictures, by name.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let holds_any = |folder: &Path| NAMES.iter().any(|name| folder.join(name).exists());
    if holds_any(dir) {
        return Ok(vec![dir.to_owned()]);
    }
    let unreadable = |error: std::io::Error| {
        CliError::new(ExitCode::IoError, format!("{}: cannot be read: {error}", dir.display()))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() && holds_any(&path) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        let [first, second, truth] = NAMES;
        let message = format!(
            "{}: neither it nor a folder in it holds {first}, {second} and {truth}",
            dir.display()
        );
        return Err(CliError::new(ExitCode::DataError, message));
    }
    Ok(found)
}

fn measure(
    folder: &Path,
    first_index: u64,
    engine: &mut dyn Interpolator,
) -> Result<Triplet, CliError> {
    let [img0, img1, truth] = read_three(folder)?;
    let frame = |index: u64, picture: &Arc<Picture>| Frame {
        index,
        pts: Seconds::from_integer(i128::from(index)),
        duration: None,
        picture: Arc::clone(picture),
        alpha: None,
    };
    let made = engine
        .interpolate(&frame(first_index, &img0), &frame(first_index + 1, &img1), &[TIMESTEP])
        .map_err(|error| CliError::of(&error))?;
    let network = made
        .into_iter()
        .next()
        .ok_or_else(|| CliError::new(ExitCode::Software, "the engine made no frame"))?;
    let reference = Samples::of_picture(&truth);
    let score = |picture: &Picture| compare(&reference, &Samples::of_picture(picture));
    let measured = Ways {
        network: score(&network),
        repeat: score(&img0),
        blend: score(&blend(&img0, &img1, TIMESTEP)),
    };
    Ok(Triplet {
        name: folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned(),
        width_px: truth.format.width_px,
        height_px: truth.format.height_px,
        scores: measured.map(|scores| scores_report(&pool([scores].into_iter()))),
        measured,
    })
}

fn read_three(folder: &Path) -> Result<[Arc<Picture>; 3], CliError> {
    let read = |name: &str| {
        let path = folder.join(name);
        if !path.exists() {
            let message = format!("{}: {name} is missing", folder.display());
            return Err(CliError::new(ExitCode::DataError, message));
        }
        let (picture, notes) = picture_file::read(&path)?;
        notes.iter().for_each(|note| say::note(format_args!("slomod: {note}")));
        Ok(Arc::new(picture))
    };
    let pictures = [read(NAMES[0])?, read(NAMES[1])?, read(NAMES[2])?];
    let size = |picture: &Picture| (picture.format.width_px, picture.format.height_px);
    for (name, picture) in NAMES.iter().zip(&pictures) {
        if size(picture) != size(&pictures[0]) {
            let ((w, h), (first_w, first_h)) = (size(picture), size(&pictures[0]));
            let message = format!(
                "{}: {name} is {w}x{h}, {} is {first_w}x{first_h}",
                folder.display(),
                NAMES[0]
            );
            return Err(CliError::new(ExitCode::DataError, message));
        }
    }
    Ok(pictures)
}

fn table(evaluation: &Evaluation) -> String {
    let engine = &evaluation.engine;
    let mut text = format!(
        "{} on {} ({})\n\n{:24}{:>20}{:>20}{:>20}\n",
        engine.model_name,
        engine.device_name,
        engine.precision,
        "PSNR dB / SSIM",
        "network",
        "repeat",
        "blend"
    );
    for triplet in &evaluation.triplets {
        text += &row(&triplet.name, &triplet.scores);
    }
    text + &row("mean", &evaluation.mean)
}

fn row(name: &str, scores: &Ways<Scores>) -> String {
    let cell = |scores: &Scores| {
        let psnr = scores.psnr_rgb_db.map_or("exact".to_owned(), |psnr| format!("{psnr:.2}"));
        let ssim = scores.ssim_rife.map_or("-".to_owned(), |ssim| format!("{ssim:.4}"));
        format!("{psnr} / {ssim}")
    };
    let [network, repeat, blend] = [&scores.network, &scores.repeat, &scores.blend].map(cell);
    format!("{name:24}{network:>20}{repeat:>20}{blend:>20}\n")
}
