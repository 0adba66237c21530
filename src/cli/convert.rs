//! `slomod convert`: one clip, here and now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use num_rational::Ratio;

use crate::cli::content::ContentArgs;
use crate::cli::network::{self, NetworkArgs};
use crate::cli::paths::{self, folder_of};
use crate::cli::pictures::{self, Ends};
use crate::cli::progress::Display;
use crate::cli::{CliError, say, signals};
use crate::config::file::Collision;
use crate::config::settings::{
    Audio, Codec, Container, EncodeOn, Encoding, FACTOR_RANGE, Interlaced, Mode, Profile, Settings,
    Timelapse,
};
use crate::daemon::intake::Identities;
use crate::daemon::names;
use crate::daemon::publish::{self, Publication, Published};
use crate::error::ExitCode;
use crate::frame::rational_text;
use crate::pipeline::convert::convert_knowing;
use crate::pipeline::known::Known;
use crate::pipeline::segments::Rule;
use crate::pipeline::{ConvertError, Task, room};
use crate::report::Report;

/// Arguments of `slomod convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slomod convert rally.mp4 --output rally_slow.mp4 --factor 4
  slomod convert drive.mkv --output drive60.mkv --mode smooth --fps 60
  slomod convert jump.mov --output jump.mp4 --speed 0.3 --audio drop --json
  slomod convert crash.mp4 --output crash_slow.mkv --profile evidence
  slomod convert render/%04d.png --input-fps 24 --output slow/%04d.png")]
pub struct ConvertArgs {
    /// The clip, or numbered pictures: a folder of them, or their names as frames/%05d.png. It is only read.
    pub input: PathBuf,
    /// Pictures a second of numbered pictures, which have no times of their own: 24, 59.94 or 60000/1001.
    #[arg(long, value_name = "R", value_parser = rational_text::parse)]
    pub input_fps: Option<Ratio<i128>>,
    /// Where the result goes; its extension (mp4, mkv, mov) picks the container. out/%05d.png writes pictures into a
    /// folder, numbered from 1, and their report beside it. Nothing is begun where there is no room for the result and
    /// what is made beside it, judged by the input (exit code 73).
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// slow: longer, at the source's rate. smooth: same duration, more frames a second.
    #[arg(long, value_enum, default_value_t = Mode::Slow)]
    pub mode: Mode,
    /// How many times slower, or in mode smooth how many times the frame rate: auto, or 2 to 16. Not together with --speed, or with --fps in mode smooth. [default: 4 slow, 2 smooth]
    #[arg(long, value_name = "auto|N", value_parser = or_auto(parse_factor))]
    pub factor: Option<OrAuto<u32>>,
    /// Rate of the output: auto, or 10 to 320 as 60, 59.94 or 60000/1001. auto is the source's rate in slow motion
    /// and the source's rate times the factor when smooth.
    #[arg(long, value_name = "auto|R", default_value = "auto")]
    pub fps: String,
    /// Playback speed in slow motion, 0.0625 to below 1 as 0.3 or 1/3, instead of a factor; auto leaves it to that.
    #[arg(long, value_name = "auto|S", value_parser = or_auto(rational_text::parse_speed))]
    pub speed: Option<OrAuto<Ratio<i128>>>,
    /// What makes new frames.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// stretch: as long as the picture, pitch kept. resample: the same, but lower. keep: as it is. drop: none.
    #[arg(long, value_enum, default_value_t = Audio::Stretch)]
    pub audio: Audio,
    /// Interlaced pictures. deinterlace: a whole one of each frame. fields: of each field, at twice the rate. keep: as
    /// they are. refuse: end with an error.
    #[arg(long, value_enum, default_value_t)]
    pub interlaced: Interlaced,
    /// A clip that looks like a time-lapse. flag: say so in the report. refuse: end with an error.
    #[arg(long, value_enum, default_value_t)]
    pub timelapse: Timelapse,
    /// evidence: for whoever has to answer for the result. Lossless (FFV1), every frame accounted for, made ones marked.
    /// dashcam: what is burnt into the picture is looked for, and never made up. What is given besides has precedence.
    #[arg(long, value_enum, default_value_t = Profile::Standard)]
    pub profile: Profile,
    /// Encoder. [default: h264; ffv1 in profile evidence]
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,
    /// cpu: the best picture for its size. gpu: by the encoder of an NVIDIA GPU (NVENC), which is faster.
    #[arg(long, value_enum, default_value_t)]
    pub encode_on: EncodeOn,
    /// Quality in the encoder's own scale (CRF; on a GPU, CQ); lower is better. auto: 18 H.264, 20 H.265, 24 AV1. [default: auto]
    #[arg(long, value_name = "auto|N", value_parser = or_auto(parse_crf))]
    pub crf: Option<OrAuto<u8>>,
    /// Preset by the encoder's own name. auto: medium, SVT-AV1: 8, on a GPU: p5. [default: auto]
    #[arg(long, value_name = "auto|NAME", value_parser = or_auto(|it| Ok(it.to_owned())))]
    pub preset: Option<OrAuto<String>>,
    /// Container, where the output's extension does not say.
    #[arg(long, value_enum)]
    pub container: Option<Container>,
    /// Held-out frames measured for PSNR and SSIM at the most; 0 measures none and saves that time. [default: 200;
    /// 10000 in profile evidence]
    #[arg(long, value_name = "N")]
    pub quality_samples: Option<u32>,
    /// Measure held-out frames by VMAF as well, where FFmpeg has its filter libvmaf.
    #[arg(long)]
    pub vmaf: bool,
    /// Where the report goes, also that of a failure. [default: the output's name with .json behind it; none of a failure]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print the report to standard output too.
    #[arg(long)]
    pub json: bool,
    /// Replace an output that is there, and a report.
    #[arg(long)]
    pub overwrite: bool,
    /// What the clip shows, and what is made beside the output.
    #[command(flatten)]
    pub content: ContentArgs,
}

