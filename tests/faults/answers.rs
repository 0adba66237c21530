//! Shares whose server is gone: whoever asks them waits for minutes or for good. Here calls on their paths are held.

use crate::faulty;
use crate::ledger::{Ledger, is_leftover};
use crate::place::{Place, clip, large, small};
use crate::shim::{
    Action, BOTH, DAEMON, ENOSPC, Faults, GROWING, OPEN_READ, OPEN_WRITE, Rule, STAT, UNLINK,
    WATCH, WORKER, WRITE,
};
use crate::{start, status_line};
use rustix::process::Signal;
use slomod::report::Status;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// As the daemon logs it.
const HUNG: &str = "does not answer since";

/// A place with a second watched folder, `share`, whose outputs go to `share-out`.
pub fn with_share(daemon: &str) -> (Place, Faults) {
    let (place, faults) = faulty(daemon, "");
    let config = place.path("slomod.toml");
    let text = fs::read_to_string(&config).unwrap();
    let second = text[text.find("[[watch]]").unwrap()..].to_owned();
    let root = place.folder.path().to_str().unwrap();
    let second = second
        .replace(&format!("{root}/in\""), &format!("{root}/share\""))
        .replace(&format!("{root}/out\""), &format!("{root}/share-out\""));
    fs::write(config, text + &second).unwrap();
    fs::create_dir(place.path("share")).unwrap();
    (place, faults)
}

/// No call of the daemon on paths with `name` returns.
pub fn hang(faults: &Faults, name: &str) {
    faults.set(0, &Rule::new(STAT | OPEN_READ, name, Action::Hold).by(DAEMON));
}

pub fn drop_into_share(place: &Place, clip: &Path, name: &str) {
    fs::copy(clip, place.path("incoming")).unwrap();
    fs::rename(place.path("incoming"), place.path("share").join(name)).unwrap();
}

fn state_of(place: &Place, name: &str) -> Option<String> {
    place.jobs().into_iter().find(|it| it.source.ends_with(name)).map(|it| it.state)
}

pub fn wait_done(place: &Place, name: &str) {
    place.wait(name, || state_of(place, name).as_deref() == Some("done"));
}

