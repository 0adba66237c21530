//! The feature network of 16 channels and 4 features by strips, so that nothing but the record leaves the cache.
//!
//! A task goes down a strip of the record, four rows of the half-size planes at a time. Between layers it keeps the
//! six rows that the next layer's tiles read; those before the first are computed anew. The transposed convolution is
//! one of 3x3 taps to 16 channels: both rows, both columns, four features.
#![expect(
    unsafe_code,
    reason = "vector instructions over rows of scratch; `run` checks the shapes"
)]

use std::ops::Range;

use super::conv::{Conv, row_of_lanes};
use super::instructions::Kernels;
use super::narrow::{self, CHANNELS, Line};
use super::pack::Packed;
use super::simd::{Halves, Simd, Work};
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::{Residual, Row};
use super::winograd::{COORDINATES, INPUTS, OUTPUTS, kernel_coordinate};
use crate::ops::deconv::{DeconvWeights, Shuffle};
use crate::ops::head::Padded;

/// Features in a record.
const FEATURES: usize = 4;
/// Values of a pixel of a record.
const RECORD: usize = 8;
/// Most columns of a strip, in pixels of half size: all planes of a task stay in the second-level cache.
const STRIP: usize = 128;
/// Most rows of a task, in pixels of half size; each computes eight rows for its first four.
const MOST_ROWS: usize = 128;
/// Columns that the first convolution computes beyond the strip, on either side.
const MARGIN: usize = 3;
/// Rows of the picture in scratch: those of the outputs at hand, and those that the first convolution reads ahead.
const PICTURE_ROWS: usize = 14;

/// Pixels from which on a record is written past the caches, which two of them would not fit.
const STREAMED: usize = 1 << 19;

/// Packed weights of the four layers.
#[derive(Clone, Debug)]
pub(super) struct Head {
    first: Conv,
    inner: [Conv; 2],
    /// By coordinate, output channels `[y % 2][x % 2][feature]`.
    last: Packed,
}

/// One record, for the entry functions.
pub(super) struct HeadJob<'a> {
    head: &'a Head,
    picture: &'a Padded<'a>,
    /// Size of the planes between the layers.
    h: usize,
    w: usize,
    /// From the first pixel inside the border.
    dst: Shared<'a>,
    dst_row: usize,
    /// Whether the record is written past the caches.
    stream: bool,
}

/// A task's scratch memory.
struct Strip<'a, 'b> {
    job: &'a HeadJob<'a>,
    columns: Range<usize>,
    /// Where the first rows are: those that drop out make room for the next.
    first_of_picture: usize,
    first_of_planes: usize,
    /// [`PICTURE_ROWS`] rows of r, g, b.
    picture: &'b mut [f32],
    /// Six rows behind each of the convolutions; the last four are new.
    planes: [&'b mut [f32]; 3],
    /// Four rows behind the transposed convolution.
    features: &'b mut [f32],
    /// A row of the record, and what stores of its last features may touch.
    record: &'b mut [f32],
    tiles: &'b mut [f32],
}

impl Head {
    /// The layers of a feature network, where it has the shape for which this is the faster way.
    pub(super) fn new(lanes: usize, convs: &[&Conv], deconv: &DeconvWeights) -> Option<Self> {
        let [first, second, third] = convs else { return None };
        let fits = first.stride() == 2
            && first.shape() == (3, CHANNELS)
            && second.is_narrow()
            && third.is_narrow()
            && (deconv.in_channels, deconv.out_channels) == (CHANNELS, FEATURES)
            && deconv.shuffle == Shuffle::None;
        fits.then(|| Self {
            first: (*first).clone(),
            inner: [(*second).clone(), (*third).clone()],
            last: pack(lanes, deconv),
        })
    }
}

/// The transposed convolution as one of 3x3 taps.
fn pack(lanes: usize, deconv: &DeconvWeights) -> Packed {
    let weight = |co: usize, at: usize, ci: usize| {
        // Output parity p reads input offset t - 1 with kernel index 3 + p - 2t, where there is such an index.
        let index = |parity: usize, t: usize| (3 + parity).checked_sub(2 * t).filter(|i| *i < 4);
        kernel_coordinate(at, |tap| {
            match (index(co / 8, tap / 3), index(co / FEATURES % 2, tap % 3)) {
                (Some(y), Some(x)) => {
                    deconv.weight[((ci * FEATURES + co % FEATURES) * 4 + y) * 4 + x]
                }
                _ => 0.0,
            }
        })
    };
    let bias = |co: usize| deconv.bias[co % FEATURES];
    let shape = (COORDINATES, CHANNELS, CHANNELS);
    Packed::new(shape, (CHANNELS, CHANNELS), lanes, weight, bias, |_| 1.0)
}

/// The record at rows `rows` and columns `columns` of the half-size planes; `rows` begins with a multiple of 4.
///
/// # Safety
/// The instruction set of `S` is enabled; `run` checked the shapes; no other thread touches this part of the record.
#[inline(always)]
pub(super) unsafe fn head<S: Simd>(
    job: &HeadJob<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &mut [f32],
) {
    let mut strip = Strip::new(job, columns, scratch);
    let first = rows.start as isize;
    let step = OUTPUTS as isize;
    // SAFETY: the caller's promise is the same.
    unsafe {
        S::outline(Fill { strip: &mut strip, y: first - 2 * step, fresh: PICTURE_ROWS });
        strip.first_conv::<S>(first - 2 * step);
        for y in (first - step..rows.end as isize).step_by(OUTPUTS) {
            strip.advance();
            S::outline(Fill { strip: &mut strip, y, fresh: 2 * OUTPUTS });
            strip.first_conv::<S>(y);
            strip.inner_conv::<S>(0, y + 2);
            strip.inner_conv::<S>(1, y + 1);
            if y >= first {
                strip.last::<S>();
                let y = y as usize;
                let count = OUTPUTS.min(rows.end - y);
                <S::Eight as Simd>::outline(Write { strip: &mut strip, y, count });
            }
        }
    }
}

impl<'a, 'b> Strip<'a, 'b> {
    /// Lengths of the parts: picture, a plane, features, a row of the record.
    fn lens(columns: usize) -> [usize; 4] {
        let plane = columns + 2 * MARGIN;
        [
            PICTURE_ROWS * 3 * (2 * plane + 1),
            INPUTS * plane * CHANNELS,
            OUTPUTS * columns * CHANNELS,
            2 * columns * RECORD + 2 * RECORD,
        ]
    }

