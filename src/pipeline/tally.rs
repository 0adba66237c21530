//! Counts what a conversion makes, frame by frame.

use serde::{Deserialize, Serialize};

use crate::frame::{Frame, Seconds};
use crate::pipeline::segments::Joint;
use crate::pipeline::stages::Decoded;
use crate::report::findings::Barrier;
use crate::report::{Cut, OutputFrames, Run, Section};

/// Cuts listed in a report at the most; further ones are counted.
pub const CUTS_LISTED: usize = 10_000;
/// Sections of the frame map listed at the most.
pub const SECTIONS_LISTED: usize = 10_000;

/// Barriers listed in a report at the most; further ones are counted.
pub const BARRIERS_LISTED: usize = 10_000;

/// Gaps that differ by no more than this are equal: Matroska rounds to 1 ms.
const CLOCK_ROUNDING: Seconds = Seconds::new_raw(3, 2000);

/// What an output frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Taken from the source.
    Real,
    /// Made by the network.
    Synthesised,
    /// A real frame shown again.
    Held,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Synthesised => "synthesised",
            Self::Held => "held",
        }
    }
}

/// The counts so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Source frames taken from the decoder.
    pub frames_in: u64,
    /// Output frames by kind.
    pub frames: OutputFrames,
    /// What every output frame is, but for [`Tally::section`]; ends early at [`SECTIONS_LISTED`].
    map: Vec<Section>,
    /// The runs since the last real frame that began a section.
    section: Vec<Run>,
    /// Whether the map ended early.
    pub map_cut: bool,
    /// Hard cuts; ends early at [`CUTS_LISTED`].
    pub cuts: Vec<Cut>,
    /// How many cuts there are.
    pub cut_count: u64,
    /// Ranges that cannot be decoded; ends early at [`BARRIERS_LISTED`].
    pub barriers: Vec<Barrier>,
    /// How many barriers there are.
    pub barrier_count: u64,
    /// End of the newest barrier, where a next one that begins there goes on with it.
    barred_to: Option<Seconds>,
    /// Time of the last source frame and where it ends.
    last: Option<(Seconds, Seconds)>,
    /// Shortest and longest gap between source frames.
    pub gaps: Option<(Seconds, Seconds)>,
    /// Source frames that repeat the one before.
    pub duplicates: u64,
    /// From the first source frame to the end of the last.
    pub source_end: Option<Seconds>,
}

impl Tally {
    /// Counts one output frame.
    pub fn add(&mut self, kind: Kind) {
        self.frames.total += 1;
        match kind {
            Kind::Real => self.frames.real += 1,
            Kind::Synthesised => self.frames.synthesised += 1,
            Kind::Held => self.frames.held += 1,
        }
        match self.section.last_mut() {
            Some(run) if run.kind == kind.word() => run.count += 1,
            Some(_) if kind == Kind::Real => {
                self.close_section();
                self.section.push(Run { kind: kind.word().into(), count: 1 });
            }
            _ => self.section.push(Run { kind: kind.word().into(), count: 1 }),
        }
    }

    /// What every output frame is.
    pub fn take_map(&mut self) -> Vec<Section> {
        self.close_section();
        std::mem::take(&mut self.map)
    }

    fn close_section(&mut self) {
        let runs = std::mem::take(&mut self.section);
        let room = self.map.len() < SECTIONS_LISTED;
        match self.map.last_mut() {
            _ if runs.is_empty() || self.map_cut => {}
            Some(last) if last.runs == runs => last.repeat += 1,
            _ if room => self.map.push(Section { runs, repeat: 1 }),
            _ => self.map_cut = true,
        }
    }

    /// Notes the gap before a source frame.
    pub fn gap(&mut self, gap: Seconds) {
        let (shortest, longest) = self.gaps.unwrap_or((gap, gap));
        self.gaps = Some((shortest.min(gap), longest.max(gap)));
    }

    /// Whether the gaps differ by more than rounding to a container's clock explains.
    #[must_use]
    pub fn variable_rate(&self) -> Option<bool> {
        self.gaps.map(|(shortest, longest)| longest - shortest > CLOCK_ROUNDING)
    }

