//! What an output asks of whoever plays it: the level of its codec, by size and rate.

use crate::config::settings::Codec;
use crate::frame::Rate;
use crate::report;

/// H.264 (ITU-T H.264, table A-1): level, macroblocks a second, macroblocks a frame.
const H264: &[(&str, u64, u64)] = &[
    ("1", 1_485, 99),
    ("2", 11_880, 396),
    ("3", 40_500, 1_620),
    ("3.1", 108_000, 3_600),
    ("3.2", 216_000, 5_120),
    ("4", 245_760, 8_192),
    ("4.2", 522_240, 8_704),
    ("5", 589_824, 22_080),
    ("5.1", 983_040, 36_864),
    ("5.2", 2_073_600, 36_864),
    ("6", 4_177_920, 139_264),
    ("6.1", 8_355_840, 139_264),
    ("6.2", 16_711_680, 139_264),
];

/// H.265 (ITU-T H.265, tables A.8 and A.9): level, luma samples a second, luma samples a frame.
const H265: &[(&str, u64, u64)] = &[
    ("3", 16_588_800, 552_960),
    ("3.1", 33_177_600, 983_040),
    ("4", 66_846_720, 2_228_224),
    ("4.1", 133_693_440, 2_228_224),
    ("5", 267_386_880, 8_912_896),
    ("5.1", 534_773_760, 8_912_896),
    ("5.2", 1_069_547_520, 8_912_896),
    ("6", 1_069_547_520, 35_651_584),
    ("6.1", 2_139_095_040, 35_651_584),
    ("6.2", 4_278_190_080, 35_651_584),
];

/// Levels that hardly any device plays.
const HIGH: &[&str] = &["6", "6.1", "6.2"];

/// Rate up to which devices can be expected to play: what phones record and play.
const USUAL_FPS: i128 = 120;

/// The lowest level that holds pictures of that size at that rate; `None` where there is none, and for other codecs.
#[must_use]
pub fn level(
    codec: Codec,
    (width_px, height_px): (usize, usize),
    rate: Rate,
) -> Option<&'static str> {
    let (table, frame) = match codec {
        Codec::H264 => (H264, width_px.div_ceil(16) as u64 * height_px.div_ceil(16) as u64),
        Codec::H265 => (H265, width_px as u64 * height_px as u64),
        Codec::Av1 | Codec::Ffv1 => return None,
    };
    let second = (rate * i128::from(frame)).ceil().to_integer();
    let holds = |it: &&(&str, u64, u64)| i128::from(it.1) >= second && it.2 >= frame;
    table.iter().find(holds).map(|it| it.0)
}

/// A warning where many devices will not play the output.
#[must_use]
pub fn warning(codec: Codec, size: (usize, usize), rate: Rate) -> Option<report::Notice> {
    let level = level(codec, size, rate);
    let has_levels = matches!(codec, Codec::H264 | Codec::H265);
    let high = has_levels && level.is_none_or(|it| HIGH.contains(&it));
    if !high && (rate <= Rate::from_integer(USUAL_FPS) || codec == Codec::Ffv1) {
        return None;
    }
    let (width, height) = size;
    let fps = *rate.numer() as f64 / *rate.denom() as f64;
    let level = match (has_levels, level) {
        (true, Some(level)) => format!(", level {level},"),
        (true, None) => ", above every level,".to_owned(),
        (false, _) => String::new(),
    };
    let message = format!(
        "{width}x{height} at {fps:.2} frames a second{level} is more than many devices play; a lower `fps` (--fps) makes fewer frames a second of the same clip"
    );
    Some(report::Notice { code: "level_high".into(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_that_x264_chooses() {
        let level = |fps: i128| level(Codec::H264, (1920, 1080), Rate::from_integer(fps));
        let found = [60, 120, 240, 320, 480].map(level);
        assert_eq!(found, ["4.2", "5.1", "5.2", "6", "6"].map(Some));
    }

    /// V28.
    #[test]
    fn what_many_devices_do_not_play_is_said() {
        let warns =
            |codec, size, fps: i128| warning(codec, size, Rate::from_integer(fps)).is_some();
        for codec in [Codec::H264, Codec::H265, Codec::Av1] {
            assert!(
                !warns(codec, (1920, 1080), 60) && !warns(codec, (1920, 1080), 120),
                "{codec:?}"
            );
            assert!(
                warns(codec, (1920, 1080), 320) && warns(codec, (1920, 1080), 480),
                "{codec:?}"
            );
        }
        assert!(!warns(Codec::H264, (3840, 2160), 60) && warns(Codec::H264, (7680, 4320), 60));
        assert!(!warns(Codec::Ffv1, (1920, 1080), 480), "nobody plays it anyway");
    }
}
