//! From a settled file to a queued job, and what is already known about a file.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{OptionalExtension, params};

use super::{CANCELLED_BY_REQUEST, Journal, Outcome};
use crate::daemon::snapshot::Snapshot;

/// Holds for a job that waits for the file at `?1`, `?2`.
const WAITS: &str = "watch = ?1 AND relative_path = ?2 AND state = 'queued'";

/// A settled file that becomes a job.
#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    /// The watched folder as configured.
    pub watch: &'a str,
    /// The file below it.
    pub relative: &'a Path,
    /// The file as it was hashed.
    pub snapshot: Snapshot,
    /// SHA-256 of its content in hex.
    pub sha256: &'a str,
    /// Settings as JSON.
    pub settings: &'a str,
    /// SHA-256 of what in the settings decides the result.
    pub settings_sha256: &'a str,
    /// SHA-256 of its list of cuts; empty where it has none.
    pub list_sha256: &'a str,
}

/// The job that a file's earlier content led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The job.
    pub job: i64,
    /// Its state, as in the table.
    pub state: String,
    /// Why it is in that state, where there is a reason.
    pub error_code: Option<String>,
    /// SHA-256 of the content it was for.
    pub sha256: String,
    /// SHA-256 of its settings.
    pub settings_sha256: String,
    /// SHA-256 of its list of cuts; empty where it had none.
    pub list_sha256: String,
    /// Its report, once there is one.
    pub report_path: Option<std::path::PathBuf>,
    /// Size in bytes and modification time of the file then.
    pub size_and_time: (u64, i64),
}

impl Seen {
    /// Whether `new`, which looks like another file than before, asks for nothing that its job did not do. The work of a
    /// done job is asked for again where its report is gone, but not where only the file's inode is another and says nothing
    /// (`keeps_inodes`): nobody put the file there again.
    #[must_use]
    pub fn is_answer_to(
        &self,
        new: &NewJob<'_>,
        report_is_there: bool,
        keeps_inodes: bool,
    ) -> bool {
        let now = (new.snapshot.size_bytes, new.snapshot.mtime_ns);
        self.sha256 == new.sha256
            && self.settings_sha256 == new.settings_sha256
            && self.list_sha256 == new.list_sha256
            && match self.state.as_str() {
                "cancelled" => self.error_code.as_deref() == Some(CANCELLED_BY_REQUEST),
                "done" => report_is_there || (!keeps_inodes && self.size_and_time == now),
                _ => true,
            }
    }
}

impl Journal {
    /// Whether this very file (same place, size, modification time and inode) is already a job, whatever its state.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn knows(&self, watch: &str, relative: &Path, snapshot: &Snapshot) -> Outcome<bool> {
        let row: Option<(i64, i64, i64)> = self.sql(|it| {
            it.prepare_cached(
                "SELECT size_bytes, mtime_ns, inode FROM files WHERE watch = ?1 AND relative_path = ?2",
            )?
            .query_row(params![watch, relative.as_os_str().as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
        })?;
        let now =
            (snapshot.size_bytes.cast_signed(), snapshot.mtime_ns, snapshot.inode.cast_signed());
        Ok(row == Some(now))
    }

    /// The job that the file at this place led to last.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn seen(&self, watch: &str, relative: &Path) -> Outcome<Option<Seen>> {
        self.sql(|it| {
            it.query_row(
                "SELECT jobs.id, state, sha256, settings_sha256, report_path, error_code, files.size_bytes,
                        files.mtime_ns, list_sha256
                 FROM files JOIN jobs ON jobs.id = files.job
                 WHERE files.watch = ?1 AND files.relative_path = ?2",
                params![watch, relative.as_os_str().as_bytes()],
                |row| {
                    Ok(Seen {
                        job: row.get(0)?,
                        state: row.get(1)?,
                        sha256: row.get(2)?,
                        settings_sha256: row.get(3)?,
                        report_path: super::view::path_column(row, 4)?,
                        error_code: row.get(5)?,
                        size_and_time: (row.get::<_, i64>(6)?.cast_unsigned(), row.get(7)?),
                        list_sha256: row.get(8)?,
                    })
                },
            )
            .optional()
        })
    }

    /// The content at this place is still that of `job`, though the file looks new (copied again, touched).
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn same_again(&mut self, job: i64, new: &NewJob<'_>) -> Outcome<()> {
        let (size, inode) =
            (new.snapshot.size_bytes.cast_signed(), new.snapshot.inode.cast_signed());
        self.transaction(|it| {
            it.execute(
                "UPDATE files SET size_bytes = ?3, mtime_ns = ?4, inode = ?5
                 WHERE watch = ?1 AND relative_path = ?2",
                params![
                    new.watch,
                    new.relative.as_os_str().as_bytes(),
                    size,
                    new.snapshot.mtime_ns,
                    inode
                ],
            )?;
            it.execute(
                "UPDATE jobs SET size_bytes = ?2, mtime_ns = ?3, inode = ?4 WHERE id = ?1",
                params![job, size, new.snapshot.mtime_ns, inode],
            )?;
            Ok(())
        })
    }

