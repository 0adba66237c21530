//! Arguments about what a clip shows and what is made beside the output.

use std::path::PathBuf;

use clap::Args;

use crate::config::beside::{Beside, Comparison, Still};
use crate::config::content::{Content, Duplicates, Mark, Mask, Overlays};
use crate::config::settings::Settings;

/// What a clip shows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Content")]
pub struct ContentArgs {
    /// A list of cuts, a time a line from the clip's beginning, as 12.48 or 1:02.5; # begins a comment. They are
    /// barriers as those that are found are.
    #[arg(long, value_name = "FILE")]
    pub cut_list: Option<PathBuf>,
    /// Look for no cuts: only those of the list are barriers.
    #[arg(long)]
    pub no_find_cuts: bool,
    /// keep: repeated pictures stay. repair: one or two in a row are replaced by pictures between their neighbors, and
    /// the report marks them.
    #[arg(long, value_enum, default_value_t = Duplicates::Keep)]
    pub duplicates: Duplicates,
    /// Confidence, 0 (never) to 1, below which nothing is made and the earlier frame is held. [default: 0; 0.3 in
    /// profile evidence]
    #[arg(long, value_name = "C", value_parser = parse_confidence)]
    pub hold_below: Option<f64>,
    /// Left, top, width, height of a part of the stored picture in which made frames show the nearest real one, in
    /// pixels or percent: "70%, 0, 30%, 5%". Can be given several times.
    #[arg(long = "mask", value_name = "L,T,W,H")]
    pub masks: Vec<Mask>,
    /// detect: look for such parts (a burnt-in clock, a watermark) at the beginning of the clip. [default: ignore;
    /// detect in the profiles evidence and dashcam]
    #[arg(long, value_enum)]
    pub overlays: Option<Overlays>,
    /// corner: a black and white square in the upper left corner of every made frame. [default: none; corner in profile
    /// evidence]
    #[arg(long, value_enum)]
    pub mark: Option<Mark>,
    /// List every frame in OUTPUT.frames.csv: what it shows, and hashes of source and output frame.
    #[arg(long)]
    pub frame_list: bool,
    /// side or split: a short clip of original and result round the strongest motion, OUTPUT.compare.mp4. [default: off;
    /// side in profile evidence]
    #[arg(long, value_enum)]
    pub comparison: Option<Comparison>,
    /// A page to read in a browser, OUTPUT.html: the comparison, the quality over time, all figures.
    #[arg(long)]
    pub page: bool,
    /// Write the real frames round this instant (seconds from the beginning, or motion: where that is strongest) as
    /// OUTPUT.frame-NNNNNN.png. Can be given several times.
    #[arg(long = "still", value_name = "S|motion")]
    pub stills: Vec<Still>,
}

fn parse_confidence(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|it| (0.0..=1.0).contains(it)).ok_or_else(|| "use 0 (never) to 1".to_owned())
}

impl ContentArgs {
    /// `default` with what was said here.
    #[must_use]
    pub fn content(&self, default: &Settings) -> Content {
        // A plain name must not be taken for an ending.
        let file = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Content {
            find_cuts: !self.no_find_cuts,
            cut_list: self.cut_list.as_ref().map(file),
            duplicates: self.duplicates,
            hold_below: match self.hold_below {
                None => default.content.hold_below,
                Some(limit) => (limit > 0.0).then_some(limit),
            },
            masks: self.masks.clone(),
            overlays: self.overlays.unwrap_or(default.content.overlays),
            mark: self.mark.unwrap_or(default.content.mark),
        }
    }

    /// `default` with what was said here.
    #[must_use]
    pub fn beside(&self, default: &Settings) -> Beside {
        Beside {
            frame_list: self.frame_list || default.beside.frame_list,
            comparison: self.comparison.unwrap_or(default.beside.comparison),
            page: self.page || default.beside.page,
            stills: match self.stills[..] {
                [] => default.beside.stills.clone(),
                ref stills => stills.to_vec(),
            },
        }
    }
}
