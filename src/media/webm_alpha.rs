//! Transparency of VP8 and VP9: WebM keeps it beside each picture (BlockAdditional), as another picture, whose luma it is.
//!
//! FFmpeg's own decoders of both pass it over. So a second one decodes it, and it is put behind the planes of the frame that
//! it belongs to.

use std::collections::VecDeque;
use std::ffi::CString;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi::{self, AVPixelFormat};
use ffmpeg::format::context::Input;
use ffmpeg::frame::Video;
use ffmpeg::packet::side_data::{SideData, Type};

use super::raw::{self, StreamFacts};
use super::tags;

/// FFmpeg's name of the entry with which WebM says that a stream has transparency.
const MODE: &str = "alpha_mode";

/// Number of the addition that is transparency. FFmpeg puts it before the addition's bytes.
const NUMBER: [u8; 8] = 1_u64.to_be_bytes();

const OUT_OF_MEMORY: ffmpeg::Error = ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM };

/// Pictures that wait for theirs at the most: decoders of these codecs hold few back.
const MOST_WAITING: usize = 16;

/// Whether the container says that the stream has transparency beside its pictures.
pub(super) fn is_beside(input: &Input, facts: &StreamFacts) -> bool {
    use ffi::AVCodecID::{AV_CODEC_ID_VP8, AV_CODEC_ID_VP9};
    let says_so = |it: &(String, String)| it.0.eq_ignore_ascii_case(MODE) && it.1 == "1";
    matches!(facts.codec_id, AV_CODEC_ID_VP8 | AV_CODEC_ID_VP9)
        && tags::of_stream(input, facts.index).iter().any(says_so)
}

/// The pixel format that has a plane of transparency behind the planes of `format`; `None` where there is none.
pub(super) fn with_alpha(format: AVPixelFormat) -> Option<AVPixelFormat> {
    let name = raw::pixel_facts(format)?.name;
    named(&format!("yuva{}", name.strip_prefix("yuv")?))
}

#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn named(name: &str) -> Option<AVPixelFormat> {
    let name = CString::new(name).ok()?;
    // SAFETY: a C string, which is read alone.
    let found = unsafe { ffi::av_get_pix_fmt(name.as_ptr()) };
    Some(found).filter(|it| *it != AVPixelFormat::AV_PIX_FMT_NONE)
}

/// Decodes the transparency beside a stream's pictures.
pub(super) struct AlphaDecoder {
    decoder: ffmpeg::decoder::Opened,
    /// By time of the packet: what was beside it; `None` where that cannot be decoded.
    waiting: VecDeque<(Option<i64>, Option<Video>)>,
}

impl AlphaDecoder {
    /// With a decoder of the stream's codec that holds no picture back, as one of a single thread.
    pub(super) fn new(decoder: ffmpeg::decoder::Opened) -> Self {
        Self { decoder, waiting: VecDeque::new() }
    }

