//! Whole networks through the kernels: against PyTorch's vectors, against the CPU, in batches, one pair after another.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use num_rational::Ratio;
use slomod::backend::cpu::Cpu;
use slomod::backend::cpu::instructions::Instructions;
use slomod::backend::cuda::backend::{BATCH, Cuda};
use slomod::backend::cuda::driver::{DeviceDescription, DeviceError, Driver, Launch, OwnedLaunch};
use slomod::config::settings::Scale;
use slomod::engine::rife::{Origin, Rife};
use slomod::engine::{Ahead, Interpolator, trial};
use slomod::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
use slomod::models::pyramid;
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;
use slomod::ops::color::rgb_to_picture;
use slomod::ops::tensor::Tensor;

use crate::common::layouts::{ALL, Layout};
use crate::common::picture;
use crate::shim::driver::ShimDriver;
use crate::skip::skip;

/// What f16 with f32 sums and flows reaches against f32: the golden vectors' README.
const LEAST_PSNR_DB: f64 = 62.0;
/// Same, of a flow, in pixels.
const FLOW_TOLERANCE_PX: f32 = 0.06;
/// Codes by which a sample of a picture may differ from the CPU's: 62 dB is 0.2 codes, and rounding may go the other way.
const CODES: u8 = 2;
/// Codes by which they may differ in the mean, and what PSNR of the two that is at the least.
const MEAN_CODES: f64 = 1.0;
const LEAST_PICTURE_PSNR_DB: f64 = 50.0;

/// A driver that collects launches into graphs as a device does, over one that runs them on the processor.
#[derive(Debug)]
pub struct Graphs {
    inner: Arc<ShimDriver>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    capturing: bool,
    open: Vec<OwnedLaunch>,
    made: HashMap<u64, Vec<OwnedLaunch>>,
    next: u64,
    replays: usize,
}

impl Graphs {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: ShimDriver::new(), state: Mutex::default() })
    }

    pub fn replays(&self) -> usize {
        self.state.lock().unwrap().replays
    }
}

impl Driver for Graphs {
    fn description(&self) -> &DeviceDescription {
        self.inner.description()
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        self.inner.free_bytes()
    }

    fn allocated_bytes(&self) -> u64 {
        self.inner.allocated_bytes()
    }

    fn peak_bytes(&self) -> u64 {
        self.inner.peak_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        assert!(!self.state.lock().unwrap().capturing, "no memory is had within a graph");
        self.inner.allocate(bytes)
    }

    fn release(&self, address: u64, bytes: usize) {
        self.inner.release(address, bytes);
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(!self.state.lock().unwrap().capturing, "no copy is made within a graph");
        self.inner.upload(address, bytes)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.download(address, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let mut state = self.state.lock().unwrap();
        if !state.capturing {
            return self.inner.launch(launch);
        }
        state.open.push(OwnedLaunch::from(launch));
        Ok(())
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.inner.synchronize()
    }

    fn begin_capture(&self) -> Result<bool, DeviceError> {
        self.state.lock().unwrap().capturing = true;
        Ok(true)
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        let mut state = self.state.lock().unwrap();
        state.capturing = false;
        state.next += 1;
        let (number, open) = (state.next, std::mem::take(&mut state.open));
        state.made.insert(number, open);
        Ok(number)
    }

    fn replay(&self, graph: u64) -> Result<(), DeviceError> {
        let launches = {
            let mut state = self.state.lock().unwrap();
            state.replays += 1;
            state.made[&graph].clone()
        };
        launches.iter().try_for_each(|it| {
            self.inner.launch(&Launch {
                kernel: &it.kernel,
                grid: it.grid,
                block: it.block,
                shared_bytes: it.shared_bytes,
                params: &it.params,
            })
        })
    }

    fn forget(&self, graph: u64) {
        self.state.lock().unwrap().made.remove(&graph);
    }
}

pub fn cuda(driver: Arc<dyn Driver>, batch: usize, network: &Network, scale: Scale) -> Rife<Cuda> {
    Rife::new(Cuda::with_batch(driver, batch), network, scale, Origin::default()).unwrap()
}

pub fn cpu(network: &Network, scale: Scale) -> Rife<Cpu> {
    let set = Instructions::choose(None).unwrap();
    Rife::new(Cpu::new(set, 2).unwrap(), network, scale, Origin::default()).unwrap()
}

fn golden_files() -> Vec<PathBuf> {
    // A bundle that was carried to another machine says where they lie.
    let named = std::env::var_os("SLOMOD_GOLDEN").map(PathBuf::from);
    let folder =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"));
    let entries = std::fs::read_dir(&folder).into_iter().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("rife_v4."));
    found.sort();
    if found.is_empty() {
        skip(&format!("no rife_v4.* in {}", folder.display()));
    }
    found
}

