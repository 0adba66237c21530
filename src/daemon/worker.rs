//! Runs one request in a process of its own, so that no clip can take the daemon down, and ends it where it hangs.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::daemon::protocol::{Failure, Message, News, Request};
use crate::engine::EngineDescription;
use crate::media::complete::Extent;
use crate::pipeline::Progress;
use crate::report::Report;

/// Longest line of a worker: a report of a very long clip has tens of thousands of runs of frames.
const LONGEST_LINE_BYTES: u64 = 64 << 20;
/// How much of what the worker wrote to standard error is kept to explain a crash.
const ERROR_TAIL_BYTES: usize = 2000;
/// How long a worker may take to end after its last message.
const EXIT_TIME: Duration = Duration::from_secs(10);
/// Messages that wait to be looked at.
const QUEUE: usize = 16;
/// A timer that goes off later than this shows that the daemon itself stood still (stopped, frozen, suspended).
const LATE: Duration = Duration::from_secs(2);
/// SIGKILL: the system's, where memory is short, or a person's.
const KILLED: i32 = 9;
/// Code of a conversion that was asked to stop.
const INTERRUPTED: &str = "interrupted";

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl WorkerCommand {
    /// This very program, even where its file was replaced by an upgrade meanwhile.
    #[must_use]
    pub fn own() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec!["work".into()] }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without progress.
    pub stall: Duration,
    /// From the request to stop to the end.
    pub stop: Duration,
}

/// How a request ended.
#[derive(Debug)]
pub enum Ended {
    /// Converted and verified.
    Report(Box<Report>),
    /// A video, and whether its container says how much belongs to it.
    Probed(Extent),
    /// Device and weights work.
    Opened(Box<EngineDescription>),
    /// It did not work, and the worker said why.
    Failed(Box<Failure>),
    /// The worker died, or said something that makes no sense.
    Crashed(String),
    /// Something outside killed the worker; the clip may be innocent.
    Killed(String),
    /// The worker made no progress and was ended.
    Hung(Duration),
    /// The daemon wanted it to stop, and it did.
    Stopped,
    /// It could not be started.
    NotStarted(io::Error),
}

/// Runs `request`. `stop` becoming true stops it. Dropping the future kills the worker.
pub async fn run(
    command: &WorkerCommand,
    request: &Request,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    on_news: &mut (dyn FnMut(News) + Send),
) -> Ended {
    let (mut child, stdin) = match start(command, request).await {
        Ok(started) => started,
        Err(error) => return Ended::NotStarted(error),
    };
    let mut stdin = Some(stdin);
    let (sender, mut messages) = mpsc::channel(QUEUE);
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(read_messages(stdout, sender));
    }
    let errors = child.stderr.take().map(|stderr| tokio::spawn(read_tail(stderr)));

    let ended = follow(&mut messages, &mut stdin, limits, &mut stop, on_news).await;
    let stopping = stdin.is_none();
    drop(stdin);
    let patience = match ended {
        Ended::Hung(_) | Ended::Stopped => Duration::ZERO,
        // It talks nonsense; one that only ended has no `why` yet.
        Ended::Crashed(ref why) if !why.is_empty() => Duration::ZERO,
        _ => EXIT_TIME,
    };
    let (status, own) = end(&mut child, patience).await;
    let said = match errors {
        Some(task) => tokio::time::timeout(EXIT_TIME, task).await.ok().and_then(Result::ok),
        None => None,
    };
    match ended {
        Ended::Crashed(_) if stopping => Ended::Stopped,
        Ended::Failed(failure) if stopping && failure.code == INTERRUPTED => Ended::Stopped,
        Ended::Crashed(why) => {
            let text = explain(&why, status, &said.unwrap_or_default());
            let killed = status.is_some_and(|it| it.signal() == Some(KILLED));
            if killed && own == End::Its { Ended::Killed(text) } else { Ended::Crashed(text) }
        }
        other => other,
    }
}

/// Hears what the worker says until its last word, or until its time is over. It is asked to stop by closing its input, so
/// that `stdin` is gone afterwards where it was.
async fn follow(
    messages: &mut mpsc::Receiver<Result<Message, String>>,
    stdin: &mut Option<ChildStdin>,
    limits: Limits,
    stop: &mut watch::Receiver<bool>,
    on_news: &mut (dyn FnMut(News) + Send),
) -> Ended {
    let mut last = Progress::default();
    let mut deadline = Instant::now() + limits.stall;
    loop {
        tokio::select! {
            // What the worker said counts before how long ago that was.
            biased;
            message = messages.recv() => match message {
                Some(Ok(Message::Progress(progress))) => {
                    if stdin.is_some() && moved(&last, &progress) {
                        deadline = Instant::now() + limits.stall;
                    }
                    last = progress.clone();
                    on_news(News::Progress(progress));
                }
                Some(Ok(Message::Engine(engine))) => {
                    if stdin.is_some() {
                        deadline = Instant::now() + limits.stall;
                    }
                    on_news(News::Engine(engine));
                }
                Some(Ok(Message::Memory(memory))) => on_news(News::Memory(memory)),
                Some(Ok(last)) => return final_message(last),
                Some(Err(nonsense)) => return Ended::Crashed(nonsense),
                None => return Ended::Crashed(String::new()),
            },
            () = tokio::time::sleep_until(deadline) => match stdin {
                // The worker may have stood still as well, or could not get rid of its messages.
                Some(_) if deadline.elapsed() > LATE => deadline = Instant::now() + limits.stall,
                Some(_) => return Ended::Hung(limits.stall),
                None => return Ended::Stopped,
            },
            () = stopping(stop), if stdin.is_some() => {
                *stdin = None;
                deadline = Instant::now() + limits.stop;
            }
        }
    }
}

