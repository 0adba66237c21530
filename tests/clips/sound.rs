//! Sound that is played slower, and what tracks are called and for.

use std::path::Path;
use std::process::Command;

use slomod::config::settings::{Audio, Codec, Container, Encoding, Mode, Settings};
use slomod::frame::Frame;

use crate::{Place, boxes, decoded, ffprobe, slow, warns};

/// Samples a second that sound is looked at with.
const RATE: f64 = 48_000.0;

pub(crate) fn with(audio: Audio, container: Container, factor: u32) -> Settings {
    let encoding = Encoding {
        codec: Codec::H264,
        preset: Some("ultrafast".into()),
        container: Some(container),
        ..Encoding::default()
    };
    Settings { audio, encoding, ..slow(factor) }
}

fn samples(path: &Path) -> Vec<f32> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0"])
        .args(["-ac", "1", "-ar", "48000", "-f", "f32le", "-"])
        .output()
        .unwrap();
    run.stdout.chunks_exact(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect()
}

/// How long the sound of an MP4 is played, in seconds: a decoder pads the last AAC frame, which the container cuts off.
fn shown_length(path: &Path) -> f64 {
    let probed = ffprobe(path);
    let sound = probed["streams"].as_array().unwrap().iter().find(|it| it["codec_type"] == "audio");
    sound.unwrap()["duration"].as_str().unwrap().parse().unwrap()
}

/// Mean time at which the sound of a clip is loud, in seconds.
pub(crate) fn loud_at(path: &Path) -> f64 {
    let found = samples(path);
    let energy = |it: &f32| f64::from(*it).powi(2);
    let total: f64 = found.iter().map(energy).sum();
    found.iter().enumerate().map(|(at, it)| at as f64 * energy(it)).sum::<f64>() / total / RATE
}

/// Mean time at which frames of a clip begin that are bright, in seconds.
pub(crate) fn bright_at(path: &Path) -> f64 {
    let frames = decoded(path);
    let light = |frame: &Frame| f64::from(frame.picture.planes[0][0].saturating_sub(30));
    let seconds = |frame: &Frame| *frame.pts.numer() as f64 / *frame.pts.denom() as f64;
    let total: f64 = frames.iter().map(light).sum();
    frames.iter().map(|it| light(it) * seconds(it)).sum::<f64>() / total
}

/// Frames 12 to 17 are white, and it beeps as long as they are shown.
pub(crate) fn white_and_beep() -> String {
    let white = "color=black:s=64x64:r=25:d=1.2,drawbox=c=white:t=fill:enable=between(n\\,12\\,17)";
    // It swells and fades: what AAC does to the level of a sudden beep, twice, would be taken for a time.
    let beep = "aevalsrc=sin(1760*2*PI*t)*pow(sin(PI*(t-0.48)/0.24)\\,2)*between(t\\,0.48\\,0.72):s=48000:d=1.2";
    format!("-f lavfi -i {white} -f lavfi -i {beep} -c:a aac -b:a 192k")
}

/// V05, V19: slower sound stays with the picture, within 5 ms, whatever the source begins with.
#[test]
fn slower_sound_stays_in_step_with_the_picture_from_any_start() {
    let Some(place) = Place::new() else { return };
    let inputs = white_and_beep();
    let plain = place.ffmpeg(&format!("{inputs} -c:v libx264 -crf 10 -g 5 plain.mp4"));
    let sources = [
        plain.clone(),
        place.ffmpeg(&format!("{inputs} -c:v mpeg2video -q:v 2 start.ts")),
        // Cut without encoding: the container's edit list says where it begins.
        place.ffmpeg("-ss 0.24 -i plain.mp4 -c copy edited.mp4"),
    ];
    for source in sources {
        for audio in [Audio::Stretch, Audio::Resample] {
            for factor in [2_u32, 5, 8] {
                let (output, report) =
                    place.convert(&source, "out.mp4", with(audio, Container::Mp4, factor));
                let name = format!("{} {audio:?} {factor}", source.display());
                // Nothing is made at the cuts, so that white is shown exactly as long as it beeps; frames of the
                // output begin half a frame, 0.02 s, before their own middle.
                let apart = loud_at(&output) - bright_at(&output) - 0.02;
                assert!(apart.abs() < 0.005, "{name}: {apart} s apart");
                // Nothing in a transport stream says that its last frame is padded: its sound is longer.
                let padding = if source.extension().unwrap() == "ts" { 1024.0 / RATE } else { 0.0 };
                let length = report.output.unwrap().duration_s + f64::from(factor) * padding;
                let sound = shown_length(&output);
                assert!(sound < length + 0.010, "{name}: {sound} s of {length} s");
                let least = length - f64::from(factor) * padding;
                assert!(sound > least - 0.010, "{name}: {sound} s of {least} s");
            }
        }
    }
}

