//! The mean of the SSIM map of one picture against several, in strips that stay in the cache; see [`crate::ops::metrics`].
//!
//! What the true picture adds to a window is summed up once for all that it is compared with. The channels are mixed
//! first, which the windows along rows and columns do not notice; then each row is filtered along x and kept in a ring, and
//! the ring is filtered along y for several rows at a time.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "an instruction set is enabled that was found at run time")
)]

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::metrics::{CENTER, Filter, WINDOW, similarity};

/// Output columns of a strip.
const STRIP: usize = 128;
/// Values of a row that a strip reads, in whole vectors.
const LOADED: usize = STRIP + 16;
/// Output rows of one parallel piece of work.
const BAND: usize = 128;
/// Output rows that are summed up at a time.
const STEP: usize = 4;
/// Rows kept: a power of two, at least `STEP - 1 + WINDOW`.
const RING: usize = 16;
/// Values of a row that are summed up at a time.
const ALONG: usize = 32;
/// Values of a column step that are summed up at a time.
const DOWN: usize = 16;
/// Sums of a compared picture: b, a² + b², ab. Before them comes the true picture's a.
const OWN: usize = 3;

/// Pictures to compare: planes of `width * height` samples one after another, at most three.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// The true picture's samples.
    pub truth: &'a [u8],
    /// Those of the pictures that are compared with it.
    pub others: &'a [&'a [u8]],
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
}

/// Mean of the SSIM map of `truth` against each of `others`, at most 1.
///
/// # Panics
/// If there is no sample, if a picture is no whole number of planes, or if they differ in length.
#[must_use]
pub fn mean_similarities(planes: &Planes<'_>, filter: &Filter) -> Vec<f64> {
    let job = Job::new(planes, filter);
    let tiles: Vec<(Range<usize>, usize)> = (0..job.rows)
        .step_by(BAND)
        .flat_map(|y| (0..job.columns).step_by(STRIP).map(move |x| (y, x)))
        .map(|(y, x)| (y..(y + BAND).min(job.rows), x))
        .collect();
    let work = |scratch: &mut Scratch, (rows, x)| {
        let mut sums = vec![0.0; planes.others.len()];
        run(&job, rows, x, scratch, &mut sums);
        sums
    };
    // Collected in order before the sum, so that the result does not depend on the threads.
    let sums: Vec<Vec<f64>> = tiles.into_par_iter().map_init(|| Scratch::new(&job), work).collect();
    let positions = (job.rows * job.columns * job.mixes.len()) as f64;
    // Rounding in f32 can step over 1 by a few 1e-9.
    let mean = |other: usize| (sums.iter().map(|it| it[other]).sum::<f64>() / positions).min(1.0);
    (0..planes.others.len()).map(mean).collect()
}

/// What all pieces of work have in common.
struct Job<'a> {
    planes: Planes<'a>,
    filter: &'a Filter,
    channels: usize,
    mixes: Vec<[f32; 3]>,
    /// The filter's, and zeros behind a short one's.
    taps: [f32; WINDOW],
    rows: usize,
    columns: usize,
}

impl<'a> Job<'a> {
    fn new(planes: &Planes<'a>, filter: &'a Filter) -> Self {
        let (truth, pixels) = (planes.truth.len(), planes.width * planes.height);
        assert!(truth > 0, "a picture has at least one sample");
        assert!(planes.others.iter().all(|it| it.len() == truth), "samples of one size");
        let channels = truth / pixels;
        assert!(truth == channels * pixels && channels <= 3, "whole planes, at most three");
        let mut taps = [0.0; WINDOW];
        taps[..filter.taps.len()].copy_from_slice(&filter.taps);
        Self {
            planes: *planes,
            filter,
            channels,
            mixes: filter.mixes(channels),
            taps,
            rows: filter.outputs(planes.height),
            columns: filter.outputs(planes.width),
        }
    }

    /// Sums kept for a position.
    fn maps(&self) -> usize {
        1 + OWN * self.planes.others.len()
    }
}

/// Memory of one thread.
struct Scratch {
    /// One row of each channel of each picture, less [`CENTER`], with its border: the true picture's first.
    raw: Vec<[f32; LOADED]>,
    /// Rows filtered along x: for each mix, for each map, by padded row modulo [`RING`].
    ring: Vec<[[f32; STRIP]; RING]>,
    /// Window sums of [`STEP`] rows, for each map.
    sums: Vec<[[f32; STRIP]; STEP]>,
}

impl Scratch {
    fn new(job: &Job<'_>) -> Self {
        let (pictures, maps) = (1 + job.planes.others.len(), job.maps());
        Self {
            raw: vec![[0.0; LOADED]; pictures * job.channels],
            ring: vec![[[0.0; STRIP]; RING]; job.mixes.len() * maps],
            sums: vec![[[0.0; STRIP]; STEP]; maps],
        }
    }
}

