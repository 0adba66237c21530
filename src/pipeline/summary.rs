//! Turns what a conversion left behind into its report.

use std::time::{Duration, SystemTime};

use crate::config::settings::Settings;
use crate::engine::EngineDescription;
use crate::error::{Classify, Consequence};
use crate::frame::{Rate, Seconds};
use crate::media;
use crate::media::clip::{ClipInfo, StreamInfo, StreamOutcome};
use crate::pipeline::camera;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::holdout::quality;
use crate::pipeline::inspect::Inspected;
use crate::pipeline::known::{Counts, Known};
use crate::pipeline::level;
use crate::pipeline::masking::Masks;
use crate::pipeline::plan::Plan;
use crate::pipeline::repeatable;
use crate::pipeline::scene::CUT_THRESHOLD;
use crate::pipeline::stages::{DecodeEnd, EncodeEnd, LookEnd};
use crate::pipeline::tally::Tally;
use crate::pipeline::warnings;
use crate::pipeline::{ConvertError, Task};
use crate::quality::holdout::Holdout;
use crate::report::machine::host;
use crate::report::provenance::{Capture, SourceStream, Tag};
use crate::report::timing::{Resumption, Timing};
use crate::report::{self, Report, Status};

/// Everything a finished conversion knows.
pub struct Facts<'a> {
    /// What was asked for.
    pub task: &'a Task,
    /// The source as probed.
    pub info: &'a ClipInfo,
    /// What was done to time.
    pub plan: Plan,
    /// What ran the network.
    pub engine: EngineDescription,
    /// Counts.
    pub tally: Tally,
    /// Held-out scores.
    pub holdout: Holdout,
    /// Why VMAF could not be measured.
    pub vmaf_fault: Option<String>,
    /// Why the source looks like a time-lapse.
    pub timelapse: Option<String>,
    /// What was not recorded before and behind the source.
    pub gaps: Vec<report::Notice>,
    /// Time in the network.
    pub network_busy: Duration,
    /// Pictures the network made, the held-out ones included.
    pub network_frames: u64,
    /// Output frames that this run made; the others were in finished segments.
    pub frames_made: u64,
    /// Where earlier runs were taken up.
    pub resumed: Vec<Resumption>,
    /// End of the decode thread.
    pub decode: DecodeEnd,
    /// End of the look thread.
    pub look: LookEnd,
    /// End of the encode thread.
    pub encode: EncodeEnd,
    /// What decoding the output showed.
    pub inspected: Inspected,
    /// Where nothing was made up.
    pub masks: Masks,
    /// The source before.
    pub before: Fingerprint,
    /// The source after.
    pub after: Fingerprint,
    /// The output.
    pub output: Fingerprint,
    /// RFC 3339.
    pub started: String,
    /// From start to verified output.
    pub wall: Duration,
}

/// The report of a finished conversion.
pub fn done(mut facts: Facts<'_>) -> Report {
    let frame_map = facts.tally.take_map();
    let source = converted_source(&facts);
    let output = output(&facts);
    let timing = timing(&mut facts);
    let mut warnings = notices(&facts);
    let Facts { task, engine, tally, .. } = facts;
    let interpolation = report::Interpolation {
        factor: facts.plan.factor(),
        speed: 1.0 / real(facts.plan.stretch),
        cut_threshold: CUT_THRESHOLD,
        cuts: tally.cuts,
        barriers: tally.barriers,
        black_bars: facts.look.bars.reported(),
        changes: tally.changes,
        confidence: tally.certainty.finish(task.settings.content.hold_below),
        masks: facts.masks.all,
        frame_map,
    };
    let candidates = facts.holdout.candidates();
    let scores = facts.holdout.finish();
    warnings.extend(warnings::of_vmaf(&task.settings, scores.as_ref(), facts.vmaf_fault));
    warnings.extend(warnings::of_unsure(&task.settings, interpolation.confidence.held));
    Report {
        device: Some(device(&engine)),
        model: Some(model(&engine, &task.settings)),
        output: Some(output),
        interpolation: Some(interpolation),
        quality: quality(scores.as_ref(), candidates, facts.inspected.encode),
        timing,
        warnings,
        ..blank(task, Status::Done, source)
    }
}

