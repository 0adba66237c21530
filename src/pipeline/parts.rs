//! The finished segments of a clip that is being worked, kept in a folder so that a restart goes on behind them.
//!
//! `0001.packets` is what the encoder made, `0001.json` says of what and for what. The description is renamed into place
//! once the packets are durable: where it is, the segment is whole. It carries a hash of everything that decides the
//! result, and one of the packets; a segment that does not match is thrown away with all behind it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::engine::EngineDescription;
use crate::frame::Seconds;
use crate::hex::hex;
use crate::media;
use crate::media::MediaError;
use crate::media::packets::Kept;
use crate::pipeline::beside;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::tally::Tally;
use crate::pipeline::{ConvertError, Task};
use crate::plain_file;
use crate::quality::holdout::Holdout;
use crate::report::timing::Resumption;

/// Layout of the files; another one is not taken up.
const LAYOUT: &str = "segment 3";
/// File with the list of resumptions.
const RESUMPTIONS_NAME: &str = "resumed.json";
/// Resumptions that are listed at the most: the oldest are dropped.
const RESUMPTIONS_LISTED: usize = 1_000;

/// Where a clip stands between two segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Number of the source frame that the next segment begins with.
    pub frame: u64,
    /// Output frames on the grid before it.
    pub on_grid: i128,
    /// Counts.
    pub tally: Tally,
    /// Scores of held-out frames.
    pub holdout: Holdout,
    /// What was done because a device failed, in order.
    pub steps: Vec<String>,
}

/// The description beside the packets. Its map of frames goes on behind that of the segment before: with all of it in each,
/// an hour of a variable rate on a grid would take gigabytes.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    identity: String,
    packets: Kept,
    /// Sections of the map that stand in earlier descriptions.
    sections_before: usize,
    state: State,
}

impl Description {
    /// The state with all of its map, given that behind the segment before.
    fn whole(self, earlier: Option<&State>) -> Option<State> {
        let (mut state, count) = (self.state, self.sections_before);
        let is_whole = match earlier {
            Some(earlier) => state.tally.put_before(&earlier.tally, count),
            None => count == 0,
        };
        is_whole.then_some(state)
    }
}

/// What a folder of segments had.
#[derive(Debug)]
pub struct TakenUp {
    /// The packets of the whole segments, in order.
    pub packets: Vec<PathBuf>,
    /// Where the clip stands behind them; `None` where there are none.
    pub state: Option<State>,
}

/// A folder of segments. Where it is empty when dropped, it is removed.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    identity: String,
    count: usize,
    /// Sections of the map behind the newest segment.
    sections: usize,
}

/// SHA-256, in hex, of everything that decides what a segment is: the clip, what is done with it, and by what.
#[must_use]
pub fn identity(
    task: &Task,
    source: &Fingerprint,
    engine: &EngineDescription,
    writer: &str,
    listed: &[Seconds],
) -> String {
    let text = format!(
        "{LAYOUT}\n{} {}\n{}\n{:?}\n{:?}\n{:?}\n{writer}\n{listed:?}\n",
        env!("CARGO_PKG_VERSION"),
        media::libavcodec_version(),
        source.sha256,
        task.settings,
        task.segments,
        (
            (&engine.device_kind, &engine.device_name, &engine.precision, &engine.instructions),
            (&engine.model_name, &engine.model_sha256, engine.scale),
        ),
    );
    hex(&Sha256::digest(text.as_bytes()))
}

