//! What a reader of the report should know of the source.

use crate::config::beside::Still;
use crate::config::settings::Settings;
use crate::frame::Seconds;
use crate::media::clip::{DecodeStats, StreamInfo, StreamOutcome};
use crate::pipeline::comparison::LARGEST_BYTES;
use crate::pipeline::masking::Masks;
use crate::pipeline::stages::DecodeEnd;
use crate::pipeline::tally::{
    BARRIERS_LISTED, CHANGES_LISTED, CUTS_LISTED, SECTIONS_LISTED, Tally, UNRECORDED_LISTED,
};
use crate::quality::holdout::HoldoutScores;
use crate::report::Notice;

/// Damage, fields, times and what frames carry; `known` is what was said when it was opened, and `timelapse` why the source looks like one.
pub fn of_source(
    known: &[(String, String)],
    decode: &DecodeEnd,
    tally: &Tally,
    timelapse: Option<&str>,
) -> Vec<Notice> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message| warnings.push(Notice { code: code.into(), message });
    if decode.stats.corrupt > 0 {
        let first = decode.stats.errors.first().filter(|it| !it.is_empty());
        let first = first.map(|it| format!(" ({it})")).unwrap_or_default();
        let message = format!("{} frame(s) of the source are damaged{first}", decode.stats.corrupt);
        warn("source_damaged", message);
    }
    if tally.barrier_count > 0 {
        let message = format!(
            "{} range(s) of the source cannot be decoded: nothing is synthesised there (interpolation.barriers)",
            tally.barrier_count
        );
        warn("barriers", message);
    }
    if tally.unrecorded_count > 0 {
        let message = format!(
            "{} range(s) of the source have no frames, though nothing there is damaged: nothing is synthesised there (source.frames.gaps)",
            tally.unrecorded_count
        );
        warn("frames_missing", message);
    }
    if let Some(why) = timelapse {
        let message = format!(
            "the source looks like a time-lapse: {why}; what is synthesised between its pictures never happened"
        );
        warn("timelapse_suspected", message);
    }
    if !decode.stats.frame_data.is_empty() {
        let kinds: Vec<_> = decode.stats.frame_data.iter().copied().collect();
        let message =
            format!("frames of the source carry what the output's do not: {}", kinds.join(", "));
        warn("frame_data_dropped", message);
    }
    if decode.stats.interlaced > 0 && !known.iter().any(|it| it.0 == "interlaced") {
        let count = decode.stats.interlaced;
        let message = format!(
            "{count} frame(s) behind the first are interlaced, which is not: their fields were worked together"
        );
        warn("interlaced", message);
    }
    if let Some(from) = decode.stats.interlaced_from.filter(|_| decode.stats.interlaced == 0) {
        let message = format!(
            "its pictures are interlaced from frame {from} on: bwdif makes whole ones of them, which count as the real ones; those before are as they are"
        );
        warn("deinterlaced", message);
    }
    if decode.stats.repaired_times > 0 {
        let count = decode.stats.repaired_times;
        let message = format!("{count} frame(s) of the source had no time, or one out of order");
        warn("times_repaired", message);
    }
    warnings.extend(of_changes(&decode.stats));
    warnings
}

/// What becomes other on the way.
fn of_changes(stats: &DecodeStats) -> Vec<Notice> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message| warnings.push(Notice { code: code.into(), message });
    if !stats.late_streams.is_empty() {
        let of = |it: &StreamInfo| format!("{} ({}, {})", it.index, it.kind, it.codec);
        let all: Vec<_> = stats.late_streams.iter().map(of).collect();
        let message = format!(
            "stream(s) that begin in mid-clip, where the headers were read already, are not in the output: {}; cut the clip where they begin to keep them",
            all.join(", ")
        );
        warn("stream_dropped", message);
    }
    if let Some((frame, at, what)) = &stats.shown_otherwise {
        let at = at.map(|it| *it.numer() as f64 / *it.denom() as f64);
        let at = at.map(|it| format!(", at {it:.3} s of its clock,")).unwrap_or_default();
        let message = format!(
            "from frame {frame}{at} on the source is to be shown otherwise: {what}; the output says of all pictures what the first ones do: cut the clip there to keep both"
        );
        warn("tags_change", message);
    }
    warnings
}

