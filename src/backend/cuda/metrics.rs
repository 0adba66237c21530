//! The quality measures' sums over two 8-bit pictures in device memory; see [`crate::ops::metrics`].

use std::sync::Arc;

use super::color::{PlaneLayout, rgb8_from_planes};
use super::driver::{Buffer, DeviceError, Driver, Launch, Parameters};
use super::params::{LumaParams, SquaredErrorParams, SsimParams, TotalParams};
use crate::frame::{Chroma, PictureFormat};
use crate::ops::metrics::Filter;

/// Threads of a block.
const THREADS: u32 = 128;
/// Window positions of a block: rows, columns.
const SSIM_TILE: [usize; 2] = [16, 32];
/// Bytes that a thread of the squared error adds up, at least.
const ERROR_SHARE: usize = 64;
/// Blocks of the squared error, at most.
const ERROR_BLOCKS_MAX: usize = 1024;
/// Sums that come back, 8 bytes each.
const TOTALS: usize = 4;

/// How near a predicted picture is to the true one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// Sum of squared differences over all 8-bit RGB samples.
    pub rgb_squared_error: u64,
    /// Sum of squared differences over 8-bit luma.
    pub luma_squared_error: u64,
    /// Mean SSIM of luma, at most 1.
    pub ssim_luma: f64,
    /// Mean SSIM of RGB with RIFE's window, at most 1.
    pub ssim_rgb: f64,
}

/// The measures for pictures of one format, with all the memory that they need.
#[derive(Debug)]
pub struct PictureMeasures {
    layout: PlaneLayout,
    format: PictureFormat,
    /// RGB and, of pictures without luma, luma; of the true and the predicted picture.
    samples: [Buffer; 2],
    partial: Buffer,
    totals: Buffer,
}

/// Two planar pictures of 8-bit samples.
#[derive(Clone, Copy)]
struct Pair {
    addresses: [u64; 2],
    channels: usize,
}

impl PictureMeasures {
    /// For pictures of that format.
    ///
    /// # Errors
    /// As [`Driver::allocate`].
    pub fn new(driver: &Arc<dyn Driver>, format: PictureFormat) -> Result<Self, DeviceError> {
        let (h, w) = (format.height_px, format.width_px);
        let tiles = [(h, w, Filter::of_luma(w, h)), (h, w, Filter::of_rgb(w, h))]
            .map(|(h, w, filter)| tiles(&filter, h, w).iter().product::<usize>());
        let partials = tiles[0].max(tiles[1]).max(ERROR_BLOCKS_MAX);
        Ok(Self {
            layout: PlaneLayout::of(format),
            format,
            samples: [Buffer::new(driver, 4 * h * w)?, Buffer::new(driver, 4 * h * w)?],
            partial: Buffer::new(driver, 8 * partials)?,
            totals: Buffer::new(driver, 8 * TOTALS)?,
        })
    }

