//! What every kernel is told, field for field as in `kernels/params.h` (a test compares); see there for shapes.
//!
//! Pointers are device addresses. All structs are plain data without gaps.

use super::driver::Parameters;

/// One picture to make: two records and the time between them. An array of these lies in device memory.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct View {
    /// Record of `img0`.
    pub record0: u64,
    /// Record of `img1`.
    pub record1: u64,
    /// 0 is `img0`, 1 is `img1`.
    pub timestep: f32,
    /// Fills the struct up.
    pub unused: i32,
}

/// What an earlier block left behind.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Earlier {
    /// Flow of the output.
    pub flow: u64,
    /// Mask logits of the output.
    pub mask: u64,
    /// Features of the output, or 0.
    pub handed: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Picture pixels for each of its own.
    pub factor: f32,
    /// 1 / factor.
    pub inverse: f32,
}

/// A 3x3 convolution.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ConvParams {
    /// [n, h, w, cin].
    pub src: u64,
    /// [cout / 16][cin / 16][9 taps][lane][8].
    pub weights: u64,
    /// [cout] bias, slope below zero.
    pub affine: u64,
    /// [n, out_h, out_w, cout].
    pub dst: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows that come out.
    pub out_h: i32,
    /// Columns that come out.
    pub out_w: i32,
    /// Input channels, a multiple of 16.
    pub cin: i32,
    /// Output channels, a multiple of 16.
    pub cout: i32,
    /// 1: the input is added before the activation.
    pub residual: i32,
    /// Chunks of 16 channels in flight, at most cin / 16.
    pub stages: i32,
}

/// A transposed convolution with pixel shuffle.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct DeconvParams {
    /// [n, h, w, cin].
    pub src: u64,
    /// [phase][NB / 16][cin / 16][4 taps][lane][8].
    pub weights: u64,
    /// [NB].
    pub bias: u64,
    /// [n, 4h, 4w, 4].
    pub flow: u64,
    /// [n, 4h, 4w].
    pub mask: u64,
    /// [n, 4h, 4w, 8], or null.
    pub handed: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Input channels, a multiple of 16.
    pub cin: i32,
    /// Stages.
    pub stages: i32,
}

/// A transposed convolution without pixel shuffle.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct DeconvPlainParams {
    /// [n, h, w, cin].
    pub src: u64,
    /// [NB / 16][cin / 16][9 taps][lane][8].
    pub weights: u64,
    /// [NB].
    pub bias: u64,
    /// [n, 2h, 2w, 4].
    pub flow: u64,
    /// [n, 2h, 2w].
    pub mask: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Input channels, a multiple of 16.
    pub cin: i32,
    /// Stages.
    pub stages: i32,
}

/// `dst += src`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct AddParams {
    /// What is read.
    pub src: u64,
    /// Dst += src.
    pub dst: u64,
    /// Of 8 halves.
    pub chunks: u64,
}

/// First layer of the head.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HeadFirstParams {
    /// [frame_h, frame_w, 4].
    pub image: u64,
    /// [cout / 16][2][lane][8], K = tap * 3 + channel, 27 of 32 in use.
    pub weights: u64,
    /// [cout] bias, slope.
    pub affine: u64,
    /// [ceil(h / 2), ceil(w / 2), cout].
    pub dst: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows of the picture.
    pub frame_h: i32,
    /// Columns of the picture.
    pub frame_w: i32,
}

/// Last layer of the head, and the record.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HeadLastParams {
    /// [frame_h, frame_w, 4].
    pub image: u64,
    /// [h / 2, w / 2, cin].
    pub src: u64,
    /// [NB / 16][cin / 16][9 taps][lane][8].
    pub weights: u64,
    /// [NB].
    pub bias: u64,
    /// [h, w, record channels].
    pub record: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows of the picture.
    pub frame_h: i32,
    /// Columns of the picture.
    pub frame_w: i32,
    /// Input channels, a multiple of 16.
    pub cin: i32,
    /// Stages.
    pub stages: i32,
}

/// The record of a network without features.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RecordParams {
    /// [frame_h, frame_w, 4].
    pub image: u64,
    /// [h, w, 4].
    pub record: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows of the picture.
    pub frame_h: i32,
    /// Columns of the picture.
    pub frame_w: i32,
}

/// The input of a block.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct StageParams {
    /// [n].
    pub views: u64,
    /// Earlier.
    pub earlier: [Earlier; 4],
    /// [n, h, w, c].
    pub dst: u64,
    /// Earlier count.
    pub earlier_count: i32,
    /// 1: the logits of all earlier blocks are summed; 0: the last one holds.
    pub mask_sum: i32,
    /// Rows of the padded picture.
    pub full_h: i32,
    /// Columns of the padded picture.
    pub full_w: i32,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// C.
    pub channels: i32,
    /// Picture pixels for each pixel of this block.
    pub factor: f32,
}

/// The input of a block and its first convolution.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct StageConvParams {
    /// Dst is not used.
    pub stage: StageParams,
    /// Weights.
    pub weights: u64,
    /// Affine.
    pub affine: u64,
    /// [n, out_h, out_w, cout].
    pub dst: u64,
    /// Rows that come out.
    pub out_h: i32,
    /// Columns that come out.
    pub out_w: i32,
    /// Output channels, a multiple of 16.
    pub cout: i32,
    /// Fills the struct up.
    pub unused: i32,
}

