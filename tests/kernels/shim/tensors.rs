//! Tensors to the device and back, and how they are compared.

use std::sync::Arc;

use half::f16;
use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::tensor::{Layout, Tensor};
use slomod::ops::tensor::Tensor as Plain;

/// Half of the last place of a half beside 1: what rounding to half costs.
pub const HALF_ROUNDING: f32 = 1.0 / 2048.0;

/// The nearest value that a half holds.
pub fn rounded(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

/// Pictures of one shape as halves `[n, h, w, stored]`, zeros in the added channels.
pub fn upload(driver: &Arc<dyn Driver>, pictures: &[Plain], stored: usize) -> Tensor {
    let [h, w, c] = [pictures[0].h, pictures[0].w, pictures[0].c];
    let mut tensor = Tensor::default();
    tensor.reshape(driver, [pictures.len(), h, w, c], stored).unwrap();
    let mut bytes = Vec::new();
    for picture in pictures {
        assert_eq!([picture.h, picture.w, picture.c], [h, w, c], "pictures of a batch");
        for pixel in picture.data.chunks_exact(c) {
            let added = std::iter::repeat_n(&0.0, stored - c);
            let halves = pixel.iter().chain(added).map(|&value| f16::from_f32(value));
            bytes.extend(halves.flat_map(|half| half.to_bits().to_ne_bytes()));
        }
    }
    driver.upload(tensor.address(), &bytes).unwrap();
    tensor
}

/// Halves from the device.
pub fn download_halves(driver: &Arc<dyn Driver>, address: u64, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; 2 * count];
    driver.download(address, &mut bytes).unwrap();
    let half = |it: &[u8]| f16::from_bits(u16::from_ne_bytes([it[0], it[1]])).to_f32();
    bytes.chunks_exact(2).map(half).collect()
}

/// Floats from the device.
pub fn download_floats(driver: &Arc<dyn Driver>, address: u64, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; 4 * count];
    driver.download(address, &mut bytes).unwrap();
    let float = |it: &[u8]| f32::from_ne_bytes([it[0], it[1], it[2], it[3]]);
    bytes.chunks_exact(4).map(float).collect()
}

/// The pictures of a tensor: channels in memory for halves (the added ones too), flow, mask and features for a block's
/// output.
pub fn download(driver: &Arc<dyn Driver>, tensor: &Tensor) -> Vec<Plain> {
    let &Tensor { n, h, w, stored, .. } = tensor;
    let pixels = n * h * w;
    let (c, data) = match tensor.layout {
        Layout::Half => (stored, download_halves(driver, tensor.address(), pixels * stored)),
        Layout::Output => {
            let flow = download_floats(driver, tensor.address(), 4 * pixels);
            let mask = download_halves(driver, tensor.mask_address(), pixels);
            let handed = match stored {
                0 => Vec::new(),
                _ => download_halves(driver, tensor.handed_address(), stored * pixels),
            };
            let pixel = |i: usize| {
                let handed = &handed[i * stored..(i + 1) * stored];
                [&flow[4 * i..4 * i + 4], &mask[i..=i], handed].concat()
            };
            (5 + stored, (0..pixels).flat_map(pixel).collect())
        }
    };
    data.chunks_exact(h * w * c).map(|data| Plain { h, w, c, data: data.to_vec() }).collect()
}

/// That `got` is `want` to within `relative` of each value plus `absolute`, and zero in channels that `want` has not.
///
/// # Errors
/// The first value that differs; NaN always does.
pub fn compare(got: &Plain, want: &Plain, relative: f32, absolute: f32) -> Result<(), String> {
    if (got.h, got.w) != (want.h, want.w) || got.c < want.c {
        let shape = |it: &Plain| format!("[{}, {}, {}]", it.h, it.w, it.c);
        return Err(format!("shape {} instead of {}", shape(got), shape(want)));
    }
    for y in 0..got.h {
        for x in 0..got.w {
            for (channel, &value) in got.at(y, x).iter().enumerate() {
                let right = want.at(y, x).get(channel).copied().unwrap_or(0.0);
                let allowed =
                    if channel < want.c { relative * right.abs() + absolute } else { 0.0 };
                let distance = (value - right).abs();
                if distance.is_nan() || distance > allowed {
                    return Err(format!(
                        "({y}, {x}) channel {channel}: {value} instead of {right}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// That both hold the same bits, NaN aside, which equals nothing.
///
/// # Errors
/// How many values differ.
pub fn compare_bits(one: &[Plain], other: &[Plain]) -> Result<(), String> {
    let values = |it: &[Plain]| it.iter().flat_map(|it| it.data.clone()).collect::<Vec<_>>();
    let (one, other) = (values(one), values(other));
    let differ = one.iter().zip(&other).filter(|(a, b)| a != b).count();
    let same = differ == 0 && one.len() == other.len();
    if same { Ok(()) } else { Err(format!("{differ} of {} values depend on the order", one.len())) }
}
