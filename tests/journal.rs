//! The journal: claims, fencing, restarts, and what happens to damaged files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use slomod::daemon::journal::{
    Again, Claim, Count, End, FILE_NAME, Journal, JournalError, LONGEST_WAIT_MS, NewJob, Original,
    Planned,
};
use slomod::daemon::snapshot::Snapshot;
use slomod::error::{Classify, Consequence, ExitCode};
use slomod::pipeline::Progress;

const LEASE_MS: i64 = 60_000;

fn state() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    (folder, journal)
}

fn snapshot(size_bytes: u64) -> Snapshot {
    Snapshot { size_bytes, mtime_ns: 5, ctime_ns: 5, inode: u64::MAX - 1 }
}

fn submit(journal: &mut Journal, watch: &str, name: &str, sha256: &str, now_ms: i64) -> i64 {
    let new = NewJob {
        watch,
        relative: Path::new(name),
        snapshot: snapshot(10),
        sha256,
        settings: "{}",
        settings_sha256: "s",
        list_sha256: "",
    };
    journal.submit(&new, now_ms).unwrap()
}

fn claim(journal: &mut Journal, watches: &[&str], now_ms: i64) -> Option<Claim> {
    journal.claim("me", watches, now_ms, LEASE_MS).unwrap()
}

fn planned() -> Planned {
    Planned {
        temporary: "/out/.t".into(),
        output: "/out/v.mp4".into(),
        report_path: "/out/v.mp4.json".into(),
        report: "{}".into(),
    }
}

fn states(journal: &Journal) -> Vec<String> {
    journal.jobs(100).unwrap().into_iter().map(|job| job.state).collect()
}

#[test]
fn a_job_goes_from_queued_to_done() {
    let (_folder, mut journal) = state();
    let job = submit(&mut journal, "/in", "a.mp4", "h", 1);
    let claim = claim(&mut journal, &["/in"], 2).unwrap();
    assert_eq!((claim.job, claim.attempt), (job, 1));
    assert_eq!(claim.inode, u64::MAX - 1, "numbers keep all 64 bits");
    let progress = Progress { frames_out: 7, ..Progress::default() };
    journal.progress(&claim, &progress, 3, LEASE_MS).unwrap();
    assert_eq!(journal.jobs(0).unwrap()[0].progress.as_ref().unwrap().frames_out, 7);
    journal.publishing(&claim, &planned()).unwrap();
    journal.done(&claim, Original::Kept, 4).unwrap();
    assert_eq!(states(&journal), ["done"]);
    assert_eq!(journal.counts().unwrap().done, 1);
    assert!(self::claim(&mut journal, &["/in"], 9).is_none());
}

#[test]
fn a_file_is_known_until_its_size_time_or_inode_changes() {
    let (_folder, mut journal) = state();
    let name = Path::new("a.mp4");
    assert!(!journal.knows("/in", name, &snapshot(10)).unwrap());
    let job = submit(&mut journal, "/in", "a.mp4", "h", 1);
    assert!(journal.knows("/in", name, &snapshot(10)).unwrap());
    let chmod = Snapshot { ctime_ns: 99, ..snapshot(10) };
    assert!(journal.knows("/in", name, &chmod).unwrap(), "a chmod is no new content");
    assert!(!journal.knows("/in", name, &snapshot(11)).unwrap());
    assert!(!journal.knows("/other", name, &snapshot(10)).unwrap());
    let seen = journal.seen("/in", name).unwrap().unwrap();
    assert_eq!((seen.job, seen.state.as_str(), seen.sha256.as_str()), (job, "queued", "h"));
    let touched = NewJob {
        watch: "/in",
        relative: name,
        snapshot: Snapshot { mtime_ns: 6, ..snapshot(10) },
        sha256: "h",
        settings: "{}",
        settings_sha256: "s",
        list_sha256: "",
    };
    journal.same_again(job, &touched).unwrap();
    assert!(journal.knows("/in", name, &touched.snapshot).unwrap());
    assert_eq!(claim(&mut journal, &["/in"], 2).unwrap().mtime_ns, 6);
}

