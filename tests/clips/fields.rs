//! Interlaced clips: made whole, kept or refused, and said.

use num_rational::Ratio;
use slomod::config::beside::{Beside, Still};
use slomod::config::content::Content;
use slomod::config::settings::{Interlaced, Settings};
use slomod::frame::Frame;
use slomod::media::MediaError;
use slomod::pipeline::beside::folder;
use slomod::pipeline::{ConvertError, shown};

use crate::{Place, decoded, ffprobe, run, slow, warns};

/// A bar that moves fast, each field at its own moment: 25 frames of 50 fields a second.
const SOURCE: &str =
    "-f lavfi -i testsrc2=s=320x192:r=50:d=1 -vf tinterlace=mode=interleave_top,setfield=tff";

fn with(interlaced: Interlaced) -> Settings {
    Settings { interlaced, ..slow(2) }
}

/// Mean difference of each line from the mean of its neighbors, over that of every second line: what combs are made of.
fn combing(frame: &Frame) -> f64 {
    let format = frame.picture.format;
    let luma = &frame.picture.planes[0];
    let at = |x: usize, y: usize| f64::from(luma[y * format.width_px + x]);
    let (mut near, mut far) = (0.0, 0.0);
    for y in 2..format.height_px - 2 {
        for x in 0..format.width_px {
            near += (at(x, y) - at(x, y + 1)).abs();
            far += (at(x, y) - at(x, y + 2)).abs();
        }
    }
    near / far
}

/// V16.
#[test]
fn interlaced_clips_are_made_whole_and_it_is_said() {
    let Some(place) = Place::new() else { return };
    for options in [
        "-c:v libx264 -crf 8 -flags +ilme+ildct -x264opts tff=1 in.mp4",
        "-c:v mpeg2video -q:v 2 -flags +ilme+ildct in.ts",
        "-c:v ffv1 -field_order tt in.mkv",
    ] {
        let source = place.ffmpeg(&format!("{SOURCE} {options}"));
        let combed = combing(&decoded(&source)[12]);
        let (kept, report) = place.convert(&source, "kept.mkv", with(Interlaced::Keep));
        assert!(warns(&report, "interlaced"), "{options}: {:?}", report.warnings);
        assert!((combing(&decoded(&kept)[24]) - combed).abs() < 0.01, "{options}");

        let (whole, report) = place.convert(&source, "whole.mkv", with(Interlaced::Deinterlace));
        assert!(warns(&report, "deinterlaced"), "{options}: {:?}", report.warnings);
        let frames = report.output.as_ref().unwrap().frames;
        assert_eq!((frames.total, report.source.frames.decoded), (50, 25), "{options}");
        let after = decoded(&whole);
        let smooth = combing(&after[24]);
        assert!(smooth < 0.8 * combed, "{options}: {smooth} against {combed}");
        let field_order = ffprobe(&whole)["streams"][0]["field_order"].clone();
        assert!(field_order.is_null() || field_order == "progressive", "{options}: {field_order}");

        let (fields, report) = place.convert(&source, "fields.mkv", with(Interlaced::Fields));
        let frames = report.output.as_ref().unwrap().frames;
        assert_eq!(report.source.frames.decoded, 50, "{options}: each field is a picture");
        assert_eq!(frames.total, 100, "{options}");
        assert_eq!(report.source.fps.as_deref(), Some("50"), "{options}");
        let after = decoded(&fields);
        for (number, frame) in after.iter().enumerate() {
            assert_eq!(frame.pts, Ratio::new(number as i128, 50), "{options}");
        }
        assert!(combing(&after[48]) < 0.8 * combed, "{options}");
        assert!(after[48].picture != after[50].picture, "{options}: each field has its moment");
    }
}

/// V16.
#[test]
fn interlaced_clips_are_refused_where_asked() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(&format!("{SOURCE} -c:v mpeg2video -flags +ilme+ildct in.mpg"));
    let task = place.task(&source, "out.mkv", with(Interlaced::Refuse));
    let error = run(&task).unwrap_err();
    let refused =
        matches!(&error, ConvertError::Media(MediaError::Unusable { code: "interlaced", .. }));
    assert!(refused && error.to_string().contains("deinterlace"), "{error}");
    assert!(!task.temporary.exists());
}

