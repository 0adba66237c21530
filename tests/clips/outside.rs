//! What an MP4 or MOV file has outside its tracks: written beside the output, or said to be left out.

use std::fs;

use serde_json::Value;
use slomod::config::settings::{Codec, Container, Encoding, Settings};
use slomod::media::sidecar::STREAMS;
use slomod::pipeline::beside::folder;

use crate::boxes::{boxed, edit};
use crate::{Place, slow, warns};

fn mp4() -> Settings {
    let encoding = Encoding {
        codec: Codec::H264,
        preset: Some("ultrafast".into()),
        container: Some(Container::Mp4),
        ..Encoding::default()
    };
    Settings { encoding, ..slow(2) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// V20: positions as BlackVue keeps them in a box `free`, and Viofo among the pictures with a list in the index.
#[test]
fn positions_outside_the_tracks_are_written_beside_the_output() {
    let Some(place) = Place::new() else { return };
    let plain = place.ffmpeg("-f lavfi -i testsrc2=s=64x64:r=10:d=0.5 -c:v libx264 plain.mp4");
    let (_, report) = place.convert(&plain, "plain_out.mp4", mp4());
    assert!(report.output.unwrap().sidecars.is_empty());
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);

    let sentence = b"[1772352900000]$GPRMC,081500.00,A,3734.0,N,12658.7,E,30.2,,010326,,,A*5C\r\n";
    let forces = [0, 0, 0, 100, 0, 1, 255, 254, 0, 90];
    let file = fs::read(&plain).unwrap();
    // The block stands behind all else; the list in the index, which grows by it, says where.
    let list = |at: u32| {
        let block = [at.to_be_bytes(), 24_u32.to_be_bytes()].concat();
        boxed(b"gps ", &[vec![0, 0, 1, 1, 0, 0, 0, 1], block].concat())
    };
    let block_at = file.len() as u32 + list(0).len() as u32;
    let longer = |index: &[u8]| [index, &list(block_at)].concat();
    let block = boxed(b"free", b"GPS \0\0\x01\0N\0\0\0E\0\0\x07");
    let space = boxed(b"free", &[boxed(b"gps ", sentence), boxed(b"3gf ", &forces)].concat());
    let source = place.path("20260301_081500_NF.mp4");
    fs::write(&source, [edit(&file, &[b"moov"], &longer), block, space].concat()).unwrap();

    let (output, report) = place.convert(&source, "out.mp4", mp4());
    let made = report.output.as_ref().unwrap();
    let described = &made.sidecars[0];
    let names = ["moov/gps ", "moov/gps /free", "free/gps ", "free/3gf "];
    assert_eq!(described.boxes, names);
    assert_eq!((described.kind.as_str(), described.streams.len()), ("streams", 0));
    assert!(!warns(&report, "boxes_dropped"), "{:?}", report.warnings);
    let text = fs::read_to_string(folder(&output).join(STREAMS)).unwrap();
    let lines: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines.len(), 1 + names.len());
    assert_eq!(described.samples, names.len() as u64);
    let expected: [&[u8]; 4] =
        [&list(block_at)[8..], b"GPS \0\0\x01\0N\0\0\0E\0\0\x07", sentence, &forces];
    for ((line, name), content) in lines[1..].iter().zip(names).zip(expected) {
        assert_eq!((&line["box"], &line["data_hex"]), (&name.into(), &(&*hex(content)).into()));
        let at = line["source_offset"].as_u64().unwrap() as usize;
        assert!(fs::read(&source).unwrap()[at..].starts_with(content), "{name} at {at}");
    }
    assert_eq!(lines[3]["text"].as_str().unwrap().as_bytes(), sentence);
}

/// V20: what is too large to be written beside is named with its size.
#[test]
fn a_box_that_is_too_large_is_named() {
    let Some(place) = Place::new() else { return };
    let plain = place.ffmpeg("-f lavfi -i testsrc2=s=64x64:r=10:d=0.5 -c:v libx264 plain.mp4");
    let source = place.path("large.mp4");
    let large = boxed(b"junk", &vec![7; 17 << 20]);
    fs::write(&source, [fs::read(&plain).unwrap(), large].concat()).unwrap();
    let (_, report) = place.convert(&source, "out.mp4", mp4());
    let found = report.warnings.iter().find(|it| it.code == "boxes_dropped").unwrap();
    assert!(found.message.contains("`junk` (17825792 bytes)"), "{}", found.message);
    assert!(report.output.unwrap().sidecars.is_empty());
}
