//! Originals that are moved after their job: the daemon dies at each step, or the folder may not be written to.

use crate::place::{Place, skip, small};
use crate::shim::{
    Action, DAEMON, EACCES, EINVAL, Faults, GROWING, OPEN_READ, RENAME, Rule, UNLINK, WORKER, WRITE,
};
use crate::{faulty, is_tidy, start, status_line, wait_tidy};
use slomod::daemon::digest::file_sha256;
use slomod::daemon::journal::Journal;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A clip `a.mp4` in a folder whose originals go to `originals` of it, and its hash.
fn moving(originals: impl Fn(&Place) -> PathBuf) -> (Place, Faults, PathBuf, String) {
    let (place, faults) = faulty("", "on_success = \"move\"");
    let originals = originals(&place);
    let mut config = fs::File::options().append(true).open(place.path("slomod.toml")).unwrap();
    writeln!(config, "originals = {originals:?}").unwrap();
    let clip = small(&place, 0);
    place.drop_clip(&clip, "a.mp4");
    (place, faults, originals, file_sha256(&clip).unwrap())
}

/// A list of cuts beside the clip, in a configuration that takes those.
fn with_list(place: &Place) -> PathBuf {
    let mut config = fs::File::options().append(true).open(place.path("slomod.toml")).unwrap();
    writeln!(config, "cut_list = \".cuts\"").unwrap();
    let list = place.path("in/a.mp4.cuts");
    fs::write(&list, "0.3\n").unwrap();
    list
}

/// The files with that content, whole, in the watched folder and among the originals.
fn copies(place: &Place, originals: &Path, hash: &str) -> Vec<PathBuf> {
    let folders = [place.path("in"), originals.to_owned()];
    let files = folders.iter().filter_map(|it| fs::read_dir(it).ok()).flatten().flatten();
    let files = files.map(|it| it.path()).filter(|it| it.is_file());
    files.filter(|it| file_sha256(it).unwrap() == hash).collect()
}

/// What is in the watched folder, hidden files as well.
fn left_in(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("in")).unwrap();
    entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

/// One job, one output, and the original in one place: there, with nothing beside it.
fn check_moved(place: &Place, originals: &Path, hash: &str) {
    assert_eq!(place.states(), ["done"], "{}", place.log());
    assert_eq!(place.listing(), ["a_slow2x.mp4", "a_slow2x.mp4.json"], "{}", place.log());
    assert_eq!(copies(place, originals, hash), [originals.join("a.mp4")], "{}", place.log());
    let beside = fs::read_dir(originals).unwrap().count();
    assert_eq!(beside, 1, "{}", place.log());
    let journal = Journal::open_existing(&place.path("state")).unwrap();
    let is_noted = || {
        let history = journal.history(1).unwrap().unwrap();
        let noted: Vec<_> =
            history.events.into_iter().filter(|it| it.what == "original moved").collect();
        let to = format!("to {}", originals.join("a.mp4").display());
        !noted.is_empty() && noted.iter().all(|it| it.detail == to)
    };
    place.wait("word of it in the history", is_noted);
    assert_eq!(left_in(place), [""; 0], "{}", place.log());
}

/// The daemon dies before its n-th call that meets `rule`, for every n of a job. How many there are.
fn killed_at_each(rule: &Rule, originals: impl Fn(&Place) -> PathBuf) -> u64 {
    for number in 1.. {
        let (mut place, faults, originals, hash) = moving(&originals);
        faults.set(0, &rule.clone().once(number));
        start(&mut place, &faults);
        let is_moved = || copies(&place, &originals, &hash) == [originals.join("a.mp4")];
        place.wait("move or death", || {
            faults.fired(0) > 0 || place.all_ended(1) && is_moved() && is_tidy(&place)
        });
        let died = faults.fired(0) > 0;
        if died {
            place.wait_end();
            assert!(!copies(&place, &originals, &hash).is_empty(), "{}", place.log());
            place.start();
            place.wait_ended(1);
        }
        let is_moved = || copies(&place, &originals, &hash) == [originals.join("a.mp4")];
        place.wait("move", is_moved);
        wait_tidy(&place);
        check_moved(&place, &originals, &hash);
        if !died {
            return number - 1;
        }
    }
    unreachable!("a job that meets no fault ends this")
}

