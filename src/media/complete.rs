//! Whether all of a clip that opens is there: a copy that stalled may have its index at the start and nothing behind it.
//!
//! What is compared: the boxes of MP4 and MOV and the samples of their index (their places, and that compressed pictures
//! do not begin with zeros), the segment size of Matroska, the RIFF size of AVI, all with the length of the file; for
//! everything but MP4 also whether the file ends in zeros, as one does whose space was reserved before it was filled.
//! It reads headers and a few hundred samples, never the whole file. A doubt is no verdict: a damaged clip raises it too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Input;
use ffmpeg::media::Type;

use super::MediaError;
use super::budget;
use super::probe::{self, read_error, unusable};
use super::raw::{self, Extent};

/// Samples of a stream that are looked at, evenly spread.
const SAMPLES: usize = 256;
/// Bytes of a sample that are looked at: no compressed picture has so many zeros at its start.
const ZEROS: usize = 64;
/// A file of which so many bytes at the end are zeros was not filled.
const ZERO_TAIL: u64 = 4096;
/// Boxes that are followed; a file with more has proved enough.
const MOST_BOXES: usize = 100_000;
/// Boxes that hold pictures, sound and their index.
const ESSENTIAL: [&[u8; 4]; 3] = [b"mdat", b"moof", b"moov"];
/// Codecs whose samples may well be zeros: black pictures.
const UNCOMPRESSED: [&str; 8] =
    ["rawvideo", "v210", "v308", "v408", "v410", "r10k", "r210", "yuv4"];

/// Opens the clip like [`super::probe_untrusted()`], and then looks whether all of it is there.
///
/// # Errors
/// As [`super::probe()`], and [`MediaError::Unusable`] with the code `incomplete`.
pub fn check(path: &Path) -> Result<(), MediaError> {
    let mut opened = budget::within(|| probe::open(path))?;
    let missing = missing_part(path, &mut opened.input).map_err(|error| read_error(path, error))?;
    match missing {
        Some(missing) => Err(unusable(path, "incomplete", missing)),
        None => Ok(()),
    }
}

/// What is not there, in a sentence.
fn missing_part(path: &Path, input: &mut Input) -> io::Result<Option<String>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let names = input.format().name().to_owned();
    let is = |name: &str| names.split(',').any(|it| it == name);
    if is("mov") {
        return match boxes(&file, length)? {
            Some(missing) => Ok(Some(missing)),
            None => samples(&file, length, input),
        };
    }
    let promised = match () {
        () if is("matroska") => segment_end(&file)?,
        () if is("avi") => riff_end(&file)?,
        () => None,
    };
    if let Some(promised) = promised.filter(|it| *it > length) {
        return Ok(Some(format!("its header promises {promised} bytes, and {length} are there")));
    }
    let tail = ZERO_TAIL.min(length / 2);
    let ends_in_zeros = tail > 0 && is_zero(&file, length - tail, tail as usize)?;
    Ok(ends_in_zeros.then(|| "it ends in zeros: space that was not filled".to_owned()))
}

/// Follows the boxes of an MP4 file.
fn boxes(file: &File, length: u64) -> io::Result<Option<String>> {
    let (mut at, mut is_fragmented) = (0, false);
    for _ in 0..MOST_BOXES {
        let mut header = [0; 16];
        let read = read_some(file, &mut header, at)?;
        if read < 8 {
            let is_cut = read > 0 && is_fragmented;
            return Ok(is_cut.then(|| format!("it is cut within the header of a box at {at}")));
        }
        let kind = [header[4], header[5], header[6], header[7]];
        is_fragmented |= kind == *b"moof";
        let short = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let size = match (short, <[u8; 8]>::try_from(&header[8..])) {
            // The last box reaches to the end of the file. Zeros after all boxes are space left over, unless more
            // fragments should be there; the samples tell.
            (0, _) if kind == [0; 4] && is_fragmented => {
                return Ok(Some(format!("it is filled with zeros from {at}")));
            }
            (0, _) => return Ok(None),
            (1, Ok(long)) => u64::from_be_bytes(long),
            (short, _) => u64::from(short),
        };
        let end = at.checked_add(size.max(8)).filter(|it| *it <= length);
        match end {
            Some(end) => at = end,
            // Anything else may be what a camera appended without making it a box.
            None if !ESSENTIAL.contains(&&kind) => return Ok(None),
            None => {
                let name = String::from_utf8_lossy(&kind).into_owned();
                let message = format!("its box `{name}` at {at} reaches beyond its {length} bytes");
                return Ok(Some(message));
            }
        }
    }
    Ok(None)
}

/// Looks whether the samples of the index are there.
fn samples(file: &File, length: u64, input: &mut Input) -> io::Result<Option<String>> {
    let mut last: Option<(Extent, bool)> = None;
    for index in 0..input.streams().count() {
        let Some(facts) = raw::stream_facts(input, index) else { continue };
        let extents = raw::index_extents(input, index);
        let beyond = extents.iter().filter(|it| it.end() > length).count();
        if beyond > 0 {
            let all = extents.len();
            let stream = format!("{beyond} of the {all} samples of stream {index}");
            return Ok(Some(format!("{stream} lie beyond its {length} bytes")));
        }
        let is_compressed =
            facts.kind == Type::Video && !UNCOMPRESSED.contains(&facts.codec.as_str());
        let furthest = extents.iter().max_by_key(|it| it.end()).copied();
        last = last.max(furthest.map(|it| (it, is_compressed && facts.codec != "mjpeg")));
        if !is_compressed {
            continue;
        }
        for step in 0..SAMPLES.min(extents.len()) {
            let chosen = step * extents.len().saturating_sub(1) / SAMPLES.min(extents.len());
            // The last counts most: files are mostly filled in order.
            let chosen = if step == 0 { extents.len() - 1 } else { chosen };
            let extent = extents[chosen];
            let looked_at = (extent.size as usize).min(ZEROS);
            if looked_at >= 8 && is_zero(file, extent.at, looked_at)? {
                return Ok(Some(format!("sample {chosen} of stream {index} is zeros")));
            }
        }
    }
    match last {
        Some((extent, true))
            if extent.size as usize > ZEROS
                && is_zero(file, extent.end() - ZEROS as u64, ZEROS)? =>
        {
            Ok(Some("its last sample ends in zeros".to_owned()))
        }
        _ => Ok(None),
    }
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

/// Size (`None` where it is left open) and place of the content of an EBML element that is `id`.
fn element(bytes: &[u8], at: usize, id: &[u8; 4]) -> Option<(Option<u64>, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(id.as_slice())?;
    let first = *rest.first()?;
    let width = first.leading_zeros() as usize + 1;
    let digits = rest.get(..width).filter(|_| width <= 8)?;
    let mask = u64::MAX >> (64 - 7 * width);
    let value = digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) & mask;
    Some(((value != mask).then_some(value), at + id.len() + width))
}

/// Where the first RIFF chunk of an AVI file ends; later ones follow it.
fn riff_end(file: &File) -> io::Result<Option<u64>> {
    let mut start = [0; 8];
    let read = read_some(file, &mut start, 0)?;
    let [b'R', b'I', b'F', b'F', size @ ..] = start else { return Ok(None) };
    Ok((read == 8).then(|| u64::from(u32::from_le_bytes(size)) + 8))
}

fn is_zero(file: &File, at: u64, length: usize) -> io::Result<bool> {
    let mut bytes = vec![0; length];
    let read = read_some(file, &mut bytes, at)?;
    Ok(bytes[..read].iter().all(|byte| *byte == 0))
}

/// Reads as much of `bytes` as the file has at `at`.
fn read_some(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
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
