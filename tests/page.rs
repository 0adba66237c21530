//! What people look at beside an output: the comparison, the page (in a browser, where there is one), and stills.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "support/clips.rs"]
mod clips;
#[path = "support/schema.rs"]
mod schema;
#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use num_rational::Ratio;
use slomod::config::beside::{Beside, Comparison, Still};
use slomod::config::settings::{Codec, Encoding, Mode, Settings};
use slomod::frame::Frame;
use slomod::ops::color::picture_to_rgb;
use slomod::pipeline::comparison::{self, Compared};
use slomod::pipeline::pace::Beat;
use slomod::pipeline::{ConvertError, Task, beside, plan, room};
use slomod::report::content::{Change, Cut, Gap, Point};
use slomod::report::findings::Barrier;
use slomod::report::measured::HeldOutFrame;
use slomod::report::{Notice, Report};

use clips::{Place, decoded, run, slow};

/// What writes into the page which of its words the browser shows by its own account, and whether the comparison plays.
const WITNESS: &str = r#"<script>window.addEventListener("load", function () {
  function add(id, text) {
    var pre = document.createElement("pre");
    pre.id = id; pre.textContent = text; document.body.appendChild(pre);
  }
  var shown = [];
  document.querySelectorAll("main span[lang]").forEach(function (span) {
    if (getComputedStyle(span).display !== "none" && span.getClientRects().length) { shown.push(span.textContent); }
  });
  add("seen", shown.join("\n"));
  add("video", String(document.querySelector("video").readyState));
});</script>
"#;

