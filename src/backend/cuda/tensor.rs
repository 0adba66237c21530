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

impl Tensor {
    /// Takes a shape of [`Layout::Half`]; the memory is kept where it suffices. The content is unspecified afterwards.
    ///
    /// # Errors
    /// As [`Driver::allocate`].
    pub fn reshape(
        &mut self,
        driver: &Arc<dyn Driver>,
        [n, h, w, c]: [usize; 4],
        stored: usize,
    ) -> Result<(), DeviceError> {
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
