//! Golden vectors: every published layout at hand, block by block, against what PyTorch computed, for every backend.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

use slomod::backend::Backend;
use slomod::backend::cpu::Cpu;
use slomod::backend::cpu::instructions::Instructions;
use slomod::backend::reference::Reference;
use slomod::config::settings::Scale;
use slomod::engine::rife::trace::Trace;
use slomod::engine::rife::{Origin, Rife};
use slomod::models::rife_v4::{Network, padded};
use slomod::models::weights::Weights;
use slomod::ops::conv::{self, Activation, ConvWeights, Residual, Stride};
use slomod::ops::deconv::{self, DeconvWeights, Shuffle};
use slomod::ops::fusion::sigmoid;
use slomod::ops::tensor::Tensor;
use slomod::ops::{resize, warp};

/// Largest difference of an image. PyTorch's own f32 differs from its f64 by up to 1.4e-5, and sums run in another order.
const IMAGE_TOLERANCE: f32 = 1e-4;
/// Largest difference of a flow, in pixels; same reason (9e-6 px there, grown by the other order).
const FLOW_TOLERANCE: f32 = 1e-3;
/// Largest difference of a mask logit or a feature; same reason.
const FEATURE_TOLERANCE: f32 = 1e-3;
/// Largest difference of one operation: rounding only. (The README's figure; far warps have their own.)
const OP_TOLERANCE: f32 = 1e-5;
/// Range of the values of `warp.feat8.image` (a picture's is 1). The tolerance of a warp is relative to it: PyTorch's
/// normalised coordinates are off by a few 1e-6 px, and its own f32 result there is 2.1e-5 from its f64 one.
const FEAT8_RANGE: f32 = 8.0;
/// Same, for warps whose coordinates PyTorch normalises and back over a long way.
const FAR_WARP_TOLERANCE: f32 = 1e-4;

/// The processor with each instruction set it has, one and several threads.
fn processors() -> Vec<(String, Cpu)> {
    let with = |set: Instructions| {
        [1, 3].map(|n| (format!("{} with {n} threads", set.name()), Cpu::new(set, n).unwrap()))
    };
    Instructions::available().into_iter().flat_map(with).collect()
}

/// Every backend there is: one line each.
fn check_on_every_backend(case: &Case) {
    check(case, "reference", Reference::default());
    for (name, cpu) in processors() {
        check(case, &name, cpu);
    }
}

/// One file.
struct Case {
    name: String,
    weights: Weights,
}

impl Case {
    fn open(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, weights: Weights::open(path).unwrap() }
    }

    /// A tensor of the file, NHWC. `None` where the file does not hold it.
    fn image(&self, name: &str) -> Option<Tensor> {
        let shape = self.weights.shape(name)?;
        let &[1, c, h, w] = shape else { panic!("{}: {name} has shape {shape:?}", self.name) };
        Some(Tensor::from_chw(&self.weights.values(name).unwrap(), c, h, w))
    }

    fn op(&self, name: &str) -> Tensor {
        self.image(name).unwrap_or_else(|| panic!("{}: {name} is missing", self.name))
    }
}

/// How names of files with a network begin.
const NETWORKS: &str = "rife_v4.";

fn shared(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(folder)
}

/// Files whose name starts so, in the shared folder and in all folders of `SLOMOD_GOLDEN_DIR`.
fn files(prefix: &str) -> Vec<PathBuf> {
    let further = std::env::var_os("SLOMOD_GOLDEN_DIR").unwrap_or_default();
    let named: Vec<PathBuf> =
        std::env::split_paths(&further).filter(|path| !path.as_os_str().is_empty()).collect();
    for folder in &named {
        let mut entries = std::fs::read_dir(folder).unwrap_or_else(|error| {
            panic!("SLOMOD_GOLDEN_DIR names {}: {error}", folder.display())
        });
        assert!(entries.next().is_some(), "SLOMOD_GOLDEN_DIR names {}: empty", folder.display());
    }
    let mut folders = vec![shared("golden")];
    folders.extend(named.iter().cloned());
    let mut found = vec![];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.starts_with(prefix) && name.ends_with(".safetensors") {
                found.push(path);
            }
        }
    }
    for folder in named.iter().filter(|_| prefix == NETWORKS) {
        let is_there = found.iter().any(|path| path.starts_with(folder));
        assert!(is_there, "SLOMOD_GOLDEN_DIR names {}: no {prefix}*", folder.display());
    }
    found.sort();
    if found.is_empty() {
        skip(&format!("no {prefix}* in ../shared/golden or SLOMOD_GOLDEN_DIR"));
    }
    found
}

