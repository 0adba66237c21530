//! Sizes and orientations, from one pixel to 8192x4320.

use num_rational::Ratio;
use slomod::config::beside::{Beside, Still};
use slomod::config::settings::{Codec, Container, Encoding, Settings};
use slomod::pipeline::beside;

use crate::{Place, decoded, ffprobe, slow};

/// V12: sizes of any parity, real frames untouched and new ones of the same size.
#[test]
fn sizes_from_one_pixel_up_are_worked() {
    let Some(place) = Place::new() else { return };
    for (width, height) in [(1_usize, 1_usize), (2, 2), (3, 1), (641, 361)] {
        let size = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
        let bytes: Vec<u8> = (0..size * 3).map(|it: usize| (it * 7 % 251) as u8).collect();
        std::fs::write(place.path("in.yuv"), bytes).unwrap();
        let source = place.ffmpeg(&format!(
            "-f rawvideo -pix_fmt yuv420p -s {width}x{height} -r 25 -i in.yuv -c:v ffv1 in.mkv"
        ));
        let (output, report) = place.convert(&source, "out.mkv", slow(2));
        let frames = report.output.unwrap().frames;
        assert_eq!((frames.total, frames.real), (6, 3), "{width}x{height}");
        let (before, after) = (decoded(&source), decoded(&output));
        for (real, shown) in before.iter().zip(after.iter().step_by(2)) {
            assert!(real.picture == shown.picture, "{width}x{height}");
        }
        let format = after[1].picture.format;
        assert_eq!((format.width_px, format.height_px), (width, height));
    }
}

/// V12: two frames of 8192x4320.
#[test]
fn the_largest_cinema_format_is_worked() {
    let Some(place) = Place::new() else { return };
    let source = place.ffmpeg(
        "-f lavfi -i gradients=seed=7:c0=navy:c1=orange:s=8192x4320:r=2:d=1:speed=0.5 -pix_fmt yuv420p -c:v mjpeg -strict unofficial -q:v 20 in.mkv",
    );
    let encoding = Encoding {
        codec: Codec::H264,
        preset: Some("ultrafast".into()),
        crf: Some(40),
        ..Encoding::default()
    };
    let (output, report) = place.convert(&source, "out.mp4", Settings { encoding, ..slow(2) });
    assert_eq!(report.output.unwrap().frames.total, 4);
    let stream = &ffprobe(&output)["streams"][0];
    assert_eq!((stream["width"].as_u64(), stream["height"].as_u64()), (Some(8192), Some(4320)));
}

/// V10: what is shown mirrored stays so.
#[test]
fn mirrored_and_turned_clips_stay_so() {
    let Some(place) = Place::new() else { return };
    let plain = place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -c:v libx264 plain.mp4");
    let one = 1_i32 << 16;
    for (name, matrix, degrees, mirrored) in [
        ("mirrored", [-one, 0, 0, 0, one, 0, 64 << 16, 0, 1 << 30], 0, true),
        ("upside down", [one, 0, 0, 0, -one, 0, 0, 48 << 16, 1 << 30], 180, true),
        ("turned", [0, one, 0, -one, 0, 0, 48 << 16, 0, 1 << 30], 90, false),
        ("turned half", [-one, 0, 0, 0, -one, 0, 64 << 16, 48 << 16, 1 << 30], 180, false),
        ("transposed", [0, one, 0, one, 0, 0, 0, 0, 1 << 30], 270, true),
    ] {
        let mut bytes = std::fs::read(&plain).unwrap();
        // The matrix lies 40 bytes behind the name of the track's header.
        let at = bytes.windows(4).position(|it| it == b"tkhd").unwrap() + 4 + 40;
        let words = matrix.iter().flat_map(|it| it.to_be_bytes());
        bytes.splice(at..at + 36, words);
        let source = place.path("in.mp4");
        std::fs::write(&source, bytes).unwrap();
        let said = ffprobe(&source)["streams"][0]["side_data_list"][0]["displaymatrix"].clone();
        for container in [Container::Mp4, Container::Mov] {
            let encoding =
                Encoding { crf: Some(0), container: Some(container), ..Encoding::default() };
            let settings = Settings { encoding, ..slow(2) };
            let out = format!("out.{}", container.extension());
            let (output, report) = place.convert(&source, &out, settings);
            let found = &ffprobe(&output)["streams"][0]["side_data_list"][0]["displaymatrix"];
            assert_eq!(*found, said, "{name}");
            let found = (report.source.rotation_degrees, report.source.mirrored);
            assert_eq!(found, (Some(degrees), Some(mirrored)), "{name}");
            let (before, after) = (decoded(&source), decoded(&output));
            assert!(before[0].picture.planes == after[0].picture.planes, "{name}: not applied");
        }
    }
}

