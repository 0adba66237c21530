//! What a person asks of jobs that are not being worked: another try, or none at all.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};

use super::history::History;
use super::view::{COLUMNS, JobView, job_view, path_column};
use super::{Journal, JournalError, Outcome};

/// Why a job is cancelled that a person did not want: unlike one whose source went, it can be tried again, and its file is
/// known and does not become a job by itself.
pub const CANCELLED_BY_REQUEST: &str = "cancelled_by_request";

/// Jobs that can be tried again. The word is [`CANCELLED_BY_REQUEST`].
const ENDED: &str = "(state IN ('failed', 'refused', 'skipped')
                      OR (state = 'cancelled' AND error_code = 'cancelled_by_request'))";

/// A job that is over, for whoever hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRow {
    /// The job.
    pub job: i64,
    /// `done`, `failed`, `refused`, `duplicate`, `skipped` or `cancelled`.
    pub state: String,
    /// The watched folder.
    pub watch: String,
    /// The clip.
    pub source: PathBuf,
    /// Its report, where there is one.
    pub report_path: Option<PathBuf>,
}

impl Journal {
    /// A job that is over; `None` where it is not, or there is none of this number.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn ended(&self, job: i64) -> Outcome<Option<EndedRow>> {
        let query = "SELECT state, watch, relative_path, report_path FROM jobs
                     WHERE id = ?1 AND state NOT IN ('queued', 'running', 'publishing')";
        self.sql(|it| {
            it.query_row(query, [job], |row| {
                let watch: String = row.get(1)?;
                let relative = path_column(row, 2)?.unwrap_or_default();
                Ok(EndedRow {
                    job,
                    state: row.get(0)?,
                    source: Path::new(&watch).join(relative),
                    report_path: path_column(row, 3)?,
                    watch,
                })
            })
            .optional()
        })
    }

    /// Makes a failed, refused or skipped job queued, or one that was cancelled by request, with its counts at zero. Returns
    /// what else is to be said where another try alone will not help.
    ///
    /// # Errors
    /// [`JournalError::Refused`] where there is no such job or it is in another state.
    pub fn retry(&mut self, job: i64, now_ms: i64) -> Outcome<&'static str> {
        let scribe = self.scribe();
        let before = self.job(job)?.and_then(|it| it.error_code);
        let which = format!("id = ?1 AND {ENDED}");
        let changed = self.transaction(|it| {
            scribe.note_all(it, ("retry", "asked for"), &which, &[&job])?;
            it.execute(&requeue(&which), params![job, now_ms])
        })?;
        if changed == 1 {
            return Ok(advice(before.as_deref().unwrap_or_default()));
        }
        let what = "only failed, refused and skipped jobs, and those that were cancelled by request, can be tried again";
        Err(self.refusal(job, what))
    }

    /// Makes all jobs in `state` (`failed` or `refused`) queued, with their counts at zero; returns how many.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn retry_all(&mut self, state: &str, now_ms: i64) -> Outcome<usize> {
        let scribe = self.scribe();
        let which = format!("state = ?1 AND {ENDED}");
        self.transaction(|it| {
            scribe.note_all(it, ("retry", "asked for"), &which, &[&state])?;
            it.execute(&requeue(&which), params![state, now_ms])
        })
    }

    /// Cancels a job that waits.
    ///
    /// # Errors
    /// [`JournalError::Refused`] where there is no such job or it is in another state.
    pub fn cancel(&mut self, job: i64, now_ms: i64) -> Outcome<()> {
        self.cancel_in("queued", job, now_ms)
    }

    /// Cancels a job whose publication a dead daemon began. The caller knows that nobody is completing it. What has its final
    /// name already stays; the rest is left over.
    ///
    /// # Errors
    /// [`JournalError::Refused`] where there is no such job or it is in another state.
    pub fn cancel_publication(&mut self, job: i64, now_ms: i64) -> Outcome<()> {
        self.cancel_in("publishing", job, now_ms)
    }

    fn cancel_in(&mut self, state: &str, job: i64, now_ms: i64) -> Outcome<()> {
        let scribe = self.scribe();
        let changed = self.transaction(|it| {
            let which = "id = ?1 AND state = ?2";
            scribe.note_all(it, ("cancelled", "asked for"), which, &[&job, &state])?;
            it.execute(
                "UPDATE jobs SET state = 'cancelled', finished_ms = ?2, error_code = ?3,
                        error_message = 'it was cancelled by request', output_path = NULL, output_folded = NULL,
                        output_sha256 = NULL, report = NULL, lease_owner = NULL, lease_until_ms = NULL,
                        report_path = CASE state WHEN 'publishing' THEN NULL ELSE report_path END
                 WHERE id = ?1 AND state = ?4",
                params![job, now_ms, CANCELLED_BY_REQUEST, state],
            )
        })?;
        if changed == 1 {
            return Ok(());
        }
        let what = "only waiting and running jobs can be cancelled, and by a running daemon one whose publication was \
                    interrupted";
        Err(self.refusal(job, what))
    }

    /// A job as it is now; `None` where there is none of this number.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn job(&self, job: i64) -> Outcome<Option<JobView>> {
        let query = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        self.sql(|it| it.query_row(&query, [job], job_view).optional())
    }

    /// A job and its history.
    ///
    /// # Errors
    /// [`JournalError::Refused`] where there is no such job.
    pub fn history_of(&self, job: i64) -> Outcome<History> {
        self.history(job)?.ok_or_else(|| unknown(job))
    }

    /// Since when the oldest waiting job waits, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn oldest_queued_ms(&self) -> Outcome<Option<i64>> {
        let query = "SELECT MIN(queued_ms) FROM jobs WHERE state = 'queued'";
        self.sql(|it| it.query_row(query, [], |row| row.get(0)))
    }

    /// The watched folders of waiting jobs, with how many wait.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn queued_by_watch(&self) -> Outcome<Vec<(String, u64)>> {
        let query = "SELECT watch, count(*) FROM jobs WHERE state = 'queued' GROUP BY watch";
        self.sql(|it| {
            it.prepare_cached(query)?
                .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
                .collect()
        })
    }

    /// The jobs that are being published, or were when their daemon died, with their watched folders.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn publishing_jobs(&self) -> Outcome<Vec<(i64, String)>> {
        let query = "SELECT id, watch FROM jobs WHERE state = 'publishing'";
        self.sql(|it| {
            it.prepare_cached(query)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    fn refusal(&self, job: i64, what: &str) -> JournalError {
        match self.job(job) {
            Ok(Some(JobView { state, .. })) => {
                JournalError::Refused(format!("job {job} is {state}: {what}"))
            }
            Ok(None) => unknown(job),
            Err(error) => error,
        }
    }
}

/// What is to be said to whoever asks for another try of a job that ended with this code.
fn advice(code: &str) -> &'static str {
    match code {
        "own_output" => {
            "; it is an output of slomod, and will be skipped again: `slomod convert` works it by hand"
        }
        "output_exists" => {
            "; it will be skipped again while its output's name is taken: move that file, or set another `collision`"
        }
        _ => "",
    }
}

