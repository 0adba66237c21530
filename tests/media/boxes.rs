//! MP4 files taken apart and put together again, for headers that no muxer writes.

/// A box of that name.
pub fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap();
    [&size.to_be_bytes()[..], name, content].concat()
}

/// Changes the content of the first box at `path`; the boxes round it grow with it. What lies before it must not move
/// where chunks are: the index is at the end of the file, as FFmpeg writes it.
pub fn edit(file: &[u8], path: &[&[u8; 4]], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (mut rest, mut out, mut done) = (file, Vec::new(), false);
    while let Some((size, _)) = rest.split_first_chunk::<4>() {
        let (this, after) = rest.split_at(u32::from_be_bytes(*size) as usize);
        let name: &[u8; 4] = this[4..8].try_into().unwrap();
        if name == path[0] && !done {
            done = true;
            let content = match path.len() {
                1 => change(&this[8..]),
                _ => edit(&this[8..], &path[1..], change),
            };
            out.extend(boxed(name, &content));
        } else {
            out.extend(this);
        }
        rest = after;
    }
    assert!(done, "no box {}", String::from_utf8_lossy(path[0]));
    out
}

/// Where the tables of the first track are.
const TABLES: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"stbl"];

/// Puts numbers in place of a table of the first track.
pub fn table(file: &[u8], name: &[u8; 4], numbers: &[u32]) -> Vec<u8> {
    let content: Vec<u8> = numbers.iter().flat_map(|it| it.to_be_bytes()).collect();
    edit(file, &[&TABLES[..], &[name]].concat(), &|_| content.clone())
}

/// The clip with an index of `frames` frames of one byte, all in one chunk: a few bytes that ask for 24 a frame.
pub fn index_of(file: &[u8], frames: u32) -> Vec<u8> {
    // An edit list would leave out all but the first second.
    let no_edits = |_: &[u8]| boxed(b"elst", &[0; 8]);
    let file = edit(file, &[b"moov", b"trak", b"edts"], &no_edits);
    let file = table(&file, b"stsz", &[0, 1, frames]);
    let file = table(&file, b"stsc", &[0, 1, 1, frames, 1]);
    table(&file, b"stts", &[0, 1, frames, 512])
}

/// A file with `count` tracks and nothing in them.
pub fn tracks(count: usize) -> Vec<u8> {
    let brand = boxed(b"ftyp", b"isom\0\0\0\0isom");
    [brand, boxed(b"moov", &boxed(b"trak", b"").repeat(count))].concat()
}
