//! Opens device and weights to see whether they work: at the start, at a reload, and again while a GPU is missed.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::config::file::{Config, Watch};
use crate::config::settings::{Device, Sampling, Scale};
use crate::daemon::DaemonError;
use crate::daemon::notifier;
use crate::daemon::protocol::{DEVICE_BUSY, Request, WEIGHTS_UNREAD};
use crate::daemon::service;
use crate::daemon::worker::{self, Ended, Limits, WorkerCommand};
use crate::engine::EngineDescription;
use crate::error::{Consequence, ExitCode};

/// What tells engines apart.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineKey {
    model: Option<PathBuf>,
    device: Device,
    scale: Scale,
    sampling: Sampling,
    refine: bool,
    passes: u32,
}

/// The engine of a folder.
pub(super) fn key(watch: &Watch) -> EngineKey {
    let settings = &watch.settings;
    EngineKey {
        model: settings.model.clone(),
        device: settings.device,
        scale: settings.scale,
        sampling: settings.sampling,
        refine: settings.refine,
        passes: settings.passes,
    }
}

/// The engines that the folders of `config` need, each once.
#[must_use]
pub fn keys(config: &Config) -> Vec<EngineKey> {
    let mut keys = Vec::new();
    for watch in &config.watches {
        let key = key(watch);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// What came of opening engines.
#[derive(Debug, Default)]
pub struct Opened {
    /// What was opened.
    pub descriptions: Vec<EngineDescription>,
    /// Why devices could not be had beside a clip; the weights are right.
    pub busy: Vec<String>,
    /// Whose weights could not be read, and why.
    pub lost: Vec<(EngineKey, String)>,
}

/// Opens every engine of `config` that is not among `opened`, so that what is wrong with one shows before a clip is at
/// stake. Meanwhile the service manager is asked for patience; one that hangs is ended after `limits.stall`. Where a clip has
/// a device meanwhile (`beside_a_clip`), one that cannot be had beside it is no error, and does not count as missed where
/// `auto` does without it: the next clip finds it free. Neither are weights that cannot be read.
///
/// # Errors
/// [`DaemonError::Engine`].
pub async fn open(
    config: &Config,
    opened: &[EngineKey],
    command: &WorkerCommand,
    limits: Limits,
    stop: watch::Receiver<bool>,
    beside_a_clip: bool,
) -> Result<Opened, DaemonError> {
    let mut found = Opened::default();
    for key_to_open in keys(config).iter().filter(|it| !opened.contains(it)) {
        let Some(watch) = config.watches.iter().find(|it| key(it) == *key_to_open) else {
            continue;
        };
        let request = Request::Open(Box::new(watch.settings()));
        let mut no_progress = |_| {};
        let work = worker::run(command, &request, limits, stop.clone(), &mut no_progress);
        tokio::pin!(work);
        notifier::ask_for_patience();
        let ended = loop {
            tokio::select! {
                ended = &mut work => break ended,
                () = tokio::time::sleep(notifier::ASK_EVERY) => notifier::ask_for_patience(),
            }
        };
        match (busy(&ended).filter(|_| beside_a_clip), ended) {
            (Some(why), _) => found.busy.push(why),
            (None, Ended::Failed(failure)) if failure.code == WEIGHTS_UNREAD => {
                found.lost.push((key_to_open.clone(), failure.message));
            }
            (None, ended) => found.descriptions.push(result(ended)?),
        }
    }
    Ok(found)
}

/// Why the device could not be had, where that is because others have it or its memory.
fn busy(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Opened(it) if it.device_busy => {
            it.fallback_reason.as_deref().map(|why| service::why_on_cpu(why).to_owned())
        }
        Ended::Failed(failure) if failure.code == DEVICE_BUSY => Some(failure.message.clone()),
        _ => None,
    }
}

fn result(ended: Ended) -> Result<EngineDescription, DaemonError> {
    match ended {
        Ended::Opened(description) => Ok(*description),
        Ended::Failed(failure) => Err(DaemonError::Engine {
            reason: failure.message,
            consequence: failure.consequence,
            exit_code: failure.exit_code,
        }),
        other => Err(DaemonError::Engine {
            reason: format!("the network cannot be opened: {other:?}"),
            consequence: Consequence::Retry,
            exit_code: ExitCode::Software,
        }),
    }
}

/// The one that the status names: one that fell back to the CPU, else the first.
#[must_use]
pub fn foremost(descriptions: Vec<EngineDescription>) -> Option<EngineDescription> {
    let mut all = descriptions.into_iter();
    let first = all.next()?;
    if first.fallback_reason.is_some() {
        return Some(first);
    }
    Some(all.find(|it| it.fallback_reason.is_some()).unwrap_or(first))
}
