//! What a start and a change of the configuration do to jobs that are not being worked.

use std::path::PathBuf;

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::claims::{CLAIM_COLUMNS, Claim, DELAYS_IN_TURN, Planned, claim_row};
use super::view::path_column;
use super::{Journal, Outcome};
use crate::daemon::events::Kind;

/// Originals that are moved in one go.
const MOST_MOVES: usize = 100;

/// The watched folders with originals that are to be moved.
const PENDING: &str = "SELECT DISTINCT watch FROM jobs WHERE original = 'pending' ORDER BY watch";

/// Holds for the jobs of the watched folder `?1` with such originals.
const PENDING_OF_ONE: &str = "original = 'pending' AND watch = ?1 ORDER BY id";

/// How often a job is interrupted in a row before others come first: by then it may be what its daemon dies of, or the
/// machine. It is never refused for that: the current may fail as often.
const OFTEN: i64 = 3;
/// How often the job `?1` was interrupted since it was received, asked for, or had an end of a try.
const INTERRUPTIONS: &str =
    "SELECT count(*) FROM events WHERE job = ?1 AND what = 'interrupted' AND id >
     (SELECT COALESCE(MAX(id), 0) FROM events
      WHERE job = ?1 AND what NOT IN ('claimed', 'interrupted', 'settings'))";

/// What an attempt may have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The job.
    pub job: i64,
    /// The temporary name of its last attempt.
    pub temporary: PathBuf,
    /// Whether there will be another.
    pub turn: Turn,
}

/// Whether a job will be attempted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is queued.
    Waits,
    /// It has ended.
    Over,
}

fn turn_of(state: &str) -> Turn {
    if state == "queued" { Turn::Waits } else { Turn::Over }
}

/// Puts a job behind others that has just been interrupted once more, where that was too often since its last try had an end;
/// then why. Alone it is tried again at once.
fn set_back_if_often(it: &Transaction<'_>, job: i64) -> rusqlite::Result<Option<(i64, String)>> {
    let times: i64 = it.query_row(INTERRUPTIONS, [job], |row| row.get(0))?;
    if times < OFTEN {
        return Ok(None);
    }
    let why = format!(
        "its daemon ended {times} times in a row while it was at work, and nobody stopped it: others come first"
    );
    it.execute(
        "UPDATE jobs SET delays = MAX(delays, ?2), error_code = 'interrupted', error_message = ?3 WHERE id = ?1",
        params![job, DELAYS_IN_TURN, why],
    )?;
    Ok(Some((job, why)))
}

impl Journal {
    /// Makes the running jobs of dead daemons queued. The caller holds the lock of the state folder, so all are dead
    /// but `owner`. One that was interrupted again and again may be what they died of: it lets others come first.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn requeue_dead(&mut self, owner: &str, now_ms: i64) -> Outcome<usize> {
        let scribe = self.scribe();
        let (requeued, set_back) = self.transaction(|it| {
            let dead = "state = 'running' AND (lease_owner IS NULL OR lease_owner <> ?1)";
            let jobs: Vec<i64> = it
                .prepare(&format!("SELECT id FROM jobs WHERE {dead}"))?
                .query_map([owner], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            scribe.note_all(it, ("interrupted", "its daemon ended"), dead, &[&owner])?;
            let requeued = it.execute(
                "UPDATE jobs SET state = 'queued', next_try_ms = ?2, lease_owner = NULL, lease_until_ms = NULL,
                        progress = NULL, progress_ms = NULL
                 WHERE state = 'running' AND (lease_owner IS NULL OR lease_owner <> ?1)",
                params![owner, now_ms],
            )?;
            let mut set_back = Vec::new();
            for job in jobs {
                set_back.extend(set_back_if_often(it, job)?);
            }
            Ok((requeued, set_back))
        })?;
        for (job, why) in set_back {
            log::warn!(
                MESSAGE_ID = Kind::JobDelayed.id(), SLOMOD_JOB = job, SLOMOD_STATE = "queued";
                "job {job}: queued: {why}"
            );
        }
        Ok(requeued)
    }

