//! An engine that goes on when its device fails: smaller steps where memory runs out, the processor where it may.
//!
//! Every picture that was asked for is remembered until it is handed over, so that whatever fails, it is made again by the
//! next engine, and a clip completes. A comparison that was begun is lost with its device, and whoever asked for it is
//! told. Each step is told in the engine's description.

use std::collections::VecDeque;

use crate::backend::cuda::driver::DeviceError;
use crate::engine::{
    Ahead, EngineDescription, EngineError, Interpolator, MemoryGauge, Scorer, TellChange,
    common_format,
};
use crate::frame::{Frame, Picture, PictureFormat};
use crate::ops::metrics::Measures;

/// What is done where the device has no room for comparisons.
const SCORES_STEP: &str = "held-out frames are scored on the CPU";
/// Bytes of a megabyte in messages.
const MEGABYTE: u64 = 1_000_000;

/// What a rung is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Takes less memory on the same device.
    Memory,
    /// Does without the device.
    Any,
}

/// Makes a rung's engine for pictures of a format, given why the one before ended.
pub type Make =
    dyn FnMut(&EngineError, PictureFormat) -> Result<Box<dyn Interpolator>, EngineError> + Send;

/// What an engine allocates on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Of these, what it holds from its beginning, in bytes.
    pub weights_bytes: u64,
    /// The most at a time, in bytes.
    pub peak_bytes: u64,
}

/// What an engine would allocate for pictures of a format, where that can be told.
pub type Wants = dyn FnMut(PictureFormat) -> Option<Need> + Send;

/// The memory that an engine and its rungs must make do with.
pub struct Room {
    /// Name of the device.
    pub device: String,
    /// Bytes that are free now.
    pub free: Box<dyn FnMut() -> Result<u64, DeviceError> + Send>,
    /// Bytes that engines have of it now.
    pub allocated: Box<dyn FnMut() -> u64 + Send>,
    /// What the first engine would allocate.
    pub wants: Box<Wants>,
    /// Bytes that comparisons of pictures of a format take beside an engine.
    pub scores: Box<dyn FnMut(PictureFormat) -> u64 + Send>,
    /// Bytes of the free ones that are not planned for.
    pub reserve_bytes: u64,
}

/// One step down.
pub struct Rung {
    /// What it is good for.
    pub cure: Cure,
    /// What is done, for the log and the report.
    pub step: &'static str,
    /// What its engine would allocate; none where it takes no device memory or that is not known.
    pub wants: Option<Box<Wants>>,
    /// Makes its engine; the one before is gone by then.
    pub make: Box<Make>,
}

/// An engine, and what to do when it fails.
pub struct Steady {
    /// None after the last rung failed.
    engine: Option<Box<dyn Interpolator>>,
    rungs: VecDeque<Rung>,
    /// What was asked for and not yet collected.
    queue: VecDeque<Asked>,
    /// How many of those the engine knows of.
    handed: usize,
    /// Format of the pictures compared last, and whether there is room for that beside this engine.
    compared: Option<(PictureFormat, bool)>,
    depth: usize,
    description: EngineDescription,
    steps: Vec<String>,
    room: Option<Room>,
    gauge: Option<MemoryGauge>,
    /// Is told of each step.
    tell: Option<Box<TellChange>>,
    /// The format that was planned for, and what the engine takes with it.
    planned: Option<(PictureFormat, Option<Need>)>,
}

#[derive(Clone)]
struct Asked {
    frames: [Frame; 2],
    timestep: f32,
}

impl Steady {
    /// `engine`, and `rungs` to go down one after another.
    #[must_use]
    pub fn new(mut engine: Box<dyn Interpolator>, rungs: Vec<Rung>) -> Self {
        Self {
            depth: engine.ahead().map_or(0, |ahead| ahead.depth()),
            description: engine.description(),
            engine: Some(engine),
            rungs: rungs.into(),
            queue: VecDeque::new(),
            handed: 0,
            compared: None,
            steps: vec![],
            room: None,
            gauge: None,
            tell: None,
            planned: None,
        }
    }

    /// The same, going down the rungs before the first picture of a format until what is wanted fits.
    #[must_use]
    pub fn within(mut self, room: Room) -> Self {
        self.room = Some(room);
        self
    }

    /// The same on a device with memory of its own.
    #[must_use]
    pub fn gauged(mut self, gauge: MemoryGauge) -> Self {
        self.gauge = Some(gauge);
        self
    }

