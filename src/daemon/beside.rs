//! Publishes what lies beside an output: behind the output and before the report.
//!
//! The files wait in a folder of their own (`pipeline::beside`) and leave it one by one, so that an interrupted publication
//! goes on with those that are still there.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::file::Collision;
use crate::daemon::names;
use crate::daemon::publish::{self, Outcome, io_error};
use crate::daemon::rename::{Placed, rename};
use crate::pipeline::beside;
use crate::report::provenance::Sidecar;
use crate::report::{self, Report};

/// The first name that one of the waiting files gets beside `output`, and that is taken.
pub(super) fn first_taken(temporary: &Path, output: &Path) -> Outcome<Option<PathBuf>> {
    for path in finals(temporary, output)? {
        if publish::is_there(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Gives the waiting files their names beside `output`. Where one of them is taken after all, those that were moved go
/// back.
pub(super) fn place(temporary: &Path, output: &Path, collision: Collision) -> Outcome<Placed> {
    let folder = beside::folder(temporary);
    for end in waiting(temporary)? {
        let (from, to) = (folder.join(&end), beside::path_beside(output, &end));
        publish::sync(&from)?;
        if rename(&from, &to, collision)? == Placed::NameTaken {
            return Ok(Placed::NameTaken);
        }
    }
    beside::remove(temporary).map_err(io_error(&folder, "cannot be removed"))?;
    publish::sync_folder_of(output)?;
    Ok(Placed::There)
}

/// Moves what `report` lists from beside `output` back to where it waited, unless it is another file of that name.
pub(super) fn take_back(report: &Report, temporary: &Path, output: &Path) -> Outcome<()> {
    for (end, sidecar) in listed(report) {
        let folder = beside::folder(temporary);
        let (from, to) = (beside::path_beside(output, OsStr::new(&end)), folder.join(&end));
        if !publish::is_there(&to)?
            && publish::has_content(&from, sidecar.size_bytes, &sidecar.sha256)?
        {
            fs::create_dir_all(&folder).map_err(io_error(&folder, "cannot be created"))?;
            fs::rename(&from, &to).map_err(io_error(&to, "cannot be renamed to"))?;
        }
    }
    Ok(())
}

/// Removes what the report at `report_path` lists beside `output`, which is about to be overwritten.
pub(super) fn remove_of(report_path: &Path, output: &Path) -> Outcome<()> {
    let Some(report) = publish::read_report(report_path)? else { return Ok(()) };
    for end in ends(&report) {
        let path = beside::path_beside(output, OsStr::new(&end));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&path, "cannot be removed")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts the names into `report` that the files get beside `output`. What it lists that does not lie there stays as it is.
pub(super) fn rename_in(report: &mut Report, output: &Path) {
    let Some(described) = &mut report.output else { return };
    for sidecar in &mut described.sidecars {
        if let Some(end) = end(&described.path, &sidecar.path) {
            let path = beside::path_beside(output, OsStr::new(&end));
            (sidecar.path, sidecar.path_b64) = report::path_fields(&path);
        }
    }
    (described.path, described.path_b64) = report::path_fields(output);
}

/// Ends of the names that a report lists. Reports can be written by anybody: none leads to another folder.
fn ends(report: &Report) -> Vec<String> {
    listed(report).into_iter().map(|it| it.0).collect()
}

/// The same with what it says of each.
fn listed(report: &Report) -> Vec<(String, &Sidecar)> {
    let Some(output) = &report.output else { return Vec::new() };
    let ends = output.sidecars.iter().filter_map(|it| Some((end(&output.path, &it.path)?, it)));
    ends.collect()
}

/// What comes behind the name of the output `output` and a dot in that of `path`, if it lies beside it.
fn end(output: &str, path: &str) -> Option<String> {
    let end = path.strip_prefix(output)?.strip_prefix('.')?;
    (!end.is_empty() && !end.contains('/')).then(|| end.to_owned())
}

fn finals(temporary: &Path, output: &Path) -> Outcome<Vec<PathBuf>> {
    let ends = waiting(temporary)?;
    Ok(ends.iter().map(|end| beside::path_beside(output, end)).collect())
}

fn waiting(temporary: &Path) -> Outcome<Vec<OsString>> {
    let folder = beside::folder(temporary);
    beside::waiting(temporary).map_err(io_error(&folder, "cannot be read"))
}

/// Removes what waits beside the temporary output `path`; other names have nothing beside them.
pub(super) fn remove_waiting(path: &Path) -> Outcome<()> {
    let folder = beside::folder(path);
    let is_temporary = folder.file_name().is_some_and(names::is_temporary);
    if !is_temporary {
        return Ok(());
    }
    beside::remove(path).map_err(io_error(&folder, "cannot be removed"))
}
