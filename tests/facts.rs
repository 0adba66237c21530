//! What a report says of a conversion is so: the factor, what was measured, what is known of one that ended early.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use num_rational::Ratio;
use sha2::{Digest, Sha256};
use slomod::config::settings::{Encoding, Mode, Settings};
use slomod::engine::blend::Blend;
use slomod::engine::{EngineDescription, EngineError, Interpolator};
use slomod::frame::{Frame, Picture};
use slomod::pipeline::convert::convert_knowing;
use slomod::pipeline::known::Known;
use slomod::pipeline::page::page;
use slomod::pipeline::{ConvertError, Task};
use slomod::report::{Report, Status};

use clips::{Place, run, slow};

const H264: &[&str] = &["-c:v", "libx264", "-g", "5", "-movflags", "+faststart"];

/// A lossless clip of `frames` frames, 25 a second, in which all moves.
fn moving(place: &Place, frames: u32) -> PathBuf {
    let graph = format!("testsrc2=s=96x64:r=25,trim=end_frame={frames}");
    let args = ["-f", "lavfi", "-i", &graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"];
    place.clip(&format!("in{frames}.mkv"), &args)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_factor_is_what_was_made_of_each_frame_where_that_is_uniform() {
    let place = Place::new();
    let source = moving(&place, 4);
    let none = (None, None, None);
    for (mode, (factor, fps, speed), expected) in [
        (Mode::Slow, none, Some(4)),
        (Mode::Smooth, none, Some(2)),
        (Mode::Slow, (None, None, Some(Ratio::new(1, 2))), Some(2)),
        (Mode::Slow, (None, None, Some(Ratio::new(3, 10))), None),
        // Sixteen new frames for each old one.
        (Mode::Slow, (Some(8), Some(Ratio::from_integer(50)), None), None),
        (Mode::Smooth, (None, Some(Ratio::from_integer(60)), None), None),
        (Mode::Smooth, (Some(3), None, None), Some(3)),
    ] {
        let settings = Settings { mode, factor, fps, speed, ..slow(2) };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        let said = (report.interpolation.unwrap().factor, report.settings.factor);
        assert_eq!(said, (expected, factor), "{mode:?} {factor:?} {fps:?} {speed:?}");
    }
}

/// Where no frame can be held out, what the encoder does is measured even so.
#[test]
fn the_encoder_is_measured_where_nothing_is_held_out() {
    let place = Place::new();
    let still = place.clip("still.mkv", &["-f", "lavfi", "-i", "color=s=96x64:r=25:d=0.2"]);
    for source in [moving(&place, 2), still] {
        let settings =
            Settings { encoding: Encoding::default(), quality_samples: 200, ..slow(2) };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        let page = page(&report, None).unwrap();
        let quality = report.quality.unwrap();
        assert_eq!((quality.holdout.samples, quality.holdout.candidates), (0, 0));
        assert_eq!((quality.holdout.network.ssim_y, quality.holdout.worst_pts_s), (None, None));
        assert!(quality.encode.unwrap().frames > 0);
        assert!(page.contains("the encoder alone") && !page.contains("blending both neighbors"));
    }
    let settings = Settings { quality_samples: 0, ..slow(2) };
    let unasked = run(&place.task(&moving(&place, 3), "out.mkv", settings)).unwrap();
    assert_eq!(unasked.quality, None);
}

/// The error of a conversion that fails, and its report.
fn failed(task: &Task, engine: &mut dyn Interpolator) -> (ConvertError, Report) {
    let mut known = Known::start();
    let result = convert_knowing(task, engine, &Arc::default(), &mut |_| {}, &mut known);
    let error = result.unwrap_err();
    let report = known.failure_report(task, &error);
    schema::valid(&report);
    (error, report)
}

/// Q08: a report of a failure says what was known when it happened.
#[test]
fn a_clip_that_is_refused_after_it_was_decoded_is_described() {
    let place = Place::new();
    let graph = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2"];
    let whole = place.clip("whole.mp4", &[&graph, H264].concat());
    let bytes = std::fs::read(&whole).unwrap();
    let source = place.path("cut.mp4");
    std::fs::write(&source, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let hash = hash(&bytes[..bytes.len() * 6 / 10]);
    let (error, report) = failed(&place.task(&source, "out.mkv", slow(2)), &mut Blend);
    assert_eq!((error.code(), report.status), ("truncated", Status::Refused));
    let (known, timing) = (&report.source, &report.timing);
    assert_eq!((known.sha256.as_deref(), known.sha256_after.as_deref()), (Some(&*hash), None));
    assert_eq!(known.codec.as_deref(), Some("h264"));
    assert_eq!((known.width_px, known.height_px), (Some(320), Some(180)));
    assert_eq!((known.fps_claimed.as_deref(), known.frames.promised), (Some("25"), Some(50)));
    let said = format!("promises 50 frames and {} can be decoded", known.frames.decoded);
    assert!(error.to_string().contains(&said), "{error} {:?}", known.frames);
    assert!((20..40).contains(&known.frames.decoded), "{:?}", known.frames);
    assert_eq!(report.device.unwrap().name, Blend.description().device_name);
    assert_eq!(report.model.unwrap().name, "blend");
    assert!(timing.wall_s > 0.0 && timing.rss_peak_bytes > Some(0), "{timing:?}");
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let span = time(&timing.finished).duration_since(time(&timing.started));
    assert!((span.as_secs_f64() - timing.wall_s).abs() < 0.2, "{timing:?}");
}

#[test]
fn a_clip_that_is_refused_before_the_network_ran_names_none() {
    let place = Place::new();
    let source = place.path("notes.mp4");
    std::fs::write(&source, "not a video at all\n".repeat(500)).unwrap();
    let (_, report) = failed(&place.task(&source, "out.mkv", slow(2)), &mut Blend);
    assert_eq!((report.device, report.model), (None, None));
    assert!(report.source.sha256.is_some() && report.source.codec.is_none());
    assert_eq!((report.source.size_bytes, report.source.frames.decoded), (9500, 0));
}

/// Appends to the source when it is first asked for a picture, and tells of a step that it took.
struct Meddler(Option<PathBuf>);

impl Interpolator for Meddler {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        if let Some(path) = self.0.take() {
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        }
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        let steps = if self.0.is_none() { vec!["smaller tiles".into()] } else { Vec::new() };
        EngineDescription { steps, ..Blend.description() }
    }
}

#[test]
fn a_source_that_changed_has_both_hashes_in_the_report() {
    let place = Place::new();
    let source = moving(&place, 5);
    let before = hash(&std::fs::read(&source).unwrap());
    let task = place.task(&source, "out.mkv", slow(2));
    let (_, report) = failed(&task, &mut Meddler(Some(source.clone())));
    let after = hash(&std::fs::read(&source).unwrap());
    assert_eq!(report.status, Status::Failed);
    let said = (report.source.sha256, report.source.sha256_after);
    assert_eq!(said, (Some(before), Some(after)));
    assert_eq!((report.source.frames.decoded, report.source.duration_s), (5, Some(0.2)));
    assert_eq!(report.source.fps.as_deref(), Some("25"));
    let steps: Vec<_> = report.warnings.iter().filter(|it| it.code == "device_step").collect();
    assert_eq!(steps.len(), 1, "{:?}", report.warnings);
}
