//! Feeds a decoder with the packets of one stream, telling the end of a file from an error and counting damage.

use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::frame::Video;
use ffmpeg::picture;
use num_rational::Ratio;

use super::MediaError;
use super::clip::DecodeStats;
use super::complete;
use super::damage::Losses;
use super::probe::{MAX_PIXELS, Opened, read_error};
use super::raw;
use super::raw_input;
use super::stream_info::stream_info;
use super::webm_alpha::AlphaDecoder;
use crate::frame::Seconds;

/// Messages about damage that are kept.
const MAX_ERRORS: usize = 8;

/// Damaged packets and frames, no frame decoded between them, after which the rest is given up.
const MAX_DAMAGE_RUN: u32 = 10_000;

/// Frames that are mistrusted at the most where a clip begins between key frames: some streams have none at all, and are whole
/// after a while.
const LONGEST_GROUP: u64 = 300;

/// Threads of a decoder: each holds a frame, so few of them.
const THREADS: i32 = 2;

/// Bytes of a block of Matroska before its picture: number of the track, time, flags.
const BLOCK_HEADER: u64 = 4;

/// How much earlier than its header says a clip may end before it counts as truncated, in seconds.
const END_TOLERANCE_S: i128 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Draining,
}

/// Reads packets into the decoder, telling the end from an error.
pub(super) struct Feed {
    path: PathBuf,
    input: Input,
    decoder: ffmpeg::decoder::Opened,
    /// For transparency that lies beside the packets' pictures.
    alpha: Option<AlphaDecoder>,
    stream: usize,
    /// How many streams the headers named.
    streams: usize,
    state: State,
    promised_packets: Option<u64>,
    promised_end: Option<Seconds>,
    packets: u64,
    /// Latest end of a packet of any stream.
    reach: Option<Seconds>,
    /// Where the furthest packet ends in the file, if it is Matroska.
    block_end: Option<u64>,
    damage_run: u32,
    /// Frames that are mistrusted from here on, as the clip begins between key frames and none came yet.
    mistrusted: u64,
    /// Whether the frame that came last was decoded with errors.
    pub(super) marred: bool,
    pub(super) losses: Losses,
    pub(super) stats: DecodeStats,
}

impl Feed {
    /// From the first packet of the clip's video on.
    pub(super) fn open(path: &Path, opened: Opened) -> Result<Self, ffmpeg::Error> {
        let header = raw::container_facts(&opened.input);
        let index = opened.facts.index;
        let alpha =
            opened.alpha_beside.then(|| raw::open_decoder(&opened.input, index, 1, MAX_PIXELS));
        Ok(Self {
            path: path.to_owned(),
            decoder: raw::open_decoder(&opened.input, index, THREADS, MAX_PIXELS)?,
            alpha: alpha.transpose()?.map(AlphaDecoder::new),
            streams: opened.input.streams().count(),
            input: opened.input,
            stream: index,
            state: State::Reading,
            promised_packets: opened.indexed_frames,
            promised_end: header.duration.map(|it| it + header.start.unwrap_or_default()),
            packets: 0,
            reach: None,
            block_end: None,
            damage_run: 0,
            mistrusted: 0,
            marred: false,
            losses: Losses::default(),
            stats: DecodeStats::default(),
        })
    }

