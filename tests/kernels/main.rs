//! The kernels of `kernels/` against the plain definitions in `ops`: run on this machine's processor, or on the GPU that
//! `SLOMOD_TEST_DEVICE` (`cuda`, `cuda:N`) names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../../benches/gpu/main.rs"]
mod bench;
mod color;
#[path = "../common/mod.rs"]
mod common;
mod conv;
mod deconv;
mod faults;
mod flow;
mod fused;
mod fusion;
mod head;
mod memory;
mod metrics;
mod network;
mod nvidia;
mod refine;
mod scenes;
#[path = "../support/schema.rs"]
mod schema;
mod scores;
mod shim;
#[path = "../support/skip.rs"]
mod skip;
mod warp;

use std::sync::Arc;

use shim::driver::ShimDriver;
use shim::library::{Library, Order};
use shim::machine::skipped_on_gpu;
use slomod::backend::cuda::driver::{Buffer, Driver, Launch, Parameters};
use slomod::backend::cuda::params::AddParams;

#[test]
fn a_kernel_runs_and_what_it_must_not_do_is_noticed() {
    if skipped_on_gpu("misuse of the processor's kernels") {
        return;
    }
    let shim = ShimDriver::new();
    let driver: Arc<dyn Driver> = shim.clone();
    let ones: Vec<u8> = std::iter::repeat_n([0x00, 0x3C], 16).flatten().collect();
    let src = Buffer::with_content(&driver, &ones).unwrap();
    let dst = Buffer::with_content(&driver, &ones).unwrap();
    let params = AddParams { src: src.address(), dst: dst.address(), chunks: 2 };
    let launch = Launch {
        kernel: "add",
        grid: [1, 1, 1],
        block: [256, 1, 1],
        shared_bytes: 0,
        params: params.as_bytes(),
    };
    for order in [Order::Forward, Order::Backward] {
        driver.upload(dst.address(), &ones).unwrap();
        shim.set_order(order);
        driver.launch(&launch).unwrap();
        let mut sum = vec![0; 32];
        driver.download(dst.address(), &mut sum).unwrap();
        assert!(sum.chunks(2).all(|half| half == [0x00, 0x40]), "1 + 1 = 2: {sum:?}");
    }
    let refused = [
        (Launch { kernel: "ad", ..launch }, "no such kernel"),
        (Launch { block: [128, 1, 1], ..launch }, "another number of threads"),
        (Launch { params: &params.as_bytes()[..16], ..launch }, "another size"),
        (Launch { shared_bytes: 1 << 20, ..launch }, "shared memory"),
    ];
    for (launch, message) in refused {
        let error = driver.launch(&launch).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let too_far = AddParams { chunks: 3, ..params };
    let error = driver.launch(&Launch { params: too_far.as_bytes(), ..launch }).unwrap_err();
    assert!(error.to_string().contains("guard band"), "{error}");
}

#[test]
fn every_kernel_file_is_in_the_library() {
    if skipped_on_gpu("the library of kernels") {
        return;
    }
    let kernels = Library::of_all_kernels().kernels();
    assert!(kernels.iter().any(|name| name == "add"), "{kernels:?}");
    let mut unique = kernels.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), kernels.len(), "each name once");
}
