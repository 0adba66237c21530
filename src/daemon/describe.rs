//! Tells the service manager and `slomod status` how the daemon is.

use std::time::{Duration, Instant};

use crate::daemon::DaemonError;
use crate::daemon::job::now_ms;
use crate::daemon::journal::view::DaemonView;
use crate::daemon::run::{Daemon, TICK};
use crate::daemon::service::{self, StatusParts};

/// How often an unchanged description is written, to show that the daemon lives.
const DESCRIBE_EVERY: Duration = Duration::from_secs(30);

impl Daemon {
    /// Tells the service manager and `slomod status` how things are.
    pub(super) fn describe(&mut self, now: Instant) -> Result<(), DaemonError> {
        let patience = self.config.daemon.stall_timeout + self.config.daemon.stop_timeout;
        if self.running.as_ref().is_none_or(|it| now.duration_since(it.advanced) < patience) {
            self.notifier.alive(now);
        }
        if now < self.next_description {
            return Ok(());
        }
        self.next_description = now + TICK;
        let since = self.described.1.map(|at| now.duration_since(at));
        let counts = self.shop.journal().counts()?;
        self.may_start = counts.queued > 0;
        let (polling, offline) = self.folders.counts();
        let mut degraded: Vec<String> =
            self.fallback.iter().map(|why| format!("running on the CPU: {why}")).collect();
        degraded.extend(self.folders.degraded());
        degraded.extend(self.shop.locks.refusals());
        let line = service::status_line(&StatusParts {
            degraded,
            watches: self.folders.list.len(),
            polling,
            offline,
            running: self.running.as_ref().map(|it| (it.job, it.name.clone(), it.progress.clone())),
            settling: self.settler.len(),
            queued: counts.queued,
            failed: counts.failed + counts.refused,
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
}
