//! What the daemon says of itself: the line for systemd and `slomod status`, and lines with fields in the log.

use std::fmt::Write as _;
use std::io::Write as _;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::JournalLog;

use crate::daemon::events::Kind;
use crate::daemon::journal::{Claim, Seen};
use crate::engine::EngineDescription;
use crate::engine::open::{GOES_ON_ON_THE_CPU, ON_THE_CPU};
use crate::pipeline::Progress;
use crate::report::Report;

/// Environment variable with the level of the log: `error`, `warn`, `info` (if unset), `debug`.
pub const LEVEL_VARIABLE: &str = "SLOMOD_LOG";
/// What the fields of slomod begin with in the system's journal.
const FIELD_PREFIX: &str = "SLOMOD_";

/// The journal's field for the kind of an event; people need no number.
const MESSAGE_ID: &str = "MESSAGE_ID";

/// What the status line is made of.
#[derive(Clone, Debug, Default)]
pub struct StatusParts {
    /// What does not work as it should, such as `running on the CPU: no driver`.
    pub degraded: Vec<String>,
    /// Since when no clip is begun, where that was asked for.
    pub paused_since: Option<String>,
    /// Folders watched.
    pub watches: usize,
    /// Of these, without events.
    pub polling: usize,
    /// Of these, not there.
    pub offline: usize,
    /// Of these, without an answer.
    pub hung: usize,
    /// Job, file name and progress of the running clip.
    pub running: Option<(i64, String, Progress)>,
    /// Files that settle.
    pub settling: usize,
    /// Waiting jobs.
    pub queued: u64,
    /// Failed jobs.
    pub failed: u64,
    /// Refused jobs.
    pub refused: u64,
    /// What the network runs on; empty where it is not known.
    pub device: String,
}

/// What the network runs on, in a few words: `cpu`, `cuda NVIDIA H100`.
#[must_use]
pub fn device_name(description: &EngineDescription) -> String {
    short_name(&description.device_kind, &description.device_name)
}

/// Why a GPU is missed, for sentences that say by themselves that the CPU is used.
#[must_use]
pub fn why_on_cpu(fallback_reason: &str) -> &str {
    let ends = [ON_THE_CPU, GOES_ON_ON_THE_CPU];
    ends.iter().find_map(|end| fallback_reason.strip_suffix(end)).unwrap_or(fallback_reason)
}

fn short_name(kind: &str, name: &str) -> String {
    match (kind, name) {
        ("cpu", _) => "cpu".to_owned(),
        (kind, "") => kind.to_owned(),
        (kind, name) => format!("{kind} {}", plain(name)),
    }
}

/// The line for `systemctl status` and `slomod status`: what is degraded first.
#[must_use]
pub fn status_line(parts: &StatusParts) -> String {
    let mut line = String::new();
    if !parts.degraded.is_empty() {
        let all: Vec<String> = parts.degraded.iter().map(|it| plain(it)).collect();
        let _ = write!(line, "DEGRADED: {} | ", all.join("; "));
    }
    if let Some(since) = &parts.paused_since {
        let _ = write!(line, "PAUSED since {} | ", plain(since));
    }
    let plural = if parts.watches == 1 { "watch" } else { "watches" };
    let _ = write!(line, "{} {plural}", parts.watches);
    let notes: Vec<String> =
        [(parts.polling, "polling"), (parts.offline, "offline"), (parts.hung, "hung")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
    if !notes.is_empty() {
        let _ = write!(line, " ({})", notes.join(", "));
    }
    match &parts.running {
        Some((job, name, progress)) => {
            let _ = write!(line, " | run {job}: {}{}", plain(name), progress_text(progress));
        }
        None if parts.settling + parts.queued as usize > 0 => line.push_str(" | waiting"),
        None => line.push_str(" | idle"),
    }
    let _ = write!(line, " | queue {}", parts.queued);
    let counts =
        [(parts.settling as u64, "settling"), (parts.failed, "failed"), (parts.refused, "refused")];
    for (count, word) in counts {
        if count > 0 {
            let _ = write!(line, ", {word} {count}");
        }
    }
    if !parts.device.is_empty() {
        let _ = write!(line, " | {}", parts.device);
    }
    line
}

/// ` 62% 41.3 fps ETA 00:41`, as far as it is known.
#[must_use]
pub fn progress_text(progress: &Progress) -> String {
    let mut text = String::new();
    if progress.phase != "converting" && !progress.phase.is_empty() {
        let _ = write!(text, " {}", progress.phase);
    }
    if let Some(expected @ 1..) = progress.frames_in_expected {
        let _ = write!(text, " {}%", (progress.frames_in * 100 / expected).min(100));
    }
    if progress.fps > 0.0 {
        let _ = write!(text, " {:.1} fps", progress.fps);
    }
    if let Some(eta_s) = progress.eta_s.filter(|it| it.is_finite() && *it >= 0.0) {
        let seconds = eta_s.round() as u64;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let _ = match hours {
            0 => write!(text, " ETA {minutes:02}:{:02}", seconds % 60),
            _ => write!(text, " ETA {hours}:{minutes:02}:{:02}", seconds % 60),
        };
    }
    text
}

/// `text` on one line: control characters are escaped, so that no file name can forge a log line.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() || turns_text(character) {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// Whether a character changes the direction of the text round it: a name could show as another, or its line as another line.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A message without the path of the file that it is said of.
pub(super) fn without_path<'a>(message: &'a str, path: &str) -> &'a str {
    message.strip_prefix(path).and_then(|it| it.strip_prefix(": ")).unwrap_or(message)
}

