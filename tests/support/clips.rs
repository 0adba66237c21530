//! Clips that tests draw, and conversions of them. A test that uses it has `mod schema` too.
#![allow(dead_code, reason = "each test uses its own part")]

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

pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Draws a clip with FFmpeg's command line.
    pub fn clip(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut command = Command::new("ffmpeg");
        let run = command.args(["-v", "error", "-y"]).args(args).arg(&path).output().unwrap();
        assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
        path
    }

    pub fn task(&self, source: &Path, output: &str, settings: Settings) -> Task {
        let output = self.path(output);
        let temporary =
            self.path(&format!(".{}.1.1.slomod-tmp.mkv", output.display()).replace('/', ""));
        let segments = Rule { least: 10, most: 20 };
        Task {
            source: source.into(),
            temporary,
            parts: None,
            segments,
            output,
            settings,
            settings_sha256: None,
        }
    }
}

/// Converts with the trivial engine, and holds the report to its schema.
pub fn run(task: &Task) -> Result<Report, ConvertError> {
    let report = convert(task, &mut Blend, &Arc::new(AtomicBool::new(false)), &mut |_| {})?;
    crate::schema::valid(&report);
    Ok(report)
}

/// All frames of a clip.
pub fn decoded(path: &Path) -> Vec<Frame> {
    let mut decoder = Decoder::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    frames
}

/// Lossless slow motion without sound, with few measurements.
pub fn slow(factor: u32) -> Settings {
    let encoding = Encoding { codec: Codec::Ffv1, ..Encoding::default() };
    let (factor, audio) = (Some(factor), Audio::Drop);
    Settings { factor, encoding, audio, quality_samples: 3, ..Settings::default() }
}
