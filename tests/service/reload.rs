//! A changed configuration under a running daemon: SIGHUP, and what the service manager hears of it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::place::{Place, large, small};
use crate::shim::{Faults, start_at_work};
use crate::{fails, ok, status};

/// The configuration with a further folder `name`, whose output folder is `name`-out.
fn add_folder(place: &Place, name: &str, further: &str) -> PathBuf {
    let root = place.folder.path().display();
    let folder = place.path(name);
    fs::create_dir_all(&folder).unwrap();
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let text = format!(
        "{text}\n[[watch]]\npath = \"{root}/{name}\"\noutput = \"{root}/{name}-out\"\n\
         preset = \"ultrafast\"\nquality_samples = 0\nfactor = 2\n{further}\n"
    );
    fs::write(place.path("slomod.toml"), text).unwrap();
    folder
}

fn configuration(place: &Place) -> String {
    fs::read_to_string(place.path("slomod.toml")).unwrap()
}

fn reloads(place: &Place) -> usize {
    let log = place.log();
    log.matches("configuration reloaded:").count() + log.matches("was not reloaded:").count()
}

/// S03.
#[test]
fn folders_are_added_changed_and_removed_while_a_clip_is_worked() {
    let mut place = Place::with("", "factor = 16");
    let faults = Faults::of(&place);
    let second = add_folder(&place, "second", "recursive = true");
    let with_both = configuration(&place);
    place.drop_clip(&large(&place, 0), "long.mp4");
    start_at_work(&mut place, &faults);
    let worker_before = place.jobs()[0].attempt;
    // The folder of the running clip goes, one is configured otherwise, and one is new.
    let root = place.folder.path().display().to_string();
    let (daemon, _) = with_both.split_once("[[watch]]").unwrap();
    let text = format!(
        "{daemon}[[watch]]\npath = \"{root}/second\"\noutput = \"{root}/second-out\"\npreset = \"ultrafast\"\n\
         quality_samples = 0\nfactor = 3\n"
    );
    fs::write(place.path("slomod.toml"), text).unwrap();
    let third = add_folder(&place, "third", "");
    place.signal(Signal::HUP);
    place.wait("reload", || {
        place.log().contains("1 folder added, 1 folder changed, 1 folder removed")
    });
    let watches = status(&place)["live"]["watches"].clone();
    let paths: Vec<&str> =
        watches.as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [second.to_str().unwrap(), third.to_str().unwrap()]);
    assert_eq!(place.states(), ["running"], "the running clip goes on");
    // Not recursive any more, and with another factor; the removed folder is nobody's business.
    fs::create_dir(second.join("deep")).unwrap();
    fs::copy(small(&place, 30), second.join("deep/x.mp4")).unwrap();
    place.drop_clip(&small(&place, 60), "left.mp4");
    fs::rename(small(&place, 90), second.join("b.mp4")).unwrap();
    fs::rename(small(&place, 120), third.join("c.mp4")).unwrap();
    faults.let_go();
    place.wait_ended(3);
    assert_eq!(place.states(), ["done"; 3], "{}", place.log());
    assert_eq!(place.jobs()[0].attempt, worker_before, "never interrupted");
    assert!(place.path("out/long_slow16x.mp4.json").exists(), "as it was configured when it began");
    assert!(place.path("second-out/b_slow3x.mp4").exists());
    assert!(place.path("third-out/c_slow2x.mp4").exists());
    // What came back is watched again, with what was dropped there meanwhile.
    fs::write(place.path("slomod.toml"), with_both).unwrap();
    assert!(
        ok(&place, "reload", &[]).contains("1 folder added, 1 folder changed, 1 folder removed")
    );
    place.wait_ended(5);
    assert_eq!(place.states(), ["done"; 5]);
    assert!(place.path("second-out/deep/x_slow2x.mp4").exists(), "recursive again");
    assert!(place.path("out/left_slow16x.mp4").exists());
}

