//! What is known of a clip before it is worked: its result may be there already, or it may be a result itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::Level;

use crate::config::file::{Collision, Watch};
use crate::daemon::job::{Aftermath, Attempt, Job, Shop, blocking};
use crate::daemon::journal::{Claim, End, Original};
use crate::daemon::names;
use crate::daemon::original;
use crate::daemon::publish::{PublishError, read_report};
use crate::daemon::trouble::Trouble;
use crate::pipeline::Task;
use crate::report::Status;

/// Reports of numbered names that are looked through.
const MOST_REPORTS: u32 = 1000;

/// As long as a worker may make one.
const LONGEST_REPORT_BYTES: u64 = 64 << 20;

/// Why a clip is not worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The journal has a done job with this content and these settings.
    Twin {
        /// The job.
        job: i64,
        /// Its report.
        report_path: PathBuf,
    },
    /// This report is of this very work, though the journal has no such job: another daemon did it, or an earlier
    /// journal knew.
    Published(PathBuf),
    /// It is an output of slomod itself: this one.
    OwnOutput(PathBuf),
    /// Its output's name is taken, and the folder's configuration says to skip it then.
    NameTaken(PathBuf),
}

/// Looks at the journal, at the report beside the source, and at reports under the names that the output could have.
///
/// # Errors
/// [`Trouble`] of the journal, or where the report of a twin cannot be read; any other that cannot says nothing.
pub(super) fn known(
    shop: &Shop,
    watch: &Watch,
    claim: &Claim,
    task: &Task,
) -> Result<Option<Known>, Trouble> {
    let twins = shop.journal().twin(claim)?;
    for twin in twins {
        if is_report_of(&twin.report_path, &claim.sha256)? {
            return Ok(Some(Known::Twin { job: twin.job, report_path: twin.report_path }));
        }
    }
    if let Some(output) = shop.journal().output_with(&claim.sha256)? {
        return Ok(Some(Known::OwnOutput(output)));
    }
    if is_output(&task.source, &claim.sha256) {
        return Ok(Some(Known::OwnOutput(task.source.clone())));
    }
    if let Some(report) = report_of(claim, &task.output) {
        return Ok(Some(Known::Published(report)));
    }
    let report_path = names::report_path(&task.output);
    let is_taken = std::fs::symlink_metadata(&task.output).is_ok() || report_path.exists();
    let skips = watch.collision == Collision::Skip && is_taken;
    Ok(skips.then(|| Known::NameTaken(task.output.clone())))
}

/// Whether the report at `path` is there and about a source with this content: an overwritten one is not.
fn is_report_of(path: &Path, sha256: &str) -> Result<bool, PublishError> {
    Ok(read_report(path)?.is_some_and(|it| it.source.sha256.as_deref() == Some(sha256)))
}

/// Whether the report beside `path` is of an output with this content. Anybody can drop files there, so it is read only
/// where it looks like a report.
fn is_output(path: &Path, sha256: &str) -> bool {
    let beside = names::report_path(path);
    let is_plain = |it: std::fs::Metadata| it.is_file() && it.len() <= LONGEST_REPORT_BYTES;
    if !std::fs::symlink_metadata(&beside).is_ok_and(is_plain) {
        return false;
    }
    let report = read_report(&beside).ok().flatten();
    report.and_then(|it| it.output).is_some_and(|output| output.sha256 == sha256)
}

/// A report of the work that `claim` asks for, under one of the names of `output`.
pub fn report_of(claim: &Claim, output: &Path) -> Option<PathBuf> {
    let wanted = output.file_name()?;
    for number in 1..=MOST_REPORTS {
        let output = output.with_file_name(names::numbered(wanted, number));
        let path = names::report_path(&output);
        match read_report(&path) {
            Ok(None) if std::fs::symlink_metadata(&output).is_err() => return None,
            Ok(Some(report))
                if report.status == Status::Done
                    && report.source.sha256.as_ref() == Some(&claim.sha256)
                    && report.settings_sha256.as_ref() == Some(&claim.settings_sha256) =>
            {
                return Some(path);
            }
            _ => {}
        }
    }
    None
}

impl Job {
    /// Ends the job where there is nothing to do; `None` where there is.
    pub(super) async fn end_if_known(&self, task: &Task) -> Result<Option<Aftermath>, Trouble> {
        let (shop, watch) = (Arc::clone(&self.shop), self.watch.clone());
        let (claim, task_of_it) = (self.claim.clone(), task.clone());
        let known = blocking(move || known(&shop, &watch, &claim, &task_of_it)).await??;
        match known {
            Some(known) => self.end_known(task, known).await.map(Some),
            None => Ok(None),
        }
    }

    async fn end_known(&self, task: &Task, known: Known) -> Attempt {
        match known {
            Known::Twin { job, report_path } => {
                let message = format!(
                    "the same content was worked with the same settings before: {}",
                    report_path.display()
                );
                let path = self.explain(task, Status::Duplicate, "duplicate", &message).await?;
                let end = End {
                    state: "duplicate",
                    code: "duplicate",
                    message: &message,
                    report_path: Some(&path),
                    duplicate_of: Some(job),
                    original: original::intent(&self.watch),
                };
                self.end(&end, Level::Info)?;
            }
            // That report is this clip's own: it needs no second.
            Known::Published(path) => {
                let message =
                    format!("its output and report are there already: {}", path.display());
                let end = End {
                    state: "duplicate",
                    code: "published_before",
                    message: &message,
                    report_path: Some(&path),
                    duplicate_of: None,
                    original: original::intent(&self.watch),
                };
                self.end(&end, Level::Info)?;
            }
            Known::OwnOutput(path) => {
                let message = format!("it is an output of slomod: {}", path.display());
                self.skip(task, "own_output", &message).await?;
            }
            Known::NameTaken(path) => {
                let message = format!(
                    "{} is there, and the folder is configured to skip clips whose output is",
                    path.display()
                );
                self.skip(task, "output_exists", &message).await?;
            }
        }
        Ok(Aftermath::Next)
    }

    /// The clip stays as it is, and a report says why.
    pub(super) async fn skip(&self, task: &Task, code: &'static str, message: &str) -> Attempt {
        let path = self.explain(task, Status::Skipped, code, message).await?;
        let end = End {
            state: "skipped",
            code,
            message,
            report_path: Some(&path),
            duplicate_of: None,
            original: Original::Kept,
        };
        self.end(&end, Level::Warn)?;
        Ok(Aftermath::Next)
    }

    /// Publishes a report of a clip that needs no output.
    async fn explain(
        &self,
        task: &Task,
        status: Status,
        code: &str,
        message: &str,
    ) -> Result<PathBuf, Trouble> {
        let mut report = self.failure_report(task, code, message).await?;
        report.status = status;
        report.warnings = std::mem::take(&mut report.errors);
        let word = if status == Status::Skipped { "skipped" } else { "duplicate" };
        self.publish_report(report, word).await
    }
}
