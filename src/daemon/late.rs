//! A driver that comes after the start. systemd looks up which devices the service may use when that starts
//! (`DeviceAllow=`), so a module that is loaded later is there for everybody but the service, until it is started anew.

use std::path::{Path, PathBuf};

use crate::daemon::DaemonError;
use crate::error::{Consequence, ExitCode};

/// Where the kernel lists the kinds of devices it has.
pub const KERNEL_DEVICES: &str = "/proc/devices";
/// Without this one no program can compute on an NVIDIA GPU.
const NEEDED: &str = "nvidia-uvm";

/// Watches for the module that was not there when the service started.
#[derive(Debug)]
pub struct LateDriver {
    /// The kernel's list; `None` where there is nothing to be watched for.
    devices: Option<PathBuf>,
    /// Why the daemon ends, once it is to.
    end: Option<DaemonError>,
}

impl LateDriver {
    /// Of a daemon that a service manager starts anew; `devices` is [`KERNEL_DEVICES`] but for tests.
    #[must_use]
    pub fn watched_in(devices: &Path) -> Self {
        let devices = Some(devices.to_owned()).filter(|it| !lists(it));
        Self { devices, end: None }
    }

    /// Of a daemon that nobody would start again.
    #[must_use]
    pub fn unwatched() -> Self {
        Self { devices: None, end: None }
    }

    /// A GPU was looked for and not found, and no clip is worked: where the module has come since the start, the daemon ends.
    pub fn missed(&mut self) {
        if self.devices.as_deref().is_some_and(lists) {
            self.end = Some(DaemonError::Engine {
                reason: format!(
                    "the module {NEEDED} was loaded after the service had started, which therefore may not use the GPU: it is \
                     started anew"
                ),
                consequence: Consequence::Retry,
                exit_code: ExitCode::TempFail,
            });
        }
    }

    /// Whether the daemon is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Why the daemon ended, if because of this.
    ///
    /// # Errors
    /// [`DaemonError::Engine`], with the exit code after which it is started again.
    pub fn end(&mut self) -> Result<(), DaemonError> {
        self.end.take().map_or(Ok(()), Err)
    }
}

/// Whether the kernel has the module; a list that cannot be read has it not.
fn lists(devices: &Path) -> bool {
    let text = std::fs::read_to_string(devices).unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().nth(1) == Some(NEEDED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Classify as _;

    const WITHOUT: &str = "Character devices:\n  1 mem\n195 nvidia\n";

    #[test]
    fn only_a_module_that_came_since_the_start_ends_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices");
        let with = format!("{WITHOUT}507 nvidia-uvm\n\nBlock devices:\n  8 sd\n");
        for (before, after, ends) in [
            (WITHOUT, with.as_str(), true),
            ("", &with, true),
            (&with, &with, false),
            (WITHOUT, WITHOUT, false),
            (WITHOUT, "507 nvidia-uvm-tools\n", false),
        ] {
            std::fs::write(&path, before).unwrap();
            let mut late = LateDriver::watched_in(&path);
            late.missed();
            assert!(!late.is_over() && late.end().is_ok());
            std::fs::write(&path, after).unwrap();
            late.missed();
            assert_eq!(late.is_over(), ends, "{before}{after}");
            assert_eq!(late.end().err().map(|it| it.exit_code() as i32), ends.then_some(75));
        }
        let mut unwatched = LateDriver::unwatched();
        unwatched.missed();
        assert!(!unwatched.is_over());
    }
}
