//! A drawn pair made on a device and on the processor before the device gets a clip.
//!
//! Drivers compile and run kernels on chips that they were never tried on, and a card's memory or clock may be at fault. A
//! device that computes something else is told here, and not by the pictures of a clip. The pair is small; the shapes of
//! kernels that larger pictures get, and the kernels of other formats, are tried one by one ([`shapes`], [`formats`]).

use std::sync::Arc;

use num_rational::Ratio;

use crate::backend::cuda::driver::Driver;
use crate::backend::cuda::{formats, shapes};
use crate::config::settings::Scale;
use crate::engine::rife::{SCALES, scale_for};
use crate::engine::{EngineError, Interpolator, Scorer};
use crate::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range};
use crate::ops::color::{picture_to_rgb, rgb_to_picture, rgb8};
use crate::ops::metrics::{Filter, Measures, squared_error, ssim_reference};

/// How near each of the device's pictures has to be to the processor's, in dB over all samples. Half precision leaves 65 to 67
/// with every layout of the network; without the last step, flows refined, it is 39, and 29 without any motion.
pub const LEAST_DB: f64 = 45.0;

/// How often the device makes the pictures: a batch that was made twice is one graph from then on.
const ROUNDS: usize = 3;

/// Sides in pixels: odd, so that both sides are padded and chroma has a pixel of its own at the border.
const SIZE: (usize, usize) = (75, 53);

/// How far the picture moves from frame to frame, in pixels.
const STEP: (f32, f32) = (4.6, -2.3);

/// Largest value of a sample.
const PEAK: f64 = 255.0;

/// SSIM is a mean of f32 values whose variances lose digits.
const SSIM_TOLERANCE: f64 = 1e-5;

/// Why a device is not used.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its pictures are others.
    #[error(
        "{device} makes other pictures than the processor: {psnr_db:.1} dB on a drawn pair, where {LEAST_DB} are the least; \
         another version of NVIDIA's driver may help, or the card is at fault, or these weights want more than half precision"
    )]
    Pictures {
        /// Its name.
        device: String,
        /// What was found.
        psnr_db: f64,
    },
    /// A kernel for pictures of other sizes or formats computes otherwise.
    #[error(
        "{device} computes otherwise than the processor, by its kernel {kernel}; another version of NVIDIA's driver may help, or \
         the card is at fault"
    )]
    Kernel {
        /// Its name.
        device: String,
        /// The kernel's.
        kernel: String,
    },
    /// What it says of pictures is otherwise.
    #[error(
        "{device} compares pictures otherwise than the processor; another version of NVIDIA's driver may help, or the card is \
         at fault"
    )]
    Scores {
        /// Its name.
        device: String,
    },
}

/// What a device is compared with.
#[derive(Debug)]
pub struct Expected {
    /// The processor's [`pictures`], by flow scale.
    pub pictures: Vec<(f32, Vec<Picture>)>,
    /// What convolutions come to.
    pub shapes: shapes::Trial,
    /// What comes of pictures of all formats.
    pub formats: formats::Trial,
}

/// Flow scales that the pair is made at: that of small pictures, and half of it, which `auto` takes for larger ones and any
/// clip where memory is short. It decides which blocks are at full size and half of it, which have kernels of their own, and
/// whether the end of the network is.
#[must_use]
pub fn scales(choice: Scale) -> Vec<f32> {
    let first = scale_for(choice, SIZE.0, SIZE.1);
    let half = Some(0.5 * first).filter(|half| SCALES.contains(half));
    [first].into_iter().chain(half).collect()
}

/// Runs each shape of the convolutions and each kernel of pictures' formats once on a device.
///
/// # Errors
/// [`TrialError::Kernel`], [`TrialError::Engine`].
pub fn run_kernels(driver: &Arc<dyn Driver>, expected: &Expected) -> Result<(), TrialError> {
    let device = || driver.description().name.clone();
    let by_shape = expected.shapes.run(driver).map_err(EngineError::from)?.map(str::to_owned);
    let wrong = match by_shape {
        Some(kernel) => Some(kernel),
        None => expected.formats.run(driver).map_err(EngineError::from)?,
    };
    wrong.map_or(Ok(()), |kernel| Err(TrialError::Kernel { device: device(), kernel }))
}

/// PSNR in dB of the worst of the pictures that a device makes, over all its samples, where `expected`, the processor's
/// [`pictures`], count as true. Equal ones count as one code apart in one sample, so that there is always a number.
///
/// # Errors
/// [`TrialError`].
pub fn run(on_device: &mut dyn Interpolator, expected: &[Picture]) -> Result<f64, TrialError> {
    let psnr_db = run_rounds(on_device, expected, ROUNDS)?;
    if let Some(scorer) = on_device.scorer()
        && scores_differ(scorer)?
    {
        return Err(TrialError::Scores { device: on_device.description().device_name });
    }
    Ok(psnr_db)
}

