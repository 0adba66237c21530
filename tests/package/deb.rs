//! The Debian package: what is in it, and what its scripts do, in a root folder of the test's own. `make deb-test` does
//! the same, and boots what was installed, in a whole Debian.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::elsewhere::{Wrapper, inside};
use crate::place::skip;
use crate::{SLOMOD, installed, root, text};

/// Root with mounts of its own: below `/run` nothing is seen of the system's services.
const CLOSED: Wrapper = Wrapper {
    program: "unshare",
    arguments: &["--mount"],
    proof: "mount -t tmpfs none /run && test ! -e /run/systemd",
};

/// The package of the program under test; `None` where what makes it is not installed.
fn package(folder: &Path) -> Option<PathBuf> {
    let cargo_deb = root().join("target/ci-tools/bin/cargo-deb");
    if !cargo_deb.exists() {
        skip("no cargo-deb (`make test` and `make deb` install it)");
        return None;
    }
    let output = Command::new(root().join("packaging/deb/build"))
        .env("PROGRAM", SLOMOD)
        .env("OUT", folder)
        .env("DEB_OPTIONS", "--fast")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    println!("{said}");
    let has_lintian = Command::new("lintian").arg("--version").output().is_ok();
    assert!(!has_lintian || said.contains("lintian: nothing to say"), "{said}");
    let mut found = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    found.find(|it| it.extension().is_some_and(|it| it == "deb"))
}

fn dpkg_deb(arguments: &[&str], deb: &Path) -> String {
    let output = Command::new("dpkg-deb").arg(arguments[0]).arg(deb).args(&arguments[1..]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_package_holds_what_it_should_and_depends_on_the_systems_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let Some(deb) = package(folder.path()) else { return };
    let contents = dpkg_deb(&["--contents"], &deb);
    for path in [
        "./usr/bin/slomod",
        "./usr/lib/systemd/system/slomod.service",
        "./usr/lib/sysusers.d/slomod.conf",
        "./usr/lib/tmpfiles.d/slomod.conf",
        "./usr/lib/modules-load.d/slomod.conf",
        "./etc/slomod/slomod.toml",
        "./usr/share/man/man1/slomod.1.gz",
        "./usr/share/man/man1/slomod-init.1.gz",
        "./usr/share/man/man5/slomod.toml.5.gz",
        "./usr/share/man/man8/slomod.service.8.gz",
        "./usr/share/bash-completion/completions/slomod",
        "./usr/share/zsh/vendor-completions/_slomod",
        "./usr/share/fish/vendor_completions.d/slomod.fish",
        "./usr/lib/systemd/catalog/slomod.catalog",
        "./usr/share/slomod/report.schema.json",
        "./usr/share/slomod/hooks/mail",
        "./usr/share/doc/slomod/README.md",
        "./usr/share/doc/slomod/README.ko.md",
        "./usr/share/doc/slomod/models/README.md",
        "./usr/share/doc/slomod/models/starter-hard.jpg",
        "./usr/share/doc/slomod/copyright",
    ] {
        assert!(contents.lines().any(|it| it.ends_with(path)), "no {path}\n{contents}");
    }
    let control = dpkg_deb(&["--field"], &deb);
    let depends = control.lines().find(|it| it.starts_with("Depends: ")).unwrap();
    for library in ["libavcodec", "libavformat", "libavfilter", "libswscale", "libc6", "systemd"] {
        assert!(depends.contains(library), "{depends}");
    }
    assert_eq!(dpkg_deb(&["--info", "conffiles"], &deb).trim(), "/etc/slomod/slomod.toml");
    let version = env!("CARGO_PKG_VERSION");
    assert!(control.contains(&format!("Version: {version}-1")), "{control}");
    let changelog = fs::read_to_string(root().join("packaging/deb/changelog")).unwrap();
    assert!(
        changelog.starts_with(&format!("slomod ({version}-1)")),
        "the changelog is of {version}"
    );
}

#[test]
fn every_linked_crate_has_its_licence_in_the_copyright_file() {
    if !installed("python3") {
        return;
    }
    let run = || {
        Command::new("python3")
            .arg(root().join("packaging/copyright.py"))
            .current_dir(root())
            .output()
    };
    let output = run().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let copyright = String::from_utf8(output.stdout).unwrap();
    assert_eq!(copyright.as_bytes(), run().unwrap().stdout, "equal from run to run");
    for package in ["clap", "ffmpeg-next", "ffmpeg-sys-next", "libsqlite3-sys", "tokio", "zstd-sys"]
    {
        assert!(copyright.contains(&format!("Files: crates/{package}-")), "{package}");
    }
    assert!(!copyright.contains("crates/jsonschema-"), "only tests use it");
    // What the licences of a clip and of films whose frames the weights were trained on ask for.
    for credit in [
        "Intel IoT DevKit",
        "https://creativecommons.org/licenses/by/4.0/",
        "Blender Foundation",
        "https://creativecommons.org/licenses/by/3.0/",
    ] {
        assert!(copyright.contains(credit), "{credit}");
    }
    let texts: Vec<&str> = copyright
        .lines()
        .zip(copyright.lines().skip(1))
        .filter(|(line, next)| line.starts_with("License: ") && next.starts_with(' '))
        .filter_map(|(line, _)| line.strip_prefix("License: "))
        .collect();
    for line in copyright.lines().filter_map(|it| it.strip_prefix("License: ")) {
        for licence in line.split(" and ") {
            assert!(texts.contains(&licence), "{licence}: no text");
        }
    }
}

/// S12.
#[test]
fn s12_user_and_folders_are_made_by_sysusers_and_tmpfiles() {
    if !installed("systemd-sysusers") || !installed("systemd-tmpfiles") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |path: &str| place.path().join(path);
    fs::create_dir_all(at("etc")).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let rooted = format!("--root={}", place.path().display());
        let output =
            Command::new(program).arg(rooted).args(arguments).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    let file = |name: &str| root().join("systemd").join(name).to_str().unwrap().to_owned();
    run("systemd-sysusers", &[&file("slomod.sysusers")]);
    let passwd = fs::read_to_string(at("etc/passwd")).unwrap();
    let user: Vec<&str> =
        passwd.lines().find(|it| it.starts_with("slomod:")).unwrap().split(':').collect();
    assert_eq!((user[5], user[6].ends_with("nologin")), ("/var/lib/slomod", true), "{user:?}");
    let (uid, gid): (u32, u32) = (user[2].parse().unwrap(), user[3].parse().unwrap());
    assert!(uid < 1000, "a system user");
    if !rustix::process::geteuid().is_root() {
        println!("folders skipped: only root can give them away");
        return;
    }
    run("systemd-tmpfiles", &["--create", &file("slomod.tmpfile")]);
    for folder in ["srv/slomod/drop", "srv/slomod/out"] {
        let meta = fs::metadata(at(folder)).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (uid, gid, 0o2775), "{folder}");
    }
    let meta = fs::metadata(at("srv/slomod")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o755), "links in it cannot be planted");
}

