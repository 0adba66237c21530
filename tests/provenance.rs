//! Which frames are real, from which the others were made, and what can be checked of it afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;
#[path = "common/turn.rs"]
mod turn;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use num_rational::Ratio;
use slomod::config::beside::Beside;
use slomod::config::settings::{Audio, Codec, Encoding, Mode, Profile, Settings};
use slomod::engine::blend::Blend;
use slomod::pipeline::Task;
use slomod::pipeline::beside;
use slomod::pipeline::convert::convert;
use slomod::pipeline::room;

use clips::{Place, run};
use turn::turn;

const MOVING: &[&str] = &["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-c:v", "ffv1"];

fn listed(codec: Codec) -> Settings {
    let encoding = Encoding { codec, preset: None, ..Encoding::default() };
    let beside = Beside { frame_list: true, ..Beside::default() };
    let (factor, audio) = (Some(4), Audio::Drop);
    Settings { factor, encoding, beside, audio, quality_samples: 3, ..Settings::default() }
}

/// Rows of the list of frames by the names of their columns.
fn rows(task: &Task) -> Vec<std::collections::BTreeMap<String, String>> {
    let path = beside::folder(&task.temporary).join(beside::FRAME_LIST);
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), names.len(), "{line}");
        names.iter().zip(cells).map(|(name, cell)| (name.to_string(), cell.to_owned())).collect()
    };
    lines.map(row).collect()
}

/// Hashes of a clip's frames, by the very command that a page for users gives.
fn framehash(page: &str, path: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(page)).unwrap();
    let end = text.find(" -hash sha256 -`").unwrap() + " -hash sha256 -".len();
    let start = text[..end].rfind("`ffmpeg ").unwrap() + "`ffmpeg ".len();
    let clip = path.to_str().unwrap();
    let words = text[start..end].split_whitespace();
    let words = words.map(|it| if it == "CLIP" { clip } else { it });
    let mut command = Command::new("ffmpeg");
    let run = command.args(["-v", "error", "-nostdin"]).args(words).output().unwrap();
    assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    lines.map(|it| it.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// V26: also of a clip that players turn, that has a cover, or whose rate changes.
#[test]
fn real_frames_of_a_lossless_output_are_the_decoders_by_anybodys_hash() {
    let place = Place::new();
    let plain = place.clip("in.mkv", MOVING);
    let cover =
        place.clip("cover.png", &["-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1"]);
    let (upright, cover) = (plain.to_str().unwrap(), cover.to_str().unwrap());
    let map = ["-map", "0", "-map", "1", "-c:v:0", "libx264", "-c:v:1", "copy"];
    let inputs = ["-i", upright, "-i", cover];
    let attached = ["-disposition:v:1", "attached_pic"];
    let covered = place.clip("covered.mp4", &[&inputs[..], &map, &attached].concat());
    let turned =
        place.clip("turned.mp4", &["-i", covered.to_str().unwrap(), "-map", "0", "-c", "copy"]);
    turn(&turned, 90);
    // Twice the rate from the middle on, of which FFmpeg by itself leaves frames out.
    let faster = ["-vf", "settb=1/1000,setpts=40*N-20*max(N-12\\,0)"];
    let times = ["-enc_time_base", "1/1000", "-fps_mode", "passthrough"];
    let faster = place.clip("faster.mkv", &[MOVING, &faster, &times].concat());
    for (source, output, page) in [
        (&plain, "out.mkv", "README.md"),
        (&turned, "out.mov", "README.ko.md"),
        (&faster, "faster.out.mkv", "README.md"),
    ] {
        let task = place.task(source, output, listed(Codec::Ffv1));
        let report = run(&task).unwrap();
        let (before, after) = (framehash(page, source), framehash(page, &task.temporary));
        let rows = rows(&task);
        assert_eq!((before.len(), after.len(), rows.len()), (25, 100, 100), "{output}");
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row["output_sha256"], after[index], "{output}: frame {index}");
            if row["kind"] == "synthesised" {
                assert_eq!(row["source_sha256"], "");
            } else {
                let shown: usize = row["source_frame"].parse().unwrap();
                assert_eq!(row["source_sha256"], before[shown], "{output}: frame {index}");
                assert_eq!(row["output_sha256"], before[shown], "{output}: frame {index}");
            }
        }
        let is_turned = report.source.rotation_degrees.is_some_and(|it| it % 180 == 90);
        assert_eq!(is_turned, output == "out.mov");
        let found = report.output.unwrap().real_frames.unwrap();
        assert_eq!((found.compared, found.identical), (28, 28), "25 real ones, 3 held at the end");
    }
}

