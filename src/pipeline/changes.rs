//! Tells flashes and fades from cuts, for the report: they are no barriers, and a reader should know that they were seen.
//!
//! A *flash* is a jump of the mean luma that is taken back within a few frames. Where it is so bright that nothing of the
//! picture is left, it lies between two cuts, and is known by the pictures before and after, which are alike. A *fade* is a
//! loss (or gain) of all contrast in many steps of one direction. Dissolves from one shot into another are not told apart.

use crate::frame::Seconds;
use crate::pipeline::scene::Signature;

/// Jump of the mean luma (of full scale) that may be a flash.
pub const FLASH_JUMP: f64 = 0.08;
/// Frames that a flash lasts at the most.
pub const FLASH_FRAMES: u64 = 6;
/// Part of the jump that may be left after a flash.
const FLASH_REMAINDER: f64 = 0.4;
/// Lost structure up to which the pictures before and after a flash are the same shot.
const SAME_SHOT: f64 = 0.3;
/// Standard deviation of the coarse luma (of full scale) below which there is no contrast.
const NO_CONTRAST: f64 = 0.012;
/// And that a picture has that is faded from or to.
const CONTRAST: f64 = 0.04;
/// Frames that a fade takes at least.
pub const FADE_FRAMES: u64 = 5;
/// Step against the direction of a fade that noise may make.
const FADE_NOISE: f64 = 0.001;

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Light for a few frames, or darkness.
    Flash,
    /// To a picture without contrast.
    FadeOut,
    /// From a picture without contrast.
    FadeIn,
}

impl Kind {
    /// As the report writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Flash => "flash",
            Self::FadeOut => "fade_out",
            Self::FadeIn => "fade_in",
        }
    }
}

/// A flash or a fade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub kind: Kind,
    /// Its first frame.
    pub frame: u64,
    /// Time of that in the source.
    pub pts: Seconds,
    /// How many frames it lasts.
    pub frames: u64,
    /// Change of the mean luma (flash) or of contrast (fade), of full scale.
    pub score: f64,
}

/// A frame as this looks at it.
struct Seen {
    index: u64,
    pts: Seconds,
    signature: Signature,
}

/// A flash that may be.
struct Lit {
    before: Seen,
    frame: u64,
    pts: Seconds,
    jump: f64,
}

/// A fade that may be.
#[derive(Clone, Copy)]
struct Fading {
    kind: Kind,
    frame: u64,
    pts: Seconds,
    from: f64,
}

/// Watches the frames of a clip in order.
#[derive(Default)]
pub struct ChangeDetector {
    last: Option<Seen>,
    lit: Option<Lit>,
    fading: Option<Fading>,
}

impl ChangeDetector {
    /// The change that ended before this frame, if one did.
    pub fn look(
        &mut self,
        index: u64,
        pts: Seconds,
        signature: Signature,
        is_cut: bool,
    ) -> Option<Change> {
        let seen = Seen { index, pts, signature };
        let flash = self.flash(&seen);
        let fade = self.fade(&seen, is_cut);
        self.last = Some(seen);
        flash.or(fade)
    }

    fn flash(&mut self, now: &Seen) -> Option<Change> {
        if let Some(lit) = self.lit.take() {
            let left = now.signature.mean() - lit.before.signature.mean();
            let over = left.abs() <= FLASH_REMAINDER * lit.jump.abs();
            let frames = now.index - lit.frame;
            let lost = lit.before.signature.compare(&now.signature).lost_structure;
            if over && lost <= SAME_SHOT {
                let Lit { frame, pts, jump, .. } = lit;
                let score = jump.abs().min(1.0);
                return Some(Change { kind: Kind::Flash, frame, pts, frames, score });
            }
            if frames < FLASH_FRAMES {
                self.lit = Some(lit);
                return None;
            }
        }
        let last = self.last.as_ref()?;
        let jump = now.signature.mean() - last.signature.mean();
        if jump.abs() >= FLASH_JUMP {
            let before = self.last.take()?;
            self.lit = Some(Lit { before, frame: now.index, pts: now.pts, jump });
        }
        None
    }

