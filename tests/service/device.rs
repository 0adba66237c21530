//! A GPU that comes late, and one whose memory fills. The daemon runs in this process, with a script in place of its workers
//! that finds a device or not; what is said of it is asked over the control socket.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, getpid, kill_process};
use slomod::config::file::load;
use slomod::daemon::events::Kind;
use slomod::daemon::late::LateDriver;
use slomod::daemon::protocol::{DEVICE_BUSY, EngineNow, Failure, Message};
use slomod::daemon::worker::WorkerCommand;
use slomod::daemon::{DaemonError, run};
use slomod::engine::open::{GOES_ON_ON_THE_CPU, ON_THE_CPU};
use slomod::engine::{DeviceMemory, EngineDescription};
use slomod::error::{Classify as _, Consequence, ExitCode};
use slomod::media::complete::Extent;

use crate::place::{Place, small};
use crate::{fails, ok, status};

/// The tests have their daemon in this process, and SIGTERM is for all of it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// What the daemon logged since [`alone`]: kind of event and sentence.
static LOGGED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(kind) = record.key_values().get("MESSAGE_ID".into()) {
            let mut lines = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push((kind.to_string(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

pub fn alone() -> MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // It is there already where another test came first.
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Info);
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).clear();
    guard
}

/// Sentences of the events of `kind` in the log.
fn logged(kind: Kind) -> Vec<String> {
    let lines = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.0 == kind.id()).map(|line| line.1.clone()).collect()
}

fn described(kind: &str, name: &str, fallback_reason: Option<&str>) -> EngineDescription {
    EngineDescription {
        device_kind: kind.into(),
        device_name: name.into(),
        precision: "f16".into(),
        instructions: "sm_90".into(),
        threads: 0,
        fallback_reason: fallback_reason.map(str::to_owned),
        device_busy: false,
        model_name: "rife v4.26".into(),
        model_sha256: None,
        scale: 1.0,
        model_notes: Vec::new(),
        steps: Vec::new(),
        gpu: None,
        psnr_from_cpu_db: None,
    }
}

/// A GPU where there is one, looked for often.
fn take_any_device(place: &Place) {
    let path = place.path("slomod.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("\"cpu\"", "\"auto\"").replace("\"500ms\"", "\"50ms\"");
    fs::write(&path, text).unwrap();
}

pub fn line(message: &Message) -> String {
    serde_json::to_string(message).unwrap()
}

fn refused() -> String {
    line(&Message::Failed(Box::new(Failure {
        consequence: Consequence::Reject,
        exit_code: ExitCode::DataError,
        code: "none".into(),
        message: "no clip".into(),
        report: None,
    })))
}

/// A worker's line that waits for a file.
fn until(place: &Place, name: &str) -> String {
    format!("while ! [ -e '{}' ]; do sleep 0.05; done", place.path(name).display())
}

pub fn opened(kind: &str, name: &str, fallback_reason: Option<&str>) -> String {
    line(&Message::Opened(Box::new(described(kind, name, fallback_reason))))
}

/// A worker in shell: `open` opens a device, every clip looks whole, and `work` works it.
pub fn script(open: &str, work: &str) -> String {
    let probed = line(&Message::Probed(Extent::Said));
    format!(
        "read -r request\n\
         case $request in\n\
         '{{\"open\"'*) {open} ;;\n\
         '{{\"probe\"'*) echo '{probed}' ;;\n\
         *) {work} ;;\n\
         esac"
    )
}

/// A daemon with this configuration and `script` in place of its workers.
pub fn start(place: &Place, script: String) -> JoinHandle<Result<(), DaemonError>> {
    let command =
        WorkerCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    let path = place.path("slomod.toml");
    let config = load(&path).unwrap();
    let late = LateDriver::watched_in(&place.path("devices"));
    let daemon = std::thread::spawn(move || run::run(&path, config, command, late));
    place.wait("socket", || place.path("state/control.sock").exists());
    daemon
}

pub fn end(daemon: JoinHandle<Result<(), DaemonError>>) {
    let this: Pid = getpid();
    kill_process(this, Signal::TERM).unwrap();
    daemon.join().unwrap().unwrap();
}

