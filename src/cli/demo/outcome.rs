//! What the demo says at its end.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::demo::truth::TruthScores;
use crate::report::measured::Scores;
use crate::report::{Output, Report};

/// Everything that is told.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// As published.
    pub report: &'a Report,
    /// Where.
    pub report_path: &'a Path,
    /// Against the scene, where there is one.
    pub true_scores: Option<TruthScores>,
    /// The contact sheet, where there is one.
    pub sheet: Option<&'a Path>,
}

/// It, as text.
#[must_use]
pub fn text(outcome: &Outcome<'_>) -> String {
    let report = outcome.report;
    let mut text = String::from("\n");
    if let Some(output) = &report.output {
        write_output(&mut text, output);
    }
    let _ = writeln!(text, "Report   {}", outcome.report_path.display());
    let _ = match outcome.sheet {
        Some(sheet) => writeln!(text, "Sheet    {}", sheet.display()),
        None => writeln!(text, "Sheet    none: no frame was synthesised"),
    };
    if let (Some(model), Some(device)) = (&report.model, &report.device) {
        let (name, precision) = (&device.name, &device.precision);
        let _ = writeln!(
            text,
            "Network  {} on {name} ({precision}, {} threads)",
            model.name, device.threads
        );
    }
    write_speed(&mut text, report);
    write_scores(&mut text, report, outcome.true_scores);
    for warning in &report.warnings {
        let _ = writeln!(text, "Note     {}: {}", warning.code, warning.message);
    }
    text
}

fn write_output(text: &mut String, output: &Output) {
    let frames = output.frames;
    let _ = writeln!(text, "Video    {}", output.path);
    let _ = writeln!(
        text,
        "         {} frames at {} fps, {:.2} s, {:.1} MB: {} real, {} synthesised, {} held",
        frames.total,
        output.fps,
        output.duration_s,
        output.size_bytes as f64 / 1e6,
        frames.real,
        frames.synthesised,
        frames.held
    );
}

fn write_speed(text: &mut String, report: &Report) {
    let timing = &report.timing;
    let fps = |rate: Option<f64>| rate.map_or("-".to_owned(), |it| format!("{it:.1}"));
    let _ = writeln!(
        text,
        "Speed    {} frames a second end to end ({:.1} s); network {}, decoder {}, encoder {}",
        fps(timing.end_to_end_fps),
        timing.wall_s,
        fps(timing.network_fps),
        fps(timing.decode_fps),
        fps(timing.encode_fps)
    );
}

fn write_scores(text: &mut String, report: &Report, true_scores: Option<TruthScores>) {
    text.push('\n');
    let _ = writeln!(text, "{:46}{:>10}{:>10}{:>10}", "", "network", "repeat", "blend");
    if let Some(quality) = report.quality.as_ref().filter(|it| it.holdout.samples > 0) {
        let holdout = &quality.holdout;
        let ways = [&holdout.network, &holdout.repeat, &holdout.blend];
        let _ = writeln!(text, "Held-out frames ({}; twice the real motion)", holdout.samples);
        let mut row = |name: &str, value: fn(&Scores) -> Option<f64>, digits: usize| {
            write_row(text, name, ways.map(value), digits);
        };
        row("  PSNR, RGB, dB", |it| it.psnr_rgb_db, 2);
        row("  PSNR, luma, dB", |it| it.psnr_y_db, 2);
        row("  SSIM, luma", |it| it.ssim_y, 4);
        row("  SSIM as RIFE's benchmarks take it", |it| it.ssim_rife, 4);
    }
    if let Some(scores) = true_scores {
        let _ = writeln!(text, "Synthesised frames against the true ones ({})", scores.frames);
        let ways = [scores.network_db, scores.repeat_db, scores.blend_db];
        write_row(text, "  PSNR, RGB, dB", ways.map(Some), 2);
    }
}

fn write_row(text: &mut String, name: &str, values: [Option<f64>; 3], digits: usize) {
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
    let [network, repeat, blend] = values.map(cell);
    let _ = writeln!(text, "{name:46}{network:>10}{repeat:>10}{blend:>10}");
}
