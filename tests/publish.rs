//! Publishing: final names appear whole, once, and never over something else, wherever it is interrupted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use slomod::config::file::Collision;
use slomod::daemon::digest::file_sha256;
use slomod::daemon::journal::{JournalError, Planned};
use slomod::daemon::names;
use slomod::daemon::publish::{
    self, Completion, Publication, PublishError, Published, Step, complete, publish,
    publish_report, publish_report_at,
};
use slomod::pipeline::beside;
use slomod::report::provenance::Sidecar;
use slomod::report::{Output, OutputFrames, Report, Status};

mod support;
use support::report;

struct Case {
    folder: tempfile::TempDir,
    publication: Publication,
}

const CONTENT: &str = "a verified video";

fn case() -> Case {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a_slow2x.mp4");
    let temporary = names::temporary(&output, 7, 1);
    fs::write(&temporary, CONTENT).unwrap();
    let mut report = report(Status::Done);
    report.output = Some(Output {
        path: output.to_string_lossy().into_owned(),
        size_bytes: CONTENT.len() as u64,
        sha256: file_sha256(&temporary).unwrap(),
        format: "mp4".into(),
        encoder: "libx264".into(),
        encoder_options: String::new(),
        pixel_format: "yuv420p".into(),
        fps: "30/1".into(),
        duration_s: 1.0,
        frames: OutputFrames::default(),
        ..Output::default()
    });
    let publication =
        Publication { temporary, output, report_path: None, collision: Collision::Rename, report };
    Case { folder, publication }
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn stopped() -> PublishError {
    PublishError::Record(JournalError::Fenced { job: 7, attempt: 1 })
}

fn output_path_in(report: &Path) -> PathBuf {
    let report: Report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    report.output.unwrap().path.into()
}

#[test]
fn an_output_and_its_report_appear_under_their_names_and_nothing_else_is_left() {
    let case = case();
    let published = publish(&case.publication, &mut |_| Ok(())).unwrap();
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
    assert_eq!(output_path_in(&published.report_path), published.output);
    assert_eq!(fs::read_to_string(published.output).unwrap(), CONTENT);
}

#[test]
fn taken_names_are_numbered_and_left_alone() {
    for taken in ["a_slow2x.mp4", "a_slow2x.mp4.json"] {
        let case = case();
        fs::write(case.folder.path().join(taken), "somebody's").unwrap();
        let published = publish(&case.publication, &mut |_| Ok(())).unwrap();
        assert_eq!(published.output.file_name().unwrap(), "a_slow2x~2.mp4");
        assert_eq!(output_path_in(&published.report_path), published.output);
        assert_eq!(fs::read_to_string(case.folder.path().join(taken)).unwrap(), "somebody's");
    }
}

#[test]
fn names_taken_between_look_and_rename_are_left_alone_too() {
    for (at_step, taken) in [(0, "a_slow2x.mp4"), (1, "a_slow2x.mp4.json")] {
        let case = case();
        let mut step = 0;
        let published = publish(&case.publication, &mut |_| {
            if step == at_step {
                fs::write(case.folder.path().join(taken), "somebody's").unwrap();
            }
            step += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(published.output.file_name().unwrap(), "a_slow2x~2.mp4");
        assert_eq!(fs::read_to_string(case.folder.path().join(taken)).unwrap(), "somebody's");
        let mut expected = vec![taken, "a_slow2x~2.mp4", "a_slow2x~2.mp4.json"];
        expected.sort_unstable();
        assert_eq!(listing(case.folder.path()), expected);
    }
}

/// W27.
#[test]
fn overwriting_is_done_only_where_configured() {
    let mut case = case();
    case.publication.collision = Collision::Overwrite;
    fs::write(&case.publication.output, "the last one").unwrap();
    publish(&case.publication, &mut |_| Ok(())).unwrap();
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
    assert_eq!(fs::read_to_string(&case.publication.output).unwrap(), CONTENT);
}

#[test]
fn a_report_with_a_name_of_its_own_is_not_numbered_and_replaces_only_where_that_is_said() {
    for (collision, replaced) in
        [(Collision::Rename, false), (Collision::Skip, false), (Collision::Overwrite, true)]
    {
        let mut case = case();
        let path = case.folder.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        case.publication.collision = collision;
        case.publication.report_path = Some(path.clone());
        let failure = publish_report_at(&path, &case.publication.report, collision);
        assert_eq!(failure.is_ok(), replaced, "{collision:?}");
        fs::write(&path, "mine").unwrap();
        let result = publish(&case.publication, &mut |_| Ok(()));
        assert_eq!(result.is_ok(), replaced, "{collision:?}: {result:?}");
        assert_eq!(fs::read(&path).unwrap() != b"mine", replaced, "{collision:?}");
        assert_eq!(case.publication.output.exists(), replaced);
        assert_eq!(listing(case.folder.path()).len(), 2, "nothing else is left");
    }
}

/// W27.
#[test]
fn where_skipping_is_configured_a_taken_name_ends_it_and_loses_nothing() {
    for when in ["before", "meanwhile"] {
        let mut case = case();
        case.publication.collision = Collision::Skip;
        let taken = case.publication.output.clone();
        if when == "before" {
            fs::write(&taken, "somebody's").unwrap();
        }
        let result = publish(&case.publication, &mut |step| {
            if let Step::Planned(planned) = step {
                fs::write(&planned.output, "somebody's").unwrap();
            }
            Ok(())
        });
        assert!(matches!(result, Err(PublishError::Taken(path)) if path == taken), "{when}");
        assert_eq!(fs::read_to_string(&taken).unwrap(), "somebody's");
        assert_eq!(fs::read_to_string(&case.publication.temporary).unwrap(), CONTENT);
    }
}

/// W22.
#[test]
fn a_name_that_the_journal_refuses_is_numbered() {
    let case = case();
    let published = publish(&case.publication, &mut |step| match step {
        Step::Planned(planned) if planned.output == case.publication.output => {
            Err(PublishError::Record(JournalError::NameTaken(planned.output.clone())))
        }
        _ => Ok(()),
    })
    .unwrap();
    assert_eq!(published.output.file_name().unwrap(), "a_slow2x~2.mp4");
    assert_eq!(listing(case.folder.path()), ["a_slow2x~2.mp4", "a_slow2x~2.mp4.json"]);
}

/// Two files wait to lie beside the output.
fn case_with_sidecars() -> Case {
    let mut case = case();
    let output = case.publication.report.output.as_mut().unwrap();
    for end in ["frames.csv", "html"] {
        let path = beside::prepare(&case.publication.temporary, end).unwrap();
        fs::write(&path, end).unwrap();
        output.sidecars.push(Sidecar {
            kind: "other".into(),
            path: format!("{}.{end}", output.path),
            path_b64: None,
            size_bytes: end.len() as u64,
            sha256: file_sha256(&path).unwrap(),
            streams: Vec::new(),
            samples: 0,
            boxes: Vec::new(),
        });
    }
    case
}

const WITH_SIDECARS: [&str; 4] =
    ["a_slow2x.mp4", "a_slow2x.mp4.frames.csv", "a_slow2x.mp4.html", "a_slow2x.mp4.json"];

/// What the report lists is there under those names.
fn assert_listed(report_path: &Path) {
    let report: Report = serde_json::from_slice(&fs::read(report_path).unwrap()).unwrap();
    for sidecar in report.output.unwrap().sidecars {
        assert_eq!(file_sha256(Path::new(&sidecar.path)).unwrap(), sidecar.sha256, "{sidecar:?}");
    }
}

/// A report can be written by anybody: what it lists that has no name beside the output shifts no other's.
#[test]
fn what_is_listed_from_elsewhere_shifts_no_name_of_what_lies_beside_an_output() {
    let mut case = case_with_sidecars();
    fs::write(&case.publication.output, "somebody's").unwrap();
    let listed = &mut case.publication.report.output.as_mut().unwrap().sidecars;
    listed.insert(1, Sidecar { path: "/elsewhere/b.html".into(), ..listed[0].clone() });
    let published = publish(&case.publication, &mut |_| Ok(())).unwrap();
    let report: Report =
        serde_json::from_slice(&fs::read(&published.report_path).unwrap()).unwrap();
    let named = |end: &str| format!("{}{end}", published.output.display());
    let found: Vec<_> = report.output.unwrap().sidecars.into_iter().map(|it| it.path).collect();
    assert_eq!(found, [named(".frames.csv"), "/elsewhere/b.html".into(), named(".html")]);
}

#[test]
fn what_lies_beside_an_output_is_published_with_it_after_any_interruption() {
    for collision in [Collision::Rename, Collision::Overwrite] {
        for steps in 0..=4 {
            let mut case = case_with_sidecars();
            case.publication.collision = collision;
            let planned = die_after(&case, steps).expect("the plan comes first");
            if planned.output.exists() && steps == 1 {
                // And between two files.
                let (from, to) = (beside::folder(&planned.temporary), &planned.output);
                let end = std::ffi::OsStr::new("frames.csv");
                fs::rename(from.join(end), beside::path_beside(to, end)).unwrap();
            }
            for _ in 0..2 {
                complete(&planned, collision, &mut |_| Ok(())).unwrap();
                assert_eq!(listing(case.folder.path()), WITH_SIDECARS, "after {steps} steps");
                assert_listed(&planned.report_path);
            }
        }
    }
}

#[test]
fn a_taken_name_beside_an_output_numbers_it_with_all_that_belongs_to_it() {
    for when in [0, 1, 2] {
        let case = case_with_sidecars();
        let taken = if when == 2 { "a_slow2x.mp4.json" } else { "a_slow2x.mp4.html" };
        let take = || fs::write(case.folder.path().join(taken), "somebody's").unwrap();
        if when == 0 {
            take();
        }
        let mut step = 0;
        let published = publish(&case.publication, &mut |_| {
            step += 1;
            if step == when {
                take();
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(published.output.file_name().unwrap(), "a_slow2x~2.mp4");
        assert_eq!(fs::read_to_string(case.folder.path().join(taken)).unwrap(), "somebody's");
        assert_eq!(listing(case.folder.path()).len(), 5, "{:?}", listing(case.folder.path()));
        assert_listed(&published.report_path);
    }
}

#[test]
fn overwriting_removes_what_lay_beside_the_old_output() {
    let mut case = case_with_sidecars();
    publish(&case.publication, &mut |_| Ok(())).unwrap();
    fs::write(&case.publication.temporary, CONTENT).unwrap();
    case.publication.collision = Collision::Overwrite;
    case.publication.report.output.as_mut().unwrap().sidecars.clear();
    publish(&case.publication, &mut |_| Ok(())).unwrap();
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
}

#[test]
fn removing_a_temporary_output_removes_what_was_to_lie_beside_it() {
    let case = case_with_sidecars();
    publish::remove_temporary(&case.publication.temporary).unwrap();
    assert_eq!(listing(case.folder.path()), [""; 0]);
}

/// An output that is gone takes nothing with it that lies beside its name and is somebody else's.
#[test]
fn what_lies_beside_a_lost_output_is_removed_only_where_it_is_its_own() {
    let case = case_with_sidecars();
    let planned = die_after(&case, 1).expect("the plan comes first");
    let (from, to) = (beside::folder(&planned.temporary), &planned.output);
    let own = std::ffi::OsStr::new("frames.csv");
    fs::rename(from.join(own), beside::path_beside(to, own)).unwrap();
    fs::remove_dir_all(&from).unwrap();
    fs::write(case.folder.path().join("a_slow2x.mp4.html"), "another's").unwrap();
    fs::write(to, "another's video").unwrap();
    let completion = complete(&planned, Collision::Rename, &mut |_| Ok(())).unwrap();
    assert_eq!(completion, Completion::Undone);
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.html"]);
}

/// Where anybody may write, a report's name may be that of a pipe, which never ends, or of a file larger than all memory.
#[test]
fn what_is_no_report_is_not_waited_for_and_not_read() {
    use std::os::unix::fs::symlink;
    for what in ["pipe", "huge", "folder", "link"] {
        let case = case();
        let planned = die_after(&case, 1).expect("the plan comes first");
        let path = planned.report_path.clone();
        match what {
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(&path).status();
                assert!(made.unwrap().success());
            }
            "huge" => fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
            "folder" => fs::create_dir(&path).unwrap(),
            _ => symlink("/dev/zero", &path).unwrap(),
        }
        let (done, waited) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let read = publish::read_report(&path);
            let completed = complete(&planned, Collision::Rename, &mut |_| Ok(()));
            done.send(Box::new((read, completed))).unwrap();
        });
        let answer = waited.recv_timeout(std::time::Duration::from_secs(20));
        let (read, completed) = *answer.unwrap_or_else(|_| panic!("{what}: no answer"));
        assert!(matches!(read, Ok(None)), "{what}: {read:?}");
        let Ok(Completion::Published(published)) = completed else {
            panic!("{what}: {completed:?}")
        };
        assert_eq!(published.output.file_name().unwrap(), "a_slow2x~2.mp4", "{what}");
    }
}

/// A report that got its name by a link, and was not rid of its temporary one, is no more than one.
#[test]
fn a_link_to_a_report_that_was_not_unlinked_is_removed() {
    let case = case();
    let planned = die_after(&case, 4).expect("the plan comes first");
    let temporary = names::temporary_report(&planned.report_path);
    fs::hard_link(&planned.report_path, &temporary).unwrap();
    complete(&planned, Collision::Rename, &mut |_| Ok(())).unwrap();
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
}

/// Publishes, dies after `steps` steps, and returns what the journal knew then.
fn die_after(case: &Case, steps: usize) -> Option<Planned> {
    let (mut count, mut known) = (0, None);
    let result = publish(&case.publication, &mut |step| {
        if let Step::Planned(planned) = step {
            known = Some(planned.clone());
        }
        count += 1;
        if count > steps { Err(stopped()) } else { Ok(()) }
    });
    assert_eq!(result.is_err(), steps < 4, "there are four steps");
    known
}

#[test]
fn an_interruption_after_any_step_is_completed_and_only_once() {
    for collision in [Collision::Rename, Collision::Overwrite] {
        for steps in 0..=4 {
            let mut case = case();
            case.publication.collision = collision;
            let planned = die_after(&case, steps).expect("the plan comes first");
            if steps < 3 {
                assert!(!planned.report_path.exists(), "the report comes last");
            }
            let expected = Published {
                output: planned.output.clone(),
                report_path: planned.report_path.clone(),
            };
            for round in 0..2 {
                let completion = complete(&planned, collision, &mut |_| Ok(())).unwrap();
                assert_eq!(completion, Completion::Published(expected.clone()), "{steps} {round}");
                assert_eq!(
                    listing(case.folder.path()),
                    ["a_slow2x.mp4", "a_slow2x.mp4.json"],
                    "after {steps} steps"
                );
            }
        }
    }
}

#[test]
fn a_completion_may_be_interrupted_as_well() {
    for first in 0..4 {
        for second in 0..4 {
            let case = case();
            let mut planned = die_after(&case, first).unwrap();
            let (mut count, begun) = (0, planned.clone());
            let _ = complete(&begun, Collision::Rename, &mut |step| {
                if let Step::Planned(later) = step {
                    planned = later.clone();
                }
                count += 1;
                if count > second { Err(stopped()) } else { Ok(()) }
            });
            complete(&planned, Collision::Rename, &mut |_| Ok(())).unwrap();
            assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
        }
    }
}

#[test]
fn an_output_that_is_gone_or_cut_is_worked_again() {
    let case = case();
    let planned = die_after(&case, 0).unwrap();
    fs::write(&planned.temporary, "cut").unwrap();
    assert_eq!(complete(&planned, Collision::Rename, &mut |_| Ok(())).unwrap(), Completion::Undone);
    assert_eq!(listing(case.folder.path()), [""; 0]);

    let case = self::case();
    let planned = die_after(&case, 1).unwrap();
    fs::write(&planned.output, "somebody replaced it").unwrap();
    assert_eq!(complete(&planned, Collision::Rename, &mut |_| Ok(())).unwrap(), Completion::Undone);
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4"], "it is left alone");
}

#[test]
fn a_link_that_was_not_unlinked_is_no_second_output() {
    let case = case();
    let planned = die_after(&case, 0).unwrap();
    fs::hard_link(&planned.temporary, &planned.output).unwrap();
    complete(&planned, Collision::Rename, &mut |_| Ok(())).unwrap();
    assert_eq!(listing(case.folder.path()), ["a_slow2x.mp4", "a_slow2x.mp4.json"]);
}

#[test]
fn reports_without_output_replace_only_their_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(names::report_name_without_output(Path::new("a.mp4"), "refused"));
    let temporary = names::temporary(&folder.path().join("a_slow2x.mp4"), 7, 1);
    let first = report(Status::Refused);
    assert_eq!(publish_report(&temporary, &path, &first).unwrap(), path);
    assert_eq!(
        publish_report(&temporary, &path, &first).unwrap(),
        path,
        "again after a crash: the same file"
    );
    let mut other = report(Status::Refused);
    other.source.sha256 = Some("another content".into());
    let second = publish_report(&temporary, &path, &other).unwrap();
    assert_eq!(second.file_name().unwrap(), "a.mp4.refused~2.json");
    fs::write(folder.path().join("a.mp4.refused.json"), "not ours").unwrap();
    publish_report(&temporary, &path, &first).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "not ours");
    assert_eq!(listing(folder.path()).len(), 3);
}

/// What an interruption leaves of it has a name that belongs to its job.
#[test]
fn a_report_without_an_output_is_removed_with_what_its_job_left() {
    let folder = tempfile::tempdir().unwrap();
    // Where it is to be, it cannot.
    let path = folder.path().join("a.mp4.refused.json");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("mine"), "").unwrap();
    let result = publish_report_at(&path, &report(Status::Refused), Collision::Overwrite);
    assert!(matches!(result, Err(PublishError::Io { .. })), "{result:?}");
    assert_eq!(
        listing(folder.path()),
        ["a.mp4.refused.json"],
        "of the command line nothing is left"
    );
    let temporary = names::temporary(&folder.path().join("a_slow2x.mp4"), 7, 1);
    let left = names::report_of_temporary(&temporary);
    fs::write(&left, "{").unwrap();
    fs::write(folder.path().join("a_slow2x.json"), "mine").unwrap();
    publish::remove_temporary(&temporary).unwrap();
    assert_eq!(listing(folder.path()), ["a.mp4.refused.json", "a_slow2x.json"]);
    publish::remove_temporary(&folder.path().join("a_slow2x.mp4")).unwrap();
    assert_eq!(listing(folder.path()).len(), 2, "only what is temporary takes anything with it");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let mut case = case();
    case.publication.temporary = "/nonexistent/.t".into();
    let error = publish(&case.publication, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/.t"), "{error}");
}
