//! The journal: the only durable state of the daemon, an SQLite file in the state folder.
//!
//! A file becomes a job once it has settled; until then nothing about it is stored. States of a job:
//!
//! * **queued** waits until `next_try_ms`; a claim makes it running and counts `attempt` up.
//! * **running** is being converted under a temporary name that contains job and attempt. It becomes publishing when
//!   the output was verified; queued again when the daemon stops, dies, or meets something that may pass; refused when
//!   the clip cannot be used or took two workers down; failed when attempts that should have worked did not; duplicate
//!   when the same content was done before; cancelled when the source is gone or became another file.
//! * **publishing** has its final names and its report in the journal: whatever happens now, a restart completes it
//!   (the verified output is there under the temporary or the final name) or makes it queued again (it is under
//!   neither).
//! * **done, failed, refused, duplicate, cancelled** are ends. `slomod retry` makes failed and refused jobs queued.
//!
//! `attempt` is a fencing token: every change of a claimed job names the attempt it belongs to and fails if a later
//! claim took over. The SQL is plain (no rowid tricks, integers for times in milliseconds since 1970, text for words),
//! so that PostgreSQL can hold the same tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Classify, Consequence, ExitCode};

mod claims;
mod intake;
mod upkeep;
pub mod view;

pub use claims::{Again, Claim, Count, End, LONGEST_WAIT_MS, Original, Planned, Twin};
pub use intake::{NewJob, Seen};

/// File name of the journal in the state folder.
pub const FILE_NAME: &str = "journal.sqlite";
/// Says that there was a journal: without it, a lost journal would look like a first start.
const MARKER_NAME: &str = "journal.created";
/// Layout of the tables, as `user_version`.
const SCHEMA_VERSION: i64 = 1;
/// How long a statement waits for another process (`slomod status`, `slomod retry`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// SQLite's write-ahead log and its index take this much at least.
const LEAST_SPACE_BYTES: u64 = 64 << 10;

const SCHEMA: &str = "
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

/// Why the journal cannot be used. None of these is answered by starting over.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file is no journal, or parts of it are unreadable.
    #[error(
        "{}: the journal is damaged ({reason}). Restore it from a backup; or move it and {MARKER_NAME} away to start \
         over, after which clips still in the watched folders are worked again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// There was a journal, and now there is none.
    #[error(
        "{}: the journal is gone, though {MARKER_NAME} beside it says that there was one. Restore it; or remove \
         {MARKER_NAME} to start over, after which clips still in the watched folders are worked again",
        .0.display()
    )]
    Missing(PathBuf),
    /// The file was written by a later version.
    #[error("{}: the journal has layout {found}, this slomod knows {SCHEMA_VERSION}: use the newer slomod", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The file or its folder cannot be created or written.
    #[error("{}: the journal cannot be written ({reason}): check owner, rights and free space of its folder", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The disk is full or fails. It may pass.
    #[error("{}: the journal cannot be written just now ({reason})", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Another program keeps it locked.
    #[error("{}: the journal is locked by another program ({reason})", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A later claim took the job over.
    #[error("job {job}: attempt {attempt} is over, another one took the job")]
    Fenced {
        /// The job.
        job: i64,
        /// The attempt that is over.
        attempt: i64,
    },
    /// There is no such job, or it is in no state for what was asked.
    #[error("{0}")]
    Refused(String),
    /// Anything else that SQLite reports.
    #[error("{}: {source}", path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

impl Classify for JournalError {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Damaged { .. }
            | Self::Missing(_)
            | Self::Newer { .. }
            | Self::Unwritable { .. } => ExitCode::Config,
            Self::Full { .. } | Self::Locked { .. } => ExitCode::TempFail,
            Self::Refused(_) => ExitCode::Usage,
            Self::Fenced { .. } | Self::Sql { .. } => ExitCode::Software,
        }
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Connection,
}

type Outcome<T> = Result<T, JournalError>;

