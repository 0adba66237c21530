//! One job with workers that succeed, fail, crash, hang and lie: what becomes of it, and what is left.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use slomod::config::file::{Watch, parse};
use slomod::daemon::digest::{file_sha256, text_sha256};
use slomod::daemon::job::{Aftermath, Rules, Shop, now_ms, work};
use slomod::daemon::journal::view::JobView;
use slomod::daemon::journal::{Journal, NewJob, Planned};
use slomod::daemon::output_lock::OutputLocks;
use slomod::daemon::protocol::{Failure, Message};
use slomod::daemon::recover::finish_publications;
use slomod::daemon::snapshot::Snapshot;
use slomod::daemon::worker::{Limits, WorkerCommand};
use slomod::error::{Consequence, ExitCode};
use slomod::report::{Notice, Output, OutputFrames, Report, Status};

#[path = "job/hangs.rs"]
mod hangs;
#[path = "job/outputs.rs"]
mod outputs;
#[path = "job/refusals.rs"]
mod refusals;
#[path = "support/schema.rs"]
mod schema;
mod support;
use support::report;

const CONTENT: &str = "a clip";
const RESULT: &str = "a result";

const RULES: Rules = Rules {
    limits: Limits { stall: Duration::from_secs(20), stop: Duration::from_secs(20) },
    reserve_bytes: 0,
    grace: Duration::from_secs(600),
};

struct Place {
    folder: tempfile::TempDir,
    watch: Watch,
    shop: Arc<Shop>,
}

impl Place {
    /// A place with one queued job, `in/a.mp4`, and `script` as the worker.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let text = format!("[[watch]]\npath = \"{root}/in\"\noutput = \"{root}/out\"\n");
        let watch = parse("test.toml".as_ref(), &text).unwrap().watches.remove(0);
        for name in ["in", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("in/a.mp4"), CONTENT).unwrap();
        let journal = Journal::open(&folder.path().join("state")).unwrap();
        let shop = Shop::new(journal, worker(script), RULES);
        let place = Self { folder, watch, shop: Arc::new(shop) };
        place.submit("a.mp4");
        place
    }

    fn submit(&self, name: &str) {
        let source = self.watch.path.join(name);
        let new = NewJob {
            watch: &self.watch.path.to_string_lossy(),
            relative: name.as_ref(),
            snapshot: Snapshot::take(&source).unwrap(),
            sha256: &file_sha256(&source).unwrap(),
            settings: "{}",
            settings_sha256: "s",
            list_sha256: "",
        };
        self.shop.journal().submit(&new, 1).unwrap();
    }

    fn shop_mut(&mut self) -> &mut Shop {
        Arc::get_mut(&mut self.shop).unwrap()
    }

    /// One attempt; pauses are passed over.
    fn attempt(&self) -> Aftermath {
        self.attempt_at(now_ms() + 3_600_000)
    }

    fn attempt_at(&self, at_ms: i64) -> Aftermath {
        let watch = self.watch.path.to_string_lossy();
        let claim =
            self.shop.journal().claim("me", &[&watch], at_ms, 1000).unwrap().expect("a job");
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shop = Arc::clone(&self.shop);
        runtime.block_on(work(shop, self.watch.clone(), claim, stopped, &mut |_| {})).unwrap()
    }

    fn job(&self) -> JobView {
        self.shop.journal().jobs(10).unwrap().remove(0)
    }

    fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.watch.output)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn report(&self, name: &str) -> Report {
        schema::read(&self.watch.output.join(name))
    }

    fn source_is_untouched(&self) -> bool {
        fs::read_to_string(self.watch.path.join("a.mp4")).unwrap() == CONTENT
    }
}

fn worker(script: &str) -> WorkerCommand {
    WorkerCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
}

fn say(message: &Message) -> String {
    format!("echo '{}'\n", serde_json::to_string(message).unwrap())
}

/// Reads the request and writes `RESULT` under the temporary name that it names.
fn write_result() -> String {
    format!(
        "read -r line; t=$(printf %s \"$line\" | sed 's/.*\"temporary\":\"\\([^\"]*\\)\".*/\\1/'); \
         printf %s '{RESULT}' > \"$t\"\n"
    )
}