    /// Decodes what is beside the picture of `packet`.
    pub(super) fn take(&mut self, packet: &ffmpeg::Packet) {
        let is_alpha = |it: &SideData| {
            let is_addition = it.kind() == Type::MatroskaBlockAdditional;
            is_addition && it.data().starts_with(&NUMBER) && it.data().len() > NUMBER.len()
        };
        let Some(addition) = packet.side_data().find(is_alpha) else { return };
        let mut alpha = ffmpeg::Packet::copy(&addition.data()[NUMBER.len()..]);
        alpha.set_pts(packet.pts());
        let mut shown = None;
        let mut frame = Video::empty();
        if self.decoder.send_packet(&alpha).is_ok() {
            while self.decoder.receive_frame(&mut frame).is_ok() {
                shown = Some(std::mem::replace(&mut frame, Video::empty()));
            }
        }
        self.waiting.push_back((packet.pts(), shown));
        if self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Puts the transparency of a decoded frame behind its planes. All of a frame is seen that has none beside it. So it is
    /// where that cannot be decoded, and then the frame is marked as damaged.
    pub(super) fn add_to(&mut self, frame: &mut Video) -> Result<(), ffmpeg::Error> {
        let Some(format) = raw::frame_format(frame) else { return Ok(()) };
        let Some(seen) = with_alpha(format) else { return Ok(()) };
        let own = self.waiting.iter().position(|it| it.0 == frame.pts());
        let beside = own.and_then(|at| self.waiting.drain(..=at).next_back());
        let is_there = beside.is_some();
        let alpha = beside.and_then(|it| it.1).filter(|it| fits(it, frame, format));
        let is_whole = |it: &Video| !it.is_corrupt() && !it.has_decode_errors();
        let is_lost = is_there && !alpha.as_ref().is_some_and(is_whole);
        let alpha = alpha.map_or_else(|| opaque(frame, format), Ok)?;
        put_behind(frame, &alpha, (seen, is_lost))
    }
}

/// Whether the luma of `alpha` has the size and depth of a frame of `format`.
fn fits(alpha: &Video, frame: &Video, format: AVPixelFormat) -> bool {
    let depth = |format| raw::pixel_facts(format).map(|it| it.depth);
    (alpha.width(), alpha.height()) == (frame.width(), frame.height())
        && raw::frame_format(alpha).and_then(depth) == depth(format)
}

/// A picture of `format` whose luma lets all of `frame` be seen.
fn opaque(frame: &Video, format: AVPixelFormat) -> Result<Video, ffmpeg::Error> {
    let mut out = Video::new(format.into(), frame.width(), frame.height());
    if out.planes() == 0 {
        return Err(OUT_OF_MEMORY);
    }
    let luma = out.data_mut(0);
    match raw::pixel_facts(format).map_or(8, |it| it.depth) {
        ..=8 => luma.fill(u8::MAX),
        depth => {
            let peak = u16::MAX >> (16 - depth.min(16));
            luma.as_chunks_mut().0.fill(peak.to_le_bytes());
        }
    }
    Ok(out)
}

/// Makes the luma of `alpha` the last plane of `frame`, which is of `format` then.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn put_behind(
    frame: &mut Video,
    alpha: &Video,
    (format, is_lost): (AVPixelFormat, bool),
) -> Result<(), ffmpeg::Error> {
    // SAFETY: both frames are alive, and each is borrowed by nobody else.
    let (to, from) = unsafe { (&mut *frame.as_mut_ptr(), &*alpha.as_ptr()) };
    let Some(free) = to.buf.iter_mut().find(|it| it.is_null()) else {
        return Err(ffmpeg::Error::Bug);
    };
    // SAFETY: a frame with samples has a buffer that its first plane lies in; the reference is freed with `frame`.
    *free = unsafe { ffi::av_buffer_ref(from.buf[0]) };
    if free.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    // The formats of `with_alpha` have three planes before it.
    (to.data[3], to.linesize[3]) = (from.data[0], from.linesize[0]);
    to.format = format as i32;
    if is_lost {
        to.flags |= ffi::AV_FRAME_FLAG_CORRUPT;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_get_a_plane_behind_theirs_where_there_is_one() {
        use AVPixelFormat as P;
        for (format, expected) in [
            (P::AV_PIX_FMT_YUV420P, Some(P::AV_PIX_FMT_YUVA420P)),
            (P::AV_PIX_FMT_YUV444P, Some(P::AV_PIX_FMT_YUVA444P)),
            (P::AV_PIX_FMT_YUV420P10LE, Some(P::AV_PIX_FMT_YUVA420P10LE)),
            (P::AV_PIX_FMT_YUV420P12LE, None),
            (P::AV_PIX_FMT_GBRP, None),
            (P::AV_PIX_FMT_YUVA420P, None),
        ] {
            assert!(with_alpha(format) == expected, "{format:?}");
        }
    }
}
