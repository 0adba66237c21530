//! Holds the files of a finished conversion to what its report says of them.
//!
//! The report itself is not signed: whoever can change a file can change its hash there. So its own hash is given, to be
//! noted where others cannot change it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Serialize, Serializer};

use crate::media::MediaError;
use crate::pipeline::ConvertError;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::sequence::{Pattern, Sequence};
use crate::plain_file;
use crate::report::base64;
use crate::report::{Report, path_fields};

/// What was found of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its content is what the report says.
    Same,
    /// It is not.
    Different,
    /// It should be there and is not.
    Missing,
    /// The source is neither beside the report nor where it was: nothing is said of it.
    Absent,
    /// It cannot be read.
    Unreadable,
}

/// A file that the report names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// `source`, `output`, or what lies beside the output (`report::provenance::Sidecar::kind`).
    pub kind: String,
    /// Where it is, or was looked for: beside the report, or else where the report says.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// The path's bytes in base64, where `path` is not exact as text.
    pub path_b64: Option<String>,
    /// SHA-256 that the report says.
    pub said_sha256: String,
    /// SHA-256 of what is there.
    pub found_sha256: Option<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// The system's reason, where it cannot be read.
    pub reason: Option<String>,
}

/// A report and the folder that it was found in.
pub struct Found<'a> {
    /// The report.
    pub report: &'a Report,
    /// Its folder.
    pub folder: &'a Path,
}

/// Every file that the report names, in the order source, output, what lies beside it; `source` is where the source is
/// now, if that was said.
///
/// # Errors
/// [`ConvertError::Interrupted`] where `stop` is set.
pub fn files(
    found: &Found<'_>,
    source: Option<&Path>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Item>, ConvertError> {
    let mut items = Vec::new();
    let made = made(found);
    let of = &found.report.source;
    if let Some(said) = of.sha256_after.as_ref().or(of.sha256.as_ref()) {
        items.push(match source {
            Some(path) => look("source", path, said, stop)?,
            None => look_for_source(found, &made, said, stop)?,
        });
    }
    for (kind, path, said) in made {
        items.push(look(kind, &path, said, stop)?);
    }
    Ok(items)
}

/// Output and what lies beside it: kind, where it is, and the hash that the report says.
fn made<'a>(found: &Found<'a>) -> Vec<(&'a str, PathBuf, &'a str)> {
    let Some(output) = &found.report.output else { return Vec::new() };
    let place = |text, bytes| {
        let (mut places, said) = places(found, text, bytes);
        places.push(said);
        let at = places.iter().position(|it| is_there(it));
        places.swap_remove(at.unwrap_or_default())
    };
    let path = place(&output.path, output.path_b64.as_deref());
    let mut made = vec![("output", path, output.sha256.as_str())];
    for beside in &output.sidecars {
        let path = place(&beside.path, beside.path_b64.as_deref());
        made.push((&beside.kind, path, &beside.sha256));
    }
    made
}

/// The source is the first file of its name that is what the report says; an output may well have its name. Where none is,
/// it is the first that is there.
fn look_for_source(
    found: &Found<'_>,
    made: &[(&str, PathBuf, &str)],
    said: &str,
    stop: &Arc<AtomicBool>,
) -> Result<Item, ConvertError> {
    let of = &found.report.source;
    let (beside, where_said) = places(found, &of.path, of.path_b64.as_deref());
    let (mut first, mut seen) = (None, made.iter().map(|it| &it.1).collect::<Vec<_>>());
    for path in beside.iter().chain([&where_said]) {
        if seen.iter().any(|it| is_same(it, path)) {
            continue;
        }
        seen.push(path);
        let item = look("source", path, said, stop)?;
        match item.verdict {
            Verdict::Same => return Ok(item),
            Verdict::Missing => {}
            _ => first = first.or(Some(item)),
        }
    }
    Ok(first.unwrap_or_else(|| item("source", &where_said, said, (Verdict::Absent, None, None))))
}

/// Where the file may be that the report calls `text`: beside the report, whose folder may have been moved, the likeliest
/// place first, and else where the report says.
fn places(found: &Found<'_>, text: &str, bytes: Option<&str>) -> (Vec<PathBuf>, PathBuf) {
    let exact = bytes.and_then(base64::decode).map(|it| PathBuf::from(OsString::from_vec(it)));
    let said = exact.unwrap_or_else(|| PathBuf::from(text));
    let name = said.file_name().unwrap_or_default();
    // Numbered pictures lie in a folder beside their report; beside it may be others of the same names.
    let folder =
        said.parent().and_then(Path::file_name).filter(|_| Pattern::parse(&said).is_some());
    let numbered = folder.map(|it| found.folder.join(it).join(name));
    (numbered.into_iter().chain([found.folder.join(name)]).collect(), said)
}

