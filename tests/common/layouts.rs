//! Weights of every RIFE v4 layout with random values, by the names and shapes of the official state dicts.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::Random;

/// How the blocks of a version are built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chain {
    Prelu,
    Leaky,
    Residual { groups: usize },
}

/// How a version encodes frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    None,
    Short,
    Numbered,
    Named,
}

/// One layout.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The name it must be given.
    pub name: &'static str,
    pub chain: Chain,
    pub end: usize,
    pub head: Head,
    pub features: usize,
    pub widths: &'static [usize],
    /// Factors it must be given.
    pub factors: &'static [f32],
}

const FOUR: &[usize] = &[12, 8, 8, 6];
const FIVE: &[usize] = &[12, 8, 8, 6, 4];
const FROM_8: &[f32] = &[8.0, 4.0, 2.0, 1.0];
const FROM_16: &[f32] = &[16.0, 8.0, 4.0, 2.0, 1.0];
const FROM_32: &[f32] = &[32.0, 16.0, 8.0, 4.0, 1.0];

const PLAIN: Chain = Chain::Residual { groups: 1 };

const fn layout(
    name: &'static str,
    chain: Chain,
    end: usize,
    head: Head,
    features: usize,
    widths: &'static [usize],
    factors: &'static [f32],
) -> Layout {
    Layout { name, chain, end, head, features, widths, factors }
}

/// Every layout from 4.0 to 4.26.
pub const ALL: [Layout; 16] = [
    layout("rife v4.0/v4.1", Chain::Prelu, 5, Head::None, 0, FOUR, FROM_8),
    layout("rife v4.2-v4.4", Chain::Leaky, 5, Head::None, 0, FOUR, FROM_8),
    layout("rife v4.5", PLAIN, 20, Head::None, 0, FOUR, FROM_8),
    layout("rife v4.6", PLAIN, 24, Head::None, 0, FOUR, FROM_8),
    layout("rife v4.7-v4.9", PLAIN, 24, Head::Short, 4, FOUR, FROM_8),
    layout("rife v4.10-v4.13", PLAIN, 24, Head::Numbered, 8, FOUR, FROM_8),
    layout("rife v4.12.lite/v4.13.lite", PLAIN, 24, Head::Numbered, 4, FOUR, FROM_8),
    layout("rife v4.14-v4.20/v4.24", PLAIN, 24, Head::Named, 8, FOUR, FROM_8),
    layout("rife v4.14.lite", Chain::Residual { groups: 2 }, 24, Head::Named, 8, FOUR, FROM_8),
    layout("rife v4.15.lite-v4.17.lite", PLAIN, 24, Head::Named, 4, FOUR, FROM_8),
    layout("rife v4.21-v4.23", PLAIN, 52, Head::Named, 8, FOUR, FROM_8),
    layout("rife v4.22.lite", PLAIN, 52, Head::Named, 4, FOUR, FROM_8),
    layout("rife v4.25/v4.26", PLAIN, 52, Head::Named, 4, FIVE, FROM_16),
    // Told apart by its metadata, and below by its published widths.
    layout("rife v4.25.lite", PLAIN, 52, Head::Named, 4, FIVE, FROM_32),
    layout("rife v4.26.heavy", PLAIN, 52, Head::Named, 16, FIVE, FROM_16),
    layout("rife v4.25/v4.26", PLAIN, 52, Head::Named, 4, &[8, 8, 8, 8, 24], FROM_16),
];

/// Tensors by name: shape and values.
pub type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

impl Layout {
    /// Metadata that the file needs to be told apart.
    pub fn metadata(&self) -> Option<HashMap<String, String>> {
        let lite = self.name.ends_with("v4.25.lite");
        lite.then(|| HashMap::from([("slomod.version".to_owned(), "4.25.lite".to_owned())]))
    }

