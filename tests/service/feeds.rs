//! What others hear of the work: figures for machines, and hooks after each job.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use slomod::daemon::protocol::{Failure, Message};
use slomod::error::{Consequence, ExitCode};
use slomod::report::Status;

use crate::device::{alone, end, line, opened, script, start};
use crate::ok;
use crate::place::{PATIENCE, Place, schema, small};

/// The value of a sample.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}:\n{text}")).parse().unwrap()
}

/// Whether every line is as OpenMetrics has it, as far as this text uses it: families that are declared once and before
/// their samples, numbers, and the end.
fn check_openmetrics(text: &str) {
    let (mut families, mut kind) = (HashSet::new(), String::new());
    let mut family = String::new();
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    for line in body.lines() {
        let mut words = line.split(' ');
        match (words.next().unwrap(), words.next().unwrap()) {
            ("#", "TYPE") => {
                family = words.next().unwrap().to_owned();
                kind = words.next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{line}: twice");
            }
            ("#", "HELP") => assert_eq!(words.next().unwrap(), family, "{line}"),
            _ => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let ending = match kind.as_str() {
                    "counter" => "_total",
                    "info" => "_info",
                    "gauge" => "",
                    other => panic!("{other}"),
                };
                assert_eq!(name, format!("{family}{ending}"), "{line}");
                assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            }
        }
    }
}

fn get(stream: &mut (impl std::io::Read + std::io::Write), path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn figures_are_given_by_command_over_the_socket_and_at_a_port_of_this_machine() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut place = Place::with(&format!("metrics = \"127.0.0.1:{port}\"\ngrace = \"300ms\""), "");
    place.start();
    place.wait_ready();
    let text = ok(&place, "metrics", &[]);
    check_openmetrics(&text);
    assert_eq!(sample(&text, "slomod_jobs{state=\"done\"}"), 0.0);
    place.drop_clip(&small(&place, 0), "a.mp4");
    fs::write(place.path("in/b.mp4"), "no video").unwrap();
    place.wait_ended(2);
    let done = || sample(&ok(&place, "metrics", &[]), "slomod_ended_jobs_total{state=\"done\"}");
    place.wait("counted job", || done() == 1.0);
    ok(&place, "pause", &[]);
    place.drop_clip(&small(&place, 90), "c.mp4");
    place.wait("waiting job", || place.states().iter().any(|it| it == "queued"));
    let text = ok(&place, "metrics", &[]);
    check_openmetrics(&text);
    let expected = [
        ("slomod_jobs{state=\"done\"}", 1.0),
        ("slomod_jobs{state=\"refused\"}", 1.0),
        ("slomod_jobs{state=\"queued\"}", 1.0),
        ("slomod_frames_total{kind=\"real\"}", 6.0),
        ("slomod_frames_total{kind=\"synthesised\"}", 5.0),
        ("slomod_frames_total{kind=\"repaired\"}", 0.0),
        ("slomod_watches{state=\"configured\"}", 1.0),
        ("slomod_degraded", 0.0),
        ("slomod_paused", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(sample(&text, name), value, "{name}:\n{text}");
    }
    for stage in ["decode", "network", "encode", "end_to_end"] {
        assert!(sample(&text, &format!("slomod_stage_fps{{stage=\"{stage}\"}}")) > 0.0);
    }
    place.wait("age of the queue", || {
        sample(&ok(&place, "metrics", &[]), "slomod_queue_age_seconds") > 0.0
    });

    let mut stream = UnixStream::connect(place.path("state/control.sock")).unwrap();
    let reply = get(&mut stream, "/metrics");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("openmetrics-text; version=1.0.0"));
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    check_openmetrics(body);

    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    check_openmetrics(get(&mut connect(), "/metrics").split_once("\r\n\r\n").unwrap().1);
    assert!(get(&mut connect(), "/other").starts_with("HTTP/1.1 404 "));
    let mut stream = connect();
    stream.write_all(b"{\"ask\":\"resume\"}\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 405 "), "nothing else can be asked there: {reply}");
    assert_eq!(sample(&ok(&place, "metrics", &[]), "slomod_paused"), 1.0);
}

/// A program of `lines`; its path.
fn program(place: &Place, name: &str, lines: &str) -> PathBuf {
    let path = place.path(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn add_hook(place: &Place, lines: &str) {
    let text = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), format!("{text}\n[[hook]]\n{lines}\n")).unwrap();
}

fn command(program: &Path, arguments: &str) -> String {
    format!("command = [\"{}\"{arguments}]", program.display())
}