/// Who ended a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It ended, or something outside ended it.
    Its,
    /// The daemon did.
    Ours,
}

async fn start(command: &WorkerCommand, request: &Request) -> io::Result<(Child, ChildStdin)> {
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        // Notifications to systemd are the daemon's own, and so is Ctrl-C on its terminal.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
    let line = serde_json::to_string(request)? + "\n";
    // A worker that ended before it read the line is a crash, to be explained by what it said.
    match stdin.write_all(line.as_bytes()).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok((child, stdin)),
    }
}

/// Whether work advanced between two messages: speeds and guesses alone are no advance.
#[must_use]
pub fn moved(last: &Progress, next: &Progress) -> bool {
    let place = |it: &Progress| (it.step, it.frames_in, it.frames_out);
    last.phase != next.phase || place(last) != place(next)
}

fn final_message(message: Message) -> Ended {
    match message {
        Message::Report(report) => Ended::Report(report),
        Message::Probed(extent) => Ended::Probed(extent),
        Message::Opened(description) => Ended::Opened(description),
        Message::Failed(failure) => Ended::Failed(failure),
        Message::Progress(_) | Message::Engine(_) | Message::Memory(_) => {
            Ended::Crashed("progress is no end".into())
        }
    }
}

async fn stopping(stop: &mut watch::Receiver<bool>) {
    // A dropped sender never asks for anything.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn end(child: &mut Child, patience: Duration) -> (Option<ExitStatus>, End) {
    if let Ok(Ok(status)) = tokio::time::timeout(patience, child.wait()).await {
        return (Some(status), End::Its);
    }
    // It is gone already, or this ends it; either way the wait below returns.
    let _ = child.start_kill();
    (child.wait().await.ok(), End::Ours)
}

async fn read_messages(
    stdout: impl AsyncRead + Unpin,
    sender: mpsc::Sender<Result<Message, String>>,
) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LONGEST_LINE_BYTES).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let message = serde_json::from_slice(&line).map_err(|error| {
            let start: String = String::from_utf8_lossy(&line).chars().take(80).collect();
            format!("the worker wrote no message but `{}`: {error}", start.escape_debug())
        });
        if sender.send(message).await.is_err() {
            return;
        }
    }
}

/// The last part of all that the worker wrote to standard error.
pub(super) async fn read_tail(mut stderr: impl AsyncRead + Unpin) -> String {
    let (mut tail, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..count]);
        let surplus = tail.len().saturating_sub(ERROR_TAIL_BYTES);
        tail.drain(..surplus);
    }
    String::from_utf8_lossy(&tail).trim().to_owned()
}

