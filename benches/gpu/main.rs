//! Speed of the network on an NVIDIA GPU; `gpu-check` of the bundle calls it. Weights are random.
//!
//! `gpu --bench network|kernels|small|pipeline|summary ...`; see [`USAGE`].
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

#[path = "../networks/mod.rs"]
pub mod networks;

pub mod clip;
mod cost;
mod device;
mod large;
mod listener;
mod pictures;
pub mod rows;
pub mod summary;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rows::Rows;

const USAGE: &str = "\
gpu --bench network  [--json FILE]        pictures a second of each network and size, with and without the copies
gpu --bench kernels  [--json FILE]        time of every launch of a picture at 1920x1080
gpu --bench sweep    [--json FILE]        every compiled shape for every convolution, beside the one that is chosen
gpu --bench large    [--json FILE]        pictures of 7680x4320, whole and of tiles, compared
gpu --bench once                          the launches of a picture and of a batch at 1920x1080 one by one, for profilers
gpu --bench small                         a small network, for compute-sanitizer
gpu --bench pipeline [--json FILE] [CLIP] decode, network, picture thrown away; CPU and GPU pictures compared
gpu --bench draw FILE                     the clip that stands for one of the caller's
gpu --bench summary FOLDER                one table and results.json of what gpu-check wrote
FILE is written anew with every row, so that what was measured stays where a run is cut off.
SLOMOD_TEST_DEVICE=cuda:N chooses a device; BENCH_CLOCK_MHZ is the clock that shares of the peak rate refer to;\n\
BENCH_SIZES=1920x1080,... are the sizes; BENCH_REHEARSAL=1 with small ones tries everything without measuring";

/// Networks that are measured; of a rehearsal as many blocks of few channels under the same names.
fn kinds() -> Vec<networks::Kind> {
    const NARROW: &[usize] = &[32, 32, 16, 16, 16];
    let kinds = [networks::V4_6, networks::V4_22, networks::V4_26];
    let one = |kind: networks::Kind| match device::rehearsal() {
        true => networks::Kind { widths: &NARROW[..kind.widths.len()], ..kind },
        false => kind,
    };
    kinds.into_iter().map(one).collect()
}

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
    run(&arguments[at + 1..]);
}

/// What [`USAGE`] says, given the words behind `--bench`.
pub fn run(arguments: &[String]) {
    let mut rest = arguments.to_vec();
    let json = rest.iter().position(|argument| argument == "--json").map(|at| {
        rest.remove(at);
        PathBuf::from(rest.remove(at))
    });
    let mut rows = Rows::new(json);
    match rest.first().map(String::as_str) {
        Some("network") => pictures::networks(&kinds(), &mut rows),
        Some("kernels") => pictures::kernels(&kinds(), &mut rows),
        Some("sweep") => sweep::sweep(&kinds(), &mut rows),
        Some("large") => large::large(&kinds()[2], &mut rows),
        Some("once") => pictures::once(&networks::V4_26),
        Some("small") => pictures::small(),
        Some("pipeline") => clip::pipeline(rest.get(1).map(Path::new), &mut rows),
        Some("draw") => clip::draw(Path::new(rest.get(1).expect(USAGE))),
        Some("summary") => summary::write(Path::new(rest.get(1).expect(USAGE))),
        _ => println!("{USAGE}"),
    }
}
