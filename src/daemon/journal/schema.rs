//! Layouts of the journal's tables, and the way from each to the next.
//!
//! A version is made by the steps up to it, one transaction each, so a journal is always of one whole version. What
//! PostgreSQL would have otherwise is named in the journal's description. A published step is never changed; what is to be different is a new step.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::daemon::events::Kind;

use super::{Journal, JournalError, Outcome, chain, explain, of_system, view};

/// One step.
struct Step {
    sql: &'static str,
    /// What plain SQL cannot say.
    rest: fn(&Connection) -> rusqlite::Result<()>,
}

/// Step `n` leads from version `n` to `n + 1`.
const STEPS: [Step; 9] = [
    Step { sql: FIRST, rest: |_| Ok(()) },
    Step { sql: HISTORY, rest: fold_output_names },
    Step { sql: BESIDE, rest: |_| Ok(()) },
    Step { sql: GROUNDS, rest: |_| Ok(()) },
    Step { sql: PLACES, rest: |_| Ok(()) },
    Step { sql: CHAIN, rest: chain::begin },
    Step { sql: ORIGINALS, rest: |_| Ok(()) },
    Step { sql: PENDING_BY_FOLDER, rest: |_| Ok(()) },
    Step { sql: LISTS, rest: |_| Ok(()) },
];

/// Layout of the tables, as `user_version`.
pub(super) const VERSION: i64 = STEPS.len() as i64;

const FIRST: &str = "
CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY,
    watch           TEXT    NOT NULL,
    relative_path   BLOB    NOT NULL,
    size_bytes      BIGINT  NOT NULL,
    mtime_ns        BIGINT  NOT NULL,
    inode           BIGINT  NOT NULL,
    sha256          TEXT    NOT NULL,
    settings        TEXT    NOT NULL,
    settings_sha256 TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'publishing', 'done', 'failed', 'refused',
                                                      'duplicate', 'cancelled')),
    attempt         BIGINT  NOT NULL DEFAULT 0,
    failures        BIGINT  NOT NULL DEFAULT 0,
    crashes         BIGINT  NOT NULL DEFAULT 0,
    delays          BIGINT  NOT NULL DEFAULT 0,
    lease_owner     TEXT,
    lease_until_ms  BIGINT,
    next_try_ms     BIGINT  NOT NULL,
    queued_ms       BIGINT  NOT NULL,
    started_ms      BIGINT,
    finished_ms     BIGINT,
    temporary_path  BLOB,
    output_path     BLOB,
    report_path     BLOB,
    report          TEXT,
    error_code      TEXT,
    error_message   TEXT,
    duplicate_of    BIGINT REFERENCES jobs (id),
    original        TEXT    NOT NULL DEFAULT 'kept' CHECK (original IN ('kept', 'pending', 'moved')),
    progress        TEXT,
    progress_ms     BIGINT
);
CREATE INDEX jobs_by_turn ON jobs (state, watch, queued_ms, id);
CREATE INDEX jobs_by_start ON jobs (watch, started_ms);
CREATE INDEX jobs_by_content ON jobs (sha256, settings_sha256);
CREATE TABLE files (
    watch           TEXT    NOT NULL,
    relative_path   BLOB    NOT NULL,
    size_bytes      BIGINT  NOT NULL,
    mtime_ns        BIGINT  NOT NULL,
    inode           BIGINT  NOT NULL,
    job             BIGINT  NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (watch, relative_path)
);
CREATE TABLE daemon (
    id              BIGINT  PRIMARY KEY CHECK (id = 1),
    pid             BIGINT  NOT NULL,
    started_ms      BIGINT  NOT NULL,
    seen_ms         BIGINT  NOT NULL,
    status          TEXT    NOT NULL
);
";

