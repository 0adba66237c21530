//! The driver of real devices over a stand-in for NVIDIA's library, which puts everything off as long as it may.

mod drivers;
mod rehearsal;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;

use num_rational::Ratio;
use slomod::backend::cuda::images;
use slomod::backend::cuda::scores::COMPARED;
use slomod::config::settings::{Device, Settings};
use slomod::engine::trial::LEAST_DB;
use slomod::engine::{EngineError, Interpolator, open};
use slomod::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
use slomod::ops::color::rgb_to_picture;
use slomod::quality::{Samples, compare};

use crate::common::picture;
use crate::shim::library::{Library, build_folder};
use crate::skip::skip;

/// Codes by which a picture may differ from the CPU's: see `network`.
const CODES: u8 = 2;

/// Launches that turn a new frame into its record: color and the head.
const LAUNCHES_OF_A_FRAME: usize = 10;

/// Launches that compare a frame with [`COMPARED`] others: samples of each, four sums of each in two launches.
const LAUNCHES_OF_SCORES: usize = 1 + COMPARED * (1 + 4 * 2);

/// The number that the stand-in gives its device.
const UUID: &str = "GPU-f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff";

/// A launch amid a clip, after those of the trial.
const LOST_AT: &str = "540";

/// SSIM is a mean of f32 values whose variances lose digits.
const SSIM_TOLERANCE: f64 = 1e-5;

/// Runs a test of this file that is ignored otherwise, in a process that finds the stand-in.
fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    // The search path has its own meaning of a colon.
    let folder = Library::fake_cuda(&build_folder().join(test.replace("::", "-")));
    let kernels = Library::of_all_kernels();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", &format!("nvidia::{test}")])
        .env("LD_LIBRARY_PATH", folder)
        .env("FAKE_CUDA_KERNELS", kernels.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!("{}{}", said(&output.stdout), said(&output.stderr));
    assert!(said(&output.stdout).contains("1 passed") || !output.status.success(), "no such test");
    output
}

fn kernels_are_built() -> bool {
    if let Err(reason) = images::built() {
        let required = std::env::var_os("SLOMOD_REQUIRE_KERNELS").is_some();
        assert!(!required, "this build has no GPU kernels: {reason}");
        skip(&format!("this build has no GPU kernels: {reason}"));
        return false;
    }
    true
}

fn frames(count: u64, width_px: usize, height_px: usize) -> Vec<Frame> {
    let (chroma, matrix, range) = (Chroma::C420, Matrix::Bt709, Range::Limited);
    let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight };
    let one = |index| {
        let rgb = picture(width_px, height_px, 2.0 * index as f32, index);
        let (pts, picture) = (Ratio::from_integer(i128::from(index)), rgb_to_picture(&rgb, format));
        Frame { index, pts, duration: None, picture: Arc::new(picture), alpha: None }
    };
    (0..count).map(one).collect()
}

fn settings(device: Device) -> Settings {
    Settings { device, ..Settings::default() }
}

