//! The demo from end to end: clip, daemon, job, figures, contact sheet.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::demo::daemon_process::DaemonProcess;
use crate::cli::demo::folder::{self, DemoFolder};
use crate::cli::demo::scene::Scene;
use crate::cli::demo::truth::{self, TruthScores};
use crate::cli::demo::{clip, contact_sheet, outcome};
use crate::cli::progress::Display;
use crate::cli::{CliError, paths, say, signals};
use crate::config::settings::Device;
use crate::daemon::journal::Journal;
use crate::daemon::journal::view::JobView;
use crate::error::ExitCode;
use crate::report::Report;

/// How long the daemon may take to notice the clip.
const NOTICED_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks at the journal.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A clip counts as complete after this long without a change; short, as nobody else writes here.
const SETTLE: &str = "1s";
/// Ended jobs asked for: the demo has one.
const JOBS: u32 = 10;

/// Arguments of `slomod demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --clip, a clip is drawn whose true in-between frames are known, so that the result can be measured against \
them. In DIR it leaves the video and its report (out/), contact_sheet.png, slomod.toml and daemon.log.")]
pub struct DemoArgs {
    /// A video of your own instead of the drawn one.
    #[arg(long, value_name = "FILE")]
    pub clip: Option<PathBuf>,
    /// Folder for everything; emptied where an earlier demo made it.
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    pub dir: PathBuf,
    /// How many times slower, 2 to 16.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(2..=16))]
    pub factor: u32,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Device,
    /// Weights (safetensors). [default: the built-in starter weights]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Frames to draw, for tests.
    #[arg(long, hide = true, value_name = "N", default_value_t = clip::FRAMES,
          value_parser = clap::value_parser!(u32).range(2..=i64::from(clip::FRAMES)))]
    pub frames: u32,
}

/// Runs the demo.
///
/// # Errors
/// Exit code 64 where the clip or the weights lie in the folder, 65 where the clip cannot be used, 70 where the daemon or the
/// job fails, 73 where the folder cannot be written, 74 where clip or weights cannot be read, 75 where it was interrupted.
pub fn run(args: &DemoArgs) -> Result<(), CliError> {
    // A daemon waits for what does not open yet, or lacks its end; here nobody writes on.
    if let Some(own) = &args.clip {
        paths::whole(own).map_err(|error| CliError::of(&error))?;
    }
    if let Some(model) = &args.model {
        paths::check_readable(model)?;
    }
    let own = [("clip", &args.clip), ("weights file", &args.model)];
    let reads: Vec<_> =
        own.iter().filter_map(|(what, path)| Some((*what, path.as_deref()?))).collect();
    let demo = folder::prepare(&args.dir, &reads)?;
    let scene = args.clip.is_none().then(Scene::new);
    let source = match (&args.clip, &scene) {
        (None, Some(scene)) => {
            let started = Instant::now();
            clip::write(scene, args.frames, &demo.clip).map_err(|error| CliError::of(&error))?;
            let seconds = started.elapsed().as_secs_f64();
            let clip = demo.clip.display();
            say::line(format_args!("Drew {clip} ({} frames, {seconds:.1} s)", args.frames))?;
            demo.clip.clone()
        }
        (own, _) => own.clone().unwrap_or_default(),
    };
    write_file(&demo.config, &configuration(args, &demo)?)?;
    // Whoever is stopped from here on has a daemon to stop.
    let stop = signals::stop_flag();
    let (mut daemon, journal) = DaemonProcess::start(&demo.config, &demo.state, &demo.log)?;
    say::line(format_args!("Started the daemon on {}", demo.drop.display()))?;
    // The journal gives names of outputs as text, so the clip gets one that is.
    let name = source.file_name().unwrap_or(source.as_os_str());
    let dropped = demo.drop.join(&*name.to_string_lossy());
    std::fs::copy(&source, &dropped).map_err(|error| {
        let message = format!("{} to {}: {error}", source.display(), dropped.display());
        CliError::new(ExitCode::CannotCreate, message)
    })?;
    say::line(format_args!("Copied {} in", dropped.display()))?;
    let job = follow(&mut daemon, &journal, &stop)?;
    drop(journal);
    daemon.stop()?;
    finish(&demo, &job, scene.as_ref())
}

