//! The demo: its clip, what it measures, and the whole of it with a small clip.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "common/turn.rs"]
mod turn;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};
use slomod::cli::demo::clip::{self, FRAMES, RATE_HZ};
use slomod::cli::demo::folder::prepare;
use slomod::cli::demo::scene::{HEIGHT_PX, Scene, WIDTH_PX};
use slomod::cli::demo::{contact_sheet, truth};
use slomod::error::ExitCode;
use slomod::frame::{Chroma, Depth, Matrix, PictureFormat, Range, Rate, Seconds};
use slomod::media::decode::Decoder;
use slomod::media::synth;
use slomod::quality::{Samples, compare};
use slomod::report::{Interpolation, Run, Section};

/// H.264 at CRF 10 stays above this on the scene; a frame drawn for the next moment is far below it.
const ENCODED_PSNR_DB: f64 = 40.0;

#[test]
fn the_clip_holds_every_frame_of_the_scene_at_its_time_and_a_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scene.mp4");
    let scene = Scene::new();
    clip::write(&scene, FRAMES, &path).unwrap();

    let mut decoder = Decoder::open(&path).unwrap();
    let kinds: Vec<String> = decoder.info().streams.iter().map(|it| it.kind.clone()).collect();
    assert_eq!(kinds, ["video", "audio"]);
    let mut frames = 0;
    let mut origin = None;
    while let Some(frame) = decoder.next_frame().unwrap() {
        let origin = *origin.get_or_insert(frame.pts);
        assert_eq!(frame.pts - origin, Seconds::new(frames, i128::from(RATE_HZ)));
        if frames % 15 == 0 {
            let psnr = |number: f64| {
                let truth = clip::picture(&scene, clip::time_s(number), frame.picture.format);
                let scores =
                    compare(&Samples::of_picture(&truth), &Samples::of_picture(&frame.picture));
                scores.rgb.psnr_db().unwrap()
            };
            let (own, next) = (psnr(frames as f64), psnr(frames as f64 + 1.0));
            assert!(own > ENCODED_PSNR_DB && next < own - 10.0, "frame {frames}: {own}, {next}");
        }
        frames += 1;
    }
    assert_eq!(frames, i128::from(FRAMES));
    assert_eq!(decoder.stats().corrupt, 0);
}

/// The clip at twice its rate, every second frame drawn instead of made, as if by a perfect network.
fn perfect_output(scene: &Scene, path: &Path, frames: u32) -> Interpolation {
    let format = PictureFormat {
        width_px: WIDTH_PX,
        height_px: HEIGHT_PX,
        chroma: Chroma::C420,
        matrix: Matrix::Bt601,
        range: Range::Limited,
        depth: Depth::Eight,
    };
    let picture = |i: u32| clip::picture(scene, clip::time_s(f64::from(i) / 2.0), format);
    let rate = Rate::from_integer(i128::from(RATE_HZ));
    synth::write_clip(path, (0..frames).map(picture), rate, &[]).unwrap();
    let run = |kind: &str| Run { kind: kind.into(), count: 1, ..Run::default() };
    let runs = |i: u32| vec![run(if i.is_multiple_of(2) { "real" } else { "synthesised" })];
    Interpolation {
        factor: Some(2),
        speed: 0.5,
        cut_threshold: 1.0,
        cuts: Vec::new(),
        barriers: Vec::new(),
        black_bars: None,
        changes: Vec::new(),
        confidence: slomod::report::content::Confidence::default(),
        masks: Vec::new(),
        frame_map: (0..frames)
            .map(|i| Section { runs: runs(i), repeat: 1, ..Section::default() })
            .collect(),
    }
}

#[test]
fn true_frames_score_above_blended_and_repeated_ones_and_the_sheet_shows_them() {
    let folder = tempfile::tempdir().unwrap();
    let (video, sheet) = (folder.path().join("out.mp4"), folder.path().join("sheet.png"));
    let scene = Scene::new();
    let interpolation = perfect_output(&scene, &video, 9);

    let scores = truth::score(&scene, &video, &interpolation).unwrap().unwrap();
    assert_eq!(scores.frames, 4);
    assert!(scores.network_db > ENCODED_PSNR_DB, "{scores:?}");
    assert!(scores.network_db > scores.blend_db + 10.0, "{scores:?}");
    assert!(scores.blend_db > scores.repeat_db, "{scores:?}");

    assert!(contact_sheet::write(&sheet, &video, &interpolation).unwrap());
    let drawn = image::open(&sheet).unwrap().to_rgb8();
    // Three moments, each whole and in detail: three cells of 320x180 beside each other, labels and spaces.
    assert_eq!((drawn.width(), drawn.height()), (3 * 328 + 8, 6 * (180 + 20 + 8) + 8));
    for label in [[120, 200, 120], [240, 170, 70]] {
        assert!(drawn.pixels().any(|pixel| pixel.0 == label), "{label:?}");
    }
}

