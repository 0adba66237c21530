//! The streams beside the worked video: sound, subtitles, attachments, and what becomes of each.
//!
//! The source is read a second time, alongside the output: no further than the video has come.

use std::path::PathBuf;

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Input;
use ffmpeg::media::Type;
use num_rational::Ratio;

use super::MediaError;
use super::audio::Transcoder;
use super::clip::{ClipInfo, StreamOutcome, WriteSpec};
use super::mux::Muxer;
use super::probe::read_error;
use super::raw::{self, StreamFacts};
use super::raw_input;
use super::raw_output;
use crate::config::settings::{Audio, Container};
use crate::frame::Seconds;

/// Damaged packets in a row after which the rest of the source is given up.
const MAX_DAMAGE_RUN: u32 = 10_000;

/// Code and sentence.
type Warning = (String, String);

/// What is done with one stream.
enum Action {
    Copy(Copied),
    Transcode(Box<Transcoder>),
    Drop,
}

/// A stream whose packets are copied.
struct Copied {
    out: usize,
    tick_in: Seconds,
    last_dts: Option<i64>,
}

struct Track {
    action: Action,
    outcome: StreamOutcome,
}

/// All streams of the source beside the worked one.
pub(super) struct Streams {
    path: PathBuf,
    input: Input,
    tracks: Vec<Track>,
    origin: Seconds,
    /// Output time of the last packet read.
    reached: Option<Seconds>,
    ended: bool,
    damage_run: u32,
    damaged: u64,
}

impl Streams {
    /// Decides on every stream of `input` (the source, opened anew) and adds what is kept to the output.
    pub(super) fn plan(
        mut input: Input,
        source: &ClipInfo,
        (spec, copying): (&WriteSpec, Copying),
        muxer: &mut Muxer,
    ) -> Result<Self, MediaError> {
        let mut tracks = Vec::new();
        for stream in &source.streams {
            let facts = raw::stream_facts(&input, stream.index);
            let (action, name, reason) = match &facts {
                Some(_) if stream.index == source.video.stream_index => {
                    (Action::Drop, "interpolated", None)
                }
                Some(facts) => decide(&input, facts, (spec, copying), muxer)?,
                None => (Action::Drop, "dropped", Some("the source no longer has it".to_owned())),
            };
            if matches!(action, Action::Drop) {
                raw::discard_stream(&mut input, stream.index);
            }
            let outcome = StreamOutcome { stream: stream.clone(), action: name, reason };
            tracks.push(Track { action, outcome });
        }
        let live = |it: &Track| !matches!(it.action, Action::Drop);
        Ok(Self {
            path: source.path.clone(),
            ended: !tracks.iter().any(live),
            input,
            tracks,
            origin: spec.origin,
            reached: None,
            damage_run: 0,
            damaged: 0,
        })
    }

    /// Writes what belongs before output time `until`.
    pub(super) fn pump(&mut self, until: Seconds, muxer: &mut Muxer) -> Result<(), MediaError> {
        while !self.ended && self.reached.is_none_or(|it| it <= until) {
            self.step(muxer)?;
        }
        Ok(())
    }

    /// Writes all the rest; what became of every stream, and warnings.
    pub(super) fn finish(
        mut self,
        muxer: &mut Muxer,
    ) -> Result<(Vec<StreamOutcome>, Vec<Warning>), MediaError> {
        while !self.ended {
            self.step(muxer)?;
        }
        for track in &mut self.tracks {
            if let Action::Transcode(transcoder) = &mut track.action {
                transcoder.finish(muxer)?;
                self.damaged += transcoder.damaged;
            }
        }
        let mut warnings = Vec::new();
        if self.damaged > 0 {
            let message = format!("{} packets of sound or subtitles are damaged", self.damaged);
            warnings.push(("sound_damaged".to_owned(), message));
        }
        Ok((self.tracks.into_iter().map(|it| it.outcome).collect(), warnings))
    }

