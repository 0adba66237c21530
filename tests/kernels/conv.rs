//! The convolution's kernels against `ops::conv::reference`.

use std::sync::Arc;

use slomod::backend::cuda::conv::{self, PackedConv};
use slomod::backend::cuda::driver::{DeviceDescription, Driver};
use slomod::backend::cuda::instances::{self, Choice, Instance, Kind};
use slomod::backend::cuda::tensor::Tensor;
use slomod::ops::conv::{Activation, ConvWeights, Residual, Stride, reference};
use slomod::ops::tensor::Tensor as Plain;

use crate::common::Random;
use crate::faults::Fault;
use crate::shim::driver::{ShimDriver, h200, turing};
use crate::shim::library::Order;
use crate::shim::tensors::{HALF_ROUNDING, compare, compare_bits, download, rounded, upload};

/// The result is rounded to half once; twice that leaves room for sums that lie between two halves.
const RELATIVE: f32 = 2.0 * HALF_ROUNDING;
/// Sums of up to 3456 products of order one, scaled to order one, in another order.
const ABSOLUTE: f32 = 2e-4;

/// Values of the network's order, as halves hold them.
pub fn picture(h: usize, w: usize, c: usize, random: &mut Random) -> Plain {
    Plain { h, w, c, data: (0..h * w * c).map(|_| rounded(random.next())).collect() }
}

/// Weights that keep values of order one.
pub fn weights(
    [ins, outs]: [usize; 2],
    stride: Stride,
    residual: Residual,
    activation: Activation,
    random: &mut Random,
) -> ConvWeights {
    let scale = (3.0 / (9 * ins) as f32).sqrt();
    ConvWeights {
        in_channels: ins,
        out_channels: outs,
        weight: (0..outs * ins * 9).map(|_| rounded(scale * random.next())).collect(),
        bias: (0..outs).map(|_| random.next()).collect(),
        stride,
        residual,
        activation,
    }
}

/// One convolution of a batch in both thread orders against the definition.
struct Case {
    weights: ConvWeights,
    n: usize,
    size: [usize; 2],
    choice: Option<Choice>,
}

fn check(shim: &Arc<ShimDriver>, case: &Case) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let Case { weights, n, size: [h, w], choice } = case;
    let ins = weights.in_channels;
    let mut random = Random::new((ins * 31 + h * 7 + w) as u64);
    let pictures: Vec<_> = (0..*n).map(|_| picture(*h, *w, ins, &mut random)).collect();
    let stored = ins.next_multiple_of(16);
    let input = upload(&driver, &pictures, stored);
    let packed = PackedConv::new(&driver, weights, &conv::plain_order(ins, stored));
    let packed = packed.map_err(|error| error.to_string())?;
    let run = |order| -> Result<Vec<Plain>, String> {
        shim.set_order(order);
        let mut output = Tensor::default();
        let ran = match choice {
            Some(choice) => packed.run_with(&driver, *choice, &input, &mut output),
            None => packed.run(&driver, &input, &mut output),
        };
        ran.map_err(|error| error.to_string())?;
        Ok(download(&driver, &output))
    };
    let got = run(Order::Forward)?;
    let place = |what: String| {
        let Case { weights: ConvWeights { out_channels, stride, residual, .. }, .. } = case;
        let name = choice.map(|it| (it.instance.name, it.stages));
        format!(
            "{name:?} {ins} to {out_channels}, {stride:?}, {residual:?}, {n} x {h} x {w}: {what}"
        )
    };
    for (got, picture) in got.iter().zip(&pictures) {
        let mut want = Plain::default();
        reference(weights, picture, &mut want);
        compare(got, &want, RELATIVE, ABSOLUTE).map_err(place)?;
    }
    compare_bits(&got, &run(Order::Backward)?).map_err(place)
}

fn of_stride(step: usize) -> Stride {
    if step == 1 { Stride::One } else { Stride::Two }
}