fn scale_of(weights: &Weights) -> Scale {
    Scale::Fixed(weights.metadata("scale").map_or(1.0, |text| text.parse().unwrap()))
}

fn run<B: Backend>(case: &Case, network: &Network, backend: B) -> Trace {
    let scale = scale_of(&case.weights);
    let mut rife = Rife::new(backend, network, scale, Origin::default()).unwrap();
    let (img0, img1) = (case.op("input.img0"), case.op("input.img1"));
    let timestep = case.weights.values("input.timestep").unwrap()[0];
    rife.trace_rgb(&img0.data, &img1.data, img0.w, img0.h, timestep).unwrap()
}

/// Where a trace differs from the file: the first tensor beyond its tolerance, if there is one.
fn first_difference(case: &Case, trace: &Trace) -> Result<usize, String> {
    let mut compared = 0;
    let mut compare = |name: &str, found: &Tensor, tolerance: f32| {
        for (full, step) in [(name.to_owned(), 1), (format!("{name}.s5"), 5)] {
            let Some(expected) = case.image(&full) else { continue };
            compared += 1;
            let worst = largest_difference(&subsample(found, step), &expected, &full);
            println!("{}: {full}: {worst:.2e}", case.name);
            if worst.is_nan() || worst >= tolerance {
                return Err(format!("{full} differs by {worst:e}, tolerance {tolerance:e}"));
            }
        }
        Ok(())
    };
    for (index, features) in trace.features.iter().enumerate() {
        compare(&format!("output.f{index}"), features, FEATURE_TOLERANCE)?;
    }
    for (index, block) in trace.blocks.iter().enumerate() {
        compare(&format!("output.flow{index}"), &block.flow, FLOW_TOLERANCE)?;
        compare(&format!("output.mask{index}"), &block.mask, FEATURE_TOLERANCE)?;
        compare(&format!("output.feat{index}"), &block.handed_on, FEATURE_TOLERANCE)?;
    }
    if let Some(last) = trace.blocks.last() {
        let mut mask = last.mask.clone();
        mask.data.iter_mut().for_each(|logit| *logit = sigmoid(*logit));
        compare("output.mask", &mask, FEATURE_TOLERANCE)?;
        for (index, first) in [(0, 0), (1, 2)] {
            let image = padded_as(&case.op(&format!("input.img{index}")), &last.flow);
            let warped = warp::reference(&image, &last.flow, first);
            compare(&format!("output.warped_img{index}"), &warped, IMAGE_TOLERANCE)?;
        }
    }
    let merged = case.op("output.merged");
    let picture = Tensor { data: trace.rgb.clone(), ..merged };
    compare("output.merged", &picture, IMAGE_TOLERANCE)?;
    Ok(compared)
}

/// The picture with zeros to the right and below, up to the size of `like`.
fn padded_as(picture: &Tensor, like: &Tensor) -> Tensor {
    let mut whole = Tensor::zeros(like.h, like.w, picture.c);
    for y in 0..picture.h {
        for x in 0..picture.w {
            whole.at_mut(y, x).copy_from_slice(picture.at(y, x));
        }
    }
    whole
}

fn subsample(tensor: &Tensor, step: usize) -> Tensor {
    let (h, w) = (tensor.h.div_ceil(step), tensor.w.div_ceil(step));
    let mut part = Tensor::zeros(h, w, tensor.c);
    for y in 0..h {
        for x in 0..w {
            part.at_mut(y, x).copy_from_slice(tensor.at(y * step, x * step));
        }
    }
    part
}

fn largest_difference(found: &Tensor, expected: &Tensor, name: &str) -> f32 {
    let shape = |it: &Tensor| (it.h, it.w, it.c);
    assert_eq!(shape(found), shape(expected), "shape of {name}");
    let differences = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs());
    // NaN must not be lost: `max` would drop it.
    differences.fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}

