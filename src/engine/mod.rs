//! Makes the frames in between: the [`Interpolator`] seam and the engines behind it.

use std::sync::Arc;

use crate::backend::Gpu;
use crate::backend::cuda::driver::DeviceError;
use crate::config::settings::Settings;
use crate::error::{Classify, Consequence, ExitCode};
use crate::frame::{Frame, Picture, PictureFormat};
use crate::ops::metrics::Measures;

pub mod blend;
pub mod ladder;
pub mod open;
pub mod passes;
pub mod rife;
pub mod steady;
pub mod tiles;
pub mod trial;

/// Why a frame could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device that was asked for is not there.
    #[error("device `{device}` cannot be used: {reason}")]
    NoDevice {
        /// As asked for: `cuda`, `cuda:1`.
        device: String,
        /// What was found, and what to do.
        reason: String,
    },
    /// The weights cannot be used.
    #[error(transparent)]
    Model(#[from] crate::models::ModelError),
    /// Two frames of a pair differ in layout.
    #[error("frames {first} and {second} differ in size or pixel format")]
    FormatChanged {
        /// Index of the first frame.
        first: u64,
        /// Index of the second frame.
        second: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A flow scale the network is not defined for.
    #[error("flow scale {0} is not supported: use auto, 0.25, 0.5, 1 or 2")]
    Scale(f32),
}

/// The engine that `settings` ask for: [`open::open`].
///
/// # Errors
/// [`EngineError::NoDevice`], [`EngineError::Model`], [`EngineError::Scale`].
pub fn open(settings: &Settings) -> Result<Box<dyn Interpolator>, EngineError> {
    open::open(settings)
}

impl EngineError {
    /// Whether a device may work as it is once other programs need less of it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Device(error) if error.is_busy())
    }
}

impl Classify for EngineError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::NoDevice { .. } | Self::Device(_) => Consequence::Retry,
            Self::Model(error) => error.consequence(),
            Self::FormatChanged { .. } => Consequence::Reject,
            Self::Scale(_) => Consequence::Stop,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoDevice { .. } | Self::Device(DeviceError::Lost { .. }) => ExitCode::Unavailable,
            Self::Device(_) => ExitCode::TempFail,
            Self::Model(error) => error.exit_code(),
            Self::FormatChanged { .. } => ExitCode::DataError,
            Self::Scale(_) => ExitCode::Config,
        }
    }
}

/// The layout that both frames of a pair have.
///
/// # Errors
/// [`EngineError::FormatChanged`].
fn common_format(img0: &Frame, img1: &Frame) -> Result<PictureFormat, EngineError> {
    let format = img0.picture.format;
    if format == img1.picture.format {
        Ok(format)
    } else {
        Err(EngineError::FormatChanged { first: img0.index, second: img1.index })
    }
}

/// Two real frames in, the frames between them out. The pipeline knows nothing else of networks.
pub trait Interpolator: Send {
    /// The pictures at `timesteps` (each in 0..1; 0 is `img0`, 1 is `img1`), in the layout of the inputs.
    ///
    /// Implementations may keep what they computed for a frame (features) by [`Frame::index`] for the next pair.
    ///
    /// # Errors
    /// [`EngineError::FormatChanged`] where the frames differ in layout, [`EngineError::Device`].
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError>;

    /// The same engine as one that works ahead, where it can.
    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        None
    }

    /// The same engine as one that compares pictures where it runs, if it does: those on a processor do not.
    fn scorer(&mut self) -> Option<&mut dyn Scorer> {
        None
    }

    /// What says how full its device's own memory is; `None` where it runs on none that has some.
    fn memory_gauge(&self) -> Option<MemoryGauge> {
        None
    }

    /// Has `tell` called with what it is from then on whenever that changes in the middle of its work. Engines that have
    /// nothing to go on with when their device fails never do.
    fn tell_changes(&mut self, _tell: Box<TellChange>) {}

    /// What it is, for the report.
    fn description(&self) -> EngineDescription;
}

