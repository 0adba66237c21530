//! Whether a source was whole and an output is what was written.

use std::path::Path;

use crate::frame::{Rate, Seconds};
use crate::media::MediaError;
use crate::media::clip::{ClipInfo, DecodeStats, Verified};
use crate::media::complete;
use crate::pipeline::ConvertError;

/// What was written into an output.
pub struct Written {
    /// Video frames.
    pub frames: u64,
    /// From the first frame to the end of the last.
    pub duration: Seconds,
    /// Nominal rate; the duration may be off by two of its frames.
    pub rate: Rate,
    /// How long the last frame is shown.
    pub shown: Seconds,
}

/// A clip that falls short of what its container promises is not passed off as whole.
///
/// # Errors
/// [`MediaError::Unusable`] with the code `truncated`.
pub fn complete(source: &Path, info: &ClipInfo, stats: &DecodeStats) -> Result<(), ConvertError> {
    if !stats.truncated {
        return Ok(());
    }
    let promised = info.video.frames_promised.map_or("more".into(), |it| it.to_string());
    let first = stats.errors.first().map_or(String::new(), |it| format!(" ({it})"));
    Err(ConvertError::Media(MediaError::Unusable {
        path: source.to_owned(),
        code: "truncated",
        reason: format!(
            "the container promises {promised} frames and {} can be decoded{first}; {}",
            stats.decoded,
            complete::what_to_do(source)
        ),
    }))
}

/// Holds what decoding the output at `path` showed to what was written.
///
/// # Errors
/// [`ConvertError::Verify`].
pub fn verified(path: &Path, written: &Written, found: &Verified) -> Result<(), ConvertError> {
    let fault = |reason: String| ConvertError::Verify { path: path.to_owned(), reason };
    if found.frames != written.frames || found.corrupt > 0 {
        return Err(fault(format!(
            "{} frames were written, {} decode, {} of them damaged",
            written.frames, found.frames, found.corrupt
        )));
    }
    let (expected, lasts) = (written.duration, found.duration);
    let off = if expected > lasts { expected - lasts } else { lasts - expected };
    // Packets do not say how long the last frame is shown (never in Matroska, not behind B-frames in MP4).
    let usual = written.rate.recip();
    let unsaid = if written.shown > usual { written.shown - usual } else { Seconds::default() };
    if off > usual * 2 + unsaid {
        let seconds = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
        return Err(fault(format!(
            "it should last {:.4} s and lasts {:.4} s",
            seconds(expected),
            seconds(lasts)
        )));
    }
    Ok(())
}
