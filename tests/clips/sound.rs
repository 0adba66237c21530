//! Sound that is played slower, and what tracks are called and for.

use std::path::Path;
use std::process::Command;

use slomod::config::settings::{Audio, Codec, Container, Encoding, Settings};

use crate::{Place, ffprobe, slow};

/// Samples a second that sound is looked at with.
const RATE: f64 = 48_000.0;

fn with(audio: Audio, container: Container, factor: u32) -> Settings {
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
            let length = found.len() as f64 / RATE;
            // A decoder pads the last AAC frame.
            assert!((length - 2.0 * factor).abs() < 0.010 + 1024.0 / RATE, "{factor}: {length} s");
            let energy = |it: &f32| f64::from(*it).powi(2);
            let total: f64 = found.iter().map(energy).sum();
            let moment: f64 = found.iter().enumerate().map(|(at, it)| at as f64 * energy(it)).sum();
            let middle = moment / total / RATE;
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
        for container in [Container::Mp4, Container::Mkv] {
            let name = format!("out.{}", container.extension());
            let (output, _) = place.convert(&source, &name, with(audio, container, 2));
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
            assert_eq!(found, [("kor", Some(0)), ("deu", Some(1))], "{audio:?} {container:?}");
        }
    }
    let silent = place.ffmpeg("-f lavfi -i testsrc2=s=64x64:r=10:d=1 -c:v libx264 silent.mp4");
    let (output, _) = place.convert(&silent, "out.mp4", with(Audio::Stretch, Container::Mp4, 2));
    assert_eq!(ffprobe(&output)["streams"].as_array().unwrap().len(), 1);
}
