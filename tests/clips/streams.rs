//! What lies beside picture and sound: re-timed, kept, written beside the output, or said to be dropped.

use serde_json::Value;
use slomod::config::settings::{Audio, Codec, Container, Encoding, Settings};
use slomod::media::sidecar::STREAMS;
use slomod::pipeline::beside::{folder, path_beside};
use slomod::report::Report;

use crate::{Place, boxes, ffprobe, slow, warns};

fn with(container: Container, factor: u32) -> Settings {
    let encoding = Encoding {
        codec: Codec::H264,
        preset: Some("ultrafast".into()),
        container: Some(container),
        ..Encoding::default()
    };
    Settings { encoding, ..slow(factor) }
}

fn action(report: &Report, index: usize) -> (&str, &str) {
    let streams = &report.output.as_ref().unwrap().streams;
    let stream = streams.iter().find(|it| it.index == index).unwrap();
    (stream.action.as_str(), stream.reason.as_deref().unwrap_or(""))
}

/// Times and texts of the subtitles of a file, as seconds.
fn subtitles(path: &std::path::Path) -> Vec<(f64, f64)> {
    let run = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "s:0", "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time,duration_time,size"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let numbers = text.lines().filter(|it| !it.is_empty()).map(|line| {
        let numbers: Vec<f64> = line.split(',').filter_map(|it| it.parse().ok()).collect();
        (numbers[0], numbers[1], numbers[2])
    });
    // MP4 fills the time between texts with empty ones of two bytes.
    numbers.filter(|it| it.2 > 2.0).map(|it| (it.0, it.1)).collect()
}

const SRT: &str =
    "1\n00:00:00,200 --> 00:00:00,400\nstart\n\n2\n00:00:00,600 --> 00:00:00,900\nend\n";

/// V20: subtitles follow the picture, and what a container does not carry lies beside it.
#[test]
fn subtitles_follow_the_picture_or_lie_beside_it() {
    let Some(place) = Place::new() else { return };
    std::fs::write(place.path("s.srt"), SRT).unwrap();
    let inputs = "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -i s.srt -map 0 -map 1 -c:v libx264";
    let mkv = place.ffmpeg(&format!("{inputs} -c:s srt -metadata:s:s:0 language=kor in.mkv"));
    let mp4 = place.ffmpeg(&format!("{inputs} -c:s mov_text in.mp4"));
    for (source, container, factor) in [
        (&mkv, Container::Mkv, 4),
        (&mp4, Container::Mp4, 4),
        (&mp4, Container::Mov, 2),
        (&mkv, Container::Mkv, 2),
    ] {
        let name = format!("out.{}", container.extension());
        let (output, report) = place.convert(source, &name, with(container, factor));
        assert_eq!(action(&report, 1).0, "retimed", "{container:?}");
        let factor = f64::from(factor);
        let found = subtitles(&output);
        let expected = [(0.2 * factor, 0.2 * factor), (0.6 * factor, 0.3 * factor)];
        for (found, expected) in found.iter().zip(&expected) {
            let close = |a: f64, b: f64| (a - b).abs() < 0.003 * factor;
            assert!(close(found.0, expected.0) && close(found.1, expected.1), "{found:?}");
        }
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(report.output.unwrap().sidecars.is_empty());
    }
    let (output, report) = place.convert(&mkv, "out.mp4", with(Container::Mp4, 4));
    let (what, why) = action(&report, 1);
    assert!(what == "exported" && why.contains("subrip"), "{what}: {why}");
    let lines = sidecar(&output, &report);
    assert_eq!(lines[1]["metadata"][0], serde_json::json!(["language", "kor"]));
    assert_eq!(
        (lines[2]["text"].as_str(), lines[3]["text"].as_str()),
        (Some("start"), Some("end"))
    );
    assert_eq!((&lines[3]["source_s"], &lines[3]["output_s"]), (&0.6.into(), &2.4.into()));
}