/// An instance at sizes round its tile, with one to three stages, all activations, with and without residual.
fn check_instance(shim: &Arc<ShimDriver>, instance: Instance) -> Result<(), String> {
    let mut random = Random::new(instance.nb as u64);
    let [tile_h, tile_w] = instance.tile.map(|side| side * instance.stride);
    let slopes: Vec<_> = (0..2 * instance.nb).map(|_| random.next()).collect();
    let prelu = Activation::Prelu(slopes);
    let cases = [
        (1, 48, instance.nb, [tile_h + 1, tile_w + 3], Activation::LeakyRelu),
        (1, 16, 2 * instance.nb, [1, 1], prelu),
        (3, 40, instance.nb - 6, [5, 3], Activation::None),
        (1, 64, instance.nb, [tile_h, tile_w], Activation::LeakyRelu),
    ];
    for (index, (n, ins, outs, size, activation)) in cases.into_iter().enumerate() {
        let chunks = usize::div_ceil(ins, 16);
        let stages = (index + 1).min(chunks);
        let shared_bytes = instance.shared_bytes(stages);
        let choice = Some(Choice { instance, stages, shared_bytes });
        let stride = of_stride(instance.stride);
        let weights = weights([ins, outs], stride, Residual::None, activation, &mut random);
        check(shim, &Case { weights, n, size, choice })?;
    }
    if instance.stride == 1 {
        let (outs, stages) = (2 * instance.nb, 2);
        let shared_bytes = instance.shared_bytes(stages);
        let choice = Some(Choice { instance, stages, shared_bytes });
        let activation = Activation::LeakyRelu;
        let weights = weights([outs, outs], Stride::One, Residual::Input, activation, &mut random);
        check(shim, &Case { weights, n: 1, size: [tile_h + 1, tile_w + 1], choice })?;
    }
    Ok(())
}

fn conv_instances() -> Vec<Instance> {
    instances::all().into_iter().filter(|it| it.kind == Kind::Conv).collect()
}

#[test]
fn every_instance_equals_the_definition_without_a_bank_conflict() {
    let shim = ShimDriver::new();
    for instance in conv_instances() {
        check_instance(&shim, instance).unwrap();
    }
    let launched = shim.launched();
    for instance in conv_instances() {
        assert!(launched.contains(instance.name), "{} was not run", instance.name);
    }
    shim.assert_no_bank_conflicts();
}

#[test]
fn every_released_width_runs_on_large_and_small_devices() {
    let least = DeviceDescription { shared_bytes: 48 << 10, multiprocessors: 1, ..turing() };
    for device in [h200(), turing(), least] {
        let shim = ShimDriver::with(device);
        let mut random = Random::new(1);
        for width in [16, 24, 32, 48, 64, 96, 128, 192, 256, 384] {
            let half = width / 2;
            let (leaky, two) = (Activation::LeakyRelu, Stride::Two);
            let down = weights([half, width], two, Residual::None, leaky.clone(), &mut random);
            check(&shim, &Case { weights: down, n: 1, size: [5, 3], choice: None }).unwrap();
            let chain = weights([width; 2], Stride::One, Residual::Input, leaky, &mut random);
            check(&shim, &Case { weights: chain, n: 1, size: [3, 5], choice: None }).unwrap();
        }
    }
}

#[test]
fn channels_of_the_input_may_lie_in_any_order() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(2);
    let weights = weights([3, 16], Stride::Two, Residual::None, Activation::None, &mut random);
    let picture = picture(6, 7, 3, &mut random);
    // In memory: nothing, 2, 0, nothing, 1.
    let order = [None, Some(2), Some(0), None, Some(1)];
    let mut stored = Plain::zeros(6, 7, order.len());
    for (to, from) in stored.data.chunks_exact_mut(5).zip(picture.data.chunks_exact(3)) {
        (to[1], to[2], to[4], to[3]) = (from[2], from[0], from[1], 7.0);
    }
    let packed = PackedConv::new(&driver, &weights, &order).unwrap();
    let mut output = Tensor::default();
    packed.run(&driver, &upload(&driver, &[stored], 16), &mut output).unwrap();
    let mut want = Plain::default();
    reference(&weights, &picture, &mut want);
    compare(&download(&driver, &output)[0], &want, RELATIVE, ABSOLUTE).unwrap();
}

