//! Decodes the video of a clip, frame by frame, in the order it is shown, with exact times.
//!
//! Times come from the frames, in rationals. A time that does not follow its predecessor is repaired by [`Clock`].

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::frame::Video;
use num_rational::Ratio;

use super::MediaError;
use super::clip::{ClipInfo, DecodeStats};
use super::clock::Clock;
use super::picture::Importer;
use super::probe::{self, read_error, unusable};
use super::raw;
use super::raw_input;
use crate::frame::{Frame, Seconds};

/// Messages about damage that are kept.
const MAX_ERRORS: usize = 8;

/// Damaged packets in a row after which the rest is given up.
const MAX_DAMAGE_RUN: u32 = 10_000;

/// Threads of a decoder: each holds a frame, so few of them.
const THREADS: i32 = 2;

/// How much earlier than its header says a clip may end before it counts as truncated, in seconds.
const END_TOLERANCE_S: i128 = 1;

/// Decodes one clip. Frames come in presentation order with strictly increasing times.
pub struct Decoder {
    info: ClipInfo,
    feed: Feed,
    importer: Importer,
    clock: Clock,
    frame: Video,
    /// The first frame, decoded when opening to learn what the decoder really hands out.
    first: Option<Frame>,
    index: u64,
}

impl Decoder {
    /// Opens a clip and decodes its first frame, so that [`Self::info`] is what the frames are.
    ///
    /// # Errors
    /// [`MediaError::Read`] and [`MediaError::Unusable`], as [`super::probe()`]; and where no decoder opens.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let opened = probe::open(path)?;
        let broken = |error: ffmpeg::Error| {
            let codec = &opened.info.video.codec;
            unusable(
                path,
                "not_decodable",
                format!("its video ({codec}) cannot be decoded: {error}"),
            )
        };
        let decoder = open_decoder(&opened.input, opened.facts.index).map_err(broken)?;
        let stored = opened.facts.pixel.unwrap_or(ffi::AVPixelFormat::AV_PIX_FMT_NONE);
        let picture = opened.info.video.picture;
        let importer = Importer::new(stored, opened.layout.exact, picture).map_err(broken)?;
        let nominal = opened.info.video.rate.map(|rate| rate.recip());
        let tick = opened.facts.time_base;
        let header = raw::container_facts(&opened.input);
        let mut decoder = Self {
            feed: Feed {
                path: path.to_owned(),
                input: opened.input,
                decoder,
                stream: opened.facts.index,
                state: State::Reading,
                promised_packets: opened.indexed_frames,
                promised_end: header.duration.map(|it| it + header.start.unwrap_or_default()),
                packets: 0,
                reach: None,
                damage_run: 0,
                stats: DecodeStats::default(),
            },
            info: opened.info,
            importer,
            clock: Clock::new(tick, nominal),
            frame: Video::empty(),
            first: None,
            index: 0,
        };
        decoder.first = decoder.decode_next()?;
        Ok(decoder)
    }

    /// What the clip is.
    #[must_use]
    pub fn info(&self) -> &ClipInfo {
        &self.info
    }

    /// What was met so far; complete once [`Self::next_frame`] has returned `None`.
    #[must_use]
    pub fn stats(&self) -> DecodeStats {
        let mut stats = self.feed.stats.clone();
        stats.repaired_times = self.clock.repaired();
        stats.decoded = self.index - u64::from(self.first.is_some());
        stats
    }

    /// The next frame; `None` at the end. Damaged data is counted, not an error.
    ///
    /// # Errors
    /// [`MediaError::Read`] where the system cannot read on; [`MediaError::Unusable`] where the size or the pixel
    /// format changes within the clip (`format_changes`).
    pub fn next_frame(&mut self) -> Result<Option<Frame>, MediaError> {
        match self.first.take() {
            Some(frame) => Ok(Some(frame)),
            None => self.decode_next(),
        }
    }

    fn decode_next(&mut self) -> Result<Option<Frame>, MediaError> {
        let Some((pts, duration)) = self.next_times()? else { return Ok(None) };
        self.copied(pts, duration).map(Some)
    }

    /// The frame that was decoded last, with its samples.
    fn copied(&mut self, pts: Seconds, duration: Option<Seconds>) -> Result<Frame, MediaError> {
        let picture = self.importer.import(&self.frame).map_err(|error| {
            unusable(
                &self.info.path,
                "pixel_format",
                format!("pictures cannot be converted: {error}"),
            )
        })?;
        let index = self.index;
        self.index += 1;
        Ok(Frame { index, pts, duration, picture: Arc::new(picture) })
    }

    /// Decodes the next frame into `self.frame` without copying its samples, and says when it is shown.
    fn next_times(&mut self) -> Result<Option<(Seconds, Option<Seconds>)>, MediaError> {
        if !self.feed.receive(&mut self.frame)? {
            return Ok(None);
        }
        if !self.importer.fits(&self.frame) {
            self.adopt_or_refuse()?;
        }
        let tick = self.clock.tick();
        let seconds = |count: i64| tick * i128::from(count);
        let pts = self.clock.place(self.frame.timestamp().or(self.frame.pts()).map(seconds));
        let duration = self.frame.packet().duration;
        let duration = (duration > 0).then(|| self.clock.regular_duration(seconds(duration)));
        Ok(Some((pts, duration)))
    }

    /// Headers may be wrong about the first frame; later ones must be like it.
    fn adopt_or_refuse(&mut self) -> Result<(), MediaError> {
        let picture = self.info.video.picture;
        let found = raw::frame_format(&self.frame);
        let name = found.and_then(raw::pixel_facts).map(|it| it.name).unwrap_or_default();
        let (width_px, height_px) = (self.frame.width() as usize, self.frame.height() as usize);
        if self.index > 0 {
            let reason = format!(
                "at frame {} the picture changes from {}x{} {} to {width_px}x{height_px} {name}; cut the clip there",
                self.index, picture.width_px, picture.height_px, self.info.video.pixel_format,
            );
            return Err(unusable(&self.info.path, "format_changes", reason));
        }
        let layout = found.and_then(super::picture::layout).ok_or_else(|| {
            let reason = format!("pictures of format {name} cannot be worked");
            unusable(&self.info.path, "pixel_format", reason)
        })?;
        let path = self.info.path.clone();
        probe::check_size(&path, self.frame.width(), self.frame.height())?;
        let adopted = crate::frame::PictureFormat {
            width_px,
            height_px,
            chroma: layout.chroma,
            depth: layout.depth,
            range: super::picture::range(self.frame.color_range().into(), &layout),
            ..picture
        };
        let stored = found.unwrap_or(ffi::AVPixelFormat::AV_PIX_FMT_NONE);
        self.importer = Importer::new(stored, layout.exact, adopted)
            .map_err(|error| unusable(&path, "pixel_format", error.to_string()))?;
        self.info.video.picture = adopted;
        self.info.video.pixel_format = name;
        self.info.warnings.extend(layout.warnings);
        Ok(())
    }

    /// Decodes to the end, or until `each` (told the number of frames so far) breaks off, without copying pictures:
    /// first time and end of the last frame.
    pub(super) fn run_through(
        &mut self,
        each: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<(Seconds, Seconds)>, MediaError> {
        let nominal = self.clock.frame_duration();
        let end_of = |pts: Seconds, duration: Option<Seconds>| pts + duration.unwrap_or(nominal);
        let Some(first) = self.first.take() else { return Ok(None) };
        let (start, mut end) = (first.pts, end_of(first.pts, first.duration));
        while let Some((pts, duration)) = self.next_times()? {
            self.index += 1;
            end = end_of(pts, duration);
            if each(self.index).is_break() {
                break;
            }
        }
        Ok(Some((start, end)))
    }

    /// Decodes to the end, or until `each` breaks off, which is told the number of every frame and sees those that `wants`
    /// asks for: first time and end of the last frame.
    pub(super) fn run_through_pictures(
        &mut self,
        wants: &dyn Fn(u64) -> bool,
        each: &mut dyn FnMut(u64, Option<&Frame>) -> ControlFlow<()>,
    ) -> Result<Option<(Seconds, Seconds)>, MediaError> {
        let nominal = self.clock.frame_duration();
        let mut span: Option<(Seconds, Seconds)> = None;
        loop {
            let (pts, duration, number, frame) = match self.first.take() {
                Some(first) => (first.pts, first.duration, 0, Some(first)),
                None => {
                    let Some((pts, duration)) = self.next_times()? else { break };
                    let number = self.index;
                    let frame = wants(number).then(|| self.copied(pts, duration)).transpose()?;
                    self.index += u64::from(frame.is_none());
                    (pts, duration, number, frame)
                }
            };
            let end = pts + duration.unwrap_or(nominal);
            span = Some((span.map_or(pts, |it| it.0), end));
            if each(number, frame.as_ref().filter(|_| wants(number))).is_break() {
                break;
            }
        }
        Ok(span)
    }
}

