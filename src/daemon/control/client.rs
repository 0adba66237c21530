//! The command line's side: one question, one answer.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::control::{Answer, Ask, Question};
use crate::daemon::protocol::WirePath;

/// Longest answer that is read: ten thousand jobs of two kinds.
const LONGEST_ANSWER_BYTES: u64 = 256 << 20;
/// How long the daemon may take to take a question in.
const ASKING_TIME: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens at any of the places.
    #[error("no daemon listens at {}", list(.0))]
    NoDaemon(Vec<PathBuf>),
    /// A daemon may be there, but cannot be talked to.
    #[error("{}: {reason}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What was met, and what to do.
        reason: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|it| it.display().to_string()).collect();
    names.join(" or ")
}

/// Asks the daemon with the state folder `state_dir`, which listens at one of `sockets`. Waits `patience` for the answer.
///
/// # Errors
/// [`ClientError`].
pub fn ask(
    sockets: &[PathBuf],
    state_dir: &Path,
    ask: &Ask,
    patience: Duration,
) -> Result<Answer, ClientError> {
    let state_dir = real(state_dir);
    let question = Question { state_dir: Some(WirePath::from(&*state_dir)), ask: ask.clone() };
    let mut last = None;
    for path in sockets {
        let unreachable = |reason: String| ClientError::Unreachable { path: path.clone(), reason };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                // A dead daemon's socket refuses.
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotADirectory => continue,
                io::ErrorKind::PermissionDenied => {
                    let advice = "only its owner and members of its group may use it (slomod)";
                    last = last.or(Some(unreachable(format!("{error}: {advice}"))));
                    continue;
                }
                _ => return Err(unreachable(error.to_string())),
            },
        };
        match exchange(stream, &question, patience) {
            Ok(Answer::NotMeant) => continue,
            Ok(answer) => return Ok(answer),
            Err(error) => return Err(unreachable(explain(&error))),
        }
    }
    Err(last.unwrap_or_else(|| ClientError::NoDaemon(sockets.to_owned())))
}

/// The folder without links, as far as it can be looked at.
#[must_use]
pub fn real(folder: &Path) -> PathBuf {
    let absolute = || std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    std::fs::canonicalize(folder).unwrap_or_else(|_| absolute())
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "the daemon does not answer: it is stopped or hangs".into()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the daemon hung up: too many clients ask at once, or it ends; try again".into()
        }
        _ => error.to_string(),
    }
}

fn exchange(stream: UnixStream, question: &Question, patience: Duration) -> io::Result<Answer> {
    stream.set_write_timeout(Some(ASKING_TIME))?;
    stream.set_read_timeout(Some(patience))?;
    let line = serde_json::to_string(question)? + "\n";
    match (&stream).write_all(line.as_bytes()) {
        // The daemon hung up; the reading below says so.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    let mut reply = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER_BYTES)).read_line(&mut reply)?;
    if reply.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&reply)?)
}
