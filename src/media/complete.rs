//! Whether all of a clip that opens is there: a copy that stalled may have its index at the start and nothing behind it.
//!
//! What is compared: the boxes of MP4 and MOV and the samples of their index, the segment size of Matroska, the RIFF sizes of
//! AVI, all with the length of the file; whether what these say is there is zeros (`unfilled`); for everything but MP4 also
//! whether the file ends in zeros, as one does whose space was reserved before it was filled.
//! It reads headers and a few hundred samples, never the whole file. Other containers (transport and program streams,
//! FLV, ASF, Ogg, MXF, and what was recorded live) do not say how long they are, so nothing tells a part from the whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Input;
use serde::{Deserialize, Serialize};

use super::MediaError;
use super::budget;
use super::original;
use super::probe::{self, read_error, unusable};
use super::unfilled;

/// A file of which so many bytes at the end are zeros was not filled.
pub(super) const ZERO_TAIL: u64 = 4096;
/// The same for ASF, which fills up its packets with zeros, and these have up to 64 KiB.
const ZERO_TAIL_OF_ASF: u64 = 128 << 10;
/// Boxes and chunks that are followed; a file with more has proved enough.
const MOST_BOXES: usize = 100_000;
/// Boxes that hold pictures, sound and their index.
const ESSENTIAL: [&[u8; 4]; 3] = [b"mdat", b"moof", b"moov"];
/// Elements of Matroska behind the last block that are followed.
const MOST_BEHIND: usize = 256;
/// Names of those that pictures and sound are in: clusters, groups of blocks, blocks, and encrypted ones.
const BLOCKS: [[u8; 4]; 4] = [unfilled::CLUSTER, [0, 0, 0, 0xA0], [0, 0, 0, 0xA3], [0, 0, 0, 0xAF]];
/// Whether a container says how much belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// It does, and all of it is there.
    Said,
    /// It does not: a copy that stalled looks like a whole clip.
    Unsaid,
}

