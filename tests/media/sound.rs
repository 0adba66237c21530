//! Sound and the other streams: kept, stretched, encoded again or dropped.

use std::path::Path;
use std::process::Command;

use num_rational::Ratio;
use slomod::config::settings::{Audio, Codec, Container};
use slomod::media::clip::{WriteSpec, WriteSummary};

use crate::{boxes, ffmpeg, ffprobe, frames, rewrite, spec, workshop};

const RATE: usize = 48_000;

/// Length asked of stretched sound.
const LENGTH_TOLERANCE_S: f64 = 0.010;

/// Lip sync asked of every output.
const SYNC_TOLERANCE_S: f64 = 0.005;

/// Decoded samples of a sound stream, from time 0 of the file on (what starts later is preceded by silence).
fn samples(path: &Path, stream: usize) -> Vec<f32> {
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-copyts", "-i"])
        .arg(path)
        .args(["-map", &format!("0:a:{stream}"), "-af", "aresample=async=1:first_pts=0"])
        .args(["-ac", "1", "-ar", "48000", "-f", "f32le", "-"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout.chunks_exact(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect()
}

/// Where the last packet of the sound ends, in seconds: what players show. (Decoders pad the last AAC frame.)
fn end_s(path: &Path) -> f64 {
    let done = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "a:0", "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time,duration_time"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let last = text.lines().rfind(|line| !line.is_empty()).unwrap();
    last.split(',').filter(|it| !it.is_empty()).map(|it| it.parse::<f64>().unwrap()).sum()
}

/// Middle of the sound's energy between two times, in seconds.
fn middle(samples: &[f32], from_s: f64, to_s: f64) -> f64 {
    let (from, to) = ((from_s * RATE as f64) as usize, (to_s * RATE as f64) as usize);
    let part = &samples[from..to.min(samples.len())];
    let weights = part.iter().map(|it| f64::from(*it).powi(2));
    let total: f64 = weights.clone().sum();
    assert!(total > 1.0, "there is a beep");
    let moment: f64 = weights.enumerate().map(|(at, it)| at as f64 * it).sum();
    from_s + moment / total / RATE as f64
}

/// Beeps of 0.2 s whose middles are at 0.6 s and 1.6 s after the first picture.
const BEEPS: &str =
    "-f lavfi -i aevalsrc=sin(880*2*PI*t)*between(mod(t\\,1)\\,0.5\\,0.7):s=48000:d=2";

fn clip(dir: &Path, options: &str) -> std::path::PathBuf {
    ffmpeg(dir, &format!("-f lavfi -i testsrc2=s=64x64:r=25:d=2 {BEEPS} -c:v libx264 {options}"))
}

fn with(audio: Audio, stretch: i128, container: Container) -> WriteSpec {
    WriteSpec { audio, stretch: Ratio::from_integer(stretch), ..spec(Codec::H264, container) }
}

fn action(summary: &WriteSummary, index: usize) -> (&'static str, &str) {
    let outcome = summary.streams.iter().find(|it| it.stream.index == index).unwrap();
    (outcome.action, outcome.reason.as_deref().unwrap_or(""))
}

#[test]
fn kept_sound_stays_in_step() {
    let Some(dir) = workshop() else { return };
    for name in [
        "-c:a aac in.mp4",
        "-c:a aac in.ts",
        "-c:a libopus in.mkv",
        "-c:a libopus in.mp4",
        "-c:a pcm_s16le in.avi",
    ] {
        let source = clip(dir.path(), name);
        for container in [Container::Mp4, Container::Mkv, Container::Mov] {
            let out = dir.path().join(format!("out.{}", container.extension()));
            let summary = rewrite(&source, &out, with(Audio::Keep, 1, container));
            let context = format!("{name} to {container:?}");
            assert_eq!(action(&summary, 0).0, "interpolated");
            let expected: &[_] = match container {
                Container::Mov if name.contains("opus") => &["reencoded"],
                // From FFmpeg 6 on MP4 takes samples as they are.
                Container::Mp4 if name.contains("pcm") => &["reencoded", "copied"],
                _ => &["copied"],
            };
            assert!(expected.contains(&action(&summary, 1).0), "{context}: {summary:?}");
            let found = samples(&out, 0);
            // Some containers move the picture a little against the sound: that is the source's.
            let origin = frames(&source)[0].pts;
            let origin = *origin.numer() as f64 / *origin.denom() as f64;
            let before = samples(&source, 0);
            for beep in [0.6, 1.6] {
                let at = beep + origin;
                let expected = middle(&before, at - 0.3, at + 0.3) - origin;
                let off = middle(&found, beep - 0.3, beep + 0.3) - expected;
                assert!(off.abs() < SYNC_TOLERANCE_S, "{context}: off by {off} s");
            }
        }
    }
}

/// V18: FFmpeg up to 5 says that MP4 carries FLAC, and refuses the header then.
#[test]
fn sound_that_a_header_refuses_is_encoded_anew_and_other_sound_is_copied() {
    let Some(dir) = workshop() else { return };
    let both = format!("{BEEPS} -map 0 -map 1 -map 1 -c:v libx264 -c:a:0 flac -c:a:1 aac in.mkv");
    let source = ffmpeg(dir.path(), &format!("-f lavfi -i testsrc2=s=64x64:r=25:d=2 {both}"));
    for (container, of_flac) in [
        (Container::Mp4, &["reencoded", "copied"][..]),
        (Container::Mov, &["reencoded"]),
        (Container::Mkv, &["copied"]),
    ] {
        let out = dir.path().join(format!("out.{}", container.extension()));
        let summary = rewrite(&source, &out, with(Audio::Keep, 1, container));
        let (what, why) = action(&summary, 1);
        assert!(of_flac.contains(&what), "{container:?}: {summary:?}");
        if what == "reencoded" {
            let reason = format!("{} cannot carry flac; it is AAC now", container.extension());
            assert_eq!(why, reason);
        }
        assert_eq!(action(&summary, 2).0, "copied", "{container:?}: {summary:?}");
        for track in [0, 1] {
            let off = middle(&samples(&out, track), 1.3, 1.9) - 1.6;
            assert!(off.abs() < SYNC_TOLERANCE_S, "{container:?} {track}: off by {off} s");
        }
    }
}

/// V05, V19: in step at its first beep and at its last.
#[test]
fn stretched_sound_is_as_long_as_the_picture_and_in_step() {
    let Some(dir) = workshop() else { return };
    for (name, container, stretches) in [
        ("-c:a aac in.mp4", Container::Mp4, &[2, 3, 4, 5, 8, 16][..]),
        ("-c:a aac in.ts", Container::Mp4, &[2, 5]),
        ("-c:a libmp3lame in.mp4", Container::Mkv, &[4, 5]),
        ("-c:a pcm_s16le -ac 1 -ar 44100 in.mov", Container::Mov, &[2, 5]),
    ] {
        let source = clip(dir.path(), name);
        for stretch in stretches.iter().copied() {
            let out = dir.path().join(format!("out.{}", container.extension()));
            let summary = rewrite(&source, &out, with(Audio::Stretch, stretch, container));
            let context = format!("{name} x{stretch}");
            assert_eq!(action(&summary, 1).0, "stretched", "{context}");
            let found = samples(&out, 0);
            let stretch = stretch as f64;
            if !name.ends_with("ts") {
                let off = end_s(&out) - end_s(&source) * stretch;
                assert!(off.abs() < LENGTH_TOLERANCE_S, "{context}: {off} s too long");
            }
            for beep in [0.6, 1.6] {
                let at = beep * stretch;
                let off = middle(&found, at - 0.3 * stretch, at + 0.3 * stretch) - at;
                assert!(off.abs() < SYNC_TOLERANCE_S, "{context}: off by {off} s");
            }
        }
    }
}

#[test]
fn stretched_sound_keeps_its_pitch() {
    let Some(dir) = workshop() else { return };
    let source = clip(dir.path(), "-c:a aac in.mp4");
    let out = dir.path().join("out.mp4");
    rewrite(&source, &out, with(Audio::Stretch, 4, Container::Mp4));
    let found = samples(&out, 0);
    // Well within the first beep: 2.0 s to 2.8 s.
    let part = &found[(2.2 * RATE as f64) as usize..(2.6 * RATE as f64) as usize];
    let crossings = part.windows(2).filter(|it| it[0] < 0.0 && it[1] >= 0.0).count();
    let pitch = crossings as f64 / 0.4;
    // One crossing more or less in 0.4 s is 2.5 Hz; joints of pieces may add a few.
    assert!((pitch - 880.0).abs() < 20.0, "{pitch} Hz");
}

#[test]
fn sound_is_copied_where_the_time_does_not_change_and_left_out_where_asked() {
    let Some(dir) = workshop() else { return };
    let source = clip(dir.path(), "-c:a aac in.mp4");
    let out = dir.path().join("out.mp4");
    let summary = rewrite(&source, &out, with(Audio::Stretch, 1, Container::Mp4));
    assert_eq!(action(&summary, 1).0, "copied");
    let summary = rewrite(&source, &out, with(Audio::Drop, 4, Container::Mp4));
    assert_eq!(action(&summary, 1).0, "dropped");
    assert!(!action(&summary, 1).1.is_empty());
    assert_eq!(ffprobe(&out)["streams"].as_array().unwrap().len(), 1);
}

#[test]
fn sound_longer_or_shorter_than_the_picture_keeps_its_length() {
    let Some(dir) = workshop() else { return };
    for (length, audio, stretch) in [
        (3.0, Audio::Keep, 1),
        (0.5, Audio::Keep, 1),
        (0.5, Audio::Stretch, 4),
        (3.0, Audio::Stretch, 2),
        (0.5, Audio::Resample, 2),
        (3.0, Audio::Resample, 2),
        (1.0, Audio::Keep, 4),
    ] {
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i sine=d={length}:r=48000 -c:v libx264 -c:a pcm_s16le in.mov"
            ),
        );
        let out = dir.path().join("out.mov");
        rewrite(&source, &out, with(audio, stretch, Container::Mov));
        let found = end_s(&out);
        let expected = if audio == Audio::Keep { length } else { length * stretch as f64 };
        assert!((found - expected).abs() < LENGTH_TOLERANCE_S, "{length} {audio:?}: {found}");
        assert_eq!(slomod::media::verify::verify(&out).unwrap().frames, 25);
    }
}

/// A last frame that overlaps what is there already is left out, and what it says of its own padding with it.
#[test]
fn a_last_frame_that_is_left_out_takes_nothing_off_those_before() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i sine=d=1:r=48000 -map 1:a -map 0:v -c:v libx264 -c:a aac in.mp4",
    );
    let bytes = std::fs::read(&source).unwrap();
    let bytes =
        boxes::edit(&bytes, &[b"moov", b"trak", b"edts"], &|_| boxes::boxed(b"elst", &[0; 8]));
    let at = bytes.windows(4).position(|it| it == b"stsz").unwrap() + 12;
    let frames = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    // The last frame is at the time of the one before, and of less than its samples.
    let table = boxes::table(&bytes, b"stts", &[0, 3, frames - 2, 1024, 1, 0, 1, 100]);
    std::fs::write(&source, table).unwrap();
    let out = dir.path().join("out.mp4");
    rewrite(&source, &out, with(Audio::Stretch, 2, Container::Mp4));
    let (found, expected) = (end_s(&out), 2.0 * f64::from(frames - 1) * 1024.0 / RATE as f64);
    assert!((found - expected).abs() < LENGTH_TOLERANCE_S, "{found} instead of {expected}");
}

