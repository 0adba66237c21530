//! Times of which a clip has no frames, though nothing in it is damaged: a camera left them out, or lost them.
//!
//! A recorder that cannot keep up stores one long frame for those that it dropped. A frame that is missing here and there
//! is a variable rate, whose motion can be followed; over a longer time anything may have happened.

use std::collections::VecDeque;

use crate::frame::{Rate, Seconds};

/// A gap is one in the recording from this many usual ones on.
const FROM_GAPS: i128 = 4;
/// And only from this length on: what is shorter can be followed at any rate.
const FROM: Seconds = Seconds::new_raw(1, 4);
/// Gaps that say what is usual: a rate that stays is the new usual one half of them later.
const KNOWN: usize = 16;
/// With fewer the nominal rate says it.
const KNOWN_LEAST: usize = 4;

/// Watches the gaps between the frames of a clip, in order.
#[derive(Debug)]
pub struct Recording {
    nominal: Option<Seconds>,
    /// The newest gaps, the oldest of them first.
    newest: VecDeque<Seconds>,
}

impl Recording {
    /// Of a clip with that nominal rate.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        let nominal = rate.filter(|it| *it > Rate::default()).map(|it| it.recip());
        Self { nominal, newest: VecDeque::with_capacity(KNOWN) }
    }

    /// How many frames are missing in the next gap, by the gaps before it: 0 where it is one as others are.
    pub fn missing(&mut self, gap: Seconds) -> u64 {
        let usual = self.usual();
        if self.newest.len() == KNOWN {
            self.newest.pop_front();
        }
        self.newest.push_back(gap);
        let Some(usual) = usual.filter(|it| gap >= FROM && gap >= *it * FROM_GAPS) else {
            return 0;
        };
        let frames = u64::try_from((gap / usual).round().to_integer()).unwrap_or(u64::MAX);
        frames.saturating_sub(1)
    }

    fn usual(&self) -> Option<Seconds> {
        if self.newest.len() < KNOWN_LEAST {
            return self.nominal;
        }
        let mut sorted: Vec<_> = self.newest.iter().copied().collect();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().filter(|it| *it > Seconds::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(rate: Option<Rate>, gaps_ms: &[i128]) -> Vec<u64> {
        let mut recording = Recording::new(rate);
        gaps_ms.iter().map(|it| recording.missing(Seconds::new(*it, 1000))).collect()
    }

    fn rate(n: i128, d: i128) -> Option<Rate> {
        Some(Rate::new(n, d))
    }

    /// V04.
    #[test]
    fn a_long_gap_is_counted_in_usual_frames_and_frames_missing_here_and_there_are_none() {
        assert_eq!(missing(rate(25, 1), &[40, 40, 1000, 40]), [0, 0, 24, 0]);
        // By the nominal rate, which the gap itself makes slower, and by the gaps once there are some.
        assert_eq!(missing(rate(10, 1), &[1000, 40, 40, 40, 40, 390]), [9, 0, 0, 0, 0, 9]);
        let every_seventh: Vec<i128> = (0..60).map(|n| if n % 6 == 5 { 66 } else { 33 }).collect();
        assert!(missing(rate(103, 4), &every_seventh).iter().all(|it| *it == 0));
        // Eight of 60 a second are less than a quarter of a second.
        assert_eq!(missing(rate(60, 1), &[16, 17, 133, 16]), [0, 0, 0, 0]);
    }

    #[test]
    fn slow_rates_have_no_gaps_and_a_rate_that_stays_is_the_usual_one() {
        assert!(missing(rate(240, 1001), &[4171; 30]).iter().all(|it| *it == 0));
        assert!(missing(None, &[2000; 30]).iter().all(|it| *it == 0));
        let found = missing(rate(30, 1), &[[33; 20], [1000; 20]].concat());
        let last = found.iter().rposition(|it| *it > 0).unwrap();
        assert!(found[20] == 29 && last < 30, "{found:?}");
    }
}
