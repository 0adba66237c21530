//! Device memory: counted before a clip, held to within it, and what happens where there is too little.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use num_rational::Ratio;
use slomod::backend::cuda::counter::Counter;
use slomod::backend::cuda::driver::{DeviceDescription, Driver};
use slomod::config::settings::Scale;
use slomod::engine::ladder::{Ladder, Limits, PLANS, Plan};
use slomod::engine::rife::Origin;
use slomod::engine::steady::Need;
use slomod::engine::{Ahead, Interpolator};
use slomod::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;
use slomod::ops::color::rgb_to_picture;

use crate::common::layouts::{ALL, Layout};
use crate::common::picture;
use crate::networks::{self, Kind};
use crate::shim::driver::{ShimDriver, h200};

/// Small pictures have small tiles; nothing else wants this device.
const SMALL: Limits = Limits { reserve_bytes: 0, margin_px: 16 };

/// Codes by which pictures of batches may differ from others: see `network`.
const CODES: u8 = 2;

fn network(layout: &Layout) -> Network {
    let bytes = layout.file(70);
    let weights = Weights::from_bytes(Path::new(layout.name), Cow::Owned(bytes)).unwrap();
    Network::read(&weights).unwrap()
}

fn ladder(network: Network, scale: Scale, limits: Limits) -> Arc<Ladder> {
    Arc::new(Ladder::new(network, scale, Origin::default(), limits))
}

fn format(width_px: usize, height_px: usize) -> PictureFormat {
    let (chroma, matrix, range) = (Chroma::C420, Matrix::Bt709, Range::Limited);
    PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight }
}

fn frames(count: u64, format: PictureFormat) -> Vec<Frame> {
    let one = |index| {
        let rgb = picture(format.width_px, format.height_px, 2.0 * index as f32, 71 + index);
        let (pts, picture) = (Ratio::from_integer(i128::from(index)), rgb_to_picture(&rgb, format));
        Frame { index, pts, duration: None, picture: Arc::new(picture), alpha: None }
    };
    (0..count).map(one).collect()
}

/// As the pipeline does it: asks ahead, and collects down to the engine's depth.
fn run(
    engine: &mut dyn Interpolator,
    frames: &[Frame],
    mut before: impl FnMut(usize),
) -> Vec<Picture> {
    let mut made = vec![];
    let factors = [2_u8, 2, 3, 2, 4].into_iter().cycle();
    for (number, (pair, factor)) in frames.windows(2).zip(factors).enumerate() {
        before(number);
        let times: Vec<f32> = (1..factor).map(|i| f32::from(i) / f32::from(factor)).collect();
        let ahead = engine.ahead().unwrap();
        ahead.submit(&pair[0], &pair[1], &times).unwrap();
        while ahead.waiting() > ahead.depth() {
            made.push(ahead.collect().unwrap());
        }
    }
    let ahead = engine.ahead().unwrap();
    while ahead.waiting() > 0 {
        made.push(ahead.collect().unwrap());
    }
    made
}

/// Whether kernels run for a test of memory.
#[derive(Clone, Copy, PartialEq)]
enum Kernels {
    Run,
    Sleep,
}

fn check_prediction(
    layout: &Layout,
    plan: &Plan,
    scale: f32,
    [width, height]: [usize; 2],
    kernels: Kernels,
) {
    let ladder = ladder(network(layout), Scale::Fixed(scale), SMALL);
    let (shim, format) = (ShimDriver::new(), format(width, height));
    if kernels == Kernels::Sleep {
        shim.sleep();
    }
    let driver: Arc<dyn Driver> = shim.clone();
    let need = ladder.need(driver.description(), plan, format).unwrap();
    let mut engine = ladder.planned(&driver, plan, format).unwrap();
    let weights_bytes = shim.allocated_bytes();
    run(engine.as_mut(), &frames(4 * plan.batch as u64 + 3, format), |_| {});
    let found = Need { weights_bytes, peak_bytes: shim.peak_bytes() };
    assert_eq!(need, found, "{}, {plan:?}, scale {scale}, {width}x{height}", layout.name);
}

#[test]
fn what_is_predicted_is_what_is_allocated() {
    for layout in [0, 12] {
        check_prediction(&ALL[layout], &PLANS[1], 1.0, [45, 37], Kernels::Run);
    }
    for layout in &ALL {
        for plan in &PLANS {
            check_prediction(layout, plan, 1.0, [75, 141], Kernels::Sleep);
        }
        for scale in [0.25, 0.5, 2.0] {
            check_prediction(layout, &PLANS[0], scale, [130, 66], Kernels::Sleep);
        }
    }
    for plan in &PLANS {
        check_prediction(&ALL[10], plan, 1.0, [641, 359], Kernels::Sleep);
    }
}

#[test]
fn a_frame_of_a_clip_in_tiles_is_encoded_once() {
    let (shim, format) = (ShimDriver::new(), format(128, 64));
    let driver: Arc<dyn Driver> = shim.clone();
    let ladder = ladder(network(&ALL[12]), Scale::Auto, SMALL);
    let plan = PLANS.iter().find(|plan| plan.tiles == [2, 2]).unwrap();
    let mut engine = ladder.planned(&driver, plan, format).unwrap();
    let frames = frames(5, format);
    let made = run(engine.as_mut(), &frames, |_| {});
    assert_eq!(made.len(), 1 + 1 + 2 + 1);
    assert_eq!(shim.launches_of("head_last"), 4 * frames.len());
}