#[test]
fn sound_that_starts_later_starts_later() {
    let Some(dir) = workshop() else { return };
    clip(dir.path(), "-c:a aac whole.mp4");
    let source = ffmpeg(
        dir.path(),
        "-i whole.mp4 -itsoffset 0.25 -i whole.mp4 -map 0:v -map 1:a -c copy in.mp4",
    );
    for (audio, stretch) in [(Audio::Keep, 1), (Audio::Stretch, 2)] {
        for container in [Container::Mp4, Container::Mkv] {
            let out = dir.path().join(format!("out.{}", container.extension()));
            rewrite(&source, &out, with(audio, stretch, container));
            let stretch = stretch as f64;
            let at = 0.85 * stretch;
            let found = middle(&samples(&out, 0), at - 0.3 * stretch, at + 0.3 * stretch);
            assert!((found - at).abs() < SYNC_TOLERANCE_S, "{container:?} x{stretch}: {found}");
        }
    }
}

#[test]
fn several_tracks_keep_their_languages_and_titles() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i sine=d=1 -f lavfi -i sine=f=880:d=1 \
         -map 0 -map 1 -map 2 -c:v libx264 -c:a aac -metadata:s:a:0 language=kor -metadata:s:a:1 language=deu \
         -metadata title=Drive -disposition:a:1 default in.mkv",
    );
    for stretch in [1, 2] {
        for container in [Container::Mp4, Container::Mkv] {
            let out = dir.path().join(format!("out.{}", container.extension()));
            let summary = rewrite(&source, &out, with(Audio::Stretch, stretch, container));
            assert_eq!(summary.streams.len(), 3);
            let probed = ffprobe(&out);
            let languages: Vec<_> = probed["streams"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|it| it["codec_type"] == "audio")
                .map(|it| it["tags"]["language"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(languages, ["kor", "deu"]);
            let tags = &probed["format"]["tags"];
            let title = if tags["title"].is_null() { &tags["TITLE"] } else { &tags["title"] };
            assert_eq!(title, "Drive");
        }
    }
}

/// V18: every channel of 5.1 is where it was, which its tone tells.
#[test]
fn channels_stay_where_they_are() {
    /// Of front left, front right, center, low frequencies, left and right behind.
    const TONES_HZ: [f64; 6] = [300.0, 500.0, 700.0, 100.0, 1100.0, 1300.0];
    let Some(dir) = workshop() else { return };
    let tones = TONES_HZ.map(|hz| format!("0.5*sin({hz}*2*PI*t)")).join("|");
    for codec in ["pcm_s16le in.mov", "ac3 -b:a 448k in.mkv"] {
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i testsrc2=s=64x64:r=25:d=2 -f lavfi -i aevalsrc={tones}:c=5.1:s=48000:d=2 -c:v libx264 -c:a {codec}"
            ),
        );
        for (audio, stretch) in [(Audio::Stretch, 2), (Audio::Resample, 2), (Audio::Keep, 1)] {
            let out = dir.path().join("out.mp4");
            rewrite(&source, &out, with(audio, stretch, Container::Mp4));
            let sound = ffprobe(&out)["streams"][1].clone();
            assert_eq!(sound["channels"], 6);
            let lower = if audio == Audio::Resample { stretch as f64 } else { 1.0 };
            for (channel, own) in TONES_HZ.iter().enumerate() {
                let found = channel_of(&out, channel);
                let second = &found[RATE / 2..RATE * 3 / 2];
                let strength = |hz: f64| {
                    let turn =
                        |at: usize| at as f64 * hz / lower * std::f64::consts::TAU / RATE as f64;
                    let sum = |part: &dyn Fn(f64) -> f64| -> f64 {
                        let products = second.iter().enumerate();
                        products.map(|(at, it)| f64::from(*it) * part(turn(at))).sum()
                    };
                    sum(&f64::sin).hypot(sum(&f64::cos))
                };
                for other in TONES_HZ.iter().filter(|it| *it != own) {
                    let (own, other) = (strength(*own), strength(*other));
                    assert!(own > 8.0 * other, "{codec} {audio:?} {channel}: {own} and {other}");
                }
            }
        }
    }
}

