//! The network on self-made weights: every layout, fused against plain, odd sizes, times, scales, several pairs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use num_rational::Ratio;
use slomod::backend::Backend;
use slomod::backend::cpu::Cpu;
use slomod::backend::cpu::instructions::Instructions;
use slomod::backend::reference::Reference;
use slomod::config::settings::{Device, Scale, Settings};
use slomod::engine::rife::{Origin, Rife, scale_for};
use slomod::engine::tiles::{Cut, MARGIN_PX, Tiles};
use slomod::engine::{EngineError, Interpolator, open};
use slomod::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
use slomod::models::pyramid::{self, once};
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;
use slomod::ops::color::rgb_to_picture;

use common::layouts::{ALL, Layout, serialize};
use common::picture;
use common::plain::{self, Pair};

/// Largest difference of the fused from the plain network: rounding of sums in another order, in flows of some pixels
/// over a picture with differences of up to 1 between neighbours.
const FUSED_TOLERANCE: f32 = 1e-4;

/// The processor with each instruction set it has, one and several threads.
fn processors() -> Vec<(String, Cpu)> {
    let with = |set: Instructions| {
        [1, 3].map(|n| (format!("{} with {n} threads", set.name()), Cpu::new(set, n).unwrap()))
    };
    Instructions::available().into_iter().flat_map(with).collect()
}

/// Every backend there is: one line each.
fn compare_on_every_backend(network: &Network, pair: &Pair<'_>, expected: &[f32]) {
    compare("reference", Reference::default(), network, pair, expected);
    for (name, cpu) in processors() {
        compare(&name, cpu, network, pair, expected);
    }
}

fn compare<B: Backend>(
    name: &str,
    backend: B,
    network: &Network,
    pair: &Pair<'_>,
    expected: &[f32],
) {
    let mut rife =
        Rife::new(backend, network, Scale::Fixed(pair.scale), Origin::default()).unwrap();
    let found =
        rife.interpolate_rgb(pair.img0, pair.img1, pair.width, pair.height, pair.timestep).unwrap();
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst });
    let case = format!(
        "{} on {name}, {}x{}, t {}, scale {}",
        network.name, pair.width, pair.height, pair.timestep, pair.scale
    );
    println!("{case}: {worst:.1e}");
    assert!(worst < FUSED_TOLERANCE, "{case}: differs by {worst:e}");
}

fn network(layout: &Layout, seed: u64) -> Network {
    let bytes = layout.file(seed);
    let weights = Weights::from_bytes(Path::new(layout.name), Cow::Owned(bytes)).unwrap();
    Network::read(&weights).unwrap()
}

fn compare_pair(network: &Network, size: (usize, usize), timestep: f32, scale: f32) {
    let (width, height) = size;
    let (img0, img1) = (picture(width, height, 0.0, 1), picture(width, height, 3.0, 2));
    let pair = Pair { img0: &img0, img1: &img1, width, height, timestep, scale };
    compare_on_every_backend(network, &pair, &plain::interpolate(network, &pair));
}

#[test]
fn every_layout_is_told_apart_by_names_and_shapes() {
    for layout in ALL {
        let network = network(&layout, 3);
        assert_eq!(network.name, layout.name);
        assert_eq!(network.visits, once(layout.factors), "{}", layout.name);
        assert_eq!(network.features(), layout.features, "{}", layout.name);
    }
}

#[test]
fn the_published_widths_of_4_25_lite_are_enough_to_know_it() {
    let lite = Layout { widths: &[192, 128, 96, 64, 24], ..ALL[12] };
    let network = network(&lite, 1);
    assert_eq!(network.name, "rife v4.25.lite");
    assert_eq!(network.visits, once(&[32.0, 16.0, 8.0, 4.0, 1.0]));
    assert_eq!(network.pad_multiple, 128);
}

#[test]
fn the_fused_network_equals_the_plain_one_in_every_layout() {
    for (seed, layout) in ALL.iter().enumerate() {
        compare_pair(&network(layout, 10 + seed as u64), (45, 37), 0.5, 1.0);
    }
}

#[test]
fn the_fused_network_equals_the_plain_one_at_every_scale() {
    for index in [0, 3, 10, 12, 13] {
        for scale in [0.25, 0.5, 2.0] {
            compare_pair(&network(&ALL[index], 30), (70, 41), 0.4, scale);
        }
    }
}

/// Orders in which blocks work again, as a file may ask for them.
const AGAIN: [&str; 3] = [
    "0:16,1:16,2:8,3:4,1:16,2:8,3:4,3:2,4:1",
    "0:16,3:2,2:4,1:8,2:4,1:16,3:2,2:2,4:1",
    "0:32,1:16,1:16,1:16,2:8,3:4,4:1",
];

