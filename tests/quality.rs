//! The measures against their definitions and against other programs' figures.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::process::Command;

use slomod::engine::blend::blend;
use slomod::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range, Seconds};
use slomod::quality::holdout::{Holdout, Triplet, pool};
use slomod::quality::psnr::SquaredError;
use slomod::quality::ssim::{ssim_rife, ssim_y};
use slomod::quality::{FrameScores, Samples, compare};

/// The figures were computed in f64, the product computes in f32.
const SSIM_TOLERANCE: f64 = 1e-4;
/// Formula against formula, both in f64.
const PSNR_TOLERANCE_DB: f64 = 1e-6;
/// FFmpeg prints two decimals.
const FFMPEG_TOLERANCE_DB: f64 = 0.01;

/// `a` and `b` of [h, w, c]: with x, y, k the column, row and channel,
/// `a = (3xx + 5yy + 7xy + 41k + 90 ((x/8 + y/6) % 2)) / 3 % 256`,
/// `b = clamp(a * 7 / 8 + ((37x + 91y + 53k)(x + 3y + 7) % 29) - 14 + 12)`, all in whole numbers.
fn textured(w: usize, h: usize, c: usize) -> (Vec<u8>, Vec<u8>) {
    let mut pair = (Vec::new(), Vec::new());
    for (y, x, k) in (0..h).flat_map(|y| (0..w).flat_map(move |x| (0..c).map(move |k| (y, x, k)))) {
        let a = (3 * x * x + 5 * y * y + 7 * x * y + 41 * k + 90 * ((x / 8 + y / 6) % 2)) / 3 % 256;
        let noise = (37 * x + 91 * y + 53 * k) * (x + 3 * y + 7) % 29;
        let b = (a * 7 / 8 + noise).saturating_sub(2).min(255);
        pair.0.push(a as u8);
        pair.1.push(b as u8);
    }
    pair
}

fn rgb_picture(rgb: &[u8], width_px: usize, height_px: usize) -> Picture {
    let plane = |channel: usize| rgb.iter().skip(channel).step_by(3).copied().collect();
    let format = PictureFormat {
        width_px,
        height_px,
        chroma: Chroma::Gbr,
        matrix: Matrix::Bt709,
        range: Range::Full,
        depth: Depth::Eight,
    };
    Picture { format, planes: vec![plane(1), plane(2), plane(0)] }
}

/// Q01.
#[test]
fn identical_pictures_have_no_psnr_and_an_ssim_of_one() {
    for (w, h) in [(64, 48), (11, 11), (5, 3), (1, 1)] {
        let samples = Samples::of_rgb8(textured(w, h, 3).0, w, h);
        let scores = compare(&samples, &samples);
        assert_eq!((scores.rgb.psnr_db(), scores.luma.psnr_db()), (None, None));
        assert!((scores.ssim_y - 1.0).abs() < 1e-6, "{w}x{h}: {}", scores.ssim_y);
        assert!((scores.ssim_rife - 1.0).abs() < 1e-6, "{w}x{h}: {}", scores.ssim_rife);
    }
}

/// Q02.
#[test]
fn a_constant_offset_has_the_psnr_of_the_formula() {
    for offset in [1_u8, 3, 17, 100] {
        let a: Vec<u8> = (0..1013).map(|i| (i * 7 % 150) as u8).collect();
        let b: Vec<u8> = a.iter().map(|v| v + offset).collect();
        let expected = 20.0 * (255.0 / f64::from(offset)).log10();
        let measured = SquaredError::between(&a, &b).psnr_db().unwrap();
        assert!((measured - expected).abs() < PSNR_TOLERANCE_DB, "{measured} for {expected}");
    }
}

#[test]
fn luma_of_rgb_is_bt601_full() {
    let rgb = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 10, 20, 30];
    assert_eq!(slomod::quality::luma_of_rgb(&rgb), [76, 150, 29, 255, 18]);
}

/// Q04.
/// `structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)` of
/// scikit-image 0.26 (it crops 5 pixels itself); at 7x9, under its limit, the same formula with a 7x7 window in
/// PyTorch's f64.
#[test]
fn ssim_y_agrees_with_scikit_image() {
    for (w, h, expected) in
        [(64, 48, 0.982_810_6), (41, 23, 0.983_541_5), (11, 11, 0.976_682_7), (7, 9, 0.970_325_9)]
    {
        let (a, b) = textured(w, h, 1);
        let measured = ssim_y(&a, &b, w, h);
        assert!((measured - expected).abs() < SSIM_TOLERANCE, "{w}x{h}: {measured}");
    }
}