/// V18: layouts that AAC has no number for, as that of every AC-3 of six channels, become the nearest that it has one for, so
/// that players know which channel is which.
#[test]
fn layouts_without_a_number_become_ones_that_players_know() {
    let Some(dir) = workshop() else { return };
    for (from, all, to) in [
        ("5.1(side)", 6, "5.1"),
        ("5.0(side)", 5, "5.0"),
        ("quad", 4, "5.0"),
        ("4.1", 5, "5.1"),
        ("6.0", 6, "7.1"),
        ("6.1", 7, "7.1"),
        ("7.0", 7, "7.1"),
        ("5.1", 6, "5.1"),
        ("7.1", 8, "7.1"),
    ] {
        let tones: Vec<_> = (1..=all).map(|it| format!("0.1*sin({it}*PI*200*t)")).collect();
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i aevalsrc={}:c={from}:d=1 -c:v libx264 -c:a pcm_s16le \
                 in.mov",
                tones.join("|")
            ),
        );
        assert_eq!(ffprobe(&source)["streams"][1]["channel_layout"], from);
        let out = dir.path().join("out.mp4");
        let summary = rewrite(&source, &out, with(Audio::Stretch, 2, Container::Mp4));
        assert_eq!(ffprobe(&out)["streams"][1]["channel_layout"], to, "{from}");
        let became =
            if from == to { "AAC now".to_owned() } else { format!("{to} instead of {from}") };
        let (_, why) = action(&summary, 1);
        assert!(why.ends_with(&became), "{from}: {why}");
        let reduced = summary.warnings.iter().any(|it| it.0 == "channels_reduced");
        assert!(!reduced, "{from}: {:?}", summary.warnings);
        let silent = |channel: &Vec<f32>| channel.iter().all(|it| it.abs() < 1e-2);
        let channels = ffprobe(&out)["streams"][1]["channels"].as_u64().unwrap() as usize;
        let heard = (0..channels).filter(|it| !silent(&channel_of(&out, *it))).count();
        // What is in the middle behind is heard on both sides.
        assert_eq!(heard, all + usize::from(["4.1", "6.0", "6.1"].contains(&from)), "{from}");
    }
}

