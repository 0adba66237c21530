//! What the service manager hears from start to end.

use std::fs;
use std::os::unix::net::UnixDatagram;

use slomod::config::file::load;

use crate::place::{Place, large, small};
use crate::shim::{
    Action, DAEMON, Faults, OPEN_READ, READ, Rule, WORKER, WRITE, terminate_at_work,
};
use crate::{ok, status};

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    all: Vec<String>,
}

impl Manager {
    fn of(place: &Place) -> Self {
        let socket = UnixDatagram::bind(place.path("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, all: Vec::new() }
    }

    /// Every line that came so far.
    fn said(&mut self) -> &[String] {
        let mut buffer = [0; 8192];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.all.extend(text.lines().map(str::to_owned));
        }
        &self.all
    }

    fn heard(&mut self, beginning: &str) -> usize {
        self.said().iter().filter(|line| line.starts_with(beginning)).count()
    }
}

/// S01. The weights are held while they are read: until then there is no READY, but a plea for patience.
#[test]
fn ready_is_said_once_configuration_journal_and_device_are_there_and_patience_asked_for_before() {
    let mut place = Place::new();
    let weights = place.path("weights.safetensors");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/starter.safetensors");
    fs::copy(shipped, &weights).unwrap();
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let text = text.replace("\"blend\"", &format!("\"{}\"", weights.display()));
    fs::write(place.path("slomod.toml"), text).unwrap();
    let mut manager = Manager::of(&place);
    let faults = Faults::of(&place);
    faults.hold(&Rule::new(OPEN_READ, "/weights.safetensors", Action::Hold).by(WORKER).once(1));
    let address = place.path("notify");
    place.start_with(|command| faults.enter(command).env("NOTIFY_SOCKET", &address));
    faults.wait_held(&place);
    place.wait("plea for patience", || manager.heard("EXTEND_TIMEOUT_USEC=") > 0);
    assert!(place.path("state/journal.sqlite").exists());
    assert_eq!(manager.heard("READY="), 0, "{:?}", manager.all);
    assert!(manager.heard("STATUS=starting: opening device and weights") > 0);
    faults.let_go();
    place.wait("READY", || manager.heard("READY=1") == 1);
}

/// S01. A journal of gigabytes takes minutes to be checked: here its first reading is held.
#[test]
fn patience_is_asked_for_while_the_journal_is_checked() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    place.terminate();
    let mut manager = Manager::of(&place);
    let faults = Faults::of(&place);
    faults.hold(&Rule::new(READ, "/state/journal.sqlite", Action::Hold).by(DAEMON).once(1));
    let address = place.path("notify");
    place.start_with(|command| faults.enter(command).env("NOTIFY_SOCKET", &address));
    faults.wait_held(&place);
    place.wait("plea for patience", || manager.heard("EXTEND_TIMEOUT_USEC=") > 0);
    assert_eq!(manager.heard("READY="), 0, "{:?}", manager.all);
    assert!(manager.heard("STATUS=starting: checking the journal") > 0, "{:?}", manager.all);
    faults.let_go();
    place.wait("READY", || manager.heard("READY=1") == 1);
}

/// S04. The worker stands still: it is found and ended after `stall_timeout`, its clip is done by the next one, and the
/// daemon is alive all the time.
#[test]
fn a_frozen_worker_is_ended_and_the_daemon_stays_alive() {
    let mut place = Place::with("stall_timeout = \"10s\"", "");
    let mut manager = Manager::of(&place);
    let faults = Faults::of(&place);
    let address = place.path("notify");
    // A small clip: it is done within `stall_timeout` also where the program is not optimised.
    place.drop_clip(&small(&place, 0), "a.mp4");
    faults.hold(&Rule::new(WRITE, "/out/", Action::Hold).by(WORKER).once(1));
    place.start_with(|command| {
        faults.enter(command).env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "1500000")
    });
    faults.wait_held(&place);
    place.wait("end of the frozen worker", || {
        manager.said();
        place.log().contains("no progress for 10 s")
    });
    faults.let_go();
    let before = manager.heard("WATCHDOG=1");
    place.wait("WATCHDOG", || manager.heard("WATCHDOG=1") > before);
    place.wait("end of the job", || {
        manager.said();
        place.all_ended(1)
    });
    let job = &place.jobs()[0];
    assert_eq!((job.state.as_str(), job.attempt), ("done", 2), "{}", place.log());
}

