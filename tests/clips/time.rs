//! Rates, starts and lengths.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use num_rational::Ratio;
use slomod::config::settings::{Audio, Codec, Encoding, Mode, Settings, Timelapse};
use slomod::engine::blend::Blend;
use slomod::frame::{Seconds, rational_text};
use slomod::media::MediaError;
use slomod::pipeline::ConvertError;
use slomod::pipeline::convert::convert;

use crate::{Place, boxes, decoded, ffprobe, kinds, run, schema, slow, warns};

fn fast_h264() -> Encoding {
    Encoding {
        codec: Codec::H264,
        preset: Some("ultrafast".into()),
        crf: Some(40),
        ..Encoding::default()
    }
}

/// With B-frames, behind which packets do not say how long the last frame is shown.
fn reordered() -> Encoding {
    Encoding { preset: Some("medium".into()), ..fast_h264() }
}

/// Where the last packet of a stream ends, in seconds.
fn end_s(path: &Path, stream: &str) -> f64 {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", stream, "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time,duration_time"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let end = |line: &str| -> f64 { line.split(',').filter_map(|it| it.parse::<f64>().ok()).sum() };
    text.lines().map(end).fold(0.0, f64::max)
}

/// V02: two hours, with a frame only every 4.2 s so that they pass quickly, of which each is at a time of 24000/1001.
#[test]
fn two_hours_with_sound_end_together() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i color=gray:s=16x16:r=240/1001:d=7207.2 -f lavfi -i anullsrc=r=8000:cl=mono -t 7207.2 \
         -c:v libx264 -preset ultrafast -c:a aac -b:a 8k -video_track_timescale 24000 in.mp4",
    );
    let settings = Settings {
        mode: Mode::Smooth,
        factor: Some(2),
        audio: Audio::Keep,
        encoding: fast_h264(),
        ..slow(2)
    };
    let (output, report) = place.convert(&source, "out.mp4", settings);
    assert_eq!(report.output.unwrap().frames.total, 2 * 1728);
    let frame = 1001.0 / 24_000.0;
    let (picture, sound) = (end_s(&output, "v:0"), end_s(&output, "a:0"));
    assert!((picture - 7207.2).abs() < frame, "{picture}");
    let before = end_s(&source, "a:0") - end_s(&source, "v:0");
    assert!((sound - picture - before).abs() < frame, "{sound} against {picture}");
    let times: Vec<Seconds> = decoded(&output).iter().map(|it| it.pts).collect();
    for (number, time) in times.iter().enumerate() {
        assert_eq!(*time, Ratio::new(number as i128 * 1001, 480), "exactly, to the last");
    }
}

/// V03: every output frame on its grid, and the tail is not lost.
#[test]
fn unlike_rates_are_exact_and_keep_the_tail() {
    let Some(place) = Place::new() else { return };
    for (from, to, count) in
        [("25", "60", 36), ("30", "24.5", 13), ("2889/100", "60", 32), ("24000/1001", "60", 38)]
    {
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=64x48:r={from} -frames:v 15 -c:v libx264 -bf 2 in.mp4"
        ));
        let (from, to) = (rational_text::parse(from).unwrap(), rational_text::parse(to).unwrap());
        let settings = Settings {
            mode: Mode::Smooth,
            factor: None,
            fps: Some(to),
            encoding: fast_h264(),
            ..slow(2)
        };
        let (output, report) = place.convert(&source, "out.mp4", settings);
        let after = decoded(&output);
        // As many as begin before the source ends.
        let expected = (Ratio::from_integer(15) / from * to).ceil().to_integer();
        assert_eq!((after.len() as i128, expected), (expected, count), "{from} to {to}");
        for (number, frame) in after.iter().enumerate() {
            assert_eq!(frame.pts, Ratio::from_integer(number as i128) / to, "{from} to {to}");
        }
        assert_eq!(report.output.unwrap().frames.total, after.len() as u64);
    }
}

