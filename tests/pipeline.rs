//! One clip through the pipeline with the trivial engine: counts, times, barriers, damage, interruption.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/schema.rs"]
mod schema;
#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use num_rational::Ratio;
use slomod::config::settings::{Audio, Codec, Encoding, Mode, Settings};
use slomod::engine::blend::Blend;
use slomod::engine::{Ahead, EngineDescription, EngineError, Interpolator};
use slomod::error::{Classify, Consequence};
use slomod::frame::{Frame, Picture};
use slomod::media::MediaError;
use slomod::media::decode::Decoder;
use slomod::pipeline::convert::{convert, failure_report};
use slomod::pipeline::segments::Rule;
use slomod::pipeline::{ConvertError, Task};
use slomod::report::{Report, Status};

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

    fn task(&self, source: &Path, output: &str, settings: Settings) -> Task {
        let output = self.path(output);
        Task {
            source: source.into(),
            temporary: output.with_file_name(".temporary"),
            parts: None,
            segments: Rule::default(),
            output,
            settings,
            settings_sha256: None,
        }
    }
}

fn run(task: &Task) -> Result<Report, ConvertError> {
    let report = convert(task, &mut Blend, &Arc::new(AtomicBool::new(false)), &mut |_| {})?;
    schema::valid(&report);
    Ok(report)
}

fn slow(factor: u32) -> Settings {
    let encoding = Encoding { codec: Codec::Ffv1, ..Encoding::default() };
    Settings { factor: Some(factor), encoding, audio: Audio::Drop, ..Settings::default() }
}

fn decoded(path: &Path) -> Vec<Frame> {
    let mut decoder = Decoder::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    frames
}

const MOVING: &[&str] = &["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=1"];

/// V01.
#[test]
fn slow_motion_keeps_every_real_frame_bit_for_bit() {
    let place = Place::new();
    let source = place.clip("in.mkv", &[MOVING, &["-c:v", "ffv1"]].concat());
    let task = place.task(&source, "out.mkv", slow(4));
    let report = run(&task).unwrap();
    let frames = report.output.as_ref().unwrap().frames;
    assert_eq!((frames.total, frames.real), (100, 25));
    assert_eq!(frames.synthesised + frames.held, 75);
    assert!((report.source.duration_s.unwrap() - 1.0).abs() < 1e-3);
    assert!((report.output.as_ref().unwrap().duration_s - 4.0).abs() < 1e-3);
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    for (index, frame) in before.iter().enumerate() {
        assert_eq!(after[4 * index].picture.planes, frame.picture.planes, "frame {index}");
    }
    let mixed = slomod::engine::blend::blend(&before[3].picture, &before[4].picture, 0.5);
    assert_eq!(after[14].picture.planes, mixed.planes, "and the synthesised ones are the engine's");
}

#[test]
fn ten_bits_come_out_as_ten_bits_real_and_made() {
    let place = Place::new();
    let graph = "gradients=seed=7:c0=navy:c1=orange:s=96x64:r=10:d=0.5:speed=0.2";
    let source = place
        .clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p10le", "-c:v", "ffv1"]);
    let task = place.task(&source, "out.mkv", slow(2));
    let report = run(&task).unwrap();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert_eq!(report.output.unwrap().pixel_format, "yuv420p10le");
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    assert_eq!((before.len(), after.len()), (5, 10));
    for (real, shown) in before.iter().zip(after.iter().step_by(2)) {
        assert!(real.picture == shown.picture, "a real frame is untouched");
    }
    let codes = |frame: &Frame| -> Vec<i32> {
        let samples = frame.picture.planes[0].as_chunks::<2>().0;
        samples.iter().map(|it| i32::from(u16::from_le_bytes(*it))).collect()
    };
    let mut finer = 0;
    for at in (1..9).step_by(2) {
        let (a, made, b) = (codes(&after[at - 1]), codes(&after[at]), codes(&after[at + 1]));
        for ((a, made), b) in a.iter().zip(&made).zip(&b) {
            assert!((2 * made - a - b).abs() <= 1, "{made} between {a} and {b}");
            finer += usize::from(made % 4 != 0);
        }
    }
    assert!(finer > 1000, "{finer} samples that 8 bits cannot hold");
}

