//! Planes to image and back, every format, against the definition.

use std::sync::Arc;

use slomod::backend::cuda::color::{
    PlaneLayout, image_from_planes, planes_from_image, rgb8_from_planes,
};
use slomod::backend::cuda::driver::{Buffer, Driver};
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::frame::{Chroma, Matrix, Picture, PictureFormat, Range};
use slomod::ops::color::{picture_to_rgb, rgb_to_picture, rgb8};
use slomod::ops::tensor::Tensor;

use crate::flow::compare;
use crate::scenes::{Random, download_bytes, pictures, rounded, upload_half};
use crate::shim::driver::ShimDriver;
use crate::shim::library::Order;

/// Half a step of half precision below 1, and the f32 rounding of a few operations.
const HALF_STEP: f32 = 0.5 / 2048.0 + 1e-6;
const SIZES: [(usize, usize); 8] =
    [(1, 1), (2, 1), (1, 3), (5, 3), (8, 6), (64, 10), (133, 7), (4099, 2)];

pub fn formats(width_px: usize, height_px: usize) -> Vec<PictureFormat> {
    let mut formats = vec![];
    for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr] {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            for range in [Range::Limited, Range::Full] {
                formats.push(PictureFormat { width_px, height_px, chroma, matrix, range });
            }
        }
    }
    formats
}

pub fn noise(format: PictureFormat, random: &mut Random) -> Picture {
    let mut picture = Picture::zeroed(format);
    for plane in &mut picture.planes {
        plane.iter_mut().for_each(|value| *value = random.below(256) as u8);
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

#[test]
fn images_are_as_defined_for_every_format() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(5);
    for format in SIZES.into_iter().flat_map(|(w, h)| formats(w, h)) {
        let (picture, layout) = (noise(format, &mut random), PlaneLayout::of(format));
        let planes = upload(&driver, &picture);
        let runs = [Order::Forward, Order::Backward].map(|order| {
            shim.set_order(order);
            let mut image = DeviceTensor::default();
            image_from_planes(&driver, planes.address(), &layout, &mut image).unwrap();
            (download_bytes(&driver, &image), image)
        });
        let [(bytes, image), (backward, _)] = runs;
        assert_eq!(bytes, backward, "{format:?}: the order of threads shows");
        let (h, w) = (format.height_px, format.width_px);
        let expected = Tensor { h, w, c: 3, data: picture_to_rgb(&picture) };
        compare(&pictures(&bytes, &image)[0], &expected, |_| HALF_STEP)
            .unwrap_or_else(|at| panic!("{format:?}: {at}"));
    }
}

#[test]
fn bytes_of_rgb_are_those_of_the_definition() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(6);
    for format in SIZES.into_iter().flat_map(|(w, h)| formats(w, h)) {
        let (picture, layout) = (noise(format, &mut random), PlaneLayout::of(format));
        let planes = upload(&driver, &picture);
        let pixels = format.width_px * format.height_px;
        let rgb = Buffer::new(&driver, 3 * pixels).unwrap();
        rgb8_from_planes(&driver, planes.address(), &layout, rgb.address()).unwrap();
        let mut found = vec![0; 3 * pixels];
        driver.download(rgb.address(), &mut found).unwrap();
        let expected = rgb8(&picture_to_rgb(&picture));
        for (at, pixel) in expected.chunks_exact(3).enumerate() {
            let of = [found[at], found[pixels + at], found[2 * pixels + at]];
            assert_eq!(of, pixel, "{format:?} pixel {at}");
        }
    }
}

#[test]
fn planes_are_those_of_the_definition_for_every_format() {
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let mut random = Random::new(7);
    for (w, h) in SIZES {
        let mut images: Vec<Tensor> = (0..2).map(|_| Tensor::zeros(h, w, 3)).collect();
        for value in images.iter_mut().flat_map(|image| &mut image.data) {
            *value = rounded(random.between(-0.1, 1.1));
        }
        images[1].data[0] = f32::NAN;
        let device = upload_half(&driver, &[&images[0], &images[1]], 4);
        for format in formats(w, h) {
            let layout = PlaneLayout::of(format);
            for (index, image) in images.iter().enumerate() {
                let runs = [Order::Forward, Order::Backward].map(|order| {
                    shim.set_order(order);
                    let planes = Buffer::new(&driver, layout.bytes()).unwrap();
                    let address = planes.address();
                    planes_from_image(&driver, &device, index, &layout, address).unwrap();
                    let mut bytes = vec![0; layout.bytes()];
                    driver.download(address, &mut bytes).unwrap();
                    bytes
                });
                assert_eq!(runs[0], runs[1], "{format:?}: the order of threads shows");
                let expected = rgb_to_picture(&image.data, format);
                assert!(layout.read(&runs[0]) == expected, "{format:?}, picture {index}");
            }
        }
    }
}