/// V05, V06: a stream that starts late, B-frames, and an edit list that hides the beginning.
#[test]
fn starts_and_edit_lists_move_picture_and_sound_alike() {
    let Some(place) = Place::new() else { return };
    place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=25:d=3 -f lavfi -i sine=d=3:r=48000 -c:v libx264 -bf 2 -g 50 -c:a aac whole.mp4",
    );
    let cut = place.ffmpeg("-ss 0.6 -i whole.mp4 -c copy cut.mp4");
    let late = place.ffmpeg("-i whole.mp4 -c copy -muxdelay 2 late.ts");
    for source in [cut, late] {
        let shown = decoded(&source);
        let settings = Settings { audio: Audio::Stretch, encoding: fast_h264(), ..slow(2) };
        let (output, report) = place.convert(&source, "out.mp4", settings);
        let after = decoded(&output);
        assert_eq!(after.len(), 2 * shown.len(), "{}", source.display());
        assert_eq!(after[0].pts, Seconds::default(), "{}", source.display());
        assert!(!warns(&report, "times_repaired"), "{:?}", report.warnings);
        let (picture, sound) = (end_s(&output, "v:0"), end_s(&output, "a:0"));
        assert!((picture - sound).abs() < 0.2, "{}: {picture}, {sound}", source.display());
    }
}

/// V21: two and three frames make a clip, one does not.
#[test]
fn two_frames_are_enough_and_one_is_not() {
    let Some(place) = Place::new() else { return };
    for count in 1..=3_u64 {
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=160x90:r=25 -frames:v {count} -c:v libx264 in{count}.mp4"
        ));
        let task = place.task(&source, "out.mkv", slow(4));
        if count == 1 {
            let error = run(&task).unwrap_err();
            let expected = matches!(
                &error,
                ConvertError::Media(MediaError::Unusable { code: "too_few_frames", .. })
            );
            assert!(expected, "{error}");
            assert!(!task.temporary.exists());
            continue;
        }
        let (output, report) = place.convert(&source, "out.mkv", slow(4));
        let frames = report.output.unwrap().frames;
        let found = (frames.total, frames.real, frames.synthesised);
        assert_eq!(found, (4 * count, count, 3 * (count - 1)));
        assert_eq!(decoded(&output).len() as u64, 4 * count);
    }
}

/// V04: seconds that a camera left out, in both modes; a frame that is missing here and there is none of them.
#[test]
fn frames_that_were_not_recorded_are_a_barrier_with_its_range() {
    let Some(place) = Place::new() else { return };
    let clip = |left: &str, name: &str| {
        place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=160x96:r=30:d=3,select={left} -fps_mode passthrough -c:v libx264 {name}"
        ))
    };
    let source = clip("not(between(n\\,25\\,49))", "left_out.mp4");
    let whole = clip("mod(n\\,7)", "seventh.mp4");
    let smooth = Settings {
        mode: Mode::Smooth,
        factor: None,
        fps: Some(Ratio::from_integer(60)),
        ..slow(2)
    };
    for settings in [slow(4), smooth] {
        let settings = Settings { quality_samples: 200, ..settings };
        let (output, report) = place.convert(&source, "out.mkv", settings.clone());
        let gaps = &report.source.frames.gaps;
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!((gaps[0].frame, gaps[0].missing), (25, 25));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-3;
        assert!(near(gaps[0].pts_from_s, 0.8) && near(gaps[0].pts_to_s, 5.0 / 3.0), "{gaps:?}");
        assert!(warns(&report, "frames_missing") && !warns(&report, "barriers"));
        // All that is shown of that time is the frame before it.
        let stretch = if settings.mode == Mode::Slow { 4.0 } else { 1.0 };
        let (before, after) = (decoded(&source), decoded(&output));
        let kinds = kinds(&report);
        let seconds = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
        let mut held = 0;
        for (frame, kind) in after.iter().zip(&kinds) {
            let time = seconds(frame.pts) / stretch;
            if time > 0.8 + 1e-3 && time < 5.0 / 3.0 - 1e-3 {
                assert_eq!(*kind, "held", "at {time} s");
                assert!(frame.picture == before[24].picture, "at {time} s");
                held += 1;
            }
        }
        assert!(held >= 3, "{held}");
        let made = kinds.iter().filter(|it| **it == "synthesised").count();
        assert!(made >= before.len() - 2, "the rest is worked as ever: {made}");
        let measured: Vec<_> =
            report.quality.unwrap().holdout.frames.iter().map(|it| it.frame).collect();
        assert!(measured.contains(&23) && measured.contains(&26), "{measured:?}");
        assert!(!measured.contains(&24) && !measured.contains(&25), "{measured:?}");

        let (_, report) = place.convert(&whole, "out.mkv", settings);
        assert_eq!(report.source.variable_rate, Some(true));
        assert_eq!(report.source.frames.gaps, []);
        assert!(!warns(&report, "frames_missing"));
        let kinds = crate::kinds(&report);
        let last = kinds.iter().rposition(|it| *it == "synthesised").unwrap();
        assert!(!kinds[..last].contains(&"held"), "none is held but the tail");
    }
}