fn unknown(job: i64) -> JournalError {
    JournalError::Refused(format!("there is no job {job}: `slomod status` lists them"))
}

fn requeue(which: &str) -> String {
    format!(
        "UPDATE jobs SET state = 'queued', next_try_ms = ?2, failures = 0, crashes = 0, delays = 0,
                finished_ms = NULL, error_code = NULL, error_message = NULL
         WHERE {which}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::journal::drawn::{end, new_job};
    use crate::daemon::journal::{Again, Count};

    fn submit(journal: &mut Journal, name: &str) -> i64 {
        journal.submit(&new_job(name), 1).unwrap()
    }

    fn state(journal: &Journal, job: i64) -> String {
        journal.job(job).unwrap().unwrap().state
    }

    #[test]
    fn a_waiting_job_can_be_cancelled_and_asked_for_again_and_its_file_stays_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let job = submit(&mut journal, "a.mp4");
        journal.cancel(job, 2).unwrap();
        assert_eq!(state(&journal, job), "cancelled");
        let seen = journal.seen("/in", Path::new("a.mp4")).unwrap().unwrap();
        assert_eq!(seen.error_code.as_deref(), Some(CANCELLED_BY_REQUEST));
        assert!(journal.claim("me", &["/in"], 9, 1).unwrap().is_none());
        assert!(journal.cancel(job, 3).unwrap_err().to_string().contains("is cancelled"));
        assert!(journal.cancel(77, 3).unwrap_err().to_string().contains("no job 77"));
        journal.retry(job, 4).unwrap();
        let again = journal.job(job).unwrap().unwrap();
        assert_eq!((again.error_code, again.error_message), (None, None), "that is over");
        assert_eq!(journal.claim("me", &["/in"], 9, 1).unwrap().unwrap().job, job);
        let why = journal.cancel(job, 5).unwrap_err().to_string();
        assert!(why.contains("is running"), "{why}");
        let history = journal.history_of(job).unwrap();
        let what: Vec<&str> = history.events.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(what, ["received", "cancelled", "retry", "claimed"]);
    }

    #[test]
    fn who_asks_for_a_job_again_that_will_be_skipped_again_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for (code, said) in
            [("own_output", "slomod convert"), ("output_exists", "`collision`"), ("x", "")]
        {
            let job = submit(&mut journal, code);
            let claim = journal.claim("me", &["/in"], 9, 1).unwrap().unwrap();
            journal.end(&claim, &end("skipped", code), 10).unwrap();
            let advice = journal.retry(job, 11).unwrap();
            assert!(advice.contains(said) && advice.is_empty() == said.is_empty(), "{advice}");
            journal.cancel(job, 12).unwrap();
        }
    }

    #[test]
    fn all_jobs_of_a_state_are_asked_for_again_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let jobs = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"].map(|name| submit(&mut journal, name));
        for ended in ["failed", "failed", "refused"] {
            let claim = journal.claim("me", &["/in"], 9, 1).unwrap().unwrap();
            journal.end(&claim, &end(ended, "x"), 10).unwrap();
        }
        assert_eq!(journal.retry_all("failed", 20).unwrap(), 2);
        let states = jobs.map(|job| state(&journal, job));
        assert_eq!(states, ["queued", "queued", "refused", "queued"]);
        assert_eq!(journal.retry_all("failed", 21).unwrap(), 0);
        assert_eq!(journal.retry_all("refused", 22).unwrap(), 1);
    }

    #[test]
    fn waiting_jobs_are_counted_by_folder_and_the_oldest_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.oldest_queued_ms().unwrap(), None);
        submit(&mut journal, "a.mp4");
        submit(&mut journal, "b.mp4");
        assert_eq!(journal.queued_by_watch().unwrap(), [("/in".to_owned(), 2)]);
        let claim = journal.claim("me", &["/in"], 9, 1).unwrap().unwrap();
        assert_eq!(journal.queued_by_watch().unwrap(), [("/in".to_owned(), 1)]);
        let again = Again { count: Count::Nothing, next_try_ms: 9, code: "x", message: "y" };
        journal.again(&claim, &again).unwrap();
        assert_eq!(journal.oldest_queued_ms().unwrap(), Some(1));
    }
}
