//! What is measured and said of whole clips: the network against its baselines, what is left out, speeds, the encoder by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;
#[path = "support/skip.rs"]
mod skip;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use slomod::config::content::{Content, Duplicates};
use slomod::config::settings::{Codec, Container, Device, Encoding, Settings};
use slomod::engine::blend::Blend;
use slomod::engine::{self, EngineDescription, EngineError, Interpolator};
use slomod::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range, Seconds};
use slomod::media::vmaf::{self, Pair};
use slomod::pipeline::convert::convert;
use slomod::pipeline::page::page;
use slomod::quality::{Samples, compare};
use slomod::report::Report;

use clips::{Place, decoded, run, slow};
use skip::skip;

/// The network predicts steady motion better than blending, by this much.
const GAIN_DB: f64 = 3.0;

/// With all that can be measured.
fn measured() -> Settings {
    Settings { quality_samples: 200, ..slow(2) }
}

/// Q06.
#[test]
fn in_steady_motion_the_network_beats_blending_and_repeating() {
    let place = Place::new();
    // One picture with detail of many sizes, of which a part that slides by 4 samples a frame is seen.
    let graph = "mandelbrot=s=640x360:r=1:end_pts=1:start_scale=0.3:end_scale=0.3,trim=end_frame=1,loop=9:1,fps=25,\
                 gblur=sigma=1.5,crop=160:96:x='200+4*n':y=100";
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv444p", "-c:v", "ffv1"]);
    let settings = Settings { quality_samples: 5, device: Device::Cpu, ..slow(2) };
    let mut network = engine::open(&settings).unwrap();
    let task = place.task(&source, "out.mkv", settings);
    let stop = Arc::new(AtomicBool::new(false));
    let report = convert(&task, &mut *network, &stop, &mut |_| {}).unwrap();
    schema::valid(&report);
    let holdout = report.quality.unwrap().holdout;
    let [network, blend, repeat] = [&holdout.network, &holdout.blend, &holdout.repeat];
    let psnr = [network, blend, repeat].map(|it| it.psnr_rgb_db.unwrap());
    println!("network {:.2} dB, blend {:.2} dB, repeat {:.2} dB", psnr[0], psnr[1], psnr[2]);
    assert!(psnr[0] > psnr[1] + GAIN_DB && psnr[1] > psnr[2], "{psnr:?}");
    assert!(network.ssim_y > blend.ssim_y && blend.ssim_y > repeat.ssim_y);
}

/// Q11: what the starter weights make of a drawn triplet. Other weights have another figure, which is put here with them.
#[test]
fn a_drawn_triplet_has_its_known_psnr() {
    const KNOWN_DB: f64 = 35.679;
    let (width_px, height_px) = (160, 96);
    // Waves that move to the right and a disk that moves down before them.
    let drawn = |time: f64| {
        let format = PictureFormat {
            width_px,
            height_px,
            chroma: Chroma::Gbr,
            matrix: Matrix::Bt709,
            range: Range::Full,
            depth: Depth::Eight,
        };
        let mut picture = Picture::zeroed(format);
        for at in 0..width_px * height_px {
            let (x, y) = ((at % width_px) as f64, (at / width_px) as f64);
            let disk = (x - 80.0).powi(2) + (y - 30.0 - 3.0 * time).powi(2) < 400.0;
            for (plane, samples) in picture.planes.iter_mut().enumerate() {
                let phase = 0.12 * (x - 2.0 * time) + 0.07 * y + plane as f64;
                let wave =
                    128.0 + 70.0 * phase.sin() + 30.0 * (0.31 * (x - 2.0 * time) - 0.23 * y).cos();
                samples[at] = if disk { (200.0 - 40.0 * plane as f64) as u8 } else { wave as u8 };
            }
        }
        Arc::new(picture)
    };
    let frame = |index: u64| Frame {
        index,
        pts: Seconds::from_integer(i128::from(index)),
        duration: None,
        picture: drawn(index as f64),
        alpha: None,
    };
    let settings = Settings { device: Device::Cpu, ..Settings::default() };
    let mut network = engine::open(&settings).unwrap();
    let made = network.interpolate(&frame(0), &frame(2), &[0.5]).unwrap();
    let [truth, made] = [&*drawn(1.0), &made[0]].map(Samples::of_picture);
    let db = compare(&truth, &made).rgb.psnr_db().unwrap();
    println!("{db:.3} dB");
    assert!((db - KNOWN_DB).abs() < 0.1, "{db:.3} dB");
}

