//! What refines the flows, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::fusion::refine;
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::config::settings::Sampling;
use slomod::ops::flow::{BlockOutput, MaskRule, View};
use slomod::ops::fusion::Fusion;
use slomod::ops::refine::{CELL, reference};
use slomod::ops::tensor::Tensor;

use crate::faults::Fault;
use crate::flow::{PAIRS, compare, size_for};
use crate::fusion::frames;
use crate::scenes::{Motion, OnDevice, Random, Recipe, Scene};
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;
use crate::shim::tensors::{compare_bits, download};

/// In units of a cell. Sums of some hundred products in other orders, and reads by flows of thousands of pixels whose last
/// digits differ: a thousandth of a pixel.
const TOLERANCE: f32 = 1e-3 / CELL as f32;

/// The definition's refinement of picture `index`; the scene's last output is the last block's.
pub fn expected(scene: &Scene, [height, width]: [usize; 2], index: usize) -> Tensor {
    let outputs = scene.outputs_of(index);
    let (last, earlier) = outputs.split_last().unwrap();
    let records = [&scene.records[index][0], &scene.records[index][1]];
    let views = &[View { records, timestep: scene.timesteps[index] }];
    let BlockOutput { tensor, factor } = *last;
    let (mask, sampling, refine) = (scene.mask, Sampling::Bilinear, true);
    let fusion = Fusion { views, earlier, factor, mask, sampling, refine, height, width };
    reference(&fusion, tensor)
}

fn check(
    shim: &Arc<ShimDriver>,
    recipe: &Recipe,
    frame: [usize; 2],
    seed: u64,
) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let scene = Scene::draw(recipe, &mut Random::new(seed));
    let device = OnDevice::new(&driver, &scene);
    let outputs = device.outputs();
    // How the picture reads the frames, and whether it is refined, is nothing to this.
    let (frames, last) = frames(recipe, &device, &outputs, frame, Sampling::Bicubic);
    let run = |order| {
        shim.set_order(order);
        let (mut sums, mut refined) = (DeviceTensor::default(), DeviceTensor::default());
        let ran = refine(&driver, &frames, last, &mut sums, &mut refined);
        ran.map(|()| download(&driver, &refined)).map_err(|error| error.to_string())
    };
    let all_found = run(Order::Forward)?;
    for (index, found) in all_found.iter().enumerate() {
        compare(found, &expected(&scene, frame, index), |_| TOLERANCE)
            .map_err(|at| format!("{recipe:?}, {frame:?}, seed {seed}, {index}: {at}"))?;
    }
    compare_bits(&all_found, &run(Order::Backward)?)
}

#[test]
fn refinements_are_as_defined_for_every_record_and_factor() {
    let shim = ShimDriver::new();
    let mut random = Random::new(3);
    let mut seed = 0;
    for (features, handed_on) in PAIRS {
        for count in 1..=5 {
            // A network has one at the least that is no coarser than a cell.
            let factors: Vec<f32> = (0..count)
                .map(|_| [0.5, 1.0, 2.0, 4.0, 8.0, 16.0][random.below(6)])
                .chain([4.0])
                .take(5)
                .collect();
            let full = size_for(&factors, [1 + random.below(3), 1 + random.below(5)]);
            let frame = full.map(|n| n - random.below(n.min(20)));
            let motion = [Motion::Small, Motion::Leaving, Motion::Whole][seed % 3];
            let (n, mask) = (1 + seed % 3, MaskRule::Last);
            let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
            seed += 1;
            check(&shim, &recipe, frame, seed as u64).unwrap();
        }
    }
    for (seed, full) in [[4, 4], [4, 36], [40, 4], [16, 2052]].into_iter().enumerate() {
        let (factors, motion, mask) = (vec![4.0, 1.0], Motion::Small, MaskRule::Sum);
        let recipe = Recipe { n: 1, full, features: 0, handed_on: 0, mask, factors, motion };
        check(&shim, &recipe, full, seed as u64).unwrap();
        check(&shim, &recipe, full.map(|n| n - 3), seed as u64).unwrap();
    }
}

/// What planted faults must not pass.
fn check_some(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let (factors, motion, mask) = (vec![2.0, 1.0], Motion::Small, MaskRule::Sum);
    let recipe = Recipe { n: 2, full: [36, 76], features: 4, handed_on: 0, mask, factors, motion };
    check(shim, &recipe, [30, 69], 1)
}

pub fn faults() -> Vec<Fault> {
    let fault = |title, old, new| Fault {
        title,
        file: "refine.cu",
        old,
        new,
        unit: "refine.cu",
        check: check_some,
    };
    vec![
        fault("sums before all pixels are there", "    __syncthreads();\n", ""),
        fault(
            "frames exchanged",
            "difference[row][column] = b - a",
            "difference[row][column] = a - b",
        ),
        fault(
            "pixels outside the picture",
            "if (y0 + row >= f.frame_h ||",
            "if (y0 + row >= f.full_h ||",
        ),
        fault("a row of a cell left out", "other < CELL; other *= 2", "other < 2; other *= 2"),
        fault(
            "cells outside the picture",
            "x + j >= cells_w) continue",
            "x + j > cells_w) continue",
        ),
        fault("neighbors' weights", "(i ? 1 : 2) * (j ? 1 : 2)", "(i ? 1 : 2) * (i ? 1 : 2)"),
        fault("both frames moved alike", "(1.0f - t) / CELL", "t / CELL"),
        fault("one picture of the batch", "f.views[blockIdx.z].timestep", "f.views[0].timestep"),
    ]
}