/// Q05.
/// In PyTorch's f64: `conv3d(pad(v, (5,) * 6, 'replicate'), window)` of v = a, b, aa, bb, ab over [c, h, w] / 255 with the
/// window `g x g x g`, `g = exp(-(i - n // 2)^2 / 4.5)` normalised, n = 11 (at 7x9: 7), C1 = 1e-4, C2 = 9e-4.
#[test]
fn ssim_rife_agrees_with_the_definition_in_pytorch() {
    for (w, h, expected) in
        [(64, 48, 0.982_302_8), (41, 23, 0.980_928_8), (11, 11, 0.964_561_4), (7, 9, 0.909_479_1)]
    {
        let (a, b) = textured(w, h, 3);
        let measured = ssim_rife(&a, &b, w, h);
        assert!((measured - expected).abs() < SSIM_TOLERANCE, "{w}x{h}: {measured}");
    }
}

#[test]
fn ssim_of_bright_flat_pictures_keeps_its_digits() {
    // Flat and bright is where f32 variances cancel worst: (2ab + C1) / (a² + b² + C1) is all that is left.
    let (a, b) = (vec![250; 3 * 40 * 30], vec![240; 3 * 40 * 30]);
    let expected =
        (2.0 * 250.0 * 240.0 + 6.5025) / (250.0_f64.powi(2) + 240.0_f64.powi(2) + 6.5025);
    let measured = ssim_rife(&a, &b, 40, 30);
    assert!((measured - expected).abs() < SSIM_TOLERANCE, "{measured} for {expected}");
}

