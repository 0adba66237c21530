//! What `slomod init` puts on the disk: folders that the service can use, and the configuration.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use crate::cli::CliError;
use crate::cli::init::Replaced;
use crate::error::{ExitCode, read_only_hint};

/// User and group of the service.
const USER: &str = "slomod";
/// Rights of folders that are made: the group may drop clips, and what appears belongs to the group.
const FOLDER_MODE: u32 = 0o2775;
/// Rights of the configuration.
const FILE_MODE: u32 = 0o644;

/// A folder that was made.
#[derive(Debug)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// Whether it belongs to the service's user now.
    pub given: bool,
}

fn failed(path: &Path, what: &str) -> impl Fn(std::io::Error) -> CliError {
    let place = format!("{}: {what}", path.display());
    move |error| {
        let message = format!("{place}: {error}{}", read_only_hint(&error));
        CliError::new(ExitCode::CannotCreate, message)
    }
}

/// Makes those that are not there. Where root does so, they belong to the service's user, if there is one.
///
/// # Errors
/// Exit code 73, with the folder.
pub fn make(folders: &[PathBuf]) -> Result<Vec<Made>, CliError> {
    let is_root = rustix::process::geteuid().is_root();
    let owner = if is_root { service_user() } else { None };
    // Root's umask may keep all others, and so the service's user, out of what leads to them.
    let _open = is_root.then(OpenUmask::set);
    let mut made = Vec::new();
    for path in folders {
        if path.is_dir() {
            continue;
        }
        std::fs::create_dir_all(path).map_err(failed(path, "cannot be made"))?;
        if let Some((user, group)) = owner {
            // By what is open: a link that somebody put there meanwhile would lead root elsewhere.
            let folder = rustix::fs::open(
                path,
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let folder = folder.map_err(|error| failed(path, "cannot be opened")(error.into()))?;
            rustix::fs::fchown(&folder, Some(user), Some(group))
                .map_err(|error| failed(path, "cannot be given to user slomod")(error.into()))?;
            // After the owner, whose change takes the bit for the group away.
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(FOLDER_MODE))
                .map_err(|error| failed(path, "its rights cannot be set")(error.into()))?;
        }
        made.push(Made { path: path.clone(), given: owner.is_some() });
    }
    Ok(made)
}

/// The usual umask, until it is dropped.
struct OpenUmask(Mode);

impl OpenUmask {
    fn set() -> Self {
        Self(rustix::process::umask(Mode::from_raw_mode(0o022)))
    }
}

impl Drop for OpenUmask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// The service's user and its group, by the system's file: a user of a system service is nowhere else.
fn service_user() -> Option<(Uid, Gid)> {
    user_in(&std::fs::read_to_string("/etc/passwd").ok()?, USER)
}

fn user_in(passwd: &str, name: &str) -> Option<(Uid, Gid)> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let entry = passwd.lines().map(fields).find(|it| it.first().is_some_and(|it| it == name))?;
    let number = |at: usize| entry.get(at)?.parse::<u32>().ok();
    Some((Uid::from_raw(number(2)?), Gid::from_raw(number(3)?)))
}

/// Writes the configuration whole or not at all.
///
/// # Errors
/// Exit code 73; also where a file has come meanwhile.
pub fn write(path: &Path, text: &str, replaced: Replaced) -> Result<(), CliError> {
    let failed = failed(path, "cannot be written");
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(&failed)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(FILE_MODE))
        .tempfile_in(folder)
        .map_err(&failed)?;
    // The rights asked for above are less what the umask takes.
    let mode = std::fs::Permissions::from_mode(FILE_MODE);
    file.as_file().set_permissions(mode).map_err(&failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(&failed)?;
    match replaced {
        Replaced::Nothing => file.persist_noclobber(path).map_err(|error| failed(error.error))?,
        Replaced::Shipped => file.persist(path).map_err(|error| failed(error.error))?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_user_is_found_by_its_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nslomodx:x:1:1::/:/\nslomod:x:990:991:a b:/var/lib/slomod:/n\n";
        let user = user_in(passwd, "slomod").map(|(user, group)| (user.as_raw(), group.as_raw()));
        assert_eq!(user, Some((990, 991)));
        assert_eq!(user_in("slomod:x:many:1::/:/\n", "slomod"), None);
        assert_eq!(user_in("", "slomod"), None);
    }
}
