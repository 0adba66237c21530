//! Tells the service manager and the journal how the daemon is, and looks again for a device that is missed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::DaemonError;
use crate::daemon::engines;
use crate::daemon::events::Kind;
use crate::daemon::job::now_ms;
use crate::daemon::journal::view::DaemonView;
use crate::daemon::run::{Daemon, Event, TICK};
use crate::daemon::service::{self, StatusParts};
use crate::engine::EngineDescription;

/// How often an unchanged description is written, to show that the daemon lives.
const DESCRIBE_EVERY: Duration = Duration::from_secs(30);
/// A missed GPU is looked for once in so many poll intervals: that starts a process and reads weights.
const PROBE_POLLS: u32 = 10;

impl Daemon {
    /// Tells the service manager and `slomod status` how things are.
    pub(super) fn describe(&mut self, now: Instant) -> Result<(), DaemonError> {
        self.notifier.catch_up();
        self.notifier.alive(self.running.as_ref().map(|it| &it.pulse), now);
        if now < self.next_description {
            return Ok(());
        }
        self.next_description = now + TICK;
        let since = self.described.1.map(|at| now.duration_since(at));
        let counts = self.shop.journal().counts()?;
        self.may_start = counts.queued > 0;
        let [polling, offline, hung] = self.folders.counts();
        let line = service::status_line(&StatusParts {
            degraded: self.degraded(),
            paused_since: self.paused.clone(),
            watches: self.folders.watched().count(),
            polling,
            offline,
            hung,
            running: self.running.as_ref().map(|it| (it.job, it.name.clone(), it.progress.clone())),
            settling: self.settler.len(),
            queued: counts.queued,
            failed: counts.failed,
            refused: counts.refused,
            device: self.device.as_ref().map(service::device_name).unwrap_or_default(),
        });
        self.notifier.status(&line);
        if line != self.described.0 || since.is_none_or(|since| since >= DESCRIBE_EVERY) {
            self.shop.journal().describe_daemon(&DaemonView {
                pid: std::process::id(),
                started_ms: self.started_ms,
                seen_ms: now_ms(),
                status: line.clone(),
            })?;
            self.described = (line, Some(now));
        }
        Ok(())
    }

    /// Where `auto` did not get a GPU: from time to time, whether there is one now. Not beside a clip, which has the
    /// processors, and which looks for itself when it begins.
    pub(super) fn look_for_device(&mut self, now: Instant) {
        let missed = self.device.as_ref().is_some_and(|it| it.fallback_reason.is_some());
        if !missed || self.probing || self.running.is_some() || now < self.next_probe {
            return;
        }
        self.probing = true;
        let (config, shop) = (self.config.clone(), Arc::clone(&self.shop));
        let (events, stop) = (self.events.clone(), self.stop.subscribe());
        let lacking = self.lacking_engines();
        tokio::spawn(async move {
            let limits = shop.rules().limits;
            let opened = engines::open(&config, &lacking, &shop.command, limits, stop, false).await;
            let descriptions = opened.map(|it| it.descriptions);
            // The receiver is gone only where the daemon ends.
            let _ = events.send(Event::Probed(descriptions)).await;
        });
    }

    /// The missed device was looked for.
    pub(super) fn probed(&mut self, result: Result<Vec<EngineDescription>, DaemonError>) {
        self.probing = false;
        self.next_probe = Instant::now() + self.config.daemon.poll_interval * PROBE_POLLS;
        // What cannot be opened at all shows with the next clip.
        if let Ok(Some(found)) = result.map(engines::foremost) {
            self.device_is(found);
        }
        let missed = self.device.as_ref().is_some_and(|it| it.fallback_reason.is_some());
        if missed && self.running.is_none() {
            self.late.missed();
        }
    }

    /// The network runs on this from now on.
    pub(super) fn device_is(&mut self, found: EngineDescription) {
        let before = self.device.as_ref().map(|it| &it.fallback_reason);
        if before != Some(&found.fallback_reason) {
            let device = service::device_name(&found);
            match &found.fallback_reason {
                Some(why) => {
                    log::warn!(MESSAGE_ID = Kind::DeviceFallback.id(), SLOMOD_DEVICE = device.as_str(); "the network runs on the CPU: {}", service::plain(service::why_on_cpu(why)));
                }
                None if before.is_some() => {
                    log::info!(MESSAGE_ID = Kind::DeviceBack.id(), SLOMOD_DEVICE = device.as_str(); "the network runs on {device} again");
                }
                None => {}
            }
        }
        self.device = Some(found);
    }
}
