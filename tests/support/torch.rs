//! A Python with PyTorch, for the tests that compare with it.

#[path = "skip.rs"]
mod skip;

use std::ffi::OsString;
use std::process::{Command, Stdio};

pub use skip::skip;

/// The first Python that has PyTorch, NumPy and Pillow: one that is named, the recipe's own, the user's, the system's.
/// Where `SLOMOD_REQUIRE_TORCH` is set, as by `make test`, there must be one; elsewhere says that the test is skipped.
pub fn python() -> Option<OsString> {
    let named = std::env::var_os("SLOMOD_TORCH_PYTHON");
    let usual = ["training/.venv/bin/python", "python3", "/usr/bin/python3"].map(OsString::from);
    let found = named.into_iter().chain(usual).find(|python| {
        let imports = ["-c", "import torch, numpy, PIL"];
        let output = Stdio::null;
        let status = Command::new(python).args(imports).stdout(output()).stderr(output()).status();
        status.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        let required = std::env::var_os("SLOMOD_REQUIRE_TORCH").is_some();
        assert!(!required, "no Python with PyTorch here");
        skip("no Python with PyTorch, NumPy and Pillow (Debian: python3-torch python3-pil)");
    }
    found
}