/// V04: a gap far longer than a frame, in containers whose headers make a low average rate of it.
#[test]
fn a_gap_of_seconds_is_held_from_any_container() {
    let Some(place) = Place::new() else { return };
    for name in ["gap.ts", "gap.mkv", "gap.flv"] {
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=64x48:r=25:d=4 -vf setpts=PTS+if(gte(N\\,50)\\,13/TB\\,0) -fps_mode vfr -c:v libx264 -bf 2 {name}"
        ));
        for (mode, stretch) in [(Mode::Slow, 2.0), (Mode::Smooth, 1.0)] {
            let settings = Settings { mode, encoding: reordered(), ..slow(2) };
            let (output, report) = place.convert(&source, "out.mp4", settings);
            let name = format!("{} {mode:?}", source.display());
            assert_eq!(report.source.frames.gaps.len(), 1, "{name}");
            let times: Vec<Seconds> = decoded(&output).iter().map(|it| it.pts).collect();
            assert_eq!(times.len(), 200, "{name}");
            let last = *times[199].numer() as f64 / *times[199].denom() as f64;
            // Half a frame of the source before its end, at 17 s.
            assert!((last - (17.0 - 0.02) * stretch).abs() < 2e-3, "{name}: {last}");
            let lasts = report.output.unwrap().duration_s;
            assert!((lasts - 17.0 * stretch).abs() < 2e-3, "{name}: {lasts}");
        }
    }
}

/// V03: a picture that stands still at the end, as screens are recorded: in every container, and to each.
#[test]
fn a_last_frame_is_shown_as_long_as_in_the_source() {
    let Some(place) = Place::new() else { return };
    place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=2 -c:v libx264 -bf 0 plain.mp4");
    place.ffmpeg(
        "-i plain.mp4 -c copy -bsf:v setts=duration=if(eq(N\\,49)\\,3/TB\\,DURATION) still.mp4",
    );
    let sources = [
        (place.path("still.mp4"), 4.96),
        (place.ffmpeg("-i still.mp4 -c copy still.mkv"), 4.96),
        (place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=1/2:d=12 -c:v libx264 rare.mkv"), 12.0),
    ];
    for (source, length) in sources {
        for output in ["out.mkv", "out.mp4", "out.mov"] {
            for (mode, stretch) in [(Mode::Slow, 2.0), (Mode::Smooth, 1.0)] {
                let settings = Settings { mode, encoding: reordered(), ..slow(2) };
                let (output, report) = place.convert(&source, output, settings);
                let name = format!("{} to {} {mode:?}", source.display(), output.display());
                let said = report.output.unwrap().duration_s;
                assert!((said - length * stretch).abs() < 2e-3, "{name}: {said}");
                let probed = ffprobe(&output);
                // Matroska has it of the whole alone.
                let of_stream = probed["streams"][0]["duration"].as_str();
                for lasts in of_stream.into_iter().chain(probed["format"]["duration"].as_str()) {
                    let lasts: f64 = lasts.parse().unwrap();
                    assert!((lasts - said).abs() < 2e-3, "{name}: {lasts} instead of {said}");
                }
            }
        }
    }
}

/// V01, V03: length and rate in the report are the file's, and so is the last frame of what is worked again.
#[test]
fn the_report_says_how_long_the_output_lasts_and_at_which_rate() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=1 -c:v libx264 in.mkv");
    let twice = Settings { encoding: reordered(), ..slow(2) };
    let smooth = Settings { mode: Mode::Smooth, ..twice.clone() };
    let on_grid =
        Settings { fps: Some(Ratio::from_integer(10)), factor: Some(16), ..twice.clone() };
    let check = |source: &Path, name: &str, settings: Settings, rate: &str, length: f64| {
        let (file, report) = place.convert(source, name, settings);
        let output = report.output.unwrap();
        assert_eq!((output.fps.as_str(), output.duration_s), (rate, length), "{name}");
        let probed = ffprobe(&file);
        let lasts: f64 = probed["streams"][0]["duration"].as_str().unwrap().parse().unwrap();
        assert!((lasts - length).abs() < 1e-5, "{name}: {lasts}");
        assert_eq!(probed["streams"][0]["avg_frame_rate"], format!("{rate}/1"), "{name}");
        file
    };
    let slower = check(&source, "slower.mp4", twice, "25", 2.0);
    check(&slower, "smoother.mp4", smooth, "50", 2.0);
    // 16 s of which a frame is shown every tenth of a second.
    let gridded = check(&source, "gridded.mp4", on_grid, "10", 16.0);
    // The stream alone names the rate as well, where it is constant.
    let bare = place.ffmpeg(&format!("-i {} -c copy bare.h264", gridded.display()));
    assert_eq!(ffprobe(&bare)["streams"][0]["r_frame_rate"], "10/1");
}

