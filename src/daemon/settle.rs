//! Decides that a file is complete: the only code that does.
//!
//! That a writer closed a file proves nothing (a copy that was killed closes it too), nor does its size (some systems
//! reserve it at once), nor the age of its modification time (copies keep old times). So a file is ready when
//! everything the system says of it stood still for a time by the monotonic clock, and only then is its container
//! opened; a container that does not open may still be a stalled copy until the grace time is over. One that opens and
//! does not say how much belongs to it may be one as well, so that has to be still for longer.
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
    /// How long it must be still where its container does not say how much belongs to it.
    pub unsaid: Duration,
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

/// What is kept of each file: of a backlog there are very many, so it is small.
#[derive(Debug)]
struct Entry {
    snapshot: Snapshot,
    times: Arc<Times>,
    /// Since when nothing changed.
    still_since: Instant,
    /// When to check.
    due: Instant,
    /// Pause before the next check of a doubtful file.
    pause_ms: u32,
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
    /// The times of all entries, each once.
    times: Vec<Arc<Times>>,
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
            times: Vec::new(),
        }
    }

    /// The one copy of `times`.
    fn shared(&mut self, times: Times) -> Arc<Times> {
        if let Some(known) = self.times.iter().find(|it| ***it == times) {
            return Arc::clone(known);
        }
        // Those of folders that are configured otherwise now are not needed any more.
        self.times.retain(|it| Arc::strong_count(it) > 1);
        let new = Arc::new(times);
        self.times.push(Arc::clone(&new));
        new
    }

    /// A look at the file showed `snapshot`. The clock starts again if anything changed since the last look.
    pub fn observe(&mut self, key: &K, snapshot: Snapshot, times: Times, now: Instant) {
        if self.holds(key, &snapshot) {
            return;
        }
        let times = self.shared(times);
        match self.entries.get_mut(key) {
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
            entry.restart(entry.snapshot, Arc::clone(&entry.times), now);
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

    /// When the next file becomes due, or earlier; `None` where none will. What is due in a folder that `is_left_out` is not
    /// handed out, so it does not count.
    #[must_use]
    pub fn next_due(&self, is_left_out: impl Fn(usize) -> bool) -> Option<Instant> {
        let counts = self.ready.iter().filter(|(group, _)| !is_left_out(**group));
        let ready = counts.filter_map(|(_, heap)| heap.peek());
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
        entry.due = (now + entry.next_pause()).min(grace_ends).max(now);
        self.wait_for(key);
        Doubt::NotYet
    }

    /// Whether the file was still for as long as one must be whose container does not say how much belongs to it.
    #[must_use]
    pub fn was_still_for_long(&self, key: &K, now: Instant) -> bool {
        let long = |it: &Entry| now.duration_since(it.still_since) >= it.times.unsaid;
        self.entries.get(key).is_some_and(long)
    }

    /// The check of `snapshot` found that the container does not say how much belongs to it: again once it was still for
    /// long.
    pub fn wait_longer(&mut self, key: &K, snapshot: &Snapshot, now: Instant) {
        if !self.confirmed(key, snapshot) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.checking = false;
            entry.due = (entry.still_since + entry.times.unsaid).max(now);
            self.wait_for(key);
        }
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
            entry.due = now + entry.next_pause();
            self.wait_for(key);
        }
    }
}

impl Entry {
    fn moving(snapshot: Snapshot, times: Arc<Times>, now: Instant) -> Self {
        let settle = times.settle;
        Self {
            snapshot,
            times,
            still_since: now,
            due: now + settle,
            pause_ms: milliseconds(settle.max(SHORTEST_PAUSE)),
            checking: false,
            checks: 0,
            wakes: None,
            stamp: 0,
        }
    }

    /// Everything begins again but for the item in `waiting`.
    fn restart(&mut self, snapshot: Snapshot, times: Arc<Times>, now: Instant) {
        *self = Self { wakes: self.wakes, ..Self::moving(snapshot, times, now) };
    }

    /// The pause that is due; the one after it is twice as long.
    fn next_pause(&mut self) -> Duration {
        let pause = Duration::from_millis(self.pause_ms.into());
        self.pause_ms = milliseconds((pause * 2).min(LONGEST_PAUSE));
        pause
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
