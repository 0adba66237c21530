//! What a launch has to do at the least: operations and bytes, from its parameters.

use slomod::backend::cuda::driver::{OwnedLaunch, Parameters};
use slomod::backend::cuda::params::{
    ColorParams, ConvParams, DeconvFusionParams, DeconvParams, DeconvPlainParams, FusionParams,
    HeadFirstParams, HeadLastParams, RefineParams, StageConvParams, StageParams,
};

/// Floating-point operations on padded channels, without what tiles waste; bytes of tensors read and written once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub flop: f64,
    pub bytes: f64,
}

/// Bytes of a flow and a mask, and of features handed on, for each pixel of an output.
const OUTPUT_BYTES: f64 = 18.0;
const HANDED_BYTES: f64 = 16.0;
/// Bytes of a pixel of an image.
const IMAGE_BYTES: f64 = 8.0;

/// The cost of a launch for `n` pictures (of convolutions as many as their grid says: those of a head are launched for each
/// frame); nothing for kernels that are not counted.
pub fn of(launch: &OwnedLaunch, n: usize) -> Cost {
    let name = launch.kernel.as_str();
    let n = n as f64;
    if name.starts_with("conv_") {
        let p: ConvParams = read(launch);
        let (into, out) = (area(p.h, p.w), area(p.out_h, p.out_w));
        let (cin, cout) = (f64::from(p.cin), f64::from(p.cout));
        let n = f64::from(launch.grid[2]) * number_after(name, "_n") / cout;
        let weights = 18.0 * cin * cout;
        Cost {
            flop: n * 18.0 * cin * cout * out,
            bytes: n * 2.0 * (cin * into + cout * out) + weights,
        }
    } else if name.starts_with("deconv_4x4_plain") {
        let p: DeconvPlainParams = read(launch);
        let cin = f64::from(p.cin);
        let flop = n * 2.0 * 4.0 * cin * 32.0 * area(p.h, p.w);
        Cost { flop, bytes: n * area(p.h, p.w) * (2.0 * cin + 4.0 * OUTPUT_BYTES) }
    } else if name.starts_with("deconv_4x4") {
        let p: DeconvParams = read(launch);
        let (cin, handed) = (f64::from(p.cin), p.handed != 0);
        let (channels, out) =
            if handed { (52.0, OUTPUT_BYTES + HANDED_BYTES) } else { (20.0, OUTPUT_BYTES) };
        let flop = n * 2.0 * 16.0 * cin * channels * area(p.h, p.w);
        Cost { flop, bytes: n * area(p.h, p.w) * (2.0 * cin + 16.0 * out) }
    } else if name.starts_with("deconv_fusion") {
        let p: DeconvFusionParams = read(launch);
        let cin = f64::from(p.cin);
        let flop = n * 2.0 * 16.0 * cin * 20.0 * area(p.h, p.w);
        let rest = fusion_bytes(&p.fusion);
        Cost { flop, bytes: n * (2.0 * cin * area(p.h, p.w) + rest) }
    } else if name == "refine_sums" {
        let p: RefineParams = read(launch);
        Cost { flop: 0.0, bytes: n * (read_bytes(&p.fusion) + sums_bytes(&p)) }
    } else if name == "refine_shifts" {
        let p: RefineParams = read(launch);
        let out = OUTPUT_BYTES * area(p.fusion.full_h, p.fusion.full_w) / 16.0;
        Cost { flop: 0.0, bytes: n * (sums_bytes(&p) + out) }
    } else if name.starts_with("fusion") {
        let p: FusionParams = read(launch);
        Cost { flop: 0.0, bytes: n * fusion_bytes(&p) }
    } else if name.starts_with("stage_conv") {
        let p: StageConvParams = read(launch);
        let out = area(p.out_h, p.out_w) * f64::from(p.cout);
        let flop = n * 18.0 * f64::from(p.stage.channels) * out;
        Cost { flop, bytes: n * (stage_bytes(&p.stage, name) + 2.0 * out) }
    } else if name.starts_with("stage") {
        let p: StageParams = read(launch);
        let out = 2.0 * area(p.h, p.w) * f64::from(p.channels);
        Cost { flop: 0.0, bytes: n * (stage_bytes(&p, name) + out) }
    } else if name.starts_with("head_first") {
        let p: HeadFirstParams = read(launch);
        let channels = number_after(name, "_n");
        let out = area(p.h, p.w) / 4.0;
        let bytes = IMAGE_BYTES * area(p.frame_h, p.frame_w) + 2.0 * channels * out;
        Cost { flop: 2.0 * 27.0 * channels * out, bytes }
    } else if name.starts_with("head_last") {
        let p: HeadLastParams = read(launch);
        let (cin, features) = (f64::from(p.cin), number_after(name, "_f"));
        let (half, full) = (area(p.h, p.w) / 4.0, area(p.h, p.w));
        let record = record_bytes(name) * full;
        let bytes = IMAGE_BYTES * area(p.frame_h, p.frame_w) + 2.0 * cin * half + record;
        Cost { flop: 2.0 * 16.0 * cin * features * half, bytes }
    } else if name.starts_with("image_from_") || name.ends_with("_from_image") {
        let p: ColorParams = read(launch);
        let sample = if name.contains("_wide") { 2.0 } else { 1.0 };
        let chroma = if name.contains("gray") { 0.0 } else { 2.0 * area(p.chroma_h, p.chroma_w) };
        let pixels = area(p.h, p.w);
        Cost { flop: 0.0, bytes: sample * (pixels + chroma) + IMAGE_BYTES * pixels }
    } else {
        Cost::default()
    }
}

