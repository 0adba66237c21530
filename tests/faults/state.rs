//! W26. The state folder is full, or fails, where the daemon writes its small files.

use crate::place::{Place, small};
use crate::shim::{
    Action, DAEMON, EDQUOT, EIO, ENOSPC, Faults, GROWING, OPEN_READ, OPEN_WRITE, Rule, WRITE,
};
use crate::{faulty, start};
use std::fs;

/// `slomod.service` does not restart what ended with 78.
const TRIED_AGAIN: Option<i32> = Some(75);

fn ends_with(place: &mut Place, faults: &Faults, rule: &Rule) -> Option<i32> {
    faults.set(0, rule);
    start(place, faults);
    let code = place.wait_end().code();
    faults.clear();
    code
}

/// A first start without space for the note that there is a journal, or for the journal's companions, may be tried again;
/// and a later one does not write that note.
#[test]
fn w26_a_start_without_space_in_its_state_folder_may_be_tried_again() {
    for error in [ENOSPC, EDQUOT, EIO] {
        let (mut place, faults) = faulty("", "");
        let marker = Rule::new(GROWING, "/state/journal.created", Action::Fail(error)).by(DAEMON);
        assert_eq!(ends_with(&mut place, &faults, &marker), TRIED_AGAIN, "{}", place.log());
        let left: Vec<_> = fs::read_dir(place.path("state")).unwrap().flatten().collect();
        let is_half = |name: &str| name.starts_with("journal.created");
        assert!(!left.iter().any(|it| is_half(&it.file_name().to_string_lossy())), "{left:?}");
        place.start();
        place.wait_ready();
        assert_eq!(place.terminate().code(), Some(0));
        faults.set(0, &marker);
        start(&mut place, &faults);
        place.wait_ready();
        assert_eq!((place.terminate().code(), faults.fired(0)), (Some(0), 0), "{}", place.log());
        faults.clear();
        let companions = Rule::new(OPEN_WRITE, "/state/journal.sqlite-", Action::Fail(error));
        let code = ends_with(&mut place, &faults, &companions.by(DAEMON));
        assert_eq!(code, TRIED_AGAIN, "{error}\n{}", place.log());
    }
}

/// W24, W34. Whether there was a journal cannot be seen: that is no first start.
#[test]
fn w24_a_note_that_cannot_be_looked_at_is_not_taken_for_none() {
    let (mut place, faults) = faulty("", "");
    place.start();
    place.wait_ready();
    place.terminate();
    for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = fs::remove_file(place.path("state").join(name));
    }
    let note = Rule::new(OPEN_READ, "/state/journal.created", Action::Fail(EIO)).by(DAEMON);
    assert_eq!(ends_with(&mut place, &faults, &note), TRIED_AGAIN, "{}", place.log());
    assert!(!place.path("state/journal.sqlite").exists(), "none was made");
    start(&mut place, &faults);
    assert_eq!(place.wait_end().code(), Some(78), "the journal is gone");
}

/// W26. A pause that cannot be noted is none: the next start begins clips.
#[test]
fn w26_a_pause_that_failed_leaves_nothing() {
    let (mut place, faults) = faulty("", "");
    start(&mut place, &faults);
    place.wait_ready();
    faults.set(0, &Rule::new(WRITE, "/state/paused", Action::Fail(ENOSPC)).by(DAEMON));
    let pause = place.command("pause").output().unwrap();
    assert_eq!(pause.status.code(), Some(73), "{}", String::from_utf8_lossy(&pause.stderr));
    faults.clear();
    let names: Vec<_> = fs::read_dir(place.path("state")).unwrap().flatten().collect();
    let is_pause = |name: &str| name.contains("paused");
    assert!(!names.iter().any(|it| is_pause(&it.file_name().to_string_lossy())), "{names:?}");
    place.terminate();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    let paused = || place.command("pause").status().unwrap().code();
    assert_eq!(paused(), Some(0));
    assert!(place.path("state/paused").exists());
}
