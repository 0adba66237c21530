//! What a command may read and where it may write, seen before any work.
//!
//! **Invariant:** no file that a command reads is ever written by it, and none that is there is replaced unless that was
//! asked for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::convert::ConvertArgs;
use crate::config::settings::Container;
use crate::daemon::names;
use crate::error::{ExitCode, read_only_hint};
use crate::media::{MediaError, complete};
use crate::pipeline::beside;
use crate::pipeline::sequence::{Pattern, Sequence};

/// That `path` is a regular file and can be read. A pipe would be waited for without an end.
///
/// # Errors
/// [`MediaError::Read`]; [`MediaError::Unusable`] where it is something else than a file.
pub fn readable(path: &Path) -> Result<(), MediaError> {
    let unreadable = |source| MediaError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        let reason = "is no regular file (a folder, pipe or device); name a file".to_owned();
        return Err(MediaError::Unusable { path: path.to_owned(), code: "not_video", reason });
    }
    fs::File::open(path).map(|_| ()).map_err(unreadable)
}

/// That `path` is a clip whose end is there, before a device is taken and while memory can still be bounded.
///
/// # Errors
/// As [`readable`] and [`complete::check_end`].
pub fn whole(path: &Path) -> Result<(), MediaError> {
    readable(path)?;
    complete::check_end(path)
}

/// [`readable`] for what is no clip.
///
/// # Errors
/// Exit code 74 where it cannot be read, 65 where it is something else than a file.
pub fn check_readable(path: &Path) -> Result<(), CliError> {
    readable(path).map_err(|error| CliError::of(&error))
}

/// Whether two names lead to one file, or would once it is made.
#[must_use]
pub fn is_same(a: &Path, b: &Path) -> bool {
    if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b))
        && (a.dev(), a.ino()) == (b.dev(), b.ino())
    {
        return true;
    }
    let full = |path: &Path| {
        let folder = fs::canonicalize(folder_of(path)).ok()?;
        Some(folder.join(path.file_name()?))
    };
    full(a).is_some_and(|it| full(b) == Some(it))
}

/// Whether there is anything of that name, a dangling link included.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The folder that `path` lies in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."))
}

/// That a file can be made at `path`.
///
/// # Errors
/// Exit code 73 where it cannot.
pub fn check_folder(path: &Path) -> Result<(), CliError> {
    let folder = folder_of(path);
    let refused =
        |why: String| CliError::new(ExitCode::CannotCreate, format!("{}: {why}", path.display()));
    let is_no_file = fs::metadata(path).is_ok_and(|it| !it.is_file());
    if is_no_file || !folder.is_dir() {
        let why = "no file can be made there; name a file in a folder that exists";
        return Err(refused(why.into()));
    }
    // Rights, mounts and quotas have many reasons; whether a file can be made is known when one was.
    match tempfile::Builder::new().prefix(".slomod-tmp-").tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(format!("cannot be written: {error}{}", read_only_hint(&error)))),
    }
}

/// That `output` is none of the files that are read.
///
/// # Errors
/// Exit code 64 where it is.
pub fn check_apart<'a>(
    output: &Path,
    reads: impl IntoIterator<Item = &'a Path>,
) -> Result<(), CliError> {
    if !reads.into_iter().any(|it| is_same(it, output)) {
        return Ok(());
    }
    let message = format!(
        "{}: is the input too, which is never written; name another output",
        output.display()
    );
    Err(CliError::new(ExitCode::Usage, message))
}

fn taken(path: &Path, instead: &str) -> CliError {
    let message =
        format!("{}: is there already; name another {instead} or pass --overwrite", path.display());
    CliError::new(ExitCode::CannotCreate, message)
}

/// All files that a conversion reads.
fn reads(args: &ConvertArgs) -> Vec<PathBuf> {
    let mut files = match Sequence::is_named_by(&args.input) {
        // What is wrong with the pictures is said when they are read.
        true => Sequence::find(&args.input).map(|it| it.files).unwrap_or_default(),
        false => vec![args.input.clone()],
    };
    files.extend(args.network.model.clone());
    files.extend(args.content.cut_list.clone());
    files.retain(|it| it.exists());
    files
}

