//! The whole daemon under faults: killed between any two steps, with full, failing and read-only file systems, files
//! that change under it, workers that crash and hang, clocks that jump. `make soak` mixes them for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod changes;
mod clocks;
mod elsewhere;
mod kills;
mod ledger;
mod mounts;
#[allow(dead_code, reason = "other tests use what these do not")]
#[path = "../daemon/place.rs"]
mod place;
mod rights;
mod shim;
mod soak;
mod storage;
mod workers;

use place::Place;
use shim::Faults;

/// A place whose daemon runs with the preloaded library.
fn faulty(daemon: &str, watch: &str) -> (Place, Faults) {
    let place = Place::with(daemon, watch);
    let faults = Faults::at(&place.path("faults"));
    (place, faults)
}

/// Starts the daemon so that its system calls can be made to fail.
fn start(place: &mut Place, faults: &Faults) {
    place.start_with(|command| faults.enter(command));
}

/// Waits until the running daemon has tidied up: nothing temporary lies where outputs are written.
fn wait_tidy(place: &Place) {
    place.wait("tidy output folder", || {
        !place.listing().iter().any(|name| ledger::is_leftover(name))
    });
}

/// What `slomod status` says of the daemon.
fn status_line(place: &Place) -> String {
    let output = place.command("status").output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

/// Makes the outputs of `place` lossless, and so far larger than their sources.
fn lossless(place: &Place) {
    let path = place.path("slomod.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace("preset = \"ultrafast\"", "codec = \"ffv1\"");
    assert_ne!(text, changed);
    std::fs::write(path, changed).unwrap();
}
