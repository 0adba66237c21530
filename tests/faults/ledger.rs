//! What must be true of a place at any moment, and at the end.

use crate::place::{Place, schema};
use slomod::daemon::digest::file_sha256;
use slomod::media::verify::verify;
use slomod::report::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Hidden names that may stay where outputs are written.
const LASTING: [&str; 2] = [".slomod.lock", ".ballast"];
/// Ends of names of what these tests let lie beside outputs, and of its last line.
const BESIDE: [(&str, &str); 2] = [(".frames.csv", "\n"), (".html", "</html>\n")];
/// Lines of the configuration that ask for these.
pub const WITH_BESIDE: &str = "frame_list = true\npage = true";

/// What was dropped into the folder and may not change.
#[derive(Default)]
pub struct Ledger {
    /// Name in the drop folder, and the hash that its file must keep.
    pub sources: BTreeMap<String, String>,
    /// Where sources go once they are done, if they do.
    pub originals: Option<PathBuf>,
    /// Frames of the output of a source with this hash.
    pub frames: BTreeMap<String, u64>,
    /// Outputs by identity of the file: hash and frames.
    known: BTreeMap<(u64, u64, i64), (String, u64)>,
    /// Hashes of sources whose output may be overwritten at any time from now on.
    doomed: BTreeSet<String>,
}

impl Ledger {
    /// `clip` was dropped as `name`, and its output will have `frames` frames; 0 for a source that gets none.
    pub fn dropped(&mut self, name: &str, clip: &Path, frames: u64) {
        let hash = file_sha256(clip).unwrap();
        self.frames.insert(hash.clone(), frames);
        self.sources.insert(name.to_owned(), hash);
    }

    /// Nothing is expected any more of the file of that name.
    pub fn released(&mut self, name: &str) {
        self.sources.remove(name);
    }

    /// The output of that source may be overwritten: nothing is expected any more of any file with its content, also of one that
    /// comes later and is known as a duplicate before.
    pub fn overwritten(&mut self, name: &str) {
        if let Some(hash) = self.sources.remove(name) {
            self.sources.retain(|_, it| *it != hash);
            self.doomed.insert(hash);
        }
    }

    /// At any moment: what is visible is whole. A report means that its output is there, whole and verified; no source
    /// has changed.
    pub fn check_visible(&mut self, place: &Place) {
        let out = place.path("out");
        for name in place.listing().into_iter().filter(|it| !it.starts_with('.')) {
            let path = out.join(&name);
            if name.ends_with(".json") {
                self.check_report(place, &path);
            } else if let Some(end) = beside_end(&name) {
                let text = fs::read_to_string(&path).unwrap();
                assert!(text.ends_with(end), "{name} is not whole\n{}", place.log());
            } else {
                self.output(place, &path);
            }
        }
        self.check_sources(place);
    }

    pub fn check_sources(&self, place: &Place) {
        for (name, hash) in &self.sources {
            // In this order: what is not there any more was moved before it was looked for.
            let now = file_sha256(&place.path("in").join(name));
            if now.as_ref().is_ok_and(|it| it == hash) || self.is_moved(hash) {
                continue;
            }
            let now = now
                .unwrap_or_else(|error| panic!("source {name} is gone: {error}\n{}", place.log()));
            assert_eq!(now, *hash, "source {name} changed\n{}", place.log());
        }
    }

    /// Whether a whole file with that content lies where sources go.
    fn is_moved(&self, hash: &String) -> bool {
        let folder = self.originals.as_ref().and_then(|it| fs::read_dir(it).ok());
        let mut files = folder.into_iter().flatten().flatten().map(|it| it.path());
        files.any(|it| {
            !is_leftover(&file_name(&it.to_string_lossy()))
                && file_sha256(&it).is_ok_and(|it| it == *hash)
        })
    }

    /// Whether all sources that get an output have gone where they go.
    pub fn all_moved(&self, place: &Place) -> bool {
        let mut made = self
            .sources
            .iter()
            .filter(|(_, hash)| self.frames.get(*hash).is_some_and(|it| *it > 0));
        self.originals.is_none() || made.all(|(name, _)| !place.path("in").join(name).exists())
    }

