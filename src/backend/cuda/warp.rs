//! Backward warp and bilinear resize of stored tensors; see [`crate::ops::warp`] and [`crate::ops::resize`].

use std::sync::Arc;

use super::driver::{DeviceError, Driver, Launch, Parameters};
use super::params::{ResizeParams, WarpParams};
use super::tensor::{Layout, Tensor};

/// Threads of a block.
const THREADS: usize = 256;

fn grid(pieces: usize) -> [u32; 3] {
    [pieces.div_ceil(THREADS) as u32, 1, 1]
}

/// `image` `[1, h, w, c]`, stored in multiples of 8, warped by the flow at `flow`: float `[h, w, 2]`, x and y in pixels.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn warp(
    driver: &Arc<dyn Driver>,
    image: &Tensor,
    flow: u64,
    output: &mut Tensor,
) -> Result<(), DeviceError> {
    check(image);
    output.reshape(driver, [1, image.h, image.w, image.c], image.stored)?;
    let params = WarpParams {
        src: image.address(),
        flow,
        dst: output.address(),
        h: image.h as i32,
        w: image.w as i32,
        chunks: (image.stored / 8) as i32,
        unused: 0,
    };
    driver.launch(&Launch {
        kernel: "warp",
        grid: grid(image.h * image.w * image.stored / 8),
        block: [THREADS as u32, 1, 1],
        shared_bytes: 0,
        params: params.as_bytes(),
    })
}

/// `input` `[1, h, w, c]`, stored in multiples of 8, resized by `factor` (a power of two): `[1, h * factor, w * factor, c]`.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn resize(
    driver: &Arc<dyn Driver>,
    input: &Tensor,
    factor: f32,
    output: &mut Tensor,
) -> Result<(), DeviceError> {
    check(input);
    let [h, w] = [input.h, input.w].map(|n| (n as f32 * factor) as usize);
    output.reshape(driver, [1, h, w, input.c], input.stored)?;
    let params = ResizeParams {
        src: input.address(),
        dst: output.address(),
        h: input.h as i32,
        w: input.w as i32,
        out_h: h as i32,
        out_w: w as i32,
        chunks: (input.stored / 8) as i32,
        step: 1.0 / factor,
    };
    driver.launch(&Launch {
        kernel: "resize",
        grid: grid(h * w * input.stored / 8),
        block: [THREADS as u32, 1, 1],
        shared_bytes: 0,
        params: params.as_bytes(),
    })
}

fn check(tensor: &Tensor) {
    assert_eq!((tensor.n, tensor.layout), (1, Layout::Half), "one picture");
    assert!(tensor.stored.is_multiple_of(8), "{} stored channels", tensor.stored);
}
