//! What a person asks of the daemon over the control socket: the part of the loop that answers.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::config::file::Daemon as Rules;
use crate::daemon::DaemonError;
use crate::daemon::control::client;
use crate::daemon::control::server::{self, Asked, Listening};
use crate::daemon::control::{self, Answer, Ask, Ended, MOST_LISTED};
use crate::daemon::events::Kind;
use crate::daemon::job::now_ms;
use crate::daemon::journal::JournalError;
use crate::daemon::pause;
use crate::daemon::run::{Daemon, Running};
use crate::daemon::service;
use crate::error::{Classify, ExitCode};

/// Where the daemon is listened to, as far as that works.
#[derive(Debug)]
pub(super) struct Control {
    asked: mpsc::Sender<Asked>,
    socket: Option<Listening>,
    metrics: Option<Listening>,
    problems: Vec<String>,
}

impl Control {
    /// Not yet anywhere; questions go to `asked`.
    pub(super) fn new(asked: mpsc::Sender<Asked>) -> Self {
        Self { asked, socket: None, metrics: None, problems: Vec::new() }
    }

    /// Listens where it should and does not yet, or where the socket went.
    pub(super) fn look(&mut self, rules: &Rules) {
        let mut problems = Vec::new();
        if self.socket.as_ref().is_none_or(|it| !it.is_there()) {
            self.socket = None;
            let found = server::listen(&control::socket_of(rules), self.asked.clone());
            self.socket = found.map_err(|why| problems.push(why)).ok();
        }
        if let Some(address) = rules.metrics.filter(|_| self.metrics.is_none()) {
            let found = server::listen_for_metrics(address, self.asked.clone());
            self.metrics = found.map_err(|why| problems.push(why)).ok();
        }
        for why in problems.iter().filter(|why| !self.problems.contains(why)) {
            log::warn!(MESSAGE_ID = Kind::ControlTrouble.id(); "{}", service::plain(why));
        }
        self.problems = problems;
    }

    /// Where nobody can ask, and why.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.iter().map(String::as_str)
    }

    /// Listens no more.
    pub(super) fn close(&mut self) {
        (self.socket, self.metrics) = (None, None);
    }
}

impl Daemon {
    /// Answers, at once or when what was asked for has come about.
    pub(super) fn asked(&mut self, asked: Asked) -> Result<(), DaemonError> {
        let Asked { question, answer } = asked;
        let own = &self.config.daemon.state_dir;
        let is_meant = question.state_dir.map(PathBuf::from);
        let is_meant = is_meant.is_none_or(|it| it == *own || it == client::real(own));
        let now = match question.ask {
            _ if !is_meant => Ok(Answer::NotMeant),
            Ask::Cancel(job) => return self.cancel_asked(job, answer),
            Ask::Reload => {
                self.reload_asked(Some(answer));
                return Ok(());
            }
            Ask::Status { queued, ended } => {
                let live = self.live(queued.min(MOST_LISTED), ended.min(MOST_LISTED));
                live.map(|it| Answer::Status(Box::new(it))).map_err(DaemonError::from)
            }
            Ask::Job(job) => {
                let history = self.shop.journal().history_of(job);
                history.map(|it| Answer::Job(Box::new(it))).map_err(DaemonError::from)
            }
            Ask::Metrics => self.metrics().map(Answer::Metrics).map_err(DaemonError::from),
            Ask::Pause => self.pause_asked(),
            Ask::Resume => self.resume_asked(),
            Ask::Retry(job) => self.retry_asked(job),
            Ask::RetryAll(ended) => self.retry_all_asked(ended),
            Ask::Rescan => {
                self.folders.look_all_soon(Instant::now());
                let count = self.folders.watched().count();
                Ok(Answer::Done(format!("folders that are read now: {count}")))
            }
        };
        // A client that went away is answered by nobody.
        let _ = answer.send(now.unwrap_or_else(|error| of_error(&error)));
        Ok(())
    }

    fn pause_asked(&mut self) -> Result<Answer, DaemonError> {
        if self.paused.is_none() {
            self.paused = Some(pause::set(&self.config.daemon.state_dir)?);
            log::info!(MESSAGE_ID = Kind::Paused.id(); "paused: no clip is begun");
        }
        let goes_on = self.running.as_ref().map(|it| format!("; job {} goes on", it.job));
        let goes_on = goes_on.unwrap_or_default();
        Ok(Answer::Done(format!("no clip is begun until `slomod resume`{goes_on}")))
    }

    fn resume_asked(&mut self) -> Result<Answer, DaemonError> {
        pause::clear(&self.config.daemon.state_dir)?;
        if self.paused.take().is_some() {
            log::info!(MESSAGE_ID = Kind::Paused.id(); "resumed: clips are begun again");
        }
        self.may_start = true;
        Ok(Answer::Done("clips are begun again".into()))
    }

