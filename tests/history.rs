//! The journal over time: its history, its order, what it knows of other jobs, and journals of older versions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use slomod::daemon::journal::{
    Again, Chain, Claim, Count, End, FILE_NAME, Journal, JournalError, NewJob, Original, Planned,
};
use slomod::daemon::refusal::grounds;
use slomod::daemon::snapshot::Snapshot;
use slomod::error::{Classify, ExitCode};

/// Tables and rows as version 1 wrote them.
const VERSION_1: &str = include_str!("support/journal_v1.sql");
/// File name of the copy that is kept of it.
const COPY: &str = "journal.sqlite.v1";

fn state() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    (folder, journal)
}

fn submit(journal: &mut Journal, name: &str, sha256: &str, mtime_ns: i64) -> i64 {
    let new = NewJob {
        watch: "/in",
        relative: Path::new(name),
        snapshot: Snapshot { size_bytes: 1, mtime_ns, ctime_ns: 1, inode: 1 },
        sha256,
        settings: "{}",
        settings_sha256: "s",
        list_sha256: "",
    };
    journal.submit(&new, 1).unwrap()
}

fn claim(journal: &mut Journal, now_ms: i64) -> Option<Claim> {
    journal.claim("me", &["/in"], now_ms, 60_000).unwrap()
}

fn planned(output: &str, sha256: &str) -> Planned {
    Planned {
        temporary: "/out/.t".into(),
        output: output.into(),
        report_path: format!("{output}.json").into(),
        report: format!("{{\"output\": {{\"sha256\": \"{sha256}\", \"path\": \"\"}}}}"),
    }
}

fn events(journal: &Journal, job: i64) -> Vec<String> {
    let history = journal.history(job).unwrap().unwrap();
    history.events.iter().map(|it| format!("{} {}", it.what, it.attempt)).collect()
}

#[test]
fn the_history_of_a_job_says_what_when_by_which_machine_and_version() {
    let (_folder, mut journal) = state();
    let job = submit(&mut journal, "a.mp4", "content", 1);
    let first = claim(&mut journal, 2).unwrap();
    let again = Again { count: Count::Delay, next_try_ms: 3, code: "busy", message: "later" };
    journal.again(&first, &again).unwrap();
    let second = claim(&mut journal, 4).unwrap();
    journal.requeue_dead("another daemon", 5).unwrap();
    let stale = journal.publishing(&second, &planned("/out/a.mp4", "o"));
    assert!(stale.is_err(), "it was taken away");
    let third = claim(&mut journal, 6).unwrap();
    journal.publishing(&third, &planned("/out/a.mp4", "o")).unwrap();
    journal.done(&third, Original::Pending, 7).unwrap();
    journal.original_moved(job, "to /originals/a.mp4").unwrap();
    assert_eq!(
        events(&journal, job),
        [
            "received 0",
            "claimed 1",
            "queued 1",
            "claimed 2",
            "interrupted 2",
            "claimed 3",
            "publishing 3",
            "done 3",
            "original moved 3"
        ],
        "and nothing of the attempt that was fenced off"
    );
    let history = journal.history(job).unwrap().unwrap();
    assert_eq!(history.job.state, "done");
    assert_eq!(history.events[0].detail, "sha256 content");
    assert_eq!(history.events[2].detail, "busy: later");
    assert_eq!(history.events[6].detail, "/out/a.mp4");
    assert_eq!(history.events[8].detail, "to /originals/a.mp4");
    let host = slomod::report::machine::host().name;
    for event in &history.events {
        assert_eq!((&event.host, event.version.as_str()), (&host, env!("CARGO_PKG_VERSION")));
        assert!(event.at_ms > 1_600_000_000_000, "milliseconds since 1970: {}", event.at_ms);
    }
    assert!(journal.history(99).unwrap().is_none());
}