/// Times of the packets of a stream, in seconds.
pub(crate) fn times(path: &Path, stream: &str) -> Vec<f64> {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", stream, "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    text.lines().filter_map(|it| it.trim_end_matches(',').parse().ok()).collect()
}

/// The latest time of a packet of a stream, in seconds.
fn last_time(path: &Path, stream: &str) -> f64 {
    times(path, stream).into_iter().fold(0.0, f64::max)
}

/// V05: recordings put behind each other, each with a clock of its own: it starts again, or jumps.
#[test]
fn sound_stays_in_step_where_the_clock_starts_again_or_jumps() {
    let Some(place) = Place::new() else { return };
    let inputs = white_and_beep();
    let first = place.ffmpeg(&format!("{inputs} -c:v libx264 -crf 10 -bf 2 first.ts"));
    let later = place.ffmpeg("-i first.ts -c copy -output_ts_offset 1000 later.ts");
    let sound_behind_picture = last_time(&first, "a:0") - last_time(&first, "v:0");
    let [first, later] = [first, later].map(|it| std::fs::read(it).unwrap());
    let joined = [
        ("again.ts", [&first, &first]),
        ("ahead.ts", [&first, &later]),
        ("back.ts", [&later, &first]),
    ];
    for (source, parts) in joined {
        let source = {
            let path = place.path(source);
            std::fs::write(&path, parts.map(Vec::as_slice).concat()).unwrap();
            path
        };
        let slower = with(Audio::Stretch, Container::Mp4, 2);
        let kept = with(Audio::Keep, Container::Mkv, 2);
        let kept = Settings { mode: Mode::Smooth, ..kept };
        for (name, settings, stretch) in [("out.mp4", slower, 2.0), ("out.mkv", kept, 1.0)] {
            let (output, report) = place.convert(&source, name, settings);
            let name = format!("{} {name}", source.display());
            let length = report.output.unwrap().duration_s;
            assert!((length - 2.4 * stretch).abs() < 1e-3, "{name}: {length} s");
            let sound = samples(&output).len() as f64 / RATE;
            assert!((sound - length).abs() < 0.1, "{name}: {sound} s of sound to {length}");
            if stretch == 1.0 {
                // Where the parts overlap, packets that are kept overlap as well, and are played one after the other.
                let last = last_time(&output, "a:0") - (2.4 - 0.04);
                let apart = last - sound_behind_picture;
                assert!(apart.abs() < 0.005, "{name}: {apart} s apart");
                continue;
            }
            // Frames of the output begin half a frame before their own middle.
            let apart = loud_at(&output) - bright_at(&output) - 0.02;
            assert!(apart.abs() < 0.005, "{name}: {apart} s apart");
        }
    }
}

/// V05, V19: where parts begin a few milliseconds before the sound's frames do, that is not multiplied by the slowdown.
#[test]
fn sound_much_slowed_stays_in_step_behind_several_restarts() {
    let Some(place) = Place::new() else { return };
    let beep = "aevalsrc=0.5*sin(880*2*PI*t)*between(t\\,0.5\\,0.7):s=48000:d=2";
    let part = place.ffmpeg(&format!(
        "-f lavfi -i testsrc2=s=64x64:r=30:d=2 -f lavfi -i {beep} -c:v libx264 -c:a aac part.ts"
    ));
    let source = place.path("in.ts");
    std::fs::write(&source, std::fs::read(&part).unwrap().repeat(4)).unwrap();
    let (output, _) = place.convert(&source, "out.mkv", with(Audio::Stretch, Container::Mkv, 8));
    let samples = samples(&output);
    let beep_at = |part: u32| {
        let from_s = 16.0 * f64::from(part);
        let within = &samples[(from_s * RATE) as usize..((from_s + 12.0) * RATE) as usize];
        let energy = |it: &f32| f64::from(*it).powi(2);
        let all: f64 = within.iter().map(energy).sum();
        let weighed = within.iter().enumerate().map(|(at, it)| at as f64 / RATE * energy(it));
        weighed.sum::<f64>() / all
    };
    // Less than 2 ms of the source are let be.
    let apart: Vec<f64> = (1..4).map(|part| beep_at(part) - beep_at(0)).collect();
    assert!(apart.iter().all(|it| it.abs() < 0.018), "{apart:?}");
}

