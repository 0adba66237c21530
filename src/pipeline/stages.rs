//! The decode, look and encode threads of a conversion, with bounded queues between them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use crate::frame::{Frame, Picture, Seconds};
use crate::media::MediaError;
use crate::media::clip::{DecodeStats, WriteSummary};
use crate::media::damage::Damage;
use crate::media::decode::Decoder;
use crate::media::write::Writer;
use crate::pipeline::bars::Bars;
use crate::pipeline::looking::{Decoded, Looker};
use crate::pipeline::parts::{Parts, State};
use crate::pipeline::timelapse::Leaps;

/// Decoded frames that wait to be judged at the most.
pub const TAKEN_QUEUE: usize = 1;
/// Judged frames that wait for the network at the most.
pub const DECODED_QUEUE: usize = 3;
/// Output pictures that wait for the encoder at the most.
pub const ENCODE_QUEUE: usize = 6;

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
    /// Its transparency, where the clip has any.
    pub alpha: Option<Arc<Picture>>,
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
    /// Time spent decoding, queue waits left out.
    pub busy: Duration,
}

/// What a look thread leaves behind.
pub struct LookEnd {
    /// The black bars of all frames.
    pub bars: Bars,
    /// How many pairs of frames are far apart.
    pub leaps: Leaps,
    /// Time spent judging, queue waits left out.
    pub busy: Duration,
}

/// What a finished encode thread leaves behind.
pub struct EncodeEnd {
    /// What was written.
    pub summary: WriteSummary,
    /// Time spent encoding, queue waits left out.
    pub busy: Duration,
}

/// A decoded frame, and what is damaged before it and in it.
pub type Taken = (Frame, Damage);

/// Decodes until the end, an error or a closed queue.
pub fn decode(mut decoder: Decoder, queue: &SyncSender<Result<Taken, MediaError>>) -> DecodeEnd {
    let mut busy = Duration::ZERO;
    loop {
        let start = Instant::now();
        let next = decoder.next_frame().transpose();
        busy += start.elapsed();
        let Some(next) = next else { break };
        let failed = next.is_err();
        // A closed queue has nobody who would want to know.
        let sent = queue.send(next.map(|frame| (frame, decoder.damage())));
        if failed || sent.is_err() {
            break;
        }
    }
    DecodeEnd { stats: decoder.stats(), lost_at_end: decoder.damage().lost, busy }
}

/// Judges what is decoded, until the end, an error or a closed queue.
pub fn look(
    mut looker: Looker,
    frames: &Receiver<Result<Taken, MediaError>>,
    queue: &SyncSender<Result<Decoded, MediaError>>,
) -> LookEnd {
    let mut busy = Duration::ZERO;
    let mut whole = true;
    for next in frames {
        let start = Instant::now();
        let decided = match next {
            Ok((frame, damage)) => looker.look(frame, damage),
            Err(error) => {
                let _ = queue.send(Err(error));
                whole = false;
                break;
            }
        };
        busy += start.elapsed();
        whole = decided.into_iter().all(|it| queue.send(Ok(it)).is_ok());
        if !whole {
            break;
        }
    }
    // What is left is decided where the clip ended, and nowhere else.
    if whole {
        let _ = looker.end().into_iter().all(|it| queue.send(Ok(it)).is_ok());
    }
    LookEnd { bars: looker.bars(), leaps: looker.leaps(), busy }
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
            ToEncoder::Frame(it) => {
                writer.write_seen(&it.picture, it.alpha.as_deref(), it.pts, it.duration)?;
            }
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
