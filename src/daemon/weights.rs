//! The weights that the folders need, which may lie on a share that does not answer: asked beside the loop, so that a
//! folder waits for its own alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::file::{Config, Watch};
use crate::daemon::DaemonError;
use crate::daemon::engines::{self, EngineKey};
use crate::daemon::errands::{Errand, Place};
use crate::daemon::folder::Folder;
use crate::daemon::intake::{Identities, blocking};
use crate::daemon::job::Shop;
use crate::daemon::run::{Daemon, Event};

/// The settings of a folder as the journal keeps them ([`Identities::of`]).
pub(super) type Identity = (String, String);

/// How the weights of a folder stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// They were read, or it needs none.
    Read,
    /// They are being read.
    Asked,
    /// They could not be read, and are asked for again.
    Unread,
}

/// What is said where the weights of a folder cannot be read.
pub(super) fn cannot_be_read(watch: &Watch, error: &dyn std::fmt::Display) -> String {
    let path = file_of(watch).unwrap_or(&watch.path).display();
    format!("{path}: cannot be read: {error}: mount the share that it is on, or correct `model`")
}

/// The weights of a folder, where they are a file.
pub(super) fn file_of(watch: &Watch) -> Option<&Path> {
    watch.settings.model.as_deref().filter(|it| it.is_absolute())
}

/// Sees whether the weights of a folder answer. What is wrong with them otherwise is said by whoever needs them.
pub(super) fn touch(watch: &Watch, errand: &Errand) {
    if let Some(path) = file_of(watch) {
        errand.at(path);
        let _ = File::open(path);
    }
}

/// Reads the weights of a folder beside the loop, which hears of it.
fn ask(
    folder: (usize, u64),
    watch: &Watch,
    shop: &Shop,
    identities: &Arc<Identities>,
    events: &mpsc::Sender<Event>,
) {
    let path = file_of(watch).unwrap_or(&watch.path);
    let errand = shop.errands.begin(Place::Watch(folder.0), path);
    let (settings, identities, events) = (watch.settings(), Arc::clone(identities), events.clone());
    tokio::spawn(async move {
        let result = blocking(move || {
            let _errand = errand;
            identities.of(&settings)
        });
        let result = result.await;
        // The receiver is gone only where the daemon ends.
        let _ = events.send(Event::WeightsRead { folder, result }).await;
    });
}

/// What is known of the weights before the first clip.
#[derive(Debug)]
pub(super) struct Known {
    /// By folder; without those that do not answer.
    read: BTreeMap<usize, Identity>,
    /// Why those of a folder cannot be read, which may pass: a share may be there later than its client.
    unread: BTreeMap<usize, String>,
}

