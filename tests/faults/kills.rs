//! W32: the daemon is killed, at random moments and before each of its own steps.

use crate::ledger::{Ledger, Random, WITH_BESIDE};
use crate::place::{Place, clip, small};
use crate::shim::{Action, DAEMON, EINVAL, GROWING, RENAME, Rule, SYNC, UNLINK, WRITE};
use crate::{faulty, is_tidy, start, wait_tidy};
use std::fs;
use std::time::{Duration, Instant};

const FACTOR: u64 = 3;
/// Every step takes a daemon more than a second; the soak run meets the others.
const STRIDE: usize = 7;
/// How long the next kill waits for a job at work; the last may just have been done.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

fn kills() -> u64 {
    std::env::var("SLOMOD_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(200)
}

/// Clips that wait at the same time.
const CLIPS_AT_A_TIME: u64 = 3;

fn seed() -> u64 {
    let given = std::env::var("SLOMOD_KILLS_SEED").ok().and_then(|it| it.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()))
}

/// A clip of its own content: small ones get through between two kills, large ones seldom, and long ones by segments.
fn drop_next(place: &Place, ledger: &mut Ledger, number: u64) {
    let (size, frames) = match number {
        it if it % 5 == 4 => ("16x16", 1300),
        it if it % 3 == 2 => ("640x360", 40),
        _ => ("64x48", 6),
    };
    let clip = clip(place.folder.path(), size, frames, number as u32 * 7);
    let name = format!("clip{number}.mp4");
    place.drop_clip(&clip, &name);
    ledger.dropped(&name, &clip, u64::from(frames) * FACTOR);
}

