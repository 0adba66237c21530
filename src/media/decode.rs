//! Decodes the video of a clip, frame by frame, in the order it is shown, with exact times.
//!
//! Times come from the frames, in rationals. A time that does not follow its predecessor is repaired by [`Clock`].

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::frame::{Video, side_data};

use super::MediaError;
use super::alpha;
use super::clip::{ClipInfo, DecodeStats};
use super::clock::Clock;
use super::damage::Damage;
use super::deinterlace::{Deinterlacer, Pictures, Which};
use super::feed::Feed;
use super::orientation;
use super::picture::Importer;
use super::probe::{self, unusable};
use super::raw::{self, FieldOrder};
use super::shown_as::ShownAs;
use crate::config::settings::Interlaced;
use crate::frame::{Frame, Seconds};

/// FFmpeg's name of the tag for the time code of the first frame.
const TIME_CODE: &str = "timecode";

/// Decodes one clip. Frames come in presentation order with strictly increasing times.
pub struct Decoder {
    info: ClipInfo,
    feed: Feed,
    importer: Importer,
    clock: Clock,
    fields: Fields,
    shown_as: ShownAs,
    frame: Video,
    /// The picture behind `frame`, where it was needed to tell the time of that.
    ahead: Option<Video>,
    /// Frames that came out of the decoder.
    taken: u64,
    /// Whether the filter was told that no more frames come.
    drained: bool,
    /// The first frame, decoded when opening to learn what the decoder really hands out.
    first: Option<Frame>,
    index: u64,
    /// Of frames inside the filter: their times in the container's ticks, and their damage.
    damage: VecDeque<(Option<Seconds>, Damage)>,
    /// Damage of the newest frame, which is the first one until that is handed out.
    shown: Damage,
}

/// What is done with interlaced pictures.
struct Fields {
    wanted: Interlaced,
    by_header: Option<FieldOrder>,
    filter: Option<Deinterlacer>,
    /// Whether an interlaced picture was met, or the container says that all are.
    met: bool,
}

