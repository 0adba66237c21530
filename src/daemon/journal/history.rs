//! The history of every job: what became of it, when, and by which machine and version. It is only ever appended to.

use rusqlite::{OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use super::chain::{self, Content};
use super::claims::Claim;
use super::view::{COLUMNS, JobView, job_view};
use super::{Journal, JournalError, Outcome};

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Milliseconds since 1970, by the clock of the machine that wrote it.
    pub at_ms: i64,
    /// `received`, `claimed`, `publishing`, `queued` (again), `interrupted`, `settings`, `retry`, `original moved`, or the
    /// state that the job ended in.
    pub what: String,
    /// More about it: a hash, a path, a reason; may be empty.
    pub detail: String,
    /// The attempt it belongs to; 0 before the first.
    pub attempt: i64,
    /// Name of the machine.
    pub host: String,
    /// Version of slomod.
    pub version: String,
}

/// A job and all that happened to it, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// As it is now.
    pub job: JobView,
    /// How it came to be so.
    pub events: Vec<EventView>,
}

/// Writes events within a transaction.
pub(super) struct Scribe {
    host: String,
    at_ms: i64,
}

impl Scribe {
    /// Appends to the history of one job.
    pub(super) fn note(
        &self,
        it: &Transaction<'_>,
        (job, attempt): (i64, i64),
        what: &str,
        detail: &str,
    ) -> rusqlite::Result<()> {
        let texts = [what, detail, &self.host, env!("CARGO_PKG_VERSION")];
        chain::append(it, &Content { job, attempt, at_ms: self.at_ms, texts })
    }

    /// Appends to the history of every job for which `condition` holds; its parameters are `given`, `?1` on.
    pub(super) fn note_all(
        &self,
        it: &Transaction<'_>,
        (what, detail): (&str, &str),
        condition: &str,
        given: &[&dyn rusqlite::ToSql],
    ) -> rusqlite::Result<()> {
        let mut query = it.prepare(&format!("SELECT id, attempt FROM jobs WHERE {condition}"))?;
        let mut rows = query.query(given)?;
        while let Some(row) = rows.next()? {
            self.note(it, (row.get(0)?, row.get(1)?), what, detail)?;
        }
        Ok(())
    }
}

impl Journal {
    pub(super) fn scribe(&self) -> Scribe {
        Scribe { host: self.host.clone(), at_ms: jiff::Timestamp::now().as_millisecond() }
    }

    /// Runs `update`, which changes the one row of `claim` and names its attempt, and appends to the history; both or
    /// neither.
    pub(super) fn change(
        &mut self,
        claim: &Claim,
        (what, detail): (&str, &str),
        update: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize>,
    ) -> Outcome<()> {
        let scribe = self.scribe();
        let changed = self.transaction(|it| {
            let changed = update(it)?;
            if changed == 1 {
                scribe.note(it, (claim.job, claim.attempt), what, detail)?;
            }
            Ok(changed)
        })?;
        fenced(claim, changed)
    }

    /// A job and its history; `None` where there is no such job.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn history(&self, job: i64) -> Outcome<Option<History>> {
        let query = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        let found = self.sql(|it| it.query_row(&query, [job], job_view).optional())?;
        let Some(job) = found else { return Ok(None) };
        let events = self.sql(|it| {
            it.prepare(
                "SELECT at_ms, what, detail, attempt, host, version FROM events WHERE job = ?1 ORDER BY id",
            )?
            .query_map([job.job], |row| {
                Ok(EventView {
                    at_ms: row.get(0)?,
                    what: row.get(1)?,
                    detail: row.get(2)?,
                    attempt: row.get(3)?,
                    host: row.get(4)?,
                    version: row.get(5)?,
                })
            })?
            .collect()
        })?;
        Ok(Some(History { job, events }))
    }
}

/// Whether the one row of `claim` was there to be changed.
pub(super) fn fenced(claim: &Claim, changed: usize) -> Outcome<()> {
    if changed == 1 {
        Ok(())
    } else {
        Err(JournalError::Fenced { job: claim.job, attempt: claim.attempt })
    }
}
