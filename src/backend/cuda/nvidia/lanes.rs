//! Host memory that the device reads and writes by itself, with the events that order its copies.
#![expect(unsafe_code, reason = "NVIDIA's driver is a C library")]

use std::ptr;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use crate::backend::cuda::driver::staging_bytes;

/// Which way a lane's copies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Written by the host, and never read by it.
    In,
    /// Read by the host.
    Out,
}

/// One staging buffer in pinned host memory. All methods want the context to be current.
#[derive(Debug)]
pub(super) struct Lane {
    way: Way,
    memory: *mut u8,
    bytes: usize,
    /// The last copy is done.
    pub(super) copied: sys::CUevent,
    /// Uploads: the launches that read the last copy are done. Downloads: those that made it are.
    pub(super) used: sys::CUevent,
}

impl Lane {
    /// A lane without memory.
    pub(super) fn new(way: Way) -> Result<Self, DriverError> {
        // Waiting threads sleep: the processor has frames to decode and encode.
        let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32
            | sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        Ok(Self {
            way,
            memory: ptr::null_mut(),
            bytes: 0,
            copied: event(flags)?,
            used: event(flags)?,
        })
    }

    /// Bytes of its memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waits until the last copy is done; at once where there was none.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the event lives as long as the lane.
        unsafe { result::event::synchronize(self.copied) }
    }

    /// At least so many bytes, unspecified; no copy may be under way.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<&mut [u8], DriverError> {
        if self.bytes < bytes {
            self.free();
            let wanted = staging_bytes(bytes);
            let flags = match self.way {
                Way::In => sys::CU_MEMHOSTALLOC_WRITECOMBINED,
                Way::Out => 0,
            };
            // SAFETY: the context is current; the memory is given back once, in `free`.
            self.memory = unsafe { result::malloc_host(wanted, flags) }?.cast();
            // SAFETY: the memory is new and `wanted` bytes long. Slices want initialized memory.
            unsafe { self.memory.write_bytes(0, wanted) };
            self.bytes = wanted;
        }
        Ok(self.slice(bytes))
    }

    /// The first bytes; no copy may be under way.
    ///
    /// # Panics
    /// If the lane is shorter.
    pub(super) fn slice(&mut self, bytes: usize) -> &mut [u8] {
        assert!(bytes <= self.bytes, "{bytes} bytes of a lane of {}", self.bytes);
        if bytes == 0 {
            return &mut [];
        }
        // SAFETY: the memory is that long, initialized, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.memory, bytes) }
    }

    /// Gives the memory back, once the last copy is done.
    pub(super) fn empty(&mut self) -> Result<(), DriverError> {
        self.wait()?;
        self.free();
        Ok(())
    }

    fn free(&mut self) {
        if !self.memory.is_null() {
            // SAFETY: it came from `malloc_host`, and no copy is under way. An error leaves it to the context's end.
            let _ = unsafe { result::free_host(self.memory.cast()) };
        }
        (self.memory, self.bytes) = (ptr::null_mut(), 0);
    }

    /// Gives everything back, once the last copy is done.
    pub(super) fn close(&mut self) {
        // A lost device does not answer; its context's end frees all.
        let _ = self.empty();
        for event in [self.copied, self.used] {
            // SAFETY: the event was made in `new`, and the lane is not used again.
            let _ = unsafe { result::event::destroy(event) };
        }
    }
}

fn event(flags: u32) -> Result<sys::CUevent, DriverError> {
    let mut event = ptr::null_mut();
    // SAFETY: writes one handle; the context is current.
    unsafe { sys::cuEventCreate(&raw mut event, flags) }.result()?;
    Ok(event)
}
