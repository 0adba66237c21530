//! Reports against their published schema, both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "report/older.rs"]
mod older;
#[path = "support/schema.rs"]
mod schema;
#[path = "report/values.rs"]
mod values;

use num_rational::Ratio;
use serde_json::{Value, json};
use slomod::config::content::{Content, Rectangle};
use slomod::config::settings::{
    Codec, Container, Device as DeviceChoice, EncodeOn, Encoding, Scale,
};
use slomod::config::settings::{Mode, Settings};
use slomod::report::content::{Change, Confidence, Cut, Gap, Masked, Point};
use slomod::report::findings::{Barrier, Bars, Unrecorded};
use slomod::report::machine::host;
use slomod::report::measured::{Encode, HeldOutFrame, Scores};
use slomod::report::provenance::{
    Capture, Condition, RealFrames, Repeatable, Sidecar, SourceStream, Tag,
};
use slomod::report::timing::{Attempt, Resumption, Timing};
use slomod::report::{
    Color, DISCLAIMER, Device, Holdout, Interpolation, Model, Notice, Output, OutputFrames,
    Quality, Report, Run, SCHEMA, Section, Source, SourceFrames, Status, Stream, Tool, now_rfc3339,
    report_id,
};

use schema::{faults, schema};

fn value(report: &Report) -> Value {
    serde_json::from_str(&report.to_json().unwrap()).unwrap()
}

fn notice(code: &str) -> Notice {
    Notice { code: code.into(), message: "A sentence.".into() }
}

fn full_scores() -> Scores {
    Scores {
        psnr_rgb_db: Some(31.2),
        psnr_rgb_median_db: Some(31.0),
        psnr_rgb_p5_db: Some(25.5),
        psnr_rgb_min_db: Some(24.9),
        psnr_rgb_pooled_db: Some(30.1),
        psnr_y_db: Some(32.2),
        psnr_y_median_db: Some(32.0),
        psnr_y_p5_db: Some(26.5),
        psnr_y_min_db: Some(26.0),
        psnr_y_pooled_db: Some(31.1),
        ssim_y: Some(0.93),
        ssim_y_median: Some(0.94),
        ssim_y_p5: Some(0.82),
        ssim_y_min: Some(0.8),
        ssim_rife: Some(0.94),
        ssim_rife_median: Some(0.95),
        ssim_rife_p5: Some(0.83),
        ssim_rife_min: Some(0.81),
        vmaf: Some(88.5),
        exact: 0,
        identical: false,
    }
}

fn full_source() -> Source {
    Source {
        path: "/srv/slomod/drop/a\u{fffd}.mp4".into(),
        path_b64: Some("L3Nydi9zbG9tb2QvZHJvcC9h/y5tcDQ=".into()),
        size_bytes: 1234,
        modified: Some(now_rfc3339()),
        sha256: Some("0".repeat(64)),
        sha256_after: Some("0".repeat(64)),
        format: Some("mov,mp4,m4a,3gp,3g2,mj2".into()),
        codec: Some("h264".into()),
        width_px: Some(641),
        height_px: Some(361),
        pixel_format: Some("yuv420p".into()),
        rotation_degrees: Some(90),
        mirrored: Some(false),
        sample_aspect_ratio: Some("4:3".into()),
        color: Some(Color {
            matrix: "bt709".into(),
            primaries: "bt709".into(),
            transfer: "bt709".into(),
            range: "tv".into(),
        }),
        fps: Some("30000/1001".into()),
        fps_claimed: Some("30".into()),
        fps_base: Some("30".into()),
        variable_rate: Some(false),
        duration_s: Some(3.003),
        frames: SourceFrames {
            promised: Some(90),
            decoded: 90,
            corrupt: 0,
            duplicates: 1,
            gaps: vec![Unrecorded { frame: 70, pts_from_s: 2.3, pts_to_s: 3.3, missing: 29 }],
        },
        streams: vec![full_stream()],
        capture: Capture {
            name_pattern: Some("viofo".into()),
            kind: Some("event".into()),
            view: Some("front".into()),
            sequence: Some("0042".into()),
            started_local: Some("2026-01-31T12:34:56".into()),
            utc: false,
            tags: vec![Tag { name: "creation_time".into(), value: "2026-01-31".into() }],
        },
    }
}

