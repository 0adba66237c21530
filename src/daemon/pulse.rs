//! Whether the running job advances: while it does, the service manager's watchdog is fed.
//!
//! A worker that hangs is ended by [`crate::daemon::worker`] after `stall_timeout`. One that cannot even be ended (a
//! driver that never returns) leaves the job where it is; then the pulse stops, and the service manager ends them all.

use std::time::{Duration, Instant};

use crate::daemon::worker::{Limits, moved};
use crate::pipeline::Progress;

/// What a job may do besides the worker's own times: hash, publish, write the journal.
const MARGIN: Duration = Duration::from_secs(60);

/// When a job last advanced.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    last: Instant,
    patience: Duration,
}

impl Pulse {
    /// A job begins, whose worker has these limits.
    #[must_use]
    pub fn begin(limits: Limits, now: Instant) -> Self {
        Self { last: now, patience: limits.stall + limits.stop + MARGIN }
    }

    /// The worker said `next` after `before`.
    pub fn note(&mut self, before: &Progress, next: &Progress, now: Instant) {
        if moved(before, next) {
            self.last = now;
        }
    }

    /// How long ago it advanced.
    #[must_use]
    pub fn still_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    /// Whether work advances, or did not long enough ago.
    #[must_use]
    pub fn beats(&self, now: Instant) -> bool {
        now.duration_since(self.last) < self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { stall: Duration::from_secs(600), stop: Duration::from_secs(90) };

    fn at(frames_in: u64, fps: f64) -> Progress {
        Progress { frames_in, fps, ..Progress::default() }
    }

    /// S04.
    #[test]
    fn a_job_of_three_hours_that_advances_once_in_nine_minutes_keeps_its_pulse() {
        let start = Instant::now();
        let mut pulse = Pulse::begin(LIMITS, start);
        for minute in 0..180 {
            let now = start + Duration::from_secs(60 * minute);
            assert!(pulse.beats(now), "minute {minute}");
            let frames = minute / 9;
            pulse.note(
                &at(frames.saturating_sub(u64::from(minute % 9 == 0)), 1.0),
                &at(frames, 1.0),
                now,
            );
        }
    }

    /// S04.
    #[test]
    fn a_job_that_only_repeats_itself_loses_its_pulse_after_its_worker_should_have_been_ended() {
        let start = Instant::now();
        let mut pulse = Pulse::begin(LIMITS, start);
        let patience = LIMITS.stall + LIMITS.stop;
        for second in 1..=patience.as_secs() {
            let now = start + Duration::from_secs(second);
            pulse.note(&at(7, second as f64), &at(7, second as f64 + 1.0), now);
            assert!(pulse.beats(now), "second {second}: the worker's own limits come first");
        }
        assert!(!pulse.beats(start + patience + MARGIN));
    }
}