/// A service manager that reads nothing, from before the start on: the daemon works and answers, and once it is read the
/// manager hears that it is ready, in order and with the last status.
#[test]
fn a_service_manager_that_does_not_read_holds_nothing_up_and_hears_all_of_it_later() {
    let mut place = Place::new();
    let mut manager = Manager::of(&place);
    let address = place.path("notify");
    let stuffing = UnixDatagram::unbound().unwrap();
    stuffing.set_nonblocking(true).unwrap();
    while stuffing.send_to(b"STUFFING=1", &address).is_ok() {}
    place.start_with(|command| {
        command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "30000000")
    });
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"]);
    ok(&place, "reload", &[]);
    let line = status(&place)["daemon"]["status"].as_str().unwrap().to_owned();
    assert!(line.starts_with("1 watch | idle"), "{line}");
    place.wait("all of it", || manager.heard(&format!("STATUS={line}")) > 0);
    place.wait("sign of life", || manager.heard("WATCHDOG=1") > 0);
    let states = ["READY=1", "RELOADING=1"];
    let told: Vec<&str> =
        manager.all.iter().map(String::as_str).filter(|it| states.contains(it)).collect();
    assert_eq!(told, ["READY=1", "RELOADING=1", "READY=1"]);
    assert_eq!(place.terminate().code(), Some(0));
    assert_eq!(manager.heard("STOPPING=1"), 1);
}

/// S09. Also what `systemctl status` shows meanwhile.
#[test]
fn a_stop_says_so_and_leaves_nothing_but_a_job_that_waits() {
    let mut place = Place::with("", "factor = 16");
    let mut manager = Manager::of(&place);
    let address = place.path("notify");
    let faults = Faults::of(&place);
    place.drop_clip(&large(&place, 0), "long.mp4");
    faults.hold_worker();
    place.start_with(|command| faults.enter(command).env("NOTIFY_SOCKET", &address));
    faults.wait_held(&place);
    let is_whole = |line: &&String| {
        line.contains("1 watch ") && line.contains("| run 1: long.mp4") && line.ends_with("| cpu")
    };
    place.wait("STATUS", || {
        manager.said().iter().filter(|it| it.starts_with("STATUS=")).any(|it| is_whole(&it))
    });
    assert_eq!(terminate_at_work(&mut place, &faults).code(), Some(0));
    assert_eq!(manager.heard("STOPPING=1"), 1);
    assert_eq!(place.states(), ["queued"]);
    assert!(place.listing().is_empty(), "{:?}", place.listing());
    let state: Vec<String> = fs::read_dir(place.path("state"))
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("journal.") && name != "daemon.lock")
        .collect();
    assert_eq!(state, [".control.sock.lock"], "no socket, no temporary file");
}

/// S02. The unit does not start it again: `tests/systemd.rs`.
#[test]
fn a_wrong_file_ends_the_start_with_78_and_line_and_column() {
    let place = Place::with("", "factr = 3");
    let mut manager = Manager::of(&place);
    let output =
        place.command("daemon").env("NOTIFY_SOCKET", place.path("notify")).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("slomod.toml:14:1:") && said.contains("factr"), "{said}");
    assert_eq!(manager.heard("READY="), 0);
    assert!(load(&place.path("slomod.toml")).is_err());
}

/// What is degraded comes first, in the service manager's line as in the status.
#[test]
fn what_is_degraded_is_said_first() {
    let mut place = Place::new();
    fs::remove_dir(place.path("in")).unwrap();
    let mut manager = Manager::of(&place);
    let address = place.path("notify");
    place.start_with(|command| command.env("NOTIFY_SOCKET", &address));
    place.wait_ready();
    place.wait("STATUS", || manager.heard("STATUS=DEGRADED: ") > 0);
    assert_eq!(status(&place)["live"]["watches"][0]["state"], "offline");
    fs::create_dir(place.path("in")).unwrap();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("STATUS", || manager.heard("STATUS=1 watch ") > 0);
    place.wait("end of the job", || {
        manager.said();
        place.all_ended(1)
    });
}
