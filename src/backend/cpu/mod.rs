//! The CPU backend: packed weights, register-blocked kernels at the best instruction set, rows across threads.

use instructions::{Instructions, Kernels};
use tensor::Tensor;
use threads::{Scratch, Threads};

mod backend;
mod color;
pub mod conv;
mod cubic;
pub mod deconv;
mod deconv_tiles;
mod flow_rows;
mod fusion;
mod head;
pub mod instructions;
mod narrow;
#[cfg(test)]
mod network_tests;
mod pack;
mod paired;
mod products;
mod refine;
mod simd;
pub mod similarity;
mod stage;
pub mod tensor;
#[cfg(test)]
mod tests;
mod threads;
mod tile;
mod winograd;

/// The processor: an instruction set and a pool of threads.
pub struct Cpu {
    instructions: Instructions,
    kernels: Kernels,
    threads: Threads,
    scratch: Scratch,
    /// Between the layers of the feature network.
    head: [Tensor; 2],
    /// The last block's output, where it is stored.
    whole: Tensor,
    /// Sums of cells, and what refines the flows.
    refined: [Tensor; 2],
}

impl Cpu {
    /// A backend of `threads` threads.
    ///
    /// # Errors
    /// Why the threads could not be had.
    pub fn new(instructions: Instructions, threads: usize) -> Result<Self, String> {
        let threads = Threads::new(threads.max(1)).map_err(|error| error.to_string())?;
        Ok(Self {
            instructions,
            kernels: instructions.kernels(),
            scratch: Scratch::new(threads.count()),
            threads,
            head: Default::default(),
            whole: Tensor::default(),
            refined: Default::default(),
        })
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
}