/// `a * b + c`, as the instruction set has it.
trait Arithmetic {
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// On any processor: two instructions, or one where all of a kind have it.
struct Plain;

impl Arithmetic for Plain {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        // Without a fused instruction `f32::mul_add` would be a library call.
        if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
    }
}

/// One instruction, which is a library call where the processor has none.
#[cfg(target_arch = "x86_64")]
struct Fused;

#[cfg(target_arch = "x86_64")]
impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

fn run(job: &Job<'_>, rows: Range<usize>, x0: usize, scratch: &mut Scratch, sums: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn fused(job: &Job<'_>, rows: Range<usize>, x0: usize, it: &mut Scratch, to: &mut [f64]) {
            tile::<Fused>(job, rows, x0, it, to);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both.
            return unsafe { fused(job, rows, x0, scratch, sums) };
        }
    }
    tile::<Plain>(job, rows, x0, scratch, sums);
}

/// Adds the map's values at `rows` and at up to [`STRIP`] columns from `x0` on to each picture's sum.
#[inline(always)]
fn tile<A: Arithmetic>(
    job: &Job<'_>,
    rows: Range<usize>,
    x0: usize,
    scratch: &mut Scratch,
    sums: &mut [f64],
) {
    let (columns, maps) = (STRIP.min(job.columns - x0), job.maps());
    let mut filled = rows.start;
    for y in rows.clone().step_by(STEP) {
        while filled < y + STEP - 1 + WINDOW {
            fill::<A>(job, filled, x0, scratch);
            filled += 1;
        }
        for mix in 0..job.mixes.len() {
            let rings = &scratch.ring[mix * maps..(mix + 1) * maps];
            for (ring, to) in rings.iter().zip(&mut scratch.sums) {
                down::<A>(ring, y, &job.taps, to);
            }
            let Some((truth, own)) = scratch.sums.split_first() else { continue };
            for (sum, own) in sums.iter_mut().zip(own.chunks_exact(OWN)) {
                for row in 0..STEP.min(rows.end - y) {
                    let own = [0, 1, 2].map(|map: usize| &own[map][row]);
                    *sum += row_sum(&truth[row], own, columns);
                }
            }
        }
    }
}

/// A padded row of every mix and map, filtered along x.
#[inline(always)]
fn fill<A: Arithmetic>(job: &Job<'_>, padded_row: usize, x0: usize, scratch: &mut Scratch) {
    let Planes { truth, others, width, height } = job.planes;
    let from = job.filter.source(padded_row, height) * width;
    let pictures = std::iter::once(truth).chain(others.iter().copied());
    for (picture, samples) in pictures.enumerate() {
        for channel in 0..job.channels {
            let row = &samples[channel * width * height + from..][..width];
            load(row, job.filter.padding, x0, &mut scratch.raw[picture * job.channels + channel]);
        }
    }
    let (slot, maps) = (padded_row % RING, job.maps());
    let (a, others) = scratch.raw.split_at(job.channels);
    let mut mixed = [0.0; LOADED];
    for (weights, rings) in job.mixes.iter().zip(scratch.ring.chunks_exact_mut(maps)) {
        let weights = &weights[..job.channels];
        mix::<A>(&mut mixed, weights, |c, x| a[c][x]);
        along::<A>(&mixed, &job.taps, &mut rings[0][slot]);
        let own = rings[1..].chunks_exact_mut(OWN);
        for (b, rings) in others.chunks_exact(job.channels).zip(own) {
            mix::<A>(&mut mixed, weights, |c, x| b[c][x]);
            along::<A>(&mixed, &job.taps, &mut rings[0][slot]);
            mix::<A>(&mut mixed, weights, |c, x| {
                A::multiply_add(a[c][x], a[c][x], b[c][x] * b[c][x])
            });
            along::<A>(&mixed, &job.taps, &mut rings[1][slot]);
            mix::<A>(&mut mixed, weights, |c, x| a[c][x] * b[c][x]);
            along::<A>(&mixed, &job.taps, &mut rings[2][slot]);
        }
    }
}

/// The samples of a row that the strip at `x0` reads, less [`CENTER`], with the border on both sides.
#[inline(always)]
fn load(row: &[u8], padding: usize, x0: usize, out: &mut [f32; LOADED]) {
    let end = (row.len() + padding).saturating_sub(x0).min(LOADED);
    let begin = padding.saturating_sub(x0).min(end);
    let value = |sample: u8| f32::from(sample) - CENTER;
    let (left, rest) = out.split_at_mut(begin);
    let (inner, right) = rest.split_at_mut(end - begin);
    left.fill(value(row[0]));
    right.fill(value(row[row.len() - 1]));
    let samples = &row[(x0 + begin).saturating_sub(padding).min(row.len())..];
    for (out, sample) in inner.iter_mut().zip(samples) {
        *out = value(*sample);
    }
}

