//! The part of `slomod check` about the journal.

use std::path::Path;

use crate::cli::check::Findings;
use crate::daemon::journal::{Chain, FILE_NAME, Journal, JournalError, MARKER_NAME};
use crate::error::{Classify as _, ExitCode};

/// Whether the journal is there and whole, and the history of all jobs as it was written: what ends a daemon is said here too.
/// A state folder in which none ever was is one of no daemon yet.
pub(super) fn check(state_dir: &Path, findings: &mut Findings) {
    let file = state_dir.join(FILE_NAME);
    let place = file.display().to_string();
    if !file.exists() {
        if state_dir.join(MARKER_NAME).exists() {
            let error = JournalError::Missing(file);
            findings.fail("journal", error.to_string(), error.exit_code());
        }
        return;
    }
    let chain = |journal: Journal| {
        journal.check_pages()?;
        journal.chain()
    };
    match Journal::open_existing(state_dir).and_then(chain) {
        Ok(Chain::Whole { events, last }) => findings.ok(
            "journal",
            format!("{place}: the history of {events} events is as it was written; the last hash is {last}"),
        ),
        Ok(Chain::Broken { event, job, at_ms, what }) => {
            let when = jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |it| it.to_string());
            let message = format!(
                "{place}: the history is not as it was written, from event {event} on (job {job}, `{what}`, {when}): it was \
                 changed, or one before it was removed or put in; compare it with a backup. Jobs go on all the same"
            );
            findings.fail("journal", message, ExitCode::Config);
        }
        Ok(Chain::Cut { events, written }) => {
            let message = format!(
                "{place}: the history has {events} events, and {written} were written: the last ones were removed or put in; \
                 compare it with a backup. Jobs go on all the same"
            );
            findings.fail("journal", message, ExitCode::Config);
        }
        // The daemon brings it to this layout.
        Err(error @ JournalError::Older { .. }) => findings.warn("journal", error.to_string()),
        Err(error) => findings.fail("journal", error.to_string(), error.exit_code()),
    }
}
