//! Files that are made with an output and published with it.
//!
//! Until then they lie in a folder beside the temporary output (`media/sidecar`), each under the end of its name:
//! `frames.csv` there becomes `OUTPUT.frames.csv`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::config::beside::{Beside, Comparison, Still};
use crate::frame::Seconds;
use crate::media::MediaError;
use crate::media::clip::{self, ClipInfo, VideoInfo};
use crate::media::sidecar::{STREAMS, folder_beside};
use crate::pipeline::comparison::{self, Compared};
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::ledger;
use crate::pipeline::pace::Beat;
use crate::pipeline::page;
use crate::pipeline::plan::Plan;
use crate::pipeline::stills;
use crate::pipeline::warnings;
use crate::pipeline::{ConvertError, Task};
use crate::report::provenance::Sidecar;
use crate::report::{self, Report};

/// End of the name of the list of frames.
pub const FRAME_LIST: &str = "frames.csv";

/// End of the name of the comparison.
pub const COMPARISON: &str = "compare.mp4";

/// End of the name of the page.
pub const PAGE: &str = "html";

/// End of the names of stills.
const STILL: &str = ".png";

/// Ends of names and what they are, for the report.
const KINDS: &[(&str, &str)] = &[
    (STREAMS, "streams"),
    (FRAME_LIST, "frame_list"),
    (COMPARISON, "comparison"),
    (PAGE, "page"),
    (STILL, "still"),
];

/// A clip that was converted.
pub struct Clip<'a> {
    /// What it is.
    pub info: &'a ClipInfo,
    /// What was done to time.
    pub plan: Plan,
    /// Time of its first frame.
    pub origin: Seconds,
    /// From there to the end of its last frame.
    pub length: Seconds,
    /// What was written of streams that the container does not carry.
    pub streams: Option<&'a clip::Sidecar>,
}

/// What a file of this name is that lies beside an output; `None` where slomod gives no such name.
#[must_use]
pub fn kind_of(output: &OsStr, name: &OsStr) -> Option<&'static str> {
    let end = name.as_bytes().strip_prefix(output.as_bytes())?.strip_prefix(b".")?;
    let end = std::str::from_utf8(end).ok()?;
    let is_still = stills::is_name(end);
    KINDS.iter().find(|(known, _)| end == *known || (is_still && *known == STILL)).map(|it| it.1)
}