/// The weighted sum of the channels' values.
#[inline(always)]
fn mix<A: Arithmetic>(
    out: &mut [f32; LOADED],
    weights: &[f32],
    value: impl Fn(usize, usize) -> f32,
) {
    let [u, v, w] = *weights else {
        // One channel is its own mix.
        return out.iter_mut().enumerate().for_each(|(x, out)| *out = value(0, x));
    };
    for (x, out) in out.iter_mut().enumerate() {
        let sum = A::multiply_add(v, value(1, x), u * value(0, x));
        *out = A::multiply_add(w, value(2, x), sum);
    }
}

/// Windows along a row.
#[inline(always)]
fn along<A: Arithmetic>(row: &[f32; LOADED], taps: &[f32; WINDOW], out: &mut [f32; STRIP]) {
    for x in (0..STRIP).step_by(ALONG) {
        let mut sums = [0.0; ALONG];
        for (k, &tap) in taps.iter().enumerate() {
            let values = &row[x + k..x + k + ALONG];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = A::multiply_add(*value, tap, *sum);
            }
        }
        out[x..x + ALONG].copy_from_slice(&sums);
    }
}

/// Windows along the columns, for [`STEP`] rows from `y` on.
#[inline(always)]
fn down<A: Arithmetic>(
    ring: &[[f32; STRIP]; RING],
    y: usize,
    taps: &[f32; WINDOW],
    out: &mut [[f32; STRIP]; STEP],
) {
    for x in (0..STRIP).step_by(DOWN) {
        let mut sums = [[0.0; DOWN]; STEP];
        for row in 0..STEP - 1 + WINDOW {
            let values = &ring[(y + row) % RING][x..x + DOWN];
            for (step, sums) in sums.iter_mut().enumerate() {
                let Some(&tap) = row.checked_sub(step).and_then(|tap| taps.get(tap)) else {
                    continue;
                };
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = A::multiply_add(*value, tap, *sum);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(&sums) {
            out[x..x + DOWN].copy_from_slice(sums);
        }
    }
}

/// Sum of the map over the first `columns` positions of a row.
#[inline(always)]
fn row_sum(a: &[f32; STRIP], [b, squares, products]: [&[f32; STRIP]; OWN], columns: usize) -> f64 {
    let mut map = [0.0; STRIP];
    for (x, out) in map.iter_mut().enumerate() {
        *out = similarity([a[x], b[x], squares[x], products[x]]);
    }
    let (chunks, rest) = map[..columns].as_chunks::<8>();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::metrics::ssim_reference;

    /// f32 against f64 over a map whose variances lose digits.
    const TOLERANCE: f64 = 1e-5;

    /// Samples `[height, width, channels]`, and the same as planes.
    fn noise(shape: [usize; 3], seed: u32) -> (Vec<u8>, Vec<u8>) {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let samples: Vec<u8> = (0..shape.iter().product()).map(|_| next()).collect();
        let plane = |channel| samples.iter().skip(channel).step_by(shape[2]).copied();
        let planes = (0..shape[2]).flat_map(plane).collect();
        (samples, planes)
    }

    fn check(width: usize, height: usize, channels: usize) {
        let shape = [height, width, channels];
        let filter = match channels {
            1 => Filter::of_luma(width, height),
            _ => Filter::of_rgb(width, height),
        };
        let (truth, planes) = noise(shape, 1);
        let others = [2, 3, 1].map(|seed| noise(shape, seed));
        let compared = others.each_ref().map(|(_, planes)| planes.as_slice());
        let job = Planes { truth: &planes, others: &compared, width, height };
        let found = mean_similarities(&job, &filter);
        // The strips, without an instruction set of their own.
        let job = Job::new(&job, &filter);
        let mut plain = [0.0; 3];
        for y in (0..job.rows).step_by(BAND) {
            for x in (0..job.columns).step_by(STRIP) {
                let rows = y..(y + BAND).min(job.rows);
                tile::<Plain>(&job, rows, x, &mut Scratch::new(&job), &mut plain);
            }
        }
        for (index, (other, _)) in others.iter().enumerate() {
            let (sum, positions) = ssim_reference(&truth, other, shape, &filter);
            let expected = sum / positions as f64;
            for found in [found[index], plain[index] / positions as f64] {
                let off = (found - expected).abs();
                assert!(off <= TOLERANCE, "{shape:?}, {index}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn strips_give_the_defined_mean_at_every_size() {
        for (width, height) in [(1, 1), (1, 9), (14, 3), (4, 6), (11, 11), (23, 17), (12, 30)] {
            check(width, height, 1);
            check(width, height, 3);
        }
    }

    #[test]
    fn strips_and_bands_join_without_a_seam() {
        check(STRIP + WINDOW - 1, 12, 1);
        check(STRIP + WINDOW, BAND + WINDOW, 1);
        check(2 * STRIP - 9, 13, 3);
        check(13, BAND - 8, 3);
    }
}
