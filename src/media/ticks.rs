//! How finely the times of an output's video are counted.

use ffmpeg_next as ffmpeg;

use super::clip::WriteSpec;
use crate::frame::{Rate, Seconds};

/// Most ticks a second: a gap of seven minutes between frames still fits MP4's 32 bits.
const MAX_TICKS: i128 = 10_000_000;

/// Fewest ticks a second: where a stream names few (H.264 does), readers take one for a frame's duration.
const MIN_TICKS: i128 = 10_000;

/// Fewest ticks a second where times cannot all be whole.
const MIN_ROUNDED_TICKS: i128 = 90_000;

/// Seconds a tick of the encoder. Of a constant rate it is a frame, so that the stream names the rate as well as the header.
pub(super) fn time_base(spec: &WriteSpec, source_tick: Seconds) -> ffmpeg::Rational {
    let frame = (i32::try_from(*spec.rate.denom()), i32::try_from(*spec.rate.numer()));
    if let (true, (Ok(seconds), Ok(frames))) = (spec.constant, frame) {
        return ffmpeg::Rational::new(seconds, frames);
    }
    let ticks = ticks_a_second(spec.rate, spec.stretch, source_tick);
    ffmpeg::Rational::new(1, i32::try_from(ticks).unwrap_or(i32::MAX))
}

/// Ticks a second such that frames at the nominal rate, and source times stretched, are whole ticks. Where that takes
/// more than [`MAX_TICKS`], a multiple of the rate alone that rounds to [`MIN_ROUNDED_TICKS`] or finer (each time is
/// rounded by itself: errors do not add up).
fn ticks_a_second(rate: Rate, stretch: Seconds, source_tick: Seconds) -> i128 {
    let frames = *rate.numer();
    let stretched = *(source_tick * stretch).denom();
    let exact = frames / gcd(frames, stretched) * stretched;
    if exact <= MAX_TICKS {
        return exact * ((MIN_TICKS - 1) / exact + 1);
    }
    if frames > MAX_TICKS { MAX_TICKS } else { frames * (MIN_ROUNDED_TICKS / frames + 1) }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use num_rational::Ratio;

    use super::*;

    #[test]
    fn times_of_the_job_are_whole_ticks() {
        let r = Ratio::new;
        let one = r(1, 1);
        assert_eq!(ticks_a_second(r(24000, 1001), one, r(1, 90_000)), 360_000);
        assert_eq!(ticks_a_second(r(25, 1), one, r(1, 12_800)), 12_800);
        assert_eq!(ticks_a_second(r(25, 2), r(4, 1), r(1, 1000)), 10_000);
        assert_eq!(ticks_a_second(r(30, 1), r(10, 3), r(1, 1000)), 10_200);
        let rounded = ticks_a_second(r(30_011, 1), one, r(1, 1_000_003));
        assert!((MIN_ROUNDED_TICKS..=MAX_TICKS).contains(&rounded) && rounded % 30_011 == 0);
    }
}