/// The worker says what its device has, says it again as it takes more, and the clip ends. On a processor there is nothing
/// of it.
#[test]
fn the_memory_of_a_device_is_told_as_it_is_while_a_clip_is_worked() {
    let _alone = alone();
    let place = Place::new();
    let memory = |used_bytes| DeviceMemory {
        used_bytes,
        free_bytes: 70_000 - used_bytes,
        total_bytes: 80_000,
    };
    let engine = |kind, memory| {
        let description = described(kind, "NVIDIA H100", None);
        line(&Message::Engine(Box::new(EngineNow { description, memory })))
    };
    let (failed, wait) = (refused(), |name: &str| until(&place, name));
    let work = format!(
        "case $request in\n\
         *processor*) echo '{}'; {}; echo '{failed}' ;;\n\
         *) echo '{}'; {}; echo '{}'; {}; echo '{failed}' ;;\n\
         esac",
        engine("cpu", None),
        wait("three"),
        engine("cuda", Some(memory(1000))),
        wait("one"),
        line(&Message::Memory(memory(3000))),
        wait("two"),
    );
    let open = format!("echo '{}'", opened("cuda", "NVIDIA H100", None));
    let daemon = start(&place, script(&open, &work));
    let figure = |part: &str| {
        let text = ok(&place, "metrics", &[]);
        let name = format!("slomod_device_memory_bytes{{part=\"{part}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned)
    };
    assert_eq!(figure("used"), None, "nothing is worked");
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("first figure", || figure("used").as_deref() == Some("1000"));
    assert_eq!(figure("total").as_deref(), Some("80000"));
    fs::write(place.path("one"), "").unwrap();
    place.wait("second figure", || figure("used").as_deref() == Some("3000"));
    assert_eq!(figure("free").as_deref(), Some("67000"));
    assert_eq!(status(&place)["live"]["device_memory"]["used_bytes"], 3000);
    fs::write(place.path("two"), "").unwrap();
    place.wait_ended(1);
    place.wait("end of the figures", || figure("used").is_none());
    place.drop_clip(&small(&place, 90), "processor.mp4");
    let device = || status(&place)["live"]["device"]["device_kind"].clone();
    place.wait("clip on the processor", || device() == "cpu");
    assert_eq!(figure("total"), None);
    fs::write(place.path("three"), "").unwrap();
    place.wait_ended(2);
    end(daemon);
}

/// S08. As at a boot at which the module nvidia-uvm is loaded late.
#[test]
fn a_gpu_that_is_missing_at_the_start_is_said_and_used_once_it_is_there() {
    let _alone = alone();
    let place = Place::new();
    take_any_device(&place);
    let script = format!(
        "read -r request; if [ -e '{}' ]; then echo '{}'; else echo '{}'; fi",
        place.path("gpu").display(),
        opened("cuda", "NVIDIA H100", None),
        opened("cpu", "a processor", Some(&format!("no device nvidia-uvm{ON_THE_CPU}"))),
    );
    let daemon = start(&place, script);
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
    assert_eq!(logged(Kind::DeviceFallback), ["the network runs on the CPU: no device nvidia-uvm"]);
    assert_eq!(logged(Kind::DeviceBack), ["the network runs on cuda NVIDIA H100 again"]);
    end(daemon);
}

/// S08. A configuration that asks for a GPU from now on, and a device that fails while a clip is worked, which goes on.
#[test]
fn a_gpu_that_is_lost_in_a_clip_or_missed_after_a_reload_is_said_at_once() {
    let _alone = alone();
    let place = Place::new();
    let lost = format!("gpu 0 was lost{GOES_ON_ON_THE_CPU}");
    let engine = |kind, name, reason| {
        let description = described(kind, name, reason);
        line(&Message::Engine(Box::new(EngineNow { description, memory: None })))
    };
    let open = format!(
        "case $request in\n\
         *'\"device\":\"cpu\"'*) echo '{}' ;;\n\
         *) if [ -e '{}' ]; then echo '{}'; else echo '{}'; fi ;;\n\
         esac",
        opened("cpu", "a processor", None),
        place.path("gpu").display(),
        opened("cuda", "NVIDIA H100", None),
        opened("cpu", "a processor", Some(&format!("no driver{ON_THE_CPU}"))),
    );
    let work = format!(
        "echo '{}'; {}; echo '{}'; {}; echo '{}'",
        engine("cuda", "NVIDIA H100", None),
        until(&place, "one"),
        engine("cpu", "a processor", Some(&lost)),
        until(&place, "two"),
        refused(),
    );
    let daemon = start(&place, script(&open, &work));
    let status_line = || status(&place)["daemon"]["status"].as_str().unwrap().to_owned();
    place.wait("status", || status_line().ends_with("| cpu"));
    assert!(logged(Kind::DeviceFallback).is_empty(), "nothing else was asked for");
    take_any_device(&place);
    ok(&place, "reload", &[]);
    assert_eq!(logged(Kind::DeviceFallback), ["the network runs on the CPU: no driver"]);
    place.wait("degraded status", || status_line().starts_with("DEGRADED: running on the CPU: no"));
    fs::write(place.path("gpu"), "").unwrap();
    place.wait("the GPU", || logged(Kind::DeviceBack).len() == 1);

    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("clip on the GPU", || status_line().contains("run 1"));
    assert!(!status_line().contains("DEGRADED"));
    fs::write(place.path("one"), "").unwrap();
    place.wait("degraded status", || {
        status_line().starts_with("DEGRADED: running on the CPU: gpu 0 was lost | ")
    });
    assert!(status_line().contains("run 1"), "the clip goes on");
    assert!(ok(&place, "metrics", &[]).contains("\nslomod_degraded 1\n"));
    assert_eq!(logged(Kind::DeviceFallback)[1..], ["the network runs on the CPU: gpu 0 was lost"]);
    fs::write(place.path("two"), "").unwrap();
    place.wait("the GPU again", || logged(Kind::DeviceBack).len() == 2);
    end(daemon);
}

/// S03. The clip has the device, which lets one program in at a time.
#[test]
fn a_device_that_the_running_clip_has_refuses_no_reload_and_is_not_missed() {
    let _alone = alone();
    let place = Place::new();
    take_any_device(&place);
    let why = "NVIDIA H100: another program has the device";
    let taken = described("cpu", "a processor", Some(&format!("{why}{ON_THE_CPU}")));
    let taken = line(&Message::Opened(Box::new(EngineDescription { device_busy: true, ..taken })));
    let failed = line(&Message::Failed(Box::new(Failure {
        consequence: Consequence::Retry,
        exit_code: ExitCode::TempFail,
        code: DEVICE_BUSY.into(),
        message: why.into(),
        report: None,
    })));
    let open = format!(
        "case $request in\n\
         *'\"refine\":false'*) echo '{taken}' ;;\n\
         *'\"device\":{{\"cuda\"'*|*'\"device\":\"cuda'*) echo '{failed}' ;;\n\
         *) echo '{}' ;;\n\
         esac",
        opened("cuda", "NVIDIA H100", None),
    );
    let description = described("cuda", "NVIDIA H100", None);
    let engine = line(&Message::Engine(Box::new(EngineNow { description, memory: None })));
    let work = format!("echo '{engine}'; {}; echo '{}'", until(&place, "one"), refused());
    let daemon = start(&place, script(&open, &work));
    let path = place.path("slomod.toml");
    let as_it_was = fs::read_to_string(&path).unwrap();
    let on_a_gpu = as_it_was.replace("\"auto\"", "\"cuda\"");
    let unrefined = as_it_was.replace("[[watch]]", "[[watch]]\nrefine = false");
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("clip", || status(&place)["live"]["device"]["device_kind"] == "cuda");
    place.wait("clip at work", || place.states() == ["running"]);
    for text in [&on_a_gpu, &unrefined] {
        fs::write(&path, text).unwrap();
        let said = ok(&place, "reload", &[]);
        assert!(said.contains("was reloaded: 1 folder changed; "), "{said}");
        assert!(said.contains("not tried on its device") && said.contains(why), "{said}");
        assert_eq!(status(&place)["live"]["degraded"], serde_json::json!([]));
    }
    assert!(logged(Kind::DeviceFallback).is_empty(), "the clip runs on it");
    // Without a clip it is another program that has the device.
    fs::write(place.path("one"), "").unwrap();
    place.wait_ended(1);
    fs::write(&path, &on_a_gpu).unwrap();
    assert!(fails(&place, "reload", &[], 78).contains(why));
    end(daemon);
}

/// S08. Under the unit, whose devices were looked up when it started: it cannot use the module that came since, and ends so
/// that it is started anew.
#[test]
fn a_module_that_was_loaded_after_the_start_and_cannot_be_used_has_the_service_started_anew() {
    let _alone = alone();
    let place = Place::new();
    take_any_device(&place);
    let looks = place.path("looks");
    let answer = opened("cpu", "a processor", Some("no access"));
    let daemon =
        start(&place, format!("read -r request; echo >>'{}'; echo '{answer}'", looks.display()));
    // It was looked for again, in vain, and the daemon stays.
    let count = || fs::read(&looks).map_or(0, |it| it.len());
    place.wait("looks for a GPU", || count() >= 3);
    assert!(status(&place)["daemon"]["status"].as_str().unwrap().starts_with("DEGRADED: "));
    fs::write(place.path("devices"), "Character devices:\n507 nvidia-uvm\n").unwrap();
    let error = daemon.join().unwrap().unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TempFail, "{error}");
    assert!(error.to_string().contains("nvidia-uvm was loaded after"), "{error}");
    assert!(!place.path("state/control.sock").exists(), "it ended in order");
}