/// The same at another flow scale: the pictures once, and no scores.
///
/// # Errors
/// [`TrialError`].
pub fn run_once(on_device: &mut dyn Interpolator, expected: &[Picture]) -> Result<f64, TrialError> {
    run_rounds(on_device, expected, 1)
}

fn run_rounds(
    on_device: &mut dyn Interpolator,
    expected: &[Picture],
    rounds: usize,
) -> Result<f64, TrialError> {
    let mut psnr_db = f64::INFINITY;
    for _ in 0..rounds {
        for (found, expected) in pictures(on_device)?.iter().zip(expected) {
            psnr_db = psnr_db.min(psnr_between(found, expected));
        }
    }
    if psnr_db < LEAST_DB {
        let device = on_device.description().device_name;
        return Err(TrialError::Pictures { device, psnr_db });
    }
    Ok(psnr_db)
}

fn psnr_between(found: &Picture, expected: &Picture) -> f64 {
    let planes = found.planes.iter().zip(&expected.planes);
    let error: u64 = planes.map(|(a, b)| squared_error(a, b)).sum();
    let samples: usize = expected.planes.iter().map(Vec::len).sum();
    10.0 * (PEAK * PEAK * samples as f64 / error.max(1) as f64).log10()
}

/// Whether a scorer finds otherwise than the definitions how near a frame is to another. One that has no room for it, or lost
/// its device, says nothing.
fn scores_differ(scorer: &mut dyn Scorer) -> Result<bool, EngineError> {
    let [truth, other] = [0, 1].map(|index| frame(index).picture);
    if !scorer.start(&truth, &[&other])? {
        return Ok(false);
    }
    let Some(found) = scorer.finish()? else { return Ok(false) };
    let expected = measures(&truth, &other);
    let sums = |it: &Measures| [it.rgb_squared_error, it.luma_squared_error];
    let same = |it: &Measures| {
        let ssim = [it.ssim_luma - expected.ssim_luma, it.ssim_rgb - expected.ssim_rgb];
        sums(it) == sums(&expected) && ssim.iter().all(|it| it.abs() <= SSIM_TOLERANCE)
    };
    Ok(!found.iter().all(same))
}

/// By the definitions, which take their time: some hundredths of a second for a picture of [`SIZE`].
fn measures(truth: &Picture, other: &Picture) -> Measures {
    let (width, height) = SIZE;
    let [a, b] = [truth, other].map(|it| rgb8(&picture_to_rgb(it)));
    let (luma_a, luma_b) = (&truth.planes[0], &other.planes[0]);
    let mean = |(sum, count): (f64, usize)| sum / count as f64;
    let luma = Filter::of_luma(width, height);
    Measures {
        rgb_squared_error: squared_error(&a, &b),
        luma_squared_error: squared_error(luma_a, luma_b),
        ssim_luma: mean(ssim_reference(luma_a, luma_b, [height, width, 1], &luma)),
        ssim_rgb: mean(ssim_reference(&a, &b, [height, width, 3], &Filter::of_rgb(width, height))),
    }
}

/// Four pictures of two pairs, which are a batch where the engine makes batches.
///
/// # Errors
/// What the engine fails with.
pub fn pictures(engine: &mut dyn Interpolator) -> Result<Vec<Picture>, EngineError> {
    let frames = [0, 1, 2].map(frame);
    let mut made = vec![];
    for (pair, timesteps) in frames.windows(2).zip([&[0.25, 0.5, 0.75][..], &[0.3]]) {
        match engine.ahead() {
            Some(ahead) => ahead.submit(&pair[0], &pair[1], timesteps)?,
            None => made.extend(engine.interpolate(&pair[0], &pair[1], timesteps)?),
        }
    }
    while let Some(ahead) = engine.ahead().filter(|ahead| ahead.waiting() > 0) {
        made.push(ahead.collect()?);
    }
    Ok(made)
}

