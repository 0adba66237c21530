//! What streams that were to be kept lack in the output: what lies before the first picture, and tracks that stay empty.

use num_rational::Ratio;

use super::clip::StreamOutcome;
use crate::config::settings::Container;
use crate::frame::Seconds;

/// Sound before the first picture that says nothing, in milliseconds: three frames of HE-AAC, which encoders begin with.
const LEAD_IN_MS: i128 = 150;

/// Code and sentence.
type Warning = (String, String);

/// What one stream lacks.
#[derive(Clone, Copy, Default)]
pub(super) struct Lack {
    /// Seconds of sound before the first picture.
    pub(super) sound: Seconds,
    /// Subtitles that end before the first picture.
    pub(super) subtitles: u64,
    /// Whether nothing of it was written.
    pub(super) all: bool,
}

/// Gathers what all streams lack.
#[derive(Default)]
pub(super) struct LeftOut {
    /// What became of every stream.
    pub(super) outcomes: Vec<StreamOutcome>,
    /// The same by what is in the file: a track without a packet can be one of it.
    pub(super) in_file: Vec<StreamOutcome>,
    subtitles: u64,
    sound: Vec<(usize, Seconds)>,
}

impl LeftOut {
    /// Takes the next stream and what it lacks.
    pub(super) fn add(&mut self, mut outcome: StreamOutcome, lack: Lack, container: Container) {
        let is_early = lack.sound > Ratio::new(LEAD_IN_MS, 1_000);
        self.subtitles += lack.subtitles;
        if is_early {
            self.sound.push((outcome.stream.index, lack.sound));
        }
        let planned = outcome.clone();
        if lack.all {
            let why = match is_early || lack.subtitles > 0 {
                true => "all of it lies before the first picture",
                false => "it has no content that can be used",
            };
            (outcome.action, outcome.reason) = ("dropped", Some(why.to_owned()));
        }
        // Matroska's tracks are written before their packets are known, and MP4's of subtitles get an empty text.
        let stays = container == Container::Mkv || outcome.stream.kind == "subtitle";
        self.in_file.push(if stays { planned } else { outcome.clone() });
        self.outcomes.push(outcome);
    }

    /// What is to be said of it.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.subtitles > 0 {
            let message = format!("{} subtitles end before the first picture", self.subtitles);
            warnings.push(("subtitles_dropped".to_owned(), message));
        }
        if !self.sound.is_empty() {
            let number = |it: &Seconds| *it.numer() as f64 / *it.denom() as f64;
            let of =
                |(index, it): &(usize, Seconds)| format!("{:.3} s of stream {index}", number(it));
            let all: Vec<_> = self.sound.iter().map(of).collect();
            let message = format!(
                "sound before the first picture is left out, as the output begins there: {}",
                all.join(", ")
            );
            warnings.push(("sound_dropped".to_owned(), message));
        }
        warnings
    }
}
