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

use crate::config::file::TRASH;
use crate::media::MediaError;
use crate::pipeline::ConvertError;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::sequence::{Pattern, Sequence};
use crate::plain_file;
use crate::report::base64;
use crate::report::{Report, Source, path_fields};

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
    /// Another file has the name of the source now, and the report is of a clip that got no output: it speaks of what was there.
    Replaced,
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
/// now, if that was said, or a folder that originals were moved to.
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
            Some(path) if !is_of_originals(path, of) => look("source", path, said, stop)?,
            folder => look_for_source(found, &made, (said, folder), stop)?,
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

/// Whether `path` is a folder in which the source may be, and not the folder of its numbered pictures.
fn is_of_originals(path: &Path, source: &Source) -> bool {
    path.is_dir() && Pattern::parse(Path::new(&source.path)).is_none()
}

/// The source is the first file of its name that is what the report says; an output may well have its name. Else it is what
/// was moved away after the work: into the trash of a folder above, or into the folder `originals`. Where none is, it is the
/// first that is there.
fn look_for_source(
    found: &Found<'_>,
    made: &[(&str, PathBuf, &str)],
    (said, originals): (&str, Option<&Path>),
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
    let trash = |folder: &Path| {
        let below = where_said.parent()?.strip_prefix(folder).ok()?;
        Some(folder.join(TRASH).join(below))
    };
    let trashes = where_said.ancestors().skip(1).filter_map(trash);
    let tails = tails(where_said.parent().unwrap_or(Path::new("")));
    let originals = originals.into_iter().flat_map(|it| tails.iter().map(|tail| it.join(tail)));
    let folders: Vec<_> = trashes.chain(originals).collect();
    // Nearly all have their own name there: whole folders, which may be large, are read for the others alone.
    let own = folders.iter().map(|it| it.join(where_said.file_name().unwrap_or_default()));
    let own = own.filter(|it| is_as_long(it, of.size_bytes));
    for path in own.chain(folders.iter().flat_map(|it| as_long(it, &where_said, of.size_bytes))) {
        let item = look("source", &path, said, stop)?;
        if item.verdict == Verdict::Same {
            return Ok(item);
        }
    }
    let gave_none = found.report.output.is_none();
    Ok(match first {
        Some(it) if it.verdict == Verdict::Different && gave_none => {
            Item { verdict: Verdict::Replaced, ..it }
        }
        Some(it) => it,
        None => item("source", &where_said, said, (Verdict::Absent, None, None)),
    })
}

/// The ends of the path of a folder, the shortest first: below which part of it originals are kept apart is not known.
fn tails(folder: &Path) -> Vec<PathBuf> {
    let parts: Vec<_> = folder.iter().filter(|it| *it != "/").collect();
    (0..=parts.len()).rev().map(|from| parts[from..].iter().collect()).collect()
}

/// The files of `folder` that are as long as the source `said` and have its extension, but not its name: a moved original may
/// have a numbered one. None where the folder cannot be read, as there is none as a rule.
fn as_long(folder: &Path, said: &Path, size_bytes: u64) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_like = |path: &PathBuf| {
        path.extension() == said.extension()
            && path.file_name() != said.file_name()
            && is_as_long(path, size_bytes)
    };
    let mut found: Vec<_> = entries.flatten().map(|it| it.path()).filter(is_like).collect();
    found.sort();
    found
}

fn is_as_long(path: &Path, size_bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == size_bytes)
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
    use crate::config::settings::Settings;
    use crate::hex::hex;
    use crate::pipeline::Task;
    use crate::pipeline::convert::failure_report;
    use crate::pipeline::segments::Rule;
    use crate::report::Output;
    use sha2::{Digest as _, Sha256};

    const CONTENT: &str = "a clip that was cut";

    /// The report of the source of that content, which got no output.
    fn refused(source: &Path) -> Report {
        let output = source.with_file_name("a_slow2x.mp4");
        let task = Task {
            source: source.to_owned(),
            temporary: output.with_extension("t"),
            parts: None,
            segments: Rule::default(),
            output,
            settings: Settings::default(),
            settings_sha256: None,
        };
        let mut report = failure_report(&task, &ConvertError::Settings("cut".into()));
        (report.source.sha256, report.source.sha256_after) = (Some(hash()), None);
        report.source.size_bytes = CONTENT.len() as u64;
        report
    }

    fn hash() -> String {
        hex(&Sha256::digest(CONTENT))
    }

    fn source_of(report: &Report, folder: &Path, source: Option<&Path>) -> Item {
        files(&Found { report, folder }, source, &Arc::default()).unwrap().remove(0)
    }

    /// The report of a part of a clip stays beside the output that the whole clip of the name got since.
    #[test]
    fn a_report_without_output_promises_nothing_of_what_has_the_name_of_its_source_since() {
        let folder = tempfile::tempdir().unwrap();
        let (clip, out) = (folder.path().join("in/a.mp4"), folder.path().join("out"));
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(&clip, CONTENT).unwrap();
        let mut report = refused(&clip);
        let verdict = |report: &Report, at| source_of(report, &out, at).verdict;
        assert_eq!(verdict(&report, None), Verdict::Same);
        fs::write(&clip, "the whole clip, which was done").unwrap();
        assert_eq!(verdict(&report, None), Verdict::Replaced);
        assert_eq!(verdict(&report, Some(&clip)), Verdict::Different, "somebody says it is that");
        fs::remove_file(&clip).unwrap();
        assert_eq!(verdict(&report, None), Verdict::Absent);
        fs::write(&clip, "another").unwrap();
        report.output = Some(Output { path: "/out/a.mp4".into(), ..Output::default() });
        assert_eq!(verdict(&report, None), Verdict::Different);
    }

    #[test]
    fn an_original_that_was_moved_away_is_found_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, content: &str| {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), content).unwrap();
        };
        let report = refused(&path("in/sub/a.mp4"));
        let found = |at: Option<&Path>| source_of(&report, folder.path(), at);
        let is_at = |item: &Item, name: &str| {
            (item.verdict, item.path.as_path()) == (Verdict::Same, path(name).as_path())
        };
        write("originals/sub/a.mp4", &"x".repeat(CONTENT.len()));
        write("originals/sub/a~2.mp4", CONTENT);
        assert_eq!(found(None).verdict, Verdict::Absent, "nobody knows of that folder");
        let moved = found(Some(&path("originals")));
        assert!(is_at(&moved, "originals/sub/a~2.mp4"), "{moved:?}");
        fs::create_dir(path("in")).unwrap();
        assert_eq!(found(Some(&path("in"))).verdict, Verdict::Absent);
        write("in/.slomod-trash/sub/a.mp4", CONTENT);
        let trashed = found(None);
        assert!(is_at(&trashed, "in/.slomod-trash/sub/a.mp4"), "{trashed:?}");
    }

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
