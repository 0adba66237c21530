//! The unit file: systemd understands it, it is locked down, and it fits the program and its configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use slomod::config::file::{Daemon, load};

/// Highest exposure that is accepted, in tenths: 1.0.
const MOST_EXPOSURE: &str = "10";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn unit() -> String {
    std::fs::read_to_string(root().join("systemd/slomod.service")).unwrap()
}

/// Runs `systemd-analyze` on the unit with this build's program in the place of the installed one.
fn analyze(arguments: &[&str]) -> Option<Output> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slomod.service");
    std::fs::write(&path, unit().replace("/usr/bin/slomod", env!("CARGO_BIN_EXE_slomod"))).unwrap();
    Some(Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn systemd_understands_every_line() {
    let Some(output) = analyze(&["verify", "--man=no"]) else { return };
    // Complaints about this machine's other units are not ours.
    let said = text(&output);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("slomod")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn the_service_is_exposed_to_1_0_at_the_most() {
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let Some(output) = analyze(&["security", "--offline=true", &threshold]) else { return };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_commands_of_the_unit_exist() {
    for line in unit().lines().filter(|line| line.starts_with("Exec")) {
        let command = line.split_once('=').unwrap().1.trim_start_matches('-');
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], "/usr/bin/slomod");
        let output =
            Command::new(env!("CARGO_BIN_EXE_slomod")).args([words[1], "--help"]).output().unwrap();
        assert!(output.status.success(), "{line}");
        assert!(text(&output).contains(words[2]), "{line}: no {}", words[2]);
    }
}

/// Runs the program in a mount namespace with a journal socket of the test's own.
#[test]
fn log_lines_reach_the_journal_with_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("journal")).unwrap();
    let socket = UnixDatagram::bind(path("journal/socket")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let root_of_test = folder.path().display();
    let text = format!(
        "[daemon]\nstate_dir = \"{root_of_test}/state\"\nmodel = \"blend\"\ndevice = \"cpu\"\nsettle = \"100ms\"\n\
         grace = \"100ms\"\nreserve = 0\n\
         [[watch]]\npath = \"{root_of_test}/in\"\noutput = \"{root_of_test}/out\"\n"
    );
    std::fs::create_dir(path("in")).unwrap();
    std::fs::write(path("slomod.toml"), text).unwrap();
    std::fs::write(path("in/bad.mp4"), "no video").unwrap();
    let log = std::fs::File::create(path("log")).unwrap();
    let meta = log.metadata().unwrap();
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$0\" /run/systemd/journal || exit 99; exec \"$@\"";
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(path("journal"))
        .args([env!("CARGO_BIN_EXE_slomod"), "daemon", "--config"])
        .arg(path("slomod.toml"))
        .env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
        .stderr(log)
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: no unshare");
        return;
    };
    let begin = Instant::now();
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let has_job = |all: &[Vec<u8>]| {
        let text = |it: &Vec<u8>| String::from_utf8_lossy(it).into_owned();
        all.iter().map(text).find(|it| it.contains("SLOMOD_STATE") && it.contains("refused"))
    };
    let entry = loop {
        while let Ok(length) = socket.recv(&mut buffer) {
            all.push(buffer[..length].to_vec());
        }
        if let Some(entry) = has_job(&all) {
            break entry;
        }
        if let Some(status) = child.try_wait().unwrap() {
            println!("skipped: no mount namespace here ({status})");
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{} entries", all.len());
        std::thread::sleep(Duration::from_millis(10));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    for field in [
        "SYSLOG_IDENTIFIER",
        "PRIORITY",
        "MESSAGE",
        "SLOMOD_JOB",
        "SLOMOD_WATCH",
        "SLOMOD_SRC_SHA256",
    ] {
        assert!(
            entry.lines().any(|line| line == field || line.starts_with(&format!("{field}="))),
            "{field}: {entry:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(path("log")).unwrap(), "", "nothing twice");
}

#[test]
fn unit_and_configuration_fit_each_other() {
    let value = |key: &str| {
        let unit = unit();
        let line =
            unit.lines().find(|line| line.starts_with(&format!("{key}="))).expect(key).to_owned();
        line.split_once('=').unwrap().1.to_owned()
    };
    let seconds = |key| Duration::from_secs(value(key).parse().unwrap());
    let default = Daemon::default();
    assert!(seconds("TimeoutStopSec") > default.stop_timeout, "a clip is put back before the kill");
    assert_eq!(default.state_dir, Path::new("/var/lib").join(value("StateDirectory")));
    assert_eq!(value("RestartPreventExitStatus"), "78");
    let writable = value("ReadWritePaths");
    let shipped = load(&root().join("config/slomod.toml")).unwrap();
    for watch in shipped.watches {
        assert!(watch.output.starts_with(writable.trim_start_matches('-')));
    }
}
