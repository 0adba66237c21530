//! What no container carries (telemetry, and subtitles of a kind it does not have), written beside the output.
//!
//! One file for all such streams of a clip, of lines of JSON. For each stream a line says what it is; then come the samples,
//! each with its times and its bytes in hex, so that `jq -r 'select(.stream == 3).data_hex // empty' | xxd -r -p` gives them
//! back as they were. Boxes outside the tracks are lines too, each with its name and place in the source.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use num_rational::Ratio;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::MediaError;
use super::boxes;
use super::clip::Sidecar;
use super::mux::write_io;
use crate::frame::Seconds;
use crate::hex::hex;

/// Identifier of the format, in its first line.
const FORMAT: &str = "slomod-streams/1";

/// End of the file's name.
pub const STREAMS: &str = "streams.jsonl";

/// Extension of a temporary output's folder of what will lie beside it, in place of its own.
const EXTENSION: &str = "beside";

/// The folder of what will lie beside the output that is now at `temporary`. Its name follows from that one's, so that
/// whoever removes or publishes the one finds the other.
#[must_use]
pub fn folder_beside(temporary: &Path) -> PathBuf {
    temporary.with_extension(EXTENSION)
}

/// What a stream is.
#[derive(Serialize)]
pub(super) struct Described {
    pub(super) stream: usize,
    pub(super) kind: String,
    pub(super) codec: String,
    /// The container's four letters, where it has some.
    pub(super) tag: Option<String>,
    /// Language, title, handler and the like.
    pub(super) metadata: Vec<(String, String)>,
}

/// A sample's bytes and times; a time that is not known is left out.
pub(super) struct Sample<'a> {
    pub(super) stream: usize,
    pub(super) data: &'a [u8],
    /// In the source's own clock.
    pub(super) source: Option<Seconds>,
    pub(super) output: Option<Seconds>,
    /// In source time.
    pub(super) duration: Option<Seconds>,
}

/// Begins the file.
#[derive(Serialize)]
struct Opening {
    format: &'static str,
    /// Source time that is 0 in the output, as a fraction and in seconds.
    source_origin: String,
    source_origin_s: f64,
    /// Output seconds for each source second, as a fraction.
    stretch: String,
}

#[derive(Serialize)]
struct Line {
    stream: usize,
    source_s: Option<f64>,
    output_s: Option<f64>,
    duration_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    data_hex: String,
}

/// A box outside the tracks.
#[derive(Serialize)]
struct BoxLine<'a> {
    r#box: &'a str,
    /// Where its content begins in the source.
    source_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    data_hex: String,
}

/// A file being written. Dropped before [`Self::finish`], it is removed.
pub(super) struct SidecarWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    sidecar: Sidecar,
    finished: bool,
}

impl SidecarWriter {
    /// Creates (or empties) the file in the folder of what will lie beside the output that is now at `temporary`.
    pub(super) fn create(
        temporary: &Path,
        origin: Seconds,
        stretch: Ratio<i128>,
    ) -> Result<Self, MediaError> {
        let folder = folder_beside(temporary);
        std::fs::create_dir_all(&folder).map_err(|error| write_io(&folder, error))?;
        let path = folder.join(STREAMS);
        let file = File::create(&path).map_err(|error| write_io(&path, error))?;
        let mut writer = Self {
            file: BufWriter::new(file),
            hash: Sha256::new(),
            sidecar: Sidecar { path: path.clone(), ..Sidecar::default() },
            path,
            finished: false,
        };
        writer.line(&Opening {
            format: FORMAT,
            source_origin: origin.to_string(),
            source_origin_s: real(origin),
            stretch: stretch.to_string(),
        })?;
        Ok(writer)
    }

    /// Says what a stream is, before its samples.
    pub(super) fn describe(&mut self, described: &Described) -> Result<(), MediaError> {
        self.sidecar.streams.push(described.stream);
        self.line(described)
    }

    /// Adds a sample; `text` where its bytes are to be read as such too.
    pub(super) fn add(&mut self, sample: &Sample<'_>) -> Result<(), MediaError> {
        self.sidecar.samples += 1;
        let text = readable(sample.data).map(str::to_owned);
        let data_hex = hex(sample.data);
        let (source_s, output_s) = (sample.source.map(real), sample.output.map(real));
        let duration_s = sample.duration.map(real);
        let stream = sample.stream;
        self.line(&Line { stream, source_s, output_s, duration_s, text, data_hex })
    }

    /// Adds the content of a box that is at `source_offset` in the source.
    pub(super) fn add_box(
        &mut self,
        name: &str,
        source_offset: u64,
        data: &[u8],
    ) -> Result<(), MediaError> {
        self.sidecar.samples += 1;
        boxes::name_once(&mut self.sidecar.boxes, name);
        let (text, data_hex) = (readable(data), hex(data));
        self.line(&BoxLine { r#box: name, source_offset, text, data_hex })
    }

    /// Adds what has no time, as an attachment; how many samples that is: none where there is nothing.
    pub(super) fn add_timeless(&mut self, stream: usize, data: &[u8]) -> Result<u64, MediaError> {
        if data.is_empty() {
            return Ok(0);
        }
        self.add(&Sample { stream, data, source: None, output: None, duration: None })?;
        Ok(1)
    }

    /// Makes the file durable; removes it again where it got no sample.
    pub(super) fn finish(mut self) -> Result<Option<Sidecar>, MediaError> {
        if self.sidecar.samples == 0 {
            return Ok(None);
        }
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| write_io(&self.path, error))?;
        self.finished = true;
        let hash = self.hash.finalize_reset();
        self.sidecar.sha256 = hex(&hash);
        Ok(Some(std::mem::take(&mut self.sidecar)))
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), MediaError> {
        let failed = |error: std::io::Error| write_io(&self.path, error);
        let mut line = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.hash.update(&line);
        self.sidecar.size_bytes += line.len() as u64;
        self.file.write_all(&line).map_err(|error| write_io(&self.path, error))
    }
}

impl Drop for SidecarWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("{}: an unfinished file cannot be removed: {error}", self.path.display());
        }
    }
}

/// Bytes that are to be read as text too.
fn readable(data: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(data).ok()?;
    (!text.is_empty() && !text.contains('\0')).then_some(text)
}

fn real(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}
