//! `slomod status` and `slomod retry`: what the journal says, and a failed job again.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::CliError;
use crate::config::file;
use crate::daemon::job::now_ms;
use crate::daemon::journal::Journal;
use crate::daemon::journal::history::History;
use crate::daemon::journal::view::{Counts, DaemonView, JobView};
use crate::daemon::service::{plain, progress_text};
use crate::error::ExitCode;

/// Where the journal is.
#[derive(Debug, Args)]
pub struct JournalPlace {
    /// The daemon's configuration, which names the state folder.
    #[arg(short, long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
    /// The state folder itself, instead of a configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state_dir: Option<PathBuf>,
}

impl JournalPlace {
    fn open(&self) -> Result<Journal, CliError> {
        let state_dir = match &self.state_dir {
            Some(folder) => folder.clone(),
            None => {
                let config = file::load(&self.config).map_err(|error| CliError::of(&error))?;
                config.daemon.state_dir
            }
        };
        Journal::open_existing(&state_dir).map_err(|error| CliError::of(&error))
    }
}

/// Arguments of `slomod status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the journal is.
    #[command(flatten)]
    pub place: JournalPlace,
    /// One job and its history: what became of it, when, by which machine and version.
    pub job: Option<i64>,
    /// How many of the waiting jobs are listed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub queued: u32,
    /// How many of the jobs that are over are listed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub ended: u32,
    /// As JSON, with everything the journal says.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `slomod retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Where the journal is.
    #[command(flatten)]
    pub place: JournalPlace,
    /// Number of a failed, refused or skipped job, as `slomod status` lists it.
    pub job: i64,
}

#[derive(Debug, Serialize)]
struct StatusView {
    daemon: Option<DaemonView>,
    running: bool,
    counts: Counts,
    jobs: Vec<JobView>,
}

/// Prints the journal's jobs and their states.
///
/// # Errors
/// Where there is no journal, or it cannot be read.
pub fn run(args: &StatusArgs) -> Result<(), CliError> {
    let journal = args.place.open()?;
    if let Some(job) = args.job {
        let history = history(&journal, job)?;
        match args.json {
            true => println!("{}", json(&history)?),
            false => print!("{}", history_text(&history, now_ms())),
        }
        return Ok(());
    }
    let read = || {
        let daemon = journal.daemon()?;
        let running = daemon.as_ref().is_some_and(|it| is_alive(it.pid));
        Ok(StatusView {
            running,
            daemon,
            counts: journal.counts()?,
            jobs: journal.list(args.queued, args.ended)?,
        })
    };
    let view =
        read().map_err(|error: crate::daemon::journal::JournalError| CliError::of(&error))?;
    if args.json {
        println!("{}", json(&view)?);
    } else {
        print!("{}", text(&view, now_ms()));
    }
    Ok(())
}

fn json(view: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(view)
        .map_err(|error| CliError::new(ExitCode::Software, error.to_string()))
}

fn history(journal: &Journal, job: i64) -> Result<History, CliError> {
    let found = journal.history(job).map_err(|error| CliError::of(&error))?;
    found.ok_or_else(|| {
        let message = format!("there is no job {job}: `slomod status` lists them");
        CliError::new(ExitCode::Usage, message)
    })
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

/// Makes a failed, refused or skipped job wait again.
///
/// # Errors
/// Where there is no such job, or it is in another state.
pub fn run_retry(args: &RetryArgs) -> Result<(), CliError> {
    let mut journal = args.place.open()?;
    journal.retry(args.job, now_ms()).map_err(|error| CliError::of(&error))?;
    println!("job {} is queued", args.job);
    Ok(())
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn text(view: &StatusView, now_ms: i64) -> String {
    let mut lines = vec![match &view.daemon {
        Some(daemon) if view.running => format!("daemon {}: {}", daemon.pid, plain(&daemon.status)),
        Some(_) => "the daemon died; it goes on where it was when it is started".into(),
        None => "no daemon is running".into(),
    }];
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
}
