//! Video encoders: which one takes a picture as it is, what must be changed where none does, and their settings.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use num_rational::Ratio;

use super::MediaError;
use super::clip::EncoderStatus;
use super::open_encoder::VideoEncoder;
use super::options::{fixed_options, options};
use super::picture::{self, Levels, Scaler, copy_plane_in, side};
use super::planes;
use super::raw::{self, Tags};
use crate::config::settings::{Codec, Encoding};
use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range, Rate};

/// Smallest picture side that SVT-AV1 takes.
const AV1_MIN_SIDE_PX: usize = 64;

/// Highest rate that SVT-AV1 takes as a hint; frames carry their own times anyway.
const AV1_MAX_RATE: i128 = 240;

/// Bytes B, G, R, unused: FFmpeg's `bgr0`.
const BGR0: Pixel = Pixel::BGRZ;

/// How pictures get into the encoder's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Plane by plane, as they are.
    Exact,
    /// In 4:4:4, each chroma sample repeated to full size, and neutral where there is none: same size, same samples.
    In444,
    /// Green, blue and red packed into one plane (`bgr0`): same samples.
    Packed,
    /// Luma and transparency in one plane (`ya8`): same samples.
    PackedGray,
    /// Last column and row repeated to an even size, and converted to 4:2:0.
    Even420,
}

/// The encoder and frame format for a clip.
pub(super) struct Plan {
    pub(super) encoder: &'static str,
    pub(super) pixel: Pixel,
    /// Bits that the pictures are brought to first.
    depth: Depth,
    pub(super) width: u32,
    pub(super) height: u32,
    /// What is not as in the source (code, sentence).
    pub(super) warnings: Vec<(String, String)>,
    fit: Fit,
    /// Whether transparency is written.
    alpha: bool,
    /// Whether 12 bits are written as 16.
    wide: bool,
}

/// FFmpeg's name of the encoder for a codec.
pub(super) fn encoder_name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "libx264",
        Codec::H265 => "libx265",
        Codec::Av1 => "libsvtav1",
        Codec::Ffv1 => "ffv1",
    }
}

/// Chooses the encoder and the least harmful frame format for pictures of `format`.
pub(super) fn plan(codec: Codec, format: PictureFormat) -> Result<Plan, MediaError> {
    let encoder = encoder_name(codec);
    let failed = |error: ffmpeg::Error| MediaError::Encoder {
        encoder: encoder.to_owned(),
        reason: error.to_string(),
    };
    let (width_px, height_px) = (format.width_px, format.height_px);
    let (width, height) = (side(width_px).map_err(failed)?, side(height_px).map_err(failed)?);
    let mut plan = Plan {
        encoder,
        pixel: picture::pixel(format.chroma, format.depth),
        depth: format.depth,
        width,
        height,
        warnings: Vec::new(),
        fit: Fit::Exact,
        alpha: false,
        wide: false,
    };
    let odd = match format.chroma {
        Chroma::C420 => width % 2 + height % 2 > 0,
        Chroma::C422 => width % 2 > 0,
        _ => false,
    };
    plan.fit_depth(codec, format);
    match codec {
        Codec::Ffv1 if format.chroma == Chroma::Gbr && plan.depth == Depth::Eight => {
            (plan.pixel, plan.fit) = (BGR0, Fit::Packed);
        }
        Codec::Ffv1 => {}
        Codec::H264 if format.chroma == Chroma::Gbr => {
            plan.encoder = "libx264rgb";
            (plan.pixel, plan.fit) = (BGR0, Fit::Packed);
            plan.warn("rgb_video", "RGB is encoded as RGB H.264, which many players do not show");
        }
        Codec::H264 | Codec::H265 if odd => {
            plan.pixel = picture::pixel(Chroma::C444, plan.depth);
            plan.fit = Fit::In444;
            let message = format!(
                "{width}x{height} is odd, which {encoder} takes in 4:4:4 only; every sample is kept, but some players do not show 4:4:4"
            );
            plan.warn("chroma_444", &message);
        }
        Codec::H264 | Codec::H265 => {}
        Codec::Av1 => plan.av1(format),
    }
    Ok(plan)
}

impl Plan {
    fn warn(&mut self, code: &str, message: &str) {
        self.warnings.push((code.to_owned(), message.to_owned()));
    }

