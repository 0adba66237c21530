//! Frames, times and headers.

use std::path::Path;

use num_rational::Ratio;
use slomod::config::settings::{Codec, Container};
use slomod::frame::{Chroma, Matrix, Range, Seconds};
use slomod::media;
use slomod::media::decode::Decoder;
use slomod::media::verify::verify;

use crate::turn::turn;
use crate::{ffmpeg, ffprobe, framemd5, frames, lossless, rewrite, spec, workshop};

/// Every codec and container that comes in: options for ffmpeg and the name of the file.
const INPUTS: &[&str] = &[
    "-c:v libx264 h264.mp4",
    "-c:v libx264 -bf 3 -g 12 h264.mov",
    "-c:v libx264 h264.mkv",
    "-c:v libx264 h264.ts",
    "-c:v libx264 -bf 2 h264.avi",
    "-c:v libx264 h264.flv",
    "-c:v libx265 -x265-params log-level=none hevc.mp4",
    "-c:v libx265 -x265-params log-level=none hevc.ts",
    "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 vp9.webm",
    "-c:v libsvtav1 -preset 12 av1.mp4",
    "-c:v libsvtav1 -preset 12 av1.mkv",
    "-c:v mpeg4 -bf 2 mpeg4.avi",
    "-c:v mpeg4 mpeg4.mp4",
    "-c:v mjpeg -pix_fmt yuvj422p mjpeg.avi",
    "-c:v mjpeg -pix_fmt yuvj420p mjpeg.mov",
    "-c:v prores_ks -profile:v 2 prores.mov",
    "-c:v ffv1 ffv1.mkv",
    "-c:v mpeg2video mpeg2.ts",
];

const FRAMES: u64 = 24;

#[test]
fn every_input_decodes_to_its_exact_frames_and_times() {
    let Some(dir) = workshop() else { return };
    for input in INPUTS {
        let source = ffmpeg(dir.path(), &format!("-f lavfi -i testsrc2=s=160x96:r=24:d=1 {input}"));
        let mut decoder = Decoder::open(&source).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
        assert_eq!(all.len() as u64, FRAMES, "{input}");
        assert!(all.iter().zip(0..).all(|(frame, index)| frame.index == index), "{input}");
        // Millisecond clocks (Matroska, FLV) round each time by half a millisecond at the most.
        let tolerance =
            if input.ends_with("mkv") || input.ends_with("webm") || input.ends_with("flv") {
                Ratio::new(1, 2000)
            } else {
                Ratio::new(0, 1)
            };
        for frame in &all {
            let exact = all[0].pts + Ratio::new(i128::from(frame.index), 24);
            let off = frame.pts - exact;
            // The first time is rounded too, so the difference may be twice that.
            assert!(off <= tolerance * 2 && -off <= tolerance * 2, "{input}: off by {off}");
        }
        let stats = decoder.stats();
        assert_eq!((stats.decoded, stats.corrupt), (FRAMES, 0), "{input}: {stats:?}");
        // AVI has no presentation times: frames at the start may come without one.
        let repaired = if input.ends_with("avi") { 2 } else { 0 };
        assert!(!stats.truncated && stats.repaired_times <= repaired, "{input}: {stats:?}");
        let verified = verify(&source).unwrap();
        assert_eq!((verified.frames, verified.corrupt), (FRAMES, 0), "{input}");
    }
}

