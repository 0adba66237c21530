//! The command line as a user meets it: exit codes, messages that name the file, nothing left half done.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;
#[path = "support/schema.rs"]
mod schema;
#[path = "support/skip.rs"]
mod skip;

use common::layouts::{ALL, Layout};
use sha2::{Digest, Sha256};
use skip::skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SLOMOD: &str = env!("CARGO_BIN_EXE_slomod");

fn slomod(args: &[&str]) -> Output {
    Command::new(SLOMOD).args(args).stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn clip(folder: &Path, seconds: &str) -> PathBuf {
    let path = folder.join("in.mp4");
    let source = format!("testsrc2=s=128x96:r=10:d={seconds}");
    let tone = format!("sine=f=440:d={seconds}");
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source, "-f", "lavfi", "-i", &tone])
        .arg(&path)
        .status()
        .unwrap();
    assert!(run.success());
    path
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_clip_becomes_slow_motion_with_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let input = clip(folder.path(), "1");
    let output = folder.path().join("out.mp4");
    let args = [
        "convert",
        input.to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
        "--factor",
        "2",
        "--json",
        "--device",
        "cpu",
    ];
    let run = slomod(&args);
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    assert!(stderr(&run).contains("frames in, "), "a log gets plain lines: {}", stderr(&run));
    assert_eq!(names(folder.path()), ["in.mp4", "out.mp4", "out.mp4.json"]);
    let printed: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(printed["status"], "done");
    assert_eq!(printed["output"]["frames"]["total"], 20);
    assert_eq!(printed["source"]["sha256"], printed["source"]["sha256_after"]);
    assert_eq!(printed["device"]["fallback"], false, "the processor was asked for");
    assert_eq!(schema::faults(&printed), Vec::<String>::new());
    let written = schema::read(&folder.path().join("out.mp4.json"));
    assert_eq!(written.output.unwrap().sha256, printed["output"]["sha256"]);

    let again = slomod(&args);
    assert_eq!(code(&again), 73);
    assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
}

#[test]
fn wrong_arguments_end_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let input = clip(folder.path(), "0.5");
    let (input, output) = (input.to_str().unwrap(), folder.path().join("out.mp4"));
    let output = output.to_str().unwrap();
    for args in [
        &[][..],
        &["nonsense"],
        &["convert", input],
        &["convert", input, "--output", output, "--factor", "1"],
        &["convert", input, "--output", output, "--factor", "17"],
        &["convert", input, "--output", output, "--fps", "fast"],
        &["convert", input, "--output", output, "--fps", "9"],
        &["convert", input, "--output", output, "--fps", "321"],
        &["convert", input, "--output", output, "--speed", "2"],
        &["convert", input, "--output", output, "--factor", "4", "--speed", "0.5"],
        &["convert", input, "--output", output, "--mode", "smooth", "--factor", "2", "--fps", "60"],
        &["convert", input, "--output", output, "--scale", "3"],
        &["convert", input, "--output", output, "--device", "tpu"],
        &["convert", input, "--output", input, "--overwrite"],
        &["convert", input, "--output", "/tmp/out.webm"],
        &["convert", input, "--output", output, "--codec", "ffv1"],
        &["convert", input, "--output", "/tmp/out.mov", "--codec", "av1"],
        &["convert", input, "--output", "/tmp/out.mkv", "--codec", "ffv1", "--crf", "3"],
        &["convert", input, "--output", output, "--crf", "52"],
        &["convert", input, "--output", output, "--preset", "quick"],
        &["convert", input, "--output", output, "--threads", "1025"],
        &["interpolate", input, input, output, "--threads", "1025"],
        &["evaluate", input, "--threads", "1025"],
    ] {
        let run = slomod(args);
        assert_eq!(code(&run), 64, "{args:?}: {}", stderr(&run));
        assert!(!stderr(&run).is_empty(), "{args:?} says nothing");
    }
    assert_eq!(names(folder.path()), ["in.mp4"]);
}

