//! W23: rights are taken away and given back.

use crate::elsewhere::{RIGHTS, inside};
use crate::ledger::Ledger;
use crate::place::{Place, clip, large};
use crate::shim::{Faults, start_at_work};
use crate::{status_line, wait_tidy};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn prepared(watch: &str) -> (Place, Ledger, std::path::PathBuf) {
    let place = Place::with("grace = \"1s\"", watch);
    let clip = clip(place.folder.path(), "64x48", 6, 0);
    (place, Ledger::default(), clip)
}

/// W23. A file that may not be read waits beyond the grace time, is not refused, and is done after a `chmod`.
#[test]
fn w23_a_file_without_rights_is_done_once_it_may_be_read() {
    if !inside(&RIGHTS, "rights::w23_a_file_without_rights_is_done_once_it_may_be_read") {
        return;
    }
    let (mut place, mut ledger, clip) = prepared("");
    ledger.dropped("a.mp4", &clip, 12);
    allow(&clip, 0o000);
    fs::hard_link(&clip, place.path("in/a.mp4")).unwrap();
    // Later looks at it are said there alone.
    place.start_with(|command| command.env("SLOMOD_LOG", "debug"));
    let tried = || place.log().matches("cannot be read now").count() >= 3;
    place.wait("three looks, the last after the grace time", tried);
    assert!(place.states().is_empty(), "{}", place.log());
    let warned = place.log().lines().filter(|it| it.contains("WARN")).count();
    assert_eq!(warned, 1, "{}", place.log());
    let said = "(a.mp4: cannot be read: Permission denied (os error 13); give the user";
    place.wait("reason in the status", || status_line(&place).contains(said));
    allow(&clip, 0o644);
    place.wait_ended(1);
    let status = status_line(&place);
    assert!(!status.contains("cannot be read"), "{status}");
    ledger.check_end(&place);
}

/// W23. The right to read goes while the job waits for its turn, and comes back.
#[test]
fn w23_a_queued_file_that_loses_its_rights_is_retried() {
    if !inside(&RIGHTS, "rights::w23_a_queued_file_that_loses_its_rights_is_retried") {
        return;
    }
    let (mut place, mut ledger, clip) = prepared("");
    let first = large(&place, 50);
    ledger.dropped("first.mp4", &first, 80);
    place.drop_clip(&first, "first.mp4");
    let faults = Faults::of(&place);
    start_at_work(&mut place, &faults);
    ledger.dropped("a.mp4", &clip, 12);
    place.drop_clip(&clip, "a.mp4");
    place.wait("the second", || place.states().len() == 2);
    allow(&place.path("in/a.mp4"), 0o000);
    faults.let_go();
    let waits = || place.log().contains("Permission denied (os error 13); again in");
    place.wait("a try without rights", waits);
    assert!(!place.states().iter().any(|it| it == "refused" || it == "failed"));
    allow(&place.path("in/a.mp4"), 0o644);
    place.wait_ended(2);
    ledger.check_end(&place);
}

/// W23. A folder below the watched one, and the watched one itself, may not be entered: nothing is dropped, and all is
/// found once they may.
#[test]
fn w23_a_folder_without_rights_is_found_once_it_may_be_read() {
    if !inside(&RIGHTS, "rights::w23_a_folder_without_rights_is_found_once_it_may_be_read") {
        return;
    }
    let mut place = Place::with("grace = \"1s\"\nscan_interval = \"1h\"", "recursive = true");
    let clip = clip(place.folder.path(), "64x48", 6, 0);
    let sub = place.path("in/sub");
    fs::create_dir(&sub).unwrap();
    fs::copy(&clip, sub.join("a.mp4")).unwrap();
    allow(&sub, 0o000);
    place.start();
    place.wait("word of it", || status_line(&place).contains("(sub: Permission denied"));
    assert!(!place.log().contains("max_user_instances"), "another trouble: {}", place.log());
    allow(&sub, 0o755);
    place.wait_ended(1);
    place.wait("the end of it", || !status_line(&place).contains("Permission denied"));
    allow(&place.path("in"), 0o000);
    let second = crate::place::small(&place, 90);
    place.wait("offline in the status", || status_line(&place).contains("offline"));
    allow(&place.path("in"), 0o755);
    fs::copy(&second, place.path("in/b.mp4")).unwrap();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"], "{}", place.log());
}

/// W23. The output folder may not be written: paused with the reason, and done once it may.
#[test]
fn w23_an_output_without_rights_pauses_the_folder_until_it_may_be_written() {
    if !inside(
        &RIGHTS,
        "rights::w23_an_output_without_rights_pauses_the_folder_until_it_may_be_written",
    ) {
        return;
    }
    let (mut place, mut ledger, clip) = prepared("");
    fs::create_dir(place.path("out")).unwrap();
    allow(&place.path("out"), 0o555);
    ledger.dropped("a.mp4", &clip, 12);
    place.drop_clip(&clip, "a.mp4");
    place.start();
    place.wait("reason in the status", || {
        let status = status_line(&place);
        status.contains("/out: cannot be written") && status.contains("Permission denied")
    });
    ledger.check_visible(&place);
    allow(&place.path("out"), 0o755);
    place.wait_ended(1);
    wait_tidy(&place);
    ledger.check_end(&place);
}