/// Of a picture and of sound at once, so that nothing is null.
fn full_stream() -> SourceStream {
    SourceStream {
        index: 0,
        kind: "video".into(),
        codec: "h264".into(),
        language: Some("kor".into()),
        title: Some("Front".into()),
        disposition: vec!["default".into()],
        duration_s: Some(3.003),
        width_px: Some(641),
        height_px: Some(361),
        sample_rate_hz: Some(48_000),
        channels: Some(2),
    }
}

fn sidecar((kind, end): (&str, &str)) -> Sidecar {
    let streams = if kind == "streams" { vec![2, 3] } else { Vec::new() };
    Sidecar {
        kind: kind.into(),
        path: format!("/srv/slomod/out/a\u{fffd}.mp4.{end}"),
        path_b64: Some(slomod::report::base64::encode(
            format!("/srv/slomod/out/a.mp4.{end}").as_bytes(),
        )),
        size_bytes: 2000,
        sha256: "e".repeat(64),
        samples: 15 * streams.len() as u64,
        boxes: streams.iter().map(|it| format!("free/{it}")).collect(),
        streams,
    }
}

fn full_output() -> Output {
    let stream = |action: &str| Stream {
        index: 0,
        kind: "video".into(),
        codec: "h264".into(),
        action: action.into(),
        reason: Some("no place in mp4".into()),
    };
    Output {
        path: "/srv/slomod/out/a\u{fffd}.mp4".into(),
        path_b64: Some("L3Nydi9zbG9tb2Qvb3V0L2H/Lm1wNA==".into()),
        size_bytes: 4321,
        sha256: "f".repeat(64),
        format: "mp4".into(),
        codec: Some("h264".into()),
        encoder: "libx264".into(),
        encoder_options: "crf=18 preset=medium".into(),
        pixel_format: "yuv420p".into(),
        fps: "30000/1001".into(),
        duration_s: 12.0,
        frames: OutputFrames { total: 357, real: 90, synthesised: 260, held: 3, repaired: 4 },
        streams: "interpolated copied retimed stretched resampled reencoded exported dropped"
            .split(' ')
            .map(stream)
            .collect(),
        level: Some("5.2".into()),
        sidecars: [
            ("streams", "streams.jsonl"),
            ("frame_list", "frames.csv"),
            ("still", "frame-000045.png"),
            ("comparison", "compare.mp4"),
            ("page", "html"),
            ("other", "notes"),
        ]
        .map(sidecar)
        .into(),
        real_frames: Some(RealFrames { compared: 93, identical: 90 }),
        repeatable: Some(Repeatable {
            same_frames: false,
            given: "slomod ffmpeg instructions network_threads device encoder_cores"
                .split(' ')
                .map(|what| Condition { what: what.into(), value: "2".into() })
                .collect(),
            reasons: vec![notice("source_damaged")],
        }),
    }
}

fn full_settings() -> Settings {
    Settings {
        mode: Mode::Slow,
        factor: Some(4),
        fps: Some(Ratio::new(60000, 1001)),
        speed: Some(Ratio::new(1, 4)),
        model: Some("/etc/slomod/rife.safetensors".into()),
        scale: Scale::Fixed(0.25),
        device: DeviceChoice::Cuda(1),
        encoding: Encoding {
            codec: Codec::H265,
            encode_on: EncodeOn::Gpu,
            crf: Some(20),
            preset: Some("slow".into()),
            container: Some(Container::Mkv),
        },
        content: Content {
            cut_list: Some(".cuts".into()),
            hold_below: Some(0.3),
            masks: vec!["70%, 0, 30%, 5%".parse().unwrap()],
            ..Content::default()
        },
        ..Settings::default()
    }
}

fn full_confidence() -> Confidence {
    Confidence {
        gaps: 88,
        mean: Some(0.9),
        p5: Some(0.6),
        min: Some(0.2),
        low_below: 0.5,
        low: 1,
        hold_below: Some(0.3),
        held: 1,
        strongest_motion: Some(0.12),
        strongest_motion_pts_s: Some(1.5),
        low_gaps: vec![Gap {
            frame: 45,
            pts_from_s: 1.5,
            pts_to_s: 1.533,
            score: 0.2,
            motion: 0.12,
            held: true,
        }],
        curve: vec![Point { pts_s: 0.0, score: 0.9, motion: 0.01 }],
    }
}

