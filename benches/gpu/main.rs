//! Speed of the network on an NVIDIA GPU; `gpu-check` of the bundle calls it. Weights are random.
//!
//! `gpu --bench network|kernels|small|pipeline|summary ...`; see [`USAGE`].
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

#[path = "../networks/mod.rs"]
mod networks;

mod clip;
mod cost;
mod device;
mod listener;
mod pictures;
mod summary;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use slomod::backend::cuda::driver::Driver;

const USAGE: &str = "\
gpu --bench network  [--json FILE]        pictures a second of each network and size, with and without the copies
gpu --bench kernels  [--json FILE]        time of every launch of a picture at 1920x1080
gpu --bench sweep    [--json FILE]        every compiled shape for every convolution, beside the one that is chosen
gpu --bench once                          the launches of a picture and of a batch at 1920x1080 one by one, for profilers
gpu --bench small                         a small network, for compute-sanitizer
gpu --bench pipeline [--json FILE] [CLIP] decode, network, picture thrown away; CPU and GPU pictures compared
gpu --bench summary FOLDER                one table and results.json of what gpu-check wrote
SLOMOD_TEST_DEVICE=cuda:N chooses a device; BENCH_CLOCK_MHZ is the clock that shares of the peak rate refer to;\n\
BENCH_SIZES=1920x1080,... are the sizes; BENCH_REHEARSAL=1 with small ones tries everything without measuring";

/// Networks that are measured.
const KINDS: [networks::Kind; 3] = [networks::V4_6, networks::V4_22, networks::V4_26];

/// Where it is set, this program is `slomod` itself: a bundle carries one binary for both.
const AS_SLOMOD: &str = "BENCH_AS_SLOMOD";

fn main() -> ExitCode {
    if std::env::var_os(AS_SLOMOD).is_some() {
        return slomod::cli::run();
    }
    bench();
    ExitCode::SUCCESS
}

fn bench() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it starts.
    let Some(at) = arguments.iter().position(|argument| argument == "--bench") else { return };
    let mut rest: Vec<String> = arguments[at + 1..].to_vec();
    let json = rest.iter().position(|argument| argument == "--json").map(|at| {
        rest.remove(at);
        PathBuf::from(rest.remove(at))
    });
    let result = match rest.first().map(String::as_str) {
        Some("network") => pictures::networks(&KINDS),
        Some("kernels") => pictures::kernels(&KINDS),
        Some("sweep") => sweep::sweep(&KINDS),
        Some("once") => pictures::once(&networks::V4_26),
        Some("small") => pictures::small(),
        Some("pipeline") => clip::pipeline(rest.get(1).map(PathBuf::from)),
        Some("summary") => {
            summary::write(&PathBuf::from(rest.get(1).expect(USAGE)));
            return;
        }
        _ => {
            println!("{USAGE}");
            return;
        }
    };
    if let Some(path) = json {
        std::fs::write(path, format!("{:#}\n", with_device(result))).unwrap();
    }
}

/// The rows, and what they were measured on.
fn with_device(rows: Value) -> Value {
    let device = device::open();
    let it = device.description();
    json!({
        "device": it.name,
        "compute_capability": format!("{}.{}", it.capability.0, it.capability.1),
        "multiprocessors": it.multiprocessors,
        "memory_bytes": it.memory_bytes,
        "driver_cuda_version": it.driver_version,
        "slomod": env!("CARGO_PKG_VERSION"),
        "rows": rows,
    })
}