/// What is not there: a short stable word and a sentence.
pub(super) struct Missing {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

type Found = io::Result<Result<Extent, Missing>>;

fn missing(code: &'static str, reason: impl Into<String>) -> Result<Extent, Missing> {
    Err(Missing { code, reason: reason.into() })
}

/// Opens the clip like [`super::probe_untrusted()`], and then looks whether all of it is there.
///
/// # Errors
/// As [`super::probe()`], and [`MediaError::Unusable`] with the codes `truncated_mdat` (samples of an MP4 lie beyond its
/// end), `truncated` (the same of other containers), `zero_tail` (its end was reserved and not filled), `hole` (a part
/// before its end is zeros).
pub fn check(path: &Path) -> Result<Extent, MediaError> {
    look(path)?.map_err(|Missing { code, reason }| unusable(path, code, reason))
}

/// The same for a clip that is not waited for any more: a hole before its end is damage like any other, which decoding
/// finds and the report tells; one without its end is no clip.
///
/// # Errors
/// As [`check`], but for `hole`.
pub fn check_end(path: &Path) -> Result<(), MediaError> {
    match look(path)? {
        Ok(_) | Err(Missing { code: "hole", .. }) => Ok(()),
        Err(Missing { code, reason }) => {
            Err(unusable(path, code, format!("{reason}; {}", what_to_do(path))))
        }
    }
}

/// What to do about the clip at `path`, which lacks its end.
#[must_use]
pub fn what_to_do(path: &Path) -> String {
    // Into the same container, as another may not take its sound or subtitles.
    let extension = path.extension().unwrap_or("mkv".as_ref()).display();
    format!(
        "copy the clip again, or if this is all there is, make a whole clip of it with \
         `ffmpeg -i CLIP -c copy NEW.{extension}`"
    )
}

fn look(path: &Path) -> Result<Result<Extent, Missing>, MediaError> {
    let mut opened = budget::within(|| probe::open(path))?;
    extent(path, &mut opened.input).map_err(|error| read_error(path, error))
}

fn extent(path: &Path, input: &mut Input) -> Found {
    let file = original::open(path)?;
    let length = file.metadata()?.len();
    let names = input.format().name().to_owned();
    let is = |name: &str| names.split(',').any(|it| it == name);
    if is("mov") {
        return match boxes(&file, length)? {
            Ok(extent) => Ok(unfilled::samples_of_mov(&file, length, input)?.map(|()| extent)),
            missing => Ok(missing),
        };
    }
    let promised = match () {
        () if is("matroska") => segment_end(&file)?,
        () if is("avi") => riff_end(&file, length)?,
        () => None,
    };
    if let Some(promised) = promised.filter(|it| *it > length) {
        let reason = format!("its header promises {promised} bytes, and {length} are there");
        return Ok(missing("truncated", reason));
    }
    let filled = match promised {
        Some(end) if is("matroska") => unfilled::clusters(&file, end, input)?,
        Some(_) if is("avi") => unfilled::samples_of_avi(&file, length, input)?,
        _ => Ok(()),
    };
    if let Err(missing) = filled {
        return Ok(Err(missing));
    }
    let extent = promised.map_or(Extent::Unsaid, |_| Extent::Said);
    let tail = if is("asf") { ZERO_TAIL_OF_ASF } else { ZERO_TAIL }.min(length / 2);
    if tail == 0 || !is_zero(&file, length - tail, tail as usize)? {
        return Ok(Ok(extent));
    }
    // Black pictures or silence.
    if (0..input.streams().count()).any(|index| unfilled::may_be_zeros(input, index)) {
        return Ok(Ok(Extent::Unsaid));
    }
    Ok(missing("zero_tail", "it ends in zeros: space that was not filled"))
}

/// Follows the boxes of an MP4 file. Where these are fragments, only the index behind the last says that it is the last.
fn boxes(file: &File, length: u64) -> Found {
    let (mut at, mut is_fragmented, mut has_index_of_fragments) = (0, false, false);
    for _ in 0..MOST_BOXES {
        let mut header = [0; 16];
        let read = read_some(file, &mut header, at)?;
        if read < 8 {
            if read > 0 && is_fragmented {
                let reason = format!("it is cut within the header of a box at {at}");
                return Ok(missing("truncated_mdat", reason));
            }
            break;
        }
        let kind = [header[4], header[5], header[6], header[7]];
        is_fragmented |= kind == *b"moof";
        has_index_of_fragments |= kind == *b"mfra";
        let short = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let size = match (short, <[u8; 8]>::try_from(&header[8..])) {
            // The last box reaches to the end of the file. Zeros after all boxes are space left over, unless more
            // fragments should be there; the samples tell.
            (0, _) if kind == [0; 4] && is_fragmented => {
                return Ok(missing("zero_tail", format!("it is filled with zeros from {at}")));
            }
            (0, _) => break,
            (1, Ok(long)) => u64::from_be_bytes(long),
            (short, _) => u64::from(short),
        };
        let end = at.checked_add(size.max(8)).filter(|it| *it <= length);
        match end {
            Some(end) => at = end,
            // Anything else may be what a camera appended without making it a box.
            None if !ESSENTIAL.contains(&&kind) => break,
            // The samples of the index tell whether that matters.
            None if kind == *b"mdat" && !is_fragmented => break,
            None => {
                let name = String::from_utf8_lossy(&kind).into_owned();
                let reason = format!("its box `{name}` at {at} reaches beyond its {length} bytes");
                return Ok(missing("truncated_mdat", reason));
            }
        }
    }
    Ok(Ok(match is_fragmented && !has_index_of_fragments {
        true => Extent::Unsaid,
        false => Extent::Said,
    }))
}

/// Where a Matroska segment ends, unless that was not known when it was begun.
fn segment_end(file: &File) -> io::Result<Option<u64>> {
    let mut start = [0; 4096];
    let read = read_some(file, &mut start, 0)?;
    let start = &start[..read];
    let Some((header, header_at)) = element(start, 0, &[0x1A, 0x45, 0xDF, 0xA3]) else {
        return Ok(None);
    };
    let Some(at) = header.and_then(|size| usize::try_from(size).ok()?.checked_add(header_at))
    else {
        return Ok(None);
    };
    let segment = element(start, at, &[0x18, 0x53, 0x80, 0x67]);
    Ok(segment.and_then(|(size, content_at)| size?.checked_add(content_at as u64)))
}

/// Whether the block of Matroska that ends at `block_end` is the last: up to the end of the segment, which is all there, follow
/// an index and tags alone.
pub(super) fn is_last_block(path: &Path, block_end: u64) -> io::Result<bool> {
    let file = original::open(path)?;
    let length = file.metadata()?.len();
    let Some(end) = segment_end(&file)?.filter(|it| *it <= length) else { return Ok(false) };
    let mut at = block_end;
    for _ in 0..MOST_BEHIND {
        match unfilled::element_at(&file, at)? {
            _ if at >= end => break,
            Some((id, content)) if !BLOCKS.contains(&id) => at = content.end(),
            _ => return Ok(false),
        }
    }
    Ok(at == end)
}

/// Size (`None` where it is left open) and place of the content of an EBML element that is `id`.
pub(super) fn element(bytes: &[u8], at: usize, id: &[u8]) -> Option<(Option<u64>, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(id)?;
    let first = *rest.first()?;
    let width = first.leading_zeros() as usize + 1;
    let digits = rest.get(..width).filter(|_| width <= 8)?;
    let mask = u64::MAX >> (64 - 7 * width);
    let value = digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) & mask;
    Some(((value != mask).then_some(value), at + id.len() + width))
}

/// Where the last RIFF chunk of an AVI file ends, or one that reaches beyond its `length`; `None` where it does not say:
/// a recording that is not finished has no size.
fn riff_end(file: &File, length: u64) -> io::Result<Option<u64>> {
    let mut end = 0;
    for _ in 0..MOST_BOXES {
        let mut start = [0; 8];
        let read = read_some(file, &mut start, end)?;
        let [b'R', b'I', b'F', b'F', size @ ..] = start else { break };
        let size = u32::from_le_bytes(size);
        if read < start.len() || size == 0 || size == u32::MAX {
            return Ok(None);
        }
        end += u64::from(size) + 8 + u64::from(size % 2);
        if end >= length {
            break;
        }
    }
    // Whether the last byte of an odd chunk was written makes no difference.
    Ok((end > 0).then(|| if end == length + 1 { length } else { end }))
}

pub(super) fn is_zero(file: &File, at: u64, length: usize) -> io::Result<bool> {
    let mut bytes = vec![0; length];
    let read = read_some(file, &mut bytes, at)?;
    Ok(bytes[..read].iter().all(|byte| *byte == 0))
}

/// Reads as much of `bytes` as the file has at `at`.
pub(super) fn read_some(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
