//! The fused kernels give bit for bit what their parts give one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use slomod::backend::cuda::conv::PackedConv;
use slomod::backend::cuda::deconv::PackedDeconv;
use slomod::backend::cuda::driver::{DeviceDescription, Driver};
use slomod::backend::cuda::flow::{Inputs, input_order, stage, stage_conv};
use slomod::backend::cuda::fusion::{Frames, Scratch, deconv_fusion, fusion, refine};
use slomod::backend::cuda::instances::{self, Choice, Instance, Kind, Work, choose};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::config::settings::Sampling;
use slomod::ops;
use slomod::ops::conv::{Activation, ConvWeights, Residual, Stride};
use slomod::ops::deconv::{DeconvWeights, Shuffle};
use slomod::ops::flow::MaskRule;
use slomod::ops::tensor::Tensor;

use crate::faults::Fault;
use crate::flow::{PAIRS, both_orders, compare, halving, size_for};
use crate::fusion::{SAMPLINGS, expected};
use crate::scenes::{
    Motion, OnDevice, Random, Recipe, Scene, download_bytes, instances as names, pictures, rounded,
    upload_half,
};
use crate::shim::driver::{ShimDriver, h200, turing};
use crate::shim::library::Order;

fn values(random: &mut Random, count: usize, reach: f32) -> Vec<f32> {
    (0..count).map(|_| rounded(random.between(-reach, reach))).collect()
}

fn first_conv(random: &mut Random, in_channels: usize, out_channels: usize) -> ConvWeights {
    let activation = match random.below(2) {
        0 => Activation::LeakyRelu,
        _ => Activation::Prelu(values(random, out_channels, 0.5)),
    };
    ConvWeights {
        in_channels,
        out_channels,
        stride: Stride::Two,
        weight: values(random, out_channels * in_channels * 9, 0.2),
        bias: values(random, out_channels, 0.5),
        activation,
        residual: Residual::None,
    }
}

/// Between the least and the most shared memory.
fn ada() -> DeviceDescription {
    DeviceDescription { capability: (8, 9), shared_bytes: 99 << 10, ..h200() }
}

/// A convolution that sums channels one after the other, as the fused kernels do.
fn in_order(conv: &PackedConv, shim: &ShimDriver) -> Choice {
    let serves = |it: &Instance| {
        it.kind == Kind::Conv
            && (it.stride, it.groups) == (2, 1)
            && conv.cout().is_multiple_of(it.nb)
    };
    let candidates: Vec<Instance> = instances::all().into_iter().filter(serves).collect();
    let work = Work { n: 1, size: [8, 16], cin: conv.cin(), cout: conv.cout() };
    choose(&candidates, &work, shim.description()).unwrap()
}

fn check_stage_conv(
    description: DeviceDescription,
    recipe: &Recipe,
    factor: f32,
    out_channels: usize,
    seed: u64,
) -> BTreeSet<String> {
    let shim = ShimDriver::with(description);
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(seed);
    let scene = Scene::draw(recipe, &mut random);
    let device = OnDevice::new(&driver, &scene);
    let inputs = Inputs {
        views: device.views(),
        n: recipe.n,
        full: recipe.full,
        features: recipe.features,
        factor,
        earlier: &device.outputs(),
        mask: recipe.mask,
        handed_on: recipe.handed_on,
    };
    let weights = first_conv(&mut random, inputs.channels(), out_channels);
    let conv = PackedConv::new(&driver, &weights, &input_order(inputs.channels())).unwrap();
    let (mut staged, mut expected) = (DeviceTensor::default(), DeviceTensor::default());
    stage(&driver, &inputs, &mut staged).unwrap();
    // A fused kernel sums channels one after the other; the kernels one by one are those that are chosen.
    let mut fused = DeviceTensor::default();
    stage_conv(&driver, &inputs, &conv, &mut DeviceTensor::default(), &mut fused).unwrap();
    let is_fused = shim.launched().iter().any(|name| name.starts_with("stage_conv"));
    let choice = match is_fused {
        true => in_order(&conv, &shim),
        false => conv.choice(&driver, recipe.n, [staged.h, staged.w]).unwrap(),
    };
    conv.run_with(&driver, choice, &staged, &mut expected).unwrap();
    let expected = download_bytes(&driver, &expected);
    for order in [Order::Forward, Order::Backward] {
        shim.set_order(order);
        let (mut scratch, mut output) = (DeviceTensor::default(), DeviceTensor::default());
        stage_conv(&driver, &inputs, &conv, &mut scratch, &mut output).unwrap();
        let found = download_bytes(&driver, &output);
        assert!(
            found == expected,
            "{recipe:?}, factor {factor}, {out_channels} channels, {order:?}"
        );
    }
    shim.launched()
}

