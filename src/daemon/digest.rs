//! SHA-256 of files and texts, in hex.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::media::original;

/// Bytes read at a time: few, as each thread's allocator keeps what its thread had.
const CHUNK_BYTES: usize = 64 << 10;

/// SHA-256 of a file's content in hex.
///
/// # Errors
/// The system's.
pub fn file_sha256(path: &Path) -> io::Result<String> {
    file_sha256_while(path, &|| {})
}

/// The same, and `goes_on` is called for each part that was read.
///
/// # Errors
/// The system's.
pub fn file_sha256_while(path: &Path, goes_on: &dyn Fn()) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = original::open(path)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match io::Read::read(&mut file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                goes_on();
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of a text in hex.
#[must_use]
pub fn text_sha256(text: &str) -> String {
    bytes_sha256(text.as_bytes())
}

/// SHA-256 of bytes in hex.
#[must_use]
pub fn bytes_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
