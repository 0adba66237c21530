//! A random mixture of arrivals and faults, for as long as one likes: `make soak`.

use crate::ledger::{Ledger, Random, WITH_BESIDE};
use crate::place::{Place, clip};
use crate::shim::{
    Action, DAEMON, EACCES, EBUSY, EDQUOT, EIO, ENOSPC, EROFS, ESTALE, Faults, GROWING, OPEN_READ,
    READ, Rule, STAT, UNLINK, WATCH, WORKER,
};
use crate::workers::workers;
use crate::{faulty, lossless, start, wait_tidy};
use rustix::process::{Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

mod people;

/// Length and seed where the environment (`SOAK_MINUTES`, `SOAK_SEED`) says nothing.
const MINUTES: f64 = 2.0;
const SEED: u64 = 20_261_121;
/// Things that happen to one place before it is brought to its end.
const STEPS: u64 = 40;
/// Longest time between two of them.
const LONGEST_STEP_MS: u64 = 600;
/// Frames of an output for each of its source.
const FACTOR: u64 = 2;
/// Rules 0 to 2 come and go; these stay.
const TRANSIENT: u64 = 3;
const CRASH: u64 = 10;
const HANG: u64 = 11;

/// How often what happened.
type Figures = BTreeMap<&'static str, u64>;

/// A place under random treatment.
struct Round<'a> {
    place: Place,
    faults: Faults,
    ledger: Ledger,
    random: Random,
    figures: &'a mut Figures,
    /// Clips to drop, each of its own content, with the frames they have.
    clips: Vec<(PathBuf, u64)>,
    /// Copies under way: the name, and what is still to be written.
    copies: Vec<(String, PathBuf, u64, usize)>,
    names: u64,
    clock_s: i64,
    overwrites: bool,
    /// What may happen once only, since twice would rightly end a clip.
    stopped_worker: u64,
    killed_worker: u64,
    hangs: u64,
    /// The rules that are set, and what the calls are that they meet.
    rules: BTreeMap<u64, &'static str>,
}

fn environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name)
        .ok()
        .filter(|it| !it.is_empty())
        .map(|it| it.parse().unwrap_or_else(|_| panic!("{name}={it} cannot be understood")))
}

/// W16, W18, W19, W24, W26, W32, W35, W36 and commands in any order and at once: after every kill and at each end nothing is lost, nothing is
/// there twice, nothing is half done.
#[test]
fn soak() {
    let minutes = environment("SOAK_MINUTES").unwrap_or(MINUTES);
    let seed = environment("SOAK_SEED").unwrap_or(SEED);
    println!("soak: {minutes} minutes (SOAK_MINUTES), seed {seed} (SOAK_SEED)");
    let (begin, length) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut figures = Figures::new();
    let mut number = 0;
    while begin.elapsed() < length {
        println!("soak: round {number}, seed {}", seed + number);
        Round::new(seed + number, &mut figures).run();
        number += 1;
    }
    println!("soak: {number} rounds in {} s", begin.elapsed().as_secs());
    for (what, count) in &figures {
        println!("soak: {count:>7} {what}");
    }
}

impl<'a> Round<'a> {
    fn new(seed: u64, figures: &'a mut Figures) -> Self {
        let mut random = Random(seed);
        let overwrites = random.below(2) == 0;
        // What lay beside an output that is overwritten goes before its report does.
        let watch = if overwrites { "collision = \"overwrite\"" } else { WITH_BESIDE };
        let (place, faults) =
            faulty("grace = \"2s\"\nstall_timeout = \"15s\"\nstop_timeout = \"5s\"", watch);
        if random.below(3) == 0 {
            lossless(&place);
        }
        let originals = match random.below(4) {
            0 => Some(("move", place.path("originals"))),
            1 => Some(("trash", place.path("in/.slomod-trash"))),
            _ => None,
        };
        if let Some((word, folder)) = &originals {
            let config = fs::File::options().append(true).open(place.path("slomod.toml"));
            let folder =
                if *word == "move" { format!("originals = {folder:?}\n") } else { String::new() };
            write!(config.unwrap(), "on_success = \"{word}\"\n{folder}").unwrap();
        }
        let mut ledger = Ledger::default();
        ledger.originals = originals.map(|it| it.1);
        let poison = |name, action| Rule::new(GROWING, name, action).by(WORKER);
        faults.set(CRASH, &poison("/out/.crash", Action::Abort));
        faults.set(HANG, &poison("/out/.hang", Action::Hang));
        let mut round = Self {
            place,
            faults,
            ledger,
            random,
            figures,
            clips: Vec::new(),
            copies: Vec::new(),
            names: 0,
            clock_s: 0,
            overwrites,
            stopped_worker: 0,
            killed_worker: 0,
            hangs: 0,
            rules: BTreeMap::new(),
        };
        for hue in 0..6 {
            let (size, frames) = if hue % 3 == 2 { ("480x270", 24) } else { ("64x48", 6) };
            let file = clip(round.place.folder.path(), size, frames, hue * 40);
            round.clips.push((file, u64::from(frames)));
        }
        round
    }

