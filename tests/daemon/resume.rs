//! A long clip under a daemon that is stopped or killed: the next one goes on behind the segments that were finished.

use slomod::report::{Report, Status};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::place::*;
use crate::shim::{Action, Faults, OPEN_WRITE, Rule, WORKER, terminate_at_work};

/// Output frames of a segment at the most: those of the default rule, and one gap of 16.
const LONGEST_SEGMENT: u64 = 1800 + 16;

/// At 16 times, more than four segments.
fn long(place: &Place) -> PathBuf {
    clip(place.folder.path(), "256x144", 500, 0)
}

/// Names of the finished segments.
fn finished(place: &Place) -> Vec<PathBuf> {
    let Some(folder) = parts(place) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|it| it.path());
    let is_segment = |it: &PathBuf| {
        it.file_name().is_some_and(|name| name.to_string_lossy().starts_with('0'))
            && it.extension().is_some_and(|it| it == "json")
    };
    paths.filter(is_segment).collect()
}

/// The folder of segments, if there is one.
fn parts(place: &Place) -> Option<PathBuf> {
    let name = place.listing().into_iter().find(|name| name.ends_with(".parts"))?;
    Some(place.path("out").join(name))
}

/// A daemon at work on a long clip, held where `count` segments are finished.
fn at_work(count: usize) -> (Place, Faults) {
    let mut place = Place::with("", "factor = 16");
    let faults = Faults::of(&place);
    place.drop_clip(&long(&place), "long.mp4");
    go_on(&mut place, &faults, count);
    (place, faults)
}

/// Starts a daemon that is held where `count` segments are finished, as the next begins.
fn go_on(place: &mut Place, faults: &Faults, count: usize) {
    let next = format!("/{:04}.packets", count + 1);
    faults.hold(&Rule::new(OPEN_WRITE, next, Action::Hold).by(WORKER).once(1));
    place.start_with(|command| faults.enter(command));
    faults.wait_held(place);
    assert_eq!(finished(place).len(), count, "{}", place.log());
}

/// Starts the daemon again and waits for the result, which is like that of a run without a break.
fn finish(place: &mut Place) -> Report {
    place.start();
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"], "{}", place.log());
    assert_eq!(place.listing(), ["long_slow16x.mp4", "long_slow16x.mp4.json"]);
    let report = place.report("long_slow16x.mp4.json");
    assert_eq!(report.status, Status::Done);
    report
}

/// The hash of the output of a daemon that nobody disturbs: MP4 has no random numbers in it.
fn undisturbed() -> String {
    let mut place = Place::with("", "factor = 16");
    place.drop_clip(&long(&place), "long.mp4");
    let report = finish(&mut place);
    assert!(report.timing.resumed.is_empty());
    report.output.unwrap().sha256
}

/// W33.
#[test]
fn sigterm_in_a_long_clip_loses_one_segment_at_the_most() {
    let (mut place, faults) = at_work(2);
    assert_eq!(terminate_at_work(&mut place, &faults).code(), Some(0), "{}", place.log());
    assert_eq!(place.states(), ["queued"]);
    let kept = finished(&place).len() as u64;
    assert!(kept >= 2);
    assert_eq!(place.listing().len(), 1, "only the segments are left: {:?}", place.listing());
    let report = finish(&mut place);
    let resumed = report.timing.resumed;
    assert_eq!(resumed.len(), 1);
    assert_eq!(
        (resumed[0].segments, resumed[0].output_frame),
        (kept, 16 * resumed[0].source_frame)
    );
    let total = report.output.as_ref().unwrap().frames.total;
    assert!((1800 * kept..=LONGEST_SEGMENT * kept).contains(&resumed[0].output_frame));
    assert!(total > resumed[0].output_frame);
    assert!(place.log().contains("taken up behind"), "{}", place.log());
    assert_eq!(place.jobs()[0].attempt, 2);
    assert_eq!(report.output.unwrap().sha256, undisturbed(), "byte for byte");
}

/// W33, W32.
#[test]
fn sigkill_in_a_long_clip_loses_one_segment_at_the_most() {
    let (mut place, faults) = at_work(1);
    place.kill();
    assert_eq!(finished(&place).len(), 1);
    go_on(&mut place, &faults, 3);
    place.kill();
    assert_eq!(finished(&place).len(), 3);
    let report = finish(&mut place);
    let behind: Vec<u64> = report.timing.resumed.iter().map(|it| it.segments).collect();
    assert_eq!(behind, [1, 3], "nothing that was finished is made again");
    let ends: Vec<_> = report.attempts.iter().map(|it| it.code.as_deref()).collect();
    assert_eq!(ends, [Some("interrupted"), Some("interrupted"), None]);
    assert!(report.timing.queued.as_ref() <= Some(&report.attempts[0].started));
    assert_eq!(report.output.unwrap().sha256, undisturbed(), "byte for byte");
}

/// W32. On a card of FAT, and on some shares, files have other inodes after every mount.
#[test]
fn segments_of_a_clip_that_has_another_inode_after_a_restart_are_taken_up() {
    let (mut place, _) = at_work(1);
    place.kill();
    let clip = place.path("in/long.mp4");
    let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
    let before = inode(&clip);
    let status = Command::new("cp").arg("-p").args([&clip, &place.path("copy")]).status();
    assert!(status.unwrap().success());
    fs::rename(place.path("copy"), &clip).unwrap();
    assert_ne!(inode(&clip), before);
    let report = finish(&mut place);
    let behind: Vec<u64> = report.timing.resumed.iter().map(|it| it.segments).collect();
    assert_eq!(behind, [1], "{}", place.log());
    assert!(!place.log().contains("source_changed"), "{}", place.log());
}

#[test]
fn segments_of_a_clip_that_is_taken_away_are_removed() {
    let (mut place, faults) = at_work(1);
    terminate_at_work(&mut place, &faults);
    assert!(parts(&place).is_some());
    fs::remove_file(place.path("in/long.mp4")).unwrap();
    place.start();
    place.wait_ended(1);
    assert_eq!(place.states(), ["cancelled"]);
    place.wait("removal", || place.listing().is_empty());
}

#[test]
fn segments_of_other_settings_are_removed() {
    let (mut place, _) = at_work(1);
    place.kill();
    assert!(parts(&place).is_some());
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), config.replace("factor = 16", "factor = 2")).unwrap();
    place.start();
    place.wait_ended(1);
    assert_eq!(place.listing(), ["long_slow2x.mp4", "long_slow2x.mp4.json"]);
    assert!(place.report("long_slow2x.mp4.json").timing.resumed.is_empty());
}