#[test]
fn gathering_convolutions_equal_gather_then_convolution() {
    let mut launched = BTreeSet::new();
    let mut random = Random::new(10);
    let mut seed = 0;
    for device in [h200(), turing(), ada()] {
        for (features, handed_on) in PAIRS {
            for (channels, factor) in
                [(16, 1.0), (16, 2.0), (32, 1.0), (32, 0.5), (48, 1.0), (48, 2.0)]
            {
                seed += 1;
                // As networks have them, or anything.
                let count = 1 + random.below(4);
                let factors: Vec<f32> = match random.below(2) {
                    0 => halving(factor, count.min(3)),
                    _ => (0..count).map(|_| [4.0, 2.0, 1.0][random.below(3)]).collect(),
                };
                let with_own: Vec<f32> = factors.iter().copied().chain([factor]).collect();
                let cells = [1 + random.below(11), 1 + random.below(20)];
                let full = size_for(&with_own, cells);
                let mask = [MaskRule::Sum, MaskRule::Last][random.below(2)];
                let (n, motion) = (1 + random.below(2), Motion::Leaving);
                let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
                let channels = channels - random.below(8);
                launched.extend(check_stage_conv(device.clone(), &recipe, factor, channels, seed));
            }
        }
    }
    for name in names("STAGE_CONV") {
        assert!(launched.contains(&name), "{name} was not tried");
    }
}

#[test]
fn coarse_blocks_and_wide_layers_go_through_memory() {
    let (n, features, handed_on, mask, motion) = (1, 4, 8, MaskRule::Last, Motion::Small);
    for (factor, factors, channels) in
        [(4.0, vec![4.0], 32), (1.0, vec![2.0], 64), (8.0, vec![], 48)]
    {
        let full = [16, 32];
        let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
        let launched = check_stage_conv(h200(), &recipe, factor, channels, 1);
        assert!(!launched.iter().any(|name| name.starts_with("stage_conv")), "none fused");
    }
}

fn last_deconv(random: &mut Random, in_channels: usize, channels: usize) -> DeconvWeights {
    DeconvWeights {
        in_channels,
        out_channels: 4 * channels,
        weight: values(random, in_channels * 4 * channels * 16, 0.1),
        bias: values(random, 4 * channels, 0.5),
        shuffle: Shuffle::ByTwo,
    }
}

/// Input of the last block's end, `[h, w, in_channels]`, and the frame it makes.
struct End {
    in_channels: usize,
    channels: usize,
    frame: [usize; 2],
}

fn check_deconv_fusion(shim: &Arc<ShimDriver>, recipe: &Recipe, end: &End, seed: u64) {
    for sampling in SAMPLINGS {
        for refined in [false, true] {
            check_read(shim, recipe, end, (sampling, refined), seed);
        }
    }
}

fn check_read(
    shim: &Arc<ShimDriver>,
    recipe: &Recipe,
    end: &End,
    (sampling, refined): (Sampling, bool),
    seed: u64,
) {
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(seed);
    let scene = Scene::draw(recipe, &mut random);
    let device = OnDevice::new(&driver, &scene);
    let frames = Frames {
        views: device.views(),
        n: recipe.n,
        full: recipe.full,
        frame: end.frame,
        features: recipe.features,
        earlier: &device.outputs(),
        mask: recipe.mask,
        sampling,
        refine: refined,
        factor: 1.0,
    };
    let weights = last_deconv(&mut random, end.in_channels, end.channels);
    let deconv = PackedDeconv::new(&driver, &weights).unwrap();
    let [h, w] = recipe.full.map(|n| n / 4);
    let batch = (0..recipe.n).map(|_| Tensor {
        h,
        w,
        c: end.in_channels,
        data: values(&mut random, h * w * end.in_channels, 1.0),
    });
    let batch: Vec<Tensor> = batch.collect();
    let pictures: Vec<&Tensor> = batch.iter().collect();
    let input = upload_half(&driver, &pictures, end.in_channels.next_multiple_of(16));
    let (mut output, mut expected) = (DeviceTensor::default(), DeviceTensor::default());
    deconv.run(&driver, &input, &mut output).unwrap();
    let (mut sums, mut by) = (DeviceTensor::default(), DeviceTensor::default());
    if refined {
        refine(&driver, &frames, &output, &mut sums, &mut by).unwrap();
    }
    fusion(&driver, &frames, &output, refined.then_some(&by), &mut expected).unwrap();
    let expected = download_bytes(&driver, &expected);
    for order in [Order::Forward, Order::Backward] {
        shim.set_order(order);
        let (mut scratch, mut image) = (Scratch::default(), DeviceTensor::default());
        deconv_fusion(&driver, &deconv, &input, &frames, &mut scratch, &mut image).unwrap();
        assert!(download_bytes(&driver, &image) == expected, "{recipe:?}, {order:?}");
    }
}

