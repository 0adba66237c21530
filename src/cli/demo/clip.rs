//! The demo's clip: frames of the scene, with a melody that follows the bouncing ball.

use std::f64::consts::TAU;
use std::path::Path;

use crate::cli::demo::scene::{BEAT_S, HEIGHT_PX, Scene, WIDTH_PX};
use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range, Rate};
use crate::media::MediaError;
use crate::media::synth::{self, AUDIO_RATE_HZ};
use crate::ops::color;

/// Frames of the clip.
pub const FRAMES: u32 = 90;
/// Frames a second.
pub const RATE_HZ: u32 = 30;

/// One note for each bounce, in Hz: a rising and falling pentatonic line.
const MELODY_HZ: [f64; 6] = [523.25, 659.26, 783.99, 880.0, 783.99, 587.33];
/// How fast a note fades, per second.
const FADE: f64 = 5.0;

/// Layout of the clip's pictures.
const FORMAT: PictureFormat = PictureFormat {
    width_px: WIDTH_PX,
    height_px: HEIGHT_PX,
    chroma: Chroma::C420,
    matrix: Matrix::Bt601,
    range: Range::Limited,
    depth: Depth::Eight,
};

/// When a frame is shown, in seconds; between frames too.
#[must_use]
pub fn time_s(frame: f64) -> f64 {
    frame / f64::from(RATE_HZ)
}

/// Draws the first `frames` frames of the clip, which has [`FRAMES`].
///
/// # Errors
/// Those of [`synth::write_clip`].
pub fn write(scene: &Scene, frames: u32, path: &Path) -> Result<(), MediaError> {
    let pictures = (0..frames).map(|frame| picture(scene, time_s(f64::from(frame)), FORMAT));
    synth::write_clip(path, pictures, Rate::from_integer(i128::from(RATE_HZ)), &melody(frames))
}

/// The scene at `time_s` as a decoder would hand it out.
///
/// # Panics
/// If `format` has not the scene's size.
#[must_use]
pub fn picture(scene: &Scene, time_s: f64, format: PictureFormat) -> Picture {
    let rgb: Vec<f32> = scene.draw(time_s).iter().map(|&code| f32::from(code) / 255.0).collect();
    color::rgb_to_picture(&rgb, format)
}

/// Mono, as long as that many frames.
fn melody(frames: u32) -> Vec<i16> {
    let len = frames * AUDIO_RATE_HZ / RATE_HZ;
    let sample = |i: u32| {
        let t = f64::from(i) / f64::from(AUDIO_RATE_HZ);
        let (beat, since) = ((t / BEAT_S) as usize, t % BEAT_S);
        let pitch = MELODY_HZ[beat % MELODY_HZ.len()];
        let attack = (since * 200.0).min(1.0);
        let bell = (TAU * pitch * t).sin() + 0.4 * (TAU * 2.0 * pitch * t).sin();
        let drone = (TAU * 130.81 * t).sin() + 0.5 * (TAU * 196.0 * t).sin();
        let level = 0.30 * attack * (-FADE * since).exp() * bell + 0.06 * drone;
        (level * f64::from(i16::MAX)) as i16
    };
    (0..len).map(sample).collect()
}