#[test]
fn ends_retries_and_new_settings_are_in_the_history() {
    let (_folder, mut journal) = state();
    let job = submit(&mut journal, "a.mp4", "h", 1);
    let taken = claim(&mut journal, 2).unwrap();
    let end = End {
        state: "skipped",
        code: "output_exists",
        message: "it is there",
        report_path: None,
        duplicate_of: None,
        original: Original::Kept,
        ground: None,
    };
    journal.end(&taken, &end, 3).unwrap();
    assert_eq!(journal.counts().unwrap().skipped, 1);
    journal.retry(job, 4).unwrap();
    assert_eq!(journal.update_settings("/in", "{}", "s").unwrap(), 0, "the same settings");
    assert_eq!(journal.update_settings("/in", "{}", "t").unwrap(), 1);
    let replaced = submit(&mut journal, "a.mp4", "new", 9);
    assert_eq!(
        events(&journal, job),
        ["received 0", "claimed 1", "skipped 1", "retry 1", "settings 1", "cancelled 1"]
    );
    assert_eq!(events(&journal, replaced), ["received 0"]);
}

#[test]
fn the_oldest_file_comes_first_whenever_it_was_queued_and_equal_ones_by_name() {
    let (_folder, mut journal) = state();
    for (name, mtime_ns) in [("d", 5), ("b", 7), ("a", 7), ("c", -3), ("e", i64::MAX)] {
        submit(&mut journal, name, name, mtime_ns);
    }
    let order: Vec<_> = (10..)
        .map_while(|now| claim(&mut journal, now))
        .map(|claim| claim.relative.to_string_lossy().into_owned())
        .collect();
    assert_eq!(order, ["c", "d", "a", "b", "e"]);
}

/// W22, W30.
#[test]
fn outputs_are_known_by_name_in_any_case_and_by_content() {
    let (_folder, mut journal) = state();
    submit(&mut journal, "A.mp4", "h", 1);
    let first = claim(&mut journal, 2).unwrap();
    journal.publishing(&first, &planned("/out/Übung_slow.mp4", "made")).unwrap();
    assert_eq!(journal.output_with("made").unwrap(), Some(PathBuf::from("/out/Übung_slow.mp4")));
    journal.done(&first, Original::Kept, 3).unwrap();
    submit(&mut journal, "a.mp4", "i", 1);
    let second = claim(&mut journal, 4).unwrap();
    let differs = |name: &str| journal.differs_by_more_than_case(&second, Path::new(name));
    assert!(matches!(differs("/out/übung_SLOW.mp4"), Err(JournalError::NameTaken(_))));
    assert!(differs("/out/Übung_slow~2.mp4").is_ok());
    assert!(differs("/elsewhere/übung_slow.mp4").is_ok());
    assert!(differs("/out/Übung_slow.mp4").is_ok(), "equal names are for the file system to find");
    assert_eq!(journal.output_with("something else").unwrap(), None);
}

#[test]
fn the_list_is_short_however_long_the_queue() {
    let (_folder, mut journal) = state();
    for number in 0..50 {
        submit(&mut journal, &format!("{number:02}"), &number.to_string(), 100 - number);
    }
    let running = claim(&mut journal, 2).unwrap();
    let listed: Vec<_> = journal.list(3, 5).unwrap().into_iter().map(|it| it.source).collect();
    assert_eq!(running.relative, Path::new("49"), "the oldest");
    assert_eq!(listed, ["/in/46", "/in/47", "/in/48", "/in/49"]);
    assert_eq!(journal.jobs(0).unwrap().len(), 50);
}

#[test]
fn counts_follow_what_this_and_other_connections_write() {
    let (folder, mut journal) = state();
    for round in 1..=3 {
        submit(&mut journal, &round.to_string(), "h", 1);
        assert_eq!(journal.counts().unwrap().queued, round);
        assert_eq!(journal.counts().unwrap().queued, round);
    }
    let mut other = Journal::open_existing(folder.path()).unwrap();
    assert_eq!(other.counts().unwrap().queued, 3);
    submit(&mut other, "4", "h", 1);
    assert_eq!((journal.counts().unwrap().queued, other.counts().unwrap().queued), (4, 4));
    claim(&mut journal, 5).unwrap();
    assert_eq!((journal.counts().unwrap().running, other.counts().unwrap().running), (1, 1));
}

/// A state folder as version 1 left it.
fn version_1() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let raw = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.pragma_update(None, "journal_mode", "WAL").unwrap();
    raw.execute_batch(VERSION_1).unwrap();
    std::fs::write(folder.path().join("journal.created"), "").unwrap();
    folder
}

