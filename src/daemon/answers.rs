//! Which places do not answer, and what that means for the job that is at work there: the loop does not wait for it.

use std::time::Instant;

use crate::daemon::errands::Place;
use crate::daemon::events::Kind;
use crate::daemon::run::{Daemon, Running, TICK};
use crate::daemon::service::log_watch;

/// A loop that turns later than this stood still itself, and its threads with it.
const STOOD_STILL: u32 = 3;

impl Daemon {
    /// Finds the folders and outputs that do not answer, and those that do so again.
    pub(super) fn look_for_answers(&mut self, now: Instant) {
        if now.duration_since(self.last_turn) > TICK * STOOD_STILL {
            self.shop.errands.forgive(now);
        }
        self.last_turn = now;
        let hung = self.shop.errands.hung(now);
        let mut is_news = false;
        for (index, folder) in self.folders.list.iter_mut().enumerate() {
            is_news |= !folder.retired && folder.hangs(hung.get(&Place::Watch(index)), now);
        }
        for watch in &self.config.watches {
            let output = &watch.output;
            let found = hung.get(&Place::Output(output.clone()));
            if found.is_some() == self.shop.locks.is_hung(output) {
                continue;
            }
            let text = found.map(|it| it.text(now));
            let name = output.to_string_lossy();
            match &text {
                Some(text) => log_watch(log::Level::Warn, Kind::FolderHung, &name, text),
                None => log_watch(log::Level::Info, Kind::FolderHung, &name, "answers again"),
            }
            self.shop.locks.hangs(output, text.map(|it| format!("{}: {it}", output.display())));
            is_news = true;
        }
        if is_news {
            self.next_description = now;
            self.may_start = true;
        }
        self.set_aside_what_hangs(now);
    }

    /// Whether the folder or its output does not answer.
    pub(super) fn is_hung(&self, index: usize) -> bool {
        self.folders.hangs(&self.shop.locks, index)
    }

    /// The running job, where its folder or output does not answer and it has not advanced for as long: it is told to stop,
    /// and the next job begins beside it. It keeps its claim until its threads and its worker have ended, so that nobody
    /// else works the clip meanwhile; no other job of its folder begins.
    fn set_aside_what_hangs(&mut self, now: Instant) {
        let limit = self.shop.errands.limit();
        let is_stuck = |it: &Running| self.is_hung(it.key.0) && it.pulse.still_for(now) >= limit;
        if !self.running.as_ref().is_some_and(is_stuck) {
            return;
        }
        if let Some(running) = self.running.take() {
            log::warn!(MESSAGE_ID = Kind::JobNote.id(), SLOMOD_JOB = running.job; "job {}: set aside: its folder does not answer", running.job);
            running.stop.send_replace(true);
            self.set_aside.push(running);
            self.cancel_waits();
        }
    }

    /// A job that has not ended: the running one, or one that was set aside.
    pub(super) fn at_work(&mut self, job: i64) -> Option<&mut Running> {
        self.running.iter_mut().chain(&mut self.set_aside).find(|it| it.job == job)
    }

    /// Whether a job has not ended.
    pub(super) fn is_at_work(&self, job: i64) -> bool {
        self.running.iter().chain(&self.set_aside).any(|it| it.job == job)
    }

    /// Takes a job out that has ended.
    pub(super) fn take_out(&mut self, job: i64) -> Option<Running> {
        if let Some(running) = self.running.take_if(|it| it.job == job) {
            return Some(running);
        }
        let place = self.set_aside.iter().position(|it| it.job == job)?;
        Some(self.set_aside.remove(place))
    }
}
