//! Scores held-out frames beside the network: on its device where it can, else on a thread of their own.
//!
//! A comparison on the device is fetched when the next one begins, so that the network's thread does not wait for it. One
//! that was lost with a device that failed is made again on the processor: no frame goes unscored.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::config::content::Rectangle;
use crate::engine::blend;
use crate::engine::{EngineError, Scorer};
use crate::frame::{Frame, Picture, PictureFormat};
use crate::ops::metrics::Measures;
use crate::pipeline::masks;
use crate::quality::FrameScores;
use crate::quality::holdout::{Holdout, MeasuredOn, Sample, Triplet};

/// Frames that wait to be scored at the most.
const QUEUE: usize = 2;
/// Part of the picture that is left out at the most.
const MOST_LEFT_OUT: f64 = 0.9;

/// A real frame that was predicted from its neighbors.
pub struct HeldOut {
    /// The frame before.
    pub oldest: Frame,
    /// The frame itself.
    pub middle: Frame,
    /// The frame after.
    pub newest: Frame,
    /// Where between the others it is.
    pub timestep: f32,
}

/// Parts of the picture that are not scored.
#[derive(Clone, Default)]
struct LeftOut {
    rectangles: Vec<Rectangle>,
    pixels: u64,
    of: u64,
}

/// A held-out frame and what the network made of it.
struct Made {
    held_out: HeldOut,
    network: Picture,
    left_out: LeftOut,
    /// The earlier neighbor, where it is not scored as it is.
    repeat: Option<Picture>,
}

/// The scores of a clip on their way.
pub struct Scoring {
    holdout: Holdout,
    left_out: LeftOut,
    /// Under way on the device.
    on_device: Option<Made>,
    beside: Option<Beside>,
}

/// The thread that scores on the processor. Where its owner is dropped, it ends after what is in its queue.
struct Beside {
    queue: SyncSender<Made>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Scoring {
    /// At most `max_samples` of a clip of `expected_frames`: see [`Holdout::new`].
    pub fn new(max_samples: u32, expected_frames: Option<u64>) -> Self {
        let holdout = Holdout::new(max_samples, expected_frames);
        Self { holdout, left_out: LeftOut::default(), on_device: None, beside: None }
    }

    /// Goes on from what another had come to.
    pub fn go_on(&mut self, holdout: Holdout) {
        self.holdout = holdout;
    }

    /// Leaves `rectangles` of pictures of `format` out of all scores. Where nearly nothing would be left, nothing is scored.
    pub fn leave_out(&mut self, rectangles: &[Rectangle], format: PictureFormat) {
        let of = (format.width_px * format.height_px) as u64;
        let pixels = if rectangles.is_empty() { 0 } else { masks::covered_px(format, rectangles) };
        if pixels as f64 > MOST_LEFT_OUT * of as f64 {
            self.holdout = Holdout::new(0, None);
        }
        self.left_out = LeftOut { rectangles: rectangles.to_vec(), pixels, of };
    }

    /// What all scores so far come to; waits for those under way.
    ///
    /// # Errors
    /// Those of the engine, where nothing else took over.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn so_far(&mut self, scorer: Option<&mut dyn Scorer>) -> Result<Holdout, EngineError> {
        self.settle(scorer)?;
        self.join();
        Ok(self.holdout.clone())
    }

    /// Whether a candidate of that index is to be measured; then its picture must come.
    pub fn wants(&mut self, middle_index: u64) -> bool {
        self.holdout.count_candidate();
        let wanted = self.holdout.wants(middle_index);
        if wanted {
            self.holdout.reserve(middle_index);
        }
        wanted
    }