/// Every value of the columns that version 1 had, in order.
fn rows(path: &Path) -> Vec<String> {
    let raw = Connection::open(path).unwrap();
    let mut rows = Vec::new();
    for (table, columns) in [
        (
            "jobs",
            "id, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings, settings_sha256, state, attempt, \
             failures, crashes, delays, lease_owner, lease_until_ms, next_try_ms, queued_ms, started_ms, finished_ms, \
             temporary_path, output_path, report_path, report, error_code, error_message, duplicate_of, original, \
             progress, progress_ms",
        ),
        ("files", "watch, relative_path, size_bytes, mtime_ns, inode, job"),
        ("daemon", "id, pid, started_ms, seen_ms, status"),
    ] {
        let mut query =
            raw.prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2")).unwrap();
        let count = query.column_count();
        let found = query
            .query_map([], |row| {
                (0..count).map(|index| row.get::<_, rusqlite::types::Value>(index)).collect()
            })
            .unwrap()
            .map(|row: rusqlite::Result<Vec<_>>| format!("{table} {:?}", row.unwrap()));
        rows.extend(found);
    }
    rows
}

fn version(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// All definitions, without layout.
fn definitions(folder: &Path) -> Vec<String> {
    let raw = Connection::open(folder.join(FILE_NAME)).unwrap();
    let mut query = raw
        .prepare("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        .unwrap();
    query
        .query_map([], |row| {
            Ok(format!("{} {}", row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn a_journal_of_version_1_keeps_every_value_and_its_jobs_go_on() {
    let folder = version_1();
    let before = rows(&folder.path().join(FILE_NAME));
    assert_eq!(before.len(), 12);
    let error = Journal::open_existing(folder.path()).unwrap_err();
    assert!(matches!(error, JournalError::Older { found: 1, .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Config);

    let mut journal = Journal::open(folder.path()).unwrap();
    assert_eq!(rows(&folder.path().join(FILE_NAME)), before);
    assert_eq!(version(&folder.path().join(FILE_NAME)), 9);
    let (fresh, _journal) = state();
    assert_eq!(definitions(folder.path()), definitions(fresh.path()));

    assert_eq!(journal.requeue_dead("me", 20).unwrap(), 1);
    assert_eq!(journal.unpublished().unwrap().len(), 1);
    let watches = journal.watches_with_originals().unwrap();
    assert_eq!(journal.originals_pending(&watches[0], |_| true).unwrap()[0].job, 1);
    assert_eq!(journal.leftovers().unwrap().iter().map(|it| it.job).collect::<Vec<_>>(), [4, 6]);
    let oldest = claim(&mut journal, 30).unwrap();
    assert_eq!((oldest.job, oldest.attempt), (4, 3), "tokens go on counting");
    let next = claim(&mut journal, 31).unwrap();
    assert_eq!((next.job, next.attempt, next.delays), (2, 4, 1));
    let taken = journal.differs_by_more_than_case(&next, Path::new("/out/a_SLOW2X.mp4"));
    assert!(matches!(taken, Err(JournalError::NameTaken(_))), "names of older outputs are known");
    assert_eq!(events(&journal, 4), ["interrupted 2", "claimed 3"]);
    let new = submit(&mut journal, "new.mp4", "h1", 99);
    assert_eq!(new, 9);
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().jobs(99).unwrap().len(), 9);
}

#[test]
fn the_journal_before_a_migration_is_kept_beside_it() {
    let folder = version_1();
    let before = rows(&folder.path().join(FILE_NAME));
    drop(Journal::open(folder.path()).unwrap());
    let copy = folder.path().join(COPY);
    assert_eq!((version(&copy), rows(&copy)), (1, before));
    let (fresh, _journal) = state();
    assert!(!fresh.path().join(COPY).exists(), "a new journal was never of version 1");
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = version_1();
    let path = folder.path().join(FILE_NAME);
    let before = rows(&path);
    // The last table that the step makes is there already.
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE events (id BIGINT)").unwrap();
    let definitions_before = definitions(folder.path());
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("events"), "{error}");
    assert_eq!((version(&path), rows(&path)), (1, before));
    assert_eq!(definitions(folder.path()), definitions_before);
    Connection::open(&path).unwrap().execute_batch("DROP TABLE events").unwrap();
    assert!(Journal::open(folder.path()).is_ok(), "and it can be made again");
}

#[test]
fn rows_that_point_nowhere_are_damage() {
    let folder = version_1();
    let raw = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.pragma_update(None, "foreign_keys", "OFF").unwrap();
    raw.execute_batch("UPDATE files SET job = 77 WHERE job = 1").unwrap();
    drop(raw);
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Damaged { .. })));
}

/// W34.
#[test]
fn a_journal_that_another_program_keeps_locked_is_said_so_and_left_alone() {
    let (folder, mut journal) = state();
    submit(&mut journal, "a.mp4", "h", 1);
    let raw = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    raw.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = journal.claim("me", &["/in"], 2, 60_000).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::TempFail);
    assert!(error.to_string().contains("locked by another program"), "{error}");
    raw.execute_batch("ROLLBACK").unwrap();
    assert_eq!(claim(&mut journal, 3).unwrap().attempt, 1);
}

/// As in a folder that may not be entered. The administrator may enter every folder, but not a link that leads to itself.
#[test]
fn a_journal_that_cannot_be_looked_at_is_not_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let round = folder.path().join("round");
    std::os::unix::fs::symlink("round", &round).unwrap();
    let error = Journal::open_existing(&round).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::IoError, "{error}");
    let said = error.to_string();
    assert!(said.contains("round/journal.sqlite: the journal cannot be looked at (Too"), "{said}");
    // Or one that may not be opened: nobody wanted to write.
    std::fs::create_dir(folder.path().join(FILE_NAME)).unwrap();
    let error = Journal::open_existing(folder.path()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::IoError, "{error}");
    let said = error.to_string();
    assert!(said.contains("cannot be looked at") && said.contains("or as root"), "{said}");
}

#[test]
fn journals_of_different_places_have_different_tags_that_stay() {
    let ((folder, journal), (_other, second)) = (state(), state());
    assert_ne!(journal.tag(), second.tag());
    let tag = journal.tag();
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().tag(), tag);
    assert_eq!(tag.len(), 8);
}