/// V20: of a subtitle that is shown when the first picture comes the rest is kept; those that end before are said to be gone.
#[test]
fn subtitles_before_the_first_picture_are_shortened_or_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    let gone = "1\n00:00:00,100 --> 00:00:00,300\ngone\n\n";
    let others =
        "2\n00:00:00,350 --> 00:00:00,600\nrest\n\n3\n00:00:00,700 --> 00:00:00,900\nend\n";
    // Sound from 0, pictures from half a second on.
    let inputs = "-f lavfi -i sine=d=1 -itsoffset 0.5 -f lavfi -i testsrc2=s=64x64:r=10:d=1 -i s.srt \
                  -map 1 -map 0 -map 2 -fps_mode passthrough -c:v libx264";
    for (subtitles_of, container) in [("srt", Container::Mkv), ("mov_text", Container::Mp4)] {
        let extension = container.extension();
        for (text, said) in [(format!("{gone}{others}"), true), (others.to_owned(), false)] {
            std::fs::write(place.path("s.srt"), text).unwrap();
            let source = place.ffmpeg(&format!("{inputs} -c:s {subtitles_of} late.{extension}"));
            let (output, report) =
                place.convert(&source, &format!("out.{extension}"), with(container, 2));
            assert_eq!(action(&report, 2).0, "retimed");
            assert_eq!(warns(&report, "subtitles_dropped"), said, "{:?}", report.warnings);
            let found = subtitles(&output);
            let expected = [(0.0, 0.2), (0.4, 0.4)];
            assert_eq!(found.len(), expected.len(), "{extension}: {found:?}");
            for (found, expected) in found.iter().zip(&expected) {
                let close = |a: f64, b: f64| (a - b).abs() < 0.006;
                assert!(close(found.0, expected.0) && close(found.1, expected.1), "{found:?}");
            }
        }
    }
}

/// The lines of the file that will lie beside a temporary output, which the report describes as it is.
fn sidecar(output: &std::path::Path, report: &Report) -> Vec<Value> {
    let path = folder(output).join(STREAMS);
    let bytes = std::fs::read(&path).unwrap();
    let made = report.output.as_ref().unwrap();
    let described = &made.sidecars[0];
    assert_eq!(described.size_bytes, bytes.len() as u64);
    let named = path_beside(std::path::Path::new(&made.path), STREAMS.as_ref());
    assert_eq!((described.kind.as_str(), &*described.path), ("streams", &*named.to_string_lossy()));
    let lines = bytes.split(|it| *it == b'\n').filter(|it| !it.is_empty());
    let lines: Vec<Value> = lines.map(|it| serde_json::from_slice(it).unwrap()).collect();
    let samples = lines.iter().filter(|it| it.get("data_hex").is_some()).count();
    assert_eq!(described.samples, samples as u64);
    lines
}

/// V20: telemetry lies beside the output, byte for byte, with its times.
#[test]
fn telemetry_is_written_beside_with_its_times() {
    let Some(place) = Place::new() else { return };
    let payload: Vec<u8> = (0..4096_u32).map(|it| (it * 31 % 251) as u8).collect();
    std::fs::write(place.path("blob.bin"), &payload).unwrap();
    // A track of data in a transport stream, one packet of 1024 bytes each quarter of a second.
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -f data -i blob.bin -map 0:v -map 1:d -c:v libx264 -bf 0 \
         -c:d copy -bsf:d setts=pts=N/4/TB:dts=N/4/TB:duration=0.25/TB -muxdelay 0 in.ts",
    );
    let (output, report) = place.convert(&source, "out.mp4", with(Container::Mp4, 4));
    let data = ffprobe(&source)["streams"].as_array().unwrap().len() - 1;
    assert_eq!(action(&report, data).0, "exported", "{:?}", report.output);
    let lines = sidecar(&output, &report);
    assert_eq!(
        (&lines[0]["format"], &lines[0]["stretch"]),
        (&"slomod-streams/1".into(), &"4".into())
    );
    assert_eq!((&lines[1]["stream"], &lines[1]["kind"]), (&data.into(), &"data".into()));
    let mut bytes = Vec::new();
    let mut times = Vec::new();
    for line in &lines[2..] {
        let hex = line["data_hex"].as_str().unwrap().as_bytes().to_vec();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        bytes.extend(hex.chunks(2).map(byte));
        times.push(line["output_s"].as_f64().unwrap());
    }
    assert!(bytes.starts_with(&payload), "{} bytes", bytes.len());
    for (number, time) in times.iter().take(4).enumerate() {
        assert!((time - number as f64).abs() < 0.001, "{times:?}");
    }
}

