//! The preloaded library that makes system calls fail or wait, and the rules that say which.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use rustix::process::Signal;

use crate::place::Place;

/// As in `shim.c`.
const RULES: u64 = 15;
const RULE_BYTES: u64 = 512;
const PATH_AT: usize = 48;
const FIRED_AT: u64 = 40;
const SLOW: i32 = -1000;

pub const OPEN_READ: u32 = 1;
pub const OPEN_WRITE: u32 = 2;
pub const READ: u32 = 4;
pub const WRITE: u32 = 8;
pub const SYNC: u32 = 16;
pub const RENAME: u32 = 32;
pub const UNLINK: u32 = 64;
pub const TRUNCATE: u32 = 128;
pub const MKDIR: u32 = 256;
pub const STAT: u32 = 512;
/// Adding a watch for change events.
pub const WATCH: u32 = 1024;
/// Everything that a full disk can refuse.
pub const GROWING: u32 = OPEN_WRITE | WRITE | SYNC | RENAME | TRUNCATE | MKDIR;

pub const DAEMON: u32 = 1;
pub const WORKER: u32 = 2;
pub const BOTH: u32 = DAEMON | WORKER;

/// What the call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fails with this error number.
    Fail(i32),
    /// Ends the process as a crash does.
    Abort,
    /// Never returns.
    Hang,
    /// The process is killed in this moment.
    Kill,
    /// Ends the process by SIGBUS.
    BusError,
    /// Waits until its rule is removed or another takes its place, and then does its work.
    Hold,
    /// Does its work this many milliseconds later.
    Slow(u16),
}

/// What the daemon says once it asks its worker to stop.
const STOPPING: &str = "INFO  stopping";
/// The rule that holds.
const HOLDING: u64 = RULES - 1;
/// Write of a worker at which it is held: by then the first pictures are encoded.
const HELD_WRITE: u64 = 3;
/// Pause before each write of a worker that is let go slowly: the writes of a large clip are hundreds.
const SLOW_MS: u16 = 20;

pub const EIO: i32 = 5;
pub const EACCES: i32 = 13;
pub const EBUSY: i32 = 16;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const ESTALE: i32 = 116;
pub const EDQUOT: i32 = 122;

/// Which calls fail.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Bits of the operations.
    pub operations: u32,
    /// Bits of the processes.
    pub roles: u32,
    /// The path contains this.
    pub path: String,
    /// What they do.
    pub action: Action,
    /// The first of them that fails, from 1.
    pub from: u64,
    /// How many fail.
    pub count: u64,
}

impl Rule {
    /// All of `operations` of both processes on paths that contain `path`.
    pub fn new(operations: u32, path: impl Into<String>, action: Action) -> Self {
        let path = path.into();
        Self { operations, roles: BOTH, path, action, from: 1, count: u64::MAX }
    }

    /// Only the `number`th.
    pub fn once(self, number: u64) -> Self {
        Self { from: number, count: 1, ..self }
    }

    /// The `number`th and all later ones.
    pub fn since(self, number: u64) -> Self {
        Self { from: number, count: u64::MAX, ..self }
    }

    pub fn by(self, roles: u32) -> Self {
        Self { roles, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let action = match self.action {
            Action::Fail(error) => error,
            Action::Abort => -1,
            Action::Hang => -2,
            Action::Kill => -3,
            Action::Hold => -4,
            Action::BusError => -5,
            Action::Slow(milliseconds) => SLOW - i32::from(milliseconds),
        };
        let mut bytes = Vec::new();
        for word in [1, self.operations, self.roles, action as u32] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [self.from, self.count, 0, 0] {
            bytes.extend(word.to_le_bytes());
        }
        assert_eq!(bytes.len(), PATH_AT);
        bytes.extend(self.path.as_bytes());
        assert!(bytes.len() < RULE_BYTES as usize, "the path is too long");
        bytes.resize(RULE_BYTES as usize, 0);
        bytes
    }
}

/// The rules of one place, shared with all processes that work there.
pub struct Faults {
    file: File,
    path: PathBuf,
}

impl Faults {
    /// No rules yet.
    pub fn of(place: &Place) -> Self {
        let path = place.path("faults");
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(RULE_BYTES * (RULES + 1)).unwrap();
        Self { file, path }
    }

    /// Preloads the library into `command`.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", library()).env("SLOMOD_FAULTS", &self.path)
    }

    /// Makes `rule` the rule number `slot`; its counts begin again.
    pub fn set(&self, slot: u64, rule: &Rule) {
        assert!(slot < RULES);
        self.file.write_all_at(&rule.bytes(), RULE_BYTES * (slot + 1)).unwrap();
    }

    /// Removes all rules; what they counted stays readable.
    pub fn clear(&self) {
        (0..RULES).for_each(|slot| self.remove(slot));
    }

    /// Removes rule `slot`; what it counted stays readable until it is set again.
    pub fn remove(&self, slot: u64) {
        self.file.write_all_at(&[0; 4], RULE_BYTES * (slot + 1)).unwrap();
    }

    /// How many calls rule `slot` has met: a call that is held counts while it is.
    pub fn fired(&self, slot: u64) -> u64 {
        self.word(RULE_BYTES * (slot + 1) + FIRED_AT)
    }

    /// The next conversion is held in its middle. One that is held already stays so, and the one behind it is held too.
    pub fn hold_worker(&self) {
        self.hold(&Rule::new(WRITE, "/out/", Action::Hold).by(WORKER).once(HELD_WRITE));
    }

    /// The same for the calls of `rule`.
    pub fn hold(&self, rule: &Rule) {
        assert_eq!(rule.action, Action::Hold);
        self.set(HOLDING, rule);
    }

    /// Waits until a call is held.
    pub fn wait_held(&self, place: &Place) {
        place.wait("call that is held", || self.fired(HOLDING) > 0);
    }

    /// What is held goes on.
    pub fn let_go(&self) {
        self.remove(HOLDING);
    }

    /// What is held goes on, and so slowly that it comes to no end before it is told to stop.
    pub fn let_go_slowly(&self) {
        self.set(HOLDING, &Rule::new(WRITE, "/out/", Action::Slow(SLOW_MS)).by(WORKER));
    }

    /// The wall clock is this much ahead from now on.
    pub fn set_clock(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_le_bytes(), 0).unwrap();
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// Starts the daemon and waits until its worker is held in the middle of a conversion. There it stays, however fast the
/// machine is, until [`Faults::let_go`].
pub fn start_at_work(place: &mut Place, faults: &Faults) {
    faults.hold_worker();
    place.start_with(|command| faults.enter(command));
    faults.wait_held(place);
}

/// Stops the daemon, whose worker is held, by SIGTERM. Held, the worker could not stop, and let go at once it might have
/// done all its work before it is asked to.
pub fn terminate_at_work(place: &mut Place, faults: &Faults) -> ExitStatus {
    let before = place.log().matches(STOPPING).count();
    place.signal(Signal::TERM);
    place.wait("stop", || place.log().matches(STOPPING).count() > before);
    faults.let_go_slowly();
    place.wait_end()
}

/// Compiles the library, once in this process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join(format!("faults-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .expect("a C compiler is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    })
}
