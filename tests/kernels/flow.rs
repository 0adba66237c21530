//! The input of a block: every instance, factor and number of earlier blocks, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::driver::{DeviceError, Driver};
use slomod::backend::cuda::flow::{Inputs, add_flows, stage};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::ops::flow::{MASK, MaskRule};
use slomod::ops::tensor::Tensor;

use crate::faults::Fault;
use crate::scenes::{
    Motion, OnDevice, Random, Recipe, Scene, download_bytes, instances, pictures, upload_output,
};
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

fn check(shim: &Arc<ShimDriver>, recipe: &Recipe, factor: f32, seed: u64) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let scene = Scene::draw(recipe, &mut Random::new(seed));
    let device = OnDevice::new(&driver, &scene);
    let earlier = device.outputs();
    let inputs = inputs(&scene, &device, factor, &earlier);
    let place = format!("{recipe:?}, factor {factor}, seed {seed}");
    let (bytes, output) = both_orders(shim, |output| stage(&driver, &inputs, output))?;
    let reach = recipe.motion.reach_px() * recipe.factors.len() as f32;
    for (index, found) in pictures(&bytes, &output).iter().enumerate() {
        let expected = scene.block_input(index, factor);
        compare(found, &expected, |value| tolerance(value, scene.full, reach))
            .map_err(|at| format!("{place}, {index}: {at}"))?;
    }
    Ok(())
}

/// Runs in both orders of threads, which must agree to the bit: the output's bytes and the output.
pub fn both_orders(
    shim: &Arc<ShimDriver>,
    run: impl Fn(&mut DeviceTensor) -> Result<(), DeviceError>,
) -> Result<(Vec<u8>, DeviceTensor), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let one = |order| {
        shim.set_order(order);
        let mut output = DeviceTensor::default();
        run(&mut output).map_err(|error| error.to_string())?;
        Ok::<_, String>((download_bytes(&driver, &output), output))
    };
    let (forward, backward) = (one(Order::Forward)?, one(Order::Backward)?);
    if forward.0 == backward.0 { Ok(forward) } else { Err("the order of threads shows".into()) }
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
                check(&shim, &recipe, factor, seed).unwrap();
            }
        }
    }
    let launched = shim.launched();
    for name in instances("STAGE") {
        assert!(launched.contains(&name), "{name} was not tried");
    }
}

/// Outputs as networks have them, each at twice the size of the one before: reads are shared between pixels.
#[test]
fn block_inputs_behind_halving_outputs_are_as_defined() {
    let shim = ShimDriver::new();
    let mut random = Random::new(3);
    let mut seed = 0;
    for (features, handed_on) in PAIRS {
        for factor in [1.0, 2.0, 4.0, 8.0] {
            for count in 1..=4 {
                let factors = halving(factor, count);
                let full = size_for(&factors, [1 + random.below(3), 1 + random.below(3)]);
                let mask = [MaskRule::Sum, MaskRule::Last][random.below(2)];
                let motion = MOTIONS[seed % MOTIONS.len()];
                let n = 1 + seed % 2;
                let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
                seed += 1;
                check(&shim, &recipe, factor, seed as u64).unwrap();
            }
        }
    }
}

/// Factors of `count` outputs that double up to a block of that factor.
pub fn halving(factor: f32, count: usize) -> Vec<f32> {
    (1..=count as i32).rev().map(|step| factor * 2.0_f32.powi(step)).collect()
}

#[test]
fn flows_of_two_outputs_are_summed_and_nothing_else() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    for (seed, (full, handed_on)) in
        [([1, 1], 8), ([17, 31], 0), ([33, 40], 8)].into_iter().enumerate()
    {
        let recipe = Recipe {
            n: 3,
            full,
            features: 4,
            handed_on,
            mask: MaskRule::Last,
            factors: vec![1.0, 1.0],
            motion: Motion::Leaving,
        };
        let scene = Scene::draw(&recipe, &mut Random::new(seed as u64));
        let of = |index: usize| &scene.outputs[index].1;
        let summed = |order| {
            shim.set_order(order);
            let (from, mut to) = (upload_output(&driver, of(0)), upload_output(&driver, of(1)));
            add_flows(&driver, &from, &mut to).unwrap();
            let content = |tensor: &DeviceTensor| {
                let mut bytes = vec![0; tensor.bytes()];
                driver.download(tensor.address(), &mut bytes).unwrap();
                bytes
            };
            (content(&from), content(&to))
        };
        let sum = |index: usize| {
            let (mut sum, from) = (of(1)[index].clone(), &of(0)[index]);
            let pixels = sum.data.chunks_exact_mut(sum.c).zip(from.data.chunks_exact(from.c));
            pixels
                .for_each(|(to, from)| (0..MASK).for_each(|channel| to[channel] += from[channel]));
            sum
        };
        let expected = upload_output(&driver, &[sum(0), sum(1), sum(2)]);
        let mut wanted = vec![0; expected.bytes()];
        driver.download(expected.address(), &mut wanted).unwrap();
        let (from, to) = summed(Order::Forward);
        assert!(
            (from.clone(), to.clone()) == summed(Order::Backward),
            "the order of threads shows"
        );
        assert!(to == wanted, "{recipe:?}");
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
            check(&shim, &recipe, factor, seed as u64).unwrap();
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
        check(&shim, &recipe, factor, seed as u64).unwrap();
    }
}

