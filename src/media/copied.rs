//! A stream whose packets are copied: moved to where the output has them, and nothing else.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::media::Type;

use super::MediaError;
use super::left_out::Lack;
use super::mux::Muxer;
use super::raw::{self, StreamFacts};
use super::raw_output;
use crate::config::settings::Container;
use crate::frame::Seconds;

/// Bytes of the texts that MP4 fills the time between subtitles with.
const EMPTY_TEXT: usize = 2;

/// A stream whose packets are copied.
pub(super) struct Copied {
    out: usize,
    tick_in: Seconds,
    /// Output seconds for each source second.
    stretch: Seconds,
    last_dts: Option<i64>,
    /// Whether it is a picture for the whole clip, which has no time.
    cover: bool,
    kind: Type,
    /// What lies before the first picture.
    early: Lack,
    /// Packets that were left out because their time was over when they came.
    pub(super) late: u64,
}

impl Copied {
    /// Adds the output stream; none where the source no longer has its own.
    pub(super) fn open(
        input: &Input,
        facts: &StreamFacts,
        (origin, stretch): (Seconds, Seconds),
        muxer: &mut Muxer,
    ) -> Result<Option<Self>, MediaError> {
        let Some(stream) = input.stream(facts.index) else { return Ok(None) };
        let time_base = match facts.sample_rate {
            rate if facts.kind == Type::Audio && rate > 0 => ffmpeg::Rational::new(1, rate),
            _ => stream.time_base(),
        };
        let out = muxer.add_stream(&stream.parameters(), time_base)?;
        raw_output::set_stream(muxer.output(), out, facts.disposition, None);
        raw_output::copy_stream_metadata(input, facts.index, muxer.output(), out);
        // An edit list hides the lead-in, and the stream starts behind it.
        let hidden = match input.format().name().contains("mp4") {
            true => raw_output::lead_in(muxer.output(), out),
            false => Seconds::default(),
        };
        if muxer.container() == Container::Mkv && facts.start.is_some_and(|it| it - hidden < origin)
        {
            // The packet that the lead-in is in will be left out: decoders must not drop it from the next.
            raw_output::forget_lead_in(muxer.output(), out);
        }
        Ok(Some(Self {
            out,
            tick_in: facts.time_base,
            stretch,
            last_dts: None,
            cover: facts.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0,
            kind: facts.kind,
            early: Lack::default(),
            late: 0,
        }))
    }

    /// What is missing of it in the end.
    pub(super) fn lack(&self) -> Lack {
        // Attachments are in the header, and a cover has no time.
        let has_packets = !self.cover && self.kind != Type::Attachment;
        Lack { all: has_packets && self.last_dts.is_none(), ..self.early }
    }

    /// Counts sound that is left out, by its output times.
    fn note_early(&mut self, packet: &ffmpeg::Packet, start: Seconds, length: Seconds) {
        if self.kind == Type::Audio && !is_hidden(packet) {
            self.early.sound += length.min(-start) / self.stretch;
        }
    }

    /// Writes the packet moved by `-origin`; its output time. What would start before 0 is left out, except where the
    /// container hides it (MP4's edit list), as an audio decoder needs the packet before the first it plays. Of a subtitle
    /// that is still shown at 0 the rest is kept.
    pub(super) fn write(
        &mut self,
        mut packet: ffmpeg::Packet,
        origin: Seconds,
        muxer: &mut Muxer,
    ) -> Result<Option<Seconds>, MediaError> {
        if self.cover {
            packet.set_pts(Some(0));
            packet.set_dts(Some(0));
            muxer.write(self.out, &mut packet)?;
            return Ok(None);
        }
        let Some(time) = packet.pts().or(packet.dts()) else { return Ok(None) };
        let seconds = |ticks: i64| self.tick_in * i128::from(ticks);
        let mut start = (seconds(time) - origin) * self.stretch;
        let mut length = seconds(packet.duration().max(0)) * self.stretch;
        let zero = Seconds::default();
        if self.kind == Type::Subtitle && start < zero {
            if start + length <= zero {
                self.early.subtitles += u64::from(packet.size() > EMPTY_TEXT);
                return Ok(Some(start));
            }
            (start, length) = (zero, start + length);
            packet.set_dts(None);
        }
        let before = match muxer.container() {
            Container::Mkv => start < zero,
            Container::Mp4 | Container::Mov => start + length * 2 <= zero,
        };
        if before {
            self.note_early(&packet, start, length);
            return Ok(Some(start));
        }
        let tick = muxer.tick(self.out);
        let pts = raw::ticks(start, tick);
        let dts =
            packet.dts().map_or(pts, |it| raw::ticks((seconds(it) - origin) * self.stretch, tick));
        let dts = dts.min(pts);
        // Matroska's clock is coarse, and it takes packets of one time: texts that are shown together, parts of a picture of
        // subtitles, frames of TrueHD, which last less than a tick.
        let apart = i64::from(muxer.container() != Container::Mkv);
        let dts = self.last_dts.map_or(dts, |last| dts.max(last + apart));
        if dts > pts.saturating_add(raw::ticks(length, tick).max(1)) {
            // Between two parts of an edit list comes all that lies before the second.
            self.late += u64::from(!is_hidden(&packet));
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

/// Whether an edit list hides it: it is no part of the clip.
fn is_hidden(packet: &ffmpeg::Packet) -> bool {
    raw::packet_flags(packet) & ffi::AV_PKT_FLAG_DISCARD != 0
}