/// Flow sum, two warps and the blend.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct FusionParams {
    /// [n].
    pub views: u64,
    /// Earlier.
    pub earlier: [Earlier; 5],
    /// What refines their flows, if anything does.
    pub refined: [Earlier; 1],
    /// [n, frame_h, frame_w, 4].
    pub image: u64,
    /// Earlier count.
    pub earlier_count: i32,
    /// Mask sum.
    pub mask_sum: i32,
    /// Rows of the padded picture.
    pub full_h: i32,
    /// Columns of the padded picture.
    pub full_w: i32,
    /// Rows of the picture.
    pub frame_h: i32,
    /// Columns of the picture.
    pub frame_w: i32,
    /// Channels of a record in memory.
    pub record: i32,
    /// 0 or 1.
    pub refined_count: i32,
}

/// The last block's transposed convolution and the picture.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct DeconvFusionParams {
    /// Fusion.
    pub fusion: FusionParams,
    /// [n, h, w, cin].
    pub src: u64,
    /// As DeconvParams, NB = 32.
    pub weights: u64,
    /// Bias.
    pub bias: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Input channels, a multiple of 16.
    pub cin: i32,
    /// Fills the struct up.
    pub unused: i32,
}

/// What refines the flows.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RefineParams {
    /// Fusion.
    pub fusion: FusionParams,
    /// [n, ceil(frame_h / 4), ceil(frame_w / 4), 2].
    pub sums: u64,
    /// [n, full_h / 4, full_w / 4].
    pub flow: u64,
    /// [n, full_h / 4, full_w / 4].
    pub mask: u64,
}

/// Backward warp of one picture.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct WarpParams {
    /// [h, w, 8 * chunks].
    pub src: u64,
    /// [h, w] x, y in pixels.
    pub flow: u64,
    /// Where it is written.
    pub dst: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Chunks.
    pub chunks: i32,
    /// Fills the struct up.
    pub unused: i32,
}

/// Bilinear resize.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ResizeParams {
    /// [h, w, 8 * chunks].
    pub src: u64,
    /// [out_h, out_w, 8 * chunks].
    pub dst: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows that come out.
    pub out_h: i32,
    /// Columns that come out.
    pub out_w: i32,
    /// Chunks.
    pub chunks: i32,
    /// Source pixels for each pixel that comes out, a power of two.
    pub step: f32,
}

/// A decoded picture in device memory and its image.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ColorParams {
    /// Y, Cb, Cr; G, B, R; or Y alone.
    pub planes: [u64; 3],
    /// [h, w, 4], or three planes of bytes: R, G, B.
    pub image: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows of the second and third plane.
    pub chroma_h: i32,
    /// Columns of the second and third plane.
    pub chroma_w: i32,
    /// Samples from row to row of the first plane.
    pub pitch: i32,
    /// Samples from row to row of the others.
    pub chroma_pitch: i32,
    /// Code of black.
    pub luma_zero: f32,
    /// Codes from black to white.
    pub luma_span: f32,
    /// Code of no color.
    pub chroma_zero: f32,
    /// Codes of the whole range of a color difference.
    pub chroma_span: f32,
    /// Largest code.
    pub peak: f32,
    /// Weight of red in luma.
    pub kr: f32,
    /// Weight of green in luma.
    pub kg: f32,
    /// Weight of blue in luma.
    pub kb: f32,
    /// Red gains this times Cr.
    pub red: f32,
    /// Blue gains this times Cb.
    pub blue: f32,
    /// Green loses this times Cb.
    pub green_cb: f32,
    /// Green loses this times Cr.
    pub green_cr: f32,
}

/// Luma of RGB in 8 bit.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LumaParams {
    /// Three planes of bytes.
    pub rgb: u64,
    /// One plane of bytes.
    pub luma: u64,
    /// Bytes of a plane.
    pub pixels: u64,
}

/// Luma of more than 8 bits rounded to 8.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Luma8Params {
    /// One plane of samples of two bytes.
    pub wide: u64,
    /// One plane of bytes.
    pub luma: u64,
    /// Samples of a plane.
    pub pixels: u64,
    /// Codes to one of 8 bits.
    pub steps: u64,
}

/// Squared error of two runs of bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SquaredErrorParams {
    /// One.
    pub a: u64,
    /// The other.
    pub b: u64,
    /// One sum a block, 64-bit integers.
    pub partial: u64,
    /// Bytes of each.
    pub samples: u64,
}

/// Sum of an SSIM map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SsimParams {
    /// [channels, h, w] bytes.
    pub a: u64,
    /// [channels, h, w] bytes.
    pub b: u64,
    /// One sum a block, doubles.
    pub partial: u64,
    /// Rows.
    pub h: i32,
    /// Columns.
    pub w: i32,
    /// Rows of window positions.
    pub out_h: i32,
    /// Columns of window positions.
    pub out_w: i32,
    /// 1 or 3.
    pub channels: i32,
    /// Side of the window, at most 11.
    pub side: i32,
    /// Replicated border.
    pub padding: i32,
    /// Outputs along the channels.
    pub mixes: i32,
    /// Window along an axis; unused ones are zero.
    pub taps: [f32; 12],
    /// [mixes][3]: weights of the channels.
    pub mix: [f32; 39],
    /// Fills the struct up.
    pub unused: i32,
}

/// Sum of partial sums.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TotalParams {
    /// 64-bit integers or doubles.
    pub partial: u64,
    /// Where totals stand, 8 bytes each.
    pub total: u64,
    /// Partial sums.
    pub count: u64,
    /// Which total.
    pub slot: i32,
    /// Fills the struct up.
    pub unused: i32,
}

macro_rules! parameters {
    ($($name:ident)*) => { $(impl Parameters for $name {})* };
}
parameters! {
    ConvParams DeconvParams DeconvPlainParams AddParams HeadFirstParams HeadLastParams RecordParams StageParams StageConvParams FusionParams DeconvFusionParams RefineParams WarpParams View ResizeParams ColorParams LumaParams Luma8Params SquaredErrorParams SsimParams TotalParams
}