fn tensor(weights: &Weights, name: &str) -> Option<Tensor> {
    let shape = weights.shape(name)?.to_vec();
    let values = weights.values(name).unwrap();
    Some(Tensor::from_chw(&values, shape[1], shape[2], shape[3]))
}

fn psnr_db(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares: f64 =
        found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    -10.0 * (squares / found.len() as f64).log10()
}

/// The largest difference of the two, or `worst` where that is larger; NaN stays.
fn worse(worst: f32, found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    errors.fold(worst, |worst, error| if error > worst || error.is_nan() { error } else { worst })
}

fn check_golden(path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let weights = Weights::open(path).unwrap();
    let network = Network::read(&weights).unwrap();
    let scale = weights.metadata("scale").map_or(1.0, |text| text.parse().unwrap());
    let input = |name| tensor(&weights, name).unwrap();
    let (img0, img1) = (input("input.img0"), input("input.img1"));
    let timestep = weights.values("input.timestep").unwrap()[0];
    let mut rife = cuda(ShimDriver::new(), 1, &network, Scale::Fixed(scale));
    // Other pairs come first, so that whatever is stale would show in PyTorch's.
    consecutive_pairs_equal_the_cpu(
        &name,
        &mut rife,
        &mut cpu(&network, Scale::Fixed(scale)),
        [&img0, &img1],
    );
    batches_equal_those_of_fresh_engines(&name, &network, Scale::Fixed(scale));
    let trace = rife.trace_rgb(&img0.data, &img1.data, img0.w, img0.h, timestep).unwrap();
    let db = psnr_db(&trace.rgb, &input("output.merged").data);
    let mut worst: f32 = 0.0;
    for (index, block) in trace.blocks.iter().enumerate() {
        let mut compared = 0;
        for (full, step) in
            [(format!("output.flow{index}"), 1), (format!("output.flow{index}.s5"), 5)]
        {
            let Some(expected) = tensor(&weights, &full) else { continue };
            compared += 1;
            for y in 0..expected.h {
                for x in 0..expected.w {
                    let found = block.flow.at(y * step, x * step);
                    worst = worse(worst, found, expected.at(y, x));
                }
            }
        }
        assert_eq!(compared, 1, "{name}: flows of block {index}");
    }
    assert!(!trace.blocks.is_empty(), "{name}: no flow is compared");
    println!("{name}: {db:.1} dB, flow within {worst:.4} px");
    assert!(db >= LEAST_PSNR_DB, "{name}: {db:.1} dB");
    assert!(worst < FLOW_TOLERANCE_PX, "{name}: flow off by {worst} px");
}

/// Size of pictures that graphs are tried with: neither side is a multiple of anything.
const SMALL: (usize, usize) = (37, 29);

/// Pairs at factors 2, 3 and 4 as the pipeline asks for them, in batches and graphs, with every record kept: each batch bit for
/// bit what an engine makes that has seen nothing else.
fn batches_equal_those_of_fresh_engines(name: &str, network: &Network, scale: Scale) {
    const BATCH: usize = 2;
    let (frames, graphs) = (frames(5, SMALL.0, SMALL.1, 80), Graphs::new());
    let mut engine = cuda(graphs.clone(), BATCH, network, scale);
    let mut asked = vec![];
    for (pair, factor) in frames.windows(2).zip([2, 3, 4, 3]) {
        engine.submit(&pair[0], &pair[1], &times(factor)).unwrap();
        asked.extend(times(factor).into_iter().map(|time| (pair, time)));
    }
    let found: Vec<_> = asked.iter().map(|_| engine.collect().unwrap()).collect();
    for (batch, found) in asked.chunks(BATCH).zip(found.chunks(BATCH)) {
        let mut fresh = cuda(ShimDriver::new(), BATCH, network, scale);
        for (pair, time) in batch {
            fresh.submit(&pair[0], &pair[1], &[*time]).unwrap();
        }
        for ((_, time), found) in batch.iter().zip(found) {
            assert!(*found == fresh.collect().unwrap(), "{name}: stale at {time}");
        }
    }
    // The first takes its memory, the second is the first that is the same; from the third on it is one graph.
    assert_eq!(graphs.replays(), asked.len() / BATCH - 2, "{name}");
}

