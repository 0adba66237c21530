//! In which folder a job was queued (a watched folder may have something else mounted later, or nothing), and when what
//! waits for a folder or for a time is due.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};

use super::view::path_column;
use super::{Journal, Outcome};

impl Journal {
    /// The watched folder was `root` (`RootIdentity::lasting`) when `job` was queued.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn remember_root(&mut self, job: i64, root: &str) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "INSERT INTO job_roots (job, root) VALUES (?1, ?2)
                 ON CONFLICT (job) DO UPDATE SET root = excluded.root",
                params![job, root],
            )
        })
        .map(|_| ())
    }

    /// What the watched folder was when `job` was queued; `None` where nobody noted it.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn root_of(&self, job: i64) -> Outcome<Option<String>> {
        self.sql(|it| {
            it.query_row("SELECT root FROM job_roots WHERE job = ?1", [job], |row| row.get(0))
                .optional()
        })
    }

    /// The output folder `path`, as configured, was `root` (`RootIdentity::lasting`) when its lock was taken.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn remember_output(&mut self, path: &Path, root: &str) -> Outcome<()> {
        self.remember_folder("outputs", path, root)
    }

    fn remember_folder(&mut self, table: &str, path: &Path, root: &str) -> Outcome<()> {
        let statement = format!(
            "INSERT INTO {table} (path, root) VALUES (?1, ?2)
             ON CONFLICT (path) DO UPDATE SET root = excluded.root"
        );
        self.sql(|it| it.execute(&statement, params![path.as_os_str().as_bytes(), root]))
            .map(|_| ())
    }

    /// All output folders whose lock was ever taken, with what they were then.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn outputs(&self) -> Outcome<Vec<(PathBuf, String)>> {
        self.sql(|it| {
            it.prepare("SELECT path, root FROM outputs ORDER BY path")?
                .query_map([], |row| Ok((path_column(row, 0)?.unwrap_or_default(), row.get(1)?)))?
                .collect()
        })
    }

    /// The folder `path` that originals are moved to, as configured, was `root` (`RootIdentity::lasting`) at a move.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn remember_originals(&mut self, path: &Path, root: &str) -> Outcome<()> {
        self.remember_folder("originals", path, root)
    }

    /// What the folder `path` was at the last move of an original to it; `None` before the first.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn originals_of(&self, path: &Path) -> Outcome<Option<String>> {
        let query = "SELECT root FROM originals WHERE path = ?1";
        self.sql(|it| {
            it.query_row(query, [path.as_os_str().as_bytes()], |row| row.get(0)).optional()
        })
    }

    /// The queued jobs of `watch` that belong to another folder, `root`, wait like the one of them that was tried.
    /// `why` is code and sentence.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn postpone_root(
        &mut self,
        watch: &str,
        root: &str,
        until_ms: i64,
        why: (&str, &str),
    ) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "UPDATE jobs SET next_try_ms = CASE WHEN next_try_ms > ?3 THEN next_try_ms ELSE ?3 END,
                        delays = delays + 1,
                        error_code = ?4, error_message = ?5
                 WHERE watch = ?1 AND state = 'queued'
                       AND id IN (SELECT job FROM job_roots WHERE root = ?2)",
                params![watch, root, until_ms, why.0, why.1],
            )
        })
        .map(|_| ())
    }

    /// `job`, where it is queued, waits until `until_ms` at the least.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn postpone(&mut self, job: i64, until_ms: i64) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "UPDATE jobs SET next_try_ms = ?2 WHERE id = ?1 AND state = 'queued' AND next_try_ms < ?2",
                [job, until_ms],
            )
        })
        .map(|_| ())
    }

    /// The queued jobs of `watch` that wait because of `error_code` are due now.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn wake(&mut self, watch: &str, error_code: &str, now_ms: i64) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "UPDATE jobs SET next_try_ms = ?3
                 WHERE watch = ?1 AND state = 'queued' AND error_code = ?2 AND next_try_ms > ?3",
                params![watch, error_code, now_ms],
            )
        })
        .map(|_| ())
    }

    /// The system's clock was set back by `step_ms`: what waits is due as soon as it would have been.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn clock_set_back(&mut self, step_ms: i64) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "UPDATE jobs SET next_try_ms = next_try_ms - ?1 WHERE state = 'queued'",
                [step_ms],
            )
        })
        .map(|_| ())
    }

    /// No job waits for longer than `most_ms`: one that would was queued before the clock was set back.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn limit_waiting(&mut self, most_ms: i64, now_ms: i64) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "UPDATE jobs SET next_try_ms = ?2 WHERE state = 'queued' AND next_try_ms > ?1 + ?2",
                params![most_ms, now_ms],
            )
        })
        .map(|_| ())
    }
}
