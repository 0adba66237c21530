//! The demo's scene: textured objects that move and pass behind each other over a landscape, drawn for any moment.
//!
//! Every picture is computed from its time alone, so the true frame between any two frames is known.

use std::f64::consts::{PI, TAU};

use rayon::prelude::*;

use crate::cli::demo::texture::{Color, Texture, grain, landscape, mix, step};
use crate::pipeline::font;

/// Width of the pictures.
pub const WIDTH_PX: usize = 640;
/// Height of the pictures.
pub const HEIGHT_PX: usize = 360;
/// Seconds from one bounce of the ball to the next; the melody follows it.
pub const BEAT_S: f64 = 0.5;

/// The landscape reaches this much beyond the picture.
const MARGIN_PX: usize = 160;
/// Room for the textures of the objects.
const GRAIN_PX: usize = 256;
/// Word on the sign.
const SIGN_TEXT: &str = "SLOMOD";
/// Side of a dot of the sign's letters.
const SIGN_DOT_PX: f32 = 3.4;
/// Points a side at which a pixel of the letters is tested.
const SIGN_SUBSAMPLES: usize = 4;

/// The scene with its textures.
#[derive(Clone, Debug)]
pub struct Scene {
    ground: Texture,
    grain: Texture,
}

/// Outline of an object around its center, in pixels.
#[derive(Clone, Copy)]
enum Outline {
    Disc { radius: f32 },
    Ring { radius: f32, half_width: f32 },
    Plate { half_width: f32, half_height: f32, corner: f32 },
}

/// What an object looks like inside.
#[derive(Clone, Copy)]
enum Paint {
    Wood,
    Sign,
    Petals,
    Checkers,
    Band,
    Shadow,
}

/// An object at one moment.
struct Body {
    outline: Outline,
    paint: Paint,
    x: f32,
    y: f32,
    /// Sine and cosine of its turn.
    turn: (f32, f32),
    opacity: f32,
}

impl Scene {
    /// Draws the textures.
    #[must_use]
    pub fn new() -> Self {
        let (width, height) = (WIDTH_PX + 2 * MARGIN_PX, HEIGHT_PX + 2 * MARGIN_PX);
        Self { ground: landscape(width, height), grain: grain(GRAIN_PX) }
    }

    /// The picture at `time_s` (0..4), `[360, 640, 3]` RGB.
    #[must_use]
    pub fn draw(&self, time_s: f64) -> Vec<u8> {
        let bodies = bodies(time_s);
        let camera = Camera::at(time_s);
        let mut rgb = vec![0; 3 * WIDTH_PX * HEIGHT_PX];
        rgb.par_chunks_exact_mut(3 * WIDTH_PX).enumerate().for_each(|(row, line)| {
            let y = row as f32 + 0.5;
            let near: Vec<&Body> = bodies.iter().filter(|body| body.reaches_row(y)).collect();
            for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
                let x = column as f32 + 0.5;
                let (ground_x, ground_y) = camera.ground(x, y);
                let mut color = self.ground.at(ground_x, ground_y);
                for body in &near {
                    color = body.over(color, x, y, &self.grain);
                }
                for (out, channel) in pixel.iter_mut().zip(color) {
                    *out = (channel * 255.0 + 0.5) as u8;
                }
            }
        });
        rgb
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the flight over the landscape is: a slow pan with a mild zoom and turn.
struct Camera {
    x: f32,
    y: f32,
    across: f32,
    along: f32,
}

impl Camera {
    fn at(time_s: f64) -> Self {
        let turn = 0.05 * (time_s * 0.9).sin();
        let zoom = 1.0 / (1.0 + 0.02 * time_s);
        Self {
            x: (MARGIN_PX as f64 - 60.0 + WIDTH_PX as f64 / 2.0 + 45.0 * time_s) as f32,
            y: (MARGIN_PX as f64 + HEIGHT_PX as f64 / 2.0 - 12.0 * time_s) as f32,
            across: (turn.cos() * zoom) as f32,
            along: (turn.sin() * zoom) as f32,
        }
    }

