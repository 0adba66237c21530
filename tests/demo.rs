//! The demo's clip, as far as it needs no network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use slomod::cli::demo::clip::{self, FRAMES, RATE_HZ};
use slomod::cli::demo::scene::Scene;
use slomod::frame::Seconds;
use slomod::media::decode::Decoder;
use slomod::quality::{Samples, compare};

/// H.264 at CRF 10 stays above this on the scene; a frame drawn for the next moment is far below it.
const ENCODED_PSNR_DB: f64 = 40.0;

#[test]
fn the_clip_holds_every_frame_of_the_scene_at_its_time_and_a_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scene.mp4");
    let scene = Scene::new();
    clip::write(&scene, &path).unwrap();

    let mut decoder = Decoder::open(&path).unwrap();
    let kinds: Vec<String> = decoder.info().streams.iter().map(|it| it.kind.clone()).collect();
    assert_eq!(kinds, ["video", "audio"]);
    let mut frames = 0;
    let mut origin = None;
    while let Some(frame) = decoder.next_frame().unwrap() {
        let origin = *origin.get_or_insert(frame.pts);
        assert_eq!(frame.pts - origin, Seconds::new(frames, i128::from(RATE_HZ)));
        if frames % 15 == 0 {
            let psnr = |number: f64| {
                let truth = clip::picture(&scene, clip::time_s(number), frame.picture.format);
                let scores =
                    compare(&Samples::of_picture(&truth), &Samples::of_picture(&frame.picture));
                scores.rgb.psnr_db().unwrap()
            };
            let (own, next) = (psnr(frames as f64), psnr(frames as f64 + 1.0));
            assert!(own > ENCODED_PSNR_DB && next < own - 10.0, "frame {frames}: {own}, {next}");
        }
        frames += 1;
    }
    assert_eq!(frames, i128::from(FRAMES));
    assert_eq!(decoder.stats().corrupt, 0);
}
