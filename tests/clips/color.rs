//! Colors come out as they went in: tags, mean colors, and the metadata of HDR10.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use slomod::config::settings::{Codec, Container, Device, Encoding, Settings};
use slomod::engine::open;
use slomod::frame::{Matrix, Picture, Sample};
use slomod::pipeline::convert::convert;

use crate::{Place, decoded, ffprobe, schema, slow};

fn with(codec: Codec, container: Container) -> Settings {
    let encoding = Encoding {
        codec,
        preset: match codec {
            Codec::Ffv1 => None,
            Codec::Av1 => Some("12".into()),
            Codec::H264 | Codec::H265 => Some("fast".into()),
        },
        container: Some(container),
        ..Encoding::default()
    };
    Settings { encoding, ..slow(2) }
}

/// Mean red, green and blue of every frame, as ffmpeg shows them by the file's own tags.
fn means(path: &Path) -> Vec<[f64; 3]> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-vsync", "passthrough", "-vf", "scale=16:16:flags=area+accurate_rnd,format=rgb24"])
        .args(["-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mean = |frame: &[u8], channel: usize| {
        frame[channel..].iter().step_by(3).map(|it| f64::from(*it)).sum::<f64>() / 256.0
    };
    run.stdout.chunks_exact(16 * 16 * 3).map(|it| [0, 1, 2].map(|c| mean(it, c))).collect()
}

/// V13: the same colors, real frames and new ones, whatever the tags say.
#[test]
fn mean_colors_and_tags_are_those_of_the_source() {
    let Some(place) = Place::new() else { return };
    let keys = ["color_range", "color_space", "color_transfer", "color_primaries"];
    for (name, matrix, tags) in [
        ("601", "bt601", "-colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m"),
        ("709", "bt709", "-colorspace bt709 -color_primaries bt709 -color_trc bt709"),
        ("2020", "bt2020", "-colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10"),
        ("untagged", "bt601", ""),
    ] {
        for range in ["tv", "pc"] {
            if tags.is_empty() && range == "pc" {
                continue;
            }
            let said = if tags.is_empty() { "" } else { &format!("-color_range {range}") };
            let source = place.ffmpeg(&format!(
                "-f lavfi -i testsrc2=s=128x96:r=10:d=0.6 -vf scale=out_color_matrix={matrix}:out_range={range},format=yuv420p \
                 -c:v libx264 -crf 4 {tags} {said} in-{name}-{range}.mp4"
            ));
            let (before, tagged) = (means(&source), ffprobe(&source)["streams"][0].clone());
            for (codec, container) in [(Codec::H264, Container::Mp4), (Codec::Ffv1, Container::Mkv)]
            {
                let out = format!("out.{}", container.extension());
                let (output, _) = place.convert(&source, &out, with(codec, container));
                let probed = ffprobe(&output)["streams"][0].clone();
                for key in keys {
                    // An untagged range is the limited one.
                    let same = tagged[key] == probed[key]
                        || (key == "color_range" && tagged[key].is_null() && probed[key] == "tv");
                    assert!(
                        same,
                        "{name} {range} {codec:?} {key}: {} {}",
                        tagged[key], probed[key]
                    );
                }
                let after = means(&output);
                assert_eq!(after.len(), 2 * before.len());
                for (number, found) in after.iter().enumerate() {
                    let (first, second) = (
                        before[number / 2],
                        before[(number / 2 + number % 2).min(before.len() - 1)],
                    );
                    for channel in 0..3 {
                        let expected = (first[channel] + second[channel]) / 2.0;
                        let off = (found[channel] - expected).abs();
                        assert!(
                            off < 1.0,
                            "{name} {range} {codec:?}: frame {number} is off by {off}"
                        );
                    }
                }
            }
        }
    }
}