/// Pictures of all pairs, as many asked ahead as the engine wants.
fn pictures(engine: &mut dyn Interpolator, frames: &[Frame]) -> Result<Vec<Picture>, EngineError> {
    let mut made = vec![];
    for (pair, factor) in frames.windows(2).zip([2_u8, 2, 3, 4].into_iter().cycle()) {
        let times: Vec<f32> = (1..factor).map(|i| f32::from(i) / f32::from(factor)).collect();
        let Some(ahead) = engine.ahead() else {
            made.extend(engine.interpolate(&pair[0], &pair[1], &times)?);
            continue;
        };
        ahead.submit(&pair[0], &pair[1], &times)?;
        while ahead.waiting() > ahead.depth() {
            made.push(ahead.collect()?);
        }
    }
    while let Some(ahead) = engine.ahead().filter(|ahead| ahead.waiting() > 0) {
        made.push(ahead.collect()?);
    }
    Ok(made)
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn clip() {
    let frames = frames(14, 40, 30);
    let mut engine = open::open(&settings(Device::Cuda(0))).unwrap();
    assert_eq!(engine.description().device_name, "Stand-in");
    let gpu = engine.description().gpu.unwrap();
    assert_eq!(gpu.uuid.as_deref(), Some(UUID));
    assert_eq!(gpu.cuda.as_deref(), Some("12.2"));
    let weights = engine.memory_gauge().unwrap()().unwrap().used_bytes;
    assert!(gpu.memory_peak_bytes > weights, "the trial's memory is free again");
    let tried = engine.description().psnr_from_cpu_db.unwrap();
    assert!(tried > LEAST_DB + 10.0, "{tried}");
    let mut cpu = open::open(&settings(Device::Cpu)).unwrap();
    let found = pictures(engine.as_mut(), &frames).unwrap();
    let expected = pictures(cpu.as_mut(), &frames).unwrap();
    assert_close(&found, &expected);
    let peak = engine.description().gpu.unwrap().memory_peak_bytes;
    let with_pictures = engine.memory_gauge().unwrap()().unwrap().used_bytes;
    assert!(peak >= with_pictures && with_pictures > weights, "{peak}, {with_pictures}, {weights}");
}

fn assert_close(found: &[Picture], expected: &[Picture]) {
    assert_eq!(found.len(), expected.len());
    for (number, (a, b)) in found.iter().zip(expected).enumerate() {
        let codes = a.planes.iter().flatten().zip(b.planes.iter().flatten());
        let worst = codes.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= CODES, "picture {number}: {worst} codes apart");
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn passes() {
    let frames = frames(5, 37, 29);
    let made = [Device::Cuda(0), Device::Cpu].map(|device| {
        let mut engine = open::open(&Settings { passes: 4, ..settings(device) }).unwrap();
        pictures(engine.as_mut(), &frames).unwrap()
    });
    assert_close(&made[0], &made[1]);
}

#[test]
fn passes_through_the_driver_equal_those_of_the_cpu() {
    if kernels_are_built() {
        assert!(child("passes", &[]).status.success());
    }
}

#[test]
fn a_clip_through_the_driver_equals_the_cpu_however_late_the_device_works() {
    if kernels_are_built() {
        assert!(child("clip", &[]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn scored() {
    let frames = frames(14, 37, 29);
    let mut engine = open::open(&settings(Device::Cuda(0))).unwrap();
    let mut made = vec![];
    // Each frame against three others, begun while pictures wait and fetched after further ones were asked for.
    for (index, trio) in frames.windows(3).enumerate() {
        let ahead = engine.ahead().unwrap();
        ahead.submit(&trio[0], &trio[1], &[0.25, 0.5, 0.75]).unwrap();
        let picture = |frame: &Frame| Picture::clone(&frame.picture);
        let (truth, mut others) = (picture(&trio[1]), [&trio[0], &trio[2], &trio[1]].map(picture));
        assert!(engine.scorer().unwrap().start(&truth, &others.each_ref()).unwrap());
        let samples = others.each_ref().map(Samples::of_picture);
        // What was handed over may change at once.
        others.iter_mut().for_each(|it| it.planes[0].fill(index as u8));
        let ahead = engine.ahead().unwrap();
        ahead.submit(&trio[1], &trio[2], &[0.5]).unwrap();
        while ahead.waiting() > ahead.depth() {
            made.push(ahead.collect().unwrap());
        }
        let found = engine.scorer().unwrap().finish().unwrap().unwrap();
        for (found, other) in found.iter().zip(&samples) {
            let expected = compare(&Samples::of_picture(&truth), other);
            assert_eq!(found.rgb_squared_error, expected.rgb.sum);
            assert_eq!(found.luma_squared_error, expected.luma.sum);
            assert!((found.ssim_luma - expected.ssim_y).abs() <= SSIM_TOLERANCE);
            assert!((found.ssim_rgb - expected.ssim_rife).abs() <= SSIM_TOLERANCE);
        }
        assert_eq!(engine.scorer().unwrap().finish().unwrap(), None);
    }
    while let Some(ahead) = engine.ahead().filter(|ahead| ahead.waiting() > 0) {
        made.push(ahead.collect().unwrap());
    }
    let mut cpu = open::open(&settings(Device::Cpu)).unwrap();
    let mut expected = vec![];
    for trio in frames.windows(3) {
        expected.extend(cpu.interpolate(&trio[0], &trio[1], &[0.25, 0.5, 0.75]).unwrap());
        expected.extend(cpu.interpolate(&trio[1], &trio[2], &[0.5]).unwrap());
    }
    assert_close(&made, &expected);
}

#[test]
fn scores_among_pictures_are_right_and_disturb_none_however_late_the_device_works() {
    if kernels_are_built() {
        assert!(child("scored", &[]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn lost() {
    let frames = frames(6, 40, 30);
    let mut engine = open::open(&settings(Device::Cuda(0))).unwrap();
    let error = pictures(engine.as_mut(), &frames).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, EngineError::Device(_)) && text.contains("lost"), "{text}");
}

#[test]
fn a_device_that_is_lost_is_an_error_with_its_own_message() {
    if kernels_are_built() {
        assert!(child("lost", &[("FAKE_CUDA_LOST_AT", LOST_AT)]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn lost_on_auto() {
    goes_on_without(1);
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn lost_amid_passes() {
    goes_on_without(4);
}

/// The device is lost amid the clip.
fn goes_on_without(passes: u32) {
    let frames = frames(8, 40, 30);
    let mut engine = open::open(&Settings { passes, ..settings(Device::Auto) }).unwrap();
    assert_eq!(engine.description().device_kind, "cuda");
    let found = pictures(engine.as_mut(), &frames).unwrap();
    let mut cpu = open::open(&Settings { passes, ..settings(Device::Cpu) }).unwrap();
    assert_close(&found, &pictures(cpu.as_mut(), &frames).unwrap());
    let description = engine.description();
    assert_eq!(description.device_kind, "cpu");
    assert!(description.fallback_reason.unwrap().contains("lost"));
    assert_eq!(description.steps.len(), 1, "{:?}", description.steps);
}

#[test]
fn a_device_that_is_lost_in_mid_clip_hands_every_picture_to_the_cpu_on_auto() {
    if kernels_are_built() {
        for way in ["lost_on_auto", "lost_amid_passes"] {
            assert!(child(way, &[("FAKE_CUDA_LOST_AT", LOST_AT)]).status.success(), "{way}");
        }
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn crowded() {
    let frames = frames(2, 640, 480);
    let error = match open::open(&settings(Device::Cuda(0))) {
        Ok(mut engine) => pictures(engine.as_mut(), &frames).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("bytes of device memory are wanted"), "{error}");
}

#[test]
fn a_device_without_memory_is_an_error_that_says_how_much_is_wanted() {
    if kernels_are_built() {
        assert!(child("crowded", &[("FAKE_CUDA_MEMORY", "8000000")]).status.success());
    }
}

/// How often the stand-in was called so far for each thing.
fn calls() -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    let file = std::env::var_os("FAKE_CUDA_CALLS").unwrap();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        *calls.entry(line.to_owned()).or_default() += 1;
    }
    calls
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn steady() {
    let frames = frames(22, 40, 30);
    let mut engine = open::open(&settings(Device::Cuda(0))).unwrap();
    let [warm, rest] = [&frames[..13], &frames[12..]];
    let mut pass = |frames: &[Frame]| {
        let mut made = 0;
        for (pair, factor) in frames.windows(2).zip([2_u8, 3, 4].into_iter().cycle()) {
            let times: Vec<f32> = (1..factor).map(|i| f32::from(i) / f32::from(factor)).collect();
            let ahead = engine.ahead().unwrap();
            ahead.submit(&pair[0], &pair[1], &times).unwrap();
            while ahead.waiting() > ahead.depth() {
                ahead.collect().unwrap();
                made += 1;
            }
            let (scorer, picture) = (engine.scorer().unwrap(), &*pair[0].picture);
            scorer.finish().unwrap();
            assert!(scorer.start(&pair[1].picture, &[picture; COMPARED]).unwrap());
        }
        made
    };
    pass(warm);
    let before = calls();
    let made = pass(rest);
    let after = calls();
    let more = |what: &str| after.get(what).unwrap_or(&0) - before.get(what).unwrap_or(&0);
    println!("{made} pictures: {before:?}, then {after:?}");
    let pairs = rest.len() - 1;
    assert_eq!(made, pairs / 3 * (1 + 2 + 3));
    for what in ["allocate", "free", "make", "wait for a stream"] {
        assert_eq!(more(what), 0, "{what}");
    }
    // A picture is waited for where it is handed over, as sums are, and a frame's lane where the frame is.
    let waits = made + rest.len() + pairs * (1 + 1 + COMPARED);
    assert!(more("wait for an event") < waits, "{after:?}");
    // Pictures are made in batches, each as one graph; what is launched besides is a new frame's and scores.
    assert!((1..=made).contains(&more("start a graph")), "{after:?}");
    let launches = LAUNCHES_OF_A_FRAME * rest.len() + LAUNCHES_OF_SCORES * pairs;
    assert!(more("launch") <= launches, "{after:?}");
}

#[test]
fn once_warm_nothing_is_allocated_and_only_what_is_handed_over_is_waited_for() {
    if kernels_are_built() {
        let folder = tempfile::tempdir().unwrap();
        let calls = folder.path().join("calls");
        assert!(child("steady", &[("FAKE_CUDA_CALLS", calls.to_str().unwrap())]).status.success());
    }
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn graphless() {
    let frames = frames(10, 40, 30);
    let mut engine = open::open(&settings(Device::Cuda(0))).unwrap();
    let found = pictures(engine.as_mut(), &frames).unwrap();
    let mut cpu = open::open(&settings(Device::Cpu)).unwrap();
    assert_close(&found, &pictures(cpu.as_mut(), &frames).unwrap());
    let steps = engine.description().steps;
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0].contains("one by one"), "{steps:?}");
}

#[test]
fn a_device_that_makes_no_graphs_is_slower_and_the_report_says_so() {
    if kernels_are_built() {
        assert!(child("graphless", &[("FAKE_CUDA_GRAPHS", "0")]).status.success());
        assert!(child("graphless", &[("FAKE_CUDA_CAPTURE", "0")]).status.success());
    }
}
