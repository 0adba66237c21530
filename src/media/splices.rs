//! Where the clock of a clip starts again or jumps, as where recordings were put behind each other: by how much the packets of
//! all streams are moved from there on, so that sound and subtitles stay with the picture, whose times
//! [`super::clock::Clock`] moves alike.
//!
//! The jumps are the picture's, in the order of the file. There packets of one moment lie apart by up to seconds, so every
//! stream passes a jump by itself: sound where its own times jump, and what comes seldom where that brings it nearer to the
//! picture. A packet that fits to no jump so far waits a little for the picture's.
//!
//! A time that is wrong is no jump: where times come back to where they were, the picture's does not count, and sound in between
//! is put where it belongs.

use std::collections::VecDeque;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use num_rational::Ratio;

use super::clock::Clock;
use super::raw;
use crate::frame::Seconds;

/// Jumps that are remembered.
const MOST_JUMPS: usize = 8;
/// Packets that wait for a jump of the picture at the most.
const MOST_WAITING: usize = 512;
/// How long, in seconds of the picture.
const LONGEST_WAIT_S: i128 = 2;
/// Sound that is no further from where it was, in seconds, goes on.
const GOES_ON_S: i128 = 1;
/// Packets of sound in a row whose times may be wrong together, as those within one packet of a transport stream are.
const MOST_WRONG: usize = 64;
/// How much later than it is decoded, in seconds, a picture may be shown.
const LONGEST_DELAY_S: i128 = 10;

/// A stream beside the picture.
#[derive(Clone, Copy)]
pub(super) struct Course {
    /// Seconds a tick.
    pub(super) tick: Seconds,
    /// Whether it is sound, which has no pauses.
    pub(super) is_sound: bool,
    /// Number of the jump that it passed last, and what is added to its times since.
    passed: u64,
    shift: Seconds,
    /// Where it is, moved, and how long its newest packet lasts.
    at: Option<Seconds>,
    lasts: Seconds,
}

impl Course {
    pub(super) fn new(tick: Seconds, is_sound: bool) -> Self {
        Self {
            tick,
            is_sound,
            passed: 0,
            shift: Seconds::default(),
            at: None,
            lasts: Seconds::default(),
        }
    }
}

/// Moves packets, in the order of the file.
pub(super) struct Splices {
    /// Number of the picture's stream.
    picture: usize,
    /// How long a frame lasts.
    nominal: Seconds,
    streams: Vec<Course>,
    /// The newest jumps of the picture: their numbers, and what is added to times behind each.
    jumps: VecDeque<(u64, Seconds)>,
    /// Time of decoding of the picture's newest packet, and its latest time shown, moved.
    decoded: Option<Seconds>,
    shown: Option<Seconds>,
    /// Times of decoding and showing of a packet of the picture that may be wrong.
    doubtful: Option<(Seconds, Seconds)>,
    /// Packets of sound at wrong times.
    wrong: u64,
    queue: VecDeque<ffmpeg::Packet>,
    /// Jumps and place of the picture when the first of the queue began to wait.
    since: Option<(u64, Option<Seconds>)>,
    ended: bool,
}

impl Splices {
    /// Of a clip with these streams, whose worked picture is stream `picture` with frames that last `nominal`.
    pub(super) fn new(picture: usize, nominal: Seconds, streams: Vec<Course>) -> Self {
        Self {
            picture,
            nominal,
            streams,
            jumps: VecDeque::from([(0, Seconds::default())]),
            decoded: None,
            shown: None,
            doubtful: None,
            wrong: 0,
            queue: VecDeque::new(),
            since: None,
            ended: false,
        }
    }

    /// Takes the next packet of the file.
    pub(super) fn take(&mut self, packet: ffmpeg::Packet) {
        match packet.stream() {
            number if number == self.picture => self.follow(&packet),
            number if number < self.streams.len() => self.queue.push_back(packet),
            // One that the header did not name; the decoder's own reader says so.
            _ => {}
        }
    }

