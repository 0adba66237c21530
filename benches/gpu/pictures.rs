//! The network alone: pictures a second, and the time of every launch.

use std::sync::Arc;
use std::time::Instant;

use num_rational::Ratio;
use serde_json::json;
use slomod::backend::cuda::backend::{BATCH, Cuda};
use slomod::backend::cuda::driver::{Driver, OwnedLaunch};
use slomod::backend::cuda::nvidia::Nvidia;
use slomod::config::settings::Scale;
use slomod::engine::Interpolator;
use slomod::engine::rife::{Origin, Rife};
use slomod::frame::{Frame, Picture};

use super::cost::{self, Cost};
use super::device::{self, graph_seconds};
use super::listener::Listener;
use super::networks::{self, Kind, network};
use super::rows::Rows;

/// Sizes, unless `BENCH_SIZES` (`1280x720,...`) says otherwise; the launches are measured at the last but one.
const SIZES: &str = "1280x720,1920x1080,3840x2160";
/// Pictures of a measurement, and measurements of which the median counts.
const PICTURES: usize = 80;
const MEASUREMENTS: usize = 3;
/// Launches of one kind in a graph, so that starting it weighs little.
const COPIES: usize = 10;
/// Dense f16 operations with f32 sums of one multiprocessor in one clock, by compute capability. Source: NVIDIA's
/// white papers of Turing, Ampere, Ada, Hopper and Blackwell. On 8.6, 8.9 and 12.0 of consumer cards it is half.
const PEAK_FLOP: [((u32, u32), f64); 7] = [
    ((7, 5), 1024.0),
    ((8, 0), 2048.0),
    ((8, 6), 512.0),
    ((8, 9), 512.0),
    ((9, 0), 4096.0),
    ((10, 0), 8192.0),
    ((12, 0), 512.0),
];

fn sizes() -> Vec<(usize, usize)> {
    let text = std::env::var("BENCH_SIZES").unwrap_or_else(|_| SIZES.to_owned());
    let size = |text: &str| {
        let (width, height) = text.split_once('x').expect("WIDTHxHEIGHT");
        (width.parse().unwrap(), height.parse().unwrap())
    };
    text.split(',').map(size).collect()
}

/// The size at which launches are measured.
pub fn measured_size() -> (usize, usize) {
    let all = sizes();
    all[all.len().saturating_sub(2)]
}

/// A clip without an end: three pictures that come again under new numbers.
struct Clip {
    pictures: Vec<Arc<Picture>>,
    next: u64,
}

impl Clip {
    fn new(width_px: usize, height_px: usize) -> Self {
        let picture = |shift| Arc::new(networks::picture(width_px, height_px, shift));
        Self { pictures: (0..3).map(picture).collect(), next: 0 }
    }

    fn next(&mut self) -> Frame {
        let index = self.next;
        self.next += 1;
        let picture = Arc::clone(&self.pictures[(index % 3) as usize]);
        let pts = Ratio::from_integer(i128::from(index));
        Frame { index, pts, duration: None, picture, alpha: None }
    }
}

fn rife(driver: Arc<dyn Driver>, kind: &Kind, batch: Option<usize>) -> Rife<Cuda> {
    let cuda = match batch {
        Some(batch) => Cuda::with_batch(driver, batch),
        None => Cuda::new(driver),
    };
    Rife::new(cuda, &network(kind), Scale::Fixed(1.0), Origin::default()).unwrap()
}