/// V26: ten bits, and what a lossy encoder does to it is not hidden.
#[test]
fn real_frames_are_compared_at_any_depth_and_after_lossy_encoders() {
    let place = Place::new();
    let graph = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=0.5", "-pix_fmt", "yuv420p10le"];
    let source = place.clip("in.mkv", &[&graph[..], &["-c:v", "ffv1"]].concat());
    let report = run(&place.task(&source, "out.mkv", listed(Codec::Ffv1))).unwrap();
    let found = report.output.unwrap().real_frames.unwrap();
    assert_eq!((found.compared, found.identical), (8, 8));
    let report = run(&place.task(&source, "lossy.mkv", listed(Codec::H264))).unwrap();
    let found = report.output.unwrap().real_frames.unwrap();
    assert_eq!((found.compared, found.identical), (8, 0));
}

#[test]
fn every_made_frame_names_the_two_it_was_made_from_and_when() {
    let place = Place::new();
    let source = place.clip("in.mkv", MOVING);
    let smooth = Settings {
        mode: Mode::Smooth,
        factor: None,
        fps: Some(Ratio::from_integer(60)),
        ..listed(Codec::Ffv1)
    };
    let task = place.task(&source, "out.mkv", smooth);
    let report = run(&task).unwrap();
    let rows = rows(&task);
    assert_eq!(rows.len(), 60);
    let number = |text: &String| text.parse::<f64>().unwrap();
    for (index, row) in rows.iter().enumerate() {
        let time = index as f64 / 60.0;
        assert!((number(&row["time_s"]) - time).abs() < 1e-8);
        let (from, to) = (&row["source_time_s"], &row["next_source_time_s"]);
        let score = row["confidence"].parse::<f64>().ok();
        let in_gap = row["kind"] == "synthesised";
        assert_eq!(score.is_some_and(|it| (0.0..=1.0).contains(&it)), in_gap, "{row:?}");
        if row["kind"] == "synthesised" {
            let at = number(from) + number(&row["timestep"]) * (number(to) - number(from));
            assert!((at - time).abs() < 1e-3, "{row:?}");
        }
    }
    // The report says the same, run by run.
    let mut said = Vec::new();
    for section in &report.interpolation.unwrap().frame_map {
        for time in 0..section.repeat {
            let start = section.source_frame + time * section.source_frames;
            for run in &section.runs {
                for k in 0..run.count {
                    let step = if run.kind == "real" { k } else { 0 };
                    let timestep = run.timesteps.get(k as usize).map(f32::to_string);
                    let frame = (start + run.source_frame + step).to_string();
                    said.push((run.kind.clone(), frame, timestep.unwrap_or_default()));
                }
            }
        }
    }
    let of_row = |row: &std::collections::BTreeMap<String, String>| {
        ["kind", "source_frame", "timestep"].map(|name| row[name].clone()).into()
    };
    assert_eq!(said, rows.iter().map(of_row).collect::<Vec<(String, String, String)>>());
}