/// What is said of a setting; `None` is `auto`.
pub type OrAuto<T> = Option<T>;

/// Reads the word `auto`, or what `parse` reads.
fn or_auto<T>(
    parse: impl Fn(&str) -> Result<T, String> + Clone,
) -> impl Fn(&str) -> Result<OrAuto<T>, String> + Clone {
    move |text| if text == "auto" { Ok(None) } else { parse(text).map(Some) }
}

fn parse_factor(text: &str) -> Result<u32, String> {
    let factor = text.parse().ok().filter(|it| FACTOR_RANGE.contains(it));
    factor.ok_or_else(|| "use auto or a whole number, 2 to 16".into())
}

/// What the encoder takes is known with the codec.
fn parse_crf(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| "use auto or a whole number, 0 to 51, of av1 to 63".into())
}

impl ConvertArgs {
    pub(super) fn settings(&self) -> Result<Settings, CliError> {
        let usage = |message| CliError::new(ExitCode::Usage, message);
        let fps = match self.fps.as_str() {
            "auto" => None,
            text => Some(rational_text::parse(text).map_err(usage)?),
        };
        let default = self.profile.settings();
        Ok(Settings {
            profile: self.profile,
            mode: self.mode,
            factor: self.factor.flatten(),
            fps,
            speed: self.speed.flatten(),
            audio: self.audio,
            interlaced: self.interlaced,
            timelapse: self.timelapse,
            encoding: Encoding {
                codec: self.codec.unwrap_or(default.encoding.codec),
                encode_on: self.encode_on,
                crf: self.crf.flatten(),
                preset: self.preset.clone().flatten(),
                container: self.container,
            },
            quality_samples: self.quality_samples.unwrap_or(default.quality_samples),
            vmaf: self.vmaf || default.vmaf,
            content: self.content.content(&default),
            beside: self.content.beside(&default),
            ..self.network.settings()
        })
    }
}

/// Converts the clip and publishes it with its report.
///
/// # Errors
/// The exit code and a message; nothing is left behind then but a report that was asked for.
pub fn run(args: &ConvertArgs) -> Result<(), CliError> {
    // Looking whether a file can be made makes one: whoever stops the command must not leave that behind.
    let stop = signals::stop_flag();
    if let Some(ends) = Ends::of(args)? {
        return pictures::run(args, &ends, stop);
    }
    paths::check_output(args)?;
    paths::check_report(args, &paths::usual_report(args), None)?;
    let settings = args.settings()?;
    let task = Task {
        source: args.input.clone(),
        temporary: names::temporary(&args.output, i64::from(std::process::id()), 0),
        // Whoever runs it sees how it ends; nothing stays for another time.
        parts: None,
        segments: Rule::default(),
        output: args.output.clone(),
        settings_sha256: identity(&settings),
        settings,
    };
    let _temporary = Temporary(task.temporary.clone());
    let (mut display, mut known) = (Display::new(), Known::start());
    let result = paths::whole(&args.input)
        .map_err(ConvertError::from)
        .and_then(|()| check_room(folder_of(&args.output), |folder| room::check(&task, folder, 0)))
        .and_then(|()| work(&task, &stop, &mut display, &mut known));
    display.clear();
    let report = match &result {
        Ok(report) => report.clone(),
        Err(error) => {
            if args.json || args.report.is_some() {
                known.read_source(&task, error, &stop);
            }
            known.failure_report(&task, error)
        }
    };
    if let Err(error) = result {
        tell_failure(args, &report);
        return Err(CliError::of(&error));
    }
    // Before anything is printed: that nobody reads it must not cost the work.
    let published = self::publish(args, task, &report)?;
    tell_done(args, &report, &published)
}

