//! W24, W25, W26: calls on sources, outputs and the journal fail, one by one and for a while.

use crate::ledger::{Ledger, WITH_BESIDE};
use crate::place::{Place, clip, large, small};
use crate::shim::{
    Action, DAEMON, EBUSY, EDQUOT, EIO, ENOSPC, EROFS, ESTALE, Faults, GROWING, OPEN_READ, READ,
    Rule, STAT, UNLINK, WORKER, WRITE, start_at_work,
};
use crate::{faulty, is_at_rest, noisy, start, status_line, wait_ended_with_restarts, wait_tidy};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Drops a small clip of its own content as `clipN.mp4`.
fn drop_number(place: &Place, ledger: &mut Ledger, number: u64) -> PathBuf {
    let clip = clip(place.folder.path(), "64x48", 6, number as u32 * 3);
    let name = format!("clip{number}.mp4");
    ledger.dropped(&name, &clip, 12);
    place.drop_clip(&clip, &name);
    clip
}

fn state_of(place: &Place, number: u64) -> Option<String> {
    let ending = format!("/in/clip{number}.mp4");
    place.jobs().into_iter().find(|it| it.source.ends_with(&ending)).map(|it| it.state)
}

/// Works clips, of which the first meets the first call of `rule` that fails, the second the second, and so on, until
/// one gets through untouched. `during` is called while the calls fail, and ends that.
fn one_by_one(place: &Place, faults: &Faults, rule: &Rule, during: &mut dyn FnMut(u64)) -> u64 {
    let mut ledger = Ledger::default();
    for number in 1.. {
        faults.set(0, &Rule { from: number, ..rule.clone() });
        drop_number(place, &mut ledger, number);
        let done = || state_of(place, number).as_deref() == Some("done");
        place.wait("fault or end", || faults.fired(0) > 0 || done());
        let failed = faults.fired(0);
        if failed > 0 {
            during(number);
            ledger.check_visible(place);
            place.wait("end of the job", done);
        }
        faults.clear();
        wait_tidy(place);
        ledger.check_visible(place);
        if failed == 0 {
            ledger.check_end(place);
            return number - 1;
        }
    }
    unreachable!("a clip that meets no fault ends this")
}

/// Each of these calls on `path` fails once with this error, a daemon for each of them: most of the time is pauses.
fn each_once(path: &str, errors: [(u32, i32); 3]) {
    std::thread::scope(|scope| {
        for (operations, error) in errors {
            scope.spawn(move || {
                let (mut place, faults) = faulty("", "");
                start(&mut place, &faults);
                place.wait_ready();
                let rule = Rule::new(operations, path, Action::Fail(error)).once(1);
                let calls = one_by_one(&place, &faults, &rule, &mut |_| {});
                println!("error {error}: {calls} calls");
                assert!(calls >= 3, "{calls}");
            });
        }
    });
}

/// W26. From the n-th growing call on, for every n of a job (opening, each write, trailer, synchronisation, rename,
/// report, and all that lies beside the output), the disk is full: nothing partial is seen, the source is untouched, the
/// folder is paused with its reason in the status, and goes on by itself once there is space.
#[test]
fn w26_full_at_every_write_a_job_waits_and_goes_on_once_there_is_space() {
    std::thread::scope(|scope| {
        scope.spawn(|| full_at_every_write("", "/out/"));
        scope.spawn(|| full_at_every_write(WITH_BESIDE, ".beside"));
    });
}

/// The calls are those on paths that contain `path`.
fn full_at_every_write(watch: &str, path: &str) {
    let (mut place, faults) = faulty("", watch);
    start(&mut place, &faults);
    place.wait_ready();
    let mut waited = 0;
    let rule = Rule::new(GROWING, path, Action::Fail(ENOSPC));
    let calls = one_by_one(&place, &faults, &rule, &mut |number| {
        let paused = || place.log().matches("paused for").count() > waited;
        place.wait("pause", paused);
        waited = place.log().matches("paused for").count();
        place.wait("reason in the status", || status_line(&place).contains("No space left"));
        place.wait("pause", || is_at_rest(&place));
        assert_ne!(state_of(&place, number).as_deref(), Some("done"), "{}", place.log());
        faults.clear();
    });
    println!("{calls} calls of a job on *{path}* can meet a full disk");
    assert!(calls >= 8, "{calls}");
    assert_eq!(place.terminate().code(), Some(0));
}

