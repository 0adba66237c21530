//! Video encoders: how they are opened, and closed.

use ffmpeg_next as ffmpeg;

use ffmpeg::frame::Video;
use num_rational::Ratio;

use super::MediaError;
use super::clip::EncoderStatus;
use super::encoder::{Plan, plan};
use super::nvenc;
use super::options::{fixed_options, options};
use super::raw::{self, Tags};
use crate::config::settings::{Codec, EncodeOn, Encoding};
use crate::frame::{Chroma, Depth, Matrix, PictureFormat, Range, Rate};

/// Smallest picture side that SVT-AV1 takes.
const AV1_MIN_SIDE_PX: usize = 64;

/// A side that every encoder takes: AV1 has 64 at least, and NVENC some 150.
const USUAL_SIDE_PX: usize = 256;

/// Highest rate that SVT-AV1 takes as a hint; frames carry their own times anyway.
const AV1_MAX_RATE: i128 = 240;

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
    /// GPU that encodes ([`super::clip::WriteSpec::encoder_gpu`]).
    pub(super) gpu: Option<u32>,
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

/// Opens it for pictures that every encoder takes.
fn open_for_usual(encoding: &Encoding) -> Result<(), MediaError> {
    let format = PictureFormat {
        width_px: USUAL_SIDE_PX,
        height_px: USUAL_SIDE_PX,
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
        gpu: None,
    };
    open_for(&plan(encoding, format)?, encoding, &header).map(|_| ())
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
    video.set_format(plan.taken);
    video.set_time_base(header.time_base);
    video.set_frame_rate(Some(rate_hint(plan, header.rate)));
    video.set_aspect_ratio(header.sample_aspect_ratio);
    raw::prepare_encoder(&mut video, &header.tags, header.global);
    let options = options(encoding, plan.width.min(plan.height));
    let mut dictionary = ffmpeg::Dictionary::new();
    let fixed = fixed_options(encoding, (header.threads, header.gpu), &header.hdr);
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
        let hint = match encoding.codec {
            _ if encoding.encode_on == EncodeOn::Gpu => format!("; {}", nvenc::HINT),
            Codec::Av1 if width.min(height) < AV1_MIN_SIDE_PX as u32 => {
                format!("; its pictures have {AV1_MIN_SIDE_PX} pixels a side at least")
            }
            _ => String::new(),
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
    let codecs = [Codec::H264, Codec::H265, Codec::Av1, Codec::Ffv1];
    let by = |encode_on| move |codec| Encoding { codec, encode_on, ..Encoding::default() };
    let on_gpu = codecs.map(by(EncodeOn::Gpu)).into_iter().filter(|it| it.codec != Codec::Ffv1);
    let all = codecs.map(by(EncodeOn::Cpu)).into_iter().chain(on_gpu);
    all.map(|it| EncoderStatus {
        name: it.encoder(),
        on_gpu: it.encode_on == EncodeOn::Gpu,
        problem: open_for_usual(&it).err().map(|error| error.to_string()),
    })
    .collect()
}

/// An open video encoder, which can be dropped at any time.
pub(super) struct VideoEncoder {
    encoder: ffmpeg::encoder::video::Encoder,
    started: bool,
    ended: bool,
}

impl VideoEncoder {
    /// Takes one that was just opened.
    pub(super) fn new(encoder: ffmpeg::encoder::video::Encoder) -> Self {
        Self { encoder, started: false, ended: false }
    }

    /// What a container must know of the stream.
    pub(super) fn parameters(&self) -> ffmpeg::codec::Parameters {
        ffmpeg::codec::Parameters::from(&self.encoder)
    }

    /// Takes a frame.
    pub(super) fn send(&mut self, frame: &Video) -> Result<(), ffmpeg::Error> {
        self.started = true;
        self.encoder.send_frame(frame)
    }

    /// Says that no more frames come.
    pub(super) fn end(&mut self) -> Result<(), ffmpeg::Error> {
        self.ended = true;
        self.encoder.send_eof()
    }

    /// The next packet; `None` where there is none yet, or none any more.
    pub(super) fn receive(&mut self) -> Result<Option<ffmpeg::Packet>, ffmpeg::Error> {
        let mut packet = ffmpeg::Packet::empty();
        match self.encoder.receive_packet(&mut packet) {
            Ok(()) => Ok(Some(packet)),
            Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// SVT-AV1 waits for ever when it is closed before its last packet was taken, or without a frame.
    fn wind_down(&mut self) -> Result<(), ffmpeg::Error> {
        if !self.started {
            let (width, height) = (self.encoder.width(), self.encoder.height());
            let mut frame = Video::new(self.encoder.format(), width, height);
            for plane in 0..frame.planes() {
                frame.data_mut(plane).fill(128);
            }
            frame.set_pts(Some(0));
            self.send(&frame)?;
        }
        if !self.ended {
            self.end()?;
        }
        while self.receive()?.is_some() {}
        Ok(())
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        if self.encoder.codec().is_some_and(|it| it.name() == "libsvtav1")
            && let Err(error) = self.wind_down()
        {
            log::debug!("libsvtav1 could not be wound down: {error}");
        }
    }
}