/// Whether two names lead to one file, or to the same numbered pictures.
fn is_same(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    match (id(a), id(b), Pattern::parse(a), Pattern::parse(b)) {
        (Some(a), Some(b), ..) => a == b,
        (None, None, Some(a), Some(b)) => {
            let folders = [id(&a.folder), id(&b.folder)];
            a.within(b.folder.clone()) == b && folders[0].is_some() && folders[0] == folders[1]
        }
        _ => false,
    }
}

fn is_there(path: &Path) -> bool {
    let numbered = || Pattern::parse(path).and_then(|it| it.found().ok());
    path.exists() || numbered().is_some_and(|it| !it.is_empty())
}

/// An item of which `found` says what came of it: verdict, hash of what is there, reason.
fn item(
    kind: &str,
    path: &Path,
    said: &str,
    (verdict, found_sha256, reason): (Verdict, Option<String>, Option<String>),
) -> Item {
    Item {
        kind: kind.to_owned(),
        path: path.to_owned(),
        path_b64: path_fields(path).1,
        said_sha256: said.to_owned(),
        found_sha256,
        verdict,
        reason,
    }
}

fn look(kind: &str, path: &Path, said: &str, stop: &Arc<AtomicBool>) -> Result<Item, ConvertError> {
    let item = |verdict, hash, reason| item(kind, path, said, (verdict, hash, reason));
    let is_numbered = Sequence::is_named_by(path);
    if path.exists() && !path.is_file() && !is_numbered {
        // A report may name a device, which never ends.
        return Ok(item(Verdict::Unreadable, None, Some("it is no file".to_owned())));
    }
    let hash = match is_numbered {
        true => Sequence::find(path).map_err(ConvertError::from).and_then(|it| it.measure(stop)),
        false => Fingerprint::take(path, stop, &mut |_| {}).map(|it| (it.size_bytes, it.sha256)),
    };
    match hash {
        Ok((_, hash)) if hash == said => Ok(item(Verdict::Same, Some(hash), None)),
        Ok((_, hash)) => Ok(item(Verdict::Different, Some(hash), None)),
        Err(ConvertError::Interrupted) => Err(ConvertError::Interrupted),
        Err(_) if !is_there(path) => Ok(item(Verdict::Missing, None, None)),
        Err(error) => Ok(item(Verdict::Unreadable, None, Some(error.to_string()))),
    }
}

/// All reports of a folder and of those below it, by their names; other files are passed over, as are hidden folders and
/// links to folders, which may lead round in a circle.
///
/// # Errors
/// [`MediaError::Read`].
pub fn reports(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>, Report)>, MediaError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| MediaError::Read { path: path.clone(), source }
    };
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
            let entry = entry.map_err(unreadable(&folder))?;
            let path = entry.path();
            if entry.file_type().map_err(unreadable(&path))?.is_dir() {
                let is_hidden = entry.file_name().as_bytes().starts_with(b".");
                folders.extend(Some(path).filter(|_| !is_hidden));
                continue;
            }
            if path.extension().is_none_or(|it| it != "json") || !path.is_file() {
                continue;
            }
            let bytes = plain_file::read_linked(&path).map_err(unreadable(&path))?;
            let Some(bytes) = bytes else { continue };
            if let Some(report) = parse(&bytes) {
                found.push((path, bytes, report));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The report in a file's bytes; `None` where they are none.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Report> {
    serde_json::from_slice(bytes).ok()
}

/// A path as text, with what is not UTF-8 replaced.
///
/// # Errors
/// The serializer's.
pub fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Error of a list of frames that is not one.
pub(super) fn no_list(path: &Path, reason: String) -> MediaError {
    MediaError::Unusable { path: path.to_owned(), code: "frame_list", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has the name of a report and is none, however long, is passed over as other files are.
    #[test]
    fn what_is_longer_than_a_report_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let huge = fs::File::create(folder.path().join("huge.json")).unwrap();
        if huge.set_len(1 << 43).is_err() {
            huge.set_len(1 << 38).unwrap();
        }
        fs::write(folder.path().join("other.json"), "{}").unwrap();
        assert!(reports(folder.path()).unwrap().is_empty());
    }
}