/// V26. What `output.repeatable` says, by the program itself: on one core and on all, with the network.
#[test]
fn another_run_makes_the_same_frames_where_the_report_says_so() {
    let place = Place::new();
    let graph = "testsrc2=s=320x180:r=25:d=0.6,noise=all_seed=1:alls=12:allf=t";
    let source = place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-c:v", "ffv1"]);
    // Those that this process may run on, as `0-3,6`.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = status.lines().find_map(|it| it.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = all.split([',', '-']).next().unwrap();
    let made = |name: &str, cores: &str, args: &[&str]| {
        let output = place.path(name);
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cores, env!("CARGO_BIN_EXE_slomod"), "convert"]);
        command.arg(&source).arg("--output").arg(&output).args(args);
        command.args(["--factor", "2", "--device", "cpu", "--threads", "2"]);
        command.args(["--frame-list", "--quality-samples", "0"]);
        let run = command.output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let beside = |end: &str| {
            let mut name = output.clone().into_os_string();
            name.push(end);
            name
        };
        let report = schema::read(Path::new(&beside(".json")));
        let output = report.output.unwrap();
        assert_eq!(output.frames.synthesised, 14);
        let found = output.repeatable.unwrap();
        assert!(found.same_frames, "{found:?}");
        let cores = found.given.iter().find(|it| it.what == "encoder_cores");
        let list = std::fs::read_to_string(beside(".frames.csv")).unwrap();
        (list, cores.map(|it| it.value.clone()))
    };
    let evidence = ["--profile", "evidence", "--comparison", "off", "--hold-below", "0"];
    for (codec, preset) in [
        ("ffv1", &[][..]),
        ("h264", &["--preset", "medium"][..]),
        ("h265", &["--preset", "veryfast"][..]),
    ] {
        let args = [&evidence[..], &["--codec", codec], preset];
        let extension = if codec == "ffv1" { "mov" } else { "mp4" };
        let one = made(&format!("{codec}.one.{extension}"), first, &args.concat());
        let many = made(&format!("{codec}.all.{extension}"), all, &args.concat());
        assert_eq!(one, many, "{codec}");
        assert_eq!(one.1, None, "{codec}");
    }
    // Elsewhere x264 goes by the cores, and the report says by how many.
    let args = ["--codec", "h264", "--preset", "medium", "--model", "blend"];
    let one = made("one.mp4", first, &args);
    assert_eq!(one.1.as_deref(), Some("1"));
    assert_eq!(made("again.mp4", first, &args), one);
    let many = made("all.mp4", all, &args);
    assert_eq!(many.1, Some(slomod::media::cores().to_string()));
    assert_eq!(made("all.again.mp4", all, &args), many);
}