/// W32. Each step in the folder of the originals, on the file system of the clips and on another, and the removal there.
#[test]
fn w32_killed_before_each_step_of_a_move_there_is_one_job_and_one_original() {
    let steps = |path: &str| Rule::new(GROWING | UNLINK | OPEN_READ, path, Action::Kill).by(DAEMON);
    let near = killed_at_each(&steps("/originals"), |place| place.path("originals"));
    let names = Rule::new(UNLINK | RENAME, "/in/", Action::Kill).by(DAEMON);
    let renames = killed_at_each(&names, |place| place.path("originals"));
    println!("{near} steps on one file system, {renames} renames");
    assert!(near >= 2 && renames >= 1, "{near}, {renames}");
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        skip("no /dev/shm");
        return;
    };
    let numbers = std::cell::Cell::new(0);
    let far = |_: &Place| {
        numbers.set(numbers.get() + 1);
        elsewhere.path().join(format!("{}/originals", numbers.get()))
    };
    let copied = killed_at_each(&steps("/originals"), far);
    let removed = killed_at_each(&names, far);
    println!("{copied} steps on another file system, {removed} removals");
    assert!(copied >= 5 && removed >= 1, "{copied}, {removed}");
}

/// W32. On a file system that renames only over what is there, as NFS, an original that has its new name and its old one when
/// the daemon dies does not appear twice.
#[test]
fn w32_an_original_that_has_two_names_when_the_daemon_dies_is_moved_once() {
    let (mut place, faults, originals, hash) = moving(|place| place.path("originals"));
    faults.set(0, &Rule::new(UNLINK, "/in/", Action::Kill).by(DAEMON).once(1));
    faults.set(1, &Rule::new(RENAME, "/originals/", Action::Fail(EINVAL)).by(DAEMON));
    start(&mut place, &faults);
    place.wait_end();
    assert_eq!(copies(&place, &originals, &hash).len(), 2, "{}", place.log());
    faults.remove(0);
    start(&mut place, &faults);
    place.wait("move", || copies(&place, &originals, &hash) == [originals.join("a.mp4")]);
    wait_tidy(&place);
    check_moved(&place, &originals, &hash);
}

/// W23. A folder of originals that may not be written to: the job is done all the same, the original stays, a restart
/// makes no second job of it, and it is moved once that is possible.
#[test]
fn w23_an_original_that_cannot_be_moved_is_no_second_job_and_is_moved_later() {
    let (mut place, faults, originals, hash) = moving(|place| place.path("originals"));
    faults.set(0, &Rule::new(GROWING, "/originals", Action::Fail(EACCES)));
    start(&mut place, &faults);
    place.wait_ended(1);
    place.wait("word of it", || place.log().contains("original not moved"));
    assert_eq!(copies(&place, &originals, &hash), [place.path("in/a.mp4")]);
    let waits =
        format!("DEGRADED: the original {} of job 1 waits", place.path("in/a.mp4").display());
    place.wait("word of it in the status", || status_line(&place).contains(&waits));
    let status = status_line(&place);
    assert!(status.contains("Permission denied") && status.contains("by itself"), "{status}");
    assert_eq!(place.terminate().code(), Some(0));
    start(&mut place, &faults);
    place.wait("word of it", || place.log().matches("original not moved").count() >= 2);
    assert_eq!(place.states(), ["done"], "{}", place.log());
    assert_eq!(copies(&place, &originals, &hash), [place.path("in/a.mp4")]);
    faults.clear();
    place.wait("move", || originals.join("a.mp4").is_file());
    wait_tidy(&place);
    check_moved(&place, &originals, &hash);
    place.wait("the end of it in the status", || !status_line(&place).contains("DEGRADED"));
    let history = place.command("status").arg("1").output().unwrap();
    let history = String::from_utf8(history.stdout).unwrap();
    let moved = history.lines().find(|it| it.contains("original moved")).unwrap();
    let to = format!("to {}", originals.join("a.mp4").display());
    assert!(moved.ends_with(&to), "{history}");
}

