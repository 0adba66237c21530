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
//!
//! Of the files that are due, one that was not looked into yet comes before one that was; then the oldest comes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::order::Turns;
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
    /// How often it was handed out since it last changed.
    checks: u32,
    /// When its one valid item in `waiting` wakes; later than that is looked at then.
    wakes: Option<Instant>,
    /// Changes with the entry; an item in `ready` with another stamp means nothing.
    stamp: u64,
}

/// An item of a file that is due, in the order in which they are handed out.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ready<K> {
    checks: u32,
    mtime_ns: i64,
    key: Arc<K>,
    stamp: u64,
}

/// The files that are not known to be complete yet. `K` names a file, and `group` the folder it is in.
#[derive(Debug)]
pub struct Settler<K> {
    entries: HashMap<Arc<K>, Entry>,
    waiting: BinaryHeap<Reverse<(Instant, Arc<K>)>>,
    ready: BTreeMap<usize, BinaryHeap<Reverse<Ready<K>>>>,
    group: fn(&K) -> usize,
    turns: Turns,
    stamps: u64,
}

impl<K: Clone + Eq + Hash + Ord> Default for Settler<K> {
    fn default() -> Self {
        Self::grouped(|_| 0)
    }
}

impl<K: Clone + Eq + Hash + Ord> Settler<K> {
    /// None yet; `group` tells the folder of a file.
    #[must_use]
    pub fn grouped(group: fn(&K) -> usize) -> Self {
        Self {
            entries: HashMap::new(),
            waiting: BinaryHeap::new(),
            ready: BTreeMap::new(),
            group,
            turns: Turns::default(),
            stamps: 0,
        }
    }