/// V30: by its name, and by pictures that have little in common.
#[test]
fn a_timelapse_is_suspected_flagged_and_refused_where_asked() {
    let Some(place) = Place::new() else { return };
    let calm = "-f lavfi -i testsrc2=s=96x54:r=30:d=1 -c:v libx264";
    let leaping = "-f lavfi -i nullsrc=s=96x54:r=30:d=1,geq=lum='40+150*mod(floor(X/12)*7+floor(Y/9)*5+N*(3+floor(X/24))\\,11)/11':cb=128:cr=128 -c:v libx264";
    let sound = "-f lavfi -i sine=d=1 -c:a aac";
    let clips = [
        (place.ffmpeg(&format!("{calm} 20260301_081500_PF.mp4")), true),
        (place.ffmpeg(&format!("{calm} PRK_2026_03_01_08_15_00_F.mp4")), true),
        (place.ffmpeg(&format!("{calm} 20260301_081500_0042PF.mp4")), true),
        (place.ffmpeg(&format!("{leaping} shaky.mp4")), true),
        (place.ffmpeg(&format!("{calm} 20260301_081500_NF.mp4")), false),
        (
            place.ffmpeg(&format!(
                "{} {sound} 20260301_081600_PF.mp4",
                calm.replace(" -c:v libx264", "")
            )),
            false,
        ),
    ];
    for (source, suspected) in clips {
        let (_, report) = place.convert(&source, "out.mkv", slow(2));
        let found = warns(&report, "timelapse_suspected");
        assert_eq!(found, suspected, "{}: {:?}", source.display(), report.warnings);
        let task = place.task(
            &source,
            "refused.mkv",
            Settings { timelapse: Timelapse::Refuse, ..slow(2) },
        );
        match run(&task) {
            Ok(_) => assert!(!suspected, "{}", source.display()),
            Err(ConvertError::Media(MediaError::Unusable { code: "timelapse", .. })) => {
                assert!(suspected && !task.temporary.exists(), "{}", source.display());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Names of one camera's clips show what was not recorded between them, and the container's rate stands beside the true one.
#[test]
fn seconds_that_a_camera_did_not_record_are_said() {
    let Some(place) = Place::new() else { return };
    let plain = "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -c:v libx264";
    let clip =
        |time: &str, kind: &str| place.ffmpeg(&format!("{plain} 20260301_{time}_{kind}.mp4"));
    let (first, second, third) = (clip("081500", "NF"), clip("081502", "NF"), clip("081520", "NF"));
    // Another lens, another kind and another drive are nobody's neighbors.
    let (event, _, _) = (clip("081510", "EF"), clip("081512", "NR"), clip("111500", "NF"));
    let said = |source: &std::path::Path| {
        let (_, report) = place.convert(source, "out.mkv", slow(2));
        assert_eq!(report.source.fps_claimed.as_deref(), Some("25"));
        let found = report.warnings.into_iter().filter(|it| it.code == "segment_gap");
        found.map(|it| it.message).collect::<Vec<_>>()
    };
    assert!(said(&first).is_empty(), "{:?}", said(&first));
    let found = said(&second);
    assert!(found.len() == 1 && found[0].contains("16 s"), "{found:?}");
    assert!(found[0].contains("20260301_081520_NF.mp4"), "{found:?}");
    let found = said(&third);
    assert!(found.len() == 1 && found[0].contains("20260301_081502_NF.mp4"), "{found:?}");
    assert!(said(&event).is_empty());
    // Of a camera with three lenses each has neighbors of its own.
    let clip = |name: &str| place.ffmpeg(&format!("{plain} 2026_0302_{name}.mp4"));
    let (rear, _, _) = (clip("081500_0001R"), clip("081502_0002T"), clip("081520_0003R"));
    let found = said(&rear);
    assert!(found.len() == 1 && found[0].contains("2026_0302_081520_0003R.mp4"), "{found:?}");
}

/// W39. What lies beside a clip takes no more for its headers than they may have, and costs the clip nothing; the report
/// counts what was taken.
#[test]
fn a_clip_beside_it_that_asks_for_gigabytes_gets_none() {
    let Some(place) = Place::new() else { return };
    let plain = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.4 -c:v mpeg4";
    let before = place.ffmpeg(&format!("{plain} 20260301_081500_NF.mp4"));
    place.ffmpeg(&format!("{plain} 20260301_081520_NF.mp4"));
    let asking = boxes::index_of(&std::fs::read(&before).unwrap(), 80_000_000);
    std::fs::write(&before, asking).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .args(["convert", "20260301_081520_NF.mp4", "--output", "out.mp4", "--model", "blend"])
        .args(["--device", "cpu", "--factor", "2"])
        .current_dir(place.folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line =
            text.lines().find_map(|it| it.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = peak.max(line.map_or(0, |it| it.parse::<u64>().unwrap() << 10));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    assert!(peak < 1_800_000_000, "{peak} bytes");
    let report = schema::read(&place.path("out.mp4.json"));
    let said = report.timing.rss_peak_bytes.unwrap();
    assert!(said > peak - (64 << 20), "{said} of {peak} bytes");
}

/// V28: where no frame could be told from the next by its time.
#[test]
fn a_rate_that_the_container_cannot_hold_is_refused_before_the_work() {
    let Some(place) = Place::new() else { return };
    let source = place
        .ffmpeg("-f lavfi -i testsrc2=s=64x48:r=1000:d=0.02 -c:v libx264 -preset ultrafast in.mp4");
    let settings = Settings { mode: Mode::Smooth, encoding: fast_h264(), ..slow(2) };
    let task = place.task(&source, "out.mkv", settings.clone());
    let error = run(&task).unwrap_err();
    assert_eq!(error.code(), "not_encodable");
    assert!(error.to_string().contains("use mp4"), "{error}");
    assert!(!task.temporary.exists());
    let (_, report) = place.convert(&source, "out.mp4", settings);
    assert_eq!(report.output.unwrap().frames.total, 40);
}

/// V28: and an output that few devices play.
#[test]
fn rates_that_few_devices_play_are_said() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=30:d=0.2 -c:v libx264 in.mp4");
    for (fps, said) in [(60, false), (320, true)] {
        let settings = Settings {
            mode: Mode::Smooth,
            factor: None,
            fps: Some(Ratio::from_integer(fps)),
            encoding: fast_h264(),
            ..slow(2)
        };
        let (_, report) = place.convert(&source, "out.mp4", settings);
        assert_eq!(warns(&report, "level_high"), said, "{fps}");
        assert!(report.output.unwrap().level.is_some());
    }
}

/// A hole of half a minute at 320 frames a second is thousands of frames: they are told while they are written, and who asks for an
/// end is heard.
#[test]
fn a_long_hole_on_a_grid_is_told_and_can_be_stopped() {
    let Some(place) = Place::new() else { return };
    let times = "setpts=(N/30+30*gte(N\\,2))/TB";
    let source = place.ffmpeg(&format!(
        "-f lavfi -i testsrc2=s=64x48:r=30:d=0.2 -vf {times} -vsync vfr -c:v ffv1 in.mkv"
    ));
    let settings = Settings { mode: Mode::Smooth, factor: None, fps: Some(320.into()), ..slow(2) };
    let task = place.task(&source, "out.mkv", settings);
    let mut told = std::collections::BTreeSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    let report = convert(&task, &mut Blend, &stop, &mut |it| {
        if it.phase == "converting" {
            told.insert(it.frames_out);
        }
    });
    let total = report.unwrap().output.unwrap().frames.total;
    // How often depends on the machine.
    let within = told.iter().any(|it| (100..total - 100).contains(it));
    assert!(total > 9000 && within, "{total} frames, {told:?}");
    let halfway = Arc::clone(&stop);
    let ended = convert(&task, &mut Blend, &stop, &mut |it| {
        halfway.fetch_or(it.frames_out > 100, Ordering::Relaxed);
        assert!(it.frames_out < total / 2, "{}", it.frames_out);
    });
    assert!(matches!(ended, Err(ConvertError::Interrupted)), "{ended:?}");
}