pub fn ok(place: &Place, subcommand: &str) -> String {
    let output = place.command(subcommand).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{subcommand}: {said}\n{}", place.log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The clips of the share have one output each, and nothing else lies there.
pub fn check_share(place: &Place, clips: usize) {
    let mut names: Vec<String> = fs::read_dir(place.path("share-out"))
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(!names.iter().any(|it| is_leftover(it)), "{names:?}\n{}", place.log());
    let reports: Vec<_> = names.iter().filter(|it| it.ends_with(".json")).collect();
    assert_eq!(reports.len(), clips, "{names:?}\n{}", place.log());
    for name in reports {
        let report = crate::place::schema::read(&place.path("share-out").join(name));
        assert_eq!(report.status, Status::Done);
        assert!(Path::new(&report.output.unwrap().path).is_file());
    }
}

/// W16. A share that hangs already at the start: the daemon is ready all the same, works the other folder, says what it
/// waits for, once, reloads, and does the clip of the share when that answers. `slomod check` ends and says it, too.
#[test]
fn w16_a_folder_that_hangs_holds_up_no_other_and_is_worked_once_it_answers() {
    let (mut place, faults) = with_share("");
    let mut ledger = Ledger::default();
    let (first, second, third) = (small(&place, 0), small(&place, 60), small(&place, 120));
    drop_into_share(&place, &first, "first.mp4");
    hang(&faults, "/share");
    start(&mut place, &faults);
    place.wait_ready();
    ledger.dropped("second.mp4", &second, 12);
    place.drop_clip(&second, "second.mp4");
    wait_done(&place, "second.mp4");
    place.wait("word of it", || place.log().contains(HUNG));
    place.wait("status", || status_line(&place).contains("/share does not answer since"));
    assert!(status_line(&place).contains("  hung "), "{}", status_line(&place));
    assert!(ok(&place, "metrics").contains("slomod_watches{state=\"hung\"} 1\n"));
    assert!(ok(&place, "metrics").contains("\nslomod_degraded 1\n"));
    // As the unit's ExecStartPre= asks, which may not hold the start up either.
    fs::create_dir_all(place.path("share-out")).unwrap();
    faults.set(1, &Rule::new(OPEN_WRITE, "/share-out", Action::Hold).by(DAEMON));
    let mut command = place.command("check");
    let check = faults.enter(&mut command).output().unwrap();
    let found = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(75), "{found}");
    assert!(found.contains("/share-out (output): does not answer within 5 s"), "{found}");
    assert!(found.contains("/out (output): ") && found.contains("ok    model"), "{found}");
    faults.remove(1);
    ok(&place, "reload");
    ok(&place, "rescan");
    ledger.dropped("third.mp4", &third, 12);
    place.drop_clip(&third, "third.mp4");
    wait_done(&place, "third.mp4");
    let said = |what: &str| {
        let log = place.log();
        log.lines().filter(|it| it.contains("/share: ") && it.contains(what)).count()
    };
    assert_eq!((said(HUNG), state_of(&place, "first.mp4")), (1, None), "{}", place.log());
    faults.clear();
    wait_done(&place, "first.mp4");
    assert_eq!(said("answers again"), 1, "{}", place.log());
    place.wait("all is well", || !status_line(&place).contains("DEGRADED"));
    // It is known already, and hangs where its change events are asked for.
    faults.set(0, &Rule::new(WATCH, "/share", Action::Hold).by(DAEMON));
    ok(&place, "rescan");
    place.wait("word of it", || said(HUNG) == 2);
    let fourth = small(&place, 180);
    ledger.dropped("fourth.mp4", &fourth, 12);
    place.drop_clip(&fourth, "fourth.mp4");
    wait_done(&place, "fourth.mp4");
    assert!(!place.log().contains("/in: does not answer"), "{}", place.log());
    faults.clear();
    place.wait("all is well", || said("answers again") == 2);
    assert_eq!(place.terminate().code(), Some(0));
    ledger.check_end(&place);
    check_share(&place, 1);
}

/// W16. Weights on a share that hangs, at the start and under a job: the folder that needs them waits and says what for, the
/// other is worked; once they are there, so is the first, whose clips did nothing wrong.
#[test]
fn w16_weights_that_hang_hold_up_no_other_folder_and_no_clip_is_blamed() {
    let (mut place, faults) = with_share("stall_timeout = \"20s\"");
    let (starter, weights) = (
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter.safetensors"),
        place.path("nas/weights.safetensors"),
    );
    fs::create_dir(place.path("nas")).unwrap();
    fs::copy(starter, &weights).unwrap();
    let config = place.path("slomod.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}model = \"{}\"\n", weights.display())).unwrap();
    let mut ledger = Ledger::default();
    let (first, second, third) = (small(&place, 0), small(&place, 60), small(&place, 120));
    drop_into_share(&place, &first, "first.mp4");
    let all = Rule::new(STAT | OPEN_READ, "/nas/", Action::Hold);
    faults.set(0, &all.clone().by(BOTH));
    start(&mut place, &faults);
    place.wait_ready();
    ledger.dropped("second.mp4", &second, 12);
    place.drop_clip(&second, "second.mp4");
    wait_done(&place, "second.mp4");
    let waits = format!("(waiting for {})", weights.display());
    let says = || place.log().lines().any(|it| it.contains("/share: ") && it.contains(&waits));
    place.wait("word of it", says);
    assert!(status_line(&place).contains("  hung "), "{}", status_line(&place));
    // As the unit's ExecStartPre= asks.
    let check = faults.enter(&mut place.command("check")).output().unwrap();
    let found = String::from_utf8_lossy(&check.stdout).into_owned();
    let silent = format!("{}: does not answer within 5 s", weights.display());
    assert!(check.status.code() == Some(75) && found.contains(&silent), "{found}");
    let reload = place.command("reload").output().unwrap();
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(!reload.status.success() && said.contains("weights do not answer"), "{said}");
    assert_ne!(state_of(&place, "first.mp4").as_deref(), Some("running"));
    faults.clear();
    wait_done(&place, "first.mp4");
    place.wait("answer", || place.log().contains("/share: answers again"));
    faults.set(0, &all.clone().by(WORKER));
    drop_into_share(&place, &third, "third.mp4");
    place.wait("worker at the weights", || faults.fired(0) > 0);
    faults.set(1, &all.by(DAEMON));
    place.wait("word of it", || place.log().contains("set aside"));
    faults.clear();
    wait_done(&place, "third.mp4");
    assert!(!place.log().contains("worker_hung"), "{}", place.log());
    assert_eq!(place.terminate().code(), Some(0));
    ledger.check_end(&place);
    check_share(&place, 2);
}