/// Moving pictures beside the converted ones, as of a dash-cam's second camera. What else is left out is among the output's
/// streams.
pub fn of_streams(streams: &[StreamOutcome]) -> Vec<Notice> {
    let lost = streams.iter().filter(|it| it.stream.kind == "video" && it.action == "dropped");
    let message = |it: &StreamOutcome| {
        let (index, codec) = (it.stream.index, &it.stream.codec);
        format!(
            "stream {index} (video, {codec}) is not in the output: one moving picture of a clip is converted; copy the other into \
             a file of its own (ffmpeg -i CLIP -map 0:{index} -c copy) to convert it too"
        )
    };
    lost.map(|it| Notice { code: "stream_dropped".into(), message: message(it) }).collect()
}

/// Lists that would be too long for a report.
pub fn of_lists(tally: &Tally) -> Vec<Notice> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message| warnings.push(Notice { code: code.into(), message });
    if tally.map_cut {
        let message = format!("frame_map lists the first {SECTIONS_LISTED} sections only");
        warn("frame_map_cut", message);
    }
    if tally.cut_count > tally.cuts.len() as u64 {
        let message =
            format!("{} cuts were found; the first {CUTS_LISTED} are listed", tally.cut_count);
        warn("cuts_cut", message);
    }
    if tally.change_count > tally.changes.len() as u64 {
        let message = format!(
            "{} flashes and fades were found; the first {CHANGES_LISTED} are listed",
            tally.change_count
        );
        warn("changes_cut", message);
    }
    if tally.barrier_count > tally.barriers.len() as u64 {
        let message = format!("interpolation.barriers lists the first {BARRIERS_LISTED} only");
        warn("barriers_cut", message);
    }
    if tally.unrecorded_count > tally.unrecorded.len() as u64 {
        let message = format!("source.frames.gaps lists the first {UNRECORDED_LISTED} only");
        warn("gaps_cut", message);
    }
    warnings
}

/// That the time code, which `tags` of the source begin with, is not carried.
pub fn of_time_code(tags: &[(String, String)]) -> Option<Notice> {
    let (_, start) = tags.iter().find(|it| it.0.eq_ignore_ascii_case("timecode"))?;
    let message = format!(
        "the time code of the source, from {start}, counts its frames: the output has others, and carries none"
    );
    Some(Notice { code: "time_code_dropped".into(), message })
}

/// Masks that mask nothing, and those that leave nothing to measure, in pictures of that width and height.
pub fn of_masks(
    masks: &Masks,
    (width, height): (usize, usize),
    settings: &Settings,
) -> Vec<Notice> {
    let notice = |code: &str, message| Notice { code: code.into(), message };
    let outside = masks.outside.iter().map(|mask| {
        let message =
            format!("the mask {mask} lies outside of the picture, which is {width}x{height}: it masks nothing");
        notice("mask_outside", message)
    });
    let unscored = (masks.unscored && settings.quality_samples > 0).then(|| {
        let message = "the masks leave too little of the picture to measure: no frame was held out";
        notice("masks_not_measured", message.to_owned())
    });
    outside.chain(unscored).collect()
}

/// Cuts of a list that lie behind the end of the clip, which is `length` seconds long.
pub fn of_cut_list(listed: &[Seconds], length: Seconds) -> Option<Notice> {
    let behind = listed.iter().filter(|it| **it >= length).count();
    let message = format!(
        "{behind} cut(s) of the list lie behind the end of the clip, {:.2} s: is the list of this clip, and from its first frame?",
        real(length)
    );
    (behind > 0).then(|| Notice { code: "cuts_outside".into(), message })
}

/// Stills that lie behind the end of the clip, which is `length` seconds long.
pub fn of_stills(stills: &[Still], length: Seconds) -> Option<Notice> {
    let is_behind = |it: &&Still| matches!(it, Still::At(time) if *time >= length);
    let behind = stills.iter().filter(is_behind).count();
    let message = format!(
        "{behind} still(s) lie behind the end of the clip, {:.2} s: its last frames are written",
        real(length)
    );
    (behind > 0).then(|| Notice { code: "stills_outside".into(), message })
}

fn real(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}

/// That the measures leave `held` gaps out in which nothing was made.
pub fn of_unsure(settings: &Settings, held: u64) -> Option<Notice> {
    let message = format!(
        "in {held} gap(s), which are less sure than hold_below, nothing is made: quality.holdout leaves them out too, and its figures are those of the others"
    );
    (held > 0 && settings.quality_samples > 0)
        .then(|| Notice { code: "unsure_not_measured".into(), message })
}

