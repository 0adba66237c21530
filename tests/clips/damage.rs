//! What cannot be decoded is a barrier: reported with its range, and nothing is made across it.

use std::fs;
use std::path::Path;

use slomod::frame::{Frame, Seconds};

use crate::{Place, decoded, kinds, slow, warns};

/// Replaces bytes in the middle of the file, counted from `part` of it on.
fn spoil(from: &Path, to: &Path, part: f64, count: usize) {
    let mut bytes = fs::read(from).unwrap();
    let at = (bytes.len() as f64 * part) as usize;
    for (number, byte) in bytes[at..at + count].iter_mut().enumerate() {
        *byte = (number * 7919 % 251) as u8;
    }
    fs::write(to, bytes).unwrap();
}

/// V22, M12: some kilobytes in the middle are overwritten.
#[test]
fn what_cannot_be_decoded_is_a_barrier_with_its_range() {
    let Some(place) = Place::new() else { return };
    for (options, name, frames, factor) in [
        ("-c:v libx264 -g 25 -bf 2", "a.mp4", 100, 4_usize),
        ("-c:v libx264 -g 25 -bf 0", "b.mkv", 100, 2),
        ("-c:v libx265 -x265-params log-level=none:keyint=25", "c.mp4", 100, 2),
        ("-c:v mpeg4 -g 25 -b:v 1M", "d.avi", 100, 2),
        ("-c:v libx264 -g 25", "e.ts", 100, 2),
        ("-c:v mpeg2video -g 25 -b:v 1M", "f.ts", 100, 2),
    ] {
        let whole =
            place.ffmpeg(&format!("-f lavfi -i testsrc2=s=320x180:r=25:d=4 {options} {name}"));
        let source = place.path(&format!("spoilt-{name}"));
        spoil(&whole, &source, 0.5, 6_000);
        let (output, report) = place.convert(&source, "out.mkv", slow(factor as u32));
        let barriers = &report.interpolation.as_ref().unwrap().barriers;
        assert!(!barriers.is_empty(), "{name}: {:?}", report.warnings);
        assert!(warns(&report, "barriers") && warns(&report, "source_damaged"), "{name}");
        let lost: u64 = barriers.iter().map(|it| it.lost).sum();
        let marred: u64 = barriers.iter().map(|it| it.marred).sum();
        assert!(lost + marred > 0, "{name}: {barriers:?}");
        let before = decoded(&source);
        if !name.ends_with("avi") && !name.ends_with("ts") {
            assert_eq!(before.len() as u64 + lost, frames, "{name}: every frame is accounted for");
        }
        for barrier in barriers {
            assert!(barrier.pts_from_s < barrier.pts_to_s, "{name}: {barrier:?}");
            assert!(barrier.pts_to_s - barrier.pts_from_s < 2.0, "{name}: {barrier:?}");
        }
        // What is shown within a barrier is a real frame.
        let kinds = kinds(&report);
        let after = decoded(&output);
        assert_eq!((kinds.len(), after.len()), (before.len() * factor, before.len() * factor));
        let within = |a: &Frame, b: &Frame| {
            let seconds = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
            let (from, to) = (seconds(a.pts), seconds(b.pts));
            barriers.iter().any(|it| it.pts_from_s <= from + 1e-6 && it.pts_to_s >= to - 1e-6)
        };
        let mut barred = 0;
        for (index, pair) in before.windows(2).enumerate() {
            let shown = &kinds[index * factor..(index + 1) * factor];
            if within(&pair[0], &pair[1]) {
                barred += 1;
                assert_eq!(shown[0], "real", "{name}: source frame {index}");
                assert!(shown[1..].iter().all(|it| *it == "held"), "{name}: {index} {shown:?}");
                for held in &after[index * factor..(index + 1) * factor] {
                    assert!(held.picture == pair[0].picture, "{name}: source frame {index}");
                }
            }
        }
        assert!(barred > 0, "{name}");
        let made = kinds.iter().filter(|it| **it == "synthesised").count();
        assert!(made > before.len() / 2, "{name}: the rest is worked as ever: {made}");
    }
}