/// The state `skipped`, the names and hashes of outputs, an order by age, what the watched and the output folders were,
/// and the history.
const HISTORY: &str = "
CREATE TABLE jobs_of_2 (
    id              INTEGER PRIMARY KEY,
    watch           TEXT    NOT NULL,
    relative_path   BLOB    NOT NULL,
    size_bytes      BIGINT  NOT NULL,
    mtime_ns        BIGINT  NOT NULL,
    inode           BIGINT  NOT NULL,
    sha256          TEXT    NOT NULL,
    settings        TEXT    NOT NULL,
    settings_sha256 TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'publishing', 'done', 'failed', 'refused',
                                                      'duplicate', 'skipped', 'cancelled')),
    attempt         BIGINT  NOT NULL DEFAULT 0,
    failures        BIGINT  NOT NULL DEFAULT 0,
    crashes         BIGINT  NOT NULL DEFAULT 0,
    delays          BIGINT  NOT NULL DEFAULT 0,
    lease_owner     TEXT,
    lease_until_ms  BIGINT,
    next_try_ms     BIGINT  NOT NULL,
    queued_ms       BIGINT  NOT NULL,
    started_ms      BIGINT,
    finished_ms     BIGINT,
    temporary_path  BLOB,
    output_path     BLOB,
    output_folded   TEXT,
    output_sha256   TEXT,
    report_path     BLOB,
    report          TEXT,
    error_code      TEXT,
    error_message   TEXT,
    duplicate_of    BIGINT REFERENCES jobs (id),
    original        TEXT    NOT NULL DEFAULT 'kept' CHECK (original IN ('kept', 'pending', 'moved')),
    progress        TEXT,
    progress_ms     BIGINT
);
INSERT INTO jobs_of_2 (
    id, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings, settings_sha256, state, attempt, failures,
    crashes, delays, lease_owner, lease_until_ms, next_try_ms, queued_ms, started_ms, finished_ms, temporary_path,
    output_path, report_path, report, error_code, error_message, duplicate_of, original, progress, progress_ms)
SELECT
    id, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings, settings_sha256, state, attempt, failures,
    crashes, delays, lease_owner, lease_until_ms, next_try_ms, queued_ms, started_ms, finished_ms, temporary_path,
    output_path, report_path, report, error_code, error_message, duplicate_of, original, progress, progress_ms
FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_of_2 RENAME TO jobs;
CREATE INDEX jobs_by_turn ON jobs (state, watch, mtime_ns, relative_path, id);
CREATE INDEX jobs_by_start ON jobs (watch, started_ms);
CREATE INDEX jobs_by_content ON jobs (sha256, settings_sha256);
CREATE INDEX jobs_by_end ON jobs (finished_ms, id);
CREATE INDEX jobs_by_output_name ON jobs (output_folded);
CREATE INDEX jobs_by_output ON jobs (output_sha256);
CREATE INDEX jobs_with_leftovers ON jobs (id) WHERE temporary_path IS NOT NULL;
CREATE INDEX jobs_with_originals ON jobs (id) WHERE original = 'pending';
CREATE TABLE job_roots (
    job             BIGINT  PRIMARY KEY REFERENCES jobs (id),
    root            TEXT    NOT NULL
);
CREATE TABLE outputs (
    path            BLOB    PRIMARY KEY,
    root            TEXT    NOT NULL
);
CREATE TABLE events (
    id              INTEGER PRIMARY KEY,
    job             BIGINT  NOT NULL REFERENCES jobs (id),
    attempt         BIGINT  NOT NULL,
    at_ms           BIGINT  NOT NULL,
    what            TEXT    NOT NULL,
    detail          TEXT    NOT NULL,
    host            TEXT    NOT NULL,
    version         TEXT    NOT NULL
);
CREATE INDEX events_by_job ON events (job, id);
";

/// Hashes of what was published beside outputs: comparisons are clips as well. Those of earlier jobs are in their reports.
const BESIDE: &str = "
CREATE TABLE beside (
    job             BIGINT  NOT NULL REFERENCES jobs (id),
    sha256          TEXT    NOT NULL,
    path            TEXT    NOT NULL,
    PRIMARY KEY (job, path)
);
CREATE INDEX beside_by_content ON beside (sha256);
";

/// What refusals hold for beside content and settings. Of earlier ones that is known where it is nothing else.
const GROUNDS: &str = "
ALTER TABLE jobs ADD COLUMN ground TEXT;
UPDATE jobs SET ground = 'content'
WHERE state = 'refused' AND error_code NOT IN ('timelapse', 'settings', 'source_unreadable', 'output_unwritable',
                                               'worker_crashed', 'worker_hung');
";

/// Whether a job of the same place waits is asked for every new one: without an index all that wait would be read each time.
const PLACES: &str = "
CREATE INDEX jobs_by_place ON jobs (watch, relative_path, state);
";