    /// Scores a frame that was predicted.
    ///
    /// # Errors
    /// Those of the engine, where nothing else took over.
    pub fn score(
        &mut self,
        held_out: HeldOut,
        network: Picture,
        scorer: Option<&mut dyn Scorer>,
    ) -> Result<(), EngineError> {
        let made = Made::new(held_out, network, self.left_out.clone());
        let Some(scorer) = scorer else {
            self.settle(None)?;
            self.on_the_processor(made);
            return Ok(());
        };
        self.settle(Some(&mut *scorer))?;
        let blend = made.blend();
        let Triplet { truth, network, repeat, blend, .. } = made.triplet(&blend);
        if scorer.start(truth, &[network, repeat, blend])? {
            self.on_device = Some(made);
        } else {
            self.on_the_processor(made);
        }
        Ok(())
    }

    /// Takes what is under way on the device.
    ///
    /// # Errors
    /// Those of the engine, where nothing else took over.
    pub fn settle(&mut self, scorer: Option<&mut dyn Scorer>) -> Result<(), EngineError> {
        let Some(made) = self.on_device.take() else { return Ok(()) };
        let measures = scorer.map_or(Ok(None), |scorer| scorer.finish())?;
        match measures.as_deref() {
            Some([network, repeat, blend]) => {
                self.holdout.record(made.sample([network, repeat, blend]));
            }
            _ => self.on_the_processor(made),
        }
        Ok(())
    }

    /// All samples, once all are there.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn finish(mut self) -> Holdout {
        self.join();
        self.holdout
    }

    fn join(&mut self) {
        if let Some(Beside { queue, thread }) = self.beside.take() {
            drop(queue);
            let samples = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            samples.into_iter().for_each(|sample| self.holdout.record(sample));
        }
    }

    fn on_the_processor(&mut self, made: Made) {
        let beside = self.beside.get_or_insert_with(|| {
            let (queue, frames) = sync_channel(QUEUE);
            Beside { queue, thread: std::thread::spawn(move || measure(&frames)) }
        });
        // The queue is closed only by a panic of the thread, which `finish` passes on.
        let _ = beside.queue.send(made);
    }
}

fn measure(frames: &Receiver<Made>) -> Vec<Sample> {
    let sample = |made: Made| {
        let blend = made.blend();
        made.of_the_rest(made.triplet(&blend).measure())
    };
    frames.iter().map(sample).collect()
}

impl Made {
    fn new(held_out: HeldOut, mut network: Picture, left_out: LeftOut) -> Self {
        let mut repeat = None;
        if !left_out.rectangles.is_empty() {
            let truth = &held_out.middle.picture;
            let earlier = repeat.insert((*held_out.oldest.picture).clone());
            masks::cover(&mut network, truth, &left_out.rectangles);
            masks::cover(earlier, truth, &left_out.rectangles);
        }
        Self { held_out, network, left_out, repeat }
    }

    /// Both neighbors, mixed.
    fn blend(&self) -> Picture {
        let HeldOut { oldest, middle, newest, timestep } = &self.held_out;
        let mut mixed = blend::blend(&oldest.picture, &newest.picture, *timestep);
        masks::cover(&mut mixed, &middle.picture, &self.left_out.rectangles);
        mixed
    }

    /// The scores of what is not left out.
    fn of_the_rest(&self, mut sample: Sample) -> Sample {
        let LeftOut { pixels, of, .. } = self.left_out;
        if pixels > 0 {
            for scores in [&mut sample.network, &mut sample.repeat, &mut sample.blend] {
                *scores = scores.of_the_rest(of, pixels);
            }
        }
        sample
    }

    fn triplet<'a>(&'a self, blend: &'a Picture) -> Triplet<'a> {
        let HeldOut { oldest, middle, .. } = &self.held_out;
        Triplet {
            middle_index: middle.index,
            pts: middle.pts,
            truth: &middle.picture,
            network: &self.network,
            repeat: self.repeat.as_ref().unwrap_or(&oldest.picture),
            blend,
        }
    }

    fn sample(&self, measures: [&Measures; 3]) -> Sample {
        let format = self.network.format;
        let scores = |it| FrameScores::of_measures(it, format.width_px, format.height_px);
        let triplet = self.triplet(&self.network);
        self.of_the_rest(triplet.sample(measures.map(scores), MeasuredOn::Device))
    }
}
