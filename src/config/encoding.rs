//! Which codecs, containers, places, rate factors and presets go together.

use crate::config::settings::{Codec, Container, EncodeOn, Encoding};

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

/// Presets of NVENC, from the fastest to the best.
const NVENC_PRESETS: [&str; 7] = ["p1", "p2", "p3", "p4", "p5", "p6", "p7"];

/// A setting that does not go with the codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// `container`, `encode_on`, `crf` or `preset`.
    pub setting: &'static str,
    /// What is wrong, and what to use.
    pub message: String,
}

impl Codec {
    /// Why it does not go into `container`, where it does not.
    fn contradicts(self, container: Container) -> Option<&'static str> {
        match (self, container) {
            (Self::Ffv1, Container::Mp4) => Some("FFV1 does not go into mp4: use mkv or mov"),
            (Self::Av1, Container::Mov) => Some("AV1 does not go into mov: use mp4 or mkv"),
            _ => None,
        }
    }
}

impl Encoding {
    /// Lowest and highest constant rate factor; `None` for a codec that is lossless.
    #[must_use]
    pub fn crf_range(&self) -> Option<(u8, u8)> {
        match (self.codec, self.encode_on) {
            (Codec::Ffv1, _) => None,
            // 0 leaves it to the encoder.
            (_, EncodeOn::Gpu) => Some((1, 51)),
            (Codec::H264 | Codec::H265, EncodeOn::Cpu) => Some((0, 51)),
            (Codec::Av1, EncodeOn::Cpu) => Some((0, 63)),
        }
    }

    /// Presets that its encoder knows, in words; none where it has none.
    fn presets(&self) -> Option<String> {
        match (self.codec, self.encode_on) {
            (Codec::Ffv1, _) => None,
            (_, EncodeOn::Gpu) => Some(NVENC_PRESETS.join(", ")),
            (Codec::H264 | Codec::H265, EncodeOn::Cpu) => Some(X26X_PRESETS.join(", ")),
            (Codec::Av1, EncodeOn::Cpu) => Some(format!("0 to {SVT_PRESET_MAX}")),
        }
    }

    fn knows_preset(&self, preset: &str) -> bool {
        match (self.codec, self.encode_on) {
            (Codec::Ffv1, _) => false,
            (_, EncodeOn::Gpu) => NVENC_PRESETS.contains(&preset),
            (Codec::H264 | Codec::H265, EncodeOn::Cpu) => X26X_PRESETS.contains(&preset),
            (Codec::Av1, EncodeOn::Cpu) => preset.parse().is_ok_and(|it: u8| it <= SVT_PRESET_MAX),
        }
    }

    /// The first setting that does not go with the others; `container` is where the output goes, as far as it is known.
    #[must_use]
    pub fn contradiction(&self, container: Option<Container>) -> Option<Contradiction> {
        let found = |setting, message| Some(Contradiction { setting, message });
        if let Some(why) = container.and_then(|it| self.codec.contradicts(it)) {
            return found("container", why.into());
        }
        if (self.codec, self.encode_on) == (Codec::Ffv1, EncodeOn::Gpu) {
            let message = "no GPU encodes FFV1: use `encode_on` cpu, or another codec";
            return found("encode_on", message.into());
        }
        if let Some(crf) = self.crf {
            match self.crf_range() {
                None => return found("crf", "FFV1 is lossless and has no `crf`: use auto".into()),
                Some((lowest, highest)) if !(lowest..=highest).contains(&crf) => {
                    let message = format!("`crf` is {crf}: use auto or {lowest} to {highest}");
                    return found("crf", message);
                }
                Some(_) => {}
            }
        }
        let preset = self.preset.as_deref().filter(|it| !self.knows_preset(it))?;
        let message = match self.presets() {
            Some(known) => format!("`preset` is {preset}: use auto or one of: {known}"),
            None => format!("`preset` is {preset}, and FFV1 has none: use auto"),
        };
        found("preset", message)
    }
}
