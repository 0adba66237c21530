//! RIFE v4 over a backend: padding, color, one record a frame kept for the next pair, blocks coarse to fine, in batches.

use std::collections::VecDeque;

use crate::backend::Backend;
use crate::config::settings::Scale;
use crate::engine::{Ahead, EngineDescription, EngineError, Interpolator, Scorer, common_format};
use crate::frame::{Frame, Picture};
use crate::models::rife_v4::Network;
use crate::ops::metrics::Measures;

use network::{Memory, Packed, Shot, Size};

mod network;
mod records;
pub mod trace;

/// Flow scales that the network is defined for.
pub const SCALES: [f32; 4] = [0.25, 0.5, 1.0, 2.0];

/// Pixels up to which `auto` takes scale 1.
const FULL_SCALE_PIXELS: usize = 2560 * 1440;
/// Pixels up to which `auto` takes scale 1/2; above, 1/4.
const HALF_SCALE_PIXELS: usize = 3840 * 2160;

/// The flow scale for a picture size.
#[must_use]
pub fn scale_for(choice: Scale, width_px: usize, height_px: usize) -> f32 {
    match choice {
        Scale::Fixed(scale) => scale,
        Scale::Auto if width_px * height_px <= FULL_SCALE_PIXELS => 1.0,
        Scale::Auto if width_px * height_px <= HALF_SCALE_PIXELS => 0.5,
        Scale::Auto => 0.25,
    }
}

/// Where weights come from and what they run on: what [`Interpolator::description`] adds to the backend's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// SHA-256 of the weights file, in hex.
    pub model_sha256: Option<String>,
    /// Name of the processor or device, where the backend does not know it.
    pub device_name: String,
    /// Why `auto` did not get a GPU.
    pub fallback_reason: Option<String>,
    /// Whether others had it.
    pub device_busy: bool,
    /// What is done otherwise than the network's authors do it.
    pub model_notes: Vec<String>,
    /// How near a device's pictures were to the processor's in its [trial](crate::engine::trial).
    pub psnr_from_cpu_db: Option<f64>,
}

/// A network, its packed weights and everything it keeps between frames. Memory is allocated for the first pair of a
/// size and used again for the others.
pub struct Rife<B: Backend> {
    backend: B,
    network: Packed<B>,
    memory: Memory<B>,
    /// What was asked for and not yet collected, in order; first what was started.
    queue: VecDeque<Asked<B::Download>>,
    origin: Origin,
    choice: Scale,
    scale_in_use: f32,
}

/// A picture that was asked for.
struct Asked<D> {
    frames: [Frame; 2],
    timestep: f32,
    /// Set once it was started.
    download: Option<D>,
}

impl<B: Backend> Rife<B> {
    /// Packs a network for a backend.
    ///
    /// # Errors
    /// [`EngineError::Scale`] where a fixed scale is none of [`SCALES`], [`EngineError::Device`].
    pub fn new(
        mut backend: B,
        network: &Network,
        choice: Scale,
        origin: Origin,
    ) -> Result<Self, EngineError> {
        if let Scale::Fixed(scale) = choice
            && !SCALES.contains(&scale)
        {
            return Err(EngineError::Scale(scale));
        }
        let network = Packed::new(&backend, network);
        backend.status()?;
        Ok(Self {
            memory: Memory::new(network.visits(), backend.max_batch()),
            network,
            backend,
            queue: VecDeque::new(),
            origin,
            scale_in_use: scale_for(choice, 0, 0),
            choice,
        })
    }

    /// The same engine, keeping the records of at least `frames` frames: those of a pair for callers that ask for several
    /// pairs in turn. Nothing was asked of it yet.
    #[must_use]
    pub fn keeping(mut self, frames: usize) -> Self {
        self.memory.records.keep(frames);
        self
    }

    /// RGB in, RGB out: `img0`, `img1` `[height, width, 3]` in 0..1. Nothing is kept for later calls but memory.
    ///
    /// # Errors
    /// [`EngineError::Device`].
    ///
    /// # Panics
    /// If an image is not as long as its size says, or the size is 0.
    pub fn interpolate_rgb(
        &mut self,
        img0: &[f32],
        img1: &[f32],
        width: usize,
        height: usize,
        timestep: f32,
    ) -> Result<Vec<f32>, EngineError> {
        let size = self.size(width, height);
        let (rgb, _) = self.plain_pair([img0, img1], size, timestep)?;
        Ok(rgb)
    }

    fn size(&mut self, width: usize, height: usize) -> Size {
        assert!(width > 0 && height > 0, "a picture has pixels");
        let scale = scale_for(self.choice, width, height);
        self.scale_in_use = scale;
        self.network.plan.size(width, height, scale)
    }

    /// One picture of images that belong to no clip, and where their records lie.
    fn plain_pair(
        &mut self,
        images: [&[f32]; 2],
        size: Size,
        timestep: f32,
    ) -> Result<(Vec<f32>, [usize; 2]), EngineError> {
        let mut slots: Vec<usize> = vec![];
        for rgb in images {
            let slot = self.memory.records.free_slot(&slots);
            let rows_columns = [size.padding.height, size.padding.width];
            self.backend.image_from_rgb(rgb, rows_columns, &mut self.memory.image);
            self.write_record(slot, size);
            slots.push(slot);
        }
        let slots = [slots[0], slots[1]];
        self.network.run(&mut self.backend, &mut self.memory, &[Shot { slots, timestep }], size);
        let rgb = self.backend.image_to_rgb(&self.memory.image, 0);
        self.backend.status()?;
        Ok((rgb, slots))
    }