/// V20: a track of measurements in an MP4, as cameras keep them, by the letters of GoPro's.
#[test]
fn a_track_of_measurements_is_written_beside_with_its_letters() {
    let Some(place) = Place::new() else { return };
    std::fs::write(place.path("s.srt"), SRT).unwrap();
    let text = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -i s.srt -map 0 -map 1 -c:v libx264 -c:s mov_text text.mp4",
    );
    // No muxer of FFmpeg's makes such a track: a track of texts is called one.
    let renamed = |index: &[u8]| {
        let mut index = index.to_vec();
        for (from, to) in [(b"tx3g", b"gpmd"), (b"sbtl", b"meta")] {
            let at = index.windows(4).position(|it| it == from).unwrap();
            index[at..at + 4].copy_from_slice(to);
        }
        index
    };
    let source = place.path("measured.mp4");
    let file = std::fs::read(&text).unwrap();
    std::fs::write(&source, boxes::edit(&file, &[b"moov"], &renamed)).unwrap();
    for container in [Container::Mp4, Container::Mkv] {
        let name = format!("out.{}", container.extension());
        let (output, report) = place.convert(&source, &name, with(container, 4));
        assert_eq!(action(&report, 1).0, "exported", "{:?}", report.output);
        let lines = sidecar(&output, &report);
        assert_eq!((&lines[1]["kind"], &lines[1]["tag"]), (&"data".into(), &"gpmd".into()));
        for (text, source_s, length_s) in [("start", 0.2, 0.2), ("end", 0.6, 0.3)] {
            let bytes = [&[0, text.len() as u8][..], text.as_bytes()].concat();
            let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
            let line = lines.iter().find(|it| it["data_hex"] == hex.as_str()).unwrap();
            let times = ["source_s", "output_s", "duration_s"].map(|it| line[it].as_f64().unwrap());
            for (found, expected) in times.iter().zip([source_s, 4.0 * source_s, length_s]) {
                assert!((found - expected).abs() < 0.002, "{text}: {times:?}");
            }
        }
    }
}

/// V20: of a broadcast with several programs, what was sent with the picture is kept, and the rest said to be dropped.
#[test]
fn only_streams_of_the_pictures_program_are_used() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=10:d=1 -f lavfi -i testsrc2=s=96x64:r=10:d=1 -f lavfi -i sine=d=1 -map 0 -map 2 \
         -map 1 -map 2 -map 2 -c:v libx264 -c:a mp2 -metadata:s:a:0 language=aaa -metadata:s:a:1 language=bbb \
         -metadata:s:a:2 language=ccc -program title=A:st=0:st=1:st=4 -program title=B:st=2:st=3:st=4 in.ts",
    );
    let settings = Settings { audio: Audio::Stretch, ..with(Container::Mp4, 2) };
    let (output, report) = place.convert(&source, "out.mp4", settings);
    let of_other = ("dropped", "it belongs to program 1, the picture to another");
    assert_eq!([0, 1].map(|it| action(&report, it)), [of_other; 2]);
    // The sound of both programs is numbered between theirs.
    let used = [2, 3, 4].map(|it| action(&report, it).0);
    assert_eq!(used, ["stretched", "interpolated", "stretched"]);
    let said = report.warnings.iter().find(|it| it.code == "programs_dropped").unwrap();
    assert!(said.message.starts_with("stream(s) 0, 1 belong"), "{}", said.message);
    let probed = ffprobe(&output);
    let tracks = probed["streams"].as_array().unwrap()[1..].iter();
    let languages: Vec<_> = tracks.map(|it| &it["tags"]["language"]).collect();
    assert_eq!(languages, ["ccc", "bbb"]);

    let alone = place.ffmpeg("-i in.ts -map 0:3 -map 0:4 -c copy alone.ts");
    let (_, report) = place.convert(&alone, "alone.mp4", with(Container::Mp4, 2));
    assert!(!warns(&report, "programs_dropped"), "{:?}", report.warnings);
}

