//! The steps down on a device whose memory is short, and what each of them takes, counted before a clip begins.
//!
//! Nothing is estimated: [`Ladder::need`] runs the very engine over a [`Counter`] in the device's place and looks at what
//! it allocates. An engine's memory is bounded and all of it is taken within its first batches. What scores of held-out
//! frames take comes beside: they are made on the device only where that leaves the reserve free.

use std::sync::{Arc, Mutex, PoisonError};

use num_rational::Ratio;

use crate::backend::cuda::backend::{BATCH, Cuda};
use crate::backend::cuda::counter::Counter;
use crate::backend::cuda::driver::{DeviceDescription, Driver};
use crate::backend::cuda::scores;
use crate::config::settings::Scale;
use crate::engine::rife::{Origin, Rife, SCALES, scale_for};
use crate::engine::steady::{Cure, Need, Room, Rung, Steady};
use crate::engine::tiles::{Cut, MARGIN_PX, Tiles};
use crate::engine::{DeviceMemory, EngineError, Interpolator, MemoryGauge};
use crate::frame::{Frame, Picture, PictureFormat};
use crate::models::rife_v4::Network;

/// What is kept of the tiles of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The records of all tiles of both frames of a pair: each is computed once for a frame.
    All,
    /// Those of one tile: they are computed for every picture anew.
    One,
}

/// One way to make pictures on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Pictures of a batch.
    pub batch: usize,
    /// Flow scale over the one that was asked for; the result is no lower than the least there is.
    pub part: f32,
    /// Tiles along the longer and the shorter side; one and one: the picture is not divided.
    pub tiles: [usize; 2],
    /// Which records are kept.
    pub kept: Kept,
    /// What is done, for the log and the report.
    pub step: &'static str,
}

/// From the fastest to the one that takes least. Those that take no less than the one before are left out, as tiles of a
/// small picture are.
pub const PLANS: [Plan; 9] = [
    whole(BATCH, 1.0, "pictures are made four at a time"),
    whole(2, 1.0, "pictures are made two at a time"),
    whole(1, 1.0, "pictures are made one at a time"),
    whole(1, 0.5, "pictures are made one at a time with half the flow scale, 0.25 at least"),
    whole(1, 0.25, "pictures are made one at a time with flow scale 0.25"),
    tiled([2, 1], Kept::All, "pictures are made of 2 tiles with flow scale 0.25"),
    tiled([2, 2], Kept::All, "pictures are made of 4 tiles with flow scale 0.25"),
    tiled(
        [3, 2],
        Kept::One,
        "pictures are made of 6 tiles with flow scale 0.25, features anew for each",
    ),
    tiled(
        [4, 4],
        Kept::One,
        "pictures are made of 16 tiles with flow scale 0.25, features anew for each",
    ),
];

const fn whole(batch: usize, part: f32, step: &'static str) -> Plan {
    Plan { batch, part, tiles: [1, 1], kept: Kept::All, step }
}

const fn tiled(tiles: [usize; 2], kept: Kept, step: &'static str) -> Plan {
    Plan { batch: 1, part: 0.25, tiles, kept, step }
}

/// What is left to others and how tiles overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Device memory that is not planned for, in bytes.
    pub reserve_bytes: u64,
    /// What a tile has beyond its core.
    pub margin_px: usize,
}

/// For the driver's own use (allocations rounded up to 2 MiB, graphs, what kernels spill) and for programs that start
/// meanwhile.
const RESERVE_BYTES: u64 = 256 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self { reserve_bytes: RESERVE_BYTES, margin_px: MARGIN_PX }
    }
}

/// A network, and all the ways to run it on a device.
#[derive(Debug)]
pub struct Ladder {
    network: Network,
    scale: Scale,
    origin: Origin,
    limits: Limits,
    /// What was counted so far.
    counted: Mutex<Vec<(Plan, PictureFormat, Need)>>,
}

impl Ladder {
    /// Of a network at the flow scale that was asked for.
    #[must_use]
    pub fn new(network: Network, scale: Scale, origin: Origin, limits: Limits) -> Self {
        Self { network, scale, origin, limits, counted: Mutex::default() }
    }

    /// An engine on a device that starts with the first plan, goes down where memory is short, before a clip's first
    /// picture or amid the clip, and ends on `last`.
    ///
    /// # Errors
    /// As [`Rife::new`].
    pub fn engine(
        self: &Arc<Self>,
        driver: &Arc<dyn Driver>,
        last: Option<Rung>,
    ) -> Result<Steady, EngineError> {
        let backend = Cuda::with_batch(Arc::clone(driver), PLANS[0].batch);
        let rife = Rife::new(backend, &self.network, self.scale, self.origin.clone())?;
        let rung = |plan: &Plan| {
            let (ladder, driver, plan) = (Arc::clone(self), Arc::clone(driver), *plan);
            let wants = self.wants(&driver, plan);
            let make = move |_: &EngineError, format| ladder.planned(&driver, &plan, format);
            Rung { cure: Cure::Memory, step: plan.step, wants: Some(wants), make: Box::new(make) }
        };
        let rungs = PLANS[1..].iter().map(rung).chain(last).collect();
        let (device, same) = (Arc::clone(driver), Arc::clone(driver));
        let uses_host_memory = driver.description().uses_host_memory;
        let room = Room {
            device: driver.description().name.clone(),
            free: Box::new(move || device.free_bytes()),
            allocated: Box::new(move || same.allocated_bytes()),
            wants: self.wants(driver, PLANS[0]),
            scores: Box::new(move |format| {
                let lanes = if uses_host_memory { scores::lanes_bytes(format) } else { 0 };
                scores::need_bytes(format) + lanes
            }),
            reserve_bytes: self.limits.reserve_bytes,
        };
        Ok(Steady::new(Box::new(rife), rungs).within(room).gauged(gauge(driver)))
    }

