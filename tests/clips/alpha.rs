//! Transparency: kept where the encoder takes it, else said to be lost.

use std::path::Path;
use std::process::Command;

use slomod::config::beside::Beside;
use slomod::config::settings::{Codec, Container, Encoding, Settings};

use crate::{Place, decoded, ffprobe, skip, slow, warns};

/// Four frames whose transparency is `step` more in each, and grows from left to right.
fn source(place: &Place, pixels: &str, step: u32, options: &str) -> std::path::PathBuf {
    let colors = match pixels {
        "yuva" => "lum=lum(X\\,Y):cb=cb(X\\,Y):cr=cr(X\\,Y)",
        _ => "r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y)",
    };
    let format = if pixels == "yuva" { "yuva444p10le" } else { "gbrap" };
    place.ffmpeg(&format!(
        "-f lavfi -i testsrc2=s=64x48:r=10:d=0.4 -vf format={format},geq={colors}:a=2*X+{step}*N {options}"
    ))
}

/// The transparency of every frame as FFmpeg's command line reads it.
fn alphas(clip: &Path, pixels: &str) -> Vec<Vec<u16>> {
    alphas_by(&[], clip, pixels)
}

/// [`alphas`], with options for the input.
fn alphas_by(options: &[&str], clip: &Path, pixels: &str) -> Vec<Vec<u16>> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(options)
        .arg("-i")
        .arg(clip)
        .args(["-vf", &format!("alphaextract,format={pixels}"), "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let code = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, it| sum << 8 | u16::from(*it));
    let bytes = if pixels == "gray" { 1 } else { 2 };
    let frame = 64 * 48 * bytes;
    run.stdout.chunks(frame).map(|it| it.chunks(bytes).map(code).collect()).collect()
}

/// V17: real frames keep theirs bit for bit, made ones have what lies between, and that is said.
#[test]
fn transparency_is_kept_by_ffv1_and_blended_in_between() {
    let Some(place) = Place::new() else { return };
    for (pixels, step, options, output, read, stored) in [
        ("yuva", 100, "-c:v ffv1 deep.mkv", "deep-out.mkv", "gray10le", "yuva444p10le"),
        ("yuva", 24, "-pix_fmt yuva420p -c:v ffv1 half.mkv", "half-out.mkv", "gray", "yuva420p"),
        ("rgba", 40, "-pix_fmt rgba -c:v png rgba.mov", "rgba-out.mov", "gray", "bgra"),
        ("rgba", 40, "-pix_fmt argb -c:v qtrle argb.mov", "argb-out.mkv", "gray", "bgra"),
        ("rgba", 40, "-pix_fmt ya8 -c:v png gray.mov", "gray-out.mkv", "gray", "ya8"),
    ] {
        let source = source(&place, pixels, step, options);
        let (out, report) = place.convert(&source, output, slow(2));
        let written = report.output.as_ref().unwrap();
        assert_eq!(written.pixel_format, stored, "{options}");
        assert!(warns(&report, "alpha_blended"), "{options}: {:?}", report.warnings);
        assert!(!warns(&report, "alpha_dropped"), "{options}: {:?}", report.warnings);
        let (before, after) = (decoded(&source), decoded(&out));
        assert_eq!((before.len(), after.len()), (4, 8), "{options}");
        for (before, after) in before.iter().zip(after.iter().step_by(2)) {
            assert!(before.picture == after.picture && before.alpha == after.alpha, "{options}");
            assert!(before.alpha.is_some(), "{options}");
        }
        let (source, out) = (alphas(&source, read), alphas(&out, read));
        for (number, found) in out.iter().enumerate() {
            let (first, second) = (&source[number / 2], &source[(number + 1).min(6) / 2]);
            let expected = first.iter().zip(second).map(|(a, b)| (a + b).div_ceil(2));
            assert!(expected.eq(found.iter().copied()), "{options}: frame {number}");
        }
        assert!(source[0] != source[1], "{options}: the source's changes");
    }
}

/// V17: FFV1 takes no such pictures with transparency; a wider layout holds every sample of them.
#[test]
fn transparency_that_has_no_layout_of_its_own_is_kept_in_a_wider_one() {
    let Some(place) = Place::new() else { return };
    let graph = "-f lavfi -i testsrc2=s=64x48:r=10:d=0.4 -vf";
    let alpha = "geq=lum=lum(X\\,Y):cb=cb(X\\,Y):cr=cr(X\\,Y):a=800*X+5000*N";
    for (pixels, options, stored) in [
        ("yuva420p16le", "-pix_fmt yuva420p16le -c:v ffv1 half.mkv", "yuva420p16le"),
        ("yuva444p12le", "-c:v prores_ks -profile:v 4444 full.mov", "yuva444p16le"),
        ("ya16be", "-pix_fmt ya16be -c:v png gray.mov", "yuva444p16le"),
    ] {
        let source = place.ffmpeg(&format!("{graph} format=yuva444p16le,{alpha} {options}"));
        let (out, report) = place.convert(&source, "out.mkv", listed(2));
        assert_eq!(report.source.pixel_format.as_deref(), Some(pixels));
        let written = report.output.as_ref().unwrap();
        assert_eq!(written.pixel_format, stored, "{pixels}");
        let found = written.real_frames.unwrap();
        assert_eq!((found.compared, found.identical), (5, 5), "{pixels}");
        assert!(warns(&report, "alpha_stored_wider"), "{pixels}: {:?}", report.warnings);
        assert!(!warns(&report, "alpha_dropped"), "{pixels}: {:?}", report.warnings);
        let (before, after) = (decoded(&source), decoded(&out));
        assert_eq!((before.len(), after.len()), (4, 8), "{pixels}");
        assert!(before[0].alpha != before[1].alpha, "{pixels}: the source's changes");
        for (before, after) in before.iter().zip(after.iter().step_by(2)) {
            let (from, to) = (&before.picture, &after.picture);
            assert!(before.alpha.as_ref().unwrap().planes == after.alpha.as_ref().unwrap().planes);
            assert!(from.planes[0] == to.planes[0], "{pixels}: luma");
            assert_eq!(from.format.range, to.format.range, "{pixels}: it is as bright as it was");
            for (index, plane) in to.planes.iter().enumerate().skip(1) {
                let kept = match from.planes.get(index) {
                    Some(before) => before == plane,
                    None => plane.chunks(2).all(|it| it == 2048_u16.to_le_bytes()),
                };
                assert!(kept, "{pixels}: chroma");
            }
        }
    }
}

/// V17: of every pixel format that has transparency it is read, kept, and read back as it was, or said to be lost.
#[test]
fn transparency_of_every_pixel_format_is_kept_or_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    let words = ["-v", "error", "-of", "json", "-show_pixel_formats"];
    let run = Command::new("ffprobe").args(words).output().unwrap();
    let known: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let known = known["pixel_formats"].as_array().unwrap();
    let has_alpha = |it: &&serde_json::Value| it["flags"]["alpha"] == 1;
    let names = known.iter().filter(has_alpha).map(|it| it["name"].as_str().unwrap());
    let mut untried = Vec::new();
    for pixels in names {
        let Some(source) = in_pixels(&place, pixels) else {
            untried.push(pixels);
            continue;
        };
        let (out, report) = place.convert(&source, "out.mkv", listed(2));
        if report.source.pixel_format.as_deref() != Some(pixels) {
            untried.push(pixels);
            continue;
        }
        let frames = report.output.as_ref().unwrap().real_frames.unwrap();
        let (before, after) = (decoded(&source), decoded(&out));
        if pixels.starts_with("gbrapf") {
            assert!(warns(&report, "alpha_dropped"), "{pixels}: {:?}", report.warnings);
            assert!(after.iter().all(|it| it.alpha.is_none()), "{pixels}");
            continue;
        }
        assert!(warns(&report, "alpha_blended"), "{pixels}: {:?}", report.warnings);
        assert_eq!(frames.identical, frames.compared, "{pixels}");
        let (before, after) = (&before[0].alpha, &after[0].alpha);
        assert!(before.is_some() && before == after, "{pixels}");
        let codes = before.as_ref().unwrap().planes[0].iter();
        assert!(
            codes.collect::<std::collections::BTreeSet<_>>().len() > 1,
            "{pixels}: of one code"
        );
    }
    if !untried.is_empty() {
        skip(&format!("no file of FFmpeg's has {}", untried.join(", ")));
    }
    untried.retain(|it| !NEWER.contains(it));
    assert!(untried.iter().all(|it| WITHOUT_FILES.contains(it)), "{untried:?}");
}

