//! The whole daemon under faults: killed between any two steps, with full, failing and read-only file systems, files
//! that change under it, workers that crash and hang, clocks that jump. `make soak` mixes them for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod absent;
mod answers;
mod changes;
mod clocks;
mod elsewhere;
mod interrupted;
mod kills;
mod ledger;
mod mounts;
mod moves;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../daemon/place.rs"]
mod place;
mod rights;
#[allow(dead_code, reason = "other tests use what these do not")]
mod shim;
mod soak;
mod state;
mod storage;
mod workers;

use ledger::is_abandoned;
use place::{PATIENCE, Place};
use shim::Faults;
use std::time::{Duration, Instant};

/// A place whose daemon runs with the preloaded library.
fn faulty(daemon: &str, watch: &str) -> (Place, Faults) {
    let place = Place::with(daemon, watch);
    let faults = Faults::of(&place);
    (place, faults)
}

/// Starts the daemon so that its system calls can be made to fail.
fn start(place: &mut Place, faults: &Faults) {
    place.start_with(|command| faults.enter(command));
}

/// Waits until the running daemon has tidied up.
fn wait_tidy(place: &Place) {
    place.wait("tidy output folder", || is_tidy(place));
}

/// Nothing temporary lies where outputs are written.
fn is_tidy(place: &Place) -> bool {
    !place.listing().iter().any(|name| ledger::is_leftover(name))
}

/// Waits until there are `count` jobs, all have ended, and nothing temporary is left. A daemon that ends meanwhile is
/// started again, as the unit does it: the exit codes.
fn wait_ended_with_restarts(place: &mut Place, count: usize) -> Vec<Option<i32>> {
    let (begin, mut codes) = (Instant::now(), Vec::new());
    while !place.all_ended(count) || !is_tidy(place) {
        if place.child.as_mut().unwrap().try_wait().unwrap().is_some() {
            codes.push(place.wait_end().code());
            place.start();
        }
        assert!(begin.elapsed() < PATIENCE, "no end of all jobs: {codes:?}\n{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    codes
}

/// Whether no job is at work; then those that wait must take no space, and none may have failed.
fn is_at_rest(place: &Place) -> bool {
    let waiting = || {
        let jobs = place.jobs().into_iter().filter(|it| it.state != "done");
        jobs.map(|it| (it.job, it.attempt, it.state)).collect::<Vec<_>>()
    };
    let before = waiting();
    let is = |state: &str| before.iter().any(|it| it.2 == state);
    let left: Vec<_> = place.listing().into_iter().filter(|it| is_abandoned(it)).collect();
    // The next attempt may begin at any moment, and writes again.
    if is("running") || waiting() != before {
        return false;
    }
    let all_wait = before.iter().all(|it| it.2 == "queued" || it.2 == "publishing");
    assert!(all_wait, "{before:?}\n{}", place.log());
    assert!(is("publishing") || left.is_empty(), "{left:?} takes space\n{}", place.log());
    true
}

/// What `slomod status` says of the daemon.
fn status_line(place: &Place) -> String {
    let output = place.command("status").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A clip of 40 frames that is read bit by bit while it is worked: it is far larger than what waits between threads.
fn noisy(place: &Place, seed: u32) -> std::path::PathBuf {
    let path = place.path(&format!("noisy-{seed}.mp4"));
    let source = format!("testsrc2=size=320x240:rate=10,noise=all_seed={seed}:alls=60:allf=t");
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-frames:v", "40"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-pix_fmt", "yuv420p"])
        .arg(&path)
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success());
    path
}

/// Makes the outputs of `place` lossless, and so far larger than their sources.
fn lossless(place: &Place) {
    let path = place.path("slomod.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace("preset = \"ultrafast\"", "codec = \"ffv1\"");
    assert_ne!(text, changed);
    std::fs::write(path, changed).unwrap();
}