/// V20: closed captions, which frames carry, are found in them and said to be lost.
#[test]
fn closed_captions_are_said_to_be_lost() {
    /// A message with two bytes of captions (ATSC A/53, in H.264).
    const CAPTIONS: &[u8] = b"\0\0\x01\x06\x04\x0E\xB5\0\x31GA94\x03\xC1\xFF\xFC\x94\x20\xFF\x80";
    let Some(place) = Place::new() else { return };
    let plain =
        place.ffmpeg("-f lavfi -i testsrc2=s=64x64:r=10:d=0.5 -c:v libx264 -bf 0 plain.h264");
    let stream = std::fs::read(plain).unwrap();
    // Before every picture, which are units of the kinds 1 and 5.
    let mut captioned = Vec::new();
    for (at, byte) in stream.iter().enumerate() {
        let is_picture = matches!(stream[at..], [0, 0, 1, kind, ..] if matches!(kind & 31, 1 | 5));
        if is_picture {
            captioned.extend(CAPTIONS);
        }
        captioned.push(*byte);
    }
    std::fs::write(place.path("captioned.h264"), captioned).unwrap();
    for (name, said) in [("plain", false), ("captioned", true)] {
        let source = place.ffmpeg(&format!("-r 10 -f h264 -i {name}.h264 -c copy {name}.mp4"));
        let (_, report) = place.convert(&source, "out.mp4", with(Container::Mp4, 2));
        let found = report.warnings.iter().find(|it| it.code == "frame_data_dropped");
        assert_eq!(found.is_some(), said, "{name}: {:?}", report.warnings);
        assert!(found.is_none_or(|it| it.message.ends_with("closed captions")), "{found:?}");
        assert_eq!(report.source.frames.corrupt, 0, "{name}");
    }
}

/// V20: entries of the clip, of its tracks, and chapters.
#[test]
fn entries_and_chapters_are_kept() {
    let Some(place) = Place::new() else { return };
    std::fs::write(
        place.path("m.txt"),
        ";FFMETADATA1\ntitle=Drive\nlocation=+37.5665+126.9780/\nmake=Camco\nmodel=D1\ncom.camera.gforce=0.2\n\
         [CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=one\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1000\ntitle=two\n",
    )
    .unwrap();
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -i m.txt -map 0 -map_metadata 1 -metadata \
         creation_time=2026-03-01T08:15:00Z -c:v libx264 in.mkv",
    );
    for container in [Container::Mp4, Container::Mov, Container::Mkv] {
        let name = format!("out.{}", container.extension());
        let (output, report) = place.convert(&source, &name, with(container, 4));
        assert!(!warns(&report, "metadata_dropped"), "{container:?}: {:?}", report.warnings);
        let probed = ffprobe(&output);
        let tags = probed["format"]["tags"].as_object().unwrap();
        let tag = |key: &str| {
            let found = tags.iter().find(|it| it.0.eq_ignore_ascii_case(key));
            found.map(|it| it.1.as_str().unwrap().to_owned()).unwrap_or_default()
        };
        for (key, value) in [
            ("title", "Drive"),
            ("location", "+37.5665+126.9780/"),
            ("make", "Camco"),
            ("model", "D1"),
            ("com.camera.gforce", "0.2"),
            ("creation_time", "2026-03-01T08:15:00.000000Z"),
        ] {
            assert_eq!(tag(key), value, "{container:?} {key}");
        }
        let chapters = probed["chapters"].as_array().unwrap();
        let times: Vec<f64> = chapters
            .iter()
            .flat_map(|it| {
                ["start_time", "end_time"].map(|key| it[key].as_str().unwrap().parse().unwrap())
            })
            .collect();
        assert_eq!(times, [0.0, 1.6, 1.6, 4.0], "{container:?}");
        assert_eq!(chapters[1]["tags"]["title"], "two");
    }
    // A chapter that ends before the first picture has no place in the output, which is said.
    let late = place.ffmpeg(
        "-f lavfi -i sine=d=1 -itsoffset 0.5 -f lavfi -i testsrc2=s=64x64:r=10:d=1 -i m.txt -map 0 -map 1 -map_chapters 2 -c:v libx264 late.mkv",
    );
    let (output, report) = place.convert(&late, "late_out.mkv", with(Container::Mkv, 2));
    assert!(warns(&report, "chapters_dropped"), "{:?}", report.warnings);
    assert_eq!(ffprobe(&output)["chapters"].as_array().unwrap().len(), 1);
    // The track that MP4 keeps chapters in is no stream of its own.
    let with_track = place.ffmpeg("-i in.mkv -map 0 -c copy track.mp4");
    let (output, report) = place.convert(&with_track, "again.mp4", with(Container::Mp4, 2));
    assert_eq!(ffprobe(&output)["chapters"].as_array().unwrap().len(), 2);
    assert!(report.output.unwrap().sidecars.is_empty());
}