    /// Takes the first engine that fits the memory for the pictures asked for last.
    fn plan(&mut self) -> Result<(), EngineError> {
        let (Some(room), Some(asked)) = (self.room.as_mut(), self.queue.back()) else {
            return Ok(());
        };
        let format = asked.frames[0].picture.format;
        if self.planned.is_some_and(|(of, _)| of == format) {
            return Ok(());
        }
        let before = self.planned.map(|(_, need)| need.map_or(0, |need| need.peak_bytes));
        let need = (room.wants)(format);
        self.planned = Some((format, need));
        let Some(need) = need else { return Ok(()) };
        // What the engine has counts as free for it: no more than it was ever to take, of which it may have less so far.
        let has_bytes = before.unwrap_or(need.weights_bytes).min((room.allocated)());
        let free_bytes = match (room.free)() {
            Ok(bytes) => bytes.saturating_add(has_bytes),
            Err(error) => return self.step_down(error.into()),
        };
        let PictureFormat { width_px, height_px, .. } = format;
        let (device, wanted_bytes) = (room.device.clone(), need.peak_bytes);
        log::info!(
            "{device}: pictures of {width_px}x{height_px} take {} MB of {} MB that are free",
            wanted_bytes / MEGABYTE,
            free_bytes / MEGABYTE
        );
        if wanted_bytes.saturating_add(room.reserve_bytes) <= free_bytes {
            return Ok(());
        }
        self.step_down(DeviceError::OutOfMemory { device, wanted_bytes, free_bytes }.into())
    }

    /// The next rung that may help: of those for memory, one that takes less than the engine before and fits. The last
    /// of them may use the reserve.
    fn next_rung(&mut self, of_memory: bool, format: PictureFormat) -> Option<Rung> {
        let free = self.room.as_mut().and_then(|room| (room.free)().ok());
        let reserve = self.room.as_ref().map_or(0, |room| room.reserve_bytes);
        let current = self.planned.and_then(|(_, need)| need);
        while let Some(mut rung) = self.rungs.pop_front() {
            if rung.cure == Cure::Any {
                self.planned = Some((format, None));
                return Some(rung);
            }
            if !of_memory {
                continue;
            }
            let need = rung.wants.as_mut().and_then(|wants| wants(format));
            let more_follow = self.rungs.front().is_some_and(|next| next.cure == Cure::Memory);
            let reserve = if more_follow { reserve } else { 0 };
            let useless = |need: Need| {
                let less = current.is_none_or(|current| need.peak_bytes < current.peak_bytes);
                let fits = free.is_none_or(|free| need.peak_bytes.saturating_add(reserve) <= free);
                !(less && fits)
            };
            if need.is_some_and(useless) {
                continue;
            }
            if let Some(room) = self.room.as_mut()
                && let Some(wants) = rung.wants.take()
            {
                room.wants = wants;
            }
            self.planned = Some((format, need));
            return Some(rung);
        }
        None
    }

    /// Gives the engine what it does not know of yet.
    fn hand_over(&mut self) -> Result<(), EngineError> {
        let Some(ahead) = self.engine.as_mut().and_then(|engine| engine.ahead()) else {
            return Ok(());
        };
        while let Some(asked) = self.queue.get(self.handed) {
            ahead.submit(&asked.frames[0], &asked.frames[1], &[asked.timestep])?;
            self.handed += 1;
        }
        Ok(())
    }

    fn first_picture(&mut self) -> Result<Picture, EngineError> {
        self.hand_over()?;
        let Some(asked) = self.queue.front() else {
            panic!("a picture is collected after it was asked for")
        };
        let Some(engine) = self.engine.as_mut() else { unreachable!("a failed engine is no more") };
        if let Some(ahead) = engine.ahead() {
            return ahead.collect();
        }
        let [img0, img1] = &asked.frames;
        let made = engine.interpolate(img0, img1, &[asked.timestep])?;
        let Some(picture) = made.into_iter().next() else {
            unreachable!("the engine makes one picture for each timestep")
        };
        Ok(picture)
    }

    /// The next engine that may do after `error`; `error` again where there is none.
    fn step_down(&mut self, mut error: EngineError) -> Result<(), EngineError> {
        self.handed = 0;
        while let EngineError::Device(device) = &error {
            let of_memory = device.is_of_memory();
            // Its memory goes first.
            if let Some(engine) = self.engine.take() {
                self.steps.extend(engine.description().steps);
            }
            let asked = self.queue.back().map(|asked| asked.frames[0].picture.format);
            let format = asked.or(self.compared.map(|(format, _)| format));
            let rung = format.and_then(|format| Some((format, self.next_rung(of_memory, format)?)));
            let Some((format, mut rung)) = rung else { break };
            match (rung.make)(&error, format) {
                Ok(mut engine) => {
                    self.depth = engine.ahead().map_or(0, |ahead| ahead.depth());
                    self.engine = Some(engine);
                    self.compared = None;
                    self.note(format!("{error}; {}", rung.step));
                    return Ok(());
                }
                Err(further) => error = further,
            }
        }
        self.queue.clear();
        Err(error)
    }

