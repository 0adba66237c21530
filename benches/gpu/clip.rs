//! The pipeline around the network: decode, network, pictures thrown away; and pictures of the GPU beside the CPU's.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use num_rational::Ratio;
use serde_json::json;
use slomod::config::settings::{Device, Settings};
use slomod::engine::{self, Interpolator};
use slomod::frame::{Depth, Frame, Picture};
use slomod::media::decode::Decoder;
use slomod::media::synth;

use super::device;
use super::networks;
use super::rows::Rows;

/// Frames of the clip that is drawn where none is given.
const DRAWN_FRAMES: usize = 120;
const DRAWN_SIZE: (usize, usize) = (1920, 1080);
/// The same where nothing is measured.
const REHEARSED_FRAMES: usize = 8;
const REHEARSED_SIZE: (usize, usize) = (128, 96);
/// Pairs that are compared, and pictures in each by turns.
const COMPARED: usize = 12;
const BETWEEN: [&[f32]; 3] = [&[0.5], &[1.0 / 3.0, 2.0 / 3.0], &[0.25, 0.5, 0.75]];
/// Largest mean difference of samples between GPU and CPU, in codes of 8 bits: f16 storage against f32.
const MEAN_DIFFERENCE_MAX: f64 = 1.0;
/// Least PSNR of a picture of both.
pub const PSNR_MIN_DB: f64 = 50.0;

/// Frames waiting between decoder and network.
const QUEUE: usize = 8;

/// Runs a clip, or the drawn one, through the built-in weights.
pub fn pipeline(clip: Option<&Path>, rows: &mut Rows) {
    let folder = std::env::temp_dir().join(format!("slomod-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let drawn = folder.join("drawn.mp4");
    let path = clip.filter(|path| path.exists()).unwrap_or_else(|| {
        draw(&drawn);
        &drawn
    });
    let start = Instant::now();
    run(path, &mut *open("cuda"), 2);
    let first_s = start.elapsed().as_secs_f64();
    println!("from nothing to the first picture: {first_s:.2} s");
    let Apart { mean, psnr_db } = compare(path);
    println!(
        "GPU beside CPU: mean difference {mean:.3} of 255 (at most {MEAN_DIFFERENCE_MAX}), PSNR of the worst \
         picture {psnr_db:.2} dB (at least {PSNR_MIN_DB})"
    );
    let mut engine = open("cuda");
    run(path, &mut *engine, 30);
    let (pictures, seconds) = run(path, &mut *engine, usize::MAX);
    let rate = pictures as f64 / seconds;
    println!(
        "decode, copies, network, pictures thrown away: {pictures} pictures, {rate:.1} a second"
    );
    rows.push(
        json!({ "clip": path.file_name().map(|name| name.to_string_lossy()), "pictures": pictures,
        "first_picture_s": first_s, "pipeline_fps": rate, "mean_difference": mean, "psnr_worst_db": psnr_db }),
    );
    std::fs::remove_dir_all(&folder).ok();
    assert!(mean <= MEAN_DIFFERENCE_MAX && psnr_db >= PSNR_MIN_DB, "the GPU's pictures differ");
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

/// How far pictures are apart, in codes of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Apart {
    /// Mean difference of all samples.
    pub mean: f64,
    /// PSNR of the picture that differs most; 138 dB where all are equal.
    pub psnr_db: f64,
}

/// Sums over pairs of pictures.
pub struct Differences {
    sum: f64,
    samples: f64,
    psnr_db: f64,
}

impl Default for Differences {
    fn default() -> Self {
        Self { sum: 0.0, samples: 0.0, psnr_db: f64::INFINITY }
    }
}

impl Differences {
    /// Adds two pictures of one format.
    pub fn add(&mut self, a: &Picture, b: &Picture) {
        assert_eq!(a.format, b.format, "pictures of one format");
        let steps = f64::from(a.format.depth.steps());
        let (mut squares, mut here) = (0.0, 0.0);
        for (a, b) in samples(a).zip(samples(b)) {
            let difference = (f64::from(a) - f64::from(b)) / steps;
            self.sum += difference.abs();
            squares += difference * difference;
            here += 1.0;
        }
        let mean_square: f64 = squares / here;
        let psnr_db = 10.0 * (255.0 * 255.0 / mean_square.max(1e-9)).log10();
        self.psnr_db = self.psnr_db.min(psnr_db);
        self.samples += here;
    }

    /// Of all of them.
    pub fn apart(&self) -> Apart {
        assert!(self.samples > 0.0, "nothing was compared");
        Apart { mean: self.sum / self.samples, psnr_db: self.psnr_db }
    }
}

/// The GPU, asked ahead as the pipeline asks, beside the CPU.
fn compare(path: &Path) -> Apart {
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
    let mut differences = Differences::default();
    for (pair, timesteps) in frames.windows(2).zip(BETWEEN.iter().cycle()) {
        for theirs in cpu.interpolate(&pair[0], &pair[1], timesteps).unwrap() {
            differences.add(&ours.next().expect("as many pictures"), &theirs);
        }
    }
    assert!(ours.next().is_none(), "more pictures than asked for");
    differences.apart()
}

/// Codes of all planes.
fn samples(picture: &Picture) -> Box<dyn Iterator<Item = u16> + '_> {
    let bytes = picture.planes.iter();
    match picture.format.depth {
        Depth::Eight => Box::new(bytes.flatten().map(|&byte| u16::from(byte))),
        _ => Box::new(
            bytes.flat_map(|plane| plane.as_chunks::<2>().0).map(|it| u16::from_le_bytes(*it)),
        ),
    }
}

/// Writes the clip that is measured where the caller gives none.
pub fn draw(path: &Path) {
    if device::rehearsal() {
        drawn(path, REHEARSED_SIZE, REHEARSED_FRAMES);
    } else {
        drawn(path, DRAWN_SIZE, DRAWN_FRAMES);
    }
}

/// A texture that moves, 30 frames a second.
pub fn drawn(path: &Path, (width_px, height_px): (usize, usize), frames: usize) {
    let pictures = (0..frames).map(|at| networks::picture(width_px, height_px, at));
    synth::write_clip(path, pictures, Ratio::from_integer(30), &[]).unwrap();
}
