//! Reports of clips that get no output.

use crate::{CONTENT, Place, RULES, failing, good_worker, say, worker};
use slomod::config::settings::Device;
use slomod::daemon::digest::file_sha256;
use slomod::daemon::job::{Aftermath, Rules, now_ms};
use slomod::daemon::journal::NewJob;
use slomod::daemon::journal::view::JobView;
use slomod::daemon::protocol::{Failure, Message};
use slomod::daemon::refusal::REFUSED_BEFORE;
use slomod::daemon::snapshot::Snapshot;
use slomod::daemon::worker::Limits;
use slomod::error::{Consequence, ExitCode};
use slomod::report::Status;
use std::fs;
use std::time::Duration;

/// The clip of the place comes again as `name`, with these settings (as JSON, and the hash of those that decide).
fn comes_again(place: &Place, name: &str, settings: (&str, &str)) {
    let source = place.watch.path.join(name);
    fs::write(&source, CONTENT).unwrap();
    let new = NewJob {
        watch: &place.watch.path.to_string_lossy(),
        relative: name.as_ref(),
        snapshot: Snapshot::take(&source).unwrap(),
        sha256: &file_sha256(&source).unwrap(),
        settings: settings.0,
        settings_sha256: settings.1,
        list_sha256: "",
    };
    place.shop.journal().submit(&new, 1).unwrap();
}

const SAME: (&str, &str) = ("{}", "s");

/// A worker that notes each try and then does `script`.
fn counted(place: &mut Place, script: &str) {
    let note = format!("echo once >> '{}'\n", place.folder.path().join("tries").display());
    place.shop_mut().command = worker(&(note + script));
}

fn tries(place: &Place) -> usize {
    fs::read_to_string(place.folder.path().join("tries")).unwrap_or_default().lines().count()
}

fn rejecting(code: &str) -> String {
    failing(Consequence::Reject, ExitCode::DataError, code)
}

fn last(place: &Place) -> JobView {
    place.shop.journal().jobs(10).unwrap().pop().unwrap()
}

fn state(job: &JobView) -> (&str, &str) {
    (&job.state, job.error_code.as_deref().unwrap_or_default())
}

/// W16. The share goes while its clip is looked into, and its bare mount point is left: no report lands there.
#[test]
fn the_report_of_a_refusal_waits_for_its_output_folder_as_outputs_do() {
    let mut place = Place::new("");
    let (out, away) = (place.watch.output.clone(), place.folder.path().join("away"));
    place.shop.locks.look(&out, &place.shop.journal).unwrap();
    let refusal = failing(Consequence::Reject, ExitCode::DataError, "not_video");
    let unmount = format!("mv '{0}' '{1}'; mkdir '{0}'\n", out.display(), away.display());
    place.shop_mut().command = worker(&(unmount + &refusal));
    let aftermath = place.attempt();
    assert!(
        matches!(&aftermath, Aftermath::Pause(why) if why.contains("is not there")),
        "{aftermath:?}"
    );
    assert_eq!((place.job().state.as_str(), place.listing().len()), ("queued", 0));
    fs::remove_dir(&out).unwrap();
    fs::rename(&away, &out).unwrap();
    place.shop_mut().command = worker(&refusal);
    place.attempt();
    assert_eq!(place.job().state, "refused");
    assert_eq!(place.listing(), [".slomod.lock", "a.mp4.refused.json"]);
}

#[test]
fn what_fails_verification_three_times_fails_with_a_report() {
    let place = Place::new(&failing(Consequence::Retry, ExitCode::Software, "verification_failed"));
    for state in ["queued", "queued", "failed"] {
        place.attempt();
        assert_eq!(place.job().state, state);
    }
    assert_eq!(place.listing(), ["a.mp4.failed.json"]);
    assert_eq!(place.report("a.mp4.failed.json").status, Status::Failed);
}

#[test]
fn a_report_that_no_worker_made_says_since_when_the_job_was_tried() {
    let mut place = Place::new("");
    let failure = Failure {
        consequence: Consequence::Reject,
        exit_code: ExitCode::DataError,
        code: "not_video".into(),
        message: "so it is".into(),
        report: None,
    };
    let says = say(&Message::Failed(Box::new(failure)));
    place.shop_mut().command = worker(&format!("sleep 0.3\n{says}"));
    let before = now_ms();
    place.attempt_at(before);
    let (report, after) = (place.report("a.mp4.refused.json"), now_ms());
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert_eq!(time(&report.timing.started), before);
    let wall_ms = 1000.0 * report.timing.wall_s;
    assert!(wall_ms >= 299.0 && wall_ms <= (after - before) as f64, "{:?}", report.timing);
    assert!((time(&report.timing.finished) - before) as f64 + 50.0 >= wall_ms);
}