    /// Tells a step.
    fn note(&mut self, step: String) {
        log::warn!("{step}");
        self.steps.push(step);
        if let Some(tell) = &self.tell {
            tell(self.description());
        }
    }

    /// Why pictures of a format cannot be compared on the device: what that takes, beside what the engine has yet to take,
    /// must leave the reserve free. None where they can, and where the device does not answer, which the comparison says.
    fn no_room_for_scores(&mut self, format: PictureFormat) -> Option<DeviceError> {
        let room = self.room.as_mut()?;
        let free_bytes = (room.free)().ok()?;
        let peak_bytes = self.planned.and_then(|(_, need)| need).map_or(0, |need| need.peak_bytes);
        let to_come_bytes = peak_bytes.saturating_sub((room.allocated)());
        let wanted_bytes = (room.scores)(format);
        let all_bytes = wanted_bytes.saturating_add(to_come_bytes + room.reserve_bytes);
        let device = room.device.clone();
        (all_bytes > free_bytes).then_some(DeviceError::OutOfMemory {
            device,
            wanted_bytes: all_bytes,
            free_bytes,
        })
    }

    fn is_open(&self) -> Result<(), EngineError> {
        if self.engine.is_some() {
            return Ok(());
        }
        Err(EngineError::NoDevice {
            device: self.description.device_kind.clone(),
            reason: "it failed before, and nothing else could take over".to_owned(),
        })
    }
}

impl Ahead for Steady {
    fn depth(&self) -> usize {
        self.depth
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn submit(&mut self, img0: &Frame, img1: &Frame, timesteps: &[f32]) -> Result<(), EngineError> {
        self.is_open()?;
        common_format(img0, img1)?;
        let frames = || [img0.clone(), img1.clone()];
        let asked = |&timestep: &f32| Asked { frames: frames(), timestep };
        self.queue.extend(timesteps.iter().map(asked));
        self.plan()?;
        while let Err(error) = self.hand_over() {
            self.step_down(error)?;
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<Picture, EngineError> {
        self.is_open()?;
        loop {
            match self.first_picture() {
                Ok(picture) => {
                    self.queue.pop_front();
                    self.handed = self.handed.saturating_sub(1);
                    return Ok(picture);
                }
                Err(error) => self.step_down(error)?,
            }
        }
    }
}

impl Scorer for Steady {
    fn start(&mut self, truth: &Picture, predicted: &[&Picture]) -> Result<bool, EngineError> {
        self.is_open()?;
        loop {
            if self.engine.as_mut().is_none_or(|engine| engine.scorer().is_none()) {
                return Ok(false);
            }
            let known = self.compared.filter(|(format, _)| *format == truth.format);
            let crowded = match known {
                Some((_, fits)) if !fits => return Ok(false),
                Some(_) => None,
                None => self.no_room_for_scores(truth.format),
            };
            self.compared = Some((truth.format, crowded.is_none()));
            if let Some(error) = crowded {
                self.note(format!("{error}; {SCORES_STEP}"));
                return Ok(false);
            }
            let scorer = self.engine.as_mut().and_then(|engine| engine.scorer());
            let Some(scorer) = scorer else { unreachable!("it was there a moment ago") };
            match scorer.start(truth, predicted) {
                Ok(true) => return Ok(true),
                Ok(false) => {
                    self.compared = Some((truth.format, false));
                    let device = self.description().device_name;
                    self.note(format!("{device}: memory ran out for scores; {SCORES_STEP}"));
                    return Ok(false);
                }
                Err(error) => self.step_down(error)?,
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Vec<Measures>>, EngineError> {
        self.is_open()?;
        let Some(scorer) = self.engine.as_mut().and_then(|engine| engine.scorer()) else {
            return Ok(None);
        };
        match scorer.finish() {
            Ok(measures) => Ok(measures),
            Err(error) => self.step_down(error).map(|()| None),
        }
    }
}

impl Interpolator for Steady {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        // What a former caller asked for and did not collect.
        while !self.queue.is_empty() {
            self.collect()?;
        }
        self.submit(img0, img1, timesteps)?;
        timesteps.iter().map(|_| self.collect()).collect()
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        Some(self)
    }

    fn scorer(&mut self) -> Option<&mut dyn Scorer> {
        let scores = self.engine.as_mut().is_some_and(|engine| engine.scorer().is_some());
        scores.then_some(self)
    }

    fn memory_gauge(&self) -> Option<MemoryGauge> {
        self.gauge.clone()
    }

    fn tell_changes(&mut self, tell: Box<TellChange>) {
        self.tell = Some(tell);
    }

    fn description(&self) -> EngineDescription {
        let now = self.engine.as_ref().map(|engine| engine.description());
        let now = now.unwrap_or_else(|| self.description.clone());
        EngineDescription { steps: [self.steps.as_slice(), &now.steps].concat(), ..now }
    }
}

#[cfg(test)]
mod tests;