/// Pixel formats that no encoder and container of FFmpeg's keep as they are: of those nothing can come in either.
const WITHOUT_FILES: [&str; 4] = ["ayuv64be", "ayuv64le", "gbrapf32be", "ya16le"];
/// Those that FFmpeg 5.1, with which files of all others were found, does not have.
const NEWER: [&str; 18] = [
    "vuya",
    "ayuv",
    "uyva",
    "rgbaf16be",
    "rgbaf16le",
    "rgbaf32be",
    "rgbaf32le",
    "gbrap14be",
    "gbrap14le",
    "gbrapf16be",
    "gbrapf16le",
    "gbrap32be",
    "gbrap32le",
    "yaf16be",
    "yaf16le",
    "yaf32be",
    "yaf32le",
    "bgraf16le",
];

/// Two small frames in a pixel format, of which the left half is half seen; none where FFmpeg cannot make any.
fn in_pixels(place: &Place, pixels: &str) -> Option<std::path::PathBuf> {
    let seen = "format=rgba,geq=r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y):a=if(lt(X\\,8)\\,101\\,255)";
    let palette =
        "geq=r=9:g=9:b=9:a=if(lt(X\\,8)\\,0\\,255),split[a][b];[a]palettegen[p];[b][p]paletteuse";
    let graph = match pixels {
        "pal8" => format!("format=rgba,{palette}"),
        _ => seen.to_owned(),
    };
    let (codec, container) = match pixels {
        "gbrapf32le" => ("exr", "mov"),
        "ya16be" => ("png", "mov"),
        "ya16le" => ("libopenjpeg", "mov"),
        _ => ("rawvideo", "nut"),
    };
    let out = place.path(&format!("{pixels}.{container}"));
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=16x16:r=10:d=0.2"])
        .args(["-filter_complex", &graph, "-pix_fmt", pixels, "-c:v", codec])
        // JPEG 2000 divides pictures into ever smaller ones, for which these are small enough.
        .args(if codec == "libopenjpeg" { &["-numresolution", "3"][..] } else { &[] })
        .arg(&out)
        .output()
        .unwrap();
    run.status.success().then_some(out)
}

