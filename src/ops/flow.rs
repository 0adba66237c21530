//! The input of a block at the block's own resolution, with nothing at full resolution but the frames.
//!
//! Block `i` works at 1/s_i of the padded picture and leaves a low-resolution output: channels 0..4 flow in units of
//! its own pixels (0, 1: x, y into `img0`; 2, 3: into `img1`), 4 the mask logit, 5.. features handed on. With `up_S`
//! the bilinear resize by S of [`crate::ops::resize`]:
//!
//! - flow before block i at full-resolution position p: `sum_j S_j * up_{S_j}(out_j[0..4])(p)`. Each output is
//!   upsampled by itself: upsampling twice by 2 is not upsampling by 4.
//! - the block's input is the resize by 1/s of `cat(warp(frame0), warp(frame1), timestep, mask, features)` and of the
//!   flow divided by s. A resize down by an even s reads the 2 x 2 centre of every s x s cell, so frames are warped only
//!   there; up by S then down by s is up by S / s (S / s even or below 1), so mask, features and flow come straight from the
//!   low-resolution outputs. An output of the block's own size (S = s, where blocks work again) is taken as it is.
//! - below s = 1 (flow scale 2) the input is enlarged instead, and everything is read at full resolution.
//!
//! Channel order: rgb0, rgb1, features0, features1, timestep; then, but for the first block, mask, features handed
//! on, flow (4). Source: IFNet of Practical-RIFE v4.0 to v4.26; the plan is this project's own (equal to the plain
//! network but for rounding).

use crate::ops::resize::{Tap, sample, tap};
use crate::ops::tensor::{Shape, Tensor};
use crate::ops::warp::{accumulate, corners};

/// Channel of the mask logit in a block's output.
pub const MASK: usize = 4;
/// First channel of the features handed on.
pub const HANDED_ON: usize = 5;

/// How the mask logits of several blocks combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskRule {
    /// Summed like the flows (v4.0 to v4.6).
    Sum,
    /// The last one holds (v4.7 on).
    Last,
}

/// What a block left behind.
#[derive(Debug)]
pub struct BlockOutput<'a, T = Tensor> {
    /// `[height / factor, width / factor, 5 or more]`; see the head of this file for the channels.
    pub tensor: &'a T,
    /// Picture pixels for each of its own: S, a power of two from 1/2 on.
    pub factor: f32,
}

/// One picture to make: two frames and the time between them.
#[derive(Debug)]
pub struct View<'a, T = Tensor> {
    /// Records of `img0` and `img1` `[height, width, record channels]`: r, g, b, features, padding.
    pub records: [&'a T; 2],
    /// 0 is `img0`, 1 is `img1`.
    pub timestep: f32,
}

/// Everything the input of a block is made from.
#[derive(Debug)]
pub struct Stage<'a, T = Tensor> {
    /// The pictures of a batch, at least one; a backend takes as many as its `max_batch` says.
    pub views: &'a [View<'a, T>],
    /// Feature channels in a record: 0, 4, 8 or 16.
    pub features: usize,
    /// Picture pixels for each pixel of this block: s, a power of two from 1/2 on.
    pub factor: f32,
    /// Outputs of the blocks before, one for each factor, the newest last; empty for the first block.
    pub earlier: &'a [BlockOutput<'a, T>],
    /// How mask logits combine.
    pub mask: MaskRule,
    /// Features the block before hands on: 0 or 8.
    pub handed_on: usize,
}

impl<T> Clone for BlockOutput<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for BlockOutput<'_, T> {}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

/// The one picture of a batch of one.
///
/// # Panics
/// If there is not exactly one.
#[must_use]
pub fn only<'a, T>(views: &'a [View<'a, T>]) -> View<'a, T> {
    assert_eq!(views.len(), 1, "a batch of one picture");
    views[0]
}

/// Shape of all records of a batch.
///
/// # Panics
/// If they differ, or there are none.
#[must_use]
pub fn records_shape<T: Shape>(views: &[View<'_, T>]) -> [usize; 3] {
    let mut shapes = views.iter().flat_map(|view| view.records).map(Shape::shape);
    let Some(first) = shapes.next() else { panic!("a batch of at least one picture") };
    shapes.for_each(|shape| assert_eq!(shape, first, "records of one shape"));
    first
}

impl<T: Shape> Stage<'_, T> {
    /// Channels of the block's input.
    #[must_use]
    pub fn channels(&self) -> usize {
        let frames = 2 * (3 + self.features) + 1;
        if self.earlier.is_empty() { frames } else { frames + 1 + self.handed_on + 4 }
    }

    /// Rows and columns of the block's input.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let low = |n: usize| (n as f32 / self.factor) as usize;
        let [h, w, _] = records_shape(self.views);
        (low(h), low(w))
    }

    /// Checks records, outputs and factors against each other.
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn check(&self) {
        let [h, w, c] = records_shape(self.views);
        assert!(c >= 3 + self.features, "records of {c} channels");
        for output in self.earlier {
            let full = |n: usize| (n as f32 * output.factor) as usize;
            let [low_h, low_w, _] = output.tensor.shape();
            assert_eq!((full(low_h), full(low_w)), (h, w), "block output");
        }
        if let Some(last) = self.earlier.last() {
            let [_, _, c] = last.tensor.shape();
            assert!(c >= HANDED_ON + self.handed_on, "channels of a block output");
        }
    }
}