/// Bytes that a conversion had at the most.
fn peak_bytes(folder: &Path, source: &str, args: &[&str]) -> u64 {
    let input = folder.join("source.mp4");
    let drawn = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", source, "-preset", "ultrafast"])
        .arg(&input)
        .status()
        .unwrap();
    assert!(drawn.success());
    let (input, output) = (input.to_str().unwrap(), folder.join("out.mp4"));
    let ends = ["convert", input, "--output", output.to_str().unwrap(), "--overwrite", "--json"];
    let run = slomod(&[&ends[..], &["--device", "cpu"], args].concat());
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    let printed: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    printed["timing"]["rss_peak_bytes"].as_u64().unwrap()
}

#[test]
fn memory_is_bounded_and_does_not_grow_with_the_clip() {
    let folder = tempfile::tempdir().unwrap();
    // More frames than the encoder looks ahead.
    let network = ["--factor", "4", "--quality-samples", "2"];
    let full = peak_bytes(folder.path(), "testsrc2=s=1920x1080:r=25:d=0.44", &network);
    println!("1920x1080 with the starter: {} MB", full / 1_000_000);
    assert!(full < 1_500_000_000, "{full} bytes");
    // The widths that v4.25 and v4.26 are published with, and random weights.
    let published = Layout { widths: &[192, 128, 96, 64, 32], ..ALL[12] };
    let model = folder.path().join("v4.26.safetensors");
    std::fs::write(&model, published.file(1)).unwrap();
    let published = [&network[..], &["--model", model.to_str().unwrap()]].concat();
    let full = peak_bytes(folder.path(), "testsrc2=s=1920x1080:r=25:d=0.44", &published);
    println!("1920x1080 with all of v4.26: {} MB", full / 1_000_000);
    assert!(full < 1_500_000_000, "{full} bytes");
    let of_length = |seconds: u32| {
        let source = format!("testsrc2=s=96x64:r=25:d={seconds}");
        let fast = ["--factor", "2", "--model", "blend", "--preset", "ultrafast"];
        peak_bytes(folder.path(), &source, &fast)
    };
    let (short, long) = (of_length(4), of_length(120));
    println!("100 frames: {} MB, 3000 frames: {} MB", short / 1_000_000, long / 1_000_000);
    assert!(long < short + 32_000_000, "{short} bytes, then {long}");
}

/// On a terminal, which `script` stands for.
#[test]
fn progress_is_a_bar_on_a_terminal_and_lines_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let input = clip(folder.path(), "2");
    let output = folder.path().join("out.mp4");
    let arguments = ["convert", input.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let arguments =
        [&arguments[..], &["--model", "blend", "--factor", "16", "--overwrite"]].concat();
    let lines = stderr(&slomod(&arguments));
    assert!(lines.contains(" frames in, ") && lines.contains(" fps"), "{lines}");
    assert!(!lines.contains('\u{1b}'), "no colors and no moves in a log: {lines}");
    let command = format!("{SLOMOD} {}", arguments.join(" "));
    let on_terminal = |kind: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("TERM", kind).output()
    };
    let (Ok(run), Ok(plain)) = (on_terminal("xterm"), on_terminal("dumb")) else {
        skip("no `script` of util-linux");
        return;
    };
    let shown = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(code(&run), 0, "{shown}");
    let bar = shown.split(['\r', '\n']).rfind(|it| it.contains("converting ")).unwrap_or_default();
    for part in [" %  ", " frames, ", " fps  left "] {
        assert!(bar.contains(part), "no `{part}` in {shown:?}");
    }
    let plain = String::from_utf8_lossy(&plain.stdout);
    assert!(plain.contains(" frames in, "), "one that can show no bar: {plain:?}");
}

#[test]
fn quality_and_preset_reach_every_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let input = clip(folder.path(), "0.5");
    for (codec, presets) in
        [("h264", ["ultrafast", "slow"]), ("h265", ["ultrafast", "slow"]), ("av1", ["12", "6"])]
    {
        let size = |crf: &str, preset: &str| {
            let output = folder.path().join("out.mkv");
            let run = slomod(&[
                "convert",
                input.to_str().unwrap(),
                "--output",
                output.to_str().unwrap(),
                "--overwrite",
                "--model",
                "blend",
                "--factor",
                "2",
                "--audio",
                "drop",
                "--codec",
                codec,
                "--crf",
                crf,
                "--preset",
                preset,
            ]);
            assert_eq!(code(&run), 0, "{codec}: {}", stderr(&run));
            output.metadata().unwrap().len()
        };
        let (fine, coarse) = (size("12", presets[0]), size("45", presets[0]));
        assert!(2 * coarse < fine, "{codec}: {coarse} bytes at 45, {fine} at 12");
        assert_ne!(fine, size("12", presets[1]), "{codec}");
    }
}

