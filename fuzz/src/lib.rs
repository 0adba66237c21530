//! What each fuzz target does with its bytes. It panics where slomod does something that it must not do.
//!
//! `tests/fuzz_corpus.rs` runs the same functions over the corpus with every `cargo test`.

use std::borrow::Cow;
use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use num_rational::Ratio;
use slomod::config::file::{self, ConfigError};
use slomod::config::settings::{Codec, Encoding, Mode, Settings};
use slomod::daemon::intake::Identities;
use slomod::daemon::journal::{FILE_NAME, Journal};
use slomod::daemon::recover;
use slomod::engine::blend::Blend;
use slomod::media::decode::Decoder;
use slomod::media::{self, MediaError};
use slomod::models::import;
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;
use slomod::pipeline::convert;
use slomod::pipeline::plan::plan;
use slomod::pipeline::repeats::is_same;
use slomod::pipeline::scene::CutDetector;
use slomod::pipeline::segments::Rule;
use slomod::pipeline::timeline::{Passage, Stamp, Timeline};
use slomod::pipeline::{ConvertError, Task};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Frames of a clip that are looked at: with gaps of ten minutes between them a grid has 36000 places a gap.
const FRAMES: usize = 12;
/// Pictures with more samples are decoded by nobody here: slow, and no other code.
const PIXELS: usize = 1 << 20;
/// Clips up to this size and length go through the whole conversion.
const CONVERTED_PIXELS: usize = 64 * 64;
const CONVERTED_SECONDS: i128 = 20;
/// What `slomod import` needs of a checkpoint beside the pickle.
const STORAGE_BYTES: usize = 256;

/// The configuration file. What is accepted must be usable, and what is refused must be told by its place.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match file::parse(Path::new("slomod.toml"), text) {
        Ok(config) => {
            assert!(!config.watches.is_empty(), "a configuration watches something");
            for watch in &config.watches {
                assert!(watch.path.is_absolute() && watch.output.is_absolute());
                let feeds = |it: &file::Watch| watch.output.starts_with(&it.path);
                assert!(!config.watches.iter().any(feeds), "no output is a source");
                let planned = plan(&watch.settings, Ratio::new(30_000, 1001));
                assert!(planned.is_ok(), "{planned:?}");
                let kept = serde_json::to_string(&watch.settings).expect("settings are JSON");
                let read: Settings = serde_json::from_str(&kept).expect("as they were written");
                assert_eq!(read, watch.settings);
            }
        }
        Err(ConfigError::Invalid { line, column, message, .. }) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column} of {lines}");
            assert!(!message.is_empty());
        }
        Err(error) => panic!("nothing was read from a file: {error}"),
    }
}

/// A weights file as the daemon loads it.
pub fn weights(data: &[u8]) {
    let path = Path::new("w.safetensors");
    let Ok(weights) = Weights::from_bytes(path, Cow::Owned(data.to_vec())) else { return };
    if let Ok(network) = Network::read(&weights) {
        assert!(!network.blocks.is_empty() && !network.name.is_empty());
    }
}

/// `slomod import`: bytes of a PyTorch archive, or else a pickle that is put into one (a changed archive fails at its
/// checksums, long before its pickle is read).
pub fn import(data: &[u8]) {
    let folder = folder();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let content = match data.starts_with(b"PK") || data.first() == Some(&b'{') {
        true => data.to_vec(),
        false => archive(data),
    };
    fs::write(&input, content).expect("a folder of our own");
    match import::import(&input, &output) {
        Ok(summary) => {
            let weights = Weights::open(&output).expect("what is written can be loaded");
            assert_eq!(weights.sha256(), summary.sha256);
            Network::read(&weights).expect("what is written is a network");
        }
        Err(_) => assert!(!output.exists(), "nothing is written but whole networks"),
    }
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let storage = [0x3c; STORAGE_BYTES];
    for (name, content) in
        [("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", &storage)]
    {
        zip.start_file(name, options).expect("a name of our own");
        zip.write_all(content).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

/// The journal that a start finds: length of the database in four bytes, the database, its write-ahead log.
///
/// It works or it is refused; it is never replaced, and a journal that was there never becomes an empty one.
pub fn journal(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (database, log) = rest.split_at(length);
    let folder = folder();
    let (state, other) = (folder.path().join("state"), folder.path().join("other"));
    for place in [&state, &other] {
        fs::create_dir(place).expect("a folder of our own");
        fs::write(place.join(FILE_NAME), database).expect("a folder of our own");
        if !log.is_empty() {
            fs::write(place.join(format!("{FILE_NAME}-wal")), log).expect("a folder of our own");
        }
    }
    fs::write(state.join("journal.created"), "").expect("a folder of our own");
    let readable = has_jobs(&other.join(FILE_NAME));
    let path = state.join(FILE_NAME);
    let inode = || fs::metadata(&path).expect("the journal stays where it is").ino();
    let before = inode();
    if let Ok(mut journal) = Journal::open(&state) {
        assert!(readable, "a journal without jobs was taken for a new one");
        use_journal(&mut journal, folder.path());
    } else if !database.is_empty() {
        let left = fs::metadata(&path).expect("the journal stays where it is").len();
        assert!(left > 0, "a journal that is refused is kept");
    }
    assert_eq!(inode(), before, "the journal is not replaced");
}

/// Whether SQLite alone finds a table of jobs there.
fn has_jobs(path: &Path) -> bool {
    let count = |it: rusqlite::Connection| {
        it.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0))
    };
    rusqlite::Connection::open(path).and_then(count).is_ok()
}