    /// Keeps the transparency of pictures of `format` where the encoder can, else says that it is lost.
    pub(super) fn keep_alpha(&mut self, codec: Codec, format: PictureFormat) {
        let pixel = picture::alpha_pixel(format.chroma, self.depth);
        match codec == Codec::Ffv1 && takes(self.encoder, pixel) {
            true => {
                (self.pixel, self.alpha) = (pixel, true);
                if pixel == Pixel::YA8 {
                    self.fit = Fit::PackedGray;
                }
                if format.chroma == Chroma::Gray && self.depth != Depth::Eight {
                    self.fit = Fit::In444;
                }
                self.wide = self.depth == Depth::Twelve && format.chroma != Chroma::Gbr;
                if self.wide || self.fit == Fit::In444 {
                    let message = format!(
                        "{} takes no such pictures with transparency, so they are stored as {}, with every sample kept; hashes in the list of frames are of the samples as the source has them",
                        self.encoder,
                        super::write::pixel_name(pixel)
                    );
                    self.warn("alpha_stored_wider", &message);
                }
                let message = "transparency is kept: that of real frames as it is, that of synthesized ones blended between those of the real frames on both sides, not moved with the picture";
                self.warn("alpha_blended", message);
            }
            false => {
                let message = match codec {
                    Codec::Ffv1 => format!(
                        "transparency is dropped: {} takes none with such pictures",
                        self.encoder
                    ),
                    _ => format!(
                        "transparency is dropped: {} takes none; use codec ffv1 to keep it",
                        self.encoder
                    ),
                };
                self.warn("alpha_dropped", &message);
            }
        }
    }

    /// The most bits, up to those of the pictures, that the encoder takes.
    fn fit_depth(&mut self, codec: Codec, format: PictureFormat) {
        let chroma = match codec {
            Codec::Av1 => Chroma::C420,
            _ => format.chroma,
        };
        let taken = |depth: &Depth| {
            let rgb_h264 = codec == Codec::H264 && chroma == Chroma::Gbr;
            let pixel = picture::pixel(chroma, *depth);
            *depth == Depth::Eight || !rgb_h264 && takes(self.encoder, pixel)
        };
        let depths = [Depth::Twelve, Depth::Ten, Depth::Eight];
        let fitting = depths.into_iter().filter(|it| it.bits() <= format.depth.bits()).find(taken);
        self.depth = fitting.unwrap_or_default();
        self.pixel = picture::pixel(format.chroma, self.depth);
        if self.depth != format.depth {
            let (from, to) = (format.depth.bits(), self.depth.bits());
            let message =
                format!("{from} bits a sample become {to}: {} takes no more", self.encoder);
            self.warn("bit_depth_reduced", &message);
        }
    }

    /// SVT-AV1 takes 4:2:0 of even size alone.
    fn av1(&mut self, format: PictureFormat) {
        let (width, height) = (self.width, self.height);
        if format.chroma != Chroma::C420 {
            let name = match format.chroma {
                Chroma::Gray => "gray becomes 4:2:0 with neutral chroma",
                Chroma::Gbr => "RGB becomes 4:2:0",
                _ => "chroma is reduced to 4:2:0",
            };
            self.warn("chroma_reduced", &format!("{name}: libsvtav1 takes nothing else"));
        }
        (self.width, self.height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        if (self.width, self.height) != (width, height) {
            let message = format!(
                "{width}x{height} becomes {}x{} by repeating the last column or row: libsvtav1 takes even sizes only",
                self.width, self.height
            );
            self.warn("size_padded", &message);
        }
        if format.chroma != Chroma::C420 || (self.width, self.height) != (width, height) {
            self.pixel = picture::pixel(Chroma::C420, self.depth);
            self.fit = Fit::Even420;
        }
    }
}

/// Whether an encoder lists the pixel format.
fn takes(encoder: &str, pixel: Pixel) -> bool {
    let video = ffmpeg::encoder::find_by_name(encoder).and_then(|codec| codec.video().ok());
    video.and_then(|it| it.formats()).is_some_and(|mut formats| formats.any(|it| it == pixel))
}

/// Fills encoder frames from pictures of one format.
pub(super) struct Exporter {
    plan_size: (u32, u32),
    pixel: Pixel,
    fit: Fit,
    format: PictureFormat,
    depth: Depth,
    alpha: bool,
    wide: bool,
    scaler: Option<Scaler>,
}

impl Exporter {
    /// For pictures of `format` under `plan`.
    pub(super) fn new(plan: &Plan, format: PictureFormat) -> Result<Self, ffmpeg::Error> {
        let size = (plan.width, plan.height);
        let scaler = if plan.fit == Fit::Even420 && format.chroma != Chroma::C420 {
            let levels = match format.chroma {
                Chroma::Gbr => Levels::RgbToLimited(format.matrix),
                _ => Levels::Kept,
            };
            let from = picture::pixel(format.chroma, plan.depth);
            Some(Scaler::new(from, plan.pixel, size, levels)?)
        } else {
            None
        };
        let Plan { pixel, fit, depth, alpha, wide, .. } = *plan;
        Ok(Self { plan_size: size, pixel, fit, format, depth, alpha, wide, scaler })
    }

