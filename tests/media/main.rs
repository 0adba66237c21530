//! Clips made by the ffmpeg command go through probe, decode, write and verify.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod boxes;
mod complete;
mod depth;
mod refusals;
#[path = "../support/skip.rs"]
mod skip;
mod sound;
#[path = "../common/turn.rs"]
mod turn;
mod untrusted;
mod video;

use skip::skip;
use std::path::{Path, PathBuf};
use std::process::Command;

use num_rational::Ratio;
use slomod::config::settings::{Audio, Codec, Container, Encoding};
use slomod::frame::{Frame, Seconds};
use slomod::media::clip::{WriteSpec, WriteSummary};
use slomod::media::decode::Decoder;
use slomod::media::write::Writer;

/// A folder for a test's clips; none where there is no ffmpeg command.
fn workshop() -> Option<tempfile::TempDir> {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        skip("no ffmpeg command");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

/// Runs ffmpeg with the words of `args`; the last names the file made, in `dir`.
fn ffmpeg(dir: &Path, args: &str) -> PathBuf {
    let words: Vec<&str> = args.split_whitespace().collect();
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(&words)
        .current_dir(dir)
        .env("SVT_LOG", "0")
        .output()
        .unwrap();
    assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    dir.join(words.last().unwrap())
}

/// What ffprobe says of a file.
fn ffprobe(path: &Path) -> serde_json::Value {
    let done = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_streams", "-show_format", "-show_chapters"])
        .arg(path)
        .output()
        .unwrap();
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Hashes of the decoded frames, by ffmpeg's own framemd5.
fn framemd5(path: &Path, filter: &str) -> Vec<String> {
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-noautorotate", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-vsync", "passthrough", "-vf", filter, "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

fn frames(path: &Path) -> Vec<Frame> {
    let mut decoder = Decoder::open(path).unwrap();
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

/// As the source, 25 frames a second, sound kept.
fn spec(codec: Codec, container: Container) -> WriteSpec {
    let preset = match codec {
        Codec::H264 | Codec::H265 => Some("ultrafast".to_owned()),
        Codec::Av1 => Some("12".to_owned()),
        Codec::Ffv1 => None,
    };
    WriteSpec {
        encoding: Encoding { codec, preset, container: Some(container), ..Encoding::default() },
        container,
        rate: Ratio::from_integer(25),
        constant: false,
        stretch: Ratio::from_integer(1),
        origin: Seconds::default(),
        audio: Audio::Keep,
        encoder_threads: None,
        encoder_gpu: None,
    }
}

/// x264 that loses nothing.
fn lossless(container: Container) -> WriteSpec {
    let mut spec = spec(Codec::H264, container);
    spec.encoding.crf = Some(0);
    spec
}

/// Writes every frame of the source, `spec.stretch` times as long.
fn rewrite(source: &Path, out: &Path, mut spec: WriteSpec) -> WriteSummary {
    let mut decoder = Decoder::open(source).unwrap();
    let info = decoder.info().clone();
    let all: Vec<Frame> = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    spec.origin = all[0].pts;
    let mut writer = Writer::create(out, &info, &spec).unwrap();
    for (index, frame) in all.iter().enumerate() {
        let place = |pts: Seconds| (pts - spec.origin) * spec.stretch;
        let start = place(frame.pts);
        let end = all.get(index + 1).map_or(start + spec.rate.recip(), |next| place(next.pts));
        writer.write(&frame.picture, start, end - start).unwrap();
    }
    writer.finish().unwrap()
}