/// W26. The disk is full while a long clip's segments are written: the first, its record, the second, and the note that a
/// next attempt took them up. The finished ones are taken up once there is space.
#[test]
fn w26_full_at_a_segment_the_finished_ones_are_taken_up() {
    let (mut place, faults) = faulty("", "factor = 3");
    let mut ledger = Ledger::default();
    start(&mut place, &faults);
    place.wait_ready();
    let files = ["/0001.packets", "/0001.json", "/0002.packets", "/resumed.json"];
    for (number, file) in (1..).zip(files) {
        if file == "/resumed.json" {
            // It is written by an attempt that finds segments.
            faults.set(1, &Rule::new(GROWING, "/0002.packets", Action::Fail(ENOSPC)).once(1));
        }
        let waited = place.log().matches("paused for").count();
        faults.set(0, &Rule::new(GROWING, file, Action::Fail(ENOSPC)));
        let clip = clip(place.folder.path(), "16x16", 1300, number * 9);
        let name = format!("clip{number}.mp4");
        ledger.dropped(&name, &clip, 3 * 1300);
        place.drop_clip(&clip, &name);
        place.wait("pause", || {
            faults.fired(0) > 0 && place.log().matches("paused for").count() > waited
        });
        ledger.check_visible(&place);
        faults.clear();
        place.wait_ended(number as usize);
        let report = place.report(&format!("clip{number}_slow3x.mp4.json"));
        let taken_up = report.timing.resumed.first().map_or(0, |it| it.segments);
        let finished = u64::from(!file.starts_with("/0001"));
        assert_eq!(taken_up, finished, "{file}\n{}", place.log());
    }
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W24, W26. Each of these calls fails once: with an error of the disk, of a quota, of a share.
#[test]
fn w24_an_error_of_the_output_that_comes_once_is_retried() {
    let errors = [(GROWING, EIO), (GROWING, EDQUOT), (READ | OPEN_READ | STAT, EIO)];
    each_once("/out/", errors);
}

/// W24. Every single opening, reading and looking at a source, by daemon and workers, fails once with EIO, EBUSY,
/// ESTALE: the clip is retried and done, never refused.
#[test]
fn w24_an_error_of_the_source_that_comes_once_is_retried() {
    each_once("/in/", [(READ, EIO), (OPEN_READ, EBUSY), (OPEN_READ | STAT, ESTALE)]);
}

/// What `slomod convert` ends with and says where `rule` holds.
fn convert(place: &Place, faults: &Faults, rule: &Rule, source: &Path) -> (Option<i32>, String) {
    faults.set(0, rule);
    let mut convert = Command::new(env!("CARGO_BIN_EXE_slomod"));
    convert.arg("convert").arg(source).arg("-o").arg(place.path("made.mp4"));
    convert.args(["--factor", "2", "--quality-samples", "0"]);
    let run = faults.enter(&mut convert).output().unwrap();
    (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned())
}

/// W24. Each reading of a clip fails once, also while FFmpeg looks for its streams, which takes that for the end of the file:
/// the content is not blamed, in any container, and nothing is left out.
#[test]
fn w24_a_reading_that_fails_once_is_no_fault_of_the_content() {
    std::thread::scope(|scope| {
        for container in ["mp4", "matroska", "mpegts", "avi"] {
            scope.spawn(move || {
                let (place, faults) = faulty("", "");
                let source = place.path("in/source");
                let mut ffmpeg = Command::new("ffmpeg");
                ffmpeg.args(["-v", "error", "-i"]).arg(clip(place.folder.path(), "480x270", 8, 0));
                ffmpeg.args(["-c", "copy", "-f", container]).arg(&source);
                assert!(ffmpeg.status().unwrap().success());
                let once = Rule::new(READ, "/in/", Action::Fail(EIO)).once(1);
                for from in 1.. {
                    let rule = Rule { from, ..once.clone() };
                    let (code, said) = convert(&place, &faults, &rule, &source);
                    if faults.fired(0) == 0 {
                        println!("{container}: {} readings", from - 1);
                        assert!(code == Some(0) && from > 5, "{said}");
                        break;
                    }
                    assert!(said.contains("Input/output error"), "{container} {from}: {said}");
                    assert_eq!(code, Some(74), "{container} {from}: {said}");
                }
            });
        }
    });
}

/// W24. From the n-th reading of a long clip on, which is of its index at first, the source fails: nobody says that the index is
/// damaged.
#[test]
fn w24_an_index_that_cannot_be_read_is_not_taken_for_a_damaged_one() {
    let (place, faults) = faulty("", "");
    // It has some 250 KB of index, which FFmpeg reads 32 KB at a time.
    let clip = clip(place.folder.path(), "16x16", 20_000, 0);
    let source = place.path("in/long.mp4");
    fs::rename(clip, &source).unwrap();
    for number in 1..=16 {
        let rule = Rule::new(READ, "/in/", Action::Fail(EIO)).since(number);
        let (code, said) = convert(&place, &faults, &rule, &source);
        assert!(said.contains("Input/output error"), "reading {number}: {said}");
        assert_eq!(code, Some(74), "reading {number}: {said}");
        assert!(faults.fired(0) > 0);
    }
}

/// W24. A source that cannot be read for a while (a share that is gone) delays its job only, and so does a reading in mid
/// clip that fails.
#[test]
fn w24_a_source_that_fails_for_a_while_is_done_afterwards() {
    let (mut place, faults) = faulty("", "");
    let mut ledger = Ledger::default();
    let first = noisy(&place, 1);
    ledger.dropped("first.mp4", &first, 80);
    place.drop_clip(&first, "first.mp4");
    start_at_work(&mut place, &faults);
    // Hashed and queued behind the first; the conversion meets the trouble.
    drop_number(&place, &mut ledger, 1);
    place.wait("queued clip", || state_of(&place, 1).is_some());
    faults.set(0, &Rule::new(OPEN_READ | READ, "/in/clip1", Action::Fail(ESTALE)));
    faults.set(1, &Rule::new(READ, "/in/first", Action::Fail(EIO)).by(WORKER).once(1));
    faults.let_go();
    place.wait("two failed tries", || place.log().matches("again in").count() >= 2);
    drop_number(&place, &mut ledger, 2);
    place.wait("the other clip", || state_of(&place, 2).as_deref() == Some("done"));
    // At work at the most for the moment of another try.
    place.wait("clip in the queue", || state_of(&place, 1).as_deref() == Some("queued"));
    faults.clear();
    place.wait_ended(3);
    assert_eq!(faults.fired(1), 1, "in mid clip");
    ledger.check_end(&place);
}

/// W26. The file system of the journal is full, from the n-th write on: the daemon never goes on without its journal, says
/// so, and everything is done once there is space (by a restart, as the unit does it).
#[test]
fn w26_a_journal_that_cannot_be_written_stops_the_work_and_loses_nothing() {
    let (mut ends, mut met) = (0, 0);
    for number in [1, 2, 4, 8, 14, 20, 26, 32, 38] {
        let (mut place, faults) = faulty("", "");
        let mut ledger = Ledger::default();
        faults.set(0, &Rule::new(GROWING | WRITE, "/state/", Action::Fail(ENOSPC)).since(number));
        drop_number(&place, &mut ledger, 1);
        start(&mut place, &faults);
        let has_ended = |place: &mut Place| {
            place.child.as_mut().is_some_and(|it| it.try_wait().unwrap().is_some())
        };
        let begin = std::time::Instant::now();
        while !has_ended(&mut place)
            && (faults.fired(0) == 0 || begin.elapsed() < std::time::Duration::from_secs(3))
        {
            std::thread::sleep(std::time::Duration::from_millis(20));
            if state_of(&place, 1).as_deref() == Some("done") {
                break;
            }
        }
        ledger.check_visible(&place);
        met += u64::from(faults.fired(0) > 0);
        faults.clear();
        // It may have ended already, or be about to.
        let codes = wait_ended_with_restarts(&mut place, 1);
        ends += codes.len();
        let expected = codes.iter().all(|it| matches!(it, Some(73 | 75 | 78)));
        assert!(expected && codes.len() <= 1, "{codes:?}\n{}", place.log());
        assert_eq!(place.states(), ["done"], "{}", place.log());
        ledger.check_end(&place);
    }
    println!("{met} met a full disk, {ends} daemons ended for want of a journal");
    assert!(met >= 7 && ends >= 3, "{met}, {ends}");
}

/// W26, W32. The daemon was killed, and the file system of its journal is full when it is started again, from the n-th step of
/// the start on: the journal keeps what it had.
#[test]
fn w26_a_start_on_a_full_file_system_keeps_what_a_killed_daemon_wrote() {
    let mut met = 0;
    for number in 1.. {
        let (mut place, faults) = faulty("", "");
        start(&mut place, &faults);
        place.wait_ready();
        place.terminate();
        start(&mut place, &faults);
        place.drop_clip(&small(&place, 0), "a.mp4");
        place.wait_ended(1);
        wait_tidy(&place);
        place.kill();
        faults
            .set(0, &Rule::new(GROWING, "/state/", Action::Fail(ENOSPC)).by(DAEMON).since(number));
        start(&mut place, &faults);
        let has_ended =
            |place: &mut Place| place.child.as_mut().unwrap().try_wait().unwrap().is_some();
        let begin = std::time::Instant::now();
        while !has_ended(&mut place) && begin.elapsed() < std::time::Duration::from_secs(2) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let fired = faults.fired(0);
        faults.clear();
        assert_eq!(place.states(), ["done"], "{number}\n{}", place.log());
        if fired == 0 {
            break;
        }
        met += 1;
    }
    assert!(met > 5, "{met}");
}

/// W26. The daemon ends for want of its journal while a job is at work: that job's thread is left as it is, and nothing
/// panics.
#[test]
fn w26_a_daemon_that_ends_for_want_of_its_journal_leaves_a_running_job_in_peace() {
    let (mut place, faults) = faulty("", "");
    place.drop_clip(&large(&place, 0), "a.mp4");
    start_at_work(&mut place, &faults);
    faults.set(0, &Rule::new(GROWING, "/state/", Action::Fail(ENOSPC)).by(DAEMON));
    place.drop_clip(&small(&place, 60), "b.mp4");
    let code = place.wait_end().code();
    assert!(matches!(code, Some(73 | 75)), "{code:?}\n{}", place.log());
    assert!(!place.log().contains("panicked"), "{}", place.log());
    faults.clear();
    faults.let_go();
    place.start();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"], "{}", place.log());
}

/// W25. The oldest clip's subfolder of the output may not be written: the others are done meanwhile, and it is once it may.
#[test]
fn w25_a_clip_whose_part_of_the_output_cannot_be_written_holds_up_no_other() {
    let (mut place, faults) = faulty("", "recursive = true");
    let clips = [small(&place, 0), small(&place, 60), small(&place, 120)];
    fs::create_dir_all(place.path("in/sub")).unwrap();
    place.drop_clip(&clips[0], "sub/a.mp4");
    let oldest = fs::File::open(place.path("in/sub/a.mp4")).unwrap();
    oldest.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    faults.set(0, &Rule::new(GROWING, "/out/sub", Action::Fail(EROFS)));
    start(&mut place, &faults);
    place.wait("a try", || faults.fired(0) > 0);
    place.drop_clip(&clips[1], "b.mp4");
    place.drop_clip(&clips[2], "c.mp4");
    place.wait("the others", || place.states().iter().filter(|it| *it == "done").count() == 2);
    assert_eq!(place.states(), ["queued", "done", "done"], "{}", place.log());
    faults.clear();
    place.wait_ended(3);
    assert_eq!(place.states(), ["done", "done", "done"], "{}", place.log());
}

/// W24. What a daemon that died left cannot be removed: that is tried again and again, and said once.
#[test]
fn w24_a_leftover_that_cannot_be_removed_is_said_once() {
    let (mut place, faults) = faulty("", "");
    place.drop_clip(&large(&place, 0), "a.mp4");
    start_at_work(&mut place, &faults);
    place.kill();
    faults.let_go();
    faults.set(0, &Rule::new(UNLINK, "/out/", Action::Fail(EBUSY)).by(DAEMON));
    start(&mut place, &faults);
    place.wait("five tries", || faults.fired(0) >= 5);
    let said = place.log().matches("cannot be removed now").count();
    assert_eq!(said, 1, "{}", place.log());
    faults.clear();
    place.wait_ended(1);
    wait_tidy(&place);
    assert_eq!(place.states(), ["done"], "{}", place.log());
}

/// W26. The disk is full from the n-th step on of the report that says that a clip is a duplicate, and then the clip is
/// gone: nothing temporary is left of what nobody will finish.
#[test]
fn w26_full_at_a_report_nothing_is_left_of_it_when_its_clip_goes() {
    let mut failed = 0;
    for number in 1.. {
        let (mut place, faults) = faulty("", "");
        let clip = small(&place, 0);
        place.drop_clip(&clip, "first.mp4");
        start(&mut place, &faults);
        place.wait_ended(1);
        wait_tidy(&place);
        faults.set(0, &Rule::new(GROWING, "/out/", Action::Fail(ENOSPC)).by(DAEMON).since(number));
        place.drop_clip(&clip, "again.mp4");
        place.wait("end or delay of the job", || {
            let delayed = faults.fired(0) > 0 && place.states()[1..] == ["queued"];
            delayed || place.all_ended(2)
        });
        if faults.fired(0) == 0 {
            break;
        }
        failed += 1;
        fs::remove_file(place.path("in/again.mp4")).unwrap();
        faults.clear();
        place.wait_ended(2);
        wait_tidy(&place);
        assert_eq!(place.states(), ["done", "cancelled"], "{}", place.log());
    }
    assert!(failed >= 4, "opening, writing, making durable and renaming are steps: {failed}");
}

/// W24. The lock of the output folder cannot be seen when the output is to get its name: nothing is concluded, the finished
/// output waits, and no clip is worked twice.
#[test]
fn w24_an_output_waits_while_its_folders_lock_cannot_be_seen() {
    let (mut place, faults) = faulty("", "");
    start_at_work_on(&mut place, &faults);
    faults.set(0, &Rule::new(STAT, "/out/.slomod.lock", Action::Fail(EIO)).by(DAEMON));
    faults.let_go();
    place.wait("word of it", || place.log().contains("publication waits"));
    assert_eq!(place.states(), ["publishing"], "{}", place.log());
    let met = faults.fired(0);
    place.wait("another look", || faults.fired(0) > met + 2);
    faults.clear();
    place.wait_ended(1);
    wait_tidy(&place);
    assert_eq!(place.states(), ["done"], "{}", place.log());
    assert_eq!(place.jobs()[0].attempt, 1, "{}", place.log());
    let log = place.log();
    assert!(!log.contains("lock was lost") && !log.contains("works with this"), "{log}");
}

fn start_at_work_on(place: &mut Place, faults: &Faults) {
    let clip = small(place, 0);
    place.drop_clip(&clip, "a.mp4");
    start_at_work(place, faults);
}
