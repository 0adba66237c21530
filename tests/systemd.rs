//! The unit file: systemd understands it, it is locked down, and it fits the program and its configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

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
        skip("no systemd-analyze");
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

/// What no tool can tell to be missing.
#[test]
fn the_unit_waits_for_shares_and_devices_and_opens_those_of_the_gpu() {
    let unit = unit();
    for line in [
        "After=network-online.target remote-fs.target systemd-modules-load.service nvidia-persistenced.service",
        "Wants=network-online.target",
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=60",
        "Restart=on-failure",
        "SupplementaryGroups=video render",
        "UMask=0027",
        "RuntimeDirectory=slomod",
        "PrivateDevices=no",
        "DevicePolicy=closed",
        "DeviceAllow=char-nvidia* rw",
        "ProcSubset=all",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    let modules = std::fs::read_to_string(root().join("systemd/slomod.modules-load")).unwrap();
    assert!(modules.lines().any(|line| line == "nvidia-uvm"), "{modules}");
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
    // The driver keeps there what it compiles for chips that the program has only PTX for; it lies in no home of a service,
    // and without it every clip would wait for that.
    let cache = Path::new("/var/cache").join(value("CacheDirectory")).join("cuda");
    let variable = format!("CUDA_CACHE_PATH={}", cache.display());
    assert!(value("Environment").split(' ').any(|it| it == variable), "{variable}");
    assert_eq!(value("RestartPreventExitStatus"), "78");
    let writable = value("ReadWritePaths");
    let shipped = load(&root().join("config/slomod.toml")).unwrap();
    for watch in shipped.watches {
        assert!(watch.output.starts_with(writable.trim_start_matches('-')));
    }
}
