//! A clip that is worked in several runs comes out as from one: frames, packets, times, sound and report.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use num_rational::Ratio;
use slomod::config::settings::{Audio, Codec, Container, Device, Encoding, Mode, Settings};
use slomod::daemon::protocol::{Message, Request, WireTask};
use slomod::engine::blend::Blend;
use slomod::engine::{EngineDescription, EngineError, Interpolator, open};
use slomod::frame::{Frame, Picture};
use slomod::pipeline::convert::convert;
use slomod::pipeline::segments::Rule;
use slomod::pipeline::{ConvertError, Progress, Task, parts};
use slomod::report::Report;

/// Segments short enough that clips of a second have several.
const SHORT: Rule = Rule { least: 12, most: 24 };

/// Two shots of moving pictures, with a still between them: cuts, duplicates, new and held frames.
const SHOTS: &str = "testsrc2=s=96x64:r=25:d=1.2[a];color=red:s=96x64:r=25:d=0.4[b];\
                     mandelbrot=s=96x64:r=25:end_pts=30,trim=duration=1[c];[a][b][c]concat=n=3,format=yuv420p";
const SOUND: &[&str] = &["-f", "lavfi", "-i", "sine=f=440:d=2.6", "-c:a", "aac"];

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Draws a clip with FFmpeg's command line.
    fn clip(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.path(name);
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-y"])
            .args(args)
            .arg(&path)
            .output()
            .unwrap();
        assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
        path
    }

    fn shots(&self) -> PathBuf {
        self.clip("in.mkv", &[&["-f", "lavfi", "-i", SHOTS], SOUND, &["-c:v", "ffv1"]].concat())
    }

    /// The task that keeps segments; `name` is the output's.
    fn task(&self, source: &Path, name: &str, settings: Settings) -> Task {
        let output = self.path(name);
        Task {
            source: source.into(),
            temporary: self.path(&format!(".temporary-{name}")),
            parts: Some(self.path(&format!("parts-{name}"))),
            segments: SHORT,
            output,
            settings,
        }
    }
}

/// The same task without segments being kept, into another file.
fn undisturbed(task: &Task) -> Task {
    let temporary = task.temporary.with_extension("undisturbed");
    Task { temporary, parts: None, ..task.clone() }
}

fn settings(codec: Codec, container: Container) -> Settings {
    let preset = match codec {
        Codec::H264 | Codec::H265 => Some("veryfast".into()),
        Codec::Av1 => Some("12".into()),
        Codec::Ffv1 => None,
    };
    let encoding = Encoding { codec, preset, container: Some(container), ..Encoding::default() };
    Settings { factor: Some(3), encoding, quality_samples: 20, ..Settings::default() }
}

fn run(task: &Task) -> Result<Report, ConvertError> {
    run_with(task, &mut Blend, &mut |_| {})
}

fn run_with(
    task: &Task,
    engine: &mut dyn Interpolator,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, ConvertError> {
    convert(task, engine, &Arc::new(AtomicBool::new(false)), progress)
}

/// Runs until `when`, asked before every pair, says so; the report where the end came first.
fn run_until(task: &Task, when: impl FnMut() -> bool + Send) -> Option<Report> {
    run_engine_until(task, &mut Blend, when)
}

fn run_engine_until(
    task: &Task,
    inner: &mut dyn Interpolator,
    when: impl FnMut() -> bool + Send,
) -> Option<Report> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut engine = Stopping { inner, when, stop: Arc::clone(&stop) };
    match convert(task, &mut engine, &stop, &mut |_| {}) {
        Ok(report) => Some(report),
        Err(ConvertError::Interrupted) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Asks for a stop when it is time.
struct Stopping<'a, F: FnMut() -> bool + Send> {
    inner: &'a mut dyn Interpolator,
    when: F,
    stop: Arc<AtomicBool>,
}

impl<F: FnMut() -> bool + Send> Interpolator for Stopping<'_, F> {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        if (self.when)() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.inner.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        self.inner.description()
    }
}

