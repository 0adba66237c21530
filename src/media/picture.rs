//! Between FFmpeg's frames and [`Picture`]s: which layout a pixel format becomes, and the copying.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi::{self, AVPixelFormat};
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::software::scaling;

use super::{alpha, planes, raw};
use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};

/// How a stored pixel format is handed out.
pub(super) struct Layout {
    /// Sampling of the pictures.
    pub(super) chroma: Chroma,
    /// Bits of their samples.
    pub(super) depth: Depth,
    /// Whether the samples are taken as they are.
    pub(super) exact: bool,
    /// Whether the format itself says full range.
    pub(super) full_range: bool,
    /// Whether there is transparency beside them.
    pub(super) alpha: bool,
    /// Why not as stored (code, sentence).
    pub(super) warnings: Vec<(String, String)>,
}

/// The layout that pictures of `format` are handed out in; `None` for what cannot be read at all.
pub(super) fn layout(format: AVPixelFormat) -> Option<Layout> {
    use AVPixelFormat as P;
    let exact = |chroma, depth, full_range| {
        let (exact, alpha) = (true, raw::pixel_facts(format).is_some_and(|it| it.alpha.is_some()));
        Some(Layout { chroma, depth, exact, full_range, alpha, warnings: Vec::new() })
    };
    match format {
        P::AV_PIX_FMT_YUVJ420P => exact(Chroma::C420, Depth::Eight, true),
        P::AV_PIX_FMT_YUVJ422P => exact(Chroma::C422, Depth::Eight, true),
        P::AV_PIX_FMT_YUVJ444P => exact(Chroma::C444, Depth::Eight, true),
        _ => match as_stored(format) {
            Some(&(chroma, depth, ..)) => exact(chroma, depth, chroma == Chroma::Gbr),
            None => converted(format),
        },
    }
}

/// The kind of picture that a format is sample by sample, but for its transparency.
fn as_stored(format: AVPixelFormat) -> Option<&'static (Chroma, Depth, Pixel, &'static str)> {
    let name = raw::pixel_facts(format)?.name;
    let opaque = name.replacen("yuva", "yuv", 1).replacen("gbrap", "gbrp", 1);
    FORMATS.iter().find(|it| it.3 == opaque)
}

/// The format of that kind of picture with transparency: planar, or for gray and RGB of 8 bits packed. Deep gray has
/// none and is put into 4:4:4; 12 bits go into 16, as FFV1 takes no 12 of them.
pub(super) fn alpha_pixel(chroma: Chroma, depth: Depth) -> Pixel {
    match (chroma, depth) {
        (Chroma::Gray, Depth::Eight) => Pixel::YA8,
        (Chroma::Gbr, Depth::Eight) => Pixel::BGRA,
        (Chroma::C420, Depth::Eight) => Pixel::YUVA420P,
        (Chroma::C422, Depth::Eight) => Pixel::YUVA422P,
        (Chroma::C444, Depth::Eight) => Pixel::YUVA444P,
        (Chroma::C420, Depth::Ten) => Pixel::YUVA420P10LE,
        (Chroma::C422, Depth::Ten) => Pixel::YUVA422P10LE,
        (Chroma::C444, Depth::Ten) => Pixel::YUVA444P10LE,
        (Chroma::Gbr, Depth::Ten) => Pixel::GBRAP10LE,
        (Chroma::Gbr, Depth::Twelve) => Pixel::GBRAP12LE,
        (Chroma::C420, Depth::Twelve) => Pixel::YUVA420P16LE,
        (Chroma::C422, Depth::Twelve) => Pixel::YUVA422P16LE,
        (Chroma::C444 | Chroma::Gray, Depth::Twelve) => Pixel::YUVA444P16LE,
        (Chroma::Gray, Depth::Ten) => Pixel::YUVA444P10LE,
    }
}

/// The pixel format of every kind of picture, and its name.
const FORMATS: [(Chroma, Depth, Pixel, &str); 15] = [
    (Chroma::Gray, Depth::Eight, Pixel::GRAY8, "gray"),
    (Chroma::C420, Depth::Eight, Pixel::YUV420P, "yuv420p"),
    (Chroma::C422, Depth::Eight, Pixel::YUV422P, "yuv422p"),
    (Chroma::C444, Depth::Eight, Pixel::YUV444P, "yuv444p"),
    (Chroma::Gbr, Depth::Eight, Pixel::GBRP, "gbrp"),
    (Chroma::Gray, Depth::Ten, Pixel::GRAY10LE, "gray10le"),
    (Chroma::C420, Depth::Ten, Pixel::YUV420P10LE, "yuv420p10le"),
    (Chroma::C422, Depth::Ten, Pixel::YUV422P10LE, "yuv422p10le"),
    (Chroma::C444, Depth::Ten, Pixel::YUV444P10LE, "yuv444p10le"),
    (Chroma::Gbr, Depth::Ten, Pixel::GBRP10LE, "gbrp10le"),
    (Chroma::Gray, Depth::Twelve, Pixel::GRAY12LE, "gray12le"),
    (Chroma::C420, Depth::Twelve, Pixel::YUV420P12LE, "yuv420p12le"),
    (Chroma::C422, Depth::Twelve, Pixel::YUV422P12LE, "yuv422p12le"),
    (Chroma::C444, Depth::Twelve, Pixel::YUV444P12LE, "yuv444p12le"),
    (Chroma::Gbr, Depth::Twelve, Pixel::GBRP12LE, "gbrp12le"),
];

