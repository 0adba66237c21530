//! What follows from the end of a job for those who only hear of it: the figures, and the hooks.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::daemon::events::Kind;
use crate::daemon::journal::EndedRow;
use crate::daemon::run::{Daemon, Event};
use crate::daemon::service;
use crate::plain_file;
use crate::report::Report;

/// How long hooks may hold up the end of the daemon.
const HOOKS_END: Duration = Duration::from_secs(5);

/// A job that is over, and its report.
#[derive(Debug)]
pub(super) struct EndedJob {
    pub(super) row: EndedRow,
    /// The report as it is in its file; empty where it cannot be read.
    pub(super) text: Vec<u8>,
}

impl Daemon {
    /// The job may be over: then its report is read, beside the loop.
    pub(super) fn look_after(&mut self, job: i64) {
        self.looking_after += 1;
        let (shop, events) = (Arc::clone(&self.shop), self.events.clone());
        tokio::task::spawn_blocking(move || {
            // Where the journal fails, the loop finds out.
            let row = shop.journal().ended(job).ok().flatten();
            let ended = row.map(|row| {
                let text = row.report_path.as_deref().map_or(Ok(Vec::new()), text_of);
                let text = text.unwrap_or_else(|error| {
                    say_unreadable(&row, &error);
                    Vec::new()
                });
                Box::new(EndedJob { row, text })
            });
            // The receiver is gone only where the daemon ends.
            let _ = events.blocking_send(Event::Ended(ended));
        });
    }

    /// The job is over; `None` where it was not.
    pub(super) fn ended(&mut self, ended: Option<Box<EndedJob>>) {
        self.looking_after -= 1;
        let Some(ended) = ended else { return };
        let report: Option<Report> = serde_json::from_slice(&ended.text).ok();
        self.tally.add(&ended.row.state, report.as_ref());
        self.hooks.hear(&self.config.hooks, ended);
    }

    /// At the end of the daemon: hooks hear of what has just ended.
    pub(super) async fn look_after_last(&mut self, inbox: &mut mpsc::Receiver<Event>) {
        let hear = async {
            while self.looking_after > 0 {
                match inbox.recv().await {
                    Some(Event::Ended(ended)) => self.ended(ended),
                    Some(_) => {}
                    None => return,
                }
            }
            self.hooks.finish().await;
        };
        if tokio::time::timeout(HOOKS_END, hear).await.is_err() {
            log::warn!(MESSAGE_ID = Kind::HookFailed.id(); "hooks that had not ended are given up");
        }
    }
}

/// The report as it is in its file.
fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    let none = || io::Error::new(io::ErrorKind::InvalidData, "it is no report, but something else");
    plain_file::read(path)?.ok_or_else(none)
}

fn say_unreadable(row: &EndedRow, error: &io::Error) {
    let path = row.report_path.as_deref().unwrap_or(&row.source);
    let path = service::plain(&path.to_string_lossy());
    log::warn!(MESSAGE_ID = Kind::HookFailed.id(), SLOMOD_JOB = row.job; "{path}: the report cannot be read for the hooks: {error}");
}