fn configuration(args: &DemoArgs, demo: &DemoFolder) -> Result<String, CliError> {
    let quoted = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned());
    let model = match &args.model {
        None => toml::Value::String("auto".into()),
        Some(path) => {
            let path = path.canonicalize().map_err(|error| {
                let message = format!("{}: cannot be read: {error}", path.display());
                CliError::new(ExitCode::IoError, message)
            })?;
            quoted(&path)
        }
    };
    Ok(format!(
        "[daemon]\nstate_dir = {}\ndevice = \"{}\"\nmodel = {model}\nsettle = \"{SETTLE}\"\n\
         # It is not for its name that the clip is here.\nextensions = []\n\n\
         [[watch]]\npath = {}\noutput = {}\nmode = \"slow\"\nfactor = {}\n",
        quoted(&demo.state),
        args.device,
        quoted(&demo.drop),
        quoted(&demo.out),
        args.factor
    ))
}

fn write_file(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| {
        let message = format!("{}: cannot be written: {error}", path.display());
        CliError::new(ExitCode::CannotCreate, message)
    })
}

/// Shows the job's progress until it has ended.
fn follow(
    daemon: &mut DaemonProcess,
    journal: &Journal,
    stop: &AtomicBool,
) -> Result<JobView, CliError> {
    let mut display = Display::new();
    let started = Instant::now();
    let result = loop {
        if stop.load(Ordering::Relaxed) {
            break Err(CliError::new(ExitCode::TempFail, "interrupted"));
        }
        if let Err(error) = daemon.check_alive() {
            break Err(error);
        }
        match journal.jobs(JOBS).map(|jobs| jobs.into_iter().next_back()) {
            Err(error) => break Err(CliError::of(&error)),
            Ok(None) if started.elapsed() > NOTICED_WITHIN => {
                let message = "the daemon did not take the clip; is it a video? See daemon.log";
                break Err(CliError::new(ExitCode::DataError, message));
            }
            Ok(Some(job)) if job.finished_ms.is_some() => break Ok(job),
            Ok(Some(job)) => {
                if let Some(progress) = &job.progress {
                    display.show(progress);
                }
            }
            Ok(None) => {}
        }
        std::thread::sleep(LOOK_EVERY);
    };
    display.clear();
    result
}

fn finish(demo: &DemoFolder, job: &JobView, scene: Option<&Scene>) -> Result<(), CliError> {
    let (Some(output), Some(report_path), "done") = (&job.output, &job.report, job.state.as_str())
    else {
        let exit = if job.state == "refused" { ExitCode::DataError } else { ExitCode::Software };
        let reason = job.error_message.as_deref().unwrap_or("see daemon.log");
        return Err(CliError::new(exit, format!("the job ended as {}: {reason}", job.state)));
    };
    let report = read_report(Path::new(report_path))?;
    let mut true_scores: Option<TruthScores> = None;
    let mut sheet = false;
    if let Some(interpolation) = &report.interpolation {
        let output = Path::new(output);
        if let Some(scene) = scene {
            true_scores =
                truth::score(scene, output, interpolation).map_err(|error| CliError::of(&error))?;
        }
        sheet = contact_sheet::write(&demo.sheet, output, interpolation)?;
    }
    say::print(outcome::text(&outcome::Outcome {
        report: &report,
        report_path: Path::new(report_path),
        true_scores,
        sheet: sheet.then_some(demo.sheet.as_path()),
    }))
}

fn read_report(path: &Path) -> Result<Report, CliError> {
    let wrong =
        |reason: String| CliError::new(ExitCode::Software, format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}