/// W16. Something else lies in the place of the originals' folder, as below a share that is not mounted: nothing is moved
/// there before the folder is back, or somebody says that it was replaced for good.
#[test]
fn w16_originals_wait_while_another_folder_lies_in_place_of_theirs() {
    let (mut place, faults, originals, _) = moving(|place| place.path("originals"));
    start(&mut place, &faults);
    place.wait("move", || originals.join("a.mp4").is_file());
    let away = place.path("away");
    let replace = |place: &Place, name: &str, hue: u32| {
        fs::rename(&originals, &away).unwrap();
        fs::create_dir(&originals).unwrap();
        let said = || place.log().matches("not the folder of originals that it was").count();
        let before = said();
        place.drop_clip(&small(place, hue), name);
        place.wait("word of it", || said() > before);
        assert!(place.path("in").join(name).is_file(), "{}", place.log());
        assert_eq!(fs::read_dir(&originals).unwrap().count(), 0, "{}", place.log());
    };
    replace(&place, "b.mp4", 60);
    fs::remove_dir(&originals).unwrap();
    fs::rename(&away, &originals).unwrap();
    place.wait("the second move", || originals.join("b.mp4").is_file());
    replace(&place, "c.mp4", 120);
    // What a dead daemon left there is nobody's word.
    let lock = originals.join(".slomod.lock");
    let said = place.log().matches("original not moved").count();
    fs::write(&lock, "{\"host\":\"nas\"}\n").unwrap();
    place.wait("word of it", || place.log().matches("original not moved").count() > said);
    assert!(!originals.join("c.mp4").exists() && lock.exists(), "{}", place.log());
    fs::write(originals.join(".slomod.lock"), "").unwrap();
    place.wait("the third move", || originals.join("c.mp4").is_file());
    assert_eq!(fs::read_dir(&originals).unwrap().count(), 1, "{}", place.log());
    assert_eq!(place.states(), ["done", "done", "done"], "{}", place.log());
}

/// W17. The sentinel of a clip that was moved away says nothing of the next file of its name.
#[test]
fn w17_a_sentinel_leaves_with_its_clip_and_does_not_speak_for_the_next() {
    let (mut place, _faults, originals, _) = moving(|place| place.path("originals"));
    let configuration = place.path("slomod.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text + "ready = \"sentinel\"\n").unwrap();
    let sentinel = place.path("in/a.mp4.done");
    fs::write(&sentinel, "").unwrap();
    place.start();
    place.wait("move", || originals.join("a.mp4").is_file());
    assert!(!sentinel.exists() && !originals.join("a.mp4.done").exists());
    place.drop_clip(&small(&place, 90), "a.mp4");
    place.drop_clip(&small(&place, 120), "b.mp4");
    let with_text = place.path("in/b.done");
    fs::write(&with_text, "sha256 of it").unwrap();
    place.wait("the second move", || originals.join("b.mp4").is_file());
    assert!(!with_text.exists() && originals.join("b.done").is_file(), "nothing is lost");
    assert_eq!(place.states(), ["done", "done"], "nobody said that it is complete");
    fs::write(&sentinel, "").unwrap();
    place.wait("the third move", || originals.join("a~2.mp4").is_file());
    assert_eq!(place.states(), ["done", "done", "done"], "{}", place.log());
}