#[test]
fn a_report_is_written_where_it_is_asked_for_also_of_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let input = clip(folder.path(), "0.3");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let convert = |input: &str, report: &str| {
        let output = path("out.mp4");
        let ends = ["convert", input, "--output", &output, "--overwrite", "--report", report];
        slomod(&[&ends[..], &["--model", "blend", "--factor", "2"]].concat())
    };
    let run = convert(input.to_str().unwrap(), &path("done.json"));
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    assert_eq!(names(folder.path()), ["done.json", "in.mp4", "out.mp4"]);
    assert!(schema::read(Path::new(&path("done.json"))).output.is_some());
    std::fs::write(path("text.mp4"), "no video\n".repeat(1000)).unwrap();
    assert_eq!(code(&convert(&path("text.mp4"), &path("refused.json"))), 65);
    let refused = schema::read(Path::new(&path("refused.json")));
    let expected = digest(Path::new(&path("text.mp4")));
    assert_eq!((refused.output, refused.source.sha256), (None, Some(expected)));
    // Also where it ended before the clip was looked at.
    let args = ["--model", &path("none.safetensors"), "--json", "--output", &path("out2.mp4")];
    let run = slomod(&[&["convert", input.to_str().unwrap()][..], &args].concat());
    let failed = schema::checked(&run.stdout);
    assert_eq!((failed.errors.len(), failed.source.sha256), (1, Some(digest(&input))));
}

#[test]
fn each_kind_of_failure_has_its_code_and_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let input = clip(folder.path(), "0.5");
    let text = folder.path().join("text.mp4");
    std::fs::write(&text, "no video\n".repeat(1000)).unwrap();
    let weights = folder.path().join("weights.safetensors");
    std::fs::write(&weights, "no weights").unwrap();
    let (input, text, weights) =
        (input.to_str().unwrap(), text.to_str().unwrap(), weights.to_str().unwrap());
    let output = folder.path().join("out.mp4");
    let output = output.to_str().unwrap();
    for (expected, word, args) in [
        (65, "text.mp4: it is no video, or of a kind", &["convert", text, "--output", output][..]),
        (69, "cuda", &["convert", input, "--output", output, "--device", "cuda:1000"]),
        (73, "/no/such/folder", &["convert", input, "--output", "/no/such/folder/out.mp4"]),
        (74, "missing.mp4", &["convert", "/missing.mp4", "--output", output]),
        (65, "weights.safetensors", &["import", weights, output]),
        (74, "/missing.pkl", &["import", "/missing.pkl", output]),
        (78, "weights.safetensors", &["convert", input, "--output", output, "--model", weights]),
        (
            78,
            "; `slomod init --config /none.toml` writes one",
            &["check", "--config", "/none.toml"],
        ),
        (78, "none.toml", &["daemon", "--config", "/none.toml"]),
    ] {
        let run = slomod(args);
        assert_eq!(code(&run), expected, "{args:?}: {}", stderr(&run));
        let said = stderr(&run) + &String::from_utf8_lossy(&run.stdout);
        assert!(said.contains(word), "{args:?}: {said}");
    }
    assert_eq!(names(folder.path()), ["in.mp4", "text.mp4", "weights.safetensors"]);
}

