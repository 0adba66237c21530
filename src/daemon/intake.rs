//! Looks into a settled file: does its container open, and which content is it?

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::config::settings::{Device, Settings};
use crate::daemon::digest::{file_sha256, file_sha256_while, text_sha256};
use crate::daemon::errands::{Errand, Place};
use crate::daemon::job::Shop;
use crate::daemon::known::{is_whole, list_sha256};
use crate::daemon::protocol::{Request, WirePath};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::{self, Area};
use crate::daemon::worker::{self, Ended, Limits};
use crate::error::Consequence;
use crate::media::complete::Extent;

/// How long opening a container may take at the most; less where a worker may be silent for less.
const PROBE_TIME: Duration = Duration::from_secs(60);
/// What to do about a file that may not be read.
const LET_READ: &str = "give the user that runs slomod the right to read it (chmod, setfacl)";
/// How long a probe may take to stop.
const PROBE_STOP_TIME: Duration = Duration::from_secs(2);

/// How long a file was still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stillness {
    /// For the time that every file has to be.
    Usual,
    /// For the time that those have to be whose containers do not say how much belongs to them.
    Long,
}

/// Whether the container is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is, and the file is a candidate only if that works.
    Inside,
    /// It is not: its grace time is over, and the conversion will say what is wrong with it.
    ContentOnly,
}

/// The file that is looked into, and what is to be known of it.
#[derive(Debug)]
pub struct Subject {
    /// What belongs to its folder.
    pub area: Area,
    /// The number of its folder.
    pub folder: usize,
    /// The file, below its folder.
    pub relative: PathBuf,
    /// How it was when it was still.
    pub snapshot: Snapshot,
    /// How long it was.
    pub stillness: Stillness,
    /// Whether its container is opened.
    pub look: Look,
    /// What it would be converted with.
    pub settings: Settings,
    /// The output folder, as configured.
    pub output: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It opens, and this is in it.
    Ready(Content),
    /// It does not open: why.
    Doubtful(String),
    /// It opens, but its container does not say whether that is all, and it was not still for long.
    Unsaid,
    /// It could not be read just now: why.
    Unreadable(String),
    /// It changed while it was looked at.
    Changed,
    /// It was something else already before.
    Otherwise(watch::Look),
    /// The daemon stops.
    Stopped,
}

/// A file that can become a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of what is in it.
    pub sha256: String,
    /// Its settings ([`Identities::of`]), or why the weights cannot be read.
    pub identity: Result<(String, String), String>,
    /// SHA-256 of its list of cuts; empty where it has none.
    pub list_sha256: String,
    /// The report that the journal has of the file's place, if it is there with its output.
    pub report: Option<PathBuf>,
}

/// Looks into a file.
pub async fn check(
    shop: Arc<Shop>,
    identities: Arc<Identities>,
    subject: Subject,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Checked {
    let subject = Arc::new(subject);
    let first = {
        let (shop, subject) = (Arc::clone(&shop), Arc::clone(&subject));
        blocking(move || subject.look_again(&shop)).await
    };
    match first {
        Ok(watch::Look::File(now)) if now == subject.snapshot => {}
        Ok(found) => return Checked::Otherwise(found),
        Err(error) => return Checked::Unreadable(error.to_string()),
    }
    if subject.look == Look::Inside
        && let Some(found) = probe(&shop, &subject, stop).await
    {
        return found;
    }
    match blocking(move || subject.read(&shop, &identities)).await {
        Ok(checked) => checked,
        Err(error) => Checked::Unreadable(error.to_string()),
    }
}

/// Opens its container; `None` where that works, and all of it is there.
async fn probe(
    shop: &Shop,
    subject: &Subject,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Option<Checked> {
    let request = Request::Probe(WirePath::from(subject.path().as_path()));
    let stall = PROBE_TIME.min(shop.rules().limits.stall);
    let limits = Limits { stall, stop: PROBE_STOP_TIME };
    let ended = worker::run(&shop.command, &request, limits, stop, &mut |_| {}).await;
    Some(match ended {
        Ended::Probed(Extent::Unsaid) if subject.stillness == Stillness::Usual => Checked::Unsaid,
        Ended::Probed(_) => return None,
        Ended::Stopped => Checked::Stopped,
        Ended::Failed(failure) if failure.consequence == Consequence::Reject => {
            Checked::Doubtful(failure.message)
        }
        Ended::Failed(failure) => Checked::Unreadable(failure.message),
        Ended::NotStarted(error) => Checked::Unreadable(error.to_string()),
        // What brings a probe down is looked at again until the grace time is over, and becomes a job then: that is refused
        // once it brought two workers down, and fails where the system kills each of them.
        Ended::Crashed(why) | Ended::Killed(why) => Checked::Doubtful(why),
        Ended::Hung(after) => {
            Checked::Doubtful(format!("opening it took more than {} s", after.as_secs()))
        }
        Ended::Report(_) | Ended::Opened(_) => {
            Checked::Doubtful("the probe answered something else".into())
        }
    })
}

/// Runs what waits for file systems off the daemon's one thread. One that panics has failed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| io::Error::other(format!("a thread of the daemon broke off: {error}")))?
}

impl Subject {
    fn path(&self) -> PathBuf {
        self.area.root.join(&self.relative)
    }

    fn errand(&self, shop: &Shop) -> Errand {
        shop.errands.begin(Place::Watch(self.folder), &self.path())
    }

    fn look_again(&self, shop: &Shop) -> io::Result<watch::Look> {
        let _errand = self.errand(shop);
        let found = watch::look_for_ready(&self.area, &self.relative)?;
        if !matches!(found, watch::Look::File(_)) {
            return Ok(found);
        }
        // Whoever says that it is no video should have seen it. A pipe in its place is not waited for.
        let mut options = File::options();
        match options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(self.path())
        {
            Ok(_) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(watch::Look::Nothing),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(io::Error::new(error.kind(), format!("{error}; {LET_READ}")))
            }
            Err(error) => Err(error),
        }
    }

    fn read(&self, shop: &Shop, identities: &Identities) -> io::Result<Checked> {
        let (path, errand) = (self.path(), self.errand(shop));
        let sha256 = file_sha256_while(&path, &|| errand.at(&path))?;
        // The status change time counts here as well: the whole snapshot stood still.
        if watch::leads_out(&self.area.root, &self.relative)
            || Snapshot::take(&path)? != self.snapshot
        {
            return Ok(Checked::Changed);
        }
        if let Some(model) = &self.settings.model {
            errand.at(model);
        }
        let identity = identities.of(&self.settings).map_err(|error| error.to_string());
        let list_sha256 = list_sha256(&self.settings, &path);
        drop(errand);
        let root = self.area.root.to_string_lossy();
        // Where the journal fails, the loop finds out.
        let earlier = shop.journal().seen(&root, &self.relative).ok().flatten();
        let _errand = shop.errands.begin(Place::Output(self.output.clone()), &self.output);
        let report = earlier.and_then(|it| it.report_path).filter(|it| is_whole(it));
        Ok(Checked::Ready(Content { sha256, identity, list_sha256, report }))
    }
}

