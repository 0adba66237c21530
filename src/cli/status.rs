//! `slomod status`: what the running daemon says, or the journal where none runs.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::place::DaemonPlace;
use crate::cli::{CliError, say};
use crate::daemon::control::{Answer, Ask};
use crate::daemon::job::now_ms;
use crate::daemon::journal::history::History;
use crate::daemon::journal::view::{Counts, DaemonView, JobView};
use crate::daemon::journal::{Journal, JournalError};
use crate::daemon::live::{Details, WatchView};
use crate::daemon::recover;
use crate::daemon::service::{device_name, plain, progress_text};
use crate::error::ExitCode;

/// How often `--watch` asks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Moves the cursor of a terminal to its beginning and empties it.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Width of the column of folders, at the most.
const WIDEST_FOLDER: usize = 48;

/// Arguments of `slomod status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which daemon.
    #[command(flatten)]
    pub place: DaemonPlace,
    /// One job and its history: what became of it, when, by which machine and version.
    pub job: Option<i64>,
    /// How many of the waiting jobs are listed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub queued: u32,
    /// How many of the jobs that are over are listed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub ended: u32,
    /// As JSON, with everything that is known.
    #[arg(long)]
    pub json: bool,
    /// Again every second, until Ctrl-C; with --json one line each time.
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Serialize)]
struct StatusView {
    daemon: Option<DaemonView>,
    running: bool,
    counts: Counts,
    jobs: Vec<JobView>,
    /// What only a running daemon can say.
    live: Option<Details>,
}