#[test]
fn the_fused_network_equals_the_plain_one_where_blocks_work_again() {
    for (index, text) in AGAIN.into_iter().enumerate() {
        let once = network(&ALL[12], 31);
        let visits = pyramid::parse(text, once.blocks.len()).unwrap();
        let again = Network { pad_multiple: pyramid::pad_multiple(&visits), visits, ..once };
        compare_pair(&again, (70, 41), 0.4, [1.0, 0.5, 2.0][index]);
        compare_pair(&again, (45, 67), 0.5, 1.0);
    }
}

#[test]
fn a_file_says_in_which_order_its_blocks_work() {
    let open = |layout: &Layout, order: &str| {
        let metadata = HashMap::from([(pyramid::KEY.to_owned(), order.to_owned())]);
        let bytes = serialize(&layout.tensors(3), Some(metadata));
        Network::read(
            &Weights::from_bytes(Path::new("own.safetensors"), Cow::Owned(bytes)).unwrap(),
        )
    };
    let network = open(&ALL[12], AGAIN[0]).unwrap();
    assert_eq!((network.name.as_str(), network.visits.len()), (ALL[12].name, 9));
    assert_eq!(network.pad_multiple, 64);
    assert_eq!(open(&ALL[10], "0:16,1:8,2:4,3:1").unwrap().pad_multiple, 64);
    for (layout, order, why) in [
        (&ALL[12], "0:16,1:8", "own.safetensors: metadata `slomod.pyramid` is `0:16,1:8`"),
        (&ALL[3], "0:8,1:4,2:2,3:1", "metadata `slomod.pyramid` is there, expected only from v4.7"),
    ] {
        let error = open(layout, order).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn ten_bits_give_the_picture_of_eight_finer() {
    let network = network(&ALL[12], 41);
    let eight = frames(2, 50, 38, 5);
    let widened = |frame: &Frame| {
        let wide = |plane: &Vec<u8>| {
            plane.iter().flat_map(|code| (4 * u16::from(*code)).to_le_bytes()).collect()
        };
        let format = PictureFormat { depth: Depth::Ten, ..frame.picture.format };
        let planes = frame.picture.planes.iter().map(wide).collect();
        Frame { picture: Arc::new(Picture { format, planes }), ..frame.clone() }
    };
    let mut engine = Rife::new(
        Cpu::new(Instructions::choose(None).unwrap(), 1).unwrap(),
        &network,
        Scale::Fixed(1.0),
        Origin::default(),
    )
    .unwrap();
    let made = engine.interpolate(&eight[0], &eight[1], &[0.5]).unwrap().remove(0);
    let (a, b) = (widened(&eight[0]), widened(&eight[1]));
    let made_wide = engine.interpolate(&a, &b, &[0.5]).unwrap().remove(0);
    let mut finer = 0;
    for (narrow, wide) in made.planes.iter().zip(&made_wide.planes) {
        for (narrow, wide) in narrow.iter().zip(wide.as_chunks::<2>().0) {
            let (narrow, wide) = (4 * i32::from(*narrow), i32::from(u16::from_le_bytes(*wide)));
            assert!((narrow - wide).abs() <= 3, "{wide} of 10 bits, {narrow} of 8");
            finer += usize::from(narrow != wide);
        }
    }
    assert!(finer > 100, "{finer} samples differ");
}

#[test]
fn the_fused_network_equals_the_plain_one_at_odd_sizes_and_times() {
    let network = network(&ALL[12], 40);
    for (size, timestep) in
        [((1, 1), 0.5), ((2, 2), 0.25), ((65, 3), 0.0), ((64, 64), 1.0), ((63, 129), 0.9)]
    {
        compare_pair(&network, size, timestep, 1.0);
    }
}

fn frame(index: u64, picture: Picture) -> Frame {
    let pts = Ratio::from_integer(i128::from(index));
    Frame { index, pts, duration: None, picture: Arc::new(picture), alpha: None }
}

fn format(width_px: usize, height_px: usize) -> PictureFormat {
    let (chroma, matrix, range) = (Chroma::C420, Matrix::Bt709, Range::Limited);
    PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight }
}

fn frames(count: u64, width: usize, height: usize, seed: u64) -> Vec<Frame> {
    let one = |index| {
        let rgb = picture(width, height, 2.0 * index as f32, seed + index);
        frame(index, rgb_to_picture(&rgb, format(width, height)))
    };
    (0..count).map(one).collect()
}

fn engine(index: usize) -> Rife<Reference> {
    let network = network(&ALL[index], 50);
    Rife::new(Reference::default(), &network, Scale::Auto, Origin::default()).unwrap()
}

#[test]
fn consecutive_pairs_at_several_factors_leave_nothing_stale() {
    for layout in [0, 3, 12] {
        let frames = frames(4, 37, 29, 60);
        let mut engine_for_all = engine(layout);
        for (pair, factor) in frames.windows(2).zip([2, 3, 4]) {
            let times: Vec<f32> = (1..factor).map(|i| i as f32 / factor as f32).collect();
            let found = engine_for_all.interpolate(&pair[0], &pair[1], &times).unwrap();
            let fresh = engine(layout).interpolate(&pair[0], &pair[1], &times).unwrap();
            assert_eq!(found, fresh, "factor {factor}");
            assert_eq!(found.len(), times.len());
        }
        // Back two frames, as the held-out measurement does, and forth again.
        let [a, b, c, _] = &frames[..] else { panic!("four frames") };
        let found = engine_for_all.interpolate(a, c, &[0.5]).unwrap();
        assert_eq!(found, engine(layout).interpolate(a, c, &[0.5]).unwrap());
        let found = engine_for_all.interpolate(b, c, &[0.5]).unwrap();
        assert_eq!(found, engine(layout).interpolate(b, c, &[0.5]).unwrap());
    }
}

#[test]
fn a_second_clip_on_the_same_engine_sees_none_of_the_first() {
    let mut engine_for_both = engine(12);
    for (width, seed) in [(37, 70), (37, 90), (21, 70)] {
        let frames = frames(2, width, 29, seed);
        let found = engine_for_both.interpolate(&frames[0], &frames[1], &[0.5]).unwrap();
        let fresh = engine(12).interpolate(&frames[0], &frames[1], &[0.5]).unwrap();
        assert_eq!(found, fresh);
    }
}

#[test]
fn frames_of_different_layout_are_an_error_that_names_them() {
    let (a, b) = (frames(2, 20, 20, 1), frames(2, 22, 20, 1));
    let error = engine(3).interpolate(&a[0], &b[1], &[0.5]).unwrap_err();
    assert!(matches!(error, EngineError::FormatChanged { first: 0, second: 1 }), "{error}");
}

#[test]
fn tiny_pictures_keep_their_size() {
    for (width, height) in [(1, 1), (2, 2), (1, 7)] {
        let frames = frames(2, width, height, 5);
        let found = engine(12).interpolate(&frames[0], &frames[1], &[0.5]).unwrap();
        assert_eq!(found[0].format, format(width, height));
    }
}

#[test]
fn scale_is_chosen_by_resolution() {
    assert_eq!(scale_for(Scale::Auto, 2560, 1440), 1.0);
    assert_eq!(scale_for(Scale::Auto, 3840, 2160), 0.5);
    assert_eq!(scale_for(Scale::Auto, 4096, 2160), 0.25);
    assert_eq!(scale_for(Scale::Fixed(2.0), 4096, 2160), 2.0);
}

fn error_of(settings: &Settings) -> EngineError {
    match slomod::engine::open(settings) {
        Ok(engine) => panic!("opened {:?}", engine.description()),
        Err(error) => error,
    }
}

#[test]
fn the_built_in_weights_open_and_say_what_they_are() {
    let mut engine = slomod::engine::open(&Settings::default()).unwrap();
    let description = engine.description();
    assert_eq!(description.model_name, "rife v4.25/v4.26");
    match description.device_kind.as_str() {
        "cuda" => assert_eq!(description.fallback_reason, None),
        kind => {
            assert_eq!(kind, "cpu");
            assert!(description.fallback_reason.unwrap().contains("CPU"));
        }
    }
    assert_eq!(description.model_sha256.unwrap().len(), 64);
    assert!(!description.device_name.is_empty());
    let frames = frames(2, 32, 20, 7);
    // A still pair: the network must keep it, but for its own noise.
    let found = engine.interpolate(&frames[0], &frames[0], &[0.5]).unwrap();
    let same = found[0].planes[0].iter().zip(&frames[0].picture.planes[0]);
    let error: u32 = same.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    assert!(error / (32 * 20) < 4, "mean luma error of a still picture: {error} / 640");
}

#[test]
fn a_missing_device_is_an_error_that_says_why_and_cpu_needs_no_excuse() {
    let cuda = Settings { device: Device::Cuda(1000), ..Settings::default() };
    let error = error_of(&cuda);
    assert!(matches!(&error, EngineError::NoDevice { device, .. } if device == "cuda:1000"));
    assert!(error.to_string().contains("auto"), "{error}");
    let cpu = Settings { device: Device::Cpu, ..Settings::default() };
    assert_eq!(slomod::engine::open(&cpu).unwrap().description().fallback_reason, None);
}

#[test]
fn blend_and_missing_weights_and_odd_scales_are_what_they_say() {
    let blend = Settings { model: Some("blend".into()), ..Settings::default() };
    assert_eq!(slomod::engine::open(&blend).unwrap().description().model_name, "blend");
    let missing = Settings { model: Some("/nowhere.safetensors".into()), ..Settings::default() };
    assert!(error_of(&missing).to_string().contains("/nowhere.safetensors"));
    let odd = Settings { scale: Scale::Fixed(0.3), ..Settings::default() };
    assert!(matches!(error_of(&odd), EngineError::Scale(_)));
}

/// Waves that move as a whole, by `shift` columns and half as many rows.
fn waves(format: PictureFormat, shift: f32) -> Picture {
    let pixel = |at: usize| {
        let (x, y) = (at % format.width_px, at / format.width_px);
        let (x, y) = (x as f32 - shift, y as f32 - 0.5 * shift);
        [0.0, 1.3, 2.1].map(|phase| {
            let coarse = (0.031 * x + phase).sin() * (0.043 * y - phase).cos();
            let fine = (0.21 * x - 0.13 * y + phase).sin() * (0.17 * y + 0.09 * x).cos();
            0.5 + 0.25 * coarse + 0.2 * fine
        })
    };
    let rgb: Vec<f32> = (0..format.width_px * format.height_px).flat_map(pixel).collect();
    rgb_to_picture(&rgb, format)
}

/// Pixels from the border where content enters and what is padded counts; tiles are padded otherwise.
const BORDER_PX: usize = 12;

/// PSNR of luma within the border, and the most by which a sample differs.
fn distance(a: &Picture, b: &Picture) -> (f64, u8) {
    assert_eq!(a.format, b.format);
    let PictureFormat { width_px, height_px, .. } = a.format;
    let inside = |at: &usize| {
        let (x, y) = (at % width_px, at / width_px);
        (BORDER_PX..width_px - BORDER_PX).contains(&x)
            && (BORDER_PX..height_px - BORDER_PX).contains(&y)
    };
    let inside = (0..a.planes[0].len()).filter(inside);
    let apart = inside.map(|at| a.planes[0][at].abs_diff(b.planes[0][at]));
    let squares: f64 = apart.clone().map(|it| f64::from(it).powi(2)).sum();
    let db = -10.0 * (squares / apart.clone().count() as f64 / (255.0 * 255.0)).log10();
    (db, apart.max().unwrap())
}

/// How far below the network's own error what tiles change must stay: half of its power.
const BELOW_OWN_ERROR_DB: f64 = 3.0;

#[test]
fn tiles_change_a_picture_less_than_the_network_errs_where_motion_is_small() {
    let weights = open::open_weights(None).unwrap();
    let network = Network::read(&weights).unwrap();
    let format = format(801, 774);
    let at = |time: f32| waves(format, 6.0 * time);
    let frames: Vec<_> = (0..3_u8).map(|i| frame(i.into(), at(i.into()))).collect();
    let rife = || {
        let cpu = Cpu::new(Instructions::choose(None).unwrap(), 2).unwrap();
        Rife::new(cpu, &network, Scale::Auto, Origin::default()).unwrap()
    };
    let cut = Cut { columns: 2, rows: 2, margin_px: MARGIN_PX };
    let count = cut.count(format);
    assert_eq!(count, 4);
    let mut tiles = Tiles::new(Box::new(rife().keeping(2 * count)), cut);
    let mut whole = rife();
    for (start, pair) in frames.windows(2).enumerate() {
        let times = [0.25, 0.5];
        let found = tiles.interpolate(&pair[0], &pair[1], &times).unwrap();
        let expected = whole.interpolate(&pair[0], &pair[1], &times).unwrap();
        assert_eq!(found.len(), expected.len());
        for ((found, expected), time) in found.iter().zip(&expected).zip(times) {
            let truth = at(start as f32 + time);
            let (own, change) = (distance(expected, &truth), distance(found, expected));
            println!("undivided to the truth {own:.1?}, in tiles to undivided {change:.1?}");
            let less = change.0 >= own.0 + BELOW_OWN_ERROR_DB && change.1 <= own.1;
            assert!(less, "{change:?} and {own:?}");
        }
    }
}
