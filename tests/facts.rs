//! What a report says of a conversion is so: the factor, what was measured, what is known of one that ended early.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;

use std::path::PathBuf;

use num_rational::Ratio;
use slomod::config::settings::{Mode, Settings};

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