impl Parts {
    /// Opens `folder`, made if need be, and throws away what is not a whole segment of `identity`. `advanced` is told the
    /// bytes read so far.
    ///
    /// # Errors
    /// [`MediaError::Write`] where the folder cannot be made or tidied; [`ConvertError::Interrupted`] where `stop` is set.
    pub fn open(
        folder: &Path,
        identity: String,
        stop: &Arc<AtomicBool>,
        advanced: &mut dyn FnMut(u64),
    ) -> Result<(Self, TakenUp), ConvertError> {
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
        let is_ours = fs::symlink_metadata(folder).map(|it| it.is_dir());
        if !is_ours.map_err(|error| unwritable(folder, error))? {
            // A link could lead to files that are not slomod's.
            return Err(unwritable(folder, io::ErrorKind::NotADirectory.into()));
        }
        let mut parts = Self { folder: folder.to_owned(), identity, count: 0, sections: 0 };
        let mut taken = TakenUp { packets: Vec::new(), state: None };
        let mut before = 0;
        while let Some(description) = parts.description(parts.count + 1) {
            let packets = parts.packets(parts.count + 1);
            let mut read = |bytes| advanced(before + bytes);
            match Fingerprint::take(&packets, stop, &mut read) {
                Ok(found) if found.sha256 == description.packets.sha256 => {
                    before += found.size_bytes;
                }
                Err(ConvertError::Interrupted) => return Err(ConvertError::Interrupted),
                _ => break,
            }
            let Some(state) = description.whole(taken.state.as_ref()) else { break };
            parts.count += 1;
            parts.sections = state.tally.sections();
            taken.packets.push(packets);
            taken.state = Some(state);
        }
        parts.remove_others().map_err(|error| unwritable(folder, error))?;
        Ok((parts, taken))
    }

    /// Where the packets of the segment that is being worked go.
    #[must_use]
    pub fn open_packets(&self) -> PathBuf {
        self.packets(self.count + 1)
    }

    /// The segment that was being worked is whole, and `state` is where the clip stands now.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn add(&mut self, packets: Kept, mut state: State) -> Result<(), MediaError> {
        let (sections, sections_before) = (state.tally.sections(), self.sections.saturating_sub(1));
        state.tally.leave_out(sections_before);
        let identity = self.identity.clone();
        let description = Description { identity, packets, sections_before, state };
        let path = self.folder.join(format!("{:04}.json", self.count + 1));
        write_json(&path, &description).map_err(|error| beside::write_error(&path, error))?;
        self.count += 1;
        self.sections = sections;
        Ok(())
    }

    /// Adds a resumption to the list, and returns the whole of it.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn resumed(&self, now: Resumption) -> Result<Vec<Resumption>, MediaError> {
        let path = self.folder.join(RESUMPTIONS_NAME);
        let mut all: Vec<Resumption> = read_json(&path).unwrap_or_default();
        all.push(now);
        all.drain(..all.len().saturating_sub(RESUMPTIONS_LISTED));
        write_json(&path, &all).map_err(|error| beside::write_error(&path, error))?;
        Ok(all)
    }

    fn packets(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{number:04}.packets"))
    }

    /// What is beside segment `number`, if it belongs to this clip.
    fn description(&self, number: usize) -> Option<Description> {
        let found: Description = read_json(&self.folder.join(format!("{number:04}.json")))?;
        (found.identity == self.identity).then_some(found)
    }

    fn remove_others(&self) -> io::Result<()> {
        let mut kept = vec![PathBuf::from(RESUMPTIONS_NAME)];
        for number in 1..=self.count {
            kept.extend(
                [format!("{number:04}.json"), format!("{number:04}.packets")].map(PathBuf::from),
            );
        }
        if self.count == 0 {
            kept.clear();
        }
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // What a NAS or anybody else put there is let be.
            let is_ours = is_part(&entry.file_name()) && !entry.file_type()?.is_dir();
            if is_ours && !kept.iter().any(|it| **it == entry.file_name()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.count == 0 {
            // Whoever ends the job removes what is left.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Whether a file in a folder of segments has a name that is given here.
fn is_part(name: &OsStr) -> bool {
    let path = Path::new(name);
    let extension = path.extension().and_then(OsStr::to_str);
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    let is_number = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    let is_list = Path::new(RESUMPTIONS_NAME).file_stem() == path.file_stem();
    matches!(extension, Some("packets" | "json" | "new")) && (is_number || is_list)
}

/// Removes a folder of segments with all that is in it; one that is not there is none.
///
/// # Errors
/// The system's.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes in a folder of segments, as far as it can be read.
#[must_use]
pub fn size_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|it| it.metadata().ok()).map(|it| it.len()).sum()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&plain_file::read(path).ok()??).ok()
}

/// Writes a file that is whole or not there.
fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn unwritable(folder: &Path, error: io::Error) -> ConvertError {
    ConvertError::Media(beside::write_error(folder, error))
}