/// A worker that stands still while it writes `long.mp4`'s output, which hangs for the daemon too from now on.
fn hung_under_a_job(settings: &str) -> (Place, Faults) {
    let (mut place, faults) = with_share(settings);
    drop_into_share(&place, &large(&place, 0), "long.mp4");
    faults.hold(&Rule::new(WRITE, "/share-out/", Action::Hold).by(WORKER).once(3));
    start(&mut place, &faults);
    faults.wait_held(&place);
    hang(&faults, "/share-out");
    (place, faults)
}

/// A clip of the other folder is done meanwhile.
fn one_elsewhere(place: &Place) -> Ledger {
    let (mut ledger, short) = (Ledger::default(), small(place, 60));
    ledger.dropped("short.mp4", &short, 12);
    place.drop_clip(&short, "short.mp4");
    wait_done(place, "short.mp4");
    ledger
}

/// W36. The output hangs under a job, its worker and the daemon's own calls: the job is set aside, the next folder's is
/// done meanwhile, and the clip of the share later, as if nothing had been; that it hung is not counted against it.
#[test]
fn w36_a_job_whose_output_hangs_is_set_aside_and_done_once_it_answers() {
    let (mut place, faults) = hung_under_a_job("stall_timeout = \"10s\"");
    place.wait("word of it", || place.log().contains("set aside"));
    let mut ledger = one_elsewhere(&place);
    let status = status_line(&place);
    assert!(status.contains("/share-out: does not answer since"), "{status}");
    assert!(status.contains("(long.mp4) is set aside until its folder answers"), "{status}");
    assert_eq!(state_of(&place, "long.mp4").as_deref(), Some("running"));
    faults.clear();
    faults.let_go();
    wait_done(&place, "long.mp4");
    let job = place.jobs().into_iter().find(|it| it.source.ends_with("long.mp4")).unwrap();
    assert!(job.attempt <= 2, "{job:?}");
    assert!(!place.log().contains("worker_hung"), "{}", place.log());
    assert_eq!(place.terminate().code(), Some(0));
    ledger.check_end(&place);
    check_share(&place, 1);
}

/// W36. A job of a folder that hangs is to be cancelled, before it is set aside and after: who asks is told that this waits
/// for the folder, and once that answers the job is cancelled.
#[test]
fn w36_a_job_whose_output_hangs_is_cancelled_once_it_answers() {
    let (mut place, faults) = hung_under_a_job("stall_timeout = \"10s\"");
    for when in ["before", "after"] {
        let asked = place.command("cancel").arg("1").output().unwrap();
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        let waits = said.contains("cancelled as soon as its folder answers");
        assert!(asked.status.code() == Some(75) && waits, "{when}: {said}\n{}", place.log());
        assert!(place.log().contains("set aside"), "{when}");
    }
    let status = status_line(&place);
    assert!(status.contains("set aside until its folder answers, and cancelled then"), "{status}");
    let mut ledger = one_elsewhere(&place);
    faults.clear();
    faults.let_go();
    place.wait("end of it", || state_of(&place, "long.mp4").as_deref() == Some("cancelled"));
    assert_eq!(place.command("retry").arg("1").status().unwrap().code(), Some(0));
    wait_done(&place, "long.mp4");
    assert_eq!(place.terminate().code(), Some(0));
    ledger.check_end(&place);
    check_share(&place, 1);
}