#[test]
fn names_that_are_no_text_come_back_byte_for_byte() {
    use std::os::unix::ffi::OsStringExt;
    let (_folder, mut journal) = state();
    let name = PathBuf::from(std::ffi::OsString::from_vec(b"sub/\xff\n' \xfe.mp4".to_vec()));
    let new = NewJob {
        watch: "/in",
        relative: &name,
        snapshot: snapshot(1),
        sha256: "h",
        settings: "{}",
        settings_sha256: "s",
        list_sha256: "",
    };
    journal.submit(&new, 1).unwrap();
    assert_eq!(claim(&mut journal, &["/in"], 2).unwrap().relative, name);
}

#[test]
fn folders_take_turns_and_each_serves_its_oldest_first() {
    let (_folder, mut journal) = state();
    for (now, (watch, name)) in
        [("/a", "1"), ("/a", "2"), ("/a", "3"), ("/b", "1"), ("/b", "2"), ("/off", "1")]
            .into_iter()
            .enumerate()
    {
        submit(&mut journal, watch, name, name, now as i64);
    }
    let order: Vec<_> = (10..)
        .map_while(|now| claim(&mut journal, &["/a", "/b"], now))
        .map(|claim| format!("{}/{}", claim.watch, claim.relative.display()))
        .collect();
    assert_eq!(order, ["/a/1", "/b/1", "/a/2", "/b/2", "/a/3"], "/off is not served");
}

/// W29.
#[test]
fn a_hundred_thousand_waiting_jobs_do_not_slow_a_claim_down() {
    let (folder, mut journal) = state();
    submit(&mut journal, "/a", "first", "h", 0);
    drop(journal);
    let raw = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         INSERT INTO jobs (watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings, settings_sha256,
                           state, next_try_ms, queued_ms)
         SELECT '/a', CAST(i AS BLOB), 1, 1, 1, i, '{}', 's', 'queued', 1, 1 FROM n",
    )
    .unwrap();
    drop(raw);
    let mut journal = Journal::open(folder.path()).unwrap();
    let begin = std::time::Instant::now();
    for now in 1..=20 {
        assert!(claim(&mut journal, &["/a"], now).is_some());
    }
    // A claim reads one index entry; reading them all would take about 50 ms each.
    assert!(begin.elapsed().as_millis() < 20 * 100, "{:?} for 20 claims", begin.elapsed());
}

/// W40.
#[test]
fn a_later_claim_fences_an_earlier_attempt_off() {
    let (_folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    let first = claim(&mut journal, &["/in"], 2).unwrap();
    journal.requeue_dead("another daemon", 3).unwrap();
    let second = claim(&mut journal, &["/in"], 4).unwrap();
    assert_eq!(second.attempt, 2);
    for stale in [
        journal.publishing(&first, &planned()),
        journal.progress(&first, &Progress::default(), 5, LEASE_MS),
        journal.writing(&first, Path::new("/t")),
        journal.again(&first, &later(Count::Failure, 9)),
        journal.end(&first, &end("refused"), 5),
    ] {
        assert!(matches!(stale, Err(JournalError::Fenced { attempt: 1, .. })), "{stale:?}");
    }
    journal.publishing(&second, &planned()).unwrap();
    assert!(matches!(journal.done(&first, Original::Kept, 6), Err(JournalError::Fenced { .. })));
    journal.done(&second, Original::Kept, 6).unwrap();
    let again = journal.done(&second, Original::Kept, 7);
    assert!(matches!(again, Err(JournalError::Fenced { .. })), "a job is done once");
}

fn later(count: Count, next_try_ms: i64) -> Again<'static> {
    Again { count, next_try_ms, code: "busy", message: "later" }
}

