//! Whether the system's clock was set back, by which the times of waiting jobs are kept.

use std::time::Instant;

/// A clock that went back by less is let be.
const CLOCK_STEP_MS: i64 = 5_000;

/// How many milliseconds the system's clock went back against the monotonic one between two instants; `None` where it
/// did not, or by a little only. (Forward is no harm: jobs are due early.)
#[must_use]
pub fn set_back_by(before: (Instant, i64), now: (Instant, i64)) -> Option<i64> {
    let elapsed = i64::try_from(now.0.duration_since(before.0).as_millis()).unwrap_or(i64::MAX);
    let step_ms = before.1.saturating_add(elapsed).saturating_sub(now.1);
    (step_ms >= CLOCK_STEP_MS).then_some(step_ms)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// W12.
    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_one_that_goes_or_jumps_ahead_is_let_be() {
        let begin = Instant::now();
        let later = |seconds| begin + Duration::from_secs(seconds);
        let hour_ms = 3_600_000;
        assert_eq!(set_back_by((begin, 0), (later(10), 10_000)), None);
        assert_eq!(set_back_by((begin, 0), (later(10), 10_000 + hour_ms)), None);
        assert_eq!(set_back_by((begin, 0), (later(10), 10_000 - hour_ms)), Some(hour_ms));
        assert_eq!(set_back_by((begin, 0), (later(10), 9_000)), None, "slewing");
    }
}
