//! Random pictures, records and block outputs, here and in device memory.

use std::sync::Arc;

use half::f16;
use slomod::backend::cuda::driver::{Buffer, Driver, Parameters};
use slomod::backend::cuda::params::View;
use slomod::backend::cuda::tensor::Tensor as DeviceTensor;
use slomod::ops::flow::{self, BlockOutput, HANDED_ON, MASK, MaskRule, Stage};
use slomod::ops::head::record_channels;
use slomod::ops::tensor::Tensor;

/// Xorshift, so that every run draws the same.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.below(1 << 24) as f32 / (1 << 24) as f32
    }
}

/// Rounded to half precision.
pub fn rounded(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

/// How far and where flows point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// A few pixels.
    Small,
    /// Out of the picture here and there.
    Leaving,
    /// Thousands of pixels.
    Huge,
    /// Whole pixels, the same everywhere.
    Whole,
}

impl Motion {
    /// The largest flow, in picture pixels.
    pub fn reach_px(self) -> f32 {
        match self {
            Self::Small => 3.0,
            Self::Leaving => 60.0,
            Self::Huge => 1e4,
            Self::Whole => 8.0,
        }
    }
}

/// What a block's input or the picture is made from, for a batch.
pub struct Scene {
    pub full: [usize; 2],
    pub features: usize,
    pub handed_on: usize,
    pub mask: MaskRule,
    pub records: Vec<[Tensor; 2]>,
    pub timesteps: Vec<f32>,
    /// Factor, and one output for each picture.
    pub outputs: Vec<(f32, Vec<Tensor>)>,
}

/// What a scene is drawn by.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub n: usize,
    pub full: [usize; 2],
    pub features: usize,
    pub handed_on: usize,
    pub mask: MaskRule,
    pub factors: Vec<f32>,
    pub motion: Motion,
}

impl Scene {
    pub fn draw(recipe: &Recipe, random: &mut Random) -> Self {
        let [h, w] = recipe.full;
        let records = (0..recipe.n).map(|_| [0; 2].map(|_| record(random, h, w, recipe.features)));
        let records = records.collect();
        let timesteps = (0..recipe.n).map(|_| rounded(random.between(0.0, 1.0))).collect();
        let outputs = recipe.factors.iter().map(|&factor| {
            let size = recipe.full.map(|n| (n as f32 / factor) as usize);
            let one = |_| output(random, size, recipe.handed_on, factor, recipe.motion);
            (factor, (0..recipe.n).map(one).collect())
        });
        let outputs = outputs.collect();
        Self {
            full: recipe.full,
            features: recipe.features,
            handed_on: recipe.handed_on,
            mask: recipe.mask,
            records,
            timesteps,
            outputs,
        }
    }

    /// The definition's input of a block of picture `index`.
    pub fn block_input(&self, index: usize, factor: f32) -> Tensor {
        let earlier = self.outputs_of(index);
        let mut input = Tensor::default();
        let stage = Stage {
            views: &[flow::View {
                records: [&self.records[index][0], &self.records[index][1]],
                timestep: self.timesteps[index],
            }],
            features: self.features,
            factor,
            earlier: &earlier,
            mask: self.mask,
            handed_on: if earlier.is_empty() { 0 } else { self.handed_on },
        };
        flow::reference(&stage, &mut input);
        input
    }

    /// Block outputs of picture `index`, as the definitions take them.
    pub fn outputs_of(&self, index: usize) -> Vec<BlockOutput<'_>> {
        let outputs = self.outputs.iter();
        outputs.map(|(factor, of)| BlockOutput { tensor: &of[index], factor: *factor }).collect()
    }
}

fn record(random: &mut Random, h: usize, w: usize, features: usize) -> Tensor {
    let mut record = Tensor::zeros(h, w, record_channels(features));
    for pixel in record.data.chunks_exact_mut(record_channels(features)) {
        pixel[..3].iter_mut().for_each(|value| *value = rounded(random.between(0.0, 1.0)));
        let features = &mut pixel[3..3 + features];
        features.iter_mut().for_each(|value| *value = rounded(random.between(-1.0, 1.0)));
    }
    record
}

fn output(
    random: &mut Random,
    [h, w]: [usize; 2],
    handed_on: usize,
    factor: f32,
    motion: Motion,
) -> Tensor {
    let reach = motion.reach_px() / factor;
    let mut output = Tensor::zeros(h, w, HANDED_ON + handed_on);
    let steady = [0; 4].map(|_| (random.below(9) as f32 - 4.0) / factor);
    for pixel in output.data.chunks_exact_mut(HANDED_ON + handed_on) {
        for (value, steady) in pixel[..MASK].iter_mut().zip(steady) {
            *value = if motion == Motion::Whole { steady } else { random.between(-reach, reach) };
        }
        let rest = &mut pixel[MASK..];
        rest.iter_mut().for_each(|value| *value = rounded(random.between(-3.0, 3.0)));
    }
    output
}

