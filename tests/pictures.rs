//! `slomod interpolate` and `slomod evaluate` as a user runs them, mostly with the trivial engine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::path::Path;
use std::process::{Command, Output};

use image::{ImageBuffer, Rgb, RgbImage};
use serde_json::Value;

/// Width and height of the pictures made here.
const SIZE: (u32, u32) = (37, 23);
/// The engine in f32 against the one the figure was measured with; rounding moves single samples by one code.
const KNOWN_PSNR_TOLERANCE_DB: f64 = 0.05;
/// Over the six scenes: FFmpeg's minterpolate, and DIS optical flow with a blend.
const MINTERPOLATE_PSNR_DB: f64 = 33.20;
const DIS_PSNR_DB: f64 = 33.48;

/// Each scene's PSNR of the starter weights with several passes.
const TWICE: [(&str, f64); 6] = [
    ("Beanbags", 29.06),
    ("Dimetrodon", 41.81),
    ("Grove2", 34.60),
    ("MiniCooper", 30.25),
    ("Urban3", 36.73),
    ("Venus", 35.38),
];
const FOUR_TIMES: [(&str, f64); 6] = [
    ("Beanbags", 29.61),
    ("Dimetrodon", 41.89),
    ("Grove2", 34.69),
    ("MiniCooper", 30.28),
    ("Urban3", 36.90),
    ("Venus", 35.08),
];

