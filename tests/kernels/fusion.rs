//! The picture from stored block outputs, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::fusion::{Frames, fusion};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::ops::flow::{BlockOutput, MaskRule, View};
use slomod::ops::fusion::{Fusion, reference};
use slomod::ops::tensor::Tensor;

use crate::flow::{FACTORS, PAIRS, compare, size_for, tolerance};
use crate::scenes::{Motion, OnDevice, Random, Recipe, Scene, download_bytes, pictures};
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

const MOTIONS: [Motion; 4] = [Motion::Small, Motion::Leaving, Motion::Huge, Motion::Whole];

/// The definition's picture `index`; the scene's last output is the last block's.
pub fn expected(scene: &Scene, frame: [usize; 2], index: usize) -> Tensor {
    let outputs = scene.outputs_of(index);
    let (last, earlier) = outputs.split_last().unwrap();
    let [height, width] = frame;
    let mut picture = Tensor::zeros(height, width, 3);
    let records = [&scene.records[index][0], &scene.records[index][1]];
    let views = &[View { records, timestep: scene.timesteps[index] }];
    let BlockOutput { tensor, factor } = *last;
    let fusion = Fusion { views, earlier, factor, mask: scene.mask, height, width };
    reference(&fusion, tensor, &mut picture.data);
    picture
}

fn check(shim: &Arc<ShimDriver>, recipe: &Recipe, frame: [usize; 2], seed: u64) {
    let driver: Arc<dyn Driver> = shim.clone();
    let scene = Scene::draw(recipe, &mut Random::new(seed));
    let device = OnDevice::new(&driver, &scene);
    let outputs = device.outputs();
    let (last, earlier) = outputs.split_last().unwrap();
    let frames = Frames {
        views: device.views(),
        n: recipe.n,
        full: recipe.full,
        frame,
        features: recipe.features,
        earlier,
        mask: recipe.mask,
        factor: last.factor,
    };
    let runs = [Order::Forward, Order::Backward].map(|order| {
        shim.set_order(order);
        let mut image = DeviceTensor::default();
        fusion(&driver, &frames, last.tensor, &mut image).unwrap();
        (download_bytes(&driver, &image), image)
    });
    let [(bytes, image), (backward, _)] = runs;
    assert_eq!(bytes, backward, "{recipe:?}: the order of threads shows");
    let reach = recipe.motion.reach_px() * recipe.factors.len() as f32;
    for (index, found) in pictures(&bytes, &image).iter().enumerate() {
        compare(found, &expected(&scene, frame, index), |v| tolerance(v, recipe.full, reach))
            .unwrap_or_else(|at| panic!("{recipe:?}, {frame:?}, seed {seed}, {index}: {at}"));
    }
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
            check(&shim, &recipe, frame, seed as u64);
        }
    }
}

#[test]
fn tiny_and_wide_pictures_are_as_defined() {
    let shim = ShimDriver::new();
    for (seed, full) in [[1, 1], [1, 9], [35, 1], [3, 4355]].into_iter().enumerate() {
        let (factors, motion, mask) = (vec![1.0, 0.5, 1.0], Motion::Small, MaskRule::Sum);
        let recipe = Recipe { n: 1, full, features: 0, handed_on: 0, mask, factors, motion };
        check(&shim, &recipe, full, seed as u64);
    }
}