/// What lies beside the place of `output` under names that `wanted` needs, and that of the streams which a container may
/// not carry, as is known only later.
///
/// # Errors
/// The system's.
pub fn taken(output: &Path, wanted: &Beside) -> io::Result<Vec<PathBuf>> {
    let folder = output.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let needs = |kind: &str| match kind {
        "frame_list" => wanted.frame_list,
        "comparison" => wanted.comparison != Comparison::Off,
        "page" => wanted.page,
        "still" => !wanted.stills.is_empty(),
        _ => true,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if kind_of(output.file_name().unwrap_or_default(), &name).is_some_and(needs) {
            found.push(output.with_file_name(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes what is asked for beside the finished output, and lists all of it in the report.
///
/// # Errors
/// Those of reading and writing; [`ConvertError::Interrupted`] where it is to stop.
pub fn make(
    task: &Task,
    clip: &Clip<'_>,
    report: &mut Report,
    beat: &mut Beat<'_>,
) -> Result<(), ConvertError> {
    let wanted = &task.settings.beside;
    let strongest = report.interpolation.as_ref().map(|it| &it.confidence);
    let strongest = strongest.and_then(|it| it.strongest_motion_pts_s).unwrap_or_default();
    let origin = *clip.origin.numer() as f64 / *clip.origin.denom() as f64;
    let micros = ((strongest - origin).max(0.0) * 1e6).round() as i128;
    let strongest = Seconds::new(micros, 1_000_000);
    if !wanted.stills.is_empty() {
        let instant = |still: &Still| match still {
            Still::Motion => strongest,
            Still::At(time) => *time,
        };
        let instants = wanted.stills.iter().map(instant).collect();
        stills::write(task, &clip.info.video, instants, beat)?;
        report.warnings.extend(warnings::of_stills(&wanted.stills, clip.length));
    }
    let mut comparison = None;
    if wanted.comparison != Comparison::Off {
        let path = prepare(&task.temporary, COMPARISON)?;
        let compared = Compared {
            source: &task.source,
            output: &task.temporary,
            video: &clip.info.video,
            plan: clip.plan,
            middle: strongest,
            length: clip.length,
            layout: wanted.comparison,
        };
        let size = comparison::write(&path, &compared, comparison::LARGEST_BYTES, beat)?;
        report.warnings.extend(warnings::of_comparison(size));
        comparison = Some(path);
    }
    if wanted.page {
        let path = prepare(&task.temporary, PAGE)?;
        let text = page::page(report, comparison.as_deref());
        let written = text.and_then(|text| fs::write(&path, text));
        written.map_err(|error| write_error(&path, error))?;
    }
    if let Some(output) = &mut report.output {
        output.sidecars = describe(task, clip.streams, beat)?;
    }
    Ok(())
}

/// Bytes that all of it takes at the most, until it is published, beside an output of `frames` frames.
#[must_use]
pub fn most_bytes(wanted: &Beside, video: &VideoInfo, plan: Plan, frames: f64) -> u64 {
    let list = if wanted.frame_list { (frames * ledger::FRAME_BYTES) as u64 } else { 0 };
    let comparison = comparison::most_bytes(video, plan, wanted.comparison, frames);
    let page = if wanted.page { page::most_bytes(comparison) } else { 0 };
    let stills = stills::most_bytes(video, wanted.stills.len());
    [list, comparison, page, stills].into_iter().fold(0, u64::saturating_add)
}

/// The folder of what will lie beside the output that is now at `temporary`.
#[must_use]
pub fn folder(temporary: &Path) -> PathBuf {
    folder_beside(temporary)
}

/// The final name of the file `end`.
#[must_use]
pub fn path_beside(output: &Path, end: &OsStr) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

/// Makes the folder and returns where the file `end` goes.
///
/// # Errors
/// [`MediaError::Write`].
pub fn prepare(temporary: &Path, end: &str) -> Result<PathBuf, MediaError> {
    let folder = folder(temporary);
    fs::create_dir_all(&folder).map_err(|error| write_error(&folder, error))?;
    Ok(folder.join(end))
}

/// The ends of names of all files that wait, in order; none where there is no folder.
///
/// # Errors
/// The system's.
pub fn waiting(temporary: &Path) -> io::Result<Vec<OsString>> {
    let folder = folder(temporary);
    // A link could lead to files that are not slomod's.
    match fs::symlink_metadata(&folder) {
        Ok(it) if it.is_dir() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut ends = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            ends.push(entry.file_name());
        }
    }
    ends.sort();
    Ok(ends)
}

/// Removes the folder with all that is in it; one that is not there is none.
///
/// # Errors
/// The system's.
pub fn remove(temporary: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder(temporary)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What waits, for the report, under the names that it gets beside the output.
///
/// # Errors
/// [`MediaError::Read`]; [`ConvertError::Interrupted`] where it is to stop.
fn describe(
    task: &Task,
    streams: Option<&clip::Sidecar>,
    beat: &mut Beat<'_>,
) -> Result<Vec<Sidecar>, ConvertError> {
    let (temporary, output) = (&task.temporary, &task.output);
    let folder = folder(temporary);
    let unreadable = |source| MediaError::Read { path: folder.clone(), source };
    let describe = |end: OsString| {
        let found = Fingerprint::take(&folder.join(&end), beat.stop, &mut |_| (beat.advanced)())?;
        let text = end.to_string_lossy();
        let kind = KINDS.iter().find(|(known, _)| text.ends_with(known)).map_or("other", |it| it.1);
        let streams = streams.filter(|_| end == STREAMS);
        let (path, path_b64) = report::path_fields(&path_beside(output, &end));
        Ok(Sidecar {
            kind: kind.into(),
            path,
            path_b64,
            size_bytes: found.size_bytes,
            sha256: found.sha256,
            streams: streams.map(|it| it.streams.clone()).unwrap_or_default(),
            boxes: streams.map(|it| it.boxes.clone()).unwrap_or_default(),
            samples: streams.map_or(0, |it| it.samples),
        })
    };
    waiting(temporary).map_err(unreadable)?.into_iter().map(describe).collect()
}

/// The error of a file beside the output that cannot be written.
pub fn write_error(path: &Path, error: io::Error) -> MediaError {
    MediaError::Write { path: path.to_owned(), reason: error.to_string(), source: Some(error) }
}
