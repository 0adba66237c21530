//! What `slomod status` sees of the journal.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Journal, Outcome};
use crate::pipeline::Progress;
use crate::report::path_fields;

/// A job as listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number.
    pub job: i64,
    /// `queued`, `running`, `publishing`, `done`, `failed`, `refused`, `duplicate`, `skipped` or `cancelled`.
    pub state: String,
    /// The source, with what is not UTF-8 replaced.
    pub source: String,
    /// Its bytes in base64, where that is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_b64: Option<String>,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Claims so far.
    pub attempt: i64,
    /// The output, where there is one.
    pub output: Option<String>,
    /// The report, where there is one.
    pub report: Option<String>,
    /// Why it failed, was refused or waits.
    pub error_code: Option<String>,
    /// The same as a sentence.
    pub error_message: Option<String>,
    /// The job that has the output of this one.
    pub duplicate_of: Option<i64>,
    /// Milliseconds since 1970.
    pub queued_ms: i64,
    /// Not before; of a queued job.
    pub next_try_ms: i64,
    /// Start of the last attempt.
    pub started_ms: Option<i64>,
    /// End of the job.
    pub finished_ms: Option<i64>,
    /// How far it is; of a running job.
    pub progress: Option<Progress>,
}

/// How many jobs are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Waiting.
    pub queued: u64,
    /// Being worked or published.
    pub running: u64,
    /// With output and report.
    pub done: u64,
    /// Given up.
    pub failed: u64,
    /// Not usable.
    pub refused: u64,
    /// Done before.
    pub duplicate: u64,
    /// Left as they are.
    pub skipped: u64,
    /// Source gone or replaced.
    pub cancelled: u64,
}

/// The daemon as it last described itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Process number.
    pub pid: u32,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// When it last wrote.
    pub seen_ms: i64,
    /// The line that systemd shows, too.
    pub status: String,
}

/// Reads a path column.
pub(super) fn path_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<PathBuf>> {
    Ok(row.get::<_, Option<Vec<u8>>>(index)?.map(|bytes| OsString::from_vec(bytes).into()))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a [`JobView`] is read from.
pub(super) const COLUMNS: &str =
    "id, state, watch, relative_path, sha256, attempt, output_path, report_path, error_code,
    error_message, duplicate_of, queued_ms, started_ms, finished_ms, progress, next_try_ms";

/// Reads [`COLUMNS`].
pub(super) fn job_view(row: &Row<'_>) -> rusqlite::Result<JobView> {
    let path = |index| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<Vec<u8>>>(index)?.map(|it| lossy(&it)))
    };
    let watch: String = row.get(2)?;
    let relative = path_column(row, 3)?.unwrap_or_default();
    let (source, source_b64) = path_fields(&Path::new(&watch).join(relative));
    let progress: Option<String> = row.get(14)?;
    Ok(JobView {
        job: row.get(0)?,
        state: row.get(1)?,
        source,
        source_b64,
        sha256: row.get(4)?,
        attempt: row.get(5)?,
        output: path(6)?,
        report: path(7)?,
        error_code: row.get(8)?,
        error_message: row.get(9)?,
        duplicate_of: row.get(10)?,
        queued_ms: row.get(11)?,
        started_ms: row.get(12)?,
        finished_ms: row.get(13)?,
        progress: progress.and_then(|text| serde_json::from_str(&text).ok()),
        next_try_ms: row.get(15)?,
    })
}