fn slomod(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn picture((width, height): (u32, u32), seed: u32) -> RgbImage {
    ImageBuffer::from_fn(width, height, |x, y| {
        let code = |k: u32| (x * (3 + seed) + y * 5 + k * 50 + x * y % 11) as u8;
        Rgb([code(0), code(1), code(2)])
    })
}

/// `a.png` and `b.png`.
fn pair(folder: &Path) -> (RgbImage, RgbImage) {
    let (a, b) = (picture(SIZE, 1), picture(SIZE, 4));
    a.save(folder.join("a.png")).unwrap();
    b.save(folder.join("b.png")).unwrap();
    (a, b)
}

fn mean(a: &RgbImage, b: &RgbImage) -> RgbImage {
    let samples = a.as_raw().iter().zip(b.as_raw());
    let samples = samples.map(|(a, b)| (f32::from(*a) * 0.5 + f32::from(*b) * 0.5).round() as u8);
    RgbImage::from_raw(a.width(), a.height(), samples.collect()).unwrap()
}

fn read(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

#[test]
fn the_ends_are_the_pictures_themselves_and_the_middle_lies_between() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = pair(folder.path());
    for (timestep, expected) in [("0", &a), ("1", &b), ("0.5", &mean(&a, &b))] {
        let name = format!("at{timestep}.png");
        let output = slomod(
            folder.path(),
            &["interpolate", "a.png", "b.png", "-t", timestep, "-o", &name, "--model", "blend"],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(&read(&folder.path().join(name)), expected, "{timestep}");
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 5, "temporary files stay behind");
}

#[test]
fn an_output_that_is_there_is_replaced_only_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (a, _) = pair(folder.path());
    let there = folder.path().join("c.png");
    std::fs::write(&there, "mine").unwrap();
    let arguments = ["interpolate", "a.png", "b.png", "-t", "0", "-o", "c.png"];
    let refused = slomod(folder.path(), &arguments);
    assert_eq!(refused.status.code(), Some(73));
    assert!(stderr(&refused).contains("--overwrite"), "{}", stderr(&refused));
    assert_eq!(std::fs::read(&there).unwrap(), b"mine");
    let forced = slomod(folder.path(), &[&arguments[..], &["--overwrite"]].concat());
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert_eq!(read(&there), a);
}

#[test]
fn pictures_that_cannot_be_used_end_with_a_reason_and_no_output() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    picture((9, 9), 1).save(folder.path().join("small.png")).unwrap();
    std::fs::write(folder.path().join("text.png"), "no picture").unwrap();
    for (arguments, code, words) in [
        (["a.png", "small.png", "-t", "0.5", "-o", "c.png"], 65, "9x9"),
        (["a.png", "text.png", "-t", "0.5", "-o", "c.png"], 65, "text.png"),
        (["a.png", "missing.png", "-t", "0.5", "-o", "c.png"], 74, "missing.png"),
        (["a.png", "b.png", "-t", "1.5", "-o", "c.png"], 64, "1.5"),
        (["a.png", "b.png", "-t0.5", "-oc.png", "--passes", "3"], 64, "1, 2 or 4"),
        (["a.png", "b.png", "-t", "nan", "-o", "c.png"], 64, "nan"),
        (["a.png", "b.png", "-t", "0.5", "-o", "c.gif"], 64, "c.gif"),
        (["a.png", "b.png", "-t", "0", "-o", "no/such/c.png"], 73, "c.png"),
    ] {
        let output = slomod(folder.path(), &[&["interpolate"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
    assert!(!folder.path().join("c.png").exists());
}

#[test]
fn sixteen_bits_are_read_as_eight_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (_, b) = pair(folder.path());
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_fn(SIZE.0, SIZE.1, |x, y| Rgb([(x * 257) as u16, (y * 257) as u16, 0]));
    deep.save(folder.path().join("deep.png")).unwrap();
    let output =
        slomod(folder.path(), &["interpolate", "deep.png", "b.png", "-t", "1", "-o", "c.png"]);
    assert!(output.status.success() && stderr(&output).contains("16 bits"), "{}", stderr(&output));
    assert_eq!(read(&folder.path().join("c.png")), b);
}

/// Triplets in `x` (truth is the mean, so the blend is exact) and `y` (truth is the earlier frame).
fn triplets(folder: &Path) {
    let (a, b) = (picture(SIZE, 1), picture(SIZE, 4));
    for (name, truth) in [("x", mean(&a, &b)), ("y", a.clone())] {
        let scene = folder.join(name);
        std::fs::create_dir(&scene).unwrap();
        a.save(scene.join("frame10.png")).unwrap();
        b.save(scene.join("frame11.png")).unwrap();
        truth.save(scene.join("gt.png")).unwrap();
    }
    std::fs::create_dir(folder.join("notes")).unwrap();
}

#[test]
fn evaluation_measures_every_triplet_and_the_mean() {
    let folder = tempfile::tempdir().unwrap();
    triplets(folder.path());
    let output = slomod(folder.path(), &["evaluate", ".", "--json", "--model", "blend"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = json["triplets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["x", "y"]);
    let [x, y] = [&json["triplets"][0], &json["triplets"][1]];
    assert_eq!(
        (&x["network"]["identical"], &x["network"]["psnr_rgb_db"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(
        (&y["repeat"]["identical"], &y["blend"]["identical"]),
        (&true.into(), &false.into())
    );
    assert_eq!(json["mean"]["network"]["psnr_rgb_db"], y["network"]["psnr_rgb_db"]);
    let one = slomod(folder.path(), &["evaluate", "x", "--model", "blend"]);
    let table = String::from_utf8(one.stdout).unwrap();
    assert!(table.contains("exact / 1.0000"), "{table}");
}

/// Standard error says it; the table and the JSON on standard output are the same on any device.
#[test]
fn whoever_measures_hears_why_the_network_is_not_on_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    triplets(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
    let no_gpu = command.current_dir(folder.path()).env("CUDA_VISIBLE_DEVICES", "-1");
    let output = no_gpu.args(["evaluate", "x"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("; the network runs on the CPU"), "{}", stderr(&output));
    let cpu = slomod(folder.path(), &["evaluate", "x", "--device", "cpu"]);
    assert_eq!(stderr(&cpu), "");
}

#[test]
fn triplets_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    triplets(folder.path());
    let refused = |words: [&str; 2]| {
        let output = slomod(folder.path(), &["evaluate", ".", "--model", "blend"]);
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{}", stderr(&output));
    };
    picture((5, 5), 1).save(folder.path().join("y/frame11.png")).unwrap();
    refused(["y: frame11.png", "5x5"]);
    std::fs::remove_file(folder.path().join("y/gt.png")).unwrap();
    refused(["y: gt.png", "missing"]);
    std::fs::remove_dir_all(folder.path().join("x")).unwrap();
    std::fs::remove_dir_all(folder.path().join("y")).unwrap();
    refused(["frame10.png", "gt.png"]);
    let nowhere = slomod(folder.path(), &["evaluate", "nowhere"]);
    assert_eq!(nowhere.status.code(), Some(74), "{}", stderr(&nowhere));
}

/// Q11.
/// The figures are those of models/README.md.
#[test]
fn the_starter_weights_reach_their_known_figures_and_beat_simple_methods() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/triplets/middlebury");
    if !folder.exists() {
        skip(&format!("no triplets at {}", folder.display()));
        return;
    }
    let folder = folder.to_str().unwrap();
    let known = [
        ("Beanbags", 29.00, 29.00, 28.93),
        ("Dimetrodon", 39.89, 41.72, 41.77),
        ("Grove2", 32.19, 33.89, 34.53),
        ("MiniCooper", 30.26, 30.09, 30.12),
        ("Urban3", 34.57, 35.26, 36.64),
        ("Venus", 33.85, 34.78, 35.34),
    ];
    let evaluate = |way: &[&str], known: [(&str, f64); 6]| {
        let usual = ["evaluate", folder, "--json", "--device", "cpu"];
        let output = slomod(Path::new("."), &[&usual, way].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let scenes = json["triplets"].as_array().unwrap();
        assert_eq!(scenes.len(), known.len());
        for (scene, (name, db)) in scenes.iter().zip(known) {
            assert_eq!(scene["name"], name);
            let psnr = scene["network"]["psnr_rgb_db"].as_f64().unwrap();
            assert!((psnr - db).abs() < KNOWN_PSNR_TOLERANCE_DB, "{name}: {psnr}");
        }
        json["mean"]["network"]["psnr_rgb_db"].as_f64().unwrap()
    };
    let as_rife = ["--sampling", "bilinear", "--refine", "false"];
    let mean = evaluate(&as_rife, known.map(|(name, db, ..)| (name, db)));
    assert!(mean > MINTERPOLATE_PSNR_DB, "{mean}");
    let plain = evaluate(&["--refine", "false"], known.map(|(name, _, db, _)| (name, db)));
    assert!(plain > DIS_PSNR_DB, "{plain}");
    let mean = evaluate(&[], known.map(|(name, .., db)| (name, db)));
    assert!(mean > plain, "{mean}");
    let twice = evaluate(&["--passes", "2"], TWICE);
    assert!(twice > mean, "{twice}");
    let four_times = evaluate(&["--passes", "4"], FOUR_TIMES);
    assert!(four_times > twice, "{four_times}");
}

#[test]
fn with_two_passes_it_matters_not_which_frame_is_first_and_with_four_not_which_side_is_up() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    for name in ["a", "b"] {
        let upright = read(&folder.path().join(format!("{name}.png")));
        let turned = image::imageops::rotate180(&upright);
        turned.save(folder.path().join(format!("{name}-turned.png"))).unwrap();
    }
    let between = |first: &str, second: &str, timestep: &str, passes: &str| {
        let usual = ["interpolate", first, second, "-t", timestep, "-o", "c.png", "--overwrite"];
        let device = ["--device", "cpu", "--passes", passes];
        let output = slomod(folder.path(), &[&usual[..], &device].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        read(&folder.path().join("c.png"))
    };
    for (passes, backwards_too, turned_too) in
        [("1", false, false), ("2", true, false), ("4", true, true)]
    {
        let made = between("a.png", "b.png", "0.25", passes);
        let backwards = between("b.png", "a.png", "0.75", passes);
        assert_eq!(made == backwards, backwards_too, "{passes} passes");
        let turned = between("a-turned.png", "b-turned.png", "0.25", passes);
        let turned_back = image::imageops::rotate180(&turned);
        assert_eq!(made == turned_back, turned_too, "{passes} passes");
    }
}
