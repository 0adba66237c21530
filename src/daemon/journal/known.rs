//! What the journal knows of a content or a name from other jobs.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};

use super::claims::{Claim, Twin};
use super::schema::folded;
use super::view::path_column;
use super::{Journal, JournalError, Outcome};
use crate::daemon::refusal::Refusal;

impl Journal {
    /// Jobs with the same content, settings and list of cuts that are done or being published.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn twin(&self, claim: &Claim) -> Outcome<Vec<Twin>> {
        let place = claim.relative.as_os_str().as_bytes();
        self.sql(|it| {
            it.prepare(
                "SELECT id, report_path, output_path, watch = ?4 AND relative_path = ?5, state = 'done' FROM jobs
                 WHERE sha256 = ?1 AND settings_sha256 = ?2 AND state IN ('done', 'publishing') AND id <> ?3
                       AND list_sha256 = ?6 AND report_path IS NOT NULL
                 ORDER BY id",
            )?
            .query_map(
                params![
                    claim.sha256,
                    claim.settings_sha256,
                    claim.job,
                    claim.watch,
                    place,
                    claim.list_sha256
                ],
                |row| {
                    Ok(Twin {
                        job: row.get(0)?,
                        report_path: path_column(row, 1)?.unwrap_or_default(),
                        output_path: path_column(row, 2)?,
                        is_of_the_same_place: row.get(3)?,
                        is_done: row.get(4)?,
                    })
                },
            )?
            .collect()
        })
    }

    /// A job with the content and the settings of `claim` that was refused on one of `grounds`, and not for an earlier one;
    /// `None` where somebody asked for another try of `claim`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn refused_before(&self, claim: &Claim, grounds: &[String]) -> Outcome<Option<Refusal>> {
        self.sql(|it| {
            it.prepare_cached(
                "SELECT id, error_code, error_message, report_path, ground FROM jobs
                 WHERE sha256 = ?1 AND settings_sha256 = ?2 AND size_bytes = ?3 AND state = 'refused' AND id <> ?4
                       AND ground IS NOT NULL
                       AND NOT EXISTS (SELECT id FROM events WHERE job = ?4 AND what = 'retry')
                 ORDER BY id",
            )?
            .query_map(
                params![
                    claim.sha256,
                    claim.settings_sha256,
                    claim.size_bytes.cast_signed(),
                    claim.job
                ],
                |row| {
                    let refusal = Refusal {
                        job: row.get(0)?,
                        code: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                        message: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                        report_path: path_column(row, 3)?,
                    };
                    Ok((row.get::<_, String>(4)?, refusal))
                },
            )?
            .find(|row| !matches!(row, Ok((ground, _)) if !grounds.contains(ground)))
            .transpose()
            .map(|found| found.map(|(_, refusal)| refusal))
        })
    }

    /// The output with this content that a job made here, or what it made beside one.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn output_with(&self, sha256: &str) -> Outcome<Option<PathBuf>> {
        let beside: Option<String> = self.sql(|it| {
            it.query_row(
                "SELECT path FROM beside JOIN jobs ON jobs.id = beside.job
                 WHERE beside.sha256 = ?1 AND state IN ('publishing', 'done') ORDER BY job LIMIT 1",
                [sha256],
                |row| row.get(0),
            )
            .optional()
        })?;
        if let Some(path) = beside {
            return Ok(Some(path.into()));
        }
        self.sql(|it| {
            it.query_row(
                "SELECT output_path FROM jobs
                 WHERE output_sha256 = ?1 AND state IN ('publishing', 'done') ORDER BY id LIMIT 1",
                [sha256],
                |row| path_column(row, 0),
            )
            .optional()
        })
        .map(Option::flatten)
    }

    /// Whether `output` differs from every output of other jobs by more than the case of its letters, so that a share
    /// which does not tell cases apart shows both. An equal name is for the file system to find.
    ///
    /// # Errors
    /// [`JournalError::NameTaken`] where it does not.
    pub fn differs_by_more_than_case(&self, claim: &Claim, output: &Path) -> Outcome<()> {
        let other: Option<i64> = self.sql(|it| {
            it.query_row(
                "SELECT id FROM jobs
                 WHERE output_folded = ?1 AND id <> ?2 AND output_path <> ?3 AND state IN ('publishing', 'done')
                 LIMIT 1",
                params![folded(output), claim.job, output.as_os_str().as_bytes()],
                |row| row.get(0),
            )
            .optional()
        })?;
        match other {
            Some(_) => Err(JournalError::NameTaken(output.to_owned())),
            None => Ok(()),
        }
    }
}