impl Journal {
    /// The jobs that are not over, and the last `ended` of those that are; oldest first.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn jobs(&self, ended: u32) -> Outcome<Vec<JobView>> {
        self.list(u32::MAX, ended)
    }

    /// The running jobs, the first `queued` of those that wait, in the order of their folders and files, and the last
    /// `ended` of those that are over; oldest first.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn list(&self, queued: u32, ended: u32) -> Outcome<Vec<JobView>> {
        let query = format!(
            "SELECT {COLUMNS} FROM jobs WHERE state IN ('running', 'publishing')
             UNION ALL
             SELECT * FROM (SELECT {COLUMNS} FROM jobs WHERE state = 'queued'
                            ORDER BY watch, mtime_ns, relative_path, id LIMIT ?1) AS waiting
             UNION ALL
             SELECT * FROM (SELECT {COLUMNS} FROM jobs
                            WHERE finished_ms IS NOT NULL AND state NOT IN ('queued', 'running', 'publishing')
                            ORDER BY finished_ms DESC, id DESC LIMIT ?2) AS ended
             ORDER BY id"
        );
        self.sql(|it| it.prepare(&query)?.query_map([queued, ended], job_view)?.collect())
    }

    /// How many jobs are in which state. Counted only where something was written since the last call, other than
    /// [`Self::changes_no_count`] says, so that asking every second costs nothing, beside a running job as well.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn counts(&self) -> Outcome<Counts> {
        let read = |query| self.sql(|it| it.query_row(query, [], |row| row.get::<_, i64>(0)));
        // What this connection wrote, and whether another one did.
        let own = read("SELECT total_changes()")? - self.uncounted.get();
        let written = (own, read("PRAGMA data_version")?);
        if let Some((then, counts)) = self.counted.get()
            && then == written
        {
            return Ok(counts);
        }
        let counts = self.count()?;
        self.counted.set(Some((written, counts)));
        Ok(counts)
    }

    /// This many rows were written, and no job has another state for it.
    pub(super) fn changes_no_count(&self, rows: usize) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.uncounted.set(self.uncounted.get().saturating_add(rows));
    }

    fn count(&self) -> Outcome<Counts> {
        let rows: Vec<(String, i64)> = self.sql(|it| {
            it.prepare_cached("SELECT state, count(*) FROM jobs GROUP BY state")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        let mut counts = Counts::default();
        for (state, count) in rows {
            let place = match state.as_str() {
                "queued" => &mut counts.queued,
                "running" | "publishing" => &mut counts.running,
                "done" => &mut counts.done,
                "failed" => &mut counts.failed,
                "refused" => &mut counts.refused,
                "duplicate" => &mut counts.duplicate,
                "skipped" => &mut counts.skipped,
                _ => &mut counts.cancelled,
            };
            *place += count.unsigned_abs();
        }
        Ok(counts)
    }

    /// Stores how the daemon describes itself.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn describe_daemon(&mut self, view: &DaemonView) -> Outcome<()> {
        let rows = self.sql(|it| {
            it.execute(
                "INSERT INTO daemon (id, pid, started_ms, seen_ms, status) VALUES (1, ?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO UPDATE SET pid = excluded.pid, started_ms = excluded.started_ms,
                     seen_ms = excluded.seen_ms, status = excluded.status",
                params![view.pid, view.started_ms, view.seen_ms, view.status],
            )
        })?;
        self.changes_no_count(rows);
        Ok(())
    }

    /// How the daemon last described itself; `None` before its first start and after a clean end.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn daemon(&self) -> Outcome<Option<DaemonView>> {
        self.sql(|it| {
            it.query_row("SELECT pid, started_ms, seen_ms, status FROM daemon", [], |row| {
                Ok(DaemonView {
                    pid: row.get(0)?,
                    started_ms: row.get(1)?,
                    seen_ms: row.get(2)?,
                    status: row.get(3)?,
                })
            })
            .optional()
        })
    }

    /// The daemon ends. The journal's file is then complete by itself and can be replaced, unless somebody reads it in this moment.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn forget_daemon(&mut self) -> Outcome<()> {
        self.sql(|it| {
            it.execute("DELETE FROM daemon", [])?;
            it.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::journal::drawn::new_job;

    fn submit(journal: &mut Journal, name: &str) {
        journal.submit(&new_job(name), 1).unwrap();
    }

    #[test]
    fn jobs_are_not_counted_again_for_progress_and_the_daemons_own_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        submit(&mut journal, "a.mp4");
        let claim = journal.claim("me", &["/in"], 9, 1).unwrap().unwrap();
        journal.counts().unwrap();
        let (written, _) = journal.counted.get().unwrap();
        let kept = Counts { failed: 77, ..Counts::default() };
        journal.counted.set(Some((written, kept)));
        let view = DaemonView { pid: 1, started_ms: 2, seen_ms: 3, status: "x".into() };
        for now_ms in 10..13 {
            journal.progress(&claim, &Progress::default(), now_ms, 1).unwrap();
            journal.describe_daemon(&view).unwrap();
            assert_eq!(journal.counts().unwrap(), kept);
        }
        submit(&mut journal, "b.mp4");
        assert_eq!(
            journal.counts().unwrap(),
            Counts { queued: 1, running: 1, ..Counts::default() }
        );
    }
}
