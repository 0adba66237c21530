//! Which frames of a clip were lost: packets that went into the decoder and never came out as a picture.
//!
//! A packet without a picture alone is no loss: two fields are two packets and one picture, and some codecs have packets
//! that show nothing. It is one where the decoder complained near it, or right behind another loss, as where a damaged
//! key frame takes all pictures up to the next one with it. Of what comes before the first picture that a decoder can begin
//! with it says nothing, as in a recording cut out of a broadcast: all that was sent before that picture is lost. What is
//! sent behind it and shown before it (an open group of pictures) belongs to what was there before the clip, and is no loss.

use std::collections::{BTreeMap, VecDeque};

/// A decoder complains at the most this many packets before or behind the one it means: it works ahead and reorders.
const NEAR_PACKETS: u64 = 32;

/// Packets whose picture is awaited at the most.
const MAX_AWAITED: usize = 4096;

/// What lies between a frame and the one before it, and in the frame itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Frames between them that cannot be decoded.
    pub lost: u64,
    /// Whether the frame itself was decoded with errors.
    pub marred: bool,
}

/// Follows packets into a decoder and pictures out of it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    packets: u64,
    /// By time in ticks: number of the packet, and whether it is known to be damaged.
    awaited: BTreeMap<i64, (u64, bool)>,
    /// Numbers of the packets that went in last when the decoder complained.
    complaints: VecDeque<u64>,
    /// Complaints about packets without a time, since the last picture.
    timeless: u64,
    /// Whether the last packet passed over was lost.
    in_loss: bool,
    /// Whether a picture came out.
    begun: bool,
    /// Lost frames that the decoder did not complain of, which are not asked for yet.
    unsaid: u64,
}

impl Losses {
    /// A packet goes in that is shown at `time`, in ticks.
    pub(super) fn sent(&mut self, time: Option<i64>, damaged: bool) {
        self.packets += 1;
        if damaged {
            self.complaint();
        }
        if let Some(time) = time {
            self.awaited.insert(time, (self.packets, damaged));
        }
        if self.awaited.len() > MAX_AWAITED {
            self.awaited.pop_first();
        }
    }

    /// The decoder or the demuxer complains.
    pub(super) fn complaint(&mut self) {
        self.complaints.push_back(self.packets);
        if self.complaints.len() > MAX_AWAITED {
            self.complaints.pop_front();
        }
        self.timeless += u64::from(self.awaited.is_empty());
    }

    /// A picture comes out that is shown at `time`.
    pub(super) fn shown(&mut self, time: Option<i64>) -> Damage {
        let timeless = std::mem::take(&mut self.timeless);
        let Some(time) = time else { return Damage { lost: timeless, marred: false } };
        let own = self.awaited.remove(&time);
        let later = self.awaited.split_off(&time);
        let passed = std::mem::replace(&mut self.awaited, later);
        let begins = !std::mem::replace(&mut self.begun, true);
        let first = own.filter(|_| begins).map_or(0, |(number, _)| number);
        let lost = self.lost_of(passed, first) + if own.is_none() { timeless } else { 0 };
        self.in_loss = false;
        Damage { lost, marred: own.is_some_and(|(_, damaged)| damaged) }
    }

    /// Frames that are lost behind the last picture.
    pub(super) fn end(&mut self) -> u64 {
        let passed = std::mem::take(&mut self.awaited);
        self.lost_of(passed, 0)
    }

    /// Lost frames since the last call that the decoder did not complain of.
    pub(super) fn take_unsaid(&mut self) -> u64 {
        std::mem::take(&mut self.unsaid)
    }

    /// How many of these are lost: all that were sent before packet `first`, with which the decoder began.
    fn lost_of(&mut self, passed: BTreeMap<i64, (u64, bool)>, first: u64) -> u64 {
        let mut lost = 0;
        for (number, _) in passed.into_values() {
            let near = |complaint: &u64| complaint.abs_diff(number) <= NEAR_PACKETS;
            self.in_loss = self.in_loss || self.complaints.iter().any(near);
            let unsaid = !self.in_loss && number < first;
            self.unsaid += u64::from(unsaid);
            lost += u64::from(self.in_loss || unsaid);
        }
        while self.complaints.front().is_some_and(|it| it + 2 * NEAR_PACKETS < self.packets) {
            self.complaints.pop_front();
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_without_a_picture_are_lost_only_where_the_decoder_complains() {
        let mut losses = Losses::default();
        for time in 0..10 {
            losses.sent(Some(2 * time), false);
            losses.sent(Some(2 * time + 1), false);
            assert_eq!(losses.shown(Some(2 * time)), Damage::default(), "two fields, one picture");
        }
        losses.complaint();
        for time in 20..23 {
            losses.sent(Some(time), false);
        }
        assert_eq!(losses.shown(Some(22)).lost, 3, "20 and 21, and the field before");
        losses.sent(Some(23), false);
        assert_eq!(losses.shown(Some(23)), Damage::default());
    }

    #[test]
    fn a_long_loss_goes_on_without_further_complaints() {
        let mut losses = Losses::default();
        losses.sent(Some(0), false);
        losses.shown(Some(0));
        losses.complaint();
        for time in 1..300 {
            losses.sent(Some(time), false);
        }
        assert_eq!(losses.shown(Some(299)).lost, 298);
        for time in 300..400 {
            losses.sent(Some(time), false);
            losses.shown(Some(time));
        }
        losses.sent(Some(400), false);
        losses.sent(Some(401), false);
        assert_eq!(losses.shown(Some(401)).lost, 0, "the complaint is long past");
    }

    #[test]
    fn what_was_sent_before_the_first_picture_is_lost_and_an_open_group_is_not() {
        let mut losses = Losses::default();
        // Three pictures that lack their key frame, then one with two that are shown before it.
        for time in [0, 2, 1, 5, 3, 4, 6] {
            losses.sent(Some(time), false);
        }
        assert_eq!(losses.shown(Some(5)).lost, 3);
        assert_eq!((losses.take_unsaid(), losses.take_unsaid()), (3, 0));
        losses.sent(Some(8), false);
        losses.sent(Some(7), false);
        assert_eq!(losses.shown(Some(8)).lost, 0, "not the first");
    }

    #[test]
    fn a_damaged_packet_mars_its_own_picture() {
        let mut losses = Losses::default();
        losses.sent(Some(0), false);
        losses.sent(Some(1), true);
        assert_eq!(losses.shown(Some(0)), Damage::default());
        assert_eq!(losses.shown(Some(1)), Damage { lost: 0, marred: true });
        losses.sent(Some(2), false);
        assert_eq!(losses.end(), 1);
    }

    #[test]
    fn without_times_a_complaint_is_a_loss_before_the_next_picture() {
        let mut losses = Losses::default();
        losses.sent(None, false);
        losses.complaint();
        losses.sent(None, false);
        assert_eq!(losses.shown(None).lost, 1);
        assert_eq!(losses.shown(None).lost, 0);
    }
}