/// The trivial engine under another name, as if it had other weights.
struct Renamed;

impl Interpolator for Renamed {
    fn interpolate(
        &mut self,
        a: &Frame,
        b: &Frame,
        t: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        Blend.interpolate(a, b, t)
    }

    fn description(&self) -> EngineDescription {
        EngineDescription { model_sha256: Some("other".into()), ..Blend.description() }
    }
}

/// Finished segments in the folder.
fn finished(task: &Task) -> usize {
    let Ok(entries) = std::fs::read_dir(task.parts.as_ref().unwrap()) else { return 0 };
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|it| it.starts_with('0') && it.ends_with(".json")).count()
}

/// Source frames that the finished segments end before.
fn ends(task: &Task) -> Vec<u64> {
    let end = |number: usize| {
        let path = task.parts.as_ref().unwrap().join(format!("{number:04}.json"));
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        json["state"]["frame"].as_u64().unwrap()
    };
    (1..=finished(task)).map(end).collect()
}

/// Every packet of every stream: times, size, hash; or every decoded frame.
fn ffmpeg_md5(path: &Path, how: &[&str]) -> String {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0"])
        .args(how)
        .args(["-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(run.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
    assert!(run.stderr.is_empty(), "ffmpeg: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// A report without what may differ between two runs: names, times, speeds, and the container's own random numbers.
fn comparable(report: &Report) -> serde_json::Value {
    let mut report = report.clone();
    let output = report.output.as_mut().unwrap();
    if output.format == "matroska" {
        output.sha256 = String::new();
    }
    output.path = String::new();
    report.report_id = String::new();
    report.created = String::new();
    report.timing = Default::default();
    serde_json::to_value(&report).unwrap()
}

fn assert_same(task: &Task, report: &Report, other: &Task, other_report: &Report) {
    let (a, b) = (&task.temporary, &other.temporary);
    assert_lines(&ffmpeg_md5(a, &["-c", "copy"]), &ffmpeg_md5(b, &["-c", "copy"]), "packets");
    let how = ["-fps_mode", "passthrough", "-enc_time_base", "-1"];
    assert_lines(&ffmpeg_md5(a, &how), &ffmpeg_md5(b, &how), "frames");
    assert_eq!(comparable(report), comparable(other_report), "report");
    if task.settings.encoding.container != Some(Container::Mkv) {
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "bytes");
    }
}

fn assert_lines(a: &str, b: &str, what: &str) {
    for (number, (a, b)) in a.lines().zip(b.lines()).enumerate() {
        assert_eq!(a, b, "line {number} of {what}");
    }
    assert_eq!(a.lines().count(), b.lines().count(), "{what}");
}

#[test]
fn a_clip_interrupted_after_every_segment_is_the_same_in_every_codec_and_container() {
    let place = Place::new();
    let source = place.shots();
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H264, Container::Mkv),
        (Codec::H264, Container::Mov),
        (Codec::H265, Container::Mp4),
        (Codec::H265, Container::Mkv),
        (Codec::Av1, Container::Mp4),
        (Codec::Av1, Container::Mkv),
        (Codec::Ffv1, Container::Mkv),
        (Codec::Ffv1, Container::Mov),
    ] {
        let name = format!("{codec:?}.{}", container.extension());
        let task = place.task(&source, &name, settings(codec, container));
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        let (report, runs) = in_pieces(&task);
        assert!(runs >= 4, "{name}: {runs} runs");
        assert_same(&task, &report, &whole, &whole_report);
        assert_constant(&task);
        assert_eq!(report.timing.resumed.len(), runs - 1, "{name}");
    }
}

/// Runs `task` again and again, each time until another segment is finished. The report, and the number of runs.
fn in_pieces(task: &Task) -> (Report, usize) {
    for runs in 1..100 {
        let before = finished(task);
        if let Some(report) = run_until(task, || finished(task) > before) {
            return (report, runs);
        }
        assert!(!task.temporary.exists());
        assert!(finished(task) > before, "every run gets further");
    }
    panic!("no end")
}

/// Packets are in order of decoding, and no two pictures are shown at once, also across segments. Returns each picture's
/// time and duration as the container has them, in order of showing.
fn assert_times(task: &Task) -> Vec<(i64, i64)> {
    let text = ffmpeg_md5(&task.temporary, &["-an", "-c", "copy"]);
    let times = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        [1, 2, 3].map(|field: usize| fields[field].parse().unwrap())
    });
    let times: Vec<[i64; 3]> = times.collect();
    for pair in times.windows(2) {
        assert!(pair[0][0] < pair[1][0], "dts: {pair:?}");
    }
    assert!(times.iter().all(|[dts, pts, _]| dts <= pts), "{times:?}");
    let mut shown: Vec<_> = times.iter().map(|[_, pts, duration]| (*pts, *duration)).collect();
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[0].0 < pair[1].0), "{shown:?}");
    shown
}

