//! What is made beside an output.

use num_rational::Ratio;
use serde::{Deserialize, Serialize};

use crate::frame::{Seconds, rational_text};

/// What is made beside an output, as files whose names begin with that of the output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beside {
    /// A line for every output frame: what it shows, and hashes of source and output frame.
    pub frame_list: bool,
    /// A short clip of original and result.
    pub comparison: Comparison,
    /// A page to read, with the comparison in it.
    pub page: bool,
    /// Instants round which real frames are written as pictures.
    pub stills: Vec<Still>,
}

/// How original and result are laid out in the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// There is none.
    #[default]
    Off,
    /// Beside each other.
    Side,
    /// The left half of the one and the right half of the other, in one picture.
    Split,
}

/// An instant of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Still {
    /// Where the motion is strongest.
    Motion,
    /// In seconds from the first frame.
    At(Seconds),
}

impl std::str::FromStr for Still {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "motion" => Ok(Self::Motion),
            _ => {
                let time = rational_text::parse(text).ok();
                time.map(Self::At).ok_or_else(|| {
                    format!("`{text}` is no instant: write motion, or seconds from the beginning")
                })
            }
        }
    }
}

impl TryFrom<String> for Still {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Still> for String {
    fn from(still: Still) -> Self {
        match still {
            Still::Motion => "motion".into(),
            Still::At(time) => Ratio::to_string(&time),
        }
    }
}
