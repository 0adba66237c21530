//! Speed of the CPU backend.
use slomod::backend::cpu::Cpu;
use slomod::backend::cpu::conv::{Add, Conv, ConvWeights};
use slomod::backend::cpu::instructions::Instructions;
use slomod::backend::cpu::tensor::Tensor;
use std::time::Instant;

fn main() {
    let set =
        Instructions::choose(std::env::var("SLOMOD_CPU_INSTRUCTIONS").ok().as_deref()).unwrap();
    for threads in [1, 2] {
        let cpu = Cpu::new(set, threads).unwrap();
        for (h, w, cin, cout, stride) in [
            (17, 30, 192, 192, 1),
            (34, 60, 128, 128, 1),
            (68, 120, 96, 96, 1),
            (136, 240, 64, 64, 1),
            (272, 480, 32, 32, 1),
            (272, 480, 16, 16, 1),
            (136, 240, 24, 24, 1),
            (544, 960, 16, 16, 1),
            (1088, 1920, 28, 16, 2),
            (544, 960, 16, 32, 2),
        ] {
            let mut s = 1u32;
            let mut rnd = || {
                s = s.wrapping_mul(1664525).wrapping_add(1013904223);
                (s >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            let weight: Vec<f32> = (0..cin * cout * 9).map(|_| rnd() * 0.1).collect();
            let bias: Vec<f32> = (0..cout).map(|_| rnd()).collect();
            let order: Vec<_> = (0..cin).map(Some).collect();
            let conv = Conv::new(
                set.lanes(),
                &ConvWeights {
                    weight: &weight,
                    bias: &bias,
                    beta: None,
                    slope: &[0.2],
                    input_order: &order,
                    stride,
                },
            );
            let mut src = Tensor::zeros(h, w, cin);
            for y in 0..h {
                for x in 0..w {
                    let at = src.at(y, x);
                    for c in 0..cin {
                        src.values_mut()[at + c] = rnd();
                    }
                }
            }
            let mut dst = Tensor::default();
            let mut best = f64::MAX;
            for _ in 0..7 {
                let t = Instant::now();
                let add = if cin == cout && stride == 1 {
                    Add::BeforeActivation(&src)
                } else {
                    Add::Nothing
                };
                cpu.conv(&conv, (&src, add), &mut dst);
                best = best.min(t.elapsed().as_secs_f64());
            }
            let flop = conv.flop(h / stride, w / stride) as f64;
            println!(
                "{} {threads} threads {h}x{w} {cin}->{cout} s{stride}: {:.2} ms {:.0} GFLOP/s",
                set.name(),
                best * 1e3,
                flop / best / 1e9
            );
        }
    }
}