    /// How many packets of sound were at wrong times so far.
    pub(super) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// That no packet comes any more.
    pub(super) fn end(&mut self) {
        if let Some((dts, pts)) = self.doubtful.take() {
            self.reach(dts, pts);
        }
        self.ended = true;
    }

    /// The next packet that is not the picture's, with the ticks that it was moved by; `None` where one has to be taken first.
    pub(super) fn next(&mut self) -> Option<(ffmpeg::Packet, i64)> {
        let packet = self.queue.front()?;
        let (stream, time) = (packet.stream(), packet.dts().or(packet.pts()));
        let course = *self.streams.get(stream)?;
        let shift = match time {
            None => course.shift,
            Some(time) => self.place(stream, course, course.tick * i128::from(time))?,
        };
        self.since = None;
        let mut packet = self.queue.pop_front()?;
        if let Some(course) = self.streams.get_mut(stream) {
            course.lasts = course.tick * i128::from(packet.duration().max(0));
        }
        let ticks = raw::ticks(shift, course.tick);
        packet.set_pts(packet.pts().map(|it| it.saturating_add(ticks)));
        packet.set_dts(packet.dts().map(|it| it.saturating_add(ticks)));
        Some((packet, ticks))
    }

    /// Follows the picture, which jumps where the decoder's clock finds it to jump.
    fn follow(&mut self, packet: &ffmpeg::Packet) {
        let Some(tick) = self.streams.get(self.picture).map(|it| it.tick) else { return };
        // What the container says not to show is decoded, and gives no picture a time.
        if raw::packet_flags(packet) & ffi::AV_PKT_FLAG_DISCARD != 0 {
            return;
        }
        let seconds = |it: i64| tick * i128::from(it);
        // Times shown go to and fro where frames are stored in another order.
        let (Some(dts), shown) = (packet.dts().map(seconds), packet.pts().map(seconds)) else {
            return;
        };
        let pts = shown.unwrap_or(dts);
        if let Some((wrong, shown)) = self.doubtful.take()
            && !self
                .decoded
                .is_some_and(|at| Clock::comes_back(at, dts + self.newest().1, self.nominal))
        {
            self.reach(wrong, shown);
        }
        match self.decoded {
            Some(at) if Clock::is_doubtful(at, dts + self.newest().1, self.nominal) => {
                self.doubtful = Some((dts, pts));
            }
            _ => self.reach(dts, pts),
        }
    }

    /// The picture is at these times of decoding and showing.
    fn reach(&mut self, dts: Seconds, pts: Seconds) {
        let (number, mut shift) = self.newest();
        if let (Some(decoded), Some(shown)) = (self.decoded, self.shown)
            && Clock::is_jump(decoded, dts + shift)
        {
            shift = shown + self.nominal - pts;
            self.jumps.push_back((number + 1, shift));
            if self.jumps.len() > MOST_JUMPS {
                self.jumps.pop_front();
            }
        }
        self.decoded = Some(dts + shift);
        if pts - dts <= Ratio::from_integer(LONGEST_DELAY_S) {
            self.shown = self.shown.max(Some(pts + shift));
        }
    }

    fn newest(&self) -> (u64, Seconds) {
        self.jumps.back().copied().unwrap_or_default()
    }

