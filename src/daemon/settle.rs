//! Decides that a file is complete: the only code that does.
//!
//! That a writer closed a file proves nothing (a copy that was killed closes it too), nor does its size (some systems
//! reserve it at once), nor the age of its modification time (copies keep old times). So a file is ready when
//! everything the system says of it stood still for a time by the monotonic clock, and only then is its container
//! opened; a container that does not open may still be a stalled copy until the grace time is over.
//!
//! States of a path: *moving* → (still for `settle`) → *due* → taken for a check → accepted (forgotten here, known to
//! the journal), or *doubtful* → (pause) → *due* again …, or refused once the grace time is over. Any change of the
//! snapshot, and any event, makes it *moving* again.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::daemon::snapshot::Snapshot;

/// Shortest pause before a second look at the container of a doubtful file.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two looks at the container of a doubtful file.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Times of one watched folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long a file must be still.
    pub settle: Duration,
    /// How long a still file may stay unreadable before it is refused.
    pub grace: Duration,
}

/// What follows from a container that did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It may be a copy that stalled: look again later.
    NotYet,
    /// The grace time is over.
    Refuse,
    /// It changed meanwhile: it is settling again, and what was found means nothing.
    Moved,
}

#[derive(Debug)]
struct Entry {
    snapshot: Snapshot,
    times: Times,
    /// Since when nothing changed.
    still_since: Instant,
    /// When to check.
    due: Instant,
    /// Pause before the next check of a doubtful file.
    pause: Duration,
    /// Handed out by [`Settler::take_due`], no answer yet.
    checking: bool,
}

/// The files that are not known to be complete yet. `K` names a file.
#[derive(Debug)]
pub struct Settler<K> {
    entries: HashMap<K, Entry>,
}