/// S03.
#[test]
fn a_wrong_file_changes_nothing_and_is_said_with_its_place_until_a_right_one_comes() {
    let mut place = Place::new();
    place.start();
    place.wait_ready();
    let right = configuration(&place);
    let other_state = right.replace("/state\"", "/other\"");
    let no_weights = right.replace("\"blend\"", "\"/nonexistent.safetensors\"");
    let unknown_key = format!("{right}\nfactr = 3\n");
    let place_of_key = format!("slomod.toml:{}:1:", unknown_key.lines().count());
    for (text, said) in [
        (unknown_key.clone(), place_of_key.as_str()),
        ("rubbish [".to_owned(), "slomod.toml:1:"),
        (other_state, "`state_dir` was changed, which takes a restart"),
        (no_weights, "/nonexistent.safetensors"),
    ] {
        fs::write(place.path("slomod.toml"), text).unwrap();
        let before = reloads(&place);
        place.signal(Signal::HUP);
        place.wait("failed reload", || reloads(&place) > before);
        assert!(place.log().contains(said), "{said}:\n{}", place.log());
    }
    fs::write(place.path("slomod.toml"), unknown_key).unwrap();
    let refusal = fails(&place, "reload", &[], 78);
    assert!(
        refusal.contains("nothing was changed") && refusal.contains(&place_of_key),
        "{refusal}"
    );
    let degraded = status(&place)["live"]["degraded"].to_string();
    assert!(
        degraded.contains("was not reloaded") && degraded.contains(&place_of_key),
        "{degraded}"
    );
    // It goes on as it was.
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("done job", || place.path("out/a_slow2x.mp4.json").exists());
    fs::write(place.path("slomod.toml"), right).unwrap();
    assert!(ok(&place, "reload", &[]).contains("the folders are as before"));
    assert_eq!(status(&place)["live"]["degraded"], serde_json::json!([]));
}

/// The clock of `MONOTONIC_USEC=`.
fn monotonic_usec() -> u64 {
    match sd_notify::NotifyState::monotonic_usec_now().unwrap() {
        sd_notify::NotifyState::MonotonicUsec(now) => now.try_into().unwrap(),
        other => panic!("{other}"),
    }
}

/// S05. It begins after the signal, not before, as the service manager asks.
#[test]
fn the_service_manager_hears_of_a_reload_in_one_datagram_and_of_its_end() {
    let mut place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(crate::place::PATIENCE)).unwrap();
    let address = place.path("notify");
    place.start_with(|command| command.env("NOTIFY_SOCKET", &address));
    let mut buffer = [0; 4096];
    let mut until = |wanted: &str| loop {
        let length = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.lines().any(|line| line == wanted) {
            return text;
        }
    };
    until("READY=1");
    for wrong in [false, true] {
        if wrong {
            fs::write(place.path("slomod.toml"), "rubbish [").unwrap();
        }
        let before = monotonic_usec();
        place.signal(Signal::HUP);
        let datagram = until("RELOADING=1");
        let since = datagram.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let since: u64 = since.expect(&datagram).parse().unwrap();
        let now = monotonic_usec();
        assert!((before..=now).contains(&since), "{before} {since} {now}");
        // Seconds since the start of the system; hundredths are cut off.
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let now_s: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(since as f64 <= (now_s + 0.01) * 1e6, "{since} is not before {now_s} s");
        until("READY=1");
    }
}

#[test]
fn jobs_of_a_folder_that_is_not_configured_any_more_wait_and_are_said() {
    let mut place = Place::new();
    let second = add_folder(&place, "second", "");
    let with_both = configuration(&place);
    place.start();
    place.wait_ready();
    ok(&place, "pause", &[]);
    fs::rename(small(&place, 0), second.join("a.mp4")).unwrap();
    place.wait("queued job", || place.states() == ["queued"]);
    let without = with_both[..with_both.rfind("[[watch]]").unwrap()].to_owned();
    fs::write(place.path("slomod.toml"), without).unwrap();
    ok(&place, "reload", &[]);
    let degraded = status(&place)["live"]["degraded"].to_string();
    assert!(
        degraded.contains("second is not configured any more, and 1 of its jobs"),
        "{degraded}"
    );
    ok(&place, "resume", &[]);
    place.drop_clip(&small(&place, 60), "b.mp4");
    place.wait("the other job", || place.states() == ["queued", "done"]);
    fs::write(place.path("slomod.toml"), with_both).unwrap();
    ok(&place, "reload", &[]);
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
}
