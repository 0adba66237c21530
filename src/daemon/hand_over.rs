//! The end of a job that went well: its output is published, unless its source changed meanwhile.

use std::sync::Arc;

use log::Level;

use crate::daemon::job::{Aftermath, Attempt, Job, blocking, now_ms};
use crate::daemon::journal::Count;
use crate::daemon::no_output;
use crate::daemon::original;
use crate::daemon::output_lock::record;
use crate::daemon::publish::{self, Publication, PublishError, Published, Step};
use crate::daemon::service::{self, Speed};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::trouble::Trouble;
use crate::pipeline::Task;
use crate::report::Report;
use crate::report::timing::Resumption;

impl Job {
    /// Publishes the verified output and its report, and ends the job.
    pub(super) async fn publish(&self, task: &Task, mut report: Report) -> Attempt {
        if let Some(aftermath) = self.changed_meanwhile(task, &report)? {
            return Ok(aftermath);
        }
        self.note_attempts(&mut report)?;
        report.settings_sha256 = Some(self.claim.deciding_sha256());
        let speed = Speed::of(&report);
        let resumed = report.timing.resumed.last().cloned();
        let publication = Publication {
            temporary: task.temporary.clone(),
            output: task.output.clone(),
            report_path: None,
            collision: self.watch.collision,
            report,
        };
        let (published, recorded) = self.make_visible(publication).await?;
        match published {
            Ok(published) => self.finish(&published, &speed, resumed),
            Err(PublishError::Record(error)) => Err(error.into()),
            Err(PublishError::Taken(path)) => {
                publish::remove_temporary(&task.temporary)?;
                let message = format!("{} came to be there meanwhile", path.display());
                self.skip(task, "output_exists", &message).await
            }
            Err(error @ PublishError::LockLost(_)) => {
                let message = error.to_string();
                let aftermath = Aftermath::Pause(message.clone());
                publish::remove_temporary(&task.temporary)?;
                Ok(self.again(Count::Nothing, 0, "lock_lost", &message, aftermath)?)
            }
            // Nobody would complete what the journal does not know of.
            Err(error) if !recorded && !matches!(error, PublishError::LockUnseen { .. }) => {
                publish::remove_temporary(&task.temporary)?;
                Err(error.into())
            }
            // The verified output is there and the journal knows: completed as soon as the folder allows.
            Err(error) => {
                service::log_job(Level::Warn, &self.claim, "publication waits", &error.to_string());
                Ok(Aftermath::Pause(error.to_string()))
            }
        }
    }

    /// Ends the job where its source is not what was queued any more, or not what was worked.
    fn changed_meanwhile(
        &self,
        task: &Task,
        report: &Report,
    ) -> Result<Option<Aftermath>, Trouble> {
        // Another time alone, as after a `touch`, is no other content: of that the hashes tell. Such a file settles anew, is
        // found to be known, and its time is noted then.
        let has_its_size = |now: &Snapshot, queued: &Snapshot| now.size_bytes == queued.size_bytes;
        if let Some(aftermath) = self.source_trouble(has_its_size)? {
            publish::remove_temporary(&task.temporary)?;
            return Ok(Some(aftermath));
        }
        let queued = &self.claim.sha256;
        let is_queued = |hash: &Option<String>| hash.as_ref() == Some(queued);
        if is_queued(&report.source.sha256) && is_queued(&report.source.sha256_after) {
            return Ok(None);
        }
        publish::remove_temporary(&task.temporary)?;
        let now = report.source.sha256_after.as_deref().unwrap_or_default();
        let message = format!("the file changed from SHA-256 {queued} to {now}: result discarded");
        Ok(Some(self.cancel("source_changed", &message)?))
    }

    /// Gives output and report their names, off the daemon's one thread; and whether the journal knows of them.
    async fn make_visible(
        &self,
        publication: Publication,
    ) -> Result<(Result<Published, PublishError>, bool), Trouble> {
        let (shop, claim, lock) = (Arc::clone(&self.shop), self.claim.clone(), self.lock.clone());
        blocking(move || {
            let mut recorded = false;
            let mut witness = record(&shop, &claim, lock, publication.collision);
            let published = publish::publish(&publication, &mut |step| {
                let is_plan = matches!(step, Step::Planned(_));
                witness(step)?;
                recorded |= is_plan;
                Ok(())
            });
            if published.is_ok() {
                // What cannot be removed now is removed with the leftovers.
                let _ = publish::remove_attempts(&publication.temporary);
            }
            (published, recorded)
        })
        .await
    }

    /// The job is done.
    fn finish(&self, published: &Published, speed: &Speed, resumed: Option<Resumption>) -> Attempt {
        no_output::remove_earlier(&self.watch, &self.claim, &published.output);
        self.shop.journal().done(&self.claim, original::intent(&self.watch), now_ms())?;
        let mut message = published.output.display().to_string();
        if let Some(Resumption { segments, source_frame, .. }) = resumed {
            message +=
                &format!(" (taken up behind {segments} segment(s), at frame {source_frame})");
        }
        service::log_done(&self.claim, &message, speed);
        if let Some(earlier) = &self.claim.report_path
            // It said that an earlier attempt failed.
            && let Err(error) = publish::remove_temporary(earlier)
        {
            service::log_job(Level::Warn, &self.claim, "report not removed", &error.to_string());
        }
        Ok(Aftermath::Next)
    }
}
