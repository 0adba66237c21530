//! Speed and memory of the network on the CPU, beside PyTorch where `BENCH_PYTHON` names a Python that has it.
//!
//! `make bench-cpu` runs it. Repetitions of both are interleaved; the table holds medians. Weights are random.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

mod networks;
mod timed;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use num_rational::Ratio;
use slomod::backend::cpu::Cpu;
use slomod::backend::cpu::instructions::{INSTRUCTIONS_VARIABLE, Instructions};
use slomod::config::settings::Scale;
use slomod::engine::Interpolator;
use slomod::engine::open::processor_name;
use slomod::engine::rife::{Origin, Rife};
use slomod::frame::Frame;
use slomod::models::rife_v4::Network;

use networks::Kind;
use timed::Timed;

/// Repetitions of each side, unless `BENCH_REPETITIONS` says otherwise.
const REPETITIONS: usize = 5;
/// Threads of each side, unless `BENCH_THREADS` says otherwise.
const THREADS: usize = 2;

/// Networks that are compared with PyTorch.
const CASES: [Kind; 3] = [networks::V4_26, networks::STARTER, networks::V4_6];
const SIZES: [(usize, usize); 2] = [(1280, 720), (1920, 1080)];

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
    };
    let (threads, repetitions) =
        (number("BENCH_THREADS", THREADS), number("BENCH_REPETITIONS", REPETITIONS));
    let wished = std::env::var(INSTRUCTIONS_VARIABLE).ok();
    let set = Instructions::choose(wished.as_deref()).unwrap();
    let only = std::env::var("BENCH_CASE").unwrap_or_default();
    println!("{}, {threads} threads, {}, load {}", processor_name(), set.name(), load());
    println!();
    println!(
        "| network | size | slomod s | steady s | PyTorch s | ratio | slomod CPU s | PyTorch CPU s | ratio | peak MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut details = String::new();
    for kind in &CASES {
        let Kind { name, widths, .. } = kind;
        for (width, height) in SIZES {
            let label = format!("{name} {width}x{height}");
            if !label.contains(&only) {
                continue;
            }
            let network = networks::network(kind);
            reset_peak();
            let mut case = Case::new(&network, Cpu::new(set, threads).unwrap(), width, height);
            let mut torch = Torch::start(widths, threads, width, height);
            let (mut ours, mut steady, mut theirs) = (vec![], vec![], vec![]);
            let (mut our_work, mut their_work) = (vec![], vec![]);
            case.cold();
            case.steady();
            for _ in 0..repetitions {
                let before = processor_seconds();
                ours.push(case.cold());
                our_work.push(processor_seconds() - before);
                steady.push(case.steady());
                if let Some((wall, work)) = torch.as_mut().map(Torch::run) {
                    theirs.push(wall);
                    their_work.push(work);
                }
            }
            let (ours, steady, theirs) = (median(ours), median(steady), median(theirs));
            let (our_work, their_work) = (median(our_work), median(their_work));
            println!(
                "| {name} | {width}x{height} | {ours:.3} | {steady:.3} | {theirs:.3} | {:.1} | \
                 {our_work:.2} | {their_work:.2} | {:.1} | {} |",
                theirs / ours,
                their_work / our_work,
                peak_megabytes()
            );
            drop(case);
            details += &breakdown(&label, &network, set, threads, (width, height), repetitions);
        }
    }
    println!(
        "\nslomod and PyTorch: both frames' features and one picture from RGB to RGB; steady: a clip's next"
    );
    println!(
        "picture from 8-bit 4:2:0 to 8-bit 4:2:0, features of one new frame. Load at the end: {}",
        load()
    );
    println!("{details}");
}

/// One network at one size.
struct Case {
    rife: Rife<Cpu>,
    rgb: [Vec<f32>; 2],
    frames: Vec<Frame>,
    at: u64,
    width: usize,
    height: usize,
}

