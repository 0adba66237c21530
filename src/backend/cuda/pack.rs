//! Weights in the order in which lanes of a warp feed them to the tensor cores; see `kernels/tile.cuh`.

use std::sync::Arc;

use half::f16;

use super::driver::{Buffer, DeviceError, Driver};
use crate::ops::conv::{Activation, ConvWeights, LEAKY_SLOPE};
use crate::ops::deconv::DeconvWeights;

/// Channels of a chunk and of a group: the sides of a fragment.
pub const CHUNK: usize = 16;
/// Lanes of a warp.
const LANES: usize = 32;

/// Weights `[outs / 16][ins / 16][taps][lane][8]` as halves. `weight(out, in, tap)` must answer 0 for padding.
///
/// Lane `4 g + q` holds, for output channels `g` and `8 + g` of the group, input channels `2q, 2q + 1` and
/// `2q + 8, 2q + 9` of the chunk: the B fragments of two `mma.m16n8k16` (PTX ISA).
pub fn fragments(
    [outs, ins, taps]: [usize; 3],
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<u8> {
    assert!(outs.is_multiple_of(CHUNK) && ins.is_multiple_of(CHUNK), "{ins} to {outs} channels");
    let mut bytes = Vec::with_capacity(2 * outs * ins * taps);
    for group in (0..outs).step_by(CHUNK) {
        for chunk in (0..ins).step_by(CHUNK) {
            for tap in 0..taps {
                for lane in 0..LANES {
                    for place in 0..8 {
                        let (n_tile, high, element) = (place / 4, place / 2 % 2, place % 2);
                        let out = group + 8 * n_tile + lane / 4;
                        let channel = chunk + 8 * high + 2 * (lane % 4) + element;
                        let value = f16::from_f32(weight(out, channel, tap));
                        bytes.extend(value.to_bits().to_ne_bytes());
                    }
                }
            }
        }
    }
    bytes
}

/// Numbers as they lie in device memory.
pub fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// Bias and slope below zero of each output channel, zeros for the added ones: `[stored][2]` floats.
///
/// # Errors
/// As [`Buffer::with_content`].
pub fn affine(
    driver: &Arc<dyn Driver>,
    weights: &ConvWeights,
    stored: usize,
) -> Result<Buffer, DeviceError> {
    let slope = |channel: usize| match &weights.activation {
        Activation::None => 1.0,
        Activation::LeakyRelu => LEAKY_SLOPE,
        Activation::Prelu(slopes) => slopes[channel],
    };
    let mut values = Vec::with_capacity(2 * stored);
    for (channel, &bias) in weights.bias.iter().enumerate() {
        values.extend([bias, slope(channel)]);
    }
    values.resize(2 * stored, 0.0);
    Buffer::with_content(driver, &float_bytes(&values))
}

/// Weight of a transposed convolution in one tap of a phase (`2 py + px`); `tap` is `2 ty + tx`.
pub fn phase_weight(
    weights: &DeconvWeights,
    [out, channel]: [usize; 2],
    phase: usize,
    tap: usize,
) -> f32 {
    let (ky, kx) = (3 - phase / 2 - 2 * (tap / 2), 3 - phase % 2 - 2 * (tap % 2));
    weights.weight[(channel * weights.out_channels + out) * 16 + 4 * ky + kx]
}

/// The same in a window 3x3 that holds all phases; `tap` is `3 row + column`. 0 where the phase has no tap.
pub fn window_weight(weights: &DeconvWeights, at: [usize; 2], phase: usize, tap: usize) -> f32 {
    let (ty, tx) = ((tap / 3).wrapping_sub(phase / 2), (tap % 3).wrapping_sub(phase % 2));
    if ty < 2 && tx < 2 { phase_weight(weights, at, phase, 2 * ty + tx) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::deconv::Shuffle;

    #[test]
    fn a_lane_holds_two_columns_of_the_product() {
        let name = |out: usize, channel: usize, tap: usize| (tap * 256 + out * 16 + channel) as f32;
        let bytes = fragments([16, 16, 2], name);
        let halves: Vec<f32> = bytes
            .chunks_exact(2)
            .map(|it| f16::from_bits(u16::from_ne_bytes([it[0], it[1]])).to_f32())
            .collect();
        // Tap 1, lane 4 * 3 + 2: channels 3 and 11 from inputs 4, 5, 12, 13.
        let lane: Vec<f32> =
            [(3, 4), (3, 5), (3, 12), (3, 13), (11, 4), (11, 5), (11, 12), (11, 13)]
                .map(|(out, channel)| name(out, channel, 1))
                .to_vec();
        assert_eq!(halves[(LANES + 14) * 8..(LANES + 15) * 8], lane);
    }

    #[test]
    fn every_tap_of_a_transposed_convolution_is_in_one_place_of_the_window() {
        let weights = DeconvWeights {
            in_channels: 1,
            out_channels: 1,
            weight: (1..=16).map(|it| it as f32).collect(),
            bias: vec![0.0],
            shuffle: Shuffle::None,
        };
        let mut found: Vec<_> = (0..4)
            .flat_map(|phase| (0..9).map(move |tap| (phase, tap)))
            .map(|(phase, tap)| window_weight(&weights, [0, 0], phase, tap))
            .filter(|&weight| weight != 0.0)
            .collect();
        found.sort_by(f32::total_cmp);
        assert_eq!(found, weights.weight);
        assert_eq!(
            phase_weight(&weights, [0, 0], 0, 0),
            16.0,
            "kernel (3, 3) meets the pixel before"
        );
    }
}