impl Journal {
    /// Opens the journal of `state_dir`, which exists; makes one on the first start.
    ///
    /// # Errors
    /// [`JournalError`]; a damaged, missing or unreadable journal is never replaced.
    pub fn open(state_dir: &Path) -> Outcome<Self> {
        let path = state_dir.join(FILE_NAME);
        let marker = state_dir.join(MARKER_NAME);
        let is_empty = std::fs::metadata(&path).map_or(true, |meta| meta.len() == 0);
        if is_empty && marker.exists() {
            return Err(JournalError::Missing(path));
        }
        let connection = Connection::open(&path).map_err(|error| explain(&path, error))?;
        let mut journal = Self { path, connection };
        journal.prepare()?;
        std::fs::write(&marker, "slomod keeps its journal here.\n").map_err(|error| {
            JournalError::Unwritable { path: marker.clone(), reason: error.to_string() }
        })?;
        Ok(journal)
    }

    /// Opens the journal of `state_dir` to look at it or to ask for a retry; makes none.
    ///
    /// # Errors
    /// [`JournalError::Refused`] where there is none yet.
    pub fn open_existing(state_dir: &Path) -> Outcome<Self> {
        let path = state_dir.join(FILE_NAME);
        if !path.exists() {
            let message = format!(
                "{}: no journal here: did a daemon ever run with this state folder?",
                path.display()
            );
            return Err(JournalError::Refused(message));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|error| explain(&path, error))?;
        let journal = Self { path, connection };
        journal.sql(|it| it.busy_timeout(BUSY_TIMEOUT))?;
        match journal.version()? {
            SCHEMA_VERSION => Ok(journal),
            0 => Err(JournalError::Missing(journal.path)),
            found => Err(JournalError::Newer { path: journal.path, found }),
        }
    }

    fn prepare(&mut self) -> Outcome<()> {
        self.sql(|it| {
            it.busy_timeout(BUSY_TIMEOUT)?;
            it.pragma_update(None, "journal_mode", "WAL")?;
            it.pragma_update(None, "synchronous", "FULL")?;
            it.pragma_update(None, "foreign_keys", "ON")
        })?;
        match self.version()? {
            0 => self.create()?,
            SCHEMA_VERSION => {}
            found => return Err(JournalError::Newer { path: self.path.clone(), found }),
        }
        let check: String =
            self.sql(|it| it.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if check != "ok" {
            return Err(JournalError::Damaged { path: self.path.clone(), reason: check });
        }
        Ok(())
    }

    fn version(&self) -> Outcome<i64> {
        self.sql(|it| it.query_row("PRAGMA user_version", [], |row| row.get(0)))
    }

    fn create(&mut self) -> Outcome<()> {
        let tables: i64 = self
            .sql(|it| it.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)))?;
        if tables != 0 {
            let reason = "it holds tables that are not slomod's".into();
            return Err(JournalError::Damaged { path: self.path.clone(), reason });
        }
        self.transaction(|it| {
            it.execute_batch(SCHEMA)?;
            it.pragma_update(None, "user_version", SCHEMA_VERSION)
        })
    }

    /// Runs `work` on the connection and explains its error.
    fn sql<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Outcome<T> {
        work(&self.connection).map_err(|error| explain(&self.path, error))
    }

    /// The same, all or nothing.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<T> {
        let run = |connection: &mut Connection| {
            let behavior = rusqlite::TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run(&mut self.connection).map_err(|error| explain(&self.path, error))
    }
}

fn is_full(path: &Path) -> bool {
    let space = path.parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
    space.is_some_and(|it| it.f_bavail.saturating_mul(it.f_frsize) < LEAST_SPACE_BYTES)
}

fn explain(path: &Path, error: rusqlite::Error) -> JournalError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            JournalError::Damaged { path, reason }
        }
        // Without space its companions cannot be made, which SQLite reports no better.
        Some(ErrorCode::CannotOpen) if is_full(&path) => JournalError::Full { path, reason },
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            JournalError::Unwritable { path, reason }
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            JournalError::Full { path, reason }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            JournalError::Locked { path, reason }
        }
        _ => JournalError::Sql { path, source: error },
    }
}
