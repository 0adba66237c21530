//! The list of frames: a line of CSV for every output frame, with what it shows and what can be checked of it.
//!
//! It is written in two steps. While the clip is worked, lines go into a draft, with hashes of the source's frames; a run
//! that goes on behind finished segments lays their frames out again and writes the same lines. When the finished output
//! is decoded, each line gets the hash of its frame there.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Lines, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::frame::{Frame, Seconds};
use crate::hex::hex;
use crate::media::MediaError;
use crate::pipeline::beside;
use crate::pipeline::tally::Kind;
use crate::pipeline::timeline::{Instant, Shown};
use crate::report::provenance::RealFrames;

/// Name of the draft, beside the list.
const DRAFT: &str = "frames.draft";

/// Names of the columns. Times are in seconds; the source's are on its own clock. Of a synthesised frame both neighbors are
/// given, of others the frame that is shown. The confidence is that of the gap that a frame lies in, where it is no real one. Hashes are SHA-256 of a frame's planes, one after the other, rows without
/// padding, as `ffmpeg -noautorotate -i CLIP -map 0:v:0 -fps_mode passthrough -f framehash -hash sha256 -` gives them.
const HEADER: &str = "frame,time_s,duration_s,kind,source_frame,source_time_s,next_source_frame,next_source_time_s,\
                      timestep,confidence,source_sha256,output_sha256";

/// Bytes that a frame of the output takes at the most, until the draft is removed: a line there and one in the list.
pub const FRAME_BYTES: f64 = 600.0;

/// Hashes of source frames that are kept: those of a gap, and of what the decoder is ahead.
const HASHES_KEPT: usize = 64;

/// SHA-256 of a frame's samples.
pub type Hash = [u8; 32];

/// Hash of a frame's planes, one after the other, the transparency last.
#[must_use]
pub fn hash(frame: &Frame) -> Hash {
    let mut hash = Sha256::new();
    let pictures = std::iter::once(&frame.picture).chain(&frame.alpha);
    pictures.flat_map(|it| &it.planes).for_each(|plane| hash.update(plane));
    hash.finalize().into()
}

/// The draft while it is written.
pub struct Ledger {
    path: PathBuf,
    file: BufWriter<File>,
    next: u64,
    hashes: VecDeque<(u64, Hash)>,
}

impl Ledger {
    /// Begins the draft for the output at `temporary`.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn create(temporary: &Path) -> Result<Self, MediaError> {
        let path = beside::prepare(temporary, DRAFT)?;
        let file = File::create(&path).map_err(|error| beside::write_error(&path, error))?;
        Ok(Self { file: BufWriter::new(file), path, next: 0, hashes: VecDeque::new() })
    }

    /// Notes the hash of a source frame.
    pub fn saw(&mut self, index: u64, hash: Option<Hash>) {
        self.hashes.extend(hash.map(|hash| (index, hash)));
        while self.hashes.len() > HASHES_KEPT {
            self.hashes.pop_front();
        }
    }

    /// Writes down output frames between `first` and `second`; `score` is how sure the gap between them is, where it is known.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn add(
        &mut self,
        places: &[Instant],
        first: &Frame,
        second: Option<&Frame>,
        score: Option<f64>,
    ) -> Result<(), MediaError> {
        for place in places {
            let line = self.line(place, first, second, score);
            writeln!(self.file, "{line}")
                .map_err(|error| beside::write_error(&self.path, error))?;
            self.next += 1;
        }
        Ok(())
    }

    fn line(
        &self,
        place: &Instant,
        first: &Frame,
        second: Option<&Frame>,
        score: Option<f64>,
    ) -> String {
        let score = match place.shown {
            Shown::Real(_) => None,
            _ => score,
        };
        let score = score.map(|it| format!("{it:.3}")).unwrap_or_default();
        let mut line = format!("{},{},{},", self.next, decimal(place.pts), decimal(place.duration));
        let shown = |index: u64| match second {
            Some(second) if second.index == index => second,
            _ => first,
        };
        match (place.shown, second) {
            (Shown::Between { timestep, .. } | Shown::Instead { timestep, .. }, Some(second)) => {
                line += &format!(
                    "{},{},{},{},{},{timestep},{score},",
                    Kind::of(place.shown).word(),
                    first.index,
                    decimal(first.pts),
                    second.index,
                    decimal(second.pts)
                );
            }
            (Shown::Real(index) | Shown::Held(index), _)
            | (Shown::Between { first: index, .. } | Shown::Instead { first: index, .. }, None) => {
                let kind = Kind::of(place.shown);
                let frame = shown(index);
                let hash = self.hashes.iter().rev().find(|it| it.0 == frame.index);
                let hash = hash.map(|it| hex(&it.1)).unwrap_or_default();
                line += &format!(
                    "{},{},{},,,,{score},{hash}",
                    kind.word(),
                    frame.index,
                    decimal(frame.pts)
                );
            }
        }
        line
    }

    /// Ends the draft.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn close(mut self) -> Result<Draft, MediaError> {
        self.file.flush().map_err(|error| beside::write_error(&self.path, error))?;
        Ok(Draft { path: self.path })
    }
}