#[test]
fn smooth_on_a_grid_lasts_as_long_as_the_source() {
    let place = Place::new();
    let source = place.clip("in.mp4", MOVING);
    let settings = Settings {
        mode: Mode::Smooth,
        factor: None,
        fps: Some(Ratio::from_integer(60)),
        ..slow(2)
    };
    let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
    let output = report.output.unwrap();
    assert_eq!(output.frames.total, 60);
    assert_eq!(output.frames.real, 5, "60 and 25 meet five times a second");
}

#[test]
fn nothing_is_mixed_across_a_cut() {
    let place = Place::new();
    let graph = "testsrc2=s=160x90:r=25:d=0.4[a];mandelbrot=s=160x90:r=25:end_pts=10,trim=duration=0.4[b];[a][b]concat";
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let task = place.task(&source, "out.mkv", slow(4));
    let report = run(&task).unwrap();
    let cuts = &report.interpolation.as_ref().unwrap().cuts;
    assert_eq!(cuts.iter().map(|it| it.frame).collect::<Vec<_>>(), [10]);
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    for (number, frame) in after.iter().enumerate().take(40).skip(37) {
        assert_eq!(frame.picture.planes, before[9].picture.planes, "output frame {number}");
    }
    assert_eq!(after[40].picture.planes, before[10].picture.planes);
}

#[test]
fn repeated_pictures_are_counted_and_held() {
    let place = Place::new();
    let source = place.clip(
        "in.mkv",
        &["-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=1,fps=20", "-c:v", "ffv1"],
    );
    let report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    assert_eq!(report.source.frames.duplicates, 10);
    let frames = report.output.unwrap().frames;
    assert_eq!((frames.total, frames.real, frames.synthesised, frames.held), (40, 20, 9, 11));
}

/// V04.
#[test]
fn variable_rates_are_followed_and_reported() {
    let place = Place::new();
    let source = place.clip(
        "in.mkv",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=160x90:r=30:d=1,select='mod(n,7)'",
            "-fps_mode",
            "passthrough",
            "-c:v",
            "ffv1",
        ],
    );
    let task = place.task(&source, "out.mkv", slow(4));
    let report = run(&task).unwrap();
    assert_eq!(report.source.variable_rate, Some(true));
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    // Matroska rounds to 1 ms, on the way in and on the way out.
    let tick = Ratio::new(2, 1000);
    for (index, frame) in before.iter().enumerate() {
        let expected = (frame.pts - before[0].pts) * 4;
        let off = after[4 * index].pts - expected;
        assert!(
            off <= tick && -off <= tick,
            "frame {index}: {} against {expected}",
            after[4 * index].pts
        );
    }
}

#[test]
fn a_clock_that_jumps_by_hours_is_carried_on_and_said() {
    let place = Place::new();
    let jump = "setts=ts='TS+if(gte(N,10),1000000/TB,0)'";
    let source = place.clip(
        "in.mkv",
        &[MOVING, &["-c:v", "ffv1", "-bsf:v", jump, "-max_interleave_delta", "0"]].concat(),
    );
    let report = run(&place.task(&source, "out.mkv", slow(4))).unwrap();
    let output = report.output.unwrap();
    assert_eq!(output.frames.total, 100);
    assert!((output.duration_s - 4.0).abs() < 0.1, "{}", output.duration_s);
    assert!(report.warnings.iter().any(|it| it.code == "times_repaired"), "{:?}", report.warnings);
}

#[test]
fn held_out_frames_are_scored_beside_the_baselines() {
    let place = Place::new();
    let source = place.clip("in.mkv", &[MOVING, &["-c:v", "ffv1"]].concat());
    let report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    let holdout = report.quality.unwrap().holdout;
    assert!(holdout.samples > 0 && holdout.samples <= 23, "{}", holdout.samples);
    assert_eq!(holdout.network, holdout.blend, "the trivial engine is the blend baseline");
    assert!(holdout.repeat.psnr_rgb_db < holdout.blend.psnr_rgb_db);
}

