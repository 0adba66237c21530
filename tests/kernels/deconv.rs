//! The transposed convolution's kernels against `ops::deconv::reference`.

use std::sync::Arc;

use slomod::backend::cuda::deconv::PackedDeconv;
use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::instances::{self, Choice, Instance, Kind};
use slomod::backend::cuda::tensor::Tensor;
use slomod::ops::deconv::{DeconvWeights, Shuffle, reference};
use slomod::ops::tensor::Tensor as Plain;

use crate::common::Random;
use crate::conv::picture;
use crate::faults::Fault;
use crate::shim::driver::{ShimDriver, h200, turing};
use crate::shim::library::Order;
use crate::shim::tensors::{HALF_ROUNDING, compare, compare_bits, download, rounded, upload};

/// Mask and features are rounded to half once; twice that leaves room for sums between two halves.
const RELATIVE: f32 = 2.0 * HALF_ROUNDING;
/// Flow is not rounded to half: only the order of a sum of up to 1536 products of order one differs.
const FLOW_RELATIVE: f32 = 1e-5;
/// The same for sums near zero.
const ABSOLUTE: f32 = 1e-5;

/// Weights that keep values of order one.
pub fn weights([ins, outs]: [usize; 2], shuffle: Shuffle, random: &mut Random) -> DeconvWeights {
    let scale = (3.0 / (4 * ins) as f32).sqrt();
    DeconvWeights {
        in_channels: ins,
        out_channels: outs,
        weight: (0..outs * ins * 16).map(|_| rounded(scale * random.next())).collect(),
        bias: (0..outs).map(|_| random.next()).collect(),
        shuffle,
    }
}

fn check(
    shim: &Arc<ShimDriver>,
    weights: &DeconvWeights,
    n: usize,
    [h, w]: [usize; 2],
    choice: Option<Choice>,
) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let ins = weights.in_channels;
    let mut random = Random::new((ins * 31 + h * 7 + w) as u64);
    let pictures: Vec<_> = (0..n).map(|_| picture(h, w, ins, &mut random)).collect();
    let input = upload(&driver, &pictures, ins.next_multiple_of(16));
    let packed = PackedDeconv::new(&driver, weights).map_err(|error| error.to_string())?;
    let run = |order| -> Result<Vec<Plain>, String> {
        shim.set_order(order);
        let mut output = Tensor::default();
        let ran = match choice {
            Some(choice) => packed.run_with(&driver, choice, &input, &mut output),
            None => packed.run(&driver, &input, &mut output),
        };
        ran.map_err(|error| error.to_string())?;
        Ok(download(&driver, &output))
    };
    let place = |what: String| {
        let name = choice.map(|it| (it.instance.name, it.stages));
        format!("{name:?} {ins} to {}, {n} x {h} x {w}: {what}", weights.out_channels)
    };
    let got = run(Order::Forward)?;
    for (got, picture) in got.iter().zip(&pictures) {
        let mut want = Plain::default();
        reference(weights, picture, &mut want);
        // A sixth channel without features behind it is one that nobody reads.
        let want = want.channels(0, got.c);
        compare(&got.channels(0, 4), &want.channels(0, 4), FLOW_RELATIVE, ABSOLUTE)
            .map_err(place)?;
        compare(got, &want, RELATIVE, ABSOLUTE).map_err(place)?;
    }
    compare_bits(&got, &run(Order::Backward)?).map_err(place)
}

/// An instance at sizes round its tile.
fn check_instance(shim: &Arc<ShimDriver>, instance: Instance) -> Result<(), String> {
    let mut random = Random::new(instance.nb as u64);
    let (shuffle, outs) = match (instance.kind, instance.nb) {
        (Kind::DeconvPlain, _) => (Shuffle::None, [5, 5, 5]),
        (_, 64) => (Shuffle::ByTwo, [52, 52, 52]),
        _ => (Shuffle::ByTwo, [20, 24, 20]),
    };
    let [tile_h, tile_w] = instance.tile;
    let cases = [(1, 48, [tile_h + 1, tile_w + 3]), (3, 24, [5, 3]), (1, 48, [1, 1])];
    for (index, ((n, ins, size), outs)) in cases.into_iter().zip(outs).enumerate() {
        let weights = weights([ins, outs], shuffle, &mut random);
        let stages = (index + 1).min(ins.div_ceil(16));
        let shared_bytes = instance.shared_bytes(stages);
        check(shim, &weights, n, size, Some(Choice { instance, stages, shared_bytes }))?;
    }
    Ok(())
}

fn deconv_instances() -> Vec<Instance> {
    let is_ours = |it: &Instance| matches!(it.kind, Kind::Deconv | Kind::DeconvPlain);
    instances::all().into_iter().filter(is_ours).collect()
}

#[test]
fn every_instance_equals_the_definition_without_a_bank_conflict() {
    let shim = ShimDriver::new();
    for instance in deconv_instances() {
        check_instance(&shim, instance).unwrap();
        assert!(shim.launched().contains(instance.name), "{} was not run", instance.name);
    }
    let counters = shim.counters();
    assert!(counters.ldmatrix_reads > 0);
    assert_eq!(counters.ldmatrix_cycles, counters.ldmatrix_reads, "bank conflicts");
}

#[test]
fn every_released_width_runs_on_large_and_small_devices() {
    for device in [h200(), turing()] {
        let shim = ShimDriver::with(device);
        let mut random = Random::new(1);
        for width in [24, 32, 64, 96, 128, 192, 256, 384] {
            for (outs, shuffle) in [(52, Shuffle::ByTwo), (24, Shuffle::ByTwo), (5, Shuffle::None)]
            {
                let weights = weights([width, outs], shuffle, &mut random);
                check(&shim, &weights, 1, [3, 2], None).unwrap();
            }
        }
    }
}

fn check_faulty(shim: &Arc<ShimDriver>) -> Result<(), String> {
    deconv_instances().into_iter().try_for_each(|instance| check_instance(shim, instance))
}

/// What must be noticed.
pub fn faults() -> Vec<Fault> {
    let fault = |title, file, old, new| Fault {
        title,
        file,
        old,
        new,
        unit: "deconv.cu",
        check: check_faulty,
    };
    vec![
        fault(
            "rows and columns of a phase are exchanged",
            "deconv.cu",
            "py = phase >> 1, px = phase & 1",
            "py = phase & 1, px = phase >> 1",
        ),
        fault(
            "a phase begins at the tile's corner",
            "deconv.cuh",
            "T::TILE_H - 1 + py",
            "T::TILE_H - 1",
        ),
        fault(
            "all phases have the weights of the first",
            "deconv.cu",
            "p.weights + (size_t)phase *",
            "p.weights + (size_t)0 *",
        ),
        fault("the pixel shuffle is transposed", "deconv.cuh", "(2 * i + j) *", "(2 * j + i) *"),
        fault(
            "sums are stored before they are gathered",
            "deconv.cu",
            "p.bias);\n    __syncthreads();\n    size_t first = (size_t)n * 16",
            "p.bias);\n    size_t first = (size_t)n * 16",
        ),
        fault(
            "sums are gathered over a tile still in use",
            "deconv.cu",
            "__syncthreads();  // the tile has been read for the last time\n    stage_sums<T>((float*)shared, acc, p.bias);\n    __syncthreads();\n    size_t first = (size_t)n * 4",
            "stage_sums<T>((float*)shared, acc, p.bias);\n    __syncthreads();\n    size_t first = (size_t)n * 4",
        ),
        fault(
            "the features are of the next picture",
            "deconv.cu",
            "p.handed + first * 8",
            "p.handed + first * 4",
        ),
    ]
}