impl<K> Default for Settler<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Settler<K> {
    /// A look at the file showed `snapshot`. The clock starts again if anything changed since the last look.
    pub fn observe(&mut self, key: &K, snapshot: Snapshot, times: Times, now: Instant) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.snapshot == snapshot => {}
            Some(entry) => *entry = Entry::moving(snapshot, times, now),
            None => {
                self.entries.insert(key.clone(), Entry::moving(snapshot, times, now));
            }
        }
    }

    /// An event says that something was done to the file, whether or not it shows.
    pub fn touch(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            *entry = Entry::moving(entry.snapshot, entry.times, now);
        }
    }

    /// The file is gone, or is no business of ours any more.
    pub fn forget(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Whether the file is settling and looked like this at the last look: then [`observe`](Self::observe) changes
    /// nothing.
    #[must_use]
    pub fn holds(&self, key: &K, snapshot: &Snapshot) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.snapshot == *snapshot)
    }

    /// How many files are settling.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the next file becomes due; `None` where none will.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.checking).map(|entry| entry.due).min()
    }

    /// The file that has been due the longest, with the snapshot that stood still. The caller looks at the file once
    /// more, calls [`observe`](Self::observe), and goes on only if [`confirmed`](Self::confirmed).
    pub fn take_due(&mut self, now: Instant) -> Option<(K, Snapshot)> {
        let (key, entry) = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| !entry.checking && entry.due <= now)
            .min_by(|a, b| (a.1.due, a.0).cmp(&(b.1.due, b.0)))?;
        entry.checking = true;
        Some((key.clone(), entry.snapshot))
    }

    /// Whether the file has not moved since [`take_due`](Self::take_due) handed out `snapshot`.
    #[must_use]
    pub fn confirmed(&self, key: &K, snapshot: &Snapshot) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.checking && entry.snapshot == *snapshot)
    }

    /// The check of `snapshot` found that the container does not open.
    pub fn doubt(&mut self, key: &K, snapshot: &Snapshot, now: Instant) -> Doubt {
        if !self.confirmed(key, snapshot) {
            return Doubt::Moved;
        }
        let Some(entry) = self.entries.get_mut(key) else { return Doubt::Moved };
        if now.duration_since(entry.still_since) >= entry.times.grace {
            return Doubt::Refuse;
        }
        entry.checking = false;
        let grace_ends = entry.still_since + entry.times.grace;
        entry.due = (now + entry.pause).min(grace_ends).max(now);
        entry.pause = (entry.pause * 2).min(LONGEST_PAUSE);
        Doubt::NotYet
    }

    /// The check is to be made again at once, in another way.
    pub fn hasten(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.checking = false;
            entry.due = now;
        }
    }

    /// The check could not be made (the file could not be read just now): again after a pause, without end.
    pub fn postpone(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.checking = false;
            entry.due = now + entry.pause;
            entry.pause = (entry.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Entry {
    fn moving(snapshot: Snapshot, times: Times, now: Instant) -> Self {
        Self {
            snapshot,
            times,
            still_since: now,
            due: now + times.settle,
            pause: times.settle.max(SHORTEST_PAUSE),
            checking: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { settle: Duration::from_secs(5), grace: Duration::from_secs(600) };

    /// A clock that is set by hand.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn clock() -> Clock {
        Clock(Instant::now())
    }

    fn size(size_bytes: u64) -> Snapshot {
        Snapshot { size_bytes, mtime_ns: 1, ctime_ns: 1, inode: 1 }
    }

    #[test]
    fn a_file_is_due_only_after_it_was_still_for_the_whole_time() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"a", size(1), TIMES, clock.at(0));
        assert_eq!(settler.next_due(), Some(clock.at(5)));
        assert_eq!(settler.take_due(clock.at(4)), None);
        settler.observe(&"a", size(2), TIMES, clock.at(4));
        assert_eq!(settler.take_due(clock.at(8)), None, "it grew at 4 s");
        settler.observe(&"a", size(2), TIMES, clock.at(8));
        assert_eq!(settler.take_due(clock.at(9)), Some(("a", size(2))));
        assert_eq!(settler.take_due(clock.at(99)), None, "it is handed out once");
    }

    #[test]
    fn every_part_of_the_snapshot_counts() {
        let still = size(1);
        for changed in [
            Snapshot { size_bytes: 2, ..still },
            Snapshot { mtime_ns: 2, ..still },
            Snapshot { ctime_ns: 2, ..still },
            Snapshot { inode: 2, ..still },
        ] {
            let (clock, mut settler) = (clock(), Settler::default());
            settler.observe(&"a", still, TIMES, clock.at(0));
            settler.observe(&"a", changed, TIMES, clock.at(3));
            assert_eq!(settler.take_due(clock.at(7)), None, "{changed:?}");
            assert_eq!(settler.take_due(clock.at(8)), Some(("a", changed)));
        }
    }

    #[test]
    fn an_old_or_future_mtime_makes_no_difference() {
        for mtime_ns in [i64::MIN, 0, i64::MAX] {
            let (clock, mut settler) = (clock(), Settler::default());
            let snapshot = Snapshot { mtime_ns, ..size(1) };
            settler.observe(&"a", snapshot, TIMES, clock.at(0));
            assert_eq!(settler.take_due(clock.at(4)), None);
            assert_eq!(settler.take_due(clock.at(5)), Some(("a", snapshot)));
        }
    }

    #[test]
    fn an_event_starts_the_clock_again_though_nothing_shows() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"a", size(1), TIMES, clock.at(0));
        settler.touch(&"a", clock.at(3));
        assert_eq!(settler.take_due(clock.at(7)), None);
        assert!(settler.take_due(clock.at(8)).is_some());
    }

    #[test]
    fn a_stalled_copy_is_waited_for_until_the_grace_time_is_over() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"a", size(1), TIMES, clock.at(0));
        let mut checks = 0;
        for second in 0..600 {
            if let Some((key, snapshot)) = settler.take_due(clock.at(second)) {
                assert_eq!(settler.doubt(&key, &snapshot, clock.at(second)), Doubt::NotYet);
                checks += 1;
            }
        }
        assert!((5..20).contains(&checks), "{checks} checks: the pauses grow");
        let (key, snapshot) = settler.take_due(clock.at(600)).expect("due when grace ends");
        assert_eq!(settler.doubt(&key, &snapshot, clock.at(600)), Doubt::Refuse);
        settler.hasten(&key, clock.at(600));
        assert_eq!(settler.take_due(clock.at(600)), Some((key, snapshot)), "for the last check");
    }

    #[test]
    fn a_copy_that_goes_on_after_a_failed_check_gets_the_whole_time_again() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"a", size(1), TIMES, clock.at(0));
        let (key, snapshot) = settler.take_due(clock.at(5)).unwrap();
        settler.doubt(&key, &snapshot, clock.at(5));
        settler.observe(&"a", size(2), TIMES, clock.at(599));
        assert_eq!(settler.take_due(clock.at(603)), None);
        let (key, snapshot) = settler.take_due(clock.at(604)).unwrap();
        assert_eq!(
            settler.doubt(&key, &snapshot, clock.at(1000)),
            Doubt::NotYet,
            "grace began at 599"
        );
    }

    #[test]
    fn what_was_found_in_a_file_that_changed_meanwhile_means_nothing() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"a", size(1), TIMES, clock.at(0));
        let (key, snapshot) = settler.take_due(clock.at(5)).unwrap();
        assert!(settler.confirmed(&key, &snapshot));
        settler.observe(&"a", size(2), TIMES, clock.at(6));
        assert!(!settler.confirmed(&key, &snapshot));
        assert_eq!(settler.doubt(&key, &snapshot, clock.at(7)), Doubt::Moved);
        assert!(settler.take_due(clock.at(11)).is_some(), "it settles again");
        settler.forget(&"a");
        assert_eq!(settler.doubt(&key, &snapshot, clock.at(12)), Doubt::Moved);
    }

    #[test]
    fn an_unreadable_moment_is_no_verdict() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"a", size(1), TIMES, clock.at(0));
        let (key, _) = settler.take_due(clock.at(5)).unwrap();
        settler.postpone(&key, clock.at(700));
        assert!(settler.take_due(clock.at(704)).is_none());
        assert!(settler.take_due(clock.at(705)).is_some());
    }

    #[test]
    fn the_longest_due_comes_first() {
        let (clock, mut settler) = (clock(), Settler::default());
        for (second, name) in ["c", "a", "b"].into_iter().enumerate() {
            settler.observe(&name, size(1), TIMES, clock.at(second as u64));
        }
        let order: Vec<_> =
            std::iter::from_fn(|| settler.take_due(clock.at(60))).map(|(key, _)| key).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }
}
