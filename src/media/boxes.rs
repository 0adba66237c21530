//! What lies in an MP4 or MOV file outside its tracks: FFmpeg passes over it, and cameras keep positions and forces there.
//!
//! BlackVue has them in boxes within a box `free`; Viofo and others with Novatek's chip have a box `gps ` in the index, a list
//! of where such blocks lie among the pictures. Boxes of any other name are taken as well: what they mean is not known here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::MediaError;
use super::complete::read_some;
use super::original;
use super::probe::read_error;

/// Bytes of all boxes that are taken at the most: an hour of Novatek's blocks, of 32 KiB a second, is 113 MB.
const MOST_BYTES: u64 = 128 << 20;
/// Bytes of one of them at the most: it is in memory at once.
const MOST_OF_ONE: u64 = 16 << 20;
/// Boxes that are looked at in one other, blocks of a list, and all that are found, at the most.
const MOST_BOXES: usize = 100_000;
/// Boxes that are named in a warning or a report at the most.
const MOST_NAMED: usize = 100;
/// Bytes that are looked at in one go.
const PIECE: usize = 1 << 16;

/// Boxes of a file that FFmpeg reads, or that only say where things are.
const OF_FILE: &[&[u8; 4]] =
    &[b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"ssix", b"prft", b"wide"];
/// The same of the index.
const OF_INDEX: &[&[u8; 4]] =
    &[b"mvhd", b"trak", b"mvex", b"iods", b"meta", b"udta", b"cmov", b"rmra", b"wide"];
/// And of what it says of the whole clip, beside names that begin with the sign of copyright.
const OF_ENTRIES: &[&[u8; 4]] = &[
    b"meta", b"name", b"hnti", b"hinf", b"chpl", b"FIRM", b"loci", b"manu", b"modl", b"cprt",
    b"desc", b"gnre", b"keyw", b"rtng",
];
/// Boxes that are there for their space; what else they hold counts.
const SPACE: &[&[u8; 4]] = &[b"free", b"skip"];
/// Novatek's list of places.
const LIST: &[u8; 4] = b"gps ";
/// Bytes before its entries: a version, and how many there are.
const LIST_HEADER: u64 = 8;

/// A box's content, or a block's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// Names of the boxes round it and its own, as `moov/gps `.
    pub(super) name: String,
    /// Where its content is in the file.
    pub(super) at: u64,
    /// How long that is.
    pub(super) length: u64,
}

/// What lies outside the tracks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Boxes {
    /// What fits the bound, in the order of the file.
    pub(super) taken: Vec<Outside>,
    /// What does not.
    pub(super) left_out: Vec<Outside>,
    /// Whether there are more than are looked at.
    more: bool,
}

impl Boxes {
    /// Looks for them in the file at `path`.
    ///
    /// # Errors
    /// [`MediaError::Read`].
    pub(super) fn find(path: &Path) -> Result<(File, Self), MediaError> {
        let failed = |error| read_error(path, error);
        let file = original::open(path).map_err(failed)?;
        let boxes = Self::of(&file, MOST_BYTES).map_err(failed)?;
        Ok((file, boxes))
    }

    fn of(file: &File, most_bytes: u64) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let mut found = Vec::new();
        for part in children(file, 0, end)? {
            match &part.kind {
                b"moov" => index(file, part, &mut found)?,
                kind if OF_FILE.contains(&kind) => {}
                _ => other(file, part, "", &mut found)?,
            }
        }
        let mut boxes = Self { more: found.len() >= MOST_BOXES, ..Self::default() };
        let (mut seen, mut room) = (BTreeSet::new(), most_bytes);
        for outside in found {
            if !seen.insert(outside.at) {
                continue;
            }
            match room.checked_sub(outside.length).filter(|_| outside.length <= MOST_OF_ONE) {
                Some(rest) => {
                    room = rest;
                    boxes.taken.push(outside);
                }
                None => boxes.left_out.push(outside),
            }
        }
        Ok(boxes)
    }

    /// What is left out, as a sentence; none where nothing is.
    pub(super) fn warning(&self) -> Option<(String, String)> {
        let name = |it: &Outside| format!("`{}` ({} bytes)", it.name, it.length);
        let named: Vec<_> = self.left_out.iter().take(MOST_NAMED).map(name).collect();
        let message = format!(
            "{} boxes outside the tracks are too large for the file beside the output: {}{}",
            self.left_out.len(),
            named.join(", "),
            if self.more { "; there are more, which nobody looked at" } else { "" }
        );
        (self.more || !named.is_empty()).then(|| ("boxes_dropped".to_owned(), message))
    }
}

