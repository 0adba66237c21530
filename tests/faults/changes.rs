//! W18, W19: a source changes, moves or goes while it is being worked.

use crate::ledger::Ledger;
use crate::place::{Place, clip, large};
use crate::shim::{Faults, start_at_work};
use crate::{faulty, wait_tidy};
use slomod::daemon::digest::file_sha256;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

/// A place whose daemon works the clip `in/a.mp4` and is held in its middle, and the clip it was.
fn at_work() -> (Place, Faults, Ledger, PathBuf) {
    let (mut place, faults) = faulty("", "factor = 8");
    let first = large(&place, 0);
    place.drop_clip(&first, "a.mp4");
    start_at_work(&mut place, &faults);
    (place, faults, Ledger::default(), first)
}

fn states_by_age(place: &Place) -> Vec<(String, String)> {
    let mut jobs = place.jobs();
    jobs.sort_by_key(|it| it.job);
    jobs.into_iter().map(|it| (it.state, it.error_code.unwrap_or_default())).collect()
}

fn word(state: &str, code: &str) -> (String, String) {
    (state.to_owned(), code.to_owned())
}

/// W19. Bytes in the middle are overwritten: the output is discarded, both hashes are in the log, and the file, as it is now,
/// is one new job.
#[test]
fn w19_a_file_that_is_written_while_it_is_worked_is_worked_again_as_it_is_then() {
    let (mut place, faults, mut ledger, first) = at_work();
    let path = place.path("in/a.mp4");
    let before = file_sha256(&first).unwrap();
    // A box that players pass over, and that is of no use beside the output: other content that decodes the same.
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"\0\0\0\x0cwide1234").unwrap();
    drop(file);
    ledger.dropped("a.mp4", &path, 40 * 8);
    let after = file_sha256(&path).unwrap();
    faults.let_go();
    place.wait_ended(2);
    wait_tidy(&place);
    assert_eq!(
        states_by_age(&place),
        [word("cancelled", "source_changed"), word("done", "")],
        "{}",
        place.log()
    );
    let log = place.log();
    let evidence = log.lines().find(|it| it.contains("cancelled")).unwrap();
    assert!(evidence.contains(&before) && evidence.contains(&after), "{evidence}");
    ledger.check_end(&place);
    assert_eq!(place.terminate().code(), Some(0));
}

/// W19. Another file takes the name while the first is worked: only the new one comes out.
#[test]
fn w19_a_file_that_is_replaced_while_it_is_worked_comes_out_as_the_new_one() {
    let (place, faults, mut ledger, _) = at_work();
    let second = clip(place.folder.path(), "64x48", 6, 200);
    ledger.dropped("a.mp4", &second, 6 * 8);
    place.drop_clip(&second, "a.mp4");
    faults.let_go();
    place.wait_ended(2);
    wait_tidy(&place);
    assert_eq!(
        states_by_age(&place),
        [word("cancelled", "source_changed"), word("done", "")],
        "{}",
        place.log()
    );
    ledger.check_end(&place);
}

/// W18. The file is deleted while it is worked: its hash cannot be confirmed, so nothing is published and nothing is left.
#[test]
fn w18_a_file_that_is_deleted_while_it_is_worked_publishes_nothing() {
    let (place, faults, mut ledger, _) = at_work();
    fs::remove_file(place.path("in/a.mp4")).unwrap();
    faults.let_go();
    place.wait_ended(1);
    wait_tidy(&place);
    assert_eq!(states_by_age(&place), [word("cancelled", "source_vanished")], "{}", place.log());
    assert!(place.listing().is_empty(), "{:?}", place.listing());
    ledger.check_end(&place);
}

/// W18. The same, and the file comes back: it is worked to its end, once.
#[test]
fn w18_a_deleted_file_that_comes_back_is_done() {
    let (place, faults, mut ledger, first) = at_work();
    fs::remove_file(place.path("in/a.mp4")).unwrap();
    faults.let_go();
    place.wait("end of the first", || place.states() == ["cancelled"]);
    ledger.dropped("a.mp4", &first, 40 * 8);
    place.drop_clip(&first, "a.mp4");
    place.wait_ended(2);
    wait_tidy(&place);
    ledger.check_end(&place);
}

/// W18. The file is renamed while it is worked: it comes out once, under its new name.
#[test]
fn w18_a_file_that_is_renamed_while_it_is_worked_comes_out_under_its_new_name() {
    let (place, faults, mut ledger, first) = at_work();
    fs::rename(place.path("in/a.mp4"), place.path("in/b.mp4")).unwrap();
    faults.let_go();
    ledger.dropped("b.mp4", &first, 40 * 8);
    place.wait_ended(2);
    wait_tidy(&place);
    assert_eq!(
        states_by_age(&place),
        [word("cancelled", "source_vanished"), word("done", "")],
        "{}",
        place.log()
    );
    assert_eq!(place.listing(), ["b_slow8x.mp4", "b_slow8x.mp4.json"]);
    ledger.check_end(&place);
}

/// W20. Where outputs replace those of the same name, a clip that comes back is no duplicate of a result that is gone.
#[test]
fn w20_an_overwritten_output_is_made_again_when_its_clip_comes_back() {
    let mut place = Place::with("", "collision = \"overwrite\"");
    let mut ledger = Ledger::default();
    let clips = [0, 90].map(|hue| clip(place.folder.path(), "64x48", 6, hue));
    place.start();
    for (turn, clip) in [&clips[0], &clips[1], &clips[0]].into_iter().enumerate() {
        ledger.dropped("a.mp4", clip, 12);
        place.drop_clip(clip, "a.mp4");
        place.wait_ended(turn + 1);
        ledger.check_end(&place);
    }
    assert_eq!(place.states(), ["done"; 3], "{}", place.log());
}
