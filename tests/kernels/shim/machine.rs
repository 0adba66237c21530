//! Where the tests' kernels run: on this machine's processor, or on a GPU where `SLOMOD_TEST_DEVICE` names one.

use std::alloc::Layout;
use std::sync::{Arc, OnceLock};

use slomod::backend::cuda::driver::{DeviceDescription, DeviceError, Driver, Launch};
use slomod::backend::cuda::nvidia::Nvidia;

use super::library::{Copies, Counters, Library, Order};

/// `cuda` or `cuda:N`: run the tests there.
const VARIABLE: &str = "SLOMOD_TEST_DEVICE";

/// Whether the tests run on a GPU; what only the processor can show is then left out.
pub fn on_gpu() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|name| name != "cpu")
}

/// Says that a test needs the kernels compiled for the processor.
pub fn skipped_on_gpu(what: &str) -> bool {
    if on_gpu() {
        println!("{what}: skipped, {VARIABLE} names a GPU and this is about the processor");
    }
    on_gpu()
}

/// Memory and kernels.
#[derive(Clone, Debug)]
pub enum Machine {
    /// Kernels compiled by g++; device memory is the host's.
    Processor(Arc<Library>),
    /// A real device.
    Gpu(Arc<Nvidia>),
}

impl Machine {
    /// As `SLOMOD_TEST_DEVICE` says.
    pub fn of_environment() -> Self {
        static GPU: OnceLock<Arc<Nvidia>> = OnceLock::new();
        if !on_gpu() {
            return Self::Processor(Library::of_all_kernels());
        }
        let gpu = GPU.get_or_init(|| {
            let name = std::env::var(VARIABLE).unwrap();
            let index = name.strip_prefix("cuda").expect("`cuda` or `cuda:N`");
            let index = index.strip_prefix(':').map_or(0, |number| number.parse().unwrap());
            Arc::new(Nvidia::open(index).unwrap_or_else(|error| panic!("{error}")))
        });
        Self::Gpu(Arc::clone(gpu))
    }

    /// `wished`, with no more shared memory than there is.
    pub fn describe(&self, wished: DeviceDescription) -> DeviceDescription {
        let Self::Gpu(gpu) = self else { return wished };
        let real = gpu.description();
        let shared_bytes = wished.shared_bytes.min(real.shared_bytes);
        let (name, uuid, driver_version) =
            (real.name.clone(), real.uuid.clone(), real.driver_version);
        DeviceDescription { name, uuid, driver_version, shared_bytes, ..wished }
    }

    /// New memory, all of it `fill`.
    pub fn allocate(&self, layout: Layout, fill: u8) -> Result<u64, DeviceError> {
        match self {
            Self::Processor(_) => {
                #[expect(unsafe_code, reason = "device memory is an address")]
                // SAFETY: the layout is not empty; the bytes written are those just allocated.
                unsafe {
                    let start = std::alloc::alloc(layout);
                    assert!(!start.is_null(), "{} bytes of host memory", layout.size());
                    start.write_bytes(fill, layout.size());
                    Ok(start as u64)
                }
            }
            Self::Gpu(gpu) => {
                let address = gpu.allocate(layout.size())?;
                gpu.upload(address, &vec![fill; layout.size()])?;
                Ok(address)
            }
        }
    }

    /// Gives memory back.
    pub fn release(&self, address: u64, layout: Layout) {
        match self {
            Self::Processor(_) => {
                #[expect(unsafe_code, reason = "device memory is an address")]
                // SAFETY: it was allocated here with this layout, and its owner is gone.
                unsafe {
                    std::alloc::dealloc(address as usize as *mut u8, layout);
                }
            }
            Self::Gpu(gpu) => gpu.release(address, layout.size()),
        }
    }

    /// Writes memory that is allocated.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        match self {
            Self::Processor(_) => {
                #[expect(unsafe_code, reason = "device memory is an address")]
                // SAFETY: callers have seen that the range is within one allocation.
                unsafe {
                    std::ptr::copy(bytes.as_ptr(), address as usize as *mut u8, bytes.len());
                }
                Ok(())
            }
            Self::Gpu(gpu) => gpu.upload(address, bytes),
        }
    }

    /// Reads memory that is allocated.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        match self {
            Self::Processor(_) => {
                #[expect(unsafe_code, reason = "device memory is an address")]
                // SAFETY: callers have seen that the range is within one allocation.
                unsafe {
                    std::ptr::copy(address as usize as *const u8, bytes.as_mut_ptr(), bytes.len());
                }
                Ok(())
            }
            Self::Gpu(gpu) => gpu.download(address, bytes),
        }
    }

    /// Runs a kernel to its end; a GPU counts nothing and chooses its own order.
    pub fn launch(
        &self,
        launch: &Launch<'_>,
        order: Order,
        copies: Copies,
    ) -> Result<Counters, String> {
        match self {
            Self::Processor(library) => {
                let Launch { kernel, grid, block, shared_bytes, params } = *launch;
                library.launch(kernel, grid, block, shared_bytes, params, order, copies)
            }
            Self::Gpu(gpu) => {
                gpu.launch(launch).map_err(|error| error.to_string())?;
                gpu.synchronize().map_err(|error| error.to_string())?;
                Ok(Counters::default())
            }
        }
    }
}