    /// Random weights that give flows of some pixels.
    pub fn tensors(&self, seed: u64) -> Tensors {
        let mut make = Maker { random: Random::new(seed), tensors: Tensors::new() };
        let handed_on = if self.end == 52 { 8 } else { 0 };
        for (index, &c) in self.widths.iter().enumerate() {
            let frames = 2 * (3 + self.features) + 1;
            let inputs = if index == 0 { frames } else { frames + 5 + handed_on };
            make.block(self, &format!("block{index}"), inputs, c);
        }
        make.head(self);
        make.tensors
    }

    /// A weights file in f32.
    pub fn file(&self, seed: u64) -> Vec<u8> {
        serialize(&self.tensors(seed), self.metadata())
    }
}

struct Maker {
    random: Random,
    tensors: Tensors,
}

impl Maker {
    fn add(&mut self, name: String, shape: &[usize], center: f32, spread: f32) {
        let count = shape.iter().product();
        let values = (0..count).map(|_| center + spread * self.random.next()).collect();
        self.tensors.insert(name, (shape.to_vec(), values));
    }

    fn conv(&mut self, name: &str, outs: usize, ins: usize) {
        let spread = (2.0 / (ins * 9) as f32).sqrt() * 1.5;
        self.add(format!("{name}.weight"), &[outs, ins, 3, 3], 0.0, spread);
        self.add(format!("{name}.bias"), &[outs], 0.0, 0.1);
    }

    fn deconv(&mut self, name: &str, ins: usize, outs: usize, gain: f32) {
        let spread = (2.0 / (ins * 4) as f32).sqrt() * gain;
        self.add(format!("{name}.weight"), &[ins, outs, 4, 4], 0.0, spread);
        self.add(format!("{name}.bias"), &[outs], 0.0, 0.1);
    }

    fn block(&mut self, layout: &Layout, name: &str, ins: usize, c: usize) {
        let mid = c / 2;
        for (part, outs, ins) in [(0, mid, ins), (1, c, mid)] {
            self.conv(&format!("{name}.conv0.{part}.0"), outs, ins);
            if layout.chain == Chain::Prelu {
                self.add(format!("{name}.conv0.{part}.1.weight"), &[outs], 0.25, 0.1);
            }
        }
        for part in 0..8 {
            let link = format!("{name}.convblock.{part}");
            match layout.chain {
                Chain::Residual { groups } => {
                    self.conv(&format!("{link}.conv"), c, c / groups);
                    self.add(format!("{link}.beta"), &[1, c, 1, 1], 0.3, 0.2);
                }
                Chain::Prelu => {
                    self.conv(&format!("{link}.0"), c, c);
                    self.add(format!("{link}.1.weight"), &[c], 0.25, 0.1);
                }
                Chain::Leaky => self.conv(&format!("{link}.0"), c, c),
            }
        }
        let shuffled = matches!(layout.chain, Chain::Residual { .. });
        let last = format!("{name}.lastconv{}", if shuffled { ".0" } else { "" });
        self.deconv(&last, c, layout.end, 0.7);
    }

    fn head(&mut self, layout: &Layout) {
        let mid = 8;
        let (convs, last): (&[&str], &str) = match layout.head {
            Head::None => return,
            Head::Short => (&["encode.0"], "encode.1"),
            Head::Numbered => (&["encode.0", "encode.2", "encode.4"], "encode.6"),
            Head::Named => (&["encode.cnn0", "encode.cnn1", "encode.cnn2"], "encode.cnn3"),
        };
        for (part, name) in convs.iter().enumerate() {
            self.conv(name, mid, if part == 0 { 3 } else { mid });
        }
        self.deconv(last, mid, layout.features, 1.0);
    }
}

/// A safetensors file in f32.
pub fn serialize(tensors: &Tensors, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    serialize_as(tensors, metadata, Dtype::F32, |v| v.to_le_bytes().to_vec())
}

/// A safetensors file in another type.
pub fn serialize_as(
    tensors: &Tensors,
    metadata: Option<HashMap<String, String>>,
    dtype: Dtype,
    encode: fn(f32) -> Vec<u8>,
) -> Vec<u8> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|&value| encode(value)).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, metadata).unwrap()
}