/// That picture `number` is the one that the plan makes of the frames at this place.
fn is_of(picture: &Picture, of_plan: &[Picture], number: usize) -> bool {
    let codes = picture.planes.iter().flatten().zip(of_plan[number].planes.iter().flatten());
    codes.map(|(a, b)| a.abs_diff(*b)).max().unwrap() <= CODES
}

/// V24.
#[test]
fn memory_that_shrinks_in_mid_clip_costs_steps_and_no_picture() {
    let (shim, format) = (ShimDriver::new(), format(192, 128));
    let driver: Arc<dyn Driver> = shim.clone();
    let ladder = ladder(network(&ALL[10]), Scale::Auto, SMALL);
    let frames = frames(15, format);
    // From so many pairs on there is too little for the plan before, and just enough for this one.
    let stops = [(9, &PLANS[2]), (11, &PLANS[3]), (13, &PLANS[5])];
    // Batches do not change pictures: the first plan's are those of the next one.
    let expected = stops.map(|(_, plan)| {
        let driver: Arc<dyn Driver> = ShimDriver::new();
        run(ladder.planned(&driver, plan, format).unwrap().as_mut(), &frames, |_| {})
    });
    let mut engine = ladder.engine(&driver, None).unwrap();
    let found = run(&mut engine, &frames, |pair| {
        if let Some((_, plan)) = stops.into_iter().find(|(from, _)| pair == *from) {
            let need = ladder.need(&h200(), plan, format).unwrap();
            shim.set_memory_bytes(need.peak_bytes);
        }
    });
    let steps = engine.description().steps;
    println!("{steps:#?}");
    assert_eq!(steps.len(), stops.len(), "{steps:?}");
    for (step, (_, plan)) in steps.iter().zip(stops) {
        assert!(step.ends_with(plan.step) && step.contains("memory"), "{step}");
    }
    assert_eq!(found.len(), expected[0].len());
    let mut seen = vec![0];
    for (number, picture) in found.iter().enumerate() {
        // The picture of this very place, by the plan of the one before or a later one.
        let mut plans = seen[number]..expected.len();
        let by = plans.find(|&plan| is_of(picture, &expected[plan], number));
        seen.push(by.unwrap_or_else(|| panic!("picture {number} is out of order: {seen:?}")));
    }
    println!("{seen:?}");
    assert_eq!(seen.last(), Some(&2), "the last pictures are made of tiles");
    let next_one = |number| is_of(&found[number], &expected[0], number + 1);
    assert!(!(0..3).any(next_one), "pictures are told apart");
}

/// Plan that is chosen where so much memory is free, and what the engine takes then.
fn chosen(ladder: &Arc<Ladder>, free_bytes: u64, format: PictureFormat) -> (Vec<String>, u64) {
    let description = DeviceDescription { memory_bytes: free_bytes, ..h200() };
    let counter = Arc::new(Counter::of(description));
    let driver: Arc<dyn Driver> = counter.clone();
    let mut engine = ladder.engine(&driver, None).unwrap();
    let picture = Arc::new(Picture::zeroed(format));
    for index in 0..2 {
        let frame = |index: u64| Frame {
            index,
            pts: Ratio::from_integer(i128::from(index)),
            duration: None,
            picture: Arc::clone(&picture),
            alpha: None,
        };
        engine.submit(&frame(index), &frame(index + 1), &[0.5]).unwrap();
    }
    while engine.waiting() > 0 {
        engine.collect().unwrap();
    }
    (engine.description().steps, counter.peak_bytes())
}

const GB: u64 = 1_000_000_000;

/// V12: and the largest format of cinemas.
#[test]
fn published_networks_fit_the_memory_that_devices_have() {
    let sizes = [("720p", 1280, 720), ("1080p", 1920, 1080), ("2160p", 3840, 2160)];
    let sizes = sizes.into_iter().chain([("4320p", 7680, 4320), ("cinema", 8192, 4320)]);
    for (name, width, height) in sizes {
        for kind in [networks::V4_6, networks::V4_22, networks::V4_26] {
            let Kind { name: network_name, .. } = kind;
            let ladder = ladder(networks::network(&kind), Scale::Auto, Limits::default());
            let format = format(width, height);
            let need = |plan: &Plan| ladder.need(&h200(), plan, format).unwrap().peak_bytes;
            let all = [0, 2, 8].map(|plan| need(&PLANS[plan]) / 1_000_000);
            println!("{name}, {network_name}: {all:?} MB");
            let budget = if height <= 2160 { 4 * GB } else { 8 * GB };
            let (steps, peak_bytes) = chosen(&ladder, budget, format);
            println!("    in {} GB: {} MB, {steps:?}", budget / GB, peak_bytes / 1_000_000);
            assert!(peak_bytes <= budget);
            assert!(height > 2160 || steps.is_empty(), "{steps:?}");
        }
    }
}

#[test]
fn the_largest_picture_is_made_of_tiles_where_a_gigabyte_is_free() {
    let network = networks::network(&networks::V4_26);
    let ladder = ladder(network, Scale::Auto, Limits::default());
    let (steps, peak_bytes) = chosen(&ladder, GB, format(7680, 4320));
    println!("{} MB, {steps:?}", peak_bytes / 1_000_000);
    assert!(peak_bytes <= GB, "{peak_bytes}");
    assert!(steps.len() == 1 && steps[0].contains("tiles"), "{steps:?}");
}
