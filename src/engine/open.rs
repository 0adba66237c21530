//! Chooses device and weights: settings in, a ready [`Interpolator`] out.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use crate::backend::cpu::Cpu;
use crate::backend::cpu::instructions::{INSTRUCTIONS_VARIABLE, Instructions};
use crate::backend::cuda::backend::{BATCH, Cuda};
use crate::backend::cuda::driver::Driver;
use crate::backend::cuda::nvidia::Nvidia;
use crate::backend::cuda::nvidia::find::{self, FindError};
use crate::backend::cuda::{formats, shapes};
use crate::config::settings::{Device, Scale, Settings};
use crate::engine::blend::Blend;
use crate::engine::ladder::{Ladder, Limits};
use crate::engine::passes::{self, Passes};
use crate::engine::rife::{Origin, Rife};
use crate::engine::steady::{Cure, Rung};
use crate::engine::trial::{self, Expected, TrialError};
use crate::engine::{EngineError, Interpolator};
use crate::frame::PictureFormat;
use crate::models::ModelError;
use crate::models::rife_v4::Network;
use crate::models::weights::Weights;

/// The starter weights: a narrow v4.26 trained by this project; see `models/README.md` in the repository.
static STARTER: &[u8] = include_bytes!("../../models/starter.safetensors");

/// Name of the starter weights in messages.
pub const STARTER_NAME: &str = "built-in starter weights";

/// How the reason ends why there is no GPU for `auto`.
pub const ON_THE_CPU: &str = "; the network runs on the CPU";
/// The same where a device failed in the middle of a clip.
pub const GOES_ON_ON_THE_CPU: &str = "; the network goes on on the CPU";

/// Model name that asks for the trivial engine.
pub const BLEND: &str = "blend";

/// The engine that `settings` ask for. With `auto`, a GPU is looked for each time: the daemon opens an engine for every
/// clip, in a process of its own, so that a GPU that comes back is used from the next clip on.
///
/// # Errors
/// [`EngineError::NoDevice`], [`EngineError::Model`], [`EngineError::Scale`].
pub fn open(settings: &Settings) -> Result<Box<dyn Interpolator>, EngineError> {
    if settings.model.as_deref() == Some(Path::new(BLEND)) {
        return Ok(Box::new(Blend));
    }
    Ok(Passes::over(open_network(settings)?, settings.passes))
}

fn open_network(settings: &Settings) -> Result<Box<dyn Interpolator>, EngineError> {
    let weights = open_weights(settings.model.as_deref())?;
    let network = Network {
        sampling: settings.sampling,
        refine: settings.refine,
        ..Network::read(&weights)?
    };
    for note in &network.notes {
        log::info!("{}: {note}", settings.model.as_deref().unwrap_or(Path::new("")).display());
    }
    let origin = Origin {
        model_sha256: Some(weights.sha256()),
        model_notes: network.notes.clone(),
        ..Origin::default()
    };
    let job = Arc::new(Job { settings: settings.clone(), network, origin });
    match settings.device {
        Device::Cpu => job.on_the_processor(Origin::default()),
        Device::Cuda(index) => job.on_a_device(index).map_err(|error| match error {
            NotOpened::Engine(error) | NotOpened::Trial(TrialError::Engine(error)) => error,
            NotOpened::Find(FindError::Device(error)) if error.is_busy() => error.into(),
            error => EngineError::NoDevice {
                device: settings.device.to_string(),
                reason: format!("{error}, or use `auto` or `cpu`"),
            },
        }),
        Device::Auto => {
            let error = match job.on_any_device() {
                Ok(engine) => return Ok(engine),
                Err(NotOpened::Engine(error @ EngineError::Scale(_))) => return Err(error),
                Err(error) => error,
            };
            let (reason, device_busy) = (format!("{error}{ON_THE_CPU}"), error.is_busy());
            log::info!("{reason}");
            let why = Origin { fallback_reason: Some(reason), device_busy, ..Origin::default() };
            job.on_the_processor(why)
        }
    }
}

/// Why an engine is not on a device.
#[derive(Debug, thiserror::Error)]
enum NotOpened {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Trial(#[from] TrialError),
}

impl NotOpened {
    /// Whether the device may work as it is once other programs need less of it.
    fn is_busy(&self) -> bool {
        match self {
            Self::Find(FindError::Device(error)) => error.is_busy(),
            Self::Engine(error) | Self::Trial(TrialError::Engine(error)) => error.is_busy(),
            _ => false,
        }
    }
}

/// What an engine is made from.
struct Job {
    settings: Settings,
    network: Network,
    origin: Origin,
}

impl Job {
    /// `why`: what it says of a device that was wanted.
    fn on_the_processor(&self, why: Origin) -> Result<Box<dyn Interpolator>, EngineError> {
        let (device_name, Origin { fallback_reason, device_busy, .. }) = (processor_name(), why);
        let origin = Origin { device_name, fallback_reason, device_busy, ..self.origin.clone() };
        let cpu = processor(self.settings.threads)?;
        let rife = Rife::new(cpu, &self.network, self.settings.scale, origin)?;
        let turned = self.settings.passes as usize == passes::RECORDS;
        Ok(Box::new(if turned { rife.keeping(passes::RECORDS) } else { rife }))
    }

