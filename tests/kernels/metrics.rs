//! Squared errors and SSIM of two pictures, against the processor's figures.

use std::sync::Arc;

use slomod::backend::cuda::driver::Driver;
use slomod::backend::cuda::metrics::PictureMeasures;
use slomod::frame::{Chroma, Depth, Picture, PictureFormat};
use slomod::ops::metrics::{Filter, ssim_reference};
use slomod::quality::{Samples, compare};

use crate::color::{formats, noise, upload};
use crate::faults::Fault;
use crate::scenes::Random;
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

/// SSIM is a mean of f32 values whose variances lose digits: the figures are shown with five.
const SSIM_TOLERANCE: f64 = 1e-5;

/// A picture like it, as a network might make it.
fn near(picture: &Picture, random: &mut Random) -> Picture {
    let mut near = picture.clone();
    let depth = picture.format.depth;
    let (bytes, peak) = (depth.bytes(), usize::from(depth.peak()));
    for plane in &mut near.planes {
        for (at, sample) in plane.chunks_exact_mut(bytes).enumerate() {
            // Worse here, better there, so that a shift of the window shows.
            let reach = (1 + at % 61) * usize::from(depth.steps());
            let (up, down) = (random.below(reach), random.below(reach));
            let code = sample.iter().rev().fold(0, |code, byte| code << 8 | usize::from(*byte));
            let code = (code + up).min(peak).saturating_sub(down);
            sample.copy_from_slice(&code.to_le_bytes()[..bytes]);
        }
    }
    near
}

fn check(shim: &Arc<ShimDriver>, format: PictureFormat) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(8);
    let truth = noise(format, &mut random);
    let predicted = near(&truth, &mut random);
    let [a, b] = [&truth, &predicted].map(|picture| upload(&driver, picture));
    let measures = PictureMeasures::new(&driver, format).unwrap();
    let measure = |order| {
        shim.set_order(order);
        let found = measures.compare(&driver, a.address(), b.address());
        found.map_err(|error| error.to_string())
    };
    let (found, backward) = (measure(Order::Forward)?, measure(Order::Backward)?);
    let expected = compare(&Samples::of_picture(&truth), &Samples::of_picture(&predicted));
    let exact = found == backward
        && found.rgb_squared_error == expected.rgb.sum
        && found.luma_squared_error == expected.luma.sum;
    let near = (found.ssim_luma - expected.ssim_y).abs() <= SSIM_TOLERANCE
        && (found.ssim_rgb - expected.ssim_rife).abs() <= SSIM_TOLERANCE;
    let differ = || format!("{format:?}: {found:?}, backward {backward:?}, want {expected:?}");
    if exact && near { Ok(()) } else { Err(differ()) }
}

#[test]
fn measures_are_the_processors_for_every_format_and_size() {
    let shim = ShimDriver::new();
    for (w, h) in [(1, 1), (2, 3), (7, 5), (10, 40), (11, 11), (53, 37)] {
        for format in formats(w, h).into_iter().filter(|it| it.depth == Depth::Eight) {
            check(&shim, format).unwrap();
        }
    }
}

/// At sizes where many windows average the rounding of each: one of bright noise alone may be off by 2e-5.
#[test]
fn measures_of_more_bits_are_the_processors() {
    let shim = ShimDriver::new();
    for (w, h) in [(10, 40), (53, 37)] {
        for format in formats(w, h).into_iter().filter(|it| it.depth != Depth::Eight) {
            check(&shim, format).unwrap();
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

/// What planted faults must not pass: an odd number of samples, several tiles.
fn check_some(shim: &Arc<ShimDriver>) -> Result<(), String> {
    let of = |chroma, depth| {
        let mut formats = formats(53, 37).into_iter();
        formats.find(|it| (it.chroma, it.depth) == (chroma, depth)).unwrap()
    };
    check(shim, of(Chroma::C420, Depth::Eight))?;
    check(shim, of(Chroma::C420, Depth::Ten))?;
    check(shim, of(Chroma::Gbr, Depth::Eight))
}

pub fn faults() -> Vec<Fault> {
    let fault = |title, old, new| Fault {
        title,
        file: "metrics.cu",
        old,
        new,
        unit: "metrics.cu color.cu",
        check: check_some,
    };
    vec![
        fault(
            "no barrier before a sum",
            "shared[i] = value;\n    __syncthreads();",
            "shared[i] = value;",
        ),
        fault(
            "no barrier behind a tile",
            "load_tile(a, b, p, channel, y0, x0);\n        __syncthreads();",
            "load_tile(a, b, p, channel, y0, x0);",
        ),
        fault(
            "samples behind the last word left out",
            "4 * words + first",
            "4 * words + first + 1",
        ),
        fault("more bits cut instead of rounded", "p.wide[i] + steps / 2", "p.wide[i]"),
        fault("the border a sample off", "at - padding, 0", "at - padding - 1, 0"),
        fault("positions outside counted", "x0 + column >= p.out_w", "x0 + column > p.out_w"),
    ]
}
