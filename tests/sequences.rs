//! Numbered pictures in and out of `slomod convert`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/exif.rs"]
mod exif;
#[path = "support/schema.rs"]
mod schema;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use slomod::report::Report;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Draws numbered pictures with FFmpeg's command line.
    fn draw(&self, graph: &str, pattern: &str) {
        fs::create_dir_all(self.path(pattern).parent().unwrap()).unwrap();
        self.ffmpeg(&["-f", "lavfi", "-i", graph, "-fps_mode", "passthrough", pattern]);
    }

    fn ffmpeg(&self, args: &[&str]) {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y"]).args(args).current_dir(self.0.path());
        let run = command.output().unwrap();
        assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
    }

    /// `slomod convert` with the trivial engine.
    fn convert(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_slomod"))
            .args(["convert", "--model", "blend", "--device", "cpu", "--quality-samples", "0"])
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// `slomod verify` within a folder of the place: exit code and what it printed.
    fn verify(&self, folder: &str, args: &[&str]) -> (Option<i32>, String) {
        self.verify_with(folder, args, &std::env::temp_dir())
    }

    fn verify_with(&self, folder: &str, args: &[&str], temporary: &Path) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
        command.arg("verify").args(args).env("TMPDIR", temporary);
        let run = command.current_dir(self.path(folder)).output();
        let run = run.unwrap();
        (run.status.code(), String::from_utf8(run.stdout).unwrap())
    }

    fn done(&self, args: &[&str], report: &str) -> Report {
        let run = self.convert(args);
        assert!(run.status.success(), "{args:?}: {}", said(&run));
        schema::read(&self.path(report))
    }

    fn refused(&self, args: &[&str], exit: i32, why: &[&str]) {
        let before = self.listing();
        let run = self.convert(args);
        assert_eq!(run.status.code(), Some(exit), "{args:?}: {}", said(&run));
        for part in why {
            assert!(said(&run).contains(part), "{args:?}: no {part} in {}", said(&run));
        }
        assert_eq!(self.listing(), before, "{args:?} left something");
    }

    /// All names in the place, hidden ones included.
    fn listing(&self) -> Vec<String> {
        let mut names = names(self.0.path());
        names.sort();
        names
    }

    /// What `sha256sum` of these files prints, hashed.
    fn hash(&self, folder: &str, files: &str) -> String {
        let command = format!("cd {folder} && sha256sum {files} | sha256sum");
        let run = Command::new("sh").args(["-c", &command]).current_dir(self.0.path()).output();
        String::from_utf8(run.unwrap().stdout).unwrap()[..64].to_owned()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

const MOVING: &str = "testsrc2=s=64x48:r=25:d=0.2,format=rgb24";

/// V17, V29: transparency goes through from pictures to pictures.
#[test]
fn transparent_pictures_come_out_transparent() {
    let place = Place::new();
    let graph =
        "testsrc2=s=64x48:r=25:d=0.12,format=gbrap,geq=r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y):a=2*X+30*N";
    for (pixels, kind) in
        [("rgba", image::ColorType::Rgba8), ("rgba64be", image::ColorType::Rgba16)]
    {
        let graph = format!("{graph},format={pixels}");
        place.draw(&graph, &format!("in-{pixels}/%d.png"));
        let (input, output) = (format!("in-{pixels}"), format!("out-{pixels}/%d.png"));
        let args = [&*input, "--input-fps", "24", "--factor", "2", "--output", &*output];
        let report = place.done(&args, &format!("out-{pixels}.json"));
        assert_eq!(report.output.unwrap().pixel_format, pixels);
        let verify = || place.verify(".", &[&format!("out-{pixels}.json")]).0;
        assert_eq!(verify(), Some(0));
        let picture = place.path(&format!("out-{pixels}/2.png"));
        let kept = fs::read(&picture).unwrap();
        fs::write(&picture, "another").unwrap();
        assert_eq!(verify(), Some(65));
        fs::write(&picture, kept).unwrap();
        assert!(report.warnings.iter().any(|it| it.code == "alpha_blended"));
        let open = |path: String| image::open(place.path(&path)).unwrap();
        for number in 0..3 {
            let before = open(format!("in-{pixels}/{}.png", number + 1));
            let after = open(format!("out-{pixels}/{}.png", 2 * number + 1));
            assert_eq!((before.color(), after.color()), (kind, kind));
            if pixels == "rgba" {
                assert!(before == after, "picture {number}");
            }
            // 16 bits are worked with 12.
            let pairs = before.to_rgba16().into_raw().into_iter().zip(after.to_rgba16().into_raw());
            assert!(pairs.into_iter().all(|(a, b)| a.abs_diff(b) <= 17), "picture {number}");
        }
    }
}

/// V29: real pictures come out bit for bit, with a report that accounts for the files.
#[test]
fn pictures_come_out_as_pictures_and_real_ones_are_the_same() {
    let place = Place::new();
    place.draw(MOVING, "in/f_%03d.png");
    let args = ["in/f_%03d.png", "--input-fps", "24", "--factor", "2", "--output", "out/%05d.png"];
    let report = place.done(&args, "out.json");
    let expected: Vec<_> = (1..=10).map(|number| format!("{number:05}.png")).collect();
    assert_eq!(names(&place.path("out")), expected);
    for number in 0..5 {
        let open = |path: PathBuf| image::open(path).unwrap();
        let before = open(place.path(&format!("in/f_{:03}.png", number + 1)));
        let after = open(place.path(&format!("out/{:05}.png", 2 * number + 1)));
        assert_eq!(after.color(), image::ColorType::Rgb8);
        assert!(before.to_rgb8() == after.to_rgb8(), "picture {number}");
    }
    let source = report.source;
    assert_eq!(source.path, "in/f_%03d.png");
    assert_eq!(source.sha256, Some(place.hash("in", "*.png")));
    assert_eq!(source.sha256_after, source.sha256);
    assert_eq!((source.format.as_deref(), source.fps.as_deref()), (Some("image2"), Some("24")));
    let output = report.output.unwrap();
    assert_eq!((output.path.as_str(), output.frames.total), ("out/%05d.png", 10));
    assert_eq!(output.sha256, place.hash("out", "*.png"));
    assert_eq!((output.format.as_str(), output.encoder.as_str()), ("image2", "png"));
    assert!(report.warnings.iter().any(|it| it.code == "rate_was_said"));
    assert_eq!(place.listing(), ["in", "out", "out.json"]);
}

/// V29: what is deeper than 8 bits comes out with 16.
#[test]
fn deep_pictures_come_out_deep() {
    let place = Place::new();
    place.draw("testsrc2=s=64x48:r=25:d=0.12,format=rgb48be,negate", "in/%d.png");
    let report = place.done(
        &["in", "--input-fps", "30000/1001", "--factor", "2", "--output", "out/%d.png"],
        "out.json",
    );
    let output = report.output.unwrap();
    assert_eq!(output.pixel_format, "rgb48be");
    assert_eq!(output.fps, "30000/1001");
    let open = |path: PathBuf| image::open(path).unwrap();
    let (before, after) = (open(place.path("in/2.png")), open(place.path("out/3.png")));
    assert_eq!(after.color(), image::ColorType::Rgb16);
    let (before, after) = (before.into_rgb16(), after.into_rgb16());
    let far = before.iter().zip(after.iter()).map(|(a, b)| a.abs_diff(*b)).max();
    // Deeper formats become 12 bits: a step is 16 of 65535.
    assert!(far.unwrap() <= 16, "{far:?}");
}

/// V29: other formats, a folder without a pattern, and clips on either side.
#[test]
fn pictures_and_clips_go_together() {
    let place = Place::new();
    for extension in ["png", "jpg", "tif", "dpx"] {
        let folder = format!("in_{extension}");
        place.draw(MOVING, &format!("{folder}/shot%04d.{extension}"));
        let out = format!("{extension}.mkv");
        let args = [&folder, "--input-fps", "25", "--factor", "2", "--output", &out];
        let report = place.done(&args, &format!("{out}.json"));
        assert_eq!(report.output.unwrap().frames.total, 10, "{extension}");
        assert_eq!(report.source.path, folder);
    }
    place.ffmpeg(&["-f", "lavfi", "-i", MOVING, "-c:v", "ffv1", "clip.mkv"]);
    fs::create_dir(place.path("there")).unwrap();
    fs::write(place.path("there/notes.txt"), "kept").unwrap();
    let args = ["clip.mkv", "--factor", "2", "--output", "there/%03d.png"];
    let report = place.done(&args, "there.json");
    assert_eq!(names(&place.path("there")).len(), 11);
    assert_eq!(report.source.path, "clip.mkv");
    place.refused(&args, 73, &["there/001.png", "is there already"]);
}

/// V29: nothing is guessed and nothing left behind.
#[test]
fn what_is_no_sequence_is_refused_by_name() {
    let place = Place::new();
    place.draw(MOVING, "in/%03d.png");
    let rate = ["--input-fps", "24"];
    let to = |out| [&rate[..], &["--factor", "2", "--output", out]].concat();
    place.refused(&["in", "--output", "out.mp4"], 64, &["--input-fps"]);
    place.refused(&[&["in", "--codec", "h264"][..], &to("out/%d.png")].concat(), 64, &["codec"]);
    place.refused(&[&["in", "--page"][..], &to("out/%d.png")].concat(), 64, &["page"]);
    place.refused(&[&["in"][..], &to("out/%d.jpg")].concat(), 64, &[".png"]);
    let named = |input| [&[input][..], &to("out.mp4")].concat();
    place.refused(&named("in/x%d.png"), 65, &["in/x%d.png", "0 numbered"]);
    place.refused(&named("none/%d.png"), 74, &["none: cannot be read"]);
    for missing in ["none", "none.mp4", "in/1.png"] {
        place.refused(&named(missing), 74, &[missing, "cannot be read: No such file"]);
    }
    place.refused(&named("in/002.png"), 64, &["one picture is no sequence", "or in/%03d.png"]);
    fs::copy(place.path("in/002.png"), place.path("one.png")).unwrap();
    place.refused(&named("one.png"), 64, &["name its folder, or ./%04d.png"]);
    place.ffmpeg(&["-f", "lavfi", "-i", MOVING, "clip.mp4"]);
    place.refused(&named("clip.mp4"), 64, &["clip.mp4: has times of its own"]);

    fs::remove_file(place.path("in/003.png")).unwrap();
    place.refused(
        &[&["in"][..], &to("out.mp4")].concat(),
        65,
        &["picture 3 is missing", "004.png"],
    );
    // Where a report is asked for, it names the pictures as the command line does.
    let run = place.convert(&[&["in", "--json"][..], &to("out.mp4")].concat());
    let report = schema::checked(&run.stdout);
    let code = report.errors[0].code.as_str();
    assert_eq!((report.source.path.as_str(), code), ("in", "missing_picture"));
    assert_eq!((report.source.sha256, report.source.size_bytes), (None, 0));
    place.ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=32x32:d=1", "-frames:v", "1", "in/003.png"]);
    place.refused(&[&["in"][..], &to("out.mp4")].concat(), 65, &["in/003.png", "32x32", "64x48"]);
    // Its hash is that of the pictures, as of a conversion that goes well.
    let run = place.convert(&[&["in", "--json"][..], &to("out.mp4")].concat());
    let source = schema::checked(&run.stdout).source;
    assert_eq!(source.sha256, Some(place.hash("in", "*.png")));
    assert!(source.size_bytes > 0 && source.modified.is_none());
    fs::write(place.path("in/003.png"), "no picture").unwrap();
    place.refused(&[&["in"][..], &to("out/%d.png")].concat(), 65, &["in/003.png", "decoded"]);
    fs::copy(place.path("in/001.png"), place.path("in/other7.png")).unwrap();
    place.refused(&[&["in"][..], &to("out.mp4")].concat(), 65, &["other7.png", "pattern"]);
}

/// V29: pictures are found again by their report, also where others of the same names lie beside it.
#[test]
fn pictures_are_verified_where_their_report_says() {
    let place = Place::new();
    place.draw(MOVING, "%04d.png");
    let ends = ["%04d.png", "--input-fps", "24", "--output", "slow/%04d.png", "--factor", "2"];
    place.done(&ends, "slow.json");
    let verify = |folder: &str, report: &str| place.verify(folder, &[report]);
    let whole = verify(".", "slow.json");
    assert!(whole.0 == Some(0) && whole.1.matches(" same ").count() == 2, "{}", whole.1);
    assert!(whole.1.contains("./slow/%04d.png"), "{}", whole.1);
    // Folder and report go together elsewhere.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::rename(place.path("slow"), place.path("elsewhere/slow")).unwrap();
    fs::rename(place.path("slow.json"), place.path("elsewhere/slow.json")).unwrap();
    let moved = verify("elsewhere", "slow.json");
    assert!(moved.0 == Some(0) && moved.1.contains("absent"), "{}", moved.1);
}

/// V29: every picture that goes in is held to the list of frames, as frames of a clip are.
#[test]
fn frames_of_pictures_are_held_to_the_list_of_frames() {
    let place = Place::new();
    place.draw(MOVING, "in/%03d.png");
    let to = ["--input-fps", "24", "--factor", "2", "--codec", "ffv1", "--frame-list"];
    for (input, output) in [("in", "a.mkv"), ("in/%03d.png", "b.mkv")] {
        place.done(&[&[input, "--output", output][..], &to].concat(), &format!("{output}.json"));
        let (code, said) = place.verify(".", &[output, "--frames"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("10 of 10 frames of the output are those of the list"), "{said}");
        assert!(said.contains("5 of 5 frames of the source are those of the list"), "{said}");
    }
    fs::rename(place.path("in"), place.path("moved")).unwrap();
    let moved = ["b.mkv", "--frames", "--source", "moved"];
    let (code, said) = place.verify(".", &moved);
    assert!(code == Some(0) && said.contains("5 of 5 frames of the source"), "{said}");
    let (code, said) = place.verify_with(".", &moved, &place.path("nowhere"));
    assert!(code == Some(73) && said.contains("set TMPDIR"), "{code:?}: {said}");
    fs::copy(place.path("moved/001.png"), place.path("moved/003.png")).unwrap();
    let (code, said) = place.verify(".", &moved);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("4 of 5 frames of the source are those of the list"), "{said}");
    assert_eq!(names(place.0.path()).len(), 7, "{:?}", place.listing());
}

/// V10, V29: JPEGs that say that they are to be turned come out turned, as pictures and as a clip; all must say the same.
#[test]
fn turned_pictures_come_out_turned() {
    let place = Place::new();
    place.draw(MOVING, "in/%03d.jpg");
    let turn = |number: u32| {
        let path = place.path(&format!("in/{number:03}.jpg"));
        let turned = exif::turned(&fs::read(&path).unwrap());
        fs::write(path, turned).unwrap();
    };
    (1..5).for_each(turn);
    let ends = |output| ["in", "--input-fps", "25", "--factor", "2", "--output", output];
    place.refused(&ends("out.mp4"), 65, &["in/005.jpg", "turned", "in/001.jpg"]);
    turn(5);
    let report = place.done(&ends("out.mp4"), "out.mp4.json");
    assert_eq!(report.source.rotation_degrees, Some(90));
    let shown = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams", "out.mp4"])
        .current_dir(place.0.path())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("rotation=-90"), "{shown}");
    place.done(&ends("out/%d.png"), "out.json");
    let image = image::open(place.path("out/1.png")).unwrap();
    assert_eq!((image.width(), image.height()), (48, 64));
}

