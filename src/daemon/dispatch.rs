//! Which job is worked next, and what follows from its end: the part of the loop that deals with jobs.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;

use crate::daemon::DaemonError;
use crate::daemon::intake::blocking;
use crate::daemon::job::{self, Aftermath, now_ms};
use crate::daemon::order;
use crate::daemon::protocol::News;
use crate::daemon::pulse::Pulse;
use crate::daemon::run::{Daemon, Event, Running, io_error};
use crate::daemon::verdict;
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
            device_memory: None,
            pulse: Pulse::begin(self.shop.rules().limits, now),
            stop,
            cancel: false,
            cancelled_for: Vec::new(),
            reloads: self.reload.count,
        });
        let watch = self.folders.list[folder].watch.clone();
        let (shop, events) = (Arc::clone(&self.shop), self.events.clone());
        let (job, runtime) = (claim.job, Handle::current());
        tokio::spawn(async move {
            let sender = events.clone();
            // On a thread of its own, from its claim to its end: each of its steps may wait for a file system.
            let work = move || {
                let mut unsaid = None;
                let mut on_news = |news| {
                    // A full queue loses a step of progress; the next one says more. What the network runs on is said once.
                    let waiting = unsaid.take().into_iter();
                    for event in waiting.chain([Event::News { job, news }]) {
                        if let Err(TrySendError::Full(lost)) = sender.try_send(event)
                            && matches!(lost, Event::News { news: News::Engine(_), .. })
                        {
                            unsaid = Some(lost);
                        }
                    }
                };
                let ended = runtime.block_on(job::work(shop, watch, claim, stopped, &mut on_news));
                Ok((ended, unsaid))
            };
            let broken_off = |error| (Err(io_error("a job broke off", error)), None);
            let (result, unsaid) = blocking(work).await.unwrap_or_else(broken_off);
            if let Some(unsaid) = unsaid {
                let _ = events.send(unsaid).await;
            }
            let _ = events.send(Event::JobEnded { job, result }).await;
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
                let is_of_it = |it: &Running| self.folders.list[it.key.0].watch.path == watch.path;
                if self.set_aside.iter().any(is_of_it) {
                    return None;
                }
                let locks = &self.shop.locks;
                let may_write =
                    locks.knows(&watch.output) && locks.refusal(&watch.output).is_none();
                may_write.then_some((name, priority))
            })
            .collect()
    }

    pub(super) fn job_ended(
        &mut self,
        job: i64,
        result: Result<Aftermath, DaemonError>,
    ) -> Result<(), DaemonError> {
        let running = self.take_out(job);
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
            Aftermath::Pause(reason) => {
                let pause_ms = self.folders.pause(key.0, reason, Instant::now());
                let until_ms = now_ms() + verdict::behind_its_folder_ms(pause_ms);
                self.shop.journal().postpone(job, until_ms)?;
            }
            Aftermath::LookAgain => self.folders.hinted(key.0, key.1, false, Instant::now()),
        }
        self.next_housekeeping = Instant::now();
        Ok(())
    }
}
