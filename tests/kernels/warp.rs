//! Backward warp and bilinear resize, against the definitions.

use std::sync::Arc;

use slomod::backend::cuda::driver::{Buffer, Driver};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::backend::cuda::warp::{resize, warp};
use slomod::ops;
use slomod::ops::tensor::Tensor;

use crate::flow::{compare, tolerance};
use crate::scenes::{Random, download_bytes, pictures, rounded, upload_half};
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

const SIZES: [[usize; 2]; 6] = [[1, 1], [1, 13], [9, 1], [17, 19], [4, 64], [2, 4357]];

fn image(random: &mut Random, [h, w]: [usize; 2], c: usize) -> Tensor {
    let mut image = Tensor::zeros(h, w, c);
    image.data.iter_mut().for_each(|value| *value = rounded(random.between(-1.0, 1.0)));
    image
}

/// Runs in both orders of threads, which must agree, and gives the picture.
fn both_orders(
    shim: &Arc<ShimDriver>,
    run: impl Fn(&Arc<dyn Driver>, &mut DeviceTensor),
) -> Tensor {
    let driver: Arc<dyn Driver> = shim.clone();
    let runs = [Order::Forward, Order::Backward].map(|order| {
        shim.set_order(order);
        let mut output = DeviceTensor::default();
        run(&driver, &mut output);
        (download_bytes(&driver, &output), output)
    });
    let [(bytes, output), (backward, _)] = runs;
    assert_eq!(bytes, backward, "the order of threads shows");
    pictures(&bytes, &output).remove(0)
}

#[test]
fn warps_are_as_defined_wherever_flows_point() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(3);
    for size in SIZES {
        for (reach, c) in [(2.5, 8), (100.0, 13), (1e4, 16)] {
            let image = image(&mut random, size, c);
            let mut flow = Tensor::zeros(image.h, image.w, 2);
            flow.data.iter_mut().for_each(|value| *value = random.between(-reach, reach));
            flow.data[0] = f32::NAN;
            *flow.data.last_mut().unwrap() = f32::INFINITY;
            let bytes: Vec<u8> = flow.data.iter().flat_map(|value| value.to_le_bytes()).collect();
            let on_device = Buffer::with_content(&driver, &bytes).unwrap();
            let src = upload_half(&driver, &[&image], c.next_multiple_of(8));
            let found = both_orders(&shim, |driver, output| {
                warp(driver, &src, on_device.address(), output).unwrap();
            });
            let expected = ops::warp::reference(&image, &flow, 0);
            compare(&found, &expected, |value| tolerance(value, size, reach))
                .unwrap_or_else(|at| panic!("{size:?}, reach {reach}: {at}"));
        }
    }
}

#[test]
fn resizes_are_as_defined_up_and_down() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(4);
    for size in SIZES {
        for factor in [0.25, 0.5, 1.0, 2.0, 4.0] {
            let size = if factor < 1.0 { size.map(|n| 4 * n) } else { size };
            let image = image(&mut random, size, 5);
            let src = upload_half(&driver, &[&image], 8);
            let found = both_orders(&shim, |driver, output| {
                resize(driver, &src, factor, output).unwrap();
            });
            let expected = ops::resize::reference(&image, factor);
            compare(&found, &expected, |value| tolerance(value, size, 0.0))
                .unwrap_or_else(|at| panic!("{size:?} by {factor}: {at}"));
        }
    }
}
