//! What a container says of how a picture is looked at: from within a sphere, or by two eyes.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi::AVPacketSideDataType as Kind;
use ffmpeg::format::context::{Input, Output};

use super::{raw, raw_output};

const KINDS: [(Kind, &str); 2] = [
    (Kind::AV_PKT_DATA_SPHERICAL, "spherical projection"),
    (Kind::AV_PKT_DATA_STEREO3D, "stereo layout"),
];

/// What a stream has: its name, and the projection or layout.
pub(super) fn of(input: &Input, index: usize) -> Vec<(&'static str, [u8; 4])> {
    let value = |(kind, name)| {
        let bytes = raw::stream_data(input, index, kind)?;
        // Both structures begin with their kind.
        Some((name, *bytes.first_chunk()?))
    };
    KINDS.into_iter().filter_map(value).collect()
}

/// Puts what a stream of the input has on one of the output; containers write what they can.
pub(super) fn copy(input: &Input, index: usize, output: &mut Output, to: usize) {
    for (kind, _) in KINDS {
        if let Some(bytes) = raw::stream_data(input, index, kind) {
            raw_output::set_stream_data(output, to, kind, &bytes);
        }
    }
}
