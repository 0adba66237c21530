//! Counts what a conversion makes, frame by frame.

use serde::{Deserialize, Serialize};

use crate::frame::{Frame, Seconds};
use crate::pipeline::certainty::{Certainty, Held};
use crate::pipeline::changes;
use crate::pipeline::looking::{Decoded, FoundCut};
use crate::pipeline::timeline::Shown;
use crate::report::content::{Change, Cut};
use crate::report::findings::{Barrier, Unrecorded};
use crate::report::{OutputFrames, Run, Section};

/// Cuts listed in a report at the most; further ones are counted.
pub const CUTS_LISTED: usize = 10_000;
/// Flashes and fades listed at the most.
pub const CHANGES_LISTED: usize = 1_000;
/// Sections of the frame map listed at the most.
pub const SECTIONS_LISTED: usize = 10_000;
/// Runs of a section at the most: one that would be longer is divided.
const RUNS_OF_SECTION: usize = 100;

/// Barriers listed in a report at the most; further ones are counted.
pub const BARRIERS_LISTED: usize = 10_000;
/// Ranges without frames listed in a report at the most; further ones are counted.
pub const UNRECORDED_LISTED: usize = 10_000;

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
    /// Made by the network in place of a repeated picture.
    Repaired,
}

impl Kind {
    /// Of an output frame that shows that.
    #[must_use]
    pub fn of(shown: Shown) -> Self {
        match shown {
            Shown::Real(_) => Self::Real,
            Shown::Between { .. } => Self::Synthesised,
            Shown::Instead { .. } => Self::Repaired,
            Shown::Held(_) => Self::Held,
        }
    }

    /// As the report writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Synthesised => "synthesised",
            Self::Held => "held",
            Self::Repaired => "repaired",
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
    /// Source frame of the first of them.
    section_start: u64,
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
    /// Ranges that were not recorded; ends early at [`UNRECORDED_LISTED`].
    pub unrecorded: Vec<Unrecorded>,
    /// How many there are.
    pub unrecorded_count: u64,
    /// End of the newest barrier, where a next one that begins there goes on with it.
    barred_to: Option<Seconds>,
    /// Time of the last source frame and where it ends.
    last: Option<(Seconds, Seconds)>,
    /// Flashes and fades; ends early at [`CHANGES_LISTED`].
    pub changes: Vec<Change>,
    /// How many there are.
    pub change_count: u64,
    /// How sure the gaps are.
    pub certainty: Certainty,
    /// Shortest and longest gap between source frames.
    pub gaps: Option<(Seconds, Seconds)>,
    /// Source frames that repeat the one before.
    pub duplicates: u64,
    /// From the first source frame to the end of the last.
    pub source_end: Option<Seconds>,
}

impl Tally {
    /// Counts one output frame.
    pub fn add(&mut self, shown: Shown) {
        let kind = Kind::of(shown);
        self.frames.total += 1;
        match kind {
            Kind::Real => self.frames.real += 1,
            Kind::Synthesised => self.frames.synthesised += 1,
            Kind::Held => self.frames.held += 1,
            Kind::Repaired => self.frames.repaired += 1,
        }
        let (source_frame, timestep) = match shown {
            Shown::Real(index) | Shown::Held(index) => (index, None),
            Shown::Between { first, timestep } | Shown::Instead { first, timestep } => {
                (first, Some(timestep))
            }
        };
        let place = |start: u64| source_frame.saturating_sub(start);
        if let Some(run) = self.section.last_mut().filter(|it| it.kind == kind.word()) {
            let next = run.source_frame + if kind == Kind::Real { run.count } else { 0 };
            if next == place(self.section_start) {
                run.count += 1;
                run.timesteps.extend(timestep);
                return;
            }
        }
        if kind == Kind::Real || self.section.len() == RUNS_OF_SECTION {
            self.close_section(source_frame);
        }
        if self.section.is_empty() {
            self.section_start = source_frame;
        }
        self.section.push(Run {
            kind: kind.word().into(),
            count: 1,
            source_frame: place(self.section_start),
            timesteps: timestep.into_iter().collect(),
        });
    }

    /// What every output frame is.
    pub fn take_map(&mut self) -> Vec<Section> {
        self.close_section(self.section_start);
        std::mem::take(&mut self.map)
    }

    /// Sections of the map so far. Of all but the last nothing changes any more.
    #[must_use]
    pub fn sections(&self) -> usize {
        self.map.len()
    }

    /// Leaves the first `count` sections out of the map.
    pub fn leave_out(&mut self, count: usize) {
        self.map.drain(..count.min(self.map.len()));
    }

    /// Puts the first `count` sections of the map of `earlier` before its own; false where there are fewer.
    pub fn put_before(&mut self, earlier: &Self, count: usize) -> bool {
        let Some(sections) = earlier.map.get(..count) else { return false };
        self.map.splice(..0, sections.iter().cloned());
        true
    }

    /// Ends a section before one that begins with source frame `next`.
    fn close_section(&mut self, next: u64) {
        let runs = std::mem::take(&mut self.section);
        let source_frames = next.saturating_sub(self.section_start);
        let start = self.section_start;
        let room = self.map.len() < SECTIONS_LISTED;
        let follows = |last: &Section| {
            let is_next = last.source_frame + last.source_frames * last.repeat == start;
            is_next && last.runs == runs && last.source_frames == source_frames
        };
        match self.map.last_mut() {
            _ if runs.is_empty() || self.map_cut => {}
            Some(last) if follows(last) => last.repeat += 1,
            _ if room => {
                self.map.push(Section { runs, repeat: 1, source_frame: start, source_frames });
            }
            _ => self.map_cut = true,
        }
    }

