//! The backend's own threads, and memory that its tasks write disjoint parts of.
#![expect(unsafe_code, reason = "tasks write disjoint rows of one buffer")]

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

/// A pool of its own, so that the number of threads is what was asked for.
pub(super) struct Threads {
    pool: rayon::ThreadPool,
}

impl Threads {
    /// A pool of `count` threads.
    ///
    /// # Errors
    /// Where the system refuses threads.
    pub(super) fn new(count: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("slomod-cpu-{i}"))
            .build()?;
        Ok(Self { pool })
    }

    /// Number of threads.
    pub(super) fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Calls `task` for 0..count across the threads, and waits.
    pub(super) fn each(&self, count: usize, task: impl Fn(usize) + Send + Sync) {
        if count == 1 {
            return task(0);
        }
        self.pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(task));
    }
}

impl Threads {
    /// Calls `task` for each run of `len` values (the last may be shorter), with its index.
    pub(super) fn chunks(
        &self,
        values: &mut [f32],
        len: usize,
        task: impl Fn(usize, &mut [f32]) + Send + Sync,
    ) {
        let task = |(index, values): (usize, &mut [f32])| task(index, values);
        self.pool.install(|| values.par_chunks_mut(len).enumerate().for_each(task));
    }
}

/// Values of a line of the cache.
const LINE: usize = 16;

/// Memory of each thread's own, kept between calls.
pub(super) struct Scratch(Vec<Mutex<Vec<f32>>>);

impl Scratch {
    /// For `threads` threads.
    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    /// Lends `task` `len` values of arbitrary content from the start of a line of the cache on.
    pub(super) fn with(&self, len: usize, task: impl FnOnce(&mut [f32])) {
        // A task runs to its end on one thread and starts no others, so that the lock is free.
        let own = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        let mut memory = self.0[own].lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() < len + LINE {
            memory.resize(len + LINE, 0.0);
        }
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        task(&mut memory[start..start + len]);
    }
}

/// A buffer that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is only used inside kernels whose tasks touch disjoint parts of the exclusively borrowed buffer.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Takes the buffer for as long as the tasks run.
    pub(super) fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), owner: PhantomData }
    }

    /// Pointer to element `index`.
    ///
    /// # Panics
    /// Where the buffer ends before it.
    #[inline(always)]
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.len, "element {index} of {}", self.len);
        self.start.wrapping_add(index)
    }
}