#[test]
fn a_command_gets_the_report_and_no_shell_sees_its_arguments() {
    let mut place = Place::with("grace = \"300ms\"", "");
    let root = place.folder.path().display().to_string();
    let script = format!(
        "cat > {root}/hook.$SLOMOD_JOB.part\n\
         echo \"$SLOMOD_STATE $1 $SLOMOD_SOURCE $NOTIFY_SOCKET\" > {root}/hook.$SLOMOD_JOB.said\n\
         mv {root}/hook.$SLOMOD_JOB.part {root}/hook.$SLOMOD_JOB.json"
    );
    let hook = program(&place, "hook", &script);
    add_hook(&place, &command(&hook, ", \"$(touch x); *\""));
    place.start_with(|command| command.env("NOTIFY_SOCKET", "/nonexistent"));
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait_ended(1);
    fs::write(place.path("in/b.mp4"), "no video").unwrap();
    for (job, status, state) in [(1, Status::Done, "done"), (2, Status::Refused, "refused")] {
        let path = place.path(&format!("hook.{job}.json"));
        place.wait("hook", || path.exists());
        let report = schema::read(&path);
        assert_eq!(report.status, status);
        let said = fs::read_to_string(place.path(&format!("hook.{job}.said"))).unwrap();
        assert!(said.starts_with(&format!("{state} $(touch x); * {root}/in/")), "{said}");
        assert!(!said.contains("/nonexistent"), "it cannot speak for the daemon");
    }
}

#[test]
fn a_hook_that_hangs_holds_nothing_up_and_is_ended_with_what_it_started() {
    let mut place = Place::new();
    let root = place.folder.path().display().to_string();
    let script = format!(
        "sleep 1000 & echo $! > {root}/child.part; mv {root}/child.part {root}/child; wait"
    );
    let hook = program(&place, "hook", &script);
    add_hook(&place, &(command(&hook, "") + "\ntimeout = \"2s\""));
    place.start();
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("hook that hangs", || place.path("child").exists());
    let child: u32 = fs::read_to_string(place.path("child")).unwrap().trim().parse().unwrap();
    place.drop_clip(&small(&place, 90), "b.mp4");
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
    place.wait("end of the hook", || place.log().contains("job 1: ended after 2 s, its timeout"));
    let is_gone = || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    place.wait("end of what it started", is_gone);
}

#[test]
fn a_hook_that_fails_or_is_not_there_is_said_and_the_next_one_is_called() {
    let mut place = Place::new();
    let hook = program(&place, "bad", "echo 'no such address' >&2; exit 3");
    add_hook(&place, &command(&hook, ""));
    add_hook(&place, "command = [\"/nonexistent/hook\"]");
    add_hook(&place, "command = [\"/nonexistent/other\"]\non = [\"failed\"]");
    let touched = place.path("touched");
    add_hook(&place, &format!("command = [\"/bin/touch\", \"{}\"]", touched.display()));
    place.start();
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("last hook", || touched.exists());
    let log = place.log();
    assert!(log.contains("exit status: 3: no such address"), "{log}");
    assert!(log.contains("/nonexistent/hook: job 1: cannot be started"), "{log}");
    assert!(!log.contains("/nonexistent/other"), "not of this end");
    assert_eq!(place.states(), ["done"]);
}

/// Takes one request in and answers it; its first line with the headers, and the body.
fn serve_once(listener: &TcpListener, answer: &str) -> (String, Vec<u8>) {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (&stream).write_all(answer.as_bytes()).unwrap();
    (head, body)
}

#[test]
fn an_address_gets_the_report_by_post_and_what_it_answers_is_heard() {
    let mut place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    add_hook(
        &place,
        &format!("url = \"http://127.0.0.1:{port}/jobs?from=here\"\ntimeout = \"20s\""),
    );
    place.start();
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    let (head, body) = serve_once(&listener, "HTTP/1.1 204 No Content\r\n\r\n");
    let lower = head.to_lowercase();
    assert!(head.starts_with("POST /jobs?from=here HTTP/1.1\r\n"), "{head}");
    for header in ["content-type: application/json", "x-slomod-job: 1", "x-slomod-state: done"] {
        assert!(lower.contains(header), "{head}");
    }
    let report = schema::checked(&body);
    assert_eq!(report.status, Status::Done);
    place.drop_clip(&small(&place, 90), "b.mp4");
    serve_once(&listener, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    place.wait("complaint", || place.log().contains("job 2: http status: 500"));
    // A redirection is not followed: the report goes nowhere but where it was sent.
    place.drop_clip(&small(&place, 150), "c.mp4");
    let elsewhere =
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    serve_once(&listener, elsewhere);
    place.wait("complaint", || {
        place.log().contains("hook http://127.0.0.1") && place.log().contains("job 3: ")
    });
    drop(listener);
    place.drop_clip(&small(&place, 200), "d.mp4");
    place.wait("complaint", || place.log().contains("job 4: "));
    place.wait_ended(4);
    assert_eq!(place.states(), ["done"; 4]);
}

/// A server that takes the request in and never answers.
#[test]
fn an_address_that_never_answers_is_given_up_and_the_next_hook_is_called() {
    let mut place = Place::with("", "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    add_hook(&place, &format!("url = \"http://127.0.0.1:{port}/\"\ntimeout = \"1s\""));
    let touched = place.path("touched");
    add_hook(&place, &format!("command = [\"/bin/touch\", \"{}\"]", touched.display()));
    place.start();
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    let (_silent, _) = listener.accept().unwrap();
    place.wait("complaint", || place.log().contains("job 1: timeout"));
    place.wait("next hook", || touched.exists());
    assert_eq!(place.states(), ["done"]);
}

