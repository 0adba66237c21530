//! Device memory: counted before a clip, held to within it, and what happens where there is too little.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use num_rational::Ratio;
use slomod::backend::cuda::color::PlaneLayout;
use slomod::backend::cuda::counter::Counter;
use slomod::backend::cuda::driver::{DeviceDescription, Driver};
use slomod::backend::cuda::scores;
use slomod::config::settings::Scale;
use slomod::engine::ladder::{Ladder, Limits, PLANS, Plan};
use slomod::engine::rife::Origin;
use slomod::engine::steady::Need;
use slomod::engine::{Ahead, Interpolator};
use slomod::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;
use slomod::ops::color::rgb_to_picture;

use crate::bench::networks::{self, Kind};
use crate::common::layouts::{ALL, Layout};
use crate::common::picture;
use crate::shim::driver::{ShimDriver, h200};

/// Small pictures have small tiles; nothing else wants this device.
const SMALL: Limits = Limits { reserve_bytes: 0, margin_px: 16 };

/// Codes by which pictures of batches may differ from others: see `network`.
const CODES: u8 = 2;

fn network(layout: &Layout) -> Network {
    let bytes = layout.file(70);
    let weights = Weights::from_bytes(Path::new(layout.name), Cow::Owned(bytes)).unwrap();
    // As slomod makes pictures unless it is told otherwise.
    Network { refine: true, ..Network::read(&weights).unwrap() }
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

/// Three lanes of frames and, of three batches of four, twelve of pictures. A smaller plan has fewer, and the memory of the
/// others is free again.
#[test]
fn where_a_device_uses_the_hosts_memory_lanes_of_copies_count_as_its() {
    let (format, ladder) = (format(130, 66), ladder(network(&ALL[12]), Scale::Auto, SMALL));
    let host = DeviceDescription { uses_host_memory: true, ..h200() };
    let lane = PlaneLayout::of(format).bytes().next_multiple_of(4096) as u64;
    for (plan, lanes) in [(&PLANS[0], 3 + 12), (&PLANS[2], 3 + 3)] {
        // What was counted of the other device would be taken for this one's.
        let own = ladder.need(&h200(), plan, format).unwrap();
        let ladder = self::ladder(network(&ALL[12]), Scale::Auto, SMALL);
        let with_lanes = ladder.need(&host, plan, format).unwrap();
        assert_eq!(with_lanes.peak_bytes - own.peak_bytes, lanes * lane);
        assert_eq!(with_lanes.weights_bytes, own.weights_bytes);
    }
    let counter = Arc::new(Counter::of(host));
    let driver: Arc<dyn Driver> = counter.clone();
    let mut engine = ladder.planned(&driver, &PLANS[0], format).unwrap();
    run(engine.as_mut(), &blank(9, format), |_| {});
    drop(engine);
    assert_eq!(counter.allocated_bytes(), 0);
}

/// Frames that nothing is to be seen in.
fn blank(count: u64, format: PictureFormat) -> Vec<Frame> {
    let picture = Arc::new(Picture::zeroed(format));
    let one = |index| Frame {
        index,
        pts: Ratio::from_integer(i128::from(index)),
        duration: None,
        picture: Arc::clone(&picture),
        alpha: None,
    };
    (0..count).map(one).collect()
}

/// V12. What a device would do with its kernels asleep: memory as counted, launches that no device refuses, and for each
/// frame as many encodings as the plan has tiles, or for each picture twice as many where features are not kept.
#[test]
fn the_largest_pictures_are_made_whole_and_of_tiles() {
    let format = format(7680, 4320);
    let ladder = ladder(networks::network(&networks::STARTER), Scale::Auto, Limits::default());
    let frames = blank(4, format);
    for (tiles, encodings) in [([1, 1], 4), ([2, 2], 4 * 4), ([4, 4], 16 * 2 * 3)] {
        let plan = PLANS.iter().find(|it| it.batch == 1 && it.tiles == tiles).unwrap();
        let shim = ShimDriver::new();
        shim.sleep();
        let driver: Arc<dyn Driver> = shim.clone();
        let need = ladder.need(driver.description(), plan, format).unwrap();
        let mut engine = ladder.planned(&driver, plan, format).unwrap();
        let weights_bytes = shim.allocated_bytes();
        let ahead = engine.ahead().unwrap();
        for pair in frames.windows(2) {
            ahead.submit(&pair[0], &pair[1], &[0.5]).unwrap();
        }
        for _ in 1..frames.len() {
            assert_eq!(ahead.collect().unwrap().format, format);
        }
        assert_eq!(engine.description().scale, 0.25);
        let found = Need { weights_bytes, peak_bytes: shim.peak_bytes() };
        println!("{tiles:?}: {} MB, {} launches", found.peak_bytes / 1_000_000, shim.launches());
        assert!(found.weights_bytes == need.weights_bytes && found.peak_bytes <= need.peak_bytes);
        assert!(found.peak_bytes > need.peak_bytes / 2, "{found:?} of {need:?}");
        assert_eq!(shim.launches_of("head_last"), encodings, "{tiles:?}");
        // Every tile of every picture has its own launches: eight convolutions alone for each of five blocks.
        let [long, short] = tiles;
        assert!(shim.launches() >= 3 * 5 * 8 * long * short, "{tiles:?}");
    }
}

/// Pictures of a clip, each of its frames compared with three.
fn scored(engine: &mut dyn Interpolator, frames: &[Frame]) -> usize {
    let mut on_device = 0;
    for (pair, factor) in frames.windows(2).zip([2_u8, 3, 4].into_iter().cycle()) {
        let times: Vec<f32> = (1..factor).map(|i| f32::from(i) / f32::from(factor)).collect();
        let ahead = engine.ahead().unwrap();
        ahead.submit(&pair[0], &pair[1], &times).unwrap();
        while ahead.waiting() > ahead.depth() {
            ahead.collect().unwrap();
        }
        let picture = &*pair[1].picture;
        if engine.scorer().unwrap().start(picture, &[picture; 3]).unwrap() {
            on_device += usize::from(engine.scorer().unwrap().finish().unwrap().is_some());
        }
    }
    let ahead = engine.ahead().unwrap();
    while ahead.waiting() > 0 {
        ahead.collect().unwrap();
    }
    on_device
}

#[test]
fn frames_are_scored_on_the_device_down_to_the_last_byte_that_is_not_reserved() {
    let limits = Limits { reserve_bytes: 1 << 20, margin_px: 16 };
    for depth in [Depth::Eight, Depth::Ten] {
        let format = PictureFormat { depth, ..format(130, 66) };
        let frames = blank(14, format);
        let ladder = ladder(network(&ALL[12]), Scale::Auto, limits);
        let need = ladder.need(&h200(), &PLANS[0], format).unwrap().peak_bytes;
        let scores = scores::need_bytes(format);
        let enough = need + scores + limits.reserve_bytes;
        for (memory_bytes, on_device) in [(enough, 13), (enough - 1, 0)] {
            let shim = ShimDriver::new();
            shim.sleep();
            shim.set_memory_bytes(memory_bytes);
            let driver: Arc<dyn Driver> = shim.clone();
            let mut engine = ladder.engine(&driver, None).unwrap();
            assert_eq!(scored(&mut engine, &frames), on_device, "{depth:?}");
            let (peak, steps) = (shim.peak_bytes(), engine.description().steps);
            assert!(peak <= memory_bytes - limits.reserve_bytes, "{peak} of {memory_bytes}");
            if on_device > 0 {
                assert_eq!(steps, Vec::<String>::new());
                // No more is asked for than a lane of pictures too many.
                let spare = PlaneLayout::of(format).bytes() as u64;
                assert!(peak + spare >= need + scores, "{peak} of {need} and {scores}");
            } else {
                assert_eq!(peak, need, "the network is not made smaller");
                assert!(steps.len() == 1 && steps[0].ends_with("scored on the CPU"), "{steps:?}");
            }
        }
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
            let network = Network { refine: true, ..networks::network(&kind) };
            let ladder = ladder(network, Scale::Auto, Limits::default());
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
    let network = Network { refine: true, ..networks::network(&networks::V4_26) };
    let ladder = ladder(network, Scale::Auto, Limits::default());
    let (steps, peak_bytes) = chosen(&ladder, GB, format(7680, 4320));
    println!("{} MB, {steps:?}", peak_bytes / 1_000_000);
    assert!(peak_bytes <= GB, "{peak_bytes}");
    assert!(steps.len() == 1 && steps[0].contains("tiles"), "{steps:?}");
}
