//! The lock of an output folder: of all daemons, also those of other machines, one at a time writes there.
//!
//! The lock file is named so that scans, players and people leave it alone. The system frees the lock however the daemon
//! ends; a daemon that is only stopped keeps it. Where somebody removes the file, the next daemon makes another and the
//! first has lost its lock, which it finds out before it publishes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use log::Level;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config::file::Collision;
use crate::daemon::durable;
use crate::daemon::events::Kind;
use crate::daemon::filesystem;
use crate::daemon::job::Shop;
use crate::daemon::journal::{Claim, Journal, JournalError};
use crate::daemon::publish::{PublishError, Step};
use crate::daemon::service::log_watch;
use crate::error::read_only_hint;
use crate::report;

/// File name of the lock in the output folder.
pub const LOCK_NAME: &str = ".slomod.lock";
/// Rights of the lock file.
const FOR_ALL: u32 = 0o666;
/// How often another daemon may remove the file between its opening and its locking here.
const MOST_RACES: u32 = 10;
/// Pause before the lock of a folder is asked for again that another thread is taking by another name.
const RACE_PAUSE: Duration = Duration::from_millis(50);
/// Longest text of a lock file that is read.
const LONGEST_TEXT_BYTES: u64 = 4096;

/// Who has the lock, as the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    since: String,
}

/// A lock that is held; dropping it gives it back.
#[derive(Debug)]
pub struct OutputLock {
    file: File,
    path: PathBuf,
}

impl OutputLock {
    /// Takes the lock of `folder`, which is made if need be.
    ///
    /// # Errors
    /// A sentence: who has the lock, or why there can be none.
    pub fn take(folder: &Path) -> Result<Self, String> {
        Self::try_take(folder).map_err(|refusal| refusal.text)
    }

    fn try_take(folder: &Path) -> Result<Self, Refusal> {
        let failed = |what: &str, error: io::Error| {
            let hint = read_only_hint(&error);
            let text = format!("{}: {what}: {error}{hint}", folder.display());
            Refusal { text, is_own: false }
        };
        durable::create_folders(folder).map_err(|error| failed("cannot be created", error))?;
        let folder = fs::canonicalize(folder).map_err(|error| failed("cannot be read", error))?;
        let path = folder.join(LOCK_NAME);
        for _ in 0..MOST_RACES {
            let mut options = File::options();
            let file = options
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                // Anybody may write to a share: a link there leads nowhere.
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(|error| {
                    let whose = whose(&path, &error);
                    let mut refusal = failed("cannot be written", error);
                    refusal.text += whose;
                    refusal
                })?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(error) if is_held(error) => return Err(held(&folder, file)),
                Err(error) => return Err(failed("cannot be locked", error.into())),
            }
            let lock = Self { file, path: path.clone() };
            match lock.hold() {
                Hold::Ours => {
                    lock.sign().map_err(|error| failed("cannot be written", error))?;
                    return Ok(lock);
                }
                Hold::Lost => {}
                Hold::Unseen(error) => return Err(failed("its lock cannot be looked up", error)),
            }
        }
        Err(failed("cannot be locked", io::Error::other("the lock file changes all the time")))
    }

    /// Whether the file that is locked is still the one that another daemon would try to lock.
    #[must_use]
    pub fn hold(&self) -> Hold {
        let is_gone = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::STALE.raw_os_error())
        };
        match (fs::symlink_metadata(&self.path), self.file.metadata()) {
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Hold::Lost,
            (Err(error), _) => Hold::Unseen(error),
            // A server that has forgotten the open file has forgotten its lock.
            (_, Err(error)) if is_gone(&error) => Hold::Lost,
            (_, Err(error)) => Hold::Unseen(error),
            (Ok(named), Ok(open)) => {
                let is_it = (open.dev(), open.ino()) == (named.dev(), named.ino());
                if is_it { Hold::Ours } else { Hold::Lost }
            }
        }
    }

    /// Whether it is certain that the lock is held.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.hold(), Hold::Ours)
    }

    fn sign(&self) -> io::Result<()> {
        let holder = Holder {
            host: report::machine::host().name,
            pid: std::process::id(),
            since: report::now_rfc3339(),
        };
        // The next daemon may run as another user; where this cannot be set, it may not have to.
        let _ = self.file.set_permissions(fs::Permissions::from_mode(FOR_ALL));
        self.file.set_len(0)?;
        (&self.file).write_all((serde_json::to_string(&holder)? + "\n").as_bytes())
    }
}

/// How a lock that was taken stands.
#[derive(Debug)]
pub enum Hold {
    /// It is held.
    Ours,
    /// Its file is gone, or another one.
    Lost,
    /// The system does not say; nothing is concluded.
    Unseen(io::Error),
}

