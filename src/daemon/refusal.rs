//! Content that was refused is not tried again under another name: what a refusal holds for, and the reference to it.

use std::path::PathBuf;
use std::time::Duration;

use log::Level;

use crate::daemon::digest::text_sha256;
use crate::daemon::job::{Aftermath, Attempt, Job};
use crate::daemon::journal::{Claim, End, Original};
use crate::pipeline::Task;
use crate::report::{Notice, Status};

/// Code of a refusal that refers to an earlier one.
pub const REFUSED_BEFORE: &str = "refused_before";

/// Codes of refusals that depend on more than content and settings: on name and folder (of a parking mode), on a list of
/// cuts beside the clip, on the disk that was read, and on the name and the file system of the output.
const NOT_OF_THE_CONTENT: [&str; 4] =
    ["timelapse", "settings", "source_unreadable", "output_unwritable"];

/// An earlier job that was refused for what this one would be refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The job.
    pub job: i64,
    /// Its code.
    pub code: String,
    /// Its reason as a sentence.
    pub message: String,
    /// Its report.
    pub report_path: Option<PathBuf>,
}

/// What a refusal with `code` holds for beside content and settings of the claim, as the journal keeps it; `None` where it
/// is of this file alone. Whether a worker survives also depends on what does not decide the result, as the device, and
/// whether it hangs on how long it may be silent (`stall`).
#[must_use]
pub fn ground(code: &str, claim: &Claim, stall: Duration) -> Option<String> {
    let whole = || text_sha256(&claim.settings);
    match code {
        _ if NOT_OF_THE_CONTENT.contains(&code) => None,
        "worker_crashed" => Some(format!("crash {}", whole())),
        "worker_hung" => Some(format!("hang {} ms {}", stall.as_millis(), whole())),
        _ => Some("content".to_owned()),
    }
}

/// All grounds on which the claim could be refused.
#[must_use]
pub fn grounds(claim: &Claim, stall: Duration) -> Vec<String> {
    let codes = ["", "worker_crashed", "worker_hung"];
    codes.iter().filter_map(|code| ground(code, claim, stall)).collect()
}

impl Job {
    /// Ends the job as the one before.
    pub(super) async fn refuse_again(&self, task: &Task, before: &Refusal) -> Attempt {
        let Refusal { job, code, message, report_path } = before;
        let place = report_path.as_ref().map(|it| format!(", {}", it.display()));
        let why = format!(
            "the same content was refused with the same settings before ({code}; job {job}{}): {message}. `slomod retry {}` \
             tries it all the same",
            place.unwrap_or_default(),
            self.claim.job
        );
        let mut report = self.failure_report(task, REFUSED_BEFORE, &why).await?;
        report.status = Status::Refused;
        report.errors.push(Notice { code: code.clone(), message: message.clone() });
        let path = self.publish_report(task, report, "refused").await?;
        let end = End {
            state: "refused",
            code: REFUSED_BEFORE,
            message: &why,
            report_path: Some(&path),
            duplicate_of: Some(*job),
            original: Original::Kept,
            ground: None,
        };
        self.end(&end, Level::Warn)?;
        Ok(Aftermath::Next)
    }
}
