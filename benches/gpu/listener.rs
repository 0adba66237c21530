//! A driver that remembers the launches it passes on.

use std::sync::{Arc, Mutex};

use slomod::backend::cuda::driver::{DeviceDescription, DeviceError, Driver, Launch, OwnedLaunch};

/// Passes everything on.
#[derive(Debug)]
pub struct Listener {
    inner: Arc<dyn Driver>,
    heard: Mutex<Vec<OwnedLaunch>>,
}

impl Listener {
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self { inner, heard: Mutex::default() }
    }

    /// The launches since the last call.
    pub fn take(&self) -> Vec<OwnedLaunch> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Driver for Listener {
    fn description(&self) -> &DeviceDescription {
        self.inner.description()
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        self.inner.free_bytes()
    }

    fn allocated_bytes(&self) -> u64 {
        self.inner.allocated_bytes()
    }

    fn peak_bytes(&self) -> u64 {
        self.inner.peak_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.inner.allocate(bytes)
    }

    fn release(&self, address: u64, bytes: usize) {
        self.inner.release(address, bytes);
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.inner.upload(address, bytes)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.download(address, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.heard.lock().unwrap().push(OwnedLaunch::from(launch));
        self.inner.launch(launch)
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.inner.synchronize()
    }
    // Copies beside the launches and graphs are left at their defaults: everything in order, every launch heard.
}
