//! Counts what a conversion makes, frame by frame.

use crate::frame::{Frame, Seconds};
use crate::report::{Cut, OutputFrames, Run};

/// Cuts listed in a report at the most; further ones are counted.
pub const CUTS_LISTED: usize = 10_000;
/// Runs of the frame map listed at the most.
pub const RUNS_LISTED: usize = 100_000;

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
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Source frames taken from the decoder.
    pub frames_in: u64,
    /// Output frames by kind.
    pub frames: OutputFrames,
    /// In order, run by run; ends early at [`RUNS_LISTED`].
    pub runs: Vec<Run>,
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
        let room = self.runs.len() < RUNS_LISTED;
        match self.runs.last_mut() {
            Some(run) if run.kind == kind.word() => run.count += 1,
            _ if room => self.runs.push(Run { kind: kind.word().into(), count: 1 }),
            _ => {}
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
