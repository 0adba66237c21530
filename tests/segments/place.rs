//! Clips, runs that are interrupted, and what two outputs must have in common.

#[path = "../support/schema.rs"]
pub mod schema;

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
pub const SHORT: Rule = Rule { least: 12, most: 24 };

/// Two shots of moving pictures, with a still between them: cuts, duplicates, new and held frames.
pub const SHOTS: &str = "testsrc2=s=96x64:r=25:d=1.2[a];color=red:s=96x64:r=25:d=0.4[b];\
                     mandelbrot=s=96x64:r=25:end_pts=30,trim=duration=1[c];[a][b][c]concat=n=3,format=yuv420p";
pub const SOUND: &[&str] = &["-f", "lavfi", "-i", "sine=f=440:d=2.6", "-c:a", "aac"];

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Draws a clip with FFmpeg's command line.
    pub fn clip(&self, name: &str, args: &[&str]) -> PathBuf {
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

    pub fn shots(&self) -> PathBuf {
        self.clip("in.mkv", &[&["-f", "lavfi", "-i", SHOTS], SOUND, &["-c:v", "ffv1"]].concat())
    }

    /// The task that keeps segments; `name` is the output's.
    pub fn task(&self, source: &Path, name: &str, settings: Settings) -> Task {
        let output = self.path(name);
        Task {
            source: source.into(),
            temporary: self.path(&format!(".temporary-{name}")),
            parts: Some(self.path(&format!("parts-{name}"))),
            segments: SHORT,
            output,
            settings,
            settings_sha256: None,
        }
    }
}

/// The same task without segments being kept, into another file.
pub fn undisturbed(task: &Task) -> Task {
    let temporary = task.temporary.with_extension("undisturbed");
    Task { temporary, parts: None, ..task.clone() }
}

pub fn settings(codec: Codec, container: Container) -> Settings {
    let preset = match codec {
        Codec::H264 | Codec::H265 => Some("veryfast".into()),
        Codec::Av1 => Some("12".into()),
        Codec::Ffv1 => None,
    };
    let encoding = Encoding { codec, preset, container: Some(container), ..Encoding::default() };
    Settings { factor: Some(3), encoding, quality_samples: 20, ..Settings::default() }
}

pub fn run(task: &Task) -> Result<Report, ConvertError> {
    run_with(task, &mut Blend, &mut |_| {})
}

pub fn run_with(
    task: &Task,
    engine: &mut dyn Interpolator,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, ConvertError> {
    let report = convert(task, engine, &Arc::new(AtomicBool::new(false)), progress)?;
    schema::valid(&report);
    Ok(report)
}

/// Runs until `when`, asked before every pair, says so; the report where the end came first.
pub fn run_until(task: &Task, when: impl FnMut() -> bool + Send) -> Option<Report> {
    run_engine_until(task, &mut Blend, when)
}

pub fn run_engine_until(
    task: &Task,
    inner: &mut dyn Interpolator,
    when: impl FnMut() -> bool + Send,
) -> Option<Report> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut engine = Stopping { inner, when, stop: Arc::clone(&stop) };
    match convert(task, &mut engine, &stop, &mut |_| {}) {
        Ok(report) => {
            schema::valid(&report);
            Some(report)
        }
        Err(ConvertError::Interrupted) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Asks for a stop when it is time.
pub struct Stopping<'a, F: FnMut() -> bool + Send> {
    pub inner: &'a mut dyn Interpolator,
    pub when: F,
    pub stop: Arc<AtomicBool>,
}

impl<F: FnMut() -> bool + Send> Interpolator for Stopping<'_, F> {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        if (self.when)() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.inner.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        self.inner.description()
    }
}

/// The trivial engine under another name, as if it had other weights.
pub struct Renamed;

impl Interpolator for Renamed {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        EngineDescription { model_sha256: Some("a".repeat(64)), ..Blend.description() }
    }
}

/// Finished segments in the folder.
pub fn finished(task: &Task) -> usize {
    let Ok(entries) = std::fs::read_dir(task.parts.as_ref().unwrap()) else { return 0 };
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|it| it.starts_with('0') && it.ends_with(".json")).count()
}

/// Source frames that the finished segments end before.
pub fn ends(task: &Task) -> Vec<u64> {
    let end = |number: usize| {
        let path = task.parts.as_ref().unwrap().join(format!("{number:04}.json"));
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        json["state"]["frame"].as_u64().unwrap()
    };
    (1..=finished(task)).map(end).collect()
}

/// Every packet of every stream: times, size, hash; or every decoded frame.
pub fn ffmpeg_md5(path: &Path, how: &[&str]) -> String {
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
pub fn comparable(report: &Report) -> serde_json::Value {
    let mut report = report.clone();
    let output = report.output.as_mut().unwrap();
    if output.format == "matroska" {
        output.sha256 = String::new();
    }
    output.path = String::new();
    output.sidecars.iter_mut().for_each(|it| it.path = String::new());
    report.report_id = String::new();
    report.created = String::new();
    report.timing = Default::default();
    serde_json::to_value(&report).unwrap()
}

pub fn assert_same(task: &Task, report: &Report, other: &Task, other_report: &Report) {
    let (a, b) = (&task.temporary, &other.temporary);
    assert_lines(&ffmpeg_md5(a, &["-c", "copy"]), &ffmpeg_md5(b, &["-c", "copy"]), "packets");
    let how = ["-fps_mode", "passthrough", "-enc_time_base", "-1"];
    assert_lines(&ffmpeg_md5(a, &how), &ffmpeg_md5(b, &how), "frames");
    assert_eq!(comparable(report), comparable(other_report), "report");
    if task.settings.encoding.container != Some(Container::Mkv) {
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "bytes");
    }
}

pub fn assert_lines(a: &str, b: &str, what: &str) {
    for (number, (a, b)) in a.lines().zip(b.lines()).enumerate() {
        assert_eq!(a, b, "line {number} of {what}");
    }
    assert_eq!(a.lines().count(), b.lines().count(), "{what}");
}

/// Runs `task` again and again, each time until another segment is finished. The report, and the number of runs.
pub fn in_pieces(task: &Task) -> (Report, usize) {
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

/// Packets are in order of decoding, and no two pictures are shown at once, also across segments. Returns each picture's
/// time and duration as the container has them, in order of showing.
pub fn assert_times(task: &Task) -> Vec<(i64, i64)> {
    let text = ffmpeg_md5(&task.temporary, &["-an", "-c", "copy"]);
    let times = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        [1, 2, 3].map(|field: usize| fields[field].parse().unwrap())
    });
    let times: Vec<[i64; 3]> = times.collect();
    for pair in times.windows(2) {
        assert!(pair[0][0] < pair[1][0], "dts: {pair:?}");
    }
    assert!(times.iter().all(|[dts, pts, _]| dts <= pts), "{times:?}");
    let mut shown: Vec<_> = times.iter().map(|[_, pts, duration]| (*pts, *duration)).collect();
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[0].0 < pair[1].0), "{shown:?}");
    shown
}

/// A constant rate has no gap and no overlap.
pub fn assert_constant(task: &Task) {
    // Matroska rounds each time to its millisecond.
    let rounding = i64::from(task.settings.encoding.container == Some(Container::Mkv));
    for pair in assert_times(task).windows(2) {
        let gap = pair[1].0 - pair[0].0 - pair[0].1;
        assert!(gap.abs() <= rounding, "{pair:?}");
    }
}