/// W17. The list of cuts that a clip was worked with leaves with it: it would speak for the next file of its name.
#[test]
fn w17_a_list_of_cuts_leaves_with_its_clip_and_replaces_nothing() {
    let (mut place, _faults, originals, _) = moving(|place| place.path("originals"));
    let list = with_list(&place);
    place.start();
    place.wait("move", || originals.join("a.mp4").is_file());
    place.wait("the list's move", || !list.exists());
    assert_eq!(left_in(&place), [""; 0], "{}", place.log());
    let content = |name: &str| fs::read_to_string(originals.join(name)).unwrap();
    assert_eq!(content("a.mp4.cuts"), "0.3\n");
    // Of another clip of the name.
    fs::write(&list, "0.2\n").unwrap();
    place.drop_clip(&small(&place, 90), "a.mp4");
    place.wait("the second move", || originals.join("a~2.mp4").is_file());
    place.wait("the second list's move", || !list.exists());
    assert_eq!(
        (content("a.mp4.cuts").as_str(), content("a~2.mp4.cuts").as_str()),
        ("0.3\n", "0.2\n")
    );
    assert_eq!(place.states(), ["done", "done"], "{}", place.log());
    let history = place.command("status").arg("2").output().unwrap();
    let history = String::from_utf8(history.stdout).unwrap();
    assert!(history.contains("a~2.mp4, its list of cuts to "), "{history}");
}

/// W17. A list that is not the one that was worked with is the next clip's, or a mistake: it stays, and that is said. So does
/// the list where the clip cannot be moved.
#[test]
fn w17_a_list_of_cuts_stays_where_its_clip_does_and_where_it_is_another() {
    let (mut place, faults, originals, _) = moving(|place| place.path("originals"));
    let list = with_list(&place);
    // The clip's hidden name, and not the list's.
    faults.set(0, &Rule::new(RENAME, "slomod-tmp.mp4.original", Action::Fail(EACCES)));
    start(&mut place, &faults);
    place.wait("word of it", || place.log().matches("original not moved").count() >= 2);
    assert!(place.path("in/a.mp4").is_file() && list.is_file(), "{:?}", left_in(&place));
    fs::write(&list, "0.5\n").unwrap();
    faults.clear();
    place.wait("move", || originals.join("a.mp4").is_file());
    place.wait("word of it", || place.log().contains("list of cuts kept"));
    assert_eq!(left_in(&place), ["a.mp4.cuts"], "{}", place.log());
    assert_eq!(fs::read_dir(&originals).unwrap().count(), 1);
}

/// W17. The list of cuts cannot leave, and another clip comes under the name: where the first went is in its history all the
/// same, and the list goes with the second.
#[test]
fn w17_where_a_clip_went_is_noted_though_its_list_cannot_follow_and_another_came() {
    let (mut place, faults, originals, _) = moving(|place| place.path("originals"));
    let list = with_list(&place);
    // The list's hidden name.
    faults.set(0, &Rule::new(RENAME, "slomod-tmp.cuts.original", Action::Fail(EACCES)));
    start(&mut place, &faults);
    place.wait("word of it", || status_line(&place).contains("a.mp4, but not its list of cuts: "));
    assert!(list.is_file() && originals.join("a.mp4").is_file(), "{}", place.log());
    // The second stays there until the first is looked for again.
    faults.hold(&Rule::new(WRITE, "/out/", Action::Hold).by(WORKER).once(1));
    place.drop_clip(&small(&place, 90), "a.mp4");
    faults.wait_held(&place);
    let journal = Journal::open_existing(&place.path("state")).unwrap();
    let noted = |job| {
        let history = journal.history(job).unwrap().unwrap();
        history.events.into_iter().find(|it| it.what == "original moved").map(|it| it.detail)
    };
    place.wait("word of the first", || noted(1).is_some());
    assert_eq!(noted(1).unwrap(), format!("to {}", originals.join("a.mp4").display()));
    assert!(list.is_file(), "it is the second one's now");
    faults.remove(0);
    faults.let_go();
    place.wait("word of the second", || noted(2).is_some());
    assert!(originals.join("a~2.mp4.cuts").is_file(), "{:?}", noted(2));
    assert_eq!(left_in(&place), [""; 0], "{}", place.log());
}

