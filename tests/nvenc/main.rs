//! `encode_on = "gpu"` with a stand-in for NVIDIA's driver (`standin.c`) behind FFmpeg's own NVENC wrapper: what is asked of it, what
//! pictures it gets, and what is said where it refuses. What a real one makes of them is not seen here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "../support/schema.rs"]
mod schema;
#[path = "../support/skip.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use skip::skip;
use slomod::frame::{Frame, Picture};
use slomod::media::decode::Decoder;
use slomod::report::Report;

const SLOMOD: &str = env!("CARGO_BIN_EXE_slomod");

/// A folder for a test's clips, and the stand-in.
struct Place {
    folder: tempfile::TempDir,
    driver: &'static Path,
}

/// The folder of the stand-in's libraries; `None` where it cannot be built.
fn driver() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nvenc");
    std::fs::create_dir_all(&folder).unwrap();
    let [cuda, encode] = ["libcuda.so.1", "libnvidia-encode.so.1"].map(|it| folder.join(it));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvenc/standin.c");
    let headers = "#include <ffnvcodec/nvEncodeAPI.h>\n#include <x265.h>\n";
    let seen = Command::new("sh")
        .args(["-c", &format!("printf '{headers}' | gcc -E -x c - >/dev/null 2>&1")])
        .status();
    if !seen.is_ok_and(|it| it.success()) {
        skip("no gcc, or no headers of NVENC or x265 (libffmpeg-nvenc-dev, libx265-dev)");
        return None;
    }
    let encoders = Command::new("ffmpeg").args(["-v", "error", "-encoders"]).output().ok()?;
    if !String::from_utf8_lossy(&encoders.stdout).contains("hevc_nvenc") {
        skip("no ffmpeg command, or one without NVENC");
        return None;
    }
    let built = Command::new("gcc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"])
        .arg(source)
        .arg("-o")
        .arg(&cuda)
        .args(["-lavcodec", "-lavutil", "-lx265"])
        .status();
    assert!(built.unwrap().success(), "the stand-in cannot be built");
    std::fs::copy(&cuda, encode).unwrap();
    Some(folder)
}

