//! Which folder a job's output goes to, where the journal knows other outputs round it or in it.

use crate::{CONTENT, Place, RESULT, good_report, good_worker, write_result};
use slomod::daemon::journal::Planned;
use slomod::daemon::output_lock::OutputLock;
use slomod::daemon::recover::finish_publications;
use std::fs;
use std::path::Path;

/// As the journal knows a folder that lay on a share.
const ELSEWHERE: &str = "6969:1:2";

/// W16. What was once the output, before its share was mounted, holds nothing up that goes to another folder, round it or
/// in it; the configured one still does.
#[test]
fn an_output_of_an_earlier_configuration_holds_up_no_job() {
    let place = Place::new(&good_worker(CONTENT));
    let (out, sub) = (&place.watch.output, place.watch.path.join("sub"));
    for earlier in [place.folder.path().to_owned(), out.join("sub")] {
        place.shop.journal().remember_output(&earlier, ELSEWHERE).unwrap();
    }
    place.shop.locks.look(out, &place.shop.journal).unwrap();
    place.attempt();
    assert_eq!(place.job().state, "done", "{:?}", place.job());
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("b.mp4"), CONTENT).unwrap();
    place.submit("sub/b.mp4");
    let aftermath = place.attempt();
    let last = || place.shop.journal().jobs(10).unwrap().pop().unwrap();
    assert_eq!(last().state, "duplicate", "{aftermath:?}");
    place.shop.journal().remember_output(out, ELSEWHERE).unwrap();
    fs::write(place.watch.path.join("c.mp4"), CONTENT).unwrap();
    place.submit("c.mp4");
    place.attempt();
    let job = last();
    assert!(job.state == "queued" && job.error_code.as_deref() == Some("io"), "{job:?}");
}

/// A publication that a dead daemon began, into the output folder as it is configured.
fn interrupted(place: &Place) -> Planned {
    let out = &place.watch.output;
    fs::create_dir_all(out).unwrap();
    let planned = Planned {
        temporary: out.join(".a_slow4x.1.1.slomod-tmp.mp4"),
        output: out.join("a_slow4x.mp4"),
        report_path: out.join("a_slow4x.mp4.json"),
        report: serde_json::to_string(&good_report(CONTENT)).unwrap(),
    };
    fs::write(&planned.temporary, RESULT).unwrap();
    let watch = place.watch.path.to_string_lossy();
    let claim = place.shop.journal().claim("dead", &[&watch], 2, 1).unwrap().unwrap();
    place.shop.journal().publishing(&claim, &planned).unwrap();
    planned
}

fn finish(place: &Place) {
    let interrupted = place.shop.journal().unpublished().unwrap();
    finish_publications(&place.shop, std::slice::from_ref(&place.watch), interrupted).unwrap();
}

/// W40. The folder's output is another one since its daemon died: what was on its way to the earlier one is published
/// there, under that folder's lock.
#[test]
fn a_publication_into_an_earlier_output_folder_takes_the_lock_of_that() {
    let mut place = Place::new("");
    let planned = interrupted(&place);
    let earlier = place.watch.output.clone();
    place.shop.locks.look(&earlier, &place.shop.journal).unwrap();
    drop(place.shop.locks.unwanted(|_| false));
    place.watch.output = place.folder.path().join("new");
    place.shop.locks.look(&place.watch.output, &place.shop.journal).unwrap();
    let other = OutputLock::take(&earlier).unwrap();
    finish(&place);
    assert_eq!(place.job().state, "publishing", "another daemon works there");
    drop(other);
    finish(&place);
    assert_eq!(place.job().state, "done");
    assert!(planned.report_path.exists());
    assert!(!earlier.join(".slomod.lock").exists(), "the lock is given back");
}

/// W16, W40. The same where something else lies in place of the earlier folder, or nobody knows which one it was.
#[test]
fn a_publication_into_an_earlier_output_folder_waits_while_that_is_not_there() {
    let mut place = Place::new("");
    interrupted(&place);
    let earlier = place.watch.output.clone();
    place.watch.output = place.folder.path().join("new");
    place.shop.locks.look(&place.watch.output, &place.shop.journal).unwrap();
    finish(&place);
    assert_eq!(place.job().state, "publishing", "its folder is not known");
    place.shop.journal().remember_output(&earlier, ELSEWHERE).unwrap();
    finish(&place);
    assert_eq!(place.job().state, "publishing", "it is another folder");
    assert!(!earlier.join(".slomod.lock").exists());
}

/// W23, W35. What a worker leaves cannot be removed: the verdict on its clip counts all the same.
#[test]
fn a_clip_that_takes_workers_down_is_refused_where_nothing_can_be_removed() {
    let unremovable = write_result() + "rm \"$t\"; mkdir -p \"$t/in\"; kill -SEGV $$";
    let place = Place::new(&unremovable);
    place.attempt();
    let job = place.job();
    let crashed = ("queued", Some("worker_crashed"));
    assert_eq!((job.state.as_str(), job.error_code.as_deref()), crashed);
    for name in place.listing() {
        fs::remove_dir_all(place.watch.output.join(name)).unwrap();
    }
    place.attempt();
    assert_eq!(place.job().state, "refused");
    assert!(Path::new(&place.job().report.unwrap()).exists());
}
