//! Fields of the report about when the work was done, and how fast.

use serde::{Deserialize, Serialize};

use crate::report;

/// How fast. Rates are frames a second of that stage's own busy time, unless said otherwise. A job that was interrupted
/// and taken up again has the times and speeds of its last run alone: frames that were finished before are not counted in a speed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// When the daemon took the file in. RFC 3339, UTC; absent by hand.
    #[serde(default)]
    pub queued: Option<String>,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub finished: String,
    /// From start to verified output, or to the error.
    pub wall_s: f64,
    /// Source frames a second of the decoder.
    pub decode_fps: Option<f64>,
    /// Source frames a second that are judged: cuts, repeats, confidence, bars, and hashes where they are asked for.
    #[serde(default)]
    pub look_fps: Option<f64>,
    /// Synthesised frames a second of the network, the held-out ones included.
    pub network_fps: Option<f64>,
    /// Output frames a second of the encoder.
    pub encode_fps: Option<f64>,
    /// Output frames a second of `wall_s`.
    pub end_to_end_fps: Option<f64>,
    /// Seconds of the source that a second of work makes; absent where the job was taken up after an interruption.
    #[serde(default)]
    pub realtime_factor: Option<f64>,
    /// Peak resident memory of the process.
    pub rss_peak_bytes: Option<u64>,
    /// The most memory of the GPU that the network had at a time, without what the driver takes for itself; absent where it
    /// ended on the processor.
    #[serde(default)]
    pub gpu_mem_peak_bytes: Option<u64>,
    /// Where the job was taken up after an interruption, in order; empty where it ran through.
    #[serde(default)]
    pub resumed: Vec<Resumption>,
}

impl Timing {
    /// Of a job that ended, now, before there was anything to measure.
    #[must_use]
    pub fn none() -> Self {
        let now = report::now_rfc3339();
        Self { started: now.clone(), finished: now, ..Self::default() }
    }
}

/// A try of the daemon at a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1; those before the first listed were left out.
    pub number: u64,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; absent of the one that wrote the report.
    pub ended: Option<String>,
    /// Why it ended without a result, in a word such as `worker_crashed`; absent of the one that wrote the report.
    pub code: Option<String>,
}

/// Where an interrupted job was taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    /// When that run began. RFC 3339, UTC.
    pub started: String,
    /// Finished segments of earlier runs that it began with.
    pub segments: u64,
    /// Source frame from which it worked.
    pub source_frame: u64,
    /// Output frame from which it worked.
    pub output_frame: u64,
}
