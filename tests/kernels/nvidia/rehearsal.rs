//! `gpu-check` and the benchmark that it calls, over the stand-in for NVIDIA's library: nothing is measured, all of it runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use slomod::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};

use super::{child, kernels_are_built};
use crate::bench::clip::{Apart, Differences};
use crate::bench::rows::Rows;
use crate::bench::summary;
use crate::shim::library::{Library, build_folder};
use crate::shim::machine::skipped_on_gpu;

/// Steps that are rehearsed: all but the confined ones, which want the program as one file, the sweep, which takes long on a
/// processor, and the tools that may be installed.
const STEPS: [&str; 7] =
    ["check", "ops", "network", "kernels", "large", "pipeline", "file-to-file"];

/// The step that the stand-in, which has no encoder, passes over.
const NO_ENCODER: &str = "encode-on-gpu";

/// In the benchmark's place: it is in this program, and `slomod` is one of its own.
const GPU: &str = r#"#!/bin/sh
[ -z "${BENCH_AS_SLOMOD-}" ] || exec "$REHEARSED_SLOMOD" "$@"
shift
BENCH_WORDS=$(printf '%s\n' "$@")
export BENCH_WORDS
exec "$REHEARSED_TESTS" --ignored --exact --nocapture nvidia::rehearsal::benchmark
"#;

/// In the tests' place: a few of them.
const KERNELS: &str = r#"#!/bin/sh
exec "$REHEARSED_TESTS" head:: "$@"
"#;

