//! What a clip shows and what is made of it: cuts, flashes, repeated pictures, overlays, gaps that nobody can be sure of.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;

use std::path::PathBuf;

use num_rational::Ratio;
use slomod::config::beside::{Beside, Still};
use slomod::config::content::{Content, Duplicates, Mark, Overlays};
use slomod::config::settings::{Device, Settings};
use slomod::engine;
use slomod::error::{Classify as _, Consequence};
use slomod::frame::{Frame, Picture};
use slomod::media::damage::Damage;
use slomod::pipeline::ConvertError;
use slomod::pipeline::looking::Looker;
use slomod::pipeline::repeats::is_same;
use slomod::report::{Interpolation, Report};

use clips::{Place, decoded, run, slow};

fn with(content: Content) -> Settings {
    Settings { content, ..slow(4) }
}

fn done(report: &Report) -> &Interpolation {
    report.interpolation.as_ref().unwrap()
}

/// Mean difference of luma.
fn off(a: &Picture, b: &Picture) -> f64 {
    let (a, b) = (&a.planes[0], &b.planes[0]);
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

/// Two shots of ten frames each, both moving.
fn two_shots(place: &Place) -> PathBuf {
    let graph = "testsrc2=s=160x96:r=25:d=0.4[a];\
                 mandelbrot=s=160x96:r=25:end_pts=10,trim=duration=0.4[b];[a][b]concat";
    place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"])
}

/// V07: every output frame is a mixture of frames of its own shot alone.
#[test]
fn no_frame_is_mixed_across_a_cut() {
    let place = Place::new();
    let source = two_shots(&place);
    let task = place.task(&source, "out.mkv", slow(4));
    let report = run(&task).unwrap();
    assert_eq!(done(&report).cuts.iter().map(|it| it.frame).collect::<Vec<_>>(), [10]);
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    for (index, frame) in after.iter().enumerate() {
        let shot = if index < 40 { &before[..10] } else { &before[10..] };
        let nearest = shot.iter().map(|it| off(&it.picture, &frame.picture));
        let nearest = nearest.fold(f64::INFINITY, f64::min);
        let strange = if index < 40 { &before[10..] } else { &before[..10] };
        let strange = strange.iter().map(|it| off(&it.picture, &frame.picture));
        let strange = strange.fold(f64::INFINITY, f64::min);
        assert!(nearest < 16.0 && nearest < strange / 2.0, "{index}: {nearest} {strange}");
    }
}

/// V07: a list is believed, with or without looking.
#[test]
fn cuts_of_a_list_are_barriers_too() {
    let place = Place::new();
    let source = two_shots(&place);
    let list = place.path("in.mkv.cuts");
    std::fs::write(&list, "# by hand\n0.2\n").unwrap();
    for (find_cuts, expected) in [(true, vec![5, 10]), (false, vec![5])] {
        let content = Content { find_cuts, cut_list: Some(".cuts".into()), ..Content::default() };
        let task = place.task(&source, "out.mkv", with(content));
        let report = run(&task).unwrap();
        let cuts = &done(&report).cuts;
        assert_eq!(cuts.iter().map(|it| it.frame).collect::<Vec<_>>(), expected);
        assert!(cuts[0].listed);
        let (before, after) = (decoded(&source), decoded(&task.temporary));
        assert!(after[19].picture == before[4].picture, "held up to the cut");
    }
    std::fs::write(&list, "0.2\nhalf past\n").unwrap();
    let content = Content { cut_list: Some(list.clone()), ..Content::default() };
    let error = run(&place.task(&source, "out.mkv", with(content.clone()))).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, ConvertError::Settings(_)), "{said}");
    assert!(said.contains("in.mkv.cuts") && said.contains("line 2"), "{said}");
    std::fs::remove_file(&list).unwrap();
    assert!(run(&place.task(&source, "out.mkv", with(content))).is_err(), "a file that is named");
    let content = Content { cut_list: Some(".cuts".into()), ..Content::default() };
    assert!(run(&place.task(&source, "out.mkv", with(content))).is_ok(), "an ending");
}