    fn on_a_device(self: &Arc<Self>, index: u32) -> Result<Box<dyn Interpolator>, NotOpened> {
        // Either takes some tenths of a second with a wide network.
        let (driver, expected) = std::thread::scope(|scope| {
            let expected = scope.spawn(|| self.trial_on_the_processor());
            (Nvidia::open(index), expected.join())
        });
        let driver: Arc<dyn Driver> = Arc::new(driver?);
        let expected = expected.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let psnr_from_cpu_db = Some(self.trial(&driver, &expected)?);
        let network = self.network.clone();
        let origin = Origin { psnr_from_cpu_db, ..self.origin.clone() };
        let ladder = Ladder::new(network, self.settings.scale, origin, Limits::default());
        Ok(Box::new(Arc::new(ladder).engine(&driver, self.last_rung())?))
    }

    fn trial_on_the_processor(&self) -> Result<Expected, EngineError> {
        let pictures = |scale| {
            let cpu = processor(self.settings.threads)?;
            let scaled = Scale::Fixed(scale);
            let mut rife = Rife::new(cpu, &self.network, scaled, Origin::default())?;
            Ok((scale, trial::pictures(&mut rife)?))
        };
        let scales = trial::scales(self.settings.scale).into_iter();
        Ok(Expected {
            pictures: scales.map(pictures).collect::<Result<_, EngineError>>()?,
            shapes: shapes::Trial::prepare(),
            formats: formats::Trial::prepare(),
        })
    }

    /// How near the device's pictures are to those of the processor. What it takes of the device is free again.
    fn trial(&self, driver: &Arc<dyn Driver>, expected: &Expected) -> Result<f64, NotOpened> {
        trial::run_kernels(driver, expected)?;
        let mut psnr_db = f64::INFINITY;
        for (number, (scale, pictures)) in expected.pictures.iter().enumerate() {
            let cuda = Cuda::with_batch(Arc::clone(driver), BATCH);
            let scale = Scale::Fixed(*scale);
            let mut rife = Rife::new(cuda, &self.network, scale, Origin::default())?;
            let run = if number == 0 { trial::run } else { trial::run_once };
            psnr_db = psnr_db.min(run(&mut rife, pictures)?);
        }
        Ok(psnr_db)
    }

    /// What to do when a device fails in mid-clip, or its memory does not suffice for anything else.
    fn last_rung(self: &Arc<Self>) -> Option<Rung> {
        let job = Arc::clone(self);
        let make = move |error: &EngineError, _: PictureFormat| {
            let fallback_reason = Some(format!("{error}{GOES_ON_ON_THE_CPU}"));
            job.on_the_processor(Origin { fallback_reason, ..Origin::default() })
        };
        let step = "the network goes on on the CPU";
        let rung = || Rung { cure: Cure::Any, step, wants: None, make: Box::new(make) };
        (self.settings.device == Device::Auto).then(rung)
    }

    /// The first device that works and has half its memory or more free; else, of those that work, the one with the most. Only
    /// an open device tells what is free, so that no further one is opened where the first will do. Where none works, what is
    /// wrong with the last, or with one that others have.
    fn on_any_device(self: &Arc<Self>) -> Result<Box<dyn Interpolator>, NotOpened> {
        let find::Listing { devices, silent, .. } = find::devices()?;
        silent.iter().for_each(|error| log::warn!("{error}"));
        let mut failure = NotOpened::Find(FindError::NoDevice);
        let mut crowded: Option<(u64, Box<dyn Interpolator>)> = None;
        for device in devices {
            match self.on_a_device(device.index) {
                Ok(engine) => {
                    let memory = engine.memory_gauge().and_then(|gauge| gauge());
                    let Some(memory) = memory else { return Ok(engine) };
                    let free_bytes = memory.free_bytes + memory.used_bytes;
                    if free_bytes >= memory.total_bytes / 2 {
                        return Ok(engine);
                    }
                    if crowded.as_ref().is_none_or(|(most, _)| free_bytes > *most) {
                        crowded = Some((free_bytes, engine));
                    }
                }
                Err(_) if failure.is_busy() => {}
                Err(error) => failure = error,
            }
        }
        crowded.map(|(_, engine)| engine).ok_or(failure)
    }
}

/// `threads` threads (0: one for each core), with the best instruction set or the one that [`INSTRUCTIONS_VARIABLE`] names.
fn processor(threads: usize) -> Result<Cpu, EngineError> {
    let no_device = |reason| EngineError::NoDevice { device: "cpu".to_owned(), reason };
    let wished = std::env::var(INSTRUCTIONS_VARIABLE).ok();
    let instructions = Instructions::choose(wished.as_deref()).map_err(no_device)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores() } else { threads };
    Cpu::new(instructions, threads).map_err(no_device)
}

/// A weights file, or the starter weights.
///
/// # Errors
/// [`ModelError`].
pub fn open_weights(path: Option<&Path>) -> Result<Weights, ModelError> {
    match path {
        Some(path) => Weights::open(path),
        None => Weights::from_bytes(Path::new(STARTER_NAME), Cow::Borrowed(STARTER)),
    }
}

/// What the kernel calls the processor, or its architecture.
#[must_use]
pub fn processor_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        // An emulator may leave it empty.
        (key.trim() == "model name" && !value.trim().is_empty()).then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
