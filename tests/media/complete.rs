//! Clips that open though a part of them is not there (yet).

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use slomod::media::complete::{self, Extent};
use slomod::media::{self, MediaError};

use crate::{ffmpeg, skip, workshop};

const PICTURES: &str = "-f lavfi -i testsrc2=s=320x240:r=30:d=4 -c:v libx264 -preset ultrafast";

/// What is said of a clip that opens: how much of it is there, or the code of what is not.
fn told(path: &Path) -> Result<Extent, &'static str> {
    media::probe(path).unwrap();
    match complete::check(path) {
        Ok(extent) => Ok(extent),
        Err(MediaError::Unusable { code, .. }) => Err(code),
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// It is waited for, and refused once it is waited for no more, unless it has a hole only.
#[track_caller]
fn assert_doubted(path: &Path, code: &str) {
    assert_eq!(told(path), Err(code), "{}", path.display());
    assert_eq!(complete::check_end(path).is_ok(), code == "hole", "{}", path.display());
}

/// W04. A whole file of any container passes, and so does one whose pictures are zeros by right.
#[test]
fn whole_clips_are_complete() {
    let Some(dir) = workshop() else { return };
    let sound = "-f lavfi -i sine=d=4";
    let fragments = "-c:a aac -movflags frag_keyframe+empty_moov";
    for (options, name, extent) in [
        ("-c:a aac", "late.mp4", Extent::Said),
        ("-c:a aac -movflags +faststart", "early.mp4", Extent::Said),
        (&format!("{fragments} -g 15"), "fragments.mp4", Extent::Said),
        (&format!("{fragments}+skip_trailer -g 15"), "live.mp4", Extent::Unsaid),
        ("-c:a pcm_s16le", "pcm.mov", Extent::Said),
        ("-c:a aac", "in.mkv", Extent::Said),
        ("-c:a aac -f matroska -live 1", "live.mkv", Extent::Unsaid),
        ("-c:a mp3", "in.avi", Extent::Said),
        ("-c:a aac", "in.ts", Extent::Unsaid),
        ("-c:a aac", "in.flv", Extent::Unsaid),
    ] {
        // The sound is the first input, as the encoder's options follow the pictures.
        let path = ffmpeg(dir.path(), &format!("{sound} {PICTURES} {options} {name}"));
        assert_eq!(told(&path), Ok(extent), "{name}");
    }
    let black = "-f lavfi -i color=black:s=320x240:r=30:d=1";
    for (options, name) in [
        ("-c:v rawvideo -pix_fmt rgb24", "black.mov"),
        ("-c:v rawvideo -pix_fmt bgr24", "black.avi"),
        ("-c:v mjpeg", "mjpeg.mov"),
        ("-c:v mpeg4", "mpeg4.mp4"),
        ("-c:v libx265 -preset ultrafast -x265-params log-level=none", "hevc.mp4"),
        ("-c:v ffv1", "ffv1.mkv"),
        ("-c:v mpeg2video", "in.mpg"),
        ("-c:v wmv2", "in.wmv"),
    ] {
        let path = ffmpeg(dir.path(), &format!("{black} {options} {name}"));
        // Where black pictures may be space that was not filled, as at the end of raw AVI, it is not said.
        let is_said = ["mov", "mp4", "mkv"].iter().any(|it| name.ends_with(it));
        let extent = if is_said { Extent::Said } else { Extent::Unsaid };
        let found = told(&path);
        assert!(found == Ok(extent) || found.is_ok() && name == "black.avi", "{name}: {found:?}");
    }
    // What a phone appended that is no box.
    let path = ffmpeg(dir.path(), &format!("{PICTURES} odd.mp4"));
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"SEFH\x6a\x00\x00\x00\x01\x00\x00\x00SEFT");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(told(&path), Ok(Extent::Said));
    // Space left over behind all samples.
    bytes.extend([0; 10_000]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(told(&path), Ok(Extent::Said));
}

/// W04, M10, M11. The index is there from the first instant, the pictures are not.
#[test]
fn a_faststart_clip_without_its_end_is_incomplete() {
    let Some(dir) = workshop() else { return };
    let path = ffmpeg(dir.path(), &format!("{PICTURES} -movflags +faststart in.mp4"));
    let bytes = fs::read(&path).unwrap();
    for tenth in [3, 6, 9] {
        let here = bytes.len() * tenth / 10;
        fs::write(&path, &bytes[..here]).unwrap();
        assert_doubted(&path, "truncated_mdat");
        // Its whole size was reserved.
        let mut filled = bytes.clone();
        filled[here..].fill(0);
        fs::write(&path, &filled).unwrap();
        assert_doubted(&path, "zero_tail");
    }
    let mut filled = bytes.clone();
    let end = filled.len();
    filled[end - 100..].fill(0);
    fs::write(&path, &filled).unwrap();
    assert_doubted(&path, "zero_tail");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(told(&path), Ok(Extent::Said));
}

/// W01, W04. Boxes of more than 4 GB say their size in 64 bits: the samples of a camera's long clip, in which a part may be
/// missing like in any other, and space that was left free before an index.
#[test]
fn sizes_of_64_bits_are_read() {
    let Some(dir) = workshop() else { return };
    let path = ffmpeg(dir.path(), &format!("{PICTURES} -movflags +faststart in.mp4"));
    let mut bytes = fs::read(&path).unwrap();
    // FFmpeg leaves room for the longer header.
    let at = bytes.windows(8).position(|it| it == b"\0\0\0\x08free").unwrap();
    assert_eq!(&bytes[at + 12..at + 16], b"mdat");
    let short = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap());
    bytes[at..at + 8].copy_from_slice(b"\0\0\0\x01mdat");
    bytes[at + 8..at + 16].copy_from_slice(&(u64::from(short) + 8).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_eq!(told(&path), Ok(Extent::Said));
    let here = bytes.len() * 6 / 10;
    fs::write(&path, &bytes[..here]).unwrap();
    assert_doubted(&path, "truncated_mdat");
    let mut filled = bytes.clone();
    filled[here..].fill(0);
    fs::write(&path, &filled).unwrap();
    assert_doubted(&path, "zero_tail");

    // Five gigabytes, of which nothing lies on the disk.
    let path = ffmpeg(dir.path(), &format!("{PICTURES} late.mp4"));
    let bytes = fs::read(&path).unwrap();
    let index = bytes.windows(4).rposition(|it| it == b"moov").unwrap() - 4;
    let (samples, index) = bytes.split_at(index);
    let space = 5_u64 << 30;
    let header = [&b"\0\0\0\x01free"[..], &space.to_be_bytes()].concat();
    fs::write(&path, [samples, &header].concat()).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let end = samples.len() as u64 + space;
    if file.set_len(end).is_err() {
        skip("no file may be of five gigabytes here");
        return;
    }
    assert!(media::probe(&path).is_err(), "without its index");
    file.write_all_at(index, end).unwrap();
    assert_eq!(told(&path), Ok(Extent::Said));
}

/// W04. Programs that write parts in any order have the index before the middle.
#[test]
fn a_hole_in_the_middle_is_incomplete_and_damage_is_not() {
    let Some(dir) = workshop() else { return };
    let path = ffmpeg(dir.path(), &format!("{PICTURES} in.mp4"));
    let bytes = fs::read(&path).unwrap();
    let (from, to) = (bytes.len() * 4 / 10, bytes.len() * 6 / 10);
    let mut filled = bytes.clone();
    filled[from..to].fill(0);
    fs::write(&path, &filled).unwrap();
    assert_doubted(&path, "hole");
    // M12: wrong bytes are damage, for the report; waiting would not mend them.
    let mut filled = bytes.clone();
    filled[from..to].fill(0x5a);
    fs::write(&path, &filled).unwrap();
    assert_eq!(told(&path), Ok(Extent::Said));
}

/// W04. The size is right, and the index lies behind what is missing at the end: it may have been written before.
#[test]
fn an_index_behind_an_end_that_was_not_filled_proves_nothing() {
    let Some(dir) = workshop() else { return };
    for (options, name, index) in [
        ("", "late.mp4", &b"moov"[..]),
        ("-c:v mpeg4 -q:v 20", "mpeg4.mp4", b"moov"),
        ("", "in.mkv", b"\x1c\x53\xbb\x6b"),
        ("-c:v libvpx -b:v 1M -deadline realtime", "vp8.mkv", b"\x1c\x53\xbb\x6b"),
        ("", "in.avi", b"idx1"),
        ("-c:v mpeg4 -q:v 20", "mpeg4.avi", b"idx1"),
    ] {
        let path = ffmpeg(dir.path(), &format!("{PICTURES} {options} {name}"));
        assert_eq!(told(&path), Ok(Extent::Said), "{name}");
        let bytes = fs::read(&path).unwrap();
        let end = bytes.windows(4).rposition(|it| it == index).unwrap() - 4;
        let mut filled = bytes.clone();
        filled[end - 8192..end].fill(0);
        fs::write(&path, &filled).unwrap();
        assert_doubted(&path, "zero_tail");
    }
    // A part of the last picture: of other codecs that may be what they have to say.
    for (name, index, hole) in [
        ("part.mp4", &b"moov"[..], 100),
        ("part.mkv", b"\x1c\x53\xbb\x6b", 4200),
        ("part.avi", b"idx1", 100),
    ] {
        let path = ffmpeg(dir.path(), &format!("{PICTURES} -g 1 {name}"));
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.windows(4).rposition(|it| it == index).unwrap() - 300;
        bytes[end - hole..end].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert_doubted(&path, "zero_tail");
    }
    let sound = "-f lavfi -i sine=d=5";
    let options = "-c:a aac -movflags +faststart";
    let path = ffmpeg(dir.path(), &format!("{sound} {PICTURES} {options} sound.mp4"));
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 600..].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_doubted(&path, "zero_tail");
}

