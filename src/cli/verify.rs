//! `slomod verify`: are files still what their report says? It needs no network, no device and no configuration.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde::Serialize;

use crate::cli::{CliError, paths, say, signals};
use crate::daemon::digest::bytes_sha256;
use crate::daemon::names;
use crate::error::{Classify, ExitCode};
use crate::pipeline::ConvertError;
use crate::pipeline::audit::{self, Found, Item, Verdict};
use crate::pipeline::audit_frames::{self, Frames};
use crate::plain_file;
use crate::report::{Report, Status};

/// Arguments of `slomod verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Files are looked for beside the report, then where it says; the source is the one of them that has its hash, and never the \
output. So are originals in the trash (.slomod-trash) of a watched folder. A source that is nowhere there is said to be \
absent, which is no fault, and neither is another clip in the place of one that got no output. The report is not signed: note its \
SHA-256, which is printed, where nobody can change it.

Exit codes: 0 all is as the report says, 65 a file is not, 74 one is missing or cannot be read, 73 no room for the \
pictures that are gathered, 64 nothing to compare.

Examples:
  slomod verify rally_slow4x.mp4.json
  slomod verify crash_slow.mov --frames --source /mnt/card/crash.mp4
  slomod verify /srv/dashcam-out --source /srv/dashcam-originals
  slomod verify /srv/slomod/out --json")]
pub struct VerifyArgs {
    /// A report, the output that it lies beside, or a folder with reports in it or in folders below it.
    #[arg(value_name = "REPORT")]
    pub place: PathBuf,
    /// Where the source is now, if it was moved: a clip, numbered pictures as they were named, or the folder that originals
    /// were moved to, in which it is looked for by its content.
    #[arg(long, value_name = "PATH")]
    pub source: Option<PathBuf>,
    /// Also decode the output, and the source where it is there, and compare every frame with the list of frames. Numbered
    /// pictures of the source are gathered in a temporary file for that (TMPDIR).
    #[arg(long)]
    pub frames: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is said of all reports.
#[derive(Debug, Serialize)]
struct View<'a> {
    /// Whether nothing differs, is missing or cannot be read.
    ok: bool,
    reports: &'a [Held],
}

/// What is said of one.
#[derive(Debug, Serialize)]
struct Held {
    #[serde(serialize_with = "audit::lossy")]
    report: PathBuf,
    report_sha256: String,
    report_id: String,
    status: Status,
    files: Vec<Item>,
    /// With `--frames`, where output and list are there.
    output_frames: Option<Frames>,
    /// With `--frames`, where source and list are there.
    source_frames: Option<Frames>,
    /// Why frames could not be compared.
    frames_fault: Option<String>,
    /// What the command ends with for that.
    #[serde(skip)]
    frames_exit: ExitCode,
}

/// Compares, and prints what came of it.
///
/// # Errors
/// The exit code, where not all is as the report says.
pub fn run(args: &VerifyArgs) -> Result<(), CliError> {
    let stop = signals::stop_flag();
    let reports = reports(&args.place)?;
    if args.source.as_ref().is_some_and(|it| !it.is_dir()) && reports.len() > 1 {
        let message = format!(
            "{}: holds {} reports; name the one that --source belongs to, or the folder of all sources",
            args.place.display(),
            reports.len()
        );
        return Err(CliError::new(ExitCode::Usage, message));
    }
    let held = reports.iter().map(|it| hold(args, it, &stop)).collect::<Result<Vec<_>, _>>()?;
    let exit = held.iter().map(Held::exit).fold(ExitCode::Ok, worse);
    if args.json {
        let view = View { ok: exit == ExitCode::Ok, reports: &held };
        let json = serde_json::to_string_pretty(&view);
        say::line(json.map_err(|it| CliError::new(ExitCode::Software, it.to_string()))?)?;
    } else {
        say::print(held.iter().map(Held::text).collect::<String>())?;
    }
    let differs = held.iter().any(|it| it.found() != ExitCode::Ok);
    match exit {
        ExitCode::Ok => Ok(()),
        exit if differs => Err(CliError::new(exit, "not all is as the report says")),
        exit => Err(CliError::new(exit, "frames could not be compared")),
    }
}

type Read = (PathBuf, Vec<u8>, Report);

/// The reports that `place` stands for, one at the least.
fn reports(place: &Path) -> Result<Vec<Read>, CliError> {
    let none = |path: &Path, why: &str| {
        CliError::new(ExitCode::DataError, format!("{}: {why}", path.display()))
    };
    if place.is_dir() {
        let found = audit::reports(place).map_err(|error| CliError::of(&error))?;
        return match found.is_empty() {
            true => Err(none(place, "holds no report of slomod; name one, or the folder it is in")),
            false => Ok(found),
        };
    }
    let beside = names::report_path(place);
    let is_report = place.extension().is_some_and(|it| it == "json");
    let path = if !is_report && beside.is_file() { beside } else { place.to_owned() };
    paths::check_readable(&path)?;
    let bytes = plain_file::read_linked(&path).map_err(|error| {
        CliError::new(ExitCode::IoError, format!("{}: cannot be read: {error}", path.display()))
    })?;
    let Some(bytes) = bytes else {
        return Err(none(
            &path,
            "is longer than any report of slomod; name the file that ends in .json",
        ));
    };
    match audit::parse(&bytes) {
        Some(report) => Ok(vec![(path, bytes, report)]),
        None => {
            Err(none(&path, "is no report of slomod, or was cut; name the file that ends in .json"))
        }
    }
}

