//! An engine that goes on when its device fails: smaller steps where memory runs out, the processor where it may.
//!
//! Every picture that was asked for is remembered until it is handed over, so that whatever fails, it is made again by the
//! next engine, and a clip completes. A comparison that was begun is lost with its device, and whoever asked for it is
//! told. Each step is told in the engine's description.

use std::collections::VecDeque;

use crate::backend::cuda::driver::DeviceError;
use crate::engine::{Ahead, EngineDescription, EngineError, Interpolator, Scorer};
use crate::frame::{Frame, Picture, PictureFormat};
use crate::ops::metrics::Measures;

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

/// One step down.
pub struct Rung {
    /// What it is good for.
    pub cure: Cure,
    /// What is done, for the log and the report.
    pub step: &'static str,
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
    /// Format of the pictures compared last.
    compared: Option<PictureFormat>,
    depth: usize,
    description: EngineDescription,
    steps: Vec<String>,
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
        }
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
            let of_memory = matches!(device, DeviceError::OutOfMemory { .. });
            let asked = self.queue.front().map(|asked| asked.frames[0].picture.format);
            let format = asked.or(self.compared);
            let rung = self.rungs.pop_front();
            let (Some(format), Some(mut rung)) = (format, rung) else { break };
            if rung.cure == Cure::Memory && !of_memory {
                continue;
            }
            // Its memory goes first.
            self.engine = None;
            match (rung.make)(&error, format) {
                Ok(mut engine) => {
                    let step = format!("{error}; {}", rung.step);
                    log::warn!("{step}");
                    self.steps.push(step);
                    self.depth = engine.ahead().map_or(0, |ahead| ahead.depth());
                    self.engine = Some(engine);
                    return Ok(());
                }
                Err(further) => error = further,
            }
        }
        self.queue.clear();
        Err(error)
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
        if img0.picture.format != img1.picture.format {
            return Err(EngineError::FormatChanged { first: img0.index, second: img1.index });
        }
        let frames = || [img0.clone(), img1.clone()];
        let asked = |&timestep: &f32| Asked { frames: frames(), timestep };
        self.queue.extend(timesteps.iter().map(asked));
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
        self.compared = Some(truth.format);
        while let Some(scorer) = self.engine.as_mut().and_then(|engine| engine.scorer()) {
            match scorer.start(truth, predicted) {
                Ok(started) => return Ok(started),
                Err(error) => self.step_down(error)?,
            }
        }
        Ok(false)
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

    fn description(&self) -> EngineDescription {
        let now = self.engine.as_ref().map(|engine| engine.description());
        let now = now.unwrap_or_else(|| self.description.clone());
        EngineDescription { steps: self.steps.clone(), ..now }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::blend::Blend;
    use crate::frame::{Chroma, Matrix, Range, Seconds};

    /// Blends, works ahead, and fails at its nth picture.
    struct Failing {
        left: usize,
        error: DeviceError,
        made: VecDeque<Picture>,
    }

    impl Ahead for Failing {
        fn depth(&self) -> usize {
            3
        }

        fn waiting(&self) -> usize {
            self.made.len()
        }

        fn submit(&mut self, a: &Frame, b: &Frame, t: &[f32]) -> Result<(), EngineError> {
            self.made.extend(Blend.interpolate(a, b, t)?);
            Ok(())
        }

        fn collect(&mut self) -> Result<Picture, EngineError> {
            if self.left == 0 {
                self.made.clear();
                return Err(self.error.clone().into());
            }
            self.left -= 1;
            Ok(self.made.pop_front().unwrap())
        }
    }

    impl Interpolator for Failing {
        fn interpolate(
            &mut self,
            _: &Frame,
            _: &Frame,
            _: &[f32],
        ) -> Result<Vec<Picture>, EngineError> {
            panic!("asked ahead")
        }

        fn ahead(&mut self) -> Option<&mut dyn Ahead> {
            Some(self)
        }

        fn description(&self) -> EngineDescription {
            Blend.description()
        }
    }

    fn crowded() -> DeviceError {
        DeviceError::OutOfMemory { device: "gpu".into(), wanted_bytes: 2, free_bytes: 1 }
    }

    fn lost() -> DeviceError {
        let (doing, reason) = ("a launch".into(), "gone".into());
        DeviceError::Lost { device: "gpu".into(), doing, reason }
    }

    fn failing(left: usize, error: DeviceError) -> Box<dyn Interpolator> {
        Box::new(Failing { left, error, made: VecDeque::new() })
    }

    fn rung(cure: Cure, step: &'static str, engine: fn() -> Box<dyn Interpolator>) -> Rung {
        Rung { cure, step, make: Box::new(move |_, _| Ok(engine())) }
    }

    fn frames() -> Vec<Frame> {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let format = PictureFormat { width_px: 2, height_px: 1, chroma, matrix, range };
        let one = |index: u8| Frame {
            index: u64::from(index),
            pts: Seconds::from_integer(i128::from(index)),
            duration: None,
            picture: Arc::new(Picture { format, planes: vec![vec![20 * index, 7 * index]] }),
        };
        (0..8).map(one).collect()
    }

    /// All pictures asked for at once, then collected.
    fn pictures(engine: &mut Steady) -> Result<Vec<Picture>, EngineError> {
        for pair in frames().windows(2) {
            engine.submit(&pair[0], &pair[1], &[0.25, 0.75])?;
        }
        (0..engine.waiting()).map(|_| engine.collect()).collect()
    }

    fn expected() -> Vec<Picture> {
        let frames = frames();
        let pairs = frames.windows(2);
        pairs.flat_map(|it| Blend.interpolate(&it[0], &it[1], &[0.25, 0.75]).unwrap()).collect()
    }

    #[test]
    fn no_picture_is_lost_or_changed_on_the_way_down() {
        let rungs = vec![
            rung(Cure::Memory, "smaller batches", || failing(2, crowded())),
            rung(Cure::Memory, "a lower flow scale", || failing(4, lost())),
            rung(Cure::Memory, "never taken: the device is gone", || failing(9, lost())),
            rung(Cure::Any, "the CPU", || Box::new(Blend)),
        ];
        let mut engine = Steady::new(failing(3, crowded()), rungs);
        assert_eq!(pictures(&mut engine).unwrap(), expected());
        let steps = engine.description().steps;
        assert_eq!(steps.len(), 3, "{steps:?}");
        assert!(
            steps[0].ends_with("smaller batches") && steps[2].ends_with("the CPU"),
            "{steps:?}"
        );
        assert!(steps[2].contains("lost"), "{steps:?}");
    }

    #[test]
    fn the_last_failure_is_told_and_nothing_waits_after_it() {
        let rungs = vec![rung(Cure::Memory, "smaller batches", || failing(1, crowded()))];
        let mut engine = Steady::new(failing(3, lost()), rungs);
        let error = pictures(&mut engine).unwrap_err();
        assert!(matches!(error, EngineError::Device(DeviceError::Lost { .. })), "{error}");
        assert_eq!(engine.waiting(), 0);
    }

    /// Compares nothing, and fails when it is asked for the result.
    struct Careless;

    impl Scorer for Careless {
        fn start(&mut self, _: &Picture, _: &[&Picture]) -> Result<bool, EngineError> {
            Ok(true)
        }

        fn finish(&mut self) -> Result<Option<Vec<Measures>>, EngineError> {
            Err(lost().into())
        }
    }

    impl Interpolator for Careless {
        fn interpolate(
            &mut self,
            a: &Frame,
            b: &Frame,
            t: &[f32],
        ) -> Result<Vec<Picture>, EngineError> {
            Blend.interpolate(a, b, t)
        }

        fn scorer(&mut self) -> Option<&mut dyn Scorer> {
            Some(self)
        }

        fn description(&self) -> EngineDescription {
            Blend.description()
        }
    }

    #[test]
    fn a_comparison_lost_with_its_device_is_said_to_be_lost() {
        let picture = &frames()[0].picture;
        let rungs = vec![rung(Cure::Any, "the CPU", || Box::new(Blend))];
        let mut engine = Steady::new(Box::new(Careless), rungs);
        // Nothing else is asked for: the comparison alone tells the next engine its format.
        assert!(engine.scorer().unwrap().start(picture, &[picture]).unwrap());
        assert_eq!(Scorer::finish(&mut engine).unwrap(), None);
        assert_eq!(engine.description().steps.len(), 1);
        assert!(engine.scorer().is_none(), "the CPU leaves it to its caller");
        let mut engine = Steady::new(Box::new(Careless), vec![]);
        assert!(Scorer::start(&mut engine, picture, &[picture]).unwrap());
        assert!(matches!(Scorer::finish(&mut engine), Err(EngineError::Device(_))));
    }
}