fn check<B: Backend>(case: &Case, backend_name: &str, backend: B) {
    let network = Network::read(&case.weights).unwrap();
    let trace = run(case, &network, backend);
    let compared = first_difference(case, &trace)
        .unwrap_or_else(|why| panic!("{} on {backend_name} ({}): {why}", case.name, network.name));
    let least = 2 * network.visits.len() + 4;
    assert!(compared >= least, "{}: only {compared} tensors compared", case.name);
}

#[test]
fn every_network_agrees_with_pytorch_block_by_block() {
    for path in files(NETWORKS) {
        check_on_every_backend(&Case::open(&path));
    }
}

#[test]
fn layouts_are_told_apart_as_the_files_say() {
    for path in files(NETWORKS) {
        let case = Case::open(&path);
        let network = Network::read(&case.weights).unwrap();
        let scale = case.weights.metadata("scale").unwrap().parse::<f32>().unwrap();
        let list: Vec<f32> =
            serde_json::from_str(case.weights.metadata("scale_list").unwrap()).unwrap();
        let factors: Vec<f32> = network.visits.iter().map(|visit| visit.factor / scale).collect();
        assert_eq!(factors, list, "{}: factors of {}", case.name, network.name);
        let multiple = case.weights.metadata("pad_multiple_with_scale").unwrap();
        let found = padded(1, network.pad_multiple, scale);
        assert_eq!(found.to_string(), multiple, "{}", case.name);
    }
}

/// A weight that is 1.1 times what it should be must not pass, in whichever layer.
#[test]
fn a_planted_fault_in_any_layer_is_noticed() {
    let Some(path) = files("rife_v4.26_t0.50").into_iter().next() else { return };
    let case = Case::open(&path);
    let clean = Network::read(&case.weights).unwrap();
    assert!(first_difference(&case, &run(&case, &clean, Reference::default())).is_ok());
    let plant: [fn(&mut Network) -> &mut Vec<f32>; 6] = [
        |network| &mut network.head.as_mut().unwrap().convs[1].weight,
        |network| &mut network.head.as_mut().unwrap().deconv.weight,
        |network| &mut network.blocks[0].conv0[0].weight,
        |network| &mut network.blocks[2].convblock[4].weight,
        |network| &mut network.blocks[3].lastconv.weight,
        |network| &mut network.blocks[4].lastconv.weight,
    ];
    for (number, layer) in plant.iter().enumerate() {
        let mut faulty = clean.clone();
        layer(&mut faulty).iter_mut().for_each(|weight| *weight *= 1.1);
        let difference = first_difference(&case, &run(&case, &faulty, Reference::default()));
        println!("planted fault {number}: {difference:?}");
        assert!(difference.is_err(), "planted fault {number} was not noticed");
    }
}

fn ops() -> Option<Case> {
    files("ops_").first().map(|path| Case::open(path))
}

fn assert_op(case: &Case, name: &str, found: &Tensor, tolerance: f32) {
    let worst = largest_difference(found, &case.op(name), name);
    println!("{name}: {worst:.2e}");
    assert!(worst < tolerance, "{name} differs by {worst:e}");
}

#[test]
fn warps_agree_with_pytorch() {
    let Some(case) = ops() else { return };
    for name in ["small", "integer", "zero", "leaves_image", "far_and_edge", "feat8"] {
        let own = case.image(&format!("warp.{name}.image"));
        let image = own.unwrap_or_else(|| case.op("warp.image"));
        let flow = case.op(&format!("warp.{name}.flow"));
        let tolerance = match name {
            "leaves_image" | "far_and_edge" => FAR_WARP_TOLERANCE,
            "feat8" => OP_TOLERANCE * FEAT8_RANGE,
            _ => OP_TOLERANCE,
        };
        let found = warp::reference(&image, &flow, 0);
        assert_op(&case, &format!("warp.{name}.output"), &found, tolerance);
    }
}

