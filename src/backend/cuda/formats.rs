//! Every kernel between decoded pictures and the network or the scores, run once and compared with the definition.
//!
//! A clip's format decides which of them it gets: how chroma is sampled, and whether a sample has 8 bits or more. Matrix, range
//! and further bits are numbers that the kernels are given.

use std::sync::Arc;

use half::f16;

use super::backend::Cuda;
use super::color::{PlaneLayout, image_from_planes, planes_from_image};
use super::driver::{Buffer, DeviceError, Driver};
use super::metrics::PictureMeasures;
use super::shapes::values;
use super::tensor::Tensor;
use crate::backend::Backend as _;
use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range, Sample};
use crate::ops::color::{picture_to_rgb, rgb_to_picture, rgb8};
use crate::ops::metrics::{luma_of_rgb, luma8, squared_error};

/// Columns and rows: runs of whole words and a rest, and chroma of its own at the odd border.
const SIZE: (usize, usize) = (21, 5);

/// How far a value of an image up to 1 may be off, and beyond as a share of it: half precision leaves half of this, and a code
/// of 8 bits is four times as much.
const TOLERANCE: f32 = 0.001;

/// What kernels are compared with.
#[derive(Debug)]
pub struct Trial(Vec<Case>);

/// Pictures of one format, and what comes of them.
#[derive(Debug)]
struct Case {
    format: PictureFormat,
    pictures: [Picture; 2],
    /// RGB of the first.
    rgb: Vec<f32>,
    /// An image in half precision, and its picture.
    image: Vec<f16>,
    of_image: Picture,
    /// Between the two pictures: of RGB, of luma.
    squared_errors: [u64; 2],
}

impl Trial {
    /// Computes what has to come out, by the definitions.
    #[must_use]
    pub fn prepare() -> Self {
        let chroma = [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr];
        let case = |depth| chroma.map(|chroma| Case::of(chroma, depth));
        Self([Depth::Eight, Depth::Ten].into_iter().flat_map(case).collect())
    }

    /// The first kernel with which the device computes otherwise, if any.
    ///
    /// # Errors
    /// What the driver says.
    pub fn run(&self, driver: &Arc<dyn Driver>) -> Result<Option<String>, DeviceError> {
        for case in &self.0 {
            if let Some(kernel) = case.run(driver)? {
                return Ok(Some(kernel));
            }
        }
        Ok(None)
    }
}

impl Case {
    fn of(chroma: Chroma, depth: Depth) -> Self {
        let ((width_px, height_px), matrix, range) = (SIZE, Matrix::Bt709, Range::Limited);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let pictures = [0, 1].map(|number| picture(format, number));
        // Some saturate.
        let drawn = values(3 * width_px * height_px, 0.7).into_iter().map(|it| it + 0.5);
        let image: Vec<f16> = drawn.map(f16::from_f32).collect();
        let exact: Vec<f32> = image.iter().copied().map(f16::to_f32).collect();
        let [a, b] = pictures.each_ref().map(|it| rgb8(&picture_to_rgb(it)));
        let [luma_a, luma_b] = pictures.each_ref().map(luma);
        Self {
            format,
            rgb: picture_to_rgb(&pictures[0]),
            pictures,
            image,
            of_image: rgb_to_picture(&exact, format),
            squared_errors: [squared_error(&a, &b), squared_error(&luma_a, &luma_b)],
        }
    }

    fn run(&self, driver: &Arc<dyn Driver>) -> Result<Option<String>, DeviceError> {
        let layout = PlaneLayout::of(self.format);
        let part = layout.kernel_part();
        let [a, b] = self.pictures.each_ref().map(|picture| {
            let mut planes = vec![0; layout.bytes()];
            layout.write(picture, &mut planes);
            Buffer::with_content(driver, &planes)
        });
        let [a, b] = [a?, b?];
        if !self.image_is_right(driver, &layout, &a)? {
            return Ok(Some(format!("image_from_{part}")));
        }
        if !self.planes_are_right(driver, &layout)? {
            return Ok(Some(format!("{part}_from_image")));
        }
        let measures = PictureMeasures::new(driver, self.format)?;
        let found = measures.compare(driver, a.address(), b.address())?;
        if found.rgb_squared_error != self.squared_errors[0] {
            return Ok(Some(format!("rgb8_from_{part}")));
        }
        let of_luma = match (self.format.chroma, self.format.depth) {
            (Chroma::Gbr, _) => "luma_of_rgb",
            (_, Depth::Eight) => "squared_error",
            _ => "luma8",
        };
        let differs = found.luma_squared_error != self.squared_errors[1];
        Ok(differs.then(|| of_luma.to_owned()))
    }

