//! Which parts of a clip's pictures are not made up, by configuration and by looking, and what is done to made frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::content::{Mark, Mask, Overlays, Rectangle};
use crate::engine::blend::blend;
use crate::frame::{Frame, Picture, PictureFormat};
use crate::media::decode::Decoder;
use crate::pipeline::overlays::{Detector, Overlays as Seen};
use crate::pipeline::timeline::Shown;
use crate::pipeline::{ConvertError, Task, masks};
use crate::report::content::Masked;

/// Frames at the beginning of a clip that are looked at for overlays, at the most.
const FRAMES_LOOKED_AT: u64 = 600;

/// What is done to made frames of a clip.
pub struct Masks {
    /// Where nothing is made up.
    pub all: Vec<Masked>,
    /// Whether overlays were looked for and the beginning of the clip moves too little to tell.
    pub undecided: bool,
    /// Configured ones that lie outside of the picture, by their text.
    pub outside: Vec<String>,
    /// Whether they leave too little of a picture to score it.
    pub unscored: bool,
    mark: Mark,
}

impl Masks {
    /// Those that are configured and, where that is asked for, those that are found at the beginning of the clip.
    ///
    /// # Errors
    /// Those of reading the clip; [`ConvertError::Interrupted`].
    pub fn find(
        task: &Task,
        format: PictureFormat,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, ConvertError> {
        let content = &task.settings.content;
        let (width, height) = (format.width_px, format.height_px);
        let configured = content.masks.iter().filter_map(|it| it.rectangle(width, height));
        let is_outside = |it: &&Mask| it.rectangle(width, height).is_none();
        let outside = content.masks.iter().filter(is_outside).map(ToString::to_string).collect();
        let masked = |detected| move |rectangle| Masked { rectangle, detected };
        let mut all: Vec<Masked> = configured.map(masked(false)).collect();
        let mut undecided = false;
        if content.overlays == Overlays::Detect {
            match look(task, stop)? {
                Seen::Undecided => undecided = true,
                Seen::Found(found) => all.extend(found.into_iter().map(masked(true))),
            }
        }
        Ok(Self { all, undecided, outside, unscored: false, mark: content.mark })
    }

    /// Where nothing is made up.
    pub fn rectangles(&self) -> Vec<Rectangle> {
        self.all.iter().map(|it| it.rectangle).collect()
    }

    /// Whether there is such a place.
    pub fn cover(&self) -> bool {
        !self.all.is_empty()
    }

    /// A made picture as it goes to the encoder; `nearest` is the real one that is nearer, where [`Self::cover`].
    pub fn applied(&self, mut made: Picture, nearest: Option<Arc<Picture>>) -> Picture {
        if let Some(nearest) = nearest {
            masks::cover(&mut made, &nearest, &self.rectangles());
        }
        if self.mark == Mark::Corner {
            masks::mark(&mut made);
        }
        made
    }

    /// The transparency of an output frame between `first` and `second`, where the clip has any: of made ones blended.
    pub fn alpha(
        &self,
        shown: Shown,
        first: &Frame,
        second: Option<&Frame>,
    ) -> Option<Arc<Picture>> {
        let before = first.alpha.as_ref()?;
        let behind = second.and_then(|it| it.alpha.as_ref()).unwrap_or(before);
        let (Shown::Between { timestep, .. } | Shown::Instead { timestep, .. }) = shown else {
            let is_second = |it: &&Frame| shown == Shown::Real(it.index);
            return Some(Arc::clone(second.filter(is_second).map_or(before, |_| behind)));
        };
        let mut made = blend(before, behind, timestep);
        if self.cover() {
            let nearest = if timestep >= 0.5 { behind } else { before };
            masks::cover(&mut made, nearest, &self.rectangles());
        }
        if self.mark == Mark::Corner {
            masks::uncover_mark(&mut made);
        }
        Some(Arc::new(made))
    }
}

fn look(task: &Task, stop: &Arc<AtomicBool>) -> Result<Seen, ConvertError> {
    let mut decoder = Decoder::open_as(&task.source, task.settings.interlaced)?;
    let mut detector = Detector::default();
    for _ in 0..FRAMES_LOOKED_AT {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        match decoder.next_frame()? {
            Some(frame) if !detector.has_enough() => detector.look(&frame.picture),
            _ => break,
        }
    }
    Ok(detector.finish())
}
