//! A limit on what reading the headers of a clip may allocate.
//!
//! A few bytes of a header can ask for gigabytes: an index of a hundred million frames, a thousand streams. FFmpeg bounds
//! single allocations at 2 GiB and no sums. So the address space is bounded while headers are read. It cannot stay so: a
//! GPU's driver reserves far more of it than it uses, and pictures in work need what they need.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What headers may take: six pictures of 12288x6480 at 10 bits, or the index of a day at 240 frames a second.
const HEADER_BYTES: u64 = 1536 << 20;

/// Runs `work` with [`HEADER_BYTES`] of address space beyond what the process has. Where the system does not let the
/// limit be set, it runs without.
pub(super) fn within<T>(work: impl FnOnce() -> T) -> T {
    // Two at once would each put back the limit of the other.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::As);
    let limit = in_use_bytes().map(|it| it + HEADER_BYTES);
    let limit = limit.filter(|it| before.current.is_none_or(|current| *it < current));
    let set = limit.is_some_and(|it| {
        setrlimit(Resource::As, Rlimit { current: Some(it), maximum: before.maximum }).is_ok()
    });
    let value = work();
    if set {
        // The soft limit may always go back up to the hard one.
        let _ = setrlimit(Resource::As, before);
    }
    value
}

/// Address space of the process, as Linux counts it.
fn in_use_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmSize:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_within_and_is_gone_after() {
        let now = || getrlimit(Resource::As).current;
        let before = now();
        let most = in_use_bytes().unwrap() + 2 * HEADER_BYTES;
        assert!(within(now).is_some_and(|it| it < most));
        assert_eq!(now(), before);
    }
}