/// The nearest planar layout of 8, 10 or 12 bits, with a warning for each thing lost.
fn converted(format: AVPixelFormat) -> Option<Layout> {
    let facts = raw::pixel_facts(format)?;
    if facts.flags & (ffi::AV_PIX_FMT_FLAG_HWACCEL | ffi::AV_PIX_FMT_FLAG_BAYER) != 0 {
        return None;
    }
    let rgb = facts.flags & (ffi::AV_PIX_FMT_FLAG_RGB | ffi::AV_PIX_FMT_FLAG_PAL) != 0
        || facts.name.starts_with("xyz");
    let chroma = match facts.chroma_shift {
        _ if rgb => Chroma::Gbr,
        _ if facts.components < 3 => Chroma::Gray,
        (0, _) => Chroma::C444,
        (_, 0) => Chroma::C422,
        _ => Chroma::C420,
    };
    let name = &facts.name;
    let depth = match facts.depth {
        ..=8 => Depth::Eight,
        9 | 10 => Depth::Ten,
        _ => Depth::Twelve,
    };
    let target = pixel_name(chroma, depth);
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message: String| warnings.push((code.to_owned(), message));
    if facts.depth > 12 {
        let bits = facts.depth;
        warn("bit_depth_reduced", format!("{name} has {bits} bits a sample; worked at 12 bits"));
    }
    let alpha = facts.alpha.is_some();
    if !alpha && facts.flags & ffi::AV_PIX_FMT_FLAG_ALPHA != 0 {
        warn("alpha_dropped", format!("{name} has transparency, which is dropped"));
    }
    if warnings.is_empty() {
        let message = format!("{name} is converted to {target} before it is worked");
        warnings.push(("pixel_format_converted".to_owned(), message));
    }
    let full_range = rgb || name.starts_with("yuvj");
    Some(Layout { chroma, depth, exact: false, full_range, alpha, warnings })
}

/// FFmpeg's pixel format of pictures with that sampling and depth.
pub(super) fn pixel(chroma: Chroma, depth: Depth) -> Pixel {
    entry(chroma, depth).map_or(Pixel::None, |it| it.2)
}

fn pixel_name(chroma: Chroma, depth: Depth) -> &'static str {
    entry(chroma, depth).map_or("none", |it| it.3)
}

fn entry(chroma: Chroma, depth: Depth) -> Option<&'static (Chroma, Depth, Pixel, &'static str)> {
    FORMATS.iter().find(|it| (it.0, it.1) == (chroma, depth))
}

/// The matrix for conversion. An untagged clip is BT.601 below 720 lines, else BT.709, and so is one of a matrix that is not
/// known here and is near none that is ([`assumed`] says so).
pub(super) fn matrix(tag: ffi::AVColorSpace, height_px: usize) -> Matrix {
    use ffi::AVColorSpace as S;
    match tag {
        S::AVCOL_SPC_BT470BG | S::AVCOL_SPC_SMPTE170M | S::AVCOL_SPC_FCC => Matrix::Bt601,
        S::AVCOL_SPC_BT709 | S::AVCOL_SPC_SMPTE240M => Matrix::Bt709,
        S::AVCOL_SPC_BT2020_NCL | S::AVCOL_SPC_BT2020_CL => Matrix::Bt2020,
        _ if height_px < 720 => Matrix::Bt601,
        _ => Matrix::Bt709,
    }
}

