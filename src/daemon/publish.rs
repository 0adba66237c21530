//! Makes outputs and reports visible under their final names: the only code that does.
//!
//! Order, each step durable before the next: the names are recorded; the output is renamed to its final name, and after
//! it what lies beside it; the report is written beside it under a temporary name and renamed. So a report under its final name means that the job
//! is done, and an interruption after any step can be completed, or undone, by [`complete`].
//!
//! **Invariant:** nothing that is there is overwritten, unless the folder's configuration says so.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::file::Collision;
use crate::daemon::beside;
use crate::daemon::digest::file_sha256;
use crate::daemon::durable;
use crate::daemon::journal::{JournalError, Planned};
use crate::daemon::names;
use crate::daemon::rename::{Placed, rename};
use crate::error::{Classify, Consequence, ExitCode, read_only_hint};
use crate::pipeline::parts;
use crate::plain_file;
use crate::report::Report;
use crate::report::json::ReportError;

/// How many names are tried before giving up.
pub(super) const MOST_NAMES: u32 = 10_000;

/// Why something cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The system says no.
    #[error("{}: {action}: {source}{}", path.display(), read_only_hint(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// So many outputs have this name that none is left.
    #[error("{}: this name and ten thousand numbered ones are taken: tidy the output folder", .0.display())]
    NoName(PathBuf),
    /// A name is taken, and is to be left so.
    #[error("{}: is there already", .0.display())]
    Taken(PathBuf),
    /// Whether the output folder is still this daemon's cannot be seen.
    #[error("{}: whether the lock of this output folder is still held cannot be seen: {source}", folder.display())]
    LockUnseen {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The output folder is another daemon's now.
    #[error("{}: the lock of this output folder was lost, so nothing is published there", .0.display())]
    LockLost(PathBuf),
    /// The report cannot be written as JSON.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A recorded report cannot be read back.
    #[error("a recorded report cannot be read: {0}")]
    Recorded(#[from] serde_json::Error),
    /// The step could not be recorded.
    #[error(transparent)]
    Record(#[from] JournalError),
}

impl Classify for PublishError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Io { .. } | Self::NoName(_) | Self::LockLost(_) | Self::LockUnseen { .. } => {
                Consequence::Retry
            }
            Self::Report(_) | Self::Recorded(_) | Self::Taken(_) => Consequence::Reject,
            Self::Record(error) => error.consequence(),
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io { .. } | Self::NoName(_) | Self::Taken(_) => ExitCode::CannotCreate,
            Self::LockLost(_) | Self::LockUnseen { .. } => ExitCode::TempFail,
            Self::Report(_) | Self::Recorded(_) => ExitCode::Software,
            Self::Record(error) => error.exit_code(),
        }
    }
}

pub(super) type Outcome<T> = Result<T, PublishError>;

/// A verified output that waits under its temporary name.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where it is, in the folder of `output`.
    pub temporary: PathBuf,
    /// Its final name, if free.
    pub output: PathBuf,
    /// The report's final name, which is never numbered; `None` is the output's name and `.json`.
    pub report_path: Option<PathBuf>,
    /// What if a name is taken.
    pub collision: Collision,
    /// The report; its output path is set to the name that was found.
    pub report: Report,
}

/// Under which names an output was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The output.
    pub output: PathBuf,
    /// The report.
    pub report_path: PathBuf,
}

/// What is durable. An error from the witness of a step stops there, as if the process had died.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The output's bytes are on the disk, and these will be the names. To be recorded; [`JournalError::NameTaken`] asks
    /// for others.
    Planned(&'a Planned),
    /// The output has its final name.
    OutputVisible,
    /// The report has a temporary name.
    ReportWritten,
    /// The report has its final name.
    ReportVisible,
}

/// Sees every step once it is durable.
pub type Witness<'a> = dyn FnMut(Step<'_>) -> Outcome<()> + 'a;

/// What became of an interrupted publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is complete now.
    Published(Published),
    /// The output is gone: the clip has to be worked again.
    Undone,
}

