//! Backward warp and bilinear resize, against the definitions.

use std::sync::Arc;

use slomod::backend::cuda::driver::{Buffer, Driver};
use slomod::backend::cuda::warp::{resize, warp};
use slomod::ops;
use slomod::ops::tensor::Tensor;

use crate::faults::Fault;
use crate::flow::{both_orders, compare, tolerance};
use crate::scenes::{Random, pictures, rounded, upload_half};
use crate::shim::driver::ShimDriver;

const SIZES: [[usize; 2]; 6] = [[1, 1], [1, 13], [9, 1], [17, 19], [4, 64], [2, 4357]];

fn image(random: &mut Random, [h, w]: [usize; 2], c: usize) -> Tensor {
    let mut image = Tensor::zeros(h, w, c);
    image.data.iter_mut().for_each(|value| *value = rounded(random.between(-1.0, 1.0)));
    image
}

fn check_warp(
    shim: &Arc<ShimDriver>,
    size: [usize; 2],
    reach: f32,
    c: usize,
) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(3);
    let image = image(&mut random, size, c);
    let mut flow = Tensor::zeros(image.h, image.w, 2);
    flow.data.iter_mut().for_each(|value| *value = random.between(-reach, reach));
    flow.data[0] = f32::NAN;
    *flow.data.last_mut().unwrap() = f32::INFINITY;
    let bytes: Vec<u8> = flow.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let on_device = Buffer::with_content(&driver, &bytes).unwrap();
    let src = upload_half(&driver, &[&image], c.next_multiple_of(8));
    let (bytes, output) =
        both_orders(shim, |output| warp(&driver, &src, on_device.address(), output))?;
    let expected = ops::warp::reference(&image, &flow, 0);
    compare(&pictures(&bytes, &output)[0], &expected, |value| tolerance(value, size, reach))
        .map_err(|at| format!("{size:?}, reach {reach}: {at}"))
}

fn check_resize(shim: &Arc<ShimDriver>, size: [usize; 2], factor: f32) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let image = image(&mut Random::new(4), size, 5);
    let src = upload_half(&driver, &[&image], 8);
    let (bytes, output) = both_orders(shim, |output| resize(&driver, &src, factor, output))?;
    let expected = ops::resize::reference(&image, factor);
    compare(&pictures(&bytes, &output)[0], &expected, |value| tolerance(value, size, 0.0))
        .map_err(|at| format!("{size:?} by {factor}: {at}"))
}

#[test]
fn warps_are_as_defined_wherever_flows_point() {
    let shim = ShimDriver::new();
    for size in SIZES {
        for (reach, c) in [(2.5, 8), (100.0, 13), (1e4, 16)] {
            check_warp(&shim, size, reach, c).unwrap();
        }
    }
}

#[test]
fn resizes_are_as_defined_up_and_down() {
    let shim = ShimDriver::new();
    for size in SIZES {
        for factor in [0.25, 0.5, 1.0, 2.0, 4.0] {
            let size = if factor < 1.0 { size.map(|n| 4 * n) } else { size };
            check_resize(&shim, size, factor).unwrap();
        }
    }
}

/// What planted faults must not pass.
fn check_some(shim: &Arc<ShimDriver>) -> Result<(), String> {
    check_warp(shim, [9, 13], 2.5, 16)?;
    check_resize(shim, [9, 13], 2.0)
}

pub fn faults() -> Vec<Fault> {
    let fault =
        |title, file, old, new| Fault { title, file, old, new, unit: "warp.cu", check: check_some };
    vec![
        fault("rows moved by x", "warp.cu", "moved(y, by.y, p.h)", "moved(y, by.x, p.h)"),
        fault(
            "pixel corners for centers",
            "sample.cuh",
            "(position + 0.5f) * step - 0.5f",
            "position * step",
        ),
        fault(
            "one piece of all",
            "warp.cu",
            "lerp2_half8(v, p.src, p.chunks, piece, corners(row, column, p.w), row, column);\n    ((uint4*)p.dst)[i] = pack_half8(v);\n}\n\nKERNEL",
            "lerp2_half8(v, p.src, p.chunks, 0, corners(row, column, p.w), row, column);\n    ((uint4*)p.dst)[i] = pack_half8(v);\n}\n\nKERNEL",
        ),
    ]
}
