//! Video encoders: which one takes a picture as it is, and what must be changed where none does.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;

use super::MediaError;
use super::nvenc;
use super::picture::{self, Levels, Scaler, copy_plane_in, side};
use super::planes;
use super::raw::Tags;
use crate::config::settings::{Codec, Container, EncodeOn, Encoding};
use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};

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
    /// Last column and row repeated to an even size, and converted to the plan's chroma.
    Even,
}

/// The encoder and frame format for a clip.
pub(super) struct Plan {
    pub(super) encoder: &'static str,
    /// Planes that pictures are brought to.
    pixel: Pixel,
    /// What the encoder takes: those planes, or what they are last turned into.
    pub(super) taken: Pixel,
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

/// Chooses the encoder and the least harmful frame format for pictures of `format`.
pub(super) fn plan(encoding: &Encoding, format: PictureFormat) -> Result<Plan, MediaError> {
    let (codec, encoder) = (encoding.codec, encoding.encoder());
    let failed = |error: ffmpeg::Error| MediaError::Encoder {
        encoder: encoder.to_owned(),
        reason: error.to_string(),
    };
    let (width_px, height_px) = (format.width_px, format.height_px);
    let (width, height) = (side(width_px).map_err(failed)?, side(height_px).map_err(failed)?);
    let mut plan = Plan {
        encoder,
        pixel: picture::pixel(format.chroma, format.depth),
        taken: picture::pixel(format.chroma, format.depth),
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
    plan.fit_depth(encoding, format);
    match codec {
        _ if encoding.encode_on == EncodeOn::Gpu => plan.on_gpu(codec, format),
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
        Codec::Av1 => plan.even(Chroma::C420, format),
    }
    if encoding.encode_on == EncodeOn::Cpu {
        plan.taken = plan.pixel;
    }
    Ok(plan)
}

/// What a reader should know where the container does not say the range of samples, and what it is taken for is another one.
/// FFV1 does not say it either, all other encoders do.
pub(super) fn lost_range(
    codec: Codec,
    container: Container,
    format: PictureFormat,
) -> Option<(String, String)> {
    let untagged = if format.chroma == Chroma::Gray { Range::Full } else { Range::Limited };
    let is_lost = (codec, container) == (Codec::Ffv1, Container::Mov)
        && format.chroma != Chroma::Gbr
        && format.range != untagged;
    let range = if format.range == Range::Full { "full" } else { "limited" };
    let message = format!(
        "mov cannot say that FFV1's samples have {range} range, and players show them with another contrast, though they are those of \
         the source: an mkv says it (container = \"mkv\", or an output that ends in .mkv)"
    );
    is_lost.then(|| ("range_untagged".to_owned(), message))
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
                (self.pixel, self.taken, self.alpha) = (pixel, pixel, true);
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
                let message = "transparency is kept: that of real frames as it is, that of synthesised ones blended between those of the real frames on both sides, not moved with the picture";
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
    fn fit_depth(&mut self, encoding: &Encoding, format: PictureFormat) {
        let codec = encoding.codec;
        let chroma = match codec {
            Codec::Av1 => Chroma::C420,
            _ => format.chroma,
        };
        let taken = |depth: &Depth| {
            let rgb_h264 = codec == Codec::H264 && chroma == Chroma::Gbr;
            let pixel = picture::pixel(chroma, *depth);
            match encoding.encode_on {
                EncodeOn::Gpu => depth.bits() <= nvenc::depth(codec).bits(),
                EncodeOn::Cpu => *depth == Depth::Eight || !rgb_h264 && takes(self.encoder, pixel),
            }
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

    /// What NVENC takes of pictures of `format`.
    fn on_gpu(&mut self, codec: Codec, format: PictureFormat) {
        let chroma = nvenc::chroma(codec, format.chroma);
        self.even(chroma, format);
        self.taken = nvenc::pixel(chroma, self.depth);
    }

    /// For an encoder that takes even sizes alone, and of these pictures `chroma`: 4:2:0, or what they have.
    fn even(&mut self, chroma: Chroma, format: PictureFormat) {
        let (width, height) = (self.width, self.height);
        if format.chroma != chroma {
            let name = match format.chroma {
                Chroma::Gray => "gray becomes 4:2:0 with neutral chroma",
                Chroma::Gbr => "RGB becomes 4:2:0",
                _ => "chroma is reduced to 4:2:0",
            };
            let message = format!("{name}: {} takes no such pictures", self.encoder);
            self.warn("chroma_reduced", &message);
        }
        (self.width, self.height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        if (self.width, self.height) != (width, height) {
            let message = format!(
                "{width}x{height} becomes {}x{} by repeating the last column or row: {} takes even sizes only",
                self.width, self.height, self.encoder
            );
            self.warn("size_padded", &message);
        }
        if format.chroma != chroma || (self.width, self.height) != (width, height) {
            self.pixel = picture::pixel(chroma, self.depth);
            self.fit = Fit::Even;
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
    /// Turns those planes into what the encoder takes, where that is something else.
    last: Option<Scaler>,
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
        let from = picture::pixel(format.chroma, plan.depth);
        let scaler = if plan.fit == Fit::Even && from != plan.pixel {
            let levels = match format.chroma {
                Chroma::Gbr => Levels::RgbToLimited(format.matrix),
                _ => Levels::Kept,
            };
            Some(Scaler::new(from, plan.pixel, size, levels)?)
        } else {
            None
        };
        let last = match plan.taken == plan.pixel {
            true => None,
            false => Some(Scaler::new(plan.pixel, plan.taken, size, Levels::Kept)?),
        };
        let Plan { pixel, fit, depth, alpha, wide, .. } = *plan;
        Ok(Self { plan_size: size, pixel, last, fit, format, depth, alpha, wide, scaler })
    }

    /// A new frame with the picture's samples, and where it is written, its transparency; none given is all seen.
    pub(super) fn export(
        &mut self,
        picture: &Picture,
        alpha: Option<&Picture>,
    ) -> Result<Video, ffmpeg::Error> {
        let planes = self.planes(picture, alpha)?;
        match &mut self.last {
            Some(last) => Ok(last.run(&planes)?.clone()),
            None => Ok(planes),
        }
    }

    fn planes(
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
            Fit::Even => {
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

/// The tags of the output: those of the source, except where the pictures had to become another family.
pub(super) fn output_tags(plan: &Plan, format: PictureFormat, source: Tags) -> Tags {
    if format.chroma == Chroma::Gray {
        // Gray without a tag has full range. No encoder's pictures and no container's say that where it is left out, and some
        // say the opposite.
        let range = match format.range {
            Range::Full => ffi::AVColorRange::AVCOL_RANGE_JPEG,
            Range::Limited => ffi::AVColorRange::AVCOL_RANGE_MPEG,
        };
        return Tags { range, ..source };
    }
    if plan.fit != Fit::Even || format.chroma != Chroma::Gbr {
        return source;
    }
    let matrix = match format.matrix {
        Matrix::Bt601 => ffi::AVColorSpace::AVCOL_SPC_SMPTE170M,
        Matrix::Bt709 => ffi::AVColorSpace::AVCOL_SPC_BT709,
        Matrix::Bt2020 => ffi::AVColorSpace::AVCOL_SPC_BT2020_NCL,
    };
    Tags { matrix, range: ffi::AVColorRange::AVCOL_RANGE_MPEG, ..source }
}