/// V13: nor does the network move them, by whatever matrix and range it sees them, in 8 bits and in 10.
#[test]
fn the_network_keeps_mean_colors_in_every_matrix_and_range() {
    let Some(place) = Place::new() else { return };
    let settings = Settings { device: Device::Cpu, ..Settings::default() };
    let mut engine = open::open(&settings).unwrap();
    for (number, (space, format)) in [
        ("bt709", "yuv420p"),
        ("smpte170m", "yuv420p"),
        ("bt2020nc", "yuv420p10le"),
        ("bt709", "yuv444p"),
        ("bt709", "gray"),
    ]
    .into_iter()
    .enumerate()
    {
        for range in ["tv", "pc"] {
            let source = place.ffmpeg(&format!(
                "-f lavfi -i gradients=s=64x64:r=25:n=4:speed=0.02:seed=7:c0=navy:c1=orange:c2=teal:c3=white -frames:v 2 -vf \
                 scale=out_range={range},format={format} -c:v ffv1 -colorspace {space} -color_range {range} in-{number}-{range}.mkv"
            ));
            let frames = decoded(&source);
            let made = engine.interpolate(&frames[0], &frames[1], &[0.5]).unwrap();
            let expected =
                plane_means(&frames[0].picture).into_iter().zip(plane_means(&frames[1].picture));
            for ((first, second), found) in expected.zip(plane_means(&made[0])) {
                let off = (found - (first + second) / 2.0).abs();
                assert!(off < 1.0, "{space} {format} {range}: off by {off}");
            }
        }
    }
}

/// V14: a clip of 12 bits through the network: real frames are as they were, made ones have steps of 12 bits.
#[test]
fn twelve_bits_go_through_the_network_as_twelve_bits() {
    let Some(place) = Place::new() else { return };
    let settings = Settings { device: Device::Cpu, ..with(Codec::Ffv1, Container::Mkv) };
    let mut engine = open::open(&settings).unwrap();
    let source = place.ffmpeg(
        "-f lavfi -i gradients=s=64x64:r=25:n=4:speed=0.02:seed=7:c0=navy:c1=orange:c2=teal:c3=white -frames:v 3 -vf format=gbrp12le,format=yuv420p12le \
         -c:v ffv1 deep.mkv",
    );
    let task = place.task(&source, "out.mkv", settings);
    let report =
        convert(&task, engine.as_mut(), &Arc::new(AtomicBool::new(false)), &mut |_| {}).unwrap();
    schema::valid(&report);
    assert_eq!(report.output.unwrap().pixel_format, "yuv420p12le");
    let (before, after) = (decoded(&source), decoded(&task.temporary));
    assert_eq!((before.len(), after.len()), (3, 6));
    for (real, shown) in before.iter().zip(after.iter().step_by(2)) {
        assert!(real.picture == shown.picture, "frame {} is untouched", real.index);
    }
    for (pair, made) in before.windows(2).zip(after.iter().skip(1).step_by(2)) {
        let [first, second, made] = [&pair[0], &pair[1], made].map(|it| &it.picture);
        for ((a, b), found) in
            plane_means(first).into_iter().zip(plane_means(second)).zip(plane_means(made))
        {
            assert!((found - (a + b) / 2.0).abs() < 1.0, "{found} between {a} and {b}");
        }
        let samples = <[u8; 2]>::of(&made.planes[0]);
        let finer = samples.iter().filter(|it| it.code() % 16 != 0).count();
        assert!(
            finer > samples.len() / 2,
            "{finer} of {} are between codes of 8 bits",
            samples.len()
        );
    }
}

/// Mean of each plane, in codes of 8 bits.
fn plane_means(picture: &Picture) -> Vec<f64> {
    let depth = picture.format.depth;
    let mean = |plane: &Vec<u8>| match depth.bytes() {
        1 => plane.iter().map(|it| f64::from(*it)).sum::<f64>() / plane.len() as f64,
        _ => {
            let samples = <[u8; 2]>::of(plane);
            let sum: f64 = samples.iter().map(|it| f64::from(it.code())).sum();
            sum / samples.len() as f64 / f64::from(depth.steps())
        }
    };
    picture.planes.iter().map(mean).collect()
}

/// HDR10's metadata that ffprobe finds: of the first frame, and of the stream.
fn hdr(path: &Path) -> (Vec<Value>, Vec<Value>) {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_frames", "-show_streams"])
        .args(["-select_streams", "v:0", "-read_intervals", "%+#1"])
        .arg(path)
        .output()
        .unwrap();
    let probed: Value = serde_json::from_slice(&run.stdout).unwrap();
    let list = |it: &Value| {
        let all = it["side_data_list"].as_array().cloned().unwrap_or_default();
        let hdr = |it: &Value| {
            let kind = it["side_data_type"].as_str().unwrap();
            kind.starts_with("Mastering") || kind.starts_with("Content light")
        };
        let mut found: Vec<Value> = all.into_iter().filter(hdr).collect();
        found.iter_mut().for_each(whole_millionths);
        found.sort_by_key(|it| it["side_data_type"].to_string());
        // FFmpeg 6.1 shows on frames what the container says as well, with other denominators in mkv.
        found.dedup();
        found
    };
    (list(&probed["frames"][0]), list(&probed["streams"][0]))
}

