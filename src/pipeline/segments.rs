//! Where a clip is divided into segments: a pure function of the clip and the settings.
//!
//! A segment is what a restart may lose, so it should not be long; it has an encoder of its own, which costs a key frame
//! and a moment in which little is done at once, so it should not be short. Its length is counted in output frames: they
//! are the work. A cut is the best end, as the encoder would begin anew there anyway.

use serde::{Deserialize, Serialize};

/// When a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Output frames from which a cut ends it, at least 1.
    pub least: u64,
    /// Output frames from which any source frame ends it.
    pub most: u64,
}

impl Default for Rule {
    fn default() -> Self {
        Self { least: 600, most: 1800 }
    }
}

/// What lies between a source frame and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// A hard cut.
    Cut,
    /// Anything else.
    Plain,
}

impl Rule {
    /// Whether a segment that has come to `frames` output frames ends before the source frame behind `joint`.
    #[must_use]
    pub fn ends(self, frames: u64, joint: Joint) -> bool {
        let enough = match joint {
            Joint::Cut => self.least.min(self.most),
            Joint::Plain => self.most,
        };
        frames >= enough.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the segments of a clip with `each` output frames for every source frame and cuts before `cuts`.
    fn lengths(rule: Rule, each: u64, count: u64, cuts: &[u64]) -> Vec<u64> {
        let (mut lengths, mut frames) = (Vec::new(), 0);
        for index in 1..count {
            frames += each;
            let joint = if cuts.contains(&index) { Joint::Cut } else { Joint::Plain };
            if rule.ends(frames, joint) {
                lengths.push(frames);
                frames = 0;
            }
        }
        lengths.push(frames + each);
        lengths
    }

    #[test]
    fn a_short_clip_is_one_segment() {
        let rule = Rule::default();
        assert_eq!(lengths(rule, 4, 450, &[]), [1800]);
        assert_eq!(lengths(rule, 4, 149, &[20, 148]), [596]);
    }

    #[test]
    fn a_long_shot_is_divided_evenly_and_a_remainder_is_left() {
        assert_eq!(lengths(Rule::default(), 4, 1000, &[]), [1800, 1800, 400]);
        assert_eq!(lengths(Rule::default(), 7, 600, &[]), [1806, 1806, 588]);
    }

    #[test]
    fn a_cut_ends_a_segment_that_is_long_enough() {
        let rule = Rule { least: 10, most: 30 };
        assert_eq!(lengths(rule, 2, 30, &[3, 5, 9, 27]), [10, 30, 14, 6]);
    }

    #[test]
    fn no_segment_is_empty_whatever_the_rule() {
        let rule = Rule { least: 0, most: 0 };
        assert!(!rule.ends(0, Joint::Cut) && !rule.ends(0, Joint::Plain));
        assert!(rule.ends(1, Joint::Plain));
    }

    #[test]
    fn no_segment_is_longer_than_the_most_and_one_gap() {
        for (each, cuts) in [(1, &[700, 1500][..]), (16, &[50]), (3, &[])] {
            let rule = Rule::default();
            let lengths = lengths(rule, each, 5000, cuts);
            assert!(lengths.iter().all(|it| *it < rule.most + each), "{lengths:?}");
            assert_eq!(lengths.iter().sum::<u64>(), 5000 * each);
        }
    }
}