/// What is to be said (code, sentence) where pictures have a matrix that is not known here, and `taken` is taken for it. Made
/// pictures go there and back through that, which can be undone, so their colors are right but for rounding; what the network
/// sees, and what is measured in RGB, is not.
pub(super) fn assumed(
    tag: ffi::AVColorSpace,
    chroma: Chroma,
    taken: Matrix,
) -> Option<(String, String)> {
    use ffi::AVColorSpace as S;
    let named = match tag {
        // Gray and RGB go through none.
        _ if matches!(chroma, Chroma::Gray | Chroma::Gbr) => return None,
        S::AVCOL_SPC_UNSPECIFIED
        | S::AVCOL_SPC_BT470BG
        | S::AVCOL_SPC_SMPTE170M
        | S::AVCOL_SPC_BT709
        | S::AVCOL_SPC_BT2020_NCL => return None,
        S::AVCOL_SPC_FCC => "FCC",
        S::AVCOL_SPC_SMPTE240M => "SMPTE 240M",
        S::AVCOL_SPC_BT2020_CL => "BT.2020 constant luminance",
        S::AVCOL_SPC_YCGCO => "YCgCo",
        S::AVCOL_SPC_ICTCP => "ICtCp",
        S::AVCOL_SPC_SMPTE2085 => "SMPTE 2085",
        S::AVCOL_SPC_CHROMA_DERIVED_NCL | S::AVCOL_SPC_CHROMA_DERIVED_CL => "chroma-derived",
        S::AVCOL_SPC_RGB => "RGB, which its samples are not",
        _ => "of a kind that is not known",
    };
    let taken = match taken {
        Matrix::Bt601 => "BT.601",
        Matrix::Bt709 => "BT.709",
        Matrix::Bt2020 => "BT.2020",
    };
    let message = format!(
        "its matrix is {named}; {taken} is taken for what the network sees and what is measured, and the output keeps its tag"
    );
    Some(("matrix_assumed".to_owned(), message))
}

/// The range of the samples. Untagged YCbCr is limited; untagged gray and RGB are full, which clips no sample.
pub(super) fn range(tag: ffi::AVColorRange, layout: &Layout) -> Range {
    match tag {
        _ if layout.full_range && layout.chroma != Chroma::Gbr => Range::Full,
        ffi::AVColorRange::AVCOL_RANGE_JPEG => Range::Full,
        ffi::AVColorRange::AVCOL_RANGE_MPEG => Range::Limited,
        _ if matches!(layout.chroma, Chroma::Gray | Chroma::Gbr) => Range::Full,
        _ => Range::Limited,
    }
}

/// A swscale context between two formats of one size. Levels are kept (both sides full range).
pub(super) struct Scaler {
    context: scaling::Context,
    out: Video,
}

// SAFETY: the context is owned by this value alone and swscale keeps no thread-local state.
#[expect(unsafe_code, reason = "ffmpeg-next does not mark its scaler Send")]
unsafe impl Send for Scaler {}

/// Between which YCbCr and RGB a scaler converts.
#[derive(Clone, Copy)]
pub(super) enum Levels {
    /// Both sides are of one family: samples keep their levels.
    Kept,
    /// From full-range RGB to limited-range YCbCr of that matrix.
    RgbToLimited(Matrix),
}

impl Scaler {
    /// Converts `from` to `to` at `width` x `height`.
    #[expect(unsafe_code, reason = "FFmpeg's C interface")]
    pub(super) fn new(
        from: Pixel,
        to: Pixel,
        (width, height): (u32, u32),
        levels: Levels,
    ) -> Result<Self, ffmpeg::Error> {
        let flags =
            scaling::Flags::BICUBIC | scaling::Flags::ACCURATE_RND | scaling::Flags::FULL_CHR_H_INT;
        let mut context = scaling::Context::get(from, width, height, to, width, height, flags)?;
        let (matrix, to_full) = match levels {
            Levels::Kept => (ffi::SWS_CS_DEFAULT, 1),
            Levels::RgbToLimited(Matrix::Bt601) => (ffi::SWS_CS_ITU601, 0),
            Levels::RgbToLimited(Matrix::Bt709) => (ffi::SWS_CS_ITU709, 0),
            Levels::RgbToLimited(Matrix::Bt2020) => (ffi::SWS_CS_BT2020, 0),
        };
        // SAFETY: takes any number and returns a static table.
        let table = unsafe { ffi::sws_getCoefficients(matrix) };
        // SAFETY: the context is alive; the table has the four entries that swscale reads. A refusal (formats that
        // have no levels) changes nothing.
        unsafe {
            ffi::sws_setColorspaceDetails(
                context.as_mut_ptr(),
                table,
                1,
                table,
                to_full,
                0,
                1 << 16,
                1 << 16,
            )
        };
        Ok(Self { context, out: Video::new(to, width, height) })
    }

    /// The converted frame, valid until the next call.
    pub(super) fn run(&mut self, frame: &Video) -> Result<&mut Video, ffmpeg::Error> {
        self.context.run(frame, &mut self.out)?;
        Ok(&mut self.out)
    }
}