/// V20: how a picture is looked at is kept where the container has a place for it, else it is said.
#[test]
fn a_stereo_layout_is_kept_or_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=128x64:r=10:d=0.3 -c:v libx264 -metadata:s:v stereo_mode=left_right in.mkv",
    );
    for container in [Container::Mkv, Container::Mp4, Container::Mov] {
        let name = format!("out.{}", container.extension());
        let (output, report) = place.convert(&source, &name, with(container, 2));
        let data = ffprobe(&output)["streams"][0]["side_data_list"].to_string();
        let kept = data.contains("side by side");
        // MP4 has a box for it, which FFmpeg from 7 on reads as "two views" without saying which.
        match container {
            Container::Mkv => assert!(kept, "{data}"),
            Container::Mov => assert!(!kept, "{data}"),
            Container::Mp4 => assert!(kept || data.contains("unspecified"), "{data}"),
        }
        assert_eq!(warns(&report, "side_data_dropped"), !kept, "{:?}", report.warnings);
    }
}

/// V20: a picture all round is kept as one where the container has a place for that, else it is said.
#[test]
fn a_spherical_picture_is_kept_or_said_to_be_lost() {
    // What cameras put into the track, by Google's first description of such files.
    const KIND: [u8; 16] = *b"\xff\xcc\x82\x63\xf8\x55\x4a\x93\x88\x14\x58\x7a\x02\x52\x1f\xdd";
    let Some(place) = Place::new() else { return };
    let flat = place.ffmpeg("-f lavfi -i testsrc2=s=64x32:r=10:d=0.3 -c:v libx264 flat.mp4");
    let facts = [
        ("Spherical", "true"),
        ("Stitched", "true"),
        ("StitchingSoftware", "none"),
        ("ProjectionType", "equirectangular"),
    ];
    let facts = facts.map(|(name, it)| format!("<GSpherical:{name}>{it}</GSpherical:{name}>"));
    let text = format!("<rdf:SphericalVideo>{}</rdf:SphericalVideo>", facts.concat());
    let more = boxes::boxed(b"uuid", &[&KIND[..], text.as_bytes()].concat());
    let file = std::fs::read(flat).unwrap();
    let source = place.path("round.mp4");
    let longer = |track: &[u8]| [track, &more].concat();
    std::fs::write(&source, boxes::edit(&file, &[b"moov", b"trak"], &longer)).unwrap();
    let is_round = |path: &std::path::Path| {
        ffprobe(path)["streams"][0]["side_data_list"].to_string().contains("equirectangular")
    };
    assert!(is_round(&source));
    for container in [Container::Mkv, Container::Mp4, Container::Mov] {
        let name = format!("out.{}", container.extension());
        let (output, report) = place.convert(&source, &name, with(container, 2));
        let kept = is_round(&output);
        assert_eq!(kept, container != Container::Mov, "{container:?}");
        assert_eq!(warns(&report, "side_data_dropped"), !kept, "{:?}", report.warnings);
    }
}

/// V20: a time code counts frames of the source, so outputs have none, which is said however the source has it.
#[test]
fn a_time_code_is_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    for options in [
        "-c:v libx264 -metadata:s:v timecode=10:00:00:00 in.mkv",
        "-c:v mpeg2video -timecode 10:00:00:00 in.mxf",
        "-c:v libx264 -timecode 10:00:00:00 in.mov",
        "-c:v mpeg2video -timecode 10:00:00:00 in.mpg",
    ] {
        let source = place.ffmpeg(&format!("-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 {options}"));
        for container in [Container::Mkv, Container::Mp4, Container::Mov] {
            let name = format!("out.{}", container.extension());
            let (output, report) = place.convert(&source, &name, with(container, 2));
            let said = report.warnings.iter().find(|it| it.code == "time_code_dropped").unwrap();
            assert!(said.message.contains("10:00:00:00"), "{}", said.message);
            assert!(!ffprobe(&output).to_string().to_lowercase().contains("timecode"), "{options}");
        }
    }
    // Every MPEG-2 encoder counts, from 0 where nobody told it of a time code.
    let counted =
        place.ffmpeg("-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v mpeg2video counted.mpg");
    let (_, report) = place.convert(&counted, "counted.mp4", with(Container::Mp4, 2));
    assert!(!warns(&report, "time_code_dropped"), "{:?}", report.warnings);
}