    fn fade(&mut self, now: &Seen, is_cut: bool) -> Option<Change> {
        let (contrast, before) = match (&self.last, is_cut) {
            (Some(last), false) => (now.signature.deviation(), last.signature.deviation()),
            _ => {
                self.fading = None;
                return None;
            }
        };
        let kind = if contrast < before { Kind::FadeOut } else { Kind::FadeIn };
        let steady = (contrast - before).abs() <= FADE_NOISE;
        let ended = match self.fading {
            Some(fading) if fading.kind == kind || steady => {
                let is_over = match fading.kind {
                    Kind::FadeOut => contrast < NO_CONTRAST,
                    _ => steady && contrast >= CONTRAST,
                };
                is_over.then_some(fading)
            }
            Some(fading) if fading.kind == Kind::FadeIn && before >= CONTRAST => Some(fading),
            _ => None,
        };
        let begun = match kind {
            Kind::FadeOut => before >= CONTRAST,
            _ => before < NO_CONTRAST,
        };
        let goes_on = self.fading.is_some_and(|it| it.kind == kind || steady) && ended.is_none();
        if !goes_on {
            let last = self.last.as_ref()?;
            let (frame, pts) = (last.index, last.pts);
            let begins = begun && !steady;
            self.fading = begins.then_some(Fading { kind, frame, pts, from: before });
        }
        let Fading { kind, frame, pts, from } = ended?;
        let frames = now.index - frame;
        let score = (contrast - from).abs().min(1.0);
        (frames >= FADE_FRAMES).then_some(Change { kind, frame, pts, frames, score })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};
    use crate::pipeline::scene::{CUT_THRESHOLD, CutDetector};

    fn picture(seed: f64, shift: f64, gain: f64, light: f64) -> Picture {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px, depth) = (160, 90, Depth::Eight);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let mut picture = Picture::zeroed(format);
        for (at, sample) in picture.planes[0].iter_mut().enumerate() {
            let (x, y) = ((at % 160) as f64 + shift, (at / 160) as f64);
            let value = 0.4
                + 0.15 * (x * (0.06 + seed * 0.02) + seed).sin()
                + 0.15 * (y * (0.08 + seed * 0.03) - seed).cos();
            *sample = ((value * gain + light) * 255.0).clamp(0.0, 255.0).round() as u8;
        }
        picture
    }

    fn changes(pictures: &[Picture]) -> (Vec<(Kind, u64, u64)>, Vec<usize>) {
        let (mut cuts, mut detector) = (CutDetector::default(), ChangeDetector::default());
        let (mut found, mut cut_at) = (Vec::new(), Vec::new());
        for (index, picture) in pictures.iter().enumerate() {
            let (score, signature) = cuts.look(picture);
            let is_cut = score >= CUT_THRESHOLD;
            cut_at.extend(is_cut.then_some(index));
            let pts = Seconds::new(index as i128, 25);
            let change = detector.look(index as u64, pts, signature, is_cut);
            found.extend(change.map(|it| (it.kind, it.frame, it.frames)));
        }
        (found, cut_at)
    }

    /// V08.
    #[test]
    fn a_flash_is_a_flash_and_no_cut() {
        let light = |i: usize| if (8..10).contains(&i) { 0.3 } else { 0.0 };
        let clip: Vec<_> = (0..20).map(|i| picture(0.3, i as f64, 1.0, light(i))).collect();
        assert_eq!(changes(&clip), (vec![(Kind::Flash, 8, 2)], vec![]));
    }

    /// V08: nothing is left of the picture while it lasts, so nothing is made across its ends.
    #[test]
    fn a_flash_that_is_all_white_is_known_between_its_cuts() {
        let gain = |i: usize| if i == 8 { (0.0, 1.0) } else { (1.0, 0.0) };
        let clip: Vec<_> = (0..20).map(|i| picture(0.3, i as f64, gain(i).0, gain(i).1)).collect();
        let (found, cuts) = changes(&clip);
        assert_eq!(found, [(Kind::Flash, 8, 1)]);
        assert!(cuts.len() <= 2, "{cuts:?}");
    }

    /// V08.
    #[test]
    fn fades_are_fades_and_no_storm_of_cuts() {
        let gain = |i: usize| match i {
            0..10 => 1.0,
            10..20 => 1.0 - (i - 9) as f64 / 10.0,
            20..25 => 0.0,
            25..35 => (i - 24) as f64 / 10.0,
            _ => 1.0,
        };
        let clip: Vec<_> = (0..45).map(|i| picture(0.3, i as f64 * 0.5, gain(i), 0.0)).collect();
        let (found, cuts) = changes(&clip);
        assert_eq!(cuts, [0_usize; 0]);
        let kinds: Vec<_> = found.iter().map(|it| it.0).collect();
        assert_eq!(kinds, [Kind::FadeOut, Kind::FadeIn], "{found:?}");
        assert!((8..=11).contains(&found[0].1) && (22..=25).contains(&found[1].1), "{found:?}");
    }

    #[test]
    fn cuts_motion_and_a_lamp_that_stays_on_are_none_of_these() {
        let cut: Vec<_> = (0..20)
            .map(|i| picture(if i < 9 { 0.3 } else { 1.7 }, i as f64 * 4.0, 1.0, 0.0))
            .collect();
        assert_eq!(changes(&cut), (vec![], vec![9]));
        let lamp: Vec<_> =
            (0..30).map(|i| picture(0.3, i as f64, 1.0, if i < 9 { 0.0 } else { 0.2 })).collect();
        assert_eq!(changes(&lamp), (vec![], vec![]));
    }
}
