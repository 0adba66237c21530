//! The decode and encode threads of a conversion, each at one end of a bounded queue.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use crate::frame::{Frame, Picture, Rate, Seconds};
use crate::media::MediaError;
use crate::media::clip::{DecodeStats, WriteSummary};
use crate::media::damage::Damage;
use crate::media::decode::Decoder;
use crate::media::write::Writer;
use crate::pipeline::bars::{BarWatch, Bars};
use crate::pipeline::parts::{Parts, State};
use crate::pipeline::scene::{CUT_THRESHOLD, CutDetector, is_duplicate};
use crate::pipeline::segments::Joint;
use crate::pipeline::timelapse::Leaps;
use crate::pipeline::timeline::Passage;

/// Decoded frames that wait for the network at the most.
pub const DECODED_QUEUE: usize = 3;
/// Output pictures that wait for the encoder at the most.
pub const ENCODE_QUEUE: usize = 6;

/// A source frame and how it relates to the one before.
pub struct Decoded {
    /// The frame.
    pub frame: Frame,
    /// Cut score against the frame before, 0..=1.
    pub cut_score: f64,
    /// Whether it repeats the frame before.
    pub duplicate: bool,
    /// What cannot be decoded before it and in it.
    pub damage: Damage,
    /// Whether the frame before was decoded with errors.
    pub after_marred: bool,
    /// The black bars that all frames up to it have.
    pub bars: Bars,
}

impl Decoded {
    /// Whether something between it and the frame before cannot be decoded, or in one of them.
    pub fn is_behind_damage(&self) -> bool {
        self.damage.lost > 0 || self.damage.marred || self.after_marred
    }

    /// Counts the frames that a demuxer passed over with damaged data, by the length of the gap and the nominal rate.
    fn count_unseen(&mut self, gap_and_rate: Option<(Seconds, Rate)>) {
        if let Some((gap, rate)) = gap_and_rate.filter(|_| self.is_behind_damage()) {
            let frames = u64::try_from((gap * rate).round().to_integer()).unwrap_or(0);
            self.damage.lost = self.damage.lost.max(frames.saturating_sub(1));
        }
    }

    /// What may be made before it, and whether it is a cut that forbids it.
    pub fn compared(&self) -> (Passage, Joint) {
        match self {
            _ if self.cut_score >= CUT_THRESHOLD => (Passage::Barred, Joint::Cut),
            _ if self.is_behind_damage() || self.duplicate => (Passage::Barred, Joint::Plain),
            _ => (Passage::Open, Joint::Plain),
        }
    }
}

/// What the encoder is told.
pub enum ToEncoder {
    /// Write this.
    Frame(Outgoing),
    /// The segment ends, and this is where the clip stands then.
    EndSegment(Box<State>),
    /// That was all: finish the file. A queue that closes without it abandons the file.
    Finish,
}

/// A picture on its way to the encoder.
pub struct Outgoing {
    /// The samples.
    pub picture: Arc<Picture>,
    /// Output time.
    pub pts: Seconds,
    /// How long it is shown.
    pub duration: Seconds,
}

/// What a decode thread leaves behind.
pub struct DecodeEnd {
    /// Counts and damage.
    pub stats: DecodeStats,
    /// Frames behind the last one that cannot be decoded.
    pub lost_at_end: u64,
    /// The black bars of all frames.
    pub bars: Bars,
    /// How many pairs of frames are far apart.
    pub leaps: Leaps,
    /// Time spent decoding, queue waits left out.
    pub busy: Duration,
}

/// What a finished encode thread leaves behind.
pub struct EncodeEnd {
    /// What was written.
    pub summary: WriteSummary,
    /// Time spent encoding, queue waits left out.
    pub busy: Duration,
}

/// Decodes until the end, an error or a closed queue.
pub fn decode(mut decoder: Decoder, queue: &SyncSender<Result<Decoded, MediaError>>) -> DecodeEnd {
    let mut busy = Duration::ZERO;
    let mut cuts = CutDetector::default();
    let mut before: Option<(Arc<Picture>, Seconds)> = None;
    let (mut after_marred, mut watch, mut leaps) = (false, BarWatch::default(), Leaps::default());
    let rate = decoder.info().video.rate;
    loop {
        let start = Instant::now();
        let next = decoder.next_frame();
        let message = match next {
            Ok(None) => break,
            Err(error) => Err(error),
            Ok(Some(frame)) => {
                let duplicate =
                    before.as_ref().is_some_and(|it| is_duplicate(&it.0, &frame.picture));
                let damage = decoder.damage();
                let after_marred = std::mem::replace(&mut after_marred, damage.marred);
                let cut_score = cuts.score(&frame.picture);
                if before.is_some() {
                    leaps.pair(cuts.lost_structure());
                }
                let bars = watch.see(&frame.picture);
                let gap = before.as_ref().map(|it| frame.pts - it.1);
                before = Some((Arc::clone(&frame.picture), frame.pts));
                let mut next = Decoded { cut_score, duplicate, damage, after_marred, bars, frame };
                next.count_unseen(gap.zip(rate));
                Ok(next)
            }
        };
        busy += start.elapsed();
        let last = message.is_err();
        if queue.send(message).is_err() || last {
            break;
        }
    }
    let (stats, lost_at_end) = (decoder.stats(), decoder.damage().lost);
    DecodeEnd { stats, lost_at_end, bars: watch.so_far(), leaps, busy }
}

/// Encodes until told to finish; `None` where the queue closed before. Finished segments are kept in `parts`.
pub fn encode(
    mut parts: Option<Parts>,
    mut writer: Writer,
    queue: &Receiver<ToEncoder>,
) -> Result<Option<EncodeEnd>, MediaError> {
    let mut busy = Duration::ZERO;
    if let Some(parts) = &parts {
        writer.keep(&parts.open_packets())?;
    }
    for message in queue {
        let start = Instant::now();
        match message {
            ToEncoder::Frame(it) => writer.write(&it.picture, it.pts, it.duration)?,
            ToEncoder::EndSegment(state) => {
                let kept = writer.cut()?;
                if let (Some(parts), Some(kept)) = (&mut parts, kept) {
                    parts.add(kept, *state)?;
                    writer.keep(&parts.open_packets())?;
                }
            }
            ToEncoder::Finish => {
                let summary = writer.finish()?;
                return Ok(Some(EncodeEnd { summary, busy: busy + start.elapsed() }));
            }
        }
        busy += start.elapsed();
    }
    Ok(None)
}
