//! `slomod systemd-dropin`: systemd understands what it prints, and a read-only file system names it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use slomod::daemon::output_lock::{LOCK_NAME, OutputLock};

use crate::elsewhere::{MOUNTS, RIGHTS, inside};
use crate::place::{Place, clip};
use crate::{SLOMOD, installed, root, text};

/// Highest exposure that is accepted, in tenths: 1.0.
const MOST_EXPOSURE: &str = "10";

/// The drop-in for a file with these folders.
fn dropin(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slomod.toml");
    fs::write(&path, config).unwrap();
    let output =
        Command::new(SLOMOD).arg("systemd-dropin").arg("--config").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn watch(path: &str, output: &str, more: &str) -> String {
    format!("[[watch]]\npath = '''{path}'''\noutput = '''{output}'''\n{more}\n")
}

/// S13.
#[test]
fn s13_folders_are_opened_as_far_as_they_are_used() {
    let config = "[daemon]\nstate_dir = \"/srv/state\"\n".to_owned()
        + &watch("/srv/drop", "/srv/out", "")
        + &watch("/srv/cards", "/srv/out", "on_success = \"move\"\noriginals = \"/srv/done\"");
    let said = dropin(&config);
    let lines: Vec<&str> = said.lines().collect();
    for line in [
        "[Unit]",
        "RequiresMountsFor=/srv/state",
        "[Service]",
        "ReadWritePaths=-/srv/out",
        "ReadWritePaths=-/srv/cards",
        "ReadWritePaths=-/srv/done",
        "ReadWritePaths=-/srv/state",
        "ReadOnlyPaths=-/srv/drop",
    ] {
        assert!(lines.contains(&line), "no {line}\n{said}");
    }
    assert!(said.contains("# /srv/cards is not there"), "{said}");
    assert_eq!(said.matches("RequiresMountsFor").count(), 1, "a disk may be away: {said}");
    let state = dropin(&watch("/srv/drop", "/srv/out", ""));
    assert!(!state.contains("/var/lib/slomod"), "the unit has it: {state}");
}

/// S13. Folders in homes are shown one by one.
#[test]
fn s13_folders_in_homes_are_bound_into_the_service() {
    let config = watch("/home/kim/drop", "/home/kim/my out", "")
        + &watch(
            "/home/kim/cards",
            "/srv/out",
            "on_success = \"trash\"\nmodel = \"/home/kim/rife.safetensors\"",
        );
    let said = dropin(&config);
    let lines: Vec<&str> = said.lines().collect();
    for line in [
        "ProtectHome=tmpfs",
        "BindPaths=\"-/home/kim/my out\"",
        "BindPaths=-/home/kim/cards",
        "BindReadOnlyPaths=-/home/kim/drop",
        "BindReadOnlyPaths=-/home/kim/rife.safetensors",
        "ReadWritePaths=-/srv/out",
    ] {
        assert!(lines.contains(&line), "no {line}\n{said}");
    }
}

/// S13. What systemd opens is where links lead, and a list of cuts is opened as weights are.
#[test]
fn s13_links_are_followed_and_lists_of_cuts_are_opened() {
    let folder = tempfile::tempdir_in("/var").unwrap();
    std::os::unix::fs::symlink("/root", folder.path().join("dash")).unwrap();
    let dash = folder.path().join("dash");
    let watched =
        watch(&format!("{}/drop", dash.display()), "/srv/out", "cut_list = \"/home/kim/all.cuts\"");
    let said = dropin(&watched);
    for line in [
        "ProtectHome=tmpfs",
        "BindReadOnlyPaths=-/root/drop",
        "BindReadOnlyPaths=-/home/kim/all.cuts",
    ] {
        assert!(said.lines().any(|it| it == line), "no {line}\n{said}");
    }
    assert!(!said.contains("/dash"), "{said}");
}

/// S13, S06. Names with everything that unit files treat in their own way.
#[test]
fn s13_systemd_understands_the_dropin_and_the_service_stays_closed() {
    if !installed("systemd-analyze") {
        return;
    }
    let config = "[daemon]\nstate_dir = \"/data/state\"\n".to_owned()
        + &watch("/srv/my drop", "/srv/100% 영상:a", "")
        + &watch(
            "/srv/12\"",
            "/home/it's/out",
            "on_success = \"move\"\noriginals = \"/srv/$HOME\"",
        );
    let said = dropin(&config);
    let open = dropin(&(config.clone() + "[[hook]]\nurl = \"https://[fd00::7]/\"\n"));
    let local = dropin(&config.replace("[daemon]\n", "[daemon]\nmetrics = \"127.0.0.1:9464\"\n"));
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("slomod.service");
    let shipped = fs::read_to_string(root().join("systemd/slomod.service")).unwrap();
    fs::write(&unit, shipped.replace("/usr/bin/slomod", SLOMOD)).unwrap();
    fs::create_dir(folder.path().join("slomod.service.d")).unwrap();
    let file = folder.path().join("slomod.service.d/folders.conf");
    let verify = || {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&unit)
            .output()
            .unwrap();
        let complaints = text(&output);
        complaints.lines().filter(|it| it.contains("slomod")).map(String::from).collect::<Vec<_>>()
    };
    fs::write(&file, said.replace("BindPaths=", "BindPaths=relative ")).unwrap();
    assert!(!verify().is_empty(), "the drop-in is read");
    fs::write(&file, &said).unwrap();
    assert!(verify().is_empty(), "{:?}\n{said}", verify());
    let security = |threshold: &str| {
        let threshold = format!("--threshold={threshold}");
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", &threshold]).arg(&unit);
        command.output().unwrap()
    };
    let output = security(MOST_EXPOSURE);
    assert!(output.status.success(), "{}", text(&output));
    // With a network it is more, which the drop-in says.
    for dropin in [&local, &open] {
        fs::write(&file, dropin).unwrap();
        assert!(dropin.contains("gives 1.4 to 1.5 with it"), "{dropin}");
        let output = security(MOST_EXPOSURE);
        assert!(!output.status.success(), "more than without");
        let is_said = |it| text(&output).contains(&format!("for slomod.service: {it} "));
        assert!(["1.4", "1.5"].into_iter().any(is_said), "{}", text(&output));
    }
    fs::write(&file, &open).unwrap();
    assert!(open.contains("IPAddressAllow=fd00::7"), "{open}");
    assert!(verify().is_empty(), "{:?}\n{open}", verify());
}

