//! The seam to the machine that runs the kernels: memory, copies and launches by address and name.
//!
//! [`Driver`] is implemented over NVIDIA's driver, and in the tests over the kernels compiled for the processor, so that
//! both run the same packing, the same launches and the same kernel source.

use std::fmt::Debug;
use std::sync::Arc;

/// Why a device could not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not enough memory.
    #[error(
        "{device}: {wanted_bytes} bytes of device memory are wanted and {free_bytes} are free; use a lower flow scale, \
         a smaller picture, or free the device of other programs"
    )]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Bytes asked for.
        wanted_bytes: u64,
        /// Bytes free at that time.
        free_bytes: u64,
    },
    /// Not enough memory for something whose need the driver does not tell: a graph, a kernel's own memory, staging.
    #[error(
        "{device}: memory ran out while {doing}{}; use a lower flow scale, a smaller picture, or free the device of other \
         programs", and_free(*free_bytes)
    )]
    MemoryRanOut {
        /// Name of the device.
        device: String,
        /// What it was asked to do.
        doing: String,
        /// Bytes free at that time, where that is known.
        free_bytes: Option<u64>,
    },
    /// Not enough memory for this program to begin anything on the device.
    #[error(
        "{device}: no memory of the device is left for even this program's context, some hundreds of MB; free it of other \
         programs"
    )]
    Full {
        /// Name of the device.
        device: String,
    },
    /// The device is another program's.
    #[error("{device}: {reason}")]
    Taken {
        /// Name of the device.
        device: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The device does not answer any more; a new process may find it again.
    #[error("{device}: the device was lost while {doing}: {reason}")]
    Lost {
        /// Name of the device.
        device: String,
        /// What it was asked to do.
        doing: String,
        /// The driver's own words.
        reason: String,
    },
    /// Any other failure.
    #[error("{device}: {doing} failed: {reason}")]
    Failed {
        /// Name of the device.
        device: String,
        /// What it was asked to do.
        doing: String,
        /// The driver's own words.
        reason: String,
    },
}

impl DeviceError {
    /// Whether less memory would have done.
    #[must_use]
    pub fn is_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. } | Self::MemoryRanOut { .. })
    }

    /// Whether the device may work as it is once other programs need less of it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is_of_memory() || matches!(self, Self::Full { .. } | Self::Taken { .. })
    }
}

fn and_free(free_bytes: Option<u64>) -> String {
    free_bytes.map_or_else(String::new, |it| format!(", and {it} bytes of the device's are free"))
}

/// What a device is and what a block of threads may use on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceDescription {
    /// As the driver names it.
    pub name: String,
    /// Its own number, as `GPU-` (or `MIG-`, of an instance of a device that is divided) and 32 hex digits in five groups;
    /// absent where the driver does not tell it.
    pub uuid: Option<String>,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Dynamic shared memory a block may ask for, in bytes.
    pub shared_bytes: u32,
    /// Device memory, in bytes.
    pub memory_bytes: u64,
    /// Whether that is the host's, of which staging memory takes as well.
    pub uses_host_memory: bool,
    /// Version of the driver's CUDA interface, major times 1000 and minor times 10; 0 where there is no driver.
    pub driver_version: u32,
}

impl DeviceDescription {
    /// Newest version of CUDA that the driver knows, such as `12.2`; absent where there is no driver.
    #[must_use]
    pub fn cuda(&self) -> Option<String> {
        let version = self.driver_version;
        (version > 0).then(|| format!("{}.{}", version / 1000, version % 1000 / 10))
    }
}

/// One launch. `params` is the one struct that the kernel takes by value.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Name of the kernel, as in `kernels/`.
    pub kernel: &'a str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
    /// The kernel's parameter struct.
    pub params: &'a [u8],
}

/// A launch that outlives its caller's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedLaunch {
    /// As in [`Launch`].
    pub kernel: String,
    /// As in [`Launch`].
    pub grid: [u32; 3],
    /// As in [`Launch`].
    pub block: [u32; 3],
    /// As in [`Launch`].
    pub shared_bytes: u32,
    /// As in [`Launch`].
    pub params: Vec<u8>,
}

impl From<&Launch<'_>> for OwnedLaunch {
    fn from(launch: &Launch<'_>) -> Self {
        Self {
            kernel: launch.kernel.to_owned(),
            grid: launch.grid,
            block: launch.block,
            shared_bytes: launch.shared_bytes,
            params: launch.params.to_vec(),
        }
    }
}

impl OwnedLaunch {
    /// The launch, to be made.
    #[must_use]
    pub fn as_launch(&self) -> Launch<'_> {
        Launch {
            kernel: &self.kernel,
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared_bytes,
            params: &self.params,
        }
    }
}

/// A plain struct that a kernel takes by value: `repr(C)`, no padding, no pointers of the host.
pub trait Parameters: Copy {
    /// Its bytes.
    fn as_bytes(&self) -> &[u8] {
        let (start, len) = (std::ptr::from_ref(self).cast::<u8>(), size_of::<Self>());
        #[expect(unsafe_code, reason = "the kernel takes the struct as it lies in memory")]
        // SAFETY: the struct is plain data without padding (see `params`) and lives as long as the borrow.
        unsafe {
            std::slice::from_raw_parts(start, len)
        }
    }
}

