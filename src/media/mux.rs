//! The output file: container, headers, packets, and its removal unless it was finished.

use std::fs;
use std::path::{Path, PathBuf};

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Output;

use super::MediaError;
use super::raw;
use super::raw_input;
use super::raw_output;
use crate::config::settings::Container;
use crate::error::read_only_hint;
use crate::frame::Seconds;

/// Ticks a second of MP4's movie clock, in which the start of a track is written.
const MOVIE_TIMESCALE: &str = "90000";

/// How long, in microseconds, packets of one stream wait for those of another where pictures are large and none is held back by
/// the encoder. FFmpeg's own 10 s of FFV1 at 3840x2160 are gigabytes, as soon as a track of subtitles pauses.
const SHORT_WAIT_US: &str = "1000000";

/// FFmpeg's name of a container's muxer.
fn muxer_name(container: Container) -> &'static std::ffi::CStr {
    match container {
        Container::Mp4 => c"mp4",
        Container::Mkv => c"matroska",
        Container::Mov => c"mov",
    }
}

/// Removes the file when dropped, unless told to keep it.
struct Removal {
    path: Option<PathBuf>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("{}: unfinished output cannot be removed: {error}", path.display());
        }
    }
}

/// An output file being written. Dropped before [`Self::finish`], it is removed.
pub(super) struct Muxer {
    // Before `removal`: the file is closed, then removed.
    output: Output,
    path: PathBuf,
    container: Container,
    started: bool,
    unofficial: bool,
    removal: Removal,
}

impl Muxer {
    /// Creates (or empties) the file.
    pub(super) fn create(path: &Path, container: Container) -> Result<Self, MediaError> {
        let url = raw_input::file_url(path).map_err(|error| write_io(path, error))?;
        let output = raw_output::create_output(&url, muxer_name(container))
            .map_err(|error| write_error(path, "cannot be created", error))?;
        let removal = Removal { path: Some(path.to_owned()) };
        Ok(Self {
            output,
            path: path.to_owned(),
            container,
            started: false,
            unofficial: false,
            removal,
        })
    }

    /// FFmpeg's name of the format.
    pub(super) fn format(&self) -> String {
        self.output.format().name().to_owned()
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Which container it is.
    pub(super) fn container(&self) -> Container {
        self.container
    }

    /// The context, for streams and headers before [`Self::start`].
    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Lets the header hold what is used everywhere and stands in no standard (spheres, stereo in MP4).
    pub(super) fn allow_unofficial(&mut self) {
        self.unofficial = true;
    }

    /// Whether the container wants codec headers of its own instead of in the stream.
    pub(super) fn wants_global_header(&self) -> bool {
        self.output.format().flags().contains(ffmpeg::format::Flags::GLOBAL_HEADER)
    }

    /// Adds a stream; its number.
    pub(super) fn add_stream(
        &mut self,
        parameters: &ffmpeg::codec::Parameters,
        time_base: ffmpeg::Rational,
    ) -> Result<usize, MediaError> {
        raw_output::add_stream(&mut self.output, parameters, time_base)
            .map_err(|error| write_error(&self.path, "a stream cannot be added", error))
    }

    /// Writes the header. No stream can be added after it.
    pub(super) fn start(&mut self) -> Result<(), MediaError> {
        let mut options = ffmpeg::Dictionary::new();
        if self.output.streams().any(|it| it.parameters().id() == ffmpeg::codec::Id::FFV1) {
            options.set("max_interleave_delta", SHORT_WAIT_US);
        }
        if self.container == Container::Mov {
            raw_output::name_languages_for_mov(&mut self.output);
        }
        if self.container != Container::Mkv {
            // Entries that its own list has no place for go into a list of keys, which takes the place of the other.
            let keyed = raw_output::has_other_metadata(&self.output, self.container);
            options
                .set("movflags", if keyed { "+faststart+use_metadata_tags" } else { "+faststart" });
            options.set("movie_timescale", MOVIE_TIMESCALE);
            if self.unofficial {
                options.set("strict", "unofficial");
            }
        }
        // Times are made fit for the container here, not shifted by the muxer.
        options.set("avoid_negative_ts", "disabled");
        self.output
            .write_header_with(options)
            .map_err(|error| write_error(&self.path, "the header cannot be written", error))?;
        self.started = true;
        Ok(())
    }

    /// Seconds a tick of a stream's times, as the container holds them (after [`Self::start`]).
    pub(super) fn tick(&self, index: usize) -> Seconds {
        let stream = self.output.stream(index);
        stream.map_or_else(|| Seconds::new(1, 1_000), |it| raw::time_base(it.time_base()))
    }

    /// Writes a packet whose times are in the container's ticks.
    pub(super) fn write(
        &mut self,
        index: usize,
        packet: &mut ffmpeg::Packet,
    ) -> Result<(), MediaError> {
        packet.set_stream(index);
        packet.set_position(-1);
        packet
            .write_interleaved(&mut self.output)
            .map_err(|error| write_error(&self.path, "a packet cannot be written", error))
    }

    /// Writes the trailer and closes the file; from now on it stays.
    pub(super) fn finish(mut self) -> Result<(), MediaError> {
        let failed = |path: &Path, error| write_error(path, "the file cannot be completed", error);
        self.output.write_trailer().map_err(|error| failed(&self.path, error))?;
        raw_output::close_output(&mut self.output).map_err(|error| failed(&self.path, error))?;
        self.removal.path = None;
        Ok(())
    }
}

pub(super) fn write_io(path: &Path, source: std::io::Error) -> MediaError {
    let reason = format!("{source}{}", read_only_hint(&source));
    MediaError::Write { path: path.to_owned(), reason, source: Some(source) }
}

pub(super) fn write_error(path: &Path, what: &str, error: ffmpeg::Error) -> MediaError {
    let source = raw::system_error(error);
    let reason = match &source {
        Some(system) => format!("{what}: {system}{}", read_only_hint(system)),
        None => format!("{what}: {error}"),
    };
    MediaError::Write { path: path.to_owned(), reason, source }
}