#[test]
fn large_pictures_get_large_tiles_and_coarse_blocks_many_small_ones() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let chosen = |width: usize, size| {
        let mut random = Random::new(3);
        let activation = Activation::LeakyRelu;
        let weights = weights([width; 2], Stride::One, Residual::Input, activation, &mut random);
        let order = conv::plain_order(width, width);
        PackedConv::new(&driver, &weights, &order).unwrap().choice(&driver, 1, size).unwrap()
    };
    let blocks = |choice: Choice, width: usize, size| {
        let [across, down] = choice.instance.tiles(size);
        (across * down) as usize * width / choice.instance.nb
    };
    let coarse = chosen(192, [17, 30]);
    assert!(blocks(coarse, 192, [17, 30]) >= 60, "{coarse:?} leaves half of 132 idle");
    let fine = chosen(64, [272, 480]);
    assert_eq!((fine.instance.nb, fine.instance.tile), (64, [16, 16]), "{fine:?}");
    assert!(fine.stages >= 2, "{fine:?} loads nothing ahead");
}

#[test]
fn a_device_without_shared_memory_is_refused_in_words() {
    let shim = ShimDriver::with(DeviceDescription { shared_bytes: 4096, ..h200() });
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(4);
    let weights = weights([16, 16], Stride::One, Residual::None, Activation::None, &mut random);
    let packed = PackedConv::new(&driver, &weights, &conv::plain_order(16, 16)).unwrap();
    let error = packed.choice(&driver, 1, [8, 8]).unwrap_err().to_string();
    assert!(error.contains("4096 bytes of shared memory"), "{error}");
}

#[test]
fn the_sum_of_two_tensors_is_rounded_once() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(5);
    let pictures: Vec<_> = (0..4).map(|_| picture(5, 7, 24, &mut random)).collect();
    let from = upload(&driver, &pictures[..2], 32);
    let mut to = upload(&driver, &pictures[2..], 32);
    conv::add(&driver, &from, &mut to).unwrap();
    for (i, got) in download(&driver, &to).iter().enumerate() {
        let mut want = pictures[i].clone();
        let sum = |(a, b): (&mut f32, &f32)| *a = rounded(*a + b);
        want.data.iter_mut().zip(&pictures[i + 2].data).for_each(sum);
        compare(got, &want, 0.0, 0.0).unwrap();
    }
}

/// Instances that the planted faults are compiled for.
pub const FAULTY: [&str; 3] = ["conv_3x3_n32_8x16", "conv_3x3_s2_n16_4x16", "conv_3x3_n32_4x16_g2"];

fn check_faulty(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let instances = conv_instances().into_iter().filter(|it| FAULTY.contains(&it.name));
    instances.into_iter().try_for_each(|instance| check_instance(shim, instance))
}

