//! The journal: the only durable state of the daemon, an SQLite file in the state folder.
//!
//! A file becomes a job once it has settled; until then nothing about it is stored. States of a job:
//!
//! * **queued** waits until `next_try_ms`; a claim makes it running and counts `attempt` up.
//! * **running** is being converted under a temporary name that contains job and attempt. It becomes publishing when
//!   the output was verified; queued again when the daemon stops, dies, or meets something that may pass; refused when
//!   the clip cannot be used or took two workers down; failed when attempts that should have worked did not; duplicate
//!   when the same content was done before; skipped when its folder's configuration says that it stays as it is;
//!   cancelled when the source is gone or became another file.
//! * **publishing** has its final names and its report in the journal: whatever happens now, a restart completes it
//!   (the verified output is there under the temporary or the final name) or makes it queued again (it is under
//!   neither).
//! * **done, failed, refused, duplicate, skipped, cancelled** are ends. `slomod retry` makes
//!   failed, refused and skipped jobs queued, and those that `slomod cancel` cancelled.
//!
//! `attempt` is a fencing token: every change of a claimed job names the attempt it belongs to and fails if a later
//! claim took over. Every change of a state appends to the table `events` in the same transaction; nothing is ever
//! changed or removed there, and a chain of hashes shows where somebody else did.
//!
//! The statements are ones that PostgreSQL takes as well (integers for times in milliseconds since 1970, text for words,
//! nothing that only SQLite knows), so that several machines could share a journal there. What would differ are the
//! tables: its type for bytes is BYTEA, numbers that are given by themselves are GENERATED ALWAYS AS IDENTITY, and the
//! layout's number would be a table. Nothing reads `lease_until_ms` yet: here the lock of the state folder says whether the
//! owner of a claim lives; of several machines, one would take over claims whose lease ran out.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::Access;
use sha2::{Digest as _, Sha256};

use crate::daemon::small_file;
use crate::error::{Classify, Consequence, ExitCode, read_only_hint};
use crate::hex::hex;
use crate::report;

mod chain;
mod claims;
#[cfg(test)]
pub(super) mod drawn;
pub mod history;
mod intake;
mod known;
mod requests;
mod roots;
mod schema;
mod upkeep;
pub mod view;

pub use chain::Chain;
pub use claims::{Again, Claim, Count, End, LONGEST_WAIT_MS, Original, Planned, Twin};
pub use intake::{NewJob, Seen};
pub use requests::{CANCELLED_BY_REQUEST, EndedRow};
use schema::VERSION;
pub use upkeep::{Leftover, Turn};

