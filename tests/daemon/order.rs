//! Which clip comes first, and a backlog of very many.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use slomod::daemon::journal::{FILE_NAME, Journal};
use slomod::daemon::snapshot::Snapshot;

use crate::place::*;

/// How many files the backlog has.
const BACKLOG_VARIABLE: &str = "SLOMOD_BACKLOG";
const BACKLOG: usize = 3000;
/// Jobs whose order is looked at.
const WATCHED_JOBS: usize = 12;
/// How long they must be still: long enough for a busy machine to read the folder in the meantime.
const BACKLOG_SETTLE: &str = "3s";
/// Until the first job of a backlog that was asked for begins.
const SOON: Duration = Duration::from_secs(10);
/// The same on a machine that is busy with all other tests.
const SOON_AMONG_TESTS: Duration = Duration::from_secs(60);
/// What the daemon may keep in memory, whatever the backlog.
const MOST_RESIDENT_KIB: u64 = 100_000_000 / 1024;

/// Sets when `path` was last modified, in seconds before a fixed time.
fn age(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A copy of `bytes` whose content is its own: a box that players skip is added.
fn variant(path: &Path, bytes: &[u8], number: u64) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.write_all(&16_u32.to_be_bytes()).unwrap();
    file.write_all(b"free").unwrap();
    file.write_all(&(number + 1).to_be_bytes()).unwrap();
}

/// The files of all claims so far, in order.
fn claimed(place: &Place) -> Vec<String> {
    let raw = rusqlite::Connection::open(place.path("state").join(FILE_NAME)).unwrap();
    raw.busy_timeout(PATIENCE).unwrap();
    raw.prepare(
        "SELECT jobs.relative_path FROM events JOIN jobs ON jobs.id = events.job
         WHERE events.what = 'claimed' ORDER BY events.id",
    )
    .unwrap()
    .query_map([], |row| row.get::<_, Vec<u8>>(0))
    .unwrap()
    .map(|name| String::from_utf8(name.unwrap()).unwrap())
    .collect()
}

/// Another watched folder of `place`, with its own output folder.
fn add_watch(place: &Place, name: &str, lines: &str) {
    let root = place.folder.path().display();
    fs::create_dir(place.path(name)).unwrap();
    let mut file = fs::File::options().append(true).open(place.path("slomod.toml")).unwrap();
    write!(
        file,
        "[[watch]]\npath = \"{root}/{name}\"\noutput = \"{root}/out-{name}\"\npreset = \"ultrafast\"\n\
         quality_samples = 0\nfactor = 2\n{lines}\n"
    )
    .unwrap();
}

#[test]
fn the_oldest_clip_comes_first_and_equal_ones_by_name() {
    let mut place = Place::new();
    let bytes = fs::read(small(&place, 0)).unwrap();
    let ages = [("m.mp4", 10), ("a.mp4", 5), ("z.mp4", 99), ("c.mp4", 7), ("b.mp4", 7)];
    for (number, (name, seconds)) in ages.into_iter().enumerate() {
        let path = place.path("in").join(name);
        variant(&path, &bytes, number as u64);
        age(&path, seconds);
    }
    place.start();
    place.wait_ended(5);
    assert_eq!(claimed(&place), ["z.mp4", "m.mp4", "b.mp4", "c.mp4", "a.mp4"], "{}", place.log());
}

#[test]
fn folders_come_by_priority_and_equal_ones_take_turns() {
    let mut place = Place::with("", "priority = -1");
    add_watch(&place, "event", "priority = 10");
    add_watch(&place, "parking", "priority = 5");
    add_watch(&place, "second", "priority = -1");
    let bytes = fs::read(small(&place, 0)).unwrap();
    let names = ["in/n1", "in/n2", "second/s1", "event/e1", "event/e2", "parking/p1"];
    for (number, name) in names.into_iter().enumerate() {
        let path = place.path(&format!("{name}.mp4"));
        variant(&path, &bytes, number as u64);
        // What has the lowest priority is the oldest.
        age(&path, 100 - number as u64);
    }
    place.start();
    place.wait_ended(6);
    let order = claimed(&place).join(" ");
    assert_eq!(order, "e1.mp4 e2.mp4 p1.mp4 n1.mp4 s1.mp4 n2.mp4", "{}", place.log());
}

