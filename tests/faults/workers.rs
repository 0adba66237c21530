//! W35, W36: workers that crash, hang, stand still and are killed.

use crate::ledger::Ledger;
use crate::place::{Place, large, small};
use crate::shim::{Action, GROWING, OPEN_READ, READ, Rule, WORKER, start_at_work};
use crate::{faulty, is_at_rest, noisy, start, wait_tidy};
use rustix::process::{Pid, Signal, kill_process};
use slomod::report::Status;
use std::fs;

/// The workers of the daemon, by what the system says of its children.
pub fn workers(place: &Place) -> Vec<Pid> {
    let daemon = place.child.as_ref().unwrap().id();
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{daemon}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|it| it.parse().ok());
        found.extend(pids.filter_map(Pid::from_raw));
    }
    found
}

/// The worker of the running job, which is held.
pub fn worker(place: &Place) -> Pid {
    let workers = workers(place);
    assert_eq!(workers.len(), 1, "{}", place.log());
    workers[0]
}

fn refused_after_two_attempts(place: &Place, source: &str, code: &str) {
    let jobs = place.jobs();
    let job = jobs.iter().find(|it| it.source.ends_with(source)).unwrap();
    assert_eq!((job.state.as_str(), job.attempt), ("refused", 2), "{}", place.log());
    assert_eq!(job.error_code.as_deref(), Some(code));
    let report = place.report(&format!("{}.refused.json", source.trim_start_matches('/')));
    assert_eq!(report.status, Status::Refused);
    assert_eq!(report.errors[0].code, code);
    assert!(report.source.sha256.is_some());
}

/// W35. A clip that crashes the decoder, or the reading of which ends the worker by SIGBUS in mid clip, gets two attempts,
/// then is refused with a report; the next clips are done, and a restart does not try it again.
#[test]
fn w35_a_clip_that_crashes_the_worker_is_refused_after_two_attempts_and_the_next_is_done() {
    let (mut place, faults) = faulty("", "");
    let mut ledger = Ledger::default();
    // In the middle of the conversion, after the probe let it through.
    faults.set(0, &Rule::new(GROWING, "/out/.crash", Action::Abort).by(WORKER));
    let (cut, poison, good) = (noisy(&place, 1), small(&place, 0), small(&place, 90));
    ledger.dropped("cut.mp4", &cut, 0);
    ledger.dropped("crash.mp4", &poison, 0);
    ledger.dropped("good.mp4", &good, 12);
    place.drop_clip(&cut, "cut.mp4");
    start_at_work(&mut place, &faults);
    faults.set(1, &Rule::new(READ, "/in/cut", Action::BusError).by(WORKER));
    place.drop_clip(&poison, "crash.mp4");
    faults.let_go();
    place.wait("crash", || faults.fired(0) > 0);
    place.drop_clip(&good, "good.mp4");
    place.wait_ended(3);
    wait_tidy(&place);
    refused_after_two_attempts(&place, "/crash.mp4", "worker_crashed");
    refused_after_two_attempts(&place, "/cut.mp4", "worker_crashed");
    let log = place.log();
    assert!(log.contains("signal: 6") && log.contains("signal: 7"), "{log}");
    ledger.check_end(&place);
    assert_eq!(place.terminate().code(), Some(0));
    start(&mut place, &faults);
    let last = small(&place, 150);
    ledger.dropped("last.mp4", &last, 12);
    place.drop_clip(&last, "last.mp4");
    place.wait_ended(4);
    assert_eq!((faults.fired(0), faults.fired(1)), (2, 2), "tried again after the restart");
    ledger.check_end(&place);
}

