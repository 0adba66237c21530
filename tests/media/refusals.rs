//! Clips that cannot be used, damaged clips, and outputs that cannot be written.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use num_rational::Ratio;
use slomod::config::settings::{Codec, Container};
use slomod::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};
use slomod::media::decode::Decoder;
use slomod::media::write::Writer;
use slomod::media::{self, MediaError};

use crate::skip::skip;
use crate::{ffmpeg, frames, lossless, spec, workshop};

fn code(path: &Path) -> &'static str {
    match media::probe(path) {
        Err(MediaError::Unusable { code, .. }) => code,
        Err(MediaError::Read { .. }) => "read",
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// W28, W38.
#[test]
fn what_is_no_clip_is_refused_with_its_code() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    let file = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    assert_eq!(code(&dir.join("absent.mp4")), "read");
    assert_eq!(code(dir), "not_video");
    assert_eq!(code(&file("empty.mp4", b"")), "empty");
    assert_eq!(code(&file("text.mp4", b"this is a letter, not a clip\n")), "not_video");
    assert_eq!(code(&file("noise.mp4", &[0x5a; 4096])), "not_video");
    let hls = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/etc/passwd\n#EXT-X-ENDLIST\n";
    assert_eq!(code(&file("hls.mp4", hls)), "playlist_refused");
    assert_eq!(
        code(&file("concat.mp4", b"ffconcat version 1.0\nfile a.mp4\n")),
        "playlist_refused"
    );
    assert_eq!(code(&file("list.mkv", b"file '/etc/passwd'\n")), "playlist_refused");
    assert_eq!(
        code(&file("sdp.mp4", b"v=0\no=- 0 0 IN IP4 1.2.3.4\nm=video 1 RTP/AVP 96\n")),
        "playlist_refused"
    );
    assert_eq!(
        code(&ffmpeg(dir, "-f lavfi -i testsrc2=s=64x64 -frames:v 1 still.jpg")),
        "not_video"
    );
    assert_eq!(code(&ffmpeg(dir, "-f lavfi -i sine=d=1 -c:a aac sound.m4a")), "not_video");
    let cover =
        "-i sound.m4a -i still.jpg -map 0 -map 1 -c copy -disposition:v attached_pic cover.m4a";
    assert_eq!(code(&ffmpeg(dir, cover)), "not_video");
}

