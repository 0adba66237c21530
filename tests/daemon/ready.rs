//! When is a file complete? Copies that die, stall, pause, are replaced; names and links of every kind.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use slomod::report::Status;

use crate::place::*;
use crate::shim::{Faults, start_at_work};

/// Short enough to wait for, long enough that several looks fit.
const GRACE: &str = "grace = \"2s\"";
/// No scan finds by chance what events should have told.
const NO_SCANS: &str = "scan_interval = \"1h\"";

/// How often the daemon looked into a file and did not take it.
fn doubts(place: &Place) -> usize {
    place.log().matches("not complete yet").count()
}

fn start_talkative(place: &mut Place) {
    place.start_with(|command| command.env("SLOMOD_LOG", "debug"));
    place.wait_ready();
}

/// Stays for long enough that a hasty daemon would have begun.
fn linger() {
    std::thread::sleep(SETTLE * 5);
}

/// A clip whose index comes first.
fn faststart(place: &Place, hue: u32) -> PathBuf {
    let path = place.path(&format!("faststart-{hue}.mp4"));
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(large(place, hue))
        .args(["-c", "copy", "-movflags", "+faststart"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// The same pictures in another container.
fn stream(place: &Place, ending: &str, hue: u32) -> PathBuf {
    let path = place.path(&format!("stream-{hue}.{ending}"));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-i"]).arg(large(place, hue)).args(["-c", "copy"]);
    assert!(command.arg(&path).status().unwrap().success());
    path
}

/// W02, M1, M9: the writer's death closes the file like its end. W03: the copy is made again.
#[test]
fn a_copy_whose_writer_was_killed_is_refused_once_after_grace_and_done_when_made_again() {
    let mut place = Place::with(GRACE, "");
    let clip = large(&place, 0);
    let bytes = fs::read(&clip).unwrap();
    let part = bytes.len() * 6 / 10;
    start_talkative(&mut place);
    let target = place.path("in/cut.mp4");
    let mut writer = Command::new("sh")
        .args(["-c", &format!("head -c {part} \"$0\"; exec sleep 600")])
        .arg(&clip)
        .stdout(File::create(&target).unwrap())
        .spawn()
        .unwrap();
    place.wait("the part", || fs::metadata(&target).unwrap().len() == part as u64);
    writer.kill().unwrap();
    writer.wait().unwrap();
    place.wait("a first doubt", || doubts(&place) >= 1);
    place.wait_ended(1);
    assert_eq!(place.states(), ["refused"]);
    let written = fs::metadata(&target).unwrap().modified().unwrap();
    let queued = SystemTime::UNIX_EPOCH + Duration::from_millis(place.jobs()[0].queued_ms as u64);
    // The journal counts whole milliseconds.
    let waited = queued.duration_since(written).unwrap() + Duration::from_millis(1);
    assert!(waited >= Duration::from_secs(2), "{waited:?}: before the grace time is over");
    assert_eq!(place.listing(), ["cut.mp4.refused.json"]);
    let report = place.report("cut.mp4.refused.json");
    assert_eq!(report.errors[0].code, "moov_missing");
    assert_eq!(fs::read(&target).unwrap(), bytes[..part]);
    linger();
    assert_eq!(place.jobs().len(), 1, "refused once");

    fs::copy(&clip, &target).unwrap();
    place.wait_ended(2);
    assert!(place.states().contains(&"done".to_owned()), "{:?}", place.states());
}

/// W04, M2, M11: the size is final from the first instant and the header promises everything.
#[test]
fn a_reserved_file_is_not_taken_before_it_is_filled() {
    let mut place = Place::new();
    let bytes = fs::read(faststart(&place, 0)).unwrap();
    start_talkative(&mut place);
    let target = place.path("in/slow.mp4");
    let mut file = File::create(&target).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all(&bytes[..bytes.len() / 2]).unwrap();
    file.sync_all().unwrap();
    place.wait("two doubts", || doubts(&place) >= 2);
    assert!(place.states().is_empty(), "{}", place.log());
    assert!(place.log().contains("zeros"), "{}", place.log());
    file.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(file);
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"], "{}", place.log());
}

/// W04, M10, M11: what stays so after the grace time is never passed off as whole, nor is its original taken away.
#[test]
fn a_faststart_clip_that_stays_cut_is_refused_with_its_reason() {
    let mut place = Place::with(GRACE, "on_success = \"trash\"");
    let mut bytes = fs::read(faststart(&place, 0)).unwrap();
    let part = bytes.len() * 6 / 10;
    start_talkative(&mut place);
    fs::write(place.path("in/cut.mp4"), &bytes[..part]).unwrap();
    bytes[part..].fill(0);
    fs::write(place.path("in/reserved.mp4"), &bytes).unwrap();
    place.wait("a doubt", || doubts(&place) >= 1);
    assert!(place.log().contains("beyond"), "{}", place.log());
    place.wait_ended(2);
    assert_eq!(place.states(), ["refused", "refused"]);
    assert_eq!(place.report("cut.mp4.refused.json").errors[0].code, "truncated_mdat");
    assert_eq!(place.report("reserved.mp4.refused.json").errors[0].code, "zero_tail");
    assert_eq!(fs::read(place.path("in/cut.mp4")).unwrap(), bytes[..part]);
    assert_eq!(fs::read(place.path("in/reserved.mp4")).unwrap(), bytes);
}

/// W05, M7: a recorder opens, appends and closes again and again. Each part of a transport stream is a clip that opens.
#[test]
fn a_file_that_is_appended_to_again_and_again_is_one_job() {
    let mut place = Place::with("unsized_settle = \"300ms\"", "");
    let bytes = fs::read(stream(&place, "ts", 0)).unwrap();
    place.start();
    place.wait_ready();
    for part in bytes.chunks(bytes.len() / 15 + 1) {
        let path = place.path("in/rec.ts");
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(part).unwrap();
        drop(file);
        std::thread::sleep(SETTLE / 3);
    }
    place.wait_ended(1);
    linger();
    assert_eq!(place.states(), ["done"], "{}", place.log());
    assert_eq!(place.report(&place.listing()[1]).source.size_bytes, bytes.len() as u64);
}

/// W02, W03, W06: containers that do not say how much belongs to them. A part of a transport stream waits for as long as
/// a copy may stall; the header of a Flash video promises more than a part of it has, which shows at work.
#[test]
fn a_stalled_part_that_opens_is_not_passed_off_as_a_clip() {
    let mut place = Place::with("unsized_settle = \"10m\"", "");
    let sentinel_free = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let bytes = fs::read(stream(&place, "ts", 0)).unwrap();
    start_talkative(&mut place);
    let mut file = File::create(place.path("in/slow.ts")).unwrap();
    file.write_all(&bytes[..bytes.len() / 2]).unwrap();
    place.wait("a doubt", || place.log().contains("slow.ts: perhaps not complete yet"));
    linger();
    assert!(place.states().is_empty() && place.listing().is_empty(), "{}", place.log());
    file.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(file);
    place.terminate();

    let hasty = sentinel_free.replace("\"10m\"", "\"300ms\"");
    fs::write(place.path("slomod.toml"), hasty).unwrap();
    let flash = fs::read(stream(&place, "flv", 90)).unwrap();
    let target = place.path("in/slow.flv");
    fs::write(&target, &flash[..flash.len() / 2]).unwrap();
    start_talkative(&mut place);
    let waits = || place.jobs().iter().any(|it| it.error_code.as_deref() == Some("truncated"));
    place.wait("the part at work", waits);
    assert!(!place.states().contains(&"refused".to_owned()), "{}", place.log());
    fs::write(&target, flash).unwrap();
    place.wait_ended(3);
    let mut states = place.states();
    states.sort();
    assert_eq!(states, ["cancelled", "done", "done"], "{}", place.log());
    let report = place.report("slow_slow2x.mp4.json");
    assert_eq!(report.source.size_bytes, bytes.len() as u64);
}

/// W06: a stalled link. The pause is longer than `settle`, nothing is reported before the grace time is over.
#[test]
fn a_pause_longer_than_settle_is_waited_through() {
    let mut place = Place::new();
    let bytes = fs::read(large(&place, 0)).unwrap();
    start_talkative(&mut place);
    let mut file = File::create(place.path("in/slow.mp4")).unwrap();
    for part in bytes.chunks(bytes.len() / 3 + 1) {
        let before = doubts(&place);
        file.write_all(part).unwrap();
        let is_last = file.metadata().unwrap().len() == bytes.len() as u64;
        if !is_last {
            place.wait("a doubt", || doubts(&place) > before);
            assert!(place.states().is_empty() && place.listing().is_empty());
        }
    }
    drop(file);
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
}

/// W09: hard link, link inside, link out, dangling link, link to itself, link to a folder above.
#[test]
fn links_are_jobs_only_where_they_stay_inside_or_may_lead() {
    let mut place = Place::with(NO_SCANS, "recursive = true");
    fs::create_dir_all(place.path("in/sub")).unwrap();
    fs::create_dir(place.path("archive")).unwrap();
    let (first, second) = (small(&place, 0), small(&place, 90));
    fs::copy(&second, place.path("archive/far.mp4")).unwrap();
    place.start();
    place.wait_ready();
    symlink(place.path("archive/far.mp4"), place.path("in/out.mp4")).unwrap();
    symlink("nowhere.mp4", place.path("in/dangling.mp4")).unwrap();
    symlink("loop.mp4", place.path("in/loop.mp4")).unwrap();
    symlink(place.path("in"), place.path("in/sub/again")).unwrap();
    place.drop_clip(&first, "sub/real.mp4");
    place.wait_ended(1);
    fs::hard_link(place.path("in/sub/real.mp4"), place.path("in/hard.mp4")).unwrap();
    symlink("sub/real.mp4", place.path("in/soft.mp4")).unwrap();
    // A folder that is swapped for a link while its clip settles.
    fs::create_dir(place.path("in/d")).unwrap();
    let third = small(&place, 180);
    fs::create_dir(place.path("archive/d")).unwrap();
    fs::copy(&third, place.path("archive/d/x.mp4")).unwrap();
    fs::copy(&third, place.path("in/d/x.mp4")).unwrap();
    fs::rename(place.path("in/d"), place.path("in/e")).unwrap();
    symlink(place.path("archive/d"), place.path("in/d")).unwrap();
    place.wait_ended(4);
    linger();
    let mut states = place.states();
    states.sort();
    assert_eq!(states, ["done", "done", "duplicate", "duplicate"], "{}", place.log());
    let sources: Vec<String> = place.jobs().into_iter().map(|it| it.source).collect();
    assert!(!sources.iter().any(|it| it.ends_with("/in/d/x.mp4")), "{sources:?}");
    assert!(
        place.log().contains("out.mp4: a link that leads out is not followed: `links_to` names")
    );

    place.terminate();
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let allowed = format!("{config}links_to = [\"{}\"]\n", place.path("archive").display());
    fs::write(place.path("slomod.toml"), allowed).unwrap();
    place.start();
    place.wait_ended(5);
    assert!(place.listing().contains(&"out_slow2x.mp4".to_owned()), "{:?}", place.listing());
}

/// W11, M8, and W12: times of the past and of the future, as `cp -p` and a camera's wrong clock leave them.
#[test]
fn old_and_future_modification_times_settle_like_any_other() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    let year = Duration::from_secs(365 * 24 * 3600);
    let now = SystemTime::now();
    for (name, time, hue) in
        [("old.mp4", SystemTime::UNIX_EPOCH + 31 * year, 0), ("future.mp4", now + year, 90)]
    {
        let path = place.path("in").join(name);
        fs::copy(small(&place, hue), &path).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
}

/// W12: what decides that a file is complete knows no wall clock that could be set back.
#[test]
fn settling_knows_the_monotonic_clock_only() {
    for (name, source) in [
        ("settle.rs", include_str!("../../src/daemon/settle.rs")),
        ("folders.rs", include_str!("../../src/daemon/folders.rs")),
        ("hints.rs", include_str!("../../src/daemon/hints.rs")),
    ] {
        for clock in ["SystemTime", "now_ms", "UNIX_EPOCH", "Timestamp"] {
            assert!(!source.contains(clock), "{name} asks {clock}");
        }
    }
}

/// W17: deleted, renamed, and replaced before it has settled.
#[test]
fn a_file_is_followed_through_removal_renaming_and_replacement() {
    let mut place = Place::with(NO_SCANS, "settle = \"1500ms\"");
    let clips: Vec<PathBuf> = (0..4).map(|number| small(&place, 80 * number)).collect();
    place.start();
    place.wait_ready();
    place.drop_clip(&clips[0], "deleted.mp4");
    place.drop_clip(&clips[1], "before.mp4");
    place.drop_clip(&clips[2], "replaced.mp4");
    std::thread::sleep(SETTLE);
    fs::remove_file(place.path("in/deleted.mp4")).unwrap();
    fs::rename(place.path("in/before.mp4"), place.path("in/after.mp4")).unwrap();
    place.drop_clip(&clips[3], "replaced.mp4");
    place.wait_ended(2);
    linger();
    let outputs = ["after_slow2x.mp4", "replaced_slow2x.mp4"];
    let found: Vec<_> = place.listing().into_iter().filter(|it| it.ends_with("mp4")).collect();
    assert_eq!(found, outputs, "{}", place.log());
    let report = place.report("replaced_slow2x.mp4.json");
    let size = fs::metadata(&clips[3]).unwrap().len();
    assert_eq!(report.source.size_bytes, size);
    let sha256 = slomod::daemon::digest::file_sha256(&clips[3]).unwrap();
    assert_eq!(report.source.sha256, Some(sha256), "the later content was worked");
}

/// W31: names of 255 bytes, names that are no text, and one Korean name in both of its spellings.
#[test]
fn long_and_odd_names_keep_their_bytes_in_the_report() {
    let mut place = Place::with("", "frame_list = true");
    let long = [vec![b'x'; 251], b".mp4".to_vec()].concat();
    let (composed, decomposed) =
        ("한글.mp4", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}.mp4");
    let names: [&[u8]; 4] = [&long, b"\xff\xfe.mp4", composed.as_bytes(), decomposed.as_bytes()];
    for (number, name) in names.iter().enumerate() {
        let clip = small(&place, 10 + 40 * number as u32);
        let name = std::ffi::OsString::from_vec(name.to_vec());
        fs::copy(clip, place.path("in").join(name)).unwrap();
    }
    place.start();
    place.wait_ended(names.len());
    assert_eq!(place.states(), ["done"; 4], "{}", place.log());
    let entries = fs::read_dir(place.path("out")).unwrap().map(|it| it.unwrap().file_name());
    let all: Vec<_> = entries.filter(|name| name != ".slomod.lock").collect();
    assert_eq!(all.len(), 3 * names.len(), "two spellings are two files: {all:?}");
    assert!(all.iter().all(|name| name.len() <= 255 && !name.as_bytes().starts_with(b".")));
    let text = |name: &[u8]| {
        let is_report = |it: &&std::ffi::OsString| {
            it.as_bytes().starts_with(name) && it.as_bytes().ends_with(b".json")
        };
        fs::read(place.path("out").join(all.iter().find(is_report).unwrap())).unwrap()
    };
    let report = schema::checked(&text(b"\xff\xfe"));
    let path = place.path("in").join(std::ffi::OsStr::from_bytes(b"\xff\xfe.mp4"));
    let exact = slomod::report::base64::encode(path.as_os_str().as_bytes());
    assert_eq!(report.source.path_b64, Some(exact));
    // The output and what lies beside it can be found by the report alone.
    let output = report.output.unwrap();
    let named = |path_b64: Option<String>| {
        all.iter().find(|name| {
            let path = place.path("out").join(name);
            path_b64 == Some(slomod::report::base64::encode(path.as_os_str().as_bytes()))
        })
    };
    let size_of = |path_b64| {
        named(path_b64).map(|it| fs::metadata(place.path("out").join(it)).unwrap().len())
    };
    assert_eq!(size_of(output.path_b64), Some(output.size_bytes));
    let [list] = <[_; 1]>::try_from(output.sidecars).unwrap();
    assert_eq!(size_of(list.path_b64), Some(list.size_bytes));
    let report = schema::checked(&text(decomposed.trim_end_matches(".mp4").as_bytes()));
    assert!(report.source.path.ends_with(decomposed) && report.source.path_b64.is_none());
    assert!(report.output.unwrap().path_b64.is_none());
}

/// W37: the daemon starts while a copy is in progress, whose parts open.
#[test]
fn a_start_in_the_middle_of_a_copy_waits_for_its_end() {
    let mut place = Place::with("unsized_settle = \"300ms\"", "");
    let bytes = fs::read(stream(&place, "ts", 0)).unwrap();
    let mut file = File::create(place.path("in/slow.ts")).unwrap();
    let mut parts = bytes.chunks(bytes.len() / 12 + 1);
    for part in parts.by_ref().take(4) {
        file.write_all(part).unwrap();
    }
    place.start();
    place.wait_ready();
    for part in parts {
        std::thread::sleep(SETTLE / 3);
        assert!(place.states().is_empty(), "{}", place.log());
        file.write_all(part).unwrap();
    }
    drop(file);
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
    assert_eq!(place.jobs()[0].attempt, 1);
}

/// Strict mode `sentinel`: a still, whole clip waits for the file beside it that says so.
#[test]
fn with_sentinels_a_clip_waits_for_its_own() {
    let mut place = Place::with(NO_SCANS, "ready = \"sentinel\"");
    place.drop_clip(&small(&place, 0), "early.mp4");
    fs::write(place.path("in/early.done"), "").unwrap();
    place.start();
    place.wait_ended(1);
    place.drop_clip(&small(&place, 90), "late.mp4");
    place.drop_clip(&small(&place, 180), "never.mp4");
    linger();
    assert_eq!(place.jobs().len(), 1, "{}", place.log());
    fs::write(place.path("in/late.mp4.done"), "").unwrap();
    place.wait_ended(2);
    linger();
    assert_eq!(place.states(), ["done", "done"]);
    assert!(!place.log().contains("never"), "{}", place.log());
}

/// Strict mode `rename`: a clip moved to its name is taken at once; one that is written there settles.
#[test]
fn with_renames_only_what_is_moved_in_is_taken_at_once() {
    let mut place = Place::with(NO_SCANS, "ready = \"rename\"\nsettle = \"1h\"");
    place.start();
    place.wait_ready();
    fs::copy(small(&place, 0), place.path("in/written.mp4")).unwrap();
    fs::copy(small(&place, 90), place.path("in/.moved.tmp")).unwrap();
    fs::rename(place.path("in/.moved.tmp"), place.path("in/moved.mp4")).unwrap();
    place.wait_ended(1);
    assert_eq!(place.listing(), ["moved_slow2x.mp4", "moved_slow2x.mp4.json"]);
    assert_eq!(place.report("moved_slow2x.mp4.json").status, Status::Done);
}

/// W16: an unmounted share shows an empty folder at its place. Swapped by rename here; really mounted in `watching`.
#[test]
fn an_empty_folder_in_the_place_of_a_share_cancels_nothing() {
    let mut place = Place::with("", "factor = 16\nfps = 10");
    for (number, name) in ["a.mp4", "b.mp4", "c.mp4"].into_iter().enumerate() {
        place.drop_clip(&large(&place, 80 * number as u32), name);
    }
    let faults = Faults::of(&place);
    start_at_work(&mut place, &faults);
    place.wait("two jobs that wait", || place.states().len() == 3);
    fs::create_dir(place.path("below")).unwrap();
    let swap = |place: &Place, away: &str, back: &str| {
        fs::rename(place.path("in"), place.path(away)).unwrap();
        fs::rename(place.path(back), place.path("in")).unwrap();
    };
    swap(&place, "share", "below");
    faults.let_go();
    place.wait("a job that waits", || place.log().contains("is it mounted?"));
    place.kill();
    let before = place.log().matches("is it mounted?").count();
    place.start();
    place.wait("the same after a restart", || {
        place.log().matches("is it mounted?").count() > before
    });
    assert!(!place.states().contains(&"cancelled".to_owned()), "{}", place.log());
    // What is dropped into the place below is a clip like any other.
    place.drop_clip(&small(&place, 300), "below.mp4");
    place.wait("the clip below", || place.states().contains(&"done".to_owned()));
    swap(&place, "below", "share");
    place.wait_ended(4);
    assert_eq!(place.states(), ["done"; 4], "{}", place.log());
}

/// W16: with a marker, a folder without it is not there.
#[test]
fn a_folder_without_its_marker_counts_as_offline() {
    let mut place = Place::with("", "marker = \".here\"");
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait("offline", || place.log().contains("its marker .here is not there"));
    linger();
    assert!(place.states().is_empty());
    fs::write(place.path("in/.here"), "").unwrap();
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
}
