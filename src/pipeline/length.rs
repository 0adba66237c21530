//! How long a clip may be.
//!
//! Nothing in memory grows with it, but time and disk do: eight hours of 1080p at four times as many frames are days of work
//! and, in slow motion, 32 hours of output, and a clip is worked as a whole. So one file must not take the queue for itself.

use std::path::Path;

use crate::frame::Seconds;
use crate::media::MediaError;
use crate::media::clip::ClipInfo;

/// Longest clip, in seconds: eight hours.
const LONGEST_S: i128 = 8 * 3600;
/// A clock may jump by hours within a clip of a minute, which the decoder repairs. So a duration is believed only where
/// the index has a frame for at least every so many seconds of it,
const LONGEST_GAP_S: i128 = 10;
/// or, without an index, where the file has this many bytes for each second: 32 kbit/s.
const LEAST_BYTES_A_SECOND: i128 = 4096;

/// Refuses a clip that its header says is too long, where that can be true.
pub fn check_header(info: &ClipInfo, size_bytes: u64) -> Result<(), MediaError> {
    let duration = info.video.duration.unwrap_or_default();
    let covered_s = match info.video.frames_promised.filter(|_| info.format.starts_with("mov")) {
        Some(frames) => i128::from(frames) * LONGEST_GAP_S,
        None => i128::from(size_bytes) / LEAST_BYTES_A_SECOND,
    };
    if duration > Seconds::from_integer(covered_s) {
        return Ok(());
    }
    check(&info.path, duration)
}

/// Refuses a clip that has come to `time` from its first frame.
pub fn check(path: &Path, time: Seconds) -> Result<(), MediaError> {
    if time <= Seconds::from_integer(LONGEST_S) {
        return Ok(());
    }
    let hours = time.to_integer() as f64 / 3600.0;
    let most = LONGEST_S / 3600;
    Err(MediaError::Unusable {
        path: path.to_owned(),
        code: "too_long",
        reason: format!(
            "it lasts {hours:.1} hours, and the most is {most}: cut it into shorter clips"
        ),
    })
}