fn converted_source(facts: &Facts<'_>) -> report::Source {
    let Facts { task, info, before, .. } = facts;
    let counts = Counts::of(&facts.decode.stats, &facts.tally);
    let probed = probed_source(task, info, before.size_bytes, before.modified);
    report::Source {
        sha256: Some(before.sha256.clone()),
        sha256_after: Some(facts.after.sha256.clone()),
        ..counted_source(probed, &counts)
    }
}

/// What was counted of a source, and what follows from it.
fn counted_source(source: report::Source, counts: &Counts) -> report::Source {
    report::Source {
        variable_rate: counts.variable_rate,
        duration_s: counts.duration.map(real),
        fps: counts.duration.map(|it| rate_of(counts.decoded, it)),
        frames: report::SourceFrames {
            decoded: counts.decoded,
            corrupt: counts.corrupt,
            duplicates: counts.duplicates,
            gaps: counts.gaps.clone(),
            ..source.frames
        },
        ..source
    }
}

fn output(facts: &Facts<'_>) -> report::Output {
    let Facts { task, info, engine, inspected, .. } = facts;
    let (path, path_b64) = report::path_fields(&task.output);
    let (verified, written) = (&inspected.verified, &facts.encode.summary);
    let size = (info.video.picture.width_px, info.video.picture.height_px);
    let level = level::level(task.settings.encoding.codec, size, facts.plan.rate);
    let (driver, stats) = (driver_of(engine), &facts.decode.stats);
    report::Output {
        path,
        path_b64,
        size_bytes: facts.output.size_bytes,
        sha256: facts.output.sha256.clone(),
        format: written.format.clone(),
        codec: Some(task.settings.encoding.codec.name().into()),
        encoder: written.encoder.clone(),
        encoder_options: written.options.clone(),
        pixel_format: written.pixel_format.clone(),
        fps: rate_of(verified.frames, inspected.duration),
        duration_s: real(inspected.duration),
        frames: facts.tally.frames,
        streams: written.streams.iter().map(stream).collect(),
        level: level.map(str::to_owned),
        sidecars: Vec::new(),
        real_frames: inspected.real_frames,
        repeatable: Some(repeatable::of(&task.settings, engine, driver.as_deref(), stats)),
    }
}

/// Takes the times and speeds out of `facts`.
fn timing(facts: &mut Facts<'_>) -> Timing {
    let per_second = |count: u64, busy: Duration| {
        (count > 0 && !busy.is_zero()).then(|| count as f64 / busy.as_secs_f64())
    };
    let (decoded, wall) = (facts.decode.stats.decoded, facts.wall);
    let whole = facts.tally.source_end.filter(|_| facts.resumed.is_empty() && !wall.is_zero());
    Timing {
        queued: None,
        started: std::mem::take(&mut facts.started),
        finished: report::now_rfc3339(),
        wall_s: wall.as_secs_f64(),
        decode_fps: per_second(decoded, facts.decode.busy),
        look_fps: per_second(decoded, facts.look.busy),
        network_fps: per_second(facts.network_frames, facts.network_busy),
        encode_fps: per_second(facts.frames_made, facts.encode.busy),
        end_to_end_fps: per_second(facts.frames_made, wall),
        realtime_factor: whole.map(|it| real(it) / wall.as_secs_f64()),
        resumed: std::mem::take(&mut facts.resumed),
        rss_peak_bytes: rss_peak_bytes(),
        gpu_mem_peak_bytes: gpu_mem_peak_bytes(&facts.engine),
    }
}

/// What a reader should know, but for what the measures say.
fn notices(facts: &Facts<'_>) -> Vec<report::Notice> {
    let Facts { task, info, engine, tally, decode, .. } = facts;
    let mut notices: Vec<_> = info.warnings.iter().map(notice).collect();
    // Where nothing was seen through any frame, nothing is lost.
    let lost = |it: &&(String, String)| decode.stats.seen_through || it.0 != "alpha_dropped";
    notices.extend(facts.encode.summary.warnings.iter().filter(lost).map(notice));
    notices.extend(warnings::of_streams(&facts.encode.summary.streams));
    let timelapse = facts.timelapse.as_deref();
    notices.extend(warnings::of_source(&info.warnings, decode, tally, timelapse));
    notices.extend(warnings::of_time_code(&info.tags));
    notices.extend_from_slice(&facts.gaps);
    let size = (info.video.picture.width_px, info.video.picture.height_px);
    notices.extend(level::warning(task.settings.encoding.codec, size, facts.plan.rate));
    notices.extend(warnings::of_lists(tally));
    if facts.masks.undecided {
        let message = "overlays were looked for, and too little moves at the beginning of the clip to tell them from it; \
                       set `masks` where there are any";
        notices.push(said("overlays_undecided", message));
    }
    notices.extend(warnings::of_masks(&facts.masks, size, &task.settings));
    notices.extend(device_notices(engine));
    notices
}

