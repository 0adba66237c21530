//! What the daemon tells the service manager: READY, STATUS, WATCHDOG, RELOADING, STOPPING.
//!
//! A service manager that does not read for a while (a busy machine, a frozen PID 1) must not stop the daemon: nothing here
//! waits. What its socket does not take at once is sent at one of the next turns of the loop.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::daemon::events::Kind;
use crate::daemon::pulse::Pulse;

/// Where the service manager listens.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Changes of state that wait: a start, a few reloads, an end. Of more the oldest reloads are left out.
const MOST_WAITING: usize = 16;
/// How often the service manager is asked for patience: before it would be over, so that one may be lost.
pub const ASK_EVERY: Duration = Duration::from_secs(5);
/// How much longer it is asked to wait each time.
const EXTENSION: Duration = Duration::from_secs(30);
/// Bytes of a status. systemd ignores datagrams of 4096 bytes and more, and does not say so.
const MOST_STATUS_BYTES: usize = 3000;
/// The end of a status that was cut.
const CUT: &str = " ...";

/// A status as systemd takes it. For longer ones, and for those with characters that Unicode calls none (which are valid
/// UTF-8 and may be in any file name), it would show nothing.
fn shown(line: &str) -> String {
    let is_none =
        |it: char| matches!(it, '\u{fdd0}'..='\u{fdef}') || u32::from(it) & 0xfffe == 0xfffe;
    let mut text = line.replace(is_none, "\u{fffd}");
    if text.len() > MOST_STATUS_BYTES {
        let mut end = MOST_STATUS_BYTES - CUT.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

/// Whether a service manager started this process and hears of it.
#[must_use]
pub fn is_heard() -> bool {
    std::env::var_os(SOCKET_VARIABLE).is_some()
}

/// The start goes on with `what`.
pub fn starting(what: &str) {
    now_or_never(&[NotifyState::Status(&format!("starting: {what}"))]);
}

/// A start or a reload takes longer than the service manager waits for. To be said again [`ASK_EVERY`] so often.
pub fn ask_for_patience() {
    let usec = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
    now_or_never(&[NotifyState::ExtendTimeoutUsec(usec)]);
}

/// Runs `work`, which is a part of the start and takes as long as a disk takes, and asks for patience until it is over.
pub fn patiently<T>(work: impl FnOnce() -> T) -> T {
    let (over, is_over) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            ask_for_patience();
            while is_over.recv_timeout(ASK_EVERY) == Err(RecvTimeoutError::Timeout) {
                ask_for_patience();
            }
        });
        let done = work();
        drop(over);
        done
    })
}

/// Talks to the service manager; says nothing where there is none.
#[derive(Debug)]
pub struct Notifier {
    /// Changes of state that could not be told yet, in their order.
    waiting: VecDeque<String>,
    /// The last status that was told.
    status: String,
    ping_every: Option<Duration>,
    next_ping: Instant,
}

