//! The corpus of every fuzz target through the target's own function; and how the corpus was made.
//!
//! `SLOMOD_WRITE_CORPUS=1 cargo test --test fuzz_corpus` writes the `seed-*` files anew. Files of other names are inputs
//! that once broke something.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;
#[path = "fuzz_corpus/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Far more than any file takes, on any machine: what takes this long hangs.
const LONGEST: Duration = Duration::from_secs(120);

/// Bytes that all files together may have, so that the repository stays small.
const CORPUS_BYTES: u64 = 500_000;

#[test]
fn configurations_are_accepted_or_refused() {
    replay("config", targets::config);
}

#[test]
fn weights_are_loaded_or_refused() {
    replay("weights", targets::weights);
}

#[test]
fn checkpoints_are_imported_or_refused() {
    replay("import", targets::import);
}

/// W34.
#[test]
fn journals_open_or_are_refused_and_are_never_replaced() {
    replay("journal", targets::journal);
}

/// W38, W39.
#[test]
fn clips_are_laid_out_or_refused() {
    replay("clip", targets::clip);
}

#[test]
fn the_corpus_is_small() {
    let files = ["config", "weights", "import", "journal", "clip"].into_iter().flat_map(files);
    let bytes: u64 = files.map(|it| fs::metadata(it).unwrap().len()).sum();
    assert!(bytes <= CORPUS_BYTES, "{bytes} bytes");
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn files(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(target)).unwrap();
    let mut files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs every file of the target's corpus, each within a time.
fn replay(target: &'static str, run: fn(&[u8])) {
    if std::env::var_os("SLOMOD_WRITE_CORPUS").is_some() {
        seeds::write(target, &folder(target));
    }
    let files = files(target);
    assert!(!files.is_empty(), "the corpus of {target} is there");
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let (done, finished) = channel();
        let thread = std::thread::spawn(move || {
            run(&bytes);
            done.send(()).unwrap();
        });
        match finished.recv_timeout(LONGEST) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("{}: it hangs", path.display()),
            Err(RecvTimeoutError::Disconnected) => {
                let panic = thread.join().unwrap_err();
                eprintln!("{}:", path.display());
                std::panic::resume_unwind(panic);
            }
        }
    }
}