/// What must be noticed.
pub fn faults() -> Vec<Fault> {
    let fault = |title, file, old, new| Fault {
        title,
        file,
        old,
        new,
        unit: "conv.cu",
        check: check_faulty,
    };
    vec![
        fault(
            "a chunk is used before all have loaded it",
            "tile.cuh",
            "__syncthreads();  // chunk c is",
            "// chunk c is",
        ),
        fault(
            "the only stage is used before all have loaded it",
            "tile.cuh",
            "__syncthreads();  // the only",
            "// the only",
        ),
        fault(
            "one group too few is waited for",
            "tile.cuh",
            "wait_for_all_but(stages - 2)",
            "wait_for_all_but(stages - 1)",
        ),
        fault(
            "a stage is overwritten while in use",
            "tile.cuh",
            "slot == 0 ? stages - 1 : slot - 1",
            "slot",
        ),
        fault(
            "the halo begins a row late",
            "conv.cuh",
            "T::TILE_H * T::STRIDE - 1, x0",
            "T::TILE_H * T::STRIDE, x0",
        ),
        fault(
            "the halo lacks its last row",
            "tile.cuh",
            "PIECES = T::HALO_H * T::HALO_W * 2",
            "PIECES = (T::HALO_H - 1) * T::HALO_W * 2",
        ),
        fault(
            "the right border reads the row after",
            "tile.cuh",
            "x >= 0 && x < w",
            "x >= 0 && x <= w",
        ),
        fault(
            "pieces lie elsewhere than they are read",
            "tile.cuh",
            "(lane & 15) * T::STRIDE + c, lane >> 4)",
            "(lane & 15) * T::STRIDE + c, lane >> 4) ^ 16",
        ),
        fault(
            "a tap reads its neighbor",
            "tile.cuh",
            "column[tap % SIDE] + tap / SIDE",
            "column[tap % SIDE] + (tap + 1) / SIDE",
        ),
        fault(
            "groups of weights lie together",
            "tile.cuh",
            "(size_t)rows.group * chunks",
            "(size_t)rows.group",
        ),
        fault(
            "the residual is of the row above",
            "conv.cuh",
            "T::COLUMN_BLOCKS) + 1;",
            "T::COLUMN_BLOCKS);",
        ),
        fault(
            "the output is gathered over a tile still in use",
            "conv.cu",
            "__syncthreads();  // the tile has been read for the last time\n    stage_output",
            "stage_output",
        ),
        fault(
            "the output is stored before it is gathered",
            "conv.cu",
            "p.affine + group * T::NB);\n    __syncthreads();",
            "p.affine + group * T::NB);",
        ),
        fault(
            "sums of groups are left in a tile still in use",
            "conv.cu",
            "__syncthreads();  // the tile has been read for the last time\n    if (group)",
            "if (group)",
        ),
        fault(
            "sums of groups are taken before they are there",
            "conv.cu",
            "make_float4(v[0], v[1], v[2], v[3]);\n        }\n    __syncthreads();",
            "make_float4(v[0], v[1], v[2], v[3]);\n        }",
        ),
        fault(
            "the output is gathered over sums still in use",
            "conv.cu",
            "__syncthreads();  // before the output",
            "// before the output",
        ),
        fault(
            "a group without a chunk multiplies",
            "conv.cu",
            "if (chunk >= chunks) return;\n            multiply",
            "multiply",
        ),
        fault(
            "all groups multiply by the weights of the first chunk of a round",
            "conv.cu",
            "weights, chunk, chunks, rows",
            "weights, round * T::GROUPS, chunks, rows",
        ),
        fault(
            "pixels outside of the picture are left as they are",
            "tile.cuh",
            "if (there && !inside)",
            "if (false)",
        ),
        fault(
            "only the first stage has zeros outside of the picture",
            "tile.cuh",
            "slot < slot_count; slot++",
            "slot < 1; slot++",
        ),
        fault(
            "the last rows of weights are not loaded",
            "tile.cuh",
            "(T::TAPS + WARPS - 1) / WARPS",
            "T::TAPS / WARPS",
        ),
        fault(
            "the last column is not written",
            "conv.cuh",
            "x < out_w) *(uint4*)to",
            "x < out_w - 1) *(uint4*)to",
        ),
        fault(
            "a row behind the picture is written",
            "conv.cuh",
            "y + k * ROWS < out_h",
            "y + k * ROWS <= out_h",
        ),
        fault("negative values keep their slope of one", "conv.cuh", "v > 0 ? v : v * slope", "v"),
        fault(
            "every picture of a batch is the first",
            "conv.cu",
            "shared, p.src + (size_t)n *",
            "shared, p.src + (size_t)0 *",
        ),
    ]
}