/// Three pairs one after another at factors 2, 3 and 4, pictures and flows.
fn consecutive_pairs_equal_the_cpu(
    name: &str,
    rife: &mut Rife<Cuda>,
    reference: &mut Rife<Cpu>,
    pair: [&Tensor; 2],
) {
    let [img0, img1] = pair;
    let (width, height) = (img0.w, img0.h);
    let third = picture(width, height, 5.0, 70);
    let frames = [&img0.data, &img1.data, &third, &img0.data];
    let (mut least_db, mut worst) = (f64::INFINITY, 0.0_f32);
    for (pair, factor) in frames.windows(2).zip([2, 3, 4]) {
        for timestep in times(factor) {
            let [a, b] = [pair[0], pair[1]];
            let found = rife.trace_rgb(a, b, width, height, timestep).unwrap();
            let expected = reference.trace_rgb(a, b, width, height, timestep).unwrap();
            least_db = least_db.min(psnr_db(&found.rgb, &expected.rgb));
            for (a, b) in found.blocks.iter().zip(&expected.blocks) {
                worst = worse(worst, &a.flow.data, &b.flow.data);
            }
        }
    }
    println!("{name}: three pairs: {least_db:.1} dB, flow within {worst:.4} px");
    assert!(least_db >= LEAST_PSNR_DB, "{name}: {least_db:.1} dB");
    assert!(worst < FLOW_TOLERANCE_PX, "{name}: flow off by {worst} px");
}

#[test]
fn every_network_agrees_with_pytorch_as_closely_as_f16_can() {
    golden_files().iter().for_each(|path| check_golden(path));
}

pub fn network(layout: &Layout, seed: u64) -> Network {
    let bytes = layout.file(seed);
    let weights = Weights::from_bytes(Path::new(layout.name), Cow::Owned(bytes)).unwrap();
    Network::read(&weights).unwrap()
}

fn frames(count: u64, width_px: usize, height_px: usize, seed: u64) -> Vec<Frame> {
    let (chroma, matrix, range) = (Chroma::C420, Matrix::Bt709, Range::Limited);
    let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight };
    let one = |index| {
        let rgb = picture(width_px, height_px, 2.0 * index as f32, seed + index);
        let (pts, picture) = (Ratio::from_integer(i128::from(index)), rgb_to_picture(&rgb, format));
        Frame { index, pts, duration: None, picture: Arc::new(picture), alpha: None }
    };
    (0..count).map(one).collect()
}

fn times(factor: u32) -> Vec<f32> {
    (1..factor).map(|i| i as f32 / factor as f32).collect()
}

fn assert_same(what: &str, found: &[Picture], expected: &[Picture]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (number, (a, b)) in found.iter().zip(expected).enumerate() {
        let codes = a.planes.iter().flatten().zip(b.planes.iter().flatten());
        let apart: Vec<u8> = codes.map(|(a, b)| a.abs_diff(*b)).collect();
        let worst = apart.iter().max().unwrap();
        assert!(*worst <= CODES, "{what}, picture {number}: {worst} codes apart");
        let mean_of = |of: fn(f64) -> f64| {
            apart.iter().map(|it| of(f64::from(*it))).sum::<f64>() / apart.len() as f64
        };
        let (mean, squared) = (mean_of(|it| it), mean_of(|it| it * it));
        assert!(mean <= MEAN_CODES, "{what}, picture {number}: {mean} codes in the mean");
        let db = 10.0 * (255.0 * 255.0 / squared).log10();
        assert!(db >= LEAST_PICTURE_PSNR_DB, "{what}, picture {number}: {db:.1} dB");
    }
}

/// The same network with its middle blocks at work twice, the first of them at the size of the block before.
fn again(network: Network) -> Network {
    let order = "0:16,1:16,2:8,3:4,1:16,2:8,3:4,3:2,4:1";
    Network { visits: pyramid::parse(order, network.blocks.len()).unwrap(), ..network }
}