    fn image_is_right(
        &self,
        driver: &Arc<dyn Driver>,
        layout: &PlaneLayout,
        planes: &Buffer,
    ) -> Result<bool, DeviceError> {
        let mut image = Tensor::default();
        image.reshape(driver, [1, SIZE.1, SIZE.0, 3], 4)?;
        // What was there before is not taken for the kernel's work: this is NaN.
        driver.upload(image.address(), &vec![0xff; image.bytes()])?;
        image_from_planes(driver, planes.address(), layout, &mut image)?;
        let mut reader = Cuda::with_batch(Arc::clone(driver), 1);
        let found = reader.image_to_rgb(&image, 0);
        reader.status()?;
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
        Ok(found.len() == self.rgb.len() && found.iter().zip(&self.rgb).all(same))
    }

    fn planes_are_right(
        &self,
        driver: &Arc<dyn Driver>,
        layout: &PlaneLayout,
    ) -> Result<bool, DeviceError> {
        let mut image = Tensor::default();
        image.reshape(driver, [1, SIZE.1, SIZE.0, 3], 4)?;
        let pixels = self.image.chunks_exact(3).flat_map(|it| [it[0], it[1], it[2], f16::ZERO]);
        let content: Vec<u8> = pixels.flat_map(f16::to_le_bytes).collect();
        driver.upload(image.address(), &content)?;
        let planes = Buffer::with_content(driver, &vec![0xff; layout.bytes()])?;
        planes_from_image(driver, &image, 0, layout, planes.address())?;
        let mut found = vec![0; layout.bytes()];
        driver.download(planes.address(), &mut found)?;
        Ok(layout.read(&found) == self.of_image)
    }
}

/// Codes of all sizes; those of the second picture are those of the first, one place further.
fn picture(format: PictureFormat, number: usize) -> Picture {
    let mut picture = Picture::zeroed(format);
    let bytes = format.depth.bytes();
    let samples: usize = picture.planes.iter().map(Vec::len).sum::<usize>() / bytes;
    let mut drawn = values(samples + number, 1.0).into_iter().skip(number);
    for sample in picture.planes.iter_mut().flat_map(|plane| plane.chunks_exact_mut(bytes)) {
        let value = drawn.next().unwrap_or_default();
        let code = (0.5 * (value + 1.0) * f32::from(format.depth.peak())) as u16;
        sample.copy_from_slice(&code.to_le_bytes()[..bytes]);
    }
    picture
}

/// Luma of 8 bits, as the measures take it.
fn luma(picture: &Picture) -> Vec<u8> {
    let (format, plane) = (picture.format, &picture.planes[0]);
    match (format.chroma, format.depth) {
        (Chroma::Gbr, _) => {
            let rgb = rgb8(&picture_to_rgb(picture));
            rgb.as_chunks().0.iter().map(|pixel| luma_of_rgb(*pixel)).collect()
        }
        (_, Depth::Eight) => plane.clone(),
        (_, depth) => {
            let samples = <[u8; 2]>::of(plane).iter();
            samples.map(|sample| luma8(sample.code(), depth.steps())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backend::cuda::images;

    /// Where this build has kernels: each of `color.cu` is one of a case.
    #[test]
    fn every_kernel_of_formats_is_tried() {
        let trial = Trial::prepare();
        let tried: BTreeSet<String> = trial
            .0
            .iter()
            .flat_map(|case| {
                let part = PlaneLayout::of(case.format).kernel_part();
                [
                    format!("image_from_{part}"),
                    format!("{part}_from_image"),
                    format!("rgb8_from_{part}"),
                ]
            })
            .collect();
        assert_eq!(tried.len(), 3 * 5 * 2);
        let there = images::resources().iter().filter(|it| it.source == "color");
        let untried: Vec<_> = there.map(|it| it.kernel).filter(|it| !tried.contains(*it)).collect();
        assert_eq!(untried, Vec::<&str>::new());
    }

    /// So each of the kernels shows in what is compared.
    #[test]
    fn pictures_of_a_format_differ() {
        for case in Trial::prepare().0 {
            assert!(case.squared_errors.iter().all(|it| *it > 0), "{:?}", case.format);
            assert_ne!(case.of_image, case.pictures[0], "{:?}", case.format);
            let [low, high] = [f32::min, f32::max].map(|it| case.rgb.iter().copied().reduce(it));
            assert!(low < Some(0.0) && high > Some(1.0), "{:?}", case.format);
        }
    }
}
