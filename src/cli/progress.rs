//! Progress of a conversion: a bar on a terminal, a plain line now and then in a log.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::say;
use crate::pipeline::Progress;

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress on standard error.
pub enum Display {
    /// A terminal.
    Bar(ProgressBar),
    /// A file or a pipe.
    Lines {
        /// When the last line was printed.
        last: Option<Instant>,
    },
}

impl Display {
    /// A bar where standard error is a terminal that can show one, else lines.
    #[must_use]
    pub fn new() -> Self {
        let target = ProgressDrawTarget::stderr();
        if !std::io::stderr().is_terminal() || target.is_hidden() {
            return Self::Lines { last: None };
        }
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{msg:11} {wide_bar} {percent:>3} %  {prefix}  left {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// Shows `progress`.
    pub fn show(&mut self, progress: &Progress) {
        match self {
            Self::Bar(bar) => {
                if let Some(expected) = progress.frames_in_expected {
                    bar.set_length(expected.max(progress.frames_in));
                }
                bar.set_message(progress.phase.clone());
                bar.set_prefix(format!("{} frames, {:.1} fps", progress.frames_out, progress.fps));
                bar.set_position(progress.frames_in);
            }
            Self::Lines { last } => {
                if last.is_some_and(|it| it.elapsed() < LINE_INTERVAL) {
                    return;
                }
                *last = Some(Instant::now());
                say::note(line(progress));
            }
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Progress in one line.
#[must_use]
pub fn line(progress: &Progress) -> String {
    let of = progress.frames_in_expected.map_or(String::new(), |it| format!(" of {it}"));
    let left = progress.eta_s.map_or(String::new(), |it| format!(", {it:.0} s left"));
    format!(
        "{}: {}{of} frames in, {} out, {:.1} fps{left}",
        progress.phase, progress.frames_in, progress.frames_out, progress.fps
    )
}