/// Browsers that can be run without a screen, in the order in which they are looked for.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A clip that moves fastest after 1.2 of 2 seconds, has a cut at 0.8 s and a name that is no HTML.
fn clip(place: &Place) -> PathBuf {
    let graph = "testsrc2=s=320x180:r=25:d=0.8[a];\
                 mandelbrot=s=640x360:r=1:end_pts=1,trim=end_frame=1,loop=29:1,fps=25,setpts=N/25/TB,\
                 crop=320:180:x='100+2*n+if(gte(n,11),20,0)':y=90,trim=duration=1.2[b];[a][b]concat";
    let name = "<b>rally & co</b> 한글.mkv".replace('/', "");
    place.clip(&name, &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"])
}

fn beside_of(task: &Task, end: &str) -> PathBuf {
    beside::folder(&task.temporary).join(end)
}

fn with(comparison: Comparison) -> Settings {
    let beside = Beside { comparison, page: true, ..Beside::default() };
    Settings { beside, ..slow(4) }
}

fn kinds(report: &Report) -> Vec<&str> {
    report.output.as_ref().unwrap().sidecars.iter().map(|it| it.kind.as_str()).collect()
}

#[test]
fn the_comparison_shows_both_at_the_same_instants_and_is_small() {
    let place = Place::new();
    let source = clip(&place);
    for (layout, size) in [(Comparison::Side, (644, 208)), (Comparison::Split, (320, 208))] {
        let task = place.task(&source, "out.mkv", with(layout));
        let report = run(&task).unwrap();
        assert_eq!(kinds(&report), ["comparison", "page"]);
        let path = beside_of(&task, beside::COMPARISON);
        assert!(std::fs::metadata(&path).unwrap().len() < 2 << 20);
        let frames = decoded(&path);
        // Five of eight seconds.
        assert_eq!(frames.len(), 125);
        let format = frames[0].picture.format;
        assert_eq!((format.width_px, format.height_px), size);
        // The strongest motion is between frames 30 and 31, at 1.2 of 2 seconds: 2.3 to 7.3 s of the output.
        let motion = report.interpolation.unwrap().confidence.strongest_motion_pts_s.unwrap();
        assert!((motion - 1.2).abs() < 0.05, "{motion}");
        let label = |x: usize| -> usize {
            let row = |y: usize| &frames[60].picture.planes[0][y * size.0 + x..][..80];
            (0..28).map(|y| row(y).iter().filter(|it| **it > 120).count()).sum()
        };
        let second = if layout == Comparison::Side { 324 } else { 160 };
        assert!(label(0) > 100 && label(second) > 100, "{} {}", label(0), label(second));
        // The original stands still for four frames, the result does not.
        let still = |left: usize, a: usize| {
            let part = |index: usize| {
                let picture = &frames[index].picture;
                let row = |y: usize| &picture.planes[0][y * size.0 + left..][..150];
                (40..200).flat_map(row).copied().collect::<Vec<u8>>()
            };
            let off = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
            part(a).iter().zip(&part(a + 1)).map(off).sum::<u64>() as f64 / (150.0 * 160.0)
        };
        let (mut original, mut result) = (0, 0);
        for index in 10..110 {
            original += usize::from(still(0, index) < 0.6);
            result += usize::from(still(second + 4, index) < 0.6);
        }
        assert!((60..=85).contains(&original), "{original}");
        assert!(result < 40, "{result}");
        // 4 times slower, 25 frames a second from 2.3 s on: the last frame of each that has begun by then.
        let (before, after) = (decoded(&source), decoded(&task.temporary));
        let right = if layout == Comparison::Side { (324, 0) } else { (164, 164) };
        for (number, shown) in frames.iter().enumerate().step_by(4) {
            let time_s = 2.3 + number as f64 / 25.0;
            let begun = |rate: f64| (time_s * rate + 0.01) as usize;
            assert_shows(shown, (0, 0), &before, begun(25.0 / 4.0));
            assert_shows(shown, right, &after, begun(25.0));
        }
    }
}

/// A part of a frame of the comparison, from column `left`, is frame `index` of a clip from its column `column`: near it,
/// and no nearer to the one before or behind it.
fn assert_shows(shown: &Frame, (left, column): (usize, usize), clip: &[Frame], index: usize) {
    let shown_px = shown.picture.format.width_px;
    let found = picture_to_rgb(&shown.picture);
    let codes_off = |frame: &Frame| {
        let (width, rgb) = (frame.picture.format.width_px, picture_to_rgb(&frame.picture));
        let row = |rgb: &[f32], start: usize| rgb[3 * start..][..3 * 150].to_vec();
        let rows = (0..180).map(|y| {
            let (a, b) = (row(&found, (y + 28) * shown_px + left), row(&rgb, y * width + column));
            a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
        });
        255.0 * rows.sum::<f64>() / (180.0 * 450.0)
    };
    let off = codes_off(&clip[index]);
    assert!(off < 6.0, "{off:.2} codes from frame {index}");
    for other in [index - 1, index + 1] {
        let other = codes_off(&clip[other]);
        assert!(
            off <= other + 1e-9,
            "{off:.2} codes from frame {index}, {other:.2} from its neighbor"
        );
    }
}

#[test]
fn a_comparison_that_is_too_large_is_made_again_at_half_the_size() {
    let place = Place::new();
    let drawn = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=0.4", "-c:v", "libx264"];
    let source = place.clip("in.mp4", &drawn);
    let task = place.task(&source, "out.mkv", slow(2));
    run(&task).unwrap();
    let video = slomod::media::probe(&source).unwrap().video;
    let compared = Compared {
        source: &source,
        output: &task.temporary,
        video: &video,
        plan: plan::plan(&task.settings, Ratio::from_integer(25)).unwrap(),
        middle: Ratio::new(1, 5),
        length: Ratio::new(2, 5),
        layout: Comparison::Side,
    };
    let (path, stop) = (place.path("compare.mp4"), Arc::new(AtomicBool::new(false)));
    let (mut steps, mut wanted) = (0, 0);
    let mut made = |largest: u64| {
        let mut advanced = || steps += 1;
        let mut beat = Beat { stop: &stop, advanced: &mut advanced };
        let size = comparison::write(&path, &compared, largest, &mut beat).unwrap();
        wanted += 20 + 10;
        assert!(steps >= wanted, "each frame that is read is told: {steps} of {wanted}");
        assert_eq!(size, std::fs::metadata(&path).unwrap().len());
        (size, decoded(&path)[0].picture.format.width_px)
    };
    let (whole, width) = made(u64::MAX);
    assert_eq!(width, 1284);
    let (least, width) = made(1);
    assert!(width == 644 && least < whole, "{width} {least} {whole}");
    let (fits, width) = made(least);
    assert!(width == 644 && fits <= least, "{width} {fits} {least}");
    stop.store(true, Ordering::Relaxed);
    let mut beat = Beat { stop: &stop, advanced: &mut || {} };
    let stopped = comparison::write(&path, &compared, 1, &mut beat);
    assert!(matches!(stopped, Err(ConvertError::Interrupted)), "{stopped:?}");
}

#[test]
fn a_comparison_of_a_higher_rate_keeps_the_time_and_at_most_sixty_frames() {
    let place = Place::new();
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", "testsrc2=s=64x120:r=25:d=1", "-c:v", "ffv1"]);
    let fps = Some(Ratio::from_integer(100));
    let settings = Settings { mode: Mode::Smooth, factor: None, fps, ..with(Comparison::Side) };
    let task = place.task(&source, "out.mkv", settings);
    run(&task).unwrap();
    assert_eq!(decoded(&beside_of(&task, beside::COMPARISON)).len(), 50);
}

#[test]
fn stills_are_the_real_frames_round_an_instant() {
    let place = Place::new();
    let graph = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-pix_fmt", "gbrp"];
    let source = place.clip("in.mkv", &[&graph[..], &["-c:v", "ffv1"]].concat());
    let stills = vec![Still::At(Ratio::new(1, 2)), Still::At(Ratio::from_integer(9))];
    let beside = Beside { stills, ..Beside::default() };
    let task = place.task(&source, "out.mkv", Settings { beside, ..slow(2) });
    let report = run(&task).unwrap();
    let sidecars = &report.output.as_ref().unwrap().sidecars;
    let ends = sidecars.iter().map(|it| it.path.rsplit("mkv.").next().unwrap().to_owned());
    // 0.5 s lies between frames 12 and 13; behind the end are the last ones.
    let expected = [10, 11, 12, 13, 14, 15, 22, 23, 24].map(|it| format!("frame-{it:06}.png"));
    assert_eq!(ends.collect::<Vec<_>>(), expected);
    assert_eq!(kinds(&report), ["still"; 9]);
    let shown = image::open(beside_of(&task, "frame-000013.png")).unwrap().into_rgb8();
    let real = &decoded(&source)[13].picture;
    for (at, pixel) in shown.pixels().enumerate() {
        let planes = [2, 0, 1].map(|plane: usize| real.planes[plane][at]);
        assert_eq!(pixel.0, planes, "pixel {at}");
    }
}

/// W26. Pictures of which nothing can be pressed, at a rate whose times have many digits.
#[test]
fn what_lies_beside_an_output_takes_no_more_than_is_kept_free_for_it() {
    let place = Place::new();
    let graph = "color=gray:s=96x64:r=30000/1001:d=1,noise=all_seed=1:alls=100:allf=t";
    let source =
        place.clip("in.mkv", &["-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1"]);
    let none = place.task(&source, "out.mkv", slow(2));
    assert_eq!(room::expected(&none).unwrap().beside_bytes, 0);
    let stills = vec![Still::Motion, Still::At(Ratio::from_integer(1))];
    for comparison in [Comparison::Side, Comparison::Split] {
        let beside = Beside { frame_list: true, comparison, page: true, stills: stills.clone() };
        let task = place.task(&source, "out.mkv", Settings { beside, ..slow(2) });
        let expected = room::expected(&task).unwrap();
        assert_eq!(expected.frames.round(), 60.0);
        let output = run(&task).unwrap().output.unwrap();
        // Before a line has its last hash it lies in a draft.
        let of = |wanted: &[&str]| -> u64 {
            let kinds = output.sidecars.iter().filter(|it| wanted.contains(&it.kind.as_str()));
            kinds.map(|it| it.size_bytes).sum()
        };
        let made = of(&["comparison", "page", "still"]) + 2 * of(&["frame_list"]);
        let text = 1 << 20;
        println!("{comparison:?}: {} expected, {made} made", expected.beside_bytes);
        assert!((made..3 * made + text).contains(&expected.beside_bytes), "{expected:?} {made}");
        let only = |beside: Beside| {
            let settings = Settings { beside, ..slow(2) };
            room::expected(&place.task(&source, "out.mkv", settings)).unwrap().beside_bytes
        };
        let list = only(Beside { frame_list: true, ..Beside::default() });
        assert!(list >= 2 * of(&["frame_list"]), "{list}");
        let clip = only(Beside { comparison, ..Beside::default() });
        assert!(clip >= of(&["comparison"]), "{clip}");
        let pictures = only(Beside { stills: stills.clone(), ..Beside::default() });
        assert!(pictures >= of(&["still"]), "{pictures}");
    }
}

#[test]
fn stills_of_deep_pictures_have_sixteen_bits_and_are_mirrored_and_turned_as_shown() {
    let place = Place::new();
    let graph = "testsrc2=s=64x48:r=25:d=0.2,format=gbrp10le";
    let deep = place.clip("deep.mkv", &["-f", "lavfi", "-i", graph, "-c:v", "ffv1"]);
    let stills = vec![Still::At(Ratio::from_integer(0))];
    let settings = Settings { beside: Beside { stills, ..Beside::default() }, ..slow(2) };
    let task = place.task(&deep, "deep_slow.mkv", settings.clone());
    run(&task).unwrap();
    let image = image::open(beside_of(&task, "frame-000000.png")).unwrap();
    assert_eq!(image.color(), image::ColorType::Rgb16);
    let real = &decoded(&deep)[0].picture;
    for (at, pixel) in image.into_rgb16().pixels().enumerate() {
        let codes = [2, 0, 1].map(|plane: usize| {
            let code =
                u16::from_le_bytes([real.planes[plane][2 * at], real.planes[plane][2 * at + 1]]);
            (f64::from(code) / 1023.0 * 65535.0).round() as u16
        });
        assert!(pixel.0.iter().zip(codes).all(|(a, b)| a.abs_diff(b) <= 1), "{at}: {pixel:?}");
    }

    // Red left of blue, mirrored by the container: shown it is blue left of red.
    let graph = "color=red:s=32x32:r=25:d=0.2[a];color=blue:s=32x32:r=25:d=0.2[b];[a][b]hstack";
    let source = place.clip("plain.mp4", &["-f", "lavfi", "-i", graph, "-c:v", "libx264"]);
    let mut bytes = std::fs::read(&source).unwrap();
    let at = bytes.windows(4).position(|it| it == b"tkhd").unwrap() + 4 + 40;
    let one = 1_i32 << 16;
    let matrix = [-one, 0, 0, 0, one, 0, 64 << 16, 0, 1 << 30];
    bytes.splice(at..at + 36, matrix.iter().flat_map(|it| it.to_be_bytes()));
    std::fs::write(&source, bytes).unwrap();
    let task = place.task(&source, "mirrored.mkv", settings);
    run(&task).unwrap();
    let image = image::open(beside_of(&task, "frame-000000.png")).unwrap().into_rgb8();
    let (left, right) = (image.get_pixel(8, 16).0, image.get_pixel(56, 16).0);
    assert!(left[2] > 200 && left[0] < 60 && right[0] > 200 && right[2] < 60, "{left:?} {right:?}");
}

#[test]
fn the_page_is_one_file_in_two_languages_with_the_curves_and_figures() {
    let place = Place::new();
    let source = clip(&place);
    let mut task = place.task(&source, "out.mkv", with(Comparison::Side));
    task.settings_sha256 = Some("5e".repeat(32));
    let report = run(&task).unwrap();
    let text = std::fs::read_to_string(beside_of(&task, beside::PAGE)).unwrap();
    for outside in ["http://", "https://", "src=\"/", "@import", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert!(!text.contains("<b>rally"), "a file's name cannot write into the page");
    assert!(text.contains("&lt;b&gt;rally &amp; co"));
    for part in ["data:video/mp4;base64,", "line-psnr", "line-ssim", "area-sure", "mark-cut"] {
        assert!(text.contains(part), "{part}");
    }
    let (english, korean) =
        (text.matches("<span lang=\"en\">"), text.matches("<span lang=\"ko\">"));
    assert!(english.count() > 15 && korean.count() > 15);
    assert!(text.contains(report.source.sha256.as_ref().unwrap()));
    assert!(text.contains("settings, SHA-256") && text.contains(&"5e".repeat(32)));
    let Some(browser) = browser() else {
        skip(&format!("none of {BROWSERS:?} is on this machine"));
        return;
    };
    for (language, seen, unseen) in [("ko-KR", "품질", "Figures"), ("en-US", "Figures", "품질")]
    {
        let dom = shown(browser, language, &beside_of(&task, beside::PAGE), place.path(language));
        let words = part_of(&dom, "seen");
        let state: u32 = part_of(&dom, "video").parse().unwrap();
        assert!(state >= 2, "{language}: the comparison does not play ({state})");
        assert!(dom.contains(&format!("<html lang=\"{}\"", &language[..2])), "{language}");
        assert!(words.contains(seen) && !words.contains(unseen), "{language}: {words}");
        let again = if language == "ko-KR" { "다음이 같을 때" } else { "with the same" };
        assert!(words.contains(again), "{language}: {words}");
    }
}

fn browser() -> Option<&'static str> {
    BROWSERS.into_iter().find(|it| Command::new(it).arg("--version").output().is_ok())
}

/// The page as a browser has it once its script has run.
fn shown(browser: &str, language: &str, page: &Path, profile: PathBuf) -> String {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    command.arg(format!("--accept-lang={language}")).arg(format!("--lang={language}"));
    command.arg(format!("--user-data-dir={}", profile.display()));
    // A page of another name, as the one beside an output has.
    let copy = profile.with_extension("html");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.ends_with("</body>\n</html>\n"));
    std::fs::write(
        &copy,
        text.replace("</body>\n</html>\n", &format!("{WITNESS}</body>\n</html>\n")),
    )
    .unwrap();
    let run = command.arg(format!("file://{}", copy.display())).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// The text that the page wrote of itself under that name.
fn part_of<'a>(dom: &'a str, id: &str) -> &'a str {
    let opening = format!("<pre id=\"{id}\">");
    let (_, rest) = dom.split_once(&opening).unwrap_or_else(|| panic!("no {id} in {dom}"));
    rest.split("</pre>").next().unwrap()
}