/// Taps of one output at position `(y, x)` of a grid with `factor` picture pixels for each of its own.
fn taps_of(output: &BlockOutput<'_>, y: usize, x: usize, factor: f32) -> (Tap, Tap) {
    let step = factor / output.factor;
    (tap(y, step, output.tensor.h), tap(x, step, output.tensor.w))
}

/// Flow at `(y, x)` of a grid with `factor` picture pixels for each of its own, in picture pixels: x, y into `img0`,
/// x, y into `img1`.
#[must_use]
pub fn flow_at(outputs: &[BlockOutput<'_>], y: usize, x: usize, factor: f32) -> [f32; 4] {
    let mut flow = [0.0; 4];
    for output in outputs {
        let (row, column) = taps_of(output, y, x, factor);
        for (channel, value) in flow.iter_mut().enumerate() {
            *value += output.factor * sample(output.tensor, row, column, channel);
        }
    }
    flow
}

/// Mask logit at `(y, x)` of a grid with `factor` picture pixels for each of its own.
#[must_use]
pub fn mask_at(
    outputs: &[BlockOutput<'_>],
    rule: MaskRule,
    y: usize,
    x: usize,
    factor: f32,
) -> f32 {
    let one = |output: &BlockOutput<'_>| {
        let (row, column) = taps_of(output, y, x, factor);
        sample(output.tensor, row, column, MASK)
    };
    match rule {
        MaskRule::Sum => outputs.iter().map(one).sum(),
        MaskRule::Last => outputs.last().map_or(0.0, one),
    }
}

/// The definition, in f32, of a batch of one: `[height / s, width / s, channels]`.
///
/// # Panics
/// Where shapes do not fit.
pub fn reference(stage: &Stage<'_>, output: &mut Tensor) {
    stage.check();
    let timestep = only(stage.views).timestep;
    let (h, w) = stage.size();
    output.reshape(h, w, stage.channels());
    for y in 0..h {
        for x in 0..w {
            let pixel = output.at_mut(y, x);
            pixel.fill(0.0);
            let (frames, rest) = pixel.split_at_mut(2 * (3 + stage.features));
            write_frames(stage, y, x, frames);
            rest[0] = timestep;
            if !stage.earlier.is_empty() {
                write_handed_on(stage, y, x, &mut rest[1..]);
            }
        }
    }
}

/// Full-resolution positions that position `(y, x)` of the block's grid reads, with their weights.
fn cells(stage: &Stage<'_>, y: usize, x: usize) -> [(usize, usize, f32); 4] {
    let [h, w, _] = records_shape(stage.views);
    let row = tap(y, stage.factor, h);
    let column = tap(x, stage.factor, w);
    let (top, left) = (1.0 - row.weight, 1.0 - column.weight);
    [
        (row.first, column.first, top * left),
        (row.first, column.second, top * column.weight),
        (row.second, column.first, row.weight * left),
        (row.second, column.second, row.weight * column.weight),
    ]
}

/// Both frames with their features, warped where read, in the order rgb0, rgb1, features0, features1.
fn write_frames(stage: &Stage<'_>, y: usize, x: usize, out: &mut [f32]) {
    let View { records, .. } = only(stage.views);
    let (h, w) = (records[0].h, records[0].w);
    let mut warped = vec![0.0; 3 + stage.features];
    let mut from = [vec![0.0; 3 + stage.features], vec![0.0; 3 + stage.features]];
    for (row, column, weight) in cells(stage, y, x) {
        if weight == 0.0 {
            continue;
        }
        let flow = flow_at(stage.earlier, row, column, 1.0);
        for (side, sum) in from.iter_mut().enumerate() {
            let at = corners(row, column, [flow[2 * side], flow[2 * side + 1]], h, w);
            warped.fill(0.0);
            accumulate(records[side], at, 1.0, &mut warped);
            sum.iter_mut().zip(&warped).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    for (side, sum) in from.iter().enumerate() {
        out[3 * side..3 * side + 3].copy_from_slice(&sum[..3]);
        let first = 6 + side * stage.features;
        out[first..first + stage.features].copy_from_slice(&sum[3..]);
    }
}

/// Mask, features handed on, flow in units of the block's own pixels.
fn write_handed_on(stage: &Stage<'_>, y: usize, x: usize, out: &mut [f32]) {
    let Some(last) = stage.earlier.last() else { return };
    let mut add = |y: usize, x: usize, factor: f32, weight: f32| {
        let (row, column) = taps_of(last, y, x, factor);
        out[0] += weight * mask_at(stage.earlier, stage.mask, y, x, factor);
        for channel in 0..stage.handed_on {
            out[1 + channel] += weight * sample(last.tensor, row, column, HANDED_ON + channel);
        }
        let flow = flow_at(stage.earlier, y, x, factor);
        for (to, value) in out[1 + stage.handed_on..].iter_mut().zip(flow) {
            *to += weight * value / stage.factor;
        }
    };
    if stage.factor >= 1.0 {
        add(y, x, stage.factor, 1.0);
    } else {
        for (row, column, weight) in cells(stage, y, x) {
            add(row, column, 1.0, weight);
        }
    }
}