    /// Values of scratch memory for a strip of `columns`.
    fn scratch_len(columns: usize) -> usize {
        let [picture, plane, features, record] = Self::lens(columns);
        picture + 3 * plane + features + record + narrow::SCRATCH
    }

    fn new(job: &'a HeadJob<'a>, columns: Range<usize>, scratch: &'b mut [f32]) -> Self {
        let [picture_len, plane, features_len, record_len] = Self::lens(columns.len());
        // Rows of 16 channels first, where the lines of the cache begin.
        let (planes, rest) = scratch.split_at_mut(3 * plane);
        let (features, rest) = rest.split_at_mut(features_len);
        let (record, rest) = rest.split_at_mut(record_len);
        let (picture, tiles) = rest.split_at_mut(picture_len);
        // Rows before the first are read with those that count, and must not be beyond measure.
        planes.fill(0.0);
        let (a, rest) = planes.split_at_mut(plane);
        let (b, c) = rest.split_at_mut(plane);
        Self {
            job,
            columns,
            first_of_picture: 0,
            first_of_planes: 0,
            picture,
            planes: [a, b, c],
            features,
            record,
            tiles,
        }
    }

    /// Values in a row of the picture, and of a plane.
    fn row_lens(&self) -> [usize; 2] {
        let plane = self.columns.len() + 2 * MARGIN;
        [3 * (2 * plane + 1), plane * CHANNELS]
    }

    /// Makes room for the next four rows everywhere.
    fn advance(&mut self) {
        self.first_of_picture = (self.first_of_picture + 2 * OUTPUTS) % PICTURE_ROWS;
        self.first_of_planes = (self.first_of_planes + OUTPUTS) % INPUTS;
    }

    /// Where row `index` of the picture begins.
    fn picture_row(&self, index: usize) -> usize {
        let [len, _] = self.row_lens();
        (self.first_of_picture + index) % PICTURE_ROWS * len
    }

    /// Where row `index` of a plane begins.
    fn plane_row(&self, index: usize) -> usize {
        let [_, len] = self.row_lens();
        (self.first_of_planes + index) % INPUTS * len
    }

