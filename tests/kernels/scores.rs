//! Held-out scores of whole clips: made on the device beside the network, and made again where it fails.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use slomod::backend::cuda::driver::{DeviceDescription, DeviceError, Driver, Launch};
use slomod::config::settings::{Audio, Codec, Encoding, Scale, Settings};
use slomod::engine::steady::{Cure, Rung, Steady};
use slomod::engine::{Ahead, EngineDescription, EngineError, Interpolator};
use slomod::frame::{Frame, Picture};
use slomod::models::rife_v4::Network;
use slomod::pipeline::Task;
use slomod::pipeline::convert::convert;
use slomod::pipeline::segments::Rule;
use slomod::report::measured::Scores;
use slomod::report::{Holdout, Report};

use crate::common::layouts::ALL;
use crate::network::{Graphs, cpu, cuda, network};
use crate::schema;
use crate::shim::driver::ShimDriver;
use crate::shim::machine::on_gpu;

/// Squared errors are exact on both sides.
const PSNR_TOLERANCE_DB: f64 = 1e-3;
/// SSIM is a mean of f32 values whose variances lose digits.
const SSIM_TOLERANCE: f64 = 1e-5;
/// Frames of a clip.
const FRAMES: u64 = 9;

/// The same pictures, measured by the pipeline itself.
struct Unscored<T>(T);

impl<T: Interpolator> Interpolator for Unscored<T> {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        self.0.interpolate(img0, img1, timesteps)
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        self.0.ahead()
    }

    fn description(&self) -> EngineDescription {
        self.0.description()
    }
}