/// W04, W06. What does not say how much belongs to it is as good cut as whole: it is not said to be whole.
#[test]
fn other_containers_fall_short_of_their_own_sizes() {
    let Some(dir) = workshop() else { return };
    let fragments = "-movflags frag_keyframe+empty_moov -g 15";
    for (options, name, cut) in [
        (fragments, "in.mp4", Err("truncated_mdat")),
        ("", "in.mkv", Err("truncated")),
        ("", "in.avi", Err("truncated")),
        ("", "in.ts", Ok(Extent::Unsaid)),
        ("", "in.flv", Ok(Extent::Unsaid)),
        ("-f mpegts", "in.m2ts", Ok(Extent::Unsaid)),
        ("-c:v mpeg2video", "in.mpg", Ok(Extent::Unsaid)),
        ("-c:v wmv2 -b:v 2M", "in.wmv", Ok(Extent::Unsaid)),
        ("-c:v mpeg2video", "in.mxf", Ok(Extent::Unsaid)),
        ("-f matroska -live 1", "live.mkv", Ok(Extent::Unsaid)),
    ] {
        let path = ffmpeg(dir.path(), &format!("{PICTURES} {options} {name}"));
        let bytes = fs::read(&path).unwrap();
        let here = bytes.len() * 6 / 10;
        fs::write(&path, &bytes[..here]).unwrap();
        assert_eq!(told(&path), cut, "{name}");
        let mut filled = bytes.clone();
        filled[here..].fill(0);
        fs::write(&path, &filled).unwrap();
        assert_doubted(&path, "zero_tail");
    }
    // Cut exactly between two fragments: only the index behind the last is missing.
    let path = ffmpeg(dir.path(), &format!("{PICTURES} {fragments} between.mp4"));
    let bytes = fs::read(&path).unwrap();
    let last = bytes.windows(4).rposition(|it| it == b"moof").unwrap() - 4;
    fs::write(&path, &bytes[..last]).unwrap();
    assert_eq!(told(&path), Ok(Extent::Unsaid));
}
