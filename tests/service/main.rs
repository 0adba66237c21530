//! The running service: its control socket, reload, notifications, device, metrics and hooks, with the real program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod control;
mod device;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../faults/elsewhere.rs"]
mod elsewhere;
mod feeds;
mod journald;
mod notify;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../daemon/place.rs"]
mod place;
mod reload;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../faults/shim.rs"]
mod shim;

use std::process::Output;

use place::Place;

/// Runs a command on the place's daemon.
fn slomod(place: &Place, subcommand: &str, arguments: &[&str]) -> Output {
    place.command(subcommand).args(arguments).output().unwrap()
}

/// The same; it must succeed. What it printed.
fn ok(place: &Place, subcommand: &str, arguments: &[&str]) -> String {
    let output = slomod(place, subcommand, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{subcommand} {arguments:?}: {said}\n{}", place.log());
    String::from_utf8(output.stdout).unwrap()
}

/// The same; it must fail with `code`. What it said.
fn fails(place: &Place, subcommand: &str, arguments: &[&str], code: i32) -> String {
    let output = slomod(place, subcommand, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{subcommand} {arguments:?}: {said}");
    said
}

/// `slomod status --json`.
fn status(place: &Place) -> serde_json::Value {
    serde_json::from_str(&ok(place, "status", &["--json"])).unwrap()
}