/// The report of a conversion of `content` to `RESULT`.
fn good_report(content: &str) -> Report {
    let mut done = report(Status::Done);
    done.source.sha256 = Some(text_sha256(content));
    done.source.sha256_after = Some(text_sha256(content));
    done.output = Some(Output {
        path: String::new(),
        size_bytes: RESULT.len() as u64,
        sha256: text_sha256(RESULT),
        format: "mp4".into(),
        encoder: "none".into(),
        encoder_options: String::new(),
        pixel_format: "yuv420p".into(),
        fps: "30/1".into(),
        duration_s: 1.0,
        frames: OutputFrames::default(),
        ..Output::default()
    });
    done
}

/// A worker that does what it should, with a source of `content`.
fn good_worker(content: &str) -> String {
    write_result() + &say(&Message::Report(Box::new(good_report(content))))
}

fn failing(consequence: Consequence, exit_code: ExitCode, code: &str) -> String {
    let (code, message) = (code.to_owned(), "so it is".to_owned());
    let mut failed = report(Status::Failed);
    failed.errors = vec![Notice { code: code.clone(), message: message.clone() }];
    let report = Some(Box::new(failed));
    let failure = Failure { consequence, exit_code, code, message, report };
    say(&Message::Failed(Box::new(failure)))
}

#[test]
fn a_verified_result_is_published() {
    let place = Place::new(&good_worker(CONTENT));
    assert_eq!(place.attempt(), Aftermath::Next);
    assert_eq!(place.job().state, "done");
    assert_eq!(place.listing(), ["a_slow4x.mp4", "a_slow4x.mp4.json"]);
    assert_eq!(fs::read_to_string(place.watch.output.join("a_slow4x.mp4")).unwrap(), RESULT);
    assert!(place.source_is_untouched());
}

#[test]
fn a_clip_that_crashes_two_workers_is_refused_with_a_report() {
    let place = Place::new(&(write_result() + "kill -SEGV $$"));
    assert_eq!(place.attempt(), Aftermath::Next);
    assert_eq!(place.job().state, "queued");
    assert!(place.listing().is_empty(), "what the dead worker wrote is removed");
    place.attempt();
    let job = place.job();
    assert_eq!(
        (job.state.as_str(), job.error_code.as_deref()),
        ("refused", Some("worker_crashed"))
    );
    assert_eq!(place.listing(), ["a.mp4.refused.json"]);
    let report = place.report("a.mp4.refused.json");
    assert_eq!(report.status, Status::Refused);
    assert_eq!(report.errors[0].code, "worker_crashed");
    assert!(report.errors[0].message.contains("signal: 11"), "{:?}", report.errors);
    assert!(place.source_is_untouched());
}

#[test]
fn failures_are_answered_by_their_class() {
    use Consequence::{Reject, Retry, Stop};
    for (consequence, exit, code, state, pauses) in [
        (Reject, ExitCode::DataError, "not_video", "refused", false),
        (Retry, ExitCode::IoError, "source_unreadable", "queued", false),
        (Retry, ExitCode::CannotCreate, "output_unwritable", "queued", true),
        (Retry, ExitCode::Unavailable, "device_lost", "queued", true),
        (Stop, ExitCode::Config, "engine", "queued", true),
        (Retry, ExitCode::Software, "verification_failed", "queued", false),
        (Retry, ExitCode::TempFail, "source_changed", "cancelled", false),
    ] {
        let place = Place::new(&failing(consequence, exit, code));
        let aftermath = place.attempt();
        assert_eq!(matches!(aftermath, Aftermath::Pause(_)), pauses, "{code}");
        let job = place.job();
        assert_eq!((job.state.as_str(), job.error_code.as_deref()), (state, Some(code)));
        assert_eq!(place.listing().len(), usize::from(state == "refused"), "{code}");
        assert!(place.source_is_untouched());
    }
}

#[test]
fn a_retry_that_works_takes_the_report_of_the_failure_away() {
    let mut place = Place::new(&failing(Consequence::Reject, ExitCode::DataError, "not_video"));
    place.attempt();
    assert_eq!(place.listing(), ["a.mp4.refused.json"]);
    let job = place.job().job;
    place.shop.journal().retry(job, 1).unwrap();
    place.shop_mut().command = worker(&good_worker(CONTENT));
    place.attempt();
    assert_eq!(place.listing(), ["a_slow4x.mp4", "a_slow4x.mp4.json"]);
}