    fn wants(
        self: &Arc<Self>,
        driver: &Arc<dyn Driver>,
        plan: Plan,
    ) -> Box<crate::engine::steady::Wants> {
        let (ladder, device) = (Arc::clone(self), driver.description().clone());
        Box::new(move |format| ladder.need(&device, &plan, format).ok())
    }

    /// The engine of a plan for pictures of a format.
    ///
    /// # Errors
    /// As [`Rife::new`].
    pub fn planned(
        &self,
        driver: &Arc<dyn Driver>,
        plan: &Plan,
        format: PictureFormat,
    ) -> Result<Box<dyn Interpolator>, EngineError> {
        let asked = scale_for(self.scale, format.width_px, format.height_px);
        let scale = Scale::Fixed((asked * plan.part).max(SCALES[0]));
        let backend = Cuda::with_batch(Arc::clone(driver), plan.batch);
        let rife = Rife::new(backend, &self.network, scale, self.origin.clone())?;
        if plan.tiles == [1, 1] {
            return Ok(Box::new(rife));
        }
        let [long, short] = plan.tiles;
        let wide = format.width_px >= format.height_px;
        let (columns, rows) = if wide { (long, short) } else { (short, long) };
        let cut = Cut { columns, rows, margin_px: self.limits.margin_px };
        let rife = match plan.kept {
            Kept::All => rife.keeping(2 * cut.count(format)),
            Kept::One => rife,
        };
        Ok(Box::new(Tiles::new(Box::new(rife), cut)))
    }

    /// What the engine of a plan allocates on such a device for pictures of a format.
    ///
    /// # Errors
    /// As [`Rife::new`], and where the device has too little shared memory for a kernel.
    pub fn need(
        &self,
        device: &DeviceDescription,
        plan: &Plan,
        format: PictureFormat,
    ) -> Result<Need, EngineError> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counted.iter().find(|(of, with, _)| of == plan && *with == format);
        if let Some((_, _, need)) = known {
            return Ok(*need);
        }
        let counter = Arc::new(Counter::of(device.clone()));
        let driver: Arc<dyn Driver> = counter.clone();
        let mut engine = self.planned(&driver, plan, format)?;
        let weights_bytes = counter.allocated_bytes();
        run_to_the_full(engine.as_mut(), format)?;
        let need = Need { weights_bytes, peak_bytes: counter.peak_bytes() };
        counted.push((*plan, format, need));
        Ok(need)
    }
}

fn gauge(driver: &Arc<dyn Driver>) -> MemoryGauge {
    let device = Arc::clone(driver);
    Arc::new(move || {
        let free_bytes = device.free_bytes().ok()?;
        let total_bytes = device.description().memory_bytes;
        Some(DeviceMemory { used_bytes: device.allocated_bytes(), free_bytes, total_bytes })
    })
}

/// Asks for one picture of every pair, until the engine has taken all the memory that it ever takes.
fn run_to_the_full(
    engine: &mut dyn Interpolator,
    format: PictureFormat,
) -> Result<(), EngineError> {
    let picture = Arc::new(Picture::zeroed(format));
    let frame = |index: u64| Frame {
        index,
        pts: Ratio::from_integer(i128::from(index)),
        duration: None,
        picture: Arc::clone(&picture),
        alpha: None,
    };
    let Some(ahead) = engine.ahead() else { unreachable!("an engine on a device works ahead") };
    for index in 0..ahead.depth() as u64 + 2 {
        ahead.submit(&frame(index), &frame(index + 1), &[0.5])?;
    }
    while ahead.waiting() > 0 {
        ahead.collect()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use super::*;
    use crate::models::weights::Weights;

    #[test]
    fn the_gauge_says_what_the_engine_has_allocated() {
        let starter = include_bytes!("../../models/starter.safetensors");
        let weights = Weights::from_bytes(Path::new("starter"), Cow::Borrowed(starter)).unwrap();
        let network = Network::read(&weights).unwrap();
        let device = Arc::new(Counter::of(DeviceDescription {
            name: "counted".into(),
            uuid: None,
            capability: (9, 0),
            multiprocessors: 132,
            shared_bytes: 227 << 10,
            memory_bytes: 1 << 30,
            uses_host_memory: false,
            driver_version: 12_020,
        }));
        let driver: Arc<dyn Driver> = device.clone();
        let limits = Limits { reserve_bytes: 0, margin_px: MARGIN_PX };
        let ladder = Arc::new(Ladder::new(network, Scale::Fixed(1.0), Origin::default(), limits));
        let engine = ladder.engine(&driver, None).unwrap();
        let memory = engine.memory_gauge().unwrap()().unwrap();
        assert!(memory.used_bytes > 0, "the weights are there");
        assert_eq!(memory.used_bytes, device.allocated_bytes());
        assert_eq!(memory.free_bytes + memory.used_bytes, memory.total_bytes);
        drop(engine);
        assert_eq!(device.allocated_bytes(), 0);
    }
}
