//! Writes a clip that slomod made itself: pictures at a steady rate and one channel of sound.

use std::path::Path;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::Sample;
use ffmpeg::format::sample::Type;

use super::MediaError;
use super::encoder::{self, Exporter};
use super::mux::Muxer;
use super::open_encoder::VideoEncoder;
use super::open_encoder::{self, Header};
use super::raw::{self, Tags};
use super::raw_output;
use crate::config::settings::{Container, Encoding};
use crate::frame::{Matrix, Picture, Range, Rate, Seconds};

/// Samples of sound a second.
pub const AUDIO_RATE_HZ: u32 = 48_000;
/// Samples of an AAC frame, where the encoder names none.
const AAC_FRAME: usize = 1024;
/// Bits a second of the sound.
const AUDIO_BIT_RATE: usize = 128_000;
/// High enough that the clip can stand for the pictures themselves.
const CRF: u8 = 10;

/// Writes `pictures` (H.264, all of one layout) at `rate` with `sound` (mono, [`AUDIO_RATE_HZ`], AAC) as MP4. On an
/// error no file is left.
///
/// # Errors
/// [`MediaError::Write`]; also where there is no picture. [`MediaError::Encoder`] where libx264 or AAC does not open.
pub fn write_clip(
    path: &Path,
    mut pictures: impl Iterator<Item = Picture>,
    rate: Rate,
    sound: &[i16],
) -> Result<(), MediaError> {
    super::quiet();
    let Some(first) = pictures.next() else {
        let reason = "a clip needs at least one picture".to_owned();
        return Err(MediaError::Write { path: path.to_owned(), reason, source: None });
    };
    let mut muxer = Muxer::create(path, Container::Mp4)?;
    let mut video = VideoTrack::open(&first, rate, CRF, &mut muxer)?;
    let mut audio = AudioTrack::open(sound, &mut muxer)?;
    muxer.start()?;
    for (number, picture) in std::iter::once(first).chain(pictures).enumerate() {
        let number = number as i64;
        video.send(&picture, number, &mut muxer)?;
        audio.send_until(Seconds::from_integer(i128::from(number) + 1) / rate, &mut muxer)?;
    }
    video.finish(&mut muxer)?;
    audio.finish(&mut muxer)?;
    muxer.finish()
}

/// Writes `pictures` (H.264 with `crf`, all of one layout) at `rate` without sound as MP4. On an error no file is left.
///
/// # Errors
/// As [`write_clip`].
pub fn write_silent(
    path: &Path,
    mut pictures: impl Iterator<Item = Picture>,
    rate: Rate,
    crf: u8,
) -> Result<(), MediaError> {
    super::quiet();
    let Some(first) = pictures.next() else {
        let reason = "a clip needs at least one picture".to_owned();
        return Err(MediaError::Write { path: path.to_owned(), reason, source: None });
    };
    let mut muxer = Muxer::create(path, Container::Mp4)?;
    let mut video = VideoTrack::open(&first, rate, crf, &mut muxer)?;
    muxer.start()?;
    for (number, picture) in (0..).zip(std::iter::once(first).chain(pictures)) {
        video.send(&picture, number, &mut muxer)?;
    }
    video.finish(&mut muxer)?;
    muxer.finish()
}

struct VideoTrack {
    encoder: VideoEncoder,
    exporter: Exporter,
    stream: usize,
    /// Seconds a frame, and a tick of the encoder.
    tick: Seconds,
}

impl VideoTrack {
    fn open(first: &Picture, rate: Rate, crf: u8, muxer: &mut Muxer) -> Result<Self, MediaError> {
        let encoding = Encoding { crf: Some(crf), ..Encoding::default() };
        let plan = encoder::plan(&Encoding::default(), first.format)?;
        let time_base = open_encoder::rational(rate.recip());
        let header = Header {
            tags: tags(first),
            sample_aspect_ratio: ffmpeg::Rational::new(1, 1),
            rate,
            time_base,
            global: muxer.wants_global_header(),
            hdr: String::new(),
            threads: None,
            gpu: None,
        };
        let (encoder, _) = open_encoder::open(&plan, &encoding, &header)?;
        let stream = muxer.add_stream(&encoder.parameters(), time_base)?;
        let shown = Some((open_encoder::rational(rate), header.sample_aspect_ratio));
        raw_output::set_stream(muxer.output(), stream, ffi::AV_DISPOSITION_DEFAULT, shown);
        let exporter = Exporter::new(&plan, first.format).map_err(video_failed)?;
        Ok(Self { encoder, exporter, stream, tick: rate.recip() })
    }

    fn send(
        &mut self,
        picture: &Picture,
        number: i64,
        muxer: &mut Muxer,
    ) -> Result<(), MediaError> {
        let mut frame = self.exporter.export(picture, None).map_err(video_failed)?;
        frame.set_pts(Some(number));
        self.encoder.send(&frame).map_err(video_failed)?;
        self.drain(muxer)
    }

    fn finish(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        self.encoder.end().map_err(video_failed)?;
        self.drain(muxer)
    }

    fn drain(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        while let Some(mut packet) = self.encoder.receive().map_err(video_failed)? {
            packet.set_duration(1);
            write(muxer, self.stream, &mut packet, self.tick)?;
        }
        Ok(())
    }
}

struct AudioTrack<'a> {
    encoder: ffmpeg::encoder::audio::Encoder,
    stream: usize,
    sound: &'a [i16],
    /// Samples sent.
    sent: usize,
    frame_len: usize,
}

