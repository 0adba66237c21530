//! Reads a finished file back: every frame is decoded and counted.

use std::ops::ControlFlow;
use std::path::Path;

use super::MediaError;
use super::clip::Verified;
use super::decode::Decoder;
use crate::frame::{Frame, Seconds};

/// Decodes the whole video of `path`.
///
/// # Errors
/// [`MediaError::Read`] and [`MediaError::Unusable`], as [`Decoder`]. Frames with errors are counted, not an error.
pub fn verify(path: &Path) -> Result<Verified, MediaError> {
    verify_watched(path, &mut |_| ControlFlow::Continue(()))
}

/// [`verify`], telling `each` the number of frames so far. Where that breaks off, what was decoded is reported.
///
/// # Errors
/// As [`verify`].
pub fn verify_watched(
    path: &Path,
    each: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Verified, MediaError> {
    let mut decoder = Decoder::open(path)?;
    let span = decoder.run_through(each)?;
    Ok(verified(&decoder, span))
}

/// [`verify_watched`], showing `each` those frames as well whose number `wants` them.
///
/// # Errors
/// As [`verify`].
pub fn verify_pictures(
    path: &Path,
    wants: &dyn Fn(u64) -> bool,
    each: &mut dyn FnMut(u64, Option<&Frame>) -> ControlFlow<()>,
) -> Result<Verified, MediaError> {
    let mut decoder = Decoder::open(path)?;
    let span = decoder.run_through_pictures(wants, each)?;
    Ok(verified(&decoder, span))
}

fn verified(decoder: &Decoder, span: Option<(Seconds, Seconds)>) -> Verified {
    let stats = decoder.stats();
    Verified {
        frames: stats.decoded,
        last: span.map_or_else(Seconds::default, |(first, last)| last - first),
        corrupt: stats.corrupt + u64::from(stats.truncated),
        picture: Some(decoder.info().video.picture),
        alpha: decoder.info().video.alpha,
    }
}