/// A constant rate has no gap and no overlap.
fn assert_constant(task: &Task) {
    // Matroska rounds each time to its millisecond.
    let rounding = i64::from(task.settings.encoding.container == Some(Container::Mkv));
    for pair in assert_times(task).windows(2) {
        let gap = pair[1].0 - pair[0].0 - pair[0].1;
        assert!(gap.abs() <= rounding, "{pair:?}");
    }
}

#[test]
fn segments_end_at_cuts_and_where_they_are_long_in_every_run_alike() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    run(&task).unwrap();
    let expected = [8, 16, 24, 30, 38, 46, 54, 62];
    // The cut before frame 40 comes too soon after the end before frame 38.
    assert_eq!(ends(&task), expected);
    let keys = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags"])
        .args(["-of", "csv=p=0"])
        .arg(&task.temporary)
        .output()
        .unwrap();
    let keys = String::from_utf8(keys.stdout).unwrap();
    for end in expected {
        let key = format!("{:.6},K", (3 * end) as f64 / 25.0);
        assert!(keys.lines().any(|line| line.starts_with(&key)), "{key}\n{keys}");
    }
    let other = place.task(&source, "b.mp4", task.settings.clone());
    in_pieces(&other);
    assert_eq!(ends(&other), expected);
}

#[test]
fn variable_rates_and_grids_go_on_at_the_right_instant() {
    let place = Place::new();
    let variable = place.clip(
        "variable.mkv",
        &[
            &["-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=3,select='mod(n,7)*gt(mod(n,29),3)'"],
            SOUND,
            &["-fps_mode", "passthrough", "-c:v", "ffv1", "-pix_fmt", "yuv420p"],
        ]
        .concat(),
    );
    let steps = settings(Codec::H264, Container::Mp4);
    let smooth = Settings {
        mode: Mode::Smooth,
        factor: None,
        fps: Some(Ratio::from_integer(60)),
        ..steps.clone()
    };
    let speed = Settings { factor: None, speed: Some(Ratio::new(3, 10)), ..steps.clone() };
    let keep = Settings { audio: Audio::Keep, ..steps.clone() };
    let mut rare = smooth.clone();
    rare.fps = Some(Ratio::from_integer(10));
    let h265 = settings(Codec::H265, Container::Mp4);
    for (number, settings) in [steps, smooth, speed, keep, rare, h265].into_iter().enumerate() {
        let name = format!("{number}.mp4");
        let mut task = place.task(&variable, &name, settings);
        task.segments = Rule { least: 5, most: 9 };
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        let (report, runs) = in_pieces(&task);
        assert!(runs > 1, "{name}");
        assert_same(&task, &report, &whole, &whole_report);
        assert_times(&task);
    }
}

#[test]
fn a_clip_interrupted_at_any_moment_is_the_same() {
    let place = Place::new();
    let source = place.shots();
    let whole = place.task(&source, "whole.mp4", settings(Codec::H264, Container::Mp4));
    let whole = undisturbed(&whole);
    let whole_report = run(&whole).unwrap();
    let mut random = std::process::id();
    println!("seed {random}");
    for round in 0..5 {
        let task = place.task(&source, &format!("{round}.mp4"), whole.settings.clone());
        let mut interruptions = 0;
        let report = loop {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few enough that several runs end within a segment, and at the last always enough.
            let mut pairs = (random >> 16) % 40 + 4 * interruptions;
            let done = run_until(&task, || {
                pairs = pairs.saturating_sub(1);
                pairs == 0
            });
            match done {
                Some(report) => break report,
                None => interruptions += 1,
            }
        };
        assert_same(&task, &report, &whole, &whole_report);
    }
}