#[test]
fn every_output_holds_every_frame_at_its_time() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=160x96:r=25:d=1 -c:v libx264 in.mp4");
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H264, Container::Mkv),
        (Codec::H264, Container::Mov),
        (Codec::H265, Container::Mp4),
        (Codec::H265, Container::Mkv),
        (Codec::H265, Container::Mov),
        (Codec::Av1, Container::Mp4),
        (Codec::Av1, Container::Mkv),
        (Codec::Ffv1, Container::Mkv),
        (Codec::Ffv1, Container::Mov),
    ] {
        let out = dir.path().join(format!("out.{}", container.extension()));
        let mut spec = spec(codec, container);
        if codec == Codec::H264 {
            spec.encoding.preset = Some("medium".to_owned()); // with B-frames
        }
        let summary = rewrite(&source, &out, spec);
        assert_eq!(summary.frames, 25);
        let verified = verify(&out).unwrap();
        assert_eq!((verified.frames, verified.corrupt), (25, 0), "{codec:?} {container:?}");
        assert_eq!(verified.last, Ratio::new(24, 25), "{codec:?} {container:?}");
        let times: Vec<_> = frames(&out).iter().map(|frame| frame.pts).collect();
        let exact: Vec<_> = (0..25).map(|index| Ratio::new(index, 25)).collect();
        assert_eq!(times, exact, "{codec:?} {container:?}");
        if codec == Codec::H265 && container != Container::Mkv {
            // Apple's players take no other.
            assert_eq!(ffprobe(&out)["streams"][0]["codec_tag_string"], "hvc1", "{container:?}");
        }
    }
}

#[test]
fn containers_that_cannot_hold_a_codec_say_so_before_anything_is_written() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v libx264 in.mp4");
    let info = media::probe(&source).unwrap();
    for (codec, container) in [(Codec::Ffv1, Container::Mp4), (Codec::Av1, Container::Mov)] {
        let out = dir.path().join(format!("out.{}", container.extension()));
        let error = media::write::Writer::create(&out, &info, &spec(codec, container)).err();
        assert!(matches!(error, Some(media::MediaError::Encoder { .. })), "{error:?}");
        assert!(!out.exists());
    }
}

/// Frames that went through `rewrite` are those that ffmpeg finds in the source.
pub fn assert_untouched(source: &Path, out: &Path, context: &str) {
    let (before, after) = (frames(source), frames(out));
    assert_eq!(before.len(), after.len(), "{context}");
    for (a, b) in before.iter().zip(&after) {
        assert!(a.picture.planes == b.picture.planes, "{context}: frame {}", a.index);
    }
    assert_eq!(before[0].picture.format, after[0].picture.format, "{context}");
    assert_eq!(framemd5(source, "null"), framemd5(out, "null"), "{context}");
}

/// V15.
#[test]
fn lossless_outputs_hold_the_very_samples_of_the_source() {
    let Some(dir) = workshop() else { return };
    for format in ["yuv420p", "yuv422p", "yuv444p", "gray"] {
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i mandelbrot=s=96x64:r=25 -t 0.4 -pix_fmt {format} -c:v ffv1 in.mkv"
            ),
        );
        for (spec, name) in [
            (lossless(Container::Mp4), "out.mp4"),
            (spec(Codec::Ffv1, Container::Mkv), "out.mkv"),
            (spec(Codec::Ffv1, Container::Mov), "out.mov"),
        ] {
            let out = dir.path().join(name);
            let summary = rewrite(&source, &out, spec);
            assert_eq!(summary.pixel_format, format);
            assert_eq!(summary.warnings, [], "{format} {name}");
            if (format, name) == ("gray", "out.mp4") {
                // FFmpeg decodes gray H.264 as 4:2:0 with neutral chroma.
                for (a, b) in frames(&source).iter().zip(&frames(&out)) {
                    assert!(a.picture.planes[0] == b.picture.planes[0]);
                    assert!(b.picture.planes[1..].iter().flatten().all(|it| *it == 128));
                }
                continue;
            }
            assert_untouched(&source, &out, &format!("{format} {name}"));
        }
    }
}

