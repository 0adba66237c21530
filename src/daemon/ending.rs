//! The end of the daemon: its worker stops, and what waits for a file system that does not answer is left behind.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::daemon::DaemonError;
use crate::daemon::events::Kind;
use crate::daemon::job::Shop;
use crate::daemon::run::{Daemon, Event, TICK};

/// How long locks may take to be given back at the end.
const RELEASE_TIME: Duration = Duration::from_secs(2);
/// What the end may take beyond the worker's own time to stop.
const END_TIME: Duration = Duration::from_secs(10);

/// What is left of the daemon when it ends.
pub(super) enum Left {
    /// Nothing that matters.
    Nothing,
    /// Jobs that wait for a file system that does not answer.
    Stuck,
}

/// Gives the locks of all outputs back; whether all were in time. One that was not is free once the process has ended.
pub(super) async fn give_locks_back(shop: &Shop) -> bool {
    let locks = shop.locks.unwanted(|_| false);
    let released = tokio::task::spawn_blocking(move || drop(locks));
    tokio::time::timeout(RELEASE_TIME, released).await.is_ok()
}

impl Daemon {
    /// Stops the worker, puts its job back into the queue, and ends.
    pub(super) async fn finish(
        mut self,
        inbox: &mut mpsc::Receiver<Event>,
    ) -> Result<Left, DaemonError> {
        log::info!(MESSAGE_ID = Kind::DaemonNote.id(); "stopping");
        self.notifier.stopping();
        self.control.close();
        self.stop.send_replace(true);
        if let Some(running) = &self.running {
            running.stop.send_replace(true);
        }
        let deadline = tokio::time::Instant::now() + self.config.daemon.stop_timeout + END_TIME;
        // What is left then is found by the next start.
        while self.running.is_some() && tokio::time::Instant::now() < deadline {
            match tokio::time::timeout(TICK, inbox.recv()).await {
                Ok(Some(Event::JobEnded { job, result })) => {
                    let ended = self.take_out(job);
                    result?;
                    if let Some(mut ended) = ended {
                        self.cancel_ended(&mut ended);
                    }
                    // It may have come to its end just now.
                    self.look_after(job);
                }
                Ok(Some(Event::Ended(ended))) => self.ended(ended),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {}
            }
            // One that waits for a file system that does not answer is not waited for.
            self.look_for_answers(Instant::now());
        }
        self.look_after_last(inbox).await;
        self.shop.journal().forget_daemon()?;
        let is_stuck = !give_locks_back(&self.shop).await;
        log::info!(MESSAGE_ID = Kind::Stopped.id(); "stopped");
        let is_stuck = is_stuck || self.running.is_some() || !self.set_aside.is_empty();
        Ok(if is_stuck { Left::Stuck } else { Left::Nothing })
    }
}
