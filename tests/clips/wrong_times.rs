//! Single times that are wrong, and clocks that are coarse: nothing is lost or moved by them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use slomod::config::settings::{Audio, Container, Mode, Settings};

use crate::sound::{self, bright_at, loud_at, times, white_and_beep};
use crate::{Place, ffprobe, warns};

/// Bytes of a packet of a transport stream.
const PACKET: usize = 188;

fn with(mode: Mode, audio: Audio, container: Container) -> Settings {
    Settings { mode, ..sound::with(audio, container, 2) }
}

/// The transport stream at `from` with bit `bit` of the time of the `nth` picture (`kind` 0xE0) or packet of sound (0xC0)
/// the other way round.
fn with_wrong_time(from: &Path, kind: u8, nth: usize, bit: usize) -> PathBuf {
    let mut bytes = fs::read(from).unwrap();
    let begins = |packet: &[u8]| {
        let payload = 4 + if packet[3] & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
        let header = packet.get(payload..payload + 4)?;
        (packet[1] & 0x40 != 0 && header == [0, 0, 1, kind]).then_some(payload)
    };
    let mut headers = bytes.chunks_mut(PACKET).filter_map(|it| Some((begins(it)?, it)));
    let (header, packet) = headers.nth(nth).unwrap();
    let (byte, mask) = match bit {
        30.. => (9, 2 << (bit - 30)),
        22..30 => (10, 1 << (bit - 22)),
        15..22 => (11, 2 << (bit - 15)),
        7..15 => (12, 1 << (bit - 7)),
        _ => (13, 2 << bit),
    };
    packet[header + byte] ^= mask;
    let to = from.with_file_name(format!("wrong-{kind}-{nth}-{bit}.ts"));
    fs::write(&to, bytes).unwrap();
    to
}

/// How loud the sound is in each second, from 0.
fn loudness(path: &Path) -> Vec<f64> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0"])
        .args(["-ac", "1", "-ar", "8000", "-f", "f32le", "-"])
        .output()
        .unwrap();
    let (samples, _) = run.stdout.as_chunks::<4>();
    let energy = |it: &[u8; 4]| f64::from(f32::from_le_bytes(*it)).powi(2);
    samples
        .chunks(8_000)
        .map(|it| (it.iter().map(energy).sum::<f64>() / it.len() as f64).sqrt())
        .collect()
}

fn stream() -> Option<(Place, PathBuf)> {
    let place = Place::new()?;
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=25:d=8 -f lavfi -i sine=d=8 -c:v libx264 -bf 0 -g 25 -c:a aac in.ts",
    );
    Some((place, source))
}

/// V05: one time of the picture is wrong.
#[test]
fn a_wrong_time_of_one_picture_opens_no_hole() {
    let Some((place, source)) = stream() else { return };
    for bit in [25, 22, 32] {
        let wrong = with_wrong_time(&source, 0xE0, 60, bit);
        let settings = with(Mode::Slow, Audio::Stretch, Container::Mp4);
        let (output, report) = place.convert(&wrong, "out.mp4", settings);
        assert_eq!(report.output.as_ref().unwrap().frames.total, 400, "{bit}");
        assert!(warns(&report, "times_repaired"), "{bit}: {:?}", report.warnings);
        let shown = times(&output, "v:0");
        assert!((shown.iter().copied().fold(0.0, f64::max) - 15.96).abs() < 0.001, "{bit}");
        let sound = times(&output, "a:0");
        assert!((sound.last().unwrap() - 16.0).abs() < 0.1, "{bit}: {:?}", sound.last());
        assert!(report.interpolation.unwrap().barriers.is_empty(), "{bit}");
    }
}