/// W19. A clip that is only touched while it is worked is worked once, and moved.
#[test]
fn w19_an_original_that_was_touched_while_it_was_worked_is_done_once_and_moved() {
    let (mut place, faults, originals, hash) = moving(|place| place.path("originals"));
    faults.hold(&Rule::new(WRITE, "/out/", Action::Hold).by(WORKER).once(1));
    start(&mut place, &faults);
    faults.wait_held(&place);
    let clip = fs::File::open(place.path("in/a.mp4")).unwrap();
    clip.set_modified(std::time::SystemTime::now()).unwrap();
    faults.let_go();
    place.wait("move", || originals.join("a.mp4").is_file());
    wait_tidy(&place);
    check_moved(&place, &originals, &hash);
    assert_eq!(place.jobs()[0].attempt, 1, "{}", place.log());
}

/// W19. Another file takes the original's place between the last look at it and its move, or its removal where it was copied:
/// it stays, and is a job of its own.
#[test]
fn w19_a_file_that_comes_just_before_the_original_is_moved_is_worked_and_not_moved_unworked() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").ok();
    let last_steps = [(RENAME, None), (UNLINK, elsewhere.as_ref()), (RENAME, elsewhere.as_ref())];
    for (number, (step, far)) in last_steps.into_iter().enumerate() {
        let (mut place, faults, originals, hash) = moving(|place| match far {
            Some(far) => far.path().join(format!("{number}/originals")),
            None => place.path("originals"),
        });
        faults.hold(&Rule::new(step, "/in/", Action::Hold).by(DAEMON).once(1));
        start(&mut place, &faults);
        faults.wait_held(&place);
        let next = small(&place, 90);
        let next_hash = file_sha256(&next).unwrap();
        place.drop_clip(&next, "a.mp4");
        faults.let_go();
        place.wait_ended(2);
        let is_moved = || copies(&place, &originals, &next_hash).len() == 1;
        place.wait("move", || is_moved() && !place.path("in/a.mp4").exists());
        wait_tidy(&place);
        assert_eq!(place.states(), ["done", "done"], "{number}\n{}", place.log());
        // Whoever replaced a file before it was moved did so themselves.
        let first = copies(&place, &originals, &hash).len();
        assert!(first <= 1 && (step == RENAME || first == 1), "{number}\n{}", place.log());
        assert_eq!(left_in(&place), [""; 0], "{number}");
    }
}

/// W32. The daemon dies while the original has no name of its own, and another file takes the name: both are worked or moved,
/// and none is lost.
#[test]
fn w32_an_original_whose_name_is_taken_while_the_daemon_is_dead_is_not_lost() {
    let (mut place, faults, originals, hash) = moving(|place| place.path("originals"));
    faults.set(0, &Rule::new(RENAME, "/originals/", Action::Kill).by(DAEMON).once(1));
    start(&mut place, &faults);
    place.wait_end();
    assert_eq!(copies(&place, &originals, &hash).len(), 1, "{}", place.log());
    let next = small(&place, 90);
    place.drop_clip(&next, "a.mp4");
    place.start();
    let is_moved = |hash: &str| {
        let found = copies(&place, &originals, hash);
        found.len() == 1 && found[0].starts_with(&originals)
    };
    let next_hash = file_sha256(&next).unwrap();
    place.wait("both moves", || is_moved(&hash) && is_moved(&next_hash));
    wait_tidy(&place);
    assert_eq!(left_in(&place), [""; 0], "{}", place.log());
}

/// W19. Another file comes in the place of the original while that is copied to another file system: it stays, and is a job.
#[test]
fn w19_a_file_that_comes_while_the_original_is_copied_away_is_worked_and_not_removed() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        skip("no /dev/shm");
        return;
    };
    let (mut place, faults, originals, _) = moving(|_| elsewhere.path().join("originals"));
    faults.hold(&Rule::new(RENAME, "/originals/", Action::Hold).by(DAEMON).once(1));
    start(&mut place, &faults);
    faults.wait_held(&place);
    let next = small(&place, 90);
    let hash = file_sha256(&next).unwrap();
    place.drop_clip(&next, "a.mp4");
    faults.let_go();
    place.wait_ended(2);
    place.wait("move", || copies(&place, &originals, &hash) == [originals.join("a.mp4")]);
    assert!(place.log().contains("a.mp4: was replaced while it was moved"), "{}", place.log());
    assert_eq!(place.states(), ["done", "done"], "{}", place.log());
}