#[test]
fn a_source_that_changed_before_or_during_the_work_gives_no_output() {
    let source = |place: &Place| -> PathBuf { place.watch.path.join("a.mp4") };
    let place = Place::new(&good_worker(CONTENT));
    fs::write(source(&place), "another clip").unwrap();
    assert_eq!(place.attempt(), Aftermath::LookAgain);
    assert_eq!(place.job().state, "cancelled");

    let place = Place::new(&good_worker("what the worker read is not what was queued"));
    assert_eq!(place.attempt(), Aftermath::LookAgain);
    assert_eq!(place.job().error_code.as_deref(), Some("source_changed"));
    assert!(place.listing().is_empty());

    let mut place = Place::new("");
    let script = format!("printf more >> '{}'\n{}", source(&place).display(), good_worker(CONTENT));
    place.shop_mut().command = worker(&script);
    assert_eq!(place.attempt(), Aftermath::LookAgain);
    assert_eq!(place.job().state, "cancelled");
    assert!(place.listing().is_empty(), "{:?}", place.listing());
}

/// W19. Whoever touches a clip while it is worked changes nothing of it; the hashes tell.
#[test]
fn a_source_that_was_only_touched_during_the_work_is_published() {
    let mut place = Place::new("");
    let source = place.watch.path.join("a.mp4");
    let touch = format!("touch -d @1000000000 '{}'\n", source.display());
    place.shop_mut().command = worker(&(touch + &good_worker(CONTENT)));
    assert_eq!(place.attempt(), Aftermath::Next);
    assert_eq!(place.job().state, "done");
    assert_eq!(place.listing(), ["a_slow4x.mp4", "a_slow4x.mp4.json"]);
    assert!(place.source_is_untouched());
}

#[test]
fn a_vanished_source_is_cancelled_and_an_offline_folder_waits() {
    let place = Place::new(&good_worker(CONTENT));
    fs::remove_file(place.watch.path.join("a.mp4")).unwrap();
    place.attempt();
    assert_eq!(place.job().error_code.as_deref(), Some("source_vanished"));

    let place = Place::new(&good_worker(CONTENT));
    fs::rename(&place.watch.path, place.folder.path().join("unmounted")).unwrap();
    assert!(matches!(place.attempt(), Aftermath::Pause(_)));
    assert_eq!(place.job().state, "queued");
}

#[test]
fn work_waits_where_space_is_short_or_the_output_folder_cannot_be_made() {
    let place = Place::new(&good_worker(CONTENT));
    place.shop.set_rules(Rules { reserve_bytes: u64::MAX, ..RULES });
    assert!(matches!(place.attempt(), Aftermath::Pause(why) if why.contains("MiB")));
    assert_eq!(place.job().error_code.as_deref(), Some("no_space"));
    place.shop.set_rules(RULES);
    place.attempt();
    assert_eq!(place.job().state, "done", "and goes on by itself");

    let place = Place::new(&good_worker(CONTENT));
    fs::write(&place.watch.output, "a file where the folder should be").unwrap();
    assert!(matches!(place.attempt(), Aftermath::Pause(why) if why.contains("out")));
    assert_eq!(place.job().state, "queued");
}

/// W21.
#[test]
fn the_same_content_again_is_a_duplicate_unless_the_first_result_is_gone() {
    let place = Place::new(&good_worker(CONTENT));
    place.attempt();
    fs::write(place.watch.path.join("b.mp4"), CONTENT).unwrap();
    place.submit("b.mp4");
    place.attempt();
    let jobs = place.shop.journal().jobs(10).unwrap();
    assert_eq!((jobs[1].state.as_str(), jobs[1].duplicate_of), ("duplicate", Some(jobs[0].job)));
    assert_eq!(place.report("b.mp4.duplicate.json").status, Status::Duplicate);
    fs::remove_file(place.watch.output.join("a_slow4x.mp4.json")).unwrap();
    fs::write(place.watch.path.join("c.mp4"), CONTENT).unwrap();
    place.submit("c.mp4");
    place.attempt();
    assert_eq!(place.shop.journal().jobs(10).unwrap()[2].state, "done");
    // A report without its output.
    fs::remove_file(place.watch.output.join("c_slow4x.mp4")).unwrap();
    fs::write(place.watch.path.join("d.mp4"), CONTENT).unwrap();
    place.submit("d.mp4");
    place.attempt();
    assert_eq!(place.shop.journal().jobs(10).unwrap()[3].state, "done");
}