    fn check_report(&mut self, place: &Place, path: &Path) {
        // The report of a refusal goes once a later attempt has worked.
        let Ok(text) = fs::read(path) else { return };
        let report = schema::checked(&text);
        if report.status != Status::Done {
            return;
        }
        let output = report.output.unwrap();
        let (hash, frames) = self.output(place, Path::new(&output.path));
        assert_eq!(hash, output.sha256, "{}: another output\n{}", path.display(), place.log());
        for beside in &output.sidecars {
            let hash = file_sha256(Path::new(&beside.path)).ok();
            assert_eq!(hash.as_ref(), Some(&beside.sha256), "{}\n{}", beside.path, place.log());
        }
        let source = report.source.sha256.unwrap();
        if let Some(expected) = self.frames.get(&source) {
            assert_eq!(frames, *expected, "{}", path.display());
        }
    }

    /// Hash and frames of a visible output, all of which must decode.
    fn output(&mut self, place: &Place, path: &Path) -> (String, u64) {
        let meta = fs::metadata(path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), place.log()));
        let identity = (meta.ino(), meta.size(), meta.mtime_nsec() + (meta.mtime() << 30));
        self.known
            .entry(identity)
            .or_insert_with(|| {
                let verified = verify(path).unwrap_or_else(|error| {
                    panic!("a partial output is visible: {error}\n{}", place.log())
                });
                assert_eq!(verified.corrupt, 0, "{}", path.display());
                (file_sha256(path).unwrap(), verified.frames)
            })
            .clone()
    }

    /// At the end: every job has ended, every source has one output or one reason against it, nothing is there twice, and
    /// nothing temporary is left.
    pub fn check_end(&mut self, place: &Place) {
        self.check_visible(place);
        let context = || format!("{:?}\n{:#?}\n{}", place.listing(), place.jobs(), place.log());
        let temporary: Vec<PathBuf> = below(&place.path("out"))
            .into_iter()
            .filter(|it| {
                let parts = it.strip_prefix(place.path("out")).unwrap().iter();
                parts.into_iter().any(|part| is_leftover(&part.to_string_lossy()))
            })
            .collect();
        assert!(temporary.is_empty(), "left over: {temporary:?}\n{}", context());
        let jobs = place.jobs();
        for job in &jobs {
            let ended = matches!(
                job.state.as_str(),
                "done" | "refused" | "failed" | "duplicate" | "cancelled"
            );
            assert!(ended, "job {} is {}\n{}", job.job, job.state, context());
            let whole = job.state != "done"
                || [&job.output, &job.report]
                    .into_iter()
                    .all(|it| it.as_ref().is_some_and(|it| Path::new(it).is_file()));
            assert!(whole, "job {} is done without output or report\n{}", job.job, context());
        }
        let mut outputs = BTreeMap::new();
        let mut reported = BTreeSet::new();
        for name in place.listing() {
            if !name.ends_with(".json") {
                continue;
            }
            let report = place.report(&name);
            if report.status == Status::Done {
                let hash = report.source.sha256.clone().unwrap();
                let twice = outputs.insert(hash, name.clone());
                assert!(twice.is_none(), "{name} and {twice:?} are of one source\n{}", context());
                let output = report.output.unwrap();
                reported.extend(output.sidecars.iter().map(|it| file_name(&it.path)));
                reported.insert(file_name(&output.path));
            }
        }
        let is_made = |it: &String| !it.starts_with('.') && !it.ends_with(".json");
        let made: BTreeSet<String> = place.listing().into_iter().filter(is_made).collect();
        assert_eq!(made, reported, "an output without report\n{}", context());
        for (name, hash) in self.sources.iter().filter(|it| !self.doomed.contains(it.1)) {
            let has_output = outputs.contains_key(hash);
            let expected = self.frames.get(hash).is_some_and(|it| *it > 0);
            let of_it = jobs.iter().filter(|it| it.sha256 == *hash);
            let ends: Vec<_> = of_it.map(|it| (it.job, &it.state, &it.error_message)).collect();
            assert_eq!(has_output, expected, "{name} {ends:?}\n{}", context());
        }
    }
}

/// How a file of this name ends that lies beside an output; `None` for all others.
fn beside_end(name: &str) -> Option<&'static str> {
    BESIDE.iter().find(|(end, _)| name.ends_with(end)).map(|it| it.1)
}

/// Whether a file of this name, where outputs are written, must go once all jobs have ended.
pub fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && !LASTING.contains(&name)
}

/// The same while a job waits for its next attempt, which takes up the parts that are finished.
pub fn is_abandoned(name: &str) -> bool {
    is_leftover(name) && !name.ends_with(".parts")
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().unwrap().to_string_lossy().into_owned()
}

/// All files below `folder`.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(below(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

/// Numbers that look random and are the same for the same seed (SplitMix64, Steele et al. 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
