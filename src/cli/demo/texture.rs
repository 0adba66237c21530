//! The textures of the demo's scene: noise of our own making, and a landscape seen from above.

use rayon::prelude::*;

/// Red, green, blue, nominal 0..1.
pub type Color = [f32; 3];

/// Texels for each scene pixel: enough that bilinear reading hardly depends on where between texels it falls.
pub const TEXELS_PER_PIXEL: f32 = 2.0;

/// A picture that can be read anywhere.
#[derive(Clone, Debug)]
pub struct Texture {
    width: usize,
    height: usize,
    texels: Vec<Color>,
}

impl Texture {
    /// `color(x, y)` for every texel, in texel units.
    fn new(width: usize, height: usize, color: impl Fn(f32, f32) -> Color + Sync) -> Self {
        let texel = |i: usize| color((i % width) as f32, (i / width) as f32);
        Self { width, height, texels: (0..width * height).into_par_iter().map(texel).collect() }
    }

    /// Bilinear at scene pixel (`x`, `y`) of the texture's own plane; edges repeat.
    #[must_use]
    pub fn at(&self, x: f32, y: f32) -> Color {
        let clamp = |value: f32, n: usize| (value * TEXELS_PER_PIXEL).clamp(0.0, (n - 2) as f32);
        let (x, y) = (clamp(x, self.width), clamp(y, self.height));
        let (column, row) = (x as usize, y as usize);
        let (fx, fy) = (x - column as f32, y - row as f32);
        let start = row * self.width + column;
        let (top, bottom) = (&self.texels[start..], &self.texels[start + self.width..]);
        mix(mix(top[0], top[1], fx), mix(bottom[0], bottom[1], fx), fy)
    }
}

/// `(1 - t) a + t b`.
#[must_use]
pub fn mix(a: Color, b: Color, t: f32) -> Color {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// 0 below `from`, 1 above `to`, smooth between.
#[must_use]
pub fn step(from: f32, to: f32, value: f32) -> f32 {
    let t = ((value - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A landscape from above: water, sand, grass, wood and rock, lit from the upper left. Size in scene pixels.
#[must_use]
pub fn landscape(width_px: usize, height_px: usize) -> Texture {
    let size = |pixels: usize| (pixels as f32 * TEXELS_PER_PIXEL) as usize;
    Texture::new(size(width_px), size(height_px), |x, y| {
        let (x, y) = (x / TEXELS_PER_PIXEL, y / TEXELS_PER_PIXEL);
        let height = ground(x, y);
        let light = (ground(x - 1.5, y - 1.5) - height) * -14.0;
        let grain = fractal(x / 5.0, y / 5.0, 3, 77) - 0.5;
        let land = terrain(height + grain * 0.06);
        let shade = 1.0 + light.clamp(-0.45, 0.45) + grain * 0.35;
        land.map(|channel| (channel * shade).clamp(0.0, 1.0))
    })
}

/// Noise around 0.5 in gray. Size in scene pixels.
#[must_use]
pub fn grain(side_px: usize) -> Texture {
    let side = (side_px as f32 * TEXELS_PER_PIXEL) as usize;
    Texture::new(side, side, |x, y| {
        let scale = 7.0 * TEXELS_PER_PIXEL;
        [fractal(x / scale, y / scale, 4, 5); 3]
    })
}

fn ground(x: f32, y: f32) -> f32 {
    fractal(x / 130.0, y / 130.0, 5, 11)
}

fn terrain(height: f32) -> Color {
    let levels: [(f32, Color); 6] = [
        (0.36, [0.13, 0.32, 0.52]),
        (0.42, [0.25, 0.52, 0.66]),
        (0.45, [0.84, 0.77, 0.56]),
        (0.50, [0.46, 0.62, 0.30]),
        (0.60, [0.20, 0.40, 0.22]),
        (0.68, [0.55, 0.50, 0.46]),
    ];
    let mut color = levels[0].1;
    for pair in levels.windows(2) {
        let (from, to) = (pair[0].0, pair[1].0);
        color = mix(color, pair[1].1, step(from, to, height));
    }
    color
}

/// Sum of octaves of value noise, 0..1.
fn fractal(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut total, mut scale) = (0.0, 1.0, 0.0, 1.0);
    for octave in 0..octaves {
        sum += weight * value_noise(x * scale, y * scale, seed + octave);
        total += weight;
        weight *= 0.5;
        scale *= 2.03;
    }
    sum / total
}

fn value_noise(x: f32, y: f32, seed: u32) -> f32 {
    let (column, row) = (x.floor(), y.floor());
    let (fx, fy) = (step(0.0, 1.0, x - column), step(0.0, 1.0, y - row));
    let corner = |dx: i32, dy: i32| lattice(column as i32 + dx, row as i32 + dy, seed);
    let top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * fx;
    let bottom = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * fx;
    top + (bottom - top) * fy
}

/// A number in 0..1 for a lattice point: an integer hash (finalizer of MurmurHash3).
fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    let mut hash = (x as u32).wrapping_mul(0x9e37_79b1)
        ^ (y as u32).wrapping_mul(0x85eb_ca77)
        ^ seed.wrapping_mul(0xc2b2_ae3d);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    (hash >> 8) as f32 / (1 << 24) as f32
}
