//! What numbered pictures do not hold of a clip, and say nothing of.

use crate::report::{Color, Notice, Report, Stream};

/// Transfer characteristics and primaries of pictures that look wrong where they are taken for sRGB.
const WIDE: [&str; 5] = ["smpte2084", "arib-std-b67", "bt2020", "smpte431", "smpte432"];

/// Says in the report of a clip what the pictures written from it lack; their pixels are of that shape (width to height).
pub(super) fn tell(report: &mut Report, pixel_shape: (i32, i32)) {
    // That is of the clip they were written from.
    report.warnings.retain(|it| it.code != "range_untagged");
    let even = report.interpolation.as_ref().is_some_and(|it| it.factor.is_none());
    let times = of_times(report.source.variable_rate == Some(true) && !even);
    let color = report.source.color.as_ref().and_then(of_color);
    let streams = report.output.as_mut().map(|it| &mut it.streams[..]);
    let sound = of_sound(streams.unwrap_or_default());
    report.warnings.extend([times, sound, of_pixels(pixel_shape), color].into_iter().flatten());
}

fn of_times(uneven: bool) -> Option<Notice> {
    let message = "the frames of the source are not evenly spaced, and pictures have no times: shown at one rate their motion is \
                   uneven; name a rate with --fps to have them evenly spaced";
    uneven.then(|| Notice { code: "times_lost".into(), message: message.into() })
}

/// Says of each sound why it is missing.
fn of_sound(streams: &mut [Stream]) -> Option<Notice> {
    let mut count = 0;
    for stream in streams.iter_mut().filter(|it| it.kind == "audio" && it.action == "dropped") {
        stream.reason = Some("pictures have no sound".into());
        count += 1;
    }
    let message =
        format!("pictures have no sound: {count} stream(s) of it are in the source alone");
    (count > 0).then(|| Notice { code: "stream_dropped".into(), message })
}

/// That pictures are to be shown wider or narrower than they are. PNG has a field that could say so, which FFmpeg reads and
/// writes the other way round than the standard says.
fn of_pixels((width, height): (i32, i32)) -> Option<Notice> {
    let message = format!(
        "pixels are {width}:{height} (width to height), which the pictures do not say: set it where they are opened"
    );
    (width != height).then(|| Notice { code: "pixels_not_square".into(), message })
}

/// That values are of another color space than the one pictures without a word are taken for.
fn of_color(color: &Color) -> Option<Notice> {
    let Color { primaries, transfer, .. } = color;
    let wide = [primaries, transfer].iter().any(|it| WIDE.contains(&it.as_str()));
    let message = format!(
        "values are those of the source (primaries {primaries}, transfer {transfer}), which the pictures do not say: set it where \
         they are opened"
    );
    wide.then(|| Notice { code: "color_untagged".into(), message })
}
