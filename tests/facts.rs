//! What a report says of a conversion is so: the factor, what was measured, what is known of one that ended early.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;

use std::path::PathBuf;

use num_rational::Ratio;
use slomod::config::settings::{Encoding, Mode, Settings};
use slomod::pipeline::page::page;

use clips::{Place, run, slow};

/// A lossless clip of `frames` frames, 25 a second, in which all moves.
fn moving(place: &Place, frames: u32) -> PathBuf {
    let graph = format!("testsrc2=s=96x64:r=25,trim=end_frame={frames}");
    let args = ["-f", "lavfi", "-i", &graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"];
    place.clip(&format!("in{frames}.mkv"), &args)
}

#[test]
fn the_factor_is_what_was_made_of_each_frame_where_that_is_uniform() {
    let place = Place::new();
    let source = moving(&place, 4);
    let none = (None, None, None);
    for (mode, (factor, fps, speed), expected) in [
        (Mode::Slow, none, Some(4)),
        (Mode::Smooth, none, Some(2)),
        (Mode::Slow, (None, None, Some(Ratio::new(1, 2))), Some(2)),
        (Mode::Slow, (None, None, Some(Ratio::new(3, 10))), None),
        // Sixteen new frames for each old one.
        (Mode::Slow, (Some(8), Some(Ratio::from_integer(50)), None), None),
        (Mode::Smooth, (None, Some(Ratio::from_integer(60)), None), None),
        (Mode::Smooth, (Some(3), None, None), Some(3)),
    ] {
        let settings = Settings { mode, factor, fps, speed, ..slow(2) };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        let said = (report.interpolation.unwrap().factor, report.settings.factor);
        assert_eq!(said, (expected, factor), "{mode:?} {factor:?} {fps:?} {speed:?}");
    }
}

/// Where no frame can be held out, what the encoder does is measured even so.
#[test]
fn the_encoder_is_measured_where_nothing_is_held_out() {
    let place = Place::new();
    let still = place.clip("still.mkv", &["-f", "lavfi", "-i", "color=s=96x64:r=25:d=0.2"]);
    for source in [moving(&place, 2), still] {
        let settings =
            Settings { encoding: Encoding::default(), quality_samples: 200, ..slow(2) };
        let report = run(&place.task(&source, "out.mkv", settings)).unwrap();
        let page = page(&report, None).unwrap();
        let quality = report.quality.unwrap();
        assert_eq!((quality.holdout.samples, quality.holdout.candidates), (0, 0));
        assert_eq!((quality.holdout.network.ssim_y, quality.holdout.worst_pts_s), (None, None));
        assert!(quality.encode.unwrap().frames > 0);
        assert!(page.contains("the encoder alone") && !page.contains("blending both neighbors"));
    }
    let settings = Settings { quality_samples: 0, ..slow(2) };
    let unasked = run(&place.task(&moving(&place, 3), "out.mkv", settings)).unwrap();
    assert_eq!(unasked.quality, None);
}