/// What planted faults must not pass.
fn check_some(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let cases = [
        (1.0, [4.0, 2.0]),
        (0.5, [4.0, 2.0]),
        (4.0, [4.0, 2.0]),
        (2.0, [8.0, 4.0]),
        (1.0, [2.0, 2.0]),
        (1.0, [4.0, 0.5]),
    ];
    for (seed, (factor, factors)) in cases.into_iter().enumerate() {
        let (factors, motion) = (factors.to_vec(), Motion::Leaving);
        let mask = if seed == 0 { MaskRule::Sum } else { MaskRule::Last };
        let full = [16, 40];
        let recipe = Recipe { n: 2, full, features: 4, handed_on: 8, mask, factors, motion };
        check(shim, &recipe, factor, seed as u64)?;
    }
    Ok(())
}

pub fn faults() -> Vec<Fault> {
    let fault =
        |title, file, old, new| Fault { title, file, old, new, unit: "flow.cu", check: check_some };
    let (flow, sample, quad) = ("flow.cuh", "sample.cuh", "quad.cuh");
    vec![
        fault(
            "flow's x and y exchanged",
            flow,
            "full.flow.y, full.flow.x",
            "full.flow.x, full.flow.y",
        ),
        fault(
            "both frames moved by one flow",
            flow,
            "full.flow.w, full.flow.z",
            "full.flow.y, full.flow.x",
        ),
        fault(
            "features handed on read at full resolution",
            flow,
            "add_handed(handed, p, picture, y, x, p.factor,",
            "add_handed(handed, p, picture, y, x, 1.0f,",
        ),
        fault("flow in picture pixels", flow, "inverse = 1.0f / factor", "inverse = 1.0f"),
        fault(
            "the cell's first pixel for its center",
            flow,
            "rows[2] = {row.first, row.second}",
            "rows[2] = {row.first, row.first}",
        ),
        fault(
            "a square's lower row moved as the upper",
            flow,
            "row ? full[2 + column]",
            "row ? full[column]",
        ),
        fault("cells taken for shared that are not", quad, "found >= 4", "found >= 2"),
        fault("an output read as if it were the last", quad, "found == 2", "found <= 2"),
        fault("the pair's second pixel in the first's cell", quad, "right ? b : a", "a"),
        fault(
            "the pair's second row in the first's cell",
            quad,
            "down ? side[column][1]",
            "down ? side[column][0]",
        ),
        fault(
            "one weight for both columns",
            quad,
            "float x = columns.at[column].weight",
            "float x = columns.at[0].weight",
        ),
        fault(
            "masks summed that are not",
            quad,
            "if (j >= first_mask) add_masks<false>",
            "add_masks<false>",
        ),
        fault(
            "the first picture's shared flow for all",
            quad,
            "e.flow + (size_t)picture",
            "e.flow + 0 * (size_t)picture",
        ),
        fault(
            "coordinates in half precision",
            sample,
            "fmaxf((float)position + by",
            "fmaxf(__half2float(__float2half((float)position + by))",
        ),
        fault(
            "the second tap one too far",
            sample,
            "min(first + 1, n - 1), u - floorf(u)",
            "min(first + 2, n - 1), u - floorf(u)",
        ),
        fault("one output's mask left out", sample, "j >= first_mask", "j > first_mask"),
        fault(
            "the first picture's flow for all",
            sample,
            "first = (size_t)picture *",
            "first = 0 * (size_t)picture *",
        ),
        fault(
            "flows summed in their own pixels",
            sample,
            "sum.flow.z += e.factor *",
            "sum.flow.z +=",
        ),
    ]
}