/// Q07.
#[test]
fn triplets_with_a_cut_inside_are_not_measured() {
    let place = Place::new();
    let graph = "testsrc2=s=160x96:r=25:d=0.4[a];\
                 mandelbrot=s=160x96:r=25:end_pts=10,trim=duration=0.4[b];[a][b]concat";
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let report = run(&place.task(&source, "out.mkv", measured())).unwrap();
    let holdout = report.quality.unwrap().holdout;
    let cuts: Vec<_> = report.interpolation.unwrap().cuts.iter().map(|it| it.frame).collect();
    assert_eq!(cuts, [10]);
    let measured: Vec<_> = holdout.frames.iter().map(|it| it.frame).collect();
    assert!(!measured.contains(&9) && !measured.contains(&10), "{measured:?}");
    assert!(measured.contains(&8) && measured.contains(&11), "{measured:?}");
    assert_eq!(holdout.samples, measured.len() as u64);
    assert_eq!(holdout.candidates, 16);
}

/// The held-out frames of a clip.
fn held_out(report: &Report) -> Vec<u64> {
    report.quality.as_ref().unwrap().holdout.frames.iter().map(|it| it.frame).collect()
}

/// Q07.
#[test]
fn triplets_with_a_repeated_picture_or_an_unsure_gap_inside_are_not_measured() {
    let place = Place::new();
    // A frame is shown twice.
    let graph = "testsrc2=s=160x96:r=25:d=0.48,loop=loop=1:size=1:start=5,setpts=N/25/TB";
    let source = place
        .clip("twice.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let frames = decoded(&source);
    let same = |at: &usize| frames[*at].picture == frames[at + 1].picture;
    let twice: Vec<u64> = (0..frames.len() - 1).filter(same).map(|it| it as u64).collect();
    assert_eq!((frames.len(), twice.as_slice()), (13, &[4][..]));
    for duplicates in [Duplicates::Keep, Duplicates::Repair] {
        let content = Content { duplicates, ..Content::default() };
        let settings = Settings { content, ..measured() };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        assert_eq!((report.source.frames.decoded, report.source.frames.duplicates), (13, 1));
        let measured = held_out(&report);
        println!("{duplicates:?}: {measured:?}");
        assert!(!measured.contains(&4) && !measured.contains(&5), "{duplicates:?} {measured:?}");
        assert!([1, 2, 3, 7, 8, 9, 10, 11].iter().all(|it| measured.contains(it)), "{measured:?}");
    }
    // The picture slides by 2 samples a frame, and by 60 from frame 13 to 14, where nothing is made.
    let graph = "mandelbrot=s=640x192:r=1:end_pts=1,trim=end_frame=1,loop=24:1,fps=25,\
                 crop=192:192:x='2*n+if(gte(n,14),60,0)':y=0,trim=end_frame=30";
    let source = place
        .clip("leap.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let content = Content { hold_below: Some(0.4), ..Content::default() };
    for (content, expected) in [(content, false), (Content::default(), true)] {
        let settings = Settings { content, ..measured() };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        let measured = held_out(&report);
        let leap = [13, 14].map(|it| measured.contains(&it));
        assert_eq!(leap, [expected; 2], "{measured:?}");
        assert!(measured.contains(&12) && measured.contains(&15), "{measured:?}");
    }
}

/// Q07.
#[test]
fn triplets_that_touch_damage_are_not_measured() {
    let place = Place::new();
    let graph = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", "-c:v", "libx264"];
    let source = place.clip("in.mp4", &[&graph[..], &["-g", "10", "-bf", "0"]].concat());
    let mut bytes = std::fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 600].fill(0x5a);
    std::fs::write(&source, bytes).unwrap();
    let report = run(&place.task(&source, "out.mkv", measured())).unwrap();
    let barriers = &report.interpolation.as_ref().unwrap().barriers;
    assert!(!barriers.is_empty());
    let frames = &report.quality.as_ref().unwrap().holdout.frames;
    for barrier in barriers {
        let within = barrier.pts_from_s - 1e-6..=barrier.pts_to_s + 1e-6;
        let touching: Vec<_> = frames.iter().filter(|it| within.contains(&it.pts_s)).collect();
        assert!(touching.is_empty(), "{barrier:?}: {touching:?}");
    }
    let (first, last) = (barriers[0].pts_from_s, barriers[barriers.len() - 1].pts_to_s);
    assert!(frames.iter().any(|it| it.pts_s < first) && frames.iter().any(|it| it.pts_s > last));
}

/// Blends, and notes which frames it was asked about, and where between them.
#[derive(Default)]
struct Noting(Vec<(u64, u64, f32)>);

impl Interpolator for Noting {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        self.0.extend(t.iter().map(|it| (a.index, b.index, *it)));
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

/// Q07: a held-out frame of a variable rate is predicted at its own time, not in the middle.
#[test]
fn held_out_frames_are_predicted_at_their_own_times() {
    let place = Place::new();
    // Of thirty a second every seventh is missing, the first too.
    let graph = "testsrc2=s=96x64:r=30:d=1,select='mod(n,7)'";
    let encoder = ["-fps_mode", "passthrough", "-c:v", "libx264", "-pix_fmt", "yuv420p"];
    let source = place.clip("in.mp4", &[&["-f", "lavfi", "-i", graph], &encoder[..]].concat());
    let mut engine = Noting::default();
    let task = place.task(&source, "out.mkv", measured());
    let report = convert(&task, &mut engine, &Arc::default(), &mut |_| {}).unwrap();
    schema::valid(&report);
    let asked: Vec<_> = engine.0.iter().filter(|it| it.1 == it.0 + 2).collect();
    assert_eq!(asked.len() as u64, report.quality.unwrap().holdout.samples);
    assert!(asked.len() > 20, "{asked:?}");
    for (first, _, timestep) in asked {
        // Frames 0 to 5 are one to six thirtieths, 6 to 11 eight to thirteen.
        let expected = match (first + 1) % 6 {
            5 => 1.0 / 3.0,
            0 => 2.0 / 3.0,
            _ => 0.5,
        };
        assert!((timestep - expected).abs() < 1e-6, "{timestep} behind frame {first}");
    }
}

/// Q09.
#[test]
fn speeds_agree_with_frames_and_time() {
    let place = Place::new();
    let source = place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1"]);
    let clock = std::time::Instant::now();
    let task = place.task(&source, "out.mkv", slow(4));
    let report = run(&task).unwrap();
    let outside = clock.elapsed().as_secs_f64();
    // What the report calls its wall time is what passed out here, but for the report's own making and its check.
    let wall_s = report.timing.wall_s;
    assert!(wall_s <= outside && wall_s > 0.5 * outside, "{wall_s} of {outside} s");
    let (timing, total) = (&report.timing, report.output.as_ref().unwrap().frames.total as f64);
    let whole = timing.end_to_end_fps.unwrap() * timing.wall_s;
    assert!((whole / total - 1.0).abs() < 0.01, "{whole} for {total}");
    let seconds = timing.realtime_factor.unwrap() * timing.wall_s;
    assert!((seconds - report.source.duration_s.unwrap()).abs() < 0.01, "{seconds} s");
    // The frames are those that somebody else counts, and no stage worked longer than it all took.
    assert_eq!(total as usize, decoded(&task.temporary).len());
    let decoded = report.source.frames.decoded as f64;
    // What the network made: the new frames, and the held-out ones.
    let held_out = report.quality.as_ref().unwrap().holdout.samples;
    let network = (report.output.as_ref().unwrap().frames.synthesised + held_out) as f64;
    for (stage, frames, fps) in [
        ("decode", decoded, timing.decode_fps),
        ("network", network, timing.network_fps),
        ("look", decoded, timing.look_fps),
        ("encode", total, timing.encode_fps),
    ] {
        let busy = frames / fps.unwrap();
        assert!(busy > 0.0 && busy <= outside, "{stage}: {busy} of {outside} s");
    }
    let span = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let seconds = (span(&timing.finished) - span(&timing.started)).total(jiff::Unit::Second);
    assert!((seconds.unwrap() - timing.wall_s).abs() < 0.5 + 0.01 * timing.wall_s);
}

#[test]
fn the_encoder_is_measured_by_itself() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=160x96:r=25:d=2", "-c:v", "ffv1"]);
    let with = |codec, crf| {
        let encoding = Encoding { codec, crf, ..Encoding::default() };
        let settings = Settings { encoding, ..measured() };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        report.quality.unwrap().encode.unwrap()
    };
    let lossless = with(Codec::Ffv1, None);
    assert!(lossless.scores.identical && lossless.scores.psnr_rgb_db.is_none());
    assert!(lossless.frames >= 12 && lossless.frames <= 24, "{}", lossless.frames);
    let (good, poor) = (with(Codec::H264, Some(12)).scores, with(Codec::H264, Some(40)).scores);
    assert!(good.psnr_rgb_db > poor.psnr_rgb_db && good.ssim_y > poor.ssim_y);
    assert!(good.psnr_rgb_db.unwrap() > 35.0 && poor.psnr_rgb_db.unwrap() < 35.0);
}

/// Where FFmpeg has it, VMAF is that of its command line, whose first input is judged by the second.
#[test]
fn vmaf_is_that_of_ffmpegs_command_line() {
    if !vmaf::is_there() {
        skip("this FFmpeg has no filter libvmaf");
        return;
    }
    let place = Place::new();
    let draw = |name: &str, more: &str| {
        let graph = format!("testsrc2=s=162x96:r=25:d=0.16,crop=161:96:exact=1{more}");
        place.clip(name, &["-f", "lavfi", "-i", &graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"])
    };
    let (truth, made) = (draw("truth.mkv", ""), draw("made.mkv", ",noise=alls=30:all_seed=7"));
    let by_ffmpeg = |made: &Path, truth: &Path| -> Vec<f64> {
        let log = place.path("log.json");
        let graph = format!("[0:v][1:v]libvmaf=log_fmt=json:log_path={}", log.display());
        let mut ffmpeg = Command::new("ffmpeg");
        let run = ffmpeg.args(["-v", "error", "-i"]).arg(made).arg("-i").arg(truth);
        let run = run.args(["-lavfi", &graph, "-f", "null", "-"]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let log: serde_json::Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
        let frames = log["frames"].as_array().unwrap().iter();
        frames.map(|it| it["metrics"]["vmaf"].as_f64().unwrap()).collect()
    };
    let (forth, back) = (by_ffmpeg(&made, &truth), by_ffmpeg(&truth, &made));
    let (truth, made) = (decoded(&truth), decoded(&made));
    let luma = |frame: &Frame| Samples::of_picture(&frame.picture).luma().to_vec();
    let frames: Vec<_> = truth.iter().zip(&made).map(|(a, b)| (luma(a), luma(b))).collect();
    let pairs: Vec<_> = frames.iter().map(|(truth, made)| Pair { truth, made }).collect();
    let ours = vmaf::scores(&pairs, 161, 96).unwrap();
    assert_eq!((ours.len(), forth.len()), (4, 4));
    println!("VMAF {ours:?}, by the command line {forth:?}, the other way round {back:?}");
    for ((ours, forth), back) in ours.iter().zip(&forth).zip(&back) {
        assert!((ours - forth).abs() < 1e-4 && (ours - back).abs() > 0.1);
    }
}

/// The measure is in the report, and on its page, where it was asked for; where it cannot be had, a warning says so.
#[test]
fn vmaf_is_measured_where_asked_or_a_warning_says_why_not() {
    let place = Place::new();
    let graph = "testsrc2=s=160x96:r=25:d=0.12";
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let report = |vmaf, quality_samples| {
        let settings = Settings { vmaf, quality_samples, ..slow(2) };
        run(&place.task(&source, "out.mkv", settings)).unwrap()
    };
    let said = |report: &Report| {
        let said = report.warnings.iter().find(|it| it.code == "vmaf_missing");
        said.map(|it| it.message.clone())
    };
    let unasked = report(false, 3);
    assert_eq!((said(&unasked), unasked.quality.unwrap().holdout.network.vmaf), (None, None));
    assert!(said(&report(true, 0)).unwrap().contains(if vmaf::is_there() {
        "quality_samples"
    } else {
        "libvmaf"
    }));
    let mut asked = report(true, 3);
    let warned = said(&asked);
    let holdout = &mut asked.quality.as_mut().unwrap().holdout;
    assert_eq!(holdout.samples, 1);
    if !vmaf::is_there() {
        let expected = "missing of 1 of 1 held-out frames: this FFmpeg has no filter `libvmaf`";
        assert!(warned.unwrap().contains(expected));
        assert_eq!((holdout.network.vmaf, holdout.frames[0].vmaf), (None, None));
        assert!(!page(&asked, None).unwrap().contains("VMAF</th>"));
        return;
    }
    assert_eq!(warned, None);
    let frames = decoded(&source);
    let luma: Vec<_> = frames.iter().map(|it| Samples::of_picture(&it.picture)).collect();
    let [first, middle, last] = [0, 1, 2].map(|it| luma[it].luma());
    let pairs =
        [(first, first), (middle, first), (last, last)].map(|(truth, made)| Pair { truth, made });
    let expected = vmaf::scores(&pairs, 160, 96).unwrap()[1];
    let (network, repeat) = (holdout.network.vmaf.unwrap(), holdout.repeat.vmaf.unwrap());
    assert!((repeat - expected).abs() < 1e-4, "{repeat}, {expected}");
    // The trivial engine is the blend.
    assert_eq!((holdout.blend.vmaf, holdout.frames[0].vmaf), (Some(network), Some(network)));
    assert!(network != repeat && (0.0..=100.0).contains(&network));
    assert!(page(&asked, None).unwrap().contains("VMAF</th>"));
}

/// Blends, as a network would of which something is left out.
struct Noted;

impl Interpolator for Noted {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        EngineDescription { model_notes: vec!["left out".into()], ..Blend.description() }
    }
}

#[test]
fn what_the_engine_leaves_out_of_a_network_is_a_warning() {
    let place = Place::new();
    let graph = "testsrc2=s=64x48:r=25:d=0.2";
    let source = place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-c:v", "ffv1"]);
    let task = place.task(&source, "out.mkv", slow(2));
    let report = convert(&task, &mut Noted, &Arc::default(), &mut |_| {}).unwrap();
    schema::valid(&report);
    let said = report.warnings.iter().filter(|it| it.code == "model_note");
    assert_eq!(said.map(|it| it.message.as_str()).collect::<Vec<_>>(), ["left out"]);
}

/// Blends, and lets each picture wait until the other stages have gone on meanwhile, or for [`Watching::PATIENCE`].
struct Watching {
    source: std::path::PathBuf,
    output: std::path::PathBuf,
    /// Calls in which the source was read on, and in which the output was written on.
    overlapped: [usize; 2],
}

impl Watching {
    const PATIENCE: Duration = Duration::from_secs(2);

    /// How far the source has been read, and how long the output is.
    fn places(&self) -> [u64; 2] {
        let mut read = 0;
        for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
            if std::fs::read_link(entry.path()).is_ok_and(|it| it == self.source) {
                let facts = Path::new("/proc/self/fdinfo").join(entry.file_name());
                let facts = std::fs::read_to_string(facts).unwrap_or_default();
                let place = facts.lines().find_map(|it| it.strip_prefix("pos:"));
                read += place.map_or(0, |it| it.trim().parse().unwrap());
            }
        }
        [read, self.output.metadata().map_or(0, |it| it.len())]
    }
}

impl Interpolator for Watching {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        let (start, before) = (Instant::now(), self.places());
        let mut went_on = [false; 2];
        while went_on != [true; 2] && start.elapsed() < Self::PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
            let now = self.places();
            went_on = std::array::from_fn(|it| went_on[it] || now[it] > before[it]);
        }
        for (count, went_on) in self.overlapped.iter_mut().zip(went_on) {
            *count += usize::from(went_on);
        }
        Blend.interpolate(img0, img1, timesteps)
    }

    fn description(&self) -> EngineDescription {
        Blend.description()
    }
}

/// Decoder and encoder work while the network does: in the midst of one call of it both go on.
#[test]
fn the_stages_work_at_the_same_time() {
    let place = Place::new();
    // Pictures that are far larger than any buffer of a file.
    let graph = "testsrc2=s=640x360:r=25:d=0.8,noise=alls=40:allf=t";
    let source = place
        .clip("in.avi", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "rawvideo"]);
    let source = source.canonicalize().unwrap();
    // Matroska gathers pictures before it writes them.
    let container = Some(Container::Mov);
    let encoding = Encoding { codec: Codec::Ffv1, container, ..Encoding::default() };
    let settings = Settings { quality_samples: 0, encoding, ..slow(2) };
    let task = place.task(&source, "out.mov", settings);
    let (output, overlapped) = (task.temporary.clone(), [0; 2]);
    let mut engine = Watching { source, output, overlapped };
    let stop = Arc::new(AtomicBool::new(false));
    convert(&task, &mut engine, &stop, &mut |_| {}).unwrap();
    let [read, written] = engine.overlapped;
    println!("in calls of the engine: read on in {read}, written on in {written}");
    assert!(read >= 5 && written >= 5, "{read} and {written} of 19");
}
