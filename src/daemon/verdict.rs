//! What follows from an attempt that did not work. Pure, so that every rule is tested.

use std::time::Duration;

use crate::daemon::journal::{Claim, Count, LONGEST_WAIT_MS};
use crate::daemon::protocol::Failure;
use crate::error::{Consequence, ExitCode};

/// First pause; each further one is twice as long.
const FIRST_PAUSE_MS: i64 = 2_000;
/// Longest pause.
pub const LONGEST_PAUSE_MS: i64 = LONGEST_WAIT_MS;
/// Attempts that should have worked and did not, before a job fails.
const MOST_FAILURES: i64 = 3;
/// Workers that one clip may take down before it is refused.
const MOST_CRASHES: i64 = 2;
/// Attempts of a clip whose workers are killed from outside before it fails; want of memory may last for minutes.
const MOST_KILLS: i64 = 6;
/// The first pause after such a kill is that of this many tries.
const KILL_TRIES: i64 = 2;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Later.
    Again {
        /// How the attempt counts.
        count: Count,
        /// How much later.
        pause_ms: i64,
    },
    /// Later, and the folder's other jobs as well: its output, its weights or the device are at fault.
    PauseFolder {
        /// How much later.
        pause_ms: i64,
    },
    /// The source is another file now.
    Changed,
    /// The clip cannot be used.
    Refuse,
    /// It should have worked, and did not, too often.
    Fail,
}

/// Pause before try number `tries + 1`.
#[must_use]
pub fn pause_ms(tries: i64) -> i64 {
    let doublings = u32::try_from(tries.clamp(0, 30)).unwrap_or(30);
    FIRST_PAUSE_MS.saturating_mul(1 << doublings).min(LONGEST_PAUSE_MS)
}

/// How long a folder is left alone after `pauses` pauses without a job that worked in between.
#[must_use]
pub fn folder_pause_ms(pauses: i64) -> i64 {
    pause_ms(pauses).min(LONGEST_PAUSE_MS / 2)
}

/// How long the job waits at the least for which its folder is left alone for `folder_ms`: the trouble may be its own, so
/// other clips have their turn first once the folder is tried again. Never longer than any job may wait.
#[must_use]
pub fn behind_its_folder_ms(folder_ms: i64) -> i64 {
    folder_ms.saturating_mul(2).min(LONGEST_PAUSE_MS)
}

/// Something outside may pass.
#[must_use]
pub fn on_delay(claim: &Claim) -> Verdict {
    Verdict::Again { count: Count::Delay, pause_ms: pause_ms(claim.delays) }
}

/// The worker crashed or hung.
#[must_use]
pub fn on_crash(claim: &Claim) -> Verdict {
    if claim.crashes + 1 >= MOST_CRASHES {
        Verdict::Refuse
    } else {
        Verdict::Again { count: Count::Crash, pause_ms: pause_ms(claim.crashes) }
    }
}

/// Something outside killed the worker: the system, most likely, for want of memory. That may pass and not be the clip's
/// doing, so it is not refused for it; but a clip that needs more memory than there is must not go on for ever.
#[must_use]
pub fn on_kill(claim: &Claim) -> Verdict {
    if claim.failures + 1 >= MOST_KILLS {
        Verdict::Fail
    } else {
        Verdict::Again { count: Count::Failure, pause_ms: pause_ms(claim.failures + KILL_TRIES) }
    }
}

/// A clip that lacks its end may be a copy that stalled: it waits until the grace time, of which this is left, is over.
/// `None` where it is not waited for any more.
#[must_use]
pub fn on_lost_end(left: Duration) -> Option<Verdict> {
    let pause_ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).min(LONGEST_PAUSE_MS);
    (pause_ms > 0).then_some(Verdict::Again { count: Count::Delay, pause_ms })
}

