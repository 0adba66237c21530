//! Tensors in device memory: activations, records, images and block outputs; formats as in `kernels/params.h`.

use std::sync::Arc;

use super::driver::{Buffer, DeviceError, Driver};
use crate::ops::tensor::Shape;

/// What lies in a [`Tensor`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `half [n, h, w, stored]`: activations, records and images.
    #[default]
    Half,
    /// A block's output: `float [n, h, w, 4]`, then `half [n, h, w]`, then `half [n, h, w, 8]` where features are handed
    /// on, each part starting at a multiple of 256 bytes.
    Output,
}

/// `n` pictures of `h` rows, `w` columns and `c` channels in use.
#[derive(Debug, Default)]
pub struct Tensor {
    /// Pictures of the batch.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels in use.
    pub c: usize,
    /// Channels in memory ([`Layout::Half`]), or 8 where features are handed on ([`Layout::Output`]).
    pub stored: usize,
    /// What lies where.
    pub layout: Layout,
    buffer: Option<Buffer>,
}

impl Shape for Tensor {
    fn shape(&self) -> [usize; 3] {
        [self.h, self.w, self.c]
    }
}

/// Parts of an output start at multiples of this.
const PART_ALIGNMENT: usize = 256;
/// Bytes of a picture of [`Layout::Half`]: kernels count them with 32 bits (`halo_pieces` in `kernels/tile.cuh`).
const PICTURE_BYTES_MAX: usize = u32::MAX as usize;

impl Tensor {
    /// Takes a shape of [`Layout::Half`]; the memory is kept where it suffices. The content is unspecified afterwards.
    ///
    /// # Errors
    /// As [`Driver::allocate`]; as if memory had run out where a picture takes 4 GiB or more.
    pub fn reshape(
        &mut self,
        driver: &Arc<dyn Driver>,
        [n, h, w, c]: [usize; 4],
        stored: usize,
    ) -> Result<(), DeviceError> {
        if 2 * h * w * stored >= PICTURE_BYTES_MAX {
            return Err(DeviceError::MemoryRanOut {
                device: driver.description().name.clone(),
                doing: format!("making a tensor of {w}x{h} with {stored} channels, 4 GiB or more"),
                free_bytes: Some(driver.free_bytes()?),
            });
        }
        (self.n, self.h, self.w, self.c, self.stored) = (n, h, w, c, stored);
        self.layout = Layout::Half;
        self.reserve(driver, 2 * n * h * w * stored)
    }

    /// Takes a shape of [`Layout::Output`] with `handed_on` (0 or 8) features behind flow and mask.
    ///
    /// # Errors
    /// As [`Driver::allocate`].
    pub fn reshape_output(
        &mut self,
        driver: &Arc<dyn Driver>,
        [n, h, w]: [usize; 3],
        handed_on: usize,
    ) -> Result<(), DeviceError> {
        (self.n, self.h, self.w, self.c, self.stored) = (n, h, w, 5 + handed_on, handed_on);
        self.layout = Layout::Output;
        let bytes = self.handed_offset() + 2 * n * h * w * handed_on;
        self.reserve(driver, bytes)
    }

    fn reserve(&mut self, driver: &Arc<dyn Driver>, bytes: usize) -> Result<(), DeviceError> {
        if self.buffer.as_ref().is_none_or(|buffer| buffer.bytes() < bytes) {
            self.buffer = None;
            self.buffer = Some(Buffer::new(driver, bytes)?);
        }
        Ok(())
    }

    /// Where it lies on the device; for an output, where the flow lies. 0 before the first `reshape`.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.buffer.as_ref().map_or(0, Buffer::address)
    }

    /// Where the mask of an output lies.
    #[must_use]
    pub fn mask_address(&self) -> u64 {
        self.address() + self.mask_offset() as u64
    }

    /// Where the features of an output lie; 0 where it has none.
    #[must_use]
    pub fn handed_address(&self) -> u64 {
        if self.stored == 0 { 0 } else { self.address() + self.handed_offset() as u64 }
    }

    /// Bytes of device memory in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::bytes)
    }

    fn mask_offset(&self) -> usize {
        (16 * self.n * self.h * self.w).next_multiple_of(PART_ALIGNMENT)
    }

    fn handed_offset(&self) -> usize {
        (self.mask_offset() + 2 * self.n * self.h * self.w).next_multiple_of(PART_ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::counter::Counter;
    use super::super::driver::DeviceDescription;
    use super::*;

    #[test]
    fn a_picture_that_kernels_cannot_count_is_refused_as_too_large() {
        let driver: Arc<dyn Driver> = Arc::new(Counter::of(DeviceDescription {
            name: "counter".into(),
            uuid: None,
            capability: (9, 0),
            multiprocessors: 132,
            shared_bytes: 227 << 10,
            memory_bytes: 64 << 30,
            uses_host_memory: false,
            driver_version: 0,
        }));
        let mut tensor = Tensor::default();
        let refused = tensor.reshape(&driver, [1, 1 << 14, 1 << 13, 16], 16);
        assert!(matches!(refused, Err(DeviceError::MemoryRanOut { .. })), "{refused:?}");
        tensor.reshape(&driver, [2, 1 << 14, (1 << 13) - 1, 16], 16).unwrap();
    }
}