impl Outside {
    /// Its bytes.
    ///
    /// # Errors
    /// The system's; one that ends early.
    pub(super) fn read(&self, file: &File) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length.min(MOST_OF_ONE)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        match read_some(file, &mut bytes, self.at)? == length {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Whether an MP4 or MOV file has fragments: its index does not give every packet a time, and where files were put behind each
/// other, times start again. One that is not whole has some.
///
/// # Errors
/// [`MediaError::Read`].
pub(super) fn has_fragments(path: &Path) -> Result<bool, MediaError> {
    let look = || {
        let file = original::open(path)?;
        let (mut at, end) = (0, file.metadata()?.len());
        while let Some(part) = part_at(&file, at, end)? {
            if part.kind == *b"moof" {
                return Ok(true);
            }
            at = part.end;
        }
        Ok::<_, io::Error>(false)
    };
    match look() {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        found => found.map_err(|error| read_error(path, error)),
    }
}

/// Names of boxes, each once, for a report.
pub(super) fn name_once(names: &mut Vec<String>, name: &str) {
    if names.len() < MOST_NAMED && !names.iter().any(|it| it == name) {
        names.push(name.to_owned());
    }
}

/// A box: its name, and where its content is.
#[derive(Clone, Copy, Debug)]
struct Part {
    kind: [u8; 4],
    at: u64,
    end: u64,
}

impl Part {
    /// Its name below those round it; each byte is a letter of Latin 1.
    fn name(&self, above: &str) -> String {
        above.chars().chain(self.kind.iter().map(|it| char::from(*it))).collect()
    }

    fn outside(&self, above: &str) -> Outside {
        Outside { name: self.name(above), at: self.at, length: self.end - self.at }
    }
}

/// The boxes from `at` to `end`. They end where there is none, as before zeros that close a list of entries.
fn children(file: &File, mut at: u64, end: u64) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    while parts.len() < MOST_BOXES
        && let Some(part) = part_at(file, at, end)?
    {
        at = part.end;
        parts.push(part);
    }
    Ok(parts)
}

/// The box that begins at `at` and ends at `end` or before.
fn part_at(file: &File, at: u64, end: u64) -> io::Result<Option<Part>> {
    let mut header = [0; 16];
    let read = if at < end { read_some(file, &mut header, at)? } else { 0 };
    let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _] = header;
    let long = <[u8; 8]>::try_from(&header[8..]).map_or(0, u64::from_be_bytes);
    let (start, size) = match u32::from_be_bytes([a, b, c, d]) {
        _ if read < 8 => return Ok(None),
        0 if kind == [0; 4] => return Ok(None),
        0 => (8, end - at),
        1 => (16, long),
        size => (8, u64::from(size)),
    };
    let next = at.checked_add(size).filter(|it| *it <= end && size >= start);
    Ok(next.map(|next| Part { kind, at: at + start, end: next }))
}

/// What FFmpeg passes over in the index.
fn index(file: &File, moov: Part, found: &mut Vec<Outside>) -> io::Result<()> {
    for part in children(file, moov.at, moov.end)? {
        match &part.kind {
            b"udta" => {
                for entry in children(file, part.at, part.end)? {
                    if !OF_ENTRIES.contains(&&entry.kind) && entry.kind[0] != 0xA9 {
                        other(file, entry, "moov/udta/", found)?;
                    }
                }
            }
            kind if OF_INDEX.contains(&kind) => {}
            kind => {
                other(file, part, "moov/", found)?;
                if kind == LIST {
                    blocks(file, part, found)?;
                }
            }
        }
    }
    Ok(())
}

/// A box that nobody else reads: the boxes in it where it is made of such, else itself; nothing where it is empty.
fn other(file: &File, part: Part, above: &str, found: &mut Vec<Outside>) -> io::Result<()> {
    if found.len() >= MOST_BOXES || is_empty(file, part.at, part.end)? {
        return Ok(());
    }
    let inside =
        if SPACE.contains(&&part.kind) { children(file, part.at, part.end)? } else { Vec::new() };
    let is_name = |it: &Part| it.kind.iter().all(|byte| matches!(byte, 0x20..=0x7E));
    if inside.last().is_none_or(|it| it.end != part.end) || !inside.iter().all(is_name) {
        found.push(part.outside(above));
        return Ok(());
    }
    let above = format!("{}/", part.name(above));
    for inner in inside {
        if found.len() < MOST_BOXES && !is_empty(file, inner.at, inner.end)? {
            found.push(inner.outside(&above));
        }
    }
    Ok(())
}

/// The blocks that Novatek's list names, each a box of its own among the pictures.
fn blocks(file: &File, list: Part, found: &mut Vec<Outside>) -> io::Result<()> {
    let end = file.metadata()?.len();
    let length = (list.end - list.at).saturating_sub(LIST_HEADER) / 8 * 8;
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(MOST_BOXES * 8);
    let mut entries = vec![0; length];
    let read = read_some(file, &mut entries, list.at + LIST_HEADER)?;
    for entry in entries[..read].as_chunks::<8>().0 {
        let [a, b, c, d, size @ ..] = *entry;
        let at = u64::from(u32::from_be_bytes([a, b, c, d]));
        let block = at + u64::from(u32::from_be_bytes(size));
        let Some(part) = part_at(file, at, block.min(end))? else { continue };
        if found.len() < MOST_BOXES && SPACE.contains(&&part.kind) {
            found.push(part.outside("moov/gps /"));
        }
    }
    Ok(())
}

