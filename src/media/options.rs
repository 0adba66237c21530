//! Settings that encoders are opened with.

use ffmpeg_next::ffi;

use super::nvenc;
use crate::config::settings::{Codec, EncodeOn, Encoding};

/// Shortest side of a picture that FFV1 cuts into slices.
const FFV1_SLICED_SIDE_PX: u32 = 16;

/// The options of an encoder, as configured or by default.
pub(super) fn options(encoding: &Encoding, short_side: u32) -> Vec<(&'static str, String)> {
    let (crf, preset) = match encoding.codec {
        Codec::H264 | Codec::H265 | Codec::Av1 if encoding.encode_on == EncodeOn::Gpu => {
            return nvenc::options(encoding);
        }
        Codec::H264 => (18, "medium"),
        Codec::H265 => (20, "medium"),
        Codec::Av1 => (24, "8"),
        // Slices, which version 3 has, lose pictures of a few pixels.
        Codec::Ffv1 if short_side < FFV1_SLICED_SIDE_PX => {
            return vec![("level", "1".to_owned())];
        }
        Codec::Ffv1 => return vec![("level", "3".to_owned()), ("slicecrc", "1".to_owned())],
    };
    let crf = encoding.crf.unwrap_or(crf);
    let preset = encoding.preset.clone().unwrap_or_else(|| preset.to_owned());
    vec![("crf", crf.to_string()), ("preset", preset)]
}

/// Frames that x265 works on at once: from three on, which it takes by itself on eight cores, two runs of it (3.5) differ
/// where it weighs blocks by what refers to them (`cutree`).
const H265_FRAMES: u32 = 2;

/// Options that keep an encoder from writing to standard error, and make the same pictures into the same packets: x265
/// (3.5) weighs references by memory that nobody wrote, so that two runs differ at fades and cuts, and so does x264 (0.164)
/// where it looks ahead with AVX-512. Both decide otherwise with another number of threads, so that `threads`, where given,
/// stands for that of the processor's cores; of SVT-AV1 and FFV1 the result does not depend on it.
pub(super) fn fixed_options(
    encoding: &Encoding,
    (threads, gpu): (Option<u32>, Option<u32>),
    hdr: &str,
) -> Vec<(&'static str, String)> {
    #[cfg(target_arch = "x86_64")]
    let avx512 = std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let avx512 = false;
    let mut options = Vec::new();
    match encoding.codec {
        _ if encoding.encode_on == EncodeOn::Gpu => {
            options.extend(gpu.map(|it| ("gpu", it.to_string())));
            // With reordered pictures FFmpeg (5.1) gives packets times of decoding that are right only where a tick is a
            // frame.
            options.push(("bf", "0".to_owned()));
        }
        Codec::H264 => {
            options.extend(threads.map(|it| ("threads", it.to_string())));
            // Only where there is more: named instructions are used whether a processor has them or not.
            options.extend(avx512.then(|| ("x264-params", "asm=AVX2".to_owned())));
        }
        Codec::H265 => {
            let pools = threads.map_or_else(String::new, |it| format!(":pools={it}"));
            let params =
                format!("log-level=error:weightp=0:frame-threads={H265_FRAMES}{pools}{hdr}");
            options.push(("x265-params", params));
        }
        Codec::Av1 | Codec::Ffv1 => {}
    }
    options
}

/// Cores that encoders go by: those that this process may run on.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn cores() -> u32 {
    // SAFETY: takes nothing.
    u32::try_from(unsafe { ffi::av_cpu_count() }).unwrap_or(1)
}