#[test]
fn a_folder_of_somebody_else_is_left_alone_and_one_of_a_demo_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine");
    std::fs::create_dir_all(mine.join("out")).unwrap();
    std::fs::write(mine.join("out/holiday.mp4"), "mine").unwrap();
    let refused = prepare(&mine, &[]).unwrap_err();
    assert_eq!(refused.exit, ExitCode::CannotCreate);
    assert!(mine.join("out/holiday.mp4").exists());

    let demo = prepare(&folder.path().join("new"), &[]).unwrap();
    let old = [&demo.out.join("old.mp4"), &demo.sheet, &demo.clip, &demo.config, &demo.log];
    for path in old {
        std::fs::write(path, "old").unwrap();
    }
    let again = prepare(&folder.path().join("new"), &[]).unwrap();
    assert!(again.out.is_dir() && again.drop.is_dir() && again.state.is_dir());
    for path in old {
        assert!(!path.exists(), "{} is of the demo before", path.display());
    }
}

/// Also where it is named by a link, or is a link there itself.
#[test]
fn a_folder_is_not_emptied_of_what_the_demo_is_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let made = prepare(&at("demo"), &[]).unwrap();
    for path in [at("mine.mp4"), made.drop.join("mine.mp4")] {
        let drawn = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=10:d=0.3"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(drawn.success());
    }
    std::fs::write(made.out.join("w.safetensors"), "weights").unwrap();
    symlink(made.drop.join("mine.mp4"), at("into.mp4")).unwrap();
    symlink(at("mine.mp4"), made.drop.join("out_of.mp4")).unwrap();
    symlink(at("demo"), at("again")).unwrap();
    let all = || [made.drop.read_dir().unwrap().count(), made.out.read_dir().unwrap().count()];
    for (what, args) in [
        ("clip", ["--clip", "demo/drop/mine.mp4"]),
        ("clip", ["--clip", "again/drop/mine.mp4"]),
        ("clip", ["--clip", "into.mp4"]),
        ("clip", ["--clip", "demo/drop/out_of.mp4"]),
        ("weights file", ["--model", "demo/out/w.safetensors"]),
    ] {
        let path = at(args[1]);
        let (run, said) = demo(&at("demo"), &[args[0], path.to_str().unwrap()]);
        assert_eq!(run.status.code(), Some(64), "{args:?}: {said}");
        let why = format!("the {what} lies in {}, which is emptied; copy it", at("demo").display());
        assert!(said.contains(&why) && said.contains("another --dir"), "{args:?}: {said}");
        assert_eq!(all(), [2, 1], "{args:?} removed something");
    }
    // Nor is it where the weights are not there.
    let (run, said) = demo(&at("demo"), &["--model", "missing.safetensors"]);
    assert_eq!(run.status.code(), Some(74), "{said}");
    assert_eq!(all(), [2, 1], "it was emptied");
}