    /// Notes the gap before a source frame.
    fn gap(&mut self, gap: Seconds) {
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
        if next.unrecorded > 0 {
            self.unrecorded(before.pts, next);
        }
        if let Some(cut) = next.cut {
            self.cut(&next.frame, cut);
        }
        if let Some(change) = next.change {
            self.change(change);
        }
        if let Some(found) = next.confidence {
            let held = if next.too_unsure { Held::Yes } else { Held::No };
            self.certainty.add(before, &next.frame, found, held);
        }
        self.duplicates += u64::from(next.duplicate) + next.repaired.len() as u64;
        let mut newest = before.pts;
        for pts in next.repaired.iter().map(|it| it.pts).chain([next.frame.pts]) {
            self.gap(pts - newest);
            newest = pts;
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

    fn unrecorded(&mut self, from: Seconds, next: &Decoded) {
        self.unrecorded_count += 1;
        if self.unrecorded.len() < UNRECORDED_LISTED {
            self.unrecorded.push(Unrecorded {
                frame: next.frame.index,
                pts_from_s: real(from),
                pts_to_s: real(next.frame.pts),
                missing: next.unrecorded,
            });
        }
    }

    fn cut(&mut self, frame: &Frame, FoundCut { score, listed }: FoundCut) {
        self.cut_count += 1;
        if self.cuts.len() < CUTS_LISTED {
            self.cuts.push(Cut { frame: frame.index, pts_s: real(frame.pts), score, listed });
        }
    }

    fn change(&mut self, change: changes::Change) {
        self.change_count += 1;
        if self.changes.len() < CHANGES_LISTED {
            let changes::Change { kind, frame, pts, frames, score } = change;
            let (kind, pts_s) = (kind.word().to_owned(), real(pts));
            self.changes.push(Change { kind, frame, pts_s, frames, score });
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

    fn words(section: &Section) -> (String, u64) {
        let run = |it: &Run| format!("{} {}", it.count, it.kind);
        (section.runs.iter().map(run).collect::<Vec<_>>().join(", "), section.repeat)
    }

    #[test]
    fn a_uniform_clip_needs_two_sections_however_long() {
        let mut tally = Tally::default();
        for first in 0..1000 {
            tally.add(Shown::Real(first));
            for timestep in [0.25, 0.5, 0.75] {
                match first {
                    999 => tally.add(Shown::Held(first)),
                    _ => tally.add(Shown::Between { first, timestep }),
                }
            }
        }
        let map = tally.take_map();
        assert_eq!(
            map.iter().map(words).collect::<Vec<_>>(),
            [("1 real, 3 synthesised".into(), 999), ("1 real, 3 held".into(), 1)]
        );
        assert_eq!((map[0].source_frame, map[0].source_frames), (0, 1));
        assert_eq!(map[0].runs[1].timesteps, [0.25, 0.5, 0.75]);
        assert_eq!(map[1].source_frame, 999);
        assert!(!tally.map_cut);
    }

    #[test]
    fn a_grid_names_both_neighbors_and_the_time_between_them_in_one_section() {
        // 25 to 60 frames a second: twelve output frames for five of the source.
        let mut tally = Tally::default();
        for output in 0..1200_u64 {
            let (first, part) = (output * 5 / 12, output * 5 % 12);
            match part {
                0 => tally.add(Shown::Real(first)),
                _ => {
                    let timestep = part as f32 / 12.0;
                    tally.add(Shown::Between { first, timestep });
                }
            }
        }
        let map = tally.take_map();
        // How far the next section would be ahead is not known of the last.
        assert_eq!((map.len(), map[0].repeat, map[0].source_frames), (2, 99, 5));
        let runs = &map[0].runs;
        let offsets: Vec<_> = runs.iter().map(|it| (it.kind.as_str(), it.source_frame)).collect();
        let made = |offset| ("synthesised", offset);
        assert_eq!(offsets, [("real", 0), made(0), made(1), made(2), made(3), made(4)]);
        assert_eq!(runs[1].timesteps, [5.0 / 12.0, 10.0 / 12.0]);
        assert_eq!(runs.iter().map(|it| it.count).sum::<u64>(), 12);
    }

    #[test]
    fn an_irregular_clip_is_listed_as_far_as_the_limit() {
        let mut tally = Tally::default();
        for first in 0..2 * SECTIONS_LISTED as u64 {
            tally.add(Shown::Real(first));
            let made = Shown::Between { first, timestep: 0.5 };
            (0..=first % 3).for_each(|_| tally.add(made));
        }
        assert_eq!(tally.take_map().len(), SECTIONS_LISTED);
        assert!(tally.map_cut);
    }

    #[test]
    fn a_section_without_real_frames_is_divided() {
        let mut tally = Tally::default();
        for first in 0..1000 {
            tally.add(Shown::Between { first, timestep: 0.3 });
        }
        let map = tally.take_map();
        assert!(map.iter().all(|it| it.runs.len() <= RUNS_OF_SECTION));
        let count = |it: &Section| it.repeat * it.runs.iter().map(|it| it.count).sum::<u64>();
        assert_eq!(map.iter().map(count).sum::<u64>(), 1000);
    }
}