/// Q03.
#[test]
fn psnr_agrees_with_ffmpeg_on_every_plane() {
    let folder = tempfile::tempdir().unwrap();
    let (w, h) = (62, 46);
    let a = textured(w, h, 3);
    for (name, samples) in [("a.rgb", &a.0), ("b.rgb", &a.1)] {
        std::fs::write(folder.path().join(name), samples).unwrap();
    }
    let size = format!("{w}x{h}");
    let mut command = Command::new("ffmpeg");
    command.current_dir(folder.path()).args(["-hide_banner", "-nostdin"]);
    for name in ["a.rgb", "b.rgb"] {
        command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-i", name]);
    }
    let Ok(output) =
        command.args(["-lavfi", "psnr=stats_file=stats.txt", "-f", "null", "-"]).output()
    else {
        skip("no ffmpeg command on this machine");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stats = std::fs::read_to_string(folder.path().join("stats.txt")).unwrap();
    let value = |name: &str| -> f64 {
        let field = stats.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
        field.parse().unwrap()
    };
    for (channel, name) in ["psnr_r:", "psnr_g:", "psnr_b:"].iter().enumerate() {
        let pick = |samples: &[u8]| -> Vec<u8> {
            samples.iter().skip(channel).step_by(3).copied().collect()
        };
        let measured = SquaredError::between(&pick(&a.0), &pick(&a.1)).psnr_db().unwrap();
        assert!((measured - value(name)).abs() < FFMPEG_TOLERANCE_DB, "{name} {measured}");
    }
    let all = SquaredError::between(&a.0, &a.1).psnr_db().unwrap();
    assert!((all - value("psnr_avg:")).abs() < FFMPEG_TOLERANCE_DB, "{all}");
}

#[test]
fn holdout_takes_exactly_as_many_as_asked_evenly_spread() {
    for (frames, max) in [(90, 20), (1000, 200), (12, 200), (3, 5), (17, 7)] {
        let holdout = Holdout::new(max, Some(frames));
        let wanted: Vec<u64> = (1..frames - 1).filter(|&i| holdout.wants(i)).collect();
        let expected = u64::from(max).min(frames - 2);
        assert_eq!(wanted.len() as u64, expected, "{max} of {frames}");
        let gaps = wanted.windows(2).map(|pair| pair[1] - pair[0]);
        let (min, max) = gaps.fold((u64::MAX, 0), |(a, b), gap| (a.min(gap), b.max(gap)));
        assert!(wanted.len() < 2 || max - min <= 1, "{wanted:?}");
    }
    assert!((0..100).all(|i| !Holdout::new(0, Some(100)).wants(i)));
    assert!((0..100).all(|i| !Holdout::new(0, None).wants(i)));
}

/// A ramp that slides by `2 * index` columns.
fn sliding(index: u64) -> Picture {
    let (w, h) = (32, 16);
    let sample = |i: usize| ((i / 3 % w + 2 * index as usize) * 5 % 251) as u8;
    rgb_picture(&(0..3 * w * h).map(sample).collect::<Vec<u8>>(), w, h)
}

fn run_holdout(mut holdout: Holdout, frames: u64) -> Holdout {
    for index in 1..frames - 1 {
        holdout.count_candidate();
        if holdout.wants(index) {
            let [before, truth, after] = [index - 1, index, index + 1].map(sliding);
            // As if the network were exact on all but one frame.
            let network = if index == 9 { sliding(8) } else { truth.clone() };
            holdout.add(&Triplet {
                middle_index: index,
                pts: Seconds::new(i128::from(index), 30),
                truth: &truth,
                network: &network,
                repeat: &before,
                blend: &blend(&before, &after, 0.5),
            });
        }
    }
    holdout
}

#[test]
fn without_a_frame_count_samples_stay_bounded_and_spread() {
    let scores = run_holdout(Holdout::new(8, None), 100).finish().unwrap();
    assert!((5..=8).contains(&scores.samples), "{}", scores.samples);
    assert_eq!(scores.candidates, 98);
}

#[test]
fn exact_frames_have_no_psnr_and_the_worst_is_named() {
    let scores = run_holdout(Holdout::new(200, Some(20)), 20).finish().unwrap();
    assert_eq!((scores.samples, scores.network.exact), (18, 17));
    assert!(!scores.network.identical);
    assert_eq!(scores.worst_pts, Some(Seconds::new(9, 30)));
    assert_eq!(scores.network.psnr_rgb_db, scores.network.psnr_rgb_min_db);
    // One of 18 frames is wrong: its squared error, spread over all.
    let gain = scores.network.psnr_rgb_pooled_db.unwrap() - scores.network.psnr_rgb_db.unwrap();
    assert!((gain - 10.0 * 18.0_f64.log10()).abs() < PSNR_TOLERANCE_DB, "{gain}");
    assert!(scores.repeat.exact == 0 && scores.repeat.psnr_rgb_db.unwrap() < 40.0);
    assert!(scores.network.ssim_y > scores.repeat.ssim_y);
}

/// Each statistic is that of a list which is written down here.
#[test]
fn statistics_are_those_of_the_frames() {
    let frame = |luma: u64, rgb: u64, ssim_y: f64, ssim_rife: f64| FrameScores {
        rgb: SquaredError { sum: rgb, samples: 100 },
        luma: SquaredError { sum: luma, samples: 100 },
        ssim_y,
        ssim_rife,
        vmaf: None,
    };
    // Mean squared errors of 100, 10 and 1, and one frame whose luma is exact.
    let frames = [
        frame(10_000, 1_000, 0.5, 0.4),
        frame(1_000, 10_000, 0.7, 0.8),
        frame(100, 100, 0.9, 0.6),
        frame(0, 100, 1.0, 0.9),
    ];
    let db = |error: f64| 10.0 * (255.0_f64 * 255.0 / error).log10();
    let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-9;
    let pooled = pool(frames.into_iter());
    assert!(near(pooled.psnr_y_db, db(10.0)), "{pooled:?}");
    assert!(near(pooled.psnr_y_median_db, db(10.0)), "{pooled:?}");
    assert!(near(pooled.psnr_y_min_db, db(100.0)), "{pooled:?}");
    assert!(near(pooled.psnr_y_p5_db, db(100.0) + 0.1 * 10.0), "{pooled:?}");
    assert!(near(pooled.psnr_y_pooled_db, db(111.0 / 4.0)), "the exact one counts too: {pooled:?}");
    assert!(near(pooled.psnr_rgb_pooled_db, db(112.0 / 4.0)), "{pooled:?}");
    assert!(near(pooled.ssim_y, 0.775) && near(pooled.ssim_y_median, 0.8), "{pooled:?}");
    assert!(near(pooled.ssim_y_min, 0.5) && near(pooled.ssim_y_p5, 0.53), "{pooled:?}");
    assert!(near(pooled.ssim_rife, 0.675) && near(pooled.ssim_rife_median, 0.7), "{pooled:?}");
    assert!(near(pooled.ssim_rife_min, 0.4) && near(pooled.ssim_rife_p5, 0.43), "{pooled:?}");
}

#[test]
fn a_perfect_clip_is_identical_and_an_unmeasured_one_has_no_scores() {
    let still = sliding(0);
    let mut holdout = Holdout::new(5, Some(10));
    let triplet = Triplet {
        middle_index: 1,
        pts: Seconds::new(1, 30),
        truth: &still,
        network: &still,
        repeat: &still,
        blend: &still,
    };
    holdout.add(&triplet);
    let scores = holdout.finish().unwrap();
    assert!(scores.network.identical && scores.network.psnr_rgb_db.is_none());
    assert_eq!((scores.network.psnr_rgb_pooled_db, scores.worst_pts), (None, None));
    assert_eq!(Holdout::new(5, Some(10)).finish(), None);
}

#[test]
fn gray_and_subsampled_pictures_are_measured_on_their_stored_luma() {
    for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444] {
        let format = PictureFormat {
            width_px: 33,
            height_px: 21,
            chroma,
            matrix: Matrix::Bt709,
            range: Range::Limited,
            depth: Depth::Eight,
        };
        let mut truth = Picture::zeroed(format);
        for plane in &mut truth.planes {
            plane.fill(128);
        }
        let mut other = truth.clone();
        other.planes[0].fill(131);
        let scores = compare(&Samples::of_picture(&truth), &Samples::of_picture(&other));
        assert!((scores.luma.mean() - 9.0).abs() < f64::EPSILON, "{chroma:?}");
        assert!(scores.rgb.psnr_db().is_some() && scores.ssim_rife < 1.0, "{chroma:?}");
    }
}