/// What is known of a job besides its claim, once it is done.
#[derive(Clone, Debug, Default)]
pub struct Speed {
    fps: Option<f64>,
    device: Option<String>,
}

impl Speed {
    /// Of the job with this report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let device = report.device.as_ref();
        Self {
            fps: report.timing.end_to_end_fps.filter(|it| it.is_finite()),
            device: device.map(|it| short_name(&it.kind, &it.name)),
        }
    }
}

/// Logs that a file became a job.
pub fn log_received(job: i64, watch: &str, relative: &str, sha256: &str) {
    let source = format!("{watch}/{relative}");
    log::info!(
        MESSAGE_ID = Kind::JobQueued.id(),
        SLOMOD_JOB = job,
        SLOMOD_STATE = "queued",
        SLOMOD_WATCH = watch,
        SLOMOD_SOURCE = source.as_str(),
        SLOMOD_SOURCE_SHA256 = sha256;
        "{}: {}: queued as job {job}", plain(watch), plain(relative)
    );
}

/// Logs that a file came again with the content that its job was for, and what follows: nothing.
pub fn log_same_again(seen: &Seen, watch: &str, relative: &str) {
    let source = format!("{watch}/{relative}");
    let (job, state) = (seen.job, seen.state.as_str());
    let again = match state {
        "failed" | "refused" | "skipped" => format!("; `slomod retry {job}` has it tried again"),
        _ => String::new(),
    };
    log::info!(
        MESSAGE_ID = Kind::JobNote.id(),
        SLOMOD_JOB = job,
        SLOMOD_STATE = state,
        SLOMOD_WATCH = watch,
        SLOMOD_SOURCE = source.as_str();
        "{}: the file came again with the same content, for which job {job} is {state}{again}", plain(&source)
    );
}

/// Logs that a job is done, with its fields.
pub fn log_done(claim: &Claim, message: &str, speed: &Speed) {
    let source = format!("{}/{}", claim.watch, claim.relative.display());
    let fps = speed.fps.map(|it| format!("{it:.2}")).unwrap_or_default();
    let device = speed.device.as_deref().unwrap_or_default();
    log::info!(
        MESSAGE_ID = Kind::JobDone.id(),
        SLOMOD_JOB = claim.job,
        SLOMOD_ATTEMPT = claim.attempt,
        SLOMOD_STATE = "done",
        SLOMOD_WATCH = claim.watch.as_str(),
        SLOMOD_SOURCE = source.as_str(),
        SLOMOD_SOURCE_SHA256 = claim.sha256.as_str(),
        SLOMOD_FPS = fps.as_str(),
        SLOMOD_DEVICE = device;
        "job {}: done: {}: {}", claim.job, plain(&source), plain(message)
    );
}

/// Logs what became of a job, with its fields.
pub fn log_job(level: Level, claim: &Claim, state: &str, message: &str) {
    let source = format!("{}/{}", claim.watch, claim.relative.display());
    let message = without_path(message, &source);
    log::log!(
        level,
        MESSAGE_ID = Kind::of_state(state).id(),
        SLOMOD_JOB = claim.job,
        SLOMOD_ATTEMPT = claim.attempt,
        SLOMOD_STATE = state,
        SLOMOD_WATCH = claim.watch.as_str(),
        SLOMOD_SOURCE = source.as_str(),
        SLOMOD_SOURCE_SHA256 = claim.sha256.as_str();
        "job {}: {state}: {}{}{}",
        claim.job,
        plain(&source),
        if message.is_empty() { "" } else { ": " },
        plain(message)
    );
}

/// Logs what happens to a folder, with its fields.
pub fn log_watch(level: Level, kind: Kind, watch: &str, message: &str) {
    log::log!(
        level, MESSAGE_ID = kind.id(), SLOMOD_WATCH = watch; "{}: {}", plain(watch), plain(message)
    );
}

/// Sends the log to the system's journal where standard error is connected to it, else to standard error. A second call
/// changes nothing.
pub fn start_log() {
    let level = std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<LevelFilter>().ok())
        .unwrap_or(LevelFilter::Info);
    let journal = || JournalLog::new().map(|it| it.with_syslog_identifier("slomod".into())).ok();
    let log: Box<dyn Log> =
        match journal().filter(|_| systemd_journal_logger::connected_to_journal()) {
            Some(journal) => Box::new(journal),
            None => Box::new(TerminalLog),
        };
    // Fails only where a log was set before, which then stays.
    let _ = log::set_boxed_logger(Box::new(Sifted(log)));
    log::set_max_level(level);
}

