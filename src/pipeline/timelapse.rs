//! Whether a clip looks like a time-lapse, as dash-cams record while parked: one picture a second or fewer, played as if there
//! had been thirty. What a network makes between such pictures never happened.

use std::path::Path;

use crate::config::settings::Timelapse;
use crate::media::MediaError;
use crate::media::clip::ClipInfo;
use crate::pipeline::{Task, camera};

/// Structure that a pair of frames must lose, as in [`crate::pipeline::scene`], to be far apart: what moves by a tenth of
/// the picture or more.
const FAR_APART: f64 = 0.15;
/// Pairs from which there is something to judge by.
const LEAST_PAIRS: u64 = 20;
/// Folders in which dash-cams keep what they record while parked.
const PARKING_FOLDERS: [&str; 6] =
    ["parking", "park", "parking_rec", "parking_timelapse_rec", "timelapse", "time-lapse"];

/// Counts pairs of frames that are far apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaps {
    pairs: u64,
    far_apart: u64,
}

impl Leaps {
    /// Counts a pair by the structure that it lost.
    pub fn pair(&mut self, lost_structure: f64) {
        self.pairs += 1;
        self.far_apart += u64::from(lost_structure >= FAR_APART);
    }

    /// Whether most pairs are far apart.
    #[must_use]
    pub fn are_most(self) -> bool {
        self.pairs >= LEAST_PAIRS && 2 * self.far_apart > self.pairs
    }
}

/// Why the clip looks like a time-lapse, as far as name and streams say.
#[must_use]
pub fn by_name(info: &ClipInfo) -> Option<String> {
    let is_silent = !info.streams.iter().any(|it| it.kind == "audio");
    (is_silent && is_of_parking(&info.path))
        .then(|| "its name is that of a dash-cam's parking mode, and it has no sound".to_owned())
}

/// Why it does, as far as its pictures say.
#[must_use]
pub fn by_pictures(info: &ClipInfo, leaps: Leaps) -> Option<String> {
    let is_silent = !info.streams.iter().any(|it| it.kind == "audio");
    (is_silent && leaps.are_most()).then(|| {
        "most of its pictures have little in common with the one before, and it has no sound"
            .to_owned()
    })
}

/// Refuses the clip where `why` says something and the settings want it.
///
/// # Errors
/// [`MediaError::Unusable`] with the code `timelapse`.
pub fn check(task: &Task, why: Option<&String>) -> Result<(), MediaError> {
    match why {
        Some(why) if task.settings.timelapse == Timelapse::Refuse => Err(MediaError::Unusable {
            path: task.source.clone(),
            code: "timelapse",
            reason: format!(
                "it looks like a time-lapse ({why}), and the settings refuse such clips; set timelapse = \"flag\""
            ),
        }),
        _ => Ok(()),
    }
}

/// Whether a camera's name for it says parking mode or time-lapse ([`camera::by_name`]), or a folder of Thinkware and others
/// does.
fn is_of_parking(path: &Path) -> bool {
    let folders = path.parent().into_iter().flat_map(|it| it.iter()).rev().take(2);
    let mut folders = folders.map(|it| it.to_string_lossy().to_ascii_lowercase());
    let kind = camera::by_name(path).kind;
    folders.any(|it| PARKING_FOLDERS.contains(&it.as_str()))
        || kind.is_some_and(|it| it == "parking" || it == "timelapse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parking_modes_are_known_and_others_are_not() {
        for name in [
            "20260301_081500_PF.mp4",
            "20260301_081500_P.mp4",
            "2026_0301_081500_0012PF.MP4",
            "2026_0301_081500_0012P.MP4",
            "PDR0_20260301_081500.mp4",
            "PRK_2026_03_01_08_15_00_F.MP4",
            "/card/parking_rec/REC_2026.MP4",
            "/card/Parking/a.mp4",
        ] {
            assert!(is_of_parking(Path::new(name)), "{name}");
        }
        for name in [
            "20260301_081500_NF.mp4",
            "20260301_081500_EF.mp4",
            "2026_0301_081500_0012F.MP4",
            "EDR0_20260301_081500.mp4",
            "party_p.mp4",
            "P.mp4",
            "/home/parks/a.mp4",
        ] {
            assert!(!is_of_parking(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn leaps_are_most_or_nothing() {
        let mut leaps = Leaps::default();
        (0..19).for_each(|_| leaps.pair(0.9));
        assert!(!leaps.are_most(), "too few to judge by");
        leaps.pair(0.9);
        assert!(leaps.are_most());
        (0..20).for_each(|_| leaps.pair(0.01));
        assert!(!leaps.are_most());
    }
}