/// Publishes `publication`.
///
/// # Errors
/// [`PublishError`]; the output is then still under its temporary or already under its final name.
pub fn publish(publication: &Publication, witness: &mut Witness<'_>) -> Outcome<Published> {
    let temporary = &publication.temporary;
    sync(temporary)?;
    let wanted = publication.output.file_name().unwrap_or_default();
    for number in 1..=MOST_NAMES {
        let output = publication.output.with_file_name(names::numbered(wanted, number));
        let report_path = match &publication.report_path {
            Some(path) => path.clone(),
            None => names::report_path(&output),
        };
        let taken = match publication.collision {
            Collision::Overwrite => None,
            _ => first_taken(temporary, &output, &report_path)?,
        };
        match taken {
            None => {}
            Some(path)
                if publication.collision == Collision::Skip
                    || publication.report_path.as_ref() == Some(&path) =>
            {
                return Err(PublishError::Taken(path));
            }
            Some(_) => continue,
        }
        let mut report = publication.report.clone();
        beside::rename_in(&mut report, &output);
        let report = text(&report)?;
        let planned = Planned { temporary: temporary.clone(), output, report_path, report };
        match witness(Step::Planned(&planned)) {
            Err(PublishError::Record(JournalError::NameTaken(_))) => continue,
            other => other?,
        }
        if let Placed::There = place(&planned, publication.collision, witness)? {
            return Ok(Published { output: planned.output, report_path: planned.report_path });
        }
        if publication.collision == Collision::Skip {
            return Err(PublishError::Taken(planned.output));
        }
    }
    Err(PublishError::NoName(publication.output.clone()))
}

/// Whether the output of `planned` has its final name already, with its own report or with none.
///
/// # Errors
/// [`PublishError`].
pub fn is_visible(planned: &Planned) -> Outcome<bool> {
    let report: Report = serde_json::from_str(&planned.report)?;
    match report_id(&planned.report_path)? {
        Some(id) => Ok(id == report.report_id),
        None => match &report.output {
            Some(output) => has_content(&planned.output, output.size_bytes, &output.sha256),
            None => Ok(false),
        },
    }
}

/// Completes what [`publish`] recorded as `planned` before it was interrupted, or finds that it cannot be.
///
/// # Errors
/// [`PublishError`]; it can be called again.
pub fn complete(
    planned: &Planned,
    collision: Collision,
    witness: &mut Witness<'_>,
) -> Outcome<Completion> {
    let report: Report = serde_json::from_str(&planned.report)?;
    let published =
        Published { output: planned.output.clone(), report_path: planned.report_path.clone() };
    if report_id(&planned.report_path)?.is_some_and(|id| id == report.report_id) {
        // Where it got its name by a link, it may have its temporary one as well.
        remove_file(&names::temporary_report(&planned.report_path))?;
        sync_folder_of(&planned.report_path)?;
        return Ok(Completion::Published(published));
    }
    let is_ours = |path: &Path| match &report.output {
        Some(output) => has_content(path, output.size_bytes, &output.sha256),
        None => Ok(false),
    };
    let planned_again = |report| Publication {
        temporary: planned.temporary.clone(),
        output: planned.output.clone(),
        report_path: None,
        collision,
        report,
    };
    if same_file(&planned.temporary, &planned.output) {
        // The fallback of `rename_to_free` was interrupted between its two steps.
        fs::remove_file(&planned.temporary)
            .map_err(io_error(&planned.temporary, "cannot be removed"))?;
    }
    // Its name is this attempt's own, and it was durable before the plan was: its size is proof enough.
    let whole =
        |size_bytes| fs::metadata(&planned.temporary).is_ok_and(|it| it.len() == size_bytes);
    if report.output.as_ref().is_some_and(|output| whole(output.size_bytes)) {
        return publish(&planned_again(report), witness).map(Completion::Published);
    }
    if !is_ours(&planned.output)? {
        beside::take_back(&report, &planned.temporary, &planned.output)?;
        remove_temporary(&names::temporary_report(&planned.report_path))?;
        remove_temporary(&planned.temporary)?;
        return Ok(Completion::Undone);
    }
    let placed = match beside::place(&planned.temporary, &planned.output, collision)? {
        Placed::There => place_report(planned, collision, witness)?,
        Placed::NameTaken => take_back(planned)?,
    };
    match placed {
        Placed::There => Ok(Completion::Published(published)),
        Placed::NameTaken => publish(&planned_again(report), witness).map(Completion::Published),
    }
}

