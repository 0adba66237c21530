//! What the demo says at its end.

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

/// Prints it.
pub fn print(outcome: &Outcome<'_>) {
    let report = outcome.report;
    println!();
    if let Some(output) = &report.output {
        print_output(output);
    }
    println!("Report   {}", outcome.report_path.display());
    match outcome.sheet {
        Some(sheet) => println!("Sheet    {}", sheet.display()),
        None => println!("Sheet    none: no frame was synthesised"),
    }
    if let (Some(model), Some(device)) = (&report.model, &report.device) {
        let (name, precision) = (&device.name, &device.precision);
        println!("Network  {} on {name} ({precision}, {} threads)", model.name, device.threads);
    }
    print_speed(report);
    print_scores(report, outcome.true_scores);
    for warning in &report.warnings {
        println!("Note     {}: {}", warning.code, warning.message);
    }
}

fn print_output(output: &Output) {
    let frames = output.frames;
    println!("Video    {}", output.path);
    println!(
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

fn print_speed(report: &Report) {
    let timing = &report.timing;
    let fps = |rate: Option<f64>| rate.map_or("-".to_owned(), |it| format!("{it:.1}"));
    println!(
        "Speed    {} frames a second end to end ({:.1} s); network {}, decoder {}, encoder {}",
        fps(timing.end_to_end_fps),
        timing.wall_s,
        fps(timing.network_fps),
        fps(timing.decode_fps),
        fps(timing.encode_fps)
    );
}

fn print_scores(report: &Report, true_scores: Option<TruthScores>) {
    println!();
    println!("{:46}{:>10}{:>10}{:>10}", "", "network", "repeat", "blend");
    if let Some(quality) = report.quality.as_ref().filter(|it| it.holdout.samples > 0) {
        let holdout = &quality.holdout;
        let ways = [&holdout.network, &holdout.repeat, &holdout.blend];
        let row = |name: &str, value: fn(&Scores) -> Option<f64>, digits: usize| {
            print_row(name, ways.map(value), digits);
        };
        println!("Held-out frames ({}; twice the real motion)", holdout.samples);
        row("  PSNR, RGB, dB", |it| it.psnr_rgb_db, 2);
        row("  PSNR, luma, dB", |it| it.psnr_y_db, 2);
        row("  SSIM, luma", |it| it.ssim_y, 4);
        row("  SSIM as RIFE's benchmarks take it", |it| it.ssim_rife, 4);
    }
    if let Some(scores) = true_scores {
        println!("Synthesised frames against the true ones ({})", scores.frames);
        let ways = [scores.network_db, scores.repeat_db, scores.blend_db];
        print_row("  PSNR, RGB, dB", ways.map(Some), 2);
    }
}

fn print_row(name: &str, values: [Option<f64>; 3], digits: usize) {
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
    let [network, repeat, blend] = values.map(cell);
    println!("{name:46}{network:>10}{repeat:>10}{blend:>10}");
}
