//! The daemon end to end: the real program, real clips, the trivial engine; killed, stopped and fed with rubbish.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod order;
mod place;
mod ready;
mod resume;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../faults/shim.rs"]
mod shim;
mod twice;
mod untrusted;
mod watching;

use slomod::daemon::journal::Journal;
use slomod::daemon::snapshot::Snapshot;
use slomod::report::Status;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use place::*;
use rustix::process::Signal;
use shim::{Action, DAEMON, Faults, OPEN_WRITE, Rule, start_at_work, terminate_at_work};

#[test]
fn a_dropped_clip_comes_out_once_with_its_report() {
    let mut place = Place::with("", "factor = 4");
    let clip = small(&place, 0);
    place.start();
    place.wait_ready();
    place.drop_clip(&clip, "ride.mp4");
    place.wait_ended(1);
    assert_eq!(place.listing(), ["ride_slow4x.mp4", "ride_slow4x.mp4.json"], "{}", place.log());
    let report = place.report("ride_slow4x.mp4.json");
    assert_eq!(report.status, Status::Done);
    let output = report.output.unwrap();
    assert_eq!(Path::new(&output.path), place.path("out/ride_slow4x.mp4"));
    assert_eq!(output.size_bytes, fs::metadata(place.path("out/ride_slow4x.mp4")).unwrap().len());
    assert_eq!(report.source.frames.decoded, 6);
    assert_eq!(fs::read(place.path("in/ride.mp4")).unwrap(), fs::read(&clip).unwrap());
    let job = &place.jobs()[0];
    assert_eq!((job.state.as_str(), job.attempt), ("done", 1));
    assert_eq!(place.terminate().code(), Some(0));

    place.start();
    place.drop_clip(&small(&place, 90), "second.mp4");
    place.wait_ended(2);
    assert_eq!(place.listing().len(), 4, "the first clip is not worked again");
}

#[test]
fn clips_that_were_there_before_the_start_are_found_and_do_not_look_read() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "early.mp4");
    let (early, other) = (place.path("in/early.mp4"), place.path("other"));
    fs::write(&other, "whose reading shows whether this file system notes any").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for path in [&early, &other] {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_times(fs::FileTimes::new().set_accessed(long_ago)).unwrap();
    }
    let accessed = |path| fs::metadata(path).unwrap().accessed().unwrap();
    place.start();
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
    fs::read(&other).unwrap();
    match accessed(&other) == long_ago {
        true => skip("this file system does not note when files are read"),
        false => assert_eq!(accessed(&early), long_ago),
    }
}

/// W28.
#[test]
fn rubbish_is_refused_with_a_report_and_the_next_clip_is_done() {
    let mut place = Place::with("grace = \"1s\"", "");
    place.start();
    place.wait_ready();
    fs::write(place.path("in/notes.mp4"), "this is no video").unwrap();
    fs::write(place.path("in/empty.mp4"), "").unwrap();
    place.drop_clip(&small(&place, 0), "good.mp4");
    place.wait_ended(3);
    assert_eq!(
        place.listing(),
        [
            "empty.mp4.refused.json",
            "good_slow2x.mp4",
            "good_slow2x.mp4.json",
            "notes.mp4.refused.json"
        ],
        "{}",
        place.log()
    );
    let report = place.report("notes.mp4.refused.json");
    assert_eq!(report.status, Status::Refused);
    assert!(report.source.sha256.is_some() && !report.errors.is_empty());
    assert_eq!(fs::read_to_string(place.path("in/notes.mp4")).unwrap(), "this is no video");

    // Touched it looks new and is not.
    let notes = place.path("in/notes.mp4");
    let touched = fs::File::options().write(true).open(&notes).unwrap();
    touched.set_modified(SystemTime::UNIX_EPOCH + PATIENCE).unwrap();
    let (root, name) = (place.path("in"), Path::new("notes.mp4"));
    place.wait("the touched file is known again", || {
        let journal = Journal::open_existing(&place.path("state")).unwrap();
        journal.knows(root.to_str().unwrap(), name, &Snapshot::take(&notes).unwrap()).unwrap()
    });
    let jobs = place.jobs();
    assert!(jobs.len() == 3 && jobs.iter().all(|it| it.attempt == 1), "{jobs:?}");

    let refused = place.jobs().into_iter().find(|job| job.state == "refused").unwrap();
    let retry = place.command("retry").arg(refused.job.to_string()).output().unwrap();
    assert!(retry.status.success());
    place.wait("second attempt", || {
        let job = place.jobs().into_iter().find(|job| job.job == refused.job).unwrap();
        job.state == "refused" && job.attempt == 2
    });
    assert_eq!(place.listing().len(), 4, "its report is replaced");

    // The same content under another name is refused without a try, by that job.
    fs::write(place.path("in/letter.mp4"), "this is no video").unwrap();
    place.wait_ended(4);
    let (jobs, letter) = (place.jobs(), place.report("letter.mp4.refused.json"));
    let of = |name| jobs.iter().find(|it| it.source.ends_with(name)).unwrap();
    assert_eq!(of("letter.mp4").duplicate_of, Some(of("notes.mp4").job), "{jobs:?}");
    assert_eq!(
        (letter.status, letter.errors[0].code.as_str()),
        (Status::Refused, "refused_before")
    );
}