    /// Compares two pictures whose planes lie at these addresses, and waits for the result.
    ///
    /// # Errors
    /// What the driver says.
    pub fn compare(
        &self,
        driver: &Arc<dyn Driver>,
        truth: u64,
        predicted: u64,
    ) -> Result<Measures, DeviceError> {
        let (h, w) = (self.format.height_px, self.format.width_px);
        let planes = [truth, predicted];
        for (samples, planes) in self.samples.iter().zip(planes) {
            rgb8_from_planes(driver, planes, &self.layout, samples.address())?;
        }
        let rgb = Pair { addresses: [0, 1].map(|i| self.samples[i].address()), channels: 3 };
        let luma = Pair { addresses: self.luma(driver, planes)?, channels: 1 };
        self.squared_error(driver, rgb, 0)?;
        self.squared_error(driver, luma, 1)?;
        let luma_positions = self.ssim(driver, luma, &Filter::of_luma(w, h), 2)?;
        let rgb_positions = self.ssim(driver, rgb, &Filter::of_rgb(w, h), 3)?;
        let mut bytes = [0; 8 * TOTALS];
        driver.download(self.totals.address(), &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        // Rounding in f32 can step over 1 by a few 1e-9.
        let mean = |slot: usize, positions: usize| {
            (f64::from_le_bytes(words[slot]) / positions as f64).min(1.0)
        };
        Ok(Measures {
            rgb_squared_error: u64::from_le_bytes(words[0]),
            luma_squared_error: u64::from_le_bytes(words[1]),
            ssim_luma: mean(2, luma_positions),
            ssim_rgb: mean(3, rgb_positions),
        })
    }

    /// Luma as stored; of RGB pictures made from it, behind it.
    fn luma(&self, driver: &Arc<dyn Driver>, planes: [u64; 2]) -> Result<[u64; 2], DeviceError> {
        if self.format.chroma != Chroma::Gbr {
            return Ok(planes.map(|planes| self.layout.plane_address(planes, 0)));
        }
        let pixels = self.format.height_px * self.format.width_px;
        let mut addresses = [0; 2];
        for (address, samples) in addresses.iter_mut().zip(&self.samples) {
            let rgb = samples.address();
            *address = rgb + 3 * pixels as u64;
            let params = LumaParams { rgb, luma: *address, pixels: pixels as u64 };
            driver.launch(&Launch {
                kernel: "luma_of_rgb",
                grid: [(pixels as u32).div_ceil(THREADS), 1, 1],
                block: [THREADS, 1, 1],
                shared_bytes: 0,
                params: params.as_bytes(),
            })?;
        }
        Ok(addresses)
    }

    fn squared_error(
        &self,
        driver: &Arc<dyn Driver>,
        pair: Pair,
        slot: usize,
    ) -> Result<(), DeviceError> {
        let samples = pair.channels * self.format.height_px * self.format.width_px;
        let blocks = samples.div_ceil(THREADS as usize * ERROR_SHARE).min(ERROR_BLOCKS_MAX);
        let params = SquaredErrorParams {
            a: pair.addresses[0],
            b: pair.addresses[1],
            partial: self.partial.address(),
            samples: samples as u64,
        };
        driver.launch(&Launch {
            kernel: "squared_error",
            grid: [blocks as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared_bytes: 0,
            params: params.as_bytes(),
        })?;
        self.total(driver, "total_integers", blocks, slot)
    }

    /// Starts the sum of the SSIM map; how many positions it has.
    fn ssim(
        &self,
        driver: &Arc<dyn Driver>,
        pair: Pair,
        filter: &Filter,
        slot: usize,
    ) -> Result<usize, DeviceError> {
        let (h, w) = (self.format.height_px, self.format.width_px);
        let (out_h, out_w) = (filter.outputs(h), filter.outputs(w));
        let mixes = filter.mixes(pair.channels);
        let mut params = SsimParams {
            a: pair.addresses[0],
            b: pair.addresses[1],
            partial: self.partial.address(),
            h: h as i32,
            w: w as i32,
            out_h: out_h as i32,
            out_w: out_w as i32,
            channels: pair.channels as i32,
            side: filter.taps.len() as i32,
            padding: filter.padding as i32,
            mixes: mixes.len() as i32,
            taps: [0.0; 12],
            mix: [0.0; 39],
            unused: 0,
        };
        params.taps[..filter.taps.len()].copy_from_slice(&filter.taps);
        params.mix[..3 * mixes.len()].copy_from_slice(mixes.as_flattened());
        let [rows, columns] = tiles(filter, h, w);
        driver.launch(&Launch {
            kernel: "ssim",
            grid: [columns as u32, rows as u32, 1],
            block: [THREADS, 1, 1],
            shared_bytes: 0,
            params: params.as_bytes(),
        })?;
        self.total(driver, "total_doubles", rows * columns, slot)?;
        Ok(out_h * out_w * mixes.len())
    }

    fn total(
        &self,
        driver: &Arc<dyn Driver>,
        kernel: &str,
        count: usize,
        slot: usize,
    ) -> Result<(), DeviceError> {
        let params = TotalParams {
            partial: self.partial.address(),
            total: self.totals.address(),
            count: count as u64,
            slot: slot as i32,
            unused: 0,
        };
        driver.launch(&Launch {
            kernel,
            grid: [1, 1, 1],
            block: [THREADS, 1, 1],
            shared_bytes: 0,
            params: params.as_bytes(),
        })
    }
}

/// Rows and columns of the SSIM kernel's blocks.
fn tiles(filter: &Filter, h: usize, w: usize) -> [usize; 2] {
    [filter.outputs(h).div_ceil(SSIM_TILE[0]), filter.outputs(w).div_ceil(SSIM_TILE[1])]
}