/// Is told what an engine is now, on the thread that asks the engine for pictures.
pub type TellChange = dyn Fn(EngineDescription) + Send;

/// Says how full a device's memory is, from any thread and beside the work; nothing where the device does not say.
pub type MemoryGauge = Arc<dyn Fn() -> Option<DeviceMemory> + Send + Sync>;

/// A device's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceMemory {
    /// Bytes that the engine has allocated, without what the driver takes for itself.
    pub used_bytes: u64,
    /// Bytes that nobody uses.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// An engine on a device that compares pictures there, beside the network. Its calls are made between other calls of the
/// engine, on the same thread, while pictures may wait; one comparison is under way at a time.
pub trait Scorer {
    /// Begins to compare pictures, three at the most, with the true one; all have one format. False where there is no room
    /// for it: the caller measures by itself.
    ///
    /// # Errors
    /// [`EngineError::Device`]; nothing is waiting then.
    fn start(&mut self, truth: &Picture, predicted: &[&Picture]) -> Result<bool, EngineError>;

    /// Waits for the comparison that was begun: the measures in the order of the pictures. None where it was lost with a
    /// device that failed since, and the engine goes on elsewhere: the caller measures by itself.
    ///
    /// # Errors
    /// [`EngineError::Device`]; nothing is waiting then.
    fn finish(&mut self) -> Result<Option<Vec<Measures>>, EngineError>;
}

/// An engine that makes pictures while its caller does something else. Between the two calls, other calls of the engine
/// are a fault of the caller's.
pub trait Ahead {
    /// Pictures to ask for before the first is collected, so that the device never waits for the host.
    fn depth(&self) -> usize;

    /// Pictures asked for and not yet collected.
    fn waiting(&self) -> usize;

    /// Asks for pictures as [`Interpolator::interpolate`] makes them, and does not wait for them.
    ///
    /// # Errors
    /// As [`Interpolator::interpolate`]; nothing is waiting then.
    fn submit(&mut self, img0: &Frame, img1: &Frame, timesteps: &[f32]) -> Result<(), EngineError>;

    /// The next picture in the order they were asked for.
    ///
    /// # Errors
    /// [`EngineError::Device`]; nothing is waiting then.
    ///
    /// # Panics
    /// If none was asked for.
    fn collect(&mut self) -> Result<Picture, EngineError>;
}

/// What an engine is, for the report and the log.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EngineDescription {
    /// `cpu` or `cuda`.
    pub device_kind: String,
    /// Human name of the device, such as the processor's.
    pub device_name: String,
    /// Storage and arithmetic, such as `f32`.
    pub precision: String,
    /// Vector instructions or device generation in use, such as `avx2`.
    pub instructions: String,
    /// Threads used on a CPU.
    pub threads: usize,
    /// Set where `auto` did not get a GPU: why.
    pub fallback_reason: Option<String>,
    /// Whether that is because other programs had the GPU, or its memory, when it was opened.
    #[serde(default)]
    pub device_busy: bool,
    /// Layout of the network, such as `rife v4.26`; `blend` for the trivial engine.
    pub model_name: String,
    /// SHA-256 of the weights file in hex; absent for the trivial engine.
    pub model_sha256: Option<String>,
    /// Flow scale in use (0.25, 0.5, 1, 2).
    pub scale: f32,
    /// What is done otherwise than the network's authors do it.
    #[serde(default)]
    pub model_notes: Vec<String>,
    /// What was done since the start because a device failed, its memory did not suffice or it could not do something, in
    /// order.
    #[serde(default)]
    pub steps: Vec<String>,
    /// More of a GPU; absent where it runs on none.
    #[serde(default)]
    pub gpu: Option<Gpu>,
    /// PSNR in dB of a GPU's pictures of a drawn pair from the processor's, found when it was opened.
    #[serde(default)]
    pub psnr_from_cpu_db: Option<f64>,
}