/// A scene in device memory.
pub struct OnDevice {
    records: Vec<[DeviceTensor; 2]>,
    views: Buffer,
    outputs: Vec<(f32, DeviceTensor)>,
}

impl OnDevice {
    pub fn new(driver: &Arc<dyn Driver>, scene: &Scene) -> Self {
        let channels = record_channels(scene.features);
        let upload = |record: &Tensor| upload_half(driver, &[record], channels);
        let records: Vec<_> =
            scene.records.iter().map(|pair| [upload(&pair[0]), upload(&pair[1])]).collect();
        let view = |(pair, &timestep): (&[DeviceTensor; 2], &f32)| View {
            record0: pair[0].address(),
            record1: pair[1].address(),
            timestep,
            unused: 0,
        };
        let views: Vec<View> = records.iter().zip(&scene.timesteps).map(view).collect();
        let bytes: Vec<u8> = views.iter().flat_map(|view| view.as_bytes().to_vec()).collect();
        let views = Buffer::with_content(driver, &bytes).unwrap();
        let outputs = scene.outputs.iter();
        let outputs = outputs.map(|(factor, of)| (*factor, upload_output(driver, of))).collect();
        Self { records, views, outputs }
    }

    pub fn views(&self) -> u64 {
        assert!(!self.records.is_empty(), "a batch has pictures");
        self.views.address()
    }

    pub fn outputs(&self) -> Vec<BlockOutput<'_, DeviceTensor>> {
        let outputs = self.outputs.iter();
        outputs.map(|(factor, tensor)| BlockOutput { tensor, factor: *factor }).collect()
    }
}

/// Pictures of one shape as a batch of halves, `stored` channels each.
pub fn upload_half(driver: &Arc<dyn Driver>, pictures: &[&Tensor], stored: usize) -> DeviceTensor {
    let first = pictures[0];
    let mut tensor = DeviceTensor::default();
    tensor.reshape(driver, [pictures.len(), first.h, first.w, first.c], stored).unwrap();
    let mut bytes = Vec::new();
    for pixel in pictures.iter().flat_map(|picture| picture.data.chunks_exact(first.c)) {
        let padded = pixel.iter().copied().chain(std::iter::repeat(0.0)).take(stored);
        padded.for_each(|value| bytes.extend(f16::from_f32(value).to_le_bytes()));
    }
    driver.upload(tensor.address(), &bytes).unwrap();
    tensor
}

/// A block's output of each picture as a batch.
pub fn upload_output(driver: &Arc<dyn Driver>, pictures: &[Tensor]) -> DeviceTensor {
    let (h, w, c) = (pictures[0].h, pictures[0].w, pictures[0].c);
    let mut tensor = DeviceTensor::default();
    tensor.reshape_output(driver, [pictures.len(), h, w], c - HANDED_ON).unwrap();
    let pixels = || pictures.iter().flat_map(|picture| picture.data.chunks_exact(c));
    let halves = |values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
    };
    let flow: Vec<u8> =
        pixels().flat_map(|p| p[..MASK].iter().flat_map(|v| v.to_le_bytes())).collect();
    driver.upload(tensor.address(), &flow).unwrap();
    let mask: Vec<u8> = pixels().flat_map(|p| halves(&p[MASK..HANDED_ON])).collect();
    driver.upload(tensor.mask_address(), &mask).unwrap();
    if c > HANDED_ON {
        let handed: Vec<u8> = pixels().flat_map(|p| halves(&p[HANDED_ON..])).collect();
        driver.upload(tensor.handed_address(), &handed).unwrap();
    }
    tensor
}

/// The bytes of a tensor of halves.
pub fn download_bytes(driver: &Arc<dyn Driver>, tensor: &DeviceTensor) -> Vec<u8> {
    let mut bytes = vec![0; 2 * tensor.n * tensor.h * tensor.w * tensor.stored];
    driver.download(tensor.address(), &mut bytes).unwrap();
    bytes
}

/// A batch of halves as pictures with all stored channels.
pub fn pictures(bytes: &[u8], tensor: &DeviceTensor) -> Vec<Tensor> {
    let (h, w, c) = (tensor.h, tensor.w, tensor.stored);
    let values: Vec<f32> =
        bytes.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32()).collect();
    let picture = |values: &[f32]| Tensor { h, w, c, data: values.to_vec() };
    values.chunks_exact(h * w * c).map(picture).collect()
}

/// Names of the kernels that lines `kind(name, ..)` of `kernels/instances.h` make.
pub fn instances(kind: &str) -> Vec<String> {
    let text = include_str!("../../kernels/instances.h");
    let opening = format!("{kind}(");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&opening));
    lines.filter_map(|line| line.split(',').next()).map(str::to_owned).collect()
}
