//! [`Driver`] over NVIDIA's driver, which is loaded where it is installed: slomod links to nothing of CUDA.
//!
//! Launches run in order on one stream; uploads and downloads of frames on two more, so that they run beside the network.
//! Events order them: a copy waits for the launches that it must follow, launches wait for the copy they read. Memory is
//! allocated once for a size of picture, so allocating and releasing may wait for the device.
#![expect(unsafe_code, reason = "NVIDIA's driver is a C library")]

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use super::driver::{DeviceDescription, DeviceError, Driver, Launch};
use super::images;
use failure::{failure, not_opened};
use find::{FindError, MINIMUM_CAPABILITY, attribute, found, guarded, refused, start};
use lanes::{Lane, Way};

mod failure;
pub mod find;
mod lanes;
mod memory;

/// Uploads up to this length go through a ring of staging buffers and do not wait.
const SMALL_BYTES: usize = 4096;
/// Length of that ring.
const SMALL_LANES: usize = 16;

/// A device with its kernels.
#[derive(Debug)]
pub struct Nvidia {
    description: DeviceDescription,
    device: sys::CUdevice,
    context: sys::CUcontext,
    launches: sys::CUstream,
    uploads: sys::CUstream,
    downloads: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    kernels: HashMap<String, sys::CUfunction>,
    allocated_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    small: Vec<Lane>,
    small_next: usize,
    up: Vec<Lane>,
    down: Vec<Lane>,
    /// Bytes of both that are counted as the device's.
    staged_bytes: u64,
    graphs: HashMap<u64, sys::CUgraphExec>,
    graphs_made: u64,
}

// SAFETY: the driver's handles may be used from any thread; each call makes the context current there first.
unsafe impl Send for Nvidia {}
// SAFETY: as above; what changes is behind a mutex.
unsafe impl Sync for Nvidia {}

impl Nvidia {
    /// Opens a device and loads its kernels. Never panics, whatever is installed.
    ///
    /// # Errors
    /// [`FindError`].
    pub fn open(index: u32) -> Result<Self, FindError> {
        images::built().map_err(|reason| FindError::NotBuilt { reason: reason.to_owned() })?;
        guarded(|| Self::open_unguarded(index))
    }

    fn open_unguarded(index: u32) -> Result<Self, FindError> {
        let driver_version = start()?;
        let count = result::device::get_count().map_err(refused)?;
        let count = u32::try_from(count).unwrap_or_default();
        if count == 0 {
            return Err(FindError::NoDevice);
        }
        if index >= count {
            return Err(FindError::NoSuchDevice { index, count });
        }
        let it = found(index)?;
        if it.capability < MINIMUM_CAPABILITY {
            return Err(FindError::OldDevice { name: it.name, found: it.capability });
        }
        let device =
            result::device::get(i32::try_from(index).unwrap_or(i32::MAX)).map_err(refused)?;
        let multiprocessors =
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let shared_bytes =
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let description = DeviceDescription {
            name: it.name,
            uuid: it.uuid,
            capability: it.capability,
            multiprocessors,
            shared_bytes,
            memory_bytes: it.memory_bytes,
            uses_host_memory: memory::is_the_hosts(device),
            driver_version,
        };
        // SAFETY: the device comes from the driver; the context is released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(|error| not_opened(&description, device, error))?;
        let mut nvidia = Self {
            description,
            device,
            context,
            launches: std::ptr::null_mut(),
            uploads: std::ptr::null_mut(),
            downloads: std::ptr::null_mut(),
            modules: vec![],
            kernels: HashMap::new(),
            allocated_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            state: Mutex::default(),
        };
        let stream = || result::stream::create(result::stream::StreamKind::NonBlocking);
        nvidia.launches = nvidia.call("making a stream", stream)?;
        nvidia.uploads = nvidia.call("making a stream", stream)?;
        nvidia.downloads = nvidia.call("making a stream", stream)?;
        nvidia.load_kernels()?;
        Ok(nvidia)
    }

