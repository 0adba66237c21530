//! Squared errors and SSIM of two pictures, against the processor's figures.

use std::sync::Arc;

use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::metrics::PictureMeasures;
use slomod::frame::Picture;
use slomod::ops::metrics::{Filter, ssim_reference};
use slomod::quality::{Samples, compare};

use crate::color::{formats, noise, upload};
use crate::scenes::Random;
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

/// SSIM is a mean of f32 values whose variances lose digits: the figures are shown with five.
const SSIM_TOLERANCE: f64 = 1e-5;

/// A picture like it, as a network might make it.
fn near(picture: &Picture, random: &mut Random) -> Picture {
    let mut near = picture.clone();
    for value in near.planes.iter_mut().flatten() {
        *value = value.saturating_add(random.below(9) as u8).saturating_sub(random.below(9) as u8);
    }
    near
}

#[test]
fn measures_are_the_processors_for_every_format_and_size() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(8);
    for (w, h) in [(1, 1), (2, 3), (7, 5), (10, 40), (11, 11), (53, 37)] {
        for format in formats(w, h) {
            let truth = noise(format, &mut random);
            let predicted = near(&truth, &mut random);
            let [a, b] = [&truth, &predicted].map(|picture| upload(&driver, picture));
            let measures = PictureMeasures::new(&driver, format).unwrap();
            let runs = [Order::Forward, Order::Backward].map(|order| {
                shim.set_order(order);
                measures.compare(&driver, a.address(), b.address()).unwrap()
            });
            assert_eq!(runs[0], runs[1], "{format:?}: the order of threads shows");
            let found = runs[0];
            let expected = compare(&Samples::of_picture(&truth), &Samples::of_picture(&predicted));
            assert_eq!(found.rgb_squared_error, expected.rgb.sum, "{format:?}");
            assert_eq!(found.luma_squared_error, expected.luma.sum, "{format:?}");
            let off = (found.ssim_luma - expected.ssim_y).abs();
            assert!(off <= SSIM_TOLERANCE, "{format:?}: {found:?}, want {expected:?}");
            let off = (found.ssim_rgb - expected.ssim_rife).abs();
            assert!(off <= SSIM_TOLERANCE, "{format:?}: {found:?}, want {expected:?}");
        }
    }
}

#[test]
fn the_fast_measure_is_the_defined_one() {
    let mut random = Random::new(9);
    for (w, h) in [(1, 1), (4, 9), (23, 17)] {
        let format = formats(w, h)[0];
        let a = noise(format, &mut random).planes.remove(0);
        let b = noise(format, &mut random).planes.remove(0);
        let (sum, positions) = ssim_reference(&a, &b, [h, w, 1], &Filter::of_luma(w, h));
        let fast = slomod::quality::ssim::ssim_y(&a, &b, w, h);
        assert!((fast - sum / positions as f64).abs() <= SSIM_TOLERANCE, "{w}x{h}: {fast}");
        let [a, b] = [&a, &b]
            .map(|plane| plane.iter().flat_map(|&v| [v, v / 2, 255 - v]).collect::<Vec<u8>>());
        let (sum, positions) = ssim_reference(&a, &b, [h, w, 3], &Filter::of_rgb(w, h));
        let fast = slomod::quality::ssim::ssim_rife(&a, &b, w, h);
        assert!((fast - sum / positions as f64).abs() <= SSIM_TOLERANCE, "{w}x{h}: {fast}");
    }
}
