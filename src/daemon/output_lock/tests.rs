//! Locks within one process; `tests/faults` and `tests/daemon` have those of several.

use super::*;

#[test]
fn a_lock_is_held_once_named_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let lock = OutputLock::take(folder.path()).unwrap();
    let mode = fs::metadata(folder.path().join(LOCK_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, FOR_ALL, "another user's daemon can lock it");
    let refused = OutputLock::take(folder.path()).unwrap_err();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(lock);
    assert!(!folder.path().join(LOCK_NAME).exists());
    assert!(OutputLock::take(folder.path()).is_ok());
}

#[test]
fn a_link_in_the_place_of_the_lock_is_refused_and_its_target_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("precious");
    fs::write(&target, "text").unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join(LOCK_NAME)).unwrap();
    assert!(OutputLock::take(folder.path()).unwrap_err().contains("cannot be written"));
    assert_eq!(fs::read_to_string(&target).unwrap(), "text");
}

#[test]
fn a_lock_whose_file_was_removed_is_lost_and_its_end_leaves_the_next_alone() {
    let folder = tempfile::tempdir().unwrap();
    let first = OutputLock::take(folder.path()).unwrap();
    fs::remove_file(folder.path().join(LOCK_NAME)).unwrap();
    assert!(!first.is_ours());
    let second = OutputLock::take(folder.path()).unwrap();
    drop(first);
    assert!(second.is_ours());
}

#[test]
fn one_daemon_shares_a_lock_between_its_folders_and_says_what_it_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("out"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let locks = OutputLocks::default();
    let journal = journal_in(folder.path());
    for folder in [real.as_path(), &link, Path::new("/proc/none")] {
        locks.look(folder, &journal).unwrap();
    }
    assert!(locks.refusal(&real).is_none() && locks.refusal(&link).is_none());
    assert!(locks.refusal(Path::new("/proc/none")).unwrap().contains("cannot be created"));
    assert_eq!(locks.refusals().len(), 1);
    let other = OutputLocks::default();
    other.look(&real, &journal).unwrap();
    assert!(other.of(&real).is_none());
    drop(locks);
    other.look(&real, &journal).unwrap();
    assert!(other.of(&real).is_some(), "taken over");
}

/// As a job has it: the folder is taken out of the configuration and put back, or moved away and back.
#[test]
fn a_lock_that_a_job_still_has_is_not_taken_for_somebody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let (locks, journal) = (OutputLocks::default(), journal_in(folder.path()));
    let (out, away) = (folder.path().join("out"), folder.path().join("away"));
    locks.look(&out, &journal).unwrap();
    let of_job = locks.of(&out).unwrap();
    drop(locks.unwanted(|_| false));
    locks.look(&out, &journal).unwrap();
    assert!(Arc::ptr_eq(&locks.of(&out).unwrap(), &of_job), "{:?}", locks.refusals());
    fs::rename(&out, &away).unwrap();
    locks.look(&out, &journal).unwrap();
    assert!(!Arc::ptr_eq(&locks.of(&out).unwrap(), &of_job), "another folder");
    fs::remove_dir_all(&out).unwrap();
    fs::rename(&away, &out).unwrap();
    locks.look(&out, &journal).unwrap();
    assert!(Arc::ptr_eq(&locks.of(&out).unwrap(), &of_job), "{:?}", locks.refusals());
}

#[test]
fn two_names_of_a_folder_that_are_taken_at_once_share_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("out");
    fs::create_dir(&real).unwrap();
    let names: Vec<PathBuf> = (0..4).map(|it| folder.path().join(it.to_string())).collect();
    for name in &names {
        std::os::unix::fs::symlink(&real, name).unwrap();
    }
    let (locks, journal) = (OutputLocks::default(), journal_in(folder.path()));
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| locks.look(name, &journal).unwrap());
        }
    });
    assert_eq!(locks.refusals(), Vec::<String>::new());
}

#[test]
fn a_folder_that_does_not_answer_is_refused_and_keeps_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (locks, journal) = (OutputLocks::default(), journal_in(folder.path()));
    let out = folder.path().join("out");
    locks.hangs(&out, Some("no answer".into()));
    assert_eq!(locks.refusal(&out).as_deref(), Some("no answer"), "from the first look on");
    locks.look(&out, &journal).unwrap();
    assert!(locks.of(&out).is_some() && locks.is_hung(&out), "until somebody says otherwise");
    locks.hangs(&out, None);
    assert_eq!((locks.refusal(&out), locks.is_hung(&out)), (None, false));
    assert_eq!(locks.unwanted(|it| it == out).len(), 0);
    assert_eq!(locks.unwanted(|_| false).len(), 1);
    assert!(!out.join(LOCK_NAME).exists());
}

#[test]
fn a_lock_that_an_smb_server_refuses_is_somebody_elses() {
    assert!(is_held(Errno::WOULDBLOCK) && is_held(Errno::ACCESS));
    assert!(!is_held(Errno::NOLCK) && !is_held(Errno::OPNOTSUPP));
}

fn journal_in(folder: &Path) -> Mutex<Journal> {
    Mutex::new(Journal::open(folder).unwrap())
}

#[test]
fn an_empty_place_below_a_share_is_refused_and_stays_empty_until_somebody_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal_in(folder.path());
    let out = folder.path().join("out");
    journal.lock().unwrap().remember_output(&out, "6969:1:2").unwrap();
    let locks = OutputLocks::default();
    let look = || locks.look(&out, &journal).unwrap();
    look();
    assert!(locks.refusal(&out).unwrap().contains("mount it"), "its place is gone with it");
    assert!(!out.exists(), "nothing is made beside the share");
    fs::create_dir(&out).unwrap();
    look();
    assert!(locks.refusal(&out).unwrap().contains("6969:1:2"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    let lock = out.join(LOCK_NAME);
    fs::write(&lock, "{}").unwrap();
    look();
    assert!(locks.of(&out).is_none(), "what a daemon left that died is nobody's word");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    look();
    assert!(locks.of(&out).is_none(), "no file");
    fs::remove_dir(&lock).unwrap();
    fs::write(&lock, "").unwrap();
    look();
    assert!(locks.of(&out).is_some(), "accepted");
    drop(locks);
    let next = OutputLocks::default();
    next.look(&out, &journal).unwrap();
    assert!(next.of(&out).is_some(), "and kept in mind");
}

#[test]
fn an_output_folder_that_was_removed_is_made_again_on_the_same_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal_in(folder.path());
    let out = folder.path().join("out");
    let locks = OutputLocks::default();
    let look = || locks.look(&out, &journal).unwrap();
    look();
    fs::remove_dir_all(&out).unwrap();
    look();
    assert!(locks.of(&out).is_some_and(|it| it.is_ours()));
}
