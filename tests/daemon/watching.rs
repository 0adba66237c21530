//! Is every file noticed? Trees that appear at once, lost events, too few watches, shares that come and go.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use slomod::daemon::job::now_ms;

use crate::place::*;
use crate::shim::Faults;

/// No scan finds by chance what events should have told.
const NO_SCANS: &str = "scan_interval = \"1h\"";
/// How long hundreds of jobs may take on a busy machine.
const LONG: Duration = Duration::from_secs(600);

/// Waits until there are `count` jobs, whatever their state.
fn wait_jobs(place: &Place, count: usize) {
    let begin = Instant::now();
    while place.states().len() < count {
        let found = place.states().len();
        assert!(begin.elapsed() < LONG, "{found} of {count} jobs\n{}", place.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(place.states().len(), count);
}

/// W08, M6: what is made within a new directory before its watch is found by the scan that adds it.
#[test]
fn a_hundred_trees_made_and_filled_in_one_go_are_all_found_without_a_periodic_scan() {
    let mut place = Place::with(NO_SCANS, "recursive = true");
    let clip = small(&place, 0);
    place.start();
    place.wait_ready();
    place.wait("watches", || place.log().contains("watched by change events"));
    for number in 0..100 {
        let folder = place.path(&format!("in/a{number}/b/c"));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(&clip, folder.join("clip.mp4")).unwrap();
    }
    wait_jobs(&place, 100);
}

/// A card that is cleared, folder by folder.
#[test]
fn folders_that_are_removed_are_no_word_in_the_log() {
    let mut place = Place::with(NO_SCANS, "recursive = true");
    let clip = small(&place, 0);
    place.start();
    place.wait_ready();
    fs::create_dir_all(place.path("in/card/day")).unwrap();
    place.drop_clip(&clip, "card/day/a.mp4");
    place.wait_ended(1);
    fs::remove_dir_all(place.path("in/card")).unwrap();
    // What happens later is noticed later.
    place.drop_clip(&small(&place, 90), "b.mp4");
    place.wait_ended(2);
    assert!(!place.log().contains("WARN"), "{}", place.log());
    assert_eq!(place.terminate().code(), Some(0));
}

/// W07, M5: a moved-in tree gives one event.
#[test]
fn a_moved_in_tree_of_500_files_is_500_jobs() {
    let mut place = Place::with(NO_SCANS, "recursive = true");
    let clip = small(&place, 0);
    for folder in 0..25 {
        let path = place.path(&format!("tree/f{folder}/deep"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..20 {
            fs::copy(&clip, path.join(format!("{file}.mp4"))).unwrap();
        }
    }
    place.start();
    place.wait_ready();
    fs::rename(place.path("tree"), place.path("in/tree")).unwrap();
    wait_jobs(&place, 500);
    // Moved within the folder, its directories keep being watched.
    fs::rename(place.path("in/tree/f0"), place.path("in/moved")).unwrap();
    place.drop_clip(&small(&place, 90), "moved/deep/new.mp4");
    place.wait("the new clip", || {
        place.jobs().iter().any(|job| job.source.ends_with("moved/deep/new.mp4"))
    });
}

/// W14: the system's queue of events runs over while the daemon does not read it.
#[test]
fn all_files_are_found_though_the_queue_of_events_ran_over() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        skip(&format!("{limit} events would have to be made"));
        return;
    }
    let mut place = Place::with(NO_SCANS, "recursive = true");
    fs::create_dir(place.path("in/sub")).unwrap();
    place.start();
    place.wait_ready();
    place.wait("watches", || place.log().contains("watched by change events"));
    place.signal(Signal::STOP);
    place.drop_clip(&small(&place, 0), "before.mp4");
    // Each is created and closed; every other one is renamed as well.
    for number in 0..limit {
        let path = place.path(&format!("in/sub/{number}.txt"));
        fs::write(&path, "").unwrap();
        if number % 2 == 0 {
            fs::rename(&path, path.with_extension("log")).unwrap();
        }
    }
    place.drop_clip(&small(&place, 60), "sub/lost.mp4");
    fs::create_dir(place.path("in/late")).unwrap();
    place.drop_clip(&small(&place, 120), "late/lost.mp4");
    place.signal(Signal::CONT);
    place.wait_ended(3);
    assert_eq!(place.states(), ["done"; 3]);
    assert!(place.log().contains("change events were lost (1 times since the start)"));
    // Its directories are watched as before.
    place.drop_clip(&small(&place, 180), "late/new.mp4");
    place.wait_ended(4);
}

/// Runs the daemon behind `sh -c script` in its own user namespace, where it is root.
fn start_isolated(place: &mut Place, flags: &str, script: &str) {
    let command = isolated(place, flags, script);
    place.spawn(command);
}

fn isolated(place: &Place, flags: &str, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", &format!("{script} && exec \"$0\" daemon --config \"$1\"")]);
    command.arg(env!("CARGO_BIN_EXE_slomod")).arg(place.path("slomod.toml"));
    command
}