/// Bytes of a pixel of a record: the image's channels and those of the features in the kernel's name, padded to 8; the
/// image alone has 4.
fn record_bytes(name: &str) -> f64 {
    match number_after(name, "_f") {
        0.0 => IMAGE_BYTES,
        features => 2.0 * ((3.0 + features) / 8.0).ceil() * 8.0,
    }
}

/// Earlier outputs and, at 1/factor of the picture, the records: what a resize down leaves out is not counted.
fn stage_bytes(p: &StageParams, name: &str) -> f64 {
    let points = if p.factor > 1.0 { 4.0 } else { 1.0 };
    let record = record_bytes(name) * points * area(p.h, p.w);
    2.0 * record + earlier_bytes(&p.earlier[..p.earlier_count as usize])
}

fn fusion_bytes(p: &FusionParams) -> f64 {
    read_bytes(p) + IMAGE_BYTES * area(p.frame_h, p.frame_w)
}

/// Records and outputs.
fn read_bytes(p: &FusionParams) -> f64 {
    let records = 2.0 * 2.0 * f64::from(p.record) * area(p.full_h, p.full_w);
    records + earlier_bytes(&p.earlier[..p.earlier_count as usize])
}

/// Sums of cells of 4 x 4 pixels.
fn sums_bytes(p: &RefineParams) -> f64 {
    32.0 * area(p.fusion.frame_h, p.fusion.frame_w) / 16.0
}

fn earlier_bytes(earlier: &[slomod::backend::cuda::params::Earlier]) -> f64 {
    let flows: f64 = earlier.iter().map(|it| 16.0 * area(it.h, it.w)).sum();
    let last = earlier.last().map_or(0.0, |it| {
        area(it.h, it.w) * (2.0 + if it.handed == 0 { 0.0 } else { HANDED_BYTES })
    });
    flows + last
}

fn area(h: i32, w: i32) -> f64 {
    f64::from(h) * f64::from(w)
}

/// The number behind `key` in a kernel's name; 0 where there is none.
fn number_after(name: &str, key: &str) -> f64 {
    let Some((_, rest)) = name.split_once(key) else { return 0.0 };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0.0)
}

/// The parameter struct of a launch.
pub fn read<T: Parameters>(launch: &OwnedLaunch) -> T {
    assert_eq!(launch.params.len(), size_of::<T>(), "parameters of {}", launch.kernel);
    #[expect(unsafe_code, reason = "the struct as the kernel takes it")]
    // SAFETY: plain data of that length; any bytes are a value.
    unsafe {
        launch.params.as_ptr().cast::<T>().read_unaligned()
    }
}
