//! Which NVIDIA devices there are, and why there are none.
#![expect(unsafe_code, reason = "NVIDIA's driver is a C library")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use crate::backend::cuda::driver::DeviceError;
use crate::backend::cuda::images;

/// Oldest compute capability that the kernels are compiled for.
pub const MINIMUM_CAPABILITY: (u32, u32) = (7, 5);

/// Every function of the driver's library that this program calls. All are looked for before a device is opened: the binding
/// looks for each at its first call, and panics there, which may be amid a clip.
pub const FUNCTIONS: [&str; 41] = [
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDeviceGetUuid_v2",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// Why no device can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No driver.
    #[error(
        "no NVIDIA driver is installed (libcuda.so.1 cannot be loaded); install driver {} or newer",
        images::MINIMUM_DRIVER
    )]
    NoDriver,
    /// A driver from before the kernels' time.
    #[error(
        "the NVIDIA driver is too old: it knows CUDA {}.{}; install driver {} or newer",
        .found / 1000, .found % 1000 / 10, images::MINIMUM_DRIVER
    )]
    OldDriver {
        /// As `cuDriverGetVersion` gives it.
        found: u32,
    },
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {reason}; see whether `nvidia-smi` works")]
    Start {
        /// The driver's own words.
        reason: String,
    },
    /// The library lacks a function or misbehaves.
    #[error(
        "the NVIDIA driver's library cannot be used: {reason}; install driver {} or newer",
        images::MINIMUM_DRIVER
    )]
    Library {
        /// What went wrong.
        reason: String,
    },
    /// A driver, and no device.
    #[error("the NVIDIA driver finds no device; see whether `nvidia-smi` lists one")]
    NoDevice,
    /// One that is left out.
    #[error(
        "cuda:{index}: the NVIDIA driver does not say what it is: {reason}; see whether `nvidia-smi` lists it"
    )]
    Silent {
        /// Its number.
        index: u32,
        /// The driver's own words.
        reason: String,
    },
    /// Not that many.
    #[error("there is no device {index}: the driver finds {count}, numbered from 0")]
    NoSuchDevice {
        /// What was asked for.
        index: u32,
        /// What there is.
        count: u32,
    },
    /// An old chip.
    #[error("{name} has compute capability {}.{}, and the kernels need {}.{} (Turing) or newer", .found.0, .found.1, MINIMUM_CAPABILITY.0, MINIMUM_CAPABILITY.1)]
    OldDevice {
        /// Its name.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
    },
    /// A chip that this program has no kernels for.
    #[error("{name} has compute capability {}.{}, for which this slomod has no kernels", .found.0, .found.1)]
    OtherDevice {
        /// Its name.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
    },
    /// This program holds no kernels.
    #[error("this slomod was built without GPU kernels: {reason}")]
    NotBuilt {
        /// Why.
        reason: String,
    },
    /// The device failed while it was opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A device that the driver lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number: `cuda:0`.
    pub index: u32,
    /// As the driver names it.
    pub name: String,
    /// Its own number, as NVIDIA's tools print it; `None` where the driver does not tell it.
    pub uuid: Option<String>,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Device memory, in bytes.
    pub memory_bytes: u64,
}

/// What the driver lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The devices; at least one.
    pub devices: Vec<Found>,
    /// Those of which it does not say what they are: [`FindError::Silent`].
    pub silent: Vec<FindError>,
    /// Its version as `cuDriverGetVersion` gives it.
    pub driver_version: u32,
}

/// All devices. Never panics, whatever is installed.
///
/// # Errors
/// [`FindError`]; of one device only where there is no other.
pub fn devices() -> Result<Listing, FindError> {
    guarded(|| {
        let driver_version = start()?;
        let count = result::device::get_count().map_err(refused)?;
        let (mut devices, mut silent) = (vec![], vec![]);
        for index in 0..u32::try_from(count).unwrap_or_default() {
            match found(index) {
                Ok(device) => devices.push(device),
                Err(FindError::Start { reason }) => {
                    silent.push(FindError::Silent { index, reason })
                }
                Err(error) => silent.push(error),
            }
        }
        if devices.is_empty() {
            return Err(silent.into_iter().next().unwrap_or(FindError::NoDevice));
        }
        Ok(Listing { devices, silent, driver_version })
    })
}

