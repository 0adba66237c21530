//! One reading of a watched folder, on a thread of its own: it watches what it enters, and says where it is.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::file::WatchBy;
use crate::daemon::errands::Errand;
use crate::daemon::folder::Extent;
use crate::daemon::hints::Watches;
use crate::daemon::watch::{Area, Found, ScanProblems, scan};

/// What a scan needs.
#[derive(Debug)]
pub struct Scan {
    /// The folder.
    pub area: Area,
    /// How its directories are watched.
    pub by: WatchBy,
    /// The watches of all folders.
    pub watches: Watches,
    /// What the folder is asked.
    pub errand: Errand,
}

impl Scan {
    /// Reads `extent` and hands what it finds to `sink`, page by page.
    ///
    /// # Errors
    /// Where the folder itself cannot be read.
    pub fn run(
        &self,
        extent: &Extent,
        sink: &mut dyn FnMut(Vec<Found>),
    ) -> io::Result<ScanProblems> {
        let (Extent::Polled(parts) | Extent::Parts(parts)) = extent else {
            let begun = self.watches.begin_scan();
            let result = self.below(Path::new(""), sink);
            if result.is_ok() {
                self.watches.end_scan(&self.area.root, begun);
            }
            return result;
        };
        self.parts(parts, sink)
    }

    fn parts(
        &self,
        parts: &[PathBuf],
        sink: &mut dyn FnMut(Vec<Found>),
    ) -> io::Result<ScanProblems> {
        let mut problems = ScanProblems::default();
        for part in parts {
            match self.below(part, sink) {
                Ok(found) => problems.join(found),
                // It went away; the scan of the whole folder sees whether that is all.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.watches.forget(&self.area.root.join(part));
                }
                Err(error) => problems.add(part, &error),
            }
        }
        Ok(problems)
    }

    fn below(&self, part: &Path, sink: &mut dyn FnMut(Vec<Found>)) -> io::Result<ScanProblems> {
        let Self { area, by, watches, errand } = self;
        let mut enter = |directory: &Path| watches.enter(&area.root, directory, *by);
        // Joined with the root, a path that has it already stays as it is.
        let visit = |path: &Path| errand.at(&area.root.join(path));
        scan(area, part, &mut enter, &visit, sink)
    }
}
