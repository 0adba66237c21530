//! The pipeline around the network: decode, network, pictures thrown away; and pictures of the GPU beside the CPU's.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use num_rational::Ratio;
use serde_json::{Value, json};
use slomod::config::settings::{Device, Settings};
use slomod::engine::{self, Interpolator};
use slomod::frame::{Frame, Picture};
use slomod::media::decode::Decoder;
use slomod::media::synth;

use crate::device;
use crate::networks;

/// Frames of the clip that is drawn where none is given.
const DRAWN_FRAMES: usize = 120;
const DRAWN_SIZE: (usize, usize) = (1920, 1080);
/// Pairs that are compared, and pictures in each by turns.
const COMPARED: usize = 12;
const BETWEEN: [&[f32]; 3] = [&[0.5], &[1.0 / 3.0, 2.0 / 3.0], &[0.25, 0.5, 0.75]];
/// Largest mean difference of samples, and least PSNR of a picture, between GPU and CPU: f16 storage against f32.
const MEAN_DIFFERENCE_MAX: f64 = 1.0;
const PSNR_MIN_DB: f64 = 50.0;

/// Frames waiting between decoder and network.
const QUEUE: usize = 8;

/// Runs a clip through the built-in weights.
pub fn pipeline(clip: Option<PathBuf>) -> Value {
    let folder = std::env::temp_dir().join(format!("slomod-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = clip.filter(|path| path.exists()).unwrap_or_else(|| draw(&folder));
    let start = Instant::now();
    run(&path, &mut *open("cuda"), 2);
    let first_s = start.elapsed().as_secs_f64();
    println!("from nothing to the first picture: {first_s:.2} s");
    let (difference, psnr) = compare(&path);
    println!(
        "GPU beside CPU: mean difference {difference:.3} of 255 (at most {MEAN_DIFFERENCE_MAX}), PSNR of the worst \
         picture {psnr:.2} dB (at least {PSNR_MIN_DB})"
    );
    let mut engine = open("cuda");
    run(&path, &mut *engine, 30);
    let (pictures, seconds) = run(&path, &mut *engine, usize::MAX);
    let rate = pictures as f64 / seconds;
    println!(
        "decode, copies, network, pictures thrown away: {pictures} pictures, {rate:.1} a second"
    );
    std::fs::remove_dir_all(&folder).ok();
    assert!(difference <= MEAN_DIFFERENCE_MAX && psnr >= PSNR_MIN_DB, "the GPU's pictures differ");
    json!([{ "clip": path.file_name().map(|name| name.to_string_lossy()), "pictures": pictures,
        "first_picture_s": first_s, "pipeline_fps": rate, "mean_difference": difference, "psnr_db": psnr }])
}

fn open(device: &str) -> Box<dyn Interpolator> {
    let device = if device == "cpu" { Device::Cpu } else { Device::Cuda(0) };
    engine::open(&Settings { device, ..Settings::default() }).unwrap()
}

/// Pictures made (one between each two frames), and seconds.
fn run(path: &Path, engine: &mut dyn Interpolator, frames_max: usize) -> (usize, f64) {
    let start = Instant::now();
    let (to, from) = sync_channel::<Frame>(QUEUE);
    let path = path.to_owned();
    let decoder = std::thread::spawn(move || {
        let mut decoder = Decoder::open(&path).unwrap();
        for _ in 0..frames_max {
            let Some(frame) = decoder.next_frame().unwrap() else { break };
            if to.send(frame).is_err() {
                break;
            }
        }
    });
    let mut pictures = 0;
    let mut before = from.recv().unwrap();
    let ahead = engine.ahead().expect("a GPU works ahead");
    for next in from {
        while ahead.waiting() >= ahead.depth().max(1) {
            ahead.collect().unwrap();
        }
        ahead.submit(&before, &next, &[0.5]).unwrap();
        pictures += 1;
        before = next;
    }
    while ahead.waiting() > 0 {
        ahead.collect().unwrap();
    }
    decoder.join().unwrap();
    (pictures, start.elapsed().as_secs_f64())
}

/// Mean difference of all samples, and PSNR of the picture that differs most. The GPU is asked ahead, as the pipeline asks.
fn compare(path: &Path) -> (f64, f64) {
    let mut decoder = Decoder::open(path).unwrap();
    let pairs = if device::rehearsal() { 3 } else { COMPARED };
    let mut frames = vec![];
    while frames.len() <= pairs {
        frames.push(decoder.next_frame().unwrap().expect("a longer clip"));
    }
    let (mut cpu, mut gpu) = (open("cpu"), open("cuda"));
    let ahead = gpu.ahead().expect("a GPU works ahead");
    let mut ours = vec![];
    for (pair, timesteps) in frames.windows(2).zip(BETWEEN.iter().cycle()) {
        while ahead.waiting() >= ahead.depth().max(1) {
            ours.push(ahead.collect().unwrap());
        }
        ahead.submit(&pair[0], &pair[1], timesteps).unwrap();
    }
    while ahead.waiting() > 0 {
        ours.push(ahead.collect().unwrap());
    }
    let mut ours = ours.into_iter();
    let (mut sum, mut count, mut least) = (0.0, 0.0, f64::INFINITY);
    for (pair, timesteps) in frames.windows(2).zip(BETWEEN.iter().cycle()) {
        for theirs in cpu.interpolate(&pair[0], &pair[1], timesteps).unwrap() {
            let ours = ours.next().expect("as many pictures");
            let (mut squares, mut here) = (0.0, 0.0);
            for (ours, theirs) in samples(&ours).zip(samples(&theirs)) {
                let difference = f64::from(ours) - f64::from(theirs);
                sum += difference.abs();
                squares += difference * difference;
                here += 1.0;
            }
            let mean_square: f64 = squares / here;
            least = least.min(10.0 * (255.0 * 255.0 / mean_square.max(1e-9)).log10());
            count += here;
        }
    }
    assert!(ours.next().is_none(), "more pictures than asked for");
    (sum / count, least)
}

fn samples(picture: &Picture) -> impl Iterator<Item = u8> {
    picture.planes.iter().flatten().copied()
}

fn draw(folder: &Path) -> PathBuf {
    let ((width_px, height_px), frames) =
        if device::rehearsal() { ((128, 96), 8) } else { (DRAWN_SIZE, DRAWN_FRAMES) };
    let path = folder.join("drawn.mp4");
    let pictures = (0..frames).map(|at| networks::picture(width_px, height_px, at));
    synth::write_clip(&path, pictures, Ratio::from_integer(30), &[]).unwrap();
    path
}