/// Hashes of weights files, so that a backlog does not read them again for every clip.
#[derive(Debug, Default)]
pub struct Identities {
    /// Never locked while a file system is asked.
    weights: Mutex<HashMap<PathBuf, (Snapshot, String)>>,
}

impl Identities {
    /// Settings as the journal keeps them: as JSON, and the SHA-256 of what in them decides the result (not device,
    /// threads, measurement and the place of the weights, but their content). It is the same on every machine.
    ///
    /// # Errors
    /// Where the weights cannot be read.
    pub fn of(&self, settings: &Settings) -> io::Result<(String, String)> {
        let text = serde_json::to_string(settings)?;
        let mut deciding =
            Settings { device: Device::Auto, threads: 0, quality_samples: 0, ..settings.clone() };
        if let Some(path) = settings.model.as_ref().filter(|it| it.is_absolute()) {
            deciding.model = Some(format!("sha256:{}", self.weights(path)?).into());
        }
        Ok((text, text_sha256(&serde_json::to_string(&deciding_part(&deciding)?)?)))
    }

    fn weights(&self, path: &Path) -> io::Result<String> {
        let now = Snapshot::take(path)?;
        let known = || self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hash)) = known().get(path).filter(|(then, _)| *then == now) {
            return Ok(hash.clone());
        }
        let hash = file_sha256(path)?;
        known().insert(path.to_owned(), (now, hash.clone()));
        Ok(hash)
    }
}

/// Settings that the first version did not have.
const NEWER: &[&str] =
    &["beside", "content", "interlaced", "passes", "refine", "sampling", "timelapse"];

/// What decides the result, without what it would be by default in newer settings: jobs of earlier versions are
/// known again. Which profile it came from, and whether VMAF is measured, decide nothing.
fn deciding_part(settings: &Settings) -> io::Result<serde_json::Value> {
    let mut value = serde_json::to_value(settings)?;
    let default = serde_json::to_value(Settings::default())?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("profile");
        fields.remove("vmaf");
        fields.retain(|name, value| {
            !NEWER.contains(&name.as_str()) || default.get(name) != Some(value)
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::beside::Beside;

    #[test]
    fn a_thread_that_panics_has_failed_and_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let broken = runtime.block_on(blocking(|| -> io::Result<()> { panic!("on purpose") }));
        let error = broken.unwrap_err().to_string();
        assert!(error.contains("broke off") && error.contains("on purpose"), "{error}");
    }

    #[test]
    fn settings_that_decide_the_result_tell_jobs_apart() {
        let settings = Settings { factor: Some(2), ..Settings::default() };
        let identities = Identities::default();
        let identity = |settings: &Settings| identities.of(settings).unwrap().1;
        let same = Settings { device: Device::Cpu, threads: 3, vmaf: true, ..settings.clone() };
        assert_eq!(identity(&settings), identity(&same));
        // As the first version wrote it.
        let first = r#"{"mode":"slow","factor":2,"fps":null,"speed":null,"model":null,"scale":"auto","device":"auto","threads":0,"audio":"stretch","encoding":{"codec":"h264","crf":null,"preset":null,"container":null},"quality_samples":0}"#;
        assert_eq!(identity(&settings), text_sha256(first));
        let beside = Beside { frame_list: true, ..Beside::default() };
        assert_ne!(identity(&settings), identity(&Settings { beside, ..settings.clone() }));
        let other = Settings { factor: Some(3), ..settings.clone() };
        assert_ne!(identity(&settings), identity(&other));
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("w");
        let with = Settings { model: Some(weights.clone()), ..settings.clone() };
        assert!(Identities::default().of(&with).is_err(), "weights that are not there");
        std::fs::write(&weights, "1").unwrap();
        let first = identity(&with);
        assert_eq!(first, identity(&with));
        let elsewhere = folder.path().join("elsewhere");
        std::fs::copy(&weights, &elsewhere).unwrap();
        let moved = Settings { model: Some(elsewhere), ..settings };
        assert_eq!(first, identity(&moved), "the same weights of another name");
        std::fs::write(&weights, "22").unwrap();
        assert_ne!(first, identity(&with), "other weights of the same name");
    }
}