/// Peak resident memory of the daemon itself.
fn peak_kib(place: &Place) -> u64 {
    let pid = place.child.as_ref().unwrap().id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Seconds of processor time of the daemon itself, and of the workers that have ended.
fn cpu_s(place: &Place) -> (f64, f64) {
    let pid = place.child.as_ref().unwrap().id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|it| it.parse().unwrap())
        .collect();
    ((fields[0] + fields[1]) / 100.0, (fields[2] + fields[3]) / 100.0)
}

/// W29. With `SLOMOD_BACKLOG=100000 cargo test --release --test daemon backlog -- --nocapture` the figures of that many.
#[test]
fn a_backlog_of_very_many_files_begins_soon_in_order_in_little_memory_and_once_each() {
    let variable = std::env::var(BACKLOG_VARIABLE).ok();
    let count = variable.as_ref().and_then(|it| it.parse().ok()).unwrap_or(BACKLOG);
    let mut place = Place::new();
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let config = config.replace("\"300ms\"", &format!("\"{BACKLOG_SETTLE}\""));
    fs::write(place.path("slomod.toml"), config).unwrap();
    let bytes = fs::read(clip(place.folder.path(), "16x16", 4, 0)).unwrap();
    // Neither the order of names nor that of their making is that of the ages.
    let rank = |number: usize| (number * 7919) % count;
    let mut names = vec![String::new(); count];
    for number in 0..count {
        let name = format!("clip{number:06}.mp4");
        variant(&place.path("in").join(&name), &bytes, number as u64);
        age(&place.path("in").join(&name), (count - rank(number)) as u64);
        names[rank(number)] = name;
    }
    let begin = Instant::now();
    place.start();
    place.wait("first claim", || {
        place.path("state").join(FILE_NAME).exists()
            && Journal::open_existing(&place.path("state")).is_ok()
            && !claimed(&place).is_empty()
    });
    let first = begin.elapsed();
    place.wait("some claims", || claimed(&place).len() >= WATCHED_JOBS);
    assert_eq!(claimed(&place)[..WATCHED_JOBS], names[..WATCHED_JOBS], "{}", place.log());
    let status = place.command("status").arg("--json").output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status["jobs"].as_array().unwrap().len() < 50, "a list to read, not the whole queue");
    println!("{count} files: first job after {first:?} (of which {BACKLOG_SETTLE} to be still)");
    let soon = if variable.is_some() { SOON } else { SOON_AMONG_TESTS };
    assert!(first < soon, "{first:?} until the first job");
    if variable.is_some() {
        report_intake(&place, count, begin);
    }
    let peak = peak_kib(&place);
    println!("peak memory of the daemon {peak} KiB");
    assert!(peak < MOST_RESIDENT_KIB, "{peak} KiB");

    place.kill();
    let (before, known) = (claimed(&place).len(), known_files(&place));
    let begin = Instant::now();
    place.start();
    place.wait("claims after the restart", || claimed(&place).len() > before);
    println!("first job after the restart: {:?}; {known} files were known", begin.elapsed());
    // The folder was read again by then.
    place.wait("new files after the restart", || {
        claimed(&place).len() >= before + 3 && known_files(&place) >= (known + 3).min(count)
    });
    let peak = peak_kib(&place);
    println!("peak memory of the daemon after the restart {peak} KiB");
    assert!(peak < MOST_RESIDENT_KIB, "{peak} KiB");
    place.kill();
    let raw = rusqlite::Connection::open(place.path("state").join(FILE_NAME)).unwrap();
    let number = |query| raw.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    let (jobs, files) = (
        number("SELECT count(*) FROM jobs"),
        number("SELECT count(DISTINCT relative_path) FROM jobs"),
    );
    assert_eq!(jobs, files, "every file is one job");
    let twice = "SELECT count(*) FROM (SELECT job FROM events WHERE what = 'done'
                 GROUP BY job HAVING count(*) > 1) AS again";
    assert_eq!(number(twice), 0, "no clip is worked twice");
    let ended = number("SELECT count(*) FROM jobs WHERE state = 'done'");
    assert!(ended + 2 >= WATCHED_JOBS, "what was done stays done: {ended}");
    let outputs = place.listing().into_iter().filter(|name| name.ends_with("x.mp4")).count();
    assert!(outputs <= ended + 1, "{outputs} outputs of {ended} done jobs");
}

