//! What a reader of the report should know of the source.

use crate::media::clip::ClipInfo;
use crate::pipeline::stages::DecodeEnd;
use crate::pipeline::tally::{BARRIERS_LISTED, Tally};
use crate::report::Notice;

/// Damage, fields, times and what frames carry; `timelapse` is why the source looks like one.
pub fn of_source(
    info: &ClipInfo,
    decode: &DecodeEnd,
    tally: &Tally,
    timelapse: Option<&str>,
) -> Vec<Notice> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message| warnings.push(Notice { code: code.into(), message });
    if decode.stats.corrupt > 0 {
        let first = decode.stats.errors.first().map_or("", String::as_str);
        let message =
            format!("{} frames of the source are damaged ({first})", decode.stats.corrupt);
        warn("source_damaged", message);
    }
    if tally.barrier_count > 0 {
        let message = format!(
            "{} range(s) of the source cannot be decoded: nothing is synthesised there (interpolation.barriers)",
            tally.barrier_count
        );
        warn("barriers", message);
    }
    if tally.barrier_count > tally.barriers.len() as u64 {
        let message = format!("interpolation.barriers lists the first {BARRIERS_LISTED} only");
        warn("barriers_cut", message);
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
    if decode.stats.interlaced > 0 && !info.warnings.iter().any(|it| it.0 == "interlaced") {
        let count = decode.stats.interlaced;
        let message = format!(
            "{count} frames behind the first are interlaced, which is not: their fields were worked together"
        );
        warn("interlaced", message);
    }
    if decode.stats.repaired_times > 0 {
        let count = decode.stats.repaired_times;
        let message = format!("{count} frames of the source had no time, or one out of order");
        warn("times_repaired", message);
    }
    warnings
}