/// File name of the journal in the state folder.
pub const FILE_NAME: &str = "journal.sqlite";
/// Says that there was a journal: without it, a lost journal would look like a first start.
pub const MARKER_NAME: &str = "journal.created";
/// What is in it.
const MARKER: &str = "slomod keeps its journal here.
";
/// How long a statement waits for another process (`slomod status`, `slomod retry`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Ends the name of a file that is made and removed where SQLite can make none.
const PROBE_ENDING: &str = "-probe";
/// SQLite's write-ahead log and its index take this much at least.
const LEAST_SPACE_BYTES: u64 = 64 << 10;

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
    #[error("{}: the journal has layout {found}, this slomod knows {VERSION}: use the newer slomod", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The file was written by an earlier version, and the daemon has not been started since.
    #[error("{}: the journal has layout {found} of an older slomod: the daemon of this version brings it to {VERSION}", path.display())]
    Older {
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
    /// Whether there is one cannot be seen.
    #[error("{}: the journal cannot be looked at ({reason}): ask as the user that runs the daemon, or as root", path.display())]
    Hidden {
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
    /// Another output has this name but for the case of its letters.
    #[error("{}: another output has this name in other letters", .0.display())]
    NameTaken(PathBuf),
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
            | Self::Older { .. }
            | Self::Unwritable { .. } => ExitCode::Config,
            Self::Hidden { .. } => ExitCode::IoError,
            Self::Full { .. } | Self::Locked { .. } => ExitCode::TempFail,
            Self::Refused(_) => ExitCode::Usage,
            Self::Fenced { .. } | Self::NameTaken(_) | Self::Sql { .. } => ExitCode::Software,
        }
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Connection,
    /// The machine, for the history.
    host: String,
    /// The last counts, and what had been written by then.
    counted: Cell<Option<((i64, i64), view::Counts)>>,
    /// How many rows were written that change no count.
    uncounted: Cell<i64>,
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
        // Nothing is concluded from what cannot be looked at.
        let size_bytes = if_there(&path, std::fs::metadata(&path))?.map_or(0, |meta| meta.len());
        let noted = if_there(&marker, std::fs::read(&marker))?;
        let there_was_one = noted.is_some();
        if size_bytes == 0 && there_was_one {
            return Err(JournalError::Missing(path));
        }
        let connection = Connection::open(&path).map_err(|error| explain(&path, error))?;
        let mut journal = Self::of(path, connection)?;
        // A file of SQLite's without tables is no journal either, and one that is not ours stays as it is.
        match journal.sql(|it| it.busy_timeout(BUSY_TIMEOUT)).and_then(|()| journal.version())? {
            0 if there_was_one => return Err(JournalError::Missing(journal.path)),
            0..=VERSION => journal.prepare()?,
            found => return Err(JournalError::Newer { path: journal.path, found }),
        }
        if noted.as_deref() != Some(MARKER.as_bytes()) {
            small_file::write(&marker, MARKER).map_err(|error| of_system(&marker, &error))?;
        }
        Ok(journal)
    }

    /// Opens the journal of `state_dir` to look at it or to ask for a retry; makes none.
    ///
    /// # Errors
    /// [`JournalError::Refused`] where there is none yet; [`JournalError::Hidden`] where that cannot be seen.
    pub fn open_existing(state_dir: &Path) -> Outcome<Self> {
        // Nobody wants to write, though SQLite has to.
        Self::look_into(state_dir).map_err(|error| match error {
            JournalError::Unwritable { path, reason } => JournalError::Hidden { path, reason },
            other => other,
        })
    }

    fn look_into(state_dir: &Path) -> Outcome<Self> {
        let path = state_dir.join(FILE_NAME);
        let is_there = path.try_exists().map_err(|error| {
            let (path, reason) = (path.clone(), error.to_string());
            JournalError::Hidden { path, reason }
        })?;
        if !is_there {
            let message = format!(
                "{}: no journal here: did a daemon ever run with this state folder?",
                path.display()
            );
            return Err(JournalError::Refused(message));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|error| explain(&path, error))?;
        let journal = Self::of(path, connection)?;
        journal.sql(|it| it.busy_timeout(BUSY_TIMEOUT))?;
        match journal.version()? {
            VERSION => Ok(journal),
            0 => Err(JournalError::Missing(journal.path)),
            found if found < VERSION => Err(JournalError::Older { path: journal.path, found }),
            found => Err(JournalError::Newer { path: journal.path, found }),
        }
    }

    fn of(path: PathBuf, connection: Connection) -> Outcome<Self> {
        let host = report::machine::host().name;
        let journal =
            Self { path, connection, host, counted: Cell::new(None), uncounted: Cell::default() };
        // The last connection that is closed would carry the write-ahead log into the file and remove it. SQLite 3.54.1 removes
        // it also where it could not be read, as its index could not be made on a full file system: with all that a daemon
        // wrote that was killed since.
        let on_close = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        journal.sql(|it| it.set_db_config(on_close, true))?;
        Ok(journal)
    }

    fn prepare(&mut self) -> Outcome<()> {
        self.sql(|it| {
            it.pragma_update(None, "journal_mode", "WAL")?;
            it.pragma_update(None, "synchronous", "FULL")
        })?;
        self.check()?;
        self.migrate()
    }

    /// Whether all pages are readable and hold together; quicker than what a start looks at, which compares indexes with
    /// their tables too.
    ///
    /// # Errors
    /// [`JournalError::Damaged`].
    pub fn check_pages(&self) -> Outcome<()> {
        self.pragma("quick_check(1)")
    }

    /// Indexes are compared with their tables, too: a page of an earlier time would make known files unknown in silence.
    fn check(&self) -> Outcome<()> {
        self.pragma("integrity_check(1)")
    }

    fn pragma(&self, check: &str) -> Outcome<()> {
        let check: String =
            self.sql(|it| it.query_row(&format!("PRAGMA {check}"), [], |row| row.get(0)))?;
        if check != "ok" {
            return Err(JournalError::Damaged { path: self.path.clone(), reason: check });
        }
        Ok(())
    }

    /// A word that tells this journal from those of other machines and state folders, always the same; 8 hex digits.
    #[must_use]
    pub fn tag(&self) -> String {
        let place = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let hash = Sha256::digest([self.host.as_bytes(), place.as_os_str().as_bytes()].concat());
        hex(&hash[..4])
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

/// What was found at `path`; `None` where nothing is.
fn if_there<T>(path: &Path, found: io::Result<T>) -> Outcome<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_system(path, &error)),
    }
}