impl Place {
    fn new() -> Option<Self> {
        Some(Self { folder: tempfile::tempdir().unwrap(), driver: driver()? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A drawn clip of 10 frames, 10 a second; `options` of ffmpeg say its format.
    fn clip(&self, name: &str, size: &str, options: &str) -> PathBuf {
        let path = self.path(name);
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=s={size}:r=10:d=1"))
            .args(options.split_whitespace())
            .arg(&path)
            .status();
        assert!(run.unwrap().success());
        path
    }

    fn slomod(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SLOMOD);
        command.args(args).stdin(Stdio::null()).env("LD_LIBRARY_PATH", self.driver);
        command.env("STANDIN_LOG", self.path("log"));
        command
    }

    /// Converts to `output`, twice as slow, with the words of `options`.
    fn converts(&self, source: &Path, output: &str, options: &str) -> Command {
        let output = self.path(output);
        let mut args = vec!["convert", source.to_str().unwrap(), "-o", output.to_str().unwrap()];
        args.extend("--factor 2 --device cpu --quality-samples 0".split_whitespace());
        args.extend(options.split_whitespace());
        self.slomod(&args)
    }

    fn convert(&self, source: &Path, output: &str, options: &str) -> (PathBuf, Report) {
        let run = self.converts(source, output, options).output().unwrap();
        assert!(run.status.success(), "{options}: {}", said(&run));
        (self.path(output), schema::read(&self.path(&format!("{output}.json"))))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

fn decoded(path: &Path) -> Vec<Frame> {
    let mut decoder = Decoder::open(path).unwrap();
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn pictures(path: &Path) -> Vec<Picture> {
    decoded(path).into_iter().map(|it| (*it.picture).clone()).collect()
}

fn warnings(report: &Report) -> Vec<&str> {
    report.warnings.iter().map(|it| it.code.as_str()).collect()
}

/// The stand-in loses nothing, so that what it got is what comes out: the same as FFV1 keeps, in 8 bits as planes and in 10 as P010.
#[test]
fn every_sample_reaches_the_encoder_of_the_gpu() {
    let Some(place) = Place::new() else { return };
    for (codec, pixel, format, encoder) in [
        ("h264", "yuv420p", "yuv420p", "h264_nvenc"),
        ("h265", "yuv420p10le", "p010", "hevc_nvenc"),
        ("h265", "yuv444p10le", "yuv444p16", "hevc_nvenc"),
        ("h264", "yuv444p", "yuv444p", "h264_nvenc"),
    ] {
        let source = format!("{codec}-{pixel}.mkv");
        let source = place.clip(&source, "192x160", &format!("-pix_fmt {pixel} -c:v ffv1"));
        let (kept, _) =
            place.convert(&source, &format!("{codec}-{pixel}-ffv1.mkv"), "--codec ffv1");
        let options = format!("--codec {codec} --encode-on gpu --preset p1 --crf 23");
        let (made, report) = place.convert(&source, &format!("{codec}-{pixel}-gpu.mp4"), &options);
        assert_eq!(pictures(&made), pictures(&kept), "{codec} {pixel}");
        let output = report.output.unwrap();
        assert_eq!(output.encoder, encoder);
        assert_eq!(output.encoder_options, "rc=vbr cq=23 preset=p1");
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        let why: Vec<_> =
            output.repeatable.unwrap().reasons.into_iter().map(|it| it.code).collect();
        assert_eq!(why, ["encoder_on_gpu"]);
        let log = place.log();
        let name = encoder.trim_end_matches("_nvenc");
        // 23 is the quality and nothing else limits the rate; pictures are in order.
        let asked = format!("open {name} 192x160 gpu=0 vbr cq=23 bitrate=0 interval=1 gop=250");
        assert!(log.contains(&asked) && log.contains("preset p1"), "{log}");
        assert!(log.contains(&format!("format {format}\n")), "{log}");
    }
}

/// What it does not take becomes what it takes, and the report says so; times of a changing rate come out as they are.
#[test]
fn other_pictures_are_converted_and_said() {
    let Some(place) = Place::new() else { return };
    for (name, size, options, codec, expected) in [
        ("gray", "192x160", "-pix_fmt gray -c:v ffv1", "h264", &["chroma_reduced"][..]),
        ("422", "192x160", "-pix_fmt yuv422p10le -c:v ffv1", "h265", &["chroma_reduced"]),
        ("twelve", "192x160", "-pix_fmt yuv420p12le -c:v ffv1", "h265", &["bit_depth_reduced"]),
        ("ten", "192x160", "-pix_fmt yuv420p10le -c:v ffv1", "h264", &["bit_depth_reduced"]),
        (
            "odd",
            "192x160",
            "-vf crop=177:131:exact=1 -pix_fmt yuv420p -c:v ffv1",
            "h264",
            &["size_padded"],
        ),
        (
            "rgb",
            "192x160",
            "-pix_fmt gbrp -c:v ffv1",
            "h265",
            &["pixel_format_converted", "chroma_reduced"],
        ),
    ] {
        let source = place.clip(&format!("{name}.mkv"), size, options);
        let options = format!("--codec {codec} --encode-on gpu");
        let (made, report) = place.convert(&source, &format!("{name}-gpu.mp4"), &options);
        assert_eq!(warnings(&report), expected, "{name}");
        assert_eq!(decoded(&made).len(), 20, "{name}");
    }
    let uneven = "-vf setpts=N*N*0.02/TB -vsync vfr -pix_fmt yuv420p -c:v ffv1";
    let source = place.clip("uneven.mkv", "192x160", uneven);
    let (kept, _) = place.convert(&source, "uneven-ffv1.mov", "--codec ffv1");
    let (made, _) = place.convert(&source, "uneven-gpu.mov", "--encode-on gpu");
    let times = |path: &Path| -> Vec<_> { decoded(path).iter().map(|it| it.pts).collect() };
    assert_eq!(times(&made), times(&kept));
}

/// Nothing else is taken instead: the clip is refused where its pictures are none for it, and otherwise nothing is made and the
/// reason is said.
#[test]
fn a_gpu_that_does_not_encode_is_said_and_not_replaced() {
    let Some(place) = Place::new() else { return };
    let source = place.clip("in.mp4", "192x160", "-pix_fmt yuv420p");
    let small = place.clip("small.mp4", "128x96", "-pix_fmt yuv420p");
    let without = |mut command: Command| command.env_remove("LD_LIBRARY_PATH").output().unwrap();
    let refusing = |what: &str| {
        let mut command = place.converts(&source, "out.mp4", "--encode-on gpu");
        command.env("STANDIN_REFUSE", what).output().unwrap()
    };
    for (run, code, words) in [
        (refusing("session"), 78, "`nvidia-smi`"),
        (refusing("picture"), 78, "h264_nvenc"),
        (place.converts(&small, "out.mp4", "--encode-on gpu").output().unwrap(), 65, "128x96"),
    ] {
        assert_eq!(run.status.code(), Some(code), "{}", said(&run));
        assert!(said(&run).contains(words), "{}", said(&run));
        assert!(!place.names().iter().any(|it| it.contains("out.mp4") && !it.ends_with(".json")));
    }
    if Path::new("/dev/nvidiactl").exists() {
        skip("what is said without a driver: there is one");
    } else {
        let run = without(place.converts(&source, "out.mp4", "--encode-on gpu"));
        assert_eq!(run.status.code(), Some(78), "{}", said(&run));
        assert!(said(&run).contains("h264_nvenc"), "{}", said(&run));
    }
}

/// `slomod check` tries it where a folder asks for it, and where it works.
#[test]
fn check_tells_whether_the_gpu_encodes() {
    let Some(place) = Place::new() else { return };
    for name in ["drop", "out", "state"] {
        std::fs::create_dir(place.path(name)).unwrap();
    }
    let config = |encode_on: &str| {
        let folder = place.folder.path().display();
        let text = format!(
            "[daemon]\nstate_dir = \"{folder}/state\"\ndevice = \"cpu\"\n\n[[watch]]\npath = \"{folder}/drop\"\n\
             output = \"{folder}/out\"\ncodec = \"h265\"\nencode_on = \"{encode_on}\"\n"
        );
        std::fs::write(place.path("slomod.toml"), text).unwrap();
    };
    let path = place.path("slomod.toml");
    let check = |refuse: &str| {
        let mut command = place.slomod(&["check", "--config", path.to_str().unwrap()]);
        let run = command.env("STANDIN_REFUSE", refuse).output().unwrap();
        (run.status.code(), String::from_utf8_lossy(&run.stdout).into_owned() + &said(&run))
    };
    config("gpu");
    let (code, text) = check("");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("hevc_nvenc"), "{text}");
    let (code, text) = check("session");
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("hevc_nvenc") && text.contains("`nvidia-smi`"), "{text}");
    config("cpu");
    let (code, text) = check("session");
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("nvenc"), "{text}");
}