impl Decoder {
    /// [`Self::open_as`], interlaced pictures as they are.
    ///
    /// # Errors
    /// As [`Self::open_as`].
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        Self::open_as(path, Interlaced::Keep)
    }

    /// Opens a clip and decodes its first frame, so that [`Self::info`] is what the frames are.
    ///
    /// # Errors
    /// [`MediaError::Read`] and [`MediaError::Unusable`], as [`super::probe()`]; also where no decoder opens, and
    /// (`interlaced`) where interlaced pictures are to be refused or cannot be made whole.
    pub fn open_as(path: &Path, interlaced: Interlaced) -> Result<Self, MediaError> {
        let opened = probe::open(path)?;
        let info = opened.info.clone();
        let broken = |error: ffmpeg::Error| {
            let reason = format!("its video ({}) cannot be decoded: {error}", info.video.codec);
            unusable(path, "not_decodable", reason)
        };
        let stored = opened.facts.pixel.unwrap_or(ffi::AVPixelFormat::AV_PIX_FMT_NONE);
        let importer = Importer::new(stored, &opened.layout, info.video.picture).map_err(broken)?;
        let clock = Clock::new(opened.facts.time_base, info.video.rate.map(|rate| rate.recip()));
        let fields = Fields {
            wanted: interlaced,
            by_header: opened.facts.field_order,
            filter: None,
            met: false,
        };
        let feed = Feed::open(path, opened).map_err(broken)?;
        let mut decoder = Self {
            feed,
            info,
            importer,
            clock,
            fields,
            shown_as: ShownAs::default(),
            frame: Video::empty(),
            ahead: None,
            taken: 0,
            drained: false,
            first: None,
            index: 0,
            damage: VecDeque::new(),
            shown: Damage::default(),
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

    /// What lies before and in the frame that [`Self::next_frame`] gave last; after the end, what lies behind the last.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.shown
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
        let (picture, alpha) = self.importer.import(&self.frame).map_err(|error| {
            unusable(
                &self.info.path,
                "pixel_format",
                format!("pictures cannot be converted: {error}"),
            )
        })?;
        let stats = &mut self.feed.stats;
        stats.seen_through |=
            !stats.seen_through && alpha.as_ref().is_some_and(alpha::is_seen_through);
        let index = self.index;
        self.index += 1;
        let (picture, alpha) = (Arc::new(picture), alpha.map(Arc::new));
        Ok(Frame { index, pts, duration, picture, alpha })
    }

    /// Decodes the next frame into `self.frame` without copying its samples, and says when it is shown.
    fn next_times(&mut self) -> Result<Option<(Seconds, Option<Seconds>)>, MediaError> {
        match self.ahead.take() {
            Some(ahead) => self.frame = ahead,
            None if self.next_picture()? => {}
            None => {
                self.shown = Damage { lost: self.feed.losses.end(), marred: false };
                return Ok(None);
            }
        }
        let time = self.time();
        let (wrong, pts) = match self.clock.doubts(time) {
            true => self.clock_with_next(time)?,
            false => (false, self.clock.place(time)),
        };
        let time = time.filter(|_| !wrong);
        match wrong {
            // Its time says nothing of the frames around it.
            true => self.shown = self.damage.pop_front().map(|it| it.1).unwrap_or_default(),
            false => self.take_damage(time),
        }
        // What the header says is in the container's times.
        let end = self.info.video.end.filter(|_| !self.clock.is_moved());
        let to_end = time.and_then(|time| Some(end? - time));
        if let Some(to_end) = to_end.filter(|it| *it > Seconds::default()) {
            return Ok(Some((pts, Some(self.clock.regular_duration(to_end)))));
        }
        let duration = self.frame.packet().duration;
        let duration = (duration > 0).then(|| {
            let duration = self.clock.regular_duration(self.clock.tick() * i128::from(duration));
            self.fields.filter.as_ref().map_or(duration, |it| it.duration(duration))
        });
        Ok(Some((pts, duration)))
    }

    /// The time of `self.frame` by the container.
    fn time(&self) -> Option<Seconds> {
        let (filter, frame) = (self.fields.filter.as_ref(), &self.frame);
        let tick = filter.map_or(self.clock.tick(), Deinterlacer::tick);
        let time = match filter {
            // The other time is that of the frame that went in.
            Some(_) => frame.pts(),
            None => frame.timestamp().or(frame.pts()),
        };
        time.map(|count| tick * i128::from(count))
    }

    /// Where `self.frame` is, whose time is in doubt: the picture behind it tells, and waits in `self.ahead`.
    fn clock_with_next(&mut self, time: Option<Seconds>) -> Result<(bool, Seconds), MediaError> {
        let this = std::mem::replace(&mut self.frame, Video::empty());
        let is_more = self.next_picture()?;
        let next = self.time().filter(|_| is_more);
        let ahead = std::mem::replace(&mut self.frame, this);
        self.ahead = is_more.then_some(ahead);
        Ok(self.clock.place_before(time, next))
    }

    /// The next whole picture into `self.frame`; false at the end.
    fn next_picture(&mut self) -> Result<bool, MediaError> {
        loop {
            if let Some(filter) = &mut self.fields.filter {
                let pulled = filter.pull(&mut self.frame);
                if pulled.map_err(|error| cannot_deinterlace(&self.info.path, error))? {
                    return Ok(true);
                }
                if self.drained {
                    return Ok(false);
                }
            }
            let received = self.next_decoded()?;
            if received && self.taken == 1 {
                let (of_frame, hdr) = (raw::frame_hdr(&self.frame), &mut self.info.video.hdr);
                hdr.mastering_display = of_frame.mastering_display.or(hdr.mastering_display.take());
                hdr.content_light = of_frame.content_light.or(hdr.content_light.take());
                self.meet_orientation();
                let is_known = self.info.tags.iter().any(|it| it.0.eq_ignore_ascii_case(TIME_CODE));
                let code = time_code(&self.frame).filter(|_| !is_known);
                self.info.tags.extend(code.map(|code| (TIME_CODE.to_owned(), code)));
            }
            // What a damaged frame says of itself decides nothing.
            let sound = self.taken == 1 || self.damage.back().is_some_and(|it| !it.1.marred);
            if received && !self.fields.met && sound {
                self.meet_fields()?;
            }
            match &mut self.fields.filter {
                None => {
                    self.feed.stats.interlaced += u64::from(received && self.frame.is_interlaced());
                    return Ok(received);
                }
                Some(filter) => {
                    self.drained = !received;
                    let pushed = filter.push(received.then_some(&mut self.frame));
                    pushed.map_err(|error| cannot_deinterlace(&self.info.path, error))?;
                }
            }
        }
    }

    /// The next frame of the decoder, with its damage.
    fn next_decoded(&mut self) -> Result<bool, MediaError> {
        if !self.feed.receive(&mut self.frame)? {
            return Ok(false);
        }
        if !self.importer.fits(&self.frame) {
            self.adopt_or_refuse()?;
        }
        self.taken += 1;
        self.feed.stats.frame_data.extend(raw::frame_data(&self.frame));
        let time = self.frame.timestamp().or(self.frame.pts());
        let mut damage = self.feed.losses.shown(self.frame.pts().or(time));
        self.feed.count_unsaid();
        damage.marred |= self.feed.marred;
        let time = time.map(|it| self.clock.tick() * i128::from(it));
        let stats = &mut self.feed.stats;
        // What a damaged frame says of itself is not believed.
        if stats.shown_otherwise.is_none() && !damage.marred {
            let otherwise = self.shown_as.take(&self.frame);
            stats.shown_otherwise = otherwise.map(|it| (self.taken - 1, time, it));
        }
        self.damage.push_back((time, damage));
        Ok(true)
    }

    /// Gathers the damage of all frames up to the one shown at `time`.
    fn take_damage(&mut self, time: Option<Seconds>) {
        let mut shown = Damage::default();
        let is_of_it =
            |its: &Option<Seconds>| its.is_none_or(|its| time.is_none_or(|it| its <= it));
        while let Some((_, damage)) = self.damage.front().filter(|it| is_of_it(&it.0)) {
            shown.lost += damage.lost;
            shown.marred |= damage.marred;
            self.damage.pop_front();
        }
        self.shown = shown;
    }

    /// Takes what the first frame says of how it is to be shown, where the container says nothing.
    fn meet_orientation(&mut self) {
        let video = &mut self.info.video;
        if video.display_matrix.is_none()
            && let Some(matrix) = orientation::of_frame(&self.frame)
        {
            video.display_matrix = Some(matrix);
            (video.rotation_degrees, video.mirrored) = orientation::orientation(&matrix);
        }
    }

    /// Decides what is done with fields at the first frame that has some: `self.frame`, where the first says nothing a later
    /// one.
    fn meet_fields(&mut self) -> Result<(), MediaError> {
        let (first, marked) = (self.taken == 1, self.frame.is_interlaced());
        let which = match self.fields.by_header.filter(|_| first) {
            _ if marked => Which::Marked,
            Some(order) => Which::All { top_first: order == FieldOrder::TopFirst },
            None => return Ok(()),
        };
        self.fields.met = true;
        if !first {
            self.feed.stats.interlaced_from = Some(self.taken - 1);
        }
        let pictures = match self.fields.wanted {
            Interlaced::Keep => None,
            Interlaced::Refuse => {
                let from = match first {
                    true => String::new(),
                    false => format!(" from frame {} on", self.taken - 1),
                };
                let reason = format!(
                    "its pictures are interlaced{from}, and the settings refuse such clips; set interlaced = \"deinterlace\" (--interlaced deinterlace)"
                );
                return Err(unusable(&self.info.path, "interlaced", reason));
            }
            Interlaced::Deinterlace => Some(Pictures::OneAFrame),
            Interlaced::Fields => Some(Pictures::OneAField),
        };
        // What is said of a clip is handed out when it is opened; of later frames it is counted.
        if first {
            let (code, message) = of_fields(pictures);
            self.info.warnings.push((code.to_owned(), message.to_owned()));
        }
        let Some(pictures) = pictures else { return Ok(()) };
        let filter = Deinterlacer::new(&self.frame, self.clock.tick(), which, pictures);
        let filter = filter.map_err(|error| cannot_deinterlace(&self.info.path, error))?;
        self.fields.filter = Some(filter);
        if first && pictures == Pictures::OneAField {
            let video = &mut self.info.video;
            video.rate = video.rate.map(|rate| rate * 2);
            video.frames_promised = video.frames_promised.map(|count| count * 2);
            self.clock = Clock::new(self.clock.tick(), video.rate.map(|rate| rate.recip()));
        }
        Ok(())
    }

    /// Headers may be wrong about the first frame; later ones must be like it.
    fn adopt_or_refuse(&mut self) -> Result<(), MediaError> {
        let picture = self.info.video.picture;
        let found = raw::frame_format(&self.frame);
        let name = found.and_then(raw::pixel_facts).map(|it| it.name).unwrap_or_default();
        let (width_px, height_px) = (self.frame.width() as usize, self.frame.height() as usize);
        if self.taken > 0 {
            let reason = format!(
                "at frame {} the picture changes from {}x{} {} to {width_px}x{height_px} {name}; cut the clip there",
                self.taken, picture.width_px, picture.height_px, self.info.video.pixel_format,
            );
            return Err(unusable(&self.info.path, "format_changes", reason));
        }
        let layout = found.and_then(super::picture::layout).ok_or_else(|| {
            let reason = format!("pictures of format {name} cannot be worked");
            unusable(&self.info.path, "pixel_format", reason)
        })?;
        let path = self.info.path.clone();
        probe::check_size(&path, self.frame.width(), self.frame.height())?;
        let tag = self.frame.color_space().into();
        let adopted = crate::frame::PictureFormat {
            width_px,
            height_px,
            chroma: layout.chroma,
            matrix: super::picture::matrix(tag, height_px),
            range: super::picture::range(self.frame.color_range().into(), &layout),
            depth: layout.depth,
        };
        let stored = found.unwrap_or(ffi::AVPixelFormat::AV_PIX_FMT_NONE);
        self.importer = Importer::new(stored, &layout, adopted)
            .map_err(|error| unusable(&path, "pixel_format", error.to_string()))?;
        self.info.video.picture = adopted;
        self.info.video.alpha = layout.alpha;
        self.info.video.pixel_format = name;
        let warnings = &mut self.info.warnings;
        warnings.extend(layout.warnings);
        warnings.retain(|it| it.0 != "matrix_assumed");
        warnings.extend(super::picture::assumed(tag, layout.chroma, adopted.matrix));
        Ok(())
    }

    /// Decodes to the end, or until `each` (told the number of frames so far) breaks off, without copying pictures:
    /// times of the first and of the last frame.
    pub(super) fn run_through(
        &mut self,
        each: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<(Seconds, Seconds)>, MediaError> {
        let Some(first) = self.first.take() else { return Ok(None) };
        let mut last = first.pts;
        while let Some((pts, _)) = self.next_times()? {
            self.index += 1;
            last = pts;
            if each(self.index).is_break() {
                break;
            }
        }
        Ok(Some((first.pts, last)))
    }

    /// Decodes to the end, or until `each` breaks off, which is told the number of every frame and sees those that `wants`
    /// asks for: times of the first and of the last frame.
    pub(super) fn run_through_pictures(
        &mut self,
        wants: &dyn Fn(u64) -> bool,
        each: &mut dyn FnMut(u64, Option<&Frame>) -> ControlFlow<()>,
    ) -> Result<Option<(Seconds, Seconds)>, MediaError> {
        let mut span: Option<(Seconds, Seconds)> = None;
        loop {
            let (pts, number, frame) = match self.first.take() {
                Some(first) => (first.pts, 0, Some(first)),
                None => {
                    let Some((pts, duration)) = self.next_times()? else { break };
                    let number = self.index;
                    let frame = wants(number).then(|| self.copied(pts, duration)).transpose()?;
                    self.index += u64::from(frame.is_none());
                    (pts, number, frame)
                }
            };
            span = Some((span.map_or(pts, |it| it.0), pts));
            if each(number, frame.as_ref().filter(|_| wants(number))).is_break() {
                break;
            }
        }
        Ok(span)
    }
}

/// What is to be said of a clip whose interlaced pictures are made whole, or not.
fn of_fields(pictures: Option<Pictures>) -> (&'static str, &'static str) {
    match pictures {
        None => {
            ("interlaced", "the fields of interlaced pictures are worked together, as one picture")
        }
        Some(Pictures::OneAFrame) => (
            "deinterlaced",
            "its pictures are interlaced: bwdif makes a whole one of each frame, and these count as the real ones",
        ),
        Some(Pictures::OneAField) => (
            "deinterlaced",
            "its pictures are interlaced: bwdif makes a whole one of each field, at twice the rate, and these count as the real ones",
        ),
    }
}

/// The time code of a group of pictures (MPEG-1 and 2: hours, minutes, seconds, pictures, and whether numbers are left out).
/// One from 0 is an encoder's own count, and none.
fn time_code(frame: &Video) -> Option<String> {
    let data = frame.side_data(side_data::Type::GOPTimecode)?;
    let bits = i64::from_ne_bytes(data.data().get(..8)?.try_into().ok()?);
    let part = |from: u32, count: u32| bits >> from & ((1 << count) - 1);
    let (hours, minutes, seconds, pictures) = (part(19, 5), part(13, 6), part(6, 6), part(0, 6));
    let mark = if part(24, 1) == 1 { ';' } else { ':' };
    (hours + minutes + seconds + pictures > 0)
        .then(|| format!("{hours:02}:{minutes:02}:{seconds:02}{mark}{pictures:02}"))
}

fn cannot_deinterlace(path: &Path, error: ffmpeg::Error) -> MediaError {
    let reason = format!(
        "its interlaced pictures cannot be made whole: {error}; set interlaced = \"keep\" (--interlaced keep)"
    );
    unusable(path, "interlaced", reason)
}
