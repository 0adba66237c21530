//! What comes first: the folder of the higher priority, and within a folder the oldest file, over the whole backlog.
//!
//! Folders of one priority take turns. Every [`SHARE`]th turn is that of the folder that was served the longest ago,
//! whatever its priority, so that none waits for ever. Files become jobs one by one, so their order is made three times:
//! when the [`Settler`](super::settle::Settler) hands out what is due, when [`Checks`] passes on what was found, and when a
//! job is claimed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// One turn in so many is a low priority's.
const SHARE: u64 = 8;
/// How long the first files of a folder wait for the rest of it to be read, beyond the time that they must be still.
const READ_WAIT: Duration = Duration::from_secs(3);
/// How long what was found in a file waits for an older file that is still being looked into.
const CHECK_WAIT: Duration = Duration::from_secs(15);

/// Counts turns.
#[derive(Debug, Default)]
pub struct Turns {
    count: u64,
    served: HashMap<usize, u64>,
}

impl Turns {
    /// Whether this turn is everybody's, not only the highest priority's.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.count % SHARE == SHARE - 1
    }

    /// Of folders with their priorities, the one whose turn it is.
    #[must_use]
    pub fn next(&self, folders: impl Iterator<Item = (usize, i32)>) -> Option<usize> {
        let rank = |priority| if self.is_shared() { 0 } else { priority };
        let served = |folder: &usize| self.served.get(folder).copied();
        folders
            .min_by_key(|(folder, priority)| (Reverse(rank(*priority)), served(folder), *folder))
            .map(|(folder, _)| folder)
    }

    /// `folder` had its turn.
    pub fn took(&mut self, folder: usize) {
        self.count += 1;
        self.served.insert(folder, self.count);
    }
}

/// Folders with their priorities as groups of equal ones, to be tried in order; all in one where the turn is everybody's.
#[must_use]
pub fn classes(turns: &Turns, folders: Vec<(String, i32)>) -> Vec<Vec<String>> {
    let mut classes: BTreeMap<Reverse<i32>, Vec<String>> = BTreeMap::new();
    for (name, priority) in folders {
        let rank = if turns.is_shared() { 0 } else { priority };
        classes.entry(Reverse(rank)).or_default().push(name);
    }
    classes.into_values().collect()
}

/// Which folders are being read for the first time: until that is done, an older file may still turn up.
#[derive(Debug, Default)]
pub struct FirstReads {
    reads: HashMap<usize, (Instant, Option<Instant>)>,
}

impl FirstReads {
    /// The folder is being read; only the first time counts.
    pub fn begin(&mut self, folder: usize, now: Instant) {
        self.reads.entry(folder).or_insert((now, None));
    }

    /// All its files were met.
    pub fn end(&mut self, folder: usize, now: Instant) {
        if let Some((_, end)) = self.reads.get_mut(&folder) {
            end.get_or_insert(now);
        }
    }

    /// The folder is another one now, or none: its next read is its first.
    pub fn forget(&mut self, folder: usize) {
        self.reads.remove(&folder);
    }

    /// Whether its oldest file can be among those that were still for `settle`. A folder that takes long to be read is
    /// not waited for.
    #[must_use]
    pub fn allow(&self, folder: usize, settle: Duration, now: Instant) -> bool {
        self.reads.get(&folder).is_none_or(|(begin, end)| {
            let latest = *begin + settle + READ_WAIT;
            now >= end.map_or(latest, |end| (end + settle).min(latest))
        })
    }

    /// The same of all `folders`, whose files come before those of the one that has `settle`, or take turns with them. They
    /// are waited for no longer than it is itself, whatever their own times.
    #[must_use]
    pub fn allow_beside(
        &self,
        mut folders: impl Iterator<Item = usize>,
        settle: Duration,
        now: Instant,
    ) -> bool {
        folders.all(|folder| self.allow(folder, settle, now))
    }
}

/// Looks into files, in the order in which they began. What they find is passed on in that order.
#[derive(Debug)]
pub struct Checks<T> {
    line: VecDeque<Check<T>>,
    next: u64,
}

#[derive(Debug)]
struct Check<T> {
    number: u64,
    folder: usize,
    begun: Instant,
    found: Option<T>,
}

impl<T> Default for Checks<T> {
    fn default() -> Self {
        Self { line: VecDeque::new(), next: 0 }
    }
}