#[test]
fn rgb_stays_rgb_where_the_encoder_can() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i mandelbrot=s=96x64:r=25 -t 0.2 -pix_fmt gbrp -c:v libx264rgb -crf 0 in.mp4",
    );
    assert_eq!(media::probe(&source).unwrap().video.picture.chroma, Chroma::Gbr);
    for (spec, name) in
        [(lossless(Container::Mp4), "out.mp4"), (spec(Codec::Ffv1, Container::Mkv), "out.mkv")]
    {
        let out = dir.path().join(name);
        rewrite(&source, &out, spec);
        let (before, after) = (frames(&source), frames(&out));
        assert!(
            before.iter().zip(&after).all(|(a, b)| a.picture.planes == b.picture.planes),
            "{name}"
        );
        assert_eq!(framemd5(&source, "format=rgb24"), framemd5(&out, "format=rgb24"), "{name}");
    }
}

#[test]
fn odd_sizes_keep_their_size_and_samples() {
    let Some(dir) = workshop() else { return };
    for (width, height) in [(641_usize, 361_usize), (2, 2), (1, 1), (33, 32)] {
        // lavfi's patterns round to even sizes: raw bytes do not.
        let size = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
        let bytes: Vec<u8> = (0..size * 3).map(|i: usize| (i * 7 % 251) as u8).collect();
        std::fs::write(dir.path().join("in.yuv"), bytes).unwrap();
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f rawvideo -pix_fmt yuv420p -s {width}x{height} -r 25 -i in.yuv -c:v ffv1 in.mkv"
            ),
        );
        let out = dir.path().join("out.mkv");
        rewrite(&source, &out, spec(Codec::Ffv1, Container::Mkv));
        assert_untouched(&source, &out, &format!("ffv1 {width}x{height}"));

        let out = dir.path().join("out.mp4");
        let summary = rewrite(&source, &out, lossless(Container::Mp4));
        let (before, after) = (frames(&source), frames(&out));
        assert_eq!(after.len(), 3);
        let picture = &after[0].picture;
        assert_eq!((picture.format.width_px, picture.format.height_px), (width, height));
        assert_eq!(before[0].picture.planes[0], picture.planes[0], "luma of {width}x{height}");
        let odd = width % 2 + height % 2 > 0;
        let warned = summary.warnings.iter().any(|(code, _)| code == "chroma_444");
        assert_eq!(odd, warned, "{width}x{height}");
        if odd {
            let chroma_width = width.div_ceil(2);
            let kept = picture.planes[1].iter().enumerate().all(|(at, sample)| {
                let (x, y) = (at % width, at / width);
                *sample == before[0].picture.planes[1][y / 2 * chroma_width + x / 2]
            });
            assert!(kept, "chroma of {width}x{height}");
        }
    }
}

#[test]
fn odd_sizes_are_padded_for_av1_with_a_warning() {
    let Some(dir) = workshop() else { return };
    std::fs::write(dir.path().join("in.yuv"), vec![90_u8; (101 * 75 + 2 * 51 * 38) * 5]).unwrap();
    let source = ffmpeg(
        dir.path(),
        "-f rawvideo -pix_fmt yuv420p -s 101x75 -r 25 -i in.yuv -c:v ffv1 in.mkv",
    );
    let out = dir.path().join("out.mp4");
    let summary = rewrite(&source, &out, spec(Codec::Av1, Container::Mp4));
    assert!(summary.warnings.iter().any(|(code, _)| code == "size_padded"), "{summary:?}");
    let stream = &ffprobe(&out)["streams"][0];
    assert_eq!((stream["width"].as_u64(), stream["height"].as_u64()), (Some(102), Some(76)));
    assert_eq!(verify(&out).unwrap().frames, 5);
}

