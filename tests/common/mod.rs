//! Self-made weights files of every RIFE v4 layout, pictures to run them on, and the network without its fusions.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod layouts;
pub mod plain;

/// A small deterministic generator (xorshift), so that a failure repeats.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Uniform in -1..1.
    pub fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A smooth texture with some noise, moved by `shift` pixels: `[h, w, 3]` in 0..1.
pub fn picture(w: usize, h: usize, shift: f32, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut rgb = Vec::with_capacity(3 * w * h);
    for y in 0..h {
        for x in 0..w {
            let (x, y) = (x as f32 + shift, y as f32 - 0.5 * shift);
            for phase in [0.0, 1.3, 2.1] {
                let wave = (0.21 * x + phase).sin() * (0.17 * y - phase).cos();
                rgb.push((0.5 + 0.4 * wave + 0.05 * random.next()).clamp(0.0, 1.0));
            }
        }
    }
    rgb
}
