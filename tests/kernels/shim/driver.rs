//! `Driver` over the kernels compiled for the processor: memory of the host, NaN-poisoned, with guard bands.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use slomod::backend::cuda::driver::{DeviceDescription, DeviceError, Driver, Launch};

use super::library::{Copies, Counters, Library, Order};

/// Bytes before and behind each allocation that nobody may write; more than a row of the tests' pictures.
const GUARD_BYTES: usize = 16 << 10;
/// What new memory is filled with: NaN in half and float.
const POISON: u8 = 0xFF;
/// What the guard bands hold: signaling NaN in half, which no arithmetic gives back; huge in float.
const GUARD: u8 = 0x7D;

/// A device that runs the kernels on this processor.
#[derive(Debug)]
pub struct ShimDriver {
    description: DeviceDescription,
    library: Arc<Library>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    /// Length in bytes by address.
    allocations: BTreeMap<u64, usize>,
    launched: BTreeSet<String>,
    launches: usize,
    counters: Counters,
    /// A launch failed: memory may be in any state.
    failed: bool,
}

/// As an H200 describes itself, the memory aside.
pub fn h200() -> DeviceDescription {
    DeviceDescription {
        name: "shim".into(),
        capability: (9, 0),
        multiprocessors: 132,
        shared_bytes: 227 << 10,
        memory_bytes: 4 << 30,
        driver_version: 0,
    }
}

/// A device of 2018: little shared memory, no asynchronous copies.
pub fn turing() -> DeviceDescription {
    DeviceDescription { capability: (7, 5), multiprocessors: 40, shared_bytes: 64 << 10, ..h200() }
}

impl ShimDriver {
    /// All kernels, on a device as an H200.
    pub fn new() -> Arc<Self> {
        Self::over(Library::of_all_kernels(), h200())
    }

    /// All kernels, on a device as told. `memory_bytes` is a limit that is held to.
    pub fn with(description: DeviceDescription) -> Arc<Self> {
        Self::over(Library::of_all_kernels(), description)
    }

    /// The kernels of that library.
    pub fn over(library: Arc<Library>, description: DeviceDescription) -> Arc<Self> {
        Arc::new(Self { description, library, state: Mutex::default() })
    }

    /// In which order threads run from now on.
    pub fn set_order(&self, order: Order) {
        self.state().order = order;
    }

    /// Names of the kernels that ran.
    pub fn launched(&self) -> BTreeSet<String> {
        self.state().launched.clone()
    }

    /// Number of launches.
    pub fn launches(&self) -> usize {
        self.state().launches
    }

    /// Bytes in use.
    pub fn allocated_bytes(&self) -> u64 {
        self.state().allocations.values().map(|&bytes| bytes as u64).sum()
    }