/// V07: a list that cannot be read says nothing of the clip, and a name that leaves no room for the ending has none.
#[test]
fn a_list_that_cannot_be_read_is_no_fault_of_the_clip() {
    let place = Place::new();
    let source = two_shots(&place);
    let content = Content { cut_list: Some(".cuts".into()), ..Content::default() };
    let list = place.path("in.mkv.cuts");
    std::os::unix::fs::symlink("in.mkv.cuts", &list).unwrap();
    let error = run(&place.task(&source, "out.mkv", with(content.clone()))).unwrap_err();
    assert_eq!(error.consequence(), Consequence::Retry, "{error}");
    assert!(error.to_string().contains("in.mkv.cuts: cannot be read"), "{error}");
    let long = place.path(&format!("{}.mkv", "n".repeat(251)));
    std::fs::rename(&source, &long).unwrap();
    assert!(run(&place.task(&long, "out.mkv", with(content))).is_ok());
}

/// V08.
#[test]
fn flashes_and_fades_are_listed_and_are_no_barriers() {
    let place = Place::new();
    let graph = "testsrc2=s=160x96:r=25:d=2,format=gray,\
                 geq=lum='if(between(N,10,11),p(X,Y)*0.7+76,p(X,Y))',fade=out:25:20";
    let source = place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-c:v", "ffv1"]);
    let report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    assert_eq!(done(&report).cuts, []);
    let kinds: Vec<_> = done(&report).changes.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["flash", "fade_out"], "{:?}", done(&report).changes);
    assert_eq!((done(&report).changes[0].frame, done(&report).changes[0].frames), (10, 2));
}

/// Every fifth picture is lost, and the one before is shown again in its place.
fn stutter(place: &Place) -> PathBuf {
    let graph = "testsrc2=s=160x96:r=25:d=1,select='not(eq(mod(n,5),4))',fps=25";
    place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-c:v", "ffv1"])
}

/// V09.
#[test]
fn repeated_pictures_are_reported_and_kept_or_repaired_and_marked() {
    let place = Place::new();
    let source = stutter(&place);
    let kept = place.task(&source, "kept.mkv", slow(2));
    let report = run(&kept).unwrap();
    let count = report.source.frames.duplicates;
    assert!(count >= 4, "{count}");
    let frames = report.output.as_ref().unwrap().frames;
    assert_eq!(
        frames.real, report.source.frames.decoded,
        "every real one is there, repeated or not"
    );
    let before = decoded(&source);
    for (index, frame) in decoded(&kept.temporary).iter().enumerate().step_by(2) {
        assert!(frame.picture == before[index / 2].picture, "frame {index}");
    }

    let content = Content { duplicates: Duplicates::Repair, ..Content::default() };
    let task = place.task(&source, "repaired.mkv", Settings { content, ..slow(2) });
    let repaired = run(&task).unwrap();
    let now = repaired.output.as_ref().unwrap().frames;
    // Nothing follows the last frame, so that its repetition stays.
    let before = decoded(&source);
    let last = before.len() - 1;
    let at_end = u64::from(before[last].picture == before[last - 1].picture);
    let count_repaired = count - at_end;
    assert_eq!((now.total, now.repaired), (frames.total, count_repaired));
    assert_eq!(now.real, frames.real - count_repaired);
    assert_eq!(repaired.source.frames.duplicates, count);
    assert_eq!(repaired.source.variable_rate, Some(false), "times are those of the source");
    let after = decoded(&task.temporary);
    let mut found = 0;
    for index in 1..before.len() - 1 {
        let shown = &after[2 * index].picture;
        if before[index].picture == before[index - 1].picture {
            let (a, b) = (&before[index - 1].picture, &before[index + 1].picture);
            let mixed = slomod::engine::blend::blend(a, b, 0.5);
            assert!(**shown == mixed, "frame {index} lies between its neighbors");
            found += 1;
        } else {
            assert!(*shown == before[index].picture, "frame {index} is untouched");
        }
    }
    assert_eq!(found, count_repaired);
    let sections = &done(&repaired).frame_map;
    assert!(sections.iter().flat_map(|it| &it.runs).any(|it| it.kind == "repaired"));
}

/// A clock over a picture that moves: it changes every tenth frame.
fn clock(place: &Place) -> PathBuf {
    let block = "if(mod(floor(X/3)+floor(Y/3)+floor(N/10),2),235,16)";
    let moving = "128+70*sin((X+4*N)/5)*cos(Y/6)+30*sin((X+4*N)/23+Y/11)";
    let inside = "between(X,64,127)*between(Y,96,111)";
    let graph =
        format!("color=s=192x128:r=25:d=2,format=gray,geq=lum='if({inside},{block},{moving})'");
    place.clip("in.mkv", &["-f", "lavfi", "-i", &graph, "-c:v", "ffv1"])
}