#[test]
fn exact_rates_survive_over_many_frames() {
    let Some(dir) = workshop() else { return };
    for rate in ["24000/1001", "25", "25/2", "60000/1001"] {
        let source = ffmpeg(
            dir.path(),
            &format!("-f lavfi -i color=s=32x32:r={rate} -frames:v 240 -c:v libx264 in.mp4"),
        );
        let rate = slomod::frame::rational_text::parse(rate).unwrap();
        let out = dir.path().join("out.mp4");
        let spec = slomod::media::clip::WriteSpec { rate, ..spec(Codec::H264, Container::Mp4) };
        rewrite(&source, &out, spec);
        let times: Vec<Seconds> = frames(&out).iter().map(|frame| frame.pts).collect();
        let exact: Vec<Seconds> = (0..240).map(|index| Ratio::from_integer(index) / rate).collect();
        assert_eq!(times, exact, "{rate}");
        assert_eq!(verify(&out).unwrap().last, Ratio::from_integer(239) / rate, "{rate}");
        let video = Decoder::open(&out).unwrap().info().video.clone();
        assert_eq!(video.end, Some(Ratio::from_integer(240) / rate), "{rate}");
    }
}

/// V04.
#[test]
fn variable_rate_and_stretch_keep_every_gap() {
    let Some(dir) = workshop() else { return };
    // Every seventh frame is missing: the gap before the next is twice as long.
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=64x64:r=30:d=2 -vf select='mod(n+1,7)' -vsync vfr -c:v libx264 in.mp4",
    );
    let before: Vec<_> = frames(&source).iter().map(|frame| frame.pts).collect();
    assert!(before.windows(2).any(|pair| pair[1] - pair[0] == Ratio::new(2, 30)));
    let stretch = Ratio::new(10, 3);
    let spec = slomod::media::clip::WriteSpec {
        stretch,
        rate: Ratio::from_integer(30),
        ..spec(Codec::H264, Container::Mp4)
    };
    let out = dir.path().join("out.mp4");
    rewrite(&source, &out, spec);
    let after: Vec<_> = frames(&out).iter().map(|frame| frame.pts).collect();
    let exact: Vec<_> = before.iter().map(|time| (time - before[0]) * stretch).collect();
    assert_eq!(after, exact);
}

#[test]
fn start_offsets_and_edit_lists_are_honoured() {
    let Some(dir) = workshop() else { return };
    let ts = ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -c:v libx264 in.ts");
    let first = frames(&ts)[0].pts;
    // FFmpeg's TS muxer starts at 1.4 s, and x264's two reordered frames come on top.
    assert!(first > Ratio::from_integer(1), "{first}");
    let out = dir.path().join("out.mp4");
    rewrite(&ts, &out, spec(Codec::H264, Container::Mp4));
    assert_eq!(frames(&out)[0].pts, Ratio::from_integer(0));

    // Cut by the edit list: frames before 0.5 s are in the file, but hidden.
    ffmpeg(dir.path(), "-f lavfi -i testsrc2=s=64x64:r=25:d=2 -c:v libx264 -g 50 whole.mp4");
    let cut = ffmpeg(dir.path(), "-ss 0.5 -i whole.mp4 -c copy cut.mp4");
    let mut decoder = Decoder::open(&cut).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    let shown = framemd5(&cut, "null").len();
    assert_eq!(all.len(), shown);
    assert!(!decoder.stats().truncated, "{:?}", decoder.stats());
    assert_eq!(decoder.info().video.frames_promised, Some(shown as u64));
}

