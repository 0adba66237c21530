//! A report with nothing in it but what it must have, for tests of what is done with reports.

use slomod::config::settings::Settings;
use slomod::report::provenance::Capture;
use slomod::report::timing::Timing;
use slomod::report::{DISCLAIMER, Host, Report, SCHEMA, Source, SourceFrames, Status, Tool};

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
        host: Host { name: "h".into(), kernel: "k".into() },
        source: Source {
            path: "/in/a.mp4".into(),
            path_b64: None,
            size_bytes: 1,
            modified: None,
            sha256: Some("source".into()),
            sha256_after: None,
            format: None,
            codec: None,
            width_px: None,
            height_px: None,
            pixel_format: None,
            rotation_degrees: None,
            mirrored: None,
        attempts: Vec::new(),
            sample_aspect_ratio: None,
            color: None,
            fps: None,
            fps_claimed: None,
            variable_rate: None,
            duration_s: None,
            frames: SourceFrames::default(),
            capture: Capture::default(),
        },
        settings: Settings::default(),
        settings_sha256: None,
        device: None,
        model: None,
        output: None,
        interpolation: None,
        quality: None,
        timing: Timing::default(),
        warnings: Vec::new(),
        errors: Vec::new(),
        disclaimer: DISCLAIMER.into(),
    }
}