    /// What all launches of this driver counted together.
    pub fn counters(&self) -> Counters {
        self.state().counters
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn failed(&self, doing: &str, reason: String) -> DeviceError {
        DeviceError::Failed { device: self.description.name.clone(), doing: doing.into(), reason }
    }

    /// That `bytes` from `address` lie within one allocation.
    fn check_range(&self, doing: &str, address: u64, bytes: usize) -> Result<(), DeviceError> {
        let state = self.state();
        let found = state.allocations.range(..=address).next_back();
        let inside =
            found.is_some_and(|(&start, &len)| address - start + bytes as u64 <= len as u64);
        let reason = || format!("{bytes} bytes at {address:#x} are in no allocation");
        if inside || bytes == 0 { Ok(()) } else { Err(self.failed(doing, reason())) }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.next_multiple_of(256) + 2 * GUARD_BYTES, 256).unwrap()
}

/// The guard bands of an allocation: before, and behind from the very last byte.
fn guards(address: u64, bytes: usize) -> [&'static [u8]; 2] {
    let behind = layout(bytes).size() - GUARD_BYTES - bytes;
    #[expect(unsafe_code, reason = "device memory is an address")]
    // SAFETY: `allocate` made room for both; callers hold the allocation while they look.
    unsafe {
        [
            std::slice::from_raw_parts((address as usize - GUARD_BYTES) as *const u8, GUARD_BYTES),
            std::slice::from_raw_parts((address as usize + bytes) as *const u8, behind),
        ]
    }
}

fn guards_hold(address: u64, bytes: usize) -> bool {
    guards(address, bytes).iter().all(|band| band.iter().all(|&byte| byte == GUARD))
}

impl Driver for ShimDriver {
    fn description(&self) -> &DeviceDescription {
        &self.description
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        Ok(self.description.memory_bytes.saturating_sub(self.allocated_bytes()))
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        let free_bytes = self.free_bytes()?;
        if bytes as u64 > free_bytes {
            return Err(DeviceError::OutOfMemory {
                device: self.description.name.clone(),
                wanted_bytes: bytes as u64,
                free_bytes,
            });
        }
        let layout = layout(bytes);
        #[expect(unsafe_code, reason = "device memory is an address")]
        // SAFETY: the layout is not empty; the bytes written are those just allocated.
        let address = unsafe {
            let start = std::alloc::alloc(layout);
            assert!(!start.is_null(), "{} bytes of host memory", layout.size());
            start.write_bytes(GUARD, layout.size());
            start.add(GUARD_BYTES).write_bytes(POISON, bytes);
            start as u64 + GUARD_BYTES as u64
        };
        self.state().allocations.insert(address, bytes);
        Ok(address)
    }

    fn release(&self, address: u64, bytes: usize) {
        let known = self.state().allocations.remove(&address);
        assert_eq!(known, Some(bytes), "released as it was allocated");
        let held = guards_hold(address, bytes);
        #[expect(unsafe_code, reason = "device memory is an address")]
        // SAFETY: it was allocated with this layout and is in the list no more.
        unsafe {
            std::alloc::dealloc((address as usize - GUARD_BYTES) as *mut u8, layout(bytes));
        }
        let told = self.state().failed || std::thread::panicking();
        assert!(held || told, "{bytes} bytes were written past their end");
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check_range("upload", address, bytes.len())?;
        #[expect(unsafe_code, reason = "device memory is an address")]
        // SAFETY: the range is within one allocation.
        unsafe {
            std::ptr::copy(bytes.as_ptr(), address as usize as *mut u8, bytes.len());
        }
        Ok(())
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check_range("download", address, bytes.len())?;
        #[expect(unsafe_code, reason = "device memory is an address")]
        // SAFETY: the range is within one allocation.
        unsafe {
            std::ptr::copy(address as usize as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let limit = self.description.shared_bytes;
        if launch.shared_bytes > limit {
            let reason = format!("{} bytes of shared memory of {limit}", launch.shared_bytes);
            return Err(self.failed(launch.kernel, reason));
        }
        let order = self.state().order;
        let Launch { kernel, grid, block, shared_bytes, params } = *launch;
        let copies = if self.description.capability < (8, 0) {
            Copies::AtOnce
        } else {
            Copies::WhenWaitedFor
        };
        let ran = self.library.launch(kernel, grid, block, shared_bytes, params, order, copies);
        let mut state = self.state();
        let broken = |&(&address, &bytes): &(&u64, &usize)| !guards_hold(address, bytes);
        let broken = state.allocations.iter().find(broken);
        let broken = broken.map(|(_, bytes)| format!("a guard band of {bytes} bytes was written"));
        let reason = match ran {
            Err(reason) => Some(reason),
            Ok(counted) => {
                state.counters.add(counted);
                state.launched.insert(kernel.into());
                state.launches += 1;
                broken
            }
        };
        state.failed |= reason.is_some();
        drop(state);
        reason.map_or(Ok(()), |reason| Err(self.failed(kernel, reason)))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}
