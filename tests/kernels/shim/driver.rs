//! `Driver` of the tests: memory that is NaN-poisoned and has guard bands, on the processor or on a GPU.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use slomod::backend::cuda::driver::{DeviceDescription, DeviceError, Driver, Launch};

use super::library::{Copies, Counters, Library, Order};
use super::machine::Machine;

/// Bytes before and behind each allocation that nobody may write; more than a row of the tests' pictures.
const GUARD_BYTES: usize = 16 << 10;
/// What new memory is filled with: NaN in half and float.
const POISON: u8 = 0xFF;
/// What the guard bands hold: signaling NaN in half, which no arithmetic gives back; huge in float.
const GUARD: u8 = 0x7D;

/// A device that watches what kernels do to its memory.
#[derive(Debug)]
pub struct ShimDriver {
    description: DeviceDescription,
    machine: Machine,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    /// Length in bytes by address.
    allocations: BTreeMap<u64, usize>,
    /// How often each kernel ran.
    launched: BTreeMap<String, usize>,
    peak_bytes: u64,
    /// Where it is less than the description says.
    limit_bytes: Option<u64>,
    asleep: bool,
    counters: Counters,
    /// A launch failed: memory may be in any state.
    failed: bool,
}

/// As an H200 describes itself, the memory aside.
pub fn h200() -> DeviceDescription {
    DeviceDescription {
        name: "shim".into(),
        uuid: Some("GPU-00010203-0405-0607-0809-0a0b0c0d0e0f".into()),
        capability: (9, 0),
        multiprocessors: 132,
        shared_bytes: 227 << 10,
        memory_bytes: 4 << 30,
        uses_host_memory: false,
        driver_version: 12_020,
    }
}

/// A device of 2018: little shared memory, no asynchronous copies.
pub fn turing() -> DeviceDescription {
    DeviceDescription { capability: (7, 5), multiprocessors: 40, shared_bytes: 64 << 10, ..h200() }
}

impl ShimDriver {
    /// All kernels, on a device as an H200.
    pub fn new() -> Arc<Self> {
        Self::with(h200())
    }

    /// All kernels, on a device as told. `memory_bytes` is a limit that is held to.
    pub fn with(description: DeviceDescription) -> Arc<Self> {
        let machine = Machine::of_environment();
        let description = machine.describe(description);
        Arc::new(Self { description, machine, state: Mutex::default() })
    }

    /// The kernels of that library, on the processor.
    pub fn over(library: Arc<Library>, description: DeviceDescription) -> Arc<Self> {
        let machine = Machine::Processor(library);
        Arc::new(Self { description, machine, state: Mutex::default() })
    }

    /// In which order threads run from now on.
    pub fn set_order(&self, order: Order) {
        self.state().order = order;
    }

    /// Names of the kernels that ran.
    pub fn launched(&self) -> BTreeSet<String> {
        self.state().launched.keys().cloned().collect()
    }

    /// Number of launches.
    pub fn launches(&self) -> usize {
        self.state().launched.values().sum()
    }