/// W33, below the daemon.
#[test]
fn a_worker_killed_at_any_moment_loses_one_segment_at_the_most() {
    let place = Place::new();
    let size = "testsrc2=s=320x180:r=25:d=4";
    let source =
        place.clip("in.mkv", &[&["-f", "lavfi", "-i", size], SOUND, &["-c:v", "ffv1"]].concat());
    let mut task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    task.settings.model = Some("blend".into());
    task.settings.device = Device::Cpu;
    let whole = undisturbed(&task);
    let (_, whole_report) = work(&whole, None);
    let mut random = std::process::id();
    println!("seed {random}");
    let mut kills = 0;
    let report = loop {
        let before = finished(&task);
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let after = Duration::from_millis(u64::from(random >> 16) % 1000 + 200 * kills);
        let (_, report) = work(&task, Some(after));
        assert!(finished(&task) >= before, "what is finished stays");
        match report {
            Some(report) => break report,
            None => kills += 1,
        }
    };
    println!("{kills} kills, taken up at {:?}", report.timing.resumed);
    assert_same(&task, &report, &whole, &whole_report.unwrap());
    if let Some(last) = report.timing.resumed.last() {
        assert!(last.segments > 0 && last.output_frame == 3 * last.source_frame);
    }
}

/// A worker process with `task`, killed `after` that time; its report, if it came to one.
fn work(task: &Task, after: Option<Duration>) -> (bool, Option<Report>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slomod"))
        .arg("work")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = Request::Convert(Box::new(WireTask::from(task)));
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    if let Some(after) = after {
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = text.lines().find_map(|line| match serde_json::from_str(line) {
        Ok(Message::Report(report)) => Some(*report),
        Ok(Message::Failed(failure)) => panic!("{}", failure.message),
        _ => None,
    });
    (output.status.success(), report)
}

#[test]
fn segments_of_other_settings_weights_or_content_are_thrown_away() {
    let place = Place::new();
    let source = place.shots();
    let other_source = place.clip("other.mkv", &["-i", source.to_str().unwrap(), "-c", "copy"]);
    let begun = |name: &str| {
        let task = place.task(&source, name, settings(Codec::H264, Container::Mp4));
        assert!(run_until(&task, || finished(&task) >= 3).is_none());
        task
    };
    let same = begun("same.mp4");
    assert_eq!(run(&same).unwrap().timing.resumed.len(), 1, "nothing changed");

    let mut crf = begun("crf.mp4");
    crf.settings.encoding.crf = Some(30);
    let mut factor = begun("factor.mp4");
    factor.settings.factor = Some(2);
    let mut content = begun("content.mp4");
    content.source = other_source;
    let mut rule = begun("rule.mp4");
    rule.segments.most += 1;
    for task in [crf, factor, content, rule] {
        let report = run(&task).unwrap();
        assert!(report.timing.resumed.is_empty(), "{}", task.output.display());
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        assert_same(&task, &report, &whole, &whole_report);
    }
    let weights = begun("weights.mp4");
    let report = run_with(&weights, &mut Renamed, &mut |_| {}).unwrap();
    assert!(report.timing.resumed.is_empty());
}

#[test]
fn a_damaged_segment_is_thrown_away_with_all_behind_it() {
    let place = Place::new();
    let source = place.shots();
    let whole = place.task(&source, "whole.mp4", settings(Codec::H264, Container::Mp4));
    let whole = undisturbed(&whole);
    let whole_report = run(&whole).unwrap();
    type Damage = fn(&Path);
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let cut: Damage = |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let remove: Damage = |path| std::fs::remove_file(path).unwrap();
    let damages =
        [("packets", flip), ("packets", cut), ("packets", remove), ("json", cut), ("json", remove)];
    for (number, (extension, damage)) in damages.into_iter().enumerate() {
        let task = place.task(&source, &format!("{number}.mp4"), whole.settings.clone());
        assert!(run_until(&task, || finished(&task) >= 4).is_none());
        damage(&task.parts.as_ref().unwrap().join(format!("0002.{extension}")));
        let report = run(&task).unwrap();
        assert_eq!(report.timing.resumed.last().map(|it| it.segments), Some(1), "{number}");
        assert_same(&task, &report, &whole, &whole_report);
    }
}

#[test]
fn nothing_is_kept_of_a_first_segment_or_of_what_a_later_run_must_not_use() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "early.mp4", settings(Codec::H264, Container::Mp4));
    assert!(run_until(&task, || true).is_none());
    assert!(!task.parts.as_ref().unwrap().exists() && !task.temporary.exists());

    let task = place.task(&source, "changed.mp4", settings(Codec::H264, Container::Mp4));
    let mut engine = Stopping {
        inner: &mut Blend,
        when: || {
            let mut file = std::fs::File::options().append(true).open(&source).unwrap();
            file.write_all(b"more").unwrap();
            false
        },
        stop: Arc::default(),
    };
    let error = run_with(&task, &mut engine, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ConvertError::SourceChanged(_)), "{error}");
    assert!(!task.parts.as_ref().unwrap().exists() && !task.temporary.exists());
}

