//! What the journal knows of a job's way, for its report.

use jiff::Timestamp;

use crate::daemon::job::{Job, now_ms};
use crate::daemon::journal::JournalError;
use crate::daemon::journal::history::EventView;
use crate::report::Report;
use crate::report::timing::{Attempt, Timing};

/// Attempts in a report at the most, the last ones.
const MOST_LISTED: usize = 100;

/// Events with which an attempt ends without a result.
const ENDS: [&str; 7] =
    ["queued", "interrupted", "failed", "refused", "duplicate", "skipped", "cancelled"];

impl Job {
    /// Writes into the report when the file was taken in, and which attempts there were.
    pub(super) fn note_attempts(&self, report: &mut Report) -> Result<(), JournalError> {
        let Some(history) = self.shop.journal().history(self.claim.job)? else { return Ok(()) };
        report.timing.queued = time(history.job.queued_ms);
        report.attempts = attempts(&history.events);
        Ok(())
    }

    /// Since when the job is tried, for a report that no worker made.
    pub(super) fn timing(&self) -> Result<Timing, JournalError> {
        let history = self.shop.journal().history(self.claim.job)?;
        let (timing, now_ms) = (Timing::none(), now_ms());
        let started_ms = history.and_then(|it| it.job.started_ms);
        // A clock may have been set back meanwhile.
        let Some(started_ms) = started_ms.filter(|it| *it <= now_ms) else { return Ok(timing) };
        let wall_s = (now_ms - started_ms) as f64 / 1000.0;
        let started = time(started_ms).unwrap_or(timing.started);
        Ok(Timing { started, wall_s, ..timing })
    }
}

/// The attempts that events tell of.
fn attempts(events: &[EventView]) -> Vec<Attempt> {
    let mut found: Vec<Attempt> = Vec::new();
    for event in events {
        let number = u64::try_from(event.attempt).unwrap_or_default();
        if event.what == "claimed" {
            let started = time(event.at_ms).unwrap_or_default();
            found.push(Attempt { number, started, ended: None, code: None });
            continue;
        }
        let open = found.last_mut().filter(|it| it.number == number && it.ended.is_none());
        if let Some(open) = open.filter(|_| ENDS.contains(&event.what.as_str())) {
            open.ended = time(event.at_ms);
            open.code = Some(code(event).to_owned());
        }
    }
    let listed = found.len().saturating_sub(MOST_LISTED);
    found.split_off(listed)
}

/// The word of an event's reason, else the event's own.
fn code(event: &EventView) -> &str {
    let word = event.detail.split_once(": ").map_or("", |it| it.0);
    let is_word = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    if !word.is_empty() && word.chars().all(is_word) { word } else { &event.what }
}

/// RFC 3339, UTC, to the millisecond.
fn time(at_ms: i64) -> Option<String> {
    Timestamp::from_millisecond(at_ms).ok().map(|it| format!("{it:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ms: i64, attempt: i64, what: &str, detail: &str) -> EventView {
        let (what, detail) = (what.to_owned(), detail.to_owned());
        EventView { at_ms, what, detail, attempt, host: String::new(), version: String::new() }
    }

    #[test]
    fn attempts_have_their_times_and_why_they_ended() {
        let events = [
            event(0, 0, "received", "abc"),
            event(1_000, 1, "claimed", "owner"),
            event(2_500, 1, "interrupted", "its daemon ended"),
            event(2_600, 1, "settings", "as configured now"),
            event(3_000, 2, "claimed", "owner"),
            event(4_000, 2, "queued", "worker_crashed: it died: signal 11"),
            event(5_000, 3, "claimed", "owner"),
        ];
        let attempt = |number, started: &str, ended: Option<&str>, code: Option<&str>| Attempt {
            number,
            started: format!("1970-01-01T00:00:{started}Z"),
            ended: ended.map(|it| format!("1970-01-01T00:00:{it}Z")),
            code: code.map(str::to_owned),
        };
        let expected = [
            attempt(1, "01.000", Some("02.500"), Some("interrupted")),
            attempt(2, "03.000", Some("04.000"), Some("worker_crashed")),
            attempt(3, "05.000", None, None),
        ];
        assert_eq!(attempts(&events), expected);
    }

    #[test]
    fn of_many_attempts_the_last_are_listed() {
        let claimed = |number| event(number, number, "claimed", "owner");
        let events: Vec<_> = (1..=250).map(claimed).collect();
        let found = attempts(&events);
        let ends = (found.len(), found[0].number, found[MOST_LISTED - 1].number);
        assert_eq!(ends, (MOST_LISTED, 151, 250));
    }
}