/// Q08.
#[test]
fn the_evidence_profile_accounts_for_everything() {
    let place = Place::new();
    let made = ["-metadata", "creation_time=2026-01-31T12:34:56Z", "-metadata", "model=A800"];
    let graph = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4"];
    let name = "2026_0131_123456_0042PF.MP4";
    let source =
        place.clip(name, &[&graph[..], &made, &["-movflags", "use_metadata_tags"]].concat());
    let settings = Settings { factor: Some(2), ..Profile::Evidence.settings() };
    let task = place.task(&source, "out.mkv", settings);
    let report = run(&task).unwrap();
    assert_eq!(report.settings.profile, Profile::Evidence);
    assert_eq!(report.source.sha256, report.source.sha256_after);
    assert!(report.tool.ffmpeg.starts_with(char::is_alphanumeric), "{}", report.tool.ffmpeg);
    let capture = &report.source.capture;
    assert_eq!(capture.name_pattern.as_deref(), Some("viofo"));
    assert_eq!(capture.kind.as_deref(), Some("parking"));
    assert_eq!(capture.started_local.as_deref(), Some("2026-01-31T12:34:56"));
    let tag = |name: &str| capture.tags.iter().find(|it| it.name == name).map(|it| &*it.value);
    assert_eq!(tag("creation_time"), Some("2026-01-31T12:34:56Z"));
    assert_eq!(tag("model"), Some("A800"));
    let output = report.output.unwrap();
    assert_eq!(output.encoder, "ffv1");
    let found = output.real_frames.unwrap();
    assert!(found.compared > 10 && found.compared == found.identical);
    let kinds: Vec<_> = output.sidecars.iter().map(|it| it.kind.as_str()).collect();
    for kind in ["comparison", "frame_list", "page", "still"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert!(report.disclaimer.contains("viewing aid") && report.disclaimer.contains("record"));
}

/// W26. What a source takes says nothing of a lossless output, and its pictures do, whatever is in them.
#[test]
fn lossless_outputs_take_about_what_was_expected_of_their_pictures() {
    let place = Place::new();
    let lossless = |codec, crf| Encoding { codec, crf, ..Encoding::default() };
    let settings = |encoding| Settings {
        factor: Some(2),
        encoding,
        quality_samples: 0,
        ..Settings::default()
    };
    for (name, noise, pixels) in [
        ("plain.mp4", "", "yuv420p"),
        ("grain.mp4", "20", "yuv420p"),
        ("deep.mp4", "20", "yuv422p10le"),
    ] {
        let noise = match noise {
            "" => String::new(),
            strength => format!(",noise=all_seed=1:alls={strength}:allf=t"),
        };
        let graph = format!("testsrc2=s=160x90:r=10:d=1{noise}");
        let drawn = ["-f", "lavfi", "-i", &graph, "-pix_fmt", pixels, "-crf", "35"];
        let source = place.clip(name, &drawn);
        for (encoding, output, most) in [
            (lossless(Codec::Ffv1, None), "out.mkv", 2),
            (lossless(Codec::H264, Some(0)), "out.mp4", 3),
        ] {
            if encoding.codec == Codec::H264 && pixels != "yuv420p" {
                // Deeper ones lose a little there.
                continue;
            }
            let task = place.task(&source, output, settings(encoding));
            let expected = room::expected(&task).unwrap().output_bytes;
            let made = run(&task).unwrap().output.unwrap().size_bytes;
            println!("{name}, {output}: {expected} expected, {made} made");
            assert!((made..made * most).contains(&expected), "{name}, {output}: {expected} {made}");
        }
        let lossy = place.task(&source, "out.mp4", settings(Encoding::default()));
        let by_source = std::fs::metadata(&source).unwrap().len() as f64 * 2.0 * 1.3;
        assert_eq!(room::expected(&lossy).unwrap().output_bytes, by_source as u64);
    }
}

/// `slomod verify` of what a conversion by hand left; its exit code and what it printed.
fn verify(args: &[&std::ffi::OsStr]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
    let run = command.arg("verify").args(args).output().unwrap();
    (run.status.code().unwrap(), String::from_utf8(run.stdout).unwrap())
}

/// Also in another folder, and under a name that is no text.
#[test]
fn files_and_frames_are_held_to_their_report_and_every_change_is_found() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::new();
    let source = place.clip("in.mkv", MOVING);
    let made = place.path("made");
    std::fs::create_dir(&made).unwrap();
    let output = made.join(std::ffi::OsStr::from_bytes(b"out \xff.mov"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
    command.arg("convert").arg(&source).arg("--output").arg(&output);
    command.args(["--model", "blend", "--factor", "2", "--profile", "evidence"]);
    let run = command.args(["--hold-below", "0"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Whoever gets the folder has it elsewhere.
    let moved = place.path("moved");
    std::fs::rename(&made, &moved).unwrap();
    let output = moved.join(output.file_name().unwrap());
    let beside = |end: &str| {
        let mut name = output.clone().into_os_string();
        name.push(end);
        name
    };
    let report = beside(".json");
    for named in [report.as_os_str(), output.as_os_str(), moved.as_os_str()] {
        let (code, said) = verify(&[named, "--frames".as_ref()]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("50 of 50 frames of the output are those of the list"), "{said}");
        // The last one is held as well, which does not make it two.
        assert!(said.contains("25 of 25 frames of the source are those of the list"), "{said}");
    }
    let json = |args: &[&std::ffi::OsStr]| {
        let (code, said) = verify(&[&[report.as_os_str(), "--json".as_ref()], args].concat());
        (code, serde_json::from_str::<serde_json::Value>(&said).unwrap())
    };
    let verdict_of = |value: &serde_json::Value, kind: &str| {
        let files = value["reports"][0]["files"].as_array().unwrap();
        let file = files.iter().find(|it| it["kind"] == kind).unwrap();
        file["verdict"].as_str().unwrap().to_owned()
    };
    let (code, value) = json(&[]);
    assert_eq!((code, &value["ok"]), (0, &true.into()));
    let mut kinds = vec!["source", "output", "comparison", "frame_list", "page", "still"];
    for kind in &kinds {
        assert_eq!(verdict_of(&value, kind), "same", "{kind}");
    }
    // The source where it is now, or nowhere.
    let elsewhere = place.path("elsewhere.mkv");
    std::fs::rename(&source, &elsewhere).unwrap();
    let (code, value) = json(&[]);
    assert_eq!((code, verdict_of(&value, "source")), (0, "absent".into()));
    let there = [std::ffi::OsStr::new("--source"), elsewhere.as_os_str()];
    let (code, value) = json(&there);
    assert_eq!((code, verdict_of(&value, "source")), (0, "same".into()));
    let gone = [std::ffi::OsStr::new("--source"), "nowhere.mkv".as_ref()];
    let (code, value) = json(&gone);
    assert_eq!((code, verdict_of(&value, "source")), (74, "missing".into()));
    // A changed byte of any of them, and one that is gone.
    let ends = [("output", ""), ("frame_list", ".frames.csv"), ("page", ".html")];
    for (kind, end) in ends.into_iter().chain([("comparison", ".compare.mp4")]) {
        let path = beside(end);
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let (code, value) = json(&[]);
        assert_eq!((code, verdict_of(&value, kind)), (65, "different".into()), "{kind}");
        std::fs::remove_file(&path).unwrap();
        let (code, value) = json(&[]);
        assert_eq!((code, verdict_of(&value, kind)), (74, "missing".into()), "{kind}");
        std::fs::write(&path, whole).unwrap();
        kinds.retain(|it| *it != kind);
    }
    assert_eq!(kinds, ["source", "still"]);
    // Frames that are others, though whoever changed them wrote new hashes of the files into the report.
    let lines = std::fs::read_to_string(beside(".frames.csv")).unwrap();
    let mut lines: Vec<_> = lines.lines().map(str::to_owned).collect();
    lines.swap(10, 30);
    std::fs::write(beside(".frames.csv"), lines.join("\n")).unwrap();
    let (code, value) = json(&["--frames".as_ref(), there[0], there[1]]);
    let frames = &value["reports"][0]["output_frames"];
    assert_eq!((code, &frames["same"]), (65, &48.into()), "{frames}");
    assert_eq!(frames["first_different"], 9, "line 10 behind the names is frame 9");
    let (_, said) = verify(&[report.as_os_str(), "--frames".as_ref()]);
    assert!(
        said.contains(
            "48 of 50 frames of the output are those of the list, the first other is frame 9 of"
        ),
        "{said}"
    );
    // A report by somebody else, which names what never ends.
    let mut foreign = schema::read(Path::new(&report));
    foreign.source.path = "/dev/zero".into();
    std::fs::write(place.path("foreign.json"), foreign.to_json().unwrap()).unwrap();
    let (code, said) = verify(&[place.path("foreign.json").as_os_str()]);
    assert!(code == 74 && said.contains("it is no file"), "{said}");
    // What is no report, and nothing to compare frames with.
    assert_eq!(verify(&[elsewhere.as_os_str()]).0, 65);
    assert_eq!(verify(&[place.path("none.json").as_os_str()]).0, 74);
    std::fs::remove_file(beside(".frames.csv")).unwrap();
    assert_eq!(json(&["--frames".as_ref()]).0, 74);
}

/// Outputs are often called as their clips, in another folder.
#[test]
fn no_output_is_taken_for_the_source_of_its_name() {
    let place = Place::new();
    for folder in ["in", "out"] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    let made = |source: &Path, output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
        command.arg("convert").arg(source).arg("--output").arg(place.path(output));
        let run = command.args(["--model", "blend", "--factor", "2", "--frame-list"]).output();
        assert!(run.unwrap().status.success());
        let report = place.path(&format!("{output}.json"));
        move || {
            let (code, said) =
                verify(&[report.as_os_str(), "--json".as_ref(), "--frames".as_ref()]);
            let value: serde_json::Value = serde_json::from_str(&said).unwrap();
            let source = &value["reports"][0]["files"][0];
            let path = PathBuf::from(source["path"].as_str().unwrap());
            let same = value["reports"][0]["source_frames"]["same"].as_u64();
            (code, source["verdict"].as_str().unwrap().to_owned(), path, same)
        }
    };
    let source = place.clip("in/rally.mkv", MOVING);
    let rally = made(&source, "out/rally.mkv");
    assert_eq!(rally(), (0, "same".into(), source.clone(), Some(25)));
    // Of another one of that name beside the report, too, it is the one with the hash.
    let other = made(&source, "out/slow.mkv");
    assert_eq!(other(), (0, "same".into(), source.clone(), Some(25)));
    std::fs::rename(place.path("in"), place.path("moved")).unwrap();
    assert_eq!(rally(), (0, "absent".into(), source, None));
    // Where none has it, it is the first that is there.
    let (code, verdict, path, _) = other();
    assert_eq!((code, verdict, path), (65, "different".into(), place.path("out/rally.mkv")));
    std::fs::copy(place.path("moved/rally.mkv"), place.path("out/rally.mkv")).unwrap();
    assert_eq!(other().1, "same");
}

/// Folders that are watched with all below have outputs with all below.
#[test]
fn all_reports_below_a_folder_are_held_to_their_files() {
    let place = Place::new();
    let source = place.clip("in.mkv", MOVING);
    for folder in ["out/a/deep", "out/.hidden", "elsewhere"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
    }
    let made = place.path("out/one.mkv");
    let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
    command.arg("convert").arg(&source).arg("--output").arg(&made);
    let run = command.args(["--model", "blend", "--factor", "2"]).output().unwrap();
    assert!(run.status.success());
    let report = place.path("out/one.mkv.json");
    let copies = ["out/a/deep/two.mkv.json", "out/.hidden/three.json", "elsewhere/four.json"];
    for copy in copies {
        std::fs::copy(&report, place.path(copy)).unwrap();
    }
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("out/link")).unwrap();
    std::os::unix::fs::symlink(place.path("out"), place.path("out/a/round")).unwrap();
    let out = place.path("out");
    let (code, said) = verify(&[out.as_os_str()]);
    assert_eq!(code, 0, "{said}");
    let named = |name: &str| said.contains(place.path(name).to_str().unwrap());
    assert_eq!(said.matches(" (done)\n").count(), 2, "{said}");
    assert!(named("out/one.mkv.json (done)") && named("out/a/deep/two.mkv.json (done)"), "{said}");
    // Beside the one further down lies another file of the output's name, which is looked at first.
    std::fs::copy(&source, place.path("out/a/deep/one.mkv")).unwrap();
    let (code, said) = verify(&[out.as_os_str()]);
    assert!(code == 65 && said.matches("DIFFERENT   output").count() == 1, "{said}");
}

#[test]
fn a_conversion_that_fails_leaves_nothing_beside_the_output() {
    let place = Place::new();
    let source = place.clip("in.mkv", MOVING);
    let task = place.task(&source, "out.mkv", listed(Codec::Ffv1));
    let stop = Arc::new(AtomicBool::new(true));
    assert!(convert(&task, &mut Blend, &stop, &mut |_| {}).is_err());
    assert!(!beside::folder(&task.temporary).exists());
}
