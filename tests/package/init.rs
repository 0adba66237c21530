//! `slomod init`: its file loads and says what was answered; nothing of a person's is overwritten.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use slomod::config::file::load;
use slomod::config::settings::{Device, Mode};

use crate::{SLOMOD, root, slomod, text};

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs `slomod init` for the file `slomod.toml` here, with `answers` on its standard input.
    fn init(&self, arguments: &[&str], answers: &str) -> Output {
        let mut child = Command::new(SLOMOD)
            .args(["init", "--config", &self.text("slomod.toml")])
            .args(arguments)
            .env("XDG_STATE_HOME", self.path("states"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read all.
        let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
        child.wait_with_output().unwrap()
    }
}

#[test]
fn flags_make_a_file_that_loads_and_folders_that_are_there() {
    let home = Home::new();
    let (watch, output, state) = (home.text("my drop"), home.text("결과/out"), home.text("state"));
    let arguments = ["--yes", "--watch", &watch, "--output", &output, "--state-dir", &state];
    let run = home.init(&[&arguments[..], &["--mode", "smooth", "--device", "cpu"]].concat(), "");
    assert!(run.status.success(), "{}", text(&run));
    let config = load(&home.path("slomod.toml")).unwrap();
    let it = &config.watches[0];
    assert_eq!((it.path.as_path(), it.output.as_path()), (Path::new(&watch), Path::new(&output)));
    assert_eq!((it.settings.mode, it.settings.factor), (Mode::Smooth, Some(2)));
    assert_eq!(
        (config.daemon.device, config.daemon.state_dir),
        (Device::Cpu, state.clone().into())
    );
    for folder in [&watch, &output, &state] {
        assert!(Path::new(folder).is_dir(), "{folder}");
    }
    let said = text(&run);
    for word in [watch.as_str(), output.as_str(), "slomod check --config", "slomod daemon --config"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    let check = slomod(&["check", "--config", &home.text("slomod.toml")]);
    assert!(check.status.success(), "{}", text(&check));
}

#[test]
fn questions_are_asked_again_until_an_answer_is_understood_and_flags_are_not_asked() {
    let home = Home::new();
    let output = home.text("out");
    let answers = format!("~/drop\n{}\nfast\nslow\n1\n8\n\n", home.text("drop"));
    let run = home.init(&["--output", &output], &answers);
    let said = text(&run);
    assert!(run.status.success(), "{said}");
    for word in ["without ~", "write slow or smooth", "2 to 16", "[auto]"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("Folder for the results?"), "{said}");
    let config = load(&home.path("slomod.toml")).unwrap();
    assert_eq!(config.daemon.state_dir, home.path("states/slomod"), "a person's own daemon");
    let settings = config.watches[0].settings();
    assert_eq!((settings.mode, settings.factor), (Mode::Slow, Some(8)));
}

#[test]
fn without_an_answer_nothing_is_written() {
    let home = Home::new();
    let run = home.init(&[], "/srv/a\n");
    assert_eq!(run.status.code(), Some(64), "{}", text(&run));
    assert!(text(&run).contains("--yes"), "{}", text(&run));
    assert!(!home.path("slomod.toml").exists());
}

#[test]
fn a_file_that_is_there_is_left_unless_it_is_as_it_was_shipped() {
    let home = Home::new();
    let (watch, output) = (home.text("in"), home.text("out"));
    let arguments = ["--yes", "--watch", &watch, "--output", &output];
    std::fs::write(home.path("slomod.toml"), "# mine\n").unwrap();
    let run = home.init(&arguments, "");
    assert_eq!(run.status.code(), Some(73), "{}", text(&run));
    assert!(text(&run).contains("is not overwritten"), "{}", text(&run));
    assert_eq!(std::fs::read_to_string(home.path("slomod.toml")).unwrap(), "# mine\n");
    assert!(!home.path("in").exists(), "nothing was made");

    // By the package, and by the `install` of the archive.
    let archive = home.path("archive");
    let tree = archive.join("from");
    for (from, to) in [("config", "share/slomod"), ("systemd", "systemd")] {
        std::fs::create_dir_all(tree.join(to)).unwrap();
        for entry in std::fs::read_dir(root().join(from)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), tree.join(to).join(entry.file_name())).unwrap();
            }
        }
    }
    for folder in ["man", "bash-completion", "zsh", "fish"] {
        std::fs::create_dir(tree.join("share").join(folder)).unwrap();
    }
    std::fs::copy(root().join("packaging/tarball/install"), tree.join("install")).unwrap();
    let installed =
        Command::new(tree.join("install")).env("DESTDIR", archive.join("root")).output().unwrap();
    assert!(installed.status.success(), "{}", text(&installed));
    let of_archive = archive.join("root/etc/slomod/slomod.toml");
    for shipped in [root().join("config/slomod.toml"), of_archive] {
        std::fs::copy(&shipped, home.path("slomod.toml")).unwrap();
        let run = home.init(&arguments, "");
        assert!(run.status.success(), "{}", text(&run));
        assert_eq!(load(&home.path("slomod.toml")).unwrap().watches[0].path, home.path("in"));
    }
    let written = std::fs::read_to_string(home.path("slomod.toml")).unwrap();
    let hook = "[\"/usr/local/lib/slomod/share/slomod/hooks/mail\"";
    assert!(written.contains(hook), "the sample where the archive has it");
}

#[test]
fn answers_that_do_not_fit_together_are_refused_and_nothing_is_made() {
    let home = Home::new();
    let (watch, output) = (home.text("in"), home.text("in/out"));
    let run = home.init(&["--yes", "--watch", &watch, "--output", &output], "");
    assert_eq!(run.status.code(), Some(64), "{}", text(&run));
    let place = format!("{}:", home.text("slomod.toml"));
    let is_said = |it: &str| text(&run).contains(it);
    assert!(is_said(&place) && is_said("watched folder"), "{}", text(&run));
    assert!(is_said("nothing was written"), "{}", text(&run));
    let run = home.init(&["--yes", "--watch", &watch, "--output", "~/out"], "");
    assert!(text(&run).contains("--output ~/out: write the path without ~"), "{}", text(&run));
    assert!(!home.path("slomod.toml").exists() && !home.path("in").exists());
}