/// Decoded samples of one channel of the first sound stream.
fn channel_of(path: &Path, channel: usize) -> Vec<f32> {
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-af", &format!("pan=mono|c0=c{channel}")])
        .args(["-ar", "48000", "-f", "f32le", "-"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout.chunks_exact(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect()
}

/// V18: sound that is encoded anew is said to be AAC, with what that could not keep.
#[test]
fn what_encoding_does_to_sound_is_said() {
    let Some(dir) = workshop() else { return };
    for (sound, became, channels) in [
        ("sine=d=1:r=44100", "it is AAC now", 1),
        ("sine=d=1:r=22255", "it is AAC now, 48000 Hz instead of 22255", 1),
        ("anullsrc=cl=5.1:d=1", "it is AAC now", 6),
        ("anullsrc=cl=22.2:d=1", "it is AAC now, 7.1 instead of 22.2", 8),
    ] {
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i {sound} -c:v libx264 -c:a pcm_s16le in.mov"
            ),
        );
        for (audio, stretch) in [(Audio::Stretch, 2), (Audio::Resample, 2), (Audio::Keep, 1)] {
            let out = dir.path().join("out.mp4");
            let summary = rewrite(&source, &out, with(audio, stretch, Container::Mp4));
            let (what, why) = action(&summary, 1);
            // From FFmpeg 6 on MP4 takes samples as they are.
            if audio == Audio::Keep && what == "copied" {
                continue;
            }
            assert!(why.ends_with(became), "{sound} {audio:?}: {why}");
            assert_eq!(ffprobe(&out)["streams"][1]["channels"], channels, "{sound} {audio:?}");
            let said = summary.warnings.iter().any(|it| it.0 == "channels_reduced");
            assert_eq!(said, became.contains("7.1"), "{sound}: {:?}", summary.warnings);
        }
    }
}

/// V18: channels that nobody has named cannot be mixed into others; the clip is worked without them, which is said.
#[test]
fn sound_of_channels_without_names_is_said_to_be_lost() {
    let Some(dir) = workshop() else { return };
    std::fs::write(dir.path().join("nine.raw"), vec![0; 9 * 2 * 48_000]).unwrap();
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -f s16le -ar 48000 -ac 9 -i nine.raw -map 0 -map 1 -c:v libx264 -c:a \
         pcm_s16le in.mkv",
    );
    let out = dir.path().join("out.mp4");
    let summary = rewrite(&source, &out, with(Audio::Stretch, 2, Container::Mp4));
    let (what, why) = action(&summary, 1);
    assert!(what == "dropped" && why.contains("AAC"), "{what}: {why}");
}

