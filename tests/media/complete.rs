//! Clips that open though a part of them is not there (yet).

use std::fs;
use std::path::Path;

use slomod::media::{self, MediaError, complete};

use crate::{ffmpeg, workshop};

const PICTURES: &str = "-f lavfi -i testsrc2=s=320x240:r=30:d=4 -c:v libx264 -preset ultrafast";

/// Why the clip, which opens, is taken for incomplete.
fn doubt(path: &Path) -> Option<String> {
    media::probe(path).unwrap();
    match complete::check(path) {
        Ok(()) => None,
        Err(MediaError::Unusable { code: "incomplete", reason, .. }) => Some(reason),
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[track_caller]
fn assert_doubted(path: &Path, word: &str) {
    let reason = doubt(path).unwrap_or_else(|| panic!("{} passes", path.display()));
    assert!(reason.contains(word), "{}: {reason}", path.display());
}

/// W04. A whole file of any container passes, and so does one whose pictures are zeros by right.
#[test]
fn whole_clips_are_complete() {
    let Some(dir) = workshop() else { return };
    let sound = "-f lavfi -i sine=d=4";
    for (options, name) in [
        ("-c:a aac", "late.mp4"),
        ("-c:a aac -movflags +faststart", "early.mp4"),
        ("-c:a aac -movflags frag_keyframe+empty_moov -g 15", "fragments.mp4"),
        ("-c:a pcm_s16le", "pcm.mov"),
        ("-c:a aac", "in.mkv"),
        ("-c:a mp3", "in.avi"),
        ("-c:a aac", "in.ts"),
        ("-c:a aac", "in.flv"),
    ] {
        // The sound is the first input, as the encoder's options follow the pictures.
        let path = ffmpeg(dir.path(), &format!("{sound} {PICTURES} {options} {name}"));
        assert_eq!(doubt(&path), None, "{name}");
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
    ] {
        let path = ffmpeg(dir.path(), &format!("{black} {options} {name}"));
        let found = doubt(&path);
        // A raw picture that ends an AVI file may be black: it is looked at again, and taken when grace ends.
        assert!(found.is_none() || name == "black.avi", "{name}: {found:?}");
    }
    // What a phone appended that is no box.
    let path = ffmpeg(dir.path(), &format!("{PICTURES} odd.mp4"));
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"SEFH\x6a\x00\x00\x00\x01\x00\x00\x00SEFT");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(doubt(&path), None);
    // Space left over behind all samples.
    bytes.extend([0; 10_000]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(doubt(&path), None);
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
        assert_doubted(&path, "beyond");
        // Its whole size was reserved.
        let mut filled = bytes.clone();
        filled[here..].fill(0);
        fs::write(&path, &filled).unwrap();
        assert_doubted(&path, "zeros");
    }
    let mut filled = bytes.clone();
    let end = filled.len();
    filled[end - 100..].fill(0);
    fs::write(&path, &filled).unwrap();
    assert_doubted(&path, "zeros");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(doubt(&path), None);
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
    assert_doubted(&path, "zeros");
    // M12: wrong bytes are damage, for the report; waiting would not mend them.
    let mut filled = bytes.clone();
    filled[from..to].fill(0x5a);
    fs::write(&path, &filled).unwrap();
    assert_eq!(doubt(&path), None);
}

/// W04.
#[test]
fn other_containers_fall_short_of_their_own_sizes() {
    let Some(dir) = workshop() else { return };
    for (options, name, cut, zeros) in [
        ("-movflags frag_keyframe+empty_moov -g 15", "in.mp4", "beyond", "zeros"),
        ("", "in.mkv", "promises", "zeros"),
        ("", "in.avi", "promises", "zeros"),
        ("", "in.ts", "", "zeros"),
        ("", "in.flv", "", "zeros"),
    ] {
        let path = ffmpeg(dir.path(), &format!("{PICTURES} {options} {name}"));
        let bytes = fs::read(&path).unwrap();
        let here = bytes.len() * 6 / 10;
        // A cut transport stream or Flash video is as good as a short one: nothing in it tells.
        if !cut.is_empty() {
            fs::write(&path, &bytes[..here]).unwrap();
            assert_doubted(&path, cut);
        }
        let mut filled = bytes.clone();
        filled[here..].fill(0);
        fs::write(&path, &filled).unwrap();
        assert_doubted(&path, zeros);
    }
}
