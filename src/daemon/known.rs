//! What is known of a clip before it is worked: its result may be there already, or it may be a result itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::Level;

use crate::config::file::{Collision, SameContent, Watch};
use crate::config::settings::Settings;
use crate::daemon::DaemonError;
use crate::daemon::digest::text_sha256;
use crate::daemon::job::{Aftermath, Attempt, Job, Shop, blocking};
use crate::daemon::journal::{Claim, End, Original, Twin};
use crate::daemon::names;
use crate::daemon::original;
use crate::daemon::publish::{PublishError, read_report};
use crate::daemon::refusal::{self, Refusal};
use crate::daemon::trouble::Trouble;
use crate::pipeline::{Task, cut_list};
use crate::report::{Report, Status};

/// Reports of numbered names that are looked through.
const MOST_REPORTS: u32 = 1000;

/// Ends of a name that may have come to that of an output.
const MOST_ENDS: usize = 4;

/// How often a clip is put off for a twin whose output gets no name: half an hour in all.
const MOST_WAITS: i64 = 10;

/// Why a clip is not worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The journal has a done job with this content, these settings and this list of cuts.
    Twin {
        /// The job.
        job: i64,
        /// Its report.
        report_path: PathBuf,
    },
    /// Such a job was interrupted when its output was about to get its name, and is completed beside the others.
    AboutToBe {
        /// The job.
        job: i64,
        /// The name.
        output: PathBuf,
    },
    /// This report is of this very work, though the journal has no such job: another daemon did it, or an earlier
    /// journal knew.
    Published(PathBuf),
    /// The journal has a job with this content and these settings that was refused, for what holds for this one as well.
    Refused(Refusal),
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
    let counts = |it: &Twin| watch.same_content == SameContent::Refer || it.is_of_the_same_place;
    let (done, published) =
        twins.into_iter().filter(counts).partition::<Vec<_>, _>(|it| it.is_done);
    for twin in done {
        if is_result_of(&twin.report_path, &claim.sha256)? {
            return Ok(Some(Known::Twin { job: twin.job, report_path: twin.report_path }));
        }
    }
    for twin in published.into_iter().filter(|_| claim.delays < MOST_WAITS) {
        let Some(output) = twin.output_path else { continue };
        // A folder that is not there may stay away.
        let folder = output.parent().unwrap_or(Path::new("/"));
        if folder.is_dir() && shop.replaced(folder)?.is_none() {
            return Ok(Some(Known::AboutToBe { job: twin.job, output }));
        }
    }
    if let Some(output) = shop.journal().output_with(&claim.sha256)? {
        return Ok(Some(Known::OwnOutput(output)));
    }
    if is_output(&task.source, &claim.sha256) {
        return Ok(Some(Known::OwnOutput(task.source.clone())));
    }
    if let Some(report) = report_of(watch, claim, &task.output) {
        return Ok(Some(Known::Published(report)));
    }
    let grounds = refusal::grounds(claim, shop.rules().limits.stall);
    if let Some(refusal) = shop.journal().refused_before(claim, &grounds)? {
        return Ok(Some(Known::Refused(refusal)));
    }
    let report_path = names::report_path(&task.output);
    let is_taken = std::fs::symlink_metadata(&task.output).is_ok() || report_path.exists();
    let skips = watch.collision == Collision::Skip && is_taken;
    Ok(skips.then(|| Known::NameTaken(task.output.clone())))
}

/// Whether the report at `path` is there and about a source with this content (an overwritten one is not), and its output
/// is as well.
fn is_result_of(path: &Path, sha256: &str) -> Result<bool, PublishError> {
    let is_of_it = |it: &Report| it.source.sha256.as_deref() == Some(sha256);
    Ok(read_report(path)?.is_some_and(|it| is_of_it(&it) && has_output(path, &it)))
}

/// Whether the output that the report at `path` speaks of lies beside it. A report that was left alone promises nothing:
/// its clip is worked again when it comes again.
fn has_output(path: &Path, report: &Report) -> bool {
    let Some(output) = &report.output else { return false };
    let named = Path::new(&output.path).file_name().map(|it| path.with_file_name(it));
    let is_it = |path: PathBuf| {
        let there = std::fs::symlink_metadata(path);
        there.is_ok_and(|it| it.is_file() && it.len() == output.size_bytes)
    };
    is_it(path.with_extension("")) || named.is_some_and(is_it)
}