    /// Makes the file a queued job and returns its number. An earlier job of the same place that still waits is
    /// cancelled: its content is gone.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn submit(&mut self, new: &NewJob<'_>, now_ms: i64) -> Outcome<i64> {
        let relative = new.relative.as_os_str().as_bytes();
        let (size, inode) =
            (new.snapshot.size_bytes.cast_signed(), new.snapshot.inode.cast_signed());
        let scribe = self.scribe();
        self.transaction(|it| {
            scribe.note_all(
                it,
                ("cancelled", "source_changed: the file was replaced before its turn"),
                WAITS,
                &[&new.watch, &relative],
            )?;
            let cancel = format!(
                "UPDATE jobs SET state = 'cancelled', finished_ms = ?3, error_code = 'source_changed',
                        error_message = 'the file was replaced before its turn'
                 WHERE {WAITS}"
            );
            it.prepare_cached(&cancel)?.execute(params![new.watch, relative, now_ms])?;
            let job: i64 = it.query_row(
                "INSERT INTO jobs (watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings,
                                   settings_sha256, state, next_try_ms, queued_ms, list_sha256)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'queued', ?9, ?9, ?10) RETURNING id",
                params![
                    new.watch,
                    relative,
                    size,
                    new.snapshot.mtime_ns,
                    inode,
                    new.sha256,
                    new.settings,
                    new.settings_sha256,
                    now_ms,
                    new.list_sha256
                ],
                |row| row.get(0),
            )?;
            scribe.note(it, (job, 0), "received", &format!("sha256 {}", new.sha256))?;
            it.execute(
                "INSERT INTO files (watch, relative_path, size_bytes, mtime_ns, inode, job)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (watch, relative_path) DO UPDATE SET size_bytes = excluded.size_bytes,
                     mtime_ns = excluded.mtime_ns, inode = excluded.inode, job = excluded.job",
                params![new.watch, relative, size, new.snapshot.mtime_ns, inode, job],
            )?;
            Ok(job)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W29. Linux makes inodes up for files of FAT: none is the same after a mount.
    #[test]
    fn a_done_file_is_worked_again_only_where_somebody_put_it_there_again() {
        let snapshot = Snapshot { size_bytes: 9, mtime_ns: 8, ctime_ns: 7, inode: 6 };
        let relative = Path::new("a.mp4");
        let (watch, settings) = ("/in", "{}");
        let again = NewJob {
            watch,
            relative,
            snapshot,
            sha256: "h",
            settings,
            settings_sha256: "s",
            list_sha256: "",
        };
        let seen = |state: &str, code: Option<&str>| Seen {
            job: 1,
            state: state.into(),
            error_code: code.map(Into::into),
            sha256: "h".into(),
            settings_sha256: "s".into(),
            list_sha256: String::new(),
            report_path: None,
            size_and_time: (9, 8),
        };
        let done = seen("done", None);
        assert!(done.is_answer_to(&again, true, true) && done.is_answer_to(&again, false, false));
        assert!(!done.is_answer_to(&again, false, true), "copied there again, with its times");
        let touched = NewJob { snapshot: Snapshot { mtime_ns: 9, ..snapshot }, ..again.clone() };
        assert!(
            !done.is_answer_to(&touched, false, false) && done.is_answer_to(&touched, true, false)
        );
        assert!(!done.is_answer_to(&NewJob { sha256: "i", ..again.clone() }, true, false));
        assert!(!done.is_answer_to(&NewJob { settings_sha256: "t", ..again.clone() }, true, false));
        assert!(!done.is_answer_to(&NewJob { list_sha256: "l", ..again.clone() }, true, false));
        assert!(seen("refused", None).is_answer_to(&again, false, true));
        assert!(!seen("cancelled", Some("source_vanished")).is_answer_to(&again, true, false));
        assert!(seen("cancelled", Some(CANCELLED_BY_REQUEST)).is_answer_to(&again, false, true));
    }

    /// W29. It is asked for every new job, beside a backlog of very many.
    #[test]
    fn whether_a_job_waits_for_a_place_is_found_without_reading_all_that_wait() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let query = format!("EXPLAIN QUERY PLAN SELECT id FROM jobs WHERE {WAITS}");
        let plan: String =
            journal.sql(|it| it.query_row(&query, params!["/in", b"a"], |row| row.get(3))).unwrap();
        assert!(plan.contains("jobs_by_place (watch=? AND relative_path=? AND state=?)"), "{plan}");
    }
}