/// A whole draft.
pub struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Begins the list.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn complete(self) -> Result<Completing, MediaError> {
        let list = self.path.with_file_name(beside::FRAME_LIST);
        let failed = |error| beside::write_error(&list, error);
        let draft = File::open(&self.path).map_err(failed)?;
        let mut file = BufWriter::new(File::create(&list).map_err(failed)?);
        writeln!(file, "{HEADER}").map_err(failed)?;
        let lines = BufReader::new(draft).lines();
        Ok(Completing { draft: self.path, list, lines, file, found: RealFrames::default() })
    }
}

/// The list while the finished output is decoded.
pub struct Completing {
    draft: PathBuf,
    list: PathBuf,
    lines: Lines<BufReader<File>>,
    file: BufWriter<File>,
    found: RealFrames,
}

impl Completing {
    /// The next frame of the output is this one.
    ///
    /// # Errors
    /// [`MediaError::Write`]; a draft that is too short is left to the check of counts.
    pub fn add(&mut self, frame: &Frame) -> Result<(), MediaError> {
        let mut step = || -> io::Result<()> {
            let Some(line) = self.lines.next().transpose()? else { return Ok(()) };
            let hash = hex(&hash(frame));
            let source = line.rsplit(',').next().unwrap_or_default();
            if !source.is_empty() {
                self.found.compared += 1;
                self.found.identical += u64::from(source == hash);
            }
            writeln!(self.file, "{line},{hash}")
        };
        step().map_err(|error| beside::write_error(&self.list, error))
    }

    /// Ends the list and removes the draft.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn close(mut self) -> Result<RealFrames, MediaError> {
        let ended = self.file.flush().and_then(|()| fs::remove_file(&self.draft));
        ended.map_err(|error| beside::write_error(&self.list, error))?;
        Ok(self.found)
    }
}

/// Seconds to the nanosecond, as far as that takes digits.
fn decimal(time: Seconds) -> String {
    const NANOS: i128 = 1_000_000_000;
    let nanos = (time * NANOS).round().to_integer();
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (nanos.abs() / NANOS, nanos.abs() % NANOS);
    let text = format!("{sign}{whole}.{part:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal_and_exact_to_the_nanosecond() {
        for (time, text) in [
            (Seconds::new(0, 1), "0"),
            (Seconds::new(1, 30), "0.033333333"),
            (Seconds::new(10, 1), "10"),
            (Seconds::new(-3, 2), "-1.5"),
            (Seconds::new(29_999_999_999, 10_000_000_000), "3"),
        ] {
            assert_eq!(decimal(time), text);
        }
    }
}