/// What a device runs out of, or when it goes.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It is lost at so many launches of a kernel.
    LostAt(&'static str, i64),
    /// It has no room for a piece of memory of that size.
    NoRoomFor(usize),
    /// The host has no memory that the device could read in upload lanes from this one on.
    NoLaneFrom(usize),
    /// It runs out of memory of its own at every launch of a kernel.
    RunsOutAt(&'static str),
}

/// A device with a trouble.
#[derive(Debug)]
struct Troubled {
    inner: Arc<ShimDriver>,
    trouble: Trouble,
    left: AtomicI64,
    kernels: Mutex<Vec<String>>,
}

impl Troubled {
    fn new(trouble: Trouble) -> Arc<Self> {
        let left = AtomicI64::new(if let Trouble::LostAt(_, at) = trouble { at } else { 1 });
        Arc::new(Self { inner: ShimDriver::new(), trouble, left, kernels: Mutex::default() })
    }

    fn check(&self) -> Result<(), DeviceError> {
        if self.left.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let (doing, reason) = ("a call".to_owned(), "it fell off the bus".to_owned());
        Err(DeviceError::Lost { device: "gpu".to_owned(), doing, reason })
    }
}

fn ran_out(doing: &str) -> DeviceError {
    let (device, doing) = ("gpu".to_owned(), doing.to_owned());
    DeviceError::MemoryRanOut { device, doing, free_bytes: None }
}

impl Driver for Troubled {
    fn description(&self) -> &DeviceDescription {
        self.inner.description()
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        self.inner.free_bytes()
    }

    fn allocated_bytes(&self) -> u64 {
        self.inner.allocated_bytes()
    }

    fn peak_bytes(&self) -> u64 {
        self.inner.peak_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.check()?;
        match self.trouble {
            Trouble::NoRoomFor(size) if size == bytes => {
                let (device, wanted_bytes) = ("gpu".to_owned(), bytes as u64);
                Err(DeviceError::OutOfMemory { device, wanted_bytes, free_bytes: 0 })
            }
            _ => self.inner.allocate(bytes),
        }
    }

    fn release(&self, address: u64, bytes: usize) {
        self.inner.release(address, bytes);
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check()?;
        self.inner.upload(address, bytes)
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check()?;
        self.inner.download(address, bytes)
    }

    fn upload_beside(&self, lane: usize, parts: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        self.check()?;
        match self.trouble {
            Trouble::NoLaneFrom(first) if lane >= first => Err(ran_out("copying a frame")),
            _ => self.inner.upload_beside(lane, parts),
        }
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.check()?;
        if let Trouble::RunsOutAt(kernel) = self.trouble
            && kernel == launch.kernel
        {
            return Err(ran_out("starting a kernel"));
        }
        if let Trouble::LostAt(kernel, _) = self.trouble
            && kernel == launch.kernel
        {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
        self.kernels.lock().unwrap().push(launch.kernel.to_owned());
        self.inner.launch(launch)
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.inner.synchronize()
    }
}

/// A moving clip of that width, height and pixel format; none, which is said, where FFmpeg is not installed: a machine that
/// was brought a bundle of tests to may have none.
fn clip(folder: &Path, (width, height): (u32, u32), pixel_format: &str) -> Option<Task> {
    let source = folder.join("in.mkv");
    let frames = FRAMES.to_string();
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25"])
        .args(["-vf", &format!("noise=alls=9:allf=t,scale={width}:{height},format={pixel_format}")])
        .args(["-frames:v", &frames, "-c:v", "ffv1"])
        .arg(&source)
        .output();
    let run = match run {
        Err(error) if error.kind() == ErrorKind::NotFound && on_gpu() => {
            println!("scores of a clip: skipped, ffmpeg is not installed");
            return None;
        }
        run => run.unwrap(),
    };
    assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
    let encoding = Encoding { codec: Codec::Ffv1, ..Encoding::default() };
    let settings =
        Settings { factor: Some(2), encoding, audio: Audio::Drop, ..Settings::default() };
    let (temporary, output) = (folder.join(".out"), folder.join("out.mkv"));
    Some(Task {
        source,
        temporary,
        parts: None,
        segments: Rule::default(),
        output,
        settings,
        settings_sha256: None,
    })
}

fn report(task: &Task, engine: &mut dyn Interpolator) -> Report {
    let report = convert(task, engine, &Arc::default(), &mut |_| {}).unwrap();
    schema::valid(&report);
    report
}

fn scores(task: &Task, engine: &mut dyn Interpolator) -> Holdout {
    let holdout = report(task, engine).quality.unwrap().holdout;
    assert_eq!((holdout.samples, holdout.candidates), (FRAMES - 2, FRAMES - 2));
    holdout
}

fn assert_scores(what: &str, found: &Scores, expected: &Scores) {
    let near = |a: Option<f64>, b: Option<f64>, tolerance: f64| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance,
        _ => a == b,
    };
    let psnr = |it: &Scores| {
        let (mean, median, low) = (it.psnr_rgb_db, it.psnr_rgb_median_db, it.psnr_rgb_p5_db);
        [mean, median, low, it.psnr_rgb_min_db, it.psnr_rgb_pooled_db, it.psnr_y_db]
    };
    let ssim = |it: &Scores| [it.ssim_y, it.ssim_rife];
    let same =
        psnr(found).into_iter().zip(psnr(expected)).all(|(a, b)| near(a, b, PSNR_TOLERANCE_DB))
            && ssim(found).into_iter().zip(ssim(expected)).all(|(a, b)| near(a, b, SSIM_TOLERANCE));
    assert!(same && found.exact == expected.exact, "{what}: {found:?}, want {expected:?}");
    assert!(found.psnr_rgb_db.is_some() && found.ssim_rife.is_some(), "{what}: {found:?}");
}

fn assert_holdout(what: &str, found: &Holdout, expected: &Holdout) {
    assert_scores(&format!("{what}, network"), &found.network, &expected.network);
    assert_scores(&format!("{what}, repeat"), &found.repeat, &expected.repeat);
    assert_scores(&format!("{what}, blend"), &found.blend, &expected.blend);
    assert_eq!(found.worst_pts_s, expected.worst_pts_s, "{what}");
}

/// The report names the very device, its driver, and what the network took of its memory. On a GPU all of them are its own.
#[test]
fn the_report_names_the_device_and_the_most_memory_it_gave() {
    let folder = tempfile::tempdir().unwrap();
    let Some(task) = clip(folder.path(), (64, 48), "yuv420p") else { return };
    let driver = ShimDriver::new();
    let found = report(&task, &mut cuda(driver.clone(), 4, &small(), Scale::Auto));
    let (device, expected) = (found.device.unwrap(), driver.description().clone());
    assert_eq!((device.kind.as_str(), &device.name), ("cuda", &expected.name));
    assert_eq!((&device.uuid, &device.cuda), (&expected.uuid, &expected.cuda()));
    let digits = device.uuid.as_deref().and_then(|it| it.strip_prefix("GPU-")).unwrap();
    let groups: Vec<_> = digits.split('-').map(str::len).collect();
    assert!(groups == [8, 4, 4, 4, 12] && !digits.trim_matches(['0', '-']).is_empty(), "{digits}");
    assert!(driver.allocated_bytes() == 0 && driver.peak_bytes() > 0, "the engine is gone");
    assert_eq!(found.timing.gpu_mem_peak_bytes, Some(driver.peak_bytes()));
    if on_gpu() {
        let driver = device.driver.unwrap();
        let major: u32 = driver.split('.').next().unwrap().parse().unwrap();
        assert!(major >= 535, "{driver}");
    }
    let found = report(&task, &mut cpu(&small(), Scale::Auto));
    let device = found.device.unwrap();
    assert_eq!((device.uuid, device.cuda, device.driver), (None, None, None));
    assert_eq!(found.timing.gpu_mem_peak_bytes, None);
}

/// The smallest of the networks.
fn small() -> Network {
    network(&ALL[12], 71)
}

/// Q10.
#[test]
fn scores_of_a_clip_made_on_the_device_are_the_processors() {
    let network = small();
    for (size, pixel_format) in [
        ((37, 29), "yuv420p"),
        ((39, 27), "yuv422p"),
        ((41, 23), "gray"),
        ((36, 30), "gbrp"),
        ((37, 30), "yuv420p10le"),
        ((35, 29), "gbrp12le"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let Some(task) = clip(folder.path(), size, pixel_format) else { return };
        let what = format!("{size:?} {pixel_format}");
        // A driver that refuses copies and allocations within a graph.
        let graphs = Graphs::new();
        let found = scores(&task, &mut cuda(graphs.clone(), 4, &network, Scale::Auto));
        assert_eq!(found.samples_on_device, found.samples, "{what}");
        assert!(graphs.replays() > 0, "{what}: scores among graphs");
        let mut engine = Unscored(cuda(ShimDriver::new(), 4, &network, Scale::Auto));
        let expected = scores(&task, &mut engine);
        assert_eq!(expected.samples_on_device, 0, "{what}");
        assert_holdout(&what, &found, &expected);
    }
}

#[test]
fn scores_lost_with_a_device_are_made_again_with_the_cpus() {
    let folder = tempfile::tempdir().unwrap();
    let Some(task) = clip(folder.path(), (37, 29), "yuv420p") else { return };
    // Two maps for each of three comparisons of a frame; the last is lost when the next frame is to be scored.
    for (at, on_device) in [(1, 0), (6, 0), (6 * 2 + 3, 2), (6 * (FRAMES as i64 - 2), 6)] {
        let driver = Troubled::new(Trouble::LostAt("ssim", at));
        let rung = Rung {
            wants: None,
            cure: Cure::Any,
            step: "the CPU",
            make: Box::new(|_, _| Ok(Box::new(cpu(&small(), Scale::Auto)))),
        };
        let engine = Box::new(cuda(driver, 2, &small(), Scale::Auto));
        let mut engine = Steady::new(engine, vec![rung]);
        let found = report(&task, &mut engine);
        assert!(found.warnings.iter().any(|it| it.message.contains("the CPU")), "{at}");
        assert_eq!(found.device.unwrap().kind, "cpu", "{at}");
        let found = found.quality.unwrap().holdout;
        assert_eq!((found.samples, found.samples_on_device), (FRAMES - 2, on_device), "{at}");
        let expected = scores(&task, &mut cpu(&small(), Scale::Auto));
        // The network's own pictures differ by the device's rounding; the baselines are the same pictures.
        assert_scores("repeat", &found.repeat, &expected.repeat);
        assert_scores("blend", &found.blend, &expected.blend);
    }
}

#[test]
fn scores_without_room_on_the_device_are_the_processors_and_the_network_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Some(task) = clip(folder.path(), (37, 29), "yuv420p") else { return };
    let mut engine = Unscored(cuda(ShimDriver::new(), 2, &small(), Scale::Auto));
    let expected = scores(&task, &mut engine);
    for trouble in [
        // RGB and luma of a picture, which nothing else keeps in so many bytes.
        Trouble::NoRoomFor(4 * 37 * 29),
        // Those of frames come first.
        Trouble::NoLaneFrom(3),
        Trouble::NoLaneFrom(5),
        Trouble::RunsOutAt("ssim"),
    ] {
        let driver = Troubled::new(trouble);
        let engine = Box::new(cuda(driver.clone(), 2, &small(), Scale::Auto));
        let rung = Rung {
            wants: None,
            cure: Cure::Memory,
            step: "never taken: it is not the network that has no memory",
            make: Box::new(|_, _| Ok(Box::new(cpu(&small(), Scale::Auto)))),
        };
        let found = report(&task, &mut Steady::new(engine, vec![rung]));
        assert_eq!(found.device.unwrap().kind, "cuda", "{trouble:?}");
        let said: Vec<_> = found.warnings.iter().filter(|it| it.code == "device_step").collect();
        assert!(said.len() == 1 && said[0].message.ends_with("scored on the CPU"), "{said:?}");
        let found = found.quality.unwrap().holdout;
        assert_eq!((found.samples, found.samples_on_device), (FRAMES - 2, 0), "{trouble:?}");
        assert!(!driver.kernels.lock().unwrap().iter().any(|kernel| kernel == "ssim"));
        assert_holdout("no room", &found, &expected);
    }
}