/// Mean difference of two pictures, in codes; they must have one size.
fn off(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a.iter().zip(b.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

#[test]
fn the_sheet_shows_pictures_as_players_do() {
    let folder = tempfile::tempdir().unwrap();
    let (video, sheet) = (folder.path().join("out.mp4"), folder.path().join("sheet.png"));
    let scene = Scene::new();
    let interpolation = perfect_output(&scene, &video, 3);
    // The first whole picture of the sheet, if cells have that size.
    let first = |(width, height): (u32, u32)| {
        assert!(contact_sheet::write(&sheet, &video, &interpolation).unwrap());
        let drawn = image::open(&sheet).unwrap().to_rgb8();
        let expected = (3 * (width + 8) + 8, 2 * (height + 20 + 8) + 8);
        assert_eq!(drawn.dimensions(), expected);
        imageops::crop_imm(&drawn, 8, 8 + 20, width, height).to_image()
    };
    let upright = first((320, 180));

    turn::turn(&video, 90);
    let turned = first((320, 568));
    let expected = DynamicImage::ImageRgb8(upright.clone()).rotate90();
    let expected = expected.resize_exact(320, 568, FilterType::Triangle).into_rgb8();
    let opposite = imageops::rotate180(&expected);
    let (right, wrong) = (off(&turned, &expected), off(&turned, &opposite));
    assert!(right < 6.0 && wrong > 3.0 * right, "{right} and {wrong}");

    turn::turn(&video, 0);
    let wide = folder.path().join("wide.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&video)
        .args(["-c", "copy", "-aspect", "32:9"])
        .arg(&wide)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::rename(&wide, &video).unwrap();
    let wide = first((320, 90));
    let expected = imageops::resize(&upright, 320, 90, FilterType::Triangle);
    assert!(off(&wide, &expected) < 6.0, "{}", off(&wide, &expected));
}

/// Runs the demo with further arguments; all that it said.
fn demo(dir: &Path, args: &[impl AsRef<OsStr>]) -> (std::process::Output, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .args(["demo", "--factor", "2", "--device", "cpu", "--dir"])
        .arg(dir)
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    let said = said.into_owned();
    (run, said)
}

/// The three numbers at the end of the first line that begins so, behind the line `heading`.
fn row(said: &str, heading: &str, name: &str) -> [f64; 3] {
    let (_, behind) = said.split_once(heading).unwrap_or_else(|| panic!("no `{heading}`: {said}"));
    let line = behind.lines().find(|it| it.trim_start().starts_with(name)).unwrap();
    let mut numbers = line.split_whitespace().rev().map(|it| it.parse().unwrap());
    let last: [f64; 3] = std::array::from_fn(|_| numbers.next().unwrap());
    [last[2], last[1], last[0]]
}

/// The demo as anybody runs it first, with fewer frames: what it says step by step, and the figures at its end.
#[test]
fn the_drawn_clip_is_worked_and_measured_against_the_true_frames() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let (run, said) = demo(&dir, &["--frames", "9"]);
    assert!(run.status.success(), "{said}");
    let dir = dir.canonicalize().unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let stdout = String::from_utf8_lossy(&run.stdout);
    let steps = [
        format!("Drew {} (9 frames, ", at("scene.mp4")),
        format!("Started the daemon on {}", at("drop")),
        format!("Copied {} in", at("drop/scene.mp4")),
        format!("Video    {}", at("out/")),
        " frames at 30 fps, ".to_owned(),
        "9 real, 8 synthesised, 1 held".to_owned(),
        format!("Report   {}", at("out/")),
        format!("Sheet    {}", at("contact_sheet.png")),
        "Network  ".to_owned(),
        "Speed    ".to_owned(),
        "Held-out frames (7; twice the real motion)".to_owned(),
        "Synthesised frames against the true ones (8)".to_owned(),
    ];
    let mut rest = &*stdout;
    for step in &steps {
        let Some((_, behind)) = rest.split_once(step.as_str()) else {
            panic!("no `{step}` where it belongs: {said}");
        };
        rest = behind;
    }
    // What was printed is there.
    for name in ["Video    ", "Report   ", "Sheet    "] {
        let path = stdout.lines().find_map(|it| it.strip_prefix(name)).unwrap();
        assert!(Path::new(path).metadata().unwrap().len() > 1000, "{path}");
    }
    // Progress goes to standard error.
    assert!(String::from_utf8_lossy(&run.stderr).contains(" frames in, "), "{said}");
    let truth = row(&stdout, "against the true ones", "PSNR, RGB");
    let held_out = row(&stdout, "Held-out frames", "PSNR, RGB");
    for [network, repeat, blend] in [truth, held_out] {
        assert!(network > blend && blend > repeat && repeat > 10.0, "{said}");
    }
    // The true ones have half the motion of the held-out ones.
    assert!(truth[1] > held_out[1], "{said}");
}

/// Everything but drawing the clip, whose name is no text: daemon, job, figures, contact sheet, what is left behind.
#[test]
fn a_clip_of_ones_own_becomes_video_report_and_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join(OsStr::from_bytes(b"mine \xff.video"));
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=10:d=1", "-f", "mp4"])
        .arg(&clip)
        .status()
        .unwrap();
    assert!(made.success());
    let demo = || demo(&folder.path().join("demo"), &["--clip".as_ref(), clip.as_os_str()]);
    let (run, said) = demo();
    assert!(run.status.success(), "{said}");
    assert!(["PSNR", "SSIM", "frames a second"].iter().all(|it| said.contains(it)), "{said}");
    let left = |name: &str| folder.path().join("demo").join(name).metadata().unwrap().len();
    assert!(left("contact_sheet.png") > 1000 && left("daemon.log") > 0);
    let mut out: Vec<_> = std::fs::read_dir(folder.path().join("demo/out"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    out.sort();
    assert_eq!(out.len(), 2, "{out:?}");
    assert!(out[0].ends_with(".mp4") && out[1].ends_with(".json"), "{out:?}");

    std::fs::write(&clip, "no video\n".repeat(1000)).unwrap();
    let (refused, said) = demo();
    assert_eq!(refused.status.code(), Some(65), "{said}");
}
