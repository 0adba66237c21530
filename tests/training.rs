//! The recipe of the starter weights: its own test, in a Python with PyTorch, ends with pictures by this program.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/torch.rs"]
mod torch;

use std::process::Command;

#[test]
fn the_recipe_passes_its_self_test() {
    let Some(python) = torch::python() else { return };
    let run = Command::new(&python)
        .args(["training/selftest.py", "--slomod", env!("CARGO_BIN_EXE_slomod")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{}:\n{said}", python.display());
    for why in said.lines().filter_map(|line| line.strip_prefix("skipped: ")) {
        torch::skip(why);
    }
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for picture in
        ["ok: slomod makes the same picture (", "the same picture with the starter's flows ("]
    {
        assert!(said.contains(picture), "not compared: {said}");
    }
}
