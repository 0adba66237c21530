//! What is said on the command line: what is accepted, and what is said of the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/schema.rs"]
mod schema;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with `in.mp4`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.4", "in.mp4"]);
        assert!(command.current_dir(place.0.path()).status().unwrap().success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The quickest conversion.
    fn convert(&self, args: &[&str]) -> Output {
        let usual = ["--model", "blend", "--device", "cpu", "--quality-samples", "0"];
        Command::new(env!("CARGO_BIN_EXE_slomod"))
            .args([&["convert"], args, &usual].concat())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// It ends with `exit`, says all of `words` and leaves nothing.
    fn refused(&self, args: &[&str], exit: i32, words: &[&str]) {
        let before = names(self.0.path());
        let run = self.convert(args);
        assert_eq!(run.status.code(), Some(exit), "{args:?}: {}", said(&run));
        for word in words {
            assert!(said(&run).contains(word), "{args:?}: no `{word}` in {}", said(&run));
        }
        assert_eq!(names(self.0.path()), before, "{args:?}");
    }
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = folder.read_dir().unwrap().map(|it| it.unwrap().path()).collect();
    names.sort();
    names
}

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

/// As the configuration's file has it, and as errors advise.
#[test]
fn the_word_auto_is_as_if_nothing_was_said() {
    let place = Place::new();
    let made = |args: &[&str]| {
        let run = place.convert(&[&["in.mp4", "--output", "o.mp4", "--overwrite"], args].concat());
        assert!(run.status.success(), "{args:?}: {}", said(&run));
        schema::read(&place.path("o.mp4.json"))
    };
    let plain = made(&[]);
    let auto = made(&["--crf", "auto", "--preset", "auto", "--factor", "auto", "--speed", "auto"]);
    assert_eq!(auto.settings, plain.settings);
    let (auto, plain) = (auto.output.unwrap(), plain.output.unwrap());
    assert_eq!(auto.encoder_options, plain.encoder_options);
    assert_eq!(auto.sha256, plain.sha256);
    let ffv1 = ["--codec", "ffv1", "--container", "mkv", "--crf", "auto", "--preset", "auto"];
    let run = place.convert(&[&["in.mp4", "--output", "o.mkv"], &ffv1[..]].concat());
    assert!(run.status.success(), "{}", said(&run));
}

#[test]
fn a_wrong_word_is_told_what_to_write() {
    let place = Place::new();
    let to = |args: &[&'static str]| [&["in.mp4", "--output", "o.mp4"], args].concat();
    for (args, words) in [
        (["--speed", "x"], "`x` is no speed: write 0.3 or 1/3"),
        (["--fps", "x"], "`x` is no rate: write 60, 59.94 or 60000/1001"),
        (["--factor", "17"], "use auto or a whole number, 2 to 16"),
        (["--crf", "x"], "use auto or a whole number"),
        (["--crf", "52"], "--crf: `crf` is 52: use auto or 0 to 51"),
    ] {
        place.refused(&to(&args), 64, &[words]);
    }
    // It would be written, and could not be read again.
    let why = ", with at most 9 decimals, and 10 digits";
    for (args, word) in [
        (["--speed", "0.333333333333333333"], "no speed"),
        (["--fps", "59.333333333333333333"], "no rate"),
        (["--input-fps", "59.3333333333"], "no rate"),
    ] {
        place.refused(&to(&args), 64, &[word, why]);
    }
    // It is the name that says the container here.
    let ffv1 = to(&["--codec", "ffv1"]);
    place.refused(&ffv1, 64, &["slomod: o.mp4: FFV1 does not go into mp4: use mkv or mov"]);
    let said = ["in.mp4", "--output", "o", "--codec", "ffv1", "--container", "mp4"];
    place.refused(&said, 64, &["--container: FFV1 does not go into mp4"]);
}

#[test]
fn a_name_and_an_option_do_not_say_two_containers() {
    let place = Place::new();
    for (output, container, word) in [
        ("o.mp4", "mkv", "its name says mp4 and --container says mkv; end it in .mkv"),
        ("o.M4V", "mov", "its name says mp4 and --container says mov; end it in .mov"),
    ] {
        let args = ["in.mp4", "--output", output, "--container", container];
        place.refused(&args, 64, &[output, word]);
    }
    for (output, container) in [("o.MKV", "mkv"), ("o.out", "mkv"), ("o.m4v", "mp4")] {
        let run = place.convert(&["in.mp4", "--output", output, "--container", container]);
        assert!(run.status.success(), "{output}: {}", said(&run));
    }
}
