//! The program under what the unit takes from it, without systemd; on a GPU where SLOMOD_TEST_DEVICE=cuda says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::place::skip;
use crate::place::{clip, schema};
use crate::{SLOMOD, installed, root, text};

/// Converts a clip as user nobody, without capabilities, new privileges and network.
fn convert(options: &[&str]) -> Option<(Output, serde_json::Value)> {
    if !installed("python3") {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        skip("only root can give rights away");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let clip = clip(folder.path(), "96x64", 8, 0);
    // The build folder may not be open to user nobody.
    let program = folder.path().join("slomod");
    fs::copy(SLOMOD, &program).unwrap();
    let device = std::env::var("SLOMOD_TEST_DEVICE").unwrap_or_else(|_| "auto".into());
    let output = Command::new("python3")
        .arg(root().join("benches/confined.py"))
        .args(options)
        .arg(&program)
        .arg("convert")
        .arg(&clip)
        .args(["--factor", "2", "--device", &device, "--output"])
        .arg(folder.path().join("out.mp4"))
        .env("HOME", folder.path())
        .env("CUDA_CACHE_PATH", folder.path().join("cuda"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report = schema::read(&folder.path().join("out.mp4.json"));
    Some((output, schema::valid(&report)))
}

/// S07.
#[test]
fn s07_a_clip_is_converted_without_privileges_and_network() {
    let Some((_, report)) = convert(&[]) else { return };
    assert_eq!(report["output"]["frames"]["total"], 16);
}

/// S07. `MemoryDenyWriteExecute=yes` is not in the unit; this says whether it could be.
#[test]
fn s07_a_clip_is_converted_without_code_that_is_written_at_run_time() {
    let Some((_, report)) = convert(&["--no-jit"]) else { return };
    assert_eq!(report["output"]["frames"]["total"], 16);
    println!("without code that is written at run time: {}", report["device"]["kind"]);
}
