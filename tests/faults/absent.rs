//! Weights on a share that is not there yet when the daemon starts, as after a failure of the current: the machine is up
//! before its NAS.

use crate::answers::{check_share, drop_into_share, ok, wait_done, with_share};
use crate::ledger::Ledger;
use crate::place::{Place, small};
use crate::shim::{Action, EIO, Faults, OPEN_READ, Rule};
use crate::{start, status_line};
use std::fs;
use std::path::{Path, PathBuf};

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter.safetensors")
}

/// A place whose folder `share` needs weights that are not there.
fn with_weights() -> (Place, Faults, PathBuf) {
    let (place, faults) = with_share("");
    let (config, weights) = (place.path("slomod.toml"), place.path("nas/weights.safetensors"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}model = \"{}\"\n", weights.display())).unwrap();
    (place, faults, weights)
}

fn check(place: &Place) -> (Option<i32>, String) {
    let check = place.command("check").output().unwrap();
    (check.status.code(), String::from_utf8_lossy(&check.stdout).into_owned())
}

/// W16. The folder that needs the weights waits and says what for, the other is worked; when they are there, so is the
/// first. They are asked for without end, and that is said once.
#[test]
fn w16_weights_that_are_not_there_hold_up_no_other_folder_and_are_waited_for() {
    let (mut place, faults, weights) = with_weights();
    let mut ledger = Ledger::default();
    let (first, second) = (small(&place, 0), small(&place, 60));
    drop_into_share(&place, &first, "first.mp4");
    start(&mut place, &faults);
    place.wait_ready();
    ledger.dropped("second.mp4", &second, 12);
    place.drop_clip(&second, "second.mp4");
    wait_done(&place, "second.mp4");
    let status = status_line(&place);
    assert!(status.contains("DEGRADED") && status.contains("  paused "), "{status}");
    let missing = format!("{}: cannot be read: No such file", weights.display());
    assert!(status.contains(&missing), "{status}");
    let said = || place.log().lines().filter(|it| it.contains(&missing)).count();
    let (code, found) = check(&place);
    assert!(code == Some(78) && found.contains(&missing), "{code:?} {found}");
    // It was asked for at every poll interval meanwhile.
    assert_eq!(said(), 1, "{}", place.log());
    fs::create_dir(weights.parent().unwrap()).unwrap();
    fs::copy(starter(), &weights).unwrap();
    wait_done(&place, "first.mp4");
    place.wait("all is well", || !status_line(&place).contains("DEGRADED"));
    assert_eq!(ok(&place, "check").matches("FAIL").count(), 0);
    assert_eq!(place.terminate().code(), Some(0));
    ledger.check_end(&place);
    check_share(&place, 1);
}

/// W16, W24. The same where all folders need them, and where they are there and the share fails.
#[test]
fn w16_a_daemon_whose_only_weights_cannot_be_read_waits_for_them() {
    let (mut place, faults, weights) = with_weights();
    let config = place.path("slomod.toml");
    let text = fs::read_to_string(&config).unwrap();
    let all = text.replace("model = \"blend\"", &format!("model = \"{}\"", weights.display()));
    fs::write(&config, all).unwrap();
    fs::create_dir(weights.parent().unwrap()).unwrap();
    fs::copy(starter(), &weights).unwrap();
    faults.set(0, &Rule::new(OPEN_READ, "/nas/", Action::Fail(EIO)));
    place.drop_clip(&small(&place, 60), "a.mp4");
    start(&mut place, &faults);
    place.wait_ready();
    let failed = format!("{}: cannot be read: Input/output error", weights.display());
    place.wait("status", || status_line(&place).contains(&failed));
    assert!(status_line(&place).contains("DEGRADED"), "{}", status_line(&place));
    faults.clear();
    wait_done(&place, "a.mp4");
    assert_eq!(place.terminate().code(), Some(0));
}

/// Weights that were read and are none end the start, as ever.
#[test]
fn weights_that_are_none_end_the_start_with_78() {
    let (mut place, faults, weights) = with_weights();
    fs::create_dir(weights.parent().unwrap()).unwrap();
    fs::write(&weights, "no weights").unwrap();
    start(&mut place, &faults);
    assert_eq!(place.wait_end().code(), Some(78), "{}", place.log());
    assert!(place.log().contains(&weights.display().to_string()), "{}", place.log());
}
