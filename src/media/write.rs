//! Encodes pictures at exact times into a file, beside the sound and the other streams of the source.
//!
//! The video's clock ticks so that every time of the job is whole ([`super::ticks`]); Matroska rounds to a millisecond.
//!
//! The video may consist of segments ([`Writer::cut`]). Each has an encoder of its own that counts time from 0, so that
//! its packets depend on its own pictures alone. They can be kept in a file beside ([`Writer::keep`]), and another writer
//! of the same clip takes them from there ([`Writer::replay`]) instead of encoding the pictures again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;

use super::MediaError;
use super::clip::{ClipInfo, WriteSpec, WriteSummary};
use super::encoder::{self, Exporter, Plan};
use super::hdr;
use super::labels;
use super::mux::{Muxer, write_error};
use super::open_encoder::{self, Header, VideoEncoder};
use super::orientation;
use super::packets::{Kept, PacketReader, PacketWriter};
use super::probe;
use super::raw;
use super::raw_output;
use super::streams::{Copying, Streams};
use super::ticks;
use super::view;
use crate::config::settings::{Codec, Container, Encoding};
use crate::frame::{Picture, Rate, Seconds};

/// Most frames a second of Matroska.
const MKV_MAX_RATE: i128 = 1_000;

/// Writes one output file. It is removed unless [`Self::finish`] succeeds.
pub struct Writer {
    path: PathBuf,
    muxer: Muxer,
    /// How an encoder is opened.
    recipe: (Plan, Encoding, Header),
    /// The open segment's; opened with its first picture.
    encoder: Option<VideoEncoder>,
    exporter: Exporter,
    streams: Streams,
    /// Seconds a tick of the encoder.
    tick: Seconds,
    video: usize,
    /// Ticks each frame inside the encoder is shown, by its time; as many as the encoder holds.
    durations: BTreeMap<i64, i64>,
    /// Time of the last picture.
    last: Option<i64>,
    last_dts: Option<i64>,
    /// Decoding time of the first packet.
    first_dts: Option<i64>,
    /// Where the last frame ends.
    end: i64,
    /// The newest packet, which is not written yet: it may turn out to be the last.
    newest: Option<ffmpeg::Packet>,
    /// Time of the open segment's first picture; `None` before it.
    base: Option<i64>,
    /// Where the packets of the open segment go as well.
    keeping: Option<PacketWriter>,
    identity: String,
    /// Keys of entries that should be in the output.
    wanted_metadata: Vec<String>,
    /// What the source says of how its picture is looked at.
    view: Vec<(&'static str, [u8; 4])>,
    /// Whether the source is to be shown turned.
    is_turned: bool,
    summary: WriteSummary,
}

impl Writer {
    /// Creates `temporary` for frames like those of `source`, which is opened again for its other streams.
    ///
    /// # Errors
    /// [`MediaError::Write`], [`MediaError::Encoder`]; [`MediaError::Read`] and [`MediaError::Unusable`] of the source.
    pub fn create(
        temporary: &Path,
        source: &ClipInfo,
        spec: &WriteSpec,
    ) -> Result<Self, MediaError> {
        // A stream that the container says it carries and then does not must not fail the clip.
        for copying in [Copying::Carried, Copying::Undisputed] {
            match Self::create_with(temporary, source, spec, copying) {
                Err(error) if is_refusal(&error) => log::debug!("copying less: {error}"),
                other => return other,
            }
        }
        Self::create_with(temporary, source, spec, Copying::Nothing)
    }