/// W32. 200 times (`SLOMOD_KILLS`): after each kill nothing partial is visible, and in the end every clip has come out
/// once.
#[test]
fn w32_killed_at_any_moment_every_job_ends_exactly_once() {
    let (rounds, seed) = (kills(), seed());
    println!("seed {seed} (SLOMOD_KILLS_SEED), {rounds} kills (SLOMOD_KILLS)");
    let mut random = Random(seed);
    let mut place = Place::with("", &format!("factor = 3\n{WITH_BESIDE}"));
    let (mut ledger, mut clips) = (Ledger::default(), 0);
    for round in 0..rounds {
        // Something is always waiting or at work.
        let over = place.states().iter().all(|it| it == "done");
        if over {
            for number in clips..clips + CLIPS_AT_A_TIME {
                drop_next(&place, &mut ledger, number);
            }
            clips += CLIPS_AT_A_TIME;
        }
        place.start();
        // Most kills meet a job at work, wherever it is; the others anything from the first step of the start on.
        if round % 4 > 0 {
            let begin = Instant::now();
            let works = || place.states().iter().any(|it| it == "running" || it == "publishing");
            while begin.elapsed() < LONGEST_WAIT && !works() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let longest = if round % 4 == 1 { 3000 } else { 700 };
        std::thread::sleep(Duration::from_millis(random.below(longest)));
        place.kill();
        ledger.check_visible(&place);
    }
    place.start();
    place.wait_ended(clips as usize);
    wait_tidy(&place);
    assert_eq!(place.states(), vec!["done"; clips as usize], "{}", place.log());
    ledger.check_end(&place);
    let attempts: i64 = place.jobs().iter().map(|job| job.attempt).sum();
    let reports = place.listing().into_iter().filter(|it| it.ends_with(".json"));
    let resumed: usize = reports.map(|it| place.report(&it).timing.resumed.len()).sum();
    println!("{rounds} kills, {clips} clips, {attempts} attempts, {resumed} taken up at a segment");
    // Kills that meet no job, or no long one, show little.
    assert!(attempts as u64 > clips + rounds / 10, "{attempts} attempts at {clips} clips");
    assert!(rounds < 100 || resumed > 0, "no clip was taken up at a segment");
}

/// W32. The daemon dies before its n-th change of a file below its folder, for n through the whole of a job: in the
/// state folder (each write of the journal) and in the output folder.
#[test]
fn w32_killed_before_each_of_its_own_steps_a_job_ends_exactly_once() {
    let mut ended_at = 0;
    let mut deaths = 0;
    // More than two hundred steps, most of them alike (writes of the journal).
    for number in (1..).step_by(STRIDE) {
        let (mut place, faults) = faulty("", &format!("factor = 3\n{WITH_BESIDE}"));
        let mut ledger = Ledger::default();
        drop_next(&place, &mut ledger, 0);
        let step = Rule::new(GROWING | UNLINK, place.folder.path().to_string_lossy(), Action::Kill);
        faults.set(0, &step.by(DAEMON).once(number));
        start(&mut place, &faults);
        place.wait("end of job or daemon", || {
            // A step may come when the job is done already.
            faults.fired(0) > 0 || place.all_ended(1) && is_tidy(&place)
        });
        if faults.fired(0) > 0 {
            deaths += 1;
            place.wait_end();
            ledger.check_visible(&place);
            place.start();
            place.wait_ended(1);
        } else {
            ended_at = number;
        }
        wait_tidy(&place);
        assert_eq!(place.states(), ["done"], "killed before step {number}\n{}", place.log());
        ledger.check_end(&place);
        if ended_at > 0 {
            break;
        }
    }
    println!("{deaths} deaths, every {STRIDE}th of {ended_at} steps");
    assert!(deaths > 5, "the steps of a job are many");
}

/// W32. The same before each step of the publication alone, without a stride.
#[test]
fn w32_killed_before_each_step_of_a_publication_a_job_ends_exactly_once() {
    let mut deaths = 0;
    for number in 1.. {
        let (mut place, faults) = faulty("", &format!("factor = 3\n{WITH_BESIDE}"));
        let mut ledger = Ledger::default();
        drop_next(&place, &mut ledger, 1);
        let step = Rule::new(GROWING | UNLINK | SYNC | RENAME, "/out", Action::Kill);
        faults.set(0, &step.by(DAEMON).once(number));
        start(&mut place, &faults);
        place.wait("end of job or daemon", || {
            // A step may come when the job is done already.
            faults.fired(0) > 0 || place.all_ended(1) && is_tidy(&place)
        });
        let died = faults.fired(0) > 0;
        if died {
            deaths += 1;
            place.wait_end();
            ledger.check_visible(&place);
            place.start();
            place.wait_ended(1);
        }
        wait_tidy(&place);
        assert_eq!(place.states(), ["done"], "killed before step {number}\n{}", place.log());
        ledger.check_end(&place);
        if !died {
            break;
        }
    }
    println!("{deaths} steps of a publication");
    assert!(deaths >= 6, "folder, output, report and their names are steps: {deaths}");
}

/// W32. The same before each removal on a file system that renames only over what is there, as NFS: a name is given there by
/// a second link and the removal of the first.
#[test]
fn w32_killed_between_link_and_removal_nothing_appears_twice() {
    let mut deaths = 0;
    for number in 1.. {
        let (mut place, faults) = faulty("", &format!("factor = 3\n{WITH_BESIDE}"));
        let mut ledger = Ledger::default();
        drop_next(&place, &mut ledger, 1);
        let as_nfs = Rule::new(RENAME, "/out/", Action::Fail(EINVAL)).by(DAEMON);
        faults.set(1, &as_nfs);
        faults.set(0, &Rule::new(UNLINK, "/out/", Action::Kill).by(DAEMON).once(number));
        start(&mut place, &faults);
        place.wait("end of job or daemon", || {
            faults.fired(0) > 0 || place.all_ended(1) && is_tidy(&place)
        });
        let died = faults.fired(0) > 0;
        if died {
            deaths += 1;
            place.wait_end();
            ledger.check_visible(&place);
            faults.remove(0);
            start(&mut place, &faults);
            place.wait_ended(1);
        }
        wait_tidy(&place);
        assert_eq!(place.states(), ["done"], "killed before removal {number}\n{}", place.log());
        let numbered = place.listing().into_iter().filter(|it| it.contains('~')).count();
        assert_eq!(numbered, 0, "{:?}", place.listing());
        ledger.check_end(&place);
        if !died {
            break;
        }
    }
    println!("{deaths} removals of a publication");
    assert!(deaths >= 3, "output, what lies beside it and report: {deaths}");
}

/// W32. The daemon dies after the report that says that a clip is a duplicate, and before it notes that down; then the other
/// output goes and the clip is worked: nothing says any more that it was not.
#[test]
fn w32_a_report_without_output_that_a_dead_daemon_did_not_note_goes_when_there_is_one() {
    for is_killed_again in [false, true] {
        let (mut place, faults) = faulty("", "");
        let clip = small(&place, 0);
        place.drop_clip(&clip, "first.mp4");
        start(&mut place, &faults);
        place.wait_ended(1);
        wait_tidy(&place);
        let (own, report) = ("out/copy.mp4.duplicate.json", "out/copy.mp4.duplicate~2.json");
        // Somebody's own file has the name, so the report gets another.
        fs::write(place.path(own), "mine").unwrap();
        faults.hold(&Rule::new(RENAME, "copy.mp4.duplicate", Action::Hold).by(DAEMON).once(1));
        place.drop_clip(&clip, "copy.mp4");
        faults.wait_held(&place);
        faults.set(0, &Rule::new(WRITE, "/state/journal", Action::Kill).by(DAEMON).once(1));
        faults.let_go();
        place.wait("death", || faults.fired(0) > 0);
        place.wait_end();
        assert!(place.path(report).exists(), "{:?}", place.listing());
        for name in ["first_slow2x.mp4", "first_slow2x.mp4.json"] {
            fs::remove_file(place.path("out").join(name)).unwrap();
        }
        faults.remove(0);
        if is_killed_again {
            let naming = Rule::new(RENAME, "copy_slow2x.mp4.json", Action::Kill);
            faults.set(0, &naming.by(DAEMON).once(1));
            start(&mut place, &faults);
            place.wait("second death", || faults.fired(0) > 0);
            place.wait_end();
            faults.remove(0);
        }
        start(&mut place, &faults);
        place.wait("output", || place.path("out/copy_slow2x.mp4.json").exists());
        place.wait_ended(2);
        wait_tidy(&place);
        assert_eq!(place.states(), ["done", "done"], "{}", place.log());
        let expected = ["copy.mp4.duplicate.json", "copy_slow2x.mp4", "copy_slow2x.mp4.json"];
        assert_eq!(place.listing(), expected, "{}", place.log());
    }
}

/// W32. The daemon dies before each step of the report that says that a clip is a duplicate, and then the clip is gone:
/// nothing temporary is left of what nobody will finish.
#[test]
fn w32_killed_before_each_step_of_a_report_nothing_is_left_of_it_when_its_clip_goes() {
    let (mut place, faults) = faulty("", "");
    let clip = small(&place, 0);
    place.drop_clip(&clip, "first.mp4");
    start(&mut place, &faults);
    place.wait_ended(1);
    wait_tidy(&place);
    let mut deaths = 0;
    for number in 1.. {
        // Its own steps: of those before it, such as giving the lock back, some may come only now.
        let own = format!("again{number}");
        let step = Rule::new(GROWING | UNLINK, &own, Action::Kill);
        faults.set(0, &step.by(DAEMON).once(number));
        let jobs = place.jobs().len() + 1;
        let name = format!("again{number}.mp4");
        place.drop_clip(&clip, &name);
        place.wait("end of job or daemon", || {
            faults.fired(0) > 0 || place.all_ended(jobs) && is_tidy(&place)
        });
        if faults.fired(0) == 0 {
            break;
        }
        deaths += 1;
        place.wait_end();
        fs::remove_file(place.path("in").join(&name)).unwrap();
        faults.clear();
        start(&mut place, &faults);
        place.wait_ended(jobs);
        wait_tidy(&place);
    }
    let of_copies = |state: &str| place.states().iter().filter(|it| *it == state).count();
    assert_eq!(of_copies("done"), 1, "{}", place.log());
    assert_eq!(of_copies("duplicate") + of_copies("cancelled"), deaths + 1, "{}", place.log());
    assert!(deaths >= 4, "opening, writing, making durable and renaming are steps: {deaths}");
}

/// W21, W32. The daemon died while it published, and the output's name takes its time after the restart: a clip with the
/// same content waits for it and is not worked a second time.
#[test]
fn w32_a_copy_waits_for_the_publication_that_a_dead_daemon_left() {
    let (mut place, faults) = faulty("", "");
    let clip = small(&place, 0);
    let naming = |action| Rule::new(RENAME, "/out/first_slow2x.mp4", action).by(DAEMON);
    faults.set(0, &naming(Action::Kill));
    place.drop_clip(&clip, "first.mp4");
    start(&mut place, &faults);
    place.wait("death", || faults.fired(0) > 0);
    place.wait_end();
    assert_eq!(place.states(), ["publishing"], "{}", place.log());
    place.drop_clip(&clip, "copy.mp4");
    faults.set(0, &naming(Action::Hold));
    start(&mut place, &faults);
    place.wait("the copy's turn", || {
        let log = place.log();
        faults.fired(0) > 0 && (log.contains("job 2: queued") || log.contains("job 2: running"))
    });
    faults.clear();
    place.wait_ended(2);
    wait_tidy(&place);
    assert_eq!(place.states(), ["done", "duplicate"], "{}", place.log());
}