    /// Every kernel by name, each with all the shared memory it may have.
    fn load_kernels(&mut self) -> Result<(), FindError> {
        for source in images::sources() {
            let Some(image) = images::image_for(self.description.capability, source) else {
                let (name, found) = (self.description.name.clone(), self.description.capability);
                return Err(FindError::OtherDevice { name, found });
            };
            let doing = format!("loading the kernels of {source} for {}", image.target);
            // SAFETY: the image is whole machine code, or PTX that ends in a zero byte.
            let load = || unsafe { result::module::load_data(image.bytes.as_ptr().cast()) };
            let module = self.call(&doing, load)?;
            self.modules.push(module);
            let names = images::resources().iter().filter(|it| it.source == source);
            for name in names.map(|it| it.kernel) {
                if !self.kernels.contains_key(name) {
                    let function = self.call(&doing, || self.kernel(module, name))?;
                    self.kernels.insert(name.to_owned(), function);
                }
            }
        }
        Ok(())
    }

    fn kernel(&self, module: sys::CUmodule, name: &str) -> Result<sys::CUfunction, DriverError> {
        use sys::CUfunction_attribute_enum as Of;
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the module was loaded just now and stays until `drop`.
        let function = unsafe { result::module::get_function(module, name) }?;
        let fixed = Of::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: the function was found just now.
        let fixed = unsafe { result::function::get_function_attribute(function, fixed) }?;
        let most = i32::try_from(self.description.shared_bytes).unwrap_or(i32::MAX) - fixed;
        let dynamic = Of::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function was found just now.
        unsafe { result::function::set_function_attribute(function, dynamic, most) }?;
        Ok(function)
    }

    /// Makes a call of the driver with the context current on this thread.
    fn call<T>(
        &self,
        doing: &str,
        act: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        // SAFETY: the context is retained until `drop`.
        let entered = unsafe { result::ctx::set_current(self.context) };
        entered.and_then(|()| act()).map_err(|error| failure(&self.description, doing, error))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the lanes' memory where it is the device's as well.
    fn count_lanes(&self, state: &mut State) {
        if !self.description.uses_host_memory {
            return;
        }
        let bytes = state.up.iter().chain(&state.down).map(|lane| lane.bytes() as u64).sum();
        let before = std::mem::replace(&mut state.staged_bytes, bytes);
        self.count(bytes.saturating_sub(before));
        self.allocated_bytes.fetch_sub(before.saturating_sub(bytes), Ordering::Relaxed);
    }

    /// Counts more memory.
    fn count(&self, bytes: u64) {
        let before = self.allocated_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.peak_bytes.fetch_max(before + bytes, Ordering::Relaxed);
    }

    /// Waits for all three streams.
    fn wait_for_all(&self) -> Result<(), DriverError> {
        for stream in [self.uploads, self.launches, self.downloads] {
            // SAFETY: the stream lives until `drop`.
            unsafe { result::stream::synchronize(stream) }?;
        }
        Ok(())
    }

    /// A short upload through a staging buffer of its own, in the order of the launches.
    fn upload_small(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let at = state.small_next % SMALL_LANES;
        state.small_next = (at + 1) % SMALL_LANES;
        self.call("copying to the device", || {
            let lane = lane(&mut state.small, at, Way::In)?;
            lane.wait()?;
            let staged = lane.reserve(bytes.len())?;
            staged.copy_from_slice(bytes);
            // SAFETY: the caller's memory is that long; the lane is not written before `copied`.
            unsafe { result::memcpy_htod_async(address, staged, self.launches) }?;
            record(lane.copied, self.launches)
        })
    }
}

/// Lane `index`, made where it is not there.
fn lane(lanes: &mut Vec<Lane>, index: usize, way: Way) -> Result<&mut Lane, DriverError> {
    while lanes.len() <= index {
        lanes.push(Lane::new(way)?);
    }
    Ok(&mut lanes[index])
}

/// Marks a point in a stream.
fn record(event: sys::CUevent, stream: sys::CUstream) -> Result<(), DriverError> {
    // SAFETY: both live until the device is closed.
    unsafe { result::event::record(event, stream) }
}

/// Lets a stream wait for a point in another; not at all where the event was never recorded.
fn follow(stream: sys::CUstream, event: sys::CUevent) -> Result<(), DriverError> {
    let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
    // SAFETY: both live until the device is closed.
    unsafe { result::stream::wait_event(stream, event, flags) }
}

impl Driver for Nvidia {
    fn description(&self) -> &DeviceDescription {
        &self.description
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        self.call("asking for free memory", || {
            memory::free_bytes(self.description.uses_host_memory)
        })
    }

    fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes.load(Ordering::Relaxed)
    }

    fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        // SAFETY: the memory is given back once, in `release`. No memory at all is not asked for.
        let allocate = || unsafe { result::malloc_sync(bytes.max(1)) };
        let allocated = self.call("allocating memory", allocate).map_err(|error| match error {
            DeviceError::MemoryRanOut { device, free_bytes: Some(free_bytes), .. } => {
                DeviceError::OutOfMemory { device, wanted_bytes: bytes as u64, free_bytes }
            }
            other => other,
        });
        if allocated.is_ok() {
            self.count(bytes as u64);
        }
        allocated
    }

    fn release(&self, address: u64, bytes: usize) {
        self.allocated_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        let freed = self.call("giving memory back", || {
            self.wait_for_all()?;
            // SAFETY: it came from `allocate`, and nothing that was asked for uses it any more.
            unsafe { result::free_sync(address) }
        });
        if let Err(error) = freed {
            // Whatever failed is told by the next op; the context's end frees all.
            log::debug!("{error}");
        }
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        if bytes.len() <= SMALL_BYTES {
            return self.upload_small(address, bytes);
        }
        self.call("copying to the device", || {
            // SAFETY: the caller's memory is that long; `bytes` lives until the stream was waited for.
            unsafe { result::memcpy_htod_async(address, bytes, self.launches) }?;
            // SAFETY: the stream lives until `drop`.
            unsafe { result::stream::synchronize(self.launches) }
        })
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.call("copying from the device", || {
            // SAFETY: the device's memory is that long; `bytes` lives until the stream was waited for.
            unsafe { result::memcpy_dtoh_async(bytes, address, self.launches) }?;
            // SAFETY: the stream lives until `drop`.
            unsafe { result::stream::synchronize(self.launches) }
        })
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let Some(kernel) = self.kernels.get(launch.kernel).copied() else {
            return Err(DeviceError::Failed {
                device: self.description.name.clone(),
                doing: format!("starting {}", launch.kernel),
                reason: "there is no such kernel".to_owned(),
            });
        };
        let ([x, y, z], [a, b, c]) = (launch.grid, launch.block);
        let mut params = [launch.params.as_ptr().cast_mut().cast()];
        let (stream, shared) = (self.launches, launch.shared_bytes);
        let start = || {
            // SAFETY: the kernel takes one struct of this very layout (a test compares), which the driver copies; the
            // addresses in it are the launching op's to answer for.
            unsafe {
                result::launch_kernel(kernel, (x, y, z), (a, b, c), shared, stream, &mut params)
            }
        };
        self.call(&format!("starting {}", launch.kernel), start)
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.call("waiting for the device", || self.wait_for_all())
    }

    fn upload_beside(&self, index: usize, parts: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let copied = self.call("copying a frame to the device", || {
            let lane = lane(&mut state.up, index, Way::In)?;
            lane.wait()?;
            let (copied, used) = (lane.copied, lane.used);
            let mut staged = lane.reserve(parts.iter().map(|(_, bytes)| bytes.len()).sum())?;
            follow(self.uploads, used)?;
            for (address, bytes) in parts {
                let (part, rest) = staged.split_at_mut(bytes.len());
                part.copy_from_slice(bytes);
                // SAFETY: the caller's memory is that long; the lane is not written before `copied`.
                unsafe { result::memcpy_htod_async(*address, part, self.uploads) }?;
                staged = rest;
            }
            record(copied, self.uploads)?;
            follow(self.launches, copied)
        });
        self.count_lanes(&mut state);
        copied
    }

    fn consumed(&self, index: usize) -> Result<(), DeviceError> {
        let mut state = self.lock();
        self.call("marking a frame as read", || {
            record(lane(&mut state.up, index, Way::In)?.used, self.launches)
        })
    }

    fn download_beside(&self, index: usize, address: u64, bytes: usize) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let begun = self.call("copying a picture from the device", || {
            let lane = lane(&mut state.down, index, Way::Out)?;
            // A picture that nobody collected may still be on its way.
            lane.wait()?;
            record(lane.used, self.launches)?;
            follow(self.downloads, lane.used)?;
            let copied = lane.copied;
            let staged = lane.reserve(bytes)?;
            // SAFETY: the device's memory is that long; the lane is not read before `copied`.
            unsafe { result::memcpy_dtoh_async(staged, address, self.downloads) }?;
            record(copied, self.downloads)
        });
        self.count_lanes(&mut state);
        begun
    }

    fn collect(
        &self,
        index: usize,
        address: u64,
        parts: &mut [(u64, &mut [u8])],
    ) -> Result<(), DeviceError> {
        let mut state = self.lock();
        self.call("waiting for a picture", || {
            let lane = lane(&mut state.down, index, Way::Out)?;
            lane.wait()?;
            for (from, bytes) in parts {
                let start = usize::try_from(*from - address).unwrap_or(usize::MAX);
                bytes.copy_from_slice(&lane.slice(start + bytes.len())[start..]);
            }
            Ok(())
        })
    }

    fn empty_lanes(&self) {
        let mut state = self.lock();
        let emptied = self.call("giving staging memory back", || {
            self.wait_for_all()?;
            let State { up, down, .. } = &mut *state;
            up.iter_mut().chain(down).try_for_each(Lane::empty)
        });
        self.count_lanes(&mut state);
        if let Err(error) = emptied {
            log::debug!("{error}");
        }
    }

    fn begin_capture(&self) -> Result<bool, DeviceError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives until `drop`, and nothing but launches follows until `end_capture`.
        let begin = || unsafe { result::stream::begin_capture(self.launches, mode) };
        self.call("beginning a graph", begin)?;
        Ok(true)
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        let graph = self.call("making a graph", || {
            // SAFETY: the stream is being captured.
            let graph = unsafe { result::stream::end_capture(self.launches) }?;
            let mut ready = std::ptr::null_mut();
            // SAFETY: the graph was made just now; writes one handle.
            let made = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut ready, graph, 0) };
            // SAFETY: the graph was made just now and is not used again.
            let _ = unsafe { result::graph::destroy(graph) };
            made.result().map(|()| ready)
        })?;
        let mut state = self.lock();
        state.graphs_made += 1;
        let number = state.graphs_made;
        state.graphs.insert(number, graph);
        Ok(number)
    }

    fn replay(&self, graph: u64) -> Result<(), DeviceError> {
        let Some(ready) = self.lock().graphs.get(&graph).copied() else {
            return Err(DeviceError::Failed {
                device: self.description.name.clone(),
                doing: format!("starting graph {graph}"),
                reason: "there is no such graph".to_owned(),
            });
        };
        // SAFETY: the graph is destroyed only in `forget` and `drop`.
        self.call("starting a graph", || unsafe { result::graph::launch(ready, self.launches) })
    }

    fn forget(&self, graph: u64) {
        let Some(ready) = self.lock().graphs.remove(&graph) else { return };
        let forgotten = self.call("giving a graph up", || {
            self.wait_for_all()?;
            // SAFETY: it was taken out of the map, and its launches are done.
            unsafe { result::graph::exec_destroy(ready) }
        });
        if let Err(error) = forgotten {
            log::debug!("{error}");
        }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.lock());
        let closed = self.call("closing the device", || {
            self.wait_for_all()?;
            let State { small, up, down, graphs, .. } = &mut state;
            small.iter_mut().chain(up).chain(down).for_each(Lane::close);
            for graph in graphs.values().copied() {
                // SAFETY: its launches are done, and it is not used again.
                unsafe { result::graph::exec_destroy(graph) }?;
            }
            for module in self.modules.iter().copied() {
                // SAFETY: its kernels are done, and not used again.
                unsafe { result::module::unload(module) }?;
            }
            for stream in [self.launches, self.uploads, self.downloads] {
                if !stream.is_null() {
                    // SAFETY: the stream is empty and not used again.
                    unsafe { result::stream::destroy(stream) }?;
                }
            }
            Ok(())
        });
        if let Err(error) = closed {
            log::debug!("{error}");
        }
        // SAFETY: retained once in `open`; what was left above goes with the context.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
