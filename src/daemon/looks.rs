//! Which folders are there, whose their outputs are, and what lies where something happened: file systems are asked
//! beside the loop, of each folder one thing at a time.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use log::Level;

use crate::config::file::Ready;
use crate::daemon::DaemonError;
use crate::daemon::errands::{Errand, Place};
use crate::daemon::events::Kind;
use crate::daemon::filesystem;
use crate::daemon::ignore;
use crate::daemon::intake::blocking;
use crate::daemon::journal::JournalError;
use crate::daemon::run::{Daemon, Event};
use crate::daemon::service;
use crate::daemon::watch::{Area, Look, look_for_ready, spoken_of};
use crate::daemon::weights;

/// What lies at a path that something happened to.
#[derive(Debug)]
pub(super) struct Sight {
    /// Below its folder.
    pub(super) relative: PathBuf,
    /// Whether it was moved to this name.
    pub(super) moved_in: bool,
    pub(super) look: io::Result<Look>,
}

impl Daemon {
    /// Asks for what is due: whether the folders are there, and what lies where something happened.
    pub(super) fn look_for_folders(&mut self, now: Instant) {
        for index in self.folders.take_looks(now) {
            let folder = (index, self.folders.list[index].generation);
            let watch = self.folders.list[index].watch.clone();
            self.look_for_weights(index);
            let errand = self.shop.errands.begin(Place::Watch(index), &watch.path);
            let events = self.events.clone();
            tokio::spawn(async move {
                let result = blocking(move || {
                    let found = filesystem::identify(&watch);
                    weights::touch(&watch, &errand);
                    found
                });
                let result = result.await;
                // The receiver is gone only where the daemon ends.
                let _ = events.send(Event::LookedFor { folder, result }).await;
            });
        }
        for (index, hinted) in self.folders.take_hinted() {
            let folder = (index, self.folders.list[index].generation);
            let area = self.folders.list[index].area.clone();
            let errand = self.shop.errands.begin(Place::Watch(index), &area.root);
            let events = self.events.clone();
            tokio::spawn(async move {
                let result = blocking(move || Ok(sights(&area, hinted, &errand))).await;
                let _ = events.send(Event::Sighted { folder, result }).await;
            });
        }
    }

    /// A folder was looked for.
    pub(super) fn looked_for(
        &mut self,
        index: usize,
        found: io::Result<filesystem::RootIdentity>,
    ) -> Result<(), DaemonError> {
        match self.folders.looked(index, found, self.hints.watches(), Instant::now()) {
            true => self.folder_came(index),
            false => Ok(()),
        }
    }

    /// What was hinted at in a folder was looked at.
    pub(super) fn all_sighted(
        &mut self,
        index: usize,
        sights: io::Result<Vec<Sight>>,
    ) -> Result<(), DaemonError> {
        self.folders.hints_looked_at(index);
        match sights {
            Ok(sights) => sights.into_iter().try_for_each(|it| self.sighted(index, it)),
            Err(error) => {
                self.folders.list[index].lose(&error.to_string());
                Ok(())
            }
        }
    }

    /// Looks after the locks of the output folders that are not being looked at already.
    pub(super) fn look_for_outputs(&mut self) {
        let all: BTreeSet<PathBuf> =
            self.config.watches.iter().map(|it| it.output.clone()).collect();
        for output in all {
            if !self.locks_looked_at.insert(output.clone()) {
                continue;
            }
            let is_first = !self.shop.locks.knows(&output);
            let (shop, events) = (Arc::clone(&self.shop), self.events.clone());
            let errand = self.shop.errands.begin(Place::Output(output.clone()), &output);
            tokio::spawn(async move {
                let folder = output.clone();
                let result = blocking(move || {
                    let _errand = errand;
                    Ok(shop.locks.look(&folder, &shop.journal))
                });
                let result = result.await;
                let _ = events.send(Event::LockLookedAt { output, is_first, result }).await;
            });
        }
    }

    /// The lock of an output folder was looked after.
    pub(super) fn lock_looked_at(
        &mut self,
        output: &Path,
        result: io::Result<Result<(), JournalError>>,
    ) -> Result<(), DaemonError> {
        self.locks_looked_at.remove(output);
        match result {
            Ok(result) => result?,
            Err(error) => {
                let folder = output.to_string_lossy();
                service::log_watch(Level::Error, Kind::OutputFolder, &folder, &error.to_string());
            }
        }
        if !self.config.watches.iter().any(|it| it.output == output) {
            // The configuration has changed meanwhile.
            self.give_back_unwanted();
        }
        Ok(())
    }

    /// Gives back the locks of output folders that are not configured any more.
    pub(super) fn give_back_unwanted(&self) {
        let watches = &self.config.watches;
        let unwanted =
            self.shop.locks.unwanted(|folder| watches.iter().any(|it| it.output == folder));
        if !unwanted.is_empty() {
            tokio::task::spawn_blocking(move || drop(unwanted));
        }
    }

    /// Whether a folder or an output was not looked at to the end yet.
    pub(super) fn awaits_first_looks(&self) -> bool {
        let is_unknown = |output: &PathBuf| !self.shop.locks.knows(output);
        self.folders.are_looked_for() || self.config.watches.iter().any(|it| is_unknown(&it.output))
    }
}

fn sights(area: &Area, hinted: Vec<(PathBuf, bool)>, errand: &Errand) -> Vec<Sight> {
    let mut sights = Vec::new();
    let see = |relative: PathBuf, moved_in: bool| {
        errand.at(&area.root.join(&relative));
        Sight { look: look_for_ready(area, &relative), relative, moved_in }
    };
    for (relative, moved_in) in hinted {
        let sight = see(relative, moved_in);
        let is_sentinel = area.ready == Ready::Sentinel && ignore::is_sentinel(&sight.relative);
        if is_sentinel && !matches!(sight.look, Ok(Look::Folder)) {
            // It says that a clip beside it is complete, or does so no more.
            let clips = spoken_of(&area.root, &sight.relative);
            sights.extend(clips.into_iter().map(|clip| see(clip, false)));
        } else {
            sights.push(sight);
        }
    }
    sights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Depth;
    use crate::daemon::errands::Errands;
    use std::fs;

    #[test]
    fn a_sentinel_is_seen_as_the_clips_that_it_speaks_of() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.mp4.done", "b.mp4", "c.mp4"] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        let area = Area {
            root: root.path().to_owned(),
            depth: Depth::Flat,
            extensions: vec!["mp4".into()],
            links_to: Vec::new(),
            ready: Ready::Sentinel,
        };
        let errand = Errands::default().begin(Place::Watch(0), root.path());
        let seen = |names: [&str; 3]| -> Vec<(String, bool)> {
            let hinted = names.iter().map(|it| (PathBuf::from(it), false)).collect();
            let found = sights(&area, hinted, &errand).into_iter();
            let is_file = |it: &Sight| matches!(it.look, Ok(Look::File(_)));
            found.map(|it| (it.relative.to_str().unwrap().to_owned(), is_file(&it))).collect()
        };
        let expected =
            [("a.mp4".to_owned(), true), ("b.mp4".into(), false), ("c.mp4".into(), false)];
        assert_eq!(seen(["a.mp4.done", "b.done", "c.mp4"]), expected, "b.done is not there");
    }
}
