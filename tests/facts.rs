//! What a report says of a conversion is so: the factor, what was measured, what is known of one that ended early.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use num_rational::Ratio;
use serde_json::Value;
use sha2::{Digest, Sha256};
use slomod::config::settings::{Codec, Device, Encoding, Mode, Settings};
use slomod::engine::blend::Blend;
use slomod::engine::open::{BLEND, open};
use slomod::engine::{EngineDescription, EngineError, Interpolator};
use slomod::frame::{Frame, Picture};
use slomod::pipeline::convert::{convert, convert_knowing};
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
        let settings = Settings { encoding: Encoding::default(), quality_samples: 200, ..slow(2) };
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

/// What ffprobe says of a clip.
fn probed(clip: &Path) -> Value {
    let args = ["-v", "error", "-show_streams", "-of", "json"];
    let run = Command::new("ffprobe").args(args).arg(clip).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn the_streams_of_the_source_are_what_ffprobe_says() {
    let place = Place::new();
    let subtitles = place.path("s.srt");
    std::fs::write(&subtitles, "1\n00:00:00,100 --> 00:00:00,300\nhello\n").unwrap();
    let args =
        "-f lavfi -i testsrc2=s=96x64:r=30:d=1 -f lavfi -i sine=d=1:r=44100 -f lavfi -i sine=d=1";
    let more = "-map 0 -map 1 -map 2 -map 3 -c:v libx264 -c:a:0 aac -c:a:1 flac -ac:a:1 1 -ac:a:0 2 \
                -metadata:s:a:0 language=kor -metadata:s:a:1 title=Rear -disposition:a:1 0 -disposition:s:0 forced";
    let mut args: Vec<&str> = args.split(' ').collect();
    args.extend(["-i", subtitles.to_str().unwrap()]);
    args.extend(more.split_ascii_whitespace());
    let source = place.clip("in.mkv", &args);
    let report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    let (known, probed) = (&report.source, probed(&source));
    let probed = probed["streams"].as_array().unwrap();
    assert_eq!((known.streams.len(), probed.len()), (4, 4));
    for (stream, probed) in known.streams.iter().zip(probed) {
        let text = |it: &Value| it.as_str().map(str::to_owned);
        let number = |it: &Value| it.as_u64().or_else(|| it.as_str()?.parse().ok());
        assert_eq!(Some(stream.index as u64), number(&probed["index"]));
        assert_eq!(Some(&stream.kind), text(&probed["codec_type"]).as_ref());
        assert_eq!(Some(&stream.codec), text(&probed["codec_name"]).as_ref());
        assert_eq!(stream.language, text(&probed["tags"]["language"]), "{stream:?}");
        assert_eq!(stream.title, text(&probed["tags"]["title"]), "{stream:?}");
        let size = (stream.width_px, stream.height_px);
        let side = |it: &Value| number(it).map(|it| it as usize);
        let is_video = stream.kind == "video";
        assert!(!is_video || size == (side(&probed["width"]), side(&probed["height"])), "{size:?}");
        assert_eq!(size.0.is_some(), is_video);
        let sound = (stream.sample_rate_hz, stream.channels);
        let count = |it: &Value| number(it).map(|it| it as u32);
        assert_eq!(sound, (count(&probed["sample_rate"]), count(&probed["channels"])));
        let set = probed["disposition"].as_object().unwrap();
        let mut set: Vec<_> = set.iter().filter(|it| *it.1 == 1).map(|it| it.0.clone()).collect();
        let mut said = stream.disposition.clone();
        set.sort();
        said.sort();
        assert_eq!(said, set, "{stream:?}");
    }
}

/// M21: every seventh frame is missing, so that the rate in whose steps the times lie is not the average.
#[test]
fn the_rates_of_the_source_are_what_ffprobe_says_and_what_is_measured() {
    let place = Place::new();
    let graph = "testsrc2=s=96x64:r=30:d=1,select='mod(n,7)'";
    let encoder = ["-fps_mode", "passthrough", "-c:v", "libx264", "-pix_fmt", "yuv420p"];
    let source = place.clip("in.mp4", &[&["-f", "lavfi", "-i", graph], &encoder[..]].concat());
    let report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    let (known, probed) = (&report.source, probed(&source)["streams"][0].clone());
    let rate = |it: &Value| it.as_str().map(|it| it.trim_end_matches("/1").to_owned());
    assert_eq!(known.fps_base, rate(&probed["r_frame_rate"]));
    assert_eq!(known.fps_claimed, rate(&probed["avg_frame_rate"]));
    assert_eq!(known.fps_base.as_deref(), Some("30"));
    assert!(known.fps_claimed != known.fps_base, "{:?}", known.fps_claimed);
    // From the first of 25 frames to the end of the last.
    let (num, den) = known.fps.as_deref().and_then(|it| it.split_once('/')).unwrap();
    let fps = num.parse::<f64>().unwrap() / den.parse::<f64>().unwrap();
    assert_eq!(known.frames.decoded, 25);
    assert!((fps * known.duration_s.unwrap() - 25.0).abs() < 1e-6, "{fps}");
}

#[test]
fn the_codec_and_the_stride_are_those_of_the_work() {
    let place = Place::new();
    let source = moving(&place, 12);
    for codec in [Codec::H264, Codec::H265, Codec::Av1, Codec::Ffv1] {
        let encoding = Encoding { codec, ..Encoding::default() };
        let task = place.task(&source, "out.mkv", Settings { encoding, ..slow(2) });
        let report = run(&task).unwrap();
        let found = probed(&task.temporary)["streams"][0]["codec_name"].clone();
        assert_eq!(report.output.unwrap().codec.as_deref(), found.as_str(), "{codec:?}");
        // Three of ten frames that have neighbors.
        let stride = report.quality.unwrap().holdout.stride.unwrap();
        assert!((stride - 10.0 / 3.0).abs() < 1e-9, "{stride}");
        let model = report.model.unwrap();
        assert_eq!((model.version, model.ensemble), (None, false));
    }
}

/// The trivial engine makes nothing more than once, whatever is asked for.
#[test]
fn several_passes_are_told() {
    let place = Place::new();
    let source = moving(&place, 3);
    for (model, passes, several) in
        [(None, 1, false), (None, 2, true), (Some(PathBuf::from(BLEND)), 2, false)]
    {
        let settings = Settings { model, passes, device: Device::Cpu, ..slow(2) };
        let mut engine = open(&settings).unwrap();
        let task = place.task(&source, "out.mkv", settings);
        let stop = Arc::new(AtomicBool::new(false));
        let report = convert(&task, engine.as_mut(), &stop, &mut |_| {}).unwrap();
        schema::valid(&report);
        assert_eq!(report.settings.passes, passes);
        assert_eq!(report.model.unwrap().ensemble, several, "{passes}");
    }
}

/// A lossy encoder changes real frames too, and the page says so; a lossless one does not.
#[test]
fn the_page_says_that_real_frames_are_encoded_with_loss() {
    let place = Place::new();
    let source = moving(&place, 6);
    for (codec, list, expected) in [
        (Codec::H264, false, true),
        (Codec::H264, true, true),
        (Codec::Ffv1, false, false),
        (Codec::Ffv1, true, false),
    ] {
        let encoding = Encoding { codec, ..Encoding::default() };
        let mut settings = Settings { encoding, ..slow(2) };
        settings.beside.frame_list = list;
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        let real = report.output.as_ref().unwrap().real_frames;
        assert_eq!(real.map(|it| it.identical < it.compared), list.then_some(expected));
        let page = page(&report, None).unwrap();
        let said = ["encoded again with loss", "손실 압축으로 다시"].map(|it| page.contains(it));
        assert_eq!(said, [expected; 2], "{codec:?} {list}");
    }
}

/// As a dash-cam's file with front and rear.
#[test]
fn a_second_moving_picture_that_is_left_out_is_said() {
    let place = Place::new();
    let graph = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.2"];
    let maps = ["-map", "0", "-map", "1", "-c:v", "ffv1"];
    let source = place.clip("two.mkv", &[&graph[..], &graph, &maps].concat());
    let report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    let said: Vec<_> = report.warnings.iter().filter(|it| it.code == "stream_dropped").collect();
    assert_eq!(said.len(), 1, "{:?}", report.warnings);
    assert!(said[0].message.contains("stream 1 (video, ffv1)"), "{}", said[0].message);
}