/// The chain over the history ([`super::chain`]).
const CHAIN: &str = "
ALTER TABLE events ADD COLUMN hash BLOB NOT NULL DEFAULT x'';
CREATE TABLE events_head (
    id              BIGINT  PRIMARY KEY CHECK (id = 1),
    events          BIGINT  NOT NULL,
    hash            BLOB    NOT NULL
);
";

/// What the folders were that originals are moved to.
const ORIGINALS: &str = "
CREATE TABLE originals (
    path            BLOB    PRIMARY KEY,
    root            TEXT    NOT NULL
);
";

/// Which originals are to be moved is asked folder by folder after every job and at every interval: without the folder in its
/// index all jobs would be read each time.
const PENDING_BY_FOLDER: &str = "
DROP INDEX jobs_with_originals;
CREATE INDEX jobs_with_originals ON jobs (watch, id) WHERE original = 'pending';
";

/// The lists of cuts that clips are worked with. Of earlier jobs none is known.
const LISTS: &str = "
ALTER TABLE jobs ADD COLUMN list_sha256 TEXT NOT NULL DEFAULT '';
";

/// `path` as a file system that does not tell cases apart would compare it.
pub(super) fn folded(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

fn fold_output_names(connection: &Connection) -> rusqlite::Result<()> {
    let mut query =
        connection.prepare("SELECT id, output_path FROM jobs WHERE output_path IS NOT NULL")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (id, path): (i64, _) = (row.get(0)?, view::path_column(row, 1)?);
        connection.execute(
            "UPDATE jobs SET output_folded = ?2 WHERE id = ?1",
            params![id, path.map(|it| folded(&it))],
        )?;
    }
    Ok(())
}

impl Journal {
    pub(super) fn version(&self) -> Outcome<i64> {
        self.sql(|it| it.query_row("PRAGMA user_version", [], |row| row.get(0)))
    }

    /// Brings the tables to [`VERSION`]. An older journal is kept beside as `journal.sqlite.v1` (its version), for whoever
    /// goes back to the older slomod.
    pub(super) fn migrate(&mut self) -> Outcome<()> {
        let found = self.version()?;
        if found > VERSION {
            return Err(JournalError::Newer { path: self.path.clone(), found });
        }
        if found == 0 {
            self.refuse_foreign_tables()?;
        } else if found < VERSION {
            self.keep_copy(found)?;
            log::info!(MESSAGE_ID = Kind::DaemonNote.id(); "the journal is brought from layout {found} to {VERSION}");
        }
        // A table that others refer to is replaced; that nothing points nowhere afterwards is checked at the end.
        self.sql(|it| it.pragma_update(None, "foreign_keys", "OFF"))?;
        for (version, step) in (1..).zip(&STEPS).skip(usize::try_from(found).unwrap_or(0)) {
            self.transaction(|it| {
                it.execute_batch(step.sql)?;
                (step.rest)(it)?;
                it.pragma_update(None, "user_version", version)
            })?;
        }
        let astray: i64 = self.sql(|it| {
            it.pragma_update(None, "foreign_keys", "ON")?;
            it.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        })?;
        if astray > 0 {
            let reason = format!("{astray} rows name jobs that are not there");
            return Err(JournalError::Damaged { path: self.path.clone(), reason });
        }
        Ok(())
    }

    fn refuse_foreign_tables(&self) -> Outcome<()> {
        let tables: i64 = self
            .sql(|it| it.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)))?;
        if tables == 0 {
            return Ok(());
        }
        let reason = "it holds tables that are not slomod's".into();
        Err(JournalError::Damaged { path: self.path.clone(), reason })
    }

    fn keep_copy(&self, version: i64) -> Outcome<()> {
        let beside = |tail: &str| {
            let mut path = self.path.as_os_str().to_owned();
            path.push(tail);
            PathBuf::from(path)
        };
        let (copy, unfinished) = (beside(&format!(".v{version}")), beside(".copy"));
        let unwritable = |error: std::io::Error| of_system(&copy, &error);
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unwritable(error));
            }
            _ => {}
        }
        let target = unfinished.to_string_lossy();
        self.connection
            .execute("VACUUM INTO ?1", [&target])
            .map_err(|error| explain(&self.path, error))?;
        std::fs::File::open(&unfinished).and_then(|it| it.sync_all()).map_err(unwritable)?;
        std::fs::rename(&unfinished, &copy).map_err(unwritable)
    }
}
