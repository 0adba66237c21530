//! Which job is worked next, and what follows from its end: the part of the loop that deals with jobs.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::daemon::DaemonError;
use crate::daemon::job::{self, Aftermath, now_ms};
use crate::daemon::order;
use crate::daemon::pulse::Pulse;
use crate::daemon::run::{Daemon, Event, Running};
use crate::daemon::watch::{Look, look};
use crate::pipeline::Progress;

impl Daemon {
    pub(super) fn start_job(&mut self, now: Instant) -> Result<(), DaemonError> {
        if !self.may_start {
            return Ok(());
        }
        let mut claim = None;
        for class in order::classes(&self.turns, self.workable(now)) {
            let names: Vec<&str> = class.iter().map(String::as_str).collect();
            claim = self.shop.journal().claim(&self.owner, &names, now_ms(), job::LEASE_MS)?;
            if claim.is_some() {
                break;
            }
        }
        let Some(claim) = claim else { return Ok(()) };
        let Some(folder) = self.folders.named(&claim.watch) else { return Ok(()) };
        self.turns.took(folder);
        let (stop, stopped) = watch::channel(false);
        self.running = Some(Running {
            job: claim.job,
            key: (folder, claim.relative.clone()),
            name: claim.relative.to_string_lossy().into_owned(),
            progress: Progress::default(),
            pulse: Pulse::begin(self.shop.rules().limits, now),
            stop,
            cancelled_for: Vec::new(),
            reloads: self.reload.count,
        });
        let watch = self.folders.list[folder].watch.clone();
        let (shop, events) = (Arc::clone(&self.shop), self.events.clone());
        tokio::spawn(async move {
            let sender = events.clone();
            let mut on_news = move |news| {
                // A full queue loses a step of progress; the next one says more.
                let _ = sender.try_send(Event::News(news));
            };
            let result = job::work(shop, watch, claim, stopped, &mut on_news).await;
            let _ = events.send(Event::JobEnded(result)).await;
        });
        Ok(())
    }

    /// Folders whose jobs can be worked now, with their priorities.
    fn workable(&self, now: Instant) -> Vec<(String, i32)> {
        let names = self.folders.workable(now).into_iter();
        let folder = |name: &String| Some(&self.folders.list[self.folders.named(name)?].watch);
        names
            .filter_map(|name| {
                let watch = folder(&name)?;
                let priority = watch.priority;
                self.shop.locks.refusal(&watch.output).is_none().then_some((name, priority))
            })
            .collect()
    }

    pub(super) fn job_ended(
        &mut self,
        result: Result<Aftermath, DaemonError>,
    ) -> Result<(), DaemonError> {
        let running = self.running.take();
        let aftermath = result?;
        self.may_start = true;
        // A job that was cancelled frees its place.
        self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let Some(mut running) = running else { return Ok(()) };
        self.cancel_ended(&mut running);
        self.renew_settings(&running)?;
        self.look_after(running.job);
        let key = running.key;
        match aftermath {
            Aftermath::Next => self.folders.works(key.0),
            Aftermath::Pause(reason) => self.folders.pause(key.0, reason, Instant::now()),
            Aftermath::LookAgain => {
                let area = &self.folders.list[key.0].area;
                match look(area, &key.1) {
                    Ok(Look::File(snapshot)) => self.seen(key, snapshot)?,
                    Ok(_) => {}
                    Err(_) => {
                        let below = key.1.parent().unwrap_or(Path::new("")).to_owned();
                        self.folders.read_soon(key.0, below, Instant::now());
                    }
                }
            }
        }
        self.next_housekeeping = Instant::now();
        Ok(())
    }
}