/// Prints the daemon's jobs and their states.
///
/// # Errors
/// Where neither a daemon nor a journal can be asked.
pub fn run(args: &StatusArgs) -> Result<(), CliError> {
    let (mut has_begun, mut last) = (false, None);
    loop {
        let text = match once(args) {
            Ok(text) => {
                last = None;
                text
            }
            Err(error) if args.watch && has_begun => {
                if last.as_ref() != Some(&error.message) {
                    say::note(format_args!("slomod: {}; asked again every second", error.message));
                }
                last = Some(error.message);
                std::thread::sleep(WATCH_EVERY);
                continue;
            }
            Err(error) => return Err(error),
        };
        has_begun = true;
        let is_screen = args.watch && !args.json && std::io::stdout().is_terminal();
        let clear = if is_screen { CLEAR } else { "" };
        if !say::is_read(format_args!("{clear}{text}"))? || !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn once(args: &StatusArgs) -> Result<String, CliError> {
    if let Some(job) = args.job {
        let history = history(args, job)?;
        return match args.json {
            true => json(&history, args),
            false => Ok(history_text(&history, now_ms())),
        };
    }
    let view = view(args)?;
    if args.json { json(&view, args) } else { Ok(text(&view, now_ms())) }
}

/// Asks the daemon; where it runs and cannot be asked, the journal may still say something.
fn ask(args: &StatusArgs, ask: &Ask) -> Result<Option<Answer>, CliError> {
    match args.place.ask_if_there(ask) {
        Err(error) if error.exit == ExitCode::Unavailable => {
            say::note(format_args!("slomod: {}; this is what the journal says", error.message));
            Ok(None)
        }
        other => other,
    }
}

fn history(args: &StatusArgs, job: i64) -> Result<History, CliError> {
    if let Some(Answer::Job(history)) = ask(args, &Ask::Job(job))? {
        return Ok(*history);
    }
    args.place.journal()?.history_of(job).map_err(|error| CliError::of(&error))
}

fn view(args: &StatusArgs) -> Result<StatusView, CliError> {
    let (queued, ended) = (args.queued, args.ended);
    if let Some(Answer::Status(live)) = ask(args, &Ask::Status { queued, ended })? {
        return Ok(StatusView {
            daemon: Some(live.daemon),
            running: true,
            counts: live.counts,
            jobs: live.jobs,
            live: Some(live.details),
        });
    }
    let state_dir = args.place.daemon()?.state_dir;
    let journal = args.place.journal()?;
    in_journal(&journal, &state_dir, queued, ended).map_err(|error| CliError::of(&error))
}

fn in_journal(
    journal: &Journal,
    state_dir: &Path,
    queued: u32,
    ended: u32,
) -> Result<StatusView, JournalError> {
    let daemon = journal.daemon()?;
    // Another program may have the number of one that died. The lock is looked at last: a daemon that starts wants it.
    let running = daemon.as_ref().is_some_and(|it| is_alive(it.pid))
        && recover::is_locked(state_dir).unwrap_or(true);
    let (counts, jobs) = (journal.counts()?, journal.list(queued, ended)?);
    Ok(StatusView { daemon, running, counts, jobs, live: None })
}

fn json(view: &impl Serialize, args: &StatusArgs) -> Result<String, CliError> {
    let text = match args.watch {
        true => serde_json::to_string(view),
        false => serde_json::to_string_pretty(view),
    };
    let text = text.map_err(|error| CliError::new(ExitCode::Software, error.to_string()))?;
    Ok(text + "\n")
}

fn history_text(history: &History, now_ms: i64) -> String {
    let mut lines = vec![job_line(&history.job, now_ms)];
    lines.extend(history.events.iter().map(|event| {
        let time = jiff::Timestamp::from_millisecond(event.at_ms)
            .map_or_else(|_| event.at_ms.to_string(), |time| format!("{time:.3}"));
        let mut line = format!("{time}  {:<14} attempt {}", event.what, event.attempt);
        line += &format!("  {} slomod {}", plain(&event.host), plain(&event.version));
        if !event.detail.is_empty() {
            line += &format!("  {}", plain(&event.detail));
        }
        line
    }));
    lines.join("\n") + "\n"
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn text(view: &StatusView, now_ms: i64) -> String {
    let mut lines = Vec::new();
    match (&view.live, &view.daemon) {
        (Some(live), Some(daemon)) => lines.extend(live_lines(live, daemon, now_ms)),
        (None, Some(daemon)) if view.running => {
            lines.push(format!("daemon {}: {}", daemon.pid, plain(&daemon.status)));
        }
        (_, Some(_)) => {
            lines.push("the daemon died; it goes on where it was when it is started".into());
        }
        (_, None) => lines.push("no daemon is running".into()),
    }
    let counts = &view.counts;
    lines.push(format!(
        "done {}, queued {}, running {}, failed {}, refused {}, duplicate {}, skipped {}, cancelled {}",
        counts.done,
        counts.queued,
        counts.running,
        counts.failed,
        counts.refused,
        counts.duplicate,
        counts.skipped,
        counts.cancelled
    ));
    lines.extend(view.jobs.iter().map(|job| job_line(job, now_ms)));
    let listed = view.jobs.iter().filter(|job| job.state == "queued").count() as u64;
    if counts.queued > listed {
        lines.push(format!("        and {} more that wait (--queued N)", counts.queued - listed));
    }
    lines.join("\n") + "\n"
}

/// What a running daemon says of itself: its line, what does not work, and its folders.
fn live_lines(live: &Details, daemon: &DaemonView, now_ms: i64) -> Vec<String> {
    let up = Duration::from_secs((now_ms - daemon.started_ms).max(0).unsigned_abs() / 1000);
    let up = humantime::format_duration(up);
    let device = live.device.as_ref().map(device_name).unwrap_or_default();
    let mut lines = vec![
        format!("daemon {}: {}", daemon.pid, plain(&daemon.status)),
        format!("slomod {}, up {up}, {device}", plain(&live.version)),
    ];
    if let Some(since) = &live.paused_since {
        lines.push(format!("PAUSED since {}: `slomod resume` goes on", plain(since)));
    }
    lines.extend(live.degraded.iter().map(|it| format!("DEGRADED: {}", plain(it))));
    let length = |it: &WatchView| plain(&it.path).chars().count();
    let width = live.watches.iter().map(length).max().unwrap_or(0).min(WIDEST_FOLDER);
    lines.extend(live.watches.iter().map(|watch| {
        let mut line = format!("  {:<width$}  {:<8}", plain(&watch.path), watch.state);
        line += &format!("  {} waiting  -> {}", watch.queued, plain(&watch.output));
        if let Some(reason) = &watch.reason {
            line += &format!("  ({})", plain(reason));
        }
        line
    }));
    if live.settling > 0 {
        lines.push(format!("files that settle: {}", live.settling));
    }
    lines
}

fn job_line(job: &JobView, now_ms: i64) -> String {
    let mut line = format!("{:>6}  {:<10} {}", job.job, job.state, plain(&job.source));
    if let Some(progress) = job.progress.as_ref().filter(|_| job.state == "running") {
        line += &progress_text(progress);
    }
    if let Some(output) = &job.output {
        line += &format!(" -> {}", plain(output));
    }
    if let Some(message) = &job.error_message {
        line += &format!(": {}", plain(message));
    }
    let wait_s = (job.next_try_ms - now_ms) / 1000;
    if job.state == "queued" && wait_s > 0 {
        line += &format!(" (again in {wait_s} s)");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_one_line_whatever_its_name() {
        let job = JobView {
            job: 7,
            state: "queued".into(),
            source: "/in/a\nb.mp4".into(),
            source_b64: None,
            sha256: "h".into(),
            attempt: 1,
            output: None,
            report: None,
            error_code: Some("no_space".into()),
            error_message: Some("no space".into()),
            duplicate_of: None,
            queued_ms: 0,
            next_try_ms: 9_000,
            started_ms: None,
            finished_ms: None,
            progress: None,
        };
        let line = job_line(&job, 2_000);
        assert_eq!(line, "     7  queued     /in/a\\nb.mp4: no space (again in 7 s)");
    }

    #[test]
    fn what_does_not_work_comes_before_the_folders_and_names_stay_on_their_lines() {
        let watch = WatchView {
            path: "/in\n1 done".into(),
            output: "/out".into(),
            state: "offline".into(),
            reason: Some("not mounted".into()),
            queued: 3,
        };
        let live = Details {
            version: "1".into(),
            now_ms: 0,
            degraded: vec!["running on the CPU: no driver".into()],
            paused_since: Some("today".into()),
            device: None,
            device_memory: None,
            watches: vec![watch],
            settling: 2,
            oldest_queued_ms: None,
        };
        let daemon =
            DaemonView { pid: 7, started_ms: 0, seen_ms: 0, status: "1 watch | idle".into() };
        assert_eq!(
            live_lines(&live, &daemon, 61_000),
            [
                "daemon 7: 1 watch | idle",
                "slomod 1, up 1m 1s, ",
                "PAUSED since today: `slomod resume` goes on",
                "DEGRADED: running on the CPU: no driver",
                "  /in\\n1 done  offline   3 waiting  -> /out  (not mounted)",
                "files that settle: 2",
            ]
        );
    }
}