/// Every network at every size.
pub fn networks(kinds: &[Kind], rows: &mut Rows) {
    println!("pictures a second; one timestep a pair, the features of one new frame each\n");
    println!(
        "| network | size | device only | device only, batches | one at a time | ahead | ahead, batches | MB of device |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for kind in kinds {
        for (width, height) in sizes() {
            let device = device::open();
            let free = device.free_bytes().unwrap();
            let seconds = |batch| {
                let (launches, _kept) =
                    steady_launches(device.clone(), kind, (width, height), batch);
                graph_seconds(&*device, &launches, 1) / batch as f64
            };
            let (alone, together) = (seconds(1), seconds(BATCH));
            let single =
                rate(&mut rife(device.clone(), kind, Some(1)), (width, height), Way::Waiting);
            let ahead = rate(&mut rife(device.clone(), kind, Some(1)), (width, height), Way::Ahead);
            let mut engine = rife(device.clone(), kind, None);
            let batched = rate(&mut engine, (width, height), Way::Ahead);
            let megabytes = free.saturating_sub(device.free_bytes().unwrap()) / 1_000_000;
            println!(
                "| {} | {width}x{height} | {:.0} | {:.0} | {single:.0} | {ahead:.0} | {batched:.0} | {megabytes} |",
                kind.name,
                1.0 / alone,
                1.0 / together,
            );
            rows.push(json!({
                "network": kind.name, "size": format!("{width}x{height}"), "device_ms": alone * 1e3,
                "device_fps": 1.0 / alone, "device_batched_fps": 1.0 / together, "one_at_a_time_fps": single, "ahead_fps": ahead,
                "ahead_batched_fps": batched, "device_megabytes": megabytes,
            }));
        }
    }
    println!(
        "\ndevice only: all launches of a picture as one graph, frames and pictures stay on the device; in \
         batches: {BATCH} pictures of {BATCH} pairs"
    );
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Waiting,
    Ahead,
}

/// Pictures a second from planes to planes, copies included.
fn rate(engine: &mut Rife<Cuda>, (width, height): (usize, usize), way: Way) -> f64 {
    let mut clip = Clip::new(width, height);
    let mut before = clip.next();
    let mut run = |count: usize| {
        let start = Instant::now();
        for _ in 0..count {
            let next = clip.next();
            if way == Way::Waiting {
                engine.interpolate(&before, &next, &[0.5]).unwrap();
            } else {
                let ahead = engine.ahead().unwrap();
                while ahead.waiting() >= ahead.depth().max(1) {
                    ahead.collect().unwrap();
                }
                ahead.submit(&before, &next, &[0.5]).unwrap();
            }
            before = next;
        }
        if let Some(ahead) = engine.ahead() {
            while ahead.waiting() > 0 {
                ahead.collect().unwrap();
            }
        }
        count as f64 / start.elapsed().as_secs_f64()
    };
    let (count, measurements) = if device::rehearsal() { (4, 1) } else { (PICTURES, MEASUREMENTS) };
    run(count.div_ceil(4));
    let mut rates: Vec<f64> = (0..measurements).map(|_| run(count)).collect();
    rates.sort_by(f64::total_cmp);
    rates[measurements / 2]
}

/// The launches of `batch` pictures of a clip, one between each two frames; what they read lives as long as the engine.
pub fn steady_launches(
    device: Arc<dyn Driver>,
    kind: &Kind,
    (width, height): (usize, usize),
    batch: usize,
) -> (Vec<OwnedLaunch>, Rife<Cuda>) {
    let listener = Arc::new(Listener::new(device));
    let mut engine = rife(listener.clone(), kind, Some(batch));
    let mut clip = Clip::new(width, height);
    let mut before = clip.next();
    let mut pictures = |count: usize| {
        for _ in 0..count {
            let next = clip.next();
            engine.ahead().unwrap().submit(&before, &next, &[0.5]).unwrap();
            before = next;
        }
        let ahead = engine.ahead().unwrap();
        while ahead.waiting() > 0 {
            ahead.collect().unwrap();
        }
    };
    pictures(batch);
    listener.take();
    pictures(batch);
    (listener.take(), engine)
}

/// What the device can do at the most, where it is known.
#[derive(Clone, Copy)]
struct Limits {
    flop_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
}

impl Limits {
    fn of(device: &Nvidia) -> Self {
        let clock_mhz: Option<f64> =
            std::env::var("BENCH_CLOCK_MHZ").ok().and_then(|text| text.trim().parse().ok());
        let about = device.description();
        let known = PEAK_FLOP.iter().find(|(capability, _)| *capability == about.capability);
        let flop = known
            .zip(clock_mhz)
            .map(|((_, flop), mhz)| flop * f64::from(about.multiprocessors) * mhz * 1e6);
        Self { flop_per_second: flop, bytes_per_second: device::bandwidth() }
    }

    /// The least time in which the work could be done: the longer of its products at the peak rate and its bytes at the
    /// bandwidth; none where one of both is not known.
    fn floor_seconds(self, cost: Cost) -> Option<f64> {
        let products = cost.flop / self.flop_per_second?;
        Some(products.max(cost.bytes / self.bytes_per_second?)).filter(|seconds| *seconds > 0.0)
    }
}