/// W35. A clip that crashes already the probe is waited for (it may be half a copy), then refused after two attempts.
#[test]
fn w35_a_clip_that_crashes_the_probe_is_refused_after_the_grace_time() {
    let (mut place, faults) = faulty("grace = \"1s\"", "");
    let mut ledger = Ledger::default();
    faults.set(0, &Rule::new(OPEN_READ, "/in/crash", Action::Abort).by(WORKER));
    let (poison, good) = (small(&place, 0), small(&place, 90));
    ledger.dropped("crash.mp4", &poison, 0);
    ledger.dropped("good.mp4", &good, 12);
    place.drop_clip(&poison, "crash.mp4");
    place.drop_clip(&good, "good.mp4");
    start(&mut place, &faults);
    place.wait_ended(2);
    refused_after_two_attempts(&place, "/crash.mp4", "worker_crashed");
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W36. Two clips that hang already the probe, which takes both places of those who look into files: each is given up after
/// the time that a worker may be silent, and the good one behind them is done.
#[test]
fn w36_clips_that_hang_the_probe_hold_up_no_other_and_are_refused() {
    let (mut place, faults) = faulty("grace = \"1s\"\nstall_timeout = \"3s\"", "");
    let mut ledger = Ledger::default();
    faults.set(0, &Rule::new(OPEN_READ, "/in/hang", Action::Hang).by(WORKER));
    for (number, name) in ["hang1.mp4", "hang2.mp4"].into_iter().enumerate() {
        let poison = small(&place, 30 * number as u32);
        ledger.dropped(name, &poison, 0);
        place.drop_clip(&poison, name);
    }
    start(&mut place, &faults);
    place.wait("hanging probes", || faults.fired(0) >= 2);
    let good = small(&place, 90);
    ledger.dropped("good.mp4", &good, 12);
    place.drop_clip(&good, "good.mp4");
    place.wait_ended(3);
    refused_after_two_attempts(&place, "/hang1.mp4", "worker_hung");
    refused_after_two_attempts(&place, "/hang2.mp4", "worker_hung");
    assert!(place.log().contains("opening it took more than 3 s"), "{}", place.log());
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W35, W36. A source of which a reading in mid clip never returns: the worker is found by its lack of progress and killed;
/// twice, and the clip is refused. The next is done.
#[test]
fn w36_a_clip_that_hangs_the_worker_is_refused_after_two_attempts_and_the_next_is_done() {
    let (mut place, faults) = faulty("stall_timeout = \"10s\"", "");
    let mut ledger = Ledger::default();
    let (poison, good) = (noisy(&place, 1), small(&place, 90));
    ledger.dropped("hang.mp4", &poison, 0);
    ledger.dropped("good.mp4", &good, 12);
    place.drop_clip(&poison, "hang.mp4");
    start_at_work(&mut place, &faults);
    faults.set(0, &Rule::new(READ, "/in/hang", Action::Hang).by(WORKER));
    faults.let_go();
    place.wait("hang", || faults.fired(0) > 0);
    place.drop_clip(&good, "good.mp4");
    place.wait_ended(2);
    wait_tidy(&place);
    refused_after_two_attempts(&place, "/hang.mp4", "worker_hung");
    ledger.check_end(&place);
}

/// W36. A worker that is stopped (SIGSTOP) in the middle is found by its lack of progress, killed, and its clip is done by
/// the next attempt.
#[test]
fn w36_a_worker_that_stands_still_is_killed_and_its_clip_is_done_by_the_next() {
    let (mut place, faults) = faulty("stall_timeout = \"10s\"", "factor = 8");
    let mut ledger = Ledger::default();
    let clip = large(&place, 0);
    ledger.dropped("a.mp4", &clip, 40 * 8);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(&mut place, &faults);
    kill_process(worker(&place), Signal::STOP).unwrap();
    // Now only the signal keeps it.
    faults.let_go();
    place.wait_ended(1);
    wait_tidy(&place);
    let job = &place.jobs()[0];
    assert_eq!((job.state.as_str(), job.attempt), ("done", 2), "{}", place.log());
    assert!(place.log().contains("no progress for 10 s"), "{}", place.log());
    ledger.check_end(&place);
}

/// A worker that the system kills (memory is short) is no fault of its clip: it is tried again, with nothing left behind.
#[test]
fn a_worker_that_is_killed_from_outside_does_not_get_its_clip_refused() {
    let (mut place, faults) = faulty("", "factor = 8");
    let mut ledger = Ledger::default();
    let clip = large(&place, 0);
    ledger.dropped("a.mp4", &clip, 40 * 8);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(&mut place, &faults);
    for kills in 1..=2 {
        faults.wait_held(&place);
        let victim = worker(&place);
        if kills == 1 {
            faults.hold_worker();
        }
        kill_process(victim, Signal::KILL).unwrap();
        let told = || place.log().matches("signal: 9").count() >= kills;
        place.wait("word of it", told);
        // Where the test was so slow that the next attempt is held already, there is nothing to see.
        let next_began = || place.jobs()[0].attempt > kills as i64;
        place.wait("look between attempts", || is_at_rest(&place) || next_began());
    }
    place.wait_ended(1);
    let job = &place.jobs()[0];
    assert_eq!((job.state.as_str(), job.attempt), ("done", 3), "{}", place.log());
    ledger.check_end(&place);
}

/// W32. The workers of a killed daemon die with it, whatever they do.
#[test]
fn w32_no_worker_outlives_its_daemon() {
    let (mut place, faults) = faulty("", "factor = 16");
    let clip = large(&place, 0);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(&mut place, &faults);
    let worker = worker(&place).as_raw_nonzero();
    // It never ends by itself: nobody lets it go.
    place.kill();
    place.wait("end of the worker", || {
        // A zombie has ended; who inherits it may not have noticed.
        let status = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        status.is_empty() || status.contains(") Z ")
    });
}
