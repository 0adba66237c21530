//! Which folder a job's output goes to, where the journal knows other outputs round it or in it.

use crate::{CONTENT, Place, good_worker};
use std::fs;

/// As the journal knows a folder that lay on a share.
const ELSEWHERE: &str = "6969:1:2";

/// W16. What was once the output, before its share was mounted, holds nothing up that goes to another folder, round it or
/// in it; the configured one still does.
#[test]
fn an_output_of_an_earlier_configuration_holds_up_no_job() {
    let place = Place::new(&good_worker(CONTENT));
    let (out, sub) = (&place.watch.output, place.watch.path.join("sub"));
    for earlier in [place.folder.path().to_owned(), out.join("sub")] {
        place.shop.journal().remember_output(&earlier, ELSEWHERE).unwrap();
    }
    place.shop.locks.look(out, &place.shop.journal).unwrap();
    place.attempt();
    assert_eq!(place.job().state, "done", "{:?}", place.job());
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("b.mp4"), CONTENT).unwrap();
    place.submit("sub/b.mp4");
    let aftermath = place.attempt();
    let last = || place.shop.journal().jobs(10).unwrap().pop().unwrap();
    assert_eq!(last().state, "duplicate", "{aftermath:?}");
    place.shop.journal().remember_output(out, ELSEWHERE).unwrap();
    fs::write(place.watch.path.join("c.mp4"), CONTENT).unwrap();
    place.submit("c.mp4");
    place.attempt();
    let job = last();
    assert!(job.state == "queued" && job.error_code.as_deref() == Some("io"), "{job:?}");
}