    /// Rows `y + 3..y + 7` behind the first convolution.
    ///
    /// # Safety
    /// The instruction set of `S` is enabled.
    #[inline(always)]
    unsafe fn first_conv<S: Simd>(&mut self, y: isize) {
        let packed = self.job.head.first.packed();
        for slot in 2..INPUTS {
            let to = self.plane_row(slot);
            for block in &packed.blocks {
                let row = Row {
                    rows: [1, 2, 3]
                        .map(|i| self.picture[self.picture_row(2 * slot + i)..].as_ptr()),
                    taps: 3,
                    px: 3,
                    step: 6,
                    cin: 3,
                    weights: packed.weights[block.offset..].as_ptr(),
                    bias: packed.bias[block.first..].as_ptr(),
                    slope: packed.slope[block.first..].as_ptr(),
                    residual_at: Residual::None,
                    residual: std::ptr::null(),
                    residual_step: 0,
                    out: self.planes[0][to + block.first..].as_mut_ptr(),
                    out_step: CHANNELS,
                    w: self.columns.len() + 2 * MARGIN,
                };
                // SAFETY: the row of the picture holds twice the pixels and one, that of the plane as many as are made.
                unsafe { row_of_lanes::<S>(packed.lanes, block.vectors, &row) };
            }
        }
        self.clear_outside(0, y + MARGIN as isize);
    }

    /// Rows `y..y + 4` behind the second (0) or third (1) convolution.
    ///
    /// # Safety
    /// The instruction set of `S` is enabled.
    #[inline(always)]
    unsafe fn inner_conv<S: Simd>(&mut self, index: usize, y: isize) {
        let rows = [0, 1, 2, 3, 4, 5].map(|row| self.plane_row(row));
        // Of the margin one column is used up by each layer.
        let w = self.columns.len() + 2 * (MARGIN - 1 - index);
        let (before, after) = self.planes.split_at_mut(index + 1);
        let given = Line {
            packed: self.job.head.inner[index].coordinates(),
            from: rows.map(|row| before[index][row..].as_ptr()),
            last: w + 1,
            to: [2, 3, 4, 5].map(|row| after[0][rows[row]..].as_mut_ptr()),
            rows: OUTPUTS,
            w,
            residual: None,
        };
        // SAFETY: rows of planes hold two columns more than are made.
        unsafe { narrow::line::<S>(&given, self.tiles) };
        self.clear_outside(index + 1, y);
    }

    /// Four rows of features, from the six behind the last convolution.
    ///
    /// # Safety
    /// The instruction set of `S` is enabled.
    #[inline(always)]
    unsafe fn last<S: Simd>(&mut self) {
        let w = self.columns.len();
        let given = Line {
            packed: &self.job.head.last,
            from: [0, 1, 2, 3, 4, 5].map(|row| self.planes[2][self.plane_row(row)..].as_ptr()),
            last: w + 1,
            to: [0, 1, 2, 3].map(|row| self.features[row * w * CHANNELS..].as_mut_ptr()),
            rows: OUTPUTS,
            w,
            residual: None,
        };
        // SAFETY: as above; the rows of features hold the strip's columns.
        unsafe { narrow::line::<S>(&given, self.tiles) };
    }

    /// Zeros in the new rows `y..y + 4` of a plane wherever they are outside the picture: the next layer's padding.
    fn clear_outside(&mut self, index: usize, y: isize) {
        let (h, w) = (self.job.h, self.job.w);
        let margin = MARGIN - index;
        let made = self.columns.len() + 2 * margin;
        let begin = margin.saturating_sub(self.columns.start);
        let end = (w + margin - self.columns.start).min(made);
        for (row, y) in (y..y + OUTPUTS as isize).enumerate() {
            let start = self.plane_row(2 + row);
            let values = &mut self.planes[index][start..][..made * CHANNELS];
            if usize::try_from(y).is_ok_and(|y| y < h) {
                values[..begin * CHANNELS].fill(0.0);
                values[end * CHANNELS..].fill(0.0);
            } else {
                values.fill(0.0);
            }
        }
    }
}

/// Makes the last `fresh` of the picture's rows `2 * y..2 * y + 14`, zeros around.
struct Fill<'s, 'a, 'b> {
    strip: &'s mut Strip<'a, 'b>,
    y: isize,
    fresh: usize,
}