/// Whether this machine lets the test have such a namespace.
fn can_isolate(flags: &str, script: &str) -> bool {
    let output = Command::new("unshare").args([flags, "sh", "-c", script]).output();
    let can = output.is_ok_and(|it| it.status.success());
    if !can {
        skip(&format!("unshare {flags} {script}"));
    }
    can
}

/// W15: too few watches. Only what got none is polled, with one warning, and freed watches are used again.
#[test]
fn where_watches_run_out_the_rest_is_polled_until_there_are_some_again() {
    let script = "echo 20 > /proc/sys/user/max_inotify_watches";
    if !can_isolate("-Ur", script) {
        return;
    }
    let mut place = Place::with(NO_SCANS, "recursive = true");
    for number in 0..40 {
        fs::create_dir_all(place.path(&format!("in/d{number}/deep"))).unwrap();
    }
    place.drop_clip(&small(&place, 0), "first.mp4");
    start_isolated(&mut place, "-Ur", script);
    place.wait_ended(1);
    let warning = "the limit of inotify watches is reached";
    place.wait("the warning", || place.log().contains(warning));
    place.wait("61 directories in the status", || {
        let status = place.command("status").output().unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        text.contains("no inotify watches left for 61 directories")
    });
    for (number, folder) in (0..40).step_by(8).enumerate() {
        let hue = 30 * (number as u32 + 1);
        place.drop_clip(&small(&place, hue), &format!("d{folder}/deep/c.mp4"));
    }
    place.wait_ended(6);
    for number in 0..40 {
        let folder = place.path(&format!("in/d{number}"));
        if number % 8 != 0 {
            fs::remove_dir_all(folder).unwrap();
        }
    }
    place.wait("enough watches", || place.log().contains("inotify watches suffice again"));
    assert_eq!(place.log().matches(warning).count(), 1, "{}", place.log());
    place.drop_clip(&small(&place, 300), "d8/deep/again.mp4");
    place.wait_ended(7);
}

/// W13, without a network: a folder that is polled, and another that keeps its events.
#[test]
fn a_polled_folder_is_read_at_its_interval_and_its_neighbour_keeps_events() {
    let mut place = Place::with(NO_SCANS, "recursive = true\nwatch_by = \"polling\"");
    let root = place.folder.path().display().to_string();
    fs::create_dir(place.path("local")).unwrap();
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let neighbour = format!(
        "{config}\n[[watch]]\npath = \"{root}/local\"\noutput = \"{root}/out2\"\nfactor = 2\n\
         preset = \"ultrafast\"\nquality_samples = 0\n"
    );
    fs::write(place.path("slomod.toml"), neighbour).unwrap();
    place.start();
    place.wait_ready();
    place.wait("both ways", || {
        let log = place.log();
        log.contains("/in: 1 directory is read every 500ms, as configured")
            && log.contains("/local: watched by change events")
    });
    fs::create_dir(place.path("in/new")).unwrap();
    let (polled, told) = (small(&place, 0), small(&place, 90));
    let dropped_ms = now_ms();
    place.drop_clip(&polled, "new/polled.mp4");
    fs::copy(told, place.path("local/told.mp4")).unwrap();
    place.wait_ended(2);
    assert_eq!(place.states(), ["done", "done"]);
    // Half a second and the time to be still, on a machine that is busy with other tests.
    for job in place.jobs() {
        assert!(job.queued_ms - dropped_ms < 30_000, "{}\n{}", job.source, place.log());
    }
}

