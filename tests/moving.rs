//! Originals are moved away whole, once, and never over something else, also to another file system.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use slomod::daemon::moving::move_to_free;
use slomod::daemon::names;

const CONTENT: &str = "a verified video";

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn originals_are_moved_without_overwriting() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("new/originals");
    for (number, name) in [(1, "a.mp4"), (2, "a~2.mp4")] {
        let from = folder.path().join("a.mp4");
        fs::write(&from, format!("{number}")).unwrap();
        assert_eq!(move_to_free(&from, &to, ("tag", 1), &|| true).unwrap(), to.join(name));
        assert!(!from.exists());
    }
    assert_eq!(fs::read_to_string(to.join("a.mp4")).unwrap(), "1");
}

#[test]
fn originals_move_across_file_systems() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm"));
    let Ok(there) = there else {
        skip("no /dev/shm");
        return;
    };
    let from = here.path().join("a.mp4");
    fs::write(&from, CONTENT).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&from).unwrap().set_modified(modified).unwrap();
    let moved = || move_to_free(&from, there.path(), ("tag", 1), &|| true);
    moved().unwrap();
    assert!(!from.exists());
    assert_eq!(listing(there.path()), ["a.mp4"]);
    let original = there.path().join("a.mp4");
    assert_eq!(fs::read_to_string(&original).unwrap(), CONTENT);
    assert_eq!(fs::metadata(&original).unwrap().modified().unwrap(), modified);

    // Its name is taken by something else; what a move that was killed left is gone afterwards.
    fs::write(&from, "another video...").unwrap();
    fs::write(names::temporary_of(&original, "tag", 1, 0), "half a c").unwrap();
    assert_eq!(moved().unwrap(), there.path().join("a~2.mp4"));
    assert_eq!(listing(there.path()), ["a.mp4", "a~2.mp4"]);
    assert_eq!(fs::read_to_string(&original).unwrap(), CONTENT);

    // Killed before the original was removed: it is there already, and does not come twice.
    fs::write(&from, CONTENT).unwrap();
    assert_eq!(moved().unwrap(), original);
    assert!(!from.exists());
    assert_eq!(listing(there.path()), ["a.mp4", "a~2.mp4"]);
}

#[test]
fn a_move_across_file_systems_that_fails_leaves_no_part_and_keeps_the_original() {
    let (here, Ok(there)) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm")) else {
        skip("no /dev/shm");
        return;
    };
    // More than there is room for, and no bytes of it.
    let from = here.path().join("huge.mp4");
    let free = rustix::fs::statvfs(there.path()).unwrap();
    let size = free.f_bavail * free.f_frsize + (1 << 20);
    if fs::File::create(&from).unwrap().set_len(size).is_err() {
        skip("no file may be as large as /dev/shm");
        return;
    }
    let error = move_to_free(&from, there.path(), ("tag", 1), &|| true).unwrap_err();
    assert!(error.to_string().contains("cannot be copied to"), "{error}");
    assert_eq!(fs::metadata(&from).unwrap().len(), size);
    assert!(listing(there.path()).is_empty());
}

/// W19. Whoever asks whether it is still the file sees, in its `n`-th question, that it is not.
#[test]
fn a_file_that_takes_the_originals_place_during_a_move_across_file_systems_stays() {
    let (here, Ok(there)) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm")) else {
        skip("no /dev/shm");
        return;
    };
    let from = here.path().join("a.mp4");
    for (last, there_already) in [(1, false), (2, false), (1, true), (2, true)] {
        fs::write(&from, CONTENT).unwrap();
        let copied = there.path().join("a.mp4");
        match there_already {
            true => fs::write(&copied, CONTENT).unwrap(),
            false => fs::remove_file(&copied).unwrap_or_default(),
        }
        let asked = Cell::new(0);
        let is_same = || {
            asked.set(asked.get() + 1);
            if asked.get() == last {
                fs::write(&from, "another").unwrap();
            }
            asked.get() < last
        };
        let error = move_to_free(&from, there.path(), ("tag", 1), &is_same).unwrap_err();
        assert!(error.to_string().contains("was replaced"), "{error}");
        assert_eq!(asked.get(), last);
        assert_eq!(fs::read_to_string(&from).unwrap(), "another");
        let listed: &[&str] = if there_already { &["a.mp4"] } else { &[] };
        assert_eq!(listing(there.path()), listed, "only what was there before");
    }
}
