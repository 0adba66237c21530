//! The device that is measured.

use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::result;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use slomod::backend::cuda::driver::{Driver, OwnedLaunch};
use slomod::backend::cuda::nvidia::Nvidia;

/// The device of `SLOMOD_TEST_DEVICE` (`cuda:N`), else the first.
pub fn open() -> Arc<Nvidia> {
    Arc::new(Nvidia::open(index()).unwrap_or_else(|error| panic!("{error}")))
}

/// Its number.
pub fn index() -> u32 {
    let name = std::env::var("SLOMOD_TEST_DEVICE").unwrap_or_default();
    name.strip_prefix("cuda:").map_or(0, |number| number.parse().expect("cuda:N"))
}

/// Bytes that its memory delivers in a second by clock and width, where the driver tells both. It was opened before.
pub fn bandwidth() -> Option<f64> {
    let number = |attribute| {
        let device = result::device::get(i32::try_from(index()).ok()?).ok()?;
        #[expect(unsafe_code, reason = "NVIDIA's driver is a C library")]
        // SAFETY: the device comes from the driver.
        let value = unsafe { result::device::get_attribute(device, attribute) }.ok()?;
        (value > 0).then_some(f64::from(value))
    };
    let khz = number(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?;
    let bits = number(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?;
    // Two transfers a clock.
    Some(2.0 * khz * 1e3 * bits / 8.0)
}

/// Times a graph is started for each measurement.
const REPLAYS: usize = 20;
/// Measurements, of which the median counts.
const MEASUREMENTS: usize = 7;

/// Whether `BENCH_REHEARSAL` is set: on a device that is none, one run of everything must do.
pub fn rehearsal() -> bool {
    std::env::var_os("BENCH_REHEARSAL").is_some()
}

/// Seconds for `launches` as a graph, which holds them `copies` times over; the median of several measurements.
pub fn graph_seconds(driver: &dyn Driver, launches: &[OwnedLaunch], copies: usize) -> f64 {
    median_seconds(driver, launches, copies, REPLAYS, MEASUREMENTS)
}

/// The same in less time, to find the fastest of many.
pub fn roughly(driver: &dyn Driver, launches: &[OwnedLaunch], copies: usize) -> f64 {
    median_seconds(driver, launches, copies, REPLAYS / 4, MEASUREMENTS / 2)
}

fn median_seconds(
    driver: &dyn Driver,
    launches: &[OwnedLaunch],
    copies: usize,
    replays: usize,
    measurements: usize,
) -> f64 {
    let (copies, replays, measurements) =
        if rehearsal() { (1, 1, 1) } else { (copies, replays, measurements) };
    assert!(driver.begin_capture().unwrap(), "this device cannot capture graphs");
    for _ in 0..copies {
        launches.iter().for_each(|launch| driver.launch(&launch.as_launch()).unwrap());
    }
    let graph = driver.end_capture().unwrap();
    let mut seconds: Vec<f64> = (0..=measurements)
        .map(|_| {
            driver.synchronize().unwrap();
            let start = Instant::now();
            (0..replays).for_each(|_| driver.replay(graph).unwrap());
            driver.synchronize().unwrap();
            start.elapsed().as_secs_f64() / (replays * copies) as f64
        })
        .skip(1)
        .collect();
    driver.forget(graph);
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
