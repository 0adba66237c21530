//! How much of a device's memory is free.

use std::fs;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdevice, CUdevice_attribute as Attribute};

use super::find::attribute;

/// What the kernel says of the host's memory.
const HOST: &str = "/proc/meminfo";

/// Whether the device has no memory of its own and uses the host's, as boards with processor and GPU on one chip do.
pub(super) fn is_the_hosts(device: CUdevice) -> bool {
    attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED).is_ok_and(|it| it == 1)
}

/// Bytes that are free for the device whose context is current. Of the host's memory the driver counts what the kernel keeps
/// of files as used, which it gives up when it is asked for.
pub(super) fn free_bytes(is_the_hosts: bool) -> Result<u64, DriverError> {
    let (free, total) = result::mem_get_info()?;
    let (free, total) = (free as u64, total as u64);
    if !is_the_hosts {
        return Ok(free);
    }
    let host = fs::read_to_string(HOST).ok().and_then(|it| available_bytes(&it));
    Ok(host.map_or(free, |it| it.min(total).max(free)))
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_can_give_is_read() {
        let text = "MemTotal:       24684132 kB\nMemFree:         7206604 kB\nMemAvailable:   19347048 kB\n";
        assert_eq!(available_bytes(text), Some(19_347_048 * 1024));
        for none in ["", "MemFree: 3 kB\n", "MemAvailable: many kB\n", "MemAvailable: 3 MB\n"] {
            assert_eq!(available_bytes(none), None, "{none}");
        }
        let here = fs::read_to_string(HOST).unwrap();
        assert!(available_bytes(&here).unwrap() > 0);
    }
}
