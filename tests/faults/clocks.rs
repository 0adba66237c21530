//! W12 and processes that stand still: the wall clock steps, the daemon is stopped and goes on.

use crate::answers::{drop_into_share, hang, ok, wait_done, with_share};
use crate::ledger::Ledger;
use crate::place::{clip, large, small};
use crate::shim::{Action, ENOSPC, GROWING, Rule, start_at_work};
use crate::workers::worker;
use crate::{faulty, start, status_line, wait_tidy};
use rustix::process::{Signal, kill_process};
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// W12. The wall clock is set back and forth by an hour: files settle, also one that is about to, and a job that waits for
/// its next try gets it.
#[test]
fn w12_a_step_of_the_clock_holds_no_file_and_no_job_up() {
    let (mut place, faults) = faulty("", "");
    let mut ledger = Ledger::default();
    start(&mut place, &faults);
    place.wait_ready();
    for (number, step_s) in [-3600, 3600, 0].into_iter().enumerate() {
        faults.set(0, &Rule::new(GROWING, "/out/", Action::Fail(ENOSPC)));
        let waited = place.log().matches("again in").count();
        let first = clip(place.folder.path(), "64x48", 6, 40 * number as u32);
        let name = format!("clip{number}.mp4");
        ledger.dropped(&name, &first, 12);
        place.drop_clip(&first, &name);
        place.wait("a try that has to wait", || place.log().matches("again in").count() > waited);
        let late = clip(place.folder.path(), "64x48", 6, 20 + 40 * number as u32);
        let name = format!("late{number}.mp4");
        ledger.dropped(&name, &late, 12);
        place.drop_clip(&late, &name);
        faults.set_clock(step_s);
        faults.clear();
        place.wait_ended(2 * number + 2);
    }
    assert_eq!(place.states(), ["done"; 6], "{}", place.log());
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W12. A daemon that starts with a clock far behind its journal's works what is there.
#[test]
fn w12_a_start_with_a_clock_behind_the_journal_goes_on() {
    let (mut place, faults) = faulty("", "factor = 16");
    let mut ledger = Ledger::default();
    let clip = large(&place, 0);
    ledger.dropped("a.mp4", &clip, 40 * 16);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(&mut place, &faults);
    place.kill();
    faults.let_go();
    faults.set_clock(-86_400);
    start(&mut place, &faults);
    place.wait_ended(1);
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W06, W12. A Flash video that lacks its half, which shows at work: neither a clock that is set ahead nor a restart ends
/// the time that it is waited for, and once its writer has finished, it is done.
#[test]
fn w12_a_step_of_the_clock_does_not_end_the_grace_time_of_a_half_copy() {
    let (mut place, faults) = faulty("unsized_settle = \"300ms\"", "");
    let whole = place.path("whole.flv");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(large(&place, 0))
        .args(["-c", "copy"])
        .arg(&whole)
        .status();
    assert!(status.unwrap().success());
    let bytes = fs::read(&whole).unwrap();
    fs::write(place.path("in/half.flv"), &bytes[..bytes.len() / 2]).unwrap();
    start(&mut place, &faults);
    let tries = || place.jobs().first().map_or(0, |it| it.attempt);
    let lacks_its_end =
        || place.jobs().iter().any(|it| it.error_code.as_deref() == Some("truncated"));
    place.wait("the lack at work", lacks_its_end);
    let before = tries();
    faults.set_clock(3600);
    place.wait("another try", || tries() > before && place.states() != ["running"]);
    assert_eq!(place.states(), ["queued"], "{}", place.log());
    fs::write(place.path("in/half.flv"), bytes).unwrap();
    place.wait_ended(2);
    let mut states = place.states();
    states.sort();
    assert_eq!(states, ["cancelled", "done"], "{}", place.log());
}

/// Daemon and worker stand still for longer than a worker may be silent (a frozen service): neither worker nor clip is
/// blamed.
#[test]
fn a_service_that_stood_still_does_not_take_its_worker_for_hung() {
    let (mut place, faults) = faulty("stall_timeout = \"10s\"", "factor = 16");
    let mut ledger = Ledger::default();
    let clip = large(&place, 0);
    ledger.dropped("a.mp4", &clip, 40 * 16);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(&mut place, &faults);
    let worker = worker(&place);
    kill_process(worker, Signal::STOP).unwrap();
    place.signal(Signal::STOP);
    faults.let_go();
    // Past the end of the ten seconds, and as much as a timer may be late.
    std::thread::sleep(Duration::from_secs(15));
    place.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    kill_process(worker, Signal::CONT).unwrap();
    place.wait_ended(1);
    let job = &place.jobs()[0];
    assert_eq!((job.state.as_str(), job.attempt), ("done", 1), "{}", place.log());
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// A daemon that alone stood still finds what its worker did meanwhile.
#[test]
fn a_daemon_that_stood_still_goes_on() {
    let (mut place, faults) = faulty("stall_timeout = \"10s\"", "factor = 16");
    let mut ledger = Ledger::default();
    let clip = large(&place, 0);
    ledger.dropped("a.mp4", &clip, 40 * 16);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(&mut place, &faults);
    place.signal(Signal::STOP);
    faults.let_go();
    let next = small(&place, 60);
    ledger.dropped("b.mp4", &next, 6 * 16);
    place.drop_clip(&next, "b.mp4");
    std::thread::sleep(Duration::from_secs(15));
    place.signal(Signal::CONT);
    place.wait_ended(2);
    assert!(place.jobs().iter().all(|it| it.state == "done" && it.attempt == 1), "{}", place.log());
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W12, W16. A machine whose clock has lost its battery: a share hangs while it is a year before 1970. The status says since
/// when, the other folder is worked, and so is the share's once it answers.
#[test]
fn w12_a_share_that_hangs_before_1970_is_said() {
    let (mut place, faults) = with_share("");
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    faults.set_clock(-since_1970.cast_signed() - 31_536_000);
    drop_into_share(&place, &small(&place, 0), "a.mp4");
    hang(&faults, "/share");
    start(&mut place, &faults);
    place.wait_ready();
    place.wait("status", || status_line(&place).contains("/share does not answer since 1969-"));
    place.drop_clip(&small(&place, 60), "b.mp4");
    wait_done(&place, "b.mp4");
    ok(&place, "reload");
    faults.clear();
    wait_done(&place, "a.mp4");
    assert_eq!(place.terminate().code(), Some(0), "{}", place.log());
}