    /// A new frame with the picture's samples, and where it is written, its transparency; none given is all seen.
    pub(super) fn export(
        &mut self,
        picture: &Picture,
        alpha: Option<&Picture>,
    ) -> Result<Video, ffmpeg::Error> {
        let is_other = |it: &Picture| it.format != self.format.alpha();
        if picture.format != self.format || alpha.is_some_and(is_other) {
            return Err(ffmpeg::Error::InputChanged);
        }
        let opaque = || planes::full(self.format.alpha());
        let alpha = self.alpha.then(|| alpha.map_or_else(opaque, Clone::clone));
        let at_depth = |it: Picture| match self.depth == self.format.depth {
            true => it,
            false => planes::to_depth(&it, self.depth),
        };
        let alpha = alpha.map(at_depth);
        let reduced;
        let picture = if self.depth == self.format.depth {
            picture
        } else {
            reduced = planes::to_depth(picture, self.depth);
            &reduced
        };
        let (width, height) = self.plan_size;
        match self.fit {
            Fit::Exact | Fit::In444 => {
                let repeated = (self.fit == Fit::In444).then(|| planes::in_444(picture));
                let picture = repeated.as_ref().unwrap_or(picture);
                let widened = self.wide.then(|| planes::widened(picture));
                let picture = widened.as_ref().unwrap_or(picture);
                let alpha = alpha.map(|it| if self.wide { planes::widened(&it) } else { it });
                let mut frame = planes_in(picture, self.pixel, (width, height));
                if let Some(alpha) = alpha {
                    let size = alpha.format.plane_bytes(0);
                    copy_plane_in(&mut frame, picture.planes.len(), &alpha.planes[0], size);
                }
                Ok(frame)
            }
            Fit::Packed => Ok(self.packed_in(&planes::pack(picture, alpha.as_ref()), 4)),
            Fit::PackedGray => Ok(self.packed_in(&planes::pack_gray(picture, alpha.as_ref()), 2)),
            Fit::Even420 => {
                let even = planes::pad(picture, width as usize, height as usize);
                let pixel = picture::pixel(self.format.chroma, self.depth);
                let frame = planes_in(&even, pixel, (width, height));
                let Some(scaler) = &mut self.scaler else { return Ok(frame) };
                Ok(scaler.run(&frame)?.clone())
            }
        }
    }

