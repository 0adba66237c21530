//! What is left to do after jobs: interrupted publications, originals to be moved, temporary files. Beside the loop, of each
//! place once at a time, so that one that does not answer keeps no other waiting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::daemon::DaemonError;
use crate::daemon::intake::blocking;
use crate::daemon::journal::{Claim, JournalError, Leftover, Planned};
use crate::daemon::original;
use crate::daemon::recover;
use crate::daemon::run::{Daemon, Event, io_error};

/// What is to be done in one place.
#[derive(Default)]
struct Chores {
    leftovers: Vec<Leftover>,
    interrupted: Vec<(Claim, Planned)>,
    /// The originals of this watched folder are to be moved.
    originals: Option<String>,
}

impl Daemon {
    /// Completes publications, moves originals and tidies up, now or where a place was not there earlier.
    pub(super) fn keep_house(&mut self) -> Result<(), DaemonError> {
        for (place, chores) in self.chores()? {
            let is_output = self.config.watches.iter().any(|it| it.output == place);
            if is_output && !self.shop.locks.knows(&place) {
                // It may be another daemon's.
                continue;
            }
            if !self.housekeeping.insert(place.clone()) {
                continue;
            }
            let (shop, events) = (Arc::clone(&self.shop), self.events.clone());
            let watches = self.config.watches.clone();
            let extensions = self.config.daemon.extensions.clone();
            let interrupted = chores.interrupted.iter().map(|(claim, _)| claim.job).collect();
            tokio::spawn(async move {
                let work = move || {
                    let done = recover::remove_leftovers(&shop, chores.leftovers)
                        .and_then(|()| {
                            recover::finish_publications(&shop, &watches, chores.interrupted)
                        })
                        .and_then(|()| match chores.originals {
                            Some(watch) => {
                                let of = (&*watches, &*extensions);
                                original::move_pending(&shop, of, &watch)?;
                                Ok(true)
                            }
                            None => Ok(false),
                        });
                    Ok(done)
                };
                let broken_off = |error| Err(io_error("the daemon could not tidy up", error));
                let result = blocking(work).await.unwrap_or_else(broken_off);
                // The receiver is gone only where the daemon ends.
                let _ = events.send(Event::HouseKept { place, result, interrupted }).await;
            });
        }
        Ok(())
    }

    /// What is to be done, by place. Listed here, so that no job that starts from now on is among it.
    fn chores(&self) -> Result<BTreeMap<PathBuf, Chores>, DaemonError> {
        let journal = self.shop.journal();
        let (leftovers, mut interrupted) = (journal.leftovers()?, journal.unpublished()?);
        let originals = journal.watches_with_originals()?;
        drop(journal);
        interrupted.retain(|(claim, _)| !self.is_at_work(claim.job));
        let mut chores: BTreeMap<PathBuf, Chores> = BTreeMap::new();
        for leftover in leftovers {
            let place = self.output_around(&leftover.temporary);
            chores.entry(place).or_default().leftovers.push(leftover);
        }
        for (claim, planned) in interrupted {
            let place = self.output_around(&planned.output);
            chores.entry(place).or_default().interrupted.push((claim, planned));
        }
        for watch in originals {
            let place = chores.entry(PathBuf::from(&watch)).or_default();
            place.originals = Some(watch);
        }
        Ok(chores)
    }

    /// The output of a job whose publication a dead daemon began, and whether that is being completed.
    pub(super) fn interrupted_output(
        &self,
        job: i64,
    ) -> Result<Option<(PathBuf, bool)>, JournalError> {
        let interrupted = self.shop.journal().unpublished()?.into_iter();
        let output = interrupted.filter(|it| it.0.job == job).map(|it| it.1.output).next();
        Ok(output.map(|output| {
            let is_at_it = self.housekeeping.contains(&self.output_around(&output));
            (output, is_at_it)
        }))
    }

    /// The innermost configured output folder in which `path` is, or else the folder that it is in.
    fn output_around(&self, path: &Path) -> PathBuf {
        let outputs = self.config.watches.iter().map(|it| &it.output);
        let around = outputs.filter(|it| path.starts_with(it));
        let innermost = around.max_by_key(|it| it.components().count()).cloned();
        innermost.unwrap_or_else(|| path.parent().unwrap_or(path).to_owned())
    }
}