/// Whether there are zeros alone.
fn is_empty(file: &File, mut at: u64, end: u64) -> io::Result<bool> {
    let mut piece = vec![0; usize::try_from(end - at).map_or(PIECE, |it| it.min(PIECE))];
    while at < end {
        let length = usize::try_from(end - at).map_or(PIECE, |it| it.min(PIECE));
        let read = read_some(file, &mut piece[..length], at)?;
        if piece[..read].iter().any(|it| *it != 0) {
            return Ok(false);
        }
        if read < length {
            break;
        }
        at += read as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len() + 8).unwrap();
        [&size.to_be_bytes()[..], name, content].concat()
    }

    fn found(bytes: &[u8], most_bytes: u64) -> (Vec<(String, Vec<u8>)>, Boxes) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let boxes = Boxes::of(&file, most_bytes).unwrap();
        let read = |it: &Outside| (it.name.clone(), it.read(&file).unwrap());
        (boxes.taken.iter().map(read).collect(), boxes)
    }

    #[test]
    fn what_ffmpeg_reads_and_what_is_empty_is_not_taken() {
        let entries = [boxed(b"\xA9nam", b"title"), boxed(b"meta", b"x"), vec![0; 4]].concat();
        let index = [boxed(b"mvhd", &[1; 100]), boxed(b"trak", b"y"), boxed(b"udta", &entries)];
        let clip = [
            boxed(b"ftyp", b"isom"),
            boxed(b"free", b""),
            boxed(b"moov", &index.concat()),
            boxed(b"skip", &[0; 100_000]),
            boxed(b"mdat", b"pictures"),
            vec![0; 20],
        ];
        assert_eq!(found(&clip.concat(), 1000), (Vec::new(), Boxes::default()));
    }

    #[test]
    fn boxes_within_space_are_named_and_the_blocks_of_a_list_are_followed() {
        let positions = [boxed(b"gps ", b"$GPRMC"), boxed(b"3gf ", &[1, 0]), boxed(b"pad ", &[0])];
        let block = boxed(b"free", b"GPS 37.5");
        // Right behind the header of `mdat`, twice in the list; one lies beyond the file, one is no such block.
        let list = |at: u32| {
            let entry = |at: u32| [at.to_be_bytes(), 16_u32.to_be_bytes()].concat();
            let entries = [entry(at), entry(at), entry(1 << 31), entry(0)];
            [vec![0, 0, 1, 1, 0, 0, 0, 4], entries.concat()].concat()
        };
        let index = [boxed(b"gps ", &list(8)), boxed(b"udta", &boxed(b"LENS", b"wide"))].concat();
        let clip = [
            boxed(b"mdat", &[&block[..], b"pictures"].concat()),
            boxed(b"moov", &index),
            boxed(b"free", &positions.concat()),
            boxed(b"free", b"made by somebody"),
            boxed(b"uuid", b"whatever"),
        ];
        let (taken, boxes) = found(&clip.concat(), 10_000);
        let expected: [(&str, &[u8]); 7] = [
            ("moov/gps ", &list(8)),
            ("moov/gps /free", b"GPS 37.5"),
            ("moov/udta/LENS", b"wide"),
            ("free/gps ", b"$GPRMC"),
            ("free/3gf ", &[1, 0]),
            ("free", b"made by somebody"),
            ("uuid", b"whatever"),
        ];
        assert_eq!(taken, expected.map(|it| (it.0.to_owned(), it.1.to_vec())));
        assert_eq!(boxes.warning(), None);
        // What has no room is named with its size.
        let (taken, boxes) = found(&clip.concat(), 20);
        assert_eq!(taken.len(), 4, "{taken:?}");
        let (code, message) = boxes.warning().unwrap();
        assert_eq!(code, "boxes_dropped");
        assert!(message.contains("`moov/gps ` (40 bytes)"), "{message}");
    }

    #[test]
    fn no_bytes_are_too_odd() {
        for bytes in [
            &b""[..],
            b"\0\0\0",
            &boxed(b"moov", &[0xFF; 9]),
            &[boxed(b"free", b"x"), b"\xFF\xFF\xFF\xFFwhat".to_vec()].concat(),
            b"\0\0\0\x01free\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"\0\0\0\x01free\0\0\0\0\0\0\0\0",
            &boxed(b"moov", &boxed(b"gps ", b"\0\0")),
        ] {
            found(bytes, 1000);
        }
        // As many as nobody has, of which the first are taken.
        let many = boxed(b"free", &boxed(b"a   ", b"b").repeat(MOST_BOXES * 2 / 3));
        let (taken, boxes) = found(&[boxed(b"moov", b""), many.clone(), many].concat(), 1 << 20);
        assert_eq!(taken.len(), MOST_BOXES);
        assert!(boxes.warning().unwrap().1.ends_with("which nobody looked at"));
    }
}