/// W01.
#[test]
fn a_slow_copy_is_not_begun_before_it_is_complete() {
    let mut place = Place::new();
    let bytes = fs::read(large(&place, 0)).unwrap();
    place.start();
    place.wait_ready();
    let mut file = fs::File::create(place.path("in/slow.mp4")).unwrap();
    // Without its end, where the index is, no pause makes it a clip.
    let (begun, end) = bytes.split_at(bytes.len() * 19 / 20);
    for part in begun.chunks(begun.len() / 19 + 1) {
        file.write_all(part).unwrap();
        std::thread::sleep(SETTLE / 3);
        assert!(place.states().is_empty(), "begun while it is copied:\n{}", place.log());
    }
    let last_write = Instant::now();
    file.write_all(end).unwrap();
    drop(file);
    place.wait("job", || !place.states().is_empty());
    assert!(last_write.elapsed() >= SETTLE, "not still for long enough");
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
}

/// W03.
#[test]
fn a_copy_that_died_is_not_begun_until_its_writer_finishes() {
    let mut place = Place::new();
    let bytes = fs::read(large(&place, 0)).unwrap();
    let target = place.path("in/cut.mp4");
    let begun = &bytes[..bytes.len() * 6 / 10];
    fs::write(&target, begun).unwrap();
    place.start_with(|command| command.env("SLOMOD_LOG", "debug"));
    let looks = |place: &Place| place.log().matches("not complete yet").count();
    place.wait("looks into the cut file", || looks(&place) >= 2);
    assert!(place.states().is_empty());
    place.kill();
    let before = looks(&place);
    place.start_with(|command| command.env("SLOMOD_LOG", "debug"));
    place.wait("looks after the restart", || looks(&place) >= before + 2);
    assert!(place.states().is_empty(), "the same rule at the start");
    let mut file = fs::File::options().append(true).open(&target).unwrap();
    file.write_all(&bytes[begun.len()..]).unwrap();
    drop(file);
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"], "{}", place.log());
}

/// W10.
#[test]
fn temporary_and_hidden_names_are_left_alone_until_they_are_renamed() {
    let mut place = Place::new();
    let (first, second) = (small(&place, 0), small(&place, 120));
    place.start();
    place.wait_ready();
    fs::copy(&first, place.path("in/.a.mp4.XyZ123")).unwrap();
    fs::copy(&first, place.path("in/a.mp4.part")).unwrap();
    fs::create_dir(place.path("in/@eaDir")).unwrap();
    fs::copy(&first, place.path("in/@eaDir/t.mp4")).unwrap();
    // A clip that came later is done: the others had their time.
    place.drop_clip(&second, "later.mp4");
    place.wait_ended(1);
    fs::rename(place.path("in/.a.mp4.XyZ123"), place.path("in/a.mp4")).unwrap();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
    assert!(place.jobs()[1].source.ends_with("/in/a.mp4"));
}

/// W20, W21.
#[test]
fn the_same_content_is_worked_once_and_new_content_of_the_same_name_again() {
    let mut place = Place::new();
    let (first, second) = (small(&place, 0), small(&place, 120));
    place.drop_clip(&first, "a.mp4");
    place.start();
    place.wait_ended(1);
    place.drop_clip(&first, "copy.mp4");
    place.wait_ended(2);
    let report = place.report("copy.mp4.duplicate.json");
    assert_eq!(report.status, Status::Duplicate);
    assert!(report.warnings[0].message.contains("a_slow2x.mp4.json"), "{:?}", report.warnings);
    place.drop_clip(&second, "a.mp4");
    place.wait_ended(3);
    assert_eq!(
        place.listing(),
        [
            "a_slow2x.mp4",
            "a_slow2x.mp4.json",
            "a_slow2x~2.mp4",
            "a_slow2x~2.mp4.json",
            "copy.mp4.duplicate.json"
        ]
    );
    assert_ne!(
        place.report("a_slow2x.mp4.json").source.sha256,
        place.report("a_slow2x~2.mp4.json").source.sha256
    );
}

