//! Every kernel against plain loops: odd and tiny sizes, all instruction sets, one and several threads, guard bands.

use super::Cpu;
use super::conv::{Add, Conv, Parameters};
use super::deconv::{self, Deconv, Shuffle};
use super::instructions::Instructions;
use super::narrow;
use super::tensor::Tensor;
use super::winograd;

/// Sums of at most 9 * 192 products of values below 1: rounding of another order stays far below it.
const TOLERANCE: f64 = 2e-5;
/// Same, in transformed tiles: their factors of up to 5 (squared, as they apply down and across) enlarge the rounding;
/// 192 channels came within 2e-5.
const WINOGRAD_TOLERANCE: f64 = 5e-5;

/// Reproducible values in -1..1.
pub(super) struct Noise(pub u64);

impl Noise {
    pub(super) fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
        let unit = (self.0 >> 40) as f32 / (1u64 << 24) as f32;
        unit * 2.0 - 1.0
    }

    pub(super) fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    /// A tensor of noise; its padding channels hold noise too, which no kernel may read into a result.
    pub(super) fn tensor(&mut self, h: usize, w: usize, c: usize) -> Tensor {
        let mut made = Tensor::zeros(h, w, c);
        for y in 0..h {
            for x in 0..w {
                let at = made.at(y, x);
                for channel in 0..made.stride {
                    made.values_mut()[at + channel] = self.next();
                }
            }
        }
        made
    }
}

/// All backends that this machine runs, with one and three threads.
pub(super) fn backends() -> Vec<Cpu> {
    let mut sets = Instructions::available();
    sets.push(Instructions::PortableWide);
    let both = |set| [1, 3].map(|threads| Cpu::new(set, threads).unwrap());
    sets.into_iter().flat_map(both).collect()
}

/// A destination of the right shape whose inside is poisoned and whose border is a guard of zeros.
pub(super) fn poisoned(h: usize, w: usize, c: usize) -> Tensor {
    let mut made = Tensor::zeros(h, w, c);
    for y in 0..h {
        for x in 0..w {
            let at = made.at(y, x);
            let stride = made.stride;
            made.values_mut()[at..at + stride].fill(f32::NAN);
        }
    }
    made
}

/// Border and slack still zero, padding channels zero.
pub(super) fn assert_guards(tensor: &Tensor, what: &str) {
    for (i, value) in tensor.values().iter().enumerate() {
        let (y, x) = (i / tensor.row_stride(), i % tensor.row_stride() / tensor.stride);
        let inside = (1..=tensor.h).contains(&y) && (1..=tensor.w).contains(&x);
        if !inside || i % tensor.stride >= tensor.c {
            assert!(*value == 0.0, "{what}: value {i} outside the result is {value}");
        }
    }
}

fn value(t: &Tensor, y: isize, x: isize, c: usize) -> f64 {
    let inside = |v: isize, n: usize| usize::try_from(v).ok().filter(|v| *v < n);
    match (inside(y, t.h), inside(x, t.w)) {
        (Some(y), Some(x)) => f64::from(t.values()[t.at(y, x) + c]),
        _ => 0.0,
    }
}

fn assert_values(
    what: &str,
    found: &Tensor,
    tolerance: f64,
    expected: impl Fn(usize, usize, usize) -> f64,
) {
    for y in 0..found.h {
        for x in 0..found.w {
            for c in 0..found.c {
                let got = value(found, y as isize, x as isize, c);
                let want = expected(y, x, c);
                assert!(
                    (got - want).abs() < tolerance,
                    "{what}: ({y}, {x}, {c}) is {got}, not {want}"
                );
            }
        }
    }
}

struct ConvCase {
    size: (usize, usize),
    cin: usize,
    cout: usize,
    stride: usize,
    add: usize,
}

fn check_conv(case: &ConvCase) {
    let mut noise = Noise(case.cin as u64 * 7919 + case.cout as u64);
    let (h, w) = case.size;
    // One channel of the weights is not given to the kernel, and the order is turned round.
    let order: Vec<_> =
        (0..case.cin).rev().map(|c| (c != 0 || case.cin == 1).then_some(c)).collect();
    let weight: Vec<f32> = noise.many(case.cin * case.cout * 9).iter().map(|v| v * 0.1).collect();
    let (bias, slope) = (noise.many(case.cout), noise.many(case.cout));
    let src = noise.tensor(h, w, case.cin);
    let (oh, ow) = (h.div_ceil(case.stride), w.div_ceil(case.stride));
    let residual = noise.tensor(oh, ow, case.cout);
    let expected = |y: usize, x: usize, co: usize| {
        let mut sum = f64::from(bias[co]);
        for tap in 0..9 {
            for (k, from) in order.iter().enumerate() {
                let Some(from) = from else { continue };
                let (sy, sx) = (
                    (y * case.stride + tap / 3) as isize - 1,
                    (x * case.stride + tap % 3) as isize - 1,
                );
                let factor = f64::from(weight[(co * case.cin + from) * 9 + tap]);
                sum += factor * value(&src, sy, sx, k);
            }
        }
        let added = value(&residual, y as isize, x as isize, co);
        let active = |v: f64| if v > 0.0 { v } else { v * f64::from(slope[co]) };
        match case.add {
            0 => active(sum),
            _ => active(sum + added),
        }
    };
    let mut first: Option<(Instructions, Tensor)> = None;
    for cpu in backends() {
        let what = format!(
            "{} {} threads {:?} {}->{}",
            cpu.instructions().name(),
            cpu.threads(),
            case.size,
            case.cin,
            case.cout
        );
        let conv = Conv::new(
            cpu.instructions().lanes(),
            &Parameters {
                weight: &weight,
                bias: &bias,
                slope: &slope,
                input_order: &order,
                stride: case.stride,
            },
        );
        let add = match case.add {
            0 => Add::Nothing,
            _ => Add::BeforeActivation(&residual),
        };
        // Values that padding channels of the residual add must not reach the result's padding.
        let mut dst = poisoned(oh, ow, case.cout);
        conv.run((&cpu.kernels, &cpu.threads, &cpu.scratch), (&src, add), &mut dst);
        let transformed = narrow::fits(case.cin, case.cout) || winograd::pays(case.cin, case.cout);
        let tolerance =
            if case.stride == 1 && transformed { WINOGRAD_TOLERANCE } else { TOLERANCE };
        assert_values(&what, &dst, tolerance, expected);
        if case.add == 0 {
            assert_guards(&dst, &what);
        }
        match &first {
            Some((set, same)) if *set == cpu.instructions() => {
                assert_eq!(same.values(), dst.values(), "{what}: threads change the result");
            }
            _ => first = Some((cpu.instructions(), dst)),
        }
    }
}