    /// A frame of one plane, with so many bytes a pixel.
    fn packed_in(&self, packed: &[u8], pixel_bytes: usize) -> Video {
        let (width, height) = self.plan_size;
        let mut frame = Video::new(self.pixel, width, height);
        copy_plane_in(&mut frame, 0, packed, (width as usize * pixel_bytes, height as usize));
        frame
    }
}

fn planes_in(picture: &Picture, pixel: Pixel, (width, height): (u32, u32)) -> Video {
    let mut frame = Video::new(pixel, width, height);
    let format = picture.format;
    for (index, plane) in picture.planes.iter().enumerate() {
        copy_plane_in(&mut frame, index, plane, format.plane_bytes(index));
    }
    frame
}

/// What the header of the output says of its pictures.
pub(super) struct Header {
    pub(super) tags: Tags,
    pub(super) sample_aspect_ratio: ffmpeg::Rational,
    pub(super) rate: Rate,
    pub(super) time_base: ffmpeg::Rational,
    pub(super) global: bool,
    /// HDR10's metadata as x265 takes it; empty where there is none.
    pub(super) hdr: String,
    /// Threads of the encoder ([`super::clip::WriteSpec::encoder_threads`]).
    pub(super) threads: Option<u32>,
}

/// The tags of the output: those of the source, except where the pictures had to become another family.
pub(super) fn output_tags(plan: &Plan, format: PictureFormat, source: Tags) -> Tags {
    if plan.fit == Fit::In444 && format.chroma == Chroma::Gray {
        // Gray without a tag has full range, 4:4:4 without one has not.
        let range = match format.range {
            Range::Full => ffi::AVColorRange::AVCOL_RANGE_JPEG,
            Range::Limited => ffi::AVColorRange::AVCOL_RANGE_MPEG,
        };
        return Tags { range, ..source };
    }
    if plan.fit != Fit::Even420 || format.chroma != Chroma::Gbr {
        return source;
    }
    let matrix = match format.matrix {
        Matrix::Bt601 => ffi::AVColorSpace::AVCOL_SPC_SMPTE170M,
        Matrix::Bt709 => ffi::AVColorSpace::AVCOL_SPC_BT709,
        Matrix::Bt2020 => ffi::AVColorSpace::AVCOL_SPC_BT2020_NCL,
    };
    Tags { matrix, range: ffi::AVColorRange::AVCOL_RANGE_MPEG, ..source }
}

/// Opens the encoder; also the options given to it, as `crf=18 preset=medium`.
///
/// # Errors
/// [`MediaError::Unencodable`] where it opens with these settings for other pictures, otherwise [`MediaError::Encoder`].
pub(super) fn open(
    plan: &Plan,
    encoding: &Encoding,
    header: &Header,
) -> Result<(VideoEncoder, String), MediaError> {
    open_for(plan, encoding, header).map_err(|error| match error {
        MediaError::Encoder { encoder, reason } if open_for_usual(encoding).is_ok() => {
            MediaError::Unencodable { encoder, reason }
        }
        other => other,
    })
}

/// Opens it for pictures that every encoder takes: the smallest of AV1.
fn open_for_usual(encoding: &Encoding) -> Result<(), MediaError> {
    let format = PictureFormat {
        width_px: AV1_MIN_SIDE_PX,
        height_px: AV1_MIN_SIDE_PX,
        chroma: Chroma::C420,
        matrix: Matrix::Bt709,
        range: Range::Limited,
        depth: Depth::Eight,
    };
    let header = Header {
        tags: Tags::UNKNOWN,
        sample_aspect_ratio: ffmpeg::Rational::new(1, 1),
        rate: Ratio::from_integer(25),
        time_base: ffmpeg::Rational::new(1, 25),
        global: true,
        hdr: String::new(),
        threads: None,
    };
    open_for(&plan(encoding.codec, format)?, encoding, &header).map(|_| ())
}

fn open_for(
    plan: &Plan,
    encoding: &Encoding,
    header: &Header,
) -> Result<(VideoEncoder, String), MediaError> {
    let failed = |reason: String| MediaError::Encoder { encoder: plan.encoder.to_owned(), reason };
    let codec = ffmpeg::encoder::find_by_name(plan.encoder)
        .ok_or_else(|| failed("is not part of this FFmpeg; install one that has it".to_owned()))?;
    let mut video = ffmpeg::codec::Context::new_with_codec(codec)
        .encoder()
        .video()
        .map_err(|error| failed(error.to_string()))?;
    video.set_width(plan.width);
    video.set_height(plan.height);
    video.set_format(plan.pixel);
    video.set_time_base(header.time_base);
    video.set_frame_rate(Some(rate_hint(plan, header.rate)));
    video.set_aspect_ratio(header.sample_aspect_ratio);
    raw::prepare_encoder(&mut video, &header.tags, header.global);
    let options = options(encoding, plan.width.min(plan.height));
    let mut dictionary = ffmpeg::Dictionary::new();
    let fixed = fixed_options(encoding.codec, header.threads, &header.hdr);
    for (key, value) in options.iter().chain(&fixed) {
        if value.contains('\0') {
            return Err(failed(format!("`{key}` holds a zero byte")));
        }
        dictionary.set(key, value);
    }
    let shown: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let shown = shown.join(" ");
    let encoder = video.open_as_with(codec, dictionary).map_err(|error| {
        let (width, height) = (plan.width, plan.height);
        let hint = if encoding.codec == Codec::Av1 && width.min(height) < AV1_MIN_SIDE_PX as u32 {
            format!("; its pictures have {AV1_MIN_SIDE_PX} pixels a side at least")
        } else {
            String::new()
        };
        failed(format!("does not open for {width}x{height} with `{shown}`: {error}{hint}"))
    })?;
    Ok((VideoEncoder::new(encoder), shown))
}

/// The nominal rate as FFmpeg holds it, nearest where it does not fit.
fn rate_hint(plan: &Plan, rate: Rate) -> ffmpeg::Rational {
    let most = if plan.encoder == "libsvtav1" { AV1_MAX_RATE } else { 1_000_000 };
    let rate = rate.clamp(Ratio::new(1, 1_000), Ratio::from_integer(most));
    rational(rate)
}

/// The rational as FFmpeg holds it, nearest within a millionth where it does not fit.
pub(super) fn rational(value: Ratio<i128>) -> ffmpeg::Rational {
    let exact = |it: Ratio<i128>| {
        let (n, d) = (i32::try_from(*it.numer()).ok()?, i32::try_from(*it.denom()).ok()?);
        Some(ffmpeg::Rational::new(n, d))
    };
    let million = Ratio::from_integer(1_000_000);
    let near = Ratio::new((value * million).round().to_integer(), 1_000_000);
    exact(value).or_else(|| exact(near)).unwrap_or_else(|| ffmpeg::Rational::new(25, 1))
}

/// Opens each encoder for a small picture to see which can be used.
pub(super) fn statuses() -> Vec<EncoderStatus> {
    let problem = |codec: Codec| {
        let encoding = Encoding { codec, ..Encoding::default() };
        open_for_usual(&encoding).err().map(|error| error.to_string())
    };
    [Codec::H264, Codec::H265, Codec::Av1, Codec::Ffv1]
        .into_iter()
        .map(|codec| EncoderStatus { name: encoder_name(codec), problem: problem(codec) })
        .collect()
}
