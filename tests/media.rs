//! Clips made by the ffmpeg command go through probe, decode, write and verify.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use num_rational::Ratio;
use slomod::config::settings::{Audio, Codec, Container, Encoding};
use slomod::frame::{Frame, Seconds};
use slomod::media;
use slomod::media::clip::{WriteSpec, WriteSummary};
use slomod::media::decode::Decoder;
use slomod::media::verify::verify;
use slomod::media::write::Writer;

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        println!("skipped: no ffmpeg command");
    }
    found
}

fn ffmpeg(dir: &Path, args: &str) -> PathBuf {
    let words: Vec<&str> = args.split_whitespace().collect();
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(&words)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    dir.join(words.last().unwrap())
}

fn frames(path: &Path) -> Vec<Frame> {
    let mut decoder = Decoder::open(path).unwrap();
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn spec(codec: Codec, container: Container) -> WriteSpec {
    WriteSpec {
        encoding: Encoding { codec, crf: None, preset: None, container: Some(container) },
        container,
        rate: Ratio::from_integer(25),
        stretch: Ratio::from_integer(1),
        origin: Seconds::default(),
        audio: Audio::Keep,
    }
}

/// Writes every frame `factor` times as long as in the source.
fn rewrite(source: &Path, out: &Path, mut spec: WriteSpec) -> WriteSummary {
    let mut decoder = Decoder::open(source).unwrap();
    let info = decoder.info().clone();
    let all: Vec<Frame> = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    spec.origin = all[0].pts;
    let mut writer = Writer::create(out, &info, &spec).unwrap();
    for (index, frame) in all.iter().enumerate() {
        let start = (frame.pts - spec.origin) * spec.stretch;
        let end = all
            .get(index + 1)
            .map_or(start + spec.rate.recip(), |next| (next.pts - spec.origin) * spec.stretch);
        writer.write(&frame.picture, start, end - start).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn smoke() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=320x180:r=25:d=2 -f lavfi -i sine=d=2 -c:v libx264 -c:a aac in.mp4",
    );
    println!("{:#?}", media::probe(&source));
    println!("{:#?} {}", media::encoders(), media::libavcodec_version());
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H265, Container::Mp4),
        (Codec::Av1, Container::Mp4),
        (Codec::Ffv1, Container::Mkv),
        (Codec::Ffv1, Container::Mov),
        (Codec::H264, Container::Mkv),
    ] {
        let out = dir.path().join(format!("out.{}", container.extension()));
        let summary = rewrite(&source, &out, spec(codec, container));
        println!("{summary:#?} {:?}", verify(&out));
        assert_eq!(verify(&out).unwrap().frames, 50);
        let (a, b) = (frames(&source), frames(&out));
        println!("{:?}", b.iter().map(|f| f.pts).collect::<Vec<_>>());
        assert_eq!(a.len(), b.len());
        if codec == Codec::Ffv1 {
            assert!(a.iter().zip(&b).all(|(a, b)| a.picture == b.picture));
        }
    }
}
