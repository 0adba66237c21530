//! What a conversion finds out as it goes, for the report of one that ends with an error.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::engine::EngineDescription;
use crate::frame::Seconds;
use crate::media::clip::{ClipInfo, DecodeStats};
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::summary;
use crate::pipeline::tally::Tally;
use crate::pipeline::{ConvertError, Task};
use crate::report::findings::Unrecorded;
use crate::report::{self, Report};

/// What is known so far. What is not there had not been found out.
#[derive(Debug)]
pub struct Known {
    clock: Instant,
    started: String,
    /// The source before the work.
    pub(super) before: Option<Fingerprint>,
    /// The source as probed.
    pub(super) info: Option<ClipInfo>,
    /// Frames of the source.
    pub(super) counts: Option<Counts>,
    /// What runs the network, from when it had frames.
    pub(super) engine: Option<EngineDescription>,
}

/// Frames of the source, as far as they were decoded.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Handed out by the decoder.
    pub decoded: u64,
    /// Decoded with errors, or lost.
    pub corrupt: u64,
    /// Same picture as the one before.
    pub duplicates: u64,
    /// Whether gaps differ; absent below two frames.
    pub variable_rate: Option<bool>,
    /// From the first frame to the end of the last, where all were worked.
    pub duration: Option<Seconds>,
    /// Where the source's times leave out frames.
    pub gaps: Vec<Unrecorded>,
}

impl Counts {
    /// Those of a decoder and of what was made of its frames.
    #[must_use]
    pub fn of(stats: &DecodeStats, tally: &Tally) -> Self {
        Self {
            decoded: stats.decoded,
            corrupt: stats.corrupt,
            duplicates: tally.duplicates,
            variable_rate: tally.variable_rate(),
            duration: tally.source_end,
            gaps: tally.unrecorded.clone(),
        }
    }
}

impl Known {
    /// Nothing yet, from now on.
    #[must_use]
    pub fn start() -> Self {
        let (clock, started) = (Instant::now(), report::now_rfc3339());
        Self { clock, started, before: None, info: None, counts: None, engine: None }
    }

    /// When the work began. RFC 3339, UTC.
    pub(super) fn started(&self) -> &str {
        &self.started
    }

    /// How long ago that is.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Reads the source where that had not been done: an error that comes before the work says nothing of it. What
    /// cannot be read stays unknown.
    pub fn read_source(&mut self, task: &Task, error: &ConvertError, stop: &Arc<AtomicBool>) {
        // A pipe would be waited for without an end.
        let is_file = task.source.is_file();
        if is_file && self.before.is_none() && !matches!(error, ConvertError::Interrupted) {
            self.before = Fingerprint::take(&task.source, stop, &mut |_| {}).ok();
        }
    }

    /// The report of the conversion that ended with `error`.
    #[must_use]
    pub fn failure_report(&self, task: &Task, error: &ConvertError) -> Report {
        summary::failure(task, self, error)
    }
}