/// All but what `notify` warns of: watches that end as their directory goes, which is no news. What matters of its work it
/// returns as errors.
struct Sifted(Box<dyn Log>);

impl Log for Sifted {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        let is_its = of.target().split("::").next() == Some("notify");
        (!is_its || of.level() == Level::Error) && self.0.enabled(of)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Lines with a time on standard error.
struct TerminalLog;

impl Log for TerminalLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = terminal_line(&jiff::Timestamp::now().to_string(), record) + "\n";
        // A log that cannot be written must not end the daemon, as `eprintln!` would.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// One line: time, level, message. Fields whose values the message already says are left out.
fn terminal_line(time: &str, record: &Record<'_>) -> String {
    struct Fields<'a>(&'a mut String);
    impl<'kvs> VisitSource<'kvs> for Fields<'_> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
            let value = plain(&value.to_string());
            if key.as_str() != MESSAGE_ID && !self.0.contains(&value) {
                let key = key.as_str().trim_start_matches(FIELD_PREFIX).to_lowercase();
                let _ = write!(self.0, " {key}={value}");
            }
            Ok(())
        }
    }
    let seconds = time.get(..19).unwrap_or(time);
    let mut line = format!("{seconds}Z {:5} {}", record.level(), plain(&record.args().to_string()));
    // The visitor above never fails.
    let _ = record.key_values().visit(&mut Fields(&mut line));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_says_what_is_degraded_first() {
        let progress = Progress {
            phase: "converting".into(),
            step: 0,
            frames_in: 62,
            frames_in_expected: Some(100),
            frames_out: 240,
            fps: 41.26,
            eta_s: Some(41.2),
        };
        let parts = StatusParts {
            degraded: vec!["running on the CPU: no driver".into(), "/in is offline".into()],
            paused_since: Some("2026-01-01T00:00:00Z".into()),
            watches: 3,
            polling: 1,
            offline: 1,
            hung: 1,
            running: Some((7, "20120730_093000.mp4".into(), progress)),
            settling: 2,
            queued: 12,
            failed: 1,
            refused: 4,
            device: "cpu".into(),
        };
        assert_eq!(
            status_line(&parts),
            "DEGRADED: running on the CPU: no driver; /in is offline | PAUSED since 2026-01-01T00:00:00Z | 3 watches \
             (1 polling, 1 offline, 1 hung) | run 7: 20120730_093000.mp4 62% 41.3 fps ETA 00:41 | queue 12, settling 2, \
             failed 1, refused 4 | cpu"
        );
        let idle = StatusParts { watches: 1, ..StatusParts::default() };
        assert_eq!(status_line(&idle), "1 watch | idle | queue 0");
    }

    #[test]
    fn the_cpu_is_named_once() {
        assert_eq!(why_on_cpu(&format!("no driver{ON_THE_CPU}")), "no driver");
        assert_eq!(why_on_cpu("out of memory"), "out of memory");
    }

    #[test]
    fn progress_that_is_not_known_is_not_made_up() {
        assert_eq!(progress_text(&Progress::default()), "");
        let verifying = Progress { phase: "verifying".into(), ..Progress::default() };
        assert_eq!(progress_text(&verifying), " verifying");
        let odd = Progress { eta_s: Some(f64::NAN), frames_in_expected: Some(0), ..verifying };
        assert_eq!(progress_text(&odd), " verifying");
        let long = Progress { eta_s: Some(3_723.0), ..Progress::default() };
        assert_eq!(progress_text(&long), " ETA 1:02:03");
    }

    #[test]
    fn a_path_is_said_once() {
        assert_eq!(without_path("/in/a.mp4: is no video", "/in/a.mp4"), "is no video");
        for other in ["/in/a.mp4.json: is taken", "/in/a.mp4", "no space"] {
            assert_eq!(without_path(other, "/in/a.mp4"), other);
        }
    }

    #[test]
    fn text_that_turns_round_is_said_as_it_is_written() {
        assert_eq!(plain("a\u{202e}4pm.\u{2066}x\u{2069}"), "a\\u{202e}4pm.\\u{2066}x\\u{2069}");
        assert_eq!(plain("שלום 한글.mp4"), "שלום 한글.mp4");
    }

    #[test]
    fn a_file_name_cannot_forge_a_log_line() {
        let record = Record::builder()
            .level(Level::Info)
            .args(format_args!("/in/a\n2026-01-01 INFO all is well\x1b[2J.mp4"))
            .key_values(&[("SLOMOD_JOB", "7"), ("MESSAGE_ID", "4b2d")])
            .build();
        let line = terminal_line("2026-01-01T00:00:00.123Z", &record);
        assert!(!line.contains(['\n', '\x1b']), "{line}");
        assert!(line.starts_with("2026-01-01T00:00:00Z INFO "), "{line}");
        assert!(line.ends_with(" job=7"), "{line}");
    }
}
