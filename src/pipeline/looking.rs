//! What is seen in a source frame: how it relates to the one before, and its hash where that is asked for.

use std::sync::Arc;

use crate::config::settings::Settings;
use crate::frame::{Frame, Picture};
use crate::pipeline::ledger::{self, Hash};
use crate::pipeline::scene::{CutDetector, is_duplicate};

/// A source frame and how it relates to the one before.
pub struct Decoded {
    /// The frame.
    pub frame: Frame,
    /// Cut score against the frame before, 0..=1.
    pub cut_score: f64,
    /// Whether it repeats the frame before.
    pub duplicate: bool,
    /// Hash of its samples, where the settings ask for it.
    pub hash: Option<Hash>,
}

/// Looks at the frames of a clip in order.
pub struct Looker {
    cuts: CutDetector,
    before: Option<Arc<Picture>>,
    hashes: bool,
}

impl Looker {
    /// At what the settings ask for.
    pub fn new(settings: &Settings) -> Self {
        Self { cuts: CutDetector::default(), before: None, hashes: settings.beside.frame_list }
    }

    /// The next frame.
    pub fn look(&mut self, frame: Frame) -> Decoded {
        let duplicate = self.before.as_ref().is_some_and(|it| is_duplicate(it, &frame.picture));
        self.before = Some(Arc::clone(&frame.picture));
        Decoded {
            cut_score: self.cuts.score(&frame.picture),
            duplicate,
            hash: self.hashes.then(|| ledger::hash(&frame.picture)),
            frame,
        }
    }
}