/// What a start, `slomod status` and the first claims do. Errors are allowed, and end it.
fn use_journal(journal: &mut Journal, root: &Path) {
    let text = format!("[[watch]]\npath = \"{0}/in\"\noutput = \"{0}/out\"\n", root.display());
    let config = file::parse(Path::new("slomod.toml"), &text).expect("a configuration of our own");
    let watch = &config.watches[0];
    let identity = Identities::default().of(&watch.settings()).expect("no weights are read");
    let settings = [(watch.path.to_string_lossy().into_owned(), identity)].into();
    if recover::recover(journal, &settings, "fuzz", 1).is_err() {
        return;
    }
    let _ = journal.jobs(100);
    let _ = journal.counts();
    let _ = journal.chain();
    let _ = journal.daemon();
    let _ = journal.unpublished();
    for watch in journal.watches_with_originals().unwrap_or_default() {
        let _ = journal.originals_pending(&watch, |_| true);
    }
    if let Ok(Some(claim)) = journal.claim("fuzz", &["/in"], i64::MAX / 2, 1) {
        let _ = journal.twin(&claim);
        let _ = journal.seen("/in", &claim.relative);
        let _ = journal.retry(claim.job, 1);
    }
}

/// A clip: what it is, its frames, where they go in the output; small ones are converted, all but the network.
pub fn clip(data: &[u8]) {
    let folder = folder();
    let source = folder.path().join("clip");
    fs::write(&source, data).expect("a folder of our own");
    let Ok(info) = media::probe(&source) else { return };
    if info.video.picture.width_px * info.video.picture.height_px > PIXELS {
        return;
    }
    let Some(end) = lay_out(&source) else { return };
    let picture = info.video.picture;
    let small = picture.width_px * picture.height_px <= CONVERTED_PIXELS;
    if small && end <= Ratio::from_integer(CONVERTED_SECONDS) {
        convert_clip(source, folder.path().join("out.mkv"));
    }
}

/// Decodes the first frames and lays out their time, even and on a grid; how long they last.
fn lay_out(source: &Path) -> Option<Ratio<i128>> {
    let mut decoder = Decoder::open(source).ok()?;
    let rate = decoder.info().video.rate.unwrap_or(Ratio::from_integer(30));
    let first = decoder.next_frame().ok()??;
    let settings = [
        Settings { factor: Some(4), ..Settings::default() },
        Settings {
            mode: Mode::Smooth,
            factor: None,
            fps: Some(Ratio::new(60_000, 1001)),
            ..Settings::default()
        },
    ];
    let plans = settings.map(|it| plan(&it, rate).expect("settings of our own"));
    let mut timelines = plans.map(|it| Timeline::new(it, first.pts));
    let mut cuts = CutDetector::default();
    let _ = cuts.look(&first.picture);
    let (origin, mut newest) = (first.pts, first);
    for _ in 0..FRAMES {
        let Ok(Some(next)) = decoder.next_frame() else { break };
        assert!(next.pts > newest.pts, "times increase");
        let (score, _) = cuts.look(&next.picture);
        assert!((0.0..=1.0).contains(&score), "{score}");
        let passage = match is_same(&newest.picture, &next.picture) {
            true => Passage::Barred,
            false => Passage::Open,
        };
        let stamp = |it: &slomod::frame::Frame| Stamp { index: it.index, pts: it.pts };
        for timeline in &mut timelines {
            let places = timeline.gap(stamp(&newest), stamp(&next), passage);
            assert!(places.is_sorted_by(|a, b| a.pts < b.pts), "output times increase");
            assert!(places.iter().all(|it| it.duration > Ratio::default()));
        }
        newest = next;
    }
    Some(newest.pts - origin)
}

fn convert_clip(source: PathBuf, output: PathBuf) {
    let settings = Settings {
        factor: Some(2),
        encoding: Encoding { codec: Codec::Ffv1, ..Encoding::default() },
        quality_samples: 2,
        ..Settings::default()
    };
    let temporary = output.with_extension("tmp.mkv");
    let segments = Rule::default();
    let task =
        Task { source, temporary, parts: None, segments, output, settings, settings_sha256: None };
    let stop = Arc::new(AtomicBool::new(false));
    match convert::convert(&task, &mut Blend, &stop, &mut |_| {}) {
        Ok(report) => assert!(report.output.is_some() && task.temporary.exists()),
        Err(error) => {
            assert!(!task.temporary.exists(), "an error leaves nothing");
            // The clip's fault is told as the clip's; nothing here is wrong with the disk or the settings.
            let clips = matches!(
                &error,
                ConvertError::Media(
                    MediaError::Unusable { .. }
                        | MediaError::Read { .. }
                        | MediaError::Write { .. }
                )
            );
            assert!(clips, "{error}");
        }
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for temporary files")
}
