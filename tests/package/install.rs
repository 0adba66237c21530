//! `make` by itself, and `make install` into a folder: every file that the package has is there, too.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::{SLOMOD, root, text};

/// What is installed besides pages and completions, and whether it can be run.
const FILES: [(&str, u32); 10] = [
    ("usr/bin/slomod", 0o755),
    ("usr/lib/systemd/system/slomod.service", 0o644),
    ("usr/lib/sysusers.d/slomod.conf", 0o644),
    ("usr/lib/tmpfiles.d/slomod.conf", 0o644),
    ("usr/lib/modules-load.d/slomod.conf", 0o644),
    ("usr/lib/systemd/catalog/slomod.catalog", 0o644),
    ("usr/share/slomod/report.schema.json", 0o644),
    ("usr/share/slomod/hooks/mail", 0o755),
    ("usr/share/doc/slomod/README.md", 0o644),
    ("usr/share/doc/slomod/README.ko.md", 0o644),
];
/// Of the pages and completions that the program makes.
const MADE: [&str; 7] = [
    "usr/share/man/man1/slomod.1",
    "usr/share/man/man1/slomod-init.1",
    "usr/share/man/man5/slomod.toml.5",
    "usr/share/man/man8/slomod.service.8",
    "usr/share/bash-completion/completions/slomod",
    "usr/share/zsh/vendor-completions/_slomod",
    "usr/share/fish/vendor_completions.d/slomod.fish",
];

#[test]
fn make_lists_its_targets() {
    let output = Command::new("make").arg("--silent").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    // The demo stands there a second time, with a clip.
    let mut listed: Vec<_> = said
        .lines()
        .filter_map(|it| it.strip_prefix("  make ")?.split_once(' '))
        .filter(|it| !it.1.starts_with("CLIP="))
        .collect();
    assert!(listed.iter().all(|it| it.1.trim().len() > 10), "{said}");
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let phony = makefile.lines().find_map(|it| it.strip_prefix(".PHONY: ")).unwrap();
    let mut targets: Vec<_> = phony.split(' ').collect();
    targets.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed.iter().map(|it| it.0).collect::<Vec<_>>(), targets);
}

#[test]
fn make_install_puts_everything_in_its_place_and_keeps_a_configuration_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let place = |path: &str| folder.path().join(path);
    let install = || {
        let output = Command::new("make")
            .args(["--silent", "install", &format!("PROGRAM={SLOMOD}")])
            .arg(format!("DESTDIR={}", folder.path().display()))
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    install();
    for (path, mode) in FILES {
        let meta = std::fs::metadata(place(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
    }
    for path in MADE {
        assert!(std::fs::metadata(place(path)).unwrap().len() > 100, "{path}");
    }
    let config = place("etc/slomod/slomod.toml");
    let shipped = std::fs::read(root().join("config/slomod.toml")).unwrap();
    assert_eq!(std::fs::read(&config).unwrap(), shipped);
    std::fs::write(&config, "# mine\n").unwrap();
    install();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "# mine\n");
}