/// V11, V13: recordings put behind each other of which the second is to be shown otherwise. An output says it once.
#[test]
fn a_change_of_pixel_shape_or_color_in_mid_clip_is_said() {
    let Some(place) = Place::new() else { return };
    let part = |aspect: &str, tags: &str, at: u32| {
        let made = place.ffmpeg(&format!(
            "-f lavfi -i testsrc2=s=64x64:r=25:d=1,setsar={aspect} -c:v libx264 -bf 0 {tags} -output_ts_offset {at} part.ts"
        ));
        std::fs::read(made).unwrap()
    };
    let tagged =
        |name: &str| format!("-colorspace {name} -color_primaries {name} -color_trc {name}");
    let (hd, sd) = (tagged("bt709"), tagged("smpte170m"));
    for (first, second, said) in [
        (("16/11", ""), ("1/1", ""), Some("pixels 1:1 instead of 16:11;")),
        (
            ("1/1", &*hd),
            ("1/1", &*sd),
            Some(
                "matrix smpte170m instead of bt709, primaries smpte170m instead of bt709, transfer smpte170m instead of bt709;",
            ),
        ),
        (("16/11", ""), ("16/11", ""), None),
        (("16/11", &*hd), ("0", ""), None),
        (("0", ""), ("16/11", &*hd), None),
    ] {
        let source = place.path("joined.ts");
        let joined = [part(first.0, first.1, 0), part(second.0, second.1, 1)].concat();
        std::fs::write(&source, joined).unwrap();
        let (_, report) = place.convert(&source, "out.mkv", slow(2));
        let found = report.warnings.iter().find(|it| it.code == "tags_change");
        assert_eq!(found.is_some(), said.is_some(), "{first:?} {second:?}: {:?}", report.warnings);
        if let (Some(found), Some(said)) = (found, said) {
            assert!(found.message.contains(said), "{found:?}");
            // A start of 1.4 s is the container's own.
            assert!(found.message.starts_with("from frame 25, at 2.4"), "{found:?}");
        }
    }
}

/// V10: where the pictures say how they are turned and the container does not.
#[test]
fn what_pictures_say_of_their_orientation_is_kept() {
    let Some(place) = Place::new() else { return };
    place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 %d.jpg");
    for number in 1..=5 {
        let path = place.path(&format!("{number}.jpg"));
        let turned = crate::exif::turned(&std::fs::read(&path).unwrap());
        std::fs::write(path, turned).unwrap();
    }
    let source = place.ffmpeg("-framerate 25 -i %d.jpg -c copy in.avi");
    let encoding = Encoding { container: Some(Container::Mp4), ..Encoding::default() };
    let (output, report) = place.convert(&source, "out.mp4", Settings { encoding, ..slow(2) });
    assert_eq!(report.source.rotation_degrees, Some(90));
    let shown = &ffprobe(&output)["streams"][0]["side_data_list"][0];
    assert_eq!(shown["rotation"], -90);
}

/// V11: stills are pictures as they are shown.
#[test]
fn stills_have_square_pixels() {
    let Some(place) = Place::new() else { return };
    let source =
        place.ffmpeg("-f lavfi -i testsrc2=s=64x48:r=25:d=0.2,setsar=3/2 -c:v ffv1 wide.mkv");
    let stills = vec![Still::At(Ratio::from_integer(0))];
    let settings = Settings { beside: Beside { stills, ..Beside::default() }, ..slow(2) };
    let (output, _) = place.convert(&source, "out.mkv", settings);
    let image = image::open(beside::folder(&output).join("frame-000000.png")).unwrap();
    assert_eq!((image.width(), image.height()), (96, 48));
}
