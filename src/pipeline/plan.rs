//! From settings to a plan: how much longer the output is, at which rate, and where its frames lie.

use num_rational::Ratio;

use crate::config::settings::{FACTOR_RANGE, FPS_RANGE, Mode, Settings};
use crate::frame::{Rate, Seconds};

/// Rate assumed where a container gives none.
pub const FALLBACK_RATE: Rate = Ratio::new_raw(30, 1);

/// Where output frames lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Every gap between source frames is divided into that many equal steps; output times follow the source's.
    Steps(u32),
    /// Output frames lie on a grid of that constant rate, wherever the source frames are.
    Grid(Rate),
}

/// What a conversion does to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Output seconds for each source second.
    pub stretch: Seconds,
    /// Nominal output rate.
    pub rate: Rate,
    /// Where output frames lie.
    pub sampling: Sampling,
}

impl Plan {
    /// Output frames for each frame of the source, where it is the same for all.
    #[must_use]
    pub fn factor(&self) -> Option<u32> {
        match self.sampling {
            Sampling::Steps(steps) => Some(steps),
            Sampling::Grid(_) => None,
        }
    }
}

/// The plan for a source of `source_rate` (nominal; only `Sampling::Steps` works without it being exact).
///
/// # Errors
/// A sentence, where settings are out of range or exclude each other.
pub fn plan(settings: &Settings, source_rate: Rate) -> Result<Plan, String> {
    check_ranges(settings)?;
    match settings.mode {
        Mode::Slow => slow(settings, source_rate),
        Mode::Smooth => smooth(settings, source_rate),
    }
}

fn check_ranges(settings: &Settings) -> Result<(), String> {
    if let Some(factor) = settings.factor
        && !FACTOR_RANGE.contains(&factor)
    {
        return Err(format!("factor {factor} is out of range: 2 to 16"));
    }
    if let Some(fps) = settings.fps
        && (fps < Ratio::from(*FPS_RANGE.start()) || fps > Ratio::from(*FPS_RANGE.end()))
    {
        return Err(format!("fps {fps} is out of range: 10 to 320"));
    }
    if let Some(speed) = settings.speed
        && (speed < Ratio::new(1, 16) || speed >= Ratio::from_integer(1))
    {
        return Err(format!("speed {speed} is out of range: 0.0625 (16 times slower) to below 1"));
    }
    Ok(())
}

fn slow(settings: &Settings, source_rate: Rate) -> Result<Plan, String> {
    let stretch = match (settings.factor, settings.speed) {
        (Some(_), Some(_)) => {
            return Err("factor and speed both say how much slower: give one of them".into());
        }
        (Some(factor), None) => Ratio::from_integer(i128::from(factor)),
        (None, Some(speed)) => speed.recip(),
        (None, None) => Ratio::from_integer(i128::from(Mode::Slow.default_factor())),
    };
    let rate = settings.fps.unwrap_or(source_rate);
    let whole = u32::try_from(stretch.to_integer()).ok().filter(|_| stretch.is_integer());
    let sampling = match (settings.fps, whole) {
        (None, Some(steps)) => Sampling::Steps(steps),
        _ => Sampling::Grid(rate),
    };
    Ok(Plan { stretch, rate, sampling })
}

fn smooth(settings: &Settings, source_rate: Rate) -> Result<Plan, String> {
    if settings.speed.is_some() {
        return Err(
            "speed changes the duration and smooth keeps it: use mode slow, or leave speed out"
                .into(),
        );
    }
    let stretch = Ratio::from_integer(1);
    match (settings.factor, settings.fps) {
        (Some(_), Some(_)) => {
            Err("factor and fps both say how many frames a smooth output has: give one of them"
                .into())
        }
        (None, Some(rate)) => Ok(Plan { stretch, rate, sampling: Sampling::Grid(rate) }),
        (factor, None) => {
            let steps = factor.unwrap_or(Mode::Smooth.default_factor());
            let rate = source_rate * i128::from(steps);
            Ok(Plan { stretch, rate, sampling: Sampling::Steps(steps) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        mode: Mode,
        factor: Option<u32>,
        fps: Option<i128>,
        speed: Option<(i128, i128)>,
    ) -> Settings {
        Settings {
            mode,
            factor,
            fps: fps.map(Ratio::from_integer),
            speed: speed.map(|(n, d)| Ratio::new(n, d)),
            ..Settings::default()
        }
    }

    #[test]
    fn slow_motion_keeps_the_rate_and_stretches_time() {
        let got = plan(&settings(Mode::Slow, Some(4), None, None), Ratio::new(25, 2)).unwrap();
        assert_eq!(got.stretch, Ratio::from_integer(4));
        assert_eq!(got.rate, Ratio::new(25, 2));
        assert_eq!(got.sampling, Sampling::Steps(4));
    }

    #[test]
    fn a_speed_that_is_no_whole_fraction_goes_on_a_grid() {
        let got = plan(&settings(Mode::Slow, None, None, Some((3, 10))), Ratio::from_integer(30))
            .unwrap();
        assert_eq!(got.stretch, Ratio::new(10, 3));
        assert_eq!(got.sampling, Sampling::Grid(Ratio::from_integer(30)));
        let half =
            plan(&settings(Mode::Slow, None, None, Some((1, 2))), Ratio::from_integer(30)).unwrap();
        assert_eq!(half.sampling, Sampling::Steps(2));
    }

    #[test]
    fn slow_motion_takes_a_playback_rate_of_its_own() {
        let got =
            plan(&settings(Mode::Slow, Some(8), Some(60), None), Ratio::from_integer(30)).unwrap();
        assert_eq!(got.sampling, Sampling::Grid(Ratio::from_integer(60)));
        assert_eq!(got.stretch, Ratio::from_integer(8));
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused() {
        for (mode, factor, fps, speed, word) in [
            (Mode::Slow, Some(4), None, Some((1, 2)), "one of them"),
            (Mode::Smooth, Some(2), Some(60), None, "one of them"),
            (Mode::Smooth, None, None, Some((1, 2)), "speed"),
            (Mode::Slow, Some(1), None, None, "factor 1"),
            (Mode::Slow, Some(17), None, None, "factor 17"),
            (Mode::Smooth, None, Some(9), None, "fps 9"),
            (Mode::Smooth, None, Some(321), None, "fps 321"),
            (Mode::Slow, None, None, Some((1, 17)), "speed 1/17"),
            (Mode::Slow, None, None, Some((1, 1)), "speed 1"),
        ] {
            let error =
                plan(&settings(mode, factor, fps, speed), Ratio::from_integer(30)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