#[test]
fn convolutions_equal_plain_loops_at_all_widths() {
    for (cin, cout) in
        [(1, 1), (3, 16), (15, 24), (23, 8), (28, 48), (16, 36), (64, 64), (96, 40), (192, 192)]
    {
        for stride in [1, 2] {
            check_conv(&ConvCase { size: (5, 7), cin, cout, stride, add: stride - 1 });
        }
    }
}

#[test]
fn convolutions_equal_plain_loops_at_odd_and_tiny_sizes() {
    for size in [(1, 1), (1, 9), (9, 1), (2, 2), (3, 13), (8, 25), (17, 30)] {
        for add in 0..2 {
            for stride in [1, 2] {
                check_conv(&ConvCase { size, cin: 8, cout: 16, stride, add });
            }
        }
    }
}

#[test]
fn convolutions_in_transformed_tiles_equal_plain_loops_at_odd_and_tiny_sizes() {
    for size in [(1, 1), (1, 9), (9, 1), (4, 4), (5, 3), (8, 25), (17, 30)] {
        for (cin, cout) in [(16, 16), (32, 32), (33, 41), (40, 64)] {
            let transformed = narrow::fits(cin, cout) || winograd::pays(cin, cout);
            assert!(transformed, "{cin}->{cout} would not be computed so");
            for add in 0..2 {
                check_conv(&ConvCase { size, cin, cout, stride: 1, add });
            }
        }
    }
}

fn check_deconv((h, w): (usize, usize), cin: usize, channels: usize, shuffle: Shuffle) {
    let mut noise = Noise(cin as u64 * 104_729 + channels as u64);
    let sub = if shuffle == Shuffle::Two { 4 } else { 1 };
    let cout = (channels + 1) * sub;
    // The last channel is dead, and the order is turned round with a gap.
    let mut order: Vec<_> = (0..channels).rev().map(Some).collect();
    order.insert(1, None);
    let (weight, bias) = (noise.many(cin * cout * 16), noise.many(cout));
    let src = noise.tensor(h, w, cin);
    let plain = |oy: usize, ox: usize, co: usize| {
        let mut sum = f64::from(bias[co]);
        for ky in 0..4usize {
            for kx in 0..4usize {
                let (ty, tx) = (oy as isize + 1 - ky as isize, ox as isize + 1 - kx as isize);
                if ty % 2 == 0 && tx % 2 == 0 {
                    for ci in 0..cin {
                        let factor = f64::from(weight[((ci * cout + co) * 4 + ky) * 4 + kx]);
                        sum += factor * value(&src, ty / 2, tx / 2, ci);
                    }
                }
            }
        }
        sum
    };
    for cpu in backends() {
        let deconv = Deconv::new(
            cpu.instructions().lanes(),
            &deconv::Parameters { weight: &weight, bias: &bias, shuffle, output_order: &order },
        );
        let factor = deconv.factor();
        let mut dst = poisoned(h * factor, w * factor, order.len());
        deconv.run((&cpu.kernels, &cpu.threads, &cpu.scratch), &src, &mut dst);
        let what = format!(
            "{} {} threads {h}x{w} {cin}->{channels} {shuffle:?}",
            cpu.instructions().name(),
            cpu.threads()
        );
        assert_guards(&dst, &what);
        let expected = |y: usize, x: usize, c: usize| match (order[c], shuffle) {
            (None, _) => 0.0,
            (Some(from), Shuffle::None) => plain(y, x, from),
            (Some(from), Shuffle::Two) => plain(y / 2, x / 2, 4 * from + 2 * (y % 2) + x % 2),
        };
        assert_eq!((dst.h, dst.w, dst.c), (h * factor, w * factor, order.len()), "{what}");
        assert_values(&what, &dst, TOLERANCE, expected);
    }
}

#[test]
fn transposed_convolutions_equal_plain_loops() {
    for size in [(1, 1), (1, 5), (4, 1), (3, 7), (6, 13)] {
        for shuffle in [Shuffle::None, Shuffle::Two] {
            check_deconv(size, 8, 4, shuffle);
            check_deconv(size, 16, 12, shuffle);
        }
    }
    check_deconv((2, 3), 33, 20, Shuffle::Two);
    // Wide enough for two tasks a row of tiles.
    check_deconv((2, 213), 16, 12, Shuffle::Two);
}
