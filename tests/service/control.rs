//! The control socket and the commands behind which it is.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use slomod::daemon::control::{Ask, client};
use slomod::daemon::journal::FILE_NAME;

use crate::elsewhere::{Wrapper, inside};
use crate::place::{PATIENCE, Place, large, small};
use crate::shim::{Faults, start_at_work};
use crate::{fails, ok, status};

/// Mounts of its own, with root's right to give files to any group.
const ROOT: Wrapper =
    Wrapper { program: "unshare", arguments: &["--mount"], proof: "mount -t tmpfs none /mnt" };

fn connect(place: &Place) -> UnixStream {
    let stream = UnixStream::connect(place.path("state/control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What the daemon answers to `question`; empty where it hangs up.
fn exchange(place: &Place, question: &[u8]) -> String {
    let mut stream = connect(place);
    // It may hang up before it has read all.
    let _ = stream.write_all(question);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn status_comes_from_the_daemon_and_without_one_from_the_journal() {
    let mut place = Place::new();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.start();
    place.wait_ended(1);
    let text = ok(&place, "status", &[]);
    let folder = place.path("in").display().to_string();
    assert!(text.contains("up ") && text.contains(&folder) && text.contains("events"), "{text}");
    let json = status(&place);
    assert_eq!(json["live"]["watches"][0]["state"], "events");
    assert_eq!(json["live"]["device"]["device_kind"], "cpu");
    assert_eq!(json["counts"]["done"], 1);
    assert!(ok(&place, "status", &["1"]).contains("received"));
    assert!(fails(&place, "status", &["77"], 64).contains("no job 77"));
    let meta = fs::symlink_metadata(place.path("state/control.sock")).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    place.terminate();
    assert!(!place.path("state/control.sock").exists(), "no socket without a daemon");
    let json = status(&place);
    assert_eq!((&json["running"], &json["live"]), (&false.into(), &serde_json::Value::Null));
    assert!(ok(&place, "status", &["1"]).contains("received"));
    assert!(fails(&place, "pause", &[], 69).contains("no daemon is running"));
}

#[test]
fn a_watched_status_is_said_again_and_again() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    let mut command = place.command("status");
    command.args(["--watch", "--json"]).stdout(Stdio::piped());
    command.stderr(fs::File::create(place.path("said")).unwrap());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(next()["running"], true);
    }
    // The daemon ends, its journal cannot be read meanwhile, and another one begins.
    place.terminate();
    let (state, away) = (place.path("state"), place.path("away"));
    fs::rename(&state, &away).unwrap();
    let said = place.path("said");
    place.wait("word of it", || {
        fs::read_to_string(&said).unwrap().contains("asked again every second")
    });
    fs::rename(&away, &state).unwrap();
    place.start();
    while next()["running"] != true {}
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_paused_daemon_begins_no_clip_also_after_a_restart_and_goes_on_when_resumed() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    assert!(ok(&place, "pause", &[]).contains("slomod resume"));
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("queued job", || place.states() == ["queued"]);
    place.terminate();
    place.start();
    place.wait_ready();
    place.wait("PAUSED in the status", || {
        status(&place)["daemon"]["status"].as_str().unwrap().contains("PAUSED since ")
    });
    assert!(ok(&place, "status", &[]).contains("PAUSED since "));
    assert_eq!(place.states(), ["queued"]);
    ok(&place, "resume", &[]);
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
    place.terminate();
    assert!(!place.path("state/paused").exists());
}

#[test]
fn a_waiting_job_is_cancelled_stays_so_and_is_done_when_asked_for_again() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    ok(&place, "pause", &[]);
    let clip = small(&place, 0);
    place.drop_clip(&clip, "a.mp4");
    place.wait("queued job", || place.states() == ["queued"]);
    assert!(ok(&place, "cancel", &["1"]).contains("cancelled"));
    ok(&place, "resume", &[]);
    // The same content copied there again is no new wish.
    place.drop_clip(&clip, "a.mp4");
    place.drop_clip(&small(&place, 90), "b.mp4");
    place.wait_ended(2);
    place.terminate();
    place.start();
    place.wait_ready();
    ok(&place, "rescan", &[]);
    place.drop_clip(&small(&place, 150), "c.mp4");
    place.wait_ended(3);
    assert_eq!(place.states(), ["cancelled", "done", "done"], "{}", place.log());
    assert!(fails(&place, "cancel", &["1"], 64).contains("is cancelled"));
    assert!(place.path("in/a.mp4").exists());
    ok(&place, "retry", &["1"]);
    place.wait("retried job", || place.states()[0] == "done");
}

/// S03. The journal has the settings that the clip is worked with: the same content is known with those and no others.
#[test]
fn a_job_that_is_asked_for_again_after_a_reload_has_the_settings_of_now() {
    let mut place = Place::with("", "factor = 2");
    place.start();
    place.wait_ready();
    ok(&place, "pause", &[]);
    let clip = small(&place, 0);
    place.drop_clip(&clip, "a.mp4");
    place.wait("queued job", || place.states() == ["queued"]);
    ok(&place, "cancel", &["1"]);
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), text.replace("factor = 2", "factor = 3")).unwrap();
    ok(&place, "reload", &[]);
    ok(&place, "retry", &["1"]);
    ok(&place, "resume", &[]);
    place.wait_ended(1);
    assert_eq!(place.listing(), ["a_slow3x.mp4", "a_slow3x.mp4.json"], "{}", place.log());
    place.drop_clip(&clip, "b.mp4");
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "duplicate"], "{}", place.log());
}

