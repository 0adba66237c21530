//! How often progress is told.

use std::time::{Duration, Instant};

/// Least time between two progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Lets progress through at most every [`PROGRESS_INTERVAL`].
#[derive(Default)]
pub struct Pace(Option<Instant>);

impl Pace {
    /// Whether it is time for a message; then the next is due later.
    pub fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
