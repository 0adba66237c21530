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
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Where the service manager listens.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Changes of state that wait: a start, a few reloads, an end. Of more the newest count.
const MOST_WAITING: usize = 16;

/// The start goes on with `what`.
pub fn starting(what: &str) {
    now_or_never(&[NotifyState::Status(&format!("starting: {what}"))]);
}

/// A start or a reload takes this much longer than the service manager waits for. Said again before that is over, so that
/// one may be lost.
pub fn extend_timeout(by: Duration) {
    let usec = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    now_or_never(&[NotifyState::ExtendTimeoutUsec(usec)]);
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
            Err(error) => log::warn!("the service manager is not told of the reload: {error}"),
        }
    }

    /// One line for `systemctl status`; sent where it differs from the last that was taken.
    pub fn status(&mut self, line: &str) {
        if self.status != line && self.catch_up() && now_or_never(&[NotifyState::Status(line)]) {
            line.clone_into(&mut self.status);
        }
    }

    /// Work advances, or there is none. Not called while it hangs: then the service manager restarts the daemon.
    pub fn alive(&mut self, now: Instant) {
        if let Some(every) = self.ping_every
            && now >= self.next_ping
            && self.catch_up()
            && now_or_never(&[NotifyState::Watchdog])
        {
            self.next_ping = now + every;
        }
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
            self.waiting.pop_front();
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

/// Whether there is no more to be done about a message: it was sent, or can never be.
fn taken(result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => {
            log::debug!("the service manager cannot be notified: {error}");
            true
        }
    }
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