/// Turns decoded frames into pictures.
pub(super) struct Importer {
    format: PictureFormat,
    stored: Pixel,
    scaler: Option<Scaler>,
    /// Whether codes of 16 bits become the nearest of 12 here: swscale scatters them, and what was written as 16 bits is
    /// to be read as it was.
    wide: bool,
    alpha: bool,
}

impl Importer {
    /// For frames of `stored`, handed out as `format` in `layout`.
    pub(super) fn new(
        stored: AVPixelFormat,
        layout: &Layout,
        format: PictureFormat,
    ) -> Result<Self, ffmpeg::Error> {
        let size = (side(format.width_px)?, side(format.height_px)?);
        let stored = Pixel::from(stored);
        let wide =
            [Pixel::YUVA420P16LE, Pixel::YUVA422P16LE, Pixel::YUVA444P16LE].contains(&stored);
        let scaler = if layout.exact || wide {
            None
        } else {
            let target = pixel(format.chroma, format.depth);
            Some(Scaler::new(stored, target, size, Levels::Kept)?)
        };
        Ok(Self { format, stored, scaler, wide, alpha: layout.alpha })
    }

    /// Whether a frame has the size and pixel format this was made for.
    pub(super) fn fits(&self, frame: &Video) -> bool {
        let samples = |format| pixel_without_range(format);
        frame.width() as usize == self.format.width_px
            && frame.height() as usize == self.format.height_px
            && samples(frame.format()) == samples(self.stored)
    }

    /// The picture of a frame that [`Self::fits`], and its transparency.
    pub(super) fn import(
        &mut self,
        frame: &Video,
    ) -> Result<(Picture, Option<Picture>), ffmpeg::Error> {
        let alpha = match self.alpha {
            true => Some(alpha::read(frame, self.format).ok_or(ffmpeg::Error::InvalidData)?),
            false => None,
        };
        let frame = match &mut self.scaler {
            Some(scaler) => scaler.run(frame)?,
            None => frame,
        };
        let picture = copy_out(frame, self.format);
        Ok((if self.wide { planes::narrowed(&picture) } else { picture }, alpha))
    }
}

/// The `yuvj` formats are the `yuv` ones with a range tag.
fn pixel_without_range(format: Pixel) -> Pixel {
    match format {
        Pixel::YUVJ420P => Pixel::YUV420P,
        Pixel::YUVJ422P => Pixel::YUV422P,
        Pixel::YUVJ444P => Pixel::YUV444P,
        other => other,
    }
}

/// A side of a picture as FFmpeg counts it.
pub(super) fn side(length: usize) -> Result<u32, ffmpeg::Error> {
    let fits = u32::try_from(length).ok().filter(|it| *it > 0 && *it <= i32::MAX as u32);
    fits.ok_or(ffmpeg::Error::InvalidData)
}

#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn copy_out(frame: &Video, format: PictureFormat) -> Picture {
    let mut picture = Picture::zeroed(format);
    for (index, plane) in picture.planes.iter_mut().enumerate() {
        let (row_bytes, height) = format.plane_bytes(index);
        let (Ok(columns), Ok(rows)) = (i32::try_from(row_bytes), i32::try_from(height)) else {
            continue;
        };
        assert!(plane.len() == row_bytes * height, "a picture's planes have its format's size");
        // SAFETY: the frame is alive and has this plane: its format and size are those of `format`.
        let (data, stride) = unsafe {
            let raw = &*frame.as_ptr();
            (raw.data[index], raw.linesize[index])
        };
        // SAFETY: source rows are `stride` (which may be negative) apart and hold `columns` bytes; the plane is tight.
        unsafe {
            ffi::av_image_copy_plane(plane.as_mut_ptr(), columns, data, stride, columns, rows)
        };
    }
    picture
}

/// Copies tight rows of bytes into plane `index` of a frame.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn copy_plane_in(
    frame: &mut Video,
    index: usize,
    plane: &[u8],
    (row_bytes, rows): (usize, usize),
) {
    assert!(index < frame.planes(), "the frame has the plane");
    assert!(rows <= frame.plane_height(index) as usize, "the plane has the rows");
    assert!(row_bytes <= frame.stride(index), "a row of the plane has the bytes");
    assert!(plane.len() >= row_bytes * rows, "the picture's plane is whole");
    let (Ok(columns), Ok(rows)) = (i32::try_from(row_bytes), i32::try_from(rows)) else { return };
    // SAFETY: the frame was allocated by `Video::new` and is not shared; the asserts hold both sides to their sizes.
    unsafe {
        let raw = &*frame.as_mut_ptr();
        ffi::av_image_copy_plane(
            raw.data[index],
            raw.linesize[index],
            plane.as_ptr(),
            columns,
            columns,
            rows,
        );
    }
}
