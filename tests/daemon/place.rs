//! Folders, clips and a running daemon for the end-to-end tests.

#[path = "../support/schema.rs"]
pub mod schema;
#[path = "../support/skip.rs"]
mod skip;

use rustix::process::{Pid, Signal, kill_process};
use slomod::daemon::journal::Journal;
use slomod::daemon::journal::view::JobView;
use slomod::daemon::output_lock::LOCK_NAME;
use slomod::report::Report;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use skip::skip;

/// How long anything may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long a file must be still in these tests.
pub const SETTLE: Duration = Duration::from_millis(300);

/// A place with a drop folder, an output folder, a configuration, and perhaps a running daemon.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub child: Option<Child>,
    /// How often a daemon had said that it is ready when the last one was started.
    ready_before: usize,
}

impl Place {
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// `daemon` and `watch` are further lines of the two blocks.
    pub fn with(daemon: &str, watch: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        fs::create_dir(folder.path().join("in")).unwrap();
        let factor = if watch.contains("fact") { "" } else { "factor = 2\n" };
        let config = format!(
            "[daemon]\nstate_dir = \"{root}/state\"\nmodel = \"blend\"\ndevice = \"cpu\"\nsettle = \"300ms\"\n\
             poll_interval = \"500ms\"\nreserve = 0\n{daemon}\n\
             [[watch]]\npath = \"{root}/in\"\noutput = \"{root}/out\"\npreset = \"ultrafast\"\n\
             quality_samples = 4\n{factor}{watch}\n"
        );
        fs::write(folder.path().join("slomod.toml"), config).unwrap();
        Self { folder, child: None, ready_before: 0 }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slomod"));
        command.arg(subcommand).arg("--config").arg(self.path("slomod.toml"));
        command.stdin(Stdio::null());
        command
    }

    pub fn start(&mut self) {
        self.start_with(|command| command);
    }

    pub fn start_with(&mut self, change: impl FnOnce(&mut Command) -> &mut Command) {
        let mut command = self.command("daemon");
        change(&mut command);
        self.spawn(command);
    }

    /// Runs `command`, which becomes the daemon.
    pub fn spawn(&mut self, mut command: Command) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        self.ready_before = self.times_ready();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the daemon that was started last is ready: from then on SIGTERM ends it cleanly. A job that it has
    /// worked shows the same; jobs that were over before do not.
    pub fn wait_ready(&self) {
        self.wait("ready", || self.times_ready() > self.ready_before);
    }

    fn times_ready(&self) -> usize {
        self.log().matches(" is ready").count()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    pub fn wait_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "the daemon does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `condition` holds.
    pub fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < PATIENCE, "no {what}:\n{}\n{:?}", self.log(), self.listing());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn jobs(&self) -> Vec<JobView> {
        match Journal::open_existing(&self.path("state")) {
            Ok(journal) => journal.jobs(1000).unwrap(),
            Err(_) => Vec::new(),
        }
    }

    pub fn states(&self) -> Vec<String> {
        self.jobs().into_iter().map(|job| job.state).collect()
    }

    /// Waits until there are `count` jobs and all have ended.
    pub fn wait_ended(&self, count: usize) {
        self.wait("end of all jobs", || self.all_ended(count));
    }

    /// Whether there are `count` jobs and all have ended.
    pub fn all_ended(&self, count: usize) -> bool {
        let states = self.states();
        let ended = |state: &String| !matches!(state.as_str(), "queued" | "running" | "publishing");
        states.len() == count && states.iter().all(ended)
    }

    pub fn listing(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("out")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != LOCK_NAME);
        names.sort();
        names
    }

    pub fn report(&self, name: &str) -> Report {
        schema::read(&self.path("out").join(name))
    }

    /// The clip appears whole at once.
    pub fn drop_clip(&self, clip: &Path, name: &str) {
        let temporary = self.path("incoming");
        fs::copy(clip, &temporary).unwrap();
        fs::rename(temporary, self.path("in").join(name)).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A clip of `frames` frames at 10 a second; `hue` makes its content its own.
pub fn clip(folder: &Path, size: &str, frames: u32, hue: u32) -> PathBuf {
    let path = folder.join(format!("clip-{size}-{frames}-{hue}.mp4"));
    let source = format!("testsrc2=size={size}:rate=10,hue=h={hue}");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-frames:v", &frames.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
        .arg(&path)
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success());
    path
}

pub fn small(place: &Place, hue: u32) -> PathBuf {
    clip(place.folder.path(), "64x48", 6, hue)
}

/// Its output takes hundreds of writes, so that its worker can be held at one. How long they take depends on the machine.
pub fn large(place: &Place, hue: u32) -> PathBuf {
    clip(place.folder.path(), "640x360", 40, hue)
}