/// Publishes the report of a source that got no output under the name `path`. A report there about the same source file
/// and content is replaced (the daemon may have died before it noted it down); for any other, the name is numbered.
/// `temporary` is the name of the output that there is not, in the same folder: what an interruption leaves,
/// [`remove_temporary`] removes with it.
///
/// # Errors
/// [`PublishError`].
pub fn publish_report(temporary: &Path, path: &Path, report: &Report) -> Outcome<PathBuf> {
    let temporary = names::report_of_temporary(temporary);
    let wanted = path.file_name().unwrap_or_default();
    let same_source = |there: &Report| {
        there.source.path == report.source.path && there.source.sha256 == report.source.sha256
    };
    let text = text(report)?;
    for number in 1..=MOST_NAMES {
        let path = path.with_file_name(names::numbered(wanted, number));
        let replace = read_report(&path)?.is_some_and(|there| same_source(&there));
        if !replace && is_there(&path)? {
            continue;
        }
        write(&temporary, &text)?;
        let collision = if replace { Collision::Overwrite } else { Collision::Rename };
        if let Placed::There = rename(&temporary, &path, collision)? {
            sync_folder_of(&path)?;
            return Ok(path);
        }
    }
    Err(PublishError::NoName(path.to_owned()))
}

/// Publishes the report of a source that got no output under just this name.
///
/// # Errors
/// [`PublishError::Taken`] where there is something of that name, unless `collision` is [`Collision::Overwrite`]; the other
/// variants as they are. Nothing is left of the report then.
pub fn publish_report_at(path: &Path, report: &Report, collision: Collision) -> Outcome<()> {
    let (temporary, text) = (names::temporary_report(path), text(report)?);
    let placed = write(&temporary, &text).and_then(|()| rename(&temporary, path, collision));
    if !matches!(placed, Ok(Placed::There)) {
        // Nobody knows of it but this call; why it failed is to be said.
        let _ = fs::remove_file(&temporary);
    }
    match placed? {
        Placed::There => sync_folder_of(path),
        Placed::NameTaken => Err(PublishError::Taken(path.to_owned())),
    }
}

/// Removes what a dead attempt left under its temporary name, and what was to lie beside it or to say why there is
/// nothing. Of any other file, that file alone.
///
/// # Errors
/// [`PublishError::Io`].
pub fn remove_temporary(path: &Path) -> Outcome<()> {
    beside::remove_waiting(path)?;
    if path.file_name().is_some_and(names::is_temporary) {
        remove_file(&names::report_of_temporary(path))?;
    }
    remove_file(path)
}

/// That there is none is as well.
fn remove_file(path: &Path) -> Outcome<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error(path, "cannot be removed")(error))
        }
        _ => Ok(()),
    }
}

/// Removes what all attempts of a job left: of this one its temporary file, and the segments kept for the next. What
/// cannot be removed now is removed with the leftovers, so that the error may be passed over.
///
/// # Errors
/// [`PublishError::Io`].
pub fn remove_attempts(temporary: &Path) -> Outcome<()> {
    remove_temporary(temporary)?;
    match names::parts_of_temporary(temporary) {
        Some(folder) => parts::remove(&folder).map_err(io_error(&folder, "cannot be removed")),
        None => Ok(()),
    }
}

