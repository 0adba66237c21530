//! Reads the finished output back: it is what was written, and its frames are what the list of frames says.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::settings::Codec;
use crate::frame::{Chroma, Frame, Picture, PictureFormat, Seconds};
use crate::media::clip::Verified;
use crate::media::verify;
use crate::pipeline::ConvertError;
use crate::pipeline::checks::{self, Written};
use crate::pipeline::convert::Session;
use crate::quality::holdout::Pooled;
use crate::report::provenance::RealFrames;

/// What was found in the finished output.
pub struct Inspected {
    /// Counts.
    pub verified: Verified,
    /// How its real frames compare with the source's, where the list of frames was asked for.
    pub real_frames: Option<RealFrames>,
    /// How many real frames were compared with the source's, and what the encoder did to them.
    pub encode: Option<(u64, Pooled)>,
    /// From the first frame to the end of the last: as written, and verified but for how long the last is shown.
    pub duration: Seconds,
}

impl Session<'_> {
    /// Decodes the finished file, and holds it to what was written.
    pub(super) fn inspect(&mut self) -> Result<Inspected, ConvertError> {
        let mut list = self.ledger.take().map(|it| it.close()?.complete()).transpose()?;
        let path = &self.task.temporary;
        let stop = self.stop;
        let flow = || match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let mut encode = std::mem::take(&mut self.encode_quality);
        let all = list.is_some();
        let source = self.info.video.picture;
        let wanted = encode.wanted();
        let wants = move |number: u64| all || wanted.contains(&number);
        let mut fault = None;
        let verified = verify::verify_pictures(path, &wants, &mut |number, frame| {
            self.say("verifying", number);
            let Some(frame) = frame else { return flow() };
            let gray = gray_again(source, frame);
            let frame = gray.as_ref().unwrap_or(frame);
            encode.compare(number, &frame.picture);
            match list.as_mut().map_or(Ok(()), |list| list.add(frame)) {
                Ok(()) => flow(),
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = fault {
            return Err(error.into());
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        let (last, duration) =
            self.newest.map_or_else(Default::default, |it| (it.pts, it.pts + it.duration));
        let written = Written { frames: self.tally.total(), last, rate: self.plan.rate };
        checks::verified(path, &written, &verified)?;
        let real_frames = list.map(|it| it.close()).transpose()?;
        self.untouched(&verified, real_frames)?;
        Ok(Inspected { verified, real_frames, encode: encode.finish(), duration })
    }

    /// A lossless encoder that was given the source's own format keeps every real frame.
    fn untouched(
        &self,
        verified: &Verified,
        real_frames: Option<RealFrames>,
    ) -> Result<(), ConvertError> {
        let Some(RealFrames { compared, identical }) = real_frames else { return Ok(()) };
        let video = &self.info.video;
        let found = verified.picture.map(|it| match is_gray_in_444(video.picture, it) {
            true => video.picture,
            false => it,
        });
        let is_lossless = self.task.settings.encoding.codec == Codec::Ffv1
            && (found, verified.alpha) == (Some(video.picture), video.alpha);
        if is_lossless && identical < compared {
            let reason = format!(
                "{} of {compared} real frames are not those of the source, though the encoder is lossless",
                compared - identical
            );
            return Err(ConvertError::Verify { path: self.task.temporary.clone(), reason });
        }
        Ok(())
    }
}

/// Whether gray of the source lies in 4:4:4 in the output: where transparency is kept that no gray format takes.
fn is_gray_in_444(source: PictureFormat, found: PictureFormat) -> bool {
    source.chroma == Chroma::Gray && found == PictureFormat { chroma: Chroma::C444, ..source }
}

/// A frame of such an output as the source has it; none of another one, nor of one that has color.
pub(super) fn gray_again(source: PictureFormat, frame: &Frame) -> Option<Frame> {
    let found = &frame.picture;
    let (luma, chroma) = found.planes.split_first()?;
    let neutral = (128 * source.depth.steps()).to_le_bytes();
    let mut samples = chroma.iter().flat_map(|it| it.chunks(source.depth.bytes()));
    let is_gray = is_gray_in_444(source, found.format)
        && samples.all(|it| neutral.get(..it.len()) == Some(it));
    let picture = || Picture { format: source, planes: vec![luma.clone()] };
    is_gray.then(|| Frame { picture: Arc::new(picture()), ..frame.clone() })
}