    /// What is added to the time of a packet; `None` where the picture's next jump has to be waited for.
    fn place(&mut self, stream: usize, course: Course, time: Seconds) -> Option<Seconds> {
        let apart = |a: Seconds, b: Seconds| if a > b { a - b } else { b - a };
        let mut found = (course.passed, course.shift);
        let own = course.at.filter(|_| course.is_sound);
        let near = Ratio::from_integer(GOES_ON_S);
        let goes_on = own.is_some_and(|at| apart(at, time + found.1) <= near);
        if let Some(now) = self.decoded.filter(|_| !goes_on) {
            for later in self.jumps.iter().filter(|it| it.0 > course.passed) {
                if apart(now, time + later.1) < apart(now, time + found.1) {
                    found = *later;
                }
            }
            let newest = self.newest().0;
            let is_far =
                own.filter(|at| found.0 == course.passed && apart(*at, time + found.1) > near);
            let returns = is_far.and_then(|at| self.returns(stream, at, found.1));
            if let (Some(at), Some(true)) = (is_far, returns) {
                found.1 = at + course.lasts - time;
                self.wrong += 1;
                if let Some(course) = self.streams.get_mut(stream) {
                    course.at = Some(at + course.lasts);
                }
                return Some(found.1);
            }
            let jumps = found.0 == newest && Clock::is_jump(own.unwrap_or(now), time + found.1);
            let waits = jumps || is_far.is_some() && returns.is_none();
            if waits && !self.has_waited() {
                self.since.get_or_insert((newest, self.decoded));
                return None;
            }
        }
        if let Some(course) = self.streams.get_mut(stream) {
            (course.passed, course.shift, course.at) = (found.0, found.1, Some(time + found.1));
        }
        Some(found.1)
    }

    /// Whether sound that was at `at` comes back there behind the first of the queue, moved by `shift`; `None` where that cannot
    /// be said yet.
    fn returns(&self, stream: usize, at: Seconds, shift: Seconds) -> Option<bool> {
        let tick = self.streams.get(stream)?.tick;
        let seconds = |it: i64| tick * i128::from(it);
        let (mut seen, mut expected) = (0, at);
        for packet in self.queue.iter().filter(|it| it.stream() == stream) {
            if let Some(time) = packet.dts().or(packet.pts()).filter(|_| seen > 0) {
                let off = seconds(time) + shift - expected;
                if off <= Ratio::from_integer(GOES_ON_S) && -off <= Ratio::from_integer(GOES_ON_S) {
                    return Some(true);
                }
            }
            expected += seconds(packet.duration().max(0));
            seen += 1;
        }
        (seen > MOST_WRONG).then_some(false)
    }

