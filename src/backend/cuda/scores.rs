//! Compares pictures of the host on the device: the sums behind PSNR and SSIM, beside the network.
//!
//! A comparison is asked for on the thread of all other ops, between two of them and never within a sequence of the
//! [`recorder`](super::recorder), which passes its launches on at once: they are in the order of the calls on the stream of
//! the network's launches, and in no graph. Pictures go up in lanes of their own, so that no frame of the network waits for
//! them; the sums come down in a lane as a finished picture does, and whoever asked goes on until they are fetched.
//!
//! Their memory is not the network's: [`need_bytes`] says what they take, so that whoever plans sees to it that it is had
//! beside the network's and the reserve. Where memory runs out all the same, of the device or of the host for staging, it is
//! given back and the network is left alone.

use std::sync::Arc;

use super::color::PlaneLayout;
use super::driver::{Buffer, DeviceError, Driver, staging_bytes};
use super::metrics::{PictureMeasures, TOTALS_BYTES};
use super::pictures::{Downloads, Lane, UPLOAD_LANES};
use crate::frame::{Picture, PictureFormat};
use crate::ops::metrics::Measures;

/// Pictures that are compared with the true one at a time, at the most.
pub const COMPARED: usize = 3;

/// What comparisons of pictures of a format take of the device, in bytes, with the lane that their sums may hold of the
/// pictures' own.
#[must_use]
pub fn need_bytes(format: PictureFormat) -> u64 {
    let planes = PlaneLayout::of(format).bytes();
    let lane = planes.max(COMPARED * TOTALS_BYTES);
    ((1 + COMPARED) * planes + PictureMeasures::bytes(format) + lane) as u64
}

/// Bytes of the host's memory that copies of pictures for comparisons take: those of a device that uses it as well.
#[must_use]
pub fn lanes_bytes(format: PictureFormat) -> u64 {
    ((1 + COMPARED) * staging_bytes(PlaneLayout::of(format).bytes())) as u64
}

/// Memory for comparisons: had for the first picture of a format, and used again for the others.
#[derive(Debug, Default)]
pub(super) struct Scores {
    memory: Option<Memory>,
    /// Pictures of this format found no room.
    crowded: Option<PictureFormat>,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Memory {
    format: PictureFormat,
    measures: PictureMeasures,
    /// Planes: the true picture's first.
    planes: [Buffer; 1 + COMPARED],
}

/// A comparison that was asked for.
#[derive(Debug)]
struct Pending {
    lane: Arc<Lane>,
    count: usize,
}

impl Memory {
    fn new(driver: &Arc<dyn Driver>, format: PictureFormat) -> Result<Self, DeviceError> {
        let plane = || Buffer::new(driver, PlaneLayout::of(format).bytes());
        let measures = PictureMeasures::new(driver, format)?;
        Ok(Self { format, measures, planes: [plane()?, plane()?, plane()?, plane()?] })
    }
}

impl Scores {
    /// Asks for a comparison, and forgets an earlier one; false where there is no room for it beside the network.
    ///
    /// # Panics
    /// If there are more than [`COMPARED`] pictures, or one of another format.
    pub(super) fn start(
        &mut self,
        driver: &Arc<dyn Driver>,
        downloads: &mut Downloads,
        truth: &Picture,
        compared: &[&Picture],
    ) -> Result<bool, DeviceError> {
        assert!(compared.len() <= COMPARED, "{} pictures at a time", compared.len());
        assert!(compared.iter().all(|it| it.format == truth.format), "pictures of one format");
        self.pending = None;
        if self.crowded == Some(truth.format) {
            return Ok(false);
        }
        match self.begin(driver, downloads, truth, compared) {
            Ok(()) => Ok(true),
            Err(error) => self.give_up(truth.format, error).map(|()| false),
        }
    }

    /// Where memory ran out, nothing more is tried with pictures of this format; any other error stays one.
    fn give_up(&mut self, format: PictureFormat, error: DeviceError) -> Result<(), DeviceError> {
        if !error.is_of_memory() {
            return Err(error);
        }
        log::warn!("frames are scored on the CPU: {error}");
        (self.memory, self.pending, self.crowded) = (None, None, Some(format));
        Ok(())
    }

    fn begin(
        &mut self,
        driver: &Arc<dyn Driver>,
        downloads: &mut Downloads,
        truth: &Picture,
        compared: &[&Picture],
    ) -> Result<(), DeviceError> {
        let memory = match self.memory.take() {
            Some(memory) if memory.format == truth.format => memory,
            other => {
                drop(other);
                Memory::new(driver, truth.format)?
            }
        };
        let memory = self.memory.insert(memory);
        let layout = PlaneLayout::of(truth.format);
        let addresses = memory.planes.each_ref().map(Buffer::address);
        let pictures = std::iter::once(&truth).chain(compared);
        for ((index, picture), start) in pictures.enumerate().zip(addresses) {
            let planes = picture.planes.iter().map(Vec::as_slice).enumerate();
            let parts: Vec<(u64, &[u8])> =
                planes.map(|(plane, bytes)| (layout.plane_address(start, plane), bytes)).collect();
            driver.upload_beside(UPLOAD_LANES + index, &parts)?;
        }
        let bytes = compared.len() * TOTALS_BYTES;
        let lane = downloads.idle(driver, bytes)?;
        let (first, others) = (addresses[0], &addresses[1..=compared.len()]);
        memory.measures.start(driver, first, others, lane.address())?;
        (0..=compared.len()).try_for_each(|index| driver.consumed(UPLOAD_LANES + index))?;
        lane.start(driver, bytes)?;
        self.pending = Some(Pending { lane, count: compared.len() });
        Ok(())
    }

    /// Waits for the comparison that was asked for last; none where there is none.
    pub(super) fn finish(
        &mut self,
        driver: &Arc<dyn Driver>,
    ) -> Result<Option<Vec<Measures>>, DeviceError> {
        let (Some(Pending { lane, count }), Some(memory)) = (self.pending.take(), &self.memory)
        else {
            return Ok(None);
        };
        let mut totals = [0; COMPARED * TOTALS_BYTES];
        if let Err(error) = lane.fetch(driver, &mut totals[..count * TOTALS_BYTES]) {
            let format = memory.format;
            return self.give_up(format, error).map(|()| None);
        }
        let (totals, _) = totals.as_chunks::<TOTALS_BYTES>();
        Ok(Some(totals[..count].iter().map(|it| memory.measures.measures(it)).collect()))
    }
}