#[test]
fn color_tags_are_copied_as_found() {
    let Some(dir) = workshop() else { return };
    let keys = ["color_range", "color_space", "color_transfer", "color_primaries"];
    for (tags, matrix, range) in [
        ("", Matrix::Bt601, Range::Limited),
        (
            "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv",
            Matrix::Bt709,
            Range::Limited,
        ),
        (
            "-colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m -color_range pc",
            Matrix::Bt601,
            Range::Full,
        ),
        (
            "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv",
            Matrix::Bt2020,
            Range::Limited,
        ),
    ] {
        let source = ffmpeg(
            dir.path(),
            &format!(
                "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -pix_fmt yuv420p -c:v libx264 {tags} in.mp4"
            ),
        );
        let picture = media::probe(&source).unwrap().video.picture;
        assert_eq!((picture.matrix, picture.range), (matrix, range), "{tags}");
        let before = &ffprobe(&source)["streams"][0];
        for (codec, container) in [
            (Codec::H264, Container::Mp4),
            (Codec::H264, Container::Mkv),
            (Codec::H265, Container::Mp4),
            (Codec::Av1, Container::Mp4),
            (Codec::Ffv1, Container::Mkv),
        ] {
            let out = dir.path().join(format!("out.{}", container.extension()));
            rewrite(&source, &out, spec(codec, container));
            let after = &ffprobe(&out)["streams"][0];
            for key in keys {
                // An untagged range is the limited one by these codecs' rules; AV1 always says which.
                if key == "color_range" && before[key].is_null() {
                    assert!(
                        after[key].is_null() || after[key] == "tv",
                        "{codec:?}: {}",
                        after[key]
                    );
                } else {
                    assert_eq!(before[key], after[key], "{tags} {key} {codec:?} {container:?}");
                }
            }
        }
    }
}

#[test]
fn large_untagged_pictures_are_bt709() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(dir.path(), "-f lavfi -i color=s=1280x720:r=25:d=0.08 -c:v libx264 in.mp4");
    let video = media::probe(&source).unwrap().video;
    assert_eq!((video.color.matrix.as_str(), video.picture.matrix), ("unknown", Matrix::Bt709));
}

/// V11.
#[test]
fn rotation_and_pixel_shape_are_kept_and_not_applied() {
    let Some(dir) = workshop() else { return };
    let plain = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -vf setsar=4/3 -c:v libx264 plain.mp4";
    let plain = ffmpeg(dir.path(), plain);
    for degrees in [0, 90, 180, 270] {
        let source = ffmpeg(dir.path(), "-i plain.mp4 -c copy in.mp4");
        turn(&source, degrees);
        let video = media::probe(&source).unwrap().video;
        assert_eq!(video.rotation_degrees, degrees as i32);
        assert_eq!(video.sample_aspect_ratio, (4, 3));
        assert_eq!((video.picture.width_px, video.picture.height_px), (64, 48));
        for container in [Container::Mp4, Container::Mov] {
            let out = dir.path().join(format!("out.{}", container.extension()));
            rewrite(&source, &out, lossless(container));
            let (before, after) = (ffprobe(&source), ffprobe(&out));
            let matrix = |it: &serde_json::Value| {
                it["streams"][0]["side_data_list"][0]["displaymatrix"].clone()
            };
            assert_eq!(matrix(&before), matrix(&after), "{degrees}");
            assert_eq!(after["streams"][0]["sample_aspect_ratio"], "4:3");
            assert_eq!(framemd5(&plain, "null"), framemd5(&out, "null"));
        }
    }
    let out = dir.path().join("out.mkv");
    let source = ffmpeg(dir.path(), "-i plain.mp4 -c copy in.mp4");
    turn(&source, 90);
    let summary = rewrite(&source, &out, lossless(Container::Mkv));
    let is_lost = summary.warnings.iter().any(|(code, _)| code == "rotation_lost");
    // FFmpeg 5.1 cannot write it, 7.1 can.
    let data = ffprobe(&out)["streams"][0]["side_data_list"].to_string();
    assert_eq!(is_lost, !data.contains("displaymatrix"), "{summary:?}");
}

