//! Scores held-out frames beside the network: on its device where it can, else on a thread of their own.
//!
//! A comparison on the device is fetched when the next one begins, so that the network's thread does not wait for it. One
//! that was lost with a device that failed is made again on the processor: no frame goes unscored.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::config::content::Rectangle;
use crate::config::settings::Settings;
use crate::engine::blend;
use crate::engine::{EngineError, Scorer};
use crate::frame::{Frame, Picture, PictureFormat};
use crate::media::vmaf::{self, Pair, VmafError};
use crate::ops::metrics::Measures;
use crate::pipeline::masks;
use crate::quality::holdout::{Holdout, MeasuredOn, Sample, Triplet};
use crate::quality::{FrameScores, Samples};

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
    vmaf: Vmaf,
    /// Why VMAF could not be measured.
    vmaf_fault: Option<String>,
}

/// Whether VMAF is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vmaf {
    Measured,
    LeftOut,
}

/// The thread that scores on the processor. Where its owner is dropped, it ends after what is in its queue.
struct Beside {
    queue: SyncSender<ToScore>,
    thread: JoinHandle<Scored>,
}

/// A frame that is to be scored, and what the device has of it already.
type ToScore = (Made, Option<Sample>);

/// What the thread leaves behind.
#[derive(Default)]
struct Scored {
    samples: Vec<Sample>,
    vmaf_fault: Option<String>,
}

impl Scoring {
    /// As `settings` ask, of a clip of `expected_frames`: see [`Holdout::new`].
    pub fn new(settings: &Settings, expected_frames: Option<u64>) -> Self {
        let holdout = Holdout::new(settings.quality_samples, expected_frames);
        let (vmaf, vmaf_fault) = match settings.vmaf {
            true if vmaf::is_there() => (Vmaf::Measured, None),
            true => (Vmaf::LeftOut, Some(VmafError::Missing.to_string())),
            false => (Vmaf::LeftOut, None),
        };
        let left_out = LeftOut::default();
        Self { holdout, left_out, on_device: None, beside: None, vmaf, vmaf_fault }
    }

    /// Goes on from what another had come to.
    pub fn go_on(&mut self, holdout: Holdout) {
        self.holdout = holdout;
    }

    /// Leaves `rectangles` of pictures of `format` out of all scores. Where nearly nothing would be left, nothing is scored, and it
    /// returns true.
    pub fn leave_out(&mut self, rectangles: &[Rectangle], format: PictureFormat) -> bool {
        let of = (format.width_px * format.height_px) as u64;
        let pixels = if rectangles.is_empty() { 0 } else { masks::covered_px(format, rectangles) };
        let is_most = pixels as f64 > MOST_LEFT_OUT * of as f64;
        if is_most {
            self.holdout = Holdout::new(0, None);
        }
        self.left_out = LeftOut { rectangles: rectangles.to_vec(), pixels, of };
        is_most
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
            self.on_the_processor(made, None);
            return Ok(());
        };
        self.settle(Some(&mut *scorer))?;
        let blend = made.blend();
        let Triplet { truth, network, repeat, blend, .. } = made.triplet(&blend);
        if scorer.start(truth, &[network, repeat, blend])? {
            self.on_device = Some(made);
        } else {
            self.on_the_processor(made, None);
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
                let sample = made.sample([network, repeat, blend]);
                match self.vmaf {
                    Vmaf::Measured => self.on_the_processor(made, Some(sample)),
                    Vmaf::LeftOut => self.holdout.record(sample),
                }
            }
            _ => self.on_the_processor(made, None),
        }
        Ok(())
    }

    /// All samples, once all are there, and why VMAF could not be measured, where it could not.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn finish(mut self) -> (Holdout, Option<String>) {
        self.join();
        (self.holdout, self.vmaf_fault)
    }

    fn join(&mut self) {
        if let Some(Beside { queue, thread }) = self.beside.take() {
            drop(queue);
            let scored = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            scored.samples.into_iter().for_each(|sample| self.holdout.record(sample));
            self.vmaf_fault = self.vmaf_fault.take().or(scored.vmaf_fault);
        }
    }

    fn on_the_processor(&mut self, made: Made, sample: Option<Sample>) {
        let vmaf = self.vmaf;
        let beside = self.beside.get_or_insert_with(|| {
            let (queue, frames) = sync_channel(QUEUE);
            Beside { queue, thread: std::thread::spawn(move || measure(&frames, vmaf)) }
        });
        // The queue is closed only by a panic of the thread, which `finish` passes on.
        let _ = beside.queue.send((made, sample));
    }
}

fn measure(frames: &Receiver<ToScore>, vmaf: Vmaf) -> Scored {
    let mut scored = Scored::default();
    for (made, known) in frames {
        let blend = made.blend();
        let measured = || made.of_the_rest(made.triplet(&blend).measure());
        let mut sample = known.unwrap_or_else(measured);
        if vmaf == Vmaf::Measured
            && let Err(error) = made.add_vmaf(&blend, &mut sample)
        {
            scored.vmaf_fault.get_or_insert_with(|| error.to_string());
        }
        scored.samples.push(sample);
    }
    scored
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

    /// VMAF of each way of making the frame, in a sequence of three whose others are the real neighbors: it counts motion.
    fn add_vmaf(&self, blend: &Picture, sample: &mut Sample) -> Result<(), VmafError> {
        let HeldOut { oldest, middle, newest, .. } = &self.held_out;
        let real = [oldest, middle, newest].map(|it| Samples::of_picture(&it.picture));
        let [oldest, middle, newest] = real.each_ref().map(Samples::luma);
        let Triplet { network, repeat, blend, truth, .. } = self.triplet(blend);
        let (width_px, height_px) = (truth.format.width_px, truth.format.height_px);
        let ways = [
            (&mut sample.network, network),
            (&mut sample.repeat, repeat),
            (&mut sample.blend, blend),
        ];
        for (scores, picture) in ways {
            let made = Samples::of_picture(picture);
            let sequence = [(oldest, oldest), (middle, made.luma()), (newest, newest)];
            let sequence = sequence.map(|(truth, made)| Pair { truth, made });
            scores.vmaf = vmaf::scores(&sequence, width_px, height_px)?.get(1).copied();
        }
        Ok(())
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
