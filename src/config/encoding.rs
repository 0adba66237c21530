//! Which codecs, containers, rate factors and presets go together.

use crate::config::settings::{Codec, Container, Encoding};

/// Presets of x264 and x265.
const X26X_PRESETS: [&str; 10] = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
];

/// Highest preset of SVT-AV1.
const SVT_PRESET_MAX: u8 = 13;

/// A setting that does not go with the codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// `container`, `crf` or `preset`.
    pub setting: &'static str,
    /// What is wrong, and what to use.
    pub message: String,
}

impl Codec {
    /// Highest constant rate factor; `None` for a codec that is lossless.
    #[must_use]
    pub fn crf_max(self) -> Option<u8> {
        match self {
            Self::H264 | Self::H265 => Some(51),
            Self::Av1 => Some(63),
            Self::Ffv1 => None,
        }
    }

    /// Why it does not go into `container`, where it does not.
    fn contradicts(self, container: Container) -> Option<&'static str> {
        match (self, container) {
            (Self::Ffv1, Container::Mp4) => Some("FFV1 does not go into mp4: use mkv or mov"),
            (Self::Av1, Container::Mov) => Some("AV1 does not go into mov: use mp4 or mkv"),
            _ => None,
        }
    }

    /// Presets that its encoder knows, in words; none where it has none.
    fn presets(self) -> Option<String> {
        match self {
            Self::H264 | Self::H265 => Some(X26X_PRESETS.join(", ")),
            Self::Av1 => Some(format!("0 to {SVT_PRESET_MAX}")),
            Self::Ffv1 => None,
        }
    }

    fn knows_preset(self, preset: &str) -> bool {
        match self {
            Self::H264 | Self::H265 => X26X_PRESETS.contains(&preset),
            Self::Av1 => preset.parse().is_ok_and(|it: u8| it <= SVT_PRESET_MAX),
            Self::Ffv1 => false,
        }
    }
}

impl Encoding {
    /// The first setting that does not go with the codec; `container` is where the output goes, as far as it is known.
    #[must_use]
    pub fn contradiction(&self, container: Option<Container>) -> Option<Contradiction> {
        let found = |setting, message| Some(Contradiction { setting, message });
        if let Some(why) = container.and_then(|it| self.codec.contradicts(it)) {
            return found("container", why.into());
        }
        if let Some(crf) = self.crf {
            match self.codec.crf_max() {
                None => return found("crf", "FFV1 is lossless and has no `crf`: use auto".into()),
                Some(highest) if crf > highest => {
                    return found("crf", format!("`crf` is {crf}: use auto or 0 to {highest}"));
                }
                Some(_) => {}
            }
        }
        let preset = self.preset.as_deref().filter(|it| !self.codec.knows_preset(it))?;
        let message = match self.codec.presets() {
            Some(known) => format!("`preset` is {preset}: use auto or one of: {known}"),
            None => format!("`preset` is {preset}, and FFV1 has none: use auto"),
        };
        found("preset", message)
    }
}