    fn ground(&self, x: f32, y: f32) -> (f32, f32) {
        let (u, v) = (x - WIDTH_PX as f32 / 2.0, y - HEIGHT_PX as f32 / 2.0);
        (self.x + u * self.across - v * self.along, self.y + u * self.along + v * self.across)
    }
}

/// All objects at `time_s`, the farthest first.
fn bodies(time_s: f64) -> [Body; 7] {
    let body = |outline, paint, x: f64, y: f64, angle: f64| Body {
        outline,
        paint,
        x: x as f32,
        y: y as f32,
        turn: (angle.sin() as f32, angle.cos() as f32),
        opacity: 1.0,
    };
    let plate =
        |half_width, half_height, corner| Outline::Plate { half_width, half_height, corner };
    let t = time_s;
    let ball_radius = 38.0;
    let ball_x = 330.0 + 215.0 * (1.15 * t + 0.4).sin();
    let (ball_y, height) = bounce(t);
    let shadow = Outline::Disc { radius: ball_radius as f32 * 0.9 };
    [
        body(
            plate(118.0, 34.0, 6.0),
            Paint::Wood,
            300.0 + 190.0 * (0.8 * t).sin(),
            118.0,
            0.35 * t,
        ),
        body(
            Outline::Disc { radius: 52.0 },
            Paint::Petals,
            120.0 + 150.0 * t,
            220.0 - 50.0 * (TAU * t / 3.0).sin(),
            -1.6 * t,
        ),
        body(
            plate(72.0, 24.0, 8.0),
            Paint::Sign,
            590.0 - 165.0 * t,
            78.0 + 52.0 * t,
            0.22 * (1.7 * t).sin(),
        ),
        body(
            plate(30.0, 58.0, 10.0),
            Paint::Wood,
            470.0,
            250.0 - 36.0 * (1.3 * t).sin(),
            0.5 + 0.9 * t,
        ),
        Body {
            opacity: (0.5 - height / 400.0) as f32,
            ..body(shadow, Paint::Shadow, ball_x, 336.0, 0.0)
        },
        body(
            Outline::Disc { radius: ball_radius as f32 },
            Paint::Checkers,
            ball_x,
            ball_y,
            5.2 * (1.15 * t + 0.4).sin(),
        ),
        body(
            Outline::Ring { radius: 34.0, half_width: 9.0 },
            Paint::Band,
            320.0 - 235.0 * (2.1 * t + 0.3).cos(),
            170.0 + 95.0 * (2.1 * t + 0.3).sin(),
            2.4 * t,
        ),
    ]
}

/// Height on the screen of the ball's center and its height over the ground, in pixels: parabolas of one [`BEAT_S`].
fn bounce(time_s: f64) -> (f64, f64) {
    let phase = (time_s / BEAT_S).fract();
    let height = 4.0 * 66.0 * phase * (1.0 - phase);
    (298.0 - height, height)
}

impl Outline {
    /// Pixels from the outline: negative inside.
    fn distance(self, u: f32, v: f32) -> f32 {
        match self {
            Self::Disc { radius } => u.hypot(v) - radius,
            Self::Ring { radius, half_width } => (u.hypot(v) - radius).abs() - half_width,
            Self::Plate { half_width, half_height, corner } => {
                let (dx, dy) = (u.abs() - half_width + corner, v.abs() - half_height + corner);
                dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - corner
            }
        }
    }

    /// Nothing is farther from the center.
    fn reach(self) -> f32 {
        match self {
            Self::Disc { radius } => radius,
            Self::Ring { radius, half_width } => radius + half_width,
            Self::Plate { half_width, half_height, .. } => half_width.hypot(half_height),
        }
    }
}

impl Body {
    fn reaches_row(&self, y: f32) -> bool {
        (y - self.y).abs() < self.outline.reach() + 1.0
    }

    /// `behind` with this object over it, at pixel (`x`, `y`).
    fn over(&self, behind: Color, x: f32, y: f32, grain: &Texture) -> Color {
        let (dx, dy) = (x - self.x, y - self.y);
        let reach = self.outline.reach() + 1.0;
        if dx.abs() > reach || dy.abs() > reach {
            return behind;
        }
        let (sin, cos) = self.turn;
        let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
        let (u, v) = if matches!(self.paint, Paint::Shadow) { (u, v * 4.0) } else { (u, v) };
        let inside = -self.outline.distance(u, v);
        let softness = if matches!(self.paint, Paint::Shadow) { 0.04 } else { 1.0 };
        let coverage = (inside * softness + 0.5).clamp(0.0, 1.0) * self.opacity;
        if coverage <= 0.0 {
            return behind;
        }
        let texture = grain.at(u + GRAIN_PX as f32 / 2.0, v + GRAIN_PX as f32 / 2.0)[0];
        let color = self.paint.color(u, v, inside, texture);
        let lit = self.lit(color, dx, dy);
        mix(behind, lit.map(|channel| channel.clamp(0.0, 1.0)), coverage)
    }