/// W28: what could be made a clip of is refused with what to do.
#[test]
fn what_could_be_made_a_clip_of_is_refused_with_how() {
    let Some(dir) = workshop() else { return };
    let drawn = "-f lavfi -i testsrc2=s=64x64:r=10:d=1";
    for (arguments, said) in [
        (format!("{drawn} moving.gif"), "ffmpeg -i FILE -c:v ffv1 FILE.mkv"),
        (format!("{drawn} -f apng moving.png"), "ffmpeg -i FILE -c:v ffv1 FILE.mkv"),
        (format!("{drawn} many.mjpeg"), "numbered pictures"),
        (format!("{drawn} -frames:v 1 still.png"), "numbered pictures"),
        (format!("{drawn} -s 720x576 -r 25 tape.dv"), "ffmpeg -i FILE -c copy FILE.mkv"),
        ("-f lavfi -i sine=d=1 sound.wav".to_owned(), "sound alone"),
    ] {
        let error = media::probe(&ffmpeg(dir.path(), &arguments)).unwrap_err();
        assert!(matches!(error, MediaError::Unusable { code: "not_video", .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn a_recording_cut_short_is_told_apart() {
    let Some(dir) = workshop() else { return };
    let late = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=320x240:r=30:d=2 -c:v libx264 late.mp4");
    let bytes = fs::read(&late).unwrap();
    fs::write(&late, &bytes[..bytes.len() * 6 / 10]).unwrap();
    assert_eq!(code(&late), "moov_missing");

    let early = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=320x240:r=30:d=2 -c:v libx264 -movflags +faststart early.mp4",
    );
    let bytes = fs::read(&early).unwrap();
    let drain = |path: &Path| {
        let mut decoder = Decoder::open(path).unwrap();
        while decoder.next_frame().unwrap().is_some() {}
        (decoder.info().video.frames_promised, decoder.stats())
    };
    assert!(!drain(&early).1.truncated);

    fs::write(&early, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let (promised, stats) = drain(&early);
    assert_eq!(promised, Some(60));
    assert!(stats.decoded < 60 && stats.truncated, "{stats:?}");
    assert!(!stats.errors.is_empty());
    assert!(media::verify::verify(&early).unwrap().corrupt > 0);

    // Preallocated, the second half never written.
    let mut zeros = bytes.clone();
    let half = zeros.len() / 2;
    zeros[half..].fill(0);
    fs::write(&early, &zeros).unwrap();
    let (_, stats) = drain(&early);
    assert!(stats.decoded < 60 && stats.corrupt > 0, "{stats:?}");

    // A hole in the middle.
    let mut hole = bytes.clone();
    hole[half..half + 2_000].fill(0x5a);
    fs::write(&early, &hole).unwrap();
    let (_, stats) = drain(&early);
    assert!(stats.corrupt > 0 && stats.decoded > 30, "{stats:?}");
}

#[test]
fn a_truncated_matroska_falls_short_of_its_header() {
    let Some(dir) = workshop() else { return };
    let path = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=320x240:r=30:d=4 -c:v libx264 in.mkv");
    let bytes = fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    let mut spoiled = bytes.clone();
    spoiled[half..].fill(0x5a);
    // As long as it should be, and no index behind what was read: no last frame that is shown for seconds.
    for bytes in [&bytes[..half], &spoiled] {
        fs::write(&path, bytes).unwrap();
        let mut decoder = Decoder::open(&path).unwrap();
        while decoder.next_frame().unwrap().is_some() {}
        assert!(decoder.stats().truncated, "{:?}", decoder.stats());
    }
}

/// W39.
#[test]
fn huge_pictures_are_refused_before_they_are_held() {
    let Some(dir) = workshop() else { return };
    let path = ffmpeg(dir.path(), "-f lavfi -i color=s=64x64:r=25:d=0.2 -c:v libx264 in.mp4");
    // Width and height of the sample entry, 16 bits each, follow 32 bytes after its name.
    let mut bytes = fs::read(&path).unwrap();
    let name = bytes.windows(4).rposition(|it| it == b"avc1").unwrap();
    let size = name + 4 + 24;
    assert_eq!(bytes[size..size + 4], [0, 64, 0, 64]);
    bytes[size..size + 4].copy_from_slice(&[0x7f, 0xff, 0x7f, 0xff]);
    // The codec's own header is renamed, so that it cannot correct the size.
    let header = bytes.windows(4).rposition(|it| it == b"avcC").unwrap();
    bytes[header..header + 4].copy_from_slice(b"free");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(code(&path), "too_large");
}

/// W31, W38.
#[test]
fn names_are_taken_as_they_are() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v libx264 in.mp4");
    for name in [
        &b"-dash.mp4"[..],
        b"http:colon.mp4",
        b"concat:a|b.mp4",
        b"frame%03d.mp4",
        b"sp ace 'quote' $(x).mp4",
        b"line\nbreak.mp4",
        b"not-utf8-\xff\xfe.mp4",
        "\u{d55c}\u{ae00}.mp4".as_bytes(),
    ] {
        let path = dir.path().join(OsStr::from_bytes(name));
        fs::copy(&source, &path).unwrap();
        let info = media::probe(&path).unwrap();
        let out = dir.path().join(OsStr::from_bytes(&[name, b".out"].concat()));
        let all = frames(&path);
        let mut writer = Writer::create(&out, &info, &spec(Codec::H264, Container::Mp4)).unwrap();
        for frame in &all {
            writer.write(&frame.picture, frame.pts, Ratio::new(1, 25)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(frames(&out).len(), 5, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn a_size_that_changes_within_the_clip_is_an_error_with_its_place() {
    let Some(dir) = workshop() else { return };
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v libx264 -bsf:v h264_mp4toannexb a.h264",
    );
    ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=96x80:r=25:d=0.4 -c:v libx264 -bsf:v h264_mp4toannexb b.h264",
    );
    let both = [
        fs::read(dir.path().join("a.h264")).unwrap(),
        fs::read(dir.path().join("b.h264")).unwrap(),
    ];
    let path = dir.path().join("both.h264");
    fs::write(&path, both.concat()).unwrap();
    let mut decoder = Decoder::open(&path).unwrap();
    let mut count = 0;
    let error = loop {
        match decoder.next_frame() {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("the change was not seen after {count} frames"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MediaError::Unusable { code: "format_changes", .. }), "{error}");
    assert_eq!(count, 10);
}

#[test]
fn an_output_that_is_not_finished_is_removed() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v libx264 in.mp4");
    let info = media::probe(&source).unwrap();
    for codec in [Codec::H264, Codec::H265, Codec::Av1, Codec::Ffv1] {
        let out = dir.path().join("out.mkv");
        let mut writer = Writer::create(&out, &info, &spec(codec, Container::Mkv)).unwrap();
        assert!(out.exists());
        let picture = Picture::zeroed(info.video.picture);
        writer.write(&picture, Ratio::new(0, 1), Ratio::new(1, 25)).unwrap();
        let early = writer.write(&picture, Ratio::new(-1, 25), Ratio::new(1, 25));
        assert!(matches!(early, Err(MediaError::Write { .. })), "{codec:?}");
        drop(writer);
        assert!(!out.exists(), "{codec:?}");
    }
    let nowhere = dir.path().join("absent/out.mp4");
    let error = Writer::create(&nowhere, &info, &spec(Codec::H264, Container::Mp4)).err();
    let Some(MediaError::Write { source: Some(system), .. }) = error else { panic!("{error:?}") };
    assert_eq!(system.kind(), std::io::ErrorKind::NotFound);
}

/// A file system of that many bytes in the folder, unmounted when dropped.
struct Tiny<'a>(&'a Path);

impl<'a> Tiny<'a> {
    fn mount(path: &'a Path, bytes: usize) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let options = format!("size={bytes}");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status();
        done.is_ok_and(|it| it.success()).then_some(Self(path))
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_with_its_reason_and_leaves_nothing() {
    let Some(dir) = workshop() else { return };
    let source =
        ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=320x240:r=25:d=0.4 -c:v libx264 in.mp4");
    let info = media::probe(&source).unwrap();
    let place = dir.path().join("tiny");
    let Some(_tiny) = Tiny::mount(&place, 65_536) else {
        skip("no right to mount a tmpfs");
        return;
    };
    for container in [Container::Mp4, Container::Mkv] {
        let out = place.join("out");
        let mut writer = Writer::create(&out, &info, &lossless(container)).unwrap();
        let mut picture = Picture::zeroed(info.video.picture);
        let mut state = 1_u32;
        let mut result = Ok(());
        for index in 0..20 {
            for plane in &mut picture.planes {
                for sample in plane.iter_mut() {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *sample = (state >> 24) as u8;
                }
            }
            result = writer.write(&picture, Ratio::new(index, 25), Ratio::new(1, 25));
            if result.is_err() {
                break;
            }
        }
        let error = match result {
            Ok(()) => writer.finish().unwrap_err(),
            Err(error) => {
                drop(writer);
                error
            }
        };
        let MediaError::Write { source: Some(system), .. } = &error else { panic!("{error:?}") };
        assert_eq!(system.kind(), std::io::ErrorKind::StorageFull, "{container:?}");
        assert!(!out.exists(), "{container:?}");
    }
}

#[test]
fn a_small_disk_full_at_the_trailer_is_an_error_too() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v libx264 in.mp4");
    let info = media::probe(&source).unwrap();
    let place = dir.path().join("tiny");
    let Some(_tiny) = Tiny::mount(&place, 4_096) else {
        skip("no right to mount a tmpfs");
        return;
    };
    let out = place.join("out");
    let all = frames(&source);
    let mut writer = Writer::create(&out, &info, &lossless(Container::Mp4)).unwrap();
    // What little there is stays in buffers until the end.
    for frame in &all {
        writer.write(&frame.picture, frame.pts, Ratio::new(1, 25)).unwrap();
    }
    let error = writer.finish().unwrap_err();
    let MediaError::Write { source: Some(system), .. } = &error else { panic!("{error:?}") };
    assert_eq!(system.kind(), std::io::ErrorKind::StorageFull);
    assert!(!out.exists());
}

#[test]
fn av1_says_why_it_does_not_take_tiny_pictures() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=32x32:r=25:d=0.2 -c:v libx264 in.mp4");
    let info = media::probe(&source).unwrap();
    let out = dir.path().join("out.mp4");
    match Writer::create(&out, &info, &spec(Codec::Av1, Container::Mp4)) {
        Err(MediaError::Unencodable { encoder, reason }) => {
            assert_eq!(encoder, "libsvtav1");
            assert!(reason.contains("64"), "{reason}");
            assert!(!out.exists());
        }
        Err(other) => panic!("{other}"),
        // Newer versions take them.
        Ok(_) => {}
    }
}

#[test]
fn a_wrong_preset_is_the_encoders_error() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v libx264 in.mp4");
    let info = media::probe(&source).unwrap();
    assert_eq!(
        info.video.picture,
        PictureFormat {
            width_px: 64,
            height_px: 64,
            chroma: Chroma::C420,
            matrix: Matrix::Bt601,
            range: Range::Limited,
            depth: Depth::Eight,
        }
    );
    let mut spec = spec(Codec::H264, Container::Mp4);
    spec.encoding.preset = Some("swift".to_owned());
    let out = dir.path().join("out.mp4");
    let error = Writer::create(&out, &info, &spec).err();
    assert!(matches!(error, Some(MediaError::Encoder { .. })), "{error:?}");
    assert!(!out.exists());
}
