//! The input of a block: every instance, factor and number of earlier blocks, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::flow::{Inputs, stage};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::ops::flow::{MaskRule, Stage, View, reference};
use slomod::ops::tensor::Tensor;

use crate::scenes::{Motion, OnDevice, Random, Recipe, Scene, download_bytes, instances, pictures};
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

/// Results are rounded to half: half a step of 2^-10, and as much again for sums that end near the middle of two.
const RELATIVE: f32 = 1.0 / 1024.0;
/// Errors of a coordinate, in steps of f32 at the largest number that went into it: a few sums and products each way.
const COORDINATE_STEPS: f32 = 8.0;
/// A pixel further, random features change by as much as this.
const GRADIENT: f32 = 2.0;
/// Halves below this are subnormal.
const SMALLEST: f32 = 1e-5;

/// How far a value of that scene may be from the definition.
pub fn tolerance(expected: f32, full: [usize; 2], reach_px: f32) -> f32 {
    let largest = full[0].max(full[1]) as f32 + reach_px;
    RELATIVE * expected.abs() + SMALLEST + GRADIENT * COORDINATE_STEPS * largest * f32::EPSILON
}

/// All pairs of features and features handed on that networks have.
pub const PAIRS: [(usize, usize); 6] = [(0, 0), (4, 0), (4, 8), (8, 0), (8, 8), (16, 8)];
/// All factors of a block.
pub const FACTORS: [f32; 7] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
const MOTIONS: [Motion; 4] = [Motion::Small, Motion::Leaving, Motion::Huge, Motion::Whole];

fn inputs<'a>(
    scene: &Scene,
    device: &OnDevice,
    factor: f32,
    earlier: &'a [slomod::ops::flow::BlockOutput<'a, DeviceTensor>],
) -> Inputs<'a> {
    Inputs {
        views: device.views(),
        n: scene.timesteps.len(),
        full: scene.full,
        features: scene.features,
        factor,
        earlier,
        mask: scene.mask,
        handed_on: if earlier.is_empty() { 0 } else { scene.handed_on },
    }
}

fn check(shim: &Arc<ShimDriver>, recipe: &Recipe, factor: f32, seed: u64) {
    let driver: Arc<dyn Driver> = shim.clone();
    let scene = Scene::draw(recipe, &mut Random::new(seed));
    let device = OnDevice::new(&driver, &scene);
    let earlier = device.outputs();
    let inputs = inputs(&scene, &device, factor, &earlier);
    let runs = [Order::Forward, Order::Backward].map(|order| {
        shim.set_order(order);
        let mut output = DeviceTensor::default();
        stage(&driver, &inputs, &mut output).unwrap();
        (download_bytes(&driver, &output), output)
    });
    let [(bytes, output), (backward, _)] = runs;
    assert_eq!(bytes, backward, "{recipe:?}, factor {factor}: the order of threads shows");
    for (index, found) in pictures(&bytes, &output).iter().enumerate() {
        let mut expected = Tensor::default();
        let stage = Stage {
            views: &[View {
                records: [&scene.records[index][0], &scene.records[index][1]],
                timestep: scene.timesteps[index],
            }],
            features: scene.features,
            factor,
            earlier: &scene.outputs_of(index),
            mask: scene.mask,
            handed_on: inputs.handed_on,
        };
        reference(&stage, &mut expected);
        let reach = recipe.motion.reach_px() * recipe.factors.len() as f32;
        compare(found, &expected, |value| tolerance(value, scene.full, reach))
            .unwrap_or_else(|at| panic!("{recipe:?}, factor {factor}, seed {seed}, {index}: {at}"));
    }
}

/// That all channels in use are near and all others zero; or the first place where they are not.
pub fn compare(
    found: &Tensor,
    expected: &Tensor,
    tolerance: impl Fn(f32) -> f32,
) -> Result<(), String> {
    assert_eq!((found.h, found.w), (expected.h, expected.w), "size");
    for y in 0..found.h {
        for x in 0..found.w {
            for (channel, &value) in found.at(y, x).iter().enumerate() {
                let wanted = expected.at(y, x).get(channel).copied().unwrap_or(0.0);
                let near = (value - wanted).abs() <= tolerance(wanted);
                if !near {
                    return Err(format!("({y}, {x}) channel {channel}: {value}, want {wanted}"));
                }
            }
        }
    }
    Ok(())
}

/// A picture of about `cells` cells of the coarsest grid.
pub fn size_for(factors: &[f32], cells: [usize; 2]) -> [usize; 2] {
    let coarsest = factors.iter().fold(1.0, |a: f32, &b| a.max(b)) as usize;
    cells.map(|n| n * coarsest)
}

#[test]
fn block_inputs_are_as_defined_for_every_network_and_factor() {
    let shim = ShimDriver::new();
    let mut random = Random::new(1);
    let mut seed = 0;
    for (features, handed_on) in PAIRS {
        for (index, factor) in FACTORS.into_iter().enumerate() {
            for earlier in 0..=4 {
                let factors: Vec<f32> =
                    (0..earlier).map(|_| FACTORS[random.below(FACTORS.len())]).collect();
                let with_own: Vec<f32> = factors.iter().copied().chain([factor]).collect();
                let cells = [1 + random.below(3), 1 + random.below(3)];
                let mask = [MaskRule::Sum, MaskRule::Last][random.below(2)];
                let motion = MOTIONS[(seed as usize + index) % MOTIONS.len()];
                let full = size_for(&with_own, cells);
                let n = if seed % 3 == 0 { 3 } else { 1 };
                let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
                seed += 1;
                check(&shim, &recipe, factor, seed);
            }
        }
    }
    let launched = shim.launched();
    for name in instances("STAGE") {
        assert!(launched.contains(&name), "{name} was not tried");
    }
}

#[test]
fn block_inputs_of_tiny_and_odd_pictures_are_as_defined() {
    let shim = ShimDriver::new();
    for (seed, (full, factor)) in [
        ([1, 1], 1.0),
        ([1, 1], 0.5),
        ([1, 7], 1.0),
        ([37, 1], 1.0),
        ([5, 33], 1.0),
        ([6, 66], 2.0),
        ([3, 5], 0.5),
    ]
    .into_iter()
    .enumerate()
    {
        for motion in MOTIONS {
            let factors = vec![1.0, 0.5];
            let mask = MaskRule::Sum;
            let recipe = Recipe { n: 2, full, features: 4, handed_on: 8, mask, factors, motion };
            check(&shim, &recipe, factor, seed as u64);
        }
    }
}

#[test]
fn positions_are_exact_in_pictures_wider_than_half_precision_counts() {
    let shim = ShimDriver::new();
    for (seed, factor) in [1.0, 2.0, 4.0].into_iter().enumerate() {
        let factors = vec![4.0, 2.0];
        let (full, motion, mask) = ([4, 4352], Motion::Small, MaskRule::Last);
        let recipe = Recipe { n: 1, full, features: 4, handed_on: 8, mask, factors, motion };
        check(&shim, &recipe, factor, seed as u64);
    }
}
