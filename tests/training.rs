//! The recipe of the starter weights: its own test, in a Python with PyTorch, ends with pictures by this program.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::ffi::OsString;
use std::process::{Command, Stdio};

/// The first Python that has what the recipe needs: one that is named, the recipe's own, the user's, the system's.
fn python() -> Option<OsString> {
    let named = std::env::var_os("SLOMOD_TORCH_PYTHON");
    let usual = ["training/.venv/bin/python", "python3", "/usr/bin/python3"].map(OsString::from);
    named.into_iter().chain(usual).find(|python| {
        let imports = ["-c", "import torch, numpy, PIL"];
        let output = Stdio::null;
        let status = Command::new(python).args(imports).stdout(output()).stderr(output()).status();
        status.is_ok_and(|status| status.success())
    })
}

/// Where `SLOMOD_REQUIRE_TORCH` is set, as in CI, a missing PyTorch fails.
#[test]
fn the_recipe_passes_its_self_test() {
    let Some(python) = python() else {
        assert!(std::env::var_os("SLOMOD_REQUIRE_TORCH").is_none(), "no Python with PyTorch here");
        println!(
            "skipped: no Python with PyTorch, NumPy and Pillow (Debian: python3-torch python3-pil)"
        );
        return;
    };
    let run = Command::new(&python)
        .args(["training/selftest.py", "--slomod", env!("CARGO_BIN_EXE_slomod")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{}:\n{said}", python.display());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("ok: slomod makes the same picture"), "not compared: {said}");
}
