//! The end of the daemon: its worker stops, and what waits for a file system that does not answer is left behind.

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::daemon::DaemonError;
use crate::daemon::events::Kind;
use crate::daemon::job::Shop;
use crate::daemon::run::{Daemon, Event, TICK};
use crate::error::ExitCode;

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

/// Runs the daemon. Dropped, the runtime would wait for its threads, and some may hang.
pub(super) fn drive(
    runtime: Runtime,
    daemon: impl Future<Output = Result<Left, DaemonError>>,
) -> Result<Left, DaemonError> {
    let runtime = ManuallyDrop::new(runtime);
    let result = runtime.block_on(daemon);
    match result {
        // A hash of a large file or a scan of a share that hangs does not hold the end up.
        Ok(Left::Nothing) => ManuallyDrop::into_inner(runtime).shutdown_background(),
        // Of what is left, a job that waits or works, nothing may find the runtime gone; it ends with the process.
        Ok(Left::Stuck) | Err(_) => {}
    }
    result
}

/// Where the loop panics, the process ends in this moment: what is left of it must not wait for a lock's file system, and
/// a process that lives is not started anew.
pub(super) struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Why was said already.
            std::process::exit(ExitCode::Software as i32);
        }
    }
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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// As long as anybody waits for it.
    struct Hangs;

    impl Drop for Hangs {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }

    fn hang() -> Result<Left, DaemonError> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        drive(runtime, async {
            let (_lock, (begun, begins)) = (Hangs, std::sync::mpsc::channel());
            tokio::task::spawn_blocking(move || {
                begun.send(()).unwrap();
                drop(Hangs);
            });
            begins.recv().unwrap();
            let _end = EndOnPanic;
            panic!("as a fault of the loop");
        })
    }

    /// W36, S04.
    #[test]
    fn a_panic_of_the_loop_ends_the_process_whatever_hangs() {
        const INSIDE: &str = "SLOMOD_TEST_PANIC";
        if std::env::var_os(INSIDE).is_some() {
            let _ = hang();
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "daemon::ending::tests::a_panic_of_the_loop_ends_the_process_whatever_hangs",
            ])
            .env(INSIDE, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if begin.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("it hangs");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(code, Some(ExitCode::Software as i32));
    }
}
