//! What a daemon that died left in folders that are not configured any more.

use crate::place::{Place, small};
use crate::shim::{Action, DAEMON, Faults, RENAME, Rule};
use crate::{faulty, start, status_line, wait_tidy};
use std::fs;

/// A place whose daemon died before the output of its one clip got its name, and whose only folder is `elsewhere` since.
fn unconfigured() -> (Place, Faults) {
    let (mut place, faults) = faulty("", "");
    faults.set(0, &Rule::new(RENAME, "/out/a_slow2x.mp4", Action::Kill).by(DAEMON));
    place.drop_clip(&small(&place, 0), "a.mp4");
    start(&mut place, &faults);
    place.wait("death", || faults.fired(0) > 0);
    place.wait_end();
    faults.clear();
    assert_eq!(place.states(), ["publishing"], "{}", place.log());
    fs::create_dir(place.path("elsewhere")).unwrap();
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), text.replace("/in\"", "/elsewhere\"")).unwrap();
    start(&mut place, &faults);
    place.wait_ready();
    (place, faults)
}

/// W32, W48. Such a publication is said, and can be cancelled: then nothing of it is left, and its clip stays.
#[test]
fn w32_a_publication_of_a_folder_that_is_not_configured_is_said_and_can_be_cancelled() {
    let (mut place, _faults) = unconfigured();
    place.wait("word of it", || status_line(&place).contains("is not configured any more"));
    assert!(status_line(&place).contains("DEGRADED"), "{}", status_line(&place));
    let cancel = place.command("cancel").arg("1").output().unwrap();
    let said = String::from_utf8_lossy(&cancel.stdout).into_owned();
    assert!(cancel.status.success(), "{said}{}", String::from_utf8_lossy(&cancel.stderr));
    assert_eq!(place.states(), ["cancelled"], "{}", place.log());
    wait_tidy(&place);
    assert!(place.listing().is_empty(), "{:?}", place.listing());
    assert!(place.path("in/a.mp4").exists());
    place.wait("all is well", || !status_line(&place).contains("DEGRADED"));
    // Asked for again, it is worked anew once its folder is configured.
    let retry = place.command("retry").arg("1").output().unwrap();
    assert!(retry.status.success(), "{}", String::from_utf8_lossy(&retry.stderr));
    assert_eq!(place.terminate().code(), Some(0));
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), text.replace("/elsewhere\"", "/in\"")).unwrap();
    place.start();
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"], "{}", place.log());
}

/// W32. Once its folder is configured again, it is completed.
#[test]
fn w32_a_publication_is_completed_once_its_folder_is_configured_again() {
    let (mut place, _faults) = unconfigured();
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), text.replace("/elsewhere\"", "/in\"")).unwrap();
    let reload = place.command("reload").output().unwrap();
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    place.wait_ended(1);
    assert_eq!(place.states(), ["done"], "{}", place.log());
    place.wait("all is well", || !status_line(&place).contains("DEGRADED"));
    assert_eq!(place.jobs()[0].attempt, 1);
    assert_eq!(place.terminate().code(), Some(0));
}
