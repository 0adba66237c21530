//! What is seen in a source frame: how it relates to the one before, and its hash where that is asked for.

use std::sync::Arc;

use crate::config::content::{Content, Duplicates};
use crate::config::settings::Settings;
use crate::frame::{Frame, Picture, Rate, Seconds};
use crate::media::damage::Damage;
use crate::pipeline::bars::{BarWatch, Bars};
use crate::pipeline::changes::{Change, ChangeDetector};
use crate::pipeline::ledger::{self, Hash};
use crate::pipeline::motion::{Confidence, Small};
use crate::pipeline::repeats::{self, Following, Gap, Repeats};
use crate::pipeline::scene::{CUT_THRESHOLD, CutDetector};
use crate::pipeline::segments::Joint;
use crate::pipeline::timelapse::Leaps;
use crate::pipeline::timeline::{Passage, Stamp};
use crate::pipeline::unrecorded::Recording;

/// Repeated pictures in a row that are repaired at the most: a longer run is a still picture.
const REPAIRED_RUN: usize = 2;
/// A listed cut may lie this part of the gap behind the frame that it means: lists are rounded.
const LIST_ROUNDING: i128 = 4;

/// A source frame and how it relates to the one before.
pub struct Decoded {
    /// The frame.
    pub frame: Frame,
    /// The cut before it, if there is one.
    pub cut: Option<FoundCut>,
    /// Whether it repeats the frame before.
    pub duplicate: bool,
    /// How sure the gap before it is; absent for the first frame, behind cuts, and for repeated pictures.
    pub confidence: Option<Confidence>,
    /// Whether that is too little to make anything.
    pub too_unsure: bool,
    /// The repeated pictures before it that are to be replaced.
    pub repaired: Vec<Stamp>,
    /// A flash or a fade that ended before it.
    pub change: Option<Change>,
    /// Hash of its samples, where the settings ask for it.
    pub hash: Option<Hash>,
    /// What cannot be decoded before it and in it.
    pub damage: Damage,
    /// Whether the frame before was decoded with errors.
    pub after_marred: bool,
    /// Frames that were not recorded between it and the one before; none where [`Decoded::damage`] counts them.
    pub unrecorded: u64,
    /// The black bars that all frames up to it have.
    pub bars: Bars,
}

impl Decoded {
    /// How sure the gap before it is, where that was looked at.
    pub fn score(&self) -> Option<f64> {
        self.confidence.map(|it| it.score)
    }

    /// Whether something between it and the frame before cannot be decoded, or in one of them.
    pub fn is_behind_damage(&self) -> bool {
        is_behind(&self.damage, self.after_marred)
    }

    /// Whether there are frames of the time between it and the one before that nobody can see.
    fn is_behind_unseen(&self) -> bool {
        self.is_behind_damage() || self.unrecorded > 0
    }

    /// What may be made before it, and whether it is a cut that forbids it.
    pub fn compared(&self) -> (Passage, Joint) {
        match self {
            _ if self.cut.is_some() => (Passage::Barred, Joint::Cut),
            _ if self.is_behind_unseen() || self.duplicate || self.too_unsure => {
                (Passage::Barred, Joint::Plain)
            }
            _ => (Passage::Open, Joint::Plain),
        }
    }
}

fn is_behind(damage: &Damage, after_marred: bool) -> bool {
    damage.lost > 0 || damage.marred || after_marred
}

/// Counts the frames that a demuxer passed over with damaged data, by the length of the gap and the nominal rate.
fn count_unseen(damage: &mut Damage, gap: Seconds, rate: Rate) {
    let frames = u64::try_from((gap * rate).round().to_integer()).unwrap_or(0);
    damage.lost = damage.lost.max(frames.saturating_sub(1));
}

/// A cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundCut {
    /// Score against the frame before, 0..=1.
    pub score: f64,
    /// Whether a list has it.
    pub listed: bool,
}

/// Looks at the frames of a clip in order.
pub struct Looker {
    cuts: CutDetector,
    changes: ChangeDetector,
    before: Option<(Seconds, Arc<Picture>, Small)>,
    /// Transparency of the newest frame.
    alpha_before: Option<Arc<Picture>>,
    origin: Option<Seconds>,
    /// Listed cuts that lie ahead, in seconds from the first frame, the next one last.
    listed: Vec<Seconds>,
    content: Content,
    hashes: bool,
    repeats: Repeats<Decoded>,
    /// Repeated pictures of which it is not decided what becomes of them.
    pending: Vec<Decoded>,
    /// Whether the run of repeated pictures is too long for repair.
    still: bool,
    /// Nominal rate of the clip.
    rate: Option<Rate>,
    /// Whether the newest frame was decoded with errors.
    after_marred: bool,
    recording: Recording,
    watch: BarWatch,
    leaps: Leaps,
}

