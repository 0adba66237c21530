//! The demo's folder: made anew each time, but only where an earlier demo made it.

use std::path::{Path, PathBuf};

use crate::cli::{CliError, paths};
use crate::error::ExitCode;

/// Says that the folder is a demo's.
const MARKER: &str = ".slomod-demo";
/// Folders that a demo leaves.
const FOLDERS: [&str; 3] = ["drop", "out", "state"];

/// Paths of one demo.
#[derive(Clone, Debug)]
pub struct DemoFolder {
    /// Watched.
    pub drop: PathBuf,
    /// Where video and report appear.
    pub out: PathBuf,
    /// The daemon's.
    pub state: PathBuf,
    /// The daemon's configuration.
    pub config: PathBuf,
    /// What the daemon says.
    pub log: PathBuf,
    /// The clip that was drawn.
    pub clip: PathBuf,
    /// The picture of the result.
    pub sheet: PathBuf,
}

/// Makes the folder, or empties an earlier demo's; never one that what is read lies in: `reads` says what that is and where.
///
/// # Errors
/// Exit code 64 where one of `reads` lies in it, 73 where it cannot be written, holds something else, or its path is not
/// UTF-8.
pub fn prepare(dir: &Path, reads: &[(&str, &Path)]) -> Result<DemoFolder, CliError> {
    for (what, path) in reads {
        if lies_in(dir, path) {
            let message = format!(
                "{}: the {what} lies in {}, which is emptied; copy it elsewhere or name another --dir",
                path.display(),
                dir.display()
            );
            return Err(CliError::new(ExitCode::Usage, message));
        }
    }
    let wrong = |path: &Path, reason: String| {
        CliError::new(ExitCode::CannotCreate, format!("{}: {reason}", path.display()))
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| wrong(&path, format!("cannot be written: {error}"))
    };
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let dir = dir.canonicalize().map_err(io(dir))?;
    if dir.to_str().is_none() {
        return Err(wrong(&dir, "its path is not UTF-8; choose another with --dir".into()));
    }
    let is_empty = std::fs::read_dir(&dir).map_err(io(&dir))?.next().is_none();
    let marker = dir.join(MARKER);
    if !is_empty && !marker.exists() {
        let reason = "is not empty and was not made by a demo; choose another with --dir";
        return Err(wrong(&dir, reason.into()));
    }
    std::fs::write(&marker, "Made by `slomod demo`, which empties it.\n").map_err(io(&marker))?;
    for name in FOLDERS {
        let folder = dir.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        std::fs::create_dir(&folder).map_err(io(&folder))?;
    }
    let demo = DemoFolder {
        drop: dir.join("drop"),
        out: dir.join("out"),
        state: dir.join("state"),
        config: dir.join("slomod.toml"),
        log: dir.join("daemon.log"),
        clip: dir.join("scene.mp4"),
        sheet: dir.join("contact_sheet.png"),
    };
    for path in [&demo.config, &demo.log, &demo.clip, &demo.sheet] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(path)(error));
            }
            _ => {}
        }
    }
    Ok(demo)
}

/// Whether `path`, or the file that it leads to, is somewhere in `dir`. A link within it would be removed too.
fn lies_in(dir: &Path, path: &Path) -> bool {
    // A folder that is not there yet holds nothing.
    let Ok(dir) = dir.canonicalize() else { return false };
    let itself = paths::folder_of(path).canonicalize();
    [path.canonicalize(), itself].iter().flatten().any(|it| it.starts_with(&dir))
}
