//! A GPU that comes late. The daemon runs in this process, with a script in place of its workers that finds a device or
//! not; what is said of it is asked over the control socket.

use std::fs;

use rustix::process::{Pid, Signal, getpid, kill_process};
use slomod::config::file::load;
use slomod::daemon::protocol::Message;
use slomod::daemon::run;
use slomod::daemon::worker::WorkerCommand;
use slomod::engine::EngineDescription;

use crate::place::Place;
use crate::{ok, status};

fn opened(kind: &str, name: &str, fallback_reason: Option<&str>) -> String {
    let description = EngineDescription {
        device_kind: kind.into(),
        device_name: name.into(),
        precision: "f16".into(),
        instructions: "sm_90".into(),
        threads: 0,
        fallback_reason: fallback_reason.map(str::to_owned),
        model_name: "rife v4.26".into(),
        model_sha256: None,
        scale: 1.0,
        steps: Vec::new(),
    };
    serde_json::to_string(&Message::Opened(description)).unwrap()
}

/// S08. As at a boot at which the module nvidia-uvm is loaded late.
#[test]
fn a_gpu_that_is_missing_at_the_start_is_said_and_used_once_it_is_there() {
    let place = Place::new();
    let path = place.path("slomod.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("\"cpu\"", "\"auto\"").replace("\"500ms\"", "\"50ms\"");
    fs::write(&path, text).unwrap();
    let script = format!(
        "read -r request; if [ -e '{}' ]; then echo '{}'; else echo '{}'; fi",
        place.path("gpu").display(),
        opened("cuda", "NVIDIA H100", None),
        opened("cpu", "a processor", Some("no device nvidia-uvm")),
    );
    let command =
        WorkerCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    let config = load(&path).unwrap();
    let daemon = std::thread::spawn(move || run::run(&path, config, command));
    place.wait("socket", || place.path("state/control.sock").exists());
    let line = || status(&place)["daemon"]["status"].as_str().unwrap().to_owned();
    place.wait("degraded status", || {
        line().starts_with("DEGRADED: running on the CPU: no device nvidia-uvm | ")
    });
    assert!(ok(&place, "metrics", &[]).contains("\nslomod_degraded 1\n"));
    fs::write(place.path("gpu"), "").unwrap();
    place.wait("recovery", || {
        line().starts_with("1 watch ") && line().ends_with("| cuda NVIDIA H100")
    });
    assert!(ok(&place, "metrics", &[]).contains("\nslomod_degraded 0\n"));
    let this: Pid = getpid();
    kill_process(this, Signal::TERM).unwrap();
    daemon.join().unwrap().unwrap();
}