/// Every launch of a picture (at 1920x1080, unless told otherwise), those of one kind and shape together.
pub fn kernels(kinds: &[Kind], rows: &mut Rows) {
    for kind in kinds {
        for batch in [1, BATCH] {
            kernels_of(kind, batch, rows);
        }
    }
    println!(
        "\nEach launch again and again on the same tensors, so that small ones come from the cache; bytes: every tensor \
         once; of floor: the longer of products at the peak rate and bytes at the bandwidth, over the time."
    );
}

fn kernels_of(kind: &Kind, batch: usize, rows: &mut Rows) {
    let (width, height) = measured_size();
    let device = device::open();
    let limits = Limits::of(&device);
    let (launches, _kept) = steady_launches(device.clone(), kind, (width, height), batch);
    println!("\n{} {width}x{height}, pictures of a batch: {batch}\n", kind.name);
    println!(
        "| kernel | launches | blocks each | us each | us all | TFLOP/s | of peak % | GB/s | of floor % |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut sum = 0.0;
    for (launch, count) in grouped(&launches) {
        let one = std::slice::from_ref(&launch);
        let seconds = graph_seconds(&*device, one, COPIES);
        let cost = cost::of(&launch, batch);
        let Cost { flop, bytes } = cost;
        let blocks: u32 = launch.grid.iter().product();
        let peak = limits.flop_per_second.map(|peak| 100.0 * flop / seconds / peak);
        let floor = limits.floor_seconds(cost).map(|floor| 100.0 * floor / seconds);
        let shown = |share: Option<f64>| share.map_or("-".to_owned(), |it| format!("{it:.0}"));
        sum += seconds * count as f64;
        println!(
            "| {} | {count} | {blocks} | {:.1} | {:.1} | {:.1} | {} | {:.0} | {} |",
            launch.kernel,
            seconds * 1e6,
            seconds * 1e6 * count as f64,
            flop / seconds / 1e12,
            shown(peak),
            bytes / seconds / 1e9,
            shown(floor),
        );
        rows.push(json!({
            "network": kind.name, "size": format!("{width}x{height}"), "batch": batch,
            "kernel": launch.kernel, "launches": count, "blocks": blocks,
            "microseconds": seconds * 1e6, "flop": flop, "bytes": bytes, "percent_of_peak": peak,
            "percent_of_floor": floor,
        }));
    }
    println!("\nall launches one after the other: {:.3} ms", sum * 1e3);
}

/// Launches that differ in addresses alone count as one.
pub fn grouped(launches: &[OwnedLaunch]) -> Vec<(OwnedLaunch, usize)> {
    let mut groups: Vec<(OwnedLaunch, usize)> = vec![];
    for launch in launches {
        let same = |it: &(OwnedLaunch, usize)| {
            it.0.kernel == launch.kernel
                && it.0.grid == launch.grid
                && it.0.shared_bytes == launch.shared_bytes
                && cost::of(&it.0, 1) == cost::of(launch, 1)
        };
        match groups.iter_mut().find(|it| same(it)) {
            Some((_, count)) => *count += 1,
            None => groups.push((launch.clone(), 1)),
        }
    }
    groups
}

/// The launches of one picture and of a batch, each once and by itself.
pub fn once(kind: &Kind) {
    for batch in [1, BATCH] {
        let (launches, _kept) = steady_launches(device::open(), kind, measured_size(), batch);
        println!("{} launches for {batch}", launches.len());
    }
}

/// A few small pictures through every path, for tools that slow everything down.
pub fn small() {
    for kind in [&super::networks::V4_6, &super::networks::V4_22, &super::networks::STARTER] {
        let mut engine = rife(device::open(), kind, None);
        let mut clip = Clip::new(123, 101);
        let mut before = clip.next();
        for timesteps in [&[0.5][..], &[0.25, 0.5, 0.75], &[0.5], &[0.5]] {
            let next = clip.next();
            let pictures = engine.interpolate(&before, &next, timesteps).unwrap();
            assert_eq!(pictures.len(), timesteps.len());
            before = next;
        }
        println!("{}: done", kind.name);
    }
}