fn open_decoder(input: &Input, index: usize) -> Result<ffmpeg::decoder::Opened, ffmpeg::Error> {
    let stream = input.stream(index).ok_or(ffmpeg::Error::StreamNotFound)?;
    let mut context = ffmpeg::codec::Context::from_parameters(stream.parameters())?;
    raw::prepare_decoder(&mut context, stream.time_base(), THREADS, probe::MAX_PIXELS);
    let codec = ffmpeg::decoder::find(context.id()).ok_or(ffmpeg::Error::DecoderNotFound)?;
    context.decoder().open_as(codec)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Draining,
}

/// Reads packets into the decoder, telling the end from an error.
struct Feed {
    path: PathBuf,
    input: Input,
    decoder: ffmpeg::decoder::Opened,
    stream: usize,
    state: State,
    promised_packets: Option<u64>,
    promised_end: Option<Seconds>,
    packets: u64,
    /// Latest end of a packet of any stream.
    reach: Option<Seconds>,
    damage_run: u32,
    stats: DecodeStats,
}

impl Feed {
    /// The next decoded frame into `frame`; false at the end.
    fn receive(&mut self, frame: &mut Video) -> Result<bool, MediaError> {
        loop {
            match self.decoder.receive_frame(frame) {
                Ok(()) => {
                    self.damage_run = 0;
                    if frame.has_decode_errors() || frame.is_corrupt() {
                        self.stats.corrupt += 1;
                    }
                    return Ok(true);
                }
                Err(ffmpeg::Error::Eof) => return Ok(false),
                Err(ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {}
                Err(error) => {
                    self.damaged("a frame", None, error);
                    if self.damage_run > MAX_DAMAGE_RUN {
                        return Ok(false);
                    }
                    continue;
                }
            }
            match self.state {
                State::Reading => self.read()?,
                State::Draining => return Ok(false),
            }
        }
    }

    /// Reads one packet and sends it where it belongs.
    fn read(&mut self) -> Result<(), MediaError> {
        let mut packet = ffmpeg::Packet::empty();
        match packet.read(&mut self.input) {
            Ok(()) => self.damage_run = self.damage_run.min(MAX_DAMAGE_RUN),
            Err(ffmpeg::Error::Eof) => return self.end(),
            Err(ffmpeg::Error::InvalidData) => {
                self.damaged("a packet", None, ffmpeg::Error::InvalidData);
                return if self.damage_run > MAX_DAMAGE_RUN { self.end() } else { Ok(()) };
            }
            Err(ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
            Err(error) => return Err(read_error(&self.path, raw::io_error(error))),
        }
        self.note_reach(&packet);
        if packet.stream() != self.stream {
            return Ok(());
        }
        self.packets += 1;
        let time = packet.pts().or(packet.dts()).map(|it| self.tick() * i128::from(it));
        if packet.is_corrupt() {
            self.damaged("a packet", time, ffmpeg::Error::InvalidData);
        }
        match self.decoder.send_packet(&packet) {
            Ok(()) => {}
            Err(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM }) => {
                return Err(read_error(&self.path, std::io::ErrorKind::OutOfMemory.into()));
            }
            Err(error) => self.damaged("a packet", time, error),
        }
        Ok(())
    }

    fn tick(&self) -> Seconds {
        self.input
            .stream(self.stream)
            .map_or(Ratio::new(1, 1_000_000), |it| raw::time_base(it.time_base()))
    }

    fn note_reach(&mut self, packet: &ffmpeg::Packet) {
        let Some(stream) = self.input.stream(packet.stream()) else { return };
        let Some(time) = packet.pts().or(packet.dts()) else { return };
        let ticks = i128::from(time) + i128::from(packet.duration().max(0));
        let end = raw::time_base(stream.time_base()) * ticks;
        self.reach = self.reach.max(Some(end));
    }

    /// The end of the file: was it where the header says?
    fn end(&mut self) -> Result<(), MediaError> {
        if let Some(error) = raw_input::latched_error(&self.input) {
            return Err(read_error(&self.path, raw::io_error(error)));
        }
        self.state = State::Draining;
        if let Err(error) = self.decoder.send_eof() {
            self.damaged("the end", None, error);
        }
        if let Some(promised) = self.promised_packets {
            let packets = self.packets;
            if promised > packets {
                self.truncated(format!("the file ends after {packets} of {promised} frames"));
            }
            // An exact count says more than times do: how long the last frame is shown is in the header alone.
            return Ok(());
        }
        let reach = self.reach.unwrap_or_default();
        let tolerance = Ratio::from_integer(END_TOLERANCE_S);
        if let Some(promised) = self.promised_end.filter(|it| *it - reach > tolerance) {
            let number = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
            let (reach, promised) = (number(reach), number(promised));
            self.truncated(format!("the file ends at {reach:.3} s of {promised:.3} s"));
        }
        Ok(())
    }

    fn truncated(&mut self, message: String) {
        self.stats.truncated = true;
        self.note(message);
    }

    fn damaged(&mut self, what: &str, time: Option<Seconds>, error: ffmpeg::Error) {
        self.stats.corrupt += 1;
        self.damage_run += 1;
        let time = time.map(|it| format!(" at {:.3} s", *it.numer() as f64 / *it.denom() as f64));
        self.note(format!("{what}{} is damaged: {error}", time.unwrap_or_default()));
    }

    fn note(&mut self, message: String) {
        if self.stats.errors.len() < MAX_ERRORS {
            self.stats.errors.push(message);
        }
    }
}
