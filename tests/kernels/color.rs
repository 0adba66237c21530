//! Planes to image and back, every format, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::color::{
    PlaneLayout, image_from_planes, planes_from_image, rgb8_from_planes,
};
use slomod::backend::cuda::driver::{Buffer, Driver};
use slomod::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};
use slomod::ops::color::{picture_to_rgb, rgb_to_picture, rgb8};
use slomod::ops::tensor::Tensor;

use crate::faults::Fault;
use crate::flow::{both_orders, compare};
use crate::scenes::{Random, pictures, rounded, upload_half};
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

/// Half a step of half precision at `value`, but no less than below 1, and the f32 rounding of a few operations.
fn half_step(value: f32) -> f32 {
    let doubled = value.abs().log2().floor().max(-1.0) + 1.0;
    0.5 / 2048.0 * doubled.exp2() + 1e-6
}

const SIZES: [(usize, usize); 8] =
    [(1, 1), (2, 1), (1, 3), (5, 3), (8, 6), (64, 10), (133, 7), (4099, 2)];

/// Pictures of that size: every kind of 8 bits first, then every sampling in more bits.
pub fn formats(width_px: usize, height_px: usize) -> Vec<PictureFormat> {
    let mut formats = vec![];
    let mut add = |depth, matrix, ranges: &[Range]| {
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr] {
            for &range in ranges {
                let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
                formats.push(format);
            }
        }
    };
    for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
        add(Depth::Eight, matrix, &[Range::Limited, Range::Full]);
    }
    add(Depth::Ten, Matrix::Bt2020, &[Range::Limited, Range::Full]);
    add(Depth::Twelve, Matrix::Bt709, &[Range::Limited]);
    formats
}

pub fn noise(format: PictureFormat, random: &mut Random) -> Picture {
    let mut picture = Picture::zeroed(format);
    let (bytes, codes) = (format.depth.bytes(), usize::from(format.depth.peak()) + 1);
    for sample in picture.planes.iter_mut().flat_map(|plane| plane.chunks_exact_mut(bytes)) {
        sample.copy_from_slice(&random.below(codes).to_le_bytes()[..bytes]);
    }
    picture
}

/// The picture's planes in device memory.
pub fn upload(driver: &Arc<dyn Driver>, picture: &Picture) -> Buffer {
    let layout = PlaneLayout::of(picture.format);
    let mut bytes = vec![0; layout.bytes()];
    layout.write(picture, &mut bytes);
    Buffer::with_content(driver, &bytes).unwrap()
}

fn check_image(shim: &Arc<ShimDriver>, format: PictureFormat) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let (picture, layout) = (noise(format, &mut Random::new(5)), PlaneLayout::of(format));
    let planes = upload(&driver, &picture);
    let (bytes, image) =
        both_orders(shim, |image| image_from_planes(&driver, planes.address(), &layout, image))?;
    let (h, w) = (format.height_px, format.width_px);
    let expected = Tensor { h, w, c: 3, data: picture_to_rgb(&picture) };
    compare(&pictures(&bytes, &image)[0], &expected, half_step)
        .map_err(|at| format!("{format:?}: {at}"))
}

fn check_rgb8(shim: &Arc<ShimDriver>, format: PictureFormat) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let (picture, layout) = (noise(format, &mut Random::new(6)), PlaneLayout::of(format));
    let planes = upload(&driver, &picture);
    let pixels = format.width_px * format.height_px;
    let rgb = Buffer::new(&driver, 3 * pixels).unwrap();
    rgb8_from_planes(&driver, planes.address(), &layout, rgb.address())
        .map_err(|error| error.to_string())?;
    let mut found = vec![0; 3 * pixels];
    driver.download(rgb.address(), &mut found).unwrap();
    let expected = rgb8(&picture_to_rgb(&picture));
    let same = expected
        .chunks_exact(3)
        .enumerate()
        .all(|(at, pixel)| [found[at], found[pixels + at], found[2 * pixels + at]] == pixel);
    if same { Ok(()) } else { Err(format!("{format:?}: other bytes of RGB")) }
}

/// Planes of the second picture of a batch.
fn check_planes(shim: &Arc<ShimDriver>, format: PictureFormat) -> Result<(), String> {
    let driver: Arc<dyn Driver> = shim.clone();
    let (h, w) = (format.height_px, format.width_px);
    let mut random = Random::new(7);
    let mut images = [0; 2].map(|_| Tensor::zeros(h, w, 3));
    for value in images.iter_mut().flat_map(|image| &mut image.data) {
        *value = rounded(random.between(-0.1, 1.1));
    }
    images[1].data[0] = f32::NAN;
    let device = upload_half(&driver, &[&images[0], &images[1]], 4);
    let layout = PlaneLayout::of(format);
    let expected = rgb_to_picture(&images[1].data, format);
    for order in [Order::Forward, Order::Backward] {
        shim.set_order(order);
        let planes = Buffer::new(&driver, layout.bytes()).unwrap();
        planes_from_image(&driver, &device, 1, &layout, planes.address())
            .map_err(|error| error.to_string())?;
        let mut bytes = vec![0; layout.bytes()];
        driver.download(planes.address(), &mut bytes).unwrap();
        if layout.read(&bytes) != expected {
            return Err(format!("{format:?}, {order:?}: other planes"));
        }
    }
    Ok(())
}

type Check = fn(&Arc<ShimDriver>, PictureFormat) -> Result<(), String>;

fn check_all(check: Check) {
    let shim = ShimDriver::new();
    for format in SIZES.into_iter().flat_map(|(w, h)| formats(w, h)) {
        check(&shim, format).unwrap();
    }
}

#[test]
fn images_are_as_defined_for_every_format() {
    check_all(check_image);
}

#[test]
fn bytes_of_rgb_are_those_of_the_definition() {
    check_all(check_rgb8);
}

#[test]
fn planes_are_those_of_the_definition_for_every_format() {
    check_all(check_planes);
}

/// What planted faults must not pass.
fn check_some(shim: &Arc<ShimDriver>) -> Result<(), String> {
    for format in formats(21, 7) {
        check_image(shim, format)?;
        check_rgb8(shim, format)?;
        check_planes(shim, format)?;
    }
    Ok(())
}

pub fn faults() -> Vec<Fault> {
    let fault = |title, old, new| Fault {
        title,
        file: "color.cu",
        old,
        new,
        unit: "color.cu",
        check: check_some,
    };
    vec![
        fault(
            "chroma rows sited the other way",
            "y % 2 ? min(near_row",
            "y % 2 == 0 ? min(near_row",
        ),
        fault(
            "chroma columns sited between",
            "v[0] = column[0], v[1]",
            "v[0] = 0.5f * (column[0] + column[1]), v[1]",
        ),
        fault("chroma filtered a column late", "from.v + 2 * i", "from.v + 2 * i + 1"),
        fault("the pixels before a run are those behind it", "x - BEFORE + i", "x + BEFORE + i"),
        fault("the last row's neighbor is beyond the picture", "min(y + 2, p.h - 1)", "y + 2"),
        fault("rows above and below are left out", "row.v[i] - 0.25f", "row.v[i] - 0.0f"),
        fault("codes cut instead of rounded", "floorf(value + 0.5f)", "floorf(value)"),
        fault("blue and red exchanged", "red[i] - p.luma_zero", "blue[i] - p.luma_zero"),
        fault(
            "stores past the end of a row",
            "if (x + i < n) row[x + i]",
            "if (x + i <= n) row[x + i]",
        ),
    ]
}