#[test]
fn a_daemon_that_is_stopped_cancels_what_it_was_asked_to() {
    let mut place = Place::with("", "factor = 16");
    let faults = Faults::of(&place);
    place.drop_clip(&large(&place, 0), "long.mp4");
    start_at_work(&mut place, &faults);
    let mut asking = place.command("cancel").arg("1").spawn().unwrap();
    place.wait("worker that is asked to stop", || place.log().contains("job 1: cancelling"));
    place.signal(Signal::TERM);
    place.wait("word of it", || place.log().contains("stopping"));
    faults.let_go_slowly();
    assert_eq!(place.wait_end().code(), Some(0), "{}", place.log());
    assert_eq!(place.states(), ["cancelled"], "{}", place.log());
    asking.wait().unwrap();
}

#[test]
fn the_running_job_is_stopped_and_cancelled_and_the_next_one_is_done() {
    let mut place = Place::with("", "factor = 16");
    let faults = Faults::of(&place);
    place.drop_clip(&large(&place, 0), "long.mp4");
    start_at_work(&mut place, &faults);
    let mut command = place.command("cancel");
    let asking = command.arg("1").stdout(Stdio::piped()).spawn().unwrap();
    // Held, the worker could not stop, and let go at once it might have done all its work before it is asked to.
    place.wait("worker that is asked to stop", || place.log().contains("job 1: cancelling"));
    faults.let_go_slowly();
    let output = asking.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", place.log());
    assert!(String::from_utf8_lossy(&output.stdout).contains("job 1 is cancelled"));
    faults.let_go();
    place.drop_clip(&small(&place, 0), "next.mp4");
    place.wait_ended(2);
    assert_eq!(place.states(), ["cancelled", "done"]);
    let left = || fs::read_dir(place.path("out")).unwrap().flatten();
    place.wait("tidied output folder", || {
        !left().any(|it| it.file_name().to_string_lossy().contains("slomod-tmp"))
    });
}

