//! The head's kernels against `ops::head::reference`.

use std::sync::Arc;

use slomod::backend::cuda::driver::{DeviceError, Driver};
use slomod::backend::cuda::head::{PackedHead, plain_record};
use slomod::backend::cuda::instances::{self, Kind};
use slomod::backend::cuda::tensor::Tensor;
use slomod::ops::conv::{Activation, Residual, Stride};
use slomod::ops::deconv::Shuffle;
use slomod::ops::head::{HeadWeights, Padded, reference};
use slomod::ops::tensor::Tensor as Plain;

use crate::common::Random;
use crate::conv::weights as conv_weights;
use crate::deconv::weights as deconv_weights;
use crate::faults::Fault;
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;
use crate::shim::tensors::{HALF_ROUNDING, compare, compare_bits, download, rounded, upload};

/// The record is rounded to half once.
const RELATIVE: f32 = 2.0 * HALF_ROUNDING;
/// Each layer before is rounded to half too: up to three times 2^-11 of values up to four, partly averaged out.
const ABSOLUTE: f32 = 4e-3;

/// A head of `convs` convolutions of `width` channels; one of a single layer has no activation, as published.
fn head(features: usize, convs: usize, width: usize, random: &mut Random) -> HeadWeights {
    let conv = |layer: usize, random: &mut Random| {
        let (ins, stride) = if layer == 0 { (3, Stride::Two) } else { (width, Stride::One) };
        let activation = if convs == 1 { Activation::None } else { Activation::LeakyRelu };
        conv_weights([ins, width], stride, Residual::None, activation, random)
    };
    HeadWeights {
        convs: (0..convs).map(|layer| conv(layer, random)).collect(),
        deconv: deconv_weights([width, features], Shuffle::None, random),
    }
}

/// An image with values beyond 0..1, which go through.
fn image(h: usize, w: usize, random: &mut Random) -> Plain {
    let data = (0..h * w * 3).map(|_| rounded(0.5 + 0.7 * random.next())).collect();
    Plain { h, w, c: 3, data }
}

fn check(
    shim: &Arc<ShimDriver>,
    weights: Option<&HeadWeights>,
    [h, w]: [usize; 2],
    padded: [usize; 2],
) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new((h * 7 + w) as u64);
    let image = image(h, w, &mut random);
    let input = upload(&driver, std::slice::from_ref(&image), 4);
    let run = |order| -> Result<Vec<Plain>, DeviceError> {
        shim.set_order(order);
        let (mut record, mut scratch) = (Tensor::default(), <[Tensor; 2]>::default());
        match weights {
            Some(weights) => PackedHead::new(&driver, weights)?.run(
                &driver,
                &input,
                padded,
                &mut scratch,
                &mut record,
            )?,
            None => plain_record(&driver, &input, padded, &mut record)?,
        }
        Ok(download(&driver, &record))
    };
    let features = weights.map_or(0, |it| it.deconv.out_channels);
    let place = |what: String| format!("{features} features, {h} x {w} in {padded:?}: {what}");
    let got = run(Order::Forward).map_err(|error| place(error.to_string()))?;
    let [padded_height, padded_width] = padded;
    let picture = Padded { rgb: &image.data, height: h, width: w, padded_height, padded_width };
    let mut want = Plain::default();
    reference(weights, &picture, &mut want);
    compare(&got[0].channels(0, 3), &want.channels(0, 3), 0.0, 0.0).map_err(place)?;
    compare(&got[0], &want, RELATIVE, ABSOLUTE).map_err(place)?;
    if got[0].c != want.c {
        return Err(place(format!("{} channels in memory", got[0].c)));
    }
    let backward = run(Order::Backward).map_err(|error| place(error.to_string()))?;
    compare_bits(&got, &backward).map_err(place)
}

#[test]
fn every_head_equals_the_definition_without_a_bank_conflict() {
    let shim = ShimDriver::new();
    let mut random = Random::new(1);
    for features in [4, 8, 16] {
        for (convs, width) in [(1, 16), (3, 16), (3, 32), (3, 24), (1, 64)] {
            let weights = head(features, convs, width, &mut random);
            check(&shim, Some(&weights), [35, 61], [36, 64]).unwrap();
            check(&shim, Some(&weights), [1, 1], [2, 2]).unwrap();
        }
    }
    for instance in instances::all() {
        let ours = matches!(instance.kind, Kind::HeadFirst | Kind::HeadLast);
        let ran = shim.launched().contains(instance.name);
        assert!(!ours || ran, "{} was not run", instance.name);
    }
    shim.assert_no_bank_conflicts();
}

#[test]
fn a_network_without_features_gets_the_padded_image() {
    let shim = ShimDriver::new();
    check(&shim, None, [5, 3], [7, 300]).unwrap();
    check(&shim, None, [1, 257], [1, 257]).unwrap();
}

#[test]
fn an_unknown_number_of_features_is_refused_in_words() {
    let driver: Arc<dyn Driver> = ShimDriver::new();
    let weights = head(12, 1, 16, &mut Random::new(2));
    let error = PackedHead::new(&driver, &weights).unwrap_err().to_string();
    assert!(error.contains("not for 12"), "{error}");
}

fn check_faulty(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let mut random = Random::new(3);
    let (narrow, wide) = (head(4, 1, 16, &mut random), head(8, 1, 32, &mut random));
    check(shim, Some(&narrow), [35, 61], [36, 64])?;
    check(shim, Some(&wide), [9, 3], [12, 4])?;
    check(shim, None, [5, 3], [7, 300])
}

/// What must be noticed.
pub fn faults() -> Vec<Fault> {
    let fault = |title, old, new| Fault {
        title,
        file: "head.cu",
        old,
        new,
        unit: "head.cu",
        check: check_faulty,
    };
    vec![
        fault("a neighborhood is a column off", "2 * x + tap % 3 - 1", "2 * x + tap % 3"),
        fault("the image is clamped", "make_float3(rg.x", "make_float3(__saturatef(rg.x)"),
        fault("what is beyond the frame is read", "x < 0 || x >= frame_w", "x < 0"),
        fault(
            "phases of the features are exchanged",
            "(row & 1) * 2 + (col & 1)",
            "(col & 1) * 2 + (row & 1)",
        ),
        fault(
            "records are stored before sums are gathered",
            "p.bias);\n    __syncthreads();",
            "p.bias);",
        ),
        fault("the features begin a channel early", "piece * 8 + c - 3", "piece * 8 + c - 2"),
        fault(
            "the plain record keeps what lay behind the picture",
            "make_float3(0, 0, 0)",
            "make_float3(1, 0, 0)",
        ),
    ]
}