/// A ground that repeats nowhere moves one way, a square with an edge that is not soft the other.
fn frame(index: u64) -> Frame {
    let (width_px, height_px) = SIZE;
    let (chroma, matrix, range) = (Chroma::C420, Matrix::Bt709, Range::Limited);
    let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight };
    let moved = (index as f32 * STEP.0, index as f32 * STEP.1);
    let mut rgb = Vec::with_capacity(3 * width_px * height_px);
    for y in 0..height_px {
        for x in 0..width_px {
            let (x, y) = (x as f32, y as f32);
            let near = (x + moved.0 - 40.0).abs().max((y + moved.1 - 27.0).abs()) < 9.0;
            let (u, v) = if near { (x + moved.0, y + moved.1) } else { (x - moved.0, y - moved.1) };
            for phase in [0.0, 1.3, 2.1] {
                let coarse =
                    (0.31 * u + 0.11 * v + phase).sin() * (0.23 * v - 0.07 * u - phase).cos();
                let fine = (0.71 * u - 0.37 * v + 2.0 * phase).sin() * (0.05 * u + phase).cos();
                let level = if near { 0.6 } else { 0.4 };
                rgb.push((level + 0.2 * coarse + 0.2 * fine).clamp(0.0, 1.0));
            }
        }
    }
    let picture = Arc::new(rgb_to_picture(&rgb, format));
    let pts = Ratio::from_integer(i128::from(index));
    Frame { index, pts, duration: None, picture, alpha: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Device, Settings};
    use crate::engine::blend::Blend;
    use crate::engine::open::open;

    fn on_processor() -> Settings {
        Settings { device: Device::Cpu, ..Settings::default() }
    }

    fn processor() -> Box<dyn Interpolator> {
        open(&on_processor()).unwrap()
    }

    fn expected() -> Vec<Picture> {
        pictures(processor().as_mut()).unwrap()
    }

    /// What a trial that fails over its pictures found.
    fn refused(engine: &mut dyn Interpolator) -> f64 {
        match run(engine, &expected()) {
            Err(TrialError::Pictures { psnr_db, .. }) => psnr_db,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn equal_engines_have_a_finite_score() {
        let found = run(processor().as_mut(), &expected()).unwrap();
        let samples = 75 * 53 + 2 * 38 * 27;
        let expected = 10.0 * (255.0 * 255.0 * f64::from(samples)).log10();
        assert!((found - expected).abs() < 1e-9, "{found}");
    }

    #[test]
    fn scales_are_those_of_small_clips_and_half_of_that() {
        assert_eq!(scales(Scale::Auto), [1.0, 0.5]);
        assert_eq!(scales(Scale::Fixed(2.0)), [2.0, 1.0]);
        assert_eq!(scales(Scale::Fixed(0.25)), [0.25], "the least there is");
        assert_eq!(scales(Scale::Fixed(3.0)), [3.0], "refused by the network");
    }

    /// Motion is found at each of them, so that a device that finds none shows.
    #[test]
    fn an_engine_without_motion_passes_at_no_scale() {
        for scale in SCALES {
            let settings = Settings { scale: Scale::Fixed(scale), ..on_processor() };
            let mut engine = open(&settings).unwrap();
            let made = pictures(engine.as_mut()).unwrap();
            let found = run_once(&mut Blend, &made);
            assert!(matches!(found, Err(TrialError::Pictures { .. })), "{scale}: {found:?}");
        }
    }

    /// The pair is one that shows what is left out, of the network or of its last step alone.
    #[test]
    fn an_engine_that_finds_no_motion_or_does_not_refine_it_does_not_pass() {
        let found = refused(&mut Blend);
        assert!(found < LEAST_DB - 10.0, "{found}");
        let found = refused(open(&Settings { refine: false, ..on_processor() }).unwrap().as_mut());
        assert!(found < LEAST_DB - 5.0, "{found}");
    }

    /// Says of a picture what it was told to.
    struct Says(Measures);

    impl Scorer for Says {
        fn start(&mut self, _: &Picture, _: &[&Picture]) -> Result<bool, EngineError> {
            Ok(true)
        }

        fn finish(&mut self) -> Result<Option<Vec<Measures>>, EngineError> {
            Ok(Some(vec![self.0]))
        }
    }

    #[test]
    fn a_scorer_that_is_off_in_any_measure_is_told() {
        let right = measures(&frame(0).picture, &frame(1).picture);
        assert!(!scores_differ(&mut Says(right)).unwrap());
        let faults: [fn(&mut Measures); 5] = [
            |it| it.rgb_squared_error += 1,
            |it| it.luma_squared_error -= 1,
            |it| it.ssim_luma += 2.0 * SSIM_TOLERANCE,
            |it| it.ssim_rgb -= 2.0 * SSIM_TOLERANCE,
            |it| it.ssim_rgb = f64::NAN,
        ];
        for fault in faults {
            let mut wrong = right;
            fault(&mut wrong);
            assert!(scores_differ(&mut Says(wrong)).unwrap(), "{wrong:?}");
        }
    }
}
