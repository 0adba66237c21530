//! Asks an engine for pictures, ahead of time where it can work on its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{EngineDescription, EngineError, Interpolator, Scorer};
use crate::frame::{Frame, Picture};
use crate::pipeline::bars::Bars;

/// Filled frames that are kept: those of the newest pair, and of a held-out one.
const FILLED_KEPT: usize = 4;
/// Engines keep features by the number of a frame; one with other bars is another frame, this far behind.
const GENERATION: u64 = 1 << 40;

/// An engine and what was asked of it.
pub struct Asked<'a> {
    engine: &'a mut dyn Interpolator,
    /// Finished pictures of an engine that does not work ahead.
    ready: VecDeque<Picture>,
    /// Since when pictures are waiting.
    since: Option<Instant>,
    busy: Duration,
    pictures: u64,
    /// Black bars of the frames, which the engine does not see.
    bars: Bars,
    /// How often they changed.
    generation: u64,
    filled: VecDeque<Frame>,
    /// For every picture asked for, where its bars are taken from.
    barred: VecDeque<Option<(Arc<Picture>, Bars)>>,
}

impl<'a> Asked<'a> {
    /// Nothing asked yet.
    pub fn new(engine: &'a mut dyn Interpolator) -> Self {
        Self {
            engine,
            ready: VecDeque::new(),
            since: None,
            busy: Duration::ZERO,
            pictures: 0,
            bars: Bars::default(),
            generation: 0,
            filled: VecDeque::new(),
            barred: VecDeque::new(),
        }
    }

    /// The black bars of frames that are asked about from now on.
    pub fn set_bars(&mut self, bars: Bars) {
        if bars != self.bars {
            self.bars = bars;
            self.generation += 1;
            self.filled.clear();
        }
    }

    /// The frame as the engine sees it.
    fn seen(&mut self, frame: &Frame) -> Frame {
        let index = frame.index + self.generation * GENERATION;
        if self.bars.are_none() {
            return Frame { index, ..frame.clone() };
        }
        if let Some(known) = self.filled.iter().find(|it| it.index == index) {
            return known.clone();
        }
        let picture = Arc::new(self.bars.fill(&frame.picture));
        let filled = Frame { index, picture, ..frame.clone() };
        if self.filled.len() == FILLED_KEPT {
            self.filled.pop_front();
        }
        self.filled.push_back(filled.clone());
        filled
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
        let real = (!self.bars.are_none()).then(|| (Arc::clone(&img0.picture), self.bars));
        self.barred.extend(timesteps.iter().map(|_| real.clone()));
        let (img0, img1) = (&self.seen(img0), &self.seen(img1));
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
        let mut picture = self.collect_seen()?;
        if let Some((real, bars)) = self.barred.pop_front().flatten() {
            bars.put_back(&real, &mut picture);
        }
        Ok(picture)
    }

    fn collect_seen(&mut self) -> Result<Picture, EngineError> {
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
