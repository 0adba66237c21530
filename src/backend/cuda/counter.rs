//! A device that has no memory and runs nothing, but counts: what an engine would take is what it takes of this.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::driver::{DeviceDescription, DeviceError, Driver, Launch, staging_bytes};

/// Addresses are multiples of this, as a device's are.
const ALIGNMENT: u64 = 256;

/// Counts the bytes that are asked for, and gives all of them. Kernels do not run, copies copy nothing, and what is
/// downloaded is zero.
#[derive(Debug)]
pub struct Counter {
    description: DeviceDescription,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_address: u64,
    in_use_bytes: u64,
    peak_bytes: u64,
    /// Bytes of lanes, of uploads and downloads.
    lanes: BTreeMap<(Way, usize), u64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    In,
    Out,
}

impl Counter {
    /// In the place of the device so described, so that the same kernels are chosen.
    #[must_use]
    pub fn of(description: DeviceDescription) -> Self {
        Self { description, state: Mutex::default() }
    }

    /// A lane is used for so many bytes.
    fn stage(&self, way: Way, lane: usize, bytes: usize) {
        if !self.description.uses_host_memory {
            return;
        }
        let (mut state, bytes) = (self.lock(), staging_bytes(bytes) as u64);
        let held = state.lanes.entry((way, lane)).or_default();
        let more = bytes.saturating_sub(*held);
        *held += more;
        state.take(more);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, bytes: u64) {
        self.in_use_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.in_use_bytes);
    }
}

impl Driver for Counter {
    fn description(&self) -> &DeviceDescription {
        &self.description
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        Ok(self.description.memory_bytes.saturating_sub(self.allocated_bytes()))
    }

    fn allocated_bytes(&self) -> u64 {
        self.lock().in_use_bytes
    }

    fn peak_bytes(&self) -> u64 {
        self.lock().peak_bytes
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        let mut state = self.lock();
        let bytes = bytes as u64;
        let address = state.next_address.max(ALIGNMENT);
        state.next_address = (address + bytes.max(1)).next_multiple_of(ALIGNMENT);
        state.take(bytes);
        Ok(address)
    }

    fn release(&self, _address: u64, bytes: usize) {
        self.lock().in_use_bytes -= bytes as u64;
    }

    fn upload(&self, _address: u64, _bytes: &[u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn download(&self, _address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        bytes.fill(0);
        Ok(())
    }

    fn launch(&self, _launch: &Launch<'_>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn upload_beside(&self, lane: usize, parts: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        self.stage(Way::In, lane, parts.iter().map(|(_, bytes)| bytes.len()).sum());
        Ok(())
    }

    fn download_beside(&self, lane: usize, _: u64, bytes: usize) -> Result<(), DeviceError> {
        self.stage(Way::Out, lane, bytes);
        Ok(())
    }

    fn empty_lanes(&self) {
        let mut state = self.lock();
        let held: u64 = std::mem::take(&mut state.lanes).into_values().sum();
        state.in_use_bytes -= held;
    }

    fn collect(
        &self,
        _lane: usize,
        _address: u64,
        _parts: &mut [(u64, &mut [u8])],
    ) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::cuda::driver::Buffer;

    #[test]
    fn the_most_at_a_time_is_kept() {
        let description = DeviceDescription {
            name: "counted".into(),
            uuid: None,
            capability: (9, 0),
            multiprocessors: 1,
            shared_bytes: 0,
            memory_bytes: 0,
            uses_host_memory: false,
            driver_version: 0,
        };
        let counter = Arc::new(Counter::of(description));
        let driver: Arc<dyn Driver> = counter.clone();
        let first = Buffer::new(&driver, 1000).unwrap();
        let second = Buffer::new(&driver, 24).unwrap();
        assert!(second.address() >= first.address() + 1000);
        drop(first);
        let third = Buffer::new(&driver, 500).unwrap();
        assert_eq!((counter.allocated_bytes(), counter.peak_bytes()), (524, 1024));
        drop((second, third));
        assert_eq!((counter.allocated_bytes(), counter.peak_bytes()), (0, 1024));
    }
}