#[test]
fn the_fused_end_equals_transposed_convolution_then_picture() {
    let shim = ShimDriver::new();
    let mut random = Random::new(11);
    let mut seed = 0;
    for (features, handed_on) in PAIRS {
        for in_channels in [16, 28, 48, 64] {
            seed += 1;
            // As networks have them, or anything.
            let (any, count) = (random.below(2) == 0, random.below(5));
            let factors: Vec<f32> = if any {
                (0..count).map(|_| [4.0, 2.0, 1.0, 0.5][random.below(4)]).collect()
            } else {
                halving(1.0, count)
            };
            let cell = if any { 4 } else { size_for(&factors, [1, 1])[0].max(4) };
            let full = [1 + random.below(44 / cell), 1 + random.below(80 / cell)].map(|n| cell * n);
            let frame = full.map(|n| n - random.below(4));
            let mask = [MaskRule::Sum, MaskRule::Last][random.below(2)];
            let (n, motion) = (1 + random.below(2), Motion::Leaving);
            let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
            let end = End { in_channels, channels: 5 + random.below(2), frame };
            check_deconv_fusion(&shim, &recipe, &end, seed);
        }
    }
    for kernel in ["deconv_fusion", "deconv_fusion_cubic"] {
        assert!(shim.launched().contains(kernel), "{kernel} was tried");
    }
}

#[test]
fn wide_ends_go_through_memory() {
    for (device, in_channels) in [(h200(), 96), (turing(), 64)] {
        let shim = ShimDriver::with(device);
        let (full, mask, motion) = ([8, 12], MaskRule::Last, Motion::Small);
        let factors = vec![2.0];
        let recipe = Recipe { n: 1, full, features: 4, handed_on: 0, mask, factors, motion };
        let end = End { in_channels, channels: 5, frame: full };
        check_deconv_fusion(&shim, &recipe, &end, 1);
        let fused = shim.launched().iter().any(|name| name.starts_with("deconv_fusion"));
        assert!(!fused, "{in_channels} channels");
    }
}

/// Instances that planted faults are compiled with.
pub const FAULTY: &[&str] = &["stage_conv_f4_h8_n16_8x16_whole"];
/// Products of halves, rounded to half between; a fault is far beyond it.
const FAULT_TOLERANCE: f32 = 1e-2;

/// Against the definitions, as only one file of kernels is there.
fn check_one_stage_conv(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let (factors, motion, mask) = (vec![2.0, 1.0], Motion::Small, MaskRule::Sum);
    let (n, full, features, handed_on) = (2, [22, 70], 4, 8);
    let mut random = Random::new(12);
    let recipe = Recipe { n, full, features, handed_on, mask, factors, motion };
    let scene = Scene::draw(&recipe, &mut random);
    let device = OnDevice::new(&driver, &scene);
    let (views, earlier) = (device.views(), device.outputs());
    let earlier = &earlier;
    let inputs = Inputs { views, n, full, features, factor: 1.0, earlier, mask, handed_on };
    let weights = first_conv(&mut random, inputs.channels(), 16);
    let conv = PackedConv::new(&driver, &weights, &input_order(inputs.channels())).unwrap();
    let (bytes, output) = both_orders(shim, |output| {
        stage_conv(&driver, &inputs, &conv, &mut DeviceTensor::default(), output)
    })?;
    for (index, found) in pictures(&bytes, &output).iter().enumerate() {
        let mut input = scene.block_input(index, 1.0);
        input.data.iter_mut().for_each(|value| *value = rounded(*value));
        let mut expected = Tensor::default();
        ops::conv::reference(&weights, &input, &mut expected);
        compare(found, &expected, |value| FAULT_TOLERANCE * (1.0 + value.abs()))?;
    }
    Ok(())
}

