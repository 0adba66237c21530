//! What people do meanwhile: to the files they dropped, and by slomod's commands.

use super::{FACTOR, Round};
use crate::place::PATIENCE;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

impl Round<'_> {
    pub(super) fn disturb_a_source(&mut self) {
        let Some(name) = self.any_source() else { return };
        let path = self.place.path("in").join(&name);
        match self.random.below(4) {
            0 => {
                // Here and below: it may have been moved away.
                if fs::remove_file(path).is_ok() {
                    self.ledger.released(&name);
                    self.count("sources deleted");
                }
            }
            1 => {
                let new = self.name("clip");
                if fs::rename(path, self.place.path("in").join(&new)).is_ok() {
                    let hash = self.ledger.sources.remove(&name).unwrap();
                    self.ledger.sources.insert(new, hash);
                    self.count("sources renamed");
                }
            }
            2 => {
                let (file, frames) = self.any_clip();
                self.forget_overwritten(&name);
                self.place.drop_clip(&file, &name);
                self.ledger.dropped(&name, &file, frames * FACTOR);
                self.count("sources replaced");
            }
            _ => {
                let hash = self.ledger.sources[&name].clone();
                let frames = self.ledger.frames[&hash];
                let file = fs::File::options().append(true).open(&path);
                let Ok(mut file) = file else { return };
                file.write_all(b"\0\0\0\x10wide").unwrap();
                file.write_all(&self.names.to_le_bytes()).unwrap();
                self.names += 1;
                self.forget_overwritten(&name);
                self.ledger.released(&name);
                // Moved in this moment, it is another's that was written to.
                if path.exists() {
                    self.ledger.dropped(&name, &path, frames);
                }
                self.count("sources written to");
            }
        }
    }

    /// Where new outputs replace those of the same name, duplicates of the old content lose theirs.
    fn forget_overwritten(&mut self, name: &str) {
        if self.overwrites {
            self.ledger.overwritten(name);
        }
    }

    /// What somebody at the machine may ask for meanwhile, whether there is a daemon and whatever it is at.
    pub(super) fn ask_something(&mut self) {
        let jobs = self.place.jobs();
        let job = jobs.get(self.random.below(jobs.len().max(1) as u64) as usize);
        let number = job.map_or(1, |it| it.job).to_string();
        match self.random.below(8) {
            0 | 1 => self.ask("cancel", &[&number]),
            2 => self.ask("retry", &[&number]),
            3 => self.ask("retry", &["--refused"]),
            4 => self.ask("pause", &[]),
            5 => self.ask("resume", &[]),
            6 => self.ask("reload", &[]),
            _ => self.ask("rescan", &[]),
        }
    }

    pub(super) fn ask(&mut self, command: &'static str, arguments: &[&str]) {
        let mut asking = self.place.command(command);
        asking.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut asking = asking.spawn().unwrap();
        let begin = Instant::now();
        let status = loop {
            match asking.try_wait().unwrap() {
                Some(status) => break status,
                None if begin.elapsed() > PATIENCE => {
                    asking.kill().unwrap();
                    panic!("no answer to {command} {arguments:?}\n{}", self.place.log());
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        // 64: of a job that is in no state for it. 69, 75: there is no daemon, or it does not answer.
        let expected = matches!(status.code(), Some(0 | 64 | 69 | 73 | 74 | 75 | 78));
        assert!(expected, "{command} {arguments:?}: {status}\n{}", self.place.log());
        let what =
            if status.success() { "commands that were followed" } else { "commands in vain" };
        self.count(what);
    }
}
