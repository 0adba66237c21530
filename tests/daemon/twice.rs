//! Nothing twice: the same content, the same name, outputs that come back, and two daemons on one share.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use slomod::daemon::digest::file_sha256;
use slomod::daemon::journal::FILE_NAME;
use slomod::daemon::output_lock::LOCK_NAME;
use slomod::report::Status;

use crate::place::*;
use crate::shim::{Faults, start_at_work};

/// How often an output comes back.
const CYCLES: usize = 100;

fn hashes(place: &Place) -> BTreeMap<String, String> {
    let hash = |name: String| (name.clone(), file_sha256(&place.path("out").join(name)).unwrap());
    place.listing().into_iter().filter(|it| !it.starts_with('.')).map(hash).collect()
}

/// A second machine: a state folder of its own, the same folders.
fn partner(place: &Place) -> Place {
    let partner = Place::new();
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let (own, other) = (partner.path("state"), place.path("state"));
    let config = config.replace(other.to_str().unwrap(), own.to_str().unwrap());
    fs::write(partner.path("slomod.toml"), config).unwrap();
    partner
}

fn set(place: &Place, from: &str, to: &str) {
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    assert!(config.contains(from), "{config}");
    fs::write(place.path("slomod.toml"), config.replace(from, to)).unwrap();
}

/// W20.
#[test]
fn new_content_of_an_old_name_is_a_second_job_and_leaves_the_first_output_alone() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    let first = hashes(&place);
    place.drop_clip(&small(&place, 90), "a.mp4");
    place.wait_ended(2);
    let all = hashes(&place);
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(first.iter().all(|(name, hash)| all.get(name) == Some(hash)), "{all:?}");
    assert_ne!(
        place.report("a_slow2x.mp4.json").source.sha256,
        place.report("a_slow2x~2.mp4.json").source.sha256
    );
}

/// By its spelling the folder for originals lies elsewhere, so the configuration is taken.
#[test]
fn originals_that_would_come_back_through_a_link_stay() {
    let mut place = Place::with("", "on_success = \"move\"\nsame_content = \"work\"");
    let link = place.path("originals");
    std::os::unix::fs::symlink(place.path("in"), &link).unwrap();
    let originals = format!("on_success = \"move\"\noriginals = \"{}/kept\"", link.display());
    set(&place, "on_success = \"move\"", &originals);
    let check = place.command("check").output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    let why = format!("`originals` lies in the watched folder {}", place.path("in").display());
    assert!(!check.status.success() && said.contains(&why), "{said}");
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    place.wait("a word", || place.log().contains("original not moved"));
    assert!(place.log().contains("set another folder for `originals`"), "{}", place.log());
    assert!(place.path("in/a.mp4").exists() && !place.path("in/kept").exists());
    assert_eq!(place.states(), ["done"]);
}

/// W21.
#[test]
fn the_same_content_in_two_folders_is_worked_once_and_the_other_refers_to_it() {
    let mut place = Place::with("", "recursive = true");
    let clip = small(&place, 0);
    fs::create_dir_all(place.path("in/one")).unwrap();
    fs::create_dir_all(place.path("in/two")).unwrap();
    for name in ["one/a.mp4", "two/b.mp4", "two/c.mp4"] {
        place.drop_clip(&clip, name);
    }
    place.start();
    place.wait_ended(3);
    let jobs = place.jobs();
    let done: Vec<_> = jobs.iter().filter(|job| job.state == "done").collect();
    assert_eq!(done.len(), 1, "{jobs:?}");
    for job in jobs.iter().filter(|job| job.state != "done") {
        assert_eq!((job.state.as_str(), job.duplicate_of), ("duplicate", Some(done[0].job)));
        let path = PathBuf::from(job.report.as_ref().unwrap());
        let report = schema::read(&path);
        assert_eq!(report.status, Status::Duplicate);
        assert!(report.warnings[0].message.contains(done[0].report.as_ref().unwrap()));
    }
}

/// W21. Where it is configured the same content is worked under each of its names; once under each, also where the journal
/// is lost.
#[test]
fn the_same_content_is_worked_again_under_another_name_where_that_is_configured() {
    let mut place = Place::with("", "same_content = \"work\"");
    let clip = small(&place, 0);
    for name in ["a.mp4", "a.mov", "b.mp4"] {
        place.drop_clip(&clip, name);
    }
    place.start();
    place.wait_ended(3);
    assert_eq!(place.states(), ["done"; 3], "{}", place.log());
    let outputs = hashes(&place);
    assert_eq!(outputs.len(), 6, "{outputs:?}");
    place.wait_ready();
    place.terminate();
    fs::remove_dir_all(place.path("state")).unwrap();
    place.start();
    place.wait_ended(3);
    assert_eq!(place.states(), ["duplicate"; 3], "{}", place.log());
    assert_eq!(hashes(&place), outputs);
}