fn hold(args: &VerifyArgs, read: &Read, stop: &Arc<AtomicBool>) -> Result<Held, CliError> {
    let (path, bytes, report) = read;
    let folder = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
    let files = audit::files(&Found { report, folder }, args.source.as_deref(), stop);
    let mut held = Held {
        report: path.clone(),
        report_sha256: bytes_sha256(bytes),
        report_id: report.report_id.clone(),
        status: report.status,
        files: files.map_err(|error| CliError::of(&error))?,
        output_frames: None,
        source_frames: None,
        frames_fault: None,
        frames_exit: ExitCode::Ok,
    };
    if !args.frames || report.output.is_none() {
        return Ok(held);
    }
    match held.frames(report, stop) {
        Ok(()) => Ok(held),
        Err(ConvertError::Interrupted) => Err(CliError::of(&ConvertError::Interrupted)),
        Err(error) => {
            let (fault, exit) = (error.to_string(), error.exit_code());
            Ok(Held { frames_fault: Some(fault), frames_exit: exit, ..held })
        }
    }
}

impl Held {
    /// Compares the frames of what is there.
    fn frames(&mut self, report: &Report, stop: &Arc<AtomicBool>) -> Result<(), ConvertError> {
        let there = |kind: &str| {
            let is_there = |it: &&Item| it.kind == kind && it.found_sha256.is_some();
            self.files.iter().find(is_there).map(|it| it.path.clone())
        };
        let (list, output, source) = (there("frame_list"), there("output"), there("source"));
        let Some(list) = list else {
            let why =
                "no list of frames is there; `convert --frame-list` and profile evidence make one";
            (self.frames_fault, self.frames_exit) = (Some(why.to_owned()), ExitCode::Usage);
            return Ok(());
        };
        if let Some(output) = output {
            self.output_frames = Some(audit_frames::output(&list, &output, stop)?);
        }
        if let Some(source) = source {
            let interlaced = report.settings.interlaced;
            self.source_frames = Some(audit_frames::source(&list, &source, interlaced, stop)?);
        }
        Ok(())
    }

    /// What came of all that could be compared.
    fn found(&self) -> ExitCode {
        let frames = [&self.output_frames, &self.source_frames];
        let differ = frames.into_iter().flatten().any(|it| !it.are_same());
        let by_file = self.files.iter().map(|it| match it.verdict {
            Verdict::Same | Verdict::Absent | Verdict::Replaced => ExitCode::Ok,
            Verdict::Different => ExitCode::DataError,
            Verdict::Missing | Verdict::Unreadable => ExitCode::IoError,
        });
        let by_frames = if differ { ExitCode::DataError } else { ExitCode::Ok };
        by_file.fold(by_frames, worse)
    }

    fn exit(&self) -> ExitCode {
        worse(self.found(), self.frames_exit)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let status = serde_json::to_value(self.status).unwrap_or_default();
        let status = status.as_str().unwrap_or_default();
        let _ = writeln!(text, "{} ({status})", self.report.display());
        let _ = writeln!(text, "  {:12}{:12}{}", "itself", "report", self.report_sha256);
        for item in &self.files {
            let path = item.path.display();
            let word = match item.verdict {
                Verdict::Same => "same",
                Verdict::Different => "DIFFERENT",
                Verdict::Missing => "MISSING",
                Verdict::Absent => "absent",
                Verdict::Replaced => "replaced",
                Verdict::Unreadable => "UNREADABLE",
            };
            let more = match (&item.found_sha256, &item.reason) {
                (Some(found), _) if item.verdict == Verdict::Different => {
                    format!("\n{:26}is {found}\n{:26}was {}", "", "", item.said_sha256)
                }
                (_, Some(reason)) => format!(": {reason}"),
                _ if item.verdict == Verdict::Absent => {
                    ": not compared; say --source (`slomod status JOB` tells where an original was moved)"
                        .to_owned()
                }
                _ if item.verdict == Verdict::Replaced => {
                    ": another clip has its name since; this report is of what was there before".to_owned()
                }
                _ => String::new(),
            };
            let _ = writeln!(text, "  {word:12}{:12}{path}{more}", item.kind);
        }
        if self.files.is_empty() {
            let _ = writeln!(text, "  the report names no file with a hash: nothing was compared");
        }
        for (name, frames) in [("output", self.output_frames), ("source", self.source_frames)] {
            let Some(frames) = frames else { continue };
            let word = if frames.are_same() { "same" } else { "DIFFERENT" };
            let first = frames.first_different;
            let first = first.map(|it| format!(", the first other is frame {it} of the list"));
            let first = first.unwrap_or_default();
            let Frames { same, compared, .. } = frames;
            let _ = writeln!(
                text,
                "  {word:12}{:12}{same} of {compared} frames of the {name} are those of the list{first}",
                "frames"
            );
        }
        if let Some(fault) = &self.frames_fault {
            let _ = writeln!(text, "  {:12}{:12}{fault}", "-", "frames");
        }
        text
    }
}

/// A difference is worse than something missing, which is worse than no room to compare, or nothing.
fn worse(a: ExitCode, b: ExitCode) -> ExitCode {
    let rank = |it: ExitCode| match it {
        ExitCode::Ok => 0,
        ExitCode::Usage => 1,
        ExitCode::DataError => 4,
        ExitCode::IoError => 3,
        _ => 2,
    };
    if rank(b) > rank(a) { b } else { a }
}
