//! Workers that stand still: whose doing that is.

use std::time::Duration;

use slomod::config::settings::Device;
use slomod::daemon::job::{Aftermath, Rules};
use slomod::daemon::worker::Limits;
use slomod::error::{Consequence, ExitCode};

use crate::{CONTENT, Place, RULES, failing, good_worker, worker, write_result};

#[test]
fn a_worker_that_hangs_is_ended_and_its_job_tried_again() {
    let mut place = Place::new(&(write_result() + "kill -STOP $$"));
    place.watch.settings.device = Device::Cpu;
    let limits = Limits { stall: Duration::from_millis(500), ..RULES.limits };
    place.shop.set_rules(Rules { limits, ..RULES });
    place.attempt();
    let job = place.job();
    assert_eq!((job.state.as_str(), job.error_code.as_deref()), ("queued", Some("worker_hung")));
    assert!(place.listing().is_empty());
    place.shop_mut().command = worker(&good_worker(CONTENT));
    place.attempt();
    assert_eq!((place.job().state.as_str(), place.job().attempt), ("done", 2));
}

/// W36. A GPU that hangs would have every clip of a queue refused, one after the other.
#[test]
fn a_device_that_hangs_is_waited_for_and_no_clip_is_blamed() {
    let mut place = Place::new("read -r line; kill -STOP $$");
    let limits = Limits { stall: Duration::from_millis(300), ..RULES.limits };
    place.shop.set_rules(Rules { limits, ..RULES });
    for _ in 0..3 {
        assert!(matches!(place.attempt(), Aftermath::Pause(_)));
        let job = place.job();
        let found = (job.state.as_str(), job.error_code.as_deref());
        assert_eq!(found, ("queued", Some("device_hung")));
    }
    let message = place.job().error_message.unwrap();
    assert!(message.contains("its device does not open: no answer for 0.3 s"), "{message}");
    // Where it opens, or its weights are at fault, the clip alone is left.
    let engine = failing(Consequence::Stop, ExitCode::Config, "engine");
    let script = format!("read -r line; case $line in *temporary*) kill -STOP $$;; esac\n{engine}");
    place.shop_mut().command = worker(&script);
    for state in ["queued", "refused"] {
        place.attempt();
        let job = place.job();
        assert_eq!((job.state.as_str(), job.error_code.as_deref()), (state, Some("worker_hung")));
    }
}
