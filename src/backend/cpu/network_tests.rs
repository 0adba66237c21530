//! Stage, fusion and records against the definitions in `ops`: wild flows, odd and tiny sizes, all scales.

use super::Cpu;
use super::tensor::Tensor;
use super::tests::{Noise, backends, poisoned};
use crate::backend::Backend;
use crate::backend::reference::Reference;
use crate::config::settings::Sampling;
use crate::ops::conv::{Activation, ConvWeights, Residual, Stride};
use crate::ops::deconv::{DeconvWeights, Shuffle};
use crate::ops::flow::{BlockOutput, MaskRule, Stage, View};
use crate::ops::fusion::Fusion;
use crate::ops::head::{HeadWeights, Padding, record_channels};
use crate::ops::tensor as plain;

/// Flows of many pixels lose up to 1e-5 px to rounding, over pictures with differences of up to 2 between neighbors,
/// and a convolution sums some hundred such values.
const TOLERANCE: f32 = 3e-4;

/// The same values in the plain layout and in ours.
struct Both {
    plain: plain::Tensor,
    ours: Tensor,
}

fn both(noise: &mut Noise, (h, w, c): (usize, usize, usize), scale: f32) -> Both {
    let mut plain = plain::Tensor::zeros(h, w, c);
    plain.data.fill_with(|| scale * noise.next());
    let mut ours = Tensor::zeros(h, w, c);
    for y in 0..h {
        for x in 0..w {
            let at = ours.at(y, x);
            ours.values_mut()[at..at + c].copy_from_slice(plain.at(y, x));
        }
    }
    Both { plain, ours }
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < TOLERANCE, "{what}: value {at} is {a}, not {b}");
    }
}

fn conv(noise: &mut Noise, ins: usize, outs: usize, stride: Stride) -> ConvWeights {
    ConvWeights {
        in_channels: ins,
        out_channels: outs,
        weight: noise.many(outs * ins * 9).iter().map(|v| 0.1 * v).collect(),
        bias: noise.many(outs),
        stride,
        residual: Residual::None,
        activation: Activation::LeakyRelu,
    }
}

/// Outputs of earlier blocks for a picture of `h` x `w`: flows of several picture widths among small ones.
fn outputs(
    noise: &mut Noise,
    (h, w): (usize, usize),
    factors: &[f32],
    c: usize,
) -> Vec<(Both, f32)> {
    let low = |n: usize, factor: f32| (n as f32 / factor) as usize;
    let one = |&factor: &f32| (both(noise, (low(h, factor), low(w, factor), c), 3.0), factor);
    factors.iter().map(one).collect()
}

fn block_outputs(all: &[(Both, f32)]) -> (Vec<BlockOutput<'_>>, Vec<BlockOutput<'_, Tensor>>) {
    (
        all.iter().map(|(it, factor)| BlockOutput { tensor: &it.plain, factor: *factor }).collect(),
        all.iter().map(|(it, factor)| BlockOutput { tensor: &it.ours, factor: *factor }).collect(),
    )
}

struct StageCase<'a> {
    size: (usize, usize),
    features: usize,
    handed_on: usize,
    factor: f32,
    earlier: &'a [f32],
    mask: MaskRule,
}

fn check_stage(case: &StageCase<'_>) {
    let mut noise = Noise(case.size.0 as u64 * 31 + case.earlier.len() as u64);
    let (h, w) = case.size;
    let shape = (h, w, record_channels(case.features));
    let records = [both(&mut noise, shape, 1.0), both(&mut noise, shape, 1.0)];
    let earlier = outputs(&mut noise, case.size, case.earlier, 5 + case.handed_on);
    let (plain_outputs, our_outputs) = block_outputs(&earlier);
    let stage = Stage {
        views: &[View { records: [&records[0].plain, &records[1].plain], timestep: 0.3 }],
        features: case.features,
        factor: case.factor,
        earlier: &plain_outputs,
        mask: case.mask,
        handed_on: case.handed_on,
    };
    let ours = Stage {
        views: &[View { records: [&records[0].ours, &records[1].ours], timestep: 0.3 }],
        features: case.features,
        factor: case.factor,
        earlier: &our_outputs,
        mask: case.mask,
        handed_on: case.handed_on,
    };
    // One, three and five times 8 channels beside those that fill vectors of 16 lanes.
    for outs in [8, 12, 20, 36] {
        let weights = conv(&mut noise, stage.channels(), outs, Stride::Two);
        let what =
            format!("{:?}, factor {}, {outs} of {}", case.size, case.factor, stage.channels());
        check_stage_conv(&weights, (&stage, &ours), &what);
    }
}

