//! W26. The state folder is full, or fails, where the daemon writes its small files.

use crate::place::small;
use crate::shim::{Action, DAEMON, ENOSPC, Rule, WRITE};
use crate::{faulty, start};
use std::fs;

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