/// V22. Nobody waits for the rest here, so it is refused at once, and the message helps whoever has only this.
#[test]
fn a_clip_without_its_end_is_refused_and_what_is_left_can_be_converted() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let source = "testsrc2=s=160x96:r=25:d=2";
    let ffmpeg = |args: &[&str]| {
        let run = Command::new("ffmpeg").args(["-v", "fatal", "-y"]).args(args).status().unwrap();
        assert!(run.success(), "{args:?}");
    };
    let convert = |input: &str, output: &str, more: &[&str]| {
        let args = ["convert", input, "--output", output, "--model", "blend", "--factor", "2"];
        slomod(&[&args[..], &["--quality-samples", "0"], more].concat())
    };
    let fragments = ["-g", "12", "-movflags", "frag_keyframe+empty_moov"];
    for (name, options) in [
        ("cut.mkv", &["-g", "12"][..]),
        ("cut.webm", &["-c:v", "libvpx", "-g", "12"]),
        ("cut.avi", &["-c:v", "mpeg4"]),
        ("cut.mp4", &fragments),
    ] {
        let input = path(name);
        ffmpeg(&[&["-f", "lavfi", "-i", source][..], options, &[&input]].concat());
        let bytes = std::fs::read(&input).unwrap();
        std::fs::write(&input, &bytes[..bytes.len() * 6 / 10]).unwrap();
        let before = names(folder.path());
        for (output, more) in
            [("out.mov", &[][..]), ("out.mkv", &["--profile", "evidence"]), ("out/%04d.png", &[])]
        {
            let run = convert(&input, &path(output), more);
            assert_eq!(code(&run), 65, "{name} to {output}: {}", stderr(&run));
            let extension = name.rsplit('.').next().unwrap();
            let advice = format!("`ffmpeg -i CLIP -c copy NEW.{extension}`");
            assert!(stderr(&run).contains(&advice), "{}", stderr(&run));
            assert_eq!(names(folder.path()), before, "{name} to {output}");
        }
        let rest = path(&format!("rest-{name}"));
        ffmpeg(&["-i", &input, "-c", "copy", &rest]);
        let run = convert(&rest, &path(&format!("of-{name}.mkv")), &[]);
        assert_eq!(code(&run), 0, "{name}: {}", stderr(&run));
    }
}

#[test]
fn help_is_there_for_every_command() {
    for command in [
        "convert",
        "interpolate",
        "evaluate",
        "verify",
        "check",
        "init",
        "status",
        "retry",
        "pause",
        "resume",
        "cancel",
        "rescan",
        "reload",
        "metrics",
        "import",
        "systemd-dropin",
        "daemon",
        "demo",
    ] {
        let run = slomod(&[command, "--help"]);
        assert_eq!(code(&run), 0, "{command}");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(text.contains(&format!("Usage: slomod {command}")) && text.len() > 150, "{text}");
        assert!(text.contains("-h, --help"), "{text}");
    }
    let all = String::from_utf8_lossy(&slomod(&["--help"]).stdout).into_owned();
    let lines = all.lines().filter_map(|it| it.strip_prefix("  "));
    let listed = lines.filter(|it| it.starts_with(char::is_alphabetic));
    let words = listed.filter_map(|it| it.split_whitespace().next());
    for command in words.filter(|it| *it != "help") {
        assert_eq!(code(&slomod(&[command, "--help"])), 0, "{command}");
    }
}

/// No line at the end of a help text ends where the first word of the next would have had room: it would have been broken
/// twice, in the source and on the screen.
#[test]
fn the_ends_of_help_texts_are_not_ragged() {
    let width = 100;
    let mut looked_at = 0;
    for command in
        ["daemon", "init", "verify", "evaluate", "systemd-dropin", "convert", "interpolate", "demo"]
    {
        let mut help = Command::new(SLOMOD);
        let run = help.args([command, "--help"]).env("COLUMNS", width.to_string()).output();
        let text = String::from_utf8(run.unwrap().stdout).unwrap();
        let lines: Vec<&str> = text.split("\nOptions:\n").nth(1).unwrap().lines().collect();
        for pair in lines.windows(2).filter(|it| it[0].starts_with(|c: char| !c.is_whitespace())) {
            assert!(pair[0].chars().count() <= width, "{command}: {}", pair[0]);
            looked_at += 1;
            // Headings stand alone, and what is indented begins a line of its own.
            let next = pair[1].split(' ').next().unwrap_or_default();
            if !next.is_empty() {
                let with_next = pair[0].chars().count() + 1 + next.chars().count();
                assert!(with_next > width, "{command}: `{}` is broken before `{next}`", pair[0]);
            }
        }
    }
    assert!(looked_at > 10, "{looked_at}");
}

