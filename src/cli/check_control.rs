//! The part of `slomod check` about where the daemon is listened to.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::cli::check::Findings;
use crate::config::file::Daemon;
use crate::config::service::CONTROL_MAX_BYTES;
use crate::daemon::control::SOCKET_NAME;

/// How long whoever listens at the address of the metrics may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Bytes of the answer in which slomod's figures show.
const FIRST_BYTES: u64 = 4 << 10;

/// Whether the control socket and the metrics can be where the configuration says.
pub(super) fn check(daemon: &Daemon, findings: &mut Findings) {
    // The configuration's own was measured when it was read.
    let usual = daemon.state_dir.join(SOCKET_NAME);
    let bytes = usual.as_os_str().len();
    if daemon.control.is_none() && bytes > CONTROL_MAX_BYTES {
        findings.warn(
            "control",
            format!(
                "{}: has {bytes} bytes, and a socket's path at most {CONTROL_MAX_BYTES}: outside of the shipped unit nobody \
                 can ask the daemon; set `control` to a shorter path",
                usual.display()
            ),
        );
    }
    let Some(address) = daemon.metrics else { return };
    match TcpListener::bind(address) {
        Ok(_) => findings.ok("metrics", format!("{address}: free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_slomod(address) => {
            findings.ok("metrics", format!("{address}: a slomod daemon answers there"));
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => findings.warn(
            "metrics",
            format!(
                "{address}: another program listens there: the daemon would say so and go on without; set another port"
            ),
        ),
        Err(error) => findings.warn(
            "metrics",
            format!("{address}: cannot be listened to: {error}; set another `metrics`"),
        ),
    }
}

/// Whether what listens at `address` gives slomod's figures.
fn is_slomod(address: SocketAddr) -> bool {
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut bytes = Vec::new();
        match stream.take(FIRST_BYTES).read_to_end(&mut bytes) {
            Err(error) if bytes.is_empty() => Err(error),
            // What came tells.
            _ => Ok(bytes),
        }
    };
    ask().is_ok_and(|it| String::from_utf8_lossy(&it).contains("slomod_"))
}