impl Drop for OutputLock {
    fn drop(&mut self) {
        if self.is_ours() {
            // Where it stays, the next daemon locks it again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a lock is not had.
struct Refusal {
    text: String,
    /// Whether it may be this very process that has it.
    is_own: bool,
}

/// What to do where a person made the lock file at `path` as somebody else.
fn whose(path: &Path, error: &io::Error) -> &'static str {
    let is_there = fs::symlink_metadata(path).is_ok();
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_there => {
            "; its file .slomod.lock is somebody else's: give it to the user that runs slomod (chown)"
        }
        _ => "",
    }
}

/// Whether somebody else has the lock: Linux's SMB client says "permission denied" where the server refuses it for that.
fn is_held(error: Errno) -> bool {
    matches!(error, Errno::WOULDBLOCK | Errno::ACCESS)
}

fn held(folder: &Path, file: File) -> Refusal {
    let mut text = String::new();
    // Some shares do not let a locked file be read: then the holder is not known.
    let _ = file.take(LONGEST_TEXT_BYTES).read_to_string(&mut text);
    let holder = serde_json::from_str::<Holder>(&text).ok();
    let is_us =
        |it: &Holder| it.pid == std::process::id() && it.host == report::machine::host().name;
    // A file that says nothing yet may have been locked by another thread in this moment.
    let is_own = holder.as_ref().is_none_or(is_us);
    let holder = match holder {
        Some(it) => format!("slomod on {} (process {}, since {})", it.host, it.pid, it.since),
        None => "another slomod".into(),
    };
    let text = format!("{}: {holder} works with this output folder", folder.display());
    Refusal { text, is_own }
}

/// Why `folder` is not taken for the one that was `known`.
fn unaccepted(folder: &Path, known: Option<&String>) -> Option<String> {
    let why = filesystem::replaced(folder, known?)?;
    (!is_accepted(folder)).then(|| refusal_of_another(folder, "output folder", &why))
}

/// Whether a person made an empty lock file in `folder`, which says that it stands for another one for good. A daemon
/// signs its own as soon as it has it.
pub(super) fn is_accepted(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(LOCK_NAME)).is_ok_and(|it| it.is_file() && it.len() == 0)
}

/// What is said of `folder`, which is `what` and not the one that it was.
pub(super) fn refusal_of_another(folder: &Path, what: &str, why: &str) -> String {
    format!(
        "{}: not the {what} that it was ({why}): mount it; or, if it was replaced for good, make an empty file \
         {LOCK_NAME} there (and remove one that is not empty), as the user that runs slomod",
        folder.display()
    )
}

/// The locks of all output folders of this daemon, by the folders' names as configured.
#[derive(Debug, Default)]
pub struct OutputLocks {
    /// Never locked while a file system is asked.
    places: Mutex<BTreeMap<PathBuf, Standing>>,
    /// All that were taken: a job keeps the lock of a folder that is none of the outputs any more, or was put elsewhere, and
    /// the folder may come back meanwhile.
    taken: Mutex<Vec<Weak<OutputLock>>>,
}

/// How an output folder stands.
#[derive(Debug)]
struct Standing {
    /// Its lock, or why it is not had.
    found: Result<Arc<OutputLock>, String>,
    /// A sentence, where it does not answer.
    hung: Option<String>,
}