/// One stage and convolution on all backends, the same on any number of threads.
fn check_stage_conv(
    weights: &ConvWeights,
    (stage, ours): (&Stage<'_, plain::Tensor>, &Stage<'_, Tensor>),
    what: &str,
) {
    let mut expected = plain::Tensor::default();
    Reference::default().stage_conv(weights, stage, &mut expected);
    let mut first: Option<(String, Tensor)> = None;
    for mut cpu in backends() {
        let packed = cpu.pack_stage_conv(weights, stage.features);
        let mut found = poisoned(expected.h, expected.w, expected.c);
        cpu.stage_conv(&packed, ours, &mut found);
        let set = cpu.instructions().name();
        let what = format!("{set}, {what}");
        super::tests::assert_guards(&found, &what);
        assert_close(&what, &cpu.to_plain(&found).data, &expected.data);
        match &first {
            Some((same, values)) if same == set => {
                assert_eq!(values.values(), found.values(), "{what}");
            }
            _ => first = Some((set.to_owned(), found)),
        }
    }
}

#[test]
fn stages_equal_their_definition_under_wild_flows() {
    for (size, factor, earlier) in [
        ((32, 64), 16.0, &[][..]),
        ((64, 32), 8.0, &[16.0]),
        ((32, 96), 2.0, &[16.0, 8.0, 4.0]),
        ((16, 48), 1.0, &[16.0, 8.0, 4.0, 2.0]),
        ((16, 16), 0.5, &[8.0, 4.0, 2.0, 1.0]),
        ((8, 24), 1.0, &[8.0, 4.0]),
    ] {
        for (features, handed_on, mask) in [
            (0, 0, MaskRule::Sum),
            (4, 8, MaskRule::Last),
            (8, 0, MaskRule::Last),
            (16, 8, MaskRule::Last),
        ] {
            check_stage(&StageCase { size, features, handed_on, factor, earlier, mask });
        }
    }
}

#[test]
fn wide_stages_join_their_tiles_without_a_seam() {
    let earlier = &[8.0, 2.0][..];
    let mask = MaskRule::Last;
    check_stage(&StageCase {
        size: (8, 416),
        features: 4,
        handed_on: 8,
        factor: 1.0,
        earlier,
        mask,
    });
}

fn check_fusion(
    (h, w, ins): (usize, usize, usize),
    crop: (usize, usize),
    shuffle: Shuffle,
    factor: f32,
    (mask, sampling, refine): (MaskRule, Sampling, bool),
) {
    let size = (h, w);
    let mut noise = Noise(h as u64 * 17 + w as u64);
    let records = [both(&mut noise, (h, w, 8), 1.0), both(&mut noise, (h, w, 8), 1.0)];
    let earlier = outputs(&mut noise, size, &[8.0, 4.0], 13);
    let (plain_outputs, our_outputs) = block_outputs(&earlier);
    let step = if shuffle == Shuffle::None { 2.0 } else { 4.0 };
    let low = |n: usize| (n as f32 / factor / step) as usize;
    let input = both(&mut noise, (low(h), low(w), ins), 1.0);
    let outs = if shuffle == Shuffle::None { 5 } else { 20 };
    let weight = noise.many(ins * outs * 16);
    let weights = DeconvWeights {
        in_channels: ins,
        out_channels: outs,
        weight,
        bias: noise.many(outs),
        shuffle,
    };
    let (height, width) = crop;
    let mut expected = vec![0.0; 3 * height * width];
    let views = &[View { records: [&records[0].plain, &records[1].plain], timestep: 0.3 }];
    let earlier = &plain_outputs;
    let fusion = Fusion { views, earlier, factor, mask, sampling, refine, height, width };
    Reference::default().deconv_fusion(&weights, &input.plain, &fusion, &mut expected);
    let ours = Fusion {
        views: &[View { records: [&records[0].ours, &records[1].ours], timestep: 0.3 }],
        earlier: &our_outputs,
        factor,
        mask,
        sampling,
        refine,
        height,
        width,
    };
    for mut cpu in backends() {
        let packed = cpu.pack_deconv(&weights);
        let mut found = vec![f32::NAN; expected.len()];
        cpu.deconv_fusion(&packed, &input.ours, &ours, &mut found);
        let what =
            format!("{}, {size:?}, {ins}, {shuffle:?}, factor {factor}", cpu.instructions().name());
        assert_close(&what, &found, &expected);
    }
}

