//! The quality measures' sums over two 8-bit pictures in device memory; see [`crate::ops::metrics`].

use std::sync::Arc;

use super::color::{PlaneLayout, rgb8_from_planes};
use super::driver::{Buffer, DeviceError, Driver, Launch, Parameters};
use super::params::{Luma8Params, LumaParams, SquaredErrorParams, SsimParams, TotalParams};
use crate::frame::{Chroma, Depth, PictureFormat};
use crate::ops::metrics::{Filter, Measures};

/// Threads of a block.
const THREADS: u32 = 128;
/// Window positions of a block: rows, columns.
const SSIM_TILE: [usize; 2] = [16, 32];
/// Bytes that a thread of the squared error adds up, at least.
const ERROR_SHARE: usize = 64;
/// Blocks of the squared error, at most.
const ERROR_BLOCKS_MAX: usize = 1024;
/// Sums of a comparison, 8 bytes each.
const TOTALS: usize = 4;
/// Bytes of a comparison's sums.
pub const TOTALS_BYTES: usize = 8 * TOTALS;

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
        let (samples, partial) = (samples_bytes(format), partial_bytes(format));
        Ok(Self {
            layout: PlaneLayout::of(format),
            format,
            samples: [Buffer::new(driver, samples)?, Buffer::new(driver, samples)?],
            partial: Buffer::new(driver, partial)?,
            totals: Buffer::new(driver, TOTALS_BYTES)?,
        })
    }

    /// Device memory that they take, in bytes.
    #[must_use]
    pub fn bytes(format: PictureFormat) -> usize {
        2 * samples_bytes(format) + partial_bytes(format) + TOTALS_BYTES
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
        self.start(driver, truth, &[predicted], self.totals.address())?;
        let mut bytes = [0; TOTALS_BYTES];
        driver.download(self.totals.address(), &mut bytes)?;
        Ok(self.measures(&bytes))
    }

    /// Starts to compare pictures with the true one; their planes lie at these addresses. The sums go to `totals`,
    /// [`TOTALS_BYTES`] for each, and [`PictureMeasures::measures`] reads them.
    ///
    /// # Errors
    /// What the driver says.
    pub fn start(
        &self,
        driver: &Arc<dyn Driver>,
        truth: u64,
        predicted: &[u64],
        totals: u64,
    ) -> Result<(), DeviceError> {
        let (h, w) = (self.format.height_px, self.format.width_px);
        let true_luma = self.samples_of(driver, truth, 0)?;
        for (index, planes) in predicted.iter().enumerate() {
            let totals = totals + (index * TOTALS_BYTES) as u64;
            let luma = [true_luma, self.samples_of(driver, *planes, 1)?];
            let rgb = Pair { addresses: [0, 1].map(|i| self.samples[i].address()), channels: 3 };
            let luma = Pair { addresses: luma, channels: 1 };
            self.squared_error(driver, rgb, [totals, 0])?;
            self.squared_error(driver, luma, [totals, 1])?;
            self.ssim(driver, luma, &Filter::of_luma(w, h), [totals, 2])?;
            self.ssim(driver, rgb, &Filter::of_rgb(w, h), [totals, 3])?;
        }
        Ok(())
    }

    /// The measures of one comparison.
    #[must_use]
    pub fn measures(&self, totals: &[u8; TOTALS_BYTES]) -> Measures {
        let (h, w) = (self.format.height_px, self.format.width_px);
        let (words, _) = totals.as_chunks::<8>();
        // Rounding in f32 can step over 1 by a few 1e-9.
        let mean = |slot: usize, filter: &Filter, channels: usize| {
            let positions = filter.outputs(h) * filter.outputs(w) * filter.mixes(channels).len();
            (f64::from_le_bytes(words[slot]) / positions as f64).min(1.0)
        };
        Measures {
            rgb_squared_error: u64::from_le_bytes(words[0]),
            luma_squared_error: u64::from_le_bytes(words[1]),
            ssim_luma: mean(2, &Filter::of_luma(w, h), 1),
            ssim_rgb: mean(3, &Filter::of_rgb(w, h), 3),
        }
    }

    /// RGB of a picture, and where its luma lies: as stored, or behind RGB where it is made from that or from more bits.
    fn samples_of(
        &self,
        driver: &Arc<dyn Driver>,
        planes: u64,
        index: usize,
    ) -> Result<u64, DeviceError> {
        let rgb = self.samples[index].address();
        rgb8_from_planes(driver, planes, &self.layout, rgb)?;
        let stored = self.layout.plane_address(planes, 0);
        let pixels = (self.format.height_px * self.format.width_px) as u64;
        let luma = rgb + 3 * pixels;
        let launch = |kernel, params: &[u8]| {
            driver.launch(&Launch {
                kernel,
                grid: [(pixels as u32).div_ceil(THREADS), 1, 1],
                block: [THREADS, 1, 1],
                shared_bytes: 0,
                params,
            })
        };
        match (self.format.chroma, self.format.depth) {
            (Chroma::Gbr, _) => {
                launch("luma_of_rgb", LumaParams { rgb, luma, pixels }.as_bytes())?;
            }
            (_, Depth::Eight) => return Ok(stored),
            (_, depth) => {
                let steps = u64::from(depth.steps());
                let params = Luma8Params { wide: stored, luma, pixels, steps };
                launch("luma8", params.as_bytes())?;
            }
        }
        Ok(luma)
    }

    fn squared_error(
        &self,
        driver: &Arc<dyn Driver>,
        pair: Pair,
        to: [u64; 2],
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
        self.total(driver, "total_integers", blocks, to)
    }

    /// Starts the sum of the SSIM map.
    fn ssim(
        &self,
        driver: &Arc<dyn Driver>,
        pair: Pair,
        filter: &Filter,
        to: [u64; 2],
    ) -> Result<(), DeviceError> {
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
        self.total(driver, "total_doubles", rows * columns, to)
    }

    /// Adds the partial sums up, into a slot of the totals at an address.
    fn total(
        &self,
        driver: &Arc<dyn Driver>,
        kernel: &str,
        count: usize,
        [total, slot]: [u64; 2],
    ) -> Result<(), DeviceError> {
        let params = TotalParams {
            partial: self.partial.address(),
            total,
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

/// Bytes of the samples of one picture.
fn samples_bytes(format: PictureFormat) -> usize {
    4 * format.height_px * format.width_px
}

/// Bytes of the sums of all blocks of a launch.
fn partial_bytes(format: PictureFormat) -> usize {
    let (h, w) = (format.height_px, format.width_px);
    let tiles = [Filter::of_luma(w, h), Filter::of_rgb(w, h)]
        .map(|filter| tiles(&filter, h, w).iter().product::<usize>());
    8 * tiles[0].max(tiles[1]).max(ERROR_BLOCKS_MAX)
}

/// Rows and columns of the SSIM kernel's blocks.
fn tiles(filter: &Filter, h: usize, w: usize) -> [usize; 2] {
    [filter.outputs(h).div_ceil(SSIM_TILE[0]), filter.outputs(w).div_ceil(SSIM_TILE[1])]
}
