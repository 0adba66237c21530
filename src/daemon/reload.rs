//! Takes a changed configuration over while clips are worked: all of it or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use crate::config::file::{self, Config};
use crate::daemon::DaemonError;
use crate::daemon::asked::not_reloaded;
use crate::daemon::control::Answer;
use crate::daemon::engines::{self, EngineKey, Opened};
use crate::daemon::events::Kind;
use crate::daemon::folder::Folder;
use crate::daemon::job::{Rules, Shop};
use crate::daemon::run::{Daemon, Event, Running};
use crate::daemon::service;
use crate::daemon::weights::{self, Identity, Unread};

/// What is said of a device that cannot be had beside the clip that is worked.
const UNTRIED: &str = "a network was not tried on its device, where a clip is worked, and will be with its first clip";

/// What there is when a reload begins.
struct Current {
    config: Config,
    /// Engines that need not be tried.
    opened: Vec<EngineKey>,
    /// Whether a clip has a device.
    clip: bool,
}

/// How reloading stands.
#[derive(Debug)]
pub(super) struct Reload {
    /// The file.
    path: PathBuf,
    /// Why the last one changed nothing; `None` where it did.
    pub(super) failure: Option<String>,
    /// Whether one is under way.
    under_way: bool,
    /// Another one was asked for since it began.
    again: bool,
    /// Who waits for the one under way.
    askers: Vec<oneshot::Sender<Answer>>,
    /// Who waits for the next.
    next_askers: Vec<oneshot::Sender<Answer>>,
    /// How many there were.
    pub(super) count: u64,
    /// The settings of each folder as the journal keeps them: of the start or the last reload, or with weights that were read
    /// since.
    settings: BTreeMap<String, Identity>,
}

impl Reload {
    /// None yet of the file at `path`.
    pub(super) fn of(path: PathBuf) -> Self {
        Self {
            path,
            failure: None,
            under_way: false,
            again: false,
            askers: Vec::new(),
            next_askers: Vec::new(),
            count: 0,
            settings: BTreeMap::new(),
        }
    }

    /// These are the settings of all folders whose weights were read.
    pub(super) fn begin_with(&mut self, settings: BTreeMap<String, Identity>) {
        self.settings = settings;
    }

    /// The folder configured as `watch` has this identity now: its weights were read.
    pub(super) fn read(&mut self, watch: &str, identity: &Identity) {
        if self.settings.get(watch) != Some(identity) {
            self.settings.insert(watch.to_owned(), identity.clone());
        }
    }
}

/// A configuration that was read and tried.
pub(super) struct Prepared {
    config: Config,
    /// What was opened for it.
    engines: Opened,
    /// The settings of each folder as the journal keeps them.
    settings: BTreeMap<String, Identity>,
}

impl Daemon {
    /// The configuration is to be read again.
    pub(super) fn reload_asked(&mut self, asker: Option<oneshot::Sender<Answer>>) {
        if self.reload.under_way {
            // The file may have changed since it was read.
            self.reload.again = true;
            self.reload.next_askers.extend(asker);
            return;
        }
        self.reload.askers.extend(asker);
        self.begin_reload();
    }