/// Fractions as numbers of millionths.
fn whole_millionths(side_data: &mut Value) {
    for value in side_data.as_object_mut().unwrap().values_mut() {
        let fraction = value.as_str().and_then(|text| text.split_once('/'));
        if let Some((above, below)) = fraction {
            let [above, below] = [above, below].map(|text| text.parse::<f64>().unwrap());
            *value = (1e6 * above / below).round().into();
        }
    }
}

/// V14: PQ with the metadata of HDR10, and HLG.
#[test]
fn hdr10_keeps_its_metadata_and_pq_and_hlg_stay_what_they_are() {
    let Some(place) = Place::new() else { return };
    let master = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400";
    for (transfer, more) in
        [("smpte2084", format!(":hdr10=1:{master}")), ("arib-std-b67", String::new())]
    {
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=128x96:r=10:d=0.4 -pix_fmt yuv420p10le -c:v libx265 -vf \
             setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer} -x265-params log-level=none{more} in-{transfer}.mp4"
        ));
        let (of_frames, _) = hdr(&source);
        let count = if more.is_empty() { 0 } else { 2 };
        assert_eq!(of_frames.len(), count);
        for (codec, container) in [
            (Codec::H265, Container::Mp4),
            (Codec::H265, Container::Mkv),
            (Codec::Av1, Container::Mp4),
            (Codec::Av1, Container::Mkv),
            (Codec::Ffv1, Container::Mkv),
            (Codec::Ffv1, Container::Mov),
        ] {
            let out = format!("out-{transfer}.{}", container.extension());
            let (output, report) = place.convert(&source, &out, with(codec, container));
            assert_eq!(report.output.unwrap().pixel_format, "yuv420p10le");
            let probed = ffprobe(&output)["streams"][0].clone();
            assert_eq!(probed["color_transfer"], transfer);
            assert_eq!(
                (&probed["color_space"], &probed["color_primaries"]),
                (&"bt2020nc".into(), &"bt2020".into())
            );
            let (in_frames, in_stream) = hdr(&output);
            // Others have it from the container alone, which is where it is looked for then.
            if codec == Codec::H265 {
                assert_eq!(in_frames, of_frames, "{codec:?} {container:?}");
            }
            assert_eq!(in_stream.len(), count, "{codec:?} {container:?}: {in_stream:?}");
        }
        if !more.is_empty() {
            // H.264 gets it by the container alone, and hands it on.
            let (output, _) = place.convert(&source, "h264.mp4", with(Codec::H264, Container::Mp4));
            assert_eq!(hdr(&output).1.len(), 2);
            let (again, _) = place.convert(&output, "again.mp4", with(Codec::H265, Container::Mp4));
            assert_eq!(hdr(&again).0, of_frames);
        }
    }
}

/// V13: a matrix that is not known here is worked by another one, which is said, and the tag stays.
#[test]
fn a_matrix_that_is_not_known_is_said() {
    let Some(place) = Place::new() else { return };
    let plain = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.12";
    for (format, matrix, said) in [
        ("yuv444p", "ycgco", Some("YCgCo; BT.601")),
        ("yuv420p", "smpte240m", Some("SMPTE 240M; BT.709")),
        ("yuv420p", "fcc", Some("FCC; BT.601")),
        ("yuv420p10le", "bt2020c", Some("BT.2020 constant luminance; BT.2020")),
        ("yuv420p10le", "ictcp", Some("ICtCp; BT.601")),
        ("yuv420p", "chroma-derived-nc", Some("chroma-derived; BT.601")),
        ("yuv420p", "bt470bg", None),
        ("yuv420p", "bt2020nc", None),
        ("gray", "ycgco", None),
        ("gbrp", "rgb", None),
    ] {
        let source = place
            .ffmpeg(&format!("{plain} -vf format={format} -c:v ffv1 -colorspace {matrix} in.mkv"));
        let (output, report) = place.convert(&source, "out.mkv", slow(2));
        let found = report.warnings.iter().find(|it| it.code == "matrix_assumed");
        assert_eq!(found.is_some(), said.is_some(), "{matrix}: {:?}", report.warnings);
        if let (Some(found), Some(said)) = (found, said) {
            assert!(found.message.contains(said), "{}", found.message);
        }
        let tag = |path: &Path| ffprobe(path)["streams"][0]["color_space"].clone();
        assert_eq!(tag(&source), tag(&output), "{matrix}");
    }
}

