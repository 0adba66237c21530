//! Holds every frame of an output, and the real ones of its source, to the list of frames.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::config::settings::Interlaced;
use crate::frame::{Chroma, Frame, PictureFormat, Rate};
use crate::hex::hex;
use crate::media::MediaError;
use crate::media::decode::Decoder;
use crate::media::verify::verify_pictures;
use crate::pipeline::ConvertError;
use crate::pipeline::audit::no_list;
use crate::pipeline::inspect::gray_again;
use crate::pipeline::ledger::hash;
use crate::pipeline::room;
use crate::pipeline::sequence::Sequence;
use crate::plain_file;

/// Pictures a second of pictures that are gathered: any will do, as no time is compared.
const GATHERED: Rate = Rate::new_raw(25, 1);

/// Longest line of a list: those that are made have some hundred bytes.
const LONGEST_LINE_BYTES: u64 = 64 << 10;

/// How frames compare with the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frames {
    /// Lines of the list, or frames of the clip where those are more.
    pub listed: u64,
    /// Frames that were compared: those whose hash the list has.
    pub compared: u64,
    /// Of them, those that have that hash.
    pub same: u64,
    /// The first of the list's frames that has not, counted from 0.
    pub first_different: Option<u64>,
}

impl Frames {
    /// Whether the clip is the one of the list.
    #[must_use]
    pub fn are_same(&self) -> bool {
        self.compared > 0 && self.same == self.compared && self.first_different.is_none()
    }

    fn add(&mut self, line: u64, is_same: bool) {
        self.compared += 1;
        self.same += u64::from(is_same);
        if !is_same {
            self.first_different.get_or_insert(line);
        }
    }
}

/// The list, line by line.
struct List<'a> {
    path: &'a Path,
    file: BufReader<File>,
    columns: Vec<String>,
}

impl<'a> List<'a> {
    fn open(path: &'a Path) -> Result<Self, MediaError> {
        let unreadable = |source| MediaError::Read { path: path.to_owned(), source };
        let file = plain_file::open(path, OFlags::empty()).map_err(unreadable)?;
        let mut list = Self { path, file: BufReader::new(file), columns: Vec::new() };
        let header = list.line()?.unwrap_or_default();
        list.columns = header.split(',').map(str::to_owned).collect();
        Ok(list)
    }

