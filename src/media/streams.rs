//! The streams beside the worked video: sound, subtitles, attachments, and what becomes of each.
//!
//! The source is read a second time, alongside the output: no further than the video has come.

use std::path::PathBuf;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::media::Type;
use num_rational::Ratio;

use super::MediaError;
use super::audio::Transcoder;
use super::boxes::{self, Boxes};
use super::clip::{ClipInfo, Sidecar, StreamInfo, StreamOutcome, WriteSpec};
use super::copied::Copied;
use super::left_out::{Lack, LeftOut};
use super::mux::Muxer;
use super::probe::read_error;
use super::programs;
use super::raw::{self, StreamFacts};
use super::raw_input;
use super::raw_output;
use super::sidecar::{Described, Sample, SidecarWriter};
use super::splices::{Course, Splices};
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
    /// Written beside the output.
    Export(Exported),
    Drop,
}

/// A stream that is written beside the output.
struct Exported {
    tick: Seconds,
    samples: u64,
    /// Whether it is of the whole clip (an attachment, a cover) and has no time.
    timeless: bool,
}

struct Track {
    action: Action,
    outcome: StreamOutcome,
}

/// What became of all streams.
pub(super) struct Ended {
    pub(super) outcomes: Vec<StreamOutcome>,
    /// The same by what is in the file: a track without a packet can be one of it.
    pub(super) in_file: Vec<StreamOutcome>,
    /// What lies beside the output.
    pub(super) sidecar: Option<Sidecar>,
    pub(super) warnings: Vec<Warning>,
}