impl Case {
    fn new(network: &Network, cpu: Cpu, width: usize, height: usize) -> Self {
        let rife = Rife::new(cpu, network, Scale::Fixed(1.0), Origin::default()).unwrap();
        let frame = |shift: usize| {
            let picture = networks::picture(width, height, shift);
            let pts = Ratio::from_integer(shift as i128);
            Frame {
                index: shift as u64,
                pts,
                duration: None,
                picture: Arc::new(picture),
                alpha: None,
            }
        };
        let rgb = [0, 1].map(|shift| networks::texture(width, height, shift));
        Self { rife, rgb, frames: vec![frame(0), frame(1), frame(2)], at: 0, width, height }
    }

    /// Seconds for a pair that shares no frame with the last.
    fn cold(&mut self) -> f64 {
        let start = Instant::now();
        let rgb = self
            .rife
            .interpolate_rgb(&self.rgb[0], &self.rgb[1], self.width, self.height, 0.5)
            .unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert!(rgb.iter().all(|value| value.is_finite()));
        seconds
    }

    /// Seconds for the next pair of a clip, pictures in and out.
    fn steady(&mut self) -> f64 {
        let mut next = || {
            let mut frame = self.frames[(self.at % 3) as usize].clone();
            frame.index = self.at;
            self.at += 1;
            frame
        };
        let (a, b) = (next(), next());
        let c = next();
        self.rife.interpolate(&a, &b, &[0.5]).unwrap();
        let start = Instant::now();
        self.rife.interpolate(&b, &c, &[0.5]).unwrap();
        start.elapsed().as_secs_f64()
    }
}

/// PyTorch in a process of its own that runs one pair for each line it reads.
struct Torch {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Torch {
    fn start(widths: &[usize], threads: usize, width: usize, height: usize) -> Option<Self> {
        let python = std::env::var("BENCH_PYTHON").ok()?;
        let widths: Vec<_> = widths.iter().map(usize::to_string).collect();
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/pytorch.py"))
            .args([widths.join(","), threads.to_string(), width.to_string(), height.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) =
            (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut torch = Self { child, to, from };
        assert_eq!(torch.line(), "ready");
        Some(torch)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Seconds and processor seconds for a pair, in the better of its two memory formats.
    fn run(&mut self) -> (f64, f64) {
        self.to.write_all(b"run\n").unwrap();
        let line = self.line();
        let (wall, work) = line.split_once(' ').unwrap();
        (wall.parse().unwrap(), work.parse().unwrap())
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where the time goes: seconds and GFLOP/s by part.
fn breakdown(
    label: &str,
    network: &Network,
    set: Instructions,
    threads: usize,
    (width, height): (usize, usize),
    repetitions: usize,
) -> String {
    let timed = Timed::new(Cpu::new(set, threads).unwrap());
    let spent = timed.spent();
    let mut rife = Rife::new(timed, network, Scale::Fixed(1.0), Origin::default()).unwrap();
    let rgb = [0, 1].map(|shift| networks::texture(width, height, shift));
    let mut runs = vec![];
    for _ in 0..=repetitions {
        spent.lock().unwrap().clear();
        rife.interpolate_rgb(&rgb[0], &rgb[1], width, height, 0.5).unwrap();
        runs.push(spent.lock().unwrap().clone());
    }
    let mut text = format!("\n{label}\n\n| part | ms | GFLOP | GFLOP/s |\n|---|---|---|---|\n");
    for (index, (part, _, flop)) in runs[1].iter().enumerate() {
        let seconds = median(runs[1..].iter().map(|run| run[index].1).collect());
        let (ms, giga) = (seconds * 1e3, flop / 1e9);
        text += &format!("| {part} | {ms:.1} | {giga:.2} | {:.0} |\n", giga / seconds);
    }
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Processor time of all threads so far, to a hundredth of a second.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 14th and 15th fields; the second, in brackets, may hold spaces.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Forgets the peak of resident memory, where the system can.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

fn peak_megabytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    // The kernel's kB are 1024 bytes; MB are a million here, as everywhere.
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024 / 1_000_000
}