    fn begin_reload(&mut self) {
        self.reload.under_way = true;
        self.notifier.reloading();
        log::info!(MESSAGE_ID = Kind::DaemonNote.id(); "reading {} again", service::plain(&self.reload.path.to_string_lossy()));
        let path = self.reload.path.clone();
        // A device that was lost is looked for again.
        let missed = self.device.as_ref().is_some_and(|it| it.fallback_reason.is_some());
        let opened = if missed { Vec::new() } else { engines::keys(&self.config) };
        let works = self.running.is_some() || !self.set_aside.is_empty();
        let on_a_device = self.device.as_ref().is_some_and(|it| it.device_kind == "cuda");
        let current = Current { config: self.config.clone(), opened, clip: works && on_a_device };
        let (shop, events, stop) =
            (Arc::clone(&self.shop), self.events.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            let result = prepare(path, &current, &shop, stop).await;
            // The receiver is gone only where the daemon ends.
            let _ = events.send(Event::Reloaded(Box::new(result))).await;
        });
    }

    /// The new configuration was tried: it is taken over, or nothing changes.
    pub(super) fn reloaded(&mut self, result: Result<Prepared, String>) -> Result<(), DaemonError> {
        let answer = match result {
            Ok(prepared) => {
                let message = self.take_over(prepared)?;
                log::info!(MESSAGE_ID = Kind::Reloaded.id(); "configuration reloaded: {message}");
                self.reload.failure = None;
                Answer::Done(format!("the configuration was reloaded: {message}"))
            }
            Err(why) => {
                log::error!(MESSAGE_ID = Kind::ReloadFailed.id(); "the configuration was not reloaded: {}", service::plain(&why));
                let answer = not_reloaded(&why);
                self.reload.failure = Some(why);
                answer
            }
        };
        for asker in std::mem::take(&mut self.reload.askers) {
            let _ = asker.send(answer.clone());
        }
        self.reload.under_way = false;
        self.next_description = Instant::now();
        self.describe(Instant::now())?;
        self.notifier.ready();
        if std::mem::take(&mut self.reload.again) {
            self.reload.askers = std::mem::take(&mut self.reload.next_askers);
            self.begin_reload();
        }
        Ok(())
    }

    fn take_over(&mut self, prepared: Prepared) -> Result<String, DaemonError> {
        let Prepared { config, engines, settings } = prepared;
        let now = Instant::now();
        self.reload.settings = settings;
        self.renew_all_settings()?;
        self.hints.set_extensions(&config.daemon.extensions);
        let changes = self.folders.reload(&config, self.hints.watches(), now);
        for folder in [&changes.added, &changes.changed, &changes.removed].into_iter().flatten() {
            self.settler.forget_group(*folder);
            self.overdue.retain(|key, _| key.0 != *folder);
            self.first_reads.forget(*folder);
        }
        self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shop.set_rules(Rules::of(&config.daemon));
        self.folders.list.iter_mut().for_each(Folder::has_weights);
        self.shop.errands.set_limit(config.daemon.poll_interval);
        self.next_locks = now;
        let Opened { descriptions, busy, .. } = engines;
        if let Some(found) = engines::foremost(descriptions) {
            self.device_is(found);
        }
        self.reload.count += 1;
        self.config = config;
        self.give_back_unwanted();
        self.find_orphans()?;
        self.may_start = true;
        let mut parts = Vec::new();
        for (list, word) in [
            (&changes.added, "added"),
            (&changes.changed, "changed"),
            (&changes.removed, "removed"),
        ] {
            match list.len() {
                0 => {}
                1 => parts.push(format!("1 folder {word}")),
                count => parts.push(format!("{count} folders {word}")),
            }
        }
        if parts.is_empty() {
            parts.push("the folders are as before".to_owned());
        }
        let untried = busy.iter().map(|why| {
            log::warn!(MESSAGE_ID = Kind::DaemonNote.id(); "{UNTRIED}: {}", service::plain(why));
            format!("; {UNTRIED}: {why}")
        });
        Ok(format!("{}{}", parts.join(", "), untried.collect::<String>()))
    }

    /// Jobs that wait again have the settings of their folders as they are now.
    pub(super) fn renew_all_settings(&mut self) -> Result<(), DaemonError> {
        let mut journal = self.shop.journal();
        for (watch, (text, sha256)) in &self.reload.settings {
            journal.update_settings(watch, text, sha256)?;
        }
        Ok(())
    }

    /// A job that began before a reload and waits again has the settings of its folder as they are now.
    pub(super) fn renew_settings(&mut self, running: &Running) -> Result<(), DaemonError> {
        if running.reloads == self.reload.count {
            return Ok(());
        }
        let watch = &self.folders.list[running.key.0].watch.path;
        let watch = watch.to_string_lossy();
        if let Some((text, sha256)) = self.reload.settings.get(watch.as_ref()) {
            self.shop.journal().update_settings(&watch, text, sha256)?;
        }
        self.find_orphans()?;
        Ok(())
    }
}

/// Reads the file and opens what it needs that is not open yet.
async fn prepare(
    path: PathBuf,
    current: &Current,
    shop: &Shop,
    stop: watch::Receiver<bool>,
) -> Result<Prepared, String> {
    let read = tokio::task::spawn_blocking(move || file::load(&path)).await;
    let config = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let (old, new) = (&current.config.daemon, &config.daemon);
    let fixed = [
        ("state_dir", old.state_dir != new.state_dir),
        ("control", old.control != new.control),
        ("metrics", old.metrics != new.metrics),
    ];
    if let Some((key, _)) = fixed.iter().find(|(_, differs)| *differs) {
        return Err(format!("`{key}` was changed, which takes a restart of the daemon"));
    }
    // Before they are opened, as one that does not answer would hold that up for much longer. What is wrong with those that
    // do is said by the engine.
    let settings = weights::settings(&config, shop.errands.limit()).await;
    if let Err(Unread::Silent(why)) = settings {
        return Err(why);
    }
    let limits = Rules::of(&config.daemon).limits;
    let (opened, command) = (&current.opened, &shop.command);
    let engines = engines::open(&config, opened, command, limits, stop, current.clip)
        .await
        .map_err(|error| error.to_string())?;
    if let Some((_, why)) = engines.lost.first() {
        return Err(why.clone());
    }
    Ok(Prepared { config, engines, settings: settings.map_err(Unread::text)? })
}