impl<S: Simd> Work<S> for Fill<'_, '_, '_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { strip, y, fresh } = self;
        let picture = strip.job.picture;
        let [len, _] = strip.row_lens();
        // The row's first pixel is left of the first convolution's first column.
        let first = 2 * strip.columns.start as isize - 2 * MARGIN as isize - 1;
        let begin = first.max(0) as usize;
        let end = (first + (len / 3) as isize).clamp(0, picture.width as isize) as usize;
        for slot in PICTURE_ROWS - fresh..PICTURE_ROWS {
            let start = strip.picture_row(slot);
            let row = &mut strip.picture[start..][..len];
            row.fill(0.0);
            let y = 2 * y + slot as isize;
            let Some(y) = usize::try_from(y).ok().filter(|y| *y < picture.height) else { continue };
            if begin >= end {
                continue;
            }
            let from = &picture.rgb[3 * (y * picture.width + begin)..][..3 * (end - begin)];
            row[3 * (begin as isize - first) as usize..][..from.len()].copy_from_slice(from);
        }
    }
}

/// Writes the record of `count` rows of features from `y` on.
struct Write<'s, 'a, 'b> {
    strip: &'s mut Strip<'a, 'b>,
    y: usize,
    count: usize,
}

impl<E: Halves> Work<E> for Write<'_, '_, '_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { strip, y, count } = self;
        let (job, w) = (strip.job, strip.columns.len());
        for row in 0..2 * count {
            let picture = &strip.picture[strip.picture_row(row)..][3 * (2 * MARGIN + 1)..][..6 * w];
            let features = &strip.features[row / 2 * w * CHANNELS..][..w * CHANNELS];
            let record = strip.record.as_mut_ptr();
            let at = (2 * y + row) * job.dst_row + 2 * strip.columns.start * RECORD;
            let out = job.dst.at(at);
            // SAFETY: two pixels of the record for each of the columns, their r, g, b, and eight features of one row;
            // behind the row of the record is room for one more. No other task writes these pixels.
            unsafe {
                for x in 0..w {
                    let pair = record.add(2 * RECORD * x);
                    let rgb = picture.as_ptr().add(6 * x);
                    let both = E::load(features.as_ptr().add(x * CHANNELS + row % 2 * RECORD));
                    // Each writes the other's features as well, where something else comes next.
                    E::store(pair.add(RECORD + 3 - FEATURES), both);
                    E::store(pair.add(3), both);
                    pair.copy_from_nonoverlapping(rgb, 3);
                    pair.add(RECORD - 1).write(0.0);
                    pair.add(RECORD).copy_from_nonoverlapping(rgb.add(3), 3);
                    pair.add(2 * RECORD - 1).write(0.0);
                }
                if job.stream && out.align_offset(RECORD * size_of::<f32>()) == 0 {
                    for at in (0..2 * w * RECORD).step_by(RECORD) {
                        E::stream(out.add(at), E::load(record.add(at)));
                    }
                } else {
                    out.copy_from_nonoverlapping(record, 2 * w * RECORD);
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { E::end_streams() };
    }
}

/// Makes the record of a picture.
///
/// # Panics
/// Where the shapes do not fit.
pub(super) fn run(
    (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
    head: &Head,
    picture: &Padded<'_>,
    record: &mut Tensor,
) {
    let (height, width) = (picture.padded_height, picture.padded_width);
    assert_eq!(picture.rgb.len(), 3 * picture.height * picture.width, "rgb of the picture");
    assert!(picture.height <= height && picture.width <= width, "a picture within its padding");
    assert!(height.is_multiple_of(2) && width.is_multiple_of(2), "padding to an even size");
    record.resize(height, width, RECORD);
    let (h, w) = (height / 2, width / 2);
    let (dst_row, origin) = (record.row_stride(), record.at(0, 0));
    let dst = Shared::new(&mut record.values_mut()[origin..]);
    let stream = height * width >= STREAMED;
    let job = HeadJob { head, picture, h, w, dst, dst_row, stream };
    let strips = w.div_ceil(STRIP).max(1);
    let strip = w.div_ceil(strips).next_multiple_of(OUTPUTS);
    let bands = h.div_ceil(MOST_ROWS).max((threads.count() * 8).div_ceil(strips));
    let band = h.div_ceil(bands).next_multiple_of(OUTPUTS).max(4 * OUTPUTS);
    let strips = w.div_ceil(strip.max(1));
    threads.each(h.div_ceil(band) * strips, |task| {
        let (row, column) = (task / strips * band, task % strips * strip);
        let (rows, columns) = (row..(row + band).min(h), column..(column + strip).min(w));
        scratch.with(Strip::scratch_len(strip), |own| {
            // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
            unsafe { (kernels.head)(&job, rows, columns, own) };
        });
    });
}