impl Looker {
    /// At what the settings ask for; `listed` are cuts in order, in seconds from the first frame; `rate` is the clip's
    /// nominal one.
    pub fn new(settings: &Settings, listed: &[Seconds], rate: Option<Rate>) -> Self {
        Self {
            cuts: CutDetector::default(),
            changes: ChangeDetector::default(),
            before: None,
            alpha_before: None,
            origin: None,
            listed: listed.iter().rev().copied().collect(),
            content: settings.content.clone(),
            hashes: settings.beside.frame_list,
            repeats: Repeats::default(),
            pending: Vec::new(),
            still: false,
            rate,
            after_marred: false,
            recording: Recording::new(rate),
            watch: BarWatch::default(),
            leaps: Leaps::default(),
        }
    }

    /// The black bars of all frames so far.
    pub fn bars(&self) -> Bars {
        self.watch.so_far()
    }

    /// How many pairs of frames are far apart.
    pub fn leaps(&self) -> Leaps {
        self.leaps
    }

    /// The next frame, and what is damaged before it and in it; returns those that are decided, in order.
    pub fn look(&mut self, frame: Frame, damage: Damage) -> Vec<Decoded> {
        let (next, following) = self.compare(frame, damage);
        let told = self.repeats.next(next, following);
        self.told(told)
    }

    /// What is not decided stays as it is.
    pub fn end(&mut self) -> Vec<Decoded> {
        let told = self.repeats.end();
        let mut decided = self.told(told);
        decided.append(&mut self.pending);
        decided
    }

    /// Takes frames of which it is known whether they repeat the one before.
    fn told(&mut self, told: Vec<(Decoded, bool)>) -> Vec<Decoded> {
        let mut decided = Vec::with_capacity(told.len());
        for (mut next, duplicate) in told {
            if duplicate {
                next = Decoded { duplicate, confidence: None, too_unsure: false, ..next };
            }
            decided.extend(self.repair(next));
        }
        decided
    }

    fn repair(&mut self, mut next: Decoded) -> Vec<Decoded> {
        if self.content.duplicates == Duplicates::Keep {
            return vec![next];
        }
        // Over what was not seen nothing is made, in place of a repeated picture neither.
        if next.duplicate && !next.is_behind_unseen() {
            self.still |= self.pending.len() == REPAIRED_RUN;
            self.pending.push(next);
            return if self.still { std::mem::take(&mut self.pending) } else { Vec::new() };
        }
        self.still = false;
        if next.compared().0 == Passage::Open {
            let stamp = |it: &Decoded| Stamp { index: it.frame.index, pts: it.frame.pts };
            next.repaired = self.pending.drain(..).map(|it| stamp(&it)).collect();
            return vec![next];
        }
        let mut decided = std::mem::take(&mut self.pending);
        decided.push(next);
        decided
    }

    fn compare(&mut self, frame: Frame, mut damage: Damage) -> (Decoded, Following) {
        let (score, signature) = self.cuts.look(&frame.picture);
        let after_marred = std::mem::replace(&mut self.after_marred, damage.marred);
        let behind_damage = is_behind(&damage, after_marred);
        let mut unrecorded = 0;
        if let Some((pts, _, _)) = &self.before {
            let gap = frame.pts - *pts;
            self.leaps.pair(self.cuts.lost_structure());
            let missing = self.recording.missing(gap);
            match (behind_damage, self.rate) {
                (true, Some(rate)) => count_unseen(&mut damage, gap, rate),
                (true, None) => {}
                (false, _) => unrecorded = missing,
            }
        }
        let bars = self.watch.see(&frame.picture);
        let small = Small::of(&frame.picture);
        let listed = self.is_listed(&frame);
        let is_cut = listed || (self.content.find_cuts && score >= CUT_THRESHOLD);
        let change = self.changes.look(frame.index, frame.pts, signature, is_cut);
        let before = self.before.as_ref();
        let is_seen = !behind_damage && unrecorded == 0;
        let following = match before.filter(|_| !is_cut && self.alpha_before == frame.alpha) {
            Some((_, it, _)) if repeats::is_same(it, &frame.picture) => Following::Same,
            Some((pts, it, _)) if is_seen => {
                Following::Changed(Gap::between(it, &frame.picture, frame.pts - *pts))
            }
            _ => Following::Apart,
        };
        let is_same = matches!(following, Following::Same);
        let followed = before.filter(|_| !is_cut && !is_same && is_seen);
        let confidence = followed.map(|(_, _, it)| it.confidence(&small));
        let limit = self.content.hold_below;
        let too_unsure = confidence.zip(limit).is_some_and(|(it, limit)| it.score < limit);
        self.before = Some((frame.pts, Arc::clone(&frame.picture), small));
        self.alpha_before.clone_from(&frame.alpha);
        let decoded = Decoded {
            cut: is_cut.then_some(FoundCut { score, listed }),
            duplicate: false,
            confidence,
            too_unsure,
            repaired: Vec::new(),
            change,
            hash: self.hashes.then(|| ledger::hash(&frame)),
            damage,
            after_marred,
            unrecorded,
            bars,
            frame,
        };
        (decoded, following)
    }