/// W22.
#[test]
fn names_that_differ_in_extension_or_case_alone_get_outputs_that_differ_by_more() {
    let mut place = Place::new();
    for (number, name) in ["a.mp4", "a.mov", "A.mp4", "a.MP4"].into_iter().enumerate() {
        place.drop_clip(&small(&place, 40 * number as u32), name);
    }
    place.start();
    place.wait_ended(4);
    assert_eq!(place.states(), ["done"; 4], "{}", place.log());
    let names: Vec<String> = place.listing().iter().map(|it| it.to_lowercase()).collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((names.len(), distinct.len()), (8, 8), "{names:?}");
}

/// W27.
#[test]
fn where_the_outputs_name_is_taken_the_configuration_decides() {
    for (policy, state) in [("rename", "done"), ("overwrite", "done"), ("skip", "skipped")] {
        let mut place = Place::with("", &format!("collision = \"{policy}\""));
        fs::create_dir(place.path("out")).unwrap();
        fs::write(place.path("out/a_slow2x.mp4"), "somebody's").unwrap();
        place.drop_clip(&small(&place, 0), "a.mp4");
        place.start();
        place.wait_ended(1);
        assert_eq!(place.states(), [state], "{policy}: {}", place.log());
        let kept = fs::read(place.path("out/a_slow2x.mp4")).unwrap() == b"somebody's";
        assert_eq!(kept, policy != "overwrite");
        let expected: &[&str] = match policy {
            "rename" => &["a_slow2x.mp4", "a_slow2x~2.mp4", "a_slow2x~2.mp4.json"],
            "overwrite" => &["a_slow2x.mp4", "a_slow2x.mp4.json"],
            _ => &["a.mp4.skipped.json", "a_slow2x.mp4"],
        };
        assert_eq!(place.listing(), expected);
        if policy != "skip" {
            continue;
        }
        let report = place.report("a.mp4.skipped.json");
        assert_eq!(
            (report.status, report.warnings[0].code.as_str()),
            (Status::Skipped, "output_exists")
        );
        // Once the name is free, it can be asked for.
        fs::remove_file(place.path("out/a_slow2x.mp4")).unwrap();
        assert!(place.command("retry").arg("1").status().unwrap().success());
        place.wait("done", || place.states() == ["done"]);
        assert_eq!(place.listing(), ["a_slow2x.mp4", "a_slow2x.mp4.json"], "its notice is gone");
    }
}

/// W30.
#[test]
fn an_output_that_comes_back_a_hundred_times_is_never_worked() {
    let mut place = Place::with("", "comparison = \"side\"");
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    let output = place.path("out/a_slow2x.mp4");
    for cycle in 0..CYCLES {
        place.drop_clip(&output, &format!("again{cycle}.mp4"));
    }
    // What was made beside it is a clip as well.
    place.drop_clip(&place.path("out/a_slow2x.mp4.compare.mp4"), "compared.mp4");
    place.wait_ended(2 + CYCLES);
    let states = place.states();
    assert_eq!(states.iter().filter(|it| *it == "skipped").count(), CYCLES + 1, "{}", place.log());
    let videos = place.listing().into_iter().filter(|name| name.ends_with(".mp4")).count();
    assert_eq!(videos, 2, "{:?}", place.listing());
    let report = place.report("again7.mp4.skipped.json");
    assert_eq!(report.warnings[0].code, "own_output");
}