/// V05: one time of the sound is wrong.
#[test]
fn a_wrong_time_of_the_sound_silences_nothing() {
    let Some((place, source)) = stream() else { return };
    let packets = times(&source, "a:0").len();
    for bit in [27, 24, 17] {
        let wrong = with_wrong_time(&source, 0xC0, 5, bit);
        let settings = with(Mode::Smooth, Audio::Keep, Container::Mkv);
        let (output, report) = place.convert(&wrong, "out.mkv", settings);
        let sound = times(&output, "a:0");
        // The first may lie before the first picture.
        assert!(sound.len() + 2 >= packets, "{bit}: {} of {packets}", sound.len());
        assert!((sound.last().unwrap() - 8.0).abs() < 0.1, "{bit}: {:?}", sound.last());
        assert!(warns(&report, "sound_damaged"), "{bit}: {:?}", report.warnings);

        let settings = with(Mode::Slow, Audio::Stretch, Container::Mp4);
        let (output, _) = place.convert(&wrong, "out.mp4", settings);
        let loudness = loudness(&output);
        assert!((15..=17).contains(&loudness.len()), "{bit}: {} s", loudness.len());
        assert!(loudness[..15].iter().all(|it| *it > 0.02), "{bit}: {loudness:?}");
    }
}

/// V05: a fragment's clock may start again, where files were put behind each other. FFmpeg passes over the first pictures of the second.
#[test]
fn fragments_put_behind_each_other_keep_their_sound() {
    let Some(place) = Place::new() else { return };
    let one = place.ffmpeg(&format!(
        "{} -c:v libx264 -g 10 -movflags +frag_keyframe+empty_moov+default_base_moof one.mp4",
        white_and_beep().replace("d=1.2", "d=4")
    ));
    let two = place.path("two.mp4");
    fs::write(&two, fs::read(&one).unwrap().repeat(2)).unwrap();
    for (mode, audio, stretch) in
        [(Mode::Slow, Audio::Stretch, 2.0), (Mode::Smooth, Audio::Keep, 1.0)]
    {
        let (output, _) = place.convert(&two, "out.mp4", with(mode, audio, Container::Mp4));
        let apart = loud_at(&output) - bright_at(&output) - 0.02 * stretch;
        assert!(apart.abs() < 0.03 * stretch, "{mode:?}: {apart} s apart");
        let end = times(&output, "a:0").into_iter().fold(0.0, f64::max);
        assert!(end > 7.4 * stretch, "{mode:?}: {end} s");
    }
}

/// V18: frames of TrueHD last less than a millisecond, in which Matroska counts; texts may be shown together.
#[test]
fn what_comes_more_often_than_the_clock_ticks_is_kept() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=d=2:r=48000 -c:v libx264 -c:a truehd -strict -2 in.mkv",
    );
    let (output, _) =
        place.convert(&source, "out.mkv", with(Mode::Smooth, Audio::Keep, Container::Mkv));
    assert_eq!(times(&output, "a:0").len(), times(&source, "a:0").len());

    let head =
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Text\n";
    let event = |at: usize, letter: usize| {
        format!("Dialogue: {letter},0:00:00.{at:02},0:00:00.{:02},Default,{letter}\n", at + 4)
    };
    let events: String =
        (0..10).flat_map(|it| (0..80).map(move |n| event(20 + 4 * it, n))).collect();
    fs::write(place.path("in.ass"), head.to_owned() + &events).unwrap();
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -i in.ass -c:v libx264 -c:s copy typeset.mkv",
    );
    let before = times(&source, "s:0");
    assert_eq!(before.len(), 800);
    let (output, _) =
        place.convert(&source, "out.mkv", with(Mode::Smooth, Audio::Keep, Container::Mkv));
    assert_eq!(times(&output, "s:0"), before);
}

/// V04: the clock of a screen recording is fine and its pauses are long; MP4 counts the ticks between two frames in 31 bits.
#[test]
fn a_pause_of_minutes_fits_the_outputs_clock() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x48:r=30:d=4 \
         -vf settb=1/90000,setpts=N*3003+if(gt(N\\,60)\\,300*90000+1\\,0)+mod(N*N\\,7) -vsync passthrough -enc_time_base 1:90000 \
         -c:v libx264 -bf 0 -video_track_timescale 90000 in.mp4",
    );
    for (mode, end) in [(Mode::Slow, 608.0), (Mode::Smooth, 304.0)] {
        let settings = with(mode, Audio::Drop, Container::Mp4);
        let (output, _) = place.convert(&source, "out.mp4", settings);
        let shown = times(&output, "v:0").into_iter().fold(0.0, f64::max);
        assert!((shown - end).abs() < 0.2, "{mode:?}: {shown}");
        assert_eq!(ffprobe(&output)["streams"][0]["codec_name"], "h264");
    }
}
