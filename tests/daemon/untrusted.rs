//! A folder full of what is no clip, or a hostile one: each is refused with its reason, and the daemon goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use slomod::report::Status;

use crate::place::*;

#[path = "../media/boxes.rs"]
mod boxes;

/// Frames of an index of more memory than headers may have, and less than FFmpeg itself refuses (2 GiB).
const INDEX_FRAMES: u32 = 80_000_000;

fn ffmpeg(folder: &Path, args: &str) -> Vec<u8> {
    let words: Vec<&str> = args.split_whitespace().collect();
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(&words)
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(done.success(), "{args}");
    fs::read(folder.join(words.last().unwrap())).unwrap()
}

/// Everything that is to be refused, by name: content and code.
fn rubbish(folder: &Path, port: &TcpListener) -> BTreeMap<&'static str, (Vec<u8>, &'static str)> {
    let address = port.local_addr().unwrap();
    let still = ffmpeg(folder, "-f lavfi -i testsrc2=s=64x64 -frames:v 1 still.jpg");
    let sound = ffmpeg(folder, "-f lavfi -i sine=d=1 -c:a aac sound.m4a");
    let cover =
        "-i sound.m4a -i still.jpg -map 0 -map 1 -c copy -disposition:v attached_pic cover.m4a";
    let clip = ffmpeg(folder, "-f lavfi -i testsrc2=s=64x64:r=25:d=0.4 -c:v libx264 clip.mp4");
    let one = "-f lavfi -i testsrc2=s=64x64:r=25 -frames:v 1 -c:v libx264 one.mp4";
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://{address}/a.ts\n");
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", folder.join("clip.mp4").display());
    let huge = boxes::edit(&clip, &[b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"], &|it| {
        // Width and height of the sample entry; the codec's own header cannot correct them.
        let mut it = it.to_vec();
        it[40..44].copy_from_slice(&[0x80, 0, 0x80, 0]);
        let header = it.windows(4).position(|it| it == b"avcC").unwrap();
        it[header..header + 4].copy_from_slice(b"free");
        it
    });
    BTreeMap::from([
        ("empty.mp4", (Vec::new(), "empty")),
        ("text.mp4", (b"this is a letter, not a clip\n".to_vec(), "not_video")),
        ("picture.mp4", (still, "not_video")),
        ("sound.mp4", (sound, "not_video")),
        ("cover.mp4", (ffmpeg(folder, cover), "not_video")),
        ("one.mp4", (ffmpeg(folder, one), "too_few_frames")),
        ("hls.mp4", (hls.into_bytes(), "playlist_refused")),
        ("concat.mkv", (concat.into_bytes(), "playlist_refused")),
        ("huge.mp4", (huge, "too_large")),
        ("index.mp4", (boxes::index_of(&clip, INDEX_FRAMES), "not_decodable")),
        ("tracks.mp4", (boxes::tracks(4_000), "too_large")),
    ])
}

/// W28, W38, W39.
#[test]
fn what_is_no_clip_is_refused_with_its_code_and_kept_and_the_next_clip_is_done() {
    let mut place = Place::with("grace = \"1s\"", "on_success = \"trash\"");
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    port.set_nonblocking(true).unwrap();
    let workshop = place.path("workshop");
    fs::create_dir(&workshop).unwrap();
    let rubbish = rubbish(&workshop, &port);
    for (name, (content, _)) in &rubbish {
        fs::write(place.path("in").join(name), content).unwrap();
    }
    place.start();
    place.wait_ended(rubbish.len());
    place.drop_clip(&small(&place, 0), "good.mp4");
    place.wait_ended(rubbish.len() + 1);
    let codes: BTreeMap<_, _> = place
        .jobs()
        .into_iter()
        .map(|job| {
            let name = Path::new(&job.source).file_name().unwrap().to_string_lossy().into_owned();
            (name, (job.state, job.error_code))
        })
        .collect();
    assert_eq!(codes["good.mp4"].0, "done", "{}", place.log());
    for (name, (content, code)) in &rubbish {
        let (state, found) = &codes[*name];
        assert_eq!((state.as_str(), found.as_deref()), ("refused", Some(*code)), "{name}");
        assert_eq!(&fs::read(place.path("in").join(name)).unwrap(), content, "{name} is kept");
        let report = place.report(&format!("{name}.refused.json"));
        assert_eq!(report.status, Status::Refused);
        assert_eq!(report.errors[0].code, *code, "{name}");
    }
    // A report for each, and the good clip's two.
    assert_eq!(place.listing().len(), rubbish.len() + 2, "{:?}", place.listing());
    assert!(port.accept().is_err(), "a list made it call somebody");
    assert_eq!(place.terminate().code(), Some(0));
}

/// W39. The worker that looks into a file takes no more for its headers than they may have.
#[test]
fn an_index_that_asks_for_gigabytes_gets_none() {
    let place = Place::new();
    let clip = fs::read(small(&place, 0)).unwrap();
    let ask = |frames: u32| {
        let path = place.path("bomb.mp4");
        fs::write(&path, boxes::index_of(&clip, frames)).unwrap();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_slomod"))
            .arg("work")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let request = format!("{{\"probe\":\"{}\"}}\n", path.display());
        worker.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
        String::from_utf8(worker.wait_with_output().unwrap().stdout).unwrap()
    };
    // What fits is looked at and found absurd.
    let said = ask(INDEX_FRAMES / 80);
    assert!(said.contains("too_many_frames"), "{said}");
    // What does not fit is never there to be counted: FFmpeg goes on without an index.
    let said = ask(INDEX_FRAMES);
    assert!(said.contains("not_decodable") && said.contains("reject"), "{said}");
}

/// W28. A pipe, and a file larger than all memory, have the name of a report in the output folder: neither is read, and the
/// output gets another name.
#[test]
fn what_has_a_reports_name_and_is_none_is_not_waited_for_and_not_read() {
    let mut place = Place::new();
    let out = place.path("out");
    fs::create_dir(&out).unwrap();
    let pipe = out.join("a_slow2x.mp4.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::File::create(out.join("b_slow2x.mp4.json")).unwrap().set_len(1 << 40).unwrap();
    for (number, name) in ["a.mp4", "b.mp4"].into_iter().enumerate() {
        place.drop_clip(&small(&place, number as u32 * 60), name);
    }
    place.start();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"], "{}", place.log());
    for name in ["a_slow2x~2.mp4.json", "b_slow2x~2.mp4.json"] {
        assert!(out.join(name).is_file(), "{:?}", place.listing());
    }
}
