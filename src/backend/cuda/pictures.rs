//! Pictures on their way to the device and back: memory used in turns, so that copies run beside the network.

use std::sync::Arc;

use super::color::{self, PlaneLayout};
use super::driver::{Buffer, DeviceError, Driver};
use super::tensor::Tensor;
use crate::frame::{Picture, PictureFormat};

/// Frames on their way to the device at a time: one is copied while another is read. Lanes from here on are others'.
pub(super) const UPLOAD_LANES: usize = 3;

/// Memory for frames on their way in.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    lanes: [Option<Buffer>; UPLOAD_LANES],
    next: usize,
}

impl Uploads {
    /// The image of a picture.
    pub(super) fn image(
        &mut self,
        driver: &Arc<dyn Driver>,
        picture: &Picture,
        image: &mut Tensor,
    ) -> Result<(), DeviceError> {
        let lane = self.next;
        self.next = (lane + 1) % UPLOAD_LANES;
        let layout = PlaneLayout::of(picture.format);
        let memory = match self.lanes[lane].take() {
            Some(memory) if memory.bytes() >= layout.bytes() => memory,
            smaller => {
                drop(smaller);
                Buffer::new(driver, layout.bytes())?
            }
        };
        let start = memory.address();
        self.lanes[lane] = Some(memory);
        let planes = picture.planes.iter().map(Vec::as_slice).enumerate();
        let parts: Vec<(u64, &[u8])> =
            planes.map(|(index, plane)| (layout.plane_address(start, index), plane)).collect();
        driver.upload_beside(lane, &parts)?;
        color::image_from_planes(driver, start, &layout, image)?;
        driver.consumed(lane)
    }
}

/// Memory for pictures on their way out.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    lanes: Vec<Arc<Lane>>,
}

/// Memory for one picture, or whatever else, on its way out.
#[derive(Debug)]
pub(super) struct Lane {
    index: usize,
    memory: Buffer,
}

impl Downloads {
    /// Begins to fetch picture `index` of an image. The memory is free again when the lane is dropped.
    pub(super) fn start(
        &mut self,
        driver: &Arc<dyn Driver>,
        image: &Tensor,
        index: usize,
        format: PictureFormat,
    ) -> Result<Arc<Lane>, DeviceError> {
        let layout = PlaneLayout::of(format);
        let lane = self.idle(driver, layout.bytes())?;
        color::planes_from_image(driver, image, index, &layout, lane.address())?;
        lane.start(driver, layout.bytes())?;
        Ok(lane)
    }

    /// A lane of at least so many bytes that nobody holds.
    pub(super) fn idle(
        &mut self,
        driver: &Arc<dyn Driver>,
        bytes: usize,
    ) -> Result<Arc<Lane>, DeviceError> {
        let idle = |lane: &Arc<Lane>| Arc::strong_count(lane) == 1;
        let at = self.lanes.iter().position(idle).unwrap_or(self.lanes.len());
        if self.lanes.get(at).is_none_or(|lane| lane.memory.bytes() < bytes) {
            // All of it is copied, and between planes there are gaps that no kernel writes.
            let memory = Buffer::with_content(driver, &vec![0; bytes])?;
            let lane = Arc::new(Lane { index: at, memory });
            match self.lanes.get_mut(at) {
                Some(place) => *place = lane,
                None => self.lanes.push(lane),
            }
        }
        Ok(Arc::clone(&self.lanes[at]))
    }
}

impl Lane {
    /// Where its memory begins.
    pub(super) fn address(&self) -> u64 {
        self.memory.address()
    }

    /// Begins to fetch its first bytes, as the launches up to now leave them.
    pub(super) fn start(&self, driver: &Arc<dyn Driver>, bytes: usize) -> Result<(), DeviceError> {
        driver.download_beside(self.index, self.address(), bytes)
    }

    /// Waits for its first bytes.
    pub(super) fn fetch(
        &self,
        driver: &Arc<dyn Driver>,
        bytes: &mut [u8],
    ) -> Result<(), DeviceError> {
        driver.collect(self.index, self.address(), &mut [(self.address(), bytes)])
    }

    /// Waits for the picture and fills it.
    pub(super) fn collect(
        &self,
        driver: &Arc<dyn Driver>,
        picture: &mut Picture,
    ) -> Result<(), DeviceError> {
        let (start, layout) = (self.address(), PlaneLayout::of(picture.format));
        let planes = picture.planes.iter_mut().map(Vec::as_mut_slice).enumerate();
        let mut parts: Vec<(u64, &mut [u8])> =
            planes.map(|(index, plane)| (layout.plane_address(start, index), plane)).collect();
        driver.collect(self.index, start, &mut parts)
    }
}
