//! The curves of the page as SVG: PSNR and SSIM of held-out frames above, confidence of gaps below, cuts, changes and
//! what cannot be decoded in both.

use std::fmt::Write as _;

use crate::report::Report;

/// Size of the drawing, in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 340.0;
/// Left and right of the curves, where numbers are.
const MARGIN: f64 = 44.0;
/// Top and bottom of the upper and the lower part.
const UPPER: (f64, f64) = (14.0, 194.0);
const LOWER: (f64, f64) = (220.0, 312.0);
/// Marks of cuts and low gaps at the most.
const MOST_MARKS: usize = 500;

/// The drawing; `None` where there is nothing to draw.
#[must_use]
pub fn svg(report: &Report) -> Option<String> {
    let interpolation = report.interpolation.as_ref()?;
    let curve = &interpolation.confidence.curve;
    let frames = report.quality.as_ref().map_or(&[][..], |it| &it.holdout.frames);
    if curve.is_empty() && frames.is_empty() {
        return None;
    }
    let start = curve.iter().map(|it| it.pts_s).chain(frames.iter().map(|it| it.pts_s));
    let start = start.fold(f64::INFINITY, f64::min);
    let end = start + report.source.duration_s.filter(|it| *it > 0.0).unwrap_or(1.0);
    let x = |pts_s: f64| {
        MARGIN + (WIDTH - 2.0 * MARGIN) * ((pts_s - start) / (end - start)).clamp(0.0, 1.0)
    };
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"PSNR, SSIM\">");
    for change in &interpolation.changes {
        let rate = report.source.frames.decoded as f64 / (end - start);
        let width = (x(change.pts_s + change.frames as f64 / rate) - x(change.pts_s)).max(2.0);
        let (left, height) = (x(change.pts_s), LOWER.1 - UPPER.0);
        let _ = write!(
            svg,
            "<rect class=\"area-change\" x=\"{left:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{height}\"/>",
            UPPER.0
        );
    }
    let barriers = interpolation.barriers.iter().map(|it| (it.pts_from_s, it.pts_to_s));
    let unrecorded = report.source.frames.gaps.iter().map(|it| (it.pts_from_s, it.pts_to_s));
    for (from, to) in barriers.take(MOST_MARKS).chain(unrecorded.take(MOST_MARKS)) {
        let left = x(from);
        let width = (x(to) - left).max(2.0);
        let height = LOWER.1 - UPPER.0;
        let _ = write!(
            svg,
            "<rect class=\"area-barrier\" x=\"{left:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{height}\"/>",
            UPPER.0
        );
    }
    svg += &quality(report, &x);
    svg += &confidence(report, &x);
    for cut in interpolation.cuts.iter().take(MOST_MARKS) {
        svg += &vertical("mark-cut", x(cut.pts_s), (UPPER.0, LOWER.1));
    }
    svg += &times(start, end, &x);
    svg += "</svg>";
    Some(svg)
}

fn quality(report: &Report, x: &impl Fn(f64) -> f64) -> String {
    let frames = report.quality.as_ref().map_or(&[][..], |it| &it.holdout.frames);
    let psnr: Vec<_> = frames.iter().filter_map(|it| Some((it.pts_s, it.psnr_rgb_db?))).collect();
    let ssim: Vec<_> = frames.iter().map(|it| (it.pts_s, it.ssim_y)).collect();
    let mut svg = String::new();
    let values = || psnr.iter().map(|it| it.1);
    let low = (values().fold(f64::INFINITY, f64::min) / 5.0).floor() * 5.0;
    let high = (values().fold(f64::NEG_INFINITY, f64::max) / 5.0).ceil() * 5.0;
    let (low, high) = if psnr.is_empty() { (20.0, 40.0) } else { (low, high.max(low + 5.0)) };
    let least = ssim.iter().map(|it| it.1).fold(1.0, f64::min);
    let floor = if least < 0.5 { 0.0 } else { 0.5 };
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let y = between(UPPER, part);
        svg += &horizontal("grid", y);
        svg += &text(MARGIN - 6.0, y + 4.0, "end", &short(low + (high - low) * part));
        let value = floor + (1.0 - floor) * part;
        svg += &text(WIDTH - MARGIN + 6.0, y + 4.0, "start", &format!("{value:.2}"));
    }
    let place = |value: f64, low: f64, high: f64| between(UPPER, (value - low) / (high - low));
    let points: Vec<_> = psnr.iter().map(|it| (x(it.0), place(it.1, low, high))).collect();
    svg += &line("psnr", &points);
    let points: Vec<_> = ssim.iter().map(|it| (x(it.0), place(it.1, floor, 1.0))).collect();
    svg + &line("ssim", &points)
}

fn confidence(report: &Report, x: &impl Fn(f64) -> f64) -> String {
    let Some(interpolation) = &report.interpolation else { return String::new() };
    let confidence = &interpolation.confidence;
    let mut svg = String::new();
    for part in [0.0, 0.5, 1.0] {
        let y = between(LOWER, part);
        svg += &horizontal("grid", y);
        svg += &text(MARGIN - 6.0, y + 4.0, "end", &format!("{part:.1}"));
    }
    let points: Vec<_> =
        confidence.curve.iter().map(|it| (x(it.pts_s), between(LOWER, it.score))).collect();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let _ = write!(
            svg,
            "<path class=\"area-sure\" d=\"M{:.1} {:.1}{} L{:.1} {:.1}Z\"/>",
            first.0,
            LOWER.1,
            points.iter().map(|it| format!(" L{:.1} {:.1}", it.0, it.1)).collect::<String>(),
            last.0,
            LOWER.1
        );
    }
    svg += &line("sure", &points);
    svg += &horizontal("limit", between(LOWER, confidence.low_below));
    for gap in confidence.low_gaps.iter().take(MOST_MARKS) {
        svg += &vertical("mark-low", x(gap.pts_from_s), (LOWER.1, LOWER.1 + 7.0));
    }
    svg
}

fn times(start: f64, end: f64, x: &impl Fn(f64) -> f64) -> String {
    (0..=5)
        .map(|step| {
            let time = (end - start) * f64::from(step) / 5.0;
            let anchor = ["start", "middle", "end"][(step > 0) as usize + (step == 5) as usize];
            text(x(start + time), HEIGHT - 6.0, anchor, &format!("{time:.1} s"))
        })
        .collect()
}

/// With a decimal where it has one.
fn short(value: f64) -> String {
    format!("{value:.1}").trim_end_matches(".0").to_owned()
}

/// A part of 0 is at the bottom.
fn between((top, bottom): (f64, f64), part: f64) -> f64 {
    bottom - (bottom - top) * part.clamp(0.0, 1.0)
}

fn line(name: &str, points: &[(f64, f64)]) -> String {
    let text: Vec<_> = points.iter().map(|it| format!("{:.1},{:.1}", it.0, it.1)).collect();
    let mut svg = format!("<polyline class=\"line-{name}\" points=\"{}\"/>", text.join(" "));
    if points.len() <= 60 && name != "sure" {
        for (x, y) in points {
            let _ =
                write!(svg, "<circle class=\"dot-{name}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>");
        }
    }
    svg
}

fn horizontal(class: &str, y: f64) -> String {
    let end = WIDTH - MARGIN;
    format!("<line class=\"{class}\" x1=\"{MARGIN}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")
}

fn vertical(class: &str, x: f64, (top, bottom): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>")
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}
