//! Figures for machines, as OpenMetrics text.

use std::fmt::Write as _;

use crate::daemon::job::now_ms;
use crate::daemon::journal::JournalError;
use crate::daemon::run::Daemon;
use crate::daemon::service;
use crate::report::Report;

/// What was counted since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Jobs that this daemon ended, by state.
    ended: [(&'static str, u64); 3],
    /// Output frames of done jobs, of the kinds of [`FRAME_KINDS`].
    frames: [u64; 4],
    /// Frames a second of the last done job: decoder, network, encoder, end to end.
    fps: [Option<f64>; 4],
}

/// Kinds of output frames, as in reports.
const FRAME_KINDS: [&str; 4] = ["real", "synthesised", "held", "repaired"];
/// Stages, as in reports.
const STAGES: [&str; 4] = ["decode", "network", "encode", "end_to_end"];
/// Ends that are counted.
const ENDS: [&str; 3] = ["done", "failed", "refused"];

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { ended: ENDS.map(|state| (state, 0)), ..Self::default() }
    }

    /// A job ended in `state`, with this report where there is one.
    pub fn add(&mut self, state: &str, report: Option<&Report>) {
        if let Some(place) = self.ended.iter_mut().find(|it| it.0 == state) {
            place.1 += 1;
        }
        let Some(report) = report.filter(|_| state == "done") else { return };
        if let Some(output) = &report.output {
            let frames = output.frames;
            let counts = [frames.real, frames.synthesised, frames.held, frames.repaired];
            for (sum, count) in self.frames.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let timing = &report.timing;
        self.fps =
            [timing.decode_fps, timing.network_fps, timing.encode_fps, timing.end_to_end_fps];
    }
}

/// A family of figures: its samples are added one by one.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn flag(condition: &[String]) -> f64 {
    if condition.is_empty() { 0.0 } else { 1.0 }
}

impl Daemon {
    /// All figures.
    pub(super) fn metrics(&self) -> Result<String, JournalError> {
        let live = self.live(0, 0)?;
        let mut text = Text(String::new());
        let details = &live.details;
        let device = details.device.as_ref().map(service::device_name).unwrap_or_default();
        text.family("slomod_build", "info", "Version, and what the network runs on.");
        let labels = [("version", details.version.as_str()), ("device", &device)];
        text.sample("slomod_build_info", &labels, 1.0);
        text.family("slomod_jobs", "gauge", "Jobs in the journal by state.");
        let counts = &live.counts;
        for (state, count) in [
            ("queued", counts.queued),
            ("running", counts.running),
            ("done", counts.done),
            ("failed", counts.failed),
            ("refused", counts.refused),
            ("duplicate", counts.duplicate),
            ("skipped", counts.skipped),
            ("cancelled", counts.cancelled),
        ] {
            text.sample("slomod_jobs", &[("state", state)], count as f64);
        }
        text.family("slomod_settling_files", "gauge", "Files that are not known to be complete.");
        text.sample("slomod_settling_files", &[], details.settling as f64);
        text.family("slomod_queue_age_seconds", "gauge", "How long the oldest waiting job waits.");
        let age_ms = details.oldest_queued_ms.map_or(0, |since| (now_ms() - since).max(0));
        text.sample("slomod_queue_age_seconds", &[], age_ms as f64 / 1000.0);
        self.tally.write(&mut text);
        self.write_running(&mut text);
        self.write_state(&mut text, &details.degraded);
        text.0 += "# EOF\n";
        Ok(text.0)
    }

    fn write_running(&self, text: &mut Text) {
        let running = self.running.as_ref().map(|it| &it.progress);
        text.family("slomod_running_fps", "gauge", "Output frames a second of the running clip.");
        text.sample("slomod_running_fps", &[], running.map_or(0.0, |it| finite(it.fps)));
        text.family("slomod_running_ratio", "gauge", "How much of the running clip is done.");
        let ratio = running.and_then(|it| {
            let expected = it.frames_in_expected.filter(|it| *it > 0)?;
            Some((it.frames_in as f64 / expected as f64).min(1.0))
        });
        text.sample("slomod_running_ratio", &[], ratio.unwrap_or(0.0));
    }

    fn write_state(&self, text: &mut Text, degraded: &[String]) {
        if let Some(memory) = self.running.as_ref().and_then(|it| it.device_memory) {
            let help = "Memory of the GPU while a clip is worked: the clip's, nobody's, all.";
            text.family("slomod_device_memory_bytes", "gauge", help);
            for (part, bytes) in [
                ("used", memory.used_bytes),
                ("free", memory.free_bytes),
                ("total", memory.total_bytes),
            ] {
                text.sample("slomod_device_memory_bytes", &[("part", part)], bytes as f64);
            }
        }
        let [polling, offline, hung] = self.folders.counts();
        let help = "Folders that are configured, polled, not there, without an answer.";
        text.family("slomod_watches", "gauge", help);
        let all = self.folders.watched().count();
        let states =
            [("configured", all), ("polling", polling), ("offline", offline), ("hung", hung)];
        for (state, count) in states {
            text.sample("slomod_watches", &[("state", state)], count as f64);
        }
        text.family("slomod_degraded", "gauge", "Whether something does not work as it should.");
        text.sample("slomod_degraded", &[], flag(degraded));
        text.family("slomod_paused", "gauge", "Whether no clip is begun, by request.");
        text.sample("slomod_paused", &[], if self.paused.is_some() { 1.0 } else { 0.0 });
        text.family("slomod_start_time_seconds", "gauge", "Start of the daemon since 1970.");
        text.sample("slomod_start_time_seconds", &[], self.started_ms as f64 / 1000.0);
        text.family("slomod_lost_events", "counter", "How often change events were lost.");
        text.sample("slomod_lost_events_total", &[], self.overflows as f64);
    }
}

impl Tally {
    fn write(&self, text: &mut Text) {
        text.family("slomod_ended_jobs", "counter", "Jobs that this daemon ended.");
        for (state, count) in self.ended {
            text.sample("slomod_ended_jobs_total", &[("state", state)], count as f64);
        }
        text.family("slomod_frames", "counter", "Output frames of done jobs since the start.");
        for (kind, count) in FRAME_KINDS.iter().zip(self.frames) {
            text.sample("slomod_frames_total", &[("kind", kind)], count as f64);
        }
        let help = "Frames a second of each stage of the last done job.";
        text.family("slomod_stage_fps", "gauge", help);
        for (stage, fps) in STAGES.iter().zip(self.fps) {
            if let Some(fps) = fps {
                text.sample("slomod_stage_fps", &[("stage", stage)], finite(fps));
            }
        }
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_forge_lines() {
        let mut text = Text(String::new());
        text.sample("x", &[("device", "a\"} 1\nslomod_degraded 0 \\")], 2.0);
        assert_eq!(text.0, "x{device=\"a\\\"} 1\\nslomod_degraded 0 \\\\\"} 2\n");
    }
}