/// That the comparison, of `size_bytes`, is larger than it should be.
pub fn of_comparison(size_bytes: u64) -> Option<Notice> {
    let mib = size_bytes.div_ceil(1 << 20);
    let message = format!("the comparison has {mib} MiB, which is much to mail");
    (size_bytes > LARGEST_BYTES).then(|| Notice { code: "comparison_large".into(), message })
}

/// That VMAF was asked for and is missing of held-out frames, and why.
pub fn of_vmaf(
    settings: &Settings,
    scores: Option<&HoldoutScores>,
    fault: Option<String>,
) -> Option<Notice> {
    let frames = scores.map_or(&[][..], |it| &it.frames);
    let without = frames.iter().filter(|it| it.network.vmaf.is_none()).count();
    if !settings.vmaf || (without == 0 && !frames.is_empty()) {
        return None;
    }
    let why = match fault {
        Some(fault) => fault,
        None if frames.is_empty() => "no frame was held out (quality_samples)".to_owned(),
        None => "an earlier run could not measure it".to_owned(),
    };
    let message = format!(
        "VMAF was asked for and is missing of {without} of {} held-out frames: {why}",
        frames.len()
    );
    Some(Notice { code: "vmaf_missing".into(), message })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
    use crate::media::damage::Damage;
    use crate::pipeline::bars::Bars;
    use crate::pipeline::changes::{Change, Kind as ChangeKind};
    use crate::pipeline::looking::{Decoded, FoundCut};
    use crate::pipeline::timeline::Shown;

    fn codes(notices: &[Notice]) -> Vec<&str> {
        notices.iter().map(|it| it.code.as_str()).collect()
    }

    fn frame(index: u64) -> Frame {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px, depth) = (1, 1, Depth::Eight);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let (pts, picture) = (Seconds::from_integer(i128::from(index)), Picture::zeroed(format));
        Frame { index, pts, duration: None, picture: std::sync::Arc::new(picture), alpha: None }
    }

    /// V22: lists are cut, and said to be.
    #[test]
    fn lists_that_are_cut_are_said_to_be() {
        let mut tally = Tally::default();
        assert!(of_lists(&tally).is_empty());
        let mut before = frame(0);
        for index in 1..40_000_u64 {
            let cut = index % 2 == 0;
            let (kind, pts) = (ChangeKind::Flash, Seconds::default());
            let changed = Change { kind, frame: index, pts, frames: 1, score: 1.0 };
            let damage = Damage { lost: u64::from(!cut), marred: false };
            let next = Decoded {
                frame: frame(index),
                cut: cut.then_some(FoundCut { score: 1.0, listed: false }),
                duplicate: false,
                confidence: None,
                too_unsure: false,
                repaired: Vec::new(),
                change: (index % 30 == 0).then_some(changed),
                hash: None,
                damage,
                after_marred: false,
                unrecorded: u64::from(cut),
                bars: Bars::default(),
            };
            tally.note(&before, &next);
            // Runs that do not repeat: 1, 2, 3, ... held frames behind a real one.
            tally.add(Shown::Real(index));
            (0..index % 97).for_each(|_| tally.add(Shown::Held(index)));
            before = next.frame;
        }
        tally.take_map();
        assert_eq!(
            codes(&of_lists(&tally)),
            ["frame_map_cut", "cuts_cut", "changes_cut", "barriers_cut", "gaps_cut"]
        );
    }

    #[test]
    fn a_comparison_that_is_much_to_mail_is_said_to_be() {
        assert_eq!(of_comparison(8 << 20), None);
        let found = of_comparison((8 << 20) + 1).unwrap();
        assert!(found.code == "comparison_large" && found.message.contains("9 MiB"));
    }

    /// V20: what frames carried and outputs do not is named.
    #[test]
    fn what_frames_carry_and_outputs_do_not_is_said() {
        let stats = DecodeStats {
            frame_data: ["closed captions", "time codes"].into_iter().collect(),
            ..DecodeStats::default()
        };
        let decode = DecodeEnd { stats, lost_at_end: 0, busy: Duration::ZERO };
        let found = of_source(&[], &decode, &Tally::default(), None);
        assert_eq!(codes(&found), ["frame_data_dropped"]);
        assert!(found[0].message.ends_with("closed captions, time codes"));
    }
}
