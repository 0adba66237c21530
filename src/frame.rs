//! Frames and the exact times they are shown at: the values that media, pipeline and engine hand to each other.

use std::sync::Arc;

use num_rational::Ratio;
use serde::{Deserialize, Serialize};

/// Seconds, exact. 128 bits so that sums of unlike time bases cannot overflow in practice.
pub type Seconds = Ratio<i128>;

/// Frames per second, exact.
pub type Rate = Ratio<i128>;

/// How chroma is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chroma {
    /// Luma only.
    Gray,
    /// Half width, half height (sizes rounded up).
    C420,
    /// Half width (rounded up), full height.
    C422,
    /// Full size.
    C444,
    /// Three full-size planes G, B, R: no conversion matrix (FFmpeg's `gbrp` order).
    Gbr,
}

impl Chroma {
    /// Number of planes.
    #[must_use]
    pub fn planes(self) -> usize {
        if self == Self::Gray { 1 } else { 3 }
    }

    /// Size in samples of plane `index` of a picture of `width_px` x `height_px`.
    #[must_use]
    pub fn plane_size(self, index: usize, width_px: usize, height_px: usize) -> (usize, usize) {
        match (self, index) {
            (_, 0) | (Self::C444 | Self::Gbr | Self::Gray, _) => (width_px, height_px),
            (Self::C420, _) => (width_px.div_ceil(2), height_px.div_ceil(2)),
            (Self::C422, _) => (width_px.div_ceil(2), height_px),
        }
    }
}

/// Which RGB ↔ YCbCr matrix applies (ITU-T H.273 `MatrixCoefficients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// BT.601 (Kr 0.299, Kb 0.114).
    Bt601,
    /// BT.709 (Kr 0.2126, Kb 0.0722).
    Bt709,
    /// BT.2020 non-constant luminance (Kr 0.2627, Kb 0.0593).
    Bt2020,
}

/// Range of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// "tv": luma 16–235, chroma 16–240 at 8 bit.
    Limited,
    /// "pc": 0–255 at 8 bit.
    Full,
}

/// Bits of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Depth {
    /// 8.
    #[default]
    #[serde(rename = "8")]
    Eight,
    /// 10.
    #[serde(rename = "10")]
    Ten,
    /// 12.
    #[serde(rename = "12")]
    Twelve,
}

impl Depth {
    /// The number.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Ten => 10,
            Self::Twelve => 12,
        }
    }

    /// Bytes that a stored sample takes: 1, or 2 for more than 8 bits.
    #[must_use]
    pub fn bytes(self) -> usize {
        if self == Self::Eight { 1 } else { 2 }
    }

    /// The largest code.
    #[must_use]
    pub fn peak(self) -> u16 {
        (1 << self.bits()) - 1
    }

    /// Steps for each step at 8 bits: 1, 4 or 16.
    #[must_use]
    pub fn steps(self) -> u16 {
        1 << (self.bits() - 8)
    }
}

/// A sample as stored: a byte, or for more than 8 bits two of them, the low one first, as FFmpeg's `le` formats and CUDA
/// have it.
pub trait Sample: Copy + Send + Sync + 'static {
    /// Stored bytes as samples; a last half sample is left out.
    fn of(bytes: &[u8]) -> &[Self];

    /// [`Self::of`], to be changed.
    fn of_mut(bytes: &mut [u8]) -> &mut [Self];

    /// Its code.
    fn code(self) -> u16;

    /// The sample of a code; at 8 bits, of its low byte.
    fn from_code(code: u16) -> Self;
}

impl Sample for u8 {
    fn of(bytes: &[u8]) -> &[Self] {
        bytes
    }

    fn of_mut(bytes: &mut [u8]) -> &mut [Self] {
        bytes
    }

    fn code(self) -> u16 {
        u16::from(self)
    }

    fn from_code(code: u16) -> Self {
        code as u8
    }
}

impl Sample for [u8; 2] {
    fn of(bytes: &[u8]) -> &[Self] {
        bytes.as_chunks().0
    }