/// V06: an edit list may show two parts of a clip behind each other. What it hides between them is no damage.
#[test]
fn an_edit_list_of_two_parts_shows_both_and_hides_the_rest_without_an_alarm() {
    let Some(place) = Place::new() else { return };
    let tone = "aevalsrc=0.5*sin(2*PI*(400+100*floor(t))*t):s=48000:d=4";
    let whole = place.ffmpeg(&format!(
        "-f lavfi -i testsrc2=s=64x64:r=25:d=4 -f lavfi -i {tone} -c:v libx264 -bf 0 -g 25 -c:a aac -video_track_timescale 48000 \
         whole.mp4"
    ));
    // One second from the beginning and one from the third on: all tracks count 48000 a second, and the clip 1000.
    let two_parts = |edits: &[u8]| {
        let from = u32::from_be_bytes(edits[20..24].try_into().unwrap());
        let parts = [1000, from, 0x1_0000, 1000, from + 2 * 48_000, 0x1_0000];
        let list = parts.iter().flat_map(|it: &u32| it.to_be_bytes()).collect::<Vec<u8>>();
        [&40_u32.to_be_bytes()[..], b"elst", &[0; 4], &2_u32.to_be_bytes(), &list].concat()
    };
    let both_tracks = |index: &[u8]| {
        let (mut rest, mut out) = (index, Vec::new());
        while let Some((size, _)) = rest.split_first_chunk::<4>() {
            let (this, after) = rest.split_at(u32::from_be_bytes(*size) as usize);
            match &this[4..8] {
                b"trak" => out.extend(boxes::edit(this, &[b"trak", b"edts"], &two_parts)),
                _ => out.extend(this),
            }
            rest = after;
        }
        out
    };
    let edited = boxes::edit(&std::fs::read(&whole).unwrap(), &[b"moov"], &both_tracks);
    let source = place.path("parts.mp4");
    std::fs::write(&source, edited).unwrap();
    for (mode, stretch) in [(Mode::Smooth, 1.0), (Mode::Slow, 2.0)] {
        for container in [Container::Mp4, Container::Mkv] {
            let settings = Settings { mode, ..with(Audio::Stretch, container, 2) };
            let name = format!("out.{}", container.extension());
            let (output, report) = place.convert(&source, &name, settings);
            assert_eq!(report.source.frames.decoded, 50);
            assert!(!warns(&report, "sound_damaged"), "{:?}", report.warnings);
            for stream in ["v:0", "a:0"] {
                let last = last_time(&output, stream);
                let before_end = 2.0 * stretch - last;
                assert!((-0.01..0.08).contains(&before_end), "{mode:?} {name} {stream}: {last}");
            }
        }
    }
}

/// V18: damage in the sound is said.
#[test]
fn damaged_sound_is_said() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i sine=d=1 -c:v libx264 -c:a aac -bsf:a noise=amount=20 in.mkv",
    );
    for (audio, said) in [(Audio::Stretch, true), (Audio::Drop, false)] {
        let (_, report) = place.convert(&source, "out.mp4", with(audio, Container::Mp4, 2));
        assert_eq!(warns(&report, "sound_damaged"), said, "{:?}", report.warnings);
    }
}