    fn retry_asked(&mut self, job: i64) -> Result<Answer, DaemonError> {
        let advice = self.shop.journal().retry(job, now_ms())?;
        self.queued_again()?;
        Ok(Answer::Done(format!("job {job} is queued{advice}{}", self.waits_for(job)?)))
    }

    fn retry_all_asked(&mut self, ended: Ended) -> Result<Answer, DaemonError> {
        let count = self.shop.journal().retry_all(ended.word(), now_ms())?;
        self.queued_again()?;
        Ok(Answer::Done(format!("{} jobs that are queued again: {count}", ended.word())))
    }

    fn queued_again(&mut self) -> Result<(), DaemonError> {
        // They may have ended before the last reload.
        self.renew_all_settings()?;
        self.may_start = true;
        Ok(self.find_orphans()?)
    }

    /// What a job waits for though it is queued.
    fn waits_for(&self, job: i64) -> Result<String, DaemonError> {
        let source = self.shop.journal().job(job)?.map(|it| it.source).unwrap_or_default();
        let is_in = |(watch, _): &&(String, u64)| Path::new(&source).starts_with(watch);
        Ok(match (self.orphans.iter().find(is_in), &self.paused) {
            (Some((watch, _)), _) => {
                format!("; it waits until {watch} is configured again")
            }
            (None, Some(_)) => "; it waits until `slomod resume`".into(),
            (None, None) => String::new(),
        })
    }

    /// A waiting job is cancelled at once, the running one when its worker has stopped. Nobody is kept waiting for one that
    /// is set aside.
    fn cancel_asked(
        &mut self,
        job: i64,
        answer: oneshot::Sender<Answer>,
    ) -> Result<(), DaemonError> {
        if let Some(running) = self.at_work(job) {
            log::info!(MESSAGE_ID = Kind::JobNote.id(), SLOMOD_JOB = job; "job {job}: cancelling: by request");
            running.stop.send_replace(true);
            running.cancel = true;
            running.cancelled_for.push(answer);
            self.cancel_waits();
            return Ok(());
        }
        let now = self.cancel(job).unwrap_or_else(|error| of_error(&error));
        let _ = answer.send(now);
        Ok(())
    }

    fn cancel(&mut self, job: i64) -> Result<Answer, JournalError> {
        let interrupted = self.interrupted_output(job)?;
        if interrupted.as_ref().is_some_and(|it| it.1) {
            let message = format!("job {job} is being published in this moment: ask again");
            return Ok(Answer::refused(ExitCode::TempFail, message));
        }
        match &interrupted {
            Some(_) => self.shop.journal().cancel_publication(job, now_ms())?,
            None => self.shop.journal().cancel(job, now_ms())?,
        }
        // Its segments may go, and what it had made.
        self.next_housekeeping = Instant::now();
        self.find_orphans()?;
        log::info!(MESSAGE_ID = Kind::JobCancelled.id(), SLOMOD_JOB = job, SLOMOD_STATE = "cancelled"; "job {job}: cancelled: by request");
        let output = interrupted.map(|(output, _)| {
            format!(
                ", and so does its output where that has its name already: {}",
                output.display()
            )
        });
        let output = output.unwrap_or_default();
        Ok(Answer::Done(format!("job {job} is cancelled; its file stays where it is{output}")))
    }

    /// The running job is over, and somebody may have wanted it to be.
    pub(super) fn cancel_ended(&mut self, running: &mut Running) {
        if !running.cancel {
            return;
        }
        // It may have come to its end before it could be stopped.
        let now = self.cancel(running.job).unwrap_or_else(|error| of_error(&error));
        running.answer(&now);
    }

    /// Answers those who wait for jobs that wait for their folders.
    pub(super) fn cancel_waits(&mut self) {
        for running in &mut self.set_aside {
            let job = running.job;
            let message = format!(
                "job {job} is cancelled as soon as its folder answers, and waits for that; should the daemon be stopped \
                 before, ask again"
            );
            running.answer(&Answer::refused(ExitCode::TempFail, message));
        }
    }
}

impl Running {
    /// Tells those who want it cancelled.
    fn answer(&mut self, answer: &Answer) {
        for asker in self.cancelled_for.drain(..) {
            let _ = asker.send(answer.clone());
        }
    }
}

fn of_error(error: &dyn Classify) -> Answer {
    Answer::refused(error.exit_code(), error.to_string())
}

/// What a failed reload answers.
pub(super) fn not_reloaded(why: &str) -> Answer {
    Answer::refused(ExitCode::Config, format!("nothing was changed: {why}"))
}