/// V11, V29: a clip whose pixels are not square gives its samples as they are, and it is said how they are shown.
#[test]
fn pictures_of_pixels_that_are_not_square_are_said_to_be() {
    let place = Place::new();
    let wide = format!("{MOVING},setsar=16/11");
    place.ffmpeg(&["-f", "lavfi", "-i", &wide, "-c:v", "ffv1", "wide.mkv"]);
    place.ffmpeg(&["-f", "lavfi", "-i", MOVING, "-c:v", "ffv1", "square.mkv"]);
    for (clip, said) in [("wide.mkv", Some("16:11")), ("square.mkv", None)] {
        let args = [clip, "--factor", "2", "--output", &format!("{clip}.d/%d.png")];
        let report = place.done(&args, &format!("{clip}.d.json"));
        let found = report.warnings.iter().find(|it| it.code == "pixels_not_square");
        assert_eq!(found.is_some(), said.is_some(), "{clip}");
        assert!(found.is_none_or(|it| it.message.contains(said.unwrap())), "{found:?}");
        let image = image::open(place.path(&format!("{clip}.d/1.png"))).unwrap();
        assert_eq!((image.width(), image.height()), (64, 48));
    }
}

/// V04, V29: what numbered pictures cannot hold of a clip is said: times that are not evenly spaced, sound, color spaces.
#[test]
fn what_pictures_cannot_hold_of_a_clip_is_said() {
    let place = Place::new();
    let drawn = "testsrc2=s=64x48:r=30:d=1";
    let uneven = format!("{drawn},select='lt(n,10)+not(mod(n,3))'");
    place.ffmpeg(&["-f", "lavfi", "-i", &uneven, "-vsync", "vfr", "-c:v", "ffv1", "uneven.mkv"]);
    let sound = ["-f", "lavfi", "-i", "sine=d=1", "-c:a", "flac"];
    let hdr = ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"];
    let all = [&["-f", "lavfi", "-i", drawn][..], &sound, &["-c:v", "ffv1"], &hdr, &["hdr.mkv"]];
    place.ffmpeg(&all.concat());
    for (clip, more, said) in [
        ("uneven.mkv", &["--factor", "2"][..], &["times_lost"][..]),
        ("uneven.mkv", &["--factor", "2", "--fps", "30"], &[]),
        ("uneven.mkv", &["--mode", "smooth", "--fps", "60"], &[]),
        ("hdr.mkv", &["--factor", "2"], &["color_untagged", "stream_dropped"]),
    ] {
        let name = format!("out{}", more.join(""));
        let output = format!("{clip}{name}/%03d.png");
        let args = [&[clip, "--output", &output][..], more].concat();
        let report = place.done(&args, &format!("{clip}{name}.json"));
        let codes = ["times_lost", "color_untagged", "stream_dropped"];
        let of_pictures = report.warnings.iter().filter(|it| codes.contains(&it.code.as_str()));
        let mut found: Vec<_> = of_pictures.map(|it| it.code.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, said, "{clip} {more:?}");
        let streams = report.output.unwrap().streams;
        let sound = streams.iter().find(|it| it.kind == "audio");
        let reason = sound.map(|it| (it.action.as_str(), it.reason.as_deref()));
        let wanted = (clip == "hdr.mkv").then_some(("dropped", Some("pictures have no sound")));
        assert_eq!(reason, wanted);
    }
}