#[test]
fn a_last_frame_that_is_shown_for_long_is_no_fault_of_any_container() {
    let place = Place::new();
    // Five frames, of which the header says that the last is shown for half a second.
    let source = place.path("in.mp4");
    std::fs::copy("fuzz/corpus/clip/long-last-frame.mp4", &source).unwrap();
    for (name, codec) in [("out.mkv", Codec::Ffv1), ("out.mp4", Codec::H264)] {
        let encoding = Encoding { codec, ..Encoding::default() };
        let task = place.task(&source, name, Settings { encoding, ..slow(2) });
        let report = run(&task).unwrap();
        assert!(report.source.duration_s.unwrap() > 1.3);
        assert_eq!(report.output.unwrap().frames.total, 10, "{name}");
    }
}

#[test]
fn a_truncated_clip_is_not_passed_off_as_whole() {
    let place = Place::new();
    let whole = place.clip(
        "whole.mp4",
        &["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4", "-movflags", "+faststart"],
    );
    let bytes = std::fs::read(&whole).unwrap();
    let source = place.path("cut.mp4");
    std::fs::write(&source, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let task = place.task(&source, "out.mkv", slow(2));
    let error = run(&task).unwrap_err();
    assert!(
        matches!(error, ConvertError::Media(MediaError::Unusable { code: "truncated", .. })),
        "{error}"
    );
    assert!(!task.temporary.exists());
    let report = failure_report(&task, &error);
    schema::valid(&report);
    assert_eq!(report.status, Status::Refused);
    assert_eq!(report.errors[0].code, "truncated");
}

/// That a clip is too small for an encoder says nothing of the others of its folder.
#[test]
fn a_clip_that_the_encoder_does_not_take_is_refused_and_an_encoder_that_takes_none_stops_the_work()
{
    let place = Place::new();
    let small = ["-f", "lavfi", "-i", "testsrc2=s=32x32:r=25:d=0.2", "-c:v", "ffv1"];
    let source = place.clip("small.mkv", &small);
    let fails = |preset: &str| {
        let preset = Some(preset.to_owned());
        let encoding = Encoding { codec: Codec::Av1, preset, ..Encoding::default() };
        run(&place.task(&source, "out.mkv", Settings { encoding, ..slow(2) })).unwrap_err()
    };
    let error = fails("12");
    assert_eq!((error.code(), error.consequence()), ("not_encodable", Consequence::Reject));
    assert!(error.to_string().contains("64 pixels"), "{error}");
    assert_eq!(fails("none such").consequence(), Consequence::Stop);
}

#[test]
fn what_is_no_video_is_refused() {
    let place = Place::new();
    let source = place.path("notes.mp4");
    std::fs::write(&source, "not a video at all\n".repeat(500)).unwrap();
    let task = place.task(&source, "out.mkv", slow(2));
    assert!(matches!(run(&task), Err(ConvertError::Media(MediaError::Unusable { .. }))));
    let one = place
        .clip("one.mkv", &["-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.04", "-c:v", "ffv1"]);
    let error = run(&place.task(&one, "out.mkv", slow(2))).unwrap_err();
    assert!(
        matches!(error, ConvertError::Media(MediaError::Unusable { code: "too_few_frames", .. })),
        "{error}"
    );
    assert!(!task.temporary.exists());
}

/// W39.
#[test]
fn a_clip_of_ten_hours_is_refused_before_anything_is_written() {
    let place = Place::new();
    let source = place.clip(
        "long.mp4",
        &[
            "-f",
            "lavfi",
            "-i",
            "color=s=16x16:r=1:d=36000",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
        ],
    );
    let task = place.task(&source, "out.mkv", slow(4));
    let mut engine = Meddler(|| panic!("no frame is made"));
    let error = convert(&task, &mut engine, &Arc::default(), &mut |_| {}).unwrap_err();
    assert!(
        matches!(error, ConvertError::Media(MediaError::Unusable { code: "too_long", .. })),
        "{error}"
    );
    assert!(!task.temporary.exists());
}

/// Sets a flag, or touches the source, when it is first asked for a picture.
struct Meddler<F: FnMut() + Send>(F);

impl<F: FnMut() + Send> Interpolator for Meddler<F> {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        (self.0)();
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

/// Blends, and hands pictures over only when several more were asked for.
#[derive(Default)]
struct Late(VecDeque<Picture>);

impl Ahead for Late {
    fn depth(&self) -> usize {
        5
    }

    fn waiting(&self) -> usize {
        self.0.len()
    }

    fn submit(&mut self, a: &Frame, b: &Frame, t: &[f32]) -> Result<(), EngineError> {
        self.0.extend(Blend.interpolate(a, b, t)?);
        Ok(())
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        Ok(self.0.pop_front().unwrap())
    }
}

impl Interpolator for Late {
    fn interpolate(
        &mut self,
        _: &Frame,
        _: &Frame,
        _: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        panic!("an engine that works ahead is asked ahead")
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        Some(self)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

#[test]
fn an_engine_that_works_ahead_gives_the_same_clip_and_the_same_scores() {
    let place = Place::new();
    // Moves, stands still, cuts: real, held and new frames, and held-out ones in between.
    let filter = "testsrc2=s=160x90:r=25:d=1[a];color=red:s=160x90:r=25:d=1[b];[a][b]concat=n=2";
    let source = place.clip("in.mkv", &["-f", "lavfi", "-i", filter, "-c:v", "ffv1"]);
    let at_once = run(&place.task(&source, "at_once.mkv", slow(3))).unwrap();
    let frames_at_once = decoded(&place.path(".temporary"));
    let task = place.task(&source, "ahead.mkv", slow(3));
    let ahead = convert(&task, &mut Late::default(), &Arc::default(), &mut |_| {}).unwrap();
    schema::valid(&ahead);
    let pictures = |frames: Vec<Frame>| {
        frames.into_iter().map(|frame| (frame.pts, frame.picture)).collect::<Vec<_>>()
    };
    assert!(pictures(decoded(&task.temporary)) == pictures(frames_at_once));
    let counted = |report: &Report| report.output.as_ref().unwrap().frames;
    assert_eq!(counted(&ahead), counted(&at_once));
    assert!(counted(&ahead).held > 0 && counted(&ahead).synthesised > 0);
    let scores = |report: &Report| serde_json::to_value(&report.quality).unwrap();
    assert_eq!(scores(&ahead), scores(&at_once));
}

#[test]
fn an_interruption_leaves_nothing_behind() {
    let place = Place::new();
    let source = place.clip("in.mp4", MOVING);
    let task = place.task(&source, "out.mkv", slow(2));
    let stop = Arc::new(AtomicBool::new(false));
    let mut engine = Meddler(|| stop.store(true, Ordering::Relaxed));
    let error = convert(&task, &mut engine, &stop, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ConvertError::Interrupted), "{error}");
    assert_eq!(
        std::fs::read_dir(place.folder.path()).unwrap().count(),
        1,
        "only the source is there"
    );
}

#[test]
fn a_source_that_changes_during_the_work_voids_the_result() {
    let place = Place::new();
    let source = place.clip("in.mp4", MOVING);
    let task = place.task(&source, "out.mkv", slow(2));
    let appended = source.clone();
    let mut engine = Meddler(move || {
        use std::io::Write;
        std::fs::OpenOptions::new()
            .append(true)
            .open(&appended)
            .unwrap()
            .write_all(b"more")
            .unwrap();
    });
    let error = convert(&task, &mut engine, &Arc::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, ConvertError::SourceChanged { .. }), "{error}");
    assert!(!task.temporary.exists());
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let place = Place::new();
    let source = place.clip("in.mp4", &["-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=1"]);
    let disk = place.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&disk)
        .output()
        .unwrap();
    if !mount.status.success() {
        skip("no right to mount a small file system");
        return;
    }
    let output = disk.join("out.mkv");
    let temporary = disk.join(".temporary");
    let segments = Rule::default();
    let task = Task {
        source,
        temporary,
        parts: None,
        segments,
        output,
        settings: slow(4),
        settings_sha256: None,
    };
    let result = run(&task);
    let left = std::fs::read_dir(&disk).unwrap().count();
    let unmount = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmount.success());
    assert!(matches!(result, Err(ConvertError::Media(MediaError::Write { .. }))), "{result:?}");
    assert_eq!(left, 0);
}
