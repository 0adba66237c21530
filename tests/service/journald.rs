//! The log in the system's journal, by a real journald in namespaces of the test's own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use slomod::daemon::events::Kind;

use crate::place::{Place, skip, small};

/// Where journald's program lies.
const JOURNALD: [&str; 2] = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];
/// A folder of journals at `$0`, a journald, and then the rest.
const SCRIPT: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal && \
                      mount --bind \"$0\" /run/log/journal && mount -t tmpfs none /var/log || exit 99; \
                      \"$1\" </dev/null >/dev/null 2>&1 & shift; \
                      n=0; until [ -S /run/systemd/journal/socket ]; do \
                      n=$((n + 1)); [ $n -lt 600 ] || exit 99; sleep 0.1; done; \"$@\"";

/// What `journalctl` finds below `root`.
fn entries(root: &Path, query: &[&str]) -> Vec<Value> {
    let output = Command::new("journalctl")
        .arg(format!("--root={}", root.display()))
        .args(["--output=json", "--no-pager"])
        .args(query)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A root folder with the catalog, compiled.
fn root_with_catalog(place: &Place) -> Option<PathBuf> {
    let root = place.path("root");
    fs::create_dir_all(root.join("run/log/journal")).unwrap();
    fs::create_dir_all(root.join("usr/lib/systemd/catalog")).unwrap();
    fs::create_dir_all(root.join("var/lib/systemd/catalog")).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/slomod.catalog");
    fs::copy(shipped, root.join("usr/lib/systemd/catalog/slomod.catalog")).unwrap();
    let command = |option: &str| {
        Command::new("journalctl").arg(format!("--root={}", root.display())).arg(option).output()
    };
    let Ok(output) = command("--update-catalog") else {
        skip("no journalctl");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(root)
}

#[test]
fn the_catalog_explains_every_kind_of_event_and_no_other() {
    let text = include_str!("../../systemd/slomod.catalog");
    let mut ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    let mut kinds: Vec<&str> = Kind::ALL.iter().map(|it| it.id()).collect();
    ids.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(ids, kinds);
    let place = Place::new();
    let Some(root) = root_with_catalog(&place) else { return };
    let list = Command::new("journalctl")
        .arg(format!("--root={}", root.display()))
        .arg("--list-catalog")
        .output()
        .unwrap();
    let list = String::from_utf8_lossy(&list.stdout);
    assert_eq!(list.lines().count(), Kind::ALL.len(), "{list}");
    assert!(list.lines().all(|line| line.contains(" slomod: ")), "{list}");
}

/// S10. Fields can be asked for, the catalog explains, and the name of a file forges nothing.
#[test]
fn jobs_are_found_by_their_fields_and_no_name_forges_a_line() {
    let place = Place::with("grace = \"300ms\"", "");
    let Some(root) = root_with_catalog(&place) else { return };
    let Some(journald) = JOURNALD.iter().find(|it| Path::new(it).exists()) else {
        skip("no journald");
        return;
    };
    place.drop_clip(&small(&place, 0), "good.mp4");
    let forger = "x\nMESSAGE=all is well\nSLOMOD_JOB=999\n\x1b[2J.mp4";
    fs::write(place.path("in").join(forger), "no video").unwrap();
    let log = fs::File::create(place.path("log")).unwrap();
    let meta = log.metadata().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT])
        .arg(root.join("run/log/journal"))
        .args([journald, env!("CARGO_BIN_EXE_slomod"), "daemon", "--config"])
        .arg(place.path("slomod.toml"))
        .env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
        .stdin(Stdio::null())
        .stderr(log);
    let Ok(mut child) = command.spawn() else {
        skip("no unshare");
        return;
    };
    let ended = |state: &str| entries(&root, &[&format!("SLOMOD_STATE={state}")]);
    let mut skipped = false;
    place.wait("both ends in the journal", || {
        skipped = child.try_wait().unwrap().is_some();
        skipped || (ended("done").len() == 1 && ended("refused").len() == 1)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    if skipped {
        skip(&format!("no namespaces with a journald here: {}", place.log()));
        return;
    }
    let done = &ended("done")[0];
    let field = |name: &str| done[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(field("MESSAGE_ID"), Kind::JobDone.id());
    assert_eq!(Path::new(&field("SLOMOD_WATCH")), place.path("in"));
    assert_eq!(Path::new(&field("SLOMOD_SOURCE")), place.path("in/good.mp4"));
    assert_eq!(field("SLOMOD_ATTEMPT"), "1");
    assert_eq!(field("SLOMOD_SOURCE_SHA256").len(), 64);
    assert!(field("SLOMOD_FPS").parse::<f64>().unwrap() > 0.0);
    assert_eq!(
        (field("SLOMOD_DEVICE"), field("SYSLOG_IDENTIFIER")),
        ("cpu".into(), "slomod".into())
    );
    let job = field("SLOMOD_JOB");
    let of_job = entries(&root, &[&format!("SLOMOD_JOB={job}")]);
    let kinds: Vec<&str> = of_job.iter().map(|it| it["MESSAGE_ID"].as_str().unwrap()).collect();
    let expected = [Kind::JobQueued, Kind::JobRunning, Kind::JobDone].map(Kind::id);
    assert_eq!(kinds, expected);
    let of_source = entries(&root, &[&format!("SLOMOD_SOURCE={}", field("SLOMOD_SOURCE"))]);
    assert_eq!(of_source.len(), 3, "a clip is found by its name from the first line on");

    let refused = &ended("refused")[0];
    let message = refused["MESSAGE"].as_str().unwrap();
    assert!(message.contains("x\\nMESSAGE=all is well") && !message.contains('\n'), "{message}");
    assert!(entries(&root, &["SLOMOD_JOB=999"]).is_empty());
    assert!(entries(&root, &[]).iter().all(|it| it["MESSAGE"] != "all is well"));
    assert_eq!(fs::read_to_string(place.path("log")).unwrap(), "", "nothing twice");

    // The catalog is looked for in its usual place, whatever the root of the journal is.
    let script = "mount -t tmpfs none /var/lib/systemd && cp -r \"$0\" /var/lib/systemd/catalog && \
                  exec journalctl --root=\"$1\" --catalog --no-pager SLOMOD_STATE=done";
    let explained = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(root.join("var/lib/systemd/catalog"))
        .arg(&root)
        .output()
        .unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout);
    assert!(explained.contains(&format!("Subject: slomod: job {job} is done")), "{explained}");
}