    fn run(mut self) {
        for step in 0..STEPS {
            self.revive();
            self.continue_copies(1 + self.names as usize % 3);
            match self.random.below(23) {
                0..=4 => self.arrive(),
                5 | 6 => self.disturb_a_source(),
                7..=9 => self.break_calls(),
                10 => self.hang(),
                11 | 12 => self.faults_end(),
                13 | 14 => self.kill(),
                15 => self.terminate(),
                16 => self.disturb_a_worker(),
                17 => self.stand_still(),
                18 => self.step_clock(),
                19 => self.die_at_a_step(),
                _ => self.ask_something(),
            }
            let pause = self.random.below(LONGEST_STEP_MS);
            std::thread::sleep(Duration::from_millis(pause));
            if step % 8 == 7 {
                self.check();
            }
        }
        self.bring_to_an_end();
    }

    fn count(&mut self, what: &'static str) {
        *self.figures.entry(what).or_default() += 1;
        self.tell(what);
    }

    /// Among what the daemon says, for whoever looks for the fault of a run.
    fn tell(&self, what: &str) {
        let log = fs::File::options().create(true).append(true).open(self.place.path("log"));
        writeln!(log.unwrap(), "soak: {what}").unwrap();
    }

    fn check(&mut self) {
        self.ledger.check_visible(&self.place);
        self.count("looks at all that is visible");
    }

    /// What the service manager does: a daemon that ended is started again.
    fn revive(&mut self) {
        let ended = match &mut self.place.child {
            Some(child) => child.try_wait().unwrap(),
            None => None,
        };
        if let Some(status) = ended {
            // 75: the journal could not be written for a while. No code: killed before a step of its own.
            let expected = matches!(status.code(), None | Some(69 | 73 | 74 | 75 | 78));
            assert!(expected, "{status}\n{}", self.place.log());
            assert!(!self.place.log().contains("panicked"), "{}", self.place.log());
            self.place.child = None;
            if status.code().is_some() {
                self.count("daemons that ended for want of their journal");
            }
            self.faults_end();
        }
        if self.place.child.is_none() {
            start(&mut self.place, &self.faults);
            self.count("starts");
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}.mp4", self.names)
    }

    fn any_clip(&mut self) -> (PathBuf, u64) {
        let index = self.random.below(self.clips.len() as u64) as usize;
        self.clips[index].clone()
    }

    fn any_source(&mut self) -> Option<String> {
        let names: Vec<String> =
            self.ledger.sources.keys().filter(|it| it.starts_with("clip")).cloned().collect();
        let index = self.random.below(names.len() as u64) as usize;
        names.get(index).cloned()
    }

    fn arrive(&mut self) {
        let (file, frames) = self.any_clip();
        match self.random.below(8) {
            0 | 1 => {
                let name = self.name("clip");
                fs::write(self.place.path("in").join(&name), "").unwrap();
                self.copies.push((name, file, frames, 0));
                self.count("slow copies begun");
            }
            2 => {
                let name = self.name("rubbish");
                let path = self.place.path("rubbish");
                fs::write(&path, format!("no video {}", self.names)).unwrap();
                self.place.drop_clip(&path, &name);
                self.ledger.dropped(&name, &path, 0);
                self.count("rubbish dropped");
            }
            3 => self.poison(),
            _ => {
                let name = self.name("clip");
                self.place.drop_clip(&file, &name);
                self.ledger.dropped(&name, &file, frames * FACTOR);
                self.count("clips dropped");
            }
        }
    }

