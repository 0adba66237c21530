//! How finely the times of an output's video are counted.

use ffmpeg_next as ffmpeg;

use super::clip::WriteSpec;
use super::clock::Clock;
use crate::frame::{Rate, Seconds};

/// Most ticks a second.
const MAX_TICKS: i128 = 10_000_000;

/// Most ticks between two frames: FFmpeg's MP4 counts them in 31 bits.
const MAX_TICKS_APART: i128 = i32::MAX as i128;

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
/// more than [`max_ticks`], a multiple of the rate alone that rounds to [`MIN_ROUNDED_TICKS`] or finer (each time is
/// rounded by itself: errors do not add up).
fn ticks_a_second(rate: Rate, stretch: Seconds, source_tick: Seconds) -> i128 {
    let frames = *rate.numer();
    let stretched = *(source_tick * stretch).denom();
    let exact = frames / gcd(frames, stretched) * stretched;
    let max = max_ticks(stretch);
    if exact <= max {
        return exact * ((MIN_TICKS - 1) / exact + 1);
    }
    if frames > max { max } else { frames * (MIN_ROUNDED_TICKS / frames + 1).min(max / frames) }
}

/// Most ticks a second with which the longest pause between two frames can be counted, however it is stretched.
fn max_ticks(stretch: Seconds) -> i128 {
    let pause = stretch.max(Seconds::from_integer(1)) * Clock::AHEAD_S;
    (Seconds::from_integer(MAX_TICKS_APART) / pause).to_integer().min(MAX_TICKS)
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

    #[test]
    fn the_longest_pause_can_be_counted() {
        let (rates, ticks) = ([(25, 1), (30_011, 7), (24_000, 1001)], [1_000, 90_000, 1_000_003]);
        for stretch in [(1, 4), (1, 1), (2, 1), (10, 3), (16, 1)].map(|(n, d)| Ratio::new(n, d)) {
            for (rate, tick) in rates.iter().flat_map(|rate| ticks.map(|tick| (rate, tick))) {
                let rate = Ratio::new(rate.0, rate.1);
                let found = ticks_a_second(rate, stretch, Ratio::new(1, tick));
                let pause = stretch.max(Ratio::from_integer(1)) * Clock::AHEAD_S;
                assert!(pause * found <= Ratio::from_integer(MAX_TICKS_APART), "{rate} {stretch}");
                assert!(found >= MIN_TICKS, "{rate} {stretch} {tick}: {found}");
            }
        }
    }
}