#[test]
fn a_publication_that_a_dead_daemon_began_is_completed_or_worked_again() {
    for (file, state, listing) in [
        ("temporary", "done", vec!["a_slow4x.mp4", "a_slow4x.mp4.json"]),
        ("output", "done", vec!["a_slow4x.mp4", "a_slow4x.mp4.json"]),
        ("neither", "queued", vec![]),
    ] {
        let place = Place::new("");
        fs::create_dir(&place.watch.output).unwrap();
        let output = place.watch.output.join("a_slow4x.mp4");
        let planned = Planned {
            temporary: place.watch.output.join(".a_slow4x.1.1.slomod-tmp.mp4"),
            report_path: place.watch.output.join("a_slow4x.mp4.json"),
            report: serde_json::to_string(&good_report(CONTENT)).unwrap(),
            output,
        };
        match file {
            "temporary" => fs::write(&planned.temporary, RESULT).unwrap(),
            "output" => fs::write(&planned.output, RESULT).unwrap(),
            _ => {}
        }
        let watch = place.watch.path.to_string_lossy();
        let claim = place.shop.journal().claim("dead", &[&watch], 2, 1).unwrap().unwrap();
        place.shop.journal().publishing(&claim, &planned).unwrap();

        assert_eq!(place.shop.journal().requeue_dead("me", 3).unwrap(), 0, "it is not running");
        for _ in 0..2 {
            let interrupted = place.shop.journal().unpublished().unwrap();
            finish_publications(&place.shop, std::slice::from_ref(&place.watch), interrupted)
                .unwrap();
            assert_eq!(place.job().state, state, "{file}");
            assert_eq!(place.listing(), listing, "{file}");
        }
    }
}

#[test]
fn a_publication_waits_for_an_output_folder_that_is_offline() {
    let place = Place::new("");
    let planned = Planned {
        temporary: place.watch.output.join(".t.mp4"),
        output: place.watch.output.join("a.mp4"),
        report_path: place.watch.output.join("a.mp4.json"),
        report: serde_json::to_string(&good_report(CONTENT)).unwrap(),
    };
    let watch = place.watch.path.to_string_lossy();
    let claim = place.shop.journal().claim("dead", &[&watch], 2, 1).unwrap().unwrap();
    place.shop.journal().publishing(&claim, &planned).unwrap();
    let interrupted = place.shop.journal().unpublished().unwrap();
    finish_publications(&place.shop, std::slice::from_ref(&place.watch), interrupted).unwrap();
    assert_eq!(place.job().state, "publishing", "nothing is concluded");
    // The empty place below a share.
    fs::create_dir(&place.watch.output).unwrap();
    place.shop.journal().remember_output(&place.watch.output, "6969:1:2").unwrap();
    let interrupted = place.shop.journal().unpublished().unwrap();
    finish_publications(&place.shop, std::slice::from_ref(&place.watch), interrupted).unwrap();
    assert_eq!(place.job().state, "publishing", "nor from another in its place");
}

/// W40: killed before its rename, and another daemon had the folder in between.
#[test]
fn a_publication_of_what_another_daemon_published_meanwhile_is_given_up() {
    let place = Place::new("");
    let out = &place.watch.output;
    fs::create_dir(out).unwrap();
    let mut ours = good_report(CONTENT);
    (ours.settings_sha256, ours.report_id) = (Some("s".into()), "ours".into());
    let planned = Planned {
        temporary: out.join(".a_slow4x.1.1.slomod-tmp.mp4"),
        output: out.join("a_slow4x~2.mp4"),
        report_path: out.join("a_slow4x~2.mp4.json"),
        report: serde_json::to_string(&ours).unwrap(),
    };
    fs::write(&planned.temporary, RESULT).unwrap();
    fs::write(out.join("a_slow4x.mp4"), "by them!").unwrap();
    let theirs = Report { report_id: "theirs".into(), ..ours };
    fs::write(out.join("a_slow4x.mp4.json"), serde_json::to_string(&theirs).unwrap()).unwrap();
    let watch = place.watch.path.to_string_lossy();
    let claim = place.shop.journal().claim("dead", &[&watch], 2, 1).unwrap().unwrap();
    place.shop.journal().publishing(&claim, &planned).unwrap();

    let other = OutputLocks::default();
    other.look(out, &place.shop.journal).unwrap();
    let finish = || {
        let interrupted = place.shop.journal().unpublished().unwrap();
        finish_publications(&place.shop, std::slice::from_ref(&place.watch), interrupted).unwrap();
    };
    place.shop.locks.look(out, &place.shop.journal).unwrap();
    finish();
    assert_eq!(place.job().state, "publishing", "not while the other has the folder");
    drop(other);
    place.shop.locks.look(out, &place.shop.journal).unwrap();
    finish();
    let job = place.job();
    assert_eq!(
        (job.state.as_str(), job.error_code.as_deref()),
        ("duplicate", Some("published_before"))
    );
    assert_eq!(job.report, Some(out.join("a_slow4x.mp4.json").to_string_lossy().into_owned()));
    assert_eq!(place.listing(), [".slomod.lock", "a_slow4x.mp4", "a_slow4x.mp4.json"]);
}