    /// A clip that takes its workers down.
    fn poison(&mut self) {
        // Two attempts take as long as all the rest.
        let hangs = self.hangs == 0 && self.random.below(6) == 0;
        self.hangs += u64::from(hangs);
        let kind = if hangs { "hang" } else { "crash" };
        let name = self.name(kind);
        // Content of its own: what is refused under this name is no reason against others.
        let path = self.place.path("poison");
        let mut bytes = fs::read(&self.clips[0].0).unwrap();
        bytes.extend(b"\0\0\0\x10wide");
        bytes.extend(self.names.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        self.place.drop_clip(&path, &name);
        self.ledger.dropped(&name, &path, 0);
        self.count("clips that crash or hang dropped");
    }

    /// Writes up to `parts` more parts of each copy under way.
    fn continue_copies(&mut self, parts: usize) {
        for (name, file, frames, at) in std::mem::take(&mut self.copies) {
            let bytes = fs::read(&file).unwrap();
            let end = (at + parts * (bytes.len() / 8 + 1)).min(bytes.len());
            let path = self.place.path("in").join(&name);
            let mut copy = fs::File::options().append(true).open(path).unwrap();
            copy.write_all(&bytes[at..end]).unwrap();
            if end == bytes.len() {
                self.ledger.dropped(&name, &file, frames * FACTOR);
                self.count("slow copies finished");
            } else {
                self.copies.push((name, file, frames, end));
            }
        }
    }

    fn break_calls(&mut self) {
        let slot = self.random.below(TRANSIENT);
        let from = 1 + self.random.below(30);
        let (operations, path, error, what) = match self.random.below(9) {
            0 | 1 => (GROWING, "/out/", ENOSPC, "times with a full output"),
            2 => (GROWING, "/out/", EDQUOT, "times with a quota reached"),
            3 => (GROWING, "/out", EROFS, "times with a read-only output"),
            4 => (GROWING | UNLINK | READ | STAT, "/out/", EIO, "times with a failing output"),
            5 => (OPEN_READ | STAT, "/in/", ESTALE, "times with a stale source"),
            6 => (READ | OPEN_READ, "/in/", EIO, "times with a failing source"),
            7 if self.ledger.originals.is_some() => {
                (GROWING | UNLINK | STAT, "/originals", ENOSPC, "times with full originals")
            }
            _ => (GROWING, "/state/", ENOSPC, "times with a full state folder"),
        };
        let error = match self.random.below(6) {
            0 if path == "/in/" => EBUSY,
            1 => EACCES,
            _ => error,
        };
        let rule = Rule::new(operations, path, Action::Fail(error));
        let once = self.random.below(2) == 0;
        self.tell(&format!("slot {slot}: {}from call {from} on", if once { "once, " } else { "" }));
        self.faults.set(slot, &if once { rule.once(from) } else { rule.since(from) });
        self.rules.insert(slot, "system calls that failed");
        self.count(what);
    }

    /// From some call on, the share of the clips or that of the outputs does not answer, neither the daemon nor its workers: a
    /// worker that hung alone would rightly be its clip's fault.
    fn hang(&mut self) {
        let slot = self.random.below(TRANSIENT);
        let (operations, path, what) = match self.random.below(3) {
            0 => (OPEN_READ | READ | STAT, "/in", "times with a source that hangs"),
            1 => (WATCH, "/in", "times with change events that hang"),
            _ => (GROWING | UNLINK | OPEN_READ | STAT, "/out", "times with an output that hangs"),
        };
        let from = 1 + self.random.below(30);
        self.faults.set(slot, &Rule::new(operations, path, Action::Hold).since(from));
        self.rules.insert(slot, "system calls that hung");
        self.count(what);
    }

    fn faults_end(&mut self) {
        for (slot, what) in std::mem::take(&mut self.rules) {
            *self.figures.entry(what).or_default() += self.faults.fired(slot);
        }
        (0..TRANSIENT).for_each(|slot| self.faults.remove(slot));
        self.tell("faults end");
    }

    fn kill(&mut self) {
        self.place.kill();
        self.count("kills survived");
        self.check();
    }

    /// The daemon dies before one of its next changes of a file.
    fn die_at_a_step(&mut self) {
        let root = self.place.folder.path().to_string_lossy().into_owned();
        let rule = Rule::new(GROWING | UNLINK, root, Action::Kill).by(DAEMON);
        let slot = self.random.below(TRANSIENT);
        self.faults.set(slot, &rule.once(1 + self.random.below(40)));
        self.rules.remove(&slot);
        self.count("deaths before a chosen step set up");
    }

    fn terminate(&mut self) {
        let status = self.place.terminate();
        let expected = matches!(status.code(), None | Some(0 | 69 | 73 | 74 | 75 | 78));
        assert!(expected, "{status}\n{}", self.place.log());
        self.count("stops by SIGTERM");
    }

    fn disturb_a_worker(&mut self) {
        let stops = self.random.below(2) == 0;
        let already = if stops { self.stopped_worker } else { self.killed_worker };
        let converts = |it: &slomod::pipeline::Progress| it.phase == "converting";
        let jobs = self.place.jobs();
        let busy = jobs
            .iter()
            .any(|it| it.state == "running" && it.progress.as_ref().is_some_and(converts));
        let found = workers(&self.place);
        if already > 0 || !busy || found.len() != 1 {
            return;
        }
        let (signal, what) = match stops {
            true => (Signal::STOP, "workers stopped"),
            false => (Signal::KILL, "workers killed"),
        };
        // It may have ended in this moment.
        if kill_process(found[0], signal).is_ok() {
            *if stops { &mut self.stopped_worker } else { &mut self.killed_worker } += 1;
            self.count(what);
        }
    }

    fn stand_still(&mut self) {
        self.place.signal(Signal::STOP);
        let pause = self.random.below(2000);
        std::thread::sleep(Duration::from_millis(pause));
        self.place.signal(Signal::CONT);
        self.count("daemons that stood still");
    }

    fn step_clock(&mut self) {
        self.clock_s += [-3600, 3600, -7, 7][self.random.below(4) as usize];
        self.faults.set_clock(self.clock_s);
        self.count("steps of the clock");
    }

    /// All faults end, and everything has to come to its end.
    fn bring_to_an_end(mut self) {
        self.faults_end();
        self.continue_copies(8);
        // Times to wait for are over: the clock is far ahead, and pauses of folders end with the daemon.
        self.clock_s += 86_400;
        self.faults.set_clock(self.clock_s);
        if self.place.child.is_some() {
            self.terminate();
        }
        start(&mut self.place, &self.faults);
        // What was cancelled and what was held back is worked after all.
        self.place.wait_ready();
        self.ask("resume", &[]);
        for job in self.place.jobs().iter().filter(|it| it.state == "cancelled") {
            self.ask("retry", &[&job.job.to_string()]);
        }
        let expected: Vec<(String, u64)> = self
            .ledger
            .sources
            .values()
            .map(|hash| (hash.clone(), self.ledger.frames[hash]))
            .collect();
        let place = &self.place;
        place.wait("end of all jobs", || {
            let jobs = place.jobs();
            let over = |state: &str| !matches!(state, "queued" | "running" | "publishing");
            let ended = |hash: &String| {
                let mut of_it = jobs.iter().filter(|it| it.sha256 == *hash);
                of_it.any(|it| over(&it.state) && it.state != "cancelled")
            };
            jobs.iter().all(|it| over(&it.state)) && expected.iter().all(|(hash, _)| ended(hash))
        });
        wait_tidy(place);
        place.wait("originals where they go", || self.ledger.all_moved(place));
        self.ledger.check_end(&self.place);
        for job in self.place.jobs() {
            let what = match job.state.as_str() {
                "done" => "jobs done",
                "refused" => "jobs refused",
                "duplicate" => "jobs that were duplicates",
                "cancelled" => "jobs whose source changed or went",
                "failed" => "jobs failed",
                _ => "other jobs",
            };
            self.count(what);
        }
        assert_eq!(self.place.terminate().code(), Some(0), "{}", self.place.log());
        assert!(!self.place.log().contains("panicked"), "{}", self.place.log());
    }
}
