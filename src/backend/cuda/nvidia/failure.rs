//! What errors of NVIDIA's driver mean.

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUcomputemode, CUdevice_attribute as Attribute, CUresult};

use super::find::{attribute, words};
use crate::backend::cuda::driver::{DeviceDescription, DeviceError};

/// What an error of an open device means; its context is current.
pub(super) fn failure(device: &DeviceDescription, doing: &str, error: DriverError) -> DeviceError {
    let name = device.name.clone();
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            let free_bytes = result::mem_get_info().ok().map(|(free, _)| free as u64);
            DeviceError::MemoryRanOut { device: name, doing: doing.to_owned(), free_bytes }
        }
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_CONTAINED
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_NO_DEVICE
        | CUresult::CUDA_ERROR_UNKNOWN => {
            DeviceError::Lost { device: name, doing: doing.to_owned(), reason: words(error) }
        }
        _ => DeviceError::Failed { device: name, doing: doing.to_owned(), reason: words(error) },
    }
}

/// What it means that a device gives no context. There is none then of which to ask how much memory is free.
pub(super) fn not_opened(
    description: &DeviceDescription,
    device: sys::CUdevice,
    error: DriverError,
) -> DeviceError {
    let name = description.name.clone();
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Full { device: name },
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => unavailable(name, device, error),
        _ => failure(description, OPENING, error),
    }
}

const OPENING: &str = "opening the device";

/// By the device's compute mode, which its administrator sets.
fn unavailable(name: String, device: sys::CUdevice, error: DriverError) -> DeviceError {
    let mode = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE).ok();
    let is = |it: CUcomputemode| mode == Some(it as u32);
    if is(CUcomputemode::CU_COMPUTEMODE_PROHIBITED) {
        let reason = "its compute mode (PROHIBITED) lets no program in; `nvidia-smi -c DEFAULT` sets another";
        return DeviceError::Failed {
            device: name,
            doing: OPENING.to_owned(),
            reason: reason.to_owned(),
        };
    }
    let reason = if is(CUcomputemode::CU_COMPUTEMODE_EXCLUSIVE_PROCESS) {
        "another program has the device, whose compute mode (EXCLUSIVE_PROCESS) lets in one at a time; end that program, or \
         set another mode: `nvidia-smi -c DEFAULT`"
            .to_owned()
    } else {
        let words = words(error);
        format!("the device cannot be had now, as another program may have it to itself: {words}")
    };
    DeviceError::Taken { device: name, reason }
}