impl Known {
    /// Asks for the weights of all folders and waits for them, but not longer than `patience` for those that do not answer:
    /// they report back later.
    pub(super) async fn ask(
        config: &Config,
        shop: &Shop,
        (events, inbox): (&mpsc::Sender<Event>, &mut mpsc::Receiver<Event>),
        patience: Duration,
    ) -> Self {
        let (mut read, mut unread) = (BTreeMap::new(), BTreeMap::new());
        let identities = Arc::default();
        for (index, watch) in config.watches.iter().enumerate() {
            ask((index, 0), watch, shop, &identities, events);
        }
        let deadline = tokio::time::Instant::now() + patience;
        while read.len() + unread.len() < config.watches.len() {
            // Nothing else is under way yet.
            match tokio::time::timeout_at(deadline, inbox.recv()).await {
                Ok(Some(Event::WeightsRead { folder: (index, _), result: Ok(identity) })) => {
                    read.insert(index, identity);
                }
                Ok(Some(Event::WeightsRead { folder: (index, _), result: Err(error) })) => {
                    unread.insert(index, cannot_be_read(&config.watches[index], &error));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Self { read, unread }
    }

    /// The engines whose weights were not read.
    pub(super) fn lacking(&self, config: &Config) -> Vec<EngineKey> {
        let watches = config.watches.iter().enumerate();
        let lacks = |index| !self.read.contains_key(&index);
        watches.filter(|(index, _)| lacks(*index)).map(|(_, it)| engines::key(it)).collect()
    }

    /// Engines were opened, and found weights gone that were read before: by engine, why.
    pub(super) fn lose(&mut self, config: &Config, lost: Vec<(EngineKey, String)>) {
        for (index, watch) in config.watches.iter().enumerate() {
            if let Some((_, why)) = lost.iter().find(|it| it.0 == engines::key(watch)) {
                self.read.remove(&index);
                self.unread.insert(index, why.clone());
            }
        }
    }

    /// Tells a folder how its weights stand.
    pub(super) fn tell(&self, index: usize, folder: &mut Folder) {
        match self.unread.get(&index) {
            Some(why) => folder.lacks_weights(why.clone()),
            None if self.read.contains_key(&index) => folder.weights = Weights::Read,
            None => folder.weights = Weights::Asked,
        }
    }

    /// The settings of the folders whose weights were read, by path.
    pub(super) fn settings(self, config: &Config) -> BTreeMap<String, Identity> {
        let name = |index: usize| config.watches[index].path.to_string_lossy().into_owned();
        self.read.into_iter().map(|(index, identity)| (name(index), identity)).collect()
    }
}

/// Why weights were not read, a sentence.
#[derive(Debug)]
pub(super) enum Unread {
    /// They do not answer.
    Silent(String),
    /// The system's reason.
    Failed(String),
}

impl Unread {
    pub(super) fn text(self) -> String {
        match self {
            Self::Silent(text) | Self::Failed(text) => text,
        }
    }
}

/// The settings of all folders of `config`, by path, for a reload: each has to answer within `patience`.
///
/// # Errors
/// [`Unread`].
pub(super) async fn settings(
    config: &Config,
    patience: Duration,
) -> Result<BTreeMap<String, Identity>, Unread> {
    let identities: Arc<Identities> = Arc::default();
    let mut settings = BTreeMap::new();
    for watch in &config.watches {
        let (identities, asked) = (Arc::clone(&identities), watch.settings());
        let read = blocking(move || identities.of(&asked));
        let path = file_of(watch).unwrap_or(Path::new("")).display();
        let read = tokio::time::timeout(patience, read).await.map_err(|_| {
            let seconds = patience.as_secs();
            Unread::Silent(format!("{path}: the weights do not answer within {seconds} s"))
        })?;
        let identity = read.map_err(|error| {
            Unread::Failed(format!("{path}: the weights cannot be read: {error}"))
        })?;
        settings.insert(watch.path.to_string_lossy().into_owned(), identity);
    }
    Ok(settings)
}

impl Daemon {
    /// The engines whose weights were not read.
    pub(super) fn lacking_engines(&self) -> Vec<EngineKey> {
        let lacks = self.folders.watched().filter(|it| it.weights != Weights::Read);
        lacks.map(|it| engines::key(&it.watch)).collect()
    }

    /// Asks again for the weights of a folder, where they were not read.
    pub(super) fn look_for_weights(&mut self, index: usize) {
        let folder = &mut self.folders.list[index];
        if folder.weights == Weights::Unread {
            folder.weights = Weights::Asked;
            let of = (index, folder.generation);
            ask(of, &folder.watch, &self.shop, &self.identities, &self.events);
        }
    }

    /// The weights of a folder were read, or cannot be.
    pub(super) fn weights_read(
        &mut self,
        index: usize,
        result: io::Result<Identity>,
    ) -> Result<(), DaemonError> {
        let folder = &mut self.folders.list[index];
        match result {
            Ok(identity) => {
                folder.has_weights();
                let name = folder.watch.path.to_string_lossy();
                self.reload.read(&name, &identity);
                self.shop.journal().update_settings(&name, &identity.0, &identity.1)?;
                self.may_start = true;
                Ok(self.find_orphans()?)
            }
            Err(error) => {
                let why = cannot_be_read(&folder.watch, &error);
                folder.lacks_weights(why);
                Ok(())
            }
        }
    }
}