/// Bytes of the host's memory that a lane takes for a copy of that many.
#[must_use]
pub fn staging_bytes(bytes: usize) -> usize {
    // So that small changes of size cost nothing.
    bytes.next_multiple_of(4096)
}

/// A machine with kernels. Everything happens in the order of the calls.
pub trait Driver: Debug + Send + Sync {
    /// What it is.
    fn description(&self) -> &DeviceDescription;

    /// Bytes of device memory that are free now.
    ///
    /// # Errors
    /// What the driver says.
    fn free_bytes(&self) -> Result<u64, DeviceError>;

    /// Bytes that [`allocate`](Self::allocate) gave and [`release`](Self::release) has not taken back; and those of lanes, where
    /// the device uses the host's memory.
    fn allocated_bytes(&self) -> u64;

    /// The most bytes that were [`allocated_bytes`](Self::allocated_bytes) at a time since the device was opened.
    fn peak_bytes(&self) -> u64;

    /// New memory, aligned to 256 bytes, its content unspecified: the address.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] and what else the driver says.
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError>;

    /// Gives memory back, once what was asked for before is done.
    fn release(&self, address: u64, bytes: usize);

    /// Copies to the device. `bytes` may be changed as soon as this returns.
    ///
    /// # Errors
    /// What the driver says.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies from the device, and waits for it.
    ///
    /// # Errors
    /// What the driver says, of earlier launches too.
    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// What the driver says; also where there is no such kernel.
    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError>;

    /// Waits until all that was asked for is done.
    ///
    /// # Errors
    /// What the driver says, of earlier launches too.
    fn synchronize(&self) -> Result<(), DeviceError>;

    /// Copies to the device while earlier launches run; later launches see it. `parts`: where to, and what.
    ///
    /// A lane is memory that is used for one copy after another. The copy waits for the launches before the last
    /// [`Driver::consumed`] of the lane and for no others. `parts` may be changed as soon as this returns.
    ///
    /// # Errors
    /// What the driver says.
    fn upload_beside(&self, _lane: usize, parts: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        parts.iter().try_for_each(|(address, bytes)| self.upload(*address, bytes))
    }

    /// All launches that read the lane's last upload have been asked for.
    ///
    /// # Errors
    /// What the driver says.
    fn consumed(&self, _lane: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Begins to copy `bytes` from the device while later launches run; [`Driver::collect`] gets them. Until then
    /// nothing may write there. Lanes of downloads are numbered apart from those of uploads.
    ///
    /// # Errors
    /// What the driver says.
    fn download_beside(
        &self,
        _lane: usize,
        _address: u64,
        _bytes: usize,
    ) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Waits for the lane's last [`Driver::download_beside`] from `address`, and fills `parts`: from where on, and what.
    ///
    /// # Errors
    /// What the driver says, of earlier launches too.
    fn collect(
        &self,
        _lane: usize,
        _address: u64,
        parts: &mut [(u64, &mut [u8])],
    ) -> Result<(), DeviceError> {
        parts.iter_mut().try_for_each(|(from, bytes)| self.download(*from, bytes))
    }

    /// Gives back the memory of all lanes, once their copies are done. What was not collected is lost.
    fn empty_lanes(&self) {}

    /// From now on launches are collected into a graph, not started, where this gives true.
    ///
    /// # Errors
    /// What the driver says.
    fn begin_capture(&self) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// The number of the graph of the launches since [`Driver::begin_capture`].
    ///
    /// # Errors
    /// What the driver says.
    fn end_capture(&self) -> Result<u64, DeviceError> {
        Ok(0)
    }

    /// Starts all launches of a graph.
    ///
    /// # Errors
    /// What the driver says.
    fn replay(&self, _graph: u64) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Gives a graph up, once its launches are done.
    fn forget(&self, _graph: u64) {}
}

/// Device memory that is given back when dropped.
#[derive(Debug)]
pub struct Buffer {
    driver: Arc<dyn Driver>,
    address: u64,
    bytes: usize,
}

impl Buffer {
    /// New memory, its content unspecified.
    ///
    /// # Errors
    /// As [`Driver::allocate`].
    pub fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Self, DeviceError> {
        Ok(Self { driver: Arc::clone(driver), address: driver.allocate(bytes)?, bytes })
    }

    /// New memory with that content.
    ///
    /// # Errors
    /// As [`Driver::allocate`] and [`Driver::upload`].
    pub fn with_content(driver: &Arc<dyn Driver>, content: &[u8]) -> Result<Self, DeviceError> {
        let buffer = Self::new(driver, content.len())?;
        driver.upload(buffer.address, content)?;
        Ok(buffer)
    }

    /// Where it lies on the device.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.driver.release(self.address, self.bytes);
    }
}
