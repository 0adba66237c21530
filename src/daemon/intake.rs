//! Looks into a settled file: does its container open, and which content is it?

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::settings::{Device, Settings};
use crate::daemon::digest::{file_sha256, text_sha256};
use crate::daemon::protocol::{Request, WirePath};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::worker::{self, Ended, Limits, WorkerCommand};
use crate::error::Consequence;

/// How long opening a container may take.
const PROBE_TIME: Duration = Duration::from_secs(60);
/// How long a probe may take to stop.
const PROBE_STOP_TIME: Duration = Duration::from_secs(2);

/// Whether the container is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is, and the file is a candidate only if that works.
    Inside,
    /// It is not: its grace time is over, and the conversion will say what is wrong with it.
    ContentOnly,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It opens, and this is the SHA-256 of its content.
    Ready(String),
    /// It does not open: why.
    Doubtful(String),
    /// It could not be read just now: why.
    Unreadable(String),
    /// It changed while it was looked at.
    Changed,
    /// The daemon stops.
    Stopped,
}

/// Looks into `path`, which was `snapshot` when it was still.
pub async fn check(
    command: &WorkerCommand,
    path: &Path,
    snapshot: Snapshot,
    look: Look,
    stop: watch::Receiver<bool>,
) -> Checked {
    if look == Look::Inside {
        let request = Request::Probe(WirePath::from(path));
        let limits = Limits { stall: PROBE_TIME, stop: PROBE_STOP_TIME };
        match worker::run(command, &request, limits, stop, &mut |_| {}).await {
            Ended::Probed => {}
            Ended::Stopped => return Checked::Stopped,
            Ended::Failed(failure) if failure.consequence == Consequence::Reject => {
                return Checked::Doubtful(failure.message);
            }
            Ended::Failed(failure) => return Checked::Unreadable(failure.message),
            Ended::NotStarted(error) => return Checked::Unreadable(error.to_string()),
            Ended::Killed(why) => return Checked::Unreadable(why),
            // What brings a probe down will be tried again, and refused once it brought two workers down.
            Ended::Crashed(why) => return Checked::Doubtful(why),
            Ended::Hung(after) => {
                return Checked::Doubtful(format!(
                    "opening it took more than {} s",
                    after.as_secs()
                ));
            }
            Ended::Report(_) | Ended::Opened(_) => {
                return Checked::Doubtful("the probe answered something else".into());
            }
        }
    }
    let path = path.to_owned();
    let hash = move || -> io::Result<Checked> {
        let sha256 = file_sha256(&path)?;
        // The status change time counts here as well: the whole snapshot stood still.
        let still = Snapshot::take(&path)? == snapshot;
        Ok(if still { Checked::Ready(sha256) } else { Checked::Changed })
    };
    match tokio::task::spawn_blocking(hash).await {
        Ok(Ok(checked)) => checked,
        Ok(Err(error)) => Checked::Unreadable(error.to_string()),
        Err(error) => Checked::Unreadable(error.to_string()),
    }
}

/// Hashes of weights files, so that a backlog does not read them again for every clip.
#[derive(Debug, Default)]
pub struct Identities {
    weights: HashMap<PathBuf, (Snapshot, String)>,
}

impl Identities {
    /// Settings as the journal keeps them: as JSON, and the SHA-256 of what in them decides the result (not device,
    /// threads, measurement and the place of the weights, but their content). It is the same on every machine.
    ///
    /// # Errors
    /// Where the weights cannot be read.
    pub fn of(&mut self, settings: &Settings) -> io::Result<(String, String)> {
        let text = serde_json::to_string(settings)?;
        let mut deciding =
            Settings { device: Device::Auto, threads: 0, quality_samples: 0, ..settings.clone() };
        if let Some(path) = settings.model.as_ref().filter(|it| it.is_absolute()) {
            deciding.model = Some(format!("sha256:{}", self.weights(path)?).into());
        }
        Ok((text, text_sha256(&serde_json::to_string(&deciding_part(&deciding)?)?)))
    }

    fn weights(&mut self, path: &Path) -> io::Result<String> {
        let now = Snapshot::take(path)?;
        if let Some((_, hash)) = self.weights.get(path).filter(|(then, _)| *then == now) {
            return Ok(hash.clone());
        }
        let hash = file_sha256(path)?;
        self.weights.insert(path.to_owned(), (now, hash.clone()));
        Ok(hash)
    }
}

/// Settings that the first version did not have.
const NEWER: &[&str] = &["beside", "content", "interlaced", "timelapse"];

/// What decides the result, without what it would be by default in newer settings: jobs of earlier versions are
/// known again. Which profile it came from decides nothing.
fn deciding_part(settings: &Settings) -> io::Result<serde_json::Value> {
    let mut value = serde_json::to_value(settings)?;
    let default = serde_json::to_value(Settings::default())?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("profile");
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
    fn settings_that_decide_the_result_tell_jobs_apart() {
        let settings = Settings { factor: Some(2), ..Settings::default() };
        let mut identities = Identities::default();
        let mut identity = |settings: &Settings| identities.of(settings).unwrap().1;
        let same = Settings { device: Device::Cpu, threads: 3, ..settings.clone() };
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