    /// Where the record of a frame lies; computes it unless it is there.
    fn frame_record(&mut self, frame: &Frame, size: Size, keep: &[usize]) -> usize {
        if let Some(slot) = self.memory.records.find(frame) {
            return slot;
        }
        let slot = self.memory.records.free_slot(keep);
        self.backend.image_from_picture(&frame.picture, &mut self.memory.image);
        self.write_record(slot, size);
        self.memory.records.name(slot, frame);
        slot
    }

    /// The record of the frame in `memory.image`.
    fn write_record(&mut self, slot: usize, size: Size) {
        let Memory { records, image, .. } = &mut self.memory;
        let record = records.tensor_mut(slot);
        self.backend.record(self.network.head.as_ref(), image, &size.padding, record);
    }

    /// How many pictures were started.
    fn started(&self) -> usize {
        self.queue.iter().take_while(|asked| asked.download.is_some()).count()
    }

    /// Starts the next pictures that were asked for: as many as fit one batch.
    fn start(&mut self) -> Result<(), EngineError> {
        let first = self.started();
        let format = self.queue[first].frames[0].picture.format;
        let size = self.size(format.width_px, format.height_px);
        let (mut shots, mut kept): (Vec<Shot>, Vec<usize>) = (vec![], vec![]);
        while let Some(asked) = self.queue.get(first + shots.len()) {
            let room = kept.len() + asked.frames.len() <= self.memory.records.capacity();
            let same = asked.frames[0].picture.format == format;
            if shots.len() == self.backend.max_batch() || !room || !same {
                break;
            }
            let (frames, timestep) = (asked.frames.clone(), asked.timestep);
            let slots = frames.each_ref().map(|frame| {
                let slot = self.frame_record(frame, size, &kept);
                if !kept.contains(&slot) {
                    kept.push(slot);
                }
                slot
            });
            shots.push(Shot { slots, timestep });
        }
        self.network.run(&mut self.backend, &mut self.memory, &shots, size);
        for index in 0..shots.len() {
            let download = self.backend.start_picture(&self.memory.image, index, format);
            self.queue[first + index].download = Some(download);
        }
        Ok(self.backend.status()?)
    }

    /// Starts all whole batches for which the device has room. **Invariant:** no more pictures are started than the
    /// backend's depth, so that the memory of an engine is bounded, however many pictures are asked for.
    fn start_ahead(&mut self) -> Result<(), EngineError> {
        let (batch, depth) = (self.backend.max_batch(), self.backend.depth());
        loop {
            let started = self.started();
            if self.queue.len() - started < batch || started + batch > depth {
                return Ok(());
            }
            self.start()?;
        }
    }

    /// Forgets what was asked for and what is kept of frames, after an error.
    fn abandon(&mut self, error: EngineError) -> EngineError {
        self.queue.clear();
        self.memory.records.forget();
        error
    }

    fn next_picture(&mut self) -> Result<Picture, EngineError> {
        assert!(!self.queue.is_empty(), "a picture is collected after it was asked for");
        if self.started() == 0 {
            self.start()?;
        }
        let download = self.queue.pop_front().and_then(|asked| asked.download);
        let Some(download) = download else { unreachable!("the first picture was started") };
        let picture = self.backend.finish_picture(download);
        self.backend.status()?;
        self.start_ahead()?;
        Ok(picture)
    }
}

impl<B: Backend> Ahead for Rife<B> {
    fn depth(&self) -> usize {
        self.backend.depth()
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn submit(&mut self, img0: &Frame, img1: &Frame, timesteps: &[f32]) -> Result<(), EngineError> {
        common_format(img0, img1)?;
        let asked = |&timestep: &f32| {
            let frames = [img0.clone(), img1.clone()];
            Asked { frames, timestep, download: None }
        };
        self.queue.extend(timesteps.iter().map(asked));
        self.start_ahead().map_err(|error| self.abandon(error))
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        self.next_picture().map_err(|error| self.abandon(error))
    }
}

impl<B: Backend> Scorer for Rife<B> {
    fn start(&mut self, truth: &Picture, predicted: &[&Picture]) -> Result<bool, EngineError> {
        let started = self.backend.start_measures(truth, predicted);
        self.backend.status().map_err(|error| self.abandon(error.into()))?;
        Ok(started)
    }

    fn finish(&mut self) -> Result<Option<Vec<Measures>>, EngineError> {
        let measures = self.backend.finish_measures();
        self.backend.status().map_err(|error| self.abandon(error.into()))?;
        Ok(measures)
    }
}

impl<B: Backend> Interpolator for Rife<B> {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        // What a former caller asked for and did not collect.
        self.queue.clear();
        self.submit(img0, img1, timesteps)?;
        timesteps.iter().map(|_| self.collect()).collect()
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        (self.backend.depth() > 0).then_some(self)
    }

    fn scorer(&mut self) -> Option<&mut dyn Scorer> {
        self.backend.measures().then_some(self)
    }

    fn description(&self) -> EngineDescription {
        let backend = self.backend.description();
        let named = !backend.device_name.is_empty();
        EngineDescription {
            device_kind: backend.device_kind,
            device_name: if named { backend.device_name } else { self.origin.device_name.clone() },
            precision: backend.precision,
            instructions: backend.instructions,
            threads: backend.threads,
            fallback_reason: self.origin.fallback_reason.clone(),
            device_busy: self.origin.device_busy,
            model_name: self.network.plan.name.clone(),
            model_sha256: self.origin.model_sha256.clone(),
            scale: self.scale_in_use,
            model_notes: self.origin.model_notes.clone(),
            steps: backend.setbacks,
            gpu: backend.gpu,
            psnr_from_cpu_db: self.origin.psnr_from_cpu_db,
        }
    }
}
