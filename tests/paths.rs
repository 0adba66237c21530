//! Where commands write, and what they read: nothing that is read is written, nothing is replaced without being asked for,
//! and nothing is waited for that never comes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/exif.rs"]
mod exif;
#[path = "support/schema.rs"]
mod schema;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use image::{ImageBuffer, Rgb, RgbImage};
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;

/// Longest that a command may take to refuse, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with `in.mp4` and the pictures `frames/1.png` to `frames/4.png`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("frames")).unwrap();
        place.ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.4", "in.mp4"]);
        place.ffmpeg(&["-i", "in.mp4", "frames/%d.png"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ffmpeg(&self, args: &[&str]) {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y"]).args(args).current_dir(self.0.path());
        assert!(command.status().unwrap().success(), "{args:?}");
    }

    fn slomod(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// The quickest conversion.
    fn convert(&self, args: &[&str]) -> Output {
        let usual = ["--model", "blend", "--device", "cpu", "--factor", "2"];
        self.slomod(&[&["convert"], args, &usual, &["--quality-samples", "0"]].concat())
    }

    /// It ends with `exit`, says `word` and changes nothing.
    fn refused(&self, args: &[&str], exit: i32, word: &str) {
        let before = contents(self.0.path());
        let run = self.convert(args);
        assert_eq!(run.status.code(), Some(exit), "{args:?}: {}", said(&run));
        assert!(said(&run).contains(word), "{args:?}: no `{word}` in {}", said(&run));
        assert!(!said(&run).contains("frames in"), "{args:?}: it worked first: {}", said(&run));
        assert!(contents(self.0.path()) == before, "{args:?} changed something");
    }
}

/// Every file below a folder, by its name.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.is_file() {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

fn is_done(report: &Path) -> bool {
    schema::read(report).output.is_some()
}

#[test]
fn a_report_never_replaces_what_is_read_or_made() {
    let place = Place::new();
    fs::write(place.path("cuts.txt"), "0.2\n").unwrap();
    fs::hard_link(place.path("in.mp4"), place.path("again.mp4")).unwrap();
    std::os::unix::fs::symlink("in.mp4", place.path("link.mp4")).unwrap();
    let here = place.path("o.mp4").display().to_string();
    for report in ["in.mp4", "./in.mp4", "again.mp4", "link.mp4", "cuts.txt", "o.mp4", &here] {
        for also in [&[][..], &["--overwrite"]] {
            let args =
                ["in.mp4", "--output", "o.mp4", "--report", report, "--cut-list", "cuts.txt"];
            place.refused(&[&args[..], also].concat(), 64, "another report");
        }
    }
    for beside in
        ["o.mp4.html", "o.mp4.frames.csv", "o.mp4.streams.jsonl", "o.mp4.frame-000001.png"]
    {
        let args = ["in.mp4", "--output", "o.mp4", "--report", beside];
        place.refused(&args, 64, "another report");
    }
    let pictures = ["frames", "--input-fps", "10", "--output"];
    for (output, report, also) in [
        ("o.mp4", "frames/2.png", &["--overwrite"][..]),
        ("o.mp4", "o.mp4", &["--overwrite"]),
        ("made/%02d.png", "frames/2.png", &[]),
        ("made/%02d.png", "made/03.png", &[]),
    ] {
        let args = [&pictures[..], &[output, "--report", report], also].concat();
        place.refused(&args, 64, "another report");
    }
}

#[test]
fn a_report_that_is_there_is_replaced_only_where_that_is_asked_for() {
    let place = Place::new();
    fs::write(place.path("notes.txt"), "mine").unwrap();
    let to_clip = ["in.mp4", "--output", "o.mp4", "--report", "notes.txt"];
    place.refused(&to_clip, 73, "notes.txt: is there already");
    let pictures = ["frames", "--input-fps", "10", "--output"];
    for output in ["o.mp4", "made/%d.png"] {
        let args = [&pictures[..], &[output, "--report", "notes.txt"]].concat();
        place.refused(&args, 73, "notes.txt: is there already");
    }
    fs::write(place.path("made.json"), "mine").unwrap();
    place.refused(&[&pictures[..], &["made/%d.png"]].concat(), 73, "made.json: is there already");
    let run = place.convert(&[&to_clip[..], &["--overwrite"]].concat());
    assert!(run.status.success(), "{}", said(&run));
    assert!(is_done(&place.path("notes.txt")));
    // A folder for the pictures that is made with them holds their report as well.
    let run = place.convert(&[&pictures[..], &["new/%d.png", "--report", "new/r.json"]].concat());
    assert!(run.status.success(), "{}", said(&run));
    assert!(is_done(&place.path("new/r.json")));
}

#[test]
fn a_failure_replaces_the_report_of_an_earlier_success() {
    let place = Place::new();
    let args = |input| ["convert", input, "--output", "o.mp4", "--report", "r.json"];
    let convert = |input, also: &[&str]| place.convert(&[&args(input)[1..], also].concat());
    let run = convert("in.mp4", &[]);
    assert!(run.status.success() && is_done(&place.path("r.json")), "{}", said(&run));
    let output = fs::read(place.path("o.mp4")).unwrap();
    fs::write(place.path("text.mp4"), "no video\n".repeat(1000)).unwrap();
    let run = convert("text.mp4", &["--overwrite"]);
    assert_eq!(run.status.code(), Some(65), "{}", said(&run));
    assert!(said(&run).contains("report: r.json"), "{}", said(&run));
    assert!(!is_done(&place.path("r.json")), "it still says `done`");
    assert_eq!(fs::read(place.path("o.mp4")).unwrap(), output);
    assert!(!place.path("r~2.json").exists());
    // Also where there is nothing to read.
    assert!(convert("in.mp4", &["--overwrite"]).status.success());
    assert!(is_done(&place.path("r.json")));
    let run = convert("missing.mp4", &["--overwrite"]);
    assert_eq!(run.status.code(), Some(74), "{}", said(&run));
    assert!(said(&run).contains("missing.mp4: cannot be read"), "{}", said(&run));
    assert!(!is_done(&place.path("r.json")), "it still says `done`");
    // The same of pictures.
    fs::write(place.path("frames/3.png"), "no picture").unwrap();
    fs::copy(place.path("o.mp4"), place.path("r.json")).unwrap();
    let pictures = ["frames", "--input-fps", "10", "--output", "o.mp4", "--report", "r.json"];
    let run = place.convert(&[&pictures[..], &["--overwrite"]].concat());
    assert_eq!(run.status.code(), Some(65), "{}", said(&run));
    assert!(said(&run).contains("report: r.json"), "{}", said(&run));
    assert!(!is_done(&place.path("r.json")));
}

#[test]
fn places_where_nothing_can_be_written_are_refused_before_the_work() {
    let place = Place::new();
    let pictures = ["frames", "--input-fps", "10", "--output", "made/%d.png"];
    // Not even the system's administrator can make a file in /proc.
    for report in ["/no/such/r.json", "frames", "/proc/r.json"] {
        let args = ["in.mp4", "--output", "o.mp4", "--report", report];
        place.refused(&args, 73, report);
        place.refused(&[&args[..], &["--overwrite"]].concat(), 73, report);
        place.refused(&[&pictures[..], &["--report", report]].concat(), 73, report);
    }
    place.refused(&["in.mp4", "--output", "/proc/o.mp4"], 73, "/proc/o.mp4: cannot be written");
}

#[test]
fn an_output_has_the_name_it_was_given_or_none() {
    let place = Place::new();
    let args = ["in.mp4", "--output", "o.mp4", "--page", "--frame-list"];
    for (taken, also) in [
        ("o.mp4", &[][..]),
        ("o.mp4.json", &[]),
        ("o.mp4.html", &[]),
        ("o.mp4.frames.csv", &[]),
        ("o.mp4.streams.jsonl", &[]),
        ("o.mp4.frame-000007.png", &["--still", "0.1"]),
        ("o.mp4.compare.mp4", &["--comparison", "side"]),
    ] {
        fs::write(place.path(taken), "mine").unwrap();
        let said = format!("{taken}: is there already");
        place.refused(&[&args[..], also].concat(), 73, &said);
        fs::remove_file(place.path(taken)).unwrap();
    }
    // What is not made does not stand in the way.
    fs::write(place.path("o.mp4.html"), "mine").unwrap();
    fs::write(place.path("o.mp4.txt"), "mine").unwrap();
    let run = place.convert(&["in.mp4", "--output", "o.mp4"]);
    assert!(run.status.success() && place.path("o.mp4").is_file(), "{}", said(&run));
    assert_eq!(fs::read(place.path("o.mp4.html")).unwrap(), b"mine");
    let run = place.convert(&["in.mp4", "--output", "o.mp4", "--page", "--overwrite"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_ne!(fs::read(place.path("o.mp4.html")).unwrap(), b"mine");
}

/// A name that is taken during the work fails it, as nobody asked for another.
#[test]
fn a_name_that_is_taken_during_the_work_is_left_alone() {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .args(["convert", "in.mp4", "--output", "o.mp4", "--device", "cpu", "--factor", "16"])
        .current_dir(place.0.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = |name: &str| name.starts_with(".o.");
    let names = || fs::read_dir(place.0.path()).unwrap().map(|it| it.unwrap().file_name());
    let start = Instant::now();
    while !names().any(|it| begun(it.to_str().unwrap())) {
        assert!(start.elapsed() < PATIENCE, "the work never started");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote");
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::write(place.path("o.mp4"), "mine").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(73));
    assert_eq!(fs::read(place.path("o.mp4")).unwrap(), b"mine");
    assert_eq!(names().count(), 3, "{:?}", names().collect::<Vec<_>>());
}

/// Nobody writes to the pipe: whoever opened it would wait without an end.
#[test]
fn what_is_no_file_is_not_waited_for() {
    let place = Place::new();
    let made = Command::new("mkfifo").arg(place.path("pipe")).status().unwrap();
    assert!(made.success());
    fs::create_dir(place.path("piped")).unwrap();
    fs::copy(place.path("frames/1.png"), place.path("piped/1.png")).unwrap();
    fs::rename(place.path("pipe"), place.path("piped/2.png")).unwrap();
    std::os::unix::fs::symlink("piped/2.png", place.path("pipe")).unwrap();
    fs::create_dir(place.path("triplet")).unwrap();
    for (name, from) in [("frame10.png", "1"), ("frame11.png", "2")] {
        let from = place.path(&format!("frames/{from}.png"));
        fs::copy(from, place.path("triplet").join(name)).unwrap();
    }
    std::os::unix::fs::symlink("../piped/2.png", place.path("triplet/gt.png")).unwrap();
    let png = "frames/1.png";
    for (exit, args) in [
        (65, &["convert", "pipe", "--output", "o.mp4"][..]),
        (65, &["convert", "pipe", "--output", "made/%d.png"]),
        (65, &["convert", "pipe", "--output", "o.mp4", "--json"]),
        (65, &["convert", "pipe", "--output", "made/%d.png", "--json"]),
        (65, &["convert", "/dev/zero", "--output", "o.mp4"]),
        (65, &["convert", "piped", "--input-fps", "10", "--output", "o.mp4"]),
        (78, &["convert", "in.mp4", "--output", "o.mp4", "--model", "pipe"]),
        (64, &["convert", "in.mp4", "--output", "o.mp4", "--cut-list", "pipe"]),
        (73, &["convert", "in.mp4", "--output", "pipe", "--container", "mp4", "--overwrite"]),
        (73, &["convert", "in.mp4", "--output", "o.mp4", "--report", "pipe", "--overwrite"]),
        (65, &["interpolate", "pipe", png, "--output", "o.png"]),
        (65, &["interpolate", png, "pipe", "--output", "o.png"]),
        (65, &["evaluate", "triplet", "--model", "blend"]),
        (65, &["import", "pipe", "o.safetensors"]),
        (65, &["verify", "pipe"]),
        (65, &["demo", "--clip", "pipe", "--dir", "d"]),
    ] {
        let before = contents(place.0.path());
        let mut child = Command::new(env!("CARGO_BIN_EXE_slomod"))
            .args(args)
            .current_dir(place.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{args:?} waits");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let run = child.wait_with_output().unwrap();
        assert_eq!(run.status.code(), Some(exit), "{args:?}: {}", said(&run));
        let named = ["pipe", "piped/2.png", "gt.png", "/dev/zero"];
        assert!(named.into_iter().any(|it| said(&run).contains(it)), "{args:?}: {}", said(&run));
        assert!(contents(place.0.path()) == before, "{args:?} changed something");
    }
}

#[test]
fn import_replaces_nothing_unless_asked_and_its_input_never() {
    let place = Place::new();
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/models/starter.safetensors");
    fs::copy(starter, place.path("w.safetensors")).unwrap();
    fs::hard_link(place.path("w.safetensors"), place.path("same.safetensors")).unwrap();
    fs::write(place.path("there"), "mine").unwrap();
    for (args, exit, word) in [
        (&["w.safetensors", "w.safetensors", "--overwrite"][..], 64, "is the input too"),
        (&["w.safetensors", "./w.safetensors", "--overwrite"], 64, "is the input too"),
        (&["w.safetensors", "same.safetensors", "--overwrite"], 64, "is the input too"),
        (&["w.safetensors", "there"], 73, "--overwrite"),
        (&["w.safetensors", "new", "--version", "nonsense"], 64, "4.0 to 4.26"),
        (&["w.safetensors", "new", "--version", "4.27"], 64, "4.0 to 4.26"),
        (&["w.safetensors", "new", "--version", "4.2"], 65, "which version 4.2 is not"),
        (&["w.safetensors", "no/such/new"], 73, "no/such/new"),
    ] {
        let before = contents(place.0.path());
        let run = place.slomod(&[&["import"], args].concat());
        assert_eq!(run.status.code(), Some(exit), "{args:?}: {}", said(&run));
        assert!(said(&run).contains(word), "{args:?}: {}", said(&run));
        assert!(contents(place.0.path()) == before, "{args:?} changed something");
    }
    let run = place.slomod(&["import", "w.safetensors", "there", "--overwrite"]);
    assert!(run.status.success(), "{}", said(&run));
    // With the order that its blocks ask for.
    let network = |path: &Path| Network::read(&Weights::open(path).unwrap()).unwrap();
    assert_eq!(network(&place.path("there")).visits, network(Path::new(starter)).visits);
    assert_eq!(network(Path::new(starter)).visits.len(), 6);
}

/// Also under other names. Its folder is looked at before weights are.
#[test]
fn interpolate_never_replaces_its_inputs_and_needs_a_folder_to_write_in() {
    let place = Place::new();
    fs::hard_link(place.path("frames/1.png"), place.path("same.png")).unwrap();
    std::os::unix::fs::symlink("frames/2.png", place.path("link.png")).unwrap();
    fs::create_dir(place.path("folder.png")).unwrap();
    for (output, exit, word) in [
        ("frames/1.png", 64, "is the input too"),
        ("frames/2.png", 64, "is the input too"),
        ("frames/../frames/2.png", 64, "is the input too"),
        ("same.png", 64, "is the input too"),
        ("link.png", 64, "is the input too"),
        ("no/such/c.png", 73, "no/such/c.png: no file can be made there"),
        ("folder.png", 73, "folder.png: no file can be made there"),
        ("/proc/c.png", 73, "/proc/c.png: cannot be written"),
    ] {
        let before = contents(place.0.path());
        let ends = ["interpolate", "frames/1.png", "frames/2.png", "--output", output];
        // Weights that are not there are found when the network is loaded, with another exit code.
        let run = place.slomod(&[&ends[..], &["--overwrite", "--model", "missing"]].concat());
        assert_eq!(run.status.code(), Some(exit), "{output}: {}", said(&run));
        assert!(said(&run).contains(word), "{output}: {}", said(&run));
        assert!(contents(place.0.path()) == before, "{output}: something changed");
    }
}

/// A soft picture, wider than high, whose left is dark.
fn soft() -> RgbImage {
    ImageBuffer::from_fn(48, 32, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, 90]))
}

/// The bytes of a JPEG that says it is to be turned to the right by a quarter (EXIF orientation 6).
fn turned_jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut plain = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut plain, 98);
    picture.write_with_encoder(encoder).unwrap();
    exif::turned(&plain)
}

fn error(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    (squares.sum::<f64>() / a.as_raw().len() as f64).sqrt()
}

#[test]
fn jpegs_come_in_upright_and_go_out_fine() {
    let place = Place::new();
    fs::write(place.path("a.jpg"), turned_jpeg(&soft())).unwrap();
    let upright = image::imageops::rotate90(&soft());
    upright.save(place.path("b.png")).unwrap();
    for output in ["o.jpg", "o.png"] {
        let args = ["interpolate", "a.jpg", "b.png", "-t", "0", "--output", output];
        let run = place.slomod(&args);
        assert!(run.status.success(), "{}", said(&run));
    }
    let read = |name| image::open(place.path(name)).unwrap().to_rgb8();
    // Codes that two encodings of a soft picture move samples by.
    assert!(error(&read("o.jpg"), &upright) < 3.0, "{}", error(&read("o.jpg"), &upright));
    // Closer to what was encoded than the usual quality of 75.
    let mut usual = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut usual, 75);
    read("o.png").write_with_encoder(encoder).unwrap();
    let usual = image::load_from_memory(&usual).unwrap().to_rgb8();
    let (found, usual) = (error(&read("o.jpg"), &read("o.png")), error(&usual, &read("o.png")));
    assert!(found < 0.6 * usual, "{found}, and {usual} at 75");
}

/// Where there is no list, frames are not compared; nothing is said to be otherwise than the report says.
#[test]
fn frames_without_a_list_are_said_not_to_be_compared() {
    let place = Place::new();
    let run = place.convert(&["in.mp4", "--output", "o.mp4"]);
    assert!(run.status.success(), "{}", said(&run));
    let run = place.slomod(&["verify", "o.mp4.json", "--frames"]);
    assert_eq!(run.status.code(), Some(64), "{}", said(&run));
    let error = said(&run);
    assert!(
        error.contains("frames could not be compared") && !error.contains("not all"),
        "{error}"
    );
    fs::write(place.path("o.mp4"), "another").unwrap();
    let run = place.slomod(&["verify", "o.mp4.json", "--frames"]);
    assert_eq!(run.status.code(), Some(65), "{}", said(&run));
    assert!(said(&run).contains("not all is as the report says"), "{}", said(&run));
}
