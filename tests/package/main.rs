//! What an administrator meets: the first configuration, the unit's drop-in, manual pages, completions, the package.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod confined;
mod deb;
mod dropin;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../faults/elsewhere.rs"]
mod elsewhere;
mod init;
mod install;
mod manual;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../daemon/place.rs"]
mod place;
mod readme;

use place::skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
const SLOMOD: &str = env!("CARGO_BIN_EXE_slomod");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn slomod(arguments: &[&str]) -> Output {
    Command::new(SLOMOD).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether `program` is installed; says that the test is skipped where it is not.
fn installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        skip(&format!("no {program}"));
    }
    there
}

/// What `slomod package-files` makes, in a folder that is removed at the end.
fn package_files() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("package");
    let output = slomod(&["package-files", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    (folder, path)
}
