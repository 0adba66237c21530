//! Tests that a machine does not allow.

use std::fs;
use std::io::Write as _;

/// Says that a test is skipped, and why; `make test` lists them at its end (`SLOMOD_SKIPPED` names a file).
pub fn skip(why: &str) {
    println!("skipped: {why}");
    let Some(list) = std::env::var_os("SLOMOD_SKIPPED") else { return };
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let mut list = fs::File::options().create(true).append(true).open(list).unwrap();
    list.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
}