fn full_interpolation() -> Interpolation {
    let run = |kind: &str| Run {
        kind: kind.into(),
        count: 3,
        source_frame: 0,
        timesteps: vec![0.25, 0.5, 0.75],
    };
    Interpolation {
        factor: Some(4),
        speed: 0.25,
        cut_threshold: 0.4,
        cuts: vec![Cut { frame: 45, pts_s: 1.5, score: 0.9, listed: true }],
        barriers: vec![Barrier { frame: 60, pts_from_s: 1.9, pts_to_s: 2.0, lost: 2, marred: 1 }],
        black_bars: Some(Bars { top_px: 20, bottom_px: 22, left_px: 0, right_px: 0 }),
        changes: vec![Change {
            kind: "flash".into(),
            frame: 50,
            pts_s: 1.7,
            frames: 2,
            score: 0.3,
        }],
        confidence: full_confidence(),
        masks: vec![Masked {
            rectangle: Rectangle { left_px: 0, top_px: 320, width_px: 641, height_px: 41 },
            detected: true,
        }],
        frame_map: vec![Section {
            runs: ["real", "synthesised", "held"].map(run).into(),
            repeat: 2,
            source_frame: 0,
            source_frames: 1,
        }],
    }
}

/// A finished job with every optional field filled, so that nothing of the schema goes unseen.
fn done() -> Report {
    let holdout = Holdout {
        protocol: "holdout-2x".into(),
        samples: 88,
        samples_on_device: 87,
        candidates: 88,
        stride: Some(1.0),
        network: full_scores(),
        repeat: full_scores(),
        blend: full_scores(),
        worst_pts_s: Some(1.5),
        frames: vec![HeldOutFrame {
            frame: 45,
            pts_s: 1.5,
            psnr_rgb_db: Some(24.9),
            psnr_y_db: Some(26.0),
            ssim_y: 0.8,
            ssim_rife: Some(0.81),
            vmaf: Some(71.0),
        }],
    };
    Report {
        schema: SCHEMA.into(),
        report_id: report_id(),
        created: now_rfc3339(),
        status: Status::Done,
        tool: Tool {
            name: "slomod".into(),
            version: "0.1.0".into(),
            libavcodec: "59.37.100".into(),
            ffmpeg: "5.1.6".into(),
            build: Some("0123abcd4567".into()),
        },
        host: host(),
        source: full_source(),
        settings: full_settings(),
        settings_sha256: Some("b".repeat(64)),
        device: Some(Device {
            kind: "cpu".into(),
            name: "A processor".into(),
            precision: "f32".into(),
            instructions: "avx2".into(),
            threads: 2,
            driver: Some("535.104.05".into()),
            uuid: Some("GPU-00010203-0405-0607-0809-0a0b0c0d0e0f".into()),
            cuda: Some("12.2".into()),
            psnr_from_cpu_db: Some(66.5),
            fallback: true,
            fallback_reason: Some("no driver".into()),
        }),
        model: Some(Model {
            name: "rife v4.26".into(),
            sha256: Some("a".repeat(64)),
            scale: 0.5,
            version: Some("4.26".into()),
            ensemble: false,
        }),
        output: Some(full_output()),
        interpolation: Some(full_interpolation()),
        quality: Some(Quality {
            holdout,
            encode: Some(Encode { frames: 24, scores: full_scores() }),
        }),
        timing: Timing {
            queued: Some(now_rfc3339()),
            started: now_rfc3339(),
            finished: now_rfc3339(),
            wall_s: 20.5,
            decode_fps: Some(300.0),
            look_fps: Some(900.0),
            network_fps: Some(15.0),
            encode_fps: Some(60.0),
            end_to_end_fps: Some(14.0),
            realtime_factor: Some(0.25),
            rss_peak_bytes: Some(500_000_000),
            gpu_mem_peak_bytes: Some(700_000_000),
            resumed: vec![Resumption {
                started: "2026-07-27T09:00:00.000Z".into(),
                segments: 2,
                source_frame: 900,
                output_frame: 3600,
            }],
        },
        attempts: vec![Attempt {
            number: 2,
            started: now_rfc3339(),
            ended: Some(now_rfc3339()),
            code: Some("worker_crashed".into()),
        }],
        warnings: vec![notice("gpu_fallback")],
        errors: Vec::new(),
        disclaimer: DISCLAIMER.into(),
    }
}