/// V19: as long as the picture, in step, and as many octaves lower as it is slower.
#[test]
fn resampled_sound_is_as_long_as_the_picture_in_step_and_lower() {
    let Some(place) = Place::new() else { return };
    for (rate, options) in [(48_000, "-c:a aac in.mp4"), (44_100, "-c:a pcm_s16le in.mov")] {
        let beep = format!("aevalsrc=sin(1760*2*PI*t)*between(t\\,0.5\\,0.7):s={rate}:d=2");
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=64x64:r=25:d=2 -f lavfi -i {beep} -c:v libx264 {options}"
        ));
        for factor in [2_u32, 7] {
            let (output, report) =
                place.convert(&source, "out.mp4", with(Audio::Resample, Container::Mp4, factor));
            let report = report.output.unwrap();
            assert_eq!(report.streams[1].action, "resampled");
            let found = samples(&output);
            let factor = f64::from(factor);
            let length = shown_length(&output);
            assert!((length - 2.0 * factor).abs() < 0.010, "{factor}: {length} s");
            let middle = loud_at(&output);
            assert!((middle - 0.6 * factor).abs() < 0.005, "{factor}: {middle}");
            let (from, to) = ((0.55 * factor * RATE) as usize, (0.65 * factor * RATE) as usize);
            let crossings = found[from..to].windows(2).filter(|it| it[0] < 0.0 && it[1] >= 0.0);
            let pitch = crossings.count() as f64 / (0.1 * factor);
            assert!((pitch - 1760.0 / factor).abs() < 10.0, "{factor}: {pitch} Hz");
        }
    }
}

/// V18: what tracks are called and for, in every container; none is fine too.
#[test]
fn tracks_keep_their_languages_and_what_they_are_for() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -f lavfi -i sine=d=1 -f lavfi -i sine=f=880:d=1 -map 0 -map 1 -map 2 \
         -c:v libx264 -c:a aac -metadata:s:a:0 language=kor -metadata:s:a:1 language=deu -disposition:a:0 0 \
         -disposition:a:1 default in.mkv",
    );
    for audio in [Audio::Stretch, Audio::Resample, Audio::Keep] {
        for container in [Container::Mp4, Container::Mkv, Container::Mov] {
            let name = format!("out.{}", container.extension());
            let (output, report) = place.convert(&source, &name, with(audio, container, 2));
            assert!(!warns(&report, "metadata_dropped"), "{:?}", report.warnings);
            let probed = ffprobe(&output);
            let tracks: Vec<_> = probed["streams"].as_array().unwrap()[1..].to_vec();
            let found: Vec<_> = tracks
                .iter()
                .map(|it| {
                    (
                        it["tags"]["language"].as_str().unwrap(),
                        it["disposition"]["default"].as_i64(),
                    )
                })
                .collect();
            // MOV numbers languages, and FFmpeg knows German there by the other code.
            let german = if container == Container::Mov { "ger" } else { "deu" };
            assert_eq!(found, [("kor", Some(0)), (german, Some(1))], "{audio:?} {container:?}");
        }
    }
    let silent = place.ffmpeg("-f lavfi -i testsrc2=s=64x64:r=10:d=1 -c:v libx264 silent.mp4");
    let (output, _) = place.convert(&silent, "out.mp4", with(Audio::Stretch, Container::Mp4, 2));
    assert_eq!(ffprobe(&output)["streams"].as_array().unwrap().len(), 1);
}

/// V18: a language or a purpose that a container has no place for is said to be lost, by the stream of the source.
#[test]
fn what_a_container_does_not_take_of_tracks_is_said() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=0.5 -f lavfi -i sine=d=0.5 -f lavfi -i sine=f=880:d=0.5 -map 0 -map 1 -map 2 \
         -c:v libx264 -c:a aac -metadata:s:a:0 language=hmn -disposition:a:0 comment -metadata:s:a:1 language=fra \
         -disposition:a:1 default in.mkv",
    );
    for container in [Container::Mkv, Container::Mp4, Container::Mov] {
        let name = format!("out.{}", container.extension());
        let (_, report) = place.convert(&source, &name, with(Audio::Keep, container, 2));
        let said = report.warnings.iter().find(|it| it.code == "metadata_dropped");
        let lost = ": language hmn of stream 1, disposition comment of stream 1";
        match container {
            Container::Mov => assert!(said.unwrap().message.ends_with(lost), "{said:?}"),
            Container::Mp4 | Container::Mkv => assert!(said.is_none(), "{said:?}"),
        }
    }
}