    /// The light stays where it is while the object turns.
    fn lit(&self, color: Color, dx: f32, dy: f32) -> Color {
        let reach = self.outline.reach();
        let light = match self.paint {
            Paint::Checkers => {
                let (x, y) = (dx / reach, dy / reach);
                let z = (1.0 - x * x - y * y).max(0.0).sqrt();
                0.35 + 0.75 * (0.62 * z - 0.5 * x - 0.6 * y).max(0.0)
            }
            _ => 1.0 - 0.12 * (dx + dy) / reach,
        };
        color.map(|channel| channel * light)
    }
}

impl Paint {
    /// Color at (`u`, `v`) from the center, `inside` pixels from the outline; `grain` is noise around 0.5.
    fn color(self, u: f32, v: f32, inside: f32, grain: f32) -> Color {
        let rim = step(1.0, 4.5, inside);
        match self {
            Self::Wood => {
                let ring = 0.5 + 0.5 * (v * 0.45 + grain * 16.0 + u * 0.02).sin();
                mix([0.26, 0.13, 0.07], mix([0.52, 0.30, 0.15], [0.80, 0.56, 0.32], ring), rim)
            }
            Self::Sign => {
                let paper = mix([0.93, 0.91, 0.84], [0.80, 0.78, 0.72], grain);
                let ink = mix(paper, [0.10, 0.12, 0.20], letters(u, v));
                mix([0.75, 0.14, 0.12], ink, rim)
            }
            Self::Petals => {
                let angle = v.atan2(u);
                let petal = 0.5 + 0.5 * (6.0 * angle + u.hypot(v) * 0.09).sin();
                let color = mix([0.93, 0.78, 0.16], [0.85, 0.25, 0.38], step(0.35, 0.65, petal));
                let heart = step(13.0, 16.0, u.hypot(v));
                mix([0.30, 0.16, 0.10], color, heart)
                    .map(|it| it * (0.75 + 0.5 * grain) * (0.6 + 0.4 * rim))
            }
            Self::Checkers => {
                let wave = (u * (PI as f32) / 15.0).sin() * (v * (PI as f32) / 15.0).sin();
                mix([0.95, 0.95, 0.92], [0.10, 0.32, 0.78], step(-0.12, 0.12, wave))
                    .map(|it| it * (0.9 + 0.2 * grain))
            }
            Self::Band => {
                let stripe = 0.5 + 0.5 * (8.0 * v.atan2(u)).sin();
                mix([0.98, 0.55, 0.10], [0.16, 0.17, 0.20], step(0.4, 0.6, stripe))
                    .map(|it| it * (0.8 + 0.4 * grain) * (0.7 + 0.3 * rim))
            }
            Self::Shadow => [0.02, 0.03, 0.05],
        }
    }
}

/// How much of the pixel at (`u`, `v`) from the middle of [`SIGN_TEXT`] its letters cover.
fn letters(u: f32, v: f32) -> f32 {
    let width = (SIGN_TEXT.len() * font::ADVANCE - 1) as f32 * SIGN_DOT_PX;
    let height = font::GLYPH_HEIGHT as f32 * SIGN_DOT_PX;
    let inked = |i: usize| {
        let offset = |k: usize| (k as f32 + 0.5) / SIGN_SUBSAMPLES as f32 - 0.5;
        let x = (u + offset(i % SIGN_SUBSAMPLES) + width / 2.0) / SIGN_DOT_PX;
        let y = (v + offset(i / SIGN_SUBSAMPLES) + height / 2.0) / SIGN_DOT_PX;
        x >= 0.0 && y >= 0.0 && font::dot(SIGN_TEXT, x as usize, y as usize)
    };
    let points = SIGN_SUBSAMPLES * SIGN_SUBSAMPLES;
    (0..points).filter(|&i| inked(i)).count() as f32 / points as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_moment_is_the_same_picture_and_others_differ() {
        let scene = Scene::new();
        let first = scene.draw(0.7);
        assert_eq!(first, Scene::new().draw(0.7));
        let later = scene.draw(0.7 + 1.0 / 30.0);
        let changed = first.iter().zip(&later).filter(|(a, b)| a.abs_diff(**b) > 8).count();
        assert!(changed > first.len() / 20, "{changed}");
    }

    #[test]
    fn objects_move_at_most_twenty_pixels_a_frame() {
        for frame in 0..90 {
            let (now, next) = (f64::from(frame) / 30.0, f64::from(frame + 1) / 30.0);
            for (a, b) in bodies(now).iter().zip(&bodies(next)) {
                let moved = (b.x - a.x).hypot(b.y - a.y);
                assert!(moved <= 20.0, "frame {frame}: {moved}");
            }
        }
    }
}
