//! A job from its claim to its end. Every change names the attempt it belongs to.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};
use serde::Deserialize;

use super::history::fenced;
use super::schema::folded;
use super::view::path_column;
use super::{Journal, Outcome};
use crate::daemon::digest::text_sha256;
use crate::pipeline::Progress;

/// A job taken by this daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: i64,
    /// The fencing token.
    pub attempt: i64,
    /// The watched folder as configured.
    pub watch: String,
    /// The file below it.
    pub relative: PathBuf,
    /// Its size when it was hashed.
    pub size_bytes: u64,
    /// Its modification time when it was hashed.
    pub mtime_ns: i64,
    /// Its inode when it was hashed.
    pub inode: u64,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Settings as JSON.
    pub settings: String,
    /// SHA-256 of what in the settings decides the result.
    pub settings_sha256: String,
    /// SHA-256 of its list of cuts; empty where it has none.
    pub list_sha256: String,
    /// Attempts that should have worked and did not.
    pub failures: i64,
    /// Workers it took down.
    pub crashes: i64,
    /// Tries that met something that may pass.
    pub delays: i64,
    /// Report of an earlier attempt, to be replaced by the next.
    pub report_path: Option<PathBuf>,
}

impl Claim {
    /// SHA-256 of what decides the result beside the content: of the settings and, where it has one, of its list of cuts.
    #[must_use]
    pub fn deciding_sha256(&self) -> String {
        match self.list_sha256.as_str() {
            "" => self.settings_sha256.clone(),
            list => text_sha256(&format!("{} {list}", self.settings_sha256)),
        }
    }
}

/// Longest time from a try to the next.
pub const LONGEST_WAIT_MS: i64 = 15 * 60_000;

/// How a try counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Not at all: the daemon was stopped, or died.
    Nothing,
    /// Something outside may pass.
    Delay,
    /// It should have worked.
    Failure,
    /// The worker crashed or hung.
    Crash,
}

/// Why and when a job is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// How this try counts.
    pub count: Count,
    /// Not before.
    pub next_try_ms: i64,
    /// A short stable word.
    pub code: &'a str,
    /// A sentence.
    pub message: &'a str,
}

/// How a job ended without an output.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// `failed`, `refused`, `duplicate`, `skipped` or `cancelled`.
    pub state: &'static str,
    /// A short stable word.
    pub code: &'a str,
    /// A sentence.
    pub message: &'a str,
    /// The report, where one was written.
    pub report_path: Option<&'a Path>,
    /// The job that has the output.
    pub duplicate_of: Option<i64>,
    /// What is to happen to the source.
    pub original: Original,
    /// What a refusal holds for beside content and settings ([`crate::daemon::refusal::ground`]); `None` where it is of
    /// this file alone.
    pub ground: Option<&'a str>,
}

/// What is to happen to the source of an ended job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    /// Nothing.
    Kept,
    /// It is to be moved.
    Pending,
}

impl Original {
    fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Pending => "pending",
        }
    }
}

/// A verified output on its way to its final name, as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Where the verified output is.
    pub temporary: PathBuf,
    /// Its final name.
    pub output: PathBuf,
    /// The report's final name.
    pub report_path: PathBuf,
    /// The report as JSON, naming `output`.
    pub report: String,
}

/// The job that already has what another would make, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The job.
    pub job: i64,
    /// Its report.
    pub report_path: PathBuf,
    /// Its output.
    pub output_path: Option<PathBuf>,
    /// Whether it was a file of the same name in the same folder.
    pub is_of_the_same_place: bool,
    /// Whether it is done. Otherwise its output is whole and about to get the name `output_path`.
    pub is_done: bool,
}

/// What the journal reads of a planned report.
#[derive(Deserialize)]
struct PlannedReport {
    output: Option<PlannedOutput>,
}

#[derive(Deserialize)]
struct PlannedOutput {
    sha256: String,
    #[serde(default)]
    sidecars: Vec<PlannedSidecar>,
}

#[derive(Deserialize)]
struct PlannedSidecar {
    path: String,
    sha256: String,
}

/// What a claim is read from.
pub(super) const CLAIM_COLUMNS: &str =
    "id, attempt, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings,
    settings_sha256, failures, crashes, delays, report_path, list_sha256";

/// Reads [`CLAIM_COLUMNS`].
pub(super) fn claim_row(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        job: row.get(0)?,
        attempt: row.get(1)?,
        watch: row.get(2)?,
        relative: std::ffi::OsString::from_vec(row.get(3)?).into(),
        size_bytes: row.get::<_, i64>(4)?.cast_unsigned(),
        mtime_ns: row.get(5)?,
        inode: row.get::<_, i64>(6)?.cast_unsigned(),
        sha256: row.get(7)?,
        settings: row.get(8)?,
        settings_sha256: row.get(9)?,
        failures: row.get(10)?,
        crashes: row.get(11)?,
        delays: row.get(12)?,
        report_path: path_column(row, 13)?,
        list_sha256: row.get(14)?,
    })
}