/// V13: a header is wrong about the height, and the matrix of an untagged clip is that of its pictures.
#[test]
fn the_matrix_is_chosen_by_the_height_of_the_pictures() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg("-f lavfi -i testsrc2=s=64x736:r=25:d=0.2 -c:v flv1 in.mkv");
    // PixelHeight, two bytes.
    let mut bytes = std::fs::read(&source).unwrap();
    let place_of = bytes.windows(4).position(|it| it == [0xba, 0x82, 0x02, 0xe0]).unwrap();
    bytes[place_of + 2..place_of + 4].copy_from_slice(&576_u16.to_be_bytes());
    std::fs::write(&source, bytes).unwrap();
    let format = decoded(&source)[0].picture.format;
    assert_eq!((format.height_px, format.matrix), (736, Matrix::Bt709));
}

/// V13: gray that says nothing of its range is shown as it was by what reads the output.
#[test]
fn untagged_gray_is_shown_with_its_contrast() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i gradients=s=64x64:r=10:d=0.4:seed=7:c0=black:c1=white -vf format=gray -c:v ffv1 in.avi",
    );
    assert_eq!(ffprobe(&source)["streams"][0]["color_range"], Value::Null);
    let before = means(&source);
    for (codec, container) in [
        (Codec::H264, Container::Mp4),
        (Codec::H265, Container::Mp4),
        (Codec::Av1, Container::Mkv),
        (Codec::Ffv1, Container::Mkv),
    ] {
        let out = format!("out.{}", container.extension());
        let (output, _) = place.convert(&source, &out, with(codec, container));
        assert_eq!(ffprobe(&output)["streams"][0]["color_range"], "pc", "{codec:?}");
        for (number, found) in means(&output).iter().step_by(2).enumerate() {
            let off = (found[1] - before[number][1]).abs();
            assert!(off < 2.0, "{codec:?}: frame {number} is off by {off}");
        }
    }
}

/// Q03: where RGB becomes YCbCr, the luma of both is that of their RGB: of gray content it says what the RGB says.
#[test]
fn the_encoders_luma_is_taken_alike_of_source_and_output() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i testsrc2=s=128x96:r=10:d=0.6 -vf format=gray,format=gbrp -c:v ffv1 in.mkv",
    );
    let settings = Settings { quality_samples: 4, ..with(Codec::Av1, Container::Mkv) };
    let (_, report) = place.convert(&source, "out.mkv", settings);
    let scores = report.quality.unwrap().encode.unwrap().scores;
    let (rgb, luma) = (scores.psnr_rgb_db.unwrap(), scores.psnr_y_db.unwrap());
    assert!((rgb - luma).abs() < 3.0, "{rgb} dB of RGB and {luma} dB of luma");
}

/// V13: a MOV with FFV1 is lossless and does not say the range.
#[test]
fn a_range_that_the_container_cannot_say_is_a_warning() {
    let Some(place) = Place::new() else { return };
    for (range, said) in [("pc", true), ("tv", false)] {
        let source = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=64x48:r=10:d=0.3 -vf scale=out_range={range},format=yuv420p -c:v ffv1 -color_range {range} \
             in-{range}.mkv"
        ));
        for (container, said) in [(Container::Mov, said), (Container::Mkv, false)] {
            let out = format!("out.{}", container.extension());
            let (_, report) = place.convert(&source, &out, with(Codec::Ffv1, container));
            let found = report.warnings.iter().any(|it| it.code == "range_untagged");
            assert_eq!(found, said, "{range} {container:?}: {:?}", report.warnings);
        }
    }
}