/// An error of the system at a file of the state folder.
fn of_system(path: &Path, error: &io::Error) -> JournalError {
    let (path, reason) = (path.to_owned(), format!("{error}{}", read_only_hint(error)));
    match stays(error) {
        true => JournalError::Unwritable { path, reason },
        false => JournalError::Full { path, reason },
    }
}

/// Whether an error of the system lasts until somebody does something about it. Others may pass: no space or quota, too many
/// open files, a disk that fails.
fn stays(error: &io::Error) -> bool {
    use io::ErrorKind::{
        IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem,
    };
    matches!(
        error.kind(),
        PermissionDenied | ReadOnlyFilesystem | NotFound | NotADirectory | IsADirectory
    )
}

fn is_full(path: &Path) -> bool {
    let space = path.parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
    space.is_some_and(|it| it.f_bavail.saturating_mul(it.f_frsize) < LEAST_SPACE_BYTES)
}

/// Which of the journal and its companions cannot be opened for writing, and why: SQLite does not say. `None` where all can.
/// Those that are there are not opened for this: closing one would give back SQLite's locks.
fn why_not_opened(path: &Path) -> Option<(PathBuf, io::Error)> {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    for file in [path.to_owned(), beside("-wal"), beside("-shm")] {
        let allowed = match std::fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
            Ok(meta) if meta.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => rustix::fs::access(&file, Access::READ_OK | Access::WRITE_OK)
                .map_err(io::Error::from),
        };
        if let Err(why) = allowed {
            return Some((file, why));
        }
    }
    let probe = beside(PROBE_ENDING);
    // One that a dead daemon left.
    let _ = std::fs::remove_file(&probe);
    let made = File::create_new(&probe);
    let _ = std::fs::remove_file(&probe);
    made.err().map(|why| (path.to_owned(), why))
}

fn explain(path: &Path, error: rusqlite::Error) -> JournalError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            JournalError::Damaged { path, reason }
        }
        // Without space its companions cannot be made, which SQLite reports no better.
        Some(ErrorCode::CannotOpen) if is_full(&path) => JournalError::Full { path, reason },
        Some(
            code @ (ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied),
        ) => {
            match why_not_opened(&path) {
                Some((path, why)) => of_system(&path, &why),
                // It passed meanwhile.
                None if code == ErrorCode::CannotOpen => JournalError::Full { path, reason },
                None => JournalError::Unwritable { path, reason },
            }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::daemon::journal::drawn::new_job;

    fn submit(folder: &Path, name: &str) {
        let mut journal = Journal::open(folder).unwrap();
        journal.submit(&new_job(name), 1).unwrap();
        drop(journal);
        let raw = Connection::open(folder.join(FILE_NAME)).unwrap();
        raw.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    /// W34. A page of an index as it was before, as a disk that lost a write has it: files would be unknown in silence.
    #[test]
    fn an_index_of_an_earlier_time_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        submit(folder.path(), "a.mp4");
        let raw = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        let index =
            "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'files'";
        let page: u64 = raw.query_row(index, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
        let size: i64 = raw.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        drop(raw);
        let file = File::options().read(true).write(true).open(folder.path().join(FILE_NAME));
        let (file, at) = (file.unwrap(), (page - 1) * size as u64);
        let mut before = vec![0; size as usize];
        file.read_exact_at(&mut before, at).unwrap();
        submit(folder.path(), "b.mp4");
        file.write_all_at(&before, at).unwrap();
        drop(file);
        let found = Journal::open(folder.path());
        assert!(matches!(found, Err(JournalError::Damaged { .. })), "{found:?}");
    }
}