fn region(picture: &Picture, left: usize, top: usize, width: usize, height: usize) -> Vec<u8> {
    let row = |y: usize| {
        let start = y * picture.format.width_px + left;
        picture.planes[0][start..start + width].to_vec()
    };
    (top..top + height).flat_map(row).collect()
}

/// V23: the digits of a made frame are those of the nearest real one, whether the place was configured or found.
#[test]
fn digits_of_made_frames_are_those_of_the_nearest_real_one() {
    let place = Place::new();
    let source = clock(&place);
    let configured =
        Content { masks: vec!["64, 96, 64, 16".parse().unwrap()], ..Content::default() };
    let found = Content { overlays: Overlays::Detect, ..Content::default() };
    for (name, content) in [("configured", configured), ("found", found)] {
        let task = place.task(&source, "out.mkv", with(content));
        let report = run(&task).unwrap();
        let masks = &done(&report).masks;
        assert_eq!(done(&report).cuts, []);
        assert_eq!((masks.len(), masks[0].detected), (1, name == "found"), "{masks:?}");
        let (before, after) = (decoded(&source), decoded(&task.temporary));
        let digits = |frame: &Frame| region(&frame.picture, 64, 96, 64, 16);
        let (mut made, mut elsewhere) = (0, 0);
        for index in (0..after.len() - 4).filter(|it| it % 4 != 0) {
            let (first, part) = (index / 4, index % 4);
            let nearest = if part < 2 { first } else { first + 1 };
            assert!(digits(&after[index]) == digits(&before[nearest]), "{name}: frame {index}");
            made += usize::from(digits(&before[first]) != digits(&before[first + 1]));
            let rest = |frame: &Frame| region(&frame.picture, 0, 0, 192, 64);
            elsewhere += usize::from(rest(&after[index]) != rest(&before[nearest]));
        }
        assert!(made > 10, "there are changes of digits");
        assert!(elsewhere > 100, "the rest is made");
        // Where nothing is made up, nothing is scored.
        let holdout = report.quality.unwrap().holdout;
        let plain = run(&place.task(&source, "plain.mkv", slow(4))).unwrap();
        let plain = plain.quality.unwrap().holdout;
        assert!(holdout.samples == plain.samples && holdout.network != plain.network);
        assert_eq!(holdout.network, holdout.blend, "the trivial engine is the blend baseline");
    }
}

#[test]
fn overlays_of_a_picture_that_stands_still_are_not_guessed() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "smptebars=s=96x64:r=25:d=1", "-c:v", "ffv1"]);
    let content = Content { overlays: Overlays::Detect, ..Content::default() };
    let report = run(&place.task(&source, "out.mkv", with(content))).unwrap();
    assert_eq!(done(&report).masks, []);
    assert!(report.warnings.iter().any(|it| it.code == "overlays_undecided"));
}

#[test]
fn every_gap_has_a_score_and_nothing_is_made_below_the_limit() {
    let place = Place::new();
    // A picture that slides by 2 samples a frame, and by 60 from frame 13 to 14.
    let graph = "mandelbrot=s=640x192:r=1:end_pts=1,trim=end_frame=1,loop=24:1,fps=25,\
                 crop=192:192:x='2*n+if(gte(n,14),60,0)':y=0";
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let report = run(&place.task(&source, "all.mkv", slow(4))).unwrap();
    let confidence = &done(&report).confidence;
    let decoded_frames = report.source.frames.decoded;
    let scored =
        decoded_frames - 1 - report.source.frames.duplicates - done(&report).cuts.len() as u64;
    assert_eq!(confidence.gaps, scored);
    assert_eq!(confidence.curve.len() as u64, scored);
    assert!(confidence.mean.unwrap() > 0.8, "{confidence:?}");
    let low: Vec<_> = confidence.low_gaps.iter().map(|it| (it.frame, it.held)).collect();
    assert_eq!(low, [(13, false)], "{confidence:?}");

    let content = Content { hold_below: Some(0.4), ..Content::default() };
    let task = place.task(&source, "held.mkv", with(content));
    let held = run(&task).unwrap();
    let confidence = &done(&held).confidence;
    assert_eq!((confidence.held, confidence.low_gaps[0].held), (1, true));
    let says = |report: &Report| report.warnings.iter().any(|it| it.code == "unsure_not_measured");
    assert_eq!((says(&report), says(&held)), (false, true), "quality.holdout leaves it out too");
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    for (index, frame) in after.iter().enumerate().take(56).skip(53) {
        assert!(frame.picture == before[13].picture, "frame {index} is held");
    }
    let frames = |report: &Report| report.output.as_ref().unwrap().frames;
    assert_eq!(frames(&held).synthesised + 3, frames(&report).synthesised);
    assert_eq!(frames(&held).total, frames(&report).total);
}