#[test]
fn refused_content_is_not_tried_again_under_another_name_unless_asked_for() {
    let mut place = Place::new("");
    counted(&mut place, &rejecting("not_video"));
    place.attempt();
    for name in ["b.mp4", "c.mkv"] {
        comes_again(&place, name, SAME);
        place.attempt();
        let job = last(&place);
        // The third refers to the first as well, which was tried.
        assert_eq!((state(&job), job.duplicate_of), (("refused", REFUSED_BEFORE), Some(1)));
        let report = place.report(&format!("{name}.refused.json"));
        let codes: Vec<&str> = report.errors.iter().map(|it| it.code.as_str()).collect();
        assert_eq!((report.status, codes), (Status::Refused, vec![REFUSED_BEFORE, "not_video"]));
        let why = &report.errors[0].message;
        let retry = format!("`slomod retry {}`", job.job);
        for said in ["job 1", "a.mp4.refused.json", "so it is", &retry] {
            assert!(why.contains(said), "{said}: {why}");
        }
        assert_eq!(job.error_message.as_ref(), Some(why));
    }
    assert_eq!(tries(&place), 1);

    place.shop.journal().retry(2, 1).unwrap();
    place.attempt();
    let jobs = place.shop.journal().jobs(10).unwrap();
    assert_eq!((state(&jobs[1]), jobs[1].duplicate_of), (("refused", "not_video"), None));
    assert_eq!(tries(&place), 2);
    // What a retry makes of the first one counts for those that come later.
    place.shop.journal().retry(1, 1).unwrap();
    place.shop.journal().retry(2, 1).unwrap();
    counted(&mut place, &good_worker(CONTENT));
    place.attempt();
    place.attempt();
    comes_again(&place, "d.mp4", SAME);
    place.attempt();
    assert_eq!((tries(&place), last(&place).state.as_str()), (3, "duplicate"));
}

#[test]
fn what_was_refused_for_more_than_its_content_is_tried_again_under_another_name() {
    for (code, tried) in [
        ("timelapse", 2),
        ("settings", 2),
        ("source_unreadable", 2),
        ("output_unwritable", 2),
        ("not_decodable", 1),
    ] {
        let mut place = Place::new("");
        counted(&mut place, &rejecting(code));
        place.attempt();
        comes_again(&place, "b.mp4", SAME);
        place.attempt();
        assert_eq!((tries(&place), last(&place).state.as_str()), (tried, "refused"), "{code}");
    }
}

#[test]
fn refused_content_is_tried_again_with_other_settings() {
    let mut place = Place::new("");
    counted(&mut place, &rejecting("interlaced"));
    place.attempt();
    comes_again(&place, "b.mp4", ("{}", "t"));
    place.attempt();
    assert_eq!((tries(&place), state(&last(&place))), (2, ("refused", "interlaced")));
    // A device decides nothing about the result, so it lets no other refusal be tried again.
    comes_again(&place, "c.mp4", ("{\"device\":\"cpu\"}", "t"));
    place.attempt();
    assert_eq!((tries(&place), last(&place).duplicate_of), (2, Some(2)));
}

#[test]
fn a_clip_that_took_workers_down_is_tried_again_on_another_device_or_with_another_limit() {
    let mut place = Place::new("");
    counted(&mut place, "kill -SEGV $$");
    place.attempt();
    place.attempt();
    assert_eq!((tries(&place), state(&last(&place))), (2, ("refused", "worker_crashed")));
    let report = place.report("a.mp4.refused.json");
    let attempts: Vec<_> =
        report.attempts.iter().map(|it| (it.number, it.code.as_deref())).collect();
    assert_eq!(attempts, [(1, Some("worker_crashed")), (2, None)]);
    assert!(report.attempts[0].ended.as_ref() <= Some(&report.attempts[1].started));
    assert_eq!(report.timing.queued.as_deref(), Some("1970-01-01T00:00:00.001Z"));
    comes_again(&place, "b.mp4", SAME);
    place.attempt();
    assert_eq!((tries(&place), state(&last(&place))), (2, ("refused", REFUSED_BEFORE)));
    let mut limits = Limits { stall: Duration::from_millis(100), ..RULES.limits };
    place.shop.set_rules(Rules { limits, ..RULES });
    comes_again(&place, "c.mp4", SAME);
    place.attempt();
    assert_eq!(tries(&place), 2, "how long a worker may hang is nothing to one that crashes");

    place.shop_mut().command = worker("kill -STOP $$");
    place.watch.settings.device = Device::Cpu;
    comes_again(&place, "d.mp4", ("{\"device\":\"cpu\"}", "s"));
    place.attempt();
    place.attempt();
    assert_eq!(state(&last(&place)), ("refused", "worker_hung"));
    comes_again(&place, "e.mp4", ("{\"device\":\"cpu\"}", "s"));
    place.attempt();
    assert_eq!((state(&last(&place)).1, last(&place).duplicate_of), (REFUSED_BEFORE, Some(4)));
    limits.stall = Duration::from_millis(101);
    place.shop.set_rules(Rules { limits, ..RULES });
    comes_again(&place, "f.mp4", ("{\"device\":\"cpu\"}", "s"));
    place.attempt();
    assert_eq!(state(&last(&place)), ("queued", "worker_hung"));
}

/// W02, W06. Half a copy may be the same as one that died before.
#[test]
fn a_part_that_was_refused_before_is_waited_for_as_any_other() {
    let mut place = Place::new("");
    place.shop.set_rules(Rules { grace: Duration::ZERO, ..RULES });
    counted(&mut place, &rejecting("truncated"));
    place.attempt();
    assert_eq!(state(&last(&place)), ("refused", "truncated"));
    place.shop.set_rules(RULES);
    comes_again(&place, "b.mp4", SAME);
    place.attempt();
    assert_eq!((tries(&place), state(&last(&place))), (2, ("queued", "truncated")));
    place.shop.set_rules(Rules { grace: Duration::ZERO, ..RULES });
    place.attempt();
    assert_eq!((tries(&place), state(&last(&place))), (2, ("refused", REFUSED_BEFORE)));
}