    /// The next decoded frame into `frame`; false at the end.
    pub(super) fn receive(&mut self, frame: &mut Video) -> Result<bool, MediaError> {
        loop {
            match self.decoder.receive_frame(frame) {
                Ok(()) => {
                    self.damage_run = 0;
                    if let Some(alpha) = &mut self.alpha {
                        let added = alpha.add_to(frame);
                        added.map_err(|error| read_error(&self.path, raw::io_error(error)))?;
                    }
                    self.mar(frame);
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
            // A packet that can be read is no picture yet.
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => return self.end(),
            Err(ffmpeg::Error::InvalidData) => {
                self.damaged("a packet", None, ffmpeg::Error::InvalidData);
                return if self.damage_run > MAX_DAMAGE_RUN { self.end() } else { Ok(()) };
            }
            Err(ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
            Err(error) => return Err(read_error(&self.path, raw::io_error(error))),
        }
        self.note_reach(&packet);
        self.note_place(&packet);
        if packet.stream() != self.stream {
            self.note_stream(packet.stream());
            return Ok(());
        }
        self.packets += 1;
        if self.packets == 1 && !packet.is_key() {
            self.mistrusted = LONGEST_GROUP;
        }
        let time = packet.pts().or(packet.dts()).map(|it| self.tick() * i128::from(it));
        if packet.is_corrupt() {
            self.damaged("a packet", time, ffmpeg::Error::InvalidData);
        }
        // What an edit list hides comes out of no decoder.
        if raw::packet_flags(&packet) & ffi::AV_PKT_FLAG_DISCARD == 0 {
            self.losses.sent(packet.pts(), packet.is_corrupt());
        }
        if let Some(alpha) = &mut self.alpha {
            alpha.take(&packet);
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

    /// Notes a stream that the headers did not name.
    fn note_stream(&mut self, index: usize) {
        let late = &self.stats.late_streams;
        if index < self.streams || late.iter().any(|it| it.index == index) {
            return;
        }
        let facts = raw::stream_facts(&self.input, index);
        self.stats.late_streams.extend(facts.map(|it| stream_info(&self.input, &it)));
    }

    fn note_place(&mut self, packet: &ffmpeg::Packet) {
        let at = u64::try_from(packet.position()).ok();
        let end = at.map(|at| at + BLOCK_HEADER + packet.size() as u64);
        if self.input.format().name().contains("matroska") {
            self.block_end = self.block_end.max(end);
        }
    }

    /// Whether the furthest packet is the last that the file should have, by its size.
    fn is_at_last_block(&self) -> Result<bool, MediaError> {
        let is_last = self.block_end.map(|end| complete::is_last_block(&self.path, end));
        is_last
            .transpose()
            .map(Option::unwrap_or_default)
            .map_err(|error| read_error(&self.path, error))
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
        let promised = self.promised_end.filter(|it| *it - reach > tolerance);
        // How long the last frame is shown is in the header alone here as well.
        if let Some(promised) = promised
            && !self.is_at_last_block()?
        {
            let number = |it: Seconds| *it.numer() as f64 / *it.denom() as f64;
            let (reach, promised) = (number(reach), number(promised));
            self.truncated(format!("the file ends at {reach:.3} s of {promised:.3} s"));
        }
        Ok(())
    }

    /// Counts a frame that was decoded with errors, or of others that are not there.
    fn mar(&mut self, frame: &Video) {
        // Some streams mark no picture as a key frame, and begin anew with one that needs no other all the same.
        let is_whole = frame.is_key() || frame.kind() == picture::Type::I;
        self.mistrusted = if is_whole { 0 } else { self.mistrusted };
        self.marred = frame.has_decode_errors() || frame.is_corrupt() || self.mistrusted > 0;
        self.stats.corrupt += u64::from(self.marred);
        if self.mistrusted == LONGEST_GROUP {
            self.note("the clip begins with pictures that need earlier ones".to_owned());
        }
        self.mistrusted = self.mistrusted.saturating_sub(1);
    }

    /// Counts frames that were lost though the decoder did not complain.
    pub(super) fn count_unsaid(&mut self) {
        let count = self.losses.take_unsaid();
        self.stats.corrupt += count;
        if count > 0 {
            self.note(format!("{count} pictures lie before the first that needs no other"));
        }
    }

    fn truncated(&mut self, message: String) {
        self.stats.truncated = true;
        self.note(message);
    }

    fn damaged(&mut self, what: &str, time: Option<Seconds>, error: ffmpeg::Error) {
        self.stats.corrupt += 1;
        self.damage_run += 1;
        self.losses.complaint();
        let time = time.map(|it| format!(" at {:.3} s", *it.numer() as f64 / *it.denom() as f64));
        self.note(format!("{what}{} is damaged: {error}", time.unwrap_or_default()));
    }

    fn note(&mut self, message: String) {
        if self.stats.errors.len() < MAX_ERRORS {
            self.stats.errors.push(message);
        }
    }
}
