//! Ctrl-C, SIGTERM and a terminal that closes, for the one-shot commands: finish nothing, leave nothing half done.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets; SIGHUP not where it is ignored, as under `nohup`. Without a signal
/// handler (no runtime) it just stays unset.
#[must_use]
pub fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !is_hangup_ignored() {
            kinds.push(SignalKind::hangup());
        }
        runtime.block_on(async {
            let Ok(mut caught) = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
            else {
                return;
            };
            poll_fn(|context| match caught.iter_mut().any(|it| it.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            flag.store(true, Ordering::Relaxed);
        });
    });
    stop
}

/// Whether whoever started this process wants it to outlive the terminal; also where the system does not say.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|it| it.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    ignored.is_none_or(|signals| signals & 1 << (SignalKind::hangup().as_raw_value() - 1) != 0)
}
