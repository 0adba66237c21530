//! How near the synthesised frames of the demo's output are to the true ones, beside repeated and blended frames.
//!
//! Everything is compared as decoded from the output: its own real frames are what is repeated and blended.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::cli::demo::clip;
use crate::cli::demo::scene::Scene;
use crate::cli::demo::timing::{Kind, kinds};
use crate::engine::blend::blend;
use crate::frame::{Picture, Seconds};
use crate::media::MediaError;
use crate::media::decode::Decoder;
use crate::quality::{Samples, rgb_error};
use crate::report::Interpolation;

/// Mean of the frames' PSNR over RGB, in dB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TruthScores {
    /// Frames compared.
    pub frames: usize,
    /// Of the network.
    pub network_db: f64,
    /// Of repeating the real frame before.
    pub repeat_db: f64,
    /// Of blending the real frames on both sides.
    pub blend_db: f64,
}

/// An output frame with its time in the source.
struct Shown {
    picture: Arc<Picture>,
    time_s: f64,
}

/// Compares every synthesised frame of `output` between two real ones; `None` where there is none.
///
/// # Errors
/// Those of decoding.
pub fn score(
    scene: &Scene,
    output: &Path,
    interpolation: &Interpolation,
) -> Result<Option<TruthScores>, MediaError> {
    let mut decoder = Decoder::open(output)?;
    let mut origin = None;
    let mut before: Option<Shown> = None;
    let mut between: Vec<Shown> = Vec::new();
    let mut scores: Vec<[f64; 3]> = Vec::new();
    for kind in kinds(&interpolation.frame_map) {
        let Some(frame) = decoder.next_frame()? else { break };
        let origin = *origin.get_or_insert(frame.pts);
        let time_s = seconds(frame.pts - origin) * interpolation.speed;
        let shown = Shown { picture: frame.picture, time_s };
        match kind {
            Kind::Synthesised => between.push(shown),
            Kind::Real => {
                if let Some(before) = &before {
                    let all = between.par_iter();
                    scores.par_extend(all.map(|it| score_one(scene, before, it, &shown)));
                }
                between.clear();
                before = Some(shown);
            }
            Kind::Held => (before, between) = (None, Vec::new()),
        }
    }
    let mean = |way: usize| scores.iter().map(|it| it[way]).sum::<f64>() / scores.len() as f64;
    Ok((!scores.is_empty()).then(|| TruthScores {
        frames: scores.len(),
        network_db: mean(0),
        repeat_db: mean(1),
        blend_db: mean(2),
    }))
}

/// PSNR of network, repeat and blend.
fn score_one(scene: &Scene, before: &Shown, shown: &Shown, after: &Shown) -> [f64; 3] {
    let truth = clip::picture(scene, shown.time_s, shown.picture.format);
    let truth = Samples::of_picture(&truth);
    let timestep = (shown.time_s - before.time_s) / (after.time_s - before.time_s);
    let blended = blend(&before.picture, &after.picture, timestep as f32);
    [&*shown.picture, &*before.picture, &blended].map(|picture| {
        // An exact frame cannot come out of an encoder; if it did, 100 dB is above all others.
        rgb_error(&truth, &Samples::of_picture(picture)).psnr_db().unwrap_or(100.0)
    })
}

fn seconds(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}