struct Installation {
    folder: tempfile::TempDir,
}

impl Installation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for path in ["root/var/lib/dpkg/info", "root/var/lib/dpkg/updates", "root/etc", "root/usr"]
        {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs::write(folder.path().join("root/var/lib/dpkg/status"), "").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    /// Runs dpkg on this root, with the scripts as on an image that is being built.
    fn dpkg(&self, arguments: &[&str]) -> Output {
        let output = Command::new("dpkg")
            .arg(format!("--root={}", self.path("").display()))
            .args([
                "--force-script-chrootless",
                "--force-depends",
                "--force-confdef",
                "--force-confold",
            ])
            .arg("--log=/dev/null")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        output
    }

    /// The package as a later version, whose shipped configuration has a line more.
    fn later(&self, deb: &Path) -> PathBuf {
        let tree = self.folder.path().join("later");
        let run = |command: &mut Command| assert!(command.status().unwrap().success());
        run(Command::new("dpkg-deb").arg("-R").arg(deb).arg(&tree));
        let edit = |name: &str, change: &dyn Fn(String) -> String| {
            let path = tree.join(name);
            fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
        };
        edit("DEBIAN/control", &|it| it.replace("\nVersion: ", "\nVersion: 9:"));
        edit("etc/slomod/slomod.toml", &|it| it + "# of the later version\n");
        let later = self.folder.path().join("later.deb");
        run(Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(&tree).arg(&later));
        later
    }
}

/// S11.
#[test]
fn s11_configuration_and_state_outlive_upgrade_and_removal_and_end_with_purge() {
    let name = "deb::s11_configuration_and_state_outlive_upgrade_and_removal_and_end_with_purge";
    if !rustix::process::geteuid().is_root() {
        skip("dpkg installs as root only");
        return;
    }
    if !installed("dpkg") || !installed("systemd-sysusers") || !inside(&CLOSED, name) {
        return;
    }
    assert!(
        Command::new("mount").args(["-t", "tmpfs", "none", "/run"]).status().unwrap().success()
    );
    let it = Installation::new();
    let Some(deb) = package(it.folder.path()) else { return };
    let deb_text = deb.to_str().unwrap();
    it.dpkg(&["--install", deb_text]);
    let enabled = it.path("etc/systemd/system/multi-user.target.wants/slomod.service");
    assert!(enabled.symlink_metadata().is_ok(), "the service is enabled");
    assert!(
        fs::read_to_string(it.path("etc/passwd")).unwrap().contains("slomod:"),
        "there is a user"
    );
    assert!(it.path("srv/slomod/drop").is_dir());

    let config = it.path("etc/slomod/slomod.toml");
    let mine = fs::read_to_string(&config).unwrap().replace("factor = \"auto\"", "factor = 8");
    fs::write(&config, &mine).unwrap();
    let journal = it.path("var/lib/slomod/journal.sqlite");
    fs::create_dir_all(journal.parent().unwrap()).unwrap();
    fs::create_dir_all(it.path("var/cache/slomod/cuda")).unwrap();
    fs::write(&journal, "state").unwrap();
    fs::write(it.path("srv/slomod/drop/clip.mp4"), "a clip").unwrap();
    let kept = |when: &str| {
        assert_eq!(fs::read_to_string(&config).unwrap(), mine, "{when}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), "state", "{when}");
    };

    it.dpkg(&["--install", it.later(&deb).to_str().unwrap()]);
    kept("after the upgrade");
    let new = fs::read_to_string(it.path("etc/slomod/slomod.toml.dpkg-dist")).unwrap();
    assert!(new.ends_with("# of the later version\n"), "the shipped one lies beside it");

    it.dpkg(&["--remove", "slomod"]);
    kept("after the removal");
    assert!(!it.path("usr/bin/slomod").exists());

    it.dpkg(&["--purge", "slomod"]);
    for path in ["etc/slomod", "var/lib/slomod", "var/cache/slomod", "srv/slomod/out"] {
        assert!(!it.path(path).exists(), "{path} is left");
    }
    assert!(enabled.symlink_metadata().is_err(), "nothing enabled is left");
    assert_eq!(fs::read_to_string(it.path("srv/slomod/drop/clip.mp4")).unwrap(), "a clip");
}
