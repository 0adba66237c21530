//! Asks an engine for pictures, ahead of time where it can work on its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::{EngineDescription, EngineError, Interpolator, Scorer};
use crate::frame::{Frame, Picture};

/// An engine and what was asked of it.
pub struct Asked<'a> {
    engine: &'a mut dyn Interpolator,
    /// Finished pictures of an engine that does not work ahead.
    ready: VecDeque<Picture>,
    /// Since when pictures are waiting.
    since: Option<Instant>,
    busy: Duration,
    pictures: u64,
}

impl<'a> Asked<'a> {
    /// Nothing asked yet.
    pub fn new(engine: &'a mut dyn Interpolator) -> Self {
        Self { engine, ready: VecDeque::new(), since: None, busy: Duration::ZERO, pictures: 0 }
    }

    /// Asks for the pictures at `timesteps`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn ask(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<(), EngineError> {
        if timesteps.is_empty() {
            return Ok(());
        }
        self.since.get_or_insert_with(Instant::now);
        match self.engine.ahead() {
            Some(ahead) => ahead.submit(img0, img1, timesteps)?,
            None => {
                let pictures = self.engine.interpolate(img0, img1, timesteps)?;
                assert_eq!(pictures.len(), timesteps.len(), "one picture for each timestep");
                self.ready.extend(pictures);
                self.pause();
            }
        }
        self.pictures += timesteps.len() as u64;
        Ok(())
    }

    /// The next picture in the order of asking.
    ///
    /// # Errors
    /// Those of the engine.
    ///
    /// # Panics
    /// If none was asked for.
    pub fn collect(&mut self) -> Result<Picture, EngineError> {
        if let Some(picture) = self.ready.pop_front() {
            return Ok(picture);
        }
        let Some(ahead) = self.engine.ahead() else {
            unreachable!("the engine makes one picture for each timestep")
        };
        let picture = ahead.collect()?;
        if ahead.waiting() == 0 {
            self.pause();
        }
        Ok(picture)
    }

    /// Pictures asked for and not collected.
    pub fn waiting(&mut self) -> usize {
        self.ready.len() + self.engine.ahead().map_or(0, |ahead| ahead.waiting())
    }

    /// Pictures to leave waiting, so that the engine has something to do.
    pub fn depth(&mut self) -> usize {
        self.engine.ahead().map_or(0, |ahead| ahead.depth())
    }

    /// Time in which pictures were waited for or made: at least what the network took.
    pub fn busy(&self) -> Duration {
        self.busy + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Pictures asked for so far.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// What compares pictures on the engine's device.
    pub fn scorer(&mut self) -> Option<&mut dyn Scorer> {
        self.engine.scorer()
    }

    /// What the engine is.
    pub fn description(&self) -> EngineDescription {
        self.engine.description()
    }

    fn pause(&mut self) {
        self.busy += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }
}
