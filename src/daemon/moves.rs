//! Which originals could not be moved, why, and when they are tried again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::daemon::journal::Claim;
use crate::daemon::publish::PublishError;
use crate::daemon::service;
use crate::daemon::verdict;

/// Why an original is not moved just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMoved {
    /// A sentence about this one.
    pub message: String,
    /// What it has in common with others: they are said together.
    pub reason: String,
}

impl NotMoved {
    /// For a reason that says no file's name.
    #[must_use]
    pub fn because(message: String) -> Self {
        Self { reason: message.clone(), message }
    }
}

impl From<PublishError> for NotMoved {
    fn from(error: PublishError) -> Self {
        let reason = match &error {
            PublishError::Io { action, source, .. } => format!("{action}: {source}"),
            PublishError::NoName(_) => "no name".to_owned(),
            other => other.to_string(),
        };
        Self { message: error.to_string(), reason }
    }
}

/// The originals that could not be moved, by job: a move to a full disk may be a long copy each time.
#[derive(Debug, Default)]
pub struct Moves(Mutex<BTreeMap<i64, Waiting>>);

#[derive(Debug)]
struct Waiting {
    source: PathBuf,
    why: NotMoved,
    tries: i64,
    due: Instant,
}

impl Moves {
    /// Whether it is time for the original of `job`.
    pub(super) fn is_due(&self, job: i64, now: Instant) -> bool {
        self.open().get(&job).is_none_or(|it| it.due <= now)
    }

    /// It could not be moved. Pauses grow, as those of jobs do.
    pub(super) fn failed(&self, claim: &Claim, why: NotMoved, now: Instant) {
        let mut open = self.open();
        let tries = open.get(&claim.job).map_or(0, |it| it.tries);
        let pause = u64::try_from(verdict::pause_ms(tries)).unwrap_or_default();
        let due = now + Duration::from_millis(pause);
        let source = Path::new(&claim.watch).join(&claim.relative);
        open.insert(claim.job, Waiting { source, why, tries: tries + 1, due });
    }

    /// It was moved, or stays.
    pub(super) fn over(&self, job: i64) {
        self.open().remove(&job);
    }

    /// What waits, a sentence for each reason.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let open = self.open();
        let mut by_reason: BTreeMap<&str, Vec<(i64, &Waiting)>> = BTreeMap::new();
        for (job, waiting) in open.iter() {
            by_reason.entry(&waiting.why.reason).or_default().push((*job, waiting));
        }
        let mut all: Vec<_> = by_reason.into_values().collect();
        all.sort_by_key(|it| it[0].0);
        let sentence = |of: Vec<(i64, &Waiting)>| {
            let (job, first) = of[0];
            let source = first.source.to_string_lossy();
            let why = service::without_path(&first.why.message, &source);
            match of.len() {
                1 => format!(
                    "the original {source} of job {job} waits to be moved: {why}; once that is put right it is moved by \
                     itself"
                ),
                count => format!(
                    "{count} originals wait to be moved, the first of them {source} of job {job}: {why}; once that is put \
                     right they are moved by themselves"
                ),
            }
        };
        all.into_iter().map(sentence).collect()
    }

    // A thread that panicked while it held this left whole entries behind.
    fn open(&self) -> MutexGuard<'_, BTreeMap<i64, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::daemon::journal::Journal;
    use crate::daemon::journal::drawn::new_job;

    /// The claims of `count` jobs.
    fn claims(count: usize) -> Vec<Claim> {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for number in 0..count {
            journal.submit(&new_job(&format!("{number}.mp4")), 1).unwrap();
        }
        let mut claim = || journal.claim("me", &["/in"], 1, 1).unwrap().unwrap();
        (0..count).map(|_| claim()).collect()
    }

    fn refused(path: &str) -> NotMoved {
        let source = io::ErrorKind::PermissionDenied.into();
        PublishError::Io { path: path.into(), action: "cannot be renamed", source }.into()
    }

    #[test]
    fn an_original_that_cannot_be_moved_is_tried_again_after_growing_pauses() {
        let (moves, start, claims) = (Moves::default(), Instant::now(), claims(1));
        let (job, at) = (claims[0].job, |seconds| start + Duration::from_secs(seconds));
        let fails = |now| moves.failed(&claims[0], refused("/in/0.mp4"), now);
        assert!(moves.is_due(job, start));
        fails(at(0));
        assert!(!moves.is_due(job, at(1)) && moves.is_due(job + 1, at(1)));
        assert!(moves.is_due(job, at(2)));
        fails(at(2));
        assert!(!moves.is_due(job, at(5)) && moves.is_due(job, at(6)));
    }

    /// W23.
    #[test]
    fn originals_that_wait_are_said_by_reason_until_they_are_moved() {
        let (moves, now, claims) = (Moves::default(), Instant::now(), claims(4));
        for claim in &claims[..3] {
            let source = Path::new("/in").join(&claim.relative);
            moves.failed(claim, refused(source.to_str().unwrap()), now);
        }
        moves.failed(&claims[3], NotMoved::because("/x is a link: remove it".into()), now);
        let said = moves.sentences();
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(
            said[0],
            "3 originals wait to be moved, the first of them /in/0.mp4 of job 1: cannot be renamed: permission denied; once \
             that is put right they are moved by themselves"
        );
        assert!(said[1].starts_with("the original /in/3.mp4 of job 4 waits to be moved: /x is"));
        moves.over(claims[0].job);
        moves.over(claims[1].job);
        moves.over(claims[3].job);
        assert_eq!(moves.sentences().len(), 1);
        assert!(moves.sentences()[0].starts_with("the original /in/2.mp4 of job 3 waits"));
    }
}
