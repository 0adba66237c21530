//! One record a frame, kept for the next pair and for every timestep.

use std::sync::Arc;

use crate::frame::{Frame, Picture};

/// Records kept beside one for each picture of a batch: the second frame of its last pair, and one more, for callers
/// that go back a frame (held-out measurement).
const RECORDS_BESIDE: usize = 2;

/// The records of the frames used last.
#[derive(Debug)]
pub(super) struct Records<T> {
    slots: Vec<Record<T>>,
    clock: u64,
    capacity: usize,
}

/// What is kept of a frame.
#[derive(Debug, Default)]
struct Record<T> {
    frame: Option<(u64, Arc<Picture>)>,
    used: u64,
    tensor: T,
}

impl<T: Default> Records<T> {
    /// None yet. Batches of up to `batch` pictures of consecutive pairs find room.
    pub(super) fn new(batch: usize) -> Self {
        Self { slots: vec![], clock: 0, capacity: batch + RECORDS_BESIDE }
    }

    /// Keeps at least `frames` records.
    pub(super) fn keep(&mut self, frames: usize) {
        self.capacity = self.capacity.max(frames);
    }

    /// Records kept at the most.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where the record of a frame lies, if it is there.
    ///
    /// A frame is known again by its index and its picture, so that an engine may be used for one clip after another.
    pub(super) fn find(&mut self, frame: &Frame) -> Option<usize> {
        let same = |record: &Record<T>| {
            let same = |(index, picture): &(u64, Arc<Picture>)| {
                *index == frame.index
                    && (Arc::ptr_eq(picture, &frame.picture) || *picture == frame.picture)
            };
            record.frame.as_ref().is_some_and(same)
        };
        self.clock += 1;
        let slot = self.slots.iter().position(same)?;
        self.slots[slot].used = self.clock;
        Some(slot)
    }

    /// A slot to write: the one that was used longest ago and is not to be kept. It belongs to no frame until
    /// [`Records::name`] says so.
    ///
    /// # Panics
    /// If all are to be kept.
    pub(super) fn free_slot(&mut self, keep: &[usize]) -> usize {
        if self.slots.len() < self.capacity {
            self.slots.push(Record::default());
        }
        self.clock += 1;
        let candidates = (0..self.slots.len()).filter(|slot| !keep.contains(slot));
        let oldest = candidates.min_by_key(|slot| {
            let record = &self.slots[*slot];
            (record.frame.is_some(), record.used)
        });
        let Some(slot) = oldest else { panic!("more frames in a batch than there are records") };
        (self.slots[slot].frame, self.slots[slot].used) = (None, self.clock);
        slot
    }

    /// Says whose record lies in a slot.
    pub(super) fn name(&mut self, slot: usize, frame: &Frame) {
        self.slots[slot].frame = Some((frame.index, Arc::clone(&frame.picture)));
    }

    /// Forgets whose records these are; the memory stays.
    pub(super) fn forget(&mut self) {
        self.slots.iter_mut().for_each(|record| record.frame = None);
    }

    /// The record in a slot.
    pub(super) fn tensor(&self, slot: usize) -> &T {
        &self.slots[slot].tensor
    }

    /// The record in a slot, to write.
    pub(super) fn tensor_mut(&mut self, slot: usize) -> &mut T {
        &mut self.slots[slot].tensor
    }
}