    /// Whether the first of the queue has waited long enough for the picture.
    fn has_waited(&self) -> bool {
        let long = |from: Seconds, to: Seconds| to - from > Ratio::from_integer(LONGEST_WAIT_S);
        let is_long = |&(jumps, decoded): &(u64, Option<Seconds>)| {
            jumps < self.newest().0
                || decoded.zip(self.decoded).is_some_and(|(from, to)| long(from, to))
        };
        self.ended || self.queue.len() > MOST_WAITING || self.since.as_ref().is_some_and(is_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Seconds = Ratio::new_raw(1, 1000);

    fn splices() -> Splices {
        let courses = [false, true, false].map(|is_sound| Course::new(TICK, is_sound));
        Splices::new(0, Ratio::new(1, 25), courses.to_vec())
    }

    /// Where packets (stream, milliseconds) come to lie, those of the picture left out.
    fn placed(given: &[(usize, i64)]) -> Vec<(usize, i64)> {
        let mut splices = splices();
        let mut all = Vec::new();
        let mut drain = |splices: &mut Splices| {
            while let Some((packet, _)) = splices.next() {
                all.push((packet.stream(), packet.pts().unwrap()));
            }
        };
        for (stream, time) in given {
            let mut packet = ffmpeg::Packet::empty();
            packet.set_stream(*stream);
            packet.set_pts(Some(*time));
            packet.set_dts(Some(*time));
            splices.take(packet);
            drain(&mut splices);
        }
        splices.end();
        drain(&mut splices);
        all
    }

    /// Two seconds of picture and sound; the latter leads by `lead` milliseconds in the file.
    fn part(from: i64, lead: i64) -> Vec<(i64, (usize, i64))> {
        let picture = (0..50).map(|it| (it * 40, (0, from + it * 40)));
        let sound = (0..100).map(|it| (it * 20 - lead, (1, from + it * 20)));
        let texts = [300, 1700].map(|it| (it, (2, from + it)));
        picture.chain(sound).chain(texts).collect()
    }

    #[test]
    fn every_stream_goes_on_behind_a_jump_wherever_its_packets_lie() {
        for starts in [[5_000, 5_000], [5_000, 1_000], [100, 900_100], [90_000_000, 0]] {
            for lead in [-400, 0, 400] {
                let parts = starts.into_iter().enumerate().flat_map(|(number, from)| {
                    let later = move |(at, it)| (at + number as i64 * 2_000, it);
                    part(from, lead).into_iter().map(later)
                });
                let mut file: Vec<_> = parts.collect();
                file.sort_by_key(|it| it.0);
                let file: Vec<_> = file.into_iter().map(|it| it.1).collect();
                let found = placed(&file);
                let of = |stream| found.iter().filter(move |it| it.0 == stream).map(|it| it.1);
                let sound: Vec<_> = (0..200).map(|it| starts[0] + it * 20).collect();
                assert_eq!(of(1).collect::<Vec<_>>(), sound, "{starts:?} {lead}");
                let texts = [300, 1_700, 2_300, 3_700].map(|it| starts[0] + it);
                assert_eq!(of(2).collect::<Vec<_>>(), texts, "{starts:?} {lead}");
            }
        }
    }

    #[test]
    fn without_a_jump_of_the_picture_nothing_is_moved_or_lost() {
        let mut file: Vec<_> = (0..200).map(|it| (0, it * 40)).collect();
        // Sound that jumps by itself, with a wrong time in between, and a text that is late.
        let sound = [0, 20, 5_000, 2_000, 2_020, 9_000_000, 2_040].map(|time| (1, time));
        file.splice(100..100, sound.into_iter().chain([(2, 1_000)]));
        let mut others: Vec<_> = file.iter().copied().filter(|it| it.0 != 0).collect();
        // Packets without a duration last no time.
        others[5].1 = 2_020;
        assert_eq!(placed(&file), others);
    }

    #[test]
    fn sound_at_wrong_times_is_put_where_it_belongs() {
        for wrong in [746_000, -746_000, 95_443_717] {
            let mut file: Vec<_> = part(0, 0);
            file.sort_by_key(|it| it.0);
            let mut file: Vec<_> = file.into_iter().map(|it| it.1).collect();
            let mut expected: Vec<_> = file.iter().copied().filter(|it| it.0 != 0).collect();
            let sound = |(stream, time): &(usize, i64)| *stream == 1 && (600..720).contains(time);
            file.iter_mut().filter(|it| sound(it)).for_each(|it| it.1 += wrong);
            expected.iter_mut().filter(|it| sound(it)).for_each(|it| it.1 = 580);
            assert_eq!(placed(&file), expected, "{wrong}");
        }
    }

    #[test]
    fn a_pause_of_the_sound_stays() {
        let picture = (0..500).map(|it| (0, it * 40));
        let sound = (0..400).map(|it| (1, it * 20 + if it < 100 { 0 } else { 12_000 }));
        let mut file: Vec<_> = picture.chain(sound).collect();
        file.sort_by_key(|it| it.1);
        let others: Vec<_> = file.iter().copied().filter(|it| it.0 != 0).collect();
        assert_eq!(placed(&file), others);
    }

    #[test]
    fn a_wrong_time_of_the_picture_moves_no_other_stream() {
        let mut file: Vec<_> = part(0, 0);
        file.sort_by_key(|it| it.0);
        let mut file: Vec<_> = file.into_iter().map(|it| it.1).collect();
        let at = file.iter().position(|it| *it == (0, 800)).unwrap();
        for wrong in [95_443_717, 373_000, -373_000] {
            file[at].1 = wrong;
            let others: Vec<_> = file.iter().copied().filter(|it| it.0 != 0).collect();
            assert_eq!(placed(&file), others, "{wrong}");
        }
    }
}