#[test]
fn a_finished_clip_leaves_its_segments_to_its_caller_who_removes_them() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    run(&task).unwrap();
    let folder = task.parts.as_ref().unwrap();
    assert!(parts::size_bytes(folder) > 0);
    let open = folder.join(format!("{:04}.packets", finished(&task) + 1));
    assert!(!open.exists(), "the last segment is in the output alone");
    parts::remove(folder).unwrap();
    assert!(!folder.exists() && parts::remove(folder).is_ok());
}

#[test]
fn progress_goes_on_where_it_was_and_speeds_are_of_the_run() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    assert!(run_until(&task, || finished(&task) >= 4).is_none());
    let mut seen = Vec::new();
    let report = run_with(&task, &mut Blend, &mut |progress| seen.push(progress.clone())).unwrap();
    let resumed = report.timing.resumed.last().unwrap();
    let working: Vec<_> = seen.iter().filter(|it| it.phase == "converting").collect();
    assert!(working.iter().all(|it| it.frames_in > resumed.source_frame), "{working:?}");
    assert!(working.iter().all(|it| it.frames_out >= resumed.output_frame), "{working:?}");
    let total = report.output.as_ref().unwrap().frames.total;
    let made = (total - resumed.output_frame) as f64;
    let speed = report.timing.end_to_end_fps.unwrap();
    assert!((speed - made / report.timing.wall_s).abs() < 1e-6 * speed, "{speed}");
}

#[test]
fn the_network_makes_the_same_pictures_when_it_begins_in_the_middle() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.6", "-c:v", "ffv1"]);
    let mut settings = settings(Codec::Ffv1, Container::Mkv);
    (settings.factor, settings.device) = (Some(2), Device::Cpu);
    let mut task = place.task(&source, "a.mkv", settings);
    task.segments = Rule { least: 4, most: 8 };
    let mut engine = open::open(&task.settings).unwrap();
    let whole = undisturbed(&task);
    let whole_report = run_with(&whole, &mut *engine, &mut |_| {}).unwrap();
    let mut engine = open::open(&task.settings).unwrap();
    let begun = run_engine_until(&task, &mut *engine, || finished(&task) >= 2);
    assert!(begun.is_none());
    let mut engine = open::open(&task.settings).unwrap();
    let report = run_with(&task, &mut *engine, &mut |_| {}).unwrap();
    assert!(report.timing.resumed.last().is_some_and(|it| it.segments >= 2));
    assert_same(&task, &report, &whole, &whole_report);
}