    /// Number of launches of kernels whose names begin so.
    pub fn launches_of(&self, prefix: &str) -> usize {
        let state = self.state();
        state.launched.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, n)| n).sum()
    }

    /// From now on kernels do not run: for tests of memory alone.
    pub fn sleep(&self) {
        self.state().asleep = true;
    }

    /// From now on there is so much memory, as when another program takes the rest. Launches fail too while more is in
    /// use: kernels need some of their own.
    pub fn set_memory_bytes(&self, bytes: u64) {
        self.state().limit_bytes = Some(bytes);
    }

    fn memory_bytes(&self) -> u64 {
        self.state().limit_bytes.unwrap_or(self.description.memory_bytes)
    }

    /// Bytes in use.
    pub fn allocated_bytes(&self) -> u64 {
        self.state().allocations.values().map(|&bytes| bytes as u64).sum()
    }

    /// That every read by ldmatrix took one cycle; a GPU does not tell.
    pub fn assert_no_bank_conflicts(&self) {
        let Machine::Processor(_) = self.machine else { return };
        let counters = self.state().counters;
        assert!(counters.ldmatrix_reads > 0);
        assert_eq!(counters.ldmatrix_cycles, counters.ldmatrix_reads, "bank conflicts");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn failed(&self, doing: &str, reason: String) -> DeviceError {
        DeviceError::Failed { device: self.description.name.clone(), doing: doing.into(), reason }
    }

    /// That the guard bands of an allocation, before and behind from the very last byte, are as they were.
    fn guards_hold(&self, address: u64, bytes: usize) -> bool {
        let behind = layout(bytes).size() - GUARD_BYTES - bytes;
        let bands = [(address - GUARD_BYTES as u64, GUARD_BYTES), (address + bytes as u64, behind)];
        bands.into_iter().all(|(start, len)| {
            let mut band = vec![0; len];
            // A device that does not answer is noticed by the launch.
            self.machine.read(start, &mut band).is_err() || band.iter().all(|&byte| byte == GUARD)
        })
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

impl Driver for ShimDriver {
    fn description(&self) -> &DeviceDescription {
        &self.description
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        Ok(self.memory_bytes().saturating_sub(self.allocated_bytes()))
    }

    fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes()
    }

    fn peak_bytes(&self) -> u64 {
        self.state().peak_bytes
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
        let address = self.machine.allocate(layout(bytes), GUARD)? + GUARD_BYTES as u64;
        self.machine.write(address, &vec![POISON; bytes])?;
        self.state().allocations.insert(address, bytes);
        let in_use = self.allocated_bytes();
        let mut state = self.state();
        state.peak_bytes = state.peak_bytes.max(in_use);
        Ok(address)
    }

    fn release(&self, address: u64, bytes: usize) {
        let known = self.state().allocations.remove(&address);
        assert_eq!(known, Some(bytes), "released as it was allocated");
        let held = self.guards_hold(address, bytes);
        self.machine.release(address - GUARD_BYTES as u64, layout(bytes));
        let told = self.state().failed || std::thread::panicking();
        assert!(held || told, "{bytes} bytes were written past their end");
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check_range("upload", address, bytes.len())?;
        self.machine.write(address, bytes)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check_range("download", address, bytes.len())?;
        self.machine.read(address, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let limit = self.description.shared_bytes;
        if launch.shared_bytes > limit {
            let reason = format!("{} bytes of shared memory of {limit}", launch.shared_bytes);
            return Err(self.failed(launch.kernel, reason));
        }
        if self.allocated_bytes() > self.memory_bytes() {
            let doing = format!("starting {}", launch.kernel);
            let device = self.description.name.clone();
            return Err(DeviceError::MemoryRanOut { device, doing, free_bytes: Some(0) });
        }
        // What every device refuses.
        let [x, y, z] = launch.grid;
        let threads: u32 = launch.block.iter().product();
        let blocks =
            (1..=i32::MAX as u32).contains(&x) && [y, z].iter().all(|it| (1..=65535).contains(it));
        if !blocks || !(1..=1024).contains(&threads) {
            let reason = format!("a grid of {:?} blocks of {threads} threads", launch.grid);
            return Err(self.failed(launch.kernel, reason));
        }
        if self.state().asleep {
            *self.state().launched.entry(launch.kernel.into()).or_default() += 1;
            return Ok(());
        }
        let order = self.state().order;
        let kernel = launch.kernel;
        let copies = if self.description.capability < (8, 0) {
            Copies::AtOnce
        } else {
            Copies::WhenWaitedFor
        };
        let ran = self.machine.launch(launch, order, copies);
        let mut state = self.state();
        let broken = |&(&address, &bytes): &(&u64, &usize)| !self.guards_hold(address, bytes);
        let broken = state.allocations.iter().find(broken);
        let broken = broken.map(|(_, bytes)| format!("a guard band of {bytes} bytes was written"));
        let reason = match ran {
            Err(reason) => Some(reason),
            Ok(counted) => {
                state.counters.add(counted);
                *state.launched.entry(kernel.into()).or_default() += 1;
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