/// V11: in every codec and container.
#[test]
fn pixels_that_are_not_square_stay_so_in_every_codec_and_container() {
    let Some(dir) = workshop() else { return };
    let source = ffmpeg(
        dir.path(),
        "-f lavfi -i testsrc2=s=96x64:r=25:d=0.2 -vf setsar=4/3 -c:v libx264 in.mp4",
    );
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H264, Container::Mov),
        (Codec::H264, Container::Mkv),
        (Codec::H265, Container::Mp4),
        (Codec::H265, Container::Mkv),
        (Codec::Av1, Container::Mp4),
        (Codec::Av1, Container::Mkv),
        (Codec::Ffv1, Container::Mov),
        (Codec::Ffv1, Container::Mkv),
    ] {
        let out = dir.path().join(format!("out.{}", container.extension()));
        rewrite(&source, &out, spec(codec, container));
        let stream = ffprobe(&out)["streams"][0].clone();
        assert_eq!(stream["sample_aspect_ratio"], "4:3", "{codec:?} {container:?}");
        assert_eq!((&stream["width"], &stream["height"]), (&96.into(), &64.into()));
    }
}

#[test]
fn nothing_is_converted_in_silence() {
    let Some(dir) = workshop() else { return };
    for (options, codes, chroma) in [
        ("-pix_fmt pal8 -c:v png", vec!["pixel_format_converted"], Chroma::Gbr),
        ("-pix_fmt gray16be -c:v png", vec!["bit_depth_reduced"], Chroma::Gray),
        ("-pix_fmt rgb24 -c:v rawvideo", vec!["pixel_format_converted"], Chroma::Gbr),
        ("-pix_fmt yuv411p -c:v ffv1", vec!["pixel_format_converted"], Chroma::C422),
        ("-pix_fmt nv12 -c:v rawvideo", vec!["pixel_format_converted"], Chroma::C420),
        ("-pix_fmt rgba -c:v png", vec!["pixel_format_converted"], Chroma::Gbr),
    ] {
        let name = if options.contains("nv12") { "in.nut" } else { "in.mov" };
        let source = ffmpeg(
            dir.path(),
            &format!("-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 {options} {name}"),
        );
        let info = media::probe(&source).unwrap();
        let found: Vec<_> = info.warnings.iter().map(|(code, _)| code.as_str()).collect();
        assert_eq!(found, codes, "{options}");
        assert_eq!(info.video.picture.chroma, chroma, "{options}");
        let all = frames(&source);
        assert_eq!(all.len(), 5, "{options}");
        assert!(all[0].picture.planes[0].iter().any(|it| *it != all[0].picture.planes[0][0]));
    }
}

#[test]
fn packed_rgb_is_taken_over_sample_by_sample() {
    let Some(dir) = workshop() else { return };
    let bytes: Vec<u8> = (0..5 * 3 * 3).map(|i: usize| (i * 5) as u8).collect();
    std::fs::write(dir.path().join("in.rgb"), &bytes).unwrap();
    let source = ffmpeg(
        dir.path(),
        "-f rawvideo -pix_fmt rgb24 -s 5x3 -r 25 -i in.rgb -c:v rawvideo in.mov",
    );
    let picture = frames(&source)[0].picture.clone();
    for (at, pixel) in bytes.chunks_exact(3).enumerate() {
        let [green, blue, red] = [0, 1, 2].map(|plane| picture.planes[plane][at]);
        assert_eq!([red, green, blue], [pixel[0], pixel[1], pixel[2]]);
    }
}

#[test]
fn every_encoder_of_this_system_opens() {
    let Some(_dir) = workshop() else { return };
    let (of_gpu, encoders): (Vec<_>, Vec<_>) =
        media::encoders().into_iter().partition(|it| it.on_gpu);
    let names: Vec<_> = encoders.iter().map(|it| it.name).collect();
    assert_eq!(names, ["libx264", "libx265", "libsvtav1", "ffv1", "aac"]);
    // The ffmpeg command is there with all of them wherever these tests run.
    assert!(encoders.iter().all(|it| it.problem.is_none()), "{encoders:?}");
    let names: Vec<_> = of_gpu.iter().map(|it| it.name).collect();
    assert_eq!(names, ["h264_nvenc", "hevc_nvenc", "av1_nvenc"]);
    assert_eq!(media::libavcodec_version().split('.').count(), 3);
}