fn explain(why: &str, status: Option<ExitStatus>, said: &str) -> String {
    let ended = match status {
        Some(status) => format!("the worker ended early ({status})"),
        None => "the worker ended early".into(),
    };
    [ended.as_str(), why, said]
        .into_iter()
        .filter(|it| !it.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Consequence, ExitCode};

    const LIMITS: Limits = Limits { stall: Duration::from_secs(20), stop: Duration::from_secs(20) };

    fn shell(script: &str) -> WorkerCommand {
        WorkerCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn request() -> Request {
        Request::Probe(crate::daemon::protocol::WirePath::Text("/in/a.mp4".into()))
    }

    /// Runs `script` as a worker; returns how it ended and the output frames of its progress messages.
    fn run_script(script: &str, limits: Limits) -> (Ended, Vec<u64>) {
        let mut seen = Vec::new();
        let (_stop, stopped) = watch::channel(false);
        let ended = block_on(run(&shell(script), &request(), limits, stopped, &mut |news| {
            if let News::Progress(progress) = news {
                seen.push(progress.frames_out);
            }
        }));
        (ended, seen)
    }

    fn line(message: &Message) -> String {
        format!("echo '{}'; ", serde_json::to_string(message).unwrap())
    }

    fn progress(frames_out: u64) -> String {
        line(&Message::Progress(Progress { frames_out, ..Progress::default() }))
    }

    #[test]
    fn a_worker_gets_its_request_and_its_answers_arrive_in_order() {
        let script = format!(
            "read line; test \"$line\" = '{{\"probe\":\"/in/a.mp4\"}}' || exit 9; {}{}{}",
            progress(1),
            progress(2),
            line(&Message::Probed(Extent::Said))
        );
        let (ended, seen) = run_script(&script, LIMITS);
        assert!(matches!(ended, Ended::Probed(_)), "{ended:?}");
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn a_failure_keeps_its_class_whatever_the_exit_status() {
        for consequence in [Consequence::Retry, Consequence::Reject, Consequence::Stop] {
            let failure = Failure {
                consequence,
                exit_code: ExitCode::DataError,
                code: "not_video".into(),
                message: "no video".into(),
                report: None,
            };
            let script = line(&Message::Failed(Box::new(failure.clone()))) + "exit 65";
            match run_script(&script, LIMITS).0 {
                Ended::Failed(found) => assert_eq!(*found, failure),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_crash_is_told_with_signal_and_last_words() {
        let script = format!("{}echo 'it hurts' >&2; kill -SEGV $$", progress(1));
        match run_script(&script, LIMITS).0 {
            Ended::Crashed(why) => {
                assert!(why.contains("signal: 11") && why.contains("it hurts"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_worker_that_was_killed_from_outside_is_no_crash() {
        match run_script("kill -KILL $$", LIMITS).0 {
            Ended::Killed(why) => assert!(why.contains("signal: 9"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_end_without_an_answer_is_a_crash() {
        assert!(matches!(run_script("exit 0", LIMITS).0, Ended::Crashed(_)));
        assert!(matches!(run_script(&progress(3), LIMITS).0, Ended::Crashed(_)));
    }

    #[test]
    fn nonsense_is_a_crash_that_shows_it() {
        match run_script("echo 'Segmentation violet'; exec sleep 60", LIMITS).0 {
            Ended::Crashed(why) => assert!(why.contains("Segmentation violet"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_worker_that_repeats_itself_hangs() {
        let stall = Duration::from_millis(400);
        let script = format!("while :; do {}sleep 0.05; done", progress(5));
        let begin = std::time::Instant::now();
        let (ended, seen) = run_script(&script, Limits { stall, ..LIMITS });
        assert!(matches!(ended, Ended::Hung(_)), "{ended:?}");
        assert!(!seen.is_empty() && begin.elapsed() < LIMITS.stall);
    }

    #[test]
    fn a_long_phase_without_frames_is_no_hang_while_it_advances() {
        let stall = Duration::from_millis(1500);
        let step = |step| line(&Message::Progress(Progress { step, ..Progress::default() }));
        let steps: String = (1..6).map(|number| step(number) + "sleep 0.5; ").collect();
        let script = steps + &line(&Message::Probed(Extent::Said));
        assert!(matches!(run_script(&script, Limits { stall, ..LIMITS }).0, Ended::Probed(_)));
    }

    #[test]
    fn slow_progress_is_no_hang() {
        let stall = Duration::from_millis(1500);
        let steps: String = (1..6).map(|step| progress(step) + "sleep 0.5; ").collect();
        let script = steps + &line(&Message::Probed(Extent::Said));
        assert!(matches!(run_script(&script, Limits { stall, ..LIMITS }).0, Ended::Probed(_)));
    }

    #[test]
    fn a_worker_is_asked_to_stop_by_the_end_of_its_input() {
        let script = format!("read line; {}cat >/dev/null; exit 3", progress(1));
        assert!(matches!(stop_after_first_progress(&script, LIMITS), Ended::Stopped));
    }

    #[test]
    fn a_worker_that_will_not_stop_is_killed() {
        let script = format!("trap '' TERM INT HUP; {}while :; do sleep 1; done", progress(1));
        let limits = Limits { stop: Duration::from_millis(300), ..LIMITS };
        assert!(matches!(stop_after_first_progress(&script, limits), Ended::Stopped));
    }

    #[test]
    fn an_interruption_is_a_stop_only_where_one_was_asked_for() {
        let failure = Failure {
            consequence: Consequence::Retry,
            exit_code: ExitCode::TempFail,
            code: INTERRUPTED.into(),
            message: "interrupted".into(),
            report: None,
        };
        let said = line(&Message::Failed(Box::new(failure)));
        let script = format!("read line; {}cat >/dev/null; {said}", progress(1));
        assert!(matches!(stop_after_first_progress(&script, LIMITS), Ended::Stopped));
        assert!(matches!(run_script(&said, LIMITS).0, Ended::Failed(_)));
    }

    #[test]
    fn a_result_that_comes_while_stopping_counts() {
        let script = format!(
            "read line; {}cat >/dev/null; {}",
            progress(1),
            line(&Message::Probed(Extent::Said))
        );
        assert!(matches!(stop_after_first_progress(&script, LIMITS), Ended::Probed(_)));
    }

    fn stop_after_first_progress(script: &str, limits: Limits) -> Ended {
        let (stop, stopped) = watch::channel(false);
        block_on(run(&shell(script), &request(), limits, stopped, &mut |_| {
            stop.send_replace(true);
        }))
    }

    #[test]
    fn a_program_that_is_not_there_is_said_so() {
        let command = WorkerCommand { program: "/nonexistent".into(), arguments: Vec::new() };
        let (_stop, stopped) = watch::channel(false);
        let ended = block_on(run(&command, &request(), LIMITS, stopped, &mut |_| {}));
        assert!(matches!(ended, Ended::NotStarted(_)), "{ended:?}");
    }
}