/// How many files are jobs.
fn known_files(place: &Place) -> usize {
    let counts = Journal::open_existing(&place.path("state")).unwrap().counts().unwrap();
    (counts.queued + counts.running + counts.done + counts.duplicate) as usize
}

/// Prints how intake goes until all files are known, or for ten minutes.
fn report_intake(place: &Place, count: usize, begin: Instant) {
    let mut next = 0;
    loop {
        std::thread::sleep(Duration::from_secs(5));
        let asked = Instant::now();
        let journal = Journal::open_existing(&place.path("state")).unwrap();
        let counts = journal.counts().unwrap();
        let known = counts.queued + counts.running + counts.done + counts.duplicate;
        let elapsed = begin.elapsed().as_secs();
        if elapsed >= next || known as usize >= count {
            let (own, workers) = cpu_s(place);
            println!(
                "{elapsed} s: {known} known, {} done, daemon {own} s of CPU, its workers {workers} s, peak {} KiB, \
                 status in {:?}",
                counts.done,
                peak_kib(place),
                asked.elapsed()
            );
            next = elapsed + 60;
        }
        if known as usize >= count || elapsed > 600 {
            return;
        }
    }
}

/// How long an idle daemon is looked at.
const IDLE: Duration = Duration::from_secs(60);

/// W29. With `SLOMOD_IDLE=1 cargo test --release --test daemon idle -- --nocapture`: the processor time of a daemon that has
/// nothing to do, beside 10 000 files that it knows, which are read every 30 s, and which give events.
#[test]
fn an_idle_daemon_beside_ten_thousand_files_takes_hardly_any_time() {
    if std::env::var_os("SLOMOD_IDLE").is_none() {
        skip("SLOMOD_IDLE is not set: it takes minutes of a quiet machine and a release build");
        return;
    }
    for (way, most) in [("polling", 0.01), ("events", 0.001)] {
        let mut place = Place::with("", &format!("watch_by = \"{way}\""));
        let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
        fs::write(place.path("slomod.toml"), config.replace("\"500ms\"", "\"30s\"")).unwrap();
        place.start();
        place.wait_ready();
        place.terminate();
        let mut journal = rusqlite::Connection::open(place.path("state").join(FILE_NAME)).unwrap();
        let all = journal.transaction().unwrap();
        for number in 1..=10_000 {
            let name = format!("clip{number:05}.mp4");
            fs::write(place.path("in").join(&name), number.to_string()).unwrap();
            let now = Snapshot::take(&place.path("in").join(&name)).unwrap();
            all.execute(
                "INSERT INTO jobs (id, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings,
                                   settings_sha256, state, next_try_ms, queued_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', '', '', 'done', 0, 0)",
                rusqlite::params![
                    number,
                    place.path("in").to_str(),
                    name.as_bytes(),
                    now.size_bytes as i64,
                    now.mtime_ns,
                    now.inode as i64
                ],
            )
            .unwrap();
        }
        let files = "INSERT INTO files (watch, relative_path, size_bytes, mtime_ns, inode, job)
                     SELECT watch, relative_path, size_bytes, mtime_ns, inode, id FROM jobs";
        assert_eq!(all.execute(files, []).unwrap(), 10_000);
        all.commit().unwrap();
        drop(journal);
        place.start();
        place.wait_ready();
        // What a start has to do is done.
        std::thread::sleep(Duration::from_secs(20));
        assert_eq!(claimed(&place), Vec::<String>::new());
        let (before, begin) = (cpu_s(&place).0, Instant::now());
        std::thread::sleep(IDLE);
        let (taken, elapsed) = (cpu_s(&place).0 - before, begin.elapsed().as_secs_f64());
        println!("{way}: {taken:.2} s of processor time in {elapsed:.0} s");
        assert!(taken / elapsed < most, "{way}: {taken} s in {elapsed} s");
    }
}