    fn of_mut(bytes: &mut [u8]) -> &mut [Self] {
        bytes.as_chunks_mut().0
    }

    fn code(self) -> u16 {
        u16::from_le_bytes(self)
    }

    fn from_code(code: u16) -> Self {
        code.to_le_bytes()
    }
}

/// Layout of a picture; all frames of a clip share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureFormat {
    /// Columns, at least 1; any parity.
    pub width_px: usize,
    /// Rows, at least 1; any parity.
    pub height_px: usize,
    /// Chroma sampling and plane order.
    pub chroma: Chroma,
    /// Matrix used between RGB and YCbCr; for untagged clips the media layer decides by size.
    pub matrix: Matrix,
    /// Sample range.
    pub range: Range,
    /// Bits of a sample.
    pub depth: Depth,
}

impl PictureFormat {
    /// Samples of a row and rows of plane `index`.
    #[must_use]
    pub fn plane_size(self, index: usize) -> (usize, usize) {
        self.chroma.plane_size(index, self.width_px, self.height_px)
    }

    /// Bytes of a row and rows of plane `index`.
    #[must_use]
    pub fn plane_bytes(self, index: usize) -> (usize, usize) {
        let (columns, rows) = self.plane_size(index);
        (self.depth.bytes() * columns, rows)
    }

    /// Layout of the transparency of such pictures ([`Frame::alpha`]).
    #[must_use]
    pub fn alpha(self) -> Self {
        Self { chroma: Chroma::Gray, range: Range::Full, ..self }
    }
}

/// A decoded picture: tightly packed planes of [`PictureFormat::plane_size`] samples each, row by row, every sample as in
/// [`Sample`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Layout of `planes`.
    pub format: PictureFormat,
    /// Y, Cb, Cr; or G, B, R; or Y alone. No padding between rows.
    pub planes: Vec<Vec<u8>>,
}

impl Picture {
    /// A picture with every sample zero.
    #[must_use]
    pub fn zeroed(format: PictureFormat) -> Self {
        let plane = |index| {
            let (row_bytes, rows) = format.plane_bytes(index);
            vec![0; row_bytes * rows]
        };
        Self { format, planes: (0..format.chroma.planes()).map(plane).collect() }
    }
}

/// A picture with its place in the source.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Number of the frame in decode-output (presentation) order, from 0. The engine caches features by it:
    /// two frames of one clip with the same index must hold the same picture.
    pub index: u64,
    /// Presentation time in the stream's own clock (its first frame need not be at 0).
    pub pts: Seconds,
    /// How long the container says it is shown, if it says; where it says how long the clip is, up to the end of that, which
    /// is right of the last frame alone.
    pub duration: Option<Seconds>,
    /// The samples.
    pub picture: Arc<Picture>,
    /// Its transparency, where the clip has any: of [`PictureFormat::alpha`], 0 where nothing is seen. It goes past the
    /// network.
    pub alpha: Option<Arc<Picture>>,
}

/// Optional rationals as text (`30000/1001`, `25`) in files.
pub mod rational_text {
    use num_rational::Ratio;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Most digits of a rate, and of either part of a fraction. With more, times of frames would not fit 128 bits.
    const DIGITS_MAX: u32 = 10;
    /// Most of them behind the point.
    const DECIMALS_MAX: usize = 9;

    /// Reads `30`, `29.97`, `30000/1001`. What is read can be written and read again.
    ///
    /// # Errors
    /// What was found, where it is no number of that form or has too many digits.
    pub fn parse(text: &str) -> Result<Ratio<i128>, String> {
        read(text, "rate: write 60, 59.94 or 60000/1001")
    }

    /// Reads a speed, as [`parse`] does.
    ///
    /// # Errors
    /// As of [`parse`].
    pub fn parse_speed(text: &str) -> Result<Ratio<i128>, String> {
        read(text, "speed: write 0.3 or 1/3")
    }

