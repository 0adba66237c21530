//! How long a clip may be.
//!
//! Nothing in memory grows with it, but time and disk do: ten hours of 1080p at four times as many frames are days of work
//! and forty hours of output, and a clip is worked as a whole. So one file must not take the queue for itself.

use std::path::Path;

use crate::frame::Seconds;
use crate::media::MediaError;
use crate::media::clip::ClipInfo;

/// Longest clip, in seconds: eight hours.
const LONGEST_S: i128 = 8 * 3600;
/// A file with fewer bytes for each second of its header's duration has no clip of that duration: its clock jumps, which
/// the decoder repairs.
const LEAST_BYTES_A_SECOND: i128 = 8;

/// Refuses a clip that its header says is too long, where the file is large enough for that to be true.
pub fn check_header(info: &ClipInfo, size_bytes: u64) -> Result<(), MediaError> {
    let duration = info.video.duration.unwrap_or_default();
    if duration * LEAST_BYTES_A_SECOND > Seconds::from_integer(i128::from(size_bytes)) {
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
