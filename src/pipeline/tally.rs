//! Counts what a conversion makes, frame by frame.

use serde::{Deserialize, Serialize};

use crate::frame::{Frame, Seconds};
use crate::report::{Cut, OutputFrames, Run, Section};

/// Cuts listed in a report at the most; further ones are counted.
pub const CUTS_LISTED: usize = 10_000;
/// Sections of the frame map listed at the most.
pub const SECTIONS_LISTED: usize = 10_000;

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

    /// Counts a cut before `frame`.
    pub fn cut(&mut self, frame: &Frame, score: f64) {
        self.cut_count += 1;
        if self.cuts.len() < CUTS_LISTED {
            let pts_s = *frame.pts.numer() as f64 / *frame.pts.denom() as f64;
            self.cuts.push(Cut { frame: frame.index, pts_s, score });
        }
    }

    /// Output frames so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.frames.total
    }
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