    fn read(text: &str, what: &str) -> Result<Ratio<i128>, String> {
        let limit = 10_i128.pow(DIGITS_MAX);
        let is_short = |it: &Ratio<i128>| *it.numer() < limit && *it.denom() < limit;
        let decimals = text.split_once('.').map_or(0, |it| it.1.len());
        let number = number(text).filter(is_short).filter(|_| decimals <= DECIMALS_MAX);
        number.ok_or_else(|| {
            let is_long = text.len() > DIGITS_MAX as usize || decimals > DECIMALS_MAX;
            let plain = text.bytes().all(|it| it.is_ascii_digit() || matches!(it, b'.' | b'/'));
            let why = match plain && is_long {
                true => format!(
                    ", with at most {DECIMALS_MAX} decimals, and {DIGITS_MAX} digits in all or in each part of a fraction"
                ),
                false => String::new(),
            };
            format!("`{text}` is no {what}{why}")
        })
    }

    /// A number of such a form with up to 18 digits in each part, which may be too long to be written and read again.
    #[must_use]
    pub fn number(text: &str) -> Option<Ratio<i128>> {
        let whole = |part: &str| {
            let plain = (1..=18).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<i128>().ok().filter(|_| plain)
        };
        match (text.split_once('/'), text.split_once('.')) {
            (Some((n, d)), None) => {
                let d = whole(d).filter(|it| *it != 0)?;
                Some(Ratio::new(whole(n)?, d))
            }
            (None, Some((int, fraction))) => {
                let decimals = whole(fraction)?;
                let unit = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
                Some(Ratio::new(whole(int)? * unit + decimals, unit))
            }
            (None, None) => whole(text).map(Ratio::from_integer),
            _ => None,
        }
    }

    /// Writes `30` or `30000/1001`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        value: &Option<Ratio<i128>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|it| it.to_string()).serialize(serializer)
    }

    /// Reads what [`parse`] reads, or null.
    ///
    /// # Errors
    /// Those of the deserializer and of [`parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Ratio<i128>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|it| parse(&it)).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_parse_exactly_or_not_at_all() {
        let parse = rational_text::parse;
        assert_eq!(parse("30000/1001"), Ok(Ratio::new(30000, 1001)));
        assert_eq!(parse("59.94"), Ok(Ratio::new(5994, 100)));
        assert_eq!(parse("25"), Ok(Ratio::from_integer(25)));
        for bad in
            ["", "1/0", "-3", "1e9", "3.", ".5", "1/2/3", "1.5/2", "nan", "99999999999999999999"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again() {
        let (parse, speed) = (rational_text::parse, rational_text::parse_speed);
        for text in [
            "0",
            "1/3",
            "0.3",
            "0.333333333",
            "59.94005994",
            "9.999999999",
            "9999999999",
            "9999999999/9999999998",
            "1/9999999999",
            "0000000000001/3",
            "1234567890.5",
        ] {
            let Ok(number) = parse(text) else { panic!("{text}") };
            assert_eq!(parse(&number.to_string()), Ok(number), "{text}");
            assert_eq!(speed(text), Ok(number));
        }
        for (text, long) in [
            ("0.3333333333", true),
            ("0.333333333333333333", true),
            ("0.3333333333333333333", true),
            ("0.5000000000", true),
            ("12.345678901", true),
            ("10000000000", true),
            ("10000000000/3", true),
            ("1/10000000000", true),
            ("1.5/2", false),
            ("a rate of 60 a second", false),
        ] {
            let why =
                ", with at most 9 decimals, and 10 digits in all or in each part of a fraction";
            let why = if long { why } else { "" };
            let said = |what: &str| Err(format!("`{text}` is no {what}{why}"));
            assert_eq!(parse(text), said("rate: write 60, 59.94 or 60000/1001"));
            assert_eq!(speed(text), said("speed: write 0.3 or 1/3"));
        }
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        assert_eq!(Chroma::C420.plane_size(1, 3, 5), (2, 3));
        assert_eq!(Chroma::C422.plane_size(2, 3, 5), (2, 5));
    }
}
