//! Jobs for tests of the journal's parts.

use std::path::Path;

use super::{End, NewJob, Original};
use crate::daemon::snapshot::Snapshot;

/// A job of the watched folder `/in`, with a content of its own.
pub fn new_job(name: &str) -> NewJob<'_> {
    NewJob {
        watch: "/in",
        relative: Path::new(name),
        snapshot: Snapshot { size_bytes: 1, mtime_ns: 2, ctime_ns: 2, inode: 3 },
        sha256: name,
        settings: "{}",
        settings_sha256: "s",
        list_sha256: "",
    }
}

/// The end of a job, whose original stays.
pub fn end<'a>(state: &'static str, code: &'a str) -> End<'a> {
    End {
        state,
        code,
        message: "why",
        report_path: None,
        duplicate_of: None,
        original: Original::Kept,
        ground: None,
    }
}