#[test]
fn all_failed_or_refused_jobs_are_tried_again() {
    let mut place = Place::with("grace = \"300ms\"", "");
    fs::write(place.path("in/a.mp4"), "no video").unwrap();
    fs::write(place.path("in/b.mp4"), "nor this").unwrap();
    place.start();
    place.wait_ended(2);
    assert!(ok(&place, "retry", &["--failed"]).contains("failed jobs that are queued again: 0"));
    assert!(ok(&place, "retry", &["--refused"]).contains("refused jobs that are queued again: 2"));
    place.wait("second attempts", || {
        place.jobs().iter().all(|it| it.state == "refused" && it.attempt == 2)
    });
    // The line that systemctl shows counts them as the rest of the status does.
    place.wait("the status line", || ok(&place, "status", &[]).contains("| queue 0, refused 2 |"));
    assert!(fails(&place, "retry", &["77"], 64).contains("no job 77"));
    assert!(fails(&place, "retry", &[], 64).contains("<JOB|--failed|--refused>"));
    place.terminate();
    assert!(
        ok(&place, "retry", &["--refused"]).contains("refused jobs that are queued again: 2"),
        "in the journal"
    );
}

#[test]
fn a_rescan_finds_what_nobody_reported() {
    let mut place = Place::with("scan_interval = \"1h\"", "watch_by = \"polling\"");
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let text = text.replace("poll_interval = \"500ms\"", "poll_interval = \"1h\"");
    fs::write(place.path("slomod.toml"), text).unwrap();
    place.start();
    place.wait_ready();
    place.wait("first scan", || status(&place)["live"]["watches"][0]["state"] == "polling");
    place.drop_clip(&small(&place, 0), "a.mp4");
    ok(&place, "rescan", &[]);
    place.wait_ended(1);
}

#[test]
fn a_client_that_misbehaves_harms_nobody() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    for question in [
        &b"\n"[..],
        b"rubbish\n",
        b"{\"ask\":\"explode\"}\n",
        b"{\"ask\":\"status\",\"more\":1}\n",
        b"\xff\xfe\n",
    ] {
        let answer = exchange(&place, question);
        assert!(answer.is_empty() || answer.contains("refused"), "{question:?}: {answer}");
    }
    let refusal = exchange(&place, b"{\"ask\":\"explode\"}\n");
    assert!(refusal.contains("not understood") && refusal.contains("explode"), "{refusal}");
    assert!(exchange(&place, &[b'x'; 100_000]).is_empty(), "longer than any question");
    assert!(exchange(&place, b"{\"ask\":\"pause\"").is_empty(), "no line");
    let elsewhere = b"{\"state_dir\":\"/elsewhere\",\"ask\":\"pause\"}\n";
    assert_eq!(exchange(&place, elsewhere).trim(), "\"not_meant\"");
    assert!(status(&place)["live"]["paused_since"].is_null());
    // More clients than are served, all silent; the daemon goes on, and so does who comes after them.
    place.drop_clip(&small(&place, 0), "a.mp4");
    let mut silent: Vec<UnixStream> = Vec::new();
    place.wait("refused client", || {
        // The daemon hangs up on them after a while.
        silent.extend((0..40).map(|_| connect(&place)));
        let output = place.command("rescan").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_refused = said.contains("too many clients");
        assert_eq!(output.status.code(), Some(if is_refused { 69 } else { 0 }), "{said}");
        is_refused
    });
    place.wait_ended(1);
    drop(silent);
    place.wait("a free place", || place.command("rescan").output().unwrap().status.success());
}

#[test]
fn a_daemon_that_stands_still_is_said_to_and_a_dead_ones_socket_is_replaced() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    place.wait("answer", || place.command("rescan").output().unwrap().status.success());
    place.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", place.child.as_ref().unwrap().id());
    place.wait("standstill", || fs::read_to_string(&stat).unwrap().contains(") T "));
    let (sockets, state) = ([place.path("state/control.sock")], place.path("state"));
    // The commands wait longer.
    let answer = client::ask(&sockets, &state, &Ask::Rescan, Duration::from_millis(300));
    let why = answer.unwrap_err().to_string();
    assert!(why.contains("does not answer: it is stopped or hangs"), "{why}");
    place.signal(Signal::CONT);
    ok(&place, "rescan", &[]);
    place.kill();
    assert!(place.path("state/control.sock").exists());
    assert!(ok(&place, "status", &[]).contains("the daemon died"));
    // Its number is another program's by now: this one's.
    let journal = rusqlite::Connection::open(place.path("state").join(FILE_NAME)).unwrap();
    journal.execute("UPDATE daemon SET pid = ?1", [std::process::id()]).unwrap();
    drop(journal);
    assert!(ok(&place, "status", &[]).contains("the daemon died"));
    place.start();
    place.wait_ready();
    place.wait("answer", || place.command("rescan").output().unwrap().status.success());
    fs::remove_file(place.path("state/control.sock")).unwrap();
    place.wait("new socket", || place.command("rescan").output().unwrap().status.success());
}