/// All streams of the source beside the worked one.
pub(super) struct Streams {
    path: PathBuf,
    input: Input,
    splices: Splices,
    tracks: Vec<Track>,
    sidecar: Option<SidecarWriter>,
    /// What is known from the beginning.
    warnings: Vec<Warning>,
    origin: Seconds,
    stretch: Seconds,
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
        let (mut tracks, mut sidecar) = (Vec::new(), None);
        let splices = splices(&input, source);
        let has_one_index = is_mov(source) && !boxes::has_fragments(&source.path)?;
        let mut warnings = Vec::new();
        let programs = programs::programs(&input);
        let picture = source.video.stream_index;
        let mut of_others = Vec::new();
        for stream in &source.streams {
            let facts = raw::stream_facts(&input, stream.index);
            let other = programs::other_program(&programs, picture, stream.index);
            let (mut action, name, reason) = match (&facts, other) {
                (Some(_), _) if stream.index == picture => (Action::Drop, "interpolated", None),
                (Some(_), Some(number)) => {
                    of_others.push(stream.index);
                    let reason = format!("it belongs to program {number}, the picture to another");
                    (Action::Drop, "dropped", Some(reason))
                }
                (Some(facts), None) => decide(&input, facts, (spec, copying), muxer)?,
                (None, _) => {
                    (Action::Drop, "dropped", Some("the source no longer has it".to_owned()))
                }
            };
            match (&mut action, &facts) {
                // Where the picture's times may jump, its packets say so.
                (Action::Drop, _) if stream.index == picture && !has_one_index => {}
                (Action::Drop, _) => raw::discard_stream(&mut input, stream.index),
                (Action::Transcode(it), _) => warnings.extend(channels_reduced(stream, it)),
                (Action::Export(exported), Some(facts)) => {
                    let file = opened(&mut sidecar, spec, muxer)?;
                    file.describe(&described(&input, facts, stream))?;
                    if facts.kind == Type::Attachment {
                        let data = attached(&input, facts);
                        exported.samples += file.add_timeless(stream.index, &data)?;
                    }
                }
                _ => {}
            }
            let outcome = StreamOutcome { stream: stream.clone(), action: name, reason };
            tracks.push(Track { action, outcome });
        }
        warnings.extend(programs::dropped(&of_others, picture));
        warnings.extend(export_boxes(source, spec, &mut sidecar, muxer)?);
        let live = |it: &Track| !matches!(it.action, Action::Drop);
        Ok(Self {
            path: source.path.clone(),
            ended: !tracks.iter().any(live),
            input,
            splices,
            tracks,
            sidecar,
            warnings,
            origin: spec.origin,
            stretch: spec.stretch,
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

    /// Writes all the rest; what became of every stream, what lies beside the output, and warnings.
    pub(super) fn finish(mut self, muxer: &mut Muxer) -> Result<Ended, MediaError> {
        while !self.ended {
            self.step(muxer)?;
        }
        let (mut left_out, mut warnings) = (LeftOut::default(), self.warnings);
        for track in self.tracks {
            let lack = match track.action {
                Action::Drop => Lack::default(),
                Action::Copy(copied) => {
                    self.damaged += copied.late;
                    copied.lack()
                }
                Action::Transcode(mut transcoder) => {
                    transcoder.finish(muxer)?;
                    self.damaged += transcoder.damaged;
                    warnings.extend(transcoder.channels_change(track.outcome.stream.index));
                    transcoder.lack()
                }
                Action::Export(exported) => Lack { all: exported.samples == 0, ..Lack::default() },
            };
            left_out.add(track.outcome, lack, muxer.container());
        }
        warnings.extend(left_out.warnings());
        self.damaged += self.splices.wrong();
        if self.damaged > 0 {
            let what = "packet(s) of sound or subtitles are damaged, or at a wrong time";
            warnings.push(("sound_damaged".to_owned(), format!("{} {what}", self.damaged)));
        }
        let sidecar = self.sidecar.map(SidecarWriter::finish).transpose()?.flatten();
        let LeftOut { outcomes, in_file, .. } = left_out;
        Ok(Ended { outcomes, in_file, sidecar, warnings })
    }

    /// Reads one packet and hands on what is known to be at its time.
    fn step(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        let mut packet = ffmpeg::Packet::empty();
        match packet.read(&mut self.input) {
            Ok(()) => self.damage_run = 0,
            Err(ffmpeg::Error::Eof) => return self.end(muxer),
            Err(ffmpeg::Error::InvalidData) => {
                self.damaged += 1;
                self.damage_run += 1;
                return if self.damage_run > MAX_DAMAGE_RUN { self.end(muxer) } else { Ok(()) };
            }
            Err(ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
            Err(error) => return Err(read_error(&self.path, raw::io_error(error))),
        }
        self.splices.take(packet);
        self.hand_on(muxer)
    }

    fn hand_on(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        while let Some((packet, moved)) = self.splices.next() {
            self.hand(packet, moved, muxer)?;
        }
        Ok(())
    }

    /// Hands on a packet that was moved by so many ticks.
    fn hand(
        &mut self,
        packet: ffmpeg::Packet,
        moved: i64,
        muxer: &mut Muxer,
    ) -> Result<(), MediaError> {
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
            Action::Export(exported) => {
                if exported.timeless {
                    let data = packet.data().unwrap_or_default();
                    if let Some(file) = &mut self.sidecar {
                        exported.samples += file.add_timeless(packet.stream(), data)?;
                    }
                    return Ok(());
                }
                let seconds = |ticks: i64| exported.tick * i128::from(ticks);
                let time = packet.pts().or(packet.dts()).map(seconds);
                let source = time.map(|it| it - seconds(moved));
                let output = time.map(|it| (it - self.origin) * self.stretch);
                let sample = Sample {
                    stream: packet.stream(),
                    data: packet.data().unwrap_or_default(),
                    source,
                    output,
                    duration: (packet.duration() > 0).then(|| seconds(packet.duration())),
                };
                if let Some(file) = &mut self.sidecar {
                    file.add(&sample)?;
                }
                exported.samples += 1;
                self.reached = self.reached.max(output);
            }
        }
        Ok(())
    }

    fn end(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        if let Some(error) = raw_input::latched_error(&self.input) {
            return Err(read_error(&self.path, raw::io_error(error)));
        }
        self.ended = true;
        self.splices.end();
        self.hand_on(muxer)
    }
}

/// Follows the jumps of the worked picture.
fn splices(input: &Input, source: &ClipInfo) -> Splices {
    let course = |index| {
        let facts = raw::stream_facts(input, index)?;
        Some(Course::new(facts.time_base, facts.kind == Type::Audio))
    };
    let courses: Vec<_> = (0..input.streams().count()).filter_map(course).collect();
    let picture = source.video.stream_index;
    let tick = courses.get(picture).map(|it| it.tick).unwrap_or_default();
    let nominal = source.video.claimed_rate.map_or(tick, |rate| rate.recip());
    Splices::new(picture, nominal, courses)
}

fn is_mov(source: &ClipInfo) -> bool {
    source.format.split(',').any(|it| it == "mov")
}

/// Whether packets may be copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// What the container says it carries.
    Carried,
    /// Of that, what every FFmpeg writes: the header was refused.
    Undisputed,
    /// Nothing: its header was refused again.
    Nothing,
}

impl Copying {
    /// Whether a stream of that codec may be copied into the container.
    fn allows(self, codec: &str, container: Container) -> bool {
        // What FFmpeg's MP4 family names but refuses when the header is written; FLAC in MP4 up to FFmpeg 5.
        match (self, container) {
            (Self::Nothing, _) => false,
            (_, Container::Mkv) => true,
            (_, Container::Mov) => !matches!(codec, "opus" | "flac" | "truehd"),
            (Self::Carried, Container::Mp4) => codec != "truehd",
            (Self::Undisputed, Container::Mp4) => !matches!(codec, "flac" | "truehd"),
        }
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
    let carried = copying.allows(&facts.codec, muxer.container())
        && raw_output::can_carry(muxer.output(), facts.codec_id);
    let one = Ratio::from_integer(1);
    let same_time = spec.stretch == one;
    let codec = &facts.codec;
    let cover = facts.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0;
    let export = |reason: String| {
        let timeless = cover || facts.kind == Type::Attachment;
        let exported = Exported { tick: facts.time_base, samples: 0, timeless };
        Ok((Action::Export(exported), "exported", Some(reason)))
    };
    match facts.kind {
        Type::Video if cover && carried && muxer.container() == Container::Mp4 => {
            copy(input, facts, (spec.origin, one, "copied"), muxer)
        }
        Type::Video if cover => export(format!("{container} gets no cover picture")),
        Type::Video => dropped("only one moving picture is worked".to_owned()),
        Type::Audio if spec.audio == Audio::Drop => {
            dropped("the settings leave sound out".to_owned())
        }
        Type::Audio if spec.audio == Audio::Keep || same_time => {
            if carried {
                copy(input, facts, (spec.origin, one, "copied"), muxer)
            } else {
                let reason = format!("{container} cannot carry {codec}");
                let times = (spec.origin, one, Audio::Keep);
                transcode(input, facts, times, ("reencoded", Some(reason)), muxer)
            }
        }
        Type::Audio => {
            let name = if spec.audio == Audio::Resample { "resampled" } else { "stretched" };
            let times = (spec.origin, spec.stretch, spec.audio);
            transcode(input, facts, times, (name, None), muxer)
        }
        Type::Subtitle if carried => {
            let name = if same_time { "copied" } else { "retimed" };
            copy(input, facts, (spec.origin, spec.stretch, name), muxer)
        }
        Type::Subtitle => export(format!("{container} cannot carry {codec} subtitles")),
        Type::Attachment if carried => copy(input, facts, (spec.origin, one, "copied"), muxer),
        Type::Attachment if copying != Copying::Nothing && muxer.container() == Container::Mkv => {
            copy(input, facts, (spec.origin, one, "copied"), muxer)
        }
        Type::Attachment => export(format!("{container} carries no attachments")),
        _ if facts.used_up => dropped("it holds the chapters, which are carried".to_owned()),
        _ if facts.tag.as_deref() == Some("tmcd") => {
            let start = raw_output::stream_metadata(input, facts.index);
            let start = start.into_iter().find(|it| it.0 == "timecode");
            let start = start.map_or_else(|| "an unknown time".to_owned(), |it| it.1);
            dropped(format!("its time code counts frames of the source, from {start}"))
        }
        _ => export(format!("{container} carries no data tracks")),
    }
}

/// That a stream has fewer channels than in the source.
fn channels_reduced(stream: &StreamInfo, transcoder: &Transcoder) -> Option<Warning> {
    let (to, from) = transcoder.reduced()?;
    let message = format!(
        "the sound of stream {} has {to} channels instead of {from}: AAC has no layout for those",
        stream.index
    );
    Some(("channels_reduced".to_owned(), message))
}

/// What is said of a stream beside the output.
fn described(input: &Input, facts: &StreamFacts, stream: &StreamInfo) -> Described {
    Described {
        stream: stream.index,
        kind: stream.kind.clone(),
        codec: stream.codec.clone(),
        tag: facts.tag.clone(),
        metadata: raw_output::stream_metadata(input, facts.index),
    }
}

/// The file beside the output, which is begun where it is not yet.
fn opened<'a>(
    sidecar: &'a mut Option<SidecarWriter>,
    spec: &WriteSpec,
    muxer: &Muxer,
) -> Result<&'a mut SidecarWriter, MediaError> {
    match sidecar {
        Some(file) => Ok(file),
        none => Ok(none.insert(SidecarWriter::create(muxer.path(), spec.origin, spec.stretch)?)),
    }
}