impl OutputLocks {
    fn places(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Standing>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Weak<OutputLock>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock of `folder` if it can be had, or finds out whether it was lost. What the folder is, is kept in the
    /// journal: the empty place below a share that is not mounted is refused, unless somebody made a lock file there.
    ///
    /// # Errors
    /// [`JournalError`] only.
    pub fn look(&self, folder: &Path, journal: &Mutex<Journal>) -> Result<(), JournalError> {
        let journal = || journal.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be seen now stays as it was.
        if self.of(folder).is_some_and(|it| !matches!(it.hold(), Hold::Lost)) {
            return Ok(());
        }
        let known = journal().outputs()?.into_iter().find(|it| it.0 == folder).map(|it| it.1);
        // Where this daemon holds the lock that is there, it is a folder that it worked with.
        let found =
            self.held_there(folder).unwrap_or_else(|| match unaccepted(folder, known.as_ref()) {
                Some(why) => Err(why),
                None => self.share_or_take(folder),
            });
        if let (Ok(_), Ok(root)) = (&found, filesystem::root_identity(folder))
            && known.as_ref() != Some(&root.lasting)
        {
            journal().remember_output(folder, &root.lasting)?;
        }
        let name = folder.to_string_lossy();
        let kind = Kind::OutputFolder;
        let mut places = self.places();
        let before = places.remove(folder);
        match (&found, before.as_ref().map(|it| &it.found)) {
            (Err(why), Some(Err(said))) if why == said => {}
            (Err(why), _) => log_watch(Level::Warn, kind, &name, &format!("not worked: {why}")),
            (Ok(_), Some(_)) => log_watch(Level::Info, kind, &name, "taken over"),
            (Ok(_), None) => {}
        }
        let hung = before.as_ref().and_then(|it| it.hung.clone());
        places.insert(folder.to_owned(), Standing { found, hung });
        drop(places);
        // Not while others wait: a lock that was lost looks at its file once more.
        drop(before);
        Ok(())
    }

    /// The lock of the same folder that was taken under another name, or is a job's; a sentence where that cannot be seen.
    fn held_there(&self, folder: &Path) -> Option<Result<Arc<OutputLock>, String>> {
        let path = fs::canonicalize(folder).map(|it| it.join(LOCK_NAME)).ok()?;
        let taken: Vec<_> = self.taken().iter().filter_map(Weak::upgrade).collect();
        taken.into_iter().filter(|it| it.path == path).find_map(|lock| match lock.hold() {
            Hold::Ours => Some(Ok(lock)),
            Hold::Lost => None,
            Hold::Unseen(error) => {
                Some(Err(format!("{}: its lock cannot be seen: {error}", folder.display())))
            }
        })
    }

    /// The lock of the same folder under another name, or a new one.
    fn share_or_take(&self, folder: &Path) -> Result<Arc<OutputLock>, String> {
        let mut tries = 0;
        loop {
            if let Some(held) = self.held_there(folder) {
                return held;
            }
            tries += 1;
            match OutputLock::try_take(folder) {
                Ok(lock) => {
                    let lock = Arc::new(lock);
                    let mut taken = self.taken();
                    taken.retain(|it| it.strong_count() > 0);
                    taken.push(Arc::downgrade(&lock));
                    return Ok(lock);
                }
                // Another thread has just taken it, by another name of the folder.
                Err(refusal) if refusal.is_own && tries < MOST_RACES => {
                    std::thread::sleep(RACE_PAUSE);
                }
                Err(refusal) => return Err(refusal.text),
            }
        }
    }

    /// `folder` does not answer (a sentence), or does so again.
    pub fn hangs(&self, folder: &Path, hung: Option<String>) {
        let mut places = self.places();
        match (places.get_mut(folder), hung) {
            (Some(standing), hung) => standing.hung = hung,
            (None, None) => {}
            (None, Some(text)) => {
                let found = Err(format!("{}: not looked at yet", folder.display()));
                places.insert(folder.to_owned(), Standing { found, hung: Some(text) });
            }
        }
    }

    /// Why nothing may be written to `folder`; `None` where it may, or where no lock was asked for.
    #[must_use]
    pub fn refusal(&self, folder: &Path) -> Option<String> {
        self.places().get(folder)?.refusal().cloned()
    }

    /// Whether `folder` was looked at, or does not answer.
    #[must_use]
    pub fn knows(&self, folder: &Path) -> bool {
        self.places().contains_key(folder)
    }

    /// Whether `folder` does not answer.
    #[must_use]
    pub fn is_hung(&self, folder: &Path) -> bool {
        self.places().get(folder).is_some_and(|it| it.hung.is_some())
    }

    /// The lock of `folder`, where it is held.
    #[must_use]
    pub fn of(&self, folder: &Path) -> Option<Arc<OutputLock>> {
        self.places().get(folder)?.found.as_ref().ok().cloned()
    }

    /// Takes out those of folders that are not wanted any more; dropping them gives them back, which may wait for their
    /// file systems. A job that is under way there keeps its own.
    #[must_use]
    pub fn unwanted(&self, wanted: impl Fn(&Path) -> bool) -> Vec<Arc<OutputLock>> {
        let mut gone = Vec::new();
        self.places().retain(|folder, standing| {
            let stays = wanted(folder);
            if !stays && let Ok(lock) = &standing.found {
                gone.push(Arc::clone(lock));
            }
            stays
        });
        gone
    }

    /// What is not held, a sentence each.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let places = self.places();
        places.values().filter_map(|it| it.refusal().cloned()).collect()
    }
}

impl Standing {
    fn refusal(&self) -> Option<&String> {
        self.hung.as_ref().or(self.found.as_ref().err())
    }
}

/// Makes sure that `lock`, of the output folder in which `folder` is, is held.
///
/// # Errors
/// [`PublishError::LockLost`], [`PublishError::LockUnseen`].
pub(super) fn still_held(lock: Option<&OutputLock>, folder: &Path) -> Result<(), PublishError> {
    let folder = folder.to_owned();
    match lock.map_or(Hold::Ours, OutputLock::hold) {
        Hold::Ours => Ok(()),
        Hold::Lost => Err(PublishError::LockLost(folder)),
        Hold::Unseen(source) => Err(PublishError::LockUnseen { folder, source }),
    }
}

/// The witness of a publication: the lock is still held and the attempt still ours, or nothing becomes visible.
pub fn record(
    shop: &Shop,
    claim: &Claim,
    lock: Option<Arc<OutputLock>>,
    collision: Collision,
) -> impl FnMut(Step<'_>) -> Result<(), PublishError> {
    move |step| match step {
        Step::Planned(planned) => {
            let folder = planned.output.parent().unwrap_or(Path::new("/"));
            let held = still_held(lock.as_deref(), folder);
            if matches!(held, Err(PublishError::LockLost(_))) {
                return held;
            }
            let mut journal = shop.journal();
            if collision != Collision::Overwrite {
                journal.differs_by_more_than_case(claim, &planned.output)?;
            }
            journal.publishing(claim, planned)?;
            // Noted first: a finished output is not thrown away for what cannot be seen, and is completed later.
            held
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