    /// Whether a listed cut lies before this frame and behind the one before.
    fn is_listed(&mut self, frame: &Frame) -> bool {
        let origin = *self.origin.get_or_insert(frame.pts);
        let Some((before, _, _)) = &self.before else { return false };
        let reach = frame.pts + (frame.pts - *before) / LIST_ROUNDING - origin;
        let mut found = false;
        while self.listed.last().is_some_and(|it| *it <= reach) {
            // One at 0 is the clip's own beginning.
            found |= self.listed.pop().is_some_and(|it| it > *before - origin);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Depth, Matrix, PictureFormat, Range};

    fn frame(index: u64, shown: usize) -> Frame {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px, depth) = (64, 36, Depth::Eight);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let mut picture = Picture::zeroed(format);
        for (at, sample) in picture.planes[0].iter_mut().enumerate() {
            let (x, y) = (at % 64 + 2 * shown, at / 64);
            *sample = (128.0 + 60.0 * (x as f64 * 0.2).sin() + 50.0 * (y as f64 * 0.3).cos()) as u8;
        }
        let picture = Arc::new(picture);
        Frame {
            index,
            pts: Seconds::new(i128::from(index), 30),
            duration: None,
            picture,
            alpha: None,
        }
    }

    fn seen(content: Content, listed: &[Seconds], shown: &[usize]) -> Vec<Decoded> {
        let settings = Settings { content, ..Settings::default() };
        let mut looker = Looker::new(&settings, listed, None);
        let mut all = Vec::new();
        for (index, shown) in shown.iter().enumerate() {
            all.extend(looker.look(frame(index as u64, *shown), Damage::default()));
        }
        all.extend(looker.end());
        all
    }

    #[test]
    fn listed_cuts_are_found_however_they_are_rounded_and_once() {
        let r = |n, d| Seconds::new(n, d);
        // Frames 5 and 20 at 1/6 s and 2/3 s, and 10 exactly.
        let listed = [r(0, 1), r(17, 100), r(1, 3), r(66, 100), r(100, 1)];
        let all = seen(Content::default(), &listed, &(0..30).collect::<Vec<_>>());
        let at: Vec<_> =
            all.iter().filter(|it| it.cut.is_some()).map(|it| it.frame.index).collect();
        assert_eq!(at, [5, 10, 20]);
        assert!(all.iter().filter_map(|it| it.cut).all(|it| it.listed));
        assert!(all[5].confidence.is_none() && all[6].confidence.is_some());
    }

    /// V09.
    #[test]
    fn one_or_two_repeated_pictures_are_repaired_and_a_still_picture_is_not() {
        let content = Content { duplicates: Duplicates::Repair, ..Content::default() };
        let shown = [0, 1, 1, 3, 4, 4, 4, 7, 8, 8, 8, 8, 8, 13, 14, 14];
        let all = seen(content, &[], &shown);
        let told = |it: &Decoded| (it.frame.index, it.duplicate, it.repaired.len());
        let expected = [
            (0, false, 0),
            (1, false, 0),
            (3, false, 1),
            (4, false, 0),
            (7, false, 2),
            (8, false, 0),
            (9, true, 0),
            (10, true, 0),
            (11, true, 0),
            (12, true, 0),
            (13, false, 0),
            (14, false, 0),
            (15, true, 0),
        ];
        assert_eq!(all.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(all[2].repaired[0].index, 2);
    }

    #[test]
    fn unsure_gaps_are_told_only_where_there_is_a_limit() {
        for (hold_below, expected) in [(None, false), (Some(1.1), true), (Some(0.1), false)] {
            let content = Content { hold_below, ..Content::default() };
            let all = seen(content, &[], &[0, 1, 2]);
            assert!(all[1..].iter().all(|it| it.too_unsure == expected), "{hold_below:?}");
            assert!(!all[0].too_unsure && all[0].confidence.is_none());
        }
    }
}
