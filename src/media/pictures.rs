//! Gathers numbered pictures, as they are, in a container: a clip like any other for everything behind it.
//!
//! Each is decoded once here, so that one that is damaged or of another size is named. FFmpeg's own way of reading
//! numbered pictures is not used: it opens files by patterns.

use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;

use ffmpeg::codec::{Context, Id, Parameters};
use ffmpeg::ffi;
use ffmpeg::frame::Video;

use super::MediaError;
use super::mux::{Muxer, write_error};
use super::orientation;
use super::probe::{MAX_PIXELS, read_error, unusable};
use super::raw;
use super::raw_output;
use crate::config::settings::Container;
use crate::frame::Rate;

/// Extensions of pictures and their codecs.
const CODECS: &[(&str, Id)] = &[
    ("png", Id::PNG),
    ("jpg", Id::MJPEG),
    ("jpeg", Id::MJPEG),
    ("tif", Id::TIFF),
    ("tiff", Id::TIFF),
    ("dpx", Id::DPX),
];

/// Whether pictures of that extension are read.
#[must_use]
pub fn is_picture(extension: &str) -> bool {
    codec_of(extension).is_some()
}

fn codec_of(extension: &str) -> Option<Id> {
    CODECS.iter().find(|(name, _)| extension.eq_ignore_ascii_case(name)).map(|(_, id)| *id)
}

/// A picture as it was decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    codec: Id,
    width_px: u32,
    height_px: u32,
    pixel: ffi::AVPixelFormat,
    /// How it says that it is to be shown, where that is not as it is stored.
    matrix: Option<[i32; 9]>,
}

/// A clip that is being gathered. Dropped before [`Self::finish`], it is removed.
pub struct Gathering {
    muxer: Muxer,
    rate: Rate,
    first: Option<(PathBuf, Kind)>,
    count: u64,
}

impl Gathering {
    /// Begins a MOV file at `path`, of `rate` pictures a second.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn create(path: &Path, rate: Rate) -> Result<Self, MediaError> {
        super::quiet();
        let muxer = Muxer::create(path, Container::Mov)?;
        Ok(Self { muxer, rate, first: None, count: 0 })
    }

    /// Adds the next picture.
    ///
    /// # Errors
    /// [`MediaError::Read`]; [`MediaError::Unusable`] where it cannot be decoded, or is not like the first in size, format
    /// of pixels and orientation; [`MediaError::Write`].
    pub fn add(&mut self, picture: &Path) -> Result<(), MediaError> {
        let bytes = std::fs::read(picture).map_err(|error| read_error(picture, error))?;
        let (kind, parameters) = decode(picture, &bytes)?;
        match &self.first {
            None => {
                let part = |it: i128| i32::try_from(it).unwrap_or(i32::MAX);
                let tick = (part(*self.rate.denom()), part(*self.rate.numer()));
                self.muxer.add_stream(&parameters, ffmpeg::Rational::new(tick.0, tick.1))?;
                if let Some(matrix) = kind.matrix {
                    raw_output::set_display_matrix(self.muxer.output(), 0, matrix);
                }
                self.muxer.start()?;
                self.first = Some((picture.to_owned(), kind));
            }
            Some((first, before)) if *before != kind => {
                return Err(unusable(picture, "pictures_differ", difference(first, *before, kind)));
            }
            Some(_) => {}
        }
        let tick = self.muxer.tick(0);
        let at = |count: u64| raw::ticks(self.rate.recip() * i128::from(count), tick);
        let mut packet = ffmpeg::Packet::copy(&bytes);
        packet.set_pts(Some(at(self.count)));
        packet.set_dts(Some(at(self.count)));
        packet.set_duration(at(self.count + 1) - at(self.count));
        packet.set_flags(ffmpeg::packet::Flags::KEY);
        self.muxer.write(0, &mut packet)?;
        self.count += 1;
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn finish(self) -> Result<(), MediaError> {
        if self.first.is_none() {
            let path = self.muxer.path().to_owned();
            return Err(write_error(&path, "there are no pictures", ffmpeg::Error::InvalidData));
        }
        self.muxer.finish()
    }
}

fn difference(first: &Path, before: Kind, now: Kind) -> String {
    let name = |it: Kind| {
        let pixel = raw::pixel_facts(it.pixel).map_or_else(|| "?".into(), |facts| facts.name);
        let (degrees, mirrored) = it.matrix.map_or((0, false), |it| orientation::orientation(&it));
        let mirrored = if mirrored { ", mirrored" } else { "" };
        let turned = match degrees {
            0 => String::new(),
            degrees => format!(", turned by {degrees} degrees"),
        };
        format!("{}x{} {pixel}{mirrored}{turned}", it.width_px, it.height_px)
    };
    format!("it is {}, but {} is {}; all must be alike", name(now), first.display(), name(before))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<(Kind, Parameters), MediaError> {
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    let wrong = |reason: String| unusable(path, "not_decodable", reason);
    let codec = codec_of(extension)
        .ok_or_else(|| wrong("its extension is not that of a picture which is read".into()))?;
    let found = ffmpeg::decoder::find(codec)
        .ok_or_else(|| wrong(format!("this FFmpeg has no decoder of {extension}")))?;
    let broken = |error: ffmpeg::Error| wrong(format!("it cannot be decoded: {error}"));
    let mut context = Context::new_with_codec(found);
    raw::prepare_decoder(&mut context, ffmpeg::Rational::new(1, 1), 1, MAX_PIXELS);
    let mut decoder = context.decoder().video().map_err(broken)?;
    decoder.send_packet(&ffmpeg::Packet::copy(bytes)).map_err(broken)?;
    decoder.send_eof().map_err(broken)?;
    let mut frame = Video::empty();
    decoder.receive_frame(&mut frame).map_err(broken)?;
    if frame.is_corrupt() {
        return Err(wrong("it is damaged".into()));
    }
    let pixel = raw::frame_format(&frame).ok_or_else(|| wrong("its pixels are unknown".into()))?;
    let matrix = orientation::of_frame(&frame);
    let kind = Kind { codec, width_px: frame.width(), height_px: frame.height(), pixel, matrix };
    Ok((kind, Parameters::from(&decoder)))
}