/// W36. A job's output hangs where the daemon itself stood still just before its worker's time is over, so that it does not know yet
/// that the output hangs: it asks before it blames the clip.
#[test]
fn w36_a_daemon_that_stood_still_asks_the_folders_before_it_blames_a_clip() {
    let (mut place, faults) = with_share("stall_timeout = \"9s\"");
    drop_into_share(&place, &large(&place, 0), "long.mp4");
    faults.hold(&Rule::new(WRITE, "/share-out/", Action::Hold).by(WORKER).once(3));
    start(&mut place, &faults);
    faults.wait_held(&place);
    // Four seconds of work are nothing to a worker; then nobody looks until its nine are over.
    std::thread::sleep(Duration::from_secs(4));
    place.signal(Signal::STOP);
    hang(&faults, "/share-out");
    std::thread::sleep(Duration::from_secs(6));
    place.signal(Signal::CONT);
    let judged = || place.log().contains("no progress for") || place.log().contains("set aside");
    place.wait("a verdict", judged);
    assert!(!place.log().contains("no progress for 9 s; again"), "{}", place.log());
    faults.clear();
    faults.let_go();
    wait_done(&place, "long.mp4");
    assert_eq!(place.terminate().code(), Some(0));
    check_share(&place, 1);
}

/// W26, W36. A daemon ends for want of its journal while an output hangs: it does not wait for that to give the lock back.
#[test]
fn w26_a_daemon_ends_for_want_of_its_journal_though_an_output_hangs() {
    let (mut place, faults) = with_share("");
    start(&mut place, &faults);
    place.wait_ready();
    faults.set(0, &Rule::new(UNLINK, "/share-out/", Action::Hold).by(DAEMON));
    faults.set(1, &Rule::new(GROWING, "/state/", Action::Fail(ENOSPC)).by(DAEMON));
    place.drop_clip(&small(&place, 60), "a.mp4");
    let code = place.wait_end().code();
    assert!(matches!(code, Some(73 | 75)), "{code:?}\n{}", place.log());
    faults.clear();
    place.start();
    wait_done(&place, "a.mp4");
    assert_eq!(place.terminate().code(), Some(0));
    check_share(&place, 0);
}

/// W33. The daemon hangs in the middle of a publication, where no worker can be ended: it works on, and a stop ends it
/// within its time. The next start completes what was begun, once.
#[test]
fn w33_a_stop_ends_the_daemon_though_a_publication_hangs() {
    let (mut place, faults) = hung_under_a_job("");
    // Its worker goes on: it has no part in this.
    faults.let_go();
    let mut ledger = one_elsewhere(&place);
    assert_eq!(place.terminate().code(), Some(0), "{}", place.log());
    assert!(!place.log().contains("panicked"), "{}", place.log());
    faults.clear();
    place.start();
    wait_done(&place, "long.mp4");
    assert_eq!(place.terminate().code(), Some(0));
    ledger.check_end(&place);
    check_share(&place, 1);
}

/// Beside a long clip, the files of other folders are seen, looked into and queued, and the status shows them.
#[test]
fn files_of_other_folders_are_queued_beside_a_running_job() {
    let (mut place, faults) = with_share("");
    let long = large(&place, 0);
    place.drop_clip(&long, "long.mp4");
    faults.hold_worker();
    start(&mut place, &faults);
    faults.wait_held(&place);
    for number in 0..4 {
        let clip = clip(place.folder.path(), "64x48", 6, 20 + number * 40);
        drop_into_share(&place, &clip, &format!("{number}.mp4"));
    }
    place.wait("jobs", || place.states().iter().filter(|it| *it == "queued").count() == 4);
    let status = status_line(&place);
    assert!(status.contains("queue 4") || status.contains("queued 4"), "{status}");
    assert_eq!(state_of(&place, "long.mp4").as_deref(), Some("running"));
    faults.let_go();
    place.wait_ended(5);
    assert_eq!(place.states(), ["done"; 5], "{}", place.log());
}