/// W30.
#[test]
fn two_daemons_that_feed_each_other_stop_at_the_first_output() {
    let mut place = Place::new();
    let mut back = partner(&place);
    set(&back, "/in\"\noutput", "/OUT\"\noutput");
    set(&back, "/out\"\npreset", "/in\"\npreset");
    set(&back, "/OUT\"\noutput", "/out\"\noutput");
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    back.start();
    place.wait_ended(1);
    back.wait_ended(1);
    assert_eq!(back.states(), ["skipped"], "{}", back.log());
    // Both see everything once more.
    for place in [&mut place, &mut back] {
        place.terminate();
        place.start();
        place.wait("settling done", || {
            let status = place.command("status").output().unwrap();
            String::from_utf8_lossy(&status.stdout).contains("idle")
        });
    }
    assert_eq!((place.states(), back.states()), (vec!["done".into()], vec!["skipped".into()]));
    assert_eq!(place.listing(), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
}

/// W40.
#[test]
fn two_daemons_on_one_share_work_every_clip_once_and_the_second_takes_over() {
    let mut first = Place::new();
    let mut second = partner(&first);
    for number in 0..3 {
        first.drop_clip(&small(&first, 40 * number), &format!("clip{number}.mp4"));
    }
    first.start();
    first.wait_ready();
    second.start();
    second.wait_ready();
    first.wait_ended(3);
    let done = hashes(&first);
    assert_eq!(done.len(), 6, "{}", first.log());
    second.wait("its queue", || second.states() == ["queued"; 3]);
    let status = second.command("status").output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let holder = format!("(process {},", first.child.as_ref().unwrap().id());
    assert!(
        status.contains("works with this output folder") && status.contains(&holder),
        "{status}"
    );
    assert_eq!(second.log().matches("works with this output folder").count(), 1, "said once");

    assert_eq!(first.terminate().code(), Some(0));
    second.wait_ended(3);
    assert_eq!(second.states(), ["duplicate"; 3], "{}", second.log());
    assert!(second.log().contains("taken over"));
    assert_eq!(hashes(&first), done, "nothing was done twice, nothing was added");
    first.drop_clip(&small(&first, 150), "late.mp4");
    second.wait_ended(4);
    assert_eq!(second.jobs()[3].state, "done");
    assert_eq!(hashes(&first).len(), 8);
}

/// W40.
#[test]
fn a_daemon_that_is_killed_at_work_is_replaced_and_comes_back_to_a_done_job() {
    let mut first = Place::with("", "factor = 16");
    let mut second = partner(&first);
    let faults = Faults::of(&first);
    first.drop_clip(&large(&first, 0), "long.mp4");
    start_at_work(&mut first, &faults);
    second.start();
    second.wait("refusal", || second.log().contains("works with this output folder"));
    first.kill();
    second.wait_ended(1);
    assert_eq!(second.states(), ["done"], "{}", second.log());
    let done = hashes(&first);
    assert_eq!(done.len(), 2);
    first.start();
    first.wait("refusal", || first.log().contains("works with this output folder"));
    assert_eq!(second.terminate().code(), Some(0));
    first.wait_ended(1);
    assert_eq!(first.states(), ["duplicate"], "{}", first.log());
    assert_eq!(hashes(&first), done);
    first.wait("a tidy folder", || first.listing().len() == 2);
}

/// W40.
#[test]
fn a_daemon_that_slept_while_its_lock_was_taken_away_does_not_publish() {
    let mut first = Place::with("", "factor = 16");
    let mut second = partner(&first);
    let faults = Faults::of(&first);
    first.drop_clip(&large(&first, 0), "long.mp4");
    start_at_work(&mut first, &faults);
    first.signal(Signal::STOP);
    faults.let_go();
    second.start();
    second.wait("refusal", || second.log().contains("works with this output folder"));
    assert!(first.listing().iter().all(|name| name.starts_with('.')), "nothing is published yet");
    // A person who thinks that the first is dead.
    fs::remove_file(first.path("out").join(LOCK_NAME)).unwrap();
    second.wait_ended(1);
    assert_eq!(second.states(), ["done"], "{}", second.log());
    let done = hashes(&first);
    first.signal(Signal::CONT);
    first.wait("the loss", || first.log().contains("lock of this output folder was lost"));
    first.wait("its queue", || first.states() == ["queued"]);
    assert_eq!(hashes(&first), done, "only the second published");
    assert_eq!(second.terminate().code(), Some(0));
    first.wait_ended(1);
    assert_eq!(first.states(), ["duplicate"], "{}", first.log());
    assert_eq!(hashes(&first), done);
}

/// The daemon of `place` in a mount namespace of its own, after `mounts`; `None` where the machine allows none.
fn start_with_mounts(place: &mut Place, mounts: &str) -> Option<()> {
    let allowed = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !allowed {
        skip("no mount namespaces here");
        return None;
    }
    let script =
        format!("set -e; cd {}; {mounts}; exec \"$0\" \"$@\"", place.folder.path().display());
    let daemon = place.command("daemon");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).arg(daemon.get_program()).args(daemon.get_args());
    place.spawn(command);
    Some(())
}

/// Shell words that make `name` read-only.
fn read_only(name: &str) -> String {
    format!("mount --bind {name} {name}; mount -o remount,ro,bind {name}")
}

/// W25.
#[test]
fn a_read_only_source_is_worked_and_a_read_only_output_is_waited_for() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    if start_with_mounts(&mut place, &read_only("in")).is_none() {
        return;
    }
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"], "{}", place.log());
    assert_eq!(fs::read_dir(place.path("in")).unwrap().count(), 1, "nothing is written beside it");
    assert_eq!(place.terminate().code(), Some(0));

    place.drop_clip(&small(&place, 90), "b.mp4");
    start_with_mounts(&mut place, &read_only("out")).unwrap();
    place.wait("its queue", || place.states() == ["done", "queued"]);
    place.wait("reason in status", || {
        let status = place.command("status").output().unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        text.contains("/out: cannot be written: Read-only file system")
    });
    assert_eq!(place.terminate().code(), Some(0));
    place.start();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
}

