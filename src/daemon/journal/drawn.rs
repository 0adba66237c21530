//! Jobs for tests of the journal's parts.

use std::path::Path;

use super::NewJob;
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
