//! A clip that is worked in several runs comes out as from one: frames, packets, times, sound and report.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slomod::config::settings::{Codec, Container, Encoding, Settings};
use slomod::engine::blend::Blend;
use slomod::engine::{EngineDescription, EngineError, Interpolator};
use slomod::frame::{Frame, Picture};
use slomod::pipeline::convert::convert;
use slomod::pipeline::segments::Rule;
use slomod::pipeline::{ConvertError, Progress, Task};
use slomod::report::Report;

/// Segments short enough that clips of a second have several.
const SHORT: Rule = Rule { least: 12, most: 24 };

/// Two shots of moving pictures, with a still between them: cuts, duplicates, new and held frames.
const SHOTS: &str = "testsrc2=s=96x64:r=25:d=1.2[a];color=red:s=96x64:r=25:d=0.4[b];\
                     mandelbrot=s=96x64:r=25:end_pts=30,trim=duration=1[c];[a][b][c]concat=n=3,format=yuv420p";
const SOUND: &[&str] = &["-f", "lavfi", "-i", "sine=f=440:d=2.6", "-c:a", "aac"];

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Draws a clip with FFmpeg's command line.
    fn clip(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.path(name);
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-y"])
            .args(args)
            .arg(&path)
            .output()
            .unwrap();
        assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
        path
    }

    fn shots(&self) -> PathBuf {
        self.clip("in.mkv", &[&["-f", "lavfi", "-i", SHOTS], SOUND, &["-c:v", "ffv1"]].concat())
    }

    /// The task that keeps segments; `name` is the output's.
    fn task(&self, source: &Path, name: &str, settings: Settings) -> Task {
        let output = self.path(name);
        Task {
            source: source.into(),
            temporary: self.path(&format!(".temporary-{name}")),
            parts: Some(self.path(&format!("parts-{name}"))),
            segments: SHORT,
            output,
            settings,
        }
    }
}

/// The same task without segments being kept, into another file.
fn undisturbed(task: &Task) -> Task {
    let temporary = task.temporary.with_extension("undisturbed");
    Task { temporary, parts: None, ..task.clone() }
}

fn settings(codec: Codec, container: Container) -> Settings {
    let preset = match codec {
        Codec::H264 | Codec::H265 => Some("fast".into()),
        Codec::Av1 => Some("12".into()),
        Codec::Ffv1 => None,
    };
    let encoding = Encoding { codec, preset, container: Some(container), ..Encoding::default() };
    Settings { factor: Some(3), encoding, quality_samples: 20, ..Settings::default() }
}

fn run(task: &Task) -> Result<Report, ConvertError> {
    run_with(task, &mut Blend, &mut |_| {})
}