/// [`slow`], with the list of frames, for which every real frame of the output is compared with the source's.
fn listed(factor: u32) -> Settings {
    let beside = Beside { frame_list: true, ..Beside::default() };
    Settings { beside, ..slow(factor) }
}

/// The encoders of WebM that write transparency, and FFmpeg's decoders that read it.
const WEBM: [(&str, &str); 2] =
    [("-c:v libvpx-vp9", "libvpx-vp9"), ("-c:v libvpx -auto-alt-ref 0", "libvpx")];

/// V17: WebM keeps the transparency of VP8 and VP9 beside their pictures.
#[test]
fn transparency_of_webm_is_kept_or_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    for (encoder, decoder) in WEBM {
        let options = format!("-pix_fmt yuva420p {encoder} in.webm");
        let source = source(&place, "yuva", 24, &options);
        let (out, report) = place.convert(&source, "out.mkv", slow(2));
        assert_eq!(report.source.pixel_format.as_deref(), Some("yuva420p"));
        assert_eq!(report.output.as_ref().unwrap().pixel_format, "yuva420p");
        assert!(warns(&report, "alpha_blended"), "{decoder}: {:?}", report.warnings);
        assert!(!warns(&report, "alpha_dropped"), "{decoder}: {:?}", report.warnings);
        assert_eq!(report.source.frames.corrupt, 0, "{decoder}");
        let (before, after) =
            (alphas_by(&["-c:v", decoder], &source, "gray"), alphas(&out, "gray"));
        assert_eq!((before.len(), after.len()), (4, 8), "{decoder}");
        assert!(before[0] != before[1], "{decoder}: the source's changes");
        assert!(before.iter().eq(after.iter().step_by(2)), "{decoder}");

        // What has none does not say that it has.
        let (codec, container) = (Codec::H264, Some(Container::Mkv));
        let encoding = Encoding { codec, container, ..Encoding::default() };
        let (out, report) = place.convert(&source, "plain.mkv", Settings { encoding, ..slow(2) });
        assert!(warns(&report, "alpha_dropped"), "{decoder}: {:?}", report.warnings);
        assert!(!ffprobe(&out).to_string().to_lowercase().contains("alpha_mode"), "{decoder}");
    }
}