/// Q10.
#[test]
fn consecutive_pairs_at_several_factors_and_sizes_equal_the_cpu_with_graphs() {
    let networks = [0, 3, 12].map(|layout| network(&ALL[layout], 50));
    for network in networks.into_iter().chain([again(network(&ALL[12], 50))]) {
        let graphs = Graphs::new();
        let mut engine = cuda(graphs.clone(), 4, &network, Scale::Auto);
        let mut expected = cpu(&network, Scale::Auto);
        let mut compare = |frames: &[Frame], factors: &[u32]| {
            for (pair, factor) in frames.windows(2).zip(factors) {
                let found = engine.interpolate(&pair[0], &pair[1], &times(*factor)).unwrap();
                let wanted = expected.interpolate(&pair[0], &pair[1], &times(*factor)).unwrap();
                let what = format!("{}, factor {factor}", network.name);
                assert_same(&what, &found, &wanted);
            }
        };
        // Memory grows in the first batch; a batch is a graph from the second time on that it is the same.
        compare(&frames(7, 37, 29, 60), &[4, 4, 3, 2, 3, 2]);
        assert_eq!(graphs.replays(), 2);
        compare(&frames(3, 70, 41, 61), &[3, 2]);
        // The first size again, other pictures in other memory: nothing of the graphs may be stale.
        compare(&frames(7, 37, 29, 62), &[4, 4, 3, 2, 3, 2]);
        assert_eq!(graphs.replays(), 5);
    }
}

/// Q10.
#[test]
fn pictures_asked_ahead_in_any_batch_equal_the_cpu() {
    let network = network(&ALL[12], 51);
    let frames = frames(6, 37, 29, 63);
    let mut expected = vec![];
    let mut reference = cpu(&network, Scale::Auto);
    for (pair, factor) in frames.windows(2).zip([2, 2, 3, 2, 4]) {
        expected.extend(reference.interpolate(&pair[0], &pair[1], &times(factor)).unwrap());
    }
    for batch in 1..=4 {
        let mut engine = cuda(ShimDriver::new(), batch, &network, Scale::Auto);
        for (pair, factor) in frames.windows(2).zip([2, 2, 3, 2, 4]) {
            engine.submit(&pair[0], &pair[1], &times(factor)).unwrap();
        }
        let mut found = vec![];
        while engine.waiting() > 0 {
            found.push(engine.collect().unwrap());
        }
        assert_same(&format!("batches of {batch}"), &found, &expected);
    }
}

#[test]
fn every_layout_and_flow_scale_equals_the_cpu() {
    let cases = (0..ALL.len()).map(|layout| (layout, 1.0));
    let cases = cases.chain([(3, 0.25), (10, 0.5), (12, 0.5), (12, 2.0), (3, 2.0)]);
    let cases = cases.map(|(layout, scale)| (network(&ALL[layout], 52), scale));
    let twice = [0.5, 1.0, 2.0].map(|scale| (again(network(&ALL[12], 52)), scale));
    for (network, scale) in cases.chain(twice) {
        let (width, height) = (45, 37);
        let (img0, img1) = (picture(width, height, 0.0, 1), picture(width, height, 3.0, 2));
        let scale = Scale::Fixed(scale);
        let mut engine = cuda(ShimDriver::new(), 1, &network, scale);
        let found = engine.interpolate_rgb(&img0, &img1, width, height, 0.4).unwrap();
        let mut reference = cpu(&network, scale);
        let expected = reference.interpolate_rgb(&img0, &img1, width, height, 0.4).unwrap();
        let db = psnr_db(&found, &expected);
        println!("{}, {scale:?}: {db:.1} dB", network.name);
        assert!(db >= LEAST_PSNR_DB, "{}, {scale:?}: {db:.1} dB", network.name);
    }
}

/// What a device is tried with before it is used: all networks pass, by far.
#[test]
fn the_trial_passes_with_every_layout() {
    for layout in &ALL {
        let network = network(layout, 53);
        let graphs = Graphs::new();
        let mut engine = cuda(graphs.clone(), BATCH, &network, Scale::Fixed(1.0));
        let expected = trial::pictures(&mut cpu(&network, Scale::Fixed(1.0))).unwrap();
        let db = trial::run(&mut engine, &expected).unwrap();
        println!("{}: {db:.1} dB", network.name);
        assert!(db >= LEAST_PICTURE_PSNR_DB, "{}: {db:.1} dB", network.name);
        assert_eq!(graphs.replays(), 1, "{}", network.name);
    }
}