impl<T> Checks<T> {
    /// A look into a file of `folder` begins; returns its number.
    pub fn begin(&mut self, folder: usize, now: Instant) -> u64 {
        self.next += 1;
        self.line.push_back(Check { number: self.next, folder, begun: now, found: None });
        self.next
    }

    /// What look `number` found.
    pub fn finish(&mut self, number: u64, found: T) {
        if let Some(check) = self.line.iter_mut().find(|it| it.number == number) {
            check.found = Some(found);
        }
    }

    /// How many have not finished, of the folders that count.
    #[must_use]
    pub fn open(&self, counts: impl Fn(usize) -> bool) -> usize {
        self.line.iter().filter(|it| it.found.is_none() && counts(it.folder)).count()
    }

    /// The next finding. One that began later passes those that take too long.
    pub fn pass_on(&mut self, now: Instant) -> Option<T> {
        let slow = |begun: Instant| now.duration_since(begun) >= CHECK_WAIT;
        let place = self
            .line
            .iter()
            .position(|it| it.found.is_some() || !slow(it.begun))
            .filter(|place| self.line[*place].found.is_some())?;
        self.line.remove(place)?.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(priorities: &[i32], turns: usize) -> Vec<usize> {
        let mut state = Turns::default();
        let mut order = Vec::new();
        for _ in 0..turns {
            let folder = state.next(priorities.iter().copied().enumerate()).unwrap();
            state.took(folder);
            order.push(folder);
        }
        order
    }

    #[test]
    fn equal_priorities_take_turns() {
        assert_eq!(served(&[5, 5, 5], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_higher_priority_goes_first_and_none_starves() {
        let order = served(&[0, 9, 1], 24);
        assert_eq!(order[..7], [1; 7], "the highest first");
        let count = |folder| order.iter().filter(|it| **it == folder).count();
        assert_eq!((count(0), count(1), count(2)), (2, 21, 1), "one turn in eight is shared");
    }

    #[test]
    fn classes_come_highest_first_and_together_on_a_shared_turn() {
        let folders =
            || vec![("n".to_owned(), 0), ("e".into(), 2), ("p".into(), 1), ("m".into(), 0)];
        let mut turns = Turns::default();
        assert_eq!(classes(&turns, folders()), [vec!["e"], vec!["p"], vec!["n", "m"]]);
        for _ in 0..7 {
            turns.took(1);
        }
        assert_eq!(classes(&turns, folders()), [["n", "e", "p", "m"]]);
    }

    #[test]
    fn nothing_is_handed_out_before_a_first_read_could_show_the_oldest() {
        let (start, settle) = (Instant::now(), Duration::from_secs(5));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reads = FirstReads::default();
        assert!(reads.allow(0, settle, at(0)), "not being read");
        reads.begin(0, at(0));
        assert!(!reads.allow(0, settle, at(7)));
        assert!(reads.allow(0, settle, at(8)), "a slow share is not waited for");
        reads.end(0, at(1));
        assert!(!reads.allow(0, settle, at(5)));
        assert!(reads.allow(0, settle, at(6)));
        reads.begin(0, at(60));
        reads.end(0, at(61));
        assert!(reads.allow(0, settle, at(61)), "only the first read counts");
        reads.begin(1, at(60));
        reads.end(1, at(62));
        assert!(!reads.allow_beside([0, 1].into_iter(), settle, at(66)), "one is not due yet");
        assert!(reads.allow_beside([0, 1, 2].into_iter(), settle, at(67)));
    }

    #[test]
    fn findings_are_passed_on_in_order_unless_one_takes_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut checks = Checks::default();
        let (first, second) = (checks.begin(0, at(0)), checks.begin(1, at(0)));
        checks.finish(second, "second");
        assert_eq!((checks.pass_on(at(1)), checks.open(|_| true)), (None, 1));
        assert_eq!(checks.open(|folder| folder != 0), 0, "its folder does not answer");
        checks.finish(first, "first");
        assert_eq!(checks.pass_on(at(1)), Some("first"));
        assert_eq!(checks.pass_on(at(1)), Some("second"));
        let (slow, fast) = (checks.begin(0, at(2)), checks.begin(0, at(2)));
        checks.finish(fast, "fast");
        assert_eq!(checks.pass_on(at(16)), None);
        assert_eq!(checks.pass_on(at(17)), Some("fast"));
        checks.finish(slow, "slow");
        assert_eq!(checks.pass_on(at(18)), Some("slow"));
        assert_eq!(checks.pass_on(at(18)), None);
    }
}
