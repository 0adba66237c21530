//! Samples of 10 and 12 bits, from a clip to pictures and back.

use slomod::config::settings::{Codec, Container};
use slomod::frame::{Chroma, Depth, Frame};
use slomod::media;

use crate::skip::skip;
use crate::{ffmpeg, frames, rewrite, spec, workshop};

#[test]
fn ten_and_twelve_bits_are_taken_as_they_are_and_written_as_they_are() {
    let Some(dir) = workshop() else { return };
    for (options, depth, chroma) in [
        ("-pix_fmt yuv420p10le -c:v libx265 -x265-params log-level=none", Depth::Ten, Chroma::C420),
        ("-pix_fmt yuv422p10le -c:v prores_ks", Depth::Ten, Chroma::C422),
        ("-pix_fmt yuv444p12le -c:v ffv1", Depth::Twelve, Chroma::C444),
        ("-pix_fmt gray10le -c:v ffv1", Depth::Ten, Chroma::Gray),
        ("-pix_fmt gbrp12le -c:v ffv1", Depth::Twelve, Chroma::Gbr),
    ] {
        let graph = "-f lavfi -i gradients=seed=7:c0=0x505868:c1=0xb0a890:s=96x64:r=25:d=0.2";
        let source = ffmpeg(dir.path(), &format!("{graph} {options} in.mov"));
        let info = media::probe(&source).unwrap();
        assert_eq!(info.warnings, [], "{options}");
        assert_eq!((info.video.picture.depth, info.video.picture.chroma), (depth, chroma));
        let out = dir.path().join("out.mkv");
        let summary = rewrite(&source, &out, spec(Codec::Ffv1, Container::Mkv));
        assert_eq!((summary.warnings.as_slice(), summary.frames), ([].as_slice(), 5), "{options}");
        assert_eq!(summary.pixel_format, info.video.pixel_format);
        crate::video::assert_untouched(&source, &out, options);
    }
}

#[test]
fn an_encoder_gets_the_most_bits_it_takes_and_less_is_said() {
    let Some(dir) = workshop() else { return };
    let graph = "-f lavfi -i gradients=seed=7:c0=0x505868:c1=0xb0a890:s=96x64:r=25:d=0.2";
    let source = ffmpeg(dir.path(), &format!("{graph} -pix_fmt yuv420p12le -c:v ffv1 in.mkv"));
    for (codec, container, pixel_format, warnings) in [
        (Codec::H264, Container::Mp4, "yuv420p10le", 1),
        (Codec::H265, Container::Mp4, "yuv420p12le", 0),
        (Codec::Av1, Container::Mp4, "yuv420p10le", 1),
    ] {
        if !media::encoders().iter().any(|it| it.name == encoder(codec) && it.problem.is_none()) {
            skip(&format!("{} is not here", encoder(codec)));
            continue;
        }
        let out = dir.path().join("out.mp4");
        let summary = rewrite(&source, &out, spec(codec, container));
        let reduced = summary.warnings.iter().filter(|(code, _)| code == "bit_depth_reduced");
        assert_eq!((summary.pixel_format.as_str(), reduced.count()), (pixel_format, warnings));
        // A step of ten bits is 4 of twelve; these codecs stay within a few of them on a smooth picture.
        let (before, after) = (frames(&source), frames(&out));
        let steps = |frame: &Frame| f64::from(frame.picture.format.depth.peak()) + 1.0;
        let value = |frame: &Frame, at: usize| {
            let plane = &frame.picture.planes[0];
            f64::from(u16::from_le_bytes([plane[2 * at], plane[2 * at + 1]])) / steps(frame)
        };
        let mean = |of: &dyn Fn(usize) -> f64| (0..96 * 64).map(of).sum::<f64>() / (96.0 * 64.0);
        for (a, b) in before.iter().zip(&after) {
            let error = mean(&|at| (value(a, at) - value(b, at)).abs());
            assert!(error < 2.0 / 256.0, "{pixel_format}: mean error {error}");
            let shift = mean(&|at| value(a, at)) - mean(&|at| value(b, at));
            assert!(shift.abs() < 0.25 / 256.0, "{pixel_format}: brightness moved by {shift}");
        }
    }
}

fn encoder(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "libx264",
        Codec::H265 => "libx265",
        Codec::Av1 => "libsvtav1",
        Codec::Ffv1 => "ffv1",
    }
}
