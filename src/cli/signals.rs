//! Ctrl-C, SIGTERM and a terminal that closes, for the one-shot commands: finish nothing, leave nothing half done.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets; SIGHUP not where it is ignored, as under `nohup`. They are caught
/// when this returns: what is begun afterwards is never cut off. Where they cannot be (no runtime), it just stays unset.
#[must_use]
pub fn stop_flag() -> Arc<AtomicBool> {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if !is_hangup_ignored() {
        kinds.push(SignalKind::hangup());
    }
    flag_of(&kinds)
}

fn flag_of(kinds: &[SignalKind]) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return stop;
    };
    let caught: Result<Vec<_>, _> = {
        let _entered = runtime.enter();
        kinds.iter().map(|kind| signal(*kind)).collect()
    };
    let Ok(mut caught) = caught else { return stop };
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(poll_fn(|context| {
            match caught.iter_mut().any(|it| it.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        flag.store(true, Ordering::Relaxed);
    });
    stop
}

/// Whether whoever started this process wants it to outlive the terminal; also where the system does not say.
fn is_hangup_ignored() -> bool {
    signals("SigIgn:").is_none_or(|ignored| has(ignored, SignalKind::hangup()))
}

/// The set of signals that the line of `/proc/self/status` called `name` gives.
fn signals(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|it| it.strip_prefix(name))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn has(signals: u64, kind: SignalKind) -> bool {
    signals & 1 << (kind.as_raw_value() - 1) != 0
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn a_signal_that_comes_at_once_is_caught() {
        let kind = SignalKind::user_defined1();
        let is_caught = || signals("SigCgt:").is_some_and(|caught| has(caught, kind));
        assert!(!is_caught());
        let stop = flag_of(&[kind]);
        assert!(is_caught(), "the process would die of it");
        kill_process(getpid(), Signal::USR1).unwrap();
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody was told");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