/// Runs what may panic in the binding of the driver's library, which asserts that every function is there.
pub(super) fn guarded<T>(act: impl FnOnce() -> Result<T, FindError>) -> Result<T, FindError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(FindError::Library { reason: text.unwrap_or("unknown failure").to_owned() })
    })
}

/// The driver, ready: its version.
pub(super) fn start() -> Result<u32, FindError> {
    // SAFETY: loads a library and nothing else; the loader runs the library's own initialization.
    let present = unsafe { sys::is_culib_present() };
    if !present {
        return Err(FindError::NoDriver);
    }
    look_for(&["cuDriverGetVersion"])?;
    let mut version = 0;
    // SAFETY: writes one integer; may be called before `cuInit`.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(refused)?;
    let version = u32::try_from(version).unwrap_or_default();
    if version < images::MINIMUM_DRIVER_CUDA {
        return Err(FindError::OldDriver { found: version });
    }
    look_for(&FUNCTIONS)?;
    result::init().map_err(refused)?;
    Ok(version)
}

/// That the library, which is there, has these functions.
fn look_for(functions: &[&str]) -> Result<(), FindError> {
    // SAFETY: as in `start`, which has seen that the library can be loaded.
    let library = unsafe { sys::culib() };
    for name in functions {
        // SAFETY: only asked for, not called.
        if unsafe { library.get::<*const ()>(name.as_bytes()) }.is_err() {
            return Err(FindError::Library { reason: format!("it has no {name}") });
        }
    }
    Ok(())
}

/// What the driver says of a device; it has been started.
pub(super) fn found(index: u32) -> Result<Found, FindError> {
    let device = result::device::get(i32::try_from(index).unwrap_or(i32::MAX)).map_err(refused)?;
    let name = result::device::get_name(device).map_err(refused)?;
    use sys::CUdevice_attribute as Attribute;
    let major = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: the device comes from the driver.
    let memory = unsafe { result::device::total_mem(device) }.map_err(refused)?;
    let (uuid, capability) = (uuid(device), (major, minor));
    Ok(Found { index, name, uuid, capability, memory_bytes: memory as u64 })
}

/// A number that the driver gives of a device.
pub(super) fn attribute(
    device: sys::CUdevice,
    attribute: sys::CUdevice_attribute,
) -> Result<u32, FindError> {
    // SAFETY: the device comes from the driver.
    let value = unsafe { result::device::get_attribute(device, attribute) }.map_err(refused)?;
    Ok(u32::try_from(value).unwrap_or_default())
}

/// As NVIDIA's tools print it: `GPU-` or, of an instance of a device that is divided (MIG), `MIG-`, and 32 hex digits in five
/// groups.
fn uuid(device: sys::CUdevice) -> Option<String> {
    let own = uuid_by(sys::cuDeviceGetUuid_v2, device)?;
    // The older function gives the number of the whole device where the newer one gives the instance's.
    let whole = uuid_by(sys::cuDeviceGetUuid, device);
    let kind = if whole.is_some_and(|whole| whole != own) { "MIG" } else { "GPU" };
    let digits: String = own.iter().map(|byte| format!("{byte:02x}")).collect();
    let group = |range: std::ops::Range<usize>| &digits[range];
    let groups = [group(0..8), group(8..12), group(12..16), group(16..20), group(20..32)];
    Some(format!("{kind}-{}", groups.join("-")))
}

fn uuid_by(
    ask: unsafe fn(*mut sys::CUuuid, sys::CUdevice) -> sys::CUresult,
    device: sys::CUdevice,
) -> Option<[u8; 16]> {
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: the device comes from the driver, which writes 16 bytes.
    unsafe { ask(&raw mut uuid, device) }.result().ok()?;
    Some(uuid.bytes.map(|byte| byte.to_ne_bytes()[0]))
}

pub(super) fn refused(error: DriverError) -> FindError {
    match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => FindError::NoDevice,
        _ => FindError::Start { reason: words(error) },
    }
}

/// The driver's own words for an error.
pub(super) fn words(error: DriverError) -> String {
    let text = |text: Result<&std::ffi::CStr, DriverError>| {
        text.map_or_else(|_| "unknown error".to_owned(), |it| it.to_string_lossy().into_owned())
    };
    format!("{} ({})", text(error.error_string()), text(error.error_name()))
}