    /// The next line; `None` at the end. Anybody may have written the file: it need not have lines at all.
    fn line(&mut self) -> Result<Option<String>, MediaError> {
        let unreadable = |source| MediaError::Read { path: self.path.to_owned(), source };
        let mut line = Vec::new();
        let mut bounded = (&mut self.file).take(LONGEST_LINE_BYTES + 1);
        bounded.read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.len() as u64 > LONGEST_LINE_BYTES {
            return Err(no_list(self.path, "it has a line without an end".to_owned()));
        }
        let text = String::from_utf8(line);
        let text = text.map_err(|_| no_list(self.path, "it is no text in UTF-8".to_owned()))?;
        Ok((!text.is_empty()).then(|| text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// The next line's cells of two columns; `None` at the end.
    fn next(&mut self, columns: [&str; 2]) -> Result<Option<[String; 2]>, MediaError> {
        let Some(line) = self.line()? else { return Ok(None) };
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |name: &str| {
            let at = self.columns.iter().position(|it| it == name);
            let cell = at.and_then(|at| cells.get(at));
            let missing = || no_list(self.path, format!("it has no `{name}` in `{line}`"));
            cell.map(|it| (*it).to_owned()).ok_or_else(missing)
        };
        Ok(Some([cell(columns[0])?, cell(columns[1])?]))
    }
}

/// Decodes the output at `clip` and compares every frame with its line.
///
/// # Errors
/// Those of reading both; [`ConvertError::Interrupted`] where `stop` is set.
pub fn output(list: &Path, clip: &Path, stop: &Arc<AtomicBool>) -> Result<Frames, ConvertError> {
    let mut list = List::open(list)?;
    let mut found = Frames::default();
    let mut fault = None;
    verify_pictures(clip, &|_| true, &mut |_, frame| {
        if stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        let Some(frame) = frame else { return ControlFlow::Continue(()) };
        found.listed += 1;
        match list.next(["frame", "output_sha256"]) {
            Ok(Some([_, said])) => found.add(found.listed - 1, is_it(frame, &said)),
            Ok(None) => found.add(found.listed - 1, false),
            Err(error) => {
                fault = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = fault {
        return Err(error.into());
    }
    if stop.load(Ordering::Relaxed) {
        return Err(ConvertError::Interrupted);
    }
    while list.next(["frame", "output_sha256"])?.is_some() {
        found.add(found.listed, false);
        found.listed += 1;
    }
    Ok(found)
}

/// Decodes the source, a clip or numbered pictures, and compares the frames that real and held ones of the list show, each
/// once. Pictures are gathered as for a conversion, in a temporary file.
///
/// # Errors
/// As [`output`]; [`ConvertError::NoSpace`], and [`MediaError::Write`] of the temporary file.
pub fn source(
    list: &Path,
    source: &Path,
    interlaced: Interlaced,
    stop: &Arc<AtomicBool>,
) -> Result<Frames, ConvertError> {
    if !Sequence::is_named_by(source) {
        return clip(list, source, interlaced, stop);
    }
    let sequence = Sequence::find(source)?;
    let folder = std::env::temp_dir();
    let sizes = sequence.files.iter().filter_map(|it| it.metadata().ok()).map(|it| it.len());
    if let Some(why) = room::trouble(&folder, sizes.sum(), 0) {
        let why = format!("{why} to gather the pictures; set TMPDIR to a folder with more room");
        return Err(ConvertError::NoSpace(why));
    }
    let made = tempfile::Builder::new().prefix(".slomod-tmp-").tempdir_in(&folder);
    let made = made.map_err(|error| MediaError::Write {
        path: folder,
        reason: format!("{error}; set TMPDIR to a folder that can be"),
        source: Some(error),
    })?;
    let gathered = made.path().join("pictures.mov");
    sequence.gather(&gathered, GATHERED, stop)?;
    clip(list, &gathered, interlaced, stop)
}

fn clip(
    list: &Path,
    clip: &Path,
    interlaced: Interlaced,
    stop: &Arc<AtomicBool>,
) -> Result<Frames, ConvertError> {
    let mut list = List::open(list)?;
    let mut decoder = Decoder::open_as(clip, interlaced)?;
    let (mut shown, mut last) = (None::<(u64, String)>, None);
    let mut found = Frames::default();
    while let Some([index, said]) = list.next(["source_frame", "source_sha256"])? {
        let line = found.listed;
        found.listed += 1;
        let Some(index) = index.parse::<u64>().ok().filter(|_| !said.is_empty()) else { continue };
        let listed = (index, said);
        // A frame that is held is one frame.
        if last.as_ref() == Some(&listed) {
            continue;
        }
        while shown.as_ref().is_none_or(|it| it.0 < index) {
            if stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            let Some(frame) = decoder.next_frame()? else { break };
            shown = Some((frame.index, hex(&hash(&frame))));
        }
        found.add(line, shown.as_ref() == Some(&listed));
        last = Some(listed);
    }
    Ok(found)
}

/// Whether a frame has that hash, or the gray one that was stored as it.
fn is_it(frame: &Frame, said: &str) -> bool {
    let gray = PictureFormat { chroma: Chroma::Gray, ..frame.picture.format };
    hex(&hash(frame)) == said || gray_again(gray, frame).is_some_and(|it| hex(&hash(&it)) == said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_line_by_line_and_no_line_without_an_end_fills_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.frames.csv");
        std::fs::write(&path, "frame,hash\r\n0,x\n1,y").unwrap();
        let mut list = List::open(&path).unwrap();
        let mut next = || list.next(["hash", "frame"]).unwrap();
        assert_eq!(next(), Some(["x".into(), "0".into()]));
        assert_eq!(next(), Some(["y".into(), "1".into()]));
        assert_eq!(next(), None);
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let error = List::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("a line without an end"), "{error}");
    }
}
