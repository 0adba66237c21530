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
}

/// A decoded 8-bit picture: tightly packed planes, `format.chroma.plane_size(i, ..)` samples each, row by row.
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
            let (w, h) = format.chroma.plane_size(index, format.width_px, format.height_px);
            vec![0; w * h]
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
    /// How long the container says it is shown, if it says.
    pub duration: Option<Seconds>,
    /// The samples.
    pub picture: Arc<Picture>,
}

/// Optional rationals as text (`30000/1001`, `25`) in files.
pub mod rational_text {
    use num_rational::Ratio;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Reads `30`, `29.97`, `30000/1001`.
    ///
    /// # Errors
    /// What was found, where it is no number of that form.
    pub fn parse(text: &str) -> Result<Ratio<i128>, String> {
        let wrong = || format!("`{text}` is no rate: write 60, 59.94 or 60000/1001");
        let whole = |part: &str| {
            let plain =
                !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<i128>().ok()).flatten().ok_or_else(wrong)
        };
        match (text.split_once('/'), text.split_once('.')) {
            (Some((n, d)), None) if whole(d)? != 0 => Ok(Ratio::new(whole(n)?, whole(d)?)),
            (None, Some((int, fraction))) => {
                let unit = 10_i128.pow(u32::try_from(fraction.len().min(18)).map_err(|_| wrong())?);
                Ok(Ratio::new(whole(int)? * unit + whole(fraction)?, unit))
            }
            (None, None) => Ok(Ratio::from_integer(whole(text)?)),
            _ => Err(wrong()),
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
    fn odd_sizes_round_chroma_up() {
        assert_eq!(Chroma::C420.plane_size(1, 3, 5), (2, 3));
        assert_eq!(Chroma::C422.plane_size(2, 3, 5), (2, 5));
    }
}