/// What masks nothing, and what leaves nothing to measure, is said; so are cuts and stills behind the end.
#[test]
fn what_lies_outside_of_the_clip_is_said() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-c:v", "ffv1"]);
    let report = |output: &str, content: Content, stills: Vec<Still>| {
        let beside = Beside { stills, ..Beside::default() };
        run(&place.task(&source, output, Settings { beside, ..with(content) })).unwrap()
    };
    let codes = |report: &Report| -> Vec<String> {
        report.warnings.iter().map(|it| it.code.clone()).collect()
    };
    let masks = |text: &str| Content { masks: vec![text.parse().unwrap()], ..Content::default() };
    let found = report("outside.mkv", masks("1000, 1000, 10, 10"), Vec::new());
    assert_eq!(codes(&found), ["mask_outside"]);
    assert!(found.warnings[0].message.contains("1000, 1000, 10, 10"), "{:?}", found.warnings);
    let found = report("all.mkv", masks("0, 0, 100%, 100%"), Vec::new());
    assert_eq!(codes(&found), ["masks_not_measured"]);
    assert_eq!(found.quality.unwrap().holdout.samples, 0);
    let list = place.path("cuts.txt");
    std::fs::write(&list, "0.2\n0.4\n500\n").unwrap();
    let cuts = Content { cut_list: Some(list), ..Content::default() };
    assert_eq!(codes(&report("cuts.mkv", cuts, Vec::new())), ["cuts_outside"]);
    let stills = vec![Still::At(Ratio::new(1, 5)), Still::At(Ratio::from_integer(500))];
    assert_eq!(codes(&report("stills.mkv", Content::default(), stills)), ["stills_outside"]);
}

#[test]
fn a_mark_is_on_made_frames_alone() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-c:v", "ffv1"]);
    let content = Content { mark: Mark::Corner, ..Content::default() };
    let task = place.task(&source, "out.mkv", with(content));
    run(&task).unwrap();
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    for (index, frame) in after[..36].iter().enumerate() {
        match index % 4 {
            0 => assert!(frame.picture == before[index / 4].picture, "frame {index}"),
            _ => {
                let corner = region(&frame.picture, 0, 0, 8, 8);
                assert_eq!((corner[0], corner[3 * 8 + 3]), (16, 235), "frame {index}");
            }
        }
    }
}

/// V25: the network's pictures are neither lighter nor darker than the real ones beside them.
#[test]
fn brightness_goes_on_from_real_to_made_frames() {
    let settings = Settings { device: Device::Cpu, ..Settings::default() };
    let mut network = engine::open(&settings).unwrap();
    let place = Place::new();
    for (name, matrix, range) in [("601", "smpte170m", "tv"), ("709", "bt709", "pc")] {
        let graph = "gradients=seed=7:s=96x64:r=25:d=0.16:speed=0.05:c0=gray:c1=white:x0=5:y0=5";
        let scale = format!("scale=out_color_matrix={matrix}:out_range={range}");
        let graph = format!("{graph},{scale},format=yuv420p");
        let tags = ["-colorspace", matrix, "-color_range", range, "-c:v", "ffv1"];
        let clip = format!("{name}.mkv");
        let source = place.clip(&clip, &[&["-f", "lavfi", "-i", &graph][..], &tags].concat());
        let frames = decoded(&source);
        let mean = |picture: &Picture, plane: usize| {
            let plane = &picture.planes[plane];
            plane.iter().map(|it| f64::from(*it)).sum::<f64>() / plane.len() as f64
        };
        for pair in frames.windows(2) {
            for timestep in [0.25_f32, 0.5, 0.75] {
                let made = network.interpolate(&pair[0], &pair[1], &[timestep]).unwrap().remove(0);
                for plane in 0..3 {
                    let (a, b) = (mean(&pair[0].picture, plane), mean(&pair[1].picture, plane));
                    let between = a + (b - a) * f64::from(timestep);
                    let off = mean(&made, plane) - between;
                    assert!(off.abs() < 0.5, "{name}, plane {plane}, {timestep}: {off}");
                }
            }
        }
    }
}

