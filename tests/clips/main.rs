//! Whole clips from end to end with the trivial engine: damage, fields, streams, color, sizes and times as users have them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod alpha;
mod bars;
#[path = "../media/boxes.rs"]
#[allow(dead_code, reason = "made for hostile headers, of which there are none here")]
mod boxes;
mod color;
mod damage;
#[path = "../support/exif.rs"]
mod exif;
mod fields;
mod geometry;
mod outside;
#[path = "../support/schema.rs"]
mod schema;
#[path = "../support/skip.rs"]
mod skip;
mod sound;
mod streams;
mod time;
mod wrong_times;

use skip::skip;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use slomod::config::settings::{Audio, Codec, Encoding, Settings};
use slomod::engine::blend::Blend;
use slomod::frame::Frame;
use slomod::media::decode::Decoder;
use slomod::pipeline::convert::convert;
use slomod::pipeline::segments::Rule;
use slomod::pipeline::{ConvertError, Task};
use slomod::report::Report;

/// A folder for a test's clips.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// None where there is no ffmpeg command.
    fn new() -> Option<Self> {
        if Command::new("ffmpeg").arg("-version").output().is_err() {
            skip("no ffmpeg command");
            return None;
        }
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs ffmpeg with the words of `args` in the folder; the last names the file made.
    fn ffmpeg(&self, args: &str) -> PathBuf {
        let words: Vec<&str> = args.split_whitespace().collect();
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-nostdin"])
            .args(&words)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(run.status.success(), "{args}: {}", String::from_utf8_lossy(&run.stderr));
        self.path(words.last().unwrap())
    }

    fn task(&self, source: &Path, output: &str, settings: Settings) -> Task {
        let output = self.path(output);
        Task {
            source: source.into(),
            temporary: output.with_file_name(format!(".{}", output.file_name().unwrap().display())),
            parts: None,
            segments: Rule::default(),
            output,
            settings,
            settings_sha256: None,
        }
    }

    /// What came out, and the report.
    fn convert(&self, source: &Path, output: &str, settings: Settings) -> (PathBuf, Report) {
        let task = self.task(source, output, settings);
        let report = run(&task).unwrap();
        (task.temporary, report)
    }
}

/// Converts, and holds the report to its schema.
fn run(task: &Task) -> Result<Report, ConvertError> {
    let report = convert(task, &mut Blend, &Arc::new(AtomicBool::new(false)), &mut |_| {})?;
    schema::valid(&report);
    Ok(report)
}

/// Slow motion, lossless, without sound and measurement.
fn slow(factor: u32) -> Settings {
    let encoding = Encoding { codec: Codec::Ffv1, ..Encoding::default() };
    Settings {
        factor: Some(factor),
        encoding,
        audio: Audio::Drop,
        quality_samples: 0,
        ..Settings::default()
    }
}

fn decoded(path: &Path) -> Vec<Frame> {
    let mut decoder = Decoder::open(path).unwrap();
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

/// Whether the report warns with that code.
fn warns(report: &Report, code: &str) -> bool {
    report.warnings.iter().any(|it| it.code == code)
}

/// What every output frame is, one word each.
fn kinds(report: &Report) -> Vec<&str> {
    let sections = report.interpolation.iter().flat_map(|it| &it.frame_map);
    let runs = sections.flat_map(|it| (0..it.repeat).flat_map(|_| &it.runs));
    runs.flat_map(|it| std::iter::repeat_n(it.kind.as_str(), it.count as usize)).collect()
}

/// What ffprobe says of a file.
fn ffprobe(path: &Path) -> serde_json::Value {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_streams", "-show_format", "-show_chapters"])
        .arg(path)
        .output()
        .unwrap();
    serde_json::from_slice(&run.stdout).unwrap()
}
