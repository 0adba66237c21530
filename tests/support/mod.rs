//! A report with nothing in it but what it must have, for tests of what is done with reports.

use slomod::config::settings::Settings;
use slomod::report::machine::Host;
use slomod::report::timing::Timing;
use slomod::report::{DISCLAIMER, Report, SCHEMA, Source, Status, Tool};

/// The report of `/in/a.mp4`.
pub fn report(status: Status) -> Report {
    Report {
        schema: SCHEMA.into(),
        report_id: "id-1".into(),
        created: "2026-01-01T00:00:00Z".into(),
        status,
        tool: Tool {
            name: "slomod".into(),
            version: "0".into(),
            libavcodec: "0".into(),
            ffmpeg: "0".into(),
            build: None,
        },
        host: Host { name: "h".into(), kernel: "k".into(), os: None },
        source: Source {
            path: "/in/a.mp4".into(),
            size_bytes: 1,
            sha256: Some("0".repeat(64)),
            ..Source::default()
        },
        settings: Settings::default(),
        settings_sha256: None,
        device: None,
        model: None,
        output: None,
        interpolation: None,
        quality: None,
        timing: Timing::none(),
        attempts: Vec::new(),
        warnings: Vec::new(),
        errors: Vec::new(),
        disclaimer: DISCLAIMER.into(),
    }
}
