//! How stored pictures are to be turned and mirrored for display: by their container, or by themselves.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::frame::{Video, side_data};

use super::raw;

/// The 3x3 display matrix of the stream, if the container gives it one.
pub(super) fn of_stream(input: &Input, index: usize) -> Option<[i32; 9]> {
    read(&raw::stream_data(input, index, ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX)?)
}

/// That of a picture which says itself that it is not to be shown as it is stored, as JPEGs of cameras do.
pub(super) fn of_frame(frame: &Video) -> Option<[i32; 9]> {
    let matrix = read(frame.side_data(side_data::Type::DisplayMatrix)?.data())?;
    let is_plain = orientation(&matrix) == (0, false);
    (!is_plain).then(|| at_origin(matrix, (frame.width(), frame.height())))
}

/// The matrix for a picture of that size that lies at the origin before and behind, which pictures do not say and containers do.
fn at_origin(mut matrix: [i32; 9], (width, height): (u32, u32)) -> [i32; 9] {
    // Where a corner lies beyond it.
    let beyond = |by_width: i32, by_height: i32| {
        let far = |by: i32, side: u32| (i64::from(by) * i64::from(side)).min(0);
        i32::try_from(-far(by_width, width) - far(by_height, height)).unwrap_or(0)
    };
    (matrix[6], matrix[7]) = (beyond(matrix[0], matrix[3]), beyond(matrix[1], matrix[4]));
    matrix
}

fn read(bytes: &[u8]) -> Option<[i32; 9]> {
    let words: &[[u8; 4]; 9] = bytes.as_chunks::<4>().0.first_chunk()?;
    Some(words.map(i32::from_ne_bytes))
}

/// Clockwise degrees, 0..360, that the matrix turns the stored picture for display, and whether it mirrors it left to right
/// before.
pub(super) fn orientation(matrix: &[i32; 9]) -> (i32, bool) {
    let [a, b, c, d] = [0, 1, 3, 4].map(|at| i64::from(matrix[at]));
    let mirrored = a * d - b * c < 0;
    let mut turned = *matrix;
    if mirrored {
        [0, 1, 2].into_iter().for_each(|at| turned[at] = turned[at].saturating_neg());
    }
    (rotation_degrees(&turned), mirrored)
}

#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn rotation_degrees(matrix: &[i32; 9]) -> i32 {
    // SAFETY: nine integers, as FFmpeg asks.
    let counter_clockwise = unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
    if counter_clockwise.is_nan() {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within -180..=180 by its contract")]
    let degrees = -counter_clockwise.round() as i32;
    degrees.rem_euclid(360)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 1 << 16;

    #[test]
    fn a_turned_picture_stays_at_the_origin() {
        for (stored, at) in [
            ([0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30], (48, 0)),
            ([0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30], (0, 64)),
            ([-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30], (64, 48)),
            ([-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30], (64, 0)),
        ] {
            let found = at_origin(stored, (64, 48));
            assert_eq!((found[6] >> 16, found[7] >> 16), at, "{stored:?}");
            assert_eq!((&found[..6], found[8]), (&stored[..6], stored[8]));
        }
        assert_eq!(of_frame(&Video::empty()), None);
    }
}