/// V16: what the first frame is does not decide of those behind it.
#[test]
fn clips_that_turn_interlaced_are_made_whole_from_there_or_refused() {
    let Some(place) = Place::new() else { return };
    let size = "-c:v mpeg2video -q:v 2 -g 1";
    let plain = place.ffmpeg(&format!("-f lavfi -i testsrc2=s=320x192:r=25:d=0.4 {size} a.ts"));
    let combed = place.ffmpeg(&format!("{SOURCE} {size} -flags +ilme+ildct b.ts"));
    let both = place.path("joined.ts");
    place.ffmpeg(&format!("-i concat:{}|{} -c copy joined.ts", plain.display(), combed.display()));
    let before = decoded(&both);
    let total = before.len();
    assert!(total >= 34, "{total}");

    let task = place.task(&both, "refused.mkv", with(Interlaced::Refuse));
    let error = run(&task).unwrap_err().to_string();
    assert!(error.contains("from frame 10 on") && error.contains("deinterlace"), "{error}");
    assert!(!task.temporary.exists());

    let (kept, report) = place.convert(&both, "kept.mkv", with(Interlaced::Keep));
    assert!(warns(&report, "interlaced"), "{:?}", report.warnings);
    let comb = combing(&decoded(&kept)[2 * 22]);

    let content = Content { masks: vec!["0, 0, 64, 32".parse().unwrap()], ..Content::default() };
    let stills = vec![Still::At(Ratio::new(4, 5))];
    let beside = Beside { stills, ..Beside::default() };
    let settings = Settings { content, beside, ..with(Interlaced::Deinterlace) };
    let task = place.task(&both, "whole.mkv", settings);
    let (report, whole) = (run(&task).unwrap(), task.temporary.clone());
    assert!(warns(&report, "deinterlaced"), "{:?}", report.warnings);
    assert!(report.warnings.iter().any(|it| it.message.contains("from frame 10 on")));
    let after = decoded(&whole);
    assert_eq!((report.source.frames.decoded, after.len()), (total as u64, 2 * total));
    for number in 0..10 {
        assert!(before[number].picture == after[2 * number].picture, "{number} is progressive");
    }
    assert!(combing(&after[2 * 22]) < 0.8 * comb, "{} of {comb}", combing(&after[2 * 22]));
    // Overlays and stills show the pictures that count as real, on both sides of the turn.
    for number in [4, 22] {
        let part = |frame: &Frame| -> Vec<u8> {
            let row = |y: usize| frame.picture.planes[0][320 * y..][..64].to_vec();
            (0..32).flat_map(row).collect()
        };
        let [made, behind] = [&after[2 * number + 1], &after[2 * number + 2]];
        assert!(part(made) == part(behind) && made.picture != behind.picture, "{number}");
    }
    let sidecars = &report.output.as_ref().unwrap().sidecars;
    assert_eq!(sidecars.iter().filter(|it| it.kind == "still").count(), 6);
    for number in 18..23 {
        let still = folder(&task.temporary).join(format!("frame-{number:06}.png"));
        let still = image::open(&still).unwrap();
        assert!(still == shown::frame(&after[2 * number]), "{number}");
    }

    let (_, report) = place.convert(&both, "fields.mkv", with(Interlaced::Fields));
    assert_eq!(report.source.frames.decoded, 10 + 2 * (total as u64 - 10));
    assert_eq!(
        report.source.variable_rate,
        Some(true),
        "fields are nearer to each other than frames"
    );
}

/// V16.
#[test]
fn progressive_clips_are_not_touched() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg("-f lavfi -i testsrc2=s=160x96:r=25:d=0.4 -c:v libx264 in.mp4");
    let (output, report) = place.convert(&source, "out.mkv", with(Interlaced::Deinterlace));
    assert!(!warns(&report, "deinterlaced") && !warns(&report, "interlaced"));
    let (before, after) = (decoded(&source), decoded(&output));
    assert!(before.iter().zip(after.iter().step_by(2)).all(|(a, b)| a.picture == b.picture));
}
