//! How far sound is from where its times say, and whether it is to be moved.
//!
//! Times of single frames are rounded, and those of some recorders tremble by milliseconds: to follow each would tear the
//! sound. What stays is no trembling: behind a clock that starts again all frames are off by the same, and slowed down eight
//! times, eight milliseconds are 64.

use num_rational::Ratio;

use crate::frame::Seconds;

/// Times that are off by less, in milliseconds of the source, are taken for rounding where it is not for long.
const TREMBLING_MS: i64 = 10;

/// What stays is let be up to so many milliseconds of the output, but never less of the source: a break is heard, and worse
/// than that.
const LASTING_OUTPUT_MS: i64 = 10;
const LASTING_LEAST_MS: i64 = 2;

/// In so many frames one after the other: a third of a second.
const LASTING_FRAMES: u32 = 16;

/// Follows how far frames of one stream are off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drift {
    /// Frames in a row that were off to one side by more than what is let be, and the least that they were off by.
    frames: u32,
    least: i64,
}

impl Drift {
    /// By how many samples a frame is to be moved that is `off` of them behind where it would go on, of `rate` a second, in
    /// sound that becomes so much longer: 0 where it goes on.
    pub(super) fn correction(&mut self, off: i64, rate: i64, stretch: Seconds) -> i64 {
        if off.abs() > TREMBLING_MS * rate / 1_000 {
            *self = Self::default();
            return off;
        }
        let of_output = Ratio::from_integer(i128::from(LASTING_OUTPUT_MS)) / stretch;
        let least_ms = of_output.max(Ratio::from_integer(i128::from(LASTING_LEAST_MS)));
        let let_be = least_ms * i128::from(rate) / 1_000;
        if Ratio::from_integer(i128::from(off.abs())) <= let_be {
            *self = Self::default();
            return 0;
        }
        if self.least.signum() != off.signum() {
            *self = Self { frames: 0, least: off };
        }
        self.frames += 1;
        self.least = if off.abs() < self.least.abs() { off } else { self.least };
        if self.frames < LASTING_FRAMES {
            return 0;
        }
        std::mem::take(self).least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: i64 = 48_000;

    /// Corrections of frames that are off by those many samples, each of which takes what was corrected off the later ones.
    fn corrected(offs: impl IntoIterator<Item = i64>, stretch: i128) -> Vec<i64> {
        let (mut drift, mut moved) = (Drift::default(), 0);
        let stretch = Ratio::from_integer(stretch);
        let one = |off| {
            let by = drift.correction(off - moved, RATE, stretch);
            moved += by;
            by
        };
        offs.into_iter().map(one).collect()
    }

    #[test]
    fn what_trembles_is_let_be_and_what_stays_is_not() {
        let trembling = (0..200).map(|at| [0, 300, -200, 470, -470][at % 5]);
        assert!(corrected(trembling, 8).iter().all(|it| *it == 0));
        // 8 ms from the tenth frame on, 64 in sound of eight times the length.
        let stays = |off: i64| (0..100).map(move |at| if at < 10 { at % 3 } else { off + at % 3 });
        for off in [384, -384] {
            let found = corrected(stays(off), 8);
            let (at, by) = found.iter().enumerate().find(|it| *it.1 != 0).unwrap();
            assert_eq!(at, 25);
            assert!((by - off).abs() <= 2, "{by}");
            assert_eq!(found.iter().filter(|it| **it != 0).count(), 1);
        }
        // At its own length and at twice that, 4 ms are let be.
        for stretch in [1, 2] {
            assert!(corrected(stays(192), stretch).iter().all(|it| *it == 0));
        }
        assert!(corrected(stays(192), 4).iter().any(|it| *it != 0));
        // However much longer it becomes, less than 2 ms are.
        assert!(corrected(stays(90), 16).iter().all(|it| *it == 0));
    }

    #[test]
    fn what_is_far_off_is_moved_at_once() {
        assert_eq!(corrected([0, 0, 481, 481, 481], 1), [0, 0, 481, 0, 0]);
        assert_eq!(corrected([0, -4_800, -4_800], 4), [0, -4_800, 0]);
    }

    #[test]
    fn a_clock_that_drifts_is_followed_in_small_steps() {
        // 100 ppm of frames of 1024 samples for ten minutes: 60 ms.
        let frames = (0..28_125).map(|at| at * 1024 / 10_000);
        let found = corrected(frames, 8);
        let moved: i64 = found.iter().sum();
        assert!((2_780..=2_880).contains(&moved), "{moved}");
        assert!(found.iter().all(|it| it.abs() < 120), "{:?}", found.iter().max());
    }
}
