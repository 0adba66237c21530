//! Numbers, paths and names of a report.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;
use slomod::report::json::ReportError;
use slomod::report::machine::host;
use slomod::report::{Report, path_fields, report_id};

use crate::schema::faults;
use crate::{done, value};

#[test]
fn optional_numbers_that_are_not_finite_become_null() {
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut report = done();
        report.timing.network_fps = Some(wrong);
        let text = report.to_json().unwrap();
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert_eq!(value(&report)["timing"]["network_fps"], Value::Null);
        assert_eq!(faults(&value(&report)), Vec::<String>::new());
    }
}

#[test]
fn required_numbers_that_are_not_finite_are_refused() {
    type Break = fn(&mut Report);
    let breaks: [Break; 7] = [
        |r| r.timing.wall_s = f64::NAN,
        |r| r.model.as_mut().unwrap().scale = f32::INFINITY,
        |r| r.output.as_mut().unwrap().duration_s = f64::INFINITY,
        |r| r.interpolation.as_mut().unwrap().speed = f64::NAN,
        |r| r.interpolation.as_mut().unwrap().cut_threshold = f64::NAN,
        |r| r.interpolation.as_mut().unwrap().cuts[0].pts_s = f64::NAN,
        |r| r.interpolation.as_mut().unwrap().cuts[0].score = f64::NAN,
    ];
    for (number, damage) in breaks.iter().enumerate() {
        let mut report = done();
        damage(&mut report);
        let result = report.to_json();
        assert!(matches!(result, Err(ReportError::NotFinite(_))), "{number}: {result:?}");
    }
}

#[test]
fn paths_that_are_not_utf8_keep_their_bytes() {
    assert_eq!(path_fields(Path::new("/a/ü.mp4")), ("/a/ü.mp4".into(), None));
    let odd = Path::new(OsStr::from_bytes(b"/a/\xff.mp4"));
    assert_eq!(path_fields(odd), ("/a/\u{fffd}.mp4".into(), Some("L2Ev/y5tcDQ=".into())));
}

#[test]
fn identifiers_are_unique_and_the_host_is_named() {
    let mut ids: Vec<String> = (0..1000).map(|_| report_id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    let host = host();
    assert!(!host.name.is_empty() && !host.kernel.is_empty());
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    assert!(release.contains(&format!("PRETTY_NAME=\"{}\"\n", host.os.unwrap())));
}