fn end(state: &'static str) -> End<'static> {
    End {
        state,
        code: "not_video",
        message: "no video",
        report_path: Some(Path::new("/out/a.refused.json")),
        duplicate_of: None,
        original: Original::Kept,
        ground: None,
    }
}

#[test]
fn pauses_are_kept_and_tries_are_counted_by_kind() {
    let (_folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    let counts = [Count::Nothing, Count::Delay, Count::Delay, Count::Failure, Count::Crash];
    for (round, count) in counts.into_iter().enumerate() {
        let now = 100 * round as i64;
        assert!(round == 0 || claim(&mut journal, &["/in"], now - 1).is_none(), "not before");
        let taken = claim(&mut journal, &["/in"], now + 1).unwrap();
        journal.again(&taken, &later(count, now + 100)).unwrap();
    }
    let taken = claim(&mut journal, &["/in"], 9999).unwrap();
    assert_eq!((taken.delays, taken.failures, taken.crashes), (2, 1, 1));
}

/// W12. A wait that was noted before the clock was set back by an hour would last an hour too long.
#[test]
fn a_wait_from_before_a_step_of_the_clock_holds_no_job_up() {
    let (_folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    let hour_ms = 3_600_000;
    let first = claim(&mut journal, &["/in"], 2 * hour_ms).unwrap();
    journal.again(&first, &later(Count::Delay, 2 * hour_ms + LONGEST_WAIT_MS)).unwrap();
    assert!(claim(&mut journal, &["/in"], 2 * hour_ms).is_none(), "the longest wait is kept");
    assert_eq!(claim(&mut journal, &["/in"], hour_ms).unwrap().attempt, 2);
}

#[test]
fn only_failed_and_refused_jobs_are_tried_again() {
    let (_folder, mut journal) = state();
    let job = submit(&mut journal, "/in", "a.mp4", "h", 1);
    assert!(journal.retry(job, 2).unwrap_err().to_string().contains("queued"));
    assert!(journal.retry(77, 2).unwrap_err().to_string().contains("no job 77"));
    let taken = claim(&mut journal, &["/in"], 2).unwrap();
    journal.end(&taken, &end("refused"), 3).unwrap();
    assert!(claim(&mut journal, &["/in"], 4).is_none());
    journal.retry(job, 5).unwrap();
    let taken = claim(&mut journal, &["/in"], 6).unwrap();
    assert_eq!(taken.attempt, 2, "the token keeps counting");
    assert_eq!(taken.report_path.as_deref(), Some(Path::new("/out/a.refused.json")));
}

#[test]
fn a_replaced_file_cancels_its_waiting_job() {
    let (_folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "old", 1);
    let new = submit(&mut journal, "/in", "a.mp4", "new", 2);
    assert_eq!(states(&journal), ["cancelled", "queued"]);
    assert_eq!(claim(&mut journal, &["/in"], 3).unwrap().job, new);
    assert!(claim(&mut journal, &["/in"], 4).is_none());
}

#[test]
fn a_cancelled_jobs_file_is_unknown_again() {
    let (_folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    let taken = claim(&mut journal, &["/in"], 2).unwrap();
    journal.end(&taken, &end("cancelled"), 3).unwrap();
    assert!(!journal.knows("/in", Path::new("a.mp4"), &snapshot(10)).unwrap());
}

/// W21.
#[test]
fn twins_have_content_and_settings_in_common_and_are_done_or_about_to_be() {
    let (_folder, mut journal) = state();
    let first = submit(&mut journal, "/in", "a.mp4", "same", 1);
    submit(&mut journal, "/in", "b.mp4", "same", 2);
    let a = claim(&mut journal, &["/in"], 3).unwrap();
    let b = claim(&mut journal, &["/in"], 4).unwrap();
    assert!(journal.twin(&b).unwrap().is_empty(), "the first is not done yet");
    let found = |journal: &Journal| {
        let twins = journal.twin(&b).unwrap().into_iter();
        twins.map(|it| (it.job, it.is_done, it.is_of_the_same_place)).collect::<Vec<_>>()
    };
    journal.publishing(&a, &planned()).unwrap();
    assert_eq!(found(&journal), [(first, false, false)]);
    journal.done(&a, Original::Kept, 5).unwrap();
    assert_eq!(found(&journal), [(first, true, false)]);
    let again = Claim { job: b.job, ..a };
    assert!(journal.twin(&again).unwrap()[0].is_of_the_same_place);
    let other = Claim { settings_sha256: "other".into(), ..b };
    assert!(journal.twin(&other).unwrap().is_empty());
}

#[test]
fn originals_wait_until_they_were_moved() {
    let (_folder, mut journal) = state();
    let job = submit(&mut journal, "/in", "a.mp4", "h", 1);
    let taken = claim(&mut journal, &["/in"], 2).unwrap();
    journal.publishing(&taken, &planned()).unwrap();
    journal.done(&taken, Original::Pending, 3).unwrap();
    assert_eq!(journal.originals_pending("/in", |_| true).unwrap().len(), 1);
    assert!(journal.originals_pending("/elsewhere", |_| true).unwrap().is_empty());
    assert_eq!(journal.watches_with_originals().unwrap(), ["/in"]);
    journal.original_moved(job, "to /originals/a.mp4").unwrap();
    assert!(journal.watches_with_originals().unwrap().is_empty());
    assert!(journal.originals_pending("/in", |_| true).unwrap().is_empty());
    assert!(!journal.knows("/in", Path::new("a.mp4"), &snapshot(10)).unwrap());
}

/// Copies the journal's files as a crash would leave them: whatever was written, in whatever state.
fn crashed_copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn a_crash_after_any_statement_leaves_a_journal_from_which_every_job_ends_once() {
    let (folder, mut journal) = state();
    let mut copies = vec![crashed_copy(folder.path())];
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    copies.push(crashed_copy(folder.path()));
    let taken = claim(&mut journal, &["/in"], 2).unwrap();
    copies.push(crashed_copy(folder.path()));
    journal.writing(&taken, Path::new("/out/.t")).unwrap();
    copies.push(crashed_copy(folder.path()));
    journal.publishing(&taken, &planned()).unwrap();
    copies.push(crashed_copy(folder.path()));
    journal.done(&taken, Original::Pending, 4).unwrap();
    copies.push(crashed_copy(folder.path()));
    journal.original_moved(taken.job, "to /originals/a.mp4").unwrap();
    copies.push(crashed_copy(folder.path()));

    let after: Vec<String> = copies
        .iter()
        .map(|copy| {
            let mut journal = Journal::open(copy.path()).unwrap();
            journal.requeue_dead("the next daemon", 9).unwrap();
            let left = journal.leftovers().unwrap().len();
            let unpublished = journal.unpublished().unwrap().len();
            format!("{} {left} {unpublished}", states(&journal).join(","))
        })
        .collect();
    assert_eq!(
        after,
        [
            " 0 0",
            "queued 0 0",
            "queued 0 0",
            "queued 1 0",
            "publishing 0 1",
            "done 1 0",
            "done 1 0"
        ]
    );
}

#[test]
fn a_crash_within_a_transaction_leaves_what_was_before_it() {
    let (folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    let raw = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.execute_batch(
        "PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE;
         UPDATE jobs SET state = 'done';
         UPDATE jobs SET settings = hex(randomblob(2000000));",
    )
    .unwrap();
    let copy = crashed_copy(folder.path());
    drop(raw);
    assert_eq!(states(&Journal::open(copy.path()).unwrap()), ["queued"]);
}

/// W34.
#[test]
fn a_truncated_write_ahead_log_reopens_at_its_last_whole_transaction() {
    let (folder, mut journal) = state();
    submit(&mut journal, "/in", "a.mp4", "h", 1);
    let wal = format!("{FILE_NAME}-wal");
    let whole = std::fs::metadata(folder.path().join(&wal)).unwrap().len();
    submit(&mut journal, "/in", "b.mp4", "i", 2);
    let copy = crashed_copy(folder.path());
    let file = std::fs::OpenOptions::new().write(true).open(copy.path().join(&wal)).unwrap();
    assert!(file.metadata().unwrap().len() > whole);
    file.set_len(whole + 100).unwrap();
    let _ = std::fs::remove_file(copy.path().join(format!("{FILE_NAME}-shm")));
    assert_eq!(states(&Journal::open(copy.path()).unwrap()), ["queued"]);
}

/// W34.
#[test]
fn a_damaged_journal_is_refused_and_left_as_it_is() {
    let (folder, mut journal) = state();
    for number in 0..500 {
        submit(&mut journal, "/in", &format!("{number}.mp4"), "h", number);
    }
    drop(journal);
    let path = folder.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let damaged_in_the_middle = {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xA5);
        bytes
    };
    for (what, bytes) in [
        ("garbage", b"no journal at all, but long enough to be read as one ...".repeat(40)),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("damaged in the middle", damaged_in_the_middle),
        ("empty", Vec::new()),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let error = Journal::open(folder.path()).expect_err(what);
        assert!(
            matches!(error, JournalError::Damaged { .. } | JournalError::Missing(_)),
            "{what}: {error}"
        );
        assert_eq!(error.consequence(), Consequence::Stop);
        assert_eq!(error.exit_code(), ExitCode::Config);
        assert!(error.to_string().contains(FILE_NAME), "{error}");
        assert!(std::fs::read(&path).unwrap() == bytes, "{what}: left as it is");
    }
}

/// W34.
#[test]
fn a_lost_journal_is_no_first_start() {
    let (folder, journal) = state();
    drop(journal);
    std::fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Missing(_))));
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Missing(_))), "and stays so");
}