#[test]
fn a_socket_elsewhere_metrics_and_hooks_are_opened_as_far_as_they_go() {
    let minimal = watch("/srv/drop", "/srv/out", "");
    let lines = |config: &str| {
        dropin(config)
            .lines()
            .map(String::from)
            .filter(|it| !it.starts_with('#'))
            .collect::<Vec<_>>()
    };
    let plain = lines(&minimal);
    let added = |config: &str| {
        lines(config).into_iter().filter(|it| !plain.contains(it)).collect::<Vec<_>>()
    };
    for provided in ["/run/slomod/other.sock", "/var/lib/slomod/control.sock"] {
        assert!(added(&format!("[daemon]\ncontrol = \"{provided}\"\n{minimal}")).is_empty());
    }
    let elsewhere = "[daemon]\ncontrol = \"/run/other/slomod.sock\"\n".to_owned() + &minimal;
    let found = added(&elsewhere);
    assert_eq!(found, ["ReadWritePaths=-/run/other"]);
    let network = ["PrivateNetwork=no", "RestrictAddressFamilies=AF_INET AF_INET6"];
    let with = |addresses: &[&str]| {
        let allow = addresses.iter().map(|it| format!("IPAddressAllow={it}"));
        network.iter().map(|it| (*it).to_owned()).chain(allow).collect::<Vec<_>>()
    };
    let metrics = "[daemon]\nmetrics = \"127.0.0.1:9464\"\n".to_owned() + &minimal;
    assert_eq!(added(&metrics), with(&["localhost"]));
    let hook = |line: &str| format!("{minimal}[[hook]]\n{line}\n");
    for (url, allowed) in [
        ("http://localhost:8080/a", "localhost"),
        ("http://[::1]:8080/a", "localhost"),
        ("https://192.168.1.7/a", "192.168.1.7"),
        ("http://[fd00::7]:80/", "fd00::7"),
        ("https://example.org/a?b=c", "any"),
    ] {
        assert_eq!(added(&hook(&format!("url = \"{url}\""))), with(&[allowed]), "{url}");
    }
    assert!(
        dropin(&hook("url = \"https://example.org/\"")).contains("# example.org goes by a name")
    );
    assert!(added(&hook("command = [\"/usr/bin/mail\"]")).is_empty());
    let home = added(&hook("command = [\"/home/kim/hook\"]"));
    assert!(home.contains(&"BindReadOnlyPaths=-/home/kim/hook".to_owned()), "{home:?}");
}

#[test]
fn a_path_that_no_unit_file_can_hold_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slomod.toml");
    fs::write(&path, watch("/srv/a\\b", "/srv/out", "")).unwrap();
    let output =
        Command::new(SLOMOD).arg("systemd-dropin").arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", text(&output));
    assert!(text(&output).contains("/srv/a\\b"), "{}", text(&output));
}

/// S13. What a service meets whose unit does not open a folder.
#[test]
fn s13_a_read_only_output_names_the_command_that_opens_it() {
    let name = "dropin::s13_a_read_only_output_names_the_command_that_opens_it";
    if !inside(&MOUNTS, name) {
        return;
    }
    let mut place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    for arguments in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
        let mut mount = Command::new("mount");
        mount.args(arguments);
        if arguments[0] == "--bind" {
            mount.arg(place.path("out"));
        }
        assert!(mount.arg(place.path("out")).status().unwrap().success());
    }
    let clip = clip(place.folder.path(), "64x48", 6, 0);
    place.drop_clip(&clip, "a.mp4");
    place.start();
    let status = || text(&place.command("status").output().unwrap());
    place.wait("the command in the status", || status().contains("slomod systemd-dropin"));
    place.wait("the command in the log", || place.log().contains("slomod systemd-dropin"));
    let check = place.command("check").output().unwrap();
    assert_eq!(check.status.code(), Some(73));
    assert!(text(&check).contains("slomod systemd-dropin"), "{}", text(&check));
}

#[test]
fn a_lock_file_that_somebody_else_made_is_named() {
    if !inside(&RIGHTS, "dropin::a_lock_file_that_somebody_else_made_is_named") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(LOCK_NAME);
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o444)).unwrap();
    let said = OutputLock::take(folder.path()).unwrap_err();
    assert!(said.contains("cannot be written") && said.contains("chown"), "{said}");
}

#[test]
fn a_folder_that_the_caller_may_not_see_is_not_said_to_be_missing() {
    let name = "dropin::a_folder_that_the_caller_may_not_see_is_not_said_to_be_missing";
    if !inside(&RIGHTS, name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir_all(closed.join("drop")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let said = dropin(&watch(&format!("{}/drop", closed.display()), "/srv/out", ""));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(said.contains("closed/drop cannot be looked at (Permission denied"), "{said}");
    assert!(!said.contains("closed/drop is not there"), "{said}");
}