/// The worker said why it failed.
#[must_use]
pub fn on_failure(failure: &Failure, claim: &Claim) -> Verdict {
    let pause = pause_ms(claim.delays);
    match (failure.consequence, failure.exit_code) {
        (Consequence::Retry, _) if failure.code == "source_changed" => Verdict::Changed,
        (Consequence::Reject, _) => Verdict::Refuse,
        (Consequence::Retry, ExitCode::Software) if claim.failures + 1 >= MOST_FAILURES => {
            Verdict::Fail
        }
        (Consequence::Retry, ExitCode::Software) => {
            Verdict::Again { count: Count::Failure, pause_ms: pause_ms(claim.failures) }
        }
        // By what is expected of it. A smaller clip may fit; where the reserve itself is not free, the folder waits.
        (Consequence::Retry, ExitCode::CannotCreate) if failure.code == "no_space" => {
            on_delay(claim)
        }
        (Consequence::Retry, ExitCode::CannotCreate | ExitCode::Unavailable)
        | (Consequence::Stop, _) => Verdict::PauseFolder { pause_ms: pause },
        (Consequence::Retry, _) => on_delay(claim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(failures: i64, crashes: i64, delays: i64) -> Claim {
        Claim {
            job: 1,
            attempt: 1,
            watch: "/in".into(),
            relative: "a.mp4".into(),
            size_bytes: 1,
            mtime_ns: 1,
            inode: 1,
            sha256: String::new(),
            settings: String::new(),
            settings_sha256: String::new(),
            list_sha256: String::new(),
            failures,
            crashes,
            delays,
            report_path: None,
        }
    }

    fn failure(consequence: Consequence, exit_code: ExitCode, code: &str) -> Failure {
        Failure { consequence, exit_code, code: code.into(), message: String::new(), report: None }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!([0, 1, 2].map(pause_ms), [2_000, 4_000, 8_000]);
        assert_eq!(pause_ms(60), LONGEST_PAUSE_MS);
        assert_eq!(pause_ms(i64::MAX), LONGEST_PAUSE_MS);
    }

    #[test]
    fn a_job_waits_longer_than_the_folder_that_it_had_paused() {
        for pauses in 0..40 {
            let folder_ms = folder_pause_ms(pauses);
            let job_ms = behind_its_folder_ms(folder_ms);
            assert!(folder_ms < job_ms && job_ms <= LONGEST_PAUSE_MS, "{folder_ms} {job_ms}");
        }
    }

    /// W06.
    #[test]
    fn a_clip_without_its_end_is_waited_for_until_the_grace_time_is_over() {
        let pause = |left| match on_lost_end(left) {
            Some(Verdict::Again { count: Count::Delay, pause_ms }) => Some(pause_ms),
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(pause(Duration::from_secs(540)), Some(540_000));
        assert_eq!(pause(Duration::from_millis(1)), Some(1));
        assert_eq!(pause(Duration::ZERO), None);
        assert_eq!(pause(Duration::MAX), Some(LONGEST_PAUSE_MS));
    }

    #[test]
    fn the_second_crash_is_the_last() {
        assert!(matches!(on_crash(&claim(0, 0, 0)), Verdict::Again { count: Count::Crash, .. }));
        assert_eq!(on_crash(&claim(0, 1, 0)), Verdict::Refuse);
    }

    #[test]
    fn kills_from_outside_are_waited_out_for_minutes_and_never_refuse_a_clip() {
        let mut waited_ms = 0;
        for failures in 0..MOST_KILLS - 1 {
            match on_kill(&claim(failures, 0, 0)) {
                Verdict::Again { count: Count::Failure, pause_ms } => waited_ms += pause_ms,
                other => panic!("{other:?}"),
            }
        }
        assert!(waited_ms > 3 * 60_000, "{waited_ms}");
        assert_eq!(on_kill(&claim(MOST_KILLS - 1, 0, 0)), Verdict::Fail);
    }

    #[test]
    fn unusable_clips_are_refused_at_once() {
        let failure = failure(Consequence::Reject, ExitCode::DataError, "not_video");
        assert_eq!(on_failure(&failure, &claim(0, 0, 0)), Verdict::Refuse);
    }

    #[test]
    fn what_may_pass_is_tried_without_end() {
        let failure = failure(Consequence::Retry, ExitCode::IoError, "read");
        let verdict = on_failure(&failure, &claim(0, 0, 1000));
        assert_eq!(verdict, Verdict::Again { count: Count::Delay, pause_ms: LONGEST_PAUSE_MS });
    }

    #[test]
    fn what_should_have_worked_fails_the_third_time() {
        let failure = failure(Consequence::Retry, ExitCode::Software, "verify");
        let first = on_failure(&failure, &claim(0, 0, 0));
        assert!(matches!(first, Verdict::Again { count: Count::Failure, .. }));
        assert_eq!(on_failure(&failure, &claim(2, 0, 0)), Verdict::Fail);
    }

    #[test]
    fn trouble_of_the_folder_pauses_the_folder() {
        for (consequence, exit_code) in [
            (Consequence::Retry, ExitCode::CannotCreate),
            (Consequence::Retry, ExitCode::Unavailable),
            (Consequence::Stop, ExitCode::Config),
        ] {
            let verdict = on_failure(&failure(consequence, exit_code, "x"), &claim(0, 0, 0));
            assert!(matches!(verdict, Verdict::PauseFolder { .. }), "{exit_code:?}");
        }
    }

    #[test]
    fn a_clip_that_does_not_fit_waits_alone() {
        let failure = failure(Consequence::Retry, ExitCode::CannotCreate, "no_space");
        let verdict = on_failure(&failure, &claim(0, 0, 1000));
        assert_eq!(verdict, Verdict::Again { count: Count::Delay, pause_ms: LONGEST_PAUSE_MS });
    }

    #[test]
    fn a_changed_source_is_another_file() {
        let failure = failure(Consequence::Retry, ExitCode::TempFail, "source_changed");
        assert_eq!(on_failure(&failure, &claim(0, 0, 0)), Verdict::Changed);
    }
}