#[test]
fn two_daemons_with_one_socket_are_told_apart() {
    let (mut first, mut second) = (Place::new(), Place::new());
    // As long as a configuration may say.
    let room = 103 - first.path("s").as_os_str().len();
    let socket = first.path(&"s".repeat(room));
    for place in [&first, &second] {
        let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
        let line = format!("[daemon]\ncontrol = \"{}\"\n", socket.display());
        fs::write(place.path("slomod.toml"), text.replace("[daemon]\n", &line)).unwrap();
    }
    first.start();
    first.wait_ready();
    ok(&first, "rescan", &[]);
    second.start();
    second.wait_ready();
    second.wait("warning", || second.log().contains("another slomod daemon listens there"));
    assert!(ok(&second, "status", &[]).contains("DEGRADED: "), "in the journal's status line");
    assert!(fails(&second, "pause", &[], 69).contains("no daemon"));
    assert!(status(&first)["live"]["paused_since"].is_null(), "the other one is not meant");
    first.terminate();
    second.wait("its turn", || second.command("rescan").output().unwrap().status.success());
}

#[test]
fn the_socket_lies_in_the_runtime_directory_where_there_is_one() {
    let mut place = Place::new();
    let runtime = place.path("run");
    place.start_with(|command| {
        command.env("RUNTIME_DIRECTORY", format!("{}:/elsewhere", runtime.display()))
    });
    place.wait_ready();
    place.wait("socket", || runtime.join("control.sock").exists());
    let output = place.command("rescan").env("RUNTIME_DIRECTORY", &runtime).output().unwrap();
    assert!(output.status.success());
    let owner = fs::metadata(runtime.join("control.sock")).unwrap();
    assert_eq!(owner.uid(), rustix::process::getuid().as_raw());
}

#[test]
fn the_socket_is_for_the_group_slomod_where_there_is_one() {
    if !inside(&ROOT, "control::the_socket_is_for_the_group_slomod_where_there_is_one") {
        return;
    }
    let mut place = Place::new();
    let groups = place.path("group");
    fs::write(&groups, "root:x:0:\nslomod:x:4242:\n").unwrap();
    let mount = Command::new("mount").arg("--bind").arg(&groups).arg("/etc/group").status();
    assert!(mount.unwrap().success());
    place.start();
    place.wait_ready();
    let socket = place.path("state/control.sock");
    place.wait("socket", || socket.exists());
    let meta = fs::metadata(&socket).unwrap();
    assert_eq!((meta.gid(), meta.permissions().mode() & 0o777), (4242, 0o660));
}

/// Whoever may write to the folder of the socket leads the lock beside it nowhere, and has no file emptied by it.
#[test]
fn a_lock_of_the_socket_that_is_a_link_is_not_followed() {
    let mut place = Place::new();
    let victim = place.path("victim");
    fs::write(&victim, "whole").unwrap();
    fs::create_dir(place.path("state")).unwrap();
    let lock = place.path("state/.control.sock.lock");
    std::os::unix::fs::symlink(&victim, &lock).unwrap();
    place.start();
    place.wait_ready();
    place.wait("word of it", || place.log().contains("control.sock: cannot be listened to"));
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&victim, &lock).unwrap();
    place.wait("socket", || place.path("state/control.sock").exists());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "whole");
    assert_eq!(place.terminate().code(), Some(0));
}