/// V18: sound before the first picture is said to be lost, and a track of nothing else to be dropped; a lead-in is not worth a
/// word.
#[test]
fn sound_before_the_first_picture_is_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    let inputs = "-f lavfi -i sine=d=1 -f lavfi -i sine=f=880:d=3";
    let made = "-f lavfi -i testsrc2=s=64x64:r=10:d=1 -map 2 -map 0 -map 1 -fps_mode passthrough -c:v libx264 -c:a aac \
                -metadata:s:a:0 language=kor -metadata:s:a:1 language=deu";
    for (offset, name) in [("2", "in.mkv"), ("2", "in.mp4"), ("0.05", "in.mkv")] {
        let source = place.ffmpeg(&format!("{inputs} -itsoffset {offset} {made} {name}"));
        let lost = offset == "2";
        for (audio, container) in [
            (Audio::Stretch, Container::Mp4),
            (Audio::Stretch, Container::Mkv),
            (Audio::Keep, Container::Mp4),
            (Audio::Keep, Container::Mkv),
        ] {
            let name = format!("{name} by {offset} s {audio:?} {container:?}");
            let output = format!("out.{}", container.extension());
            let (output, report) = place.convert(&source, &output, with(audio, container, 2));
            let said = report.warnings.iter().find(|it| it.code == "sound_dropped");
            assert_eq!(said.is_some(), lost, "{name}: {:?}", report.warnings);
            assert!(!warns(&report, "metadata_dropped"), "{name}: {:?}", report.warnings);
            let kept = if audio == Audio::Keep { "copied" } else { "stretched" };
            let streams = &report.output.as_ref().unwrap().streams;
            let actions: Vec<_> = streams[1..].iter().map(|it| it.action.as_str()).collect();
            assert_eq!(actions, [if lost { "dropped" } else { kept }, kept], "{name}");
            if let Some(said) = said {
                // Of packets that are copied one before the picture may be kept, behind an edit list.
                let of = |start: &str| said.message.contains(start);
                let (first, second) = (of(": 1.0") || of(": 0.9"), of(", 2.0") || of(", 1.9"));
                assert!(
                    first && second && said.message.ends_with("of stream 2"),
                    "{name}: {said:?}"
                );
                let tracks = ffprobe(&output)["streams"].clone();
                let last = tracks.as_array().unwrap().last().unwrap().clone();
                assert_eq!(last["tags"]["language"], "deu", "{name}");
            }
        }
    }
}

/// V18, V19: sound goes on, in step, where its channels or its rate become others, as between programs of a broadcast.
#[test]
fn sound_goes_on_where_its_channels_or_its_rate_change() {
    let Some(place) = Place::new() else { return };
    let inputs = white_and_beep();
    let surround = "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0";
    let part = |offset: &str, sound: &str, name: &str| {
        place.ffmpeg(&format!(
            "{inputs} -c:v libx264 -c:a ac3 {sound} -output_ts_offset {offset} {name}"
        ))
    };
    let first = part("10", "-ac 2 -ar 48000", "first.ts");
    for (sound, mixed) in [
        (format!("-af {surround} -ar 48000"), true),
        ("-ac 2 -ar 32000".to_owned(), false),
        (format!("-af {surround} -ar 44100"), true),
    ] {
        let second = part("11.2", &sound, "second.ts");
        let source = place.path("joined.ts");
        let both = [&first, &second].map(|it| std::fs::read(it).unwrap());
        std::fs::write(&source, both.concat()).unwrap();
        for audio in [Audio::Stretch, Audio::Resample] {
            let name = format!("{sound} {audio:?}");
            let (output, report) =
                place.convert(&source, "out.mp4", with(audio, Container::Mp4, 2));
            assert!(!warns(&report, "sound_damaged"), "{name}: {:?}", report.warnings);
            let said = report.warnings.iter().find(|it| it.code == "channels_change");
            assert_eq!(said.is_some(), mixed, "{name}: {:?}", report.warnings);
            if let Some(said) = said {
                let change = "of stream 1 change from stereo to 5.1(side) 1.";
                assert!(said.message.contains(change), "{said:?}");
            }
            // Each part beeps in its middle.
            let found = samples(&output);
            let half = (2.4 * RATE) as usize;
            for (part, middle) in [(&found[..half], 1.2), (&found[half..], 1.2)] {
                let energy = |it: &f32| f64::from(*it).powi(2);
                let total: f64 = part.iter().map(energy).sum();
                let at: f64 = part.iter().enumerate().map(|(at, it)| at as f64 * energy(it)).sum();
                let apart = at / total / RATE - middle;
                assert!(total > 10.0 && apart.abs() < 0.005, "{name}: {total}, {apart} s apart");
            }
            let length = found.len() as f64 / RATE;
            assert!((length - 4.8).abs() < 0.15, "{name}: {length} s");
        }
    }
}
