//! How often progress is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::pipeline::ConvertError;

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

/// What a long piece of work tells while it advances, and whether it is to go on.
pub struct Beat<'a> {
    /// Set where it is to stop.
    pub stop: &'a Arc<AtomicBool>,
    /// Told of every small step.
    pub advanced: &'a mut dyn FnMut(),
}

impl Beat<'_> {
    /// A small step was made.
    ///
    /// # Errors
    /// [`ConvertError::Interrupted`] where it is to stop.
    pub fn step(&mut self) -> Result<(), ConvertError> {
        (self.advanced)();
        if self.stop.load(Ordering::Relaxed) { Err(ConvertError::Interrupted) } else { Ok(()) }
    }
}