    /// Counts what lies between a source frame and the one before.
    pub fn note(&mut self, before: &Frame, next: &Decoded) {
        if next.is_behind_damage() {
            self.barrier(before.pts, next);
        }
        match next.compared().1 {
            Joint::Cut => self.cut(&next.frame, next.cut_score),
            Joint::Plain => self.duplicates += u64::from(next.duplicate),
        }
    }

    /// Counts what lies before and in the first source frame.
    pub fn note_first(&mut self, first: &Decoded) {
        if first.is_behind_damage() {
            self.barrier(first.frame.pts, first);
        }
    }

    /// Notes the last source frame, which is shown for `duration`; the first was at `origin`.
    pub fn end(&mut self, last: &Frame, duration: Seconds, origin: Seconds) {
        self.source_end = Some(last.pts + duration - origin);
        self.last = Some((last.pts, last.pts + duration));
    }

    /// Counts frames that cannot be decoded behind the last one.
    pub fn lost_at_end(&mut self, lost: u64) {
        if let Some((from, to)) = self.last.filter(|_| lost > 0) {
            let barrier = Barrier { frame: self.frames_in, lost, ..range(from, to) };
            self.add_barrier(from, to, barrier);
        }
    }

    fn barrier(&mut self, from: Seconds, next: &Decoded) {
        let barrier = Barrier {
            frame: next.frame.index,
            lost: next.damage.lost,
            marred: u64::from(next.damage.marred),
            ..range(from, next.frame.pts)
        };
        self.add_barrier(from, next.frame.pts, barrier);
    }

    /// Adds a barrier, to the one before where that ends where this one begins.
    fn add_barrier(&mut self, from: Seconds, to: Seconds, barrier: Barrier) {
        let goes_on = self.barred_to.replace(to) == Some(from);
        self.barrier_count += u64::from(!goes_on);
        match self.barriers.last_mut() {
            _ if self.barrier_count > BARRIERS_LISTED as u64 => {}
            Some(last) if goes_on => {
                last.frame = barrier.frame;
                last.pts_to_s = barrier.pts_to_s;
                last.lost += barrier.lost;
                last.marred += barrier.marred;
            }
            _ => self.barriers.push(barrier),
        }
    }

    fn cut(&mut self, frame: &Frame, score: f64) {
        self.cut_count += 1;
        if self.cuts.len() < CUTS_LISTED {
            self.cuts.push(Cut { frame: frame.index, pts_s: real(frame.pts), score });
        }
    }

    /// Output frames so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.frames.total
    }
}

fn real(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}

fn range(from: Seconds, to: Seconds) -> Barrier {
    Barrier { frame: 0, pts_from_s: real(from), pts_to_s: real(to), lost: 0, marred: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_clip_needs_two_sections_however_long() {
        let mut tally = Tally::default();
        for frame in 0..1000 {
            let between = if frame < 999 { Kind::Synthesised } else { Kind::Held };
            [Kind::Real, between, between, between].into_iter().for_each(|kind| tally.add(kind));
        }
        let map = tally.take_map();
        let words = |section: &Section| {
            let run = |it: &Run| format!("{} {}", it.count, it.kind);
            (section.runs.iter().map(run).collect::<Vec<_>>().join(", "), section.repeat)
        };
        assert_eq!(
            map.iter().map(words).collect::<Vec<_>>(),
            [("1 real, 3 synthesised".into(), 999), ("1 real, 3 held".into(), 1)]
        );
        assert!(!tally.map_cut);
    }

    #[test]
    fn an_irregular_clip_is_listed_as_far_as_the_limit() {
        let mut tally = Tally::default();
        for frame in 0..2 * SECTIONS_LISTED {
            tally.add(Kind::Real);
            (0..=frame % 3).for_each(|_| tally.add(Kind::Synthesised));
        }
        assert_eq!(tally.take_map().len(), SECTIONS_LISTED);
        assert!(tally.map_cut);
    }
}
