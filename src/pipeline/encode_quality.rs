//! What the encoder does to pictures, apart from what the network does: real frames of the finished output against the
//! source's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::frame::{Chroma, Frame, Picture, PictureFormat};
use crate::pipeline::timeline::{Instant, Shown};
use crate::quality::holdout::{Pooled, pool};
use crate::quality::{FrameScores, Samples, compare};

/// Memory for pictures that wait for the output, and how many there are at the most.
const MOST_BYTES: usize = 48 << 20;
const MOST_PICTURES: usize = 24;

/// Real frames that wait to be compared, spread over the clip.
#[derive(Default)]
pub struct EncodeQuality {
    most: usize,
    /// Every n-th real frame is kept; doubled, and every other one dropped, when there are too many.
    stride: u64,
    real: u64,
    /// By number of the output frame: how many-eth real one it is, and its picture.
    kept: BTreeMap<u64, (u64, Arc<Picture>)>,
    scores: Vec<FrameScores>,
}

impl EncodeQuality {
    /// Keeps pictures of `format`, at the most `samples`.
    pub fn new(format: PictureFormat, samples: u32) -> Self {
        let plane = |index| {
            let (row_bytes, rows) = format.plane_bytes(index);
            row_bytes * rows
        };
        let picture_bytes: usize = (0..format.chroma.planes()).map(plane).sum();
        let most = (MOST_BYTES / picture_bytes.max(1)).clamp(1, MOST_PICTURES);
        let most = most.min(samples as usize);
        Self { most, stride: 1, real: 0, kept: BTreeMap::new(), scores: Vec::new() }
    }

    /// Output frames from number `number` on show these places between `first` and `second`.
    pub fn lay_out(
        &mut self,
        number: u64,
        places: &[Instant],
        first: &Frame,
        second: Option<&Frame>,
    ) {
        for (number, place) in (number..).zip(places) {
            let Shown::Real(index) = place.shown else { continue };
            let shown = second.filter(|it| it.index == index).unwrap_or(first);
            if self.most > 0 && self.real.is_multiple_of(self.stride) {
                self.kept.insert(number, (self.real, Arc::clone(&shown.picture)));
            }
            self.real += 1;
            if self.kept.len() > self.most {
                self.stride *= 2;
                let stride = self.stride;
                self.kept.retain(|_, it| it.0.is_multiple_of(stride));
            }
        }
    }

    /// The output frames that are to be compared.
    pub fn wanted(&self) -> BTreeSet<u64> {
        self.kept.keys().copied().collect()
    }

    /// Compares an output frame; one of another size is not.
    pub fn compare(&mut self, number: u64, picture: &Picture) {
        let Some((_, real)) = self.kept.remove(&number) else { return };
        let size = |it: &Picture| (it.format.width_px, it.format.height_px);
        if size(&real) == size(picture) {
            let mut samples = [&*real, picture].map(Samples::of_picture);
            if !is_of_one_luma(real.format, picture.format) {
                samples = samples.map(Samples::with_luma_of_rgb);
            }
            self.scores.push(compare(&samples[0], &samples[1]));
        }
    }

    /// How many were compared, and the scores; `None` where none was.
    pub fn finish(self) -> Option<(u64, Pooled)> {
        let count = self.scores.len() as u64;
        (count > 0).then(|| (count, pool(self.scores.into_iter())))
    }
}

/// Whether the stored luma of both kinds of pictures means the same: not where RGB became YCbCr, whose luma is that of the
/// output's matrix and range.
fn is_of_one_luma(real: PictureFormat, output: PictureFormat) -> bool {
    let meaning = |it: PictureFormat| (it.chroma == Chroma::Gbr, it.matrix, it.range);
    meaning(real) == meaning(output)
}