/// Encoders as cameras and telephones have them, with the words for FFmpeg.
const LOSSY: [(&str, &str); 6] = [
    ("H.264", "-c:v libx264"),
    ("H.264, live", "-c:v libx264 -tune zerolatency -b:v 1M"),
    ("HEVC", "-c:v libx265 -crf 18 -x265-params log-level=none"),
    ("MPEG-4", "-c:v mpeg4 -q:v 5"),
    ("MPEG-2", "-c:v mpeg2video -b:v 6M"),
    // So few bits that repeats change as much as what moves: none may be found, but no other either.
    ("HEVC, of few bits", "-c:v libx265 -crf 28 -x265-params log-level=none"),
];

/// A clip of 30 frames a second, by a graph of FFmpeg's.
fn drawn(place: &Place, graph: &str, encoder: &str) -> Vec<Frame> {
    let words = ["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p"].into_iter();
    let words: Vec<_> = words.chain(encoder.split_whitespace()).collect();
    decoded(&place.clip("in.mkv", &words))
}

/// The frames that are judged to repeat the one before.
fn judged(frames: &[Frame]) -> Vec<usize> {
    let mut looker = Looker::new(&Settings::default(), &[], None);
    let looked = frames.iter().flat_map(|it| looker.look(it.clone(), Damage::default()));
    let mut all: Vec<_> = looked.collect();
    all.extend(looker.end());
    assert_eq!(all.len(), frames.len());
    assert!(all.iter().all(|it| !it.duplicate || it.confidence.is_none()));
    (0..all.len()).filter(|it| all[*it].duplicate).collect()
}

/// V09: what was 24 frames a second is 30, behind lossy encoders.
#[test]
fn repeated_pictures_are_found_behind_lossy_encoders() {
    let place = Place::new();
    for (graph, least) in [
        ("testsrc2=s=320x180:r=24:d=2,fps=30", [11, 11, 10, 9, 9, 0]),
        ("mandelbrot=s=320x180:r=24:end_scale=0.2,trim=duration=2,fps=30", [10, 9, 10, 8, 8, 0]),
    ] {
        let lossless = drawn(&place, graph, "-c:v ffv1");
        let truth = judged(&lossless);
        let same = |at: &usize| lossless[*at].picture == lossless[*at - 1].picture;
        assert!(truth.len() == 12 && truth.iter().all(same), "{truth:?}");
        for ((name, encoder), least) in LOSSY.into_iter().zip(least) {
            let found = judged(&drawn(&place, graph, encoder));
            println!("{graph}: {name}: {} of {}", found.len(), truth.len());
            assert!(found.iter().all(|it| truth.contains(it)), "{name}: {found:?} of {truth:?}");
            assert!(found.len() >= least, "{name}: {found:?} of {truth:?}");
        }
    }
}

/// V09: behind lossy encoders too.
#[test]
fn what_moves_a_little_is_no_repeated_picture() {
    let place = Place::new();
    let still = "mandelbrot=s=1536x864:r=1:end_pts=1:start_scale=0.4:end_scale=0.4,trim=end_frame=1,loop=60:1,fps=30";
    let animated = "testsrc2=s=96x96:r=15:d=2,fps=30";
    let cases = [
        // Of a picture of four times the size, so that a pixel is a quarter of one.
        (
            "a slow pan",
            format!("{still},crop=1280:720:x=n:y=60,scale=320:180:flags=area,trim=end_frame=40"),
        ),
        ("noise", format!("{still},scale=320:180,noise=alls=12:allf=t,trim=end_frame=40")),
        ("a fade", format!("{still},scale=320:180,fade=in:0:40,trim=end_frame=40")),
        (
            "a small object over a still picture",
            format!(
                "{still}[a];color=white:s=32x32:r=30[b];\
                 [a][b]overlay=x='100+2*n':y=600,scale=320:180:flags=area,trim=end_frame=40"
            ),
        ),
        (
            "a small object beside what moves in every second frame",
            format!(
                "{still},scale=320:180[a];{animated}[b];color=white:s=8x8:r=30[c];\
                 [a][b]overlay=x=200:y=20[d];[d][c]overlay=x='20+n':y=140,trim=end_frame=40"
            ),
        ),
    ];
    for (what, graph) in &cases {
        for (name, encoder) in LOSSY {
            let frames = drawn(&place, graph, encoder);
            let same = |at: &usize| is_same(&frames[*at - 1].picture, &frames[*at].picture);
            let found: Vec<_> = judged(&frames).into_iter().filter(|it| !same(it)).collect();
            assert!(found.is_empty(), "{what}, {name}: {found:?}");
        }
    }
}