#[test]
fn a_newer_journal_and_a_foreign_database_are_refused() {
    let (folder, journal) = state();
    drop(journal);
    let raw = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Newer { found: 99, .. })));

    let folder = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.execute_batch("CREATE TABLE recipes (id INTEGER)").unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Damaged { .. })));
}

/// W34.
#[test]
fn a_state_folder_that_is_none_is_named() {
    let error = Journal::open(Path::new("/nonexistent/state")).unwrap_err();
    assert!(matches!(error, JournalError::Unwritable { .. }), "{error}");
    assert!(error.to_string().contains("/nonexistent/state"));
    let folder = tempfile::tempdir().unwrap();
    let error = Journal::open_existing(folder.path()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
}

/// W16.
#[test]
fn jobs_of_a_folder_that_is_not_mounted_wait_together_and_are_woken_together() {
    let (folder, mut journal) = state();
    let (first, second) = (
        submit(&mut journal, "/in", "a.mp4", "a", 1),
        submit(&mut journal, "/in", "b.mp4", "b", 2),
    );
    let other = submit(&mut journal, "/in", "c.mp4", "c", 3);
    for (job, root) in [(first, "share"), (second, "share"), (other, "below")] {
        journal.remember_root(job, root).unwrap();
    }
    let taken = claim(&mut journal, &["/in"], 10).unwrap();
    assert_eq!(taken.job, first);
    journal.postpone_root("/in", "share", 1000, ("offline", "is it mounted?")).unwrap();
    let again = Again { code: "offline", ..later(Count::Delay, 1000) };
    journal.again(&taken, &again).unwrap();
    assert_eq!(claim(&mut journal, &["/in"], 20).unwrap().job, other);
    assert!(claim(&mut journal, &["/in"], 999).is_none());
    drop(journal);
    let mut journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.root_of(first).unwrap().as_deref(), Some("share"));
    journal.wake("/in", "offline", 30).unwrap();
    let woken = claim(&mut journal, &["/in"], 30).unwrap();
    assert_eq!((woken.job, woken.delays), (first, 1));
    let woken = claim(&mut journal, &["/in"], 30).unwrap();
    assert_eq!((woken.job, woken.delays), (second, 1), "they wait as long as each other");
}

/// W12.
#[test]
fn a_clock_that_is_set_back_makes_no_job_wait_longer() {
    let (_folder, mut journal) = state();
    // A step within the longest wait: a claim sees through larger ones by itself.
    let (hour_ms, step_ms) = (3_600_000, 600_000);
    let now_ms = 10 * hour_ms - step_ms;
    submit(&mut journal, "/in", "a.mp4", "a", 10 * hour_ms);
    assert!(claim(&mut journal, &["/in"], now_ms).is_none());
    journal.clock_set_back(step_ms).unwrap();
    let taken = claim(&mut journal, &["/in"], now_ms).unwrap();
    journal.again(&taken, &later(Count::Delay, now_ms + 900_000)).unwrap();
    // It was set back while no daemon ran.
    journal.limit_waiting(900_000, now_ms).unwrap();
    assert!(claim(&mut journal, &["/in"], now_ms).is_none(), "a pause is a pause");
    journal.limit_waiting(900_000, now_ms - hour_ms).unwrap();
    assert!(claim(&mut journal, &["/in"], now_ms - hour_ms).is_some());
}