#[test]
fn pictures_equal_their_definition_at_odd_sizes_and_all_factors() {
    let ends = [
        (Sampling::Bilinear, false),
        (Sampling::Bicubic, false),
        (Sampling::Bilinear, true),
        (Sampling::Bicubic, true),
    ];
    let rules = [MaskRule::Sum, MaskRule::Last];
    let ends_of = |mask| ends.map(|(sampling, refine)| (mask, sampling, refine));
    for rules in rules.into_iter().flat_map(ends_of) {
        check_fusion((32, 32, 8), (32, 32), Shuffle::ByTwo, 1.0, rules);
        check_fusion((32, 64, 8), (1, 1), Shuffle::ByTwo, 1.0, rules);
        // With 8 channels the last transposed convolution goes by taps, with 16 in transformed tiles.
        for ins in [8, 16] {
            check_fusion((16, 320, ins), (13, 301), Shuffle::ByTwo, 1.0, rules);
        }
        check_fusion((32, 64, 8), (27, 53), Shuffle::None, 2.0, rules);
        check_fusion((32, 64, 8), (31, 64), Shuffle::ByTwo, 0.5, rules);
    }
}

#[test]
fn a_flow_that_is_no_number_still_gives_a_picture() {
    let mut noise = Noise(3);
    let records = [noise.tensor(8, 8, 8), noise.tensor(8, 8, 8)];
    let weights = DeconvWeights {
        in_channels: 8,
        out_channels: 20,
        weight: vec![f32::NAN; 8 * 20 * 16],
        bias: vec![0.0; 20],
        shuffle: Shuffle::ByTwo,
    };
    let mask = MaskRule::Last;
    let fusion = Fusion {
        views: &[View { records: [&records[0], &records[1]], timestep: 0.3 }],
        earlier: &[],
        factor: 1.0,
        mask,
        sampling: Sampling::Bicubic,
        refine: true,
        height: 8,
        width: 8,
    };
    for mut cpu in backends() {
        let packed = cpu.pack_deconv(&weights);
        let mut rgb = vec![f32::NAN; 3 * 64];
        cpu.deconv_fusion(&packed, &noise.tensor(2, 2, 8), &fusion, &mut rgb);
        assert!(rgb.iter().all(|v| v.is_finite()), "{}", cpu.instructions().name());
    }
}

fn check_record(
    mut cpu: Cpu,
    features: usize,
    c: usize,
    (padded_height, padded_width): (usize, usize),
) {
    let mut noise = Noise(features as u64);
    let mut convs = vec![conv(&mut noise, 3, c, Stride::Two)];
    convs.extend((0..2).map(|_| conv(&mut noise, c, c, Stride::One)));
    let head = HeadWeights {
        convs,
        deconv: DeconvWeights {
            in_channels: c,
            out_channels: features,
            weight: noise.many(c * features * 16),
            bias: noise.many(features),
            shuffle: Shuffle::None,
        },
    };
    for (height, width) in [(1, 1), (5, 9), (padded_height, padded_width)] {
        let rgb = noise.many(3 * height * width);
        let padding = Padding { height, width, padded_height, padded_width };
        let (mut expected, mut found) = (plain::Tensor::default(), Tensor::default());
        Reference::default().record(Some(&head), &rgb, &padding, &mut expected);
        let packed = cpu.pack_head(&head);
        // Twice: what a former picture left behind must not show.
        cpu.record(Some(&packed), &rgb, &padding, &mut found);
        cpu.record(Some(&packed), &rgb, &padding, &mut found);
        let set = cpu.instructions().name();
        let what = format!("{set}, {c} channels, {features} features, {height}x{width}");
        super::tests::assert_guards(&found, &what);
        assert_close(&what, &cpu.to_plain(&found).data, &expected.data);
    }
}

#[test]
fn records_equal_their_definition() {
    for features in [4, 8, 16] {
        backends().into_iter().for_each(|cpu| check_record(cpu, features, 8, (8, 16)));
    }
}

#[test]
fn records_by_strips_join_without_a_seam() {
    for size in [(8, 16), (10, 22), (74, 40), (36, 530)] {
        backends().into_iter().for_each(|cpu| check_record(cpu, 4, 16, size));
    }
}
