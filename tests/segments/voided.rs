//! Segments that a later run must not use: of another clip, of other settings, damaged, unfinished.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use slomod::config::settings::{Codec, Container};
use slomod::engine::blend::Blend;
use slomod::pipeline::ConvertError;

use crate::place::*;

#[test]
fn segments_of_other_settings_weights_or_content_are_thrown_away() {
    let place = Place::new();
    let source = place.shots();
    let other_source = place.clip("other.mkv", &["-i", source.to_str().unwrap(), "-c", "copy"]);
    let begun = |name: &str| {
        let task = place.task(&source, name, settings(Codec::H264, Container::Mp4));
        assert!(run_until(&task, || finished(&task) >= 3).is_none());
        task
    };
    let same = begun("same.mp4");
    assert_eq!(run(&same).unwrap().timing.resumed.len(), 1, "nothing changed");

    let mut crf = begun("crf.mp4");
    crf.settings.encoding.crf = Some(30);
    let mut factor = begun("factor.mp4");
    factor.settings.factor = Some(2);
    let mut content = begun("content.mp4");
    content.source = other_source;
    let mut rule = begun("rule.mp4");
    rule.segments.most += 1;
    for task in [crf, factor, content, rule] {
        let report = run(&task).unwrap();
        assert!(report.timing.resumed.is_empty(), "{}", task.output.display());
        let whole = undisturbed(&task);
        let whole_report = run(&whole).unwrap();
        assert_same(&task, &report, &whole, &whole_report);
    }
    let weights = begun("weights.mp4");
    let report = run_with(&weights, &mut Renamed, &mut |_| {}).unwrap();
    assert!(report.timing.resumed.is_empty());
}

#[test]
fn what_others_put_beside_the_segments_is_let_be_and_a_link_in_their_place_is_not_followed() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "a.mp4", settings(Codec::H264, Container::Mp4));
    assert!(run_until(&task, || finished(&task) >= 2).is_none());
    let folder = task.parts.clone().unwrap();
    std::fs::create_dir(folder.join("@eaDir")).unwrap();
    std::fs::write(folder.join("notes.txt"), "x").unwrap();
    assert_eq!(run(&task).unwrap().timing.resumed.len(), 1);
    assert!(folder.join("notes.txt").exists() && folder.join("@eaDir").exists());

    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).unwrap();
    std::os::unix::fs::symlink(&away, &folder).unwrap();
    let before = std::fs::read_dir(&away).unwrap().count();
    let other = place.task(&source, "a.mp4", settings(Codec::H265, Container::Mp4));
    let error = run(&other).unwrap_err();
    assert_eq!(error.code(), "output_unwritable", "{error}");
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), before, "nothing behind it is touched");
}

#[test]
fn a_damaged_segment_is_thrown_away_with_all_behind_it() {
    let place = Place::new();
    let source = place.shots();
    let whole = place.task(&source, "whole.mp4", settings(Codec::H264, Container::Mp4));
    let whole = undisturbed(&whole);
    let whole_report = run(&whole).unwrap();
    type Damage = fn(&Path);
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let cut: Damage = |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let remove: Damage = |path| std::fs::remove_file(path).unwrap();
    let damages =
        [("packets", flip), ("packets", cut), ("packets", remove), ("json", cut), ("json", remove)];
    for (number, (extension, damage)) in damages.into_iter().enumerate() {
        let task = place.task(&source, &format!("{number}.mp4"), whole.settings.clone());
        assert!(run_until(&task, || finished(&task) >= 4).is_none());
        damage(&task.parts.as_ref().unwrap().join(format!("0002.{extension}")));
        let report = run(&task).unwrap();
        assert_eq!(report.timing.resumed.last().map(|it| it.segments), Some(1), "{number}");
        assert_same(&task, &report, &whole, &whole_report);
    }
}

#[test]
fn nothing_is_kept_of_a_first_segment_or_of_what_a_later_run_must_not_use() {
    let place = Place::new();
    let source = place.shots();
    let task = place.task(&source, "early.mp4", settings(Codec::H264, Container::Mp4));
    assert!(run_until(&task, || true).is_none());
    assert!(!task.parts.as_ref().unwrap().exists() && !task.temporary.exists());

    let task = place.task(&source, "changed.mp4", settings(Codec::H264, Container::Mp4));
    let mut engine = Stopping {
        inner: &mut Blend,
        when: || {
            let mut file = std::fs::File::options().append(true).open(&source).unwrap();
            file.write_all(b"more").unwrap();
            false
        },
        stop: Arc::default(),
    };
    let error = run_with(&task, &mut engine, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ConvertError::SourceChanged { .. }), "{error}");
    assert!(!task.parts.as_ref().unwrap().exists() && !task.temporary.exists());
}
