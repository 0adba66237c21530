//! Whether something was not recorded before or behind a clip, as far as the names beside it say: cameras that record without
//! a pause name every clip by its start.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;

use crate::media;
use crate::pipeline::camera;
use crate::report::Notice;

/// Names are true to a second, and cameras round.
const TOLERANCE_S: f64 = 2.5;
/// What is this far away is another drive.
const OTHER_DRIVE_S: f64 = 3600.0;
/// Names in a folder that are looked at.
const MOST_NAMES: usize = 100_000;

/// A clip by its name.
#[derive(Clone, Debug, PartialEq)]
struct Named {
    path: PathBuf,
    start: DateTime,
}

/// A notice for each side of the clip at `path`, which lasts `length_s`, where the next clip of the same camera in its folder
/// is further away than it should be. Clips that a camera does not record one after the other (events, parking) have none.
pub fn gaps(path: &Path, length_s: f64) -> Vec<Notice> {
    let Some(this) = continuous(path) else { return Vec::new() };
    let all = siblings(path);
    let mut notices = Vec::new();
    let mut note = |gap_s: f64, other: &Named| {
        if gap_s > TOLERANCE_S && gap_s < OTHER_DRIVE_S {
            let name = other.path.file_name().unwrap_or_default().to_string_lossy();
            let message = format!(
                "by their names {gap_s:.0} s were not recorded, or are missing, between this clip and {name} of the same camera"
            );
            notices.push(Notice { code: "segment_gap".into(), message });
        }
    };
    if let Some(before) = all.iter().filter(|it| it.start < this.start).max_by_key(|it| it.start) {
        // Of one that cannot be opened nobody knows how long it is. Its headers are nobody's word, unlike those of the clip
        // that was let in.
        let info = media::probe_untrusted(&before.path).ok();
        let length = info.and_then(|it| it.video.duration);
        if let Some(length) = length {
            let length_s = *length.numer() as f64 / *length.denom() as f64;
            note(seconds(before.start, this.start) - length_s, before);
        }
    }
    if let Some(behind) = all.iter().filter(|it| it.start > this.start).min_by_key(|it| it.start) {
        note(seconds(this.start, behind.start) - length_s, behind);
    }
    notices
}

/// The clips beside `path` that the same camera recorded one after the other.
fn siblings(path: &Path) -> Vec<Named> {
    let folder = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let same = |it: &Path| {
        let (a, b) = (camera::by_name(it), camera::by_name(path));
        (a.name_pattern, a.view, it.extension()) == (b.name_pattern, b.view, path.extension())
    };
    let paths = entries.take(MOST_NAMES).filter_map(|it| Some(it.ok()?.path()));
    paths.filter(|it| it != path && same(it)).filter_map(|it| continuous(&it)).collect()
}

/// A clip that its camera recorded as one of many without a pause, and says by its name when.
fn continuous(path: &Path) -> Option<Named> {
    /// Whose names mean that.
    const CAMERAS: [&str; 6] = ["blackvue", "viofo", "nextbase", "thinkware", "urive", "tesla"];
    let found = camera::by_name(path);
    let is_camera = found.name_pattern.is_some_and(|it| CAMERAS.contains(&it.as_str()));
    let is_drive = found.kind.is_none_or(|it| it == "normal");
    let start = found.started_local.filter(|_| is_camera && is_drive)?.parse().ok()?;
    Some(Named { path: path.to_owned(), start })
}

fn seconds(from: DateTime, to: DateTime) -> f64 {
    from.duration_until(to).as_secs_f64()
}