/// The daemon runs in this process; a script in place of its workers fails as where an output cannot be verified.
#[test]
fn a_hook_for_failed_jobs_gets_the_report_of_one() {
    let _alone = alone();
    let place = Place::new();
    let heard = place.path("heard");
    let hook =
        program(&place, "hook", &format!("cat > {0}.part; mv {0}.part {0}", heard.display()));
    add_hook(&place, &(command(&hook, "") + "\non = [\"failed\"]"));
    let unverified = Failure {
        consequence: Consequence::Retry,
        exit_code: ExitCode::Software,
        code: "verification_failed".into(),
        message: "not what was written".into(),
        report: None,
    };
    let open = format!("echo '{}'", opened("cpu", "a processor", None));
    let work = format!("echo '{}'", line(&Message::Failed(Box::new(unverified))));
    let daemon = start(&place, script(&open, &work));
    place.drop_clip(&small(&place, 0), "a.mp4");
    place.wait("hook", || heard.exists());
    end(daemon);
    assert_eq!(schema::read(&heard).status, Status::Failed);
    assert_eq!(place.states(), ["failed"]);
}

/// Makes an authority and a certificate of it for 127.0.0.1 alone, with OpenSSL's command line.
fn certificates(place: &Place) -> ServerConfig {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(place.folder.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=tests -days 2"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
    fs::write(place.path("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    let chain = CertificateDer::from_pem_file(place.path("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(place.path("server.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap()
}

/// Whoever the system trusts gets the report by HTTPS; whom it does not trust, or who has another name, gets nothing.
#[test]
fn a_secure_address_gets_the_report_if_its_certificate_is_good_and_nothing_else() {
    let mut place = Place::new();
    let tls = Arc::new(certificates(&place));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut secure = StreamOwned::new(connection, stream);
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = secure.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
                if request.ends_with(b"}\n") || request.ends_with(b"}") {
                    break;
                }
            }
            let _ = secure.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            let _ = secure.flush();
            let _ = sender.send(request);
        }
    });
    add_hook(&place, &format!("url = \"https://127.0.0.1:{port}/jobs\""));
    add_hook(&place, &format!("url = \"https://localhost:{port}/jobs\""));
    let trusted = place.path("ca.pem");
    place.start_with(|command| command.env("SSL_CERT_FILE", &trusted).env_remove("SSL_CERT_DIR"));
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "a.mp4");
    let request = received.recv_timeout(PATIENCE).unwrap();
    let request = String::from_utf8_lossy(&request);
    assert!(request.starts_with("POST /jobs HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\"status\": \"done\"") || request.contains("\"status\":\"done\""));
    place.wait("complaint about the name", || {
        place.log().contains("localhost") && place.log().contains("its certificate is not accepted")
    });
    assert_eq!(place.terminate().code(), Some(0));

    let nobody = place.path("server.pem");
    place.start_with(|command| command.env("SSL_CERT_FILE", &nobody).env_remove("SSL_CERT_DIR"));
    place.wait_ready();
    place.drop_clip(&small(&place, 90), "b.mp4");
    place.wait("complaint about the authority", || {
        place.log().contains("job 2: the system does not trust its certificate")
    });
    place.wait_ended(2);
    for request in received.try_iter() {
        assert!(request.is_empty(), "it got {}", String::from_utf8_lossy(&request));
    }
}

#[test]
fn the_sample_hook_makes_a_mail_that_no_name_can_forge() {
    let folder = tempfile::tempdir().unwrap();
    let sendmail = folder.path().join("sendmail");
    let script = format!(
        "#!/bin/sh\necho \"$@\" > {0}/arguments; cat > {0}/mail\n",
        folder.path().display()
    );
    fs::write(&sendmail, script).unwrap();
    fs::set_permissions(&sendmail, fs::Permissions::from_mode(0o755)).unwrap();
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hooks/mail");
    let mut child = Command::new(hook)
        .arg("you@example.org")
        .env("SENDMAIL", &sendmail)
        .env("SLOMOD_JOB", "7")
        .env("SLOMOD_STATE", "failed")
        .env("SLOMOD_SOURCE", "/in/a\nBcc: all@example.org\n\n.\n.mp4")
        .env("SLOMOD_REPORT", "/out/a.mp4.failed.json")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"status\":\"failed\"}\n").unwrap();
    assert!(child.wait().unwrap().success());
    let mail = fs::read_to_string(folder.path().join("mail")).unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    assert!(head.contains("To: you@example.org") && head.contains("Subject: slomod: job 7 failed"));
    assert!(!head.contains("Bcc"), "{head}");
    assert!(body.contains("{\"status\":\"failed\"}") && body.contains("/out/a.mp4.failed.json"));
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert_eq!(arguments.trim(), "-oi -- you@example.org", "a line with a dot does not end it");
    assert!(
        !Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hooks/mail"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
}
