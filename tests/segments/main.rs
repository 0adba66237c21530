//! A clip that is worked in several runs comes out as from one: frames, packets, times, sound and report.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod killed;
mod place;
mod voided;

use std::process::Command;

use num_rational::Ratio;
use slomod::config::beside::Beside;
use slomod::config::settings::{Audio, Codec, Container, Device, Mode, Settings};
use slomod::engine::blend::Blend;
use slomod::engine::open;
use slomod::media::sidecar::STREAMS;
use slomod::pipeline::Task;
use slomod::pipeline::beside::folder;
use slomod::pipeline::parts;
use slomod::pipeline::segments::Rule;

use place::*;

/// V27.
#[test]
fn a_clip_interrupted_after_every_segment_is_the_same_in_every_codec_and_container() {
    let place = Place::new();
    let source = place.shots();
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H264, Container::Mkv),
        (Codec::H264, Container::Mov),
        (Codec::H265, Container::Mp4),
        (Codec::H265, Container::Mkv),
        (Codec::Av1, Container::Mp4),
        (Codec::Av1, Container::Mkv),
        (Codec::Ffv1, Container::Mkv),
        (Codec::Ffv1, Container::Mov),
    ] {
        let name = format!("{codec:?}.{}", container.extension());
        let task = place.task(&source, &name, settings(codec, container));
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        let (report, runs) = in_pieces(&task);
        assert!(runs >= 4, "{name}: {runs} runs");
        assert_same(&task, &report, &whole, &whole_report);
        assert_constant(&task);
        assert_eq!(report.timing.resumed.len(), runs - 1, "{name}");
    }
}

#[test]
fn segments_end_at_cuts_and_where_they_are_long_in_every_run_alike() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    run(&task).unwrap();
    let expected = [8, 16, 24, 30, 38, 46, 54, 62];
    // The cut before frame 40 comes too soon after the end before frame 38.
    assert_eq!(ends(&task), expected);
    let keys = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags"])
        .args(["-of", "csv=p=0"])
        .arg(&task.temporary)
        .output()
        .unwrap();
    let keys = String::from_utf8(keys.stdout).unwrap();
    for end in expected {
        let key = format!("{:.6},K", (3 * end) as f64 / 25.0);
        assert!(keys.lines().any(|line| line.starts_with(&key)), "{key}\n{keys}");
    }
    let other = place.task(&source, "b.mp4", task.settings.clone());
    in_pieces(&other);
    assert_eq!(ends(&other), expected);
}

#[test]
fn the_list_of_frames_is_that_of_one_run() {
    let place = Place::new();
    let source = place.shots();
    let beside = Beside { frame_list: true, ..Beside::default() };
    let listed = Settings { beside, ..settings(Codec::Ffv1, Container::Mkv) };
    let task = place.task(&source, "a.mkv", listed);
    let whole = undisturbed(&task);
    let whole_report = run(&whole).unwrap();
    let (report, runs) = in_pieces(&task);
    assert!(runs >= 4, "{runs} runs");
    assert_same(&task, &report, &whole, &whole_report);
    assert_eq!(report.output.unwrap().sidecars.len(), 1);
}

#[test]
fn variable_rates_and_grids_go_on_at_the_right_instant() {
    let place = Place::new();
    let variable = place.clip(
        "variable.mkv",
        &[
            &["-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=3,select='mod(n,7)*gt(mod(n,29),3)'"],
            SOUND,
            &["-fps_mode", "passthrough", "-c:v", "ffv1", "-pix_fmt", "yuv420p"],
        ]
        .concat(),
    );
    let steps = settings(Codec::H264, Container::Mp4);
    let smooth = Settings {
        mode: Mode::Smooth,
        factor: None,
        fps: Some(Ratio::from_integer(60)),
        ..steps.clone()
    };
    let speed = Settings { factor: None, speed: Some(Ratio::new(3, 10)), ..steps.clone() };
    let keep = Settings { audio: Audio::Keep, ..steps.clone() };
    let mut rare = smooth.clone();
    rare.fps = Some(Ratio::from_integer(10));
    let h265 = settings(Codec::H265, Container::Mp4);
    for (number, settings) in [steps, smooth, speed, keep, rare, h265].into_iter().enumerate() {
        let name = format!("{number}.mp4");
        let mut task = place.task(&variable, &name, settings);
        task.segments = Rule { least: 5, most: 9 };
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        let (report, runs) = in_pieces(&task);
        assert!(runs > 1, "{name}");
        assert_same(&task, &report, &whole, &whole_report);
        assert_times(&task);
    }
}

/// V27: what lies beside the segments grows with the clip, not with its square.
#[test]
fn descriptions_of_segments_do_not_repeat_the_map_of_frames() {
    let place = Place::new();
    let source = place.clip(
        "irregular.mkv",
        &[
            &["-f", "lavfi", "-i", "testsrc2=s=64x48:r=100:d=12,select='gt(mod(n*n,11),2)'"],
            &["-fps_mode", "passthrough", "-c:v", "ffv1", "-pix_fmt", "yuv420p"][..],
        ]
        .concat(),
    );
    let smooth = Settings {
        mode: Mode::Smooth,
        factor: None,
        fps: Some(Ratio::from_integer(144)),
        audio: Audio::Drop,
        ..settings(Codec::Ffv1, Container::Mkv)
    };
    let mut task = place.task(&source, "a.mkv", smooth);
    task.segments = Rule { least: 20, most: 25 };
    run(&task).unwrap();
    let folder = task.parts.as_ref().unwrap();
    let map = |number: usize| {
        let text = std::fs::read(folder.join(format!("{number:04}.json"))).unwrap();
        let described: serde_json::Value = serde_json::from_slice(&text).unwrap();
        described["state"]["tally"]["map"].to_string().len()
    };
    let count = ends(&task).len();
    assert!(count > 20, "{count}");
    let (early, late) = (map(3), map(count - 1));
    assert!(0 < early && late < 3 * early, "{early} bytes at first, {late} in the end");
}