impl Notifier {
    /// Learns from the environment whom to talk to.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        // Three pings a period, so that one may come late.
        let ping_every = sd_notify::watchdog_enabled().map(|period| period / 3);
        Self { waiting: VecDeque::new(), status: String::new(), ping_every, next_ping: now }
    }

    /// Configuration, journal and device are there.
    pub fn ready(&mut self) {
        self.change(&[NotifyState::Ready]);
    }

    /// The configuration is read again; [`Self::ready`] ends that, whatever came of it. In one message, as the service
    /// manager wants to know since when.
    pub fn reloading(&mut self) {
        let status = NotifyState::Status("reading the configuration again");
        self.status.clear();
        match NotifyState::monotonic_usec_now() {
            Ok(since) => self.change(&[NotifyState::Reloading, since, status]),
            Err(error) => {
                log::warn!(MESSAGE_ID = Kind::DaemonNote.id(); "the service manager is not told of the reload: {error}");
            }
        }
    }

    /// One line for `systemctl status`; sent where it differs from the last that was taken.
    pub fn status(&mut self, line: &str) {
        let text = shown(line);
        if self.status != text && self.catch_up() && now_or_never(&[NotifyState::Status(&text)]) {
            self.status = text;
        }
    }

    /// Feeds the watchdog, unless the running job hangs: then the service manager restarts the daemon.
    pub fn alive(&mut self, running: Option<&Pulse>, now: Instant) {
        if let Some(every) = self.ping_due(running, now)
            && self.catch_up()
            && now_or_never(&[NotifyState::Watchdog])
        {
            self.next_ping = now + every;
        }
    }

    /// The time to the ping after the one that is due now: without a job, or while the running one's work advances.
    fn ping_due(&self, running: Option<&Pulse>, now: Instant) -> Option<Duration> {
        let advances = running.is_none_or(|pulse| pulse.beats(now));
        self.ping_every.filter(|_| advances && now >= self.next_ping)
    }

    /// The end begins.
    pub fn stopping(&mut self) {
        self.change(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Sends what waits. Whether nothing is left.
    pub fn catch_up(&mut self) -> bool {
        while let Some(message) = self.waiting.front() {
            if !taken(send(message)) {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    fn change(&mut self, states: &[NotifyState<'_>]) {
        if self.waiting.len() == MOST_WAITING {
            leave_out_a_reload(&mut self.waiting);
        }
        self.waiting.push_back(text(states));
        self.catch_up();
    }
}

fn text(states: &[NotifyState<'_>]) -> String {
    let mut text = String::new();
    for state in states {
        // Writing to a string never fails.
        let _ = writeln!(text, "{state}");
    }
    text
}

fn now_or_never(states: &[NotifyState<'_>]) -> bool {
    taken(send(&text(states)))
}

/// Takes the oldest reload out, with its end where another READY is before it: what the service manager must hear is that
/// the daemon is ready and that it stops.
fn leave_out_a_reload(waiting: &mut VecDeque<String>) {
    let begins = |it: Option<&String>, state: &NotifyState<'_>| {
        it.is_some_and(|it| it.starts_with(&state.to_string()))
    };
    let oldest = waiting.iter().position(|it| begins(Some(it), &NotifyState::Reloading));
    let Some(at) = oldest else { return };
    waiting.remove(at);
    let before = at.checked_sub(1).and_then(|before| waiting.get(before));
    if begins(before, &NotifyState::Ready) && begins(waiting.get(at), &NotifyState::Ready) {
        waiting.remove(at);
    }
}

/// Whether there is no more to be done about a message: it was sent, or can never be, as there is no such address or it is
/// too long. After other errors (nobody reads, no memory, the service manager begins anew) it is tried again.
fn taken(result: io::Result<()>) -> bool {
    let Err(error) = result else { return true };
    if error.kind() == io::ErrorKind::WouldBlock {
        return false;
    }
    log::debug!("the service manager cannot be notified: {error}");
    error.kind() == io::ErrorKind::InvalidInput
        || error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// One datagram. [`io::ErrorKind::WouldBlock`] where the service manager has not read earlier ones.
fn send(message: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(()) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::worker::Limits;

    #[test]
    fn a_status_is_cut_and_cleaned_to_what_systemd_takes() {
        let plain = "1 watch | run 1: 영상\u{1f3ac}.mp4 | cpu";
        assert_eq!(shown(plain), plain);
        let odd = "a\u{fffe}b\u{ffff}c\u{fdd0}d\u{fdef}e\u{1ffff}f\u{10fffe}g\u{fdcf}\u{fdf0}";
        let replaced = "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f\u{fffd}g\u{fdcf}\u{fdf0}";
        assert_eq!(shown(odd), replaced);
        // Fifty folders that are not there; at one of three lengths the cut would fall into a character of three bytes.
        for lead in ["", "a", "ab"] {
            let long = lead.to_owned() + &"/mnt/나스/가족 is offline; ".repeat(150);
            let text = shown(&long);
            let kept = text.strip_suffix(CUT).unwrap();
            assert!(long.starts_with(kept) && text.len() <= MOST_STATUS_BYTES, "{}", text.len());
            assert!(text.len() > MOST_STATUS_BYTES - 4, "{}", text.len());
        }
        let exact = "x".repeat(MOST_STATUS_BYTES);
        assert_eq!(shown(&exact), exact);
    }

    /// S04.
    #[test]
    fn the_watchdog_is_not_fed_while_work_stands_still() {
        let begin = Instant::now();
        let limits = Limits { stall: Duration::from_secs(600), stop: Duration::from_secs(90) };
        let pulse = Pulse::begin(limits, begin);
        let every = Some(Duration::from_secs(20));
        let notifier = Notifier { ping_every: every, ..Notifier::new(begin) };
        let fed = |running, seconds| {
            notifier.ping_due(running, begin + Duration::from_secs(seconds)) == every
        };
        assert!(fed(None, 100_000), "idle");
        assert!(fed(Some(&pulse), 700), "its worker is being ended");
        assert!(!fed(Some(&pulse), 800), "it could not even be ended");
    }

    #[test]
    fn what_may_be_taken_later_is_sent_again() {
        let failed = |error: rustix::io::Errno| taken(Err(error.into()));
        use rustix::io::Errno;
        for error in [Errno::AGAIN, Errno::NOBUFS, Errno::CONNREFUSED, Errno::NOENT, Errno::NOMEM] {
            assert!(!failed(error), "{error}");
        }
        assert!(failed(Errno::MSGSIZE) && failed(Errno::INVAL) && taken(Ok(())));
    }

    #[test]
    fn of_many_changes_that_wait_the_start_and_the_end_are_kept() {
        let (ready, stopping) = ("READY=1\n", "STOPPING=1\nSTATUS=stopping\n");
        let reloading = |number: u32| format!("RELOADING=1\nMONOTONIC_USEC={number}\n");
        let mut waiting = VecDeque::from([ready.to_owned()]);
        let mut push = |message: String| {
            if waiting.len() == MOST_WAITING {
                leave_out_a_reload(&mut waiting);
            }
            waiting.push_back(message);
            assert!(waiting.len() <= MOST_WAITING);
        };
        for number in 0..40 {
            push(reloading(number));
            push(ready.into());
        }
        push(stopping.into());
        let count = |state: &str| waiting.iter().filter(|it| it.starts_with(state)).count();
        assert_eq!(waiting.front().unwrap(), ready);
        assert_eq!(waiting.back().unwrap(), stopping);
        assert_eq!(count("READY"), count("RELOADING") + 1, "{waiting:?}");
        assert!(waiting.contains(&reloading(39)), "the newest");
    }
}