impl<'a> AudioTrack<'a> {
    fn open(sound: &'a [i16], muxer: &mut Muxer) -> Result<Self, MediaError> {
        let codec = ffmpeg::encoder::find(ffmpeg::codec::Id::AAC)
            .ok_or_else(|| audio_failed(ffmpeg::Error::EncoderNotFound))?;
        let context = ffmpeg::codec::Context::new_with_codec(codec);
        let mut audio = context.encoder().audio().map_err(audio_failed)?;
        let time_base = ffmpeg::Rational::new(1, AUDIO_RATE_HZ.cast_signed());
        audio.set_rate(AUDIO_RATE_HZ.cast_signed());
        audio.set_channel_layout(ffmpeg::ChannelLayout::MONO);
        audio.set_format(Sample::F32(Type::Planar));
        audio.set_bit_rate(AUDIO_BIT_RATE);
        audio.set_time_base(time_base);
        if muxer.wants_global_header() {
            audio.set_flags(ffmpeg::codec::Flags::GLOBAL_HEADER);
        }
        let encoder = audio.open_as(codec).map_err(audio_failed)?;
        let stream = muxer.add_stream(&ffmpeg::codec::Parameters::from(&encoder), time_base)?;
        raw_output::set_stream(muxer.output(), stream, ffi::AV_DISPOSITION_DEFAULT, None);
        let frame_len = match encoder.frame_size() as usize {
            0 => AAC_FRAME,
            len => len,
        };
        Ok(Self { encoder, stream, sound, sent: 0, frame_len })
    }

    /// Sends what sounds before `until`.
    fn send_until(&mut self, until: Seconds, muxer: &mut Muxer) -> Result<(), MediaError> {
        let end = raw::ticks(until, Self::tick());
        while self.sent < self.sound.len() && (self.sent as i64) < end {
            let samples = &self.sound[self.sent..self.sound.len().min(self.sent + self.frame_len)];
            let mut frame = ffmpeg::frame::Audio::new(
                Sample::F32(Type::Planar),
                samples.len(),
                ffmpeg::ChannelLayout::MONO,
            );
            frame.set_rate(AUDIO_RATE_HZ);
            frame.set_pts(Some(self.sent as i64));
            for (out, sample) in frame.plane_mut::<f32>(0).iter_mut().zip(samples) {
                *out = f32::from(*sample) / 32768.0;
            }
            self.sent += samples.len();
            self.encoder.send_frame(&frame).map_err(audio_failed)?;
            self.drain(muxer)?;
        }
        Ok(())
    }

    fn finish(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        self.send_until(Seconds::from_integer(i128::from(i32::MAX)), muxer)?;
        self.encoder.send_eof().map_err(audio_failed)?;
        self.drain(muxer)
    }

    fn drain(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        let mut packet = ffmpeg::Packet::empty();
        loop {
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => write(muxer, self.stream, &mut packet, Self::tick())?,
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                    return Ok(());
                }
                Err(error) => return Err(audio_failed(error)),
            }
        }
    }

    fn tick() -> Seconds {
        Seconds::new(1, i128::from(AUDIO_RATE_HZ))
    }
}

/// Writes a packet whose times are in ticks of the encoder.
fn write(
    muxer: &mut Muxer,
    stream: usize,
    packet: &mut ffmpeg::Packet,
    tick: Seconds,
) -> Result<(), MediaError> {
    let out = muxer.tick(stream);
    let whole = |ticks: i64| raw::ticks(tick * i128::from(ticks), out);
    packet.set_pts(packet.pts().map(whole));
    packet.set_dts(packet.dts().map(whole));
    packet.set_duration(whole(packet.duration()));
    muxer.write(stream, packet)
}

fn tags(picture: &Picture) -> Tags {
    use ffi::AVColorPrimaries as Primaries;
    use ffi::AVColorTransferCharacteristic as Transfer;
    let (matrix, primaries, transfer) = match picture.format.matrix {
        Matrix::Bt601 => (
            ffi::AVColorSpace::AVCOL_SPC_SMPTE170M,
            Primaries::AVCOL_PRI_SMPTE170M,
            Transfer::AVCOL_TRC_SMPTE170M,
        ),
        Matrix::Bt709 => (
            ffi::AVColorSpace::AVCOL_SPC_BT709,
            Primaries::AVCOL_PRI_BT709,
            Transfer::AVCOL_TRC_BT709,
        ),
        Matrix::Bt2020 => (
            ffi::AVColorSpace::AVCOL_SPC_BT2020_NCL,
            Primaries::AVCOL_PRI_BT2020,
            Transfer::AVCOL_TRC_BT2020_10,
        ),
    };
    let range = match picture.format.range {
        Range::Limited => ffi::AVColorRange::AVCOL_RANGE_MPEG,
        Range::Full => ffi::AVColorRange::AVCOL_RANGE_JPEG,
    };
    let chroma_location = ffi::AVChromaLocation::AVCHROMA_LOC_LEFT;
    Tags { matrix, primaries, transfer, range, chroma_location }
}

fn video_failed(error: ffmpeg::Error) -> MediaError {
    MediaError::Encoder { encoder: "libx264".to_owned(), reason: error.to_string() }
}

fn audio_failed(error: ffmpeg::Error) -> MediaError {
    MediaError::Encoder { encoder: "aac".to_owned(), reason: error.to_string() }
}