/// V13, V29: what has full range comes out with the contrast that it had, and so does gray of limited range.
#[test]
fn pictures_keep_the_range_of_their_source() {
    let place = Place::new();
    let graph = "testsrc2=s=64x48:r=10:d=0.4";
    place.draw(&format!("{graph},format=yuvj444p"), "in/%03d.jpg");
    place.done(&["in", "--input-fps", "10", "--output", "out/%03d.png"], "out.json");
    let clip = |name: &str, format: &str, range: &str| {
        let filter = format!("scale=out_range={range},format={format}");
        let tags = ["-c:v", "ffv1", "-color_range", range, "-colorspace", "smpte170m", name];
        place.ffmpeg(&[&["-f", "lavfi", "-i", graph, "-vf", &filter][..], &tags].concat());
    };
    clip("full.mkv", "yuv444p", "pc");
    clip("gray.mkv", "gray10le", "tv");
    for (clip, output) in [("full.mkv", "full"), ("gray.mkv", "gray")] {
        let pattern = format!("{output}/%03d.png");
        let report = place.done(&[clip, "--output", &pattern], &format!("{output}.json"));
        assert!(!report.warnings.iter().any(|it| it.code == "range_untagged"));
    }
    let shown = |input: &str| {
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-i", input, "-frames:v", "1", "-pix_fmt", "rgb24"])
            .args(["-sws_flags", "accurate_rnd+full_chroma_int", "-f", "rawvideo", "-"])
            .current_dir(place.0.path())
            .output()
            .unwrap();
        run.stdout
    };
    for (source, picture) in
        [("in/001.jpg", "out/001.png"), ("full.mkv", "full/001.png"), ("gray.mkv", "gray/001.png")]
    {
        let (source, picture) = (shown(source), shown(picture));
        assert_eq!(source.len(), picture.len());
        let apart =
            source.iter().zip(&picture).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        assert!(
            apart < source.len() as u32,
            "{} apart on average",
            apart as f64 / source.len() as f64
        );
    }
}