/// W34.
#[test]
fn a_journal_that_cannot_be_used_ends_the_daemon_with_a_reason_and_nothing_is_worked_again() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    place.terminate();
    let done = hashes(&place);
    let ends = |place: &mut Place, code: i32, word: &str| {
        assert_eq!(place.wait_end().code(), Some(code), "{}", place.log());
        assert!(place.log().contains(word), "{word}: {}", place.log());
        assert_eq!(hashes(place), done);
    };

    let raw = rusqlite::Connection::open(place.path("state").join(FILE_NAME)).unwrap();
    raw.execute_batch("BEGIN EXCLUSIVE").unwrap();
    place.start();
    ends(&mut place, 75, "the journal is locked by another program");
    raw.execute_batch("ROLLBACK").unwrap();
    drop(raw);

    if start_with_mounts(&mut place, &read_only("state")).is_some() {
        ends(&mut place, 73, "the state folder cannot be written");
        let full = "cp -r state kept; mount -t tmpfs -o size=1m tmpfs state; cp kept/* state; rm -r kept; \
                    cat /dev/zero > state/rubbish 2>/dev/null || true";
        start_with_mounts(&mut place, full).unwrap();
        ends(&mut place, 75, "the journal cannot be written just now");
    }
    place.start();
    place.drop_clip(&small(&place, 90), "b.mp4");
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
    assert!(done.iter().all(|(name, hash)| hashes(&place).get(name) == Some(hash)));
}

/// The history of a job is for people and programs.
#[test]
fn status_of_one_job_shows_its_history() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    let status = |arguments: &[&str]| place.command("status").args(arguments).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&status(&["1", "--json"]).stdout).unwrap();
    assert_eq!(json["job"]["state"], "done");
    let whats: Vec<_> =
        json["events"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["received", "claimed", "publishing", "done"]);
    let text = String::from_utf8(status(&["1"]).stdout).unwrap();
    assert!(text.contains("received") && text.contains("a_slow2x.mp4"), "{text}");
    assert_eq!(status(&["7"]).status.code(), Some(64));
}

fn touch(path: &std::path::Path) {
    fs::File::open(path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
}

/// W21. The same content with another list of cuts is other work, also where the list comes after the first work and the
/// clip is touched.
#[test]
fn the_same_content_with_another_list_of_cuts_is_worked_again() {
    let mut place = Place::with("", "cut_list = \".cuts\"");
    let clip = small(&place, 0);
    place.start();
    place.drop_clip(&clip, "a.mp4");
    place.wait_ended(1);
    let list = |name: &str, text: &str| fs::write(place.path("in").join(name), text).unwrap();
    list("b.mp4.cuts", "0.2\n");
    place.drop_clip(&clip, "b.mp4");
    place.wait_ended(2);
    list("c.mp4.cuts", "0.20 # the same cut\n");
    place.drop_clip(&clip, "c.mp4");
    place.wait_ended(3);
    assert_eq!(place.states(), ["done", "done", "duplicate"], "{}", place.log());
    assert_eq!(place.jobs()[2].duplicate_of, Some(2));
    list("a.mp4.cuts", "0.3\n");
    touch(&place.path("in/a.mp4"));
    place.wait_ended(4);
    assert_eq!(place.states()[3], "done", "{}", place.log());
    let hash = |name: &str| place.report(name).settings_sha256.unwrap();
    let hashes = ["a_slow2x.mp4.json", "b_slow2x.mp4.json", "a_slow2x~2.mp4.json"].map(hash);
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    // Touched again, nothing of it is new.
    touch(&place.path("in/a.mp4"));
    place.drop_clip(&small(&place, 90), "d.mp4");
    place.wait_ended(5);
    assert_eq!(place.states()[4], "done", "{}", place.log());
}

/// W20. As the README says.
#[test]
fn a_finished_clip_is_worked_again_once_output_and_report_are_gone_and_it_is_touched_or_copied() {
    let mut place = Place::new();
    let clip = small(&place, 0);
    place.start();
    place.drop_clip(&clip, "a.mp4");
    place.wait_ended(1);
    let again: [&dyn Fn(); 2] =
        [&|| touch(&place.path("in/a.mp4")), &|| place.drop_clip(&clip, "a.mp4")];
    for (number, again) in again.into_iter().enumerate() {
        for name in place.listing() {
            fs::remove_file(place.path("out").join(name)).unwrap();
        }
        again();
        place.wait_ended(number + 2);
        assert_eq!(place.listing(), ["a_slow2x.mp4", "a_slow2x.mp4.json"], "{}", place.log());
    }
    assert_eq!(place.states(), ["done"; 3], "{}", place.log());
}