/// V17: packets of WebM that have no transparency beside them are seen whole, and where it is damaged that is said.
#[test]
fn transparency_that_webm_lacks_in_places_costs_no_frame() {
    let Some(place) = Place::new() else { return };
    // A key frame in two, one packet a frame.
    let options = "-c:v libvpx-vp9 -g 2 -lag-in-frames 0 -deadline realtime -cpu-used 8";
    let seen = source(&place, "yuva", 24, &format!("-pix_fmt yuva420p {options} seen.webm"));
    place.ffmpeg(&format!(
        "-f lavfi -i testsrc2=s=64x48:r=10:d=0.4 -pix_fmt yuv420p {options} whole.webm"
    ));
    std::fs::write(place.path("list.txt"), "file seen.webm\nfile whole.webm\n").unwrap();
    let mixed = place.ffmpeg("-f concat -i list.txt -c copy -metadata:s:v alpha_mode=1 mixed.webm");
    let (out, report) = place.convert(&mixed, "out.mkv", slow(2));
    assert_eq!(report.source.frames.corrupt, 0);
    let (before, after) = (alphas_by(&["-c:v", "libvpx-vp9"], &seen, "gray"), alphas(&out, "gray"));
    assert_eq!((before.len(), after.len()), (4, 16));
    assert!(before.iter().eq(after[..8].iter().step_by(2)));
    assert!(after[8..].iter().flatten().all(|it| *it == 255));

    // Each key frame has a word by which it is known; the fourth is that of the second one's transparency.
    const KEY: [u8; 3] = [0x49, 0x83, 0x42];
    let mut bytes = std::fs::read(&seen).unwrap();
    let keys: Vec<_> = bytes.windows(3).enumerate().filter(|it| *it.1 == KEY).collect();
    let at = keys[3].0;
    bytes[at..at + 3].fill(0);
    std::fs::write(place.path("damaged.webm"), bytes).unwrap();
    let (out, report) = place.convert(&place.path("damaged.webm"), "again.mkv", slow(2));
    assert!(report.source.frames.corrupt > 0);
    assert!(warns(&report, "barriers"), "{:?}", report.warnings);
    let found = alphas(&out, "gray");
    assert_eq!(found.len(), 8);
    assert!(before[0] == found[0] && before[1] == found[2]);
}

/// V17: a frame that differs in nothing but its transparency is no repeated one.
#[test]
fn a_change_of_transparency_alone_is_a_change() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i color=red:s=64x48:r=10:d=0.3 -vf format=gbrap,geq=r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y):a=60*N -c:v ffv1 in.mkv",
    );
    let (out, report) = place.convert(&source, "out.mkv", slow(2));
    assert_eq!(report.source.frames.duplicates, 0);
    let seen: Vec<_> = alphas_of_first_pixel(&out);
    assert_eq!(seen, [0, 30, 60, 90, 120, 120]);
}

fn alphas_of_first_pixel(clip: &Path) -> Vec<u16> {
    alphas(clip, "gray").iter().map(|it| it[0]).collect()
}

/// V17: other encoders take none, which the report says.
#[test]
fn transparency_that_an_encoder_does_not_take_is_said_to_be_lost() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=10:d=0.3 -vf format=yuva444p10le,geq=lum=lum(X\\,Y):cb=cb(X\\,Y):cr=cr(X\\,Y):a=16*X -c:v prores_ks -profile:v 4444 in.mov",
    );
    for codec in [Codec::H264, Codec::H265, Codec::Av1] {
        let encoding = Encoding { codec, ..Encoding::default() };
        let (out, report) = place.convert(&source, "out.mp4", Settings { encoding, ..slow(2) });
        assert!(warns(&report, "alpha_dropped"), "{codec:?}: {:?}", report.warnings);
        assert!(!warns(&report, "alpha_blended"), "{codec:?}: {:?}", report.warnings);
        assert!(decoded(&out).iter().all(|it| it.alpha.is_none()));
        let said = report.warnings.iter().find(|it| it.code == "alpha_dropped").unwrap();
        assert!(said.message.contains("ffv1"), "{}", said.message);
    }
}

/// V17: many formats could hold transparency; that it is lost is said where there is some, in whichever frame.
#[test]
fn opaque_pictures_lose_no_transparency() {
    let Some(place) = Place::new() else { return };
    let drawn = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -vf";
    let seen = "format=rgba,geq=r=r(X\\,Y):g=g(X\\,Y):b=b(X\\,Y):a=if(lt(N\\,3)\\,255\\,4*X)";
    let encoding = Encoding { crf: Some(30), ..Encoding::default() };
    let settings = Settings { encoding, ..slow(2) };
    for (options, lost) in [
        ("format=pal8 -c:v png palette.mov", false),
        ("format=rgba -c:v png opaque.mov", false),
        (&*format!("{seen} -c:v png seen.mov"), true),
    ] {
        let source = place.ffmpeg(&format!("{drawn} {options}"));
        let (_, report) = place.convert(&source, "out.mp4", settings.clone());
        assert_eq!(warns(&report, "alpha_dropped"), lost, "{options}: {:?}", report.warnings);
    }
}