/// Faults of the place for a clip that is to be written.
///
/// # Errors
/// Exit code 64 where the name cannot be meant, 73 where it is taken or nothing can be written there.
pub fn check_output(args: &ConvertArgs) -> Result<(), CliError> {
    let usage = |message: String| Err(CliError::new(ExitCode::Usage, message));
    let output = &args.output;
    check_folder(output)?;
    check_apart(output, reads(args).iter().map(PathBuf::as_path))?;
    let named = Container::of_name(output);
    if let (Some(named), Some(said)) = (named, args.container)
        && named != said
    {
        let (named, said) = (named.extension(), said.extension());
        return usage(format!(
            "{}: its name says {named} and --container says {said}; end it in .{said}, or leave --container out",
            output.display()
        ));
    }
    let container = args.container.or(named);
    if container.is_none() {
        return usage(format!(
            "{}: the name does not say which container; end it in .mp4, .mkv or .mov, or pass --container",
            output.display()
        ));
    }
    let settings = args.settings()?;
    if let Some(found) = settings.encoding.contradiction(container) {
        return usage(match found.setting {
            "container" if args.container.is_none() => {
                format!("{}: {} as its ending", output.display(), found.message)
            }
            setting => format!("--{}: {}", setting.replace('_', "-"), found.message),
        });
    }
    if args.overwrite {
        return Ok(());
    }
    if is_there(output) {
        return Err(taken(output, "output"));
    }
    let wanted = beside::taken(output, &settings.beside).map_err(|error| {
        let message = format!("{}: cannot be read: {error}", folder_of(output).display());
        CliError::new(ExitCode::CannotCreate, message)
    })?;
    wanted.first().map_or(Ok(()), |it| Err(taken(it, "output")))
}

/// Faults of the place for the report, which without a name of its own goes to `usual`; `pictures` is where pictures are
/// written instead of a clip.
///
/// # Errors
/// As [`check_output`].
pub fn check_report(
    args: &ConvertArgs,
    usual: &Path,
    pictures: Option<&Pattern>,
) -> Result<(), CliError> {
    let path = args.report.as_deref().unwrap_or(usual);
    let is_output = match pictures {
        Some(pattern) => is_of(pattern, path),
        None => is_same(path, &args.output) || is_beside(path, &args.output),
    };
    let role = match reads(args).iter().any(|it| is_same(it, path)) {
        true => Some("read, and what is read is never written"),
        false if is_output => Some("of the output"),
        false => None,
    };
    if let Some(role) = role {
        let message = format!("{}: is {role}; name another report", path.display());
        return Err(CliError::new(ExitCode::Usage, message));
    }
    // The folder of pictures is made with them.
    let made = |it: &&Pattern| !it.folder.exists() && is_same(&it.folder, folder_of(path));
    if pictures.filter(made).is_none() {
        check_folder(path)?;
    }
    if is_there(path) && !args.overwrite {
        return Err(match (&args.report, pictures) {
            (_, Some(_)) => {
                let message = format!("{}: is there already; name another report", path.display());
                CliError::new(ExitCode::CannotCreate, message)
            }
            (Some(_), None) => taken(path, "report"),
            (None, None) => taken(path, "output"),
        });
    }
    Ok(())
}

/// Where the report of a clip goes unless it is told otherwise.
#[must_use]
pub fn usual_report(args: &ConvertArgs) -> PathBuf {
    names::report_path(&args.output)
}

fn is_of(pattern: &Pattern, path: &Path) -> bool {
    let name = path.file_name().and_then(|it| it.to_str());
    name.is_some_and(|it| pattern.number(it).is_some()) && is_same(&pattern.folder, folder_of(path))
}

fn is_beside(path: &Path, output: &Path) -> bool {
    let names = (output.file_name(), path.file_name());
    let (Some(output_name), Some(name)) = names else { return false };
    beside::kind_of(output_name, name).is_some() && is_same(folder_of(path), folder_of(output))
}