/// The hash of the settings. Weights that cannot be read are the engine's to complain about.
pub(super) fn identity(settings: &Settings) -> Option<String> {
    Identities::default().of(settings).ok().map(|it| it.1)
}

/// Prints the report to standard output.
fn print(report: &Report) -> Result<(), CliError> {
    let json = report.to_json();
    let json = json.map_err(|error| CliError::new(ExitCode::Software, error.to_string()))?;
    say::print(json)
}

/// The temporary output. However the command ends: what has no name of its own by then is removed.
pub(super) struct Temporary(pub(super) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = publish::remove_temporary(&self.0);
    }
}

/// Gives the finished output and its report their names.
pub(super) fn publish(
    args: &ConvertArgs,
    task: Task,
    report: &Report,
) -> Result<Published, CliError> {
    let publication = Publication {
        temporary: task.temporary,
        output: task.output,
        report_path: args.report.clone(),
        collision: collision(args),
        report: report.clone(),
    };
    publish::publish(&publication, &mut |_| Ok(())).map_err(|error| CliError::of(&error))
}

/// A name that was free before the work and is taken behind it fails it: nobody asked for another name.
pub(super) fn collision(args: &ConvertArgs) -> Collision {
    if args.overwrite { Collision::Overwrite } else { Collision::Skip }
}

/// Writes and prints the report of a failure where that was asked for, and says where it is. That this cannot be done is
/// said besides: how the command ends is for the failure itself to say.
pub(super) fn tell_failure(args: &ConvertArgs, report: &Report) {
    if args.json
        && let Err(error) = print(report)
    {
        say::note(format_args!("slomod: {}", error.message));
    }
    let Some(path) = &args.report else { return };
    match publish::publish_report_at(path, report, collision(args)) {
        Ok(()) => say::note(format_args!("report: {}", path.display())),
        Err(error) => say::note(format_args!("slomod: the report: {error}")),
    }
}

pub(super) fn work(
    task: &Task,
    stop: &Arc<AtomicBool>,
    display: &mut Display,
    known: &mut Known,
) -> Result<Report, ConvertError> {
    let mut engine = network::open(&task.settings)?;
    convert_knowing(task, &mut *engine, stop, &mut |progress| display.show(progress), known)
}

/// Whether `check` finds room in `folder`, which it gets by its full name.
pub(super) fn check_room(
    folder: &Path,
    check: impl FnOnce(&Path) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let full = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    check(&full).map_err(|error| match error {
        ConvertError::NoSpace(why) => ConvertError::NoSpace(format!(
            "{why}: nothing was begun; make room or name an output elsewhere"
        )),
        error => error,
    })
}

/// Says what was made, and prints the report where that was asked for.
pub(super) fn tell_done(
    args: &ConvertArgs,
    report: &Report,
    published: &Published,
) -> Result<(), CliError> {
    let printed = if args.json { print(report) } else { Ok(()) };
    say_done(report, published);
    printed
}

fn say_done(report: &Report, published: &Published) {
    let Some(made) = &report.output else { return };
    say::note(format_args!(
        "{}: {} frames ({} real, {} synthesised, {} held, {} repaired), {:.2} s at {} fps; {:.2} frames a second",
        published.output.display(),
        made.frames.total,
        made.frames.real,
        made.frames.synthesised,
        made.frames.held,
        made.frames.repaired,
        made.duration_s,
        made.fps,
        report.timing.end_to_end_fps.unwrap_or_default(),
    ));
    if let Some(quality) = report.quality.as_ref().filter(|it| it.holdout.samples > 0) {
        let number =
            |value: Option<f64>| value.map_or("identical".into(), |it| format!("{it:.2} dB"));
        let holdout = &quality.holdout;
        say::note(format_args!(
            "held-out frames: {} (repeat {}, blend {}), SSIM {:.4}, {} measured",
            number(holdout.network.psnr_rgb_db),
            number(holdout.repeat.psnr_rgb_db),
            number(holdout.blend.psnr_rgb_db),
            holdout.network.ssim_y.unwrap_or_default(),
            holdout.samples,
        ));
    }
    for sidecar in &made.sidecars {
        say::note(format_args!("{}: {}", sidecar.kind, sidecar.path));
    }
    for warning in &report.warnings {
        say::note(format_args!("warning: {} ({})", warning.message, warning.code));
    }
    say::note(format_args!("report: {}", published.report_path.display()));
}
