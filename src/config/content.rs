//! What is done with what a clip shows: cuts, repeated pictures, overlays, and gaps that nobody can be sure of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What is done with what a clip shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// Whether hard cuts are looked for.
    pub find_cuts: bool,
    /// A list of cuts: a file, or the end of its name beside the clip where it begins with a dot. Listed cuts are barriers
    /// as those that were found are.
    pub cut_list: Option<PathBuf>,
    /// What happens to repeated pictures.
    pub duplicates: Duplicates,
    /// Confidence (0..=1) below which nothing is made: the earlier frame is held. `None` makes everything.
    pub hold_below: Option<f64>,
    /// Parts of the picture in which made frames show the nearest real one.
    pub masks: Vec<Mask>,
    /// Whether more of them are looked for.
    pub overlays: Overlays,
    /// What tells made frames from real ones on screen.
    pub mark: Mark,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            find_cuts: true,
            cut_list: None,
            duplicates: Duplicates::Keep,
            hold_below: None,
            masks: Vec::new(),
            overlays: Overlays::Ignore,
            mark: Mark::None,
        }
    }
}

impl Content {
    /// Where the list of cuts of the clip `source` is, if it may have one.
    #[must_use]
    pub fn cut_list_of(&self, source: &Path) -> Option<PathBuf> {
        let list = self.cut_list.as_ref()?;
        if !is_ending(list) {
            return Some(list.clone());
        }
        let mut name = source.as_os_str().to_owned();
        name.push(list);
        Some(name.into())
    }

    /// Whether a clip without a list of cuts is no fault.
    #[must_use]
    pub fn list_may_be_missing(&self) -> bool {
        self.cut_list.as_deref().is_some_and(is_ending)
    }
}

/// `.cuts` is an ending, `./cuts` and `/a/cuts` are files.
fn is_ending(list: &Path) -> bool {
    list.to_str().is_some_and(|it| it.starts_with('.') && !it.contains('/'))
}

/// What happens to pictures that repeat the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// They stay, and nothing is made beside them.
    #[default]
    Keep,
    /// One or two in a row are replaced by pictures between their neighbors, and marked.
    Repair,
}

/// Whether overlays (a clock, a watermark) are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Overlays {
    /// No.
    #[default]
    Ignore,
    /// At the beginning of the clip.
    Detect,
}

/// What tells made frames from real ones on screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// A black and white square in the upper left corner.
    Corner,
}

/// A rectangle of the stored picture: left, top, width, height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mask {
    /// Left, top, width, height.
    sides: [Length; 4],
}

/// In pixels, or in percent of the picture's width or height.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Length {
    Pixels(u32),
    Percent(f64),
}

/// A rectangle in pixels, within the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rectangle {
    /// First column.
    pub left_px: usize,
    /// First row.
    pub top_px: usize,
    /// Columns, at least 1.
    pub width_px: usize,
    /// Rows, at least 1.
    pub height_px: usize,
}

impl Mask {
    /// The pixels that it covers of a picture of that size, a pixel that it covers in part included; `None` where it lies
    /// outside.
    #[must_use]
    pub fn rectangle(&self, width_px: usize, height_px: usize) -> Option<Rectangle> {
        let at = |length: Length, of: usize| match length {
            Length::Pixels(pixels) => f64::from(pixels),
            Length::Percent(percent) => percent / 100.0 * of as f64,
        };
        let [left, top, width, height] = self.sides;
        let span = |from: Length, length: Length, of: usize| {
            let (start, end) = (at(from, of), at(from, of) + at(length, of));
            let (start, end) = (start.floor() as usize, (end.ceil() as usize).min(of));
            (start < end).then(|| (start, end - start))
        };
        let (left_px, width_px) = span(left, width, width_px)?;
        let (top_px, height_px) = span(top, height, height_px)?;
        Some(Rectangle { left_px, top_px, width_px, height_px })
    }
}

impl std::str::FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no mask: write left, top, width, height in pixels or percent, as \"0, 1000, 640, 80\" or \
                 \"70%, 0, 30%, 5%\""
            )
        };
        let length = |word: &str| match word.trim().strip_suffix('%') {
            Some(number) => number
                .trim()
                .parse()
                .ok()
                .filter(|it| (0.0..=100.0).contains(it))
                .map(Length::Percent),
            None => word.trim().parse().ok().map(Length::Pixels),
        };
        let sides: Option<Vec<Length>> = text.split(',').map(length).collect();
        let sides: [Length; 4] = sides.and_then(|it| it.try_into().ok()).ok_or_else(wrong)?;
        let is_empty = |it: &Length| matches!(it, Length::Pixels(0) | Length::Percent(0.0));
        if sides[2..].iter().any(is_empty) { Err(wrong()) } else { Ok(Self { sides }) }
    }
}

impl std::fmt::Display for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, length) in self.sides.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match length {
                Length::Pixels(pixels) => write!(f, "{comma}{pixels}")?,
                Length::Percent(percent) => write!(f, "{comma}{percent}%")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Mask {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mask> for String {
    fn from(mask: Mask) -> Self {
        mask.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_pixels_or_percent_and_cover_whole_pixels() {
        let mask = |text: &str| text.parse::<Mask>();
        let rectangle = |text: &str| mask(text).unwrap().rectangle(641, 361);
        let made = |left_px, top_px, width_px, height_px| {
            Some(Rectangle { left_px, top_px, width_px, height_px })
        };
        assert_eq!(rectangle("10, 20, 30, 40"), made(10, 20, 30, 40));
        assert_eq!(rectangle("70%,0,30%,5%"), made(448, 0, 193, 19));
        assert_eq!(rectangle("600, 350, 100, 100"), made(600, 350, 41, 11));
        for outside in ["641, 0, 10, 10", "1000, 1000, 10, 10", "0, 4294967295, 1, 4294967295"] {
            assert_eq!(rectangle(outside), None);
        }
        for bad in ["", "1,2,3", "1,2,3,0", "1,2,3,4,5", "a,b,c,d", "101%,0,1,1", "-1,0,1,1"] {
            assert!(mask(bad).is_err(), "{bad}");
        }
        for text in ["10, 20, 30, 40", "70%, 0, 30%, 5.5%"] {
            assert_eq!(mask(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_list_of_cuts_lies_beside_the_clip_or_where_it_is_said() {
        let content = |list: &str| Content { cut_list: Some(list.into()), ..Content::default() };
        let clip = Path::new("/in/a.mp4");
        assert_eq!(content(".cuts").cut_list_of(clip), Some("/in/a.mp4.cuts".into()));
        assert_eq!(content("/x/y.txt").cut_list_of(clip), Some("/x/y.txt".into()));
        assert_eq!(content("./y.txt").cut_list_of(clip), Some("./y.txt".into()));
        assert!(content(".cuts").list_may_be_missing() && !content("./y").list_may_be_missing());
        assert_eq!(Content::default().cut_list_of(clip), None);
    }
}
