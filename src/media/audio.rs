//! Sound that is decoded, stretched with its pitch kept, and encoded again as AAC.
//!
//! Samples are placed by their times: gaps become silence, overlaps are cut, and the output starts at time 0 and has
//! the length of the input times the stretch, to the sample.

use ffmpeg_next as ffmpeg;

use ffmpeg::filter::Graph;
use ffmpeg::format::context::Input;
use ffmpeg::format::{Sample, sample};
use ffmpeg::frame::Audio;
use num_rational::Ratio;

use super::MediaError;
use super::audio_graph;
use super::drift::Drift;
use super::left_out::Lack;
use super::mux::Muxer;
use super::raw::{self, StreamFacts};
use super::raw_audio::{self, AudioShape};
use super::stretch::Stretcher;
use crate::config::settings::Audio as How;
use crate::frame::Seconds;

/// Sample rates that AAC has.
const AAC_RATES: [i32; 13] =
    [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/// Rate where the source's is none of [`AAC_RATES`].
const OTHER_RATE: i32 = 48000;

/// Layouts that AAC has a number for (ISO/IEC 14496-3, channel configuration) with their channels, the smallest first. Others
/// it lists channel by channel, and most players then do not know which is which.
const AAC_LAYOUTS: [(usize, &str); 7] =
    [(1, "mono"), (2, "stereo"), (3, "3.0"), (4, "4.0"), (5, "5.0"), (6, "5.1"), (8, "7.1")];

/// Bits a second for each channel: 160 kbit/s for stereo.
const BITS_PER_CHANNEL: usize = 80_000;

/// Bounds of the whole.
const BIT_RATES: std::ops::RangeInclusive<usize> = 96_000..=512_000;

/// A frame that is shown for less than its samples by no more than this is whole: its time was rounded.
const PADDING_ROUNDING_MS: i64 = 2;

/// Longer gaps are taken for a broken clock and not filled.
const MAX_GAP_S: i64 = 3_600;

/// Samples of silence made at once.
const SILENCE_SAMPLES: i64 = 4_096;

/// One sound stream on its way.
pub(super) struct Transcoder {
    out: usize,
    decoder: ffmpeg::decoder::Opened,
    encoder: ffmpeg::encoder::audio::Encoder,
    encoder_shape: AudioShape,
    /// What the source has, as far as its header says.
    source_shape: AudioShape,
    graph: Option<(Graph, AudioShape)>,
    tick_in: Seconds,
    origin: Seconds,
    stretch: Seconds,
    /// How much slower samples are played, and lower: 1 where their pitch stays.
    slowdown: Seconds,
    /// None where the time stays, or the pitch does not.
    stretcher: Option<Stretcher>,
    drift: Drift,
    /// Input samples placed so far: the next sample's number counted from the origin.
    placed: i64,
    /// Samples at the end of the last frame that its container does not show: a coded frame is always whole.
    padding: i64,
    /// Stretched samples of each channel that are not encoded yet.
    waiting: Vec<Vec<f32>>,
    encoded: i64,
    /// Seconds of the source that lie before the origin.
    early: Seconds,
    /// Where its channels first became others: seconds behind the origin, the layouts before and from there on.
    mixed: Option<(Seconds, String, String)>,
    /// Where the sound ends, in encoded samples, once that is known.
    end: Option<i64>,
    /// Packets and frames that could not be used.
    pub(super) damaged: u64,
}

impl Transcoder {
    /// Opens decoder and encoder of a stream and adds the output stream; the reason where one does not open.
    pub(super) fn open(
        input: &Input,
        facts: &StreamFacts,
        (origin, stretch, how): (Seconds, Seconds, How),
        muxer: &mut Muxer,
    ) -> Result<Result<Self, String>, MediaError> {
        let decoder = match raw::open_decoder(input, facts.index, 1, 0) {
            Ok(decoder) => decoder,
            Err(error) => return Ok(Err(format!("{} cannot be decoded: {error}", facts.codec))),
        };
        let Some(shape) = raw_audio::decoder_shape(&decoder) else {
            return Ok(Err("its sample rate or channels are unknown".to_owned()));
        };
        let global = muxer.wants_global_header();
        let (encoder, encoder_shape) = match open_encoder(&shape, global) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(format!("AAC does not open for it: {error}"))),
        };
        let time_base = ffmpeg::Rational::new(1, encoder_shape.rate);
        let out = muxer.add_stream(&ffmpeg::codec::Parameters::from(&encoder), time_base)?;
        Ok(Ok(Self {
            out,
            decoder,
            encoder,
            stretcher: (stretch != Ratio::from_integer(1) && how == How::Stretch)
                .then(|| Stretcher::new(encoder_shape.channels, encoder_shape.rate, stretch)),
            waiting: vec![Vec::new(); encoder_shape.channels],
            encoder_shape,
            source_shape: shape,
            graph: None,
            tick_in: facts.time_base,
            origin,
            stretch,
            slowdown: if how == How::Resample { stretch } else { Ratio::from_integer(1) },
            drift: Drift::default(),
            placed: 0,
            padding: 0,
            encoded: 0,
            early: Seconds::default(),
            mixed: None,
            end: None,
            damaged: 0,
        }))
    }

    /// What it became, for the report.
    pub(super) fn became(&self) -> String {
        let (from, to) = (&self.source_shape, &self.encoder_shape);
        let mut said = "it is AAC now".to_owned();
        if from.rate != to.rate {
            said += &format!(", {} Hz instead of {}", to.rate, from.rate);
        }
        if from.layout != to.layout {
            said += &format!(", {} instead of {}", to.layout, from.layout);
        }
        said
    }

    /// Channels of the output and of the source, where that has more.
    pub(super) fn reduced(&self) -> Option<(usize, usize)> {
        let (from, to) = (self.source_shape.channels, self.encoder_shape.channels);
        (to < from).then_some((to, from))
    }

    /// That its channels become others on the way, which stream `index` of the output cannot.
    pub(super) fn channels_change(&self, index: usize) -> Option<(String, String)> {
        let (at, before, after) = self.mixed.as_ref()?;
        let message = format!(
            "the channels of stream {index} change from {before} to {after} {:.3} s behind the first picture: all of it is {} in the output; cut the clip there to keep both",
            *at.numer() as f64 / *at.denom() as f64,
            self.encoder_shape.layout
        );
        Some(("channels_change".to_owned(), message))
    }

    /// What is missing of it in the end.
    pub(super) fn lack(&self) -> Lack {
        Lack { sound: self.early, all: self.encoded == 0, ..Lack::default() }
    }

    /// Number of the output stream.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Takes a packet of the source; the output time it belongs to.
    pub(super) fn take(
        &mut self,
        packet: &ffmpeg::Packet,
        muxer: &mut Muxer,
    ) -> Result<Option<Seconds>, MediaError> {
        if self.decoder.send_packet(packet).is_err() {
            self.damaged += 1;
        }
        self.decode(muxer)?;
        let time = packet.pts().or(packet.dts());
        Ok(time.map(|it| (self.tick_in * i128::from(it) - self.origin) * self.stretch))
    }

    /// Writes all the rest.
    pub(super) fn finish(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        if self.decoder.send_eof().is_err() {
            self.damaged += 1;
        }
        self.decode(muxer)?;
        if let Some((_, shape)) = &self.graph {
            let rate = shape.rate;
            self.empty_graph()?;
            if let Some(stretcher) = &mut self.stretcher {
                stretcher.finish(&mut self.waiting);
            }
            let shown = i128::from((self.placed - self.padding).max(0));
            let whole = raw::ticks(self.scale(rate) * shown, Ratio::from_integer(1));
            self.end = Some(whole);
            let left = usize::try_from(whole - self.encoded).unwrap_or(0);
            for channel in &mut self.waiting {
                channel.resize(left, 0.0);
            }
        }
        self.encode(1, muxer)?;
        self.encoder.send_eof().map_err(refused)?;
        self.write(muxer)
    }

    fn decode(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        let mut frame = Audio::empty();
        loop {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => self.place(&mut frame, muxer)?,
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                    return Ok(());
                }
                Err(_) => {
                    self.damaged += 1;
                    return Ok(());
                }
            }
        }
    }

    /// Puts a decoded frame where its time says.
    fn place(&mut self, frame: &mut Audio, muxer: &mut Muxer) -> Result<(), MediaError> {
        let Some(shape) = raw_audio::frame_shape(frame) else { return Ok(()) };
        match &self.graph {
            Some((_, before)) if *before != shape => {
                if !self.turn_to(&shape)? {
                    // Silence takes its place, so that the rest stays in step.
                    self.damaged += 1;
                    return Ok(());
                }
            }
            Some(_) => {}
            None => {
                let graph = audio_graph::build(&shape, &self.encoder_shape, self.slowdown);
                self.graph = Some((graph.map_err(refused)?, shape.clone()));
            }
        }
        let rate = i64::from(shape.rate);
        let length = i64::try_from(frame.samples()).unwrap_or(0);
        let at = frame.timestamp().or(frame.pts()).map_or(self.placed, |time| {
            let time = self.tick_in * i128::from(time) - self.origin;
            raw::ticks(time, Ratio::new(1, i128::from(rate)))
        });
        let shown = i128::from(frame.packet().duration.max(0)) * i128::from(rate);
        let shown = raw::ticks(self.tick_in * shown, Ratio::from_integer(1));
        let rounding = PADDING_ROUNDING_MS * rate / 1_000;
        let padded = shown > 0 && length - shown > rounding;
        let off = match at - self.placed {
            first if self.placed == 0 => first,
            off => self.drift.correction(off, rate, self.stretch),
        };
        if off > 0 && off <= MAX_GAP_S * rate {
            self.fill(off, &shape, muxer)?;
        }
        let skip = (-off).clamp(0, length);
        if self.placed == 0 {
            self.early += Ratio::new(i128::from(skip), i128::from(rate));
        }
        if skip == length {
            return Ok(());
        }
        // Of samples that are placed: those of a frame that is left out take nothing off the one before.
        self.padding = if padded { length - shown } else { 0 };
        if skip > 0 {
            let rest = raw_audio::audio_part(frame, skip, length - skip).map_err(refused)?;
            return self.feed(rest, muxer);
        }
        self.feed(std::mem::replace(frame, Audio::empty()), muxer)
    }

    /// Goes on with sound of another shape; false where it cannot be made what the encoder takes.
    fn turn_to(&mut self, shape: &AudioShape) -> Result<bool, MediaError> {
        let Ok(graph) = audio_graph::build(shape, &self.encoder_shape, self.slowdown) else {
            return Ok(false);
        };
        self.empty_graph()?;
        let Some((_, before)) = self.graph.replace((graph, shape.clone())) else { return Ok(true) };
        let seconds = |samples: i64| Ratio::new(i128::from(samples), i128::from(before.rate));
        if before.layout != shape.layout && self.mixed.is_none() {
            self.mixed = Some((seconds(self.placed), before.layout, shape.layout.clone()));
        }
        // From here on samples are counted at the new rate.
        let tick = Ratio::new(1, i128::from(shape.rate));
        self.placed = raw::ticks(seconds(self.placed), tick);
        self.padding = raw::ticks(seconds(self.padding), tick);
        Ok(true)
    }

    /// Takes what the graph still holds; it takes nothing any more.
    fn empty_graph(&mut self) -> Result<(), MediaError> {
        if let Some((graph, _)) = &mut self.graph
            && audio_graph::flush(graph).is_err()
        {
            self.damaged += 1;
        }
        self.pull()
    }

    /// Feeds silence, a bounded piece at a time.
    fn fill(
        &mut self,
        mut samples: i64,
        shape: &AudioShape,
        muxer: &mut Muxer,
    ) -> Result<(), MediaError> {
        while samples > 0 {
            let piece = samples.min(SILENCE_SAMPLES);
            self.feed(raw_audio::silence(shape, piece).map_err(refused)?, muxer)?;
            samples -= piece;
        }
        Ok(())
    }

    fn feed(&mut self, mut frame: Audio, muxer: &mut Muxer) -> Result<(), MediaError> {
        frame.set_pts(Some(self.placed));
        self.placed += i64::try_from(frame.samples()).unwrap_or(0);
        let Some((graph, shape)) = &mut self.graph else { return Ok(()) };
        let rate = shape.rate;
        let mut source = graph.get("in").ok_or(ffmpeg::Error::Bug).map_err(refused)?;
        source.source().add(&frame).map_err(refused)?;
        self.pull()?;
        let size = usize::try_from(self.encoder.frame_size()).unwrap_or(0).max(1);
        // What is not shown if nothing follows must not be encoded before that is known.
        let padding =
            raw::ticks(self.scale(rate) * i128::from(self.padding), Ratio::from_integer(1));
        self.encode(size + usize::try_from(padding).unwrap_or(0), muxer)
    }

    /// Encoded samples for each of the source's, which has `rate` of them a second.
    fn scale(&self, rate: i32) -> Seconds {
        self.stretch * Ratio::new(i128::from(self.encoder_shape.rate), i128::from(rate))
    }

    /// Takes what the graph has ready.
    fn pull(&mut self) -> Result<(), MediaError> {
        let Some((graph, _)) = &mut self.graph else { return Ok(()) };
        let mut sink = graph.get("out").ok_or(ffmpeg::Error::Bug).map_err(refused)?;
        let mut frame = Audio::empty();
        loop {
            match sink.sink().frame(&mut frame) {
                Ok(()) => {}
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                    return Ok(());
                }
                Err(error) => return Err(refused(error)),
            }
            let Some(stretcher) = &mut self.stretcher else {
                for (index, channel) in self.waiting.iter_mut().enumerate() {
                    raw_audio::append_floats(&frame, index, channel);
                }
                continue;
            };
            let mut samples = vec![Vec::new(); self.waiting.len()];
            for (index, channel) in samples.iter_mut().enumerate() {
                raw_audio::append_floats(&frame, index, channel);
            }
            stretcher.push(&samples, &mut self.waiting);
        }
    }

    /// Encodes while at least `least` samples wait.
    fn encode(&mut self, least: usize, muxer: &mut Muxer) -> Result<(), MediaError> {
        let size = usize::try_from(self.encoder.frame_size()).unwrap_or(0).max(1);
        loop {
            let ready = self.waiting.first().map_or(0, Vec::len);
            if ready == 0 || ready < least {
                return Ok(());
            }
            let count = ready.min(size);
            let length = i64::try_from(count).unwrap_or(0);
            let mut frame = raw_audio::silence(&self.encoder_shape, length).map_err(refused)?;
            for (index, channel) in self.waiting.iter_mut().enumerate() {
                raw_audio::put_floats(&mut frame, index, &channel[..count]);
                channel.drain(..count);
            }
            frame.set_pts(Some(self.encoded));
            self.encoded += length;
            self.encoder.send_frame(&frame).map_err(refused)?;
            self.write(muxer)?;
        }
    }

    fn write(&mut self, muxer: &mut Muxer) -> Result<(), MediaError> {
        loop {
            let mut packet = ffmpeg::Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                    return Ok(());
                }
                Err(error) => return Err(refused(error)),
            }
            let tick_in = Ratio::new(1, i128::from(self.encoder_shape.rate));
            let tick = muxer.tick(self.out);
            let whole = |time: i64| raw::ticks(tick_in * i128::from(time), tick);
            let time = packet.pts().unwrap_or_default();
            // A coded frame is always whole; what of the last one is padding is not shown, and no frame of padding alone.
            if self.end.is_some_and(|end| time >= end) {
                continue;
            }
            let full = time + packet.duration().max(0);
            let end = whole(self.end.map_or(full, |end| full.min(end)));
            packet.set_pts(Some(whole(time)));
            packet.set_dts(Some(whole(time)));
            packet.set_duration(end - whole(time));
            muxer.write(self.out, &mut packet)?;
        }
    }
}