fn run_with(
    task: &Task,
    engine: &mut dyn Interpolator,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, ConvertError> {
    convert(task, engine, &Arc::new(AtomicBool::new(false)), progress)
}

/// Runs until `when`, asked before every pair, says so; whether that came before the end.
fn run_until(task: &Task, when: impl FnMut() -> bool + Send) -> Option<Report> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut engine = Stopping { when, stop: Arc::clone(&stop) };
    match convert(task, &mut engine, &stop, &mut |_| {}) {
        Ok(report) => Some(report),
        Err(ConvertError::Interrupted) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Blends, and asks for a stop when it is time.
struct Stopping<F: FnMut() -> bool + Send> {
    when: F,
    stop: Arc<AtomicBool>,
}

impl<F: FnMut() -> bool + Send> Interpolator for Stopping<F> {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        if (self.when)() {
            self.stop.store(true, Ordering::Relaxed);
        }
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

/// Finished segments in the folder.
fn finished(task: &Task) -> usize {
    let Ok(entries) = std::fs::read_dir(task.parts.as_ref().unwrap()) else { return 0 };
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|it| it.starts_with('0') && it.ends_with(".json")).count()
}

/// Every packet of every stream: times, size, hash; or every decoded frame.
fn ffmpeg_md5(path: &Path, how: &[&str]) -> String {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0"])
        .args(how)
        .args(["-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
    assert!(run.stderr.is_empty(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// A report without what may differ between two runs: names, times, speeds, and the container's own random numbers.
fn comparable(report: &Report) -> serde_json::Value {
    let mut report = report.clone();
    let output = report.output.as_mut().unwrap();
    if output.format == "matroska" {
        output.sha256 = String::new();
    }
    report.report_id = String::new();
    report.created = String::new();
    report.timing = Default::default();
    serde_json::to_value(&report).unwrap()
}

fn assert_same(task: &Task, report: &Report, other: &Task, other_report: &Report) {
    let (a, b) = (&task.temporary, &other.temporary);
    assert_lines(&ffmpeg_md5(a, &["-c", "copy"]), &ffmpeg_md5(b, &["-c", "copy"]), "packets");
    let how = ["-fps_mode", "passthrough", "-enc_time_base", "-1"];
    assert_lines(&ffmpeg_md5(a, &how), &ffmpeg_md5(b, &how), "frames");
    assert_eq!(comparable(report), comparable(other_report), "report");
    if task.settings.encoding.container != Some(Container::Mkv) {
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "bytes");
    }
}

fn assert_lines(a: &str, b: &str, what: &str) {
    for (number, (a, b)) in a.lines().zip(b.lines()).enumerate() {
        assert_eq!(a, b, "line {number} of {what}");
    }
    assert_eq!(a.lines().count(), b.lines().count(), "{what}");
}

#[test]
fn probe_x265() {
    let place = Place::new();
    let source = place.shots();
    for most in [24, 24, 24] {
    for codec in [Codec::H265, Codec::H264] {
    let mut task = undisturbed(&place.task(&source, "a.mkv", settings(codec, Container::Mkv)));
    task.segments.most = most;
    task.segments.least = 12;
    run(&task).unwrap();
    let first = ffmpeg_md5(&task.temporary, &["-c", "copy"]);
    let mut all = vec![];
    for round in 0..5 {
        run(&task).unwrap();
        let next = ffmpeg_md5(&task.temporary, &["-c", "copy"]);
        let off: Vec<_> = first.lines().zip(next.lines()).filter(|(a, b)| a != b).map(|(a, _)| a).collect();
        all.push((off.len(), off.first().map(|it| it.split(",").nth(2).unwrap().to_owned())));
    }
    println!("{most} {codec:?} {all:?}");
    }}
}

#[test]
fn a_clip_interrupted_after_every_segment_is_the_same_in_every_codec_and_container() {
    let place = Place::new();
    let source = place.shots();
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H264, Container::Mkv),
        (Codec::H264, Container::Mov),
        (Codec::H265, Container::Mp4),
        (Codec::H265, Container::Mkv),
        (Codec::Av1, Container::Mp4),
        (Codec::Av1, Container::Mkv),
        (Codec::Ffv1, Container::Mkv),
        (Codec::Ffv1, Container::Mov),
    ] {
        let name = format!("{codec:?}.{}", container.extension());
        let task = place.task(&source, &name, settings(codec, container));
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        let (report, runs) = in_pieces(&task);
        println!("{name}: {runs} runs");
        assert!(runs >= 4, "{name}: {runs} runs");
        assert_same(&task, &report, &whole, &whole_report);
        assert_eq!(report.timing.resumed.len(), runs - 1, "{name}");
    }
}

/// Runs `task` again and again, each time until another segment is finished. The report, and the number of runs.
fn in_pieces(task: &Task) -> (Report, usize) {
    for runs in 1..100 {
        let before = finished(task);
        if let Some(report) = run_until(task, || finished(task) > before) {
            return (report, runs);
        }
        assert!(!task.temporary.exists());
        assert!(finished(task) > before, "every run gets further");
    }
    panic!("no end")
}