    fn create_with(
        temporary: &Path,
        source: &ClipInfo,
        spec: &WriteSpec,
        copying: Copying,
    ) -> Result<Self, MediaError> {
        check_container(spec)?;
        check_rate(spec)?;
        let input = probe::open_container(&source.path)?;
        let facts = raw::stream_facts(&input, source.video.stream_index).ok_or_else(|| {
            probe::unusable(&source.path, "not_video", "its video stream has gone")
        })?;
        let format = source.video.picture;
        let mut plan = encoder::plan(&spec.encoding, format)?;
        if source.video.alpha {
            plan.keep_alpha(spec.encoding.codec, format);
        }
        let mut muxer = Muxer::create(temporary, spec.container)?;
        let time_base = ticks::time_base(spec, facts.time_base);
        let header = Header {
            tags: encoder::output_tags(&plan, format, facts.tags),
            sample_aspect_ratio: facts.sample_aspect_ratio,
            rate: spec.rate,
            time_base,
            global: muxer.wants_global_header(),
            hdr: hdr::x265_params(&source.video.hdr),
            threads: spec.encoder_threads,
            gpu: spec.encoder_gpu,
        };
        let (encoder, options) = open_encoder::open(&plan, &spec.encoding, &header)?;
        let parameters = encoder.parameters();
        let video = muxer.add_stream(&parameters, time_base)?;
        let rate = open_encoder::rational(spec.rate);
        let shown = Some((rate, facts.sample_aspect_ratio));
        raw_output::set_stream(muxer.output(), video, facts.disposition, shown);
        raw_output::copy_stream_metadata(&input, facts.index, muxer.output(), video);
        let mut warnings = plan.warnings.clone();
        warnings.extend(encoder::lost_range(spec.encoding.codec, spec.container, format));
        let matrix = source.video.display_matrix;
        if let Some(matrix) = matrix {
            raw_output::set_display_matrix(muxer.output(), video, matrix);
        }
        raw_output::set_hdr(muxer.output(), video, &source.video.hdr);
        let view = view::of(&input, facts.index);
        view::copy(&input, facts.index, muxer.output(), video);
        if !view.is_empty() {
            muxer.allow_unofficial();
        }
        raw_output::copy_metadata(&input, muxer.output());
        let left_out = raw_output::copy_chapters(&input, muxer.output(), spec.origin, spec.stretch);
        if left_out > 0 {
            let message = format!("{left_out} chapters end before the first picture, or at once");
            warnings.push(("chapters_dropped".to_owned(), message));
        }
        let wanted_metadata = raw_output::wanted_metadata(&input);
        let exporter = Exporter::new(&plan, format).map_err(|error| MediaError::Encoder {
            encoder: plan.encoder.to_owned(),
            reason: format!("pictures cannot be converted for it: {error}"),
        })?;
        let streams = Streams::plan(input, source, (spec, copying), &mut muxer)?;
        muxer.start()?;
        let extradata = raw::extradata(&parameters);
        let identity = format!(
            "{} {} {options} {time_base} {}x{} {:?} {extradata:02x?}",
            muxer.format(),
            plan.encoder,
            plan.width,
            plan.height,
            plan.taken
        );
        let summary = WriteSummary {
            format: muxer.format(),
            encoder: plan.encoder.to_owned(),
            options,
            pixel_format: pixel_name(plan.taken),
            frames: 0,
            streams: Vec::new(),
            sidecar: None,
            warnings,
        };
        Ok(Self {
            path: temporary.to_owned(),
            muxer,
            recipe: (plan, spec.encoding.clone(), header),
            encoder: Some(encoder),
            exporter,
            streams,
            tick: raw::time_base(time_base),
            video,
            durations: BTreeMap::new(),
            last: None,
            last_dts: None,
            first_dts: None,
            end: 0,
            newest: None,
            base: None,
            keeping: None,
            identity,
            wanted_metadata,
            view,
            is_turned: matrix.is_some_and(|it| orientation::orientation(&it) != (0, false)),
            summary,
        })
    }

    /// Encodes a picture that is shown from `pts` (0 or later) for `duration`. A picture that is not a tick after the
    /// one before is put there.
    ///
    /// # Errors
    /// [`MediaError::Write`], such as a full disk. [`MediaError::Encoder`].
    pub fn write(
        &mut self,
        picture: &Picture,
        pts: Seconds,
        duration: Seconds,
    ) -> Result<(), MediaError> {
        self.write_seen(picture, None, pts, duration)
    }