fn refused(error: ffmpeg::Error) -> MediaError {
    let reason = format!("sound cannot be stretched or encoded: {error}");
    MediaError::Encoder { encoder: "aac".to_owned(), reason }
}

/// Opens AAC for the channels of `shape`: in the smallest numbered layout with a place for each of them, else channel by
/// channel, else in the largest that it can be mixed into.
fn open_encoder(
    shape: &AudioShape,
    global: bool,
) -> Result<(ffmpeg::encoder::audio::Encoder, AudioShape), ffmpeg::Error> {
    let rate = if AAC_RATES.contains(&shape.rate) { shape.rate } else { OTHER_RATE };
    let wanted = AudioShape { rate, format: Sample::F32(sample::Type::Planar), ..shape.clone() };
    let in_layout = |(channels, layout): &(usize, &str)| AudioShape {
        layout: (*layout).to_owned(),
        channels: *channels,
        ..wanted.clone()
    };
    let fewer = AAC_LAYOUTS.iter().rev().filter(|(channels, _)| *channels <= shape.channels);
    let mut more = AAC_LAYOUTS.iter().filter(|(channels, _)| *channels >= shape.channels);
    let numbered = more.find(|(_, layout)| raw_audio::has_room(layout, &shape.layout));
    let mut refusal = ffmpeg::Error::EncoderNotFound;
    let all = numbered.map(in_layout).into_iter().chain([wanted.clone()]);
    for to in all.chain(fewer.map(in_layout)) {
        // Channels that nobody has named cannot be mixed into others.
        let mixed = audio_graph::build(shape, &to, Ratio::from_integer(1));
        match mixed.and_then(|_| try_encoder(&to, global)) {
            Ok(encoder) => return Ok((encoder, to)),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn try_encoder(
    shape: &AudioShape,
    global: bool,
) -> Result<ffmpeg::encoder::audio::Encoder, ffmpeg::Error> {
    let codec = ffmpeg::encoder::find_by_name("aac").ok_or(ffmpeg::Error::EncoderNotFound)?;
    let mut audio = ffmpeg::codec::Context::new_with_codec(codec).encoder().audio()?;
    audio.set_rate(shape.rate);
    audio.set_format(shape.format);
    audio.set_time_base(ffmpeg::Rational::new(1, shape.rate));
    let bits = BITS_PER_CHANNEL * shape.channels;
    audio.set_bit_rate(bits.clamp(*BIT_RATES.start(), *BIT_RATES.end()));
    raw_audio::prepare_audio_encoder(&mut audio, shape, global)?;
    audio.open_as(codec)
}

/// Opens AAC for a common shape, to see whether it can be used.
pub(super) fn encoder_problem() -> Option<String> {
    let shape = AudioShape {
        rate: 48_000,
        format: Sample::F32(sample::Type::Planar),
        layout: "stereo".to_owned(),
        channels: 2,
    };
    try_encoder(&shape, true).err().map(|error| refused(error).to_string())
}
