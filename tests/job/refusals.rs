//! Reports of clips that get no output.

use crate::{Place, failing, worker};
use slomod::daemon::job::Aftermath;
use slomod::error::{Consequence, ExitCode};
use std::fs;

/// W16. The share goes while its clip is looked into, and its bare mount point is left: no report lands there.
#[test]
fn the_report_of_a_refusal_waits_for_its_output_folder_as_outputs_do() {
    let mut place = Place::new("");
    let (out, away) = (place.watch.output.clone(), place.folder.path().join("away"));
    place.shop.locks.look(&out, &place.shop.journal).unwrap();
    let refusal = failing(Consequence::Reject, ExitCode::DataError, "not_video");
    let unmount = format!("mv '{0}' '{1}'; mkdir '{0}'\n", out.display(), away.display());
    place.shop_mut().command = worker(&(unmount + &refusal));
    let aftermath = place.attempt();
    assert!(
        matches!(&aftermath, Aftermath::Pause(why) if why.contains("is not there")),
        "{aftermath:?}"
    );
    assert_eq!((place.job().state.as_str(), place.listing().len()), ("queued", 0));
    fs::remove_dir(&out).unwrap();
    fs::rename(&away, &out).unwrap();
    place.shop_mut().command = worker(&refusal);
    place.attempt();
    assert_eq!(place.job().state, "refused");
    assert_eq!(place.listing(), [".slomod.lock", "a.mp4.refused.json"]);
}