#[test]
fn resizes_agree_with_pytorch() {
    let Some(case) = ops() else { return };
    let (down, up) = (case.op("resize.down.input"), case.op("resize.up.input"));
    for (input, name, factor) in [
        (&down, "down2", 0.5),
        (&down, "down4", 0.25),
        (&down, "down8", 0.125),
        (&down, "down16", 0.0625),
        (&up, "up2", 2.0),
        (&up, "up4", 4.0),
        (&up, "up8", 8.0),
        (&up, "up16", 16.0),
        (&up, "up0.5", 0.5),
    ] {
        let found = resize::reference(input, factor);
        assert_op(&case, &format!("resize.{name}.output"), &found, OP_TOLERANCE);
    }
    let (h, w) = (down.h / 2, down.w / 2);
    let mut quarter = Tensor::zeros(h, w, down.c);
    for y in 0..h {
        for x in 0..w {
            quarter.at_mut(y, x).copy_from_slice(down.at(y, x));
        }
    }
    let found = resize::reference(&quarter, 2.0);
    assert_op(&case, "resize.scale0.5_inverse.output", &found, OP_TOLERANCE);
}

#[test]
fn convolutions_agree_with_pytorch() {
    let Some(case) = ops() else { return };
    let values = |name: &str| case.weights.values(name).unwrap();
    let mut output = Tensor::default();
    let mut half = ConvWeights {
        in_channels: 12,
        out_channels: 16,
        weight: values("conv_s2.weight"),
        bias: values("conv_s2.bias"),
        stride: Stride::Two,
        residual: Residual::None,
        activation: Activation::LeakyRelu,
    };
    conv::reference(&half, &case.op("conv_s2.input"), &mut output);
    assert_op(&case, "conv_s2.leaky0.2.output", &output, OP_TOLERANCE);
    half.activation = Activation::Prelu(values("conv_s2.prelu"));
    conv::reference(&half, &case.op("conv_s2.input"), &mut output);
    assert_op(&case, "conv_s2.prelu.output", &output, OP_TOLERANCE);
    let residual = ConvWeights {
        in_channels: 24,
        out_channels: 24,
        weight: values("resconv.conv.weight"),
        bias: values("resconv.conv.bias"),
        stride: Stride::One,
        residual: Residual::Input,
        activation: Activation::LeakyRelu,
    };
    let residual = residual.fold_beta(&values("resconv.beta"));
    conv::reference(&residual, &case.op("resconv.input"), &mut output);
    assert_op(&case, "resconv.output", &output, OP_TOLERANCE);
}

#[test]
fn deconvolutions_agree_with_pytorch() {
    let Some(case) = ops() else { return };
    for (name, in_channels, out_channels) in [("deconv_ps_24", 16, 24), ("deconv_ps_52", 24, 52)] {
        let mut deconv = DeconvWeights {
            in_channels,
            out_channels,
            weight: case.weights.values(&format!("{name}.weight")).unwrap(),
            bias: case.weights.values(&format!("{name}.bias")).unwrap(),
            shuffle: Shuffle::None,
        };
        let (input, mut output) = (case.op(&format!("{name}.input")), Tensor::default());
        deconv::reference(&deconv, &input, &mut output);
        assert_op(&case, &format!("{name}.deconv"), &output, OP_TOLERANCE);
        deconv.shuffle = Shuffle::ByTwo;
        deconv::reference(&deconv, &input, &mut output);
        assert_op(&case, &format!("{name}.output"), &output, OP_TOLERANCE);
    }
}

#[test]
fn the_blend_agrees_with_pytorch() {
    let Some(case) = ops() else { return };
    let (a, b) = (case.op("blend.warped_img0"), case.op("blend.warped_img1"));
    let mask = case.op("blend.mask_logit");
    let mut found = a.clone();
    for (at, value) in found.data.iter_mut().enumerate() {
        let m = sigmoid(mask.data[at / 3]);
        *value = a.data[at] * m + b.data[at] * (1.0 - m);
    }
    assert_op(&case, "blend.output", &found, OP_TOLERANCE);
}

#[test]
fn a_file_without_its_weights_is_refused_by_name() {
    let Err(error) = Weights::from_bytes(Path::new("x"), Cow::Borrowed(b"nothing")) else {
        panic!("read nonsense")
    };
    assert!(error.to_string().contains("safetensors"), "{error}");
}
