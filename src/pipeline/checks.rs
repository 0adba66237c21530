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
    /// From the first frame's time to that of the last. Where the last ends is no measure: packets do not say that (never in
    /// Matroska, not behind B-frames in MP4).
    pub last: Seconds,
    /// Nominal rate; the last frame may be off by two of its frames.
    pub rate: Rate,
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
    let (expected, shown) = (written.last, found.last);
    let off = if expected > shown { expected - shown } else { shown - expected };
    if off > written.rate.recip() * 2 {
        let seconds = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
        return Err(fault(format!(
            "its last frame should be shown at {:.4} s and is at {:.4} s",
            seconds(expected),
            seconds(shown)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_lost_doubled_or_shifted_are_noticed() {
        let of = |count: i128| Seconds::new(count, 25);
        let written = Written { frames: 100, last: of(99), rate: Rate::from_integer(25) };
        let found = |frames, last| {
            let found = Verified { frames, last, corrupt: 0, picture: None, alpha: false };
            verified(Path::new("out.mp4"), &written, &found)
        };
        assert!(found(100, of(99)).is_ok());
        for (frames, last) in [(99, of(99)), (101, of(99)), (100, of(96)), (100, of(102))] {
            assert!(found(frames, last).is_err(), "{frames} {last}");
        }
        let damaged =
            Verified { frames: 100, last: of(99), corrupt: 1, picture: None, alpha: false };
        assert!(verified(Path::new("out.mp4"), &written, &damaged).is_err());
    }
}
