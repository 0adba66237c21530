//! The picture from stored block outputs, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::fusion::{Frames, fusion};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::config::settings::Sampling;
use slomod::ops::flow::{BlockOutput, MaskRule, View};
use slomod::ops::fusion::{Fusion, reference};
use slomod::ops::tensor::Tensor;

use crate::faults::Fault;
use crate::flow::{FACTORS, PAIRS, both_orders, compare, size_for, tolerance};
use crate::scenes::{Motion, OnDevice, Random, Recipe, Scene, pictures};
use crate::shim::driver::ShimDriver;

/// Both ways to read the frames.
pub const SAMPLINGS: [Sampling; 2] = [Sampling::Bilinear, Sampling::Bicubic];

const MOTIONS: [Motion; 4] = [Motion::Small, Motion::Leaving, Motion::Huge, Motion::Whole];

/// The definition's picture `index`; the scene's last output is the last block's.
pub fn expected(scene: &Scene, frame: [usize; 2], sampling: Sampling, index: usize) -> Tensor {
    let outputs = scene.outputs_of(index);
    let (last, earlier) = outputs.split_last().unwrap();
    let [height, width] = frame;
    let mut picture = Tensor::zeros(height, width, 3);
    let records = [&scene.records[index][0], &scene.records[index][1]];
    let views = &[View { records, timestep: scene.timesteps[index] }];
    let BlockOutput { tensor, factor } = *last;
    let (mask, refine) = (scene.mask, false);
    let fusion = Fusion { views, earlier, factor, mask, sampling, refine, height, width };
    reference(&fusion, tensor, &mut picture.data);
    picture
}

fn check(
    shim: &Arc<ShimDriver>,
    recipe: &Recipe,
    frame: [usize; 2],
    seed: u64,
) -> Result<(), String> {
    SAMPLINGS.iter().try_for_each(|sampling| check_read(shim, recipe, frame, *sampling, seed))
}

/// What the end of the network works on, and the last of `outputs`, which is the last block's.
pub fn frames<'a>(
    recipe: &Recipe,
    device: &OnDevice,
    outputs: &'a [BlockOutput<'a, DeviceTensor>],
    frame: [usize; 2],
    sampling: Sampling,
) -> (Frames<'a>, &'a DeviceTensor) {
    let (last, earlier) = outputs.split_last().unwrap();
    let frames = Frames {
        views: device.views(),
        n: recipe.n,
        full: recipe.full,
        frame,
        features: recipe.features,
        earlier,
        mask: recipe.mask,
        sampling,
        refine: false,
        factor: last.factor,
    };
    (frames, last.tensor)
}

fn check_read(
    shim: &Arc<ShimDriver>,
    recipe: &Recipe,
    frame: [usize; 2],
    sampling: Sampling,
    seed: u64,
) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let scene = Scene::draw(recipe, &mut Random::new(seed));
    let device = OnDevice::new(&driver, &scene);
    let outputs = device.outputs();
    let (frames, last) = frames(recipe, &device, &outputs, frame, sampling);
    let (bytes, image) = both_orders(shim, |image| fusion(&driver, &frames, last, None, image))?;
    let reach = recipe.motion.reach_px() * recipe.factors.len() as f32;
    for (index, found) in pictures(&bytes, &image).iter().enumerate() {
        compare(found, &expected(&scene, frame, sampling, index), |v| {
            tolerance(v, recipe.full, reach)
        })
        .map_err(|at| format!("{recipe:?}, {frame:?}, {sampling:?}, seed {seed}, {index}: {at}"))?;
    }
    Ok(())
}

#[test]
fn pictures_are_as_defined_for_every_record_and_factor() {
    let shim = ShimDriver::new();
    let mut random = Random::new(2);
    let mut seed = 0;
    for (features, handed_on) in PAIRS {
        for count in 1..=5 {
            let factors: Vec<f32> =
                (0..count).map(|_| FACTORS[random.below(FACTORS.len())]).collect();
            let full = size_for(&factors, [1 + random.below(3), 1 + random.below(3)]);
            let frame = full.map(|n| n - random.below(n.min(20)));
            let mask = [MaskRule::Sum, MaskRule::Last][seed % 2];
            let (n, motion) = (1 + seed % 3, MOTIONS[seed % MOTIONS.len()]);
            let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
            seed += 1;
            check(&shim, &recipe, frame, seed as u64).unwrap();
        }
    }
}

#[test]
fn tiny_and_wide_pictures_are_as_defined() {
    let shim = ShimDriver::new();
    for (seed, full) in [[1, 1], [1, 9], [35, 1], [3, 4355]].into_iter().enumerate() {
        let (factors, motion, mask) = (vec![1.0, 0.5, 1.0], Motion::Small, MaskRule::Sum);
        let recipe = Recipe { n: 1, full, features: 0, handed_on: 0, mask, factors, motion };
        check(&shim, &recipe, full, seed as u64).unwrap();
    }
}

/// What planted faults must not pass.
fn check_some(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let (factors, motion, mask) = (vec![2.0, 1.0], Motion::Leaving, MaskRule::Sum);
    let recipe = Recipe { n: 2, full: [6, 34], features: 4, handed_on: 0, mask, factors, motion };
    check(shim, &recipe, [5, 33], 1)
}

pub fn faults() -> Vec<Fault> {
    let fault = |title, file, old, new| Fault {
        title,
        file,
        old,
        new,
        unit: "fusion.cu",
        check: check_some,
    };
    vec![
        fault(
            "frames exchanged in the blend",
            "fusion.cuh",
            "a.y * m + b.y * rest",
            "a.y * rest + b.y * m",
        ),
        fault("the mask's sign", "fusion.cuh", "expf(-motion.mask)", "expf(motion.mask)"),
        fault("a tap of the cubic", "sample.cuh", "max(tap.first - 1, 0)", "max(tap.first - 2, 0)"),
        fault(
            "a weight of the cubic",
            "sample.cuh",
            "(0.5f * t - 0.5f) * t * t",
            "(0.5f * t - 0.5f) * t",
        ),
        fault(
            "the border of the cubic",
            "sample.cuh",
            "min(tap.first + 2, n - 1)",
            "min(tap.first + 2, n)",
        ),
        fault("the padded picture's rows", "fusion.cu", "* p.frame_w + x]", "* p.full_w + x]"),
        fault("one picture of the batch", "fusion.cu", "p.views[picture]", "p.views[0]"),
    ]
}