/// What a reader should know of the engine.
fn device_notices(engine: &EngineDescription) -> Vec<report::Notice> {
    let fallback = engine.fallback_reason.iter().map(|it| said("device_fallback", it));
    let notes = engine.model_notes.iter().map(|it| said("model_note", it));
    fallback.chain(notes).chain(engine.steps.iter().map(|it| said("device_step", it))).collect()
}

fn said(code: &str, message: &str) -> report::Notice {
    report::Notice { code: code.to_owned(), message: message.to_owned() }
}

/// The report of a conversion that ended with an error, with what was known until then.
pub fn failure(task: &Task, known: &Known, error: &ConvertError) -> Report {
    let status = match error.consequence() {
        Consequence::Reject => Status::Refused,
        Consequence::Retry | Consequence::Stop => Status::Failed,
    };
    let notice = report::Notice { code: error.code().into(), message: error.to_string() };
    Report {
        device: known.engine.as_ref().map(device),
        model: known.engine.as_ref().map(|it| model(it, &task.settings)),
        timing: Timing {
            started: known.started().to_owned(),
            wall_s: known.elapsed().as_secs_f64(),
            rss_peak_bytes: rss_peak_bytes(),
            gpu_mem_peak_bytes: known.engine.as_ref().and_then(gpu_mem_peak_bytes),
            ..Timing::none()
        },
        warnings: known.engine.as_ref().map(device_notices).unwrap_or_default(),
        errors: vec![notice],
        ..blank(task, status, failed_source(task, known, error))
    }
}

fn failed_source(task: &Task, known: &Known, error: &ConvertError) -> report::Source {
    let metadata = std::fs::metadata(&task.source).ok();
    let (size_bytes, modified) = match (&known.before, &metadata) {
        (Some(before), _) => (before.size_bytes, before.modified),
        (None, Some(metadata)) => (metadata.len(), metadata.modified().ok()),
        (None, None) => (0, None),
    };
    let source = match &known.info {
        Some(info) => probed_source(task, info, size_bytes, modified),
        None => {
            let modified = modified.and_then(report::rfc3339);
            report::Source { size_bytes, modified, ..empty_source(task) }
        }
    };
    let source = match &known.counts {
        Some(counts) => counted_source(source, counts),
        None => source,
    };
    let sha256_after = match error {
        ConvertError::SourceChanged { after, .. } => Some(after.clone()),
        _ => None,
    };
    let sha256 = known.before.as_ref().map(|it| it.sha256.clone());
    report::Source { sha256, sha256_after, ..source }
}

fn blank(task: &Task, status: Status, source: report::Source) -> Report {
    Report {
        schema: report::SCHEMA.into(),
        report_id: report::report_id(),
        created: report::now_rfc3339(),
        status,
        tool: report::Tool {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            libavcodec: media::libavcodec_version(),
            ffmpeg: media::ffmpeg_version(),
            build: option_env!("SLOMOD_BUILD").filter(|it| !it.is_empty()).map(str::to_owned),
        },
        host: host(),
        source,
        settings: task.settings.clone(),
        settings_sha256: task.settings_sha256.clone(),
        device: None,
        model: None,
        output: None,
        interpolation: None,
        quality: None,
        timing: Timing::none(),
        attempts: Vec::new(),
        warnings: Vec::new(),
        errors: Vec::new(),
        disclaimer: report::DISCLAIMER.into(),
    }
}

fn empty_source(task: &Task) -> report::Source {
    let (path, path_b64) = report::path_fields(&task.source);
    let capture = camera::by_name(&task.source);
    report::Source { path, path_b64, capture, ..report::Source::default() }
}

