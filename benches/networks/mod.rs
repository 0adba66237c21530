//! Networks of the published layouts with random weights, for measuring speed.

use slomod::config::settings::Sampling;
use slomod::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};
use slomod::models::pyramid;
use slomod::models::rife_v4::{Block, ChainSum, Network};
use slomod::ops::color::rgb_to_picture;
use slomod::ops::conv::{Activation, ConvWeights, Residual, Stride};
use slomod::ops::deconv::{DeconvWeights, Shuffle};
use slomod::ops::flow::MaskRule;
use slomod::ops::head::HeadWeights;

/// What sets one layout apart from another.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Name in tables.
    pub name: &'static str,
    /// Channels of each block, coarse to fine.
    pub widths: &'static [usize],
    /// Channels inside the feature network, and features that come out.
    pub head: Option<(usize, usize)>,
}

/// v4.25 and v4.26.
pub const V4_26: Kind =
    Kind { name: "v4.26 full", widths: &[192, 128, 96, 64, 32], head: Some((16, 4)) };
/// The layout of v4.26 at the starter weights' widths, each block once.
pub const STARTER: Kind =
    Kind { name: "v4.26 starter", widths: &[96, 64, 48, 32, 16], head: Some((16, 4)) };
/// v4.22.
#[allow(dead_code, reason = "one of the benchmarks measures it")]
pub const V4_22: Kind =
    Kind { name: "v4.22 full", widths: &[256, 192, 96, 48], head: Some((32, 8)) };
/// v4.6.
pub const V4_6: Kind = Kind { name: "v4.6 full", widths: &[192, 128, 96, 64], head: None };

/// A network of that kind.
pub fn network(kind: &Kind) -> Network {
    let mut noise = Noise::default();
    let (features, handed_on) = kind.head.map_or((0, 0), |(_, features)| (features, 8));
    let blocks = kind.widths.iter().enumerate().map(|(index, &c)| {
        let frames = 2 * (3 + features) + 1;
        let ins = if index == 0 { frames } else { frames + 5 + handed_on };
        let conv0 = [
            conv(&mut noise, ins, c / 2, Stride::Two, Residual::None),
            conv(&mut noise, c / 2, c, Stride::Two, Residual::None),
        ];
        let convblock =
            (0..8).map(|_| conv(&mut noise, c, c, Stride::One, Residual::Input)).collect();
        let lastconv = deconv(&mut noise, c, 4 * (5 + handed_on), Shuffle::ByTwo);
        Block { conv0, convblock, lastconv }
    });
    let blocks = blocks.collect();
    let head = kind.head.map(|(c, features)| {
        let layers = [(3, Stride::Two), (c, Stride::One), (c, Stride::One)];
        let layers = layers.map(|(ins, stride)| conv(&mut noise, ins, c, stride, Residual::None));
        HeadWeights { convs: layers.into(), deconv: deconv(&mut noise, c, features, Shuffle::None) }
    });
    let blocks_after = (0..kind.widths.len() as i32).rev();
    let visits = pyramid::once(&blocks_after.map(|it| 2.0_f32.powi(it)).collect::<Vec<_>>());
    Network {
        name: kind.name.to_owned(),
        blocks,
        mask: if head.is_some() { MaskRule::Last } else { MaskRule::Sum },
        head,
        chain_sum: ChainSum::None,
        handed_on,
        pad_multiple: pyramid::pad_multiple(&visits),
        visits,
        output_step: 1.0,
        sampling: sampling(),
        refine: std::env::var("BENCH_REFINE").is_ok_and(|it| it == "true"),
        notes: vec![],
    }
}

/// As PyTorch reads the frames in the end, or as `BENCH_SAMPLING=bicubic` wants it.
fn sampling() -> Sampling {
    match std::env::var("BENCH_SAMPLING").as_deref() {
        Ok("bicubic") => Sampling::Bicubic,
        _ => Sampling::Bilinear,
    }
}

fn conv(
    noise: &mut Noise,
    in_channels: usize,
    out_channels: usize,
    stride: Stride,
    residual: Residual,
) -> ConvWeights {
    let spread = 0.5 / (in_channels as f32 * 3.0).sqrt();
    ConvWeights {
        in_channels,
        out_channels,
        weight: noise.values(in_channels * out_channels * 9, spread),
        bias: noise.values(out_channels, 0.1),
        stride,
        residual,
        activation: Activation::LeakyRelu,
    }
}

fn deconv(
    noise: &mut Noise,
    in_channels: usize,
    out_channels: usize,
    shuffle: Shuffle,
) -> DeconvWeights {
    let spread = 0.5 / (in_channels as f32 * 2.0).sqrt();
    DeconvWeights {
        in_channels,
        out_channels,
        weight: noise.values(in_channels * out_channels * 16, spread),
        bias: noise.values(out_channels, 0.1),
        shuffle,
    }
}

/// Reproducible noise.
#[derive(Default)]
pub struct Noise(u32);

impl Noise {
    /// `n` values from `-spread` to `spread`.
    pub fn values(&mut self, n: usize, spread: f32) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| spread * next()).collect()
    }
}

/// A smooth texture moved by some pixels, `[h, w, 3]`.
pub fn texture(width: usize, height: usize, shift: usize) -> Vec<f32> {
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let (x, y) = ((x + 3 * shift) as f32, (y + shift) as f32);
            rgb.extend(
                [0.0, 1.0, 2.0].map(|c| 0.5 + 0.4 * (0.05 * x + c).sin() * (0.07 * y).cos()),
            );
        }
    }
    rgb
}

/// The texture as a video has it: 8-bit 4:2:0.
pub fn picture(width_px: usize, height_px: usize, shift: usize) -> Picture {
    let format = PictureFormat {
        width_px,
        height_px,
        chroma: Chroma::C420,
        matrix: Matrix::Bt709,
        range: Range::Limited,
        depth: Depth::Eight,
    };
    rgb_to_picture(&texture(width_px, height_px, shift), format)
}
