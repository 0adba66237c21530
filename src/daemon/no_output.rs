//! Reports of clips that get no output.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::Level;

use crate::config::file::Watch;
use crate::daemon::durable;
use crate::daemon::job::{Job, blocking, not_there};
use crate::daemon::journal::Claim;
use crate::daemon::names;
use crate::daemon::output_lock;
use crate::daemon::publish::{self, PublishError};
use crate::daemon::service;
use crate::daemon::trouble::Trouble;
use crate::media::MediaError;
use crate::pipeline::convert::failure_report;
use crate::pipeline::{ConvertError, Task};
use crate::report::{Notice, Report};

/// What may be in the name of a report of a clip that got no output.
const WORDS: [&str; 4] = ["failed", "refused", "skipped", "duplicate"];

/// Removes the reports beside `output` that say that an earlier attempt at this very clip gave none: the daemon may have died
/// before it noted one. What cannot be removed is only untidy.
pub(super) fn remove_earlier(watch: &Watch, claim: &Claim, output: &Path) {
    let source = watch.path.join(&claim.relative);
    let is_of_it = |report: &Report| {
        report.source.sha256.as_ref() == Some(&claim.sha256)
            && Path::new(&report.source.path) == source
    };
    for word in WORDS {
        let name = names::report_name_without_output(&claim.relative, word);
        for number in 1..=publish::MOST_NAMES {
            let path = output.with_file_name(names::numbered(&name, number));
            if !publish::is_there(&path).is_ok_and(|it| it) {
                break;
            }
            if publish::read_report(&path).ok().flatten().is_some_and(|it| is_of_it(&it))
                && let Err(error) = publish::remove_temporary(&path)
            {
                service::log_job(Level::Warn, claim, "report not removed", &error.to_string());
            }
        }
    }
}

impl Job {
    /// A report made here, where no worker made one.
    pub(super) async fn failure_report(
        &self,
        task: &Task,
        code: &str,
        message: &str,
    ) -> Result<Report, Trouble> {
        let (task, sha256, timing) = (task.clone(), self.claim.sha256.clone(), self.timing()?);
        let notice = Notice { code: code.to_owned(), message: message.to_owned() };
        let report = blocking(move || {
            let error = ConvertError::Media(MediaError::Unusable {
                path: task.source.clone(),
                code: "not_converted",
                reason: notice.message.clone(),
            });
            let mut report = failure_report(&task, &error);
            report.source.sha256.get_or_insert(sha256);
            report.timing = timing;
            report.errors = vec![notice];
            report
        })
        .await?;
        Ok(report)
    }

    /// Publishes `report` of a clip that gets no output.
    pub(super) async fn publish_report(
        &self,
        task: &Task,
        mut report: Report,
        word: &str,
    ) -> Result<PathBuf, Trouble> {
        report.source.sha256.get_or_insert_with(|| self.claim.sha256.clone());
        self.note_attempts(&mut report)?;
        report.settings_sha256 = Some(self.claim.deciding_sha256());
        let below = self.claim.relative.parent().unwrap_or(Path::new(""));
        let folder = self.watch.output.join(below);
        let path = folder.join(names::report_name_without_output(&self.claim.relative, word));
        let (shop, claim, lock) = (Arc::clone(&self.shop), self.claim.clone(), self.lock.clone());
        let temporary = task.temporary.clone();
        let published = blocking(move || -> Result<PathBuf, Trouble> {
            // As with outputs: nothing is put into the empty place below a share that is not mounted.
            if let Some(why) = shop.replaced(&folder)? {
                return Err(Trouble::Passing(not_there(&folder, &why)));
            }
            output_lock::still_held(lock.as_deref(), &folder)?;
            durable::create_folders(&folder).map_err(|source| PublishError::Io {
                path: folder,
                action: "cannot be created",
                source,
            })?;
            shop.journal().writing(&claim, &temporary)?;
            Ok(publish::publish_report(&temporary, &path, &report)?)
        });
        published.await?
    }
}
