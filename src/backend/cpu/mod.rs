//! The CPU backend: packed weights, register-blocked kernels at the best instruction set, rows across threads.

use conv::{Add, Conv};
use deconv::Deconv;
use instructions::{Instructions, Kernels};
use tensor::Tensor;
use threads::Threads;

pub mod conv;
pub mod deconv;
pub mod instructions;
mod pack;
mod simd;
pub mod tensor;
#[cfg(test)]
mod tests;
mod threads;
mod tile;

/// The processor: an instruction set and a pool of threads.
pub struct Cpu {
    instructions: Instructions,
    kernels: Kernels,
    threads: Threads,
}

impl Cpu {
    /// A backend of `threads` threads.
    ///
    /// # Errors
    /// Why the threads could not be had.
    pub fn new(instructions: Instructions, threads: usize) -> Result<Self, String> {
        let threads = Threads::new(threads.max(1)).map_err(|error| error.to_string())?;
        Ok(Self { instructions, kernels: instructions.kernels(), threads })
    }

    /// The instruction set in use.
    #[must_use]
    pub fn instructions(&self) -> Instructions {
        self.instructions
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// `dst = activation(conv(src) + added)`; `dst` takes the shape of the result.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub fn conv(&self, conv: &Conv, (src, added): (&Tensor, Add<'_>), dst: &mut Tensor) {
        conv.run(&self.kernels, &self.threads, (src, added), dst);
    }

    /// `dst = deconv(src)`; `dst` takes the shape of the result.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub fn deconv(&self, deconv: &Deconv, src: &Tensor, dst: &mut Tensor) {
        deconv.run(&self.kernels, &self.threads, src, dst);
    }
}