/// A journal whose history has six events of two jobs.
fn with_history() -> (tempfile::TempDir, Journal) {
    let (folder, mut journal) = state();
    submit(&mut journal, "a.mp4", "h1", 1);
    submit(&mut journal, "b.mp4", "h2", 2);
    for now_ms in [3, 4] {
        let taken = claim(&mut journal, now_ms).unwrap();
        let again = Again { count: Count::Delay, next_try_ms: 99, code: "busy", message: "later" };
        journal.again(&taken, &again).unwrap();
    }
    (folder, journal)
}

fn raw(folder: &tempfile::TempDir) -> Connection {
    Connection::open(folder.path().join(FILE_NAME)).unwrap()
}

#[test]
fn the_history_is_a_chain_that_names_the_first_event_that_does_not_fit() {
    let (folder, journal) = with_history();
    let Chain::Whole { events: 6, last } = journal.chain().unwrap() else {
        panic!("{:?}", journal.chain());
    };
    assert_eq!(last.len(), 64);
    for (damage, event, what) in [
        ("UPDATE events SET detail = 'sha256 h3' WHERE id = 2", 2, "received"),
        ("UPDATE events SET at_ms = at_ms + 1 WHERE id = 3", 3, "claimed"),
        ("UPDATE events SET job = 2 WHERE id = 1", 1, "received"),
        ("UPDATE events SET what = 'queue', detail = 'd' || detail WHERE id = 4", 4, "queue"),
        ("UPDATE events SET hash = x'00' WHERE id = 6", 6, "queued"),
        ("DELETE FROM events WHERE id = 1", 2, "received"),
        ("DELETE FROM events WHERE id = 4", 5, "claimed"),
        // Two change places.
        ("UPDATE events SET id = 77 - id WHERE id IN (5, 6)", 71, "queued"),
        (
            "INSERT INTO events SELECT 7, job, 9, at_ms, what, detail, host, version, hash FROM events WHERE id = 6",
            7,
            "queued",
        ),
    ] {
        let (folder, journal) = with_history();
        assert!(raw(&folder).execute(damage, []).is_ok_and(|it| it > 0), "{damage}");
        match journal.chain().unwrap() {
            Chain::Broken { event: found, what: said, .. } => {
                assert_eq!((found, said.as_str()), (event, what), "{damage}");
            }
            other => panic!("{damage}: {other:?}"),
        }
    }
    raw(&folder).execute("DELETE FROM events WHERE id > 4", []).unwrap();
    assert_eq!(journal.chain().unwrap(), Chain::Cut { events: 4, written: 6 });
}

