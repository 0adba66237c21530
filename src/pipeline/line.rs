//! The output frames between the network and the encoder: each goes on in its turn, as soon as its picture is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use crate::frame::{Frame, Picture, Seconds};
use crate::pipeline::ConvertError;
use crate::pipeline::convert::{Session, View};
use crate::pipeline::scoring::HeldOut;
use crate::pipeline::stages::{Outgoing, ToEncoder};
use crate::pipeline::timeline::{Instant as Place, Passage, Shown};

/// Timesteps of a pair that the engine gets in one call at the most: bounds the memory of finished pictures.
const TIMESTEPS_AT_ONCE: usize = 4;
/// Output frames that wait for pictures at the most: bounds the memory of real frames behind them.
const LINE_LIMIT: usize = 64;

/// What waits for its turn, in output order; its picture may still be in the network.
pub(super) enum InLine {
    /// An output frame; without a picture, the engine's next one.
    Output {
        picture: Option<Arc<Picture>>,
        shown: Shown,
        /// The real frame that is nearer, for what a made one may not make up.
        nearest: Option<Arc<Picture>>,
        /// Its transparency, where the clip has any.
        alpha: Option<Arc<Picture>>,
        pts: Seconds,
        duration: Seconds,
    },
    /// The engine's next picture is a held-out frame.
    HeldOut(Box<HeldOut>),
}

impl Session<'_> {
    /// Sends the output frames of one gap, which is so sure, on their way to the encoder, in order.
    pub(super) fn emit(
        &mut self,
        places: &[Place],
        first: &Frame,
        second: Option<&Frame>,
        score: Option<f64>,
        encoder: &SyncSender<ToEncoder>,
    ) -> Result<(), ConvertError> {
        self.laid_out += places.len() as u64;
        self.account(places, first, second, score)?;
        for group in places.chunks(TIMESTEPS_AT_ONCE) {
            // A hole in the recording can be many frames.
            if self.stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            self.say("converting", 0);
            if let Some(second) = second {
                let timestep = |place: &Place| match place.shown {
                    Shown::Between { timestep, .. } | Shown::Instead { timestep, .. } => {
                        Some(timestep)
                    }
                    _ => None,
                };
                let timesteps: Vec<f32> = group.iter().filter_map(timestep).collect();
                self.asked.ask(first, second, &timesteps)?;
            }
            for place in group {
                let shared = |frame: &Frame| Some(Arc::clone(&frame.picture));
                let (picture, nearest) = match (place.shown, second) {
                    (Shown::Between { timestep, .. } | Shown::Instead { timestep, .. }, _) => {
                        let later = second.filter(|_| timestep >= 0.5);
                        (None, shared(later.unwrap_or(first)).filter(|_| self.masks.cover()))
                    }
                    (Shown::Real(index), Some(second)) if index == second.index => {
                        (shared(second), None)
                    }
                    (Shown::Real(_) | Shown::Held(_), _) => (shared(first), None),
                };
                let alpha = self.masks.alpha(place.shown, first, second);
                let Place { shown, pts, duration } = *place;
                self.newest = Some(*place);
                let output = InLine::Output { picture, shown, nearest, alpha, pts, duration };
                self.line.push_back(output);
            }
            let depth = self.asked.depth();
            self.advance(depth, encoder)?;
        }
        Ok(())
    }

    /// Writes down what output frames are, whether they are made now or were in an earlier run.
    pub(super) fn account(
        &mut self,
        places: &[Place],
        first: &Frame,
        second: Option<&Frame>,
        score: Option<f64>,
    ) -> Result<(), ConvertError> {
        self.encode_quality.lay_out(self.accounted, places, first, second);
        self.accounted += places.len() as u64;
        match &mut self.ledger {
            Some(ledger) => Ok(ledger.add(places, first, second, score)?),
            None => Ok(()),
        }
    }

    /// Sends what is next in line to the encoder, down to `depth` pictures that the engine still works on.
    pub(super) fn advance(
        &mut self,
        depth: usize,
        encoder: &SyncSender<ToEncoder>,
    ) -> Result<(), ConvertError> {
        while let Some(next) = self.line.pop_front() {
            let is_there = matches!(&next, InLine::Output { picture: Some(_), .. });
            if !is_there && self.asked.waiting() <= depth && self.line.len() < LINE_LIMIT {
                self.line.push_front(next);
                return Ok(());
            }
            match next {
                InLine::Output { picture, shown, nearest, alpha, pts, duration } => {
                    let picture = match picture {
                        Some(picture) => picture,
                        None => Arc::new(self.masks.applied(self.asked.collect()?, nearest)),
                    };
                    let outgoing = Outgoing { picture, alpha, pts, duration };
                    if encoder.send(ToEncoder::Frame(outgoing)).is_err() {
                        return Err(ConvertError::Interrupted);
                    }
                    self.tally.add(shown);
                }
                InLine::HeldOut(held_out) => {
                    let made = self.asked.collect()?;
                    self.scoring.score(*held_out, made, self.asked.scorer())?;
                }
            }
        }
        Ok(())
    }

    /// Asks for the middle of three real frames from the outer two.
    pub(super) fn hold_out(
        &mut self,
        view: &View,
        newest: &Frame,
        passage: Passage,
    ) -> Result<(), ConvertError> {
        let middle = &view.newest;
        let Some((oldest, Passage::Open)) = &view.before else { return Ok(()) };
        if passage == Passage::Barred {
            return Ok(());
        }
        if !self.scoring.wants(middle.index) {
            return Ok(());
        }
        let part = (middle.pts - oldest.pts) / (newest.pts - oldest.pts);
        let timestep = (*part.numer() as f64 / *part.denom() as f64) as f32;
        self.asked.ask(oldest, newest, &[timestep])?;
        let (oldest, middle, newest) = (oldest.clone(), middle.clone(), newest.clone());
        self.line.push_back(InLine::HeldOut(Box::new(HeldOut {
            oldest,
            middle,
            newest,
            timestep,
        })));
        Ok(())
    }
}
