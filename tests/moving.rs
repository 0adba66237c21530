//! Originals are moved away whole, once, and never over something else, also to another file system.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use slomod::daemon::moving::{move_to_free, restore};
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
        assert_eq!(move_to_free(&from, &to, ("tag", 1), &|_| true).unwrap(), to.join(name));
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
    let moved = || move_to_free(&from, there.path(), ("tag", 1), &|_| true);
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
    let error = move_to_free(&from, there.path(), ("tag", 1), &|_| true).unwrap_err();
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
    for (last, there_already) in [1, 2, 3].into_iter().flat_map(|it| [(it, false), (it, true)]) {
        fs::write(&from, CONTENT).unwrap();
        let copied = there.path().join("a.mp4");
        match there_already {
            true => fs::write(&copied, CONTENT).unwrap(),
            false => fs::remove_file(&copied).unwrap_or_default(),
        }
        let asked = Cell::new(0);
        let is_meant = |_: &Path| {
            asked.set(asked.get() + 1);
            if asked.get() == last {
                fs::write(&from, "another").unwrap();
            }
            asked.get() < last
        };
        let error = move_to_free(&from, there.path(), ("tag", 1), &is_meant).unwrap_err();
        assert!(error.to_string().contains("was replaced"), "{error}");
        assert_eq!(asked.get(), last);
        assert_eq!(fs::read_to_string(&from).unwrap(), "another");
        let listed: &[&str] = if there_already { &["a.mp4"] } else { &[] };
        assert_eq!(listing(there.path()), listed, "only what was there before");
    }
}

/// A copy that is gone once the original has another name was the original itself, as another mount shows it.
#[test]
fn an_original_whose_copy_goes_with_its_name_is_not_removed() {
    let (here, Ok(there)) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm")) else {
        skip("no /dev/shm");
        return;
    };
    let (from, shown) = (here.path().join("a.mp4"), there.path().join("a.mp4"));
    for (there_already, left) in [(true, false), (false, false), (true, true)] {
        fs::write(&from, CONTENT).unwrap();
        // Files of one instant are not told apart.
        std::thread::sleep(Duration::from_millis(20));
        if there_already {
            fs::write(&shown, CONTENT).unwrap();
        }
        let is_meant = |path: &Path| {
            if path != from {
                match left {
                    true => fs::write(&shown, "another content.").unwrap(),
                    false => fs::remove_file(&shown).unwrap(),
                }
            }
            true
        };
        let error = move_to_free(&from, there.path(), ("tag", 1), &is_meant).unwrap_err();
        assert!(error.to_string().contains("is no copy of the original"), "{error}");
        assert_eq!(listing(here.path()), ["a.mp4"]);
        assert_eq!(fs::read_to_string(&from).unwrap(), CONTENT);
    }
}

/// W32. What a move that was killed left without its name gets it back, or a numbered one.
#[test]
fn an_original_that_a_killed_move_left_hidden_is_moved_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.mp4"), folder.path().join("to"));
    let parked = names::parked(&from, "tag", 1);
    fs::write(&parked, CONTENT).unwrap();
    move_to_free(&from, &to, ("tag", 1), &|_| true).unwrap();
    assert_eq!(listing(folder.path()), ["to"]);
    assert_eq!(fs::read_to_string(to.join("a.mp4")).unwrap(), CONTENT);
    fs::write(&parked, CONTENT).unwrap();
    fs::write(&from, "another").unwrap();
    restore(&from, ("tag", 1)).unwrap();
    assert_eq!(listing(folder.path()), ["a.mp4", "a~2.mp4", "to"]);
    assert_eq!(fs::read_to_string(&from).unwrap(), "another");
    restore(&from, ("tag", 1)).unwrap();
    assert_eq!(listing(folder.path()).len(), 3, "there is nothing to do");
}

/// W09. Wherever a link leads from where it lies, it leads there from among the originals as well.
#[test]
fn a_link_is_moved_as_a_link_that_leads_to_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (drop, archive) = (folder.path().join("drop/today"), folder.path().join("archive"));
    let to = folder.path().join("originals/2026/today");
    for made in [&drop, &archive] {
        fs::create_dir_all(made).unwrap();
    }
    let file = archive.join("clip.mp4");
    fs::write(&file, CONTENT).unwrap();
    let link = drop.join("a.mp4");
    let moved = || move_to_free(&link, &to, ("tag", 1), &|it| it.is_file()).unwrap();
    symlink("../../archive/clip.mp4", &link).unwrap();
    assert_eq!(moved(), to.join("a.mp4"));
    assert!(listing(&drop).is_empty());
    let led = fs::read_link(to.join("a.mp4")).unwrap();
    assert!(led.is_relative(), "the tree can be mounted elsewhere: {}", led.display());
    assert_eq!(fs::canonicalize(to.join("a.mp4")).unwrap(), fs::canonicalize(&file).unwrap());
    // Killed before the link was removed: it does not come twice.
    symlink("../../archive/clip.mp4", names::parked(&link, "tag", 1)).unwrap();
    assert_eq!(moved(), to.join("a.mp4"));
    assert_eq!(listing(&to), ["a.mp4"]);
    // Another one of the name replaces nothing, and an absolute one stays as it is.
    let other = archive.join("other.mp4");
    fs::write(&other, "another video").unwrap();
    symlink("../../archive/other.mp4", &link).unwrap();
    assert_eq!(moved(), to.join("a~2.mp4"));
    assert_eq!(fs::read_to_string(to.join("a~2.mp4")).unwrap(), "another video");
    assert_eq!(fs::read_to_string(to.join("a.mp4")).unwrap(), CONTENT);
    symlink(&other, &link).unwrap();
    assert_eq!(fs::read_link(moved()).unwrap(), other);
    assert_eq!(listing(&archive), ["clip.mp4", "other.mp4"]);
    assert!(listing(&drop).is_empty());
}

/// W31. A name that is as long as names may be, and taken.
#[test]
fn an_original_with_the_longest_name_gets_a_numbered_one() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").ok();
    let near = folder.path().join("originals");
    let name = format!("{}.mp4", "x".repeat(251));
    for to in elsewhere.iter().map(|it| it.path()).chain([near.as_path()]) {
        fs::create_dir_all(to).unwrap();
        fs::write(to.join(&name), "another video").unwrap();
        let from = folder.path().join(&name);
        fs::write(&from, CONTENT).unwrap();
        let moved = move_to_free(&from, to, ("tag", 1), &|_| true).unwrap();
        assert_eq!(moved, to.join(format!("{}~2.mp4", "x".repeat(249))));
        assert_eq!(fs::read_to_string(moved).unwrap(), CONTENT);
        assert_eq!(fs::read_to_string(to.join(&name)).unwrap(), "another video");
    }
}