/// Every code of a warning that the source names has a sentence in Korean.
#[test]
fn every_warning_has_a_sentence_in_korean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut codes = std::collections::BTreeSet::new();
    for folder in ["media", "pipeline", "cli"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            // Of the commands, that on pictures alone adds to a report.
            let adds = folder != "cli" || path.ends_with("pictures.rs");
            if adds && path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text: String = text.chars().filter(|it| !it.is_whitespace()).collect();
                for before in ["warn(\"", "push((\"", "Notice{code:\"", "=>(\"", "=>{(\""] {
                    for rest in text.split(before).skip(1) {
                        let (code, behind) = rest.split_once('"').unwrap();
                        let is_message = behind.starts_with(',') || behind.starts_with('.');
                        let is_code = code.len() > 3
                            && code
                                .bytes()
                                .all(|it| it.is_ascii_lowercase() || it == b'_' || it == b'4');
                        let tuple = before.starts_with("=>") && !path.ends_with("media/decode.rs");
                        if is_message && is_code && !tuple {
                            codes.insert(code.to_owned());
                        }
                    }
                }
            }
        }
    }
    for known in
        ["deinterlaced", "alpha_dropped", "barriers", "cuts_cut", "rotation_lost", "rate_was_said"]
    {
        assert!(codes.contains(known), "{known} is not found any more: {codes:?}");
    }
    let missing: Vec<_> =
        codes.iter().filter(|it| slomod::pipeline::korean::warning(it).is_none()).collect();
    assert!(missing.is_empty(), "without Korean: {missing:?}");
}