#[test]
fn check_says_what_works_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = |output: &str| {
        let config = format!(
            "[daemon]\nstate_dir = {:?}\n[[watch]]\npath = {:?}\noutput = {output:?}\n\
             on_success = \"move\"\noriginals = {:?}\n[[hook]]\ncommand = [\"/bin/true\"]\n\
             [[hook]]\ncommand = [\"/bin/missing\"]\n[[hook]]\ncommand = [{:?}]\n",
            path("state"),
            path("drop"),
            path("done/deep"),
            path("slomod.toml")
        );
        std::fs::write(path("slomod.toml"), config).unwrap();
        let run = slomod(&["check", "--config", &path("slomod.toml")]);
        (code(&run), String::from_utf8_lossy(&run.stdout).into_owned())
    };
    let line = |said: &str, end: &str| {
        said.lines().find(|it| it.contains(end)).unwrap_or_default().to_owned()
    };
    // A watched folder is never made.
    let (missing, said) = config(&path("out"));
    assert_eq!(missing, 78, "{said}");
    assert!(line(&said, "/drop (watched)").starts_with("FAIL"), "{said}");
    std::fs::create_dir(path("drop")).unwrap();
    let (made, said) = config(&path("out"));
    assert_eq!(made, 0, "{said}");
    for end in ["/state (state)", "/out (output)", "/done/deep (originals)"] {
        let (line, made) = (line(&said, end), format!("makes it in {}:", folder.path().display()));
        assert!(line.starts_with("warn") && line.contains(&made), "{end}: {said}");
    }
    for (end, how) in [("/bin/true (", "ok"), ("/missing (", "warn"), ("/slomod.toml (", "warn")] {
        assert!(line(&said, end).starts_with(how), "{end}: {said}");
    }
    // Not even the system's administrator can make a folder in /proc.
    std::os::unix::fs::symlink("/nowhere", path("link")).unwrap();
    for never in ["/proc/out", &path("link")] {
        let (never_made, said) = config(never);
        assert_eq!(never_made, 78, "{said}");
        assert!(line(&said, &format!("{never} (output)")).starts_with("FAIL"), "{said}");
    }
    config(&path("out"));
    for made in ["state", "out", "done/deep"] {
        std::fs::create_dir_all(path(made)).unwrap();
    }
    let good = slomod(&["check", "--config", &path("slomod.toml"), "--json"]);
    assert_eq!(code(&good), 0, "{}", String::from_utf8_lossy(&good.stdout));
    let findings: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    let has =
        |subject: &str| findings.as_array().unwrap().iter().any(|it| it["subject"] == subject);
    assert!(["config", "folder", "model", "device", "encoder"].into_iter().all(has), "{findings}");
    // The daemon would wait for more room than there is.
    let text = std::fs::read_to_string(path("slomod.toml")).unwrap();
    let text = text.replace("[daemon]", "[daemon]\nreserve = \"900000GiB\"");
    std::fs::write(path("slomod.toml"), text).unwrap();
    let full = slomod(&["check", "--config", &path("slomod.toml")]);
    let said = String::from_utf8_lossy(&full.stdout).into_owned();
    let of_output = said.lines().find(|it| it.contains("/out (output)")).unwrap_or_default();
    assert!(of_output.starts_with("warn") && of_output.contains("`reserve` keeps"), "{said}");
    assert_eq!(code(&full), 0, "{said}");
    assert!(!has("journal"), "{findings}");
    drop(slomod::daemon::journal::Journal::open(path("state").as_ref()).unwrap());
    let file = path("state/journal.sqlite");
    for (damage, exit, said) in [
        ("", 0, "history of 0 events is as it was written; the last hash is 00"),
        ("UPDATE events_head SET events = 3", 78, "history has 0 events, and 3 were written"),
        (
            "INSERT INTO jobs (id, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings, settings_sha256,
                               state, next_try_ms, queued_ms)
             VALUES (8, '/in', x'61', 1, 1, 1, '', '', '', 'queued', 1, 1);
             INSERT INTO events VALUES (5, 8, 1, 1000, 'done', '', '', '', x'00')",
            78,
            "from event 5 on (job 8, `done`, 1970-01-01T00:00:01Z)",
        ),
    ] {
        rusqlite::Connection::open(&file).unwrap().execute_batch(damage).unwrap();
        let checked = slomod(&["check", "--config", &path("slomod.toml")]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(code(&checked) == exit && text.contains(said), "{said}: {text}");
    }
}
