//! Whether an output folder has room for a job: its output, and the segments kept until that is published.

use std::path::Path;

use crate::config::settings::{Mode, Settings};
use crate::frame::Rate;

/// An output is expected to be at the most this many times the size of its source for each frame of that.
const GROWTH: f64 = 1.3;
/// Frames a second of a source, as long as it was not opened: the fewest that are usual.
const SOURCE_RATE: f64 = 24.0;

/// Bytes that the output of a source of `source_bytes` is expected to take at the most.
#[must_use]
pub fn output_bytes(source_bytes: u64, settings: &Settings) -> u64 {
    (source_bytes as f64 * frames_of_each(settings) * GROWTH) as u64
}

/// Frames of the output for each of the source.
fn frames_of_each(settings: &Settings) -> f64 {
    let number = |it: Rate| *it.numer() as f64 / *it.denom() as f64;
    let factor = settings.factor.map(f64::from);
    let by_rate = settings.fps.map(|it| number(it) / SOURCE_RATE);
    match settings.mode {
        Mode::Smooth => by_rate.or(factor).unwrap_or(2.0),
        Mode::Slow => {
            let stretch = factor.or_else(|| settings.speed.map(|it| number(it.recip())));
            stretch.unwrap_or(4.0) * by_rate.map_or(1.0, |it| it.max(1.0))
        }
    }
}

/// Bytes that must be free: the output and its segments, of which `kept_bytes` are there already, and `reserve_bytes`.
#[must_use]
pub fn needed(output_bytes: u64, kept_bytes: u64, reserve_bytes: u64) -> u64 {
    let segments = output_bytes.saturating_sub(kept_bytes);
    output_bytes.saturating_add(segments).saturating_add(reserve_bytes)
}

/// What to say where fewer than `needed_bytes` are free in `folder`; a folder that does not say has room.
#[must_use]
pub fn trouble(folder: &Path, needed_bytes: u64) -> Option<String> {
    let space = rustix::fs::statvfs(folder).ok()?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    (free_bytes < needed_bytes).then(|| {
        let mib = |bytes: u64| bytes >> 20;
        let (free, needed) = (mib(free_bytes), mib(needed_bytes));
        format!("{}: {free} MiB free, {needed} MiB needed with the reserve", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_needed_for_the_output_and_for_segments_that_are_not_there_yet() {
        let settings = Settings { factor: Some(4), ..Settings::default() };
        assert_eq!(output_bytes(1000, &settings), 5200);
        let third = Settings { speed: Some(Rate::new(1, 8)), ..Settings::default() };
        assert_eq!(output_bytes(1000, &third), 10_400, "an eighth of the speed");
        let fps = Some(Rate::from_integer(240));
        let smooth = Settings { mode: Mode::Smooth, fps, ..Settings::default() };
        assert_eq!(output_bytes(1000, &smooth), 13_000, "ten times as many frames");
        let both = Settings { fps: Some(Rate::from_integer(48)), ..settings.clone() };
        assert_eq!(output_bytes(1000, &both), 10_400);
        assert_eq!(needed(5200, 0, 100), 10_500);
        assert_eq!(needed(5200, 5000, 100), 5500);
        assert_eq!(
            needed(5200, 6000, 0),
            5200,
            "segments that turned out larger count for nothing"
        );
        assert_eq!(needed(5200, 0, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_folder_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(trouble(folder.path(), 0), None);
        assert!(trouble(folder.path(), u64::MAX).is_some_and(|it| it.contains("MiB needed")));
    }
}