/// The page of a report by hand: what a clip seldom has.
#[test]
fn the_page_shows_what_cannot_be_decoded_and_says_what_is_left_out() {
    let place = Place::new();
    let source = clip(&place);
    let mut report = run(&place.task(&source, "out.mkv", slow(2))).unwrap();
    let page =
        |report: &Report, comparison| slomod::pipeline::page::page(report, comparison).unwrap();
    assert!(!page(&report, None).contains("class=\"area-barrier\""));
    let barrier = Barrier { frame: 15, pts_from_s: 0.4, pts_to_s: 0.6, lost: 5, marred: 0 };
    report.interpolation.as_mut().unwrap().barriers.push(barrier);
    let notice = |code: &str| Notice { code: code.into(), message: "a <sentence>".into() };
    report.warnings = vec![notice("barriers"), notice("of_a_later_version")];
    let comparison = place.path("large.mp4");
    std::fs::File::create(&comparison).unwrap().set_len(25 << 20).unwrap();
    let text = page(&report, Some(&comparison));
    assert!(text.contains("class=\"area-barrier\""), "drawn");
    assert!(text.contains("key barrier"), "and in the key");
    assert!(text.contains("<span lang=\"en\">a &lt;sentence&gt;</span><span lang=\"ko\">원본에"));
    assert!(text.contains("<li>a &lt;sentence&gt; <code>of_a_later_version</code>"));
    assert!(!text.contains("data:video") && text.contains("(25 MiB)"), "left out, and said");
}