    /// [`Self::write`] with the picture's transparency ([`crate::frame::Frame::alpha`]), which an encoder that takes none
    /// does not get.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_seen(
        &mut self,
        picture: &Picture,
        alpha: Option<&Picture>,
        pts: Seconds,
        duration: Seconds,
    ) -> Result<(), MediaError> {
        let time = raw::ticks(pts, self.tick);
        if time < 0 {
            return Err(MediaError::Write {
                path: self.path.clone(),
                reason: format!("the frame at {pts} s lies before the start"),
                source: None,
            });
        }
        // Frames of a damaged source can be closer than a tick of the output's clock.
        let time = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(time);
        let end = raw::ticks(pts + duration, self.tick);
        self.durations.insert(time, (end - time).max(1));
        let mut frame =
            self.exporter.export(picture, alpha).map_err(|error| self.refused(error))?;
        frame.set_pts(Some(time - *self.base.get_or_insert(time)));
        if self.encoder.is_none() {
            let (plan, encoding, header) = &self.recipe;
            self.encoder = Some(open_encoder::open(plan, encoding, header)?.0);
        }
        let sent = self.encoder.as_mut().map_or(Ok(()), |encoder| encoder.send(&frame));
        sent.map_err(|error| self.refused(error))?;
        self.summary.frames += 1;
        self.drain()
    }

    /// What must be the same in two writers for one to take the packets of the other.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Puts the packets of the segment that begins into the new file `path` as well.
    ///
    /// # Errors
    /// [`MediaError::Write`].
    pub fn keep(&mut self, path: &Path) -> Result<(), MediaError> {
        assert!(self.base.is_none(), "a segment is kept from its beginning");
        self.keeping = Some(PacketWriter::create(path)?);
        Ok(())
    }