/// So often a job has to wait before it leaves others before it.
pub(super) const DELAYS_IN_TURN: u32 = 2;
/// How long it does, once it is due.
const YIELDS_MS: i64 = 60 * 60 * 1000;
/// Jobs of a folder that are due.
const DUE: &str = "state = 'queued' AND watch = ?4 AND (next_try_ms <= ?3 OR next_try_ms > ?5)";
const OLDEST: &str = "ORDER BY mtime_ns, relative_path, id LIMIT 1";

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

impl Journal {
    /// Takes the next job of `watches`: of the folder that was served the longest ago, that of the oldest file (by its
    /// modification time, then its name). Jobs that had to wait several times leave others before them, for so long: each
    /// time they pause their folder, and two of them would keep it to themselves. The claim itself is one statement. A time that lies further ahead than any wait
    /// is of a clock that was set back since, and holds nothing up.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn claim(
        &mut self,
        owner: &str,
        watches: &[&str],
        now_ms: i64,
        lease_ms: i64,
    ) -> Outcome<Option<Claim>> {
        let take = format!(
            "UPDATE jobs SET state = 'running', attempt = attempt + 1, lease_owner = ?1, lease_until_ms = ?2,
                    started_ms = ?3, finished_ms = NULL, progress = NULL, progress_ms = NULL, error_code = NULL,
                    error_message = NULL
             WHERE state = 'queued' AND id = COALESCE(
                 (SELECT id FROM jobs WHERE {DUE} AND (delays < {DELAYS_IN_TURN} OR next_try_ms <= ?6) {OLDEST}),
                 (SELECT id FROM jobs WHERE {DUE} {OLDEST}))
             RETURNING {CLAIM_COLUMNS}"
        );
        let scribe = self.scribe();
        self.transaction(|it| {
            let mut turns = Vec::with_capacity(watches.len());
            for watch in watches {
                let served: i64 = it.query_row(
                    "SELECT COALESCE(MAX(started_ms), 0) FROM jobs WHERE watch = ?1 AND started_ms <= ?2",
                    params![watch, now_ms],
                    |row| row.get(0),
                )?;
                turns.push((served, *watch));
            }
            turns.sort_unstable();
            for (_, watch) in turns {
                let (lease, ahead) = (now_ms + lease_ms, now_ms + LONGEST_WAIT_MS);
                let parameters = params![owner, lease, now_ms, watch, ahead, now_ms - YIELDS_MS];
                if let Some(claim) = it.query_row(&take, parameters, claim_row).optional()? {
                    scribe.note(it, (claim.job, claim.attempt), "claimed", owner)?;
                    return Ok(Some(claim));
                }
            }
            Ok(None)
        })
    }

    /// Stores how far the job is, and renews the lease.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn progress(
        &mut self,
        claim: &Claim,
        progress: &Progress,
        now_ms: i64,
        lease_ms: i64,
    ) -> Outcome<()> {
        let text = serde_json::to_string(progress).unwrap_or_default();
        let changed = self.sql(|it| {
            it.execute(
                "UPDATE jobs SET progress = ?3, progress_ms = ?4, lease_until_ms = ?5
                 WHERE id = ?1 AND attempt = ?2 AND state = 'running'",
                params![claim.job, claim.attempt, text, now_ms, now_ms + lease_ms],
            )
        })?;
        self.changes_no_count(changed);
        fenced(claim, changed)
    }

    /// Notes the list of cuts that the claimed job is worked with, which may be another than when it was queued.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn note_list(&mut self, claim: &Claim) -> Outcome<()> {
        let changed = self.sql(|it| {
            it.execute(
                "UPDATE jobs SET list_sha256 = ?3 WHERE id = ?1 AND attempt = ?2 AND state = 'running'",
                params![claim.job, claim.attempt, claim.list_sha256],
            )
        })?;
        fenced(claim, changed)
    }

    /// Notes the temporary name before anything is written under it, so that a restart finds what is left there.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn writing(&mut self, claim: &Claim, temporary: &Path) -> Outcome<()> {
        let changed = self.sql(|it| {
            it.execute(
                "UPDATE jobs SET temporary_path = ?3
                 WHERE id = ?1 AND attempt = ?2 AND state IN ('running', 'publishing')",
                params![claim.job, claim.attempt, bytes(temporary)],
            )
        })?;
        fenced(claim, changed)
    }

    /// From here on the output is published or, at a restart, completed. Also called to change the names where one was
    /// taken meanwhile.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn publishing(&mut self, claim: &Claim, planned: &Planned) -> Outcome<()> {
        let report = serde_json::from_str::<PlannedReport>(&planned.report);
        let output = report.ok().and_then(|it| it.output);
        let hash = output.as_ref().map(|it| &it.sha256);
        let sidecars = output.as_ref().map_or(&[][..], |it| &it.sidecars);
        let event = ("publishing", planned.output.to_string_lossy());
        self.change(claim, (event.0, &event.1), |it| {
            let changed = it.execute(
                "UPDATE jobs SET state = 'publishing', temporary_path = ?3, output_path = ?4, report_path = ?5,
                        report = ?6, output_folded = ?7, output_sha256 = ?8
                 WHERE id = ?1 AND attempt = ?2 AND state IN ('running', 'publishing')",
                params![
                    claim.job,
                    claim.attempt,
                    bytes(&planned.temporary),
                    bytes(&planned.output),
                    bytes(&planned.report_path),
                    planned.report,
                    folded(&planned.output),
                    hash
                ],
            )?;
            if changed == 1 {
                it.execute("DELETE FROM beside WHERE job = ?1", [claim.job])?;
                for PlannedSidecar { path, sha256 } in sidecars {
                    let insert = "INSERT INTO beside (job, sha256, path) VALUES (?1, ?2, ?3)";
                    it.execute(insert, params![claim.job, sha256, path])?;
                }
            }
            Ok(changed)
        })
    }

    /// The report is in place. Its text leaves the journal; the temporary name stays until nothing is left there.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn done(&mut self, claim: &Claim, original: Original, now_ms: i64) -> Outcome<()> {
        self.change(claim, ("done", ""), |it| {
            it.execute(
                "UPDATE jobs SET state = 'done', finished_ms = ?3, original = ?4, report = NULL,
                        error_code = NULL, error_message = NULL, lease_owner = NULL,
                        lease_until_ms = NULL
                 WHERE id = ?1 AND attempt = ?2 AND state = 'publishing'",
                params![claim.job, claim.attempt, now_ms, original.word()],
            )
        })
    }

    /// The job waits again.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn again(&mut self, claim: &Claim, again: &Again<'_>) -> Outcome<()> {
        let one_if = |count| i64::from(again.count == count);
        let detail = format!("{}: {}", again.code, again.message);
        self.change(claim, ("queued", &detail), |it| {
            it.execute(
                "UPDATE jobs SET state = 'queued', next_try_ms = ?3, error_code = ?4, error_message = ?5,
                        failures = failures + ?6, crashes = crashes + ?7, delays = delays + ?8, output_path = NULL,
                        output_folded = NULL, output_sha256 = NULL, report = NULL, lease_owner = NULL,
                        lease_until_ms = NULL, progress = NULL, progress_ms = NULL,
                        report_path = CASE state WHEN 'publishing' THEN NULL ELSE report_path END
                 WHERE id = ?1 AND attempt = ?2 AND state IN ('running', 'publishing')",
                params![
                    claim.job,
                    claim.attempt,
                    again.next_try_ms,
                    again.code,
                    again.message,
                    one_if(Count::Failure),
                    one_if(Count::Crash),
                    one_if(Count::Delay)
                ],
            )
        })
    }

    /// The job ends without an output.
    ///
    /// # Errors
    /// [`super::JournalError::Fenced`] where the job is not ours any more.
    pub fn end(&mut self, claim: &Claim, end: &End<'_>, now_ms: i64) -> Outcome<()> {
        let detail = format!("{}: {}", end.code, end.message);
        self.change(claim, (end.state, &detail), |it| {
            let changed = it.execute(
                "UPDATE jobs SET state = ?3, finished_ms = ?4, error_code = ?5, error_message = ?6,
                        report_path = ?7, duplicate_of = ?8, original = ?9, ground = ?10, output_path = NULL, output_folded = NULL,
                        output_sha256 = NULL, report = NULL, lease_owner = NULL, lease_until_ms = NULL
                 WHERE id = ?1 AND attempt = ?2 AND state IN ('running', 'publishing')",
                params![
                    claim.job,
                    claim.attempt,
                    end.state,
                    now_ms,
                    end.code,
                    end.message,
                    end.report_path.map(bytes),
                    end.duplicate_of,
                    end.original.word(),
                    end.ground
                ],
            )?;
            if changed == 1 && end.state == "cancelled" {
                // What lies at its place settles anew.
                it.execute("DELETE FROM files WHERE job = ?1", [claim.job])?;
            }
            Ok(changed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::journal::drawn::new_job;

    /// W25. Two jobs that cannot be worked are due again and again before all that came later.
    #[test]
    fn jobs_that_were_put_off_leave_others_before_them_and_a_running_one_has_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for name in ["a", "b", "c", "d"] {
            journal.submit(&new_job(name), 1).unwrap();
        }
        let next = |journal: &mut Journal, now_ms: i64| {
            journal.claim("me", &["/in"], now_ms, 1).unwrap().unwrap()
        };
        for now_ms in [10, 20, 30, 40] {
            let claim = next(&mut journal, now_ms);
            assert!(["a", "b"].map(Path::new).contains(&&*claim.relative));
            let view = journal.job(claim.job).unwrap().unwrap();
            assert_eq!((view.error_code, view.error_message), (None, None));
            let again = Again {
                count: Count::Delay,
                next_try_ms: now_ms + 15,
                code: "io",
                message: "cannot be written",
            };
            journal.again(&claim, &again).unwrap();
        }
        assert_eq!(next(&mut journal, 100).relative, Path::new("c"), "both others are due");
        assert_eq!(next(&mut journal, 55 + YIELDS_MS).relative, Path::new("a"), "they starve not");
        assert_eq!(next(&mut journal, 56 + YIELDS_MS).relative, Path::new("b"));
        assert_eq!(next(&mut journal, 57 + YIELDS_MS).relative, Path::new("d"));
    }
}