fn check_one_end(shim: &Arc<ShimDriver>) -> Result<(), String> {
    SAMPLINGS.iter().try_for_each(|sampling| check_one_end_read(shim, *sampling))
}

fn check_one_end_read(shim: &Arc<ShimDriver>, sampling: Sampling) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let (factors, motion, mask) = (vec![2.0, 1.0], Motion::Small, MaskRule::Sum);
    let (n, full, features) = (2, [44, 76], 4);
    let mut random = Random::new(13);
    let recipe = Recipe { n, full, features, handed_on: 0, mask, factors, motion };
    let mut scene = Scene::draw(&recipe, &mut random);
    let device = OnDevice::new(&driver, &scene);
    let (views, earlier, frame) = (device.views(), device.outputs(), [43, 74]);
    let earlier = &earlier;
    let (refine, factor) = (false, 1.0);
    let frames =
        Frames { views, n, full, frame, features, earlier, mask, sampling, refine, factor };
    let weights = last_deconv(&mut random, 32, 5);
    let deconv = PackedDeconv::new(&driver, &weights).unwrap();
    let [h, w] = full.map(|n| n / 4);
    let batch = [0; 2].map(|_| Tensor { h, w, c: 32, data: values(&mut random, h * w * 32, 1.0) });
    let input = upload_half(&driver, &[&batch[0], &batch[1]], 32);
    let (bytes, image) = both_orders(shim, |image| {
        deconv_fusion(&driver, &deconv, &input, &frames, &mut Scratch::default(), image)
    })?;
    let last = batch.map(|input| {
        let mut output = Tensor::default();
        ops::deconv::reference(&weights, &input, &mut output);
        output
    });
    scene.outputs.push((1.0, last.to_vec()));
    for (index, found) in pictures(&bytes, &image).iter().enumerate() {
        compare(found, &expected(&scene, frame, sampling, index), |_| FAULT_TOLERANCE)?;
    }
    Ok(())
}

#[test]
fn fused_kernels_are_as_defined() {
    let shim = ShimDriver::new();
    check_one_stage_conv(&shim).unwrap();
    check_one_end(&shim).unwrap();
}

pub fn faults() -> Vec<Fault> {
    let conv = |title, old, new| Fault {
        title,
        file: "stage_conv.cu",
        old,
        new,
        unit: "stage_conv.cu",
        check: check_one_stage_conv,
    };
    let end = |title, old, new| Fault {
        title,
        file: "deconv_fusion.cu",
        old,
        new,
        unit: "deconv_fusion.cu",
        check: check_one_end,
    };
    vec![
        conv(
            "no barrier behind the gather",
            "cp_async_wait<0>();\n    __syncthreads();\n    float acc",
            "cp_async_wait<0>();\n    float acc",
        ),
        conv(
            "weights not waited for",
            "cp_async_wait<0>();\n    __syncthreads();",
            "__syncthreads();",
        ),
        conv(
            "squares outside not cleared",
            "c >= 0 && !inside(y0 + r, x0 + c)) put",
            "c < 0 && !inside(y0 + r, x0 + c)) put",
        ),
        conv(
            "pixels before the halo gathered into it",
            "return row + down >= 0 && col + across >= 0 &&",
            "return row + down >= 0 &&",
        ),
        conv(
            "two pieces of a chunk exchanged",
            "halo_offset<T>(row, col, piece & 1)",
            "halo_offset<T>(row, col, ~piece & 1)",
        ),
        conv("one picture of the batch", "p, blockIdx.z, y, x,\n", "p, 0, y, x,\n"),
        end(
            "weights replaced while in use",
            "__syncthreads();  // all warps",
            "__syncwarp();  // all warps",
        ),
        end(
            "weights not waited for",
            "cp_async_wait<0>();\n        __syncthreads();",
            "__syncthreads();",
        ),
        end(
            "phases staged in each other's place",
            "2 * phase_column + (sub & 1)",
            "phase_column + 2 * (sub & 1)",
        ),
        end(
            "the last block's mask left out",
            "motion[i].mask += mask",
            "motion[i].mask += 0 * mask",
        ),
        end(
            "the row of phases not shifted",
            "halo + chunk * T::HALO_BYTES + phase_row * T::HALO_ROW_BYTES",
            "halo + chunk * T::HALO_BYTES",
        ),
    ]
}