    /// Reads one packet and hands it on.
    fn step(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        let mut packet = ffmpeg::Packet::empty();
        match packet.read(&mut self.input) {
            Ok(()) => self.damage_run = 0,
            Err(ffmpeg::Error::Eof) => return self.end(),
            Err(ffmpeg::Error::InvalidData) => {
                self.damaged += 1;
                self.damage_run += 1;
                return if self.damage_run > MAX_DAMAGE_RUN { self.end() } else { Ok(()) };
            }
            Err(ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
            Err(error) => return Err(read_error(&self.path, raw::io_error(error))),
        }
        let Some(track) = self.tracks.get_mut(packet.stream()) else { return Ok(()) };
        match &mut track.action {
            Action::Drop => {}
            Action::Copy(copied) => {
                let time = copied.write(packet, self.origin, muxer)?;
                self.reached = self.reached.max(time);
            }
            Action::Transcode(transcoder) => {
                let time = transcoder.take(&packet, muxer)?;
                self.reached = self.reached.max(time);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), MediaError> {
        if let Some(error) = raw_input::latched_error(&self.input) {
            return Err(read_error(&self.path, raw::io_error(error)));
        }
        self.ended = true;
        Ok(())
    }
}

impl Copied {
    /// Writes the packet moved by `-origin`; its output time. What would start before 0 is left out, except where the
    /// container hides it (MP4's edit list), as an audio decoder needs the packet before the first it plays.
    fn write(
        &mut self,
        mut packet: ffmpeg::Packet,
        origin: Seconds,
        muxer: &mut Muxer,
    ) -> Result<Option<Seconds>, MediaError> {
        let Some(time) = packet.pts().or(packet.dts()) else { return Ok(None) };
        let seconds = |ticks: i64| self.tick_in * i128::from(ticks);
        let start = seconds(time) - origin;
        let length = seconds(packet.duration().max(0));
        let before = match muxer.container() {
            Container::Mkv => start < Seconds::default(),
            Container::Mp4 | Container::Mov => start + length * 2 <= Seconds::default(),
        };
        if before {
            return Ok(Some(start));
        }
        let tick = muxer.tick(self.out);
        let pts = raw::ticks(start, tick);
        let dts = packet.dts().map_or(pts, |it| raw::ticks(seconds(it) - origin, tick)).min(pts);
        let dts = self.last_dts.map_or(dts, |last| dts.max(last + 1));
        if dts > pts.saturating_add(raw::ticks(length, tick).max(1)) {
            return Ok(Some(start));
        }
        self.last_dts = Some(dts);
        packet.set_pts(Some(pts.max(dts)));
        packet.set_dts(Some(dts));
        packet.set_duration(raw::ticks(length, tick));
        muxer.write(self.out, &mut packet)?;
        Ok(Some(start))
    }
}

/// Whether packets may be copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// What the container says it carries.
    Carried,
    /// Nothing: its header was refused with copied streams.
    Nothing,
}

/// Codecs that FFmpeg's MP4 family names but refuses when the header is written.
fn refused_by_header(facts: &StreamFacts, container: Container) -> bool {
    match container {
        Container::Mov => matches!(facts.codec.as_str(), "opus" | "flac" | "truehd"),
        Container::Mp4 => facts.codec == "truehd",
        Container::Mkv => false,
    }
}

type Decision = (Action, &'static str, Option<String>);

fn decide(
    input: &Input,
    facts: &StreamFacts,
    (spec, copying): (&WriteSpec, Copying),
    muxer: &mut Muxer,
) -> Result<Decision, MediaError> {
    let dropped = |reason: String| Ok((Action::Drop, "dropped", Some(reason)));
    let container = muxer.container().extension();
    let carried = copying == Copying::Carried
        && raw_output::can_carry(muxer.output(), facts.codec_id)
        && !refused_by_header(facts, muxer.container());
    let one = Ratio::from_integer(1);
    let same_time = spec.stretch == one;
    let codec = &facts.codec;
    match facts.kind {
        Type::Video => dropped("only one moving picture is worked".to_owned()),
        Type::Audio if spec.audio == Audio::Drop => {
            dropped("the settings leave sound out".to_owned())
        }
        Type::Audio if spec.audio == Audio::Keep || same_time => {
            if carried {
                copy(input, facts, muxer)
            } else {
                let reason = format!("{container} cannot carry {codec}; it is AAC now");
                transcode(input, facts, (spec.origin, one), ("reencoded", Some(reason)), muxer)
            }
        }
        Type::Audio => {
            transcode(input, facts, (spec.origin, spec.stretch), ("stretched", None), muxer)
        }
        Type::Subtitle if !same_time => {
            dropped("subtitles cannot follow the changed time".to_owned())
        }
        Type::Subtitle | Type::Attachment if carried => copy(input, facts, muxer),
        Type::Attachment if copying == Copying::Carried && muxer.container() == Container::Mkv => {
            copy(input, facts, muxer)
        }
        Type::Subtitle => dropped(format!("{container} cannot carry {codec} subtitles")),
        Type::Attachment => dropped(format!("{container} carries no attachments")),
        _ => dropped("data tracks are not carried over".to_owned()),
    }
}

fn copy(input: &Input, facts: &StreamFacts, muxer: &mut Muxer) -> Result<Decision, MediaError> {
    let Some(stream) = input.stream(facts.index) else {
        return Ok((Action::Drop, "dropped", Some("the source no longer has it".to_owned())));
    };
    let time_base = match facts.sample_rate {
        rate if facts.kind == Type::Audio && rate > 0 => ffmpeg::Rational::new(1, rate),
        _ => stream.time_base(),
    };
    let out = muxer.add_stream(&stream.parameters(), time_base)?;
    raw_output::set_stream(muxer.output(), out, facts.disposition, None);
    raw_output::copy_stream_metadata(input, facts.index, muxer.output(), out);
    let copied = Copied { out, tick_in: facts.time_base, last_dts: None };
    Ok((Action::Copy(copied), "copied", None))
}

fn transcode(
    input: &Input,
    facts: &StreamFacts,
    times: (Seconds, Seconds),
    (name, reason): (&'static str, Option<String>),
    muxer: &mut Muxer,
) -> Result<Decision, MediaError> {
    match Transcoder::open(input, facts, times, muxer)? {
        Ok(transcoder) => {
            let out = transcoder.out();
            raw_output::set_stream(muxer.output(), out, facts.disposition, None);
            raw_output::copy_stream_metadata(input, facts.index, muxer.output(), out);
            Ok((Action::Transcode(Box::new(transcoder)), name, reason))
        }
        Err(problem) => Ok((Action::Drop, "dropped", Some(problem))),
    }
}