    /// Ends a segment: the next picture begins another. Where it was to be kept ([`Self::keep`]), its file is durable.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn cut(&mut self) -> Result<Option<Kept>, MediaError> {
        self.close_encoder()?;
        self.keeping.take().map(PacketWriter::close).transpose()
    }

    /// Takes a whole segment from the file `path`, which a writer of the same [`Self::identity`] kept. Breaks off where
    /// `each`, told the number of packets so far, says so.
    ///
    /// # Errors
    /// [`MediaError::Read`] of that file; else as [`Self::write`].
    pub fn replay(
        &mut self,
        path: &Path,
        each: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), MediaError> {
        assert!(self.base.is_none(), "segments follow each other");
        let mut packets = PacketReader::open(path)?;
        while let Some(packet) = packets.next()? {
            self.last = self.last.max(packet.pts());
            self.last_dts = packet.dts().or(self.last_dts);
            self.summary.frames += 1;
            self.mux(packet)?;
            if each(self.summary.frames).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Writes what is left and completes the file.
    ///
    /// # Errors
    /// As [`Self::write`]; the file is removed then.
    pub fn finish(mut self) -> Result<WriteSummary, MediaError> {
        self.close_encoder()?;
        if let Some(last) = self.newest.take() {
            let last = self.lasting(last);
            self.put(last)?;
        }
        let ended = self.streams.finish(&mut self.muxer)?;
        self.muxer.finish()?;
        self.summary.streams = ended.outcomes;
        self.summary.sidecar = ended.sidecar;
        self.summary.warnings.extend(ended.warnings);
        let output = probe::open_container(&self.path)?;
        let written = raw_output::wanted_metadata(&output);
        if self.is_turned && orientation::of_stream(&output, self.video).is_none() {
            let message = "this FFmpeg cannot write rotation to this container; use mp4 or mov";
            self.summary.warnings.push(("rotation_lost".to_owned(), message.to_owned()));
        }
        let seen = view::of(&output, self.video);
        let unseen = self.view.iter().filter(|it| !seen.contains(it)).map(|it| it.0);
        let unseen: Vec<_> = unseen.collect();
        if !unseen.is_empty() {
            let message = format!("the container does not take: {}", unseen.join(", "));
            self.summary.warnings.push(("side_data_dropped".to_owned(), message));
        }
        let lost = |key: &&String| !written.contains(key);
        let lost: Vec<_> = self.wanted_metadata.iter().filter(lost).cloned().collect();
        if !lost.is_empty() {
            let message = format!("the container does not take these entries: {}", lost.join(", "));
            self.summary.warnings.push(("metadata_dropped".to_owned(), message));
        }
        let lost = labels::lost(&ended.in_file, &output);
        if !lost.is_empty() {
            let message = format!("the container does not take of its tracks: {}", lost.join(", "));
            self.summary.warnings.push(("metadata_dropped".to_owned(), message));
        }
        Ok(self.summary)
    }

    /// Takes the last packets of the open segment's encoder; one that got no picture stays for the next segment.
    fn close_encoder(&mut self) -> Result<(), MediaError> {
        if self.base.is_some() {
            let ended = self.encoder.as_mut().map_or(Ok(()), VideoEncoder::end);
            ended.map_err(|error| self.refused(error))?;
            self.drain()?;
            (self.encoder, self.base) = (None, None);
        }
        Ok(())
    }

    /// Writes what the encoder has ready.
    fn drain(&mut self) -> Result<(), MediaError> {
        let base = self.base.unwrap_or_default();
        while let Some(received) = self.encoder.as_mut().map(VideoEncoder::receive) {
            let Some(mut packet) = received.map_err(|error| self.refused(error))? else { break };
            let time = base + packet.pts().or(packet.dts()).unwrap_or_default();
            let duration = self.durations.remove(&time).unwrap_or(packet.duration().max(1));
            // An encoder's first dts lie as far before its first pts as its own delay, which depends on the distances of
            // its own pictures; those of the segment before may reach further.
            let dts = packet
                .dts()
                .map(|dts| self.last_dts.map_or(base + dts, |last| (base + dts).max(last + 1)));
            self.last_dts = dts.or(self.last_dts);
            packet.set_pts(Some(time));
            packet.set_dts(dts);
            packet.set_duration(duration);
            if let Some(file) = &mut self.keeping {
                file.add(&packet)?;
            }
            self.mux(packet)?;
        }
        Ok(())
    }

    /// Takes a packet whose times are in the encoder's ticks, and writes the one before.
    fn mux(&mut self, packet: ffmpeg::Packet) -> Result<(), MediaError> {
        self.first_dts = self.first_dts.or(packet.dts());
        self.end = self.end.max(packet.pts().unwrap_or_default() + packet.duration());
        match self.newest.replace(packet) {
            Some(before) => self.put(before),
            None => Ok(()),
        }
    }

    /// The last packet, decoded as late as the track's length takes. MP4 counts that in the order of decoding, where frames
    /// come earlier than they are shown, and players show nothing beyond it.
    fn lasting(&self, mut packet: ffmpeg::Packet) -> ffmpeg::Packet {
        let times = (self.first_dts, packet.dts(), packet.pts());
        let (Some(first), Some(dts), Some(pts)) = times else { return packet };
        let missing = self.end - (dts + packet.duration() - first);
        if missing > 0 {
            let later = missing.min(pts - dts).max(0);
            packet.set_dts(Some(dts + later));
            let duration = packet.duration() + missing - later;
            packet.set_duration(duration.min(self.end - pts));
        }
        packet
    }

    /// Writes a packet whose times are in the encoder's ticks, and the other streams up to there.
    fn put(&mut self, mut packet: ffmpeg::Packet) -> Result<(), MediaError> {
        let time = packet.pts().unwrap_or_default();
        self.streams.pump(self.tick * i128::from(time), &mut self.muxer)?;
        let tick = self.muxer.tick(self.video);
        let whole = |ticks: i64| raw::ticks(self.tick * i128::from(ticks), tick);
        packet.set_pts(Some(whole(time)));
        packet.set_dts(packet.dts().map(whole));
        packet.set_duration(whole(time + packet.duration()) - whole(time));
        self.muxer.write(self.video, &mut packet)
    }

    fn refused(&self, error: ffmpeg::Error) -> MediaError {
        match raw::system_error(error) {
            Some(system) if system.raw_os_error() == Some(ffmpeg::error::ENOSPC) => {
                write_error(&self.path, "the encoder cannot go on", error)
            }
            _ => MediaError::Encoder {
                encoder: self.summary.encoder.clone(),
                reason: format!("refused a picture: {error}"),
            },
        }
    }
}

/// Whether the container refuses what it is to hold: an error of FFmpeg's own, or its word for it, not of the system.
fn is_refusal(error: &MediaError) -> bool {
    use std::io::ErrorKind::{InvalidInput, Unsupported};
    match error {
        MediaError::Write { source: Some(system), .. } => {
            matches!(system.kind(), InvalidInput | Unsupported)
        }
        MediaError::Write { source: None, .. } => true,
        _ => false,
    }
}

/// Pairs of encoder and container that FFmpeg cannot write.
fn check_container(spec: &WriteSpec) -> Result<(), MediaError> {
    let reason = match (spec.encoding.codec, spec.container) {
        (Codec::Ffv1, Container::Mp4) => "MP4 cannot carry FFV1; use mkv or mov",
        (Codec::Av1, Container::Mov) => "MOV cannot carry AV1; use mp4 or mkv",
        _ => return Ok(()),
    };
    let encoder = spec.encoding.encoder().to_owned();
    Err(MediaError::Encoder { encoder, reason: reason.to_owned() })
}

/// Refuses frames closer than Matroska can tell them apart: its clock ticks once a millisecond.
fn check_rate(spec: &WriteSpec) -> Result<(), MediaError> {
    if spec.container != Container::Mkv || spec.rate <= Rate::from_integer(MKV_MAX_RATE) {
        return Ok(());
    }
    let reason = format!(
        "{:.0} frames a second are more than the {MKV_MAX_RATE} that MKV can hold; use mp4 or mov, or a lower rate",
        *spec.rate.numer() as f64 / *spec.rate.denom() as f64
    );
    let encoder = spec.encoding.encoder().to_owned();
    Err(MediaError::Unencodable { encoder, reason })
}

pub(super) fn pixel_name(pixel: ffmpeg::format::Pixel) -> String {
    raw::pixel_facts(pixel.into()).map(|it| it.name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_errors_of_writing_and_have_a_reason() {
        use ffmpeg::error::{EINVAL, EIO, ENOSPC, EROFS};
        super::super::quiet();
        let of = |error| write_error(Path::new("a.mp4"), "the header cannot be written", error);
        let other = |errno| ffmpeg::Error::Other { errno };
        // FFmpeg 5.1's of FLAC in MP4, and that of Opus in MOV.
        for error in [ffmpeg::Error::Experimental, ffmpeg::Error::PatchWelcome, other(EINVAL)] {
            let error = of(error);
            assert!(is_refusal(&error), "{error}");
            assert!(!error.to_string().trim_end().ends_with(':'), "no reason: {error}");
        }
        for errno in [ENOSPC, EIO, EROFS] {
            assert!(!is_refusal(&of(other(errno))), "{errno}");
        }
    }

    #[test]
    fn readers_and_writers_can_live_in_threads_of_their_own() {
        fn is_send<T: Send>() {}
        is_send::<Writer>();
        is_send::<super::super::decode::Decoder>();
    }
}
