//! The daemon's side: connections are read and answered beside the loop, each within limits of size, time and number.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Group;
use rustix::fs::{FlockOperation, OFlags};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::daemon::control::{Answer, Ask, Question};
use crate::error::ExitCode;

/// Rights of the socket: its owner and its group.
const RIGHTS: u32 = 0o660;
/// The group that may use it, where there is such a group.
const GROUP: &str = "slomod";
/// Connections at a time; what comes beyond is told to come again.
const MOST_CONNECTIONS: usize = 16;
/// Questions that wait for the loop.
const MOST_ASKED: usize = 16;
/// Longest question, with all headers of an HTTP request.
const LONGEST_QUESTION_BYTES: u64 = 16 << 10;
/// How long a client may take to ask.
const ASKING_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to take the answer in.
const ANSWERING_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take: a clip that is cancelled stops first, and a reload opens weights.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// Pause after a connection could not be accepted (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Media type of the metrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A question for the loop. Dropping `answer` says that the daemon ends.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Where questions come in.
#[derive(Debug)]
pub struct Inbox {
    sender: mpsc::Sender<Asked>,
    receiver: mpsc::Receiver<Asked>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MOST_ASKED);
        Self { sender, receiver }
    }
}

impl Inbox {
    /// The next question.
    pub async fn next(&mut self) -> Option<Asked> {
        self.receiver.recv().await
    }

    /// What listeners need.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<Asked> {
        self.sender.clone()
    }
}

/// A socket that is listened to until this is dropped.
#[derive(Debug)]
pub struct Listening {
    task: JoinHandle<()>,
    /// Path, device and inode of the socket, and the lock beside it.
    file: Option<(PathBuf, (u64, u64), File)>,
}

impl Listening {
    /// Whether a client that looks for the socket finds this one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.file.as_ref().is_none_or(|(path, id, _)| identity(path).is_some_and(|it| it == *id))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        if let Some((path, ..)) = self.file.as_ref().filter(|_| self.is_there()) {
            // Where it stays, the next daemon replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Listens at `path`. A socket that a dead daemon left there is replaced; that of a living one is not, which a lock beside
/// it tells apart.
///
/// # Errors
/// A sentence.
pub fn listen(path: &Path, asked: mpsc::Sender<Asked>) -> Result<Listening, String> {
    let failed = |error: io::Error| {
        format!("{}: cannot be listened to: {error}; set another `control`", path.display())
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(failed)?;
    // `config::service` leaves room for these in a socket's path.
    let beside = |ending: &str| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!(".{name}{ending}"))
    };
    // The folder may be one that others write to: a link there leads nowhere, and no file is emptied.
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(beside(".lock"))
        .map_err(failed)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(format!(
                "{}: another slomod daemon listens there; set another `control`",
                path.display()
            ));
        }
        Err(error) => return Err(failed(error.into())),
    }
    // Its rights are set before anybody can find it.
    let temporary = beside(".tmp");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary).map_err(failed)?;
    std::fs::set_permissions(&temporary, Permissions::from_mode(RIGHTS)).map_err(failed)?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        // A daemon that is not in the group keeps the socket to its own.
        let _ = std::os::unix::fs::chown(&temporary, None, Some(group.gid.as_raw()));
    }
    std::fs::rename(&temporary, path).map_err(failed)?;
    let identity = identity(path).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            take_in(stream, Manner::Anything, &places, &asked);
        }
    });
    Ok(Listening { task, file: Some((path.to_owned(), identity, lock)) })
}

/// Answers HTTP requests for metrics at `address`.
///
/// # Errors
/// A sentence.
pub fn listen_for_metrics(
    address: SocketAddr,
    asked: mpsc::Sender<Asked>,
) -> Result<Listening, String> {
    let failed = |error: io::Error| format!("metrics at {address}: {error}");
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            take_in(stream, Manner::HttpOnly, &places, &asked);
        }
    });
    Ok(Listening { task, file: None })
}

/// What a connection may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Anything,
    HttpOnly,
}

fn take_in<S>(stream: S, manner: Manner, places: &Arc<Semaphore>, asked: &mpsc::Sender<Asked>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Without a place the stream is closed here, which the client is told by the end of it.
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    let asked = asked.clone();
    tokio::spawn(async move {
        converse(stream, manner, &asked).await;
        drop(place);
    });
}

async fn converse<S>(mut stream: S, manner: Manner, asked: &mpsc::Sender<Asked>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(Ok(text)) = timeout(ASKING_TIME, read_question(&mut stream)).await else { return };
    let reply = if let Some(path) = text.strip_prefix("GET ") {
        http_reply(path, asked).await
    } else if manner == Manner::HttpOnly {
        http("405 Method Not Allowed", "text/plain", "only GET /metrics is answered here\n")
    } else {
        let answer = match serde_json::from_str(&text) {
            Ok(question) => ask(question, asked).await,
            Err(error) => {
                let message = format!("the question is not understood: {error}");
                Answer::refused(ExitCode::Usage, message)
            }
        };
        // Everything in an answer has text keys and finite numbers.
        serde_json::to_string(&answer).unwrap_or_default() + "\n"
    };
    let write = async {
        stream.write_all(reply.as_bytes()).await?;
        stream.shutdown().await
    };
    // A client that does not listen any more has its answer lost.
    let _ = timeout(ANSWERING_TIME, write).await;
}

/// One line; of an HTTP request its first line, with all others read away, so that the answer is not lost by a reset.
async fn read_question(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut reader = BufReader::new(stream.take(LONGEST_QUESTION_BYTES));
    let (mut line, mut more) = (String::new(), String::new());
    reader.read_line(&mut line).await?;
    if line.starts_with("GET ") {
        while reader.read_line(&mut more).await? > 0 && !more.trim_end().is_empty() {
            more.clear();
        }
    }
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn http_reply(request: &str, asked: &mpsc::Sender<Asked>) -> String {
    let path = request.split(' ').next().unwrap_or_default().trim();
    if path.split('?').next() != Some("/metrics") {
        return http("404 Not Found", "text/plain", "here is /metrics only\n");
    }
    match ask(Question { state_dir: None, ask: Ask::Metrics }, asked).await {
        Answer::Metrics(text) => http("200 OK", OPENMETRICS, &text),
        Answer::Refused(it) => http("503 Service Unavailable", "text/plain", &it.message),
        _ => http("500 Internal Server Error", "text/plain", "no metrics\n"),
    }
}

fn http(status: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Asks the loop.
async fn ask(question: Question, asked: &mpsc::Sender<Asked>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let wait = async {
        asked.send(Asked { question, answer }).await.ok()?;
        answered.await.ok()
    };
    match timeout(LONGEST_WAIT, wait).await {
        Ok(Some(answer)) => answer,
        Ok(None) => Answer::refused(ExitCode::TempFail, "the daemon is stopping"),
        Err(_) => Answer::refused(ExitCode::TempFail, "the daemon did not answer in time"),
    }
}