/// Whether report and output of a done job are there, by the report's place.
#[must_use]
pub fn is_whole(path: &Path) -> bool {
    read_report(path).ok().flatten().is_some_and(|it| has_output(path, &it))
}

/// Whether the report beside `path` is of an output with this content, or lists it as made beside its output, whose name it
/// then has and more.
fn is_output(path: &Path, sha256: &str) -> bool {
    let lists_it = |report: &PathBuf| {
        let report = read_report(report).ok().flatten();
        report.and_then(|it| it.output).is_some_and(|output| {
            output.sha256 == sha256 || output.sidecars.iter().any(|it| it.sha256 == sha256)
        })
    };
    let shorter = |path: &PathBuf| path.extension().is_some().then(|| path.with_extension(""));
    let mut outputs = std::iter::successors(Some(path.to_owned()), shorter).take(MOST_ENDS);
    outputs.any(|it| lists_it(&names::report_path(&it)))
}

/// A report of the work that `claim` asks for, under one of the names of `output`. Where the same content is worked again
/// under another name, it has to be about a file of this one; its folder may be mounted elsewhere on another machine.
pub fn report_of(watch: &Watch, claim: &Claim, output: &Path) -> Option<PathBuf> {
    let wanted = output.file_name()?;
    let name = claim.relative.file_name()?.to_string_lossy();
    let deciding = claim.deciding_sha256();
    let is_of_this_name = |it: &Report| {
        let found = Path::new(&it.source.path).file_name();
        watch.same_content == SameContent::Refer || found.is_some_and(|it| *it == *name)
    };
    for number in 1..=MOST_REPORTS {
        let output = output.with_file_name(names::numbered(wanted, number));
        let path = names::report_path(&output);
        match read_report(&path) {
            Ok(None) if std::fs::symlink_metadata(&output).is_err() => return None,
            Ok(Some(report))
                if report.status == Status::Done
                    && is_of_this_name(&report)
                    && report.source.sha256.as_ref() == Some(&claim.sha256)
                    && report.settings_sha256.as_ref() == Some(&deciding)
                    && has_output(&path, &report) =>
            {
                return Some(path);
            }
            _ => {}
        }
    }
    None
}

/// SHA-256 of the list of cuts of the clip `source`; empty where it has none.
#[must_use]
pub fn list_sha256(settings: &Settings, source: &Path) -> String {
    match cut_list::identity(settings, source) {
        none if none.is_empty() => none,
        cuts => text_sha256(&cuts),
    }
}

impl Job {
    /// Sees which list of cuts the clip has now.
    pub(super) fn note_list(&mut self) -> Result<(), DaemonError> {
        let list = list_sha256(&self.watch.settings(), &self.source());
        if self.claim.list_sha256 != list {
            self.claim.list_sha256 = list;
            self.shop.journal().note_list(&self.claim)?;
        }
        Ok(())
    }

    /// Ends the job where there is nothing to do; `None` where there is.
    pub(super) async fn end_if_known(&self, task: &Task) -> Result<Option<Aftermath>, Trouble> {
        let (shop, watch) = (Arc::clone(&self.shop), self.watch.clone());
        let (claim, task_of_it) = (self.claim.clone(), task.clone());
        let known = blocking(move || known(&shop, &watch, &claim, &task_of_it)).await??;
        match known {
            // It may be a copy that stalled, as any other that lacks its end.
            Some(Known::Refused(before)) if self.lost_end(&before.code).is_some() => Ok(None),
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
                    ground: None,
                };
                self.end(&end, Level::Info)?;
            }
            Known::AboutToBe { job, output } => {
                let message = format!(
                    "job {job} made an output of the same content, which is about to be there: {}",
                    output.display()
                );
                return Ok(self.delay("twin_publishes", &message, Aftermath::Next)?);
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
                    ground: None,
                };
                self.end(&end, Level::Info)?;
            }
            Known::Refused(before) => return self.refuse_again(task, &before).await,
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
            ground: None,
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
        self.publish_report(task, report, word).await
    }
}
