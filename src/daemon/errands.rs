//! What is being asked of file systems, which may never answer: a share whose server is gone keeps a thread waiting for
//! minutes or for good, and nothing can end it.
//!
//! Everything that touches watched folders and outputs runs beside the loop, and says here where it is. The loop finds
//! the places that have not answered for too long, leaves them out, and goes on with the others; they come back when
//! their threads do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// No place counts as hung before this time: a disk may have to wake up.
const SHORTEST_LIMIT: Duration = Duration::from_secs(5);

/// Whose file system is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The watched folder of this number.
    Watch(usize),
    /// The output folder, as configured.
    Output(PathBuf),
}

/// A place that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hung {
    /// Since when.
    pub since: Instant,
    /// What is waited for.
    pub path: PathBuf,
}

impl Hung {
    /// What is to be said of the place, such as `does not answer since 2026-01-31T12:00:00Z (waiting for /in)`.
    #[must_use]
    pub fn text(&self, now: Instant) -> String {
        let ago = now.saturating_duration_since(self.since);
        let since = SystemTime::now().checked_sub(ago).and_then(|it| Timestamp::try_from(it).ok());
        // The clock may say anything.
        let since = since.map_or_else(
            || format!("for {} s", ago.as_secs()),
            |since| format!("since {since:.0}"),
        );
        format!("does not answer {since} (waiting for {})", self.path.display())
    }
}

/// All that is under way, shared with the threads that do it.
#[derive(Clone, Debug, Default)]
pub struct Errands(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    limit: Duration,
    by_number: BTreeMap<u64, (Place, Hung)>,
}

/// Something that is being asked; dropping it says that the answer came.
#[derive(Debug)]
pub struct Errand {
    number: u64,
    errands: Errands,
}

impl Errands {
    /// From now on a place counts as hung that does not answer for `poll_interval`, and never before 5 s.
    pub fn set_limit(&self, poll_interval: Duration) {
        self.open().limit = poll_interval;
    }

    /// How long a place may take to answer.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.open().limit.max(SHORTEST_LIMIT)
    }

    /// `place` is asked for something, first at `path`.
    #[must_use]
    pub fn begin(&self, place: Place, path: &Path) -> Errand {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let path = path.to_owned();
        open.by_number.insert(number, (place, Hung { since: Instant::now(), path }));
        Errand { number, errands: self.clone() }
    }

    /// The places that do not answer, each with what it has owed for the longest.
    #[must_use]
    pub fn hung(&self, now: Instant) -> BTreeMap<Place, Hung> {
        let limit = self.limit();
        let mut found: BTreeMap<Place, Hung> = BTreeMap::new();
        for (place, waits) in self.open().by_number.values() {
            let is_late = now.saturating_duration_since(waits.since) >= limit;
            let is_first = found.get(place).is_none_or(|it| waits.since < it.since);
            if is_late && is_first {
                found.insert(place.clone(), waits.clone());
            }
        }
        found
    }

    /// Whether something below `folder` is waited for that does not answer.
    #[must_use]
    pub fn hangs_in(&self, folder: &Path, now: Instant) -> bool {
        self.hung(now).values().any(|it| it.path.starts_with(folder))
    }

    /// The daemon itself stood still: nobody is late yet.
    pub fn forgive(&self, now: Instant) {
        for (_, waits) in self.open().by_number.values_mut() {
            waits.since = now;
        }
    }

    // A thread that panicked while it held this left whole entries behind.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Errand {
    /// The file system answers; next it is asked at `path`.
    pub fn at(&self, path: &Path) {
        if let Some((_, waits)) = self.errands.open().by_number.get_mut(&self.number) {
            waits.since = Instant::now();
            if waits.path != path {
                path.clone_into(&mut waits.path);
            }
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.errands.open().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_hangs_while_one_of_its_errands_waits_for_too_long() {
        let errands = Errands::default();
        errands.set_limit(Duration::from_secs(30));
        let place = Place::Watch(3);
        let first = errands.begin(place.clone(), Path::new("/in/a"));
        let second = errands.begin(place.clone(), Path::new("/in/b"));
        let _other = errands.begin(Place::Output("/out".into()), Path::new("/out"));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(errands.hung(later(29)).is_empty());
        let hung = errands.hung(later(31));
        assert_eq!(hung.len(), 2);
        assert_eq!(hung[&place].path, Path::new("/in/a"), "the oldest");
        assert!(errands.hangs_in(Path::new("/in"), later(31)));
        assert!(!errands.hangs_in(Path::new("/in/a/b"), later(31)));
        drop(first);
        assert_eq!(errands.hung(later(31))[&place].path, Path::new("/in/b"));
        drop(second);
        assert_eq!(errands.hung(later(31)).len(), 1, "it answers again");
    }

    #[test]
    fn what_goes_on_and_what_stood_still_with_the_daemon_does_not_hang() {
        let errands = Errands::default();
        let errand = errands.begin(Place::Watch(0), Path::new("/in"));
        let later = Instant::now() + SHORTEST_LIMIT;
        assert_eq!(errands.hung(later).len(), 1, "the shortest limit");
        errands.forgive(later);
        assert!(errands.hung(later).is_empty());
        errand.at(Path::new("/in/next"));
        let hung = errands.hung(Instant::now() + SHORTEST_LIMIT);
        assert_eq!(hung[&Place::Watch(0)].path, Path::new("/in/next"));
    }
}
