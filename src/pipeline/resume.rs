//! Goes on behind the segments that an earlier run finished: their packets are written again, their frames passed over.
//!
//! The source is decoded from its beginning, which finds the same frames, cuts and duplicates as the run before; only the
//! network and the encoder have nothing to do until the first frame that is not finished.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use crate::engine::EngineDescription;
use crate::media::MediaError;
use crate::media::write::Writer;
use crate::pipeline::ConvertError;
use crate::pipeline::convert::{Session, View, laid_out};
use crate::pipeline::looking::Decoded;
use crate::pipeline::parts::{self, Parts, State};
use crate::pipeline::timeline::Timeline;
use crate::report;
use crate::report::timing::Resumption;

/// What a run began with.
#[derive(Default)]
pub struct Resumed {
    /// Source frames that were finished.
    pub frames_in: u64,
    /// Output frames that were finished.
    pub frames_out: u64,
    /// This resumption and those before.
    pub list: Vec<Resumption>,
    /// What earlier runs did because a device failed.
    steps: Vec<String>,
}

impl Resumed {
    /// What the engine is, and what was done in all runs because a device failed.
    pub fn engine(&self, mut now: EngineDescription) -> EngineDescription {
        let earlier = self.steps.iter().filter(|step| !now.steps.contains(step));
        now.steps = earlier.chain(&now.steps).cloned().collect();
        now
    }
}

impl Session<'_> {
    /// Writes the segments that are finished. Returns the folder where the next are kept, and where the clip stands.
    pub(super) fn take_up(
        &mut self,
        writer: &mut Writer,
    ) -> Result<(Option<Parts>, Option<State>), ConvertError> {
        let Some(folder) = &self.task.parts else { return Ok((None, None)) };
        let engine = self.asked.description();
        let identity =
            parts::identity(self.task, self.source, &engine, writer.identity(), &self.listed);
        let stop = self.stop;
        let (parts, taken) =
            Parts::open(folder, identity, stop, &mut |bytes| self.say("resuming", bytes))?;
        let Some(state) = taken.state else { return Ok((Some(parts), None)) };
        for packets in &taken.packets {
            let replayed = writer.replay(packets, &mut |count| {
                self.say("resuming", count);
                match stop.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            match replayed {
                // It was whole a moment ago. The next try begins anew.
                Err(MediaError::Read { path, source }) if path == *packets => {
                    let _ = parts::remove(folder);
                    return Err(ConvertError::Verify { path, reason: source.to_string() });
                }
                // The source's sound is read meanwhile: what fails there says nothing of the segments.
                other => other?,
            }
        }
        let now = Resumption {
            started: report::now_rfc3339(),
            segments: taken.packets.len() as u64,
            source_frame: state.frame,
            output_frame: state.tally.total(),
        };
        self.resumed = Resumed {
            frames_in: state.tally.frames_in,
            frames_out: state.tally.total(),
            list: parts.resumed(now)?,
            steps: state.steps.clone(),
        };
        Ok((Some(parts), Some(state)))
    }

    /// Goes on with the counts of `state`; takes decoded frames up to the one that the next segment begins with. Their
    /// output frames are laid out again for the list of frames.
    pub(super) fn go_on(
        &mut self,
        state: State,
        mut view: View,
        timeline: &mut Timeline,
        decoded: &Receiver<Result<Decoded, MediaError>>,
    ) -> Result<View, ConvertError> {
        self.tally = state.tally;
        self.scoring.go_on(state.holdout);
        while view.newest.index < state.frame {
            let next = decoded.recv().map_err(|_| ConvertError::Verify {
                path: self.task.source.clone(),
                reason: "fewer frames decode than when its segments were made".to_owned(),
            })??;
            if self.stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            let (passage, _) = next.compared();
            self.see(next.frame.index, next.hash);
            let places = laid_out(timeline, &view.newest, &next, passage);
            self.account(&places, &view.newest, Some(&next.frame), next.score())?;
            view = view.moved(next, passage);
            self.say("resuming", view.newest.index);
        }
        timeline.go_on(state.on_grid);
        Ok(view)
    }
}
