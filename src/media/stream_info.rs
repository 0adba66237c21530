//! What a report lists of every stream of a clip.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::media::Type;

use super::clip::StreamInfo;
use super::raw::{self, StreamFacts};
use super::tags;

/// What the stream is.
pub(super) fn stream_info(input: &Input, facts: &StreamFacts) -> StreamInfo {
    let kind = match facts.kind {
        Type::Video => "video",
        Type::Audio => "audio",
        Type::Subtitle => "subtitle",
        Type::Attachment => "attachment",
        _ => "data",
    };
    let sides = (facts.width.unsigned_abs() as usize, facts.height.unsigned_abs() as usize);
    let is_video = facts.kind == Type::Video && facts.width > 0 && facts.height > 0;
    let count = |value: i32| u32::try_from(value).ok().filter(|it| *it > 0);
    let is_audio = facts.kind == Type::Audio;
    let tags = tags::of_stream(input, facts.index);
    let tag = |name: &str| tags.iter().find(|it| it.0.eq_ignore_ascii_case(name));
    StreamInfo {
        index: facts.index,
        kind: kind.to_owned(),
        codec: facts.codec.clone(),
        language: tag("language").map(|it| it.1.clone()),
        title: tag("title").map(|it| it.1.clone()),
        disposition: disposition(facts.disposition),
        duration: facts.duration,
        size_px: is_video.then_some(sides),
        sample_rate_hz: count(facts.sample_rate).filter(|_| is_audio),
        channels: channels(input, facts.index).and_then(count).filter(|_| is_audio),
    }
}

#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn channels(input: &Input, index: usize) -> Option<i32> {
    let stream = input.stream(index)?;
    // SAFETY: the stream belongs to the open context, which is borrowed.
    let parameters = unsafe { (*stream.as_ptr()).codecpar };
    // SAFETY: every stream has parameters for as long as it lives.
    Some(unsafe { (*parameters).ch_layout.nb_channels })
}

/// What a stream is for, by FFmpeg's words.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn disposition(bits: i32) -> Vec<String> {
    let set = (0..31).map(|bit| 1 << bit).filter(|flag| bits & flag != 0);
    // SAFETY: takes a number, and returns a static string or null.
    let words = set.map(|flag| raw::text(unsafe { ffi::av_disposition_to_string(flag) }));
    words.filter(|it| !it.is_empty()).collect()
}
