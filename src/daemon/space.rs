//! Whether an output folder has room for a job: its output, and the segments kept until that is published.

use std::path::Path;

use crate::config::settings::Settings;

/// An output is expected to be at the most this many times `factor` the size of its source.
const GROWTH: f64 = 1.3;

/// Bytes that the output of a source of `source_bytes` is expected to take at the most.
#[must_use]
pub fn output_bytes(source_bytes: u64, settings: &Settings) -> u64 {
    let factor = f64::from(settings.factor.unwrap_or(2));
    (source_bytes as f64 * factor * GROWTH) as u64
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
