//! `slomod pause`, `resume`, `cancel`, `retry`, `rescan`, `reload` and `metrics`: what a running daemon is asked to do.

use clap::{ArgGroup, Args};

use crate::cli::place::DaemonPlace;
use crate::cli::{CliError, say};
use crate::daemon::control::{Answer, Ask, Ended};
use crate::daemon::job::now_ms;
use crate::error::ExitCode;

/// Arguments of the commands that take nothing else.
#[derive(Debug, Args)]
pub struct PlainArgs {
    /// Which daemon.
    #[command(flatten)]
    pub place: DaemonPlace,
}

/// Arguments of `slomod cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Which daemon.
    #[command(flatten)]
    pub place: DaemonPlace,
    /// Number of a waiting or running job, as `slomod status` lists it.
    pub job: i64,
}

/// Arguments of `slomod retry`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("jobs").args(["job", "failed", "refused"]).required(true).multiple(true))]
pub struct RetryArgs {
    /// Which daemon.
    #[command(flatten)]
    pub place: DaemonPlace,
    /// Number of a failed, refused, skipped or cancelled job, as `slomod status` lists it.
    pub job: Option<i64>,
    /// All failed jobs.
    #[arg(long, conflicts_with = "job")]
    pub failed: bool,
    /// All refused jobs.
    #[arg(long, conflicts_with = "job")]
    pub refused: bool,
}

/// Asks the running daemon for `ask` and prints its answer.
///
/// # Errors
/// Where none runs, it cannot be asked, or it refuses.
pub fn run(place: &DaemonPlace, ask: &Ask) -> Result<(), CliError> {
    print(place.ask(ask)?)
}

/// Cancels a job. Without a daemon the journal is changed, in which the next one finds it.
///
/// # Errors
/// Where there is no such job, or it is in another state.
pub fn cancel(args: &CancelArgs) -> Result<(), CliError> {
    if let Some(answer) = args.place.ask_if_there(&Ask::Cancel(args.job))? {
        return print(answer);
    }
    let mut journal = args.place.journal()?;
    journal.cancel(args.job, now_ms()).map_err(|error| CliError::of(&error))?;
    say::line(format_args!("job {} is cancelled; its file stays where it is", args.job))
}

/// Makes jobs wait again. Without a daemon the journal is changed, in which the next one finds it.
///
/// # Errors
/// Where there is no such job, or it is in another state.
pub fn retry(args: &RetryArgs) -> Result<(), CliError> {
    let all = [(args.failed, Ended::Failed), (args.refused, Ended::Refused)];
    let asks = all.into_iter().filter(|it| it.0).map(|it| Ask::RetryAll(it.1));
    for ask in args.job.map(Ask::Retry).into_iter().chain(asks) {
        match args.place.ask_if_there(&ask)? {
            Some(answer) => print(answer)?,
            None => retry_in_journal(&args.place, &ask)?,
        }
    }
    Ok(())
}

fn retry_in_journal(place: &DaemonPlace, ask: &Ask) -> Result<(), CliError> {
    let mut journal = place.journal()?;
    let done = match ask {
        Ask::RetryAll(ended) => journal
            .retry_all(ended.word(), now_ms())
            .map(|count| format!("{} jobs that are queued again: {count}", ended.word())),
        Ask::Retry(job) => {
            journal.retry(*job, now_ms()).map(|advice| format!("job {job} is queued{advice}"))
        }
        _ => return Ok(()),
    };
    say::line(done.map_err(|error| CliError::of(&error))?)
}

fn print(answer: Answer) -> Result<(), CliError> {
    match answer {
        Answer::Done(sentence) => say::line(sentence),
        Answer::Metrics(text) => say::print(text),
        other => {
            let message = format!("the daemon answered something else: {other:?}");
            Err(CliError::new(ExitCode::Software, message))
        }
    }
}