/// W13: a share below a watched folder is a watched folder of its own; its clips are worked once, by its own settings.
#[test]
fn a_polled_folder_within_a_watched_one_is_worked_as_itself_alone() {
    let mut place = Place::with(NO_SCANS, "");
    let root = place.folder.path().display().to_string();
    fs::create_dir(place.path("in/nas")).unwrap();
    let config = fs::read_to_string(place.path("slomod.toml")).unwrap();
    let inner = format!(
        "{config}\n[[watch]]\npath = \"{root}/in/nas\"\noutput = \"{root}/out2\"\nfactor = 3\n\
         preset = \"ultrafast\"\nquality_samples = 0\nwatch_by = \"polling\"\n"
    );
    fs::write(place.path("slomod.toml"), inner).unwrap();
    place.start();
    place.wait_ready();
    place.drop_clip(&small(&place, 0), "nas/shared.mp4");
    place.wait_ended(1);
    place.drop_clip(&small(&place, 90), "local.mp4");
    place.wait_ended(2);
    // The poll comes by a few times more.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(place.states(), ["done", "done"]);
    assert_eq!(place.listing(), ["local_slow2x.mp4", "local_slow2x.mp4.json"]);
    assert!(place.path("out2/shared_slow3x.mp4.json").exists());
}

/// Processes of the namespace in which the daemon of `place` runs.
fn within(place: &Place, script: &str) {
    let daemon: &Child = place.child.as_ref().unwrap();
    let status = Command::new("nsenter")
        .args(["-U", "-m", "--preserve-credentials", "-t", &daemon.id().to_string()])
        .args(["sh", "-ec", script])
        .current_dir(place.folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
}

/// W16: a share is unmounted while its jobs wait, and mounted again.
#[test]
fn an_unmounted_share_keeps_its_jobs() {
    if !can_isolate("-rm", "mount -t tmpfs none /mnt && nsenter --version") {
        return;
    }
    let mut place = Place::with(NO_SCANS, "factor = 16\nfps = 10\nrecursive = true");
    let root = place.folder.path().display().to_string();
    fs::create_dir(place.path("share")).unwrap();
    let clips: Vec<PathBuf> = (0..3).map(|number| large(&place, 80 * number)).collect();
    let mut script = format!("mount -t tmpfs none '{root}/share' && mkdir '{root}/share/sub'");
    for (number, clip) in clips.iter().enumerate() {
        script += &format!(" && cp '{}' '{root}/share/sub/{number}.mp4'", clip.display());
    }
    script += &format!(" && mount --bind '{root}/share' '{root}/in'");
    let faults = Faults::of(&place);
    faults.hold_worker();
    let mut command = isolated(&place, "-rm", &script);
    faults.enter(&mut command);
    place.spawn(command);
    faults.wait_held(&place);
    place.wait("two jobs that wait", || place.states().len() == 3);
    within(&place, &format!("umount -l '{root}/in'"));
    faults.let_go();
    place.wait("a job that waits", || place.log().contains("is it mounted?"));
    assert!(!place.states().contains(&"cancelled".to_owned()), "{}", place.log());
    within(&place, &format!("mount --bind '{root}/share' '{root}/in'"));
    place.wait_ended(3);
    assert_eq!(place.states(), ["done"; 3], "{}", place.log());
    // The new mount is watched, its directories as well.
    let fourth = small(&place, 300);
    within(&place, &format!("cp '{}' '{root}/share/sub/new.mp4'", fourth.display()));
    place.wait_ended(4);
    assert_eq!(place.states(), ["done"; 4], "{}", place.log());
}
