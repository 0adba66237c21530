//! Programs and addresses that hear of ended jobs. They run one after another beside the work, each for a limited time;
//! what goes wrong with one is logged and has no other consequence.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::file::{Hook, HookState, HookTarget};
use crate::daemon::after::EndedJob;
use crate::daemon::events::Kind;
use crate::daemon::service;
use crate::daemon::webhook;
use crate::daemon::worker::read_tail;

/// Calls that wait.
const MOST_WAITING: usize = 256;
/// How long is waited for the last words of a program that has ended: something it started may keep its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Calls the hooks.
#[derive(Debug)]
pub(super) struct Hooks {
    calls: Option<mpsc::Sender<(Hook, Arc<EndedJob>)>>,
    task: Option<JoinHandle<()>>,
}

impl Hooks {
    /// None called yet.
    pub(super) fn start() -> Self {
        let (calls, mut waiting) = mpsc::channel::<(Hook, Arc<EndedJob>)>(MOST_WAITING);
        let task = tokio::spawn(async move {
            while let Some((hook, job)) = waiting.recv().await {
                let name = name(&hook.target);
                match call(&hook, &job).await {
                    Ok(()) => log::debug!("hook {name}: called for job {}", job.row.job),
                    Err(why) => failed(&name, job.row.job, &why),
                }
            }
        });
        Self { calls: Some(calls), task: Some(task) }
    }

    /// Calls those of `hooks` that want to hear of this end.
    pub(super) fn hear(&self, hooks: &[Hook], ended: Box<EndedJob>) {
        let Some(state) = HookState::of(&ended.row.state) else { return };
        let ended = Arc::from(ended);
        for hook in hooks.iter().filter(|it| it.on.contains(&state)) {
            let call = (hook.clone(), Arc::clone(&ended));
            let sent = self.calls.as_ref().is_some_and(|calls| calls.try_send(call).is_ok());
            if !sent {
                let why = format!("not called: {MOST_WAITING} calls wait already");
                failed(&name(&hook.target), ended.row.job, &why);
            }
        }
    }

    /// Waits for the calls that were asked for.
    pub(super) async fn finish(&mut self) {
        self.calls = None;
        if let Some(task) = self.task.take() {
            // It ends with the last call.
            let _ = task.await;
        }
    }
}

fn failed(name: &str, job: i64, why: &str) {
    log::warn!(MESSAGE_ID = Kind::HookFailed.id(), SLOMOD_JOB = job; "hook {name}: job {job}: {}", service::plain(why));
}

fn name(target: &HookTarget) -> String {
    service::plain(match target {
        HookTarget::Command(words) => words.first().map_or("", String::as_str),
        HookTarget::Url(url) => url,
    })
}

async fn call(hook: &Hook, job: &EndedJob) -> Result<(), String> {
    match &hook.target {
        HookTarget::Command(words) => run(words, hook.timeout, job).await,
        HookTarget::Url(url) => webhook::post(url.clone(), hook.timeout, job).await,
    }
}

/// Runs the program with the report on its standard input. What it started in its group ends with it where it takes too
/// long.
async fn run(words: &[String], limit: Duration, job: &EndedJob) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("SLOMOD_JOB", job.row.job.to_string())
        .env("SLOMOD_STATE", &job.row.state)
        .env("SLOMOD_WATCH", &job.row.watch)
        .env("SLOMOD_SOURCE", &job.row.source)
        .env("SLOMOD_REPORT", job.row.report_path.as_deref().unwrap_or("".as_ref()))
        // Notifications to systemd are the daemon's own.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let ended = timeout(limit, feed(&mut child, &job.text)).await;
    let (status, said) = match ended {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended in this moment.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait().await;
            return Err(format!("ended after {} s, its timeout", limit.as_secs_f64()));
        }
    };
    if status.success() { Ok(()) } else { Err(format!("{status}: {said}")) }
}

/// Gives `text` to the program and waits for its end; returns what it said to standard error.
async fn feed(child: &mut Child, text: &[u8]) -> std::io::Result<(ExitStatus, String)> {
    let stdin = child.stdin.take();
    let write = async move {
        if let Some(mut stdin) = stdin {
            // A program that does not want to know closes it.
            let _ = stdin.write_all(text).await;
        }
    };
    let said = child.stderr.take().map(|stderr| tokio::spawn(read_tail(stderr)));
    let ((), status) = tokio::join!(write, child.wait());
    let said = match said {
        Some(task) => timeout(LAST_WORDS, task).await.ok().and_then(Result::ok),
        None => None,
    };
    Ok((status?, said.unwrap_or_default()))
}
