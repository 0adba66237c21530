//! NVENC, the encoder on NVIDIA's GPUs, through FFmpeg's `*_nvenc`: what pictures it takes and how it is set up. What is
//! allowed here is what the generations from Pascal on have; Blackwell's 4:2:2 and 10-bit H.264 are not used.

use ffmpeg_next as ffmpeg;

use ffmpeg::format::Pixel;

use super::picture;
use crate::config::settings::{Codec, Encoding};
use crate::frame::{Chroma, Depth};

/// What to look for where it does not open: FFmpeg's own error says no more than that it does not.
pub(super) const HINT: &str = "`nvidia-smi` tells whether driver and GPU are there (A100, H100 and H200 have no encoder); pictures below \
                               some 150 pixels a side are too small for it; `encode_on` cpu goes without";

/// Most bits a sample.
pub(super) fn depth(codec: Codec) -> Depth {
    match codec {
        Codec::H265 | Codec::Av1 => Depth::Ten,
        Codec::H264 | Codec::Ffv1 => Depth::Eight,
    }
}

/// What pictures with `chroma` are encoded with.
pub(super) fn chroma(codec: Codec, chroma: Chroma) -> Chroma {
    match (codec, chroma) {
        (Codec::H264 | Codec::H265, Chroma::C444) => Chroma::C444,
        _ => Chroma::C420,
    }
}

/// The layout in which it takes pictures: planes for 8 bits. 10 bits lie at the top of 16, and in 4:2:0, which is P010, Cb and
/// Cr alternate.
pub(super) fn pixel(chroma: Chroma, depth: Depth) -> Pixel {
    match (chroma, depth) {
        (_, Depth::Eight) => picture::pixel(chroma, depth),
        (Chroma::C444, _) => Pixel::YUV444P16LE,
        _ => Pixel::P010LE,
    }
}

/// Constant quality, as configured or by default.
pub(super) fn options(encoding: &Encoding) -> Vec<(&'static str, String)> {
    let cq = encoding.crf.unwrap_or(match encoding.codec {
        Codec::H264 | Codec::Ffv1 => 18,
        Codec::H265 => 20,
        Codec::Av1 => 24,
    });
    let preset = encoding.preset.clone().unwrap_or_else(|| "p5".to_owned());
    vec![("rc", "vbr".to_owned()), ("cq", cq.to_string()), ("preset", preset)]
}