#[test]
fn a_chain_goes_on_behind_what_does_not_fit_and_over_restarts() {
    let (folder, mut journal) = with_history();
    let Chain::Whole { last, .. } = journal.chain().unwrap() else { panic!() };
    drop(journal);
    journal = Journal::open(folder.path()).unwrap();
    let Chain::Whole { last: again, .. } = journal.chain().unwrap() else { panic!() };
    assert_eq!(last, again);
    Journal::open_existing(folder.path()).unwrap().cancel(1, 5).unwrap();
    assert!(matches!(journal.chain().unwrap(), Chain::Whole { events: 7, .. }));
    raw(&folder).execute("UPDATE events SET detail = 'x' WHERE id = 5", []).unwrap();
    journal.retry(1, 6).unwrap();
    assert!(matches!(journal.chain().unwrap(), Chain::Broken { event: 5, .. }));
    raw(&folder).execute("UPDATE events SET detail = 'me' WHERE id = 5", []).unwrap();
    assert!(matches!(journal.chain().unwrap(), Chain::Whole { events: 8, .. }));
}

#[test]
fn the_history_of_an_older_journal_becomes_a_chain() {
    let (folder, mut journal) = with_history();
    let Chain::Whole { last, .. } = journal.chain().unwrap() else { panic!() };
    let history = journal.history_of(1).unwrap();
    drop(journal);
    // As version 3 had it.
    raw(&folder)
        .execute_batch(
            "ALTER TABLE events DROP COLUMN hash; DROP TABLE events_head; ALTER TABLE jobs DROP COLUMN ground;
             DROP INDEX jobs_by_place; DROP TABLE originals; ALTER TABLE jobs DROP COLUMN list_sha256;
             UPDATE jobs SET state = 'refused', error_code = 'not_video' WHERE id = 1;
             UPDATE jobs SET state = 'refused', error_code = 'timelapse' WHERE id = 2;
             PRAGMA user_version = 3;",
        )
        .unwrap();
    journal = Journal::open(folder.path()).unwrap();
    let whole = Chain::Whole { events: 6, last };
    assert_eq!(journal.chain().unwrap(), whole);
    assert_eq!(journal.history_of(1).unwrap().events, history.events);
    // What was refused then is known to be, where that depends on its content alone.
    for (sha256, before) in [("h1", Some(1)), ("h2", None)] {
        submit(&mut journal, &format!("{sha256}.mp4"), sha256, 9);
        let taken = claim(&mut journal, 10).unwrap();
        let grounds = grounds(&taken, std::time::Duration::ZERO);
        let found = journal.refused_before(&taken, &grounds).unwrap();
        assert_eq!(found.map(|it| it.job), before, "{sha256}");
    }
}

/// W34. Whoever looks for why the daemon ended with 78 asks `slomod check`.
#[test]
fn check_fails_where_the_journal_ends_a_daemon() {
    let (folder, mut journal) = state();
    for number in 0..500 {
        submit(&mut journal, &format!("{number}.mp4"), "h", number);
    }
    drop(journal);
    let config = folder.path().join("slomod.toml");
    let text = format!(
        "[daemon]\nstate_dir = {:?}\n[[watch]]\npath = \"/a\"\noutput = \"/b\"\n",
        folder.path()
    );
    std::fs::write(&config, text).unwrap();
    let found = || {
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_slomod"));
        let output = check.args(["check", "--json", "--config"]).arg(&config).output().unwrap();
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = findings.as_array().unwrap();
        let journal = all.iter().find(|it| it["subject"] == "journal").unwrap().clone();
        let word = |name: &str| journal[name].as_str().unwrap().to_owned();
        (word("verdict"), word("message"))
    };
    assert_eq!(found().0, "ok");
    let path = folder.path().join(FILE_NAME);
    raw(&folder).pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    let whole = std::fs::read(&path).unwrap();
    for page in [4, 9, 14] {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xA5);
        std::fs::write(&path, damaged).unwrap();
        assert!(Journal::open(folder.path()).is_err(), "page {page}");
        let (verdict, message) = found();
        assert!(verdict == "fail" && message.contains("is damaged"), "page {page}: {message}");
    }
    for file in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("{FILE_NAME}{file}")));
    }
    let (verdict, message) = found();
    assert!(verdict == "fail" && message.contains("the journal is gone"), "{message}");
}
