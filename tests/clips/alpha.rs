//! Transparency: kept where the encoder takes it, else said to be lost.

use std::path::Path;
use std::process::Command;

use slomod::config::settings::{Codec, Encoding, Settings};

use crate::{Place, decoded, slow, warns};

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
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
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
        "-f lavfi -i testsrc2=s=64x64:r=10:d=0.3 -pix_fmt yuva444p10le -c:v prores_ks -profile:v 4444 in.mov",
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