#[test]
fn originals_are_moved_after_success_and_only_then() {
    let mut place = Place::with("grace = \"500ms\"", "on_success = \"trash\"\nrecursive = true");
    fs::create_dir(place.path("in/trip")).unwrap();
    place.drop_clip(&small(&place, 0), "trip/a.mp4");
    fs::write(place.path("in/bad.mp4"), "no video").unwrap();
    // Whoever may write there cannot have originals moved out of it.
    fs::create_dir(place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("in/.slomod-trash")).unwrap();
    place.start();
    place.wait_ended(2);
    place.wait("the link", || place.log().contains("is a link, and may lead anywhere"));
    assert!(place.path("in/trip/a.mp4").exists());
    assert_eq!(fs::read_dir(place.path("elsewhere")).unwrap().count(), 0);
    fs::remove_file(place.path("in/.slomod-trash")).unwrap();
    let trash = place.path("in/.slomod-trash/trip/a.mp4");
    place.wait("moved original", || trash.exists());
    assert!(!place.path("in/trip/a.mp4").exists());
    assert!(place.path("in/bad.mp4").exists(), "a refused clip stays where it is");
    assert!(place.path("out/trip/a_slow2x.mp4.json").exists(), "folders are mirrored");
}

/// W31.
#[test]
fn names_of_any_bytes_go_through() {
    use std::os::unix::ffi::OsStrExt;
    let mut place = Place::new();
    let names: [&[u8]; 5] = [
        b"a b'\"$(touch x).mp4",
        b"-rf.mp4",
        b"line\nbreak.mp4",
        b"\xff\xfe.mp4",
        "한글.mp4".as_bytes(),
    ];
    for (number, name) in names.iter().enumerate() {
        let clip = small(&place, 10 + 40 * number as u32);
        fs::copy(clip, place.path("in").join(std::ffi::OsStr::from_bytes(name))).unwrap();
    }
    place.start();
    place.wait_ended(names.len());
    assert_eq!(place.states(), ["done"; 5], "{}", place.log());
    assert_eq!(place.listing().len(), 2 * names.len());
    // The status has the bytes of the one that is no text: `…/in/\xff\xfe.mp4`.
    let bytes: Vec<_> = place.jobs().into_iter().filter_map(|it| it.source_b64).collect();
    assert_eq!(bytes.len(), 1, "{bytes:?}");
    let path = [place.path("in").as_os_str().as_bytes(), b"/\xff\xfe.mp4"].concat();
    assert_eq!(bytes[0], slomod::report::base64::encode(&path));
    let odd: Vec<_> =
        place.log().lines().filter(|line| !line.starts_with("20")).map(String::from).collect();
    assert!(odd.is_empty(), "every line of the log begins with its time: {odd:?}");
}

/// W33.
#[test]
fn sigterm_ends_a_running_job_cleanly_and_the_next_start_takes_it_up() {
    let mut place = Place::with("", "factor = 16");
    let faults = Faults::of(&place);
    place.drop_clip(&large(&place, 0), "long.mp4");
    start_at_work(&mut place, &faults);
    assert_eq!(place.states(), ["running"]);
    let begin = Instant::now();
    assert_eq!(terminate_at_work(&mut place, &faults).code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(place.states(), ["queued"], "{}", place.log());
    assert!(place.listing().is_empty(), "nothing is left: {:?}", place.listing());
    place.start();
    place.wait_ended(1);
    let job = &place.jobs()[0];
    assert_eq!((job.state.as_str(), job.attempt), ("done", 2));
    assert_eq!(place.listing(), ["long_slow16x.mp4", "long_slow16x.mp4.json"]);
}

#[test]
fn sigterm_before_the_journal_is_open_ends_the_start_cleanly() {
    let mut place = Place::new();
    let faults = Faults::of(&place);
    place.drop_clip(&small(&place, 0), "a.mp4");
    faults.hold(&Rule::new(OPEN_WRITE, "/journal.sqlite", Action::Hold).by(DAEMON).once(1));
    place.start_with(|command| faults.enter(command));
    faults.wait_held(&place);
    place.signal(Signal::TERM);
    faults.let_go();
    assert_eq!(place.wait_end().code(), Some(0), "{}", place.log());
    assert!(place.states().is_empty() && place.listing().is_empty());
    place.start();
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
}

/// W40.
#[test]
fn a_second_daemon_on_the_same_state_folder_is_refused() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    let second = place.command("daemon").output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another slomod daemon"));
}

