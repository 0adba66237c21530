//! Languages of tracks and what they are for, as containers take them.

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Input;

use super::clip::{StreamInfo, StreamOutcome};
use super::raw;
use super::stream_info::stream_info;

/// Languages that FFmpeg knows by another code where it writes QuickTime's numbers of languages: ISO 639-2 has two codes for
/// some, and QuickTime's list has its own for others.
const IN_MOV: &[(&str, &str)] = &[
    ("bod", "tib"),
    ("cym", "wel"),
    ("cze", "ces"),
    ("deu", "ger"),
    ("ell", "gre"),
    ("eus", "baq"),
    ("fas", "per"),
    ("fre", "fra"),
    ("hrv", "hr "),
    ("hye", "arm"),
    ("isl", "ice"),
    ("kat", "geo"),
    ("mkd", "mac"),
    ("msa", "may"),
    ("mya", "bur"),
    ("nld", "dut"),
    ("rum", "ron"),
    ("slo", "slk"),
    ("sqi", "alb"),
    ("srp", "sr "),
    ("swe", "sve"),
    ("zho", "chi"),
];

/// The code by which a language goes into MOV.
pub(super) fn language_in_mov(code: &str) -> &str {
    IN_MOV.iter().find(|it| it.0 == code).map_or(code, |it| it.1)
}

/// What the finished output lacks of the languages and purposes of the source's streams that are in it.
pub(super) fn lost(outcomes: &[StreamOutcome], output: &Input) -> Vec<String> {
    let facts = (0..output.streams().count()).filter_map(|it| raw::stream_facts(output, it));
    let written: Vec<_> = facts.map(|it| stream_info(output, &it)).collect();
    missing(outcomes, &written)
}

fn missing(outcomes: &[StreamOutcome], written: &[StreamInfo]) -> Vec<String> {
    // The picture comes first, and then all others in their order.
    let of_picture = |it: &&StreamOutcome| it.action == "interpolated";
    let is_beside = |it: &&StreamOutcome| {
        !matches!(it.action, "interpolated" | "dropped" | "exported") && is_track(&it.stream)
    };
    let kept = outcomes.iter().filter(of_picture).chain(outcomes.iter().filter(is_beside));
    let pairs = kept.map(|it| &it.stream).zip(written.iter().filter(|it| is_track(it)));
    let mut missing = Vec::new();
    for (from, to) in pairs.filter(|(from, to)| from.kind == to.kind) {
        if let Some(language) = language(from).filter(|_| language(to).is_none()) {
            missing.push(format!("language {language} of stream {}", from.index));
        }
        for word in from.disposition.iter().filter(|it| !to.disposition.contains(it)) {
            missing.push(format!("disposition {word} of stream {}", from.index));
        }
    }
    missing
}

/// Whether a stream has its place among the tracks: containers put covers and attachments elsewhere.
fn is_track(stream: &StreamInfo) -> bool {
    matches!(&*stream.kind, "video" | "audio" | "subtitle")
        && !stream.disposition.iter().any(|it| it == "attached_pic")
}

fn language(stream: &StreamInfo) -> Option<&str> {
    stream.language.as_deref().filter(|it| *it != "und")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(index: usize, kind: &str, language: Option<&str>, words: &[&str]) -> StreamInfo {
        StreamInfo {
            index,
            kind: kind.into(),
            codec: "unknown".into(),
            language: language.map(str::to_owned),
            title: None,
            disposition: words.iter().map(|it| (*it).to_owned()).collect(),
            duration: None,
            size_px: None,
            sample_rate_hz: None,
            channels: None,
        }
    }

    #[test]
    fn what_tracks_lack_is_named_by_the_sources_streams() {
        let outcome = |action, stream| StreamOutcome { stream, action, reason: None };
        let outcomes = [
            outcome("copied", stream(0, "video", None, &["attached_pic"])),
            outcome("stretched", stream(1, "audio", Some("swe"), &["default", "comment"])),
            outcome("exported", stream(2, "subtitle", Some("kor"), &["forced"])),
            outcome("interpolated", stream(3, "video", Some("und"), &["default"])),
            outcome("stretched", stream(4, "audio", Some("deu"), &[])),
        ];
        let written = [
            stream(0, "video", None, &["default"]),
            stream(1, "audio", Some("und"), &["default"]),
            stream(2, "audio", Some("ger"), &["default"]),
            stream(3, "video", None, &["attached_pic"]),
        ];
        let found = missing(&outcomes, &written);
        assert_eq!(found, ["language swe of stream 1", "disposition comment of stream 1"]);
    }
}