/// A job that ended before anything of the clip was known.
fn ended_early(status: Status) -> Report {
    Report {
        status,
        source: Source { path: "/srv/slomod/drop/a.txt".into(), ..Source::default() },
        settings: Settings::default(),
        device: None,
        model: None,
        output: None,
        interpolation: None,
        quality: None,
        timing: Timing { started: now_rfc3339(), finished: now_rfc3339(), ..Timing::default() },
        warnings: vec![notice("duplicate_of")],
        errors: if status == Status::Duplicate { Vec::new() } else { vec![notice("not_video")] },
        ..done()
    }
}

/// Q08.
#[test]
fn reports_of_every_status_validate() {
    for report in [
        done(),
        ended_early(Status::Failed),
        ended_early(Status::Refused),
        ended_early(Status::Skipped),
        ended_early(Status::Duplicate),
    ] {
        assert_eq!(faults(&value(&report)), Vec::<String>::new(), "{:?}", report.status);
    }
}

#[test]
fn reports_read_back_as_they_were() {
    for report in [done(), ended_early(Status::Failed)] {
        let back: Report = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        assert_eq!(back, report);
    }
}

#[test]
fn the_schema_refuses_what_is_not_a_report() {
    let good = value(&done());
    let changes: [(&str, Value); 9] = [
        ("/schema", json!("slomod-report/2")),
        ("/status", json!("fine")),
        ("/created", json!("yesterday")),
        ("/source/sha256", json!("abc")),
        ("/output/frames/total", json!(-1)),
        ("/output", Value::Null),
        ("/timing/wall_s", Value::Null),
        ("/quality/holdout/network/ssim_y", json!(1.5)),
        ("/interpolation/frame_map/0/runs/0/kind", json!("guessed")),
    ];
    for (pointer, wrong) in changes {
        let mut report = good.clone();
        *report.pointer_mut(pointer).unwrap() = wrong;
        assert!(!faults(&report).is_empty(), "{pointer}");
    }
    let mut extra = good;
    extra["model"]["mood"] = json!("good");
    assert!(!faults(&extra).is_empty());
}

/// Walks a value and its schema side by side and lists where the names of properties differ.
fn differences(value: &Value, schema: &Value, root: &Value, at: &str, found: &mut Vec<String>) {
    let reference = schema.get("$ref").or_else(|| schema.pointer("/anyOf/0/$ref"));
    if let Some(Value::String(reference)) = reference {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        return differences(value, target, root, at, found);
    }
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            for name in fields.keys().filter(|name| !properties.contains_key(*name)) {
                found.push(format!("{at}/{name} is not in the schema"));
            }
            for (name, property) in &properties {
                if property["description"].as_str().is_none_or(str::is_empty) {
                    found.push(format!("{at}/{name} has no description"));
                }
                match fields.get(name) {
                    None => found.push(format!("{at}/{name} is in the schema only")),
                    Some(Value::Null) => found.push(format!("{at}/{name} was not filled")),
                    Some(it) => differences(it, property, root, &format!("{at}/{name}"), found),
                }
            }
            if schema["additionalProperties"] != json!(false) {
                found.push(format!("{at} takes any property"));
            }
        }
        Value::Array(items) => {
            let item = items.first().unwrap_or(&Value::Null);
            differences(item, &schema["items"], root, &format!("{at}/0"), found);
        }
        _ => {}
    }
}

/// Q08.
#[test]
fn every_field_is_in_the_schema_and_every_property_is_a_field() {
    let mut report = done();
    report.errors = vec![notice("shown_to_the_walk")];
    let (schema, mut found) = (schema(), Vec::new());
    differences(&value(&report), &schema, &schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