/// W40: killed behind its rename; another daemon did the same work under the next name in between.
#[test]
fn an_output_that_is_visible_gets_its_report_whatever_others_published_meanwhile() {
    let place = Place::new("");
    let out = &place.watch.output;
    fs::create_dir(out).unwrap();
    let mut ours = good_report(CONTENT);
    (ours.settings_sha256, ours.report_id) = (Some("s".into()), "ours".into());
    let planned = Planned {
        temporary: out.join(".a_slow4x.1.1.slomod-tmp.mp4"),
        output: out.join("a_slow4x.mp4"),
        report_path: out.join("a_slow4x.mp4.json"),
        report: serde_json::to_string(&ours).unwrap(),
    };
    fs::write(&planned.output, RESULT).unwrap();
    fs::write(out.join("a_slow4x~2.mp4"), "theirs").unwrap();
    let theirs = Report { report_id: "theirs".into(), ..ours };
    let text = serde_json::to_string(&theirs).unwrap();
    fs::write(out.join("a_slow4x~2.mp4.json"), text).unwrap();
    let watch = place.watch.path.to_string_lossy();
    let claim = place.shop.journal().claim("dead", &[&watch], 2, 1).unwrap().unwrap();
    place.shop.journal().publishing(&claim, &planned).unwrap();
    let finish = |watches| {
        let interrupted = place.shop.journal().unpublished().unwrap();
        finish_publications(&place.shop, watches, interrupted).unwrap();
    };

    finish(&[]);
    assert_eq!(place.job().state, "publishing", "nobody has the lock of its folder");
    finish(std::slice::from_ref(&place.watch));
    assert_eq!(place.job().state, "done");
    assert!(planned.report_path.exists());
}

#[test]
fn a_job_waits_where_its_earlier_segments_are_offline() {
    let place = Place::new(&good_worker(CONTENT));
    let old = place.folder.path().join("old");
    let watch = place.watch.path.to_string_lossy();
    let claim = place.shop.journal().claim("dead", &[&watch], 2, 1).unwrap().unwrap();
    place.shop.journal().writing(&claim, &old.join(".a.1.1.slomod-tmp.mp4")).unwrap();
    place.shop.journal().requeue_dead("me", 3).unwrap();
    place.attempt();
    assert_eq!(place.job().error_code.as_deref(), Some("not_tidied"));
    fs::create_dir(&old).unwrap();
    place.attempt();
    assert_eq!(place.job().state, "done");
}

#[test]
fn a_journal_that_was_lost_does_not_make_work_that_is_done_be_done_again() {
    let place = Place::new(&good_worker(CONTENT));
    place.attempt();
    assert_eq!(place.job().state, "done");
    let state = place.folder.path().join("state");
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    *place.shop.journal() = Journal::open(&state).unwrap();
    place.submit("a.mp4");
    place.attempt();
    assert_eq!(place.job().error_code.as_deref(), Some("published_before"));
    assert_eq!(place.listing(), ["a_slow4x.mp4", "a_slow4x.mp4.json"]);
}

#[test]
fn a_report_in_the_watched_folder_that_is_none_is_passed_over() {
    let place = Place::new(&good_worker(CONTENT));
    let beside = place.watch.path.join("a.mp4.json");
    let status = std::process::Command::new("mkfifo").arg(&beside).status().unwrap();
    assert!(status.success());
    place.attempt();
    assert_eq!(place.job().state, "done", "a pipe is not waited for");
}
