//! The rules, by a clock that is set by hand.

use super::*;

const TIMES: Times = Times {
    settle: Duration::from_secs(5),
    unsaid: Duration::from_secs(60),
    grace: Duration::from_secs(600),
};

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
    assert_eq!(settler.next_due(|_| false), Some(clock.at(5)));
    assert_eq!(settler.take_due(clock.at(4)), None);
    settler.observe(&"a", size(2), TIMES, clock.at(4));
    assert_eq!(settler.take_due(clock.at(8)), None, "it grew at 4 s");
    settler.observe(&"a", size(2), TIMES, clock.at(8));
    assert_eq!(settler.take_due(clock.at(9)), Some(("a", size(2))));
    assert_eq!(settler.take_due(clock.at(99)), None, "it is handed out once");
}

/// W16. The loop sleeps while a folder does not answer, though files of it are due.
#[test]
fn what_is_due_in_a_folder_that_is_left_out_is_not_waited_for() {
    let (clock, mut settler) = (clock(), Settler::grouped(|key: &(usize, &str)| key.0));
    settler.observe(&(0, "a"), size(1), TIMES, clock.at(0));
    settler.observe(&(1, "b"), size(1), TIMES, clock.at(0));
    settler.observe(&(0, "c"), size(1), TIMES, clock.at(9));
    let only = |group| move |it: usize| (it == group).then_some(0);
    assert_eq!(settler.take_due_of(clock.at(6), only(1)), Some(((1, "b"), size(1))));
    let (all, without) = (settler.next_due(|_| false), settler.next_due(|it| it == 0));
    assert_eq!((all, without), (Some(clock.at(5)), Some(clock.at(14))));
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
    assert_eq!(settler.doubt(&key, &snapshot, clock.at(1000)), Doubt::NotYet, "grace began at 599");
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
    let mut take =
        |held| settler.take_due_of(clock.at(9), |it| (it != held).then_some(0)).map(|(key, _)| key);
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

/// W06.
#[test]
fn a_container_that_does_not_say_its_length_has_to_be_still_for_longer() {
    let (clock, mut settler) = (clock(), Settler::default());
    settler.observe(&"a", size(1), TIMES, clock.at(0));
    let (key, snapshot) = settler.take_due(clock.at(5)).unwrap();
    assert!(!settler.was_still_for_long(&key, clock.at(5)));
    settler.wait_longer(&key, &snapshot, clock.at(6));
    assert_eq!(settler.take_due(clock.at(59)), None);
    // The copy goes on.
    settler.observe(&"a", size(2), TIMES, clock.at(59));
    assert_eq!(settler.take_due(clock.at(64)), Some(("a", size(2))));
    settler.wait_longer(&"a", &size(1), clock.at(64));
    assert_eq!(settler.take_due(clock.at(500)), None, "what was found of the part means nothing");
    settler.wait_longer(&"a", &size(2), clock.at(65));
    assert_eq!(settler.take_due(clock.at(118)), None);
    assert_eq!(settler.take_due(clock.at(119)), Some(("a", size(2))));
    assert!(settler.was_still_for_long(&"a", clock.at(119)));
}