fn probed_source(
    task: &Task,
    info: &ClipInfo,
    size_bytes: u64,
    modified: Option<SystemTime>,
) -> report::Source {
    let video = &info.video;
    let (num, den) = video.sample_aspect_ratio;
    let blank = empty_source(task);
    let tag = |(name, value): &(String, String)| Tag { name: name.clone(), value: value.clone() };
    let tags = info.tags.iter().map(tag).collect();
    report::Source {
        size_bytes,
        modified: modified.and_then(report::rfc3339),
        capture: Capture { tags, ..blank.capture.clone() },
        format: Some(info.format.clone()),
        codec: Some(video.codec.clone()),
        width_px: Some(video.picture.width_px),
        height_px: Some(video.picture.height_px),
        pixel_format: Some(video.pixel_format.clone()),
        rotation_degrees: Some(video.rotation_degrees),
        mirrored: Some(video.mirrored),
        frames: report::SourceFrames { promised: video.frames_promised, ..blank.frames },
        streams: info.streams.iter().map(source_stream).collect(),
        fps_base: video.base_rate.map(|it| it.to_string()),
        fps_claimed: video.claimed_rate.map(|it| it.to_string()),
        sample_aspect_ratio: Some(format!("{num}:{den}")),
        color: Some(report::Color {
            matrix: video.color.matrix.clone(),
            primaries: video.color.primaries.clone(),
            transfer: video.color.transfer.clone(),
            range: video.color.range.clone(),
        }),
        ..blank
    }
}

fn device(engine: &EngineDescription) -> report::Device {
    report::Device {
        kind: engine.device_kind.clone(),
        name: engine.device_name.clone(),
        precision: engine.precision.clone(),
        instructions: engine.instructions.clone(),
        threads: engine.threads,
        driver: driver_of(engine),
        uuid: engine.gpu.as_ref().and_then(|it| it.uuid.clone()),
        cuda: engine.gpu.as_ref().and_then(|it| it.cuda.clone()),
        psnr_from_cpu_db: engine.psnr_from_cpu_db,
        fallback: engine.fallback_reason.is_some(),
        fallback_reason: engine.fallback_reason.clone(),
    }
}

fn model(engine: &EngineDescription, settings: &Settings) -> report::Model {
    report::Model {
        name: engine.model_name.clone(),
        sha256: engine.model_sha256.clone(),
        scale: engine.scale,
        version: engine.model_name.split_once(" v").map(|it| it.1.replace('v', "")),
        // The trivial engine has no weights, and makes nothing more than once.
        ensemble: engine.model_sha256.is_some() && settings.passes > 1,
    }
}

fn driver_of(engine: &EngineDescription) -> Option<String> {
    (engine.device_kind == "cuda").then(driver_version).flatten()
}

/// Version of NVIDIA's driver, as its kernel module says.
fn driver_version() -> Option<String> {
    let text = std::fs::read_to_string("/sys/module/nvidia/version").ok()?;
    Some(text.trim().to_owned()).filter(|it| !it.is_empty())
}

fn source_stream(info: &StreamInfo) -> SourceStream {
    SourceStream {
        index: info.index,
        kind: info.kind.clone(),
        codec: info.codec.clone(),
        language: info.language.clone(),
        title: info.title.clone(),
        disposition: info.disposition.clone(),
        duration_s: info.duration.map(real),
        width_px: info.size_px.map(|it| it.0),
        height_px: info.size_px.map(|it| it.1),
        sample_rate_hz: info.sample_rate_hz,
        channels: info.channels,
    }
}

fn stream(outcome: &StreamOutcome) -> report::Stream {
    report::Stream {
        index: outcome.stream.index,
        kind: outcome.stream.kind.clone(),
        codec: outcome.stream.codec.clone(),
        action: outcome.action.into(),
        reason: outcome.reason.clone(),
    }
}

fn notice((code, message): &(String, String)) -> report::Notice {
    report::Notice { code: code.clone(), message: message.clone() }
}

fn real(value: Seconds) -> f64 {
    *value.numer() as f64 / *value.denom() as f64
}

/// Average rate of `frames` over `duration`, as `num/den`.
fn rate_of(frames: u64, duration: Seconds) -> String {
    if duration <= Seconds::from_integer(0) {
        return "0".into();
    }
    let rate: Rate = Rate::from_integer(i128::from(frames)) / duration;
    rate.to_string()
}

fn gpu_mem_peak_bytes(engine: &EngineDescription) -> Option<u64> {
    engine.gpu.as_ref().map(|it| it.memory_peak_bytes)
}

/// Peak resident memory of this process, as Linux counts it.
fn rss_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
