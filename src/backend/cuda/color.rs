//! Decoded pictures in device memory to the network's image and back; see [`crate::ops::color`].

use std::sync::Arc;

use super::driver::{DeviceError, Driver, Launch, Parameters};
use super::params::ColorParams;
use super::tensor::Tensor;
use crate::frame::{Chroma, Depth, Picture, PictureFormat};
use crate::ops::color::kr_kb;
use crate::ops::levels::Quantisation;

/// Planes start at multiples of this, so that rows of common widths can be read as words.
const PLANE_ALIGNMENT: usize = 16;
/// Pixels of a row that a thread makes.
const RUN: usize = 4;
/// Threads of a block along x and y.
const THREADS: [u32; 3] = [32, 4, 1];

/// Where the planes of a picture lie in one run of bytes, on the device as on the host: one behind the other, rows without
/// gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneLayout {
    format: PictureFormat,
    offsets: [usize; 3],
    bytes: usize,
}

impl PlaneLayout {
    /// Of pictures of that format.
    #[must_use]
    pub fn of(format: PictureFormat) -> Self {
        let (mut offsets, mut bytes) = ([0; 3], 0_usize);
        for (index, offset) in offsets.iter_mut().enumerate().take(format.chroma.planes()) {
            let (row_bytes, rows) = format.plane_bytes(index);
            *offset = bytes.next_multiple_of(PLANE_ALIGNMENT);
            bytes = *offset + row_bytes * rows;
        }
        Self { format, offsets, bytes }
    }

    /// Length of the run, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where plane `index` starts in a run at `address`.
    #[must_use]
    pub fn plane_address(&self, address: u64, index: usize) -> u64 {
        address + self.offsets[index] as u64
    }

    /// Copies a picture into a run.
    ///
    /// # Panics
    /// If the picture has another format or the run another length.
    pub fn write(&self, picture: &Picture, run: &mut [u8]) {
        assert_eq!((picture.format, run.len()), (self.format, self.bytes), "picture and run");
        for (offset, plane) in self.offsets.iter().zip(&picture.planes) {
            run[*offset..offset + plane.len()].copy_from_slice(plane);
        }
    }

    /// The picture in a run.
    ///
    /// # Panics
    /// If the run has another length.
    #[must_use]
    pub fn read(&self, run: &[u8]) -> Picture {
        assert_eq!(run.len(), self.bytes, "bytes of a picture");
        let mut picture = Picture::zeroed(self.format);
        for (offset, plane) in self.offsets.iter().zip(&mut picture.planes) {
            let end = offset + plane.len();
            plane.copy_from_slice(&run[*offset..end]);
        }
        picture
    }

    fn params(&self, planes: u64, image: u64) -> ColorParams {
        let PictureFormat { width_px: w, height_px: h, chroma, matrix, .. } = self.format;
        let (chroma_w, chroma_h) = chroma.plane_size(1, w, h);
        let (kr, kb) = kr_kb(matrix);
        let kg = 1.0 - kr - kb;
        let (red, blue) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let levels = Quantisation::of(self.format);
        ColorParams {
            planes: [0, 1, 2].map(|index| self.plane_address(planes, index)),
            image,
            h: h as i32,
            w: w as i32,
            chroma_h: chroma_h as i32,
            chroma_w: chroma_w as i32,
            pitch: w as i32,
            chroma_pitch: chroma_w as i32,
            luma_zero: levels.luma_zero,
            luma_span: levels.luma_span,
            chroma_zero: levels.chroma_zero,
            chroma_span: levels.chroma_span,
            peak: levels.peak,
            kr,
            kg,
            kb,
            red,
            blue,
            green_cb: blue * kb / kg,
            green_cr: red * kr / kg,
        }
    }

    /// The part of a kernel's name that tells a format.
    pub(super) fn kernel_part(&self) -> String {
        let chroma = match self.format.chroma {
            Chroma::Gray => "gray",
            Chroma::C420 => "yuv420",
            Chroma::C422 => "yuv422",
            Chroma::C444 => "yuv444",
            Chroma::Gbr => "gbr",
        };
        let wide = if self.format.depth == Depth::Eight { "" } else { "_wide" };
        format!("{chroma}{wide}")
    }

    /// `rows`: rows of threads.
    fn launch(
        &self,
        driver: &Arc<dyn Driver>,
        kernel: &str,
        rows: usize,
        params: &ColorParams,
    ) -> Result<(), DeviceError> {
        let runs = self.format.width_px.div_ceil(RUN) as u32;
        driver.launch(&Launch {
            kernel,
            grid: [runs.div_ceil(THREADS[0]), (rows as u32).div_ceil(THREADS[1]), 1],
            block: THREADS,
            shared_bytes: 0,
            params: params.as_bytes(),
        })
    }
}

/// The image `[1, h, w, 4]` of the picture whose planes lie at `planes`.
///
/// # Errors
/// What the driver says.
pub fn image_from_planes(
    driver: &Arc<dyn Driver>,
    planes: u64,
    layout: &PlaneLayout,
    image: &mut Tensor,
) -> Result<(), DeviceError> {
    let (h, w) = (layout.format.height_px, layout.format.width_px);
    image.reshape(driver, [1, h, w, 3], 4)?;
    let kernel = format!("image_from_{}", layout.kernel_part());
    layout.launch(driver, &kernel, h, &layout.params(planes, image.address()))
}

/// The same picture's RGB rounded to 8 bit, as the quality measures take it: planes R, G, B of `h * w` bytes at `rgb`.
///
/// # Errors
/// What the driver says.
pub fn rgb8_from_planes(
    driver: &Arc<dyn Driver>,
    planes: u64,
    layout: &PlaneLayout,
    rgb: u64,
) -> Result<(), DeviceError> {
    let kernel = format!("rgb8_from_{}", layout.kernel_part());
    layout.launch(driver, &kernel, layout.format.height_px, &layout.params(planes, rgb))
}

/// Planes at `planes` from picture `index` of `image` `[n, h, w, 4]`.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn planes_from_image(
    driver: &Arc<dyn Driver>,
    image: &Tensor,
    index: usize,
    layout: &PlaneLayout,
    planes: u64,
) -> Result<(), DeviceError> {
    let (h, w) = (layout.format.height_px, layout.format.width_px);
    assert_eq!((image.h, image.w, image.stored), (h, w, 4), "image");
    assert!(index < image.n, "picture {index} of {}", image.n);
    let from = image.address() + (8 * index * h * w) as u64;
    let kernel = format!("{}_from_image", layout.kernel_part());
    let rows = if layout.format.chroma == Chroma::C420 { h.div_ceil(2) } else { h };
    layout.launch(driver, &kernel, rows, &layout.params(planes, from))
}