/// V22: damage at the first pictures and at the last has its range too.
#[test]
fn damage_at_either_end_is_a_barrier_as_well() {
    let Some(place) = Place::new() else { return };
    let drawn = "-f lavfi -i testsrc2=s=320x180:r=25:d=4";
    // The index of the first lies at its end, that of the second before all pictures.
    let last = place.ffmpeg(&format!("{drawn} -c:v libx264 -g 25 -bf 2 last.mp4"));
    let first =
        place.ffmpeg(&format!("{drawn} -c:v libx264 -g 25 -bf 2 -movflags +faststart first.mp4"));
    let mkv = place.ffmpeg(&format!("{drawn} -c:v libx264 -g 25 -bf 0 in.mkv"));
    for (whole, part) in [(&last, 0.05), (&first, 0.93), (&mkv, 0.05), (&mkv, 0.93)] {
        let name = format!("{} at {part}", whole.display());
        let source = place.path(&format!("spoilt.{}", whole.extension().unwrap().display()));
        spoil(whole, &source, part, 3_000);
        let (output, report) = place.convert(&source, "out.mkv", slow(2));
        let barriers = &report.interpolation.as_ref().unwrap().barriers;
        assert!(warns(&report, "barriers") && warns(&report, "source_damaged"), "{name}");
        let lost: u64 = barriers.iter().map(|it| it.lost).sum();
        let before = decoded(&source);
        // What Matroska's demuxer passes over at the end nobody sees.
        if whole != &mkv || part < 0.5 {
            assert_eq!(before.len() as u64 + lost, 100, "{name}: {barriers:?}");
        }
        let seconds = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
        let barrier = if part < 0.5 { barriers.first() } else { barriers.last() }.unwrap();
        assert!(barrier.lost + barrier.marred > 0, "{name}: {barrier:?}");
        // One before all sound frames has none before it, and is at the first of them.
        assert!(barrier.pts_from_s <= barrier.pts_to_s, "{name}: {barrier:?}");
        match part < 0.5 {
            true => {
                assert!(barrier.pts_from_s < 1.1 && barrier.pts_to_s < 1.3, "{name}: {barrier:?}")
            }
            false => assert!(barrier.pts_to_s > 3.5, "{name}: {barrier:?}"),
        }
        let kinds = kinds(&report);
        assert_eq!((kinds.len(), decoded(&output).len()), (2 * before.len(), 2 * before.len()));
        for (index, pair) in before.windows(2).enumerate() {
            let (from, to) = (seconds(pair[0].pts), seconds(pair[1].pts));
            let within =
                barriers.iter().any(|it| it.pts_from_s <= from + 1e-6 && it.pts_to_s >= to - 1e-6);
            if within {
                assert_eq!(kinds[2 * index + 1], "held", "{name}: source frame {index}");
            }
        }
        let made = kinds.iter().filter(|it| **it == "synthesised").count();
        assert!(made > before.len() / 2, "{name}: the rest is worked as ever: {made}");
    }
}

/// Where the packets of the picture lie in a file, and whether it can begin there.
fn packets(path: &Path) -> Vec<(usize, bool)> {
    let run = std::process::Command::new("ffprobe")
        .args(["-v", "quiet", "-select_streams", "v:0", "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pos,flags"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let packet = |line: &str| {
        let (pos, flags) = line.split_once(',')?;
        Some((pos.parse().ok()?, flags.starts_with('K')))
    };
    text.lines().filter_map(packet).collect()
}

/// V22: a recording that begins between key frames, as one cut out of a broadcast, and one that begins with an open group of
/// pictures, which lacks nothing of its own.
#[test]
fn pictures_before_the_first_key_frame_are_lost_and_said_to_be() {
    let Some(place) = Place::new() else { return };
    let drawn = "-f lavfi -i testsrc2=s=160x90:r=25:d=4";
    for codec in [
        "libx264 -bf 2 -g 25 -x264-params open-gop=1",
        "libx265 -x265-params log-level=none:keyint=25:open-gop=1",
        "mpeg2video -bf 2 -g 25",
    ] {
        let whole = place.ffmpeg(&format!("{drawn} -c:v {codec} whole.ts"));
        let bytes = fs::read(&whole).unwrap();
        let at = packets(&whole);
        let (key, _) = *at.iter().filter(|it| it.1).nth(1).unwrap();
        // The tables of the transport stream are its first three packets.
        let tables = &bytes[..3 * 188];
        let source = place.path("cut.ts");
        for (from, lost) in [(at[10].0, true), (key, false)] {
            let name = format!("{codec} from {from}");
            fs::write(&source, [tables, &bytes[from..]].concat()).unwrap();
            let (output, report) = place.convert(&source, "out.mkv", slow(2));
            let barriers = &report.interpolation.as_ref().unwrap().barriers;
            assert_eq!(warns(&report, "source_damaged"), lost, "{name}: {:?}", report.warnings);
            let left = decoded(&source).len() as u64;
            assert_eq!(decoded(&output).len() as u64, 2 * left, "{name}");
            if lost {
                let sent = at.iter().filter(|it| it.0 >= from).count() as u64;
                let frames = &report.source.frames;
                // Some decoders show pictures of which a part is missing, and others none.
                let first = &barriers[0];
                assert!(first.frame == 0 || first.pts_from_s < 2.0, "{name}: {first:?}");
                assert!(first.lost + first.marred >= 10, "{name}: {first:?}");
                assert!(frames.corrupt >= 10, "{name}: {frames:?}");
                // Of the open group those that are shown before its key frame are no loss of their own.
                assert!(sent.abs_diff(left + first.lost) <= 3, "{name}: {first:?}");
            } else {
                assert!(barriers.is_empty(), "{name}: {barriers:?}");
            }
        }
    }
}

/// V22: sound clips have none.
#[test]
fn a_whole_clip_has_no_barrier() {
    let Some(place) = Place::new() else { return };
    for options in [
        "-c:v libx264 -bf 3 a.mp4",
        "-c:v libx264 -flags +ilme+ildct -x264opts tff=1 b.ts",
        "-c:v libvpx-vp9 -auto-alt-ref 1 -lag-in-frames 10 -deadline realtime -cpu-used 8 c.webm",
        "-c:v mpeg4 -bf 2 d.avi",
        "-c:v libsvtav1 -preset 12 e.mkv",
        "-c:v mpeg2video -bf 2 f.mpg",
    ] {
        let source = place.ffmpeg(&format!("-f lavfi -i testsrc2=s=160x96:r=25:d=1.2 {options}"));
        let (_, report) = place.convert(&source, "out.mkv", slow(2));
        let barriers = &report.interpolation.as_ref().unwrap().barriers;
        assert!(barriers.is_empty(), "{options}: {barriers:?}");
        assert!(!warns(&report, "barriers"), "{options}");
    }
}