/// Writes what an MP4 or MOV file has outside its tracks beside the output; what to say of it.
fn export_boxes(
    source: &ClipInfo,
    spec: &WriteSpec,
    sidecar: &mut Option<SidecarWriter>,
    muxer: &Muxer,
) -> Result<Option<Warning>, MediaError> {
    if !is_mov(source) {
        return Ok(None);
    }
    let (original, boxes) = Boxes::find(&source.path)?;
    for it in &boxes.taken {
        let data = it.read(&original).map_err(|error| read_error(&source.path, error))?;
        opened(sidecar, spec, muxer)?.add_box(&it.name, it.at, &data)?;
    }
    Ok(boxes.warning())
}

/// The content of an attachment, which is in its header.
fn attached(input: &Input, facts: &StreamFacts) -> Vec<u8> {
    let stream = input.stream(facts.index);
    stream.map(|it| raw::extradata(&it.parameters())).unwrap_or_default()
}

fn copy(
    input: &Input,
    facts: &StreamFacts,
    (origin, stretch, name): (Seconds, Seconds, &'static str),
    muxer: &mut Muxer,
) -> Result<Decision, MediaError> {
    Ok(match Copied::open(input, facts, (origin, stretch), muxer)? {
        Some(copied) => (Action::Copy(copied), name, None),
        None => (Action::Drop, "dropped", Some("the source no longer has it".to_owned())),
    })
}

fn transcode(
    input: &Input,
    facts: &StreamFacts,
    times: (Seconds, Seconds, Audio),
    (name, reason): (&'static str, Option<String>),
    muxer: &mut Muxer,
) -> Result<Decision, MediaError> {
    match Transcoder::open(input, facts, times, muxer)? {
        Ok(transcoder) => {
            let out = transcoder.out();
            raw_output::set_stream(muxer.output(), out, facts.disposition, None);
            raw_output::copy_stream_metadata(input, facts.index, muxer.output(), out);
            let became = transcoder.became();
            let reason = reason.map_or(became.clone(), |it| format!("{it}; {became}"));
            Ok((Action::Transcode(Box::new(transcoder)), name, Some(reason)))
        }
        Err(problem) => Ok((Action::Drop, "dropped", Some(problem))),
    }
}