#[test]
fn a_clip_interrupted_at_any_moment_is_the_same() {
    let place = Place::new();
    let source = place.shots();
    let whole = place.task(&source, "whole.mp4", settings(Codec::H264, Container::Mp4));
    let whole = undisturbed(&whole);
    let whole_report = run(&whole).unwrap();
    let mut random = std::process::id();
    println!("seed {random}");
    for round in 0..5 {
        let task = place.task(&source, &format!("{round}.mp4"), whole.settings.clone());
        let mut interruptions = 0;
        let report = loop {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few enough that several runs end within a segment, and at the last always enough.
            let mut pairs = (random >> 16) % 40 + 4 * interruptions;
            let done = run_until(&task, || {
                pairs = pairs.saturating_sub(1);
                pairs == 0
            });
            match done {
                Some(report) => break report,
                None => interruptions += 1,
            }
        };
        assert_same(&task, &report, &whole, &whole_report);
    }
}

#[test]
fn a_finished_clip_leaves_its_segments_to_its_caller_who_removes_them() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    run(&task).unwrap();
    let folder = task.parts.as_ref().unwrap();
    assert!(parts::size_bytes(folder) > 0);
    let open = folder.join(format!("{:04}.packets", finished(&task) + 1));
    assert!(!open.exists(), "the last segment is in the output alone");
    parts::remove(folder).unwrap();
    assert!(!folder.exists() && parts::remove(folder).is_ok());
}

#[test]
fn progress_goes_on_where_it_was_and_speeds_are_of_the_run() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    assert!(run_until(&task, || finished(&task) >= 4).is_none());
    let mut seen = Vec::new();
    let report = run_with(&task, &mut Blend, &mut |progress| seen.push(progress.clone())).unwrap();
    let resumed = report.timing.resumed.last().unwrap();
    let working: Vec<_> = seen.iter().filter(|it| it.phase == "converting").collect();
    assert!(working.iter().all(|it| it.frames_in > resumed.source_frame), "{working:?}");
    assert!(working.iter().all(|it| it.frames_out >= resumed.output_frame), "{working:?}");
    let total = report.output.as_ref().unwrap().frames.total;
    let made = (total - resumed.output_frame) as f64;
    let speed = report.timing.end_to_end_fps.unwrap();
    assert!((speed - made / report.timing.wall_s).abs() < 1e-6 * speed, "{speed}");
}

#[test]
fn the_network_makes_the_same_pictures_when_it_begins_in_the_middle() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.6", "-c:v", "ffv1"]);
    let mut settings = settings(Codec::Ffv1, Container::Mkv);
    (settings.factor, settings.device) = (Some(2), Device::Cpu);
    let mut task = place.task(&source, "a.mkv", settings);
    task.segments = Rule { least: 4, most: 8 };
    let mut engine = open::open(&task.settings).unwrap();
    let whole = undisturbed(&task);
    let whole_report = run_with(&whole, &mut *engine, &mut |_| {}).unwrap();
    let mut engine = open::open(&task.settings).unwrap();
    let begun = run_engine_until(&task, &mut *engine, || finished(&task) >= 2);
    assert!(begun.is_none());
    let mut engine = open::open(&task.settings).unwrap();
    let report = run_with(&task, &mut *engine, &mut |_| {}).unwrap();
    assert!(report.timing.resumed.last().is_some_and(|it| it.segments >= 2));
    assert_same(&task, &report, &whole, &whole_report);
}

/// Bars, damage, fields made whole, and what lies beside the output are found again as they were.
#[test]
fn damage_bars_and_what_lies_beside_are_the_same_in_every_run() {
    let place = Place::new();
    let subtitles =
        "1\n00:00:00,200 --> 00:00:00,400\nstart\n\n2\n00:00:02,000 --> 00:00:02,300\nend\n";
    std::fs::write(place.path("s.srt"), subtitles).unwrap();
    let srt = place.path("s.srt");
    let filter =
        "testsrc2=s=160x96:r=50:d=2.4,pad=160:120:0:12,tinterlace=mode=interleave_top,setfield=tff";
    let whole = place.clip(
        "whole.mp4",
        &[
            &["-f", "lavfi", "-i", filter, "-i", srt.to_str().unwrap()],
            &["-c:v", "mpeg4", "-flags", "+ilme+ildct", "-q:v", "3", "-g", "15"][..],
            &["-c:s", "mov_text"],
        ]
        .concat(),
    );
    let mut bytes = std::fs::read(&whole).unwrap();
    let at = bytes.len() * 6 / 10;
    bytes[at..at + 3000].iter_mut().enumerate().for_each(|(at, it)| *it = (at * 7919 % 251) as u8);
    let source = place.path("in.mp4");
    std::fs::write(&source, bytes).unwrap();
    let task = place.task(&source, "a.mkv", settings(Codec::H264, Container::Mkv));
    let whole = undisturbed(&task);
    let whole_report = run(&whole).unwrap();
    let interpolation = whole_report.interpolation.as_ref().unwrap();
    assert!(!interpolation.barriers.is_empty() && interpolation.black_bars.is_some());
    assert!(whole_report.warnings.iter().any(|it| it.code == "deinterlaced"));
    let (report, runs) = in_pieces(&task);
    assert!(runs >= 3, "{runs} runs");
    assert_same(&task, &report, &whole, &whole_report);
    let beside = |task: &Task| std::fs::read(folder(&task.temporary).join(STREAMS)).unwrap();
    assert!(beside(&task) == beside(&whole));
}