    /// The jobs whose publication a dead daemon began.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn unpublished(&self) -> Outcome<Vec<(Claim, Planned)>> {
        let query = format!(
            "SELECT {CLAIM_COLUMNS}, temporary_path, output_path, report FROM jobs
             WHERE state = 'publishing' ORDER BY id"
        );
        self.sql(|it| {
            it.prepare(&query)?
                .query_map([], |row| {
                    let claim = claim_row(row)?;
                    let planned = Planned {
                        temporary: path_column(row, 15)?.unwrap_or_default(),
                        output: path_column(row, 16)?.unwrap_or_default(),
                        report_path: claim.report_path.clone().unwrap_or_default(),
                        report: row.get::<_, Option<String>>(17)?.unwrap_or_default(),
                    };
                    Ok((claim, planned))
                })?
                .collect()
        })
    }

    /// The watched folders of ended jobs whose sources are still to be moved.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn watches_with_originals(&self) -> Outcome<Vec<String>> {
        self.sql(|it| it.prepare(PENDING)?.query_map([], |row| row.get(0))?.collect())
    }

    /// The first hundred ended jobs of `watch` whose source is still to be moved, of those that `is_due` takes: what cannot be
    /// moved now keeps no other waiting.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn originals_pending(
        &self,
        watch: &str,
        is_due: impl Fn(i64) -> bool,
    ) -> Outcome<Vec<Claim>> {
        let query = format!("SELECT {CLAIM_COLUMNS} FROM jobs WHERE {PENDING_OF_ONE}");
        self.sql(|it| {
            let due = |row: &Row<'_>| match is_due(row.get(0)?) {
                true => claim_row(row).map(Some),
                false => Ok(None),
            };
            let mut query = it.prepare(&query)?;
            let found = query.query_map([watch], due)?.filter_map(Result::transpose);
            found.take(MOST_MOVES).collect()
        })
    }

    /// The source of the job was moved, and its place is free for another file; `whither` is what its history says of that.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn original_moved(&mut self, job: i64, whither: &str) -> Outcome<()> {
        let scribe = self.scribe();
        self.transaction(|it| {
            it.execute("UPDATE jobs SET original = 'moved' WHERE id = ?1", [job])?;
            scribe.note_all(it, ("original moved", whither), "id = ?1", &[&job])?;
            it.execute("DELETE FROM files WHERE job = ?1", [job]).map(|_| ())
        })
    }

    /// The source of the job stays after all: it is not the file that was worked any more.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn original_kept(&mut self, job: i64) -> Outcome<()> {
        self.sql(|it| it.execute("UPDATE jobs SET original = 'kept' WHERE id = ?1", [job]))
            .map(|_| ())
    }

    /// Gives the waiting jobs of a folder the settings that are configured now.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn update_settings(
        &mut self,
        watch: &str,
        settings: &str,
        settings_sha256: &str,
    ) -> Outcome<usize> {
        let scribe = self.scribe();
        self.transaction(|it| {
            let other = "watch = ?1 AND state = 'queued' AND (settings <> ?2 OR settings_sha256 <> ?3)";
            let given: [&dyn rusqlite::ToSql; 3] = [&watch, &settings, &settings_sha256];
            scribe.note_all(it, ("settings", "as configured now"), other, &given)?;
            it.execute(
                "UPDATE jobs SET settings = ?2, settings_sha256 = ?3
                 WHERE watch = ?1 AND state = 'queued' AND (settings <> ?2 OR settings_sha256 <> ?3)",
                params![watch, settings, settings_sha256],
            )
        })
    }

    /// The temporary names of attempts that are over, by job.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn leftovers(&self) -> Outcome<Vec<Leftover>> {
        self.sql(|it| {
            it.prepare(
                "SELECT id, temporary_path, state FROM jobs
                 WHERE temporary_path IS NOT NULL AND state NOT IN ('running', 'publishing') ORDER BY id",
            )?
            .query_map([], |row| {
                Ok(Leftover {
                    job: row.get(0)?,
                    temporary: path_column(row, 1)?.unwrap_or_default(),
                    turn: turn_of(&row.get::<_, String>(2)?),
                })
            })?
            .collect()
        })
    }

    /// Whether `leftover` is still as it was listed: nobody took or asked for its job meanwhile.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn is_left_over(&self, leftover: &Leftover) -> Outcome<bool> {
        let query = "SELECT temporary_path, state FROM jobs
                     WHERE id = ?1 AND state NOT IN ('running', 'publishing')";
        let now = self.sql(|it| {
            let row =
                |row: &Row<'_>| Ok((path_column(row, 0)?, turn_of(&row.get::<_, String>(1)?)));
            it.query_row(query, [leftover.job], row).optional()
        })?;
        Ok(now.is_some_and(|(path, turn)| {
            path.as_ref() == Some(&leftover.temporary) && turn == leftover.turn
        }))
    }

    /// The temporary name of an earlier attempt of the claimed job, if there was one.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn temporary(&self, claim: &Claim) -> Outcome<Option<PathBuf>> {
        let query = "SELECT temporary_path FROM jobs WHERE id = ?1";
        self.sql(|it| it.query_row(query, [claim.job], |row| path_column(row, 0)))
    }

    /// Nothing is left of the attempts of the job.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn leftover_removed(&mut self, job: i64) -> Outcome<()> {
        self.sql(|it| {
            it.execute(
                "UPDATE jobs SET temporary_path = NULL WHERE id = ?1 AND state NOT IN ('running', 'publishing')",
                [job],
            )
        })
        .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::daemon::journal::drawn::new_job;
    use crate::daemon::journal::{Again, Count, NewJob, Original};
    use crate::daemon::snapshot::Snapshot;

    /// A journal with `count` done jobs whose originals are to be moved.
    fn pending(folder: &Path, count: usize) -> Journal {
        let mut journal = Journal::open(folder).unwrap();
        for number in 0..count {
            let name = format!("{number}.mp4");
            let new = NewJob { sha256: "h", ..new_job(&name) };
            journal.submit(&new, 1).unwrap();
            let claim = journal.claim("me", &["/in"], 1, 1).unwrap().unwrap();
            let planned = Planned {
                temporary: "/t".into(),
                output: "/o".into(),
                report_path: "/o.json".into(),
                report: "{}".into(),
            };
            journal.publishing(&claim, &planned).unwrap();
            journal.done(&claim, Original::Pending, 1).unwrap();
        }
        journal
    }

    /// W32, W35. A clip that takes the daemon or the machine down with it: at first it is tried again at once, then others
    /// come first, for longer and longer. A clean end of a try, or somebody who asks for another, begins anew.
    #[test]
    fn a_job_that_is_interrupted_again_and_again_lets_others_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let submit = |journal: &mut Journal, name: &str, mtime_ns| {
            let new = NewJob {
                snapshot: Snapshot { mtime_ns, ..new_job(name).snapshot },
                ..new_job(name)
            };
            journal.submit(&new, 1).unwrap()
        };
        let (first, second) = (submit(&mut journal, "a.mp4", 1), submit(&mut journal, "b.mp4", 2));
        let interrupt = |journal: &mut Journal, now_ms| {
            let claim = journal.claim("dead", &["/in"], now_ms, 1).unwrap().unwrap();
            journal.requeue_dead("me", now_ms).unwrap();
            claim.job
        };
        let next_try = |journal: &Journal| journal.job(first).unwrap().unwrap().next_try_ms;
        for now_ms in [10, 20] {
            assert_eq!(interrupt(&mut journal, now_ms), first);
            assert_eq!(next_try(&journal), now_ms);
        }
        assert_eq!(interrupt(&mut journal, 30), first);
        let job = journal.job(first).unwrap().unwrap();
        assert_eq!(job.error_code.as_deref(), Some("interrupted"));
        assert!(job.error_message.unwrap().contains("3 times"));
        // Another comes first, and is not blamed for its own first times; once that is put back too, the older one is next.
        for now_ms in [40, 50, 60] {
            assert_eq!(interrupt(&mut journal, now_ms), second);
        }
        assert_eq!(interrupt(&mut journal, 70), first);
        // It is stopped in the middle: that is counted anew.
        let claim = journal.claim("me", &["/in"], 80, 1).unwrap().unwrap();
        assert_eq!(claim.job, first);
        let again = Again { count: Count::Nothing, next_try_ms: 80, code: "stopped", message: "x" };
        journal.again(&claim, &again).unwrap();
        assert_eq!(interrupt(&mut journal, 90), first);
        assert_eq!(journal.job(first).unwrap().unwrap().error_code, None);
    }

    /// W23.
    #[test]
    fn originals_that_cannot_be_moved_now_keep_no_other_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let journal = pending(folder.path(), MOST_MOVES + 2);
        let found = |is_due: fn(i64) -> bool| {
            let found = journal.originals_pending("/in", is_due).unwrap();
            found.into_iter().map(|it| it.job).collect::<Vec<_>>()
        };
        assert_eq!(found(|job| job > 100), [101, 102]);
        assert_eq!(found(|_| true).len(), MOST_MOVES);
        assert!(journal.originals_pending("/elsewhere", |_| true).unwrap().is_empty());
    }

    /// W29. Both are asked after every job, beside a history of very many.
    #[test]
    fn originals_to_be_moved_are_found_without_reading_all_jobs() {
        let folder = tempfile::tempdir().unwrap();
        let journal = pending(folder.path(), 1);
        let plan = |query: &str, watch: &[&str]| -> Vec<String> {
            let query = format!("EXPLAIN QUERY PLAN {query}");
            let rows = |it: &rusqlite::Connection| {
                it.prepare(&query)?
                    .query_map(rusqlite::params_from_iter(watch), |row| row.get(3))?
                    .collect()
            };
            journal.sql(rows).unwrap()
        };
        let of_one = format!("SELECT {CLAIM_COLUMNS} FROM jobs WHERE {PENDING_OF_ONE}");
        let all = plan(PENDING, &[]);
        assert!(all.len() == 1 && all[0].contains("INDEX jobs_with_originals"), "{all:?}");
        let of_one = plan(&of_one, &["/in"]);
        assert_eq!(of_one, ["SEARCH jobs USING INDEX jobs_with_originals (watch=?)"]);
    }
}
