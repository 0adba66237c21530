//! Worker processes that are killed at any moment.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use slomod::config::settings::{Codec, Container, Device};
use slomod::daemon::protocol::{Message, Request, WireTask};
use slomod::pipeline::Task;
use slomod::report::Report;

use crate::place::*;

/// V27.
/// W33, below the daemon.
#[test]
fn a_worker_killed_at_any_moment_loses_one_segment_at_the_most() {
    let place = Place::new();
    let size = "testsrc2=s=320x180:r=25:d=4";
    let source =
        place.clip("in.mkv", &[&["-f", "lavfi", "-i", size], SOUND, &["-c:v", "ffv1"]].concat());
    let mut task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    task.settings.model = Some("blend".into());
    task.settings.device = Device::Cpu;
    let whole = undisturbed(&task);
    let (_, whole_report) = work(&whole, None);
    let mut random = std::process::id();
    println!("seed {random}");
    let mut kills = 0;
    let report = loop {
        let before = finished(&task);
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let after = Duration::from_millis(u64::from(random >> 16) % 1000 + 200 * kills);
        let (_, report) = work(&task, Some(after));
        assert!(finished(&task) >= before, "what is finished stays");
        match report {
            Some(report) => break report,
            None => kills += 1,
        }
    };
    println!("{kills} kills, taken up at {:?}", report.timing.resumed);
    assert_same(&task, &report, &whole, &whole_report.unwrap());
    if let Some(last) = report.timing.resumed.last() {
        assert!(last.segments > 0 && last.output_frame == 3 * last.source_frame);
    }
}

/// A worker process with `task`, killed `after` that time; its report, if it came to one.
fn work(task: &Task, after: Option<Duration>) -> (bool, Option<Report>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .arg("work")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = Request::Convert(Box::new(WireTask::new(task, 0)));
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    if let Some(after) = after {
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = text.lines().find_map(|line| match serde_json::from_str(line) {
        Ok(Message::Report(report)) => {
            schema::valid(&report);
            Some(*report)
        }
        Ok(Message::Failed(failure)) => panic!("{}", failure.message),
        _ => None,
    });
    (output.status.success(), report)
}