/// The first of an output's names that is taken.
fn first_taken(temporary: &Path, output: &Path, report: &Path) -> Outcome<Option<PathBuf>> {
    if is_there(output)? {
        return Ok(Some(output.to_owned()));
    }
    match beside::first_taken(temporary, output)? {
        None if is_there(report)? => Ok(Some(report.to_owned())),
        taken => Ok(taken),
    }
}

fn place(planned: &Planned, collision: Collision, witness: &mut Witness<'_>) -> Outcome<Placed> {
    if collision == Collision::Overwrite {
        // Otherwise the report of what is overwritten would for a moment lie beside the new output.
        beside::remove_of(&planned.report_path, &planned.output)?;
        remove_temporary(&planned.report_path)?;
        sync_folder_of(&planned.report_path)?;
    }
    if rename(&planned.temporary, &planned.output, collision)? == Placed::NameTaken {
        return Ok(Placed::NameTaken);
    }
    sync_folder_of(&planned.output)?;
    witness(Step::OutputVisible)?;
    if beside::place(&planned.temporary, &planned.output, collision)? == Placed::NameTaken {
        return take_back(planned);
    }
    place_report(planned, collision, witness)
}

/// Where somebody took the report's name meanwhile, the output goes back to its temporary name, with what lies beside it.
fn place_report(
    planned: &Planned,
    collision: Collision,
    witness: &mut Witness<'_>,
) -> Outcome<Placed> {
    let temporary = names::temporary_report(&planned.report_path);
    write(&temporary, &planned.report)?;
    witness(Step::ReportWritten)?;
    if rename(&temporary, &planned.report_path, collision)? == Placed::NameTaken {
        fs::remove_file(&temporary).map_err(io_error(&temporary, "cannot be removed"))?;
        return take_back(planned);
    }
    sync_folder_of(&planned.report_path)?;
    witness(Step::ReportVisible)?;
    Ok(Placed::There)
}

/// The output and what lies beside it wait again.
fn take_back(planned: &Planned) -> Outcome<Placed> {
    beside::take_back(
        &serde_json::from_str(&planned.report)?,
        &planned.temporary,
        &planned.output,
    )?;
    rename(&planned.output, &planned.temporary, Collision::Overwrite)?;
    Ok(Placed::NameTaken)
}

pub(super) fn io_error(
    path: &Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io { path, action, source }
}

fn text(report: &Report) -> Outcome<String> {
    Ok(report.to_json()?)
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    let run = || {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    run().map_err(io_error(path, "cannot be written"))
}

pub(super) fn sync(path: &Path) -> Outcome<()> {
    durable::sync(path).map_err(io_error(path, "cannot be made durable"))
}

/// Renames a finished file; whether its name was free.
///
/// # Errors
/// [`PublishError`].
pub fn place_free(from: &Path, to: &Path) -> Outcome<bool> {
    Ok(rename(from, to, Collision::Rename)? == Placed::There)
}

pub(super) fn sync_folder_of(path: &Path) -> Outcome<()> {
    let folder = durable::folder_of(path);
    durable::sync_folder(folder).map_err(io_error(folder, "cannot be made durable"))
}

/// Whether there is anything of that name, a dangling link included.
pub(super) fn is_there(path: &Path) -> Outcome<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(path, "cannot be looked up")(error)),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The report at `path`; `None` where there is none, or something else.
///
/// # Errors
/// The system's.
pub fn read_report(path: &Path) -> Outcome<Option<Report>> {
    match plain_file::read(path) {
        Ok(bytes) => Ok(bytes.and_then(|it| serde_json::from_slice(&it).ok())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, "cannot be read")(error)),
    }
}

fn report_id(path: &Path) -> Outcome<Option<String>> {
    Ok(read_report(path)?.map(|report| report.report_id))
}

pub(super) fn has_content(path: &Path, size_bytes: u64, hash: &str) -> Outcome<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() == size_bytes => {
            Ok(file_sha256(path).map_err(io_error(path, "cannot be read"))? == hash)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(path, "cannot be looked up")(error)),
    }
}