    /// A look at the file showed `snapshot`. The clock starts again if anything changed since the last look.
    pub fn observe(&mut self, key: &K, snapshot: Snapshot, times: Times, now: Instant) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.snapshot == snapshot => return,
            Some(entry) => entry.restart(snapshot, times, now),
            None => {
                self.entries.insert(Arc::new(key.clone()), Entry::moving(snapshot, times, now));
            }
        }
        self.wait_for(key);
    }

    /// An event says that something was done to the file, whether or not it shows.
    pub fn touch(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.restart(entry.snapshot, entry.times, now);
            self.wait_for(key);
        }
    }

    /// Sees to it that the entry is met when it is due.
    fn wait_for(&mut self, key: &K) {
        self.stamps += 1;
        let Some((key, _)) = self.entries.get_key_value(key) else { return };
        let key = Arc::clone(key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.stamp = self.stamps;
            if entry.wakes.is_none_or(|wakes| entry.due < wakes) {
                entry.wakes = Some(entry.due);
                self.waiting.push(Reverse((entry.due, key)));
            }
        }
    }

    /// Moves what has become due from `waiting` to `ready`.
    fn wake(&mut self, now: Instant) {
        while let Some(Reverse((wakes, _))) = self.waiting.peek()
            && *wakes <= now
        {
            let Some(Reverse((wakes, key))) = self.waiting.pop() else { break };
            let Some(entry) = self.entries.get_mut(&key).filter(|it| it.wakes == Some(wakes))
            else {
                continue;
            };
            entry.wakes = None;
            if entry.checking {
                continue;
            }
            if entry.due > now {
                entry.wakes = Some(entry.due);
                self.waiting.push(Reverse((entry.due, key)));
                continue;
            }
            let item = Ready {
                checks: entry.checks,
                mtime_ns: entry.snapshot.mtime_ns,
                stamp: entry.stamp,
                key: Arc::clone(&key),
            };
            self.ready.entry((self.group)(&key)).or_default().push(Reverse(item));
        }
        let entries = &self.entries;
        self.ready.retain(|_, heap| {
            let is_stale = |Reverse(item): &Reverse<Ready<K>>| {
                entries.get(&item.key).is_none_or(|it| it.checking || it.stamp != item.stamp)
            };
            while heap.peek().is_some_and(is_stale) {
                heap.pop();
            }
            !heap.is_empty()
        });
    }

    /// The file is gone, or is no business of ours any more.
    pub fn forget(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// No file of this folder is any business of ours any more.
    pub fn forget_group(&mut self, group: usize) {
        let of = self.group;
        self.entries.retain(|key, _| of(key) != group);
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

    /// When the next file becomes due, or earlier; `None` where none will.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let ready = self.ready.values().filter_map(|heap| heap.peek());
        let due = ready.filter_map(|Reverse(item)| Some(self.entries.get(&item.key)?.due));
        let wakes = self.waiting.peek().map(|Reverse((wakes, _))| *wakes);
        due.chain(wakes).min()
    }

    /// The next file that is due, with the snapshot that stood still. The caller looks at the file once more, calls
    /// [`observe`](Self::observe), and goes on only if [`confirmed`](Self::confirmed).
    pub fn take_due(&mut self, now: Instant) -> Option<(K, Snapshot)> {
        self.take_due_of(now, |_| Some(0))
    }

    /// The same, by the priority of a file's folder; files of folders that have none now are not handed out.
    pub fn take_due_of(
        &mut self,
        now: Instant,
        priority: impl Fn(usize) -> Option<i32>,
    ) -> Option<(K, Snapshot)> {
        self.wake(now);
        let folders = self.ready.keys().filter_map(|folder| Some((*folder, priority(*folder)?)));
        let folder = self.turns.next(folders)?;
        let Reverse(item) = self.ready.get_mut(&folder)?.pop()?;
        let entry = self.entries.get_mut(&item.key)?;
        self.turns.took(folder);
        entry.checking = true;
        entry.checks = entry.checks.saturating_add(1);
        Some((K::clone(&item.key), entry.snapshot))
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
        self.wait_for(key);
        Doubt::NotYet
    }

    /// The check is to be made again at once, in another way.
    pub fn hasten(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.checking = false;
            entry.due = now;
            self.wait_for(key);
        }
    }

    /// The check could not be made (the file could not be read just now): again after a pause, without end.
    pub fn postpone(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.checking = false;
            entry.due = now + entry.pause;
            entry.pause = (entry.pause * 2).min(LONGEST_PAUSE);
            self.wait_for(key);
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
            checks: 0,
            wakes: None,
            stamp: 0,
        }
    }

    /// Everything begins again but for the item in `waiting`.
    fn restart(&mut self, snapshot: Snapshot, times: Times, now: Instant) {
        *self = Self { wakes: self.wakes, ..Self::moving(snapshot, times, now) };
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

    fn order(settler: &mut Settler<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| settler.take_due(now)).map(|(key, _)| key).collect()
    }

    #[test]
    fn of_all_that_are_due_the_oldest_file_comes_first_then_by_name() {
        let (clock, mut settler) = (clock(), Settler::default());
        for (second, (name, mtime_ns)) in
            [("c", 3), ("a", 9), ("b", 9), ("d", 1)].into_iter().enumerate()
        {
            let snapshot = Snapshot { mtime_ns, ..size(1) };
            settler.observe(&name, snapshot, TIMES, clock.at(second as u64));
        }
        assert_eq!(order(&mut settler, clock.at(60)), ["d", "c", "a", "b"]);
    }

    #[test]
    fn a_doubtful_file_does_not_hold_up_one_that_was_not_looked_into() {
        let (clock, mut settler) = (clock(), Settler::default());
        settler.observe(&"old", Snapshot { mtime_ns: 0, ..size(1) }, TIMES, clock.at(0));
        let (key, snapshot) = settler.take_due(clock.at(5)).unwrap();
        settler.doubt(&key, &snapshot, clock.at(5));
        settler.observe(&"new", size(1), TIMES, clock.at(6));
        assert_eq!(order(&mut settler, clock.at(60)), ["new", "old"]);
    }

    #[test]
    fn folders_take_turns_and_those_on_hold_are_passed_over() {
        let (clock, mut settler) = (clock(), Settler::grouped(|key: &(usize, u8)| key.0));
        for key in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)] {
            settler.observe(&key, size(1), TIMES, clock.at(0));
        }
        let mut take = |held| {
            settler.take_due_of(clock.at(9), |it| (it != held).then_some(0)).map(|(key, _)| key)
        };
        let order: Vec<_> = std::iter::from_fn(|| take(2)).collect();
        assert_eq!(order, [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)]);
        assert_eq!(take(99), Some((2, 1)));
    }

    /// W29.
    #[test]
    fn a_hundred_thousand_files_are_handed_out_in_order_and_many_events_keep_one_item_each() {
        let (clock, mut settler) = (clock(), Settler::default());
        for number in 0..100_000_u64 {
            let mtime_ns = (number * 7919 % 100_000).cast_signed();
            settler.observe(&number, Snapshot { mtime_ns, ..size(1) }, TIMES, clock.at(0));
        }
        for second in 0..1000 {
            settler.touch(&7, clock.at(second));
        }
        assert!(settler.waiting.len() <= 100_000);
        let mut last = -1;
        // Every call that read all the others would make this take hours.
        while let Some((_, snapshot)) = settler.take_due(clock.at(2000)) {
            assert!(snapshot.mtime_ns > last);
            last = snapshot.mtime_ns;
        }
        assert_eq!(last, 99_999);
    }
}
