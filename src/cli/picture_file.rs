//! Still pictures (PNG, JPEG) in and out of `slomod interpolate` and `slomod evaluate`.

use std::io::{BufWriter, Cursor};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ExtendedColorType, ImageDecoder as _, ImageFormat, ImageReader,
    ImageResult, Limits,
};

use crate::cli::{CliError, paths};
use crate::error::ExitCode;
use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};

/// Quality of a JPEG that is written, 1 to 100; the `--help` of `interpolate` says it.
pub const JPEG_QUALITY: u8 = 95;

/// What may be done with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing fails.
    Keep,
    /// It is replaced.
    Replace,
}

/// A picture file as RGB planes (`Gbr`, full range) of 8 bit, upright as its EXIF says, and what was lost in reading it.
///
/// # Errors
/// Exit code 74 where it cannot be read, 65 where it is no file, or no PNG or JPEG.
pub fn read(path: &Path) -> Result<(Picture, Vec<String>), CliError> {
    paths::check_readable(path)?;
    let bytes = std::fs::read(path).map_err(|error| {
        CliError::new(ExitCode::IoError, format!("{}: cannot be read: {error}", path.display()))
    })?;
    let image = upright(bytes).map_err(|error| {
        let message = format!("{}: is no PNG or JPEG picture: {error}", path.display());
        CliError::new(ExitCode::DataError, message)
    })?;
    let mut notes = Vec::new();
    if image.color().bytes_per_pixel() / image.color().channel_count() > 1 {
        notes.push(format!("{}: 16 bits a sample are read as 8", path.display()));
    }
    if image.color().has_alpha() {
        notes.push(format!("{}: transparency is left out", path.display()));
    }
    Ok((planes(&image), notes))
}

fn upright(bytes: Vec<u8>) -> ImageResult<DynamicImage> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    Limits::default().reserve(decoder.total_bytes())?;
    // What cannot be understood of EXIF turns nothing, as where there is none.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn planes(image: &DynamicImage) -> Picture {
    let rgb = image.to_rgb8();
    let (width_px, height_px) = (rgb.width() as usize, rgb.height() as usize);
    from_rgb8(rgb.as_raw(), width_px, height_px)
}

/// RGB planes (`Gbr`, full range) of `[h, w, 3]`.
///
/// # Panics
/// If `rgb` does not hold `3 * width_px * height_px` samples.
#[must_use]
pub fn from_rgb8(rgb: &[u8], width_px: usize, height_px: usize) -> Picture {
    assert_eq!(rgb.len(), 3 * width_px * height_px, "rgb of {width_px}x{height_px}");
    let plane = |channel: usize| rgb.iter().skip(channel).step_by(3).copied().collect();
    let format = PictureFormat {
        width_px,
        height_px,
        chroma: Chroma::Gbr,
        matrix: Matrix::Bt709,
        range: Range::Full,
        depth: Depth::Eight,
    };
    Picture { format, planes: vec![plane(1), plane(2), plane(0)] }
}

/// The format that a file name asks for.
///
/// # Errors
/// Exit code 64 where its extension is none of png, jpg, jpeg.
pub fn format_of(path: &Path) -> Result<ImageFormat, CliError> {
    match ImageFormat::from_path(path) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => Ok(format),
        _ => {
            let message = format!("{}: name it .png, .jpg or .jpeg", path.display());
            Err(CliError::new(ExitCode::Usage, message))
        }
    }
}

/// Writes `[h, w, 3]` RGB under a temporary name beside `path`, then renames it.
///
/// # Errors
/// Exit code 73 where it cannot be written or is there already; as [`format_of`].
pub fn write_rgb8(
    path: &Path,
    rgb: &[u8],
    (width_px, height_px): (usize, usize),
    existing: Existing,
) -> Result<(), CliError> {
    let format = format_of(path)?;
    let wrong = |reason: String| {
        CliError::new(ExitCode::CannotCreate, format!("{}: {reason}", path.display()))
    };
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".slomod-tmp-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| wrong(format!("cannot be written: {error}")))?;
    let side = |n: usize| u32::try_from(n).map_err(|_| wrong("is too large".into()));
    let (width, height) = (side(width_px)?, side(height_px)?);
    let color: ExtendedColorType = ColorType::Rgb8.into();
    let mut writer = BufWriter::new(temporary.as_file());
    let written = match format {
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut writer, JPEG_QUALITY)
            .encode(rgb, width, height, color),
        _ => image::write_buffer_with_format(&mut writer, rgb, width, height, color, format),
    };
    written.map_err(|error| wrong(format!("cannot be written: {error}")))?;
    writer
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .map_err(|error| wrong(format!("cannot be written: {error}")))?;
    let placed = match existing {
        Existing::Replace => temporary.persist(path),
        Existing::Keep => temporary.persist_noclobber(path),
    };
    placed.map(|_| ()).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            wrong("is there already; use --overwrite to replace it".into())
        }
        _ => wrong(format!("cannot be written: {}", error.error)),
    })
}
