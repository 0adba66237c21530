//! The watched folders: which are there, scanned, left alone.

use super::*;
use crate::daemon::errands::Hung;
use crate::daemon::filesystem;
use crate::daemon::hints::Hints;

fn folders(root: &Path, now: Instant) -> Folders {
    let path = root.display();
    let text = format!("[[watch]]\npath = \"{path}\"\noutput = \"/out\"\nfactor = 2\n");
    Folders::new(&crate::config::file::parse(Path::new("a.toml"), &text).unwrap(), now)
}

#[test]
fn a_scan_that_broke_off_is_said_and_begun_again() {
    let root = tempfile::tempdir().unwrap();
    let (hints, now) = (Hints::start(&[]), Instant::now());
    let watches = hints.watches();
    let mut folders = folders(root.path(), now);
    let look = |folders: &mut Folders, now| {
        assert_eq!(folders.take_looks(now), [0]);
        folders.looked(0, filesystem::root_identity(root.path()), watches, now)
    };
    assert!(look(&mut folders, now), "it came");
    assert_eq!(folders.take_scans(watches, now), [(0, Extent::Whole)]);
    assert!(folders.take_scans(watches, now).is_empty(), "one at a time");
    // As a thread that panicked ends.
    let broken = io::Error::other("a thread of the daemon broke off");
    folders.broke_off(0, &Extent::Whole, watches, &broken);
    assert!(folders.degraded()[0].contains("broke off"), "{:?}", folders.degraded());
    assert!(folders.workable(now).is_empty());
    let later = now + Duration::from_secs(60);
    assert!(look(&mut folders, later), "it came again");
    assert_eq!(folders.take_scans(watches, later), [(0, Extent::Whole)]);
    assert!(folders.degraded().is_empty());
}

#[test]
fn a_folder_that_does_not_answer_is_left_alone_and_nothing_is_concluded() {
    let root = tempfile::tempdir().unwrap();
    let (hints, now) = (Hints::start(&[]), Instant::now());
    let watches = hints.watches();
    let mut folders = folders(root.path(), now);
    assert_eq!(folders.take_looks(now), [0]);
    assert!(folders.are_looked_for());
    let standing = folders.list[0].standing().0;
    assert_eq!((folders.counts(), standing), ([0; 3], "looking"), "not offline yet");
    folders.looked(0, filesystem::root_identity(root.path()), watches, now);
    assert!(!folders.are_looked_for());
    let identity = folders.lasting_identity(0).map(str::to_owned);
    let hung = Hung { since: now, path: root.path().to_owned() };
    folders.hinted(0, "a.mp4".into(), false, now);
    assert!(folders.list[0].hangs(Some(&hung), now) && !folders.list[0].hangs(Some(&hung), now));
    assert!(folders.take_scans(watches, now).is_empty() && folders.take_hinted().is_empty());
    assert!(folders.workable(now).is_empty());
    assert_eq!((folders.counts(), folders.list[0].standing().0), ([0, 0, 1], "hung"));
    assert_eq!(folders.lasting_identity(0), identity.as_deref());
    assert!(folders.list[0].hangs(None, now));
    assert_eq!(folders.take_scans(watches, now).len(), 1);
    assert_eq!(folders.take_hinted(), [(0, vec![("a.mp4".into(), false)])], "not forgotten");
    assert!(folders.take_hinted().is_empty(), "one at a time");
}

/// W23. Of many some are named, and the rest is counted; each is news once.
#[test]
fn of_many_files_that_cannot_be_read_some_are_named_and_all_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let (hints, now) = (Hints::start(&[]), Instant::now());
    let mut folders = folders(root.path(), now);
    folders.looked(0, filesystem::root_identity(root.path()), hints.watches(), now);
    let folder = &mut folders.list[0];
    let said = |folder: &Folder| folder.standing().1.unwrap_or_default();
    assert!(folder.cannot_read(Path::new("a.mp4"), "denied"));
    assert!(!folder.cannot_read(Path::new("a.mp4"), "denied"), "that was said");
    assert_eq!(said(folder), "a.mp4: cannot be read: denied");
    assert!(folder.cannot_read(Path::new("b.mp4"), "an error of the disk"));
    assert_eq!(
        said(folder),
        "a.mp4: cannot be read: denied; b.mp4: cannot be read: an error of the disk"
    );
    assert!(folder.cannot_read(Path::new("b.mp4"), "denied"), "another reason");
    assert!(folder.cannot_read(Path::new("c.mp4"), "denied"));
    for number in 0..100 {
        assert!(!folder.cannot_read(Path::new(&format!("d{number}.mp4")), "denied"));
    }
    assert_eq!(said(folder), "a.mp4, b.mp4, c.mp4 and 100 more: cannot be read: denied");
    folder.can_read(Path::new("a.mp4"));
    assert_eq!(said(folder), "b.mp4, c.mp4, d0.mp4 and 99 more: cannot be read: denied");
}