#[test]
#[ignore = "the benchmark, for the test below, which gives it its words"]
fn benchmark() {
    let words = std::env::var("BENCH_WORDS").unwrap();
    let words: Vec<String> = words.lines().map(str::to_owned).collect();
    crate::bench::run(&words);
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the last table and `results.json` are made of, and the table.
fn rehearse(folder: &Path, steps: &str) -> (Value, String) {
    script(&folder.join("gpu-check"), include_str!("../../../benches/gpu_check.sh"));
    script(&folder.join("gpu"), GPU);
    script(&folder.join("kernels"), KERNELS);
    let out = folder.join("out");
    let output = Command::new(folder.join("gpu-check"))
        .arg(&out)
        .env("ONLY", steps)
        .env("BENCH_REHEARSAL", "1")
        .env("BENCH_SIZES", "64x64")
        .env("BENCH_CLOCK_MHZ", "1980")
        .env("REHEARSED_TESTS", std::env::current_exe().unwrap())
        .env("REHEARSED_SLOMOD", env!("CARGO_BIN_EXE_slomod"))
        .env("LD_LIBRARY_PATH", Library::fake_cuda(&build_folder().join("rehearsal")))
        .env("FAKE_CUDA_KERNELS", Library::of_all_kernels().path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "gpu-check failed");
    let results = std::fs::read(out.join("results.json")).unwrap();
    (serde_json::from_slice(&results).unwrap(), said)
}

#[test]
fn gpu_check_runs_to_its_end_and_writes_all_of_its_results() {
    if !kernels_are_built() || skipped_on_gpu("the stand-in for a driver") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let steps = [&STEPS[..], &[NO_ENCODER]].concat().join(" ");
    let (results, said) = rehearse(folder.path(), &steps);
    let ended = |name: &str| {
        let steps = results["steps"].as_array().unwrap();
        steps.iter().find(|it| it["step"] == name).map(|it| it["ended"].clone())
    };
    for step in STEPS {
        assert_eq!(ended(step), Some(json!("0")), "{step}");
        assert!(said.contains(&format!("| {step} | ok |")), "{step}");
    }
    let skipped = ended(NO_ENCODER).unwrap();
    assert!(skipped.as_str().unwrap().starts_with("skipped"), "{skipped}");
    assert!(results.get(NO_ENCODER).is_none(), "no report of what was not made");
    let rows = |table: &str| results[table]["rows"].as_array().unwrap().clone();
    assert_eq!(rows("network").len(), 3, "one size of each network");
    assert!(rows("network").iter().all(|it| it["device_batched_fps"].as_f64().unwrap() > 0.0));
    let kernels = rows("kernels");
    for kernel in ["conv_3x3", "deconv_4x4", "stage", "head_last", "yuv420_from_image"] {
        let of = kernels.iter().filter(|it| it["kernel"].as_str().unwrap().starts_with(kernel));
        let floors: Vec<f64> = of.map(|it| it["percent_of_floor"].as_f64().unwrap()).collect();
        assert!(!floors.is_empty() && floors.iter().all(|it| *it > 0.0), "{kernel}: {floors:?}");
        assert!(said.contains(&format!("| v4.26 full | {kernel}")), "{kernel} in the table");
    }
    let large = rows("large");
    assert_eq!(large.len(), 2 * 3, "two networks, whole and of tiles");
    assert!(large.iter().filter(|it| it["psnr_from_whole_db"].is_f64()).count() == 2);
    assert!(rows("pipeline")[0]["psnr_worst_db"].as_f64().unwrap() >= 50.0);
    assert_eq!(results["convert"]["device"]["kind"], "cuda");
    assert_eq!(results["convert"]["output"]["encoder"], "libx264");
    assert!(said.contains("| first picture, s | 2 |") && said.contains("| not measured |"));
    assert!(said.contains("this is another device: Stand-in"));
}

/// What `gpu-check` leaves in a folder.
fn results_of(files: &[(&str, Value)]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    summary::write(folder.path());
    serde_json::from_slice(&std::fs::read(folder.path().join("results.json")).unwrap()).unwrap()
}

#[test]
fn each_mark_is_reached_missed_or_not_measured() {
    let row = |network: &str, alone: f64, batched: f64| json!({ "network": network, "size": "1920x1080", "device_fps": alone, "device_batched_fps": batched });
    let network = json!({ "device": "NVIDIA H200", "rows": [
        row("v4.26 full", 1199.0, 2000.0), row("v4.6 full", 1000.0, 1300.0),
        { "network": "v4.22 full", "size": "1280x720", "device_fps": 9999.0, "device_batched_fps": 9999.0 },
    ] });
    let peer = |network: &str, mode: &str, fps: f64| json!({ "network": network, "size": "1920x1080", "mode": mode, "fps": fps });
    let pytorch =
        json!({ "rows": [peer("v4.26", "compiled", 240.0), peer("v4.6", "eager", 100.0)] });
    let pipeline = json!({ "rows": [{ "first_picture_s": 2.5 }] });
    let results = results_of(&[
        ("network.json", network),
        ("pytorch.json", pytorch),
        ("pipeline.json", pipeline),
    ]);
    let marks = results["marks"].as_array().unwrap();
    let reached: Vec<_> = marks.iter().map(|it| it["reached"].as_bool()).collect();
    let [yes, no, unknown] = [Some(true), Some(false), None];
    let expected = [
        // v4.26: 1200 one at a time and in batches, 2000, five times PyTorch: 4.996 and 8.3.
        [no, yes, no, yes, no, yes],
        // v4.6, whose compiled peer is not there.
        [yes, yes, no, no, unknown, unknown],
        // v4.22 was measured at another size.
        [unknown; 6],
    ];
    assert_eq!(reached[..18], expected.concat());
    assert_eq!(reached[18..], [no], "the first picture may take 2 s");
}

#[test]
#[ignore = "needs a libcuda that is put on the library path: the test below starts it in a process of its own"]
fn written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    let mut rows = Rows::new(Some(path.clone()));
    for number in 1..=3 {
        rows.push(json!({ "number": number }));
        let found: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(found["device"], "Stand-in");
        assert_eq!(found["rows"].as_array().unwrap().len(), number);
    }
}

#[test]
fn what_was_measured_is_in_the_file_after_each_row() {
    if kernels_are_built() {
        assert!(child("rehearsal::written", &[]).status.success());
    }
}

#[test]
fn pictures_of_more_than_eight_bits_are_compared_by_their_codes() {
    let gray = |depth, codes: &[u16]| {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let format = PictureFormat { width_px: 2, height_px: 1, chroma, matrix, range, depth };
        let bytes = codes.iter().flat_map(|code| match depth {
            Depth::Eight => vec![*code as u8],
            _ => code.to_le_bytes().to_vec(),
        });
        Picture { format, planes: vec![bytes.collect()] }
    };
    // 255 and 256 differ by one code, and in both bytes.
    for (depth, a, b) in [
        (Depth::Eight, [100, 7], [101, 7]),
        (Depth::Ten, [255, 7], [259, 7]),
        (Depth::Twelve, [250, 7], [266, 7]),
    ] {
        let mut differences = Differences::default();
        differences.add(&gray(depth, &a), &gray(depth, &b));
        let Apart { mean, psnr_db } = differences.apart();
        let expected = 10.0 * (2.0 * 255.0_f64 * 255.0).log10();
        assert!(mean == 0.5 && (psnr_db - expected).abs() < 1e-9, "{depth:?}: {mean}, {psnr_db}");
    }
}
