//! Small files of the daemon's own in the state folder, which are there whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

/// Writes `text` to the file at `path`, in place of what is there. Where that fails, everything stays as it was.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let result = write_durably(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // What cannot be removed is written over the next time.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()
}
