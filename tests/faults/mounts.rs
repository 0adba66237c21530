//! W25, W26: file systems that are really full, and really read-only.

use crate::elsewhere::{MOUNTS, inside};
use crate::ledger::Ledger;
use crate::place::{Place, clip, small};
use crate::{
    faulty, is_at_rest, lossless, start, status_line, wait_ended_with_restarts, wait_tidy,
};
use slomod::daemon::digest::file_sha256;
use std::fs;
use std::path::Path;
use std::process::Command;

const PAGE: u64 = 4096;
/// Of the file systems here.
const SIZE_BYTES: u64 = 16 << 20;

fn mount(arguments: &[&str], target: &Path) {
    let output = Command::new("mount").args(arguments).arg(target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn small_file_system(target: &Path) {
    fs::create_dir_all(target).unwrap();
    mount(&["-t", "tmpfs", "-o", &format!("size={SIZE_BYTES}"), "none"], target);
}

fn free_bytes(folder: &Path) -> u64 {
    let output = Command::new("df").args(["-B1", "--output=avail"]).arg(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

/// Takes all of the file system but `left_bytes`.
fn fill(folder: &Path, left_bytes: u64) {
    let ballast = folder.join(".ballast");
    let _ = fs::remove_file(&ballast);
    fs::write(ballast, vec![1; (free_bytes(folder) - left_bytes) as usize]).unwrap();
}

fn empty(folder: &Path) {
    fs::remove_file(folder.join(".ballast")).unwrap();
}

/// A clip whose lossless output is far larger than itself, so that space runs out in the middle.
fn grower(place: &Place, hue: u32) -> std::path::PathBuf {
    clip(place.folder.path(), "320x180", 20, hue)
}

/// W26. A small file system without room for an output, where nothing is begun; and one that somebody else fills in the
/// middle of a job, or when it is nearly done.
#[test]
fn w26_on_a_full_file_system_the_folder_is_paused_and_goes_on_once_there_is_space() {
    if !inside(
        &MOUNTS,
        "mounts::w26_on_a_full_file_system_the_folder_is_paused_and_goes_on_once_there_is_space",
    ) {
        return;
    }
    let (mut place, faults) = faulty("", "");
    lossless(&place);
    let (out, mut ledger) = (place.path("out"), Ledger::default());
    small_file_system(&out);
    let first = grower(&place, 0);
    ledger.dropped("first.mp4", &first, 40);
    place.drop_clip(&first, "first.mp4");
    start(&mut place, &faults);
    place.wait_ended(1);
    // The output, and its packets kept beside it until it is published.
    let whole = 2 * fs::metadata(out.join("first_slow2x.mkv")).unwrap().len().div_ceil(PAGE) * PAGE;
    let by_source = 2 * fs::metadata(&first).unwrap().len() * 2 * 13 / 10;
    assert!(by_source < whole * 2 / 3, "{by_source} {whole}: the source tells how much it takes");
    check_convert(&place, &first);
    let drop_next = |place: &Place, ledger: &mut Ledger| {
        let number = place.states().len() as u32;
        let (clip, name) = (grower(place, 10 * number), format!("clip{number}.mp4"));
        ledger.dropped(&name, &clip, 40);
        place.drop_clip(&clip, &name);
        number as usize
    };
    for (what, left) in [("without any", 0), ("with two thirds of it", whole * 2 / 3)] {
        fill(&out, left);
        let before = drop_next(&place, &mut ledger);
        let short = || status_line(&place).contains(" MiB needed");
        place.wait(what, short);
        check_paused(&place, &mut ledger, before);
        assert!(!place.log().contains("No space left"), "{what}: begun\n{}", place.log());
        empty(&out);
        place.wait_ended(before + 1);
    }
    for (what, left) in [("in the middle", whole / 2), ("at the end", whole - 8 * PAGE)] {
        let free = free_bytes(&out);
        faults.hold_worker();
        let before = drop_next(&place, &mut ledger);
        faults.wait_held(&place);
        let full = place.log().matches("No space left").count();
        fill(&out, left.saturating_sub(free - free_bytes(&out)));
        faults.let_go();
        place.wait(what, || place.log().matches("No space left").count() > full);
        check_paused(&place, &mut ledger, before);
        empty(&out);
        place.wait_ended(before + 1);
    }
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// By hand there is no queue to wait in: nothing is begun, and the message says where and what is missing.
fn check_convert(place: &Place, clip: &Path) {
    let (out, before) = (place.path("out"), place.listing());
    let convert = |folder: &Path, output: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
        let clip = clip.to_str().unwrap();
        command.args(["convert", clip, "--factor", "2", "--device", "cpu", "--output", output]);
        command.current_dir(folder).args(more).output().unwrap()
    };
    fill(&out, 256 << 10);
    let absolute = out.join("slow/%04d.png");
    for (output, more) in [
        ("b.mkv", &["--codec", "ffv1"][..]),
        // The output itself is small.
        ("b.mp4", &["--comparison", "side"]),
        (absolute.to_str().unwrap(), &[]),
    ] {
        let run = convert(&out, output, more);
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(73), "{output}: {said}");
        let says = |what: &str| said.contains(what);
        assert!(says(&format!("{}: 0 MiB free, ", out.display())), "{output}: {said}");
        assert!(says(" MiB needed: ") && !says("reserve"), "{output}: {said}");
        let left: Vec<_> = place.listing().into_iter().filter(|it| !before.contains(it)).collect();
        assert_eq!(left, [".ballast"], "{output}");
    }
    empty(&out);
}

/// The folder is paused behind `done` jobs, and nothing is lost, half done, or left where there is no space.
fn check_paused(place: &Place, ledger: &mut Ledger, done: usize) {
    place.wait("pause", || is_at_rest(place));
    ledger.check_visible(place);
    let found = place.states().iter().filter(|it| *it == "done").count();
    assert_eq!(found, done, "no success without space\n{}", place.log());
}

/// W26. The state folder is full: the daemon says so and does not go on without a journal; nothing is lost.
#[test]
fn w26_with_a_full_state_folder_nothing_is_lost() {
    if !inside(&MOUNTS, "mounts::w26_with_a_full_state_folder_nothing_is_lost") {
        return;
    }
    let mut place = Place::new();
    let (state, mut ledger) = (place.path("state"), Ledger::default());
    small_file_system(&state);
    place.start();
    place.wait_ready();
    fill(&state, 0);
    for number in 0..3 {
        let clip = clip(place.folder.path(), "64x48", 6, number * 20);
        let name = format!("clip{number}.mp4");
        ledger.dropped(&name, &clip, 12);
        place.drop_clip(&clip, &name);
    }
    place.wait("word of the full journal", || place.log().contains("journal"));
    ledger.check_visible(&place);
    // A start that finds no space says that it may be tried again: the unit does.
    if place.child.as_mut().unwrap().try_wait().unwrap().is_some() {
        let output = place.command("daemon").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(73 | 75)), "{:?}: {said}", output.status);
    }
    empty(&state);
    // Either it ended, or is about to, or it goes on by itself.
    wait_ended_with_restarts(&mut place, 3);
    ledger.check_end(&place);
}

/// W25. A source on a read-only share is worked, and nothing is written there.
#[test]
fn w25_a_read_only_source_is_worked_and_nothing_is_written_there() {
    if !inside(&MOUNTS, "mounts::w25_a_read_only_source_is_worked_and_nothing_is_written_there") {
        return;
    }
    let mut place = Place::with("", "recursive = true");
    let (input, mut ledger) = (place.path("in"), Ledger::default());
    small_file_system(&input);
    fs::create_dir(input.join("sub")).unwrap();
    for (number, name) in ["a.mp4", "sub/b.mp4"].into_iter().enumerate() {
        let clip = clip(place.folder.path(), "64x48", 6, number as u32 * 50);
        fs::copy(&clip, input.join(name)).unwrap();
        ledger.sources.insert(name.into(), slomod::daemon::digest::file_sha256(&clip).unwrap());
    }
    mount(&["-o", "remount,ro"], &input);
    place.start();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"], "{}", place.log());
    ledger.check_sources(&place);
    let names: Vec<_> = fs::read_dir(&input).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(place.path("out/sub/b_slow2x.mp4.json").exists());
}

/// W25. With a read-only output its jobs wait, the status says why, and it goes on once it is writable.
#[test]
fn w25_a_read_only_output_pauses_the_folder_until_it_is_writable() {
    if !inside(&MOUNTS, "mounts::w25_a_read_only_output_pauses_the_folder_until_it_is_writable") {
        return;
    }
    let mut place = Place::new();
    let (out, mut ledger) = (place.path("out"), Ledger::default());
    small_file_system(&out);
    mount(&["-o", "remount,ro"], &out);
    let clip = clip(place.folder.path(), "64x48", 6, 0);
    ledger.dropped("a.mp4", &clip, 12);
    place.drop_clip(&clip, "a.mp4");
    place.start();
    place.wait("reason in the status", || {
        let status = status_line(&place);
        status.contains("/out: cannot be written") && status.contains("Read-only")
    });
    ledger.check_visible(&place);
    assert!(place.listing().is_empty());
    mount(&["-o", "remount,rw"], &out);
    place.wait_ended(1);
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W23. The folder of originals shows the watched folder itself, through a mount that gives other numbers for devices and
/// files: what lies there under the original's name is the original, and no copy of it.
#[test]
fn w23_an_original_is_not_removed_because_another_mount_shows_it_where_it_is_to_go() {
    if !inside(
        &MOUNTS,
        "mounts::w23_an_original_is_not_removed_because_another_mount_shows_it_where_it_is_to_go",
    ) {
        return;
    }
    let mut place = Place::with("", "on_success = \"move\"");
    let layers = place.path("layers");
    small_file_system(&layers);
    let originals = place.path("originals");
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    fs::write(place.path("slomod.toml"), format!("{config}originals = {originals:?}\n")).unwrap();
    for folder in [&originals, &layers.join("upper"), &layers.join("work")] {
        fs::create_dir(folder).unwrap();
    }
    let (lower, layers) = (place.path("in").display().to_string(), layers.display());
    let options = format!("lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work");
    mount(&["-t", "overlay", "-o", &options, "none"], &originals);
    let clip = small(&place, 0);
    let hash = file_sha256(&clip).unwrap();
    place.drop_clip(&clip, "a.mp4");
    assert!(originals.join("a.mp4").is_file(), "it shows the watched folder");
    place.start();
    place.wait("word of the original", || place.log().contains("original moved"));
    let folders = [place.path("in"), place.path("layers/upper")];
    let files =
        folders.iter().flat_map(|it| fs::read_dir(it).unwrap()).map(|it| it.unwrap().path());
    let kept = files.filter(|it| it.is_file() && file_sha256(it).unwrap() == hash).count();
    assert_eq!(kept, 1, "{}", place.log());
}