/// A report by hand, of two seconds, whose times and values lie on round numbers of the drawing.
#[test]
fn curves_and_marks_are_drawn_where_their_times_and_values_are() {
    let place = Place::new();
    let mut report = run(&place.task(&clip(&place), "out.mkv", slow(2))).unwrap();
    (report.source.duration_s, report.source.frames.decoded) = (Some(2.0), 50);
    let gap = |pts_from_s: f64, held| {
        let pts_to_s = pts_from_s + 0.04;
        Gap { frame: 0, pts_from_s, pts_to_s, score: 0.2, motion: 0.1, held }
    };
    let interpolation = report.interpolation.as_mut().unwrap();
    interpolation.cuts = vec![Cut { frame: 20, pts_s: 0.8, score: 0.9, listed: false }];
    interpolation.barriers =
        vec![Barrier { frame: 15, pts_from_s: 0.4, pts_to_s: 0.6, lost: 5, marred: 0 }];
    let flash = "flash".into();
    interpolation.changes =
        vec![Change { kind: flash, frame: 25, pts_s: 1.0, frames: 5, score: 0.3 }];
    let confidence = &mut interpolation.confidence;
    confidence.low_gaps = vec![gap(1.5, false), gap(1.75, true)];
    let point = |pts_s, score| Point { pts_s, score, motion: 0.0 };
    (confidence.curve, confidence.low_below) = (vec![point(0.0, 1.0), point(2.0, 0.5)], 0.5);
    let frame = |pts_s, psnr, ssim_y| HeldOutFrame {
        frame: 0,
        pts_s,
        psnr_rgb_db: Some(psnr),
        psnr_y_db: None,
        ssim_y,
        ssim_rife: None,
        vmaf: None,
    };
    report.quality.as_mut().unwrap().holdout.frames =
        vec![frame(0.0, 30.0, 1.0), frame(1.0, 35.0, 0.75), frame(2.0, 40.0, 0.5)];
    let text = slomod::pipeline::page::page(&report, None).unwrap();
    // 912 units are two seconds, from 44 on; 180 are 10 dB or half of SSIM, up from 194; 92 are confidence, up from 312.
    for drawn in [
        "<line class=\"mark-cut\" x1=\"408.8\" x2=\"408.8\" y1=\"14\" y2=\"312\"/>",
        "<rect class=\"area-barrier\" x=\"226.4\" y=\"14\" width=\"91.2\" height=\"298\"/>",
        "<rect class=\"area-change\" x=\"500.0\" y=\"14\" width=\"91.2\" height=\"298\"/>",
        "<line class=\"mark-low\" x1=\"728.0\" x2=\"728.0\" y1=\"312\" y2=\"319\"/>",
        "<line class=\"mark-low\" x1=\"842.0\" x2=\"842.0\" y1=\"312\" y2=\"319\"/>",
        "<polyline class=\"line-psnr\" points=\"44.0,194.0 500.0,104.0 956.0,14.0\"/>",
        "<polyline class=\"line-ssim\" points=\"44.0,14.0 500.0,104.0 956.0,194.0\"/>",
        "<polyline class=\"line-sure\" points=\"44.0,220.0 956.0,266.0\"/>",
        "<line class=\"limit\" x1=\"44\" x2=\"956\" y1=\"266.0\" y2=\"266.0\"/>",
        "<text x=\"38.0\" y=\"18.0\" text-anchor=\"end\">40</text>",
        "<text x=\"956.0\" y=\"334.0\" text-anchor=\"end\">2.0 s</text>",
    ] {
        assert!(text.contains(drawn), "{drawn}");
    }
    assert_eq!(text.matches("class=\"mark-cut\"").count(), 1);
    assert_eq!(text.matches("class=\"mark-low\"").count(), 2);
}

/// What lost nothing is not said to have lost something.
#[test]
fn a_lossless_output_is_not_said_to_be_encoded_with_loss() {
    let place = Place::new();
    let source = clip(&place);
    for (crf, lossy) in [(0, false), (30, true)] {
        let encoding = Encoding { codec: Codec::H264, crf: Some(crf), ..Encoding::default() };
        let settings = Settings { encoding, ..slow(2) };
        let report = run(&place.task(&source, &format!("{crf}.mp4"), settings)).unwrap();
        let page = slomod::pipeline::page::page(&report, None).unwrap();
        assert_eq!(page.contains("encoded again with loss"), lossy, "crf {crf}");
    }
}
