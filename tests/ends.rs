//! How commands end that are stopped, or whose words nobody can read: the work is whole, or nothing of it stays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const SLOMOD: &str = env!("CARGO_BIN_EXE_slomod");

/// Longest a step may take on a loaded machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

fn clip(folder: &Path, seconds: &str) {
    let source = format!("testsrc2=s=128x96:r=10:d={seconds}");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", &source]).arg(folder.join("in.mp4"));
    assert!(command.status().unwrap().success());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A pipe that nobody reads.
fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A command in `folder`: its exit code, and what it said where `stderr` is read.
fn ended(folder: &Path, args: &[&str], stdout: Stdio, stderr: Stdio) -> (i32, String) {
    let mut command = Command::new(SLOMOD);
    command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let run = command.spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    (run.status.code().unwrap(), said)
}

const CONVERT: [&str; 12] = [
    "convert",
    "in.mp4",
    "--output",
    "out.mp4",
    "--json",
    "--model",
    "blend",
    "--factor",
    "2",
    "--device",
    "cpu",
    "--overwrite",
];

#[test]
fn a_conversion_is_published_whoever_reads_what_is_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path(), "0.5");
    let made = ["in.mp4", "out.mp4", "out.mp4.json"];
    for (stdout, stderr, code) in [
        (closed(), Stdio::piped(), 0),
        (full(), Stdio::piped(), 74),
        (Stdio::null(), closed(), 0),
        (Stdio::null(), full(), 0),
        (full(), full(), 74),
    ] {
        let (found, said) = ended(folder.path(), &CONVERT, stdout, stderr);
        assert_eq!(found, code, "{said}");
        assert_eq!(code != 0 && !said.is_empty(), said.contains("standard output: "), "{said}");
        assert_eq!(names(folder.path()), made, "{said}");
        std::fs::remove_file(folder.path().join("out.mp4")).unwrap();
        std::fs::remove_file(folder.path().join("out.mp4.json")).unwrap();
    }
    // Why it failed is said by the exit code all the same.
    std::fs::write(folder.path().join("in.mp4"), "no video\n".repeat(1000)).unwrap();
    assert_eq!(ended(folder.path(), &CONVERT, full(), full()).0, 65);
    assert_eq!(names(folder.path()), ["in.mp4"]);
}

#[test]
fn whoever_closes_the_output_of_a_command_has_read_enough_and_a_full_disk_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path(), "0.5");
    assert_eq!(ended(folder.path(), &CONVERT, Stdio::null(), Stdio::piped()).0, 0);
    for args in [
        &["check"][..],
        &["check", "--json"],
        &["verify", "out.mp4.json"],
        &["verify", "out.mp4.json", "--json"],
        &["--help"],
        &["help", "convert"],
        &["--version"],
    ] {
        let (code, said) = ended(folder.path(), args, closed(), Stdio::piped());
        assert_eq!(code, 0, "{args:?}: {said}");
        let (code, said) = ended(folder.path(), args, full(), Stdio::piped());
        assert!(code == 74 && said.contains("standard output: "), "{args:?}: {said}");
        assert_eq!(ended(folder.path(), args, full(), full()).0, 74, "{args:?}");
    }
    // What is wrong with the arguments is said elsewhere.
    assert_eq!(ended(folder.path(), &["convert"], full(), full()).0, 64);
}

/// A conversion that has begun to write. `option` of `env` says what becomes of the signal of a terminal that closes.
fn begun(folder: &Path, option: &str) -> Child {
    let mut command = Command::new("env");
    command.args([option, SLOMOD]).args(CONVERT).current_dir(folder);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while names(folder).len() < 2 {
        assert!(start.elapsed() < PATIENCE, "the work never started");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path(), "120");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut child = begun(folder.path(), "--default-signal=HUP");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75), "{signal:?}");
        assert_eq!(names(folder.path()), ["in.mp4"], "{signal:?}");
    }
}

/// As `nohup` has it.
#[test]
fn a_conversion_that_is_to_outlive_its_terminal_does() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path(), "20");
    let mut child = begun(folder.path(), "--ignore-signal=HUP");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(names(folder.path()), ["in.mp4", "out.mp4", "out.mp4.json"]);
}