/// V20: every stream of the source is in the report.
#[test]
fn nothing_is_dropped_without_a_word() {
    let Some(place) = Place::new() else { return };
    std::fs::write(place.path("note.txt"), "kept").unwrap();
    place.ffmpeg("-f lavfi -i color=red:s=32x32 -frames:v 1 cover.png");
    let attached = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -c:v libx264 -attach note.txt -metadata:s:t mimetype=text/plain in.mkv",
    );
    let (_, report) = place.convert(&attached, "a.mkv", with(Container::Mkv, 2));
    assert_eq!(action(&report, 1).0, "copied");
    for container in [Container::Mp4, Container::Mov] {
        let name = format!("a.{}", container.extension());
        let (output, report) = place.convert(&attached, &name, with(container, 2));
        let why = format!("{} carries no attachments", container.extension());
        assert_eq!(action(&report, 1), ("exported", &*why));
        let lines = sidecar(&output, &report);
        assert!(lines[1]["metadata"].to_string().contains("note.txt"), "{}", lines[1]);
        let [text, time] = ["text", "source_s"].map(|it| &lines[2][it]);
        assert_eq!((text, time), (&"kept".into(), &Value::Null));
    }

    let covered = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -i cover.png -map 0 -map 1 -c:v:0 libx264 -c:v:1 copy \
         -disposition:v:1 attached_pic covered.mp4",
    );
    let (output, report) = place.convert(&covered, "b.mp4", with(Container::Mp4, 2));
    assert_eq!(action(&report, 1).0, "copied");
    assert_eq!(ffprobe(&output)["streams"][1]["disposition"]["attached_pic"], 1);
    let hex: String = std::fs::read(place.path("cover.png"))
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for container in [Container::Mkv, Container::Mov] {
        let name = format!("b.{}", container.extension());
        let (output, report) = place.convert(&covered, &name, with(container, 2));
        assert_eq!(action(&report, 1).0, "exported");
        let lines = sidecar(&output, &report);
        assert_eq!((&lines[2]["data_hex"], &lines[2]["source_s"]), (&(&*hex).into(), &Value::Null));
    }

    let coded = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -c:v libx264 -timecode 10:00:00:00 coded.mov",
    );
    let (_, report) = place.convert(&coded, "c.mp4", with(Container::Mp4, 2));
    let (what, why) = action(&report, 1);
    assert!(what == "dropped" && why.contains("10:00:00:00"), "{what}: {why}");
}

/// V20: sound that begins where the headers were read already, as in a broadcast's program stream.
#[test]
fn a_stream_that_begins_in_mid_clip_is_said_to_be_dropped() {
    let Some(place) = Place::new() else { return };
    let drawn = "-f lavfi -i testsrc2=s=64x64:r=25";
    let silent = |at: u32, name: &str| {
        place.ffmpeg(&format!(
            "{drawn}:d=12 -c:v mpeg2video -b:v 300k -output_ts_offset {at} -f mpeg {name}"
        ))
    };
    let with_sound = place.ffmpeg(&format!(
        "{drawn}:d=2 -f lavfi -i sine=d=2 -c:v mpeg2video -c:a mp2 -output_ts_offset 12 -f mpeg with.mpg"
    ));
    let parts = [silent(0, "before.mpg"), with_sound, silent(14, "after.mpg")];
    let parts = parts.map(|it| std::fs::read(it).unwrap());
    let source = place.path("late.mpg");
    for (content, said) in [(parts.concat(), true), (parts[0].clone(), false)] {
        std::fs::write(&source, content).unwrap();
        let (_, report) = place.convert(&source, "out.mp4", with(Container::Mp4, 2));
        let found = report.warnings.iter().find(|it| it.code == "stream_dropped");
        assert_eq!(found.is_some(), said, "{:?}", report.warnings);
        assert!(found.is_none_or(|it| it.message.contains(": 1 (audio, mp2);")), "{found:?}");
    }
}