#[test]
fn subtitles_attachments_and_chapters_are_carried_or_listed() {
    let Some(dir) = workshop() else { return };
    let dir = dir.path();
    std::fs::write(dir.join("s.srt"), "1\n00:00:00,200 --> 00:00:00,800\nhello\n").unwrap();
    std::fs::write(dir.join("note.txt"), "attached").unwrap();
    std::fs::write(
        dir.join("m.txt"),
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1000\ntitle=two\n",
    )
    .unwrap();
    let video =
        "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -i s.srt -i m.txt -map 0 -map 1 -map_metadata 2";
    ffmpeg(
        dir,
        &format!(
            "{video} -c:v libx264 -c:s srt -attach note.txt -metadata:s:t mimetype=text/plain in.mkv"
        ),
    );
    ffmpeg(dir, &format!("{video} -c:v libx264 -c:s mov_text in.mp4"));
    let try_one = |name: &str, stretch, container: Container| {
        let out = dir.join(format!("out.{}", container.extension()));
        let summary = rewrite(&dir.join(name), &out, with(Audio::Keep, stretch, container));
        (summary, ffprobe(&out))
    };
    let (summary, probed) = try_one("in.mkv", 1, Container::Mkv);
    assert_eq!((action(&summary, 1).0, action(&summary, 2).0), ("copied", "copied"));
    assert_eq!(probed["streams"].as_array().unwrap().len(), 3);
    let (summary, _) = try_one("in.mkv", 1, Container::Mp4);
    assert_eq!((action(&summary, 1).0, action(&summary, 2).0), ("exported", "exported"));
    assert_eq!(summary.sidecar.as_ref().unwrap().samples, 2);
    assert!(action(&summary, 1).1.contains("subrip"));
    let (summary, _) = try_one("in.mp4", 1, Container::Mp4);
    assert_eq!(action(&summary, 1).0, "copied");
    let (summary, probed) = try_one("in.mp4", 2, Container::Mp4);
    assert_eq!(action(&summary, 1).0, "retimed");
    assert_eq!(
        summary.streams.len(),
        slomod::media::probe(&dir.join("in.mp4")).unwrap().streams.len()
    );
    let chapters = probed["chapters"].as_array().unwrap();
    let starts: Vec<_> = chapters.iter().map(|it| it["start_time"].as_str().unwrap()).collect();
    assert_eq!(starts, ["0.000000", "1.000000"]);
    assert_eq!(chapters[1]["tags"]["title"], "two");
}