/// W16.
#[test]
fn a_folder_that_is_missing_at_the_start_is_waited_for() {
    let mut place = Place::new();
    fs::remove_dir(place.path("in")).unwrap();
    place.start();
    place.wait_ready();
    place.wait("status", || place.log().contains("offline"));
    fs::create_dir(place.path("in")).unwrap();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait_ended(1);
    fs::rename(place.path("in"), place.path("gone")).unwrap();
    place.wait("loss", || place.log().matches("offline").count() >= 2);
    fs::rename(place.path("gone"), place.path("in")).unwrap();
    place.drop_clip(&small(&place, 90), "b.mp4");
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"], "the first is not worked again");
}

#[test]
fn a_wrong_configuration_ends_with_78_and_its_place() {
    let place = Place::with("", "factr = 3");
    let output = place.command("daemon").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("slomod.toml:14:1:") && said.contains("factr"), "{said}");
}

/// W34.
#[test]
fn a_damaged_journal_ends_with_78_and_is_not_replaced() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    place.terminate();
    let journal = place.path("state/journal.sqlite");
    fs::write(&journal, "rubbish ".repeat(1000)).unwrap();
    // A daemon that ends while it tidies leaves a log from which SQLite would make the journal whole again.
    for name in ["state/journal.sqlite-wal", "state/journal.sqlite-shm"] {
        let _ = fs::remove_file(place.path(name));
    }
    let output = place.command("daemon").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("damaged"));
    assert_eq!(fs::read_to_string(&journal).unwrap(), "rubbish ".repeat(1000));
    assert_eq!(place.listing().len(), 2);
}

#[test]
fn status_shows_daemon_and_jobs() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    let status = |place: &Place, arguments: &[&str]| {
        let output = place.command("status").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = status(&place, &[]);
    assert!(text.contains("daemon ") && text.contains("a_slow2x.mp4"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&status(&place, &["--json"])).unwrap();
    assert_eq!(json["running"], true);
    assert_eq!(json["counts"]["done"], 1);
    assert_eq!(json["jobs"][0]["state"], "done");
    place.terminate();
    assert!(status(&place, &[]).starts_with("no daemon is running"));
}

/// Everything the daemon said to `socket` so far.
fn said(socket: &UnixDatagram, all: &mut String) -> String {
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        all.push_str(&String::from_utf8_lossy(&buffer[..length]));
        all.push('\n');
    }
    all.clone()
}

#[test]
fn the_service_manager_is_told_ready_status_watchdog_and_stopping() {
    let mut place = Place::with("", "factor = 16");
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = place.path("notify");
    let mut all = String::new();
    let faults = Faults::of(&place);
    // It is told once a second what is worked.
    faults.hold_worker();
    place.start_with(|command| {
        faults.enter(command).env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "3000000")
    });
    place.wait("READY", || said(&socket, &mut all).contains("READY=1"));
    assert!(place.path("state/journal.sqlite").exists(), "ready only with a journal");
    place.drop_clip(&large(&place, 0), "long.mp4");
    place.wait("running clip in STATUS", || {
        let text = said(&socket, &mut all);
        text.lines().any(|line| line.starts_with("STATUS=") && line.contains("run 1: long.mp4"))
    });
    place.wait("two WATCHDOG", || said(&socket, &mut all).matches("WATCHDOG=1").count() >= 2);
    assert_eq!(terminate_at_work(&mut place, &faults).code(), Some(0));
    assert!(said(&socket, &mut all).contains("STOPPING=1"), "{all}");
}

#[test]
fn without_a_device_there_is_no_ready() {
    let mut place = Place::with("", "");
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = place.path("notify");
    // A device that may come later is tried again by the service manager, weights that are none wait for a person.
    let weights = place.path("none.safetensors");
    fs::write(&weights, "none").unwrap();
    let no_device = config.replace("\"blend\"", "\"auto\"").replace("\"cpu\"", "\"cuda:99\"");
    let no_weights = config.replace("\"blend\"", &format!("\"{}\"", weights.display()));
    for (config, code, what) in [(no_device, 69, "cuda:99"), (no_weights, 78, "none.safetensors")] {
        fs::write(place.path("slomod.toml"), config).unwrap();
        place.start_with(|command| command.env("NOTIFY_SOCKET", &address));
        assert_eq!(place.wait_end().code(), Some(code), "{}", place.log());
        assert!(!said(&socket, &mut String::new()).contains("READY=1"));
        assert!(place.log().contains(what), "{}", place.log());
    }
}
